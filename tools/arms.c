/* Verifying and timing the implementations of one problem. */
#include "arms.h"

#include "bench_interrupt.h"
#include "runtime/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* The problem where the arms compute. */
static bool move(fovea_arms *arms, const fovea_problem **problem) {
    fovea_message message;
    if (!arms->device) return true;
    arms->moved = malloc(sizeof *arms->moved);
    if (!arms->moved || fovea_device_problem(arms->device, arms->moved, &message) != FOVEA_OK)
        return false;
    *problem = &arms->moved->problem;
    return true;
}

bool fovea_arms_collect(fovea_arms *arms, const fovea_problem *problem,
                        const fovea_device_tensors *device, int threads, uint64_t without) {
    char reason[160];
    *arms = (fovea_arms){
        .threads = threads, .plans = {.allocator = fovea_default_allocator()}, .device = device};
    if (!move(arms, &problem)) return false;
    for (int i = 0; i < fovea_implementation_count(problem->index); i++) {
        const fovea_implementation *candidate = fovea_implementation_at(problem->index, i);
        if (candidate->only_by_name || without >> i & 1 ||
            !fovea_implementation_serves(candidate, problem, reason, sizeof reason))
            continue;
        arms->items[arms->count++] = (fovea_arm){.implementation = candidate, .number = i};
        if (device || !candidate->workspace) continue;
        size_t bytes = candidate->workspace(problem, threads);
        if (bytes > arms->workspace_bytes) arms->workspace_bytes = bytes;
    }
    if (arms->workspace_bytes == 0) return true;
    if (arms->workspace_bytes < SIZE_MAX - FOVEA_ALIGNMENT)
        arms->workspace = aligned_alloc(
            FOVEA_ALIGNMENT, (arms->workspace_bytes / FOVEA_ALIGNMENT + 1) * FOVEA_ALIGNMENT);
    return arms->workspace != NULL;
}

void fovea_arms_release(fovea_arms *arms) {
    for (int i = 0; i < arms->count; i++) {
        fovea_timings_release(&arms->items[i].timings);
        if (arms->device) fovea_device_call_destroy(&arms->items[i].call);
    }
    free(arms->moved);
    free(arms->workspace);
    fovea_plans_release(&arms->plans);
    arms->workspace = NULL;
    arms->count = 0;
}

static double fail(fovea_arm *arm, const char *why) {
    arm->failed = true;
    snprintf(arm->why, sizeof arm->why, "it failed: %.230s", why);
    return -1;
}

/* The mean of that many replayed runs, by events. */
static double run_on_device(fovea_arm *arm, int repeats) {
    const fovea_turn turn = {.warm = 1, .count = 1, .inner = repeats};
    fovea_message message;
    fovea_timings seconds = {0};
    fovea_status status = fovea_device_call_time(&arm->call, &turn, &seconds, &message);
    double value = status == FOVEA_OK ? seconds.values[0] * repeats : fail(arm, message.text);
    fovea_timings_release(&seconds);
    return value;
}

/* Once, with the results brought back; the time is that of another run, since the first one loads. */
static double run_and_fetch(fovea_arms *arms, fovea_arm *arm) {
    fovea_message message;
    fovea_status status =
        fovea_device_call_create(arm->implementation, arms->device, 1, &arm->call, &message);
    if (status == FOVEA_OK) status = fovea_device_tensors_send(arms->device, &message);
    if (status == FOVEA_OK) status = fovea_device_call_run(&arm->call, &message);
    if (status == FOVEA_OK) status = fovea_device_tensors_fetch(arms->device, &message);
    return status == FOVEA_OK ? run_on_device(arm, 1) : fail(arm, message.text);
}

/* Seconds of that many runs; -1 on failure. */
static double run(fovea_arms *arms, fovea_arm *arm, const fovea_problem *problem, int repeats) {
    const fovea_implementation *implementation = arm->implementation;
    if (arms->device) return run_on_device(arm, repeats);
    size_t bytes =
        implementation->workspace ? implementation->workspace(problem, arms->threads) : 0;
    double start = fovea_seconds_now();
    for (int i = 0; i < repeats; i++) {
        fovea_run state = {.threads = arms->threads,
                           .workspace = arms->workspace,
                           .workspace_bytes = bytes,
                           .plans = &arms->plans};
        fovea_status status = implementation->run(problem, &state);
        if (status != FOVEA_OK) return fail(arm, fovea_status_text(status));
    }
    return fovea_seconds_now() - start;
}

/* NaN patterns, so that an element that is not written is noticed. */
static void poison_outputs(const fovea_problem *problem) {
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX && problem->kernel->arguments[a].name; a++) {
        const fovea_view *view = &problem->views[a];
        if (!fovea_given(problem, a) || problem->kernel->arguments[a].role != FOVEA_OUTPUT)
            continue;
        int64_t elements = fovea_view_elements(view);
        size_t size = fovea_dtype_size(view->dtype);
        if (fovea_view_is_contiguous(view)) {
            memset(view->data, 0xA5, (size_t)elements * size);
            continue;
        }
        for (int64_t i = 0; i < elements; i++) memset(fovea_view_address(view, i), 0xA5, size);
    }
}

/* In-place tensors hold what they held when the expected values were made; false if memory is short. */
static bool keep_in_place(const fovea_problem *problem, double *kept[]) {
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX && problem->kernel->arguments[a].name; a++) {
        if (!fovea_given(problem, a) || problem->kernel->arguments[a].role != FOVEA_IN_PLACE)
            continue;
        kept[a] = malloc(((size_t)fovea_view_elements(&problem->views[a]) + 1) * sizeof(double));
        if (!kept[a]) return false;
        fovea_view_read_all(&problem->views[a], kept[a]);
    }
    return true;
}

static void restore_in_place(const fovea_problem *problem, double *const kept[]) {
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++)
        if (kept[a]) fovea_view_write_all(&problem->views[a], kept[a]);
}

void fovea_arms_verify(fovea_arms *arms, const fovea_problem *problem,
                       const fovea_verification *expected) {
    double *kept[FOVEA_ARGUMENTS_MAX] = {NULL};
    bool enough = keep_in_place(problem, kept);
    for (int i = 0; enough && i < arms->count && !fovea_interrupted(); i++) {
        fovea_arm *arm = &arms->items[i];
        fovea_verdict verdict;
        poison_outputs(problem);
        restore_in_place(problem, kept);
        arm->first = arms->device ? run_and_fetch(arms, arm) : run(arms, arm, problem, 1);
        if (arm->failed) continue;
        if (expected) fovea_verify(expected, NULL, &verdict);
        arm->verified = !expected || verdict.verified;
        if (!arm->verified) snprintf(arm->why, sizeof arm->why, "%s", verdict.where);
    }
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) free(kept[a]);
}

const fovea_arm *fovea_arms_fastest(const fovea_arms *arms) {
    const fovea_arm *best = NULL;
    for (int i = 0; i < arms->count; i++) {
        const fovea_arm *arm = &arms->items[i];
        if (arm->verified && arm->summary.count > 0 &&
            (!best || arm->summary.median < best->summary.median))
            best = arm;
    }
    return best;
}

const char *fovea_samples_text(double median, double deviation, int64_t count, char *text,
                               size_t size) {
    if (count == 1)
        snprintf(text, size, "one run");
    else
        snprintf(text, size, "± %.1f %%, median of %lld", 100 * deviation / median,
                 (long long)count);
    return text;
}

static void summarise(fovea_arms *arms) {
    for (int i = 0; i < arms->count; i++)
        arms->items[i].summary =
            fovea_summarise(arms->items[i].timings.values, arms->items[i].timings.count);
}

/* How often an arm runs for one sample, found by a run that is not the first: that met cold memory.
 * An arm that is hopelessly slow gets this run as its only sample: then 0. What takes milliseconds is
 * hardly disturbed and costs most, what takes microseconds may have lost the processor and is run again. */
static int calibrate(fovea_arms *arms, fovea_arm *arm, const fovea_problem *problem,
                     double fastest_first) {
    enum { TRIES = 3 };
    const double shortest_sample = 20e-6, is_long = 5e-3;
    double hopeless = fastest_first > is_long ? 2 : 5, once = INFINITY;
    if (!arm->verified) return 0;
    for (int i = 0; i < TRIES && (i == 0 || once < is_long); i++) {
        once = fmin(once, run(arms, arm, problem, 1));
        if (arm->failed) return arm->verified = false, 0;
        if (fmin(arm->first, once) < hopeless * fastest_first)
            return (int)fmin(1e6, 1 + shortest_sample / fmax(once, 1e-9));
    }
    fovea_timings_add(&arm->timings, once);
    return 0;
}

/* Noise only adds, so an arm whose least sample is far behind is let go after three rounds, and after
 * five one that is above the fastest by nine samples of ten. False if nothing is left to decide: the
 * fastest is alone, or no other one can be faster than it by a hundredth, by what is known of both. */
static bool is_open(fovea_arms *arms, int rounds, bool takes_part[]) {
    enum { TRIALS = 3, ENOUGH = 5 };
    const double far_behind = 1.3, close = 0.01;
    if (rounds < TRIALS) return true;
    summarise(arms);
    const fovea_arm *best = fovea_arms_fastest(arms);
    bool open = false;
    for (int i = 0; best && i < arms->count; i++) {
        const fovea_arm *arm = &arms->items[i];
        if (arm == best || !takes_part[i]) continue;
        bool above = rounds >= ENOUGH && arm->summary.p10 > best->summary.p90;
        takes_part[i] = !above && arm->summary.minimum < far_behind * best->summary.median;
        double unknown = fovea_summary_spread(&arm->summary) + fovea_summary_spread(&best->summary);
        double behind = arm->summary.median / best->summary.median - 1;
        open |= takes_part[i] && (rounds < ENOUGH || unknown - behind > close);
    }
    return open;
}

/* Summaries sort all samples: after the first rounds they are looked at when there are a quarter more. */
static int next_look(int rounds) { return rounds < 8 ? rounds + 1 : rounds + rounds / 4; }

bool fovea_arms_time(fovea_arms *arms, const fovea_problem *problem, double seconds) {
    enum { ROUNDS = 3, ROUNDS_MAX = 1000 };
    int order[FOVEA_IMPLEMENTATIONS_MAX], repeats[FOVEA_IMPLEMENTATIONS_MAX];
    bool takes_part[FOVEA_IMPLEMENTATIONS_MAX];
    uint64_t random = 1;
    double fastest_first = INFINITY;
    for (int i = 0; i < arms->count; i++)
        if (arms->items[i].verified) fastest_first = fmin(fastest_first, arms->items[i].first);
    for (int i = 0; i < arms->count; i++) {
        order[i] = i;
        repeats[i] = calibrate(arms, &arms->items[i], problem, fastest_first);
        takes_part[i] = repeats[i] > 0;
    }
    double start = fovea_seconds_now();
    int look = 0;
    for (int round = 0; round < ROUNDS_MAX && !fovea_interrupted(); round++) {
        double elapsed = fovea_seconds_now() - start;
        if (elapsed > seconds && (round >= ROUNDS || (round > 0 && elapsed > 2 * seconds))) break;
        if (round == look && !is_open(arms, round, takes_part)) break;
        if (round == look) look = next_look(round);
        fovea_shuffle(order, arms->count, &random);
        for (int i = 0; i < arms->count; i++) {
            fovea_arm *arm = &arms->items[order[i]];
            if (!takes_part[order[i]]) continue;
            double time = run(arms, arm, problem, repeats[order[i]]);
            if (time > 0) fovea_timings_add(&arm->timings, time / repeats[order[i]]);
            if (arm->failed) arm->verified = takes_part[order[i]] = false;
        }
    }
    summarise(arms);
    return !fovea_interrupted();
}
