/* Bad arguments: each is answered by a sentence with the argument and the value, and nothing is
 * written. */
#include "catalogue/case.h"
#include "tensors.h"
#include "test.h"

#include <fovea/fovea.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { COUNT = 4096 };
static float memory[10][COUNT], before[10][COUNT];
static fovea_context *context;

static int set_up(void **state) {
    (void)state;
    for (int m = 0; m < 10; m++)
        for (int i = 0; i < COUNT; i++) memory[m][i] = (float)(i % 17) - 8;
    memcpy(before, memory, sizeof memory);
    return fovea_context_create(NULL, &context) == FOVEA_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    fovea_context_destroy(context);
    return 0;
}

static void refused(fovea_status status, fovea_status expected, const char *sentence) {
    assert_string_equal(fovea_last_message(context), sentence);
    assert_int_equal(status, expected);
    assert_memory_equal(memory, before, sizeof memory);
}
#define REFUSED(call, sentence) refused(call, FOVEA_INVALID_ARGUMENT, sentence)

/* ---- Attention ------------------------------------------------------------------------------ */

typedef struct call {
    DLTensor q, k, v, out;
    fovea_attention_options options;
} call;

/* B 1, Hq 4, Hkv 2, Sq 3, Sk 5, D 8. */
#define ATTENTION(name)                                                                            \
    call name = {.q = TENSOR(memory[0], FOVEA_F32, 1, 4, 3, 8),                                    \
                 .k = TENSOR(memory[1], FOVEA_F32, 1, 2, 5, 8),                                    \
                 .v = TENSOR(memory[2], FOVEA_F32, 1, 2, 5, 8),                                    \
                 .out = TENSOR(memory[3], FOVEA_F32, 1, 4, 3, 8)};                                 \
    fovea_attention_options_default(&name.options)

static fovea_status run(call *c) {
    return fovea_attention(context, &c->q, &c->k, &c->v, &c->out, &c->options);
}

static void attention_refuses_wrong_shapes(void **state) {
    (void)state;
    ATTENTION(c);
    c.k = TENSOR(memory[1], FOVEA_F32, 1, 2, 5, 7);
    REFUSED(run(&c), "k has head size 7, q has 8");
    c.k = TENSOR(memory[1], FOVEA_F32, 1, 3, 5, 8);
    REFUSED(run(&c), "v has heads 2, k has 3");
    c.v = TENSOR(memory[1], FOVEA_F32, 1, 3, 5, 8);
    REFUSED(run(&c), "q has 4 heads, not a multiple of the 3 of k");
    ATTENTION(d);
    d.v = TENSOR(memory[2], FOVEA_F32, 1, 2, 6, 8);
    REFUSED(run(&d), "v has length 6, k has 5");
    ATTENTION(e);
    e.out = TENSOR(memory[3], FOVEA_F32, 1, 4, 3, 9);
    REFUSED(run(&e), "out has head size 9, v has 8");
    e.out = TENSOR(memory[3], FOVEA_F32, 4, 3, 8);
    REFUSED(run(&e), "out has shape [4, 3, 8]; it is [B, H, S, D] (layout bhsd)");
    ATTENTION(f);
    f.k = TENSOR(memory[1], FOVEA_F32, 2, 2, 5, 8), f.v = TENSOR(memory[2], FOVEA_F32, 2, 2, 5, 8);
    REFUSED(run(&f), "k has batch size 2, q has 1");
}

/* Which need no memory, or that of a single element, and whose scratch would overflow. */
static void tensors_beyond_any_memory_are_refused(void **state) {
    (void)state;
    ATTENTION(c);
    c.q = TENSOR(NULL, FOVEA_F32, 0, 4, 3, INT64_MAX);
    REFUSED(run(&c), "the extents of q, without those that are 0, multiply to more than "
                     "4398046511104; no more is served");
    int64_t class = 0;
    DLTensor logits = TENSOR(memory[0], FOVEA_F16, 1, INT64_C(1) << 61);
    logits.strides = STRIDES(0, 0);
    DLTensor target = TENSOR(&class, FOVEA_I64, 1), loss = SCALAR(memory[1], FOVEA_F32);
    REFUSED(fovea_loss_cross_entropy(context, &logits, &target, &loss, NULL),
            "the extents of z, without those that are 0, multiply to more than 4398046511104; no "
            "more is served");
}

/* No element is computed; what it would cost is asked all the same. */
static void attention_counts_scores_beyond_any_memory(void **state) {
    (void)state;
    ATTENTION(c);
    fovea_route route;
    c.q = TENSOR(NULL, FOVEA_F32, 1, 4096, 1 << 30, 0), c.out = c.q;
    c.k = TENSOR(NULL, FOVEA_F32, 1, 2, 1 << 30, 0), c.v = c.k;
    DLTensor *tensors[] = {&c.q, &c.k, &c.v, &c.out};
    assert_int_equal(fovea_use(context, "attention", "cpu/scalar/textbook"), FOVEA_OK);
    assert_int_equal(run(&c), FOVEA_OUT_OF_MEMORY);
    assert_int_equal(fovea_use(context, "attention", NULL), FOVEA_OK);
    assert_int_equal(fovea_explain(context, "attention", tensors, 4, &c.options, &route), FOVEA_OK);
    assert_true(route.seconds > 0);
}

/* Such rows have no address, and none is to be counted from it: what a sanitizer sees. */
static void attention_takes_rows_without_elements(void **state) {
    (void)state;
    enum { KEYS = 40 };
    ATTENTION(c);
    const char *name;
    float out[4 * 3 * 8];
    c.q = TENSOR(NULL, FOVEA_F32, 1, 4, 3, 0), c.k = TENSOR(NULL, FOVEA_F32, 1, 2, KEYS, 0);
    c.v = TENSOR(memory[2], FOVEA_F32, 1, 2, KEYS, 8), c.out.data = out;
    c.k.strides = STRIDES(8 * KEYS, 4 * KEYS, -4, 1);
    for (int i = 0; (name = fovea_implementation_name("attention", i)); i++) {
        assert_int_equal(fovea_use(context, "attention", name), FOVEA_OK);
        if (run(&c) == FOVEA_UNSUPPORTED) continue;
        for (int h = 0; h < 4; h++) {
            float mean = 0;
            for (int key = 0; key < KEYS; key++) mean += memory[2][(h / 2 * KEYS + key) * 8] / KEYS;
            assert_true(fabsf(out[h * 3 * 8] - mean) < 0.1F);
        }
    }
    assert_int_equal(fovea_use(context, "attention", NULL), FOVEA_OK);
}

/* The same in pages, whose rows are copied by pairs of bf16. */
static void attention_takes_pages_without_elements(void **state) {
    (void)state;
    enum { PAGES = 3, ONE = 0x3F80 };
    ATTENTION(c);
    const char *name;
    uint16_t v[PAGES * 4 * 2 * 8], out[4 * 3 * 8];
    int32_t pages[2] = {2, 0}, used[1] = {5};
    DLTensor table = TENSOR(pages, FOVEA_I32, 1, 2), lengths = TENSOR(used, FOVEA_I32, 1);
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) v[i] = ONE;
    c.q = TENSOR(NULL, FOVEA_BF16, 1, 4, 3, 0), c.k = TENSOR(NULL, FOVEA_BF16, PAGES, 4, 2, 0);
    c.v = TENSOR(v, FOVEA_BF16, PAGES, 4, 2, 8), c.out = TENSOR(out, FOVEA_BF16, 1, 4, 3, 8);
    c.options.block_table = &table, c.options.seqused_k = &lengths;
    for (int i = 0; (name = fovea_implementation_name("attention", i)); i++) {
        memset(out, 0, sizeof out);
        assert_int_equal(fovea_use(context, "attention", name), FOVEA_OK);
        if (run(&c) == FOVEA_UNSUPPORTED) continue;
        for (size_t j = 0; j < sizeof out / sizeof *out; j++) assert_int_equal(out[j], ONE);
    }
    assert_int_equal(fovea_use(context, "attention", NULL), FOVEA_OK);
}

static void attention_refuses_wrong_dtypes(void **state) {
    (void)state;
    ATTENTION(c);
    c.v.dtype = fovea_dtype_to_dlpack(FOVEA_F16);
    REFUSED(run(&c), "v is f16, q is f32; they agree, or v is i8 or e4m3");
    ATTENTION(d);
    d.q.dtype = fovea_dtype_to_dlpack(FOVEA_I32);
    REFUSED(run(&d), "q is i32; attention takes f32, f16, bf16");
    ATTENTION(e);
    DLTensor mask = TENSOR(memory[4], FOVEA_F32, 3, 5);
    e.options.mask = &mask;
    REFUSED(run(&e), "mask is f32; it may be u8, bool");
}

static void attention_refuses_wrong_memory(void **state) {
    (void)state;
    ATTENTION(c);
    c.q.data = NULL;
    REFUSED(run(&c), "q has no data (NULL)");
    ATTENTION(d);
    d.k.device.device_type = kDLCUDA;
    REFUSED(run(&d), "k is on CUDA device 0, q is on the CPU; all must be on one");
    ATTENTION(e);
    e.out.data = memory[0];
    REFUSED(run(&e), "out overlaps q in memory");
    e.out.data = memory[2] + 1;
    REFUSED(run(&e), "out overlaps v in memory");
    ATTENTION(f);
    f.out.strides = STRIDES(96, 24, 0, 1);
    REFUSED(run(&f), "out has strides by which its elements overlap one another");
    ATTENTION(g);
    DLTensor lse = TENSOR(memory[3] + 10, FOVEA_F32, 1, 4, 3);
    g.options.lse = &lse;
    REFUSED(run(&g), "out overlaps lse in memory");
    assert_int_equal(fovea_attention(context, &g.q, NULL, &g.v, &g.out, NULL),
                     FOVEA_INVALID_ARGUMENT);
    assert_string_equal(fovea_last_message(context), "k is NULL");
}

static void attention_refuses_unknown_options(void **state) {
    (void)state;
    ATTENTION(c);
    c.options.causal = 3;
    REFUSED(run(&c), "options.causal is 3; it is one of none,top_left,bottom_right (0 to 2)");
    c.options.causal = -1;
    REFUSED(run(&c), "options.causal is -1; it is one of none,top_left,bottom_right (0 to 2)");
    ATTENTION(d);
    d.options.softcap = 0;
    REFUSED(run(&d), "options.softcap is 0; it is above 0 (INFINITY is off)");
    d.options.softcap = (double)NAN;
    REFUSED(run(&d), "options.softcap is nan; it is above 0 (INFINITY is off)");
    ATTENTION(e);
    e.options.scale = (double)INFINITY;
    REFUSED(run(&e), "options.scale is inf; it is finite");
    ATTENTION(f);
    f.options.dropout = 1;
    REFUSED(run(&f), "options.dropout is 1; it is at least 0 and below 1");
    ATTENTION(g);
    g.options.window_left = -2;
    REFUSED(run(&g), "options.window_left is -2; it lies between -1 and 281474976710656");
    g.options.window_left = -1, g.options.query_offset = INT64_MIN;
    REFUSED(run(&g), "options.query_offset is -9223372036854775808; it lies between "
                     "-281474976710656 and 281474976710656");
    ATTENTION(h);
    h.options.size = sizeof h.options + 8;
    char sentence[200];
    snprintf(sentence, sizeof sentence,
             "options.size is %zu; this version's struct has %zu bytes (fill it with "
             "fovea_attention_options_default first)",
             sizeof h.options + 8, sizeof h.options);
    REFUSED(run(&h), sentence);
    h.options.size = sizeof h.options - 3; /* through a pointer */
    snprintf(sentence, sizeof sentence,
             "options.size is %zu; this version's struct has %zu bytes (fill it with "
             "fovea_attention_options_default first)",
             sizeof h.options - 3, sizeof h.options);
    REFUSED(run(&h), sentence);
}

static void attention_refuses_optional_tensors_that_do_not_fit(void **state) {
    (void)state;
    ATTENTION(c);
    DLTensor bias = TENSOR(memory[4], FOVEA_F32, 4, 5);
    c.options.bias = &bias;
    REFUSED(run(&c), "bias has shape [4, 5]; it broadcasts to [B, Hq, Sq, Sk] = [1, 4, 3, 5]");
    ATTENTION(d);
    DLTensor slopes = TENSOR(memory[4], FOVEA_F32, 2);
    d.options.slopes = &slopes;
    REFUSED(run(&d), "slopes has shape [2]; it is [Hq], one value a query head");
    ATTENTION(e);
    DLTensor lse = TENSOR(memory[4], FOVEA_F32, 4, 3);
    e.options.lse = &lse;
    REFUSED(run(&e), "lse has shape [4, 3]; it is [B, Hq, Sq]");
    ATTENTION(f);
    int32_t used[1] = {6};
    DLTensor lengths = TENSOR(used, FOVEA_I32, 1);
    f.options.seqused_k = &lengths;
    REFUSED(run(&f), "seqused_k[0] is 6; there is room for 5 keys");
    used[0] = -1;
    REFUSED(run(&f), "seqused_k[0] is -1; there is room for 5 keys");
}

static void attention_refuses_ragged_offsets_that_lie(void **state) {
    (void)state;
    ATTENTION(c);
    c.q = TENSOR(memory[0], FOVEA_F32, 6, 4, 8), c.out = TENSOR(memory[3], FOVEA_F32, 6, 4, 8);
    c.k = TENSOR(memory[1], FOVEA_F32, 6, 2, 8), c.v = TENSOR(memory[2], FOVEA_F32, 6, 2, 8);
    int32_t offsets[3] = {0, 2, 6}, wrong[3] = {0, 4, 3};
    DLTensor good = TENSOR(offsets, FOVEA_I32, 3), bad = TENSOR(wrong, FOVEA_I32, 3);
    c.options.cu_seqlens_q = &good, c.options.cu_seqlens_k = &bad;
    REFUSED(run(&c), "cu_seqlens_k[2] is 3; it lies between 4, the one before, and 6, the rows of "
                     "the packed tensor");
    wrong[2] = 7;
    REFUSED(run(&c), "cu_seqlens_k[2] is 7; it lies between 4, the one before, and 6, the rows of "
                     "the packed tensor");
    wrong[0] = 1;
    REFUSED(run(&c), "cu_seqlens_k starts with 1, not 0");
    c.options.cu_seqlens_k = &good;
    offsets[2] = 5;
    REFUSED(run(&c), "cu_seqlens_q ends with 5; q has 6 rows");
}

static void attention_refuses_pages_that_do_not_exist(void **state) {
    (void)state;
    ATTENTION(c);
    c.k = TENSOR(memory[1], FOVEA_F32, 3, 4, 2, 8), c.v = TENSOR(memory[2], FOVEA_F32, 3, 4, 2, 8);
    int32_t pages[2] = {2, 3}, used[1] = {5};
    DLTensor table = TENSOR(pages, FOVEA_I32, 1, 2), lengths = TENSOR(used, FOVEA_I32, 1);
    c.options.block_table = &table;
    REFUSED(run(&c), "block_table is given without seqused_k, the length of each sequence");
    c.options.seqused_k = &lengths;
    REFUSED(run(&c), "block_table[0][1] is 3; k has 3 pages");
    pages[1] = -1;
    REFUSED(run(&c), "block_table[0][1] is -1; k has 3 pages");
}

/* ---- The other kernels ---------------------------------------------------------------------- */

static void attention_refuses_scales_that_do_not_fit(void **state) {
    (void)state;
    ATTENTION(c);
    DLTensor scale = TENSOR(memory[4], FOVEA_F32, 1, 2, 1, 1);
    c.options.k_scale = &scale;
    REFUSED(run(&c), "k_scale is given, but k is f32, not quantised");
    c.k.dtype = fovea_dtype_to_dlpack(FOVEA_I8);
    scale = TENSOR(memory[4], FOVEA_F32, 1, 2, 1, 3);
    REFUSED(run(&c), "k_scale has shape [1, 2, 1, 3]; it has the axes of k = [1, 2, 5, 8], each as "
                     "long or 1, the last a divisor");
}

/* B 1, Hkv 2, T 2, S 5, D 8. */
static fovea_status append(int32_t first, int32_t second, fovea_dtype cache_dtype,
                           fovea_kv_append_options *options) {
    int32_t places[2] = {first, second};
    DLTensor k = TENSOR(memory[0], FOVEA_F32, 1, 2, 2, 8),
             v = TENSOR(memory[1], FOVEA_F32, 1, 2, 2, 8);
    DLTensor positions = TENSOR(places, FOVEA_I32, 1, 2);
    DLTensor k_cache = TENSOR(memory[2], cache_dtype, 1, 2, 5, 8);
    DLTensor v_cache = TENSOR(memory[3], FOVEA_F32, 1, 2, 5, 8);
    return fovea_kv_append(context, &k, &v, &positions, &k_cache, &v_cache, options);
}

static void append_refuses_places_that_do_not_exist(void **state) {
    (void)state;
    REFUSED(
        append(1, 5, FOVEA_F32, NULL),
        "positions[0][1] is 5; it is above 1, the one before, and below 5, the room of the cache");
    REFUSED(
        append(2, 2, FOVEA_F32, NULL),
        "positions[0][1] is 2; it is above 2, the one before, and below 5, the room of the cache");
    fovea_kv_append_options options;
    fovea_kv_append_options_default(&options);
    int32_t pages[2] = {0, 7}, places[2] = {0, 2};
    DLTensor table = TENSOR(pages, FOVEA_I32, 1, 2), positions = TENSOR(places, FOVEA_I32, 1, 2);
    DLTensor k = TENSOR(memory[0], FOVEA_F32, 1, 2, 2, 8),
             v = TENSOR(memory[1], FOVEA_F32, 1, 2, 2, 8);
    DLTensor k_cache = TENSOR(memory[2], FOVEA_F32, 3, 2, 2, 8);
    DLTensor v_cache = TENSOR(memory[3], FOVEA_F32, 3, 2, 2, 8);
    options.block_table = &table;
    REFUSED(fovea_kv_append(context, &k, &v, &positions, &k_cache, &v_cache, &options),
            "block_table[0][1] is 7; the cache has 3 pages");
}

static void append_refuses_caches_that_do_not_fit(void **state) {
    (void)state;
    REFUSED(append(0, 1, FOVEA_F16, NULL),
            "k_cache is f16, k is f32; they agree, or k_cache is i8 or e4m3");
    REFUSED(append(0, 1, FOVEA_I8, NULL),
            "k_cache is i8, and k_scale is not given; options.scaling absmax writes it");
    fovea_kv_append_options options;
    fovea_kv_append_options_default(&options);
    DLTensor cosines = TENSOR(memory[4], FOVEA_F32, 5, 4);
    options.cos = &cosines;
    REFUSED(append(0, 1, FOVEA_F32, &options), "cos is given without sin");
}

static void streaming_kernels_refuse_what_does_not_fit(void **state) {
    (void)state;
    DLTensor a = TENSOR(memory[0], FOVEA_F32, 2, 3), b = TENSOR(memory[1], FOVEA_F32, 3, 2);
    DLTensor y = TENSOR(memory[2], FOVEA_F32, 2, 3), scalar = SCALAR(memory[2], FOVEA_F32);
    REFUSED(fovea_map_add(context, &a, &b, &y, NULL), "b has shape [3, 2]; a asks for [2, 3]");
    REFUSED(fovea_map_gelu(context, &a, &scalar, NULL), "y has shape []; x asks for [2, 3]");
    y.data = memory[0] + 1;
    REFUSED(fovea_map_gelu(context, &a, &y, NULL),
            "y overlaps x in memory without being the same tensor");
    y.data = memory[2];
    fovea_reduce_sum_options axis = {.size = sizeof axis, .axis = 2};
    REFUSED(fovea_reduce_sum(context, &a, &scalar, &axis),
            "options.axis is 2; x has 2 dimensions (-2 to 1, or FOVEA_ALL_AXES)");
    axis.axis = 0;
    REFUSED(fovea_reduce_sum(context, &a, &scalar, &axis), "y has shape []; x asks for [3]");
    fovea_layer_norm_options norm = {.size = sizeof norm, .eps = -1};
    REFUSED(fovea_layer_norm(context, &a, &y, &norm), "options.eps is -1; it is at least 0");
    DLTensor gamma = TENSOR(memory[3], FOVEA_F32, 4);
    norm.eps = 1e-5, norm.gamma = &gamma;
    REFUSED(fovea_layer_norm(context, &a, &y, &norm),
            "gamma has extent 4 in dimension 0, y has 3 there (D)");
    DLTensor target = TENSOR(memory[2], FOVEA_I8, 2, 3);
    REFUSED(fovea_quantize_f32_to_f16(context, &a, &target, NULL), "y is i8; it may be f16, bf16");
    REFUSED(fovea_softmax_stable(context, &scalar, &scalar, NULL),
            "x has 0 dimensions; its shape is [R..., C]");
}

static void merge_refuses_parts_that_do_not_fit(void **state) {
    (void)state;
    DLTensor parts = TENSOR(memory[0], FOVEA_F32, 2, 1, 2, 3, 4);
    DLTensor lses = TENSOR(memory[1], FOVEA_F32, 3, 1, 2, 3);
    DLTensor out = TENSOR(memory[2], FOVEA_F32, 1, 2, 3, 4);
    REFUSED(fovea_attention_merge(context, &parts, &lses, &out, NULL),
            "part_lses has extent 3 in dimension 0, parts has 2 there (P)");
}

static void backward_refuses_what_does_not_fit(void **state) {
    (void)state;
    ATTENTION(c);
    DLTensor lse = TENSOR(memory[4], FOVEA_F32, 1, 4, 3);
    DLTensor dout = TENSOR(memory[5], FOVEA_F32, 1, 4, 3, 8);
    DLTensor dq = TENSOR(memory[6], FOVEA_F32, 1, 4, 3, 8);
    DLTensor dk = TENSOR(memory[7], FOVEA_F32, 1, 2, 5, 8);
    DLTensor dv = TENSOR(memory[8], FOVEA_F32, 1, 2, 5, 8);
    DLTensor bias = TENSOR(memory[9], FOVEA_F32, 3, 5), table = TENSOR(memory[9], FOVEA_I32, 1, 1);
    DLTensor wrong = TENSOR(memory[6], FOVEA_F32, 1, 4, 3, 7);
    fovea_attention_backward_options options;
    fovea_attention_backward_options_default(&options);
#define BACKWARD(dq)                                                                               \
    fovea_attention_backward(context, &c.q, &c.k, &c.v, &c.out, &lse, &dout, dq, &dk, &dv, &options)
    REFUSED(BACKWARD(&wrong), "dq has shape [1, 4, 3, 7]; it has that of q, [1, 4, 3, 8]");
    REFUSED(BACKWARD(&c.out), "dq overlaps out in memory");
    options.dbias = &bias;
    REFUSED(BACKWARD(&dq), "dbias is given without bias");
    options.dbias = NULL, options.dropout = 1;
    REFUSED(BACKWARD(&dq), "options.dropout is 1; it is at least 0 and below 1");
    options.dropout = 0, options.block_table = &table;
    REFUSED(BACKWARD(&dq), "block_table is given: a paged cache is for inference and has no "
                           "gradient; gather keys and values and call without it");
    options.block_table = NULL;
    lse = TENSOR(memory[4], FOVEA_F32, 1, 4, 4);
    REFUSED(BACKWARD(&dq), "lse has shape [1, 4, 4]; it is [B, Hq, Sq]");
}

/* ---- Calls by name -------------------------------------------------------------------------- */

static void calls_by_name_check_what_they_are_given(void **state) {
    (void)state;
    DLTensor x = TENSOR(memory[0], FOVEA_F32, 4), y = TENSOR(memory[1], FOVEA_F32, 4);
    DLTensor *tensors[] = {&x, &y, &y};
    fovea_route route;
    REFUSED(fovea_call(context, "no_such", tensors, 2, NULL), "there is no kernel «no_such»");
    REFUSED(fovea_call(context, NULL, tensors, 2, NULL), "there is no kernel «(NULL)»");
    REFUSED(fovea_call(context, "map_gelu", tensors, 1, NULL), "y is NULL");
    REFUSED(fovea_call(context, "map_gelu", tensors, 3, NULL),
            "map_gelu takes 2 tensors, 3 were given");
    REFUSED(fovea_call(context, "map_gelu", NULL, 2, NULL), "tensors is NULL, count is 2");
    REFUSED(fovea_explain(context, "map_gelu", tensors, 2, NULL, NULL), "route is NULL");
    REFUSED(fovea_explain(context, "no_such", tensors, 2, NULL, &route),
            "there is no kernel «no_such»");
    REFUSED(fovea_use(context, "no_such", NULL), "there is no kernel «no_such»");
    REFUSED(fovea_use(context, "map_gelu", "cpu/none/such"),
            "map_gelu has no implementation «cpu/none/such»");
    REFUSED(fovea_use(context, NULL, "cpu/none/such"),
            "no kernel has an implementation «cpu/none/such»");
}

/* What nobody should ask for in words is refused where the tensors are checked, and not before. */
static void cases_of_no_sense_are_refused(void **state) {
    static const struct {
        const char *kernel, *text, *sentence;
    } cases[] = {
        {"quantize_f16_to_i8", "r=2,c=64,granularity=group,group=0",
         "options.group is 0; it is one of 32, 64, 128"},
        {"reduce_sum", "n=5,axis=-9000000000000000000",
         "options.axis is -9000000000000000000; x has 1 dimensions (-1 to 0, or FOVEA_ALL_AXES)"},
        {"attention", "b=1,hq=1,sq=4,sk=0,d=16,page=0,block_table=1,seqused_k=1",
         "k has shape [1, 0, 1, 16]; its page size is at least 1"},
        {"rope_apply", "b=1,s=4,d=8,offset=4611686018427387904",
         "options.offset is 4611686018427387904; it lies between -2^48 and 2^48"},
        {"kv_append", "b=1,hkv=1,t=1,s=8,d=16,page=0,block_table=1",
         "k_cache has shape [1, 0, 1, 16]; it is of pages of at least 1"},
    };
    fovea_case c;
    fovea_message message;
    static fovea_sample sample;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int kernel = fovea_catalogue_find(cases[i].kernel);
        assert_true(kernel >= 0);
        fovea_case_begin(&c, kernel);
        assert_int_equal(fovea_case_parse(&c, cases[i].text, 0, &message), FOVEA_OK);
        assert_int_equal(fovea_case_complete(&c, &message), FOVEA_OK);
        assert_int_equal(fovea_sample_create(&c, NULL, &sample, &message), FOVEA_INVALID_ARGUMENT);
        assert_string_equal(message.text, cases[i].sentence);
    }
}

static void null_contexts_are_refused(void **state) {
    (void)state;
    DLTensor x = TENSOR(memory[0], FOVEA_F32, 4), y = TENSOR(memory[1], FOVEA_F32, 4);
    DLTensor *tensors[] = {&x, &y};
    fovea_route route;
    fovea_call_report report;
    fovea_statistics statistics;
    assert_int_equal(fovea_map_gelu(NULL, &x, &y, NULL), FOVEA_INVALID_ARGUMENT);
    assert_int_equal(fovea_call(NULL, "map_gelu", tensors, 2, NULL), FOVEA_INVALID_ARGUMENT);
    assert_int_equal(fovea_explain(NULL, "map_gelu", tensors, 2, NULL, &route),
                     FOVEA_INVALID_ARGUMENT);
    assert_int_equal(fovea_use(NULL, NULL, NULL), FOVEA_INVALID_ARGUMENT);
    assert_int_equal(fovea_last_call(NULL, &report), FOVEA_INVALID_ARGUMENT);
    assert_int_equal(fovea_kernel_statistics(NULL, "map_gelu", &statistics),
                     FOVEA_INVALID_ARGUMENT);
    fovea_context_destroy(NULL);
    assert_memory_equal(memory, before, sizeof memory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_refuses_wrong_shapes),
        cmocka_unit_test(tensors_beyond_any_memory_are_refused),
        cmocka_unit_test(attention_refuses_wrong_dtypes),
        cmocka_unit_test(attention_refuses_wrong_memory),
        cmocka_unit_test(attention_refuses_unknown_options),
        cmocka_unit_test(attention_refuses_optional_tensors_that_do_not_fit),
        cmocka_unit_test(attention_refuses_ragged_offsets_that_lie),
        cmocka_unit_test(attention_refuses_pages_that_do_not_exist),
        cmocka_unit_test(attention_counts_scores_beyond_any_memory),
        cmocka_unit_test(attention_takes_rows_without_elements),
        cmocka_unit_test(attention_takes_pages_without_elements),
        cmocka_unit_test(attention_refuses_scales_that_do_not_fit),
        cmocka_unit_test(append_refuses_places_that_do_not_exist),
        cmocka_unit_test(append_refuses_caches_that_do_not_fit),
        cmocka_unit_test(streaming_kernels_refuse_what_does_not_fit),
        cmocka_unit_test(merge_refuses_parts_that_do_not_fit),
        cmocka_unit_test(backward_refuses_what_does_not_fit),
        cmocka_unit_test(calls_by_name_check_what_they_are_given),
        cmocka_unit_test(cases_of_no_sense_are_refused),
        cmocka_unit_test(null_contexts_are_refused),
    };
    return cmocka_run_group_tests_name("bad input", tests, set_up, tear_down);
}
