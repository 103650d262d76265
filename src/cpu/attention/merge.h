/* attention_merge: the weighted mean of partial results, with the weights e^(lse_p - max) over
 * their sum. Rows are independent; the parts of a row are read once, side by side. */
#ifndef FOVEA_CPU_ATTENTION_MERGE_H
#define FOVEA_CPU_ATTENTION_MERGE_H

#include "cpu/rows.h"
#include "cpu/simd/simd_math.h"

#include <math.h>

typedef struct merge_plan {
    rows_plan rows;       /* x is the first part, y is out */
    fovea_view lses, lse; /* the leading axes; of the first part */
    bool has_lse;
    int64_t parts, part_step, lse_step; /* elements from part to part */
} merge_plan;

/* The parts of a row that count: where they begin (in elements) and their weights. */
typedef struct merge_row {
    int64_t count, *offsets;
    float *weights;
    const char *later; /* the first part of a row that comes soon */
} merge_row;

FOVEA_INLINE vf merge_take(fovea_dtype dtype, const merge_row *row, const void *x, int64_t at,
                           int64_t n) {
    if (VF_WIDTH > 1) __builtin_prefetch(row->later + at * (dtype == FOVEA_F32 ? 4 : 2), 0, 3);
    return n == VF_WIDTH ? vf_load_as(dtype, x, at) : vf_load_n_as(dtype, x, at, n);
}

/* Eight parts a group, as pairs of products under a tree. Rows ahead are fetched: parts are as many streams
 * read by one instruction, of which a processor's prefetcher sees none. */
FOVEA_INLINE vf merge_group(fovea_dtype dtype, const merge_row *row, const void *x, int64_t first,
                            int64_t end, int64_t i, int64_t n) {
    vf even = vf_set1(0), odd = even;
    int64_t p = first;
#define TERM(p, sum)                                                                               \
    vf_fma(vf_set1(row->weights[p]), merge_take(dtype, row, x, row->offsets[p] + i, n), sum)
    for (; p + 2 <= end; p += 2) even = TERM(p, even), odd = TERM(p + 1, odd);
    if (p < end) even = TERM(p, even);
#undef TERM
    return vf_add(even, odd);
}

FOVEA_INLINE vf merge_item(fovea_dtype dtype, const void *x, const void *state, int64_t i,
                           int64_t n) {
    enum { GROUP = 8 };
    const merge_row *row = state;
    if (row->count <= GROUP) return merge_group(dtype, row, x, 0, row->count, i, n);
    vf_tree tree;
    tree.count = 0;
    for (int64_t p = 0; p < row->count; p += GROUP)
        vf_tree_push(&tree, merge_group(dtype, row, x, p, smaller(p + GROUP, row->count), i, n));
    return vf_tree_total(&tree);
}

#define MERGE(name, dtype)                                                                         \
    FOVEA_INLINE vf name(const float *x, void *state, int64_t i, int64_t n) {                      \
        return merge_item(dtype, x, state, i, n);                                                  \
    }
MERGE(merged_f32, FOVEA_F32)
MERGE(merged_f16, FOVEA_F16)
MERGE(merged_bf16, FOVEA_BF16)

/* The weights of as many rows as a vector has lanes, part by part; those with lse -inf are left out. */
enum { MERGE_LEFT_OUT = -1 };
typedef struct merge_block {
    float *weights;
    float maximum[VF_WIDTH], sum[VF_WIDTH];
} merge_block;

static inline vf merge_lses(const merge_plan *plan, int64_t row, int64_t count, int64_t part) {
    float lanes[VF_WIDTH] = {0};
    int64_t at = part * plan->lse_step;
    if (plan->lses.rank == 1 && plan->lses.stride[0] == 1)
        return vf_load_n((const float *)(const void *)rows_address(&plan->lses, row) + at,
                         (size_t)count);
    for (int64_t l = 0; l < count; l++)
        lanes[l] = ((const float *)(const void *)rows_address(&plan->lses, row + l))[at];
    return vf_load(lanes);
}

static inline void merge_weights(const merge_plan *plan, int64_t row, int64_t count,
                                 merge_block *block) {
    enum { W = VF_WIDTH };
    const vf lowest = vf_set1(-INFINITY), left_out = vf_set1(MERGE_LEFT_OUT);
    vf maximum = lowest, nothing = vf_set1(0);
    vf_tree sums;
    sums.count = 0;
    for (int64_t p = 0; p < plan->parts; p++) {
        vf lse = merge_lses(plan, row, count, p);
        maximum = vf_max(lse, maximum);
        vf_store(block->weights + p * W, lse);
    }
    for (int64_t p = 0; p < plan->parts; p++) {
        vf lse = vf_load(block->weights + p * W);
        vm out = vf_eq(lse, lowest);
        vf weight = vf_select(out, nothing, vf_exp(vf_sub(lse, maximum)));
        vf_tree_push(&sums, weight);
        vf_store(block->weights + p * W, vf_select(out, left_out, weight));
    }
    vf sum = sums.count ? vf_tree_total(&sums) : nothing;
    for (int64_t p = 0; p < plan->parts; p++) {
        vf weight = vf_load(block->weights + p * W);
        weight = vf_select(vf_eq(weight, left_out), left_out, vf_div(weight, sum));
        vf_store(block->weights + p * W, weight);
    }
    vf_store(block->maximum, maximum), vf_store(block->sum, sum);
}

/* The parts of one of these rows. */
static inline void merge_choose(const merge_plan *plan, const merge_block *block, int64_t lane,
                                merge_row *row) {
    row->count = 0;
    for (int64_t p = 0; p < plan->parts; p++) {
        float weight = block->weights[p * VF_WIDTH + lane];
        row->offsets[row->count] = p * plan->part_step, row->weights[row->count] = weight;
        row->count += weight != (float)MERGE_LEFT_OUT;
    }
}

/* Parts whose elements are not contiguous are gathered first. */
static inline void merge_gathered(const merge_plan *plan, const char *x, char *y, merge_row *row,
                                  float *gathered, float *scratch) {
    const rows_plan *rows = &plan->rows;
    int64_t size = (int64_t)fovea_dtype_size(rows->dtype);
    for (int64_t p = 0; p < row->count; p++) {
        float *to = gathered + p * rows->columns;
        const float *from =
            rows_load(rows->dtype, x + row->offsets[p] * size, rows->x_step, rows->columns, to);
        if (from != to) memcpy(to, from, (size_t)rows->columns * sizeof *to);
        row->offsets[p] = p * rows->columns;
    }
    row->later = (const char *)gathered;
    rows_store(rows, y, merged_f32, gathered, row, scratch);
}

static inline int64_t merge_floats(const merge_plan *plan) {
    return plan->rows.x_step == 1 ? 0 : plan->parts * plan->rows.columns;
}

/* How many rows ahead are fetched: 8 KiB of the parts, as memory is 200 ns away. */
static inline int64_t merge_ahead(const merge_plan *plan) {
    int64_t bytes = plan->parts * plan->rows.columns * (int64_t)fovea_dtype_size(plan->rows.dtype);
    return bytes > 0 ? larger(1, smaller(16, 8192 / bytes)) : 1;
}

static inline void merge_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const merge_plan *plan = (const merge_plan *)((const rows_plan *)task)->constants;
    const rows_plan *rows = task;
    char *scratch = rows->scratch + thread * rows->scratch_step;
    merge_row row = {.offsets = (int64_t *)(void *)scratch};
    merge_block block = {.weights = (float *)(row.offsets + plan->parts)};
    row.weights = block.weights + plan->parts * VF_WIDTH;
    float *gathered = row.weights + plan->parts, *line = gathered + merge_floats(plan);
    int64_t ahead = merge_ahead(plan);
    for (int64_t i = begin; i < end; i++) {
        int64_t lane = (i - begin) % VF_WIDTH;
        if (lane == 0) merge_weights(plan, i, smaller(VF_WIDTH, end - i), &block);
        if (plan->has_lse)
            *(float *)(void *)rows_address(&plan->lse, i) =
                (float)((double)block.maximum[lane] + log((double)block.sum[lane]));
        if (rows->columns == 0) continue; /* lse has no columns */
        merge_choose(plan, &block, lane, &row);
        char *x = rows_address(&rows->x, i), *y = rows_address(&rows->y, i);
        const float *values = (const float *)(const void *)x;
        row.later = i + ahead < end ? rows_address(&rows->x, i + ahead) : x;
        if (rows->x_step != 1)
            merge_gathered(plan, x, y, &row, gathered, line);
        else if (rows->dtype == FOVEA_F16)
            rows_store(rows, y, merged_f16, values, &row, line);
        else if (rows->dtype == FOVEA_BF16)
            rows_store(rows, y, merged_bf16, values, &row, line);
        else
            rows_store(rows, y, merged_f32, values, &row, line);
    }
    if (rows->stream) vf_stream_fence();
}

/* The leading axes [B, Hq, Sq] of a view whose dimension 0 may count parts. */
static inline fovea_view merge_leading(const fovea_view *view, int first) {
    fovea_view leading = *view;
    leading.rank = 3;
    for (int i = 0; i < 3; i++) {
        leading.shape[i] = view->shape[first + i];
        leading.stride[i] = view->stride[first + i];
    }
    return leading;
}

static inline merge_plan merge_make_plan(const fovea_problem *problem) {
    const fovea_view *parts = &problem->views[0], *lses = &problem->views[1];
    const fovea_view *out = &problem->views[2];
    merge_plan plan = {.parts = parts->shape[0],
                       .part_step = parts->stride[0],
                       .lse_step = lses->stride[0],
                       .has_lse = fovea_given(problem, 3)};
    plan.rows = (rows_plan){.dtype = problem->dtype, .columns = out->shape[3]};
    plan.rows.x_step = plan.rows.columns == 1 ? 1 : parts->stride[4];
    plan.rows.y_step = plan.rows.columns == 1 ? 1 : out->stride[3];
    plan.rows.x = merge_leading(parts, 1), plan.rows.y = merge_leading(out, 0);
    plan.lses = merge_leading(lses, 1);
    plan.lse = plan.has_lse ? merge_leading(&problem->views[3], 0) : plan.lses;
    plan.rows.rows = fovea_view_elements(&plan.rows.y);
    if (plan.rows.rows > 0)
        fovea_views_collapse((fovea_view *[]){&plan.rows.x, &plan.rows.y, &plan.lses, &plan.lse},
                             4);
    plan.rows.scratch_step =
        divide_up(plan.parts * (12 + 4 * VF_WIDTH) + (merge_floats(&plan) + plan.rows.columns) * 4,
                  64) *
        64;
    return plan;
}

static inline size_t merge_workspace(const fovea_problem *problem, int threads) {
    return (size_t)(merge_make_plan(problem).rows.scratch_step * threads);
}

static inline fovea_status run_merge(const fovea_problem *problem, fovea_run *run) {
    merge_plan plan = merge_make_plan(problem);
    plan.rows.constants = &plan;
    plan.rows.scratch = run->workspace;
    return rows_call(&plan.rows, run, merge_rows,
                     (plan.parts + 1) * (int64_t)fovea_dtype_size(problem->dtype));
}

#endif
