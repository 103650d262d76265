/* Domain 11, linalg. Products with vectors and outer products run at the speed of memory: a row or several
 * columns at a time, whichever memory runs along. Products of matrices are those of gemm.h. */
#include "cpu/gemm.h"
#include "cpu/rows.h"
#include "fovea/kernels.h"

#define BOTH (1u << FOVEA_F32 | 1u << FOVEA_F64)

enum { LINALG_BLOCK = 2048 };

/* A sparse matrix and its vectors; steps in elements. */
typedef struct sparse_plan {
    const void *value, *column, *x;
    void *y;
    const fovea_view *rowptr;
    int64_t value_step, column_step, x_step, y_step;
    int64_t rows, pieces;
    bool wide, wide_indices;
} sparse_plan;

static inline int64_t sparse_row_start(const sparse_plan *p, int64_t r) {
    const void *data = p->rowptr->data;
    int64_t at = r * p->rowptr->stride[0];
    return p->rowptr->dtype == FOVEA_I64 ? ((const int64_t *)data)[at]
                                         : ((const int32_t *)data)[at];
}

#define ELEMENT float
#define VECTOR vf
#define WIDTH VF_WIDTH
#if VF_WIDTH > 4
    #define GATHER vf_gather
#endif
#include "cpu/linalg_runs.h"

#define ELEMENT double
#define VECTOR vd
#define WIDTH VD_WIDTH
#include "cpu/linalg_runs.h"

static bool is_wide(const fovea_problem *problem) { return problem->dtype == FOVEA_F64; }

/* The leading axes of a view whose last `inner` dimensions make one operand. */
static fovea_view leading(const fovea_view *view, int inner) {
    fovea_view outer = *view;
    outer.rank -= inner;
    bool some = true;
    for (int i = 0; i < outer.rank; i++) some = some && outer.shape[i] > 0;
    if (some) fovea_views_collapse((fovea_view *[]){&outer}, 1);
    return outer;
}

/* ---- Sparse matrices -------------------------------------------------------------------------------- */

/* The first row that begins at a share of the values or beyond it: rows balanced by what they hold. */
static int64_t row_of_share(const sparse_plan *p, int64_t piece) {
    int64_t begin = sparse_row_start(p, 0), end = sparse_row_start(p, p->rows);
    int64_t low = 0, high = p->rows;
    int64_t target = begin + (int64_t)((double)(end - begin) * (double)piece / (double)p->pieces);
    if (piece == p->pieces) return p->rows;
    if (piece == 0) return 0;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (sparse_row_start(p, middle) < target)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void sparse_pieces(const void *task, int64_t begin, int64_t end, int thread) {
    const sparse_plan *p = task;
    int64_t first = row_of_share(p, begin), stop = row_of_share(p, end);
    (void)thread;
    if (p->wide)
        (p->wide_indices ? sparse_i64_double : sparse_i32_double)(p, first, stop);
    else
        (p->wide_indices ? sparse_i64_float : sparse_i32_float)(p, first, stop);
}

static fovea_status spmv_csr(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *v = problem->views;
    sparse_plan p = {.value = v[0].data,
                     .column = v[1].data,
                     .x = v[3].data,
                     .y = v[4].data,
                     .rowptr = &v[2],
                     .value_step = v[0].stride[0],
                     .column_step = v[1].stride[0],
                     .x_step = v[3].stride[0],
                     .y_step = v[4].stride[0],
                     .rows = v[4].shape[0],
                     .wide = is_wide(problem),
                     .wide_indices = v[1].dtype == FOVEA_I64};
    int64_t work = v[0].shape[0] * 8 + p.rows * 16;
    p.pieces = run->threads = fovea_useful_threads(p.rows, work, run->threads);
    if (p.rows > 0) fovea_share(p.pieces, run->threads, sparse_pieces, &p);
    return FOVEA_OK;
}

/* ---- Products with a vector --------------------------------------------------------------------------- */

typedef struct matvec_plan {
    fovea_view a, x, y; /* the leading axes */
    bool wide;
    int64_t batches, rows, columns, row, column, x_step, y_step, size;
    int64_t of_piece, pieces; /* rows; pieces of a batch */
    char *dense;              /* x of each batch, where it is not dense */
} matvec_plan;

static const char *dense_vector(const matvec_plan *p, int64_t batch) {
    return p->x_step == 1 ? rows_address(&p->x, batch) : p->dense + batch * p->columns * p->size;
}

static void matvec_pieces(const void *task, int64_t begin, int64_t end, int thread) {
    const matvec_plan *p = task;
    (void)thread;
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t batch = piece / p->pieces, first = piece % p->pieces * p->of_piece;
        int64_t rows = smaller(p->of_piece, p->rows - first);
        const char *a = rows_address(&p->a, batch) + first * p->row * p->size;
        const char *x = dense_vector(p, batch);
        char *y = rows_address(&p->y, batch) + first * p->y_step * p->size;
        if (p->column == 1 || p->columns == 1)
            (p->wide ? matvec_rows_double : matvec_rows_float)(a, p->row, x, p->columns, rows, y,
                                                               p->y_step);
        else if (p->row == 1)
            (p->wide ? matvec_columns_double : matvec_columns_float)(a, p->column, x, p->columns,
                                                                     rows, y, p->y_step);
        else
            (p->wide ? matvec_strided_double : matvec_strided_float)(
                a, p->row, p->column, x, p->columns, rows, y, p->y_step);
    }
}

static size_t matvec_workspace(const fovea_problem *problem, int threads) {
    const fovea_view *x = &problem->views[1];
    (void)threads;
    if (x->stride[x->rank - 1] == 1) return 0;
    return (size_t)fovea_view_elements(x) * fovea_dtype_size(x->dtype);
}

/* Rows where memory runs along them are shared in pieces of 32, columns in blocks of sums as long as can be:
 * no element's sum depends on the pieces. */
static fovea_status matvec(const fovea_problem *problem, fovea_run *run) {
    const fovea_matvec_options *o = problem->options;
    const fovea_view *a = &problem->views[0], *x = &problem->views[1], *y = &problem->views[2];
    int row = a->rank - 2 + o->transpose, column = a->rank - 1 - o->transpose, last = x->rank - 1;
    matvec_plan p = {.a = leading(a, 2),
                     .x = leading(x, 1),
                     .y = leading(y, 1),
                     .wide = is_wide(problem),
                     .rows = a->shape[row],
                     .columns = a->shape[column],
                     .row = a->stride[row],
                     .column = a->stride[column],
                     .x_step = x->stride[last],
                     .y_step = y->stride[last],
                     .size = (int64_t)fovea_dtype_size(a->dtype),
                     .dense = run->workspace};
    int allowed = run->threads;
    run->threads = 1;
    int64_t outputs = fovea_view_elements(y);
    if (outputs == 0) return FOVEA_OK;
    p.batches = outputs / p.rows;
    int64_t share = divide_up(divide_up(p.rows, allowed), 64) * 64;
    p.of_piece = p.column == 1 ? 32 : smaller(LINALG_BLOCK, share);
    p.pieces = divide_up(p.rows, p.of_piece);
    for (int64_t b = 0; p.x_step != 1 && b < p.batches; b++)
        (p.wide ? copy_double : copy_float)(rows_address(&p.x, b), p.x_step,
                                            p.dense + b * p.columns * p.size, 1, p.columns);
    int64_t pieces = p.batches * p.pieces;
    run->threads = fovea_useful_threads(pieces, outputs * p.columns * p.size, allowed);
    fovea_share(pieces, run->threads, matvec_pieces, &p);
    return FOVEA_OK;
}

/* ---- Outer products -------------------------------------------------------------------------------------- */

typedef struct outer_plan {
    fovea_view a, b, y; /* the leading axes */
    bool wide, stream;
    int64_t rows, columns, a_step, b_step, y_row, y_column, size, pitch;
    char *scratch; /* b and a row of y for each thread, where they are not dense */
} outer_plan;

static void outer_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const outer_plan *p = task;
    char *copy = p->scratch + 2 * thread * p->pitch, *line = copy + p->pitch;
    int64_t copied = -1, n = p->columns;
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t batch = piece / p->rows, i = piece % p->rows;
        const char *b = rows_address(&p->b, batch);
        const char *a = rows_address(&p->a, batch) + i * p->a_step * p->size;
        char *y = rows_address(&p->y, batch) + i * p->y_row * p->size;
        if (p->b_step != 1 && copied != batch)
            (p->wide ? copy_double : copy_float)(b, p->b_step, copy, 1, n), copied = batch;
        if (p->b_step != 1) b = copy;
        (p->wide ? scale_double : scale_float)(a, b, n, p->y_column == 1 ? y : line,
                                               p->stream && p->y_column == 1);
        if (p->y_column != 1) (p->wide ? copy_double : copy_float)(line, 1, y, p->y_column, n);
    }
    if (p->stream) vf_stream_fence();
}

/* Rows are what memory runs along in y. */
static outer_plan outer_make_plan(const fovea_problem *problem) {
    const fovea_view *v = problem->views;
    int rank = v[2].rank;
    outer_plan p = {.wide = is_wide(problem),
                    .rows = v[2].shape[rank - 2],
                    .columns = v[2].shape[rank - 1],
                    .a_step = v[0].stride[rank - 2],
                    .b_step = v[1].stride[rank - 2],
                    .y_row = v[2].stride[rank - 2],
                    .y_column = v[2].stride[rank - 1],
                    .size = (int64_t)fovea_dtype_size(v[2].dtype)};
    p.a = leading(&v[0], 1), p.b = leading(&v[1], 1), p.y = leading(&v[2], 2);
    if (p.y_column != 1 && p.y_row == 1) {
        fovea_view view = p.a;
        int64_t extent = p.rows, step = p.a_step;
        p.a = p.b, p.a_step = p.b_step, p.rows = p.columns, p.y_row = p.y_column;
        p.b = view, p.b_step = step, p.columns = extent, p.y_column = 1;
    }
    p.pitch = divide_up(p.columns * p.size, 64) * 64;
    return p;
}

static size_t outer_workspace(const fovea_problem *problem, int threads) {
    outer_plan p = outer_make_plan(problem);
    return p.b_step == 1 && p.y_column == 1 ? 0 : (size_t)(2 * threads * p.pitch);
}

static fovea_status outer_product(const fovea_problem *problem, fovea_run *run) {
    outer_plan p = outer_make_plan(problem);
    int64_t elements = fovea_view_elements(&problem->views[2]), bytes = elements * p.size;
    int allowed = run->threads;
    run->threads = 1;
    if (elements == 0) return FOVEA_OK;
    p.scratch = run->workspace;
    run->threads = fovea_useful_threads(elements / p.columns, bytes, allowed);
    p.stream = fovea_worth_streaming(bytes, run->threads);
    fovea_share(elements / p.columns, run->threads, outer_rows, &p);
    return FOVEA_OK;
}

/* ---- Products of matrices ---------------------------------------------------------------------------------- */

typedef struct matmul_plan {
    fovea_view a, b, c, y; /* the leading axes */
    gemm_matrix matrix;    /* without addresses */
    int64_t size, batches, scratch_bytes;
    int64_t across, down; /* parts of a product: of its columns and rows */
    char *scratch;
    char *dense; /* y, where neither its rows nor its columns are dense */
    bool swapped, given, stream;
} matmul_plan;

static int64_t exchange(int64_t *a, int64_t *b) {
    int64_t before = *a;
    return *a = *b, *b = before;
}

/* y^T = b^T a^T: for a result whose columns memory runs along. */
static void transpose_product(matmul_plan *p) {
    gemm_matrix *m = &p->matrix;
    fovea_view view = p->a;
    p->a = p->b, p->b = view, p->swapped = true;
    exchange(&m->m, &m->n), exchange(&m->c_row, &m->c_column);
    int64_t a_row = m->a_row, a_inner = m->a_inner;
    m->a_row = m->b_column, m->a_inner = m->b_row;
    m->b_column = a_row, m->b_row = a_inner;
}

static matmul_plan matmul_make_plan(const fovea_problem *problem) {
    const fovea_matmul_batched_options *o = problem->options;
    const fovea_view *v = problem->views;
    int last = v[0].rank - 1;
    matmul_plan p = {.a = leading(&v[0], 2),
                     .b = leading(&v[1], 2),
                     .y = leading(&v[3], 2),
                     .size = (int64_t)fovea_dtype_size(v[0].dtype),
                     .given = fovea_given(problem, 2) && o->beta != 0,
                     .across = 1,
                     .down = 1};
    p.matrix = (gemm_matrix){.m = v[3].shape[last - 1],
                             .n = v[3].shape[last],
                             .k = v[0].shape[last - o->transpose_a],
                             .a_row = v[0].stride[last - 1 + o->transpose_a],
                             .a_inner = v[0].stride[last - o->transpose_a],
                             .b_row = v[1].stride[last - 1 + o->transpose_b],
                             .b_column = v[1].stride[last - o->transpose_b],
                             .y_row = v[3].stride[last - 1],
                             .alpha = fovea_round_to(v[0].dtype, o->alpha),
                             .beta = fovea_round_to(v[0].dtype, o->beta)};
    if (p.given) {
        p.c = leading(&v[2], 2);
        p.matrix.c_row = v[2].stride[last - 1], p.matrix.c_column = v[2].stride[last];
    }
    bool dense_row = v[3].stride[last] == 1 || p.matrix.n == 1;
    bool dense_column = v[3].stride[last - 1] == 1 || p.matrix.m == 1;
    if (!dense_row && dense_column) {
        p.matrix.y_row = v[3].stride[last];
        transpose_product(&p);
    }
    p.scratch_bytes = gemm_scratch_bytes(p.size, p.matrix.m, p.matrix.k);
    return p;
}

/* Whether y is computed elsewhere and copied. */
static bool needs_dense(const fovea_problem *problem) {
    const fovea_view *y = &problem->views[3];
    int last = y->rank - 1;
    return y->stride[last] != 1 && y->shape[last] != 1 && y->stride[last - 1] != 1 &&
           y->shape[last - 1] != 1;
}

static int64_t dense_bytes(const fovea_problem *problem) {
    const fovea_view *y = &problem->views[3];
    if (!needs_dense(problem)) return 0;
    return fovea_view_elements(y) * (int64_t)fovea_dtype_size(y->dtype);
}

static size_t matmul_workspace(const fovea_problem *problem, int threads) {
    matmul_plan p = matmul_make_plan(problem);
    return (size_t)(threads * p.scratch_bytes + dense_bytes(problem));
}

/* Part `number` of `parts` of an extent, cut at multiples of `unit`. */
static int64_t cut(int64_t extent, int64_t parts, int64_t number, int64_t unit) {
    int64_t units = divide_up(extent, unit);
    return smaller(extent, units * number / parts * unit);
}

/* Bytes of a matrix without gaps, else 0. */
static int64_t dense_matrix(int64_t rows, int64_t columns, int64_t row, int64_t column,
                            int64_t size) {
    bool dense = (column == 1 && row == columns) || (row == 1 && column == rows);
    return dense ? rows * columns * size : 0;
}

/* Small products fetch the operands of the next one, which would each begin with waiting for memory. */
static void fetch_next_product(const matmul_plan *p, int64_t batch, gemm_matrix *m) {
    if (m->k > gemm_inner(m->k)) return;
    m->next[0] = rows_address(&p->a, batch + 1), m->next[1] = rows_address(&p->b, batch + 1);
    m->next_bytes[0] = dense_matrix(m->m, m->k, m->a_row, m->a_inner, p->size);
    m->next_bytes[1] = dense_matrix(m->k, m->n, m->b_row, m->b_column, p->size);
}

static void matmul_pieces(const void *task, int64_t begin, int64_t end, int thread) {
    const matmul_plan *p = task;
    int64_t parts = p->across * p->down, panel = GEMM_VECTORS * VF_BYTES / p->size;
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t batch = piece / parts, part = piece % parts;
        gemm_matrix m = p->matrix;
        m.a = rows_address(&p->a, batch), m.b = rows_address(&p->b, batch);
        m.c = p->given ? rows_address(&p->c, batch) : NULL;
        m.y = p->dense ? p->dense + batch * m.m * m.n * p->size : rows_address(&p->y, batch);
        int64_t i = part / p->across, j = part % p->across;
        gemm_region r =
            gemm_make_region(&m, p->size, cut(m.m, p->down, i, 16), cut(m.m, p->down, i + 1, 16),
                             cut(m.n, p->across, j, panel), cut(m.n, p->across, j + 1, panel));
        r.stream = p->stream;
        if (parts == 1 && piece + 1 < end) fetch_next_product(p, batch, &m);
        gemm_run_region(&m, &r, p->size, p->scratch + thread * p->scratch_bytes);
    }
    if (p->stream) vf_stream_fence();
}

/* Parts for the threads that batches do not feed: the grid that packs least, and of b rather than of a,
 * which has to be transposed. */
static void share_product(matmul_plan *p, int threads) {
    if (p->batches >= 8 * threads || p->batches % threads == 0) return;
    double best = 0;
    for (int64_t down = 1; down <= threads; down++) {
        if (threads % down) continue;
        double packed =
            (double)p->matrix.m / (double)down + (double)p->matrix.n / (double)(threads / down);
        if (down == 1 || packed <= best) best = packed, p->down = down, p->across = threads / down;
    }
}

/* Whether y, which one block of the inner extent completes, goes past the caches. */
static bool can_stream_product(const matmul_plan *p, const fovea_problem *problem, int threads) {
    const fovea_view *v = problem->views;
    const gemm_matrix *m = &p->matrix;
    int64_t bytes = p->batches * (m->m * m->k + m->k * m->n + m->m * m->n) * p->size;
    bool aligned = (uintptr_t)v[3].data % VF_BYTES == 0 && m->y_row * p->size % VF_BYTES == 0;
    for (int i = 0; i < p->y.rank; i++)
        aligned = aligned && p->y.stride[i] * p->size % VF_BYTES == 0;
    return aligned && !p->dense && m->k <= gemm_inner(m->k) &&
           fovea_worth_streaming(bytes, threads);
}

static void scatter_product(const fovea_problem *problem, const char *dense) {
    const fovea_view *y = &problem->views[3];
    int last = y->rank - 1;
    fovea_view rows = *y;
    rows.rank = last;
    int64_t size = (int64_t)fovea_dtype_size(y->dtype), n = y->shape[last];
    int64_t count = fovea_view_elements(y) / n;
    if (rows.rank > 0) fovea_views_collapse((fovea_view *[]){&rows}, 1);
    for (int64_t r = 0; r < count; r++)
        (size == 8 ? copy_double : copy_float)(dense + r * n * size, 1, rows_address(&rows, r),
                                               y->stride[last], n);
}

static fovea_status matmul_batched(const fovea_problem *problem, fovea_run *run) {
    matmul_plan p = matmul_make_plan(problem);
    int64_t elements = fovea_view_elements(&problem->views[3]);
    int allowed = run->threads;
    run->threads = 1;
    if (elements == 0) return FOVEA_OK;
    p.batches = elements / (p.matrix.m * p.matrix.n);
    p.scratch = run->workspace;
    if (needs_dense(problem)) {
        p.dense = p.scratch + allowed * p.scratch_bytes;
        p.matrix.y_row = p.matrix.n;
    }
    /* A byte of memory traffic takes as long as four multiply-adds. */
    double work = (double)elements * (double)(p.matrix.k + 8) / 4;
    int threads =
        fovea_useful_threads(INT64_MAX, work < 0x1p60 ? (int64_t)work : INT64_MAX, allowed);
    share_product(&p, threads);
    int64_t pieces = p.batches * p.across * p.down;
    run->threads = (int)smaller(pieces, threads);
    p.stream = can_stream_product(&p, problem, run->threads);
    fovea_share(pieces, run->threads, matmul_pieces, &p);
    if (p.dense) scatter_product(problem, p.dense);
    return FOVEA_OK;
}

/* ---- Triangular systems --------------------------------------------------------------------------------------- */

enum { SOLVE_ROWS = 64 };

typedef struct solve_plan {
    const char *l;
    char *x; /* dense rows of right sides, which become the solution */
    bool upper, unit, wide;
    int64_t n, m, row, column, size;
    int64_t first, count, known, known_count; /* rows in work, and those that they hang on */
    int64_t scratch_bytes, parts;
    char *scratch, *products;
} solve_plan;

/* x[rows] -= l[rows, known] x[known] for part of the rows (one side) or of the sides. */
static void solve_pieces(const void *task, int64_t begin, int64_t end, int thread) {
    const solve_plan *p = task;
    const char *l = p->l + (p->first * p->row + p->known * p->column) * p->size;
    if (p->m == 1 && p->column == 1) {
        int64_t first = cut(p->count, p->parts, begin, 4), stop = cut(p->count, p->parts, end, 4);
        (p->wide ? matvec_rows_double : matvec_rows_float)(
            l + first * p->row * p->size, p->row, p->x + p->known * p->size, p->known_count,
            stop - first, p->products + first * p->size, 1);
        return;
    }
    int64_t panel = GEMM_VECTORS * VF_BYTES / p->size;
    gemm_matrix m = {.a = l,
                     .b = p->x + p->known * p->m * p->size,
                     .c = p->x + p->first * p->m * p->size,
                     .y = p->x + p->first * p->m * p->size,
                     .m = p->count,
                     .n = p->m,
                     .k = p->known_count,
                     .a_row = p->row,
                     .a_inner = p->column,
                     .b_row = p->m,
                     .b_column = 1,
                     .c_row = p->m,
                     .c_column = 1,
                     .y_row = p->m,
                     .alpha = -1,
                     .beta = 1};
    gemm_region r = gemm_make_region(&m, p->size, 0, m.m, cut(p->m, p->parts, begin, panel),
                                     cut(p->m, p->parts, end, panel));
    gemm_run_region(&m, &r, p->size, p->scratch + thread * p->scratch_bytes);
}

static void subtract_products(const solve_plan *p) {
    char *x = p->x + p->first * p->size;
    for (int64_t i = 0; i < p->count; i++)
        if (p->wide)
            ((double *)(void *)x)[i] -= ((const double *)(const void *)p->products)[i];
        else
            ((float *)(void *)x)[i] -= ((const float *)(const void *)p->products)[i];
}

/* SOLVE_ROWS rows: first what they owe to the rows that are known, then their own triangle. */
static int solve_rows(solve_plan *p, int64_t block, int threads) {
    int64_t blocks = divide_up(p->n, SOLVE_ROWS), i = p->upper ? blocks - 1 - block : block;
    p->first = i * SOLVE_ROWS;
    p->count = smaller(SOLVE_ROWS, p->n - p->first);
    p->known = p->upper ? p->first + p->count : 0;
    p->known_count = p->upper ? p->n - p->known : p->first;
    bool one = p->m == 1 && p->column == 1;
    int used = fovea_useful_threads(one ? p->count / 4 : p->m, p->count * p->known_count * p->m * 2,
                                    threads);
    p->parts = used;
    if (p->known_count > 0) fovea_share(used, used, solve_pieces, p);
    if (p->known_count > 0 && one) subtract_products(p);
    (p->wide ? solve_triangle_double : solve_triangle_float)(
        p->l + p->first * (p->row + p->column) * p->size, p->row, p->column, p->count, p->upper,
        p->unit, p->x + p->first * p->m * p->size, p->m, p->m);
    return used;
}

static size_t solve_workspace(const fovea_problem *problem, int threads) {
    const fovea_view *x = &problem->views[2];
    int64_t size = (int64_t)fovea_dtype_size(x->dtype), n = x->shape[x->rank - 2];
    int64_t elements = n * x->shape[x->rank - 1];
    return (size_t)(threads * gemm_scratch_bytes(size, SOLVE_ROWS, n) + SOLVE_ROWS * size +
                    elements * size);
}

static void move_sides(const solve_plan *p, const fovea_view *view, const char *data, bool out) {
    int64_t row = view->stride[view->rank - 2], column = view->stride[view->rank - 1];
    for (int64_t i = 0; i < p->n; i++) {
        char *dense = p->x + i * p->m * p->size, *other = (char *)(uintptr_t)data;
        other += i * row * p->size;
        if (out)
            (p->wide ? copy_double : copy_float)(dense, 1, other, column, p->m);
        else
            (p->wide ? copy_double : copy_float)(other, column, dense, 1, p->m);
    }
}

static fovea_status triangular_solve(const fovea_problem *problem, fovea_run *run) {
    const fovea_triangular_solve_options *o = problem->options;
    const fovea_view *l = &problem->views[0], *b = &problem->views[1], *x = &problem->views[2];
    fovea_view batches[3] = {leading(l, 2), leading(b, 2), leading(x, 2)};
    int last = l->rank - 1, allowed = run->threads;
    solve_plan p = {.upper = o->triangle == FOVEA_TRIANGULAR_SOLVE_TRIANGLE_UPPER,
                    .unit = o->unit_diagonal,
                    .wide = is_wide(problem),
                    .n = x->shape[last - 1],
                    .m = x->shape[last],
                    .row = l->stride[last - 1],
                    .column = l->stride[last],
                    .size = (int64_t)fovea_dtype_size(l->dtype),
                    .scratch = run->workspace};
    int64_t elements = fovea_view_elements(x);
    run->threads = 1;
    if (elements == 0) return FOVEA_OK;
    p.scratch_bytes = gemm_scratch_bytes(p.size, SOLVE_ROWS, p.n);
    p.products = p.scratch + allowed * p.scratch_bytes;
    p.x = p.products + SOLVE_ROWS * p.size;
    for (int64_t batch = 0; batch < elements / (p.n * p.m); batch++) {
        p.l = rows_address(&batches[0], batch);
        move_sides(&p, b, rows_address(&batches[1], batch), false);
        for (int64_t block = 0; block < divide_up(p.n, SOLVE_ROWS); block++) {
            int used = solve_rows(&p, block, allowed);
            if (used > run->threads) run->threads = used;
        }
        move_sides(&p, x, rows_address(&batches[2], batch), true);
    }
    return FOVEA_OK;
}

#define ENTRY(name, ...)                                                                           \
    { #name, FOVEA_CPU_NAME("direct"), BOTH, FOVEA_TIER_HERE, __VA_ARGS__.run = name }

const fovea_implementation FOVEA_TIERED(fovea_cpu_linalg)[] = {
    ENTRY(spmv_csr, ),
    ENTRY(matvec, .workspace = matvec_workspace, ),
    ENTRY(outer_product, .workspace = outer_workspace, ),
    ENTRY(matmul_batched, .workspace = matmul_workspace, ),
    ENTRY(triangular_solve, .workspace = solve_workspace, ),
    {0}};
