/* Domain 17, quantization: conversions to narrower types. */
#include "cuda/map.cuh"

MAP_FUNCTION(convert, a)

static fovea_status quantize_f32_to_f16(const fovea_problem *problem, fovea_run *run) {
    if (problem->views[1].dtype == FOVEA_F16)
        return map_run<float, __half, 1, convert_function>(problem, run, {0, 0});
    return map_run<float, __nv_bfloat16, 1, convert_function>(problem, run, {0, 0});
}

extern "C" const fovea_implementation fovea_cuda_table_quantization[] = {
    CUDA_ENTRY(quantize_f32_to_f16, 1u << FOVEA_F32, quantize_f32_to_f16), {}};
