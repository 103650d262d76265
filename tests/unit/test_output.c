/* Files that are written whole: the new one, or the old one. */
#include "runtime/output.h"

#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static char directory[32], path[64];

static int make_directory(void **unused) {
    (void)unused;
    snprintf(directory, sizeof directory, "/tmp/fovea-output-XXXXXX");
    if (!mkdtemp(directory)) return -1;
    snprintf(path, sizeof path, "%s/file", directory);
    return 0;
}

static int remove_directory(void **unused) {
    (void)unused;
    unlink(path);
    return rmdir(directory); /* fails if anything else was left */
}

static void expect_content(const char *text) {
    char found[16] = "";
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fread(found, 1, sizeof found, file), strlen(text));
    assert_memory_equal(found, text, strlen(text));
    fclose(file);
}

static fovea_status write_bytes(char byte, int count, int error, fovea_message *message) {
    fovea_output output;
    assert_int_equal(fovea_output_open(path, &output, message), FOVEA_OK);
    for (int i = 0; i < count; i++) putc(byte, output.stream);
    return fovea_output_close(&output, error, message);
}

static void test_a_file_is_replaced(void **unused) {
    (void)unused;
    fovea_message message;
    assert_int_equal(write_bytes('a', 3, 0, &message), FOVEA_OK);
    assert_int_equal(write_bytes('b', 2, 0, &message), FOVEA_OK);
    expect_content("bb");
}

static void test_what_cannot_be_written_leaves_the_old(void **unused) {
    (void)unused;
    fovea_message message;
    struct rlimit before, small = {100, 100};
    assert_int_equal(write_bytes('a', 3, 0, &message), FOVEA_OK);
    assert_int_equal(write_bytes('b', 3, ENOMEM, &message), FOVEA_FILE_ERROR);
    expect_content("aaa");

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    small.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    fovea_status status = write_bytes('b', 100000, 0, &message);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(status, FOVEA_FILE_ERROR);
    assert_non_null(strstr(message.text, path));
    assert_non_null(strstr(message.text, strerror(EFBIG)));
    expect_content("aaa");
}

/* Whatever its writer and later writes say. */
static void test_the_first_error_is_the_reason(void **unused) {
    (void)unused;
    fovea_message message;
    fovea_output output;
    struct rlimit before, small = {100, 100};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    small.rlim_max = before.rlim_max;
    for (int error = 0; error <= ENOMEM; error += ENOMEM) {
        assert_int_equal(write_bytes('a', 3, 0, &message), FOVEA_OK);
        assert_int_equal(fovea_output_open(path, &output, &message), FOVEA_OK);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        for (int i = 0; i < 100000; i++) putc('b', output.stream);
        fflush(output.stream);
        setrlimit(RLIMIT_FSIZE, &before);
        assert_int_equal(fovea_output_close(&output, error, &message), FOVEA_FILE_ERROR);
        assert_non_null(strstr(message.text, strerror(EFBIG)));
        expect_content("aaa");
    }
}

static void test_a_check_leaves_nothing(void **unused) {
    (void)unused;
    fovea_message message;
    assert_int_equal(fovea_output_check(path, &message), FOVEA_OK);
    assert_int_equal(write_bytes('a', 3, 0, &message), FOVEA_OK);
    assert_int_equal(fovea_output_check(path, &message), FOVEA_OK);
    expect_content("aaa");
    assert_int_equal(fovea_output_check("/dev/null", &message), FOVEA_FILE_ERROR);
    assert_non_null(strstr(message.text, "/dev/null is not a regular file"));
    assert_int_equal(fovea_output_check("", &message), FOVEA_FILE_ERROR);
    assert_int_equal(fovea_output_check("/no/such/file", &message), FOVEA_FILE_ERROR);
    assert_non_null(strstr(message.text, "/no/such/file cannot be written: No such file"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_file_is_replaced, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_written_leaves_the_old, make_directory,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(test_the_first_error_is_the_reason, make_directory,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(test_a_check_leaves_nothing, make_directory,
                                        remove_directory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
