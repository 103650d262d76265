/* Domain 4, softmax along the last axis. */
#include "catalogue/bounds.h"

const fovea_kernel fovea_rows_softmax[] = {
    {.number = 29,
     .name = "softmax_stable",
     .domain = "softmax",
     .definition = "y = e^(x-m) / sum e^(x-m), m the maximum of the row",
     .remarks = "A row that is all -inf, or holds +inf or NaN, is all NaN.",
     .dtypes = FOVEA_FLOATS,
     .arguments = {{.name = "x", .shape = "R..., C"},
                   {.name = "y", .shape = "R..., C", .role = FOVEA_OUTPUT}},
     .operations = "5*R*C",
     .bytes = "2*s*R*C",
     .bench = "R=max(1,floor(N/1024)),C=1024",
     .bound_text = "eps y (8 + ceil(log2 C) + |x-m|)",
     .bound = FOVEA_HOOK(fovea_bound_softmax)},
    {0}};
