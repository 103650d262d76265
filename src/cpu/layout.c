/* Domain 15, layout: transposes of the last two dimensions, by squares of VF_WIDTH vectors in registers.
 * Repacking of four values a structure is the transpose of a matrix of four columns or rows, which quads
 * of lanes and one permutation of lanes do for four vectors.
 *
 * Elements of 16 bits are transposed in pairs of rows: two of them, one below the other, are one word.
 *
 * A block is 64 rows, read as 64 streams side by side, and of as many columns as make a piece of work.
 *
 * Where a matrix is larger than the caches, the output bypasses them, in whole cache lines whatever the
 * addresses of its rows: what a band of 128 bytes of each row leaves of a line waits for the next band. The
 * rows of x that come next are fetched in runs of 512 bytes: 4 KiB and more apart, no prefetcher of the
 * processor sees them coming. 4096 by 4096 floats, two cores of a Zen 5, in one run: 2.6 ms, 82 % of what
 * reading and writing them takes; fetched to the second level 3.7; with bands of 256 bytes, runs of 1 KiB and
 * that 3.7; runs of 256 bytes 2.7; bands of 64 bytes 3.7, of pieces of 512 columns 3.2 where 1024 had 2.8. */
#include "cpu/dense.h"
#include "cpu/simd/simd_order.h"
#include "cpu/threads.h"

enum { BLOCK_ROWS = 64, BLOCK_COLUMNS = 256, BLOCK_STRUCTURES = 16384 };
/* Of output past the caches: bytes of a line, of a row of a band, and of a row of x that is fetched at once;
 * rows and columns of a piece of work. */
enum { LINE = 64, BAND = 128, FETCHED = 512, PIECE_ROWS = 1024, PIECE_COLUMNS = 1024 };

typedef enum way { SQUARES, TO_ARRAYS, TO_STRUCTURES, BY_ELEMENT } way;

typedef struct plan {
    fovea_view x, y;
    int64_t size, rows, columns; /* of an element in bytes; of x's matrices */
    int64_t x_row, x_column;     /* bytes from one to the next, in x */
    int64_t y_row, y_column;     /* in y: from an element of a row of x to that below and beside */
    int64_t block_rows, block_columns; /* of x */
    int64_t row_blocks, column_blocks; /* of a matrix */
    way way;
    bool stream;
    bool down_first; /* blocks below one another come first */
} plan;

/* ---- Squares --------------------------------------------------------------------------------- */

/* Rows of x in vectors: of f32 one each, of halves two, of which the second is the upper half. */
FOVEA_INLINE vf load_row(bool half, const char *x, int64_t x_row, int64_t rows, int64_t i,
                         int64_t columns) {
    if (!half) return vf_load_n((const float *)(const void *)(x + i * x_row), (size_t)columns);
    const uint16_t *low = (const uint16_t *)(const void *)(x + 2 * i * x_row);
    const uint16_t *high = (const uint16_t *)(const void *)(x + (2 * i + 1) * x_row);
    vi words = vi_load_u16_n(low, (size_t)columns);
    if (2 * i + 1 < rows) words = vi_or(words, vi_shl(vi_load_u16_n(high, (size_t)columns), 16));
    return vi_as_vf(words);
}

/* At most VF_WIDTH columns and as many vectors of rows; y's rows are `pitch` bytes apart. */
FOVEA_INLINE void edge_square(bool half, const plan *p, const char *x, char *y, int64_t pitch,
                              int64_t rows, int64_t columns) {
    vf t[VF_WIDTH];
    VF_UNROLLED for (int64_t i = 0; i < VF_WIDTH; i++) t[i] =
        i << half < rows ? load_row(half, x, p->x_row, rows, i, columns) : vf_set1(0);
    vf_transpose(t);
    for (int64_t i = 0; i < columns; i++) {
        float lanes[VF_WIDTH];
        vf_store(lanes, t[i]);
        memcpy(y + i * pitch, lanes, (size_t)(rows * p->size));
    }
}

FOVEA_INLINE void whole_square(bool half, const plan *p, const char *x, char *y, int64_t pitch,
                               bool stream) {
    vf t[VF_WIDTH];
    VF_UNROLLED for (int64_t i = 0; i < VF_WIDTH; i++) {
        if (half) {
            const uint16_t *low = (const uint16_t *)(const void *)(x + 2 * i * p->x_row);
            const uint16_t *high = (const uint16_t *)(const void *)(x + (2 * i + 1) * p->x_row);
            t[i] = vi_as_vf(vi_or(vi_load_u16(low), vi_shl(vi_load_u16(high), 16)));
        } else {
            t[i] = vf_load((const float *)(const void *)(x + i * p->x_row));
        }
    }
    vf_transpose(t);
    VF_UNROLLED for (int64_t i = 0; i < VF_WIDTH; i++) {
        float *to = (float *)(void *)(y + i * pitch);
        if (stream)
            vf_stream(to, t[i]);
        else
            vf_store(to, t[i]);
    }
}

FOVEA_INLINE void squares(bool half, const plan *p, const char *x, char *y, int64_t pitch,
                          int64_t rows, int64_t columns, bool stream) {
    const int64_t tall = (int64_t)VF_WIDTH << half;
    for (int64_t c = 0; c < columns; c += VF_WIDTH) {
        for (int64_t r = 0; r < rows; r += tall) {
            const char *from = x + r * p->x_row + c * p->size;
            char *to = y + r * p->size + c * pitch;
            if (c + VF_WIDTH <= columns && r + tall <= rows)
                whole_square(half, p, from, to, pitch, stream);
            else
                edge_square(half, p, from, to, pitch, smaller(tall, rows - r),
                            smaller(VF_WIDTH, columns - c));
        }
    }
}

static void run_squares(const plan *p, const char *x, char *y, int64_t rows, int64_t columns) {
    if (p->size == 2)
        squares(true, p, x, y, p->y_column, rows, columns, false);
    else
        squares(false, p, x, y, p->y_column, rows, columns, false);
}

/* ---- Squares past the caches ----------------------------------------------------------------- */

/* `bytes` of a row of y from block + LINE on, with what is left of a line before them. The first band
 * begins with part of a line, the last may end with one; what another leaves goes to `left`. */
FOVEA_INLINE void write_lines(const char *block, int64_t bytes, char *y, bool first, bool last,
                              char *left) {
    int64_t to_line = (int64_t)(-(uintptr_t)y & (LINE - 1)), end = LINE + bytes;
    int64_t at = first || to_line == 0 ? LINE + to_line : to_line;
    if (first) memcpy(y, block + LINE, (size_t)smaller(to_line, bytes));
    for (; at + LINE <= end; at += LINE)
        VF_UNROLLED for (int v = 0; v < LINE; v += VF_BYTES)
            vf_stream((float *)(void *)(y + at - LINE + v),
                      vf_load((const float *)(const void *)(block + at + v)));
    if (!last)
        memcpy(left, block + bytes, LINE);
    else if (at < end)
        memcpy(y + at - LINE, block + at, (size_t)(end - at));
}

/* While columns from c on of a band are in work, some of the rows are fetched that come next: of the columns
 * after these, or of the band below. */
FOVEA_INLINE void fetch_rows(const plan *p, const char *x, int64_t row, int64_t c, int64_t rows,
                             int64_t columns) {
    int64_t band = BAND / p->size, run = FETCHED / p->size, at = c % run, next = c - at + run;
    int64_t first = row + band * at / run, last = row + band * (at + VF_WIDTH) / run;
    if (next >= columns) next = 0, first += band, last += band;
    int64_t bytes = smaller(run, columns - next) * p->size;
    for (int64_t r = first; r < smaller(last, rows); r++)
        for (int64_t b = 0; b < bytes + LINE; b += LINE)
            __builtin_prefetch(x + r * p->x_row + next * p->size + smaller(b, bytes - 1), 0, 3);
}

/* aligned: whole vectors are whole lines of y, and nothing has to wait. */
FOVEA_INLINE void lines(bool half, bool aligned, const plan *p, const char *x, char *y,
                        int64_t rows, int64_t columns) {
    _Alignas(64) char left[PIECE_COLUMNS][LINE], block[VF_WIDTH][LINE + BAND];
    int64_t band = BAND / p->size;
    for (int64_t r = 0; r < rows; r += band) {
        int64_t count = smaller(band, rows - r);
        for (int64_t c = 0; c < columns; c += VF_WIDTH) {
            int64_t wide = smaller(VF_WIDTH, columns - c);
            const char *from = x + r * p->x_row + c * p->size;
            char *to = y + r * p->size + c * p->y_column;
            fetch_rows(p, x, r, c, rows, columns);
            if (aligned) {
                squares(half, p, from, to, p->y_column, count, wide, true);
                continue;
            }
            squares(half, p, from, block[0] + LINE, sizeof block[0], count, wide, false);
            for (int64_t i = 0; i < wide; i++) {
                if (r > 0) memcpy(block[i], left[c + i], LINE);
                write_lines(block[i], count * p->size, to + i * p->y_column, r == 0,
                            r + band >= rows, left[c + i]);
            }
        }
    }
}

#define LINES(name, half, aligned)                                                                 \
    static void name(const plan *p, const char *x, char *y, int64_t rows, int64_t columns) {       \
        lines(half, aligned, p, x, y, rows, columns);                                              \
    }
LINES(lines_of_floats, false, false)
LINES(lines_of_floats_aligned, false, true)
LINES(lines_of_halves, true, false)
LINES(lines_of_halves_aligned, true, true)

static void run_lines(const plan *p, const char *x, char *y, int64_t rows, int64_t columns) {
    bool aligned = VF_BYTES == LINE && ((uintptr_t)y | (uintptr_t)p->y_column) % LINE == 0;
    if (p->size == 2)
        (aligned ? lines_of_halves_aligned : lines_of_halves)(p, x, y, rows, columns);
    else
        (aligned ? lines_of_floats_aligned : lines_of_floats)(p, x, y, rows, columns);
}

/* ---- Structures of four ---------------------------------------------------------------------- */

/* After quads are transposed, lane 4 b + v has structure b of vector v, where structure
 * VF_WIDTH/4 v + b is wanted. */
static vi lanes_of_arrays(void) {
    int32_t lanes[VF_WIDTH];
    for (int32_t l = 0; l < VF_WIDTH; l++)
        lanes[l] = l % (VF_WIDTH / 4 + !(VF_WIDTH / 4)) * 4 + l * 4 / VF_WIDTH;
    return vi_load(lanes);
}
static vi lanes_of_structures(void) {
    int32_t lanes[VF_WIDTH];
    for (int32_t l = 0; l < VF_WIDTH; l++) lanes[l] = l % 4 * (VF_WIDTH / 4) + l / 4;
    return vi_load(lanes);
}

FOVEA_INLINE vf load_lanes(bool half, const char *p) {
    if (half) return vi_as_vf(vi_load_u16((const uint16_t *)(const void *)p));
    return vf_load((const float *)(const void *)p);
}
FOVEA_INLINE void store_lanes(bool half, char *p, vf x, bool stream) {
    if (half)
        vi_store_u16((uint16_t *)(void *)p, vf_as_vi(x));
    else if (stream)
        vf_stream((float *)(void *)p, x);
    else
        vf_store((float *)(void *)p, x);
}

/* VF_WIDTH structures; vectors of x and of y are `x_step` and `y_step` bytes apart. */
FOVEA_INLINE void group_of_structures(bool half, bool to_arrays, vi lanes, const char *x,
                                      int64_t x_step, char *y, int64_t y_step, bool stream) {
    vf t[4];
    VF_UNROLLED for (int i = 0; i < 4; i++) {
        t[i] = load_lanes(half, x + i * x_step);
        if (!to_arrays) t[i] = vf_permute(t[i], lanes);
    }
    vf_transpose_quads(t);
    VF_UNROLLED for (int i = 0; i < 4; i++) {
        if (to_arrays) t[i] = vf_permute(t[i], lanes);
        store_lanes(half, y + i * y_step, t[i], stream);
    }
}

FOVEA_INLINE int64_t groups_of_structures(bool half, bool to_arrays, const plan *p, const char *x,
                                          char *y, int64_t count) {
    vi lanes = to_arrays ? lanes_of_arrays() : lanes_of_structures();
    int64_t vector = VF_WIDTH * p->size, i = 0;
    int64_t x_step = to_arrays ? vector : p->x_row, y_step = to_arrays ? p->y_column : vector;
    int64_t x_next = to_arrays ? 4 * vector : vector, y_next = to_arrays ? vector : 4 * vector;
    if (VF_WIDTH < 4) return 0;
    for (; i + VF_WIDTH <= count; i += VF_WIDTH, x += x_next, y += y_next)
        group_of_structures(half, to_arrays, lanes, x, x_step, y, y_step, p->stream && !half);
    return i;
}

/* ---- Any strides ----------------------------------------------------------------------------- */

static void by_element(const plan *p, const char *x, char *y, int64_t rows, int64_t columns) {
    size_t size = (size_t)p->size;
    if (p->y_row == p->size)
        for (int64_t c = 0; c < columns; c++)
            dense_copy(y + c * p->y_column, p->y_row, x + c * p->x_column, p->x_row, rows, size);
    else
        for (int64_t r = 0; r < rows; r++)
            dense_copy(y + r * p->y_row, p->y_column, x + r * p->x_row, p->x_column, columns, size);
}

static void run_structures(const plan *p, const char *x, char *y, int64_t rows, int64_t columns) {
    bool half = p->size == 2, to_arrays = p->way == TO_ARRAYS;
    int64_t count = to_arrays ? rows : columns, done;
    if (to_arrays)
        done = half ? groups_of_structures(true, true, p, x, y, count)
                    : groups_of_structures(false, true, p, x, y, count);
    else
        done = half ? groups_of_structures(true, false, p, x, y, count)
                    : groups_of_structures(false, false, p, x, y, count);
    if (to_arrays)
        by_element(p, x + done * p->x_row, y + done * p->y_row, rows - done, columns);
    else
        by_element(p, x + done * p->x_column, y + done * p->y_column, rows, columns - done);
}

/* ---- The tensor ------------------------------------------------------------------------------ */

/* The first element of matrix number `number`. */
static char *matrix_of(const fovea_view *view, int64_t number) {
    int64_t offset = 0;
    for (int i = view->rank - 3; i >= 0; i--) {
        offset += number % view->shape[i] * view->stride[i];
        number /= view->shape[i];
    }
    return view->data + offset * (int64_t)fovea_dtype_size(view->dtype);
}

static void run_blocks(const void *task, int64_t begin, int64_t end, int thread) {
    const plan *p = task;
    (void)thread;
    for (int64_t number = begin; number < end; number++) {
        int64_t matrix = number / p->column_blocks / p->row_blocks;
        int64_t place = number % (p->column_blocks * p->row_blocks);
        int64_t across = p->down_first ? place / p->row_blocks : place % p->column_blocks;
        int64_t down = p->down_first ? place % p->row_blocks : place / p->column_blocks;
        int64_t column = across * p->block_columns, row = down * p->block_rows;
        int64_t rows = smaller(p->block_rows, p->rows - row);
        int64_t columns = smaller(p->block_columns, p->columns - column);
        const char *x = matrix_of(&p->x, matrix) + row * p->x_row + column * p->x_column;
        char *y = matrix_of(&p->y, matrix) + row * p->y_row + column * p->y_column;
        if (p->way == SQUARES && p->stream)
            run_lines(p, x, y, rows, columns);
        else if (p->way == SQUARES)
            run_squares(p, x, y, rows, columns);
        else if (p->way == BY_ELEMENT)
            by_element(p, x, y, rows, columns);
        else
            run_structures(p, x, y, rows, columns);
    }
    if (p->stream) vf_stream_fence();
}

static way choose_way(const plan *p) {
    bool x_rows = p->x_column == p->size, y_rows = p->y_row == p->size;
    if (x_rows && y_rows && p->columns == 4 && p->x_row == 4 * p->size) return TO_ARRAYS;
    if (x_rows && y_rows && p->rows == 4 && p->y_column == 4 * p->size) return TO_STRUCTURES;
    return x_rows && y_rows ? SQUARES : BY_ELEMENT;
}

/* Rows of y are long enough for lines; of structures, whole vectors are written to whole lines. Vectors of half a line lose more by
 * lines that leave unfinished than a store past the caches gains. */
static bool can_stream(const plan *p) {
    int64_t vector = VF_WIDTH * p->size, step = p->way == TO_STRUCTURES ? LINE : p->y_column;
    bool aligned = (uintptr_t)p->y.data % LINE == 0;
    for (int i = 0; i < p->y.rank - 2; i++)
        aligned = aligned && p->y.stride[i] * p->size % LINE == 0;
    if (p->way == SQUARES) return VF_WIDTH > 1 && p->rows * p->size >= 2 * BAND;
    return vector == LINE && aligned && step % LINE == 0 && p->way != BY_ELEMENT;
}

/* Blocks of a matrix: of output past the caches as even as can be. */
static void choose_blocks(plan *p, bool stream) {
    p->block_rows = p->way == TO_ARRAYS ? BLOCK_STRUCTURES : BLOCK_ROWS;
    p->block_columns = p->way == TO_STRUCTURES ? BLOCK_STRUCTURES : BLOCK_COLUMNS;
    p->stream = stream;
    if (stream && p->way == SQUARES) {
        int64_t several = divide_up(p->columns, PIECE_COLUMNS);
        p->block_rows = PIECE_ROWS, p->down_first = true;
        p->block_columns = divide_up(divide_up(p->columns, several), 32) * 32;
    }
    p->row_blocks = divide_up(p->rows, p->block_rows);
    p->column_blocks = divide_up(p->columns, p->block_columns);
}

static fovea_status transpose(const fovea_problem *problem, fovea_run *run) {
    plan p = {.x = problem->views[0], .y = problem->views[1]};
    int allowed = run->threads, row = p.x.rank - 2, column = p.x.rank - 1;
    int64_t elements = fovea_view_elements(&p.x);
    run->threads = 1;
    if (elements == 0) return FOVEA_OK;
    p.size = (int64_t)fovea_dtype_size(p.x.dtype);
    p.rows = p.x.shape[row], p.columns = p.x.shape[column];
    p.x_row = p.x.stride[row] * p.size, p.x_column = p.x.stride[column] * p.size;
    p.y_column = p.y.stride[row] * p.size, p.y_row = p.y.stride[column] * p.size;
    p.way = choose_way(&p);
    int64_t matrices = elements / (p.rows * p.columns), bytes = 2 * elements * p.size;
    choose_blocks(&p, can_stream(&p) && fovea_worth_streaming(bytes, allowed));
    int64_t pieces = matrices * p.row_blocks * p.column_blocks;
    run->threads = fovea_useful_threads(pieces, bytes, allowed);
    fovea_share(pieces, run->threads, run_blocks, &p);
    return FOVEA_OK;
}

#define ENTRY(name)                                                                                \
    { #name, FOVEA_CPU_NAME("squares"), FOVEA_FLOATS, FOVEA_TIER_HERE, .run = transpose }

const fovea_implementation FOVEA_TIERED(fovea_cpu_layout)[] = {
    ENTRY(transpose_2d), ENTRY(repack_aos_to_soa), ENTRY(repack_soa_to_aos), {0}};
