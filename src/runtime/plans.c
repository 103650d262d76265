/* The few plans that a context keeps. */
#include "runtime/plans.h"

#include "runtime/memory.h"

#include <string.h>

static void drop(fovea_plans *plans, fovea_plan *plan) {
    fovea_allocator *allocator = &plans->allocator;
    if (plan->memory) allocator->release(allocator->user, plan->memory, plan->bytes);
    *plan = (fovea_plan){0};
}

void *fovea_plan_find(fovea_plans *plans, const fovea_plan_key *key) {
    plans->uses++;
    for (int i = 0; i < FOVEA_PLANS_MAX; i++) {
        fovea_plan *plan = &plans->list[i];
        if (plan->memory && memcmp(&plan->key, key, sizeof *key) == 0)
            return plan->used = plans->uses, plan->memory;
    }
    return NULL;
}

void *fovea_plan_make(fovea_plans *plans, const fovea_plan_key *key, size_t bytes) {
    fovea_plan *oldest = &plans->list[0];
    for (int i = 1; i < FOVEA_PLANS_MAX; i++)
        if (plans->list[i].used < oldest->used) oldest = &plans->list[i];
    void *memory = plans->allocator.allocate(plans->allocator.user, bytes, FOVEA_ALIGNMENT);
    if (!memory) return NULL;
    drop(plans, oldest);
    *oldest = (fovea_plan){*key, memory, bytes, plans->uses};
    return memory;
}

void fovea_plans_release(fovea_plans *plans) {
    for (int i = 0; i < FOVEA_PLANS_MAX; i++) drop(plans, &plans->list[i]);
}
