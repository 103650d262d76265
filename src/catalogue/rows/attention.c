/* Domain 6, attention: the general forward operation with its presets, its gradient, and the merge
 * of partial results. What it means beyond the scores stands in catalogue/attention.c. */
#include "catalogue/attention.h"
#include "catalogue/append.h"
#include "catalogue/bounds.h"

#include <math.h>

#define F32_ONLY (1u << FOVEA_F32)
#define I32_ONLY (1u << FOVEA_I32)
#define KEYS (FOVEA_FLOATS | 1u << FOVEA_I8 | 1u << FOVEA_E4M3)
#define BOOLEAN (1u << FOVEA_BOOL | 1u << FOVEA_U8)

/* What attention and its gradient are told alike, from the mask to the lengths in use. */
#define MASKS_AND_LENGTHS                                                                          \
    [FOVEA_ATTENTION_MASK] = {.name = "mask",                                                      \
                              .shape = "B, Hq, Sq, Sk",                                            \
                              .dtypes = BOOLEAN,                                                   \
                              .optional = true,                                                    \
                              .fill = FOVEA_FILL_BINARY,                                           \
                              .meaning = "true: may attend; broadcasts"},                          \
    [FOVEA_ATTENTION_BIAS] = {.name = "bias",                                                      \
                              .shape = "B, Hq, Sq, Sk",                                            \
                              .dtypes = FOVEA_FLOATS,                                              \
                              .optional = true,                                                    \
                              .meaning = "added to s; broadcasts"},                                \
    [FOVEA_ATTENTION_SLOPES] = {.name = "slopes",                                                  \
                                .shape = "Hq",                                                     \
                                .dtypes = F32_ONLY,                                                \
                                .optional = true,                                                  \
                                .fill = FOVEA_FILL_BY_ROW,                                         \
                                .meaning = "ALiBi slopes"},                                        \
    [FOVEA_ATTENTION_SINKS] = {.name = "sinks",                                                    \
                               .shape = "Hq",                                                      \
                               .dtypes = F32_ONLY,                                                 \
                               .optional = true,                                                   \
                               .meaning = "a logit a head that joins the denominator only"},       \
    [FOVEA_ATTENTION_CU_SEQLENS_Q] = {.name = "cu_seqlens_q",                                      \
                                      .shape = "B+1",                                              \
                                      .dtypes = I32_ONLY,                                          \
                                      .optional = true,                                            \
                                      .fill = FOVEA_FILL_BY_ROW,                                   \
                                      .meaning = "first row of each sequence in packed q"},        \
    [FOVEA_ATTENTION_CU_SEQLENS_K] = {.name = "cu_seqlens_k",                                      \
                                      .shape = "B+1",                                              \
                                      .dtypes = I32_ONLY,                                          \
                                      .optional = true,                                            \
                                      .fill = FOVEA_FILL_BY_ROW,                                   \
                                      .meaning = "first row of each sequence in packed k, v"},     \
    [FOVEA_ATTENTION_SEQUSED_K] = {.name = "seqused_k",                                            \
                                   .shape = "B",                                                   \
                                   .dtypes = I32_ONLY,                                             \
                                   .optional = true,                                               \
                                   .fill = FOVEA_FILL_BY_ROW,                                      \
                                   .meaning = "keys of each sequence that exist"}

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
          MASKS_AND_LENGTHS,
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
                     "restricts the routing; sage, which is approximate, runs only if asked for"},
                    {"granularity", FOVEA_CHOICE, 2, "block,warp,thread",
                     "sage: query rows and keys that share a scale: a tile (16 to 64 rows) and 64, "
                     "a vector and 16, each its own"},
                    {"smooth_k", FOVEA_FLAG, 1, NULL,
                     "sage: takes the mean over the keys from k before rounding it"},
                    {"pv", FOVEA_CHOICE, 0, "f32,bf16,i8",
                     "sage: arithmetic of p v; q k^T is in 8-bit integers"}},
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
                  "attention with grouped query heads"},
                 {111, "fused_attention_softmax_v", "algorithm=flash", "B=1,Hq=1,Sq=512,D=64",
                  "attention of one head in one kernel: no score matrix"}},
     .bound_text = "f32: 4e-6 max|v| max(1, max|s|/8), s with and without softcap; halves: twice "
                   "the error of textbook in that "
                   "dtype with f32 softmax, plus one rounding; lse: (2e-6 |lse| + 2e-6) times the "
                   "same factor. Of a quantised cache what k and v stand for is taken as given. "
                   "sage: of all elements cosine 0.9995 and relative L1 0.02 (pv=i8: 0.999, 0.03), "
                   "lse 1e-2 max(1, |lse|)",
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
    {.name = "attention_backward",
     .domain = "attention",
     .definition = "dv = p^T dout, ds = p (dout v^T - sum(dout out)), dq = scale ds k, dk = scale "
                   "ds^T q, with p = exp(s - lse) and s as attention computes it",
     .source = "Dao et al., FlashAttention, 2022, appendix B.2",
     .remarks =
         "The gradient of attention for the same q, k, v and options; out and lse are what it "
         "gave. "
         "dk and dv sum over the query heads of a group; dbias has the shape of bias and sums over "
         "what was broadcast; dsinks = -sum exp(sinks - lse) sum(dout out). A softcap multiplies "
         "ds "
         "by 1 - tanh^2 after dbias; dropout is rebuilt from its seed. A row that may attend "
         "nothing gives 0, and so do keys beyond a sequence's length. p is computed from lse, a "
         "block at a time: no score matrix. Deterministic: the same bits with any number of "
         "threads. NaN in row i of q, dout or out touches row i of dq and the dk and dv of its key "
         "head; in k or v, the gradients of its key head. Paged caches have no gradient: "
         "block_table is refused.",
     .dtypes = FOVEA_FLOATS,
     .arguments =
         {[FOVEA_ATTENTION_Q] = {.name = "q", .shape = "B, Hq, Sq, D"},
          [FOVEA_ATTENTION_K] = {.name = "k", .shape = "B, Hkv, Sk, D"},
          [FOVEA_ATTENTION_V] = {.name = "v", .shape = "B, Hkv, Sk, Dv"},
          [FOVEA_ATTENTION_OUT] = {.name = "out",
                                   .shape = "B, Hq, Sq, Dv",
                                   .meaning = "the result of attention"},
          [FOVEA_ATTENTION_LSE] = {.name = "lse",
                                   .shape = "B, Hq, Sq",
                                   .dtypes = F32_ONLY,
                                   .meaning = "that attention gave"},
          MASKS_AND_LENGTHS,
          [FOVEA_ATTENTION_BLOCK_TABLE] = {.name = "block_table",
                                           .shape = "B, max_pages",
                                           .dtypes = I32_ONLY,
                                           .optional = true,
                                           .fill = FOVEA_FILL_BY_ROW,
                                           .meaning = "refused: a paged cache has no gradient"},
          [FOVEA_BACKWARD_DOUT] = {.name = "dout", .shape = "B, Hq, Sq, Dv"},
          [FOVEA_BACKWARD_DQ] = {.name = "dq", .shape = "B, Hq, Sq, D", .role = FOVEA_OUTPUT},
          [FOVEA_BACKWARD_DK] = {.name = "dk", .shape = "B, Hkv, Sk, D", .role = FOVEA_OUTPUT},
          [FOVEA_BACKWARD_DV] = {.name = "dv", .shape = "B, Hkv, Sk, Dv", .role = FOVEA_OUTPUT},
          [FOVEA_BACKWARD_DBIAS] = {.name = "dbias",
                                    .shape = "B, Hq, Sq, Sk",
                                    .dtypes = FOVEA_FLOATS,
                                    .role = FOVEA_OUTPUT,
                                    .optional = true,
                                    .meaning = "of the shape of bias"},
          [FOVEA_BACKWARD_DSINKS] = {.name = "dsinks",
                                     .shape = "Hq",
                                     .dtypes = F32_ONLY,
                                     .role = FOVEA_OUTPUT,
                                     .optional = true,
                                     .meaning = "sums over batch and queries"}},
     .parameters =
         {{"scale", FOVEA_REAL, NAN, NULL, "factor of q k^T; NAN: 1/sqrt(D)"},
          {"softcap", FOVEA_REAL, INFINITY, NULL, "c of c tanh(s/c); INFINITY: off"},
          {"dropout", FOVEA_REAL, 0, NULL, "probability that an element of p was dropped"},
          {"seed", FOVEA_INTEGER, 0, NULL, "of dropout"},
          {"dropout_offset", FOVEA_INTEGER, 0, NULL, "last word of dropout's counter"},
          {"query_offset", FOVEA_INTEGER, 0, NULL, "position of query 0"},
          {"window_left", FOVEA_INTEGER, -1, NULL, "keys before the position; -1: unbounded"},
          {"window_right", FOVEA_INTEGER, -1, NULL, "keys after the position; -1: unbounded"},
          {"block_rows", FOVEA_INTEGER, 0, NULL, "query rows of a block; 0: by formula"},
          {"block_keys", FOVEA_INTEGER, 0, NULL, "keys of a block; 0: by formula"},
          {"layout", FOVEA_CHOICE, 0, "bhsd,bshd", "order of the axes"},
          {"causal", FOVEA_CHOICE, 0, "none,top_left,bottom_right",
           "causal mask and its alignment"}},
     .operations = "2*(3*D+2*Dv)*pairs",
     .bytes = "s*(B*Hq*Sq*(2*D+2*Dv)+2*B*Hkv*Sk*(D+Dv))",
     .bench = "B=1,Hq=32,Hkv=4,Sq=512,D=64,causal=top_left",
     .tune = "b=1,hq=8,sq=128,d=64;b=1,hq=8,sq=128,d=64,causal=top_left;"
             "b=1,hq=8,sq=512,d=64;b=1,hq=8,sq=512,d=64,causal=top_left;"
             "b=1,hq=8,hkv=2,sq=512,d=64,causal=top_left;b=1,hq=8,sq=512,d=128,causal=top_left;"
             "b=1,hq=4,sq=1024,d=64,causal=top_left;b=1,hq=1,sq=512,d=64",
     .bound_text =
         "f32: 4e-6 max(1, m/8), m the largest |s|, |lse| and |scale| sqrt(sum (q k)^2), times the "
         "sum of the magnitudes that make the element: dv sum p |dout|; ds p (sum|dout v| + "
         "sum|dout out|), dq |scale| sum ds |k|, dk "
         "|scale| sum ds |q|; p below 2^-126 may count as 0. Halves: that plus twice the error of "
         "textbook in that dtype with f32 softmax, plus one rounding",
     .bound = FOVEA_HOOK(fovea_bound_backward),
     .letters = "B,Hq,Hkv,Sq,Sk,D,Dv,Page",
     .shape = FOVEA_HOOK(fovea_backward_shape),
     .check = FOVEA_HOOK(fovea_backward_check),
     .case_shape = FOVEA_HOOK(fovea_backward_case_shape),
     .case_fill = FOVEA_HOOK(fovea_attention_case_fill),
     .case_defaults = FOVEA_HOOK(fovea_attention_case_defaults),
     .count_operations = FOVEA_HOOK(fovea_backward_operations),
     .count_bytes = FOVEA_HOOK(fovea_backward_bytes),
     .traits = FOVEA_HOOK(fovea_backward_traits),
     .trait_sizes = "d,dv,sq,sk,heads,group",
     .trait_features = "causal,window,mask,bias,ragged,paged,modified,stepped"},
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
    {.name = "kv_append",
     .domain = "attention",
     .definition = "cache[b, positions[b,t]] = k[b, t], v[b, t]; k rotated by its position, both "
                   "quantised, where asked for",
     .remarks =
         "Writes the keys and values of new tokens into a cache, in place; nothing else in the "
         "cache "
         "changes. k and v are [B, Hkv, T, D] (layout bhsd) or [B, T, Hkv, D] (bshd), the caches "
         "alike with S for T, or paged: [pages, page_size, Hkv, D] with block_table. Positions "
         "that "
         "are not negative rise along a sequence; a negative one leaves its token out. Rotating "
         "(rope) is that of rope_apply, at the angle of position + offset, or by row `position` of "
         "cos and sin. A cache of i8 or e4m3 gets, with scaling absmax, scale = max |x| / 127 or / "
         "448 for each group of D/G elements of a row, written to k_scale and v_scale, which have "
         "the axes of the cache and G last; with scaling given it uses those there, where extents "
         "of 1 broadcast, or 1. The number stored is x / scale to nearest even, kept within 127 or "
         "448; it is 0 where the absmax scale is 0 or not finite, so that NaN and infinities show "
         "when the cache is read. All this is f32 arithmetic.",
     .dtypes = FOVEA_FLOATS,
     .arguments =
         {[FOVEA_APPEND_K] = {.name = "k", .shape = "B, Hkv, T, D"},
          [FOVEA_APPEND_V] = {.name = "v", .shape = "B, Hkv, T, Dv"},
          [FOVEA_APPEND_POSITIONS] = {.name = "positions",
                                      .shape = "B, T",
                                      .dtypes = I32_ONLY,
                                      .fill = FOVEA_FILL_BY_ROW,
                                      .meaning = "where each token goes; negative: nowhere"},
          [FOVEA_APPEND_K_CACHE] =
              {.name = "k_cache", .shape = "B, Hkv, S, D", .dtypes = KEYS, .role = FOVEA_IN_PLACE},
          [FOVEA_APPEND_V_CACHE] =
              {.name = "v_cache", .shape = "B, Hkv, S, Dv", .dtypes = KEYS, .role = FOVEA_IN_PLACE},
          [FOVEA_APPEND_K_SCALE] = {.name = "k_scale",
                                    .shape = "B, Hkv, S, G",
                                    .dtypes = F32_ONLY,
                                    .role = FOVEA_IN_PLACE,
                                    .optional = true,
                                    .fill = FOVEA_FILL_UNIFORM,
                                    .low = 0.02,
                                    .high = 0.045,
                                    .meaning = "factors of a quantised k_cache"},
          [FOVEA_APPEND_V_SCALE] = {.name = "v_scale",
                                    .shape = "B, Hkv, S, G",
                                    .dtypes = F32_ONLY,
                                    .role = FOVEA_IN_PLACE,
                                    .optional = true,
                                    .fill = FOVEA_FILL_UNIFORM,
                                    .low = 0.02,
                                    .high = 0.045,
                                    .meaning = "factors of a quantised v_cache"},
          [FOVEA_APPEND_BLOCK_TABLE] = {.name = "block_table",
                                        .shape = "B, max_pages",
                                        .dtypes = I32_ONLY,
                                        .optional = true,
                                        .fill = FOVEA_FILL_BY_ROW,
                                        .meaning = "pages of each sequence, in order"},
          [FOVEA_APPEND_COS] = {.name = "cos",
                                .shape = "P, D/2",
                                .dtypes = F32_ONLY,
                                .optional = true,
                                .fill = FOVEA_FILL_UNIFORM,
                                .low = -1,
                                .high = 1,
                                .meaning = "cosines by position, for rope"},
          [FOVEA_APPEND_SIN] = {.name = "sin",
                                .shape = "P, D/2",
                                .dtypes = F32_ONLY,
                                .optional = true,
                                .fill = FOVEA_FILL_UNIFORM,
                                .low = -1,
                                .high = 1,
                                .meaning = "sines by position, for rope"}},
     .parameters = {{"base", FOVEA_REAL, 10000, NULL, "of the angles of rope"},
                    {"offset", FOVEA_INTEGER, 0, NULL, "added to positions for their angles"},
                    {"layout", FOVEA_CHOICE, 0, "bhsd,bshd", "order of the axes"},
                    {"rope", FOVEA_CHOICE, 0, "none,half,interleaved",
                     "rotates k: pairs j, j + D/2 or 2j, 2j + 1"},
                    {"scaling", FOVEA_CHOICE, 0, "absmax,given",
                     "scales of a quantised cache are written, or used"}},
     .operations = "B*Hkv*T*(D+Dv)",
     .bytes = "2*s*B*Hkv*T*(D+Dv)",
     .bench = "B=32,Hkv=8,T=1,S=4096,D=128",
     .tune = "b=1,hkv=8,t=1,s=1024,d=128;b=32,hkv=8,t=1,s=1024,d=128;b=1,hkv=8,t=512,s=1024,d=128",
     .bound_text = "exact; rotated: 4 eps (|a| + |b|), and one step of a quantised cache",
     .bound = FOVEA_HOOK(fovea_bound_append),
     .letters = "B,Hkv,T,S,D,Dv,Page",
     .check_values = FOVEA_CHECK_OFFSETS,
     .shape = FOVEA_HOOK(fovea_append_shape),
     .check = FOVEA_HOOK(fovea_append_check),
     .case_shape = FOVEA_HOOK(fovea_append_case_shape),
     .case_fill = FOVEA_HOOK(fovea_append_case_fill),
     .case_defaults = FOVEA_HOOK(fovea_append_case_defaults),
     .count_operations = FOVEA_HOOK(fovea_append_operations),
     .count_bytes = FOVEA_HOOK(fovea_append_bytes)},
    {0}};
