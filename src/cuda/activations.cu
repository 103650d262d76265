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

/* x Phi(x), Phi the normal distribution: in one stream of 32 operations, because lanes that go different
 * ways wait for one another. Within 1 of 0 Phi is 1/2 + x Q(x^2); beyond, it is e^(-x^2/2) times a
 * polynomial in (z - 3)/(z + 3), z = |x|/sqrt 2, or what that is short of 1. The polynomials are those of
 * the CPU: minimax fits. What is subnormal is 0 here, as 2^-119 is allowed. */
static __device__ __forceinline__ float gelu_erf(float x) {
    const float a = fminf(fabsf(x), 14.5f), square = a * a;
    const float w = quick_reciprocal(fmaf(a, 0x1.6a09e6p-1f, 3)), t = fmaf(-6, w, 1);
    float p = -0x1.cd232ep-14f;
    p = fmaf(p, t, -0x1.57d82p-13f);
    p = fmaf(p, t, 0x1.0cfb2p-10f);
    p = fmaf(p, t, -0x1.ab329cp-12f);
    p = fmaf(p, t, -0x1.2524cap-7f);
    p = fmaf(p, t, 0x1.46646ap-5f);
    p = fmaf(p, t, -0x1.a7e3d4p-4f);
    p = fmaf(p, t, 0x1.92edep-3f);
    p = fmaf(p, t, -0x1.2d883p-2f);
    p = fmaf(p, t, 0x1.6e9828p-2f);
    const float tail = quick_exp2(square * -0.72134752f) * (p * (1.5f * w));
    float q = -0x1.00204cp-17f;
    q = fmaf(q, square, 0x1.dbce7ep-14f);
    q = fmaf(q, square, -0x1.36fb0cp-10f);
    q = fmaf(q, square, 0x1.46ce38p-7f);
    q = fmaf(q, square, -0x1.105832p-4f);
    q = fmaf(q, square, 0x1.988454p-2f);
    const float inside = x < 0 ? -a : x; /* -inf times a tail would be -inf */
    const float far = x < 0 ? tail : 1 - tail;
    return inside * (a < 1 ? fmaf(inside, q, 0.5f) : far);
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
