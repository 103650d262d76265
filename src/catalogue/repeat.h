/* Calls that repeat: a program calls a kernel with tensors of the same shapes again and again, so what
 * was checked once is kept, and the next call is only compared with it. Kept are the dtypes, extents,
 * strides and parameters, which decide all that is checked but addresses and contents; those are
 * checked in every call. Checking `map_add` of one element takes 60 ns, comparing 15. */
#ifndef FOVEA_CATALOGUE_REPEAT_H
#define FOVEA_CATALOGUE_REPEAT_H

#include "catalogue/problem.h"

/* A tensor that is given, as it is compared. */
typedef struct fovea_repeat_tensor {
    int argument;
    uint16_t place; /* among the required tensors, or where the options have it */
    bool optional, written;
    bool dense; /* its strides are those of no strides */
    struct {    /* as a DLTensor has them */
        DLDevice device;
        int32_t ndim;
        DLDataType dtype;
    } head;
    uintptr_t unaligned; /* bits that its address may not have */
    int64_t low, high;   /* bytes from the first element; both 0: it has no elements */
} fovea_repeat_tensor;

typedef struct fovea_repeat {
    bool kept;
    bool standard;         /* the options were NULL */
    bool contents;         /* fovea_depends_on_contents */
    fovea_problem problem; /* of the last call */
    size_t required;       /* tensors */
    uint32_t optional;     /* bit i: the i-th tensor of the options is given */
    int count;
    fovea_repeat_tensor tensors[FOVEA_ARGUMENTS_MAX];
    _Alignas(16) char options[FOVEA_OPTIONS_SIZE_MAX]; /* defaults, or the parameters */
} fovea_repeat;

/* fovea_problem_create, into repeat->problem, quickly if the call is like the last that was kept.
 * repeated: whether it was. */
fovea_status fovea_problem_repeat(fovea_repeat *repeat, int kernel, const DLTensor *const *tensors,
                                  size_t count, const void *options, bool *repeated,
                                  fovea_message *message);

#endif
