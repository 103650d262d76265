#include "errors.h"

PyObject *invalid_value, *invalid_type, *out_of_memory, *unsupported;
static PyObject *error, *device_error, *file_error;

static int add(PyObject *module, const char *name, const char *documentation, PyObject *also,
               PyObject **made) {
    char full[64];
    PyObject *bases = also ? PyTuple_Pack(2, error, also) : PyTuple_Pack(1, PyExc_Exception);
    if (!bases) return -1;
    PyOS_snprintf(full, sizeof full, "fovea.%s", name);
    *made = PyErr_NewExceptionWithDoc(full, documentation, bases, NULL);
    Py_DECREF(bases);
    return *made ? PyModule_AddObjectRef(module, name, *made) : -1;
}

int errors_add(PyObject *module) {
    if (add(module, "Error", "Whatever Fovea raises.", NULL, &error) < 0 ||
        add(module, "InvalidValue", "An array or option is wrong; the sentence names it.",
            PyExc_ValueError, &invalid_value) < 0 ||
        add(module, "InvalidType", "Not an array, or an option of a wrong type or name.",
            PyExc_TypeError, &invalid_type) < 0 ||
        add(module, "Unsupported", "The call is valid, but no implementation here serves it.",
            PyExc_NotImplementedError, &unsupported) < 0 ||
        add(module, "OutOfMemory", "Memory could not be had.", PyExc_MemoryError, &out_of_memory) <
            0 ||
        add(module, "FileError", "A file could not be read, or its content is refused.",
            PyExc_OSError, &file_error) < 0)
        return -1;
    return add(module, "DeviceError", "A device failed.", PyExc_RuntimeError, &device_error);
}

void *raise_status(fovea_status status, const char *sentence) {
    PyObject *type = status == FOVEA_INVALID_ARGUMENT ? invalid_value
                     : status == FOVEA_UNSUPPORTED    ? unsupported
                     : status == FOVEA_OUT_OF_MEMORY  ? out_of_memory
                     : status == FOVEA_FILE_ERROR     ? file_error
                     : status == FOVEA_DEVICE_ERROR   ? device_error
                                                      : error;
    PyErr_SetString(type, sentence);
    return NULL;
}

int raise_from_producer(const char *name) {
    PyObject *type, *cause, *trace;
    if (!PyErr_ExceptionMatches(PyExc_Exception)) return -1; /* KeyboardInterrupt and the like */
    bool memory = PyErr_ExceptionMatches(PyExc_MemoryError);
    PyErr_Fetch(&type, &cause, &trace);
    PyErr_NormalizeException(&type, &cause, &trace);
    PyObject *said = cause ? PyObject_Str(cause) : NULL;
    PyObject *lines = said ? PyUnicode_Splitlines(said, 0) : NULL;
    PyObject *first = lines && PyList_Size(lines) > 0 ? PyList_GetItem(lines, 0) : Py_None;
    PyErr_Clear();
    PyErr_Format(memory ? out_of_memory : invalid_value, "%s: %S", name, first);
    Py_XDECREF(lines);
    Py_XDECREF(said);
    PyObject *ours, *our_type, *our_trace;
    PyErr_Fetch(&our_type, &ours, &our_trace);
    PyErr_NormalizeException(&our_type, &ours, &our_trace);
    PyException_SetCause(ours, cause); /* takes the reference */
    PyErr_Restore(our_type, ours, our_trace);
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return -1;
}
