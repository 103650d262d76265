/* Domain 2, elementwise. CUDA's own functions are within the bounds: expf 1 ULP, tanhf 2, logf 1. */
#include "cuda/map.cuh"

MAP_KERNEL(map_exp, 1, expf(a))
MAP_KERNEL(map_log, 1, logf(a))
/* Rounding 1 + e, a reciprocal and expf's ULP add up to more than 3, as one of 10^7 numbers showed. */
static __device__ __forceinline__ float sigmoid(float x) {
    const float e = expf(-x);
    return isinf(e) ? 0.0f : reciprocal_of_one_plus(e);
}

MAP_KERNEL_AND_HALVES(map_sigmoid, 1, sigmoid(a),
                      quick_reciprocal(1 + quick_exp2(-1.44269504f * a)))
MAP_KERNEL(map_tanh, 1, tanhf(a))
/* log1pf has a branch, which keeps the elements of a thread apart: ln(1 + e), e in [0, 1], is e times a minimax polynomial
 * to 2^-27. */
static __device__ __forceinline__ float softplus(float x) {
    const float e = expf(-fabsf(x));
    float p = -0x1.a9306ep-9f;
    p = fmaf(p, e, 0x1.453d62p-6f);
    p = fmaf(p, e, -0x1.d29b38p-5f);
    p = fmaf(p, e, 0x1.b25294p-4f);
    p = fmaf(p, e, -0x1.397526p-3f);
    p = fmaf(p, e, 0x1.92f682p-3f);
    p = fmaf(p, e, -0x1.ff0f84p-3f);
    p = fmaf(p, e, 0x1.554c7ep-2f);
    p = fmaf(p, e, -0x1.ffffbep-2f);
    p = fmaf(p, e, 1);
    return fmaf(p, e, x < 0 ? 0 : x);
}

MAP_KERNEL(map_softplus, 1, softplus(a))
MAP_KERNEL(map_abs, 1, fabsf(a))
MAP_KERNEL(map_add, 2, a + b)
MAP_KERNEL(map_mul, 2, a *b)
MAP_KERNEL(map_div, 2, a / b)
MAP_KERNEL(map_fma, 3, fmaf(a, b, c))

/* Comparisons let a NaN of x through, and make a NaN bound no bound. */
static __device__ __forceinline__ float clamp(float x, float low, float high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

MAP_FUNCTION(clamp, clamp(a, p, q))

static fovea_status map_clamp(const fovea_problem *problem, fovea_run *run) {
    const auto *options = (const fovea_map_clamp_options *)problem->options;
    return map_floats<1>(problem, run, clamp_function{{(float)options->lo, (float)options->hi}});
}

MAP_FUNCTION(compare, a > b ? 1.0f : 0.0f)

static fovea_status map_compare(const fovea_problem *problem, fovea_run *run) {
    if (problem->views[2].dtype != FOVEA_U8) return map_floats<2>(problem, run, compare_function{});
    return by_float(problem->dtype, [&](auto zero) {
        return map_run<decltype(zero), uint8_t, 2>(problem, run, compare_function{});
    });
}

extern "C" const fovea_implementation fovea_cuda_table_elementwise[] = {MAP_ENTRY(map_exp),
                                                                        MAP_ENTRY(map_log),
                                                                        MAP_ENTRY(map_sigmoid),
                                                                        MAP_ENTRY(map_tanh),
                                                                        MAP_ENTRY(map_softplus),
                                                                        MAP_ENTRY(map_clamp),
                                                                        MAP_ENTRY(map_abs),
                                                                        MAP_ENTRY(map_add),
                                                                        MAP_ENTRY(map_mul),
                                                                        MAP_ENTRY(map_div),
                                                                        MAP_ENTRY(map_compare),
                                                                        MAP_ENTRY(map_fma),
                                                                        {}};
