/* Elementwise kernels: outputs from the inputs at the same index, in f32, rounded once. Contiguous
 * tensors move 16 bytes a thread, since memory is fastest where blocks that run beside one another have 4 KiB each;
 * other strides take an element a thread. */
#ifndef FOVEA_CUDA_MAP_CUH
#define FOVEA_CUDA_MAP_CUH

#include "cuda/brief.cuh"
#include "cuda/kernel.cuh"

enum {
    MAP_THREADS = 256,
    MAP_FEW = 1 << 14,
    MAP_FEW_THREADS = 512,
    MAP_ASKING = 1 << 25, /* elements from which blocks ask for those of later ones */
    MAP_AHEAD = 4         /* times the multiprocessors: how many blocks later those are */
};

/* Bounds, slopes. */
struct map_constants {
    float p, q;
};

/* Blocks at once: all threads that a multiprocessor has, where registers do for their vectors. */
static constexpr int map_resident(int tensors) { return tensors > 3 ? 4 : 8; }

/* Elements up to which a thread has one. Functions of four or five tensors are short, so that accesses count from some on: at
 * 10^5 fma takes 1.12 µs so and 0.87 by vectors, but add 0.90 and 0.99, gelu 0.99 and 1.55, adam 1.56 and 2.09. */
static constexpr int64_t map_few_elements(int tensors) {
    return tensors == 4 || tensors == 5 ? MAP_FEW : 8 * MAP_FEW;
}

/* Whether blocks of large tensors ask for what later ones read. */
template <class In, class Out>
static constexpr bool map_asks(int tensors) {
    return tensors == 2 && sizeof(In) == sizeof(Out);
}

template <class In, class Out, int inputs, int outputs>
struct map_operands {
    const In *in[inputs];
    Out *out[outputs];
};

/* Function()(values of the inputs, values of the outputs), both arrays of float, prepared once a thread. */
template <class In, class Out, int inputs, int outputs, class Function>
static __device__ __forceinline__ void map_one(const Function &function, const In (&values)[inputs],
                                               Out (&results)[outputs]) {
    float x[inputs], y[outputs];
#pragma unroll
    for (int a = 0; a < inputs; a++) x[a] = widen(values[a]);
    function(x, y);
#pragma unroll
    for (int a = 0; a < outputs; a++) results[a] = narrow<Out>(y[a]);
}

/* The first `whole` blocks are full and aligned, the others go the long way: all of a tensor that is not aligned. ahead:
 * a block of one tensor asks for what the block so many later has, 0: none does. */
template <class In, class Out, int inputs, int outputs, class Function, int size>
static __global__
__launch_bounds__(MAP_THREADS, map_resident(inputs + outputs)) void map_contiguous(
    const __grid_constant__ map_operands<In, Out, inputs, outputs> at, int64_t count,
    unsigned whole, bool backwards, unsigned ahead, Function function) {
    const unsigned number = backwards ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
    const unsigned each = blockDim.x * size, first = threadIdx.x * size;
    const int64_t block = (int64_t)number * each;
    const bool full = number < whole;
    pack<In, size> loaded[inputs];
    pack<Out, size> results[outputs];
    follow_stream();
    function.prepare();
    if constexpr (map_asks<In, Out>(inputs + outputs)) {
        const char *later = (const char *)(at.in[0] + block + (int64_t)ahead * each);
        if (ahead > 0 && threadIdx.x < each * sizeof(In) / 128 && number + ahead < whole)
            prefetch_l2(later + threadIdx.x * 128);
    }
    if (full) {
#pragma unroll
        for (int a = 0; a < inputs; a++)
            loaded[a] = *reinterpret_cast<const pack<In, size> *>(at.in[a] + block + first);
    } else {
#pragma unroll
        for (int a = 0; a < inputs; a++)
            loaded[a] = load_pack<In, size>(at.in[a] + block + first, count - block - first, false);
    }
#pragma unroll
    for (int i = 0; i < size; i++) {
        In values[inputs];
        Out result[outputs];
#pragma unroll
        for (int a = 0; a < inputs; a++) values[a] = loaded[a].at[i];
        map_one<In, Out, inputs, outputs>(function, values, result);
#pragma unroll
        for (int a = 0; a < outputs; a++) results[a].at[i] = result[a];
    }
    if (full) {
#pragma unroll
        for (int a = 0; a < outputs; a++)
            *reinterpret_cast<pack<Out, size> *>(at.out[a] + block + first) = results[a];
    } else {
#pragma unroll
        for (int a = 0; a < outputs; a++)
            store_pack<Out, size>(at.out[a] + block + first, results[a], count - block - first,
                                  false);
    }
}

/* Few elements go one to a thread: what counts is how much code a thread goes through. At 1000 elements mish took 1.02 µs
 * with eight and 0.87 with one and a stride, of which 0.25 were the stride's. Addresses that are ready before it waits:
 * div 0.64 to 0.55. */
template <class In, class Out, int inputs, int outputs, class Function>
static __global__ __launch_bounds__(MAP_FEW_THREADS) void map_few(
    const __grid_constant__ map_operands<In, Out, inputs, outputs> at, int count,
    Function function) {
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    const In *in[inputs];
    Out *out[outputs];
    In values[inputs];
    Out result[outputs];
    release_next();
    if (i >= count) return;
    ready_parameters(function);
#pragma unroll
    for (int a = 0; a < inputs; a++) in[a] = settled_global(at.in[a] + i);
#pragma unroll
    for (int a = 0; a < outputs; a++) out[a] = settled_global(at.out[a] + i);
    await_stream();
    function.prepare();
#pragma unroll
    for (int a = 0; a < inputs; a++) values[a] = *in[a];
    map_one<In, Out, inputs, outputs>(function, values, result);
#pragma unroll
    for (int a = 0; a < outputs; a++) *out[a] = result[a];
}

template <class In, class Out, int inputs, int outputs, class Function>
static __global__ __launch_bounds__(MAP_THREADS, 4) void map_strided(
    const __grid_constant__ map_operands<In, Out, inputs, outputs> operands,
    const __grid_constant__ strided<inputs + outputs> where, int64_t count, Function function) {
    int64_t number = (int64_t)blockIdx.x * MAP_THREADS + threadIdx.x, at[inputs + outputs];
    follow_stream();
    if (number >= count) return;
    In values[inputs];
    Out result[outputs];
    function.prepare();
    where.offsets(number, at);
#pragma unroll
    for (int a = 0; a < inputs; a++) values[a] = operands.in[a][at[a]];
    map_one<In, Out, inputs, outputs>(function, values, result);
#pragma unroll
    for (int a = 0; a < outputs; a++) operands.out[a][at[inputs + a]] = result[a];
}

/* views: of the inputs, then of the outputs. backwards: from the end on, of which the cache still holds what
 * a pass before has read. */
template <class In, class Out, int inputs, int outputs, class Function>
static fovea_status map_views(const fovea_view *const (&given)[inputs + outputs], fovea_run *run,
                              Function function, bool backwards = false) {
    constexpr int size = 16 / (sizeof(In) > sizeof(Out) ? sizeof(In) : sizeof(Out));
    constexpr int tensors = inputs + outputs;
    fovea_view views[tensors], *all[tensors];
    const fovea_view *seen[tensors];
    map_operands<In, Out, inputs, outputs> at;
    int64_t count = fovea_view_elements(given[0]);
    if (count == 0) return FOVEA_OK;
    for (int t = 0; t < tensors; t++) {
        views[t] = *given[t];
        seen[t] = all[t] = &views[t];
    }
    fovea_views_collapse(all, tensors);
    bool contiguous = views[0].rank == 1, wide = true;
    for (int t = 0; t < tensors; t++) {
        contiguous &= views[t].stride[0] == 1 || count == 1;
        wide &= is_aligned(views[t].data, size * (t < inputs ? sizeof(In) : sizeof(Out)));
    }
    for (int a = 0; a < inputs; a++) at.in[a] = (const In *)views[a].data;
    for (int a = 0; a < outputs; a++) at.out[a] = (Out *)views[inputs + a].data;
    if (!contiguous)
        return launch(run, map_strided<In, Out, inputs, outputs, Function>,
                      blocks_for(count, MAP_THREADS), MAP_THREADS, at, strided_of<tensors>(seen),
                      count, function);
    if (count <= map_few_elements(tensors)) {
        /* 391 blocks take 0.2 µs more than 4 until all are there, 98 take 0.15. */
        const int64_t threads = count <= MAP_FEW ? MAP_THREADS : MAP_FEW_THREADS;
        return launch(run, map_few<In, Out, inputs, outputs, Function>, blocks_for(count, threads),
                      threads, at, (int)count, function);
    }
    /* Small tensors are spread over more multiprocessors. */
    constexpr bool narrows = inputs == 1 && sizeof(In) == 4 && sizeof(Out) == 2;
    int threads = count < (int64_t)MAP_THREADS * size * 256 ? MAP_THREADS / 4 : MAP_THREADS;
    constexpr int each = narrows ? 2 * size : size;
    /* Halves from f32 are written 16 bytes a thread: 139 µs for 142 of 10^8. */
    if constexpr (narrows) {
        threads = MAP_THREADS / 2;
        wide = wide && is_aligned(at.in[0], each * sizeof(In)) &&
               is_aligned(at.out[0], each * sizeof(Out));
    }
    const int64_t block = (int64_t)threads * each;
    const bool asks = map_asks<In, Out>(tensors) && count >= MAP_ASKING && !backwards;
    const int ahead = asks ? fovea_cuda_multiprocessors(current_device()) * MAP_AHEAD : 0;
    return launch(run, map_contiguous<In, Out, inputs, outputs, Function, each>,
                  blocks_for(count, block), threads, at, count,
                  wide ? (unsigned)(count / block) : 0u, backwards, (unsigned)ahead, function);
}

/* The inputs are the first arguments of the kernel, the output is the next. */
template <class In, class Out, int inputs, class Function>
static fovea_status map_run(const fovea_problem *problem, fovea_run *run, Function function) {
    const fovea_view *views[inputs + 1];
    for (int a = 0; a <= inputs; a++) views[a] = &problem->views[a];
    return map_views<In, Out, inputs, 1>(views, run, function);
}

template <int inputs, class Function>
static fovea_status map_floats(const fovea_problem *problem, fovea_run *run, Function function) {
    return by_float(problem->dtype, [&](auto zero) {
        return map_run<decltype(zero), decltype(zero), inputs>(problem, run, function);
    });
}
/* The same by another function for halves, which need 18 bits of it. */
template <int inputs, class Function, class Short>
static fovea_status map_floats_and_halves(const fovea_problem *problem, fovea_run *run,
                                          Function function, Short of_halves) {
    return by_float(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        if constexpr (sizeof(T) == 4)
            return map_run<T, T, inputs>(problem, run, function);
        else
            return map_run<T, T, inputs>(problem, run, of_halves);
    });
}

/* An expression of a, b, c, with p and q from the constants. */
#define MAP_FUNCTION(name, expression)                                                             \
    struct name##_function {                                                                       \
        map_constants constants;                                                                   \
        __device__ __forceinline__ void prepare() {}                                               \
        template <int n>                                                                           \
        __device__ __forceinline__ void operator()(const float (&x)[n], float (&y)[1]) const {     \
            float a = x[0], b = x[n > 1 ? 1 : 0], c = x[n > 2 ? 2 : 0];                            \
            float p = constants.p, q = constants.q;                                                \
            (void)a, (void)b, (void)c, (void)p, (void)q;                                           \
            y[0] = expression;                                                                     \
        }                                                                                          \
    };

/* A kernel without parameters. */
#define MAP_KERNEL(name, inputs, expression)                                                       \
    MAP_FUNCTION(name, expression)                                                                 \
    static fovea_status name(const fovea_problem *problem, fovea_run *run) {                       \
        return map_floats<inputs>(problem, run, name##_function{});                                \
    }

/* With an expression of its own for halves. */
#define MAP_KERNEL_AND_HALVES(name, inputs, expression, of_halves)                                 \
    MAP_FUNCTION(name, expression)                                                                 \
    MAP_FUNCTION(name##_of_halves, of_halves)                                                      \
    static fovea_status name(const fovea_problem *problem, fovea_run *run) {                       \
        return map_floats_and_halves<inputs>(problem, run, name##_function{},                      \
                                             name##_of_halves_function{});                         \
    }

#define MAP_ENTRY(name) CUDA_ROW(name, FOVEA_FLOATS, name)

#endif
