/* Rows of the last axis, for kernels that normalise rows: where they are, and their elements as
 * floats. The rest of the axes are merged where the strides of input and output allow it. */
#ifndef FOVEA_CPU_ROWS_H
#define FOVEA_CPU_ROWS_H

#include "cpu/fetch.h"
#include "cpu/threads.h"
#include "cpu/tree.h"

typedef struct rows_plan {
    fovea_dtype dtype;      /* of x and y */
    fovea_view x, y;        /* the leading axes */
    int64_t rows, columns;  /* columns: extent of the last axis */
    int64_t x_step, y_step; /* strides of the last axis */
    bool stream;            /* whether y bypasses the caches */
    char *scratch;          /* `columns` floats for each thread, in whole vectors */
    int64_t scratch_step;   /* bytes */
    const void *constants;  /* what else the kernel needs */
} rows_plan;

/* Bytes of scratch that a thread writes all the time, with a page between its own and another's: what a processor
 * fetches ahead of one thread would take lines from the other. Two threads, fused_softmax_cross_entropy of rows of 256,
 * whose scratch shared a page: 2.56 and 2.29 ms, lower quarters 2.28 and 1.93. */
static inline int64_t rows_apart(int64_t bytes) {
    enum { PAGE = 4096 };
    return (divide_up(bytes, PAGE) + 1) * PAGE;
}
static inline int64_t rows_scratch_bytes(int64_t columns) { return divide_up(columns, 16) * 64; }

static inline rows_plan rows_make_plan(const fovea_view *x, const fovea_view *y) {
    int last = x->rank - 1;
    rows_plan plan = {.dtype = y->dtype, .x = *x, .y = *y, .columns = x->shape[last]};
    plan.x_step = plan.columns == 1 ? 1 : x->stride[last];
    plan.y_step = plan.columns == 1 ? 1 : y->stride[last];
    plan.x.rank = plan.y.rank = last;
    plan.rows = plan.columns > 0 ? fovea_view_elements(&plan.x) : 0;
    if (plan.rows > 0) fovea_views_collapse((fovea_view *[]){&plan.x, &plan.y}, 2);
    plan.scratch_step = rows_scratch_bytes(plan.columns);
    return plan;
}

static inline char *rows_address(const fovea_view *view, int64_t number) {
    int64_t offset = 0;
    if (!view->data) return NULL; /* of a tensor without elements */
    for (int i = view->rank - 1; i > 0; i--) {
        offset += number % view->shape[i] * view->stride[i];
        number /= view->shape[i];
    }
    offset += number * view->stride[0];
    return view->data + offset * (int64_t)fovea_dtype_size(view->dtype);
}

/* Rows of a further tensor, with the numbers of the plan's. */
typedef struct rows_side {
    fovea_view rows; /* the leading axes */
    int64_t step;    /* of the last */
} rows_side;
static inline rows_side rows_make_side(const fovea_view *view) {
    rows_side side = {*view, view->stride[view->rank - 1]};
    if (view->shape[view->rank - 1] == 1) side.step = 1;
    side.rows.rank--;
    if (fovea_view_elements(view) > 0) fovea_views_collapse((fovea_view *[]){&side.rows}, 1);
    return side;
}

FOVEA_INLINE void rows_widen(fovea_dtype dtype, const void *from, int64_t n, float *to) {
    int64_t i = 0;
    for (; i + VF_WIDTH <= n; i += VF_WIDTH) vf_store(to + i, vf_load_as(dtype, from, i));
    if (i < n) vf_store_n(to + i, vf_load_n_as(dtype, from, i, n - i), (size_t)(n - i));
}
FOVEA_INLINE void rows_narrow(fovea_dtype dtype, const float *from, int64_t n, void *to) {
    int64_t i = 0;
    for (; i + VF_WIDTH <= n; i += VF_WIDTH) vf_store_as(dtype, to, i, vf_load(from + i));
    if (i < n) vf_store_n_as(dtype, to, i, vf_load_n(from + i, (size_t)(n - i)), n - i);
}

/* The elements of a row as contiguous floats: the row itself where it is that, else in `to`. */
static inline const float *rows_load(fovea_dtype dtype, const char *row, int64_t step, int64_t n,
                                     float *to) {
    if (dtype == FOVEA_F32 && step == 1) return (const float *)(const void *)row;
    if (dtype == FOVEA_F32) {
        const float *from = (const float *)(const void *)row;
        for (int64_t i = 0; i < n; i++) to[i] = from[i * step];
        return to;
    }
    enum { BLOCK = 256 };
    uint16_t block[BLOCK];
    const uint16_t *from = (const uint16_t *)(const void *)row;
    for (int64_t i = 0; i < n; i += step == 1 ? n : BLOCK) {
        int64_t count = step == 1 ? n : smaller(BLOCK, n - i);
        for (int64_t k = 0; step != 1 && k < count; k++) block[k] = from[(i + k) * step];
        const uint16_t *halves = step == 1 ? from : block;
        if (dtype == FOVEA_F16)
            rows_widen(FOVEA_F16, halves, count, to + i);
        else
            rows_widen(FOVEA_BF16, halves, count, to + i);
    }
    return to;
}

/* Stores floats to a row whose elements are not contiguous. */
static inline void rows_scatter(fovea_dtype dtype, const float *from, int64_t n, char *row,
                                int64_t step) {
    enum { BLOCK = 256 };
    uint16_t block[BLOCK], *to = (uint16_t *)(void *)row;
    if (dtype == FOVEA_F32) {
        float *y = (float *)(void *)row;
        for (int64_t i = 0; i < n; i++) y[i * step] = from[i];
        return;
    }
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t count = smaller(BLOCK, n - i);
        if (dtype == FOVEA_F16)
            rows_narrow(FOVEA_F16, from + i, count, block);
        else
            rows_narrow(FOVEA_BF16, from + i, count, block);
        for (int64_t k = 0; k < count; k++) to[(i + k) * step] = block[k];
    }
}

/* The next row, to be fetched by a pass that computes while memory waits. Softmax of 10,000 rows of
 * 1024 floats: 28 GB/s instead of 19. Where two rows do not fit the first-level cache it costs
 * (layer_norm of rows of 9765 floats: 22 GB/s, fetched to the second level 24, not at all 26), so
 * for long rows, and after the last, this is the row itself; of short rows it is one that comes in time. */
static inline const char *rows_next(const rows_plan *plan, int64_t row, int64_t end) {
    int64_t bytes = plan->columns * (int64_t)fovea_dtype_size(plan->dtype);
    int64_t next = row + (bytes > 16384 ? 0 : bytes > 2048 ? 1 : bytes > 512 ? 3 : 6);
    return rows_address(&plan->x, next < end ? next : row);
}
FOVEA_INLINE void rows_prefetch(const char *row, int64_t byte) {
    if (VF_WIDTH > 1) __builtin_prefetch(row + byte, 0, 3);
}

/* The next row, fetched by the pass that writes the one before: to the first level where two rows fit it, else
 * to the second. */
typedef struct rows_ahead {
    const char *row;
    int64_t size; /* of an element */
    bool near;
} rows_ahead;
static inline rows_ahead rows_look_ahead(const rows_plan *plan, int64_t row, int64_t end) {
    int64_t size = (int64_t)fovea_dtype_size(plan->dtype), bytes = plan->columns * size;
    const char *next = rows_address(&plan->x, row + 1 < end ? row + 1 : row);
    return (rows_ahead){next, size, bytes <= 16384};
}
FOVEA_INLINE void rows_fetch(const rows_ahead *next, int64_t i) {
    const char *at = next->row + i * next->size;
    if (VF_WIDTH == 1) return;
    if (next->near)
        __builtin_prefetch(at, 0, 3);
    else
        __builtin_prefetch(at, 0, 2);
}

/* What a pass over a row does at elements [i, i + n), n <= VF_WIDTH; a constant of inlined loops.
 * Terms of sums are 0 in the lanes from n on. */
typedef vf rows_item(const float *x, void *state, int64_t i, int64_t n);

FOVEA_INLINE vf rows_take(const float *x, int64_t i, int64_t n) {
    return n == VF_WIDTH ? vf_load(x + i) : vf_load_n(x + i, (size_t)n);
}

/* The sum of an item over a row: chains of 16 in four accumulators, under a tree. */
FOVEA_INLINE float rows_sum(rows_item *item, const float *x, void *state, int64_t n) {
    enum { W = VF_WIDTH, STEP = 4 * W, CHAIN = 16 };
    vf_tree tree;
    int64_t i = 0;
    tree.count = 0;
    while (i + STEP <= n) {
        int64_t end = smaller(n - STEP, i + (CHAIN - 1) * STEP);
        vf s = item(x, state, i, W), t = item(x, state, i + W, W);
        vf u = item(x, state, i + 2 * W, W), v = item(x, state, i + 3 * W, W);
        for (i += STEP; i <= end; i += STEP) {
            s = vf_add(s, item(x, state, i, W)), t = vf_add(t, item(x, state, i + W, W));
            u = vf_add(u, item(x, state, i + 2 * W, W));
            v = vf_add(v, item(x, state, i + 3 * W, W));
        }
        vf_tree_push(&tree, vf_add(vf_add(s, t), vf_add(u, v)));
    }
    vf rest = vf_set1(0);
    for (; i + W <= n; i += W) rest = vf_add(rest, item(x, state, i, W));
    if (i < n) rest = vf_add(rest, item(x, state, i, n - i));
    if (tree.count == 0) return vf_reduce_add(rest);
    vf_tree_push(&tree, rest);
    return vf_reduce_add(vf_tree_total(&tree));
}

FOVEA_INLINE void rows_write(fovea_dtype dtype, char *y, rows_item *item, const float *x,
                             void *state, int64_t n, bool stream) {
    enum { W = VF_WIDTH };
    int64_t i = 0;
    int64_t line = LINE_BYTES / (dtype == FOVEA_F32 ? 4 : 2),
            head = elements_to_alignment(dtype, y);
    if (W > 1 && stream && (n >= 8 * W || (head == 0 && n % line == 0))) {
        for (int64_t count; i < head; i += count) {
            count = smaller(W, head - i);
            vf_store_n_as(dtype, y, i, item(x, state, i, count), count);
        }
        for (int64_t end = n - (n - head) % line; i < end; i += W)
            vf_stream_as(dtype, y, i, item(x, state, i, W));
    }
    for (; i + W <= n; i += W) vf_store_as(dtype, y, i, item(x, state, i, W));
    if (i < n) vf_store_n_as(dtype, y, i, item(x, state, i, n - i), n - i);
}

/* Row y from an item over x, whatever y's dtype and stride; scratch may be x. */
FOVEA_INLINE void rows_store(const rows_plan *plan, char *y, rows_item *item, const float *x,
                             void *state, float *scratch) {
    int64_t n = plan->columns;
    if (plan->y_step != 1) {
        rows_write(FOVEA_F32, (char *)scratch, item, x, state, n, false);
        rows_scatter(plan->dtype, scratch, n, y, plan->y_step);
    } else if (plan->dtype == FOVEA_F16) {
        rows_write(FOVEA_F16, y, item, x, state, n, plan->stream);
    } else if (plan->dtype == FOVEA_BF16) {
        rows_write(FOVEA_BF16, y, item, x, state, n, plan->stream);
    } else {
        rows_write(FOVEA_F32, y, item, x, state, n, plan->stream);
    }
}

/* Shares the rows; `cost` is the time of an element in bytes of memory traffic. */
static inline fovea_status rows_call(rows_plan *plan, fovea_run *run, fovea_pieces_function *rows,
                                     int64_t cost) {
    int64_t elements = plan->rows * plan->columns, allowed = run->threads;
    run->threads = 1;
    if (plan->rows == 0) return FOVEA_OK;
    run->threads = fovea_useful_threads(plan->rows, elements * cost, (int)allowed);
    plan->stream =
        plan->x.data != plan->y.data && /* in place the lines are in the cache already */
        fovea_worth_streaming(elements * 2 * (int64_t)fovea_dtype_size(plan->dtype), run->threads);
    fovea_share(plan->rows, run->threads, rows, plan);
    return FOVEA_OK;
}

#endif
