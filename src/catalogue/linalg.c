/* Bounds of products, the residual of triangular systems, and matrices that are drawn specially. */
#include "catalogue/linalg.h"

#include <math.h>
#include <stdlib.h>

/* M(n) of a sum: (8 + sqrt n) eps S on random signs. Each addition of a chain errs by at most eps/2 of
 * the sum so far, so terms of one sign add n/2 eps times their sum; together at most (8 + n/2) eps S. */
static double chain_error(fovea_dtype dtype, int64_t n, double magnitudes, double sum) {
    double count = (double)n, random = (8 + sqrt(count)) * magnitudes + count / 2 * fabs(sum);
    double most = (8 + count / 2) * magnitudes;
    return fovea_epsilon(dtype) * (random < most ? random : most);
}

void fovea_bound_nothing(const fovea_problem *problem, int output, const double *expected,
                         double *bound) {
    int64_t count = fovea_view_elements(&problem->views[output]);
    (void)expected;
    for (int64_t i = 0; i < count; i++) bound[i] = INFINITY;
}

void fovea_bound_spmv(const fovea_problem *problem, int output, const double *expected,
                      double *bound) {
    const fovea_view *value = &problem->views[0], *column = &problem->views[1];
    const fovea_view *rowptr = &problem->views[2], *x = &problem->views[3];
    for (int64_t r = 0; r < problem->views[output].shape[0]; r++) {
        int64_t first = (int64_t)fovea_view_read(rowptr, r);
        int64_t end = (int64_t)fovea_view_read(rowptr, r + 1);
        double sum = 0;
        for (int64_t i = first; i < end; i++)
            sum += fabs(fovea_view_read(value, i) *
                        fovea_view_read(x, (int64_t)fovea_view_read(column, i)));
        bound[r] = chain_error(problem->dtype, end - first, sum, expected[r]);
    }
}

/* ---- Products of matrices --------------------------------------------------------------------- */

/* The absolute values of a view's elements; NULL if memory is short. */
static double *magnitudes_of(const fovea_view *view) {
    size_t count = (size_t)fovea_view_elements(view);
    double *values = malloc((count + 1) * sizeof *values);
    if (values) fovea_view_read_all(view, values);
    for (size_t i = 0; values && i < count; i++) values[i] = fabs(values[i]);
    return values;
}

/* to[i, j] = sum over k of a[i, k] b[k, j], with the steps of a and b between rows and columns. */
static void multiply(const double *a, const int64_t step_a[2], const double *b,
                     const int64_t step_b[2], int64_t m, int64_t k, int64_t n, double *to) {
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) to[i * n + j] = 0;
        for (int64_t l = 0; l < k; l++) {
            double factor = a[i * step_a[0] + l * step_a[1]];
            const double *row = b + l * step_b[0];
            for (int64_t j = 0; j < n; j++) to[i * n + j] += factor * row[j * step_b[1]];
        }
    }
}

void fovea_bound_matvec(const fovea_problem *problem, int output, const double *expected,
                        double *bound) {
    const fovea_matvec_options *o = problem->options;
    int64_t batches = fovea_problem_extent(problem, "B"), rows = fovea_problem_extent(problem, "R");
    int64_t columns = fovea_problem_extent(problem, "C");
    double *a = magnitudes_of(&problem->views[0]), *x = magnitudes_of(&problem->views[1]);
    const int64_t step_a[2] = {o->transpose ? 1 : columns, o->transpose ? rows : 1},
                  one[2] = {1, 1};
    for (int64_t i = 0; i < batches * rows; i++) bound[i] = 0; /* all fail if memory is short */
    for (int64_t b = 0; a && x && b < batches; b++)
        multiply(a + b * rows * columns, step_a, x + b * columns, one, rows, columns, 1,
                 bound + b * rows);
    for (int64_t i = 0; i < batches * rows; i++)
        bound[i] = chain_error(problem->dtype, columns, bound[i], expected[i]);
    free(a), free(x);
    (void)output;
}

void fovea_bound_matmul(const fovea_problem *problem, int output, const double *expected,
                        double *bound) {
    const fovea_matmul_batched_options *o = problem->options;
    int64_t batches = fovea_problem_extent(problem, "B"), m = fovea_problem_extent(problem, "M");
    int64_t k = fovea_problem_extent(problem, "K"), n = fovea_problem_extent(problem, "N");
    double *a = magnitudes_of(&problem->views[0]), *b = magnitudes_of(&problem->views[1]);
    const int64_t step_a[2] = {o->transpose_a ? 1 : k, o->transpose_a ? m : 1};
    const int64_t step_b[2] = {o->transpose_b ? 1 : n, o->transpose_b ? k : 1};
    double alpha = fovea_round_to(problem->dtype, o->alpha);
    double beta = fovea_round_to(problem->dtype, o->beta);
    bool added = beta != 0 && fovea_given(problem, 2);
    for (int64_t i = 0; i < batches * m * n; i++) bound[i] = 0; /* all fail if memory is short */
    for (int64_t p = 0; a && b && p < batches; p++)
        multiply(a + p * m * k, step_a, b + p * k * n, step_b, m, k, n, bound + p * m * n);
    for (int64_t i = 0; i < batches * m * n; i++) {
        double c = added ? beta * fovea_view_read(&problem->views[2], i) : 0;
        bound[i] =
            chain_error(problem->dtype, k, fabs(alpha) * bound[i] + fabs(c), expected[i] - c);
    }
    free(a), free(b);
    (void)output;
}

/* ---- Triangular systems ----------------------------------------------------------------------- */

typedef struct triangle {
    double *l, *x, *b; /* dense; l NULL: memory is short */
    int64_t batches, n, m;
    bool upper, unit;
} triangle;

static triangle load_triangle(const fovea_problem *problem, const fovea_view *actual) {
    const fovea_triangular_solve_options *o = problem->options;
    triangle t = {.batches = fovea_problem_extent(problem, "B"),
                  .n = fovea_problem_extent(problem, "N"),
                  .m = fovea_problem_extent(problem, "M"),
                  .upper = o->triangle == FOVEA_TRIANGULAR_SOLVE_TRIANGLE_UPPER,
                  .unit = o->unit_diagonal};
    size_t square = (size_t)(t.batches * t.n * t.n), right = (size_t)(t.batches * t.n * t.m);
    t.l = malloc((square + 2 * right + 1) * sizeof *t.l);
    if (!t.l) return t;
    t.x = t.l + square, t.b = t.x + right;
    fovea_view_read_all(&problem->views[0], t.l);
    fovea_view_read_all(&problem->views[1], t.b);
    fovea_view_read_all(actual, t.x);
    return t;
}

/* b - L x at row i of right side j, and the sum of absolute values of its terms. */
static long double row_residual(const triangle *t, int64_t batch, int64_t i, int64_t j,
                                double *terms) {
    const double *l = t->l + (batch * t->n + i) * t->n, *x = t->x + batch * t->n * t->m + j;
    double b = t->b[(batch * t->n + i) * t->m + j];
    int64_t first = t->upper ? i : 0, end = t->upper ? t->n : i + 1;
    long double rest = b;
    *terms = fabs(b);
    for (int64_t k = first; k < end; k++) {
        double factor = k == i && t->unit ? 1 : l[k];
        rest -= (long double)factor * (long double)x[k * t->m];
        *terms += fabs(factor * x[k * t->m]);
    }
    return rest;
}

/* Where the solution is not finite from some row of a side on, neither is what follows. */
static bool solution_is_finite(const triangle *t, const double *expected, int64_t batch, int64_t i,
                               int64_t j) {
    int64_t first = t->upper ? i : 0, end = t->upper ? t->n : i + 1;
    for (int64_t k = first; k < end; k++)
        if (!isfinite(expected[(batch * t->n + k) * t->m + j])) return false;
    return true;
}

void fovea_residual_triangular(const fovea_problem *problem, int output, const fovea_view *actual,
                               const double *expected, double *error, double *bound) {
    triangle t = load_triangle(problem, actual);
    double factor = (8 + sqrt((double)t.n)) * fovea_epsilon(problem->dtype);
    (void)output;
    for (int64_t e = 0; e < t.batches * t.n * t.m; e++) {
        int64_t j = e % t.m, i = e / t.m % t.n, batch = e / t.m / t.n;
        double terms = 0, rest = t.l ? (double)row_residual(&t, batch, i, j, &terms) : INFINITY;
        bool excused = t.l && !isfinite(rest) && !solution_is_finite(&t, expected, batch, i, j);
        error[e] = excused ? 0 : isnan(rest) ? INFINITY : fabs(rest);
        bound[e] = excused || isinf(error[e]) ? 0 : factor * terms;
    }
    free(t.l);
}

/* ---- Drawn matrices ----------------------------------------------------------------------------- */

/* Indices spread evenly: raw words, mod the number of columns; rows begin where the values are shared
 * out evenly, so that entry i is of row floor(i R / Z). No columns: no entries. */
static void fill_sparse(const fovea_case *c, int argument, const fovea_view *view) {
    int64_t rows = c->extents[fovea_kernel_letter(c->index, "R")];
    int64_t columns = c->extents[fovea_kernel_letter(c->index, "C")];
    int64_t values = c->extents[fovea_kernel_letter(c->index, "Z")];
    for (int64_t i = 0; i < view->shape[0]; i++) {
        uint32_t words[4];
        fovea_case_words(c, argument, i / 4, words);
        double place = columns > 0 ? (double)(words[i % 4] % (uint64_t)columns) : 0;
        if (argument == 2) {
            place = rows > 0 && columns > 0 ? ceil((double)i * (double)values / (double)rows) : 0;
            /* Rows of very different lengths, some empty, where data is not the benchmark's. */
            if (c->data != FOVEA_DATA_ROW && i > 0 && i < rows)
                place = place < (double)values / 2 ? 0 : place;
        }
        fovea_view_write(view, i, place);
    }
}

/* Normal/n, on the diagonal |normal| + 1: whatever data the right side has, the system is sound. */
static void fill_triangle(const fovea_case *c, int argument, const fovea_view *view) {
    int64_t n = view->shape[view->rank - 1], count = fovea_view_elements(view);
    for (int64_t group = 0; 4 * group < count; group++) {
        double normals[4];
        fovea_case_draw(c, argument, group, normals);
        for (int64_t i = 4 * group; i < count && i < 4 * group + 4; i++) {
            double normal = normals[i - 4 * group];
            bool diagonal = i / n % n == i % n;
            fovea_view_write(view, i, diagonal ? fabs(normal) + 1 : normal / (double)n);
        }
    }
}

void fovea_fill_linalg(const fovea_case *c, int argument, const fovea_view *view) {
    if (argument == 0)
        fill_triangle(c, argument, view);
    else
        fill_sparse(c, argument, view);
}
