/* Domain 16, scans, and 112: integers in their own arithmetic, floats in long double. */
#include "fovea/kernels.h"
#include "reference/reference.h"

#include <math.h>

/* Kahan: the sum of 10^7 f64 must err less than R(n). */
typedef struct running {
    uint64_t word;
    long double sum, lost;
} running;

static void add(running *r, const fovea_view *x, int64_t i) {
    r->word += fovea_view_read_bits(x, i);
    long double term = (long double)fovea_view_read(x, i), next = r->sum + (term - r->lost);
    r->lost = next - r->sum - (term - r->lost);
    if (isnan(r->lost)) r->lost = 0; /* an infinite sum has lost nothing */
    r->sum = next;
}

static void write(const running *r, const fovea_view *y, int64_t i, double *values) {
    uint64_t all = UINT64_MAX >> (64 - 8 * fovea_dtype_size(y->dtype));
    if (fovea_dtype_is_word(y->dtype))
        fovea_bits(values)[i] = r->word & all;
    else
        values[i] = (double)r->sum;
}

static bool scan(const fovea_problem *problem, int64_t length, bool inclusive, double *values) {
    const fovea_view *x = &problem->views[0], *y = &problem->views[1];
    int64_t count = fovea_view_elements(x);
    running r = {0};
    for (int64_t i = 0; i < count; i++) {
        if (i % length == 0) r = (running){0};
        if (inclusive) add(&r, x, i);
        write(&r, y, i, values);
        if (!inclusive) add(&r, x, i);
    }
    return true;
}

#define SCAN(name, NAME, inclusive)                                                                \
    static bool name(const fovea_problem *problem, double *const outputs[]) {                      \
        const fovea_##name##_options *options = problem->options;                                  \
        const fovea_view *x = &problem->views[0];                                                  \
        bool all = options->over == NAME##_OVER_ALL;                                               \
        int64_t length = all ? fovea_view_elements(x) : x->shape[x->rank - 1];                     \
        return scan(problem, length, inclusive, outputs[1]);                                       \
    }
SCAN(scan_exclusive, FOVEA_SCAN_EXCLUSIVE, false)
SCAN(scan_inclusive, FOVEA_SCAN_INCLUSIVE, true)

static bool compact_mask(const fovea_problem *problem, double *const outputs[]) {
    const fovea_view *x = &problem->views[0], *mask = &problem->views[1];
    int64_t kept = 0, count = fovea_view_elements(x);
    for (int64_t i = 0; i < count; i++)
        if (fovea_view_read(mask, i) != 0)
            fovea_bits(outputs[2])[kept++] = fovea_view_read_bits(x, i);
    return outputs[3][0] = (double)kept, true;
}

/* The threshold has the dtype of x, so that integers beyond 2^53 compare as they are. */
static bool is_above(const fovea_view *x, int64_t i, double threshold) {
    char rounded[8];
    int64_t element, limit;
    fovea_write_element(rounded, x->dtype, threshold);
    if (x->dtype != FOVEA_I64) return fovea_view_read(x, i) > fovea_read_element(rounded, x->dtype);
    memcpy(&element, fovea_view_address(x, i), sizeof element);
    memcpy(&limit, rounded, sizeof limit);
    return element > limit;
}

static bool compact_if(const fovea_problem *problem, double *const outputs[]) {
    double threshold = fovea_problem_parameter(problem, "threshold");
    const fovea_view *x = &problem->views[0];
    int64_t kept = 0, count = fovea_view_elements(x);
    for (int64_t i = 0; i < count; i++)
        if (is_above(x, i, threshold)) fovea_bits(outputs[1])[kept++] = fovea_view_read_bits(x, i);
    return outputs[2][0] = (double)kept, true;
}

const fovea_reference fovea_references_scans[] = {
    {"scan_exclusive", scan_exclusive}, {"scan_inclusive", scan_inclusive},
    {"compact_mask", compact_mask},     {"compact_if", compact_if},
    {"fused_scan_compact", compact_if}, {0}};
