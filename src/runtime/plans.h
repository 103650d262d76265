/* Plans: what an implementation works out from a shape alone and finds again at the next call, such as
 * the twiddles of a transform. A few blocks of memory by key; the one unused for longest makes room. */
#ifndef FOVEA_RUNTIME_PLANS_H
#define FOVEA_RUNTIME_PLANS_H

#include <fovea/fovea.h>

enum { FOVEA_PLANS_MAX = 16, FOVEA_PLAN_KEYS = 4 };

/* What the plan is of; the first number says whose it is. */
typedef struct fovea_plan_key {
    uint64_t numbers[FOVEA_PLAN_KEYS];
} fovea_plan_key;

typedef struct fovea_plan {
    fovea_plan_key key;
    void *memory;
    size_t bytes;
    uint64_t used;
} fovea_plan;

typedef struct fovea_plans {
    fovea_allocator allocator;
    fovea_plan list[FOVEA_PLANS_MAX];
    uint64_t uses;
} fovea_plans;

/* The plan of that key; NULL if there is none. It is valid until FOVEA_PLANS_MAX others were made. */
void *fovea_plan_find(fovea_plans *plans, const fovea_plan_key *key);
/* Memory for a plan that was not found, aligned to 64 bytes, which the caller fills; NULL if it is short. */
void *fovea_plan_make(fovea_plans *plans, const fovea_plan_key *key, size_t bytes);
void fovea_plans_release(fovea_plans *plans);

#endif
