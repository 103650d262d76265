/* Results that stand in a cache and go to memory past the caches, a vector at a time beside other work: in bursts
 * reading and writing wait for each other. */
#ifndef FOVEA_CPU_OUTFLOW_H
#define FOVEA_CPU_OUTFLOW_H

#include "cpu/kernel.h"

#include <string.h>

typedef struct outflow {
    const float *from;
    float *to, *end;
} outflow;

FOVEA_INLINE void outflow_put(outflow *o) {
    vf_stream(o->to, vf_load(o->from));
    o->from += VF_WIDTH, o->to += VF_WIDTH;
}

/* What stands before the first whole line is written at once. */
static inline outflow outflow_begin(const float *from, int64_t count, float *to) {
    int64_t head = smaller(elements_to_alignment(FOVEA_F32, to), count);
    if (head > 0) memcpy(to, from, (size_t)head * sizeof *to);
    return (outflow){from + head, to + head, to + count};
}

/* The vectors that are left, and what follows the last. */
static inline void outflow_end(outflow *o) {
    while (o->to + VF_WIDTH <= o->end) outflow_put(o);
    if (o->to < o->end) memcpy(o->to, o->from, (size_t)(o->end - o->to) * sizeof *o->to);
    o->to = o->end;
}

#endif
