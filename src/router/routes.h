/* Measured routes and the file that keeps them.
 *
 * A routes file is text. It begins with the format, the identity of library and machine, and the
 * time of writing; then come rates of the machine (rate), implementations that failed verification (wrong),
 * what measuring took (pace), and measurements (route), one a line:
 *
 *     fovea-routes 1
 *     library 0.1.0
 *     kernels 3f0c...                 a hash of kernels, implementations and key definitions
 *     processor GenuineIntel 6/143/8, tiers scalar avx2 avx512, Intel(R) Xeon(R) Processor
 *     machine 2 online, affinity 0-1, threads 2
 *     device NVIDIA H200, capability 9.0, 132 multiprocessors    only of a CUDA device
 *     written 2026-01-31T12:00:00Z
 *     rate TIER FLOPS BYTES           per second, one thread; 0: not measured
 *     wrong KERNEL IMPLEMENTATION     its results were wrong: it is never chosen
 *     pace KERNEL FORESEEN TAKEN      microseconds of its points beside their samples: for the next tune
 *     route KERNEL DTYPE THREADS FEATURES SIZES WORK IMPLEMENTATION MEDIAN DEVIATION SAMPLES
 *     end COUNT CHECKSUM              how many routes; FNV-1a of all that stands before CHECKSUM
 *
 * FEATURES is hexadecimal, SIZES are quarter octaves, WORK counts operations (bytes where there are
 * none), MEDIAN and DEVIATION (the median absolute deviation) are picoseconds: whole numbers, so
 * that no locale changes them. Routes are sorted by key, then by median: the first of a key is the
 * choice, the second the runner-up. A file that is not exactly of this form and of this library and
 * machine is refused as a whole. */
#ifndef FOVEA_ROUTER_ROUTES_H
#define FOVEA_ROUTER_ROUTES_H

#include "router/key.h"
#include "router/registry.h"
#include "runtime/memory.h"

enum { FOVEA_ROUTES_MAX = 65536, FOVEA_ROUTES_FILE_MAX = 16 << 20, FOVEA_ROUTES_DEVICE = 300 };

/* The work of a problem, by which times of one bucket are scaled to a size. */
uint64_t fovea_route_work(const fovea_problem *problem);

typedef struct fovea_route_record {
    fovea_route_key key;
    int32_t number; /* of the implementation among those of the kernel */
    uint32_t samples;
    uint64_t work, median, deviation; /* picoseconds */
} fovea_route_record;

/* The order in the file: by key, then the faster first. */
bool fovea_route_record_before(const fovea_route_record *a, const fovea_route_record *b);

/* Per second and thread; 0: not measured. */
typedef struct fovea_rates {
    double flops[FOVEA_TIER_COUNT], bandwidth[FOVEA_TIER_COUNT];
} fovea_rates;

/* Of a kernel's points: the seconds that they should have taken beside their samples, and that they took. */
typedef struct fovea_pace {
    double foreseen, taken;
} fovea_pace;

typedef struct fovea_routes {
    fovea_allocator allocator;
    int count, capacity;
    fovea_rates rates;
    char written[24];                  /* "2026-01-31T12:00:00Z" */
    char device[FOVEA_ROUTES_DEVICE];  /* "" of the processor; else what its line says */
    uint64_t wrong[FOVEA_KERNELS_MAX]; /* bit i: implementation i of the kernel computes wrongly */
    fovea_pace paces[FOVEA_KERNELS_MAX];
    fovea_route_record records[];
} fovea_routes;

/* Room for that many; NULL if memory is short. */
fovea_routes *fovea_routes_create(const fovea_allocator *allocator, int capacity);
void fovea_routes_release(fovea_routes *routes);

/* Adds a record in its place; one of the same key and implementation is replaced. False if full. */
bool fovea_routes_add(fovea_routes *routes, const fovea_route_record *record);
/* The records of exactly that key: the position of the first, and how many. */
int fovea_routes_find(const fovea_routes *routes, const fovea_route_key *key, int *count);
/* The records of its kernel, dtype and features, with any number of threads and any sizes. */
int fovea_routes_alike(const fovea_routes *routes, const fovea_route_key *key, int *count);
/* Removes all records of a key. */
void fovea_routes_remove(fovea_routes *routes, const fovea_route_key *key);

/* Marks an implementation as wrong and removes its records. */
void fovea_routes_condemn(fovea_routes *routes, int kernel, int number);
static inline bool fovea_routes_condemned(const fovea_routes *routes, int kernel, int number) {
    return routes && routes->wrong[kernel] >> number & 1;
}

/* name: what sentences call the file. spare: records to leave room for. On an error *routes is NULL
 * and the message says what is wrong with the file. */
fovea_status fovea_routes_parse(const char *name, const char *text, size_t length, int spare,
                                const fovea_allocator *allocator, fovea_routes **routes,
                                fovea_message *message);
fovea_status fovea_routes_read(const char *path, int spare, const fovea_allocator *allocator,
                               fovea_routes **routes, fovea_message *message);

/* Replaces the file in one step, or leaves it as it was. Missing directories are made. */
fovea_status fovea_routes_write(const char *path, const fovea_routes *routes,
                                fovea_message *message);

/* $FOVEA_ROUTES, else $XDG_CONFIG_HOME/fovea/routes, else ~/.config/fovea/routes. NULL if there is
 * no such place: FOVEA_ROUTES is empty, or nothing says where home is, or the path is too long. */
const char *fovea_routes_place(char *path, size_t size);
/* The file for a device (as its file says it; "": the processor). named: that of the processor, or NULL for
 * the place above; a device's ends with its name besides, "routes.NVIDIA-H200", unless it does already. So
 * one name serves a process that computes on both, whoever is told it: FOVEA_ROUTES, the options of a
 * context, or `fovea tune --output`. */
const char *fovea_routes_place_of(const char *named, const char *device, char *path, size_t size);

/* Measurements of one device say nothing of another one, or of the processor. */
fovea_status fovea_routes_check_device(const fovea_routes *routes, const char *name,
                                       const char *device, fovea_message *message);

#endif
