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

/* Of so few elements of f32 that what divides is known before. part: 1 / count. */
static __device__ __forceinline__ joint_moments brief_moments(const moment_sums<false, true> &s,
                                                              double part) {
    const double xx = s.xx - s.x * (s.x * part), yy = s.yy - s.y * (s.y * part);
    return {0, 0, 0, xx < 0 ? 0 : xx, yy < 0 ? 0 : yy, centred_product(s.xy, s.x, s.y, part)};
}
struct brief_correlation : brief_moments_method<true, correlation_finish<float>> {
    double part;
    __device__ __forceinline__ void finish(const state &s, int64_t, float *y, float *) const {
        const joint_moments m = brief_moments(s, part);
        const float xx = (float)m.xx, yy = (float)m.yy;
        if (xx > 0x1p-60f && xx < 0x1p60f && yy > 0x1p-60f && yy < 0x1p60f) {
            const float r = (float)m.xy * (quick_inverse_root(xx) * quick_inverse_root(yy));
            *y = r > 1 ? 1 : r < -1 ? -1 : r;
        } else {
            result(m, y, y);
        }
    }
};
static brief_correlation
brief_of(const moments_method<float, true, correlation_finish<float>> &method, int64_t count) {
    return {{method}, 1 / (double)count};
}
struct brief_covariance : brief_moments_method<true, covariance_finish<float>> {
    double part, share; /* 1 / (count - correction) */
    __device__ __forceinline__ void finish(const state &s, int64_t, float *y, float *) const {
        *y = (float)(brief_moments(s, part).xy * share);
    }
};
static brief_covariance
brief_of(const moments_method<float, true, covariance_finish<float>> &method, int64_t count) {
    const double divisor = (double)count - method.result.correction;
    return {{method}, 1 / (double)count, 1 / (divisor > 0 ? divisor : 0)};
}

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

/* Of one block, in f32. */
struct brief_weighted_mean : weighted_mean_method<float> {
    struct state {
        float products, weights;
    };
    static __device__ __forceinline__ state empty() { return {}; }
    template <int n, int run>
    __device__ __forceinline__ void take(state &s, const float *x, const float *w, int64_t,
                                         int64_t) const {
        float products[n], weights[n];
#pragma unroll
        for (int i = 0; i < n; i++) products[i] = x[i] * w[i], weights[i] = w[i];
        add_terms(s.products, products), add_terms(s.weights, weights);
    }
    static __device__ __forceinline__ state join(const state &a, const state &b) {
        return {a.products + b.products, a.weights + b.weights};
    }
    static __device__ __forceinline__ state over_warp(const state &s) {
        const double2 sums = sum_pair((double)s.products, (double)s.weights);
        return {(float)sums.x, (float)sums.y};
    }
    __device__ __forceinline__ void finish(const state &s, int64_t, float *y, float *) const {
        *y = s.weights == 0 ? NAN : s.products / s.weights;
    }
};
static brief_weighted_mean brief_of(const weighted_mean_method<float> &, int64_t) { return {}; }

static fovea_status reduce_weighted_mean(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *v = problem->views;
    return by_precision(problem->dtype, [&](auto zero) {
        return fold_run(v[0], &v[1], v[2], NULL, fovea_problem_axis(problem), run,
                        weighted_mean_method<decltype(zero)>{});
    });
}

/* ---- Columns -------------------------------------------------------------------------------- */

/* part: 1 / rows; share: 1 / (rows - correction). sums: gram_sums or gram_pair_sums. */
struct covariance_result {
    double part, share;
    template <class Sums>
    __device__ __forceinline__ double operator()(const Sums &sums, int i, int j) const {
        return sums.centred(i, j, part) * share;
    }
};
template <bool single>
struct pearson_result {
    double part;
    template <class Sums>
    __device__ __forceinline__ double operator()(const Sums &sums, int i, int j) const {
        const double xx = sums.centred(i, i, part), yy = sums.centred(j, j, part);
        const float a = (float)xx, b = (float)yy;
        double r;
        if (single && i != j && a > 0x1p-60f && a < 0x1p60f && b > 0x1p-60f && b < 0x1p60f)
            r = (float)sums.centred(i, j, part) * (quick_inverse_root(a) * quick_inverse_root(b));
        else
            r = i == j ? xx / xx : sums.centred(i, j, part) / (sqrt(xx) * sqrt(yy));
        return xx == 0 || yy == 0 ? NAN : r > 1 ? 1 : r < -1 ? -1 : r;
    }
};

static fovea_status reduce_covariance_matrix(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_reduce_covariance_matrix_options *)problem->options;
    const fovea_view &x = problem->views[0];
    const double count = (double)x.shape[x.rank - 2], divisor = count - o->correction;
    return by_precision(problem->dtype, [&](auto zero) {
        return gram_run<decltype(zero)>(
            problem, run, covariance_result{1 / count, 1 / (divisor > 0 ? divisor : 0)});
    });
}

static fovea_status reduce_pearson_pairwise(const fovea_problem *problem, fovea_run *run) {
    const fovea_view &x = problem->views[0];
    return by_precision(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        return gram_run<T>(problem, run,
                           pearson_result<sizeof(T) == 4>{1 / (double)x.shape[x.rank - 2]});
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
