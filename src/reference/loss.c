/* Domain 7, losses and their gradients, in double. */
#include "catalogue/network.h"
#include "reference/reference.h"

#include <math.h>

/* A term of a loss of two tensors, and its derivative. */
typedef struct term {
    double value, slope;
} term;
typedef term term_function(const fovea_problem *problem, double p, double y);

/* 1, 0 or -1, or NaN. */
static double sign(double x) { return isnan(x) ? x : (double)((x > 0) - (x < 0)); }

static term mse(const fovea_problem *problem, double p, double y) {
    (void)problem;
    return (term){(p - y) * (p - y), 2 * (p - y)};
}
static term mae(const fovea_problem *problem, double p, double y) {
    (void)problem;
    return (term){fabs(p - y), sign(p - y)};
}
static term huber(const fovea_problem *problem, double p, double y) {
    double delta = (double)(float)fovea_problem_parameter(problem, "delta"), d = fabs(p - y);
    if (d <= delta) return (term){0.5 * d * d, p - y};
    return (term){delta * (d - 0.5 * delta), delta * sign(p - y)};
}
/* y is q, to which the derivative is. */
static term kl_div(const fovea_problem *problem, double p, double y) {
    (void)problem;
    if (p == 0 && !isnan(y)) return (term){0, 0};
    return (term){p * log(p / y), -p / y};
}
static term bce(const fovea_problem *problem, double p, double y) {
    if (fovea_problem_parameter(problem, "from_logits") != 0)
        return (term){isnan(p) ? p : fmax(p, 0) - p * y + log1p(exp(-fabs(p))),
                      1 / (1 + exp(-p)) - y};
    double at = isnan(p) ? p : fmin(fmax(p, FOVEA_BCE_LEAST), FOVEA_BCE_MOST);
    return (term){-(y * log(at) + (1 - y) * log1p(-at)), (at - y) / (at * (1 - at))};
}

static bool sum_terms(const fovea_problem *problem, term_function *function,
                      double *const outputs[]) {
    fovea_reduction reduction = fovea_loss_reduction(problem);
    int64_t count = fovea_view_elements(&problem->views[FOVEA_LOSS_FIRST]);
    double sum = 0, divisor = reduction == FOVEA_MEAN ? (double)count : 1;
    double *gradient = outputs[FOVEA_LOSS_GRADIENT];
    for (int64_t i = 0; i < count; i++) {
        term t = function(problem, fovea_view_read(&problem->views[FOVEA_LOSS_FIRST], i),
                          fovea_view_read(&problem->views[FOVEA_LOSS_SECOND], i));
        sum += t.value;
        if (reduction == FOVEA_NO_REDUCTION) outputs[FOVEA_LOSS_LOSS][i] = t.value;
        if (gradient) gradient[i] = t.slope / divisor;
    }
    if (reduction != FOVEA_NO_REDUCTION) outputs[FOVEA_LOSS_LOSS][0] = sum / divisor;
    return true;
}

#define LOSS(name, function)                                                                       \
    static bool name(const fovea_problem *problem, double *const outputs[]) {                      \
        return sum_terms(problem, function, outputs);                                              \
    }
LOSS(loss_mse, mse)
LOSS(loss_mae, mae)
LOSS(loss_huber, huber)
LOSS(loss_kl_div, kl_div)
LOSS(loss_bce, bce)

/* The loss of a row of n logits, and its gradient if asked for. */
static double entropy(const fovea_view *z, int64_t row, int64_t n, int64_t target,
                      const fovea_cross_entropy_rule *rule, double scale, double *gradient) {
    double maximum = -INFINITY, sum = 0, loss = 0;
    bool known = target >= 0 && target < n;
    for (int64_t c = 0; c < n; c++) maximum = fmax(maximum, fovea_view_read(z, row * n + c));
    for (int64_t c = 0; c < n; c++) sum += exp(fovea_view_read(z, row * n + c) - maximum);
    for (int64_t c = 0; c < n; c++) {
        double weight = (c == target ? rule->on : 0) + rule->off;
        double centred = fovea_view_read(z, row * n + c) - maximum;
        if (weight != 0) loss -= weight * (centred - log(sum));
        if (gradient) gradient[c] = known ? scale * (exp(centred) / sum - weight) : NAN;
    }
    return known ? loss : NAN;
}

static bool cross_entropy(const fovea_problem *problem, double *const outputs[]) {
    fovea_cross_entropy_rule rule = fovea_cross_entropy_read(problem);
    const fovea_view *z = &problem->views[FOVEA_LOSS_FIRST];
    const fovea_view *targets = &problem->views[FOVEA_LOSS_SECOND];
    int64_t rows = fovea_view_elements(targets), n = fovea_problem_extent(problem, "C");
    double counted = 0, sum = 0;
    for (int64_t row = 0; row < rows; row++)
        counted += fovea_cross_entropy_target(targets, row) != rule.ignored;
    double scale = rule.reduction == FOVEA_MEAN ? 1 / counted : 1;
    for (int64_t row = 0; row < rows; row++) {
        int64_t target = fovea_cross_entropy_target(targets, row);
        double *gradient = outputs[FOVEA_LOSS_GRADIENT];
        if (gradient) gradient += row * n;
        double loss = 0;
        if (target != rule.ignored)
            loss = entropy(z, row, n, target, &rule, scale, gradient);
        else
            for (int64_t c = 0; gradient && c < n; c++) gradient[c] = 0;
        if (rule.reduction == FOVEA_NO_REDUCTION) outputs[FOVEA_LOSS_LOSS][row] = loss;
        sum += loss;
    }
    if (rule.reduction != FOVEA_NO_REDUCTION)
        outputs[FOVEA_LOSS_LOSS][0] = rule.reduction == FOVEA_MEAN ? sum / counted : sum;
    return true;
}

const fovea_reference fovea_references_loss[] = {{"loss_cross_entropy", cross_entropy},
                                                 {"loss_mse", loss_mse},
                                                 {"loss_mae", loss_mae},
                                                 {"loss_huber", loss_huber},
                                                 {"loss_kl_div", loss_kl_div},
                                                 {"loss_bce", loss_bce},
                                                 {"fused_softmax_cross_entropy", cross_entropy},
                                                 {0}};
