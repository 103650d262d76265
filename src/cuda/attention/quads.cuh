/* Moving results of matrix products between the four lanes that share a row, and rounding them. */
#ifndef FOVEA_CUDA_ATTENTION_QUADS_CUH
#define FOVEA_CUDA_ATTENTION_QUADS_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

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

/* Two numbers rounded to one word of halves, the first in the low bits. */
template <class T>
static __device__ __forceinline__ uint32_t pack_two(float low, float high);
template <>
__device__ __forceinline__ uint32_t pack_two<__half>(float low, float high) {
    uint32_t word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}
template <>
__device__ __forceinline__ uint32_t pack_two<__nv_bfloat16>(float low, float high) {
    uint32_t word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}

#endif
