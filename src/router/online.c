/* Learning while working; online.h tells how. */
#include "router/online.h"

#include <math.h>

/* ---- The table ------------------------------------------------------------------------------ */

fovea_online *fovea_online_create(const fovea_allocator *allocator) {
    fovea_online *online = allocator->allocate(allocator->user, sizeof *online, FOVEA_ALIGNMENT);
    if (!online) return NULL;
    memset(online, 0, sizeof *online);
    online->allocator = *allocator;
    return online;
}

void fovea_online_release(fovea_online *online) {
    if (!online) return;
    fovea_allocator allocator = online->allocator;
    allocator.release(allocator.user, online, sizeof *online);
}

/* The place of a kernel's signature, or the free one where it would go; -1 if all places that it may have
 * are taken by others. */
static int place_of(const fovea_online *online, int kernel, uint64_t signature) {
    enum { PROBES = 16 };
    for (int i = 0; i < PROBES; i++) {
        int place = (int)(((signature >> 32) + (uint64_t)i) % FOVEA_ONLINE_PROBLEMS);
        const fovea_online_problem *there = &online->problems[place];
        if (there->signature == 0 || (there->signature == signature && there->key.kernel == kernel))
            return place;
    }
    return -1;
}

const fovea_online_problem *fovea_online_find(const fovea_online *online,
                                              const fovea_problem *problem) {
    int place = place_of(online, problem->index, fovea_problem_signature(problem));
    return place >= 0 && online->problems[place].signature ? &online->problems[place] : NULL;
}

int fovea_online_samples(const fovea_online_candidate *candidate) {
    int count = candidate->calls - 1;
    return count < 0 ? 0 : count < FOVEA_ONLINE_SAMPLES ? count : FOVEA_ONLINE_SAMPLES;
}

double fovea_online_median(const fovea_online_candidate *candidate) {
    double sorted[FOVEA_ONLINE_SAMPLES];
    int count = fovea_online_samples(candidate);
    for (int i = 0; i < count; i++) {
        int j = i;
        for (; j > 0 && sorted[j - 1] > candidate->times[i]; j--) sorted[j] = sorted[j - 1];
        sorted[j] = candidate->times[i];
    }
    return count ? sorted[count / 2] : candidate->first;
}

/* ---- A new problem -------------------------------------------------------------------------- */

static const double hopeless = 4; /* times the choice's expected time */

static void add_candidate(fovea_online_problem *p, int number, double expected) {
    int slowest = 0;
    if (p->count < FOVEA_ONLINE_CANDIDATES) {
        p->candidates[p->count++] =
            (fovea_online_candidate){.number = number, .expected = expected};
        return;
    }
    for (int i = 1; i < p->count; i++)
        if (p->candidates[i].expected > p->candidates[slowest].expected) slowest = i;
    if (expected < p->candidates[slowest].expected && slowest != p->best)
        p->candidates[slowest] = (fovea_online_candidate){.number = number, .expected = expected};
}

static bool begin(fovea_online_problem *p, uint64_t signature, const fovea_problem *problem,
                  const fovea_routes *routes, int threads) {
    fovea_choice choice;
    char reason[160];
    fovea_choose(problem, routes, threads, &choice);
    if (!choice.implementation) return false;
    *p = (fovea_online_problem){.signature = signature, .work = fovea_route_work(problem)};
    fovea_route_key_of(problem, threads, &p->key);
    double expected = fovea_expected_seconds(choice.implementation, problem, routes, threads);
    for (int i = 0; i < fovea_implementation_count(problem->index); i++)
        if (fovea_implementation_at(problem->index, i) == choice.implementation)
            add_candidate(p, i, expected);
    for (int i = 0; i < fovea_implementation_count(problem->index); i++) {
        const fovea_implementation *other = fovea_implementation_at(problem->index, i);
        if (other == choice.implementation || other->only_by_name ||
            fovea_routes_condemned(routes, problem->index, i) ||
            !fovea_implementation_serves(other, problem, reason, sizeof reason))
            continue;
        double seconds = fovea_expected_seconds(other, problem, routes, threads);
        if (seconds < hopeless * expected) add_candidate(p, i, seconds);
    }
    p->open = (1u << p->count) - 2; /* all but the choice */
    return true;
}

/* ---- Turns ---------------------------------------------------------------------------------- */

/* What a trial would cost more than the best one: at first unknown, and taken to be as much again. */
static double foreseen_loss(const fovea_online_problem *p, int candidate) {
    const fovea_online_candidate *best = &p->candidates[p->best], *c = &p->candidates[candidate];
    double time = fovea_online_median(best);
    if (c->calls > 0) return fmax(0, fovea_online_median(c) - time);
    return time * fmax(1, c->expected / best->expected - 1);
}

/* The open candidate that the cost model expects most of, if the budget has room for it; else the best. */
static int pick(const fovea_online *online, const fovea_online_problem *p) {
    int next = -1;
    if (fovea_online_samples(&p->candidates[p->best]) < 3) return p->best;
    for (int i = 0; i < p->count; i++)
        if (p->open >> i & 1 &&
            (next < 0 || p->candidates[i].expected < p->candidates[next].expected))
            next = i;
    if (next < 0) return p->best;
    bool room = online->spent + foreseen_loss(p, next) <= online->share * online->time;
    return room ? next : p->best;
}

fovea_online_turn fovea_online_choose(fovea_online *online, const fovea_problem *problem,
                                      const fovea_routes *routes, int threads) {
    fovea_choice choice;
    char reason[160];
    uint64_t signature = fovea_problem_signature(problem);
    int place =
        fovea_depends_on_contents(problem) ? -1 : place_of(online, problem->index, signature);
    fovea_online_problem *p = place >= 0 ? &online->problems[place] : NULL;
    if (p && (p->signature || begin(p, signature, problem, routes, threads))) {
        int candidate = pick(online, p);
        const fovea_implementation *found =
            fovea_implementation_at(problem->index, p->candidates[candidate].number);
        if (fovea_implementation_serves(found, problem, reason, sizeof reason))
            return (fovea_online_turn){found, p, candidate};
    }
    fovea_choose(problem, routes, threads, &choice);
    return (fovea_online_turn){choice.implementation, NULL, 0};
}

static void decide(fovea_online_problem *p, int candidate) {
    const double clearly = 1.25, worth_a_change = 0.99;
    const fovea_online_candidate *c = &p->candidates[candidate];
    double best = fovea_online_median(&p->candidates[p->best]), median = fovea_online_median(c);
    double least = INFINITY;
    int count = fovea_online_samples(c);
    for (int i = 0; i < count; i++) least = fmin(least, c->times[i]);
    if (count >= 3 && least > clearly * best) p->open &= ~(1u << candidate);
    if (count < FOVEA_ONLINE_SAMPLES) return;
    p->open &= ~(1u << candidate);
    if (median < worth_a_change * best) p->best = candidate, p->was_changed = true;
}

void fovea_online_note(fovea_online *online, const fovea_online_turn *turn, double time) {
    fovea_online_problem *p = turn->problem;
    if (!p) return;
    fovea_online_candidate *c = &p->candidates[turn->candidate];
    bool trial = turn->candidate != p->best;
    online->calls++;
    online->time += time;
    if (trial) {
        online->trials++;
        online->spent += fmax(0, time - fovea_online_median(&p->candidates[p->best]));
    }
    if (c->calls++ == 0)
        c->first = time;
    else
        c->times[(c->calls - 2) % FOVEA_ONLINE_SAMPLES] = time;
    if (trial) decide(p, turn->candidate);
}
