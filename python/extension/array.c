/* Arrays in and out. NumPy's go through __array_struct__, which takes no copy of a flag that DLPack
 * refuses (read-only arrays before NumPy 2.1, ml_dtypes); others through the table of DLPack 1.3
 * where their type has one (PyTorch: 0.1 microseconds), else through __dlpack__. */
#include "array.h"
#include "errors.h"

#include <stdio.h>
#include <string.h>

/* ---- Names and objects that are looked up once ------------------------------------------------ */

static PyObject *name_array_struct, *name_dlpack, *name_dlpack_device, *name_requires_grad,
    *name_dtype;
static PyObject *with_version; /* {"max_version": (1, 0)} */
static PyObject *no_arguments;

int arrays_prepare(PyObject *module) {
    name_array_struct = PyUnicode_InternFromString("__array_struct__");
    name_dlpack = PyUnicode_InternFromString("__dlpack__");
    name_dlpack_device = PyUnicode_InternFromString("__dlpack_device__");
    name_requires_grad = PyUnicode_InternFromString("requires_grad");
    name_dtype = PyUnicode_InternFromString("dtype");
    no_arguments = PyTuple_New(0);
    with_version = Py_BuildValue("{s(ii)}", "max_version", 1, 0);
    if (!name_array_struct || !name_dlpack || !name_dlpack_device || !name_requires_grad ||
        !name_dtype || !no_arguments || !with_version)
        return -1;
    return memory_add(module);
}

/* A module that somebody has imported, or NULL without an exception. */
static PyObject *imported(const char *name) {
    PyObject *text = PyUnicode_FromString(name);
    PyObject *module = text ? PyImport_GetModule(text) : NULL;
    Py_XDECREF(text);
    PyErr_Clear();
    return module;
}

static PyObject *attribute_of(const char *module_name, const char *name) {
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *found = module ? PyObject_GetAttrString(module, name) : NULL;
    Py_XDECREF(module);
    return found;
}

/* ---- Kinds ------------------------------------------------------------------------------------ */

static const char *const kind_names[] = {"numpy", "torch", "jax", "mlx", "cupy", "fovea", "other"};

typedef struct type_entry {
    PyObject *type;
    const exchange_table *exchange;
    kind kind;
    bool old_protocol; /* its __dlpack__ knows no max_version */
} type_entry;

enum { TYPES_KEPT = 16 };
static type_entry types[TYPES_KEPT];
static unsigned types_seen;

static bool is_instance(PyObject *object, const char *module_name, const char *class_name) {
    PyObject *module = imported(module_name);
    PyObject *class = module ? PyObject_GetAttrString(module, class_name) : NULL;
    int is = class ? PyObject_IsInstance(object, class) : 0;
    Py_XDECREF(class);
    Py_XDECREF(module);
    PyErr_Clear();
    return is == 1;
}

static kind find_kind(PyObject *object) {
    static const struct {
        const char *module, *class;
        kind kind;
    } known[] = {{"numpy.ma", "MaskedArray", KIND_OTHER}, /* memory alone is not its meaning */
                 {"numpy", "ndarray", KIND_NUMPY},
                 {"torch", "Tensor", KIND_TORCH},
                 {"jax", "Array", KIND_JAX},
                 {"mlx.core", "array", KIND_MLX},
                 {"cupy", "ndarray", KIND_CUPY},
                 {"fovea._fovea", "Memory", KIND_OURS}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (is_instance(object, known[i].module, known[i].class)) return known[i].kind;
    return KIND_OTHER;
}

static const exchange_table *find_exchange(PyObject *type) {
    PyObject *capsule = PyObject_GetAttrString(type, "__dlpack_c_exchange_api__");
    const exchange_table *table = NULL;
    if (capsule && PyCapsule_CheckExact(capsule))
        table = PyCapsule_GetPointer(capsule, "dlpack_exchange_api");
    PyErr_Clear();
    Py_XDECREF(capsule);
    while (table && table->version.major != 1) table = table->previous;
    return table && table->borrow && table->stream ? table : NULL;
}

/* A copy, because places in the table are taken again by whatever code of a type calls us meanwhile: that
 * of an attribute `__class__`, or of what watches the type go that was there before. */
static type_entry entry_of(PyObject *object) {
    PyObject *type = (PyObject *)Py_TYPE(object);
    for (int i = 0; i < TYPES_KEPT; i++)
        if (types[i].type == type) return types[i];
    Py_INCREF(type);
    type_entry made = {.type = type, .kind = find_kind(object)};
    made.exchange = made.kind == KIND_NUMPY ? NULL : find_exchange(type);
    type_entry *place = &types[types_seen++ % TYPES_KEPT];
    PyObject *before = place->type;
    *place = made;
    Py_XDECREF(before);
    return made;
}

static void note_old_protocol(PyObject *object) {
    for (int i = 0; i < TYPES_KEPT; i++)
        if (types[i].type == (PyObject *)Py_TYPE(object)) types[i].old_protocol = true;
}

/* ---- NumPy ------------------------------------------------------------------------------------ */

/* What a capsule of __array_struct__ holds (NumPy reference, the array interface protocol). */
typedef struct array_interface {
    int two, rank;
    char type;
    int item_bytes, flags;
    Py_ssize_t *shape, *strides;
    void *data;
    PyObject *description;
} array_interface;
enum { NATIVE_ORDER = 0x200, WRITEABLE = 0x400 };
enum { COMPLEX_CODE = 5 }; /* kDLComplex, which older headers lack */

/* NumPy dtypes and those of PyTorch by our number, made when first needed. */
static PyObject *numpy_dtypes[FOVEA_DTYPE_COUNT], *torch_options[FOVEA_DTYPE_COUNT];
static const char *const dtype_names[FOVEA_DTYPE_COUNT] = {
    [FOVEA_F32] = "float32",   [FOVEA_F16] = "float16",    [FOVEA_BF16] = "bfloat16",
    [FOVEA_F64] = "float64",   [FOVEA_I8] = "int8",        [FOVEA_U8] = "uint8",
    [FOVEA_I32] = "int32",     [FOVEA_U32] = "uint32",     [FOVEA_I64] = "int64",
    [FOVEA_U64] = "uint64",    [FOVEA_BOOL] = "bool",      [FOVEA_E4M3] = "float8_e4m3fn",
    [FOVEA_C64] = "complex64", [FOVEA_C128] = "complex128"};

static PyObject *numpy_dtype(fovea_dtype dtype) {
    if (numpy_dtypes[dtype]) return numpy_dtypes[dtype];
    bool special = dtype == FOVEA_BF16 || dtype == FOVEA_E4M3;
    PyObject *class = special ? attribute_of("ml_dtypes", dtype_names[dtype])
                              : PyUnicode_FromString(dtype_names[dtype]);
    PyObject *make = class ? attribute_of("numpy", "dtype") : NULL;
    if (make) numpy_dtypes[dtype] = PyObject_CallFunctionObjArgs(make, class, NULL);
    Py_XDECREF(make);
    Py_XDECREF(class);
    return numpy_dtypes[dtype];
}

/* ml_dtypes are of NumPy's kind V; an array of one shows that the package is there. */
static int special_dtype(PyObject *object, DLDataType *type) {
    static const fovea_dtype candidates[] = {FOVEA_BF16, FOVEA_E4M3};
    PyObject *dtype = PyObject_GetAttr(object, name_dtype), *module = imported("ml_dtypes");
    int found = 0;
    for (int i = 0; dtype && module && !found && i < 2; i++) {
        PyObject *candidate = numpy_dtype(candidates[i]);
        int same = candidate ? PyObject_RichCompareBool(dtype, candidate, Py_EQ) : 0;
        if (same == 1) *type = fovea_dtype_to_dlpack(candidates[i]), found = 1;
        PyErr_Clear();
    }
    Py_XDECREF(module);
    Py_XDECREF(dtype);
    return found;
}

static int numpy_type(PyObject *object, const char *name, const array_interface *interface,
                      DLDataType *type) {
    int code = interface->type == 'f'   ? kDLFloat
               : interface->type == 'c' ? COMPLEX_CODE
               : interface->type == 'i' ? kDLInt
               : interface->type == 'u' ? kDLUInt
               : interface->type == 'b' ? 6
                                        : -1;
    *type = (DLDataType){(uint8_t)code, (uint8_t)(8 * interface->item_bytes), 1};
    bool native = interface->flags & NATIVE_ORDER || interface->item_bytes == 1;
    if (code >= 0 && interface->item_bytes <= 16 && native) return 0;
    if (native && special_dtype(object, type)) return 0;
    PyObject *dtype = PyObject_GetAttr(object, name_dtype);
    if (dtype) PyErr_Format(invalid_value, "%s has dtype %R, which no kernel takes", name, dtype);
    Py_XDECREF(dtype);
    return -1;
}

static int take_numpy(PyObject *object, const char *name, array *taken) {
    taken->holder = PyObject_GetAttr(object, name_array_struct);
    if (!taken->holder) return raise_from_producer(name);
    const array_interface *interface = PyCapsule_GetPointer(taken->holder, NULL);
    if (!interface) return -1;
    DLTensor *tensor = &taken->tensor;
    *tensor = (DLTensor){.data = interface->data, .device = {kDLCPU, 0}, .ndim = interface->rank};
    if (numpy_type(object, name, interface, &tensor->dtype) < 0) return -1;
    taken->read_only = !(interface->flags & WRITEABLE);
    tensor->shape = taken->shape; /* with more dimensions than these the library refuses it */
    tensor->strides = taken->strides;
    for (int i = 0; i < interface->rank && i < FOVEA_RANK_MAX; i++) {
        taken->shape[i] = interface->shape[i];
        taken->strides[i] = interface->strides[i] / interface->item_bytes;
        if (interface->strides[i] % interface->item_bytes != 0 && interface->shape[i] > 1) {
            PyErr_Format(
                invalid_value,
                "%s has a stride of %zd bytes in dimension %d, which is no multiple of its "
                "element size %d",
                name, interface->strides[i], i, interface->item_bytes);
            return -1;
        }
    }
    return 0;
}

/* ---- Others ----------------------------------------------------------------------------------- */

static int refuse_gradient(PyObject *object, const char *name) {
    PyObject *requires = PyObject_GetAttr(object, name_requires_grad);
    if (!requires) return raise_from_producer(name);
    Py_DECREF(requires);
    if (requires != Py_True) return 0;
    PyObject *ask = attribute_of("torch", "is_grad_enabled");
    PyObject *enabled = ask ? PyObject_CallObject(ask, NULL) : NULL;
    Py_XDECREF(ask);
    if (!enabled) return -1;
    Py_DECREF(enabled);
    if (enabled != Py_True) return 0;
    PyErr_Format(
        invalid_value,
        "%s requires grad, and no gradient would flow through this call: use fovea.torch, or "
        "%s.detach(), or torch.no_grad()",
        name, name);
    return -1;
}

static int take_exchange(PyObject *object, const char *name, array *taken) {
    if (taken->kind == KIND_TORCH && refuse_gradient(object, name) < 0) return -1;
    return taken->exchange->borrow(object, &taken->tensor) ? raise_from_producer(name) : 0;
}

static PyObject *call_dlpack(PyObject *object, bool old_protocol) {
    PyObject *method = PyObject_GetAttr(object, name_dlpack), *capsule = NULL;
    if (method && !old_protocol) {
        capsule = PyObject_Call(method, no_arguments, with_version);
        if (!capsule && PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            note_old_protocol(object);
        }
    }
    if (method && !capsule && !PyErr_Occurred()) capsule = PyObject_CallObject(method, NULL);
    Py_XDECREF(method);
    return capsule;
}

/* The capsule is not consumed: it keeps the tensor until it goes, and then lets it go. */
static int take_dlpack(PyObject *object, const char *name, bool old_protocol, array *taken) {
    taken->holder = call_dlpack(object, old_protocol);
    if (!taken->holder) return raise_from_producer(name);
    if (PyCapsule_IsValid(taken->holder, "dltensor_versioned")) {
        const exchange_tensor *managed = PyCapsule_GetPointer(taken->holder, "dltensor_versioned");
        if (managed->version.major != 1) {
            PyErr_Format(invalid_value, "%s speaks version %u of DLPack; 1 is served", name,
                         managed->version.major);
            return -1;
        }
        taken->tensor = managed->tensor;
        taken->read_only = managed->flags & EXCHANGE_READ_ONLY;
        taken->copied = managed->flags & EXCHANGE_IS_COPIED;
        return 0;
    }
    const DLManagedTensor *managed = PyCapsule_GetPointer(taken->holder, "dltensor");
    if (!managed) return -1;
    taken->tensor = managed->dl_tensor;
    return 0;
}

static int refuse_type(PyObject *object, const char *name) {
    PyObject *type = PyObject_GetAttrString((PyObject *)Py_TYPE(object), "__name__");
    if (type)
        PyErr_Format(
            invalid_type,
            "%s is a %U; it takes an array that speaks DLPack (NumPy, PyTorch, JAX, MLX, CuPy)",
            name, type);
    Py_XDECREF(type);
    return -1;
}

int array_take(PyObject *object, const char *name, array *taken) {
    const type_entry entry = entry_of(object);
    taken->kind = entry.kind;
    taken->exchange = entry.exchange;
    taken->holder = NULL;
    taken->read_only = taken->copied = false;
    Py_INCREF(object);
    taken->object = object;
    int result;
    if (entry.kind == KIND_NUMPY)
        result = take_numpy(object, name, taken);
    else if (entry.exchange)
        result = take_exchange(object, name, taken);
    else if (is_instance(object, "numpy.ma", "MaskedArray") ||
             !PyObject_HasAttrString(object, "__dlpack__"))
        result = refuse_type(object, name);
    else
        result = take_dlpack(object, name, entry.old_protocol, taken);
    /* What JAX has computed may be shared with anything. */
    taken->read_only |= taken->kind == KIND_JAX;
    if (result < 0) array_release(taken);
    return result;
}

void array_release(array *taken) {
    Py_CLEAR(taken->holder);
    Py_CLEAR(taken->object);
}

/* ---- Results ---------------------------------------------------------------------------------- */

static PyObject *shape_tuple(const fovea_view *wanted) {
    PyObject *shape = PyTuple_New(wanted->rank);
    for (int i = 0; shape && i < wanted->rank; i++) {
        PyObject *extent = PyLong_FromLongLong(wanted->shape[i]);
        if (!extent || PyTuple_SetItem(shape, i, extent) < 0) Py_CLEAR(shape);
    }
    return shape;
}

static PyObject *make_numpy(const char *module, const fovea_view *wanted) {
    static PyObject *empty;
    bool numpy = strcmp(module, "numpy") == 0;
    PyObject *function = numpy && empty ? empty : attribute_of(module, "empty");
    if (numpy) empty = function;
    PyObject *dtype = function ? numpy_dtype(wanted->dtype) : NULL;
    PyObject *shape = dtype ? shape_tuple(wanted) : NULL;
    PyObject *made = shape ? PyObject_CallFunctionObjArgs(function, shape, dtype, NULL) : NULL;
    Py_XDECREF(shape);
    if (!numpy) Py_XDECREF(function);
    return made;
}

/* {"dtype": torch.bfloat16, "device": "cpu"}, kept for each dtype */
static PyObject *torch_keywords(fovea_dtype dtype) {
    if (torch_options[dtype]) return torch_options[dtype];
    PyObject *type = attribute_of("torch", dtype_names[dtype]);
    PyObject *make = type ? attribute_of("torch", "device") : NULL;
    PyObject *device = make ? PyObject_CallFunction(make, "s", "cpu") : NULL;
    if (device) torch_options[dtype] = Py_BuildValue("{sOsO}", "dtype", type, "device", device);
    Py_XDECREF(device);
    Py_XDECREF(make);
    Py_XDECREF(type);
    return torch_options[dtype];
}

static PyObject *make_torch(const array *like, const fovea_view *wanted) {
    static PyObject *empty;
    if (!empty && !(empty = attribute_of("torch", "empty"))) return NULL;
    PyObject *keywords = torch_keywords(wanted->dtype);
    if (!keywords) return NULL;
    Py_INCREF(keywords);
    if (like->tensor.device.device_type != kDLCPU) {
        PyObject *device = PyObject_GetAttrString(like->object, "device");
        Py_DECREF(keywords);
        keywords = device ? PyDict_Copy(torch_options[wanted->dtype]) : NULL;
        if (keywords && PyDict_SetItemString(keywords, "device", device) < 0) Py_CLEAR(keywords);
        Py_XDECREF(device);
    }
    PyObject *shape = keywords ? shape_tuple(wanted) : NULL;
    PyObject *arguments = shape ? PyTuple_Pack(1, shape) : NULL;
    PyObject *made = arguments ? PyObject_Call(empty, arguments, keywords) : NULL;
    Py_XDECREF(arguments);
    Py_XDECREF(shape);
    Py_XDECREF(keywords);
    return made;
}

int array_make(const array *like, const fovea_view *wanted, const char *name, array *made) {
    kind kind = like ? like->kind : KIND_NUMPY;
    PyObject *object = NULL;
    DLTensor *tensor = NULL;
    if (kind == KIND_NUMPY || kind == KIND_CUPY)
        object = make_numpy(kind_names[kind], wanted);
    else if (kind == KIND_TORCH)
        object = make_torch(like, wanted);
    else if (like->tensor.device.device_type != kDLCPU)
        PyErr_SetString(invalid_value, "to be given, for no memory is made on a device");
    else
        object = memory_new(wanted, &tensor);
    if (!object) return raise_from_producer(name);
    int result = 0;
    if (tensor) {
        *made = (array){.tensor = *tensor, .object = object, .kind = KIND_OURS};
    } else {
        result = array_take(object, name, made);
        Py_DECREF(object);
    }
    return result;
}

/* The library of an array we know nothing else of. */
static PyObject *namespace_of(const array *like) {
    switch (like->kind) {
    case KIND_JAX:
        return PyImport_ImportModule("jax.dlpack");
    case KIND_MLX:
        return PyImport_ImportModule("mlx.core");
    default:
        return PyObject_CallMethod(like->object, "__array_namespace__", NULL);
    }
}

PyObject *array_finish(array *made, const array *like) {
    PyObject *object = made->object;
    if (made->kind != KIND_OURS || !like || like->kind == KIND_OURS) {
        Py_INCREF(object);
        return object;
    }
    PyObject *library = namespace_of(like);
    PyObject *result = library ? PyObject_CallMethod(library, "from_dlpack", "O", object) : NULL;
    Py_XDECREF(library);
    return result;
}
