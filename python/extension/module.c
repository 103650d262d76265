/* The extension module: the parts of it put together. */
#include "array.h"
#include "errors.h"
#include "kernels.h"
#include "session.h"

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "fovea._fovea",
                                        .m_doc = "The kernels of Fovea, and what is around them.",
                                        .m_size = -1};

PyMODINIT_FUNC PyInit__fovea(void) {
    PyObject *module = PyModule_Create(&definition);
    if (!module) return NULL;
    if (errors_add(module) == 0 && arrays_prepare(module) == 0 && session_prepare(module) == 0 &&
        kernels_add(module) == 0)
        return module;
    Py_DECREF(module);
    return NULL;
}
