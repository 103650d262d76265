/* Loading of libfovea_cuda. It is looked for beside the file that this code is in, by that file's
 * absolute name as the system knows it: neither the working directory nor any search path takes part,
 * so that nobody's file of the same name is run. */
#define _GNU_SOURCE
#include "cuda/load.h"

#include <pthread.h>
#include <stdio.h>

#if defined(__linux__)
    #include <dlfcn.h>
    #include <limits.h>
    #include <unistd.h>

/* Where the library lies from the directory of a program that this code is linked into. */
    #ifndef FOVEA_CUDA_FROM_PROGRAM
        #define FOVEA_CUDA_FROM_PROGRAM "../lib"
    #endif
#endif

static const fovea_cuda_backend *backend;
static fovea_message state;

static void refuse(const char *format, const char *what) __attribute__((format(printf, 1, 0)));
static void refuse(const char *format, const char *what) {
    backend = NULL;
    fovea_fail(&state, FOVEA_UNSUPPORTED, format, what);
}

#if defined(__linux__)

/* The directory of the file that an address of this code is mapped from. */
static bool own_directory(char *directory, size_t size) {
    char line[PATH_MAX + 128];
    uintptr_t here = (uintptr_t)&own_directory;
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "re");
    if (!maps) return false;
    while (!found && fgets(line, sizeof line, maps)) {
        unsigned long first, end;
        char *path = strchr(line, '/');
        if (!path || sscanf(line, "%lx-%lx", &first, &end) != 2 || here < first || here >= end)
            continue;
        char *slash = strrchr(path, '/');
        size_t length = (size_t)(slash - path) + 1;
        if (length >= size) break;
        memcpy(directory, path, length);
        directory[length] = 0;
        found = true;
    }
    fclose(maps);
    return found;
}

static void *load_from(const char *directory, const char *below, char *path, size_t size) {
    int length = snprintf(path, size, "%s%slibfovea_cuda.so", directory, below);
    if (length < 0 || (size_t)length >= size || access(path, R_OK) != 0) return NULL;
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static void load(void) {
    static const char *const places[] = {"", FOVEA_CUDA_FROM_PROGRAM "/"};
    char directory[PATH_MAX], path[PATH_MAX + 64];
    void *library = NULL, *entry = NULL;
    if (!dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL)) {
        refuse("there is no NVIDIA driver here (%s cannot be loaded)", "libcuda.so.1");
        return;
    }
    if (!own_directory(directory, sizeof directory)) {
        refuse("%s: the place of this library is unknown", "libfovea_cuda.so");
        return;
    }
    for (size_t i = 0; !library && i < sizeof places / sizeof *places; i++) {
        dlerror();
        library = load_from(directory, places[i], path, sizeof path);
        const char *error = library ? NULL : dlerror();
        if (error) {
            refuse("libfovea_cuda.so cannot be loaded: %.300s", error);
            return;
        }
    }
    if (!library) {
        refuse("there is no libfovea_cuda.so in %.400s", directory);
        return;
    }
    entry = dlsym(library, FOVEA_CUDA_ENTRY);
    if (entry) backend = ((fovea_cuda_entry *)entry)();
    if (!backend || backend->size != sizeof *backend || backend->layout != FOVEA_CUDA_LAYOUT ||
        strcmp(backend->version, fovea_version()) != 0)
        refuse("%.400s belongs to another version of this library", path);
    else
        fovea_fail(&state, FOVEA_OK, "%.400s is in use", path);
}

#else

static void load(void) { refuse("%s is served on Linux alone", "CUDA"); }

#endif

static void load_once(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
}

const fovea_cuda_backend *fovea_cuda_get(void) { return load_once(), backend; }

const char *fovea_cuda_state(void) { return load_once(), state.text; }
