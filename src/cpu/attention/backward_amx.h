/* attention_backward on AMX's tiles, in an object of its own: attention_amx.c has another plan. */
#ifndef FOVEA_CPU_ATTENTION_BACKWARD_AMX_H
#define FOVEA_CPU_ATTENTION_BACKWARD_AMX_H

#include "catalogue/implementation.h"

fovea_status fovea_backward_amx_run(const fovea_problem *problem, fovea_run *run);
size_t fovea_backward_amx_workspace(const fovea_problem *problem, int threads);
bool fovea_backward_amx_serves(const fovea_problem *problem, char *reason, size_t size);
double fovea_backward_amx_cost(const fovea_problem *problem, int threads, double flops,
                               double bandwidth);

#endif
