/* Domain 15, layout: transposes of the last two dimensions, by squares of VF_WIDTH vectors in registers.
 * Repacking of four values a structure is the transpose of a matrix of four columns or rows, which quads
 * of lanes and one permutation of lanes do for four vectors.
 *
 * Elements of 16 bits are transposed in pairs of rows: two of them, one below the other, are one word.
 *
 * A block is 64 rows, read as 64 streams side by side, and of as many columns as make a piece of work. Of
 * the output it writes runs of 64 elements, whole cache lines; they bypass the caches where the matrix is
 * larger than those. */
#include "cpu/dense.h"
#include "cpu/simd/simd_order.h"
#include "cpu/threads.h"

enum { BLOCK_ROWS = 64, BLOCK_COLUMNS = 256, BLOCK_STRUCTURES = 16384 };

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

/* At most VF_WIDTH columns and as many vectors of rows. */
FOVEA_INLINE void edge_square(bool half, const plan *p, const char *x, char *y, int64_t rows,
                              int64_t columns) {
    vf t[VF_WIDTH];
    VF_UNROLLED for (int64_t i = 0; i < VF_WIDTH; i++) t[i] =
        i << half < rows ? load_row(half, x, p->x_row, rows, i, columns) : vf_set1(0);
    vf_transpose(t);
    for (int64_t i = 0; i < columns; i++) {
        float lanes[VF_WIDTH];
        vf_store(lanes, t[i]);
        memcpy(y + i * p->y_column, lanes, (size_t)(rows * p->size));
    }
}

FOVEA_INLINE void whole_square(bool half, const plan *p, const char *x, char *y, bool stream) {
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
        float *to = (float *)(void *)(y + i * p->y_column);
        if (stream)
            vf_stream(to, t[i]);
        else
            vf_store(to, t[i]);
    }
}

FOVEA_INLINE void squares(bool half, const plan *p, const char *x, char *y, int64_t rows,
                          int64_t columns, bool stream) {
    const int64_t tall = (int64_t)VF_WIDTH << half;
    for (int64_t c = 0; c < columns; c += VF_WIDTH) {
        for (int64_t r = 0; r < rows; r += tall) {
            const char *from = x + r * p->x_row + c * p->size;
            char *to = y + r * p->size + c * p->y_column;
            if (c + VF_WIDTH <= columns && r + tall <= rows)
                whole_square(half, p, from, to, stream);
            else
                edge_square(half, p, from, to, smaller(tall, rows - r),
                            smaller(VF_WIDTH, columns - c));
        }
    }
}

static void run_squares(const plan *p, const char *x, char *y, int64_t rows, int64_t columns) {
    if (p->size == 2)
        squares(true, p, x, y, rows, columns, p->stream);
    else
        squares(false, p, x, y, rows, columns, p->stream);
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
        int64_t column = number % p->column_blocks * p->block_columns;
        int64_t row = number / p->column_blocks % p->row_blocks * p->block_rows;
        int64_t matrix = number / p->column_blocks / p->row_blocks;
        int64_t rows = smaller(p->block_rows, p->rows - row);
        int64_t columns = smaller(p->block_columns, p->columns - column);
        const char *x = matrix_of(&p->x, matrix) + row * p->x_row + column * p->x_column;
        char *y = matrix_of(&p->y, matrix) + row * p->y_row + column * p->y_column;
        if (p->way == SQUARES)
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

/* Whole vectors of y are written to whole cache lines. Vectors of half a line lose more by lines that
 * leave unfinished than a store past the caches gains. */
static bool can_stream(const plan *p) {
    int64_t vector = p->way == SQUARES ? VF_BYTES : VF_WIDTH * p->size;
    bool aligned = (uintptr_t)p->y.data % 64 == 0;
    int64_t step = p->way == TO_STRUCTURES ? 64 : p->y_column;
    for (int i = 0; i < p->y.rank - 2; i++) aligned = aligned && p->y.stride[i] * p->size % 64 == 0;
    return vector == 64 && aligned && step % 64 == 0 && p->way != BY_ELEMENT;
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
    p.block_rows = p.way == TO_ARRAYS ? BLOCK_STRUCTURES : BLOCK_ROWS;
    p.block_columns = p.way == TO_STRUCTURES ? BLOCK_STRUCTURES : BLOCK_COLUMNS;
    p.row_blocks = divide_up(p.rows, p.block_rows);
    p.column_blocks = divide_up(p.columns, p.block_columns);
    int64_t pieces = elements / (p.rows * p.columns) * p.row_blocks * p.column_blocks;
    run->threads = fovea_useful_threads(pieces, 2 * elements * p.size, allowed);
    p.stream = can_stream(&p) && fovea_worth_streaming(2 * elements * p.size, run->threads);
    fovea_share(pieces, run->threads, run_blocks, &p);
    return FOVEA_OK;
}

#define ENTRY(name)                                                                                \
    { #name, FOVEA_CPU_NAME("squares"), FOVEA_FLOATS, FOVEA_TIER_HERE, .run = transpose }

const fovea_implementation FOVEA_TIERED(fovea_cpu_layout)[] = {
    ENTRY(transpose_2d), ENTRY(repack_aos_to_soa), ENTRY(repack_soa_to_aos), {0}};
