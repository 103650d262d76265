/* Choosing: what the cost model takes a call to cost, which of several measurements count, and what
 * tells two problems apart. */
#include "catalogue/case.h"
#include "router/choose.h"
#include "test.h"

#include <math.h>
#include <stdio.h>

/* ---- Implementations of map_add, whose costs and tiers a test decides ------------------------- */

enum { WAYS = 4 };
static double costs[WAYS];
static int kernel, first_way;

static fovea_status run_never(const fovea_problem *problem, fovea_run *run) {
    (void)problem, (void)run;
    return FOVEA_DEVICE_ERROR;
}

#define WAY(n)                                                                                     \
    static double cost_##n(const fovea_problem *problem, int threads, double flops,                \
                           double bandwidth) {                                                     \
        (void)problem, (void)threads, (void)flops, (void)bandwidth;                                \
        return costs[n];                                                                           \
    }                                                                                              \
    static fovea_implementation way_##n = {.kernel = "map_add",                                    \
                                           .name = "test/scalar/way" #n,                           \
                                           .dtypes = UINT32_MAX,                                   \
                                           .run = run_never,                                       \
                                           .cost = cost_##n};
WAY(0)
WAY(1)
WAY(2)
WAY(3)
static fovea_implementation *const ways[WAYS] = {&way_0, &way_1, &way_2, &way_3};

static int set_up(void **state) {
    (void)state;
    kernel = fovea_catalogue_find("map_add");
    first_way = fovea_implementation_count(kernel);
    for (int i = 0; i < WAYS; i++)
        if (!fovea_implementation_register(ways[i])) return 1;
    return 0;
}

typedef struct makings {
    fovea_case c;
    fovea_sample sample;
} makings;

static fovea_problem *make(makings *m, const char *name, const char *text) {
    fovea_message message;
    fovea_case_begin(&m->c, fovea_catalogue_find(name));
    assert_int_equal(fovea_case_parse(&m->c, text, 0, &message), FOVEA_OK);
    assert_int_equal(fovea_case_complete(&m->c, &message), FOVEA_OK);
    assert_int_equal(fovea_sample_create(&m->c, NULL, &m->sample, &message), FOVEA_OK);
    return &m->sample.problem;
}

static fovea_routes *empty_routes(void) {
    fovea_allocator allocator = fovea_default_allocator();
    fovea_routes *routes = fovea_routes_create(&allocator, 100);
    assert_non_null(routes);
    return routes;
}

/* ---- The cost model --------------------------------------------------------------------------- */

/* An addition of n elements is n operations on 12 n bytes. */
static double expected(const char *text, fovea_tier tier, double flops, double bandwidth,
                       int threads) {
    makings m;
    fovea_implementation plain = {.kernel = "map_add", .name = "test/any/plain", .tier = tier};
    fovea_routes *routes = empty_routes();
    fovea_problem *problem = make(&m, "map_add", text);
    routes->rates.flops[tier] = flops, routes->rates.bandwidth[tier] = bandwidth;
    double seconds = fovea_expected_seconds(&plain, problem, routes, threads);
    fovea_sample_destroy(&m.sample);
    fovea_routes_release(routes);
    return seconds;
}

#define assert_about(value, wanted)                                                                \
    do {                                                                                           \
        double is = value, should = wanted;                                                        \
        if (!(fabs(is - should) <= 0.1 * should))                                                  \
            fail_msg("%s is %g, not %g", #value, is, should);                                      \
    } while (0)

static void a_call_takes_its_operations_or_its_bytes(void **state) {
    (void)state;
    assert_about(expected("n=100000", FOVEA_TIER_AVX2, 1e9, 1e15, 1), 1e-4);
    assert_about(expected("n=100000", FOVEA_TIER_AVX512, 1e9, 1e15, 1), 1e-4);
    assert_about(expected("n=100000", FOVEA_TIER_AVX2, 1e15, 12e9, 1), 1e-4);
    assert_about(expected("n=100000", FOVEA_TIER_AVX2, 1e9, 12e9, 1), 1e-4); /* side by side */
}

static void threads_share_arithmetic_and_three_of_them_memory(void **state) {
    (void)state;
    assert_about(expected("n=1000000", FOVEA_TIER_AVX2, 1e9, 1e15, 8), 1e-3 / 8);
    assert_about(expected("n=1000000", FOVEA_TIER_AVX2, 1e15, 12e9, 2), 1e-3 / 2);
    assert_about(expected("n=1000000", FOVEA_TIER_AVX2, 1e15, 12e9, 8), 1e-3 / 3);
}

/* A team is started only where that is worth its while. */
static void a_team_has_its_price(void **state) {
    (void)state;
    double alone = expected("n=3000", FOVEA_TIER_AVX2, 1e9, 1e15, 1);
    assert_true(expected("n=3000", FOVEA_TIER_AVX2, 1e9, 1e15, 2) == alone);
    double few = expected("n=100000", FOVEA_TIER_AVX2, 1e9, 1e15, 10);
    assert_true(expected("n=100000", FOVEA_TIER_AVX2, 1e9, 1e15, 200) > 2 * few);
}

static void what_was_measured_of_a_tier_is_its_rate(void **state) {
    (void)state;
    fovea_routes *routes = empty_routes();
    routes->rates.flops[FOVEA_TIER_AVX2] = 7e9;
    assert_true(fovea_tier_rate(routes, FOVEA_TIER_AVX2).flops == 7e9);
    assert_false(fovea_tier_rate(routes, FOVEA_TIER_AVX2).measured);
    routes->rates.bandwidth[FOVEA_TIER_AVX2] = 3e9;
    assert_true(fovea_tier_rate(routes, FOVEA_TIER_AVX2).bandwidth == 3e9);
    assert_true(fovea_tier_rate(routes, FOVEA_TIER_AVX2).measured);
    assert_false(fovea_tier_rate(routes, FOVEA_TIER_SCALAR).measured);
    fovea_routes_release(routes);
    static const fovea_tier rising[] = {FOVEA_TIER_SCALAR, FOVEA_TIER_AVX2, FOVEA_TIER_AVX512,
                                        FOVEA_TIER_AMX};
    for (int i = 1; i < 4; i++) {
        fovea_rate narrow = fovea_tier_rate(NULL, rising[i - 1]),
                   wide = fovea_tier_rate(NULL, rising[i]);
        assert_true(wide.flops > narrow.flops && wide.bandwidth >= narrow.bandwidth);
        assert_false(wide.measured);
    }
}

static void the_model_finds_the_two_cheapest(void **state) {
    static const struct {
        double costs[WAYS];
        int first, second;
    } cases[] = {{{2, 1, 4, 3}, 1, 0}, {{1, 3, 2, 4}, 0, 2}, {{4, 3, 2, 1}, 3, 2}};
    (void)state;
    makings m;
    fovea_problem *problem = make(&m, "map_add", "n=1000");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fovea_choice choice;
        for (int w = 0; w < WAYS; w++) costs[w] = 1e-12 * cases[i].costs[w];
        fovea_choose(problem, NULL, 1, &choice);
        assert_ptr_equal(choice.implementation, ways[cases[i].first]);
        assert_ptr_equal(choice.runner_up, ways[cases[i].second]);
        assert_true(choice.seconds == 1e-12 && choice.runner_up_seconds == 2e-12);
    }
    fovea_sample_destroy(&m.sample);
}

/* What the model takes for an implementation of attention; 0 if this library has none of that name. */
static double attention_expected(const char *name, const char *text, int threads) {
    makings m;
    fovea_message message;
    double seconds = 0;
    fovea_case_begin(&m.c, fovea_catalogue_find("attention"));
    assert_int_equal(fovea_case_parse(&m.c, text, 0, &message), FOVEA_OK);
    assert_int_equal(fovea_case_complete(&m.c, &message), FOVEA_OK);
    m.c.data = FOVEA_DATA_NONE;
    assert_int_equal(fovea_sample_create(&m.c, NULL, &m.sample, &message), FOVEA_OK);
    for (int i = 0; i < fovea_implementation_count(m.sample.problem.index); i++) {
        const fovea_implementation *one = fovea_implementation_at(m.sample.problem.index, i);
        if (strcmp(one->name, name) == 0)
            seconds = fovea_expected_seconds(one, &m.sample.problem, NULL, threads);
    }
    fovea_sample_destroy(&m.sample);
    return seconds;
}

/* Tiles multiply fast, but what they multiply is packed first. */
static void few_rows_of_a_long_cache_are_not_packed(void **state) {
    static const struct {
        const char *dtype, *tiles;
    } types[] = {{"bf16", "cpu/amx/flash"},
                 {"f16", "cpu/amx/flash_bf16x2"},
                 {"f32", "cpu/amx/flash_bf16x3"}};
    (void)state;
    for (int i = 0; i < 3; i++) {
        for (int threads = 1; threads <= 16; threads *= 2) {
            char few[96], many[96];
            snprintf(few, sizeof few, "dtype=%s,b=8,hq=8,hkv=1,sq=1,sk=8192,d=128", types[i].dtype);
            snprintf(many, sizeof many, "dtype=%s,b=2,hq=8,hkv=8,sq=1024,sk=1024,d=64",
                     types[i].dtype);
            double tiles = attention_expected(types[i].tiles, few, threads);
            if (tiles == 0) skip();
            assert_true(attention_expected("cpu/avx512/split", few, threads) < tiles);
            bool faster = attention_expected(types[i].tiles, many, threads) <
                          attention_expected("cpu/avx512/flash", many, threads);
            assert_int_equal(faster, i < 2); /* three terms take as long as multiply-adds */
        }
    }
}

/* ---- Between measurements --------------------------------------------------------------------- */

static void add(fovea_routes *routes, const char *text, int way, double seconds) {
    makings m;
    fovea_problem *problem = make(&m, "map_add", text);
    fovea_route_record record = {.number = first_way + way,
                                 .work = fovea_route_work(problem),
                                 .median = (uint64_t)(1e12 * seconds),
                                 .samples = 11};
    fovea_route_key_of(problem, 1, &record.key);
    assert_true(fovea_routes_add(routes, &record));
    fovea_sample_destroy(&m.sample);
}

static fovea_choice choose(const fovea_routes *routes, const char *text) {
    makings m;
    fovea_choice choice;
    fovea_choose(make(&m, "map_add", text), routes, 1, &choice);
    fovea_sample_destroy(&m.sample);
    return choice;
}

/* One measurement, however clear, is not more than a factor of four: the nearer one decides. */
static void a_clear_measurement_far_away_does_not_decide(void **state) {
    (void)state;
    fovea_routes *routes = empty_routes();
    add(routes, "n=1024", 0, 1.3e-6), add(routes, "n=1024", 1, 1.0e-6);
    add(routes, "n=48000", 0, 1e-6), add(routes, "n=48000", 1, 1e-3);
    assert_ptr_equal(choose(routes, "n=1500").implementation, &way_1);
    fovea_routes_release(routes);
}

/* An octave away and twice as fast: half of that is believed, for what the tiers promise weighs as much. */
static void times_are_those_of_the_nearest(void **state) {
    (void)state;
    fovea_routes *routes = empty_routes();
    add(routes, "n=1024", 0, 2e-6), add(routes, "n=1024", 1, 1e-6);
    fovea_choice choice = choose(routes, "n=2048");
    assert_int_equal(choice.source, FOVEA_CHOICE_NEIGHBOUR);
    assert_ptr_equal(choice.implementation, &way_1);
    assert_ptr_equal(choice.runner_up, &way_0);
    assert_about(choice.seconds, 2e-6);
    assert_about(choice.runner_up_seconds / choice.seconds, M_SQRT2);
    add(routes, "n=65536", 0, 9e-6), add(routes, "n=65536", 1, 8e-6);
    assert_about(choose(routes, "n=131072").seconds, 16e-6);
    assert_about(choose(routes, "n=2048").seconds, 2e-6);
    fovea_routes_release(routes);
}

static void of_two_alike_the_wider_tier_is_taken(void **state) {
    (void)state;
    uint32_t tiers = fovea_processor_get()->tiers;
    way_0.tier = FOVEA_TIER_SCALAR, way_1.tier = (fovea_tier)(31 - __builtin_clz(tiers));
    if (way_1.tier == FOVEA_TIER_SCALAR) skip();
    fovea_routes *routes = empty_routes();
    add(routes, "n=1024", 0, 1e-6), add(routes, "n=1024", 1, 1.02e-6);
    add(routes, "n=65536", 0, 1e-6), add(routes, "n=65536", 1, 2e-6);
    assert_ptr_equal(choose(routes, "n=2048").implementation, &way_1);
    assert_ptr_equal(choose(routes, "n=131072").implementation, &way_0);
    way_1.tier = FOVEA_TIER_SCALAR;
    fovea_routes_release(routes);
}

static void records_are_replaced_and_removed_by_their_key(void **state) {
    (void)state;
    fovea_allocator allocator = fovea_default_allocator();
    fovea_routes *routes = fovea_routes_create(&allocator, 3);
    add(routes, "n=1024", 0, 1e-6), add(routes, "n=1024", 1, 2e-6), add(routes, "n=1024", 1, 3e-6);
    assert_int_equal(routes->count, 2);
    assert_true(routes->records[1].median == 3000000);
    fovea_route_record other = routes->records[0];
    other.key.kernel++;
    assert_true(fovea_routes_add(routes, &other));
    other.key.kernel++;
    assert_false(fovea_routes_add(routes, &other)); /* it is full */
    fovea_routes_condemn(routes, kernel, first_way);
    assert_int_equal(routes->count, 2); /* the other kernel's is there */
    assert_int_equal(routes->records[1].key.kernel, kernel + 1);
    fovea_routes_release(routes);
}

/* ---- What tells problems apart ---------------------------------------------------------------- */

static void signatures_tell_problems_apart(void **state) {
    static const struct {
        const char *kernel, *text;
    } problems[] = {{"map_add", "n=1024"},
                    {"map_mul", "n=1024"},
                    {"map_add", "n=1024,dtype=f16"},
                    {"map_add", "n=1024,memory=stepped"},
                    {"map_gelu", "n=1024,approximate=none"},
                    {"map_gelu", "n=1024,approximate=tanh"},
                    {"quantize_f32_to_f16", "n=64,y=f16"},
                    {"quantize_f32_to_f16", "n=64,y=bf16"},
                    {"attention", "b=1,hq=2,sq=33,sk=65,d=16"},
                    {"attention", "b=1,hq=2,sq=65,sk=33,d=16"},
                    {"attention", "b=1,hq=2,sq=33,sk=65,d=16,softcap=20"},
                    {"attention", "b=1,hq=2,sq=33,sk=65,d=16,slopes=1"},
                    {"attention", "b=1,hq=2,sq=33,sk=65,d=16,sinks=1"}};
    enum { COUNT = sizeof problems / sizeof *problems };
    uint64_t signatures[COUNT];
    (void)state;
    for (int i = 0; i < COUNT; i++) {
        makings m, again;
        signatures[i] = fovea_problem_signature(make(&m, problems[i].kernel, problems[i].text));
        assert_true(fovea_problem_signature(make(&again, problems[i].kernel, problems[i].text)) ==
                    signatures[i]);
        fovea_sample_destroy(&m.sample);
        fovea_sample_destroy(&again.sample);
        for (int j = 0; j < i; j++) assert_true(signatures[i] != signatures[j]);
    }
}

static void what_hangs_on_contents_is_not_kept(void **state) {
    static const fovea_choice_cache empty;
    fovea_choice_cache cache = {0};
    makings m;
    (void)state;
    assert_non_null(fovea_choose_quickly(
        &cache, make(&m, "attention", "b=3,hq=2,sq=33,d=16,cu_seqlens_q=1,cu_seqlens_k=1"), NULL,
        1));
    assert_memory_equal(&cache, &empty, sizeof cache);
    fovea_sample_destroy(&m.sample);
    assert_non_null(
        fovea_choose_quickly(&cache, make(&m, "attention", "b=3,hq=2,sq=33,d=16"), NULL, 1));
    assert_memory_not_equal(&cache, &empty, sizeof cache);
    fovea_sample_destroy(&m.sample);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_takes_its_operations_or_its_bytes),
        cmocka_unit_test(threads_share_arithmetic_and_three_of_them_memory),
        cmocka_unit_test(a_team_has_its_price),
        cmocka_unit_test(what_was_measured_of_a_tier_is_its_rate),
        cmocka_unit_test(few_rows_of_a_long_cache_are_not_packed),
        cmocka_unit_test(the_model_finds_the_two_cheapest),
        cmocka_unit_test(a_clear_measurement_far_away_does_not_decide),
        cmocka_unit_test(times_are_those_of_the_nearest),
        cmocka_unit_test(of_two_alike_the_wider_tier_is_taken),
        cmocka_unit_test(records_are_replaced_and_removed_by_their_key),
        cmocka_unit_test(signatures_tell_problems_apart),
        cmocka_unit_test(what_hangs_on_contents_is_not_kept),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
