/* Implementations that are wrong in one way each: `fovea check` must catch every one of them and
 * say what it does, and must find nothing wrong with a right one or with its neighbours. */
#include "check.h"
#include "router/registry.h"
#include "test.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- A right implementation of map_add, and deviations -------------------------------------- */

static void add_range(const fovea_problem *problem, int64_t first, int64_t end) {
    const fovea_view *views = problem->views;
    for (int64_t i = first; i < end; i++)
        fovea_view_write(&views[2], i,
                         fovea_view_read(&views[0], i) + fovea_view_read(&views[1], i));
}

static int64_t count_of(const fovea_problem *problem) {
    return fovea_view_elements(&problem->views[2]);
}

static fovea_status right(const fovea_problem *problem, fovea_run *run) {
    (void)run;
    add_range(problem, 0, count_of(problem));
    return FOVEA_OK;
}

/* Vectors of eight, and the last element of a tail is forgotten. */
static fovea_status forgets_tail(const fovea_problem *problem, fovea_run *run) {
    (void)run;
    int64_t count = count_of(problem);
    add_range(problem, 0, count % 8 ? count - 1 : count);
    return FOVEA_OK;
}

static fovea_status wrong_in_last(const fovea_problem *problem, fovea_run *run) {
    int64_t count = count_of(problem);
    right(problem, run);
    if (count > 100) fovea_view_write(&problem->views[2], count - 1, 1e30);
    return FOVEA_OK;
}

static fovea_status truncates(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *y = &problem->views[2];
    right(problem, run);
    for (int64_t i = 0; i < count_of(problem) && y->dtype == FOVEA_F32; i++) {
        double value = fovea_view_read(y, i);
        if (value != 0)
            fovea_view_write(y, i, value - copysign(fovea_ulp(FOVEA_F32, value), value));
    }
    return FOVEA_OK;
}

static fovea_status writes_past_end(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *y = &problem->views[2];
    int64_t count = count_of(problem);
    right(problem, run);
    if (count && fovea_view_is_contiguous(y))
        memset(y->data + count * (int64_t)fovea_dtype_size(y->dtype), 0, 4);
    return FOVEA_OK;
}

static fovea_status writes_before_start(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *y = &problem->views[2];
    right(problem, run);
    if (count_of(problem) && fovea_view_is_contiguous(y)) memset(y->data - 4, 0, 4);
    return FOVEA_OK;
}

static fovea_status reads_past_end(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *x = &problem->views[1];
    int64_t count = count_of(problem);
    if (count && fovea_view_is_contiguous(x))
        *(volatile char *)(x->data + (count + 1) * (int64_t)fovea_dtype_size(x->dtype));
    return right(problem, run);
}

/* Writes whole vectors where every second element belongs to somebody else. */
static fovea_status writes_gaps(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *y = &problem->views[2];
    right(problem, run);
    if (count_of(problem) > 1 && y->rank && y->stride[y->rank - 1] == 2)
        memset(y->data + fovea_dtype_size(y->dtype), 0, 1);
    return FOVEA_OK;
}

static fovea_status changes_input(const fovea_problem *problem, fovea_run *run) {
    right(problem, run);
    if (count_of(problem)) fovea_view_write(&problem->views[1], count_of(problem) - 1, 77);
    return FOVEA_OK;
}

/* Right for separate tensors; reads an input again after its output stands there. */
static fovea_status wrong_in_place(const fovea_problem *problem, fovea_run *run) {
    right(problem, run);
    return right(problem, run);
}

static fovea_status aborts(const fovea_problem *problem, fovea_run *run) {
    if (count_of(problem) == 33) abort();
    return right(problem, run);
}

/* The sanitizer would end the process with a report before the system does with a signal. */
__attribute__((no_sanitize("undefined"))) static fovea_status
follows_null(const fovea_problem *problem, fovea_run *run) {
    volatile int *volatile nowhere = NULL;
    if (run->threads == 3) *nowhere = 1;
    return right(problem, run);
}

static fovea_status illegal_instruction(const fovea_problem *problem, fovea_run *run) {
    if (count_of(problem) == 31) raise(SIGILL);
    return right(problem, run);
}

static fovea_status leaves(const fovea_problem *problem, fovea_run *run) {
    if (count_of(problem) == 3) _exit(7);
    return right(problem, run);
}

static fovea_status hangs(const fovea_problem *problem, fovea_run *run) {
    for (volatile int forever = 1; forever && run->threads == 2;) continue;
    return right(problem, run);
}

static fovea_status fails_without_reason(const fovea_problem *problem, fovea_run *run) {
    return count_of(problem) > 1000 ? FOVEA_OUT_OF_MEMORY : right(problem, run);
}

static size_t some_scratch(const fovea_problem *problem, int threads) {
    (void)problem;
    return (size_t)threads * 100 + 4;
}

static fovea_status trusts_scratch(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *y = &problem->views[2];
    float junk;
    memcpy(&junk, run->workspace, sizeof junk);
    right(problem, run);
    if (count_of(problem)) fovea_view_write(y, 0, fovea_view_read(y, 0) + 0 * (double)junk);
    return FOVEA_OK;
}

static fovea_status overruns_scratch(const fovea_problem *problem, fovea_run *run) {
    memset(run->workspace, 0, run->workspace_bytes + 1);
    return right(problem, run);
}

static bool declines_halves(const fovea_problem *problem, char *reason, size_t size) {
    if (problem->dtype == FOVEA_F32) return true;
    return snprintf(reason, size, "halves are not served"), false;
}

/* ---- And of reduce_sum ---------------------------------------------------------------------- */

/* Within the bound, but the order of the sum follows the number of threads. */
static fovea_status order_by_threads(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *x = &problem->views[0], *y = &problem->views[1];
    int64_t count = fovea_view_elements(x);
    float sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (float)fovea_view_read(x, run->threads == 2 ? count - 1 - i : i);
    fovea_view_write(y, 0, (double)sum);
    return FOVEA_OK;
}

/* Accumulates in f16: for sums of few terms the bound alone does not see it. */
static fovea_status narrow_sum(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *x = &problem->views[0], *y = &problem->views[1];
    double sum = 0;
    (void)run;
    for (int64_t i = 0; i < fovea_view_elements(x); i++)
        sum = fovea_round_to(FOVEA_F16, sum + fovea_view_read(x, i));
    fovea_view_write(y, 0, sum);
    return FOVEA_OK;
}

static bool whole_sums_of_f32(const fovea_problem *problem, char *reason, size_t size) {
    if (problem->dtype == FOVEA_F32 && problem->views[1].rank == 0) return true;
    return snprintf(reason, size, "only whole sums of f32"), false;
}

/* ---- All of them ---------------------------------------------------------------------------- */

typedef struct wrong {
    const char *kernel, *name;
    fovea_status (*run)(const fovea_problem *problem, fovea_run *run);
    const char *blame; /* what the report must say; NULL: nothing is wrong */
    const char *text;  /* a case in which it shows; NULL: the quick cases must find it */
    bool (*serves)(const fovea_problem *problem, char *reason, size_t size);
    size_t (*workspace)(const fovea_problem *problem, int threads);
} wrong;

static const wrong wrongs[] = {
    {.kernel = "map_add", .name = "test/scalar/right", .run = right},
    {.kernel = "map_add", .name = "test/scalar/declines", .run = right, .serves = declines_halves},
    {.kernel = "map_add",
     .name = "test/scalar/forgets_tail",
     .run = forgets_tail,
     .blame = "unwritten"},
    {.kernel = "map_add",
     .name = "test/scalar/wrong_in_last",
     .run = wrong_in_last,
     .blame = "1 of "},
    {.kernel = "map_add",
     .name = "test/scalar/truncates",
     .run = truncates,
     .blame = "elements are wrong"},
    {.kernel = "map_add",
     .name = "test/scalar/past_end",
     .run = writes_past_end,
     .blame = "outside y: 1 bytes past the end"},
    {.kernel = "map_add",
     .name = "test/scalar/before_start",
     .run = writes_before_start,
     .blame = "before the start"},
    {.kernel = "map_add",
     .name = "test/scalar/reads_past_end",
     .run = reads_past_end,
     .blame = "outside b: "},
    {.kernel = "map_add",
     .name = "test/scalar/gaps",
     .run = writes_gaps,
     .blame = "outside the elements of y"},
    {.kernel = "map_add",
     .name = "test/scalar/changes_input",
     .run = changes_input,
     .blame = "changes its input b"},
    {.kernel = "map_add",
     .name = "test/scalar/in_place",
     .run = wrong_in_place,
     .blame = "variant=alias"},
    {.kernel = "map_add",
     .name = "test/scalar/aborts",
     .run = aborts,
     .blame = "crashes (Aborted)"},
    {.kernel = "map_add",
     .name = "test/scalar/null",
     .run = follows_null,
     .blame = "crashes (Segmentation fault) with 3 threads"},
    {.kernel = "map_add",
     .name = "test/scalar/illegal",
     .run = illegal_instruction,
     .blame = "crashes (Illegal instruction)"},
    {.kernel = "map_add",
     .name = "test/scalar/leaves",
     .run = leaves,
     .blame = "ends the process with exit code 7"},
    {.kernel = "map_add",
     .name = "test/scalar/hangs",
     .run = hangs,
     .blame = "does not finish within 1 s with 2 threads",
     .text = "n=5"},
    {.kernel = "map_add",
     .name = "test/scalar/fails",
     .run = fails_without_reason,
     .blame = "returns «out of memory»"},
    {.kernel = "map_add",
     .name = "test/scalar/trusts_scratch",
     .run = trusts_scratch,
     .blame = "nan",
     .workspace = some_scratch},
    {.kernel = "map_add",
     .name = "test/scalar/overruns_scratch",
     .run = overruns_scratch,
     .blame = "outside its scratch: 1 bytes past the end",
     .workspace = some_scratch},
    {.kernel = "reduce_sum",
     .name = "test/scalar/order",
     .run = order_by_threads,
     .blame = "differs from run to run",
     .serves = whole_sums_of_f32},
    {.kernel = "reduce_sum",
     .name = "test/scalar/narrow",
     .run = narrow_sum,
     .blame = "elements are wrong",
     .serves = whole_sums_of_f32}};

enum { WRONGS = sizeof wrongs / sizeof *wrongs };

static bool register_all(void) {
    static fovea_implementation table[WRONGS];
    bool enough = true;
    for (int i = 0; i < WRONGS; i++) {
        table[i] = (fovea_implementation){.kernel = wrongs[i].kernel,
                                          .name = wrongs[i].name,
                                          .dtypes = UINT32_MAX,
                                          .only_by_name = true,
                                          .serves = wrongs[i].serves,
                                          .workspace = wrongs[i].workspace,
                                          .run = wrongs[i].run};
        enough &= fovea_implementation_register(&table[i]);
    }
    return enough;
}

static const fovea_check_line *line_of(const fovea_check_report *report, const char *name) {
    for (int i = 0; i < report->count; i++)
        if (strcmp(report->lines[i].implementation, name) == 0 &&
            report->lines[i].passed + report->lines[i].failed > 0)
            return &report->lines[i];
    fail_msg("%s was not run", name);
    return NULL;
}

static void check(const wrong *one) {
    char *text = NULL;
    size_t size;
    fovea_check_options options = {.kernel = one->kernel,
                                   .implementation = one->name,
                                   .effort = FOVEA_QUICK,
                                   .text = one->text,
                                   .seconds = 1,
                                   .verbose = true,
                                   .stream = open_memstream(&text, &size)};
    fovea_check_report report;
    fovea_message message;
    assert_int_equal(fovea_check_run(&options, &report, &message), FOVEA_OK);
    fclose(options.stream);
    const fovea_check_line *line = line_of(&report, one->name);
    if ((line->failed > 0) != (one->blame != NULL))
        fail_msg("%s: %lld failures; %s", one->name, (long long)line->failed, line->failure);
    if (one->blame && !strstr(text, one->blame))
        fail_msg("%s is not said to do this: %s; first: %s", one->name, one->blame, line->failure);
    assert_int_equal(report.failed, line->failed);
    fovea_check_report_destroy(&report);
    free(text);
}

static void catches_and_blames(void **state) {
    (void)state;
    for (int i = 0; i < WRONGS; i++) check(&wrongs[i]);
}

/* All in one go: one that crashes does not stop or spoil the others. */
static void goes_on(void **state) {
    (void)state;
    fovea_check_options options = {.kernel = "map_add", .text = "n=33", .seconds = 1};
    fovea_check_report report;
    fovea_message message;
    assert_int_equal(fovea_check_run(&options, &report, &message), FOVEA_OK);
    assert_true(line_of(&report, "test/scalar/aborts")->failed > 0);
    assert_int_equal(line_of(&report, "test/scalar/right")->failed, 0);
    assert_int_equal(line_of(&report, "reference/scalar/double")->failed, 0);
    for (int i = 0; i < report.count; i++)
        if (strncmp(report.lines[i].implementation, "cpu/", 4) == 0)
            assert_int_equal(report.lines[i].failed, 0);
    assert_true(report.failed >= 8);
    fovea_check_report_destroy(&report);
}

static void refuses_bad_input(void **state) {
    (void)state;
    const struct {
        fovea_check_options options;
        const char *says;
    } bad[] = {{{.kernel = "no_such"}, "no_such"},
               {{.implementation = "cpu/no/such"}, "cpu/no/such"},
               {{.kernel = "map_add", .implementation = "cpu/avx2/flash"}, "map_add"},
               {{.text = "n=3"}, "kernel"},
               {{.kernel = "map_add", .text = "n=3,split=2x2"}, "split"},
               {{.kernel = "map_add", .text = "n=4,variant=x"}, "variant"},
               {{.kernel = "map_add", .text = "n=-4"}, "-4"},
               {{.kernel = "map_add", .text = "dtype=f32"}, "N"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fovea_check_report report;
        fovea_message message = {""};
        assert_int_equal(fovea_check_run(&bad[i].options, &report, &message),
                         FOVEA_INVALID_ARGUMENT);
        assert_non_null(strstr(message.text, bad[i].says));
    }
}

/* What a failure prints must lead back to the same case. */
static void texts_come_back(void **state) {
    (void)state;
    for (int k = 0; k < fovea_catalogue_count(); k++) {
        fovea_check_cases cases;
        assert_true(fovea_check_cases_create(k, FOVEA_NORMAL, 3, true, &cases));
        for (int n = 0; n < cases.count; n++) {
            char text[640], again[640];
            fovea_check_case parsed;
            fovea_message message = {""};
            fovea_check_case_text(&cases.list[n], text, sizeof text);
            if (fovea_check_case_parse(&parsed, k, text, &message) != FOVEA_OK)
                fail_msg("%s: %s", text, message.text);
            assert_string_equal(text, fovea_check_case_text(&parsed, again, sizeof again));
            assert_int_equal(parsed.c.seed, cases.list[n].c.seed);
        }
        fovea_check_cases_destroy(&cases);
    }
}

int main(void) {
    if (!register_all()) return 2;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(catches_and_blames), cmocka_unit_test(goes_on),
        cmocka_unit_test(refuses_bad_input), cmocka_unit_test(texts_come_back)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
