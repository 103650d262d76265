/* The catalogue: formulas, rows that agree with themselves, cases in words. */
#include "catalogue/attention.h"
#include "catalogue/case.h"
#include "catalogue/outcome.h"
#include "reference/reference.h"
#include "router/registry.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static fovea_message message;

/* ---- Formulas ------------------------------------------------------------------------------- */

static double lookup(const char *name, const void *user) {
    (void)user;
    return strcmp(name, "N") == 0 ? 4096 : strcmp(name, "Dv") == 0 ? 64 : NAN;
}

static double value_of(const char *formula) { return fovea_evaluate(formula, lookup, NULL); }

static void formulas_follow_the_rules_of_arithmetic(void **state) {
    (void)state;
    assert_true(value_of("2+3*4") == 14);
    assert_true(value_of("(2+3)*4") == 20);
    assert_true(value_of("20-3-4") == 13);
    assert_true(value_of("64/4/2") == 8);
    assert_true(value_of(" 2 * N ") == 8192);
    assert_true(value_of("max(1, floor(N/9765))") == 1);
    assert_true(value_of("max(floor(7/2),2)*Dv") == 192);
    assert_true(value_of("log2(8)+power2(8)+power2(9)") == 27);
}

static void malformed_formulas_are_nan(void **state) {
    (void)state;
    const char *const malformed[] = {"",     "2+",       "(2",      "2)",     "x",
                                     "2 3",  "max(1)",   "max(1,2", "floor(", "2**3",
                                     "N(3)", "floor 3)", "@"};
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++)
        if (!isnan(value_of(malformed[i]))) fail_msg("«%s» has a value", malformed[i]);
}

static void deep_nesting_is_refused_and_not_followed(void **state) {
    (void)state;
    char deep[20001];
    memset(deep, '(', 20000);
    deep[20000] = 0;
    assert_true(isnan(value_of(deep)));
}

/* ---- Rows ----------------------------------------------------------------------------------- */

static void every_row_has_what_it_needs(void **state) {
    (void)state;
    assert_true(fovea_catalogue_count() > 0);
    for (int k = 0; k < fovea_catalogue_count(); k++) {
        const fovea_kernel *kernel = fovea_catalogue_kernel(k);
        assert_int_equal(fovea_catalogue_find(kernel->name), k);
        assert_non_null(kernel->definition);
        assert_non_null(kernel->bound_text);
        assert_true(kernel->dtypes != 0);
        assert_non_null(fovea_reference_find(k));
        assert_true(fovea_options_layouts[k].size <= FOVEA_OPTIONS_SIZE_MAX);
        int outputs = 0;
        for (int a = 0; a < fovea_kernel_arguments(kernel); a++)
            outputs += kernel->arguments[a].role != FOVEA_INPUT;
        assert_true(outputs > 0);
    }
    assert_int_equal(fovea_catalogue_find("map_gelu_"), -1);
    assert_null(fovea_catalogue_kernel(fovea_catalogue_count()));
}

/* What check draws for must be there: a name that is misspelt would leave its values undrawn. */
static void values_for_checks_name_letters_and_integer_parameters(void **state) {
    (void)state;
    for (int k = 0; k < fovea_catalogue_count(); k++) {
        const fovea_kernel *kernel = fovea_catalogue_kernel(k);
        for (const char *at = kernel->check_values; at && *at;
             at += strcspn(at, ";"), at += !!*at) {
            char name[32];
            assert_true(strcspn(at, "=") < sizeof name && at[strcspn(at, "=")] == '=');
            snprintf(name, sizeof name, "%.*s", (int)strcspn(at, "="), at);
            int parameter = fovea_kernel_parameter(kernel, name);
            if (fovea_kernel_letter(k, name) < 0 &&
                (parameter < 0 || kernel->parameters[parameter].kind != FOVEA_INTEGER))
                fail_msg("%s has no letter or whole number «%s» to check", kernel->name, name);
        }
    }
}

static void every_benchmark_case_can_be_built_and_counted(void **state) {
    (void)state;
    for (int k = 0; k < fovea_catalogue_count(); k++) {
        fovea_case c;
        fovea_sample sample;
        bool attention = fovea_catalogue_kernel(k)->traits != NULL;
        fovea_case_begin(&c, k);
        fovea_status status =
            fovea_case_parse(&c, fovea_catalogue_kernel(k)->bench, 4096, &message);
        if (attention) fovea_case_parse(&c, "hq=4,sq=16", 0, &message);
        if (status == FOVEA_OK) status = fovea_case_complete(&c, &message);
        c.data = FOVEA_DATA_NONE; /* whose elements nobody counts */
        if (status == FOVEA_OK) status = fovea_sample_create(&c, NULL, &sample, &message);
        if (status != FOVEA_OK) fail_msg("%s: %s", fovea_catalogue_kernel(k)->name, message.text);
        assert_true(fovea_problem_operations(&sample.problem) >= 0); /* movements have none */
        assert_true(fovea_problem_bytes(&sample.problem) > 0);
        fovea_sample_destroy(&sample);
    }
}

static void implementations_have_distinct_names_of_three_parts(void **state) {
    (void)state;
    for (int k = 0; k < fovea_catalogue_count(); k++)
        for (int i = 0; i < fovea_implementation_count(k); i++) {
            const fovea_implementation *implementation = fovea_implementation_at(k, i);
            const char *first = strchr(implementation->name, '/');
            assert_non_null(first);
            assert_non_null(strchr(first + 1, '/'));
            assert_ptr_equal(fovea_implementation_find(k, implementation->name), implementation);
            assert_string_equal(implementation->kernel, fovea_catalogue_kernel(k)->name);
        }
}

/* ---- Cases ---------------------------------------------------------------------------------- */

static fovea_case begin(const char *kernel) {
    fovea_case c;
    fovea_case_begin(&c, fovea_catalogue_find(kernel));
    return c;
}

static void cases_in_words_round_trip(void **state) {
    (void)state;
    fovea_case c = begin("attention"), again = begin("attention");
    char first[512], second[512];
    const char *text = "dtype=f16,b=2,hq=8,hkv=2,sq=33,sk=65,d=40,dv=24,causal=bottom_right,"
                       "window_left=7,softcap=30,mask=1,lse=1,memory=padded,data=offset";
    assert_int_equal(fovea_case_parse(&c, text, 0, &message), FOVEA_OK);
    fovea_case_text(&c, first, sizeof first);
    assert_int_equal(fovea_case_parse(&again, first, 0, &message), FOVEA_OK);
    fovea_case_text(&again, second, sizeof second);
    assert_string_equal(first, second);
    assert_memory_equal(&c, &again, sizeof c);
    assert_true(fovea_case_parameter(&c, "window_left") == 7);
    assert_int_equal(c.layout, FOVEA_PADDED);
}

static void formulas_give_extents(void **state) {
    (void)state;
    fovea_case c = begin("layer_norm");
    assert_int_equal(fovea_case_parse(&c, "b=max(1,floor(N/9765)),D=9765", 1 << 22, &message),
                     FOVEA_OK);
    assert_int_equal(c.extents[fovea_kernel_letter(c.index, "B")], 429);
    assert_int_equal(c.extents[fovea_kernel_letter(c.index, "D")], 9765);
}

static void assert_case_refused(const char *kernel, const char *text, const char *sentence) {
    fovea_case c = begin(kernel);
    assert_int_equal(fovea_case_parse(&c, text, 0, &message), FOVEA_INVALID_ARGUMENT);
    assert_string_equal(message.text, sentence);
}

static void refused_cases_name_the_item(void **state) {
    (void)state;
    assert_case_refused("attention", "b", "«b» is not of the form name=value");
    assert_case_refused("attention", "b=-1", "b=-1: an extent is a whole number, at least 0");
    assert_case_refused("attention", "b=1.5", "b=1.5: an extent is a whole number, at least 0");
    assert_case_refused("attention", "zz=1",
                        "zz=1: attention has no extent, parameter or optional tensor of that name");
    assert_case_refused("attention", "causal=sideways",
                        "causal=sideways: it is one of none,top_left,bottom_right");
    assert_case_refused("attention", "scale=big", "scale=big: not a number");
    assert_case_refused("attention", "dtype=f64", "dtype=f64: attention does not take it");
    assert_case_refused("attention", "memory=upside_down",
                        "memory=upside_down: attention has no extent, parameter or optional tensor "
                        "of that name");
    assert_case_refused("attention", "window_left=1.5", "window_left=1.5: not a whole number");
    assert_case_refused("attention", "seed=1e30", "seed=1e30: not a whole number");
    assert_case_refused("map_add", "seed=x", "seed=x: not a whole number");
}

static void missing_extents_are_named(void **state) {
    (void)state;
    fovea_case c = begin("layer_norm");
    assert_int_equal(fovea_case_parse(&c, "B=3", 0, &message), FOVEA_OK);
    assert_int_equal(fovea_case_complete(&c, &message), FOVEA_INVALID_ARGUMENT);
    assert_string_equal(message.text, "layer_norm: the extent D is missing");
}

static void samples_follow_the_seed_alone(void **state) {
    (void)state;
    fovea_sample a, b, other;
    fovea_case first = begin("map_add"), second = begin("map_add");
    fovea_case_parse(&first, "N=1000", 0, &message);
    fovea_case_parse(&second, "N=1000,seed=5", 0, &message);
    assert_int_equal(fovea_sample_create(&first, NULL, &a, &message), FOVEA_OK);
    assert_int_equal(fovea_sample_create(&first, NULL, &b, &message), FOVEA_OK);
    assert_int_equal(fovea_sample_create(&second, NULL, &other, &message), FOVEA_OK);
    assert_memory_equal(a.storage[0], b.storage[0], 4000);
    assert_memory_not_equal(a.storage[0], a.storage[1], 4000);
    assert_memory_not_equal(a.storage[0], other.storage[0], 4000);
    fovea_sample_destroy(&a), fovea_sample_destroy(&b), fovea_sample_destroy(&other);
}

static void layouts_hold_the_same_values(void **state) {
    (void)state;
    for (int layout = 0; layout < FOVEA_LAYOUT_COUNT; layout++) {
        fovea_case plain = begin("softmax_stable"), laid_out;
        fovea_sample a, b;
        fovea_case_parse(&plain, "R=7,C=33", 0, &message);
        laid_out = plain;
        laid_out.layout = (fovea_layout)layout;
        assert_int_equal(fovea_sample_create(&plain, NULL, &a, &message), FOVEA_OK);
        assert_int_equal(fovea_sample_create(&laid_out, NULL, &b, &message), FOVEA_OK);
        for (int i = 0; i < 7 * 33; i++)
            assert_true(fovea_view_read(&a.problem.views[0], i) ==
                        fovea_view_read(&b.problem.views[0], i));
        fovea_sample_destroy(&a), fovea_sample_destroy(&b);
    }
}

static void philox_gives_the_known_answers(void **state) {
    (void)state;
    const struct {
        uint32_t counter[4], key[2], words[4];
    } answers[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}};
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        uint32_t words[4];
        fovea_philox(answers[i].counter, answers[i].key, words);
        assert_memory_equal(words, answers[i].words, sizeof words);
    }
}

/* ---- Counts --------------------------------------------------------------------------------- */

static double pairs_one_by_one(const fovea_attention_call *call) {
    double pairs = 0;
    for (int64_t b = 0; b < call->batch; b++) {
        fovea_sequence sequence = fovea_attention_sequence(call, b);
        for (int64_t i = 0; i < sequence.query_count; i++) {
            int64_t first, end;
            fovea_attended_keys(call, &sequence, i, &first, &end);
            assert_true(0 <= first && first <= end && end <= sequence.key_count);
            pairs += (double)(end - first);
        }
    }
    return pairs * (double)call->query_heads;
}

static void unmasked_pairs_are_counted_in_closed_form(void **state) {
    (void)state;
    const char *const lengths[] = {"sq=7,sk=7",
                                   "sq=3,sk=11",
                                   "sq=11,sk=3",
                                   "sq=1,sk=9",
                                   "sq=9,sk=16,b=5,cu_seqlens_q=1,cu_seqlens_k=1",
                                   "sq=4,sk=12,b=3,seqused_k=1"};
    const char *const masks[] = {"causal=none", "causal=top_left", "causal=bottom_right"};
    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
        for (size_t m = 0; m < 3; m++)
            for (int left = -1; left < 4; left++)
                for (int right = -1; right < 4; right++)
                    for (int offset = -4; offset < 5; offset += 4) {
                        fovea_case c = begin("attention");
                        fovea_sample sample;
                        fovea_attention_call call;
                        fovea_case_parse(&c, "hq=2,d=4", 0, &message);
                        fovea_case_parse(&c, lengths[l], 0, &message);
                        fovea_case_parse(&c, masks[m], 0, &message);
                        fovea_case_set(&c, "window_left", left);
                        fovea_case_set(&c, "window_right", right);
                        fovea_case_set(&c, "query_offset", offset);
                        fovea_case_complete(&c, &message);
                        assert_int_equal(fovea_sample_create(&c, NULL, &sample, &message),
                                         FOVEA_OK);
                        fovea_attention_describe(&sample.problem, &call);
                        double counted = fovea_attention_pairs(&call);
                        if (counted != pairs_one_by_one(&call))
                            fail_msg("%s,%s,window %d %d,offset %d: %g pairs, not %g", lengths[l],
                                     masks[m], left, right, offset, counted,
                                     pairs_one_by_one(&call));
                        fovea_sample_destroy(&sample);
                    }
}

/* The Python package foresees results before anything but tensors is checked. What overflows then a sanitizer
 * sees. */
static void results_are_foreseen_whatever_integers_say(void **state) {
    (void)state;
    static const int64_t odd[] = {INT64_MAX, INT64_MIN + 1, INT64_C(1) << 40, 2, -3};
    static char data[64];
    fovea_reduce_sum_options sum;
    fovea_quantize_f16_to_i8_options quantize;
    fovea_reduce_sum_options_default(&sum);
    fovea_quantize_f16_to_i8_options_default(&quantize);
    quantize.granularity = FOVEA_QUANTIZE_F16_TO_I8_GRANULARITY_GROUP;
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        fovea_view outcome;
        fovea_problem given = {.index = fovea_catalogue_find("reduce_sum"), .present = 1};
        given.kernel = fovea_catalogue_kernel(given.index), given.options = &sum;
        given.views[0] = (fovea_view){data, FOVEA_F32, 2, {2, 3}, {3, 1}};
        sum.axis = odd[i];
        assert_true(fovea_outcome(&given, 1, &outcome));
        assert_int_equal(outcome.rank, 0);
        given.index = fovea_catalogue_find("quantize_f16_to_i8");
        given.kernel = fovea_catalogue_kernel(given.index), given.options = &quantize;
        quantize.group = odd[i];
        int scale = fovea_kernel_argument(given.kernel, "scale");
        if (fovea_outcome(&given, scale, &outcome)) assert_in_range(outcome.shape[1], 0, 3);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formulas_follow_the_rules_of_arithmetic),
        cmocka_unit_test(malformed_formulas_are_nan),
        cmocka_unit_test(deep_nesting_is_refused_and_not_followed),
        cmocka_unit_test(every_row_has_what_it_needs),
        cmocka_unit_test(values_for_checks_name_letters_and_integer_parameters),
        cmocka_unit_test(every_benchmark_case_can_be_built_and_counted),
        cmocka_unit_test(implementations_have_distinct_names_of_three_parts),
        cmocka_unit_test(cases_in_words_round_trip),
        cmocka_unit_test(formulas_give_extents),
        cmocka_unit_test(refused_cases_name_the_item),
        cmocka_unit_test(missing_extents_are_named),
        cmocka_unit_test(samples_follow_the_seed_alone),
        cmocka_unit_test(layouts_hold_the_same_values),
        cmocka_unit_test(philox_gives_the_known_answers),
        cmocka_unit_test(unmasked_pairs_are_counted_in_closed_form),
        cmocka_unit_test(results_are_foreseen_whatever_integers_say),
    };
    return cmocka_run_group_tests_name("catalogue", tests, NULL, NULL);
}
