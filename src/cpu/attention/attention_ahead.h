/* Fetching what comes next while something is computed: the products read rows of k, v and q that lie a page or a part of one
 * apart, a few lines at a time, and the processor does not foresee that. Lines are asked for in portions, between the steps of
 * the tiles, into the second cache. */
#ifndef FOVEA_CPU_ATTENTION_ATTENTION_AHEAD_H
#define FOVEA_CPU_ATTENTION_ATTENTION_AHEAD_H

#include "cpu/kernel.h"

enum { CACHE_LINE = 64, AHEAD_RANGES = 16 };

/* Rows not yet asked for. */
typedef struct ahead_rows {
    const char *row;
    int64_t stride, bytes, rows;
} ahead_rows;

typedef struct ahead {
    ahead_rows ranges[AHEAD_RANGES];
    int count;
    int64_t portion; /* rows at a time */
} ahead;

/* The ranges are not cleared: that took 10 of the 300 ns of a call of one element. */
static inline void ahead_begin(ahead *a) { a->count = 0, a->portion = 0; }

static inline void ahead_add(ahead *a, const char *row, int64_t stride, int64_t bytes,
                             int64_t rows) {
    if (rows > 0) a->ranges[a->count++] = (ahead_rows){row, stride, bytes, rows};
}

/* Shares what there is among so many portions. */
static inline void ahead_share(ahead *a, int64_t portions) {
    int64_t rows = 0;
    for (int i = 0; i < a->count; i++) rows += a->ranges[i].rows;
    a->portion = divide_up(rows, portions);
}

static inline void ahead_fetch(ahead *a) {
    int64_t left = a->portion;
    while (left > 0 && a->count > 0) {
        ahead_rows *range = &a->ranges[a->count - 1];
        for (; range->rows > 0 && left > 0; range->rows--, left--, range->row += range->stride)
            for (int64_t at = 0; at < range->bytes; at += CACHE_LINE)
                __builtin_prefetch(range->row + at, 0, 2);
        if (range->rows == 0) a->count--;
    }
}

#endif
