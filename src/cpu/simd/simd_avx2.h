/* The vocabulary of simd.h on AVX2, FMA and F16C: eight lanes; a mask is a vector of all-ones and
 * zeros. */
#ifndef FOVEA_CPU_SIMD_SIMD_AVX2_H
#define FOVEA_CPU_SIMD_SIMD_AVX2_H

#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__F16C__)
    #error "the avx2 tier needs -mavx2 -mfma -mf16c"
#endif

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define VF_WIDTH 8

typedef __m256 vf;
typedef __m256i vi;
typedef __m256 vm;

static inline vi vf_as_vi(vf x) { return _mm256_castps_si256(x); }
static inline vf vi_as_vf(vi x) { return _mm256_castsi256_ps(x); }

static inline vi vi_set1(int32_t x) { return _mm256_set1_epi32(x); }
static inline vi vi_iota(void) { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
static inline vm vm_first(size_t n) {
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), vi_iota()));
}

static inline vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
static inline vf vf_load_n(const float *p, size_t n) {
    return _mm256_maskload_ps(p, vf_as_vi(vm_first(n)));
}
static inline void vf_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
static inline void vf_store_n(float *p, vf x, size_t n) {
    _mm256_maskstore_ps(p, vf_as_vi(vm_first(n)), x);
}
static inline vf vf_load_strided_n(const float *p, ptrdiff_t stride, size_t n) {
    float lanes[8] = {0};
    for (size_t i = 0; i < n; ++i) lanes[i] = p[(ptrdiff_t)i * stride];
    return _mm256_loadu_ps(lanes);
}
static inline vf vf_load_strided(const float *p, ptrdiff_t stride) {
    return vf_load_strided_n(p, stride, 8);
}
static inline vf vf_gather(const float *p, vi index) { return _mm256_i32gather_ps(p, index, 4); }
static inline void vf_stream(float *p, vf x) { _mm256_stream_ps(p, x); }
static inline void vf_stream_fence(void) { _mm_sfence(); }

/* There is no masked load or store of 16-bit lanes before AVX-512BW; tails go through the stack. */
static inline __m128i avx2_load_halves_n(const uint16_t *p, size_t n) {
    uint16_t lanes[8] = {0};
    for (size_t i = 0; i < n; ++i) lanes[i] = p[i];
    return _mm_loadu_si128((const __m128i *)lanes);
}
static inline void avx2_store_halves_n(uint16_t *p, __m128i x, size_t n) {
    uint16_t lanes[8];
    _mm_storeu_si128((__m128i *)lanes, x);
    for (size_t i = 0; i < n; ++i) p[i] = lanes[i];
}
static inline vf avx2_from_bf16(__m128i x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}
static inline __m128i avx2_to_bf16(vf x) {
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08);
    return _mm256_castsi256_si128(packed);
}
static inline vf vf_load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
static inline vf vf_load_f16_n(const uint16_t *p, size_t n) {
    return _mm256_cvtph_ps(avx2_load_halves_n(p, n));
}
static inline void vf_store_f16(uint16_t *p, vf x) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
static inline void vf_store_f16_n(uint16_t *p, vf x, size_t n) {
    avx2_store_halves_n(p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT), n);
}
static inline vf vf_load_bf16(const uint16_t *p) {
    return avx2_from_bf16(_mm_loadu_si128((const __m128i *)p));
}
static inline vf vf_load_bf16_n(const uint16_t *p, size_t n) {
    return avx2_from_bf16(avx2_load_halves_n(p, n));
}
static inline void vf_store_bf16(uint16_t *p, vf x) {
    _mm_storeu_si128((__m128i *)p, avx2_to_bf16(x));
}
static inline void vf_store_bf16_n(uint16_t *p, vf x, size_t n) {
    avx2_store_halves_n(p, avx2_to_bf16(x), n);
}

/* As in simd_avx512.h: through an f16 that is 2^-8 of the value. */
static inline vf avx2_from_e4m3(__m128i x) {
    __m128i wide = _mm_slli_epi16(_mm_cvtepi8_epi16(x), 7);
    __m128i magnitude = _mm_and_si128(wide, _mm_set1_epi16(0x3f80));
    __m128i nan = _mm_cmpeq_epi16(magnitude, _mm_set1_epi16(0x3f80));
    wide = _mm_and_si128(wide, _mm_set1_epi16((short)0xbf80));
    wide = _mm_or_si128(wide, _mm_and_si128(nan, _mm_set1_epi16(0x7fff)));
    return _mm256_mul_ps(_mm256_cvtph_ps(wide), _mm256_set1_ps(256));
}
static inline __m128i avx2_load_bytes_n(const uint8_t *p, size_t n) {
    uint8_t lanes[8] = {0};
    for (size_t i = 0; i < n; ++i) lanes[i] = p[i];
    return _mm_loadl_epi64((const __m128i *)lanes);
}
static inline vf vf_load_i8(const uint8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
static inline vf vf_load_i8_n(const uint8_t *p, size_t n) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(avx2_load_bytes_n(p, n)));
}
static inline vf vf_load_e4m3(const uint8_t *p) {
    return avx2_from_e4m3(_mm_loadl_epi64((const __m128i *)p));
}
static inline vf vf_load_e4m3_n(const uint8_t *p, size_t n) {
    return avx2_from_e4m3(avx2_load_bytes_n(p, n));
}

static inline void vf_stream_f16(uint16_t *p, vf x) {
    _mm_stream_si128((__m128i *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
static inline void vf_stream_bf16(uint16_t *p, vf x) {
    _mm_stream_si128((__m128i *)p, avx2_to_bf16(x));
}

static inline vf vf_set1(float x) { return _mm256_set1_ps(x); }
static inline vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
static inline vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf vf_fms(vf a, vf b, vf c) { return _mm256_fmsub_ps(a, b, c); }
static inline vf vf_fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
static inline vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf vf_abs(vf x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
static inline vf vf_neg(vf x) { return _mm256_xor_ps(_mm256_set1_ps(-0.0f), x); }
static inline vf vf_copysign(vf magnitude, vf sign) {
    return _mm256_or_ps(vf_abs(magnitude), _mm256_and_ps(_mm256_set1_ps(-0.0f), sign));
}
static inline vf vf_sqrt(vf x) { return _mm256_sqrt_ps(x); }
static inline vf vf_round(vf x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vf vf_floor(vf x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
static inline vf vf_ceil(vf x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
}
static inline vf vf_trunc(vf x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
}

static inline vm vf_lt(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
static inline vm vf_le(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
static inline vm vf_gt(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
static inline vm vf_ge(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_GE_OQ); }
static inline vm vf_eq(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
static inline vm vf_ne(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_NEQ_UQ); }
static inline vm vf_unordered(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_UNORD_Q); }
static inline vf vf_select(vm m, vf a, vf b) { return _mm256_blendv_ps(b, a, m); }

static inline vm vm_and(vm a, vm b) { return _mm256_and_ps(a, b); }
static inline vm vm_or(vm a, vm b) { return _mm256_or_ps(a, b); }
static inline vm vm_xor(vm a, vm b) { return _mm256_xor_ps(a, b); }
static inline vm vm_not(vm a) {
    return _mm256_xor_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(-1)));
}
static inline unsigned vm_bits(vm a) { return (unsigned)_mm256_movemask_ps(a); }
static inline int vm_any(vm a) { return vm_bits(a) != 0; }
static inline int vm_all(vm a) { return vm_bits(a) == 0xff; }

static inline vi vi_load(const int32_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline vi vi_load_n(const int32_t *p, size_t n) {
    return _mm256_maskload_epi32(p, vf_as_vi(vm_first(n)));
}
static inline void vi_store(int32_t *p, vi x) { _mm256_storeu_si256((__m256i *)p, x); }
static inline void vi_store_n(int32_t *p, vi x, size_t n) {
    _mm256_maskstore_epi32(p, vf_as_vi(vm_first(n)), x);
}
static inline vi vi_load_u8_n(const uint8_t *p, size_t n) {
    uint8_t lanes[8] = {0};
    if (n == 8) return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
    for (size_t i = 0; i < n; ++i) lanes[i] = p[i];
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)lanes));
}
static inline uint32_t u8_bits(const uint8_t *p, size_t n) {
    uint8_t bytes[32] = {0};
    if (n < 32) {
        for (size_t i = 0; i < n; ++i) bytes[i] = p[i];
        p = bytes;
    }
    __m256i zero =
        _mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *)p), _mm256_setzero_si256());
    return ~(uint32_t)_mm256_movemask_epi8(zero);
}
static inline void vi_store_u8_n(uint8_t *p, vi x, size_t n) {
    const __m256i low = _mm256_set1_epi32(0x0c080400);
    __m256i bytes = _mm256_shuffle_epi8(x, low); /* four in each half */
    __m128i eight =
        _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
    uint8_t lanes[8];
    _mm_storel_epi64((__m128i *)(n == 8 ? p : lanes), eight);
    for (size_t i = 0; n < 8 && i < n; ++i) p[i] = lanes[i];
}
VF_INLINE void vf_transpose_quads(vf x[4]) {
    vf a = _mm256_unpacklo_ps(x[0], x[1]), b = _mm256_unpackhi_ps(x[0], x[1]);
    vf c = _mm256_unpacklo_ps(x[2], x[3]), d = _mm256_unpackhi_ps(x[2], x[3]);
    x[0] = _mm256_shuffle_ps(a, c, 0x44), x[1] = _mm256_shuffle_ps(a, c, 0xee);
    x[2] = _mm256_shuffle_ps(b, d, 0x44), x[3] = _mm256_shuffle_ps(b, d, 0xee);
}
/* Quads within the halves, then the halves. */
VF_INLINE void vf_transpose(vf x[8]) {
    vf y[8];
    VF_UNROLLED for (int i = 0; i < 8; i += 4) vf_transpose_quads(x + i);
    VF_UNROLLED for (int i = 0; i < 4; ++i) {
        y[i] = _mm256_permute2f128_ps(x[i], x[i + 4], 0x20);
        y[i + 4] = _mm256_permute2f128_ps(x[i], x[i + 4], 0x31);
    }
    VF_UNROLLED for (int i = 0; i < 8; ++i) x[i] = y[i];
}

static inline vi vi_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
static inline vi vi_sub(vi a, vi b) { return _mm256_sub_epi32(a, b); }
static inline vi vi_mul(vi a, vi b) { return _mm256_mullo_epi32(a, b); }
static inline vi vi_mul_even(vi a, vi b) { return _mm256_mul_epu32(a, b); }
static inline vi vi_mul_high(vi a, vi b) {
    vi even = _mm256_mul_epu32(a, b);
    vi odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
    return _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
}
static inline vi vi_odd_to_even(vi x) { return _mm256_srli_epi64(x, 32); }
static inline vi vi_merge(vi even, vi odd) {
    return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}
static inline vm vi_test(vi a, vi b) {
    vi zero = _mm256_cmpeq_epi32(_mm256_and_si256(a, b), _mm256_setzero_si256());
    return _mm256_castsi256_ps(_mm256_xor_si256(zero, _mm256_set1_epi32(-1)));
}
static inline vi vi_xor3(vi a, vi b, vi c) { return _mm256_xor_si256(_mm256_xor_si256(a, b), c); }
static inline vi vi_and(vi a, vi b) { return _mm256_and_si256(a, b); }
static inline vi vi_or(vi a, vi b) { return _mm256_or_si256(a, b); }
static inline vi vi_xor(vi a, vi b) { return _mm256_xor_si256(a, b); }
static inline vi vi_min(vi a, vi b) { return _mm256_min_epi32(a, b); }
static inline vi vi_max(vi a, vi b) { return _mm256_max_epi32(a, b); }
#define vi_shl(x, n) _mm256_slli_epi32((x), (n))
#define vi_shr(x, n) _mm256_srli_epi32((x), (n))
#define vi_sar(x, n) _mm256_srai_epi32((x), (n))
static inline vm vi_eq(vi a, vi b) { return _mm256_castsi256_ps(_mm256_cmpeq_epi32(a, b)); }
static inline vm vi_gt(vi a, vi b) { return _mm256_castsi256_ps(_mm256_cmpgt_epi32(a, b)); }
static inline vm vi_lt(vi a, vi b) { return vi_gt(b, a); }
static inline vi vi_select(vm m, vi a, vi b) {
    return vf_as_vi(vf_select(m, vi_as_vf(a), vi_as_vf(b)));
}

static inline vi vi_from_vf(vf x) { return _mm256_cvtps_epi32(x); }
static inline vi vi_truncate_vf(vf x) { return _mm256_cvttps_epi32(x); }
static inline vf vf_from_vi(vi x) { return _mm256_cvtepi32_ps(x); }

static inline float avx2_reduce_add4(__m128 x) {
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}
static inline float vf_reduce_add(vf x) {
    return avx2_reduce_add4(_mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)));
}
VF_INLINE vf vf_reduce_each(const vf x[8]) {
    vf a = _mm256_hadd_ps(_mm256_hadd_ps(x[0], x[1]), _mm256_hadd_ps(x[2], x[3]));
    vf b = _mm256_hadd_ps(_mm256_hadd_ps(x[4], x[5]), _mm256_hadd_ps(x[6], x[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}
static inline float vf_reduce_max(vf x) {
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_shuffle_ps(y, y, 1)));
}
static inline float vf_reduce_min(vf x) {
    __m128 y = _mm_min_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_min_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_min_ss(y, _mm_shuffle_ps(y, y, 1)));
}

#define VD_WIDTH 4
typedef __m256d vd;

static inline vd vd_set1(double x) { return _mm256_set1_pd(x); }
static inline vd vd_add(vd a, vd b) { return _mm256_add_pd(a, b); }
static inline vd vd_load(const double *p) { return _mm256_loadu_pd(p); }
static inline vd vd_load_n(const double *p, size_t n) {
    __m256i first =
        _mm256_cmpgt_epi64(_mm256_set1_epi64x((long long)n), _mm256_setr_epi64x(0, 1, 2, 3));
    return _mm256_maskload_pd(p, first);
}
static inline void vd_store(double *p, vd x) { _mm256_storeu_pd(p, x); }
static inline void vd_stream(double *p, vd x) { _mm256_stream_pd(p, x); }
static inline double vd_reduce_add(vd x) {
    __m128d y = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
    return _mm_cvtsd_f64(_mm_add_sd(y, _mm_unpackhi_pd(y, y)));
}
static inline void vd_store_n(double *p, vd x, size_t n) {
    __m256i first =
        _mm256_cmpgt_epi64(_mm256_set1_epi64x((long long)n), _mm256_setr_epi64x(0, 1, 2, 3));
    _mm256_maskstore_pd(p, first, x);
}
static inline vd vd_sub(vd a, vd b) { return _mm256_sub_pd(a, b); }
static inline vd vd_mul(vd a, vd b) { return _mm256_mul_pd(a, b); }
static inline vd vd_div(vd a, vd b) { return _mm256_div_pd(a, b); }
static inline vd vd_fma(vd a, vd b, vd c) { return _mm256_fmadd_pd(a, b, c); }
static inline vd vd_min(vd a, vd b) { return _mm256_min_pd(a, b); }
static inline vd vd_max(vd a, vd b) { return _mm256_max_pd(a, b); }
static inline vd vd_abs(vd x) { return _mm256_andnot_pd(_mm256_set1_pd(-0.0), x); }
static inline vd vd_sqrt(vd x) { return _mm256_sqrt_pd(x); }
typedef __m256d vdm;
static inline vdm vd_eq(vd a, vd b) { return _mm256_cmp_pd(a, b, _CMP_EQ_OQ); }
static inline vdm vd_gt(vd a, vd b) { return _mm256_cmp_pd(a, b, _CMP_GT_OQ); }
static inline vdm vd_unordered(vd a, vd b) { return _mm256_cmp_pd(a, b, _CMP_UNORD_Q); }
static inline vd vd_select(vdm m, vd a, vd b) { return _mm256_blendv_pd(b, a, m); }
static inline vdm vdm_or(vdm a, vdm b) { return _mm256_or_pd(a, b); }
static inline int vdm_any(vdm a) { return _mm256_movemask_pd(a) != 0; }
static inline vdm vdm_first(size_t n) {
    return _mm256_castsi256_pd(
        _mm256_cmpgt_epi64(_mm256_set1_epi64x((long long)n), _mm256_setr_epi64x(0, 1, 2, 3)));
}
static inline double vd_reduce_max(vd x) {
    __m128d y = _mm_max_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
    return _mm_cvtsd_f64(_mm_max_sd(y, _mm_unpackhi_pd(y, y)));
}
static inline double vd_reduce_min(vd x) {
    __m128d y = _mm_min_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
    return _mm_cvtsd_f64(_mm_min_sd(y, _mm_unpackhi_pd(y, y)));
}
VF_INLINE void vd_transpose(vd x[4]) {
    vd a = _mm256_unpacklo_pd(x[0], x[1]), b = _mm256_unpackhi_pd(x[0], x[1]);
    vd c = _mm256_unpacklo_pd(x[2], x[3]), d = _mm256_unpackhi_pd(x[2], x[3]);
    x[0] = _mm256_permute2f128_pd(a, c, 0x20), x[1] = _mm256_permute2f128_pd(b, d, 0x20);
    x[2] = _mm256_permute2f128_pd(a, c, 0x31), x[3] = _mm256_permute2f128_pd(b, d, 0x31);
}

static inline vd vd_fms(vd a, vd b, vd c) { return _mm256_fmsub_pd(a, b, c); }
static inline vd vd_fnma(vd a, vd b, vd c) { return _mm256_fnmadd_pd(a, b, c); }
VF_INLINE vf avx2_middle_swapped(vf x) {
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(x), 0xd8));
}
VF_INLINE void vf_deinterleave(vf a, vf b, vf *even, vf *odd) {
    *even = avx2_middle_swapped(_mm256_shuffle_ps(a, b, 0x88));
    *odd = avx2_middle_swapped(_mm256_shuffle_ps(a, b, 0xdd));
}
VF_INLINE void vf_interleave(vf even, vf odd, vf *a, vf *b) {
    vf low = _mm256_unpacklo_ps(even, odd), high = _mm256_unpackhi_ps(even, odd);
    *a = _mm256_permute2f128_ps(low, high, 0x20);
    *b = _mm256_permute2f128_ps(low, high, 0x31);
}
VF_INLINE vf vf_reverse(vf x) {
    return _mm256_permutevar8x32_ps(x, _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0));
}
VF_INLINE void vd_deinterleave(vd a, vd b, vd *even, vd *odd) {
    *even = _mm256_permute4x64_pd(_mm256_unpacklo_pd(a, b), 0xd8);
    *odd = _mm256_permute4x64_pd(_mm256_unpackhi_pd(a, b), 0xd8);
}
VF_INLINE void vd_interleave(vd even, vd odd, vd *a, vd *b) {
    vd low = _mm256_unpacklo_pd(even, odd), high = _mm256_unpackhi_pd(even, odd);
    *a = _mm256_permute2f128_pd(low, high, 0x20);
    *b = _mm256_permute2f128_pd(low, high, 0x31);
}
VF_INLINE vd vd_reverse(vd x) { return _mm256_permute4x64_pd(x, 0x1b); }

#endif
