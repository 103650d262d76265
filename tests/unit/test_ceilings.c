/* The loop that moves a case's tensors: all of each, nothing beside it, and what is only read or is read
 * and written keeps its values. */
#include "cpu/ceilings.h"
#include "runtime/processor.h"
#include "test.h"

#include <string.h>

enum { FLOATS = 4096, SMALL = 16 * 37, GUARD = 16 };

static _Alignas(64) float read[FLOATS + GUARD], written[FLOATS + GUARD], both[FLOATS + GUARD],
    half[FLOATS / 2 + GUARD], small[SMALL + GUARD];

static void fill(float *x, int count, float step) {
    for (int i = 0; i < count + GUARD; i++) x[i] = step * (float)(i % 7);
}

static fovea_stream stream(float *from, float *to, int count) {
    return (fovea_stream){(const char *)from, (char *)to, (size_t)count * sizeof *from};
}

static void unchanged(const float *x, int count, int first, float step) {
    for (int i = first; i < count + GUARD; i++) assert_true(x[i] == step * (float)(i % 7));
}

static void moves_all(const fovea_ceiling_loops *loops, bool past, bool ahead) {
    fill(read, FLOATS, 1), fill(written, FLOATS, 2), fill(both, FLOATS, 3);
    fill(half, FLOATS / 2, 4), fill(small, SMALL, 5);
    const fovea_stream streams[] = {stream(read, NULL, FLOATS), stream(NULL, written, FLOATS),
                                    stream(both, both, FLOATS), stream(NULL, half, FLOATS / 2),
                                    stream(small, NULL, SMALL)};
    float sum = loops->move(streams, 5, past, ahead), wanted = 0;
    for (int i = 0; i < FLOATS; i++) wanted += read[i];
    for (int i = 0; i < SMALL; i++) wanted += small[i];
    assert_true(sum == wanted); /* integers: any order is exact */
    unchanged(read, FLOATS, 0, 1);
    unchanged(both, FLOATS, 0, 3);
    unchanged(small, SMALL, 0, 5);
    for (int i = 0; i < FLOATS; i++) assert_true(written[i] == 1);
    unchanged(written, FLOATS, FLOATS, 2);
    for (int i = 0; i < FLOATS / 2; i++) assert_true(half[i] == 1);
    unchanged(half, FLOATS / 2, FLOATS / 2, 4);
}

static void test_every_tier_moves_all(void **unused) {
    (void)unused;
    int tiers = 0;
    for (const fovea_ceiling_tier *t = fovea_ceiling_tiers; t->tier; t++) {
        fovea_tier tier;
        if (!fovea_tier_parse(t->tier, &tier) || !fovea_has_tier(tier)) continue;
        for (int way = 0; way < 4; way++) moves_all(t->loops, way & 1, way >> 1);
        tiers++;
    }
    assert_true(tiers > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_tier_moves_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
