/* Domain 9, fft: row by row through the transform, of doubles in long double. */
#include "reference/reference.h"
#include "reference/transform.h"

#include <stdlib.h>

static bool is_wide(const fovea_view *view) {
    return fovea_dtype_of_part(view->dtype) == FOVEA_F64;
}

static bool fft(const fovea_problem *problem, double *const outputs[]) {
    const fovea_fft_options *options = problem->options;
    const fovea_view *z = &problem->views[0];
    int64_t n = z->shape[z->rank - 1], values = fovea_view_values(z);
    bool inverse = options->direction == FOVEA_FFT_DIRECTION_INVERSE, enough = true;
    double divisor = inverse ? (double)n : 1;
    for (int64_t first = 0; enough && first < values; first += 2 * n) {
        double *row = outputs[1] + first;
        for (int64_t j = 0; j < 2 * n; j++) row[j] = fovea_view_read(z, first + j);
        enough = fovea_reference_transform(row, n, inverse ? 1 : -1, is_wide(z));
        for (int64_t k = 0; k < 2 * n; k++) row[k] /= divisor;
    }
    return enough;
}

static bool fft_real(const fovea_problem *problem, double *const outputs[]) {
    const fovea_view *x = &problem->views[0];
    int64_t n = x->shape[x->rank - 1], m = n / 2 + 1, rows = fovea_view_elements(x) / n;
    double *row = malloc((size_t)n * 2 * sizeof *row);
    bool enough = row != NULL;
    for (int64_t r = 0; enough && r < rows; r++) {
        for (int64_t j = 0; j < n; j++)
            row[2 * j] = fovea_view_read(x, r * n + j), row[2 * j + 1] = 0;
        enough = fovea_reference_transform(row, n, -1, is_wide(x));
        memcpy(outputs[1] + r * 2 * m, row, (size_t)m * 2 * sizeof *row);
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
