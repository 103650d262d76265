/* Choosing: a measurement of the same key, else those around it, else the cost model. */
#include "router/choose.h"

#include <math.h>

/* ---- The cost model ------------------------------------------------------------------------- */

/* What a core of today does without a measurement: two multiply-adds a cycle at 2.5 GHz in vectors
 * of the tier (a product of bf16 tiles in 16 cycles), a few bytes a cycle. Only the order of tiers matters much. */
static const fovea_rate assumed[FOVEA_TIER_COUNT] = {[FOVEA_TIER_SCALAR] = {4e9, 4e9, false},
                                                     [FOVEA_TIER_AVX2] = {60e9, 10e9, false},
                                                     [FOVEA_TIER_AVX512] = {110e9, 11e9, false},
                                                     [FOVEA_TIER_AMX] = {2e12, 11e9, false},
                                                     [FOVEA_TIER_NEON] = {35e9, 10e9, false}};

/* A device's order of magnitude: its implementations are compared among themselves only, and of equal
 * ones the first in the backend's table is taken. */
static const fovea_rate assumed_device = {2e14, 2e12, false};

fovea_rate fovea_tier_rate(const fovea_routes *routes, fovea_tier tier) {
    fovea_rate rate = assumed[tier];
    if (!routes) return rate;
    double flops = routes->rates.flops[tier], bandwidth = routes->rates.bandwidth[tier];
    rate.measured = flops > 0 && bandwidth > 0;
    if (flops > 0) rate.flops = flops;
    if (bandwidth > 0) rate.bandwidth = bandwidth;
    return rate;
}

double fovea_expected_seconds(const fovea_implementation *implementation,
                              const fovea_problem *problem, const fovea_routes *routes,
                              int threads) {
    /* A call, the start of a team, and each thread of it; memory feeds about three cores. */
    const double call = 100e-9, team = 2e-6, thread = 300e-9, feeding_cores = 3, launch = 3e-6;
    fovea_rate rate = fovea_tier_rate(routes, implementation->tier);
    if (fovea_implementation_is_cuda(implementation)) rate = assumed_device;
    if (implementation->cost)
        return implementation->cost(problem, threads, rate.flops, rate.bandwidth);
    double operations = fovea_problem_operations(problem), bytes = fovea_problem_bytes(problem);
    if (fovea_implementation_is_cuda(implementation))
        return launch + fmax(operations / rate.flops, bytes / rate.bandwidth);
    double alone = call + fmax(operations / rate.flops, bytes / rate.bandwidth);
    double together = call + team + thread * threads +
                      fmax(operations / (rate.flops * threads),
                           bytes / (rate.bandwidth * fmin(threads, feeding_cores)));
    return fmin(alone, together);
}

/* ---- Candidates ----------------------------------------------------------------------------- */

/* Bit i: implementation i of the kernel serves the problem and may be chosen. */
static uint64_t candidates(const fovea_problem *problem, const fovea_routes *routes) {
    uint64_t set = 0;
    char reason[160];
    for (int i = 0; i < fovea_implementation_count(problem->index); i++) {
        const fovea_implementation *candidate = fovea_implementation_at(problem->index, i);
        if (!candidate->only_by_name && !fovea_routes_condemned(routes, problem->index, i) &&
            fovea_implementation_serves(candidate, problem, reason, sizeof reason))
            set |= UINT64_C(1) << i;
    }
    return set;
}

static void by_model(const fovea_problem *problem, const fovea_routes *routes, int threads,
                     uint64_t set, fovea_choice *choice) {
    for (; set; set &= set - 1) {
        const fovea_implementation *candidate =
            fovea_implementation_at(problem->index, __builtin_ctzll(set));
        double seconds = fovea_expected_seconds(candidate, problem, routes, threads);
        if (!choice->implementation || seconds < choice->seconds) {
            choice->runner_up = choice->implementation;
            choice->runner_up_seconds = choice->seconds;
            choice->implementation = candidate;
            choice->seconds = seconds;
        } else if (!choice->runner_up || seconds < choice->runner_up_seconds) {
            choice->runner_up = candidate;
            choice->runner_up_seconds = seconds;
        }
    }
    choice->source = choice->implementation ? FOVEA_CHOICE_MODEL : FOVEA_CHOICE_NONE;
}

static double scaled_seconds(const fovea_route_record *record, const fovea_problem *problem) {
    uint64_t work = fovea_route_work(problem);
    double scale = work && record->work ? (double)work / (double)record->work : 1;
    return 1e-12 * (double)record->median * scale;
}

/* The first two candidates among the records of one key, which are sorted by time. */
static bool by_records(const fovea_problem *problem, const fovea_route_record *records, int count,
                       uint64_t set, fovea_choice *choice) {
    for (int i = 0; i < count && !choice->runner_up; i++) {
        const fovea_route_record *record = &records[i];
        if (!(set >> record->number & 1)) continue;
        double seconds = scaled_seconds(record, problem);
        const fovea_implementation *found = fovea_implementation_at(problem->index, record->number);
        if (!choice->implementation) {
            choice->implementation = found;
            choice->seconds = seconds;
            choice->record = record;
        } else {
            choice->runner_up = found;
            choice->runner_up_seconds = seconds;
            choice->runner_up_record = record;
        }
    }
    return choice->implementation != NULL;
}

/* ---- Between measurements ------------------------------------------------------------------- */

/* How far a candidate is expected to be behind the fastest: a mean of logarithms. */
typedef struct standing {
    double behind, weight;
    double distance;                   /* of the nearest measurement */
    const fovea_route_record *nearest; /* NULL: never measured with these features */
} standing;

/* Quarter octaves. The nearest point alone misled by 12 % in the 95th percentile of 320 unseen shapes, where
 * all that are near, weighed so, and the prior together come to 5 %: two tiers that are equal where memory
 * bounds them differ by a factor of two elsewhere, and then it is the wider one that wins. */
static double weight_at(double distance) { return 1 / ((4 + distance) * (4 + distance)); }

/* Before anything is measured the wider of two tiers is taken to be a tenth faster, which weighs as much
 * as a measurement one octave away. */
static double prior(fovea_tier tier) {
    static const double step = 0.1;
    switch (tier) {
    case FOVEA_TIER_SCALAR:
        return 2 * step;
    case FOVEA_TIER_AVX2:
        return step;
    default:
        return 0;
    }
}

/* Adds what was measured at one key. A candidate that is not among it was dropped there, being slow: it
 * counts as the slowest, and as twice the fastest at least. */
static void weigh(const fovea_route_record *records, int count, double distance, uint64_t set,
                  standing *standings) {
    const double most = log(4), dropped = log(2);
    const fovea_route_record *fastest = NULL, *slowest = NULL;
    uint64_t measured = 0;
    for (int i = 0; i < count; i++) {
        standing *s = &standings[records[i].number];
        if (!(set >> records[i].number & 1)) continue;
        if (!fastest) fastest = &records[i];
        slowest = &records[i];
        measured |= UINT64_C(1) << records[i].number;
        if (!s->nearest || distance < s->distance) s->nearest = &records[i], s->distance = distance;
        s->behind += weight_at(distance) *
                     fmin(most, log((double)records[i].median / (double)fastest->median));
    }
    if (!measured) return;
    double last = fmax(dropped, log((double)slowest->median / (double)fastest->median));
    for (uint64_t rest = set; rest; rest &= rest - 1) {
        int number = __builtin_ctzll(rest);
        if (!(measured >> number & 1))
            standings[number].behind += weight_at(distance) * fmin(most, last);
        standings[number].weight += weight_at(distance);
    }
}

static void add_prior(const fovea_problem *problem, uint64_t set, standing *standings) {
    const double weight = weight_at(4);
    for (; set; set &= set - 1) {
        int number = __builtin_ctzll(set);
        standing *s = &standings[number];
        s->behind += weight * prior(fovea_implementation_at(problem->index, number)->tier);
        s->behind /= s->weight + weight;
    }
}

/* Of all that were measured with the same features, the two that are expected to be fastest. */
static bool by_neighbours(const fovea_problem *problem, const fovea_routes *routes,
                          const fovea_route_key *key, uint64_t set, fovea_choice *choice) {
    standing standings[FOVEA_IMPLEMENTATIONS_MAX] = {0};
    int count, first = fovea_routes_alike(routes, key, &count), best = -1, second = -1;
    const fovea_route_record *records = routes->records + first;
    for (int i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count; end++)
            if (fovea_route_key_compare(&records[end].key, &records[i].key) != 0) break;
        weigh(records + i, end - i, fovea_route_key_distance(&records[i].key, key), set, standings);
    }
    add_prior(problem, set, standings);
    for (uint64_t rest = set; rest; rest &= rest - 1) {
        int number = __builtin_ctzll(rest);
        if (!standings[number].nearest) continue;
        if (best < 0 || standings[number].behind < standings[best].behind)
            second = best, best = number;
        else if (second < 0 || standings[number].behind < standings[second].behind)
            second = number;
    }
    if (best < 0) return false;
    choice->source = FOVEA_CHOICE_NEIGHBOUR;
    choice->implementation = fovea_implementation_at(problem->index, best);
    choice->record = standings[best].nearest;
    choice->seconds = scaled_seconds(choice->record, problem);
    if (second < 0) return true;
    choice->runner_up = fovea_implementation_at(problem->index, second);
    choice->runner_up_record = standings[second].nearest;
    choice->runner_up_seconds =
        choice->seconds * exp(standings[second].behind - standings[best].behind);
    return true;
}

static bool by_measurement(const fovea_problem *problem, const fovea_routes *routes, int threads,
                           uint64_t set, fovea_choice *choice) {
    fovea_route_key key;
    int count;
    fovea_route_key_of(problem, threads, &key);
    int first = fovea_routes_find(routes, &key, &count);
    choice->source = FOVEA_CHOICE_MEASURED;
    return by_records(problem, routes->records + first, count, set, choice) ||
           by_neighbours(problem, routes, &key, set, choice);
}

void fovea_choose(const fovea_problem *problem, const fovea_routes *routes, int threads,
                  fovea_choice *choice) {
    *choice = (fovea_choice){0};
    uint64_t set = candidates(problem, routes);
    if (routes && set && by_measurement(problem, routes, threads, set, choice)) return;
    by_model(problem, routes, threads, set, choice);
}

/* ---- Quickly -------------------------------------------------------------------------------- */

typedef struct digest {
    uint64_t sum, constant;
} digest;

/* Products of independent pairs of words, added: as fast as the multiplier, and any change of a
 * word or of its place changes the sum. */
static inline void mix(digest *d, uint64_t a, uint64_t b) {
    d->constant += UINT64_C(0x9e3779b97f4a7c15);
    unsigned __int128 product =
        (unsigned __int128)(a ^ d->constant) * (b ^ (d->constant * UINT64_C(0xd6e8feb86659fd93)));
    d->sum += (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t fovea_problem_signature(const fovea_problem *problem) {
    digest d = {0};
    const char *options = problem->options;
    size_t bytes = fovea_options_layouts[problem->index].parameters_end;
    mix(&d, (uint64_t)problem->index << 32 | (uint64_t)problem->dtype, problem->present);
    for (size_t at = sizeof(size_t); at < bytes; at += sizeof(uint64_t)) {
        uint64_t word = 0;
        memcpy(&word, options + at, bytes - at < sizeof word ? bytes - at : sizeof word);
        mix(&d, word, at);
    }
    for (uint32_t rest = problem->present; rest; rest &= rest - 1) {
        const fovea_view *view = &problem->views[__builtin_ctz(rest)];
        mix(&d, (uint64_t)view->dtype, (uint64_t)view->rank);
        for (int i = 0; i < view->rank; i++)
            mix(&d, (uint64_t)view->shape[i], (uint64_t)view->stride[i]);
    }
    return d.sum | 1; /* 0 is an empty entry */
}

bool fovea_choice_depends_on_contents(const fovea_problem *problem) {
    return problem->kernel->traits && fovea_depends_on_contents(problem);
}

const fovea_implementation *fovea_choose_quickly(fovea_choice_cache *cache,
                                                 const fovea_problem *problem,
                                                 const fovea_routes *routes, int threads) {
    fovea_choice choice;
    char reason[160];
    uint64_t wanted = fovea_problem_signature(problem);
    size_t place = (wanted >> 32) % FOVEA_CHOICES_KEPT;
    /* Whether it serves may hang on addresses, so it is asked every time. */
    if (cache->entries[place].signature == wanted &&
        cache->entries[place].kernel == problem->index) {
        const fovea_implementation *kept = cache->entries[place].implementation;
        if (fovea_implementation_serves(kept, problem, reason, sizeof reason)) return kept;
    }
    fovea_choose(problem, routes, threads, &choice);
    if (choice.implementation && !fovea_choice_depends_on_contents(problem)) {
        cache->entries[place].signature = wanted;
        cache->entries[place].kernel = problem->index;
        cache->entries[place].implementation = choice.implementation;
    }
    return choice.implementation;
}
