/* Domain 8, optimizers, and of domain 21 what extends them: parameters and their states, updated in place. Parameters of the method that
 * multiply data are rounded to f32; 1 - beta and the like are formed in double and rounded once. */
#include "catalogue/bounds.h"

#define F32_CALL .dtypes = 1u << FOVEA_F32
#define COMMON .domain = "optimizers", F32_CALL
#define P                                                                                          \
    { .name = "p", .shape = "N...", .role = FOVEA_IN_PLACE, .meaning = "parameters" }
#define G                                                                                          \
    { .name = "g", .shape = "N...", .meaning = "gradient" }
#define M                                                                                          \
    { .name = "m", .shape = "N...", .role = FOVEA_IN_PLACE, .meaning = "mean of gradients" }
#define V                                                                                          \
    {                                                                                              \
        .name = "v", .shape = "N...", .role = FOVEA_IN_PLACE, .fill = FOVEA_FILL_SQUARE,           \
        .meaning = "mean of squared gradients"                                                     \
    }
#define RATE                                                                                       \
    { "lr", FOVEA_REAL, 0.001, NULL, "learning rate" }
#define DECAY(standard)                                                                            \
    { "weight_decay", FOVEA_REAL, standard, NULL, "weight decay" }
#define STEP                                                                                       \
    { "step", FOVEA_INTEGER, 1, NULL, "number of the step, from 1" }
#define LATER .check_values = "step=10"
#define ADAM                                                                                       \
    F32_CALL, .arguments = {P, G, M, V}, .bytes = "28*N", .bench = "N=N,step=10", LATER,           \
              .check = FOVEA_HOOK(fovea_check_step), .bound = FOVEA_HOOK(fovea_bound_adam),        \
              .bound_text = "m, v 4 eps S; p 2 eps |p| + 16 eps |update|"
#define ADAM_CONSTANTS(decay)                                                                      \
    RATE, {"beta1", FOVEA_REAL, 0.9, NULL, "what m keeps"},                                        \
        {"beta2", FOVEA_REAL, 0.999, NULL, "what v keeps"},                                        \
        {"eps", FOVEA_REAL, 1e-8, NULL, "added to the root"}, DECAY(decay), STEP
#define ADAM_PARAMETERS(decay) .parameters = {ADAM_CONSTANTS(decay)}

const fovea_kernel fovea_rows_optimizers[] = {
    {49, "opt_sgd", COMMON, .definition = "g' = g + weight_decay p; p -= lr g'",
     .arguments = {P, G}, .parameters = {RATE, DECAY(0)}, .operations = "2*N", .bytes = "12*N",
     .bench = "N=N", .bound_text = "2 eps |p| + 16 eps |update|",
     .bound = FOVEA_HOOK(fovea_bound_sgd)},
    {50, "opt_sgd_momentum", COMMON,
     .definition = "g' = g + weight_decay p; v = momentum v + (1 - dampening) g' (step 1: v = g'); "
                   "p -= lr v, nesterov: p -= lr (g' + momentum v)",
     .arguments = {P,
                   G,
                   {.name = "v", .shape = "N...", .role = FOVEA_IN_PLACE, .meaning = "velocity"}},
     .parameters = {RATE,
                    {"momentum", FOVEA_REAL, 0.9, NULL, "what v keeps"},
                    {"dampening", FOVEA_REAL, 0, NULL, "of the gradient in v"},
                    {"nesterov", FOVEA_FLAG, 0, NULL, "looks a step ahead"},
                    DECAY(0),
                    STEP},
     .operations = "4*N", .bytes = "20*N", .bench = "N=N,step=10", LATER,
     .bound_text = "v 4 eps S; p 2 eps |p| + 16 eps |update|",
     .check = FOVEA_HOOK(fovea_check_step), .bound = FOVEA_HOOK(fovea_bound_momentum)},
    {51, "opt_adam", .domain = "optimizers", ADAM, ADAM_PARAMETERS(0),
     .definition =
         "g' = g + weight_decay p; m = beta1 m + (1 - beta1) g'; v = beta2 v + (1 - beta2) "
         "g'^2; p -= lr (m/(1 - beta1^step)) / (sqrt(v/(1 - beta2^step)) + eps)",
     .source = "Kingma and Ba, Adam: a method for stochastic optimization, 2015",
     .operations = "14*N"},
    {52, "opt_adamw", .domain = "optimizers", ADAM, ADAM_PARAMETERS(0.01),
     .definition = "p *= 1 - lr weight_decay, then opt_adam without weight decay",
     .source = "Loshchilov and Hutter, Decoupled weight decay regularization, 2019",
     .operations = "15*N"},
    {53, "grad_clip_norm", COMMON,
     .definition = "norm = sqrt(sum of g^2) over the tensor; g *= min(1, max_norm/(norm + 1e-6))",
     .remarks = "A NaN norm makes g NaN; with an infinite norm the factor is 0.",
     .arguments = {{.name = "g", .shape = "N...", .role = FOVEA_IN_PLACE, .meaning = "gradient"},
                   {.name = "norm", .shape = "", .role = FOVEA_OUTPUT}},
     .parameters = {{"max_norm", FOVEA_REAL, 1, NULL, "the largest norm that stays"}},
     .operations = "3*N", .bytes = "12*N",
     /* g is read for the norm and again for the product, of which a norm that small leaves some for the next call */
     .bench = "N=N,max_norm=0.000001", .bound_text = "(8 + ceil(log2 N)) eps, relative",
     .bound = FOVEA_HOOK(fovea_bound_clip_norm)},
    {54, "grad_clip_value", COMMON, .definition = "g = min(max(g, -c), c)",
     .arguments = {{.name = "g", .shape = "N...", .role = FOVEA_IN_PLACE, .meaning = "gradient"}},
     .parameters = {{"c", FOVEA_REAL, 1, NULL, "rounded to f32"}}, .operations = "2*N",
     .bytes = "8*N", .bench = "N=N", .bound_text = "exact (the sign of a zero is free)"},
    {114, "fused_adam_clip_update", .domain = "fused_custom", ADAM,
     .definition = "g' = min(max(g, -c), c), then opt_adamw with g'; g is only read",
     .parameters = {ADAM_CONSTANTS(0.01), {"c", FOVEA_REAL, 1, NULL, "limit of g, rounded to f32"}},
     .operations = "17*N"},
    {0}};
