/* The work of the fused kernels by our own kernels, one after another: what fusing is measured against. */
#ifndef FOVEA_TOOLS_BENCH_STEPS_H
#define FOVEA_TOOLS_BENCH_STEPS_H

#include "catalogue/case.h"

typedef struct fovea_steps fovea_steps;

/* Room for what lies between the steps of such a problem of a kernel of the catalogue. NULL with why empty:
 * it is not fused; NULL with a reason in why: the steps do not serve the problem, or memory is short. */
fovea_steps *fovea_steps_create(const char *kernel, const fovea_problem *problem, char *why,
                                size_t size);
void fovea_steps_destroy(fovea_steps *steps);

/* The steps, with whatever implementations the context chooses. */
bool fovea_steps_run(const fovea_steps *steps, fovea_context *context, const fovea_sample *sample);

#endif
