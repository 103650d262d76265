/* The two matrix products of attention, on tiles of query rows that lie across vector lanes.
 *
 * A tile is `vectors` vectors of query rows. Its queries are packed [head_size][rows], its scores [keys][rows], its output
 * [value_size][rows] or, where the product with v is the score kernel turned round (weighted_group), [rows][value_size];
 * `pitch` is the number of floats from one line to the next. A micro-kernel keeps a few keys (or a few
 * columns of v) times all vectors of the tile in registers; a step of its loop loads one line of the tile and broadcasts one float a key
 * straight from k or v as they lie in memory, so that neither is packed. Loads a step: vectors + keys, for vectors * keys
 * fused multiply-adds: 10 for 24 on AVX-512, 8 for 12 on AVX2, within two loads a cycle.
 */
#ifndef FOVEA_CPU_ATTENTION_ATTENTION_MICRO_H
#define FOVEA_CPU_ATTENTION_ATTENTION_MICRO_H

#include "cpu/attention/attention_groups.h"
#include "cpu/simd/simd_math.h"

#include <stdbool.h>

/* s[key][rows] = k q for `keys` keys; maximum[rows] takes them in (NaN is left out). */
VF_INLINE void score_group(const int keys, const int vectors, int64_t head_size, const float *q,
                           int64_t pitch, const float *k, int64_t key_stride, float *s,
                           float *maximum) {
    vf sum[12][TILE_VECTORS];
    VF_UNROLLED for (int r = 0; r < keys; r++) VF_UNROLLED for (int v = 0; v < vectors; v++)
        sum[r][v] = vf_set1(0);
    for (int64_t d = 0; d < head_size; d++, q += pitch) {
        vf line[TILE_VECTORS];
        VF_UNROLLED for (int v = 0; v < vectors; v++) line[v] = vf_load(q + v * VF_WIDTH);
        VF_UNROLLED for (int r = 0; r < keys; r++) {
            vf key = vf_set1(k[r * key_stride + d]);
            VF_UNROLLED for (int v = 0; v < vectors; v++) sum[r][v] =
                vf_fma(key, line[v], sum[r][v]);
        }
    }
    VF_UNROLLED for (int v = 0; v < vectors; v++) {
        vf largest = vf_load(maximum + v * VF_WIDTH);
        VF_UNROLLED for (int r = 0; r < keys; r++) {
            largest = vf_max(sum[r][v], largest);
            vf_store(s + r * pitch + v * VF_WIDTH, sum[r][v]);
        }
        vf_store(maximum + v * VF_WIDTH, largest);
    }
}

/* out[column][rows] (+)= v^T p for `columns` columns of v, over all keys of a block. The block's sum
 * begins at 0 and is added as a whole: one chain over all keys loses 8 times what the bound allows
 * where 4097 values are equal. */
VF_INLINE void value_group(const int columns, const int vectors, int64_t keys, const float *p,
                           int64_t pitch, const float *value, int64_t value_stride, float *out,
                           bool first) {
    vf sum[12][TILE_VECTORS];
    VF_UNROLLED for (int r = 0; r < columns; r++) VF_UNROLLED for (int v = 0; v < vectors; v++)
        sum[r][v] = vf_set1(0);
    for (int64_t j = 0; j < keys; j++, p += pitch, value += value_stride) {
        vf line[TILE_VECTORS];
        VF_UNROLLED for (int v = 0; v < vectors; v++) line[v] = vf_load(p + v * VF_WIDTH);
        VF_UNROLLED for (int r = 0; r < columns; r++) {
            vf column = vf_set1(value[r]);
            VF_UNROLLED for (int v = 0; v < vectors; v++) sum[r][v] =
                vf_fma(column, line[v], sum[r][v]);
        }
    }
    VF_UNROLLED for (int r = 0; r < columns; r++) VF_UNROLLED for (int v = 0; v < vectors; v++) {
        float *place = out + r * pitch + v * VF_WIDTH;
        vf_store(place, first ? sum[r][v] : vf_add(vf_load(place), sum[r][v]));
    }
}

#define SCORE_GROUP(n)                                                                             \
    score_group(n, vectors, head_size, q, pitch, k + i * key_stride, key_stride, s + i * pitch,    \
                maximum)
VF_INLINE void score_block(const int most, const int vectors, int64_t keys, int64_t head_size,
                           const float *q, int64_t pitch, const float *k, int64_t key_stride,
                           float *s, float *maximum) {
    IN_GROUPS(most, keys, SCORE_GROUP);
}

#define VALUE_GROUP(n)                                                                             \
    value_group(n, vectors, keys, p, pitch, value + i, value_stride, out + i * pitch, first)
VF_INLINE void value_block(const int most, const int vectors, int64_t keys, int64_t value_size,
                           const float *p, int64_t pitch, const float *value, int64_t value_stride,
                           float *out, bool first) {
    IN_GROUPS(most, value_size, VALUE_GROUP);
}

/* Rows of sums: out[r] = (before[r] + sum) * factor[r]. */
typedef struct row_sums {
    float *out;
    const float *before, *factor; /* NULL: 0 and 1 */
    int64_t stride, before_stride;
} row_sums;

VF_INLINE row_sums sums_from(const row_sums *rows, int64_t r) {
    return (row_sums){rows->out + r * rows->stride,
                      rows->before ? rows->before + r * rows->before_stride : NULL,
                      rows->factor ? rows->factor + r : NULL, rows->stride, rows->before_stride};
}

VF_INLINE void store_sum(const bool add, const bool scale, vf sum, const float *before, vf factor,
                         float *place, size_t columns) {
    if (add) sum = vf_add(columns == VF_WIDTH ? vf_load(before) : vf_load_n(before, columns), sum);
    if (scale) sum = vf_mul(sum, factor);
    if (columns == VF_WIDTH)
        vf_store(place, sum);
    else
        vf_store_n(place, sum, columns);
}

/* The sums are over i of weights[r * apart + i * step] lines[i][columns], for `count` r and `terms` i. The last vector has `tail`
 * columns; the lines are read as `whole` vectors all the same, or no further than that. A sum begins at 0 and is added as a
 * whole: chains stay short. */
VF_INLINE void weighted_group(const int count, const int vectors, const int apart, const int step,
                              const bool whole, int64_t terms, const float *weights,
                              const float *lines, int64_t pitch, row_sums rows, size_t tail) {
    vf sum[12][TILE_VECTORS];
    VF_UNROLLED for (int r = 0; r < count; r++) VF_UNROLLED for (int v = 0; v < vectors; v++)
        sum[r][v] = vf_set1(0);
    for (int64_t i = 0; i < terms; i++, lines += pitch, weights += step) {
        vf line[TILE_VECTORS];
        VF_UNROLLED for (int v = 0; v < vectors; v++) line[v] =
            whole || v < vectors - 1 ? vf_load(lines + v * VF_WIDTH)
                                     : vf_load_n(lines + v * VF_WIDTH, tail);
        VF_UNROLLED for (int r = 0; r < count; r++) {
            vf weight = vf_set1(weights[r * apart]);
            VF_UNROLLED for (int v = 0; v < vectors; v++) sum[r][v] =
                vf_fma(weight, line[v], sum[r][v]);
        }
    }
    VF_UNROLLED for (int r = 0; r < count; r++) {
        const row_sums row = sums_from(&rows, r);
        const vf factor = row.factor ? vf_set1(*row.factor) : vf_set1(1);
        VF_UNROLLED for (int v = 0; v < vectors; v++) {
            const float *before = row.before ? row.before + v * VF_WIDTH : NULL;
            store_sum(row.before, row.factor, sum[r][v], before, factor, row.out + v * VF_WIDTH,
                      v < vectors - 1 ? VF_WIDTH : tail);
        }
    }
}

#define WEIGHTED_GROUP(n)                                                                          \
    weighted_group(n, vectors, apart, step, whole, terms, weights + i * apart, lines, pitch,       \
                   sums_from(&rows, i), tail)
VF_INLINE void weighted_panel(const int most, const int vectors, const int apart, const int step,
                              const bool whole, int64_t count, int64_t terms, const float *weights,
                              const float *lines, int64_t pitch, row_sums rows, size_t tail) {
    IN_GROUPS(most, count, WEIGHTED_GROUP);
}

enum { CHAIN_KEYS = 128 }; /* added one after another, before the sum joins that of the others */

/* Turns scores [keys][rows] into p = 2^(s - reference) in place and returns their sums in block_sum. */
VF_INLINE void exponential_block(const int vectors, int64_t keys, int64_t pitch, float *s,
                                 const float *reference, float *block_sum) {
    vf sum[TILE_VECTORS], m[TILE_VECTORS];
    VF_UNROLLED for (int v = 0; v < vectors; v++) {
        sum[v] = vf_set1(0);
        m[v] = vf_load(reference + v * VF_WIDTH);
    }
    for (int64_t j = 0; j < keys;) {
        int64_t end = j + CHAIN_KEYS < keys ? j + CHAIN_KEYS : keys;
        vf chain[TILE_VECTORS];
        VF_UNROLLED for (int v = 0; v < vectors; v++) chain[v] = vf_set1(0);
        for (; j < end; j++, s += pitch) VF_UNROLLED for (int v = 0; v < vectors; v++) {
                vf p = vf_exp2_softmax(vf_sub(vf_load(s + v * VF_WIDTH), m[v]));
                vf_store(s + v * VF_WIDTH, p);
                chain[v] = vf_add(chain[v], p);
            }
        VF_UNROLLED for (int v = 0; v < vectors; v++) sum[v] = vf_add(sum[v], chain[v]);
    }
    VF_UNROLLED for (int v = 0; v < vectors; v++) vf_store(block_sum + v * VF_WIDTH, sum[v]);
}

typedef struct micro_kernels {
    void (*scores)(int64_t keys, int64_t head_size, const float *q, int64_t pitch, const float *k,
                   int64_t key_stride, float *s, float *maximum);
    void (*values)(int64_t keys, int64_t value_size, const float *p, int64_t pitch,
                   const float *value, int64_t value_stride, float *out, bool first);
    void (*exponentials)(int64_t keys, int64_t pitch, float *s, const float *reference,
                         float *block_sum);
    /* The sums are p^T v, of columns in so many vectors; the last of them has `tail`. */
    void (*values_by_rows)(int64_t count, int64_t keys, const float *p, const float *value,
                           int64_t value_stride, const row_sums *rows, size_t tail);
} micro_kernels;

#define MICRO_KERNELS(vectors, most)                                                               \
    static void scores_##vectors(int64_t keys, int64_t head_size, const float *q, int64_t pitch,   \
                                 const float *k, int64_t key_stride, float *s, float *maximum) {   \
        score_block(most, vectors, keys, head_size, q, pitch, k, key_stride, s, maximum);          \
    }                                                                                              \
    static void values_##vectors(int64_t keys, int64_t value_size, const float *p, int64_t pitch,  \
                                 const float *value, int64_t value_stride, float *out,             \
                                 bool first) {                                                     \
        if (first)                                                                                 \
            value_block(most, vectors, keys, value_size, p, pitch, value, value_stride, out,       \
                        true);                                                                     \
        else                                                                                       \
            value_block(most, vectors, keys, value_size, p, pitch, value, value_stride, out,       \
                        false);                                                                    \
    }                                                                                              \
    static void exponentials_##vectors(int64_t keys, int64_t pitch, float *s,                      \
                                       const float *reference, float *block_sum) {                 \
        exponential_block(vectors, keys, pitch, s, reference, block_sum);                          \
    }                                                                                              \
    static void values_by_rows_##vectors(int64_t count, int64_t keys, const float *p,              \
                                         const float *value, int64_t value_stride,                 \
                                         const row_sums *rows, size_t tail) {                      \
        if (tail == VF_WIDTH)                                                                      \
            weighted_panel(most, vectors, 1, TILE_ROWS, true, count, keys, p, value, value_stride, \
                           *rows, VF_WIDTH);                                                       \
        else                                                                                       \
            weighted_panel(most, vectors, 1, TILE_ROWS, false, count, keys, p, value,              \
                           value_stride, *rows, tail);                                             \
    }
#define MICRO_ROW(vectors)                                                                         \
    [vectors] = {scores_##vectors, values_##vectors, exponentials_##vectors,                       \
                 values_by_rows_##vectors}

#if defined(FOVEA_TIER_AVX2) || defined(FOVEA_TIER_AMX)
MICRO_KERNELS(1, 12)
MICRO_KERNELS(2, 6)
static const micro_kernels micro[] = {MICRO_ROW(1), MICRO_ROW(2)};
#elif defined(FOVEA_TIER_SCALAR)
MICRO_KERNELS(1, 2)
MICRO_KERNELS(2, 2)
MICRO_KERNELS(3, 2)
MICRO_KERNELS(4, 2)
static const micro_kernels micro[] = {MICRO_ROW(1), MICRO_ROW(2), MICRO_ROW(3), MICRO_ROW(4)};
#else
MICRO_KERNELS(1, 12)
MICRO_KERNELS(2, 12)
MICRO_KERNELS(3, 8)
MICRO_KERNELS(4, 6)
static const micro_kernels micro[] = {MICRO_ROW(1), MICRO_ROW(2), MICRO_ROW(3), MICRO_ROW(4)};
#endif

#endif
