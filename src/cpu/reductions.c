/* Domain 1, reductions. A sum is a fixed tree that depends on shape and strides, not on threads.
 *
 * If memory runs along the reduced axis, each output is the sum of contiguous runs (slices). If it
 * runs along an axis that is kept, whole rows are added (columns). Axes are ordered by their
 * strides, so that both cases read memory in its order.
 *
 * One thread of a Xeon (Sapphire Rapids), avx512, 10^7 f32: 31 GB/s along all axes, 32 along the
 * last and 28 along the first of [4000, 2500], 31 along the first of [10^6, 10]; a loop that only
 * reads reaches 30 to 33. Two threads: 62, 63, 47, 62. */
#include "cpu/threads.h"
#include "cpu/tree.h"

#include <stdlib.h>

enum { GATHERED = 256, COLUMNS = 1024, PIECE = 1 << 17, CHUNKS = 256, ROW_CHUNKS = 16 };

#define ELEMENT float
#define VECTOR vf
#define WIDTH VF_WIDTH
#include "cpu/reductions_sum.h"

#define ELEMENT double
#define VECTOR vd
#define WIDTH VD_WIDTH
#include "cpu/reductions_sum.h"

/* What differs between element types. */
typedef struct sum_functions {
    int64_t size;
    double (*run)(const void *x, int64_t stride, int64_t n);
    void (*rows)(const void *x, int64_t row, int64_t column, int64_t rows, int64_t columns,
                 void *sum);
    void (*fold)(void *sums, int64_t count, int64_t n);
} sum_functions;
static const sum_functions sum_float = {4, sum_run_float, sum_rows_float, fold_float};
static const sum_functions sum_double = {8, sum_run_double, sum_rows_double, fold_double};

typedef struct sum_plan {
    const sum_functions *functions;
    fovea_view x, y;    /* the dimensions that are kept, with the strides of input and output */
    fovea_view reduced; /* those that are not, of the input */
    int64_t outputs, length;
    bool by_columns;
    /* slices: runs of the innermost reduced dimension, cut in pieces; chunks of pieces */
    int64_t run_pieces, pieces, chunks;
    /* columns: fold rows lie side by side and count as one */
    int64_t rows, row, columns, column, fold, tiles, units, row_chunks;
    char *sums; /* of each unit and chunk of rows */
} sum_plan;

/* Orders the dimensions of views of one shape by the strides of the first, largest first (a zero
 * stride counts as the largest), and merges what can be. */
static void order(fovea_view *views[], int count) {
    fovea_view *x = views[0];
    fovea_views_collapse(views, count);
    for (int i = 1; i < x->rank; i++) {
        for (int j = i; j > 0; j--) {
            int64_t outer = llabs(x->stride[j - 1]), inner = llabs(x->stride[j]);
            if (outer == 0 || (inner != 0 && inner <= outer)) break;
            for (int v = 0; v < count; v++) {
                int64_t shape = views[v]->shape[j], stride = views[v]->stride[j];
                views[v]->shape[j] = views[v]->shape[j - 1];
                views[v]->stride[j] = views[v]->stride[j - 1];
                views[v]->shape[j - 1] = shape, views[v]->stride[j - 1] = stride;
            }
        }
    }
    fovea_views_collapse(views, count);
}

/* Turns a dimension around if it runs downwards, in the views of one shape. */
static void turn(fovea_view *views[], int count, int64_t size) {
    for (int i = 0; i < views[0]->rank; i++) {
        if (views[0]->stride[i] >= 0) continue;
        for (int v = 0; v < count; v++) {
            views[v]->data += (views[v]->shape[i] - 1) * views[v]->stride[i] * size;
            views[v]->stride[i] = -views[v]->stride[i];
        }
    }
}

static void plan_slices(sum_plan *plan) {
    int64_t run = plan->reduced.shape[plan->reduced.rank - 1];
    plan->run_pieces = divide_up(run, PIECE);
    plan->pieces = plan->length / run * plan->run_pieces;
    plan->chunks = smaller(smaller(plan->pieces, CHUNKS), larger(plan->length / PIECE, 1));
}

/* Narrow contiguous rows are taken several as one; the rows that are left over come last. */
static void plan_columns(sum_plan *plan) {
    int inner = plan->x.rank - 1;
    plan->rows = plan->length, plan->row = plan->reduced.stride[0];
    plan->columns = plan->x.shape[inner], plan->column = plan->x.stride[inner];
    plan->fold = 1;
    if (plan->column == 1 && plan->row == plan->columns && plan->columns <= COLUMNS / 4)
        plan->fold = smaller(COLUMNS / plan->columns, plan->rows);
    plan->tiles = divide_up(plan->columns, COLUMNS);
    plan->units = plan->outputs / plan->columns * plan->tiles;
    bool few = plan->units < ROW_CHUNKS && plan->rows * plan->columns >= 1 << 19;
    plan->row_chunks = few ? smaller(ROW_CHUNKS, divide_up(plan->rows / plan->fold, 128)) : 1;
}

static sum_plan make_plan(const fovea_problem *problem) {
    sum_plan plan = {.functions = problem->dtype == FOVEA_F64 ? &sum_double : &sum_float};
    int axis = fovea_problem_axis(problem), kept = 0, reduced = 0;
    plan.x = plan.reduced = problem->views[0], plan.y = problem->views[1];
    for (int i = 0; i < problem->views[0].rank; i++) {
        fovea_view *to = axis < 0 || i == axis ? &plan.reduced : &plan.x;
        int *rank = axis < 0 || i == axis ? &reduced : &kept;
        to->shape[*rank] = problem->views[0].shape[i];
        to->stride[(*rank)++] = problem->views[0].stride[i];
    }
    plan.x.rank = kept, plan.reduced.rank = reduced;
    plan.outputs = fovea_view_elements(&plan.y);
    plan.length = fovea_view_elements(&plan.reduced);
    if (plan.outputs == 0 || plan.length == 0) return plan;
    order((fovea_view *[]){&plan.x, &plan.y}, 2);
    order((fovea_view *[]){&plan.reduced}, 1);
    turn((fovea_view *[]){&plan.reduced}, 1, plan.functions->size);
    plan.x.data = plan.reduced.data;
    int64_t kept_stride = llabs(plan.x.stride[plan.x.rank - 1]);
    int64_t reduced_stride = plan.reduced.stride[plan.reduced.rank - 1];
    plan.by_columns = plan.outputs > 1 && plan.length > 1 && axis >= 0 && kept_stride != 0 &&
                      (reduced_stride == 0 || kept_stride < reduced_stride);
    if (plan.by_columns)
        plan_columns(&plan);
    else
        plan_slices(&plan);
    return plan;
}

/* Element `number` of the first `rank` dimensions of a view, as an offset. */
static int64_t offset_of(const fovea_view *view, int rank, int64_t number) {
    int64_t offset = 0;
    for (int i = rank - 1; i >= 0; i--) {
        int64_t index = i ? number % view->shape[i] : number;
        offset += index * view->stride[i];
        if (i) number /= view->shape[i];
    }
    return offset;
}

static void write_sum(const sum_plan *plan, int64_t offset, double sum) {
    if (plan->functions->size == 8)
        ((double *)plan->y.data)[offset] = sum;
    else
        ((float *)plan->y.data)[offset] = (float)sum;
}

/* ---- Slices --------------------------------------------------------------------------------- */

static double sum_pieces(const sum_plan *plan, const char *slice, int64_t begin, int64_t end) {
    int inner = plan->reduced.rank - 1;
    int64_t run = plan->reduced.shape[inner], stride = plan->reduced.stride[inner];
    double_tree tree;
    tree.count = 0;
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t first = piece % plan->run_pieces * PIECE;
        int64_t at = offset_of(&plan->reduced, inner, piece / plan->run_pieces) + first * stride;
        double sum = plan->functions->run(slice + at * plan->functions->size, stride,
                                          smaller(PIECE, run - first));
        double_tree_push(&tree, sum);
    }
    return double_tree_total(&tree);
}

static void sum_slices(const void *task, int64_t begin, int64_t end, int thread) {
    const sum_plan *plan = task;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const char *slice =
            plan->x.data + offset_of(&plan->x, plan->x.rank, i) * plan->functions->size;
        write_sum(plan, offset_of(&plan->y, plan->y.rank, i),
                  sum_pieces(plan, slice, 0, plan->pieces));
    }
}

/* One long slice: each chunk of its pieces gives a partial sum. */
typedef struct sum_slice {
    const sum_plan *plan;
    const char *slice;
    double *partial;
} sum_slice;

static void sum_chunks(const void *task, int64_t begin, int64_t end, int thread) {
    const sum_slice *slice = task;
    int64_t pieces = slice->plan->pieces, chunks = slice->plan->chunks;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        int64_t first = i * (pieces / chunks) + smaller(i, pieces % chunks);
        int64_t count = pieces / chunks + (i < pieces % chunks);
        slice->partial[i] = sum_pieces(slice->plan, slice->slice, first, first + count);
    }
}

static void sum_long_slice(const sum_plan *plan, int64_t number, int threads) {
    double partial[CHUNKS];
    int64_t at = offset_of(&plan->x, plan->x.rank, number);
    sum_slice slice = {plan, plan->x.data + at * plan->functions->size, partial};
    fovea_share(plan->chunks, threads, sum_chunks, &slice);
    double_tree tree;
    tree.count = 0;
    for (int64_t i = 0; i < plan->chunks; i++) double_tree_push(&tree, partial[i]);
    write_sum(plan, offset_of(&plan->y, plan->y.rank, number), double_tree_total(&tree));
}

/* ---- Columns -------------------------------------------------------------------------------- */

typedef struct sum_unit {
    int64_t first, columns; /* columns of the tile */
    const char *x;
    int64_t y;
} sum_unit;

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

/* ---- The call ------------------------------------------------------------------------------- */

static size_t reduce_sum_workspace(const fovea_problem *problem, int threads) {
    sum_plan plan = make_plan(problem);
    (void)threads;
    if (!plan.by_columns || plan.row_chunks == 1) return 0;
    return (size_t)(plan.units * plan.row_chunks * unit_bytes(&plan));
}

static fovea_status reduce_sum(const fovea_problem *problem, fovea_run *run) {
    sum_plan plan = make_plan(problem);
    int64_t bytes = plan.outputs * plan.length * plan.functions->size;
    int allowed = run->threads;
    plan.sums = run->workspace;
    run->threads = 1;
    if (plan.outputs > 0 && plan.length == 0) {
        for (int64_t i = 0; i < plan.outputs; i++) fovea_view_write(&plan.y, i, 0);
    } else if (plan.outputs > 0 && plan.by_columns && plan.row_chunks == 1) {
        run->threads = fovea_useful_threads(plan.units, bytes, allowed);
        fovea_share(plan.units, run->threads, sum_units, &plan);
    } else if (plan.outputs > 0 && plan.by_columns) {
        int64_t pieces = plan.units * plan.row_chunks;
        run->threads = fovea_useful_threads(pieces, bytes, allowed);
        fovea_share(pieces, run->threads, sum_row_chunks, &plan);
        for (int64_t i = 0; i < plan.units; i++) {
            sum_unit unit = unit_of(&plan, i);
            finish_unit(&plan, &unit, plan.sums + i * plan.row_chunks * unit_bytes(&plan));
        }
    } else if (plan.outputs > 0 && plan.chunks > 1) {
        int64_t slice = plan.length * plan.functions->size;
        run->threads = fovea_useful_threads(plan.chunks, slice, allowed);
        for (int64_t i = 0; i < plan.outputs; i++) sum_long_slice(&plan, i, run->threads);
    } else if (plan.outputs > 0) {
        run->threads = fovea_useful_threads(plan.outputs, bytes, allowed);
        fovea_share(plan.outputs, run->threads, sum_slices, &plan);
    }
    return FOVEA_OK;
}

const fovea_implementation FOVEA_TIERED(fovea_cpu_reductions)[] = {
    {"reduce_sum", FOVEA_CPU_NAME("direct"), 1u << FOVEA_F32 | 1u << FOVEA_F64, FOVEA_TIER_HERE,
     .workspace = reduce_sum_workspace, .run = reduce_sum},
    {0}};
