/* Domain 1, reductions. Sums are carried in twice the precision beyond 16 terms a thread: f32 in f64,
 * f64 as a pair (Knuth's two-sum), so that the order of the terms, which only the shape decides, is the
 * last thing that errors depend on. */
#include "cuda/kernel.cuh"

enum { SUM_THREADS = 256, SUM_STEPS = 4, SUM_BLOCKS = 132 * 8 };

/* A sum of f64 with what its roundings lost. */
struct pair {
    double high, low;
};

static __device__ __forceinline__ pair join(pair a, pair b) {
    double high = a.high + b.high, part = high - a.high;
    double lost = (a.high - (high - part)) + (b.high - part), low = lost + (a.low + b.low);
    return {high, isfinite(low) ? low : 0}; /* an infinite sum has lost nothing */
}
static __device__ __forceinline__ double join(double a, double b) { return a + b; }

template <class T>
struct carrier;
template <>
struct carrier<float> {
    using type = double;
    static __device__ double of(float x) { return x; }
    static __device__ float result(double x) { return (float)x; }
};
template <>
struct carrier<double> {
    using type = pair;
    static __device__ pair of(double x) { return {x, 0}; }
    static __device__ double result(pair x) { return x.high + x.low; }
};

static __device__ __forceinline__ double shuffle(double x, int step) {
    return __shfl_xor_sync(0xffffffffu, x, step);
}
static __device__ __forceinline__ pair shuffle(pair x, int step) {
    return {shuffle(x.high, step), shuffle(x.low, step)};
}

template <class Sum>
static __device__ __forceinline__ Sum sum_block(Sum value) {
    __shared__ Sum partial[SUM_THREADS / 32];
#pragma unroll
    for (int step = 16; step > 0; step /= 2) value = join(value, shuffle(value, step));
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
    __syncthreads();
    value = partial[0];
    for (int w = 1; w < SUM_THREADS / 32; w++) value = join(value, partial[w]);
    return value;
}

/* All of a contiguous tensor: block b takes every gridDim-th piece, and leaves one partial sum. */
template <class T>
static __global__
__launch_bounds__(SUM_THREADS) void sum_contiguous(const T *x, int64_t count,
                                                   typename carrier<T>::type *partials) {
    using Sum = typename carrier<T>::type;
    constexpr int size = 16 / sizeof(T);
    constexpr int64_t piece = (int64_t)SUM_THREADS * SUM_STEPS * size;
    Sum total = carrier<T>::of(0);
    int64_t first = blockIdx.x * piece;
    for (; first + piece <= count; first += gridDim.x * piece) {
        pack<T, size> loaded[SUM_STEPS];
        T lane[size];
#pragma unroll
        for (int s = 0; s < SUM_STEPS; s++)
            loaded[s] =
                reinterpret_cast<const pack<T, size> *>(x + first)[s * SUM_THREADS + threadIdx.x];
#pragma unroll
        for (int i = 0; i < size; i++) {
            if (sizeof(T) == 8) {
                for (int s = 0; s < SUM_STEPS; s++)
                    total = join(total, carrier<T>::of(loaded[s].at[i]));
                continue;
            }
            lane[i] = (loaded[0].at[i] + loaded[1].at[i]) + (loaded[2].at[i] + loaded[3].at[i]);
        }
        if (sizeof(T) == 4)
            total = join(total,
                         carrier<T>::of((lane[0] + lane[1]) + (lane[size - 2] + lane[size - 1])));
    }
    for (int64_t i = first + threadIdx.x; i < count && i < first + piece; i += SUM_THREADS)
        total = join(total, carrier<T>::of(x[i]));
    total = sum_block(total);
    if (threadIdx.x == 0) partials[blockIdx.x] = total;
}

/* One block adds the partial sums of an output. */
template <class T>
static __global__
__launch_bounds__(SUM_THREADS) void sum_partials(const typename carrier<T>::type *partials,
                                                 int count, T *y) {
    auto total = carrier<T>::of(0);
    for (int i = threadIdx.x; i < count; i += SUM_THREADS) total = join(total, partials[i]);
    total = sum_block(total);
    if (threadIdx.x == 0) *y = carrier<T>::result(total);
}

/* Sums of `length` terms, `step` apart, one for each index of the other dimensions: by a thread, or by
 * a block where there are few of them. */
template <class T, bool by_block>
static __global__
__launch_bounds__(SUM_THREADS) void sum_axis(const T *x, T *y,
                                             const __grid_constant__ strided<2> where,
                                             int64_t count, int64_t length, int64_t step) {
    int64_t number = by_block ? blockIdx.x : (int64_t)blockIdx.x * SUM_THREADS + threadIdx.x, at[2];
    if (number >= count) return;
    where.offsets(number, at);
    auto total = carrier<T>::of(0);
    for (int64_t i = by_block ? threadIdx.x : 0; i < length; i += by_block ? SUM_THREADS : 1)
        total = join(total, carrier<T>::of(x[at[0] + i * step]));
    if (by_block) total = sum_block(total);
    if (!by_block || threadIdx.x == 0) y[at[1]] = carrier<T>::result(total);
}

/* All of a tensor with any strides. */
template <class T>
static __global__ __launch_bounds__(SUM_THREADS) void sum_strided(
    const T *x, const __grid_constant__ strided<1> where, int64_t count,
    typename carrier<T>::type *partials) {
    auto total = carrier<T>::of(0);
    for (int64_t i = (int64_t)blockIdx.x * SUM_THREADS + threadIdx.x; i < count;
         i += (int64_t)gridDim.x * SUM_THREADS) {
        int64_t at[1];
        where.offsets(i, at);
        total = join(total, carrier<T>::of(x[at[0]]));
    }
    total = sum_block(total);
    if (threadIdx.x == 0) partials[blockIdx.x] = total;
}

static int64_t sum_blocks(int64_t count, int64_t piece) {
    int64_t blocks = blocks_for(count, piece);
    return blocks < 1 ? 1 : blocks < SUM_BLOCKS ? blocks : SUM_BLOCKS;
}

template <class T>
static fovea_status sum_all(fovea_view x, const fovea_view *y, fovea_run *run) {
    using Sum = typename carrier<T>::type;
    constexpr int64_t piece = (int64_t)SUM_THREADS * SUM_STEPS * (16 / sizeof(T));
    cudaStream_t stream = (cudaStream_t)run->stream;
    fovea_view *all[] = {&x};
    const fovea_view *const seen[] = {&x};
    int64_t count = fovea_view_elements(&x);
    fovea_views_collapse(all, 1);
    bool contiguous = x.rank == 1 && x.stride[0] == 1 && is_aligned(x.data, 16);
    Sum *partials = (Sum *)run->workspace;
    int64_t blocks = sum_blocks(count, contiguous ? piece : SUM_THREADS);
    if (contiguous || count == 0)
        sum_contiguous<T>
            <<<(unsigned)blocks, SUM_THREADS, 0, stream>>>((const T *)x.data, count, partials);
    else
        sum_strided<T><<<(unsigned)blocks, SUM_THREADS, 0, stream>>>(
            (const T *)x.data, strided_of<1>(seen, x.rank), count, partials);
    fovea_status status = launched(run);
    if (status != FOVEA_OK) return status;
    sum_partials<T><<<1, SUM_THREADS, 0, stream>>>(partials, (int)blocks, (T *)y->data);
    return launched(run);
}

template <class T>
static fovea_status sum_along(fovea_view x, fovea_view y, int axis, fovea_run *run) {
    cudaStream_t stream = (cudaStream_t)run->stream;
    int64_t length = x.shape[axis], step = x.stride[axis], count = fovea_view_elements(&y);
    if (count == 0) return FOVEA_OK;
    for (int i = axis; i + 1 < x.rank; i++) {
        x.shape[i] = x.shape[i + 1];
        x.stride[i] = x.stride[i + 1];
    }
    x.rank--;
    const fovea_view *const seen[] = {&x, &y};
    strided<2> where = strided_of<2>(seen, x.rank);
    bool by_block = length > 64 && count < SUM_BLOCKS * SUM_THREADS;
    int64_t blocks = by_block ? count : blocks_for(count, SUM_THREADS);
    if (!grid_fits(blocks)) {
        run->reason = "more than 2^31 blocks";
        return FOVEA_UNSUPPORTED;
    }
    if (by_block)
        sum_axis<T, true><<<(unsigned)blocks, SUM_THREADS, 0, stream>>>(
            (const T *)x.data, (T *)y.data, where, count, length, step);
    else
        sum_axis<T, false><<<(unsigned)blocks, SUM_THREADS, 0, stream>>>(
            (const T *)x.data, (T *)y.data, where, count, length, step);
    return launched(run);
}

static size_t sum_workspace(const fovea_problem *problem, int threads) {
    (void)threads;
    return fovea_problem_axis(problem) < 0 ? SUM_BLOCKS * sizeof(pair) : 0;
}

static fovea_status reduce_sum(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *x = &problem->views[0], *y = &problem->views[1];
    int axis = fovea_problem_axis(problem);
    if (problem->dtype == FOVEA_F64)
        return axis < 0 ? sum_all<double>(*x, y, run) : sum_along<double>(*x, *y, axis, run);
    return axis < 0 ? sum_all<float>(*x, y, run) : sum_along<float>(*x, *y, axis, run);
}

extern "C" const fovea_implementation fovea_cuda_table_reductions[] = {
    {.kernel = "reduce_sum",
     .name = "cuda/sm80/direct",
     .dtypes = 1u << FOVEA_F32 | 1u << FOVEA_F64,
     .workspace = sum_workspace,
     .run = reduce_sum,
     .device = kDLCUDA},
    {}};
