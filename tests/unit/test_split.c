/* Attention by split: what it must not read, that threads do not change it, when it is chosen. */
#include "runtime/processor.h"
#include "tensors.h"
#include "test.h"

#include <fovea/fovea.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SIZE = 64, PAGE = 16, PAGES = 6, KEYS = 40 };

static fovea_context *context_of(int threads, const char *implementation) {
    fovea_context_options options;
    fovea_context *context;
    fovea_context_options_default(&options);
    options.threads = threads, options.routes = "";
    assert_int_equal(fovea_context_create(&options, &context), FOVEA_OK);
    if (implementation) assert_int_equal(fovea_use(context, "attention", implementation), FOVEA_OK);
    return context;
}

/* The name of split's or flash's scalar version: every machine has it. */
static const char split[] = "cpu/scalar/split", flash[] = "cpu/scalar/flash";

static float number(unsigned i) { return (float)((i * 7919 + 13) % 2001) * 1e-3f - 1; }

static void fill(float *values, int count, int seed) {
    for (int i = 0; i < count; i++) values[i] = number((unsigned)(i + seed));
}

/* A cache whose pages are pages of memory; those that the table does not name cannot be touched. */
static float *guarded_cache(const int32_t *table, int count) {
    size_t bytes = PAGE * SIZE * sizeof(float);
    float *cache =
        mmap(NULL, PAGES * bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(cache != MAP_FAILED);
    fill(cache, PAGES * PAGE * SIZE, 1);
    for (int page = 0; page < PAGES; page++) {
        bool named = false;
        for (int i = 0; i < count; i++) named |= table[i] == page;
        if (!named)
            assert_int_equal(mprotect((char *)cache + (size_t)page * bytes, bytes, PROT_NONE), 0);
    }
    return cache;
}

static void attend_pages(const char *implementation, float *cache, int32_t *table, float *out) {
    float q[4 * SIZE];
    int32_t used = KEYS;
    fill(q, 4 * SIZE, 5);
    DLTensor pages = TENSOR(table, FOVEA_I32, 1, 4), lengths = TENSOR(&used, FOVEA_I32, 1);
    DLTensor queries = TENSOR(q, FOVEA_F32, 1, 4, 1, SIZE);
    DLTensor keys = TENSOR(cache, FOVEA_F32, PAGES, PAGE, 1, SIZE);
    DLTensor result = TENSOR(out, FOVEA_F32, 1, 4, 1, SIZE);
    fovea_attention_options options;
    fovea_attention_options_default(&options);
    options.block_table = &pages, options.seqused_k = &lengths;
    fovea_context *context = context_of(2, implementation);
    assert_int_equal(fovea_attention(context, &queries, &keys, &keys, &result, &options), FOVEA_OK);
    fovea_context_destroy(context);
}

static bool is_usable_split(const char *name) {
    if (strstr(name, "cpu/") != name || !strstr(name, "/split")) return false;
    for (int t = 0; t < FOVEA_TIER_COUNT; t++)
        if (strstr(name, fovea_tier_name((fovea_tier)t)) && !fovea_has_tier((fovea_tier)t))
            return false;
    return true;
}

static void every_tier_leaves_pages_outside_the_table_alone(void **state) {
    (void)state;
    int32_t table[4] = {4, 1, 2, -9}; /* 40 keys take three pages */
    if (sysconf(_SC_PAGESIZE) != PAGE * SIZE * sizeof(float)) skip();
    float *cache = guarded_cache(table, 3), expected[4 * SIZE], out[4 * SIZE];
    attend_pages(flash, cache, table, expected);
    for (size_t i = 0; fovea_implementation_name("attention", i); i++) {
        const char *name = fovea_implementation_name("attention", i);
        if (!is_usable_split(name)) continue;
        attend_pages(name, cache, table, out);
        for (int e = 0; e < 4 * SIZE; e++) assert_true(fabsf(out[e] - expected[e]) < 2e-6f);
    }
    munmap(cache, PAGES * PAGE * SIZE * sizeof(float));
}

/* One key, which holds every byte, and queries of a single 1: `out` is the value, lse an element of the key. */
static void attend_bytes(const char *implementation, fovea_dtype dtype, int heads) {
    enum { BYTES = 256 };
    static uint8_t key[BYTES], value[BYTES];
    static uint16_t q[8 * BYTES], out[8 * BYTES];
    float lse[8];
    for (int i = 0; i < BYTES; i++) {
        value[i] = key[i] = (uint8_t)i;
        if (isnan(fovea_read_element(&key[i], dtype))) key[i] = 0; /* it would be in every score */
    }
    DLTensor queries = TENSOR(q, FOVEA_BF16, 1, heads, 1, BYTES), logs;
    DLTensor keys = TENSOR(key, dtype, 1, 1, 1, BYTES),
             values = TENSOR(value, dtype, 1, 1, 1, BYTES);
    DLTensor result = TENSOR(out, FOVEA_BF16, 1, heads, 1, BYTES);
    logs = TENSOR(lse, FOVEA_F32, 1, heads, 1);
    fovea_attention_options options;
    fovea_attention_options_default(&options);
    options.scale = 1, options.lse = &logs;
    fovea_context *context = context_of(1, implementation);
    for (int first = 0; first < BYTES; first += heads) {
        memset(q, 0, sizeof q);
        for (int h = 0; h < heads; h++) q[h * BYTES + first + h] = 0x3f80; /* 1 */
        assert_int_equal(fovea_attention(context, &queries, &keys, &values, &result, &options),
                         FOVEA_OK);
        for (int h = 0; h < heads; h++) {
            double expected = fovea_read_element(&key[first + h], dtype);
            assert_true(fabs(lse[h] - expected) <= 4e-7 * fabs(expected));
            for (int d = 0; d < BYTES; d++) {
                double v = fovea_read_element(&value[d], dtype);
                double actual = fovea_read_element(&out[h * BYTES + d], FOVEA_BF16);
                assert_true(isnan(v) ? isnan(actual) : actual == v);
            }
        }
    }
    fovea_context_destroy(context);
}

static void every_byte_of_a_cache_is_what_it_stands_for(void **state) {
    (void)state;
    for (size_t i = 0; fovea_implementation_name("attention", i); i++) {
        const char *name = fovea_implementation_name("attention", i);
        for (int heads = 1; is_usable_split(name) && heads <= 8; heads *= 2) {
            attend_bytes(name, FOVEA_I8, heads);
            attend_bytes(name, FOVEA_E4M3, heads);
        }
    }
}

/* Queries of bf16 over 300 keys of i8, a scale a token. */
enum { LONG = 72, TOKENS = 300, ROWS = 8 };
typedef struct bytes_call {
    uint16_t q[ROWS * LONG], out[ROWS * LONG];
    int8_t k[TOKENS * LONG], v[TOKENS * LONG];
    float k_scale[TOKENS], v_scale[TOKENS];
} bytes_call;

static uint16_t bf16_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static void fill_bytes_call(bytes_call *c) {
    for (int i = 0; i < ROWS * LONG; i++) c->q[i] = bf16_of(2 * number((unsigned)i));
    for (int i = 0; i < TOKENS * LONG; i++) {
        c->k[i] = (int8_t)(127 * number((unsigned)i + 5));
        c->v[i] = (int8_t)(127 * number((unsigned)i + 9));
    }
    for (int i = 0; i < TOKENS; i++)
        c->k_scale[i] = 1.f / 32, c->v_scale[i] = (2 + number((unsigned)i)) / 128;
}

static void attend_bytes_call(const char *implementation, int heads, bytes_call *c) {
    DLTensor queries = TENSOR(c->q, FOVEA_BF16, 1, heads, 1, LONG);
    DLTensor keys = TENSOR(c->k, FOVEA_I8, 1, 1, TOKENS, LONG);
    DLTensor values = TENSOR(c->v, FOVEA_I8, 1, 1, TOKENS, LONG);
    DLTensor of_keys = TENSOR(c->k_scale, FOVEA_F32, 1, 1, TOKENS, 1);
    DLTensor of_values = TENSOR(c->v_scale, FOVEA_F32, 1, 1, TOKENS, 1);
    DLTensor result = TENSOR(c->out, FOVEA_BF16, 1, heads, 1, LONG);
    fovea_attention_options options;
    fovea_attention_options_default(&options);
    options.k_scale = &of_keys, options.v_scale = &of_values;
    fovea_context *context = context_of(1, implementation);
    assert_int_equal(fovea_attention(context, &queries, &keys, &values, &result, &options),
                     FOVEA_OK);
    fovea_context_destroy(context);
}

/* By every implementation as by the scalar one, from row `first` on: within 2^-7 of the largest element. */
static void every_split_agrees(bytes_call *c, int first) {
    for (int heads = 1; heads <= ROWS; heads++) {
        bytes_call expected = *c;
        attend_bytes_call(split, heads, &expected);
        for (size_t i = 0; fovea_implementation_name("attention", i); i++) {
            const char *name = fovea_implementation_name("attention", i);
            if (!is_usable_split(name)) continue;
            attend_bytes_call(name, heads, c);
            double largest = 0, worst = 0;
            for (int e = first * LONG; e < heads * LONG; e++) {
                double x = fovea_read_element(&expected.out[e], FOVEA_BF16);
                largest = fmax(largest, fabs(x));
                assert_false(isnan(x));
                double error = fabs(fovea_read_element(&c->out[e], FOVEA_BF16) - x);
                assert_false(isnan(error));
                worst = fmax(worst, error);
            }
            if (worst > largest / 128)
                fail_msg("%s with %d heads is off by %g of %g", name, heads, worst, largest);
        }
    }
}

/* Where products of integers would not be right, something else has to be. */
static void caches_of_bytes_take_any_queries_and_scales(void **state) {
    (void)state;
    static bytes_call plain, c;
    fill_bytes_call(&plain);
    c = plain;
    every_split_agrees(&c, 0);
    /* Scores rest on elements far below the largest one, where keys are 0. */
    for (int r = 0; r < ROWS; r++) c.q[r * LONG] = bf16_of(3000);
    for (int j = 0; j < TOKENS; j++) c.k[j * LONG] = 0;
    every_split_agrees(&c, 0);
    /* Negative weights. */
    c = plain;
    for (int j = 0; j < TOKENS; j += 3) c.v_scale[j] *= -1;
    every_split_agrees(&c, 0);
    /* Weights of very different sizes. */
    c = plain;
    for (int j = 0; j < TOKENS; j++) c.k_scale[j] *= 8;
    every_split_agrees(&c, 0);
    /* What is not finite stays in its row. */
    c = plain;
    c.q[3] = bf16_of(INFINITY), c.q[4] = bf16_of(NAN);
    every_split_agrees(&c, 1);
}

/* 5000 keys make ten pieces. */
static void attend_many(int threads, float *q, float *k, float *out, float *lse) {
    DLTensor queries = TENSOR(q, FOVEA_F32, 1, 2, 3, SIZE),
             keys = TENSOR(k, FOVEA_F32, 1, 1, 5000, SIZE);
    DLTensor result = TENSOR(out, FOVEA_F32, 1, 2, 3, SIZE), logs = TENSOR(lse, FOVEA_F32, 1, 2, 3);
    fovea_attention_options options;
    fovea_attention_options_default(&options);
    options.causal = FOVEA_ATTENTION_CAUSAL_BOTTOM_RIGHT, options.lse = &logs;
    fovea_context *context = context_of(threads, split);
    assert_int_equal(fovea_attention(context, &queries, &keys, &keys, &result, &options), FOVEA_OK);
    fovea_context_destroy(context);
}

static void threads_do_not_change_a_bit(void **state) {
    (void)state;
    static float q[6 * SIZE], k[5000 * SIZE], first[6 * SIZE + 6], again[6 * SIZE + 6];
    fill(q, 6 * SIZE, 3), fill(k, 5000 * SIZE, 4);
    attend_many(1, q, k, first, first + 6 * SIZE);
    for (int threads = 2; threads < 8; threads++) {
        attend_many(threads, q, k, again, again + 6 * SIZE);
        assert_memory_equal(first, again, sizeof first);
    }
}

static void chosen_for(int64_t rows, int64_t keys, const char *algorithm) {
    float nothing;
    DLTensor q = TENSOR(&nothing, FOVEA_F32, 1, 8, rows, SIZE);
    DLTensor k = TENSOR(&nothing, FOVEA_F32, 1, 1, keys, SIZE), out = q, lent[2] = {k, k};
    q.data = malloc((size_t)(8 * rows * SIZE) * sizeof(float));
    out.data = malloc((size_t)(8 * rows * SIZE) * sizeof(float));
    for (int i = 0; i < 2; i++) lent[i].data = malloc((size_t)(keys * SIZE) * sizeof(float));
    fovea_context *context = context_of(2, NULL);
    fovea_route route;
    DLTensor *const tensors[] = {&q, &lent[0], &lent[1], &out};
    assert_int_equal(fovea_explain(context, "attention", tensors, 4, NULL, &route), FOVEA_OK);
    assert_non_null(strstr(route.implementation, algorithm));
    fovea_context_destroy(context);
    free(q.data), free(out.data), free(lent[0].data), free(lent[1].data);
}

static void the_model_chooses_it_for_decoding_only(void **state) {
    (void)state;
    chosen_for(1, 4096, "/split");
    chosen_for(1, 65536, "/split");
    chosen_for(512, 512, "/flash");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tier_leaves_pages_outside_the_table_alone),
        cmocka_unit_test(every_byte_of_a_cache_is_what_it_stands_for),
        cmocka_unit_test(caches_of_bytes_take_any_queries_and_scales),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(the_model_chooses_it_for_decoding_only),
    };
    return cmocka_run_group_tests_name("split", tests, NULL, NULL);
}
