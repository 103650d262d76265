/* What the table of attention_amx.c says of split. */
#ifndef FOVEA_CPU_ATTENTION_SPLIT_AMX_H
#define FOVEA_CPU_ATTENTION_SPLIT_AMX_H

#include "catalogue/implementation.h"

fovea_status fovea_split_amx_run(const fovea_problem *problem, fovea_run *run);
size_t fovea_split_amx_workspace(const fovea_problem *problem, int threads);
bool fovea_split_amx_serves(const fovea_problem *problem, char *reason, size_t size);
double fovea_split_amx_cost(const fovea_problem *problem, int threads, double flops,
                            double bandwidth);

#endif
