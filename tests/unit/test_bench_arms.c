/* Verify, then time: a wrong implementation and a wrong peer are refused before a sample is taken, a
 * right one is timed, and an interrupt ends a case early with what there is. */
#define _GNU_SOURCE
#include "bench_arms.h"
#include "test.h"

#include "router/registry.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static bool interrupt_soon;

static void add(const fovea_problem *problem, float last_error, int64_t written) {
    const float *a = (const float *)(const void *)problem->views[0].data;
    const float *b = (const float *)(const void *)problem->views[1].data;
    float *y = (float *)(void *)problem->views[2].data;
    int64_t count = fovea_view_elements(&problem->views[2]);
    for (int64_t i = 0; i < count && i < written; i++) y[i] = a[i] + b[i];
    if (last_error != 0) y[count - 1] += last_error;
}

static fovea_status right(const fovea_problem *problem, fovea_run *run) {
    run->threads = 1;
    add(problem, 0, INT64_MAX);
    if (interrupt_soon) raise(SIGINT);
    return FOVEA_OK;
}

static fovea_status wrong_at_the_end(const fovea_problem *problem, fovea_run *run) {
    run->threads = 1;
    add(problem, 1e-3f, INT64_MAX);
    return FOVEA_OK;
}

static fovea_status unfinished(const fovea_problem *problem, fovea_run *run) {
    run->threads = 1;
    add(problem, 0, 900);
    return FOVEA_OK;
}

static fovea_status failing(const fovea_problem *problem, fovea_run *run) {
    (void)problem, (void)run;
    return FOVEA_DEVICE_ERROR;
}

#define TEST_ROW(label, function)                                                                  \
    { .kernel = "map_add", .name = label, .dtypes = 1u << FOVEA_F32, .run = (function) }
static const fovea_implementation implementations[] = {
    TEST_ROW("test/scalar/right", right), TEST_ROW("test/scalar/wrong", wrong_at_the_end),
    TEST_ROW("test/scalar/unfinished", unfinished), TEST_ROW("test/scalar/failing", failing)};

static fovea_bench_run run;

static void silent(const fovea_bench_run *r, const fovea_bench_case *c, const char *arm) {
    (void)r, (void)c, (void)arm;
}

static const fovea_bench_row *row_of(const char *part) {
    for (int r = 0; r < run.cases[0].row_count; r++)
        if (strstr(run.cases[0].rows[r].arm, part)) return &run.cases[0].rows[r];
    return NULL;
}

/* A peer that says yes to everything and computes nothing. */
#define LIAR                                                                                       \
    "while read line <&3; do case $line in *run*) s=0.001; echo '{\"ok\": true, \"seconds\": "     \
    "[0.001]}' >&4;; *) echo '{\"ok\": true, \"first\": 0.001}' >&4;; esac; done"

static int begin(void **unused) {
    (void)unused;
    fovea_message message;
    const char *command[] = {"sh", "-c", LIAR, "sh", NULL};
    run = (fovea_bench_run){.options = {.suites = "kernels",
                                        .filter = "map_add-n1000",
                                        .arms = "test,peer",
                                        .places = 1 << FOVEA_ON_CPU,
                                        .seed = 3},
                            .threads = 1,
                            .tier = "scalar",
                            .random = 1,
                            .whole_bytes = 5e8};
    run.options.filter = "*/map_add-n1000";
    if (!fovea_suites_expand(&run, &message) || run.case_count != 1) return 1;
    if (fovea_context_create(NULL, &run.context) != FOVEA_OK) return 1;
    run.memory = memfd_create("test", MFD_CLOEXEC);
    run.started = fovea_seconds_now();
    fovea_environment_describe(&run);
    run.peer_count = 1;
    snprintf(run.peers[0].name, sizeof run.peers[0].name, "liar");
    run.peers[0].process =
        fovea_peer_start("liar", command, 1, NULL, run.memory, run.peers[0].reason);
    return !run.peers[0].process;
}

static int end(void **unused) {
    (void)unused;
    fovea_bench_end_peers(&run);
    fovea_bench_forget(&run.cases[0]);
    free(run.cases);
    json_decref(run.environment);
    json_decref(run.warnings);
    fovea_context_destroy(run.context);
    close(run.memory);
    return 0;
}

static void refused(const char *part, const char *word) {
    const fovea_bench_row *row = row_of(part);
    assert_non_null(row);
    assert_false(row->verified);
    assert_int_equal(row->timings.count, 0);
    if (!strstr(row->reason, word)) fail_msg("«%s» does not say «%s»", row->reason, word);
}

static void test_only_the_right_one_is_timed(void **unused) {
    (void)unused;
    fovea_bench_measure(&run, &run.cases[0], 0.3, silent);
    assert_true(run.cases[0].done);
    const fovea_bench_row *row = row_of("test/scalar/right");
    assert_true(row->verified);
    assert_true(row->timings.count >= 3);
    assert_true(row->summary.median > 0 && row->summary.median < 1e-3);
    refused("test/scalar/wrong", "y[999]");
    refused("test/scalar/unfinished", "y[");
    refused("test/scalar/failing", "device error");
    refused("peer/liar", "beyond");
    assert_int_equal(fovea_wrong_rows(&run), 3);
    assert_ptr_equal(fovea_best_row(&run.cases[0], FOVEA_ON_CPU, false), row);
    assert_null(fovea_best_row(&run.cases[0], FOVEA_ON_CPU, true));
    assert_true(isfinite(run.cases[0].noise_ratio) && run.cases[0].noise_ratio > 0);
}

static void test_the_file_says_so(void **unused) {
    (void)unused;
    fovea_message message;
    char directory[] = "/tmp/fovea-bench-XXXXXX", path[64];
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/samples.json", directory);
    assert_true(fovea_bench_write_json(&run, path, &message));
    json_t *document = json_load_file(path, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(document, "format")), 1);
    const json_t *rows = json_object_get(document, "rows");
    int verified = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        verified += json_is_true(json_object_get(row, "verified"));
        assert_int_equal(json_array_size(json_object_get(row, "samples")) > 0,
                         json_is_true(json_object_get(row, "verified")));
    }
    assert_int_equal(verified, 1);
    json_decref(document);
    unlink(path);
    rmdir(directory);
    assert_false(fovea_bench_write_json(&run, path, &message));
    assert_non_null(strstr(message.text, path));
    assert_false(fovea_bench_write_json(&run, "/dev/null", &message));
    assert_non_null(strstr(message.text, "regular"));
}

static void test_text_of_any_origin_is_kept(void **unused) {
    (void)unused;
    static const char *const texts[][2] = {{"", ""},
                                           {"«a»", "«a»"},
                                           {"cut: \xc2", "cut: ?"},
                                           {"\xff\xc2\xab\xe2\x82", "?«??"},
                                           {"\xed\xa0\x80", "???"}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        json_t *text = fovea_json_text(texts[i][0]);
        assert_string_equal(json_string_value(text), texts[i][1]);
        json_decref(text);
    }
    fovea_bench_row *row = &run.cases[0].rows[0];
    char before[sizeof row->reason];
    memcpy(before, row->reason, sizeof before);
    snprintf(row->reason, sizeof row->reason, "cut within \xc2");
    json_t *document = fovea_bench_to_json(&run);
    const json_t *first = json_array_get(json_object_get(document, "rows"), 0);
    assert_string_equal(json_string_value(json_object_get(first, "reason")), "cut within ?");
    json_decref(document);
    memcpy(row->reason, before, sizeof before);
}

/* Rather than with members missing. */
static void test_a_document_without_memory_is_not_written(void **unused) {
    (void)unused;
    enum { MANY = 2000000 };
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* their allocators end the process */
#endif
    fovea_message message;
    char path[] = "/tmp/fovea-bench-XXXXXX", text[64] = "";
    fovea_bench_row *row = &run.cases[0].rows[0];
    fovea_timings before = row->timings;
    struct rlimit all, few;
    int file = mkstemp(path);
    double *values = calloc(MANY, sizeof *values);
    long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    assert_int_equal(fscanf(statm, "%ld", &pages), 1);
    fclose(statm);
    assert_int_equal(write(file, "old", 3), 3);
    row->timings = (fovea_timings){.values = values, .count = MANY};
    getrlimit(RLIMIT_AS, &all);
    few = all, few.rlim_cur = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + (24 << 20);
    setrlimit(RLIMIT_AS, &few);
    void *beyond = mmap(NULL, 64 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool limited = beyond == MAP_FAILED; /* an emulator may not keep the limit */
    bool written = limited && fovea_bench_write_json(&run, path, &message);
    setrlimit(RLIMIT_AS, &all);
    row->timings = before;
    free(values);
    assert_int_equal(pread(file, text, sizeof text, 0), 3);
    close(file);
    unlink(path);
    if (!limited) {
        munmap(beyond, 64 << 20);
        skip();
    }
    assert_false(written);
    assert_non_null(strstr(message.text, strerror(ENOMEM)));
}

static void test_slices_find_the_same(void **unused) {
    (void)unused;
    fovea_bench_forget(&run.cases[0]);
    run.whole_bytes = 1;
    fovea_bench_measure(&run, &run.cases[0], 0.3, silent);
    run.whole_bytes = 5e8;
    assert_true(row_of("test/scalar/right")->verified);
    refused("test/scalar/wrong", "y[999]");
    refused("test/scalar/unfinished", "y[");
}

/* Where memory is what binds a case, its tensors are moved in turns with the arms. */
static void test_a_share_of_memory_is_of_turns(void **unused) {
    (void)unused;
    fovea_bench_case *c = &run.cases[0];
    assert_int_equal(c->memory.timings.count, 0); /* nothing is known of the machine so far */
    run.ceilings = (fovea_ceilings){.count = 3,
                                    .items = {{"fma_f32_scalar_t1", 1e15, "FLOP/s", "scalar", 1},
                                              {"read_t1", 1, "B/s", "scalar", 1},
                                              {"copy_t1", 1, "B/s", "scalar", 1}}};
    fovea_bench_forget(c);
    fovea_bench_measure(&run, c, 0.3, silent);
    run.ceilings.count = 0;
    fovea_bench_update_shares(&run);
    const fovea_bench_row *row = row_of("test/scalar/right");
    assert_true(row->verified && row->shares.count >= 3);
    /* The time may be over after the memory's turn of the last round. */
    assert_in_range(c->memory.timings.count - row->shares.count, 0, 1);
    assert_true(c->memory.bytes <= 3 * 4000 && c->memory.bytes > 3 * (4000 - 128));
    fovea_summary shares = fovea_summarise(row->shares.values, row->shares.count);
    assert_true(row->share > 0 && row->share == shares.median);
    /* The ratio of the medians of all is of the size of the ratios: rounds that were disturbed may part them. */
    double ratio = c->bytes / row->summary.median / (c->memory.bytes / c->memory.median);
    assert_true(shares.minimum / 4 <= ratio && ratio <= 4 * shares.maximum);
    json_t *document = fovea_bench_to_json(&run);
    const json_t *memory =
        json_object_get(json_array_get(json_object_get(document, "rows"), 0), "memory");
    assert_int_equal(json_array_size(json_object_get(memory, "shares")), row->shares.count);
    json_decref(document);
}

/* Cold rows of a device are held against what as many bytes take, too; no others are. */
static void test_a_share_at_its_size_is_of_cold_rows(void **unused) {
    (void)unused;
    fovea_bench_case *c = &run.cases[0];
    fovea_bench_row *row = &c->rows[0], kept = *row;
    const double bytes = c->bytes;
    c->bytes = 8e7, c->at_size.writes = true, c->at_size.bytes = 8e7, c->at_size.rate = 4e12;
    row->place = FOVEA_ON_CUDA, row->flags |= FOVEA_ROW_COLD;
    row->summary = (fovea_summary){.count = 3, .median = 25e-6};
    assert_true(fabs(fovea_share_at_size(c, row) - 0.8) < 1e-12);
    json_t *document = fovea_bench_to_json(&run);
    const json_t *written = json_array_get(json_object_get(document, "rows"), 0);
    const json_t *ceiling = json_object_get(written, "ceiling_at_size");
    assert_true(fabs(json_number_value(json_object_get(written, "share_at_size")) - 0.8) < 1e-9);
    assert_string_equal(json_string_value(json_object_get(ceiling, "kind")), "copy");
    assert_true(json_number_value(json_object_get(ceiling, "value")) == 4e12);
    json_decref(document);
    row->flags &= ~(unsigned)FOVEA_ROW_COLD;
    assert_true(fovea_share_at_size(c, row) == 0);
    row->flags |= FOVEA_ROW_COLD, row->place = FOVEA_ON_CPU;
    assert_true(fovea_share_at_size(c, row) == 0);
    row->place = FOVEA_ON_CUDA, c->at_size.rate = 0;
    assert_true(fovea_share_at_size(c, row) == 0);
    *row = kept, c->bytes = bytes;
}

/* How many processors a process sees that is started now. */
static int processors_of_a_child(void) {
    int count = 0;
    FILE *child = popen("unset OMP_NUM_THREADS OMP_THREAD_LIMIT; nproc", "r");
    assert_non_null(child);
    assert_int_equal(fscanf(child, "%d", &count), 1);
    pclose(child);
    return count;
}

static void test_arms_and_peers_share_processors(void **unused) {
    (void)unused;
    const int all = processors_of_a_child();
    fovea_environment_confine(&run);
    assert_int_equal(processors_of_a_child(), run.threads);
    const char *affinity = json_string_value(json_object_get(run.environment, "affinity"));
    if (all > 1) assert_null(strpbrk(affinity, "-,")); /* one */
    fovea_environment_leave_confinement();
    assert_int_equal(processors_of_a_child(), all);
}

static void test_an_interrupt_keeps_what_there_is(void **unused) {
    (void)unused;
    fovea_bench_case *c = &run.cases[0];
    fovea_bench_forget(c);
    fovea_interrupt_catch();
    interrupt_soon = true;
    double start = fovea_seconds_now();
    fovea_bench_measure(&run, c, 20, silent);
    assert_true(fovea_interrupted());
    assert_true(fovea_seconds_now() - start < 15);
    assert_true(c->done);
    assert_true(row_of("test/scalar/right")->verified);
}

int main(void) {
    for (size_t i = 0; i < sizeof implementations / sizeof *implementations; i++)
        if (!fovea_implementation_register(&implementations[i])) return 1;
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_the_right_one_is_timed),
        cmocka_unit_test(test_the_file_says_so),
        cmocka_unit_test(test_text_of_any_origin_is_kept),
        cmocka_unit_test(test_a_document_without_memory_is_not_written),
        cmocka_unit_test(test_slices_find_the_same),
        cmocka_unit_test(test_a_share_of_memory_is_of_turns),
        cmocka_unit_test(test_a_share_at_its_size_is_of_cold_rows),
        cmocka_unit_test(test_arms_and_peers_share_processors),
        cmocka_unit_test(test_an_interrupt_keeps_what_there_is),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
