/* `fovea tune`: verifies and measures the implementations over kernels, dtypes, sizes and threads, and
 * writes the routes file that the library then chooses by. First come the points of the catalogue,
 * far apart, with one thread and with all: the smallest and largest of each kind, then those between
 * them, unless the same implementation wins on both sides. Then, where two neighbours have different
 * winners, the point half way between them, until they are neighbours in the file too. */
#include "arms.h"
#include "bench_ceilings.h"
#include "bench_interrupt.h"
#include "commands.h"
#include "router/routes.h"
#include "tune_points.h"

#include <argp.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct arguments {
    double seconds;
    int kernel; /* -1: all */
    const char *output;
    bool again, verbose;
    bool cuda; /* of the implementations on a CUDA device */
    int device;
} arguments;

typedef struct tuning {
    const arguments *a;
    fovea_routes *routes;
    fovea_tune_points points;
    int threads[2], thread_counts;
    int done, left, problems; /* points with each number of threads; arms that are wrong or fail */
    int foregone;             /* points that were not measured: the winners around them agree */
    int between;              /* of the points that are done: found by halving */
    double deadline, saved;   /* when the time is up; when the file was last written */
    char device[FOVEA_ROUTES_DEVICE]; /* what is measured: "" for the processor */
} tuning;

/* The tensors of a point, and its problem where it is measured. */
typedef struct placed {
    fovea_sample sample;
    fovea_device_tensors tensors; /* none here */
    fovea_moved_problem *moved;   /* there; NULL here */
} placed;

static const fovea_problem *problem_of(const placed *p) {
    return p->moved ? &p->moved->problem : &p->sample.problem;
}

static void remove_point(placed *p) {
    if (p->tensors.block) fovea_device_tensors_destroy(&p->tensors);
    free(p->moved);
    fovea_sample_destroy(&p->sample);
}

static fovea_status place_point(const tuning *t, const fovea_case *c, placed *p,
                                fovea_message *message) {
    *p = (placed){0};
    fovea_status status = fovea_sample_create(c, NULL, &p->sample, message);
    if (status != FOVEA_OK || !t->a->cuda) return status;
    p->moved = malloc(sizeof *p->moved);
    status = p->moved ? fovea_device_tensors_create(&p->sample, &p->tensors, message)
                      : fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no memory for a problem");
    if (status == FOVEA_OK) status = fovea_device_problem(&p->tensors, p->moved, message);
    if (status != FOVEA_OK) remove_point(p);
    return status;
}

/* ---- One point ------------------------------------------------------------------------------ */

static fovea_route_key key_of(const fovea_problem *problem, int threads) {
    fovea_route_key key;
    fovea_route_key_of(problem, threads, &key);
    return key;
}

/* Seconds that an implementation should take by its nearest measurement; 0 if there is none. */
static double foreseen(const tuning *t, const fovea_problem *problem, int number,
                       const fovea_route_key *key) {
    double least = INFINITY, seconds = 0, work = (double)fovea_route_work(problem);
    for (int i = 0; i < t->routes->count; i++) {
        const fovea_route_record *record = &t->routes->records[i];
        if (record->key.kernel != key->kernel || record->number != number) continue;
        double distance = fovea_route_key_distance(&record->key, key);
        if (distance >= least) continue;
        least = distance;
        seconds = 1e-12 * (double)record->median * work / fmax(1, (double)record->work);
    }
    return seconds;
}

/* Arms that need not be tried: wrong before, or more than four times behind at the nearest size. */
static uint64_t hopeless(const tuning *t, const fovea_problem *problem, int threads) {
    uint64_t set = t->routes->wrong[problem->index];
    double seconds[FOVEA_IMPLEMENTATIONS_MAX], best = INFINITY;
    int count = fovea_implementation_count(problem->index);
    fovea_route_key key = key_of(problem, threads);
    for (int i = 0; i < count; i++) {
        seconds[i] = foreseen(t, problem, i, &key);
        if (seconds[i] > 0) best = fmin(best, seconds[i]);
    }
    for (int i = 0; i < count; i++)
        if (seconds[i] > 4 * best) set |= UINT64_C(1) << i;
    return set;
}

static bool was_right(const tuning *t, int number, const fovea_route_key *key) {
    for (int i = 0; i < t->routes->count; i++) {
        const fovea_route_record *record = &t->routes->records[i];
        if (record->number == number && record->key.kernel == key->kernel &&
            record->key.dtype == key->dtype && record->key.features == key->features)
            return true;
    }
    return false;
}

/* The reference of a large problem takes a hundred times as long as what is measured, and finds there
 * what it finds at smaller sizes of the same kind: who was right at one of them is not asked again. */
static bool is_trusted(const tuning *t, const fovea_problem *problem) {
    const double large = 1 << 20; /* bytes */
    char reason[160];
    fovea_route_key key = key_of(problem, 1);
    if (fovea_problem_bytes(problem) < large) return false;
    for (int i = 0; i < fovea_implementation_count(problem->index); i++) {
        const fovea_implementation *candidate = fovea_implementation_at(problem->index, i);
        if (!candidate->only_by_name && !fovea_routes_condemned(t->routes, problem->index, i) &&
            fovea_implementation_serves(candidate, problem, reason, sizeof reason) &&
            !was_right(t, i, &key))
            return false;
    }
    return true;
}

static void report_problem(tuning *t, const fovea_sample *sample, const fovea_arm *arm) {
    char text[256];
    t->problems++;
    fprintf(stderr, "%s%s of %s %s and is not recorded: %s (%s)\n", isatty(2) ? "\r\033[K" : "",
            arm->implementation->name, sample->problem.kernel->name,
            arm->failed ? "fails" : "is wrong", arm->why,
            fovea_case_text(sample->c, text, sizeof text));
}

static uint64_t picoseconds(double seconds) {
    return (uint64_t)fmin(1e18, fmax(1, round(seconds * 1e12)));
}

static void record(tuning *t, const fovea_problem *problem, const fovea_arms *arms) {
    fovea_route_record made = {.key = key_of(problem, arms->threads),
                               .work = fovea_route_work(problem)};
    fovea_routes_remove(t->routes, &made.key);
    for (int i = 0; i < arms->count; i++) {
        const fovea_arm *arm = &arms->items[i];
        if (!arm->verified || arm->summary.count == 0) continue;
        made.number = arm->number;
        made.samples = (uint32_t)arm->summary.count;
        made.median = picoseconds(arm->summary.median);
        made.deviation = arm->summary.mad > 0 ? picoseconds(arm->summary.mad) : 0;
        fovea_routes_add(t->routes, &made);
    }
}

static void print_arms(const fovea_sample *sample, const fovea_arms *arms) {
    char text[256], time[32], samples[64];
    const fovea_arm *best = fovea_arms_fastest(arms);
    printf("%s %s, threads %d\n", sample->problem.kernel->name,
           fovea_case_text(sample->c, text, sizeof text), arms->threads);
    for (int i = 0; i < arms->count; i++) {
        const fovea_arm *arm = &arms->items[i];
        if (arm->summary.count == 0) continue;
        printf("    %-28s %10s  %s%s\n", arm->implementation->name,
               fovea_seconds_text(arm->summary.median, time, sizeof time),
               fovea_samples_text(arm->summary.median, arm->summary.mad, arm->summary.count,
                                  samples, sizeof samples),
               arm == best ? "  <- fastest" : "");
    }
}

/* With one number of threads; false after an interrupt, and then nothing is recorded. */
static bool measure(tuning *t, placed *point, const fovea_verification *expected, int threads) {
    fovea_arms arms;
    fovea_sample *sample = &point->sample;
    const fovea_problem *problem = &sample->problem;
    /* A tenth of a second is enough for any, so that a whole run ends before its time. */
    double start = fovea_seconds_now();
    double share = fmin(0.1, (t->deadline - start) / (t->left > 0 ? t->left : 1));
    if (!fovea_arms_collect(&arms, problem, t->a->cuda ? &point->tensors : NULL, threads,
                            hopeless(t, problem, threads))) {
        fovea_arms_release(&arms);
        fprintf(stderr, "fovea tune: no memory for the scratch of %s\n", problem->kernel->name);
        t->problems++;
        return true;
    }
    fovea_sample_restore(sample); /* in-place tensors have gone through many calls */
    fovea_arms_verify(&arms, problem, expected);
    for (int i = 0; i < arms.count && !fovea_interrupted(); i++) {
        const fovea_arm *arm = &arms.items[i];
        if (arm->verified) continue;
        report_problem(t, sample, arm);
        if (!arm->failed) fovea_routes_condemn(t->routes, problem->index, arm->number);
    }
    double spent = fovea_seconds_now() - start;
    bool complete =
        !fovea_interrupted() && fovea_arms_time(&arms, problem, fmax(0.005, 0.8 * share - spent));
    if (complete) record(t, problem, &arms);
    if (complete && t->a->verbose) print_arms(sample, &arms);
    fovea_arms_release(&arms);
    return complete;
}

static void show_progress(const tuning *t, const fovea_case *c) {
    char text[160];
    if (!isatty(2)) return;
    int all = t->done + t->left;
    fprintf(stderr, "\r\033[K%3d %%  %3.0f s left  %s %.60s", all ? 100 * t->done / all : 100,
            fmax(0, t->deadline - fovea_seconds_now()), fovea_catalogue_kernel(c->index)->name,
            fovea_case_text(c, text, sizeof text));
}

/* With one number of threads, or with each that the point wants (threads 0). */
static bool measure_case(tuning *t, const fovea_case *c, uint32_t wanted, int threads) {
    placed point;
    fovea_message message;
    bool go_on = true;
    show_progress(t, c);
    if (place_point(t, c, &point, &message) != FOVEA_OK) {
        fprintf(stderr, "fovea tune: %s\n", message.text);
        t->problems++;
        return true;
    }
    const fovea_problem *problem = &point.sample.problem;
    bool trusted = is_trusted(t, problem_of(&point));
    fovea_verification *expected = trusted ? NULL : fovea_verification_create(problem, 64, c->seed);
    if (!expected && !trusted) {
        fprintf(stderr, "fovea tune: no memory to verify %s\n", problem->kernel->name);
        t->problems++;
    }
    if ((expected || trusted) && threads > 0) go_on = measure(t, &point, expected, threads);
    for (int i = 0; i < t->thread_counts && (expected || trusted) && go_on; i++) {
        if (!(wanted >> i & 1)) continue;
        go_on = measure(t, &point, expected, t->threads[i]);
        if (go_on) t->done++, t->left--;
    }
    fovea_verification_destroy(expected);
    remove_point(&point);
    return go_on;
}

/* ---- Crossovers ----------------------------------------------------------------------------- */

static bool time_is_up(const tuning *t) {
    return fovea_interrupted() || fovea_seconds_now() > t->deadline;
}

/* The fastest at a key, and by how much another one is slower there (INFINITY: not measured). */
static int winner(const tuning *t, const fovea_route_key *key, int other, double *behind) {
    int count, first = fovea_routes_find(t->routes, key, &count);
    const fovea_route_record *records = t->routes->records + first;
    *behind = INFINITY;
    for (int i = 0; i < count; i++)
        if (records[i].number == other)
            *behind = (double)records[i].median / (double)records[0].median - 1;
    return count > 0 ? records[0].number : -1;
}

/* Two keys have different winners, and taking the wrong one of the two costs something. */
static bool crosses(const tuning *t, const fovea_route_key *a, const fovea_route_key *b) {
    const double matters = 0.03;
    double behind_a, behind_b;
    int first = winner(t, a, -1, &behind_a), second = winner(t, b, -1, &behind_b);
    if (first < 0 || second < 0 || first == second) return false;
    winner(t, a, second, &behind_a);
    winner(t, b, first, &behind_b);
    return fmax(behind_a, behind_b) > matters;
}

/* Measures unless the file has it; false if it cannot be had or the time is up. */
static bool measure_between(tuning *t, const fovea_case *c, const fovea_route_key *key) {
    int count;
    fovea_routes_find(t->routes, key, &count);
    if (count > 0) return true;
    if (time_is_up(t) || !measure_case(t, c, 0, key->threads)) return false;
    t->between++;
    fovea_routes_find(t->routes, key, &count);
    return count > 0;
}

static bool case_key(const fovea_case *c, fovea_route_key *key);

static void halve_sizes(tuning *t, const fovea_case *a, const fovea_case *b, int threads) {
    fovea_case middle;
    fovea_route_key first, second, key;
    if (!case_key(a, &first) || !case_key(b, &second)) return;
    first.threads = second.threads = threads;
    if (!crosses(t, &first, &second)) return;
    fovea_tune_point_between(a, b, &middle);
    if (!case_key(&middle, &key)) return;
    key.threads = threads;
    if (!(fovea_route_key_distance(&first, &key) > 0 &&
          fovea_route_key_distance(&key, &second) > 0))
        return;
    if (!measure_between(t, &middle, &key)) return;
    halve_sizes(t, a, &middle, threads);
    halve_sizes(t, &middle, b, threads);
}

static void halve_threads(tuning *t, const fovea_case *c, int low, int high) {
    fovea_route_key first, second, key;
    int middle = (int)lround(sqrt((double)low * high));
    if (middle == low || middle == high || !case_key(c, &key)) return;
    first = second = key;
    first.threads = low, second.threads = high, key.threads = middle;
    if (!crosses(t, &first, &second) || !measure_between(t, c, &key)) return;
    halve_threads(t, c, low, middle);
    halve_threads(t, c, middle, high);
}

/* Which size of the two keys differs, all else being equal; -1: none or more than one. */
static int different_size(const fovea_route_key *a, const fovea_route_key *b) {
    int size = -1;
    if (!isfinite(fovea_route_key_distance(a, b))) return -1;
    for (int i = 0; i < FOVEA_TRAIT_SIZES; i++) {
        if (a->sizes[i] == b->sizes[i]) continue;
        if (size >= 0) return -1;
        size = i;
    }
    return size;
}

/* The point that is next to another one in one size, above it or below; -1: none. threads: only such as
 * were measured with so many; 0: any. */
static int next_point(const tuning *t, int point, int size, bool above, int threads) {
    const fovea_tune_point *points = t->points.items;
    int best = -1, least = INT_MAX, count = 1;
    for (int p = 0; p < t->points.count; p++) {
        if (different_size(&points[point].key, &points[p].key) != size) continue;
        int step = points[p].key.sizes[size] - points[point].key.sizes[size];
        if (!above) step = -step;
        if (step < 0 || step >= least) continue;
        fovea_route_key key = points[p].key;
        key.threads = threads;
        if (threads > 0) fovea_routes_find(t->routes, &key, &count);
        if (count > 0) best = p, least = step;
    }
    return best;
}

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
        int below = next_point(t, point, size, false, threads);
        int above = below < 0 ? -1 : next_point(t, point, size, true, threads);
        int winner = above < 0 ? -1 : clear_winner(t, below, threads);
        if (winner >= 0 && winner == clear_winner(t, above, threads)) return true;
    }
    return false;
}

static void find_crossovers(tuning *t) {
    const fovea_tune_point *points = t->points.items;
    for (int p = 0; p < t->points.count && !time_is_up(t); p++) {
        for (int i = 0; i < t->thread_counts; i++)
            for (int size = 0; size < FOVEA_TRAIT_SIZES; size++) {
                int above = next_point(t, p, size, true, t->threads[i]);
                if (above >= 0) halve_sizes(t, &points[p].c, &points[above].c, t->threads[i]);
            }
        if (t->thread_counts > 1) halve_threads(t, &points[p].c, t->threads[0], t->threads[1]);
    }
}

/* ---- All points ----------------------------------------------------------------------------- */

/* On a device most kernels have one implementation, and nothing is to be found out. */
static bool has_candidates(const tuning *t, int kernel) {
    return fovea_tune_candidates(kernel, t->a->cuda) > t->a->cuda;
}

/* The key of a case with one thread; false if no such tensors can be had. */
static bool case_key(const fovea_case *c, fovea_route_key *key) {
    fovea_sample sample;
    fovea_message message;
    fovea_case empty = *c;
    empty.data = FOVEA_DATA_NONE;
    if (fovea_sample_create(&empty, NULL, &sample, &message) != FOVEA_OK) return false;
    fovea_route_key_of(&sample.problem, 1, key);
    fovea_sample_destroy(&sample);
    return true;
}

/* Takes the kernels in turn, each in proportion to its points: when the time is short, all have
 * their first ones. */
static int compare_places(const void *a, const void *b) {
    const fovea_tune_point *x = a, *y = b;
    if (x->place != y->place) return x->place < y->place ? -1 : 1;
    return x->c.index - y->c.index;
}

static bool is_among(const fovea_tune_point *points, int count, const fovea_route_key *key) {
    for (int i = 0; i < count; i++)
        if (fovea_route_key_compare(&points[i].key, key) == 0) return true;
    return false;
}

/* Those of a kernel, each key once. */
static void add_kernel(fovea_tune_points *points, int kernel, bool device) {
    int first = points->count, kept = first;
    fovea_tune_points_add(points, kernel, device);
    for (int p = first; p < points->count; p++) {
        fovea_tune_point point = points->items[p];
        if (case_key(&point.c, &point.key) &&
            !is_among(points->items + first, kept - first, &point.key))
            points->items[kept++] = point;
    }
    points->count = kept;
    for (int p = first; p < kept; p++) points->items[p].place = (p - first + 0.5) / (kept - first);
}

static bool is_between(const tuning *t, int point) {
    for (int size = 0; size < FOVEA_TRAIT_SIZES; size++)
        if (next_point(t, point, size, false, 0) >= 0 && next_point(t, point, size, true, 0) >= 0)
            return true;
    return false;
}

/* The points that are to be measured, in their order. False if memory is short. */
static bool plan(tuning *t) {
    fovea_tune_points *points = &t->points;
    for (int k = 0; k < fovea_catalogue_count(); k++)
        if ((t->a->kernel < 0 || t->a->kernel == k) && has_candidates(t, k))
            add_kernel(points, k, t->a->cuda);
    for (int p = 0; p < points->count; p++) {
        fovea_tune_point *point = &points->items[p];
        if (is_between(t, p)) point->place += 1;
        for (int i = 0; i < t->thread_counts; i++) {
            int count;
            fovea_route_key key = point->key;
            key.threads = t->threads[i];
            fovea_routes_find(t->routes, &key, &count);
            if (count > 0 && !t->a->again) continue;
            point->wanted |= 1u << i;
            t->left++;
        }
    }
    if (points->count > 0)
        qsort(points->items, (size_t)points->count, sizeof *points->items, compare_places);
    return points->enough_memory || points->count == 0;
}

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

static bool save(tuning *t) {
    fovea_message message;
    t->saved = fovea_seconds_now();
    if (fovea_routes_write(t->a->output, t->routes, &message) == FOVEA_OK) return true;
    fprintf(stderr, "%sfovea tune: %s\n", isatty(2) ? "\r\033[K" : "", message.text);
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

/* Takes the numbers of threads that need no measurement from the set. */
static void drop_foregone(tuning *t, int point, uint32_t *wanted) {
    for (int i = 0; i < t->thread_counts; i++) {
        if (!(*wanted >> i & 1) || !is_foregone(t, point, t->threads[i])) continue;
        *wanted &= ~(1u << i);
        t->foregone++, t->left--;
    }
}

static bool measure_all(tuning *t) {
    warn_if_busy();
    t->deadline = fovea_seconds_now() + t->a->seconds;
    if (!t->a->cuda && !have_rates(t->routes) && t->left > 0 && t->a->seconds >= 20)
        measure_rates(t);
    for (int p = 0; p < t->points.count && t->left > 0; p++) {
        if (fovea_seconds_now() > t->deadline) break;
        fovea_tune_point *point = &t->points.items[p];
        drop_foregone(t, p, &point->wanted);
        if (point->wanted && !measure_case(t, &point->c, point->wanted, 0)) break;
        if (fovea_seconds_now() > t->saved + 10 && !save(t)) return false;
    }
    if (t->left == 0) find_crossovers(t);
    if (isatty(2)) fprintf(stderr, "\r\033[K");
    return save(t);
}

/* ---- The file, the summary ------------------------------------------------------------------ */

/* A file that is there and is no routes file is not ours to replace. */
static bool is_foreign(const char *path) {
    char start[14] = "";
    FILE *file = fopen(path, "r");
    if (!file) return false;
    size_t count = fread(start, 1, sizeof start - 1, file);
    fclose(file);
    return count > 0 && strncmp(start, "fovea-routes ", sizeof start - 1) != 0;
}

static bool open_routes(tuning *t, int room) {
    fovea_allocator allocator = fovea_default_allocator();
    fovea_message message;
    const char *path = t->a->output;
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
    if (status != FOVEA_OK) {
        fprintf(stderr, "%s; it is replaced\n", message.text);
        fovea_routes_release(t->routes);
        t->routes = NULL;
    }
    if (!t->routes) t->routes = fovea_routes_create(&allocator, room);
    if (!t->routes) fprintf(stderr, "fovea tune: no memory for the routes\n");
    if (t->routes) snprintf(t->routes->device, sizeof t->routes->device, "%s", t->device);
    return t->routes && save(t);
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

static int summarise(const tuning *t) {
    for (int k = 0; k < fovea_catalogue_count(); k++) print_kernel(t->routes, k);
    printf("%s: %d measurements; %d points measured now, %d between such as agree left out, and %d "
           "measured at crossovers, in %.0f s\n",
           t->a->output, t->routes->count, t->done, t->foregone, t->between,
           fovea_seconds_now() - (t->deadline - t->a->seconds));
    if (fovea_interrupted())
        printf("interrupted; what was measured is kept, and the same command continues\n");
    else if (t->left > 0)
        printf("the time is up with %d points left; the same command continues\n", t->left);
    if (t->problems > 0)
        printf("%d implementations were wrong or failed (see above)\n", t->problems);
    return t->problems > 0 || fovea_interrupted();
}

/* The file of what is measured, unless one was named. */
static bool find_output(const tuning *t, arguments *a) {
    static char place[4096];
    if (!a->output) a->output = fovea_routes_place_of(t->device, place, sizeof place);
    if (a->output && *a->output) return true;
    fprintf(stderr, "fovea tune: no place for the routes file; name one with --output\n");
    return false;
}

static int tune(arguments *a) {
    tuning t = {.a = a, .threads = {1, fovea_allowed_threads()}};
    fovea_message message;
    t.thread_counts = t.threads[1] > 1 && !a->cuda ? 2 : 1;
    int code = 1;
    if (a->cuda && fovea_tool_device_open(a->device, &message) != FOVEA_OK)
        return fprintf(stderr, "fovea tune: --backend=cuda: %s\n", message.text), 2;
    if (a->cuda) fovea_tool_device_identity(t.device, sizeof t.device);
    if (!find_output(&t, a)) return 2;
    fovea_interrupt_catch();
    if (open_routes(&t, FOVEA_ROUTES_MAX / 4)) {
        if (!plan(&t))
            fprintf(stderr, "fovea tune: no memory for all points\n");
        else if (t.points.count == 0)
            fprintf(stderr, "fovea tune: no implementation here to measure\n");
        else if (measure_all(&t))
            code = summarise(&t);
    }
    fovea_tune_points_release(&t.points);
    fovea_routes_release(t.routes);
    return code;
}

/* ---- The command line ----------------------------------------------------------------------- */

static error_t parse(int key, char *value, struct argp_state *state) {
    arguments *a = state->input;
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
    case 'b':
        a->cuda = fovea_backend_is_cuda(value, state);
        return 0;
    case 'd':
        a->device = fovea_device_number(value, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int fovea_command_tune(int argc, char **argv) {
    static const struct argp_option options[] = {
        {"seconds", 's', "SECONDS", 0, "How long it may take in all (default 600)", 0},
        {"kernel", 'k', "KERNEL", 0, "Measure this kernel only", 0},
        {"output", 'o', "FILE", 0, "Where the routes go (default: where the library looks)", 0},
        {"again", 'a', 0, 0, "Measure anew what the file already has", 0},
        {"verbose", 'v', 0, 0, "Print each measurement", 0},
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
    arguments a = {.seconds = 600, .kernel = -1};
    argp_err_exit_status = 2;
    argv[0] = name;
    if (argp_parse(&parser, argc, argv, 0, NULL, &a)) return 2;
    return tune(&a);
}
