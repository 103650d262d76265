/* Calls of kernels from Python. What a kernel takes is read from the catalogue once, when the module is
 * imported; a call then matches keywords by the address of their names, makes the results that were
 * not given, and runs without Python's lock. */
#include "kernels.h"
#include "api/call.h"
#include "array.h"
#include "catalogue/outcome.h"
#include "errors.h"
#include "session.h"

#include <stdlib.h>
#include <string.h>

/* ---- What a function takes -------------------------------------------------------------------- */

typedef enum keyword_kind {
    KEYWORD_PARAMETER,
    KEYWORD_ARGUMENT,
    KEYWORD_OUT,
    KEYWORD_DTYPE
} keyword_kind;

typedef struct keyword {
    PyObject *name; /* interned */
    keyword_kind kind;
    int index;         /* of the parameter or argument */
    PyObject *choices; /* tuple of interned names, where the parameter is a choice */
} keyword;

enum { KEYWORDS_MAX = FOVEA_PARAMETERS_MAX + FOVEA_ARGUMENTS_MAX + 2 };

typedef struct binding {
    const kernel_function *function;
    const fovea_kernel *kernel;
    const fovea_options_layout *layout;
    int positional[FOVEA_ARGUMENTS_MAX], positionals; /* arguments of the row */
    int results[FOVEA_ARGUMENTS_MAX], all_results;    /* all outputs; */
    uint32_t required;                                /* those that are always made */
    keyword keywords[KEYWORDS_MAX];
    int keyword_count;
} binding;

static bool add_keyword(binding *b, const char *name, keyword_kind kind, int index,
                        const char *choices) {
    keyword *made = &b->keywords[b->keyword_count++];
    *made = (keyword){PyUnicode_InternFromString(name), kind, index, NULL};
    if (!choices || !made->name) return made->name != NULL;
    PyObject *text = PyUnicode_FromString(choices), *comma = PyUnicode_FromString(",");
    PyObject *list = text && comma ? PyUnicode_Split(text, comma, -1) : NULL;
    Py_XDECREF(comma);
    Py_XDECREF(text);
    made->choices = list ? PyList_AsTuple(list) : NULL;
    Py_XDECREF(list);
    return made->choices != NULL;
}

/* An output whose dtype may be other than the call's can be asked for in each of them. */
static bool has_dtype_choice(const fovea_argument *argument) {
    return argument->role == FOVEA_OUTPUT && !argument->optional &&
           argument->dtypes & (argument->dtypes - 1);
}

static bool bind(binding *b, const kernel_function *function) {
    *b = (binding){.function = function,
                   .kernel = fovea_catalogue_kernel(function->kernel),
                   .layout = &fovea_options_layouts[function->kernel]};
    bool made = true, dtype = false;
    for (int a = 0; a < fovea_kernel_arguments(b->kernel); a++) {
        const fovea_argument *argument = &b->kernel->arguments[a];
        dtype |= has_dtype_choice(argument);
        if (argument->role == FOVEA_OUTPUT) b->results[b->all_results++] = a;
        if (argument->optional)
            made &= add_keyword(b, argument->name, KEYWORD_ARGUMENT, a, NULL);
        else if (argument->role == FOVEA_OUTPUT)
            b->required |= 1u << a;
        else
            b->positional[b->positionals++] = a;
    }
    if (b->required) made &= add_keyword(b, "out", KEYWORD_OUT, 0, NULL);
    if (dtype) made &= add_keyword(b, "dtype", KEYWORD_DTYPE, 0, NULL);
    for (int p = 0; p < fovea_kernel_parameters(b->kernel); p++)
        if (p != function->parameter)
            made &= add_keyword(b, b->kernel->parameters[p].name, KEYWORD_PARAMETER, p,
                                b->kernel->parameters[p].choices);
    return made;
}

/* ---- A request: one call, with its arrays ----------------------------------------------------- */

typedef struct request {
    const binding *binding;
    uint32_t taken;    /* arrays that are filled, by argument */
    uint32_t asked;    /* results that are wanted and not given */
    fovea_dtype dtype; /* of results, where it was asked for; else FOVEA_DTYPE_COUNT */
    fovea_context *context;
    bool wait; /* for the device, whose other users do not know our stream */
    array arrays[FOVEA_ARGUMENTS_MAX];
    DLTensor *tensors[FOVEA_ARGUMENTS_MAX]; /* the required ones, in order */
    size_t count;
    _Alignas(16) char options[FOVEA_OPTIONS_SIZE_MAX];
} request;

static const char *name_of(const request *r, int argument) {
    return r->binding->kernel->arguments[argument].name;
}

static int take(request *r, int argument, PyObject *object) {
    if (array_take(object, name_of(r, argument), &r->arrays[argument]) < 0) return -1;
    r->taken |= 1u << argument;
    if (r->binding->kernel->arguments[argument].role == FOVEA_INPUT) return 0;
    if (!r->arrays[argument].read_only && !r->arrays[argument].copied) return 0;
    PyErr_Format(invalid_value, "%s is %s: it cannot be written in place", name_of(r, argument),
                 r->arrays[argument].read_only ? "read-only" : "handed over as a copy");
    return -1;
}

/* ---- Keywords --------------------------------------------------------------------------------- */

static int wrong_type(const char *name, const char *wanted, PyObject *value) {
    PyObject *type = PyObject_GetAttrString((PyObject *)Py_TYPE(value), "__name__");
    if (type) PyErr_Format(invalid_type, "%s is a %U; it takes %s", name, type, wanted);
    Py_XDECREF(type);
    return -1;
}

static int set_real(const char *name, void *field, PyObject *value) {
    double number = PyFloat_AsDouble(value);
    if (number == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        return wrong_type(name, "a float or None", value);
    }
    memcpy(field, &number, sizeof number);
    return 0;
}

static int set_integer(const char *name, void *field, PyObject *value) {
    PyObject *index = PyNumber_Index(value);
    if (!index) {
        PyErr_Clear();
        return wrong_type(name, "an int or None", value);
    }
    int64_t number = PyLong_AsLongLong(index);
    Py_DECREF(index);
    if (number == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        PyErr_Format(invalid_value, "%s is %S; it has to fit into 64 bits", name, value);
        return -1;
    }
    memcpy(field, &number, sizeof number);
    return 0;
}

static int set_choice(const keyword *k, const char *name, const char *choices, void *field,
                      PyObject *value) {
    if (!PyUnicode_Check(value)) return wrong_type(name, "a str", value);
    Py_ssize_t count = PyTuple_Size(k->choices);
    for (int i = 0; i < count; i++) {
        PyObject *choice = PyTuple_GetItem(k->choices, i);
        if (choice != value && PyUnicode_Compare(choice, value) != 0) continue;
        memcpy(field, &i, sizeof i);
        return 0;
    }
    PyErr_Format(invalid_value, "%s is %R; it is one of %s", name, value, choices);
    return -1;
}

static int set_parameter(request *r, const keyword *k, PyObject *value) {
    const fovea_parameter *parameter = &r->binding->kernel->parameters[k->index];
    void *field = r->options + r->binding->layout->parameter[k->index];
    if (value == Py_None) return 0; /* the default */
    switch (parameter->kind) {
    case FOVEA_REAL:
        return set_real(parameter->name, field, value);
    case FOVEA_INTEGER:
        return set_integer(parameter->name, field, value);
    case FOVEA_CHOICE:
        return set_choice(k, parameter->name, parameter->choices, field, value);
    case FOVEA_FLAG:
        break;
    }
    if (!PyBool_Check(value)) return wrong_type(parameter->name, "a bool", value);
    *(bool *)field = value == Py_True;
    return 0;
}

/* mask=array, lse=True, lse=array, lse=None */
static int set_argument(request *r, int argument, PyObject *value) {
    bool output = r->binding->kernel->arguments[argument].role == FOVEA_OUTPUT;
    if (value == Py_None || (output && value == Py_False)) return 0;
    if (!output || value != Py_True) return take(r, argument, value);
    r->asked |= 1u << argument;
    return 0;
}

/* out=array, or a tuple of arrays and Nones where there are several. */
static int set_out(request *r, PyObject *value) {
    const binding *b = r->binding;
    Py_ssize_t place = 0, wanted = __builtin_popcount(b->required);
    if (value == Py_None) return 0;
    if (wanted == 1) return take(r, __builtin_ctz(b->required), value);
    if (!PyTuple_Check(value)) return wrong_type("out", "a tuple of the results", value);
    if (PyTuple_Size(value) != wanted) {
        PyErr_Format(invalid_value, "out has %zd entries; %s has %zd results", PyTuple_Size(value),
                     b->function->name, wanted);
        return -1;
    }
    for (uint32_t rest = b->required; rest; rest &= rest - 1) {
        PyObject *item = PyTuple_GetItem(value, place++);
        if (item != Py_None && take(r, __builtin_ctz(rest), item) < 0) return -1;
    }
    return 0;
}

static int set_dtype(request *r, PyObject *value) {
    if (value == Py_None) return 0;
    if (!PyUnicode_Check(value)) return wrong_type("dtype", "a str such as 'bf16'", value);
    PyObject *bytes = PyUnicode_AsUTF8String(value);
    if (!bytes) return -1;
    bool known = fovea_dtype_parse(PyBytes_AsString(bytes), &r->dtype);
    Py_DECREF(bytes);
    if (!known) PyErr_Format(invalid_value, "dtype is %R, which names none", value);
    return known ? 0 : -1;
}

static const keyword *find_keyword(const binding *b, PyObject *name) {
    for (int i = 0; i < b->keyword_count; i++)
        if (b->keywords[i].name == name) return &b->keywords[i];
    for (int i = 0; i < b->keyword_count; i++)
        if (PyUnicode_Compare(b->keywords[i].name, name) == 0) return &b->keywords[i];
    PyErr_Format(invalid_type, "%s has no option %R", b->function->name, name);
    return NULL;
}

static int set_keyword(request *r, PyObject *name, PyObject *value) {
    const keyword *k = find_keyword(r->binding, name);
    if (!k) return -1;
    switch (k->kind) {
    case KEYWORD_PARAMETER:
        return set_parameter(r, k, value);
    case KEYWORD_ARGUMENT:
        return set_argument(r, k->index, value);
    case KEYWORD_OUT:
        return set_out(r, value);
    case KEYWORD_DTYPE:
        break;
    }
    return set_dtype(r, value);
}

/* ---- From arguments to a call ----------------------------------------------------------------- */

static int wrong_count(const binding *b, Py_ssize_t given) {
    char names[256] = "";
    size_t used = 0;
    for (int i = 0; i < b->positionals && used < sizeof names; i++)
        used += (size_t)PyOS_snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "",
                                      b->kernel->arguments[b->positional[i]].name);
    PyErr_Format(invalid_type, "%s takes %d array%s (%s), %zd were given", b->function->name,
                 b->positionals, b->positionals == 1 ? "" : "s", names, given);
    return -1;
}

static int parse(request *r, PyObject *const *values, Py_ssize_t given, PyObject *names) {
    const binding *b = r->binding;
    Py_ssize_t keywords = names ? PyTuple_Size(names) : 0;
    r->taken = 0, r->count = 0, r->asked = b->required, r->dtype = FOVEA_DTYPE_COUNT;
    b->layout->defaults(r->options);
    if (b->function->parameter >= 0)
        fovea_parameter_write(b->function->kernel, r->options, b->function->parameter,
                              b->function->value);
    if (given != b->positionals) return wrong_count(b, given);
    for (int i = 0; i < given; i++)
        if (take(r, b->positional[i], values[i]) < 0) return -1;
    for (Py_ssize_t i = 0; i < keywords; i++)
        if (set_keyword(r, PyTuple_GetItem(names, i), values[given + i]) < 0) return -1;
    r->asked &= ~r->taken;
    return 0;
}

static const array *first_array(const request *r) {
    const binding *b = r->binding;
    if (b->positionals) return &r->arrays[b->positional[0]];
    return r->taken ? &r->arrays[__builtin_ctz(r->taken)] : NULL;
}

/* Shape and dtype of a result. Where they do not follow, the checks of the call are to find what is
 * wrong with the inputs: they get something without elements to look at. */
static bool find_outcome(request *r, const fovea_problem *given, int argument, fovea_view *wanted) {
    bool known = fovea_outcome(given, argument, wanted);
    const fovea_argument *row = &r->binding->kernel->arguments[argument];
    if (known && r->dtype != FOVEA_DTYPE_COUNT && has_dtype_choice(row)) wanted->dtype = r->dtype;
    if (!known) *wanted = (fovea_view){.dtype = wanted->dtype, .rank = 1};
    return known;
}

static int make_results(request *r, bool *known) {
    const binding *b = r->binding;
    fovea_problem given = {
        .kernel = b->kernel, .index = b->function->kernel, .options = r->options};
    fovea_message message;
    *known = true;
    if (!r->asked) return 0;
    for (uint32_t rest = r->taken; rest; rest &= rest - 1) {
        int a = __builtin_ctz(rest);
        fovea_status status =
            fovea_view_from_tensor(&r->arrays[a].tensor, name_of(r, a), &given.views[a], &message);
        if (status != FOVEA_OK) return raise_status(status, message.text), -1;
    }
    given.present = r->taken;
    for (uint32_t rest = r->asked; rest; rest &= rest - 1) {
        int a = __builtin_ctz(rest);
        fovea_view wanted;
        *known &= find_outcome(r, &given, a, &wanted);
        if (array_make(first_array(r), &wanted, name_of(r, a), &r->arrays[a]) < 0) return -1;
        r->taken |= 1u << a;
    }
    return 0;
}

#define DEFAULT_STREAM ((void *)1) /* cudaStreamLegacy */

static int find_context(request *r) {
    const array *first = first_array(r);
    DLDevice device = first ? first->tensor.device : (DLDevice){kDLCPU, 0};
    void *stream = NULL;
    r->wait = false;
    if (device.device_type == kDLCUDA) {
        if (first->exchange && first->exchange->stream(kDLCUDA, device.device_id, &stream))
            return -1;
        /* NULL, the default stream, would ask a context for one of its own, which waits for nobody: a
         * call would begin before what made its tensors has ended. */
        if (!stream) stream = DEFAULT_STREAM;
        r->wait = !first->exchange;
    }
    r->context = session_context(device, stream);
    return r->context ? 0 : -1;
}

static void point(request *r) {
    const binding *b = r->binding;
    for (int a = 0; b->kernel->arguments[a].name; a++) {
        DLTensor *tensor = r->taken >> a & 1 ? &r->arrays[a].tensor : NULL;
        if (!b->kernel->arguments[a].optional)
            r->tensors[r->count++] = tensor;
        else if (tensor)
            memcpy(r->options + b->layout->argument[a], &tensor, sizeof tensor);
    }
}

static int prepare(request *r, PyObject *const *values, Py_ssize_t given, PyObject *names) {
    bool known;
    if (parse(r, values, given, names) < 0 || make_results(r, &known) < 0 || find_context(r) < 0)
        return -1;
    point(r);
    if (known) return 0;
    fovea_message message;
    fovea_problem problem;
    _Alignas(16) char storage[FOVEA_OPTIONS_SIZE_MAX];
    fovea_status status =
        fovea_problem_create(r->binding->function->kernel, (const DLTensor *const *)r->tensors,
                             r->count, r->options, storage, &problem, &message);
    if (status != FOVEA_OK) return raise_status(status, message.text), -1;
    PyErr_Format(invalid_value, "out must be given to %s: the arrays do not say its shape",
                 r->binding->function->name);
    return -1;
}

static void release(request *r) {
    for (uint32_t rest = r->taken; rest; rest &= rest - 1)
        array_release(&r->arrays[__builtin_ctz(rest)]);
}

/* ---- The call --------------------------------------------------------------------------------- */

static int run(request *r) {
    fovea_status status;
    Py_BEGIN_ALLOW_THREADS session_enter();
    status = fovea_call_kernel(r->context, r->binding->function->kernel,
                               (const DLTensor *const *)r->tensors, r->count, r->options);
    if (status == FOVEA_OK && r->wait) status = fovea_synchronize(r->context);
    session_leave();
    Py_END_ALLOW_THREADS if (status == FOVEA_OK) return 0;
    return raise_status(status, fovea_last_message(r->context)), -1;
}

static PyObject *result(request *r, int argument) {
    array *made = &r->arrays[argument];
    if (r->asked >> argument & 1) return array_finish(made, first_array(r));
    Py_INCREF(made->object);
    return made->object;
}

static PyObject *results(request *r) {
    const binding *b = r->binding;
    int present[FOVEA_ARGUMENTS_MAX], count = 0;
    for (int i = 0; i < b->all_results; i++)
        if (r->taken >> b->results[i] & 1) present[count++] = b->results[i];
    if (count == 1) return result(r, present[0]);
    if (count == 0) Py_RETURN_NONE;
    PyObject *all = PyTuple_New(count);
    for (int i = 0; all && i < count; i++) {
        PyObject *one = result(r, present[i]);
        if (!one || PyTuple_SetItem(all, i, one) < 0) Py_CLEAR(all);
    }
    return all;
}

static const char capsule_name[] = "fovea.kernel";

static PyObject *call(PyObject *self, PyObject *const *values, Py_ssize_t given, PyObject *names) {
    request r;
    r.binding = PyCapsule_GetPointer(self, capsule_name);
    PyObject *returned = NULL;
    if (prepare(&r, values, given, names) == 0 && run(&r) == 0) returned = results(&r);
    release(&r);
    return returned;
}

/* ---- What else can be asked of a kernel -------------------------------------------------------- */

static binding *bindings;
static int binding_count;

/* _route(name, *arrays, **options): how the call would be served. */
static PyObject *route(PyObject *self, PyObject *const *values, Py_ssize_t given, PyObject *names) {
    (void)self;
    request r = {.taken = 0};
    if (given < 1 || !PyUnicode_Check(values[0])) {
        PyErr_SetString(invalid_type,
                        "route takes the name of a kernel, then what the kernel takes");
        return NULL;
    }
    for (int i = 0; i < binding_count && !r.binding; i++)
        if (PyUnicode_CompareWithASCIIString(values[0], bindings[i].function->name) == 0)
            r.binding = &bindings[i];
    if (!r.binding) return PyErr_Format(invalid_value, "there is no kernel %R", values[0]);
    PyObject *returned = NULL;
    if (prepare(&r, values + 1, given - 1, names) == 0) {
        fovea_route found;
        fovea_status status = fovea_explain(r.context, r.binding->kernel->name, r.tensors, r.count,
                                            r.options, &found);
        returned = status != FOVEA_OK
                       ? raise_status(status, fovea_last_message(r.context))
                       : Py_BuildValue("(sssddOs)", found.implementation, found.reason,
                                       found.runner_up, found.seconds, found.runner_up_seconds,
                                       found.measured ? Py_True : Py_False, found.declined);
    }
    release(&r);
    return returned;
}

static PyObject *list_names(const char *(*name)(const char *kernel, size_t index),
                            const char *kernel) {
    PyObject *list = PyList_New(0);
    const char *text;
    for (size_t i = 0; list && (text = name(kernel, i)); i++) {
        PyObject *item = PyUnicode_FromString(text);
        if (!item || PyList_Append(list, item) < 0) Py_CLEAR(list);
        Py_XDECREF(item);
    }
    PyObject *names = list ? PyList_AsTuple(list) : NULL;
    Py_XDECREF(list);
    return names;
}

static const char *kernel_name(const char *kernel, size_t index) {
    (void)kernel;
    return fovea_kernel_name(index);
}

static PyObject *kernels(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    return list_names(kernel_name, NULL);
}

static PyObject *implementations(PyObject *self, PyObject *arguments) {
    (void)self;
    const char *kernel;
    if (!PyArg_ParseTuple(arguments, "s", &kernel)) return NULL;
    if (fovea_catalogue_find(kernel) < 0)
        return PyErr_Format(invalid_value, "there is no kernel '%s'", kernel);
    return list_names(fovea_implementation_name, kernel);
}

static PyObject *version(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    return PyUnicode_FromString(fovea_version());
}

static PyMethodDef functions[] = {
    {"_route", (PyCFunction)(void (*)(void))route, METH_FASTCALL | METH_KEYWORDS,
     "_route($module, kernel, /, *arrays, **options)\n--\n\nHow a call would be served."},
    {"kernels", kernels, METH_NOARGS, "kernels($module)\n--\n\nThe names of all kernels."},
    {"implementations", implementations, METH_VARARGS,
     "implementations($module, kernel, /)\n--\n\n"
     "The implementations of a kernel that were built, by their full names."},
    {"version", version, METH_NOARGS, "version($module)\n--\n\nThe version of the library."},
    {0}};

static int add_function(PyObject *module, PyObject *module_name, binding *b,
                        PyMethodDef *definition) {
    *definition = (PyMethodDef){b->function->name, (PyCFunction)(void (*)(void))call,
                                METH_FASTCALL | METH_KEYWORDS, b->function->documentation};
    PyObject *self = PyCapsule_New(b, capsule_name, NULL);
    PyObject *function = self ? PyCFunction_NewEx(definition, self, module_name) : NULL;
    Py_XDECREF(self);
    int added = function ? PyModule_AddObjectRef(module, b->function->name, function) : -1;
    Py_XDECREF(function);
    return added;
}

int kernels_add(PyObject *module) {
    while (kernel_functions[binding_count].name) binding_count++;
    bindings = calloc((size_t)binding_count, sizeof *bindings);
    PyMethodDef *definitions = calloc((size_t)binding_count, sizeof *definitions);
    PyObject *name = PyUnicode_InternFromString("fovea");
    int added = name && bindings && definitions ? 0 : -1;
    for (int i = 0; i < binding_count && added == 0; i++) {
        added = bind(&bindings[i], &kernel_functions[i]) ? 0 : -1;
        if (added == 0) added = add_function(module, name, &bindings[i], &definitions[i]);
    }
    Py_XDECREF(name);
    if (added < 0) return PyErr_Occurred() ? -1 : (PyErr_NoMemory(), -1);
    return PyModule_AddFunctions(module, functions);
}
