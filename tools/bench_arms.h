/* Arms of a case: our implementations and the peers, verified and then timed in turns. */
#ifndef FOVEA_TOOLS_BENCH_ARMS_H
#define FOVEA_TOOLS_BENCH_ARMS_H

#include "bench.h"
#include "bench_interrupt.h"

/* What an arm does when it is its turn: untimed calls, then samples, each the mean of `inner` calls. */
typedef struct fovea_turn {
    int warm, count, inner;
    double estimate; /* seconds a call, as far as is known */
} fovea_turn;

/* Describes the case to the peer, lets it run once and write its result. False: it does not take part,
 * row->reason says why (row->served tells a refusal from a failure). */
bool fovea_peer_prepare(fovea_bench_run *run, fovea_bench_peer *peer, const fovea_sample *samples,
                        int sets, fovea_bench_row *row, double *first);
bool fovea_peer_run(fovea_bench_run *run, fovea_bench_peer *peer, fovea_bench_row *row,
                    const fovea_turn *turn);
bool fovea_peer_known(const char *name);
json_t *fovea_case_parameters_json(const fovea_case *c);

#endif
