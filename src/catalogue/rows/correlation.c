/* Domain 20, correlation: joint moments of two tensors, and weighted sums. */
#include "catalogue/bounds.h"

#define OF_COLUMNS(output)                                                                         \
    .domain = "correlation", .dtypes = 1u << FOVEA_F32 | 1u << FOVEA_F64,                          \
    .arguments = {{.name = "x", .shape = "B..., N, P"},                                            \
                  {.name = output, .shape = "B..., P, P", .role = FOVEA_OUTPUT}},                  \
    .operations = "B*N*P*(P+3)", .bytes = "s*B*(N*P+P*P)",                                         \
    .bench = "B=1,N=max(1,floor(N/64)),P=64"
#define COMMON                                                                                     \
    .domain = "correlation", .dtypes = 1u << FOVEA_F32 | 1u << FOVEA_F64, .bytes = "2*s*N",        \
    .bench = "N=N"
#define AXIS                                                                                       \
    {                                                                                              \
        "axis", FOVEA_INTEGER, FOVEA_ALL_AXES_VALUE, NULL,                                         \
            "the axis to reduce, negative from the end"                                            \
    }
#define INPUT(letter)                                                                              \
    { .name = letter, .shape = "N..." }
#define OUTPUT(letter)                                                                             \
    { .name = letter, .shape = "N...-axis", .role = FOVEA_OUTPUT }

const fovea_kernel fovea_rows_correlation[] = {
    {104, "reduce_correlation", COMMON,
     .definition = "r = sum dx dy / sqrt(sum dx^2 sum dy^2), dx = x - mean x",
     .remarks = "NaN where a variance is 0; never outside [-1, 1].",
     .arguments = {INPUT("x"), INPUT("y"), OUTPUT("r")}, .parameters = {AXIS}, .operations = "10*N",
     .bound_text =
         "C(n) = c S + c^2 n mean|x| mean|y| over sqrt(sum dx^2 sum dy^2), and 2 c, c = (8 + "
         "ceil(log2 n)) eps, S = sum|dx dy|",
     .bound = FOVEA_HOOK(fovea_bound_correlation)},
    {105, "reduce_covariance", COMMON,
     .definition = "c = sum dx dy / max(n - correction, 0), dx = x - mean x",
     .arguments = {INPUT("x"), INPUT("y"), OUTPUT("c")},
     .parameters = {AXIS, {"correction", FOVEA_REAL, 1, NULL, "taken from n in the divisor"}},
     .operations = "6*N", .bound_text = "C(n) over the divisor",
     .bound = FOVEA_HOOK(fovea_bound_covariance)},
    {106, "reduce_weighted_sum", COMMON, .definition = "y = sum of w x",
     .arguments = {INPUT("x"), INPUT("w"), OUTPUT("y")}, .parameters = {AXIS}, .operations = "2*N",
     .exact_sums = true, .bound_text = "R(n) = (8 + ceil(log2 n)) eps sum|w x|",
     .bound = FOVEA_HOOK(fovea_bound_product_sum)},
    {107, "reduce_weighted_mean", COMMON,
     .definition = "y = sum of w x / sum of w; NaN if the sum of weights is 0",
     .arguments = {INPUT("x"),
                   {.name = "w", .shape = "N...", .fill = FOVEA_FILL_MAGNITUDE},
                   OUTPUT("y")},
     .parameters = {AXIS}, .operations = "3*N",
     .bound_text = "(R(n) of the one sum + |y| R(n) of the other) / |sum of w|",
     .bound = FOVEA_HOOK(fovea_bound_weighted_mean)},
    {108, "reduce_covariance_matrix", OF_COLUMNS("c"),
     .definition = "c_ij = sum dx_i dx_j / max(n - correction, 0), dx = x - mean of its column",
     .remarks = "Symmetric bit for bit. A constant column has covariance 0 with all.",
     .parameters = {{"correction", FOVEA_REAL, 1, NULL, "taken from n in the divisor"}},
     .bound_text = "C(n) over the divisor", .bound = FOVEA_HOOK(fovea_bound_covariance_matrix)},
    {109, "reduce_pearson_pairwise", OF_COLUMNS("r"),
     .definition =
         "r_ij = sum dx_i dx_j / sqrt(sum dx_i^2 sum dx_j^2), dx = x - mean of its column",
     .remarks = "Symmetric bit for bit, never outside [-1, 1]. NaN where a variance is 0, 1 on the "
                "rest of the diagonal.",
     .bound_text = "C(n) over sqrt(sum dx_i^2 sum dx_j^2), and 2 c",
     .bound = FOVEA_HOOK(fovea_bound_covariance_matrix)},
    {0}};
