/* A clock for calls: the processor's own counter where it runs evenly, read in a few nanoseconds (a
 * system clock costs three to six times as much, which shows in small calls). Counts become seconds
 * only when somebody asks. */
#ifndef FOVEA_RUNTIME_CLOCK_H
#define FOVEA_RUNTIME_CLOCK_H

#include <stdint.h>

uint64_t fovea_ticks(void);

/* When counting began, in both clocks. */
typedef struct fovea_epoch {
    uint64_t ticks;
    double seconds;
} fovea_epoch;

fovea_epoch fovea_epoch_now(void);
/* Seconds of one tick, from the time since the epoch; waits until a tenth of a millisecond has
 * passed since then, so that the quotient is good. */
double fovea_tick_seconds(const fovea_epoch *epoch);

#endif
