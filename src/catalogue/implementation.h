/* What a backend offers for a kernel: one row of its table. */
#ifndef FOVEA_CATALOGUE_IMPLEMENTATION_H
#define FOVEA_CATALOGUE_IMPLEMENTATION_H

#include "catalogue/problem.h"
#include "runtime/plans.h"
#include "runtime/processor.h"

#include <stdalign.h>

/* What an implementation may leave for calls alike: what it worked out from dtypes, extents, strides,
 * parameters and threads alone, such as a block plan, or a description whose addresses it sets anew. Addresses and
 * contents are others the next time. */
enum { FOVEA_KEPT_BYTES = 3072 };
typedef struct fovea_kept_work {
    bool made; /* `memory` holds it */
    alignas(64) char memory[FOVEA_KEPT_BYTES];
} fovea_kept_work;

/* What an implementation gets besides the problem, and what it reports back. */
typedef struct fovea_run {
    int threads;     /* in: how many it may use; out: how many it used */
    void *workspace; /* of the size that it asked for, aligned to 64 bytes */
    size_t workspace_bytes;
    fovea_plans *plans;             /* on the CPU: what calls before this one have worked out */
    fovea_kept_work *kept;          /* of calls alike; NULL: none are, or they are not kept */
    int64_t block_rows, block_keys; /* out: attention's block plan */
    const char *arithmetic;         /* out: where it is not f32 on the dtype; NULL: it is */
    void *stream;       /* CUDA: what launches are ordered on; workspace is the device's */
    const char *reason; /* out: what went wrong, in words; NULL: the status says it */
} fovea_run;

typedef struct fovea_implementation {
    const char *kernel;
    const char *name;  /* backend/tier/algorithm: "cpu/avx2/flash" */
    uint32_t dtypes;   /* of the call */
    fovea_tier tier;   /* what the machine must have; of no meaning on a device */
    const char *note;  /* for `fovea info`: what it does with special hardware; NULL: nothing */
    bool only_by_name; /* never chosen unless asked for: the reference, approximations */
    /* False if it does not serve the problem; then `reason` says why, in words. NULL: it serves all
     * problems of its dtypes. On the CPU this and `workspace` hang on what calls alike share, and on
     * contents only where fovea_depends_on_contents says so. */
    bool (*serves)(const fovea_problem *problem, char *reason, size_t size);
    /* Scratch for that many threads; NULL: none. SIZE_MAX: more than can be counted. */
    size_t (*workspace)(const fovea_problem *problem, int threads);
    fovea_status (*run)(const fovea_problem *problem, fovea_run *run);
    /* Expected seconds without a measurement, given the measured or assumed rates of the machine
     * (FLOP/s and byte/s of one thread of the tier); NULL: operations and bytes of the row. */
    double (*cost)(const fovea_problem *problem, int threads, double flops, double bandwidth);
    DLDeviceType device; /* where its tensors are: kDLCUDA; 0: the CPU */
} fovea_implementation;

/* Room for what an implementation works out: that of calls alike, where there is some, or `own`, which
 * is as large. made: calls alike have filled it already; if not, the caller does. */
static inline void *fovea_kept(fovea_run *run, size_t bytes, void *own, bool *made) {
    *made = false;
    if (!run->kept || bytes > FOVEA_KEPT_BYTES) return own;
    *made = run->kept->made;
    run->kept->made = true;
    return run->kept->memory;
}

static inline bool fovea_implementation_is_cuda(const fovea_implementation *i) {
    return i->device == kDLCUDA;
}

/* The parts of a name. */
static inline const char *fovea_implementation_algorithm(const fovea_implementation *i) {
    const char *slash = strrchr(i->name, '/');
    return slash ? slash + 1 : i->name;
}

#endif
