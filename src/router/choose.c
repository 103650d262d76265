/* Choosing: measured routes if there are any, else the cost model. */
#include "router/choose.h"

/* Until rates are measured, a tier is worth its vector width and algorithms keep their order. */
void fovea_choose(const fovea_problem *problem, const fovea_routes *routes, int threads,
                  fovea_choice *choice) {
    (void)routes, (void)threads;
    *choice = (fovea_choice){0};
    char reason[160];
    for (int i = 0; i < fovea_implementation_count(problem->index); i++) {
        const fovea_implementation *candidate = fovea_implementation_at(problem->index, i);
        if (candidate->only_by_name) continue;
        if (!fovea_implementation_serves(candidate, problem, reason, sizeof reason)) continue;
        if (!choice->implementation || candidate->tier > choice->implementation->tier) {
            choice->runner_up = choice->implementation;
            choice->implementation = candidate;
        }
    }
}
