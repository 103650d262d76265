/* Domain 17, quantization: conversions to narrower types and back. */
#include "catalogue/network.h"

#define SCALED                                                                                     \
    .domain = "quantization", .dtypes = FOVEA_FLOATS,                                              \
    .check = FOVEA_HOOK(fovea_quantization_check),                                                 \
    .case_shape = FOVEA_HOOK(fovea_quantization_case_shape), .check_values = "group=64 128",       \
    .parameters = {{"granularity", FOVEA_CHOICE, 0, "tensor,row,group", "what shares a scale"},    \
                   {"group", FOVEA_INTEGER, 32, NULL, "columns of a group: 32, 64 or 128"}}
#define SCALE_SHAPE "(1; R...; R..., ceil(C/group))"

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
    {96, "quantize_f16_to_i8", SCALED,
     .definition = "scale = absmax/127; q = min(max(x/scale to nearest even, -127), 127)",
     .remarks =
         "By tensor, by row of the last axis, or by groups of columns, of which the last may "
         "be short. Where absmax/127 is below 2^-126 the scale and q are 0; where there is NaN "
         "or an infinity the scale is NaN and q 0.",
     .arguments =
         {{.name = "x", .shape = "R..., C"},
          {.name = "q", .shape = "R..., C", .role = FOVEA_OUTPUT, .dtypes = 1u << FOVEA_I8},
          {.name = "scale", .shape = SCALE_SHAPE, .role = FOVEA_OUTPUT, .dtypes = 1u << FOVEA_F32}},
     /* The scale of a tensor has to be known before its first code: x is read twice. */
     .operations = "6*R*C", .bytes = "(s*max(1,2-granularity)+1)*R*C", .bench = "dtype=f16,R=1,C=N",
     .bound_text = "scale 1 ULP; q exact, or off by one where x/scale is within 2^-14 of a "
                   "half-integer and scale no power of two",
     .bound = FOVEA_HOOK(fovea_bound_quantize)},
    {97, "dequantize_i8_to_f16", SCALED, .definition = "y = q scale in f32, then rounded to t",
     .arguments = {{.name = "q", .shape = "R..., C", .dtypes = 1u << FOVEA_I8},
                   {.name = "scale",
                    .shape = SCALE_SHAPE,
                    .dtypes = 1u << FOVEA_F32,
                    .fill = FOVEA_FILL_MAGNITUDE},
                   {.name = "y", .shape = "R..., C", .role = FOVEA_OUTPUT}},
     .operations = "2*R*C", .bytes = "(s+1)*R*C", .bench = "dtype=f16,R=1,C=N",
     .bound_text = "exact"},
    {0}};
