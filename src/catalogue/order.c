/* The order of elements, and what the rows of layout, scans, sorting and the histogram name. */
#include "catalogue/order.h"

#include <math.h>
#include <stdlib.h>

/* ---- Order ---------------------------------------------------------------------------------- */

static bool is_nan(uint64_t bits, fovea_dtype dtype) {
    if (dtype == FOVEA_F32) return (bits & 0x7fffffff) > 0x7f800000;
    return dtype == FOVEA_F64 && (bits & ~(UINT64_C(1) << 63)) > UINT64_C(0x7ff0000000000000);
}

uint64_t fovea_order_key(uint64_t bits, fovea_dtype dtype) {
    size_t size = fovea_dtype_size(dtype);
    uint64_t sign = UINT64_C(1) << (8 * size - 1), all = sign | (sign - 1);
    if (is_nan(bits, dtype)) return UINT64_MAX;
    if (fovea_dtype_is_float(dtype)) return bits & sign ? ~bits & all : bits | sign;
    return dtype == FOVEA_I32 || dtype == FOVEA_I64 ? bits ^ sign : bits;
}

static int compare_numbers(const void *a, const void *b) {
    long double x = *(const long double *)a, y = *(const long double *)b;
    return (x > y) - (x < y);
}

/* Exact, of 64-bit integers too. */
static long double read_number(const fovea_view *view, int64_t number) {
    if (view->dtype != FOVEA_I64) return fovea_view_read(view, number);
    int64_t element;
    memcpy(&element, fovea_view_address(view, number), sizeof element);
    return (long double)element;
}

long double *fovea_sorted_slice(const fovea_view *x, const fovea_slice *slice, bool *nan) {
    long double *sorted = malloc(((size_t)slice->count + 1) * sizeof *sorted);
    *nan = false;
    for (int64_t k = 0; sorted && k < slice->count; k++) {
        sorted[k] = read_number(x, fovea_slice_element(slice, k));
        *nan = *nan || isnan(sorted[k]);
    }
    if (sorted && !*nan) qsort(sorted, (size_t)slice->count, sizeof *sorted, compare_numbers);
    return sorted;
}

fovea_quantile fovea_quantile_place(int64_t n, double q) {
    double h = (double)(n - 1) * q / 100;
    int64_t below = (int64_t)h;
    if (below > n - 1) below = n - 1;
    return (fovea_quantile){below, below + 1 < n ? below + 1 : below, h - (double)below};
}

double fovea_histogram_edge(fovea_dtype dtype, double lo, double hi, int64_t bins, int64_t i) {
    return i == bins ? hi : fovea_round_to(dtype, lo + (double)i * ((hi - lo) / (double)bins));
}

/* ---- Checks --------------------------------------------------------------------------------- */

fovea_status fovea_check_repack(const fovea_problem *problem, fovea_message *message) {
    int64_t extent = fovea_problem_extent(problem, "Four");
    if (extent == 4) return FOVEA_OK;
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                      "%s: x has %lld values of each element; it takes 4", problem->kernel->name,
                      (long long)extent);
}

fovea_status fovea_check_topk(const fovea_problem *problem, fovea_message *message) {
    int64_t k = fovea_problem_extent(problem, "K"), n = fovea_problem_extent(problem, "N");
    if (k <= n) return FOVEA_OK;
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                      "values has room for %lld of the largest; x has %lld in a row", (long long)k,
                      (long long)n);
}

enum { RADIX_PAYLOAD = 2, RADIX_SORTED_PAYLOAD = 3 };

fovea_status fovea_check_payload(const fovea_problem *problem, fovea_message *message) {
    bool given = fovea_given(problem, RADIX_PAYLOAD);
    if (given != fovea_given(problem, RADIX_SORTED_PAYLOAD))
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "options.%s is given without options.%s",
                          given ? "payload" : "sorted_payload",
                          given ? "sorted_payload" : "payload");
    fovea_dtype in = problem->views[RADIX_PAYLOAD].dtype;
    fovea_dtype out = problem->views[RADIX_SORTED_PAYLOAD].dtype;
    if (!given || in == out) return FOVEA_OK;
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                      "payload is %s, sorted_payload is %s; they must agree", fovea_dtype_name(in),
                      fovea_dtype_name(out));
}

fovea_status fovea_check_percentiles(const fovea_problem *problem, fovea_message *message) {
    const fovea_view *q = fovea_problem_view(problem, "q");
    int64_t count = fovea_readable(problem) ? fovea_view_elements(q) : 0;
    for (int64_t i = 0; i < count; i++) {
        double value = fovea_view_read(q, i);
        if (!(value >= 0 && value <= 100))
            return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "q[%lld] is %g; it is in [0, 100]",
                              (long long)i, value);
    }
    return FOVEA_OK;
}

fovea_status fovea_check_histogram(const fovea_problem *problem, fovea_message *message) {
    int64_t bins = fovea_problem_extent(problem, "Bins");
    int64_t edges = fovea_problem_extent(problem, "E");
    double lo = fovea_problem_parameter(problem, "lo"), hi = fovea_problem_parameter(problem, "hi");
    if (bins < 1 || bins > INT32_MAX / 4)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "counts has %lld elements; there are 1 to %d bins", (long long)bins,
                          INT32_MAX / 4);
    if (edges >= 0 && edges != bins + 1)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "edges has %lld elements; %lld bins have %lld", (long long)edges,
                          (long long)bins, (long long)bins + 1);
    if (isinf(fovea_round_to(problem->dtype, lo)) || isinf(fovea_round_to(problem->dtype, hi)))
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "options.lo is %g, options.hi is %g; they are finite in %s", lo, hi,
                          fovea_dtype_name(problem->dtype));
    if (lo > hi)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "options.lo is %g, which is more than options.hi, %g", lo, hi);
    return FOVEA_OK;
}

/* ---- Cases ---------------------------------------------------------------------------------- */

static int64_t *extent_of(fovea_case *c, const char *letter) {
    return &c->extents[fovea_kernel_letter(c->index, letter)];
}

void fovea_repack_defaults(fovea_case *c) { *extent_of(c, "Four") = 4; }

void fovea_topk_defaults(fovea_case *c) {
    if (*extent_of(c, "K") > *extent_of(c, "N")) *extent_of(c, "K") = *extent_of(c, "N");
}

/* What is sorted has the dtype of what was given. */
void fovea_payload_defaults(fovea_case *c) {
    bool given = c->optional >> RADIX_PAYLOAD & 1;
    c->optional &= ~(1u << RADIX_SORTED_PAYLOAD);
    if (given) c->optional |= 1u << RADIX_SORTED_PAYLOAD;
    c->dtypes[RADIX_SORTED_PAYLOAD] = given ? c->dtypes[RADIX_PAYLOAD] : 0;
}

/* 4097 bins at most, which check draws from lengths; bounds in their order. */
void fovea_histogram_defaults(fovea_case *c) {
    int64_t *bins = extent_of(c, "Bins");
    if (*bins < 1) *bins = *bins < 0 ? 256 : 1;
    *extent_of(c, "E") = *bins + 1;
    double lo = fovea_case_parameter(c, "lo"), hi = fovea_case_parameter(c, "hi");
    if (lo > hi) fovea_case_set(c, "lo", hi), fovea_case_set(c, "hi", lo);
}

void fovea_fill_percentiles(const fovea_case *c, int argument, const fovea_view *view) {
    static const double usual[] = {25, 50, 75, 90, 99, 0, 100, 33.3, 50.05, 99.999};
    int64_t count = fovea_view_elements(view);
    (void)c, (void)argument;
    for (int64_t i = 0; i < count; i++)
        fovea_view_write(view, i, i < 10 ? usual[i] : (double)(i * 37 % 1001) / 10);
}

/* Half of q elements meet in each of p(p+1)/2 stages, q = 2^p. */
double fovea_bitonic_operations(const fovea_problem *problem) {
    double n = (double)fovea_problem_extent(problem, "N");
    double p = ceil(log2(fmax(n, 2)));
    return (double)fovea_problem_extent(problem, "R") * exp2(p) * p * (p + 1) / 4;
}

/* ---- Comparison ----------------------------------------------------------------------------- */

int64_t fovea_written_if(int output, double *const outputs[]) {
    return output == 1 ? (int64_t)outputs[2][0] : 1;
}

int64_t fovea_written_by_mask(int output, double *const outputs[]) {
    return output == 2 ? (int64_t)outputs[3][0] : 1;
}

static uint64_t *bits_of(double *values) { return (uint64_t *)(void *)values; }

void fovea_canonical_sort(const fovea_view *const views[], double *const values[]) {
    const fovea_view *y = views[1];
    uint64_t *bits = bits_of(values[1]);
    int64_t count = fovea_view_elements(y);
    for (int64_t i = 0; i < count; i++)
        if (is_nan(bits[i], y->dtype)) bits[i] = fovea_order_key(bits[i], y->dtype);
}

void fovea_canonical_stable(const fovea_view *const views[], double *const values[]) {
    if (!views[RADIX_SORTED_PAYLOAD]) fovea_canonical_sort(views, values);
}

typedef struct pair {
    uint64_t key, value;
} pair;

static int compare_pairs(const void *a, const void *b) {
    const pair *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return (x->value > y->value) - (x->value < y->value);
}

/* Pairs of equal keys by their bits. */
void fovea_canonical_pairs(const fovea_view *const views[], double *const values[]) {
    const fovea_view *keys = views[2];
    uint64_t *key = bits_of(values[2]), *value = bits_of(values[3]);
    int64_t count = fovea_view_elements(keys), row = keys->shape[keys->rank - 1];
    pair *pairs = malloc(((size_t)count + 1) * sizeof *pairs);
    for (int64_t i = 0; pairs && i < count; i++) pairs[i] = (pair){key[i], value[i]};
    for (int64_t first = 0, end; pairs && first < count; first = end) {
        uint64_t order = fovea_order_key(key[first], keys->dtype);
        end = first + 1;
        while (end % row != 0 && fovea_order_key(key[end], keys->dtype) == order) end++;
        qsort(pairs + first, (size_t)(end - first), sizeof *pairs, compare_pairs);
    }
    for (int64_t i = 0; pairs && i < count; i++) key[i] = pairs[i].key, value[i] = pairs[i].value;
    free(pairs);
}
