/* What kernels for few elements have in common: in them each instruction and each trip counts. */
#ifndef FOVEA_CUDA_BRIEF_CUH
#define FOVEA_CUDA_BRIEF_CUH

#include "cuda/kernel.cuh"

#include <math.h>

/* Numbers in the order of f32, the greatest for NaN; the other way round for the smallest. */
template <bool largest>
static __device__ __forceinline__ unsigned key_of(float x) {
    const unsigned bits = __float_as_uint(x), up = bits ^ ((unsigned)((int)bits >> 31) | 1u << 31);
    return isnan(x) ? UINT32_MAX : largest ? up : ~up;
}
template <bool largest>
static __device__ __forceinline__ float value_of_key(unsigned key) {
    const unsigned up = largest ? key : ~key, bits = up ^ ((unsigned)((int)~up >> 31) | 1u << 31);
    return key == UINT32_MAX ? NAN : __uint_as_float(bits);
}

/* Sums of two numbers over a warp at once: its halves take one each after the first of six exchanges. */
static __device__ __forceinline__ double2 sum_pair(double a, double b) {
    const bool low = threadIdx.x % 32 < 16;
    double sum = (low ? a : b) + shuffle_xor(low ? b : a, 16);
#pragma unroll
    for (int step = 8; step > 0; step /= 2) sum += shuffle_xor(sum, step);
    const double other = shuffle_xor(sum, 16);
    return low ? make_double2(sum, other) : make_double2(other, sum);
}

/* Of sums over a row of differences from its pivot and of their squares: the mean, and the sum of squared differences
 * from that. part: 1 / columns. */
static __device__ __forceinline__ float moments_of(double2 sums, double part, float pivot,
                                                   float *mean) {
    const double middle = sums.x * part;
    *mean = (float)((double)pivot + middle);
    const double rest = sums.y - sums.x * middle;
    return rest < 0 ? 0 : (float)rest; /* NaN stays */
}

/* Reads a word of every 64 bytes of a kernel's parameter, so that its lines are in the constant cache when the kernel has
 * waited for the stream: each costs 0.1 µs after. The sleep, of no time, keeps them from being dropped. */
template <class P>
static __device__ __forceinline__ void ready_parameters(const P &parameter) {
    if constexpr (alignof(P) >= 4) {
        const unsigned *words = (const unsigned *)&parameter;
        unsigned all = words[0] ^ words[sizeof(P) / 4 - 1];
#pragma unroll
        for (size_t i = 16; i < sizeof(P) / 4; i += 16) all ^= words[i];
        asm volatile(
            "{.reg .pred never; setp.eq.u32 never, %0, 0x7ed55d16; @never nanosleep.u32 0;}" ::"r"(
                all));
    }
}

#endif
