/* Domain 1, reductions: sums, extremes and moments of what fold.h walks over. Each reads memory once;
 * moments pass twice over blocks in the first-level cache.
 *
 * One thread of a Xeon (Sapphire Rapids), avx512, 10^7 f32: sums 31 GB/s along all axes, 32 along the
 * last of [4000, 2500]; a loop that only reads reaches 30 to 33. Two threads: 62, 63. */
#include "cpu/columns.h"
#include "cpu/histogram.h"

#define BOTH (1u << FOVEA_F32 | 1u << FOVEA_F64)

static fovea_status reduce(const fovea_problem *problem, fovea_run *run, const fold_method *floats,
                           const fold_method *doubles, double constant, bool ordered) {
    fold_plan plan = {.method = problem->dtype == FOVEA_F64 ? *doubles : *floats,
                      .constant = constant,
                      .inputs = 1,
                      .ordered = ordered};
    return fold_call(problem, run, fovea_problem_axis(problem), &plan);
}

/* ---- Sums ----------------------------------------------------------------------------------- */

static double finish_mean(double p, const fold *f) {
    return (void)p, f->value[0] / (double)f->count;
}
static double finish_root(double p, const fold *f) { return (void)p, sqrt(f->value[0]); }

FOLD_SUM(sum_f32, add_element, float, FOVEA_F32)
FOLD_SUM(sum_f64, add_element, double, FOVEA_F64)
FOLD_SUM(squares_f32, add_square, float, FOVEA_F32)
FOLD_SUM(squares_f64, add_square, double, FOVEA_F64)

/* Sums and means: rows are added where memory runs along them. */
static fold_plan plan_of_sum(const fovea_problem *problem, bool mean) {
    bool wide = problem->dtype == FOVEA_F64;
    fold_plan plan = {
        .method = {wide ? sum_f64 : sum_f32, fold_add, mean ? finish_mean : fold_sum, {0}},
        .inputs = 1};
    return plan;
}

static size_t sum_workspace(const fovea_problem *problem, int threads) {
    int axis = fovea_problem_axis(problem);
    (void)threads;
    if (axis < 0 || problem->views[0].rank == 1) return 0;
    fold_plan plan = plan_of_sum(problem, false);
    fold_make_plan(problem, axis, &plan);
    if (!runs_by_columns(&plan, axis)) return 0;
    sum_plan columns = plan_columns(&plan, 1);
    return columns_workspace(&columns);
}

static fovea_status sum_or_mean(const fovea_problem *problem, fovea_run *run, bool mean) {
    fold_plan plan = plan_of_sum(problem, mean);
    int axis = fovea_problem_axis(problem);
    if (axis < 0 || problem->views[0].rank == 1) return fold_call(problem, run, axis, &plan);
    fold_plan again = plan;
    fold_make_plan(problem, axis, &plan);
    if (!runs_by_columns(&plan, axis)) return fold_call(problem, run, axis, &again);
    sum_plan columns = plan_columns(&plan, mean ? (double)plan.length : 1);
    sum_columns(&columns, run);
    return FOVEA_OK;
}

static fovea_status reduce_sum(const fovea_problem *problem, fovea_run *run) {
    return sum_or_mean(problem, run, false);
}
static fovea_status reduce_mean(const fovea_problem *problem, fovea_run *run) {
    return sum_or_mean(problem, run, true);
}

static fovea_status reduce_l2(const fovea_problem *problem, fovea_run *run) {
    static const fold_method floats = {squares_f32, fold_add, finish_root, {0}};
    static const fold_method doubles = {squares_f64, fold_add, finish_root, {0}};
    return reduce(problem, run, &floats, &doubles, 0, false);
}

/* ---- Extremes ------------------------------------------------------------------------------- */

#define EXTREME(name, largest, type, dtype)                                                        \
    static void name(double p, const void *x, const void *w, int64_t at, int64_t n, fold *f) {     \
        (void)p, (void)w, (void)at;                                                                \
        f->value[0] = extreme_##type(largest, dtype, x, n);                                        \
    }
EXTREME(least_f32, false, float, FOVEA_F32)
EXTREME(least_f64, false, double, FOVEA_F64)
EXTREME(greatest_f32, true, float, FOVEA_F32)
EXTREME(greatest_f64, true, double, FOVEA_F64)

static bool beats(bool largest, double challenger, double holder) {
    if (isnan(holder)) return false;
    return isnan(challenger) || (largest ? challenger > holder : challenger < holder);
}
static void join_least(fold *left, const fold *right) {
    if (beats(false, right->value[0], left->value[0])) *left = *right;
}
static void join_greatest(fold *left, const fold *right) {
    if (beats(true, right->value[0], left->value[0])) *left = *right;
}

static fovea_status reduce_min(const fovea_problem *problem, fovea_run *run) {
    static const fold_method floats = {least_f32, join_least, fold_sum, {0}};
    static const fold_method doubles = {least_f64, join_least, fold_sum, {0}};
    return reduce(problem, run, &floats, &doubles, 0, false);
}
static fovea_status reduce_max(const fovea_problem *problem, fovea_run *run) {
    static const fold_method floats = {greatest_f32, join_greatest, fold_sum, {0}};
    static const fold_method doubles = {greatest_f64, join_greatest, fold_sum, {0}};
    return reduce(problem, run, &floats, &doubles, 0, false);
}

/* The index is looked for only in the block that has the extreme; a NaN ends the search. */
#define ARGUMENT(name, largest, type, dtype)                                                       \
    static void name(double p, const void *from, const void *w, int64_t at, int64_t n, fold *f) {  \
        enum { BLOCK = 4096 };                                                                     \
        const type *x = from;                                                                      \
        int64_t best = 0;                                                                          \
        (void)p, (void)w;                                                                          \
        for (int64_t i = 0; i < n; i += BLOCK) {                                                   \
            double value = extreme_##type(largest, dtype, x + i, smaller(BLOCK, n - i));           \
            if (i > 0 && !beats(largest, value, f->value[0])) continue;                            \
            f->value[0] = value, best = i;                                                         \
        }                                                                                          \
        f->index = at + best + find_##type(f->value[0], x + best, smaller(BLOCK, n - best));       \
    }
ARGUMENT(argument_least_f32, false, float, FOVEA_F32)
ARGUMENT(argument_least_f64, false, double, FOVEA_F64)
ARGUMENT(argument_greatest_f32, true, float, FOVEA_F32)
ARGUMENT(argument_greatest_f64, true, double, FOVEA_F64)

static fovea_status reduce_argmin(const fovea_problem *problem, fovea_run *run) {
    static const fold_method floats = {argument_least_f32, join_least, fold_sum, {0}};
    static const fold_method doubles = {argument_least_f64, join_least, fold_sum, {0}};
    return reduce(problem, run, &floats, &doubles, 0, true);
}
static fovea_status reduce_argmax(const fovea_problem *problem, fovea_run *run) {
    static const fold_method floats = {argument_greatest_f32, join_greatest, fold_sum, {0}};
    static const fold_method doubles = {argument_greatest_f64, join_greatest, fold_sum, {0}};
    return reduce(problem, run, &floats, &doubles, 0, true);
}

/* ---- Moments -------------------------------------------------------------------------------- */

/* value: an element, what the mean is more than it, and the sum of squared distances to the mean,
 * joined after Chan, Golub and LeVeque, Updating formulae for sample variances, 1979. */
static void join_moments(fold *left, const fold *right) {
    double a = (double)left->count, b = (double)right->count;
    double distance = (right->value[0] - left->value[0]) + (right->value[1] - left->value[1]);
    left->count += right->count;
    left->value[1] += distance * (b / (a + b));
    left->value[2] += right->value[2] + distance * distance * (a * b / (a + b));
}

#define MOMENTS(name, type, block)                                                                 \
    static void name(double p, const void *from, const void *w, int64_t at, int64_t n, fold *f) {  \
        const type *x = from;                                                                      \
        (void)p, (void)w, (void)at;                                                                \
        for (int64_t i = 0; i < n; i += block) {                                                   \
            fold next = {.count = smaller(block, n - i), .value = {(double)x[i]}};                 \
            mean_and_squares_##type(x + i, next.count, &next.value[1], &next.value[2]);            \
            if (i == 0)                                                                            \
                *f = next;                                                                         \
            else                                                                                   \
                join_moments(f, &next);                                                            \
        }                                                                                          \
    }
MOMENTS(moments_f32, float, 4096)
MOMENTS(moments_f64, double, 2048)

static double finish_variance(double correction, const fold *f) {
    double divisor = (double)f->count - correction;
    return f->value[2] / (divisor > 0 ? divisor : 0);
}
static double finish_deviation(double correction, const fold *f) {
    return sqrt(finish_variance(correction, f));
}

static fovea_status reduce_var(const fovea_problem *problem, fovea_run *run) {
    static const fold_method floats = {moments_f32, join_moments, finish_variance, {0}};
    static const fold_method doubles = {moments_f64, join_moments, finish_variance, {0}};
    const fovea_reduce_var_options *options = problem->options;
    return reduce(problem, run, &floats, &doubles, options->correction, false);
}
static fovea_status reduce_stddev(const fovea_problem *problem, fovea_run *run) {
    static const fold_method floats = {moments_f32, join_moments, finish_deviation, {0}};
    static const fold_method doubles = {moments_f64, join_moments, finish_deviation, {0}};
    const fovea_reduce_stddev_options *options = problem->options;
    return reduce(problem, run, &floats, &doubles, options->correction, false);
}

static fovea_status reduce_histogram(const fovea_problem *problem, fovea_run *run) {
    const fovea_reduce_histogram_options *options = problem->options;
    return histogram_run(problem, run, options->lo, options->hi);
}

#define ENTRY(name)                                                                                \
    { #name, FOVEA_CPU_NAME("direct"), BOTH, FOVEA_TIER_HERE, .run = name }

const fovea_implementation FOVEA_TIERED(fovea_cpu_reductions)[] = {
    {"reduce_sum", FOVEA_CPU_NAME("direct"), BOTH, FOVEA_TIER_HERE, .workspace = sum_workspace,
     .run = reduce_sum},
    {"reduce_mean", FOVEA_CPU_NAME("direct"), BOTH, FOVEA_TIER_HERE, .workspace = sum_workspace,
     .run = reduce_mean},
    ENTRY(reduce_min),
    ENTRY(reduce_max),
    ENTRY(reduce_l2),
    ENTRY(reduce_var),
    ENTRY(reduce_stddev),
    ENTRY(reduce_argmax),
    ENTRY(reduce_argmin),
    {"reduce_histogram", FOVEA_CPU_NAME("bins"), BOTH, FOVEA_TIER_HERE,
     .workspace = histogram_workspace, .run = reduce_histogram},
    {0}};
