/* The route key of a problem: what a measurement is filed under. Kernel, dtype and features must be
 * the same for a measurement to apply; sizes and threads may be near. */
#ifndef FOVEA_ROUTER_KEY_H
#define FOVEA_ROUTER_KEY_H

#include "catalogue/problem.h"

typedef struct fovea_route_key {
    int32_t kernel, threads;
    fovea_dtype dtype;
    uint32_t features;
    uint8_t sizes[FOVEA_TRAIT_SIZES]; /* quarter octaves: 0 stands for 1 or nothing, 40 for 1024 */
} fovea_route_key;

void fovea_route_key_of(const fovea_problem *problem, int threads, fovea_route_key *key);

/* The order of the records in a routes file. */
int fovea_route_key_compare(const fovea_route_key *a, const fovea_route_key *b);

/* How far apart two keys are, in quarter octaves; a different number of threads weighs four times
 * as much. INFINITY if kernel, dtype or features differ. */
double fovea_route_key_distance(const fovea_route_key *a, const fovea_route_key *b);

/* "f32 threads=2 causal d=64 dv=64 sq=512 sk=512 heads=8 group=1" */
const char *fovea_route_key_text(const fovea_route_key *key, char *text, size_t size);

#endif
