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

/* e^(x - m), kept for the last pass. */
FOVEA_INLINE vf exponential(const float *x, void *state, int64_t i, int64_t n) {
    const exponentials *e = state;
    rows_prefetch(e->next, i * e->size);
    vf y = vf_exp(vf_sub(rows_take(x, i, n), vf_set1(e->maximum)));
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
    vf y = vf_exp(vf_sub(rows_take(x, i, n), vf_set1(e->maximum)));
    return n == VF_WIDTH ? y : vf_select(vm_first((size_t)n), y, vf_set1(0));
}

#endif
