/* The two products of split: a few query rows, and keys and values that are read once.
 *
 * Vectors run along the head size, as k and v lie in memory; each vector of a key or value is loaded
 * and converted once for all rows of a tile (1, 2, 4 or 8). The score kernel keeps a sum for each of
 * LANES pairs of key and row, and folds VF_WIDTH of them at a time into one vector: 45 operations
 * for 16 sums on AVX-512. Scores and probabilities lie [key][row]; lane l of a group of LANES is
 * row l % rows of key l / rows. While scores are made, the values of the block are fetched into the
 * cache; while those are added, the keys of the next one.
 */
#ifndef FOVEA_CPU_ATTENTION_SPLIT_MICRO_H
#define FOVEA_CPU_ATTENTION_SPLIT_MICRO_H

#include "cpu/attention/split_lanes.h"

/* Elements of a line, or of a vector where that is longer. */
VF_INLINE int64_t split_line_elements(const fovea_dtype dtype) {
    const int64_t bytes = dtype == FOVEA_F32                          ? 4
                          : dtype == FOVEA_F16 || dtype == FOVEA_BF16 ? 2
                                                                      : 1;
    return larger(SPLIT_LINE / bytes, VF_WIDTH);
}

/* One vector of each key times one of each row. A vector of q is loaded once for all keys. */
VF_INLINE void split_products(const fovea_dtype dtype, const int rows, int64_t d, int64_t n,
                              const float *q, const char *const *k, vf *sum) {
    const int keys = SPLIT_LANES / rows;
    vf x[SPLIT_LANES];
    VF_UNROLLED for (int j = 0; j < keys; j++) x[j] =
        n == VF_WIDTH ? vf_load_as(dtype, k[j], d) : vf_load_n_as(dtype, k[j], d, n);
    VF_UNROLLED for (int r = 0; r < rows; r++) {
        vf line = vf_load(q + d * rows + r * VF_WIDTH);
#if defined(FOVEA_TIER_AVX512)
        __asm__(
            ""
            : "+v"(
                line)); /* gcc would make it a memory operand of every product: 18 loads for 16 */
#endif
        VF_UNROLLED for (int j = 0; j < keys; j++) sum[j * rows + r] =
            vf_fma(x[j], line, sum[j * rows + r]);
    }
}

/* s[key][row] = k q for `groups` times LANES / rows keys. q: [vector][row], zeros up to a whole vector: all rows
 * at constant distances from one pointer, for eight pointers and those of keys do not fit the registers. */
VF_INLINE void split_scores(const fovea_dtype dtype, const int rows, int64_t groups, int64_t size,
                            const float *q, const char *const *k, const char *const *ahead,
                            int64_t ahead_bytes, float *s) {
    const int keys = SPLIT_LANES / rows;
    const int64_t step = split_line_elements(dtype);
    split_ahead next =
        split_plan_ahead(ahead, groups * keys, ahead_bytes, groups * divide_up(size, step));
    for (; groups > 0; groups--, k += keys, s += SPLIT_LANES) {
        vf sum[SPLIT_LANES];
        VF_UNROLLED for (int l = 0; l < SPLIT_LANES; l++) sum[l] = vf_set1(0);
        int64_t d = 0;
        for (; d + step <= size; d += step) {
            split_fetch(&next);
            VF_UNROLLED for (int64_t i = 0; i < step; i += VF_WIDTH) {
                split_products(dtype, rows, d + i, VF_WIDTH, q, k, sum);
                __asm__("" : : : "memory"); /* gcc mixes vectors of a line: f16 5.4 ns, so 5.2 */
            }
        }
        if (d < size) split_fetch(&next);
        for (; d + VF_WIDTH <= size; d += VF_WIDTH)
            split_products(dtype, rows, d, VF_WIDTH, q, k, sum);
        if (d < size) split_products(dtype, rows, d, size - d, q, k, sum);
        VF_UNROLLED for (int l = 0; l < SPLIT_LANES; l += VF_WIDTH)
            vf_store(s + l, vf_reduce_each(sum + l));
    }
}

/* out[row][columns from d] += p^T v over all keys of a block, `columns` vectors, the last of n
 * elements. The block's sum begins at 0, as in attention_micro.h. */
VF_INLINE void split_value_columns(const fovea_dtype dtype, const int rows, const int columns,
                                   int64_t keys, int64_t d, int64_t n, const char *const *v,
                                   split_ahead *next, const float *p, float *out, int64_t pitch) {
    const int64_t every =
        larger(split_line_elements(dtype) / (columns * VF_WIDTH), 1); /* keys to a line */
    split_ahead ahead = *next;
    vf sum[SPLIT_ROWS * 8];
    VF_UNROLLED for (int r = 0; r < rows; r++) VF_UNROLLED for (int c = 0; c < columns; c++)
        sum[r * columns + c] = vf_set1(0);
    for (int64_t j = 0; j < keys; j++, p += rows) {
        vf x[8];
        if (j % every == 0) split_fetch(&ahead);
        VF_UNROLLED for (int c = 0; c < columns; c++) x[c] =
            n == VF_WIDTH ? vf_load_as(dtype, v[j], d + c * VF_WIDTH)
                          : vf_load_n_as(dtype, v[j], d, n);
        VF_UNROLLED for (int r = 0; r < rows; r++) {
            vf weight = vf_set1(p[r]);
            VF_UNROLLED for (int c = 0; c < columns; c++) sum[r * columns + c] =
                vf_fma(weight, x[c], sum[r * columns + c]);
        }
    }
    VF_UNROLLED for (int r = 0; r < rows; r++) VF_UNROLLED for (int c = 0; c < columns; c++) {
        float *at = out + r * pitch + d + c * VF_WIDTH;
        vf_store(at, vf_add(vf_load(at), sum[r * columns + c]));
    }
    *next = ahead;
}

VF_INLINE void split_values(const fovea_dtype dtype, const int rows, int64_t keys, int64_t size,
                            const char *const *v, const char *const *ahead, int64_t ahead_bytes,
                            const float *p, float *out, int64_t pitch) {
    const int columns = SPLIT_LANES / rows < 8 ? SPLIT_LANES / rows : 8;
    const int64_t step = columns * VF_WIDTH;
    const int64_t every = larger(split_line_elements(dtype) / step, 1);
    split_ahead next =
        split_plan_ahead(ahead, keys, ahead_bytes, larger(size / step, 1) * divide_up(keys, every));
    int64_t d = 0;
    for (; d + step <= size; d += step)
        split_value_columns(dtype, rows, columns, keys, d, VF_WIDTH, v, &next, p, out, pitch);
    /* What is left of the row by fours, twos and single vectors: one sum alone waits for itself, four cycles a key. */
    for (; columns > 4 && d + 4 * VF_WIDTH <= size; d += 4 * VF_WIDTH)
        split_value_columns(dtype, rows, 4, keys, d, VF_WIDTH, v, &next, p, out, pitch);
    for (; columns > 2 && d + 2 * VF_WIDTH <= size; d += 2 * VF_WIDTH)
        split_value_columns(dtype, rows, 2, keys, d, VF_WIDTH, v, &next, p, out, pitch);
    for (; d + VF_WIDTH <= size; d += VF_WIDTH)
        split_value_columns(dtype, rows, 1, keys, d, VF_WIDTH, v, &next, p, out, pitch);
    if (d < size) split_value_columns(dtype, rows, 1, keys, d, size - d, v, &next, p, out, pitch);
}

typedef struct split_kernels {
    void (*scores)(int64_t groups, int64_t size, const float *q, const char *const *k,
                   const char *const *ahead, int64_t ahead_bytes, float *s);
    void (*values)(int64_t keys, int64_t size, const char *const *v, const char *const *ahead,
                   int64_t ahead_bytes, const float *p, float *out, int64_t pitch);
} split_kernels;

#define SPLIT_KERNELS(name, dtype, rows)                                                           \
    static void split_scores_##name##_##rows(int64_t groups, int64_t size, const float *q,         \
                                             const char *const *k, const char *const *ahead,       \
                                             int64_t ahead_bytes, float *s) {                      \
        split_scores(dtype, rows, groups, size, q, k, ahead, ahead_bytes, s);                      \
    }                                                                                              \
    static void split_values_##name##_##rows(int64_t keys, int64_t size, const char *const *v,     \
                                             const char *const *ahead, int64_t ahead_bytes,        \
                                             const float *p, float *out, int64_t pitch) {          \
        split_values(dtype, rows, keys, size, v, ahead, ahead_bytes, p, out, pitch);               \
    }
#define SPLIT_ENTRY(name, rows)                                                                    \
    { split_scores_##name##_##rows, split_values_##name##_##rows }
#if defined(FOVEA_TIER_AVX512) || defined(FOVEA_TIER_NEON)
    #define SPLIT_DTYPE(name, dtype)                                                               \
        SPLIT_KERNELS(name, dtype, 1)                                                              \
        SPLIT_KERNELS(name, dtype, 2)                                                              \
        SPLIT_KERNELS(name, dtype, 4)                                                              \
        SPLIT_KERNELS(name, dtype, 8)
    #define SPLIT_LINE(name, dtype)                                                                \
        [dtype] = {SPLIT_ENTRY(name, 1), SPLIT_ENTRY(name, 2), SPLIT_ENTRY(name, 4),               \
                   SPLIT_ENTRY(name, 8)}
#else
    #define SPLIT_DTYPE(name, dtype)                                                               \
        SPLIT_KERNELS(name, dtype, 1)                                                              \
        SPLIT_KERNELS(name, dtype, 2)                                                              \
        SPLIT_KERNELS(name, dtype, 4)
    #define SPLIT_LINE(name, dtype)                                                                \
        [dtype] = {SPLIT_ENTRY(name, 1), SPLIT_ENTRY(name, 2), SPLIT_ENTRY(name, 4)}
#endif
SPLIT_DTYPE(f32, FOVEA_F32)
SPLIT_DTYPE(f16, FOVEA_F16)
SPLIT_DTYPE(bf16, FOVEA_BF16)
SPLIT_DTYPE(i8, FOVEA_I8)
SPLIT_DTYPE(e4m3, FOVEA_E4M3)

/* By dtype of k or v, then by log2 of the rows of a tile. */
static const split_kernels split_micro[FOVEA_DTYPE_COUNT][4] = {
    SPLIT_LINE(f32, FOVEA_F32), SPLIT_LINE(f16, FOVEA_F16), SPLIT_LINE(bf16, FOVEA_BF16),
    SPLIT_LINE(i8, FOVEA_I8), SPLIT_LINE(e4m3, FOVEA_E4M3)};

#endif
