/* Domain 20, correlation: joint moments of two tensors, taken in one pass over memory and several over
 * blocks in the first-level cache; weighted sums. */
#include "cpu/fold.h"
#include "cpu/moments.h"

#define BOTH (1u << FOVEA_F32 | 1u << FOVEA_F64)

static fovea_status reduce(const fovea_problem *problem, fovea_run *run, const fold_method *floats,
                           const fold_method *doubles, double constant) {
    fold_plan plan = {.method = problem->dtype == FOVEA_F64 ? *doubles : *floats,
                      .constant = constant,
                      .inputs = 2};
    return fold_call(problem, run, fovea_problem_axis(problem), &plan);
}

/* ---- Joint moments -------------------------------------------------------------------------- */

/* Places in fold.value: an element of each, what its mean is more than that, and sums of centred
 * products. */
enum { X, REST_X, Y, REST_Y, XY, XX, YY };

static void join_moments(fold *left, const fold *right) {
    double *l = left->value, a = (double)left->count, b = (double)right->count;
    const double *r = right->value;
    double dx = (r[X] - l[X]) + (r[REST_X] - l[REST_X]), weight = a * b / (a + b);
    double dy = (r[Y] - l[Y]) + (r[REST_Y] - l[REST_Y]);
    left->count += right->count;
    l[REST_X] += dx * (b / (a + b)), l[REST_Y] += dy * (b / (a + b));
    l[XY] += r[XY] + dx * dy * weight;
    l[XX] += r[XX] + dx * dx * weight;
    l[YY] += r[YY] + dy * dy * weight;
}

/* `squared`: whether the sums of squares are wanted too. */
#define JOINT_MOMENTS(name, type, block, squared)                                                  \
    static void name(double p, const void *from, const void *with, int64_t at, int64_t n,          \
                     fold *f) {                                                                    \
        const type *x = from, *y = with;                                                           \
        (void)p, (void)at;                                                                         \
        for (int64_t i = 0; i < n; i += block, x += block, y += block) {                           \
            fold next = {.count = smaller(block, n - i)};                                          \
            double *v = next.value;                                                                \
            v[X] = (double)x[0], v[REST_X] = rest_of_mean_##type(x, next.count);                   \
            v[Y] = (double)y[0], v[REST_Y] = rest_of_mean_##type(y, next.count);                   \
            v[XY] = products_##type(x, y, v[REST_X], v[REST_Y], next.count);                       \
            if (squared) v[XX] = squares_##type(x, v[REST_X], next.count);                         \
            if (squared) v[YY] = squares_##type(y, v[REST_Y], next.count);                         \
            if (i == 0)                                                                            \
                *f = next;                                                                         \
            else                                                                                   \
                join_moments(f, &next);                                                            \
        }                                                                                          \
    }
JOINT_MOMENTS(moments_f32, float, 4096, true)
JOINT_MOMENTS(moments_f64, double, 2048, true)
JOINT_MOMENTS(products_f32, float, 4096, false)
JOINT_MOMENTS(products_f64, double, 2048, false)

/* The roots are taken apart: the product of the variances may leave the range of double. */
static double finish_correlation(double p, const fold *f) {
    (void)p;
    if (!(f->value[XX] > 0 && f->value[YY] > 0)) return NAN;
    double r = f->value[XY] / (sqrt(f->value[XX]) * sqrt(f->value[YY]));
    return r > 1 ? 1 : r < -1 ? -1 : r;
}
static double finish_covariance(double correction, const fold *f) {
    double divisor = (double)f->count - correction;
    return f->value[XY] / (divisor > 0 ? divisor : 0);
}

static fovea_status reduce_correlation(const fovea_problem *problem, fovea_run *run) {
    static const fold_method floats = {moments_f32, join_moments, finish_correlation, {0}};
    static const fold_method doubles = {moments_f64, join_moments, finish_correlation, {0}};
    return reduce(problem, run, &floats, &doubles, 0);
}
static fovea_status reduce_covariance(const fovea_problem *problem, fovea_run *run) {
    static const fold_method floats = {products_f32, join_moments, finish_covariance, {0}};
    static const fold_method doubles = {products_f64, join_moments, finish_covariance, {0}};
    const fovea_reduce_covariance_options *options = problem->options;
    return reduce(problem, run, &floats, &doubles, options->correction);
}

/* ---- Weighted sums -------------------------------------------------------------------------- */

FOLD_SUM_OF_TWO(weighted_f32, add_product, float, FOVEA_F32, FOVEA_F32)
FOLD_SUM_OF_TWO(weighted_f64, add_product, double, FOVEA_F64, FOVEA_F64)

#define WEIGHTS(name, type, dtype, block)                                                          \
    static void name(double p, const void *from, const void *with, int64_t at, int64_t n,          \
                     fold *f) {                                                                    \
        const type *x = from, *w = with;                                                           \
        (void)p, (void)at;                                                                         \
        for (int64_t i = 0; i < n; i += block, x += block, w += block) {                           \
            int64_t count = smaller(block, n - i);                                                 \
            f->value[0] += sum_##type(add_product_##type, dtype, dtype, x, w, 0, 0, count);        \
            f->value[1] += sum_##type(add_element_##type, dtype, dtype, w, NULL, 0, 0, count);     \
        }                                                                                          \
    }
WEIGHTS(weights_f32, float, FOVEA_F32, 4096)
WEIGHTS(weights_f64, double, FOVEA_F64, 2048)

static double finish_weighted_mean(double p, const fold *f) {
    (void)p;
    return f->value[1] == 0 ? NAN : f->value[0] / f->value[1];
}

static fovea_status reduce_weighted_sum(const fovea_problem *problem, fovea_run *run) {
    static const fold_method floats = {weighted_f32, fold_add, fold_sum, {0}};
    static const fold_method doubles = {weighted_f64, fold_add, fold_sum, {0}};
    return reduce(problem, run, &floats, &doubles, 0);
}
static fovea_status reduce_weighted_mean(const fovea_problem *problem, fovea_run *run) {
    static const fold_method floats = {weights_f32, fold_add, finish_weighted_mean, {0}};
    static const fold_method doubles = {weights_f64, fold_add, finish_weighted_mean, {0}};
    return reduce(problem, run, &floats, &doubles, 0);
}

/* ---- Matrices of columns ----------------------------------------------------------------------- */

static void covariances(double correction, double count, const double *restrict xy, double x,
                        const double *restrict y, int64_t n, bool diagonal, double *restrict to) {
    double divisor = count - correction > 0 ? count - correction : 0;
    (void)x, (void)y, (void)diagonal;
    int64_t j = 0;
    for (; j + VD_WIDTH <= n; j += VD_WIDTH)
        vd_store(to + j, vd_div(vd_load(xy + j), vd_set1(divisor)));
    for (; j < n; j++) to[j] = xy[j] / divisor;
}
static void pearsons(double parameter, double count, const double *restrict xy, double x,
                     const double *restrict y, int64_t n, bool diagonal, double *restrict to) {
    (void)parameter, (void)count;
    for (int64_t j = 0; j < n; j++) {
        double r = xy[j] / (x * y[j]);
        r = r > 1 ? 1 : r < -1 ? -1 : r;
        to[j] = x > 0 && y[j] > 0 ? r : NAN;
    }
    if (diagonal && x > 0 && isfinite(x)) to[0] = 1;
}

static fovea_status reduce_covariance_matrix(const fovea_problem *problem, fovea_run *run) {
    const fovea_reduce_covariance_matrix_options *options = problem->options;
    return moments_run(problem, run, covariances, options->correction);
}
static fovea_status reduce_pearson_pairwise(const fovea_problem *problem, fovea_run *run) {
    return moments_run(problem, run, pearsons, 0);
}

#define MATRIX(name)                                                                               \
    {                                                                                              \
        #name, FOVEA_CPU_NAME("direct"), BOTH, FOVEA_TIER_HERE, .workspace = moments_workspace,    \
                                                                .run = name                        \
    }
#define ENTRY(name)                                                                                \
    { #name, FOVEA_CPU_NAME("direct"), BOTH, FOVEA_TIER_HERE, .run = name }

const fovea_implementation FOVEA_TIERED(fovea_cpu_correlation)[] = {
    ENTRY(reduce_correlation),
    ENTRY(reduce_covariance),
    ENTRY(reduce_weighted_sum),
    ENTRY(reduce_weighted_mean),
    MATRIX(reduce_covariance_matrix),
    MATRIX(reduce_pearson_pairwise),
    {0}};
