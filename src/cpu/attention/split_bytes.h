/* Elements of caches as bf16: every i8 and e4m3 is one, and its two bytes are looked up in tables of 128 (AVX512-VBMI): 5 to 8
 * operations for 64 elements, where conversion to floats takes 8 to 32. */
#ifndef FOVEA_CPU_ATTENTION_SPLIT_BYTES_H
#define FOVEA_CPU_ATTENTION_SPLIT_BYTES_H

#include "cpu/kernel.h"

/* ---- Tables ------------------------------------------------------------------------------------------ */

/* Bits of the bf16 that is n, an integer up to 128; and of the one that e4m3 bits m stand for, without a sign. */
#define LOG2_OF(n) (31 - __builtin_clz((unsigned)(n) | 1u))
#define INTEGER_BITS(n) ((n) == 0 ? 0 : (127 + LOG2_OF(n)) << 7 | ((n) << (7 - LOG2_OF(n)) & 0x7f))
#define SUBNORMAL_BITS(m) ((m) == 0 ? 0 : INTEGER_BITS(m) - (9 << 7))
#define E4M3_BITS(m)                                                                               \
    ((m) == 127 ? 0x7fc0 : (m) < 8 ? SUBNORMAL_BITS(m) : ((m) / 8 + 120) << 7 | (m) % 8 << 4)

#define BYTE(bits, m, shift) (uint8_t)(bits(m) >> (shift))
#define BYTES_4(bits, m, shift)                                                                    \
    BYTE(bits, m, shift), BYTE(bits, (m) + 1, shift), BYTE(bits, (m) + 2, shift),                  \
        BYTE(bits, (m) + 3, shift)
#define BYTES_16(bits, m, shift)                                                                   \
    BYTES_4(bits, m, shift), BYTES_4(bits, (m) + 4, shift), BYTES_4(bits, (m) + 8, shift),         \
        BYTES_4(bits, (m) + 12, shift)
#define BYTES_64(bits, m, shift)                                                                   \
    BYTES_16(bits, m, shift), BYTES_16(bits, (m) + 16, shift), BYTES_16(bits, (m) + 32, shift),    \
        BYTES_16(bits, (m) + 48, shift)
#define TABLE(bits)                                                                                \
    {                                                                                              \
        {BYTES_64(bits, 0, 0), BYTES_64(bits, 64, 0)}, {                                           \
            BYTES_64(bits, 0, 8), BYTES_64(bits, 64, 8)                                            \
        }                                                                                          \
    }

/* Low bytes, high bytes; by the low seven bits of an element. */
typedef struct byte_table {
    _Alignas(64) uint8_t low[128], high[128];
} byte_table;
static const byte_table integer_magnitudes = TABLE(INTEGER_BITS);
static const byte_table e4m3_magnitudes = TABLE(E4M3_BITS);

VF_INLINE __m512i look_up(const uint8_t *table, __m512i x) {
    return _mm512_permutex2var_epi8(_mm512_load_si512(table), x, _mm512_load_si512(table + 64));
}

/* The low and the high bytes of 64 elements as bf16. The magnitude 128 is beyond the table; its low byte is that of 0. */
VF_INLINE void find_bytes(const fovea_dtype dtype, __m512i x, __m512i *low, __m512i *high) {
    __m512i top = _mm512_set1_epi8(-128), magnitude;
    if (dtype == FOVEA_E4M3) {
        *low = look_up(e4m3_magnitudes.low, x);
        magnitude = look_up(e4m3_magnitudes.high, x);
    } else {
        /* The high byte of 128 is 0x43: more than that of its place in the table, 0, and 0x80 less 0x3d. Of lesser magnitudes what
         * is left of them is no more than their high bytes (0x42 from 64 on). */
        __m512i index = _mm512_abs_epi8(x);
        *low = look_up(integer_magnitudes.low, index);
        magnitude = _mm512_max_epu8(look_up(integer_magnitudes.high, index),
                                    _mm512_subs_epu8(index, _mm512_set1_epi8(0x3d)));
    }
    *high = _mm512_ternarylogic_epi32(magnitude, x, top, 0xf8); /* or of the second and third */
}

/* ---- Rows of a cache --------------------------------------------------------------------------------- */

VF_INLINE __m256i load_half(const char *row, int64_t bytes) {
    if (bytes >= 32) return _mm256_loadu_si256((const __m256i *)(const void *)row);
    return _mm256_maskz_loadu_epi8((1u << bytes) - 1, row);
}

/* `bytes` bytes, up to 32, of two rows: one below, one above. */
VF_INLINE __m512i load_both(const char *low, const char *high, int64_t at, int64_t bytes) {
    __m512i x = _mm512_castsi256_si512(load_half(low + at, bytes));
    return _mm512_inserti64x4(x, load_half(high + at, bytes), 1);
}

/* Where the bytes of a word of both lie among the low and the high bytes of both; and its halves among the elements of both. */
#define BYTES_OF(c) c, 64 + (c), 32 + (c), 96 + (c)
#define HALVES_OF(c) c, 32 + (c)
#define OF_4(of, c) of(c), of((c) + 1), of((c) + 2), of((c) + 3)
#define OF_16(of, c) OF_4(of, c), OF_4(of, (c) + 4), OF_4(of, (c) + 8), OF_4(of, (c) + 12)
static const _Alignas(64) uint8_t pair_bytes[128] = {OF_16(BYTES_OF, 0), OF_16(BYTES_OF, 16)};
static const _Alignas(64) uint16_t pair_words[32] = {OF_16(HALVES_OF, 0)};

VF_INLINE __m512i load_words(const char *row, int64_t d, int64_t n) {
    const uint16_t *at = (const uint16_t *)(const void *)row + d;
    return n >= 32 ? _mm512_loadu_si512(at) : _mm512_maskz_loadu_epi16((1u << n) - 1, at);
}

/* Columns [d, d + n) of two values, up to 32, as words of both: x[0] the first 16. */
VF_INLINE void load_values(const fovea_dtype dtype, const bool both, const char *even,
                           const char *odd, int64_t d, int64_t n, __m512i *x) {
    if (dtype == FOVEA_BF16) {
        __m512i a = load_words(even, d, n);
        __m512i b = both ? load_words(odd, d, n) : _mm512_setzero_si512();
        const __m512i words = _mm512_load_si512(pair_words);
        x[0] = _mm512_permutex2var_epi16(a, words, b);
        x[1] =
            _mm512_permutex2var_epi16(a, _mm512_add_epi32(words, _mm512_set1_epi32(0x00100010)), b);
        return;
    }
    __m512i low, high;
    find_bytes(dtype, load_both(even, both ? odd : even, d, n), &low, &high);
    x[0] = _mm512_permutex2var_epi8(low, _mm512_load_si512(pair_bytes), high);
    x[1] = _mm512_permutex2var_epi8(low, _mm512_load_si512(pair_bytes + 64), high);
}

/* The same columns of each row by itself, words in their order: x[0] of the even one, x[1] of the odd one. */
VF_INLINE void load_rows(const fovea_dtype dtype, const bool both, const char *even,
                         const char *odd, int64_t d, int64_t n, __m512i *x) {
    if (dtype == FOVEA_BF16) {
        x[0] = load_words(even, d, n);
        if (both) x[1] = load_words(odd, d, n);
        return;
    }
    const __m512i order = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    __m512i low, high;
    find_bytes(dtype, load_both(even, both ? odd : even, d, n), &low, &high);
    __m512i first = _mm512_unpacklo_epi8(low, high), second = _mm512_unpackhi_epi8(low, high);
    x[0] = _mm512_permutex2var_epi64(first, order, second);
    x[1] = _mm512_permutex2var_epi64(first, _mm512_add_epi64(order, _mm512_set1_epi64(4)), second);
}

#endif
