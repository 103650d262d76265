/* The registry: the tables of the backends, gathered once. */
#include "router/registry.h"

#include "cpu/tables.h"
#include "cuda/load.h"
#include "reference/reference.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static const fovea_implementation *table[FOVEA_KERNELS_MAX][FOVEA_IMPLEMENTATIONS_MAX];
static int counts[FOVEA_KERNELS_MAX];
static fovea_implementation references[FOVEA_KERNELS_MAX];

static bool add(const fovea_implementation *implementation) {
    int kernel = fovea_catalogue_find(implementation->kernel);
    if (kernel < 0 || counts[kernel] == FOVEA_IMPLEMENTATIONS_MAX) return false;
    table[kernel][counts[kernel]++] = implementation;
    return true;
}

static fovea_status run_reference(const fovea_problem *problem, fovea_run *run) {
    double *outputs[FOVEA_ARGUMENTS_MAX];
    run->threads = 1;
    if (!fovea_reference_run(problem, outputs)) return FOVEA_OUT_OF_MEMORY;
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++)
        if (outputs[a]) fovea_reference_store(problem, a, outputs);
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) free(outputs[a]);
    return FOVEA_OK;
}

static void gather(void) {
    static const fovea_implementation *const no_tables[] = {NULL};
    const fovea_implementation *const *backend = fovea_cpu_tables;
    for (; *backend; backend++)
        for (const fovea_implementation *row = *backend; row->kernel; row++) add(row);
    const fovea_cuda_backend *cuda = fovea_cuda_get();
    for (backend = cuda ? cuda->tables : no_tables; *backend; backend++)
        for (const fovea_implementation *row = *backend; row->kernel; row++) add(row);
    for (int k = 0; k < fovea_catalogue_count(); k++) {
        references[k] = (fovea_implementation){.kernel = fovea_catalogue_kernel(k)->name,
                                               .name = "reference/scalar/double",
                                               .dtypes = UINT32_MAX,
                                               .tier = FOVEA_TIER_SCALAR,
                                               .only_by_name = true,
                                               .run = run_reference};
        if (fovea_reference_find(k)) add(&references[k]);
    }
}

static void prepare(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, gather);
}

int fovea_implementation_count(int kernel) { return prepare(), counts[kernel]; }

const fovea_implementation *fovea_implementation_at(int kernel, int number) {
    prepare();
    return number >= 0 && number < counts[kernel] ? table[kernel][number] : NULL;
}

const fovea_implementation *fovea_implementation_find(int kernel, const char *name) {
    prepare();
    for (int i = 0; i < counts[kernel]; i++)
        if (strcmp(table[kernel][i]->name, name) == 0) return table[kernel][i];
    return NULL;
}

bool fovea_implementation_register(const fovea_implementation *implementation) {
    prepare();
    return add(implementation);
}

bool fovea_implementation_serves(const fovea_implementation *implementation,
                                 const fovea_problem *problem, char *reason, size_t size) {
    char place[32];
    bool cuda = fovea_implementation_is_cuda(implementation);
    if (cuda != (problem->device.device_type == kDLCUDA)) {
        snprintf(reason, size, "it takes tensors on %s, these are on %s",
                 cuda ? "a CUDA device" : "the CPU",
                 fovea_device_text(problem->device, place, sizeof place));
        return false;
    }
    if (!cuda && !fovea_has_tier(implementation->tier)) {
        snprintf(reason, size, "this machine does not have %s (or FOVEA_TIER caps it)",
                 fovea_tier_name(implementation->tier));
        return false;
    }
    if (!(implementation->dtypes >> problem->dtype & 1)) {
        snprintf(reason, size, "it does not serve %s", fovea_dtype_name(problem->dtype));
        return false;
    }
    return !implementation->serves || implementation->serves(problem, reason, size);
}
