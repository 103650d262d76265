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

static void every_tier_leaves_pages_outside_the_table_alone(void **state) {
    (void)state;
    int32_t table[4] = {4, 1, 2, -9}; /* 40 keys take three pages */
    if (sysconf(_SC_PAGESIZE) != PAGE * SIZE * sizeof(float)) skip();
    float *cache = guarded_cache(table, 3), expected[4 * SIZE], out[4 * SIZE];
    attend_pages(flash, cache, table, expected);
    for (size_t i = 0; fovea_implementation_name("attention", i); i++) {
        const char *name = fovea_implementation_name("attention", i);
        bool usable = strstr(name, "cpu/") == name && strstr(name, "/split");
        for (int t = 0; usable && t < FOVEA_TIER_COUNT; t++)
            if (strstr(name, fovea_tier_name((fovea_tier)t)) && !fovea_has_tier((fovea_tier)t))
                usable = false;
        if (!usable) continue;
        attend_pages(name, cache, table, out);
        for (int e = 0; e < 4 * SIZE; e++) assert_true(fabsf(out[e] - expected[e]) < 2e-6f);
    }
    munmap(cache, PAGES * PAGE * SIZE * sizeof(float));
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
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(the_model_chooses_it_for_decoding_only),
    };
    return cmocka_run_group_tests_name("split", tests, NULL, NULL);
}
