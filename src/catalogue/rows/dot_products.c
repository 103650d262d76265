/* Domain 18, dot products of rows. */
#include "catalogue/bounds.h"

#define COMMON                                                                                     \
    .domain = "dot_products", .dtypes = FOVEA_FLOATS, .bytes = "2*s*R*D+4*R",                      \
    .bench = "R=max(1,floor(N/128)),D=128",                                                        \
    .arguments = {{.name = "a", .shape = "R..., D"},                                               \
                  {.name = "b", .shape = "R..., D"},                                               \
                  {.name = "y", .shape = "R...", .role = FOVEA_OUTPUT, .dtypes = 1u << FOVEA_F32}}

const fovea_kernel fovea_rows_dot_products[] = {
    {98, "dot_batched", COMMON, .definition = "y = sum of a b of the row", .operations = "2*R*D",
     .exact_sums = true, .bound_text = "(8 + sqrt D) eps sum|a b|",
     .bound = FOVEA_HOOK(fovea_bound_dot)},
    {99, "cosine_similarity", COMMON,
     .definition = "y = a.b / (max(|a|, eps) max(|b|, eps)); 0 for zero vectors",
     .parameters = {{"eps", FOVEA_REAL, 1e-8, NULL, "the least norm"}}, .operations = "6*R*D",
     .bound_text = "2 (8 + sqrt D) eps", .check = FOVEA_HOOK(fovea_check_epsilon),
     .bound = FOVEA_HOOK(fovea_bound_cosine)},
    {0}};
