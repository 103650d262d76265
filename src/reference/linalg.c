/* Domain 11, linalg, in long double. */
#include "reference/reference.h"

#include "fovea/kernels.h"

#include <math.h>
#include <stdlib.h>

static bool spmv_csr(const fovea_problem *problem, double *const outputs[]) {
    const fovea_view *value = &problem->views[0], *column = &problem->views[1];
    const fovea_view *rowptr = &problem->views[2], *x = &problem->views[3];
    for (int64_t r = 0; r < problem->views[4].shape[0]; r++) {
        int64_t first = (int64_t)fovea_view_read(rowptr, r);
        int64_t end = (int64_t)fovea_view_read(rowptr, r + 1);
        long double sum = 0;
        for (int64_t i = first; i < end; i++)
            sum += (long double)fovea_view_read(value, i) *
                   (long double)fovea_view_read(x, (int64_t)fovea_view_read(column, i));
        outputs[4][r] = (double)sum;
    }
    return true;
}

/* The elements of a view; NULL if memory is short. */
static double *elements_of(const fovea_view *view) {
    double *values = malloc(((size_t)fovea_view_elements(view) + 1) * sizeof *values);
    if (values) fovea_view_read_all(view, values);
    return values;
}

/* The sum of products of `count` elements that stand `step_a` and `step_b` apart. */
static long double product(const double *a, int64_t step_a, const double *b, int64_t step_b,
                           int64_t count) {
    long double sum = 0;
    for (int64_t k = 0; k < count; k++)
        sum += (long double)a[k * step_a] * (long double)b[k * step_b];
    return sum;
}

static bool matvec(const fovea_problem *problem, double *const outputs[]) {
    const fovea_matvec_options *o = problem->options;
    int64_t batches = fovea_problem_extent(problem, "B"), rows = fovea_problem_extent(problem, "R");
    int64_t columns = fovea_problem_extent(problem, "C");
    double *a = elements_of(&problem->views[0]), *x = elements_of(&problem->views[1]);
    for (int64_t i = 0; a && x && i < batches * rows; i++) {
        const double *matrix = a + i / rows * rows * columns, *vector = x + i / rows * columns;
        int64_t r = i % rows;
        outputs[2][i] =
            (double)(o->transpose ? product(matrix + r, rows, vector, 1, columns)
                                  : product(matrix + r * columns, 1, vector, 1, columns));
    }
    bool enough = a && x;
    return free(a), free(x), enough;
}

static bool outer_product(const fovea_problem *problem, double *const outputs[]) {
    int64_t n = fovea_problem_extent(problem, "N"), m = fovea_problem_extent(problem, "M");
    int64_t count = fovea_view_elements(&problem->views[2]);
    for (int64_t i = 0; i < count; i++) {
        double a = fovea_view_read(&problem->views[0], i / m);
        double b = fovea_view_read(&problem->views[1], i / m / n * m + i % m);
        outputs[2][i] = a * b;
    }
    return true;
}

static bool matmul_batched(const fovea_problem *problem, double *const outputs[]) {
    const fovea_matmul_batched_options *o = problem->options;
    int64_t batches = fovea_problem_extent(problem, "B"), m = fovea_problem_extent(problem, "M");
    int64_t k = fovea_problem_extent(problem, "K"), n = fovea_problem_extent(problem, "N");
    long double alpha = (long double)fovea_round_to(problem->dtype, o->alpha);
    long double beta = (long double)fovea_round_to(problem->dtype, o->beta);
    double *a = elements_of(&problem->views[0]), *b = elements_of(&problem->views[1]);
    for (int64_t i = 0; a && b && i < batches * m * n; i++) {
        int64_t batch = i / n / m, row = i / n % m, column = i % n;
        const double *left = a + batch * m * k + row * (o->transpose_a ? 1 : k);
        const double *right = b + batch * k * n + column * (o->transpose_b ? k : 1);
        long double sum =
            alpha * product(left, o->transpose_a ? m : 1, right, o->transpose_b ? 1 : n, k);
        if (beta != 0 && fovea_given(problem, 2))
            sum += beta * (long double)fovea_view_read(&problem->views[2], i);
        outputs[3][i] = (double)sum;
    }
    bool enough = a && b;
    return free(a), free(b), enough;
}

static bool triangular_solve(const fovea_problem *problem, double *const outputs[]) {
    const fovea_triangular_solve_options *o = problem->options;
    bool upper = o->triangle == FOVEA_TRIANGULAR_SOLVE_TRIANGLE_UPPER;
    int64_t batches = fovea_problem_extent(problem, "B"), n = fovea_problem_extent(problem, "N");
    int64_t m = fovea_problem_extent(problem, "M");
    double *l = elements_of(&problem->views[0]), *x = outputs[2];
    if (!l) return false;
    fovea_view_read_all(&problem->views[1], x);
    for (int64_t batch = 0; batch < batches; batch++, x += n * m)
        for (int64_t step = 0; step < n * m; step++) {
            int64_t i = upper ? n - 1 - step / m : step / m, j = step % m;
            const double *row = l + (batch * n + i) * n;
            int64_t first = upper ? i + 1 : 0, count = upper ? n - 1 - i : i;
            long double rest =
                (long double)x[i * m + j] - product(row + first, 1, x + first * m + j, m, count);
            x[i * m + j] = (double)(o->unit_diagonal ? rest : rest / (long double)row[i]);
        }
    free(l);
    return true;
}

const fovea_reference fovea_references_linalg[] = {{"spmv_csr", spmv_csr},
                                                   {"matvec", matvec},
                                                   {"outer_product", outer_product},
                                                   {"matmul_batched", matmul_batched},
                                                   {"triangular_solve", triangular_solve},
                                                   {0}};
