/* The door to the Hopper kernel: what it serves, and which shape of it runs. The table of shapes
 * is the one place of what was measured to be best; NOTES.md has the figures and what lost. */

#include "cuda/attention/attention.h"
#include "cuda/attention/hopper_launch.cuh"
#include "cuda/attention/hopper_modified.h"
#include "cuda/attention/hopper_varied.h"

#include <cstdio>

namespace {

using namespace fovea::hopper;

/* Elements that no copy of 16 bytes would straddle. */
bool aligned(const fovea_cuda_tensor &tensor, const int64_t extents[3]) {
    if (reinterpret_cast<uintptr_t>(tensor.data) % 16 || tensor.stride[3] != 1) return false;
    for (int i = 0; i < 3; i++)
        if (extents[i] > 1 &&
            (tensor.stride[i] % 8 || tensor.stride[i] <= 0 || tensor.stride[i] >= int64_t{1} << 38))
            return false;
    return true;
}

/* Options that the modified shapes are for. */
bool is_modified(const fovea_cuda_attention *a) {
    return a->mask.data || a->bias.data || a->slopes || a->softcap < INFINITY || a->keep < 1.0f;
}

/* Sequences of their own lengths, pages and sinks are what the varied shapes are for. */
bool is_varied(const fovea_cuda_attention *a) {
    return a->cu_seqlens_q.data || a->cu_seqlens_k.data || a->seqused_k.data ||
           a->block_table.data || a->sinks;
}

/* A mask or bias of all rows and keys that a copy engine takes: no copy of 16 bytes would straddle a row. */
bool comes_in_boxes(const fovea_cuda_attention *a, const fovea_cuda_tensor &t, int element) {
    if (reinterpret_cast<uintptr_t>(t.data) % 16 || t.stride[3] != 1) return false;
    for (int i = 0; i < 3; i++)
        if (t.stride[i] < 0 || t.stride[i] >= int64_t{1} << 37 || t.stride[i] * element % 16)
            return false;
    return t.rows >= a->query_length && t.keys >= a->key_length;
}

const char *refusal(const fovea_cuda_attention *a) {
    bool paged = a->block_table.data;
    const int64_t queries[3] = {a->cu_seqlens_q.data ? 1 : a->batch, a->query_heads,
                                a->query_length};
    const int64_t keys[3] = {paged                  ? a->pages
                             : a->cu_seqlens_k.data ? 1
                                                    : a->batch,
                             a->key_heads, paged ? a->page_size : a->key_length};
    fovea_dtype type = a->q.dtype;
    if ((type != FOVEA_F16 && type != FOVEA_BF16) || a->k.dtype != type || a->v.dtype != type ||
        a->out.dtype != type)
        return "q, k, v and out must all be f16 or all bf16";
    if (a->head_size % 8 || a->head_size > 256 || a->value_size % 8 || a->value_size > 256)
        return "head sizes that are multiples of 8 up to 256 only";
    if (a->head_size == 0 || a->value_size == 0) return "head sizes above 0 only";
    if (is_modified(a) && is_varied(a))
        return "no mask, bias, ALiBi, softcap or dropout where sequences have lengths of their "
               "own, pages or sinks";
    if (a->mask.data && a->bias.data) return "a mask or a bias, not both";
    if (a->mask.data && !comes_in_boxes(a, a->mask, 1))
        return "masks whose rows are whole, contiguous and stand at multiples of 16 bytes only";
    if (a->bias.data && !comes_in_boxes(a, a->bias, int(fovea_dtype_size(a->bias.dtype))))
        return "biases whose rows are whole, contiguous and stand at multiples of 16 bytes only";
    if (a->bias.data && a->bias.dtype != FOVEA_F32 && a->bias.dtype != type)
        return "biases of the type of q or of f32 only";
    bool large = std::max(a->head_size, a->value_size) > 128;
    if (large && a->bias.data && a->bias.dtype == FOVEA_F32)
        return "biases of f32 with heads of up to 128 only";
    if (large && a->keep < 1.0f &&
        (a->mask.data || a->bias.data || a->slopes || a->softcap < INFINITY))
        return "dropout and what else changes scores with heads of up to 128 only";
    if (!(a->scale > 0.0f)) return "a scale above 0 only";
    if (a->key_length == 0) return "at least one key";
    if (paged && (a->pages == 0 || a->page_size % varied_keys))
        return "pages of a multiple of 64 keys only";
    if (a->batch >= 1 << 20) return "fewer than 2^20 sequences";
    if (!aligned(a->q, queries) || !aligned(a->k, keys) || !aligned(a->v, keys) ||
        !aligned(a->out, queries))
        return "rows must be contiguous and stand at multiples of 16 bytes, without broadcasting";
    return nullptr;
}

/* What won on an H200, by head size, edge and number of keys; the cells of suite hopper decided. */
template <class Element>
struct shapes {
    /*                              head keys groups K/V Q turns trusting */
    using d64_few = attention_shape<Element, 64, 128, 1, 2, 1, false, true>;
    using d64_few_edge = attention_shape<Element, 64, 64, 1, 4, 1, false, true>;
    using d64_some = attention_shape<Element, 64, 128, 2, 2, 2, true, true>;
    using d64_some_edge = attention_shape<Element, 64, 64, 2, 4, 4, true, true>;
    using d128_few = attention_shape<Element, 128, 64, 1, 4, 1, false, true>;
    using d64 = attention_shape<Element, 64, 64, 4, 4, 8, true, true>;
    using d128_short = attention_shape<Element, 128, 128, 2, 2, 4, true, true>;
    using d128_edge = attention_shape<Element, 128, 64, 3, 4, 6, true, true>;
    using d128_long = attention_shape<Element, 128, 80, 3, 3, 6, true, true>;
    using d192_short = attention_shape<Element, 192, 96, 2, 2, 3, true, false>;
    using d192_long = attention_shape<Element, 192, 96, 2, 2, 3, true, true>;
    using d256_short = attention_shape<Element, 256, 64, 2, 2, 3, true, false>;
    using d256_long = attention_shape<Element, 256, 64, 2, 2, 3, true, true>;
};

/* What runs a shape, and the bytes of workspace that it wants. */
struct entry {
    cudaError_t (*run)(const attention_call &, int, cudaStream_t);
    size_t (*workspace)(const attention_call &, int);
};
template <class Shape>
constexpr entry entry_of = {launch_attention<Shape>, workspace_of<Shape>};

template <class Element>
entry choose(const attention_call &call, int processors) {
    using shape = shapes<Element>;
    int keys = call.key_length, size = std::max(call.head_size, call.value_size);
    /* Tiles of fewer rows where they still find a multiprocessor each. */
    int64_t heads = int64_t{call.batch} * call.query_heads, rows = call.query_length;
    bool few = heads * ((rows + 63) / 64) <= processors;
    bool some = heads * ((rows + 127) / 128) <= processors;
    /* Rows that the busiest multiprocessor gets, of tiles that are equally long. */
    auto most = [&](int of) {
        int64_t tiles = heads * ((rows + of - 1) / of);
        return double((tiles + processors - 1) / processors * of);
    };
    /* Of 128 columns those of 128 rows take 5 % more time a row than those of 192. */
    bool shorter = (call.banded ? some : 1.05 * most(128) < most(192));
    /* Masked blocks, and sequences that end in one, are the dearer the larger they are. */
    bool edge = call.banded || keys <= 64;
    return size <= 64           ? few    ? edge ? entry_of<typename shape::d64_few_edge>
                                                : entry_of<typename shape::d64_few>
                                     : some ? edge ? entry_of<typename shape::d64_some_edge>
                                                   : entry_of<typename shape::d64_some>
                                            : entry_of<typename shape::d64>
                     : size <= 128 && few ? entry_of<typename shape::d128_few>
           : size > 192  ? keys < (call.banded ? 6144 : 3072) ? entry_of<typename shape::d256_short>
                                                              : entry_of<typename shape::d256_long>
            : size > 128 ? keys < 3072 ? entry_of<typename shape::d192_short>
                                       : entry_of<typename shape::d192_long>
            : shorter ? entry_of<typename shape::d128_short>
           : call.banded ? keys < 12288 ? entry_of<typename shape::d128_edge>
                                        : entry_of<typename shape::d128_long>
           : keys < 1536 ? entry_of<typename shape::d128_short>
                         : entry_of<typename shape::d128_long>;
}

/* What a varied shape is told besides. */
void vary(const fovea_cuda_attention *a, attention_call *call) {
    const int32_t far = 1 << 29;
    attention_sequences &s = call->sequences;
    s = {};
    s.query_starts = a->cu_seqlens_q.data, s.query_starts_step = a->cu_seqlens_q.stride[0];
    s.key_starts = a->cu_seqlens_k.data, s.key_starts_step = a->cu_seqlens_k.stride[0];
    s.keys_used = a->seqused_k.data, s.keys_used_step = a->seqused_k.stride[0];
    s.pages = a->block_table.data;
    s.pages_batch = a->block_table.stride[0], s.pages_step = a->block_table.stride[1];
    s.batch = a->batch, s.page_size = a->page_size, s.page_count = a->pages;
    s.left = a->window_left < 0 || a->window_left > far ? -far : -a->window_left;
    s.right = a->window_right < 0 || a->window_right > far ? far : a->window_right;
    if (a->causal != FOVEA_ATTENTION_CAUSAL_NONE) s.right = 0;
    s.offset = a->query_offset;
    s.bottom_right = a->causal == FOVEA_ATTENTION_CAUSAL_BOTTOM_RIGHT;
    call->sinks = a->sinks, call->sinks_step = a->sinks_stride;
}

} /* namespace */

bool fovea_cuda_attention_hopper_serves(const fovea_cuda_attention *problem, char *reason,
                                        size_t size) {
    const char *why = refusal(problem);
    if (why) snprintf(reason, size, "%s", why);
    return why == nullptr;
}

size_t fovea_cuda_attention_hopper_workspace(const fovea_cuda_attention *a, int multiprocessors) {
    if (is_varied(a) || is_modified(a) || a->group == 0) return counter_bytes;
    attention_call call = call_of(a);
    entry chosen = a->q.dtype == FOVEA_F16 ? choose<__half>(call, multiprocessors)
                                           : choose<__nv_bfloat16>(call, multiprocessors);
    return chosen.workspace(call, multiprocessors);
}

int fovea_cuda_attention_hopper(const fovea_cuda_attention *a, void *workspace,
                                cudaStream_t stream) {
    attention_call call = call_of(a);
    call.counter = static_cast<uint32_t *>(workspace);
    bool varied = is_varied(a);
    if (varied) vary(a, &call);
    if (a->batch == 0 || a->query_heads == 0 || a->query_length == 0) return cudaSuccess;
    int processors;
    cudaError_t error = count_processors(&processors);
    if (error != cudaSuccess) return error;
    bool half = a->q.dtype == FOVEA_F16;
    if (varied) return launch_varied(call, half, processors, stream);
    if (is_modified(a)) return launch_modified(call, half, processors, stream);
    entry chosen =
        half ? choose<__half>(call, processors) : choose<__nv_bfloat16>(call, processors);
    return chosen.run(call, processors, stream);
}
