/* Domain 16, scans: prefix sums, and compaction by a mask or a threshold; 112, which is the last in one
 * kernel, stands with them. */
#include "catalogue/bounds.h"
#include "catalogue/order.h"

#define DTYPES                                                                                     \
    (1u << FOVEA_F32 | 1u << FOVEA_F64 | 1u << FOVEA_I32 | 1u << FOVEA_U32 | 1u << FOVEA_I64)
#define SCAN                                                                                       \
    .domain = "scans", .dtypes = DTYPES, .operations = "R*N", .bytes = "2*s*R*N",                  \
    .bench = "dtype=u32,R=1,N=N", .exact_sums = true,                                              \
    .arguments = {{.name = "x", .shape = "R..., N", .high = 1000},                                 \
                  {.name = "y",                                                                    \
                   .shape = "R..., N",                                                             \
                   .role = FOVEA_OUTPUT,                                                           \
                   .given_as = FOVEA_INTEGERS_AS_BITS}},                                           \
    .parameters = {{"over", FOVEA_CHOICE, 0, "last,all",                                           \
                    "along the last axis, or over all elements in row-major order"}},              \
    .remarks = "Integers wrap. NumPy's sums of u32 are u64, PyTorch's i64.",                       \
    .bound_text = "integers exact; floats R(i+1) = (8 + ceil(log2(i+1))) eps sum|x| of each "      \
                  "prefix",                                                                        \
    .bound = FOVEA_HOOK(fovea_bound_prefix)
#define KEPT                                                                                       \
    {                                                                                              \
        .name = "y", .shape = "N", .role = FOVEA_OUTPUT, .given_as = FOVEA_AS_BITS,                \
        .meaning = "what follows the first count elements is not touched"                          \
    }
#define COUNT                                                                                      \
    { .name = "count", .shape = "", .role = FOVEA_OUTPUT, .dtypes = 1u << FOVEA_I64 }
#define IF                                                                                         \
    .dtypes = DTYPES, .arguments = {{.name = "x", .shape = "N"}, KEPT, COUNT},                     \
    .parameters = {{"threshold", FOVEA_REAL, 0, NULL, "rounded to the dtype"}},                    \
    .operations = "2*N", .bytes = "1.5*s*N", .bench = "N=N", .bound_text = "exact, bit for bit",   \
    .written = FOVEA_HOOK(fovea_written_if)

const fovea_kernel fovea_rows_scans[] = {
    {91, "scan_exclusive", SCAN, .definition = "y_i = sum of x_j, j < i; y_0 = 0"},
    {92, "scan_inclusive", SCAN, .definition = "y_i = sum of x_j, j <= i"},
    {.number = 93,
     .name = "compact_mask",
     .domain = "scans",
     .definition = "y = the x_i whose mask_i is not 0, in order; count of them",
     .dtypes = DTYPES,
     .arguments = {{.name = "x", .shape = "N"},
                   {.name = "mask",
                    .shape = "N",
                    .dtypes = 1u << FOVEA_U8 | 1u << FOVEA_BOOL,
                    .fill = FOVEA_FILL_BINARY},
                   KEPT,
                   COUNT},
     .operations = "N",
     .bytes = "(1.5*s+1)*N",
     .bench = "N=N",
     .bound_text = "exact, bit for bit",
     .written = FOVEA_HOOK(fovea_written_by_mask)},
    {94, "compact_if", IF, .domain = "scans",
     .definition = "y = the x_i > threshold, in order; count of them",
     .remarks = "NaN is not kept."},
    {112, "fused_scan_compact", IF, .domain = "fused_custom",
     .definition = "as compact_if: flags, their scan and the scatter in one kernel",
     .remarks = "NaN is not kept."},
    {0}};
