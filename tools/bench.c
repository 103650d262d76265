/* `fovea bench`: options, and the flow of a run: describe the machine, start the peers, measure the
 * ceilings, then case by case; print, and keep every sample. */
#define _GNU_SOURCE
#include "bench.h"

#include "bench_arms.h"
#include "bench_columns.h"
#include "bench_prepare.h"
#include "commands.h"
#include "router/registry.h"
#include "runtime/output.h"
#include "runtime/processor.h"
#include "runtime/threads.h"

#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* ---- Options -------------------------------------------------------------------------------- */

enum { NO_PEERS = 256, PEERS, COLD, SEED, LIST, FULL, PHASE, BACKEND, DEVICE };

static const struct argp_option option_table[] = {
    {"suite", 's', "NAME,...", 0, "What to measure: suites of --list, or all (sdpa,flash)", 0},
    {"backend", BACKEND, "NAME,...", 0,
     "Where: cpu (the default), cuda, or both side by side, with the transfers that a device needs",
     0},
    {"device", DEVICE, "N", 0, "The CUDA device (0)", 0},
    {"phase", PHASE, "NAME", 0, "Of the suite training only this: forward or backward", 0},
    {"filter", 'f', "PATTERN,...", 0,
     "Only cases whose SUITE/NAME has one of these in it, or matches one", 0},
    {"arms", 'a', "PATTERN,...", 0,
     "Only arms whose name has one of these in it; all tiers, and the reference if named", 0},
    {"threads", 't', "N", 0, "Threads for everybody (all that are allowed)", 0},
    {"seconds", 'S', "N", 0, "Time for the cases in all, about (what the suites ask for)", 0},
    {"json", 'j', "FILE", 0, "Keep every sample in this file", 0},
    {"peers", PEERS, "NAME,...", 0,
     "Only these: numpy, torch, openvino, onnxruntime, mlx, jax, fftw, cupy", 0},
    {"no-peers", NO_PEERS, 0, 0, "Ours alone", 0},
    {"cold", COLD, 0, 0,
     "Calls find nothing in the last cache: they take turns over several sets of buffers", 0},
    {"seed", SEED, "N", 0, "Seed of the inputs and of the order of arms", 0},
    {"full", FULL, 0, 0, "Print every arm of every case", 0},
    {"list", LIST, 0, 0, "Print the suites and the cases chosen, and measure nothing", 0},
    {0}};

static long whole_number(const char *text, long low, long high, struct argp_state *state,
                         const char *name) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < low || value > high)
        argp_error(state, "--%s=%s: a whole number from %ld to %ld is wanted", name, text, low,
                   high);
    return value;
}

static void check_peers(const char *list, unsigned places, struct argp_state *state) {
    char name[32];
    const char *at = list;
    do {
        at += *at == ',';
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at, ","), at);
        unsigned theirs = fovea_peer_places(name);
        if (!theirs) argp_error(state, "--peers=%s: there is no peer «%s»", list, name);
        if (!(theirs & places))
            argp_error(state, "--peers: %s does not compute at this --backend", name);
        at += strcspn(at, ",");
    } while (*at);
}

static unsigned parse_places(const char *list, struct argp_state *state) {
    unsigned places = 0;
    for (const char *at = list; *at; at += strcspn(at, ","), at += *at == ',') {
        int length = (int)strcspn(at, ","), found = -1;
        for (int p = 0; p < FOVEA_PLACES; p++) {
            const char *name = fovea_place_name((fovea_place)p);
            if (strncmp(at, name, (size_t)length) == 0 && !name[length]) found = p;
        }
        if (found < 0) argp_error(state, "--backend=%s: it is cpu, cuda, or cpu,cuda", list);
        places |= 1u << found;
    }
    size_t length = strlen(list);
    if (!places || list[length - 1] == ',')
        argp_error(state, "--backend=%s ends with no name; it is cpu, cuda, or cpu,cuda", list);
    return places;
}

static error_t parse(int key, char *value, struct argp_state *state) {
    fovea_bench_options *o = state->input;
    char *end;
    switch (key) {
    case 's':
        o->suites = value;
        break;
    case 'f':
        o->filter = value;
        break;
    case 'a':
        o->arms = value;
        break;
    case 't':
        o->threads = (int)whole_number(value, 1, FOVEA_THREADS_MAX, state, "threads");
        break;
    case 'S':
        o->seconds = strtod(value, &end);
        if (end == value || *end || !(o->seconds > 0 && o->seconds < 1e6))
            argp_error(state, "--seconds=%s: a number of seconds is wanted", value);
        break;
    case 'j':
        o->json = value;
        break;
    case PEERS:
        o->peers = value;
        break;
    case NO_PEERS:
        o->no_peers = true;
        break;
    case COLD:
        o->cold = true;
        break;
    case SEED:
        o->seed = (uint64_t)whole_number(value, 1, LONG_MAX, state, "seed");
        break;
    case FULL:
        o->full = true;
        break;
    case PHASE:
        if (strcmp(value, "forward") != 0 && strcmp(value, "backward") != 0)
            argp_error(state, "--phase=%s: it is forward or backward", value);
        o->phases = strcmp(value, "forward") == 0 ? FOVEA_FORWARD : FOVEA_BACKWARD;
        break;
    case BACKEND:
        o->places = parse_places(value, state);
        break;
    case DEVICE:
        o->device = fovea_device_number(value, state);
        break;
    case LIST:
        o->list = true;
        break;
    case ARGP_KEY_ARG:
        argp_error(state, "«%s» is not an option", value);
        break;
    case ARGP_KEY_END:
        fovea_device_expect(o->places >> FOVEA_ON_CUDA & 1, o->device, state);
        if (o->peers && o->no_peers)
            argp_error(state, "--peers=%s and --no-peers contradict each other", o->peers);
        if (o->peers) check_peers(o->peers, o->places, state);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* ---- Progress ------------------------------------------------------------------------------- */

static double time_left; /* of the run, at the moment below */
static double time_left_at;

/* One line on a terminal, rewritten at most ten times a second. */
static void progress(const fovea_bench_run *run, const fovea_bench_case *c, const char *arm) {
    static double last;
    double now = fovea_seconds_now();
    if (!isatty(STDERR_FILENO) || now - last < 0.1) return;
    last = now;
    int left = (int)fmax(0, time_left - (now - time_left_at));
    fovea_screen screen = fovea_screen_detect(stderr);
    char text[256];
    snprintf(text, sizeof text, "%ld/%d  %s %s  %s  %d:%02d left", (long)(c - run->cases) + 1,
             run->case_count, c->suite, c->name, arm, left / 60, left % 60);
    fprintf(stderr, "\r\033[K%.*s", screen.width - 1, text);
    fflush(stderr);
}

static void clear_progress(void) {
    if (isatty(STDERR_FILENO)) fprintf(stderr, "\r\033[K");
}

/* ---- The run -------------------------------------------------------------------------------- */

static bool begin(fovea_bench_run *run, fovea_message *message) {
    fovea_context_options options;
    time_t clock = time(NULL);
    struct tm local;
    fovea_context_options_default(&options);
    run->started = fovea_seconds_now();
    localtime_r(&clock, &local);
    strftime(run->started_text, sizeof run->started_text, "%Y-%m-%dT%H:%M:%S%z", &local);
    run->threads = run->options.threads ? run->options.threads : fovea_allowed_threads();
    if (run->threads > fovea_allowed_threads()) {
        fovea_fail(message, FOVEA_INVALID_ARGUMENT, "--threads=%d: this process may use %d",
                   run->threads, fovea_allowed_threads());
        return false;
    }
    run->random = run->options.seed ? run->options.seed : 1;
    options.threads = run->threads;
    if (fovea_context_create(&options, &run->context) != FOVEA_OK) {
        fovea_fail(message, FOVEA_FILE_ERROR, "%s", fovea_last_message(NULL));
        return false;
    }
    if (fovea_bench_on(run, FOVEA_ON_CUDA)) {
        fovea_message why;
        if (fovea_bench_open_device(run, &why) != FOVEA_OK) {
            fovea_fail(message, FOVEA_UNSUPPORTED, "--backend=cuda: %.400s", why.text);
            return false;
        }
    }
    run->memory = memfd_create("fovea-bench", MFD_CLOEXEC);
    if (run->memory >= 0) return true;
    fovea_fail(message, FOVEA_OUT_OF_MEMORY, "shared memory cannot be had");
    return false;
}

static const char *best_tier(void) {
    const char *best = "scalar";
    for (int t = 0; t < FOVEA_TIER_COUNT; t++)
        if (fovea_has_tier((fovea_tier)t) && t != FOVEA_TIER_AMX)
            best = fovea_tier_name((fovea_tier)t);
    return best;
}

static void note_peers(fovea_bench_run *run) {
    json_t *present = json_object(), *missing = json_object();
    for (int p = 0; p < run->peer_count; p++) {
        fovea_bench_peer *peer = &run->peers[p];
        char label[40];
        if (peer->process)
            json_object_update(present, peer->versions);
        else
            json_object_set_new(missing, fovea_peer_label(peer, label, sizeof label),
                                fovea_json_text(peer->reason));
    }
    json_object_set_new(run->environment, "peers", present);
    json_object_set_new(run->environment, "missing_peers", missing);
    json_object_set_new(run->environment, "data", json_string("standard normal"));
    json_object_set_new(run->environment, "seed",
                        run->options.seed ? json_integer((json_int_t)run->options.seed)
                                          : json_string("the number of each kernel"));
    const fovea_context *routed = run->device_context ? run->device_context : run->context;
    json_object_set_new(run->environment, "routes", fovea_json_text(fovea_routes_state(routed)));
}

static bool ends_suite(const fovea_bench_run *run, int i) {
    return i + 1 == run->case_count || strcmp(run->cases[i + 1].suite, run->cases[i].suite) != 0;
}

/* The suite of that case. */
static void print_suite(fovea_bench_run *run, int i) {
    const char *suite = run->cases[i].suite;
    clear_progress();
    if (fovea_bench_on(run, FOVEA_ON_CPU))
        fovea_ceilings_refresh(&run->ceilings, run->threads, true);
    fovea_bench_update_shares(run);
    fovea_bench_print_suite(run, suite);
}

static double budget_of(const fovea_bench_run *run) {
    double seconds = 0;
    const char *last = "";
    if (run->options.seconds > 0) return run->options.seconds;
    for (int i = 0; i < run->case_count; i++) {
        if (strcmp(run->cases[i].suite, last) != 0)
            seconds += fovea_suite_seconds(run->cases[i].suite);
        last = run->cases[i].suite;
    }
    return seconds;
}

/* Prints suites as soon as their last case is measured; returns the first case that is not. */
static int print_ended(fovea_bench_run *run, int first) {
    for (; first < run->case_count && run->cases[first].begun; first++)
        if (ends_suite(run, first)) print_suite(run, first);
    return first;
}

/* Each case gets its weight's share of the time that is left, and what it saves is for the others. */
static void measure_all(fovea_bench_run *run) {
    double budget = budget_of(run), start = fovea_seconds_now(), weight = 0, all = 0;
    int first = 0, last = -1; /* not measured yet; measured last */
    for (int i = 0; i < run->case_count; i++) all += run->cases[i].weight;
    weight = all;
    while (first < run->case_count && !fovea_interrupted()) {
        double asked = fovea_seconds_now();
        fovea_bench_case *c = &run->cases[last = fovea_bench_next(run, first)];
        double waited = fovea_seconds_now() - asked;
        c->begun = true;
        double left = fmax(budget - (fovea_seconds_now() - start), 0);
        /* Slow peers may have spent it all; the rest still gets a third of what was meant for it. */
        double seconds = fmax(left * c->weight / weight, budget * c->weight / all / 3);
        time_left = left;
        time_left_at = fovea_seconds_now();
        fovea_bench_measure(run, c, fmin(seconds, 30), progress);
        c->waited_seconds += waited, c->prepared_seconds += waited, c->seconds += waited;
        weight -= c->weight;
        fovea_bench_relieve_peers(run);
        if (fovea_bench_on(run, FOVEA_ON_CPU))
            fovea_ceilings_refresh(&run->ceilings, run->threads, false);
        first = print_ended(run, first);
    }
    if (last >= 0 && first < run->case_count &&
        strcmp(run->cases[first].suite, run->cases[last].suite) == 0)
        print_suite(run, last); /* interrupted */
    clear_progress();
}

static void release(fovea_bench_run *run) {
    fovea_bench_end_peers(run);
    /* An end that was asked for does not wait for a reference; what is left goes with the process. */
    if (!fovea_bench_prepare_end(run)) return;
    for (int i = 0; i < run->case_count; i++) fovea_bench_forget(&run->cases[i]);
    free(run->cases);
    json_decref(run->warnings);
    json_decref(run->environment);
    fovea_context_destroy(run->context);
    fovea_bench_close_device(run);
    if (run->memory >= 0) close(run->memory);
}

static int finish(fovea_bench_run *run) {
    fovea_message message;
    run->interrupted = fovea_interrupted();
    fovea_environment_finish(run);
    fovea_bench_update_shares(run);
    run->seconds = fovea_seconds_now() - run->started;
    fovea_bench_print_foot(run);
    if (run->options.json && !fovea_bench_write_json(run, run->options.json, &message)) {
        fprintf(stderr, "fovea bench: %s\n", message.text);
        return 1;
    }
    if (run->options.json) printf("  samples: %s\n", run->options.json);
    if (run->interrupted) return 130;
    return fovea_wrong_rows(run) > 0;
}

static void list(const fovea_bench_run *run) {
    char text[256];
    fovea_suites_print(stdout);
    for (int i = 0; i < run->case_count; i++)
        printf("%s/%s  %s %s\n", run->cases[i].suite, run->cases[i].name,
               fovea_catalogue_kernel(run->cases[i].definition.index)->name,
               fovea_case_text(&run->cases[i].definition, text, sizeof text));
}

/* Patterns that nothing matches would measure nothing, and look like a success. */
static bool check_arms(const fovea_bench_run *run, fovea_message *message) {
    const char *patterns = run->options.arms;
    for (int c = 0; patterns && c < run->case_count; c++) {
        int kernel = run->cases[c].definition.index;
        for (int i = 0; i < fovea_implementation_count(kernel); i++)
            if (fovea_arm_chosen(patterns, fovea_implementation_at(kernel, i)->name)) return true;
    }
    /* Peers say only later in which ways they can be called. */
    static const char all_peers[] = "peer/cuda/numpy,torch-cudnn-flash-efficient-math,openvino,"
                                    "onnxruntime,mlx,jax,fftw,cupy";
    if (!patterns || fovea_arm_chosen(patterns, all_peers)) return true;
    fovea_fail(message, FOVEA_INVALID_ARGUMENT,
               "--arms=%s: no implementation of these cases and no peer has that in its name",
               patterns);
    return false;
}

int fovea_command_bench(int argc, char **argv) {
    static const struct argp parser = {
        .options = option_table,
        .parser = parse,
        .doc =
            "Measures kernels beside what else there is on this machine: verified first, in turns, "
            "against measured ceilings."};
    static fovea_bench_run run;
    fovea_message message = {{0}};
    run = (fovea_bench_run){.options = {.suites = "sdpa,flash", .places = 1 << FOVEA_ON_CPU},
                            .memory = -1,
                            .whole_bytes = 5e8};
    if (argp_parse(&parser, argc, argv, 0, NULL, &run.options)) return 2;
    bool good = fovea_suites_expand(&run, &message);
    if (good && run.options.list) return list(&run), release(&run), 0;
    if (good) good = check_arms(&run, &message);
    if (good && run.options.json) good = fovea_output_check(run.options.json, &message) == FOVEA_OK;
    if (!good || !begin(&run, &message)) {
        fprintf(stderr, "fovea bench: %s\n", message.text);
        return release(&run), 2;
    }
    fovea_interrupt_catch();
    run.tier = best_tier();
    fovea_environment_describe(&run);
    fovea_environment_confine(&run);
    if (isatty(STDERR_FILENO)) fprintf(stderr, "starting peers, measuring ceilings ...");
    fovea_bench_start_peers(&run);
    note_peers(&run);
    if (fovea_bench_on(&run, FOVEA_ON_CPU)) fovea_ceilings_measure(&run.ceilings, run.threads, 1.0);
    if (fovea_bench_on(&run, FOVEA_ON_CUDA)) fovea_bench_measure_device(&run);
    clear_progress();
    fovea_bench_print_head(&run);
    if (!fovea_bench_prepare_ahead(&run))
        fovea_bench_warn(&run, "no threads to prepare cases with");
    measure_all(&run);
    int code = finish(&run);
    release(&run);
    return code;
}
