/* The clock of everything that is timed: monotonic, in seconds, the same in all processes. */
#ifndef FOVEA_TOOLS_SECONDS_H
#define FOVEA_TOOLS_SECONDS_H

#include <time.h>

static inline double fovea_seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
