/* The door to the split kernel: how many pieces the keys are cut into, and which form runs. */
#include "cuda/attention/split_launch.cuh"

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

static split_parts plan_of(const fovea_cuda_attention &p, int multiprocessors, void *workspace) {
    int64_t blocks = blocks_of(p);
    int slots =
        multiprocessors * split_blocks(padded(p), (int)fovea_dtype_size(p.k.dtype), rows_each(p));
    split_parts parts = {(float *)workspace, NULL, count_pieces(p, blocks, slots), rows_each(p),
                         row_tiles(p)};
    parts.states = (float2 *)(parts.rows + blocks * parts.pieces * parts.rows_each * padded(p));
    return parts;
}

extern "C" size_t fovea_cuda_attention_split_workspace(const fovea_cuda_attention *problem,
                                                       int multiprocessors) {
    split_parts parts = plan_of(*problem, multiprocessors, NULL);
    if (parts.pieces == 1) return 0;
    return (size_t)(blocks_of(*problem) * parts.pieces) * parts.rows_each *
           ((size_t)padded(*problem) * 4 + 8);
}

extern "C" int fovea_cuda_attention_split(const fovea_cuda_attention *problem, int multiprocessors,
                                          bool early, void *workspace, cudaStream_t stream) {
    split_parts parts = plan_of(*problem, multiprocessors, workspace);
    if (blocks_of(*problem) == 0) return cudaSuccess;
    fovea_dtype dtype = problem->q.dtype;
    cudaError_t error =
        dtype == FOVEA_F32   ? fovea_cuda_attention_split_words(*problem, parts, early, stream)
        : dtype == FOVEA_F16 ? launch_split<__half>(*problem, parts, early, stream)
                             : launch_split<__nv_bfloat16>(*problem, parts, early, stream);
    if (error != cudaSuccess) cudaGetLastError();
    return error;
}
