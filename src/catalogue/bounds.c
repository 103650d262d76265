/* Bounds on the difference from the reference, for each element of an output. They are total: the
 * rounding of a half output is included (CATALOGUE.md, rule 10). */
#include "catalogue/bounds.h"

#include "catalogue/attention.h"

#include <math.h>
#include <stdlib.h>

static bool is_half(fovea_dtype dtype) { return dtype == FOVEA_F16 || dtype == FOVEA_BF16; }

/* ceil(log2 max(n, 2)) */
static double tree_depth(int64_t n) { return ceil(log2(n > 2 ? (double)n : 2.0)); }

/* A bound in the compute dtype plus half an ULP where the output is narrower. */
static double with_rounding(fovea_dtype output, double expected, double bound) {
    return is_half(output) ? bound + 0.5 * fovea_ulp(output, expected) : bound;
}

void fovea_bound_ulp(const fovea_problem *problem, int output, const double *expected,
                     double *bound) {
    const fovea_view *view = &problem->views[output];
    double factor = is_half(view->dtype) ? 0.51 : problem->kernel->bound_factor;
    int64_t count = fovea_view_elements(view);
    for (int64_t i = 0; i < count; i++) bound[i] = factor * fovea_ulp(view->dtype, expected[i]);
}

void fovea_bound_correct(const fovea_problem *problem, int output, const double *expected,
                         double *bound) {
    const fovea_view *view = &problem->views[output];
    double factor = is_half(view->dtype) ? 0.51 : 0.5;
    int64_t count = fovea_view_elements(view);
    for (int64_t i = 0; i < count; i++) bound[i] = factor * fovea_ulp(view->dtype, expected[i]);
}

/* 2^-119: where the exponential is subnormal it has lost its digits. */
static double activation_bound(fovea_dtype dtype, double y, double ulps) {
    if (is_half(dtype)) return 0.51 * fovea_ulp(dtype, y) + 0x1p-119;
    return fmax(ulps * fovea_ulp(FOVEA_F32, y), 0x1p-119);
}

void fovea_bound_activation(const fovea_problem *problem, int output, const double *expected,
                            double *bound) {
    const fovea_view *view = &problem->views[output];
    int64_t count = fovea_view_elements(view);
    for (int64_t i = 0; i < count; i++) bound[i] = activation_bound(view->dtype, expected[i], 4);
}

void fovea_bound_gelu(const fovea_problem *problem, int output, const double *expected,
                      double *bound) {
    const fovea_view *view = &problem->views[output];
    int64_t count = fovea_view_elements(view);
    for (int64_t i = 0; i < count; i++) {
        double x = fovea_view_read(&problem->views[0], i), y = expected[i];
        double ulps = x >= -1 || y == 0 ? 4 : 4 + 3 * log(x / y);
        bound[i] = activation_bound(view->dtype, y, ulps);
    }
}

/* Visits the elements of a slice along `axis` (-1: all) that make output element `number`. */
static double slice_sum_of_magnitudes(const fovea_view *x, int axis, int64_t number) {
    double sum = 0;
    int64_t count = axis < 0 ? fovea_view_elements(x) : x->shape[axis];
    int64_t inner = 1;
    for (int i = axis + 1; axis >= 0 && i < x->rank; i++) inner *= x->shape[i];
    for (int64_t k = 0; k < count; k++) {
        int64_t element = axis < 0 ? k : (number / inner * count + k) * inner + number % inner;
        sum += fabs(fovea_view_read(x, element));
    }
    return sum;
}

void fovea_bound_sum(const fovea_problem *problem, int output, const double *expected,
                     double *bound) {
    const fovea_view *x = &problem->views[0], *y = &problem->views[output];
    int axis = fovea_problem_axis(problem);
    int64_t n = axis < 0 ? fovea_view_elements(x) : x->shape[axis];
    double epsilon = fovea_epsilon(fovea_compute_dtype(problem->dtype));
    int64_t count = fovea_view_elements(y);
    for (int64_t i = 0; i < count; i++)
        bound[i] =
            with_rounding(y->dtype, expected[i],
                          (8 + tree_depth(n)) * epsilon * slice_sum_of_magnitudes(x, axis, i));
}

void fovea_bound_softmax(const fovea_problem *problem, int output, const double *expected,
                         double *bound) {
    const fovea_view *x = &problem->views[0], *y = &problem->views[output];
    int64_t columns = x->shape[x->rank - 1], count = fovea_view_elements(y);
    double epsilon = fovea_epsilon(FOVEA_F32);
    for (int64_t row = 0; columns > 0 && row < count / columns; row++) {
        double maximum = -INFINITY;
        for (int64_t c = 0; c < columns; c++)
            maximum = fmax(maximum, fovea_view_read(x, row * columns + c));
        for (int64_t i = row * columns; i < (row + 1) * columns; i++) {
            double distance = fabs(fovea_view_read(x, i) - maximum);
            if (!isfinite(distance)) distance = 0;
            bound[i] = with_rounding(y->dtype, expected[i],
                                     epsilon * expected[i] * (8 + tree_depth(columns) + distance));
        }
    }
}

static double weight(const fovea_problem *problem, const char *name, int64_t i, double otherwise) {
    const fovea_view *view = fovea_problem_view(problem, name);
    return view ? fovea_view_read(view, i) : otherwise;
}

void fovea_bound_layer_norm(const fovea_problem *problem, int output, const double *expected,
                            double *bound) {
    const fovea_view *x = &problem->views[0], *y = &problem->views[output];
    int64_t n = x->shape[x->rank - 1], count = fovea_view_elements(y);
    double factor = (8 + tree_depth(n)) * fovea_epsilon(FOVEA_F32);
    for (int64_t row = 0; n > 0 && row < count / n; row++) {
        double mean = 0, magnitude = 0, variance = 0;
        for (int64_t i = row * n; i < (row + 1) * n; i++) {
            mean += fovea_view_read(x, i) / (double)n;
            magnitude += fabs(fovea_view_read(x, i)) / (double)n;
        }
        for (int64_t i = row * n; i < (row + 1) * n; i++) {
            double centred = fovea_view_read(x, i) - mean;
            variance += centred * centred / (double)n;
        }
        double r = 1 / sqrt(variance + fovea_problem_parameter(problem, "eps"));
        for (int64_t i = row * n; i < (row + 1) * n; i++) {
            double element = fovea_view_read(x, i), h = (element - mean) * r;
            double scale = fabs(weight(problem, "gamma", i % n, 1));
            double terms = scale * ((fabs(element) + magnitude) * r + fabs(h)) +
                           fabs(weight(problem, "beta", i % n, 0));
            bound[i] = with_rounding(y->dtype, expected[i], factor * terms);
        }
    }
}

fovea_status fovea_check_epsilon(const fovea_problem *problem, fovea_message *message) {
    double epsilon = fovea_problem_parameter(problem, "eps");
    if (epsilon >= 0) return FOVEA_OK;
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "options.eps is %g; it is at least 0",
                      epsilon);
}
