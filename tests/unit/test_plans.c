/* Plans: found again by key, and the one unused for longest makes room; a transform takes none that is
 * another's. */
#include "catalogue/case.h"
#include "router/registry.h"
#include "runtime/memory.h"
#include "runtime/plans.h"
#include "test.h"

#include <stdlib.h>

static fovea_plan_key key(uint64_t number) { return (fovea_plan_key){{1, number}}; }

static void *reserve(fovea_plans *plans, uint64_t number, bool *made) {
    fovea_plan_key of = key(number);
    void *found = fovea_plan_find(plans, &of),
         *memory = found ? found : fovea_plan_make(plans, &of, 64);
    *made = memory && !found;
    return memory;
}

static void plans_are_found_again(void **state) {
    (void)state;
    fovea_plans plans = {.allocator = fovea_default_allocator()};
    bool made;
    void *first = reserve(&plans, 7, &made);
    assert_true(first && made);
    assert_ptr_not_equal(reserve(&plans, 8, &made), first);
    assert_true(made);
    assert_ptr_equal(reserve(&plans, 7, &made), first);
    assert_false(made);
    fovea_plans_release(&plans);
}

static void the_oldest_makes_room(void **state) {
    (void)state;
    fovea_plans plans = {.allocator = fovea_default_allocator()};
    bool made;
    for (uint64_t i = 0; i < FOVEA_PLANS_MAX; i++) reserve(&plans, i, &made);
    reserve(&plans, 0, &made);
    assert_false(made);
    reserve(&plans, 100, &made); /* in the place of 1 */
    assert_true(made);
    reserve(&plans, 0, &made);
    assert_false(made);
    reserve(&plans, 1, &made);
    assert_true(made);
    fovea_plans_release(&plans);
}

static void *nothing(void *user, size_t bytes, size_t alignment) {
    (void)user, (void)bytes, (void)alignment;
    return NULL;
}

static void without_memory_there_is_no_plan(void **state) {
    (void)state;
    fovea_plans plans = {.allocator = {.allocate = nothing}};
    bool made;
    assert_null(reserve(&plans, 7, &made));
    assert_false(made);
    fovea_plans_release(&plans);
}

/* What a call gives with plans that others have left; the last output's bytes go to `result`. */
static void transform(const char *kernel, const char *text, int number, fovea_plans *plans,
                      char *result, size_t room) {
    fovea_case c;
    fovea_sample sample;
    fovea_message message;
    char reason[160];
    fovea_case_begin(&c, fovea_catalogue_find(kernel));
    assert_int_equal(fovea_case_parse(&c, text, 0, &message), FOVEA_OK);
    assert_int_equal(fovea_case_complete(&c, &message), FOVEA_OK);
    assert_int_equal(fovea_sample_create(&c, NULL, &sample, &message), FOVEA_OK);
    const fovea_implementation *i = fovea_implementation_at(c.index, number);
    int output = fovea_kernel_arguments(fovea_catalogue_kernel(c.index)) - 1;
    assert_true(sample.bytes[output] <= room);
    memset(result, 0, room);
    if (!fovea_implementation_is_cuda(i) &&
        fovea_implementation_serves(i, &sample.problem, reason, sizeof reason)) {
        fovea_run run = {.threads = 1, .plans = plans};
        if (i->workspace) run.workspace_bytes = i->workspace(&sample.problem, 1);
        run.workspace = aligned_alloc(64, (run.workspace_bytes + 64) / 64 * 64);
        memset(run.workspace, 0xFF, run.workspace_bytes);
        assert_int_equal(i->run(&sample.problem, &run), FOVEA_OK);
        memcpy(result, sample.storage[output], sample.bytes[output]);
        free(run.workspace);
    }
    fovea_sample_destroy(&sample);
}

/* Each after each other one, by all tiers: of another length, precision, radix, of reals, of a length with a large factor. */
static void a_transform_takes_no_plan_of_another(void **state) {
    static const struct {
        const char *kernel, *text;
    } calls[] = {{"fft", "r=1,n=64"},
                 {"fft", "r=1,n=64,radix=two"},
                 {"fft", "r=1,n=64,radix=four"},
                 {"fft", "r=1,n=64,dtype=c128"},
                 {"fft", "r=1,n=60"},
                 {"fft", "r=1,n=62"},
                 {"fft", "r=1,n=62,dtype=c128"},
                 {"fft", "r=1,n=62,direction=inverse"},
                 {"fft_real", "r=1,n=128"},
                 {"fft_real", "r=1,n=128,dtype=f64"},
                 {"fft_real", "r=1,n=124"},
                 {"autocorrelation", "r=1,n=64"}};
    enum { COUNT = sizeof calls / sizeof *calls, ROOM = 4096 };
    static char alone[ROOM], after[ROOM];
    (void)state;
    for (int first = 0; first < COUNT; first++)
        for (int second = 0; second < COUNT; second++) {
            int kernels[] = {fovea_catalogue_find(calls[first].kernel),
                             fovea_catalogue_find(calls[second].kernel)};
            fovea_plans plans = {.allocator = fovea_default_allocator()};
            for (int i = 0; i < fovea_implementation_count(kernels[0]); i++)
                transform(calls[first].kernel, calls[first].text, i, &plans, after, ROOM);
            for (int i = 0; i < fovea_implementation_count(kernels[1]); i++) {
                fovea_plans own = {.allocator = fovea_default_allocator()};
                transform(calls[second].kernel, calls[second].text, i, &plans, after, ROOM);
                transform(calls[second].kernel, calls[second].text, i, &own, alone, ROOM);
                if (memcmp(alone, after, ROOM) != 0)
                    fail_msg("%s of %s after %s of %s: %s is not what it is alone",
                             calls[second].kernel, calls[second].text, calls[first].kernel,
                             calls[first].text, fovea_implementation_at(kernels[1], i)->name);
                fovea_plans_release(&own);
            }
            fovea_plans_release(&plans);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_are_found_again),
        cmocka_unit_test(the_oldest_makes_room),
        cmocka_unit_test(without_memory_there_is_no_plan),
        cmocka_unit_test(a_transform_takes_no_plan_of_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
