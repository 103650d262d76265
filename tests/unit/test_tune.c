/* `fovea tune` as a whole, over implementations that are registered here: what is wrong is reported,
 * never recorded and never chosen; an existing file is continued; a foreign one is left alone. And its
 * plan: points of a size that can be measured, the ends of each kind before what lies between them. */
#include "catalogue/case.h"
#include "commands.h"
#include "router/choose.h"
#include "test.h"
#include "tune.h"

#include <math.h>
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

/* ---- The plan ------------------------------------------------------------------------------- */

static void points_have_sizes_that_can_be_measured(void **state) {
    (void)state;
    /* Of one size in the benchmark, with rows of any length, with indices, with a grid. */
    const char *const names[] = {"outer_product", "transpose_2d", "spmv_csr",   "median_select",
                                 "matvec",        "map_add",      "topk_select"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        fovea_tune_points points = {0};
        double least = 1e9, most = 0;
        fovea_tune_points_add(&points, fovea_catalogue_find(names[k]), false);
        assert_true(points.count > 0);
        for (int p = 0; p < points.count; p++) {
            fovea_route_key key;
            double bytes, operations;
            if (!fovea_tune_case_key(&points.items[p].c, &key, &bytes, &operations)) continue;
            least = least < bytes ? least : bytes, most = most > bytes ? most : bytes;
        }
        assert_true(most <= 32 << 20);
        assert_true(least <= 64 << 10 && most >= 64 * least);
        fovea_tune_points_release(&points);
    }
}

static bool is_between(const fovea_tuning *t, int point) {
    for (int size = 0; size < FOVEA_TRAIT_SIZES; size++)
        if (fovea_tune_next_point(t, point, size, false, 0) >= 0 &&
            fovea_tune_next_point(t, point, size, true, 0) >= 0)
            return true;
    return false;
}

/* How often a point's seconds count for its place: 1 for the first of a kind, 2 for the second, ... */
static double rank_of(const fovea_tuning *t, const fovea_tune_point *p) {
    return p->place / fovea_tune_foreseen(t, p->c.index, p->bytes, p->operations);
}

static void the_ends_of_a_kind_rank_before_what_is_between(void **state) {
    (void)state;
    fovea_tune_options options = {.seconds = 60, .kernel = fovea_catalogue_find("softmax_stable")};
    fovea_allocator allocator = fovea_default_allocator();
    fovea_tuning t = {.options = &options, .threads = {1, 2}, .thread_counts = 2};
    int pairs = 0, times_seen[256] = {0};
    t.routes = fovea_routes_create(&allocator, 16);
    assert_true(fovea_tune_plan(&t));
    assert_true(t.points.count > 8 && t.points.count < 256 && t.left == 2 * t.points.count);
    for (int i = 0; i < t.points.count; i++) {
        const fovea_tune_point *p = &t.points.items[t.order[i]];
        times_seen[t.order[i]]++;
        assert_true(i == 0 || t.points.items[t.order[i - 1]].place <= p->place);
        for (int q = 0; q < t.points.count; q++) {
            const fovea_tune_point *other = &t.points.items[q];
            if (p->key.dtype != other->key.dtype || p->key.features != other->key.features ||
                !is_between(&t, t.order[i]) || is_between(&t, q))
                continue;
            assert_true(rank_of(&t, p) > rank_of(&t, other) + 0.5);
            pairs++;
        }
    }
    assert_true(pairs > 0);
    for (int p = 0; p < t.points.count; p++) assert_int_equal(times_seen[p], 1);
    fovea_tune_points_release(&t.points);
    fovea_routes_release(t.routes);
    free(t.order);
}

/* What a kernel's points take corrects what is foreseen of its others, and a little of other kernels'. The
 * file keeps it for the run that continues. */
static void the_foreseen_follows_what_was_taken(void **state) {
    (void)state;
    fovea_allocator allocator = fovea_default_allocator();
    fovea_message message;
    fovea_tuning t = {.routes = fovea_routes_create(&allocator, 1)};
    double own = fovea_tune_foreseen(&t, 1, 1e6, 1e6), other = fovea_tune_foreseen(&t, 2, 1e6, 1e6);
    assert_true(own > 0 && own == other);
    for (int i = 0; i < 100; i++) fovea_tune_note_pace(&t, 1, 1e6, 1e6, 10 * own);
    double corrected = fovea_tune_foreseen(&t, 1, 1e6, 1e6);
    assert_true(corrected > 9 * own && corrected < 11 * own);
    assert_true(fovea_tune_foreseen(&t, 2, 1e6, 1e6) > 2 * other);
    assert_int_equal(fovea_routes_write(path, t.routes, &message), FOVEA_OK);
    fovea_routes_release(t.routes);
    fovea_tune_options options = {.seconds = 60, .kernel = 1};
    fovea_tuning next = {.options = &options, .threads = {1}, .thread_counts = 1};
    assert_int_equal(fovea_routes_read(path, 16, &allocator, &next.routes, &message), FOVEA_OK);
    assert_true(fovea_tune_plan(&next));
    assert_true(fabs(fovea_tune_foreseen(&next, 1, 1e6, 1e6) / corrected - 1) < 1e-3);
    assert_true(fovea_tune_foreseen(&next, 2, 1e6, 1e6) > 2 * other);
    fovea_tune_points_release(&next.points);
    fovea_routes_release(next.routes);
    free(next.order);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_wrong_is_not_recorded_and_not_chosen),
        cmocka_unit_test(a_second_run_continues),
        cmocka_unit_test(a_foreign_file_is_left_alone),
        cmocka_unit_test(points_have_sizes_that_can_be_measured),
        cmocka_unit_test(the_ends_of_a_kind_rank_before_what_is_between),
        cmocka_unit_test(the_foreseen_follows_what_was_taken),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
