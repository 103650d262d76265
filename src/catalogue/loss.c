/* Losses: the shape of what they give, their targets in cases, and their bounds. */
#include "catalogue/network.h"
#include "catalogue/outcome.h"

#include <math.h>

fovea_reduction fovea_loss_reduction(const fovea_problem *problem) {
    return (fovea_reduction)fovea_problem_parameter(problem, "reduction");
}

/* A loss for each row of the last axis, or for each element. */
static bool by_rows(const fovea_kernel *kernel) {
    return fovea_kernel_parameter(kernel, "ignore_index") >= 0;
}

/* Doubles round the greatest integers to 2^63, which is none. */
static int64_t whole_number(double number) { return number < 0x1p63 ? (int64_t)number : INT64_MAX; }

int64_t fovea_cross_entropy_target(const fovea_view *targets, int64_t row) {
    return whole_number(fovea_view_read(targets, row));
}

fovea_cross_entropy_rule fovea_cross_entropy_read(const fovea_problem *problem) {
    double smoothing = fovea_problem_parameter(problem, "label_smoothing");
    double ignored = fovea_problem_parameter(problem, "ignore_index");
    double classes = (double)fovea_problem_extent(problem, "C");
    fovea_cross_entropy_rule rule = {
        .reduction = fovea_loss_reduction(problem), .ignored = whole_number(ignored), .on = 1};
    if (smoothing > 0) rule.on = 1 - smoothing, rule.off = smoothing / classes;
    return rule;
}

bool fovea_loss_outcome(const fovea_problem *given, int argument, fovea_view *outcome) {
    fovea_dtype dtype = outcome->dtype;
    if (argument != FOVEA_LOSS_LOSS || !fovea_outcome_like(given, FOVEA_LOSS_FIRST, outcome))
        return false;
    outcome->dtype = dtype;
    outcome->rank -= by_rows(given->kernel);
    if (fovea_loss_reduction(given) != FOVEA_NO_REDUCTION) outcome->rank = 0;
    return outcome->rank >= 0;
}

fovea_status fovea_loss_check(const fovea_problem *problem, fovea_message *message) {
    const fovea_view *loss = &problem->views[FOVEA_LOSS_LOSS];
    char actual[128], expected[128];
    fovea_view wanted = {0};
    fovea_loss_outcome(problem, FOVEA_LOSS_LOSS, &wanted);
    bool same = loss->rank == wanted.rank;
    for (int i = 0; same && i < wanted.rank; i++) same = loss->shape[i] == wanted.shape[i];
    if (!same)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "loss has shape %s; with this reduction it is %s",
                          fovea_shape_text(loss, actual, sizeof actual),
                          fovea_shape_text(&wanted, expected, sizeof expected));
    int delta = fovea_kernel_parameter(problem->kernel, "delta");
    if (delta >= 0 && !(fovea_problem_parameter(problem, "delta") >= 0))
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "options.delta is %g; it is at least 0",
                          fovea_problem_parameter(problem, "delta"));
    double smoothing = fovea_problem_parameter(problem, "label_smoothing");
    if (isnan(smoothing) && fovea_kernel_parameter(problem->kernel, "label_smoothing") < 0)
        return FOVEA_OK;
    if (smoothing >= 0 && smoothing <= 1) return FOVEA_OK;
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                      "options.label_smoothing is %g; it is between 0 and 1", smoothing);
}

/* ---- Cases ---------------------------------------------------------------------------------- */

void fovea_loss_case_shape(const fovea_case *c, int argument, int *rank, int64_t *shape) {
    const fovea_shape *first = fovea_kernel_shape(c->index, FOVEA_LOSS_FIRST);
    (void)argument;
    *rank = 0;
    if (fovea_case_parameter(c, "reduction") != FOVEA_NO_REDUCTION) return;
    for (int i = 0; i < c->group_rank; i++)
        shape[(*rank)++] = c->group_rank == 1 ? c->extents[first->group] : c->group[i];
    for (int i = 0; i < first->count && !by_rows(fovea_catalogue_kernel(c->index)); i++)
        shape[(*rank)++] = c->extents[first->letters[i]];
}

/* Targets below C, drawn as rule 9 says; in checks some are ignored or do not exist. */
void fovea_loss_case_fill(const fovea_case *c, int argument, const fovea_view *view) {
    int64_t count = fovea_view_elements(view),
            classes = c->extents[fovea_kernel_letter(c->index, "C")];
    const double odd[] = {fovea_case_parameter(c, "ignore_index"), -1, (double)classes, 0x1p31 - 1};
    const uint32_t key[2] = {(uint32_t)c->seed, (uint32_t)(c->seed >> 32)};
    bool wide = view->dtype == FOVEA_I64;
    for (int64_t i = 0; i < count; i++) {
        uint64_t first = (uint64_t)(wide ? 2 * i : i), block = first / 4;
        const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)argument,
                                     0};
        uint32_t words[4];
        fovea_philox(counter, key, words);
        uint64_t word = words[first % 4] | (wide ? (uint64_t)words[first % 4 + 1] << 32 : 0);
        double target = classes > 0 ? (double)(word % (uint64_t)classes) : -1;
        if (c->data && word >> 3 & 1 && word % 5 == 0) target = odd[word >> 4 & 3];
        fovea_view_write(view, i, target);
    }
}

/* ---- Bounds --------------------------------------------------------------------------------- */

static double tree_error(int64_t n) {
    return (8 + ceil(log2(n > 2 ? (double)n : 2))) * fovea_epsilon(FOVEA_F32);
}

static double with_rounding(fovea_dtype output, double expected, double bound) {
    bool half = output == FOVEA_F16 || output == FOVEA_BF16;
    return half ? bound + 0.5 * fovea_ulp(output, expected) : bound;
}

/* The absolute value that the error of a term of kl_div is measured by. */
static double divergence_size(const fovea_problem *problem, int64_t i) {
    double p = fovea_view_read(&problem->views[FOVEA_LOSS_FIRST], i);
    double q = fovea_view_read(&problem->views[FOVEA_LOSS_SECOND], i);
    return p == 0 ? 0 : fabs(p) * (1 + fabs(log(p / q)));
}

/* Of terms that are not negative the sum is its own S. */
void fovea_bound_loss(const fovea_problem *problem, int output, const double *expected,
                      double *bound) {
    const fovea_view *view = &problem->views[output];
    fovea_reduction reduction = fovea_loss_reduction(problem);
    bool divergence = strcmp(problem->kernel->name, "loss_kl_div") == 0;
    bool bce = strcmp(problem->kernel->name, "loss_bce") == 0;
    bool logits = bce && fovea_problem_parameter(problem, "from_logits") != 0;
    int64_t count = fovea_view_elements(view);
    int64_t terms = fovea_view_elements(&problem->views[FOVEA_LOSS_FIRST]);
    double divisor = reduction == FOVEA_MEAN ? (double)terms : 1;
    for (int64_t i = 0; i < count && output == FOVEA_LOSS_GRADIENT; i++) {
        double absolute = 4 * fovea_epsilon(FOVEA_F32) / divisor;
        double error = logits ? absolute : 8 * fovea_ulp(FOVEA_F32, expected[i]);
        bound[i] = with_rounding(view->dtype, expected[i], error);
    }
    for (int64_t i = 0; i < count && output == FOVEA_LOSS_LOSS; i++) {
        int64_t first = reduction ? 0 : i, n = reduction ? terms : 1;
        double size = fabs(expected[i]);
        if (bce) size += reduction == FOVEA_SUM ? (double)n : 1;
        if (divergence) {
            size = 0;
            for (int64_t k = first; k < first + n; k++)
                size += divergence_size(problem, k) / divisor;
        }
        bound[i] = tree_error(n) * size;
    }
}

/* What a row of logits says of errors: distances from its maximum, weighted as the loss weighs. */
static double row_size(const fovea_problem *problem, const fovea_cross_entropy_rule *rule,
                       int64_t row, int64_t classes, int64_t target, double *maximum) {
    const fovea_view *z = &problem->views[FOVEA_LOSS_FIRST];
    double size = 0;
    *maximum = -INFINITY;
    for (int64_t c = 0; c < classes; c++)
        *maximum = fmax(*maximum, fovea_view_read(z, row * classes + c));
    for (int64_t c = 0; c < classes; c++) {
        double weight = (c == target ? rule->on : 0) + rule->off;
        double distance = fabs(fovea_view_read(z, row * classes + c) - *maximum);
        if (weight > 0 && isfinite(distance)) size += weight * (1 + distance);
    }
    return size;
}

static void bound_gradient_row(const fovea_problem *problem, const fovea_cross_entropy_rule *rule,
                               int64_t row, int64_t classes, int64_t target, double maximum,
                               double scale, const double *expected, double *bound) {
    const fovea_view *z = &problem->views[FOVEA_LOSS_FIRST];
    double epsilon = fovea_epsilon(FOVEA_F32);
    for (int64_t c = 0; c < classes; c++) {
        int64_t i = row * classes + c;
        double distance = fabs(fovea_view_read(z, i) - maximum);
        double share = expected[i] / scale + (c == target ? rule->on : 0) + rule->off;
        if (!isfinite(distance)) distance = 0;
        double error = share * (tree_error(classes) + epsilon * distance) + epsilon;
        bound[i] =
            with_rounding(problem->views[FOVEA_LOSS_GRADIENT].dtype, expected[i], scale * error);
    }
}

void fovea_bound_cross_entropy(const fovea_problem *problem, int output, const double *expected,
                               double *bound) {
    fovea_cross_entropy_rule rule = fovea_cross_entropy_read(problem);
    const fovea_view *targets = &problem->views[FOVEA_LOSS_SECOND];
    int64_t rows = fovea_view_elements(targets), classes = fovea_problem_extent(problem, "C");
    double counted = 0, sum = 0, maximum;
    for (int64_t row = 0; row < rows; row++)
        counted += fovea_cross_entropy_target(targets, row) != rule.ignored;
    double scale = rule.reduction == FOVEA_MEAN ? 1 / counted : 1;
    for (int64_t row = 0; row < rows; row++) {
        int64_t target = fovea_cross_entropy_target(targets, row);
        double size = row_size(problem, &rule, row, classes, target, &maximum);
        if (target == rule.ignored) size = 0;
        if (output == FOVEA_LOSS_GRADIENT)
            bound_gradient_row(problem, &rule, row, classes, target, maximum, scale, expected,
                               bound);
        else if (rule.reduction == FOVEA_NO_REDUCTION)
            bound[row] = tree_error(classes) * size;
        /* a term is at most the distance and the logarithm of the sum */
        sum +=
            tree_error(classes) * size + tree_error(rows) * (size + log(fmax((double)classes, 1)));
    }
    if (output == FOVEA_LOSS_LOSS && rule.reduction != FOVEA_NO_REDUCTION) bound[0] = sum * scale;
}
