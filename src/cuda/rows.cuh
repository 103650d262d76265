/* Kernels that work along the last axis. A row that fits is held in registers by a warp or a block, so
 * that it is read once; a longer one, or one with a stride, is read again for every pass. */
#ifndef FOVEA_CUDA_ROWS_CUH
#define FOVEA_CUDA_ROWS_CUH

#include "cuda/kernel.cuh"

enum { ROW_HELD = 32, ROW_BLOCK = 512, ROW_WARPS = 8 }; /* values a thread holds */

struct row_place {
    strided<2> rows; /* of x and y, without the last dimension */
    int64_t count, columns, step_x, step_y;
};

/* The elements of a row in registers: element (i threads + thread) size + j is at[i size + j]. */
template <class T, int threads, int size>
struct held_row {
    float at[ROW_HELD];
    int thread, columns;

    __device__ __forceinline__ void load(const T *row, float otherwise) {
#pragma unroll
        for (int i = 0; i < ROW_HELD / size; i++) {
            int first = (i * threads + thread) * size;
            pack<T, size> loaded;
            bool inside = first < columns;
            if (inside) loaded = *reinterpret_cast<const pack<T, size> *>(row + first);
#pragma unroll
            for (int j = 0; j < size; j++)
                at[i * size + j] = inside ? widen(loaded.at[j]) : otherwise;
        }
    }
    /* f(value, column) for every element of the row that this thread holds. */
    template <class F>
    __device__ __forceinline__ void each(F f) const {
#pragma unroll
        for (int i = 0; i < ROW_HELD; i++) {
            int column = (i / size * threads + thread) * size + i % size;
            if (column < columns) f(at[i], column);
        }
    }
    template <class F>
    __device__ __forceinline__ void store(T *row, F f) const {
#pragma unroll
        for (int i = 0; i < ROW_HELD / size; i++) {
            int first = (i * threads + thread) * size;
            if (first >= columns) break;
            pack<T, size> result;
#pragma unroll
            for (int j = 0; j < size; j++) result.at[j] = narrow<T>(f(at[i * size + j], first + j));
            *reinterpret_cast<pack<T, size> *>(row + first) = result;
        }
    }
    template <class V, class Join>
    static __device__ __forceinline__ V over_row(V value, Join join) {
        return reduce_threads<threads>(value, join);
    }
};

/* The same of a row in memory. */
template <class T>
struct distant_row {
    const T *row;
    T *out;
    int64_t columns, step, step_out;

    template <class F>
    __device__ __forceinline__ void each(F f) const {
        for (int64_t c = threadIdx.x; c < columns; c += ROW_BLOCK) f(widen(row[c * step]), c);
    }
    template <class F>
    __device__ __forceinline__ void store(T *, F f) const {
        for (int64_t c = threadIdx.x; c < columns; c += ROW_BLOCK)
            out[c * step_out] = narrow<T>(f(widen(row[c * step]), c));
    }
    template <class V, class Join>
    static __device__ __forceinline__ V over_row(V value, Join join) {
        return reduce_threads<ROW_BLOCK>(value, join);
    }
};

/* Row::apply(row, target, call) does the work; Row::pad fills what lies beyond the columns. */
template <class T, class Row, int threads, int size, class Call>
static __global__ __launch_bounds__(threads == 32 ? 32 * ROW_WARPS : threads,
                                    1) void rows_held(const T *x, T *y,
                                                      const __grid_constant__ row_place place,
                                                      const __grid_constant__ Call call) {
    int64_t number =
        threads == 32 ? (int64_t)blockIdx.x * ROW_WARPS + threadIdx.x / 32 : blockIdx.x;
    int64_t at[2];
    if (number >= place.count) return;
    place.rows.offsets(number, at);
    held_row<T, threads, size> row;
    row.thread = threadIdx.x % threads;
    row.columns = (int)place.columns;
    row.load(x + at[0], Row::pad);
    Row::apply(row, y + at[1], call);
}

template <class T, class Row, class Call>
static __global__ __launch_bounds__(ROW_BLOCK,
                                    1) void rows_distant(const T *x, T *y,
                                                         const __grid_constant__ row_place place,
                                                         const __grid_constant__ Call call) {
    int64_t at[2];
    place.rows.offsets(blockIdx.x, at);
    distant_row<T> row = {x + at[0], y + at[1], place.columns, place.step_x, place.step_y};
    Row::apply(row, y + at[1], call);
}

template <class T, class Row, int size, class Call>
static void rows_launch_held(const T *x, T *y, const row_place &place, const Call &call,
                             cudaStream_t stream) {
    if (place.columns <= 32 * ROW_HELD)
        rows_held<T, Row, 32, size>
            <<<(unsigned)blocks_for(place.count, ROW_WARPS), 32 * ROW_WARPS, 0, stream>>>(
                x, y, place, call);
    else
        rows_held<T, Row, ROW_BLOCK, size>
            <<<(unsigned)place.count, ROW_BLOCK, 0, stream>>>(x, y, place, call);
}

/* x and y: the first two arguments. */
template <class T, class Row, class Call>
static fovea_status rows_run(const fovea_problem *problem, fovea_run *run, const Call &call) {
    constexpr int size = 16 / sizeof(T);
    fovea_view views[2] = {problem->views[0], problem->views[1]};
    const fovea_view *const seen[2] = {&views[0], &views[1]};
    int last = views[0].rank - 1;
    row_place place = {};
    place.columns = views[0].shape[last];
    place.step_x = views[0].stride[last], place.step_y = views[1].stride[last];
    if (fovea_view_elements(&views[0]) == 0) return FOVEA_OK;
    views[0].rank = views[1].rank = last;
    place.count = fovea_view_elements(&views[0]);
    fovea_view *all[2] = {&views[0], &views[1]};
    fovea_views_collapse(all, 2);
    place.rows = strided_of<2>(seen, views[0].rank);
    if (!grid_fits(place.count)) {
        run->reason = "more than 2^31 rows";
        return FOVEA_UNSUPPORTED;
    }
    const T *x = (const T *)views[0].data;
    T *y = (T *)views[1].data;
    cudaStream_t stream = (cudaStream_t)run->stream;
    bool dense = place.columns == 1 || (place.step_x == 1 && place.step_y == 1);
    bool wide = dense && place.columns % size == 0 && is_aligned(x, 16) && is_aligned(y, 16);
    for (int i = 0; i < views[0].rank; i++)
        wide &= views[0].shape[i] == 1 ||
                (views[0].stride[i] % size == 0 && views[1].stride[i] % size == 0);
    if (!dense || place.columns > ROW_BLOCK * ROW_HELD)
        rows_distant<T, Row><<<(unsigned)place.count, ROW_BLOCK, 0, stream>>>(x, y, place, call);
    else if (wide)
        rows_launch_held<T, Row, size>(x, y, place, call, stream);
    else
        rows_launch_held<T, Row, 1>(x, y, place, call, stream);
    return launched(run);
}

template <class Row, class Call>
static fovea_status rows_floats(const fovea_problem *problem, fovea_run *run, const Call &call) {
    switch (problem->dtype) {
    case FOVEA_F16:
        return rows_run<__half, Row>(problem, run, call);
    case FOVEA_BF16:
        return rows_run<__nv_bfloat16, Row>(problem, run, call);
    default:
        return rows_run<float, Row>(problem, run, call);
    }
}

/* Sums a function over a row: chains of 32 terms in f32 under a tree, longer ones in f64. */
template <class Row, class F>
static __device__ __forceinline__ float sum_over(const Row &row, F f) {
    float chain = 0;
    row.each([&](float x, int64_t c) { chain += f(x, c); });
    return Row::over_row(chain, [](float a, float b) { return a + b; });
}
template <class T, class F>
static __device__ __forceinline__ float sum_over(const distant_row<T> &row, F f) {
    double chain = 0;
    row.each([&](float x, int64_t c) { chain += (double)f(x, c); });
    return (float)distant_row<T>::over_row(chain, [](double a, double b) { return a + b; });
}

#endif
