/* Domain 6, attention: its table for CUDA. */
#include "cuda/kernel.cuh"

extern "C" const fovea_implementation fovea_cuda_attention[] = {{}};
