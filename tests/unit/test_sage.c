/* Approximate attention: it runs only where it is asked for, smoothing is what keeps keys far off 0 within the limits, and
 * the limits find one wrong row among many. */
#include "catalogue/case.h"
#include "check_trial.h"
#include "router/choose.h"
#include "router/registry.h"
#include "test.h"
#include "verify.h"

#include <math.h>
#include <stdio.h>

static const char *const products[] = {"f32", "bf16", "i8"};

static bool is_sage(const fovea_implementation *implementation) {
    return strcmp(fovea_implementation_algorithm(implementation), "sage") == 0;
}

/* What becomes of a call wherever it is served here; returns by how many implementations. */
static int becomes(fovea_outcome outcome, const char *shape, const char *options) {
    fovea_check_case check;
    fovea_trial trial;
    fovea_trial_result result;
    fovea_message message;
    char text[256];
    int kernel = fovea_catalogue_find("attention"), served = 0;
    snprintf(text, sizeof text, "%s,algorithm=sage,%s", shape, options);
    assert_int_equal(fovea_check_case_parse(&check, kernel, text, &message), FOVEA_OK);
    assert_int_equal(fovea_trial_create(&check, &trial, &message), FOVEA_OK);
    for (int i = 0; i < fovea_implementation_count(kernel); i++) {
        const fovea_implementation *sage = fovea_implementation_at(kernel, i);
        if (!is_sage(sage) || !fovea_has_tier(sage->tier)) continue;
        fovea_trial_run(&trial, sage, 60, &result);
        if (result.outcome == FOVEA_DECLINED) continue;
        assert_int_equal(result.outcome, outcome);
        served++;
    }
    fovea_trial_destroy(&trial);
    return served;
}

/* The same keys with and without smoothing; lse is left out, so that `out` alone decides. */
static void smoothing_decides_where_keys_lie_far_off(void **unused) {
    (void)unused;
    static const char shape[] = "dtype=f16,hq=2,hkv=1,sq=130,sk=257,d=64";
    char smoothed[64], raw[96];
    int tried = 0;
    for (size_t p = 0; p < sizeof products / sizeof *products; p++) {
        snprintf(smoothed, sizeof smoothed, "pv=%s,touch=channels", products[p]);
        snprintf(raw, sizeof raw, "%s,smooth_k=0", smoothed);
        int served = becomes(FOVEA_PASSED, shape, smoothed);
        assert_int_equal(becomes(FOVEA_FAILED, shape, raw), served);
        tried += served;
    }
    assert_true(tried >= 2);
}

/* Without lse or anything else that wants scores themselves, which the cases of `fovea check` nearly always do. */
static void plain_calls_are_right(void **unused) {
    (void)unused;
    static const char *const shapes[] = {"dtype=bf16,hq=2,sq=130,sk=257,d=64",
                                         "dtype=bf16,hq=2,sq=70,sk=129,d=32,causal=top_left",
                                         "dtype=f16,hq=2,hkv=1,sq=130,sk=300,d=128,causal=top_left",
                                         "dtype=f32,hq=2,hkv=1,sq=70,sk=257,d=80",
                                         "dtype=bf16,hq=1,sq=70,sk=600,d=256,granularity=block",
                                         "dtype=bf16,hq=2,sq=70,sk=257,d=64,scale=4"};
    char options[16];
    int tried = 0;
    for (size_t c = 0; c < sizeof shapes / sizeof *shapes * 3; c++) {
        snprintf(options, sizeof options, "pv=%s", products[c % 3]);
        tried += becomes(FOVEA_PASSED, shapes[c / 3], options);
    }
    assert_true(tried >= 6);
}

static void create(fovea_case *c, fovea_sample *sample, const char *text) {
    fovea_message message;
    fovea_case_begin(c, fovea_catalogue_find("attention"));
    assert_int_equal(fovea_case_parse(c, text, 0, &message), FOVEA_OK);
    assert_int_equal(fovea_case_complete(c, &message), FOVEA_OK);
    assert_int_equal(fovea_sample_create(c, NULL, sample, &message), FOVEA_OK);
}

static void it_is_chosen_where_it_is_asked_for_only(void **unused) {
    (void)unused;
    fovea_case c;
    fovea_sample sample;
    fovea_choice choice;
    char reason[160];
    create(&c, &sample, "dtype=f16,hq=2,sq=512,d=64");
    fovea_choose(&sample.problem, NULL, 1, &choice);
    assert_false(is_sage(choice.implementation));
    for (int i = 0; i < fovea_implementation_count(sample.problem.index); i++) {
        const fovea_implementation *one = fovea_implementation_at(sample.problem.index, i);
        bool serves = fovea_implementation_serves(one, &sample.problem, reason, sizeof reason);
        if (is_sage(one)) assert_false(serves);
    }
    fovea_sample_destroy(&sample);
    create(&c, &sample, "dtype=f16,hq=2,sq=512,d=64,algorithm=sage,pv=i8");
    fovea_choose(&sample.problem, NULL, 1, &choice);
    assert_true(is_sage(choice.implementation));
    fovea_sample_destroy(&sample);
}

/* Right outputs are the reference's own; `spoil` then makes one row of out, or an lse, wrong. */
static fovea_verdict verdict_of(int output, int64_t first, int64_t count, double factor) {
    fovea_case c;
    fovea_sample sample;
    fovea_verdict verdict;
    create(&c, &sample, "hq=2,sq=128,sk=100,d=64,algorithm=sage,lse=1");
    fovea_verification *expected = fovea_verification_create(&sample.problem, 0, 1);
    const fovea_implementation *reference =
        fovea_implementation_find(sample.problem.index, "reference/scalar/double");
    fovea_run run = {.threads = 1};
    assert_non_null(expected);
    assert_int_equal(reference->run(&sample.problem, &run), FOVEA_OK);
    for (int64_t e = first; e < first + count; e++) {
        const fovea_view *view = &sample.problem.views[output];
        fovea_view_write(view, e, factor * fovea_view_read(view, e));
    }
    fovea_verify(expected, NULL, &verdict);
    fovea_verification_destroy(expected);
    fovea_sample_destroy(&sample);
    return verdict;
}

static void one_wrong_row_is_found(void **unused) {
    (void)unused;
    fovea_verdict right = verdict_of(FOVEA_ATTENTION_OUT, 0, 0, 1);
    assert_true(right.verified && right.share < 0.01 && right.accuracy.cosine > 0.999999);
    fovea_verdict row = verdict_of(FOVEA_ATTENTION_OUT, 64 * 250, 64, -1);
    assert_false(row.verified);
    assert_true(row.accuracy.relative_l1 < 0.02); /* as a whole it is still good */
    assert_false(verdict_of(FOVEA_ATTENTION_LSE, 7, 1, 1.05).verified);
    assert_false(verdict_of(FOVEA_ATTENTION_OUT, 5, 1, NAN).verified);
    assert_false(verdict_of(FOVEA_ATTENTION_OUT, 0, 128 * 2 * 64, 1.03).verified);
}

static void eight_bits_of_weights_have_wider_limits(void **unused) {
    (void)unused;
    fovea_attention_options options;
    fovea_quality quality;
    fovea_attention_options_default(&options);
    assert_false(fovea_attention_quality(&options, &quality));
    options.algorithm = FOVEA_ATTENTION_ALGORITHM_SAGE;
    assert_true(fovea_attention_quality(&options, &quality));
    assert_true(quality.cosine == 0.9995 && quality.relative_l1 == 0.02 && quality.lse == 1e-2);
    options.pv = FOVEA_ATTENTION_PV_I8;
    assert_true(fovea_attention_quality(&options, &quality));
    assert_true(quality.cosine == 0.999 && quality.relative_l1 == 0.03 && quality.lse == 1e-2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(smoothing_decides_where_keys_lie_far_off),
                                       cmocka_unit_test(plain_calls_are_right),
                                       cmocka_unit_test(it_is_chosen_where_it_is_asked_for_only),
                                       cmocka_unit_test(one_wrong_row_is_found),
                                       cmocka_unit_test(eight_bits_of_weights_have_wider_limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
