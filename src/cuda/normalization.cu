/* Domain 5, normalization. The variance is that of the centred row, in a second pass over registers. */
#include "cuda/rows.cuh"

#include <stdio.h>

/* gamma or beta, in elements of type W. */
template <class W>
struct weights {
    const W *data; /* NULL: none */
    int64_t step;
    float otherwise;

    __device__ __forceinline__ float at(int64_t column) const {
        return data ? widen(data[column * step]) : otherwise;
    }
};

template <class G, class B>
struct layer_norm_call {
    weights<G> gamma;
    weights<B> beta;
    float epsilon;
};

struct layer_norm_row {
    static constexpr float pad = 0;

    template <class Row, class T, class Call>
    static __device__ __forceinline__ void apply(Row &row, T *target, const Call &call) {
        float count = (float)row.columns;
        float mean = sum_over(row, [](float x, int64_t) { return x; }) / count;
        float variance =
            sum_over(row, [&](float x, int64_t) { return (x - mean) * (x - mean); }) / count;
        float r = 1 / sqrtf(variance + call.epsilon);
        row.store(target, [&](float x, int64_t c) {
            return fmaf(call.gamma.at(c), (x - mean) * r, call.beta.at(c));
        });
    }
};

template <class W>
static weights<W> weights_of(const fovea_view *view, float otherwise) {
    if (!view) return {NULL, 0, otherwise};
    return {(const W *)view->data, view->stride[0], otherwise};
}

template <class T, class G, class B>
static fovea_status layer_norm_as(const fovea_problem *problem, fovea_run *run) {
    const auto *options = (const fovea_layer_norm_options *)problem->options;
    layer_norm_call<G, B> call = {weights_of<G>(fovea_problem_view(problem, "gamma"), 1),
                                  weights_of<B>(fovea_problem_view(problem, "beta"), 0),
                                  (float)options->eps};
    return rows_run<T, layer_norm_row>(problem, run, call);
}

/* Weights are f32, or of the dtype of the call. */
template <class T>
static fovea_status layer_norm_with(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *gamma = fovea_problem_view(problem, "gamma");
    const fovea_view *beta = fovea_problem_view(problem, "beta");
    bool wide_gamma = gamma && gamma->dtype == FOVEA_F32;
    bool wide_beta = beta && beta->dtype == FOVEA_F32;
    if (!beta) wide_beta = wide_gamma;
    if (!gamma) wide_gamma = wide_beta;
    if (wide_gamma && wide_beta) return layer_norm_as<T, float, float>(problem, run);
    if (wide_gamma) return layer_norm_as<T, float, T>(problem, run);
    if (wide_beta) return layer_norm_as<T, T, float>(problem, run);
    return layer_norm_as<T, T, T>(problem, run);
}

static bool layer_norm_serves(const fovea_problem *problem, char *reason, size_t size) {
    static const char *const names[] = {"gamma", "beta"};
    for (const char *name : names) {
        const fovea_view *view = fovea_problem_view(problem, name);
        if (!view || view->dtype == FOVEA_F32 || view->dtype == problem->dtype) continue;
        snprintf(reason, size, "%s is %s; it takes f32 or the dtype of the call", name,
                 fovea_dtype_name(view->dtype));
        return false;
    }
    return true;
}

static fovea_status layer_norm(const fovea_problem *problem, fovea_run *run) {
    switch (problem->dtype) {
    case FOVEA_F16:
        return layer_norm_with<__half>(problem, run);
    case FOVEA_BF16:
        return layer_norm_with<__nv_bfloat16>(problem, run);
    default:
        return layer_norm_as<float, float, float>(problem, run);
    }
}

extern "C" const fovea_implementation fovea_cuda_table_normalization[] = {
    {.kernel = "layer_norm",
     .name = "cuda/sm80/direct",
     .dtypes = FOVEA_FLOATS,
     .serves = layer_norm_serves,
     .run = layer_norm,
     .device = kDLCUDA},
    {}};
