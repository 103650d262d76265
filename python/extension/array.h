/* Arrays of whatever library as DLTensors, and new ones for results. */
#ifndef FOVEA_PYTHON_ARRAY_H
#define FOVEA_PYTHON_ARRAY_H

#include "exchange.h"
#include "python.h"
#include "runtime/view.h"

typedef enum kind {
    KIND_NUMPY,
    KIND_TORCH,
    KIND_JAX,
    KIND_MLX,
    KIND_CUPY,
    KIND_OURS,
    KIND_OTHER
} kind;

typedef struct array {
    DLTensor tensor;
    PyObject *object; /* the array; owned */
    PyObject
        *holder; /* keeps alive what `tensor` points to, where that is not the object; or NULL */
    const exchange_table *exchange; /* of its type, or NULL */
    kind kind;
    bool read_only, copied;
    int64_t shape[FOVEA_RANK_MAX], strides[FOVEA_RANK_MAX]; /* where the producer's do not serve */
} array;

int arrays_prepare(PyObject *module);

/* Borrows an object's memory, without copying and without a word to a stream of CUDA, whatever its
 * strides. 0, or -1 with an exception that names the argument. */
int array_take(PyObject *object, const char *name, array *taken);

/* A new array of the kind and on the device of another (NULL: NumPy's), its memory not set. Some kinds
 * are made of our own memory: array_finish makes what the caller gets, once the memory is written. */
int array_make(const array *like, const fovea_view *wanted, const char *name, array *made);
PyObject *array_finish(array *made, const array *like); /* a new reference */

void array_release(array *taken);

/* fovea.Memory: aligned memory of our own that speaks DLPack. */
PyObject *memory_new(const fovea_view *wanted, DLTensor **tensor);
int memory_add(PyObject *module);

#endif
