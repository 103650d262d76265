/* The reference of attention a row at a time, so that large problems can be verified on samples. */
#ifndef FOVEA_REFERENCE_ATTENTION_H
#define FOVEA_REFERENCE_ATTENTION_H

#include "catalogue/attention.h"
#include "reference/reference.h"

/* s of a pair with all that changes it, -inf where the pair is masked; uncapped: scale q k^T. */
double fovea_reference_score(const fovea_attention_call *call, const fovea_sequence *sequence,
                             int64_t head, int64_t i, int64_t j, double *uncapped);
/* 1 / (1 - dropout) if the element of p is kept, else 0. */
double fovea_reference_dropout(const fovea_attention_call *call, const fovea_sequence *sequence,
                               int64_t head, int64_t i, int64_t j);

/* Row i of head h of a sequence. scores: key_count doubles of scratch, left holding s (masked:
 * -inf). out: value_size doubles. lse may be NULL. */
void fovea_reference_attention_row(const fovea_attention_call *call, const fovea_sequence *sequence,
                                   int64_t head, int64_t i, double *scores, double *out,
                                   double *lse);

/* Key and value j of a sequence and key head, with their scales if the cache is quantised. */
void fovea_reference_key(const fovea_attention_call *call, const fovea_sequence *sequence,
                         int64_t head, int64_t j, double *out);
void fovea_reference_value(const fovea_attention_call *call, const fovea_sequence *sequence,
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

/* ---- Backward (reference/attention_backward.c) -------------------------------------------------- */

fovea_reference_function fovea_reference_backward;

/* An element of a gradient, and what its bound is made of. */
typedef struct fovea_gradient {
    double value;
    double magnitude; /* the sum of the magnitudes of its terms */
    double textbook;  /* the value by textbook in the call's half dtype; as `value` for f32 */
} fovea_gradient;

/* The outputs of attention_backward as rows: of D or Dv columns, or single elements of dbias and
 * dsinks. Elements of row r are numbers r size, r size + 1, ... of the output in row-major order. */
int64_t fovea_gradient_row_size(const fovea_backward_call *backward, int output);
/* largest: grows to the largest |s|, |lse| or |scale| sqrt(sum (q k)^2) of the pairs visited. */
void fovea_reference_gradient_row(const fovea_backward_call *backward, int output, int64_t row,
                                  fovea_gradient *elements, double *largest);
/* The sequence, head and place in it of a row of dq, dk or dv. False: it belongs to no sequence. */
bool fovea_gradient_place(const fovea_backward_call *backward, int output, int64_t row,
                          fovea_sequence *sequence, int64_t *head, int64_t *place);

/* f32's part of the bound, and the whole; textbook: the largest error by textbook in this output. */
double fovea_gradient_bound_f32(const fovea_gradient *element, double largest);
double fovea_gradient_bound(const fovea_backward_call *backward, fovea_dtype dtype,
                            const fovea_gradient *element, double largest, double textbook);

#endif
