/* The general kernel for heads of at most 256 elements. */
#include "cuda/attention/general.cuh"

FOVEA_CUDA_GENERAL(256)
