/* Learning while working: a context that may spend a share of its time on trying other implementations
 * in calls that are to be made anyway. Every trial is a real call with a right result; what it took
 * longer than the best known one would have is what is spent.
 *
 * A problem (calls of one signature) begins with the choice that fovea_choose makes. Candidates that
 * the cost model expects to take four times as long are never tried. A candidate is let go once it is
 * clearly slower, and decided on by medians once it has FOVEA_ONLINE_SAMPLES times; then the problem
 * is settled and its calls cost a look into a table. Times may be in any unit. */
#ifndef FOVEA_ROUTER_ONLINE_H
#define FOVEA_ROUTER_ONLINE_H

#include "router/choose.h"

enum { FOVEA_ONLINE_PROBLEMS = 256, FOVEA_ONLINE_CANDIDATES = 8, FOVEA_ONLINE_SAMPLES = 7 };

typedef struct fovea_online_candidate {
    int32_t number, calls; /* of the implementation; that it served */
    double expected;       /* seconds, by the cost model */
    double first;          /* the time of its first call, which met cold memory: no sample */
    double times[FOVEA_ONLINE_SAMPLES]; /* of the last calls but that */
} fovea_online_candidate;

typedef struct fovea_online_problem {
    uint64_t signature; /* 0: empty */
    fovea_route_key key;
    uint64_t work;
    int count, best; /* candidates; the one that is best so far */
    uint32_t open;   /* bit i: candidate i is not decided on */
    bool was_changed;
    fovea_online_candidate candidates[FOVEA_ONLINE_CANDIDATES];
} fovea_online_problem;

typedef struct fovea_online {
    fovea_allocator allocator;
    double share; /* of the time of all calls that trials may cost */
    double time,
        spent; /* of all calls of known problems; by trials, more than the best would have */
    uint64_t calls, trials;
    fovea_online_problem problems[FOVEA_ONLINE_PROBLEMS];
} fovea_online;

fovea_online *fovea_online_create(const fovea_allocator *allocator); /* NULL: memory is short */
void fovea_online_release(fovea_online *online);

/* What a call is to be served by. problem is NULL for calls that nothing is learnt from: those whose
 * cost hangs on what stands in lengths and tables, and all once the table is full. */
typedef struct fovea_online_turn {
    const fovea_implementation *implementation; /* NULL: none serves */
    fovea_online_problem *problem;
    int candidate;
} fovea_online_turn;
fovea_online_turn fovea_online_choose(fovea_online *online, const fovea_problem *problem,
                                      const fovea_routes *routes, int threads);
void fovea_online_note(fovea_online *online, const fovea_online_turn *turn, double time);

/* The settled or running state of a problem; NULL if there was no call of it. */
const fovea_online_problem *fovea_online_find(const fovea_online *online,
                                              const fovea_problem *problem);
/* How many samples a candidate has, and their median; of one call alone, its time; 0 of none. */
int fovea_online_samples(const fovea_online_candidate *candidate);
double fovea_online_median(const fovea_online_candidate *candidate);

#endif
