/* The choice of an implementation for a problem, with its reason. */
#ifndef FOVEA_ROUTER_CHOOSE_H
#define FOVEA_ROUTER_CHOOSE_H

#include "router/registry.h"

typedef struct fovea_routes fovea_routes; /* measured routes; see router/routes.h */

typedef struct fovea_choice {
    const fovea_implementation *implementation, *runner_up; /* NULL: none */
    double seconds, runner_up_seconds;                      /* expected; 0: unknown */
    bool measured;
} fovea_choice;

/* routes may be NULL: then the cost model chooses. If none serves, implementation is NULL. */
void fovea_choose(const fovea_problem *problem, const fovea_routes *routes, int threads,
                  fovea_choice *choice);

#endif
