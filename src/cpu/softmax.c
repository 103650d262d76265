/* Domain 4, softmax along the last axis. Three passes over a row that stays in the cache: maximum,
 * exponentials with their sum, division. */
#include "cpu/rows.h"
#include "cpu/simd/simd_math.h"

#include <math.h>

/* NaN is passed over here: its exponential makes the sum NaN. */
static float row_maximum(const float *x, int64_t n) {
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

FOVEA_INLINE vf scaled(const float *x, void *state, int64_t i, int64_t n) {
    return vf_mul(rows_take(x, i, n), vf_set1(*(const float *)state));
}

static void softmax_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const rows_plan *plan = task;
    int64_t n = plan->columns;
    float *scratch = (float *)(void *)(plan->scratch + thread * plan->scratch_step);
    for (int64_t row = begin; row < end; row++) {
        const float *x =
            rows_load(plan->dtype, rows_address(&plan->x, row), plan->x_step, n, scratch);
        exponentials state = {row_maximum(x, n), scratch, rows_next(plan, row, end),
                              (int64_t)fovea_dtype_size(plan->dtype)};
        float factor = 1 / rows_sum(exponential, x, &state, n);
        rows_store(plan, rows_address(&plan->y, row), scaled, scratch, &factor, scratch);
    }
    if (plan->stream) vf_stream_fence();
}

static size_t softmax_workspace(const fovea_problem *problem, int threads) {
    const fovea_view *x = &problem->views[0];
    return (size_t)(rows_scratch_bytes(x->shape[x->rank - 1]) * threads);
}

static fovea_status softmax_stable(const fovea_problem *problem, fovea_run *run) {
    rows_plan plan = rows_make_plan(&problem->views[0], &problem->views[1]);
    plan.scratch = run->workspace;
    return rows_call(&plan, run, softmax_rows, 24);
}

const fovea_implementation FOVEA_TIERED(fovea_cpu_softmax)[] = {
    {"softmax_stable", FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE,
     .workspace = softmax_workspace, .run = softmax_stable},
    {0}};
