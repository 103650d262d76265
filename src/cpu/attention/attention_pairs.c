/* The products of attention_pairs.h on AVX-512-BF16. Compiled with that extension on top of the tier's, and called only where
 * the processor has it. */
#include "cpu/attention/attention_pairs.h"

#include "cpu/simd/simd_math.h"

/* Two bf16 wherever they lie. */
VF_INLINE __m512bh broadcast_pair(const uint16_t *p) {
    int32_t word;
    memcpy(&word, p, sizeof word);
    return (__m512bh)_mm512_set1_epi32(word);
}

VF_INLINE __m512bh load_words(const int32_t *p) { return (__m512bh)_mm512_loadu_si512(p); }

VF_INLINE void score_group(const int keys, const int vectors, int64_t words, const int32_t *q,
                           const uint16_t *k, int64_t key_stride, float *s, float *maximum) {
    vf sum[12][TILE_VECTORS];
    VF_UNROLLED for (int r = 0; r < keys; r++) VF_UNROLLED for (int v = 0; v < vectors; v++)
        sum[r][v] = vf_set1(0);
    for (int64_t w = 0; w < words; w++, q += TILE_ROWS) {
        __m512bh line[TILE_VECTORS];
        VF_UNROLLED for (int v = 0; v < vectors; v++) line[v] = load_words(q + v * VF_WIDTH);
        VF_UNROLLED for (int r = 0; r < keys; r++) {
            __m512bh key = broadcast_pair(k + r * key_stride + 2 * w);
            VF_UNROLLED for (int v = 0; v < vectors; v++) sum[r][v] =
                _mm512_dpbf16_ps(sum[r][v], line[v], key);
        }
    }
    VF_UNROLLED for (int v = 0; v < vectors; v++) {
        vf largest = vf_load(maximum + v * VF_WIDTH);
        VF_UNROLLED for (int r = 0; r < keys; r++) {
            largest = vf_max(sum[r][v], largest);
            vf_store(s + r * TILE_ROWS + v * VF_WIDTH, sum[r][v]);
        }
        vf_store(maximum + v * VF_WIDTH, largest);
    }
}

VF_INLINE void value_group(const int columns, const int vectors, int64_t pairs, const int32_t *p,
                           const int32_t *value, int64_t value_size, float *out, bool first) {
    vf sum[12][TILE_VECTORS];
    VF_UNROLLED for (int r = 0; r < columns; r++) VF_UNROLLED for (int v = 0; v < vectors; v++)
        sum[r][v] = vf_set1(0);
    for (int64_t j = 0; j < pairs; j++, p += TILE_ROWS, value += value_size) {
        __m512bh line[TILE_VECTORS];
        VF_UNROLLED for (int v = 0; v < vectors; v++) line[v] = load_words(p + v * VF_WIDTH);
        VF_UNROLLED for (int r = 0; r < columns; r++) {
            __m512bh column = (__m512bh)_mm512_set1_epi32(value[r]);
            VF_UNROLLED for (int v = 0; v < vectors; v++) sum[r][v] =
                _mm512_dpbf16_ps(sum[r][v], line[v], column);
        }
    }
    VF_UNROLLED for (int r = 0; r < columns; r++) VF_UNROLLED for (int v = 0; v < vectors; v++) {
        float *place = out + r * TILE_ROWS + v * VF_WIDTH;
        vf_store(place, first ? sum[r][v] : vf_add(vf_load(place), sum[r][v]));
    }
}

/* Lane i: a[i] below, b[i] above, rounded to nearest even. */
VF_INLINE __m512i pack_pairs(vf a, vf b) {
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(b, a));
}

/* Sums of the even and of the odd keys of a block: chains of at most CHAIN_PAIRS. */
VF_INLINE void exponential_block(const int vectors, int64_t keys, float *s, float unit,
                                 const float *reference, float *block_sum) {
    enum { CHAIN_PAIRS = 64 };
    const vf scale = vf_set1(unit);
    vf sum[TILE_VECTORS], m[TILE_VECTORS];
    int32_t *words = (int32_t *)(void *)s;
    VF_UNROLLED for (int v = 0; v < vectors; v++) {
        sum[v] = vf_set1(0);
        m[v] = vf_load(reference + v * VF_WIDTH);
    }
    for (int64_t j = 0; j < keys;) {
        int64_t end = smaller(j + 2 * CHAIN_PAIRS, keys);
        vf chain[TILE_VECTORS];
        VF_UNROLLED for (int v = 0; v < vectors; v++) chain[v] = vf_set1(0);
        for (; j + 1 < end; j += 2, s += 2 * TILE_ROWS, words += TILE_ROWS)
            VF_UNROLLED for (int v = 0; v < vectors; v++) {
                const float *row = s + v * VF_WIDTH;
                vf a = vf_exp2_softmax(vf_fms(vf_load(row), scale, m[v]));
                vf b = vf_exp2_softmax(vf_fms(vf_load(row + TILE_ROWS), scale, m[v]));
                vi_store(words + v * VF_WIDTH, pack_pairs(a, b));
                chain[v] = vf_add(chain[v], vf_add(a, b));
            }
        for (; j < end; j++) VF_UNROLLED for (int v = 0; v < vectors; v++) {
                vf a = vf_exp2_softmax(vf_fms(vf_load(s + v * VF_WIDTH), scale, m[v]));
                vi_store(words + v * VF_WIDTH, pack_pairs(a, vf_set1(0)));
                chain[v] = vf_add(chain[v], a);
            }
        VF_UNROLLED for (int v = 0; v < vectors; v++) sum[v] = vf_add(sum[v], chain[v]);
    }
    VF_UNROLLED for (int v = 0; v < vectors; v++) vf_store(block_sum + v * VF_WIDTH, sum[v]);
}

#define SCORES(n)                                                                                  \
    score_group(n, vectors, words, q, k + i * key_stride, key_stride, s + i * TILE_ROWS, maximum)
VF_INLINE void score_block(const int most, const int vectors, int64_t keys, int64_t words,
                           const int32_t *q, const uint16_t *k, int64_t key_stride, float *s,
                           float *maximum) {
    IN_GROUPS(most, keys, SCORES);
}

#define VALUES(n)                                                                                  \
    value_group(n, vectors, pairs, p, value + i, value_size, out + i * TILE_ROWS, first)
VF_INLINE void value_block(const int most, const int vectors, int64_t pairs, int64_t value_size,
                           const int32_t *p, const int32_t *value, float *out, bool first) {
    IN_GROUPS(most, value_size, VALUES);
}

#define PAIR_KERNELS(vectors, most)                                                                \
    static void scores_##vectors(int64_t keys, int64_t words, const int32_t *q, const uint16_t *k, \
                                 int64_t key_stride, float *s, float *maximum) {                   \
        score_block(most, vectors, keys, words, q, k, key_stride, s, maximum);                     \
    }                                                                                              \
    static void values_##vectors(int64_t pairs, int64_t value_size, const int32_t *p,              \
                                 const int32_t *v, float *out, bool first) {                       \
        value_block(most, vectors, pairs, value_size, p, v, out, first);                           \
    }                                                                                              \
    static void exponentials_##vectors(int64_t keys, float *s, float unit, const float *reference, \
                                       float *block_sum) {                                         \
        exponential_block(vectors, keys, s, unit, reference, block_sum);                           \
    }
#define PAIR_ROW(vectors) [vectors] = {scores_##vectors, values_##vectors, exponentials_##vectors}

PAIR_KERNELS(1, 12)
PAIR_KERNELS(2, 12)
PAIR_KERNELS(3, 8)
PAIR_KERNELS(4, 6)
const pair_kernels fovea_attention_pairs_avx512[TILE_VECTORS + 1] = {PAIR_ROW(1), PAIR_ROW(2),
                                                                     PAIR_ROW(3), PAIR_ROW(4)};
