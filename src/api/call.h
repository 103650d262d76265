/* The way from a typed function to an implementation. */
#ifndef FOVEA_API_CALL_H
#define FOVEA_API_CALL_H

#include <fovea/fovea.h>

/* kernel: its index in the catalogue. tensors: the required arguments, in order. */
fovea_status fovea_call_kernel(fovea_context *context, int kernel, const DLTensor *const *tensors,
                               size_t count, const void *options);

#endif
