/* The vocabulary of simd.h on AArch64 Advanced SIMD (baseline ARMv8.0): four lanes. */
#ifndef FOVEA_CPU_SIMD_SIMD_NEON_H
#define FOVEA_CPU_SIMD_SIMD_NEON_H

#if !defined(__aarch64__) || !defined(__ARM_NEON)
    #error "the neon tier needs AArch64 with Advanced SIMD"
#endif

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>

#define VF_WIDTH 4

typedef float32x4_t vf;
typedef int32x4_t vi;
typedef uint32x4_t vm;

static inline vi vf_as_vi(vf x) { return vreinterpretq_s32_f32(x); }
static inline vf vi_as_vf(vi x) { return vreinterpretq_f32_s32(x); }

static inline vf vf_load(const float *p) { return vld1q_f32(p); }
static inline vf vf_load_strided_n(const float *p, ptrdiff_t stride, size_t n) {
    float lanes[4] = {0};
    for (size_t i = 0; i < n; ++i) lanes[i] = p[(ptrdiff_t)i * stride];
    return vld1q_f32(lanes);
}
static inline vf vf_load_strided(const float *p, ptrdiff_t stride) {
    return vf_load_strided_n(p, stride, 4);
}
static inline vf vf_load_n(const float *p, size_t n) {
    return n == 4 ? vld1q_f32(p) : vf_load_strided_n(p, 1, n);
}
static inline void vf_store(float *p, vf x) { vst1q_f32(p, x); }
static inline void vf_store_n(float *p, vf x, size_t n) {
    float lanes[4];
    vst1q_f32(lanes, x);
    for (size_t i = 0; i < n; ++i) p[i] = lanes[i];
}
static inline vf vf_gather(const float *p, vi index) {
    float lanes[4] = {p[vgetq_lane_s32(index, 0)], p[vgetq_lane_s32(index, 1)],
                      p[vgetq_lane_s32(index, 2)], p[vgetq_lane_s32(index, 3)]};
    return vld1q_f32(lanes);
}
/* The non-temporal store pair has no intrinsic; an ordinary store is what compilers give. */
static inline void vf_stream(float *p, vf x) { vst1q_f32(p, x); }
static inline void vf_stream_fence(void) {}

static inline uint16x4_t neon_load_halves_n(const uint16_t *p, size_t n) {
    uint16_t lanes[4] = {0};
    for (size_t i = 0; i < n; ++i) lanes[i] = p[i];
    return vld1_u16(lanes);
}
static inline void neon_store_halves_n(uint16_t *p, uint16x4_t x, size_t n) {
    uint16_t lanes[4];
    vst1_u16(lanes, x);
    for (size_t i = 0; i < n; ++i) p[i] = lanes[i];
}
static inline vf neon_from_f16(uint16x4_t x) { return vcvt_f32_f16(vreinterpret_f16_u16(x)); }
static inline uint16x4_t neon_to_f16(vf x) { return vreinterpret_u16_f16(vcvt_f16_f32(x)); }
static inline vf neon_from_bf16(uint16x4_t x) {
    return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(x), 16));
}
static inline uint16x4_t neon_to_bf16(vf x) {
    uint32x4_t bits = vreinterpretq_u32_f32(x);
    uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
    uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    return vshrn_n_u32(vbslq_u32(vceqq_f32(x, x), rounded, quiet), 16);
}
static inline vf vf_load_f16(const uint16_t *p) { return neon_from_f16(vld1_u16(p)); }
static inline vf vf_load_f16_n(const uint16_t *p, size_t n) {
    return neon_from_f16(neon_load_halves_n(p, n));
}
static inline void vf_store_f16(uint16_t *p, vf x) { vst1_u16(p, neon_to_f16(x)); }
static inline void vf_store_f16_n(uint16_t *p, vf x, size_t n) {
    neon_store_halves_n(p, neon_to_f16(x), n);
}
static inline vf vf_load_bf16(const uint16_t *p) { return neon_from_bf16(vld1_u16(p)); }
static inline vf vf_load_bf16_n(const uint16_t *p, size_t n) {
    return neon_from_bf16(neon_load_halves_n(p, n));
}
static inline void vf_store_bf16(uint16_t *p, vf x) { vst1_u16(p, neon_to_bf16(x)); }
static inline void vf_store_bf16_n(uint16_t *p, vf x, size_t n) {
    neon_store_halves_n(p, neon_to_bf16(x), n);
}

/* As in simd_avx512.h: through an f16 that is 2^-8 of the value. */
static inline vf neon_from_e4m3(int16x4_t x) {
    uint16x4_t wide = vshl_n_u16(vreinterpret_u16_s16(x), 7);
    uint16x4_t nan = vceq_u16(vand_u16(wide, vdup_n_u16(0x3f80)), vdup_n_u16(0x3f80));
    wide = vorr_u16(vand_u16(wide, vdup_n_u16(0xbf80)), vand_u16(nan, vdup_n_u16(0x7fff)));
    return vmulq_n_f32(vcvt_f32_f16(vreinterpret_f16_u16(wide)), 256);
}
static inline int16x4_t neon_load_bytes_n(const uint8_t *p, size_t n) {
    int16_t lanes[4] = {0};
    for (size_t i = 0; i < n; ++i) lanes[i] = (int8_t)p[i];
    return vld1_s16(lanes);
}
static inline int16x4_t neon_load_bytes(const uint8_t *p) {
    uint32_t word;
    __builtin_memcpy(&word, p, sizeof word);
    return vget_low_s16(vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(word))));
}
static inline vf vf_load_i8(const uint8_t *p) {
    return vcvtq_f32_s32(vmovl_s16(neon_load_bytes(p)));
}
static inline vf vf_load_i8_n(const uint8_t *p, size_t n) {
    return vcvtq_f32_s32(vmovl_s16(neon_load_bytes_n(p, n)));
}
static inline vf vf_load_e4m3(const uint8_t *p) { return neon_from_e4m3(neon_load_bytes(p)); }
static inline vf vf_load_e4m3_n(const uint8_t *p, size_t n) {
    return neon_from_e4m3(neon_load_bytes_n(p, n));
}

static inline void vf_stream_f16(uint16_t *p, vf x) { vf_store_f16(p, x); }
static inline void vf_stream_bf16(uint16_t *p, vf x) { vf_store_bf16(p, x); }

static inline vf vf_set1(float x) { return vdupq_n_f32(x); }
static inline vf vf_add(vf a, vf b) { return vaddq_f32(a, b); }
static inline vf vf_sub(vf a, vf b) { return vsubq_f32(a, b); }
static inline vf vf_mul(vf a, vf b) { return vmulq_f32(a, b); }
static inline vf vf_div(vf a, vf b) { return vdivq_f32(a, b); }
static inline vf vf_neg(vf x) { return vnegq_f32(x); }
static inline vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline vf vf_fms(vf a, vf b, vf c) { return vfmaq_f32(vnegq_f32(c), a, b); }
static inline vf vf_fnma(vf a, vf b, vf c) { return vfmsq_f32(c, a, b); }
/* Not vminq and vmaxq: those give NaN, and -0 for zeros of two signs; the vocabulary gives b. */
static inline vf vf_min(vf a, vf b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
static inline vf vf_max(vf a, vf b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
static inline vf vf_abs(vf x) { return vabsq_f32(x); }
static inline vf vf_copysign(vf magnitude, vf sign) {
    return vbslq_f32(vdupq_n_u32(0x80000000u), sign, magnitude);
}
static inline vf vf_sqrt(vf x) { return vsqrtq_f32(x); }
static inline vf vf_round(vf x) { return vrndnq_f32(x); }
static inline vf vf_floor(vf x) { return vrndmq_f32(x); }
static inline vf vf_ceil(vf x) { return vrndpq_f32(x); }
static inline vf vf_trunc(vf x) { return vrndq_f32(x); }

static inline vm vm_and(vm a, vm b) { return vandq_u32(a, b); }
static inline vm vm_or(vm a, vm b) { return vorrq_u32(a, b); }
static inline vm vm_xor(vm a, vm b) { return veorq_u32(a, b); }
static inline vm vm_not(vm a) { return vmvnq_u32(a); }
static inline unsigned vm_bits(vm a) {
    const uint32_t weights[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(a, vld1q_u32(weights)));
}
static inline int vm_any(vm a) { return vmaxvq_u32(a) != 0; }
static inline int vm_all(vm a) { return vminvq_u32(a) != 0; }

static inline vm vf_lt(vf a, vf b) { return vcltq_f32(a, b); }
static inline vm vf_le(vf a, vf b) { return vcleq_f32(a, b); }
static inline vm vf_gt(vf a, vf b) { return vcgtq_f32(a, b); }
static inline vm vf_ge(vf a, vf b) { return vcgeq_f32(a, b); }
static inline vm vf_eq(vf a, vf b) { return vceqq_f32(a, b); }
static inline vm vf_ne(vf a, vf b) { return vmvnq_u32(vceqq_f32(a, b)); }
static inline vm vf_unordered(vf a, vf b) {
    return vmvnq_u32(vandq_u32(vceqq_f32(a, a), vceqq_f32(b, b)));
}
static inline vf vf_select(vm m, vf a, vf b) { return vbslq_f32(m, a, b); }

static inline vi vi_set1(int32_t x) { return vdupq_n_s32(x); }
static inline vi vi_iota(void) {
    const int32_t lanes[4] = {0, 1, 2, 3};
    return vld1q_s32(lanes);
}
static inline vm vm_first(size_t n) { return vcgtq_s32(vdupq_n_s32((int32_t)n), vi_iota()); }
static inline vi vi_load(const int32_t *p) { return vld1q_s32(p); }
static inline vi vi_load_n(const int32_t *p, size_t n) {
    int32_t lanes[4] = {0};
    for (size_t i = 0; i < n; ++i) lanes[i] = p[i];
    return vld1q_s32(lanes);
}
static inline void vi_store(int32_t *p, vi x) { vst1q_s32(p, x); }
static inline void vi_store_n(int32_t *p, vi x, size_t n) {
    int32_t lanes[4];
    vst1q_s32(lanes, x);
    for (size_t i = 0; i < n; ++i) p[i] = lanes[i];
}
static inline vi vi_load_u8_n(const uint8_t *p, size_t n) {
    int32_t lanes[4] = {0};
    for (size_t i = 0; i < n; ++i) lanes[i] = p[i];
    return vld1q_s32(lanes);
}
static inline uint32_t neon_bits(const uint8_t *p) {
    const uint8_t weights[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t x = vld1q_u8(p), bits = vandq_u8(vtstq_u8(x, x), vld1q_u8(weights));
    return vaddv_u8(vget_low_u8(bits)) | (uint32_t)vaddv_u8(vget_high_u8(bits)) << 8;
}
static inline uint32_t u8_bits(const uint8_t *p, size_t n) {
    uint8_t bytes[32] = {0};
    if (n < 32) {
        for (size_t i = 0; i < n; ++i) bytes[i] = p[i];
        p = bytes;
    }
    return neon_bits(p) | neon_bits(p + 16) << 16;
}
static inline void vi_store_u8_n(uint8_t *p, vi x, size_t n) {
    int32_t lanes[4];
    vst1q_s32(lanes, x);
    for (size_t i = 0; i < n; ++i) p[i] = (uint8_t)lanes[i];
}
VF_INLINE void vf_transpose(vf x[4]) {
    float32x4x2_t a = vtrnq_f32(x[0], x[1]), b = vtrnq_f32(x[2], x[3]);
    x[0] = vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0]));
    x[1] = vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1]));
    x[2] = vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0]));
    x[3] = vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1]));
}
VF_INLINE void vf_transpose_quads(vf x[4]) { vf_transpose(x); }

static inline vi vi_add(vi a, vi b) { return vaddq_s32(a, b); }
static inline vi vi_sub(vi a, vi b) { return vsubq_s32(a, b); }
static inline vi vi_mul(vi a, vi b) { return vmulq_s32(a, b); }
static inline vm vi_test(vi a, vi b) { return vtstq_s32(a, b); }
static inline vi vi_mul_high(vi a, vi b) {
    uint32x4_t x = vreinterpretq_u32_s32(a), y = vreinterpretq_u32_s32(b);
    uint64x2_t low = vmull_u32(vget_low_u32(x), vget_low_u32(y)), high = vmull_high_u32(x, y);
    return vreinterpretq_s32_u32(
        vuzp2q_u32(vreinterpretq_u32_u64(low), vreinterpretq_u32_u64(high)));
}
static inline vi vi_xor3(vi a, vi b, vi c) { return veorq_s32(veorq_s32(a, b), c); }
static inline vi vi_and(vi a, vi b) { return vandq_s32(a, b); }
static inline vi vi_or(vi a, vi b) { return vorrq_s32(a, b); }
static inline vi vi_xor(vi a, vi b) { return veorq_s32(a, b); }
static inline vi vi_min(vi a, vi b) { return vminq_s32(a, b); }
static inline vi vi_max(vi a, vi b) { return vmaxq_s32(a, b); }
#define vi_shl(x, n) vshlq_n_s32((x), (n))
#define vi_shr(x, n) vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(x), (n)))
#define vi_sar(x, n) vshrq_n_s32((x), (n))
static inline vm vi_eq(vi a, vi b) { return vceqq_s32(a, b); }
static inline vm vi_gt(vi a, vi b) { return vcgtq_s32(a, b); }
static inline vm vi_lt(vi a, vi b) { return vcltq_s32(a, b); }
static inline vi vi_select(vm m, vi a, vi b) { return vbslq_s32(m, a, b); }

static inline vi vi_from_vf(vf x) { return vcvtnq_s32_f32(x); }
static inline vi vi_truncate_vf(vf x) { return vcvtq_s32_f32(x); }
static inline vf vf_from_vi(vi x) { return vcvtq_f32_s32(x); }

static inline float vf_reduce_add(vf x) {
    float32x2_t y = vadd_f32(vget_low_f32(x), vget_high_f32(x));
    return vget_lane_f32(y, 0) + vget_lane_f32(y, 1);
}
VF_INLINE vf vf_reduce_each(const vf x[4]) {
    return vpaddq_f32(vpaddq_f32(x[0], x[1]), vpaddq_f32(x[2], x[3]));
}
static inline float neon_max(float a, float b) { return a > b ? a : b; }
static inline float neon_min(float a, float b) { return a < b ? a : b; }
static inline float vf_reduce_max(vf x) {
    vf y = vf_max(x, vextq_f32(x, x, 2));
    return neon_max(vgetq_lane_f32(y, 0), vgetq_lane_f32(y, 1));
}
static inline float vf_reduce_min(vf x) {
    vf y = vf_min(x, vextq_f32(x, x, 2));
    return neon_min(vgetq_lane_f32(y, 0), vgetq_lane_f32(y, 1));
}

#define VD_WIDTH 2
typedef float64x2_t vd;

static inline vd vd_set1(double x) { return vdupq_n_f64(x); }
static inline vd vd_add(vd a, vd b) { return vaddq_f64(a, b); }
static inline vd vd_load(const double *p) { return vld1q_f64(p); }
static inline vd vd_load_n(const double *p, size_t n) {
    double lanes[2] = {0};
    for (size_t i = 0; i < n; ++i) lanes[i] = p[i];
    return vld1q_f64(lanes);
}
static inline void vd_store(double *p, vd x) { vst1q_f64(p, x); }
static inline void vd_stream(double *p, vd x) { vst1q_f64(p, x); }
static inline double vd_reduce_add(vd x) { return vgetq_lane_f64(x, 0) + vgetq_lane_f64(x, 1); }
static inline void vd_store_n(double *p, vd x, size_t n) {
    if (n > 1) vst1q_f64(p, x);
    if (n == 1) *p = vgetq_lane_f64(x, 0);
}
static inline vd vd_sub(vd a, vd b) { return vsubq_f64(a, b); }
static inline vd vd_mul(vd a, vd b) { return vmulq_f64(a, b); }
static inline vd vd_div(vd a, vd b) { return vdivq_f64(a, b); }
static inline vd vd_fma(vd a, vd b, vd c) { return vfmaq_f64(c, a, b); }
static inline vd vd_min(vd a, vd b) { return vbslq_f64(vcltq_f64(a, b), a, b); }
static inline vd vd_max(vd a, vd b) { return vbslq_f64(vcgtq_f64(a, b), a, b); }
static inline vd vd_abs(vd x) { return vabsq_f64(x); }
static inline vd vd_sqrt(vd x) { return vsqrtq_f64(x); }
typedef uint64x2_t vdm;
static inline vdm vd_eq(vd a, vd b) { return vceqq_f64(a, b); }
static inline vdm vd_gt(vd a, vd b) { return vcgtq_f64(a, b); }
static inline vdm vd_unordered(vd a, vd b) {
    uint64x2_t ordered = vandq_u64(vceqq_f64(a, a), vceqq_f64(b, b));
    return veorq_u64(ordered, vdupq_n_u64(UINT64_MAX));
}
static inline vd vd_select(vdm m, vd a, vd b) { return vbslq_f64(m, a, b); }
static inline vdm vdm_or(vdm a, vdm b) { return vorrq_u64(a, b); }
static inline int vdm_any(vdm a) { return (vgetq_lane_u64(a, 0) | vgetq_lane_u64(a, 1)) != 0; }
static inline vdm vdm_first(size_t n) {
    const uint64_t lanes[2] = {n > 0 ? UINT64_MAX : 0, n > 1 ? UINT64_MAX : 0};
    return vld1q_u64(lanes);
}
static inline double vd_reduce_max(vd x) {
    double a = vgetq_lane_f64(x, 0), b = vgetq_lane_f64(x, 1);
    return a > b ? a : b;
}
static inline double vd_reduce_min(vd x) {
    double a = vgetq_lane_f64(x, 0), b = vgetq_lane_f64(x, 1);
    return a < b ? a : b;
}

static inline vd vd_fms(vd a, vd b, vd c) { return vnegq_f64(vfmsq_f64(c, a, b)); }
static inline vd vd_fnma(vd a, vd b, vd c) { return vfmsq_f64(c, a, b); }
VF_INLINE void vf_deinterleave(vf a, vf b, vf *even, vf *odd) {
    *even = vuzp1q_f32(a, b);
    *odd = vuzp2q_f32(a, b);
}
VF_INLINE void vf_interleave(vf even, vf odd, vf *a, vf *b) {
    *a = vzip1q_f32(even, odd);
    *b = vzip2q_f32(even, odd);
}
VF_INLINE vf vf_reverse(vf x) {
    x = vrev64q_f32(x);
    return vextq_f32(x, x, 2);
}
VF_INLINE void vd_deinterleave(vd a, vd b, vd *even, vd *odd) {
    *even = vuzp1q_f64(a, b);
    *odd = vuzp2q_f64(a, b);
}
VF_INLINE void vd_interleave(vd even, vd odd, vd *a, vd *b) {
    *a = vzip1q_f64(even, odd);
    *b = vzip2q_f64(even, odd);
}
VF_INLINE vd vd_reverse(vd x) { return vextq_f64(x, x, 1); }
VF_INLINE void vd_transpose(vd x[2]) {
    vd a = vzip1q_f64(x[0], x[1]), b = vzip2q_f64(x[0], x[1]);
    x[0] = a, x[1] = b;
}

#endif
