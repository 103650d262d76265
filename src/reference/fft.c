/* Domain 9, fft: row by row through the transform in long double. */
#include "reference/reference.h"
#include "reference/transform.h"

#include <stdlib.h>

static bool fft(const fovea_problem *problem, double *const outputs[]) {
    const fovea_fft_options *options = problem->options;
    const fovea_view *z = &problem->views[0];
    int64_t n = z->shape[z->rank - 1], rows = fovea_view_elements(z) / n;
    bool inverse = options->direction == FOVEA_FFT_DIRECTION_INVERSE;
    long double divisor = inverse ? (long double)n : 1;
    fovea_complex *row = malloc((size_t)n * sizeof *row);
    bool enough = row != NULL;
    for (int64_t r = 0; enough && r < rows; r++) {
        for (int64_t j = 0; j < n; j++)
            row[j] = (fovea_complex){(long double)fovea_view_read(z, 2 * (r * n + j)),
                                     (long double)fovea_view_read(z, 2 * (r * n + j) + 1)};
        enough = fovea_reference_transform(row, n, inverse ? 1 : -1);
        for (int64_t k = 0; k < n; k++) {
            outputs[1][2 * (r * n + k)] = (double)(row[k].re / divisor);
            outputs[1][2 * (r * n + k) + 1] = (double)(row[k].im / divisor);
        }
    }
    free(row);
    return enough;
}

static bool fft_real(const fovea_problem *problem, double *const outputs[]) {
    const fovea_view *x = &problem->views[0];
    int64_t n = x->shape[x->rank - 1], m = n / 2 + 1, rows = fovea_view_elements(x) / n;
    fovea_complex *row = malloc((size_t)n * sizeof *row);
    bool enough = row != NULL;
    for (int64_t r = 0; enough && r < rows; r++) {
        for (int64_t j = 0; j < n; j++)
            row[j] = (fovea_complex){(long double)fovea_view_read(x, r * n + j), 0};
        enough = fovea_reference_transform(row, n, -1);
        for (int64_t k = 0; k < m; k++) {
            outputs[1][2 * (r * m + k)] = (double)row[k].re;
            outputs[1][2 * (r * m + k) + 1] = (double)row[k].im;
        }
    }
    free(row);
    return enough;
}

static bool spectral_power(const fovea_problem *problem, double *const outputs[]) {
    int64_t count = fovea_view_elements(&problem->views[1]);
    for (int64_t i = 0; i < count; i++) {
        long double re = (long double)fovea_view_read(&problem->views[0], 2 * i);
        long double im = (long double)fovea_view_read(&problem->views[0], 2 * i + 1);
        outputs[1][i] = (double)(re * re + im * im);
    }
    return true;
}

const fovea_reference fovea_references_fft[] = {
    {"fft", fft}, {"spectral_power", spectral_power}, {"fft_real", fft_real}, {0}};
