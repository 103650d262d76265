/* The vocabulary of simd.h at width one, in portable C: the tier that runs everywhere and that the
 * others are compared with. */
#ifndef FOVEA_CPU_SIMD_SIMD_SCALAR_H
#define FOVEA_CPU_SIMD_SIMD_SCALAR_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VF_WIDTH 1

typedef float vf;
typedef int32_t vi;
typedef int vm;

static inline vi vf_as_vi(vf x) {
    vi bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline vf vi_as_vf(vi x) {
    vf value;
    memcpy(&value, &x, sizeof value);
    return value;
}

/* Halves by integer arithmetic: the baseline has no instruction for them. */
static inline float scalar_from_f16(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = (half >> 10) & 31, mantissa = half & 0x3ff;
    if (exponent == 0) {
        float magnitude = (float)mantissa * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    uint32_t bits = exponent == 31 ? 0x7f800000u | mantissa << 13 | (mantissa ? 0x400000u : 0)
                                   : (exponent + 112) << 23 | mantissa << 13;
    return vi_as_vf((vi)(sign | bits));
}
static inline uint16_t scalar_to_f16(float x) {
    uint32_t bits = (uint32_t)vf_as_vi(x), sign = bits >> 16 & 0x8000,
             magnitude = bits & 0x7fffffff;
    uint32_t half;
    if (magnitude > 0x7f800000)
        half = 0x7e00 | (magnitude >> 13 & 0x3ff);
    else if (magnitude >= 0x477ff000)
        half = 0x7c00;
    else if (magnitude < 0x38800000) /* adding 1/2 rounds at 2^-24, the spacing of f16 subnormals */
        half = (uint32_t)vf_as_vi(vi_as_vf((vi)magnitude) + 0.5f) - 0x3f000000;
    else
        half = (magnitude + 0xfff + (magnitude >> 13 & 1) - 0x38000000) >> 13;
    return (uint16_t)(sign | half);
}
static inline float scalar_from_bf16(uint16_t half) { return vi_as_vf((vi)((uint32_t)half << 16)); }
static inline uint16_t scalar_to_bf16(float x) {
    uint32_t bits = (uint32_t)vf_as_vi(x);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Of any alignment, as those of vectors are. */
static inline vf vf_load(const float *p) {
    vf x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline vf vf_load_n(const float *p, size_t n) { return n ? *p : 0.0f; }
static inline void vf_store(float *p, vf x) { memcpy(p, &x, sizeof x); }
static inline void vf_store_n(float *p, vf x, size_t n) {
    if (n) *p = x;
}
static inline vf vf_load_strided(const float *p, ptrdiff_t stride) {
    (void)stride;
    return *p;
}
static inline vf vf_load_strided_n(const float *p, ptrdiff_t stride, size_t n) {
    (void)stride;
    return vf_load_n(p, n);
}
static inline vf vf_gather(const float *p, vi index) { return p[index]; }
static inline void vf_stream(float *p, vf x) { *p = x; }
static inline void vf_stream_fence(void) {}

static inline vf vf_load_f16(const uint16_t *p) { return scalar_from_f16(*p); }
static inline vf vf_load_f16_n(const uint16_t *p, size_t n) {
    return n ? scalar_from_f16(*p) : 0.0f;
}
static inline void vf_store_f16(uint16_t *p, vf x) { *p = scalar_to_f16(x); }
static inline void vf_store_f16_n(uint16_t *p, vf x, size_t n) {
    if (n) *p = scalar_to_f16(x);
}
static inline vf vf_load_bf16(const uint16_t *p) { return scalar_from_bf16(*p); }
static inline vf vf_load_bf16_n(const uint16_t *p, size_t n) {
    return n ? scalar_from_bf16(*p) : 0.0f;
}
static inline void vf_store_bf16(uint16_t *p, vf x) { *p = scalar_to_bf16(x); }
static inline void vf_store_bf16_n(uint16_t *p, vf x, size_t n) {
    if (n) *p = scalar_to_bf16(x);
}

static inline float scalar_from_e4m3(uint8_t x) {
    int exponent = x >> 3 & 15, fraction = x & 7;
    float magnitude =
        exponent ? vi_as_vf((exponent + 120) << 23 | fraction << 20) : (float)fraction * 0x1p-9f;
    if ((x & 0x7f) == 0x7f) magnitude = vi_as_vf(0x7fc00000);
    return x & 0x80 ? -magnitude : magnitude;
}
static inline vf vf_load_i8(const uint8_t *p) { return (float)(int8_t)*p; }
static inline vf vf_load_i8_n(const uint8_t *p, size_t n) { return n ? vf_load_i8(p) : 0.0f; }
static inline vf vf_load_e4m3(const uint8_t *p) { return scalar_from_e4m3(*p); }
static inline vf vf_load_e4m3_n(const uint8_t *p, size_t n) { return n ? vf_load_e4m3(p) : 0.0f; }

static inline void vf_stream_f16(uint16_t *p, vf x) { vf_store_f16(p, x); }
static inline void vf_stream_bf16(uint16_t *p, vf x) { vf_store_bf16(p, x); }

static inline vf vf_set1(float x) { return x; }
static inline vf vf_add(vf a, vf b) { return a + b; }
static inline vf vf_sub(vf a, vf b) { return a - b; }
static inline vf vf_mul(vf a, vf b) { return a * b; }
static inline vf vf_div(vf a, vf b) { return a / b; }
/* fmaf without the instruction is a slow call; the product of two floats is exact in double. */
#ifdef __FP_FAST_FMAF
static inline vf vf_fma(vf a, vf b, vf c) { return fmaf(a, b, c); }
#else
static inline vf vf_fma(vf a, vf b, vf c) { return (float)((double)a * (double)b + (double)c); }
#endif
static inline vf vf_fms(vf a, vf b, vf c) { return vf_fma(a, b, -c); }
static inline vf vf_fnma(vf a, vf b, vf c) { return vf_fma(-a, b, c); }
static inline vf vf_min(vf a, vf b) { return a < b ? a : b; }
static inline vf vf_max(vf a, vf b) { return a > b ? a : b; }
static inline vf vf_abs(vf x) { return fabsf(x); }
static inline vf vf_neg(vf x) { return -x; }
static inline vf vf_copysign(vf magnitude, vf sign) { return copysignf(magnitude, sign); }
static inline vf vf_sqrt(vf x) { return sqrtf(x); }
static inline vf vf_round(vf x) { return rintf(x); }
static inline vf vf_floor(vf x) { return floorf(x); }
static inline vf vf_ceil(vf x) { return ceilf(x); }
static inline vf vf_trunc(vf x) { return truncf(x); }

static inline vm vf_lt(vf a, vf b) { return a < b; }
static inline vm vf_le(vf a, vf b) { return a <= b; }
static inline vm vf_gt(vf a, vf b) { return a > b; }
static inline vm vf_ge(vf a, vf b) { return a >= b; }
static inline vm vf_eq(vf a, vf b) { return a == b; }
static inline vm vf_ne(vf a, vf b) { return a != b; }
static inline vm vf_unordered(vf a, vf b) { return a != a || b != b; }
static inline vf vf_select(vm m, vf a, vf b) { return m ? a : b; }

static inline vm vm_and(vm a, vm b) { return a & b; }
static inline vm vm_or(vm a, vm b) { return a | b; }
static inline vm vm_xor(vm a, vm b) { return a ^ b; }
static inline vm vm_not(vm a) { return !a; }
static inline int vm_any(vm a) { return a; }
static inline int vm_all(vm a) { return a; }
static inline vm vm_first(size_t n) { return n > 0; }
static inline unsigned vm_bits(vm a) { return (unsigned)a; }

/* Integers wrap, as in the vector tiers; signed overflow would be undefined. */
static inline vi vi_set1(int32_t x) { return x; }
static inline vi vi_iota(void) { return 0; }
static inline vi vi_load(const int32_t *p) { return *p; }
static inline vi vi_load_n(const int32_t *p, size_t n) { return n ? *p : 0; }
static inline void vi_store(int32_t *p, vi x) { *p = x; }
static inline void vi_store_n(int32_t *p, vi x, size_t n) {
    if (n) *p = x;
}
static inline vi vi_load_u8_n(const uint8_t *p, size_t n) { return n ? *p : 0; }
static inline void vi_store_u8_n(uint8_t *p, vi x, size_t n) {
    if (n) *p = (uint8_t)x;
}
VF_INLINE void vf_transpose(vf x[1]) { (void)x; }
VF_INLINE void vf_transpose_quads(vf x[4]) { (void)x; }

static inline uint32_t u8_bits(const uint8_t *p, size_t n) {
    uint32_t bits = 0;
    for (size_t i = 0; i < n; i++) bits |= (uint32_t)(p[i] != 0) << i;
    return bits;
}

static inline vi vi_add(vi a, vi b) { return (vi)((uint32_t)a + (uint32_t)b); }
static inline vi vi_sub(vi a, vi b) { return (vi)((uint32_t)a - (uint32_t)b); }
static inline vi vi_mul(vi a, vi b) { return (vi)((uint32_t)a * (uint32_t)b); }
static inline vm vi_test(vi a, vi b) { return (a & b) != 0; }
static inline vi vi_mul_high(vi a, vi b) {
    return (vi)(uint32_t)((uint64_t)(uint32_t)a * (uint32_t)b >> 32);
}
static inline vi vi_xor3(vi a, vi b, vi c) { return a ^ b ^ c; }
static inline vi vi_and(vi a, vi b) { return a & b; }
static inline vi vi_or(vi a, vi b) { return a | b; }
static inline vi vi_xor(vi a, vi b) { return a ^ b; }
static inline vi vi_min(vi a, vi b) { return a < b ? a : b; }
static inline vi vi_max(vi a, vi b) { return a > b ? a : b; }
static inline vi vi_shl(vi x, int n) { return (vi)((uint32_t)x << n); }
static inline vi vi_shr(vi x, int n) { return (vi)((uint32_t)x >> n); }
static inline vi vi_sar(vi x, int n) { return x >> n; }
static inline vm vi_eq(vi a, vi b) { return a == b; }
static inline vm vi_gt(vi a, vi b) { return a > b; }
static inline vm vi_lt(vi a, vi b) { return a < b; }
static inline vi vi_select(vm m, vi a, vi b) { return m ? a : b; }

/* Out of range the vector tiers give something; a cast would be undefined, so it is fenced off. */
static inline vi vi_truncate_vf(vf x) { return x >= -0x1p31f && x < 0x1p31f ? (vi)x : INT32_MIN; }
static inline vi vi_from_vf(vf x) { return vi_truncate_vf(rintf(x)); }
static inline vf vf_from_vi(vi x) { return (vf)x; }

static inline float vf_reduce_add(vf x) { return x; }
static inline vf vf_reduce_each(const vf x[1]) { return x[0]; }
static inline float vf_reduce_max(vf x) { return x; }
static inline float vf_reduce_min(vf x) { return x; }

#define VD_WIDTH 1
typedef double vd;

static inline vd vd_set1(double x) { return x; }
static inline vd vd_add(vd a, vd b) { return a + b; }
static inline vd vd_load(const double *p) { return *p; }
static inline vd vd_load_n(const double *p, size_t n) { return n ? *p : 0.0; }
static inline void vd_store(double *p, vd x) { *p = x; }
static inline void vd_stream(double *p, vd x) { *p = x; }
static inline double vd_reduce_add(vd x) { return x; }
static inline void vd_store_n(double *p, vd x, size_t n) {
    if (n) *p = x;
}
static inline vd vd_sub(vd a, vd b) { return a - b; }
static inline vd vd_mul(vd a, vd b) { return a * b; }
static inline vd vd_div(vd a, vd b) { return a / b; }
#ifdef __FP_FAST_FMA
static inline vd vd_fma(vd a, vd b, vd c) { return fma(a, b, c); }
#else /* rounded twice: fma is a slow call, and nothing wider is at hand */
static inline vd vd_fma(vd a, vd b, vd c) { return a * b + c; }
#endif
static inline vd vd_min(vd a, vd b) { return a < b ? a : b; }
static inline vd vd_max(vd a, vd b) { return a > b ? a : b; }
static inline vd vd_abs(vd x) { return fabs(x); }
static inline vd vd_sqrt(vd x) { return sqrt(x); }
typedef int vdm;
static inline vdm vd_eq(vd a, vd b) { return a == b; }
static inline vdm vd_gt(vd a, vd b) { return a > b; }
static inline vdm vd_unordered(vd a, vd b) { return a != a || b != b; }
static inline vd vd_select(vdm m, vd a, vd b) { return m ? a : b; }
static inline vdm vdm_or(vdm a, vdm b) { return a | b; }
static inline int vdm_any(vdm a) { return a; }
static inline vdm vdm_first(size_t n) { return n > 0; }
static inline double vd_reduce_max(vd x) { return x; }
static inline double vd_reduce_min(vd x) { return x; }

#ifdef __FP_FAST_FMA
static inline vd vd_fms(vd a, vd b, vd c) { return fma(a, b, -c); }
static inline vd vd_fnma(vd a, vd b, vd c) { return fma(-a, b, c); }
#else
static inline vd vd_fms(vd a, vd b, vd c) { return a * b - c; }
static inline vd vd_fnma(vd a, vd b, vd c) { return c - a * b; }
#endif
static inline void vf_deinterleave(vf a, vf b, vf *even, vf *odd) { *even = a, *odd = b; }
static inline void vf_interleave(vf even, vf odd, vf *a, vf *b) { *a = even, *b = odd; }
static inline vf vf_reverse(vf x) { return x; }
static inline void vd_deinterleave(vd a, vd b, vd *even, vd *odd) { *even = a, *odd = b; }
static inline void vd_interleave(vd even, vd odd, vd *a, vd *b) { *a = even, *b = odd; }
static inline vd vd_reverse(vd x) { return x; }
static inline void vd_transpose(vd x[1]) { (void)x; }

#endif
