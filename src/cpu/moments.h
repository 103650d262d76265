/* Sums of centred products of all pairs of columns of a matrix: covariances and correlations.
 *
 * The result is cut into square tiles of columns, the rows into chunks, both by the shape alone. Of a tile
 * and chunk, 1024 rows at a time are centred at their own means, 128 rows to a chain of the kernel of
 * products of matrices; such sums are joined in double by the rule of Chan, Golub and LeVeque, Updating
 * formulae and a pairwise algorithm for computing sample variances, 1979, and so are chunks, in pairs. Only
 * tiles of the upper triangle are computed, and mirrored.
 *
 * For 156,250 rows of 64 floats: 40 MB are read once, 1.3 ms at 30 GB/s; the products of the triangle of
 * tiles are 0.75 of all 1.28 GFLOP, 2.8 ms on two cores at 340 GFLOP/s. Two cores of a Xeon take 5.7 ms, a tenth of the rows
 * 0.46, a hundredth 0.052, 15 rows 6.8 microseconds. With panels of three vectors and of one, which takes as long as two,
 * sums of columns in memory, whole squares joined, a division and a call for each entry these were 8.3, 0.74, 0.131 (one
 * chunk and thread) and 21. */
#ifndef FOVEA_CPU_MOMENTS_H
#define FOVEA_CPU_MOMENTS_H

#include "cpu/gemm.h"
#include "cpu/rows.h"

#include <math.h>

/* Columns of a tile: whole panels of every tier. */
enum { MOMENTS_TILE = 240, MOMENTS_ROWS = 1024, MOMENTS_CHAIN = 128, MOMENTS_CHUNKS = 64 };

#define ELEMENT float
#define VECTOR vf
#define WIDTH VF_WIDTH
#include "cpu/moments_runs.h"

#define ELEMENT double
#define VECTOR vd
#define WIDTH VD_WIDTH
#include "cpu/moments_runs.h"

/* Means of columns: an element of each, and what the mean is more than that, so that means far from 0
 * keep their digits. */
typedef struct moments_means {
    double first[MOMENTS_TILE], rest[MOMENTS_TILE];
} moments_means;

/* Of a tile and a number of rows: column means of both sides and sums of centred products. */
typedef struct moments_sums {
    double count;
    moments_means left, right;
    double products[]; /* columns of the left by columns of the right */
} moments_sums;

typedef struct moments_plan {
    const fovea_view *x, *y;
    fovea_view x_outer, y_outer; /* the leading axes */
    bool wide;
    int64_t batches, rows, columns, row, column, y_row, y_column, size;
    int64_t pitch;              /* elements of a row of centred columns, and of sums */
    int64_t tile, tiles, pairs; /* columns of a tile, tiles of a side, pairs of tiles */
    int64_t chunk, chunks;      /* rows of a chunk */
    int64_t sums_bytes, scratch_bytes;
    char *sums, *scratch; /* of each pair and chunk; of each thread */
} moments_plan;

static moments_plan moments_make_plan(const fovea_problem *problem) {
    const fovea_view *x = &problem->views[0], *y = &problem->views[1];
    int rank = x->rank;
    moments_plan p = {.x = x,
                      .y = y,
                      .x_outer = *x,
                      .y_outer = *y,
                      .wide = x->dtype == FOVEA_F64,
                      .batches = 1,
                      .rows = x->shape[rank - 2],
                      .columns = x->shape[rank - 1],
                      .row = x->stride[rank - 2],
                      .column = x->stride[rank - 1],
                      .y_row = y->stride[rank - 2],
                      .y_column = y->stride[rank - 1],
                      .size = (int64_t)fovea_dtype_size(x->dtype)};
    p.x_outer.rank = p.y_outer.rank = rank - 2;
    for (int i = 0; i < rank - 2; i++) p.batches *= x->shape[i];
    p.tile = larger(1, smaller(p.columns, MOMENTS_TILE));
    p.tiles = divide_up(p.columns, p.tile);
    p.pitch =
        divide_up(p.tile, 16) * 16 + 16; /* an odd number of lines: rows spread over all sets */
    p.pairs = p.tiles * (p.tiles + 1) / 2;
    /* No more chunks than keep their sums in 32 MiB. */
    p.sums_bytes = (int64_t)sizeof(moments_sums) + p.tile * p.tile * 8;
    int64_t most = smaller(MOMENTS_CHUNKS, (1 << 25) / larger(1, p.pairs * p.sums_bytes));
    int64_t rows = larger(MOMENTS_ROWS, smaller(divide_up(p.rows, 8), 4 * MOMENTS_ROWS));
    p.chunk = fovea_equal_pieces(p.rows, larger(rows, divide_up(p.rows, larger(1, most))), 32);
    p.chunks = larger(1, divide_up(p.rows, larger(1, p.chunk)));
    /* Centred rows of both sides, sums of products, and sums of a block. */
    p.scratch_bytes = (2 * MOMENTS_CHAIN + MOMENTS_TILE) * p.pitch * p.size + p.sums_bytes;
    return p;
}

static size_t moments_workspace(const fovea_problem *problem, int threads) {
    moments_plan p = moments_make_plan(problem);
    return (size_t)(p.pairs * p.chunks * p.sums_bytes + threads * p.scratch_bytes);
}

/* Tiles left <= right by the number of their pair. */
static void moments_pair(const moments_plan *p, int64_t pair, int64_t *left, int64_t *right) {
    *left = 0;
    for (int64_t of_row = p->tiles; pair >= of_row; pair -= of_row--) ++*left;
    *right = *left + pair;
}

static int64_t moments_width(const moments_plan *p, int64_t tile) {
    return smaller(p->tile, p->columns - tile * p->tile);
}

/* How much larger the means of `from` are. */
static void moments_apart(const moments_means *from, const moments_means *to, int64_t n,
                          double *apart) {
    for (int64_t i = 0; i < n; i++)
        apart[i] = (from->first[i] - to->first[i]) + (from->rest[i] - to->rest[i]);
}

/* to += from + scale with. */
static void moments_add(const double *from, double scale, const double *with, int64_t n,
                        double *to) {
    int64_t j = 0;
    for (; j + VD_WIDTH <= n; j += VD_WIDTH) {
        vd more = vd_fma(vd_set1(scale), vd_load(with + j), vd_load(from + j));
        vd_store(to + j, vd_add(vd_load(to + j), more));
    }
    for (; j < n; j++) to[j] += from[j] + scale * with[j];
}

/* Joins sums of other rows to `to`; diagonal: of the triangle. */
static void moments_join(const moments_plan *p, int64_t m, int64_t n, bool diagonal,
                         moments_sums *to, const moments_sums *from) {
    double all = to->count + from->count, weight = to->count * from->count / all;
    double rows[MOMENTS_TILE], columns[MOMENTS_TILE], share = from->count / all;
    moments_apart(&from->left, &to->left, m, rows);
    moments_apart(&from->right, &to->right, n, columns);
    for (int64_t i = 0; i < m; i++) {
        int64_t first = diagonal ? i : 0, at = i * p->tile + first;
        moments_add(from->products + at, rows[i] * weight, columns + first, n - first,
                    to->products + at);
    }
    for (int64_t i = 0; i < m; i++) to->left.rest[i] += rows[i] * share;
    for (int64_t j = 0; j < n; j++) to->right.rest[j] += columns[j] * share;
    to->count = all;
}

/* One side of a block: its columns, their means, and what is left of them once they are centred. */
typedef struct moments_side {
    const char *data; /* the first row */
    int64_t columns;
    double rest[MOMENTS_TILE], left_over[MOMENTS_TILE];
    char *centred;
} moments_side;

static void moments_begin(const moments_plan *p, moments_side *side, int64_t rows) {
    (p->wide ? means_double : means_float)(side->data, p->row, p->column, rows, side->columns,
                                           side->rest);
    memset(side->left_over, 0, (size_t)side->columns * sizeof *side->left_over);
}

static void moments_centre(const moments_plan *p, moments_side *side, int64_t first, int64_t rows) {
    (p->wide ? centre_columns_double : centre_columns_float)(
        side->data + first * p->row * p->size, side->data, p->row, p->column, rows, side->columns,
        side->rest, side->centred, p->pitch, side->left_over);
}

static void moments_keep(const moments_plan *p, const moments_side *side, moments_means *means) {
    for (int64_t i = 0; i < side->columns; i++) {
        means->first[i] = (p->wide ? element_double : element_float)(side->data, i * p->column);
        means->rest[i] = side->rest[i];
    }
}

/* The means, and the products less what centring left over. */
static void moments_finish(const moments_plan *p, const moments_side *left,
                           const moments_side *right, int64_t rows, const char *products,
                           moments_sums *sums) {
    double count = (double)rows;
    sums->count = count;
    moments_keep(p, left, &sums->left);
    moments_keep(p, right, &sums->right);
    for (int64_t i = 0; i < left->columns; i++) {
        int64_t first = left == right ? i : 0;
        (p->wide ? widen_double : widen_float)(
            products + (i * p->pitch + first) * p->size, left->left_over[i] / count,
            right->left_over + first, right->columns - first, sums->products + i * p->tile + first);
    }
}

/* At most MOMENTS_ROWS rows of a pair of tiles. */
static void moments_block(const moments_plan *p, moments_side *left, moments_side *right,
                          int64_t rows, char *products, moments_sums *sums) {
    bool diagonal = left == right;
    moments_begin(p, left, rows);
    if (!diagonal) moments_begin(p, right, rows);
    memset(products, 0, (size_t)(left->columns * p->pitch * p->size));
    for (int64_t i = 0; i < rows; i += MOMENTS_CHAIN) {
        int64_t count = smaller(MOMENTS_CHAIN, rows - i);
        moments_centre(p, left, i, count);
        if (!diagonal) moments_centre(p, right, i, count);
        (p->wide ? add_products_double : add_products_float)(left->centred, right->centred, count,
                                                             left->columns, right->columns,
                                                             diagonal, products, p->pitch);
    }
    moments_finish(p, left, right, rows, products, sums);
}

typedef struct moments_task {
    const moments_plan *plan;
    const char *x;
} moments_task;

static moments_sums *moments_of(const moments_plan *p, int64_t pair, int64_t chunk) {
    return (moments_sums *)(void *)(p->sums + (pair * p->chunks + chunk) * p->sums_bytes);
}

/* Pieces are chunks of pairs. */
static void moments_pieces(const void *task, int64_t begin, int64_t end, int thread) {
    const moments_task *t = task;
    const moments_plan *p = t->plan;
    char *memory = p->scratch + thread * p->scratch_bytes;
    int64_t area = MOMENTS_CHAIN * p->pitch * p->size;
    moments_sums *block =
        (moments_sums *)(void *)(memory + 2 * area + MOMENTS_TILE * p->pitch * p->size);
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t a, b, pair = piece / p->chunks, chunk = piece % p->chunks;
        moments_pair(p, pair, &a, &b);
        moments_side left, right; /* their arrays are filled as far as there are columns */
        left.columns = moments_width(p, a), left.centred = memory;
        right.columns = moments_width(p, b), right.centred = memory + area;
        moments_sums *sums = moments_of(p, pair, chunk);
        int64_t first = chunk * p->chunk, stop = smaller(first + p->chunk, p->rows);
        sums->count = 0;
        for (int64_t i = first; i < stop; i += MOMENTS_ROWS) {
            int64_t rows = smaller(MOMENTS_ROWS, stop - i);
            left.data = t->x + (i * p->row + a * p->tile * p->column) * p->size;
            right.data = t->x + (i * p->row + b * p->tile * p->column) * p->size;
            moments_block(p, &left, a == b ? &left : &right, rows, memory + 2 * area,
                          i == first ? sums : block);
            if (i > first) moments_join(p, left.columns, right.columns, a == b, sums, block);
        }
    }
}

/* Chunks in pairs, in fixed order; the whole is in the first. */
static moments_sums *moments_total(const moments_plan *p, int64_t pair) {
    int64_t a, b;
    moments_pair(p, pair, &a, &b);
    for (int64_t step = 1; step < p->chunks; step *= 2)
        for (int64_t c = 0; c + step < p->chunks; c += 2 * step)
            moments_join(p, moments_width(p, a), moments_width(p, b), a == b,
                         moments_of(p, pair, c), moments_of(p, pair, c + step));
    return moments_of(p, pair, 0);
}

/* What becomes of n sums of products of one column with others; x, y: the roots of their sums with themselves.
 * diagonal: the first of the others is the column itself. */
typedef void moments_entries(double parameter, double count, const double *restrict xy, double x,
                             const double *restrict y, int64_t n, bool diagonal,
                             double *restrict to);

/* Variances stand on the diagonals of diagonal tiles. */
static double moments_variance(const moments_plan *p, int64_t column) {
    int64_t tile = column / p->tile, i = column % p->tile;
    int64_t pair = tile * p->tiles - tile * (tile - 1) / 2;
    return moments_of(p, pair, 0)->products[i * p->tile + i];
}

static void moments_store(const moments_plan *p, int64_t pair, moments_entries *entries,
                          double parameter, char *y) {
    int64_t a, b;
    moments_pair(p, pair, &a, &b);
    const moments_sums *sums = moments_of(p, pair, 0);
    double across[MOMENTS_TILE], value[MOMENTS_TILE];
    for (int64_t j = 0; j < moments_width(p, b); j++)
        across[j] = sqrt(moments_variance(p, b * p->tile + j));
    for (int64_t i = 0; i < moments_width(p, a); i++) {
        int64_t first = a == b ? i : 0, count = moments_width(p, b) - first;
        int64_t row = a * p->tile + i, column = b * p->tile + first;
        entries(parameter, (double)p->rows, sums->products + i * p->tile + first,
                sqrt(moments_variance(p, row)), across + first, count, a == b, value);
        for (int64_t j = 0; p->rows == 0 && j < count; j++) value[j] = NAN;
        (p->wide ? store_moments_double : store_moments_float)(
            y, row * p->y_row + column * p->y_column, p->y_column,
            column * p->y_row + row * p->y_column, p->y_row, value, count);
    }
}

static fovea_status moments_run(const fovea_problem *problem, fovea_run *run,
                                moments_entries *entries, double parameter) {
    moments_plan p = moments_make_plan(problem);
    int allowed = run->threads;
    run->threads = 1;
    if (fovea_view_elements(p.y) == 0) return FOVEA_OK;
    fovea_view *x = &p.x_outer, *y = &p.y_outer;
    if (p.rows > 0) fovea_views_collapse((fovea_view *[]){x, y}, 2);
    if (p.rows == 0) fovea_views_collapse((fovea_view *[]){y}, 1);
    p.sums = run->workspace, p.scratch = p.sums + p.pairs * p.chunks * p.sums_bytes;
    double work = (double)p.rows * (double)p.columns * (double)(p.columns + 16) / 4;
    run->threads = fovea_useful_threads(p.pairs * p.chunks,
                                        work < 0x1p60 ? (int64_t)work : INT64_MAX, allowed);
    for (int64_t b = 0; b < p.batches; b++) {
        moments_task task = {&p, p.rows > 0 ? rows_address(x, b) : NULL};
        fovea_share(p.pairs * p.chunks, run->threads, moments_pieces, &task);
        for (int64_t pair = 0; pair < p.pairs; pair++) moments_total(&p, pair);
        for (int64_t pair = 0; pair < p.pairs; pair++)
            moments_store(&p, pair, entries, parameter, rows_address(y, b));
    }
    return FOVEA_OK;
}

#endif
