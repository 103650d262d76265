/* Reductions of one or two tensors along all axes or one: what a contiguous run gives (a fold), how
 * two folds join, and what the whole comes to. Runs are cut and joined by shape and strides alone, in
 * a tree, so that results do not depend on threads.
 *
 * If the elements of a slice run along memory, runs are used where they are. If another axis does,
 * or the elements stand apart, they are brought together in blocks that stay in the first-level
 * cache, 16 slices at a time. */
#ifndef FOVEA_CPU_FOLD_H
#define FOVEA_CPU_FOLD_H

#include "cpu/fetch.h"
#include "cpu/threads.h"
#include "cpu/tree.h"

#include <math.h>
#include <stdlib.h>

#define ELEMENT float
#define VECTOR vf
#define MASK vm
#define WIDTH VF_WIDTH
#define FOLD_IS_DOUBLE 0
#define FOLD_DTYPE FOVEA_F32
#include "cpu/fold_runs.h"

#define ELEMENT double
#define VECTOR vd
#define MASK vdm
#define WIDTH VD_WIDTH
#define FOLD_IS_DOUBLE 1
#define FOLD_DTYPE FOVEA_F64
#include "cpu/fold_runs.h"

enum {
    FOLD_INPUTS = 2,
    FOLD_PIECE = 1 << 15, /* elements of a run, at most */
    FOLD_UNIT = 1 << 10,
    FOLD_CHUNKS = 256, /* of a slice that threads share */
    FOLD_BLOCK = 256,  /* elements of a slice that are brought together */
    FOLD_SIDE = 16     /* slices side by side */
};

/* What is known of some elements: `count` of them, and the method's own values. */
typedef struct fold {
    int64_t count, index;
    double value[8];
} fold;

/* The fold of n > 0 contiguous elements, the first of which is number `first` of its slice. */
typedef void fold_run(double constant, const void *x, const void *w, int64_t first, int64_t n,
                      fold *f);
typedef void fold_join(fold *left, const fold *right);
/* The result of a slice: what goes to float outputs; those of type i64 get f->index. */
typedef double fold_finish(double constant, const fold *f);

typedef struct fold_method {
    fold_run *run;
    fold_join *join;
    fold_finish *finish;
    fold nothing; /* the fold of no elements */
} fold_method;

typedef struct fold_plan {
    fold_method method;
    double constant;
    int inputs, outputs;
    bool ordered;           /* indices count: the order of elements must stay */
    fovea_view kept[4];     /* inputs, then outputs: the axes that are kept */
    fovea_view slice[2];    /* inputs: those that are not */
    int64_t slices, length; /* elements of a slice */
    int64_t run, piece, run_pieces, pieces, chunks; /* piece: elements */
    bool direct;                                    /* runs are contiguous in all inputs */
    int64_t side;                                   /* slices that are taken at a time */
} fold_plan;

/* ---- Sums ----------------------------------------------------------------------------------- */

/* A fold_run: the sum of a step over elements of dtype a, and of dtype b of the second input; type
 * is that of the computation. */
#define FOLD_SUM(name, step, type, a)                                                              \
    static void name(double p, const void *x, const void *w, int64_t at, int64_t n, fold *f) {     \
        (void)w, (void)at;                                                                         \
        f->count = n;                                                                              \
        f->value[0] = sum_##type(step##_##type, a, a, x, NULL, (type)p, 0, n);                     \
    }
#define FOLD_SUM_OF_TWO(name, step, type, a, b)                                                    \
    static void name(double p, const void *x, const void *w, int64_t at, int64_t n, fold *f) {     \
        (void)at;                                                                                  \
        f->count = n;                                                                              \
        f->value[0] = sum_##type(step##_##type, a, b, x, w, (type)p, 0, n);                        \
    }

static inline void fold_add(fold *left, const fold *right) {
    left->count += right->count, left->index += right->index;
    for (int k = 0; k < 3; k++) left->value[k] += right->value[k];
}
static inline double fold_sum(double p, const fold *f) { return (void)p, f->value[0]; }

/* ---- Planning ------------------------------------------------------------------------------- */

/* Sorts the dimensions of views of one shape by the strides of the first, largest first (a zero
 * stride counts as the largest), and merges what can be. */
static inline void fold_order(fovea_view *views[], int count) {
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

/* Turns dimensions around that run downwards in the first of views of one shape. */
static inline void fold_turn(fovea_view *views[], int count) {
    for (int i = 0; i < views[0]->rank; i++) {
        if (views[0]->stride[i] >= 0) continue;
        for (int v = 0; v < count; v++) {
            fovea_view *view = views[v];
            view->data +=
                (view->shape[i] - 1) * view->stride[i] * (int64_t)fovea_dtype_size(view->dtype);
            view->stride[i] = -view->stride[i];
        }
    }
}

/* Splits the axes of the inputs: one or all are reduced, the others kept. */
static inline void fold_split(const fovea_problem *problem, int axis, fold_plan *plan) {
    for (int k = 0; k < plan->inputs; k++) {
        const fovea_view *view = &problem->views[k];
        int kept = 0, reduced = 0;
        plan->kept[k] = plan->slice[k] = *view;
        for (int i = 0; i < view->rank; i++) {
            fovea_view *to = axis < 0 || i == axis ? &plan->slice[k] : &plan->kept[k];
            int *rank = axis < 0 || i == axis ? &reduced : &kept;
            to->shape[*rank] = view->shape[i];
            to->stride[(*rank)++] = view->stride[i];
        }
        plan->kept[k].rank = kept, plan->slice[k].rank = reduced;
    }
}

/* axis: the one to reduce, or -1 for all. Outputs follow the inputs in the row; optional ones that
 * are not given are left out. */
static inline void fold_make_plan(const fovea_problem *problem, int axis, fold_plan *plan) {
    fovea_view *kept[4], *slice[2] = {&plan->slice[0], &plan->slice[1]};
    fold_split(problem, axis, plan);
    for (int a = plan->inputs; problem->kernel->arguments[a].name; a++)
        if (fovea_given(problem, a)) plan->kept[plan->inputs + plan->outputs++] = problem->views[a];
    for (int k = 0; k < plan->inputs + plan->outputs; k++) kept[k] = &plan->kept[k];
    plan->slices = fovea_view_elements(&plan->kept[plan->inputs]);
    plan->length = fovea_view_elements(&plan->slice[0]);
    if (plan->slices == 0 || plan->length == 0) return;
    fold_order(kept, plan->inputs + plan->outputs);
    if (plan->ordered)
        fovea_views_collapse(slice, plan->inputs);
    else
        fold_order(slice, plan->inputs), fold_turn(slice, plan->inputs);
    int inner = plan->slice[0].rank - 1;
    plan->run = plan->slice[0].shape[inner];
    plan->direct = true;
    for (int k = 0; k < plan->inputs; k++)
        plan->direct &= plan->slice[k].stride[inner] == 1 || plan->run == 1;
    plan->piece = plan->direct ? fovea_equal_pieces(plan->run, FOLD_PIECE, FOLD_UNIT) : FOLD_BLOCK;
    plan->run_pieces = divide_up(plan->run, plan->piece);
    plan->pieces = plan->length / plan->run * plan->run_pieces;
    plan->chunks = smaller(smaller(plan->pieces, FOLD_CHUNKS), divide_up(plan->length, FOLD_PIECE));
    plan->side = plan->direct ? 1 : smaller(FOLD_SIDE, plan->kept[0].shape[plan->kept[0].rank - 1]);
}

/* Element `number` of the first `rank` dimensions of a view, as an address. */
static inline char *fold_address(const fovea_view *view, int rank, int64_t number) {
    int64_t offset = 0;
    for (int i = rank - 1; i >= 0; i--) {
        int64_t index = i ? number % view->shape[i] : number;
        offset += index * view->stride[i];
        if (i) number /= view->shape[i];
    }
    return view->data + offset * (int64_t)fovea_dtype_size(view->dtype);
}

/* ---- Folding -------------------------------------------------------------------------------- */

/* Folds in a tree, as tree.h has it for sums. */
typedef struct fold_tree {
    uint64_t count;
    fold level[TREE_LEVELS];
} fold_tree;

static inline void fold_tree_push(const fold_plan *plan, fold_tree *tree, const fold *next) {
    int level = 0;
    fold sum = *next;
    for (uint64_t carry = tree->count++; carry & 1; carry >>= 1) {
        plan->method.join(&tree->level[level], &sum);
        sum = tree->level[level++];
    }
    tree->level[level] = sum;
}

/* The lowest level holds the latest elements. */
static inline fold fold_tree_total(const fold_plan *plan, const fold_tree *tree) {
    uint64_t rest = tree->count;
    fold sum = tree->level[__builtin_ctzll(rest)];
    for (rest &= rest - 1; rest; rest &= rest - 1) {
        fold left = tree->level[__builtin_ctzll(rest)];
        plan->method.join(&left, &sum);
        sum = left;
    }
    return sum;
}

static inline void fold_store(char *to, fovea_dtype dtype, double value, const fold *f) {
    if (dtype == FOVEA_I64)
        *(int64_t *)(void *)to = f->index;
    else if (dtype == FOVEA_F64)
        *(double *)(void *)to = value;
    else if (dtype == FOVEA_F32)
        *(float *)(void *)to = (float)value;
    else
        fovea_write_element(to, dtype, value);
}

static inline void fold_write(const fold_plan *plan, int64_t number, const fold *f) {
    double value = plan->method.finish(plan->constant, f);
    for (int k = plan->inputs; k < plan->inputs + plan->outputs; k++)
        fold_store(fold_address(&plan->kept[k], plan->kept[k].rank, number), plan->kept[k].dtype,
                   value, f);
}

/* Where piece number `piece` of a slice begins in it, and its elements. */
static inline int64_t fold_place(const fold_plan *plan, int64_t piece, int64_t *count) {
    int64_t first = piece % plan->run_pieces * plan->piece;
    *count = smaller(plan->piece, plan->run - first);
    return piece / plan->run_pieces * plan->run + first;
}

/* The distance in bytes of element `first` of a slice, the first of a piece. */
static inline int64_t fold_distance(const fold_plan *plan, int k, int64_t piece) {
    const fovea_view *slice = &plan->slice[k];
    int inner = slice->rank - 1;
    int64_t inside = piece % plan->run_pieces * plan->piece * slice->stride[inner];
    return fold_address(slice, inner, piece / plan->run_pieces) - slice->data +
           inside * (int64_t)fovea_dtype_size(slice->dtype);
}

/* Pieces [begin, end) of one slice of contiguous runs. */
static inline fold fold_pieces(const fold_plan *plan, char *const x[], int64_t begin, int64_t end) {
    fold_tree tree;
    fold f = plan->method.nothing;
    tree.count = 0;
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t count, first = fold_place(plan, piece, &count);
        const char *w = plan->inputs > 1 ? x[1] + fold_distance(plan, 1, piece) : NULL;
        plan->method.run(plan->constant, x[0] + fold_distance(plan, 0, piece), w, first, count, &f);
        if (end - begin == 1) return f;
        fold_tree_push(plan, &tree, &f);
        f = plan->method.nothing;
    }
    return fold_tree_total(plan, &tree);
}

#define FOLD_GATHER(type)                                                                          \
    static void fold_gather_##type(type *to, const type *from, int64_t step, int64_t n,            \
                                   int64_t aside, int64_t slices) {                                \
        if (llabs(step) < llabs(aside)) {                                                          \
            for (int64_t s = 0; s < slices; s++)                                                   \
                for (int64_t i = 0; i < n; i++)                                                    \
                    to[s * FOLD_BLOCK + i] = from[s * aside + i * step];                           \
            return;                                                                                \
        }                                                                                          \
        for (int64_t i = 0; i < n; i++)                                                            \
            for (int64_t s = 0; s < slices; s++)                                                   \
                to[s * FOLD_BLOCK + i] = from[s * aside + i * step];                               \
    }
FOLD_GATHER(uint64_t)
FOLD_GATHER(uint32_t)
FOLD_GATHER(uint16_t)
FOLD_GATHER(uint8_t)

static void fold_gather(const fold_plan *plan, int k, const char *from, int64_t n, int64_t slices,
                        void *to) {
    const fovea_view *kept = &plan->kept[k], *slice = &plan->slice[k];
    int64_t step = slice->stride[slice->rank - 1], aside = kept->stride[kept->rank - 1];
    switch (fovea_dtype_size(slice->dtype)) {
    case 8:
        fold_gather_uint64_t(to, (const void *)from, step, n, aside, slices);
        break;
    case 4:
        fold_gather_uint32_t(to, (const void *)from, step, n, aside, slices);
        break;
    case 2:
        fold_gather_uint16_t(to, (const void *)from, step, n, aside, slices);
        break;
    default:
        fold_gather_uint8_t(to, (const void *)from, step, n, aside, slices);
    }
}

/* The same of `slices` slices side by side, whose elements are brought together. */
static void fold_blocks(const fold_plan *plan, char *const x[], int64_t begin, int64_t end,
                        int64_t slices, fold *folds) {
    _Alignas(64) char block[FOLD_INPUTS][FOLD_SIDE * FOLD_BLOCK * 8];
    fold_tree trees[FOLD_SIDE];
    for (int64_t s = 0; s < slices; s++) trees[s].count = 0;
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t count, first = fold_place(plan, piece, &count), row[FOLD_INPUTS] = {0};
        for (int k = 0; k < plan->inputs; k++) {
            row[k] = FOLD_BLOCK * (int64_t)fovea_dtype_size(plan->slice[k].dtype);
            fold_gather(plan, k, x[k] + fold_distance(plan, k, piece), count, slices, block[k]);
        }
        for (int64_t s = 0; s < slices; s++) {
            fold f = plan->method.nothing;
            plan->method.run(plan->constant, block[0] + s * row[0],
                             plan->inputs > 1 ? block[1] + s * row[1] : NULL, first, count, &f);
            fold_tree_push(plan, &trees[s], &f);
        }
    }
    for (int64_t s = 0; s < slices; s++) folds[s] = fold_tree_total(plan, &trees[s]);
}

static inline void fold_addresses(const fold_plan *plan, int64_t slice, char *x[]) {
    for (int k = 0; k < plan->inputs; k++) {
        const fovea_view *kept = &plan->kept[k];
        x[k] = fold_address(kept, kept->rank, slice) - kept->data + plan->slice[k].data;
    }
}

/* A slice to come, fetched while this one is computed: the processor's own prefetching starts again
 * with each of two streams of short rows. Dot products of 78,125 rows of 128 floats, two threads of a
 * Zen 5: 5.25 ms without, 2.55 with. */
static inline void fold_prefetch(const fold_plan *plan, int64_t slice) {
    char *x[FOLD_INPUTS];
    fold_addresses(plan, slice, x);
    for (int k = 0; k < plan->inputs; k++) {
        int64_t bytes = plan->length * (int64_t)fovea_dtype_size(plan->slice[k].dtype);
        for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(x[k] + at, 0, 3);
    }
}

/* Slices [begin, end) that are one run each. */
static void fold_short_slices(const fold_plan *plan, int64_t begin, int64_t end) {
    enum { AHEAD = 4 };
    bool prefetch = VF_WIDTH > 1 && plan->length >= 64 && plan->length <= 2048;
    for (int64_t slice = begin; slice < end; slice++) {
        char *x[FOLD_INPUTS] = {NULL};
        fold f = plan->method.nothing;
        if (prefetch && slice + AHEAD < end) fold_prefetch(plan, slice + AHEAD);
        fold_addresses(plan, slice, x);
        plan->method.run(plan->constant, x[0], x[1], 0, plan->length, &f);
        fold_write(plan, slice, &f);
    }
}

/* Units [begin, end): `side` slices of the innermost kept axis, fewer at its end. */
static void fold_units(const void *task, int64_t begin, int64_t end, int thread) {
    const fold_plan *plan = task;
    int64_t inner = plan->kept[0].shape[plan->kept[0].rank - 1];
    int64_t across = divide_up(inner, plan->side);
    (void)thread;
    if (plan->direct && plan->pieces == 1) {
        fold_short_slices(plan, begin, end);
        return;
    }
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t first = unit % across * plan->side, slices = smaller(plan->side, inner - first);
        int64_t slice = unit / across * inner + first;
        char *x[FOLD_INPUTS];
        fold folds[FOLD_SIDE];
        fold_addresses(plan, slice, x);
        if (plan->direct)
            folds[0] = fold_pieces(plan, x, 0, plan->pieces);
        else
            fold_blocks(plan, x, 0, plan->pieces, slices, folds);
        for (int64_t s = 0; s < slices; s++) fold_write(plan, slice + s, &folds[s]);
    }
}

/* ---- One long slice, or few ----------------------------------------------------------------- */

typedef struct fold_long {
    const fold_plan *plan;
    int64_t slice;
    fold *partial; /* of each chunk */
} fold_long;

static void fold_chunks(const void *task, int64_t begin, int64_t end, int thread) {
    const fold_long *work = task;
    const fold_plan *plan = work->plan;
    (void)thread;
    for (int64_t chunk = begin; chunk < end; chunk++) {
        /* Longer chunks lie among the others: of 10^7 floats, 306 pieces in 256 chunks, a half has 153. With the longer
         * ones first it had 178, and the greatest took 860 microseconds in place of 760. */
        int64_t first = chunk * plan->pieces / plan->chunks;
        int64_t last = (chunk + 1) * plan->pieces / plan->chunks;
        char *x[FOLD_INPUTS];
        fold_addresses(plan, work->slice, x);
        if (plan->direct)
            work->partial[chunk] = fold_pieces(plan, x, first, last);
        else
            fold_blocks(plan, x, first, last, 1, &work->partial[chunk]);
    }
}

static inline void fold_long_slice(const fold_plan *plan, int64_t slice, int threads) {
    fold partial[FOLD_CHUNKS];
    fold_long work = {plan, slice, partial};
    fovea_share(plan->chunks, threads, fold_chunks, &work);
    fold_tree tree;
    tree.count = 0;
    for (int64_t chunk = 0; chunk < plan->chunks; chunk++)
        fold_tree_push(plan, &tree, &partial[chunk]);
    fold total = fold_tree_total(plan, &tree);
    fold_write(plan, slice, &total);
}

/* ---- The call ------------------------------------------------------------------------------- */

/* One run of dense tensors to one result, as in most small calls: the axes need no planning. */
static inline bool fold_at_once(const fovea_problem *problem, fovea_run *run, int axis,
                                const fold_plan *plan) {
    const fovea_view *x = problem->views;
    int64_t length = fovea_view_elements(x);
    if (length == 0 || length > FOLD_PIECE || (axis >= 0 && x->rank > 1)) return false;
    for (int k = 0; k < plan->inputs; k++)
        if (!fovea_view_is_contiguous(&x[k])) return false;
    fold f = plan->method.nothing;
    plan->method.run(plan->constant, x[0].data, plan->inputs > 1 ? x[1].data : NULL, 0, length, &f);
    double value = plan->method.finish(plan->constant, &f);
    for (int a = plan->inputs; problem->kernel->arguments[a].name; a++)
        if (fovea_given(problem, a)) fold_store(x[a].data, x[a].dtype, value, &f);
    run->threads = 1;
    return true;
}

/* The plan has method, constant, inputs and ordered set. */
static inline fovea_status fold_call(const fovea_problem *problem, fovea_run *run, int axis,
                                     fold_plan *plan) {
    int allowed = run->threads;
    if (fold_at_once(problem, run, axis, plan)) return FOVEA_OK;
    fold_make_plan(problem, axis, plan);
    run->threads = 1;
    if (plan->slices == 0) return FOVEA_OK;
    if (plan->length == 0) {
        for (int64_t i = 0; i < plan->slices; i++) fold_write(plan, i, &plan->method.nothing);
        return FOVEA_OK;
    }
    int64_t bytes = 0;
    for (int k = 0; k < plan->inputs; k++)
        bytes += plan->length * (int64_t)fovea_dtype_size(plan->slice[k].dtype);
    if (plan->chunks > 1 && plan->slices < FOLD_SIDE) {
        run->threads = fovea_useful_threads(plan->chunks, bytes, allowed);
        for (int64_t i = 0; i < plan->slices; i++) fold_long_slice(plan, i, run->threads);
        return FOVEA_OK;
    }
    int64_t inner = plan->kept[0].shape[plan->kept[0].rank - 1];
    int64_t units = plan->slices / inner * divide_up(inner, plan->side);
    run->threads = fovea_useful_threads(units, plan->slices * bytes, allowed);
    fovea_share(units, run->threads, fold_units, plan);
    return FOVEA_OK;
}

#endif
