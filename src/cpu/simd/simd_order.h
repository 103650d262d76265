/* The vocabulary of simd.h for what moves, sums up and sorts lanes.
 *
 * Layout    vf_permute(x, i): lane l is lane i[l] of x. vf_compress(x, bits): the lanes whose bit is
 *           set, in order, to the front; what follows them is undefined. vi_load_u16(p), _n: widened;
 *           vi_store_u16(p, x), _n: the low halves. vf_along(low, high, k): VF_WIDTH lanes of the two
 *           side by side, from lane k on, a constant below VF_WIDTH.
 * Across    vf_prefix, vi_prefix, vd_prefix: lane l is the sum of lanes 0 to l, in one fixed order;
 *           vf_up, vi_up, vd_up: lanes moved up by one, 0 in the first; vf_last, vi_last, vd_last: the
 *           last lane.
 *           vi_order(&a, &b), vl_order: the lesser of two lanes to a, the greater to b.
 * Integers  of 64 bits: vl is VD_WIDTH of them. vl_load, vl_store, vl_set1, vl_add, vl_sub, vl_xor, vl_min, vl_max,
 *           vl_gt -> vlm, vl_eq, vlm_or, vlm_and, vl_select(m, a, b); vl_transpose(x): the square of
 *           VD_WIDTH vectors, in place; vl_as_vd, vd_as_vl: bits kept.
 * AVX-512   alone: vi_keep(x, m), vl_keep: the lanes of m to the front, what follows them is 0; vm_without(a, b),
 *           vlm_without: a and not b; vlm_first, vlm_bits; vl_load_n(p, n, x): lanes beyond n are those of x;
 *           vl_store_n. */
#ifndef FOVEA_CPU_SIMD_SIMD_ORDER_H
#define FOVEA_CPU_SIMD_SIMD_ORDER_H

#include "cpu/simd/simd.h"

#if defined(FOVEA_TIER_AVX512)

static inline vf vf_permute(vf x, vi index) { return _mm512_permutexvar_ps(index, x); }
    #define vf_along(low, high, k)                                                                 \
        _mm512_castsi512_ps(                                                                       \
            _mm512_alignr_epi32(_mm512_castps_si512(high), _mm512_castps_si512(low), (k)))
static inline vf vf_compress(vf x, uint32_t bits) {
    return _mm512_maskz_compress_ps((__mmask16)bits, x);
}
static inline vi vi_load_u16(const uint16_t *p) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
}
static inline vi vi_load_u16_n(const uint16_t *p, size_t n) {
    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(vm_first(n), p));
}
static inline void vi_store_u16(uint16_t *p, vi x) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(x));
}
static inline void vi_store_u16_n(uint16_t *p, vi x, size_t n) {
    _mm256_mask_storeu_epi16(p, vm_first(n), _mm512_cvtepi32_epi16(x));
}

    /* Lanes moved up by k, zeros below. */
    #define AVX512_UP(x, k) _mm512_alignr_epi32(x, _mm512_setzero_si512(), 16 - (k))
static inline vi vi_prefix(vi x) {
    x = vi_add(x, AVX512_UP(x, 1));
    x = vi_add(x, AVX512_UP(x, 2));
    x = vi_add(x, AVX512_UP(x, 4));
    return vi_add(x, AVX512_UP(x, 8));
}
static inline vf vf_prefix(vf x) {
    x = vf_add(x, vi_as_vf(AVX512_UP(vf_as_vi(x), 1)));
    x = vf_add(x, vi_as_vf(AVX512_UP(vf_as_vi(x), 2)));
    x = vf_add(x, vi_as_vf(AVX512_UP(vf_as_vi(x), 4)));
    return vf_add(x, vi_as_vf(AVX512_UP(vf_as_vi(x), 8)));
}
static inline vd vd_prefix(vd x) {
    x = vd_add(x, _mm512_castsi512_pd(AVX512_UP(_mm512_castpd_si512(x), 2)));
    x = vd_add(x, _mm512_castsi512_pd(AVX512_UP(_mm512_castpd_si512(x), 4)));
    return vd_add(x, _mm512_castsi512_pd(AVX512_UP(_mm512_castpd_si512(x), 8)));
}
static inline vi vi_up(vi x) { return AVX512_UP(x, 1); }
static inline vf vf_up(vf x) { return vi_as_vf(AVX512_UP(vf_as_vi(x), 1)); }
static inline vd vd_up(vd x) { return _mm512_castsi512_pd(AVX512_UP(_mm512_castpd_si512(x), 2)); }
static inline int32_t vi_last(vi x) {
    return _mm_extract_epi32(_mm512_extracti32x4_epi32(x, 3), 3);
}
static inline float vf_last(vf x) {
    __m128 high = _mm512_extractf32x4_ps(x, 3);
    return _mm_cvtss_f32(_mm_shuffle_ps(high, high, 0xff));
}
static inline double vd_last(vd x) {
    __m128d high = _mm512_extractf64x2_pd(x, 3);
    return _mm_cvtsd_f64(_mm_unpackhi_pd(high, high));
}

/* What is not the least: an operation of another port than extremes have. */
VF_INLINE void vi_order(vi *a, vi *b) {
    vi least = vi_min(*a, *b);
    *b = vi_xor3(*a, *b, least), *a = least;
}

typedef __m512i vl;
typedef __mmask8 vlm;
static inline vl vl_load(const int64_t *p) { return _mm512_loadu_si512(p); }
static inline void vl_store(int64_t *p, vl x) { _mm512_storeu_si512(p, x); }
static inline vl vl_load_n(const int64_t *p, size_t n, vl x) {
    return _mm512_mask_loadu_epi64(x, (__mmask8)vm_first(n), p);
}
static inline void vl_store_n(int64_t *p, vl x, size_t n) {
    _mm512_mask_storeu_epi64(p, (__mmask8)vm_first(n), x);
}
static inline vl vl_set1(int64_t x) { return _mm512_set1_epi64(x); }
static inline vl vl_add(vl a, vl b) { return _mm512_add_epi64(a, b); }
static inline vl vl_sub(vl a, vl b) { return _mm512_sub_epi64(a, b); }
static inline vl vl_xor(vl a, vl b) { return _mm512_xor_si512(a, b); }
static inline vl vl_min(vl a, vl b) { return _mm512_min_epi64(a, b); }
static inline vl vl_max(vl a, vl b) { return _mm512_max_epi64(a, b); }
static inline vd vl_as_vd(vl x) { return _mm512_castsi512_pd(x); }
static inline vl vd_as_vl(vd x) { return _mm512_castpd_si512(x); }
static inline unsigned vlm_bits(vlm m) { return m; }
/* In mask registers, whence general ones need a port of compressions for the way back. */
static inline vm vm_without(vm a, vm b) { return _kandn_mask16(b, a); }
static inline vlm vlm_without(vlm a, vlm b) { return _kandn_mask8(b, a); }
static inline vi vi_keep(vi x, vm m) { return _mm512_maskz_compress_epi32(m, x); }
static inline vl vl_keep(vl x, vlm m) { return _mm512_maskz_compress_epi64(m, x); }
static inline vlm vlm_first(size_t n) { return (vlm)vm_first(n); }
VF_INLINE void vl_order(vl *a, vl *b) {
    vl least = vl_min(*a, *b);
    *b = vi_xor3(*a, *b, least), *a = least;
}
static inline vlm vl_gt(vl a, vl b) { return _mm512_cmpgt_epi64_mask(a, b); }
static inline vlm vl_eq(vl a, vl b) { return _mm512_cmpeq_epi64_mask(a, b); }
static inline vlm vlm_or(vlm a, vlm b) { return (vlm)(a | b); }
static inline vlm vlm_and(vlm a, vlm b) { return (vlm)(a & b); }
static inline vl vl_select(vlm m, vl a, vl b) { return _mm512_mask_blend_epi64(m, b, a); }
VF_INLINE void vl_transpose(vl x[8]) {
    vl y[8];
    VF_UNROLLED for (int i = 0; i < 8; i += 2) {
        y[i] = _mm512_unpacklo_epi64(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi64(x[i], x[i + 1]);
    }
    VF_UNROLLED for (int i = 0; i < 2; i++) {
        vl a = _mm512_shuffle_i64x2(y[i], y[i + 2], 0x44);
        vl b = _mm512_shuffle_i64x2(y[i], y[i + 2], 0xee);
        vl c = _mm512_shuffle_i64x2(y[i + 4], y[i + 6], 0x44);
        vl d = _mm512_shuffle_i64x2(y[i + 4], y[i + 6], 0xee);
        x[i] = _mm512_shuffle_i64x2(a, c, 0x88);
        x[i + 2] = _mm512_shuffle_i64x2(a, c, 0xdd);
        x[i + 4] = _mm512_shuffle_i64x2(b, d, 0x88);
        x[i + 6] = _mm512_shuffle_i64x2(b, d, 0xdd);
    }
}

#elif defined(FOVEA_TIER_AVX2)

static inline vf vf_permute(vf x, vi index) { return _mm256_permutevar8x32_ps(x, index); }
VF_INLINE vf vf_along(vf low, vf high, const int k) {
    vi lanes = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(k));
    vm beyond = _mm256_castsi256_ps(_mm256_cmpgt_epi32(lanes, _mm256_set1_epi32(7)));
    return _mm256_blendv_ps(vf_permute(low, lanes), vf_permute(high, lanes), beyond);
}
/* Bytes whose bit is set are all ones; they pick the numbers of their lanes. */
static inline vf vf_compress(vf x, uint32_t bits) {
    uint64_t lanes = _pdep_u64(bits, UINT64_C(0x0101010101010101)) * 255;
    uint64_t index = _pext_u64(UINT64_C(0x0706050403020100), lanes);
    return vf_permute(x, _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)index)));
}
static inline vi vi_load_u16(const uint16_t *p) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
}
static inline vi vi_load_u16_n(const uint16_t *p, size_t n) {
    return _mm256_cvtepu16_epi32(avx2_load_halves_n(p, n));
}
static inline __m128i avx2_low_halves(vi x) {
    vi low = _mm256_and_si256(x, _mm256_set1_epi32(0xffff));
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0x08));
}
static inline void vi_store_u16(uint16_t *p, vi x) {
    _mm_storeu_si128((__m128i *)p, avx2_low_halves(x));
}
static inline void vi_store_u16_n(uint16_t *p, vi x, size_t n) {
    avx2_store_halves_n(p, avx2_low_halves(x), n);
}
    /* The last four bytes (or eight) of the lower half, in all places of the upper; zeros in the lower. */
    #define AVX2_CARRY(x) _mm256_permute2x128_si256(x, x, 0x08)
static inline vi vi_prefix(vi x) {
    x = vi_add(x, _mm256_slli_si256(x, 4));
    x = vi_add(x, _mm256_slli_si256(x, 8));
    return vi_add(x, _mm256_shuffle_epi32(AVX2_CARRY(x), 0xff));
}
static inline vf vf_prefix(vf x) {
    x = vf_add(x, vi_as_vf(_mm256_slli_si256(vf_as_vi(x), 4)));
    x = vf_add(x, vi_as_vf(_mm256_slli_si256(vf_as_vi(x), 8)));
    return vf_add(x, vi_as_vf(_mm256_shuffle_epi32(AVX2_CARRY(vf_as_vi(x)), 0xff)));
}
static inline vd vd_prefix(vd x) {
    x = vd_add(x, _mm256_castsi256_pd(_mm256_slli_si256(_mm256_castpd_si256(x), 8)));
    vi carry = _mm256_shuffle_epi32(AVX2_CARRY(_mm256_castpd_si256(x)), 0xee);
    return vd_add(x, _mm256_castsi256_pd(carry));
}
static inline vi vi_up(vi x) { return _mm256_alignr_epi8(x, AVX2_CARRY(x), 12); }
static inline vf vf_up(vf x) { return vi_as_vf(vi_up(vf_as_vi(x))); }
static inline vd vd_up(vd x) {
    vi bits = _mm256_castpd_si256(x);
    return _mm256_castsi256_pd(_mm256_alignr_epi8(bits, AVX2_CARRY(bits), 8));
}
static inline int32_t vi_last(vi x) { return _mm256_extract_epi32(x, 7); }
static inline float vf_last(vf x) {
    __m128 high = _mm256_extractf128_ps(x, 1);
    return _mm_cvtss_f32(_mm_shuffle_ps(high, high, 0xff));
}
static inline double vd_last(vd x) {
    __m128d high = _mm256_extractf128_pd(x, 1);
    return _mm_cvtsd_f64(_mm_unpackhi_pd(high, high));
}

typedef __m256i vl;
typedef __m256i vlm;
static inline vl vl_load(const int64_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline void vl_store(int64_t *p, vl x) { _mm256_storeu_si256((__m256i *)p, x); }
static inline vl vl_set1(int64_t x) { return _mm256_set1_epi64x(x); }
static inline vl vl_add(vl a, vl b) { return _mm256_add_epi64(a, b); }
static inline vl vl_sub(vl a, vl b) { return _mm256_sub_epi64(a, b); }
static inline vl vl_xor(vl a, vl b) { return _mm256_xor_si256(a, b); }
static inline vd vl_as_vd(vl x) { return _mm256_castsi256_pd(x); }
static inline vl vd_as_vl(vd x) { return _mm256_castpd_si256(x); }
static inline vlm vl_gt(vl a, vl b) { return _mm256_cmpgt_epi64(a, b); }
static inline vlm vl_eq(vl a, vl b) { return _mm256_cmpeq_epi64(a, b); }
static inline vlm vlm_or(vlm a, vlm b) { return _mm256_or_si256(a, b); }
static inline vlm vlm_and(vlm a, vlm b) { return _mm256_and_si256(a, b); }
static inline vl vl_select(vlm m, vl a, vl b) { return _mm256_blendv_epi8(b, a, m); }
static inline vl vl_min(vl a, vl b) { return vl_select(vl_gt(a, b), b, a); }
static inline vl vl_max(vl a, vl b) { return vl_select(vl_gt(a, b), a, b); }
VF_INLINE void vl_transpose(vl x[4]) {
    vl a = _mm256_unpacklo_epi64(x[0], x[1]), b = _mm256_unpackhi_epi64(x[0], x[1]);
    vl c = _mm256_unpacklo_epi64(x[2], x[3]), d = _mm256_unpackhi_epi64(x[2], x[3]);
    x[0] = _mm256_permute2x128_si256(a, c, 0x20), x[1] = _mm256_permute2x128_si256(b, d, 0x20);
    x[2] = _mm256_permute2x128_si256(a, c, 0x31), x[3] = _mm256_permute2x128_si256(b, d, 0x31);
}

#elif defined(FOVEA_TIER_NEON)

VF_INLINE vf vf_along(vf low, vf high, const int k) {
    uint8x16_t first = vreinterpretq_u8_f32(low), second = vreinterpretq_u8_f32(high);
    uint8x16_t bytes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    uint8x16x2_t both = {{first, second}};
    return vreinterpretq_f32_u8(vqtbl2q_u8(both, vaddq_u8(bytes, vdupq_n_u8((uint8_t)(4 * k)))));
}
static inline vf vf_permute(vf x, vi index) {
    uint32x4_t bytes = vaddq_u32(vmulq_u32(vreinterpretq_u32_s32(index), vdupq_n_u32(0x04040404)),
                                 vdupq_n_u32(0x03020100));
    return vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(x), vreinterpretq_u8_u32(bytes)));
}
static inline vf vf_compress(vf x, uint32_t bits) {
    uint32_t index = 0, count = 0; /* a byte a lane */
    for (uint32_t l = 0; l < 4; l++)
        if (bits >> l & 1) index |= l << 8 * count++;
    uint16x8_t wide = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(index)));
    return vf_permute(x, vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(wide))));
}
static inline vi vi_load_u16(const uint16_t *p) {
    return vreinterpretq_s32_u32(vmovl_u16(vld1_u16(p)));
}
static inline vi vi_load_u16_n(const uint16_t *p, size_t n) {
    return vreinterpretq_s32_u32(vmovl_u16(neon_load_halves_n(p, n)));
}
static inline void vi_store_u16(uint16_t *p, vi x) {
    vst1_u16(p, vmovn_u32(vreinterpretq_u32_s32(x)));
}
static inline void vi_store_u16_n(uint16_t *p, vi x, size_t n) {
    neon_store_halves_n(p, vmovn_u32(vreinterpretq_u32_s32(x)), n);
}
static inline vi vi_prefix(vi x) {
    x = vi_add(x, vextq_s32(vdupq_n_s32(0), x, 3));
    return vi_add(x, vextq_s32(vdupq_n_s32(0), x, 2));
}
static inline vf vf_prefix(vf x) {
    x = vf_add(x, vextq_f32(vdupq_n_f32(0), x, 3));
    return vf_add(x, vextq_f32(vdupq_n_f32(0), x, 2));
}
static inline vd vd_prefix(vd x) { return vd_add(x, vextq_f64(vdupq_n_f64(0), x, 1)); }
static inline vi vi_up(vi x) { return vextq_s32(vdupq_n_s32(0), x, 3); }
static inline vf vf_up(vf x) { return vextq_f32(vdupq_n_f32(0), x, 3); }
static inline vd vd_up(vd x) { return vextq_f64(vdupq_n_f64(0), x, 1); }
static inline int32_t vi_last(vi x) { return vgetq_lane_s32(x, 3); }
static inline float vf_last(vf x) { return vgetq_lane_f32(x, 3); }
static inline double vd_last(vd x) { return vgetq_lane_f64(x, 1); }

typedef int64x2_t vl;
typedef uint64x2_t vlm;
static inline vl vl_load(const int64_t *p) { return vld1q_s64(p); }
static inline void vl_store(int64_t *p, vl x) { vst1q_s64(p, x); }
static inline vl vl_set1(int64_t x) { return vdupq_n_s64(x); }
static inline vl vl_add(vl a, vl b) { return vaddq_s64(a, b); }
static inline vl vl_sub(vl a, vl b) { return vsubq_s64(a, b); }
static inline vl vl_xor(vl a, vl b) { return veorq_s64(a, b); }
static inline vd vl_as_vd(vl x) { return vreinterpretq_f64_s64(x); }
static inline vl vd_as_vl(vd x) { return vreinterpretq_s64_f64(x); }
static inline vlm vl_gt(vl a, vl b) { return vcgtq_s64(a, b); }
static inline vlm vl_eq(vl a, vl b) { return vceqq_s64(a, b); }
static inline vlm vlm_or(vlm a, vlm b) { return vorrq_u64(a, b); }
static inline vlm vlm_and(vlm a, vlm b) { return vandq_u64(a, b); }
static inline vl vl_select(vlm m, vl a, vl b) { return vbslq_s64(m, a, b); }
static inline vl vl_min(vl a, vl b) { return vl_select(vl_gt(a, b), b, a); }
static inline vl vl_max(vl a, vl b) { return vl_select(vl_gt(a, b), a, b); }
VF_INLINE void vl_transpose(vl x[2]) {
    vl a = vzip1q_s64(x[0], x[1]);
    x[1] = vzip2q_s64(x[0], x[1]), x[0] = a;
}

#else /* scalar: one lane */

static inline vf vf_permute(vf x, vi index) { return (void)index, x; }
static inline vf vf_along(vf low, vf high, int k) { return (void)high, (void)k, low; }
static inline vf vf_compress(vf x, uint32_t bits) { return (void)bits, x; }
static inline vi vi_load_u16(const uint16_t *p) { return *p; }
static inline vi vi_load_u16_n(const uint16_t *p, size_t n) { return n ? *p : 0; }
static inline void vi_store_u16(uint16_t *p, vi x) { *p = (uint16_t)x; }
static inline void vi_store_u16_n(uint16_t *p, vi x, size_t n) {
    if (n) *p = (uint16_t)x;
}
static inline vi vi_prefix(vi x) { return x; }
static inline vf vf_prefix(vf x) { return x; }
static inline vd vd_prefix(vd x) { return x; }
static inline vi vi_up(vi x) { return (void)x, 0; }
static inline vf vf_up(vf x) { return (void)x, 0; }
static inline vd vd_up(vd x) { return (void)x, 0; }
static inline int32_t vi_last(vi x) { return x; }
static inline float vf_last(vf x) { return x; }
static inline double vd_last(vd x) { return x; }

typedef int64_t vl;
typedef int vlm;
static inline vl vl_load(const int64_t *p) { return *p; }
static inline void vl_store(int64_t *p, vl x) { *p = x; }
static inline vl vl_set1(int64_t x) { return x; }
static inline vl vl_add(vl a, vl b) { return (vl)((uint64_t)a + (uint64_t)b); }
static inline vl vl_sub(vl a, vl b) { return (vl)((uint64_t)a - (uint64_t)b); }
static inline vl vl_xor(vl a, vl b) { return a ^ b; }
static inline vd vl_as_vd(vl x) {
    vd bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline vl vd_as_vl(vd x) {
    vl bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline vlm vl_gt(vl a, vl b) { return a > b; }
static inline vlm vl_eq(vl a, vl b) { return a == b; }
static inline vlm vlm_or(vlm a, vlm b) { return a | b; }
static inline vlm vlm_and(vlm a, vlm b) { return a & b; }
static inline vl vl_select(vlm m, vl a, vl b) { return m ? a : b; }
static inline vl vl_min(vl a, vl b) { return a < b ? a : b; }
static inline vl vl_max(vl a, vl b) { return a > b ? a : b; }
VF_INLINE void vl_transpose(vl x[1]) { (void)x; }

#endif

#ifndef FOVEA_TIER_AVX512
VF_INLINE void vi_order(vi *a, vi *b) {
    vi least = vi_min(*a, *b);
    *b = vi_max(*a, *b), *a = least;
}
VF_INLINE void vl_order(vl *a, vl *b) {
    vl least = vl_min(*a, *b);
    *b = vl_max(*a, *b), *a = least;
}
#endif

#endif
