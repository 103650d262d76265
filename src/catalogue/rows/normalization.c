/* Domain 5, normalization, and of domain 21 what extends layer_norm. */
#include "catalogue/network.h"

#define COMMON                                                                                     \
    .domain = "normalization", .dtypes = FOVEA_FLOATS, .bytes = "2*s*B*D",                         \
    .check = FOVEA_HOOK(fovea_check_epsilon)
#define CHANNELS(check_function)                                                                   \
    .domain = "normalization", .dtypes = FOVEA_FLOATS, .bytes = "2*s*B*C*T",                       \
    .check = FOVEA_HOOK(check_function), .case_defaults = FOVEA_HOOK(fovea_norm_case_defaults),    \
    .bound = FOVEA_HOOK(fovea_bound_norm_sets)
#define F32_ONLY (1u << FOVEA_F32)
#define U8_ONLY (1u << FOVEA_U8)
#define INPUT                                                                                      \
    { .name = "x", .shape = "B..., D" }
#define OUTPUT                                                                                     \
    { .name = "y", .shape = "B..., D", .role = FOVEA_OUTPUT }
#define WEIGHT(called, extent, least, most, otherwise)                                             \
    {                                                                                              \
        .name = called, .shape = extent, .dtypes = FOVEA_CALL | 1u << FOVEA_F32, .optional = true, \
        .fill = FOVEA_FILL_UNIFORM, .low = least, .high = most,                                    \
        .meaning = otherwise " if not given"                                                       \
    }
#define GAMMA(extent) WEIGHT("gamma", extent, 0.5, 1.5, "1")
#define BETA(extent) WEIGHT("beta", extent, -0.1, 0.1, "0")
#define EPS(place)                                                                                 \
    { "eps", FOVEA_REAL, 1e-5, NULL, "added to the " place }

const fovea_kernel fovea_rows_normalization[] = {
    {32, "layer_norm", COMMON,
     .definition = "y = gamma (x-mean)/sqrt(var+eps) + beta, mean and var (divisor D) of the row",
     .source = "Ba, Kiros and Hinton, Layer normalization, 2016",
     .arguments = {INPUT, OUTPUT, GAMMA("D"), BETA("D")}, .parameters = {EPS("variance")},
     .operations = "7*B*D", .bench = "B=max(1,floor(N/9765)),D=9765,gamma=1,beta=1",
     .bound_text = "c eps (|gamma| ((|x| + mean|x|) r + |h|) + |beta|), c = 8 + ceil(log2 D), r = "
                   "1/sqrt(var+eps), h = (x-mean) r",
     .bound = FOVEA_HOOK(fovea_bound_layer_norm)},
    {33, "rms_norm", COMMON, .definition = "y = gamma x / sqrt(mean(x^2) + eps)",
     .source = "Zhang and Sennrich, Root mean square layer normalization, 2019",
     .arguments = {INPUT, OUTPUT, GAMMA("D")}, .parameters = {EPS("mean square")},
     .operations = "4*B*D", .bench = "B=max(1,floor(N/9765)),D=9765,gamma=1",
     .bound_text = "(8 + ceil(log2 D)) eps |y|", .bound = FOVEA_HOOK(fovea_bound_rms_norm)},
    {34, "batch_norm", CHANNELS(fovea_batch_norm_check),
     .definition = "layer_norm over the elements of a channel: y = gamma (x-mean)/sqrt(var+eps) + "
                   "beta, mean and var over all axes but C",
     .source = "Ioffe and Szegedy, Batch normalization, 2015",
     .remarks =
         "training computes mean and var (divisor n, the number of elements of a channel) and "
         "writes those that are given; given reads both and leaves them as they are. PyTorch "
         "keeps a running variance with divisor n-1: multiply var by n/(n-1) for that.",
     .arguments = {{.name = "x", .shape = "B, C, T..."},
                   {.name = "y", .shape = "B, C, T...", .role = FOVEA_OUTPUT},
                   GAMMA("C"),
                   BETA("C"),
                   {.name = "mean",
                    .shape = "C",
                    .dtypes = F32_ONLY,
                    .role = FOVEA_IN_PLACE,
                    .optional = true,
                    .meaning = "training: written; given: read"},
                   {.name = "var",
                    .shape = "C",
                    .dtypes = F32_ONLY,
                    .role = FOVEA_IN_PLACE,
                    .optional = true,
                    .fill = FOVEA_FILL_SQUARE,
                    .meaning = "training: written; given: read"}},
     .parameters = {EPS("variance"),
                    {"statistics", FOVEA_CHOICE, 0, "training,given",
                     "where mean and var are from"}},
     .operations = "7*B*C*T", .count_operations = FOVEA_HOOK(fovea_batch_norm_operations),
     .bench = "B=max(2,floor(N/9765)),C=floor(N/max(2,floor(N/9765))),T=1,gamma=1,beta=1",
     .tune = "b=32,c=64,t=1;b=1024,c=1024,t=1;b=8,c=64,t=1024;b=1024,c=1024,t=1,statistics=given",
     .bound_text =
         "that of layer_norm over the n elements of a channel; mean (8 + ceil(log2 n)) eps "
         "mean|x|, var as reduce_var"},
    {35, "group_norm", CHANNELS(fovea_group_norm_check),
     .definition = "layer_norm over each sample's groups of C/groups consecutive channels and what "
                   "follows them; gamma and beta by channel",
     .source = "Wu and He, Group normalization, 2018",
     .arguments = {{.name = "x", .shape = "B, C, T..."},
                   {.name = "y", .shape = "B, C, T...", .role = FOVEA_OUTPUT},
                   GAMMA("C"),
                   BETA("C")},
     .parameters = {EPS("variance"), {"groups", FOVEA_INTEGER, 32, NULL, "divides C"}},
     .check_values = "groups=1 2 3", .operations = "7*B*C*T",
     .bench = "B=max(1,floor(N/9765)),C=32*floor((N+9760-max(N,9760))/32),T=1,gamma=1,beta=1",
     .tune = "b=32,c=512,t=1;b=1024,c=9760,t=1;b=8,c=64,t=1024",
     .bound_text = "that of layer_norm over the n elements of a group"},
    {110, "fused_layernorm_dropout_residual", .domain = "fused_custom", .dtypes = FOVEA_FLOATS,
     .definition = "y = layer_norm(x) mask/keep + residual",
     .source = "Srivastava et al., Dropout: a simple way to prevent neural networks from "
               "overfitting, 2014",
     .remarks = "Without a mask, element i in row-major order is kept where prng_dropout_mask with "
                "this seed, stream and keep has 1. An element that is dropped is the residual, "
                "exactly. PyTorch's p is 1 - keep.",
     .arguments = {INPUT,
                   {.name = "residual", .shape = "B..., D"},
                   OUTPUT,
                   GAMMA("D"),
                   BETA("D"),
                   {.name = "mask",
                    .shape = "B..., D",
                    .dtypes = U8_ONLY,
                    .optional = true,
                    .fill = FOVEA_FILL_BINARY,
                    .meaning = "not 0: kept; if not given, drawn"},
                   {.name = "kept",
                    .shape = "B..., D",
                    .dtypes = U8_ONLY,
                    .role = FOVEA_OUTPUT,
                    .optional = true,
                    .meaning = "the mask that was used, 1 or 0"}},
     .parameters = {EPS("variance"),
                    {"keep", FOVEA_REAL, 0.9, NULL, "the part that is kept, rounded to f32"},
                    {"seed", FOVEA_INTEGER, 0, NULL, "the key"},
                    {"stream", FOVEA_INTEGER, 0, NULL, "another sequence of the same seed"}},
     .operations = "32*B*D", .count_operations = FOVEA_HOOK(fovea_dropout_operations),
     .check_values = FOVEA_CHECK_KEYS, .bytes = "3*s*B*D+(mask+kept)*B*D",
     .bench = "B=max(1,floor(N/1024)),D=1024,gamma=1,beta=1",
     .check = FOVEA_HOOK(fovea_dropout_check),
     .case_defaults = FOVEA_HOOK(fovea_dropout_case_defaults),
     .bound_text = "that of layer_norm divided by keep, plus eps |y|; dropped elements exact",
     .bound = FOVEA_HOOK(fovea_bound_dropout_residual)},
    {0}};
