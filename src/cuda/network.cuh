/* What the rows of losses, normalization and quantization say of a problem, for C++. */
#ifndef FOVEA_CUDA_NETWORK_CUH
#define FOVEA_CUDA_NETWORK_CUH

#define _Alignas alignas
extern "C" {
#include "catalogue/network.h"
}
#undef _Alignas

#endif
