/* The general kernel for heads of at most 64 elements. */
#include "cuda/attention/general.cuh"

FOVEA_CUDA_GENERAL(64)
