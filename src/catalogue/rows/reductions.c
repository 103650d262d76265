/* Domain 1, reductions: one value from all elements or from those along an axis. */
#include "catalogue/bounds.h"

const fovea_kernel fovea_rows_reductions[] = {
    {.number = 1,
     .name = "reduce_sum",
     .domain = "reductions",
     .definition = "y = sum of x, over all axes or along one",
     .dtypes = 1u << FOVEA_F32 | 1u << FOVEA_F64,
     .arguments = {{.name = "x", .shape = "N..."},
                   {.name = "y", .shape = "N...-axis", .role = FOVEA_OUTPUT}},
     .parameters = {{"axis", FOVEA_INTEGER, FOVEA_ALL_AXES_VALUE, NULL,
                     "the axis to sum along, negative from the end"}},
     .operations = "N",
     .bytes = "s*N",
     .bench = "N=N",
     .bound_text = "R(n) = (8 + ceil(log2 n)) eps sum|x| for any data; exact on small integers",
     .bound = FOVEA_HOOK(fovea_bound_sum)},
    {0}};
