/* Domain 6, attention: the general forward operation with its presets, and the merge of partial
 * results. What it means beyond the scores stands in catalogue/attention.c. */
#include "catalogue/attention.h"
#include "catalogue/bounds.h"

#include <math.h>

#define F32_ONLY (1u << FOVEA_F32)
#define I32_ONLY (1u << FOVEA_I32)
#define KEYS (FOVEA_FLOATS | 1u << FOVEA_I8 | 1u << FOVEA_E4M3)
#define BOOLEAN (1u << FOVEA_BOOL | 1u << FOVEA_U8)

const fovea_kernel fovea_rows_attention[] = {
    {.number = 36,
     .name = "attention",
     .domain = "attention",
     .definition = "out = softmax(s) v, s = scale q k^T, then softcap c tanh(s/c), bias, ALiBi "
                   "slope (k - q), masks",
     .source = "Vaswani et al., Attention is all you need, 2017; flash: Dao et al., 2022",
     .remarks =
         "Axes are [B, H, S, D] (layout bhsd) or [B, S, H, D] (bshd), strides are free. Hq is a "
         "multiple of Hkv; query head h uses key head floor(h Hkv / Hq). Accumulation is f32. "
         "Position of query i is i + query_offset (+ Sk - Sq for causal bottom_right), in causal, "
         "window and ALiBi alike. A row that may attend nothing gives out 0 and lse -inf. Ragged "
         "batches: q and out are [total, Hq, D] with cu_seqlens_q, k and v [total, Hkv, D] with "
         "cu_seqlens_k, lse [Hq, total]. Paged: k and v are [pages, page_size, Hkv, D] with "
         "block_table and seqused_k. Dropout keeps p[b,h,i,j] if u < 1 - dropout, u = word j mod 4 "
         "of Philox4x32-10 with counter (floor(j/4), i, b Hq + h, dropout_offset) and key seed, as "
         "floor(word/2^8) 2^-24. A quantised cache: k and v are i8 or e4m3 (8-bit float, DLPack "
         "code "
         "10), each as it likes, and stand for the stored number times its scale. k_scale and "
         "v_scale have the axes of k and v; each extent is that of k or v, or 1, which broadcasts; "
         "the last one is G, and each D/G neighbouring elements of a row share a scale. So [1, "
         "Hkv, "
         "1, 1] is a scale a head, [B, Hkv, Sk, 1] a token, [B, Hkv, Sk, G] a group. Left out: 1.",
     .dtypes = FOVEA_FLOATS,
     .arguments =
         {[FOVEA_ATTENTION_Q] = {.name = "q", .shape = "B, Hq, Sq, D"},
          [FOVEA_ATTENTION_K] = {.name = "k", .shape = "B, Hkv, Sk, D", .dtypes = KEYS},
          [FOVEA_ATTENTION_V] = {.name = "v", .shape = "B, Hkv, Sk, Dv", .dtypes = KEYS},
          [FOVEA_ATTENTION_OUT] = {.name = "out", .shape = "B, Hq, Sq, Dv", .role = FOVEA_OUTPUT},
          [FOVEA_ATTENTION_LSE] = {.name = "lse",
                                   .shape = "B, Hq, Sq",
                                   .dtypes = F32_ONLY,
                                   .role = FOVEA_OUTPUT,
                                   .optional = true,
                                   .meaning = "natural log of the sum of exp(s)"},
          [FOVEA_ATTENTION_MASK] = {.name = "mask",
                                    .shape = "B, Hq, Sq, Sk",
                                    .dtypes = BOOLEAN,
                                    .optional = true,
                                    .fill = FOVEA_FILL_BINARY,
                                    .meaning = "true: may attend; broadcasts"},
          [FOVEA_ATTENTION_BIAS] = {.name = "bias",
                                    .shape = "B, Hq, Sq, Sk",
                                    .dtypes = FOVEA_FLOATS,
                                    .optional = true,
                                    .meaning = "added to s; broadcasts"},
          [FOVEA_ATTENTION_SLOPES] = {.name = "slopes",
                                      .shape = "Hq",
                                      .dtypes = F32_ONLY,
                                      .optional = true,
                                      .fill = FOVEA_FILL_BY_ROW,
                                      .meaning = "ALiBi slopes"},
          [FOVEA_ATTENTION_SINKS] = {.name = "sinks",
                                     .shape = "Hq",
                                     .dtypes = F32_ONLY,
                                     .optional = true,
                                     .meaning = "a logit a head that joins the denominator only"},
          [FOVEA_ATTENTION_CU_SEQLENS_Q] = {.name = "cu_seqlens_q",
                                            .shape = "B+1",
                                            .dtypes = I32_ONLY,
                                            .optional = true,
                                            .fill = FOVEA_FILL_BY_ROW,
                                            .meaning = "first row of each sequence in packed q"},
          [FOVEA_ATTENTION_CU_SEQLENS_K] = {.name = "cu_seqlens_k",
                                            .shape = "B+1",
                                            .dtypes = I32_ONLY,
                                            .optional = true,
                                            .fill = FOVEA_FILL_BY_ROW,
                                            .meaning = "first row of each sequence in packed k, v"},
          [FOVEA_ATTENTION_SEQUSED_K] = {.name = "seqused_k",
                                         .shape = "B",
                                         .dtypes = I32_ONLY,
                                         .optional = true,
                                         .fill = FOVEA_FILL_BY_ROW,
                                         .meaning = "keys of each sequence that exist"},
          [FOVEA_ATTENTION_BLOCK_TABLE] = {.name = "block_table",
                                           .shape = "B, max_pages",
                                           .dtypes = I32_ONLY,
                                           .optional = true,
                                           .fill = FOVEA_FILL_BY_ROW,
                                           .meaning = "pages of each sequence, in order"},
          [FOVEA_ATTENTION_K_SCALE] = {.name = "k_scale",
                                       .shape = "B, Hkv, Sk, G",
                                       .dtypes = F32_ONLY,
                                       .optional = true,
                                       .fill = FOVEA_FILL_UNIFORM,
                                       .low = 0.02,
                                       .high = 0.045,
                                       .meaning =
                                           "factors of a quantised k; extents of 1 broadcast"},
          [FOVEA_ATTENTION_V_SCALE] = {.name = "v_scale",
                                       .shape = "B, Hkv, Sk, G",
                                       .dtypes = F32_ONLY,
                                       .optional = true,
                                       .fill = FOVEA_FILL_UNIFORM,
                                       .low = 0.02,
                                       .high = 0.045,
                                       .meaning = "factors of a quantised v"}},
     .parameters = {{"scale", FOVEA_REAL, NAN, NULL, "factor of q k^T; NAN: 1/sqrt(D)"},
                    {"softcap", FOVEA_REAL, INFINITY, NULL, "c of c tanh(s/c); INFINITY: off"},
                    {"dropout", FOVEA_REAL, 0, NULL, "probability that an element of p is dropped"},
                    {"seed", FOVEA_INTEGER, 0, NULL, "of dropout"},
                    {"dropout_offset", FOVEA_INTEGER, 0, NULL, "last word of dropout's counter"},
                    {"query_offset", FOVEA_INTEGER, 0, NULL, "position of query 0"},
                    {"window_left", FOVEA_INTEGER, -1, NULL,
                     "keys before the position; -1: unbounded"},
                    {"window_right", FOVEA_INTEGER, -1, NULL,
                     "keys after the position; -1: unbounded"},
                    {"block_rows", FOVEA_INTEGER, 0, NULL, "query rows of a block; 0: by formula"},
                    {"block_keys", FOVEA_INTEGER, 0, NULL, "keys of a block; 0: by formula"},
                    {"layout", FOVEA_CHOICE, 0, "bhsd,bshd", "order of the axes"},
                    {"causal", FOVEA_CHOICE, 0, "none,top_left,bottom_right",
                     "causal mask and its alignment"},
                    {"algorithm", FOVEA_CHOICE, 0, "auto,textbook,fused,flash,split,sage",
                     "restricts the routing"}},
     .operations = "2*(D+Dv)*pairs",
     .bytes = "s*(B*Hq*Sq*(D+Dv)+B*Hkv*Sk*(D+Dv))",
     .bench = "B=4,Hq=32,Sq=512,D=128",
     .tune = "b=1,hq=8,sq=128,d=64;b=1,hq=8,sq=128,d=64,causal=top_left;"
             "b=1,hq=8,sq=512,d=64;b=1,hq=8,sq=512,d=64,causal=top_left;"
             "b=1,hq=4,sq=2048,d=64;b=1,hq=4,sq=2048,d=64,causal=top_left;"
             "b=1,hq=8,sq=1,sk=512,d=64;b=1,hq=8,sq=1,sk=4096,d=64;"
             "b=1,hq=8,hkv=2,sq=512,d=64;b=1,hq=8,sq=128,d=128;"
             "b=1,hq=8,sq=128,d=128,causal=top_left;b=1,hq=8,sq=512,d=128;"
             "b=1,hq=8,sq=512,d=128,causal=top_left;b=1,hq=4,sq=2048,d=128;"
             "b=1,hq=4,sq=2048,d=128,causal=top_left;b=1,hq=8,sq=1,sk=512,d=128;"
             "b=1,hq=8,sq=1,sk=4096,d=128;b=1,hq=8,hkv=2,sq=512,d=128;"
             "b=1,hq=8,hkv=2,sq=1,sk=4096,d=128;"
             "b=1,hq=8,sq=512,d=64,causal=top_left,window_left=128;"
             "b=1,hq=8,sq=512,d=64,mask=1;b=1,hq=8,sq=512,d=64,bias=1",
     .presets = {{36, "attention_sdpa", "", "B=4,Hq=32,Sq=512,D=128", "attention by any algorithm"},
                 {39, "attention_flash", "algorithm=flash", "B=4,Hq=32,Sq=2048,D=128",
                  "attention by the flash algorithm: no score matrix"},
                 {40, "attention_mqa", "", "dtype=f16,B=4,Hq=32,Hkv=1,Sq=2048,D=128",
                  "attention with one key and value head for all query heads (Hkv = 1)"},
                 {41, "attention_gqa", "", "dtype=f16,B=4,Hq=32,Hkv=8,Sq=2048,D=128",
                  "attention with grouped query heads"}},
     .bound_text = "f32: 4e-6 max|v| max(1, max|s|/8), s with and without softcap; halves: twice "
                   "the error of textbook in that "
                   "dtype with f32 softmax, plus one rounding; lse: (2e-6 |lse| + 2e-6) times the "
                   "same factor. Of a quantised cache what k and v stand for is taken as given",
     .bound = FOVEA_HOOK(fovea_bound_attention),
     .letters = "B,Hq,Hkv,Sq,Sk,D,Dv,Page",
     .shape = FOVEA_HOOK(fovea_attention_shape),
     .check = FOVEA_HOOK(fovea_attention_check),
     .case_shape = FOVEA_HOOK(fovea_attention_case_shape),
     .case_fill = FOVEA_HOOK(fovea_attention_case_fill),
     .case_defaults = FOVEA_HOOK(fovea_attention_case_defaults),
     .count_operations = FOVEA_HOOK(fovea_attention_operations),
     .count_bytes = FOVEA_HOOK(fovea_attention_bytes),
     .traits = FOVEA_HOOK(fovea_attention_traits),
     .trait_sizes = "d,dv,sq,sk,heads,group",
     .trait_features =
         "causal,window,mask,bias,ragged,paged,modified,stepped,k_i8,k_e4m3,v_i8,v_e4m3"},
    {.name = "attention_merge",
     .domain = "attention",
     .definition = "out = sum_p w_p parts_p, w = softmax over p of part_lses; lse = ln sum_p "
                   "e^(part_lses_p)",
     .remarks = "Combines partial results over disjoint sets of keys. A part with lse -inf counts "
                "nothing; where all are -inf, out is 0 and lse -inf.",
     .dtypes = FOVEA_FLOATS,
     .arguments = {{.name = "parts", .shape = "P, B, Hq, Sq, Dv"},
                   {.name = "part_lses", .shape = "P, B, Hq, Sq", .dtypes = F32_ONLY},
                   {.name = "out", .shape = "B, Hq, Sq, Dv", .role = FOVEA_OUTPUT},
                   {.name = "lse",
                    .shape = "B, Hq, Sq",
                    .dtypes = F32_ONLY,
                    .role = FOVEA_OUTPUT,
                    .optional = true}},
     .operations = "2*P*B*Hq*Sq*Dv",
     .bytes = "s*(P+1)*B*Hq*Sq*Dv+4*P*B*Hq*Sq",
     .tune = "p=4,b=1,hq=8,sq=1,dv=128;p=4,b=1,hq=8,sq=128,dv=64;p=8,b=4,hq=8,sq=128,dv=64",
     .bench = "P=8,B=max(1,floor(N/524288)),Hq=8,Sq=128,Dv=64",
     .bound_text = "8 eps (sum_p w_p |parts_p| (1 + |part_lses_p - max|)); lse: 4 eps (1 + |lse|)",
     .bound = FOVEA_HOOK(fovea_bound_merge)},
    {0}};
