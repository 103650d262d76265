/* Domain 5, normalization. The variance is that of centred elements: sums of squares lose it where
 * the data have an offset. The mean is clamped to the range of the row, so that a constant row has
 * variance 0 exactly. */
#include "cpu/rows.h"

#include <math.h>

typedef struct range {
    vf low, high;
} range;

/* The element, for the mean; the range on the way. */
FOVEA_INLINE vf element(const float *x, void *state, int64_t i, int64_t n) {
    range *r = state;
    vf value = rows_take(x, i, n), inside = value;
    if (n != VF_WIDTH) inside = vf_select(vm_first((size_t)n), value, vf_set1(x[i]));
    r->low = vf_min(inside, r->low), r->high = vf_max(inside, r->high);
    return value;
}

typedef struct affine {
    float mean, factor;
    const float *gamma, *beta;
    const char *next; /* row */
    int64_t size;     /* of its elements */
} affine;

FOVEA_INLINE vf squared_distance(const float *x, void *state, int64_t i, int64_t n) {
    const affine *a = state;
    rows_prefetch(a->next, i * a->size);
    vf d = vf_sub(rows_take(x, i, n), vf_set1(a->mean));
    if (n != VF_WIDTH) d = vf_select(vm_first((size_t)n), d, vf_set1(0));
    return vf_mul(d, d);
}

FOVEA_INLINE vf normalized(const float *x, void *state, int64_t i, int64_t n) {
    const affine *a = state;
    return vf_mul(vf_sub(rows_take(x, i, n), vf_set1(a->mean)), vf_set1(a->factor));
}
FOVEA_INLINE vf transformed(const float *x, void *state, int64_t i, int64_t n) {
    const affine *a = state;
    return vf_fma(normalized(x, state, i, n), rows_take(a->gamma, i, n), rows_take(a->beta, i, n));
}

typedef struct layer_norm_constants {
    double eps;
    const float *gamma, *beta; /* NULL both or neither */
} layer_norm_constants;

static void layer_norm_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const rows_plan *plan = task;
    const layer_norm_constants *constants = plan->constants;
    int64_t n = plan->columns;
    float *scratch = (float *)(void *)(plan->scratch + thread * plan->scratch_step);
    affine state = {.gamma = constants->gamma,
                    .beta = constants->beta,
                    .size = (int64_t)fovea_dtype_size(plan->dtype)};
    for (int64_t row = begin; row < end; row++) {
        char *y = rows_address(&plan->y, row);
        const float *x =
            rows_load(plan->dtype, rows_address(&plan->x, row), plan->x_step, n, scratch);
        range r = {vf_set1(INFINITY), vf_set1(-INFINITY)};
        float mean = rows_sum(element, x, &r, n) / (float)n;
        float low = vf_reduce_min(r.low), high = vf_reduce_max(r.high);
        state.next = rows_next(plan, row, end);
        state.mean = mean < low ? low : mean > high ? high : mean; /* NaN stays */
        double variance = (double)rows_sum(squared_distance, x, &state, n) / (double)n;
        state.factor = (float)(1 / sqrt(variance + constants->eps));
        if (state.gamma)
            rows_store(plan, y, transformed, x, &state, scratch);
        else
            rows_store(plan, y, normalized, x, &state, scratch);
    }
    if (plan->stream) vf_stream_fence();
}

/* Gamma and beta as contiguous floats: where they are, or copied, or the constant of one that is
 * not given while the other is. */
static const float *affine_row(const fovea_problem *problem, const char *name, float otherwise,
                               float *to) {
    const fovea_view *view = fovea_problem_view(problem, name);
    if (view) return rows_load(view->dtype, view->data, view->stride[0], view->shape[0], to);
    const fovea_view *x = &problem->views[0];
    for (int64_t i = 0; i < x->shape[x->rank - 1]; i++) to[i] = otherwise;
    return to;
}

static size_t layer_norm_workspace(const fovea_problem *problem, int threads) {
    const fovea_view *x = &problem->views[0];
    return (size_t)(rows_scratch_bytes(x->shape[x->rank - 1]) * (threads + 2));
}

static fovea_status layer_norm(const fovea_problem *problem, fovea_run *run) {
    const fovea_layer_norm_options *options = problem->options;
    rows_plan plan = rows_make_plan(&problem->views[0], &problem->views[1]);
    layer_norm_constants constants = {.eps = options->eps};
    if (options->gamma || options->beta) {
        char *scratch = run->workspace;
        constants.gamma = affine_row(problem, "gamma", 1, (float *)(void *)scratch);
        scratch += plan.scratch_step;
        constants.beta = affine_row(problem, "beta", 0, (float *)(void *)scratch);
    }
    plan.constants = &constants;
    plan.scratch = (char *)run->workspace + 2 * plan.scratch_step;
    return rows_call(&plan, run, layer_norm_rows, 24);
}

/* ---- Root mean square ----------------------------------------------------------------------- */

FOVEA_INLINE vf squared(const float *x, void *state, int64_t i, int64_t n) {
    const affine *a = state;
    rows_prefetch(a->next, i * a->size);
    vf value = rows_take(x, i, n);
    return vf_mul(value, value);
}
FOVEA_INLINE vf scaled(const float *x, void *state, int64_t i, int64_t n) {
    return vf_mul(rows_take(x, i, n), vf_set1(((const affine *)state)->factor));
}
FOVEA_INLINE vf weighted(const float *x, void *state, int64_t i, int64_t n) {
    return vf_mul(scaled(x, state, i, n), rows_take(((const affine *)state)->gamma, i, n));
}

static void rms_norm_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const rows_plan *plan = task;
    const layer_norm_constants *constants = plan->constants;
    int64_t n = plan->columns;
    float *scratch = (float *)(void *)(plan->scratch + thread * plan->scratch_step);
    affine state = {.gamma = constants->gamma, .size = (int64_t)fovea_dtype_size(plan->dtype)};
    for (int64_t row = begin; row < end; row++) {
        char *y = rows_address(&plan->y, row);
        const float *x =
            rows_load(plan->dtype, rows_address(&plan->x, row), plan->x_step, n, scratch);
        state.next = rows_next(plan, row, end);
        double square = (double)rows_sum(squared, x, &state, n) / (double)n;
        state.factor = (float)(1 / sqrt(square + constants->eps));
        if (state.gamma)
            rows_store(plan, y, weighted, x, &state, scratch);
        else
            rows_store(plan, y, scaled, x, &state, scratch);
    }
    if (plan->stream) vf_stream_fence();
}

static fovea_status rms_norm(const fovea_problem *problem, fovea_run *run) {
    const fovea_rms_norm_options *options = problem->options;
    rows_plan plan = rows_make_plan(&problem->views[0], &problem->views[1]);
    layer_norm_constants constants = {.eps = options->eps};
    char *scratch = run->workspace;
    if (options->gamma) constants.gamma = affine_row(problem, "gamma", 1, (float *)(void *)scratch);
    plan.constants = &constants;
    plan.scratch = scratch + 2 * plan.scratch_step;
    return rows_call(&plan, run, rms_norm_rows, 16);
}

const fovea_implementation FOVEA_TIERED(fovea_cpu_normalization)[] = {
    {"layer_norm", FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE,
     .workspace = layer_norm_workspace, .run = layer_norm},
    {"rms_norm", FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE,
     .workspace = layer_norm_workspace, .run = rms_norm},
    {0}};
