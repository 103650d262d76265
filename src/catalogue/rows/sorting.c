/* Domain 13, sorting: whole rows, their largest elements, and order statistics. */
#include "catalogue/bounds.h"
#include "catalogue/order.h"

#define DTYPES                                                                                     \
    (1u << FOVEA_F32 | 1u << FOVEA_F64 | 1u << FOVEA_I32 | 1u << FOVEA_U32 | 1u << FOVEA_I64)
#define ORDER                                                                                      \
    "Floats are ordered -inf, ..., -0, +0, ..., +inf, NaN; NaNs of either sign are equal. NumPy "  \
    "and "                                                                                         \
    "PyTorch leave -0 and +0 as they come."
#define COMMON .domain = "sorting", .dtypes = DTYPES
#define SORTED(title)                                                                              \
    { .name = title, .shape = "R..., N", .role = FOVEA_OUTPUT, .given_as = FOVEA_AS_BITS }
#define AXIS                                                                                       \
    {                                                                                              \
        "axis", FOVEA_INTEGER, FOVEA_ALL_AXES_VALUE, NULL,                                         \
            "the axis along which, negative from the end"                                          \
    }
#define SELECTED(text)                                                                             \
    {                                                                                              \
        .name = "y", .shape = text, .role = FOVEA_OUTPUT, .dtypes = FOVEA_CALL_OR_F64,             \
        .meaning = "f64 of integers"                                                               \
    }

const fovea_kernel fovea_rows_sorting[] = {
    {78, "sort_bitonic", COMMON, .definition = "y = x in ascending order, by a bitonic network",
     .source = "Batcher, Sorting networks and their applications, 1968", .remarks = ORDER,
     .arguments = {{.name = "x", .shape = "R..., N"}, SORTED("y")}, .bytes = "2*s*R*N",
     .bench = "R=1,N=32768", .bound_text = "exact, NaN payloads free", .operations = "R*N",
     .count_operations = FOVEA_HOOK(fovea_bitonic_operations),
     .canonical = FOVEA_HOOK(fovea_canonical_sort)},
    {79, "sort_bitonic_kv", COMMON,
     .definition = "keys in ascending order, and values with them, by a bitonic network",
     .source = "Batcher, Sorting networks and their applications, 1968",
     .remarks = ORDER " Values of equal keys come in any order.",
     .arguments = {{.name = "keys", .shape = "R..., N"},
                   {.name = "values", .shape = "R..., N", .dtypes = 1u << FOVEA_U32},
                   SORTED("sorted_keys"),
                   {.name = "sorted_values",
                    .shape = "R..., N",
                    .role = FOVEA_OUTPUT,
                    .dtypes = 1u << FOVEA_U32,
                    .given_as = FOVEA_AS_BITS}},
     .bytes = "2*(s+4)*R*N", .bench = "R=1,N=32768", .bound_text = "exact", .operations = "R*N",
     .count_operations = FOVEA_HOOK(fovea_bitonic_operations),
     .canonical = FOVEA_HOOK(fovea_canonical_pairs)},
    {80, "topk_select", COMMON,
     .definition = "the K largest x in descending order; of equal ones the lower index first",
     .remarks = ORDER " NaN comes first.",
     .arguments =
         {{.name = "x", .shape = "R..., N"},
          {.name = "values", .shape = "R..., K", .role = FOVEA_OUTPUT, .given_as = FOVEA_AS_BITS},
          {.name = "index", .shape = "R..., K", .role = FOVEA_OUTPUT, .dtypes = 1u << FOVEA_I64}},
     .operations = "R*N", .bytes = "R*(s*N+K*(s+8))", .bench = "R=1,N=1000000,K=100",
     .bound_text = "exact", .check = FOVEA_HOOK(fovea_check_topk),
     .case_defaults = FOVEA_HOOK(fovea_topk_defaults)},
    {81, "sort_radix", COMMON, .definition = "y = x in ascending order, stable",
     .remarks = ORDER " By digits; keys without a payload, of which equal ones are alike, are "
                      "parted about pivots where vectors can be compressed (AVX-512).",
     .arguments = {{.name = "x", .shape = "R..., N"},
                   SORTED("y"),
                   {.name = "payload",
                    .shape = "R..., N",
                    .dtypes = 1u << FOVEA_U32 | 1u << FOVEA_I64,
                    .optional = true,
                    .meaning = "goes with x"},
                   {.name = "sorted_payload",
                    .shape = "R..., N",
                    .role = FOVEA_OUTPUT,
                    .dtypes = 1u << FOVEA_U32 | 1u << FOVEA_I64,
                    .optional = true,
                    .given_as = FOVEA_AS_BITS,
                    .meaning = "of the dtype of payload, and given with it"}},
     .operations = "s*R*N", .bytes = "2*(s+payload)*R*N", .bench = "R=1,N=1000000",
     .bound_text = "exact; NaN payloads free without payload",
     .check = FOVEA_HOOK(fovea_check_payload), .case_defaults = FOVEA_HOOK(fovea_payload_defaults),
     .canonical = FOVEA_HOOK(fovea_canonical_stable)},
    {82, "median_select", COMMON, .of_something = true,
     .definition = "y = the middle value; of an even number the mean of the two middle ones",
     .remarks = "Any NaN gives NaN. PyTorch's median is the lower of the two.",
     .arguments = {{.name = "x", .shape = "N..."}, SELECTED("N...-axis")}, .parameters = {AXIS},
     .operations = "N", .bytes = "s*N", .bench = "N=1000000", .bound_text = "1 ULP",
     .bound = FOVEA_HOOK(fovea_bound_quantile), .bound_factor = 1},
    {83, "percentile_select", COMMON, .of_something = true,
     .definition = "y_i = a + f (b - a), f the fraction of h = (n-1) q_i / 100, a and b the order "
                   "statistics around h",
     .remarks = "Any NaN gives NaN. f = 0 and a = b give a.",
     .arguments = {{.name = "x", .shape = "N..."},
                   {.name = "q",
                    .shape = "M",
                    .dtypes = 1u << FOVEA_F64,
                    .fill = FOVEA_FILL_BY_ROW,
                    .meaning = "in [0, 100]"},
                   SELECTED("N...-axis, M")},
     .parameters = {AXIS}, .operations = "N", .bytes = "s*N", .bench = "N=1000000,M=5",
     .bound_text = "2 ULP of max(|a|, |b|)", .bound = FOVEA_HOOK(fovea_bound_quantile),
     .bound_factor = 2, .check = FOVEA_HOOK(fovea_check_percentiles), .checks_contents = true,
     .case_fill = FOVEA_HOOK(fovea_fill_percentiles)},
    {0}};
