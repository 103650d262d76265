/* `fovea check --exhaustive`: functions of one f32 at all 2^32 inputs and of one half at all 65536, by
 * every implementation, beside the reference. */
#ifndef FOVEA_TOOLS_EXHAUSTIVE_H
#define FOVEA_TOOLS_EXHAUSTIVE_H

#include "runtime/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct fovea_exhaustive_options {
    const char *kernel, *implementation; /* NULL: all */
    int64_t every;        /* of f32 one run of 16384 neighbours in so many; 1: all of them */
    int64_t scalar_every; /* of these, by the scalar tier, one in so many */
    int jobs;             /* threads; 0: as many as processors are allowed */
    bool progress;        /* a line about it on stderr */
    FILE *stream;
    const char *table; /* the file that a table in Markdown is written to; NULL: none */
    const char *json;  /* the same for `fovea report` */
} fovea_exhaustive_options;

/* *wrong: results beyond their bound. */
fovea_status fovea_exhaustive_run(const fovea_exhaustive_options *options, int64_t *wrong,
                                  fovea_message *message);

#endif
