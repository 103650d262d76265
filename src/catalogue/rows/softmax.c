/* Domain 4, softmax along the last axis. */
#include "catalogue/bounds.h"

#define COMMON                                                                                     \
    .domain = "softmax", .dtypes = FOVEA_FLOATS,                                                   \
    .remarks = "A row that is all -inf, or holds +inf or NaN, is all NaN.",                        \
    .arguments = {{.name = "x", .shape = "R..., C"},                                               \
                  {.name = "y", .shape = "R..., C", .role = FOVEA_OUTPUT}},                        \
    .operations = "5*R*C", .bytes = "2*s*R*C", .bench = "R=max(1,floor(N/1024)),C=1024"
#define SOFTMAX                                                                                    \
    COMMON, .definition = "y = e^(x-m) / sum e^(x-m), m the maximum of the row",                   \
            .bound_text = "eps y (8 + ceil(log2 C) + |x-m|)",                                      \
            .bound = FOVEA_HOOK(fovea_bound_softmax)

const fovea_kernel fovea_rows_softmax[] = {
    {29, "softmax_stable", SOFTMAX},
    {30, "log_softmax", COMMON,
     .definition = "y = x - m - ln sum e^(x-m), m the maximum of the row",
     .bound_text = "(8 + ceil(log2 C)) eps (1 + |x-m|)",
     .bound = FOVEA_HOOK(fovea_bound_log_softmax)},
    {31, "softmax_online", SOFTMAX,
     .source = "Milakov and Gimelshein, Online normalizer calculation for softmax, 2018"},
    {0}};
