/* The plan of `fovea tune`: which points, in which order, and how long they should take. First come those
 * that tell most in a second, so that a run that is cut short loses least: of each kind the ends, then
 * what lies between them, the cheap kinds before the dear ones. */
#include "tune.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- What a point costs --------------------------------------------------------------------- */

/* Two cores of 2025: tensors are drawn and touched, the reference goes over elements and operations in
 * double, and each implementation is compared with it. Large ones are not compared. Only the order of
 * magnitude matters: the kernel's own points tell the rest. */
static double first_guess(double bytes, double operations) {
    const double point = 1e-3, touched = 2e-9, compared = 200e-9, computed = 5e-9;
    return point + touched * bytes + compared * fmin(bytes, FOVEA_TUNE_TRUSTED_FROM) +
           computed * fmin(operations, 2 * FOVEA_TUNE_TRUSTED_FROM);
}

/* How far the guess is off: all points together, and of the kernel's own as much as there is. The file
 * keeps both, so that a run which continues foresees as well as the one before it. */
double fovea_tune_foreseen(const fovea_tuning *t, int kernel, double bytes, double operations) {
    const double known = 0.05; /* seconds of a kernel's points weigh as much as all others' */
    const fovea_pace *own = &t->routes->paces[kernel];
    double common = (known + t->all.taken) / (known + t->all.foreseen);
    double ratio = (known * common + own->taken) / (known + own->foreseen);
    return ratio * first_guess(bytes, operations);
}

void fovea_tune_note_pace(fovea_tuning *t, int kernel, double bytes, double operations,
                          double seconds) {
    double guess = first_guess(bytes, operations);
    t->all.foreseen += guess, t->all.taken += seconds;
    t->routes->paces[kernel].foreseen += guess, t->routes->paces[kernel].taken += seconds;
}

double fovea_tune_foreseen_left(const fovea_tuning *t) {
    double seconds = 0;
    for (int p = 0; p < t->points.count; p++) {
        const fovea_tune_point *point = &t->points.items[p];
        if (point->wanted)
            seconds += fovea_tune_foreseen(t, point->c.index, point->bytes, point->operations);
    }
    return seconds;
}

/* ---- Neighbours ----------------------------------------------------------------------------- */

/* Which size of the two keys differs, all else being equal; -1: none or more than one. */
static int different_size(const fovea_route_key *a, const fovea_route_key *b) {
    int size = -1;
    if (a->kernel != b->kernel || a->dtype != b->dtype || a->features != b->features) return -1;
    for (int i = 0; i < FOVEA_TRAIT_SIZES; i++) {
        if (a->sizes[i] == b->sizes[i]) continue;
        if (size >= 0) return -1;
        size = i;
    }
    return size;
}

/* Nearer than `least`, and measured where that is asked for. */
static bool is_nearer(const fovea_tuning *t, int from, int to, int size, bool above, int threads,
                      int *least) {
    const fovea_route_key *a = &t->points.items[from].key, *b = &t->points.items[to].key;
    if (different_size(a, b) != size) return false;
    int step = above ? b->sizes[size] - a->sizes[size] : a->sizes[size] - b->sizes[size];
    int count = 1;
    if (step < 0 || step >= *least) return false;
    fovea_route_key key = *b;
    key.threads = threads;
    if (threads > 0) fovea_routes_find(t->routes, &key, &count);
    if (count > 0) *least = step;
    return count > 0;
}

int fovea_tune_next_point(const fovea_tuning *t, int point, int size, bool above, int threads) {
    const fovea_tune_point *points = t->points.items;
    int best = -1, least = INT_MAX, kernel = points[point].c.index;
    for (int p = point - 1; p >= 0 && points[p].c.index == kernel; p--)
        if (is_nearer(t, point, p, size, above, threads, &least)) best = p;
    for (int p = point + 1; p < t->points.count && points[p].c.index == kernel; p++)
        if (is_nearer(t, point, p, size, above, threads, &least)) best = p;
    return best;
}

static bool is_between(const fovea_tuning *t, int point) {
    for (int size = 0; size < FOVEA_TRAIT_SIZES; size++)
        if (fovea_tune_next_point(t, point, size, false, 0) >= 0 &&
            fovea_tune_next_point(t, point, size, true, 0) >= 0)
            return true;
    return false;
}

/* ---- The points ----------------------------------------------------------------------------- */

bool fovea_tune_case_key(const fovea_case *c, fovea_route_key *key, double *bytes,
                         double *operations) {
    fovea_sample sample;
    fovea_message message;
    fovea_case empty = *c;
    empty.data = FOVEA_DATA_NONE;
    if (fovea_sample_create(&empty, NULL, &sample, &message) != FOVEA_OK) return false;
    fovea_route_key_of(&sample.problem, 1, key);
    *bytes = fovea_tune_bytes(&sample.problem);
    *operations = fovea_problem_operations(&sample.problem);
    fovea_sample_destroy(&sample);
    return true;
}

/* On a device most kernels have one implementation, and nothing is to be found out. */
static bool has_candidates(const fovea_tuning *t, int kernel) {
    return fovea_tune_candidates(kernel, t->options->cuda) > t->options->cuda;
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
        if (fovea_tune_case_key(&point.c, &point.key, &point.bytes, &point.operations) &&
            !is_among(points->items + first, kept - first, &point.key))
            points->items[kept++] = point;
    }
    points->count = kept;
}

/* How many of its kind tell more than this one: the ends of a range do, then those before it. */
static int told_before(const fovea_tuning *t, const bool *between, int point) {
    const fovea_tune_point *points = t->points.items;
    int count = 0, kernel = points[point].c.index;
    int first = point, end = point;
    while (first > 0 && points[first - 1].c.index == kernel) first--;
    while (end < t->points.count && points[end].c.index == kernel) end++;
    for (int p = first; p < end; p++) {
        if (points[p].key.dtype != points[point].key.dtype ||
            points[p].key.features != points[point].key.features)
            continue;
        count += between[p] == between[point] ? p < point : between[point];
    }
    return count;
}

static const fovea_tune_point *sorted_points; /* for the comparison */

static int compare_places(const void *a, const void *b) {
    const fovea_tune_point *x = &sorted_points[*(const int *)a];
    const fovea_tune_point *y = &sorted_points[*(const int *)b];
    if (x->place != y->place) return x->place < y->place ? -1 : 1;
    return *(const int *)a - *(const int *)b;
}

static bool put_in_order(fovea_tuning *t) {
    fovea_tune_points *points = &t->points;
    bool *between = calloc((size_t)points->count + 1, sizeof *between);
    t->order = calloc((size_t)points->count + 1, sizeof *t->order);
    for (int p = 0; p < points->count && between; p++) between[p] = is_between(t, p);
    for (int p = 0; p < points->count && between && t->order; p++) {
        fovea_tune_point *point = &points->items[p];
        point->place = (1 + told_before(t, between, p)) *
                       fovea_tune_foreseen(t, point->c.index, point->bytes, point->operations);
        t->order[p] = p;
    }
    sorted_points = points->items;
    if (t->order) qsort(t->order, (size_t)points->count, sizeof *t->order, compare_places);
    free(between);
    return between && t->order;
}

/* The numbers of threads with which the file has no measurement of it. */
static void want(fovea_tuning *t, fovea_tune_point *point) {
    for (int i = 0; i < t->thread_counts; i++) {
        int count;
        fovea_route_key key = point->key;
        key.threads = t->threads[i];
        fovea_routes_find(t->routes, &key, &count);
        if (count > 0 && !t->options->again) continue;
        point->wanted |= 1u << i;
        t->left++;
    }
}

bool fovea_tune_plan(fovea_tuning *t) {
    fovea_tune_points *points = &t->points;
    int only = t->options->kernel;
    for (int k = 0; k < fovea_catalogue_count(); k++) {
        t->all.foreseen += t->routes->paces[k].foreseen;
        t->all.taken += t->routes->paces[k].taken;
    }
    for (int k = 0; k < fovea_catalogue_count(); k++)
        if ((only < 0 || only == k) && has_candidates(t, k))
            add_kernel(points, k, t->options->cuda);
    for (int p = 0; p < points->count; p++) want(t, &points->items[p]);
    return points->count == 0 || (points->enough_memory && put_in_order(t));
}

/* ---- In words ------------------------------------------------------------------------------- */

void fovea_tune_print_plan(const fovea_tuning *t) {
    const fovea_tune_point *points = t->points.items;
    double all = 0;
    for (int p = 0, end; p < t->points.count; p = end) {
        double seconds = 0;
        int wanted = 0;
        for (end = p; end < t->points.count && points[end].c.index == points[p].c.index; end++) {
            if (!points[end].wanted) continue;
            seconds += fovea_tune_foreseen(t, points[end].c.index, points[end].bytes,
                                           points[end].operations);
            wanted += __builtin_popcount(points[end].wanted);
        }
        all += seconds;
        if (wanted)
            printf("%-32s %4d points, %6.2f s beside their samples\n",
                   fovea_catalogue_kernel(points[p].c.index)->name, wanted, seconds);
    }
    double samples = fmax(0, fmin(t->left * FOVEA_TUNE_SAMPLING_MOST, t->options->seconds - all));
    printf("%d points in all: %.0f s beside their samples, which may take %.0f s; the time is up "
           "after %.0f s\n",
           t->left, all, samples, t->options->seconds);
}
