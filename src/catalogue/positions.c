/* Positions in attention's inputs: rotary embedding, ALiBi. */
#include "catalogue/network.h"

#include <math.h>

fovea_rope_place fovea_rope_find(bool interleaved, int64_t size, int64_t d) {
    int64_t half = size / 2;
    if (interleaved) return (fovea_rope_place){d ^ 1, d / 2, d % 2 == 0};
    return (fovea_rope_place){d < half ? d + half : d - half, d % half, d < half};
}

static fovea_status check_table(const fovea_problem *problem, const char *name, int64_t rows,
                                int64_t pairs, fovea_message *message) {
    const fovea_view *table = fovea_problem_view(problem, name);
    char text[128];
    if (table->rank == 2 && table->shape[0] == rows && table->shape[1] == pairs) return FOVEA_OK;
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s has shape %s; it is [%lld, %lld]", name,
                      fovea_shape_text(table, text, sizeof text), (long long)rows,
                      (long long)pairs);
}

fovea_status fovea_rope_table_check(const fovea_problem *problem, fovea_message *message) {
    double base = fovea_problem_parameter(problem, "base");
    double offset = fovea_problem_parameter(problem, "offset");
    if (fabs(offset) > 0x1p48)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "options.offset is %.0f; it lies between -2^48 and 2^48", offset);
    if (base > 0) return FOVEA_OK;
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "options.base is %g; it is above 0", base);
}

fovea_status fovea_rope_check(const fovea_problem *problem, fovea_message *message) {
    int64_t rows = fovea_problem_extent(problem, "S"), size = fovea_problem_extent(problem, "D");
    bool cos = fovea_problem_view(problem, "cos"), sin = fovea_problem_view(problem, "sin");
    if (size % 2 != 0)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "%s has rows of %lld elements; pairs ask for an even number",
                          problem->kernel->arguments[0].name, (long long)size);
    if (cos != sin)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s is given without %s",
                          cos ? "cos" : "sin", cos ? "sin" : "cos");
    fovea_status status = fovea_rope_table_check(problem, message);
    if (cos && status == FOVEA_OK) status = check_table(problem, "cos", rows, size / 2, message);
    if (cos && status == FOVEA_OK) status = check_table(problem, "sin", rows, size / 2, message);
    return status;
}

void fovea_rope_case_defaults(fovea_case *c) {
    int size = fovea_kernel_letter(c->index, "D");
    if (size >= 0 && c->extents[size] > 0) c->extents[size] += c->extents[size] % 2;
    if (fovea_case_parameter(c, "base") == 0) fovea_case_set(c, "base", 500);
    const fovea_kernel *kernel = fovea_catalogue_kernel(c->index);
    uint32_t tables =
        1u << fovea_kernel_argument(kernel, "cos") | 1u << fovea_kernel_argument(kernel, "sin");
    if (c->optional & tables) c->optional |= tables;
}

void fovea_rope_case_shape(const fovea_case *c, int argument, int *rank, int64_t *shape) {
    (void)argument;
    *rank = 2;
    shape[0] = c->extents[fovea_kernel_letter(c->index, "S")];
    shape[1] = c->extents[fovea_kernel_letter(c->index, "D")] / 2;
}

/* ---- Bounds --------------------------------------------------------------------------------- */

static double half_rounding(fovea_dtype output, double expected) {
    bool half = output == FOVEA_F16 || output == FOVEA_BF16;
    return half ? 0.5 * fovea_ulp(output, expected) : 0;
}

void fovea_bound_rope(const fovea_problem *problem, int output, const double *expected,
                      double *bound) {
    const fovea_view *x = &problem->views[0], *y = &problem->views[output];
    int64_t size = fovea_problem_extent(problem, "D"), count = fovea_view_elements(y);
    bool interleaved = fovea_problem_parameter(problem, "pairing") != 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t partner = i - i % size + fovea_rope_find(interleaved, size, i % size).partner;
        double sizes = fabs(fovea_view_read(x, i)) + fabs(fovea_view_read(x, partner));
        bound[i] = 4 * fovea_epsilon(FOVEA_F32) * sizes + half_rounding(y->dtype, expected[i]);
    }
}

void fovea_bound_table(const fovea_problem *problem, int output, const double *expected,
                       double *bound) {
    int64_t count = fovea_view_elements(&problem->views[output]);
    (void)expected;
    for (int64_t i = 0; i < count; i++) bound[i] = fovea_epsilon(FOVEA_F32);
}

void fovea_bound_alibi(const fovea_problem *problem, int output, const double *expected,
                       double *bound) {
    const fovea_view *scores = &problem->views[0];
    int64_t count = fovea_view_elements(scores);
    (void)output;
    for (int64_t i = 0; i < count; i++) {
        double score = fovea_view_read(scores, i), bias = expected[i] - score;
        bound[i] = 2 * fovea_epsilon(FOVEA_F32) * (fabs(score) + fabs(bias)) +
                   half_rounding(scores->dtype, expected[i]);
    }
}

/* M(D) over what the pairs come to; halves may round the rotated rows. */
void fovea_bound_rope_scores(const fovea_problem *problem, int output, const double *expected,
                             double *bound) {
    const fovea_view *q = &problem->views[0], *k = &problem->views[1];
    int64_t rows = fovea_problem_extent(problem, "S"), size = fovea_problem_extent(problem, "D");
    int64_t count = fovea_view_elements(&problem->views[output]);
    bool interleaved = fovea_problem_parameter(problem, "pairing") != 0;
    fovea_dtype dtype = problem->dtype;
    double error = (8 + sqrt((double)size)) * fovea_epsilon(FOVEA_F32);
    if (dtype != FOVEA_F32) error += 2 * fovea_epsilon(dtype);
    for (int64_t i = 0; i < count; i++) {
        int64_t batch = i / (rows * rows) * rows * size, query = i / rows % rows, key = i % rows;
        double sum = 0;
        for (int64_t d = 0; d < size && key <= query; d++) {
            fovea_rope_place place = fovea_rope_find(interleaved, size, d);
            if (!place.first) continue;
            int64_t a = batch + query * size, b = batch + key * size;
            sum += (fabs(fovea_view_read(q, a + d)) + fabs(fovea_view_read(q, a + place.partner))) *
                   (fabs(fovea_view_read(k, b + d)) + fabs(fovea_view_read(k, b + place.partner)));
        }
        bound[i] = error * sum / sqrt((double)size) + half_rounding(dtype, expected[i]);
        if (key > query) bound[i] = 0;
    }
}
