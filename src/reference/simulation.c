/* Domain 12, simulation, in long double. */
#include "catalogue/case.h"
#include "reference/reference.h"

#include "fovea/kernels.h"

#include <math.h>
#include <stdlib.h>

typedef long double real;

/* ---- Fields on a plane ------------------------------------------------------------------------- */

enum { PERIODIC, DIRICHLET, COPY }; /* the values of `boundary` */

typedef struct plane {
    int64_t height, width;
    int boundary;
} plane;

static bool held(const plane *p, int64_t i, int64_t j) {
    bool edge = i == 0 || j == 0 || i == p->height - 1 || j == p->width - 1;
    return p->boundary != PERIODIC && edge;
}

/* left + right + up + down */
static real neighbours(const plane *p, const real *u, int64_t i, int64_t j) {
    int64_t h = p->height, w = p->width;
    return u[i * w + (j + w - 1) % w] + u[i * w + (j + 1) % w] + u[(i + h - 1) % h * w + j] +
           u[(i + 1) % h * w + j];
}

static void load_plane(const plane *p, const fovea_view *view, int64_t number, real *u) {
    int64_t cells = p->height * p->width;
    for (int64_t c = 0; c < cells; c++) {
        bool zero = p->boundary == DIRICHLET && held(p, c / p->width, c % p->width);
        u[c] = zero ? 0 : (real)fovea_view_read(view, number * cells + c);
    }
}

/* next = u + r (neighbours - 4 u), or 2 u - previous + r (neighbours - 4 u). */
static void step_plane(const plane *p, real r, const real *u, const real *previous, real *next) {
    for (int64_t c = 0; c < p->height * p->width; c++) {
        int64_t i = c / p->width, j = c % p->width;
        real inertia = previous ? 2 * u[c] - previous[c] : u[c];
        next[c] = held(p, i, j) ? u[c] : inertia + r * (neighbours(p, u, i, j) - 4 * u[c]);
    }
}

/* Steps every plane; `last` and, if it is not NULL, `before` get the last two fields. */
static bool simulate(const fovea_problem *problem, bool wave, double r, int64_t steps, int boundary,
                     double *last, double *before) {
    int64_t batches = fovea_problem_extent(problem, "B");
    plane p = {fovea_problem_extent(problem, "H"), fovea_problem_extent(problem, "W"), boundary};
    int64_t cells = p.height * p.width;
    real *memory = malloc((3 * (size_t)cells + 1) * sizeof *memory);
    real factor = (real)fovea_round_to(problem->dtype, r);
    for (int64_t b = 0; memory && b < batches; b++) {
        real *u = memory, *previous = memory + cells, *next = memory + 2 * cells, *spare;
        load_plane(&p, &problem->views[0], b, u);
        if (wave) load_plane(&p, &problem->views[1], b, previous);
        for (int64_t s = 0; s < steps; s++) {
            step_plane(&p, factor, u, wave ? previous : NULL, next);
            spare = previous, previous = u, u = next, next = spare;
        }
        for (int64_t c = 0; c < cells; c++) last[b * cells + c] = (double)u[c];
        for (int64_t c = 0; before && c < cells; c++) before[b * cells + c] = (double)previous[c];
    }
    free(memory);
    return memory != NULL;
}

static bool sim_heat_equation(const fovea_problem *problem, double *const outputs[]) {
    const fovea_sim_heat_equation_options *o = problem->options;
    return simulate(problem, false, o->r, o->steps, o->boundary, outputs[1], NULL);
}

static bool sim_wave_equation(const fovea_problem *problem, double *const outputs[]) {
    const fovea_sim_wave_equation_options *o = problem->options;
    return simulate(problem, true, o->c2, o->steps, o->boundary, outputs[2], outputs[3]);
}

static bool sim_stencil_2d(const fovea_problem *problem, double *const outputs[]) {
    plane p = {fovea_problem_extent(problem, "H"), fovea_problem_extent(problem, "W"), PERIODIC};
    int64_t cells = p.height * p.width, batches = fovea_problem_extent(problem, "B");
    real *u = malloc(((size_t)cells + 1) * sizeof *u);
    for (int64_t b = 0; u && b < batches; b++) {
        load_plane(&p, &problem->views[0], b, u);
        for (int64_t c = 0; c < cells; c++)
            outputs[1][b * cells + c] = (double)(neighbours(&p, u, c / p.width, c % p.width) / 4);
    }
    free(u);
    return u != NULL;
}

static bool sim_stencil_3d(const fovea_problem *problem, double *const outputs[]) {
    const fovea_view *u = &problem->views[0];
    int64_t count = fovea_view_elements(u);
    for (int64_t i = 0; i < count; i++) {
        real sum = 0;
        int64_t step = 1;
        for (int d = u->rank - 1; d >= u->rank - 3; d--) {
            int64_t extent = u->shape[d], place = i / step % extent;
            sum += (real)fovea_view_read(u, i + ((place + 1) % extent - place) * step);
            sum += (real)fovea_view_read(u, i + ((place + extent - 1) % extent - place) * step);
            step *= extent;
        }
        outputs[1][i] = (double)(sum / 6);
    }
    return true;
}

/* ---- Differential equations ----------------------------------------------------------------------- */

static bool integrate_rk4(const fovea_problem *problem, double *const outputs[]) {
    const fovea_integrate_rk4_options *o = problem->options;
    int64_t count = fovea_view_elements(&problem->views[0]);
    real k = (real)fovea_round_to(problem->dtype, o->k);
    real dt = (real)fovea_round_to(problem->dtype, o->dt);
    for (int64_t i = 0; i < count; i++) {
        real y = (real)fovea_view_read(&problem->views[0], i);
        for (int64_t s = 0; s < o->steps; s++) {
            real k1 = -k * y, k2 = -k * (y + dt / 2 * k1), k3 = -k * (y + dt / 2 * k2);
            real k4 = -k * (y + dt * k3);
            y += dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4);
        }
        outputs[1][i] = (double)y;
    }
    return true;
}

static bool integrate_verlet(const fovea_problem *problem, double *const outputs[]) {
    const fovea_integrate_verlet_options *o = problem->options;
    int64_t count = fovea_view_elements(&problem->views[0]);
    real k = (real)fovea_round_to(problem->dtype, o->k);
    real dt = (real)fovea_round_to(problem->dtype, o->dt);
    for (int64_t i = 0; i < count; i++) {
        real x = (real)fovea_view_read(&problem->views[0], i);
        real v = (real)fovea_view_read(&problem->views[1], i);
        for (int64_t s = 0; s < o->steps; s++) {
            real a = -k * x;
            x += v * dt + a * dt * dt / 2;
            v += (a - k * x) * dt / 2;
        }
        outputs[0][i] = (double)x, outputs[1][i] = (double)v;
    }
    return true;
}

/* ---- Monte Carlo ------------------------------------------------------------------------------------ */

static uint32_t word(const fovea_monte_carlo_integrate_options *o, uint64_t i) {
    uint64_t block = i / 4, seed = (uint64_t)o->seed, stream = (uint64_t)o->stream;
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)stream,
                                 (uint32_t)(stream >> 32)};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t words[4];
    fovea_philox(counter, key, words);
    return words[i % 4];
}

/* 4/(1 + x^2) at element i of prng_uniform. */
static real sample(const fovea_problem *problem, uint64_t i) {
    const fovea_monte_carlo_integrate_options *o = problem->options;
    uint64_t wide = word(o, 2 * i) | (uint64_t)word(o, 2 * i + 1) << 32;
    double x = problem->dtype == FOVEA_F64 ? (double)(wide >> 11) * 0x1p-53
                                           : (double)(word(o, i) >> 8) * 0x1p-24;
    return 4 / (1 + (real)x * (real)x);
}

/* The sums are of differences from 3, near the mean: squares lose nothing that counts. */
static bool monte_carlo_integrate(const fovea_problem *problem, double *const outputs[]) {
    const fovea_monte_carlo_integrate_options *o = problem->options;
    real n = (real)o->n, sum = 0, squares = 0;
    for (int64_t i = 0; i < o->n; i++) {
        real d = sample(problem, (uint64_t)i) - 3;
        sum += d, squares += d * d;
    }
    outputs[0][0] = o->n ? (double)(3 + sum / n) : (double)NAN;
    outputs[1][0] = o->n > 1 ? (double)sqrtl((squares - sum * sum / n) / (n - 1) / n) : (double)NAN;
    return true;
}

const fovea_reference fovea_references_simulation[] = {
    {"sim_heat_equation", sim_heat_equation},
    {"sim_wave_equation", sim_wave_equation},
    {"integrate_rk4", integrate_rk4},
    {"integrate_verlet", integrate_verlet},
    {"monte_carlo_integrate", monte_carlo_integrate},
    {"sim_stencil_2d", sim_stencil_2d},
    {"sim_stencil_3d", sim_stencil_3d},
    {0}};
