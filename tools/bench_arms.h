/* Arms of a case: our implementations and the peers, verified and then timed in turns. Whoever provides
 * an arm gives two functions; all else is the same for all. */
#ifndef FOVEA_TOOLS_BENCH_ARMS_H
#define FOVEA_TOOLS_BENCH_ARMS_H

#include "bench.h"
#include "bench_interrupt.h"
#include "bench_prepare.h"
#include "bench_steps.h"
#include "device_timing.h"
#include "slices.h"
#include "turn.h"
#include "verify.h"

typedef struct fovea_bench_arm fovea_bench_arm;
typedef struct fovea_measurement fovea_measurement;

typedef struct fovea_provider {
    /* One call on the first set of tensors, whose results stand in the shared memory then, and the
     * arm's estimate. False: it does not take part; the row's reason says why, and `served` tells a
     * refusal from a failure. */
    bool (*first)(fovea_measurement *m, fovea_bench_arm *arm);
    /* Adds the turn's samples to `samples`. False: it failed; the row's reason says how. */
    bool (*take)(fovea_measurement *m, fovea_bench_arm *arm, const fovea_turn *turn,
                 fovea_timings *samples);
} fovea_provider;
extern const fovea_provider fovea_provide_host, fovea_provide_device, fovea_provide_peer;

struct fovea_bench_arm {
    const fovea_provider *provider;
    fovea_place place;
    fovea_bench_row *row; /* of the second name of the noise pair: the first one's */
    bool again;           /* it is the second name */
    fovea_timings *timings, *hot;
    const fovea_implementation *implementation; /* or */
    const fovea_steps *steps;                   /* of ours as well, or */
    fovea_bench_peer *peer;
    const char *way;              /* of the peer; NULL: the only one */
    const fovea_case *definition; /* of ours: the case's, or with the options of a suite's arm */
    fovea_device_call *call;      /* of ours on a device; of the measurement's */
    double estimate, used;        /* seconds: a call; all its turns */
    double began, ended;          /* on a device: the samples of the last turn, CLOCK_MONOTONIC */
    double round_median;          /* of its samples in this round; 0: it took none */
    int inner[2];                 /* calls of a sample of its last turn, cool and hot */
    bool lost;
};

enum { FOVEA_OPTIONAL_MAX = 24 };

/* One way to move a case's tensors. */
typedef struct fovea_memory_way {
    int threads;
    bool past, ahead; /* writes past the caches; fetches ahead */
    double counted;   /* bytes of the case */
    double best;      /* sample; 0: none yet */
} fovea_memory_way;

/* The arm that is no arm: the tensors of a case that memory binds, moved and nothing else. */
typedef struct fovea_memory {
    const struct fovea_ceiling_loops *loops;
    fovea_memory_way ways[5]; /* those that may be the fastest */
    int count;                /* 0: the case has no such ceiling */
    double bytes;             /* that are moved */
    double now;               /* seconds of the fastest in this round */
} fovea_memory;

/* Calls on a device that are estimated by so many of them (bench/peers/device.py has them too). */
#define FOVEA_SHORT_CALL 50e-6
enum { FOVEA_SHORT_CALLS = 50 };

/* A case under way. */
struct fovea_measurement {
    fovea_bench_run *run;
    fovea_bench_case *c;
    fovea_prepared *prepared; /* which owns the tensors and what is expected of them */
    fovea_sample *samples;
    int sets, turn_of_set;
    fovea_device_tensors *device; /* the first set there, and others that calls take turns over */
    int device_sets;
    fovea_moved_problem *moved;   /* the problem of the first */
    fovea_verification *expected; /* or, of problems that are too large for it, */
    fovea_slices *slices;
    fovea_steps *steps;                      /* NULL: none wanted, or the kernel is not fused */
    fovea_case optional[FOVEA_OPTIONAL_MAX]; /* with the options of the suite's arms or plans */
    int optional_count;
    fovea_bench_arm arms[FOVEA_ARMS_MAX];
    int arm_count;
    fovea_device_call *calls[FOVEA_ARMS_MAX]; /* of ours on the device */
    int call_count;
    fovea_memory memory;
    bool brief; /* calls on the device are too short to heat it */
    fovea_bench_arm *chosen_on_device;
    double busy_until; /* when the device had something to do last, CLOCK_MONOTONIC */
    double seconds;    /* for its rounds */
};

/* Whether the cache of the device is overwritten before each cold call, which then is a sample by itself,
 * because so many sets of the tensors as calls would have to take turns over cannot be had. */
bool fovea_measurement_flushes(const fovea_measurement *m);

/* The parameters that arms are called with, until they are set again. */
void fovea_measurement_set_options(fovea_measurement *m, const fovea_case *definition);

/* Before the rounds; a round's turn; and after it the share of each arm. */
void fovea_memory_begin(fovea_measurement *m);
void fovea_memory_turn(fovea_measurement *m);
void fovea_memory_move(const struct fovea_ceiling_loops *loops, const fovea_memory_way *way,
                       const fovea_problem *problem);
void fovea_memory_judge(fovea_measurement *m, fovea_bench_arm *arm);

/* A round's turn of calls on the device with their tensors in the host's memory. */
void fovea_journey_turn(fovea_measurement *m, fovea_bench_arm *arm);

/* Bit fovea_place: the peer computes there; 0: there is none of that name. */
unsigned fovea_peer_places(const char *name);
/* After the rounds: how long a call of it took. */
void fovea_peer_note_pace(const fovea_measurement *m, const fovea_bench_arm *arm);
/* Of a kernel's ways the one of that number; NULL past the last. */
const char *fovea_peer_way(const fovea_bench_peer *peer, const char *kernel, size_t number);

#endif
