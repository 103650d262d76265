/* The size of a tile of query rows, and how a count is cut into groups that the registers hold. */
#ifndef FOVEA_CPU_ATTENTION_ATTENTION_GROUPS_H
#define FOVEA_CPU_ATTENTION_ATTENTION_GROUPS_H

#include "cpu/kernel.h"

/* The most vectors a tile has. Accumulators, one line of the tile and a broadcast must fit the registers (32 or 16). */
#if defined(FOVEA_TIER_AVX2)
enum { TILE_VECTORS = 2 };
#else
enum { TILE_VECTORS = 4 };
#endif
enum { TILE_ROWS = TILE_VECTORS * VF_WIDTH };

/* What is left of a block after the groups of `most` is done in groups of 8, 4, 2, 1. */
#define IN_GROUPS(most, count, CALL)                                                               \
    do {                                                                                           \
        int64_t i = 0;                                                                             \
        for (; i + (most) <= (count); i += (most)) CALL(most);                                     \
        if ((most) > 8 && i + 8 <= (count)) {                                                      \
            CALL(8);                                                                               \
            i += 8;                                                                                \
        }                                                                                          \
        if ((most) > 4 && i + 4 <= (count)) {                                                      \
            CALL(4);                                                                               \
            i += 4;                                                                                \
        }                                                                                          \
        if ((most) > 2 && i + 2 <= (count)) {                                                      \
            CALL(2);                                                                               \
            i += 2;                                                                                \
        }                                                                                          \
        for (; i < (count); i++) CALL(1);                                                          \
    } while (0)

#endif
