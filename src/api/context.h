/* Inside of a context. */
#ifndef FOVEA_API_CONTEXT_H
#define FOVEA_API_CONTEXT_H

#include "api/device.h"
#include "catalogue/repeat.h"
#include "router/online.h"
#include "runtime/clock.h"
#include "runtime/memory.h"
#include "runtime/plans.h"
#include "runtime/status.h"

/* A call that may come again. */
typedef struct fovea_kept_call {
    fovea_repeat repeat;
    double bytes;                               /* of its tensors */
    const fovea_implementation *implementation; /* that was chosen; NULL: to be chosen each time */
    /* The one that ran it, and so serves it, with so many threads; NULL: nothing is known of it. */
    const fovea_implementation *known;
    int threads;
    size_t workspace_bytes;
    fovea_kept_work work;
} fovea_kept_call;
enum { FOVEA_CALLS_KEPT = 32 };

struct fovea_context {
    fovea_message message;
    fovea_allocator allocator;
    fovea_workspace workspace; /* of the context's device */
    fovea_plans plans;
    fovea_device device;
    int threads;
    fovea_routes *routes; /* NULL: none */
    fovea_choice_cache choices;
    fovea_kept_call *calls; /* FOVEA_CALLS_KEPT, by a hash of kernel and extents */
    fovea_online *online;   /* NULL: calls are not learnt from; its times are ticks */
    fovea_message routes_state;
    fovea_epoch epoch;      /* of the ticks below */
    fovea_call_report last; /* seconds: in ticks */
    int kernels;
    const fovea_implementation **forced; /* by kernel; NULL entries: automatic */
    fovea_statistics *statistics;        /* by kernel; seconds: in ticks */
};

/* Changes how many threads later calls may use; 0: as many as affinity and the cgroup allow. */
void fovea_context_set_threads(fovea_context *context, int threads);

#endif
