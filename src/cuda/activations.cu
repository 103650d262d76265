/* Domain 3, activations. x times a sigmoid is x / (1 + e^u): where e^u overflows the result is below
 * what f32 holds, and -0 stands for it, also at -inf. */
#include "cuda/map.cuh"

static __device__ __forceinline__ float over_one_plus_exp(float x, float u) {
    float e = expf(u);
    return isinf(e) ? -0.0f : x / (1 + e);
}

/* sqrt(2/pi) (x + 0.044715 x^3), times -2. */
static __device__ __forceinline__ float gelu_tanh(float x) {
    const float a = -1.5957691216057308f, b = -0.071354816272400365f;
    return over_one_plus_exp(x, x * fmaf(b * x, x, a));
}

/* erfc where 1 + erf would cancel. */
static __device__ __forceinline__ float gelu_erf(float x) {
    const float root = 0.70710678118654752f;
    if (x == -INFINITY) return -0.0f;
    return 0.5f * x * (x > -0.5f ? 1 + erff(root * x) : erfcf(-root * x));
}

/* tanh(ln(1 + e^x)) = n / (n + 2), n = e^x (e^x + 2). */
static __device__ __forceinline__ float mish(float x) {
    if (x > 20) return x;
    float e = expf(x), n = e * (e + 2);
    return e == 0 ? -0.0f : x * (n / (n + 2));
}

MAP_KERNEL(map_relu, 1, a < 0 ? 0.0f : a)
MAP_KERNEL(map_silu, 1, over_one_plus_exp(a, -a))
MAP_KERNEL(map_mish, 1, mish(a))
MAP_FUNCTION(leaky_relu, a > 0 ? a : p * a)
MAP_FUNCTION(elu, a > 0 ? a : p * expm1f(a))
MAP_FUNCTION(gelu_tanh, gelu_tanh(a))
MAP_FUNCTION(gelu_erf, gelu_erf(a))

static fovea_status map_leaky_relu(const fovea_problem *problem, fovea_run *run) {
    const auto *options = (const fovea_map_leaky_relu_options *)problem->options;
    return map_floats<1>(problem, run, leaky_relu_function{{(float)options->slope, 0}});
}

static fovea_status map_elu(const fovea_problem *problem, fovea_run *run) {
    const auto *options = (const fovea_map_elu_options *)problem->options;
    return map_floats<1>(problem, run, elu_function{{(float)options->alpha, 0}});
}

static fovea_status map_gelu(const fovea_problem *problem, fovea_run *run) {
    const auto *options = (const fovea_map_gelu_options *)problem->options;
    if (options->approximate == FOVEA_MAP_GELU_APPROXIMATE_TANH)
        return map_floats<1>(problem, run, gelu_tanh_function{});
    return map_floats<1>(problem, run, gelu_erf_function{});
}

extern "C" const fovea_implementation fovea_cuda_table_activations[] = {MAP_ENTRY(map_relu),
                                                                        MAP_ENTRY(map_leaky_relu),
                                                                        MAP_ENTRY(map_elu),
                                                                        MAP_ENTRY(map_gelu),
                                                                        MAP_ENTRY(map_silu),
                                                                        MAP_ENTRY(map_mish),
                                                                        {}};
