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

/* Sums over a warp, by products with ones on the tensor cores: 26 cycles for as much as two exchanges and additions do in
 * 70. Of eight lanes first, then of four such: columns of `eights` have a sum each. */
static __device__ __forceinline__ double sum_of_eight(double x) {
    double c[2] = {0, 0};
    multiply_8x8x4(c, 1, x);
    return c[0] + c[1];
}
static __device__ __forceinline__ double2 sums_of_eights(double eights) {
    double c[2] = {0, 0};
    multiply_8x8x4(c, 1, eights);
    return make_double2(c[0], c[1]);
}
/* Of two numbers, for all lanes. */
static __device__ __forceinline__ double2 sum_pair(double a, double b) {
    const double of_a = sum_of_eight(a), of_b = sum_of_eight(b);
    return sums_of_eights(threadIdx.x / 4 % 2 ? of_b : of_a);
}

/* Of one, for all lanes; f32 is summed in f64. */
static __device__ __forceinline__ float sum_of_warp(float x) {
    return (float)sums_of_eights(sum_of_eight((double)x)).x;
}

/* Of sums over a row of differences from its pivot and of their squares: the mean, and the variance. part:
 * 1 / columns. */
static __device__ __forceinline__ float moments_of(double2 sums, double part, float pivot,
                                                   float *mean) {
    const double middle = sums.x * part;
    *mean = (float)((double)pivot + middle);
    const float variance = (float)(fma(-sums.x, middle, sums.y) * part);
    return variance < 0 ? 0 : variance; /* NaN stays */
}

/* e^x to 2^-21, |x| at most BRIEF_NEAR: what rounding the exponent of 2 loses is given back. */
#define BRIEF_NEAR 60.0f
static __device__ __forceinline__ float near_exp(float x) {
    const float exponent = x * 1.44269502f;
    const float lost = fmaf(x, 1.92596303e-8f, fmaf(x, 1.44269502f, -exponent));
    const float e = quick_exp2(exponent);
    return fmaf(e, lost * 0.693147182f, e);
}

/* ln x of a normal number: a multiple of ln 2 of so few bits that what lies near it loses nothing where it is taken from
 * that, and the rest. */
struct ln_parts {
    float high, low;
};
static __device__ __forceinline__ ln_parts ln_in_parts(float x) {
    const unsigned bits = __float_as_uint(x);
    const float exponent = __uint_as_float(0x4b400000u + (bits >> 23)) - 12583039.0f;
    const float fraction = __uint_as_float((bits & 0x7fffffu) | 0x3f800000u);
    return {exponent * 0.693145752f,
            fmaf(exponent, 1.42860682e-6f, 0.693147182f * quick_log2(fraction))};
}

/* What is computed before a kernel waits, where the assembler would compute it after: it is looked at by an instruction
 * that is never done, and does nothing where it were. Predicated, where a sleep would be branched around. */
static __device__ __forceinline__ void settle(size_t &number) {
#if __CUDA_ARCH__ >= 900
    asm volatile("{.reg .pred never; setp.eq.u64 never, %0, 1;\n\t"
                 "@never griddepcontrol.launch_dependents;}"
                 : "+l"(number));
#endif
}
static __device__ __forceinline__ void settle(unsigned &number) {
#if __CUDA_ARCH__ >= 900
    asm volatile("{.reg .pred never; setp.eq.u32 never, %0, 0x7ed55d16;\n\t"
                 "@never griddepcontrol.launch_dependents;}"
                 : "+r"(number));
#endif
}
template <class T>
static __device__ __forceinline__ T *settled_global(T *at) {
    size_t address = __cvta_generic_to_global(at);
    settle(address);
    return (T *)__cvta_global_to_generic(address);
}
template <class T>
static __device__ __forceinline__ T *settled_shared(T *at) {
    unsigned address = (unsigned)__cvta_generic_to_shared(at);
    settle(address);
    return (T *)__cvta_shared_to_generic(address);
}

/* Reads a word of every 64 bytes of a kernel's parameter, so that its lines are in the constant cache when the kernel has
 * waited for the stream: each costs 0.1 µs after. */
template <class P>
static __device__ __forceinline__ void ready_parameters(const P &parameter) {
    if constexpr (alignof(P) >= 4) {
        const unsigned *words = (const unsigned *)&parameter;
        unsigned all = words[0] ^ words[sizeof(P) / 4 - 1];
#pragma unroll
        for (size_t i = 16; i < sizeof(P) / 4; i += 16) all ^= words[i];
        settle(all);
    }
}

#endif
