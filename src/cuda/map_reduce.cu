/* Domain 19, fused map-reduce: sums of what a map makes of the elements, in one pass. */
#include "cuda/fold.cuh"

template <class Term, class U = void>
static fovea_status sum_of(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *w = Term::inputs > 1 ? &problem->views[1] : NULL;
    return by_float(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        using W = std::conditional_t<std::is_void<U>::value, T, U>;
        return fold_run(problem->views[0], w, problem->views[Term::inputs], NULL,
                        fovea_problem_axis(problem), run,
                        sum_method<T, float, Term, W>{{}, FOLD_SUM});
    });
}

/* How many x are above a threshold. */
template <class T>
struct count_method {
    using element = T;
    using other = T;
    using output = int64_t;
    using second = int64_t;
    using state = int64_t;
    static constexpr int inputs = 1;
    float threshold;

    static __device__ __forceinline__ state empty() { return 0; }
    __device__ __forceinline__ void begin(const T *, const T *) {}
    template <int n, int run>
    __device__ __forceinline__ void take(state &count, const T *x, const T *, int64_t,
                                         int64_t) const {
        int above = 0;
#pragma unroll
        for (int i = 0; i < n; i++) above += widen(x[i]) > threshold;
        count += above;
    }
    static __device__ __forceinline__ state join(state a, state b) { return a + b; }
    __device__ __forceinline__ void finish(state count, int64_t, int64_t *y, int64_t *) const {
        *y = count;
    }
};

/* Of one block. */
template <class T>
struct brief_count : count_method<T> {
    using state = int;
    static __device__ __forceinline__ state empty() { return 0; }
    template <int n, int run>
    __device__ __forceinline__ void take(state &count, const T *x, const T *, int64_t,
                                         int64_t) const {
#pragma unroll
        for (int i = 0; i < n; i++) count += widen(x[i]) > this->threshold;
    }
    static __device__ __forceinline__ state join(state a, state b) { return a + b; }
    static __device__ __forceinline__ state over_warp(state count) {
        return __reduce_add_sync(0xffffffffu, count);
    }
};
template <class T>
static brief_count<T> brief_of(const count_method<T> &method, int64_t) {
    return {method};
}

static fovea_status map_reduce_threshold_count(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_map_reduce_threshold_count_options *)problem->options;
    return by_float(problem->dtype, [&](auto zero) {
        return fold_run(problem->views[0], NULL, problem->views[1], NULL,
                        fovea_problem_axis(problem), run,
                        count_method<decltype(zero)>{(float)o->threshold});
    });
}

#define REDUCE(name, function) CUDA_ROW(name, FOVEA_FLOATS, function, .workspace = fold_workspace)

extern "C" const fovea_implementation fovea_cuda_table_map_reduce[] = {
    REDUCE(map_reduce_square_sum, (sum_of<square_term>)),
    REDUCE(map_reduce_abs_sum, (sum_of<magnitude_term>)),
    REDUCE(map_reduce_masked_sum, (sum_of<chosen_term, uint8_t>)),
    REDUCE(map_reduce_threshold_count, map_reduce_threshold_count),
    {}};
