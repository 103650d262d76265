/* `fovea check` as a function: every implementation on every case against the reference. */
#ifndef FOVEA_TOOLS_CHECK_H
#define FOVEA_TOOLS_CHECK_H

#include "check_case.h"

#include <stdio.h>

typedef struct fovea_check_options {
    const char *kernel, *implementation; /* NULL: all */
    const char *text;                    /* one case of the kernel; NULL: all */
    bool cuda;                           /* the implementations for CUDA devices, and no others */
    int device;                          /* its number */
    fovea_effort effort;
    int64_t largest; /* cases with a larger extent are left out; 0: none */
    uint64_t seed;
    int jobs;         /* processes at a time; 0: as many as processors are allowed */
    unsigned seconds; /* after which a trial is ended; 0: 60 */
    bool verbose;     /* every failure, and why calls were declined */
    bool progress;    /* a line about it on stderr */
    FILE *stream;     /* where the report goes; NULL: nowhere */
} fovea_check_options;

/* What became of one implementation of a kernel. */
typedef struct fovea_check_line {
    int kernel;
    const char *implementation;
    bool runs;  /* the machine has its tier, and the backend was asked for */
    bool other; /* of a backend that was not asked for */
    int64_t passed, failed, declined, skipped;
    double share;       /* worst error as a share of its bound */
    char worst[640];    /* the case of that error */
    char failure[1024]; /* the first failure: what is wrong */
} fovea_check_line;

typedef struct fovea_check_report {
    fovea_check_line *lines;
    int count;
    int64_t passed, failed;
} fovea_check_report;

/* Runs in child processes; call it before the calling process has threads (a parallel region of
 * OpenMP makes some). Not FOVEA_OK: nothing was checked, and the message tells why. */
fovea_status fovea_check_run(const fovea_check_options *options, fovea_check_report *report,
                             fovea_message *message);
void fovea_check_report_destroy(fovea_check_report *report);

/* Prints the cases. */
fovea_status fovea_check_list(const fovea_check_options *options, fovea_message *message);

#endif
