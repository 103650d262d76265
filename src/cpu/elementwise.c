/* Domain 2, elementwise. */
#include "cpu/map.h"
#include "cpu/simd/simd_math.h"

/* vf_fma of the scalar tier goes through double and may round twice. */
FOVEA_INLINE vf fused(vf a, vf b, vf c) {
#ifdef FOVEA_TIER_SCALAR
    return fmaf(a, b, c);
#else
    return vf_fma(a, b, c);
#endif
}

MAP_KERNEL(map_exp, 1, 16, vf_exp(a))
MAP_KERNEL(map_log, 1, 20, vf_log(a))
MAP_KERNEL(map_sigmoid, 1, 24, vf_sigmoid(a))
MAP_KERNEL(map_tanh, 1, 24, vf_tanh(a))
MAP_KERNEL(map_softplus, 1, 24, vf_softplus(a))
MAP_KERNEL(map_abs, 1, 8, vf_abs(a))
MAP_KERNEL(map_add, 2, 12, vf_add(a, b))
MAP_KERNEL(map_mul, 2, 12, vf_mul(a, b))
MAP_KERNEL(map_div, 2, 12, vf_div(a, b))
MAP_KERNEL(map_fma, 3, 16, fused(a, b, c))

/* The order of the arguments lets a NaN of x through, and makes a NaN bound no bound. */
MAP_FLOATS(clamp, 1, vf_min(vf_set1(q), vf_max(vf_set1(p), a)))

static fovea_status map_clamp(const fovea_problem *problem, fovea_run *run) {
    const fovea_map_clamp_options *options = problem->options;
    const float bounds[2] = {(float)options->lo, (float)options->hi};
    return map_call(problem, run, clamp_by_dtype[problem->dtype], 1, bounds, 8);
}

MAP_FLOATS(compare, 2, vf_select(vf_gt(a, b), vf_set1(1), vf_set1(0)))
MAP(compare_f32_u8, compare_operation, 2, FOVEA_F32, FOVEA_U8)
MAP(compare_f16_u8, compare_operation, 2, FOVEA_F16, FOVEA_U8)
MAP(compare_bf16_u8, compare_operation, 2, FOVEA_BF16, FOVEA_U8)

static fovea_status map_compare(const fovea_problem *problem, fovea_run *run) {
    static map_function *const to_u8[] = {
        [FOVEA_F32] = compare_f32_u8, [FOVEA_F16] = compare_f16_u8, [FOVEA_BF16] = compare_bf16_u8};
    const float none[2] = {0, 0};
    bool bytes = problem->views[2].dtype == FOVEA_U8;
    return map_call(problem, run, (bytes ? to_u8 : compare_by_dtype)[problem->dtype], 2, none, 12);
}

const fovea_implementation FOVEA_TIERED(fovea_cpu_elementwise)[] = {MAP_ENTRY(map_exp),
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
                                                                    {0}};
