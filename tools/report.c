/* `fovea report`: hands over to the Python package in tools/report. */
#include "commands.h"
#include "python.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The working directory must not shadow modules, so the path's first entry becomes tools/. */
static const char launcher[] =
    "import runpy, sys\n"
    "sys.path[0] = sys.argv.pop(1)\n"
    "try:\n"
    "    runpy.run_module('report', run_name='__main__', alter_sys=True)\n"
    "except ModuleNotFoundError as error:\n"
    "    sys.exit(f'fovea report: {sys.executable} has no module «{error.name}»; '\n"
    "             'scripts/python-env installs what is needed')\n";

int fovea_command_report(int argc, char **argv) {
    fovea_python python;
    if (!fovea_python_find(&python, "fovea report")) return 1;
    if (strlen(python.parts) + sizeof "/tools" > sizeof python.parts) return 1;
    strcat(python.parts, "/tools");
    char **arguments = calloc((size_t)argc + 4, sizeof *arguments);
    if (!arguments) return fprintf(stderr, "fovea report: no memory\n"), 1;
    arguments[0] = python.interpreter;
    arguments[1] = (char *)"-c";
    arguments[2] = (char *)launcher;
    arguments[3] = python.parts;
    for (int i = 1; i < argc; i++) arguments[3 + i] = argv[i];
    execv(python.interpreter, arguments);
    fprintf(stderr, "fovea report: %s cannot be run: %s\n", python.interpreter, strerror(errno));
    free(arguments);
    return 1;
}
