/* What the table of attention_amx.c says of sage. */
#ifndef FOVEA_CPU_ATTENTION_SAGE_AMX_H
#define FOVEA_CPU_ATTENTION_SAGE_AMX_H

#include "catalogue/implementation.h"

fovea_status fovea_sage_amx_run(const fovea_problem *problem, fovea_run *run);
size_t fovea_sage_amx_workspace(const fovea_problem *problem, int threads);
bool fovea_sage_amx_serves(const fovea_problem *problem, char *reason, size_t size);
double fovea_sage_amx_cost(const fovea_problem *problem, int threads, double flops,
                           double bandwidth);

#endif
