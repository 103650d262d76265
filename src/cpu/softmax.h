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
FOVEA_INLINE vf exponential(const float *x, void *state, int64_t i, int64_t n) {
    const exponentials *e = state;
    rows_prefetch(e->next, i * e->size);
    vf y = exponential_of(vf_sub(rows_take(x, i, n), vf_set1(e->maximum)));
    if (n == VF_WIDTH) {
        vf_store(e->to + i, y);
        return y;
    }
    vf_store_n(e->to + i, y, (size_t)n);
    return vf_select(vm_first((size_t)n), y, vf_set1(0));
}

/* e^(x - m), not kept. */
FOVEA_INLINE vf passing(const float *x, void *state, int64_t i, int64_t n) {
    const exponentials *e = state;
    rows_prefetch(e->next, i * e->size);
    vf y = exponential_of(vf_sub(rows_take(x, i, n), vf_set1(e->maximum)));
    return n == VF_WIDTH ? y : vf_select(vm_first((size_t)n), y, vf_set1(0));
}

/* ---- Results past the caches ---------------------------------------------------------------- */

/* Exponentials wait for the processor, results past the caches for memory: one after the other they took
 * 11 and 8 cycles a vector of the 17 that reading and writing it need. So a row's results are written while the
 * exponentials of the next are computed. Two cores of a Zen 5, 9765 rows of 1024 floats: see the table of shares
 * in docs/measurements. */
static bool rows_overlap(const rows_plan *plan) {
    bool aligned = (uintptr_t)plan->y.data % VF_BYTES == 0 && plan->columns % VF_WIDTH == 0;
    for (int i = 0; i < plan->y.rank; i++)
        aligned = aligned && (plan->y.shape[i] == 1 || plan->y.stride[i] % VF_WIDTH == 0);
    return aligned && VF_WIDTH > 1 && plan->stream && plan->dtype == FOVEA_F32 &&
           plan->x_step == 1 && plan->y_step == 1 && plan->columns <= 4096;
}

typedef struct overlapped {
    exponentials now;
    float *y;          /* of the row before */
    const float *kept; /* its exponentials, or the row itself */
    float maximum, factor;
    const float *following; /* row */
    vf most;                /* of it */
} overlapped;

/* The next row: its maximum is found in the same pass. */
static inline void overlap_begin(const rows_plan *plan, int64_t row, int64_t end, overlapped *o) {
    int64_t next = smaller(row + 1, end - 1);
    o->now.next = rows_next(plan, next, end);
    o->following = (const float *)(const void *)rows_address(&plan->x, next);
    o->most = vf_set1(-INFINITY);
}
FOVEA_INLINE void overlap_follow(overlapped *o, int64_t i) {
    o->most = vf_max(vf_load(o->following + i), o->most);
}

FOVEA_INLINE vf exponential_after_scaled(const float *x, void *state, int64_t i, int64_t n) {
    overlapped *o = state;
    vf_stream(o->y + i, vf_mul(vf_load(o->kept + i), vf_set1(o->factor)));
    overlap_follow(o, i);
    return exponential(x, &o->now, i, n);
}

/* Nothing is written, as of no row before the first. */
FOVEA_INLINE vf exponential_before(const float *x, void *state, int64_t i, int64_t n) {
    overlapped *o = state;
    overlap_follow(o, i);
    return exponential(x, &o->now, i, n);
}

/* The sum of a row's exponentials, which one of two rows of scratch keeps; the row before is written meanwhile. */
FOVEA_INLINE float overlap_exponentials(const rows_plan *plan, int64_t row, int64_t begin,
                                        int64_t end, float *scratch, overlapped *o) {
    const float *x = (const float *)(const void *)rows_address(&plan->x, row);
    overlap_begin(plan, row, end, o);
    o->now.to = scratch + row % 2 * (plan->scratch_step / (int64_t)sizeof *scratch);
    if (row > begin) return rows_sum(exponential_after_scaled, x, o, plan->columns);
    o->now.maximum = row_maximum(x, plan->columns);
    return rows_sum(exponential_before, x, o, plan->columns);
}

/* The results of a row are made of `kept` while the next is read, whose maximum is known now. */
static inline void overlap_end(const rows_plan *plan, int64_t row, const float *kept,
                               overlapped *o) {
    o->kept = kept, o->y = (float *)(void *)rows_address(&plan->y, row);
    o->now.maximum = vf_reduce_max(o->most);
}

#endif
