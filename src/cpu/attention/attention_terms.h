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

/* The dtype that so many terms hold exactly. */
VF_INLINE fovea_dtype dtype_of_terms(int terms) {
    return terms == 1 ? FOVEA_BF16 : terms == 2 ? FOVEA_F16 : FOVEA_F32;
}

/* The products of that many terms each. */
VF_INLINE int term_products(int terms) { return terms * (terms + 1) / 2; }

/* The numbers of two terms that are multiplied. */
typedef struct term_pair {
    int first, second;
} term_pair;

/* The products of terms of which the numbers' sum, from 0, is at most `order`: each has a term of the one before, so that two
 * tiles are loaded for it and not four. */
VF_INLINE term_pair pair_of_terms(const int terms, const int order, const int i) {
    static const term_pair of_two[] = {{1, 1}, {1, 0}, {0, 0}, {0, 1}},
                           of_three[] = {{2, 0}, {1, 0}, {1, 1}, {0, 1}, {0, 2}, {0, 0}};
    if (terms == TERMS_MAX) return of_three[i];
    return terms == 1 ? (term_pair){0, 0} : of_two[order < terms ? i + 1 : i];
}

static const term_pair no_terms = {-1, -1};

VF_INLINE int products_of_terms(const int terms, const int order) {
    return order < terms ? term_products(terms) : terms * terms;
}

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
    /* What rounds to infinity is rounded towards zero instead; the rest takes what is missing, if there is one. */
    const vf largest = vf_set1(0x1.fep127f), least = vf_set1(-0x1.fep127f);
    vf a = low, b = high;
    if (terms > 1)
        a = vf_min(largest, vf_max(least, low)), b = vf_min(largest, vf_max(least, high));
    VF_UNROLLED for (int t = 0; t < terms; t++) {
        term[t] = (__m512i)_mm512_cvtne2ps_pbh(t ? high : b, t ? low : a);
        low = vf_sub(low, from_low_halves(term[t]));
        high = vf_sub(high, from_high_halves(term[t]));
    }
}

/* 32 elements side by side. */
VF_INLINE void load_whole_terms(const int terms, const char *row, fovea_dtype dtype, int64_t start,
                                __m512i term[]) {
    const uint16_t *halves = (const uint16_t *)(const void *)row + start;
    const float *floats = (const float *)(const void *)row + start;
    if (dtype == FOVEA_BF16)
        term[0] = _mm512_loadu_si512(halves);
    else if (dtype == FOVEA_F16)
        split_terms(terms, vf_load_f16(halves), vf_load_f16(halves + VF_WIDTH), term);
    else
        split_terms(terms, vf_load(floats), vf_load(floats + VF_WIDTH), term);
}

/* Elements [start, start + count) of a row, at most 32; what follows them is 0. */
VF_INLINE void load_terms(const int terms, const bool whole, const char *row, fovea_dtype dtype,
                          int64_t stride, int64_t start, int64_t count, __m512i term[]) {
    if (whole) {
        load_whole_terms(terms, row, dtype, start, term);
        return;
    }
    if (dtype != FOVEA_BF16) {
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

/* One vector of rows; returns the squares of their lengths. */
VF_INLINE vf pack_query_vector(const int terms, const bool whole, const fovea_view *q,
                               char *const rows[VF_WIDTH], uint16_t *packed) {
    vf sum[2] = {vf_set1(0), vf_set1(0)};
    for (int64_t d = 0; d < q->shape[3]; d += STEP, packed += terms * TILE_VECTORS * HALF_TILE) {
        __m512i row[VF_WIDTH][TERMS_MAX];
        VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++)
            load_terms(terms, whole, rows[i], dtype_of_terms(terms), q->stride[3], d,
                       smaller(q->shape[3] - d, STEP), row[i]);
        VF_UNROLLED for (int n = 0; n < terms; n++) {
            uint16_t *to = packed + n * TILE_VECTORS * HALF_TILE;
            __m512i words[VF_WIDTH];
            VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++) words[i] = row[i][n];
            transpose_words(words);
            VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++) {
                _mm512_storeu_si512(to + i * STEP, words[i]);
                if (n == 0) sum[i % 2] = sum_of_squares(sum[i % 2], words[i]);
            }
        }
    }
    return vf_add(sum[0], sum[1]);
}

/* Returns the largest length of a row as a vector, a little more than it; NaN or inf if one is. */
VF_INLINE float pack_queries(const int terms, const tile_context *at, const tile *t,
                             uint16_t *packed) {
    const fovea_view *q = &at->call->q;
    const bool whole = q->stride[3] == 1 && q->shape[3] % STEP == 0;
    float squares[VF_WIDTH], largest = 0;
    for (int v = 0; v < TILE_VECTORS; v++) {
        char *rows[VF_WIDTH];
        vector_rows(at, t, q, at->sequence.query_start, v, rows);
        vf_store(squares, whole ? pack_query_vector(terms, true, q, rows, packed + v * HALF_TILE)
                                : pack_query_vector(terms, false, q, rows, packed + v * HALF_TILE));
        for (int i = 0; i < VF_WIDTH; i++)
            if (!(squares[i] <= largest) && !isnan(largest)) largest = squares[i];
    }
    return 1.01f * sqrtf(largest); /* terms after the first add less than 2^-8 */
}

/* ---- Keys and values of a block, in groups of 32 keys ---------------------------------------------- */

/* What is known of a group. */
typedef struct group_facts {
    float length;     /* at least that of its longest key; NaN or inf if one is */
    float scale[2];   /* of bytes (attention_bytes.h), by 16 keys */
    bool values_tame; /* 0 or between 2^-40 and 2^60 in magnitude the largest is */
} group_facts;

/* Rows of keys or values; of keys that are not there NULL. Returns whether all are there and made of whole steps. */
static bool rows_of_group(const tile_context *at, const fovea_view *view, int64_t key,
                          int64_t count, const char *rows[STEP]) {
    const int64_t step = view->stride[2] * (int64_t)fovea_dtype_size(view->dtype);
    const char *row = NULL;
    for (int64_t j = 0; j < STEP; j++, row += step) {
        if (j < count && (j == 0 || at->call->paged))
            row = fovea_key_row(at->call, view, &at->sequence, at->key_head, key + j);
        rows[j] = j < count ? row : NULL;
    }
    return count == STEP && view->stride[3] == 1 && view->shape[3] % STEP == 0;
}

/* [step][term][half], 16 keys x 32 elements. */
VF_INLINE float pack_key_rows(const int terms, const bool whole, const fovea_view *k,
                              const char *const rows[STEP], uint16_t *packed) {
    vf largest = vf_set1(0), poison = vf_set1(0);
    for (int64_t j = 0; j < STEP; j++) {
        uint16_t *to = packed + j / AMX_ROWS * HALF_TILE + j % AMX_ROWS * STEP;
        vf sum = vf_set1(0);
        for (int64_t d = 0; d < k->shape[3]; d += STEP) {
            __m512i term[TERMS_MAX] = {_mm512_setzero_si512(), _mm512_setzero_si512(),
                                       _mm512_setzero_si512()};
            if (whole || rows[j])
                load_terms(terms, whole, rows[j], dtype_of_terms(terms), k->stride[3], d,
                           smaller(k->shape[3] - d, STEP), term);
            sum = sum_of_squares(sum, term[0]);
            VF_UNROLLED for (int n = 0; n < terms; n++, to += 2 * HALF_TILE)
                _mm512_storeu_si512(to, term[n]);
        }
        largest = vf_max(sum, largest);
        poison = vf_fma(sum, vf_set1(0), poison);
    }
    /* The largest of each lane of the sums together: at most twice too much, for a few operations. */
    return 1.01f * sqrtf(vf_reduce_add(largest)) + vf_reduce_add(poison);
}

VF_INLINE float pack_keys(const int terms, const tile_context *at, int64_t key, int64_t count,
                          uint16_t *packed) {
    const char *rows[STEP];
    return rows_of_group(at, &at->call->k, key, count, rows)
               ? pack_key_rows(terms, true, &at->call->k, rows, packed)
               : pack_key_rows(terms, false, &at->call->k, rows, packed);
}

/* 32 columns of 32 keys from element d on, [tile][term], a tile being 16 columns of v x 32 keys. Rows 2k and 2k + 1 are
 * interleaved, so that a word is a pair of keys, and the words transposed: 160 shuffles. */
VF_INLINE __m512i pack_value_columns(const int terms, const fovea_dtype dtype, const bool whole,
                                     const fovea_view *v, const char *const rows[STEP], int64_t d,
                                     __m512i largest, uint16_t *packed) {
    const __m512i magnitude = _mm512_set1_epi16(0x7fff);
    __m512i words[TERMS_MAX][2][16];
    VF_UNROLLED for (int k = 0; k < 16; k++) {
        __m512i row[2][TERMS_MAX];
        VF_UNROLLED for (int odd = 0; odd < 2; odd++) {
            VF_UNROLLED for (int n = 0; n < terms; n++) row[odd][n] = _mm512_setzero_si512();
            if (whole || rows[2 * k + odd])
                load_terms(terms, whole, rows[2 * k + odd], dtype, v->stride[3], d,
                           smaller(v->shape[3] - d, STEP), row[odd]);
            largest = _mm512_max_epu16(largest, _mm512_and_si512(row[odd][0], magnitude));
        }
        VF_UNROLLED for (int n = 0; n < terms; n++) {
            words[n][0][k] = _mm512_unpacklo_epi16(row[0][n], row[1][n]);
            words[n][1][k] = _mm512_unpackhi_epi16(row[0][n], row[1][n]);
        }
    }
    VF_UNROLLED for (int n = 0; n < terms; n++) VF_UNROLLED for (int high = 0; high < 2; high++) {
        transpose_words(words[n][high]);
        VF_UNROLLED for (int r = 0; r < 16; r++) {
            const int column = r / 4 * 8 + high * 4 + r % 4;
            uint16_t *to = packed + (column / AMX_ROWS * terms + n) * HALF_TILE;
            _mm512_storeu_si512(to + column % AMX_ROWS * STEP, words[n][high][r]);
        }
    }
    return largest;
}

/* [pair of tiles][group] of such columns; `pair` is the distance of pairs. */
VF_INLINE bool pack_values(const int terms, const fovea_dtype dtype, const tile_context *at,
                           int64_t key, int64_t count, int64_t pair, uint16_t *packed) {
    const fovea_view *v = &at->call->v;
    const char *rows[STEP];
    const bool whole = rows_of_group(at, v, key, count, rows);
    __m512i largest = _mm512_setzero_si512();
    for (int64_t d = 0; d < v->shape[3]; d += STEP, packed += pair)
        largest = whole ? pack_value_columns(terms, dtype, true, v, rows, d, largest, packed)
                        : pack_value_columns(terms, dtype, false, v, rows, d, largest, packed);
    uint16_t lanes[STEP], most = 0;
    _mm512_storeu_si512(lanes, largest);
    for (int i = 0; i < STEP; i++) most = lanes[i] > most ? lanes[i] : most;
    return most == 0 || (most >= (127 - 40) << 7 && most < (127 + 60) << 7);
}

#endif
