/* Finds the interpreter and the Python parts of the command. */
#include "python.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool join(char path[PATH_MAX], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool join(char path[PATH_MAX], const char *format, ...) {
    va_list values;
    va_start(values, format);
    int length = vsnprintf(path, PATH_MAX, format, values);
    va_end(values);
    return length > 0 && length < PATH_MAX;
}

static bool holds_parts(const char *directory) {
    char path[PATH_MAX];
    return join(path, "%s/bench/peers", directory) && access(path, R_OK | X_OK) == 0;
}

static bool find_parts(char parts[PATH_MAX]) {
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length > 0) {
        self[length] = 0;
        for (int up = 0; up < 2; up++) { /* PREFIX/bin/fovea -> PREFIX */
            char *slash = strrchr(self, '/');
            if (slash) *slash = 0;
        }
        if (join(parts, "%s/share/fovea", self) && holds_parts(parts)) return true;
    }
    return join(parts, "%s", FOVEA_SOURCE_DIR) && holds_parts(parts);
}

/* A name without a slash is looked for in the path. */
static bool find_program(const char *name, char found[PATH_MAX]) {
    if (strchr(name, '/')) return join(found, "%s", name) && access(found, X_OK) == 0;
    const char *path = getenv("PATH");
    while (path && *path) {
        int length = (int)strcspn(path, ":");
        if (join(found, "%.*s/%s", length, path, name) && access(found, X_OK) == 0) return true;
        path += length + (path[length] == ':');
    }
    return false;
}

bool fovea_python_find(fovea_python *python, const char *command) {
    if (!find_parts(python->parts)) {
        fprintf(stderr,
                "%s: its Python part is neither in share/fovea beside the command nor in %s\n",
                command, FOVEA_SOURCE_DIR);
        return false;
    }
    const char *asked = getenv("FOVEA_PYTHON");
    if (asked && *asked) {
        if (find_program(asked, python->interpreter)) return true;
        fprintf(stderr, "%s: FOVEA_PYTHON is «%s», which is no program that can be run\n", command,
                asked);
        return false;
    }
    char environment[PATH_MAX];
    if (join(environment, "%s/build/venv/bin/python", FOVEA_SOURCE_DIR) &&
        find_program(environment, python->interpreter))
        return true;
    if (find_program("python3", python->interpreter)) return true;
    fprintf(stderr, "%s: there is no python3 on the path; scripts/install-packages installs it\n",
            command);
    return false;
}
