/* Domain 3, activations. x times a sigmoid is x / (1 + e^u): where e^u overflows the result is below
 * what f32 holds, and -0 stands for it, also at -inf. expf is off by 1 ULP, which a result of a smaller power of
 * two counts as nearly 2 of its 4, so that roundings are given back. Halves have a ULP of
 * 2^-11 or 2^-8 of which a hundredth may be lost: 2^x and reciprocals to 2^-22 do, for exponents below 2^5 (f16)
 * or 2^7 (bf16), which have an error of 2^-19 or 2^-17. */
#include "cuda/map.cuh"

static __device__ __forceinline__ float over_one_plus_exp(float x, float u) {
    float e = expf(u);
    return isinf(e) ? -0.0f : x * reciprocal_of_one_plus(e);
}
/* Of 2^u; beyond the range of x that has a result in halves, that of its end. */
static __device__ __forceinline__ float over_one_plus_exp2(float x, float u) {
    return x * quick_reciprocal(1 + quick_exp2(u));
}

/* sqrt(2/pi) (x + 0.044715 x^3), times -2. */
static __device__ __forceinline__ float gelu_tanh(float x) {
    const float a = -1.5957691216057308f, b = -0.071354816272400365f;
    return over_one_plus_exp(x, x * fmaf(b * x, x, a));
}
/* The same over ln 2. */
static __device__ __forceinline__ float gelu_tanh_of_halves(float x) {
    const float a = -2.3022081986f, b = -0.1029432396f;
    x = max_or_nan(x, -100);
    return over_one_plus_exp2(x, x * fmaf(b * x, x, a));
}
static __device__ __forceinline__ float silu_of_halves(float x) {
    x = max_or_nan(x, -120);
    return over_one_plus_exp2(x, -1.44269504f * x);
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

/* To 2^-20, which halves need 2^-17.6 of: at all x by e^(-x^2/2) w P(w), w = 1 / (1 + 0.36 |x|), a minimax
 * fit to where bf16 ends. */
static __device__ __forceinline__ float gelu_erf_of_halves(float x) {
    x = max_or_nan(x, -14);
    const float w = quick_reciprocal(fmaf(fabsf(x), 0.36f, 1)), square = x * x;
    float p = 0x1.83d8c2p-5f;
    p = fmaf(p, w, -0x1.722deep-3f);
    p = fmaf(p, w, 0x1.755874p-3f);
    p = fmaf(p, w, 0x1.a3d202p-6f);
    p = fmaf(p, w, 0x1.1ed66ep-3f);
    p = fmaf(p, w, 0x1.223934p-3f);
    p = fmaf(p, w, 0x1.265554p-3f);
    const float tail = quick_exp2(square * -0.72134752f) * (p * w);
    return x * (x < 0 ? tail : 1 - tail);
}

/* tanh(ln(1 + e^x)) = n / d, n = e^x (e^x + 2), d = n + 2. What rounding n, d and the quotient loses is given
 * back in one step: with it 10^7 numbers had one of 5 ULP. */
static __device__ __forceinline__ float mish(float x) {
    const float a = max_or_nan(x, -120); /* e is 0 there, and -inf has a product */
    const float e = expf(a), twice = 2 * e, n = fmaf(e, e, twice), n_lost = fmaf(e, e, twice - n);
    const float d = n + 2, d_lost = (n - (d - 2)) + n_lost;
    const float y = quick_reciprocal(d), quotient = n * y;
    const float rest = fmaf(-quotient, d_lost, fmaf(-quotient, d, n) + n_lost);
    return choose_above(x, 20, x, fmaf(a * rest, y, a * quotient));
}

static __device__ __forceinline__ float mish_of_halves(float x) {
    x = max_or_nan(x, -120);
    const float e = quick_exp2(1.44269504f * x), n = e * (e + 2);
    return x > 20 ? x : x * (n * quick_reciprocal(n + 2));
}

/* x > 0 ? x : alpha (e^x - 1), without a branch. e^x - 1 = 2^n (e^r - 1) + (2^n - 1), x = n ln 2 + r, by a
 * minimax polynomial to 2^-26. */
static __device__ __forceinline__ float elu(float x, float alpha) {
    const float a = max_or_nan(x, -25), shifted = fmaf(a, 1.44269504f, 12582912.0f);
    const float n = shifted - 12582912.0f;
    const float r = fmaf(n, -1.42860677e-6f, fmaf(n, -0.693145752f, a));
    const float power = __int_as_float((__float_as_int(shifted) << 23) + 0x3f800000);
    float p = 0x1.6bed8cp-10f;
    p = fmaf(p, r, 0x1.1227fep-7f);
    p = fmaf(p, r, 0x1.555672p-5f);
    p = fmaf(p, r, 0x1.5554bp-3f);
    p = fmaf(p, r, 0x1.fffffep-2f);
    p = fmaf(p, r * r, r);
    return choose_above(x, 0, x, alpha * fmaf(power, p, power - 1));
}

MAP_KERNEL(map_relu, 1, a < 0 ? 0.0f : a)
MAP_KERNEL_AND_HALVES(map_silu, 1, over_one_plus_exp(a, -a), silu_of_halves(a))
MAP_KERNEL_AND_HALVES(map_mish, 1, mish(a), mish_of_halves(a))
MAP_FUNCTION(leaky_relu, a > 0 ? a : p * a)
MAP_FUNCTION(elu, elu(a, p))
MAP_FUNCTION(gelu_tanh, gelu_tanh(a))
MAP_FUNCTION(gelu_erf, gelu_erf(a))
MAP_FUNCTION(gelu_tanh_halves, gelu_tanh_of_halves(a))
MAP_FUNCTION(gelu_erf_halves, gelu_erf_of_halves(a))

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
        return map_floats_and_halves<1>(problem, run, gelu_tanh_function{},
                                        gelu_tanh_halves_function{});
    return map_floats_and_halves<1>(problem, run, gelu_erf_function{}, gelu_erf_halves_function{});
}

extern "C" const fovea_implementation fovea_cuda_table_activations[] = {MAP_ENTRY(map_relu),
                                                                        MAP_ENTRY(map_leaky_relu),
                                                                        MAP_ENTRY(map_elu),
                                                                        MAP_ENTRY(map_gelu),
                                                                        MAP_ENTRY(map_silu),
                                                                        MAP_ENTRY(map_mish),
                                                                        {}};
