/* One point of `fovea tune`: its tensors, the reference, and the implementations side by side. */
#include "bench_interrupt.h"
#include "tune.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef fovea_tuning tuning;

bool fovea_tune_time_is_up(const tuning *t) {
    return t->full || fovea_interrupted() || fovea_seconds_now() > t->deadline;
}

bool fovea_tune_save(tuning *t) {
    fovea_message message;
    t->saved = fovea_seconds_now();
    if (fovea_routes_write(t->options->output, t->routes, &message) == FOVEA_OK) return true;
    fprintf(stderr, "%sfovea tune: %s\n", isatty(2) ? "\r\033[K" : "", message.text);
    return false;
}

/* The tensors of a point, its problem where it is measured, and what is to come out. */
typedef struct placed {
    fovea_case c;
    fovea_status status;
    fovea_message message; /* if it failed */
    fovea_sample sample;
    fovea_device_tensors tensors; /* none here */
    fovea_moved_problem *moved;   /* there; NULL here */
    fovea_verification *expected; /* NULL: trusted, or memory is short */
} placed;

static const fovea_problem *problem_of(const placed *p) {
    return p->moved ? &p->moved->problem : &p->sample.problem;
}

static void remove_point(placed *p) {
    fovea_verification_destroy(p->expected);
    if (p->tensors.block) fovea_device_tensors_destroy(&p->tensors);
    free(p->moved);
    if (p->status == FOVEA_OK) fovea_sample_destroy(&p->sample);
    free(p);
}

static void draw(void *task) {
    placed *p = task;
    p->status = fovea_sample_create(&p->c, NULL, &p->sample, &p->message);
}

static void compute_expected(void *task) {
    placed *p = task;
    p->expected = fovea_verification_create(&p->sample.problem, 64, p->c.seed);
}

/* False, with the message, if there is no room for it there. */
static bool move_to_device(placed *p) {
    p->moved = malloc(sizeof *p->moved);
    if (!p->moved)
        return fovea_fail(&p->message, FOVEA_OUT_OF_MEMORY, "no memory for a problem"), false;
    return fovea_device_tensors_create(&p->sample, &p->tensors, &p->message) == FOVEA_OK &&
           fovea_device_problem(&p->tensors, p->moved, &p->message) == FOVEA_OK;
}

static fovea_route_key key_of(const fovea_problem *problem, int threads) {
    fovea_route_key key;
    fovea_route_key_of(problem, threads, &key);
    return key;
}

/* Seconds that an implementation should take by its nearest measurement; 0 if there is none. */
static double foreseen(const tuning *t, const fovea_problem *problem, int number,
                       const fovea_route_key *key) {
    double least = INFINITY, seconds = 0, work = (double)fovea_route_work(problem);
    int count, first = fovea_routes_alike(t->routes, key, &count);
    for (int i = first; i < first + count; i++) {
        const fovea_route_record *record = &t->routes->records[i];
        double distance = fovea_route_key_distance(&record->key, key);
        if (record->number != number || distance >= least) continue;
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

/* ---- What is known to be right -------------------------------------------------------------- */

static uint64_t recorded(const tuning *t, const fovea_route_key *key) {
    uint64_t set = 0;
    int count, first = fovea_routes_alike(t->routes, key, &count);
    for (int i = first; i < first + count; i++) set |= UINT64_C(1) << t->routes->records[i].number;
    return set;
}

static bool same_kind(const fovea_route_key *a, const fovea_route_key *b) {
    return a->kernel == b->kernel && a->dtype == b->dtype && a->features == b->features;
}

/* NULL if there is none and none is to be added, or memory is short. */
static fovea_tune_proof *proof_of(tuning *t, const fovea_route_key *kind, bool add) {
    for (int i = 0; i < t->proof_count; i++)
        if (same_kind(&t->proofs[i].kind, kind)) return &t->proofs[i];
    if (!add) return NULL;
    if (t->proof_count == t->proof_capacity) {
        int capacity = t->proof_capacity ? 2 * t->proof_capacity : 256;
        fovea_tune_proof *proofs = realloc(t->proofs, (size_t)capacity * sizeof *proofs);
        if (!proofs) return NULL;
        t->proofs = proofs;
        t->proof_capacity = capacity;
    }
    t->proofs[t->proof_count] = (fovea_tune_proof){.kind = *kind};
    return &t->proofs[t->proof_count++];
}

/* From here on kernels use threads, and a comparison says something of larger problems too. */
static bool is_proof(const fovea_problem *problem) {
    return fovea_tune_bytes(problem) >= FOVEA_TUNE_TRUSTED_FROM / 4;
}

static void note_right(tuning *t, const fovea_problem *problem, const fovea_arms *arms) {
    fovea_route_key key = key_of(problem, 1);
    fovea_tune_proof *proof = is_proof(problem) ? proof_of(t, &key, true) : NULL;
    for (int i = 0; proof && i < arms->count; i++)
        if (arms->items[i].verified) proof->right |= UINT64_C(1) << arms->items[i].number;
}

/* Bit i: implementation i will be run. */
static uint64_t candidates(const tuning *t, const fovea_problem *problem, int threads) {
    uint64_t set = 0, without = hopeless(t, problem, threads);
    char reason[160];
    for (int i = 0; i < fovea_implementation_count(problem->index); i++) {
        const fovea_implementation *candidate = fovea_implementation_at(problem->index, i);
        if (!candidate->only_by_name && !(without >> i & 1) &&
            fovea_implementation_serves(candidate, problem, reason, sizeof reason))
            set |= UINT64_C(1) << i;
    }
    return set;
}

/* The reference of a large problem takes a hundred times as long as what is measured, and finds there
 * what it finds at smaller sizes of the same kind: who was right at one of them is not asked again. */
static bool is_trusted(tuning *t, const fovea_problem *problem) {
    fovea_route_key key = key_of(problem, 1);
    uint64_t set = 0;
    if (!is_proof(problem)) return false;
    for (int i = 0; i < t->thread_counts; i++) set |= candidates(t, problem, t->threads[i]);
    const fovea_tune_proof *proof = proof_of(t, &key, false);
    uint64_t right = proof ? proof->right : 0;
    if (fovea_tune_bytes(problem) >= FOVEA_TUNE_TRUSTED_FROM) right |= recorded(t, &key);
    return !(set & ~right);
}

/* ---- Measuring ------------------------------------------------------------------------------ */

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
        t->full |= !fovea_routes_add(t->routes, &made);
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
    fflush(stdout);
}

/* With one number of threads; false after an interrupt, and then nothing is recorded. */
static bool measure(tuning *t, placed *point, int threads, double seconds) {
    fovea_arms arms;
    fovea_sample *sample = &point->sample;
    const fovea_verification *expected = point->expected;
    const fovea_problem *problem = &sample->problem;
    double start = fovea_seconds_now();
    if (!fovea_arms_collect(&arms, problem, t->options->cuda ? &point->tensors : NULL, threads,
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
    if (expected) note_right(t, problem, &arms);
    double verified = fovea_seconds_now();
    t->stages[FOVEA_TUNE_COMPARING] += verified - start;
    bool complete = !fovea_interrupted() && fovea_arms_time(&arms, problem, seconds);
    t->stages[FOVEA_TUNE_SAMPLING] += fovea_seconds_now() - verified;
    if (complete) record(t, problem, &arms);
    if (complete && t->options->verbose) print_arms(sample, &arms);
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

/* What takes long of a point beside its measurement. A reference that is not waited for may be computing
 * still, so what it uses is kept until the process ends. */
static placed *abandoned;

static bool do_stage(tuning *t, fovea_tune_stage stage, void (*work)(void *), placed *p) {
    double start = fovea_seconds_now();
    bool done = fovea_interruptibly(work, p, t->deadline);
    t->stages[stage] += fovea_seconds_now() - start;
    if (!done) abandoned = p;
    return done;
}

/* With each number of threads, or with those that are wanted (threads 0). */
static bool measure_all(tuning *t, placed *p, uint32_t wanted, int threads, double seconds) {
    bool go_on = true;
    if (threads > 0) return measure(t, p, threads, seconds);
    for (int i = 0; i < t->thread_counts && go_on; i++) {
        if (!(wanted >> i & 1)) continue;
        go_on = measure(t, p, t->threads[i], seconds);
        if (go_on) t->done++, t->left--;
    }
    return go_on;
}

static void report_failure(tuning *t, const placed *p) {
    t->problems++;
    fprintf(stderr, "fovea tune: %s: %s\n", fovea_catalogue_kernel(p->c.index)->name,
            p->message.text);
}

bool fovea_tune_measure(tuning *t, const fovea_case *c, uint32_t wanted, int threads,
                        double seconds) {
    bool go_on = true, placed_well, trusted;
    placed *p = calloc(1, sizeof *p);
    if (!p) return false;
    p->c = *c;
    show_progress(t, c);
    if (!do_stage(t, FOVEA_TUNE_DRAWING, draw, p)) return false;
    placed_well = p->status == FOVEA_OK && (!t->options->cuda || move_to_device(p));
    trusted = placed_well && is_trusted(t, problem_of(p));
    if (placed_well && !trusted) {
        if (!do_stage(t, FOVEA_TUNE_REFERENCE, compute_expected, p)) return false;
        if (!p->expected)
            fovea_fail(&p->message, FOVEA_OUT_OF_MEMORY, "no memory for what is expected");
    }
    if (p->expected || trusted)
        go_on = measure_all(t, p, wanted, threads, seconds);
    else
        report_failure(t, p);
    remove_point(p);
    return go_on;
}
