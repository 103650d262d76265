/* A child that is forked after a call on several threads calls on several threads itself. */
#include "tensors.h"
#include "test.h"

#include <fovea/fovea.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROWS = 1 << 10, COLUMNS = 1 << 10 };
static float x[ROWS][COLUMNS], y[ROWS][COLUMNS];

static fovea_status exponentiate(fovea_context *context) {
    DLTensor from = TENSOR(x, FOVEA_F32, ROWS, COLUMNS), to = TENSOR(y, FOVEA_F32, ROWS, COLUMNS);
    return fovea_map_exp(context, &from, &to, NULL);
}

/* Threads that the last call used, by what the context reports; 0 if it failed. */
static int threads_of_a_call(fovea_context *context) {
    fovea_call_report report;
    if (exponentiate(context) != FOVEA_OK) return 0;
    return fovea_last_call(context, &report) == FOVEA_OK ? report.threads : 0;
}

static int in_a_child(fovea_context *context) {
    pid_t child = fork();
    if (child == 0) {
        alarm(20); /* what hangs is ended, and seen */
        _exit(threads_of_a_call(context));
    }
    int status = 0;
    assert_true(child > 0 && waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void children_call_on_as_many_threads(void **state) {
    (void)state;
    fovea_context_options options;
    fovea_context *context;
    fovea_context_options_default(&options);
    options.threads = 4;
    assert_int_equal(fovea_context_create(&options, &context), FOVEA_OK);
    assert_int_equal(threads_of_a_call(context), 4);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(in_a_child(context), 4);
        assert_int_equal(threads_of_a_call(context),
                         4); /* so can the parent, after it has forked */
    }
    fovea_context_destroy(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(children_call_on_as_many_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
