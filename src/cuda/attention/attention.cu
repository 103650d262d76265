/* Domain 6, attention: the problem as kernels take it, who serves it, and the merge of partial
 * results. */
#include "cuda/attention/append.h"
#include "cuda/attention/attention.h"
#include "cuda/brief.cuh"
#include "cuda/kernel.cuh"

#include <math.h>
#include <stdio.h>
#include <type_traits>

/* ---- The problem ---------------------------------------------------------------------------- */

static fovea_cuda_tensor tensor_of(const fovea_view &view) {
    fovea_cuda_tensor t = {view.data, view.dtype, {0, 0, 0, 0}, INT32_MAX, INT32_MAX};
    for (int i = 0; i < view.rank && i < 4; i++) t.stride[i] = view.stride[i];
    return t;
}

/* A mask or bias may have fewer rows and keys than packed sequences in all. */
static fovea_cuda_tensor broadcast_of(const fovea_view &view) {
    fovea_cuda_tensor t = tensor_of(view);
    if (view.stride[2] != 0 || view.shape[2] > 1) t.rows = (int32_t)view.shape[2];
    if (view.stride[3] != 0 || view.shape[3] > 1) t.keys = (int32_t)view.shape[3];
    return t;
}

static fovea_cuda_integers integers_of(const fovea_problem *problem, int argument) {
    const fovea_view &view = problem->views[argument];
    if (!fovea_given(problem, argument)) return {NULL, {0, 0}};
    return {(const int32_t *)view.data, {view.stride[0], view.rank > 1 ? view.stride[1] : 0}};
}

static bool is_byte(fovea_dtype dtype) { return dtype == FOVEA_I8 || dtype == FOVEA_E4M3; }

static const char *too_large(const fovea_attention_call &call, const fovea_problem *problem) {
    const int64_t limit = INT64_C(1) << 29;
    const int64_t sizes[] = {call.query_length * (call.group > 0 ? call.group : 1),
                             call.key_length,
                             call.batch * call.query_heads,
                             call.q.shape[2],
                             call.k.shape[0],
                             call.k.shape[2]};
    for (int64_t size : sizes)
        if (size >= limit) return "it serves lengths, pages and heads of the batch below 2^29";
    if (llabs(call.options->query_offset) >= limit) return "it serves query offsets below 2^29";
    if (call.head_size > 256 || call.value_size > 256) return "it serves head sizes up to 256";
    if (call.quantised && (!is_byte(call.k.dtype) || !is_byte(call.v.dtype)))
        return "it serves keys and values that are both quantised or neither";
    if ((call.k_scale.data && call.k_scale.shape[3] != 1) ||
        (call.v_scale.data && call.v_scale.shape[3] != 1))
        return "it serves one scale a row of a quantised cache, not a row's parts";
    if ((call.k_scale.data || call.v_scale.data) && !call.quantised)
        return "it serves scales of quantised keys and values alone";
    bool large = call.head_size > 128 || call.value_size > 128;
    if (large && fovea_cuda_shared_bytes(problem->device.device_id) < 144 << 10)
        return "head sizes above 128 need 144 KiB of shared memory a block, more than this device "
               "has";
    int64_t tiles = (call.query_length * (call.group > 0 ? call.group : 1) + 63) / 64;
    if (tiles * call.key_heads * call.batch >= INT32_MAX) return "it has more than 2^31 tiles";
    return NULL;
}

static int32_t window_of(int64_t window) {
    return window > INT32_MAX ? INT32_MAX : (int32_t)window;
}

/* False, with the reason, where no kernel here takes it. */
static bool describe(const fovea_problem *problem, fovea_cuda_attention *p, const char **reason) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    const fovea_attention_options *options = call.options;
    if ((*reason = too_large(call, problem))) return false;
    *p = {};
    p->q = tensor_of(call.q), p->k = tensor_of(call.k);
    p->v = tensor_of(call.v), p->out = tensor_of(call.out);
    if (call.has_lse) p->lse = tensor_of(call.lse);
    if (call.k_scale.data) p->k_scale = tensor_of(call.k_scale);
    if (call.v_scale.data) p->v_scale = tensor_of(call.v_scale);
    if (call.has_mask) p->mask = broadcast_of(call.mask);
    if (call.has_bias) p->bias = broadcast_of(call.bias);
    if (call.has_slopes) {
        p->slopes = (const float *)call.slopes.data;
        p->slopes_stride = call.slopes.stride[0];
    }
    if (call.has_sinks) {
        p->sinks = (const float *)call.sinks.data;
        p->sinks_stride = call.sinks.stride[0];
    }
    p->cu_seqlens_q = integers_of(problem, FOVEA_ATTENTION_CU_SEQLENS_Q);
    p->cu_seqlens_k = integers_of(problem, FOVEA_ATTENTION_CU_SEQLENS_K);
    p->seqused_k = integers_of(problem, FOVEA_ATTENTION_SEQUSED_K);
    p->block_table = integers_of(problem, FOVEA_ATTENTION_BLOCK_TABLE);
    p->batch = (int32_t)call.batch;
    p->query_heads = (int32_t)call.query_heads, p->key_heads = (int32_t)call.key_heads;
    p->group = (int32_t)call.group;
    p->query_length = (int32_t)call.query_length, p->key_length = (int32_t)call.key_length;
    p->head_size = (int32_t)call.head_size, p->value_size = (int32_t)call.value_size;
    if (call.paged) {
        p->pages = (int32_t)call.k.shape[0], p->page_size = (int32_t)call.page_size;
        p->max_pages = (int32_t)problem->views[FOVEA_ATTENTION_BLOCK_TABLE].shape[1];
    }
    p->scale = (float)call.scale;
    p->scale_log2 = (float)(call.scale * 1.4426950408889634);
    p->softcap = (float)call.softcap;
    p->causal = options->causal;
    p->query_offset = (int32_t)options->query_offset;
    p->window_left = window_of(options->window_left);
    p->window_right = window_of(options->window_right);
    p->keep = (float)(1 - options->dropout);
    p->seed[0] = (uint32_t)options->seed, p->seed[1] = (uint32_t)((uint64_t)options->seed >> 32);
    p->dropout_offset = (uint32_t)options->dropout_offset;
    return true;
}

/* The problem as kernels take it, if `algorithm` may run it. */
static bool served(const fovea_problem *problem, int algorithm, const char *name,
                   fovea_cuda_attention *p, char *reason, size_t size) {
    const char *why = NULL;
    const auto *options = (const fovea_attention_options *)problem->options;
    if (options->algorithm != FOVEA_ATTENTION_ALGORITHM_AUTO && options->algorithm != algorithm)
        snprintf(reason, size, "its algorithm is %s, another was asked for", name);
    else if (!describe(problem, p, &why))
        snprintf(reason, size, "%s", why);
    else
        return true;
    return false;
}

static bool served_flash(const fovea_problem *problem, fovea_cuda_attention *p, char *reason,
                         size_t size) {
    if (!served(problem, FOVEA_ATTENTION_ALGORITHM_FLASH, "flash", p, reason, size)) return false;
    if (!is_byte(p->k.dtype)) return true;
    snprintf(reason, size, "it does not serve quantised keys or values");
    return false;
}

static bool served_general(const fovea_problem *problem, char *reason, size_t size) {
    fovea_cuda_attention p;
    return served_flash(problem, &p, reason, size);
}

/* Of heads as kernels pad them. */
static double padded_width(const fovea_attention_call &call) {
    int64_t larger = call.head_size > call.value_size ? call.head_size : call.value_size;
    return larger > 128 ? 256 : larger > 64 ? 128 : 64;
}

/* f32, measured on an H200: a block of 64 rows takes 0.7 ns for a key's element, alone or with some seventh of
 * another on its multiprocessor. The plain kernel, which has heads above 128, takes five times that. */
static double products_cost(const fovea_problem *problem, double bandwidth) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    double rows = ceil((double)(call.query_length * call.group) / 64);
    double share = rows * (double)(call.batch * call.key_heads) /
                   (1.15 * fovea_cuda_multiprocessors(problem->device.device_id));
    double element = padded_width(call) > 128 ? 3.5e-9 : 0.7e-9;
    double block = element * (double)call.key_length * padded_width(call);
    double first = (3.8 + 1.3 * padded_width(call) / 64) * 1e-6;
    return first + fmax(fovea_problem_bytes(problem) / bandwidth, block * fmax(1, share));
}

/* Whether scores go through more than edges. */
static bool has_options(const fovea_problem *problem, const fovea_attention_call &call) {
    const auto *options = (const fovea_attention_options *)problem->options;
    return call.has_mask || call.has_bias || call.has_slopes || call.softcap < INFINITY ||
           options->dropout > 0;
}

/* Seconds that tiles of a kernel take for halves: a tile alone `alone` for 64 keys of heads of 64, and `busy` of a
 * multiprocessor that has enough of them; `tiles` of them on the device. */
static double tiled_seconds(const fovea_problem *problem, const fovea_attention_call &call,
                            double tiles, double alone, double busy, double bandwidth) {
    double pairs = (double)(call.batch * call.query_heads) * (double)call.query_length *
                   (double)(call.head_size + call.value_size);
    double blocks = fovea_problem_operations(problem) / (2 * 64 * fmax(pairs, 1)); /* of a row */
    double share = tiles / fovea_cuda_multiprocessors(problem->device.device_id);
    return fmax(fovea_problem_bytes(problem) / bandwidth, blocks * fmax(alone, busy * share));
}

/* Measured on an H200. Options: 16 rows a warp instead of 32, and what they cost themselves. */
static double general_cost(const fovea_problem *problem, int threads, double flops,
                           double bandwidth) {
    (void)threads, (void)flops;
    if (problem->dtype == FOVEA_F32) return products_cost(problem, bandwidth);
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    double width = padded_width(call) / 64;
    double rows = ceil((double)(call.query_length * call.group) / 64);
    double tiles = rows * (double)(call.batch * call.key_heads);
    double more = has_options(problem, call) ? 2.5 : 1;
    return 5e-6 + more * tiled_seconds(problem, call, tiles, (0.9 + 0.4 * width) * 1e-6,
                                       0.43e-6 * width, bandwidth);
}

static fovea_status run_f32(const fovea_cuda_attention *p, fovea_run *run) {
    cudaStream_t stream = (cudaStream_t)run->stream;
    bool products = fovea_cuda_attention_f32_products_serves(p);
    run->block_rows = 64, run->block_keys = 32;
    if (products) run->arithmetic = "three products of TF32 terms";
    return fovea_cuda_launched(run, products ? fovea_cuda_attention_f32_products(p, NULL, 0, stream)
                                             : fovea_cuda_attention_f32(p, stream));
}

static fovea_status run_general(const fovea_problem *problem, fovea_run *run) {
    fovea_cuda_attention p;
    const char *reason;
    cudaStream_t stream = (cudaStream_t)run->stream;
    if (!describe(problem, &p, &reason)) return run->reason = reason, FOVEA_UNSUPPORTED;
    int size = p.head_size > p.value_size ? p.head_size : p.value_size;
    if (p.group == 0) return FOVEA_OK; /* no heads */
    if (problem->dtype == FOVEA_F32) return run_f32(&p, run);
    run->block_rows = 128, run->block_keys = 64;
    return fovea_cuda_launched(run, size <= 64    ? fovea_cuda_attention_general_64(&p, stream)
                                    : size <= 128 ? fovea_cuda_attention_general_128(&p, stream)
                                                  : fovea_cuda_attention_general_256(&p, stream));
}

/* ---- Hopper --------------------------------------------------------------------------------- */

static bool served_hopper(const fovea_problem *problem, char *reason, size_t size) {
    fovea_cuda_attention p;
    if (fovea_cuda_capability(problem->device.device_id) / 10 != 9) {
        snprintf(reason, size, "it needs a device of capability 9.0");
        return false;
    }
    if (!served_flash(problem, &p, reason, size)) return false;
    return problem->dtype == FOVEA_F32 ? fovea_cuda_attention_hopper_f32_serves(&p, reason, size)
                                       : fovea_cuda_attention_hopper_serves(&p, reason, size);
}

static size_t hopper_workspace(const fovea_problem *problem, int threads) {
    fovea_cuda_attention p;
    const char *reason;
    (void)threads;
    if (!describe(problem, &p, &reason)) return 0;
    return problem->dtype == FOVEA_F32
               ? fovea_cuda_attention_hopper_f32_workspace(&p)
               : fovea_cuda_attention_hopper_workspace(
                     &p, fovea_cuda_multiprocessors(problem->device.device_id));
}

/* f32, measured on an H200: where tiles of 64 query rows have a multiprocessor each, by the blocks of 64 keys that one
 * walks, or splits itself if they are two at most, and the share of the device; else work by the roofline, and two
 * grids more. */
static double hopper_f32_cost(const fovea_problem *problem, const fovea_attention_call &call,
                              double tiles, double flops, double bandwidth) {
    double busy = tiles / fovea_cuda_multiprocessors(problem->device.device_id);
    double width = padded_width(call) / 64, blocks = ceil((double)call.key_length / 64);
    double seconds =
        fmax(fovea_problem_operations(problem) / flops, fovea_problem_bytes(problem) / bandwidth);
    if (call.query_length < 64) return 1e-3 + seconds;
    if (busy > 1) return 6.5e-6 + seconds;
    return blocks <= 2
               ? (1.6 + 1.7 * width + blocks * (1.4 + 1.1 * width) + 1.2 * width * busy) * 1e-6
               : (5.2 + 1.5 * width + blocks * (0.41 + 0.52 * width) + 2.8 * width * busy) * 1e-6;
}

/* Measured on an H200. Heads of a group are not packed into one, and a block has 128 rows: few rows a head are wasted on
 * it. One row of 32 heads over 8, 32 sequences of 4096 keys: 333 us, split 121: each head reads its group's keys. */
static double hopper_cost(const fovea_problem *problem, int threads, double flops,
                          double bandwidth) {
    (void)threads;
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    double heads = (double)(call.batch * call.query_heads), rows = (double)call.query_length;
    double tiles = ceil(rows / 64) * heads, pairs = 2 * ceil(rows / 128) * heads;
    if (problem->dtype == FOVEA_F32) return hopper_f32_cost(problem, call, tiles, flops, bandwidth);
    if (rows < 32) bandwidth *= call.group > 1 ? 0.5 : 0.9;
    double width = padded_width(call) / 64, more = has_options(problem, call) ? 2 : 1;
    return 2.7e-6 + more * tiled_seconds(problem, call, pairs, (0.4 + 0.13 * width) * 1e-6,
                                         (0.08 + 0.16 * width) * 1e-6, bandwidth);
}

static fovea_status run_hopper(const fovea_problem *problem, fovea_run *run) {
    fovea_cuda_attention p;
    const char *reason;
    if (!describe(problem, &p, &reason)) return run->reason = reason, FOVEA_UNSUPPORTED;
    cudaStream_t stream = (cudaStream_t)run->stream;
    if (problem->dtype != FOVEA_F32)
        return fovea_cuda_launched(run, fovea_cuda_attention_hopper(&p, run->workspace, stream));
    run->arithmetic = "three products of scaled f16 terms";
    return fovea_cuda_launched(run, fovea_cuda_attention_hopper_f32(&p, run->workspace, stream));
}

/* ---- Split ---------------------------------------------------------------------------------- */

/* Query rows of a key head: beyond that it reads keys too often. */
enum { SPLIT_ROWS_MAX = 64, SPLIT_F32_ROWS_MAX = 2048 };

static bool served_split(const fovea_problem *problem, char *reason, size_t size) {
    fovea_cuda_attention p;
    if (!served(problem, FOVEA_ATTENTION_ALGORITHM_SPLIT, "split", &p, reason, size)) return false;
    bool is_f32 = problem->dtype == FOVEA_F32;
    int most = is_f32 ? SPLIT_F32_ROWS_MAX : SPLIT_ROWS_MAX;
    int larger = p.head_size > p.value_size ? p.head_size : p.value_size;
    if ((larger > 64 || is_f32) && fovea_cuda_shared_bytes(problem->device.device_id) < 112 << 10) {
        snprintf(reason, size,
                 "head sizes above 64 and f32 need 112 KiB of shared memory a block, more "
                 "than this device has");
        return false;
    }
    if (is_f32 && is_byte(p.k.dtype)) {
        snprintf(reason, size, "of f32 it serves keys and values that are not quantised");
        return false;
    }
    if (is_byte(p.k.dtype) || (int64_t)p.query_length * p.group <= most) return true;
    snprintf(reason, size, "it serves up to %d query rows a key head unless they are quantised",
             most);
    return false;
}

static size_t split_workspace(const fovea_problem *problem, int threads) {
    fovea_cuda_attention p;
    const char *reason;
    (void)threads;
    if (!describe(problem, &p, &reason)) return 0;
    return fovea_cuda_attention_split_workspace(
        &p, fovea_cuda_multiprocessors(problem->device.device_id));
}

/* Measured on an H200: for 16 rows and 4096 elements of keys a block of f32 takes 1.45 us alone, a multiprocessor
 * with several 1.2, or 0.95 where each has many keys; of halves 0.45 and 0.3. Cutting the keys costs a second grid. f32
 * values of more than 128 columns are two launches, each of which reads all of the keys. */
static double split_cost(const fovea_problem *problem, int threads, double flops,
                         double bandwidth) {
    (void)threads, (void)flops;
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    bool is_f32 = problem->dtype == FOVEA_F32;
    double tiles = ceil((double)(call.query_length * call.group) / 16);
    double steps = (double)call.key_length * padded_width(call) / 4096;
    double share = tiles * (double)(call.batch * call.key_heads) /
                   fovea_cuda_multiprocessors(problem->device.device_id);
    double most = fmin((double)call.key_length / 128, 2 / share); /* two blocks a multiprocessor */
    double pieces = share > 0.5 ? 1 : fmax(1, floor(most));
    double alone = is_f32 ? 1.45e-6 : 0.45e-6;
    double several = !is_f32 ? 0.3e-6 : tiles > 1 ? 1.2e-6 : 0.95e-6;
    double busy = fmax(alone * steps / pieces, several * steps * share);
    double rows = fmin((double)(call.query_length * call.group), 16);
    double first = is_f32 ? 4.3e-6 : 4e-6, second = is_f32 ? 2.7e-6 : (1.5 + 0.1 * rows) * 1e-6;
    double seconds =
        first + (pieces > 1 ? second : 0) + fmax(fovea_problem_bytes(problem) / bandwidth, busy);
    return is_f32 && call.value_size > 128 ? 1.5 * seconds : seconds;
}

static fovea_status run_split(const fovea_problem *problem, fovea_run *run) {
    fovea_cuda_attention p;
    const char *reason;
    int device = problem->device.device_id;
    if (!describe(problem, &p, &reason)) return run->reason = reason, FOVEA_UNSUPPORTED;
    if (p.group == 0) return FOVEA_OK; /* no heads */
    return fovea_cuda_launched(
        run, fovea_cuda_attention_split(&p, fovea_cuda_multiprocessors(device),
                                        fovea_cuda_capability(device) >= 90, run->workspace,
                                        (cudaStream_t)run->stream));
}

/* ---- Merging -------------------------------------------------------------------------------- */

struct merge_call {
    const char *parts;
    const float *lses;
    char *out;
    float *lse; /* NULL: not wanted */
    int64_t part_stride[5], lse_stride[4], out_stride[4], out_lse_stride[3];
    int64_t shape[3]; /* B, Hq, Sq */
    int64_t rows;
    int parts_count, size;
};

/* b, h and i of a row; divisions of 64 bits, which take a hundred instructions, only where they must be. */
static __device__ __forceinline__ void place_row(const merge_call &c, int64_t row, int64_t &b,
                                                 int64_t &h, int64_t &i) {
    if (c.rows <= UINT32_MAX) {
        uint32_t number = (uint32_t)row, length = (uint32_t)c.shape[2];
        uint32_t rest = number / length, heads = (uint32_t)c.shape[1];
        b = rest / heads, h = rest % heads, i = number % length;
    } else {
        int64_t rest = row / c.shape[2];
        b = rest / c.shape[1], h = rest % c.shape[1], i = row % c.shape[2];
    }
}

/* LANES lanes a row, WIDTH elements a lane and step: 16 bytes where rows allow it. A lane has the weight
 * of every LANES-th part, which the others get from it; four parts' elements are on their way at once. */
template <class T, int LANES, int WIDTH>
static __global__ __launch_bounds__(256, 4) void merge(const __grid_constant__ merge_call c) {
    constexpr int together = 4;
    int64_t row = (int64_t)blockIdx.x * (256 / LANES) + threadIdx.x / LANES, b, h, i;
    int lane = threadIdx.x % LANES;
    bool real = row < c.rows;
    place_row(c, real ? row : c.rows - 1, b, h, i); /* all lanes of a warp stay */
    follow_stream();
    const float *lses = c.lses + b * c.lse_stride[1] + h * c.lse_stride[2] + i * c.lse_stride[3];
    const T *parts =
        (const T *)c.parts + b * c.part_stride[1] + h * c.part_stride[2] + i * c.part_stride[3];
    T *out = (T *)c.out + b * c.out_stride[0] + h * c.out_stride[1] + i * c.out_stride[2];
    auto lse_of = [&](int p) { return p < c.parts_count ? lses[p * c.lse_stride[0]] : -INFINITY; };
    auto larger = [](float x, float y) { return max_or_nan(x, y); };
    /* Elements of parts p to p + 3 from column d on; those of the first are on their way before the weights. */
    using bits = std::conditional_t<WIDTH * sizeof(T) == 16, uint4, T>; /* halves stay together */
    bits x[together];
    auto load = [&](int d, int p) {
        const T *from = parts + p * c.part_stride[0] + d * c.part_stride[4];
#pragma unroll
        for (int u = 0; u < together; u++, from += c.part_stride[0]) {
            x[u] = bits{};
            if (real && d < c.size && p + u < c.parts_count) x[u] = *(const bits *)from;
        }
    };
    load(lane * WIDTH, 0);
    float top = lse_of(lane), sum = 0;
    for (int p = lane + LANES; p < c.parts_count; p += LANES) top = larger(top, lse_of(p));
    top = reduce_lanes(top, LANES, larger);
    bool none = top == -INFINITY;
    float base = none ? 0 : top, weight = expf(lse_of(lane) - base);
    for (int p = lane; p < c.parts_count; p += LANES) sum += expf(lse_of(p) - base);
    sum = reduce_lanes(sum, LANES, [](float x, float y) { return x + y; });
    for (int first = 0; first < c.size; first += LANES * WIDTH) {
        int d = first + lane * WIDTH;
        float total[WIDTH] = {};
        for (int p = 0; p < c.parts_count; p += together) {
            if (first + p > 0) load(d, p);
            if (p % LANES == 0 && c.parts_count > LANES) weight = expf(lse_of(p + lane) - base);
#pragma unroll
            for (int u = 0; u < together; u++) { /* parts that are not there weigh 0 */
                float mine = __shfl_sync(~0u, weight, p % LANES + u, LANES);
                pack<T, WIDTH> part;
                memcpy(&part, &x[u], sizeof part);
#pragma unroll
                for (int e = 0; e < WIDTH; e++) /* what has no weight may be NaN */
                    total[e] = mine == 0 ? total[e] : fmaf(mine, widen(part.at[e]), total[e]);
            }
        }
        pack<T, WIDTH> y;
#pragma unroll
        for (int e = 0; e < WIDTH; e++) y.at[e] = narrow<T>(none ? 0 : total[e] / sum);
        if (real && d < c.size) *(pack<T, WIDTH> *)(out + d * c.out_stride[3]) = y;
    }
    if (c.lse && lane == 0 && real)
        c.lse[b * c.out_lse_stride[0] + h * c.out_lse_stride[1] + i * c.out_lse_stride[2]] =
            none ? top : top + logf(sum);
}

template <class T, int LANES, int WIDTH>
static bool launch_merge(const merge_call &c, fovea_run *run) {
    int64_t blocks = blocks_for(c.rows, 256 / LANES);
    if (!grid_fits(blocks)) return false;
    if (blocks > 0) launch(run, merge<T, LANES, WIDTH>, blocks, 256, c);
    return true;
}

enum {
    MERGE_FEW_THREADS = 64,
    MERGE_FEW_PARTS = 8,
    MERGE_FEW = 1 << 18 /* elements of a result whose threads have one vector each, of all parts */
};

/* number / divisor of numbers of MERGE_FEW at most: a product, as a quotient takes as long as a trip to memory. */
struct few_divisor {
    unsigned divisor;
    uint64_t factor; /* 2^40 / divisor, rounded up */
    __device__ __forceinline__ unsigned operator()(unsigned number) const {
        return (unsigned)(number * factor >> 40);
    }
};
static few_divisor few_divisor_of(int64_t divisor) {
    return {(unsigned)divisor, (((uint64_t)1 << 40) + (uint64_t)divisor - 1) / (uint64_t)divisor};
}

/* The same in few words, as each that a kernel waits for at its beginning takes time: strides fit an int. */
struct merge_few_call {
    const char *parts;
    const float *lses;
    char *out;
    float *lse;
    few_divisor vectors, length, heads; /* of a row; rows of a head; heads of a batch */
    int part_stride[5], lse_stride[4], out_stride[4], out_lse_stride[3];
    unsigned rows;
    int parts_count;
};

/* Where there is little to merge, of a few parts: a thread has the weights of all of them, so that it waits for memory once
 * and for no other lane. */
template <class T, int WIDTH>
static __global__
__launch_bounds__(MERGE_FEW_THREADS) void merge_few(const __grid_constant__ merge_few_call c) {
    const unsigned number = blockIdx.x * MERGE_FEW_THREADS + threadIdx.x, row = c.vectors(number);
    const int d = (int)(number - row * c.vectors.divisor) * WIDTH;
    release_next();
    if (row >= c.rows) return;
    ready_parameters(c);
    const unsigned head = c.length(row), batch = c.heads(head);
    const int b = (int)batch, h = (int)(head - batch * c.heads.divisor);
    const int i = (int)(row - head * c.length.divisor);
    const float *lse = c.lses + (b * c.lse_stride[1] + h * c.lse_stride[2] + i * c.lse_stride[3]);
    const T *part = (const T *)c.parts + (b * c.part_stride[1] + h * c.part_stride[2] +
                                          i * c.part_stride[3] + d * c.part_stride[4]);
    T *out = settled_global((T *)c.out + (b * c.out_stride[0] + h * c.out_stride[1] +
                                          i * c.out_stride[2] + d * c.out_stride[3]));
    const float *lses[MERGE_FEW_PARTS];
    const T *parts[MERGE_FEW_PARTS];
    unsigned count = (unsigned)c.parts_count;
    settle(count);
#pragma unroll
    for (int p = 0; p < MERGE_FEW_PARTS; p++) { /* the last again where there are fewer */
        const int at = p < c.parts_count ? p : c.parts_count - 1;
        lses[p] = settled_global(lse + at * c.lse_stride[0]);
        parts[p] = settled_global(part + at * c.part_stride[0]);
    }
    float weights[MERGE_FEW_PARTS], total[WIDTH] = {};
    pack<T, WIDTH> x[MERGE_FEW_PARTS];
    await_stream();
#pragma unroll
    for (int p = 0; p < MERGE_FEW_PARTS; p++) weights[p] = *lses[p];
#pragma unroll
    for (int p = 0; p < MERGE_FEW_PARTS; p++) x[p] = *(const pack<T, WIDTH> *)parts[p];
#pragma unroll
    for (int p = 1; p < MERGE_FEW_PARTS; p++) weights[p] = p < (int)count ? weights[p] : -INFINITY;
    float top = weights[0], sum = 0;
#pragma unroll
    for (int p = 1; p < MERGE_FEW_PARTS; p++) top = max_or_nan(top, weights[p]);
    const bool none = top == -INFINITY;
    const float base = none ? 0 : top;
#pragma unroll
    for (int p = 0; p < MERGE_FEW_PARTS; p++)
        weights[p] = quick_exp2(1.44269504f * (weights[p] - base)), sum += weights[p];
    const float share = none ? 0 : quick_reciprocal(sum);
    float least = weights[0];
#pragma unroll
    for (int p = 1; p < MERGE_FEW_PARTS; p++) least = fminf(least, weights[p]);
    const auto add = [&](auto weighs) {
#pragma unroll
        for (int p = 0; p < MERGE_FEW_PARTS; p++)
#pragma unroll
            for (int e = 0; e < WIDTH; e++)
                if (weighs(p)) total[e] = fmaf(weights[p], widen(x[p].at[e]), total[e]);
    };
    if (least > 0) /* what has no weight may be NaN */
        add([](int) { return true; });
    else
        add([&](int p) { return weights[p] != 0; });
    pack<T, WIDTH> y;
#pragma unroll
    for (int e = 0; e < WIDTH; e++) y.at[e] = narrow<T>(total[e] * share);
    *(pack<T, WIDTH> *)out = y;
    if (c.lse && d == 0)
        c.lse[b * c.out_lse_stride[0] + h * c.out_lse_stride[1] + i * c.out_lse_stride[2]] =
            none ? top : top + logf(sum);
}

/* Strides as ints; false if one does not fit, or what they lead to. */
template <int rank>
static bool few_strides(const int64_t (&from)[rank], const int64_t (&shape)[rank],
                        int (&to)[rank]) {
    int64_t extent = 0;
    for (int i = 0; i < rank; i++) {
        if (from[i] < -INT32_MAX || from[i] > INT32_MAX) return false;
        to[i] = (int)from[i];
        extent += (from[i] < 0 ? -from[i] : from[i]) * (shape[i] > 0 ? shape[i] - 1 : 0);
    }
    return extent <= INT32_MAX;
}

template <class T>
static bool merge_few_of(const merge_call &c, bool packs, merge_few_call *few) {
    const int64_t width = packs ? 16 / (int64_t)sizeof(T) : 1;
    const int64_t parts = c.parts_count, size = c.size;
    if (c.rows == 0 || parts == 0 || parts > MERGE_FEW_PARTS || size == 0 ||
        c.rows > MERGE_FEW / size)
        return false;
    *few = {c.parts, c.lses, c.out, c.lse};
    few->vectors = few_divisor_of(size / width), few->length = few_divisor_of(c.shape[2]);
    few->heads = few_divisor_of(c.shape[1]);
    few->rows = (unsigned)c.rows, few->parts_count = c.parts_count;
    return few_strides<5>(c.part_stride, {parts, c.shape[0], c.shape[1], c.shape[2], size},
                          few->part_stride) &&
           few_strides<4>(c.lse_stride, {parts, c.shape[0], c.shape[1], c.shape[2]},
                          few->lse_stride) &&
           few_strides<4>(c.out_stride, {c.shape[0], c.shape[1], c.shape[2], size},
                          few->out_stride) &&
           few_strides<3>(c.out_lse_stride, {c.shape[0], c.shape[1], c.shape[2]},
                          few->out_lse_stride);
}

/* Rows of `width` elements at a time: contiguous and aligned in parts and out. */
static bool comes_in_packs(const merge_call &c, size_t bytes, int width) {
    bool whole = c.size % width == 0 && c.part_stride[4] == 1 && c.out_stride[3] == 1 &&
                 is_aligned(c.parts, bytes * width) && is_aligned(c.out, bytes * width);
    for (int i = 0; i < 4; i++) whole = whole && c.part_stride[i] % width == 0;
    for (int i = 0; i < 3; i++) whole = whole && c.out_stride[i] % width == 0;
    return whole;
}

template <class T>
static bool launch_merge_of(const merge_call &c, fovea_run *run) {
    constexpr int width = 16 / sizeof(T);
    const bool packs = comes_in_packs(c, sizeof(T), width);
    merge_few_call few;
    if (merge_few_of<T>(c, packs, &few)) {
        launch(run, packs ? merge_few<T, width> : merge_few<T, 1>,
               blocks_for(c.rows * few.vectors.divisor, MERGE_FEW_THREADS), MERGE_FEW_THREADS, few);
        return true;
    }
    if (!packs) return launch_merge<T, 32, 1>(c, run);
    return c.size <= 8 * width    ? launch_merge<T, 8, width>(c, run)
           : c.size <= 16 * width ? launch_merge<T, 16, width>(c, run)
                                  : launch_merge<T, 32, width>(c, run);
}

static fovea_status attention_merge(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *views = problem->views;
    merge_call c = {};
    c.parts = views[0].data, c.lses = (const float *)views[1].data, c.out = views[2].data;
    if (fovea_given(problem, 3)) {
        c.lse = (float *)views[3].data;
        memcpy(c.out_lse_stride, views[3].stride, sizeof c.out_lse_stride);
    }
    memcpy(c.part_stride, views[0].stride, sizeof c.part_stride);
    memcpy(c.lse_stride, views[1].stride, sizeof c.lse_stride);
    memcpy(c.out_stride, views[2].stride, sizeof c.out_stride);
    memcpy(c.shape, views[2].shape, sizeof c.shape);
    c.rows = c.shape[0] * c.shape[1] * c.shape[2];
    if (views[0].shape[0] >= INT32_MAX / 2 || views[0].shape[4] >= INT32_MAX / 2)
        return run->reason = "it serves fewer than 2^30 parts and columns", FOVEA_UNSUPPORTED;
    c.parts_count = (int)views[0].shape[0], c.size = (int)views[0].shape[4];
    bool fits = problem->dtype == FOVEA_F16    ? launch_merge_of<__half>(c, run)
                : problem->dtype == FOVEA_BF16 ? launch_merge_of<__nv_bfloat16>(c, run)
                                               : launch_merge_of<float>(c, run);
    if (!fits) return run->reason = "more than 2^31 blocks", FOVEA_UNSUPPORTED;
    return launched(run);
}

extern "C" const fovea_implementation fovea_cuda_table_attention[] = {
    {.kernel = "attention",
     .name = "cuda/sm90/flash",
     .dtypes = FOVEA_FLOATS,
     .serves = served_hopper,
     .workspace = hopper_workspace,
     .run = run_hopper,
     .cost = hopper_cost,
     .device = kDLCUDA},
    {.kernel = "attention",
     .name = "cuda/sm80/flash",
     .dtypes = FOVEA_FLOATS,
     .serves = served_general,
     .run = run_general,
     .cost = general_cost,
     .device = kDLCUDA},
    {.kernel = "attention",
     .name = "cuda/sm80/split",
     .dtypes = FOVEA_FLOATS,
     .serves = served_split,
     .workspace = split_workspace,
     .run = run_split,
     .cost = split_cost,
     .device = kDLCUDA},
    {.kernel = "attention_merge",
     .name = "cuda/sm80/direct",
     .dtypes = FOVEA_FLOATS,
     .run = attention_merge,
     .device = kDLCUDA},
    {.kernel = "kv_append",
     .name = "cuda/sm80/direct",
     .dtypes = FOVEA_FLOATS,
     .serves = fovea_cuda_append_serves,
     .run = fovea_cuda_append,
     .device = kDLCUDA},
    {}};
