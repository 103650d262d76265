/* Domain 19, fused map-reduce: sums of what a map makes of the elements, in one pass. */
#include "cpu/fold.h"

/* A method for each of f32, f16 and bf16. */
#define METHODS(name, runs)                                                                        \
    static const fold_method name[] = {[FOVEA_F32] = {runs##_f32, fold_add, fold_sum, {0}},        \
                                       [FOVEA_F16] = {runs##_f16, fold_add, fold_sum, {0}},        \
                                       [FOVEA_BF16] = {runs##_bf16, fold_add, fold_sum, {0}}};

FOLD_SUM(squares_f32, add_square, float, FOVEA_F32)
FOLD_SUM(squares_f16, add_square, float, FOVEA_F16)
FOLD_SUM(squares_bf16, add_square, float, FOVEA_BF16)
METHODS(square_methods, squares)
FOLD_SUM(magnitudes_f32, add_magnitude, float, FOVEA_F32)
FOLD_SUM(magnitudes_f16, add_magnitude, float, FOVEA_F16)
FOLD_SUM(magnitudes_bf16, add_magnitude, float, FOVEA_BF16)
METHODS(magnitude_methods, magnitudes)
FOLD_SUM_OF_TWO(chosen_f32, add_chosen, float, FOVEA_F32, FOVEA_U8)
FOLD_SUM_OF_TWO(chosen_f16, add_chosen, float, FOVEA_F16, FOVEA_U8)
FOLD_SUM_OF_TWO(chosen_bf16, add_chosen, float, FOVEA_BF16, FOVEA_U8)
METHODS(chosen_methods, chosen)

/* A run has fewer than 2^24 elements, so that a float counts them exactly. */
#define COUNT(name, dtype)                                                                         \
    static void name(double p, const void *x, const void *w, int64_t at, int64_t n, fold *f) {     \
        (void)w, (void)at;                                                                         \
        f->index = (int64_t)sum_float(count_above_float, dtype, 0, x, NULL, (float)p, 0, n);       \
    }
COUNT(above_f32, FOVEA_F32)
COUNT(above_f16, FOVEA_F16)
COUNT(above_bf16, FOVEA_BF16)
METHODS(above_methods, above)

static fovea_status reduce(const fovea_problem *problem, fovea_run *run, const fold_method *methods,
                           int inputs, double constant) {
    fold_plan plan = {.method = methods[problem->dtype], .inputs = inputs, .constant = constant};
    return fold_call(problem, run, fovea_problem_axis(problem), &plan);
}

static fovea_status map_reduce_square_sum(const fovea_problem *problem, fovea_run *run) {
    return reduce(problem, run, square_methods, 1, 0);
}
static fovea_status map_reduce_abs_sum(const fovea_problem *problem, fovea_run *run) {
    return reduce(problem, run, magnitude_methods, 1, 0);
}
static fovea_status map_reduce_masked_sum(const fovea_problem *problem, fovea_run *run) {
    return reduce(problem, run, chosen_methods, 2, 0);
}
static fovea_status map_reduce_threshold_count(const fovea_problem *problem, fovea_run *run) {
    const fovea_map_reduce_threshold_count_options *options = problem->options;
    return reduce(problem, run, above_methods, 1, options->threshold);
}

#define ENTRY(name)                                                                                \
    { #name, FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE, .run = name }

const fovea_implementation FOVEA_TIERED(fovea_cpu_map_reduce)[] = {
    ENTRY(map_reduce_square_sum),
    ENTRY(map_reduce_abs_sum),
    ENTRY(map_reduce_masked_sum),
    ENTRY(map_reduce_threshold_count),
    {0}};
