/* Domain 5, normalization. The variance is that of centred elements: sums of squares lose it where
 * the data have an offset. */
#include "cpu/channels.h"
#include "cpu/philox_groups.h"

FOVEA_INLINE vf fetching_normalized(const float *x, void *state, int64_t i, int64_t n) {
    rows_fetch(&((const affine *)state)->ahead, i);
    return normalized(x, state, i, n);
}
FOVEA_INLINE vf fetching_transformed(const float *x, void *state, int64_t i, int64_t n) {
    rows_fetch(&((const affine *)state)->ahead, i);
    return transformed(x, state, i, n);
}

static void layer_norm_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const rows_plan *plan = task;
    const affine_constants *constants = plan->constants;
    int64_t n = plan->columns;
    float *scratch = (float *)(void *)(plan->scratch + thread * plan->scratch_step);
    affine state = {.gamma = constants->gamma, .beta = constants->beta};
    const rows_beside nothing = {0};
    bool overlap = rows_overlap(plan);
    bool from_second = n > 2048;
    if (overlap && state.gamma && from_second)
        normalise_overlapping(plan, begin, end, transformed_from_second, true);
    if (overlap && state.gamma && !from_second)
        normalise_overlapping(plan, begin, end, transformed, true);
    if (overlap && !state.gamma) normalise_overlapping(plan, begin, end, normalized, true);
    for (int64_t row = overlap ? end : begin; row < end; row++) {
        char *y = rows_address(&plan->y, row);
        const float *x =
            rows_load(plan->dtype, rows_address(&plan->x, row), plan->x_step, n, scratch);
        rows_moments moments = rows_sum_moments(x, n, rows_centre(x, n), true, &nothing, normalized,
                                                false, rows_idle, NULL);
        find_moments(&moments, x, n, constants->eps, &state);
        state.ahead = rows_look_ahead(plan, row, end);
        if (state.gamma)
            rows_store(plan, y, fetching_transformed, x, &state, scratch);
        else
            rows_store(plan, y, fetching_normalized, x, &state, scratch);
    }
    if (plan->stream) vf_stream_fence();
}

static size_t layer_norm_workspace(const fovea_problem *problem, int threads) {
    const fovea_view *x = &problem->views[0];
    return (size_t)(rows_scratch_bytes(x->shape[x->rank - 1]) * (threads + 2));
}

static fovea_status layer_norm(const fovea_problem *problem, fovea_run *run) {
    const fovea_layer_norm_options *options = problem->options;
    rows_plan plan = rows_make_plan(&problem->views[0], &problem->views[1]);
    affine_constants constants = {
        .eps = options->eps, .period = 1, .plain = !options->gamma && !options->beta};
    bool is_short = rows_are_short(&plan);
    if (options->gamma || options->beta || is_short) {
        char *scratch = run->workspace;
        constants.gamma = affine_row(problem, "gamma", plan.columns, 1, (float *)(void *)scratch);
        scratch += plan.scratch_step;
        constants.beta = affine_row(problem, "beta", plan.columns, 0, (float *)(void *)scratch);
    }
    plan.constants = &constants;
    plan.scratch = (char *)run->workspace + 2 * plan.scratch_step;
    return rows_call(&plan, run, is_short ? normalise_dense_rows : layer_norm_rows, 24);
}

/* ---- Root mean square ----------------------------------------------------------------------- */

FOVEA_INLINE vf scaled(const float *x, void *state, int64_t i, int64_t n) {
    return vf_mul(rows_take(x, i, n), vf_set1(((const affine *)state)->factor));
}
FOVEA_INLINE vf weighted(const float *x, void *state, int64_t i, int64_t n) {
    return vf_mul(scaled(x, state, i, n), rows_take(((const affine *)state)->gamma, i, n));
}
FOVEA_INLINE vf fetching_scaled(const float *x, void *state, int64_t i, int64_t n) {
    rows_fetch(&((const affine *)state)->ahead, i);
    return scaled(x, state, i, n);
}
FOVEA_INLINE vf fetching_weighted(const float *x, void *state, int64_t i, int64_t n) {
    rows_fetch(&((const affine *)state)->ahead, i);
    return weighted(x, state, i, n);
}

static void rms_norm_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const rows_plan *plan = task;
    const affine_constants *constants = plan->constants;
    int64_t n = plan->columns;
    float *scratch = (float *)(void *)(plan->scratch + thread * plan->scratch_step);
    affine state = {.gamma = constants->gamma};
    const rows_beside nothing = {0};
    bool overlap = rows_overlap(plan);
    if (overlap && state.gamma) normalise_overlapping(plan, begin, end, weighted, false);
    if (overlap && !state.gamma) normalise_overlapping(plan, begin, end, scaled, false);
    for (int64_t row = overlap ? end : begin; row < end; row++) {
        char *y = rows_address(&plan->y, row);
        const float *x =
            rows_load(plan->dtype, rows_address(&plan->x, row), plan->x_step, n, scratch);
        rows_moments moments =
            rows_sum_moments(x, n, 0, false, &nothing, scaled, false, rows_idle, NULL);
        state.factor = (float)(1 / sqrt(moments.squares / (double)n + constants->eps));
        state.ahead = rows_look_ahead(plan, row, end);
        if (state.gamma)
            rows_store(plan, y, fetching_weighted, x, &state, scratch);
        else
            rows_store(plan, y, fetching_scaled, x, &state, scratch);
    }
    if (plan->stream) vf_stream_fence();
}

static fovea_status rms_norm(const fovea_problem *problem, fovea_run *run) {
    const fovea_rms_norm_options *options = problem->options;
    rows_plan plan = rows_make_plan(&problem->views[0], &problem->views[1]);
    affine_constants constants = {.eps = options->eps, .period = 1};
    char *scratch = run->workspace;
    if (options->gamma)
        constants.gamma = affine_row(problem, "gamma", plan.columns, 1, (float *)(void *)scratch);
    plan.constants = &constants;
    plan.scratch = scratch + 2 * plan.scratch_step;
    return rows_call(&plan, run, rms_norm_rows, 16);
}

/* ---- Dropout and residual ------------------------------------------------------------------- */

typedef struct dropout_plan {
    affine_constants norm;
    rows_side residual, mask, kept;
    philox_stream words;
    vi limit;
    float factor; /* 1 / keep */
    bool masked, tells;
} dropout_plan;

typedef struct dropout_row {
    affine norm;
    const float *residual;
    const uint8_t *mask;
    float factor;
} dropout_row;

FOVEA_INLINE vf dropped_out(const float *x, void *state, int64_t i, int64_t n) {
    const dropout_row *d = state;
    vf y = transformed(x, state, i, n), residual = rows_take(d->residual, i, n);
    rows_prefetch((const char *)(d->residual + i), 2048);
    return vf_select(vm_load_u8_n(d->mask + i, (size_t)n), vf_fma(y, vf_set1(d->factor), residual),
                     residual);
}

/* Bytes of a thread's scratch: two rows of floats, and a mask in whole groups. */
static int64_t dropout_mask_bytes(int64_t columns) {
    return (divide_up(columns, PHILOX_GROUP) + 2) * PHILOX_GROUP + 64;
}
static int64_t dropout_scratch_bytes(int64_t columns) {
    return rows_apart(2 * rows_scratch_bytes(columns) + dropout_mask_bytes(columns));
}

/* A mask that begins with element number `first`, group by group; its own elements follow `before` others. */
typedef struct drawn_mask {
    const dropout_plan *plan;
    int64_t group, before;
    uint8_t *to;
} drawn_mask;
static drawn_mask begin_mask(const dropout_plan *plan, int64_t first, uint8_t *to) {
    return (drawn_mask){plan, first / PHILOX_GROUP, first % PHILOX_GROUP, to};
}
FOVEA_INLINE void draw_group(drawn_mask *mask, int64_t group) {
    vi words[PHILOX_SETS][4];
    philox_group(&mask->plan->words, mask->group + group, words);
    VF_UNROLLED for (int s = 0; s < PHILOX_SETS; s++) {
        vf x[4];
        VF_UNROLLED for (int i = 0; i < 4; i++) x[i] = vi_as_vf(words[s][i]);
        vf_transpose_quads(x);
        philox_store_mask(x, mask->plan->limit, mask->to + group * PHILOX_GROUP + s * PHILOX_SET);
    }
}
/* Steps are as long as a set. */
FOVEA_INLINE void draw_step(void *state, int64_t step) {
    if (step % PHILOX_SETS == 0) draw_group(state, step / PHILOX_SETS);
}

/* The mask of a row: where it is, or brought together, or drawn. */
static const uint8_t *mask_row(const dropout_plan *plan, int64_t row, int64_t n, uint8_t *to) {
    if (plan->masked) {
        const uint8_t *from = (const uint8_t *)rows_address(&plan->mask.rows, row);
        if (plan->mask.step == 1) return from;
        for (int64_t i = 0; i < n; i++) to[i] = from[i * plan->mask.step];
        return to;
    }
    drawn_mask mask = begin_mask(plan, row * n, to);
    for (int64_t group = 0; group * PHILOX_GROUP < mask.before + n; group++)
        draw_group(&mask, group);
    return to + mask.before;
}

/* Rows past the caches: a row's results are written while the next is summed, and its mask drawn meanwhile. By itself
 * drawing takes as long as memory needs for all three rows: 9765 rows of 1024 floats, two cores of a Xeon, took 6.8 ms
 * in three passes and take 3.8 where moving the same takes 3.1. */
static bool dropout_overlaps(const rows_plan *plan, const dropout_plan *dropout) {
    return rows_overlap(plan) && dropout->residual.step == 1 && !dropout->tells &&
           (!dropout->masked || dropout->mask.step == 1);
}
FOVEA_INLINE void dropout_overlapping(const rows_plan *plan, int64_t begin, int64_t end,
                                      bool masked, uint8_t *const masks[2]) {
    const dropout_plan *dropout = plan->constants;
    int64_t n = plan->columns;
    dropout_row state = {.norm = {.gamma = dropout->norm.gamma, .beta = dropout->norm.beta},
                         .factor = dropout->factor};
    rows_beside before = {.state = &state, .n = n};
    for (int64_t row = begin; row < end; row++) {
        const float *x = (const float *)(const void *)rows_address(&plan->x, row);
        drawn_mask mask = begin_mask(dropout, row * n, masks[row % 2]);
        rows_moments moments = rows_sum_moments(x, n, rows_centre(x, n), true, &before, dropped_out,
                                                true, masked ? rows_idle : draw_step, &mask);
        int64_t drawn = divide_up(n / PHILOX_SET, PHILOX_SETS);
        for (int64_t group = drawn; !masked && group * PHILOX_GROUP < mask.before + n; group++)
            draw_group(&mask, group);
        find_moments(&moments, x, n, dropout->norm.eps, &state.norm);
        state.residual = (const float *)(const void *)rows_address(&dropout->residual.rows, row);
        state.mask = masked ? (const uint8_t *)rows_address(&dropout->mask.rows, row)
                            : mask.to + mask.before;
        before.x = x, before.to = (float *)(void *)rows_address(&plan->y, row);
    }
    rows_finish(&before, dropped_out, true);
}

static void dropout_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const rows_plan *plan = task;
    const dropout_plan *dropout = plan->constants;
    int64_t n = plan->columns;
    char *scratch = plan->scratch + thread * plan->scratch_step;
    float *first = (float *)(void *)scratch;
    float *second = (float *)(void *)(scratch + rows_scratch_bytes(n));
    uint8_t *third = (uint8_t *)scratch + 2 * rows_scratch_bytes(n);
    dropout_row state = {.norm = {.gamma = dropout->norm.gamma,
                                  .beta = dropout->norm.beta,
                                  .size = (int64_t)fovea_dtype_size(plan->dtype)},
                         .factor = dropout->factor};
    const rows_beside nothing = {0};
    uint8_t *const masks[2] = {(uint8_t *)scratch, third};
    bool overlap = dropout_overlaps(plan, dropout);
    if (overlap && dropout->masked) dropout_overlapping(plan, begin, end, true, masks);
    if (overlap && !dropout->masked) dropout_overlapping(plan, begin, end, false, masks);
    for (int64_t row = overlap ? end : begin; row < end; row++) {
        const float *x =
            rows_load(plan->dtype, rows_address(&plan->x, row), plan->x_step, n, first);
        rows_moments moments = rows_sum_moments(x, n, rows_centre(x, n), true, &nothing, normalized,
                                                false, rows_idle, NULL);
        find_moments(&moments, x, n, dropout->norm.eps, &state.norm);
        state.residual = rows_load(plan->dtype, rows_address(&dropout->residual.rows, row),
                                   dropout->residual.step, n, second);
        state.mask = mask_row(dropout, row, n, third);
        if (dropout->tells) {
            uint8_t *kept = (uint8_t *)rows_address(&dropout->kept.rows, row);
            for (int64_t i = 0; i < n; i++) kept[i * dropout->kept.step] = state.mask[i] != 0;
        }
        rows_store(plan, rows_address(&plan->y, row), dropped_out, x, &state, first);
    }
    if (plan->stream) vf_stream_fence();
}

static size_t dropout_workspace(const fovea_problem *problem, int threads) {
    const fovea_view *x = &problem->views[0];
    int64_t columns = x->shape[x->rank - 1];
    return (size_t)(2 * rows_scratch_bytes(columns) + dropout_scratch_bytes(columns) * threads);
}

static fovea_status fused_layernorm_dropout_residual(const fovea_problem *problem, fovea_run *run) {
    const fovea_fused_layernorm_dropout_residual_options *options = problem->options;
    rows_plan plan = rows_make_plan(&problem->views[0], &problem->views[2]);
    const fovea_view *mask = fovea_problem_view(problem, "mask");
    const fovea_view *kept = fovea_problem_view(problem, "kept");
    float keep = (float)options->keep;
    char *scratch = run->workspace;
    dropout_plan dropout = {
        .norm = {.eps = options->eps,
                 .period = 1,
                 .gamma = affine_row(problem, "gamma", plan.columns, 1, (float *)(void *)scratch),
                 .beta = affine_row(problem, "beta", plan.columns, 0,
                                    (float *)(void *)(scratch + plan.scratch_step))},
        .residual = rows_make_side(&problem->views[1]),
        .words = philox_begin((uint64_t)options->seed, (uint64_t)options->stream),
        .limit = vi_philox_limit(keep),
        .factor = 1 / keep,
        .masked = mask,
        .tells = kept};
    if (mask) dropout.mask = rows_make_side(mask);
    if (kept) dropout.kept = rows_make_side(kept);
    plan.constants = &dropout;
    plan.scratch = scratch + 2 * plan.scratch_step;
    plan.scratch_step = dropout_scratch_bytes(plan.columns);
    return rows_call(&plan, run, dropout_rows, mask ? 24 : 32);
}

const fovea_implementation FOVEA_TIERED(fovea_cpu_normalization)[] = {
    {"layer_norm", FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE,
     .workspace = layer_norm_workspace, .run = layer_norm},
    {"rms_norm", FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE,
     .workspace = layer_norm_workspace, .run = rms_norm},
    {"batch_norm", FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE,
     .workspace = channels_workspace, .run = batch_norm},
    {"group_norm", FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE,
     .workspace = channels_workspace, .run = group_norm},
    {"fused_layernorm_dropout_residual", FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE,
     .workspace = dropout_workspace, .run = fused_layernorm_dropout_residual},
    {0}};
