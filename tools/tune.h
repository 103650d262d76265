/* What the parts of `fovea tune` share: the run, its points, and what is known of their costs. */
#ifndef FOVEA_TOOLS_TUNE_H
#define FOVEA_TOOLS_TUNE_H

#include "arms.h"
#include "router/routes.h"
#include "tune_points.h"

/* Tensors of so many bytes are not compared where smaller ones of the same kind were right. */
#define FOVEA_TUNE_TRUSTED_FROM 1048576.0
/* Seconds for the samples of a point with one number of threads, at most. */
#define FOVEA_TUNE_SAMPLING_MOST 0.1

typedef struct fovea_tune_options {
    double seconds;
    int kernel; /* -1: all */
    const char *output;
    bool again, verbose, plan;
    bool cuda; /* of the implementations on a CUDA device */
    int device;
} fovea_tune_options;

/* Where the time of a run goes. */
typedef enum fovea_tune_stage {
    FOVEA_TUNE_DRAWING,
    FOVEA_TUNE_REFERENCE,
    FOVEA_TUNE_COMPARING,
    FOVEA_TUNE_SAMPLING,
    FOVEA_TUNE_STAGES
} fovea_tune_stage;

/* Implementations that were right at some problem of a kind. */
typedef struct fovea_tune_proof {
    fovea_route_key kind; /* kernel, dtype and features */
    uint64_t right;       /* bit i: at a problem that is large enough for threads */
} fovea_tune_proof;

typedef struct fovea_tuning {
    const fovea_tune_options *options;
    fovea_routes *routes;
    fovea_tune_points points; /* by kernel */
    int *order;               /* the points as they are measured */
    int threads[2], thread_counts;
    int done, left, problems; /* points with each number of threads; arms that are wrong or fail */
    int foregone;             /* points that were not measured: the winners around them agree */
    int between;              /* of the points that are done: found by halving */
    int open_crossovers;      /* that were left when the time was up */
    double began, deadline, saved; /* when the time is up; when the file was last written */
    double stages[FOVEA_TUNE_STAGES];
    fovea_pace all; /* the sum of routes->paces */
    fovea_tune_proof *proofs;
    int proof_count, proof_capacity;
    bool full;                        /* no more routes fit */
    char device[FOVEA_ROUTES_DEVICE]; /* what is measured: "" for the processor */
} fovea_tuning;

/* ---- The plan (tune_plan.c) ----------------------------------------------------------------- */

/* The points that are to be measured, and their order. False if memory is short. */
bool fovea_tune_plan(fovea_tuning *t);
/* Seconds that a point should take beside its samples, by its size and by what the kernel's points took so far. */
double fovea_tune_foreseen(const fovea_tuning *t, int kernel, double bytes, double operations);
void fovea_tune_note_pace(fovea_tuning *t, int kernel, double bytes, double operations,
                          double seconds);
/* Of all points that are still wanted. */
double fovea_tune_foreseen_left(const fovea_tuning *t);
/* By kernel, before anything is measured. */
void fovea_tune_print_plan(const fovea_tuning *t);

/* The key of a case with one thread, and its size; false if no such tensors can be had. */
bool fovea_tune_case_key(const fovea_case *c, fovea_route_key *key, double *bytes,
                         double *operations);
/* The point that is next to another one in one size, above it or below; -1: none. threads: only such as
 * were measured with so many; 0: any. */
int fovea_tune_next_point(const fovea_tuning *t, int point, int size, bool above, int threads);

/* ---- One point (tune_measure.c) ------------------------------------------------------------- */

bool fovea_tune_time_is_up(const fovea_tuning *t);
/* With one number of threads, or with each that the point wants (threads 0), sampling each for at most so
 * long. False after an interrupt or when the time is up: then nothing of it is recorded. */
bool fovea_tune_measure(fovea_tuning *t, const fovea_case *c, uint32_t wanted, int threads,
                        double seconds);
/* Writes the file. */
bool fovea_tune_save(fovea_tuning *t);

/* ---- Crossovers (tune_crossovers.c) --------------------------------------------------------- */

/* Halves the way between neighbours with different winners, the dearest mistakes first. */
bool fovea_tune_crossovers(fovea_tuning *t);

#endif
