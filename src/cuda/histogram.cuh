/* Counts of elements by equal bins. The bin of an element is computed by a subtraction and a product; where
 * that comes so near to an edge that rounding may have moved it across, the edges themselves decide. Blocks
 * count in shared memory, for each lane apart, and add to the tensor's counts at the end: integers, so any
 * order gives the same. */
#ifndef FOVEA_CUDA_HISTOGRAM_CUH
#define FOVEA_CUDA_HISTOGRAM_CUH

#include "cuda/fold.cuh"
#include "runtime/dtype.h"

#include <math.h>
#include <stdio.h>

enum {
    HISTOGRAM_THREADS = 512,
    HISTOGRAM_RESIDENT = 2,
    HISTOGRAM_STEPS = 4,     /* 16 bytes each, half as many of f64 */
    HISTOGRAM_COPIES = 32,   /* one for each lane: no two of a warp meet */
    HISTOGRAM_SHARED = 8192, /* counters that a block has room for */
    HISTOGRAM_ALONE =
        1 << 14, /* elements that one block counts in less time than kernels follow one another */
    HISTOGRAM_BRIEF =
        1 << 12, /* elements for which clearing more counters would cost more than meeting at one */
    HISTOGRAM_EDGES = 1900, /* edges that it has room for; others are looked up in memory */
    HISTOGRAM_FEW = 256,    /* threads that hold all elements in registers, */
    HISTOGRAM_HELD = 4      /* so many vectors each at most */
};

/* The least and the largest element, NaN if one is; 0 and 1 of nothing. */
template <class T>
struct range_method {
    using element = T;
    using other = T;
    using output = double;
    using second = double;
    struct state {
        T least, largest;
    };
    static constexpr int inputs = 1;

    static __device__ __forceinline__ state empty() { return {(T)INFINITY, -(T)INFINITY}; }
    __device__ __forceinline__ void begin(const T *, const T *) {}
    template <int n, int run>
    __device__ __forceinline__ void take(state &s, const T *x, const T *, int64_t, int64_t) const {
#pragma unroll
        for (int i = 0; i < n; i++)
            s = {extreme<false>(s.least, x[i]), extreme<true>(s.largest, x[i])};
    }
    static __device__ __forceinline__ state join(const state &a, const state &b) {
        return {extreme<false>(a.least, b.least), extreme<true>(a.largest, b.largest)};
    }
    __device__ __forceinline__ void finish(const state &s, int64_t count, double *y,
                                           double *z) const {
        *y = count > 0 ? (double)s.least : 0;
        *z = count > 0 ? (double)s.largest : 1;
    }
};

/* Bounds as given (NaN: not given) and as the data have them; edges, of the dtype, and those for the caller, if he
 * wants them. */
template <class T>
struct histogram {
    double given_lo, given_hi;
    const double *range;
    T *edges;
    int bins;
    double share; /* 1 / bins */
    int64_t *counts, step_counts;
    T *shown;
    int64_t step_shown;

    __host__ __device__ bool needs_range() const { return isnan(given_lo) || isnan(given_hi); }
};

template <class T>
struct histogram_bins {
    T lo, hi, scale, near_edge; /* bins a unit; how near to an edge is doubtful */
    bool finite, bisect;
    double exact_lo, width;
};

/* distance / bins, correctly rounded: the quotient by the reciprocal is off by two ULP at most, and each step leaves less
 * than one of it (Markstein). */
template <class T>
static __device__ __forceinline__ double histogram_width(const histogram<T> &h, double distance) {
    const double bins = h.bins;
    if (!(distance > 0x1p-900 && distance < 0x1p900)) return distance / bins;
    double width = distance * h.share;
#pragma unroll
    for (int step = 0; step < 2; step++) width = fma(fma(-width, bins, distance), h.share, width);
    return width;
}

template <class T>
static __device__ histogram_bins<T> histogram_plan(const histogram<T> &h) {
    const double epsilon = sizeof(T) == 4 ? 0x1p-23 : 0x1p-52, bins = h.bins;
    const double most = sizeof(T) == 4 ? 0x1p127 : 0x1p1000;
    const bool given = !isnan(h.given_lo);
    double lo = given ? h.given_lo : h.range[0], hi = h.given_hi;
    if (isnan(hi)) hi = h.range[1];
    if (lo > hi && given)
        hi = lo;
    else if (lo > hi)
        lo = hi;
    if (lo == hi) lo = (double)(T)(lo - 0.5), hi = (double)(T)(hi + 0.5);
    /* The scale does not wait for the width. */
    const double width = histogram_width(h, hi - lo), scale = bins * (1 / (hi - lo));
    const double size = fmax(fabs(lo), fabs(hi));
    /* Three roundings of a place, four of f64, and one of an edge, with an eighth to spare. */
    const double near_edge =
        (sizeof(T) == 4 ? 2.25 : 2.75) * epsilon * bins + 0.625 * epsilon * size * scale;
    const bool bisect = !(near_edge < 0.25 && hi - lo < most && scale < most && width > 1 / most);
    return {(T)lo,
            (T)hi,
            (T)(bisect ? 0 : scale),
            (T)(bisect ? 2 : near_edge),
            isfinite(lo) && isfinite(hi),
            bisect,
            lo,
            width};
}

template <class T>
static __device__ __forceinline__ T histogram_edge(const histogram<T> &h,
                                                   const histogram_bins<T> &bins, int i) {
    return i == h.bins ? bins.hi : (T)(bins.exact_lo + (double)i * bins.width);
}

/* Edges, also for the caller, and counts of 0. */
template <class T>
static __global__ __launch_bounds__(HISTOGRAM_THREADS) void histogram_begin(const histogram<T> h) {
    const int i = (int)blockIdx.x * HISTOGRAM_THREADS + (int)threadIdx.x;
    follow_stream();
    if (i > h.bins) return;
    const histogram_bins<T> bins = histogram_plan(h);
    h.edges[i] = histogram_edge(h, bins, i);
    if (i < h.bins) h.counts[i * h.step_counts] = 0;
    if (h.shown) h.shown[i * h.step_shown] = bins.finite ? h.edges[i] : (T)NAN;
}

/* The last bin whose lower edge, edge(bin), is not above x, which lies in the range. */
template <class T, class Edge>
static __device__ int histogram_decide(const histogram<T> &h, Edge edge, bool bisect, T x,
                                       int guess) {
    int first = 0, end = h.bins;
    while (bisect && end - first > 1) {
        const int middle = first + (end - first) / 2;
        if (edge(middle) <= x)
            first = middle;
        else
            end = middle;
    }
    if (bisect) return first;
    guess = guess < 0 ? 0 : guess < h.bins - 1 ? guess : h.bins - 1;
    while (guess > 0 && x < edge(guess)) guess--;
    while (guess + 1 < h.bins && x >= edge(guess + 1)) guess++;
    return guess;
}

/* The whole number nearest to one below 2^22 or 2^51 in the last bits of a word, and what is left of it. */
static __device__ __forceinline__ unsigned nearest_whole(float x, float *rest) {
    const float whole = x + 0x1.8p23f;
    *rest = x - (whole - 0x1.8p23f);
    return __float_as_uint(whole);
}
static __device__ __forceinline__ unsigned nearest_whole(double x, double *rest) {
    const double whole = x + 0x1.8p52;
    *rest = x - (whole - 0x1.8p52);
    return (unsigned)__double2loint(whole);
}
static __device__ __forceinline__ float multiply_add(float a, float b, float c) {
    return fmaf(a, b, c);
}
static __device__ __forceinline__ double multiply_add(double a, double b, double c) {
    return fma(a, b, c);
}

/* The counters of a thread in shared memory: a bin's stand beside one another, and one more bin before the first and
 * after the last, whose counts nobody reads. */
template <class T>
struct histogram_counters {
    unsigned nobody, first,
        stride; /* addresses: of no bin, of what the bits of place 0 name, between bins */
    T lo, scale, middle, inside, half; /* inside: what is surely of a bin, from its middle */

    __device__ __forceinline__ histogram_counters(const histogram_bins<T> &bins, int count,
                                                  const unsigned *counters, int copies)
        : stride((unsigned)copies * 4), lo(bins.lo), scale(bins.scale), middle((T)(count - 1) / 2),
          inside((T)0.5 - bins.near_edge), half((T)count / 2 + (T)0.75) {
        T rest;
        nobody = (unsigned)__cvta_generic_to_shared(counters) + (threadIdx.x * 4 & (stride - 1));
        first = nobody + stride - nearest_whole((T)0, &rest) * stride;
    }
    /* Counts those of `values` whose bin is beyond doubt, without a branch; the others in the range are decided one
     * by one afterwards. */
    template <int n, class Decide>
    __device__ __forceinline__ void count(const T (&values)[n], Decide decide) const {
        unsigned doubtful = 0;
#pragma unroll
        for (int i = 0; i < n; i++) {
            T rest;
            const T place = multiply_add(values[i] - lo, scale, (T)-0.5);
            const unsigned bits = nearest_whole(place, &rest);
            count_where_less(rest, inside, place - middle, half, first + bits * stride, nobody,
                             1u << i, doubtful);
        }
#pragma unroll 1
        for (; doubtful; doubtful &= doubtful - 1) {
            const int which = __ffs((int)doubtful) - 1;
            T value = values[0];
#pragma unroll
            for (int i = 1; i < n; i++) value = which == i ? values[i] : value;
            decide(value);
        }
    }
};

/* The range by one block, into shared memory. */
template <class T>
static __device__ const double *histogram_range(const T *x, const strided<1> &where, bool wide,
                                                int64_t elements) {
    using method = range_method<T>;
    constexpr int size = 16 / sizeof(T);
    __shared__ double range[2];
    typename method::state found = method::empty();
    const int64_t vectors = wide ? elements / size : 0;
    for (int64_t v = threadIdx.x; v < vectors; v += HISTOGRAM_THREADS)
        method().template take<size, size>(found, load_once<true, T, size>(x + v * size).at, x, 0,
                                           0);
    for (int64_t i = vectors * size + threadIdx.x; i < elements; i += HISTOGRAM_THREADS) {
        int64_t at[1];
        where.offsets(i, at);
        found = method::join(found, {x[at[0]], x[at[0]]});
    }
    if constexpr (sizeof(T) == 4) { /* by keys, for which there is an instruction */
        __shared__ __align__(16) uint2 keys[HISTOGRAM_THREADS / 32];
        unsigned least = __reduce_max_sync(0xffffffffu, key_of<false>(found.least));
        unsigned largest = __reduce_max_sync(0xffffffffu, key_of<true>(found.largest));
        if (threadIdx.x % 32 == 0) keys[threadIdx.x / 32] = make_uint2(least, largest);
        __syncthreads();
        const uint2 mine = keys[threadIdx.x % (HISTOGRAM_THREADS / 32)];
        least = __reduce_max_sync(0xffffffffu, mine.x);
        largest = __reduce_max_sync(0xffffffffu, mine.y);
        found = {value_of_key<false>(least), value_of_key<true>(largest)};
    } else {
        found = reduce_block(found, HISTOGRAM_THREADS / 32, method::join);
    }
    if (threadIdx.x == 0) method().finish(found, elements, range, range + 1);
    __syncthreads();
    return range;
}

/* Contiguous elements go in vectors where they are aligned, from the end on, of which the cache still holds what
 * looking for the range has read; the next are on their way while some are counted. `copies`: of the counters in
 * shared memory, a power of 2; 0: there is no room, and the tensor's own are added to. A block that is `alone` does
 * also what kernels before have done for several. */
template <class T, bool alone>
static __global__ __launch_bounds__(HISTOGRAM_THREADS, HISTOGRAM_RESIDENT) void histogram_count(
    const T *x, const __grid_constant__ strided<1> where, int64_t elements, bool wide,
    histogram<T> h, int copies) {
    constexpr int size = 16 / sizeof(T), steps = HISTOGRAM_STEPS * 4 / sizeof(T);
    __shared__ unsigned counters[HISTOGRAM_SHARED + 2 * HISTOGRAM_COPIES];
    __shared__ T near_edges[HISTOGRAM_EDGES];
    const bool edges_fit = h.bins < HISTOGRAM_EDGES;
    release_next();
    if (alone) ready_parameters(h), ready_parameters(where);
    for (int i = threadIdx.x; i < copies * (h.bins + 2); i += HISTOGRAM_THREADS) counters[i] = 0;
    await_stream();
    if (alone && h.needs_range()) h.range = histogram_range(x, where, wide, elements);
    const histogram_bins<T> bins = histogram_plan(h);
    if (!alone && !bins.finite) return;
    for (int i = threadIdx.x; edges_fit && i <= h.bins; i += HISTOGRAM_THREADS) {
        near_edges[i] = alone ? histogram_edge(h, bins, i) : h.edges[i];
        if (alone && h.shown) h.shown[i * h.step_shown] = bins.finite ? near_edges[i] : (T)NAN;
    }
    const T *edges = edges_fit ? near_edges : h.edges;
    const histogram_counters<T> mine(bins, h.bins, counters, copies);
    const int own = (int)threadIdx.x & (copies - 1);
    __syncthreads();
    auto decide = [&](T value) {
        if (!(value >= bins.lo && value <= bins.hi)) return;
        const int guess = bins.bisect ? 0 : (int)((value - bins.lo) * bins.scale);
        const int bin = histogram_decide(
            h, [=](int i) { return edges[i]; }, bins.bisect, value, guess);
        if (copies > 0)
            atomicAdd(&counters[(bin + 1) * copies + own], 1u);
        else
            atomicAdd((unsigned long long *)&h.counts[bin * h.step_counts], 1ull);
    };
    const int64_t threads = (int64_t)gridDim.x * HISTOGRAM_THREADS;
    const int64_t thread = (int64_t)blockIdx.x * HISTOGRAM_THREADS + threadIdx.x;
    int64_t done = 0;
    if (wide && copies > 0) {
        const int64_t vectors = elements / size;
        const T *last = x + (vectors - 1) * size;
        int64_t v = thread;
        pack<T, size> next[steps];
        auto load = [&]() {
#pragma unroll
            for (int s = 0; s < steps; s++)
                next[s] = load_once<true, T, size>(last - (v + s * threads) * size);
        };
        bool more = v + (steps - 1) * threads < vectors;
        if (more) load();
#pragma unroll 1
        while (more) {
            T values[steps * size];
#pragma unroll
            for (int i = 0; i < steps * size; i++) values[i] = next[i / size].at[i % size];
            v += steps * threads;
            more = v + (steps - 1) * threads < vectors;
            if (more) load();
            mine.count(values, decide);
        }
        for (; v < vectors; v += threads)
            mine.count(load_once<true, T, size>(last - v * size).at, decide);
        done = vectors * size;
    }
    for (int64_t i = done + thread; i < elements; i += threads) {
        int64_t at[1];
        where.offsets(i, at);
        decide(x[at[0]]);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < h.bins && copies > 0; i += HISTOGRAM_THREADS) {
        unsigned long long sum = 0;
        for (int c = 0; c < copies; c++) /* each thread begins with another bank */
            sum += counters[(i + 1) * copies + ((c + (int)threadIdx.x) & (copies - 1))];
        if (alone)
            h.counts[i * h.step_counts] = bins.finite ? (int64_t)sum : 0;
        else if (sum > 0)
            atomicAdd((unsigned long long *)&h.counts[i * h.step_counts], sum);
    }
}

/* All of a small tensor in the registers of one block: it is read once, every warp knows the range by the same barrier
 * that clears the counters, and edges are computed where one decides. Beyond the end there are infinities. */
template <class T, int held, bool wide>
static __global__
__launch_bounds__(HISTOGRAM_FEW) void histogram_few(const T *x, int elements,
                                                    const __grid_constant__ histogram<T> given) {
    using method = range_method<T>;
    using state = typename method::state;
    constexpr int size = 16 / sizeof(T), warps = HISTOGRAM_FEW / 32;
    __shared__ unsigned counters[HISTOGRAM_EDGES + 2];
    __shared__ __align__(16) uint2 keys[warps];
    __shared__ state partial[warps];
    const int thread = (int)threadIdx.x;
    const T *from[held];
    T values[held][size];
    release_next();
    ready_parameters(given);
    histogram<T> h = given;
    for (int i = thread; i < h.bins + 2; i += HISTOGRAM_FEW) counters[i] = 0;
    int64_t *counts = settled_global(h.counts + thread * h.step_counts);
    T *shown = h.shown ? settled_global(h.shown + thread * h.step_shown) : NULL;
#pragma unroll
    for (int v = 0; v < held; v++) { /* those beyond the end have another's */
        const int first = (v * HISTOGRAM_FEW + thread) * size;
        from[v] = settled_global(x + (first < elements ? first : 0));
    }
    await_stream();
#pragma unroll
    for (int v = 0; v < held; v++) {
        const int first = (v * HISTOGRAM_FEW + thread) * size;
        const int there = elements - (first < elements ? first : 0);
        pack<T, size> loaded;
        if (__builtin_expect(there >= size, true)) {
            loaded = load_pack<T, size>(from[v], size, wide);
        } else {
#pragma unroll
            for (int j = 0; j < size; j++) loaded.at[j] = from[v][j < there ? j : 0];
        }
#pragma unroll
        for (int j = 0; j < size; j++) values[v][j] = loaded.at[j];
    }
    double range[2];
    if (h.needs_range()) {
        state found = {values[0][0], values[0][0]};
#pragma unroll
        for (int v = 0; v < held; v++)
            method().template take<size, size>(found, values[v], x, 0, 0);
        if constexpr (sizeof(T) == 4) { /* by keys, for which there is an instruction */
            const unsigned least = __reduce_max_sync(0xffffffffu, key_of<false>(found.least));
            const unsigned largest = __reduce_max_sync(0xffffffffu, key_of<true>(found.largest));
            if (thread % 32 == 0) keys[thread / 32] = make_uint2(least, largest);
        } else {
            found = reduce_warp(found, method::join);
            if (thread % 32 == 0) partial[thread / 32] = found;
        }
    }
    __syncthreads();
    if (h.needs_range()) {
        state found;
        if constexpr (sizeof(T) == 4) {
            const uint2 mine = keys[thread % warps];
            found = {value_of_key<false>(__reduce_max_sync(0xffffffffu, mine.x)),
                     value_of_key<true>(__reduce_max_sync(0xffffffffu, mine.y))};
        } else {
            found = reduce_lanes(partial[thread % warps], warps, method::join);
        }
        method().finish(found, elements, range, range + 1);
    }
    h.range = range;
    const histogram_bins<T> bins = histogram_plan(h);
    const histogram_counters<T> mine(bins, h.bins, counters, 1);
    const auto edge = [&](int i) { return histogram_edge(h, bins, i); };
    const auto decide = [&](T value) {
        if (!(value >= bins.lo && value <= bins.hi)) return;
        int bin;
        if (!bins.bisect && (value == bins.lo || value == bins.hi)) /* as one of any data is */
            bin = value == bins.lo ? 0 : h.bins - 1;
        else
            bin = histogram_decide(h, edge, bins.bisect, value,
                                   bins.bisect ? 0 : (int)((value - bins.lo) * bins.scale));
        atomicAdd(&counters[bin + 1], 1u);
    };
#pragma unroll
    for (int v = 0; v < held; v++) {
        const int rest = elements - (v * HISTOGRAM_FEW + thread) * size;
#pragma unroll
        for (int j = 0; j < size; j++) values[v][j] = j < rest ? values[v][j] : (T)INFINITY;
        mine.count(values[v], decide);
    }
    if (h.shown)
        for (int i = thread; i <= h.bins; i += HISTOGRAM_FEW, shown += HISTOGRAM_FEW * h.step_shown)
            *shown = bins.finite ? edge(i) : (T)NAN;
    __syncthreads();
    for (int i = thread; i < h.bins; i += HISTOGRAM_FEW, counts += HISTOGRAM_FEW * h.step_counts)
        *counts = bins.finite ? counters[i + 1] : 0;
}

/* ---- The host's part ------------------------------------------------------------------------ */

static size_t histogram_workspace(const fovea_problem *problem, int threads) {
    (void)threads;
    return FOLD_WORKSPACE + 64 +
           (size_t)(fovea_view_elements(&problem->views[1]) + 1) * sizeof(double);
}

static bool histogram_serves(const fovea_problem *problem, char *reason, size_t size) {
    if (fovea_view_elements(&problem->views[1]) < INT32_MAX / 2) return true;
    snprintf(reason, size, "there are 2^30 bins or more");
    return false;
}

template <class T>
static fovea_status histogram_as(const fovea_problem *problem, fovea_run *run, double lo,
                                 double hi) {
    fovea_view x = problem->views[0], *all[] = {&x};
    const fovea_view &counts = problem->views[1];
    const fovea_view *edges = fovea_given(problem, 2) ? &problem->views[2] : NULL;
    const int64_t elements = fovea_view_elements(&x);
    char *memory = (char *)run->workspace + FOLD_WORKSPACE;
    fovea_view least = counts, largest = counts;
    least.data = memory, largest.data = memory + sizeof(double);
    least.rank = largest.rank = 0;
    /* Not by casts: nvcc 13 lets gcc drop the one to T where T is a template's. */
    histogram<T> h = {fovea_round_to(x.dtype, lo),
                      fovea_round_to(x.dtype, hi),
                      (const double *)memory,
                      (T *)(memory + 64),
                      (int)fovea_view_elements(&counts),
                      1 / (double)fovea_view_elements(&counts),
                      (int64_t *)counts.data,
                      counts.stride[0],
                      edges ? (T *)edges->data : NULL,
                      edges ? edges->stride[0] : 0};
    int copies = HISTOGRAM_COPIES;
    while (copies > 0 && copies > HISTOGRAM_SHARED / (h.bins > 0 ? h.bins : 1)) copies /= 2;
    const bool alone = elements > 0 && elements <= HISTOGRAM_ALONE && h.bins > 0 &&
                       h.bins < HISTOGRAM_EDGES && copies > 0;
    if (alone && elements <= HISTOGRAM_BRIEF) copies = 1;
    fovea_status status = FOVEA_OK;
    if (h.needs_range() && !alone)
        status = fold_run(x, NULL, least, &largest, -1, run, range_method<T>{});
    if (status == FOVEA_OK && !alone)
        status = launch(run, histogram_begin<T>, blocks_for(h.bins + 1, HISTOGRAM_THREADS),
                        HISTOGRAM_THREADS, h);
    if (status != FOVEA_OK || elements == 0 || h.bins == 0) return status;
    fovea_views_collapse(all, 1);
    bool dense = x.rank <= 1 && (x.rank == 0 || x.stride[0] == 1);
    constexpr int vectors = HISTOGRAM_FEW * (16 / (int)sizeof(T));
    if (alone && dense && elements <= HISTOGRAM_HELD * vectors) {
        const bool one = elements <= vectors, wide = is_aligned(x.data, 16);
        return launch(run,
                      wide
                          ? one ? histogram_few<T, 1, true> : histogram_few<T, HISTOGRAM_HELD, true>
                      : one ? histogram_few<T, 1, false>
                            : histogram_few<T, HISTOGRAM_HELD, false>,
                      1, HISTOGRAM_FEW, (const T *)x.data, (int)elements, h);
    }
    int64_t blocks = blocks_for(elements, HISTOGRAM_THREADS * (16 / (int64_t)sizeof(T)));
    int64_t most = (int64_t)HISTOGRAM_RESIDENT * fovea_cuda_multiprocessors(current_device());
    return launch(run, alone ? histogram_count<T, true> : histogram_count<T, false>,
                  alone           ? 1
                  : blocks < most ? blocks
                                  : most,
                  HISTOGRAM_THREADS, (const T *)x.data, strided_of<1>({&x}), elements,
                  dense && is_aligned(x.data, 16), h, copies);
}

#endif
