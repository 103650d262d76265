/* Domain 2, elementwise, in double. */
#include "reference/reference.h"

#include <math.h>

/* A kernel of the inputs a, b and c, as many as it has; the output follows them. */
#define ELEMENTWISE(name, inputs, expression)                                                      \
    static bool name(const fovea_problem *problem, double *const outputs[]) {                      \
        int64_t count = fovea_view_elements(&problem->views[inputs]);                              \
        for (int64_t i = 0; i < count; i++) {                                                      \
            double a = fovea_view_read(&problem->views[0], i);                                     \
            double b = inputs > 1 ? fovea_view_read(&problem->views[1], i) : 0;                    \
            double c = inputs > 2 ? fovea_view_read(&problem->views[2], i) : 0;                    \
            (void)b, (void)c;                                                                      \
            outputs[inputs][i] = expression;                                                       \
        }                                                                                          \
        return true;                                                                               \
    }

ELEMENTWISE(map_exp, 1, exp(a))
ELEMENTWISE(map_log, 1, log(a))
ELEMENTWISE(map_sigmoid, 1, 1 / (1 + exp(-a)))
ELEMENTWISE(map_tanh, 1, tanh(a))
ELEMENTWISE(map_softplus, 1, isnan(a) ? a : fmax(a, 0) + log1p(exp(-fabs(a))))
ELEMENTWISE(map_abs, 1, fabs(a))
ELEMENTWISE(map_add, 2, a + b)
ELEMENTWISE(map_mul, 2, a *b)
ELEMENTWISE(map_div, 2, a / b)
ELEMENTWISE(map_compare, 2, a > b)
ELEMENTWISE(map_fma, 3, fma(a, b, c))

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

const fovea_reference fovea_references_elementwise[] = {{"map_exp", map_exp},
                                                        {"map_log", map_log},
                                                        {"map_sigmoid", map_sigmoid},
                                                        {"map_tanh", map_tanh},
                                                        {"map_softplus", map_softplus},
                                                        {"map_clamp", map_clamp},
                                                        {"map_abs", map_abs},
                                                        {"map_add", map_add},
                                                        {"map_mul", map_mul},
                                                        {"map_div", map_div},
                                                        {"map_compare", map_compare},
                                                        {"map_fma", map_fma},
                                                        {0}};
