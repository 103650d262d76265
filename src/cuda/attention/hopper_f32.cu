/* The door to attention for f32 by warpgroup products of halves: what it serves, where the terms lie, which
 * shape runs. NOTES.md has the figures and what lost. */
#include "cuda/attention/attention.h"
#include "cuda/attention/hopper_f32_kernel.cuh"
#include "cuda/attention/hopper_launch.cuh"

#include <cmath>
#include <cstdio>

namespace {

using namespace fovea::hopper;

/*                               head keys groups K/V Q turns trusting varied planes */
using d64 = attention_shape<__half, 64, 128, 2, 2, 2, true, false, false, 2>;
using d64_few = attention_shape<__half, 64, 64, 1, 4, 1, false, false, false, 2>;
using d128 = attention_shape<__half, 128, 64, 2, 2, 2, true, false, false, 2>;
using d128_few = attention_shape<__half, 128, 64, 1, 2, 1, false, false, false, 2>;

const char *refusal(const fovea_cuda_attention *a) {
    if (a->q.dtype != FOVEA_F32 || a->k.dtype != FOVEA_F32 || a->v.dtype != FOVEA_F32)
        return "q, k and v must all be f32";
    if (a->cu_seqlens_q.data || a->cu_seqlens_k.data || a->seqused_k.data || a->block_table.data)
        return "sequences of one length only, not in pages";
    if (a->mask.data || a->bias.data || a->slopes || a->sinks)
        return "no mask or bias tensor, no ALiBi, no sinks";
    if (a->softcap < INFINITY || a->keep < 1.0f) return "no softcap, no dropout";
    if (!(a->scale_log2 > 0x1p-16f && a->scale_log2 < 0x1p16f))
        return "scales between 2^-16 and 2^16 only";
    if (a->head_size == 0 || a->value_size == 0) return "head sizes above 0 only";
    if (a->key_length == 0 || a->key_length > 1 << 20) return "between 1 and 2^20 keys";
    /* Beyond that a map's strides would not do. */
    int64_t rows =
        int64_t{a->batch} * std::max(a->query_heads, 1) * std::max(a->query_length, a->key_length);
    if (rows >= int64_t{1} << 31) return "fewer than 2^31 rows";
    if (!fovea_cuda_attention_f32_products_serves(a))
        return "heads of at most 128, rows that are contiguous and stand at multiples of 16 bytes";
    return nullptr;
}

int64_t up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }
int64_t count(int64_t value, int64_t unit) { return (value + unit - 1) / unit; }

/* Words in which blocks refuse: of few tiles one each. */
constexpr int control_words = 2 + 1024;

int columns_of(const fovea_cuda_attention *a) {
    return std::max(a->head_size, a->value_size) <= 64 ? 64 : 128;
}
bool is_few(const fovea_cuda_attention *a, int processors) {
    return int64_t{a->batch} * a->query_heads * count(a->query_length, 64) <=
           std::min(processors, control_words - 2);
}

/* The workspace: control, factors, planes of k and v. Returns its bytes. */
size_t plan(const fovea_cuda_attention *a, char *memory, int keys, split_parameters *split) {
    const fovea_cuda_tensor *tensors[2] = {&a->k, &a->v};
    const int64_t key_heads = int64_t{a->batch} * a->key_heads;
    int64_t at = 0;
    auto reserve = [&](int64_t bytes) {
        char *place = memory + at;
        at += up(bytes, 128);
        return place;
    };
    split->control = reinterpret_cast<uint32_t *>(reserve(4 * control_words));
    split->key_factors =
        reinterpret_cast<float2 *>(reserve(key_heads * count(a->key_length, keys) * 8));
    split->blocks = key_heads * count(a->key_length, keys);
    for (int role = SPLIT_K; role <= SPLIT_V; role++) {
        split_tensor &t = split->tensors[role];
        t.data = reinterpret_cast<const float *>(tensors[role]->data);
        t.batch = tensors[role]->stride[0], t.head = tensors[role]->stride[1];
        t.row = tensors[role]->stride[2];
        t.heads = a->key_heads, t.length = a->key_length;
        t.columns = role == SPLIT_V ? a->value_size : a->head_size;
        t.pitch = int32_t(up(t.columns, 8));
        t.blocks = int32_t(count(t.length, keys));
        t.plane = int64_t{a->batch} * t.heads * t.length * t.pitch;
        t.planes = reinterpret_cast<__half *>(reserve(2 * t.plane * 2));
    }
    return size_t(at);
}

bool describe_planes(CUtensorMap *map, const split_tensor &t, int batch, int rows) {
    attention_tensor planes = {t.planes, t.plane, int64_t{t.length} * t.pitch, t.pitch};
    return describe<__half>(map, planes, t.pitch, t.length, batch * t.heads, 2, rows);
}

template <typename Shape, bool splits>
cudaError_t launch_shape(const fovea_cuda_attention *a, void *workspace, int processors,
                         cudaStream_t stream) {
    split_parameters split;
    f32_parameters p = {};
    plan(a, static_cast<char *>(workspace), Shape::N, &split);
    attention_call call = call_of(a);
    call.counter = split.control;
    if (!splits && (!describe_planes(&p.k, split.tensors[SPLIT_K], a->batch, Shape::N) ||
                    !describe_planes(&p.v, split.tensors[SPLIT_V], a->batch, Shape::N)))
        return cudaErrorInvalidValue;
    parametrize<Shape>(&p, call, processors);
    p.queries = reinterpret_cast<const float *>(a->q.data);
    p.query_batch = a->q.stride[0], p.query_head = a->q.stride[1], p.query_row = a->q.stride[2];
    p.key_factors = split.key_factors, p.head_size = a->head_size;
    p.key_blocks = split.tensors[SPLIT_K].blocks;
    for (int role = SPLIT_K; role <= SPLIT_V; role++) p.tensors[role] = split.tensors[role];
    /* Every term of a product is at most 2^15, and 2^-25 away from what it stands for. */
    p.lost_score = float(a->head_size) * 0x1p-9f;
    p.refused = split.control + 1;
    constexpr auto kernel = attention_f32_kernel<Shape, splits>;
    cudaError_t error = allow_shared_bytes<kernel>(Shape::shared_bytes);
    if (error != cudaSuccess) return error;
    if (!splits)
        error = launch_after(split_terms<Shape::D, Shape::N>, unsigned(2 * split.blocks), 256, 0,
                             true, stream, split);
    if (error != cudaSuccess) return error;
    error = launch_after(kernel, unsigned(std::min(p.tiles, processors)), Shape::threads,
                         Shape::shared_bytes, true, stream, p);
    if (error != cudaSuccess) return error;
    return cudaError_t(
        fovea_cuda_attention_f32_products(a, p.refused, splits ? p.tiles : 1, stream));
}

} /* namespace */

bool fovea_cuda_attention_hopper_f32_serves(const fovea_cuda_attention *problem, char *reason,
                                            size_t size) {
    const char *why = refusal(problem);
    if (why) snprintf(reason, size, "%s", why);
    return why == nullptr;
}

size_t fovea_cuda_attention_hopper_f32_workspace(const fovea_cuda_attention *problem) {
    split_parameters split;
    return plan(problem, nullptr, 64, &split); /* more keys a block need no more */
}

int fovea_cuda_attention_hopper_f32(const fovea_cuda_attention *a, void *workspace,
                                    cudaStream_t stream) {
    if (a->batch == 0 || a->query_heads == 0 || a->query_length == 0) return cudaSuccess;
    int processors;
    cudaError_t error = count_processors(&processors);
    if (error != cudaSuccess) return error;
    bool few = is_few(a, processors);
    /* Two blocks of keys at most: splitting them in every block costs less than a grid that does it for all. */
    bool splits = a->key_length <= 2 * d64_few::N;
    auto run = columns_of(a) == 64 ? !few     ? launch_shape<d64, false>
                                     : splits ? launch_shape<d64_few, true>
                                              : launch_shape<d64_few, false>
               : !few ? launch_shape<d128, false>
               : splits            ? launch_shape<d128_few, true>
                                   : launch_shape<d128_few, false>;
    return run(a, workspace, processors, stream);
}
