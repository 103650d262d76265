/* Domain 3, activations. Where x goes to -inf the factor beside it goes to 0 faster: x is held at
 * -104, where e^x is 0, so that the product is 0 and not NaN. Limits come first in vf_min and
 * vf_max, so that NaN passes. */
#include "cpu/map.h"
#include "cpu/simd/simd_math.h"

FOVEA_INLINE vf silu(vf x) {
    vf a = vf_max(vf_set1(-104), x);
    return vf_div(a, vf_add(vf_exp(vf_neg(a)), vf_set1(1)));
}

/* e^x for -104 <= x <= 88, without vf_exp's limits. */
FOVEA_INLINE vf exp_between(vf x) {
    const vf magic = vf_set1(0x1.8p23f);
    vf n = vf_sub(vf_fma(x, vf_set1(VF_LOG2E), magic), magic);
    vf r = vf_fnma(n, vf_set1(VF_LN2_LOW), vf_fnma(n, vf_set1(VF_LN2_HIGH), x));
    vf y = vf_add(vf_fma(vf_mul(r, r), vf_exp_polynomial(r), r), vf_set1(1));
    return vf_scale_by_power_of_two(y, n);
}

/* tanh(ln(1 + e)) = e (e + 2) / (e (e + 2) + 2) with e = e^x; beyond 20 that is 1 in f32. */
FOVEA_INLINE vf mish(vf x) {
    vf a = vf_max(vf_set1(-104), x);
    vf e = exp_between(vf_min(vf_set1(20), a));
    vf n = vf_fma(e, e, vf_add(e, e));
    return vf_mul(a, vf_div(n, vf_add(n, vf_set1(2))));
}

/* p (e^x - 1) where x < 0. x = n ln 2 + r with n in the low bits of 1.5 * 2^23 + 127 + n; what ln 2 as a float leaves out
 * counts for less than 2^-29 of the result, since 2^n falls faster than n grows, and limits for large x are not needed.
 * 15 operations, where 2 select and vf_expm1 takes 25. */
FOVEA_INLINE vf elu_of(vf x, float p) {
    const vf magic = vf_set1(0x1.8p23f + 127.0f);
    vf a = vf_max(vf_set1(-20), x);
    vf biased = vf_fma(a, vf_set1(VF_LOG2E), magic), n = vf_sub(biased, magic);
    vf r = vf_fnma(n, vf_set1(VF_LN2_HIGH), a);
    vf below = vf_fma(vf_mul(r, r), vf_exp_polynomial(r), r);
    vf scale = vi_as_vf(vi_shl(vf_as_vi(biased), 23)); /* 2^n */
    vf e = vf_fma(scale, below, vf_sub(scale, vf_set1(1)));
    return vf_select(vf_lt(x, vf_set1(0)), vf_mul(vf_set1(p), e), x);
}

MAP_KERNEL(map_relu, 1, 8, vf_max(vf_set1(0), a))
MAP_KERNEL(map_silu, 1, 24, silu(a))
MAP_KERNEL(map_mish, 1, 24, mish(a))

MAP_FLOATS(leaky_relu, 1, vf_select(vf_gt(a, vf_set1(0)), a, vf_mul(vf_set1(p), a)))
MAP_FLOATS(elu, 1, elu_of(a, p))
MAP_FLOATS(gelu, 1, vf_gelu(a))
MAP_FLOATS(gelu_tanh, 1, vf_gelu_tanh(a))

static fovea_status map_leaky_relu(const fovea_problem *problem, fovea_run *run) {
    const fovea_map_leaky_relu_options *options = problem->options;
    const float slope[2] = {(float)options->slope, 0};
    return map_call(problem, run, leaky_relu_by_dtype[problem->dtype], 1, slope, 8);
}

static fovea_status map_elu(const fovea_problem *problem, fovea_run *run) {
    const fovea_map_elu_options *options = problem->options;
    const float alpha[2] = {(float)options->alpha, 0};
    return map_call(problem, run, elu_by_dtype[problem->dtype], 1, alpha, 24);
}

static fovea_status map_gelu(const fovea_problem *problem, fovea_run *run) {
    const fovea_map_gelu_options *options = problem->options;
    const float none[2] = {0, 0};
    bool by_tanh = options->approximate == FOVEA_MAP_GELU_APPROXIMATE_TANH;
    return map_call(problem, run, (by_tanh ? gelu_tanh_by_dtype : gelu_by_dtype)[problem->dtype], 1,
                    none, 32);
}

const fovea_implementation FOVEA_TIERED(fovea_cpu_activations)[] = {MAP_ENTRY(map_relu),
                                                                    MAP_ENTRY(map_leaky_relu),
                                                                    MAP_ENTRY(map_elu),
                                                                    MAP_ENTRY(map_gelu),
                                                                    MAP_ENTRY(map_silu),
                                                                    MAP_ENTRY(map_mish),
                                                                    {0}};
