/* Out of memory at every allocation: the n-th allocation of a public call fails, for every n until
 * none is left to fail. The call says so, leaks nothing, writes nothing, and works afterwards. */
#include "check_case.h"
#include "router/registry.h"
#include "test.h"

#include <stdlib.h>

typedef struct counter {
    int allocations, fail_at; /* fail_at -1: never */
    long live;
} counter;

static void *allocate(void *user, size_t bytes, size_t alignment) {
    counter *c = user;
    if (c->allocations++ == c->fail_at) return NULL;
    void *memory = aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    c->live += (long)bytes;
    return memory;
}

static void release(void *user, void *memory, size_t bytes) {
    counter *c = user;
    c->live -= (long)bytes;
    free(memory);
}

static fovea_context_options options_with(counter *c) {
    fovea_context_options options;
    fovea_context_options_default(&options);
    options.allocator = (fovea_allocator){allocate, release, c};
    options.routes = "";
    return options;
}

static void creation_survives_every_failure(void **state) {
    (void)state;
    for (int n = 0;; n++) {
        counter c = {.fail_at = n};
        fovea_context *context = (fovea_context *)&c;
        fovea_context_options options = options_with(&c);
        fovea_status status = fovea_context_create(&options, &context);
        if (status == FOVEA_OK) {
            assert_true(n >= 1); /* it does allocate */
            fovea_context_destroy(context);
            assert_int_equal(c.live, 0);
            return;
        }
        assert_int_equal(status, FOVEA_OUT_OF_MEMORY);
        assert_null(context);
        assert_string_equal(fovea_last_message(NULL), "no memory for a context");
        assert_int_equal(c.live, 0);
    }
}

static void assert_outputs_untouched(const fovea_sample *sample) {
    const fovea_kernel *kernel = fovea_catalogue_kernel(sample->c->index);
    for (int a = 0; a < fovea_kernel_arguments(kernel); a++) {
        if (!(sample->present >> a & 1) || kernel->arguments[a].role != FOVEA_OUTPUT) continue;
        size_t untouched = 0;
        while (untouched < sample->bytes[a] &&
               ((unsigned char *)sample->storage[a])[untouched] == 0xA5)
            untouched++;
        assert_int_equal(untouched, sample->bytes[a]);
    }
}

/* Runs the call with the n-th allocation failing, n = 0, 1, ...; returns how many failed. */
static int fail_each(fovea_sample *sample, const char *kernel, const char *implementation) {
    for (int n = 0;; n++) {
        counter c = {.fail_at = -1};
        fovea_context *context;
        fovea_context_options options = options_with(&c);
        assert_int_equal(fovea_context_create(&options, &context), FOVEA_OK);
        assert_int_equal(fovea_use(context, kernel, implementation), FOVEA_OK);
        c.allocations = 0, c.fail_at = n;
        fovea_sample_restore(sample);
        fovea_status status =
            fovea_call(context, kernel, sample->required, sample->count, sample->options);
        bool failed = c.allocations > n;
        if (failed) {
            assert_int_equal(status, FOVEA_OUT_OF_MEMORY);
            assert_non_null(strstr(fovea_last_message(context), "memory"));
            assert_outputs_untouched(sample);
            c.fail_at = -1;
            status = fovea_call(context, kernel, sample->required, sample->count, sample->options);
        }
        if (status != FOVEA_OK)
            fail_msg("%s by %s: %s", kernel, implementation, fovea_last_message(context));
        fovea_context_destroy(context);
        assert_int_equal(c.live, 0);
        if (!failed) return n;
    }
}

/* Every implementation that serves the case. */
static void fail_each_implementation(const fovea_case *c) {
    fovea_sample sample;
    fovea_message message;
    int served = 0;
    if (fovea_sample_create(c, NULL, &sample, &message) != FOVEA_OK) fail_msg("%s", message.text);
    for (int n = 0; n < fovea_implementation_count(c->index); n++) {
        const fovea_implementation *implementation = fovea_implementation_at(c->index, n);
        char reason[160];
        if (!fovea_implementation_serves(implementation, &sample.problem, reason, sizeof reason))
            continue;
        fail_each(&sample, fovea_catalogue_kernel(c->index)->name, implementation->name);
        served++;
    }
    assert_true(served > 0);
    fovea_sample_destroy(&sample);
}

static void attention_survives_every_failure(void **state) {
    (void)state;
    static const char *const cases[] = {"b=2,hq=4,hkv=2,sq=130,sk=150,d=40,causal=top_left,lse=1",
                                        "b=1,hq=2,sq=1,sk=600,d=64",
                                        "dtype=bf16,b=1,hq=2,sq=70,sk=70,d=64,memory=outer"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fovea_case c;
        fovea_message message;
        fovea_case_begin(&c, fovea_catalogue_find("attention"));
        fovea_status status = fovea_case_parse(&c, cases[i], 0, &message);
        if (status == FOVEA_OK) status = fovea_case_complete(&c, &message);
        if (status != FOVEA_OK) fail_msg("%s: %s", cases[i], message.text);
        fail_each_implementation(&c);
    }
}

/* Of each the case of most work that is still small, of those that a quick check makes. */
static void other_kernels_survive_every_failure(void **state) {
    (void)state;
    for (int k = 0; k < fovea_catalogue_count(); k++) {
        if (strcmp(fovea_catalogue_kernel(k)->name, "attention") == 0) continue;
        fovea_check_cases cases;
        const fovea_check_case *most = NULL;
        assert_true(fovea_check_cases_create(k, FOVEA_QUICK, 1, false, &cases));
        for (int i = 0; i < cases.count; i++) {
            const fovea_check_case *one = &cases.list[i];
            if (one->variant != FOVEA_VARIANT_PLAIN || fovea_check_case_work(one) > 1e6) continue;
            if (!most || fovea_check_case_work(one) > fovea_check_case_work(most)) most = one;
        }
        assert_non_null(most);
        fail_each_implementation(&most->c);
        fovea_check_cases_destroy(&cases);
    }
}

static void explanations_allocate_nothing(void **state) {
    (void)state;
    for (int k = 0; k < fovea_catalogue_count(); k++) {
        counter c = {.fail_at = -1};
        fovea_context *context;
        fovea_context_options options = options_with(&c);
        assert_int_equal(fovea_context_create(&options, &context), FOVEA_OK);
        c.fail_at = c.allocations;
        fovea_route route;
        fovea_call_report report;
        fovea_statistics statistics;
        const char *kernel = fovea_kernel_name((size_t)k);
        assert_int_equal(fovea_explain(context, kernel, NULL, 0, NULL, &route),
                         FOVEA_INVALID_ARGUMENT);
        assert_int_equal(fovea_use(context, kernel, "reference/scalar/double"), FOVEA_OK);
        assert_int_equal(fovea_last_call(context, &report), FOVEA_INVALID_ARGUMENT);
        assert_int_equal(fovea_kernel_statistics(context, kernel, &statistics), FOVEA_OK);
        assert_int_equal(c.allocations, c.fail_at);
        fovea_context_destroy(context);
        assert_int_equal(c.live, 0);
    }
}

static void a_steady_state_allocates_nothing(void **state) {
    (void)state;
    fovea_case k;
    fovea_sample sample;
    fovea_message message;
    counter c = {.fail_at = -1};
    fovea_context *context;
    fovea_context_options options = options_with(&c);
    assert_int_equal(fovea_context_create(&options, &context), FOVEA_OK);
    fovea_case_begin(&k, fovea_catalogue_find("attention"));
    fovea_case_parse(&k, "b=1,hq=4,sq=100,d=64", 0, &message);
    fovea_case_complete(&k, &message);
    assert_int_equal(fovea_sample_create(&k, NULL, &sample, &message), FOVEA_OK);
    for (int n = 0; n < fovea_implementation_count(k.index); n++) {
        const fovea_implementation *implementation = fovea_implementation_at(k.index, n);
        char reason[160];
        if (!fovea_implementation_serves(implementation, &sample.problem, reason, sizeof reason))
            continue;
        assert_int_equal(fovea_use(context, "attention", implementation->name), FOVEA_OK);
        fovea_attention_options *o = (void *)sample.options;
        assert_int_equal(fovea_attention(context, sample.required[0], sample.required[1],
                                         sample.required[2], sample.required[3], o),
                         FOVEA_OK);
        int first = c.allocations;
        for (int again = 0; again < 3; again++)
            assert_int_equal(fovea_attention(context, sample.required[0], sample.required[1],
                                             sample.required[2], sample.required[3], o),
                             FOVEA_OK);
        assert_int_equal(c.allocations, first);
    }
    fovea_sample_destroy(&sample);
    fovea_context_destroy(context);
    assert_int_equal(c.live, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(creation_survives_every_failure),
        cmocka_unit_test(attention_survives_every_failure),
        cmocka_unit_test(other_kernels_survive_every_failure),
        cmocka_unit_test(explanations_allocate_nothing),
        cmocka_unit_test(a_steady_state_allocates_nothing),
    };
    return cmocka_run_group_tests_name("out of memory", tests, NULL, NULL);
}
