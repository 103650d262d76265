/* Quantization to i8: which elements share a scale. */
#include "catalogue/network.h"
#include "catalogue/outcome.h"

#include <math.h>

enum { TENSOR, ROW, GROUP };

static int64_t block_of(double granularity, double group, int64_t columns) {
    if (granularity == TENSOR) return 0;
    return granularity == ROW ? (columns > 0 ? columns : 1) : (int64_t)group;
}

fovea_quantization fovea_quantization_describe(const fovea_problem *problem) {
    fovea_quantization q = {.rows = fovea_problem_extent(problem, "R"),
                            .columns = fovea_problem_extent(problem, "C")};
    q.block = block_of(fovea_problem_parameter(problem, "granularity"),
                       fovea_problem_parameter(problem, "group"), q.columns);
    if (q.block) q.blocks = q.columns / q.block + (q.columns % q.block != 0);
    return q;
}

/* The shape of the scales of a tensor of the shape x. */
static int scale_shape(double granularity, double group, int rank, const int64_t *x,
                       int64_t *shape) {
    int64_t columns = x[rank - 1], block = group >= 1 && group < 0x1p63 ? (int64_t)group : 0;
    if (granularity == TENSOR) return shape[0] = 1, 1;
    for (int i = 0; i < rank - 1; i++) shape[i] = x[i];
    if (granularity == ROW) return rank - 1;
    /* Groups of fewer than one are refused, but not before the shapes of cases are made. */
    shape[rank - 1] = block > 0 ? columns / block + (columns % block != 0) : 0;
    return rank;
}

bool fovea_quantization_outcome(const fovea_problem *given, int argument, fovea_view *outcome) {
    double group = fovea_problem_parameter(given, "group");
    const fovea_view *x = &given->views[0];
    (void)argument;
    if (!fovea_given(given, 0) || x->rank < 1 || group < 1) return false;
    outcome->rank = scale_shape(fovea_problem_parameter(given, "granularity"), group, x->rank,
                                x->shape, outcome->shape);
    return true;
}

fovea_status fovea_quantization_check(const fovea_problem *problem, fovea_message *message) {
    double granularity = fovea_problem_parameter(problem, "granularity");
    double group = fovea_problem_parameter(problem, "group");
    const fovea_view *x = &problem->views[0], *scale = fovea_problem_view(problem, "scale");
    char actual[128], wanted[128];
    fovea_view expected = {0};
    if (group != 32 && group != 64 && group != 128)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "options.group is %.0f; it is one of 32, 64, 128", group);
    expected.rank = scale_shape(granularity, group, x->rank, x->shape, expected.shape);
    bool same = expected.rank == scale->rank;
    for (int i = 0; same && i < expected.rank; i++) same = expected.shape[i] == scale->shape[i];
    if (same) return FOVEA_OK;
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                      "scale has shape %s; with this granularity it is %s",
                      fovea_shape_text(scale, actual, sizeof actual),
                      fovea_shape_text(&expected, wanted, sizeof wanted));
}

void fovea_quantization_case_shape(const fovea_case *c, int argument, int *rank, int64_t *shape) {
    const fovea_shape *first = fovea_kernel_shape(c->index, 0);
    int64_t x[FOVEA_RANK_MAX + 1];
    int count = 0;
    (void)argument;
    for (int i = 0; i < c->group_rank; i++)
        x[count++] = c->group_rank == 1 ? c->extents[first->group] : c->group[i];
    x[count++] = c->extents[first->letters[0]];
    *rank = scale_shape(fovea_case_parameter(c, "granularity"), fovea_case_parameter(c, "group"),
                        count, x, shape);
}

/* The reference rounds scales as f32 does; codes may be off by one beside half-integers. */
void fovea_bound_quantize(const fovea_problem *problem, int output, const double *expected,
                          double *bound) {
    const fovea_view *x = &problem->views[0], *view = &problem->views[output];
    fovea_quantization q = fovea_quantization_describe(problem);
    int64_t count = fovea_view_elements(view);
    if (view->dtype == FOVEA_F32) {
        for (int64_t i = 0; i < count; i++) bound[i] = fovea_ulp(FOVEA_F32, expected[i]);
        return;
    }
    for (int64_t i = 0; i < count; i++) bound[i] = 0;
    for (int64_t row = 0; row < q.rows; row++)
        for (int64_t first = 0; first < q.columns; first += q.block ? q.block : q.columns) {
            int64_t end = q.block && first + q.block < q.columns ? first + q.block : q.columns;
            double largest = 0;
            int64_t from = q.block ? row * q.columns + first : 0;
            int64_t to = q.block ? row * q.columns + end : count;
            for (int64_t i = from; i < to; i++)
                largest = fmax(largest, fabs(fovea_view_read(x, i)));
            double scale = (double)(float)(largest / 127);
            int exponent;
            bool power = frexp(scale, &exponent) == 0.5;
            for (int64_t i = from; i < to && scale > 0 && !power; i++) {
                double quotient = fovea_view_read(x, i) / scale;
                if (fabs(fabs(quotient - floor(quotient)) - 0.5) <= 0x1p-14) bound[i] = 1;
            }
            if (!q.block) return;
        }
}
