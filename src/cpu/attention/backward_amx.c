/* backward.h on AMX's tiles (backward_tiles.h). */
#include "cpu/attention/backward_amx.h"

#include "cpu/attention/backward.h"

fovea_status fovea_backward_amx_run(const fovea_problem *problem, fovea_run *run) {
    return run_backward(problem, run);
}

size_t fovea_backward_amx_workspace(const fovea_problem *problem, int threads) {
    return workspace_backward(problem, threads);
}

bool fovea_backward_amx_serves(const fovea_problem *problem, char *reason, size_t size) {
    return serves_backward(problem, reason, size);
}

double fovea_backward_amx_cost(const fovea_problem *problem, int threads, double flops,
                               double bandwidth) {
    return cost_backward(problem, threads, flops, bandwidth);
}
