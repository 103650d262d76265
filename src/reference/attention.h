/* The reference of attention a row at a time, so that large problems can be verified on samples. */
#ifndef FOVEA_REFERENCE_ATTENTION_H
#define FOVEA_REFERENCE_ATTENTION_H

#include "catalogue/attention.h"

/* Row i of head h of a sequence. scores: key_count doubles of scratch, left holding s (masked:
 * -inf). out: value_size doubles. lse may be NULL. */
void fovea_reference_attention_row(const fovea_attention_call *call, const fovea_sequence *sequence,
                                   int64_t head, int64_t i, double *scores, double *out,
                                   double *lse);

/* Key j of a sequence and key head, with its scales if the cache is quantised. */
void fovea_reference_key(const fovea_attention_call *call, const fovea_sequence *sequence,
                         int64_t head, int64_t j, double *out);

/* Row-major number of the row (b, h, i) in lse; in out, numbers of rows follow the layout. */
int64_t fovea_attention_lse_number(const fovea_attention_call *call, const fovea_sequence *sequence,
                                   int64_t head, int64_t i);
int64_t fovea_attention_out_number(const fovea_attention_call *call, const fovea_sequence *sequence,
                                   int64_t head, int64_t i);

/* What the bound of that row is made of, from the scores that the function above left. */
typedef struct fovea_attention_error {
    double scale_of_f32; /* 4e-6 max|v| max(1, max|s|/8) over the keys that the row attends */
    double lse_factor;   /* max(1, max|s|/8) */
    double textbook; /* largest error of the row by textbook in the call's half dtype; 0 for f32 */
} fovea_attention_error;
fovea_attention_error fovea_reference_attention_error(const fovea_attention_call *call,
                                                      const fovea_sequence *sequence, int64_t head,
                                                      int64_t i, const double *scores,
                                                      const double *out);

/* Bounds are in terms of the largest |s| and the largest textbook error of all rows that are
 * compared: gives these to every row. */
void fovea_attention_join_errors(fovea_attention_error *errors, int64_t count);

/* The bounds of an element of `out` and of lse, from the row's joined error. */
double fovea_attention_out_bound(const fovea_attention_call *call, double expected,
                                 const fovea_attention_error *row);
double fovea_attention_lse_bound(double expected, const fovea_attention_error *row);

#endif
