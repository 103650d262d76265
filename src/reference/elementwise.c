/* Domain 2, elementwise, in double. */
#include "reference/reference.h"

#include <math.h>

static bool map_add(const fovea_problem *problem, double *const outputs[]) {
    int64_t count = fovea_view_elements(&problem->views[2]);
    for (int64_t i = 0; i < count; i++)
        outputs[2][i] =
            fovea_view_read(&problem->views[0], i) + fovea_view_read(&problem->views[1], i);
    return true;
}

static bool map_clamp(const fovea_problem *problem, double *const outputs[]) {
    const fovea_map_clamp_options *options = problem->options;
    fovea_dtype compute = fovea_compute_dtype(problem->dtype);
    double lo = fovea_round_to(compute, options->lo), hi = fovea_round_to(compute, options->hi);
    int64_t count = fovea_view_elements(&problem->views[1]);
    for (int64_t i = 0; i < count; i++) {
        double x = fovea_view_read(&problem->views[0], i);
        outputs[1][i] = isnan(x) ? x : fmin(fmax(x, lo), hi);
    }
    return true;
}

const fovea_reference fovea_references_elementwise[] = {
    {"map_clamp", map_clamp}, {"map_add", map_add}, {0}};
