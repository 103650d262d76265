/* What the kernels that move, compact, sort and count have in common besides their rows: the order of
 * elements, and the checks, cases and comparisons that the rows name. */
#ifndef FOVEA_CATALOGUE_ORDER_H
#define FOVEA_CATALOGUE_ORDER_H

#include "catalogue/case.h"

/* Keys that compare as the elements with these bits do, without a sign. All NaN have the largest. */
uint64_t fovea_order_key(uint64_t bits, fovea_dtype dtype);

/* The elements of a slice of x as numbers in ascending order; free() it. *nan: there is one. NULL if
 * memory is short. */
long double *fovea_sorted_slice(const fovea_view *x, const fovea_slice *slice, bool *nan);

/* The order statistics around percentile q of n sorted elements, and the fraction between them. */
typedef struct fovea_quantile {
    int64_t below, above;
    double fraction;
} fovea_quantile;
fovea_quantile fovea_quantile_place(int64_t n, double q);

/* The edges of a histogram: in f64, rounded to the dtype; lo and hi are finite. */
double fovea_histogram_edge(fovea_dtype dtype, double lo, double hi, int64_t bins, int64_t i);

/* Named by rows. */
fovea_status fovea_check_repack(const fovea_problem *problem, fovea_message *message);
fovea_status fovea_check_topk(const fovea_problem *problem, fovea_message *message);
fovea_status fovea_check_payload(const fovea_problem *problem, fovea_message *message);
fovea_status fovea_check_percentiles(const fovea_problem *problem, fovea_message *message);
fovea_status fovea_check_histogram(const fovea_problem *problem, fovea_message *message);
void fovea_repack_defaults(fovea_case *c);
void fovea_topk_defaults(fovea_case *c);
void fovea_payload_defaults(fovea_case *c);
void fovea_histogram_defaults(fovea_case *c);
void fovea_fill_percentiles(const fovea_case *c, int argument, const fovea_view *view);
double fovea_bitonic_operations(const fovea_problem *problem);
int64_t fovea_written_if(int output, double *const outputs[]);
int64_t fovea_written_by_mask(int output, double *const outputs[]);
void fovea_canonical_sort(const fovea_view *const views[], double *const values[]);
void fovea_canonical_stable(const fovea_view *const views[], double *const values[]);
void fovea_canonical_pairs(const fovea_view *const views[], double *const values[]);

#endif
