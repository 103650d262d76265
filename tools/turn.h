/* What an arm does when it is its turn. Whoever times a call, here or in a peer's process, is told by
 * this alone, so that all arms are treated alike. */
#ifndef FOVEA_TOOLS_TURN_H
#define FOVEA_TOOLS_TURN_H

#include <stddef.h>

typedef struct fovea_turn {
    /* On a device, before all else: seconds of idleness, then seconds of the same calls. */
    double rest, heat;
    int warm, count, inner; /* untimed calls, then samples, each the mean of `inner` calls */
    size_t flush;    /* on a device: bytes that are overwritten before each sample; 0: none */
    double estimate; /* seconds a call, as far as is known */
} fovea_turn;

#endif
