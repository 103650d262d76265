/* `fovea check --exhaustive`: its functions in double are those of the reference, one wrong result among
 * many is found and named, and what is right is not. */
#include "exhaustive.h"

#include "catalogue/case.h"
#include "exhaustive_loops.h"
#include "reference/reference.h"
#include "router/registry.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- The functions in double ---------------------------------------------------------------- */

enum { COUNT = 1 << 17 };

/* Patterns in equal steps, which end in all kinds of bits, and the neighbours of some limits. */
static void fill(float *x) {
    static const float edges[] = {0,     0.3465736f, 0.5f,          0.7071068f, 1,   2,   6,
                                  50,    88.72284f,  103.97f,       140,        200, 300, 700,
                                  65504, 65520,      3.3895314e38f, INFINITY,   NAN};
    int n = 0;
    for (size_t e = 0; e < sizeof edges / sizeof *edges; e++)
        for (int step = -20; step <= 20; step++) {
            uint32_t bits;
            memcpy(&bits, &edges[e], sizeof bits);
            bits += (uint32_t)step, memcpy(&x[n++], &bits, sizeof bits);
            bits ^= 1u << 31, memcpy(&x[n++], &bits, sizeof bits);
        }
    for (uint32_t bits = 77; n < COUNT; bits += 32779) memcpy(&x[n++], &bits, sizeof bits);
}

static bool agree(double value, double reference) {
    if (isnan(reference)) return isnan(value);
    if (value == reference) return true;
    if (fabs(reference) > 0x1p129) return fabs(value) > 0x1p129 && (value > 0) == (reference > 0);
    return fabs(value - reference) <= 0x1p-40 * fabs(reference) + 0x1p-190;
}

static void compare(const char *kernel, const char *text) {
    static float x[COUNT];
    static double wide[COUNT], values[COUNT];
    fovea_case c;
    fovea_sample sample;
    fovea_message message;
    double *outputs[FOVEA_ARGUMENTS_MAX];
    fovea_case_begin(&c, fovea_catalogue_find(kernel));
    fovea_case_extent(&c, "N", COUNT);
    if (*text) assert_int_equal(fovea_case_parse(&c, text, 0, &message), FOVEA_OK);
    assert_int_equal(fovea_sample_create(&c, NULL, &sample, &message), FOVEA_OK);
    fill(x);
    memcpy(sample.problem.views[0].data, x, sizeof x);
    for (int i = 0; i < COUNT; i++) wide[i] = (double)x[i];
    assert_true(fovea_exhaustive_values(&sample.problem, wide, values, COUNT));
    assert_true(fovea_reference_run(&sample.problem, outputs));
    for (int i = 0; i < COUNT; i++)
        if (!agree(values[i], outputs[1][i]))
            fail_msg("%s %s at %a is %.17g, the reference %.17g", kernel, text, wide[i], values[i],
                     outputs[1][i]);
    free(outputs[1]);
    fovea_sample_destroy(&sample);
}

static void functions_are_those_of_the_reference(void **state) {
    static const char *const functions[][2] = {{"map_exp", ""},
                                               {"map_log", ""},
                                               {"map_sigmoid", ""},
                                               {"map_tanh", ""},
                                               {"map_softplus", ""},
                                               {"map_clamp", "lo=-0.3,hi=77"},
                                               {"map_abs", ""},
                                               {"map_relu", ""},
                                               {"map_leaky_relu", "slope=0.3"},
                                               {"map_elu", "alpha=1.7"},
                                               {"map_gelu", "approximate=none"},
                                               {"map_gelu", "approximate=tanh"},
                                               {"map_silu", ""},
                                               {"map_mish", ""},
                                               {"quantize_f32_to_f16", "y=f16"},
                                               {"quantize_f32_to_f16", "y=bf16"}};
    (void)state;
    for (size_t f = 0; f < sizeof functions / sizeof *functions; f++)
        compare(functions[f][0], functions[f][1]);
}

static void halves_are_widened_as_they_are_read(void **state) {
    const fovea_dtype dtypes[] = {FOVEA_F16, FOVEA_BF16};
    (void)state;
    for (int d = 0; d < 2; d++)
        for (uint32_t pattern = 0; pattern <= 0xFFFF; pattern++) {
            uint16_t bits = (uint16_t)pattern;
            double wide, read = fovea_read_element(&bits, dtypes[d]);
            fovea_exhaustive_widen(dtypes[d], &bits, &wide, 1);
            assert_true(isnan(read) ? isnan(wide) : wide == read && signbit(wide) == signbit(read));
        }
}

/* ---- The sweep ------------------------------------------------------------------------------ */

/* Sigmoid as the scalar tier has it, but four spacings off at one input of all. */
static float wrong_input;

static fovea_status run_almost_right(const fovea_problem *problem, fovea_run *run) {
    const fovea_implementation *right =
        fovea_implementation_find(problem->index, "cpu/scalar/direct");
    fovea_status status = right->run(problem, run);
    for (int64_t i = 0; i < fovea_view_elements(&problem->views[0]); i++) {
        double y = fovea_view_read(&problem->views[1], i);
        if (problem->dtype == FOVEA_F32 &&
            fovea_view_read(&problem->views[0], i) == (double)wrong_input)
            fovea_view_write(&problem->views[1], i, y + 4 * fovea_ulp(FOVEA_F32, y));
    }
    return status;
}

static const fovea_implementation almost_right = {.kernel = "map_sigmoid",
                                                  .name = "test/scalar/almost",
                                                  .dtypes = FOVEA_FLOATS,
                                                  .run = run_almost_right};

static int64_t sweep(const char *implementation, char **text) {
    size_t size;
    fovea_message message;
    int64_t wrong = -1;
    FILE *stream = open_memstream(text, &size);
    const fovea_exhaustive_options options = {.kernel = "map_sigmoid",
                                              .implementation = implementation,
                                              .every = 1 << 18,
                                              .scalar_every = 1,
                                              .jobs = 2,
                                              .stream = stream};
    assert_int_equal(fovea_exhaustive_run(&options, &wrong, &message), FOVEA_OK);
    fclose(stream);
    return wrong;
}

static void one_wrong_result_is_found(void **state) {
    char *text;
    (void)state;
    const uint32_t bits = 16000; /* in the first run, which is taken whatever `every` is */
    memcpy(&wrong_input, &bits, sizeof bits);
    assert_int_equal(sweep("test/scalar/almost", &text), 1);
    assert_non_null(strstr(text, "1 WRONG: at 2.24207754e-41"));
    free(text);
    assert_int_equal(sweep("cpu/scalar/direct", &text), 0);
    assert_null(strstr(text, "WRONG"));
    assert_non_null(strstr(text, "cpu/scalar/direct"));
    free(text);
}

static void what_cannot_be_swept_is_refused(void **state) {
    const fovea_exhaustive_options bad[] = {
        {.kernel = "map_no_such", .every = 1, .scalar_every = 1},
        {.kernel = "map_add", .every = 1, .scalar_every = 1},
        {.implementation = "cpu/none/such", .every = 1, .scalar_every = 1}};
    (void)state;
    for (int i = 0; i < 3; i++) {
        fovea_message message;
        int64_t wrong;
        assert_int_equal(fovea_exhaustive_run(&bad[i], &wrong, &message), FOVEA_INVALID_ARGUMENT);
        assert_true(strlen(message.text) > 10);
    }
}

static int set_up(void **state) {
    (void)state;
    return !fovea_implementation_register(&almost_right);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_are_those_of_the_reference),
        cmocka_unit_test(halves_are_widened_as_they_are_read),
        cmocka_unit_test(one_wrong_result_is_found),
        cmocka_unit_test(what_cannot_be_swept_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
