/* Kernels that work along rows. A row that fits is held in registers, by some lanes of a warp, a warp or
 * a block, so that it is read once; a longer one, or one with a stride, is read again for every pass. A
 * job is written once for both. Which thread has which element follows from the number of columns alone,
 * so that bits do not depend on addresses: 16 bytes side by side where they divide a row, else single
 * elements, 32 of them side by side in a warp. */
#ifndef FOVEA_CUDA_ROWS_CUH
#define FOVEA_CUDA_ROWS_CUH

#include "cuda/kernel.cuh"

enum { ROW_THREADS = 768, ROW_DISTANT = 512, ROW_HELD = 16 }; /* values of a thread */

struct row_place {
    strided<3> rows;     /* of x, y and a third tensor, without what the rows are made of */
    strided<2> elements; /* of x and y along a row */
    int64_t count, columns;
    int members, members_log2; /* threads of a row: a power of 2 up to 32, or all of a block */
    bool wide;                 /* 16 bytes side by side are aligned */
};

/* Elements of a row in registers: `run` of them side by side are at[i run] and what follows. */
template <class T, int run>
struct held_row {
    static constexpr int held = ROW_HELD;
    float at[held];
    const T *x;
    int member, members, columns;
    bool wide, idle; /* rows of x and y are aligned; there is none for this thread */

    __device__ __forceinline__ int column(int i) const { return (i * members + member) * run; }

    /* Places beyond the row hold `otherwise`. All loads are on their way before the first is looked at. */
    __device__ __forceinline__ void load(float otherwise) {
        if (run > 1 && !wide) {
#pragma unroll
            for (int i = 0; i < held; i++) {
                const int c = column(i / run) + i % run;
                at[i] = c < columns ? widen(x[c]) : otherwise;
            }
            return;
        }
        pack<T, run> loaded[held / run];
#pragma unroll
        for (int i = 0; i < held / run; i++) {
            loaded[i] = {};
            if (column(i) < columns)
                loaded[i] = *reinterpret_cast<const pack<T, run> *>(x + column(i));
        }
#pragma unroll
        for (int i = 0; i < held; i++)
            at[i] = column(i / run) < columns ? widen(loaded[i / run].at[i % run]) : otherwise;
    }
    template <class Join>
    __device__ __forceinline__ float over_row(float value, Join join) const {
        if (members <= 32) return reduce_lanes(value, members, join);
        return reduce_block(value, members / 32, join);
    }
    __device__ __forceinline__ float maximum() const {
        float best = at[0];
#pragma unroll
        for (int i = 1; i < held; i++) best = max_or_nan(best, at[i]);
        return over_row(best, [](float a, float b) { return max_or_nan(a, b); });
    }
    __device__ __forceinline__ float largest() const {
        float best = 0;
#pragma unroll
        for (int i = 0; i < held; i++) best = max_or_nan(best, fabsf(at[i]));
        return over_row(best, [](float a, float b) { return max_or_nan(a, b); });
    }
    /* The sum of f over all places, those beyond the row included; in pairs, as sums of f32 err. */
    template <class F>
    __device__ __forceinline__ float sum(F f) const {
        float chains[4] = {0, 0, 0, 0};
#pragma unroll
        for (int i = 0; i < held; i++) chains[i % 4] += f(at[i]);
        float total = (chains[0] + chains[1]) + (chains[2] + chains[3]);
        return over_row(total, [](float a, float b) { return a + b; });
    }
    /* The same without these. */
    template <class F>
    __device__ __forceinline__ float sum_inside(F f) const {
        float total = 0;
#pragma unroll
        for (int i = 0; i < held; i++) total += column(i / run) < columns ? f(at[i]) : 0;
        return over_row(total, [](float a, float b) { return a + b; });
    }
    /* Every element becomes f of it, 0 beyond the row. */
    template <class F>
    __device__ __forceinline__ void replace(F f) {
#pragma unroll
        for (int i = 0; i < held; i++) at[i] = column(i / run) < columns ? f(at[i]) : 0;
    }
    /* y = what g makes of elements side by side as they are now, from their values and the first column;
     * before: what they were replaced by. */
    template <class O, class F, class G>
    __device__ __forceinline__ void store(O *y, F, G g) const {
#pragma unroll
        for (int i = 0; i < held / run; i++) {
            pack<O, run> result;
            float values[run];
            if (column(i) >= columns) break;
#pragma unroll
            for (int j = 0; j < run; j++) values[j] = at[i * run + j];
            g(values, (int64_t)column(i));
#pragma unroll
            for (int j = 0; j < run; j++) result.at[j] = narrow<O>(values[j]);
            store_pack<O, run>(y + column(i), result, run, wide);
        }
    }
    __device__ __forceinline__ float value(int64_t c) const { return widen(x[c]); }
    __device__ __forceinline__ bool leads() const { return member == 0 && !idle; }
};

/* The same of a row in memory; replacing is done anew where elements are stored. */
template <class T>
struct distant_row {
    const T *x;
    const strided<2> *elements;
    int64_t columns;

    __device__ __forceinline__ float value(int64_t c) const {
        int64_t from[2];
        elements->offsets(c, from);
        return widen(x[from[0]]);
    }
    template <class V, class Join>
    static __device__ __forceinline__ V over_row(V value, Join join) {
        return reduce_block(value, ROW_DISTANT / 32, join);
    }
    __device__ __forceinline__ float maximum() const {
        float best = -INFINITY;
        for (int64_t c = threadIdx.x; c < columns; c += ROW_DISTANT)
            best = max_or_nan(best, value(c));
        return over_row(best, [](float a, float b) { return max_or_nan(a, b); });
    }
    __device__ __forceinline__ float largest() const {
        float best = 0;
        for (int64_t c = threadIdx.x; c < columns; c += ROW_DISTANT)
            best = max_or_nan(best, fabsf(value(c)));
        return over_row(best, [](float a, float b) { return max_or_nan(a, b); });
    }
    /* Longer chains than in registers, so they are wider. */
    template <class F>
    __device__ __forceinline__ float sum(F f) const {
        double chain = 0;
        for (int64_t c = threadIdx.x; c < columns; c += ROW_DISTANT) chain += (double)f(value(c));
        return (float)over_row(chain, [](double a, double b) { return a + b; });
    }
    template <class F>
    __device__ __forceinline__ float sum_inside(F f) const {
        return sum(f);
    }
    template <class F>
    __device__ __forceinline__ void replace(F) {}
    template <class O, class F, class G>
    __device__ __forceinline__ void store(O *y, F f, G g) const {
        for (int64_t c = threadIdx.x; c < columns; c += ROW_DISTANT) {
            int64_t at[2];
            elements->offsets(c, at);
            float values[1] = {f(widen(x[at[0]]))};
            g(values, c);
            y[at[1]] = narrow<O>(values[0]);
        }
    }
    __device__ __forceinline__ bool leads() const { return threadIdx.x == 0; }
};

/* Sums f of elements that were replaced by r of them: in registers, or in memory. */
template <class T, int run, class R, class F>
static __device__ __forceinline__ float sum_replaced(held_row<T, run> &row, R r, F f) {
    row.replace(r);
    return row.sum(f);
}
template <class T, class R, class F>
static __device__ __forceinline__ float sum_replaced(distant_row<T> &row, R r, F f) {
    return row.sum([&](float x) { return f(r(x)); });
}

/* job(row, where it goes in y, the offset in the third tensor, number) does the work; Job::pad fills what
 * lies beyond the columns at first. */
template <class T, class O, class Job, int run>
static __global__ __launch_bounds__(ROW_THREADS) void rows_held(
    const T *x, O *y, const __grid_constant__ row_place place, const __grid_constant__ Job job) {
    const bool alone = place.members > 32;
    int64_t number =
        alone ? blockIdx.x : ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) >> place.members_log2;
    const bool idle = number >= place.count;
    int64_t at[3];
    held_row<T, run> row;
    if (idle) number = 0;
    place.rows.offsets(number, at);
    row.x = x + at[0];
    row.members = place.members;
    row.member = alone ? threadIdx.x : threadIdx.x & (place.members - 1);
    row.columns = idle ? 0 : (int)place.columns;
    row.wide = place.wide, row.idle = idle;
    row.load(Job::pad);
    job(row, y + at[1], at[2], number);
}

template <class T, class O, class Job>
static __global__ __launch_bounds__(ROW_DISTANT) void rows_distant(
    const T *x, O *y, const __grid_constant__ row_place place, const __grid_constant__ Job job) {
    int64_t at[3];
    place.rows.offsets(blockIdx.x, at);
    distant_row<T> row = {x + at[0], &place.elements, place.columns};
    job(row, y + at[1], at[2], blockIdx.x);
}

/* As many threads as hold a row. */
template <class T, class O, class Job, int run>
static fovea_status rows_launch(const T *x, O *y, row_place &place, fovea_run *state,
                                const Job &job) {
    int64_t blocks = place.count, threads = 256;
    if (place.columns <= 32 * ROW_HELD) {
        while ((ROW_HELD << place.members_log2) < place.columns) place.members_log2++;
        place.members = 1 << place.members_log2;
        blocks = blocks_for(place.count * place.members, threads);
    } else {
        threads = place.members = (int)blocks_for(place.columns, 32 * ROW_HELD) * 32;
    }
    return launch(state, rows_held<T, O, Job, run>, blocks, threads, x, y, place, job);
}

/* rows: of x, y and a third tensor; elements: of a row of x and of y. Data are taken from rows. */
template <class T, class O, class Job>
static fovea_status rows_views(fovea_view (&rows)[3], fovea_view (&elements)[2], fovea_run *run,
                               const Job &job) {
    constexpr int size = 16 / sizeof(T);
    row_place place = {};
    place.count = fovea_view_elements(&rows[0]);
    place.columns = fovea_view_elements(&elements[0]);
    if (place.count == 0) return FOVEA_OK;
    fovea_view *all[] = {&rows[0], &rows[1], &rows[2]}, *line[] = {&elements[0], &elements[1]};
    fovea_views_collapse(all, 3);
    if (place.columns > 0) fovea_views_collapse(line, 2);
    place.rows = strided_of<3>({&rows[0], &rows[1], &rows[2]});
    place.elements = strided_of<2>({&elements[0], &elements[1]});
    bool dense = place.columns <= 1 || (elements[0].rank == 1 && elements[0].stride[0] == 1 &&
                                        elements[1].stride[0] == 1);
    const T *x = (const T *)rows[0].data;
    O *y = (O *)rows[1].data;
    if (!dense || place.columns > ROW_THREADS * ROW_HELD)
        return launch(run, rows_distant<T, O, Job>, place.count, ROW_DISTANT, x, y, place, job);
    place.wide = is_aligned(x, 16) && is_aligned(y, sizeof(O) * size);
    for (int i = 0; i < rows[0].rank; i++)
        place.wide &= rows[0].shape[i] == 1 ||
                      (rows[0].stride[i] % size == 0 && rows[1].stride[i] % size == 0);
    if (place.columns % size == 0) return rows_launch<T, O, Job, size>(x, y, place, run, job);
    return rows_launch<T, O, Job, 1>(x, y, place, run, job);
}

/* The last dimension of x and y is what rows are made of. third: a tensor with one element a row, or one
 * of the shape of x; NULL: none. */
template <class T, class O, class Job>
static fovea_status rows_last(const fovea_view &x, const fovea_view &y, const fovea_view *third,
                              fovea_run *run, const Job &job) {
    int last = x.rank - 1;
    fovea_view rows[3] = {x, y, third ? *third : x}, elements[2] = {x, y};
    for (fovea_view &row : rows) row.rank = last;
    for (fovea_view &line : elements) {
        line.rank = 1;
        line.shape[0] = line.shape[last], line.stride[0] = line.stride[last];
    }
    return rows_views<T, O>(rows, elements, run, job);
}

/* From the first argument to the second. */
template <class Job>
static fovea_status rows_floats(const fovea_problem *problem, fovea_run *run, const Job &job) {
    return by_float(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        return rows_last<T, T>(problem->views[0], problem->views[1], NULL, run, job);
    });
}

#endif
