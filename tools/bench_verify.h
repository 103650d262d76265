/* Verification before timing: what the outputs of a case must be, and how far off they may be. */
#ifndef FOVEA_TOOLS_BENCH_VERIFY_H
#define FOVEA_TOOLS_BENCH_VERIFY_H

#include "catalogue/case.h"

/* The elements of one output that are compared. */
typedef struct fovea_expected_output {
    int argument;
    int64_t count;
    int64_t *elements; /* their row-major numbers; NULL: all of them, in order */
    double *values, *bounds;
} fovea_expected_output;

typedef struct fovea_expectation {
    fovea_expected_output outputs[FOVEA_ARGUMENTS_MAX];
    int output_count;
} fovea_expectation;

typedef struct fovea_verdict {
    bool right;
    bool within_catalogue; /* within the bound of our own implementations */
    double error, bound;   /* where the error is the largest share of the bound that applies */
    char reason[240];      /* if wrong: what and where */
} fovea_verdict;

/* Runs the reference: in full, or for attention on 64 sampled rows where there are more. */
fovea_status fovea_expectation_create(const fovea_sample *sample, fovea_expectation *expectation,
                                      fovea_message *message);
void fovea_expectation_destroy(fovea_expectation *expectation);

/* Compares what stands in the sample's outputs. Peers have a wider bound: 64 times the catalogue's
 * (4 times for outputs in halves, so that bf16 is not taken for f16), or 1e-5 max(|y|, 1e-2). Beside
 * the compared elements every element must have been written, and be finite where the reference's are
 * all finite. The sample was poisoned before the call. */
fovea_verdict fovea_expectation_compare(const fovea_expectation *expectation,
                                        const fovea_sample *sample, bool peer);

#endif
