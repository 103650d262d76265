/* fovea.Memory: results for libraries whose arrays cannot be made empty and then written (JAX, MLX).
 * They take it over by DLPack, in either version of the protocol. Its counter is atomic, because what
 * took the memory over may give it back on a thread that knows nothing of Python. */
#include "array.h"
#include "errors.h"

#include <stdatomic.h>
#include <stdlib.h>

typedef struct block {
    _Atomic int owners;
    DLTensor tensor;
    int64_t shape[FOVEA_RANK_MAX], strides[FOVEA_RANK_MAX];
} block;

typedef struct memory {
    PyObject_HEAD block *block;
} memory;

static PyObject *memory_type;

static void give_back(block *b) {
    if (atomic_fetch_sub(&b->owners, 1) > 1) return;
    free(b->tensor.data);
    free(b);
}

PyObject *memory_new(const fovea_view *wanted, DLTensor **tensor) {
    int64_t bytes = (int64_t)fovea_dtype_size(wanted->dtype), strides[FOVEA_RANK_MAX], stride = 1;
    for (int i = wanted->rank - 1; i >= 0; i--) {
        int64_t extent = wanted->shape[i] > 0 ? wanted->shape[i] : 1;
        strides[i] = stride;
        if (!fovea_multiply(bytes, wanted->shape[i], &bytes) ||
            !fovea_multiply(stride, extent, &stride))
            return PyErr_NoMemory();
    }
    block *b = calloc(1, sizeof *b);
    /* JAX and MLX copy what is not aligned to 64 bytes. */
    void *data =
        b && bytes <= INT64_MAX - 64 ? aligned_alloc(64, ((size_t)bytes + 64) / 64 * 64) : NULL;
    memory *made = data ? PyObject_New(memory, (PyTypeObject *)memory_type) : NULL;
    if (!made) {
        free(data);
        free(b);
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    b->owners = 1;
    for (int i = 0; i < wanted->rank; i++)
        b->shape[i] = wanted->shape[i], b->strides[i] = strides[i];
    b->tensor = (DLTensor){.data = data,
                           .device = {kDLCPU, 0},
                           .ndim = wanted->rank,
                           .dtype = fovea_dtype_to_dlpack(wanted->dtype),
                           .shape = b->shape,
                           .strides = b->strides};
    made->block = b;
    *tensor = &b->tensor;
    return (PyObject *)made;
}

static void dealloc(PyObject *self) {
    PyObject *type = (PyObject *)Py_TYPE(self);
    give_back(((memory *)self)->block);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* ---- DLPack --------------------------------------------------------------------------------- */

static void delete_managed(DLManagedTensor *self) {
    give_back(self->manager_ctx);
    free(self);
}

static void delete_versioned(exchange_tensor *self) {
    give_back(self->manager);
    free(self);
}

/* A capsule that nobody consumed still has its name. */
static void delete_capsule(PyObject *capsule) {
    if (PyCapsule_IsValid(capsule, "dltensor"))
        delete_managed(PyCapsule_GetPointer(capsule, "dltensor"));
    else if (PyCapsule_IsValid(capsule, "dltensor_versioned"))
        delete_versioned(PyCapsule_GetPointer(capsule, "dltensor_versioned"));
}

static PyObject *make_capsule(block *b, bool versioned) {
    void *made;
    if (versioned) {
        exchange_tensor *tensor = calloc(1, sizeof *tensor);
        if (!tensor) return PyErr_NoMemory();
        *tensor = (exchange_tensor){
            .version = {1, 0}, .manager = b, .deleter = delete_versioned, .tensor = b->tensor};
        made = tensor;
    } else {
        DLManagedTensor *tensor = calloc(1, sizeof *tensor);
        if (!tensor) return PyErr_NoMemory();
        *tensor = (DLManagedTensor){b->tensor, b, delete_managed};
        made = tensor;
    }
    PyObject *capsule =
        PyCapsule_New(made, versioned ? "dltensor_versioned" : "dltensor", delete_capsule);
    if (capsule)
        atomic_fetch_add(&b->owners, 1);
    else
        free(made);
    return capsule;
}

static PyObject *dlpack(PyObject *self, PyObject *arguments, PyObject *keywords) {
    static char *names[] = {"stream", "max_version", "dl_device", "copy", NULL};
    PyObject *stream, *version = NULL, *device, *copy = NULL;
    long major = 0;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|$OOOO", names, &stream, &version,
                                     &device, &copy))
        return NULL;
    if (copy == Py_True) {
        PyErr_SetString(PyExc_BufferError, "fovea.Memory is not copied when it is handed over");
        return NULL;
    }
    if (version && version != Py_None) {
        PyObject *first = PySequence_GetItem(version, 0);
        if (!first) return NULL;
        major = PyLong_AsLong(first);
        Py_DECREF(first);
        if (major == -1 && PyErr_Occurred()) return NULL;
    }
    return make_capsule(((memory *)self)->block, major >= 1);
}

static PyObject *dlpack_device(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    return Py_BuildValue("(ii)", (int)kDLCPU, 0);
}

static PyObject *shape(PyObject *self, void *unused) {
    (void)unused;
    const DLTensor *tensor = &((memory *)self)->block->tensor;
    PyObject *extents = PyTuple_New(tensor->ndim);
    for (int i = 0; extents && i < tensor->ndim; i++) {
        PyObject *extent = PyLong_FromLongLong(tensor->shape[i]);
        if (!extent || PyTuple_SetItem(extents, i, extent) < 0) Py_CLEAR(extents);
    }
    return extents;
}

static PyObject *dtype(PyObject *self, void *unused) {
    (void)unused;
    fovea_dtype type = FOVEA_F32;
    fovea_dtype_from_dlpack(((memory *)self)->block->tensor.dtype, &type);
    return PyUnicode_FromString(fovea_dtype_name(type));
}

static PyMethodDef methods[] = {
    {"__dlpack__", (PyCFunction)(void (*)(void))dlpack, METH_VARARGS | METH_KEYWORDS,
     "__dlpack__($self, *, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\n"
     "The memory as a DLPack capsule."},
    {"__dlpack_device__", dlpack_device, METH_NOARGS,
     "__dlpack_device__($self)\n--\n\n(1, 0), which is the CPU."},
    {0}};
static PyGetSetDef properties[] = {
    {"shape", shape, NULL, "The extents.", NULL},
    {"dtype", dtype, NULL, "The name of the dtype, such as \"bf16\".", NULL},
    {0}};

/* ---- Making it from Python -------------------------------------------------------------------- */

static int read_shape(PyObject *shape, fovea_view *wanted) {
    Py_ssize_t rank = PyTuple_Size(shape);
    if (rank > FOVEA_RANK_MAX) {
        PyErr_Format(invalid_value, "shape has %zd dimensions; at most %d are served", rank,
                     FOVEA_RANK_MAX);
        return -1;
    }
    wanted->rank = (int)rank;
    for (int i = 0; i < wanted->rank; i++) {
        wanted->shape[i] = PyLong_AsLongLong(PyTuple_GetItem(shape, i));
        if (wanted->shape[i] == -1 && PyErr_Occurred()) return -1;
        if (wanted->shape[i] >= 0) continue;
        PyErr_Format(invalid_value, "shape has the negative extent %lld",
                     (long long)wanted->shape[i]);
        return -1;
    }
    return 0;
}

static PyObject *new_memory(PyObject *self, PyObject *arguments) {
    (void)self;
    PyObject *shape;
    const char *name;
    fovea_view wanted = {.rank = 0};
    DLTensor *tensor;
    if (!PyArg_ParseTuple(arguments, "O!s", &PyTuple_Type, &shape, &name) ||
        read_shape(shape, &wanted) < 0)
        return NULL;
    if (!fovea_dtype_parse(name, &wanted.dtype))
        return PyErr_Format(invalid_value, "dtype is '%s', which names none", name);
    return memory_new(&wanted, &tensor);
}

static PyObject *new_integers(PyObject *self, PyObject *arguments) {
    (void)self;
    PyObject *shape, *values;
    fovea_view wanted = {.dtype = FOVEA_I32};
    DLTensor *tensor;
    if (!PyArg_ParseTuple(arguments, "OO!", &values, &PyTuple_Type, &shape) ||
        read_shape(shape, &wanted) < 0)
        return NULL;
    Py_ssize_t count = PySequence_Size(values);
    if (count < 0) return NULL;
    if (count != fovea_view_elements(&wanted))
        return PyErr_Format(invalid_value, "%zd values do not fill the shape", count);
    PyObject *made = memory_new(&wanted, &tensor);
    for (Py_ssize_t i = 0; made && i < count; i++) {
        PyObject *item = PySequence_GetItem(values, i);
        long value = item ? PyLong_AsLong(item) : -1;
        Py_XDECREF(item);
        if (value != (int32_t)value && !PyErr_Occurred())
            PyErr_Format(invalid_value, "%ld does not fit into 32 bits", value);
        if (PyErr_Occurred())
            Py_CLEAR(made);
        else
            ((int32_t *)tensor->data)[i] = (int32_t)value;
    }
    return made;
}

static PyMethodDef functions[] = {
    {"_memory", new_memory, METH_VARARGS,
     "_memory($module, shape, dtype, /)\n--\n\nMemory that is not set."},
    {"_integers", new_integers, METH_VARARGS,
     "_integers($module, values, shape, /)\n--\n\nMemory of i32 with these values."},
    {0}};

int memory_add(PyObject *module) {
    PyType_Slot slots[] = {
        {Py_tp_doc,
         "Aligned memory that other libraries take over by DLPack: from_dlpack(memory)."},
        {Py_tp_dealloc, (void *)dealloc},
        {Py_tp_methods, methods},
        {Py_tp_getset, properties},
        {0, NULL}};
    PyType_Spec spec = {.name = "fovea.Memory",
                        .basicsize = sizeof(memory),
                        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                        .slots = slots};
    memory_type = PyType_FromSpec(&spec);
    if (!memory_type || PyModule_AddObjectRef(module, "Memory", memory_type) < 0) return -1;
    return PyModule_AddFunctions(module, functions);
}
