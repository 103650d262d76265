/* Domain 5, normalization. */
#include "catalogue/bounds.h"

#define COMMON                                                                                     \
    .domain = "normalization", .dtypes = FOVEA_FLOATS, .bytes = "2*s*B*D",                         \
    .check = FOVEA_HOOK(fovea_check_epsilon)
#define INPUT                                                                                      \
    { .name = "x", .shape = "B..., D" }
#define OUTPUT                                                                                     \
    { .name = "y", .shape = "B..., D", .role = FOVEA_OUTPUT }
#define WEIGHT(called, least, most, otherwise)                                                     \
    {                                                                                              \
        .name = called, .shape = "D", .dtypes = FOVEA_CALL | 1u << FOVEA_F32, .optional = true,    \
        .fill = FOVEA_FILL_UNIFORM, .low = least, .high = most,                                    \
        .meaning = otherwise " if not given"                                                       \
    }
#define GAMMA WEIGHT("gamma", 0.5, 1.5, "1")
#define BETA WEIGHT("beta", -0.1, 0.1, "0")
#define EPS(place)                                                                                 \
    { "eps", FOVEA_REAL, 1e-5, NULL, "added to the " place }

const fovea_kernel fovea_rows_normalization[] = {
    {32, "layer_norm", COMMON,
     .definition = "y = gamma (x-mean)/sqrt(var+eps) + beta, mean and var (divisor D) of the row",
     .source = "Ba, Kiros and Hinton, Layer normalization, 2016",
     .arguments = {INPUT, OUTPUT, GAMMA, BETA}, .parameters = {EPS("variance")},
     .operations = "7*B*D", .bench = "B=max(1,floor(N/9765)),D=9765,gamma=1,beta=1",
     .bound_text = "c eps (|gamma| ((|x| + mean|x|) r + |h|) + |beta|), c = 8 + ceil(log2 D), r = "
                   "1/sqrt(var+eps), h = (x-mean) r",
     .bound = FOVEA_HOOK(fovea_bound_layer_norm)},
    {33, "rms_norm", COMMON, .definition = "y = gamma x / sqrt(mean(x^2) + eps)",
     .source = "Zhang and Sennrich, Root mean square layer normalization, 2019",
     .arguments = {INPUT, OUTPUT, GAMMA}, .parameters = {EPS("mean square")}, .operations = "4*B*D",
     .bench = "B=max(1,floor(N/9765)),D=9765,gamma=1", .bound_text = "(8 + ceil(log2 D)) eps |y|",
     .bound = FOVEA_HOOK(fovea_bound_rms_norm)},
    {0}};
