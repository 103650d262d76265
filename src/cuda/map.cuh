/* Elementwise kernels: y = f(a, b, c) in f32, rounded once. Contiguous tensors move 16 bytes a thread
 * and step, four steps in flight, which is what fills the memory; other strides take an element a
 * thread. */
#ifndef FOVEA_CUDA_MAP_CUH
#define FOVEA_CUDA_MAP_CUH

#include "cuda/kernel.cuh"

enum { MAP_THREADS = 256, MAP_STEPS = 4 };

/* Constants of a call: bounds, slopes. */
struct map_constants {
    float p, q;
};

template <class T, int arity>
struct map_inputs {
    const T *at[arity];
};

template <class In, class Out, int arity, class Function>
static __device__ __forceinline__ Out map_one(const In *values, map_constants k) {
    float x[3] = {0, 0, 0};
#pragma unroll
    for (int i = 0; i < arity; i++) x[i] = widen(values[i]);
    return narrow<Out>(Function::apply(x[0], x[1], x[2], k));
}

template <class In, class Out, int arity, class Function, int size>
static __global__ __launch_bounds__(MAP_THREADS, 4) void map_contiguous(map_inputs<In, arity> in,
                                                                        Out *out, int64_t count,
                                                                        map_constants k) {
    constexpr int64_t per_block = (int64_t)MAP_THREADS * MAP_STEPS * size;
    int64_t first = blockIdx.x * per_block;
    if (first + per_block <= count) {
        pack<In, size> loaded[MAP_STEPS][arity];
#pragma unroll
        for (int s = 0; s < MAP_STEPS; s++)
#pragma unroll
            for (int a = 0; a < arity; a++)
                loaded[s][a] = reinterpret_cast<const pack<In, size> *>(
                    in.at[a] + first)[s * MAP_THREADS + threadIdx.x];
#pragma unroll
        for (int s = 0; s < MAP_STEPS; s++) {
            pack<Out, size> result;
#pragma unroll
            for (int i = 0; i < size; i++) {
                In values[arity];
#pragma unroll
                for (int a = 0; a < arity; a++) values[a] = loaded[s][a].at[i];
                result.at[i] = map_one<In, Out, arity, Function>(values, k);
            }
            reinterpret_cast<pack<Out, size> *>(out + first)[s * MAP_THREADS + threadIdx.x] =
                result;
        }
        return;
    }
    for (int64_t i = first + threadIdx.x; i < count; i += MAP_THREADS) {
        In values[arity];
#pragma unroll
        for (int a = 0; a < arity; a++) values[a] = in.at[a][i];
        out[i] = map_one<In, Out, arity, Function>(values, k);
    }
}

template <class In, class Out, int arity, class Function>
static __global__
__launch_bounds__(MAP_THREADS, 4) void map_strided(map_inputs<In, arity> in, Out *out,
                                                   const __grid_constant__ strided<arity + 1> where,
                                                   int64_t count, map_constants k) {
    int64_t number = (int64_t)blockIdx.x * MAP_THREADS + threadIdx.x, at[arity + 1];
    if (number >= count) return;
    where.offsets(number, at);
    In values[arity];
#pragma unroll
    for (int a = 0; a < arity; a++) values[a] = in.at[a][at[a]];
    out[at[arity]] = map_one<In, Out, arity, Function>(values, k);
}

/* The inputs are the first arguments of the kernel, the output is the next. */
template <class In, class Out, int arity, class Function>
static fovea_status map_run(const fovea_problem *problem, fovea_run *run, map_constants k) {
    constexpr int size = 16 / (sizeof(In) > sizeof(Out) ? sizeof(In) : sizeof(Out));
    constexpr int64_t per_block = (int64_t)MAP_THREADS * MAP_STEPS * size;
    cudaStream_t stream = (cudaStream_t)run->stream;
    fovea_view views[arity + 1], *all[arity + 1];
    const fovea_view *seen[arity + 1];
    map_inputs<In, arity> in;
    for (int t = 0; t <= arity; t++) {
        views[t] = problem->views[t];
        seen[t] = all[t] = &views[t];
    }
    int64_t count = fovea_view_elements(&views[0]);
    if (count == 0) return FOVEA_OK;
    fovea_views_collapse(all, arity + 1);
    bool contiguous = views[0].rank == 1;
    for (int t = 0; t <= arity; t++) {
        size_t bytes = size * (t < arity ? sizeof(In) : sizeof(Out));
        contiguous &= (views[t].stride[0] == 1 || count == 1) && is_aligned(views[t].data, bytes);
        if (t < arity) in.at[t] = (const In *)views[t].data;
    }
    Out *out = (Out *)views[arity].data;
    int64_t blocks = blocks_for(count, contiguous ? per_block : MAP_THREADS);
    if (!grid_fits(blocks)) {
        run->reason = "more than 2^31 blocks";
        return FOVEA_UNSUPPORTED;
    }
    if (contiguous)
        map_contiguous<In, Out, arity, Function, size>
            <<<(unsigned)blocks, MAP_THREADS, 0, stream>>>(in, out, count, k);
    else
        map_strided<In, Out, arity, Function><<<(unsigned)blocks, MAP_THREADS, 0, stream>>>(
            in, out, strided_of<arity + 1>(seen, views[0].rank), count, k);
    return launched(run);
}

template <int arity, class Function>
static fovea_status map_floats(const fovea_problem *problem, fovea_run *run, map_constants k) {
    switch (problem->dtype) {
    case FOVEA_F16:
        return map_run<__half, __half, arity, Function>(problem, run, k);
    case FOVEA_BF16:
        return map_run<__nv_bfloat16, __nv_bfloat16, arity, Function>(problem, run, k);
    default:
        return map_run<float, float, arity, Function>(problem, run, k);
    }
}

/* f(a, b, c) as an expression, with p and q from k. */
#define MAP_FUNCTION(name, expression)                                                             \
    struct name##_function {                                                                       \
        static __device__ __forceinline__ float apply(float a, float b, float c,                   \
                                                      map_constants k) {                           \
            (void)b, (void)c, (void)k;                                                             \
            return expression;                                                                     \
        }                                                                                          \
    };

/* A kernel without parameters. */
#define MAP_KERNEL(name, arity, expression)                                                        \
    MAP_FUNCTION(name, expression)                                                                 \
    static fovea_status name(const fovea_problem *problem, fovea_run *run) {                       \
        return map_floats<arity, name##_function>(problem, run, {0, 0});                           \
    }

#define CUDA_ENTRY(kernel_name, dtype_set, function)                                               \
    {                                                                                              \
        .kernel = #kernel_name, .name = "cuda/sm80/direct", .dtypes = dtype_set, .run = function,  \
        .device = kDLCUDA                                                                          \
    }
#define MAP_ENTRY(name) CUDA_ENTRY(name, FOVEA_FLOATS, name)

#endif
