/* Exceptions: those of the package, each also one of Python's, with the library's sentences. */
#ifndef FOVEA_PYTHON_ERRORS_H
#define FOVEA_PYTHON_ERRORS_H

#include "python.h"

#include <fovea/fovea.h>

extern PyObject *invalid_value, *invalid_type, *out_of_memory, *unsupported;

int errors_add(PyObject *module); /* 0, or -1 with an exception, as all functions here */

/* Raises what belongs to a status. Returns NULL. */
void *raise_status(fovea_status status, const char *sentence);

/* What a producer of an array raised, as ours with it as the cause: «q: sentence». Returns -1. */
int raise_from_producer(const char *name);

#endif
