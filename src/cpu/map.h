/* Elementwise kernels: y = f(a), f(a, b) or f(a, b, c) over tensors of any strides. The operation
 * and the dtypes are constants of an inlined loop; the walk over memory is shared by all.
 *
 * The dimensions are put in the order of y's memory and merged, so that tensors of one layout,
 * whatever it is, are one contiguous array. What remains is cut in tiles of rows and columns of the
 * two innermost dimensions. Operands whose columns are contiguous are used where they are, others
 * are copied through a buffer that stays in the first-level cache.
 *
 * One thread of a Xeon (Sapphire Rapids), avx512, 10^7 f32: add 39 GB/s of the 40 that a bare
 * streaming loop reaches, clamp 35 and gelu by tanh 31 of 36, to f16 32. Two threads: add 73 of 80,
 * to f16 61. 1,000 elements: 0.08 microseconds in here. */
#ifndef FOVEA_CPU_MAP_H
#define FOVEA_CPU_MAP_H

#include "cpu/fetch.h"
#include "cpu/threads.h"

enum {
    MAP_INPUTS = 3,
    MAP_OPERANDS = 1 + MAP_INPUTS,
    MAP_BLOCK = 1024,
    MAP_PIECE = 16384,
    MAP_UNIT = 64,
    MAP_FAR = 4096 /* elements that may not stand in the first-level cache */
};

/* One contiguous run of each operand: y and the inputs, or the tensors of an update in their order. */
typedef void map_function(const float *constants, char *const at[], int64_t n, bool stream);

/* An operation: as many of a, b, c as it has inputs, and the two constants of the call. */
typedef vf map_operation(vf a, vf b, vf c, float p, float q);

FOVEA_INLINE vf map_item(map_operation *operation, int inputs, fovea_dtype in, char *const from[],
                         int64_t i, int64_t n, float p, float q) {
    vf x[MAP_INPUTS];
    VF_UNROLLED for (int k = 0; k < MAP_INPUTS; k++) {
        if (k >= inputs) /* the operation does not look at it */
            x[k] = x[0];
        else
            x[k] = n == VF_WIDTH ? vf_load_as(in, from[k], i) : vf_load_n_as(in, from[k], i, n);
    }
    return operation(x[0], x[1], x[2], p, q);
}

/* What four vectors need later. Two cores of a Xeon, 10^7 f32, where copying takes 2.3 ms: exp 3.2 and 2.5 ms, softplus
 * 3.7 and 2.8. */
FOVEA_INLINE void map_fetch(bool near, fovea_dtype in, const char *from, int64_t i) {
    int64_t size = (int64_t)(in == FOVEA_F32 ? sizeof(float) : sizeof(uint16_t));
    fetch_ahead(near, from, i * size, 4 * VF_WIDTH * size);
}

/* The loop of every elementwise kernel. Four vectors are in flight: light operations wait for
 * loads. */
FOVEA_INLINE void map_run(map_operation *operation, int inputs, fovea_dtype in, fovea_dtype out,
                          const float *constants, char *const at[], int64_t n, bool stream) {
    enum { W = VF_WIDTH };
    const float p = constants[0], q = constants[1];
    const bool near = fovea_fetches_near;
    char *y = at[0], *from[MAP_INPUTS];
    VF_UNROLLED for (int k = 0; k < MAP_INPUTS; k++) from[k] = k < inputs ? at[1 + k] : NULL;
    int64_t i = 0;
#define ITEM(place, count) map_item(operation, inputs, in, from, place, count, p, q)
    if (W > 1 && stream && n >= 8 * W) { /* at least what stands before a whole line */
        for (int64_t head = elements_to_alignment(out, y); i < head;) {
            int64_t count = smaller(W, head - i);
            vf_store_n_as(out, y, i, ITEM(i, count), count);
            i += count;
        }
        for (; i + 4 * W <= n; i += 4 * W) {
            VF_UNROLLED for (int k = 0; k < inputs; k++) map_fetch(near, in, from[k], i);
            vf s = ITEM(i, W), t = ITEM(i + W, W), u = ITEM(i + 2 * W, W), v = ITEM(i + 3 * W, W);
            vf_stream_as(out, y, i, s), vf_stream_as(out, y, i + W, t);
            vf_stream_as(out, y, i + 2 * W, u), vf_stream_as(out, y, i + 3 * W, v);
        }
    }
    const int64_t size = out == FOVEA_F32 ? 4 : out == FOVEA_U8 ? 1 : 2;
    const bool far = near && n >= MAP_FAR;
    for (; i + 4 * W <= n; i += 4 * W) {
        for (int64_t line = 0; far && line < 4 * W * size; line += LINE_BYTES)
            fetch_to_write(y, i * size + line);
        vf s = ITEM(i, W), t = ITEM(i + W, W), u = ITEM(i + 2 * W, W), v = ITEM(i + 3 * W, W);
        vf_store_as(out, y, i, s), vf_store_as(out, y, i + W, t);
        vf_store_as(out, y, i + 2 * W, u), vf_store_as(out, y, i + 3 * W, v);
    }
    for (; i + W <= n; i += W) vf_store_as(out, y, i, ITEM(i, W));
    if (i < n) vf_store_n_as(out, y, i, ITEM(i, n - i), n - i);
#undef ITEM
}

/* Elements i, i+1, ... of operand k, for updates of f32. */
FOVEA_INLINE vf map_load(char *const at[], int k, int64_t i, int64_t n) {
    return n == VF_WIDTH ? vf_load((float *)(void *)at[k] + i)
                         : vf_load_n((float *)(void *)at[k] + i, (size_t)n);
}
FOVEA_INLINE void map_store(char *const at[], int k, int64_t i, vf x, int64_t n) {
    if (n == VF_WIDTH)
        vf_store((float *)(void *)at[k] + i, x);
    else
        vf_store_n((float *)(void *)at[k] + i, x, (size_t)n);
}

/* Instantiates a map_function: name, operation, how many inputs it has, dtypes. */
#define MAP(name, operation, inputs, in, out)                                                      \
    static void name(const float *constants, char *const at[], int64_t n, bool stream) {           \
        map_run(operation, inputs, in, out, constants, at, n, stream);                             \
    }

/* name_operation, from an expression in a, b, c, p and q, and name_by_dtype, its functions for f32,
 * f16 and bf16. */
#define MAP_FLOATS(name, inputs, expression)                                                       \
    FOVEA_INLINE vf name##_operation(vf a, vf b, vf c, float p, float q) {                         \
        (void)a, (void)b, (void)c, (void)p, (void)q;                                               \
        return expression;                                                                         \
    }                                                                                              \
    MAP(name##_f32, name##_operation, inputs, FOVEA_F32, FOVEA_F32)                                \
    MAP(name##_f16, name##_operation, inputs, FOVEA_F16, FOVEA_F16)                                \
    MAP(name##_bf16, name##_operation, inputs, FOVEA_BF16, FOVEA_BF16)                             \
    static map_function *const name##_by_dtype[] = {                                               \
        [FOVEA_F32] = name##_f32, [FOVEA_F16] = name##_f16, [FOVEA_BF16] = name##_bf16};

/* A whole kernel without parameters; `cost` as in map_call. MAP_ENTRY is its row of the table. */
#define MAP_KERNEL(name, inputs, cost, expression)                                                 \
    MAP_FLOATS(name, inputs, expression)                                                           \
    static fovea_status name(const fovea_problem *problem, fovea_run *run) {                       \
        const float none[2] = {0, 0};                                                              \
        return map_call(problem, run, name##_by_dtype[problem->dtype], inputs, none, cost);        \
    }
#define MAP_ENTRY(name)                                                                            \
    { #name, FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE, .run = name }

typedef struct map_plan {
    map_function *function;
    const float *constants;
    int operands;                   /* y and its inputs, or the tensors of an update */
    unsigned read, written;         /* bit k: operand k */
    fovea_view views[MAP_OPERANDS]; /* y and the inputs in the order of y's memory */
    bool direct[MAP_OPERANDS];      /* columns are contiguous */
    bool stream;
    int64_t rows, columns; /* of the two innermost dimensions */
    int64_t tile_rows, tile_columns, row_tiles, column_tiles, tiles;
} map_plan;

/* Makes y's strides positive and sorts the dimensions by them. */
static void map_order(map_plan *plan) {
    fovea_view *y = &plan->views[0];
    for (int i = 0; i < y->rank; i++) {
        if (y->stride[i] >= 0) continue;
        for (int k = 0; k < plan->operands; k++) {
            fovea_view *view = &plan->views[k];
            view->data +=
                (view->shape[i] - 1) * view->stride[i] * (int64_t)fovea_dtype_size(view->dtype);
            view->stride[i] = -view->stride[i];
        }
    }
    for (int i = 1; i < y->rank; i++) {
        for (int j = i; j > 0 && y->stride[j - 1] < y->stride[j]; j--) {
            for (int k = 0; k < plan->operands; k++) {
                fovea_view *view = &plan->views[k];
                int64_t shape = view->shape[j], stride = view->stride[j];
                view->shape[j] = view->shape[j - 1], view->stride[j] = view->stride[j - 1];
                view->shape[j - 1] = shape, view->stride[j - 1] = stride;
            }
        }
    }
}

static void map_collapse(map_plan *plan) {
    fovea_view *views[MAP_OPERANDS];
    bool contiguous = true;
    int64_t elements = fovea_view_elements(&plan->views[0]);
    for (int k = 0; k < plan->operands; k++) {
        views[k] = &plan->views[k];
        contiguous = contiguous && fovea_view_is_contiguous(views[k]);
    }
    for (int k = 0; contiguous && k < plan->operands; k++)
        views[k]->rank = 1, views[k]->shape[0] = elements, views[k]->stride[0] = 1;
    if (contiguous) return;
    fovea_views_collapse(views, plan->operands);
    map_order(plan);
    fovea_views_collapse(views, plan->operands);
}

/* Rows shorter than a vector or two are gathered, many at a time. */
static void map_tile(map_plan *plan) {
    const fovea_view *y = &plan->views[0];
    bool direct = true;
    plan->columns = y->shape[y->rank - 1];
    plan->rows = y->rank > 1 ? y->shape[y->rank - 2] : 1;
    for (int k = 0; k < plan->operands; k++) {
        plan->direct[k] = plan->views[k].stride[y->rank - 1] == 1 || plan->columns == 1;
        if (plan->columns < 16 && plan->rows > 1) plan->direct[k] = false;
        direct = direct && plan->direct[k];
    }
    int64_t piece = direct ? MAP_PIECE : MAP_BLOCK;
    plan->tile_rows = smaller(plan->rows, direct ? 1 : 32);
    plan->tile_columns = fovea_equal_pieces(plan->columns, piece / plan->tile_rows, MAP_UNIT);
    plan->tile_rows = fovea_equal_pieces(plan->rows, piece / plan->tile_columns, 1);
    plan->row_tiles = divide_up(plan->rows, plan->tile_rows);
    plan->column_tiles = divide_up(plan->columns, plan->tile_columns);
    plan->tiles = plan->row_tiles * plan->column_tiles;
    for (int i = 0; i < y->rank - 2; i++) plan->tiles *= y->shape[i];
}

/* Copies a tile between strided memory and a dense buffer; one of the column strides is 1. */
#define MAP_COPY(type)                                                                             \
    static void map_copy_##type(type *to, int64_t to_row, int64_t to_column, const type *from,     \
                                int64_t from_row, int64_t from_column, int64_t rows,               \
                                int64_t columns) {                                                 \
        for (int64_t r = 0; r < rows; r++) {                                                       \
            type *t = to + r * to_row;                                                             \
            const type *f = from + r * from_row;                                                   \
            int64_t c = 0;                                                                         \
            for (; c + 4 <= columns; c += 4, t += 4 * to_column, f += 4 * from_column) {           \
                type u = f[0], v = f[from_column], w = f[2 * from_column];                         \
                type z = f[3 * from_column];                                                       \
                t[0] = u, t[to_column] = v, t[2 * to_column] = w, t[3 * to_column] = z;            \
            }                                                                                      \
            for (; c < columns; c++, t += to_column, f += from_column) *t = *f;                    \
        }                                                                                          \
    }
MAP_COPY(uint32_t)
MAP_COPY(uint16_t)
MAP_COPY(uint8_t)

/* Gathers the tile of a view into a buffer, or scatters it from there. */
static void map_move(const fovea_view *view, void *tile, void *buffer, int64_t rows,
                     int64_t columns, bool gather) {
    int64_t row = view->rank > 1 ? view->stride[view->rank - 2] : 0;
    int64_t column = view->stride[view->rank - 1];
    void *to = gather ? buffer : tile;
    const void *from = gather ? tile : buffer;
    int64_t to_row = gather ? columns : row, from_row = gather ? row : columns;
    int64_t to_column = gather ? 1 : column, from_column = gather ? column : 1;
    size_t size = fovea_dtype_size(view->dtype);
    if (size == 4)
        map_copy_uint32_t(to, to_row, to_column, from, from_row, from_column, rows, columns);
    else if (size == 2)
        map_copy_uint16_t(to, to_row, to_column, from, from_row, from_column, rows, columns);
    else
        map_copy_uint8_t(to, to_row, to_column, from, from_row, from_column, rows, columns);
}

/* The first element of a tile in each operand. */
static void map_addresses(const map_plan *plan, int64_t number, int64_t row, int64_t column,
                          char *addresses[]) {
    int inner = plan->views[0].rank - 1;
    int64_t offsets[MAP_OPERANDS];
    for (int k = 0; k < plan->operands; k++)
        offsets[k] = column * plan->views[k].stride[inner] +
                     (inner > 0 ? row * plan->views[k].stride[inner - 1] : 0);
    for (int i = inner - 2; i >= 0; i--) {
        int64_t extent = plan->views[0].shape[i], index = i ? number % extent : number;
        for (int k = 0; k < plan->operands; k++) offsets[k] += index * plan->views[k].stride[i];
        number /= extent;
    }
    for (int k = 0; k < plan->operands; k++)
        addresses[k] =
            plan->views[k].data + offsets[k] * (int64_t)fovea_dtype_size(plan->views[k].dtype);
}

static void map_one_tile(const map_plan *plan, int64_t number) {
    _Alignas(64) char buffers[MAP_OPERANDS][MAP_BLOCK * 4];
    char *at[MAP_OPERANDS] = {NULL};
    int64_t step[MAP_OPERANDS] = {0}; /* bytes from row to row */
    int64_t column = number % plan->column_tiles * plan->tile_columns;
    number /= plan->column_tiles;
    int64_t row = number % plan->row_tiles * plan->tile_rows;
    int64_t rows = smaller(plan->tile_rows, plan->rows - row);
    int64_t columns = smaller(plan->tile_columns, plan->columns - column);
    map_addresses(plan, number / plan->row_tiles, row, column, at);
    char *tile[MAP_OPERANDS];
    bool packed = true;
    memcpy(tile, at, sizeof tile);
    for (int k = 0; k < plan->operands; k++) {
        const fovea_view *view = &plan->views[k];
        int64_t size = (int64_t)fovea_dtype_size(view->dtype);
        step[k] = plan->direct[k] && view->rank > 1 ? view->stride[view->rank - 2] * size
                                                    : columns * size;
        packed = packed && !plan->direct[k];
        if (plan->direct[k]) continue;
        if (plan->read >> k & 1) map_move(view, at[k], buffers[k], rows, columns, true);
        at[k] = buffers[k];
    }
    if (packed) plan->function(plan->constants, at, rows * columns, false);
    for (int64_t r = 0; r < rows && !packed; r++) {
        plan->function(plan->constants, at, columns, plan->stream && plan->direct[0]);
        for (int k = 0; k < plan->operands; k++) at[k] += step[k];
    }
    for (int k = 0; k < plan->operands; k++)
        if (plan->written >> k & 1 && !plan->direct[k])
            map_move(&plan->views[k], tile[k], buffers[k], rows, columns, false);
}

static void map_tiles(const void *task, int64_t begin, int64_t end, int thread) {
    const map_plan *plan = task;
    (void)thread;
    for (int64_t number = begin; number < end; number++) map_one_tile(plan, number);
    if (plan->stream) vf_stream_fence();
}

/* Runs a plan with function, constants, operands, views and what is read and written. `cost`: the time
 * of an element in bytes of memory traffic (at least what it moves). */
static inline fovea_status map_start(map_plan *plan, fovea_run *run, int64_t cost) {
    int allowed = run->threads;
    int64_t bytes = 0, elements = fovea_view_elements(&plan->views[0]);
    run->threads = 1;
    if (elements == 0) return FOVEA_OK;
    for (int k = 0; k < plan->operands; k++)
        bytes += elements * (int64_t)fovea_dtype_size(plan->views[k].dtype);
    map_collapse(plan);
    map_tile(plan);
    run->threads = fovea_useful_threads(plan->tiles, elements * cost, allowed);
    plan->stream = !(plan->read & 1) && fovea_dtype_size(plan->views[0].dtype) > 1 &&
                   fovea_worth_streaming(bytes, run->threads);
    fovea_share(plan->tiles, run->threads, map_tiles, plan);
    return FOVEA_OK;
}

/* One tile of dense tensors, as in most small calls: no plan is needed for it. False: one is. */
static inline bool map_at_once(const fovea_view *const views[], int operands, fovea_run *run,
                               map_function *function, const float *constants) {
    char *at[MAP_OPERANDS];
    int64_t elements = fovea_view_elements(views[0]);
    if (elements > MAP_PIECE) return false;
    for (int k = 0; k < operands; k++) {
        const fovea_view *view = views[k];
        bool dense = view->rank == 1 ? view->stride[0] == 1 : fovea_view_is_contiguous(view);
        if (!dense) return false;
        at[k] = view->data;
    }
    run->threads = 1;
    if (elements > 0) function(constants, at, elements, false);
    return true;
}

/* A call whose row lists the inputs first and then the output. */
static inline fovea_status map_call(const fovea_problem *problem, fovea_run *run,
                                    map_function *function, int inputs, const float constants[2],
                                    int64_t cost) {
    const fovea_view *v = problem->views;
    const fovea_view *const views[] = {&v[inputs], &v[0], &v[1], &v[2]};
    if (map_at_once(views, inputs + 1, run, function, constants)) return FOVEA_OK;
    map_plan plan = {.function = function,
                     .constants = constants,
                     .operands = inputs + 1,
                     .read = ~1u,
                     .written = 1u};
    for (int k = 0; k <= inputs; k++) plan.views[k] = *views[k];
    return map_start(&plan, run, cost);
}

/* A call that changes some of its first `operands` tensors, as `written` says, in place. */
static inline fovea_status map_update(const fovea_problem *problem, fovea_run *run,
                                      map_function *function, int operands, unsigned written,
                                      const float *constants, int64_t cost) {
    const fovea_view *v = problem->views;
    const fovea_view *const views[] = {&v[0], &v[1], &v[2], &v[3]};
    if (map_at_once(views, operands, run, function, constants)) return FOVEA_OK;
    map_plan plan = {.function = function,
                     .constants = constants,
                     .operands = operands,
                     .read = ~0u,
                     .written = written};
    memcpy(plan.views, problem->views, (size_t)operands * sizeof *plan.views);
    return map_start(&plan, run, cost);
}

#endif
