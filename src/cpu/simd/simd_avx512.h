/* The vocabulary of simd.h on AVX-512 F, BW, DQ and VL: sixteen lanes, masks in mask registers. */
#ifndef FOVEA_CPU_SIMD_SIMD_AVX512_H
#define FOVEA_CPU_SIMD_SIMD_AVX512_H

#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__) ||                   \
    !defined(__AVX512VL__)
    #error "the avx512 tier needs -mavx512f -mavx512bw -mavx512dq -mavx512vl"
#endif

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define VF_WIDTH 16

typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;

static inline vi vf_as_vi(vf x) { return _mm512_castps_si512(x); }
static inline vf vi_as_vf(vi x) { return _mm512_castsi512_ps(x); }

static inline vm vm_first(size_t n) { return (vm)((1u << n) - 1u); }

static inline vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
static inline vf vf_load_n(const float *p, size_t n) {
    return _mm512_maskz_loadu_ps(vm_first(n), p);
}
static inline void vf_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
static inline void vf_store_n(float *p, vf x, size_t n) {
    _mm512_mask_storeu_ps(p, vm_first(n), x);
}
static inline vf vf_load_strided_n(const float *p, ptrdiff_t stride, size_t n) {
    float lanes[16] = {0};
    for (size_t i = 0; i < n; ++i) lanes[i] = p[(ptrdiff_t)i * stride];
    return _mm512_loadu_ps(lanes);
}
static inline vf vf_load_strided(const float *p, ptrdiff_t stride) {
    return vf_load_strided_n(p, stride, 16);
}
static inline vf vf_gather(const float *p, vi index) { return _mm512_i32gather_ps(index, p, 4); }
static inline void vf_stream(float *p, vf x) { _mm512_stream_ps(p, x); }
static inline void vf_stream_fence(void) { _mm_sfence(); }

static inline vf avx512_from_bf16(__m256i x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}
/* AVX512-BF16's own conversion flushes subnormals, so the rounding is done on the integers. */
static inline __m256i avx512_to_bf16(vf x) {
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}
static inline vf vf_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
static inline vf vf_load_f16_n(const uint16_t *p, size_t n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(vm_first(n), p));
}
static inline void vf_store_f16(uint16_t *p, vf x) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
static inline void vf_store_f16_n(uint16_t *p, vf x, size_t n) {
    _mm256_mask_storeu_epi16(p, vm_first(n), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
static inline vf vf_load_bf16(const uint16_t *p) {
    return avx512_from_bf16(_mm256_loadu_si256((const __m256i *)p));
}
static inline vf vf_load_bf16_n(const uint16_t *p, size_t n) {
    return avx512_from_bf16(_mm256_maskz_loadu_epi16(vm_first(n), p));
}
static inline void vf_store_bf16(uint16_t *p, vf x) {
    _mm256_storeu_si256((__m256i *)p, avx512_to_bf16(x));
}
static inline void vf_store_bf16_n(uint16_t *p, vf x, size_t n) {
    _mm256_mask_storeu_epi16(p, vm_first(n), avx512_to_bf16(x));
}

/* Sign, exponent and fraction of an e4m3 shifted into an f16 are its value times 2^-8, subnormals
 * included; only NaN has to be made one. */
static inline vf avx512_from_e4m3(__m128i x) {
    __m256i wide = _mm256_slli_epi16(_mm256_cvtepi8_epi16(x), 7);
    __mmask16 nan = _mm_cmpeq_epi8_mask(_mm_or_si128(x, _mm_set1_epi8(-128)), _mm_set1_epi8(-1));
    wide = _mm256_and_si256(wide, _mm256_set1_epi16((short)0xbf80));
    wide = _mm256_mask_mov_epi16(wide, nan, _mm256_set1_epi16(0x7fff));
    return _mm512_mul_ps(_mm512_cvtph_ps(wide), _mm512_set1_ps(256));
}
static inline vf vf_load_i8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline vf vf_load_i8_n(const uint8_t *p, size_t n) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(vm_first(n), p)));
}
static inline vf vf_load_e4m3(const uint8_t *p) {
    return avx512_from_e4m3(_mm_loadu_si128((const __m128i *)p));
}
static inline vf vf_load_e4m3_n(const uint8_t *p, size_t n) {
    return avx512_from_e4m3(_mm_maskz_loadu_epi8(vm_first(n), p));
}

static inline void vf_stream_f16(uint16_t *p, vf x) {
    _mm256_stream_si256((__m256i *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
static inline void vf_stream_bf16(uint16_t *p, vf x) {
    _mm256_stream_si256((__m256i *)p, avx512_to_bf16(x));
}

static inline vf vf_set1(float x) { return _mm512_set1_ps(x); }
static inline vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf vf_fms(vf a, vf b, vf c) { return _mm512_fmsub_ps(a, b, c); }
static inline vf vf_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
static inline vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf vf_abs(vf x) { return _mm512_abs_ps(x); }
static inline vf vf_neg(vf x) { return _mm512_xor_ps(_mm512_set1_ps(-0.0f), x); }
static inline vf vf_copysign(vf magnitude, vf sign) {
    __m512i bits =
        _mm512_set1_epi32(INT32_MIN); /* one ternary: sign bit from sign, rest from magnitude */
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(bits, _mm512_castps_si512(sign),
                                                         _mm512_castps_si512(magnitude), 0xca));
}
static inline vf vf_sqrt(vf x) { return _mm512_sqrt_ps(x); }
static inline vf vf_round(vf x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vf vf_floor(vf x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
static inline vf vf_ceil(vf x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
}
static inline vf vf_trunc(vf x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
}

static inline vm vf_lt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline vm vf_le(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
static inline vm vf_gt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
static inline vm vf_ge(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
static inline vm vf_eq(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
static inline vm vf_ne(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ); }
static inline vm vf_unordered(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q); }
static inline vf vf_select(vm m, vf a, vf b) { return _mm512_mask_blend_ps(m, b, a); }

static inline vm vm_and(vm a, vm b) { return (vm)(a & b); }
static inline vm vm_or(vm a, vm b) { return (vm)(a | b); }
static inline vm vm_xor(vm a, vm b) { return (vm)(a ^ b); }
static inline vm vm_not(vm a) { return (vm)~a; }
static inline unsigned vm_bits(vm a) { return a; }
static inline int vm_any(vm a) { return a != 0; }
static inline int vm_all(vm a) { return a == 0xffff; }

static inline vi vi_set1(int32_t x) { return _mm512_set1_epi32(x); }
static inline vi vi_iota(void) {
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
static inline vi vi_load(const int32_t *p) { return _mm512_loadu_si512(p); }
static inline vi vi_load_n(const int32_t *p, size_t n) {
    return _mm512_maskz_loadu_epi32(vm_first(n), p);
}
static inline void vi_store(int32_t *p, vi x) { _mm512_storeu_si512(p, x); }
static inline void vi_store_n(int32_t *p, vi x, size_t n) {
    _mm512_mask_storeu_epi32(p, vm_first(n), x);
}
static inline vi vi_load_u8_n(const uint8_t *p, size_t n) {
    return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(vm_first(n), p));
}
static inline uint32_t u8_bits(const uint8_t *p, size_t n) {
    __m256i bytes = _mm256_maskz_loadu_epi8((__mmask32)((UINT64_C(1) << n) - 1), p);
    return _mm256_test_epi8_mask(bytes, bytes);
}
static inline void vi_store_u8_n(uint8_t *p, vi x, size_t n) {
    _mm_mask_storeu_epi8(p, vm_first(n), _mm512_cvtepi32_epi8(x));
}
static inline vm vm_load_u8_n(const uint8_t *p, size_t n) {
    __m128i bytes =
        n == 16 ? _mm_loadu_si128((const __m128i *)p) : _mm_maskz_loadu_epi8(vm_first(n), p);
    return _mm_test_epi8_mask(bytes, bytes);
}
static inline void vm_store_u8_quads(uint8_t *p, const vm m[4]) {
    __mmask32 low = _mm512_kunpackw(m[1], m[0]), high = _mm512_kunpackw(m[3], m[2]);
    _mm512_storeu_si512(p, _mm512_maskz_mov_epi8(_mm512_kunpackd(high, low), _mm512_set1_epi8(1)));
}
VF_INLINE void vf_transpose_quads(vf x[4]) {
    vf a = _mm512_unpacklo_ps(x[0], x[1]), b = _mm512_unpackhi_ps(x[0], x[1]);
    vf c = _mm512_unpacklo_ps(x[2], x[3]), d = _mm512_unpackhi_ps(x[2], x[3]);
    x[0] = _mm512_shuffle_ps(a, c, 0x44), x[1] = _mm512_shuffle_ps(a, c, 0xee);
    x[2] = _mm512_shuffle_ps(b, d, 0x44), x[3] = _mm512_shuffle_ps(b, d, 0xee);
}
/* Quads within the 128-bit quarters, then the quarters, 4 x 4. */
VF_INLINE void vf_transpose(vf x[16]) {
    vf y[16];
    VF_UNROLLED for (int i = 0; i < 16; i += 4) vf_transpose_quads(x + i);
    VF_UNROLLED for (int i = 0; i < 4; ++i) {
        vf a = _mm512_shuffle_f32x4(x[i], x[i + 4], 0x44);
        vf b = _mm512_shuffle_f32x4(x[i], x[i + 4], 0xee);
        vf c = _mm512_shuffle_f32x4(x[i + 8], x[i + 12], 0x44);
        vf d = _mm512_shuffle_f32x4(x[i + 8], x[i + 12], 0xee);
        y[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        y[i + 4] = _mm512_shuffle_f32x4(a, c, 0xdd);
        y[i + 8] = _mm512_shuffle_f32x4(b, d, 0x88);
        y[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
    VF_UNROLLED for (int i = 0; i < 16; ++i) x[i] = y[i];
}

static inline vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
static inline vi vi_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
static inline vi vi_mul(vi a, vi b) { return _mm512_mullo_epi32(a, b); }
static inline vi vi_mul_even(vi a, vi b) { return _mm512_mul_epu32(a, b); }
static inline vi vi_mul_high(vi a, vi b) {
    vi even = _mm512_mul_epu32(a, b);
    vi odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32));
    return _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
}
static inline vi vi_odd_to_even(vi x) { return _mm512_srli_epi64(x, 32); }
static inline vi vi_merge(vi even, vi odd) {
    return _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}
static inline vm vi_test(vi a, vi b) { return _mm512_test_epi32_mask(a, b); }
static inline vi vi_xor3(vi a, vi b, vi c) { return _mm512_ternarylogic_epi32(a, b, c, 0x96); }
static inline vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
static inline vi vi_or(vi a, vi b) { return _mm512_or_si512(a, b); }
static inline vi vi_xor(vi a, vi b) { return _mm512_xor_si512(a, b); }
static inline vi vi_min(vi a, vi b) { return _mm512_min_epi32(a, b); }
static inline vi vi_max(vi a, vi b) { return _mm512_max_epi32(a, b); }
#define vi_shl(x, n) _mm512_slli_epi32((x), (n))
#define vi_shr(x, n) _mm512_srli_epi32((x), (n))
#define vi_sar(x, n) _mm512_srai_epi32((x), (n))
static inline vm vi_eq(vi a, vi b) { return _mm512_cmpeq_epi32_mask(a, b); }
static inline vm vi_gt(vi a, vi b) { return _mm512_cmpgt_epi32_mask(a, b); }
static inline vm vi_lt(vi a, vi b) { return _mm512_cmplt_epi32_mask(a, b); }
static inline vi vi_select(vm m, vi a, vi b) { return _mm512_mask_blend_epi32(m, b, a); }

static inline vi vi_from_vf(vf x) { return _mm512_cvtps_epi32(x); }
static inline vi vi_truncate_vf(vf x) { return _mm512_cvttps_epi32(x); }
static inline vf vf_from_vi(vi x) { return _mm512_cvtepi32_ps(x); }

static inline __m256 avx512_high(vf x) { return _mm512_extractf32x8_ps(x, 1); }
static inline float vf_reduce_add(vf x) {
    __m256 y = _mm256_add_ps(_mm512_castps512_ps256(x), avx512_high(x));
    __m128 z = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    z = _mm_add_ps(z, _mm_movehl_ps(z, z));
    return _mm_cvtss_f32(_mm_add_ss(z, _mm_shuffle_ps(z, z, 1)));
}
/* A transposition that adds as it goes, 30 shuffles and 15 additions: pairs and quads within the
 * 128-bit quarters, then the quarters. */
VF_INLINE vf vf_reduce_each(const vf x[16]) {
    vf y[8], z[4];
    VF_UNROLLED for (int i = 0; i < 8; i++) y[i] = _mm512_add_ps(
        _mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]), _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]));
    VF_UNROLLED for (int i = 0; i < 4; i++) z[i] =
        _mm512_add_ps(_mm512_shuffle_ps(y[2 * i], y[2 * i + 1], 0x44),
                      _mm512_shuffle_ps(y[2 * i], y[2 * i + 1], 0xee));
    vf a = _mm512_add_ps(_mm512_shuffle_f32x4(z[0], z[1], 0x44),
                         _mm512_shuffle_f32x4(z[0], z[1], 0xee));
    vf b = _mm512_add_ps(_mm512_shuffle_f32x4(z[2], z[3], 0x44),
                         _mm512_shuffle_f32x4(z[2], z[3], 0xee));
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}
static inline float vf_reduce_max(vf x) {
    __m256 y = _mm256_max_ps(_mm512_castps512_ps256(x), avx512_high(x));
    __m128 z = _mm_max_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    z = _mm_max_ps(z, _mm_movehl_ps(z, z));
    return _mm_cvtss_f32(_mm_max_ss(z, _mm_shuffle_ps(z, z, 1)));
}
static inline float vf_reduce_min(vf x) {
    __m256 y = _mm256_min_ps(_mm512_castps512_ps256(x), avx512_high(x));
    __m128 z = _mm_min_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    z = _mm_min_ps(z, _mm_movehl_ps(z, z));
    return _mm_cvtss_f32(_mm_min_ss(z, _mm_shuffle_ps(z, z, 1)));
}

#define VD_WIDTH 8
typedef __m512d vd;

static inline vd vd_set1(double x) { return _mm512_set1_pd(x); }
static inline vd vd_add(vd a, vd b) { return _mm512_add_pd(a, b); }
static inline vd vd_load(const double *p) { return _mm512_loadu_pd(p); }
static inline vd vd_load_n(const double *p, size_t n) {
    return _mm512_maskz_loadu_pd((__mmask8)vm_first(n), p);
}
static inline void vd_store(double *p, vd x) { _mm512_storeu_pd(p, x); }
static inline void vd_stream(double *p, vd x) { _mm512_stream_pd(p, x); }
static inline double vd_reduce_add(vd x) {
    __m256d y = _mm256_add_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd(x, 1));
    __m128d z = _mm_add_pd(_mm256_castpd256_pd128(y), _mm256_extractf128_pd(y, 1));
    return _mm_cvtsd_f64(_mm_add_sd(z, _mm_unpackhi_pd(z, z)));
}
static inline void vd_store_n(double *p, vd x, size_t n) {
    _mm512_mask_storeu_pd(p, (__mmask8)vm_first(n), x);
}
static inline vd vd_sub(vd a, vd b) { return _mm512_sub_pd(a, b); }
static inline vd vd_mul(vd a, vd b) { return _mm512_mul_pd(a, b); }
static inline vd vd_div(vd a, vd b) { return _mm512_div_pd(a, b); }
static inline vd vd_fma(vd a, vd b, vd c) { return _mm512_fmadd_pd(a, b, c); }
static inline vd vd_min(vd a, vd b) { return _mm512_min_pd(a, b); }
static inline vd vd_max(vd a, vd b) { return _mm512_max_pd(a, b); }
static inline vd vd_abs(vd x) { return _mm512_abs_pd(x); }
static inline vd vd_sqrt(vd x) { return _mm512_sqrt_pd(x); }
typedef __mmask8 vdm;
static inline vdm vd_eq(vd a, vd b) { return _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ); }
static inline vdm vd_gt(vd a, vd b) { return _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ); }
static inline vdm vd_unordered(vd a, vd b) { return _mm512_cmp_pd_mask(a, b, _CMP_UNORD_Q); }
static inline vd vd_select(vdm m, vd a, vd b) { return _mm512_mask_blend_pd(m, b, a); }
static inline vdm vdm_or(vdm a, vdm b) { return (vdm)(a | b); }
static inline int vdm_any(vdm a) { return a != 0; }
static inline vdm vdm_first(size_t n) { return (vdm)((1u << n) - 1u); }
static inline double vd_reduce_max(vd x) {
    __m256d y = _mm256_max_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd(x, 1));
    __m128d z = _mm_max_pd(_mm256_castpd256_pd128(y), _mm256_extractf128_pd(y, 1));
    return _mm_cvtsd_f64(_mm_max_sd(z, _mm_unpackhi_pd(z, z)));
}
static inline double vd_reduce_min(vd x) {
    __m256d y = _mm256_min_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd(x, 1));
    __m128d z = _mm_min_pd(_mm256_castpd256_pd128(y), _mm256_extractf128_pd(y, 1));
    return _mm_cvtsd_f64(_mm_min_sd(z, _mm_unpackhi_pd(z, z)));
}

static inline vd vd_fms(vd a, vd b, vd c) { return _mm512_fmsub_pd(a, b, c); }
static inline vd vd_fnma(vd a, vd b, vd c) { return _mm512_fnmadd_pd(a, b, c); }
VF_INLINE void vf_deinterleave(vf a, vf b, vf *even, vf *odd) {
    vi first = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    *even = _mm512_permutex2var_ps(a, first, b);
    *odd = _mm512_permutex2var_ps(a, _mm512_add_epi32(first, _mm512_set1_epi32(1)), b);
}
VF_INLINE void vf_interleave(vf even, vf odd, vf *a, vf *b) {
    vi low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    *a = _mm512_permutex2var_ps(even, low, odd);
    *b = _mm512_permutex2var_ps(even, _mm512_add_epi32(low, _mm512_set1_epi32(8)), odd);
}
VF_INLINE vf vf_reverse(vf x) {
    return _mm512_permutexvar_ps(
        _mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), x);
}
VF_INLINE void vd_deinterleave(vd a, vd b, vd *even, vd *odd) {
    *even = _mm512_permutex2var_pd(a, _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14), b);
    *odd = _mm512_permutex2var_pd(a, _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15), b);
}
VF_INLINE void vd_interleave(vd even, vd odd, vd *a, vd *b) {
    *a = _mm512_permutex2var_pd(even, _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), odd);
    *b = _mm512_permutex2var_pd(even, _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15), odd);
}
VF_INLINE vd vd_reverse(vd x) {
    return _mm512_permutexvar_pd(_mm512_setr_epi64(7, 6, 5, 4, 3, 2, 1, 0), x);
}
/* Pairs, then the quarters, 4 x 4. */
VF_INLINE void vd_transpose(vd x[8]) {
    vd y[8];
    VF_UNROLLED for (int i = 0; i < 8; i += 2) {
        y[i / 2] = _mm512_unpacklo_pd(x[i], x[i + 1]);
        y[i / 2 + 4] = _mm512_unpackhi_pd(x[i], x[i + 1]);
    }
    VF_UNROLLED for (int i = 0; i < 2; ++i) {
        vd a = _mm512_shuffle_f64x2(y[4 * i], y[4 * i + 1], 0x44);
        vd b = _mm512_shuffle_f64x2(y[4 * i], y[4 * i + 1], 0xee);
        vd c = _mm512_shuffle_f64x2(y[4 * i + 2], y[4 * i + 3], 0x44);
        vd d = _mm512_shuffle_f64x2(y[4 * i + 2], y[4 * i + 3], 0xee);
        x[i] = _mm512_shuffle_f64x2(a, c, 0x88);
        x[i + 2] = _mm512_shuffle_f64x2(a, c, 0xdd);
        x[i + 4] = _mm512_shuffle_f64x2(b, d, 0x88);
        x[i + 6] = _mm512_shuffle_f64x2(b, d, 0xdd);
    }
}

#endif
