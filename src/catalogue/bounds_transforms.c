/* Bounds and checks of domains 9 and 10: transforms are judged against the norms of whole rows. */
#include "catalogue/bounds.h"

#include <float.h>
#include <math.h>

/* ---- Transforms ----------------------------------------------------------------------------- */

/* Bluestein's transform, for prime factors above 7, may err four times as much. */
static double length_factor(int64_t n) {
    for (int f = 2; f <= 7; f++)
        while (n > 0 && n % f == 0) n /= f;
    return n == 1 ? 1 : 4;
}

static double epsilon_of(const fovea_problem *problem) {
    return fovea_epsilon(fovea_compute_dtype(problem->dtype));
}

static bool is_inverse(const fovea_problem *problem) {
    return strcmp(problem->kernel->name, "fft") == 0 &&
           fovea_problem_parameter(problem, "direction") == FOVEA_FFT_DIRECTION_INVERSE;
}

/* norm2 of row `row` of a view, whose rows have `count` values. */
static double norm_of_row(const fovea_view *view, int64_t row, int64_t count) {
    double square = 0;
    for (int64_t i = row * count; i < (row + 1) * count; i++) {
        double x = fovea_view_read(view, i);
        square += x * x;
    }
    return sqrt(square);
}

static int64_t values_of_row(const fovea_view *view) {
    return view->shape[view->rank - 1] * fovea_dtype_parts(view->dtype);
}

double fovea_norm_bound_fft(const fovea_problem *problem, int64_t row, const double *expected,
                            int64_t count) {
    double n = (double)fovea_problem_extent(problem, "N"), square = 0;
    (void)row;
    for (int64_t i = 0; i < count; i++) square += expected[i] * expected[i];
    return length_factor((int64_t)n) * epsilon_of(problem) * sqrt(log2(2 * n) * square);
}

void fovea_bound_fft(const fovea_problem *problem, int output, const double *expected,
                     double *bound) {
    const fovea_view *z = &problem->views[0], *result = &problem->views[output];
    int64_t count = fovea_view_values(result), row_values = values_of_row(result);
    double n = (double)fovea_problem_extent(problem, "N");
    double factor = length_factor((int64_t)n) * 2 * epsilon_of(problem) * log2(2 * n);
    for (int64_t row = 0; row * row_values < count; row++) {
        const double *values = expected + row * row_values;
        double scale = norm_of_row(z, row, values_of_row(z)) / (is_inverse(problem) ? n : 1);
        for (int64_t i = 0; i < row_values; i += 2)
            scale = fmax(scale, hypot(values[i], values[i + 1]));
        for (int64_t i = 0; i < row_values; i++) bound[row * row_values + i] = factor * scale;
    }
}

static fovea_status no_length(const fovea_problem *problem, const char *name,
                              fovea_message *message) {
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s: %s has extent 0 in its last dimension",
                      problem->kernel->name, name);
}

fovea_status fovea_check_fft(const fovea_problem *problem, fovea_message *message) {
    int64_t n = fovea_problem_extent(problem, "N");
    const char *name = problem->kernel->arguments[0].name;
    if (n == 0) return no_length(problem, name, message);
    double radix = fovea_problem_parameter(problem, "radix");
    if (!(radix > 0)) return FOVEA_OK;
    bool power = (n & (n - 1)) == 0;
    if (power && (radix == FOVEA_FFT_RADIX_TWO || __builtin_ctzll((uint64_t)n) % 2 == 0))
        return FOVEA_OK;
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                      "%s has extent %lld; a power of %d is wanted", name, (long long)n,
                      radix == FOVEA_FFT_RADIX_TWO ? 2 : 4);
}

/* ---- Signals -------------------------------------------------------------------------------- */

fovea_status fovea_check_signal(const fovea_problem *problem, fovea_message *message) {
    for (int a = 0; a < 2 && problem->kernel->arguments[a].role == FOVEA_INPUT; a++) {
        const fovea_view *view = &problem->views[a];
        int64_t n = view->shape[view->rank - 1];
        if (n == 0) return no_length(problem, problem->kernel->arguments[a].name, message);
    }
    return FOVEA_OK;
}

/* Adds to the sums of a row what each element of x contributes by some taps; tap k of x_i belongs to y at
 * i + shift + step k. */
static void add_magnitudes(const fovea_view *x, int64_t row, const double *weights, int64_t taps,
                           int64_t shift, int64_t step, double *sums, int64_t m) {
    int64_t n = x->shape[x->rank - 1];
    for (int64_t i = 0; i < n; i++) {
        double magnitude = fabs(fovea_view_read(x, row * n + i));
        for (int64_t k = 0; k < taps; k++) {
            int64_t e = i + shift + step * k;
            if (e >= 0 && e < m) sums[e] += weights[k] * magnitude;
        }
    }
}

/* Of each element the sum of the absolute terms, those outside of x being 0. */
void fovea_bound_convolution(const fovea_problem *problem, int output, const double *expected,
                             double *bound) {
    enum { BLOCK = 64 };
    const fovea_view *x = &problem->views[0], *h = &problem->views[1];
    const fovea_view *y = &problem->views[output];
    int64_t taps = h->shape[0], m = y->shape[y->rank - 1], count = fovea_view_elements(y);
    bool filter = strcmp(problem->kernel->name, "fir_filter") == 0;
    double mode = fovea_problem_parameter(problem, "mode"), weights[BLOCK];
    int64_t padding = mode == FOVEA_CONV1D_MODE_FULL   ? taps - 1
                      : mode == FOVEA_CONV1D_MODE_SAME ? taps / 2
                                                       : 0;
    double factor = (8 + sqrt((double)taps)) * fovea_epsilon(FOVEA_F32);
    int64_t step = filter ? 1 : -1;
    (void)expected;
    for (int64_t e = 0; e < count; e++) bound[e] = 0;
    for (int64_t k = 0; k < taps; k += BLOCK) {
        int64_t some = taps - k < BLOCK ? taps - k : BLOCK;
        for (int64_t j = 0; j < some; j++) weights[j] = factor * fabs(fovea_view_read(h, k + j));
        for (int64_t row = 0; row * m < count; row++)
            add_magnitudes(x, row, weights, some, (filter ? 0 : padding) + step * k, step,
                           bound + row * m, m);
    }
}

void fovea_bound_window(const fovea_problem *problem, int output, const double *expected,
                        double *bound) {
    int64_t count = fovea_view_elements(&problem->views[output]);
    (void)expected;
    for (int64_t i = 0; i < count; i++)
        bound[i] = 4 * fovea_epsilon(FOVEA_F32) * fabs(fovea_view_read(&problem->views[0], i));
}

/* log2(2 L), L the next power of two of what a linear convolution takes. */
static double logarithm(const fovea_problem *problem) {
    const fovea_view *a = &problem->views[0], *b = &problem->views[1];
    int64_t n = a->shape[a->rank - 1] + b->shape[b->rank - 1];
    return 1 + ceil(log2((double)n));
}

/* What of the whole convolution the output leaves out, squared: the elements from N on. */
static double tail_square(const fovea_problem *problem, int64_t row) {
    const fovea_view *x = &problem->views[0], *h = &problem->views[1];
    int64_t n = x->shape[x->rank - 1], taps = h->shape[0];
    double square = 0;
    for (int64_t i = n; i < n + taps - 1; i++) {
        double sum = 0;
        for (int64_t k = i - n + 1; k < taps && k <= i; k++)
            sum += fovea_view_read(h, k) * fovea_view_read(x, row * n + i - k);
        square += sum * sum;
    }
    return square;
}

/* Of the whole result: an autocorrelation has negative lags too. */
double fovea_norm_bound_transformed(const fovea_problem *problem, int64_t row,
                                    const double *expected, int64_t count) {
    double square = 0;
    for (int64_t i = 0; i < count; i++) square += expected[i] * expected[i];
    if (strcmp(problem->kernel->name, "fft_conv1d") == 0) square += tail_square(problem, row);
    if (strcmp(problem->kernel->name, "autocorrelation") == 0)
        square = 2 * square - expected[0] * expected[0];
    return 2 * fovea_epsilon(FOVEA_F32) * sqrt(logarithm(problem) * square);
}

static bool is_small_integers(const fovea_view *view) {
    int64_t count = fovea_view_elements(view);
    for (int64_t i = 0; i < count; i++) {
        double x = fovea_view_read(view, i);
        if (x != 0 && fabs(x) != 1) return false;
    }
    return true;
}

void fovea_bound_transformed(const fovea_problem *problem, int output, const double *expected,
                             double *bound) {
    const fovea_view *x = &problem->views[0], *result = &problem->views[output];
    const fovea_view *h = output == 1 ? x : &problem->views[1];
    int64_t count = fovea_view_elements(result), m = result->shape[result->rank - 1];
    double factor = 4 * fovea_epsilon(FOVEA_F32) * logarithm(problem);
    double most = is_small_integers(x) && is_small_integers(h) ? 0.499 : INFINITY;
    (void)expected;
    for (int64_t row = 0; row * m < count; row++) {
        int64_t other = h->rank == 1 ? 0 : row;
        double norms =
            norm_of_row(x, row, values_of_row(x)) * norm_of_row(h, other, values_of_row(h));
        for (int64_t i = row * m; i < (row + 1) * m; i++) bound[i] = fmin(factor * norms, most);
    }
}
