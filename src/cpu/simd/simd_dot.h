/* Products of small integers, four or two to a lane, over the vocabulary of simd.h.
 *
 * A lane of 32 bits holds DOT_ELEMENTS integers of 8 or 16 bits. vi_dot(sum, line, row) adds to each lane of sum the products of
 * the lane's elements of `line` and `row`, exactly. Elements of `line` are what lane arithmetic left plus DOT_OFFSET
 * (the instruction of VNNI takes its first factor without a sign; who multiplies signed numbers
 * subtracts DOT_OFFSET times the sum of the other factor), or weights from 0 to DOT_WEIGHT_MAX. Elements of `row` lie
 * between -127 and 127.
 *
 * The instructions that add to their destination are written as such: GCC 12 copies and spills 24 sums a step where it is left to
 * its intrinsics, which cost two thirds of the rate.
 *
 * Plain AVX2 and AVX-512 have no safe product of bytes: vpmaddubsw saturates where pairs reach
 * 2 * 255 * 127, so elements are 16 bits wide there and vpmaddwd adds pairs: two operations for two elements, as many as f32 takes.
 */
#ifndef FOVEA_CPU_SIMD_SIMD_DOT_H
#define FOVEA_CPU_SIMD_SIMD_DOT_H

#include "simd.h"

#if defined(__AVX512VNNI__) && defined(FOVEA_TIER_AVX512)
enum { DOT_ELEMENTS = 4, DOT_OFFSET = 128, DOT_WEIGHT_MAX = 255 };
static inline vi vi_dot(vi sum, vi line, vi row) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(line), "v"(row));
    return sum;
}
#elif defined(__AVXVNNI__) && defined(FOVEA_TIER_AVX2)
enum { DOT_ELEMENTS = 4, DOT_OFFSET = 128, DOT_WEIGHT_MAX = 255 };
static inline vi vi_dot(vi sum, vi line, vi row) {
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(line), "x"(row));
    return sum;
}
#elif defined(FOVEA_TIER_AVX512)
enum { DOT_ELEMENTS = 2, DOT_OFFSET = 0, DOT_WEIGHT_MAX = 255 };
static inline vi vi_dot(vi sum, vi line, vi row) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(line, row));
}
#elif defined(FOVEA_TIER_AVX2)
enum { DOT_ELEMENTS = 2, DOT_OFFSET = 0, DOT_WEIGHT_MAX = 255 };
static inline vi vi_dot(vi sum, vi line, vi row) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(line, row));
}
#elif defined(FOVEA_TIER_NEON)
enum { DOT_ELEMENTS = 4, DOT_OFFSET = 0, DOT_WEIGHT_MAX = 127 };
static inline vi vi_dot(vi sum, vi line, vi row) {
    int8x16_t a = vreinterpretq_s8_s32(line), b = vreinterpretq_s8_s32(row);
    #if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(sum, a, b);
    #else
    int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
    int32x4_t high = vpaddlq_s16(vmull_high_s8(a, b));
    return vaddq_s32(sum, vpaddq_s32(low, high));
    #endif
}
#else
enum { DOT_ELEMENTS = 4, DOT_OFFSET = 0, DOT_WEIGHT_MAX = 127 };
static inline vi vi_dot(vi sum, vi line, vi row) {
    for (int i = 0; i < 32; i += 8)
        sum += (int8_t)((uint32_t)line >> i) * (int8_t)((uint32_t)row >> i);
    return sum;
}
#endif

/* Products of integers of 16 bits, two to a lane, added in 32 bits that wrap around. */
#if defined(__AVX512VNNI__) && defined(FOVEA_TIER_AVX512)
    #define DOT_HAS_SHORTS 1
static inline vi vi_dot_shorts(vi sum, vi line, vi row) {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(line), "v"(row));
    return sum;
}
#elif defined(__AVXVNNI__) && defined(FOVEA_TIER_AVX2)
    #define DOT_HAS_SHORTS 1
static inline vi vi_dot_shorts(vi sum, vi line, vi row) {
    __asm__("%{vex%} vpdpwssd %2, %1, %0" : "+x"(sum) : "x"(line), "x"(row));
    return sum;
}
#else
    #define DOT_HAS_SHORTS 0
static inline vi vi_dot_shorts(vi sum, vi line, vi row) {
    (void)line, (void)row;
    return sum;
}
#endif

/* The low bytes of four vectors side by side in each lane, the first lowest. */
VF_INLINE vi vi_pack_bytes(const vi x[4]) {
#if defined(FOVEA_TIER_AVX512)
    /* Byte 0 of each lane to all its bytes, merged where the mask has its place. */
    const __m512i spread = _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0);
    __m512i y = _mm512_mask_shuffle_epi8(x[0], 0x2222222222222222, x[1], spread);
    y = _mm512_mask_shuffle_epi8(y, 0x4444444444444444, x[2], spread);
    return _mm512_mask_shuffle_epi8(y, 0x8888888888888888, x[3], spread);
#else
    const vi byte = vi_set1(0xff);
    vi low = vi_or(vi_and(x[0], byte), vi_shl(vi_and(x[1], byte), 8));
    return vi_or(low, vi_or(vi_shl(vi_and(x[2], byte), 16), vi_shl(x[3], 24)));
#endif
}

/* The low halves of two vectors, alike. */
VF_INLINE vi vi_pack_shorts(const vi x[2]) {
    return vi_or(vi_and(x[0], vi_set1(0xffff)), vi_shl(x[1], 16));
}

/* Products of bf16 numbers, two to a lane, added in f32: its operands are kept as bits. */
#if defined(__AVX512BF16__) && defined(FOVEA_TIER_AVX512)
    #define DOT_HAS_BF16 1
static inline vi vi_dot_bf16(vi sum, vi line, vi row) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(line), "v"(row));
    return sum;
}
#else
    #define DOT_HAS_BF16 0
static inline vi vi_dot_bf16(vi sum, vi line, vi row) {
    (void)line, (void)row;
    return sum;
}
#endif

/* Two vectors as bf16, the first in the low halves; ties away from zero, for finite numbers only. */
VF_INLINE vi vi_pack_bf16(vf low, vf high) {
    const vi half = vi_set1(0x8000);
    vi a = vi_add(vf_as_vi(low), half), b = vi_add(vf_as_vi(high), half);
#if defined(FOVEA_TIER_AVX512)
    const __m512i upper = _mm512_set4_epi32(0x0f0e0f0e, 0x0b0a0b0a, 0x07060706, 0x03020302);
    return _mm512_mask_shuffle_epi8(b, 0x3333333333333333, a, upper);
#else
    return vi_or(vi_shr(a, 16), vi_and(b, vi_set1((int32_t)0xffff0000)));
#endif
}

/* 2^x for weights that are rounded to 8 bits afterwards: relative error 7.5e-5, x <= 126, -inf
 * gives 0, NaN gives NaN. Minimax fits of degree 3 (Remez exchange). */
static inline vf vf_exp2_coarse(vf x) {
#ifdef FOVEA_TIER_AVX512
    vf r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    vf p = vf_set1(0x1.3f96a4p-4f);
    p = vf_fma(p, r, vf_set1(0x1.cefc4cp-3f));
    p = vf_fma(p, r, vf_set1(0x1.64444cp-1f));
    return _mm512_scalef_ps(vf_fma(p, r, vf_set1(0x1.fff632p-1f)), x);
#else
    const vf magic = vf_set1(0x1.8p23f + 127.0f);
    x = vf_max(vf_set1(-127.0f), x);
    vf biased = vf_add(x, magic);
    vf r = vf_sub(x, vf_sub(biased, magic));
    vf p = vf_set1(0x1.c3f76p-5f);
    p = vf_fma(p, r, vf_set1(0x1.f0de1ap-3f));
    p = vf_fma(p, r, vf_set1(0x1.62f31ap-1f));
    p = vf_fma(p, r, vf_set1(0x1.fff692p-1f));
    return vf_mul(p, vi_as_vf(vi_shl(vf_as_vi(biased), 23)));
#endif
}

#endif
