/* Domain 20, correlation, in long double. */
#include "reference/reference.h"
#include "runtime/parallel.h"
#include "runtime/processor.h"

#include <math.h>
#include <stdlib.h>

/* Of a slice: how many, means (or sums), and sums of (centred) products. */
typedef struct moments {
    long double n, x, y, xy, xx, yy;
} moments;

static long double read(const fovea_problem *problem, int argument, const fovea_slice *slice,
                        int64_t k) {
    return (long double)fovea_view_read(&problem->views[argument], fovea_slice_element(slice, k));
}

/* The mean; of equal elements that element, so that their variance is 0. */
static long double mean(const fovea_problem *problem, int argument, const fovea_slice *slice) {
    long double sum = 0;
    bool equal = slice->count > 0;
    for (int64_t k = 0; k < slice->count; k++) {
        sum += read(problem, argument, slice, k);
        equal = equal && read(problem, argument, slice, k) == read(problem, argument, slice, 0);
    }
    return equal ? read(problem, argument, slice, 0) : sum / (long double)slice->count;
}

static moments centred(const fovea_problem *problem, int64_t number) {
    fovea_slice slice = fovea_problem_slice(problem, number);
    moments m = {.n = slice.count, .x = mean(problem, 0, &slice), .y = mean(problem, 1, &slice)};
    for (int64_t k = 0; k < slice.count; k++) {
        long double dx = read(problem, 0, &slice, k) - m.x, dy = read(problem, 1, &slice, k) - m.y;
        m.xy += dx * dy, m.xx += dx * dx, m.yy += dy * dy;
    }
    return m;
}

static moments sums(const fovea_problem *problem, int64_t number) {
    fovea_slice slice = fovea_problem_slice(problem, number);
    moments m = {.n = slice.count};
    for (int64_t k = 0; k < slice.count; k++) {
        long double x = read(problem, 0, &slice, k), y = read(problem, 1, &slice, k);
        m.x += x, m.y += y, m.xy += x * y;
    }
    return m;
}

static double correlation(const moments *m) {
    if (m->xx == 0 || m->yy == 0) return NAN;
    double r = (double)(m->xy / (sqrtl(m->xx) * sqrtl(m->yy)));
    return isnan(r) ? r : fmin(fmax(r, -1), 1);
}

static double covariance_of(const fovea_problem *problem, const moments *m) {
    long double divisor = m->n - (long double)fovea_problem_parameter(problem, "correction");
    return (double)(m->xy / (divisor > 0 ? divisor : 0));
}

#define OF_MOMENTS(name, moments_of, expression)                                                   \
    static bool name(const fovea_problem *problem, double *const outputs[]) {                      \
        int64_t count = fovea_view_elements(&problem->views[2]);                                   \
        for (int64_t i = 0; i < count; i++) {                                                      \
            moments m = moments_of(problem, i);                                                    \
            outputs[2][i] = (double)(expression);                                                  \
        }                                                                                          \
        return true;                                                                               \
    }

/* ---- Matrices of columns ------------------------------------------------------------------------ */

/* Column j of a dense matrix of n rows and p columns, less its mean; equal elements become 0. */
static void centre(const double *x, int64_t n, int64_t p, int64_t j, long double *to) {
    long double sum = 0;
    bool same = true;
    for (int64_t k = 0; k < n; k++) {
        sum += (long double)x[k * p + j];
        same = same && x[k * p + j] == x[j];
    }
    for (int64_t k = 0; k < n; k++)
        to[k] = (long double)x[k * p + j] - (same ? (long double)x[j] : sum / (long double)n);
}

static double entry(const fovea_problem *problem, bool covariance, const long double *a,
                    const long double *b, int64_t n) {
    moments m = {.n = (long double)n};
    for (int64_t k = 0; k < n; k++) m.xy += a[k] * b[k];
    if (covariance) return covariance_of(problem, &m);
    for (int64_t k = 0; k < n; k++) m.xx += a[k] * a[k], m.yy += b[k] * b[k];
    return a == b && m.xx > 0 && isfinite(m.xx) ? 1 : correlation(&m);
}

typedef struct columns {
    const fovea_problem *problem;
    bool covariance;
    const double *x;
    long double *d; /* the columns of x, centred */
    int64_t n, p;
    double *out;
} columns;

static void centre_columns(void *task, int64_t first, int64_t end, int thread) {
    const columns *t = task;
    (void)thread;
    for (int64_t j = first; j < end; j++) centre(t->x, t->n, t->p, j, t->d + j * t->n);
}

/* Rows of the matrix, each up to the diagonal, and their mirror images. */
static void fill_rows(void *task, int64_t first, int64_t end, int thread) {
    const columns *t = task;
    (void)thread;
    for (int64_t i = first; i < end; i++)
        for (int64_t j = 0; j <= i; j++)
            t->out[i * t->p + j] = t->out[j * t->p + i] =
                entry(t->problem, t->covariance, t->d + i * t->n, t->d + j * t->n, t->n);
}

static bool matrix_of_columns(const fovea_problem *problem, bool covariance, double *out) {
    int64_t batches = fovea_problem_extent(problem, "B"), n = fovea_problem_extent(problem, "N");
    int64_t p = fovea_problem_extent(problem, "P");
    double *x = malloc(((size_t)(batches * n * p) + 1) * sizeof *x);
    long double *d = malloc(((size_t)(n * p) + 1) * sizeof *d);
    int threads = n * p > 1 << 20 ? fovea_processor_get()->threads : 1;
    if (x) fovea_view_read_all(&problem->views[0], x);
    for (int64_t b = 0; x && d && b < batches; b++, out += p * p) {
        columns task = {problem, covariance, x + b * n * p, d, n, p, out};
        fovea_parallel(p, 1, threads, centre_columns, &task);
        fovea_parallel(p, 1, threads, fill_rows, &task);
    }
    bool enough = x && d;
    return free(x), free(d), enough;
}

static bool reduce_covariance_matrix(const fovea_problem *problem, double *const outputs[]) {
    return matrix_of_columns(problem, true, outputs[1]);
}
static bool reduce_pearson_pairwise(const fovea_problem *problem, double *const outputs[]) {
    return matrix_of_columns(problem, false, outputs[1]);
}

OF_MOMENTS(reduce_correlation, centred, correlation(&m))
OF_MOMENTS(reduce_covariance, centred, covariance_of(problem, &m))
OF_MOMENTS(reduce_weighted_sum, sums, m.xy)
OF_MOMENTS(reduce_weighted_mean, sums, m.y == 0 ? NAN : m.xy / m.y)

const fovea_reference fovea_references_correlation[] = {
    {"reduce_correlation", reduce_correlation},
    {"reduce_covariance", reduce_covariance},
    {"reduce_weighted_sum", reduce_weighted_sum},
    {"reduce_weighted_mean", reduce_weighted_mean},
    {"reduce_covariance_matrix", reduce_covariance_matrix},
    {"reduce_pearson_pairwise", reduce_pearson_pairwise},
    {0}};
