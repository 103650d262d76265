/* Calls that repeat: a program calls a kernel with tensors of the same shapes again and again, so what
 * was checked once is kept, and the next call is only compared with it. Kept are the dtypes, extents,
 * strides and parameters, which decide all that is checked but addresses and contents; those are
 * checked in every call. Checking `map_add` of one element takes 60 ns, comparing 15. */
#ifndef FOVEA_CATALOGUE_REPEAT_H
#define FOVEA_CATALOGUE_REPEAT_H

#include "catalogue/problem.h"

typedef struct fovea_repeat {
    bool kept;
    bool standard;         /* the options were NULL */
    bool contents;         /* fovea_depends_on_contents */
    uint32_t dense;        /* bit a: the strides of argument a are those of no strides */
    fovea_problem problem; /* of the last call */
    DLDataType types[FOVEA_ARGUMENTS_MAX];
    int64_t low[FOVEA_ARGUMENTS_MAX], high[FOVEA_ARGUMENTS_MAX]; /* bytes from the first element */
    _Alignas(16) char options[FOVEA_OPTIONS_SIZE_MAX];           /* defaults, or the parameters */
} fovea_repeat;

/* fovea_problem_create, into repeat->problem, quickly if the call is like the last that was kept.
 * repeated: whether it was. */
fovea_status fovea_problem_repeat(fovea_repeat *repeat, int kernel, const DLTensor *const *tensors,
                                  size_t count, const void *options, bool *repeated,
                                  fovea_message *message);

#endif
