/* Domain 1, reductions: one value from all elements or from those along an axis. */
#include "catalogue/bounds.h"
#include "catalogue/order.h"

#include <math.h>

#define COMMON                                                                                     \
    .domain = "reductions", .dtypes = 1u << FOVEA_F32 | 1u << FOVEA_F64, .bytes = "s*N",           \
    .bench = "N=N"
#define AXIS                                                                                       \
    {                                                                                              \
        "axis", FOVEA_INTEGER, FOVEA_ALL_AXES_VALUE, NULL,                                         \
            "the axis to reduce, negative from the end"                                            \
    }
#define ALONG_AXIS COMMON, .parameters = {AXIS}
#define INPUT                                                                                      \
    { .name = "x", .shape = "N..." }
#define OUTPUT                                                                                     \
    { .name = "y", .shape = "N...-axis", .role = FOVEA_OUTPUT }
#define TO_VALUE .arguments = {INPUT, OUTPUT}
#define TO_INDEX                                                                                   \
    .of_something = true, .bound_text = "exact",                                                   \
    .arguments = {INPUT,                                                                           \
                  {.name = "index",                                                                \
                   .shape = "N...-axis",                                                           \
                   .role = FOVEA_OUTPUT,                                                           \
                   .dtypes = 1u << FOVEA_I64,                                                      \
                   .meaning = "row-major over all elements, or along the axis"},                   \
                  {.name = "value",                                                                \
                   .shape = "N...-axis",                                                           \
                   .role = FOVEA_OUTPUT,                                                           \
                   .optional = true,                                                               \
                   .meaning = "the element itself"}}
#define WITH_CORRECTION                                                                            \
    COMMON, TO_VALUE,                                                                              \
        .parameters = {                                                                            \
            AXIS,                                                                                  \
            {"correction", FOVEA_REAL, 0, NULL, "taken from n in the divisor; 1 for a sample"}}

const fovea_kernel fovea_rows_reductions[] = {
    {1, "reduce_sum", ALONG_AXIS, TO_VALUE,
     .definition = "y = sum of x, over all axes or along one", .operations = "N",
     .exact_sums = true,
     .bound_text = "R(n) = (8 + ceil(log2 n)) eps sum|x| for any data; exact on small integers",
     .bound = FOVEA_HOOK(fovea_bound_sum)},
    {2, "reduce_mean", ALONG_AXIS, TO_VALUE, .definition = "y = sum of x / n; NaN of nothing",
     .operations = "N", .bound_text = "R(n) / n", .bound = FOVEA_HOOK(fovea_bound_mean)},
    {3, "reduce_min", ALONG_AXIS, TO_VALUE, .definition = "y = the smallest x; NaN if there is one",
     .operations = "N", .of_something = true, .bound_text = "exact (the sign of a zero is free)"},
    {4, "reduce_max", ALONG_AXIS, TO_VALUE, .definition = "y = the largest x; NaN if there is one",
     .operations = "N", .of_something = true, .bound_text = "exact (the sign of a zero is free)"},
    {5, "reduce_l2", ALONG_AXIS, TO_VALUE, .definition = "y = sqrt(sum of x^2)",
     .operations = "2*N", .bound_text = "(8 + ceil(log2 n)) eps y",
     .bound = FOVEA_HOOK(fovea_bound_l2)},
    {6, "reduce_var", WITH_CORRECTION,
     .definition = "y = sum of (x - mean)^2 / max(n - correction, 0)",
     .remarks = "PyTorch's default correction is 1, NumPy's 0. The variance of equal elements is 0 "
                "exactly.",
     .operations = "4*N",
     .bound_text =
         "C(n) = (c S + c^2 n mean|x|^2) / divisor, c = (8 + ceil(log2 n)) eps, S = sum of "
         "(x - mean)^2",
     .bound = FOVEA_HOOK(fovea_bound_variance)},
    {7, "reduce_stddev", WITH_CORRECTION,
     .definition = "y = sqrt(sum of (x - mean)^2 / max(n - correction, 0))", .operations = "4*N",
     .bound_text = "the root of what C(n) allows the variance, and eps y",
     .bound = FOVEA_HOOK(fovea_bound_deviation)},
    {8, "reduce_argmax", ALONG_AXIS, TO_INDEX,
     .definition = "index of the first of the largest x; of the first NaN if there is one",
     .operations = "N"},
    {9, "reduce_argmin", ALONG_AXIS, TO_INDEX,
     .definition = "index of the first of the smallest x; of the first NaN if there is one",
     .operations = "N"},
    {.number = 10,
     .name = "reduce_histogram",
     .domain = "reductions",
     .dtypes = 1u << FOVEA_F32 | 1u << FOVEA_F64,
     .definition = "counts_i = how many x are at least e_i and below e_(i+1); in the last bin also "
                   "those that are e_Bins",
     .remarks =
         "There are as many bins as counts has elements. e_i = lo + i ((hi - lo)/Bins), formed "
         "in f64 and rounded; the last is hi. A bound from the data that is beyond the "
         "given one is that one. Equal bounds are widened by 0.5 on both sides. "
         "What lies outside, and NaN, is not counted. A range taken from data that is not "
         "finite gives zero counts and NaN edges; from no data it is [0, 1].",
     .arguments =
         {INPUT,
          {.name = "counts", .shape = "Bins", .role = FOVEA_OUTPUT, .dtypes = 1u << FOVEA_I64},
          {.name = "edges",
           .shape = "E",
           .role = FOVEA_OUTPUT,
           .optional = true,
           .meaning = "E = Bins + 1"}},
     .parameters = {{"lo", FOVEA_REAL, NAN, NULL, "the least x, rounded to the dtype of x"},
                    {"hi", FOVEA_REAL, NAN, NULL, "the largest x, rounded to the dtype of x"}},
     .operations = "6*N",
     .bytes = "2*s*N+8*Bins", /* twice: for the range, where it is not given, and for the bins */
     .bench = "N=N,Bins=256",
     .bound_text = "exact",
     .check = FOVEA_HOOK(fovea_check_histogram),
     .case_defaults = FOVEA_HOOK(fovea_histogram_defaults)},
    {0}};
