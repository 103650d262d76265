/* Slices of a problem agree with the whole of it, for every kernel to which they are said to apply; and an
 * error at either end is found. */
#include "api/call.h"
#include "slices.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

static fovea_context *context;
static fovea_sample sample;

static int begin(void **unused) {
    (void)unused;
    return fovea_context_create(NULL, &context) != FOVEA_OK;
}

static int end(void **unused) {
    (void)unused;
    return fovea_context_destroy(context), 0;
}

static bool make(fovea_case *c, int kernel, const char *text, double n) {
    fovea_message message;
    fovea_case_begin(c, kernel);
    return fovea_case_parse(c, text, n, &message) == FOVEA_OK &&
           fovea_case_complete(c, &message) == FOVEA_OK &&
           fovea_sample_create(c, NULL, &sample, &message) == FOVEA_OK;
}

static fovea_status call(void) {
    return fovea_call_kernel(context, sample.problem.index,
                             (const DLTensor *const *)sample.required, sample.count,
                             sample.options);
}

static void slices_agree_with_the_whole(void **unused) {
    (void)unused;
    int applied = 0;
    for (int k = 0; k < fovea_catalogue_count(); k++) {
        const fovea_kernel *kernel = fovea_catalogue_kernel(k);
        fovea_case c;
        fovea_verdict verdict;
        /* The others have one size, which may be large. */
        if (!kernel->bench || !(strstr(kernel->bench, "=N") || strstr(kernel->bench, "(N")))
            continue;
        if (!make(&c, k, kernel->bench, 30000)) continue;
        if (fovea_slices_apply(&sample)) {
            fovea_slices *slices = fovea_slices_create(&sample, 7);
            assert_non_null(slices);
            if (call() == FOVEA_OK) {
                fovea_slices_verify(slices, &verdict);
                if (!verdict.verified) fail_msg("%s: %s", kernel->name, verdict.where);
                assert_true(verdict.compared > 0);
                applied++;
            }
            fovea_slices_destroy(slices);
        }
        fovea_sample_destroy(&sample);
    }
    assert_true(applied > 30);
}

static void an_error_at_either_end_is_found(void **unused) {
    (void)unused;
    for (int i = 0; i < 2; i++) {
        fovea_case c;
        fovea_verdict verdict;
        assert_true(make(&c, fovea_catalogue_find("map_add"), "N=N", 30000));
        fovea_slices *slices = fovea_slices_create(&sample, 7);
        assert_int_equal(call(), FOVEA_OK);
        ((float *)sample.storage[2])[i ? 29999 : 0] += 1e-3f;
        fovea_slices_verify(slices, &verdict);
        assert_false(verdict.verified);
        assert_int_equal(verdict.wrong, 1);
        assert_non_null(strstr(verdict.where, i ? "from index" : "y[0]"));
        fovea_slices_destroy(slices);
        fovea_sample_destroy(&sample);
    }
}

static void what_needs_the_whole_is_declined(void **unused) {
    (void)unused;
    static const char *const names[] = {"reduce_sum",     "scan_inclusive", "prng_normal",
                                        "grad_clip_norm", "compact_mask",   "reduce_histogram"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int kernel = fovea_catalogue_find(names[i]);
        fovea_case c;
        assert_true(kernel >= 0);
        assert_true(make(&c, kernel, fovea_catalogue_kernel(kernel)->bench, 30000));
        if (fovea_slices_apply(&sample) && strcmp(names[i], "scan_inclusive") != 0)
            fail_msg("slices are said to apply to %s", names[i]);
        fovea_sample_destroy(&sample);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_agree_with_the_whole),
        cmocka_unit_test(an_error_at_either_end_is_found),
        cmocka_unit_test(what_needs_the_whole_is_declined),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
