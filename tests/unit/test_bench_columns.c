/* Tables stay within the window, lose unimportant columns first, and figures read well. */
#include "bench_columns.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

static const fovea_column columns[] = {{"arm", 0, true},
                                       {"time", 9, false},
                                       {"±", 2, false},
                                       {"rate", 5, false},
                                       {"scratch", 1, false}};

static char *print(int width, bool colour, bool utf8) {
    static const fovea_line lines[] = {
        {.cells = {"cpu/avx512/flash", "41.2 µs", "±0.3 %", "205 GFLOP/s", "128 KiB"}},
        {.cells = {"peer/numpy"},
         .note = "wrong: a long story of what is wrong with it, and why",
         .style = FOVEA_BAD},
        {.cells = {"a-very-long-name-of-an-implementation-that-nobody-would-choose", "1 s", "1×",
                   "2"}}};
    char *text = NULL;
    size_t size = 0;
    fovea_screen screen = {open_memstream(&text, &size), width, colour, utf8};
    fovea_columns_print(&screen, columns, 5, lines, 3);
    fovea_screen_wrap(&screen, FOVEA_FAINT,
                      "Some words that are to be wrapped at the window's "
                      "width, with 4·B·Hq·Sq·Sk·D among them, once.");
    fclose(screen.file);
    return text;
}

static void test_no_line_is_too_wide(void **unused) {
    (void)unused;
    for (int width = 40; width <= 160; width++) {
        char *text = print(width, false, true);
        for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
            assert_in_range(fovea_text_width(line), 0, width);
        free(text);
    }
}

static void test_columns_go_by_priority(void **unused) {
    (void)unused;
    char *wide = print(160, false, true), *narrow = print(40, false, true);
    for (int c = 0; c < 5; c++) assert_non_null(strstr(wide, columns[c].title));
    assert_non_null(strstr(narrow, "arm"));
    assert_null(strstr(narrow, "scratch"));
    assert_non_null(strstr(wide, "41.2 µs"));
    assert_non_null(strstr(wide, "nobody-would-choose"));
    free(wide), free(narrow);
}

static void test_colour_only_where_wanted(void **unused) {
    (void)unused;
    char *plain = print(100, false, true), *coloured = print(100, true, true);
    assert_null(strchr(plain, '\033'));
    assert_non_null(strstr(coloured, "\033[31m"));
    assert_non_null(strstr(coloured, "\033[0m"));
    free(plain), free(coloured);
}

static void test_ascii_terminals(void **unused) {
    (void)unused;
    char *text = print(160, false, false);
    for (const char *c = text; *c; c++) assert_true(*c > 0);
    assert_non_null(strstr(text, "41.2 us"));
    free(text);
}

static void figure(const char *actual, const char *expected) {
    assert_string_equal(actual, expected);
}

static void test_figures(void **unused) {
    (void)unused;
    char t[64];
    figure(fovea_seconds_text(4.12e-2, t, sizeof t), "41.2 ms");
    figure(fovea_seconds_text(9.999e-7, t, sizeof t), "1.00 µs");
    figure(fovea_seconds_text(0.99949e-3, t, sizeof t), "999 µs");
    figure(fovea_seconds_text(123.4, t, sizeof t), "123 s");
    figure(fovea_seconds_text(5e-9, t, sizeof t), "5.00 ns");
    figure(fovea_bytes_text(0, t, sizeof t), "0 B");
    figure(fovea_bytes_text(131072, t, sizeof t), "128 KiB");
    figure(fovea_bytes_text(1.5 * 1024 * 1024, t, sizeof t), "1.50 MiB");
    figure(fovea_rate_text(2.05e11, "FLOP/s", t, sizeof t), "205 GFLOP/s");
    figure(fovea_rate_text(9.996e11, "B/s", t, sizeof t), "1.00 TB/s");
}

static void test_screen_honours_the_environment(void **unused) {
    (void)unused;
    FILE *file = tmpfile();
    setenv("COLUMNS", "77", 1);
    fovea_screen screen = fovea_screen_detect(file);
    assert_int_equal(screen.width, 77);
    assert_false(screen.colour);
    setenv("COLUMNS", "9999999", 1);
    screen = fovea_screen_detect(file);
    assert_int_equal(screen.width, 160);
    unsetenv("COLUMNS");
    fclose(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_line_is_too_wide),
        cmocka_unit_test(test_columns_go_by_priority),
        cmocka_unit_test(test_colour_only_where_wanted),
        cmocka_unit_test(test_ascii_terminals),
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_screen_honours_the_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
