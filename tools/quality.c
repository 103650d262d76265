/* Limits of approximate attention; quality.h says for what. */
#include "quality.h"

#include "reference/attention.h"

#include <math.h>

void fovea_tally_add(fovea_tally *tally, double expected, double actual) {
    double error = fabs(actual - expected);
    tally->count++;
    tally->error += error;
    tally->largest_error = fmax(tally->largest_error, error);
    tally->square_error += error * error;
    tally->magnitude += fabs(expected);
    tally->product += expected * actual;
    tally->expected_square += expected * expected;
    tally->actual_square += actual * actual;
}

fovea_accuracy fovea_tally_accuracy(const fovea_tally *t) {
    double norms = sqrt(t->expected_square) * sqrt(t->actual_square);
    double count = t->count > 0 ? (double)t->count : 1;
    bool both_zero = t->expected_square == 0 && t->actual_square == 0;
    return (fovea_accuracy){.count = t->count,
                            .maximum = t->largest_error,
                            .mean = t->error / count,
                            .cosine = norms > 0   ? fmin(t->product / norms, 1)
                                      : both_zero ? 1
                                                  : 0,
                            .relative_l1 = t->magnitude > 0 ? t->error / t->magnitude
                                           : t->error > 0   ? INFINITY
                                                            : 0,
                            .rmse = sqrt(t->square_error / count)};
}

static double element(const fovea_view *view, const char *row, int64_t d) {
    double x = fovea_read_element(
        row + d * view->stride[3] * (int64_t)fovea_dtype_size(view->dtype), view->dtype);
    return isfinite(x) ? x : 0;
}

fovea_head_spread fovea_measure_head(const fovea_attention_call *call,
                                     const fovea_sequence *sequence, int64_t key_head,
                                     double *scratch) {
    fovea_head_spread head = {0};
    int64_t keys = sequence->key_count, size = call->head_size;
    double *mean = scratch, *key = scratch + size;
    for (int64_t d = 0; d < size; d++) mean[d] = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t j = 0; j < keys; j++) {
            fovea_reference_key(call, sequence, key_head, j, key);
            for (int64_t d = 0; d < size; d++) {
                double x = isfinite(key[d]) ? key[d] : 0;
                if (pass == 0) {
                    mean[d] += x / (double)keys;
                    continue;
                }
                head.key_largest = fmax(head.key_largest, fabs(x - mean[d]));
                head.key_as_it_is = fmax(head.key_as_it_is, fabs(x));
                head.key_square += (x - mean[d]) * (x - mean[d]) / (double)keys;
            }
        }
    for (int64_t h = key_head * call->group; h < (key_head + 1) * call->group; h++)
        for (int64_t i = 0; i < sequence->query_count; i++) {
            const char *q = fovea_row(&call->q, sequence->batch, h, sequence->query_start + i);
            for (int64_t d = 0; d < size; d++)
                head.query_largest = fmax(head.query_largest, fabs(element(&call->q, q, d)));
        }
    return head;
}

/* Rounding to steps of size x leaves an error of standard deviation x / sqrt(12) in each element. */
static double noise(const fovea_attention_call *call, const fovea_head_spread *head,
                    double query_square, double key_largest) {
    double query_step = head->query_largest / 127, key_step = key_largest / 127;
    return fabs(call->scale) *
           sqrt((query_step * query_step * head->key_square + key_step * key_step * query_square) /
                12);
}

/* What keys far off 0 cost without smoothing is no excuse in `out`; lse is judged as it was asked for. */
void fovea_row_noise(const fovea_attention_call *call, const fovea_head_spread *head,
                     const fovea_sequence *sequence, int64_t query_head, int64_t i,
                     fovea_quality_row *row) {
    const char *q = fovea_row(&call->q, sequence->batch, query_head, sequence->query_start + i);
    double query_square = 0;
    for (int64_t d = 0; d < call->head_size; d++) {
        double x = element(&call->q, q, d);
        query_square += x * x;
    }
    bool smoothed = call->options->smooth_k;
    row->noise = noise(call, head, query_square, head->key_largest);
    row->lse_noise = smoothed ? row->noise : noise(call, head, query_square, head->key_as_it_is);
}

enum { VALUE_KEYS = 128 }; /* as sage groups them, from the first key of a sequence */

/* Into `step` the step of each column in keys [first, end), 0 where it has only zeros; scratch: a value. */
static void find_steps(const fovea_attention_call *call, const fovea_sequence *sequence,
                       int64_t key_head, int64_t first, int64_t end, double *value, double *step) {
    for (int64_t d = 0; d < call->value_size; d++) step[d] = 0;
    for (int64_t j = first; j < end; j++) {
        fovea_reference_value(call, sequence, key_head, j, value);
        for (int64_t d = 0; d < call->value_size; d++)
            if (isfinite(value[d])) step[d] = fmax(step[d], fabs(value[d]) / 127);
    }
}

/* An element is off by up to half a step, and by its twelfth squared in the mean; errors of several keys average, up to six
 * standard deviations of what is left. */
void fovea_value_noise(const fovea_attention_call *call, const fovea_sequence *sequence,
                       int64_t query_head, const double *scores, double logarithm, double *scratch,
                       fovea_quality_row *row) {
    int64_t columns = call->value_size, keys = sequence->key_count;
    double *value = scratch, *step = scratch + columns, *variance = scratch + 2 * columns;
    double kept = 1 / (1 - call->options->dropout), most = 0, mean = 0;
    row->value_error = row->value_square = 0;
    if (call->options->pv != FOVEA_ATTENTION_PV_I8 || logarithm == -INFINITY) return;
    for (int64_t d = 0; d < columns; d++) variance[d] = 0;
    for (int64_t first = 0; first < keys; first += VALUE_KEYS) {
        int64_t end = first + VALUE_KEYS < keys ? first + VALUE_KEYS : keys;
        double weight = 0, square = 0;
        for (int64_t j = first; j < end; j++) {
            double p = kept * exp(scores[j] - logarithm);
            if (isfinite(p)) weight += p, square += p * p;
        }
        if (weight == 0) continue;
        find_steps(call, sequence, query_head / call->group, first, end, value, step);
        for (int64_t d = 0; d < columns; d++) {
            most += weight * step[d] / 2;
            variance[d] += square * step[d] * step[d] / 12;
        }
    }
    for (int64_t d = 0; d < columns; d++)
        row->value_square += variance[d], mean += 0.8 * sqrt(variance[d]);
    row->value_error = fmin(most, mean + 6 * sqrt(row->value_square));
}

/* Normal inputs of 64 dimensions and more at scale 1/sqrt(D) have a noise of 0.013 to 0.018. */
double fovea_quality_factor(const fovea_quality_row *row) { return fmax(1, row->noise / 0.02); }

/* Twice the limit of the whole, against what values weighted so can add up to: a row may be small
 * because its values cancel. That is some ten times what rows of normal inputs show. */
double fovea_quality_row_error(double relative_l1, const fovea_quality_row *row,
                               const fovea_tally *tally) {
    double size = fmax(tally->magnitude, (double)tally->count * row->weight * row->value);
    return fovea_quality_whole(2 * relative_l1 * fovea_quality_factor(row) * size,
                               row->value_error);
}

double fovea_quality_whole(double plain, double modelled) {
    return fmax(plain, plain / 2 + modelled);
}

/* Rows of few keys do not average the errors of their scores; those of many keep their bias. */
double fovea_quality_lse(double limit, const fovea_quality_row *row, double expected) {
    double rounding = 6 * row->lse_noise * row->weight + row->lse_noise * row->lse_noise;
    return fmax(limit * fmax(1, fabs(expected)), rounding);
}
