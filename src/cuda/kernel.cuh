/* The few things that every kernel for CUDA is made of: element types, strided indices, reductions in
 * a fixed order, launches. Device code is compiled without contraction: a multiply-add is written as
 * one, and compensated sums stay as they are written. */
#ifndef FOVEA_CUDA_KERNEL_CUH
#define FOVEA_CUDA_KERNEL_CUH

#include "cuda/device.h"
#include "cuda/instructions.cuh"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <string.h>

/* Calls function(value of the element type) for a dtype of floats, or of f32 and f64. */
template <class F>
static fovea_status by_float(fovea_dtype dtype, F function) {
    switch (dtype) {
    case FOVEA_F16:
        return function(__half{});
    case FOVEA_BF16:
        return function(__nv_bfloat16{});
    default:
        return function(float{});
    }
}
template <class F>
static fovea_status by_precision(fovea_dtype dtype, F function) {
    return dtype == FOVEA_F64 ? function(double{}) : function(float{});
}

/* What elements are computed in, and their values in it. */
static __device__ __forceinline__ float widen(float x) { return x; }
static __device__ __forceinline__ double widen(double x) { return x; }
static __device__ __forceinline__ float widen(__half x) { return __half2float(x); }
static __device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
static __device__ __forceinline__ float widen(int8_t x) { return (float)x; }
static __device__ __forceinline__ float widen(uint8_t x) { return (float)x; }

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
/* To the nearest even; of numbers in [-128, 127]. In the last bits of a number whose ULP is 1, because
 * conversions take four times as long. */
template <>
__device__ __forceinline__ int8_t narrow<int8_t>(float x) {
    return (int8_t)__float_as_int(x + 12582912.0f);
}

/* `size` elements that are moved together, 16 bytes at most. */
template <class T, int size>
struct alignas(sizeof(T) * size) pack {
    T at[size];
};

/* Keeps elements that came one by one together in words, as they are when they come at once: the compiler
 * would give each a register of its own. */
template <class T, int size>
static __device__ __forceinline__ void put_together(pack<T, size> &values) {
    if constexpr (sizeof(T) < 4 && sizeof values % 4 == 0) {
        unsigned words[sizeof values / 4];
        memcpy(words, &values, sizeof values);
#pragma unroll
        for (unsigned w = 0; w < sizeof values / 4; w++) asm volatile("" : "+r"(words[w]));
        memcpy(&values, words, sizeof values);
    }
}

/* The first `valid` of `size` elements, the others 0: in one access where all are there and `wide` (the
 * address is then a multiple of its bytes), else one by one. */
template <class T, int size>
static __device__ __forceinline__ pack<T, size> load_pack(const T *from, int64_t valid, bool wide) {
    pack<T, size> values = {};
    if (wide && valid >= size) return *reinterpret_cast<const pack<T, size> *>(from);
#pragma unroll
    for (int i = 0; i < size; i++)
        if (i < valid) values.at[i] = from[i];
    put_together(values);
    return values;
}
template <class T, int size>
static __device__ __forceinline__ void store_pack(T *to, const pack<T, size> &values, int64_t valid,
                                                  bool wide) {
    if (wide && valid >= size) {
        *reinterpret_cast<pack<T, size> *>(to) = values;
        return;
    }
#pragma unroll
    for (int i = 0; i < size; i++)
        if (i < valid) to[i] = values.at[i];
}

/* `size` elements that nobody looks at again, past the first cache where they are a vector of 16 bytes. */
template <bool wide, class T, int size>
static __device__ __forceinline__ pack<T, size> load_once(const T *from) {
    if constexpr (wide && sizeof(pack<T, size>) == 16) {
        pack<T, size> values;
        unsigned words[4];
        load_past_l1(words, from);
        memcpy(&values, words, sizeof values);
        return values;
    }
    return load_pack<T, size>(from, size, wide);
}

/* Dimensions of one shape with the strides of several tensors. */
template <int tensors>
struct strided {
    int rank;
    int64_t shape[FOVEA_RANK_MAX], stride[tensors][FOVEA_RANK_MAX];
    double inverse[FOVEA_RANK_MAX]; /* of the shape */

    /* number / shape[i]; a division of 64 bits would be a call, before which registers are saved. */
    __device__ __forceinline__ int64_t quotient(int64_t number, int i) const {
        int64_t guess = (int64_t)((double)number * inverse[i]);
        int64_t rest = number - guess * shape[i];
        while (rest < 0) guess--, rest += shape[i];
        while (rest >= shape[i]) guess++, rest -= shape[i];
        return guess;
    }

    /* Where element `number`, counted in row-major order, is in each tensor. */
    __device__ __forceinline__ void offsets(int64_t number, int64_t (&at)[tensors]) const {
        for (int t = 0; t < tensors; t++) at[t] = 0;
        for (int i = rank - 1; i > 0; i--) {
            int64_t rest = quotient(number, i), index = number - rest * shape[i];
            for (int t = 0; t < tensors; t++) at[t] += index * stride[t][i];
            number = rest;
        }
        if (rank > 0)
            for (int t = 0; t < tensors; t++) at[t] += number * stride[t][0];
    }
};

/* All dimensions of views of one shape. */
template <int tensors>
static strided<tensors> strided_of(const fovea_view *const (&views)[tensors]) {
    strided<tensors> s = {};
    s.rank = views[0]->rank;
    for (int i = 0; i < s.rank; i++) {
        s.shape[i] = views[0]->shape[i];
        s.inverse[i] = s.shape[i] > 0 ? 1 / (double)s.shape[i] : 0;
        for (int t = 0; t < tensors; t++) s.stride[t][i] = views[t]->stride[i];
    }
    return s;
}

/* ---- Reductions in an order that only the shape decides ------------------------------------- */

/* A value of any type from the lane whose number differs in the bits of `step`. */
template <class T>
static __device__ __forceinline__ T shuffle_xor(T value, int step) {
    static_assert(sizeof(T) % 4 == 0, "moved in words");
    unsigned words[sizeof(T) / 4];
    memcpy(words, &value, sizeof value);
#pragma unroll
    for (unsigned w = 0; w < sizeof(T) / 4; w++)
        words[w] = __shfl_xor_sync(0xffffffffu, words[w], step);
    memcpy(&value, words, sizeof value);
    return value;
}

/* Over groups of `lanes`, a power of 2; all get the result, and the same one where join(a, b) is
 * join(b, a). */
template <class T, class Join>
static __device__ __forceinline__ T reduce_lanes(T value, int lanes, Join join) {
    for (int step = lanes / 2; step > 0; step /= 2) value = join(value, shuffle_xor(value, step));
    return value;
}

template <class T, class Join>
static __device__ __forceinline__ T reduce_warp(T value, Join join) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) value = join(value, shuffle_xor(value, step));
    return value;
}

/* Over a block of `warps`; all get the result. */
template <class T, class Join>
static __device__ __forceinline__ T reduce_block(T value, int warps, Join join) {
    __shared__ T partial[32];
    value = reduce_warp(value, join);
    if (warps == 1) return value;
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
    __syncthreads();
    if ((warps & (warps - 1)) == 0) {
        value = reduce_lanes(partial[threadIdx.x % warps], warps, join);
    } else {
        value = partial[0];
        for (int w = 1; w < warps; w++) value = join(value, partial[w]);
    }
    __syncthreads();
    return value;
}

/* ---- Launches ------------------------------------------------------------------------------- */

static inline bool is_aligned(const void *pointer, size_t bytes) {
    return (uintptr_t)pointer % bytes == 0;
}

/* A grid has room for 2^31 - 1 blocks. */
static inline bool grid_fits(int64_t blocks) { return blocks <= INT32_MAX; }

/* Blocks of `size` that cover `count`. */
static inline int64_t blocks_for(int64_t count, int64_t size) { return (count + size - 1) / size; }

static inline fovea_status launched(fovea_run *run) {
    return fovea_cuda_launched(run, (int)cudaGetLastError());
}

static inline int current_device() {
    int device = 0;
    cudaGetDevice(&device);
    return device;
}

/* early: the kernel begins with follow_stream(), so it may be brought in while the one before it ends. shared:
 * bytes that it has room for beside what it declares. */
template <class... P, class... A>
static fovea_status launch_as(fovea_run *run, bool early, void (*kernel)(P...), int64_t blocks,
                              int64_t threads, size_t shared, A... arguments) {
    if (!grid_fits(blocks)) {
        run->reason = "more than 2^31 blocks";
        return FOVEA_UNSUPPORTED;
    }
    cudaLaunchAttribute serial = {};
    serial.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    serial.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)blocks), config.blockDim = dim3((unsigned)threads);
    config.dynamicSmemBytes = shared, config.stream = (cudaStream_t)run->stream;
    config.attrs = &serial;
    config.numAttrs = early && fovea_cuda_capability(current_device()) >= 90;
    if (shared > 32 << 10) /* with what the kernel declares it may be beyond 48 KiB */
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    cudaLaunchKernelEx(&config, kernel, arguments...);
    return launched(run);
}

/* Of kernels that begin with follow_stream(), as nearly all do. */
template <class... P, class... A>
static fovea_status launch(fovea_run *run, void (*kernel)(P...), int64_t blocks, int64_t threads,
                           A... arguments) {
    return launch_as(run, true, kernel, blocks, threads, 0, arguments...);
}

/* Of blocks that wait for one another: all of them run at once, or none. */
template <class... P, class... A>
static fovea_status launch_together(fovea_run *run, void (*kernel)(P...), int64_t blocks,
                                    int64_t threads, size_t shared, A... arguments) {
    cudaLaunchAttribute attributes[2] = {};
    attributes[0].id = cudaLaunchAttributeCooperative;
    attributes[0].val.cooperative = 1;
    attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[1].val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)blocks), config.blockDim = dim3((unsigned)threads);
    config.dynamicSmemBytes = shared, config.stream = (cudaStream_t)run->stream;
    config.attrs = attributes;
    config.numAttrs = 1 + (fovea_cuda_capability(current_device()) >= 90);
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    cudaLaunchKernelEx(&config, kernel, arguments...);
    return launched(run);
}

#define CUDA_ROW(kernel_name, dtype_set, function, ...)                                            \
    {                                                                                              \
        .kernel = #kernel_name, .name = "cuda/sm80/direct", .dtypes = dtype_set, ##__VA_ARGS__,    \
        .run = function, .device = kDLCUDA                                                         \
    }

#endif
