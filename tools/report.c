/* `fovea report`: hands over to the Python program in tools/report. */
#include "commands.h"
#include "python.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int fovea_command_report(int argc, char **argv) {
    fovea_python python;
    if (!fovea_python_find(&python, "fovea report")) return 1;
    char program[sizeof python.parts + sizeof "/tools/report"];
    snprintf(program, sizeof program, "%s/tools/report", python.parts);
    char **arguments = calloc((size_t)argc + 2, sizeof *arguments);
    if (!arguments) return fprintf(stderr, "fovea report: no memory\n"), 1;
    arguments[0] = python.interpreter;
    arguments[1] = program;
    for (int i = 1; i < argc; i++) arguments[1 + i] = argv[i];
    execv(python.interpreter, arguments);
    fprintf(stderr, "fovea report: %s cannot be run: %s\n", python.interpreter, strerror(errno));
    free(arguments);
    return 1;
}
