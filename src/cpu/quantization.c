/* Domain 17, quantization: conversions to narrower types and back. Codes x/scale are x times the
 * reciprocal of the scale, which is off by 127 * 2^-23 at most, where 2^-14 is allowed. By tensor the
 * largest magnitude is a pass of its own; rows and groups are read once, in blocks that stay in the
 * first-level cache. */
#include "catalogue/network.h"
#include "cpu/fold.h"
#include "cpu/map.h"
#include "cpu/rows.h"

/* The store rounds. */
FOVEA_INLINE vf identity(vf a, vf b, vf c, float p, float q) {
    (void)b, (void)c, (void)p, (void)q;
    return a;
}

MAP(to_f16, identity, 1, FOVEA_F32, FOVEA_F16)
MAP(to_bf16, identity, 1, FOVEA_F32, FOVEA_BF16)

static fovea_status quantize_f32_to_f16(const fovea_problem *problem, fovea_run *run) {
    const float none[2] = {0, 0};
    bool half = problem->views[1].dtype == FOVEA_F16;
    return map_call(problem, run, half ? to_f16 : to_bf16, 1, none, 6);
}

/* ---- Scales --------------------------------------------------------------------------------- */

/* The largest magnitude of elements; NaN if there is one. */
FOVEA_INLINE float largest_of(fovea_dtype dtype, const void *x, int64_t n) {
    enum { W = VF_WIDTH };
    vf largest[4];
    vm nan = vm_first(0);
    int64_t i = 0;
    VF_UNROLLED for (int k = 0; k < 4; k++) largest[k] = vf_set1(0);
    for (; i + 4 * W <= n; i += 4 * W) {
        vf a[4];
        fetch_float(fovea_fetches_near, dtype, x, i, 4 * W);
        VF_UNROLLED for (int k = 0; k < 4; k++) a[k] = vf_abs(vf_load_as(dtype, x, i + k * W));
        VF_UNROLLED for (int k = 0; k < 4; k++) largest[k] = vf_max(a[k], largest[k]);
        nan = vm_or(nan, vm_or(vf_unordered(a[0], a[1]), vf_unordered(a[2], a[3])));
    }
    for (; i < n; i += W) {
        vf a = vf_abs(vf_load_n_as(dtype, x, i, smaller(W, n - i)));
        largest[0] = vf_max(a, largest[0]);
        nan = vm_or(nan, vf_unordered(a, a));
    }
    if (vm_any(nan)) return NAN;
    return vf_reduce_max(vf_max(vf_max(largest[0], largest[1]), vf_max(largest[2], largest[3])));
}

static float scale_of(float largest) {
    float scale = largest / 127;
    if (!isfinite(scale)) return NAN;
    return largest / 127.0 < 0x1p-126 ? 0 : scale;
}
/* What makes codes; 0 where all of them are. */
static float factor_of(float scale) { return scale > 0 ? 1 / scale : 0; }

/* A block without a scale may hold anything; its codes are 0. */
FOVEA_INLINE vi code_of(vf x, vf factor) {
    vf code = vf_min(vf_set1(127), vf_max(vf_set1(-127), vf_mul(x, factor)));
    return vi_from_vf(vf_select(vf_eq(factor, vf_set1(0)), vf_set1(0), code));
}

enum { CODE_LINE = 64, CODE_BLOCK = 1024 };

FOVEA_INLINE void store_codes(fovea_dtype dtype, const float *c, char *const at[], int64_t n) {
    enum { W = VF_WIDTH };
    const vf factor = vf_set1(c[0]);
    uint8_t *to = (uint8_t *)at[0];
    int64_t i = 0;
    for (; i + W <= n; i += W) {
        fetch_float(fovea_fetches_near, dtype, at[1], i, W);
        vi_store_u8_n(to + i, code_of(vf_load_as(dtype, at[1], i), factor), W);
    }
    if (i == n) return;
    vf rest = vf_load_n_as(dtype, at[1], i, n - i);
    vi_store_u8_n(to + i, code_of(rest, factor), (size_t)(n - i));
}

/* The same past the caches: codes are gathered in a block and written by whole lines, as floats. Written as they
 * arise, each line was read first. */
static void put_codes(const uint8_t *from, int64_t lines, char *to) {
    const float *words = (const float *)(const void *)from;
    float *y = (float *)(void *)to;
    for (int64_t i = 0; i < lines * CODE_LINE / 4; i += VF_WIDTH)
        vf_stream(y + i, vf_load(words + i));
}
FOVEA_INLINE void stream_codes(fovea_dtype dtype, const float *c, char *const at[], int64_t n) {
    _Alignas(CODE_LINE) uint8_t block[CODE_BLOCK];
    const int64_t size = (int64_t)fovea_dtype_size(dtype);
    int64_t head = smaller((int64_t)(-(uintptr_t)at[0] % CODE_LINE), n), i = 0;
    while (i < n) {
        int64_t count = i < head ? head : smaller(CODE_BLOCK, n - i), lines = count / CODE_LINE;
        bool whole = i >= head && lines > 0;
        if (whole) count = lines * CODE_LINE;
        char *const to[] = {whole ? (char *)block : at[0] + i, at[1] + i * size};
        store_codes(dtype, c, to, count);
        if (whole) put_codes(block, lines, at[0] + i);
        i += count;
    }
    vf_stream_fence();
}

#define CODES(type, dtype)                                                                         \
    static void codes_past_##type(const float *c, char *const at[], int64_t n, bool stream) {      \
        (void)stream;                                                                              \
        stream_codes(dtype, c, at, n);                                                             \
    }                                                                                              \
    static void codes_##type(const float *c, char *const at[], int64_t n, bool stream) {           \
        (void)stream;                                                                              \
        store_codes(dtype, c, at, n);                                                              \
    }                                                                                              \
    static void largest_##type(double p, const void *x, const void *w, int64_t at, int64_t n,      \
                               fold *f) {                                                          \
        (void)p, (void)w, (void)at;                                                                \
        f->value[0] = (double)largest_of(dtype, x, n);                                             \
    }
CODES(f32, FOVEA_F32)
CODES(f16, FOVEA_F16)
CODES(bf16, FOVEA_BF16)
static map_function *const codes[] = {
    [FOVEA_F32] = codes_f32, [FOVEA_F16] = codes_f16, [FOVEA_BF16] = codes_bf16};
static map_function *const codes_past[] = {
    [FOVEA_F32] = codes_past_f32, [FOVEA_F16] = codes_past_f16, [FOVEA_BF16] = codes_past_bf16};
static fold_run *const largest[] = {
    [FOVEA_F32] = largest_f32, [FOVEA_F16] = largest_f16, [FOVEA_BF16] = largest_bf16};

static void join_largest(fold *left, const fold *right) {
    double a = left->value[0], b = right->value[0];
    if (!isnan(a) && !(b <= a)) left->value[0] = b;
}
static double finish_scale(double p, const fold *f) {
    return (void)p, (double)scale_of((float)f->value[0]);
}

/* ---- One scale ------------------------------------------------------------------------------ */

static fovea_status quantise_tensor(const fovea_problem *problem, fovea_run *run) {
    fovea_problem reduction = *problem; /* of x to the scale alone */
    int allowed = run->threads;
    fold_plan plan = {.method = {largest[problem->dtype], join_largest, finish_scale, {0}},
                      .inputs = 1};
    reduction.present = 1u | 1u << 2;
    reduction.views[2].rank = 0;
    fovea_status status = fold_call(&reduction, run, -1, &plan);
    float scale = *(const float *)(const void *)problem->views[2].data;
    const float constants[2] = {factor_of(scale), 0};
    int64_t bytes = fovea_view_elements(&problem->views[0]) *
                    (int64_t)(fovea_dtype_size(problem->dtype) + fovea_dtype_size(FOVEA_I8));
    bool past = VF_WIDTH > 1 && fovea_worth_streaming(bytes, allowed);
    map_plan pass = {.function = (past ? codes_past : codes)[problem->dtype],
                     .constants = constants,
                     .operands = 2,
                     .read = ~1u,
                     .written = 1u,
                     .views = {problem->views[1], problem->views[0]}};
    if (status != FOVEA_OK) return status;
    run->threads = allowed;
    return map_start(&pass, run, 4);
}

/* ---- Scales of rows and groups -------------------------------------------------------------- */

enum { PIECE = 2048 };

typedef struct block_plan {
    fovea_quantization sizes;
    fovea_dtype dtype;
    rows_side wide, narrow, scale; /* x or y; q; scales of a row side by side, or one */
} block_plan;

static char *element_at(const rows_side *side, char *row, int64_t i) {
    return row + i * side->step * (int64_t)fovea_dtype_size(side->rows.dtype);
}

/* The codes of n elements, contiguous or not. */
static void write_codes(const block_plan *plan, const float *x, int64_t n, float factor, char *to) {
    uint8_t block[PIECE];
    bool direct = plan->narrow.step == 1;
    char *const at[] = {direct ? to : (char *)block, (char *)(uintptr_t)x};
    store_codes(FOVEA_F32, &factor, at, n);
    for (int64_t i = 0; i < n && !direct; i++) to[i * plan->narrow.step] = (char)block[i];
}

static void quantise_row(const block_plan *plan, int64_t row, float *scratch) {
    char *x = rows_address(&plan->wide.rows, row), *q = rows_address(&plan->narrow.rows, row);
    char *scales = rows_address(&plan->scale.rows, row);
    int64_t columns = plan->sizes.columns, block = plan->sizes.block;
    for (int64_t first = 0, number = 0; first < columns; first += block, number++) {
        int64_t end = smaller(columns, first + block);
        float magnitude = 0;
        const float *piece = NULL;
        for (int64_t i = first; i < end; i += PIECE) {
            int64_t n = smaller(PIECE, end - i);
            piece =
                rows_load(plan->dtype, element_at(&plan->wide, x, i), plan->wide.step, n, scratch);
            float here = largest_of(FOVEA_F32, piece, n);
            if (!isnan(magnitude) && !(here <= magnitude)) magnitude = here;
        }
        float scale = scale_of(magnitude), factor = factor_of(scale);
        *(float *)(void *)element_at(&plan->scale, scales, number) = scale;
        for (int64_t i = first; i < end; i += PIECE) {
            int64_t n = smaller(PIECE, end - i);
            if (end - first > PIECE)
                piece = rows_load(plan->dtype, element_at(&plan->wide, x, i), plan->wide.step, n,
                                  scratch);
            write_codes(plan, piece, n, factor, element_at(&plan->narrow, q, i));
        }
    }
}

static void quantise_rows(const void *task, int64_t begin, int64_t end, int thread) {
    _Alignas(64) float scratch[PIECE];
    (void)thread;
    for (int64_t row = begin; row < end; row++) quantise_row(task, row, scratch);
}

/* n codes times a scale, to y. */
FOVEA_INLINE void widen_codes(fovea_dtype dtype, const uint8_t *q, float scale, int64_t n,
                              void *y) {
    const vf factor = vf_set1(scale);
    int64_t i = 0;
    for (; i + VF_WIDTH <= n; i += VF_WIDTH)
        vf_store_as(dtype, y, i, vf_mul(vf_load_i8(q + i), factor));
    if (i == n) return;
    vf rest = vf_mul(vf_load_i8_n(q + i, (size_t)(n - i)), factor);
    vf_store_n_as(dtype, y, i, rest, n - i);
}

static void dequantise_piece(const block_plan *plan, const char *q, float scale, int64_t n,
                             char *y) {
    uint8_t block[PIECE];
    float wide[PIECE];
    const uint8_t *codes_here = (const uint8_t *)q;
    if (plan->narrow.step != 1) {
        for (int64_t i = 0; i < n; i++) block[i] = (uint8_t)q[i * plan->narrow.step];
        codes_here = block;
    }
    if (plan->wide.step != 1) {
        widen_codes(FOVEA_F32, codes_here, scale, n, wide);
        rows_scatter(plan->dtype, wide, n, y, plan->wide.step);
    } else if (plan->dtype == FOVEA_F16) {
        widen_codes(FOVEA_F16, codes_here, scale, n, y);
    } else if (plan->dtype == FOVEA_BF16) {
        widen_codes(FOVEA_BF16, codes_here, scale, n, y);
    } else {
        widen_codes(FOVEA_F32, codes_here, scale, n, y);
    }
}

static void dequantise_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const block_plan *plan = task;
    int64_t columns = plan->sizes.columns, block = plan->sizes.block;
    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        char *y = rows_address(&plan->wide.rows, row), *q = rows_address(&plan->narrow.rows, row);
        char *scales = rows_address(&plan->scale.rows, row);
        for (int64_t first = 0, number = 0; first < columns; first += block, number++) {
            float scale = *(const float *)(const void *)element_at(&plan->scale, scales, number);
            int64_t last = smaller(columns, first + block);
            for (int64_t i = first; i < last; i += PIECE)
                dequantise_piece(plan, element_at(&plan->narrow, q, i), scale,
                                 smaller(PIECE, last - i), element_at(&plan->wide, y, i));
        }
    }
}

/* A scale a row, as a side whose last axis has one element. */
static rows_side scale_side(const fovea_view *scale, bool groups) {
    fovea_view view = *scale;
    if (!groups) view.shape[view.rank] = 1, view.stride[view.rank++] = 1;
    return rows_make_side(&view);
}

static fovea_status run_blocks(const fovea_problem *problem, fovea_run *run, int wide, int narrow,
                               int scale, fovea_pieces_function *rows) {
    block_plan plan = {.sizes = fovea_quantization_describe(problem),
                       .dtype = problem->views[wide].dtype,
                       .wide = rows_make_side(&problem->views[wide]),
                       .narrow = rows_make_side(&problem->views[narrow])};
    int64_t count = plan.sizes.rows;
    int allowed = run->threads;
    run->threads = 1;
    bool groups = problem->views[scale].rank == problem->views[wide].rank;
    if (plan.sizes.columns == 0 || count == 0) { /* rows of nothing have the scale 0 */
        int64_t scales = fovea_view_elements(&problem->views[scale]);
        for (int64_t i = 0; i < scales && rows == quantise_rows; i++)
            fovea_view_write(&problem->views[scale], i, 0);
        return FOVEA_OK;
    }
    plan.scale = scale_side(&problem->views[scale], groups);
    run->threads = fovea_useful_threads(count, count * plan.sizes.columns * 6, allowed);
    fovea_share(count, run->threads, rows, &plan);
    return FOVEA_OK;
}

static fovea_status quantize_f16_to_i8(const fovea_problem *problem, fovea_run *run) {
    fovea_quantization sizes = fovea_quantization_describe(problem);
    if (sizes.block == 0) return quantise_tensor(problem, run);
    return run_blocks(problem, run, 0, 1, 2, quantise_rows);
}

FOVEA_INLINE vf times(vf a, vf b, vf c, float p, float q) {
    (void)b, (void)c, (void)q;
    return vf_mul(a, vf_set1(p));
}
MAP(from_codes_f32, times, 1, FOVEA_I8, FOVEA_F32)
MAP(from_codes_f16, times, 1, FOVEA_I8, FOVEA_F16)
MAP(from_codes_bf16, times, 1, FOVEA_I8, FOVEA_BF16)

static fovea_status dequantize_i8_to_f16(const fovea_problem *problem, fovea_run *run) {
    static map_function *const functions[] = {
        [FOVEA_F32] = from_codes_f32, [FOVEA_F16] = from_codes_f16, [FOVEA_BF16] = from_codes_bf16};
    fovea_quantization sizes = fovea_quantization_describe(problem);
    if (sizes.block) return run_blocks(problem, run, 2, 0, 1, dequantise_rows);
    const float scale[2] = {*(const float *)(const void *)problem->views[1].data, 0};
    map_plan plan = {.function = functions[problem->dtype],
                     .constants = scale,
                     .operands = 2,
                     .read = ~1u,
                     .written = 1u,
                     .views = {problem->views[2], problem->views[0]}};
    return map_start(&plan, run, 4);
}

const fovea_implementation FOVEA_TIERED(fovea_cpu_quantization)[] = {
    {"quantize_f32_to_f16", FOVEA_CPU_NAME("direct"), 1u << FOVEA_F32, FOVEA_TIER_HERE,
     .run = quantize_f32_to_f16},
    {"quantize_f16_to_i8", FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE,
     .run = quantize_f16_to_i8},
    {"dequantize_i8_to_f16", FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE,
     .run = dequantize_i8_to_f16},
    {0}};
