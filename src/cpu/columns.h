/* Sums along an axis that memory does not run along: whole rows are added. The sum is a fixed tree
 * that depends on shape and strides, not on threads.
 *
 * One thread of a Xeon (Sapphire Rapids), avx512, 10^7 f32: 28 GB/s along the first axis of [4000,
 * 2500], 31 along the first of [10^6, 10]; a loop that only reads reaches 30 to 33. */
#ifndef FOVEA_CPU_COLUMNS_H
#define FOVEA_CPU_COLUMNS_H

#include "cpu/fold.h"

enum { COLUMNS = 1024, ROW_CHUNKS = 16 };

#define ELEMENT float
#define VECTOR vf
#define WIDTH VF_WIDTH
#include "cpu/columns_runs.h"

#define ELEMENT double
#define VECTOR vd
#define WIDTH VD_WIDTH
#include "cpu/columns_runs.h"

/* What differs between element types. */
typedef struct sum_functions {
    int64_t size;
    void (*rows)(const void *x, int64_t row, int64_t column, int64_t rows, int64_t columns,
                 void *sum);
    void (*fold)(void *sums, int64_t count, int64_t n);
} sum_functions;
static const sum_functions float_rows = {4, sum_rows_float, fold_float};
static const sum_functions double_rows = {8, sum_rows_double, fold_double};

typedef struct sum_plan {
    const sum_functions *functions;
    fovea_view x, y; /* the dimensions that are kept, with the strides of input and output */
    double divisor;
    int64_t outputs;
    /* `fold` rows lie side by side and count as one */
    int64_t rows, row, columns, column, fold, tiles, units, row_chunks;
    char *sums; /* of each unit and chunk of rows */
} sum_plan;

/* Whether rows are what memory runs along, in a plan of one input and one output. */
static bool runs_by_columns(const fold_plan *plan, int axis) {
    const fovea_view *kept = &plan->kept[0], *slice = &plan->slice[0];
    if (axis < 0 || plan->slices <= 1 || plan->length <= 1) return false;
    int64_t along = llabs(kept->stride[kept->rank - 1]), reduced = slice->stride[slice->rank - 1];
    return along != 0 && (reduced == 0 || along < reduced);
}

/* Narrow contiguous rows are taken several as one; the rows that are left over come last. */
static sum_plan plan_columns(const fold_plan *slices, double divisor) {
    sum_plan made = {.functions = slices->slice[0].dtype == FOVEA_F64 ? &double_rows : &float_rows,
                     .x = slices->kept[0],
                     .y = slices->kept[1],
                     .divisor = divisor,
                     .outputs = slices->slices};
    sum_plan *plan = &made;
    int inner = plan->x.rank - 1;
    plan->x.data = slices->slice[0].data;
    plan->rows = slices->length, plan->row = slices->slice[0].stride[0];
    plan->columns = plan->x.shape[inner], plan->column = plan->x.stride[inner];
    plan->fold = 1;
    if (plan->column == 1 && plan->row == plan->columns && plan->columns <= COLUMNS / 4)
        plan->fold = smaller(COLUMNS / plan->columns, plan->rows);
    plan->tiles = divide_up(plan->columns, COLUMNS);
    plan->units = plan->outputs / plan->columns * plan->tiles;
    bool few = plan->units < ROW_CHUNKS && plan->rows * plan->columns >= 1 << 19;
    plan->row_chunks = few ? smaller(ROW_CHUNKS, divide_up(plan->rows / plan->fold, 128)) : 1;
    return made;
}

static void write_sum(const sum_plan *plan, int64_t offset, double sum) {
    if (plan->functions->size == 8)
        ((double *)(void *)plan->y.data)[offset] = sum / plan->divisor;
    else
        ((float *)(void *)plan->y.data)[offset] = (float)(sum / plan->divisor);
}

typedef struct sum_unit {
    int64_t first, columns; /* columns of the tile */
    const char *x;
    int64_t y;
} sum_unit;

/* Element `number` of the first `rank` dimensions of a view, as an offset. */
static int64_t offset_of(const fovea_view *view, int rank, int64_t number) {
    return (fold_address(view, rank, number) - view->data) / (int64_t)fovea_dtype_size(view->dtype);
}

static sum_unit unit_of(const sum_plan *plan, int64_t number) {
    int outer = plan->x.rank - 1;
    sum_unit unit = {.first = number % plan->tiles * COLUMNS};
    unit.columns = smaller(COLUMNS, plan->columns - unit.first);
    int64_t at = offset_of(&plan->x, outer, number / plan->tiles) + unit.first * plan->column;
    unit.x = plan->x.data + at * plan->functions->size;
    unit.y = offset_of(&plan->y, outer, number / plan->tiles) + unit.first * plan->y.stride[outer];
    return unit;
}

/* The sum of the rows of one chunk of a unit. */
static void sum_row_chunk(const sum_plan *plan, const sum_unit *unit, int64_t chunk, char *sum) {
    int64_t rows = plan->rows / plan->fold, share = divide_up(rows, plan->row_chunks);
    int64_t first = smaller(chunk * share, rows), count = smaller(share, rows - first);
    int64_t row = plan->row * plan->fold, columns = unit->columns * plan->fold;
    plan->functions->rows(unit->x + first * row * plan->functions->size, row, plan->column, count,
                          columns, sum);
}

/* Adds the rows that did not fill a fold, folds, and writes the outputs of a unit. */
static void finish_unit(const sum_plan *plan, const sum_unit *unit, char *sums) {
    int64_t size = plan->functions->size, columns = unit->columns * plan->fold;
    char pair[2 * COLUMNS * 8];
    plan->functions->fold(sums, plan->row_chunks, columns);
    int64_t done = plan->rows / plan->fold * plan->fold, left = plan->rows - done;
    if (left > 0) {
        memset(pair, 0, sizeof pair);
        memcpy(pair, sums, (size_t)(columns * size));
        memcpy(pair + columns * size, unit->x + done * plan->row * size,
               (size_t)(left * unit->columns * size));
        plan->functions->fold(pair, 2, columns);
        sums = pair;
    }
    plan->functions->fold(sums, plan->fold, unit->columns);
    int64_t stride = plan->y.stride[plan->y.rank - 1];
    for (int64_t c = 0; c < unit->columns; c++)
        write_sum(plan, unit->y + c * stride,
                  size == 8 ? ((double *)sums)[c] : (double)((float *)sums)[c]);
}

static void sum_units(const void *task, int64_t begin, int64_t end, int thread) {
    const sum_plan *plan = task;
    _Alignas(64) char sum[COLUMNS * 8];
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        sum_unit unit = unit_of(plan, i);
        sum_row_chunk(plan, &unit, 0, sum);
        finish_unit(plan, &unit, sum);
    }
}

static int64_t unit_bytes(const sum_plan *plan) {
    return smaller(plan->columns, COLUMNS) * plan->fold * plan->functions->size;
}

static void sum_row_chunks(const void *task, int64_t begin, int64_t end, int thread) {
    const sum_plan *plan = task;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        sum_unit unit = unit_of(plan, i / plan->row_chunks);
        int64_t chunk = i % plan->row_chunks;
        char *sums = plan->sums + i / plan->row_chunks * plan->row_chunks * unit_bytes(plan);
        sum_row_chunk(plan, &unit, chunk,
                      sums + chunk * unit.columns * plan->fold * plan->functions->size);
    }
}

static size_t columns_workspace(const sum_plan *plan) {
    return plan->row_chunks == 1 ? 0 : (size_t)(plan->units * plan->row_chunks * unit_bytes(plan));
}

static void sum_columns(sum_plan *plan, fovea_run *run) {
    int64_t bytes = plan->outputs * plan->rows * plan->functions->size;
    int allowed = run->threads;
    if (plan->row_chunks == 1) {
        run->threads = fovea_useful_threads(plan->units, bytes, allowed);
        fovea_share(plan->units, run->threads, sum_units, plan);
        return;
    }
    int64_t pieces = plan->units * plan->row_chunks;
    plan->sums = run->workspace;
    run->threads = fovea_useful_threads(pieces, bytes, allowed);
    fovea_share(pieces, run->threads, sum_row_chunks, plan);
    for (int64_t i = 0; i < plan->units; i++) {
        sum_unit unit = unit_of(plan, i);
        finish_unit(plan, &unit, plan->sums + i * plan->row_chunks * unit_bytes(plan));
    }
}

#endif
