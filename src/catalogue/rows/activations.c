/* Domain 3, activations. */
#include "catalogue/bounds.h"

#define COMMON                                                                                     \
    .domain = "activations", .dtypes = FOVEA_FLOATS, .bytes = "2*s*N", .elementwise = true,        \
    .arguments = {{.name = "x", .shape = "N..."},                                                  \
                  {.name = "y", .shape = "N...", .role = FOVEA_OUTPUT}}
#define WITHIN_4                                                                                   \
    .bound_text = "4 ULP, or 2^-119; halves 0.51 ULP", .bound = FOVEA_HOOK(fovea_bound_activation)

const fovea_kernel fovea_rows_activations[] = {
    {23, "map_relu", COMMON, .definition = "y = max(x, 0)", .operations = "N", .bench = "N=N",
     .bound_text = "exact (the sign of a zero is free)"},
    {24, "map_leaky_relu", COMMON, .definition = "y = x if x > 0, else slope x",
     .parameters = {{"slope", FOVEA_REAL, 0.01, NULL, "rounded to the compute dtype"}},
     .operations = "2*N", .bench = "N=N",
     .bound_text = "correctly rounded (0.5 ULP; halves 0.51 ULP)",
     .bound = FOVEA_HOOK(fovea_bound_correct)},
    {25, "map_elu", COMMON, .definition = "y = x if x > 0, else alpha (e^x - 1)",
     .source = "Clevert, Unterthiner and Hochreiter, Exponential linear units, 2016",
     .parameters = {{"alpha", FOVEA_REAL, 1, NULL, "rounded to the compute dtype"}},
     .operations = "3*N", .bench = "N=N", .bound_text = "4 ULP; halves 0.51 ULP",
     .bound = FOVEA_HOOK(fovea_bound_ulp), .bound_factor = 4},
    {26, "map_gelu", COMMON,
     .definition = "none: y = x/2 (1 + erf(x/sqrt 2)); tanh: y = x/2 (1 + tanh(sqrt(2/pi) (x + "
                   "0.044715 x^3)))",
     .source = "Hendrycks and Gimpel, Gaussian error linear units, 2016",
     .parameters = {{"approximate", FOVEA_CHOICE, 0, "none,tanh", "which definition"}},
     .operations = "9*N", .bench = "N=N,approximate=1",
     .bound_text = "4 ULP for x >= -1, below 4 + 3 ln(x/y) ULP, or 2^-119; halves 0.51 ULP",
     .bound = FOVEA_HOOK(fovea_bound_gelu)},
    {27, "map_silu", COMMON, .definition = "y = x/(1+e^-x)",
     .source = "Elfwing, Uchibe and Doya, Sigmoid-weighted linear units, 2018", .operations = "3*N",
     .bench = "N=N", WITHIN_4},
    {28, "map_mish", COMMON, .definition = "y = x tanh(softplus(x))",
     .source = "Misra, Mish: a self regularized non-monotonic activation function, 2019",
     .operations = "7*N", .bench = "N=N", WITHIN_4},
    {0}};
