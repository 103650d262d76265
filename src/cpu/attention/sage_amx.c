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

/* Shares of the peak of tiles of bf16 that were measured; p v in f32 uses none, and has tiles of half as many rows as on AVX-512. */
double fovea_sage_amx_cost(const fovea_problem *problem, int threads, double flops,
                           double bandwidth) {
    static const double shares[] = {[FOVEA_ATTENTION_PV_F32] = 0.07,
                                    [FOVEA_ATTENTION_PV_BF16] = 0.16,
                                    [FOVEA_ATTENTION_PV_I8] = 0.2};
    const fovea_attention_options *options = problem->options;
    return cost(problem, threads, flops * shares[options->pv] / 0.85, bandwidth, FLASH);
}
