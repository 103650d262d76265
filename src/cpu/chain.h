/* Pieces of work that each need a number from all the pieces before: a prefix sum, a place in an output.
 *
 * Threads take pieces in order. One finds what its piece adds, waits for the number of the piece before,
 * passes on its own, and does the work while the piece is still in a cache: memory is read once. Numbers
 * are formed in the order of the pieces, so that results do not depend on the threads. A piece waits only
 * for one that was taken before it, by a thread that is at work: however many threads there really are,
 * they come to an end. (The single-pass scan of Merrill and Garland, 2016, without its look-back over
 * several pieces, whose order of additions depends on timing.) */
#ifndef FOVEA_CPU_CHAIN_H
#define FOVEA_CPU_CHAIN_H

#include <sched.h>
#include <stdatomic.h>

#include "cpu/kernel.h"

/* The number: an integer, or a sum as its leading part and what that leaves out. */
typedef struct chain_value {
    uint64_t word;
    double high, low;
} chain_value;

typedef struct chain {
    int64_t pieces;
    _Atomic int64_t taken, passed; /* pieces that a thread has; whose value stands in `value` */
    chain_value value;             /* of the last that was passed */
} chain;

static inline bool chain_take(chain *c, int64_t *piece) {
    *piece = atomic_fetch_add_explicit(&c->taken, 1, memory_order_relaxed);
    return *piece < c->pieces;
}

/* What the pieces before have come to. The next piece cannot pass its value before this one does. */
static inline chain_value chain_wait(chain *c, int64_t piece) {
    for (int spins = 0; atomic_load_explicit(&c->passed, memory_order_acquire) != piece; spins++)
        if (spins > 1000) sched_yield();
    return c->value;
}

static inline void chain_pass(chain *c, int64_t piece, chain_value value) {
    c->value = value;
    atomic_store_explicit(&c->passed, piece + 1, memory_order_release);
}

#endif
