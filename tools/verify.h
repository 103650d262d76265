/* Verification: what a problem's outputs must be, computed once, and the comparison of one
 * implementation's or peer's outputs with that. `fovea check` and `fovea bench` share it.
 *
 *     fovea_verification *expected = fovea_verification_create(&sample.problem, 0, 1);
 *     ... run an implementation ...
 *     fovea_verify(expected, NULL, &verdict);
 *     if (!verdict.verified) puts(verdict.where);
 *     fovea_verification_destroy(expected);
 */
#ifndef FOVEA_TOOLS_VERIFY_H
#define FOVEA_TOOLS_VERIFY_H

#include "catalogue/bounds.h"
#include "quality.h"

typedef struct fovea_verification fovea_verification;

/* Runs the reference and the bounds of the row; the inputs must be in place, the outputs need not.
 * Nothing of the problem is kept, but for rows that are judged by a residual. rows: at most so many (batch, head, query) rows of an attention
 * problem, and as many of its gradients as cost the same, are compared, always among them those at the ends and beside tile edges, the others drawn
 * by the seed; 0: all. Other kernels are always compared in full. NULL if memory is short. */
fovea_verification *fovea_verification_create(const fovea_problem *problem, int64_t rows,
                                              uint64_t seed);
void fovea_verification_destroy(fovea_verification *verification);

/* How many elements of an output, in row-major order, are written; the others must be left alone. */
int64_t fovea_verification_written(const fovea_verification *verification, int argument);

typedef struct fovea_verdict {
    bool verified;                 /* all compared elements are within the catalogue's bound */
    bool verified_as_peer;         /* within the bound of peers (docs/rules.md) */
    double share;                  /* largest error / bound; INFINITY where no bound excuses it */
    double peer_share;             /* the same for the bound of peers */
    double error, bound;           /* absolute, at the element where share is largest */
    double peer_error, peer_bound; /* the same where peer_share is largest */
    double expected, actual;
    int output;              /* argument of that element */
    int64_t number;          /* row-major number of that element */
    int64_t compared, wrong; /* elements in all; those beyond the catalogue's bound */
    char where[192];         /* "out[0, 3, 17, 5] is 1.5, expected 1.25: 3.1 times the bound" */
    fovea_accuracy accuracy; /* of the first output of attention; count 0: not measured */
} fovea_verdict;

/* outputs: views by argument, of the problem's shapes and dtypes, any strides; NULL: those of the
 * problem itself. */
void fovea_verify(const fovea_verification *verification, const fovea_view *outputs,
                  fovea_verdict *verdict);
/* The same by the quality that approximate attention owes, which fovea_verify itself takes where the
 * problem asks for such an algorithm. Then error and bound are a relative L1 difference, 1 - cosine,
 * a row's sum of errors or an lse: whichever is nearest to its limit. */
void fovea_verify_quality(const fovea_verification *verification, const fovea_quality *quality,
                          const fovea_view *outputs, fovea_verdict *verdict);

/* The error of one element as a share of its bound; INFINITY where no error is excused. */
double fovea_error_share(fovea_dtype dtype, double expected, double actual, double bound,
                         bool may_be_nan);

#endif
