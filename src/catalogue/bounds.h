/* What a result may differ from the reference: docs/rules.md, 10, and domain by domain. */
#ifndef FOVEA_CATALOGUE_BOUNDS_H
#define FOVEA_CATALOGUE_BOUNDS_H

#include "catalogue/problem.h"
#include "fovea/kernels.h"

fovea_bound_function fovea_bound_ulp;        /* factor ULP; halves 0.51 ULP of the output */
fovea_bound_function fovea_bound_correct;    /* correctly rounded: 0.5 ULP */
fovea_bound_function fovea_bound_activation; /* domain 3: 4 ULP or 2^-119 */
fovea_bound_function fovea_bound_gelu;
/* Domains 1, 19, 20: R(n) of sums of x, x/n, x^2, x y, and of the root of a sum of squares. */
fovea_bound_function fovea_bound_sum, fovea_bound_mean, fovea_bound_square_sum,
    fovea_bound_product_sum, fovea_bound_chosen_sum, fovea_bound_l2, fovea_bound_weighted_mean;
fovea_bound_function fovea_bound_variance, fovea_bound_deviation; /* C(n) */
fovea_bound_function fovea_bound_correlation, fovea_bound_covariance;
fovea_bound_function fovea_bound_covariance_matrix; /* also of the correlations made of it */
fovea_bound_function fovea_bound_sgd, fovea_bound_momentum, fovea_bound_adam; /* domain 8 */
fovea_bound_function fovea_bound_clip_norm;
fovea_bound_function fovea_bound_fft; /* domain 9 */
double fovea_norm_bound_fft(const fovea_problem *problem, int64_t row, const double *expected,
                            int64_t count);
fovea_bound_function fovea_bound_convolution, fovea_bound_window; /* domain 10 */
fovea_bound_function fovea_bound_transformed;
double fovea_norm_bound_transformed(const fovea_problem *problem, int64_t row,
                                    const double *expected, int64_t count);
fovea_bound_function fovea_bound_dot, fovea_bound_cosine;          /* domain 18 */
fovea_bound_function fovea_bound_softmax, fovea_bound_log_softmax; /* domain 4 */
fovea_bound_function fovea_bound_layer_norm, fovea_bound_rms_norm; /* domain 5 */
fovea_bound_function fovea_bound_prefix;                           /* domain 16 */
fovea_bound_function fovea_bound_quantile;                         /* domain 13 */
fovea_bound_function fovea_bound_attention;                        /* domain 6 */
fovea_bound_function fovea_bound_backward;
fovea_bound_function fovea_bound_merge;
fovea_bound_function fovea_bound_append;

/* What an approximate algorithm owes in place of a bound on each element: of `out` a cosine and a relative L1 difference of all
 * elements together, of lse a difference in units of max(1, |lse|). tools/quality.h has the rest. False: exact bounds hold. */
typedef struct fovea_quality {
    double cosine, relative_l1, lse;
} fovea_quality;
bool fovea_attention_quality(const fovea_attention_options *options, fovea_quality *quality);

/* Parameter checks that rows share. */
fovea_status fovea_check_step(const fovea_problem *problem, fovea_message *message);
fovea_status fovea_check_fft(const fovea_problem *problem, fovea_message *message);
fovea_status fovea_check_signal(const fovea_problem *problem, fovea_message *message);
fovea_status fovea_check_epsilon(const fovea_problem *problem, fovea_message *message);

#endif
