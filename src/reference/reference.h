/* The meaning of every kernel in double precision: plain loops, written to be read. */
#ifndef FOVEA_REFERENCE_REFERENCE_H
#define FOVEA_REFERENCE_REFERENCE_H

#include "catalogue/problem.h"

/* outputs[a]: dense row-major doubles for output argument a, or bits where the row says so, NULL if it
 * is not given. In-place
 * arguments are read from the problem's views and their new values written to outputs. False if
 * memory is short. */
typedef bool fovea_reference_function(const fovea_problem *problem, double *const outputs[]);

typedef struct fovea_reference {
    const char *kernel;
    fovea_reference_function *run;
} fovea_reference;

/* References of a domain that stand in a file of their own. */
fovea_reference_function fovea_reference_append;

/* The reference of a kernel by its index in the catalogue; never NULL for a row with a reference.
 */
fovea_reference_function *fovea_reference_find(int kernel);

/* Allocates the outputs, runs the reference, and gives them to the caller, who frees each with
 * free(). False if memory is short (nothing is left allocated). */
bool fovea_reference_run(const fovea_problem *problem, double *outputs[FOVEA_ARGUMENTS_MAX]);

/* How many elements of an output are written, and their way into the problem's tensor. */
int64_t fovea_reference_written(const fovea_problem *problem, int output, double *const outputs[]);
void fovea_reference_store(const fovea_problem *problem, int output, double *const outputs[]);

/* Outputs that are given as bits. */
static inline uint64_t *fovea_bits(double *values) { return (uint64_t *)(void *)values; }
static inline uint64_t fovea_view_read_bits(const fovea_view *view, int64_t number) {
    return fovea_read_bits(fovea_view_address(view, number), view->dtype);
}

#endif
