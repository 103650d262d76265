/* Domain 12, simulation: stencils, differential equations of which every element is one, Monte Carlo. */
#include "cpu/monte_carlo.h"
#include "cpu/motion.h"
#include "cpu/space.h"
#include "cpu/stencil.h"
#include "fovea/kernels.h"

#define BOTH (1u << FOVEA_F32 | 1u << FOVEA_F64)

/* ---- Fields on a plane ------------------------------------------------------------------------- */

#define STENCIL(name, kind, boundary, factor, steps, ...)                                          \
    static stencil_plan plan_##name(const fovea_problem *problem) {                                \
        const fovea_##name##_options *o = problem->options;                                        \
        (void)o;                                                                                   \
        return stencil_make_plan(problem, kind, (const int[4])__VA_ARGS__,                         \
                                 (stencil_boundary)(boundary), factor, steps);                     \
    }                                                                                              \
    static size_t workspace_##name(const fovea_problem *problem, int threads) {                    \
        stencil_plan plan = plan_##name(problem);                                                  \
        return stencil_workspace(&plan, threads);                                                  \
    }                                                                                              \
    static fovea_status name(const fovea_problem *problem, fovea_run *run) {                       \
        stencil_plan plan = plan_##name(problem);                                                  \
        return stencil_run(&plan, run);                                                            \
    }
STENCIL(sim_heat_equation, HEAT, o->boundary, o->r, o->steps, {0, -1, 1, -1})
STENCIL(sim_wave_equation, WAVE, o->boundary, o->c2, o->steps, {0, 1, 2, 3})
STENCIL(sim_stencil_2d, MEAN, PERIODIC, 0.25, 1, {0, -1, 1, -1})

/* ---- Differential equations ---------------------------------------------------------------------- */

static fovea_status integrate_rk4(const fovea_problem *problem, fovea_run *run) {
    const fovea_integrate_rk4_options *o = problem->options;
    motion_plan plan = motion_make_plan(problem, RUNGE_KUTTA, o->k, o->dt, o->steps);
    return motion_run(&plan, run);
}
static fovea_status integrate_verlet(const fovea_problem *problem, fovea_run *run) {
    const fovea_integrate_verlet_options *o = problem->options;
    motion_plan plan = motion_make_plan(problem, VERLET, o->k, o->dt, o->steps);
    return motion_run(&plan, run);
}

#define ENTRY(name, ...)                                                                           \
    { #name, FOVEA_CPU_NAME("direct"), BOTH, FOVEA_TIER_HERE, __VA_ARGS__.run = name }

const fovea_implementation FOVEA_TIERED(fovea_cpu_simulation)[] = {
    ENTRY(sim_heat_equation, .workspace = workspace_sim_heat_equation, ),
    ENTRY(sim_wave_equation, .workspace = workspace_sim_wave_equation, ),
    ENTRY(integrate_rk4, ),
    ENTRY(integrate_verlet, ),
    ENTRY(monte_carlo_integrate, .workspace = monte_carlo_workspace, ),
    ENTRY(sim_stencil_2d, .workspace = workspace_sim_stencil_2d, ),
    ENTRY(sim_stencil_3d, .workspace = space_workspace, ),
    {0}};
