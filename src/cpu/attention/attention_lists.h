/* Work items in lists, one for each thread: a thread drains its own and then helps with the others'. So the same thread meets
 * the same items call after call, where its core has their lines, and knows what it is likely to do next. */
#ifndef FOVEA_CPU_ATTENTION_ATTENTION_LISTS_H
#define FOVEA_CPU_ATTENTION_ATTENTION_LISTS_H

#include <stdatomic.h>
#include <stdint.h>

enum { LISTS_MAX = 32, LINE_COUNTERS = 8 };

/* The first counter of a line counts: how many items of its list are taken. */
typedef struct work_lists {
    _Alignas(64) atomic_llong taken[LISTS_MAX][LINE_COUNTERS];
} work_lists;

static inline void lists_begin(work_lists *lists, int count) {
    for (int i = 0; i < count; i++) lists->taken[i][0] = 0;
}

/* The number of an item in its list, from 0; the list may have ended before. */
static inline int64_t lists_take(work_lists *lists, int list) {
    return atomic_fetch_add_explicit(&lists->taken[list][0], 1, memory_order_relaxed);
}

#endif
