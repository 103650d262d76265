/* Products of matrices: y = alpha a b + beta c with any strides.
 *
 * Rows of a tile are broadcast, columns are vectors. On AVX-512 and NEON a tile is 8 rows by 3 vectors: 24
 * accumulators, 3 vectors of b and a broadcast in 32 registers, 11 loads for 24 multiply-adds; on AVX2 4 by
 * 3. A block of a (GEMM_INNER x as many rows as take half the second-level cache) stays in the second-level cache
 * while panels of b (GEMM_INNER x 3 vectors) go by, each twice there: the one in work, and the next one. Tiles read
 * both from there, at 224 bytes in 12 cycles on AVX-512. The kernel takes a with any two strides, so that small
 * products pack only what has to be.
 *
 * A tile by itself has 98 % of the peak; what is lost is waiting, so nothing is fetched or copied by itself: while
 * a tile is multiplied, a few lines every GEMM_STEPS steps, it fetches what is packed next and the rows of its
 * result, and copies rows of the next panel of b.
 *
 * The sum of an element is a chain over at most GEMM_INNER terms; chains are added in their order. Threads share
 * rows and columns of the result, never the inner extent, so that no number of threads changes a bit.
 *
 * 1024^3 f32 on one core of a Xeon (2 MiB of second-level cache, peak 176 GFLOP/s), by turns: 84 % of the peak with
 * 128 terms, whose b stays in the first-level cache, packed panel after panel. Of the time then 4 % were packing a,
 * 3 % packing b, 14 % tiles: eight times the result, and bursts of hints for lines far away, of which a core
 * has 16 under way. 512 terms 86 %; packing between tiles from lines that were fetched by tiles 88.5; rows of b
 * copied by tiles 89.8; a fetched a group ahead 93. Of that 1 % is pages of 4 KiB. What lost: 256 and 384 terms
 * (0.5 to 1), hints for b (1), the whole second-level cache for a (8), a quarter of it (0.8). A small b,
 * not copied: 128^3 88 -> 92 %, 64^3 75 -> 83; 384^3 and 512^3 lose 2 and 8, so those are copied. On AVX2 192 terms
 * became 256: 78 -> 82 of 92 GFLOP/s. Groups of steps whose first one is the odd rest, in one loop instead of two,
 * lost 5. */
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
enum { GEMM_INNER = VF_WIDTH == 16 ? 512 : 256 };
/* The steps between two groups of lines that a tile fetches. */
enum { GEMM_STEPS = 16 };

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

/* Lines that are fetched into the second-level cache while tiles are multiplied: `groups` times, GEMM_STEPS steps
 * apart, `count` lines which lie `stride` bytes apart; each group begins `step` bytes after the one before. */
typedef struct gemm_fetch {
    const char *from;
    int64_t count, stride, step, groups;
} gemm_fetch;

/* Rows of the panel of b after this one, which are copied while tiles are multiplied, `count` of them every
 * GEMM_STEPS steps. A row is fetched GEMM_AHEAD rows before it is copied. */
typedef struct gemm_copy {
    const void *from;
    void *to;
    int64_t row, count, rows;
} gemm_copy;
enum { GEMM_AHEAD = 4 };

/* A few rows by at most 3 vectors. */
typedef struct gemm_tile {
    const void *a, *b, *c;
    void *y;
    int64_t a_row, a_inner, b_row, c_row, c_column, y_row, k;
    int64_t last; /* elements of the last vector */
    double alpha, beta;
    bool add; /* to y: not the first block of the inner extent */
    gemm_plain way;
    gemm_fetch fetch;
    gemm_copy copy;
} gemm_tile;

/* The inner extent in blocks of about one size. */
static inline int64_t gemm_inner(int64_t k) {
    int64_t blocks = larger(divide_up(k, GEMM_INNER), 1);
    return larger(divide_up(divide_up(k, blocks), 8) * 8, 8);
}

/* Bytes of a packed panel of b. */
static inline int64_t gemm_panel_bytes(int64_t k) {
    return gemm_inner(k) * GEMM_VECTORS * (VF_WIDTH > 1 ? VF_BYTES : 8);
}

/* What a strip of `rows` rows fetches of the next product: the first half of the strips all of a, the others b; at most
 * half the lines that a core has under way at once. */
static inline gemm_fetch gemm_fetch_next(const gemm_matrix *m, int64_t rows, int64_t strip,
                                         int64_t strips) {
    int64_t half = divide_up(strips, 2), which = strip >= half;
    int64_t groups = larger(rows / GEMM_ROWS * (m->k / GEMM_STEPS), 1);
    int64_t count = smaller(divide_up(m->next_bytes[which], half * groups * 64), 8);
    return (gemm_fetch){.from = m->next[which] + (strip - which * half) * groups * count * 64,
                        .count = count,
                        .stride = 64,
                        .step = count * 64,
                        .groups = groups};
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

/* Scratch of a thread: two panels of b and a block of a of at most m rows. */
static inline int64_t gemm_scratch_bytes(int64_t size, int64_t m, int64_t k) {
    int64_t rows = smaller(gemm_block_rows(size, k), divide_up(m, 16) * 16);
    return 2 * gemm_panel_bytes(k) + divide_up(rows * gemm_inner(k) * size, 64) * 64;
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
    bool wide = m->b_row * size > 1024 || m->k > 256;
    r.pack_b = (wide && row_end - row >= GEMM_ROWS) || m->b_column != 1;
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
