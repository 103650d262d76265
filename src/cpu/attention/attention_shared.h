/* Heads whose packed keys and values several threads share, and the lists of items that attend them.
 *
 * A call's heads go in waves. A wave's items, in the order of heads, are cut into as many lists as there are threads: a thread drains
 * its own list and then helps with the others', so one whose core is slow holds nobody up. Who meets a head first packs pieces of its
 * keys until none is left, with whoever else has come; who comes later finds them packed. A wave begins only when every item of the
 * one before is taken, and the slots of two waves exist, so who waits for a slot waits for threads that are at work.
 *
 * Counters only grow: a slot's are those of all waves that have used it. */
#ifndef FOVEA_CPU_ATTENTION_ATTENTION_SHARED_H
#define FOVEA_CPU_ATTENTION_ATTENTION_SHARED_H

#include "cpu/kernel.h"

#include <sched.h>
#include <stdatomic.h>

enum { PATIENCE = 1000 }; /* looks before another program may have the core */

/* One line each. */
typedef struct shared_counter {
    _Alignas(64) atomic_llong value;
} shared_counter;

typedef struct shared_slot {
    shared_counter claimed, packed; /* pieces */
    shared_counter finished;        /* items */
} shared_slot;

/* The next number below the limit, or -1. */
static inline int64_t take_below(shared_counter *c, int64_t limit) {
    long long n = atomic_load_explicit(&c->value, memory_order_relaxed);
    while (n < limit)
        if (atomic_compare_exchange_weak_explicit(&c->value, &n, n + 1, memory_order_relaxed,
                                                  memory_order_relaxed))
            return n;
    return -1;
}

static inline void count_one(shared_counter *c) {
    atomic_fetch_add_explicit(&c->value, 1, memory_order_release);
}

static inline void wait_for(shared_counter *c, int64_t count) {
    for (int spins = 0; atomic_load_explicit(&c->value, memory_order_acquire) < count; spins++)
        if (spins > PATIENCE) sched_yield();
}

#endif
