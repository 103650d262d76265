/* Normalization over channels: batch_norm and group_norm. What is normalised together, a set, is some
 * segments of memory; their means are taken relative to the first element, so that a constant set
 * has variance 0 exactly. Where channels lie side by side and nothing follows them, batch_norm takes
 * four vectors of channels at a time down all rows: two passes over a tile that stays in the
 * second-level cache (1024 rows of 256 bytes) read memory once. */
#ifndef FOVEA_CPU_CHANNELS_H
#define FOVEA_CPU_CHANNELS_H

#include "catalogue/network.h"
#include "cpu/rows_short.h"

#include <math.h>

/* ---- What a row or segment is made of ------------------------------------------------------- */

typedef struct affine {
    float mean, factor;
    const float *gamma, *beta;
    const char *next; /* row */
    int64_t size;     /* of its elements */
    rows_ahead ahead; /* of rows of the last axis */
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

/* Of rows that are too long for the first level with their weights: all three come from the second. 1024 rows of
 * 9765 floats, two cores of a Xeon: 2.68 ms without hints, 2.64 with those for the weights 512 bytes ahead, 2.58 1 KiB
 * ahead, 2.51 with that for x too. */
FOVEA_INLINE vf transformed_from_second(const float *x, void *state, int64_t i, int64_t n) {
    const affine *a = state;
    rows_prefetch((const char *)(a->gamma + i), 1024);
    rows_prefetch((const char *)(a->beta + i), 1024);
    rows_prefetch((const char *)(x + i), 1024);
    return transformed(x, state, i, n);
}

/* `count` weights as contiguous floats: where they are, or copied, or the constant of those that are
 * not given. */
static const float *affine_row(const fovea_problem *problem, const char *name, int64_t count,
                               float otherwise, float *to) {
    const fovea_view *view = fovea_problem_view(problem, name);
    if (view) return rows_load(view->dtype, view->data, view->stride[0], view->shape[0], to);
    for (int64_t i = 0; i < count; i++) to[i] = otherwise;
    return to;
}

typedef struct affine_constants {
    double eps;
    const float *gamma, *beta; /* NULL both or neither */
    int64_t period;            /* rows that have weights of their own */
    bool plain;                /* weights are 1 and 0 */
} affine_constants;

/* Mean and factor of a row: by two passes over it where one did not tell. */
FOVEA_INLINE void find_moments(const rows_moments *moments, const float *x, int64_t n, double eps,
                               affine *state) {
    double variance;
    if (!rows_moments_hold(moments, n, &state->mean, &variance))
        variance = rows_moments_again(x, n, &state->mean);
    state->factor = (float)(1 / sqrt(variance + eps));
}

/* ---- Rows past the caches -------------------------------------------------------------------- */

/* Whether a row's results are written while the next is read: both stay in the second-level cache. */
static bool rows_overlap(const rows_plan *plan) {
    return VF_WIDTH > 1 && plan->stream && plan->dtype == FOVEA_F32 && plan->x_step == 1 &&
           plan->y_step == 1 && plan->columns >= 128 && plan->columns <= 1 << 16 &&
           (uintptr_t)plan->y.data % sizeof(float) == 0;
}

static bool rows_are_dense(const rows_plan *plan) {
    return plan->x_step == 1 && plan->y_step == 1 && plan->x.rank == 1 && plan->y.rank == 1 &&
           plan->x.stride[0] == plan->columns && plan->y.stride[0] == plan->columns;
}

static bool rows_share_lines(const rows_plan *plan) {
    return rows_are_dense(plan) &&
           ((uintptr_t)plan->y.data % LINE_BYTES != 0 || plan->columns % LINE_FLOATS != 0);
}

/* Rows that overlap, or those of rms_norm (not centred). 10^7 floats in rows of 305, two cores of a Xeon,
 * where moving them takes 1.99 ms: 2.81 where ends of rows were stored to their lines, 2.46 with lines of two rows. */
FOVEA_INLINE void normalise_overlapping(const rows_plan *plan, int64_t begin, int64_t end,
                                        rows_item *item, bool centred) {
    const affine_constants *constants = plan->constants;
    int64_t n = plan->columns;
    affine state = {.gamma = constants->gamma, .beta = constants->beta};
    rows_lines lines = {.rows = 0};
    rows_beside before = {.state = &state, .n = n, .lines = rows_share_lines(plan) ? &lines : NULL};
    for (int64_t row = begin; row < end; row++) {
        const float *x = (const float *)(const void *)rows_address(&plan->x, row);
        rows_moments moments = rows_sum_moments(x, n, centred ? rows_centre(x, n) : 0, centred,
                                                &before, item, true, rows_idle, NULL);
        if (centred)
            find_moments(&moments, x, n, constants->eps, &state);
        else
            state.factor = (float)(1 / sqrt(moments.squares / (double)n + constants->eps));
        if (constants->period > 1) {
            int64_t weights = row % constants->period * n;
            state.gamma = constants->gamma + weights, state.beta = constants->beta + weights;
        }
        before.x = x, before.to = (float *)(void *)rows_address(&plan->y, row);
    }
    rows_finish(&before, item, true);
}

/* Short rows after one another, or sets of channels: with weights. */
static bool rows_are_short(const rows_plan *plan) {
    return plan->dtype == FOVEA_F32 && plan->columns <= SHORT_ROW && rows_are_dense(plan);
}
static void normalise_dense_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const rows_plan *plan = task;
    const affine_constants *constants = plan->constants;
    const short_rows rows = {.x = (const float *)(const void *)plan->x.data,
                             .y = (float *)(void *)plan->y.data,
                             .columns = plan->columns,
                             .period = constants->period,
                             .gamma = constants->gamma,
                             .beta = constants->beta,
                             .eps = constants->eps,
                             .stream = plan->stream};
    (void)thread;
    /* 32 groups of 305, without weights: 2.44 ms with ones and zeros from the second level, 2.23 so (moving 2.00). */
    if (rows_overlap(plan) && constants->plain)
        normalise_overlapping(plan, begin, end, normalized, true);
    else if (rows_overlap(plan))
        normalise_overlapping(plan, begin, end, transformed, true);
    else
        normalise_short_rows(&rows, begin, end);
    if (plan->stream) vf_stream_fence();
}

/* ---- Sets ----------------------------------------------------------------------------------- */

enum { SEGMENT = 2048 }; /* elements that pass through the first-level cache together */

typedef struct channels_plan {
    fovea_dtype dtype;
    fovea_norm_sets sets;
    int64_t set_step[2][2];  /* of x and y: elements from set to set, and from sample to sample */
    int64_t groups;          /* sets of a sample; batch_norm: all of them */
    fovea_view segment[2];   /* of x and y: the starts of a set's segments */
    int64_t segments, inner; /* inner: segments of one channel */
    int64_t length, step[2]; /* of a segment */
    bool channels_along;     /* a segment runs over channels */
    const float *gamma, *beta;
    bool plain;           /* neither is given */
    fovea_view mean, var; /* data NULL: not asked for */
    bool given;
    bool stream; /* y bypasses the caches */
    double eps;
} channels_plan;

static const char *set_address(const channels_plan *plan, int side, int64_t set) {
    const int64_t *step = plan->set_step[side];
    int64_t offset = set % plan->groups * step[0] + set / plan->groups * step[1];
    return plan->segment[side].data + offset * (int64_t)fovea_dtype_size(plan->dtype);
}

static char *segment_address(const channels_plan *plan, int side, const char *set, int64_t number) {
    return (char *)(uintptr_t)set +
           (rows_address(&plan->segment[side], number) - plan->segment[side].data);
}

static channels_plan plan_channels(const fovea_problem *problem) {
    const fovea_view *x = &problem->views[0], *y = &problem->views[1];
    channels_plan plan = {.dtype = x->dtype, .sets = fovea_norm_describe(problem)};
    bool batch = plan.sets.group == 0;
    fovea_view inner[2] = {*x, *y};
    plan.groups = batch ? plan.sets.sets : plan.sets.channels / plan.sets.group;
    for (int side = 0; side < 2; side++) {
        fovea_view *view = &inner[side];
        plan.segment[side] = *view;
        plan.set_step[side][0] = view->stride[1] * (batch ? 1 : plan.sets.group);
        plan.set_step[side][1] = batch ? 0 : view->stride[0];
        for (int i = 2; i < view->rank; i++)
            view->shape[i - 2] = view->shape[i], view->stride[i - 2] = view->stride[i];
        view->rank -= 2;
    }
    fovea_views_collapse((fovea_view *[]){&inner[0], &inner[1]}, 2);
    int last = inner[0].rank - 1;
    bool bare = last == 0 && inner[0].shape[0] == 1; /* nothing follows the channels */
    int64_t first = batch ? plan.sets.outer : plan.sets.group;
    plan.channels_along = bare && !batch;
    plan.length = bare ? first : inner[0].shape[last];
    plan.inner = 1;
    for (int side = 0; side < 2; side++) {
        fovea_view *view = &plan.segment[side];
        int64_t stride = (side ? y : x)->stride[batch ? 0 : 1];
        plan.step[side] = bare ? stride : inner[side].stride[last];
        if (plan.length == 1) plan.step[side] = 1;
        view->rank = 1 + (bare ? 0 : last);
        view->shape[0] = bare ? 1 : first, view->stride[0] = stride;
        for (int i = 0; i < last; i++)
            view->shape[i + 1] = inner[side].shape[i], view->stride[i + 1] = inner[side].stride[i];
    }
    for (int i = 0; i < last; i++) plan.inner *= inner[0].shape[i];
    plan.segments = (bare ? 1 : first) * plan.inner;
    return plan;
}

/* The sum of an item over a set. */
FOVEA_INLINE double sum_set(const channels_plan *plan, const char *set, rows_item *item,
                            affine *state, float *scratch) {
    double sum = 0;
    int64_t size = (int64_t)fovea_dtype_size(plan->dtype);
    for (int64_t s = 0; s < plan->segments; s++) {
        const char *from = segment_address(plan, 0, set, s);
        for (int64_t i = 0; i < plan->length; i += SEGMENT) {
            int64_t count = smaller(SEGMENT, plan->length - i);
            const char *at = from + i * plan->step[0] * size;
            const float *x = rows_load(plan->dtype, at, plan->step[0], count, scratch);
            /* What follows, as a rule the next set. Of 32,768 sets of 305 floats 4.2 ms instead of 5.2 (two
             * cores, Zen 5); results past the caches cost more than they gain: 3.4 for 3.0 ms. */
            state->next = at + count * plan->step[0] * size;
            sum += (double)rows_sum(item, x, state, count);
        }
    }
    return sum;
}

FOVEA_INLINE vf from_centre(const float *x, void *state, int64_t i, int64_t n) {
    vf d = vf_sub(rows_take(x, i, n), vf_set1(((const affine *)state)->mean));
    return n == VF_WIDTH ? d : vf_select(vm_first((size_t)n), d, vf_set1(0));
}
/* With one factor and one beta for all. */
FOVEA_INLINE vf channel_item(const float *x, void *state, int64_t i, int64_t n) {
    const affine *a = state;
    vf d = vf_sub(rows_take(x, i, n), vf_set1(a->mean));
    return vf_fma(d, vf_set1(a->factor), vf_set1(*a->beta));
}

static void write_set(const channels_plan *plan, int64_t set, affine state, float *scratch) {
    const char *from = set_address(plan, 0, set), *to = set_address(plan, 1, set);
    int64_t size = (int64_t)fovea_dtype_size(plan->dtype);
    int64_t first = plan->sets.group ? set % plan->groups * plan->sets.group : set;
    rows_plan rows = {.dtype = plan->dtype, .y_step = plan->step[1]};
    float factor = state.factor;
    for (int64_t s = 0; s < plan->segments; s++) {
        const char *x = segment_address(plan, 0, from, s);
        char *y = segment_address(plan, 1, to, s);
        int64_t channel = first + (plan->sets.group ? s / plan->inner : 0);
        state.beta = plan->beta + channel;
        state.factor = plan->channels_along ? factor : factor * plan->gamma[channel];
        for (int64_t i = 0; i < plan->length; i += SEGMENT) {
            rows.columns = smaller(SEGMENT, plan->length - i);
            const float *line = rows_load(plan->dtype, x + i * plan->step[0] * size, plan->step[0],
                                          rows.columns, scratch);
            char *at = y + i * plan->step[1] * size;
            state.gamma = plan->gamma + first + i;
            if (plan->channels_along) state.beta = plan->beta + first + i;
            if (plan->channels_along)
                rows_store(&rows, at, transformed, line, &state, scratch);
            else
                rows_store(&rows, at, channel_item, line, &state, scratch);
        }
    }
}

static float read_float(const fovea_view *view, int64_t i) {
    return ((const float *)(const void *)view->data)[i * view->stride[0]];
}
static void tell_float(const fovea_view *view, int64_t i, float value) {
    if (view->data) ((float *)(void *)view->data)[i * view->stride[0]] = value;
}

/* Whether the first element was so far off that its distance has taken digits of the mean. */
static bool is_far(double rest, double variance) { return rest * rest > 16 * variance; }

static void normalise_sets(const void *task, int64_t begin, int64_t end, int thread) {
    const channels_plan *plan = task;
    _Alignas(64) float scratch[SEGMENT];
    double size = (double)plan->sets.size;
    (void)thread;
    for (int64_t set = begin; set < end; set++) {
        const char *from = set_address(plan, 0, set);
        affine state = {.size = (int64_t)fovea_dtype_size(plan->dtype)};
        double variance;
        if (plan->given) {
            state.mean = read_float(&plan->mean, set);
            variance = (double)read_float(&plan->var, set);
        } else {
            state.mean = finite_centre(*rows_load(plan->dtype, from, 1, 1, scratch));
            double rest = sum_set(plan, from, from_centre, &state, scratch) / size;
            state.mean = (float)((double)state.mean + rest);
            variance = sum_set(plan, from, squared_distance, &state, scratch) / size;
            if (is_far(rest, variance)) {
                rest = sum_set(plan, from, from_centre, &state, scratch) / size;
                state.mean = (float)((double)state.mean + rest);
            }
            tell_float(&plan->mean, set, state.mean), tell_float(&plan->var, set, (float)variance);
        }
        state.factor = (float)(1 / sqrt(variance + plan->eps));
        write_set(plan, set, state, scratch);
    }
}

/* ---- Short sets after one another ------------------------------------------------------------ */

static bool short_sets(const channels_plan *plan) {
    bool dense = plan->segments == 1 && plan->step[0] == 1 && plan->step[1] == 1;
    for (int side = 0; side < 2; side++) /* set after set, sample after sample */
        dense = dense && plan->set_step[side][0] == plan->length &&
                (plan->sets.sets == plan->groups ||
                 plan->set_step[side][1] == plan->length * plan->groups);
    return dense && plan->channels_along && !plan->given && plan->dtype == FOVEA_F32 &&
           plan->length <= SHORT_ROW;
}

static fovea_view view_of_sets(const channels_plan *plan, int side) {
    return (fovea_view){.data = (char *)(uintptr_t)set_address(plan, side, 0),
                        .dtype = FOVEA_F32,
                        .rank = 1,
                        .shape = {plan->sets.sets},
                        .stride = {plan->length}};
}
static void normalise_short_sets(const void *task, int64_t begin, int64_t end, int thread) {
    const channels_plan *plan = task;
    const affine_constants constants = {plan->eps, plan->gamma, plan->beta, plan->groups,
                                        plan->plain};
    const rows_plan rows = {.dtype = FOVEA_F32,
                            .x = view_of_sets(plan, 0),
                            .y = view_of_sets(plan, 1),
                            .rows = plan->sets.sets,
                            .columns = plan->length,
                            .x_step = 1,
                            .y_step = 1,
                            .stream = plan->stream,
                            .constants = &constants};
    normalise_dense_rows(&rows, begin, end, thread);
}

/* ---- Channels side by side ------------------------------------------------------------------ */

enum { SIDE_VECTORS = 4, SIDE = SIDE_VECTORS * VF_WIDTH, SIDE_AHEAD = 8 };

FOVEA_INLINE int64_t lanes_of(int64_t channels, int k) {
    int64_t rest = channels - k * VF_WIDTH;
    return rest < 0 ? 0 : smaller(rest, VF_WIDTH);
}
FOVEA_INLINE vf side_take(fovea_dtype dtype, const char *row, int k, int64_t channels) {
    if (channels == SIDE) return vf_load_as(dtype, row, k * VF_WIDTH);
    return vf_load_n_as(dtype, row, smaller(k * VF_WIDTH, channels), lanes_of(channels, k));
}

FOVEA_INLINE vf finite_or_zero(vf x) {
    return vf_select(vf_lt(vf_abs(x), vf_set1(INFINITY)), x, vf_set1(0));
}

/* The sums of x - centre, or of its squares, down the rows: chains of 32 under a tree. */
FOVEA_INLINE void sum_down(const channels_plan *plan, fovea_dtype dtype, const char *x,
                           int64_t channels, bool squares, const vf centre[SIDE_VECTORS],
                           vf sums[SIDE_VECTORS]) {
    enum { CHAIN = 32 };
    int64_t rows = plan->length, bytes = plan->step[0] * (int64_t)fovea_dtype_size(dtype);
    vf_tree trees[SIDE_VECTORS];
    for (int k = 0; k < SIDE_VECTORS; k++) trees[k].count = 0;
    for (int64_t r = 0; r < rows; r += CHAIN) {
        vf s[SIDE_VECTORS];
        VF_UNROLLED for (int k = 0; k < SIDE_VECTORS; k++) s[k] = vf_set1(0);
        for (int64_t i = r; i < smaller(rows, r + CHAIN); i++) {
            const char *row = x + i * bytes;
            if (!squares && i + SIDE_AHEAD < rows)
                for (int64_t at = 0; at < SIDE * 4; at += 64)
                    rows_prefetch(row + SIDE_AHEAD * bytes, at);
            VF_UNROLLED for (int k = 0; k < SIDE_VECTORS; k++) {
                vf d = vf_sub(side_take(dtype, row, k, channels), centre[k]);
                s[k] = squares ? vf_fma(d, d, s[k]) : vf_add(s[k], d);
            }
        }
        for (int k = 0; k < SIDE_VECTORS; k++) vf_tree_push(&trees[k], s[k]);
    }
    for (int k = 0; k < SIDE_VECTORS; k++) sums[k] = vf_tree_total(&trees[k]);
}

/* Both at once, of a tile that comes from memory, about a centre near the mean, that of the first rows. False where a
 * mean is further off than a standard deviation. From a cache two passes are faster. */
FOVEA_INLINE bool find_once(const channels_plan *plan, const char *x, int64_t channels,
                            vf mean[SIDE_VECTORS], vf variance[SIDE_VECTORS]) {
    enum { CHAIN = 32, BOTH = 2 * SIDE_VECTORS };
    int64_t rows = plan->length, bytes = plan->step[0] * (int64_t)sizeof(float);
    int64_t first = smaller(rows, CHAIN);
    const vf size = vf_set1((float)rows), few = vf_set1((float)first);
    vf centre[SIDE_VECTORS], s[SIDE_VECTORS], q[SIDE_VECTORS];
    vf_tree trees[BOTH];
    vm holds = vm_first(VF_WIDTH);
    VF_UNROLLED for (int k = 0; k < SIDE_VECTORS; k++) s[k] = vf_set1(0);
    for (int64_t i = 0; i < first; i++) VF_UNROLLED for (int k = 0; k < SIDE_VECTORS; k++) {
            vf d = vf_sub(side_take(FOVEA_F32, x + i * bytes, k, channels), mean[k]);
            s[k] = vf_add(s[k], d);
        }
    VF_UNROLLED for (int k = 0; k < SIDE_VECTORS; k++) centre[k] =
        finite_or_zero(vf_add(mean[k], vf_div(s[k], few)));
    for (int k = 0; k < BOTH; k++) trees[k].count = 0;
    for (int64_t r = 0; r < rows; r += CHAIN) {
        VF_UNROLLED for (int k = 0; k < SIDE_VECTORS; k++) s[k] = q[k] = vf_set1(0);
        for (int64_t i = r; i < smaller(rows, r + CHAIN); i++) {
            const char *row = x + i * bytes;
            for (int64_t at = 0; at < SIDE * 4 && i + SIDE_AHEAD < rows; at += 64)
                rows_prefetch(row + SIDE_AHEAD * bytes, at);
            VF_UNROLLED for (int k = 0; k < SIDE_VECTORS; k++) {
                vf d = vf_sub(side_take(FOVEA_F32, row, k, channels), centre[k]);
                s[k] = vf_add(s[k], d), q[k] = vf_fma(d, d, q[k]);
            }
        }
        VF_UNROLLED for (int k = 0; k < SIDE_VECTORS; k++) {
            vf_tree_push(&trees[k], s[k]);
            vf_tree_push(&trees[SIDE_VECTORS + k], q[k]);
        }
    }
    for (int k = 0; k < SIDE_VECTORS; k++) {
        vf apart = vf_div(vf_tree_total(&trees[k]), size), apart2 = vf_mul(apart, apart);
        vf both = vf_div(vf_tree_total(&trees[SIDE_VECTORS + k]), size);
        variance[k] = vf_sub(both, apart2);
        holds = vm_and(holds, vf_le(apart2, variance[k]));
        s[k] = vf_add(centre[k], apart);
    }
    if (vm_bits(holds) != vm_bits(vm_first(VF_WIDTH))) return false;
    for (int k = 0; k < SIDE_VECTORS; k++) mean[k] = s[k];
    return true;
}

/* A function of its own: within normalise_side it would take registers from the passes over tiles in a cache, which
 * took 1.2 times as long then. */
static __attribute__((noinline)) bool find_down(const channels_plan *plan, const char *x,
                                                int64_t channels, vf mean[SIDE_VECTORS],
                                                vf variance[SIDE_VECTORS]) {
    if (channels == SIDE) return find_once(plan, x, SIDE, mean, variance);
    return find_once(plan, x, channels, mean, variance);
}

FOVEA_INLINE void write_down(const channels_plan *plan, fovea_dtype dtype, const char *x, char *y,
                             int64_t channels, const vf mean[], const vf factor[],
                             const vf beta[]) {
    int64_t size = (int64_t)fovea_dtype_size(dtype);
    for (int64_t r = 0; r < plan->length; r++) {
        const char *from = x + r * plan->step[0] * size;
        char *to = y + r * plan->step[1] * size;
        VF_UNROLLED for (int k = 0; k < SIDE_VECTORS; k++) {
            vf d = vf_sub(side_take(dtype, from, k, channels), mean[k]);
            vf value = vf_fma(d, factor[k], beta[k]);
            if (channels == SIDE)
                vf_store_as(dtype, to, k * VF_WIDTH, value);
            else
                vf_store_n_as(dtype, to, smaller(k * VF_WIDTH, channels), value,
                              lanes_of(channels, k));
        }
    }
}

/* What is needed to write past the caches: of a tile's channels, and of as many before as a line may hold. */
typedef struct side_lines {
    float mean[LINE_FLOATS + SIDE], factor[LINE_FLOATS + SIDE], beta[LINE_FLOATS + SIDE];
    bool first, last; /* tile of its thread */
} side_lines;

/* Whole lines of y, whatever its rows' addresses: what a tile leaves of a line waits for the next. Meanwhile
 * the next tile is fetched, to the second level. 1024 rows of 9765 floats, two cores of a Xeon, all in turns in one run,
 * where copying takes 2.05 ms: 3.44 with sums and squares in two passes and the hint for the first level, 3.03 with one
 * pass, 2.92 with the hint for the second; 2.92 with tiles of 8 vectors, 3.62 with 16. Of loops that only move, writing
 * a tile while the next is fetched takes 2.7 ms with tiles of 256 bytes and 2.3 with 512, and 1.95 and 2.0 where
 * pages are large: rows of 39 KB are a page each. */
static void write_lines_down(const channels_plan *plan, const float *x, float *y, int64_t channels,
                             const side_lines *s) {
    const float *mean = s->mean + LINE_FLOATS, *factor = s->factor + LINE_FLOATS;
    const float *beta = s->beta + LINE_FLOATS;
    for (int64_t r = 0; r < plan->length; r++, x += plan->step[0], y += plan->step[1]) {
        int64_t before = (int64_t)((uintptr_t)y / sizeof *y % LINE_FLOATS);
        int64_t rest = (int64_t)((uintptr_t)(y + channels) / sizeof *y % LINE_FLOATS);
        int64_t c = s->first ? 0 : -before, end = s->last ? channels : channels - rest;
        for (int64_t at = 0; at < SIDE + LINE_FLOATS && !s->last; at += LINE_FLOATS)
            __builtin_prefetch(x + channels + at, 0, 2);
#define ITEM(n)                                                                                    \
    vf_fma(vf_sub(rows_take(x, c, n), rows_take(mean, c, n)), rows_take(factor, c, n),             \
           rows_take(beta, c, n))
        for (int64_t head = s->first && before ? LINE_FLOATS - before : 0; head > 0 && c < end;) {
            int64_t n = smaller(smaller(head, VF_WIDTH), end - c);
            vf_store_n(y + c, ITEM(n), (size_t)n);
            c += n, head -= n;
        }
        for (; c + VF_WIDTH <= end; c += VF_WIDTH) vf_stream(y + c, ITEM(VF_WIDTH));
        if (c < end) vf_store_n(y + c, ITEM(end - c), (size_t)(end - c));
#undef ITEM
    }
}

static void keep_sides(const float *from, float *kept) {
    memmove(kept, kept + SIDE, LINE_FLOATS * sizeof *kept);
    memcpy(kept + LINE_FLOATS, from, SIDE * sizeof *kept);
}

/* As is_far, of any channel. */
static bool are_far(const vf rest[SIDE_VECTORS], const vf variance[SIDE_VECTORS]) {
    vm far = vm_first(0);
    for (int k = 0; k < SIDE_VECTORS; k++)
        far = vm_or(far, vf_gt(vf_mul(rest[k], rest[k]), vf_mul(vf_set1(16), variance[k])));
    return vm_any(far) != 0;
}

/* A tile of at most SIDE channels; `channels` is a constant where it is SIDE. lines: NULL, or where y bypasses the
 * caches. */
FOVEA_INLINE void normalise_side(const channels_plan *plan, fovea_dtype dtype, int64_t first,
                                 int64_t channels, side_lines *lines) {
    const char *x = set_address(plan, 0, first);
    float means[SIDE] = {0}, variances[SIDE] = {0};
    vf mean[SIDE_VECTORS], variance[SIDE_VECTORS], factor[SIDE_VECTORS], beta[SIDE_VECTORS];
    for (int64_t c = 0; c < channels && plan->given; c++)
        means[c] = read_float(&plan->mean, first + c),
        variances[c] = read_float(&plan->var, first + c);
    VF_UNROLLED for (int k = 0; k < SIDE_VECTORS; k++) {
        mean[k] = vf_load(means + k * VF_WIDTH), variance[k] = vf_load(variances + k * VF_WIDTH);
        if (!plan->given) mean[k] = finite_or_zero(side_take(dtype, x, k, channels));
    }
    if (!plan->given) {
        bool from_memory = dtype == FOVEA_F32 && plan->stream;
        const vf size = vf_set1((float)plan->length);
        if (!from_memory || !find_down(plan, x, channels, mean, variance)) {
            sum_down(plan, dtype, x, channels, false, mean, factor);
            vf rest[SIDE_VECTORS];
            for (int k = 0; k < SIDE_VECTORS; k++)
                rest[k] = vf_div(factor[k], size), mean[k] = vf_add(mean[k], rest[k]);
            sum_down(plan, dtype, x, channels, true, mean, factor);
            for (int k = 0; k < SIDE_VECTORS; k++) variance[k] = vf_div(factor[k], size);
            if (are_far(rest, variance)) {
                sum_down(plan, dtype, x, channels, false, mean, factor);
                for (int k = 0; k < SIDE_VECTORS; k++)
                    mean[k] = vf_add(mean[k], vf_div(factor[k], size));
            }
        }
        for (int k = 0; k < SIDE_VECTORS; k++) {
            vf_store(means + k * VF_WIDTH, mean[k]);
            vf_store(variances + k * VF_WIDTH, variance[k]);
        }
        for (int64_t c = 0; c < channels; c++)
            tell_float(&plan->mean, first + c, means[c]),
                tell_float(&plan->var, first + c, variances[c]);
    }
    VF_UNROLLED for (int k = 0; k < SIDE_VECTORS; k++) {
        vf root = vf_sqrt(vf_add(variance[k], vf_set1((float)plan->eps)));
        size_t n = (size_t)lanes_of(channels, k);
        int64_t at = first + smaller(k * VF_WIDTH, channels);
        factor[k] = vf_div(vf_load_n(plan->gamma + at, n), root);
        beta[k] = vf_load_n(plan->beta + at, n);
    }
    char *y = (char *)(uintptr_t)set_address(plan, 1, first);
    if (!lines) {
        write_down(plan, dtype, x, y, channels, mean, factor, beta);
        return;
    }
    float factors[SIDE], betas[SIDE];
    VF_UNROLLED for (int k = 0; k < SIDE_VECTORS; k++) {
        vf_store(means + k * VF_WIDTH, mean[k]), vf_store(factors + k * VF_WIDTH, factor[k]);
        vf_store(betas + k * VF_WIDTH, beta[k]);
    }
    keep_sides(means, lines->mean), keep_sides(factors, lines->factor);
    keep_sides(betas, lines->beta);
    write_lines_down(plan, (const float *)(const void *)x, (float *)(void *)y, channels, lines);
}

FOVEA_INLINE void normalise_sides_of(const channels_plan *plan, fovea_dtype dtype, int64_t begin,
                                     int64_t end) {
    side_lines lines = {.first = true}, *kept = plan->stream ? &lines : NULL;
    for (int64_t tile = begin; tile < end; tile++) {
        int64_t first = tile * SIDE, channels = smaller(SIDE, plan->sets.sets - first);
        lines.last = tile + 1 == end;
        if (channels == SIDE)
            normalise_side(plan, dtype, first, SIDE, kept);
        else
            normalise_side(plan, dtype, first, channels, kept);
        lines.first = false;
    }
    if (plan->stream) vf_stream_fence();
}

static void normalise_sides(const void *task, int64_t begin, int64_t end, int thread) {
    const channels_plan *plan = task;
    (void)thread;
    if (plan->dtype == FOVEA_F16)
        normalise_sides_of(plan, FOVEA_F16, begin, end);
    else if (plan->dtype == FOVEA_BF16)
        normalise_sides_of(plan, FOVEA_BF16, begin, end);
    else
        normalise_sides_of(plan, FOVEA_F32, begin, end);
}

/* ---- The calls ------------------------------------------------------------------------------ */

static size_t channels_workspace(const fovea_problem *problem, int threads) {
    (void)threads;
    return (size_t)(2 * rows_scratch_bytes(problem->views[0].shape[1]));
}

static fovea_status normalise_channels(const fovea_problem *problem, fovea_run *run,
                                       channels_plan *plan) {
    int64_t channels = plan->sets.channels, elements = fovea_view_elements(&problem->views[0]);
    const fovea_view *x = &problem->views[0], *y = &problem->views[1];
    char *scratch = run->workspace;
    int allowed = run->threads;
    plan->plain = !fovea_problem_view(problem, "gamma") && !fovea_problem_view(problem, "beta");
    plan->gamma = affine_row(problem, "gamma", channels, 1, (float *)(void *)scratch);
    scratch += rows_scratch_bytes(channels);
    plan->beta = affine_row(problem, "beta", channels, 0, (float *)(void *)scratch);
    run->threads = 1;
    for (int64_t set = 0; elements == 0 && !plan->given && set < plan->sets.sets; set++)
        tell_float(&plan->mean, set, NAN), tell_float(&plan->var, set, NAN);
    if (elements == 0) return FOVEA_OK;
    bool bare = plan->sets.group == 0 && plan->sets.inner == 1;
    bool sides = bare && x->stride[1] == 1 && y->stride[1] == 1 && channels > 1;
    int64_t pieces = sides ? divide_up(channels, SIDE) : plan->sets.sets;
    bool rows = short_sets(plan);
    run->threads = fovea_useful_threads(pieces, 24 * elements, allowed);
    plan->stream = VF_WIDTH > 1 && plan->dtype == FOVEA_F32 && x->data != y->data &&
                   (uintptr_t)y->data % sizeof(float) == 0 &&
                   fovea_worth_streaming(8 * elements, run->threads);
    fovea_share(pieces, run->threads,
                sides  ? normalise_sides
                : rows ? normalise_short_sets
                       : normalise_sets,
                plan);
    return FOVEA_OK;
}

static fovea_status batch_norm(const fovea_problem *problem, fovea_run *run) {
    const fovea_batch_norm_options *options = problem->options;
    const fovea_view *mean = fovea_problem_view(problem, "mean");
    const fovea_view *var = fovea_problem_view(problem, "var");
    channels_plan plan = plan_channels(problem);
    plan.eps = options->eps;
    plan.given = options->statistics == FOVEA_BATCH_NORM_STATISTICS_GIVEN;
    if (mean) plan.mean = *mean;
    if (var) plan.var = *var;
    return normalise_channels(problem, run, &plan);
}

static fovea_status group_norm(const fovea_problem *problem, fovea_run *run) {
    const fovea_group_norm_options *options = problem->options;
    channels_plan plan = plan_channels(problem);
    plan.eps = options->eps;
    return normalise_channels(problem, run, &plan);
}

#endif
