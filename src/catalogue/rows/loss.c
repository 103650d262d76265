/* Domain 7, losses with their gradients, and of domain 21 what extends them. */
#include "catalogue/network.h"

#define ONE_TERM(letters, first, second)                                                           \
    .arguments = {first, second, LOSS("(scalar; " letters " if reduction is none)"),               \
                  GRADIENT(letters, true)},                                                        \
    .bound = FOVEA_HOOK(fovea_bound_loss), COMMON
#define COMMON                                                                                     \
    .domain = "loss", .dtypes = FOVEA_FLOATS, .check = FOVEA_HOOK(fovea_loss_check),               \
    .case_shape = FOVEA_HOOK(fovea_loss_case_shape)
#define LOSS(text)                                                                                 \
    { .name = "loss", .shape = text, .role = FOVEA_OUTPUT, .dtypes = 1u << FOVEA_F32 }
#define GRADIENT(text, may_lack)                                                                   \
    {                                                                                              \
        .name = "gradient", .shape = text, .role = FOVEA_OUTPUT, .optional = may_lack,             \
        .meaning = "of the loss; for reduction none, of each term"                                 \
    }
#define P                                                                                          \
    { .name = "p", .shape = "N...", .meaning = "prediction" }
#define Y                                                                                          \
    { .name = "y", .shape = "N...", .meaning = "target" }
#define SHARES(called)                                                                             \
    { .name = called, .shape = "B..., C", .fill = FOVEA_FILL_SHARES, .varied = true }
#define PROBABILITY                                                                                \
    {                                                                                              \
        .name = "p", .shape = "N...", .fill = FOVEA_FILL_UNIFORM, .low = 0.001, .high = 0.999,     \
        .varied = true, .meaning = "prediction"                                                    \
    }
#define BINARY                                                                                     \
    { .name = "y", .shape = "N...", .fill = FOVEA_FILL_BINARY, .meaning = "target" }
#define REDUCTION(standard)                                                                        \
    { "reduction", FOVEA_CHOICE, standard, "none,mean,sum", "of the terms" }
#define SUM_BOUND "(8 + ceil(log2 N)) eps sum |term|; gradient 8 ULP"
#define ENTROPY(optional_gradient)                                                                 \
    .dtypes = FOVEA_FLOATS, .check = FOVEA_HOOK(fovea_loss_check),                                 \
    .case_shape = FOVEA_HOOK(fovea_loss_case_shape),                                               \
    .case_fill = FOVEA_HOOK(fovea_loss_case_fill), .bound = FOVEA_HOOK(fovea_bound_cross_entropy), \
    .arguments = {{.name = "z", .shape = "B..., C", .meaning = "logits"},                          \
                  {.name = "target",                                                               \
                   .shape = "B...",                                                                \
                   .dtypes = 1u << FOVEA_I64 | 1u << FOVEA_I32,                                    \
                   .fill = FOVEA_FILL_BY_ROW,                                                      \
                   .meaning = "class of each row"},                                                \
                  LOSS("(scalar; B... if reduction is none)"),                                     \
                  GRADIENT("B..., C", optional_gradient)},                                         \
    .bound_text =                                                                                  \
        "row: (8 + ceil(log2 C)) eps (1 + |z_t - max z|), with smoothing the weighted mean "       \
        "of that; reduced: plus (8 + ceil(log2 B)) eps sum (1 + |term|); gradient: "               \
        "softmax_stable's bound + eps, times the scale"
#define TARGETS                                                                                    \
    "The gradient is softmax(z) - w, divided by the number of rows for mean, which divides by "    \
    "the "                                                                                         \
    "rows that are not ignored (none: NaN). A target that is no class and not ignored makes the "  \
    "loss and the gradient of its row NaN."
#define IGNORED                                                                                    \
    { "ignore_index", FOVEA_INTEGER, -100, NULL, "target of rows that do not count" }

const fovea_kernel fovea_rows_loss[] = {
    {43, "loss_cross_entropy", .domain = "loss", ENTROPY(true),
     .definition = "-sum_c w_c log_softmax(z)_c, w = (1 - label_smoothing) onehot(target) + "
                   "label_smoothing/C; terms with w_c = 0 are 0",
     .source = "Szegedy et al., Rethinking the Inception architecture, 2016, section 7",
     .remarks = TARGETS,
     .parameters = {REDUCTION(1),
                    IGNORED,
                    {"label_smoothing", FOVEA_REAL, 0, NULL, "weight spread over all classes"}},
     .operations = "4*B*C", .bytes = "s*B*C+target*B",
     .bench = "B=max(1,floor(N/100)),C=100,target=i64"},
    {44, "loss_mse", ONE_TERM("N...", P, Y), .definition = "(p - y)^2",
     .parameters = {REDUCTION(1)}, .operations = "3*N", .bytes = "2*s*N", .bench = "N=N",
     .bound_text = SUM_BOUND},
    {45, "loss_mae", ONE_TERM("N...", P, Y), .definition = "|p - y|",
     .remarks = "The gradient at p = y is 0.", .parameters = {REDUCTION(1)}, .operations = "3*N",
     .bytes = "2*s*N", .bench = "N=N", .bound_text = SUM_BOUND},
    {46, "loss_huber", ONE_TERM("N...", P, Y),
     .definition = "d = |p - y|: d^2/2 if d <= delta, else delta (d - delta/2)",
     .source = "Huber, Robust estimation of a location parameter, 1964",
     .parameters = {REDUCTION(1), {"delta", FOVEA_REAL, 1, NULL, "rounded to f32"}},
     .operations = "6*N", .bytes = "2*s*N", .bench = "N=N", .bound_text = SUM_BOUND},
    {47, "loss_kl_div", ONE_TERM("B..., C", SHARES("p"), SHARES("q")),
     .definition = "p ln(p/q); p = 0 gives 0, p > 0 with q = 0 inf",
     .source = "Kullback and Leibler, On information and sufficiency, 1951",
     .remarks = "The gradient is with respect to q: -p/q, 0 where p = 0. PyTorch takes ln q and p, "
                "and means by default.",
     .parameters = {REDUCTION(2)}, .operations = "4*B*C", .bytes = "2*s*B*C",
     .bench = "B=max(1,floor(N/100)),C=100",
     .bound_text = "(8 + ceil(log2 N)) eps sum p (1 + |ln(p/q)|); gradient 8 ULP"},
    {48, "loss_bce", ONE_TERM("N...", PROBABILITY, BINARY),
     .definition =
         "-(y ln p + (1-y) ln(1-p)), p clamped to [1e-7, 1 - 2^-23]; from_logits: max(p, 0) "
         "- p y + ln(1 + e^-|p|)",
     .remarks = "The gradient is (p-y)/(p(1-p)) at the clamped p; from_logits: sigmoid(p) - y.",
     .parameters = {REDUCTION(1), {"from_logits", FOVEA_FLAG, 0, NULL, "p are logits"}},
     .operations = "10*N", .bytes = "2*s*N", .bench = "N=N",
     .bound_text = "(8 + ceil(log2 N)) eps sum (1 + |term|); gradient 8 ULP, from_logits 4 eps"},
    {115, "fused_softmax_cross_entropy", .domain = "fused_custom", ENTROPY(false),
     .definition = "loss_cross_entropy and its gradient, each logit read from memory once",
     .remarks = TARGETS, .parameters = {REDUCTION(0), IGNORED}, .operations = "5*B*C",
     .bytes = "2*s*B*C+(target+4)*B", .bench = "B=max(1,floor(N/256)),C=256,target=i64"},
    {0}};
