/* One case of `fovea check` in memory with guard pages, and one implementation run on it in a
 * process of its own. */
#ifndef FOVEA_TOOLS_CHECK_TRIAL_H
#define FOVEA_TOOLS_CHECK_TRIAL_H

#include "catalogue/implementation.h"
#include "check_case.h"
#include "verify.h"

/* Memory between two pages that must not be touched. The bytes end at the second, or begin at the
 * end of the first; the rest of their pages holds a pattern. */
typedef struct fovea_guarded {
    char *map;
    size_t map_bytes;
    char *data;
    size_t bytes;
} fovea_guarded;

enum { FOVEA_AT_END, FOVEA_AT_START, FOVEA_SIDES };

typedef struct fovea_trial {
    const fovea_check_case *check;
    fovea_sample sample;
    /* The problem with its tensors at the end and at the start of their pages. */
    fovea_problem problems[FOVEA_SIDES];
    fovea_guarded memory[FOVEA_SIDES][FOVEA_ARGUMENTS_MAX];
    char *original[FOVEA_ARGUMENTS_MAX];   /* bytes of inputs before any run */
    uint8_t *element[FOVEA_ARGUMENTS_MAX]; /* 1 for bytes that belong to an element */
    uint32_t written;                      /* bit a: argument a may be written */
    fovea_verification *expected;
} fovea_trial;

typedef enum fovea_outcome {
    FOVEA_PASSED,
    FOVEA_FAILED,
    FOVEA_DECLINED,
    FOVEA_SKIPPED
} fovea_outcome;

typedef struct fovea_trial_result {
    fovea_outcome outcome;
    bool ended;     /* the process died or had to be ended */
    double share;   /* worst error as a share of its bound; of passed trials */
    char text[320]; /* what is wrong, why it declines, or where the worst error is */
} fovea_trial_result;

/* Builds the case and computes what is expected. */
fovea_status fovea_trial_create(const fovea_check_case *check, fovea_trial *trial,
                                fovea_message *message);
void fovea_trial_destroy(fovea_trial *trial);

/* Three runs with different threads, places of the tensors and poisons, all in a child process that
 * is ended after so many seconds. Must be called from a process without other threads. */
void fovea_trial_run(fovea_trial *trial, const fovea_implementation *implementation,
                     unsigned seconds, fovea_trial_result *result);

/* The same in this process, which a crash or the alarm ends: for implementations on a device, whose
 * state a fork does not carry over. The last of the runs is captured in a graph and replayed. */
void fovea_trial_run_here(fovea_trial *trial, const fovea_implementation *implementation,
                          unsigned seconds, fovea_trial_result *result);

#endif
