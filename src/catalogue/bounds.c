/* Bounds on the difference from the reference, for each element of an output. They are total: the
 * rounding of a half output is included (docs/rules.md, 10). */
#include "catalogue/bounds.h"

#include "catalogue/attention.h"
#include "catalogue/order.h"
#include "runtime/parallel.h"
#include "runtime/processor.h"

#include <fovea/fovea.h>
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

/* ---- Reductions ----------------------------------------------------------------------------- */

/* What the bounds of a slice's result are made of. */
typedef struct slice_sums {
    int64_t count;
    double x, y, xy, xx, yy;                 /* sums of absolute values and products */
    double chosen, weights;                  /* sum of absolute x where y is not 0, and of y */
    double mean_x, mean_y, dxdy, dxdx, dydy; /* sums of absolute centred products */
} slice_sums;

/* Of element number `number` of a result; y may be x. */
static slice_sums sum_slice(const fovea_problem *problem, const fovea_view *x, const fovea_view *y,
                            int64_t number) {
    fovea_slice slice = fovea_problem_slice(problem, number);
    slice_sums s = {.count = slice.count};
    for (int64_t k = 0; k < s.count; k++) {
        double a = fovea_view_read(x, fovea_slice_element(&slice, k));
        double b = fovea_view_read(y, fovea_slice_element(&slice, k));
        s.x += fabs(a), s.y += fabs(b), s.xy += fabs(a * b), s.xx += a * a, s.yy += b * b;
        s.chosen += b != 0 ? fabs(a) : 0, s.weights += b;
        s.mean_x += a / (double)s.count, s.mean_y += b / (double)s.count;
    }
    for (int64_t k = 0; k < s.count; k++) {
        double a = fovea_view_read(x, fovea_slice_element(&slice, k)) - s.mean_x;
        double b = fovea_view_read(y, fovea_slice_element(&slice, k)) - s.mean_y;
        s.dxdy += fabs(a * b), s.dxdx += a * a, s.dydy += b * b;
    }
    return s;
}

/* (8 + T(n)) eps */
static double tree_error(const fovea_problem *problem, int64_t n) {
    return (8 + tree_depth(n)) * fovea_epsilon(fovea_compute_dtype(problem->dtype));
}

/* R(n) of a sum of terms with absolute values of together `terms`. */
#define SUM_BOUND(name, terms)                                                                     \
    void name(const fovea_problem *problem, int output, const double *expected, double *bound) {   \
        const fovea_view *x = &problem->views[0], *y = &problem->views[output];                    \
        const fovea_view *w = problem->kernel->arguments[1].role ? x : &problem->views[1];         \
        int64_t count = fovea_view_elements(y);                                                    \
        for (int64_t i = 0; i < count; i++) {                                                      \
            slice_sums s = sum_slice(problem, x, w, i);                                            \
            double error = tree_error(problem, s.count) * (terms);                                 \
            bound[i] = with_rounding(y->dtype, expected[i], error);                                \
        }                                                                                          \
    }
SUM_BOUND(fovea_bound_sum, s.x)
SUM_BOUND(fovea_bound_mean, s.x / (double)s.count)
SUM_BOUND(fovea_bound_square_sum, s.xx)
SUM_BOUND(fovea_bound_product_sum, s.xy)
SUM_BOUND(fovea_bound_chosen_sum, s.chosen)
SUM_BOUND(fovea_bound_l2, sqrt(s.xx))
SUM_BOUND(fovea_bound_weighted_mean, (s.xy + fabs(expected[i]) * s.y) / fabs(s.weights))

/* R(i+1) of each prefix. An exclusive one has fewer terms, and a first one none. */
void fovea_bound_prefix(const fovea_problem *problem, int output, const double *expected,
                        double *bound) {
    const fovea_view *x = &problem->views[0];
    int64_t count = fovea_view_elements(x), length = x->shape[x->rank - 1];
    bool inclusive = strcmp(problem->kernel->name, "scan_inclusive") == 0;
    if (fovea_problem_parameter(problem, "over") != 0) length = count;
    double sum = 0;
    (void)output, (void)expected;
    for (int64_t i = 0; i < count; i++) {
        double term = fabs(fovea_view_read(x, i));
        if (i % length == 0) sum = 0;
        if (inclusive) sum += term;
        bound[i] = tree_error(problem, i % length + 1) * sum;
        if (!inclusive) sum += term;
    }
}

/* ULP of the larger of the order statistics around a quantile. */
void fovea_bound_quantile(const fovea_problem *problem, int output, const double *expected,
                          double *bound) {
    const fovea_view *q = fovea_problem_view(problem, "q"), *y = &problem->views[output];
    int64_t several = q ? fovea_view_elements(q) : 1, count = fovea_view_elements(y);
    (void)expected;
    for (int64_t i = 0; i < count; i += several) {
        bool nan;
        fovea_slice slice = fovea_problem_slice(problem, i / several);
        long double *sorted = fovea_sorted_slice(&problem->views[0], &slice, &nan);
        for (int64_t j = 0; j < several; j++) {
            fovea_quantile place =
                fovea_quantile_place(slice.count, q ? fovea_view_read(q, j) : 50);
            bound[i + j] = 0;
            if (!sorted || nan || place.fraction == 0) continue;
            double largest =
                fmax(fabs((double)sorted[place.below]), fabs((double)sorted[place.above]));
            bound[i + j] = problem->kernel->bound_factor * fovea_ulp(y->dtype, largest);
        }
        free(sorted);
    }
}

/* C(n) times the divisor. */
static double centred_error(const fovea_problem *problem, const slice_sums *s, double centred) {
    double c = tree_error(problem, s->count), n = (double)s->count;
    return c * centred + c * c * n * (s->x / n) * (s->y / n);
}

static double divisor_of(const fovea_problem *problem, int64_t n) {
    return fmax((double)n - fovea_problem_parameter(problem, "correction"), 0);
}

void fovea_bound_variance(const fovea_problem *problem, int output, const double *expected,
                          double *bound) {
    const fovea_view *x = &problem->views[0];
    int64_t count = fovea_view_elements(&problem->views[output]);
    (void)expected;
    for (int64_t i = 0; i < count; i++) {
        slice_sums s = sum_slice(problem, x, x, i);
        bound[i] = centred_error(problem, &s, s.dxdx) / divisor_of(problem, s.count);
    }
}

void fovea_bound_deviation(const fovea_problem *problem, int output, const double *expected,
                           double *bound) {
    double epsilon = fovea_epsilon(problem->dtype);
    int64_t count = fovea_view_elements(&problem->views[output]);
    fovea_bound_variance(problem, output, expected, bound);
    for (int64_t i = 0; i < count; i++) {
        double v = expected[i] * expected[i], c = bound[i];
        bound[i] = fmax(sqrt(v + c) - expected[i], expected[i] - sqrt(fmax(v - c, 0))) +
                   epsilon * expected[i];
    }
}

void fovea_bound_covariance(const fovea_problem *problem, int output, const double *expected,
                            double *bound) {
    int64_t count = fovea_view_elements(&problem->views[output]);
    (void)expected;
    for (int64_t i = 0; i < count; i++) {
        slice_sums s = sum_slice(problem, &problem->views[0], &problem->views[1], i);
        bound[i] = centred_error(problem, &s, s.dxdy) / divisor_of(problem, s.count);
    }
}

void fovea_bound_correlation(const fovea_problem *problem, int output, const double *expected,
                             double *bound) {
    int64_t count = fovea_view_elements(&problem->views[output]);
    (void)expected;
    for (int64_t i = 0; i < count; i++) {
        slice_sums s = sum_slice(problem, &problem->views[0], &problem->views[1], i);
        bound[i] = centred_error(problem, &s, s.dxdy) / (sqrt(s.dxdx) * sqrt(s.dydy)) +
                   2 * tree_error(problem, s.count);
    }
}

/* Of columns i and j of a matrix of n rows and p columns, centred in `d`; `m`: means of |x|. */
static slice_sums sum_columns(const double *d, const double *m, int64_t n, int64_t p, int64_t i,
                              int64_t j) {
    slice_sums s = {.count = n, .x = m[i] * (double)n, .y = m[j] * (double)n};
    for (int64_t k = 0; k < n; k++) s.dxdy += fabs(d[k * p + i] * d[k * p + j]);
    return s;
}

/* Centres the columns of x and takes the means of absolute values and the roots of the sums of squares. */
static void centre_columns(double *x, int64_t n, int64_t p, double *magnitude, double *root) {
    for (int64_t i = 0; i < p; i++) {
        double mean = 0, squares = 0;
        magnitude[i] = 0;
        for (int64_t k = 0; k < n; k++) {
            mean += x[k * p + i] / (double)n;
            magnitude[i] += fabs(x[k * p + i]) / (double)n;
        }
        for (int64_t k = 0; k < n; k++) {
            x[k * p + i] -= mean;
            squares += x[k * p + i] * x[k * p + i];
        }
        root[i] = sqrt(squares);
    }
}

void fovea_bound_covariance_matrix(const fovea_problem *problem, int output, const double *expected,
                                   double *bound) {
    const fovea_view *view = &problem->views[0];
    int64_t batches = fovea_problem_extent(problem, "B"), n = fovea_problem_extent(problem, "N");
    int64_t p = fovea_problem_extent(problem, "P");
    bool covariance = fovea_kernel_parameter(problem->kernel, "correction") >= 0;
    double *x = malloc(((size_t)fovea_view_elements(view) + 2 * (size_t)p + 1) * sizeof *x);
    (void)expected;
    for (int64_t e = 0; e < batches * p * p; e++) bound[e] = 0; /* all fail if memory is short */
    if (x) fovea_view_read_all(view, x);
    for (int64_t b = 0; x && b < batches; b++) {
        double *d = x + b * n * p, *magnitude = x + batches * n * p, *root = magnitude + p;
        centre_columns(d, n, p, magnitude, root);
        for (int64_t i = 0; i < p; i++)
            for (int64_t j = 0; j <= i; j++) {
                slice_sums s = sum_columns(d, magnitude, n, p, i, j);
                double error = centred_error(problem, &s, s.dxdy);
                error = covariance ? error / divisor_of(problem, n)
                                   : error / (root[i] * root[j]) + 2 * tree_error(problem, n);
                bound[(b * p + i) * p + j] = bound[(b * p + j) * p + i] = error;
            }
    }
    free(x);
    (void)output;
}

/* M(n), with the factor of the benchmark's distribution for all data. */
static double product_error(int64_t n) { return (8 + sqrt((double)n)) * fovea_epsilon(FOVEA_F32); }

void fovea_bound_dot(const fovea_problem *problem, int output, const double *expected,
                     double *bound) {
    int64_t count = fovea_view_elements(&problem->views[output]);
    (void)expected;
    for (int64_t i = 0; i < count; i++) {
        slice_sums s = sum_slice(problem, &problem->views[0], &problem->views[1], i);
        bound[i] = product_error(s.count) * s.xy;
    }
}

void fovea_bound_cosine(const fovea_problem *problem, int output, const double *expected,
                        double *bound) {
    const fovea_view *a = &problem->views[0];
    int64_t count = fovea_view_elements(&problem->views[output]);
    (void)expected;
    for (int64_t i = 0; i < count; i++) bound[i] = 2 * product_error(a->shape[a->rank - 1]);
}

/* ---- Rows ----------------------------------------------------------------------------------- */

/* Bounds by distance from the row's maximum. */
#define ROW_BOUND(name, error)                                                                     \
    void name(const fovea_problem *problem, int output, const double *expected, double *bound) {   \
        const fovea_view *x = &problem->views[0], *y = &problem->views[output];                    \
        int64_t columns = x->shape[x->rank - 1], count = fovea_view_elements(y);                   \
        double epsilon = fovea_epsilon(FOVEA_F32), tree = 8 + tree_depth(columns);                 \
        for (int64_t row = 0; columns > 0 && row < count / columns; row++) {                       \
            double maximum = -INFINITY;                                                            \
            for (int64_t c = 0; c < columns; c++)                                                  \
                maximum = fmax(maximum, fovea_view_read(x, row * columns + c));                    \
            for (int64_t i = row * columns; i < (row + 1) * columns; i++) {                        \
                double distance = fabs(fovea_view_read(x, i) - maximum);                           \
                if (!isfinite(distance)) distance = 0;                                             \
                bound[i] = with_rounding(y->dtype, expected[i], error);                            \
            }                                                                                      \
        }                                                                                          \
    }
ROW_BOUND(fovea_bound_softmax, epsilon *expected[i] * (tree + distance))
ROW_BOUND(fovea_bound_log_softmax, tree *epsilon *(1 + distance))

static double weight(const fovea_problem *problem, const char *name, int64_t i, double otherwise) {
    const fovea_view *view = fovea_problem_view(problem, name);
    return view ? fovea_view_read(view, i) : otherwise;
}

typedef struct row_bounds {
    const fovea_problem *problem;
    const fovea_view *x, *y;
    int64_t n;
    double eps, factor;
    const double *expected;
    double *bound;
} row_bounds;

static void bound_row(const row_bounds *t, int64_t row) {
    int64_t n = t->n;
    double mean = 0, magnitude = 0, variance = 0;
    for (int64_t i = row * n; i < (row + 1) * n; i++) {
        mean += fovea_view_read(t->x, i) / (double)n;
        magnitude += fabs(fovea_view_read(t->x, i)) / (double)n;
    }
    for (int64_t i = row * n; i < (row + 1) * n; i++) {
        double centred = fovea_view_read(t->x, i) - mean;
        variance += centred * centred / (double)n;
    }
    double r = 1 / sqrt(variance + t->eps);
    for (int64_t i = row * n; i < (row + 1) * n; i++) {
        double element = fovea_view_read(t->x, i), h = (element - mean) * r;
        double scale = fabs(weight(t->problem, "gamma", i % n, 1));
        double terms = scale * ((fabs(element) + magnitude) * r + fabs(h)) +
                       fabs(weight(t->problem, "beta", i % n, 0));
        t->bound[i] = with_rounding(t->y->dtype, t->expected[i], t->factor * terms);
    }
}

static void bound_rows(void *task, int64_t first, int64_t end, int thread) {
    (void)thread;
    for (int64_t row = first; row < end; row++) bound_row(task, row);
}

void fovea_bound_layer_norm(const fovea_problem *problem, int output, const double *expected,
                            double *bound) {
    const fovea_view *x = &problem->views[0], *y = &problem->views[output];
    int64_t n = x->shape[x->rank - 1], count = fovea_view_elements(y);
    row_bounds task = {.problem = problem,
                       .x = x,
                       .y = y,
                       .n = n,
                       .eps = fovea_problem_parameter(problem, "eps"),
                       .factor = (8 + tree_depth(n)) * fovea_epsilon(FOVEA_F32),
                       .expected = expected,
                       .bound = bound};
    int threads = count > 1 << 20 ? fovea_processor_get()->threads : 1;
    if (n > 0) fovea_parallel(count / n, 1 + 65536 / n, threads, bound_rows, &task);
}

bool fovea_attention_quality(const fovea_attention_options *options, fovea_quality *quality) {
    bool bytes = options->pv == FOVEA_ATTENTION_PV_I8;
    *quality = bytes ? (fovea_quality){0.999, 0.03, 1e-2} : (fovea_quality){0.9995, 0.02, 1e-2};
    return options->algorithm == FOVEA_ATTENTION_ALGORITHM_SAGE;
}

void fovea_bound_rms_norm(const fovea_problem *problem, int output, const double *expected,
                          double *bound) {
    const fovea_view *x = &problem->views[0], *y = &problem->views[output];
    int64_t count = fovea_view_elements(y);
    double factor = (8 + tree_depth(x->shape[x->rank - 1])) * fovea_epsilon(FOVEA_F32);
    for (int64_t i = 0; i < count; i++)
        bound[i] = with_rounding(y->dtype, expected[i], factor * fabs(expected[i]));
}

fovea_status fovea_check_epsilon(const fovea_problem *problem, fovea_message *message) {
    double epsilon = fovea_problem_parameter(problem, "eps");
    if (epsilon >= 0) return FOVEA_OK;
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "options.eps is %g; it is at least 0",
                      epsilon);
}

/* ---- Optimizers ----------------------------------------------------------------------------- */

/* 2 eps |p| and 16 eps times what an update's terms come to in absolute values. */
static double update_bound(double p, double update) {
    return fovea_epsilon(FOVEA_F32) * (2 * fabs(p) + 16 * fabs(update));
}

/* |g| + weight_decay |p| of element i; p in *parameter. */
static double gradient_terms(const fovea_problem *problem, double decay, int64_t i,
                             double *parameter) {
    *parameter = fovea_view_read(&problem->views[0], i);
    return fabs(fovea_view_read(&problem->views[1], i)) + fabs(decay * *parameter);
}

void fovea_bound_sgd(const fovea_problem *problem, int output, const double *expected,
                     double *bound) {
    const fovea_opt_sgd_options *o = problem->options;
    int64_t count = fovea_view_elements(&problem->views[output]);
    (void)expected;
    for (int64_t i = 0; i < count; i++) {
        double p, g = gradient_terms(problem, o->weight_decay, i, &p);
        bound[i] = update_bound(p, o->lr * g);
    }
}

void fovea_bound_momentum(const fovea_problem *problem, int output, const double *expected,
                          double *bound) {
    const fovea_opt_sgd_momentum_options *o = problem->options;
    int64_t count = fovea_view_elements(&problem->views[output]);
    (void)expected;
    for (int64_t i = 0; i < count; i++) {
        double p, g = gradient_terms(problem, o->weight_decay, i, &p);
        double v =
            fabs(o->momentum * fovea_view_read(&problem->views[2], i)) + fabs(1 - o->dampening) * g;
        if (o->step == 1) v = g;
        double direction = o->nesterov ? g + fabs(o->momentum) * v : v;
        bound[i] =
            output == 0 ? update_bound(p, o->lr * direction) : 4 * fovea_epsilon(FOVEA_F32) * v;
    }
}

/* The gradient as fused_adam_clip_update takes it. */
static double clipped(const fovea_problem *problem, double g) {
    double limit = fovea_problem_parameter(problem, "c");
    return isnan(limit) ? g : fmin(fmax(g, -limit), limit);
}

/* The options of opt_adam begin like those of all its kin. */
void fovea_bound_adam(const fovea_problem *problem, int output, const double *expected,
                      double *bound) {
    const fovea_opt_adam_options *o = problem->options;
    bool decoupled = strcmp(problem->kernel->name, "opt_adam") != 0;
    int64_t count = fovea_view_elements(&problem->views[output]);
    (void)expected;
    for (int64_t i = 0; i < count; i++) {
        double p, g = gradient_terms(problem, decoupled ? 0 : o->weight_decay, i, &p);
        g = clipped(problem, g);
        double m = fabs(o->beta1 * fovea_view_read(&problem->views[2], i)) + (1 - o->beta1) * g;
        double v = o->beta2 * fovea_view_read(&problem->views[3], i) + (1 - o->beta2) * g * g;
        double exact = clipped(problem, fovea_view_read(&problem->views[1], i)) +
                       (decoupled ? 0 : o->weight_decay * p);
        double root =
            o->beta2 * fovea_view_read(&problem->views[3], i) + (1 - o->beta2) * exact * exact;
        root = sqrt(root / (1 - pow(o->beta2, (double)o->step))) + o->eps;
        double update = o->lr * m / (1 - pow(o->beta1, (double)o->step)) / root;
        bound[i] = output == 0 ? update_bound(p, update)
                               : 4 * fovea_epsilon(FOVEA_F32) * (output == 2 ? m : v);
    }
}

void fovea_bound_clip_norm(const fovea_problem *problem, int output, const double *expected,
                           double *bound) {
    int64_t n = fovea_view_elements(&problem->views[0]);
    int64_t count = fovea_view_elements(&problem->views[output]);
    for (int64_t i = 0; i < count; i++)
        bound[i] = (8 + tree_depth(n)) * fovea_epsilon(FOVEA_F32) * fabs(expected[i]);
}

fovea_status fovea_check_step(const fovea_problem *problem, fovea_message *message) {
    double step = fovea_problem_parameter(problem, "step");
    if (step >= 1) return FOVEA_OK;
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "options.step is %.0f; it counts from 1",
                      step);
}
