/* The door to the split kernel: how many pieces the keys are cut into, and which form runs. */
#include "cuda/attention/split.cuh"

/* The pieces that make the device end soonest, in keys of a block's time: each wave of blocks takes as long
 * as a piece and what starting and ending one costs, about 128 keys; where there are several, merging takes
 * 256 and 16 for each. Of sequences whose lengths only the device knows, at least three waves, which even
 * out. */
static int count_pieces(const fovea_cuda_attention &p, int64_t blocks, int slots) {
    enum { START = 128, MERGE = 256, EACH = 16, LEAST = 128, MOST = 128 };
    int64_t keys = p.key_length, best_cost = INT64_MAX;
    bool uneven = p.seqused_k.data || p.cu_seqlens_k.data;
    int best = 1;
    for (int pieces = 1; pieces <= MOST && (pieces == 1 || keys / pieces >= LEAST); pieces++) {
        int64_t waves = blocks_for(blocks * pieces, slots);
        int64_t cost = waves * (blocks_for(keys, pieces) + START);
        if (pieces > 1) cost += MERGE + EACH * pieces;
        if (uneven && waves < 3) cost += keys * blocks / slots;
        if (cost < best_cost) best_cost = cost, best = pieces;
    }
    return best;
}

static int padded(const fovea_cuda_attention &p) {
    int size = p.head_size > p.value_size ? p.head_size : p.value_size;
    return size <= 64 ? 64 : size <= 128 ? 128 : 256;
}

static int64_t blocks_of(const fovea_cuda_attention &p) {
    return (int64_t)p.batch * p.key_heads * blocks_for((int64_t)p.query_length * p.group, 16);
}

static bool is_bytes(const fovea_cuda_attention &p) { return fovea_dtype_size(p.k.dtype) == 1; }

static split_parts plan_of(const fovea_cuda_attention &p, int multiprocessors, void *workspace) {
    int64_t blocks = blocks_of(p);
    int slots = multiprocessors * (padded(p) > 128 && !is_bytes(p) ? 1 : 2);
    split_parts parts = {(float *)workspace, NULL, count_pieces(p, blocks, slots),
                         (int)blocks_for((int64_t)p.query_length * p.group, 16)};
    parts.states = (float2 *)(parts.rows + blocks * parts.pieces * 16 * padded(p));
    return parts;
}

extern "C" size_t fovea_cuda_attention_split_workspace(const fovea_cuda_attention *problem,
                                                       int multiprocessors) {
    split_parts parts = plan_of(*problem, multiprocessors, NULL);
    if (parts.pieces == 1) return 0;
    return (size_t)(blocks_of(*problem) * parts.pieces) * 16 * ((size_t)padded(*problem) * 4 + 8);
}

/* The merge may be put on the device before the pieces are done: it waits there. */
template <class T, int size>
static cudaError_t launch_merge(const fovea_cuda_attention &p, const split_parts &parts, bool early,
                                cudaStream_t stream) {
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = (unsigned)(blocks_of(p) * 16), config.blockDim = 128;
    config.stream = stream, config.attrs = &attribute, config.numAttrs = early ? 1 : 0;
    return cudaLaunchKernelEx(&config, merge_pieces<T, size>, p, parts);
}

template <class Form>
static cudaError_t launch_form(const fovea_cuda_attention &p, const split_parts &parts,
                               uint32_t aligned, bool early, cudaStream_t stream) {
    cudaError_t error = cudaFuncSetAttribute(
        split_keys<Form>, cudaFuncAttributeMaxDynamicSharedMemorySize, Form::shared_bytes);
    if (error != cudaSuccess) return error;
    constexpr int64_t pass = Form::cache * Form::loader::pass,
                      jump = Form::cache * (Form::warps - 1) * Form::keys;
    split_pitches pitches = {{pass * p.k.stride[2], pass * p.v.stride[2]},
                             {jump * p.k.stride[2], jump * p.v.stride[2]}};
    split_keys<Form>
        <<<(unsigned)(blocks_of(p) * parts.pieces), Form::threads, Form::shared_bytes, stream>>>(
            p, pitches, parts, aligned);
    error = cudaGetLastError();
    if (error != cudaSuccess || parts.pieces == 1) return error;
    return launch_merge<typename Form::element, Form::size>(p, parts, early, stream);
}

template <class T, int size>
static cudaError_t launch_size(const fovea_cuda_attention &p, const split_parts &parts, bool early,
                               cudaStream_t stream) {
    uint32_t aligned = fovea_cuda_rows_are_aligned(&p.q, p.head_size) |
                       fovea_cuda_rows_are_aligned(&p.k, p.head_size) << 1 |
                       fovea_cuda_rows_are_aligned(&p.v, p.value_size) << 2;
    bool plain = aligned == 7 && !p.mask.data && !p.bias.data && !p.slopes && isinf(p.softcap) &&
                 p.keep == 1 && p.scale > 0;
    if (is_bytes(p))
        return plain ? launch_form<split_form<T, size, 1, true>>(p, parts, aligned, early, stream)
                     : launch_form<split_form<T, size, 1, false>>(p, parts, aligned, early, stream);
    return plain ? launch_form<split_form<T, size, 2, true>>(p, parts, aligned, early, stream)
                 : launch_form<split_form<T, size, 2, false>>(p, parts, aligned, early, stream);
}

template <class T>
static cudaError_t launch(const fovea_cuda_attention &p, const split_parts &parts, bool early,
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

extern "C" int fovea_cuda_attention_split(const fovea_cuda_attention *problem, int multiprocessors,
                                          bool early, void *workspace, cudaStream_t stream) {
    split_parts parts = plan_of(*problem, multiprocessors, workspace);
    if (blocks_of(*problem) == 0) return cudaSuccess;
    cudaError_t error = problem->q.dtype == FOVEA_F16
                            ? launch<__half>(*problem, parts, early, stream)
                            : launch<__nv_bfloat16>(*problem, parts, early, stream);
    if (error != cudaSuccess) cudaGetLastError();
    return error;
}
