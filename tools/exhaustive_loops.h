/* The loops of `fovea check --exhaustive` that run over 2^32 inputs: unary functions in double without
 * a call, so that they become vector code, and the comparison with what an implementation made. */
#ifndef FOVEA_TOOLS_EXHAUSTIVE_LOOPS_H
#define FOVEA_TOOLS_EXHAUSTIVE_LOOPS_H

#include "catalogue/problem.h"

/* y = f(x) of a unary problem, within 2^-40 of the reference wherever f32 has normal numbers, and
 * any infinity's neighbour beyond 2^129. False: there are no loops for this kernel. */
bool fovea_exhaustive_values(const fovea_problem *problem, const double *x, double *y, int64_t n);

/* f32, f16 or bf16 as doubles. */
void fovea_exhaustive_widen(fovea_dtype dtype, const void *from, double *to, int64_t n);

/* The largest of a block. Elements that are beyond the bound, not finite or at the overflow threshold
 * are only counted (`odd`): who asks looks at them one by one. */
typedef struct fovea_block_worst {
    double ulps;  /* of the output, where the expected value is a normal number */
    double share; /* of the bound */
    int64_t odd;
} fovea_block_worst;
fovea_block_worst fovea_exhaustive_compare(fovea_dtype output, const double *expected,
                                           const double *bound, const double *actual, int64_t n);

/* The distance of one element in ULP as fovea_block_worst counts it. */
double fovea_exhaustive_ulps(fovea_dtype output, double expected, double actual);

#endif
