/* Threads for preparing and judging, not for kernels. They are gone when the call returns: a team of
 * OpenMP stays, and a process forked from one that has used it hangs when it enters a region itself. */
#ifndef FOVEA_RUNTIME_PARALLEL_H
#define FOVEA_RUNTIME_PARALLEL_H

#include <stdint.h>

/* Items [first, end) by thread `thread`, which is below the number that was asked for. */
typedef void fovea_parallel_function(void *task, int64_t first, int64_t end, int thread);

/* Hands out items [0, count), `step` at a time, to the caller and to `threads` - 1 others. */
void fovea_parallel(int64_t count, int64_t step, int threads, fovea_parallel_function *run,
                    void *task);

#endif
