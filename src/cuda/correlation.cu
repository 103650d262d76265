/* Domain 20, correlation: joint moments of two tensors and of the columns of one, and weighted sums. */
#include "cuda/covariance.cuh"
#include "cuda/fold.cuh"

#include <math.h>

enum { BOTH = 1u << FOVEA_F32 | 1u << FOVEA_F64 };

template <class T>
struct correlation_finish {
    using output = T;
    __device__ __forceinline__ void operator()(const joint_moments &m, T *y, T *) const {
        double r = m.xy / (sqrt(m.xx) * sqrt(m.yy));
        *y = (T)(r > 1 ? 1 : r < -1 ? -1 : r);
        if (m.xx == 0 || m.yy == 0) *y = (T)NAN;
    }
};

template <class T>
struct covariance_finish {
    using output = T;
    double correction;
    __device__ __forceinline__ void operator()(const joint_moments &m, T *y, T *) const {
        double divisor = m.count - correction;
        *y = (T)(m.xy / (divisor > 0 ? divisor : 0));
    }
};

static fovea_status reduce_correlation(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *v = problem->views;
    return by_precision(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        return fold_run(v[0], &v[1], v[2], NULL, fovea_problem_axis(problem), run,
                        moments_method<T, true, correlation_finish<T>>{});
    });
}

static fovea_status reduce_covariance(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_reduce_covariance_options *)problem->options;
    const fovea_view *v = problem->views;
    return by_precision(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        return fold_run(v[0], &v[1], v[2], NULL, fovea_problem_axis(problem), run,
                        moments_method<T, true, covariance_finish<T>>{{o->correction}, 0, 0});
    });
}

static fovea_status reduce_weighted_sum(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *v = problem->views;
    return by_precision(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        return fold_run(v[0], &v[1], v[2], NULL, fovea_problem_axis(problem), run,
                        sum_method<T, T, product_term>{{}, FOLD_SUM});
    });
}

/* ---- Weighted means ------------------------------------------------------------------------- */

template <class T>
struct weighted_mean_method {
    using element = T;
    using other = T;
    using output = T;
    using second = T;
    using value = typename carrier<T>::value;
    struct state {
        typename carrier<T>::sum products, weights;
    };
    static constexpr int inputs = 2;

    static __device__ __forceinline__ state empty() { return {}; }
    __device__ __forceinline__ void begin(const T *, const T *) {}
    template <int n, int run>
    __device__ __forceinline__ void take(state &s, const T *x, const T *w, int64_t, int64_t) const {
        value products[n], weights[n];
#pragma unroll
        for (int i = 0; i < n; i++) products[i] = x[i] * w[i], weights[i] = w[i];
        add_terms(s.products, products), add_terms(s.weights, weights);
    }
    static __device__ __forceinline__ state join(const state &a, const state &b) {
        return {add(a.products, b.products), add(a.weights, b.weights)};
    }
    __device__ __forceinline__ void finish(const state &s, int64_t, T *y, T *) const {
        double weights = value_of(s.weights);
        *y = weights == 0 ? (T)NAN : (T)(value_of(s.products) / weights);
    }
};

static fovea_status reduce_weighted_mean(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *v = problem->views;
    return by_precision(problem->dtype, [&](auto zero) {
        return fold_run(v[0], &v[1], v[2], NULL, fovea_problem_axis(problem), run,
                        weighted_mean_method<decltype(zero)>{});
    });
}

/* ---- Columns -------------------------------------------------------------------------------- */

struct covariance_result {
    double count, divisor;
    __device__ __forceinline__ double operator()(const gram_sums &sums, int i, int j) const {
        return sums.centred(i, j, count) / divisor;
    }
};
struct pearson_result {
    double count;
    __device__ __forceinline__ double operator()(const gram_sums &sums, int i, int j) const {
        const double xx = sums.centred(i, i, count), yy = sums.centred(j, j, count);
        const double r = i == j ? xx / xx : sums.centred(i, j, count) / (sqrt(xx) * sqrt(yy));
        return xx == 0 || yy == 0 ? NAN : r > 1 ? 1 : r < -1 ? -1 : r;
    }
};

static fovea_status reduce_covariance_matrix(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_reduce_covariance_matrix_options *)problem->options;
    const fovea_view &x = problem->views[0];
    const double count = (double)x.shape[x.rank - 2], divisor = count - o->correction;
    return by_precision(problem->dtype, [&](auto zero) {
        return gram_run<decltype(zero)>(problem, run,
                                        covariance_result{count, divisor > 0 ? divisor : 0});
    });
}

static fovea_status reduce_pearson_pairwise(const fovea_problem *problem, fovea_run *run) {
    const fovea_view &x = problem->views[0];
    return by_precision(problem->dtype, [&](auto zero) {
        return gram_run<decltype(zero)>(problem, run, pearson_result{(double)x.shape[x.rank - 2]});
    });
}

#define COLUMNS(name) CUDA_ROW(name, BOTH, name, .workspace = gram_workspace)
#define REDUCE(name) CUDA_ROW(name, BOTH, name, .workspace = fold_workspace)

extern "C" const fovea_implementation fovea_cuda_table_correlation[] = {
    REDUCE(reduce_correlation),
    REDUCE(reduce_covariance),
    REDUCE(reduce_weighted_sum),
    REDUCE(reduce_weighted_mean),
    COLUMNS(reduce_covariance_matrix),
    COLUMNS(reduce_pearson_pairwise),
    {}};
