/* Domain 17, quantization: conversions to narrower types. */
#include "catalogue/bounds.h"

const fovea_kernel fovea_rows_quantization[] = {
    {.number = 95,
     .name = "quantize_f32_to_f16",
     .domain = "quantization",
     .definition = "y = x rounded to f16 or bf16, to nearest even; overflow to inf, NaN stays NaN, "
                   "subnormals kept",
     .dtypes = 1u << FOVEA_F32,
     .arguments = {{.name = "x", .shape = "N..."},
                   {.name = "y",
                    .shape = "N...",
                    .role = FOVEA_OUTPUT,
                    .dtypes = 1u << FOVEA_F16 | 1u << FOVEA_BF16,
                    .meaning = "its dtype is the target"}},
     .operations = "N",
     .bytes = "6*N",
     .bench = "N=N",
     .bound_text = "exact"},
    {0}};
