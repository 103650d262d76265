/* The cases at which routes are measured, from the catalogue. */
#ifndef FOVEA_TOOLS_TUNE_POINTS_H
#define FOVEA_TOOLS_TUNE_POINTS_H

#include "catalogue/case.h"

typedef struct fovea_tune_point {
    fovea_case c;
    double place;    /* for the caller: the order of measuring */
    uint32_t wanted; /* for the caller: bit i: measure with the i-th number of threads */
} fovea_tune_point;

typedef struct fovea_tune_points {
    fovea_tune_point *items;
    int count, capacity;
    bool enough_memory;
} fovea_tune_points;

/* Adds the points of a kernel, small ones first. */
void fovea_tune_points_add(fovea_tune_points *points, int kernel);
void fovea_tune_points_release(fovea_tune_points *points);

#endif
