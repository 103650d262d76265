/* Domain 2, elementwise: one output element from the input elements at the same index. */
#include "catalogue/bounds.h"

/* What the rows share. */
#define COMMON .domain = "elementwise", .dtypes = FOVEA_FLOATS, .bench = "N=N", .elementwise = true
#define INPUT(letter)                                                                              \
    { .name = letter, .shape = "N..." }
#define OUTPUT                                                                                     \
    { .name = "y", .shape = "N...", .role = FOVEA_OUTPUT }
#define ONE_INPUT COMMON, .arguments = {INPUT("x"), OUTPUT}, .bytes = "2*s*N"
#define TWO_INPUTS COMMON, .arguments = {INPUT("a"), INPUT("b"), OUTPUT}, .bytes = "3*s*N"
#define WITHIN(ulp)                                                                                \
    .bound_text = #ulp " ULP; halves 0.51 ULP", .bound = FOVEA_HOOK(fovea_bound_ulp),              \
    .bound_factor = ulp
#define ROUNDED                                                                                    \
    .bound_text = "correctly rounded (0.5 ULP; halves 0.51 ULP)",                                  \
    .bound = FOVEA_HOOK(fovea_bound_correct)

const fovea_kernel fovea_rows_elementwise[] = {
    {11, "map_exp", ONE_INPUT, .definition = "y = e^x", .operations = "N", WITHIN(2)},
    {12, "map_log", COMMON, .definition = "y = ln x; 0 gives -inf, x < 0 NaN",
     .arguments =
         {{.name = "x", .shape = "N...", .fill = FOVEA_FILL_UNIFORM, .low = 0.1, .high = 2},
          OUTPUT},
     .operations = "N", .bytes = "2*s*N", WITHIN(2)},
    {13, "map_sigmoid", ONE_INPUT, .definition = "y = 1/(1+e^-x)", .operations = "3*N", WITHIN(3)},
    {14, "map_tanh", ONE_INPUT, .definition = "y = tanh x", .operations = "N", WITHIN(3)},
    {15, "map_softplus", ONE_INPUT, .definition = "y = max(x,0) + log1p(e^-abs(x))",
     .operations = "5*N", WITHIN(4)},
    {16, "map_clamp", ONE_INPUT, .definition = "y = min(max(x, lo), hi); NaN stays NaN",
     .parameters = {{"lo", FOVEA_REAL, -1, NULL, "lower bound, rounded to the compute dtype"},
                    {"hi", FOVEA_REAL, 1, NULL, "upper bound, rounded to the compute dtype"}},
     .operations = "2*N", .bound_text = "exact (the sign of a zero is free)"},
    {17, "map_abs", ONE_INPUT, .definition = "y = abs(x), the sign bit cleared", .operations = "N",
     .bound_text = "exact"},
    {18, "map_add", TWO_INPUTS, .definition = "y = a + b", .operations = "N", ROUNDED},
    {19, "map_mul", TWO_INPUTS, .definition = "y = a b", .operations = "N", ROUNDED},
    {20, "map_div", COMMON, .definition = "y = a / b",
     .arguments =
         {INPUT("a"),
          {.name = "b", .shape = "N...", .fill = FOVEA_FILL_UNIFORM, .low = 0.1, .high = 2},
          OUTPUT},
     .operations = "N", .bytes = "3*s*N", ROUNDED},
    {21, "map_compare", COMMON, .definition = "y = 1 if a > b, else 0 (NaN: 0)",
     .arguments = {INPUT("a"),
                   INPUT("b"),
                   {.name = "y",
                    .shape = "N...",
                    .role = FOVEA_OUTPUT,
                    .dtypes = FOVEA_CALL | 1u << FOVEA_U8}},
     .operations = "N", .bytes = "2*s*N+y*N", .bound_text = "exact"},
    {22, "map_fma", COMMON, .definition = "y = a b + c, rounded once",
     .arguments = {INPUT("a"), INPUT("b"), INPUT("c"), OUTPUT}, .operations = "2*N",
     .bytes = "4*s*N", ROUNDED},
    {0}};
