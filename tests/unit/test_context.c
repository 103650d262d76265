/* Contexts: options, environment, forced implementations, reports, statistics, explanations. */
#include "tensors.h"
#include "test.h"

#include <fovea/fovea.h>
#include <stdlib.h>
#include <string.h>

static const char reference[] = "reference/scalar/double";
static float x[6] = {1, 2, 3, 4, 5, 6}, y[6], z[6];

static fovea_status add(fovea_context *context) {
    DLTensor a = TENSOR(x, FOVEA_F32, 2, 3), b = TENSOR(y, FOVEA_F32, 2, 3);
    DLTensor sum = TENSOR(z, FOVEA_F32, 2, 3);
    return fovea_map_add(context, &a, &b, &sum, NULL);
}

static fovea_context *make(void) {
    fovea_context *context = NULL;
    fovea_context_options options;
    fovea_context_options_default(&options);
    options.routes = "";
    assert_int_equal(fovea_context_create(&options, &context), FOVEA_OK);
    assert_non_null(context);
    return context;
}

static void refuses_options_that_are_wrong(void **state) {
    (void)state;
    fovea_context *context = (fovea_context *)x;
    fovea_context_options options;
    assert_int_equal(fovea_context_create(NULL, NULL), FOVEA_INVALID_ARGUMENT);
    assert_string_equal(fovea_last_message(NULL), "context is NULL");
    fovea_context_options_default(&options);
    options.threads = -1;
    assert_int_equal(fovea_context_create(&options, &context), FOVEA_INVALID_ARGUMENT);
    assert_null(context);
    assert_string_equal(fovea_last_message(NULL),
                        "options.threads is -1; it lies between 0 (automatic) and 4096");
    fovea_context_options_default(&options);
    options.allocator.release = NULL;
    assert_int_equal(fovea_context_create(&options, &context), FOVEA_INVALID_ARGUMENT);
    assert_string_equal(fovea_last_message(NULL),
                        "options.allocator has only one of allocate and release");
    fovea_context_options_default(&options);
    options.size = 3;
    assert_int_equal(fovea_context_create(&options, &context), FOVEA_INVALID_ARGUMENT);
    assert_non_null(strstr(fovea_last_message(NULL), "options.size is 3;"));
}

static void refuses_environment_that_is_wrong(void **state) {
    (void)state;
    fovea_context *context;
    const char *cap = getenv("FOVEA_TIER");
    char before[32] = "";
    if (cap) strncpy(before, cap, sizeof before - 1);
    setenv("FOVEA_TIER", "sse9", 1);
    assert_int_equal(fovea_context_create(NULL, &context), FOVEA_INVALID_ARGUMENT);
    assert_string_equal(fovea_last_message(NULL),
                        "the environment variable FOVEA_TIER is «sse9»; it is one of scalar, avx2, "
                        "avx512, amx, neon");
    if (cap)
        setenv("FOVEA_TIER", before, 1);
    else
        unsetenv("FOVEA_TIER");
    setenv("FOVEA_IMPLEMENTATION", "cpu/none/such", 1);
    assert_int_equal(fovea_context_create(NULL, &context), FOVEA_INVALID_ARGUMENT);
    assert_non_null(strstr(fovea_last_message(NULL), "cpu/none/such"));
    unsetenv("FOVEA_IMPLEMENTATION");
}

static void environment_forces_an_implementation(void **state) {
    (void)state;
    setenv("FOVEA_IMPLEMENTATION", reference, 1);
    fovea_context *context = make();
    unsetenv("FOVEA_IMPLEMENTATION");
    fovea_call_report report;
    assert_int_equal(add(context), FOVEA_OK);
    assert_int_equal(fovea_last_call(context, &report), FOVEA_OK);
    assert_string_equal(report.implementation, reference);
    fovea_context_destroy(context);
}

static void lists_kernels_and_implementations(void **state) {
    (void)state;
    assert_true(fovea_kernel_count() > 0);
    assert_null(fovea_kernel_name(fovea_kernel_count()));
    for (size_t k = 0; k < fovea_kernel_count(); k++) {
        size_t i = 0;
        bool has_reference = false;
        const char *name;
        while ((name = fovea_implementation_name(fovea_kernel_name(k), i++)))
            has_reference |= strcmp(name, reference) == 0;
        assert_true(has_reference);
    }
    assert_null(fovea_implementation_name("no_such", 0));
    assert_null(fovea_implementation_name(NULL, 0));
}

static void the_reference_is_used_only_by_name(void **state) {
    (void)state;
    fovea_context *context = make();
    fovea_call_report report;
    DLTensor a = TENSOR(x, FOVEA_F32, 6), b = TENSOR(z, FOVEA_F32, 6), *tensors[] = {&a, &b};
    fovea_route route;
    for (int forced = 0; forced < 2; forced++) {
        if (forced) assert_int_equal(fovea_use(context, "map_gelu", reference), FOVEA_OK);
        fovea_status status = fovea_call(context, "map_gelu", tensors, 2, NULL);
        fovea_status explained = fovea_explain(context, "map_gelu", tensors, 2, NULL, &route);
        assert_int_equal(status, explained);
        if (forced) {
            assert_int_equal(status, FOVEA_OK);
            assert_string_equal(route.implementation, reference);
            assert_string_equal(route.reason, "asked for by name");
            assert_int_equal(fovea_last_call(context, &report), FOVEA_OK);
            assert_string_equal(report.implementation, reference);
            assert_string_equal(report.kernel, "map_gelu");
            assert_true(report.seconds >= 0 && report.threads >= 1);
        } else {
            assert_string_not_equal(route.implementation, reference);
            assert_non_null(strstr(route.declined, "reference/scalar/double: it is used only when "
                                                   "asked for by name"));
        }
    }
    assert_int_equal(fovea_use(context, NULL, NULL), FOVEA_OK);
    fovea_explain(context, "map_gelu", tensors, 2, NULL, &route);
    assert_string_not_equal(route.implementation, reference);
    fovea_context_destroy(context);
}

static void statistics_count_calls_failures_and_bytes(void **state) {
    (void)state;
    fovea_context *context = make();
    fovea_statistics statistics;
    fovea_call_report report;
    assert_int_equal(fovea_last_call(context, &report), FOVEA_INVALID_ARGUMENT);
    assert_int_equal(fovea_kernel_statistics(context, "map_add", &statistics), FOVEA_OK);
    assert_true(statistics.calls == 0 && statistics.implementation == NULL);
    assert_int_equal(fovea_use(context, NULL, reference), FOVEA_OK);
    assert_int_equal(add(context), FOVEA_OK);
    assert_int_equal(add(context), FOVEA_OK);
    assert_int_equal(fovea_map_add(context, NULL, NULL, NULL, NULL), FOVEA_INVALID_ARGUMENT);
    assert_int_equal(fovea_kernel_statistics(context, "map_add", &statistics), FOVEA_OK);
    assert_int_equal(statistics.calls, 2);
    assert_int_equal(statistics.failures, 1);
    assert_true(statistics.bytes == 2 * 3 * 6 * sizeof(float));
    assert_true(statistics.seconds > 0);
    assert_string_equal(statistics.implementation, reference);
    assert_int_equal(fovea_kernel_statistics(context, "map_gelu", &statistics), FOVEA_OK);
    assert_int_equal(statistics.calls, 0);
    assert_int_equal(fovea_kernel_statistics(context, "no_such", &statistics),
                     FOVEA_INVALID_ARGUMENT);
    fovea_context_destroy(context);
}

static void older_smaller_options_are_completed(void **state) {
    (void)state;
    fovea_context *context = make();
    assert_int_equal(fovea_use(context, NULL, reference), FOVEA_OK);
    DLTensor a = TENSOR(x, FOVEA_F32, 6), b = TENSOR(z, FOVEA_F32, 6);
    struct {
        size_t size;
        double lo;
    } older = {sizeof older, 2.5};
    assert_int_equal(fovea_map_clamp(context, &a, &b, (const void *)&older), FOVEA_OK);
    assert_true(z[0] == 1 && z[5] == 1); /* hi is 1, and wins over lo */
    fovea_context_destroy(context);
}

static void in_place_calls_work_where_the_row_allows(void **state) {
    (void)state;
    fovea_context *context = make();
    assert_int_equal(fovea_use(context, NULL, reference), FOVEA_OK);
    float values[3] = {-4, 0.5f, 4};
    DLTensor a = TENSOR(values, FOVEA_F32, 3);
    assert_int_equal(fovea_map_clamp(context, &a, &a, NULL), FOVEA_OK);
    assert_true(values[0] == -1 && values[1] == 0.5f && values[2] == 1);
    fovea_context_destroy(context);
}

static void status_texts_exist(void **state) {
    (void)state;
    for (int status = 1; status > -8; status--) {
        const char *text = fovea_status_text((fovea_status)status);
        assert_non_null(text);
        assert_true(strlen(text) > 0);
    }
    assert_string_equal(fovea_version(), FOVEA_VERSION);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_options_that_are_wrong),
        cmocka_unit_test(refuses_environment_that_is_wrong),
        cmocka_unit_test(environment_forces_an_implementation),
        cmocka_unit_test(lists_kernels_and_implementations),
        cmocka_unit_test(the_reference_is_used_only_by_name),
        cmocka_unit_test(statistics_count_calls_failures_and_bytes),
        cmocka_unit_test(older_smaller_options_are_completed),
        cmocka_unit_test(in_place_calls_work_where_the_row_allows),
        cmocka_unit_test(status_texts_exist),
    };
    return cmocka_run_group_tests_name("context", tests, NULL, NULL);
}
