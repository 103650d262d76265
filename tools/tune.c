/* `fovea tune`: verifies and measures the implementations over kernels, dtypes, sizes and threads, and
 * writes the routes file that the library then chooses by. First come the points of the catalogue,
 * far apart, with one thread and with all, in the order of what they tell in a second: the ends of each
 * kind, then those between them, unless the same implementation wins on both sides. Then, where two
 * neighbours have different winners, the point half way between them. */
#include "tune.h"
#include "bench_ceilings.h"
#include "bench_interrupt.h"
#include "commands.h"

#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef fovea_tuning tuning;

/* ---- Points that need no measurement -------------------------------------------------------- */

/* The winner at a point where it leads clearly; -1: there is none. */
static int clear_winner(const tuning *t, int point, int threads) {
    const double lead = 1.05;
    int count;
    fovea_route_key key = t->points.items[point].key;
    key.threads = threads;
    int first = fovea_routes_find(t->routes, &key, &count);
    const fovea_route_record *records = t->routes->records + first;
    if (count == 0) return -1;
    bool clear = count == 1 || (double)records[1].median > lead * (double)records[0].median;
    return clear ? records[0].number : -1;
}

/* Between two points with the same clear winner; the router takes it from the nearer one. */
static bool is_foregone(const tuning *t, int point, int threads) {
    for (int size = 0; size < FOVEA_TRAIT_SIZES; size++) {
        int below = fovea_tune_next_point(t, point, size, false, threads);
        int above = below < 0 ? -1 : fovea_tune_next_point(t, point, size, true, threads);
        int winner = above < 0 ? -1 : clear_winner(t, below, threads);
        if (winner >= 0 && winner == clear_winner(t, above, threads)) return true;
    }
    return false;
}

/* Takes the numbers of threads that need no measurement from the set. */
static void drop_foregone(tuning *t, int point, uint32_t *wanted) {
    for (int i = 0; i < t->thread_counts; i++) {
        if (!(*wanted >> i & 1) || !is_foregone(t, point, t->threads[i])) continue;
        *wanted &= ~(1u << i);
        t->foregone++, t->left--;
    }
}

/* ---- Measuring ------------------------------------------------------------------------------ */

static void measure_rates(tuning *t) {
    fovea_ceilings ceilings = {0};
    fovea_ceilings_measure(&ceilings, 1, 0.5);
    const fovea_ceiling *copy = fovea_ceilings_find(&ceilings, "copy", NULL, 1);
    for (int tier = 0; tier < FOVEA_TIER_COUNT; tier++) {
        const char *name = fovea_tier_name((fovea_tier)tier);
        const fovea_ceiling *flops = fovea_ceilings_find(&ceilings, "fma_f32", name, 1);
        if (!flops) flops = fovea_ceilings_find(&ceilings, "tile_bf16", name, 1);
        if (flops) t->routes->rates.flops[tier] = round(flops->value);
        if (flops && copy) t->routes->rates.bandwidth[tier] = round(copy->value);
    }
}

static bool have_rates(const fovea_routes *routes) {
    for (int tier = 0; tier < FOVEA_TIER_COUNT; tier++)
        if (routes->rates.flops[tier] > 0) return true;
    return false;
}

static void warn_if_busy(void) {
    double load;
    int processors = fovea_allowed_threads();
    if (getloadavg(&load, 1) == 1 && load > 1.5 * processors)
        fprintf(stderr,
                "fovea tune: the machine is busy (load %.1f on %d processors): the figures will be "
                "noisy\n",
                load, processors);
}

/* What is left beside what the points take anyway is for their samples. */
static double samples_of_each(const tuning *t) {
    const double least = 0.003;
    double left = t->deadline - fovea_seconds_now() - fovea_tune_foreseen_left(t);
    return fmax(least, fmin(FOVEA_TUNE_SAMPLING_MOST, 0.8 * left / (t->left > 0 ? t->left : 1)));
}

/* False when the time is up. A point that would not end before that is left out, not begun. */
static bool measure_point(tuning *t, fovea_tune_point *point) {
    int kernel = point->c.index;
    double start = fovea_seconds_now(), samples = samples_of_each(t);
    double beside = fovea_tune_foreseen(t, kernel, point->bytes, point->operations);
    double sampled = t->stages[FOVEA_TUNE_SAMPLING];
    if (start + beside > t->deadline) return true;
    if (!fovea_tune_measure(t, &point->c, point->wanted, 0, samples)) return false;
    point->wanted = 0;
    sampled = t->stages[FOVEA_TUNE_SAMPLING] - sampled;
    fovea_tune_note_pace(t, kernel, point->bytes, point->operations,
                         fovea_seconds_now() - start - sampled);
    return true;
}

static bool measure_all(tuning *t) {
    if (!t->options->cuda && !have_rates(t->routes) && t->left > 0 && t->options->seconds >= 20)
        measure_rates(t);
    for (int i = 0; i < t->points.count && t->left > 0 && !fovea_tune_time_is_up(t); i++) {
        fovea_tune_point *point = &t->points.items[t->order[i]];
        drop_foregone(t, t->order[i], &point->wanted);
        if (point->wanted && !measure_point(t, point)) break;
        if (fovea_seconds_now() > t->saved + 10 && !fovea_tune_save(t)) return false;
    }
    bool good = t->left > 0 || fovea_tune_crossovers(t);
    if (isatty(2)) fprintf(stderr, "\r\033[K");
    if (!good) fprintf(stderr, "fovea tune: no memory for all crossovers\n");
    return fovea_tune_save(t);
}

/* ---- The file, the summary ------------------------------------------------------------------ */

/* A file that is there and is no routes file, or cannot be read, is not ours to replace. */
static bool is_foreign(const char *path) {
    char start[14] = "";
    FILE *file = fopen(path, "r");
    if (!file) return errno != ENOENT;
    size_t count = fread(start, 1, sizeof start - 1, file);
    bool unread = ferror(file);
    fclose(file);
    return unread || (count > 0 && strncmp(start, "fovea-routes ", sizeof start - 1) != 0);
}

static bool open_routes(tuning *t, int room) {
    fovea_allocator allocator = fovea_default_allocator();
    fovea_message message;
    const char *path = t->options->output;
    if (is_foreign(path)) {
        fprintf(stderr, "fovea tune: %s is not a routes file; it is not replaced\n", path);
        return false;
    }
    fovea_status status = FOVEA_OK;
    if (access(path, F_OK) == 0) {
        status = fovea_routes_read(path, room, &allocator, &t->routes, &message);
        if (status == FOVEA_OK)
            status = fovea_routes_check_device(t->routes, path, t->device, &message);
    }
    if (status == FOVEA_OUT_OF_MEMORY)
        return fprintf(stderr, "fovea tune: %s\n", message.text), false;
    if (status != FOVEA_OK) {
        fprintf(stderr, "%s; it is replaced\n", message.text);
        fovea_routes_release(t->routes);
        t->routes = NULL;
    }
    if (!t->routes) t->routes = fovea_routes_create(&allocator, room);
    if (!t->routes) fprintf(stderr, "fovea tune: no memory for the routes\n");
    if (t->routes) snprintf(t->routes->device, sizeof t->routes->device, "%s", t->device);
    return t->routes && (t->options->plan || fovea_tune_save(t));
}

/* "attention  96 points: cpu/avx512/flash 80, cpu/avx512/fused 16" */
static void print_kernel(const fovea_routes *routes, int kernel) {
    int wins[FOVEA_IMPLEMENTATIONS_MAX] = {0}, points = 0;
    for (int i = 0; i < routes->count; i++) {
        const fovea_route_record *record = &routes->records[i];
        if (record->key.kernel != kernel) continue;
        if (i > 0 && fovea_route_key_compare(&record->key, &record[-1].key) == 0) continue;
        wins[record->number]++, points++;
    }
    if (points == 0) return;
    printf("%-20s %4d points:", fovea_catalogue_kernel(kernel)->name, points);
    const char *separator = " ";
    for (int i = 0; i < fovea_implementation_count(kernel); i++) {
        if (wins[i] == 0) continue;
        printf("%s%s %d", separator, fovea_implementation_at(kernel, i)->name, wins[i]);
        separator = ", ";
    }
    printf("\n");
}

static void print_stages(const tuning *t) {
    static const char *const names[] = {"drawing", "the reference", "comparing", "sampling"};
    double other = fovea_seconds_now() - t->began;
    for (int i = 0; i < FOVEA_TUNE_STAGES; i++) {
        printf("%s %.0f s, ", names[i], t->stages[i]);
        other -= t->stages[i];
    }
    printf("the rest %.0f s\n", fmax(0, other));
}

static int summarise(const tuning *t) {
    for (int k = 0; k < fovea_catalogue_count(); k++) print_kernel(t->routes, k);
    printf("%s: %d measurements; %d points measured now, %d between such as agree left out, and %d "
           "measured at crossovers, in %.0f s\n",
           t->options->output, t->routes->count, t->done, t->foregone, t->between,
           fovea_seconds_now() - t->began);
    print_stages(t);
    if (fovea_interrupted())
        printf("interrupted with %d points left; what was measured is kept, and the same command "
               "continues\n",
               t->left);
    else if (t->full)
        printf("the file is full with %d points left\n", t->left);
    else if (t->left > 0)
        printf("the time is up with %d points left; the same command continues\n", t->left);
    else if (t->open_crossovers > 0)
        printf("all points are measured; the time is up with %d intervals between different "
               "winners that may be halved further\n",
               t->open_crossovers);
    else
        printf("nothing is left\n");
    if (t->problems > 0)
        printf("%d implementations were wrong or failed (see above)\n", t->problems);
    return t->problems > 0 || fovea_interrupted();
}

/* Where the library looks for what is measured, if it is told the same name. */
static bool find_output(const tuning *t, fovea_tune_options *a) {
    static char place[4096];
    a->output = fovea_routes_place_of(a->output, t->device, place, sizeof place);
    if (a->output) return true;
    fprintf(stderr, "fovea tune: no place for the routes file; name one with --output\n");
    return false;
}

static int run(tuning *t) {
    if (!fovea_tune_plan(t)) return fprintf(stderr, "fovea tune: no memory for all points\n"), 1;
    if (t->points.count == 0)
        return fprintf(stderr, "fovea tune: no implementation here to measure\n"), 1;
    if (t->options->plan) return fovea_tune_print_plan(t), 0;
    warn_if_busy();
    printf(
        "%d points with their numbers of threads: %.0f s foreseen beside their samples; the time "
        "is up after %.0f s\n",
        t->left, fovea_tune_foreseen_left(t), t->options->seconds);
    fflush(stdout);
    return measure_all(t) ? summarise(t) : 1;
}

static int tune(fovea_tune_options *a) {
    tuning t = {.options = a, .threads = {1, fovea_allowed_threads()}};
    fovea_message message;
    t.began = fovea_seconds_now();
    t.deadline = t.began + a->seconds;
    t.thread_counts = t.threads[1] > 1 && !a->cuda ? 2 : 1;
    if (a->cuda && fovea_tool_device_open(a->device, &message) != FOVEA_OK)
        return fprintf(stderr, "fovea tune: --backend=cuda: %s\n", message.text), 2;
    if (a->cuda) fovea_tool_device_identity(t.device, sizeof t.device);
    if (!find_output(&t, a)) return 2;
    fovea_interrupt_catch();
    int code = open_routes(&t, FOVEA_ROUTES_MAX / 4) ? run(&t) : 1;
    fovea_tune_points_release(&t.points);
    fovea_routes_release(t.routes);
    free(t.order);
    free(t.proofs);
    return code;
}

/* ---- The command line ----------------------------------------------------------------------- */

static error_t parse(int key, char *value, struct argp_state *state) {
    fovea_tune_options *a = state->input;
    char *end;
    switch (key) {
    case 's':
        a->seconds = strtod(value, &end);
        if (*end || !(a->seconds > 0 && a->seconds <= 86400))
            argp_error(state, "--seconds is «%s»; it is a number above 0, at most 86400", value);
        return 0;
    case 'k':
        a->kernel = fovea_catalogue_find(value);
        if (a->kernel < 0) argp_error(state, "there is no kernel «%s»", value);
        return 0;
    case 'o':
        a->output = value;
        return 0;
    case 'a':
        a->again = true;
        return 0;
    case 'v':
        a->verbose = true;
        return 0;
    case 'p':
        a->plan = true;
        return 0;
    case 'b':
        a->cuda = fovea_backend_is_cuda(value, state);
        return 0;
    case 'd':
        a->device = fovea_device_number(value, state);
        return 0;
    case ARGP_KEY_END:
        fovea_device_expect(a->cuda, a->device, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int fovea_command_tune(int argc, char **argv) {
    static const struct argp_option options[] = {
        {"seconds", 's', "SECONDS", 0, "How long it may take in all (default 480)", 0},
        {"kernel", 'k', "KERNEL", 0, "Measure this kernel only", 0},
        {"output", 'o', "FILE", 0,
         "Where the routes go (default: where the library looks); those of a device beside it, "
         "with "
         "its name appended",
         0},
        {"again", 'a', 0, 0, "Measure anew what the file already has", 0},
        {"verbose", 'v', 0, 0, "Print each measurement", 0},
        {"plan", 'p', 0, 0, "Print what would be measured and how long it should take, and end", 0},
        {"backend", 'b', "NAME", 0, "cpu, or cuda: implementations on a CUDA device", 0},
        {"device", 'd', "N", 0, "The CUDA device (0)", 0},
        {0}};
    const struct argp parser = {
        .options = options,
        .parser = parse,
        .doc =
            "Measures which implementation is fastest for which call, and writes the routes file "
            "that the library chooses by. What is wrong is reported and never recorded. An "
            "existing file of this machine is continued."};
    char name[] = "fovea tune";
    fovea_tune_options a = {.seconds = 480, .kernel = -1};
    argp_err_exit_status = 2;
    argv[0] = name;
    if (argp_parse(&parser, argc, argv, 0, NULL, &a)) return 2;
    return tune(&a);
}
