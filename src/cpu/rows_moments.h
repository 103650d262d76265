/* Mean and squares of a row of floats in one pass, and beside that pass the results of the row before.
 *
 * Distances are taken from a centre near the mean, so that their sum and the sum of their squares give both:
 * variance = mean of squares - (mean - centre)^2. Where the second term is larger than the variance it would
 * cost more than a bit, and the caller goes over the row twice. A second pass that only computes leaves memory
 * idle, and so does one that only writes: memory moves as a copy does only where reading and writing take turns
 * by lines. */
#ifndef FOVEA_CPU_ROWS_MOMENTS_H
#define FOVEA_CPU_ROWS_MOMENTS_H

#include "cpu/rows.h"

#include <math.h>

typedef struct rows_moments {
    float centre;
    double sum, squares; /* of distances from it */
} rows_moments;

/* What a pass writes beside: item(x, state) to `to`. */
typedef struct rows_beside {
    const float *x;
    void *state;
    float *to; /* NULL: nothing is written */
    int64_t n;
} rows_beside;

static inline float finite_centre(float x) { return isfinite(x) ? x : 0; }

/* The mean of the first elements: exact where all are equal, 0 where it would be no number. */
static inline float rows_centre(const float *x, int64_t n) {
    enum { FIRST = 64 };
    float first = finite_centre(*x);
    vf sums[2] = {vf_set1(0), vf_set1(0)};
    if (n < FIRST) return first;
    for (int64_t i = 0; i < FIRST; i += 2 * VF_WIDTH)
        VF_UNROLLED for (int k = 0; k < 2; k++) sums[k] =
            vf_add(sums[k], vf_sub(vf_load(x + i + k * VF_WIDTH), vf_set1(first)));
    return finite_centre(first + vf_reduce_add(vf_add(sums[0], sums[1])) / FIRST);
}

/* A vector of what is written beside. */
FOVEA_INLINE void rows_put(const rows_beside *b, rows_item *item, int64_t i, bool past) {
    vf y = item(b->x, b->state, i, VF_WIDTH);
    if (past)
        vf_stream(b->to + i, y);
    else
        vf_store(b->to + i, y);
}

/* What the loop left: the elements before `head` and those from `at` on. */
FOVEA_INLINE void rows_put_rest(const rows_beside *b, rows_item *item, int64_t head, int64_t at,
                                bool past) {
    enum { W = VF_WIDTH };
    for (int64_t i = 0; i < head; i += W) {
        int64_t count = smaller(W, smaller(head, b->n) - i);
        vf_store_n(b->to + i, item(b->x, b->state, i, count), (size_t)count);
    }
    for (; at + W <= b->n; at += W) rows_put(b, item, at, past);
    if (at < b->n) {
        int64_t count = b->n - at;
        vf_store_n(b->to + at, item(b->x, b->state, at, count), (size_t)count);
    }
}

/* What else is done for each step of four vectors of the sums: arithmetic that memory leaves time for. */
typedef void rows_meanwhile(void *state, int64_t step);
FOVEA_INLINE void rows_idle(void *state, int64_t step) { (void)state, (void)step; }

/* Sums over a row, chains of 16 in four accumulators under a tree; `centred`: the centre is not 0 and the sum
 * is wanted too. past: what is written beside goes past the caches. */
FOVEA_INLINE rows_moments rows_sum_moments(const float *x, int64_t n, float centre, bool centred,
                                           const rows_beside *beside, rows_item *item, bool past,
                                           rows_meanwhile *meanwhile, void *state) {
    enum { W = VF_WIDTH, STEP = 4 * W, CHAIN = 16, LINE = 16 };
    const vf c = vf_set1(centre), zero = vf_set1(0);
    vf_tree sums, squares;
    sums.count = squares.count = 0;
    int64_t head = beside->to && past ? elements_to_alignment(FOVEA_F32, beside->to) : 0;
    int64_t i = 0, at = head, last = beside->to ? beside->n - STEP : -1;
#define DISTANCE(i) (centred ? vf_sub(vf_load(x + (i)), c) : vf_load(x + (i)))
    while (i + STEP <= n) {
        int64_t end = smaller(n - STEP, i + (CHAIN - 1) * STEP);
        vf s[4], q[4];
        VF_UNROLLED for (int k = 0; k < 4; k++) s[k] = q[k] = zero;
        for (; i <= end; i += STEP) {
            VF_UNROLLED for (int k = 0; k < 4; k++) {
                fetch_ahead(x + i + k * W, 0);
                vf d = DISTANCE(i + k * W);
                if (centred) s[k] = vf_add(s[k], d);
                q[k] = vf_fma(d, d, q[k]);
            }
            meanwhile(state, i / STEP);
            if (at > last) continue;
            VF_UNROLLED for (int k = 0; k < 4; k++) rows_put(beside, item, at + k * W, past);
            at += STEP;
        }
        if (centred) vf_tree_push(&sums, vf_add(vf_add(s[0], s[1]), vf_add(s[2], s[3])));
        vf_tree_push(&squares, vf_add(vf_add(q[0], q[1]), vf_add(q[2], q[3])));
    }
    vf s = zero, q = zero;
    for (; i < n; i += W) {
        int64_t count = smaller(W, n - i);
        vf d = count == W ? DISTANCE(i) : vf_sub(vf_load_n(x + i, (size_t)count), c);
        if (count < W) d = vf_select(vm_first((size_t)count), d, zero);
        if (centred) s = vf_add(s, d);
        q = vf_fma(d, d, q);
    }
#undef DISTANCE
    if (centred) vf_tree_push(&sums, s);
    vf_tree_push(&squares, q);
    if (beside->to) rows_put_rest(beside, item, head, at, past);
    return (rows_moments){centre, centred ? (double)vf_reduce_add(vf_tree_total(&sums)) : 0,
                          (double)vf_reduce_add(vf_tree_total(&squares))};
}

/* What is written when there is no other row to sum. */
FOVEA_INLINE void rows_finish(const rows_beside *beside, rows_item *item, bool past) {
    if (beside->to)
        rows_write(FOVEA_F32, (char *)beside->to, item, beside->x, beside->state, beside->n, past);
}

/* Mean and variance of n elements; false where two passes have to find them. */
static inline bool rows_moments_hold(const rows_moments *m, int64_t n, float *mean,
                                     double *variance) {
    double apart = m->sum / (double)n, both = m->squares / (double)n;
    *mean = (float)((double)m->centre + apart);
    *variance = both - apart * apart;
    return apart * apart <= *variance; /* false also of NaN */
}

#endif
