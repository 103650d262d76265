/* Bounds, counts and checks of domain 12. */
#include "catalogue/simulation.h"

#include <math.h>

static double largest_of(const double *values, int64_t count, double largest) {
    for (int64_t i = 0; i < count; i++)
        if (isfinite(values[i])) largest = fmax(largest, fabs(values[i]));
    return largest;
}

static double largest_element(const fovea_view *view, double largest) {
    int64_t count = fovea_view_elements(view);
    for (int64_t i = 0; i < count; i++) {
        double value = fovea_view_read(view, i);
        if (isfinite(value)) largest = fmax(largest, fabs(value));
    }
    return largest;
}

static double steps_of(const fovea_problem *problem) {
    double steps = fovea_problem_parameter(problem, "steps");
    return steps > 0 ? steps : 1;
}

static void fill_bound(const fovea_problem *problem, int output, double value, double *bound) {
    int64_t count = fovea_view_elements(&problem->views[output]);
    for (int64_t i = 0; i < count; i++) bound[i] = value * fovea_epsilon(problem->dtype);
}

static double largest_of_inputs(const fovea_problem *problem, int inputs) {
    double largest = 0;
    for (int a = 0; a < inputs; a++) largest = largest_element(&problem->views[a], largest);
    return largest;
}

/* The maximum over all steps stands at the first or the last: linear steps shrink what they hold, or
 * blow it up, as powers. */
static double largest_of_ends(const fovea_problem *problem, int inputs, int output,
                              const double *expected) {
    return largest_of(expected, fovea_view_elements(&problem->views[output]),
                      largest_of_inputs(problem, inputs));
}

/* Steps beyond the limit of stability blow up roundings of the field at first, whatever becomes of the field itself: by
 * `growth` each, that of the fastest mode. */
static double largest_of_modes(const fovea_problem *problem, int inputs, int output,
                               const double *expected, double growth) {
    double blown_up = largest_of_inputs(problem, inputs) * pow(fmax(1, growth), steps_of(problem));
    return fmax(largest_of_ends(problem, inputs, output, expected), blown_up);
}

/* The sum of neighbours less 4 u is between -8 u and 0 in every mode. */
void fovea_bound_heat(const fovea_problem *problem, int output, const double *expected,
                      double *bound) {
    double r = fovea_round_to(problem->dtype, fovea_problem_parameter(problem, "r"));
    double largest = largest_of_modes(problem, 1, output, expected, fabs(1 - 8 * r));
    fill_bound(problem, output, 16 * steps_of(problem) * largest, bound);
}

/* The fastest mode grows by the larger root of x^2 - (2 - 8 c2) x + 1. */
void fovea_bound_wave(const fovea_problem *problem, int output, const double *expected,
                      double *bound) {
    double c2 = fovea_round_to(problem->dtype, fovea_problem_parameter(problem, "c2"));
    double half = fabs(1 - 4 * c2), growth = half > 1 ? half + sqrt(half * half - 1) : 1;
    double largest = largest_of_modes(problem, 2, output, expected, growth);
    double steps = steps_of(problem);
    fill_bound(problem, output, 16 * steps * steps * largest, bound);
}

void fovea_bound_rk4(const fovea_problem *problem, int output, const double *expected,
                     double *bound) {
    double largest = largest_of_ends(problem, 1, output, expected);
    fill_bound(problem, output, 16 * steps_of(problem) * largest, bound);
}

/* An orbit may reach further than both its ends; then this is the stricter. */
void fovea_bound_verlet(const fovea_problem *problem, int output, const double *expected,
                        double *bound) {
    double k = fabs(fovea_round_to(problem->dtype, fovea_problem_parameter(problem, "k")));
    double largest = largest_of_ends(problem, 2, output, expected);
    fill_bound(problem, output, 16 * steps_of(problem) * fmax(1, k) * largest, bound);
}

void fovea_bound_monte_carlo(const fovea_problem *problem, int output, const double *expected,
                             double *bound) {
    double n = fmax(fovea_problem_parameter(problem, "n"), 2), factor = 8 + ceil(log2(n));
    double epsilon = fovea_epsilon(problem->dtype);
    *bound = (output == 0 ? 1 : 4) * factor * epsilon * fabs(*expected);
    /* The difference of two values near 4 has the roundings of both, however small it is. */
    if (output == 1) *bound += 16 * epsilon / sqrt(n - 1);
}

/* ---- Means of neighbours ------------------------------------------------------------------------- */

void fovea_bound_stencil(const fovea_problem *problem, int output, const double *expected,
                         double *bound) {
    const fovea_view *u = &problem->views[0];
    int dimensions = fovea_kernel_letter(problem->index, "D") >= 0 ? 3 : 2;
    int64_t count = fovea_view_elements(&problem->views[output]);
    double factor = (8 + sqrt(6.0)) * fovea_epsilon(problem->dtype) / (2 * dimensions);
    (void)expected;
    for (int64_t i = 0; i < count; i++) {
        double sum = 0;
        int64_t step = 1;
        for (int d = 0; d < dimensions; d++) {
            int64_t extent = u->shape[u->rank - 1 - d], place = i / step % extent;
            int64_t before = i - place * step + (place + extent - 1) % extent * step;
            int64_t after = i - place * step + (place + 1) % extent * step;
            sum += fabs(fovea_view_read(u, before)) + fabs(fovea_view_read(u, after));
            step *= extent;
        }
        bound[i] = factor * sum;
    }
}

/* ---- Counts and checks --------------------------------------------------------------------------- */

double fovea_operations_simulation(const fovea_problem *problem) {
    const char *name = problem->kernel->name;
    if (strcmp(name, "monte_carlo_integrate") == 0)
        return 29 * fovea_problem_parameter(problem, "n");
    double count = (double)fovea_view_elements(&problem->views[0]), steps = steps_of(problem);
    if (strcmp(name, "integrate_verlet") == 0) return (8 * steps + 1) * count;
    bool heat = strcmp(name, "sim_heat_equation") == 0,
         wave = strcmp(name, "sim_wave_equation") == 0;
    return (heat ? 7 : wave ? 9 : 17) * count * steps;
}

fovea_status fovea_check_simulation(const fovea_problem *problem, fovea_message *message) {
    double steps = fovea_problem_parameter(problem, "steps"),
           n = fovea_problem_parameter(problem, "n");
    if (steps < 1)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "options.steps is %.0f; it is at least 1", steps);
    if (n < 0)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "options.n is %.0f; it is at least 0",
                          n);
    return FOVEA_OK;
}
