/* Domain 1, reductions, in double (f64 inputs: in long double). */
#include "catalogue/order.h"
#include "reference/reference.h"

#include <math.h>
#include <stdlib.h>

/* Kahan: the sum of 10^7 f64 must err less than R(n). */
static void add(long double *sum, long double *lost, long double term) {
    long double next = *sum + (term - *lost);
    *lost = next - *sum - (term - *lost);
    if (!(*lost == *lost)) *lost = 0; /* an infinite sum has lost nothing */
    *sum = next;
}

/* The sum over a slice of (x - centre)^power. */
static long double sum_of_powers(const fovea_view *x, const fovea_slice *slice, long double centre,
                                 int power) {
    long double sum = 0, lost = 0;
    for (int64_t k = 0; k < slice->count; k++) {
        long double d = (long double)fovea_view_read(x, fovea_slice_element(slice, k)) - centre;
        add(&sum, &lost, power == 1 ? d : d * d);
    }
    return sum;
}

static long double variance(const fovea_problem *problem, const fovea_slice *slice) {
    const fovea_view *x = &problem->views[0];
    long double n = slice->count;
    long double mean = sum_of_powers(x, slice, 0, 1) / n;
    long double first = slice->count > 0 ? fovea_view_read(x, slice->first) : NAN;
    bool equal = slice->count > 0;
    for (int64_t k = 1; k < slice->count && equal; k++)
        equal = fovea_view_read(x, fovea_slice_element(slice, k)) == first;
    if (equal) mean = first; /* rounding of the sum must not make a variance */
    long double divisor = n - (long double)fovea_problem_parameter(problem, "correction");
    return sum_of_powers(x, slice, mean, 2) / (divisor > 0 ? divisor : 0);
}

/* A kernel that makes one value of each slice s of x. */
#define REDUCTION(name, expression)                                                                \
    static bool name(const fovea_problem *problem, double *const outputs[]) {                      \
        const fovea_view *x = &problem->views[0];                                                  \
        int64_t count = fovea_view_elements(&problem->views[1]);                                   \
        for (int64_t i = 0; i < count; i++) {                                                      \
            fovea_slice s = fovea_problem_slice(problem, i);                                       \
            outputs[1][i] = (double)(expression);                                                  \
        }                                                                                          \
        return (void)x, true;                                                                      \
    }

REDUCTION(reduce_sum, sum_of_powers(x, &s, 0, 1))
REDUCTION(reduce_mean, sum_of_powers(x, &s, 0, 1) / (long double)s.count)
REDUCTION(reduce_l2, sqrtl(sum_of_powers(x, &s, 0, 2)))
REDUCTION(reduce_var, variance(problem, &s))
REDUCTION(reduce_stddev, sqrtl(variance(problem, &s)))

/* The place of the first of the largest (sign 1) or smallest (-1), or of the first NaN. */
static int64_t extreme(const fovea_view *x, const fovea_slice *slice, double sign) {
    int64_t best = 0;
    double held = NAN;
    for (int64_t k = 0; k < slice->count; k++) {
        double element = fovea_view_read(x, fovea_slice_element(slice, k));
        if (isnan(element)) return k;
        if (k == 0 || sign * element > sign * held) best = k, held = element;
    }
    return best;
}

REDUCTION(reduce_min, fovea_view_read(x, fovea_slice_element(&s, extreme(x, &s, -1))))
REDUCTION(reduce_max, fovea_view_read(x, fovea_slice_element(&s, extreme(x, &s, 1))))

static bool argument(const fovea_problem *problem, double *const outputs[], double sign) {
    const fovea_view *x = &problem->views[0];
    int64_t count = fovea_view_elements(&problem->views[1]);
    for (int64_t i = 0; i < count; i++) {
        fovea_slice s = fovea_problem_slice(problem, i);
        int64_t best = extreme(x, &s, sign);
        outputs[1][i] = (double)best;
        if (outputs[2]) outputs[2][i] = fovea_view_read(x, fovea_slice_element(&s, best));
    }
    return true;
}
static bool reduce_argmax(const fovea_problem *problem, double *const outputs[]) {
    return argument(problem, outputs, 1);
}
static bool reduce_argmin(const fovea_problem *problem, double *const outputs[]) {
    return argument(problem, outputs, -1);
}

/* The bounds of a histogram: given, or the least and the largest x. False if they are not finite. */
static bool histogram_range(const fovea_problem *problem, double *lo, double *hi) {
    const fovea_view *x = &problem->views[0];
    fovea_slice all = {fovea_view_elements(x), 0, 1};
    double least = all.count ? fovea_view_read(x, extreme(x, &all, -1)) : 0;
    double largest = all.count ? fovea_view_read(x, extreme(x, &all, 1)) : 1;
    *lo = fovea_round_to(x->dtype, fovea_problem_parameter(problem, "lo"));
    *hi = fovea_round_to(x->dtype, fovea_problem_parameter(problem, "hi"));
    bool given = !isnan(*lo);
    if (!given) *lo = least;
    if (isnan(*hi)) *hi = largest;
    if (*lo > *hi) *(given ? hi : lo) = given ? *lo : *hi;
    if (*lo == *hi)
        *lo = fovea_round_to(x->dtype, *lo - 0.5), *hi = fovea_round_to(x->dtype, *hi + 0.5);
    return isfinite(*lo) && isfinite(*hi);
}

static bool reduce_histogram(const fovea_problem *problem, double *const outputs[]) {
    const fovea_view *x = &problem->views[0];
    int64_t bins = fovea_problem_extent(problem, "Bins"), count = fovea_view_elements(x);
    double lo, hi, *edges = malloc(((size_t)bins + 1) * sizeof *edges);
    if (!edges) return false;
    bool finite = histogram_range(problem, &lo, &hi);
    for (int64_t b = 0; b <= bins; b++)
        edges[b] = finite ? fovea_histogram_edge(x->dtype, lo, hi, bins, b) : NAN;
    for (int64_t b = 0; b < bins; b++) outputs[1][b] = 0;
    for (int64_t i = 0; i < count; i++) {
        double element = fovea_view_read(x, i);
        int64_t first = 0, end = bins; /* the last bin whose lower edge is not above */
        if (!finite || !(element >= lo && element <= hi)) continue;
        while (end - first > 1) {
            int64_t middle = first + (end - first) / 2;
            if (edges[middle] <= element)
                first = middle;
            else
                end = middle;
        }
        outputs[1][first]++;
    }
    if (outputs[2]) memcpy(outputs[2], edges, ((size_t)bins + 1) * sizeof *edges);
    free(edges);
    return true;
}

const fovea_reference fovea_references_reductions[] = {{"reduce_sum", reduce_sum},
                                                       {"reduce_mean", reduce_mean},
                                                       {"reduce_min", reduce_min},
                                                       {"reduce_max", reduce_max},
                                                       {"reduce_l2", reduce_l2},
                                                       {"reduce_var", reduce_var},
                                                       {"reduce_stddev", reduce_stddev},
                                                       {"reduce_argmax", reduce_argmax},
                                                       {"reduce_argmin", reduce_argmin},
                                                       {"reduce_histogram", reduce_histogram},
                                                       {0}};
