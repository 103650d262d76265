/* Domain 4, softmax along the last axis. Three passes over a row that stays in the cache: maximum,
 * exponentials with their sum, division. softmax_online reads a row once for maximum and sum and once
 * to write, and keeps nothing but those two: for rows that no cache holds. */
#include "cpu/softmax.h"

FOVEA_INLINE vf scaled(const float *x, void *state, int64_t i, int64_t n) {
    return vf_mul(rows_take(x, i, n), vf_set1(*(const float *)state));
}

static void softmax_overlapping(const rows_plan *plan, int64_t begin, int64_t end, float *scratch) {
    overlapped o = {0};
    overlap_start(plan, begin, end, &o);
    for (int64_t row = begin; row < end; row++) {
        float factor = 1 / overlap_exponentials(plan, row, begin, end, scratch, &o);
        overlap_end(plan, row, o.now.to, factor, &o);
    }
    overlap_finish(plan, begin, end, overlap_scaled, &o);
}

static void softmax_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const rows_plan *plan = task;
    int64_t n = plan->columns;
    float *scratch = overlap_scratch(plan, thread);
    bool overlap = rows_overlap(plan);
    if (overlap) softmax_overlapping(plan, begin, end, scratch);
    for (int64_t row = overlap ? end : begin; row < end; row++) {
        const float *x =
            rows_load(plan->dtype, rows_address(&plan->x, row), plan->x_step, n, scratch);
        exponentials state = {row_maximum(x, n), scratch, rows_next(plan, row, end),
                              (int64_t)fovea_dtype_size(plan->dtype)};
        float factor = 1 / rows_sum(exponential, x, &state, n);
        rows_store(plan, rows_address(&plan->y, row), scaled, scratch, &factor, scratch);
    }
    if (plan->stream) vf_stream_fence();
}

typedef struct shift {
    float maximum, logarithm; /* of the sum */
} shift;

FOVEA_INLINE vf shifted(const float *x, void *state, int64_t i, int64_t n) {
    const shift *s = state;
    return vf_sub(vf_sub(rows_take(x, i, n), vf_set1(s->maximum)), vf_set1(s->logarithm));
}

FOVEA_INLINE vf overlap_shifted(const float *x, void *state, int64_t i, int64_t n) {
    const overlapped *o = state;
    shift s = {o->before.maximum, o->before.factor};
    return shifted(x, &s, i, n);
}
FOVEA_INLINE vf passing_and_shifted(const float *x, void *state, int64_t i, int64_t n) {
    overlapped *o = state;
    overlap_follow(o, i);
    vf y = passing_exponential(&o->now, x, i, n);
    vf_stream(o->before.y + i, overlap_shifted(o->before.kept, o, i, n));
    return y;
}
FOVEA_INLINE vf passing_alone(const float *x, void *state, int64_t i, int64_t n) {
    overlapped *o = state;
    overlap_follow(o, i);
    return passing_exponential(&o->now, x, i, n);
}

static void log_softmax_overlapping(const rows_plan *plan, int64_t begin, int64_t end) {
    overlapped o = {0};
    overlap_start(plan, begin, end, &o);
    for (int64_t row = begin; row < end; row++) {
        float sum = overlap_sum(plan, row, begin, end, passing_alone, passing_and_shifted, &o);
        overlap_end(plan, row, overlap_row(plan, row), (float)log((double)sum), &o);
    }
    overlap_finish(plan, begin, end, overlap_shifted, &o);
}

static void log_softmax_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const rows_plan *plan = task;
    int64_t n = plan->columns;
    float *scratch = overlap_scratch(plan, thread);
    bool overlap = rows_overlap(plan);
    if (overlap) log_softmax_overlapping(plan, begin, end);
    for (int64_t row = overlap ? end : begin; row < end; row++) {
        const float *x =
            rows_load(plan->dtype, rows_address(&plan->x, row), plan->x_step, n, scratch);
        exponentials state = {row_maximum(x, n), NULL, rows_next(plan, row, end),
                              (int64_t)fovea_dtype_size(plan->dtype)};
        shift s = {state.maximum, (float)log((double)rows_sum(passing, x, &state, n))};
        rows_store(plan, rows_address(&plan->y, row), shifted, x, &s, scratch);
    }
    if (plan->stream) vf_stream_fence();
}

enum { ONLINE_BLOCK = 1024 };

typedef struct running {
    float maximum;
    double sum; /* of e^(x - maximum); between blocks the order is a chain, so it is wide */
} running;

/* Maximum and sum of a row, block by block: a block that raises the maximum rescales the sum. As long
 * as all elements are -inf they are taken about 0, which leaves the sum 0, or NaN if there is one. */
static running online_sum(const float *x, int64_t n, const char *next, int64_t size) {
    running r = {-INFINITY, 0};
    for (int64_t i = 0; i < n; i += ONLINE_BLOCK) {
        int64_t count = smaller(ONLINE_BLOCK, n - i);
        float maximum = row_maximum(x + i, count);
        if (maximum > r.maximum) {
            r.sum *= exp((double)r.maximum - (double)maximum);
            r.maximum = maximum;
        }
        float centre = r.maximum == -INFINITY ? 0 : r.maximum;
        exponentials state = {centre, NULL, next + i * size, size};
        r.sum += (double)rows_sum(passing, x + i, &state, count);
    }
    return r;
}

typedef struct weights {
    float maximum, factor;
} weights;

FOVEA_INLINE vf weighted(const float *x, void *state, int64_t i, int64_t n) {
    const weights *w = state;
    return vf_mul(vf_exp(vf_sub(rows_take(x, i, n), vf_set1(w->maximum))), vf_set1(w->factor));
}

static void online_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const rows_plan *plan = task;
    int64_t n = plan->columns;
    float *scratch = overlap_scratch(plan, thread);
    if (n <= ONLINE_BLOCK) { /* one block, whose exponentials the first-level cache keeps */
        softmax_rows(task, begin, end, thread);
        return;
    }
    for (int64_t row = begin; row < end; row++) {
        const float *x =
            rows_load(plan->dtype, rows_address(&plan->x, row), plan->x_step, n, scratch);
        running r =
            online_sum(x, n, rows_next(plan, row, end), (int64_t)fovea_dtype_size(plan->dtype));
        weights w = {r.maximum, (float)(1 / r.sum)};
        rows_store(plan, rows_address(&plan->y, row), weighted, x, &w, scratch);
    }
    if (plan->stream) vf_stream_fence();
}

static size_t softmax_workspace(const fovea_problem *problem, int threads) {
    const fovea_view *x = &problem->views[0];
    return (size_t)(overlap_scratch_bytes(x->shape[x->rank - 1]) * threads);
}

static fovea_status softmax_stable(const fovea_problem *problem, fovea_run *run) {
    rows_plan plan = rows_make_plan(&problem->views[0], &problem->views[1]);
    plan.scratch = run->workspace;
    return rows_call(&plan, run, softmax_rows, 24);
}

static fovea_status log_softmax(const fovea_problem *problem, fovea_run *run) {
    rows_plan plan = rows_make_plan(&problem->views[0], &problem->views[1]);
    plan.scratch = run->workspace;
    return rows_call(&plan, run, log_softmax_rows, 24);
}

static fovea_status softmax_online(const fovea_problem *problem, fovea_run *run) {
    rows_plan plan = rows_make_plan(&problem->views[0], &problem->views[1]);
    plan.scratch = run->workspace;
    return rows_call(&plan, run, online_rows, 32);
}

#define ENTRY(name)                                                                                \
    {                                                                                              \
        #name, FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE,                            \
            .workspace = softmax_workspace, .run = name                                            \
    }

const fovea_implementation FOVEA_TIERED(fovea_cpu_softmax)[] = {
    ENTRY(softmax_stable), ENTRY(log_softmax), ENTRY(softmax_online), {0}};
