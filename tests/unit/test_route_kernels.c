/* Routing of every kernel of the catalogue: without a file the cost model finds one that serves and says
 * why; a measurement decides for its own key, the nearest one beside it; what was wrong is passed over. */
#include "catalogue/case.h"
#include "router/choose.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>

enum { N = 3000 };

typedef struct made {
    fovea_case c;
    fovea_sample sample;
} made;

/* The benchmark's case of a kernel or preset, of tensors that are never read. */
static void make(made *m, int kernel, const char *fixed, const char *bench, double n) {
    fovea_message message;
    fovea_case_begin(&m->c, kernel);
    if (fixed) assert_int_equal(fovea_case_parse(&m->c, fixed, n, &message), FOVEA_OK);
    assert_int_equal(fovea_case_parse(&m->c, bench, n, &message), FOVEA_OK);
    assert_int_equal(fovea_case_complete(&m->c, &message), FOVEA_OK);
    m->c.data = FOVEA_DATA_NONE;
    assert_int_equal(fovea_sample_create(&m->c, NULL, &m->sample, &message), FOVEA_OK);
}

static bool may_be_chosen(const fovea_implementation *candidate, const fovea_problem *problem) {
    char reason[160];
    return !candidate->only_by_name &&
           fovea_implementation_serves(candidate, problem, reason, sizeof reason);
}

static void assert_valid(const fovea_choice *choice, const fovea_problem *problem) {
    assert_non_null(choice->implementation);
    assert_true(may_be_chosen(choice->implementation, problem));
    assert_true(choice->seconds > 0 && choice->seconds < 1e6);
    if (!choice->runner_up) return;
    assert_ptr_not_equal(choice->implementation, choice->runner_up);
    assert_true(choice->runner_up_seconds >= choice->seconds);
}

/* All that serve were measured, each slower than the next one in the table. Returns the fastest. */
static int measure(fovea_routes *routes, const fovea_problem *problem, int threads) {
    int last = -1;
    fovea_route_record record = {.samples = 5, .work = fovea_route_work(problem)};
    fovea_route_key_of(problem, threads, &record.key);
    for (int i = 0; i < fovea_implementation_count(problem->index); i++) {
        if (!may_be_chosen(fovea_implementation_at(problem->index, i), problem)) continue;
        record.number = last = i;
        record.median = (uint64_t)(1000000 - 1000 * i);
        assert_true(fovea_routes_add(routes, &record));
    }
    return last;
}

static void test_one(int kernel, const char *fixed, const char *bench) {
    made m, larger;
    fovea_choice choice;
    fovea_allocator allocator = fovea_default_allocator();
    fovea_routes *routes = fovea_routes_create(&allocator, 256);
    make(&m, kernel, fixed, bench, N);
    make(&larger, kernel, fixed, bench, 8 * N);
    const fovea_problem *problem = &m.sample.problem;
    fovea_choose(problem, NULL, 2, &choice);
    assert_valid(&choice, problem);
    assert_int_equal(choice.source, FOVEA_CHOICE_MODEL);
    int fastest = measure(routes, problem, 2);
    fovea_choose(problem, routes, 2, &choice);
    assert_valid(&choice, problem);
    assert_int_equal(choice.source, FOVEA_CHOICE_MEASURED);
    assert_ptr_equal(choice.implementation, fovea_implementation_at(kernel, fastest));
    fovea_choose(&larger.sample.problem, routes, 1, &choice);
    assert_valid(&choice, &larger.sample.problem);
    assert_int_equal(choice.source, FOVEA_CHOICE_NEIGHBOUR);
    fovea_routes_condemn(routes, kernel, fastest);
    fovea_choose(problem, routes, 2, &choice);
    assert_true(choice.implementation != fovea_implementation_at(kernel, fastest));
    fovea_routes_release(routes);
    fovea_sample_destroy(&m.sample);
    fovea_sample_destroy(&larger.sample);
}

static void every_kernel_has_a_route(void **state) {
    (void)state;
    int numbered = 0;
    for (int k = 0; k < fovea_catalogue_count(); k++) {
        const fovea_kernel *kernel = fovea_catalogue_kernel(k);
        bool by_preset = false;
        for (int p = 0; p < FOVEA_PRESETS_MAX && kernel->presets[p].name; p++) {
            const fovea_preset *preset = &kernel->presets[p];
            test_one(k, preset->fixed, preset->bench);
            by_preset |= preset->number == kernel->number;
            numbered++;
        }
        if (kernel->bench) test_one(k, NULL, kernel->bench);
        numbered += kernel->number > 0 && !by_preset;
    }
    assert_int_equal(numbered, 115);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_kernel_has_a_route)};
    setenv("FOVEA_ROUTES", "", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
