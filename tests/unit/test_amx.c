/* The emulated tiles, against sums by hand and against the definition of the products. */
#ifndef FOVEA_EMULATE_AMX /* the whole build may be so */
    #define FOVEA_EMULATE_AMX
#endif
#include "cpu/simd/amx.h"
#include "test.h"

#include <stdlib.h>

static uint16_t bf16(float x) { /* of values that are bf16 */
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    assert_int_equal(bits & 0xffff, 0);
    return (uint16_t)(bits >> 16);
}

static void begin(void) {
    const amx_configuration whole = amx_whole_tiles();
    amx_configure(&whole);
}

static void tiles_keep_what_is_loaded(void **unused) {
    uint8_t from[AMX_ROWS][100], to[AMX_ROWS][70] = {0};
    (void)unused;
    begin();
    for (int i = 0; i < (int)sizeof from; i++) ((uint8_t *)from)[i] = (uint8_t)(i * 7);
    amx_load(3, from, sizeof from[0]);
    amx_store(3, to, sizeof to[0]);
    for (int r = 0; r < AMX_ROWS; r++) {
        assert_memory_equal(to[r], from[r], AMX_ROW_BYTES);
        assert_int_equal(to[r][AMX_ROW_BYTES], 0);
    }
    amx_release();
}

static void shapes_limit_what_is_touched(void **unused) {
    uint8_t from[AMX_TILE_BYTES], to[AMX_TILE_BYTES] = {0};
    amx_configuration c = amx_whole_tiles();
    (void)unused;
    c.rows[2] = 3, c.row_bytes[2] = 8;
    memset(from, 9, sizeof from);
    amx_configure(&c);
    amx_load(2, from, AMX_ROW_BYTES);
    amx_store(2, to, AMX_ROW_BYTES);
    for (int i = 0; i < AMX_TILE_BYTES; i++)
        assert_int_equal(to[i], i / 64 < 3 && i % 64 < 8 ? 9 : 0);
    amx_release();
}

/* Integers below 256 are bf16 and their sums are exact, so any order gives the same. */
static void bf16_products_are_those_of_matrices(void **unused) {
    uint16_t a[16][32], b[16][32]; /* b: pairs side by side */
    float c[16][16];
    (void)unused;
    begin();
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 32; j++) {
            a[i][j] = bf16((float)(rand() % 256 - 128));
            b[i][j] = bf16((float)(rand() % 256 - 128));
        }
    amx_load(0, a, 64);
    amx_load(1, b, 64);
    amx_bf16(2, 0, 1);
    amx_bf16(2, 0, 1);
    amx_store(2, c, 64);
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 16; n++) {
            double sum = 0;
            for (int k = 0; k < 32; k++)
                sum +=
                    (double)amx_from_bf16(a[m][k]) * (double)amx_from_bf16(b[k / 2][2 * n + k % 2]);
            assert_true((double)c[m][n] == 2 * sum);
        }
    amx_release();
}

/* One row times one column: what the order of the roundings makes of it. */
static float product(const float *x, const float *y, float start) {
    uint16_t a[16][32] = {0}, b[16][32] = {0};
    float c[16][16] = {{start}};
    begin();
    for (int k = 0; k < 32; k++) a[0][k] = bf16(x[k]), b[k / 2][k % 2] = bf16(y[k]);
    amx_load(0, a, 64);
    amx_load(1, b, 64);
    amx_load(2, c, 64);
    amx_bf16(2, 0, 1);
    amx_store(2, c, 64);
    amx_release();
    return c[0][0];
}

static void bf16_products_round_as_the_instruction_does(void **unused) {
    float ones[32] = {1, 1, 1, 1}, x[32] = {0x1p24f, 1, 1, 1};
    (void)unused;
    /* Even chain: 2^24 + 1 = 2^24 (to even); odd: 1 + 1; one chain would end at 2^24. */
    assert_true(product(x, ones, 0) == 0x1p24f + 2);
    /* The sum is taken before c joins: 1 + 1 meets 2^24 as 2. */
    assert_true(product((float[32]){1, 1}, ones, 0x1p24f) == 0x1p24f + 2);
    assert_true(product((float[32]){0x1p-127f}, (float[32]){0x1p100f}, 0) == 0); /* DAZ */
    assert_true(product((float[32]){0x1p-70f}, (float[32]){0x1p-60f}, 0) == 0);  /* FTZ */
    assert_true(isnan(product((float[32]){INFINITY}, (float[32]){0}, 0)));
}

static void byte_products_keep_their_signs(void **unused) {
    uint8_t a[16][64], b[16][64];
    int32_t c[16][16];
    (void)unused;
    for (int i = 0; i < 1024; i++)
        ((uint8_t *)a)[i] = (uint8_t)rand(), ((uint8_t *)b)[i] = (uint8_t)rand();
    for (int kind = 0; kind < 3; kind++) {
        begin();
        amx_load(0, a, 64);
        amx_load(1, b, 64);
        if (kind == 0) amx_s8s8(2, 0, 1);
        if (kind == 1) amx_u8s8(2, 0, 1);
        if (kind == 2) amx_s8u8(2, 0, 1);
        amx_store(2, c, 64);
        amx_release();
        for (int m = 0; m < 16; m++)
            for (int n = 0; n < 16; n++) {
                int sum = 0;
                for (int k = 0; k < 64; k++) {
                    uint8_t x = a[m][k], y = b[k / 4][4 * n + k % 4];
                    sum += (kind == 1 ? x : (int8_t)x) * (kind == 2 ? y : (int8_t)y);
                }
                assert_int_equal(c[m][n], sum);
            }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_keep_what_is_loaded),
        cmocka_unit_test(shapes_limit_what_is_touched),
        cmocka_unit_test(bf16_products_are_those_of_matrices),
        cmocka_unit_test(bf16_products_round_as_the_instruction_does),
        cmocka_unit_test(byte_products_keep_their_signs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
