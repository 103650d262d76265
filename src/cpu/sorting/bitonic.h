/* Batcher's bitonic network (Sorting networks and their applications, 1968) over signed integers, of a
 * power of two of them.
 *
 * A square of WIDTH vectors stays in registers for all stages whose partners are within it: between
 * vectors they are a minimum and a maximum; those between lanes become such after a transposition. Eight
 * stages so cost 2 transpositions of 4 operations a vector where permutes and blends would cost 16.
 * Stages over more than a square take up to STAGES at a time, with 2^STAGES vectors in registers. Merges
 * descend depth first, so that a part that fits a cache is finished in it.
 *
 * Descending runs swap minimum and maximum; within a square, lanes of descending runs are inverted
 * instead. */
#ifndef FOVEA_CPU_SORTING_BITONIC_H
#define FOVEA_CPU_SORTING_BITONIC_H

#include "cpu/kernel.h"
#include "cpu/simd/simd_order.h"

enum { STAGES = VF_WIDTH >= 16 ? 4 : 3 };

/* Ones in the lanes of which bit b is set. */
#define LANE_BITS(type, b)                                                                         \
    {                                                                                              \
        -(type)(0 >> b & 1), -(type)(1 >> b & 1), -(type)(2 >> b & 1), -(type)(3 >> b & 1),        \
            -(type)(4 >> b & 1), -(type)(5 >> b & 1), -(type)(6 >> b & 1), -(type)(7 >> b & 1),    \
            -(type)(8 >> b & 1), -(type)(9 >> b & 1), -(type)(10 >> b & 1), -(type)(11 >> b & 1),  \
            -(type)(12 >> b & 1), -(type)(13 >> b & 1), -(type)(14 >> b & 1), -(type)(15 >> b & 1) \
    }
static const int32_t lane_bits_32[4][16] = {LANE_BITS(int32_t, 0), LANE_BITS(int32_t, 1),
                                            LANE_BITS(int32_t, 2), LANE_BITS(int32_t, 3)};
static const int64_t lane_bits_64[4][16] = {LANE_BITS(int64_t, 0), LANE_BITS(int64_t, 1),
                                            LANE_BITS(int64_t, 2), LANE_BITS(int64_t, 3)};

/* What is sorted: words, longs, or longs with longs that go with them and come second in comparisons. */
typedef int32_t *words;
typedef int64_t *longs;
typedef struct pairs {
    int64_t *keys, *values;
} pairs;
typedef struct vp {
    vl key, value;
} vp;

FOVEA_INLINE vi words_load(words p, int64_t i) { return vi_load(p + i); }
FOVEA_INLINE void words_store(words p, int64_t i, vi x) { vi_store(p + i, x); }
FOVEA_INLINE void words_exchange(vi *a, vi *b) {
    vi least = vi_min(*a, *b);
    *b = vi_max(*a, *b), *a = least;
}
FOVEA_INLINE vi words_invert(vi x, int bit) { return vi_xor(x, vi_load(lane_bits_32[bit])); }
FOVEA_INLINE void words_transpose(vi x[]) {
    vf t[VF_WIDTH];
    VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++) t[i] = vi_as_vf(x[i]);
    vf_transpose(t);
    VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++) x[i] = vf_as_vi(t[i]);
}

FOVEA_INLINE vl longs_load(longs p, int64_t i) { return vl_load(p + i); }
FOVEA_INLINE void longs_store(longs p, int64_t i, vl x) { vl_store(p + i, x); }
FOVEA_INLINE void longs_exchange(vl *a, vl *b) {
    vl least = vl_min(*a, *b);
    *b = vl_max(*a, *b), *a = least;
}
FOVEA_INLINE vl longs_invert(vl x, int bit) { return vl_xor(x, vl_load(lane_bits_64[bit])); }
FOVEA_INLINE void longs_transpose(vl x[]) { vl_transpose(x); }

FOVEA_INLINE vp pairs_load(pairs p, int64_t i) {
    return (vp){vl_load(p.keys + i), vl_load(p.values + i)};
}
FOVEA_INLINE void pairs_store(pairs p, int64_t i, vp x) {
    vl_store(p.keys + i, x.key), vl_store(p.values + i, x.value);
}
FOVEA_INLINE void pairs_exchange(vp *a, vp *b) {
    vlm tie = vlm_and(vl_eq(a->key, b->key), vl_gt(a->value, b->value));
    vlm swap = vlm_or(vl_gt(a->key, b->key), tie);
    vp least = {vl_select(swap, b->key, a->key), vl_select(swap, b->value, a->value)};
    b->key = vl_select(swap, a->key, b->key), b->value = vl_select(swap, a->value, b->value);
    *a = least;
}
FOVEA_INLINE vp pairs_invert(vp x, int bit) {
    return (vp){longs_invert(x.key, bit), longs_invert(x.value, bit)};
}
FOVEA_INLINE void pairs_transpose(vp x[]) {
    vl keys[VD_WIDTH], values[VD_WIDTH];
    VF_UNROLLED for (int i = 0; i < VD_WIDTH; i++) keys[i] = x[i].key, values[i] = x[i].value;
    vl_transpose(keys);
    vl_transpose(values);
    VF_UNROLLED for (int i = 0; i < VD_WIDTH; i++) x[i] = (vp){keys[i], values[i]};
}

/* The network over data of type D in vectors V of W lanes. */
#define BITONIC(D, V, W)                                                                            \
    enum { D##_SQUARE = W * W };                                                                    \
    FOVEA_INLINE void D##_order(bool down, V *a, V *b) {                                            \
        if (down)                                                                                   \
            D##_exchange(b, a);                                                                     \
        else                                                                                        \
            D##_exchange(a, b);                                                                     \
    }                                                                                               \
    /* Partners are j vectors apart; those with bit k of their number run down. */                  \
    FOVEA_INLINE void D##_stage(V *x, int count, int j, int k, bool down) {                         \
        VF_UNROLLED for (int i = 0; i < count; i++) {                                               \
            if (!(i & j) && (i | j) < count) D##_order(((i & k) != 0) != down, &x[i], &x[i | j]);   \
        }                                                                                           \
    }                                                                                               \
    FOVEA_INLINE void D##_stages(V *x, int count, int from, int k, bool down) {                     \
        if (from >= 8) D##_stage(x, count, 8, k, down);                                             \
        if (from >= 4) D##_stage(x, count, 4, k, down);                                             \
        if (from >= 2) D##_stage(x, count, 2, k, down);                                             \
        if (from >= 1) D##_stage(x, count, 1, k, down);                                             \
    }                                                                                               \
    FOVEA_INLINE void D##_invert_all(V *x, int bit) {                                               \
        VF_UNROLLED for (int i = 0; i < W; i++) x[i] = D##_invert(x[i], bit);                       \
    }                                                                                               \
    /* Of runs of k vectors' lanes: first between vectors, then, as lanes, within them. */          \
    FOVEA_INLINE void D##_grow(V *x, int k, int bit, bool down) {                                   \
        D##_transpose(x);                                                                           \
        D##_stages(x, W, k / 2, k < W ? k : 0, k < W ? false : down);                               \
        D##_transpose(x);                                                                           \
        if (k < W) D##_invert_all(x, bit);                                                          \
        D##_stages(x, W, W / 2, 0, k < W ? false : down);                                           \
        if (k < W) D##_invert_all(x, bit);                                                          \
    }                                                                                               \
    FOVEA_INLINE void D##_sort_square_to(D p, int64_t at, bool down) {                              \
        V x[W];                                                                                     \
        VF_UNROLLED for (int i = 0; i < W; i++) x[i] = D##_load(p, at + i * W);                     \
        if (W > 2) D##_stages(x, W, 1, 2, false);                                                   \
        if (W > 4) D##_stages(x, W, 2, 4, false);                                                   \
        if (W > 8) D##_stages(x, W, 4, 8, false);                                                   \
        if (W > 1) {                                                                                \
            D##_invert_all(x, 0);                                                                   \
            D##_stages(x, W, W / 2, 0, false);                                                      \
            D##_invert_all(x, 0);                                                                   \
            D##_grow(x, 2, 1, down);                                                                \
        }                                                                                           \
        if (W >= 4) D##_grow(x, 4, 2, down);                                                        \
        if (W >= 8) D##_grow(x, 8, 3, down);                                                        \
        if (W >= 16) D##_grow(x, 16, 0, down);                                                      \
        D##_transpose(x);                                                                           \
        VF_UNROLLED for (int i = 0; i < W; i++) D##_store(p, at + i * W, x[i]);                     \
    }                                                                                               \
    FOVEA_INLINE void D##_merge_square_to(D p, int64_t at, bool down) {                             \
        V x[W];                                                                                     \
        VF_UNROLLED for (int i = 0; i < W; i++) x[i] = D##_load(p, at + i * W);                     \
        D##_stages(x, W, W / 2, 0, down);                                                           \
        D##_transpose(x);                                                                           \
        D##_stages(x, W, W / 2, 0, down);                                                           \
        D##_transpose(x);                                                                           \
        VF_UNROLLED for (int i = 0; i < W; i++) D##_store(p, at + i * W, x[i]);                     \
    }                                                                                               \
    static void D##_sort_square(D p, int64_t at, bool down) {                                       \
        if (down)                                                                                   \
            D##_sort_square_to(p, at, true);                                                        \
        else                                                                                        \
            D##_sort_square_to(p, at, false);                                                       \
    }                                                                                               \
    static void D##_merge_square(D p, int64_t at, bool down) {                                      \
        if (down)                                                                                   \
            D##_merge_square_to(p, at, true);                                                       \
        else                                                                                        \
            D##_merge_square_to(p, at, false);                                                      \
    }                                                                                               \
    /* `stages` stages of a merge of `size` elements, of those at places [begin, end) of a part. */ \
    FOVEA_INLINE void D##_wide_to(D p, int64_t at, int64_t size, int stages, int64_t begin,         \
                                  int64_t end, bool down) {                                         \
        const int count = 1 << stages;                                                              \
        int64_t part = size >> stages;                                                              \
        for (int64_t i = at + begin; i < at + end; i += W) {                                        \
            V x[1 << STAGES];                                                                       \
            VF_UNROLLED for (int t = 0; t < count; t++) x[t] = D##_load(p, i + t * part);           \
            D##_stages(x, count, count / 2, 0, down);                                               \
            VF_UNROLLED for (int t = 0; t < count; t++) D##_store(p, i + t * part, x[t]);           \
        }                                                                                           \
    }                                                                                               \
    static void D##_wide(D p, int64_t at, int64_t size, int stages, int64_t begin, int64_t end,     \
                         bool down) {                                                               \
        if (stages == 1 && down) D##_wide_to(p, at, size, 1, begin, end, true);                     \
        if (stages == 1 && !down) D##_wide_to(p, at, size, 1, begin, end, false);                   \
        if (stages == 2 && down) D##_wide_to(p, at, size, 2, begin, end, true);                     \
        if (stages == 2 && !down) D##_wide_to(p, at, size, 2, begin, end, false);                   \
        if (stages == 3 && down) D##_wide_to(p, at, size, 3, begin, end, true);                     \
        if (stages == 3 && !down) D##_wide_to(p, at, size, 3, begin, end, false);                   \
        if (stages == 4 && down) D##_wide_to(p, at, size, STAGES, begin, end, true);                \
        if (stages == 4 && !down) D##_wide_to(p, at, size, STAGES, begin, end, false);              \
    }                                                                                               \
    static void D##_merge(D p, int64_t at, int64_t size, bool down) {                               \
        if (size <= D##_SQUARE) {                                                                   \
            if (W > 1) D##_merge_square(p, at, down);                                               \
            return;                                                                                 \
        }                                                                                           \
        int stages = stages_at_once(size / D##_SQUARE);                                             \
        int64_t part = size >> stages;                                                              \
        D##_wide(p, at, size, stages, 0, part, down);                                               \
        for (int64_t i = 0; i < size; i += part) D##_merge(p, at + i, part, down);                  \
    }                                                                                               \
    static void D##_sort(D p, int64_t at, int64_t size, bool down) {                                \
        if (size <= D##_SQUARE) {                                                                   \
            if (W > 1) D##_sort_square(p, at, down);                                                \
            return;                                                                                 \
        }                                                                                           \
        D##_sort(p, at, size / 2, false);                                                           \
        D##_sort(p, at + size / 2, size / 2, true);                                                 \
        D##_merge(p, at, size, down);                                                               \
    }

/* Of a merge of `squares` parts that are done each for itself afterwards. */
static int stages_at_once(int64_t squares) {
    int stages = 1;
    while (stages < STAGES && squares >> stages > 1) stages++;
    return stages;
}

BITONIC(words, vi, VF_WIDTH)
BITONIC(longs, vl, VD_WIDTH)
BITONIC(pairs, vp, VD_WIDTH)

#endif
