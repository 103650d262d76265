/* What a case needs before its arms take part: tensors in memory that peers map too, and what is to come out.
 * Made by threads of their own, so that an interrupt need not wait for a reference; and where all arms are on
 * a device, whose time nobody else takes, ahead of the case that is being measured. */
#ifndef FOVEA_TOOLS_BENCH_PREPARE_H
#define FOVEA_TOOLS_BENCH_PREPARE_H

#include "bench.h"
#include "slices.h"
#include "verify.h"

typedef struct fovea_prepared {
    const fovea_bench_run *run;
    const fovea_bench_case *c;
    size_t first, used, room; /* its part of the shared memory: bytes */
    fovea_sample *samples;    /* the first, and what calls rotate over */
    int sets;
    fovea_verification *expected; /* or, of problems that are too large for it, */
    fovea_slices *slices;
    char problem[520]; /* why it cannot be measured; empty: it can */
} fovea_prepared;

/* Threads that prepare the run's cases in order, for fovea_bench_prepared to take. Without them it does so
 * itself. */
bool fovea_bench_prepare_ahead(fovea_bench_run *run);
/* False: the run was interrupted and a thread still reads what it prepares from. */
bool fovea_bench_prepare_end(fovea_bench_run *run);

/* The number of the case to measure next, of those of its suite from `first` on that were not begun. Where cases are
 * prepared ahead it waits until one is ready, whichever, so that nobody waits for a slow reference. */
int fovea_bench_next(const fovea_bench_run *run, int first);

/* Begins no more of it until it is resumed, and waits at most so long for what is begun. Whether nothing is
 * being prepared: what a call costs the host is not to be measured beside it. */
bool fovea_bench_prepare_pause(double seconds);
void fovea_bench_prepare_resume(void);

/* NULL: interrupted, or no memory. */
fovea_prepared *fovea_bench_prepared(fovea_bench_run *run, fovea_bench_case *c);
void fovea_bench_release_prepared(fovea_bench_run *run, fovea_prepared *prepared);

#endif
