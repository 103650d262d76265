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

/* A kernel y = f(x), with its parameters as the compute dtype has them. */
#define ACTIVATION(name, parameter, expression)                                                    \
    static bool name(const fovea_problem *problem, double *const outputs[]) {                      \
        const fovea_##name##_options *options = problem->options;                                  \
        double p = fovea_round_to(fovea_compute_dtype(problem->dtype), parameter);                 \
        int64_t count = fovea_view_elements(&problem->views[1]);                                   \
        for (int64_t i = 0; i < count; i++) {                                                      \
            double x = fovea_view_read(&problem->views[0], i);                                     \
            outputs[1][i] = expression;                                                            \
        }                                                                                          \
        return (void)p, (void)options, true;                                                       \
    }

ACTIVATION(map_relu, 0, isnan(x) ? x : fmax(x, 0))
ACTIVATION(map_leaky_relu, options->slope, x > 0 ? x : p * x)
ACTIVATION(map_elu, options->alpha, x > 0 ? x : p * expm1(x))
ACTIVATION(map_gelu, 0,
           options->approximate == FOVEA_MAP_GELU_APPROXIMATE_TANH ? gelu_tanh(x) : gelu(x))
ACTIVATION(map_silu, 0, x == -INFINITY ? 0 : x / (1 + exp(-x)))
ACTIVATION(map_mish, 0, x == -INFINITY ? 0 : x * tanh(fmax(x, 0) + log1p(exp(-fabs(x)))))

const fovea_reference fovea_references_activations[] = {{"map_relu", map_relu},
                                                        {"map_leaky_relu", map_leaky_relu},
                                                        {"map_elu", map_elu},
                                                        {"map_gelu", map_gelu},
                                                        {"map_silu", map_silu},
                                                        {"map_mish", map_mish},
                                                        {0}};
