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
    fovea_backward_call backward;
    fovea_backward_describe(problem, &backward);
    const fovea_attention_call *call = &backward.attention;
    if (!make_backward_plan(&backward, 1).few) return serves_backward(problem, reason, size);
    snprintf(reason, size, "%lld rows of a key head are few for tiles",
             (long long)(call->query_length * call->group));
    return false;
}

/* Seconds: products of whole tiles at a share of their peak that was measured (NOTES.md), and a start. */
double fovea_backward_amx_cost(const fovea_problem *problem, int threads, double flops,
                               double bandwidth) {
    fovea_backward_call backward;
    (void)bandwidth;
    fovea_backward_describe(problem, &backward);
    backward_plan p = make_backward_plan(&backward, threads);
    const fovea_attention_call *call = &backward.attention;
    double wanted = (double)(call->head_size + call->value_size);
    double padding = (double)(p.head_pitch + p.value_pitch) / fmax(wanted, 1);
    static const double shares[] = {0, 0.2, 0.3};
    return fovea_problem_operations(problem) * padding * term_products(p.terms) /
               (flops * shares[p.terms] * p.threads) +
           (p.threads > 1 ? 3e-6 : 1e-6);
}
