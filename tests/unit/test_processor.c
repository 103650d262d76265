/* The processor: tiers, the cap by FOVEA_TIER, and how many threads are allowed. */
#define _GNU_SOURCE
#include "runtime/processor.h"
#include "test.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

static void tier_names_round_trip(void **state) {
    (void)state;
    for (int t = 0; t < FOVEA_TIER_COUNT; t++) {
        fovea_tier tier;
        assert_true(fovea_tier_parse(fovea_tier_name((fovea_tier)t), &tier));
        assert_int_equal(tier, t);
    }
    fovea_tier tier;
    assert_false(fovea_tier_parse("sse9", &tier));
}

static void tiers_are_those_that_the_compiler_sees(void **state) {
    (void)state;
    fovea_tier cap = FOVEA_TIER_COUNT;
    const char *name = getenv("FOVEA_TIER");
    if (name) fovea_tier_parse(name, &cap);
    assert_true(fovea_has_tier(FOVEA_TIER_SCALAR));
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
    assert_int_equal(fovea_has_tier(FOVEA_TIER_AVX2), avx2 && cap >= FOVEA_TIER_AVX2);
    assert_int_equal(fovea_has_tier(FOVEA_TIER_AVX512), avx512 && cap >= FOVEA_TIER_AVX512);
    assert_false(fovea_has_tier(FOVEA_TIER_NEON));
#elif defined(__aarch64__)
    assert_int_equal(fovea_has_tier(FOVEA_TIER_NEON), cap >= FOVEA_TIER_NEON);
    assert_false(fovea_has_tier(FOVEA_TIER_AVX2));
#endif
}

static void description_is_complete(void **state) {
    (void)state;
    const fovea_processor *processor = fovea_processor_get();
    assert_ptr_equal(processor, fovea_processor_get());
    assert_true(strlen(processor->model) > 0);
    assert_true(strlen(processor->vendor) > 0);
    assert_in_range(processor->l1_bytes, 4 << 10, 4 << 20);
    assert_true(processor->l2_bytes >= processor->l1_bytes);
    assert_true(processor->threads >= 1);
}

static void threads_follow_the_affinity_mask(void **state) {
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &before)) {
            CPU_SET(cpu, &one);
            break;
        }
    assert_true(fovea_allowed_threads() <= CPU_COUNT(&before));
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    int threads = fovea_allowed_threads();
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    assert_int_equal(threads, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tier_names_round_trip),
        cmocka_unit_test(tiers_are_those_that_the_compiler_sees),
        cmocka_unit_test(description_is_complete),
        cmocka_unit_test(threads_follow_the_affinity_mask),
    };
    return cmocka_run_group_tests_name("processor", tests, NULL, NULL);
}
