/* Domain 18, dot products of rows, in double. */
#include "reference/reference.h"

#include <math.h>

static double dot(const fovea_view *a, const fovea_view *b, int64_t row, int64_t n) {
    double sum = 0;
    for (int64_t i = row * n; i < (row + 1) * n; i++)
        sum += fovea_view_read(a, i) * fovea_view_read(b, i);
    return sum;
}

static bool dot_batched(const fovea_problem *problem, double *const outputs[]) {
    const fovea_view *a = &problem->views[0], *b = &problem->views[1];
    int64_t rows = fovea_view_elements(&problem->views[2]), n = a->shape[a->rank - 1];
    for (int64_t row = 0; row < rows; row++) outputs[2][row] = dot(a, b, row, n);
    return true;
}

static bool cosine_similarity(const fovea_problem *problem, double *const outputs[]) {
    const fovea_cosine_similarity_options *options = problem->options;
    const fovea_view *a = &problem->views[0], *b = &problem->views[1];
    int64_t rows = fovea_view_elements(&problem->views[2]), n = a->shape[a->rank - 1];
    for (int64_t row = 0; row < rows; row++) {
        double norm_a = sqrt(dot(a, a, row, n)), norm_b = sqrt(dot(b, b, row, n));
        double product = fmax(norm_a, options->eps) * fmax(norm_b, options->eps);
        bool zero = norm_a == 0 || norm_b == 0;
        outputs[2][row] = zero ? 0 : dot(a, b, row, n) / product;
    }
    return true;
}

const fovea_reference fovea_references_dot_products[] = {
    {"dot_batched", dot_batched}, {"cosine_similarity", cosine_similarity}, {0}};
