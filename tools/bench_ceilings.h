/* Ceilings of this machine, measured in this process: multiply-add rate for each tier and number of
 * threads (of the tier amx: products of tiles), and memory bandwidth by reading, copying, and
 * copying past the caches. */
#ifndef FOVEA_TOOLS_BENCH_CEILINGS_H
#define FOVEA_TOOLS_BENCH_CEILINGS_H

#include <stdbool.h>
#include <stddef.h>

enum { FOVEA_CEILINGS_MAX = 96 };

typedef struct fovea_ceiling {
    char name[32];           /* "fma_f32_avx2_t1", "tile_bf16_amx_t1", "read_t2", "copy_cuda" */
    double value;            /* FLOP/s or byte/s; bandwidth counts bytes read and bytes written */
    const char *unit, *tier; /* "cuda" of a device's, which has no threads */
    int threads;
} fovea_ceiling;

typedef struct fovea_ceilings {
    fovea_ceiling items[FOVEA_CEILINGS_MAX];
    int count;
    size_t buffer_bytes; /* read or copied; 0: memory was short and bandwidth is unknown */
} fovea_ceilings;

/* seconds: about how long it may take in all. Stops early on an interrupt. */
void fovea_ceilings_measure(fovea_ceilings *ceilings, int threads, double seconds);

/* Measures those of the best tier and this number of threads once more and keeps the higher figures: a
 * moment in which something else ran must not lower a ceiling for good. The memory is left out unless
 * asked for, because it takes longer. */
void fovea_ceilings_refresh(fovea_ceilings *ceilings, int threads, bool memory);

/* One that was measured elsewhere, of a device. */
void fovea_ceilings_add(fovea_ceilings *ceilings, const char *kind, const char *unit, double value);

/* What can be had of the machine's memory without taking it from others (bench_environment.c): free pages, and
 * those of files that need not stay. Free pages alone are few where much was read. The share: 1 if unknown. */
double fovea_available_bytes(void);
double fovea_available_share(void);

/* The loops of the best tier; NULL where none was built. */
const struct fovea_ceiling_loops *fovea_ceilings_loops(void);

/* NULL if it was not measured. tier NULL: the best one. kind: "fma_f32", "read", ... */
const fovea_ceiling *fovea_ceilings_find(const fovea_ceilings *ceilings, const char *kind,
                                         const char *tier, int threads);

#endif
