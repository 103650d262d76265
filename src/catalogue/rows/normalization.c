/* Domain 5, normalization. */
#include "catalogue/bounds.h"

#define HALVES_TOO (1u << FOVEA_F32 | 1u << FOVEA_F16 | 1u << FOVEA_BF16)

const fovea_kernel fovea_rows_normalization[] = {
    {.number = 32,
     .name = "layer_norm",
     .domain = "normalization",
     .definition = "y = gamma (x-mean)/sqrt(var+eps) + beta, mean and var (divisor D) of the row",
     .source = "Ba, Kiros and Hinton, Layer normalization, 2016",
     .dtypes = HALVES_TOO,
     .arguments = {{.name = "x", .shape = "B..., D"},
                   {.name = "y", .shape = "B..., D", .role = FOVEA_OUTPUT},
                   {.name = "gamma",
                    .shape = "D",
                    .dtypes = HALVES_TOO,
                    .optional = true,
                    .fill = FOVEA_FILL_UNIFORM,
                    .low = 0.5,
                    .high = 1.5,
                    .meaning = "t or f32; 1 if not given"},
                   {.name = "beta",
                    .shape = "D",
                    .dtypes = HALVES_TOO,
                    .optional = true,
                    .fill = FOVEA_FILL_UNIFORM,
                    .low = -0.1,
                    .high = 0.1,
                    .meaning = "t or f32; 0 if not given"}},
     .parameters = {{"eps", FOVEA_REAL, 1e-5, NULL, "added to the variance"}},
     .operations = "7*B*D",
     .bytes = "2*s*B*D",
     .bench = "B=max(1,floor(N/9765)),D=9765,gamma=1,beta=1",
     .bound_text = "c eps (|gamma| ((|x| + mean|x|) r + |h|) + |beta|), c = 8 + ceil(log2 D), r = "
                   "1/sqrt(var+eps), h = (x-mean) r",
     .check = FOVEA_HOOK(fovea_check_epsilon),
     .bound = FOVEA_HOOK(fovea_bound_layer_norm)},
    {0}};
