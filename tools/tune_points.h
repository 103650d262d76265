/* The cases at which routes are measured, from the catalogue. */
#ifndef FOVEA_TOOLS_TUNE_POINTS_H
#define FOVEA_TOOLS_TUNE_POINTS_H

#include "catalogue/case.h"
#include "router/key.h"

typedef struct fovea_tune_point {
    fovea_case c;
    /* For the caller: */
    fovea_route_key key;      /* with one thread */
    double bytes, operations; /* of all tensors; of the problem */
    double place;             /* the order of measuring */
    uint32_t wanted;          /* bit i: measure with the i-th number of threads */
} fovea_tune_point;

typedef struct fovea_tune_points {
    fovea_tune_point *items;
    int count, capacity;
    bool enough_memory;
} fovea_tune_points;

/* The implementations of a kernel on this processor, or on a device, that may be chosen. */
int fovea_tune_candidates(int kernel, bool device);

/* Adds the points of a kernel, small ones first; for a device those too of batches that fill it. */
void fovea_tune_points_add(fovea_tune_points *points, int kernel, bool device);
void fovea_tune_points_release(fovea_tune_points *points);

/* What all tensors of a problem take, touched or not. */
double fovea_tune_bytes(const fovea_problem *problem);

/* The case half way between two of a kernel that differ in extents alone, on a logarithmic scale. */
void fovea_tune_point_between(const fovea_case *a, const fovea_case *b, fovea_case *middle);

/* At most so many cases of the same kinds at random extents, none of which is a point, of all kernels in turn;
 * on a device of those that have several implementations there. For free(); NULL if memory is short. */
fovea_case *fovea_unseen_cases(int wanted, uint64_t seed, bool device, int *count);

#endif
