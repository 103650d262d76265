/* The table of references, one a domain, and running one into fresh memory. */
#include "reference/reference.h"

#include <stdlib.h>

#define FOVEA_DOMAIN(name) extern const fovea_reference fovea_references_##name[];
#include "catalogue/domains.h"
#undef FOVEA_DOMAIN

#define FOVEA_DOMAIN(name) fovea_references_##name,
static const fovea_reference *const domains[] = {
#include "catalogue/domains.h"
};
#undef FOVEA_DOMAIN

fovea_reference_function *fovea_reference_find(int kernel) {
    const char *name = fovea_catalogue_kernel(kernel)->name;
    for (size_t d = 0; d < sizeof domains / sizeof *domains; d++)
        for (const fovea_reference *row = domains[d]; row->kernel; row++)
            if (strcmp(row->kernel, name) == 0) return row->run;
    return NULL;
}

bool fovea_reference_run(const fovea_problem *problem, double *outputs[FOVEA_ARGUMENTS_MAX]) {
    bool enough = true;
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        outputs[a] = NULL;
        if (!problem->kernel->arguments[a].name || !fovea_given(problem, a)) continue;
        if (problem->kernel->arguments[a].role == FOVEA_INPUT) continue;
        size_t values = (size_t)fovea_view_values(&problem->views[a]);
        if (values <= SIZE_MAX / sizeof(double) - 1)
            outputs[a] = malloc((values + 1) * sizeof(double));
        enough &= outputs[a] != NULL;
    }
    if (enough && fovea_reference_find(problem->index)(problem, outputs)) return true;
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) free(outputs[a]), outputs[a] = NULL;
    return false;
}

int64_t fovea_reference_written(const fovea_problem *problem, int output, double *const outputs[]) {
    int64_t values = fovea_view_values(&problem->views[output]);
    if (!problem->kernel->written) return values;
    int64_t written = problem->kernel->written(output, outputs);
    return written < 0 || written > values ? values : written;
}

void fovea_reference_store(const fovea_problem *problem, int output, double *const outputs[]) {
    const fovea_view *view = &problem->views[output];
    int64_t written = fovea_reference_written(problem, output, outputs);
    bool bits = fovea_given_as_bits(problem, output);
    if (!bits && !problem->kernel->written) {
        fovea_view_write_all(view, outputs[output]);
        return;
    }
    for (int64_t i = 0; i < written; i++) {
        if (bits)
            fovea_write_bits(fovea_view_address(view, i), view->dtype,
                             fovea_bits(outputs[output])[i]);
        else
            fovea_view_write(view, i, outputs[output][i]);
    }
}
