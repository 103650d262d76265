/* kv_append: rows of new keys and values into a cache. A warp takes a row: through floats in shared
 * memory it is widened, rotated, quantised or narrowed. Definition: the manual of `kv_append`; what the
 * CPU checks beforehand, positions and pages, is known here alone, and a token that would go outside
 * of the cache is left out. */
#include "cuda/attention/append.h"
#include "cuda/kernel.cuh"

#include <math.h>
#include <stdio.h>

enum { ROW_MAX = 512, WARPS = 4 };

/* Axes are [B or pages, Hkv, S, D]; strides in elements. */
struct append_tensor {
    char *data;
    fovea_dtype dtype;
    int64_t stride[4];
};

struct append_side {
    append_tensor from, cache, scale; /* scale.data NULL: there is none */
    int size, group;
    bool rotated, in_fours; /* in_fours: four elements are read and written at a time */
};

struct append_task {
    append_side sides[2];
    const int32_t *positions, *table;
    int64_t positions_stride[2], table_stride[2];
    const float *cos, *sin; /* NULL: by log2_base and offset */
    int64_t cos_stride[2], sin_stride[2], angles;
    double log2_base, offset;
    int batch, heads, tokens, page_size, pages, max_pages;
    int64_t places; /* of a sequence */
    bool absmax, interleaved;
};

/* ---- A row ---------------------------------------------------------------------------------- */

static __device__ float element_at(const append_tensor &t, int64_t at) {
    switch (t.dtype) {
    case FOVEA_F16:
        return widen(((const __half *)t.data)[at]);
    case FOVEA_BF16:
        return widen(((const __nv_bfloat16 *)t.data)[at]);
    default:
        return ((const float *)t.data)[at];
    }
}

static __device__ void store_element(const append_tensor &t, int64_t at, float x) {
    switch (t.dtype) {
    case FOVEA_F16:
        ((__half *)t.data)[at] = narrow<__half>(x);
        break;
    case FOVEA_BF16:
        ((__nv_bfloat16 *)t.data)[at] = narrow<__nv_bfloat16>(x);
        break;
    default:
        ((float *)t.data)[at] = x;
    }
}

template <class T>
static __device__ float4 four_of(const pack<T, 4> &x) {
    return make_float4(widen(x.at[0]), widen(x.at[1]), widen(x.at[2]), widen(x.at[3]));
}

static __device__ float4 four_at(const append_tensor &t, int64_t at) {
    switch (t.dtype) {
    case FOVEA_F16:
        return four_of(*(const pack<__half, 4> *)((const __half *)t.data + at));
    case FOVEA_BF16:
        return four_of(*(const pack<__nv_bfloat16, 4> *)((const __nv_bfloat16 *)t.data + at));
    default:
        return *(const float4 *)((const float *)t.data + at);
    }
}

template <class T>
static __device__ void store_four_of(const append_tensor &t, int64_t at, float4 x) {
    pack<T, 4> four = {{narrow<T>(x.x), narrow<T>(x.y), narrow<T>(x.z), narrow<T>(x.w)}};
    *(pack<T, 4> *)((T *)t.data + at) = four;
}

static __device__ void store_four(const append_tensor &t, int64_t at, float4 x) {
    switch (t.dtype) {
    case FOVEA_F16:
        return store_four_of<__half>(t, at, x);
    case FOVEA_BF16:
        return store_four_of<__nv_bfloat16>(t, at, x);
    default:
        return store_four_of<float>(t, at, x);
    }
}

/* Cosine and sine of pair j at a position: position times frequency in turns and in double, so that
 * reducing to the nearest quarter is exact. */
static __device__ float2 angle_of(const append_task &task, int pairs, int64_t position, int j) {
    if (task.cos)
        return make_float2(task.cos[position * task.cos_stride[0] + j * task.cos_stride[1]],
                           task.sin[position * task.sin_stride[0] + j * task.sin_stride[1]]);
    double frequency = exp2(-(double)j / pairs * task.log2_base) * 0.15915494309189533577;
    double quarters = 4 * (((double)position + task.offset) * frequency);
    double nearest = rint(quarters);
    float sine, cosine, rest = (float)(0.5 * (quarters - nearest)); /* of a half turn */
    if (!(fabs(quarters) < 0x1p50)) return make_float2(NAN, NAN);
    sincospif(rest, &sine, &cosine);
    switch ((int)((int64_t)nearest & 3)) {
    case 0:
        return make_float2(cosine, sine);
    case 1:
        return make_float2(-sine, cosine);
    case 2:
        return make_float2(-cosine, -sine);
    default:
        return make_float2(sine, -cosine);
    }
}

static __device__ void rotate(const append_task &task, float *x, int size, int64_t position,
                              int lane) {
    int pairs = size / 2;
    for (int j = lane; j < pairs; j += 32) {
        int first = task.interleaved ? 2 * j : j, second = task.interleaved ? 2 * j + 1 : j + pairs;
        float2 angle = angle_of(task, pairs, position, j);
        float a = x[first], b = x[second];
        x[first] = fmaf(a, angle.x, -(b * angle.y));
        x[second] = fmaf(a, angle.y, b * angle.x);
    }
    __syncwarp();
}

static __device__ uint8_t code_i8(float x) { return isnan(x) ? 0 : (uint8_t)(int8_t)rintf(x); }

/* The nearest e4m3 of |x| <= 448, ties to even: below 2^-6 in steps of 2^-9, else by the bits. */
static __device__ uint8_t code_e4m3(float x) {
    uint32_t bits = __float_as_uint(x);
    uint8_t sign = (uint8_t)(bits >> 24 & 0x80);
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) return sign | 0x7f;
    if (bits < 0x3c800000) return sign | (uint8_t)rintf(fabsf(x) * 0x1p9f);
    bits += 0x7ffff + (bits >> 20 & 1);
    return (uint8_t)(sign | ((bits >> 20) - (120 << 3)));
}

/* The larger magnitude; NaN if there is one. */
static __device__ float larger_magnitude(float a, float b) {
    a = fabsf(a), b = fabsf(b);
    return isnan(a) ? a : isnan(b) ? b : fmaxf(a, b);
}

static __device__ void quantise(const append_task &task, const append_side &side, const float *x,
                                int64_t scale_row, int64_t cache_row, int lane) {
    bool integers = side.cache.dtype == FOVEA_I8;
    float limit = integers ? 127.0f : 448.0f;
    float *scales = (float *)side.scale.data;
    for (int first = 0, number = 0; first < side.size; first += side.group, number++) {
        int64_t at = scale_row + number * side.scale.stride[3];
        float scale = 1;
        if (task.absmax) {
            float largest = 0;
            for (int d = lane; d < side.group; d += 32)
                largest = larger_magnitude(largest, x[first + d]);
            scale = reduce_warp(largest, larger_magnitude) / limit;
            if (lane == 0) scales[at] = scale;
        } else if (scales) {
            scale = scales[at];
        }
        bool none = task.absmax && (scale == 0 || !isfinite(scale));
        auto code_of = [&](float value) -> uint8_t {
            float code = value / scale;
            if (!isnan(code)) code = fminf(limit, fmaxf(-limit, code));
            return none ? 0 : integers ? code_i8(code) : code_e4m3(code);
        };
        if (side.in_fours && side.group % 4 == 0)
            for (int d = first + 4 * lane; d < first + side.group; d += 128) {
                uint32_t codes = code_of(x[d]) | code_of(x[d + 1]) << 8 | code_of(x[d + 2]) << 16 |
                                 (uint32_t)code_of(x[d + 3]) << 24;
                *(uint32_t *)(side.cache.data + cache_row + d) = codes;
            }
        else
            for (int d = lane; d < side.group; d += 32)
                side.cache.data[cache_row + (first + d) * side.cache.stride[3]] =
                    (char)code_of(x[first + d]);
    }
}

/* ---- The kernel ----------------------------------------------------------------------------- */

static __global__ __launch_bounds__(WARPS *
                                    32) void append_rows(const __grid_constant__ append_task task) {
    __shared__ __align__(16) float rows[WARPS][ROW_MAX];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int64_t number = (int64_t)blockIdx.x * WARPS + warp;
    const append_side &side = task.sides[number & 1];
    uint32_t row = (uint32_t)(number >> 1); /* [batch, tokens, heads] */
    int head = (int)(row % task.heads), token = (int)(row / task.heads % task.tokens);
    int batch = (int)(row / task.heads / task.tokens);
    if (batch >= task.batch) return;
    int64_t position =
        task.positions[batch * task.positions_stride[0] + token * task.positions_stride[1]];
    int64_t outer = batch, place = position;
    if (position < 0 || position >= task.places) return;
    if (side.rotated && task.cos && position >= task.angles) return;
    if (task.table) {
        outer = task.table[batch * task.table_stride[0] +
                           position / task.page_size * task.table_stride[1]];
        if (outer < 0 || outer >= task.pages) return;
        place = position % task.page_size;
    }
    float *x = rows[warp];
    int64_t from =
        batch * side.from.stride[0] + head * side.from.stride[1] + token * side.from.stride[2];
    int64_t to =
        outer * side.cache.stride[0] + head * side.cache.stride[1] + place * side.cache.stride[2];
    if (side.in_fours)
        for (int d = 4 * lane; d < side.size; d += 128)
            *(float4 *)(x + d) = four_at(side.from, from + d);
    else
        for (int d = lane; d < side.size; d += 32)
            x[d] = element_at(side.from, from + d * side.from.stride[3]);
    __syncwarp();
    if (side.rotated) rotate(task, x, side.size, position, lane);
    if (side.cache.dtype == FOVEA_I8 || side.cache.dtype == FOVEA_E4M3) {
        int64_t scale = outer * side.scale.stride[0] + head * side.scale.stride[1] +
                        place * side.scale.stride[2];
        quantise(task, side, x, scale, to, lane);
    } else if (side.in_fours) {
        for (int d = 4 * lane; d < side.size; d += 128)
            store_four(side.cache, to + d, *(const float4 *)(x + d));
    } else {
        for (int d = lane; d < side.size; d += 32)
            store_element(side.cache, to + d * side.cache.stride[3], x[d]);
    }
}

/* ---- On the host ---------------------------------------------------------------------------- */

static append_tensor tensor_of(const fovea_view &view) {
    append_tensor t = {view.data, view.dtype, {0, 0, 0, 0}};
    for (int i = 0; view.data && i < 4; i++) t.stride[i] = view.stride[i];
    return t;
}

/* Rows of whole fours that begin where four elements may be read at once. */
static bool comes_in_fours(const append_tensor &t, int64_t size) {
    bool whole =
        size % 4 == 0 && t.stride[3] == 1 && is_aligned(t.data, 4 * fovea_dtype_size(t.dtype));
    for (int i = 0; i < 3; i++) whole = whole && t.stride[i] % 4 == 0;
    return whole;
}

static append_side side_of(const fovea_append_side &side) {
    append_side s = {tensor_of(side.from),
                     tensor_of(side.cache),
                     tensor_of(side.scale),
                     (int)side.size,
                     (int)side.group,
                     side.rotated,
                     false};
    s.in_fours = comes_in_fours(s.from, side.size) && comes_in_fours(s.cache, side.size);
    return s;
}

extern "C" bool fovea_cuda_append_serves(const fovea_problem *problem, char *reason, size_t size) {
    fovea_append_call call;
    fovea_append_describe(problem, &call);
    int64_t rows = call.batch * call.tokens * call.heads, limit = INT64_C(1) << 30;
    if (call.k.size > ROW_MAX || call.v.size > ROW_MAX)
        snprintf(reason, size, "it serves rows of up to %d elements", ROW_MAX);
    else if (rows >= limit || call.batch >= limit || call.k.cache.shape[2] >= limit ||
             call.k.cache.shape[0] >= limit)
        snprintf(reason, size, "it serves fewer than 2^30 rows, and caches as long");
    else
        return true;
    return false;
}

extern "C" fovea_status fovea_cuda_append(const fovea_problem *problem, fovea_run *run) {
    fovea_append_call call;
    fovea_append_describe(problem, &call);
    append_task task = {};
    const fovea_view *views = problem->views, *positions = &views[FOVEA_APPEND_POSITIONS];
    task.sides[0] = side_of(call.k), task.sides[1] = side_of(call.v);
    task.positions = (const int32_t *)positions->data;
    memcpy(task.positions_stride, positions->stride, sizeof task.positions_stride);
    task.batch = (int)call.batch, task.heads = (int)call.heads, task.tokens = (int)call.tokens;
    task.places = call.k.cache.shape[2];
    if (call.paged) {
        const fovea_view *table = &views[FOVEA_APPEND_BLOCK_TABLE];
        task.table = (const int32_t *)table->data;
        memcpy(task.table_stride, table->stride, sizeof task.table_stride);
        task.page_size = (int)call.page_size, task.pages = (int)call.k.cache.shape[0];
        task.places = table->shape[1] * call.page_size;
    }
    if (call.cos.data) {
        task.cos = (const float *)call.cos.data, task.sin = (const float *)call.sin.data;
        memcpy(task.cos_stride, call.cos.stride, sizeof task.cos_stride);
        memcpy(task.sin_stride, call.sin.stride, sizeof task.sin_stride);
        task.angles = call.cos.shape[0];
    }
    task.log2_base = log2(call.options->base), task.offset = (double)call.options->offset;
    task.absmax = call.options->scaling == FOVEA_KV_APPEND_SCALING_ABSMAX;
    task.interleaved = call.options->rope == FOVEA_KV_APPEND_ROPE_INTERLEAVED;
    int64_t rows = 2 * call.batch * call.tokens * call.heads;
    if (rows == 0) return FOVEA_OK;
    append_rows<<<(unsigned)blocks_for(rows, WARPS), WARPS * 32, 0, (cudaStream_t)run->stream>>>(
        task);
    return launched(run);
}
