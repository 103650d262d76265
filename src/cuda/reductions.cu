/* Domain 1, reductions: sums, extremes and moments of what fold.cuh walks over. */
#include "cuda/fold.cuh"
#include "cuda/histogram.cuh"

#include <math.h>

enum { BOTH = 1u << FOVEA_F32 | 1u << FOVEA_F64 };

template <class Term, fold_result result>
static fovea_status sum_of(const fovea_problem *problem, fovea_run *run) {
    return by_precision(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        return fold_run(problem->views[0], NULL, problem->views[1], NULL,
                        fovea_problem_axis(problem), run, sum_method<T, T, Term>{{}, result});
    });
}

template <bool largest>
static fovea_status extreme_of(const fovea_problem *problem, fovea_run *run) {
    return by_precision(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        return fold_run(problem->views[0], NULL, problem->views[1], NULL,
                        fovea_problem_axis(problem), run, extreme_method<T, T, largest>{});
    });
}

/* ---- The place of an extreme ---------------------------------------------------------------- */

template <class T>
struct place_types {
    using element = T;
    using other = T;
    using output = int64_t;
    using second = T;
    static constexpr int inputs = 1;
    __device__ __forceinline__ void begin(const T *, const T *) {}
};

/* The largest or smallest of several; the NaN if one is. */
template <bool largest, int n, class T>
static __device__ __forceinline__ T extreme_of_all(const T (&x)[n]) {
    T most[n];
#pragma unroll
    for (int i = 0; i < n; i++) most[i] = x[i];
#pragma unroll
    for (int span = 1; span < n; span *= 2)
#pragma unroll
        for (int i = 0; i + span < n; i += 2 * span)
            most[i] = extreme<largest>(most[i], most[i + span]);
    return most[0];
}

/* The first of the largest or smallest elements, or of the NaN. */
template <class T, bool largest>
struct place_method : place_types<T> {
    struct state {
        T value;
        int64_t index;
    };

    static __device__ __forceinline__ state empty() {
        return {largest ? -(T)INFINITY : (T)INFINITY, INT64_MAX};
    }
    /* a stands before b: it is NaN or greater, or equal with a lower index. */
    static __device__ __forceinline__ bool beats(const state &a, const state &b) {
        if (isnan(a.value) || isnan(b.value))
            return isnan(a.value) && (!isnan(b.value) || a.index < b.index);
        if (a.value != b.value) return largest ? a.value > b.value : a.value < b.value;
        return a.index < b.index;
    }
    template <int n, int run>
    __device__ __forceinline__ void take(state &best, const T *x, const T *, int64_t first,
                                         int64_t step) const {
#pragma unroll
        for (int i = 0; i < n; i++) {
            state here = {x[i], first + i / run * step + i % run};
            if (beats(here, best)) best = here;
        }
    }
    /* Of elements that come together only the extreme is looked at, and where the first of the best of these was is
     * found at the end. */
    template <int n>
    __device__ __forceinline__ void glance(state &best, const T (&x)[n], int64_t first) const {
        const T most = extreme_of_all<largest>(x);
        if constexpr (sizeof(T) == 4) {
            /* The first NaN stays, as all that come from comparisons have the same bits; -0 becomes 0. */
            const T both = extreme<largest>(best.value, most + 0.0f);
            best.index = __float_as_int(both) == __float_as_int(best.value) ? best.index : first;
            best.value = both;
        } else {
            const bool known = largest ? most <= best.value : most >= best.value;
            if (!known && !isnan(best.value)) best = {most, first};
        }
    }
    /* By the lanes alone that have the best of their warp. Where all are infinite the wrong way none was new: the
     * first are then as good as all. */
    template <int steps, int size>
    __device__ __forceinline__ void settle(state &best, const T *x, int64_t first, bool any,
                                           int64_t step, bool whole) const {
        T most = best.value, seen[steps * size];
        if (whole) most = reduce_warp(most, [](T a, T b) { return extreme<largest>(a, b); });
        if (!any || !(best.value == most || isnan(best.value))) {
            best = empty();
            return;
        }
        const int64_t from = best.index == INT64_MAX ? first : best.index;
#pragma unroll
        for (int i = 0; i < steps * size; i++) seen[i] = x[from + i / size * step + i % size];
#pragma unroll
        for (int i = steps * size - 1; i >= 0; i--)
            if (seen[i] == best.value || isnan(seen[i]))
                best.index = from + i / size * step + i % size;
    }
    static __device__ __forceinline__ state join(const state &a, const state &b) {
        return beats(b, a) ? b : a;
    }
    __device__ __forceinline__ void finish(const state &best, int64_t, int64_t *index,
                                           T *value) const {
        *index = best.index;
        if (value) *value = best.value;
    }
};

/* Of one block of f32; -0 is 0 here. */
template <bool largest>
struct brief_place : place_types<float> {
    struct state {
        unsigned key, index;
    };
    static __device__ __forceinline__ state empty() { return {0, UINT32_MAX}; }
    template <int n, int run>
    __device__ __forceinline__ void take(state &best, const float *x, const float *, int64_t first,
                                         int64_t) const {
#pragma unroll
        for (int i = 0; i < n; i++)
            best = join(best, {key_of<largest>(x[i] + 0.0f), (unsigned)first + i});
    }
    /* a stands before b. */
    static __device__ __forceinline__ state join(const state &a, const state &b) {
        return b.key > a.key ? b : a;
    }
    static __device__ __forceinline__ state over_warp(const state &best) {
        const unsigned key = __reduce_max_sync(0xffffffffu, best.key);
        return {key, __reduce_min_sync(0xffffffffu, best.key == key ? best.index : UINT32_MAX)};
    }
    __device__ __forceinline__ void finish(const state &best, int64_t, int64_t *index,
                                           float *value) const {
        *index = best.index;
        if (value) *value = value_of_key<largest>(best.key);
    }
};
template <bool largest>
static brief_place<largest> brief_of(const place_method<float, largest> &, int64_t) {
    return {};
}

/* The same of several blocks: of elements that come together where the first of the best is is looked for only if their
 * warp has none as good yet. */
template <bool largest>
struct whole_place : brief_place<largest> {
    using state = typename brief_place<largest>::state;
    static constexpr bool busy = true;
    static __device__ __forceinline__ state join(const state &a, const state &b) {
        return b.key > a.key || (b.key == a.key && b.index < a.index) ? b : a;
    }
    template <int n, int run>
    __device__ __forceinline__ void take(state &best, const float *x, const float *, int64_t first,
                                         int64_t step) const {
        float here[n];
#pragma unroll
        for (int i = 0; i < n; i++) here[i] = x[i];
        const float value = extreme_of_all<largest>(here) + 0.0f; /* -0 becomes 0 */
        const unsigned key = key_of<largest>(value);
        const unsigned lanes = __activemask();
        if (!__any_sync(lanes, key > best.key)) return;
        const unsigned most = __reduce_max_sync(lanes, key);
        if (most <= best.key) return; /* towards the end lanes may know of unlike ones */
        best = {most, UINT32_MAX};
        if (key < most) return;
        int place = 0;
#pragma unroll
        for (int i = n - 1; i >= 0; i--)
            if (isnan(value) ? isnan(here[i]) : here[i] == value) place = i;
        best.index = (unsigned)first + (unsigned)(place / run * step) + (unsigned)(place % run);
    }
};
template <bool largest>
static whole_place<largest> whole_of(const place_method<float, largest> &) {
    return {};
}

template <bool largest>
static fovea_status place_of(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *value = fovea_given(problem, 2) ? &problem->views[2] : NULL;
    return by_precision(problem->dtype, [&](auto zero) {
        return fold_run(problem->views[0], NULL, problem->views[1], value,
                        fovea_problem_axis(problem), run, place_method<decltype(zero), largest>{});
    });
}

/* ---- Variance ------------------------------------------------------------------------------- */

template <class T>
struct variance_finish {
    using output = T;
    double correction;
    bool root;
    __device__ __forceinline__ void operator()(const joint_moments &m, T *y, T *) const {
        double divisor = m.count - correction, variance = m.xx / (divisor > 0 ? divisor : 0);
        *y = (T)(root ? sqrt(variance) : variance);
    }
};

/* Of so few elements of f32 that what divides them is known before. */
struct brief_variance : brief_moments_method<false, variance_finish<float>> {
    double part, share; /* 1 / count, 1 / (count - correction) */
    __device__ __forceinline__ void finish(const state &s, int64_t, float *y, float *) const {
        const double exact = positive(s.xx - s.x * (s.x * part)) * share;
        const float variance = (float)exact;
        if (!result.root)
            *y = variance;
        else if (variance > 0x1p-100f && variance < 0x1p100f)
            *y = quick_root(variance);
        else
            *y = (float)sqrt(exact);
    }
};
static brief_variance brief_of(const moments_method<float, false, variance_finish<float>> &method,
                               int64_t count) {
    const double divisor = (double)count - method.result.correction;
    return {{method}, 1 / (double)count, 1 / (divisor > 0 ? divisor : 0)};
}

static fovea_status variance(const fovea_problem *problem, fovea_run *run, double correction,
                             bool root) {
    return by_precision(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        return fold_run(problem->views[0], NULL, problem->views[1], NULL,
                        fovea_problem_axis(problem), run,
                        moments_method<T, false, variance_finish<T>>{{correction, root}, 0, 0});
    });
}

static fovea_status reduce_var(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_reduce_var_options *)problem->options;
    return variance(problem, run, o->correction, false);
}
static fovea_status reduce_stddev(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_reduce_stddev_options *)problem->options;
    return variance(problem, run, o->correction, true);
}

static fovea_status reduce_histogram(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_reduce_histogram_options *)problem->options;
    return by_precision(problem->dtype, [&](auto zero) {
        return histogram_as<decltype(zero)>(problem, run, o->lo, o->hi);
    });
}

#define REDUCE(name, function) CUDA_ROW(name, BOTH, function, .workspace = fold_workspace)

extern "C" const fovea_implementation fovea_cuda_table_reductions[] = {
    REDUCE(reduce_sum, (sum_of<identity_term, FOLD_SUM>)),
    REDUCE(reduce_mean, (sum_of<identity_term, FOLD_MEAN>)),
    REDUCE(reduce_l2, (sum_of<square_term, FOLD_ROOT>)),
    REDUCE(reduce_min, extreme_of<false>),
    REDUCE(reduce_max, extreme_of<true>),
    REDUCE(reduce_argmin, place_of<false>),
    REDUCE(reduce_argmax, place_of<true>),
    REDUCE(reduce_var, reduce_var),
    REDUCE(reduce_stddev, reduce_stddev),
    CUDA_ROW(reduce_histogram, BOTH, reduce_histogram, .serves = histogram_serves,
             .workspace = histogram_workspace),
    {}};
