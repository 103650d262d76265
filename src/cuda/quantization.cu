/* Domain 17, quantization: conversions to narrower types and back. Codes x/scale are x times the
 * reciprocal of the scale, which is off by 127 * 2^-22 at most, where 2^-14 is allowed. By tensor the
 * largest magnitude is a pass of its own; rows and groups are read once. */
#include "cuda/fold_map.cuh"
#include "cuda/network.cuh"
#include "cuda/rows.cuh"

#include <math.h>

MAP_FUNCTION(convert, a)

static fovea_status quantize_f32_to_f16(const fovea_problem *problem, fovea_run *run) {
    if (problem->views[1].dtype == FOVEA_F16)
        return map_run<float, __half, 1>(problem, run, convert_function{});
    return map_run<float, __nv_bfloat16, 1>(problem, run, convert_function{});
}

/* ---- Scales --------------------------------------------------------------------------------- */

/* largest / 127, correctly rounded where it is a normal number: by the reciprocal, and what that leaves. */
static __device__ __forceinline__ float scale_of(float largest) {
    const float part = 1.0f / 127, guess = largest * part;
    const float scale = fmaf(fmaf(-guess, 127.0f, largest), part, guess);
    if (!isfinite(scale)) return NAN;
    return largest < 127 * 0x1p-126f ? 0 : scale;
}
/* What makes codes; 0 where all of them are. */
static __device__ __forceinline__ float factor_of(float scale) {
    return scale > 0 ? quick_reciprocal(scale) : 0;
}
/* Not rounded yet; 127 is passed by some ULP at most. A block without a scale may hold anything; its codes
 * are 0. */
static __device__ __forceinline__ float code_of(float x, float factor) {
    return factor == 0 ? 0 : x * factor;
}

template <class T>
struct scale_method {
    using element = T;
    using other = T;
    using output = float;
    using second = float;
    using state = float;
    static constexpr int inputs = 1;

    static __device__ __forceinline__ state empty() { return 0; }
    __device__ __forceinline__ void begin(const T *, const T *) {}
    template <int n, int run>
    __device__ __forceinline__ void take(state &most, const T *x, const T *, int64_t,
                                         int64_t) const {
#pragma unroll
        for (int i = 0; i < n; i++) most = max_or_nan(most, fabsf(widen(x[i])));
    }
    static __device__ __forceinline__ state join(state a, state b) { return max_or_nan(a, b); }
    __device__ __forceinline__ void finish(state most, int64_t, float *scale, float *) const {
        *scale = scale_of(most);
    }
};

/* Of one block, by the bits of magnitudes, in whose order NaN is the greatest. */
template <class T>
struct brief_scale : scale_method<T> {
    using state = unsigned;
    static __device__ __forceinline__ state empty() { return 0; }
    template <int n, int run>
    __device__ __forceinline__ void take(state &most, const T *x, const T *, int64_t,
                                         int64_t) const {
#pragma unroll
        for (int i = 0; i < n; i++) most = max(most, without_sign(__float_as_uint(widen(x[i]))));
    }
    static __device__ __forceinline__ state join(state a, state b) { return max(a, b); }
    static __device__ __forceinline__ state over_warp(state most) {
        return __reduce_max_sync(0xffffffffu, most);
    }
    __device__ __forceinline__ void finish(state most, int64_t, float *scale, float *) const {
        *scale = scale_of(__uint_as_float(most));
    }
};
template <class T>
static brief_scale<T> brief_of(const scale_method<T> &, int64_t) {
    return {};
}

struct code_function {
    const float *number;
    float factor;
    __device__ __forceinline__ void prepare() { factor = factor_of(*number); }
    __device__ __forceinline__ void operator()(const float (&x)[1], float (&y)[1]) const {
        y[0] = code_of(x[0], factor);
    }
};

/* The third tensor of the rows holds the scales. */
struct code_job {
    static constexpr float pad = 0;
    static constexpr row_needs needs = {64, 0, false, false, false};
    float *scales;

    template <class Row, class O>
    __device__ __forceinline__ void operator()(Row &row, O *q, int64_t at, int64_t) const {
        row_ask(row);
        const float scale = scale_of(row.largest()), factor = factor_of(scale);
        if (row.leads()) scales[at] = scale;
        row.store(
            q, [](float x) { return x; },
            [=](auto &values, int64_t) {
                for (float &x : values) x = code_of(x, factor);
            });
    }
};

/* Columns [first, first + count) of a view with rows, in blocks of `block`: dimensions of the rows and of
 * the blocks; and of the columns of one. */
static void split_blocks(const fovea_view &view, int64_t first, int64_t count, int64_t block,
                         fovea_view *rows, fovea_view *line) {
    int last = view.rank - 1;
    *rows = *line = view;
    rows->data += first * view.stride[last] * (int64_t)fovea_dtype_size(view.dtype);
    rows->shape[last] = count / block, rows->stride[last] = view.stride[last] * block;
    line->rank = 1, line->shape[0] = block, line->stride[0] = view.stride[last];
}

/* Scales of the blocks that begin with number `first`. */
static fovea_view scales_of(const fovea_view &scale, bool groups, int64_t first, int64_t count) {
    fovea_view view = scale;
    if (!groups) view.stride[view.rank++] = 0;
    int last = view.rank - 1;
    view.shape[last] = count;
    view.data += first * view.stride[last] * (int64_t)sizeof(float);
    return view;
}

/* f(blocks of x, y and scales, columns of x and y) for the whole blocks of all rows, then the short ones. */
template <class F>
static fovea_status each_block(const fovea_quantization &sizes, const fovea_view &x,
                               const fovea_view &y, const fovea_view &scale, F function) {
    bool groups = scale.rank == x.rank;
    int64_t whole = sizes.columns / sizes.block, short_one = sizes.columns % sizes.block;
    for (int part = 0; part < 2; part++) {
        int64_t first = part ? whole * sizes.block : 0, block = part ? short_one : sizes.block;
        int64_t blocks = part ? short_one > 0 : whole;
        if (blocks == 0) continue;
        fovea_view rows[3], lines[2];
        split_blocks(x, first, blocks * block, block, &rows[0], &lines[0]);
        split_blocks(y, first, blocks * block, block, &rows[1], &lines[1]);
        rows[2] = scales_of(scale, groups, part ? whole : 0, blocks);
        fovea_status status = function(rows, lines);
        if (status != FOVEA_OK) return status;
    }
    return FOVEA_OK;
}

MAP_FUNCTION(clear, 0)

/* Rows without elements have the scale 0. */
static fovea_status clear_scales(const fovea_view &scale, fovea_run *run) {
    const fovea_view *const views[] = {&scale, &scale};
    return map_views<float, float, 1, 1>(views, run, clear_function{});
}

static fovea_status quantize_f16_to_i8(const fovea_problem *problem, fovea_run *run) {
    const fovea_view &x = problem->views[0], &q = problem->views[1], &scale = problem->views[2];
    fovea_quantization sizes = fovea_quantization_describe(problem);
    if (sizes.columns == 0 && sizes.block) return clear_scales(scale, run);
    return by_float(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        if (sizes.block)
            return each_block(sizes, x, q, scale, [&](auto &rows, auto &lines) {
                return rows_views<T, int8_t>(rows, lines, run, code_job{(float *)rows[2].data});
            });
        return fold_and_map<T, int8_t>(x, scale, q, run, scale_method<T>{}, code_function{});
    });
}

/* ---- Back ----------------------------------------------------------------------------------- */

struct decode_function {
    const float *scale;
    float factor;
    __device__ __forceinline__ void prepare() { factor = *scale; }
    __device__ __forceinline__ void operator()(const float (&x)[1], float (&y)[1]) const {
        y[0] = x[0] * factor;
    }
};

struct decode_job {
    static constexpr float pad = 0;
    static constexpr row_needs needs = {64, 0, false, false, false};
    const float *scales;

    template <class Row, class O>
    __device__ __forceinline__ void operator()(Row &row, O *y, int64_t at, int64_t) const {
        const float *mine = scales + at;
        if (Row::brief) mine = settled_global(mine);
        row_ask(row);
        const float scale = *mine;
        row.store(
            y, [](float x) { return x; },
            [=](auto &values, int64_t) {
                for (float &x : values) x *= scale;
            });
    }
};

static fovea_status dequantize_i8_to_f16(const fovea_problem *problem, fovea_run *run) {
    const fovea_view &q = problem->views[0], &scale = problem->views[1], &y = problem->views[2];
    fovea_quantization sizes = fovea_quantization_describe(problem);
    if (sizes.columns == 0 || sizes.rows == 0) return FOVEA_OK;
    return by_float(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        if (sizes.block)
            return each_block(sizes, q, y, scale, [&](auto &rows, auto &lines) {
                return rows_views<int8_t, T>(rows, lines, run,
                                             decode_job{(const float *)rows[2].data});
            });
        const fovea_view *const views[] = {&q, &y};
        return map_views<int8_t, T, 1, 1>(views, run,
                                          decode_function{(const float *)scale.data, 0});
    });
}

extern "C" const fovea_implementation fovea_cuda_table_quantization[] = {
    CUDA_ROW(quantize_f32_to_f16, 1u << FOVEA_F32, quantize_f32_to_f16),
    CUDA_ROW(quantize_f16_to_i8, FOVEA_FLOATS, quantize_f16_to_i8, .workspace = fold_workspace),
    CUDA_ROW(dequantize_i8_to_f16, FOVEA_FLOATS, dequantize_i8_to_f16),
    {}};
