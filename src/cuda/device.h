/* What the files of libfovea_cuda share with one another on the host. */
#ifndef FOVEA_CUDA_DEVICE_H
#define FOVEA_CUDA_DEVICE_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "cuda/backend.h"

/* 90 is 9.0; 0 for a device that is not open. */
int fovea_cuda_capability(int device);

int fovea_cuda_shared_bytes(int device); /* that a block may have */
int fovea_cuda_multiprocessors(int device);

/* The status of a launch, given what cudaGetLastError returned, with its words in run->reason. */
fovea_status fovea_cuda_launched(fovea_run *run, int code);

int fovea_cuda_probe_launch(fovea_cuda_probe probe, void *memory, size_t bytes, cudaStream_t stream,
                            double *work);

#define FOVEA_CUDA_DOMAIN(name) extern const fovea_implementation fovea_cuda_table_##name[];
#include "cuda/domains.h"
#undef FOVEA_CUDA_DOMAIN

#ifdef __cplusplus
}
#endif

#endif
