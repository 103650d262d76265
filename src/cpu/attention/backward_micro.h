/* What the gradient of attention needs besides the products of attention_micro.h: p and ds from
 * scores and their like, and the product that sums over the rows of a tile.
 *
 * That product, dv += p^T dout and dk += ds^T q, is the score kernel turned round: lines are rows of
 * dout or q as they lie in memory, vectors their columns, and a broadcast takes p or ds of one key
 * and row. So p and ds stay as [keys][rows], and nothing is transposed.
 */
#ifndef FOVEA_CPU_ATTENTION_BACKWARD_MICRO_H
#define FOVEA_CPU_ATTENTION_BACKWARD_MICRO_H

#include "cpu/attention/attention_tile.h"

enum { FEW_KEYS = 32 }; /* of a block where rows are few */

/* s becomes p = 2^(s - lse), dp becomes ds = p (dp - delta). */
VF_INLINE void gradients_of_block(const int vectors, int64_t keys, float *s, float *dp,
                                  const float *lse, const float *delta) {
    vf shift[TILE_VECTORS], mean[TILE_VECTORS];
    VF_UNROLLED for (int v = 0; v < vectors; v++) {
        shift[v] = vf_load(lse + v * VF_WIDTH);
        mean[v] = vf_load(delta + v * VF_WIDTH);
    }
    for (int64_t j = 0; j < keys; j++, s += TILE_ROWS, dp += TILE_ROWS)
        VF_UNROLLED for (int v = 0; v < vectors; v++) {
            vf p = vf_exp2_softmax(vf_sub(vf_load(s + v * VF_WIDTH), shift[v]));
            vf product = vf_sub(vf_load(dp + v * VF_WIDTH), mean[v]);
            vf_store(s + v * VF_WIDTH, p);
            vf_store(dp + v * VF_WIDTH, vf_mul(p, product));
        }
}

/* Where weights are and what becomes of their sums. */
typedef enum weighted_kind {
    TILE_TO_KEYS, /* weights[key][TILE_ROWS], added */
    FEW_TO_KEYS,  /* weights[row][FEW_KEYS] (backward_few.h), stored */
    FEW_TO_ROWS,  /* the same, added */
    WEIGHTED_KINDS
} weighted_kind;

typedef void weighted_function(int64_t count, int64_t terms, const float *weights,
                               const float *lines, int64_t pitch, float *out, int64_t stride,
                               size_t tail);

typedef struct backward_kernels {
    weighted_function *weighted[WEIGHTED_KINDS];
    void (*gradients)(int64_t keys, float *s, float *dp, const float *lse, const float *delta);
} backward_kernels;

#define WEIGHTED(name, most, vectors, apart, step, add)                                            \
    static void name(int64_t count, int64_t terms, const float *weights, const float *lines,       \
                     int64_t pitch, float *out, int64_t stride, size_t tail) {                     \
        const row_sums rows = {out, add ? out : NULL, NULL, stride, stride};                       \
        weighted_panel(most, vectors, apart, step, true, count, terms, weights, lines, pitch,      \
                       rows, tail);                                                                \
    }
#define BACKWARD_KERNELS(vectors, most)                                                            \
    WEIGHTED(to_keys_##vectors, most, vectors, TILE_ROWS, 1, true)                                 \
    WEIGHTED(few_to_keys_##vectors, most, vectors, 1, FEW_KEYS, false)                             \
    WEIGHTED(few_to_rows_##vectors, most, vectors, FEW_KEYS, 1, true)                              \
    static void gradients_##vectors(int64_t keys, float *s, float *dp, const float *lse,           \
                                    const float *delta) {                                          \
        gradients_of_block(vectors, keys, s, dp, lse, delta);                                      \
    }
#define BACKWARD_ROW(vectors)                                                                      \
    [vectors] = {{to_keys_##vectors, few_to_keys_##vectors, few_to_rows_##vectors},                \
                 gradients_##vectors}

#if defined(FOVEA_TIER_AVX2) || defined(FOVEA_TIER_AMX)
BACKWARD_KERNELS(1, 12)
BACKWARD_KERNELS(2, 6)
static const backward_kernels backward_micro[] = {BACKWARD_ROW(1), BACKWARD_ROW(2)};
#elif defined(FOVEA_TIER_SCALAR)
BACKWARD_KERNELS(1, 2)
BACKWARD_KERNELS(2, 2)
BACKWARD_KERNELS(3, 2)
BACKWARD_KERNELS(4, 2)
static const backward_kernels backward_micro[] = {BACKWARD_ROW(1), BACKWARD_ROW(2), BACKWARD_ROW(3),
                                                  BACKWARD_ROW(4)};
#else
BACKWARD_KERNELS(1, 12)
BACKWARD_KERNELS(2, 12)
BACKWARD_KERNELS(3, 8)
BACKWARD_KERNELS(4, 6)
static const backward_kernels backward_micro[] = {BACKWARD_ROW(1), BACKWARD_ROW(2), BACKWARD_ROW(3),
                                                  BACKWARD_ROW(4)};
#endif

/* out[count][size] of the sums, a panel of at most TILE_VECTORS columns at a time. */
static void sum_weighted(weighted_kind kind, int64_t count, int64_t terms, int64_t size,
                         const float *weights, const float *lines, int64_t pitch, float *out,
                         int64_t stride) {
    for (int64_t d = 0; d < size; d += TILE_ROWS) {
        int64_t columns = smaller(size - d, TILE_ROWS);
        int64_t vectors = (columns + VF_WIDTH - 1) / VF_WIDTH;
        backward_micro[vectors].weighted[kind](count, terms, weights, lines + d, pitch, out + d,
                                               stride,
                                               (size_t)(columns - (vectors - 1) * VF_WIDTH));
    }
}

/* p and ds where elements are masked (s is -inf), dropped (kept is 0) or capped: ds *= slope. Either
 * may be NULL. */
static void masked_gradients_of_block(int vectors, int64_t keys, float *s, float *dp,
                                      const float *kept, const float *slope, const float *lse,
                                      const float *delta) {
    const vf zero = vf_set1(0);
    for (int64_t j = 0; j < keys; j++)
        for (int v = 0; v < vectors; v++) {
            int64_t at = j * TILE_ROWS + v * VF_WIDTH;
            vf score = vf_load(s + at), product = vf_load(dp + at);
            vm out = vf_eq(score, NEGATIVE_INFINITY), dropped = vm_first(0);
            if (kept) dropped = vf_eq(vf_load(kept + at), zero);
            vf p = vf_exp2_softmax(vf_sub(score, vf_load(lse + v * VF_WIDTH)));
            product = vf_sub(vf_select(dropped, zero, product), vf_load(delta + v * VF_WIDTH));
            vf gradient = vf_select(out, zero, vf_mul(p, product));
            if (slope) gradient = vf_select(out, zero, vf_mul(gradient, vf_load(slope + at)));
            vf_store(s + at, vf_select(vm_or(out, dropped), zero, p));
            vf_store(dp + at, gradient);
        }
}

#endif
