/* The parts of the command that are written in Python: where they are, and with what they run. */
#ifndef FOVEA_TOOLS_PYTHON_H
#define FOVEA_TOOLS_PYTHON_H

#include <limits.h>
#include <stdbool.h>

typedef struct fovea_python {
    char interpreter[PATH_MAX]; /* $FOVEA_PYTHON, build/venv/bin/python, or python3 of the path */
    char parts[PATH_MAX];       /* directory with tools/report and bench/peers */
} fovea_python;

/* Finds both: beside the command where it is installed, else in the source tree that it was built
 * from. False with a sentence on standard error that begins with `command` if one is missing. */
bool fovea_python_find(fovea_python *python, const char *command);

#endif
