/* Domain 18, dot products of rows. */
#include "cpu/fold.h"

FOLD_SUM_OF_TWO(products_f32, add_product, float, FOVEA_F32, FOVEA_F32)
FOLD_SUM_OF_TWO(products_f16, add_product, float, FOVEA_F16, FOVEA_F16)
FOLD_SUM_OF_TWO(products_bf16, add_product, float, FOVEA_BF16, FOVEA_BF16)

static fovea_status dot_batched(const fovea_problem *problem, fovea_run *run) {
    static const fold_method methods[] = {[FOVEA_F32] = {products_f32, fold_add, fold_sum, {0}},
                                          [FOVEA_F16] = {products_f16, fold_add, fold_sum, {0}},
                                          [FOVEA_BF16] = {products_bf16, fold_add, fold_sum, {0}}};
    fold_plan plan = {.method = methods[problem->dtype], .inputs = 2};
    return fold_call(problem, run, fovea_problem_axis(problem), &plan);
}

/* a b, a a and b b: three passes over blocks in the first-level cache. */
#define NORMS(name, dtype)                                                                         \
    static void name(double p, const void *x, const void *w, int64_t at, int64_t n, fold *f) {     \
        enum { BLOCK = 2048 };                                                                     \
        (void)p, (void)at;                                                                         \
        for (int64_t i = 0; i < n; i += BLOCK) {                                                   \
            int64_t count = smaller(BLOCK, n - i), size = dtype == FOVEA_F32 ? 4 : 2;              \
            const char *a = (const char *)x + i * size, *b = (const char *)w + i * size;           \
            f->value[0] += sum_float(add_product_float, dtype, dtype, a, b, 0, 0, count);          \
            f->value[1] += sum_float(add_square_float, dtype, dtype, a, NULL, 0, 0, count);        \
            f->value[2] += sum_float(add_square_float, dtype, dtype, b, NULL, 0, 0, count);        \
        }                                                                                          \
    }
NORMS(norms_f32, FOVEA_F32)
NORMS(norms_f16, FOVEA_F16)
NORMS(norms_bf16, FOVEA_BF16)

static double finish_cosine(double eps, const fold *f) {
    double a = sqrt(f->value[1]), b = sqrt(f->value[2]);
    if (a == 0 || b == 0) return 0;
    return f->value[0] / ((a < eps ? eps : a) * (b < eps ? eps : b));
}

static fovea_status cosine_similarity(const fovea_problem *problem, fovea_run *run) {
    static const fold_method methods[] = {
        [FOVEA_F32] = {norms_f32, fold_add, finish_cosine, {0}},
        [FOVEA_F16] = {norms_f16, fold_add, finish_cosine, {0}},
        [FOVEA_BF16] = {norms_bf16, fold_add, finish_cosine, {0}}};
    const fovea_cosine_similarity_options *options = problem->options;
    fold_plan plan = {.method = methods[problem->dtype], .inputs = 2, .constant = options->eps};
    return fold_call(problem, run, fovea_problem_axis(problem), &plan);
}

const fovea_implementation FOVEA_TIERED(fovea_cpu_dot_products)[] = {
    {"dot_batched", FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE, .run = dot_batched},
    {"cosine_similarity", FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE,
     .run = cosine_similarity},
    {0}};
