/* Domain 5, normalization, in double, and what extends layer_norm. */
#include "catalogue/network.h"
#include "reference/reference.h"

#include <math.h>

static double read_or(const fovea_view *view, int64_t i, double otherwise) {
    return view ? fovea_view_read(view, i) : otherwise;
}

static bool normalise_rows(const fovea_problem *problem, double *y) {
    double eps = fovea_problem_parameter(problem, "eps");
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
        double r = 1 / sqrt(variance / (double)n + eps);
        for (int64_t i = row * n; i < (row + 1) * n; i++)
            y[i] = read_or(gamma, i % n, 1) * (fovea_view_read(x, i) - mean) * r +
                   read_or(beta, i % n, 0);
    }
    return true;
}

static bool layer_norm(const fovea_problem *problem, double *const outputs[]) {
    return normalise_rows(problem, outputs[1]);
}

static bool fused_layernorm_dropout_residual(const fovea_problem *problem,
                                             double *const outputs[]) {
    int64_t count = fovea_view_elements(&problem->views[0]);
    double keep = (double)(float)fovea_problem_parameter(problem, "keep");
    double *y = outputs[2], *kept = outputs[fovea_kernel_argument(problem->kernel, "kept")];
    normalise_rows(problem, y);
    for (int64_t i = 0; i < count; i++) {
        bool keeps = fovea_dropout_keeps(problem, i);
        y[i] = (keeps ? y[i] / keep : 0) + fovea_view_read(&problem->views[1], i);
        if (kept) kept[i] = keeps;
    }
    return true;
}

/* The elements of a channel, or of a group of channels of one sample. */
static bool normalise_sets(const fovea_problem *problem, double *const outputs[]) {
    const fovea_view *x = &problem->views[0];
    const fovea_view *gamma = fovea_problem_view(problem, "gamma");
    const fovea_view *beta = fovea_problem_view(problem, "beta");
    const fovea_view *given_mean = fovea_problem_view(problem, "mean");
    const fovea_view *given_var = fovea_problem_view(problem, "var");
    fovea_norm_sets n = fovea_norm_describe(problem);
    bool given = fovea_problem_parameter(problem, "statistics") > 0;
    for (int64_t set = 0; set < n.sets; set++) {
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < n.size; i++)
            mean += fovea_view_read(x, fovea_norm_element(&n, set, i));
        mean /= (double)n.size;
        for (int64_t i = 0; i < n.size; i++) {
            double d = fovea_view_read(x, fovea_norm_element(&n, set, i)) - mean;
            variance += d * d;
        }
        variance /= (double)n.size;
        if (given) mean = fovea_view_read(given_mean, set);
        if (given) variance = fovea_view_read(given_var, set);
        if (given_mean) outputs[fovea_kernel_argument(problem->kernel, "mean")][set] = mean;
        if (given_var) outputs[fovea_kernel_argument(problem->kernel, "var")][set] = variance;
        double r = 1 / sqrt(variance + fovea_problem_parameter(problem, "eps"));
        for (int64_t i = 0; i < n.size; i++) {
            int64_t at = fovea_norm_element(&n, set, i), channel = at / n.inner % n.channels;
            outputs[1][at] = read_or(gamma, channel, 1) * (fovea_view_read(x, at) - mean) * r +
                             read_or(beta, channel, 0);
        }
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
    {"layer_norm", layer_norm},
    {"rms_norm", rms_norm},
    {"batch_norm", normalise_sets},
    {"group_norm", normalise_sets},
    {"fused_layernorm_dropout_residual", fused_layernorm_dropout_residual},
    {0}};
