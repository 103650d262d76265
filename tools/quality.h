/* How well an approximate attention must do (catalogue/bounds.h): as a whole, by cosine and relative L1, and in each row, so
 * that one that is wrong does not drown among thousands. What rounding q and k to 8 bits does to a score is worked out from
 * the inputs; where it is more than normal inputs at the usual scale bring, the limits widen with it. */
#ifndef FOVEA_TOOLS_QUALITY_H
#define FOVEA_TOOLS_QUALITY_H

#include "catalogue/attention.h"

/* Differences of finite elements from the reference. */
typedef struct fovea_accuracy {
    int64_t count;
    double maximum, mean, cosine, relative_l1, rmse;
} fovea_accuracy;

typedef struct fovea_tally {
    int64_t count;
    double error, largest_error, square_error, magnitude, product, expected_square, actual_square;
} fovea_tally;
void fovea_tally_add(fovea_tally *tally, double expected, double actual);
fovea_accuracy fovea_tally_accuracy(const fovea_tally *tally);

/* The inputs of one sequence and key head. */
typedef struct fovea_head_spread {
    double query_largest, key_largest, key_square; /* k without its mean; mean |k|^2 of a key */
    double key_as_it_is;                           /* the largest |k| */
} fovea_head_spread;
/* scratch: 2 head_size doubles. Elements that are not finite are left out. */
fovea_head_spread fovea_measure_head(const fovea_attention_call *call,
                                     const fovea_sequence *sequence, int64_t key_head,
                                     double *scratch);

/* What is known of a row before any output is. */
typedef struct fovea_quality_row {
    double noise;        /* standard deviation of a score after rounding, natural units */
    double lse_noise;    /* the same of keys that are smoothed only if the call says so */
    double weight;       /* sqrt of the sum of p^2 */
    double value;        /* largest |v| that it attends */
    double value_error;  /* sum of errors of the row where v is rounded to 8 bits; else 0 */
    double value_square; /* sum over its columns of the variances of those */
    bool empty;          /* it attends nothing: out is 0 exactly */
} fovea_quality_row;
void fovea_row_noise(const fovea_attention_call *call, const fovea_head_spread *head,
                     const fovea_sequence *sequence, int64_t query_head, int64_t i,
                     fovea_quality_row *row);

/* What rounding v to 8 bits does to a row of scores and lse `logarithm`, where the call asks for it: values share a step in
 * each column of VALUE_KEYS keys, absmax / 127, so that small ones beside large ones lose more than their size would say.
 * scratch: 3 value_size doubles. */
void fovea_value_noise(const fovea_attention_call *call, const fovea_sequence *sequence,
                       int64_t query_head, const double *scores, double logarithm, double *scratch,
                       fovea_quality_row *row);

/* Largest allowed (of the whole: factor is the largest of its rows). */
double fovea_quality_factor(const fovea_quality_row *row);
double fovea_quality_row_error(double relative_l1, const fovea_quality_row *row,
                               const fovea_tally *tally); /* of the sum of errors of the row */
/* Of the whole: `plain` by the factor, and `modelled` what v's steps come to, which has a place in `plain` up to its half. */
double fovea_quality_whole(double plain, double modelled);
double fovea_quality_lse(double limit, const fovea_quality_row *row, double expected);

#endif
