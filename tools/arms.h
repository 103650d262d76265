/* The implementations that may serve one problem, verified and then timed side by side. `fovea tune`
 * and `fovea route --measure` share them. */
#ifndef FOVEA_TOOLS_ARMS_H
#define FOVEA_TOOLS_ARMS_H

#include "bench_columns.h"
#include "bench_statistics.h"
#include "device_timing.h"
#include "router/registry.h"
#include "seconds.h"
#include "verify.h"

typedef struct fovea_arm {
    const fovea_implementation *implementation;
    int number;             /* of the implementation among those of the kernel */
    fovea_device_call call; /* on a device */
    bool failed, verified;
    char why[256];         /* if it failed or is wrong */
    fovea_timings timings; /* seconds */
    fovea_summary summary;
    double first; /* seconds of the first run, which is not a sample */
} fovea_arm;

typedef struct fovea_arms {
    fovea_arm items[FOVEA_IMPLEMENTATIONS_MAX];
    int count, threads;
    void *workspace;
    size_t workspace_bytes;
    fovea_plans plans;
    const fovea_device_tensors *device; /* NULL: on the processor */
    fovea_moved_problem *moved;         /* the problem there */
} fovea_arms;

/* All that serve the problem and may be chosen, but for those of the set `without`; on the device that
 * has the tensors of the problem's sample, or, where that is NULL, here. False if memory is short. */
bool fovea_arms_collect(fovea_arms *arms, const fovea_problem *problem,
                        const fovea_device_tensors *device, int threads, uint64_t without);
void fovea_arms_release(fovea_arms *arms);

/* Runs each arm once into poisoned outputs and compares them; expected is NULL where all of them are
 * known to be right. */
void fovea_arms_verify(fovea_arms *arms, const fovea_problem *problem,
                       const fovea_verification *expected);

/* Times the verified arms in rounds, in an order that changes, until it is decided which is the fastest,
 * but for about that long at most. Arms that are clearly behind are let go, and one whose first run was
 * five times as long as another's is timed once. False after an interrupt. */
bool fovea_arms_time(fovea_arms *arms, const fovea_problem *problem, double seconds);

/* The verified arm with the smallest median; NULL if there is none. */
const fovea_arm *fovea_arms_fastest(const fovea_arms *arms);

/* "± 0.4 %, median of 12" */
const char *fovea_samples_text(double median, double deviation, int64_t count, char *text,
                               size_t size);

#endif
