/* Many contexts at once, each used by one thread: what the library shares is set once. */
#include "tensors.h"
#include "test.h"

#include <fovea/fovea.h>
#include <pthread.h>
#include <string.h>

enum { THREADS = 4, COUNT = 999 };

static void *work(void *user) {
    float *failures = user;
    static float x[COUNT];
    float y[COUNT];
    DLTensor input = TENSOR(x, FOVEA_F32, COUNT), output = TENSOR(y, FOVEA_F32, COUNT);
    fovea_context *context;
    fovea_context_options options;
    fovea_context_options_default(&options);
    options.threads = 1;
    options.routes = "";
    if (fovea_context_create(&options, &context) != FOVEA_OK) return *failures = 1, NULL;
    fovea_use(context, NULL, "reference/scalar/double");
    for (int i = 0; i < 20; i++) {
        if (fovea_map_add(context, &input, &input, &output, NULL) != FOVEA_OK) *failures += 1;
        output.ndim = 9;
        if (fovea_map_add(context, &input, &input, &output, NULL) == FOVEA_OK) *failures += 1;
        if (strcmp(fovea_last_message(context), "y has 9 dimensions; 0 to 8 are served") != 0)
            *failures += 1;
        output.ndim = 1;
    }
    fovea_use(context, NULL, NULL);
    fovea_map_add(context, &input, &input, &output, NULL);
    fovea_statistics statistics;
    fovea_kernel_statistics(context, "map_add", &statistics);
    if (statistics.calls + statistics.failures != 41) *failures += 1;
    fovea_context_destroy(context);
    return NULL;
}

static void contexts_are_independent(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    float failures[THREADS] = {0};
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, work, &failures[t]), 0);
    for (int t = 0; t < THREADS; t++) {
        pthread_join(threads[t], NULL);
        assert_true(failures[t] == 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(contexts_are_independent)};
    return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
