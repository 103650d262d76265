/* Plans: found again by key, and the one unused for longest makes room. */
#include "runtime/memory.h"
#include "runtime/plans.h"
#include "test.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_are_found_again),
        cmocka_unit_test(the_oldest_makes_room),
        cmocka_unit_test(without_memory_there_is_no_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
