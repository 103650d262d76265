/* Crossovers: where two neighbours have different winners, the point half way between them is measured,
 * until they are neighbours in the file too. What a wrong choice between the two would cost, and over how
 * many sizes, says which is halved first. */
#include "tune.h"

#include <math.h>
#include <stdlib.h>

typedef fovea_tuning tuning;

/* Two cases that differ in one size, with one number of threads; or one case with two numbers. */
typedef struct interval {
    fovea_case low, high;
    fovea_route_key low_key, high_key; /* with their threads */
    double gain;                       /* what halving it may save, for each second that it takes */
} interval;

typedef struct intervals {
    interval *items;
    int count, capacity;
    bool enough_memory;
} intervals;

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

/* What taking the wrong one of two winners costs; 0: they are the same, or it costs next to nothing. */
static double loss(const tuning *t, const fovea_route_key *a, const fovea_route_key *b) {
    const double matters = 0.03, most = 1;
    double behind_a, behind_b;
    int first = winner(t, a, -1, &behind_a), second = winner(t, b, -1, &behind_b);
    if (first < 0 || second < 0 || first == second) return 0;
    winner(t, a, second, &behind_a);
    winner(t, b, first, &behind_b);
    double costs = fmax(behind_a, behind_b);
    return costs > matters ? fmin(most, costs) : 0;
}

static bool make_room(intervals *all) {
    if (all->count < all->capacity) return true;
    int capacity = all->capacity ? 2 * all->capacity : 256;
    interval *items = realloc(all->items, (size_t)capacity * sizeof *items);
    all->enough_memory = items != NULL;
    if (!items) return false;
    all->items = items;
    all->capacity = capacity;
    return true;
}

static void add(const tuning *t, intervals *all, const fovea_case *low,
                const fovea_route_key *low_key, const fovea_case *high,
                const fovea_route_key *high_key) {
    fovea_route_key key;
    double bytes, operations, costs = loss(t, low_key, high_key);
    if (costs <= 0 || !fovea_tune_case_key(low, &key, &bytes, &operations) || !make_room(all))
        return;
    double seconds = fovea_tune_foreseen(t, low->index, bytes, operations);
    double wide = fovea_route_key_distance(low_key, high_key);
    all->items[all->count++] = (interval){.low = *low,
                                          .high = *high,
                                          .low_key = *low_key,
                                          .high_key = *high_key,
                                          .gain = costs * wide / seconds};
}

/* The key and the case in the middle; false if it is one of the two ends. */
static bool middle_of(const interval *i, fovea_case *middle, fovea_route_key *key) {
    double bytes, operations;
    bool threads = i->low_key.threads != i->high_key.threads;
    *middle = i->low;
    if (!threads) fovea_tune_point_between(&i->low, &i->high, middle);
    if (!fovea_tune_case_key(middle, key, &bytes, &operations)) return false;
    key->threads = i->low_key.threads;
    if (threads) key->threads = (int)lround(sqrt((double)i->low_key.threads * i->high_key.threads));
    return fovea_route_key_distance(&i->low_key, key) > 0 &&
           fovea_route_key_distance(key, &i->high_key) > 0;
}

/* False when the time is up. */
static bool halve(tuning *t, intervals *all, const interval *i) {
    fovea_case middle;
    fovea_route_key key;
    int count;
    if (!middle_of(i, &middle, &key)) return true;
    fovea_routes_find(t->routes, &key, &count);
    if (count == 0) {
        if (!fovea_tune_measure(t, &middle, 0, key.threads, FOVEA_TUNE_SAMPLING_MOST)) return false;
        t->between++;
    }
    add(t, all, &i->low, &i->low_key, &middle, &key);
    add(t, all, &middle, &key, &i->high, &i->high_key);
    return true;
}

static fovea_route_key with_threads(fovea_route_key key, int threads) {
    key.threads = threads;
    return key;
}

static void find_intervals(const tuning *t, intervals *all) {
    const fovea_tune_point *points = t->points.items;
    for (int p = 0; p < t->points.count; p++) {
        const fovea_tune_point *point = &points[p];
        fovea_route_key keys[2];
        for (int i = 0; i < t->thread_counts; i++) {
            keys[i] = with_threads(point->key, t->threads[i]);
            for (int size = 0; size < FOVEA_TRAIT_SIZES; size++) {
                int above = fovea_tune_next_point(t, p, size, true, t->threads[i]);
                if (above < 0) continue;
                fovea_route_key key = with_threads(points[above].key, t->threads[i]);
                add(t, all, &point->c, &keys[i], &points[above].c, &key);
            }
        }
        if (t->thread_counts > 1 && t->threads[0] + 1 < t->threads[1])
            add(t, all, &point->c, &keys[0], &point->c, &keys[1]);
    }
}

static interval take_best(intervals *all) {
    int best = 0;
    for (int i = 1; i < all->count; i++)
        if (all->items[i].gain > all->items[best].gain) best = i;
    interval taken = all->items[best];
    all->items[best] = all->items[--all->count];
    return taken;
}

bool fovea_tune_crossovers(tuning *t) {
    intervals all = {.enough_memory = true};
    bool good = true;
    find_intervals(t, &all);
    while (all.count > 0 && good && !fovea_tune_time_is_up(t)) {
        interval next = take_best(&all);
        if (!halve(t, &all, &next)) break;
        if (fovea_seconds_now() > t->saved + 10) good = fovea_tune_save(t);
    }
    t->open_crossovers = all.count;
    free(all.items);
    return good && all.enough_memory;
}
