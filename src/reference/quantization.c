/* Domain 17, quantization, exactly. */
#include "catalogue/network.h"
#include "reference/reference.h"

#include <math.h>

static bool quantize_f32_to_f16(const fovea_problem *problem, double *const outputs[]) {
    fovea_dtype target = problem->views[1].dtype;
    int64_t count = fovea_view_elements(&problem->views[1]);
    for (int64_t i = 0; i < count; i++)
        outputs[1][i] = fovea_round_to(target, fovea_view_read(&problem->views[0], i));
    return true;
}

/* Elements [first, end) share a scale. */
static double quantise_block(const fovea_view *x, int64_t first, int64_t end, double *q) {
    double largest = 0;
    for (int64_t i = first; i < end; i++) {
        double size = fabs(fovea_view_read(x, i));
        if (!(size <= largest)) largest = isnan(largest) ? largest : size;
    }
    double scale = fovea_round_to(FOVEA_F32, largest / 127);
    if (largest / 127 < 0x1p-126) scale = 0;
    if (!isfinite(scale)) scale = NAN;
    for (int64_t i = first; i < end; i++) {
        double code = fovea_view_read(x, i) / scale;
        q[i] = scale > 0 ? fmin(fmax(nearbyint(code), -127), 127) : 0;
    }
    return scale;
}

static bool quantize_f16_to_i8(const fovea_problem *problem, double *const outputs[]) {
    fovea_quantization q = fovea_quantization_describe(problem);
    const fovea_view *x = &problem->views[0];
    if (!q.block) {
        outputs[2][0] = quantise_block(x, 0, q.rows * q.columns, outputs[1]);
        return true;
    }
    for (int64_t row = 0; row < q.rows; row++) {
        int64_t first = row * q.columns, end = first + q.columns;
        if (q.columns == 0 && fovea_view_elements(&problem->views[2]) > 0) outputs[2][row] = 0;
        for (int64_t i = first; i < end; i += q.block)
            outputs[2][fovea_quantization_scale(&q, i)] =
                quantise_block(x, i, i + q.block < end ? i + q.block : end, outputs[1]);
    }
    return true;
}

static bool dequantize_i8_to_f16(const fovea_problem *problem, double *const outputs[]) {
    fovea_quantization q = fovea_quantization_describe(problem);
    int64_t count = fovea_view_elements(&problem->views[0]);
    for (int64_t i = 0; i < count; i++) {
        double scale = fovea_view_read(&problem->views[1], fovea_quantization_scale(&q, i));
        outputs[2][i] = fovea_round_to(FOVEA_F32, fovea_view_read(&problem->views[0], i) * scale);
    }
    return true;
}

const fovea_reference fovea_references_quantization[] = {
    {"quantize_f32_to_f16", quantize_f32_to_f16},
    {"quantize_f16_to_i8", quantize_f16_to_i8},
    {"dequantize_i8_to_f16", dequantize_i8_to_f16},
    {0}};
