/* Element types: sizes, names, and the conversions of single values that the reference relies on.
 */
#include "runtime/dtype.h"
#include "test.h"

#include <math.h>

static double decode(uint16_t bits, int mantissa_bits, int bias) {
    int exponent_bits = 15 - mantissa_bits;
    int exponent = bits >> mantissa_bits & ((1 << exponent_bits) - 1);
    double fraction = ldexp(bits & ((1 << mantissa_bits) - 1), -mantissa_bits);
    double magnitude;
    if (exponent == (1 << exponent_bits) - 1)
        magnitude = fraction != 0 ? NAN : INFINITY;
    else
        magnitude =
            exponent == 0 ? ldexp(fraction, 1 - bias) : ldexp(1 + fraction, exponent - bias);
    return bits >> 15 ? -magnitude : magnitude;
}

static void assert_all_patterns_round_trip(fovea_dtype dtype, int mantissa_bits, int bias) {
    for (uint32_t pattern = 0; pattern <= 0xFFFF; pattern++) {
        uint16_t bits = (uint16_t)pattern, back = 0x5A5A;
        double expected = decode(bits, mantissa_bits, bias);
        double value = fovea_read_element(&bits, dtype);
        fovea_write_element(&back, dtype, value);
        if (isnan(expected)) {
            assert_true(isnan(value));
            assert_true(isnan(fovea_read_element(&back, dtype)));
        } else {
            assert_true(value == expected && signbit(value) == signbit(expected));
            assert_int_equal(back, bits);
        }
    }
}

static void every_f16_pattern_round_trips(void **state) {
    (void)state;
    assert_all_patterns_round_trip(FOVEA_F16, 10, 15);
}

static void every_bf16_pattern_round_trips(void **state) {
    (void)state;
    assert_all_patterns_round_trip(FOVEA_BF16, 7, 127);
}

static void complex_numbers_are_pairs_of_their_parts(void **state) {
    (void)state;
    fovea_dtype dtype;
    assert_true(fovea_dtype_parse("c64", &dtype) && dtype == FOVEA_C64);
    assert_true(fovea_dtype_from_dlpack(fovea_dtype_to_dlpack(FOVEA_C128), &dtype));
    assert_int_equal(dtype, FOVEA_C128);
    assert_int_equal(fovea_dtype_parts(FOVEA_C64), 2);
    assert_int_equal(fovea_dtype_parts(FOVEA_F64), 1);
    assert_int_equal(fovea_dtype_of_part(FOVEA_C128), FOVEA_F64);
    assert_int_equal(fovea_dtype_complex(FOVEA_F32), FOVEA_C64);
    assert_int_equal(fovea_dtype_complex(FOVEA_I8), FOVEA_I8);
    assert_int_equal(fovea_dtype_size(FOVEA_C64), 2 * fovea_dtype_size(FOVEA_F32));
}

/* Between neighbours a and b: below the middle gives a, above gives b, the middle the even one. */
static void assert_rounds_to_nearest_even(fovea_dtype dtype, uint16_t largest) {
    for (uint16_t low = 0; low < largest; low++) {
        uint16_t high = (uint16_t)(low + 1), bits;
        double a = fovea_read_element(&low, dtype), b = fovea_read_element(&high, dtype);
        double middle = a + (b - a) / 2;
        fovea_write_element(&bits, dtype, middle);
        assert_int_equal(bits, low % 2 == 0 ? low : high);
        fovea_write_element(&bits, dtype, nextafter(middle, -INFINITY));
        assert_int_equal(bits, low);
        fovea_write_element(&bits, dtype, nextafter(middle, INFINITY));
        assert_int_equal(bits, high);
        fovea_write_element(&bits, dtype, -middle);
        assert_int_equal(bits, 0x8000 | (low % 2 == 0 ? low : high));
    }
}

static void halves_round_to_nearest_even(void **state) {
    (void)state;
    assert_rounds_to_nearest_even(FOVEA_F16, 0x7BFF);
    assert_rounds_to_nearest_even(FOVEA_BF16, 0x7F7F);
}

static void halves_overflow_to_infinity_at_the_threshold(void **state) {
    (void)state;
    assert_true(fovea_round_to(FOVEA_F16, 65519.99) == 65504);
    assert_true(isinf(fovea_round_to(FOVEA_F16, 65520)));
    assert_true(fovea_round_to(FOVEA_F16, -65520) == -INFINITY);
    double largest = ldexp(2 - ldexp(1, -7), 127), threshold = ldexp(2 - ldexp(1, -8), 127);
    assert_true(fovea_round_to(FOVEA_BF16, nextafter(threshold, 0)) == largest);
    assert_true(isinf(fovea_round_to(FOVEA_BF16, threshold)));
    assert_true(isinf(fovea_round_to(FOVEA_F32, 1e300)));
}

static void rounding_happens_once(void **state) {
    (void)state;
    /* Through f32 this value would land on the middle between two halves and round to even. */
    double value = 1 + ldexp(1, -11) + ldexp(1, -40);
    assert_true(fovea_round_to(FOVEA_F16, value) == 1 + ldexp(1, -10));
    value = 1 + ldexp(1, -8) + ldexp(1, -40);
    assert_true(fovea_round_to(FOVEA_BF16, value) == 1 + ldexp(1, -7));
}

static void integers_saturate_and_round_to_even(void **state) {
    (void)state;
    assert_true(fovea_round_to(FOVEA_I8, 200) == 127);
    assert_true(fovea_round_to(FOVEA_I8, -200) == -128);
    assert_true(fovea_round_to(FOVEA_U8, -3) == 0);
    assert_true(fovea_round_to(FOVEA_I32, 2.5) == 2);
    assert_true(fovea_round_to(FOVEA_I32, 3.5) == 4);
    assert_true(fovea_round_to(FOVEA_I32, 1e20) == INT32_MAX);
    assert_true(fovea_round_to(FOVEA_I32, (double)NAN) == 0);
    int64_t large = 0;
    fovea_write_element(&large, FOVEA_I64, 1e300);
    assert_int_equal(large, INT64_MAX);
    fovea_write_element(&large, FOVEA_I64, -1e300);
    assert_int_equal(large, INT64_MIN);
}

static void ulp_is_the_spacing_of_values(void **state) {
    (void)state;
    assert_true(fovea_ulp(FOVEA_F32, 1) == ldexp(1, -23));
    assert_true(fovea_ulp(FOVEA_F32, 1.99) == ldexp(1, -23));
    assert_true(fovea_ulp(FOVEA_F32, 0) == ldexp(1, -149));
    assert_true(fovea_ulp(FOVEA_F16, -1) == ldexp(1, -10));
    assert_true(fovea_ulp(FOVEA_F16, 1e-7) == ldexp(1, -24));
    assert_true(fovea_ulp(FOVEA_BF16, 256) == 2);
    assert_true(isinf(fovea_ulp(FOVEA_F32, INFINITY)));
    assert_true(isnan(fovea_ulp(FOVEA_F32, NAN)));
}

/* OCP 8-bit floating point, revision 1.0, table 1: E4M3. */
static void e4m3_is_what_its_standard_says(void **state) {
    (void)state;
    for (int pattern = 0; pattern < 256; pattern++) {
        uint8_t bits = (uint8_t)pattern, back = 0x5A;
        double value = fovea_read_element(&bits, FOVEA_E4M3);
        fovea_write_element(&back, FOVEA_E4M3, value);
        assert_true(isnan(value) == ((bits & 0x7f) == 0x7f));
        assert_true(isnan(value) ? (back & 0x7f) == 0x7f : back == bits);
        if ((bits & 0x7f) >= 0x7e) continue;
        uint8_t next = (uint8_t)(bits + 1); /* the middle goes to the even one */
        double middle = (value + fovea_read_element(&next, FOVEA_E4M3)) / 2;
        fovea_write_element(&back, FOVEA_E4M3, middle);
        assert_int_equal(back, bits % 2 ? next : bits);
    }
    assert_true(fovea_round_to(FOVEA_E4M3, 0x1p-9) == 0x1p-9);
    assert_true(fovea_round_to(FOVEA_E4M3, 0x1p-6) == 0x1p-6);
    assert_true(fovea_round_to(FOVEA_E4M3, 463.9) == 448);
    assert_true(fovea_round_to(FOVEA_E4M3, -464) == -448);
    assert_true(isnan(fovea_round_to(FOVEA_E4M3, 464.1)));
    assert_true(isnan(fovea_round_to(FOVEA_E4M3, INFINITY)));
}

static void names_and_dlpack_types_round_trip(void **state) {
    (void)state;
    for (int d = 0; d < FOVEA_DTYPE_COUNT; d++) {
        fovea_dtype parsed, converted;
        assert_true(fovea_dtype_parse(fovea_dtype_name((fovea_dtype)d), &parsed));
        assert_int_equal(parsed, d);
        DLDataType type = fovea_dtype_to_dlpack((fovea_dtype)d);
        assert_true(fovea_dtype_from_dlpack(type, &converted));
        /* dlpack before 0.8 has no boolean type: one bit wide unsigned bytes stand for it. */
        assert_int_equal(fovea_dtype_size(converted), fovea_dtype_size((fovea_dtype)d));
    }
    fovea_dtype dtype;
    assert_false(fovea_dtype_parse("f33", &dtype));
    assert_false(fovea_dtype_parse("", &dtype));
    assert_false(fovea_dtype_from_dlpack((DLDataType){kDLFloat, 32, 4}, &dtype));
    assert_false(fovea_dtype_from_dlpack((DLDataType){kDLFloat, 24, 1}, &dtype));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(complex_numbers_are_pairs_of_their_parts),
        cmocka_unit_test(every_f16_pattern_round_trips),
        cmocka_unit_test(every_bf16_pattern_round_trips),
        cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(halves_overflow_to_infinity_at_the_threshold),
        cmocka_unit_test(rounding_happens_once),
        cmocka_unit_test(integers_saturate_and_round_to_even),
        cmocka_unit_test(ulp_is_the_spacing_of_values),
        cmocka_unit_test(e4m3_is_what_its_standard_says),
        cmocka_unit_test(names_and_dlpack_types_round_trip),
    };
    return cmocka_run_group_tests_name("dtype", tests, NULL, NULL);
}
