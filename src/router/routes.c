/* Measured routes in memory: one sorted array, searched by halving. */
#include "router/routes.h"

#include <stdio.h>
#include <stdlib.h>

static size_t bytes_for(int capacity) {
    return sizeof(fovea_routes) + (size_t)capacity * sizeof(fovea_route_record);
}

fovea_routes *fovea_routes_create(const fovea_allocator *allocator, int capacity) {
    fovea_routes *routes =
        allocator->allocate(allocator->user, bytes_for(capacity), FOVEA_ALIGNMENT);
    if (routes) *routes = (fovea_routes){.allocator = *allocator, .capacity = capacity};
    return routes;
}

void fovea_routes_release(fovea_routes *routes) {
    if (!routes) return;
    fovea_allocator allocator = routes->allocator;
    allocator.release(allocator.user, routes, bytes_for(routes->capacity));
}

uint64_t fovea_route_work(const fovea_problem *problem) {
    double work = fovea_problem_operations(problem);
    if (!(work > 0)) work = fovea_problem_bytes(problem);
    return work > 0 && work < 0x1p63 ? (uint64_t)work : 0;
}

/* The first record whose key is not below. */
static int lower_bound(const fovea_routes *routes, const fovea_route_key *key) {
    int low = 0, high = routes->count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (fovea_route_key_compare(&routes->records[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int fovea_routes_find(const fovea_routes *routes, const fovea_route_key *key, int *count) {
    int first = lower_bound(routes, key), end = first;
    while (end < routes->count && fovea_route_key_compare(&routes->records[end].key, key) == 0)
        end++;
    *count = end - first;
    return first;
}

int fovea_routes_alike(const fovea_routes *routes, const fovea_route_key *key, int *count) {
    fovea_route_key low = *key, high = *key;
    low.threads = INT32_MIN, high.threads = INT32_MAX; /* which go before sizes */
    int first = lower_bound(routes, &low);
    *count = lower_bound(routes, &high) - first;
    return first;
}

static void remove_range(fovea_routes *routes, int first, int count) {
    memmove(routes->records + first, routes->records + first + count,
            (size_t)(routes->count - first - count) * sizeof *routes->records);
    routes->count -= count;
}

void fovea_routes_remove(fovea_routes *routes, const fovea_route_key *key) {
    int count, first = fovea_routes_find(routes, key, &count);
    remove_range(routes, first, count);
}

bool fovea_routes_add(fovea_routes *routes, const fovea_route_record *record) {
    int count, first = fovea_routes_find(routes, &record->key, &count);
    for (int i = first; i < first + count; i++)
        if (routes->records[i].number == record->number) {
            remove_range(routes, i, 1);
            count--;
            break;
        }
    if (routes->count == routes->capacity || routes->count == FOVEA_ROUTES_MAX) return false;
    int place = first;
    while (place < first + count && fovea_route_record_before(&routes->records[place], record))
        place++;
    memmove(routes->records + place + 1, routes->records + place,
            (size_t)(routes->count - place) * sizeof *routes->records);
    routes->records[place] = *record;
    routes->count++;
    return true;
}

void fovea_routes_condemn(fovea_routes *routes, int kernel, int number) {
    routes->wrong[kernel] |= UINT64_C(1) << number;
    for (int i = routes->count - 1; i >= 0; i--)
        if (routes->records[i].key.kernel == kernel && routes->records[i].number == number)
            remove_range(routes, i, 1);
}

bool fovea_route_record_before(const fovea_route_record *a, const fovea_route_record *b) {
    int order = fovea_route_key_compare(&a->key, &b->key);
    if (order != 0) return order < 0;
    return a->median != b->median ? a->median < b->median : a->number < b->number;
}

const char *fovea_routes_place(char *path, size_t size) {
    const char *named = getenv("FOVEA_ROUTES"), *base = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    int length = -1;
    if (named)
        length = *named ? snprintf(path, size, "%s", named) : -1;
    else if (base && *base == '/')
        length = snprintf(path, size, "%s/fovea/routes", base);
    else if (home && *home)
        length = snprintf(path, size, "%s/.config/fovea/routes", home);
    return length > 0 && (size_t)length < size ? path : NULL;
}

/* ".NVIDIA-H200" of "NVIDIA H200, capability 9.0, ..."; "" of none. */
static void device_suffix(const char *device, char *suffix, size_t size) {
    size_t used = 0;
    if (*device) suffix[used++] = '.';
    for (const char *c = device; *c && *c != ',' && used + 1 < size; c++) {
        bool plain =
            (*c >= '0' && *c <= '9') || (*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z');
        suffix[used++] = plain ? *c : '-';
    }
    suffix[used] = 0;
}

const char *fovea_routes_place_of(const char *named, const char *device, char *path, size_t size) {
    char suffix[FOVEA_ROUTES_DEVICE];
    int used = named ? snprintf(path, size, "%s", named) : 0;
    if (named ? used <= 0 || (size_t)used >= size : !fovea_routes_place(path, size)) return NULL;
    device_suffix(device, suffix, sizeof suffix);
    size_t length = strlen(path), more = strlen(suffix);
    if (length >= more && strcmp(path + length - more, suffix) == 0) return path;
    if (length + more >= size) return NULL;
    memcpy(path + length, suffix, more + 1);
    return path;
}

fovea_status fovea_routes_check_device(const fovea_routes *routes, const char *name,
                                       const char *device, fovea_message *message) {
    if (strcmp(routes->device, device) == 0) return FOVEA_OK;
    return fovea_fail(
        message, FOVEA_FILE_ERROR,
        "the routes file %.200s is of %.100s, not of %.100s; measure again with fovea "
        "tune",
        name, *routes->device ? routes->device : "the processor",
        *device ? device : "the processor");
}
