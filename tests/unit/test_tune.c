/* `fovea tune` as a whole, over implementations that are registered here: what is wrong is reported,
 * never recorded and never chosen; an existing file is continued; a foreign one is left alone. */
#include "catalogue/case.h"
#include "commands.h"
#include "router/choose.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int kernel, number_wrong = -1, number_failing = -1;
static char directory[] = "/tmp/fovea-tune-XXXXXX";
static char path[64];

/* The sum of two inputs for one dtype: fast enough to win if it were not off by one element. */
static fovea_status run_wrong(const fovea_problem *problem, fovea_run *run) {
    run->threads = 1;
    memset(problem->views[2].data, 0, fovea_dtype_size(problem->dtype));
    return FOVEA_OK;
}

static fovea_status run_right(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *v = problem->views;
    run->threads = 1;
    for (int64_t i = 0; i < fovea_view_elements(&v[0]); i++)
        fovea_view_write(&v[2], i, fovea_view_read(&v[0], i) + fovea_view_read(&v[1], i));
    return FOVEA_OK;
}

static fovea_status run_failing(const fovea_problem *problem, fovea_run *run) {
    (void)problem, (void)run;
    return FOVEA_OUT_OF_MEMORY;
}

static const fovea_implementation wrong = {
    .kernel = "map_add", .name = "test/scalar/wrong", .dtypes = UINT32_MAX, .run = run_wrong};
static const fovea_implementation right = {
    .kernel = "map_add", .name = "test/scalar/right", .dtypes = UINT32_MAX, .run = run_right};
static const fovea_implementation failing = {
    .kernel = "map_add", .name = "test/scalar/failing", .dtypes = UINT32_MAX, .run = run_failing};

static int set_up(void **state) {
    (void)state;
    kernel = fovea_catalogue_find("map_add");
    if (!fovea_implementation_register(&wrong) || !fovea_implementation_register(&right) ||
        !fovea_implementation_register(&failing) || !mkdtemp(directory))
        return 1;
    for (int i = 0; i < fovea_implementation_count(kernel); i++) {
        if (fovea_implementation_at(kernel, i) == &wrong) number_wrong = i;
        if (fovea_implementation_at(kernel, i) == &failing) number_failing = i;
    }
    snprintf(path, sizeof path, "%s/new/routes", directory);
    return number_wrong < 0 || number_failing < 0;
}

static int tear_down(void **state) {
    (void)state;
    char parent[64];
    snprintf(parent, sizeof parent, "%s/new", directory);
    unlink(path);
    return rmdir(parent) + rmdir(directory); /* fails if anything half-written was left */
}

static int tune(const char *seconds) {
    char name[] = "tune", k[] = "--kernel", which[] = "map_add", s[] = "--seconds",
         o[] = "--output";
    char *arguments[] = {name, k, which, s, (char *)(uintptr_t)seconds, o, path, NULL};
    return fovea_command_tune(7, arguments);
}

static fovea_routes *read_routes(void) {
    fovea_allocator allocator = fovea_default_allocator();
    fovea_message message;
    fovea_routes *routes;
    if (fovea_routes_read(path, 0, &allocator, &routes, &message) != FOVEA_OK)
        fail_msg("%s", message.text);
    return routes;
}

static void what_is_wrong_is_not_recorded_and_not_chosen(void **state) {
    (void)state;
    fovea_case c;
    fovea_sample sample;
    fovea_message message;
    fovea_choice choice;
    assert_int_equal(tune("1"), 1);
    fovea_routes *routes = read_routes();
    assert_true(routes->count > 0);
    assert_true(fovea_routes_condemned(routes, kernel, number_wrong));
    assert_false(fovea_routes_condemned(routes, kernel, number_failing));
    for (int i = 0; i < routes->count; i++) {
        assert_int_not_equal(routes->records[i].number, number_wrong);
        assert_int_not_equal(routes->records[i].number, number_failing);
    }
    const char *const texts[] = {"n=1", "n=1024", "n=1000000", "n=77,dtype=f16,memory=stepped"};
    for (int i = 0; i < 4; i++) {
        fovea_case_begin(&c, kernel);
        fovea_case_parse(&c, texts[i], 0, &message);
        assert_int_equal(fovea_sample_create(&c, NULL, &sample, &message), FOVEA_OK);
        fovea_choose(&sample.problem, routes, 1, &choice);
        assert_non_null(choice.implementation);
        assert_ptr_not_equal(choice.implementation, &wrong);
        assert_ptr_not_equal(choice.runner_up, &wrong);
        fovea_sample_destroy(&sample);
    }
    fovea_routes_release(routes);
}

static void a_second_run_continues(void **state) {
    (void)state;
    fovea_routes *before = read_routes();
    tune("0.01"); /* time for one point at most */
    fovea_routes *after = read_routes();
    assert_true(after->count >= before->count);
    for (int i = 0; i < before->count; i++) {
        int count, found = 0;
        int first = fovea_routes_find(after, &before->records[i].key, &count);
        for (int j = first; j < first + count; j++)
            found += memcmp(&after->records[j], &before->records[i], sizeof *before->records) == 0;
        assert_int_equal(found, 1);
    }
    assert_true(fovea_routes_condemned(after, kernel, number_wrong));
    fovea_routes_release(before);
    fovea_routes_release(after);
}

static void a_foreign_file_is_left_alone(void **state) {
    (void)state;
    char text[32] = "";
    FILE *file = fopen(path, "w");
    fputs("a letter\n", file);
    fclose(file);
    assert_int_equal(tune("0.01"), 1);
    file = fopen(path, "r");
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    assert_string_equal(text, "a letter\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_wrong_is_not_recorded_and_not_chosen),
        cmocka_unit_test(a_second_run_continues),
        cmocka_unit_test(a_foreign_file_is_left_alone),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
