/* Instructions that CUDA C++ has no function for. */
#ifndef FOVEA_CUDA_INSTRUCTIONS_CUH
#define FOVEA_CUDA_INSTRUCTIONS_CUH

#include <stdint.h>

/* The larger or the smaller of two; NaN if one is. */
static __device__ __forceinline__ float max_or_nan(float a, float b) {
    float y;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
    return y;
}
static __device__ __forceinline__ float min_or_nan(float a, float b) {
    float y;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
    return y;
}

/* 1/x to 1 ULP and 2^x to 2^-22, subnormal results as 0. */
static __device__ __forceinline__ float quick_reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
static __device__ __forceinline__ float quick_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* A word that other blocks are told by, and what they wait for it with: what was written before the one
 * is seen after the other. */
static __device__ __forceinline__ void store_release(unsigned *to, unsigned value) {
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}
static __device__ __forceinline__ unsigned load_acquire(const unsigned *from) {
    unsigned value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
    return value;
}

#endif
