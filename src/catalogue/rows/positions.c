/* Of domain 6, attention, what prepares its inputs by their positions; of domain 21 what extends it. */
#include "catalogue/network.h"

#define ROTARY                                                                                     \
    .check = FOVEA_HOOK(fovea_rope_check), .case_shape = FOVEA_HOOK(fovea_rope_case_shape),        \
    .case_defaults = FOVEA_HOOK(fovea_rope_case_defaults), .check_values = FOVEA_CHECK_OFFSETS,    \
    .source = "Su et al., RoFormer: enhanced transformer with rotary position embedding, 2021"
#define F32_ONLY (1u << FOVEA_F32)
#define TABLE(called)                                                                              \
    {                                                                                              \
        .name = called, .shape = "(S, D/2)", .dtypes = F32_ONLY, .optional = true,                 \
        .fill = FOVEA_FILL_UNIFORM, .low = -1, .high = 1,                                          \
        .meaning = "of row p in row p; if not given, by base and offset"                           \
    }
#define PAIRING                                                                                    \
    { "pairing", FOVEA_CHOICE, 0, "half,interleaved", "pairs j, j + D/2 or 2j, 2j + 1" }
#define BASE                                                                                       \
    { "base", FOVEA_REAL, 10000, NULL, "of the angles" }
#define OFFSET                                                                                     \
    { "offset", FOVEA_INTEGER, 0, NULL, "position of row 0" }

const fovea_kernel fovea_rows_positions[] = {
    {37, "rope_apply", ROTARY, .domain = "attention", .dtypes = FOVEA_FLOATS, .elementwise = true,
     .definition =
         "the pair (a, b) of row p at angle w becomes (a cos w - b sin w, a sin w + b cos "
         "w), w = (p + offset) base^(-2j/D) for pair j",
     .arguments = {{.name = "x", .shape = "B..., S, D"},
                   {.name = "y", .shape = "B..., S, D", .role = FOVEA_OUTPUT},
                   TABLE("cos"),
                   TABLE("sin")},
     .parameters = {PAIRING, BASE, OFFSET}, .operations = "3*B*S*D",
     .bytes = "2*s*B*S*D+(cos+sin)*S*D/2", .bench = "B=128,S=512,D=128,cos=1,sin=1",
     .tune = "b=8,s=16,d=128,cos=1;b=32,s=512,d=128,cos=1;b=32,s=512,d=128",
     .bound_text = "4 eps (|a| + |b|)", .bound = FOVEA_HOOK(fovea_bound_rope)},
    {38, "alibi_bias", .domain = "attention", .dtypes = FOVEA_FLOATS,
     .definition = "scores[b,h,q,k] += slopes[h] (k - (q + offset))",
     .source = "Press, Smith and Lewis, Train short, test long: attention with linear biases, 2022",
     .remarks = "FlashAttention's bias is -slope |q + Sk - Sq - k|, which differs without a causal "
                "mask.",
     .arguments = {{.name = "scores", .shape = "B..., H, Sq, Sk", .role = FOVEA_IN_PLACE},
                   {.name = "slopes",
                    .shape = "H",
                    .dtypes = F32_ONLY,
                    .optional = true,
                    .meaning = "2^(-8(h+1)/H) if not given"}},
     .parameters = {{"offset", FOVEA_INTEGER, 0, NULL, "position of query 0"}},
     .check_values = FOVEA_CHECK_OFFSETS, .operations = "2*B*H*Sq*Sk", .bytes = "2*s*B*H*Sq*Sk",
     .bench = "B=1,H=32,Sq=512,Sk=512", .tune = "b=1,h=8,sq=16,sk=64;b=1,h=32,sq=512,sk=512",
     .bound_text = "2 eps (|score| + |bias|)", .bound = FOVEA_HOOK(fovea_bound_alibi)},
    {42, "rope_precompute", .domain = "attention", .dtypes = F32_ONLY,
     .definition = "cos and sin of w(p, j) = (p + offset) base^(-j/P), P = D/2 pairs",
     .source = "Su et al., RoFormer: enhanced transformer with rotary position embedding, 2021",
     .arguments = {{.name = "cos", .shape = "S, P", .role = FOVEA_OUTPUT},
                   {.name = "sin", .shape = "S, P", .role = FOVEA_OUTPUT}},
     .parameters = {BASE, OFFSET}, .check = FOVEA_HOOK(fovea_rope_table_check),
     .case_defaults = FOVEA_HOOK(fovea_rope_case_defaults), .check_values = FOVEA_CHECK_OFFSETS,
     .operations = "3*S*P", .bytes = "8*S*P", .bench = "S=2048,P=64",
     .tune = "s=16,p=64;s=2048,p=64", .bound_text = "eps, absolute, for positions up to 2^24",
     .bound = FOVEA_HOOK(fovea_bound_table)},
    {113, "fused_rope_attention_mask", ROTARY, .domain = "fused_custom", .dtypes = FOVEA_FLOATS,
     .definition = "A[q,k] = rope(q)_q . rope(k)_k / sqrt D for k <= q, -inf above the diagonal",
     .arguments = {{.name = "q", .shape = "B..., S, D"},
                   {.name = "k", .shape = "B..., S, D"},
                   {.name = "A", .shape = "B..., S, S", .role = FOVEA_OUTPUT},
                   TABLE("cos"),
                   TABLE("sin")},
     .parameters = {PAIRING, BASE, OFFSET}, .operations = "B*(6*S*D+(D+0.5)*S*(S+1))",
     .bytes = "s*B*(2*S*D+S*S)+(cos+sin)*S*D/2", .bench = "B=1,S=256,D=64,cos=1,sin=1",
     .tune = "b=1,s=32,d=64,cos=1;b=1,s=256,d=64,cos=1;b=32,s=512,d=64,cos=1",
     .bound_text =
         "(8 + sqrt D) eps sum (|a| + |b|)(|c| + |d|) / sqrt D over pairs (a, b) of q and "
         "(c, d) of k; halves plus 4 u of that, u = 2^-11, 2^-8",
     .bound = FOVEA_HOOK(fovea_bound_rope_scores)},
    {0}};
