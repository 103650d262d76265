/* Moving results of matrix products between the four lanes that share a row. */
#ifndef FOVEA_CUDA_ATTENTION_QUADS_CUH
#define FOVEA_CUDA_ATTENTION_QUADS_CUH

#include <cstdint>

/* Four words a lane, of columns 2t, 2t+1 of four chunks of 8 columns: afterwards lane t of a
 * quad has all of chunk t. */
static __device__ __forceinline__ void gather_chunks(uint32_t (&w)[4], int t) {
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
        uint32_t got = __shfl_xor_sync(~0u, t & 1 ? w[i] : w[i + 1], 1);
        (t & 1 ? w[i] : w[i + 1]) = got;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t got = __shfl_xor_sync(~0u, t & 2 ? w[i] : w[i + 2], 2);
        (t & 2 ? w[i] : w[i + 2]) = got;
    }
}

#endif
