/* Maximum and exponentials of a row of floats, for the kernels that rest on a softmax. */
#ifndef FOVEA_CPU_SOFTMAX_H
#define FOVEA_CPU_SOFTMAX_H

#include "cpu/rows.h"
#include "cpu/simd/simd_math.h"

#include <math.h>

/* NaN is passed over here: its exponential makes the sum NaN. */
static inline float row_maximum(const float *x, int64_t n) {
    enum { W = VF_WIDTH };
    const vf lowest = vf_set1(-INFINITY);
    vf s = lowest, t = lowest, u = lowest, v = lowest;
    int64_t i = 0;
    for (; i + 4 * W <= n; i += 4 * W) {
        s = vf_max(vf_load(x + i), s), t = vf_max(vf_load(x + i + W), t);
        u = vf_max(vf_load(x + i + 2 * W), u), v = vf_max(vf_load(x + i + 3 * W), v);
    }
    for (; i + W <= n; i += W) s = vf_max(vf_load(x + i), s);
    if (i < n) {
        vf last = vf_load_n(x + i, (size_t)(n - i));
        t = vf_max(vf_select(vm_first((size_t)(n - i)), last, lowest), t);
    }
    return vf_reduce_max(vf_max(vf_max(s, t), vf_max(u, v)));
}

typedef struct exponentials {
    float maximum;
    float *to;
    const char *next; /* row */
    int64_t size;     /* of its elements */
} exponentials;

/* e^d for d <= 0. AVX-512: as a power of two, 1.2 ns a vector instead of 2.0; it is off by |d| half units more, which
 * the differences are already. */
FOVEA_INLINE vf exponential_of(vf d) {
#ifdef FOVEA_TIER_AVX512
    return vf_exp2_softmax(vf_mul(d, vf_set1(VF_LOG2E)));
#else
    return vf_exp(d);
#endif
}

/* e^(x - m), kept for the last pass. */
FOVEA_INLINE vf kept_exponential(const exponentials *e, const float *x, int64_t i, int64_t n) {
    vf y = exponential_of(vf_sub(rows_take(x, i, n), vf_set1(e->maximum)));
    if (n == VF_WIDTH) {
        vf_store(e->to + i, y);
        return y;
    }
    vf_store_n(e->to + i, y, (size_t)n);
    return vf_select(vm_first((size_t)n), y, vf_set1(0));
}
FOVEA_INLINE vf exponential(const float *x, void *state, int64_t i, int64_t n) {
    const exponentials *e = state;
    rows_prefetch(e->next, i * e->size);
    return kept_exponential(e, x, i, n);
}

/* e^(x - m), not kept. */
FOVEA_INLINE vf passing_exponential(const exponentials *e, const float *x, int64_t i, int64_t n) {
    vf y = exponential_of(vf_sub(rows_take(x, i, n), vf_set1(e->maximum)));
    return n == VF_WIDTH ? y : vf_select(vm_first((size_t)n), y, vf_set1(0));
}
FOVEA_INLINE vf passing(const float *x, void *state, int64_t i, int64_t n) {
    const exponentials *e = state;
    rows_prefetch(e->next, i * e->size);
    return passing_exponential(e, x, i, n);
}

/* ---- Results past the caches ---------------------------------------------------------------- */

/* Exponentials wait for the processor, results past the caches for memory: one after the other they took
 * 11 and 8 cycles a vector of the 17 that reading and writing it need. So the results of one row are written while the
 * exponentials of another are computed, and the maximum of a third is found. They are two rows apart each: a row of
 * 256 floats is computed in the time that its maximum, or its sum and the division by it, take to come about. Two
 * cores of a Xeon, 10^7 floats: fused_softmax_cross_entropy, rows of 256, 2.55 and 2.23 ms with one and two rows. */
enum { OVERLAP_LAG = 2, OVERLAP_ROWS = OVERLAP_LAG + 1 };

static inline int64_t overlap_scratch_bytes(int64_t columns) {
    return rows_apart(OVERLAP_ROWS * rows_scratch_bytes(columns));
}
static inline float *overlap_scratch(const rows_plan *plan, int thread) {
    return (float *)(void *)(plan->scratch + thread * overlap_scratch_bytes(plan->columns));
}

static bool rows_overlap(const rows_plan *plan) {
    bool aligned = (uintptr_t)plan->y.data % VF_BYTES == 0 && plan->columns % VF_WIDTH == 0;
    for (int i = 0; i < plan->y.rank; i++)
        aligned = aligned && (plan->y.shape[i] == 1 || plan->y.stride[i] % VF_WIDTH == 0);
    return aligned && VF_WIDTH > 1 && plan->stream && plan->dtype == FOVEA_F32 &&
           plan->x_step == 1 && plan->y_step == 1 && plan->columns <= 4096;
}

/* A row that is yet to be written. */
typedef struct overlapped_row {
    float *y;
    const float *kept; /* its exponentials, or the row itself */
    float maximum, factor;
} overlapped_row;

typedef struct overlapped {
    exponentials now;
    overlapped_row before,
        rows[OVERLAP_ROWS]; /* before: the one that is written; rows: by number */
    float maxima[OVERLAP_ROWS];
    const float *following; /* row */
    vf most;                /* of it */
} overlapped;

static inline const float *overlap_row(const rows_plan *plan, int64_t row) {
    return (const float *)(const void *)rows_address(&plan->x, row);
}

/* The maxima of the first rows; those of the others are found on the way. */
static inline void overlap_start(const rows_plan *plan, int64_t begin, int64_t end, overlapped *o) {
    for (int64_t row = begin; row < smaller(begin + OVERLAP_LAG, end); row++)
        o->maxima[row % OVERLAP_ROWS] = row_maximum(overlap_row(plan, row), plan->columns);
}
FOVEA_INLINE void overlap_follow(overlapped *o, int64_t i) {
    fetch_ahead(fovea_fetches_near, o->following + i, 0, VF_BYTES);
    o->most = vf_max(vf_load(o->following + i), o->most);
}

/* The sum of an item over a row; where there is one to write, of `writing`. */
FOVEA_INLINE float overlap_sum(const rows_plan *plan, int64_t row, int64_t begin, int64_t end,
                               rows_item *item, rows_item *writing, overlapped *o) {
    const float *x = overlap_row(plan, row);
    int64_t n = plan->columns;
    o->following = overlap_row(plan, smaller(row + OVERLAP_LAG, end - 1));
    o->most = vf_set1(-INFINITY);
    o->now.maximum = o->maxima[row % OVERLAP_ROWS];
    if (row < begin + OVERLAP_LAG) return rows_sum(item, x, o, n);
    o->before = o->rows[(row - OVERLAP_LAG) % OVERLAP_ROWS];
    return rows_sum(writing, x, o, n);
}

/* The results of a row are made of `kept` two rows later. */
static inline void overlap_end(const rows_plan *plan, int64_t row, const float *kept, float factor,
                               overlapped *o) {
    float *y = (float *)(void *)rows_address(&plan->y, row);
    o->rows[row % OVERLAP_ROWS] = (overlapped_row){y, kept, o->now.maximum, factor};
    o->maxima[(row + OVERLAP_LAG) % OVERLAP_ROWS] = vf_reduce_max(o->most);
}

/* The last rows. */
FOVEA_INLINE void overlap_finish(const rows_plan *plan, int64_t begin, int64_t end, rows_item *item,
                                 overlapped *o) {
    for (int64_t row = larger(begin, end - OVERLAP_LAG); row < end; row++) {
        o->before = o->rows[row % OVERLAP_ROWS];
        rows_store(plan, (char *)o->before.y, item, o->before.kept, o, NULL);
    }
}

FOVEA_INLINE vf overlap_scaled(const float *x, void *state, int64_t i, int64_t n) {
    return vf_mul(rows_take(x, i, n), vf_set1(((const overlapped *)state)->before.factor));
}
/* What is written comes last: a load waits for a store before it whose address has the same twelve low bits, as that
 * of a result and of the element beside it have as a rule. 1.98 and 1.91 ms of 9765 rows of 1024. */
FOVEA_INLINE vf exponential_and_scaled(const float *x, void *state, int64_t i, int64_t n) {
    overlapped *o = state;
    overlap_follow(o, i);
    vf y = kept_exponential(&o->now, x, i, n);
    vf_stream(o->before.y + i, overlap_scaled(o->before.kept, o, i, n));
    return y;
}
FOVEA_INLINE vf exponential_alone(const float *x, void *state, int64_t i, int64_t n) {
    overlapped *o = state;
    overlap_follow(o, i);
    return kept_exponential(&o->now, x, i, n);
}

/* The sum of a row's exponentials, which one of the rows of scratch keeps. */
FOVEA_INLINE float overlap_exponentials(const rows_plan *plan, int64_t row, int64_t begin,
                                        int64_t end, float *scratch, overlapped *o) {
    o->now.to = scratch + row % OVERLAP_ROWS * (plan->scratch_step / (int64_t)sizeof *scratch);
    return overlap_sum(plan, row, begin, end, exponential_alone, exponential_and_scaled, o);
}

#endif
