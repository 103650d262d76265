/* A CUDA device through the public door: what goes wrong is a sentence and leaves the context usable,
 * and calls can be captured in a graph and replayed. Without a device: the sentence that says so. */
#include "cuda/load.h"
#include "cuda_context.h"
#include "test.h"

#include <fovea/fovea.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 100000 };

static const fovea_cuda_backend *cuda;
static float *values; /* on the host */

static DLTensor tensor_on(void *data, int64_t *shape, DLDevice device) {
    return (DLTensor){
        .data = data, .device = device, .ndim = 1, .dtype = {kDLFloat, 32, 1}, .shape = shape};
}

/* False, and the test is skipped, where there is no device. */
static bool begin(void) {
    fovea_message message;
    int previous;
    cuda = fovea_cuda_get();
    if (!cuda || cuda->open(0, &message) != FOVEA_OK) return false;
    assert_int_equal(cuda->enter(0, &previous, &message), FOVEA_OK);
    assert_int_equal(create(0, NULL), FOVEA_OK);
    if (!values) values = malloc(COUNT * sizeof *values);
    return true;
}

static void without_a_device_a_sentence_says_why(void **state) {
    (void)state;
    if (begin()) skip();
    assert_int_not_equal(create(0, NULL), FOVEA_OK);
    assert_null(context);
    assert_true(strlen(fovea_last_message(NULL)) > 10);
}

static void a_device_that_is_not_there_is_refused(void **state) {
    (void)state;
    if (!begin()) skip();
    assert_int_equal(create(63, NULL), FOVEA_INVALID_ARGUMENT);
    assert_non_null(strstr(fovea_last_message(NULL), "no CUDA device 63"));
}

static void a_host_pointer_called_a_device_tensor_is_refused(void **state) {
    (void)state;
    if (!begin()) skip();
    int64_t shape[] = {COUNT};
    char *data = cuda->allocate(2 * COUNT * 4);
    DLTensor x = tensor_on(values, shape, (DLDevice){kDLCUDA, 0});
    DLTensor y = tensor_on(data, shape, (DLDevice){kDLCUDA, 0});
    assert_int_equal(fovea_map_exp(context, &x, &y, NULL), FOVEA_INVALID_ARGUMENT);
    assert_non_null(strstr(fovea_last_message(context), "x says it is on CUDA device 0"));
    assert_non_null(strstr(fovea_last_message(context), "memory of the host"));
    x.data = data + COUNT * 4;
    assert_int_equal(fovea_map_exp(context, &x, &y, NULL), FOVEA_OK);
    assert_int_equal(fovea_synchronize(context), FOVEA_OK);
    cuda->release(data);
}

static void tensors_of_two_places_are_refused(void **state) {
    (void)state;
    if (!begin()) skip();
    int64_t shape[] = {COUNT};
    char *data = cuda->allocate(COUNT * 4);
    DLTensor x = tensor_on(values, shape, (DLDevice){kDLCPU, 0});
    DLTensor y = tensor_on(data, shape, (DLDevice){kDLCUDA, 0});
    assert_int_equal(fovea_map_exp(context, &x, &y, NULL), FOVEA_INVALID_ARGUMENT);
    assert_string_equal(fovea_last_message(context),
                        "y is on CUDA device 0, x is on the CPU; all must be on one");
    y = tensor_on(values, shape, (DLDevice){kDLCPU, 0});
    assert_int_equal(fovea_map_exp(context, &x, &y, NULL), FOVEA_INVALID_ARGUMENT);
    cuda->release(data);
}

static void heads_that_are_too_large_are_refused(void **state) {
    (void)state;
    if (!begin()) skip();
    int64_t shape[] = {1, 1, 16, 264};
    size_t bytes = 16 * 264 * 2;
    DLTensor tensors[4];
    char *data = cuda->allocate(4 * bytes);
    for (int t = 0; t < 4; t++)
        tensors[t] = (DLTensor){.data = data + (size_t)t * bytes,
                                .device = {kDLCUDA, 0},
                                .ndim = 4,
                                .dtype = {kDLFloat, 16, 1},
                                .shape = shape};
    assert_int_equal(
        fovea_attention(context, &tensors[0], &tensors[1], &tensors[2], &tensors[3], NULL),
        FOVEA_UNSUPPORTED);
    assert_non_null(strstr(fovea_last_message(context), "it serves head sizes up to 256"));
    shape[3] = 256;
    assert_int_equal(
        fovea_attention(context, &tensors[0], &tensors[1], &tensors[2], &tensors[3], NULL),
        FOVEA_OK);
    assert_int_equal(fovea_synchronize(context), FOVEA_OK);
    cuda->release(data);
}

static void calls_are_captured_and_replayed(void **state) {
    (void)state;
    if (!begin()) skip();
    fovea_message message;
    int64_t shape[] = {COUNT}, one[] = {1};
    void *stream = fovea_context_stream(context), *graph = NULL;
    char *data = cuda->allocate((COUNT + 64) * 4);
    float sum = 0;
    DLTensor x = tensor_on(data, shape, (DLDevice){kDLCUDA, 0});
    DLTensor y = tensor_on(data + COUNT * 4, one, (DLDevice){kDLCUDA, 0});
    y.ndim = 0;
    for (int i = 0; i < COUNT; i++) values[i] = 1;
    assert_int_equal(cuda->copy_in(data, values, COUNT * 4, stream, &message), FOVEA_OK);
    /* Scratch that would have to grow while a stream is captured is refused with a sentence. */
    assert_int_equal(cuda->capture_begin(stream, &message), FOVEA_OK);
    assert_int_equal(fovea_reduce_sum(context, &x, &y, NULL), FOVEA_OUT_OF_MEMORY);
    assert_non_null(strstr(fovea_last_message(context), "captured"));
    assert_int_equal(cuda->capture_end(stream, &graph, &message), FOVEA_OK);
    cuda->graph_destroy(graph);
    assert_int_equal(fovea_reduce_sum(context, &x, &y, NULL), FOVEA_OK);
    assert_int_equal(cuda->capture_begin(stream, &message), FOVEA_OK);
    assert_int_equal(fovea_reduce_sum(context, &x, &y, NULL), FOVEA_OK);
    assert_int_equal(cuda->capture_end(stream, &graph, &message), FOVEA_OK);
    for (int i = 0; i < COUNT; i++) values[i] = 2;
    assert_int_equal(cuda->copy_in(data, values, COUNT * 4, stream, &message), FOVEA_OK);
    assert_int_equal(cuda->graph_launch(graph, stream, &message), FOVEA_OK);
    assert_int_equal(cuda->copy_out(&sum, data + COUNT * 4, 4, stream, &message), FOVEA_OK);
    assert_int_equal(fovea_synchronize(context), FOVEA_OK);
    assert_true(sum == 2.0f * COUNT);
    cuda->graph_destroy(graph);
    cuda->release(data);
}

/* Where the threads of a warp have unlike numbers of rounds, some know of elements that others do not: among zeros a few
 * elements near the ends of such rounds. */
static void the_largest_is_found_where_rounds_end(void **state) {
    (void)state;
    if (!begin()) skip();
    enum { MARKS = 400, ROUND = 132 * 512 * 4, ROUNDS = 24, TRIALS = 3000 };
    fovea_message message;
    void *stream = fovea_context_stream(context);
    float *host = calloc((size_t)ROUND * ROUNDS, sizeof *host);
    char *data = cuda->allocate((size_t)ROUND * ROUNDS * sizeof *host + 16);
    uint64_t random = 88172645463325252u;
    assert_non_null(host);
    assert_int_equal(cuda->fill(data, 0, (size_t)ROUND * ROUNDS * sizeof *host, stream, &message),
                     FOVEA_OK);
    for (int trial = 0; trial < TRIALS; trial++) {
        int64_t marks[MARKS], found = -1, best = -1, shape[1], one[1] = {1};
        for (int m = -1; m < MARKS; m++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            const int64_t draw = (int64_t)(random >> 24);
            if (m < 0) {
                shape[0] = ROUND * (1 + draw % (ROUNDS - 1)) + draw / ROUNDS % ROUND;
                continue;
            }
            marks[m] = shape[0] - 1 - draw % 256 - draw / 256 % ROUNDS * ROUND;
            if (marks[m] < 0) marks[m] = draw % 256;
            if (host[marks[m]] == 0) host[marks[m]] = (float)(1 + draw / 65536 % 100000);
            if (best < 0 || host[marks[m]] > host[best] ||
                (host[marks[m]] == host[best] && marks[m] < best))
                best = marks[m];
        }
        DLTensor x = tensor_on(data, shape, (DLDevice){kDLCUDA, 0}), y = x;
        y.data = data + (size_t)ROUND * ROUNDS * sizeof *host;
        y.ndim = 0, y.shape = one, y.dtype = (DLDataType){kDLInt, 64, 1};
        for (int m = 0; m < MARKS; m++)
            cuda->copy_in(data + marks[m] * 4, &host[marks[m]], 4, stream, &message);
        assert_int_equal(fovea_reduce_argmax(context, &x, &y, NULL), FOVEA_OK);
        assert_int_equal(cuda->copy_out(&found, y.data, 8, stream, &message), FOVEA_OK);
        assert_int_equal(fovea_synchronize(context), FOVEA_OK);
        assert_int_equal(found, best);
        for (int m = 0; m < MARKS; m++) {
            host[marks[m]] = 0;
            cuda->copy_in(data + marks[m] * 4, &host[marks[m]], 4, stream, &message);
        }
    }
    cuda->release(data);
    free(host);
}

static void memory_that_is_not_there_is_no_memory(void **state) {
    (void)state;
    if (!begin()) skip();
    assert_null(cuda->allocate((size_t)1 << 46));
    void *some = cuda->allocate(1);
    assert_non_null(some);
    cuda->release(some);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_device_a_sentence_says_why),
        cmocka_unit_test(a_device_that_is_not_there_is_refused),
        cmocka_unit_test(a_host_pointer_called_a_device_tensor_is_refused),
        cmocka_unit_test(tensors_of_two_places_are_refused),
        cmocka_unit_test(heads_that_are_too_large_are_refused),
        cmocka_unit_test(calls_are_captured_and_replayed),
        cmocka_unit_test(the_largest_is_found_where_rounds_end),
        cmocka_unit_test(memory_that_is_not_there_is_no_memory),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fovea_context_destroy(context);
    free(values);
    return failed;
}
