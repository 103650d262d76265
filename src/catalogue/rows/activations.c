/* Domain 3, activations. */
#include "catalogue/bounds.h"

const fovea_kernel fovea_rows_activations[] = {
    {.number = 26,
     .name = "map_gelu",
     .domain = "activations",
     .definition = "none: y = x/2 (1 + erf(x/sqrt 2)); tanh: y = x/2 (1 + tanh(sqrt(2/pi) (x + "
                   "0.044715 x^3)))",
     .source = "Hendrycks and Gimpel, Gaussian error linear units, 2016",
     .dtypes = FOVEA_FLOATS,
     .arguments = {{.name = "x", .shape = "N..."},
                   {.name = "y", .shape = "N...", .role = FOVEA_OUTPUT}},
     .parameters = {{"approximate", FOVEA_CHOICE, 0, "none,tanh", "which definition"}},
     .operations = "9*N",
     .bytes = "2*s*N",
     .bench = "N=N,approximate=1",
     .elementwise = true,
     .bound_text = "4 ULP for x >= -1, below 4 + 3 ln(x/y) ULP, or 2^-119; halves 0.51 ULP",
     .bound = FOVEA_HOOK(fovea_bound_gelu),
     .bound_factor = 4},
    {0}};
