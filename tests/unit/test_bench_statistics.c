/* The statistics of timings against values worked out by hand. */
#include "bench_statistics.h"
#include "test.h"

#include <math.h>

static void near(double actual, double expected) {
    assert_true(fabs(actual - expected) <= 1e-12 * fmax(1, fabs(expected)));
}

static void test_summary_by_hand(void **unused) {
    (void)unused;
    const double values[] = {5, 1, 4, 2, 3, 100, 6, 7, 8, 9};
    fovea_summary s = fovea_summarise(values, 10);
    assert_int_equal(s.count, 10);
    near(s.median, 5.5);
    near(s.minimum, 1);
    near(s.maximum, 100);
    near(s.p10, 1.9);                /* position 0.9 between 1 and 2 */
    near(s.p90, 18.1);               /* position 8.1 between 9 and 100 */
    near(s.mad, 2.5);                /* deviations 0.5 0.5 1.5 1.5 2.5 2.5 3.5 3.5 4.5 94.5 */
    assert_int_equal(s.outliers, 1); /* quartiles 3.25 and 7.75: fences -3.5 and 14.5 */
}

static void test_few_samples(void **unused) {
    (void)unused;
    const double one[] = {3}, two[] = {1, 3};
    fovea_summary none = fovea_summarise(one, 0);
    assert_int_equal(none.count, 0);
    assert_true(isinf(fovea_summary_spread(&none)));
    fovea_summary s = fovea_summarise(one, 1);
    near(s.median, 3);
    near(s.p90, 3);
    assert_true(isinf(fovea_summary_spread(&s)));
    s = fovea_summarise(two, 2);
    near(s.median, 2);
    near(s.mad, 1);
    assert_int_equal(s.outliers, 0);
    assert_true(isnan(fovea_median(NULL, 0)));
    assert_true(isnan(fovea_geometric_mean(NULL, 0)));
}

static void test_spread_shrinks_with_samples(void **unused) {
    (void)unused;
    fovea_summary few = {.count = 4, .median = 2, .mad = 0.1}, many = few;
    many.count = 16;
    near(fovea_summary_spread(&few), 2 * fovea_summary_spread(&many));
    near(fovea_summary_spread(&few), 1.2533 * 1.4826 * 0.1 / 2 / 2);
}

static void test_geometric_mean(void **unused) {
    (void)unused;
    const double values[] = {0.5, 2, 8};
    near(fovea_geometric_mean(values, 3), 2);
}

static void test_samples_grow(void **unused) {
    (void)unused;
    fovea_timings samples = {0};
    for (int i = 0; i < 1000; i++) assert_true(fovea_timings_add(&samples, i));
    for (int i = 0; i < 1000; i++) near(samples.values[i], i);
    fovea_timings_release(&samples);
    assert_int_equal(samples.count, 0);
}

static void test_shuffle(void **unused) {
    (void)unused;
    int first[3] = {0}, again[20], other[20];
    uint64_t state = 1, same = 1, different = 2;
    for (int round = 0; round < 3000; round++) {
        int items[3] = {0, 1, 2};
        fovea_shuffle(items, 3, &state);
        first[items[0]]++;
        assert_int_equal(items[0] + items[1] + items[2], 3);
    }
    for (int i = 0; i < 3; i++) assert_in_range(first[i], 850, 1150);
    for (int i = 0; i < 20; i++) again[i] = other[i] = i;
    fovea_shuffle(again, 20, &same);
    fovea_shuffle(other, 20, &different);
    int moved = 0;
    for (int i = 0; i < 20; i++) moved += again[i] != other[i];
    assert_true(moved > 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_summary_by_hand),
        cmocka_unit_test(test_few_samples),
        cmocka_unit_test(test_spread_shrinks_with_samples),
        cmocka_unit_test(test_geometric_mean),
        cmocka_unit_test(test_samples_grow),
        cmocka_unit_test(test_shuffle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
