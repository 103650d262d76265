/* Domain 2, elementwise. */
#include "cpu/map.h"

static const float no_constants[2] = {0, 0};

FOVEA_INLINE vf add(vf a, vf b, float p, float q) {
    (void)p, (void)q;
    return vf_add(a, b);
}

/* The order of the arguments lets a NaN of x through, and makes a NaN bound no bound. */
FOVEA_INLINE vf clamp(vf x, vf unused, float lo, float hi) {
    (void)unused;
    return vf_min(vf_set1(hi), vf_max(vf_set1(lo), x));
}

MAP(add_f32, add, true, FOVEA_F32, FOVEA_F32)
MAP(add_f16, add, true, FOVEA_F16, FOVEA_F16)
MAP(add_bf16, add, true, FOVEA_BF16, FOVEA_BF16)
MAP(clamp_f32, clamp, false, FOVEA_F32, FOVEA_F32)
MAP(clamp_f16, clamp, false, FOVEA_F16, FOVEA_F16)
MAP(clamp_bf16, clamp, false, FOVEA_BF16, FOVEA_BF16)

static fovea_status map_add(const fovea_problem *problem, fovea_run *run) {
    static map_function *const by_dtype[] = {
        [FOVEA_F32] = add_f32, [FOVEA_F16] = add_f16, [FOVEA_BF16] = add_bf16};
    return map_call(problem, run, by_dtype[problem->dtype], 2, no_constants, 12);
}

static fovea_status map_clamp(const fovea_problem *problem, fovea_run *run) {
    static map_function *const by_dtype[] = {
        [FOVEA_F32] = clamp_f32, [FOVEA_F16] = clamp_f16, [FOVEA_BF16] = clamp_bf16};
    const fovea_map_clamp_options *options = problem->options;
    const float bounds[2] = {(float)options->lo, (float)options->hi};
    return map_call(problem, run, by_dtype[problem->dtype], 1, bounds, 8);
}

const fovea_implementation FOVEA_TIERED(fovea_cpu_elementwise)[] = {
    {"map_add", FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE, .run = map_add},
    {"map_clamp", FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE, .run = map_clamp},
    {0}};
