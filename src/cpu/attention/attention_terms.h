/* q, k and v as sums of bf16 terms, in the layouts that products of tiles want.
 *
 * A bf16 is one term. An f16 is exactly the sum of two (11 bits of significand, a term has 8), an f32
 * of three (24 bits); exponents fit, bf16 has those of f32. The first term is the number rounded to
 * bf16, the next is the rounded rest. Of the products of terms those count whose weights reach the
 * result: (1,1) with one term, also (1,2), (2,1) with two, also (1,3), (2,2), (3,1) with three; what
 * is left out is below 2^-16 of the product with two, 2^-24 with three (NOTES.md, AMX).
 *
 * Tiles take subnormal bf16 as 0, so f32 below 2^-102 lose their last terms.
 */
#ifndef FOVEA_CPU_ATTENTION_ATTENTION_TERMS_H
#define FOVEA_CPU_ATTENTION_ATTENTION_TERMS_H

#include "cpu/attention/attention_tile.h"

enum {
    TERMS_MAX = 3,
    STEP = 32,       /* elements of the inner dimension that a product of tiles takes */
    HALF_TILE = 512, /* bf16 of a tile */
};

/* The products of that many terms each. */
VF_INLINE int term_products(int terms) { return terms * (terms + 1) / 2; }

VF_INLINE vf from_low_halves(__m512i x) {
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(x)), 16));
}
VF_INLINE vf from_high_halves(__m512i x) {
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(x, 1)), 16));
}

/* 16 and 16 floats as terms of 32 bf16. */
VF_INLINE void split_terms(const int terms, vf low, vf high, __m512i term[]) {
    /* What rounds to infinity is rounded towards zero instead; the rest takes what is missing. */
    const vf largest = vf_set1(0x1.fep127f), least = vf_set1(-0x1.fep127f);
    vf a = vf_min(largest, vf_max(least, low)), b = vf_min(largest, vf_max(least, high));
    VF_UNROLLED for (int t = 0; t < terms; t++) {
        term[t] = (__m512i)_mm512_cvtne2ps_pbh(t ? high : b, t ? low : a);
        low = vf_sub(low, from_low_halves(term[t]));
        high = vf_sub(high, from_high_halves(term[t]));
    }
}

/* Elements [start, start + count) of a row, at most 32; what follows them is 0. */
VF_INLINE void load_terms(const int terms, const char *row, fovea_dtype dtype, int64_t stride,
                          int64_t start, int64_t count, __m512i term[]) {
    if (terms > 1) {
        int64_t first = smaller(count, VF_WIDTH);
        split_terms(terms, load_elements(row, dtype, stride, start, first),
                    load_elements(row, dtype, stride, start + first, count - first), term);
        return;
    }
    const uint16_t *from = (const uint16_t *)(const void *)row + start * stride;
    uint16_t lanes[STEP];
    if (stride != 1) {
        for (int64_t i = 0; i < count; i++) lanes[i] = from[i * stride];
        from = lanes;
    }
    __mmask32 mask = count >= STEP ? UINT32_MAX : (1u << count) - 1;
    term[0] = _mm512_maskz_loadu_epi16(mask, from);
}

VF_INLINE vf sum_of_squares(vf sum, __m512i halves) {
    return _mm512_dpbf16_ps(sum, (__m512bh)halves, (__m512bh)halves);
}

VF_INLINE void transpose_words(__m512i x[16]) {
    vf square[16];
    VF_UNROLLED for (int i = 0; i < 16; i++) square[i] = _mm512_castsi512_ps(x[i]);
    vf_transpose(square);
    VF_UNROLLED for (int i = 0; i < 16; i++) x[i] = _mm512_castps_si512(square[i]);
}

/* ---- Queries: [step][term][vector], pairs of elements x 16 rows ----------------------------------- */

/* Returns the largest length of a row as a vector, a little more than it; NaN or inf if one is. */
VF_INLINE float pack_queries(const int terms, const tile_context *at, const tile *t,
                             uint16_t *packed) {
    const fovea_view *q = &at->call->q;
    float squares[VF_WIDTH], largest = 0;
    for (int v = 0; v < TILE_VECTORS; v++) {
        char *rows[VF_WIDTH];
        vf sum = vf_set1(0);
        vector_rows(at, t, q, at->sequence.query_start, v, rows);
        for (int64_t d = 0, step = 0; d < at->call->head_size; d += STEP, step++) {
            __m512i row[VF_WIDTH][TERMS_MAX], words[VF_WIDTH];
            for (int i = 0; i < VF_WIDTH; i++)
                load_terms(terms, rows[i], q->dtype, q->stride[3], d,
                           smaller(at->call->head_size - d, STEP), row[i]);
            for (int n = 0; n < terms; n++) {
                uint16_t *to = packed + ((step * terms + n) * TILE_VECTORS + v) * HALF_TILE;
                for (int i = 0; i < VF_WIDTH; i++) words[i] = row[i][n];
                transpose_words(words);
                for (int i = 0; i < VF_WIDTH; i++) {
                    _mm512_storeu_si512(to + i * STEP, words[i]);
                    if (n == 0) sum = sum_of_squares(sum, words[i]);
                }
            }
        }
        vf_store(squares, sum);
        for (int i = 0; i < VF_WIDTH; i++)
            if (!(squares[i] <= largest) && !isnan(largest)) largest = squares[i];
    }
    return 1.01f * sqrtf(largest); /* terms after the first add less than 2^-8 */
}

/* ---- Keys and values of a block, in groups of 32 keys ---------------------------------------------- */

/* What is known of a group. */
typedef struct group_facts {
    float length;     /* at least that of its longest key; NaN or inf if one is */
    bool values_tame; /* 0 or between 2^-40 and 2^60 in magnitude the largest is */
} group_facts;

/* [step][term][half], 16 keys x 32 elements. */
VF_INLINE float pack_keys(const int terms, const tile_context *at, int64_t key, int64_t count,
                          uint16_t *packed) {
    const fovea_view *k = &at->call->k;
    vf largest = vf_set1(0), poison = vf_set1(0);
    for (int64_t j = 0; j < STEP; j++) {
        uint16_t *to = packed + j / AMX_ROWS * HALF_TILE + j % AMX_ROWS * STEP;
        const char *row =
            j < count ? fovea_key_row(at->call, k, &at->sequence, at->key_head, key + j) : NULL;
        vf sum = vf_set1(0);
        for (int64_t d = 0; d < k->shape[3]; d += STEP) {
            __m512i term[TERMS_MAX] = {_mm512_setzero_si512(), _mm512_setzero_si512(),
                                       _mm512_setzero_si512()};
            if (row)
                load_terms(terms, row, k->dtype, k->stride[3], d, smaller(k->shape[3] - d, STEP),
                           term);
            sum = sum_of_squares(sum, term[0]);
            for (int n = 0; n < terms; n++, to += 2 * HALF_TILE) _mm512_storeu_si512(to, term[n]);
        }
        largest = vf_max(sum, largest);
        poison = vf_fma(sum, vf_set1(0), poison);
    }
    /* The largest of each lane of the sums together: at most twice too much, for a few operations. */
    return 1.01f * sqrtf(vf_reduce_add(largest)) + vf_reduce_add(poison);
}

/* [pair of tiles][group][tile][term], a tile being 16 columns of v x 32 keys; `pair` is the distance
 * of pairs. Rows 2k and 2k + 1 are interleaved, so that a word
 * is a pair of keys, and the words transposed: 160 shuffles for 32 keys and 32 columns. */
VF_INLINE bool pack_values(const int terms, const tile_context *at, int64_t key, int64_t count,
                           int64_t pair, uint16_t *packed) {
    const fovea_view *v = &at->call->v;
    int64_t tiles = divide_up(v->shape[3], AMX_ROWS);
    const __m512i magnitude = _mm512_set1_epi16(0x7fff);
    __m512i largest = _mm512_setzero_si512();
    for (int64_t first = 0; first < tiles; first += 2) {
        int64_t d = first * AMX_ROWS, size = smaller(v->shape[3] - d, STEP);
        __m512i words[TERMS_MAX][2][16];
        for (int64_t k = 0; k < 16; k++) {
            __m512i row[2][TERMS_MAX];
            for (int odd = 0; odd < 2; odd++) {
                int64_t j = 2 * k + odd;
                for (int n = 0; n < terms; n++) row[odd][n] = _mm512_setzero_si512();
                if (j < count)
                    load_terms(terms,
                               fovea_key_row(at->call, v, &at->sequence, at->key_head, key + j),
                               v->dtype, v->stride[3], d, size, row[odd]);
                largest = _mm512_max_epu16(largest, _mm512_and_si512(row[odd][0], magnitude));
            }
            for (int n = 0; n < terms; n++) {
                words[n][0][k] = _mm512_unpacklo_epi16(row[0][n], row[1][n]);
                words[n][1][k] = _mm512_unpackhi_epi16(row[0][n], row[1][n]);
            }
        }
        for (int n = 0; n < terms; n++)
            for (int high = 0; high < 2; high++) {
                transpose_words(words[n][high]);
                for (int64_t r = 0; r < 16; r++) {
                    int64_t column = r / 4 * 8 + high * 4 + r % 4;
                    uint16_t *to = packed + first / 2 * pair + column % AMX_ROWS * STEP;
                    to += (column / AMX_ROWS * terms + n) * HALF_TILE;
                    _mm512_storeu_si512(to, words[n][high][r]);
                }
            }
    }
    uint16_t lanes[STEP], most = 0;
    _mm512_storeu_si512(lanes, largest);
    for (int i = 0; i < STEP; i++) most = lanes[i] > most ? lanes[i] : most;
    return most == 0 || (most >= (127 - 40) << 7 && most < (127 + 60) << 7);
}

#endif
