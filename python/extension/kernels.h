/* The kernels as functions of Python: what the generator writes, and what becomes of it. */
#ifndef FOVEA_PYTHON_KERNELS_H
#define FOVEA_PYTHON_KERNELS_H

#include "python.h"

/* A kernel, or a preset of one with a parameter fixed. Generated. */
typedef struct kernel_function {
    const char *name;
    int kernel;    /* in the catalogue */
    int parameter; /* that is fixed, or -1 */
    double value;
    const char *documentation;
} kernel_function;
extern const kernel_function kernel_functions[]; /* ends with a name of NULL */

int kernels_add(PyObject *module);

#endif
