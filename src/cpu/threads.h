/* Work shared among threads. The pieces depend on the shape alone, never on how many threads there
 * are, so that results have the same bits with any number; which thread takes which does not
 * matter. One thread runs without entering OpenMP at all. */
#ifndef FOVEA_CPU_THREADS_H
#define FOVEA_CPU_THREADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/processor.h"

/* Runs pieces [begin, end); thread is below the number that was asked for. */
typedef void fovea_pieces_function(const void *task, int64_t begin, int64_t end, int thread);

/* How many of the allowed threads `pieces` equal pieces of together `work` bytes (or their worth in
 * time) can feed. A thread has to get 256 KiB, 2 to 8 microseconds: starting and joining costs 1. With
 * 1 MiB, adding 100,000 floats took 10.0 microseconds where two threads need 5. Two start and join in 1 microsecond
 * and divide 256 KiB: one thread and two take 3.6 and 2.9 for abs of so much, 5.3 and 3.7 for half as much again, and
 * as long for 128 KiB (1.8 and 2.0); sums 3.9 and 3.2, 5.9 and 4.2. */
static inline int fovea_useful_threads(int64_t pieces, int64_t work, int allowed) {
    int64_t useful = work >> 18;
    if (useful == 1) useful = 2;
    if (useful > pieces) useful = pieces;
    if (useful > allowed) useful = allowed;
    return useful > 1 ? (int)useful : 1;
}

/* The size of equal pieces of `count` elements, at most `most` and whole units but for the last: an even number of
 * pieces, as two threads that share seven wait for four. Two cores of a Xeon, 10^5 floats: scans in pieces of 32,768 and
 * one of 1,696 33 microseconds, in four equal ones 16; divisions in seven pieces 14.9, in eight 11.9. */
static inline int64_t fovea_equal_pieces(int64_t count, int64_t most, int64_t unit) {
    if (count <= most) return count;
    int64_t pieces = (count + most - 1) / most, units = (count + unit - 1) / unit;
    pieces += pieces & 1;
    int64_t size = (units + pieces - 1) / pieces * unit;
    return size < most ? size : most;
}

/* Each thread takes one contiguous range. */
static inline void fovea_share(int64_t pieces, int threads, fovea_pieces_function *run,
                               const void *task) {
    if (threads <= 1) {
        run(task, 0, pieces, 0);
        return;
    }
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int thread = 0; thread < threads; thread++) {
        int64_t share = pieces / threads, rest = pieces % threads;
        int64_t begin = thread * share + (thread < rest ? thread : rest);
        run(task, begin, begin + share + (thread < rest), thread);
    }
}

/* Whether stores should bypass the caches: the call moves more than the threads' part of the last
 * level. A shared L3 counts for at most 8 MiB a thread and for 32 MiB in all, since a virtual machine shows the
 * whole host's. Copying 40 MB on a Xeon of 2.1 MiB L2 and 260 MiB L3: 36 against 31 GB/s with one
 * thread, 72 against 62 with two; at 256 KiB (in L2) 45 against 96. With 16 threads and 300 MiB, 10^7 floats, for
 * which 128 MiB were too few: map_exp 1.01 ms, and past the caches 0.66; of tensors that were just used 0.48 and 0.35. */
static inline bool fovea_worth_streaming(int64_t bytes, int threads) {
    int64_t share = (int64_t)(threads < 4 ? threads : 4) << 23,
            half = (int64_t)fovea_processor_get()->l3_bytes / 2;
    return bytes > (share < half ? share : half);
}

#endif
