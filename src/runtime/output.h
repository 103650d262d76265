/* A file that is written whole: it takes the place of the one of its name in one step, when all of it
 * is on the disk, or that one stays as it was. */
#ifndef FOVEA_RUNTIME_OUTPUT_H
#define FOVEA_RUNTIME_OUTPUT_H

#include "runtime/status.h"

#include <limits.h>
#include <stdio.h>

/* It stays where it was opened: its stream knows it. */
typedef struct fovea_output {
    FILE *stream;
    int file, error;  /* the first errno of writing, which a stream forgets */
    const char *path; /* the caller's */
    char temporary[PATH_MAX];
} fovea_output;

/* A path that is taken by something else than a regular file is refused. */
fovea_status fovea_output_open(const char *path, fovea_output *output, fovea_message *message);
/* error: an errno of the caller's, with which the old file stays; 0 if there was none. What the system said
 * to writing goes before it. */
fovea_status fovea_output_close(fovea_output *output, int error, fovea_message *message);

/* Whether the path can be written now, for those who will only know in an hour what to write. */
fovea_status fovea_output_check(const char *path, fovea_message *message);

#endif
