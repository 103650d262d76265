/* Domain 2, elementwise: one output element from the input elements at the same index. */
#include "catalogue/bounds.h"

#define HALVES_TOO (1u << FOVEA_F32 | 1u << FOVEA_F16 | 1u << FOVEA_BF16)

const fovea_kernel fovea_rows_elementwise[] = {
    {.number = 16,
     .name = "map_clamp",
     .domain = "elementwise",
     .definition = "y = min(max(x, lo), hi); NaN stays NaN",
     .dtypes = HALVES_TOO,
     .arguments = {{.name = "x", .shape = "N..."},
                   {.name = "y", .shape = "N...", .role = FOVEA_OUTPUT}},
     .parameters = {{"lo", FOVEA_REAL, -1, NULL, "lower bound, rounded to the compute dtype"},
                    {"hi", FOVEA_REAL, 1, NULL, "upper bound, rounded to the compute dtype"}},
     .operations = "2*N",
     .bytes = "2*s*N",
     .bench = "N=N",
     .elementwise = true,
     .bound_text = "exact (the sign of a zero is free)"},
    {.number = 18,
     .name = "map_add",
     .domain = "elementwise",
     .definition = "y = a + b",
     .dtypes = HALVES_TOO,
     .arguments = {{.name = "a", .shape = "N..."},
                   {.name = "b", .shape = "N..."},
                   {.name = "y", .shape = "N...", .role = FOVEA_OUTPUT}},
     .operations = "N",
     .bytes = "3*s*N",
     .bench = "N=N",
     .elementwise = true,
     .bound_text = "correctly rounded (0.5 ULP; halves 0.51 ULP)",
     .bound = FOVEA_HOOK(fovea_bound_correct)},
    {0}};
