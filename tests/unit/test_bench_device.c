/* Arms on a device, without one: a backend that computes in host memory and keeps a device's time, in which
 * calls cost what they are said to cost, more where little else was done lately than where much was,
 * and more where its cache holds nothing of their tensors. What the tool makes of it must be just these costs. */
#define _GNU_SOURCE
#include "bench_arms.h"
#include "test.h"

#include "router/registry.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { NODES_MAX = 4096, BLOCKS_MAX = 64 };
static const double cool_call = 150e-6, hot_factor = 1.25, cold_factor = 2, hot_after = 80e-3,
                    copy_seconds = 2e-3;
static const size_t cache_bytes = 30000;

/* ---- The device ----------------------------------------------------------------------------- */

/* A call is known by where its first tensor begins. */
typedef struct graph {
    const char *nodes[NODES_MAX];
    int count;
} graph;

static struct {
    const char *tensors;
    double moved; /* bytes through the cache when it was called last */
} called[NODES_MAX];
static int called_count;
static double moved_bytes;

static double busy_until, busy_since; /* the device's time; busy without a rest since */
static graph *captured;
static int launches, replays, fills, events_alive, blocks_alive, graphs_alive;
static double heat_seen; /* the longest time that it was kept busy */

/* The work of the device begins when it is enqueued, or when what was before it ends. */
static void spend(double seconds) {
    double now = fovea_seconds_now();
    if (now > busy_until + 10e-3) busy_since = now;
    if (now > busy_until) busy_until = now;
    busy_until += seconds;
    heat_seen = fmax(heat_seen, busy_until - busy_since);
}

/* Whether others moved as much as the cache holds since these tensors were met; they are then. */
static bool is_cold(const char *tensors) {
    int i = 0;
    while (i < called_count && called[i].tensors != tensors) i++;
    bool cold = i < called_count && moved_bytes - called[i].moved >= (double)cache_bytes;
    if (i == called_count) called[called_count++].tensors = tensors;
    moved_bytes += 12000; /* of an addition of 1000 elements */
    called[i].moved = moved_bytes;
    return cold;
}

static void one_call(const char *tensors) {
    bool hot = busy_until - busy_since > hot_after;
    launches++;
    spend(cool_call * (hot ? hot_factor : 1) * (is_cold(tensors) ? cold_factor : 1));
}

static fovea_status fake_open(int device, fovea_message *message) {
    (void)device, (void)message;
    return FOVEA_OK;
}
static int fake_capability(int device) { return (void)device, 90; }
static fovea_status fake_describe(int device, fovea_cuda_device *facts, fovea_message *message) {
    (void)device, (void)message;
    *facts = (fovea_cuda_device){
        .name = "none", .capability = 90, .memory_bytes = 1 << 30, .l2_bytes = cache_bytes};
    return FOVEA_OK;
}
static fovea_status fake_enter(int device, int *previous, fovea_message *message) {
    (void)message;
    *previous = device;
    return FOVEA_OK;
}
static void fake_leave(int device, int previous) { (void)device, (void)previous; }
static void *fake_allocate(size_t bytes) { return blocks_alive++, malloc(bytes + 1); }
static void fake_release(void *memory) { blocks_alive--, free(memory); }
static fovea_status fake_copy(void *to, const void *from, size_t bytes, void *stream,
                              fovea_message *message) {
    (void)stream, (void)message;
    memcpy(to, from, bytes);
    spend(copy_seconds);
    return FOVEA_OK;
}
static fovea_status fake_fill(void *to, int byte, size_t bytes, void *stream,
                              fovea_message *message) {
    (void)stream, (void)message;
    memset(to, byte, bytes);
    moved_bytes += (double)bytes;
    fills += bytes == 4 * cache_bytes; /* others are of outputs and scratch memory */
    spend(20e-6);
    return FOVEA_OK;
}
static fovea_status fake_stream_create(void **stream, fovea_message *message) {
    (void)message;
    *stream = &busy_until;
    return FOVEA_OK;
}
static void fake_stream_destroy(void *stream) { (void)stream; }
static fovea_status fake_synchronize(void *stream, fovea_message *message) {
    (void)stream, (void)message;
    while (fovea_seconds_now() < busy_until) usleep(50);
    return FOVEA_OK;
}
static bool fake_capturing(void *stream) { return (void)stream, captured != NULL; }
static fovea_status fake_event_create(void **event, fovea_message *message) {
    (void)message;
    *event = malloc(sizeof(double));
    events_alive++;
    return FOVEA_OK;
}
static void fake_event_destroy(void *event) { events_alive--, free(event); }
static fovea_status fake_event_record(void *event, void *stream, fovea_message *message) {
    (void)stream, (void)message;
    spend(0);
    *(double *)event = busy_until;
    return FOVEA_OK;
}
static fovea_status fake_event_seconds(void *start, void *end, double *seconds,
                                       fovea_message *message) {
    fake_synchronize(NULL, message);
    *seconds = *(double *)end - *(double *)start;
    return FOVEA_OK;
}
static fovea_status fake_capture_begin(void *stream, fovea_message *message) {
    (void)stream, (void)message;
    captured = calloc(1, sizeof *captured);
    return FOVEA_OK;
}
static fovea_status fake_capture_end(void *stream, void **made, fovea_message *message) {
    (void)stream, (void)message;
    *made = captured;
    graphs_alive++;
    captured = NULL;
    return FOVEA_OK;
}
static fovea_status fake_graph_launch(void *made, void *stream, fovea_message *message) {
    const graph *g = made;
    (void)stream, (void)message;
    replays++;
    for (int i = 0; i < g->count; i++) one_call(g->nodes[i]);
    return FOVEA_OK;
}
static void fake_graph_destroy(void *made) { graphs_alive--, free(made); }

static const fovea_cuda_backend fake = {.open = fake_open,
                                        .capability = fake_capability,
                                        .describe = fake_describe,
                                        .enter = fake_enter,
                                        .leave = fake_leave,
                                        .allocate = fake_allocate,
                                        .release = fake_release,
                                        .copy_in = fake_copy,
                                        .copy_out = fake_copy,
                                        .fill = fake_fill,
                                        .stream_create = fake_stream_create,
                                        .stream_destroy = fake_stream_destroy,
                                        .synchronize = fake_synchronize,
                                        .capturing = fake_capturing,
                                        .event_create = fake_event_create,
                                        .event_destroy = fake_event_destroy,
                                        .event_record = fake_event_record,
                                        .event_seconds = fake_event_seconds,
                                        .capture_begin = fake_capture_begin,
                                        .capture_end = fake_capture_end,
                                        .graph_launch = fake_graph_launch,
                                        .graph_destroy = fake_graph_destroy};

/* ---- Implementations on it ------------------------------------------------------------------ */

static void launch(const fovea_problem *problem) {
    if (captured)
        captured->nodes[captured->count++] = problem->views[0].data;
    else
        one_call(problem->views[0].data);
}

static void add(const fovea_problem *problem, float last_error) {
    const float *a = (const float *)(const void *)problem->views[0].data;
    const float *b = (const float *)(const void *)problem->views[1].data;
    float *y = (float *)(void *)problem->views[2].data;
    int64_t count = fovea_view_elements(&problem->views[2]);
    for (int64_t i = 0; i < count && !captured; i++) y[i] = a[i] + b[i];
    if (!captured) y[count - 1] += last_error;
}

static fovea_status right(const fovea_problem *problem, fovea_run *run) {
    assert_ptr_equal(run->stream, fovea_tool_stream());
    assert_int_equal(run->workspace_bytes, 100);
    memset(run->workspace, 0, run->workspace_bytes);
    add(problem, 0);
    return launch(problem), FOVEA_OK;
}

/* Six times as long. */
static fovea_status slow(const fovea_problem *problem, fovea_run *run) {
    (void)run;
    add(problem, 0);
    for (int i = 0; i < 6; i++) launch(problem);
    return FOVEA_OK;
}

static fovea_status wrong_at_the_end(const fovea_problem *problem, fovea_run *run) {
    (void)run;
    add(problem, 1e-3f);
    return launch(problem), FOVEA_OK;
}

static fovea_status failing(const fovea_problem *problem, fovea_run *run) {
    (void)problem;
    run->reason = "the device is on fire";
    return FOVEA_DEVICE_ERROR;
}

static fovea_status on_host(const fovea_problem *problem, fovea_run *run) {
    (void)run;
    add(problem, 0);
    return FOVEA_OK;
}

static size_t some_workspace(const fovea_problem *problem, int threads) {
    (void)problem, (void)threads;
    return 100;
}

#define TEST_ROW(label, function)                                                                  \
    .kernel = "map_add", .name = label, .dtypes = 1u << FOVEA_F32, .run = (function),              \
    .device = kDLCUDA
static const fovea_implementation implementations[] = {
    {TEST_ROW("test/device/right", right), .workspace = some_workspace},
    {TEST_ROW("test/device/also", right), .workspace = some_workspace},
    {TEST_ROW("test/device/slow", slow)},
    {TEST_ROW("test/device/wrong", wrong_at_the_end)},
    {TEST_ROW("test/device/failing", failing)},
    {.kernel = "map_add", .name = "test/host", .dtypes = 1u << FOVEA_F32, .run = on_host}};

/* ---- A run ---------------------------------------------------------------------------------- */

static fovea_bench_run run;

static void silent(const fovea_bench_run *r, const fovea_bench_case *c, const char *arm) {
    (void)r, (void)c, (void)arm;
}

static const fovea_bench_row *row_of(const char *part) {
    for (int r = 0; r < run.cases[0].row_count; r++)
        if (strstr(run.cases[0].rows[r].arm, part)) return &run.cases[0].rows[r];
    return NULL;
}

static int begin(void **unused) {
    (void)unused;
    fovea_message message;
    run = (fovea_bench_run){.options = {.suites = "kernels",
                                        .filter = "*/map_add-n1000",
                                        .arms = "test",
                                        .places = 1 << FOVEA_ON_CUDA,
                                        .seed = 3},
                            .threads = 1,
                            .tier = "scalar",
                            .random = 1,
                            .whole_bytes = 5e8};
    if (!fovea_suites_expand(&run, &message) || run.case_count != 1) return 1;
    if (fovea_context_create(NULL, &run.context) != FOVEA_OK) return 1;
    if (fovea_tool_device_use(&fake, 0, &message) != FOVEA_OK) return 1;
    if (fake.describe(0, &run.device, &message) != FOVEA_OK) return 1;
    run.memory = memfd_create("test", MFD_CLOEXEC);
    run.started = fovea_seconds_now();
    fovea_environment_describe(&run);
    return 0;
}

static int end(void **unused) {
    (void)unused;
    fovea_bench_forget(&run.cases[0]);
    fovea_bench_close_device(&run);
    free(run.cases);
    json_decref(run.environment);
    json_decref(run.warnings);
    fovea_context_destroy(run.context);
    close(run.memory);
    return events_alive || blocks_alive || graphs_alive;
}

static void near(double value, double expected) {
    if (!(fabs(value / expected - 1) < 0.1)) fail_msg("%g s, not %g s", value, expected);
}

/* By the host's clock, which others may hold up for long. */
static void at_least(double value, double expected) {
    if (!(value >= 0.999 * expected)) fail_msg("%g s, not %g s or more", value, expected);
}

static void cool_and_hot_are_told_apart(void **unused) {
    (void)unused;
    fovea_bench_measure(&run, &run.cases[0], 2, silent);
    assert_true(run.cases[0].done);
    const fovea_bench_row *row = row_of("right");
    assert_true(row->verified);
    assert_int_equal(row->place, FOVEA_ON_CUDA);
    assert_int_equal(row->scratch_bytes, 100);
    near(row->summary.median, cool_call);
    near(row->hot_summary.median, cool_call * hot_factor);
    assert_true(row->flags & FOVEA_ROW_FITS_L3);
    assert_true(heat_seen > 0.3);
    assert_true(fills == 0 && replays > 0);
    int cool = 0, hot = 0;
    for (int i = 0; i < row->burst_count; i++)
        *(row->bursts[i].hot ? &hot : &cool) += row->bursts[i].count;
    assert_int_equal(cool, row->timings.count);
    assert_int_equal(hot, row->hot.count);
}

/* The slices of the hot state, one of each arm before the next of any; the slow one has none. */
static void hot_arms_take_turns(void **unused) {
    (void)unused;
    const fovea_bench_row *rows[] = {row_of("right"), row_of("also")};
    double at[2][8];
    int slices[2] = {0, 0};
    for (int r = 0; r < 2; r++)
        for (int i = 0; i < rows[r]->burst_count; i++)
            if (rows[r]->bursts[i].hot) at[r][slices[r]++] = rows[r]->bursts[i].at;
    assert_int_equal(slices[0], slices[1]);
    assert_true(slices[0] >= 3 && slices[0] <= 8);
    for (int i = 0; i + 1 < slices[0]; i++) {
        assert_true(fmax(at[0][i], at[1][i]) < fmin(at[0][i + 1], at[1][i + 1]));
        assert_true(fabs(at[0][i] - at[1][i]) < 0.2);
    }
    near(rows[1]->hot_summary.median, rows[0]->hot_summary.median);
    assert_true(row_of("slow")->timings.count > 0);
    near(row_of("slow")->summary.median, 6 * cool_call);
    assert_int_equal(row_of("slow")->hot.count, 0);
}

static void the_wrong_and_the_failing_are_not_timed(void **unused) {
    (void)unused;
    assert_false(row_of("wrong")->verified);
    assert_int_equal(row_of("wrong")->timings.count, 0);
    assert_non_null(strstr(row_of("wrong")->reason, "y[999]"));
    assert_false(row_of("failing")->verified);
    assert_non_null(strstr(row_of("failing")->reason, "on fire"));
    assert_int_equal(fovea_wrong_rows(&run), 2);
}

static void the_file_has_both_states(void **unused) {
    (void)unused;
    json_t *document = fovea_bench_to_json(&run), *row = NULL;
    for (size_t i = 0; i < json_array_size(json_object_get(document, "rows")); i++) {
        json_t *one = json_array_get(json_object_get(document, "rows"), i);
        if (strstr(json_string_value(json_object_get(one, "arm")), "right")) row = one;
    }
    assert_string_equal(json_string_value(json_object_get(row, "backend")), "cuda");
    const json_t *hot = json_object_get(row, "hot");
    assert_int_equal(json_array_size(json_object_get(hot, "samples")), row_of("right")->hot.count);
    assert_true(json_array_size(json_object_get(row, "bursts")) >= 2);
    assert_true(json_integer_value(
                    json_object_get(json_object_get(row, "transfers"), "sent_bytes")) == 8000);
    assert_true(json_is_null(
        json_object_get(json_array_get(json_object_get(row, "bursts"), 0), "power_watts")));
    json_decref(document);
}

static const fovea_bench_row *measure_cold(const char *by, int sets) {
    fovea_bench_forget(&run.cases[0]);
    run.cases[0].cold = true;
    launches = replays = fills = called_count = 0;
    fovea_bench_measure(&run, &run.cases[0], 2, silent);
    const fovea_bench_row *row = row_of("right");
    near(row->summary.median, cool_call * cold_factor);
    assert_true(row->flags & FOVEA_ROW_COLD);
    json_t *document = fovea_bench_to_json(&run);
    const json_t *written = json_array_get(json_object_get(document, "rows"), 0);
    assert_string_equal(json_string_value(json_object_get(written, "cold_by")), by);
    assert_int_equal(json_integer_value(json_object_get(written, "sets")), sets);
    json_decref(document);
    return row;
}

/* The slow one, whose call is six on the same tensors, is cold in the first of them alone. */
static void cold_calls_take_turns_over_sets(void **unused) {
    (void)unused;
    int sets = 1 + (int)ceil(2.0 * (double)cache_bytes / 12000);
    measure_cold("rotation", sets);
    near(row_of("slow")->summary.median, cool_call * (cold_factor + 5));
    assert_int_equal(fills, 0);
    assert_true(replays > 0 && launches > 3 * sets);
}

/* Where the device has no memory for so many sets. */
static void else_cold_calls_are_flushed_before(void **unused) {
    (void)unused;
    run.device.memory_bytes = cache_bytes;
    const fovea_bench_row *row = measure_cold("flush", 1);
    assert_true(fills >= row->timings.count);
}

/* What the tool prints of the suite. */
static char *printed(void) {
    static char text[1 << 16];
    FILE *file = tmpfile();
    fflush(stdout);
    int before = dup(STDOUT_FILENO);
    dup2(fileno(file), STDOUT_FILENO);
    fovea_bench_print_suite(&run, "kernels");
    dup2(before, STDOUT_FILENO);
    close(before);
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    return text;
}

/* Beside arms on the processor the library's choice also brings two inputs there and an output back. */
static void the_way_there_and_back_is_measured(void **unused) {
    (void)unused;
    fovea_bench_forget(&run.cases[0]);
    run.cases[0].cold = false;
    run.options.places |= 1 << FOVEA_ON_CPU;
    setenv("COLUMNS", "160", 1);
    fovea_bench_measure(&run, &run.cases[0], 2, silent);
    assert_true(row_of("test/host")->verified && row_of("test/host")->place == FOVEA_ON_CPU);
    const fovea_bench_row *row = row_of("right"), *other = row_of("also");
    near(row->summary.median, cool_call);
    at_least(row->journey_summary.minimum, 3 * copy_seconds + cool_call);
    assert_true(row->journey_summary.median >= row->journey_summary.minimum);
    assert_true(row->journey_summary.count >= 1);
    assert_int_equal(other->journey_summary.count, 0);
    at_least(row->journey.there.values[0], 2 * copy_seconds);
    at_least(row->journey.back.values[0], copy_seconds);
    at_least(run.cases[0].sent_seconds, 2 * copy_seconds);
    at_least(run.cases[0].fetched_seconds, copy_seconds);
    json_t *document = fovea_bench_to_json(&run);
    int travelled = 0;
    for (size_t i = 0; i < json_array_size(json_object_get(document, "rows")); i++) {
        const json_t *written = json_array_get(json_object_get(document, "rows"), i);
        const json_t *whole = json_object_get(written, "with_transfers");
        if (!json_object_get(whole, "median")) continue;
        assert_string_equal(json_string_value(json_object_get(written, "arm")), row->arm);
        assert_int_equal(json_array_size(json_object_get(whole, "samples")),
                         row->journey_summary.count);
        travelled++;
    }
    json_decref(document);
    assert_int_equal(travelled, 1);
    const char *text = printed();
    assert_non_null(strstr(text, "with transfers"));
    assert_non_null(strstr(text, "11.7 KiB"));
    assert_non_null(strstr(text, "below the processor's in 0 of 1 cases"));
    run.options.places = 1 << FOVEA_ON_CUDA;
    assert_null(strstr(printed(), "with transfers"));
}

/* More cases than there are slots: each is given out once, with its own tensors, and none waits for another. */
static void cases_are_prepared_ahead(void **unused) {
    (void)unused;
    fovea_message message;
    fovea_bench_run many = run;
    many.cases = NULL, many.case_count = 0;
    many.options.filter = "*/map_*-n1000";
    many.threads = 4;
    assert_true(fovea_suites_expand(&many, &message) && many.case_count > 16);
    assert_true(fovea_bench_prepare_ahead(&many));
    for (int n = 0, first = 0; n < many.case_count; n++) {
        int i = fovea_bench_next(&many, first);
        assert_in_range(i, first, many.case_count - 1);
        assert_false(many.cases[i].begun);
        many.cases[i].begun = true;
        while (first < many.case_count && many.cases[first].begun) first++;
        fovea_prepared *p = fovea_bench_prepared(&many, &many.cases[i]);
        assert_non_null(p);
        assert_string_equal(p->problem, "");
        assert_int_equal(p->samples[0].problem.index, many.cases[i].definition.index);
        assert_true((char *)p->samples[0].storage[0] >= many.mapping + p->first);
        assert_true((char *)p->samples[0].storage[0] + p->samples[0].bytes[0] <=
                    many.mapping + p->first + p->used);
        fovea_bench_release_prepared(&many, p);
    }
    assert_true(fovea_bench_prepare_end(&many));
    free(many.cases);
    run.mapping = many.mapping;
}

int main(void) {
    for (size_t i = 0; i < sizeof implementations / sizeof *implementations; i++)
        if (!fovea_implementation_register(&implementations[i])) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cool_and_hot_are_told_apart),
        cmocka_unit_test(hot_arms_take_turns),
        cmocka_unit_test(the_wrong_and_the_failing_are_not_timed),
        cmocka_unit_test(the_file_has_both_states),
        cmocka_unit_test(cold_calls_take_turns_over_sets),
        cmocka_unit_test(else_cold_calls_are_flushed_before),
        cmocka_unit_test(the_way_there_and_back_is_measured),
        cmocka_unit_test(cases_are_prepared_ahead),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
