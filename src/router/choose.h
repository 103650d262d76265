/* The choice of an implementation for a problem, with its reason. */
#ifndef FOVEA_ROUTER_CHOOSE_H
#define FOVEA_ROUTER_CHOOSE_H

#include "router/routes.h"

typedef enum fovea_choice_source {
    FOVEA_CHOICE_NONE,     /* no implementation serves */
    FOVEA_CHOICE_MEASURED, /* by a measurement of the same key */
    FOVEA_CHOICE_NEIGHBOUR, /* by all measurements around it; the time is that of the nearest, scaled by work */
    FOVEA_CHOICE_MODEL /* by the cost model */
} fovea_choice_source;

typedef struct fovea_choice {
    const fovea_implementation *implementation, *runner_up; /* NULL: none */
    double seconds, runner_up_seconds;                      /* expected; 0: unknown */
    fovea_choice_source source;
    const fovea_route_record *record, *runner_up_record; /* if measured; of `routes` */
} fovea_choice;

/* routes may be NULL: then the cost model chooses. If none serves, implementation is NULL. The
 * choice depends on the arguments alone. Implementations by name only are never chosen. */
void fovea_choose(const fovea_problem *problem, const fovea_routes *routes, int threads,
                  fovea_choice *choice);

/* What the cost model takes a tier to do, per second and thread: measured if routes has it. */
typedef struct fovea_rate {
    double flops, bandwidth;
    bool measured;
} fovea_rate;
fovea_rate fovea_tier_rate(const fovea_routes *routes, fovea_tier tier);

/* Expected seconds of an implementation by the cost model. */
double fovea_expected_seconds(const fovea_implementation *implementation,
                              const fovea_problem *problem, const fovea_routes *routes,
                              int threads);

/* Of everything in a problem but addresses and contents; never 0. */
uint64_t fovea_problem_signature(const fovea_problem *problem);
/* Whether the contents that a problem depends on change the choice too: where the kernel's route keys are
 * made of them. */
bool fovea_choice_depends_on_contents(const fovea_problem *problem);

/* The last choices of a context, so that repeated calls choose in nanoseconds. All zero: empty. */
enum { FOVEA_CHOICES_KEPT = 64 };
typedef struct fovea_choice_cache {
    struct {
        uint64_t signature; /* of everything in a problem but addresses and contents */
        int kernel; /* that it is of, whatever the signature: another's would run on other tensors */
        const fovea_implementation *implementation;
    } entries[FOVEA_CHOICES_KEPT];
} fovea_choice_cache;

/* The implementation that fovea_choose would choose, or NULL. The cache must always be used with
 * the same routes and threads. */
const fovea_implementation *fovea_choose_quickly(fovea_choice_cache *cache,
                                                 const fovea_problem *problem,
                                                 const fovea_routes *routes, int threads);

#endif
