#pragma once

/* From a problem on the host to a launch of one shape of attention_kernel: tensor maps,
 * numbering of tiles, grid. */

#include "cuda/attention/attention.h"
#include "cuda/attention/hopper_kernel.cuh"

#include <algorithm>
#include <cuda_runtime.h>

namespace fovea::hopper {

/* A [batch, heads, length, columns] tensor of 16-bit elements; strides in elements, the last one 1.
 * Packed sequences are a batch of one, pages a batch of them. */
struct attention_tensor {
    void *data;
    int64_t batch, head, row;
};

struct attention_call {
    attention_tensor q, k, v, out,
        lse; /* lse: f32 [batch, query_heads, query_length], data may be NULL */
    int32_t batch, query_heads, key_heads, query_length, key_length, head_size, value_size;
    int32_t shift_left, shift_right; /* row i attends keys i + shift_left … i + shift_right */
    bool banded;                     /* one of the two cuts something off */
    float scale_log2;                /* of q kᵀ, above 0 */
    uint32_t *counter;               /* scratch on the device, of workspace_of's bytes */
    const float *sinks;              /* of varied shapes, as the following */
    int64_t sinks_step;
    attention_sequences sequences;
    const fovea_cuda_attention *problem; /* of modified shapes: the options */
};

/* Strides of a dimension of one element are arbitrary: nothing is added for it. */
inline attention_tensor place(const fovea_cuda_tensor &tensor) {
    return {tensor.data, tensor.stride[0], tensor.stride[1], tensor.stride[2]};
}

/* The call of a problem: its tensors, and which keys a row attends. */
inline attention_call call_of(const fovea_cuda_attention *a) {
    attention_call call = {};
    call.q = place(a->q), call.k = place(a->k), call.v = place(a->v), call.out = place(a->out);
    call.lse = place(a->lse);
    call.batch = a->batch, call.query_heads = a->query_heads, call.key_heads = a->key_heads;
    call.query_length = a->query_length, call.key_length = a->key_length;
    call.head_size = a->head_size, call.value_size = a->value_size;
    call.scale_log2 = a->scale_log2, call.problem = a;
    int64_t offset = int64_t{a->query_offset}, far = int64_t{1} << 29;
    if (a->causal == FOVEA_ATTENTION_CAUSAL_BOTTOM_RIGHT) offset += a->key_length - a->query_length;
    int64_t left = a->window_left < 0 ? -far : offset - a->window_left;
    int64_t right = a->window_right < 0 ? far : offset + a->window_right;
    if (a->causal != FOVEA_ATTENTION_CAUSAL_NONE && right > offset) right = offset;
    call.shift_left = int32_t(left < -far ? -far : left > far ? far : left);
    call.shift_right = int32_t(right < -far ? -far : right > far ? far : right);
    call.banded = call.shift_left > 1 - a->query_length || call.shift_right < a->key_length - 1;
    return call;
}

/* The multiprocessors of the device that this thread works on. */
inline cudaError_t count_processors(int *processors) {
    int device;
    cudaError_t error = cudaGetDevice(&device);
    return error != cudaSuccess
               ? error
               : cudaDeviceGetAttribute(processors, cudaDevAttrMultiProcessorCount, device);
}

template <typename Element>
constexpr CUtensorMapDataType map_type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
template <>
inline constexpr CUtensorMapDataType map_type<__half> = CU_TENSOR_MAP_DATA_TYPE_FLOAT16;

using encode_function = CUresult (*)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
                                     const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                                     const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                                     CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

inline encode_function encoder() {
    static encode_function function = [] {
        void *found = nullptr;
        cudaDriverEntryPointQueryResult result;
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault,
                                         &result);
        return reinterpret_cast<encode_function>(found);
    }();
    return function;
}

/* Boxes of `width` columns, of so many bytes an element, and `rows` rows, swizzled by a line's bytes, 64 or 128; what
 * is beyond the tensor arrives as zeros. */
inline bool describe(CUtensorMap *map, CUtensorMapDataType type, int element,
                     const attention_tensor &tensor, int columns, int length, int heads, int batch,
                     int width, int rows) {
    /* A dimension of one element needs no stride, and the copy engine wants a plausible one. */
    auto bytes = [=](int64_t stride, int extent) {
        return cuuint64_t(extent > 1 ? element * stride : 16);
    };
    cuuint64_t extents[4] = {cuuint64_t(columns), cuuint64_t(length), cuuint64_t(heads),
                             cuuint64_t(batch)};
    cuuint64_t strides[3] = {bytes(tensor.row, length), bytes(tensor.head, heads),
                             bytes(tensor.batch, batch)};
    cuuint32_t box[4] = {cuuint32_t(width), cuuint32_t(rows), 1, 1}, steps[4] = {1, 1, 1, 1};
    return encoder() &&
           encoder()(map, type, 4, tensor.data, extents, strides, box, steps,
                     CU_TENSOR_MAP_INTERLEAVE_NONE,
                     width * element == 64 ? CU_TENSOR_MAP_SWIZZLE_64B : CU_TENSOR_MAP_SWIZZLE_128B,
                     CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                     CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

template <typename Element>
bool describe(CUtensorMap *map, const attention_tensor &tensor, int columns, int length, int heads,
              int batch, int rows) {
    return describe(map, map_type<Element>, 2, tensor, columns, length, heads, batch, 64, rows);
}

/* The options of a modified shape whose tiles have so many rows. What the mask or bias is the same for has an extent
 * of one. */
inline bool describe_options(attention_options *o, const fovea_cuda_attention *a, int rows) {
    const fovea_cuda_tensor &t = a->mask.data ? a->mask : a->bias;
    *o = {};
    o->problem = *a;
    bool anew = a->bias.data || a->slopes || a->softcap < INFINITY;
    o->unit = anew ? 1 : a->scale_log2;
    o->position = a->query_offset;
    if (a->causal == FOVEA_ATTENTION_CAUSAL_BOTTOM_RIGHT)
        o->position += a->key_length - a->query_length;
    if (!t.data) return true;
    o->element = a->mask.data ? 1 : int32_t(fovea_dtype_size(t.dtype));
    o->row_step = t.stride[2] != 0, o->head_step = t.stride[1] != 0;
    o->batch_step = t.stride[0] != 0;
    int width = o->element == 4 ? 32 : 64, box_rows = o->row_step ? rows : 1;
    o->box_bytes = o->element * width * box_rows;
    CUtensorMapDataType type = o->element == 1        ? CU_TENSOR_MAP_DATA_TYPE_UINT8
                               : o->element == 4      ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32
                               : t.dtype == FOVEA_F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                                      : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    return describe(&o->map, type, o->element, place(t), a->key_length,
                    o->row_step ? a->query_length : 1, o->head_step ? a->query_heads : 1,
                    o->batch_step ? a->batch : 1, width, box_rows);
}

/* The tiles of a problem that are shared because they do not fill the device, and where their keys are cut. A helper
 * has one part of each of up to n tiles, and handing a part over takes it as long as some blocks of keys. Nothing is
 * shared where that gains less than it costs, as measured. */
struct shared_tiles {
    int32_t rest, cut;
};

template <typename Shape>
shared_tiles share(const attention_call &call, int processors) {
    constexpr int handing_over = 4, least = 12; /* blocks of keys */
    int64_t tiles = (int64_t{call.query_length} + Shape::rows - 1) / Shape::rows * call.batch *
                    call.query_heads;
    int blocks = (call.key_length + Shape::N - 1) / Shape::N, rest = int(tiles % processors);
    if (!Shape::shares || call.banded || tiles < processors || rest == 0) return {0, 0};
    int helpers = processors - rest, n = (rest + helpers - 1) / helpers;
    int cut = (blocks - n * handing_over) / (n + 1);
    return cut < least ? shared_tiles{0, 0} : shared_tiles{rest, cut};
}

constexpr size_t counter_bytes = 64;

template <typename Shape>
size_t workspace_of(const attention_call &call, int processors) {
    size_t warps = size_t(share<Shape>(call, processors).rest) * Shape::groups * 4;
    return counter_bytes + warps * (4 + 16 * Shape::part_size);
}

/* What a kernel is told but for the maps: the problem, and how its tiles are numbered. */
template <typename Shape>
void parametrize(attention_parameters *parameters, const attention_call &call, int processors) {
    attention_parameters &p = *parameters;
    const attention_sequences &all = call.sequences;
    p.out = static_cast<char *>(call.out.data);
    p.lse = static_cast<float *>(call.lse.data);
    p.out_batch = call.out.batch, p.out_head = call.out.head, p.out_row = call.out.row;
    p.lse_batch = call.lse.batch, p.lse_head = call.lse.head, p.lse_row = call.lse.row;
    p.query_length = call.query_length, p.key_length = call.key_length;
    p.query_heads = call.query_heads, p.group = call.query_heads / call.key_heads,
    p.value_size = call.value_size;
    p.sinks = call.sinks, p.sinks_step = call.sinks_step, p.sequences = all;
    p.shift_left = call.shift_left, p.shift_right = call.shift_right;
    p.scale_log2 = call.scale_log2;
    p.row_tiles = (call.query_length + Shape::rows - 1) / Shape::rows;
    p.heads = call.batch * call.query_heads;
    p.tiles = p.row_tiles * p.heads;
    /* Packed: a bound. Whole tiles of all rows, and each sequence but one begins one more. */
    if (Shape::varied && all.query_starts)
        p.tiles = (p.row_tiles + call.batch - 1) * call.query_heads;
    p.descending = call.banded;
    /* A section's keys and values fit in half of the L2, or its key heads are so few that many
     * blocks follow each of them, a few blocks of keys apart. Long ones of more than 128 columns have one
     * tile a block. Sections are as long as one another, for the last one has nobody to even out its end. */
    int64_t head_bytes = int64_t{4} * Shape::planes * std::max(call.key_length, 1) * call.head_size,
            key_heads = p.heads / p.group;
    int64_t section = std::max((int64_t{32} << 20) / head_bytes, int64_t{processors} / 16);
    if (Shape::D > 128 && call.key_length >= 1024)
        section = std::max(processors / (p.row_tiles * p.group), 1);
    int64_t sections = (key_heads + section - 1) / section;
    section = (key_heads + sections - 1) / sections;
    p.section = call.banded ? int(section) * p.group : p.heads;
    /* Tiles of one length are dealt in turns; where lengths differ, whoever is done takes the
     * next one. */
    shared_tiles shared = share<Shape>(call, processors);
    p.rest = shared.rest, p.cut = shared.cut;
    if (p.rest > 0) {
        size_t parts = size_t(p.rest) * Shape::groups * 4 * 16 * Shape::part_size;
        p.parts = reinterpret_cast<float4 *>(call.counter) + counter_bytes / 16;
        p.arrivals = reinterpret_cast<uint32_t *>(p.parts) + parts / 4;
    }
    p.counter = (call.banded || Shape::varied) && p.tiles > processors ? call.counter : nullptr;
}

/* Words become 0 by a kernel, which overlaps its neighbours; memset cannot. */
static __global__ __launch_bounds__(256) void clear_words(uint32_t *words, int count) {
    let_the_next_grid_start();
    wait_for_the_grid_before();
    for (int i = threadIdx.x; i < count; i += blockDim.x) words[i] = 0;
}

inline cudaError_t clear(uint32_t *words, int count, cudaStream_t stream) {
    return launch_after(clear_words, 1, count > 32 ? 256 : 32, 0, true, stream, words, count);
}

template <typename Shape>
cudaError_t launch_attention(const attention_call &call, int processors, cudaStream_t stream) {
    using Element = typename Shape::Element;
    parameters_of<Shape> p;
    const attention_sequences &all = call.sequences;
    int query_batch = call.batch, key_batch = call.batch, key_rows = call.key_length;
    if constexpr (Shape::varied) {
        if (all.query_starts) query_batch = 1;
        if (all.key_starts) key_batch = 1;
        if (all.pages) key_batch = all.page_count, key_rows = all.page_size;
    }
    if (!describe<Element>(&p.q, call.q, call.head_size, call.query_length, call.query_heads,
                           query_batch, 64) ||
        !describe<Element>(&p.k, call.k, call.head_size, key_rows, call.key_heads, key_batch,
                           Shape::N) ||
        !describe<Element>(&p.v, call.v, call.value_size, key_rows, call.key_heads, key_batch,
                           Shape::N))
        return cudaErrorInvalidValue;
    if constexpr (Shape::has_options)
        if (!describe_options(&p.options, call.problem, Shape::rows)) return cudaErrorInvalidValue;
    parametrize<Shape>(&p, call, processors);
    cudaError_t error = p.counter    ? clear(p.counter, 1, stream)
                        : p.rest > 0 ? clear(p.arrivals, p.rest * Shape::groups * 4, stream)
                                     : cudaSuccess;
    if (error != cudaSuccess) return error;
    error = allow_shared_bytes<attention_kernel<Shape>>(Shape::shared_bytes);
    if (error != cudaSuccess) return error;
    return launch_after(attention_kernel<Shape>, unsigned(std::min(p.tiles, processors)),
                        Shape::threads, Shape::shared_bytes, true, stream, p);
}

} /* namespace fovea::hopper */
