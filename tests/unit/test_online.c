/* Learning while working: with times that are told to it, it settles on the fastest, keeps to its
 * budget and never tries what is hopeless; through the public functions it saves what it learnt. */
#include "api/context.h"
#include "catalogue/case.h"
#include "router/online.h"
#include "test.h"

#include <fovea/explore.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Six ways to compute map_mul; what each costs is decided by a test. */
enum { WAYS = 6 };
static double times[WAYS];
static double costs[WAYS];
static int kernel, first_way;

static fovea_status run_way(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *v = problem->views;
    run->threads = 1;
    for (int64_t i = 0; i < fovea_view_elements(&v[0]); i++)
        fovea_view_write(&v[2], i, fovea_view_read(&v[0], i) * fovea_view_read(&v[1], i));
    return FOVEA_OK;
}

#define WAY(n)                                                                                     \
    static double cost_##n(const fovea_problem *problem, int threads, double flops,                \
                           double bandwidth) {                                                     \
        (void)problem, (void)threads, (void)flops, (void)bandwidth;                                \
        return costs[n];                                                                           \
    }                                                                                              \
    static const fovea_implementation way_##n = {.kernel = "map_mul",                              \
                                                 .name = "test/scalar/way" #n,                     \
                                                 .dtypes = UINT32_MAX,                             \
                                                 .run = run_way,                                   \
                                                 .cost = cost_##n};
WAY(0)
WAY(1)
WAY(2)
WAY(3)
WAY(4)
WAY(5)

static int set_up(void **state) {
    static const fovea_implementation *const ways[WAYS] = {&way_0, &way_1, &way_2,
                                                           &way_3, &way_4, &way_5};
    (void)state;
    kernel = fovea_catalogue_find("map_mul");
    first_way = fovea_implementation_count(kernel);
    for (int i = 0; i < WAYS; i++)
        if (!fovea_implementation_register(ways[i])) return 1;
    return 0;
}

/* Expected by the model to be a picosecond and a little more each, so that no other is tried. */
static void set_costs(void) {
    for (int i = 0; i < WAYS; i++) costs[i] = 1e-12 * (1 + 0.1 * i);
}

static void open_sample(fovea_case *c, fovea_sample *sample) {
    fovea_message message;
    fovea_case_begin(c, kernel);
    fovea_case_extent(c, "N", 100);
    assert_int_equal(fovea_sample_create(c, NULL, sample, &message), FOVEA_OK);
}

/* So many calls; the number of the way that served the last one. */
static int call(fovea_online *online, const fovea_problem *problem, int calls, int used[WAYS]) {
    int way = -1;
    for (int i = 0; i < calls; i++) {
        fovea_online_turn turn = fovea_online_choose(online, problem, NULL, 1);
        assert_non_null(turn.problem);
        for (way = 0; way < WAYS; way++)
            if (fovea_implementation_at(kernel, first_way + way) == turn.implementation) break;
        assert_true(way < WAYS);
        if (used) used[way]++;
        fovea_online_note(online, &turn, times[way]);
    }
    return way;
}

static fovea_online *start(double share) {
    fovea_allocator allocator = fovea_default_allocator();
    fovea_online *online = fovea_online_create(&allocator);
    assert_non_null(online);
    online->share = share;
    return online;
}

static void it_settles_on_the_fastest(void **state) {
    fovea_case c;
    fovea_sample sample;
    (void)state;
    set_costs();
    open_sample(&c, &sample);
    for (int fastest = 0; fastest < WAYS; fastest++) {
        fovea_online *online = start(0.1);
        for (int i = 0; i < WAYS; i++) times[i] = i == fastest ? 80 : 100 + 10 * i;
        call(online, &sample.problem, 3000, NULL);
        assert_int_equal(call(online, &sample.problem, 1, NULL), fastest);
        const fovea_online_problem *p = fovea_online_find(online, &sample.problem);
        assert_int_equal(p->open, 0);
        assert_int_equal(p->was_changed, fastest != 0);
        fovea_online_release(online);
    }
    fovea_sample_destroy(&sample);
}

static void it_keeps_to_its_budget(void **state) {
    static const double shares[] = {0, 0.001, 0.01, 0.1};
    fovea_case c;
    fovea_sample sample;
    (void)state;
    set_costs();
    open_sample(&c, &sample);
    for (int i = 0; i < WAYS; i++) times[i] = 100 * (i + 1);
    for (size_t s = 0; s < sizeof shares / sizeof *shares; s++) {
        fovea_online *online = start(shares[s]);
        double worst = 0;
        for (int i = 0; i < 2000; i++) {
            call(online, &sample.problem, 1, NULL);
            /* Of a first trial nobody knows what it costs: one may go beyond. */
            worst = fmax(worst, online->spent - shares[s] * online->time);
        }
        assert_true(worst <= 500);
        assert_true(online->spent <= shares[s] * online->time + 500);
        assert_int_equal(online->trials > 0, shares[s] > 0);
        fovea_online_release(online);
    }
    fovea_sample_destroy(&sample);
}

static void what_is_hopeless_is_never_tried(void **state) {
    fovea_case c;
    fovea_sample sample;
    int used[WAYS] = {0};
    (void)state;
    set_costs();
    costs[3] = 5e-12, costs[5] = 1;
    open_sample(&c, &sample);
    for (int i = 0; i < WAYS; i++) times[i] = 100;
    fovea_online *online = start(1);
    call(online, &sample.problem, 500, used);
    assert_int_equal(used[3], 0);
    assert_int_equal(used[5], 0);
    assert_true(used[1] > 0 && used[2] > 0 && used[4] > 0);
    fovea_online_release(online);
    fovea_sample_destroy(&sample);
}

static void shapes_beyond_the_table_are_served_all_the_same(void **state) {
    fovea_message message;
    (void)state;
    set_costs();
    fovea_online *online = start(0.5);
    for (int n = 1; n <= 3 * FOVEA_ONLINE_PROBLEMS; n++) {
        fovea_case c;
        fovea_sample sample;
        fovea_case_begin(&c, kernel);
        fovea_case_extent(&c, "N", n);
        assert_int_equal(fovea_sample_create(&c, NULL, &sample, &message), FOVEA_OK);
        fovea_online_turn turn = fovea_online_choose(online, &sample.problem, NULL, 1);
        assert_non_null(turn.implementation);
        fovea_online_note(online, &turn, 1);
        fovea_sample_destroy(&sample);
    }
    fovea_online_release(online);
}

static void what_is_learnt_of_another_kernel_is_not_taken(void **state) {
    fovea_case c;
    fovea_sample sample;
    (void)state;
    set_costs();
    open_sample(&c, &sample);
    fovea_online *online = start(0.1);
    call(online, &sample.problem, 1, NULL);
    assert_non_null(fovea_online_find(online, &sample.problem));
    for (int i = 0; i < FOVEA_ONLINE_PROBLEMS; i++) online->problems[i].key.kernel++;
    assert_null(fovea_online_find(online, &sample.problem));
    fovea_online_release(online);
    fovea_sample_destroy(&sample);
}

/* ---- Through the public functions ----------------------------------------------------------- */

static void it_is_reported_explained_and_saved(void **state) {
    char path[] = "/tmp/fovea-online-XXXXXX";
    fovea_case c;
    fovea_sample sample;
    fovea_context *context;
    fovea_exploration report;
    fovea_route route;
    (void)state;
    set_costs();
    open_sample(&c, &sample);
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    assert_int_equal(fovea_context_create(NULL, &context), FOVEA_OK);
    assert_int_equal(fovea_explore(context, -1), FOVEA_INVALID_ARGUMENT);
    assert_int_equal(fovea_explore(context, (double)NAN), FOVEA_INVALID_ARGUMENT);
    assert_int_equal(fovea_exploration_report(context, &report), FOVEA_OK);
    assert_int_equal(report.calls, 0);
    assert_int_equal(fovea_explore(context, 1), FOVEA_OK);
    for (int i = 0; i < 300; i++)
        assert_int_equal(fovea_call(context, "map_mul", sample.required, sample.count, NULL),
                         FOVEA_OK);
    assert_int_equal(fovea_exploration_report(context, &report), FOVEA_OK);
    assert_int_equal(report.calls, 300);
    assert_int_equal(report.problems, 1);
    assert_true(report.trials > 0 && report.seconds > 0);
    assert_true(report.lost_seconds <= report.seconds);
    assert_int_equal(fovea_explain(context, "map_mul", sample.required, sample.count, NULL, &route),
                     FOVEA_OK);
    assert_non_null(strstr(route.reason, "learnt while working"));
    assert_int_equal(fovea_routes_save(context, ""), FOVEA_INVALID_ARGUMENT);
    assert_int_equal(fovea_routes_save(context, path), FOVEA_OK);
    fovea_context_destroy(context);

    fovea_context_options options;
    fovea_context_options_default(&options);
    options.routes = path;
    assert_int_equal(fovea_context_create(&options, &context), FOVEA_OK);
    assert_int_equal(fovea_explain(context, "map_mul", sample.required, sample.count, NULL, &route),
                     FOVEA_OK);
    assert_true(route.measured);
    fovea_context_destroy(context);
    unlink(path);
    fovea_sample_destroy(&sample);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_settles_on_the_fastest),
        cmocka_unit_test(it_keeps_to_its_budget),
        cmocka_unit_test(what_is_hopeless_is_never_tried),
        cmocka_unit_test(shapes_beyond_the_table_are_served_all_the_same),
        cmocka_unit_test(what_is_learnt_of_another_kernel_is_not_taken),
        cmocka_unit_test(it_is_reported_explained_and_saved),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
