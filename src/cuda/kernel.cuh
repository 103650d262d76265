/* The few things that every kernel for CUDA is made of: element types, strided indices, reductions in
 * a fixed order, launches. Device code is compiled without contraction: a multiply-add is written as
 * one, and compensated sums stay as they are written. */
#ifndef FOVEA_CUDA_KERNEL_CUH
#define FOVEA_CUDA_KERNEL_CUH

#include "cuda/device.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

/* The type of an element by its dtype, and values of the compute type from and to it. */
template <fovea_dtype dtype>
struct element_of;
template <>
struct element_of<FOVEA_F32> {
    using type = float;
};
template <>
struct element_of<FOVEA_F16> {
    using type = __half;
};
template <>
struct element_of<FOVEA_BF16> {
    using type = __nv_bfloat16;
};

static __device__ __forceinline__ float widen(float x) { return x; }
static __device__ __forceinline__ float widen(__half x) { return __half2float(x); }
static __device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
template <class T>
static __device__ __forceinline__ T narrow(float x);
template <>
__device__ __forceinline__ float narrow<float>(float x) {
    return x;
}
template <>
__device__ __forceinline__ __half narrow<__half>(float x) {
    return __float2half_rn(x);
}
template <>
__device__ __forceinline__ __nv_bfloat16 narrow<__nv_bfloat16>(float x) {
    return __float2bfloat16_rn(x);
}
template <>
__device__ __forceinline__ uint8_t narrow<uint8_t>(float x) {
    return (uint8_t)x;
}

/* `size` elements that are moved together, 16 bytes at most. */
template <class T, int size>
struct alignas(sizeof(T) * size) pack {
    T at[size];
};

/* Dimensions of one shape with the strides of several tensors. */
template <int tensors>
struct strided {
    int rank;
    int64_t shape[FOVEA_RANK_MAX], stride[tensors][FOVEA_RANK_MAX];

    /* Where element `number`, counted in row-major order, is in each tensor. */
    __device__ void offsets(int64_t number, int64_t (&at)[tensors]) const {
        for (int t = 0; t < tensors; t++) at[t] = 0;
        for (int i = rank - 1; i > 0; i--) {
            int64_t rest =
                number >> 32 ? number / shape[i] : (int64_t)((uint32_t)number / (uint64_t)shape[i]);
            int64_t index = number - rest * shape[i];
            for (int t = 0; t < tensors; t++) at[t] += index * stride[t][i];
            number = rest;
        }
        if (rank > 0)
            for (int t = 0; t < tensors; t++) at[t] += number * stride[t][0];
    }
};

/* The first `rank` dimensions of views. */
template <int tensors>
static strided<tensors> strided_of(const fovea_view *const (&views)[tensors], int rank) {
    strided<tensors> s = {};
    s.rank = rank;
    for (int i = 0; i < rank; i++) {
        s.shape[i] = views[0]->shape[i];
        for (int t = 0; t < tensors; t++) s.stride[t][i] = views[t]->stride[i];
    }
    return s;
}

/* ---- Reductions in an order that only the shape decides ------------------------------------- */

template <class T, class Join>
static __device__ __forceinline__ T reduce_warp(T value, Join join) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2)
        value = join(value, __shfl_xor_sync(0xffffffffu, value, step));
    return value;
}

/* Over the `threads` of a block, or each warp of it by itself where they are 32; all get the result. */
template <int threads, class T, class Join>
static __device__ __forceinline__ T reduce_threads(T value, Join join) {
    value = reduce_warp(value, join);
    if (threads == 32) return value;
    __shared__ T partial[threads / 32];
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
    __syncthreads();
    value = partial[0];
    for (int w = 1; w < threads / 32; w++) value = join(value, partial[w]);
    __syncthreads();
    return value;
}

/* ---- Launches ------------------------------------------------------------------------------- */

static inline bool is_aligned(const void *pointer, size_t bytes) {
    return (uintptr_t)pointer % bytes == 0;
}

static inline fovea_status launched(fovea_run *run) {
    return fovea_cuda_launched(run, (int)cudaGetLastError());
}

/* Blocks of `size` that cover `count`; a grid's first dimension has room for 2^31 - 1. */
static inline int64_t blocks_for(int64_t count, int64_t size) { return (count + size - 1) / size; }

static inline bool grid_fits(int64_t blocks) { return blocks <= INT32_MAX; }

#endif
