/* sage.h on AMX's tiles (sage_tiles.h). */
#include "cpu/attention/sage.h"

#include "cpu/attention/sage_amx.h"

fovea_status fovea_sage_amx_run(const fovea_problem *problem, fovea_run *run) {
    return run_sage(problem, run);
}

size_t fovea_sage_amx_workspace(const fovea_problem *problem, int threads) {
    return workspace_sage(problem, threads);
}

bool fovea_sage_amx_serves(const fovea_problem *problem, char *reason, size_t size) {
    return serves_sage(problem, reason, size);
}

double fovea_sage_amx_cost(const fovea_problem *problem, int threads, double flops,
                           double bandwidth) {
    return cost_sage(problem, threads, flops, bandwidth);
}
