/* Domain 10, signal: direct sums in double; long convolutions by the transform. */
#include "reference/reference.h"
#include "reference/transform.h"

#include <math.h>
#include <stdlib.h>

static int64_t length_of(const fovea_view *view) { return view->shape[view->rank - 1]; }

/* y_i = sum over k of h[k or taps-1-k] x[i - padding + k], x = 0 outside. */
static bool correlate(const fovea_problem *problem, double *const outputs[], int64_t padding,
                      bool reversed) {
    const fovea_view *x = &problem->views[0], *h = &problem->views[1], *y = &problem->views[2];
    int64_t n = length_of(x), taps = length_of(h), m = length_of(y);
    double *values = malloc((size_t)(n + taps) * sizeof *values), *weights = values + n;
    if (!values) return false;
    for (int64_t k = 0; k < taps; k++) weights[k] = fovea_view_read(h, reversed ? taps - 1 - k : k);
    for (int64_t row = 0; row * m < fovea_view_elements(y); row++) {
        for (int64_t i = 0; i < n; i++) values[i] = fovea_view_read(x, row * n + i);
        for (int64_t e = 0; e < m; e++) {
            double sum = 0;
            for (int64_t k = 0; k < taps; k++) {
                int64_t i = e - padding + k;
                sum += weights[k] * (i >= 0 && i < n ? values[i] : 0);
            }
            outputs[2][row * m + e] = sum;
        }
    }
    free(values);
    return true;
}

static bool conv1d(const fovea_problem *problem, double *const outputs[]) {
    const fovea_conv1d_options *options = problem->options;
    int64_t taps = length_of(&problem->views[1]);
    int64_t padding = options->mode == FOVEA_CONV1D_MODE_FULL   ? taps - 1
                      : options->mode == FOVEA_CONV1D_MODE_SAME ? taps / 2
                                                                : 0;
    return correlate(problem, outputs, padding, false);
}

static bool fir_filter(const fovea_problem *problem, double *const outputs[]) {
    return correlate(problem, outputs, length_of(&problem->views[1]) - 1, true);
}

/* With v = 1 - cos a the windows are 0.5 v, 0.08 + 0.46 v and v (0.18 + 0.16 v), 0 at their ends. */
static bool window_apply(const fovea_problem *problem, double *const outputs[]) {
    const fovea_window_apply_options *options = problem->options;
    const fovea_view *x = &problem->views[0];
    int64_t n = length_of(x), count = fovea_view_elements(x);
    for (int64_t e = 0; e < count; e++) {
        double sine = sin(3.14159265358979323846 * (double)(e % n) / (double)(n - 1));
        double v = e % n == n - 1 ? 0 : 2 * sine * sine, w = 0.5 * v;
        if (options->window == FOVEA_WINDOW_APPLY_WINDOW_HAMMING) w = 0.08 + 0.46 * v;
        if (options->window == FOVEA_WINDOW_APPLY_WINDOW_BLACKMAN) w = v * (0.18 + 0.16 * v);
        outputs[1][e] = fovea_view_read(x, e) * (n == 1 ? 1 : w);
    }
    return true;
}

/* The transform of a row of a view on a circle of `length` numbers. NULL: no memory. */
static double *transformed_row(const fovea_view *view, int64_t row, int64_t length) {
    double *z = calloc((size_t)length, 2 * sizeof *z);
    for (int64_t i = 0; z && i < length_of(view); i++)
        z[2 * i] = fovea_view_read(view, row * length_of(view) + i);
    if (z && fovea_reference_transform(z, length, -1, false)) return z;
    free(z);
    return NULL;
}

/* a becomes the numbers whose transform is the product of a and b, or of a and b's conjugate. */
static bool multiply(double *a, const double *b, int64_t length, bool conjugate) {
    for (int64_t k = 0; k < length; k++) {
        double u = a[2 * k], v = a[2 * k + 1], re = b[2 * k], im = b[2 * k + 1];
        if (conjugate) im = -im;
        a[2 * k] = u * re - v * im, a[2 * k + 1] = u * im + v * re;
    }
    return fovea_reference_transform(a, length, 1, false);
}

/* result_i = sum_k x_(i-k+shift) h_k, or with h_(-k) if `reversed`, i < m, on a circle that is long
 * enough. */
static bool convolve(const fovea_problem *problem, const fovea_view *h, double *result, int64_t m,
                     bool reversed, int64_t shift) {
    const fovea_view *x = &problem->views[0];
    int64_t length = 1, rows = fovea_view_elements(x) / length_of(x);
    bool enough = true;
    while (length < length_of(x) + length_of(h)) length *= 2;
    for (int64_t r = 0; r < rows && enough; r++) {
        double *a = transformed_row(x, r, length);
        double *b = h == x ? a : transformed_row(h, h->rank == 1 ? 0 : r, length);
        enough = a && b && multiply(a, b, length, reversed);
        for (int64_t i = 0; enough && i < m; i++)
            result[r * m + i] = a[2 * ((i - shift + length) % length)] / (double)length;
        if (b != a) free(b);
        free(a);
    }
    return enough;
}

static bool fft_conv1d(const fovea_problem *problem, double *const outputs[]) {
    int64_t m = length_of(&problem->views[2]);
    return convolve(problem, &problem->views[1], outputs[2], m, false, 0);
}

static bool autocorrelation(const fovea_problem *problem, double *const outputs[]) {
    int64_t m = length_of(&problem->views[1]);
    return convolve(problem, &problem->views[0], outputs[1], m, true, 0);
}

static bool cross_correlation(const fovea_problem *problem, double *const outputs[]) {
    int64_t m = length_of(&problem->views[2]), shift = length_of(&problem->views[1]) - 1;
    return convolve(problem, &problem->views[1], outputs[2], m, true, shift);
}

const fovea_reference fovea_references_signal[] = {{"conv1d", conv1d},
                                                   {"window_apply", window_apply},
                                                   {"fir_filter", fir_filter},
                                                   {"fft_conv1d", fft_conv1d},
                                                   {"autocorrelation", autocorrelation},
                                                   {"cross_correlation", cross_correlation},
                                                   {0}};
