/* Domain 4, softmax, in double. */
#include "reference/reference.h"

#include <math.h>

/* A NaN or +inf in the row, or -inf throughout, makes e^(x-m) NaN for the maximum m. */
static bool softmax_stable(const fovea_problem *problem, double *const outputs[]) {
    const fovea_view *x = &problem->views[0];
    int64_t columns = x->shape[x->rank - 1], count = fovea_view_elements(x);
    for (int64_t row = 0; columns > 0 && row < count / columns; row++) {
        double maximum = -INFINITY, sum = 0;
        for (int64_t i = row * columns; i < (row + 1) * columns; i++) {
            double element = fovea_view_read(x, i);
            if (isnan(element) || element > maximum) maximum = element;
            if (isnan(maximum)) break;
        }
        for (int64_t i = row * columns; i < (row + 1) * columns; i++) {
            outputs[1][i] = exp(fovea_view_read(x, i) - maximum);
            sum += outputs[1][i];
        }
        for (int64_t i = row * columns; i < (row + 1) * columns; i++) outputs[1][i] /= sum;
    }
    return true;
}

static bool log_softmax(const fovea_problem *problem, double *const outputs[]) {
    const fovea_view *x = &problem->views[0];
    int64_t columns = x->shape[x->rank - 1], count = fovea_view_elements(x);
    for (int64_t row = 0; columns > 0 && row < count / columns; row++) {
        double maximum = -INFINITY, sum = 0;
        for (int64_t i = row * columns; i < (row + 1) * columns; i++)
            maximum = fmax(maximum, fovea_view_read(x, i));
        for (int64_t i = row * columns; i < (row + 1) * columns; i++)
            sum += exp(fovea_view_read(x, i) - maximum);
        for (int64_t i = row * columns; i < (row + 1) * columns; i++)
            outputs[1][i] = fovea_view_read(x, i) - maximum - log(sum);
    }
    return true;
}

/* How a row is read does not change its meaning. */
const fovea_reference fovea_references_softmax[] = {{"softmax_stable", softmax_stable},
                                                    {"log_softmax", log_softmax},
                                                    {"softmax_online", softmax_stable},
                                                    {0}};
