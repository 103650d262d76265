/* Domain 3, activations, in double. */
#include "reference/reference.h"

#include <math.h>

static double gelu(double x) {
    if (x == -INFINITY) return -0.0;
    return 0.5 * x * erfc(-x / sqrt(2));
}

/* 0.5 (1 + tanh z) = 1 / (1 + e^-2z), which does not cancel for negative z. */
static double gelu_tanh(double x) {
    if (x == -INFINITY) return -0.0;
    double z = sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x);
    return x / (1 + exp(-2 * z));
}

static bool map_gelu(const fovea_problem *problem, double *const outputs[]) {
    const fovea_map_gelu_options *options = problem->options;
    bool by_tanh = options->approximate == FOVEA_MAP_GELU_APPROXIMATE_TANH;
    int64_t count = fovea_view_elements(&problem->views[1]);
    for (int64_t i = 0; i < count; i++) {
        double x = fovea_view_read(&problem->views[0], i);
        outputs[1][i] = by_tanh ? gelu_tanh(x) : gelu(x);
    }
    return true;
}

const fovea_reference fovea_references_activations[] = {{"map_gelu", map_gelu}, {0}};
