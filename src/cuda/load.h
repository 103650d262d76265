/* Finds and loads the library of the CUDA backend, once, where there is a driver. */
#ifndef FOVEA_CUDA_LOAD_H
#define FOVEA_CUDA_LOAD_H

#include "cuda/backend.h"

/* NULL where it is not to be had. Touches no device. */
const fovea_cuda_backend *fovea_cuda_get(void);
/* One sentence: which library was loaded, or why none was. */
const char *fovea_cuda_state(void);

#endif
