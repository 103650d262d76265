/* Domain 6, attention, in double: scores of a row with everything that changes them, softmax, the
 * weighted sum of values. The manual of `attention` is its specification. The bound of the halves
 * is here too, because it is twice the error of a textbook computation on the same scores. */
#include "reference/attention.h"

#include "catalogue/bounds.h"
#include "catalogue/case.h"
#include "reference/reference.h"

#include <math.h>
#include <stdlib.h>

static double element(const fovea_view *view, const char *row, int64_t d) {
    return fovea_read_element(row + d * view->stride[3] * (int64_t)fovea_dtype_size(view->dtype),
                              view->dtype);
}

/* The element of a mask or bias that belongs to (b, h, i, j). */
static double broadcast_element(const fovea_view *view, int64_t b, int64_t h, int64_t i,
                                int64_t j) {
    return element(view, fovea_row(view, b, h, i), j);
}

static double head_value(const fovea_view *view, int64_t head) {
    return fovea_read_element(view->data + head * view->stride[0] * 4, FOVEA_F32);
}

/* A row of k or v with its scales: what its elements stand for. */
typedef struct stored_row {
    const fovea_view *view, *scale;
    const char *data, *scales; /* scales NULL: all are 1 */
    int64_t group;
} stored_row;

static stored_row find_row(const fovea_attention_call *call, int argument,
                           const fovea_sequence *sequence, int64_t head, int64_t j) {
    bool key = argument == FOVEA_ATTENTION_K;
    stored_row row = {.view = key ? &call->k : &call->v,
                      .scale = key ? &call->k_scale : &call->v_scale,
                      .group = key ? call->k_group : call->v_group};
    row.data = fovea_key_row(call, row.view, sequence, head, j);
    if (row.scale->data) row.scales = fovea_key_row(call, row.scale, sequence, head, j);
    return row;
}

static double stored_element(const stored_row *row, int64_t d) {
    double value = element(row->view, row->data, d);
    return row->scales ? value * element(row->scale, row->scales, d / row->group) : value;
}

void fovea_reference_key(const fovea_attention_call *call, const fovea_sequence *sequence,
                         int64_t head, int64_t j, double *out) {
    stored_row row = find_row(call, FOVEA_ATTENTION_K, sequence, head, j);
    for (int64_t d = 0; d < call->head_size; d++) out[d] = stored_element(&row, d);
}

void fovea_reference_value(const fovea_attention_call *call, const fovea_sequence *sequence,
                           int64_t head, int64_t j, double *out) {
    stored_row row = find_row(call, FOVEA_ATTENTION_V, sequence, head, j);
    for (int64_t d = 0; d < call->value_size; d++) out[d] = stored_element(&row, d);
}

/* scale q k^T */
static double product(const fovea_attention_call *call, const char *q, const stored_row *k) {
    double sum = 0;
    for (int64_t d = 0; d < call->head_size; d++)
        sum += element(&call->q, q, d) * stored_element(k, d);
    return call->scale * sum;
}

double fovea_reference_score(const fovea_attention_call *call, const fovea_sequence *sequence,
                             int64_t head, int64_t i, int64_t j, double *uncapped) {
    int64_t first, end, batch = sequence->batch;
    fovea_attended_keys(call, sequence, i, &first, &end);
    *uncapped = 0;
    if (j < first || j >= end) return -INFINITY;
    if (call->has_mask && broadcast_element(&call->mask, batch, head, i, j) == 0) return -INFINITY;
    const char *q = fovea_row(&call->q, batch, head, sequence->query_start + i);
    stored_row k = find_row(call, FOVEA_ATTENTION_K, sequence, head / call->group, j);
    double s = product(call, q, &k);
    *uncapped = s;
    if (isfinite(call->softcap)) s = call->softcap * tanh(s / call->softcap);
    if (call->has_bias) s += broadcast_element(&call->bias, batch, head, i, j);
    if (call->has_slopes)
        s +=
            head_value(&call->slopes, head) * (double)(j - fovea_query_position(call, sequence, i));
    return s;
}

static void score_row(const fovea_attention_call *call, const fovea_sequence *sequence,
                      int64_t head, int64_t i, double *scores) {
    double uncapped;
    for (int64_t j = 0; j < sequence->key_count; j++)
        scores[j] = fovea_reference_score(call, sequence, head, i, j, &uncapped);
}

double fovea_reference_dropout(const fovea_attention_call *call, const fovea_sequence *sequence,
                               int64_t head, int64_t i, int64_t j) {
    const fovea_attention_options *options = call->options;
    if (options->dropout == 0) return 1;
    const uint32_t key[2] = {(uint32_t)options->seed, (uint32_t)((uint64_t)options->seed >> 32)};
    const uint32_t counter[4] = {(uint32_t)(j / 4), (uint32_t)i,
                                 (uint32_t)(sequence->batch * call->query_heads + head),
                                 (uint32_t)options->dropout_offset};
    uint32_t words[4];
    fovea_philox(counter, key, words);
    double keep = 1 - options->dropout;
    return (words[j % 4] >> 8) * 0x1p-24 < (double)(float)keep ? 1 / keep : 0;
}

void fovea_reference_attention_row(const fovea_attention_call *call, const fovea_sequence *sequence,
                                   int64_t head, int64_t i, double *scores, double *out,
                                   double *lse) {
    double sink = call->has_sinks ? head_value(&call->sinks, head) : -INFINITY;
    double maximum = sink, sum = 0;
    score_row(call, sequence, head, i, scores);
    for (int64_t j = 0; j < sequence->key_count; j++)
        if (isnan(scores[j]) || scores[j] > maximum) maximum = scores[j];
    for (int64_t d = 0; d < call->value_size; d++) out[d] = 0;
    if (maximum == -INFINITY) {
        if (lse) *lse = -INFINITY;
        return;
    }
    sum = exp(sink - maximum);
    for (int64_t j = 0; j < sequence->key_count; j++) {
        if (scores[j] == -INFINITY) continue;
        double p = exp(scores[j] - maximum);
        stored_row v = find_row(call, FOVEA_ATTENTION_V, sequence, head / call->group, j);
        double weight = p * fovea_reference_dropout(call, sequence, head, i, j);
        for (int64_t d = 0; d < call->value_size; d++) out[d] += weight * stored_element(&v, d);
        sum += p;
    }
    for (int64_t d = 0; d < call->value_size; d++) out[d] /= sum;
    if (lse) *lse = maximum + log(sum);
}

/* ---- Bounds --------------------------------------------------------------------------------- */

/* Textbook in a half dtype with f32 softmax: scores, p (dropped out) and out are rounded to the
 * dtype. Returns the largest difference from the exact row. */
static double textbook_error(const fovea_attention_call *call, const fovea_sequence *sequence,
                             int64_t head, int64_t i, const double *scores, const double *out) {
    fovea_dtype dtype = call->q.dtype;
    double maximum = -INFINITY, sum = 0, worst = 0;
    double *rounded = calloc((size_t)call->value_size + 1, sizeof *rounded);
    if (!rounded) return 0;
    for (int64_t j = 0; j < sequence->key_count; j++)
        maximum = fmax(maximum, fovea_round_to(dtype, scores[j]));
    if (call->has_sinks) maximum = fmax(maximum, head_value(&call->sinks, head));
    if (call->has_sinks) sum = exp(head_value(&call->sinks, head) - maximum);
    for (int64_t j = 0; j < sequence->key_count; j++)
        if (scores[j] != -INFINITY) sum += exp(fovea_round_to(dtype, scores[j]) - maximum);
    for (int64_t j = 0; j < sequence->key_count; j++) {
        if (scores[j] == -INFINITY) continue;
        double p = exp(fovea_round_to(dtype, scores[j]) - maximum) / sum;
        p = fovea_round_to(dtype, p * fovea_reference_dropout(call, sequence, head, i, j));
        stored_row v = find_row(call, FOVEA_ATTENTION_V, sequence, head / call->group, j);
        for (int64_t d = 0; d < call->value_size; d++) rounded[d] += p * stored_element(&v, d);
    }
    for (int64_t d = 0; d < call->value_size; d++) {
        double error = fabs(fovea_round_to(dtype, rounded[d]) - out[d]);
        if (error > worst) worst = error;
    }
    free(rounded);
    return worst;
}

/* The largest |scale q k| of the keys that a row attends. A softcap leaves little of it, but not of
 * the errors of sums that came out small (scale 16, c 0.5: 1.6 times the bound without this). */
static double largest_product(const fovea_attention_call *call, const fovea_sequence *sequence,
                              int64_t head, int64_t i, const double *scores) {
    const char *q = fovea_row(&call->q, sequence->batch, head, sequence->query_start + i);
    double largest = 0;
    for (int64_t j = 0; j < sequence->key_count; j++) {
        if (scores[j] == -INFINITY) continue;
        stored_row k = find_row(call, FOVEA_ATTENTION_K, sequence, head / call->group, j);
        largest = fmax(largest, fabs(product(call, q, &k)));
    }
    return largest;
}

fovea_attention_error fovea_reference_attention_error(const fovea_attention_call *call,
                                                      const fovea_sequence *sequence, int64_t head,
                                                      int64_t i, const double *scores,
                                                      const double *out) {
    double largest_value = 0, largest_score = 0;
    if (isfinite(call->softcap)) largest_score = largest_product(call, sequence, head, i, scores);
    for (int64_t j = 0; j < sequence->key_count; j++) {
        if (scores[j] == -INFINITY) continue;
        stored_row v = find_row(call, FOVEA_ATTENTION_V, sequence, head / call->group, j);
        largest_score = fmax(largest_score, fabs(scores[j]));
        for (int64_t d = 0; d < call->value_size; d++)
            largest_value = fmax(largest_value, fabs(stored_element(&v, d)));
    }
    double factor = fmax(1, largest_score / 8);
    bool half = call->q.dtype != FOVEA_F32;
    return (fovea_attention_error){
        .scale_of_f32 = 4e-6 * largest_value * factor / (1 - call->options->dropout),
        .lse_factor = factor,
        .textbook = half ? textbook_error(call, sequence, head, i, scores, out) : 0};
}

void fovea_attention_join_errors(fovea_attention_error *errors, int64_t count) {
    double factor = 1, textbook = 0;
    for (int64_t r = 0; r < count; r++) {
        if (isfinite(errors[r].lse_factor)) factor = fmax(factor, errors[r].lse_factor);
        textbook = fmax(textbook, errors[r].textbook);
    }
    for (int64_t r = 0; r < count; r++) {
        errors[r].textbook = textbook;
        if (!(errors[r].lse_factor < factor)) continue;
        errors[r].scale_of_f32 *= factor / errors[r].lse_factor;
        errors[r].lse_factor = factor;
    }
}

double fovea_attention_out_bound(const fovea_attention_call *call, double expected,
                                 const fovea_attention_error *row) {
    if (call->q.dtype == FOVEA_F32) return row->scale_of_f32;
    return row->scale_of_f32 + 2 * row->textbook + 0.5 * fovea_ulp(call->q.dtype, expected);
}

double fovea_attention_lse_bound(double expected, const fovea_attention_error *row) {
    return (2e-6 * fabs(expected) + 2e-6) * row->lse_factor;
}

/* ---- Whole problems ------------------------------------------------------------------------- */

int64_t fovea_attention_lse_number(const fovea_attention_call *call, const fovea_sequence *sequence,
                                   int64_t head, int64_t i) {
    if (fovea_given(call->problem, FOVEA_ATTENTION_CU_SEQLENS_Q))
        return head * call->out.shape[2] + sequence->query_start + i;
    return (sequence->batch * call->query_heads + head) * call->query_length + i;
}

int64_t fovea_attention_out_number(const fovea_attention_call *call, const fovea_sequence *sequence,
                                   int64_t head, int64_t i) {
    if (fovea_given(call->problem, FOVEA_ATTENTION_CU_SEQLENS_Q))
        return (sequence->query_start + i) * call->query_heads + head;
    if (call->options->layout == FOVEA_ATTENTION_LAYOUT_BSHD)
        return (sequence->batch * call->query_length + i) * call->query_heads + head;
    return fovea_attention_lse_number(call, sequence, head, i);
}

static bool attention(const fovea_problem *problem, double *const outputs[]) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    double *out = outputs[FOVEA_ATTENTION_OUT], *lses = outputs[FOVEA_ATTENTION_LSE];
    double *scores = malloc(((size_t)call.key_length + 1) * sizeof *scores);
    for (int64_t b = 0; scores && b < call.batch; b++) {
        fovea_sequence sequence = fovea_attention_sequence(&call, b);
        for (int64_t h = 0; h < call.query_heads; h++)
            for (int64_t i = 0; i < sequence.query_count; i++)
                fovea_reference_attention_row(
                    &call, &sequence, h, i, scores,
                    out + fovea_attention_out_number(&call, &sequence, h, i) * call.value_size,
                    lses ? lses + fovea_attention_lse_number(&call, &sequence, h, i) : NULL);
    }
    bool enough = scores != NULL;
    free(scores);
    return enough;
}

void fovea_bound_attention(const fovea_problem *problem, int output, const double *expected,
                           double *bound) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    bool lse = output == FOVEA_ATTENTION_LSE;
    int64_t size = lse ? 1 : call.value_size;
    int64_t rows = size ? fovea_view_elements(&problem->views[output]) / size : 0;
    double *scores = malloc(((size_t)call.key_length + 1) * sizeof *scores);
    double *out = malloc(((size_t)call.value_size + 1) * sizeof *out);
    fovea_attention_error *errors = calloc((size_t)rows + 1, sizeof *errors);
    for (int64_t b = 0; scores && out && errors && rows && b < call.batch; b++) {
        fovea_sequence sequence = fovea_attention_sequence(&call, b);
        for (int64_t h = 0; h < call.query_heads; h++)
            for (int64_t i = 0; i < sequence.query_count; i++) {
                fovea_reference_attention_row(&call, &sequence, h, i, scores, out, NULL);
                int64_t number = lse ? fovea_attention_lse_number(&call, &sequence, h, i)
                                     : fovea_attention_out_number(&call, &sequence, h, i);
                errors[number] =
                    fovea_reference_attention_error(&call, &sequence, h, i, scores, out);
            }
    }
    if (errors) fovea_attention_join_errors(errors, rows);
    for (int64_t e = 0; errors && e < rows * size; e++)
        bound[e] = lse ? fovea_attention_lse_bound(expected[e], &errors[e])
                       : fovea_attention_out_bound(&call, expected[e], &errors[e / size]);
    free(scores), free(out), free(errors);
}

/* ---- Merging -------------------------------------------------------------------------------- */

static double largest_lse(const fovea_view *lses, int64_t parts, int64_t rows, int64_t row) {
    double maximum = -INFINITY;
    for (int64_t p = 0; p < parts; p++) {
        double lse = fovea_view_read(lses, p * rows + row);
        if (isnan(lse) || lse > maximum) maximum = lse;
        if (isnan(maximum)) break;
    }
    return maximum;
}

static bool attention_merge(const fovea_problem *problem, double *const outputs[]) {
    const fovea_view *values = &problem->views[0], *lses = &problem->views[1];
    int64_t parts = values->shape[0], size = values->shape[4];
    int64_t rows = values->shape[1] * values->shape[2] * values->shape[3];
    for (int64_t row = 0; row < rows; row++) {
        double maximum = largest_lse(lses, parts, rows, row), sum = 0;
        double *out = outputs[2] + row * size;
        for (int64_t d = 0; d < size; d++) out[d] = 0;
        for (int64_t p = 0; p < parts && maximum != -INFINITY; p++) {
            double weight = exp(fovea_view_read(lses, p * rows + row) - maximum);
            sum += weight;
            if (weight == 0) continue;
            for (int64_t d = 0; d < size; d++)
                out[d] += weight * fovea_view_read(values, (p * rows + row) * size + d);
        }
        for (int64_t d = 0; d < size && maximum != -INFINITY; d++) out[d] /= sum;
        if (outputs[3]) outputs[3][row] = maximum == -INFINITY ? maximum : maximum + log(sum);
    }
    return true;
}

void fovea_bound_merge(const fovea_problem *problem, int output, const double *expected,
                       double *bound) {
    const fovea_view *values = &problem->views[0], *lses = &problem->views[1];
    int64_t parts = values->shape[0], size = values->shape[4];
    int64_t rows = values->shape[1] * values->shape[2] * values->shape[3];
    double epsilon = fovea_epsilon(FOVEA_F32);
    for (int64_t row = 0; row < rows; row++) {
        double maximum = largest_lse(lses, parts, rows, row), sum = 0;
        if (output == 3) {
            bound[row] = 4 * epsilon * (1 + fabs(expected[row]));
            continue;
        }
        for (int64_t p = 0; p < parts; p++)
            sum += exp(fovea_view_read(lses, p * rows + row) - maximum);
        for (int64_t d = 0; d < size; d++) {
            double terms = 0, result = expected[row * size + d];
            for (int64_t p = 0; p < parts; p++) {
                double distance = fabs(fovea_view_read(lses, p * rows + row) - maximum);
                double weight = exp(-distance) / sum;
                double part = fabs(fovea_view_read(values, (p * rows + row) * size + d));
                if (weight > 0) terms += weight * part * (1 + distance);
            }
            double rounding =
                problem->dtype == FOVEA_F32 ? 0 : 0.5 * fovea_ulp(problem->dtype, result);
            bound[row * size + d] = 8 * epsilon * terms + rounding;
        }
    }
}

const fovea_reference fovea_references_attention[] = {
    {"attention_backward", fovea_reference_backward},
    {"attention", attention},
    {"attention_merge", attention_merge},
    {"kv_append", fovea_reference_append},
    {0}};
