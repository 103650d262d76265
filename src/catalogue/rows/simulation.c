/* Domain 12, simulation: fields on grids, systems of differential equations, Monte Carlo. */
#include "catalogue/simulation.h"

#define COMMON .domain = "simulation", .dtypes = 1u << FOVEA_F32 | 1u << FOVEA_F64
#define BY_STEPS                                                                                   \
    COMMON, .count_operations = FOVEA_HOOK(fovea_operations_simulation),                           \
            .check = FOVEA_HOOK(fovea_check_simulation), .check_values = "steps=10 2 37"
#define FIELD(field)                                                                               \
    { .name = field, .shape = "B..., H, W" }
#define NEXT(field, text)                                                                          \
    { .name = field, .shape = "B..., H, W", .role = FOVEA_OUTPUT, .meaning = text }
#define BOUNDARY                                                                                   \
    {                                                                                              \
        "boundary", FOVEA_CHOICE, 0, "periodic,dirichlet,copy",                                    \
            "the edges: wrapped around, held at 0, or left as they are"                            \
    }
#define STEPS                                                                                      \
    { "steps", FOVEA_INTEGER, 1, NULL, "how many, at least 1" }

const fovea_kernel fovea_rows_simulation[] = {
    {71, "sim_heat_equation", BY_STEPS,
     .definition = "y = u + r (left + right + up + down - 4 u), `steps` times",
     .remarks = "dirichlet: the cells of the edge count as 0 from before the first step on.",
     .arguments = {FIELD("u"), NEXT("y", "u after the last step")},
     .parameters = {{"r", FOVEA_REAL, 0.1, NULL, "diffusivity dt / dx^2"}, BOUNDARY, STEPS},
     .bytes = "2*s*B*H*W", .bench = "B=1,H=1024,W=1024",
     .bound_text = "16 eps steps max|field|, of unstable steps (r > 1/4) that at first by "
                   "their growth",
     .bound = FOVEA_HOOK(fovea_bound_heat)},
    {72, "sim_wave_equation", BY_STEPS,
     .definition = "y = 2 u - previous + c2 (left + right + up + down - 4 u), `steps` times",
     .remarks = "dirichlet: the cells of the edge count as 0 from before the first step on.",
     .arguments = {FIELD("u"),
                   FIELD("previous"),
                   NEXT("y", "u after the last step"),
                   {.name = "before",
                    .shape = "B..., H, W",
                    .role = FOVEA_OUTPUT,
                    .optional = true,
                    .meaning = "u before the last step: what the next call takes as `previous`"}},
     .parameters = {{"c2", FOVEA_REAL, 1e-4, NULL, "(c dt / dx)^2"}, BOUNDARY, STEPS},
     .bytes = "3*s*B*H*W+before*B*H*W", .bench = "B=1,H=1024,W=1024",
     .bound_text = "16 eps steps^2 max|field|, of unstable steps (c2 > 1/2) that at first by "
                   "their growth",
     .bound = FOVEA_HOOK(fovea_bound_wave)},
    {73, "integrate_rk4", BY_STEPS,
     .definition = "y' = -k y by the classic Runge-Kutta method of fourth order",
     .arguments = {{.name = "y", .shape = "N..."},
                   {.name = "out", .shape = "N...", .role = FOVEA_OUTPUT}},
     .parameters = {{"k", FOVEA_REAL, 1, NULL, "rate"},
                    {"dt", FOVEA_REAL, 0.01, NULL, "step"},
                    STEPS},
     .bytes = "2*s*N", .bench = "N=100000", .elementwise = true,
     .bound_text = "16 eps steps max|y|", .bound = FOVEA_HOOK(fovea_bound_rk4)},
    {74, "integrate_verlet", BY_STEPS,
     .definition = "a = -k x; x += v dt + a dt^2/2; a' = -k x; v += (a + a') dt/2",
     .arguments = {{.name = "x", .shape = "N...", .role = FOVEA_IN_PLACE, .meaning = "positions"},
                   {.name = "v", .shape = "N...", .role = FOVEA_IN_PLACE, .meaning = "velocities"}},
     .parameters = {{"k", FOVEA_REAL, 1, NULL, "stiffness over mass"},
                    {"dt", FOVEA_REAL, 0.001, NULL, "step"},
                    STEPS},
     .bytes = "4*s*N", .bench = "N=30000", .bound_text = "16 eps steps max(1, k) max(|x|, |v|)",
     .bound = FOVEA_HOOK(fovea_bound_verlet)},
    {75, "monte_carlo_integrate", COMMON,
     .definition =
         "mean of f and sqrt(var f / n), f = 4/(1 + x^2), x = the first n of prng_uniform",
     .remarks =
         "The variance has the divisor n - 1. No points give NaN, one point a NaN for the error.",
     .arguments =
         {{.name = "estimate", .shape = "", .role = FOVEA_OUTPUT, .meaning = "of pi"},
          {.name = "error", .shape = "", .role = FOVEA_OUTPUT, .meaning = "the standard error"}},
     .parameters = {{"n", FOVEA_INTEGER, 1000000, NULL, "how many points, at least 0"},
                    {"seed", FOVEA_INTEGER, 0, NULL, "the key"},
                    {"stream", FOVEA_INTEGER, 0, NULL, "another sequence of the same seed"}},
     .count_operations = FOVEA_HOOK(fovea_operations_simulation), .bytes = "2*s",
     .bench = "n=1000000",
     .bound_text = "(8 + ceil(log2 n)) eps |estimate|; four times that of the error, and 16 eps / "
                   "sqrt(n - 1)",
     .bound = FOVEA_HOOK(fovea_bound_monte_carlo), .check = FOVEA_HOOK(fovea_check_simulation),
     .check_values = "n=0 1 2 3 31 33 1000 4097 16 64 65 257 100003;" FOVEA_CHECK_KEYS},
    {76, "sim_stencil_2d", COMMON, .definition = "y = (left + right + up + down)/4, periodic",
     .arguments = {FIELD("u"), NEXT("y", "the means of neighbours")}, .operations = "4*B*H*W",
     .bytes = "2*s*B*H*W", .bench = "B=1,H=1024,W=1024",
     .bound_text = "(8 + sqrt 6) eps sum|neighbours|/4", .bound = FOVEA_HOOK(fovea_bound_stencil)},
    {77, "sim_stencil_3d", COMMON, .definition = "y = sum of the six neighbours / 6, periodic",
     .arguments = {{.name = "u", .shape = "B..., D, H, W"},
                   {.name = "y", .shape = "B..., D, H, W", .role = FOVEA_OUTPUT}},
     .operations = "6*B*D*H*W", .bytes = "2*s*B*D*H*W", .bench = "B=1,D=128,H=128,W=128",
     .bound_text = "(8 + sqrt 6) eps sum|neighbours|/6", .bound = FOVEA_HOOK(fovea_bound_stencil)},
    {0}};
