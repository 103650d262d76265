/* Verification of problems that are too large for a reference of all of it: kernels that treat each
 * element or row of their tensors by itself are compared on slices, at both ends and between. */
#ifndef FOVEA_TOOLS_SLICES_H
#define FOVEA_TOOLS_SLICES_H

#include "catalogue/case.h"
#include "verify.h"

typedef struct fovea_slices fovea_slices;

/* Whether what comes out of a slice of the first dimension depends on that slice of the inputs alone. */
bool fovea_slices_apply(const fovea_sample *sample);
/* Runs the reference on some slices, as fovea_verification_create does on the whole. NULL: no memory. */
fovea_slices *fovea_slices_create(const fovea_sample *sample, uint64_t seed);
void fovea_slices_destroy(fovea_slices *slices);

/* The verdict of the worst slice, with the elements of all counted. */
void fovea_slices_verify(const fovea_slices *slices, fovea_verdict *verdict);

#endif
