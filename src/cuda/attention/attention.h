/* Attention on the device: the problem as kernels take it, by value, and the launches. Semantics are
 * those of catalogue/attention.h; what a kernel does not take its serves function declines. */
#ifndef FOVEA_CUDA_ATTENTION_ATTENTION_H
#define FOVEA_CUDA_ATTENTION_ATTENTION_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "catalogue/attention.h"

/* A tensor [B, H, S, D] in elements. Packed (ragged) tensors have batch stride 0 and S counts rows of
 * all sequences; paged k and v are [pages, Hkv, page_size, D]. Broadcast dimensions have stride 0. */
typedef struct fovea_cuda_tensor {
    char *data; /* NULL: not given */
    fovea_dtype dtype;
    int64_t stride[4];
    int32_t rows, keys; /* of mask and bias: what lies beyond is not there; INT32_MAX: broadcast */
} fovea_cuda_tensor;

/* int32 on the device; NULL: not given. */
typedef struct fovea_cuda_integers {
    const int32_t *data;
    int64_t stride[2];
} fovea_cuda_integers;

typedef struct fovea_cuda_attention {
    fovea_cuda_tensor q, k, v, out;
    fovea_cuda_tensor lse;              /* [B, Hq, Sq], f32; stride[3] unused */
    fovea_cuda_tensor mask, bias;       /* [B, Hq, Sq, Sk]; the mask is a byte an element */
    fovea_cuda_tensor k_scale, v_scale; /* as k and v, one f32 a row */
    const float *slopes, *sinks;        /* [Hq], with their strides */
    int64_t slopes_stride, sinks_stride;
    fovea_cuda_integers cu_seqlens_q, cu_seqlens_k, seqused_k;
    fovea_cuda_integers block_table;              /* [B, max_pages] */
    int32_t batch, query_heads, key_heads, group; /* group = query_heads / key_heads */
    int32_t query_length, key_length; /* of every sequence; packed: rows of all sequences */
    int32_t head_size, value_size;
    int32_t pages, page_size, max_pages; /* 0 unless paged */
    float scale;                         /* of q k^T; any sign */
    float scale_log2;                    /* scale log2 e */
    float softcap;                       /* INFINITY: off */
    int32_t causal;                      /* FOVEA_ATTENTION_CAUSAL_NONE, _TOP_LEFT, _BOTTOM_RIGHT */
    /* Query i stands at i + query_offset (+ key_count - query_count for bottom_right). -1 is no
     * bound. All are clamped so that sums of two fit in 32 bits. */
    int32_t query_offset, window_left, window_right;
    float keep; /* 1 - dropout; 1: no dropout */
    uint32_t seed[2], dropout_offset;
} fovea_cuda_attention;

/* How a kernel may read q, k and v: rows are packed and 16 bytes are aligned wherever they begin. */
static inline bool fovea_cuda_rows_are_aligned(const fovea_cuda_tensor *t, int64_t size) {
    const int64_t unit = 16 / (int64_t)fovea_dtype_size(t->dtype);
    bool aligned = (uintptr_t)t->data % 16 == 0 && t->stride[3] == 1 && size % unit == 0;
    for (int i = 0; i < 3; i++) aligned = aligned && t->stride[i] % unit == 0;
    return aligned;
}

/* Launch on the stream and return cudaGetLastError's value as an int. Neither allocates nor waits. */
int fovea_cuda_attention_general_64(const fovea_cuda_attention *problem, cudaStream_t stream);
int fovea_cuda_attention_general_128(const fovea_cuda_attention *problem, cudaStream_t stream);
int fovea_cuda_attention_general_256(const fovea_cuda_attention *problem, cudaStream_t stream);
/* Few query rows: the keys cut into pieces. workspace: of the bytes that it says, on the device; early:
 * the device can start a grid before the one before it has ended. */
size_t fovea_cuda_attention_split_workspace(const fovea_cuda_attention *problem,
                                            int multiprocessors);
int fovea_cuda_attention_split(const fovea_cuda_attention *problem, int multiprocessors, bool early,
                               void *workspace, cudaStream_t stream);
int fovea_cuda_attention_f32(const fovea_cuda_attention *problem, cudaStream_t stream);
/* f32 by products of TF32 terms: rows aligned, heads of at most 128. wanted: so many words on the device, by a grid
 * launched just before; if all are 0 nothing is done. NULL: it is done. */
bool fovea_cuda_attention_f32_products_serves(const fovea_cuda_attention *problem);
int fovea_cuda_attention_f32_products(const fovea_cuda_attention *problem, const uint32_t *wanted,
                                      int words, cudaStream_t stream);
/* workspace: of the bytes that it says, on the device, of the stream's own. */
size_t fovea_cuda_attention_hopper_workspace(const fovea_cuda_attention *problem,
                                             int multiprocessors);
int fovea_cuda_attention_hopper(const fovea_cuda_attention *problem, void *workspace,
                                cudaStream_t stream);

/* f32 by warpgroup products of halves; workspace: of the bytes that it says, on the device. */
bool fovea_cuda_attention_hopper_f32_serves(const fovea_cuda_attention *problem, char *reason,
                                            size_t size);
size_t fovea_cuda_attention_hopper_f32_workspace(const fovea_cuda_attention *problem);
int fovea_cuda_attention_hopper_f32(const fovea_cuda_attention *problem, void *workspace,
                                    cudaStream_t stream);

/* False, with the reason in words, where the kernel does not serve the problem. Looks at nothing on
 * the device. */
bool fovea_cuda_attention_hopper_serves(const fovea_cuda_attention *problem, char *reason,
                                        size_t size);

#ifdef __cplusplus
}
#endif

#endif
