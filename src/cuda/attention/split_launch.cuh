/* From a problem and a plan to launches of the split kernel and of the merge, for queries of one type. */
#ifndef FOVEA_CUDA_ATTENTION_SPLIT_LAUNCH_CUH
#define FOVEA_CUDA_ATTENTION_SPLIT_LAUNCH_CUH

#include "cuda/attention/split.cuh"

static int padded(const fovea_cuda_attention &p) {
    int size = p.head_size > p.value_size ? p.head_size : p.value_size;
    return size <= 64 ? 64 : size <= 128 ? 128 : 256;
}

static bool is_bytes(const fovea_cuda_attention &p) { return fovea_dtype_size(p.k.dtype) == 1; }

static int rows_each(const fovea_cuda_attention &p) {
    return split_rows((int)fovea_dtype_size(p.k.dtype), (int64_t)p.query_length * p.group);
}

static int row_tiles(const fovea_cuda_attention &p) {
    return (int)blocks_for((int64_t)p.query_length * p.group, rows_each(p));
}

static int64_t blocks_of(const fovea_cuda_attention &p) {
    return (int64_t)p.batch * p.key_heads * row_tiles(p);
}

/* The merge may be put on the device before the pieces are done: it waits there. */
template <class T, int size>
static cudaError_t launch_merge(const fovea_cuda_attention &p, const split_parts &parts, bool early,
                                cudaStream_t stream) {
    return launch_after(merge_pieces<T, size>, (unsigned)(blocks_of(p) * rows_each(p)), 128, 0,
                        early, stream, p, parts);
}

template <class Form>
static cudaError_t launch_form(const fovea_cuda_attention &p, const split_parts &parts,
                               uint32_t aligned, bool early, cudaStream_t stream) {
    cudaError_t error = allow_shared_bytes<split_keys<Form>>(Form::shared_bytes);
    if (error != cudaSuccess) return error;
    constexpr int64_t key_pass = Form::cache * Form::key_loader::pass,
                      value_pass = Form::cache * Form::value_loader::pass,
                      jump = Form::cache * (Form::warps - 1) * Form::keys;
    split_pitches pitches = {{key_pass * p.k.stride[2], value_pass * p.v.stride[2]},
                             {jump * p.k.stride[2], jump * p.v.stride[2]}};
    error = launch_after(split_keys<Form>, (unsigned)(blocks_of(p) * parts.pieces), Form::threads,
                         Form::shared_bytes, early, stream, p, pitches, parts, aligned);
    if (error != cudaSuccess || parts.pieces == 1) return error;
    return launch_merge<typename Form::element, Form::values>(p, parts, early, stream);
}

template <class T, int size, int cache, int rows>
static cudaError_t launch_rows(const fovea_cuda_attention &p, const split_parts &parts,
                               uint32_t aligned, bool early, cudaStream_t stream) {
    bool plain = aligned == 7 && !p.mask.data && !p.bias.data && !p.slopes && isinf(p.softcap) &&
                 p.keep == 1 && p.scale > 0;
    auto launch = plain ? launch_form<split_form<T, size, cache, rows, true>>
                        : launch_form<split_form<T, size, cache, rows, false>>;
    return launch(p, parts, aligned, early, stream);
}

template <class T, int size>
static cudaError_t launch_size(const fovea_cuda_attention &p, const split_parts &parts, bool early,
                               cudaStream_t stream) {
    uint32_t aligned = fovea_cuda_rows_are_aligned(&p.q, p.head_size) |
                       fovea_cuda_rows_are_aligned(&p.k, p.head_size) << 1 |
                       fovea_cuda_rows_are_aligned(&p.v, p.value_size) << 2;
    if constexpr (sizeof(T) == 4) {
        return launch_rows<T, size, 4, 16>(p, parts, aligned, early, stream);
    } else if (is_bytes(p)) {
        if (parts.rows_each == 16)
            return launch_rows<T, size, 1, 16>(p, parts, aligned, early, stream);
        return launch_rows<T, size, 1, 8>(p, parts, aligned, early, stream);
    } else {
        return launch_rows<T, size, 2, 16>(p, parts, aligned, early, stream);
    }
}

template <class T>
static cudaError_t launch_split(const fovea_cuda_attention &p, const split_parts &parts, bool early,
                                cudaStream_t stream) {
    switch (padded(p)) {
    case 64:
        return launch_size<T, 64>(p, parts, early, stream);
    case 128:
        return launch_size<T, 128>(p, parts, early, stream);
    default:
        return launch_size<T, 256>(p, parts, early, stream);
    }
}

/* Of f32, in a file of its own for the compiler's sake. */
cudaError_t fovea_cuda_attention_split_words(const fovea_cuda_attention &p,
                                             const split_parts &parts, bool early,
                                             cudaStream_t stream);

#endif
