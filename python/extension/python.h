/* Python's header, limited to the stable ABI of 3.10: one extension for that version and all later. */
#ifndef FOVEA_PYTHON_PYTHON_H
#define FOVEA_PYTHON_PYTHON_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030A0000
#include <Python.h>

#endif
