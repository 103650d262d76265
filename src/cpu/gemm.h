/* Products of matrices: y = alpha a b + beta c with any strides.
 *
 * Rows of a tile are broadcast, columns are vectors. On AVX-512 and NEON a tile is 8 rows by 3 vectors: 24
 * accumulators, 3 vectors of b and a broadcast in 32 registers, 11 loads for 24 multiply-adds; on AVX2 4 by
 * 3. A panel of b (GEMM_INNER x 3 vectors, 24 KiB on AVX-512) stays in the first-level cache while rows
 * of a go by, a block of a (GEMM_INNER x as many rows as take half the second-level cache) in the second
 * while panels of b are packed one after the other, each just before it is used: packing costs a load and a
 * store for every 8 rows of tiles. The kernel takes a with any two strides, so that small products pack
 * only what has to be.
 *
 * The sum of an element is a chain over at most GEMM_INNER terms; chains are added in their order. Threads share
 * rows and columns of the result, never the inner extent, so that no number of threads changes a bit. */
#ifndef FOVEA_CPU_GEMM_H
#define FOVEA_CPU_GEMM_H

#include "cpu/kernel.h"
#include "cpu/threads.h"

#if VF_WIDTH == 16 || VF_WIDTH == 4
    #define GEMM_ROWS 8
#else
    #define GEMM_ROWS 4
#endif
enum { GEMM_VECTORS = 3 };
/* The inner extent of a block: a panel of b, the panel of a in work, the next one and a tile of the result
 * take 42 KiB of the first-level cache on AVX-512. With 192 terms they took 60 of its 48: 88 instead of 97 %
 * of the rate of a tile by itself. */
enum { GEMM_INNER = VF_WIDTH == 16 ? 128 : 192 };
/* The lines of the result are fetched so many steps before the end of a tile, 770 cycles on Zen 5. Fetched at
 * its beginning, those of rows a page apart, which share a few sets of the first-level cache with b, are gone
 * when they are wanted: 1024^3 on one thread of a Zen 5, by turns, 201 GFLOP/s, so 204 (two: 380 and 384).
 * What else was tried there changed nothing beyond the noise of 1 %: 256 and 384 terms; 512 terms and twice the
 * rows gained 1 %, and would make chains of 512; rows of a copied rather than turned into steps. A tile by
 * itself has 96 % of the peak, 92 to 94 where its result walks through memory. */
enum { GEMM_LATE = 64 };
enum { GEMM_PANEL_BYTES = GEMM_INNER * GEMM_VECTORS * (VF_WIDTH > 1 ? VF_BYTES : 8) };

/* One product; strides in elements. b and y may be what the caller called a and y transposed. */
typedef struct gemm_matrix {
    const void *a, *b, *c; /* c NULL: none */
    void *y;
    int64_t m, n, k;
    int64_t a_row, a_inner, b_row, b_column, c_row, c_column, y_row; /* y's columns are dense */
    double alpha, beta;
    const char *next[2];   /* a and b of the product after this one, where they are dense */
    int64_t next_bytes[2]; /* 0: nothing to fetch */
} gemm_matrix;

/* What one thread computes of it at once. */
typedef struct gemm_region {
    int64_t row, row_end, column, column_end;
    int64_t block_rows;
    bool pack_a, pack_b, stream; /* y past the caches */
} gemm_region;

/* What becomes of a tile: y = sum, past the caches too; y += sum; or all that gemm_matrix says. */
typedef enum gemm_plain { GEMM_ANY, GEMM_STORE, GEMM_STREAM, GEMM_ADD } gemm_plain;

/* A few rows by at most 3 vectors. */
typedef struct gemm_tile {
    const void *a, *b, *c;
    void *y;
    int64_t a_row, a_inner, b_row, c_row, c_column, y_row, k;
    int64_t last; /* elements of the last vector */
    double alpha, beta;
    bool add; /* to y: not the first block of the inner extent */
    gemm_plain way;
    const char *ahead; /* what to fetch meanwhile; NULL: nothing */
    int64_t ahead_row; /* bytes of it for each row of the tile */
} gemm_tile;

/* The inner extent in blocks of about one size. */
static inline int64_t gemm_inner(int64_t k) {
    int64_t blocks = larger(divide_up(k, GEMM_INNER), 1);
    return larger(divide_up(divide_up(k, blocks), 8) * 8, 8);
}

/* While strip `at` of `all` is computed its share of the next product is fetched: first a, then b. */
static inline void gemm_fetch_next(const gemm_matrix *m, gemm_tile *tile, int64_t at, int64_t all) {
    int64_t half = divide_up(all, 2), which = at >= half;
    tile->ahead_row = divide_up(m->next_bytes[which], half);
    tile->ahead = m->next[which] + (at - which * half) * tile->ahead_row;
}

#define ELEMENT float
#define VECTOR vf
#define WIDTH VF_WIDTH
#include "cpu/gemm_runs.h"

#define ELEMENT double
#define VECTOR vd
#define WIDTH VD_WIDTH
#include "cpu/gemm_runs.h"

/* A block of a takes half the second-level cache; whole panels of 16 rows. */
static inline int64_t gemm_block_rows(int64_t size, int64_t k) {
    int64_t bytes = (int64_t)fovea_processor_get()->l2_bytes / 2;
    int64_t rows = bytes / (size * gemm_inner(k)) / 16 * 16;
    return larger(rows, 16);
}

/* Scratch of a thread: a panel of b and a block of a of at most m rows. */
static inline int64_t gemm_scratch_bytes(int64_t size, int64_t m, int64_t k) {
    int64_t rows = smaller(gemm_block_rows(size, k), divide_up(m, 16) * 16);
    return GEMM_PANEL_BYTES + divide_up(rows * gemm_inner(k) * size, 64) * 64;
}

/* Packing a pays where several panels of b use it, packing b where several tiles do. */
static inline gemm_region gemm_make_region(const gemm_matrix *m, int64_t size, int64_t row,
                                           int64_t row_end, int64_t column, int64_t column_end) {
    int64_t panel = GEMM_VECTORS * VF_BYTES / size;
    gemm_region r = {.row = row,
                     .row_end = row_end,
                     .column = column,
                     .column_end = column_end,
                     .block_rows = gemm_block_rows(size, m->k)};
    r.pack_a = column_end - column > 6 * panel;
    r.pack_b = row_end - row > 2 * GEMM_ROWS || m->b_column != 1;
    return r;
}

static inline void gemm_run_region(const gemm_matrix *m, const gemm_region *r, int64_t size,
                                   char *memory) {
    if (size == 8)
        region_double(m, r, memory);
    else
        region_float(m, r, memory);
}

#endif
