/* Domain 19, fused map-reduce: sums of what a map makes of the elements. */
#include "catalogue/bounds.h"

#define COMMON .domain = "map_reduce", .dtypes = FOVEA_FLOATS, .bench = "N=N"
#define AXIS                                                                                       \
    {                                                                                              \
        "axis", FOVEA_INTEGER, FOVEA_ALL_AXES_VALUE, NULL,                                         \
            "the axis to reduce, negative from the end"                                            \
    }
#define INPUT                                                                                      \
    { .name = "x", .shape = "N..." }
#define OUTPUT                                                                                     \
    { .name = "y", .shape = "N...-axis", .role = FOVEA_OUTPUT, .dtypes = 1u << FOVEA_F32 }
#define SUM                                                                                        \
    COMMON, .parameters = {AXIS}, .exact_sums = true,                                              \
            .bound_text = "R(n) = (8 + ceil(log2 n)) eps "                                         \
                          "times the sum of absolute terms"

const fovea_kernel fovea_rows_map_reduce[] = {
    {100, "map_reduce_square_sum", SUM, .definition = "y = sum of x^2",
     .arguments = {INPUT, OUTPUT}, .operations = "2*N", .bytes = "s*N",
     .bound = FOVEA_HOOK(fovea_bound_square_sum)},
    {101, "map_reduce_abs_sum", SUM, .definition = "y = sum of |x|", .arguments = {INPUT, OUTPUT},
     .operations = "N", .bytes = "s*N", .bound = FOVEA_HOOK(fovea_bound_sum)},
    {102, "map_reduce_masked_sum", SUM, .definition = "y = sum of the x whose mask is not 0",
     .arguments = {INPUT,
                   {.name = "mask",
                    .shape = "N...",
                    .dtypes = 1u << FOVEA_U8 | 1u << FOVEA_BOOL,
                    .fill = FOVEA_FILL_BINARY,
                    .meaning = "what it leaves out may be anything, NaN too"},
                   OUTPUT},
     .operations = "N", .bytes = "(s+1)*N", .bound = FOVEA_HOOK(fovea_bound_chosen_sum)},
    {103, "map_reduce_threshold_count", COMMON, .definition = "y = how many x > threshold",
     .arguments =
         {INPUT,
          {.name = "count", .shape = "N...-axis", .role = FOVEA_OUTPUT, .dtypes = 1u << FOVEA_I64}},
     .parameters = {AXIS, {"threshold", FOVEA_REAL, 0, NULL, "rounded to the compute dtype"}},
     .operations = "2*N", .bytes = "s*N", .bound_text = "exact"},
    {0}};
