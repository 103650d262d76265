/* Domain 17, quantization: conversions to narrower types. */
#include "cpu/map.h"

/* The store rounds. */
FOVEA_INLINE vf identity(vf a, vf b, vf c, float p, float q) {
    (void)b, (void)c, (void)p, (void)q;
    return a;
}

MAP(to_f16, identity, 1, FOVEA_F32, FOVEA_F16)
MAP(to_bf16, identity, 1, FOVEA_F32, FOVEA_BF16)

static fovea_status quantize_f32_to_f16(const fovea_problem *problem, fovea_run *run) {
    const float none[2] = {0, 0};
    bool half = problem->views[1].dtype == FOVEA_F16;
    return map_call(problem, run, half ? to_f16 : to_bf16, 1, none, 6);
}

const fovea_implementation FOVEA_TIERED(fovea_cpu_quantization)[] = {
    {"quantize_f32_to_f16", FOVEA_CPU_NAME("direct"), 1u << FOVEA_F32, FOVEA_TIER_HERE,
     .run = quantize_f32_to_f16},
    {0}};
