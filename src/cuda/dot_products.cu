/* Domain 18, dot products of rows. */
#include "cuda/fold.cuh"

/* Sum: what terms are added in; f32 for as few as a warp has room for. */
template <class T, class Sum = double>
struct cosine_method {
    using element = T;
    using other = T;
    using output = float;
    using second = float;
    struct state {
        Sum ab, aa, bb;
    };
    static constexpr int inputs = 2;
    Sum eps;

    static __device__ __forceinline__ state empty() { return {}; }
    __device__ __forceinline__ void begin(const T *, const T *) {}
    template <int n, int run>
    __device__ __forceinline__ void take(state &s, const T *a, const T *b, int64_t, int64_t) const {
        float ab[n], aa[n], bb[n];
#pragma unroll
        for (int i = 0; i < n; i++) {
            float x = widen(a[i]), y = widen(b[i]);
            ab[i] = x * y, aa[i] = x * x, bb[i] = y * y;
        }
        add_terms(s.ab, ab), add_terms(s.aa, aa), add_terms(s.bb, bb);
    }
    static __device__ __forceinline__ state join(const state &a, const state &b) {
        return {a.ab + b.ab, a.aa + b.aa, a.bb + b.bb};
    }
    __device__ __forceinline__ void finish(const state &s, int64_t, float *y, float *) const {
        const Sum a = sqrt(s.aa), b = sqrt(s.bb);
        if (s.aa == 0 || s.bb == 0)
            *y = 0;
        else
            *y = (float)(s.ab / (a < eps ? eps : a) / (b < eps ? eps : b));
    }
};

/* Of as few elements as a warp has room for: f32, and no root or quotient proper where sums are normal numbers. */
template <class T>
struct brief_cosine : cosine_method<T, float> {
    using typename cosine_method<T, float>::state;
    float most; /* 1 / eps */
    __device__ __forceinline__ void finish(const state &s, int64_t count, float *y, float *) const {
        const float a = quick_inverse_root(s.aa), b = quick_inverse_root(s.bb);
        if (s.aa > 0x1p-100f && s.bb > 0x1p-100f && s.aa < 0x1p100f && s.bb < 0x1p100f)
            *y = s.ab * (a < most ? a : most) * (b < most ? b : most);
        else
            cosine_method<T, float>::finish(s, count, y, NULL);
    }
};
template <class T>
static brief_cosine<T> brief_of(const cosine_method<T> &method, int64_t) {
    return {{(float)method.eps}, (float)(1 / method.eps)};
}

static fovea_status dot_batched(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *v = problem->views;
    return by_float(problem->dtype, [&](auto zero) {
        return fold_run(v[0], &v[1], v[2], NULL, v[0].rank - 1, run,
                        sum_method<decltype(zero), float, product_term>{{}, FOLD_SUM});
    });
}

static fovea_status cosine_similarity(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_cosine_similarity_options *)problem->options;
    const fovea_view *v = problem->views;
    return by_float(problem->dtype, [&](auto zero) {
        return fold_run(v[0], &v[1], v[2], NULL, v[0].rank - 1, run,
                        cosine_method<decltype(zero)>{o->eps});
    });
}

extern "C" const fovea_implementation fovea_cuda_table_dot_products[] = {
    CUDA_ROW(dot_batched, FOVEA_FLOATS, dot_batched, .workspace = fold_workspace),
    CUDA_ROW(cosine_similarity, FOVEA_FLOATS, cosine_similarity, .workspace = fold_workspace),
    {}};
