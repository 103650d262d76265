/* Domain 15, layout: movements of data that change nothing but the order. */
#include "catalogue/order.h"

#define MOVE(from, to)                                                                             \
    .domain = "layout", .dtypes = FOVEA_FLOATS, .bound_text = "exact, bit for bit",                \
    .operations = "0",                                                                             \
    .arguments = {{.name = "x", .shape = from},                                                    \
                  {.name = "y", .shape = to, .role = FOVEA_OUTPUT, .given_as = FOVEA_AS_BITS}}
#define OF_FOUR                                                                                    \
    .bytes = "2*s*B*N*Four", .bench = "B=1,N=4194304", .check = FOVEA_HOOK(fovea_check_repack),    \
    .case_defaults = FOVEA_HOOK(fovea_repack_defaults)

const fovea_kernel fovea_rows_layout[] = {
    {88, "transpose_2d", MOVE("B..., R, C", "B..., C, R"), .definition = "y_ji = x_ij",
     .bytes = "2*s*B*R*C", .bench = "B=1,R=4096,C=4096"},
    {89, "repack_aos_to_soa", MOVE("B..., N, Four", "B..., Four, N"), OF_FOUR,
     .definition = "y_ci = x_ic, four values of each i brought apart"},
    {90, "repack_soa_to_aos", MOVE("B..., Four, N", "B..., N, Four"), OF_FOUR,
     .definition = "y_ic = x_ci, four values of each i brought together"},
    {0}};
