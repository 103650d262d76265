/* The extension module: the parts of it put together. */
#include "array.h"
#include "errors.h"
#include "kernels.h"
#include "session.h"

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "fovea._fovea",
                                        .m_doc = "The kernels of Fovea, and what is around them.",
                                        .m_size = -1};

/* __all__: what has no underscore in front. */
static int add_public_names(PyObject *module) {
    PyObject *names = PyDict_Keys(PyModule_GetDict(module)), *public = PyList_New(0);
    int added = names && public ? 0 : -1;
    for (Py_ssize_t i = 0; added == 0 && i < PyList_Size(names); i++) {
        PyObject *name = PyList_GetItem(names, i), *underscore = PyUnicode_FromString("_");
        Py_ssize_t private = underscore ? PyUnicode_Tailmatch(name, underscore, 0, 1, -1) : -1;
        Py_XDECREF(underscore);
        added = private < 0 ? -1 : private ? 0 : PyList_Append(public, name);
    }
    if (added == 0) added = PyModule_AddObjectRef(module, "__all__", public);
    Py_XDECREF(public);
    Py_XDECREF(names);
    return added;
}

PyMODINIT_FUNC PyInit__fovea(void) {
    PyObject *module = PyModule_Create(&definition);
    if (!module) return NULL;
    if (errors_add(module) == 0 && arrays_prepare(module) == 0 && session_prepare(module) == 0 &&
        kernels_add(module) == 0 && add_public_names(module) == 0)
        return module;
    Py_DECREF(module);
    return NULL;
}
