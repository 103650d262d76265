/* Domain 1, reductions, in double (f64 inputs: in long double). */
#include "reference/reference.h"

static bool reduce_sum(const fovea_problem *problem, double *const outputs[]) {
    const fovea_view *x = &problem->views[0];
    int axis = fovea_problem_axis(problem);
    int64_t count = fovea_view_elements(&problem->views[1]);
    int64_t length = axis < 0 ? fovea_view_elements(x) : x->shape[axis];
    int64_t inner = 1;
    for (int i = axis + 1; axis >= 0 && i < x->rank; i++) inner *= x->shape[i];
    for (int64_t i = 0; i < count; i++) {
        long double sum = 0, lost = 0; /* Kahan: the sum of 10^7 f64 must err less than R(n) */
        for (int64_t k = 0; k < length; k++) {
            int64_t element = axis < 0 ? k : (i / inner * length + k) * inner + i % inner;
            long double term = (long double)fovea_view_read(x, element) - lost;
            long double next = sum + term;
            lost = next - sum - term;
            if (!(lost == lost)) lost = 0; /* an infinite sum has lost nothing */
            sum = next;
        }
        outputs[1][i] = (double)sum;
    }
    return true;
}

const fovea_reference fovea_references_reductions[] = {{"reduce_sum", reduce_sum}, {0}};
