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
static bool declines[WAYS];
static int kernel, first_way;

static fovea_status run_way(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *v = problem->views;
    run->threads = 1;
    for (int64_t i = 0; i < fovea_view_elements(&v[0]); i++)
        fovea_view_write(&v[2], i, fovea_view_read(&v[0], i) * fovea_view_read(&v[1], i));
    return FOVEA_OK;
}

#define WAY(n)                                                                                     \
    static bool serves_##n(const fovea_problem *problem, char *reason, size_t size) {              \
        (void)problem, snprintf(reason, size, "a test says so");                                   \
        return !declines[n];                                                                       \
    }                                                                                              \
    static double cost_##n(const fovea_problem *problem, int threads, double flops,                \
                           double bandwidth) {                                                     \
        (void)problem, (void)threads, (void)flops, (void)bandwidth;                                \
        return costs[n];                                                                           \
    }                                                                                              \
    static fovea_implementation way_##n = {.kernel = "map_mul",                                    \
                                           .name = "test/scalar/way" #n,                           \
                                           .dtypes = UINT32_MAX,                                   \
                                           .serves = serves_##n,                                   \
                                           .run = run_way,                                         \
                                           .cost = cost_##n};
WAY(0)
WAY(1)
WAY(2)
WAY(3)
WAY(4)
WAY(5)

static fovea_implementation *const ways[WAYS] = {&way_0, &way_1, &way_2, &way_3, &way_4, &way_5};

static int set_up(void **state) {
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

/* What is wrong, what is by name only, and what does not serve, though all of these would be fast. */
static void what_may_not_be_chosen_is_never_tried(void **state) {
    fovea_case c;
    fovea_sample sample;
    int used[WAYS] = {0};
    (void)state;
    set_costs();
    open_sample(&c, &sample);
    fovea_allocator allocator = fovea_default_allocator();
    fovea_routes *routes = fovea_routes_create(&allocator, 4);
    fovea_routes_condemn(routes, kernel, first_way + 1);
    way_2.only_by_name = declines[3] = true;
    for (int i = 0; i < WAYS; i++) times[i] = i == 0 ? 100 : 10;
    fovea_online *online = start(1);
    for (int i = 0; i < 500; i++) {
        fovea_online_turn turn = fovea_online_choose(online, &sample.problem, routes, 1);
        for (int way = 0; way < WAYS; way++)
            if (turn.implementation == ways[way])
                used[way]++, fovea_online_note(online, &turn, times[way]);
    }
    assert_int_equal(used[1] + used[2] + used[3], 0);
    assert_int_equal(fovea_online_find(online, &sample.problem)->count, 3);
    /* The best one declines the next call. */
    for (int way = 4; way < WAYS; way++) declines[way] = true;
    assert_ptr_equal(fovea_online_choose(online, &sample.problem, routes, 1).implementation,
                     &way_0);
    way_2.only_by_name = false;
    memset(declines, 0, sizeof declines);
    fovea_online_release(online);
    fovea_routes_release(routes);
    fovea_sample_destroy(&sample);
}

/* One call after another of the problem, that take these times by the way that is on trial and 100 by the other. */
static const fovea_online_problem *tell(fovea_online *online, const fovea_problem *problem,
                                        const double *trials, int count) {
    for (int i = 0; i < count;) {
        fovea_online_turn turn = fovea_online_choose(online, problem, NULL, 1);
        fovea_online_note(online, &turn, turn.candidate ? trials[i] : 100);
        i += turn.candidate != 0;
    }
    return fovea_online_find(online, problem);
}

/* The first time, which met cold memory, decides nothing, and neither does one that is an exception. */
static void medians_of_seven_decide(void **state) {
    static const double faster[] = {900, 90, 90, 90, 300, 90, 300, 300},
                        equal[] = {10, 99.5, 99.5, 99.5, 99.5, 99.5, 99.5, 99.5},
                        slower[] = {10, 126, 130, 127};
    fovea_case c;
    fovea_sample sample;
    (void)state;
    set_costs();
    for (int i = 2; i < WAYS; i++) costs[i] = 1;
    open_sample(&c, &sample);
    fovea_online *online = start(10);
    const fovea_online_problem *p = tell(online, &sample.problem, faster, 7);
    assert_true(p->best == 0 && p->open == 2); /* six samples: not yet */
    assert_true(online->spent > 0);
    p = tell(online, &sample.problem, faster + 7, 1);
    assert_true(p->best == 1 && p->open == 0 && p->was_changed);
    assert_true(fovea_online_median(&p->candidates[1]) == 90);
    assert_int_equal(fovea_online_samples(&p->candidates[1]), 7);
    fovea_online_release(online);
    online = start(10);
    p = tell(online, &sample.problem, equal, 8);
    assert_true(p->best == 0 && p->open == 0 && !p->was_changed);
    fovea_online_release(online);
    online = start(10);
    p = tell(online, &sample.problem, slower, 3);
    assert_int_equal(p->open, 2);
    p = tell(online, &sample.problem, slower + 3, 1); /* all of three are slower by a fourth */
    assert_true(p->best == 0 && p->open == 0);
    fovea_online_release(online);
    fovea_sample_destroy(&sample);
}

/* What is expected to be best comes first, and what is known to lose waits until the budget has room. */
static void trials_are_in_the_order_of_the_model(void **state) {
    fovea_case c;
    fovea_sample sample;
    (void)state;
    set_costs();
    costs[1] = 1.9e-12, costs[2] = 1.1e-12;
    for (int i = 3; i < WAYS; i++) costs[i] = 1;
    open_sample(&c, &sample);
    fovea_online *online = start(1);
    int order[64], count = 0, before = 0;
    while (count < 16 && before < 100) {
        fovea_online_turn turn = fovea_online_choose(online, &sample.problem, NULL, 1);
        fovea_online_note(online, &turn, 100);
        if (turn.candidate)
            order[count++] = turn.problem->candidates[turn.candidate].number - first_way;
        else if (count == 0)
            before++;
    }
    assert_int_equal(before, 4); /* one that met cold memory, and three samples */
    for (int i = 0; i < 16; i++) assert_int_equal(order[i], i < 8 ? 2 : 1);
    fovea_online_release(online);
    /* A trial that lost 900 is not repeated before 900 of 1 % are there. */
    online = start(0.01);
    for (int i = 3; i < WAYS; i++) costs[i] = 1;
    costs[1] = 1;
    int trials = 0, calls = 0;
    for (; trials < 2; calls++) {
        fovea_online_turn turn = fovea_online_choose(online, &sample.problem, NULL, 1);
        fovea_online_note(online, &turn, turn.candidate ? 1000 : 100);
        trials += turn.candidate != 0;
    }
    assert_true(calls > 1700 && calls < 2000);
    fovea_online_release(online);
    fovea_sample_destroy(&sample);
}

/* What a call costs that depends on contents says nothing of the next one. */
static void nothing_is_learnt_of_calls_that_hang_on_contents(void **state) {
    fovea_case c;
    fovea_sample sample;
    fovea_message message;
    (void)state;
    fovea_case_begin(&c, fovea_catalogue_find("attention"));
    assert_int_equal(
        fovea_case_parse(&c, "b=3,hq=2,sq=33,d=16,cu_seqlens_q=1,cu_seqlens_k=1", 0, &message),
        FOVEA_OK);
    assert_int_equal(fovea_case_complete(&c, &message), FOVEA_OK);
    assert_int_equal(fovea_sample_create(&c, NULL, &sample, &message), FOVEA_OK);
    fovea_online *online = start(0.5);
    fovea_online_turn turn = fovea_online_choose(online, &sample.problem, NULL, 1);
    assert_non_null(turn.implementation);
    assert_null(turn.problem);
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
        cmocka_unit_test(what_may_not_be_chosen_is_never_tried),
        cmocka_unit_test(medians_of_seven_decide),
        cmocka_unit_test(trials_are_in_the_order_of_the_model),
        cmocka_unit_test(nothing_is_learnt_of_calls_that_hang_on_contents),
        cmocka_unit_test(shapes_beyond_the_table_are_served_all_the_same),
        cmocka_unit_test(what_is_learnt_of_another_kernel_is_not_taken),
        cmocka_unit_test(it_is_reported_explained_and_saved),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
