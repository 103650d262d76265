/* Domain 9, fft: transforms of rows, real ones by complex ones of half the length, and power. */
#include "cpu/fft.h"

#define COMPLEX (1u << FOVEA_C64 | 1u << FOVEA_C128)
#define REAL (1u << FOVEA_F32 | 1u << FOVEA_F64)

/* Rows longer than this share the threads; shorter ones are shared among them. */
enum { SHARED_ROW = 1 << 13 };

/* Rows of a call. Complex: of complex numbers; otherwise x is real and its transform half as long. */
typedef struct rows {
    const fft_plan *plan;
    const fovea_view *from, *to;
    fovea_dtype part;
    int64_t n, count;              /* of a row in `from`; rows */
    bool inverse, halved, widened; /* real: as half as many complex numbers, or with zeros */
    int threads;                   /* inside a row */
    char *scratch;
    int64_t scratch_bytes; /* of each thread outside rows */
} rows;

static int64_t length_of(const fovea_view *view) { return view->shape[view->rank - 1]; }
static int64_t stride_of(const fovea_view *view) { return view->stride[view->rank - 1]; }

static char *row_of(const fovea_view *view, int64_t row) {
    return fovea_view_address(view, row * length_of(view));
}

static int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

/* Complex numbers of the transforms that a row takes. */
static int64_t transform_length(const fovea_problem *problem) {
    int64_t n = length_of(&problem->views[0]);
    bool real = fovea_dtype_parts(problem->dtype) == 1;
    return real && n % 2 == 0 ? n / 2 : n;
}

#define RUN_ROW(type)                                                                              \
    static void run_row_##type(const rows *r, int64_t row, char *scratch) {                        \
        int64_t m = r->plan->n;                                                                    \
        type *copy = (type *)(void *)scratch;                                                      \
        type *rest = copy + aligned(4 * m * (int64_t)sizeof(type)) / (int64_t)sizeof(type);        \
        const type *from = (const type *)(const void *)row_of(r->from, row);                       \
        type *to = (type *)(void *)row_of(r->to, row);                                             \
        int64_t stride = stride_of(r->from), to_stride = stride_of(r->to);                         \
        fft_task_##type t = {.plan = r->plan,                                                      \
                             .from = from,                                                         \
                             .to = to,                                                             \
                             .stride = stride,                                                     \
                             .to_stride = to_stride,                                               \
                             .inverse = r->inverse,                                                \
                             .scale = (type)(r->inverse ? 1 / (double)m : 1)};                     \
        if (!r->halved && !r->widened) {                                                           \
            fft_transform_##type(t, copy, r->threads);                                             \
            return;                                                                                \
        }                                                                                          \
        bool ready = r->halved && stride == 1;                                                     \
        for (int64_t j = 0; r->widened && j < m; j++)                                              \
            copy[2 * j] = from[j * stride], copy[2 * j + 1] = 0;                                   \
        for (int64_t j = 0; r->halved && !ready && j < 2 * m; j++) copy[j] = from[j * stride];     \
        t.from = ready ? from : copy, t.stride = 1, t.to = copy + 2 * m, t.to_stride = 1;          \
        fft_transform_##type(t, rest, r->threads);                                                 \
        if (r->halved) {                                                                           \
            fft_bins_##type bins = {r->plan, t.to, to, to_stride, false};                          \
            fft_turn_bins_##type(&bins, r->threads);                                               \
        }                                                                                          \
        for (int64_t k = 0; r->widened && k <= m / 2; k++)                                         \
            memcpy(to + 2 * k * to_stride, t.to + 2 * k, 2 * sizeof(type));                        \
    }
RUN_ROW(float)
RUN_ROW(double)

static void run_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const rows *r = task;
    for (int64_t row = begin; row < end; row++)
        (r->part == FOVEA_F64 ? run_row_double
                              : run_row_float)(r, row, r->scratch + thread * r->scratch_bytes);
}

/* Bytes for one row by so many threads: its copy and its transform's, and what that takes. */
static int64_t row_bytes(const fovea_problem *problem, int threads) {
    fovea_dtype part = fovea_dtype_of_part(problem->dtype);
    int64_t m = transform_length(problem), size = (int64_t)fovea_dtype_size(part);
    int64_t copies = part == problem->dtype ? aligned(4 * m * size) : 0;
    return copies + aligned(fft_scratch(m, part, threads) * size);
}

static bool shares_rows(const fovea_problem *problem) {
    return transform_length(problem) < SHARED_ROW;
}

static size_t fft_workspace(const fovea_problem *problem, int threads) {
    bool outside = shares_rows(problem);
    return (size_t)((outside ? threads : 1) * row_bytes(problem, outside ? 1 : threads));
}

/* Many short rows are taken as lanes, a vector of them at a time. */
#define SHORT_ROWS(type)                                                                           \
    static void short_rows_##type(const rows *r) {                                                 \
        const fovea_view *x = r->from, *y = r->to;                                                 \
        bool even = x->rank > 1;                                                                   \
        int64_t inner = even ? x->shape[x->rank - 2] : 1;                                          \
        for (int64_t row = 0; row < r->count; row += inner) {                                      \
            fft_task_##type t = {.plan = r->plan,                                                  \
                                 .from = (const type *)(const void *)row_of(x, row),               \
                                 .to = (type *)(void *)row_of(y, row),                             \
                                 .stride = stride_of(x),                                           \
                                 .to_stride = stride_of(y),                                        \
                                 .inverse = r->inverse,                                            \
                                 .scale = (type)(r->inverse ? 1 / (double)r->n : 1),               \
                                 .lines = (type *)(void *)r->scratch};                             \
            fft_short_rows_##type(&t, inner, even ? x->stride[x->rank - 2] : 0,                    \
                                  even ? y->stride[y->rank - 2] : 0);                              \
        }                                                                                          \
    }
SHORT_ROWS(float)
SHORT_ROWS(double)

static fovea_status transform_rows(const fovea_problem *problem, fovea_run *run, int only,
                                   bool inverse) {
    const fovea_view *x = &problem->views[0];
    rows r = {.from = x,
              .to = &problem->views[1],
              .part = fovea_dtype_of_part(problem->dtype),
              .n = length_of(x),
              .count = fovea_view_elements(x) / length_of(x),
              .inverse = inverse,
              .threads = 1,
              .scratch = run->workspace};
    int allowed = run->threads;
    int64_t m = transform_length(problem);
    r.widened = r.part == problem->dtype && m == r.n, r.halved = m != r.n;
    run->threads = 1;
    if (r.count == 0) return FOVEA_OK;
    r.plan = fft_find_plan(run, m, only, r.halved, r.part, run->workspace);
    if (!r.plan) return FOVEA_OUT_OF_MEMORY;
    if (!r.plan->circle && r.plan->second.n == 0 && !r.widened && !r.halved && r.count > 1) {
        (r.part == FOVEA_F64 ? short_rows_double : short_rows_float)(&r);
        return FOVEA_OK;
    }
    if (shares_rows(problem)) {
        run->threads = fovea_useful_threads(r.count, r.count * fft_work(m, r.part), allowed);
        r.scratch_bytes = row_bytes(problem, 1);
        fovea_share(r.count, run->threads, run_rows, &r);
    } else {
        r.threads = run->threads = fovea_useful_threads(m, fft_work(m, r.part), allowed);
        run_rows(&r, 0, r.count, 0);
    }
    return FOVEA_OK;
}

static fovea_status fft(const fovea_problem *problem, fovea_run *run) {
    static const int radices[] = {
        [FOVEA_FFT_RADIX_MIXED] = 0, [FOVEA_FFT_RADIX_TWO] = 2, [FOVEA_FFT_RADIX_FOUR] = 4};
    const fovea_fft_options *options = problem->options;
    return transform_rows(problem, run, radices[options->radix],
                          options->direction == FOVEA_FFT_DIRECTION_INVERSE);
}

static fovea_status fft_real(const fovea_problem *problem, fovea_run *run) {
    return transform_rows(problem, run, 0, false);
}

/* ---- Power ---------------------------------------------------------------------------------- */

typedef struct power_task {
    fovea_view from, to;
    int64_t pieces, length;
    bool stream; /* `to` past the caches */
} power_task;

enum { POWER_PIECE = 1 << 13 };

#define POWER(type, vector, width)                                                                 \
    static void power_##type(const type *z, int64_t stride, type *p, int64_t to_stride, int64_t n, \
                             bool stream) {                                                        \
        int64_t i = 0;                                                                             \
        for (; stride == 1 && to_stride == 1 && i + width <= n; i += width) {                      \
            vector re, im;                                                                         \
            V_OF(vector, deinterleave)                                                             \
            (V_OF(vector, load)(z + 2 * i), V_OF(vector, load)(z + 2 * i + width), &re, &im);      \
            vector power = V_OF(vector, fma)(re, re, V_OF(vector, mul)(im, im));                   \
            if (stream)                                                                            \
                V_OF(vector, stream)(p + i, power);                                                \
            else                                                                                   \
                V_OF(vector, store)(p + i, power);                                                 \
        }                                                                                          \
        for (; i < n; i++) {                                                                       \
            type re = z[2 * i * stride], im = z[2 * i * stride + 1];                               \
            p[i * to_stride] = re * re + im * im;                                                  \
        }                                                                                          \
    }
#define V_OF(vector, operation) vector##_##operation
POWER(float, vf, VF_WIDTH)
POWER(double, vd, VD_WIDTH)

static void power_pieces(const void *task, int64_t begin, int64_t end, int thread) {
    const power_task *t = task;
    (void)thread;
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t per_row = divide_up(t->length, POWER_PIECE), first = piece % per_row * POWER_PIECE;
        int64_t at = piece / per_row * t->length + first,
                n = smaller(POWER_PIECE, t->length - first);
        void *z = fovea_view_address(&t->from, at), *p = fovea_view_address(&t->to, at);
        bool stream = t->stream && (uintptr_t)p % VF_BYTES == 0;
        if (t->to.dtype == FOVEA_F64)
            power_double(z, stride_of(&t->from), p, stride_of(&t->to), n, stream);
        else
            power_float(z, stride_of(&t->from), p, stride_of(&t->to), n, stream);
    }
    if (t->stream) vf_stream_fence();
}

static fovea_status spectral_power(const fovea_problem *problem, fovea_run *run) {
    power_task t = {.from = problem->views[0], .to = problem->views[1]};
    int64_t elements = fovea_view_elements(&t.from);
    int allowed = run->threads;
    run->threads = 1;
    if (elements == 0) return FOVEA_OK;
    fovea_views_collapse((fovea_view *[]){&t.from, &t.to}, 2);
    t.length = length_of(&t.from);
    t.pieces = elements / t.length * divide_up(t.length, POWER_PIECE);
    int64_t bytes = elements * 3 * (int64_t)fovea_dtype_size(t.to.dtype);
    run->threads = fovea_useful_threads(t.pieces, bytes, allowed);
    t.stream = fovea_worth_streaming(bytes, run->threads);
    fovea_share(t.pieces, run->threads, power_pieces, &t);
    return FOVEA_OK;
}

const fovea_implementation FOVEA_TIERED(fovea_cpu_fft)[] = {
    {"fft", FOVEA_CPU_NAME("split"), COMPLEX, FOVEA_TIER_HERE, .workspace = fft_workspace,
     .run = fft},
    {"fft_real", FOVEA_CPU_NAME("split"), REAL, FOVEA_TIER_HERE, .workspace = fft_workspace,
     .run = fft_real},
    {"spectral_power", FOVEA_CPU_NAME("direct"), COMPLEX, FOVEA_TIER_HERE, .run = spectral_power},
    {0}};
