/* Domain 5, normalization, in double. */
#include "reference/reference.h"

#include <math.h>

static double read_or(const fovea_view *view, int64_t i, double otherwise) {
    return view ? fovea_view_read(view, i) : otherwise;
}

static bool layer_norm(const fovea_problem *problem, double *const outputs[]) {
    const fovea_layer_norm_options *options = problem->options;
    const fovea_view *x = &problem->views[0];
    const fovea_view *gamma = fovea_problem_view(problem, "gamma");
    const fovea_view *beta = fovea_problem_view(problem, "beta");
    int64_t n = x->shape[x->rank - 1], count = fovea_view_elements(x);
    for (int64_t row = 0; n > 0 && row < count / n; row++) {
        double mean = 0, variance = 0;
        for (int64_t i = row * n; i < (row + 1) * n; i++) mean += fovea_view_read(x, i);
        mean /= (double)n;
        for (int64_t i = row * n; i < (row + 1) * n; i++) {
            double centred = fovea_view_read(x, i) - mean;
            variance += centred * centred;
        }
        double r = 1 / sqrt(variance / (double)n + options->eps);
        for (int64_t i = row * n; i < (row + 1) * n; i++)
            outputs[1][i] = read_or(gamma, i % n, 1) * (fovea_view_read(x, i) - mean) * r +
                            read_or(beta, i % n, 0);
    }
    return true;
}

static bool rms_norm(const fovea_problem *problem, double *const outputs[]) {
    const fovea_rms_norm_options *options = problem->options;
    const fovea_view *x = &problem->views[0], *gamma = fovea_problem_view(problem, "gamma");
    int64_t n = x->shape[x->rank - 1], count = fovea_view_elements(x);
    for (int64_t row = 0; n > 0 && row < count / n; row++) {
        double squares = 0;
        for (int64_t i = row * n; i < (row + 1) * n; i++)
            squares += fovea_view_read(x, i) * fovea_view_read(x, i);
        double r = 1 / sqrt(squares / (double)n + options->eps);
        for (int64_t i = row * n; i < (row + 1) * n; i++)
            outputs[1][i] = read_or(gamma, i % n, 1) * fovea_view_read(x, i) * r;
    }
    return true;
}

const fovea_reference fovea_references_normalization[] = {
    {"layer_norm", layer_norm}, {"rms_norm", rms_norm}, {0}};
