/* Domain 3, activations. */
#include "cpu/map.h"
#include "cpu/simd/simd_math.h"

static const float no_constants[2] = {0, 0};

FOVEA_INLINE vf gelu(vf x, vf unused, float p, float q) {
    (void)unused, (void)p, (void)q;
    return vf_gelu(x);
}
FOVEA_INLINE vf gelu_tanh(vf x, vf unused, float p, float q) {
    (void)unused, (void)p, (void)q;
    return vf_gelu_tanh(x);
}

MAP(gelu_f32, gelu, false, FOVEA_F32, FOVEA_F32)
MAP(gelu_f16, gelu, false, FOVEA_F16, FOVEA_F16)
MAP(gelu_bf16, gelu, false, FOVEA_BF16, FOVEA_BF16)
MAP(gelu_tanh_f32, gelu_tanh, false, FOVEA_F32, FOVEA_F32)
MAP(gelu_tanh_f16, gelu_tanh, false, FOVEA_F16, FOVEA_F16)
MAP(gelu_tanh_bf16, gelu_tanh, false, FOVEA_BF16, FOVEA_BF16)

static fovea_status map_gelu(const fovea_problem *problem, fovea_run *run) {
    static map_function *const functions[2][FOVEA_DTYPE_COUNT] = {
        [FOVEA_MAP_GELU_APPROXIMATE_NONE] =
            {[FOVEA_F32] = gelu_f32, [FOVEA_F16] = gelu_f16, [FOVEA_BF16] = gelu_bf16},
        [FOVEA_MAP_GELU_APPROXIMATE_TANH] = {[FOVEA_F32] = gelu_tanh_f32,
                                             [FOVEA_F16] = gelu_tanh_f16,
                                             [FOVEA_BF16] = gelu_tanh_bf16}};
    const fovea_map_gelu_options *options = problem->options;
    return map_call(problem, run, functions[options->approximate][problem->dtype], 1, no_constants,
                    32);
}

const fovea_implementation FOVEA_TIERED(fovea_cpu_activations)[] = {
    {"map_gelu", FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE, .run = map_gelu}, {0}};
