/* Learning while working: a context that may try other implementations in calls that are made anyway,
 * and then serves each call by what was fastest.
 *
 *     fovea_explore(context, 0.02); // trials may cost a fiftieth of the time
 *     ... calls as always ...
 *     fovea_exploration_report(context, &report);
 *     fovea_routes_save(context, "routes"); // for the next run: fovea_context_options.routes
 */
#ifndef FOVEA_EXPLORE_H
#define FOVEA_EXPLORE_H

#include <fovea/fovea.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Lets the context try other implementations in calls that are made anyway. Trials may make all calls
 * together longer by that share of their time at most (0.05: a twentieth; 0: no more trials, what
 * was learnt stays in use); a single call may take several times as long. A problem is settled after
 * a few calls of each candidate, and from then on served by the fastest. Every trial gives a right
 * result, but while trials last two equal calls may be served by two implementations, whose
 * results differ in the last bits. A share outside 0 to 1 is refused, and so are CUDA contexts, whose
 * calls return before the work is done. */
FOVEA_API fovea_status fovea_explore(fovea_context *context, double share);

typedef struct fovea_exploration {
    uint64_t calls, trials;       /* since fovea_explore was first called */
    double seconds, lost_seconds; /* of all these calls; what trials took longer than the best */
    int problems;                 /* calls that differ in shape, strides, dtype or options */
    int settled;                  /* of these: nothing is left to try */
    int changed;                  /* of these: served by another implementation than at first */
} fovea_exploration;
FOVEA_API fovea_status fovea_exploration_report(const fovea_context *context,
                                                fovea_exploration *report);

/* Writes a routes file: the routes in use and what was learnt since. The file is replaced in one
 * step, or left as it was. */
FOVEA_API fovea_status fovea_routes_save(fovea_context *context, const char *path);

#ifdef __cplusplus
}
#endif

#endif
