/* What every CPU domain starts from: the vector vocabulary of its tier, the names that a table row
 * needs, and elements of a dtype that the compiler knows as vectors of floats. */
#ifndef FOVEA_CPU_KERNEL_H
#define FOVEA_CPU_KERNEL_H

#include "catalogue/implementation.h"
#include "cpu/simd/simd.h"

#if defined(FOVEA_TIER_SCALAR)
    #define FOVEA_TIER_HERE FOVEA_TIER_SCALAR
    #define FOVEA_CPU_NAME(algorithm) "cpu/scalar/" algorithm
#elif defined(FOVEA_TIER_AVX2)
    #define FOVEA_TIER_HERE FOVEA_TIER_AVX2
    #define FOVEA_CPU_NAME(algorithm) "cpu/avx2/" algorithm
#elif defined(FOVEA_TIER_AMX)
    #define FOVEA_TIER_HERE FOVEA_TIER_AMX
    #define FOVEA_CPU_NAME(algorithm) "cpu/amx/" algorithm
#elif defined(FOVEA_TIER_AVX512)
    #define FOVEA_TIER_HERE FOVEA_TIER_AVX512
    #define FOVEA_CPU_NAME(algorithm) "cpu/avx512/" algorithm
#elif defined(FOVEA_TIER_NEON)
    #define FOVEA_TIER_HERE FOVEA_TIER_NEON
    #define FOVEA_CPU_NAME(algorithm) "cpu/neon/" algorithm
#endif

/* For functions whose arguments are meant as constants: a dtype, an operation. */
#define FOVEA_INLINE static inline __attribute__((always_inline))

/* Elements i, i+1, ... of an array of f32, f16, bf16 or u8; loads also of i8 and e4m3. */
FOVEA_INLINE vf vf_load_as(fovea_dtype dtype, const void *p, int64_t i) {
    if (dtype == FOVEA_F16) return vf_load_f16((const uint16_t *)p + i);
    if (dtype == FOVEA_BF16) return vf_load_bf16((const uint16_t *)p + i);
    if (dtype == FOVEA_U8) return vf_from_vi(vi_load_u8_n((const uint8_t *)p + i, VF_WIDTH));
    if (dtype == FOVEA_I8) return vf_load_i8((const uint8_t *)p + i);
    if (dtype == FOVEA_E4M3) return vf_load_e4m3((const uint8_t *)p + i);
    return vf_load((const float *)p + i);
}
FOVEA_INLINE vf vf_load_n_as(fovea_dtype dtype, const void *p, int64_t i, int64_t n) {
    if (dtype == FOVEA_F16) return vf_load_f16_n((const uint16_t *)p + i, (size_t)n);
    if (dtype == FOVEA_BF16) return vf_load_bf16_n((const uint16_t *)p + i, (size_t)n);
    if (dtype == FOVEA_U8) return vf_from_vi(vi_load_u8_n((const uint8_t *)p + i, (size_t)n));
    if (dtype == FOVEA_I8) return vf_load_i8_n((const uint8_t *)p + i, (size_t)n);
    if (dtype == FOVEA_E4M3) return vf_load_e4m3_n((const uint8_t *)p + i, (size_t)n);
    return vf_load_n((const float *)p + i, (size_t)n);
}
FOVEA_INLINE void vf_store_as(fovea_dtype dtype, void *p, int64_t i, vf x) {
    if (dtype == FOVEA_F16)
        vf_store_f16((uint16_t *)p + i, x);
    else if (dtype == FOVEA_BF16)
        vf_store_bf16((uint16_t *)p + i, x);
    else if (dtype == FOVEA_U8)
        vi_store_u8_n((uint8_t *)p + i, vi_truncate_vf(x), VF_WIDTH);
    else
        vf_store((float *)p + i, x);
}
FOVEA_INLINE void vf_store_n_as(fovea_dtype dtype, void *p, int64_t i, vf x, int64_t n) {
    if (dtype == FOVEA_F16)
        vf_store_f16_n((uint16_t *)p + i, x, (size_t)n);
    else if (dtype == FOVEA_BF16)
        vf_store_bf16_n((uint16_t *)p + i, x, (size_t)n);
    else if (dtype == FOVEA_U8)
        vi_store_u8_n((uint8_t *)p + i, vi_truncate_vf(x), (size_t)n);
    else
        vf_store_n((float *)p + i, x, (size_t)n);
}
FOVEA_INLINE void vf_stream_as(fovea_dtype dtype, void *p, int64_t i, vf x) {
    if (dtype == FOVEA_F16)
        vf_stream_f16((uint16_t *)p + i, x);
    else if (dtype == FOVEA_BF16)
        vf_stream_bf16((uint16_t *)p + i, x);
    else
        vf_stream((float *)p + i, x);
}

/* How many elements lie before the first whole line: a line that is written partly past the caches and partly not
 * costs hundreds of cycles. */
enum { LINE_BYTES = 64 };
FOVEA_INLINE int64_t elements_to_alignment(fovea_dtype dtype, const void *p) {
    return (int64_t)(-(uintptr_t)p & (LINE_BYTES - 1)) / (dtype == FOVEA_F32 ? 4 : 2);
}

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

#endif
