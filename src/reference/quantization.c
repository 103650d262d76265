/* Domain 17, quantization, exactly. */
#include "reference/reference.h"

static bool quantize_f32_to_f16(const fovea_problem *problem, double *const outputs[]) {
    fovea_dtype target = problem->views[1].dtype;
    int64_t count = fovea_view_elements(&problem->views[1]);
    for (int64_t i = 0; i < count; i++)
        outputs[1][i] = fovea_round_to(target, fovea_view_read(&problem->views[0], i));
    return true;
}

const fovea_reference fovea_references_quantization[] = {
    {"quantize_f32_to_f16", quantize_f32_to_f16}, {0}};
