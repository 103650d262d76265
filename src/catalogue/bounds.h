/* What a result may differ from the reference: the rules of CATALOGUE.md, domain by domain. */
#ifndef FOVEA_CATALOGUE_BOUNDS_H
#define FOVEA_CATALOGUE_BOUNDS_H

#include "catalogue/problem.h"

fovea_bound_function fovea_bound_ulp;        /* factor ULP; halves 0.51 ULP of the output */
fovea_bound_function fovea_bound_correct;    /* correctly rounded: 0.5 ULP */
fovea_bound_function fovea_bound_activation; /* domain 3: 4 ULP or 2^-119 */
fovea_bound_function fovea_bound_gelu;
/* Domains 1, 19, 20: R(n) of sums of x, x/n, x^2, x y, and of the root of a sum of squares. */
fovea_bound_function fovea_bound_sum, fovea_bound_mean, fovea_bound_square_sum,
    fovea_bound_product_sum, fovea_bound_chosen_sum, fovea_bound_l2, fovea_bound_weighted_mean;
fovea_bound_function fovea_bound_variance, fovea_bound_deviation; /* C(n) */
fovea_bound_function fovea_bound_correlation, fovea_bound_covariance;
fovea_bound_function fovea_bound_dot, fovea_bound_cosine; /* domain 18 */
fovea_bound_function fovea_bound_softmax;                 /* domain 4 */
fovea_bound_function fovea_bound_layer_norm;              /* domain 5 */
fovea_bound_function fovea_bound_attention;               /* ATTENTION.md */
fovea_bound_function fovea_bound_merge;

/* Parameter checks that rows share. */
fovea_status fovea_check_epsilon(const fovea_problem *problem, fovea_message *message);

#endif
