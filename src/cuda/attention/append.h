/* kv_append on the device, for the table of attention. */
#ifndef FOVEA_CUDA_ATTENTION_APPEND_H
#define FOVEA_CUDA_ATTENTION_APPEND_H

#include "cuda/device.h"

#ifdef __cplusplus
extern "C" {
#endif

#include "catalogue/append.h"

bool fovea_cuda_append_serves(const fovea_problem *problem, char *reason, size_t size);
fovea_status fovea_cuda_append(const fovea_problem *problem, fovea_run *run);

#ifdef __cplusplus
}
#endif

#endif
