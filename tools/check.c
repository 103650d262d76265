/* `fovea check`: workers take turns with the cases; each trial is a process of its own; what they
 * find comes through a pipe and is gathered by implementation. */
#include "check.h"

#include "check_trial.h"
#include "commands.h"
#include "cuda/load.h"
#include "device.h"
#include "exhaustive.h"
#include "router/registry.h"

#include <argp.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    KERNELS_MAX = 160,
    JOBS_MAX = 64,
    DEVICE_JOBS = 16,
    FAILURES_SHOWN = 5,
    CRASHES_MAX = 10,
    TEXT_SIZE = 640
};

/* What a worker tells: the outcome of a trial, or that a case could not be built. */
typedef struct record {
    int line;           /* of the report; -1: the case could not be built */
    int kernel, number; /* kernel -1: the worker could not open its device */
    fovea_trial_result result;
} record;

_Static_assert(sizeof(record) <= PIPE_BUF, "records must go through the pipe in one piece");

typedef struct check {
    const fovea_check_options *options;
    fovea_check_report *report;
    fovea_check_cases cases[KERNELS_MAX];
    int first_line[KERNELS_MAX]; /* of the report; the kernel's implementations follow */
    int jobs;
    unsigned seconds;
    int64_t taken, shown; /* trials; how many when progress was last shown */
} check;

/* ---- What is to be checked ------------------------------------------------------------------ */

static bool backend_wanted(const fovea_check_options *options,
                           const fovea_implementation *implementation) {
    return fovea_implementation_is_cuda(implementation) == options->cuda;
}

/* By its name, or by the beginning of it, such as backend and tier. */
static bool implementation_wanted(const fovea_check_options *options, const char *name) {
    const char *wanted = options->implementation;
    size_t length = wanted ? strlen(wanted) : 0;
    return !wanted ||
           (strncmp(wanted, name, length) == 0 && (!name[length] || name[length] == '/'));
}

static bool kernel_wanted(const fovea_check_options *options, int kernel) {
    const char *name = fovea_catalogue_kernel(kernel)->name;
    if (options->kernel && strcmp(options->kernel, name) != 0) return false;
    for (int i = 0; i < fovea_implementation_count(kernel); i++)
        if (implementation_wanted(options, fovea_implementation_at(kernel, i)->name)) return true;
    return !options->implementation;
}

static fovea_status check_names(const fovea_check_options *options, fovea_message *message) {
    bool found = !options->implementation;
    if (options->kernel && fovea_catalogue_find(options->kernel) < 0)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "there is no kernel «%s»",
                          options->kernel);
    if (options->text && !options->kernel)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "a case needs a kernel");
    for (int k = 0; !found && k < fovea_catalogue_count(); k++) found = kernel_wanted(options, k);
    if (found) return FOVEA_OK;
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "there is no implementation «%s»%s%s",
                      options->implementation, options->kernel ? " of " : "",
                      options->kernel ? options->kernel : "");
}

static bool fits(const fovea_check_options *options, const fovea_check_case *check) {
    const fovea_case *c = &check->c;
    bool fit = true;
    for (int i = 0; fovea_kernel_letter_name(c->index, i); i++)
        fit = fit && (!options->largest || c->extents[i] <= options->largest);
    return fit;
}

static fovea_status draw_cases(const fovea_check_options *options, int kernel,
                               fovea_check_cases *cases, fovea_message *message) {
    int kept = 0;
    if (!fovea_check_cases_create(kernel, options->effort, options->seed, options->cuda, cases))
        return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no memory for the cases");
    for (int n = 0; n < cases->count; n++)
        if (fits(options, &cases->list[n])) cases->list[kept++] = cases->list[n];
    cases->count = kept;
    return FOVEA_OK;
}

static fovea_status make_cases(check *all, int kernel, fovea_message *message) {
    fovea_check_cases *cases = &all->cases[kernel];
    const fovea_check_options *options = all->options;
    if (!options->text) return draw_cases(options, kernel, cases, message);
    cases->list = malloc(sizeof *cases->list);
    if (!cases->list) return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no memory for the case");
    cases->count = 1;
    return fovea_check_case_parse(cases->list, kernel, options->text, message);
}

static fovea_status make_lines(check *all, fovea_message *message) {
    fovea_check_report *report = all->report;
    int lines = 0;
    for (int k = 0; k < fovea_catalogue_count(); k++) lines += fovea_implementation_count(k);
    report->lines = calloc((size_t)lines + 1, sizeof *report->lines);
    if (!report->lines) return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no memory for a report");
    for (int k = 0; k < fovea_catalogue_count(); k++) {
        all->first_line[k] = report->count;
        for (int i = 0; i < fovea_implementation_count(k); i++, report->count++) {
            const fovea_implementation *implementation = fovea_implementation_at(k, i);
            report->lines[report->count] = (fovea_check_line){
                .kernel = k,
                .implementation = implementation->name,
                .other = !backend_wanted(all->options, implementation),
                .runs = backend_wanted(all->options, implementation) &&
                        (all->options->cuda || fovea_has_tier(implementation->tier))};
        }
    }
    return FOVEA_OK;
}

static fovea_status prepare(check *all, fovea_message *message) {
    fovea_status status = check_names(all->options, message);
    if (status == FOVEA_OK && all->options->cuda && !fovea_cuda_get())
        return fovea_fail(message, FOVEA_UNSUPPORTED, "--backend=cuda: %s", fovea_cuda_state());
    for (int k = 0; k < fovea_catalogue_count() && status == FOVEA_OK; k++)
        if (kernel_wanted(all->options, k)) status = make_cases(all, k, message);
    return status == FOVEA_OK ? make_lines(all, message) : status;
}

static void release(check *all) {
    for (int k = 0; k < KERNELS_MAX; k++) fovea_check_cases_destroy(&all->cases[k]);
}

/* ---- A worker ------------------------------------------------------------------------------- */

static void tell(int channel, const record *r) {
    if (write(channel, r, sizeof *r) != (ssize_t)sizeof *r) _exit(1);
}

/* The reference in turn is run where that is cheap: it shows that its results round as they must
 * and that it reads and writes what it should. */
static bool is_worth_running(const fovea_implementation *implementation,
                             const fovea_check_case *one, const fovea_check_options *options) {
    bool reference = strncmp(implementation->name, "reference/", 10) == 0;
    return !reference || options->text || fovea_check_case_work(one) < 2e6;
}

/* What a worker is at, for the one who looks after it. */
typedef struct position {
    int kernel, number, implementation;
    int crashes[FOVEA_IMPLEMENTATIONS_MAX]; /* of the kernel's implementations */
} position;

enum { AGAIN = 3, NO_DEVICE = 4 }; /* exit codes */

static void leave_device(position *at) {
    at->implementation++;
    _exit(AGAIN);
}

static void try_case(const check *all, position *at, int channel) {
    int kernel = at->kernel, number = at->number, *crashes = at->crashes;
    const fovea_check_case *one = &all->cases[kernel].list[number];
    fovea_trial *trial = malloc(sizeof *trial);
    record r = {.line = -1, .kernel = kernel, .number = number};
    fovea_message message = {"no memory"};
    if (!trial || fovea_trial_create(one, trial, &message) != FOVEA_OK) {
        snprintf(r.result.text, sizeof r.result.text, "%.300s", message.text);
        tell(channel, &r);
        free(trial);
        return;
    }
    for (int i = at->implementation; i < fovea_implementation_count(kernel); i++) {
        const fovea_implementation *implementation = fovea_implementation_at(kernel, i);
        at->implementation = i;
        r.line = all->first_line[kernel] + i;
        if (!all->report->lines[r.line].runs ||
            !implementation_wanted(all->options, implementation->name) ||
            !is_worth_running(implementation, one, all->options))
            continue;
        if (crashes[i] >= CRASHES_MAX)
            r.result = (fovea_trial_result){.outcome = FOVEA_SKIPPED};
        else if (all->options->cuda)
            fovea_trial_run_here(trial, implementation, all->seconds, &r.result);
        else
            fovea_trial_run(trial, implementation, all->seconds, &r.result);
        crashes[i] += r.result.ended;
        tell(channel, &r);
        if (all->options->cuda && r.result.outcome == FOVEA_FAILED) leave_device(at);
    }
    at->implementation = 0;
    fovea_trial_destroy(trial);
    free(trial);
}

/* Inputs and reference of a kernel that nothing here implements would be made for no one. */
static bool anything_runs(const check *all, int kernel) {
    for (int i = 0; i < fovea_implementation_count(kernel); i++)
        if (all->report->lines[all->first_line[kernel] + i].runs &&
            implementation_wanted(all->options, fovea_implementation_at(kernel, i)->name))
            return true;
    return false;
}

static void work(const check *all, position *at, int job, int channel) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (; at->kernel < fovea_catalogue_count(); at->kernel++, at->number = job) {
        if (at->number == job && at->implementation == 0)
            memset(at->crashes, 0, sizeof at->crashes);
        if (!anything_runs(all, at->kernel)) continue;
        for (; at->number < all->cases[at->kernel].count; at->number += all->jobs)
            try_case(all, at, channel);
    }
    _exit(0);
}

/* The process that has the device open runs many trials, since opening takes half a second. It ends
 * after each failure, which may have cost it the device, or by a signal; then another goes on. */
static void work_on_device(const check *all, position *at, int job, int channel) {
    fovea_message message;
    record r = {.line = -1, .kernel = -1};
    if (fovea_tool_device_open(all->options->device, &message) == FOVEA_OK)
        work(all, at, job, channel);
    snprintf(r.result.text, sizeof r.result.text, "%.300s", message.text);
    tell(channel, &r);
    _exit(NO_DEVICE);
}

static void blame(const check *all, position *at, int status, int channel) {
    record r = {.line = all->first_line[at->kernel] + at->implementation,
                .kernel = at->kernel,
                .number = at->number,
                .result = {.outcome = FOVEA_FAILED, .ended = true}};
    if (WTERMSIG(status) == SIGALRM)
        snprintf(r.result.text, sizeof r.result.text, "does not finish within %u s", all->seconds);
    else
        snprintf(r.result.text, sizeof r.result.text, "ends the process (%s)",
                 strsignal(WTERMSIG(status)));
    at->crashes[at->implementation++]++;
    tell(channel, &r);
}

static void look_after(const check *all, position *at, int job, int channel) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        int status = 0;
        pid_t worker = fork();
        if (worker == 0) work_on_device(all, at, job, channel);
        if (worker < 0) _exit(1);
        while (waitpid(worker, &status, 0) < 0 && errno == EINTR) continue;
        if (WIFSIGNALED(status))
            blame(all, at, status, channel);
        else if (WEXITSTATUS(status) != AGAIN)
            _exit(WEXITSTATUS(status));
    }
}

static void begin_work(const check *all, int job, int channel) {
    position *at =
        mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) _exit(1);
    *at = (position){.number = job};
    if (all->options->cuda)
        look_after(all, at, job, channel);
    else
        work(all, at, job, channel);
}

/* ---- Gathering ------------------------------------------------------------------------------ */

/* One line on a terminal that is written over; nothing elsewhere. */
static void show_progress(check *all, const record *r) {
    if (!all->options->progress || r->kernel < 0 || ++all->taken - all->shown < 50) return;
    all->shown = all->taken;
    fprintf(stderr, "\r%lld trials, %lld failed, %s %d of %d\033[K", (long long)all->taken,
            (long long)all->report->failed, fovea_catalogue_kernel(r->kernel)->name, r->number + 1,
            all->cases[r->kernel].count);
}

static void clear_progress(check *all) {
    if (all->shown) fprintf(stderr, "\r\033[K");
    all->shown = 0;
}

static void show_failure(check *all, const record *r, const fovea_check_line *line,
                         const char *text) {
    FILE *stream = all->options->stream;
    const char *kernel = fovea_catalogue_kernel(r->kernel)->name;
    if (!stream || (line->failed > FAILURES_SHOWN && !all->options->verbose)) return;
    clear_progress(all);
    fprintf(stream,
            "FAILED %s, %s: %s\n    fovea check --kernel %s --implementation %s --case '%s'\n",
            kernel, line->implementation, r->result.text, kernel, line->implementation, text);
    if (line->failed == FAILURES_SHOWN && !all->options->verbose)
        fprintf(stream, "    (further failures of this implementation are counted, not shown)\n");
}

static void take(check *all, const record *r) {
    char text[TEXT_SIZE];
    if (r->kernel < 0) { /* reap() counts it */
        if (all->options->stream)
            fprintf(all->options->stream, "FAILED: the device cannot be opened: %s\n",
                    r->result.text);
        return;
    }
    fovea_check_case_text(&all->cases[r->kernel].list[r->number], text, sizeof text);
    if (r->line < 0) {
        all->report->failed++;
        if (all->options->stream)
            fprintf(all->options->stream, "FAILED %s: the case cannot be built: %s\n    %s\n",
                    fovea_catalogue_kernel(r->kernel)->name, r->result.text, text);
        return;
    }
    fovea_check_line *line = &all->report->lines[r->line];
    bool passed = r->result.outcome == FOVEA_PASSED;
    if (r->result.outcome == FOVEA_DECLINED) {
        line->declined++;
        if (all->options->verbose && all->options->stream)
            fprintf(all->options->stream, "declined %s, %s: %s\n    %s\n",
                    fovea_catalogue_kernel(r->kernel)->name, line->implementation, r->result.text,
                    text);
        return;
    }
    if (passed && (r->result.share > line->share || line->passed == 0)) {
        line->share = r->result.share;
        snprintf(line->worst, sizeof line->worst, "%s", text);
    }
    if (r->result.outcome == FOVEA_SKIPPED) {
        line->skipped++;
        return;
    }
    passed ? line->passed++ : line->failed++;
    passed ? all->report->passed++ : all->report->failed++;
    if (passed) return;
    if (line->failed == 1)
        snprintf(line->failure, sizeof line->failure, "%s (%s)", r->result.text, text);
    show_failure(all, r, line, text);
}

static bool read_record(int channel, record *r) {
    size_t got = 0;
    while (got < sizeof *r) {
        ssize_t bytes = read(channel, (char *)r + got, sizeof *r - got);
        if (bytes < 0 && errno == EINTR) continue;
        if (bytes <= 0) return false;
        got += (size_t)bytes;
    }
    return true;
}

/* A worker runs no code under test, so its death is an error of the check or the reference. */
static void reap(check *all, const pid_t workers[]) {
    for (int j = 0; j < all->jobs; j++) {
        int status = 0;
        while (waitpid(workers[j], &status, 0) < 0 && errno == EINTR) continue;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
        all->report->failed++;
        if (all->options->stream)
            fprintf(all->options->stream,
                    "FAILED: worker %d of the check itself ended (%s); its other cases were not "
                    "run\n",
                    j, WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "with an error");
    }
}

/* Of one kernel: as many workers have something to do. */
static int most_cases(const check *all) {
    int most = 1;
    for (int k = 0; k < fovea_catalogue_count(); k++)
        if (all->cases[k].count > most) most = all->cases[k].count;
    return most;
}

static fovea_status run_workers(check *all, fovea_message *message) {
    int channel[2];
    pid_t workers[JOBS_MAX];
    record r;
    if (pipe(channel) != 0)
        return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no pipe: %s", strerror(errno));
    fflush(NULL);
    for (int j = 0; j < all->jobs; j++) {
        workers[j] = fork();
        if (workers[j] == 0) close(channel[0]), begin_work(all, j, channel[1]);
        if (workers[j] < 0) {
            for (int i = 0; i < j; i++) kill(workers[i], SIGKILL), waitpid(workers[i], NULL, 0);
            close(channel[0]), close(channel[1]);
            return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no process: %s", strerror(errno));
        }
    }
    close(channel[1]);
    while (read_record(channel[0], &r)) {
        take(all, &r);
        show_progress(all, &r);
    }
    clear_progress(all);
    close(channel[0]);
    reap(all, workers);
    return FOVEA_OK;
}

/* ---- The report ----------------------------------------------------------------------------- */

/* Whether an implementation other than the reference serves the row's default call. */
static bool default_is_served(int kernel) {
    fovea_case c;
    fovea_sample sample;
    fovea_message message;
    char reason[160];
    bool served = false;
    const fovea_kernel *row = fovea_catalogue_kernel(kernel);
    fovea_case_begin(&c, kernel);
    for (int l = 0; fovea_kernel_letter_name(kernel, l); l++) c.extents[l] = row->shape ? 2 : 33;
    if (fovea_case_complete(&c, &message) != FOVEA_OK) return false;
    if (fovea_sample_create(&c, NULL, &sample, &message) != FOVEA_OK) return false;
    for (int i = 0; i < fovea_implementation_count(kernel) && !served; i++) {
        const fovea_implementation *implementation = fovea_implementation_at(kernel, i);
        served =
            !implementation->only_by_name &&
            fovea_implementation_serves(implementation, &sample.problem, reason, sizeof reason);
    }
    fovea_sample_destroy(&sample);
    return served;
}

static void print_line(const fovea_check_line *line, FILE *stream) {
    fprintf(stream, "  %-28s", line->implementation);
    if (!line->runs) {
        const fovea_implementation *implementation =
            fovea_implementation_find(line->kernel, line->implementation);
        fprintf(stream, " not run: %s %s\n",
                getenv("FOVEA_TIER") ? "FOVEA_TIER or this machine rules out"
                                     : "this machine does not have",
                fovea_tier_name(implementation->tier));
        return;
    }
    fprintf(stream, " %6lld cases %4lld failed %5lld declined",
            (long long)(line->passed + line->failed), (long long)line->failed,
            (long long)line->declined);
    if (line->passed) fprintf(stream, "   worst %.3f of the bound", line->share);
    fputc('\n', stream);
    if (line->skipped)
        fprintf(stream, "      %lld cases were not run, for it ended its process too often\n",
                (long long)line->skipped);
    if (line->passed && line->share > 0) fprintf(stream, "      at %s\n", line->worst);
}

/* What was found in a domain, in a line; nothing where nothing was run. */
static void print_domain(const check *all, const char *domain) {
    int64_t passed = 0, failed = 0, declined = 0;
    int implementations = 0;
    const fovea_check_line *worst = NULL;
    for (int i = 0; i < all->report->count; i++) {
        const fovea_check_line *line = &all->report->lines[i];
        if (strcmp(fovea_catalogue_kernel(line->kernel)->domain, domain) != 0 ||
            line->passed + line->failed == 0)
            continue;
        implementations++;
        passed += line->passed, failed += line->failed, declined += line->declined;
        if (line->passed && (!worst || line->share > worst->share)) worst = line;
    }
    if (!implementations) return;
    fprintf(all->options->stream, "  %-16s %3d %8lld %6lld %8lld", domain, implementations,
            (long long)(passed + failed), (long long)failed, (long long)declined);
    if (worst)
        fprintf(all->options->stream, "   %.3f  %s, %s", worst->share,
                fovea_catalogue_kernel(worst->kernel)->name, worst->implementation);
    fputc('\n', all->options->stream);
}

static void print_domains(const check *all) {
    fprintf(all->options->stream, "\n  %-16s %3s %8s %6s %8s   %s\n", "domain", "of", "cases",
            "failed", "declined", "worst share of the bound");
    for (int k = 0; k < fovea_catalogue_count(); k++) {
        const char *domain = fovea_catalogue_kernel(k)->domain;
        bool seen = false;
        for (int j = 0; j < k && !seen; j++)
            seen = strcmp(fovea_catalogue_kernel(j)->domain, domain) == 0;
        if (!seen) print_domain(all, domain);
    }
}

static void print_report(const check *all) {
    FILE *stream = all->options->stream;
    for (int k = 0; k < fovea_catalogue_count(); k++) {
        if (!kernel_wanted(all->options, k)) continue;
        fprintf(stream, "%s\n", fovea_catalogue_kernel(k)->name);
        for (int i = 0; i < fovea_implementation_count(k); i++) {
            const fovea_check_line *line = &all->report->lines[all->first_line[k] + i];
            if (!line->other && implementation_wanted(all->options, line->implementation))
                print_line(line, stream);
        }
        if (!all->options->cuda && !default_is_served(k))
            fprintf(stream, "  no implementation but the reference serves its default call here\n");
    }
    if (!all->options->kernel) print_domains(all);
    fprintf(stream, "%lld passed, %lld failed\n", (long long)all->report->passed,
            (long long)all->report->failed);
}

/* Of what was asked for by name, though nothing is wrong. */
static bool nothing_ran(const fovea_check_report *report) {
    int64_t all = report->failed;
    for (int i = 0; i < report->count; i++) {
        const fovea_check_line *line = &report->lines[i];
        all += line->passed + line->failed + line->declined + line->skipped;
    }
    return all == 0;
}

fovea_status fovea_check_run(const fovea_check_options *options, fovea_check_report *report,
                             fovea_message *message) {
    check *all = calloc(1, sizeof *all);
    *report = (fovea_check_report){0};
    if (!all) return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no memory for a check");
    all->options = options;
    all->report = report;
    all->jobs = options->jobs ? options->jobs : fovea_allowed_threads();
    if (options->cuda && !options->jobs && all->jobs > DEVICE_JOBS) all->jobs = DEVICE_JOBS;
    if (all->jobs > JOBS_MAX) all->jobs = JOBS_MAX;
    all->seconds = options->seconds ? options->seconds : 60;
    fovea_status status = prepare(all, message);
    if (status == FOVEA_OK && all->jobs > most_cases(all)) all->jobs = most_cases(all);
    if (status == FOVEA_OK) status = run_workers(all, message);
    if (status == FOVEA_OK && options->stream) print_report(all);
    if (status == FOVEA_OK && options->implementation && nothing_ran(report))
        status = fovea_fail(message, FOVEA_UNSUPPORTED, "nothing was run of %s%s",
                            options->implementation,
                            strncmp(options->implementation, "cuda/", 5) == 0 && !options->cuda
                                ? "; it asks for --backend=cuda"
                                : "");
    if (status != FOVEA_OK) fovea_check_report_destroy(report);
    release(all);
    free(all);
    return status;
}

void fovea_check_report_destroy(fovea_check_report *report) {
    free(report->lines);
    *report = (fovea_check_report){0};
}

fovea_status fovea_check_list(const fovea_check_options *options, fovea_message *message) {
    fovea_status status = check_names(options, message);
    for (int k = 0; k < fovea_catalogue_count() && status == FOVEA_OK; k++) {
        fovea_check_cases cases = {0};
        char text[TEXT_SIZE];
        if (!kernel_wanted(options, k)) continue;
        status = draw_cases(options, k, &cases, message);
        for (int n = 0; n < cases.count && status == FOVEA_OK; n++)
            fprintf(options->stream, "%s %s\n", fovea_catalogue_kernel(k)->name,
                    fovea_check_case_text(&cases.list[n], text, sizeof text));
        fovea_check_cases_destroy(&cases);
    }
    return status;
}

/* ---- The command ---------------------------------------------------------------------------- */

enum {
    OPTION_QUICK = 256,
    OPTION_LARGEST,
    OPTION_THOROUGH,
    OPTION_CASE,
    OPTION_LIST,
    OPTION_TIMEOUT,
    OPTION_BACKEND,
    OPTION_DEVICE,
    OPTION_EXHAUSTIVE,
    OPTION_EVERY,
    OPTION_SCALAR_EVERY,
    OPTION_TABLE,
    OPTION_JSON
};

typedef struct arguments {
    fovea_check_options options;
    bool list, exhaustive;
    int64_t every, scalar_every;
    const char *table, *json;
} arguments;

static unsigned long long number(const char *value, const char *option, unsigned long long highest,
                                 struct argp_state *state) {
    char *end;
    errno = 0;
    unsigned long long result = strtoull(value, &end, 10);
    if (errno || end == value || *end || !isdigit((unsigned char)*value) || result > highest)
        argp_error(state, "%s=%s: a whole number up to %llu is wanted", option, value, highest);
    return result;
}

static unsigned long long positive(const char *value, const char *option,
                                   unsigned long long highest, struct argp_state *state) {
    unsigned long long result = number(value, option, highest, state);
    if (result == 0) argp_error(state, "%s=%s: at least 1 is wanted", option, value);
    return result;
}

/* By an option that is about cases. */
static bool draws_cases(const arguments *a) {
    const fovea_check_options *o = &a->options;
    return o->effort != FOVEA_NORMAL || o->seed || o->largest || o->seconds || o->verbose;
}

static error_t parse(int key, char *value, struct argp_state *state) {
    arguments *a = state->input;
    switch (key) {
    case 'k':
        return a->options.kernel = value, 0;
    case 'i':
        return a->options.implementation = value, 0;
    case 's':
        return a->options.seed = number(value, "--seed", ULLONG_MAX, state), 0;
    case 'v':
        return a->options.verbose = true, 0;
    case 'j':
        return a->options.jobs = (int)positive(value, "--jobs", JOBS_MAX, state), 0;
    case OPTION_QUICK:
        return a->options.effort = FOVEA_QUICK, 0;
    case OPTION_LARGEST:
        return a->options.largest = (int64_t)positive(value, "--largest", INT64_MAX, state), 0;
    case OPTION_THOROUGH:
        return a->options.effort = FOVEA_THOROUGH, 0;
    case OPTION_CASE:
        return a->options.text = value, 0;
    case OPTION_LIST:
        return a->list = true, 0;
    case OPTION_BACKEND:
        return a->options.cuda = fovea_backend_is_cuda(value, state), 0;
    case OPTION_DEVICE:
        return a->options.device = fovea_device_number(value, state), 0;
    case OPTION_EXHAUSTIVE:
        return a->exhaustive = true, 0;
    case OPTION_EVERY:
        return a->every = (int64_t)positive(value, "--every", 1 << 18, state), 0;
    case OPTION_SCALAR_EVERY:
        return a->scalar_every = (int64_t)positive(value, "--scalar-every", 1 << 18, state), 0;
    case OPTION_TABLE:
        return a->table = value, 0;
    case OPTION_JSON:
        return a->json = value, 0;
    case ARGP_KEY_END:
        if (!a->exhaustive && (a->table || a->json || a->every > 1 || a->scalar_every > 1))
            argp_error(state, "--every, --scalar-every, --table and --json belong to --exhaustive");
        if (a->list && a->options.text)
            argp_error(state, "--list and --case contradict each other");
        if (a->exhaustive && (a->list || a->options.text || a->options.cuda || draws_cases(a)))
            argp_error(state, "--exhaustive draws no cases, and of options takes --kernel, "
                              "--implementation, --jobs and its own");
        fovea_device_expect(a->options.cuda, a->options.device, state);
        return 0;
    case OPTION_TIMEOUT:
        return a->options.seconds = (unsigned)positive(value, "--timeout", 86400, state), 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static int check_exhaustively(const arguments *a) {
    const fovea_exhaustive_options options = {.kernel = a->options.kernel,
                                              .implementation = a->options.implementation,
                                              .every = a->every,
                                              .scalar_every = a->scalar_every,
                                              .jobs = a->options.jobs,
                                              .progress = a->options.progress,
                                              .stream = stdout,
                                              .table = a->table,
                                              .json = a->json};
    fovea_message message;
    int64_t wrong;
    if (fovea_exhaustive_run(&options, &wrong, &message) == FOVEA_OK) return wrong > 0;
    return fprintf(stderr, "fovea check: %s\n", message.text), 2;
}

int fovea_command_check(int argc, char **argv) {
    static const struct argp_option options[] = {
        {"kernel", 'k', "NAME", 0, "Only this kernel", 0},
        {"implementation", 'i', "NAME", 0,
         "Only this implementation, cpu/avx2/flash say, or those of cpu/avx2", 0},
        {"backend", OPTION_BACKEND, "NAME", 0, "cpu, or cuda: implementations on a CUDA device", 0},
        {"device", OPTION_DEVICE, "N", 0, "The CUDA device (0)", 0},
        {"seed", 's', "N", 0, "Draw other cases", 0},
        {"quick", OPTION_QUICK, 0, 0, "Few and small cases: for emulators and sanitizers", 0},
        {"largest", OPTION_LARGEST, "N", 0, "Leave out cases with an extent above N", 0},
        {"thorough", OPTION_THOROUGH, 0, 0, "Ten times the cases, and larger ones", 0},
        {"exhaustive", OPTION_EXHAUSTIVE, 0, 0,
         "Functions of one number at all 2^32 inputs of f32 and all 65536 of halves", 0},
        {"every", OPTION_EVERY, "N", 0, "Of f32 only one run of 16384 inputs in N", 0},
        {"scalar-every", OPTION_SCALAR_EVERY, "N", 0,
         "Of these, by the scalar tier, which is ten times slower, one in N", 0},
        {"table", OPTION_TABLE, "FILE", 0, "What is found, as a table in Markdown", 0},
        {"json", OPTION_JSON, "FILE", 0, "The same for fovea report", 0},
        {"case", OPTION_CASE, "TEXT", 0, "One case, as failures and --list print it", 0},
        {"list", OPTION_LIST, 0, 0, "Print the cases and run none", 0},
        {"jobs", 'j', "N", 0, "Processes at a time (as many as processors)", 0},
        {"timeout", OPTION_TIMEOUT, "SECONDS", 0, "For one implementation in one case (60)", 0},
        {"verbose", 'v', 0, 0, "Every failure, what was declined and why, worst cases", 0},
        {0}};
    const struct argp parser = {
        .options = options,
        .parser = parse,
        .doc = "Runs every implementation on every dtype, shape, memory layout and option against "
               "the double-precision reference: outputs between guard pages and poisoned, inputs "
               "compared after the call, every case three times with 1, 2 and 3 threads and the "
               "same bits expected. Crashes are caught and blamed."};
    arguments a = {
        .options = {.effort = FOVEA_NORMAL, .stream = stdout}, .every = 1, .scalar_every = 1};
    fovea_check_report report = {0};
    fovea_message message;
    a.options.progress = isatty(STDERR_FILENO);
    if (argp_parse(&parser, argc, argv, 0, NULL, &a)) return 2;
    if (a.exhaustive) return check_exhaustively(&a);
    fovea_status status = a.list ? fovea_check_list(&a.options, &message)
                                 : fovea_check_run(&a.options, &report, &message);
    if (status != FOVEA_OK) return fprintf(stderr, "fovea check: %s\n", message.text), 2;
    bool failed = report.failed > 0;
    fovea_check_report_destroy(&report);
    return failed;
}
