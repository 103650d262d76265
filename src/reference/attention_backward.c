/* attention_backward in double: each element of a gradient is the sum over the pairs that make it,
 * with p = exp(s - lse) from the lse that is given. The bound is made of the same sums. */
#include "reference/attention.h"

#include "catalogue/bounds.h"

#include <math.h>
#include <stdlib.h>

/* p that f32 may flush to 0, times what the bound multiplies magnitudes by: 2^-126 / 4e-6. */
static const double flushed = 0x1p-108;

static double element(const fovea_view *view, const char *row, int64_t d) {
    return fovea_read_element(row + d * view->stride[3] * (int64_t)fovea_dtype_size(view->dtype),
                              view->dtype);
}

/* sum x y over the columns of two rows, and the sum of the magnitudes. */
static double product(const fovea_view *a, const char *x, const fovea_view *b, const char *y,
                      double *magnitude) {
    double sum = 0;
    *magnitude = 0;
    for (int64_t d = 0; d < a->shape[3]; d++) {
        double term = element(a, x, d) * element(b, y, d);
        sum += term, *magnitude += fabs(term);
    }
    return sum;
}

/* |scale| sqrt(sum (q k)^2): what s is like if the signs of its terms are random. Where s itself is
 * smaller by chance, its rounding errors are not. */
static double score_spread(const fovea_attention_call *call, const char *q, const char *k) {
    double sum = 0;
    for (int64_t d = 0; d < call->head_size; d++)
        sum += pow(element(&call->q, q, d) * element(&call->k, k, d), 2);
    return fabs(call->scale) * sqrt(sum);
}

/* A query row: what the softmax's derivative subtracts, and its lse. */
typedef struct query_row {
    const fovea_sequence *sequence;
    int64_t head, i;
    const char *q, *dout;
    double lse, delta, delta_magnitude;
} query_row;

static query_row make_row(const fovea_backward_call *backward, const fovea_sequence *sequence,
                          int64_t head, int64_t i) {
    const fovea_attention_call *call = &backward->attention;
    int64_t batch = sequence->batch, number = sequence->query_start + i;
    query_row row = {.sequence = sequence, .head = head, .i = i};
    row.q = fovea_row(&call->q, batch, head, number);
    row.dout = fovea_row(&backward->dout, batch, head, number);
    fovea_view lse = call->lse; /* [B, Hq, Sq]: a column a query */
    row.lse = fovea_read_element(
        lse.data + (batch * lse.stride[0] + head * lse.stride[1] + number * lse.stride[2]) * 4,
        FOVEA_F32);
    row.delta = product(&backward->dout, row.dout, &call->out,
                        fovea_row(&call->out, batch, head, number), &row.delta_magnitude);
    return row;
}

/* What a pair gives: weights of dout (in dv) and of k and q (in dq, dk; before scale), the gradient
 * of the score, their magnitudes; and the same by textbook in the call's half dtype. */
typedef struct pair {
    double weight, gradient, raw_gradient;
    double weight_magnitude, gradient_magnitude;
    double textbook_weight, textbook_gradient, textbook_raw;
} pair;

static void textbook_pair(const fovea_attention_call *call, const query_row *row, double s,
                          double kept, double product_of_values, double slope, pair *pair) {
    fovea_dtype dtype = call->q.dtype;
    double p = fovea_round_to(dtype, exp(fovea_round_to(dtype, s) - row->lse));
    double dp = fovea_round_to(dtype, kept * fovea_round_to(dtype, product_of_values));
    pair->textbook_weight = kept == 0 ? 0 : fovea_round_to(dtype, p * kept);
    pair->textbook_gradient = fovea_round_to(dtype, p * (dp - row->delta));
    pair->textbook_raw = fovea_round_to(dtype, pair->textbook_gradient * slope);
}

/* False if the pair counts nothing. */
static bool make_pair(const fovea_backward_call *backward, const query_row *row, int64_t j,
                      double *largest, pair *pair) {
    const fovea_attention_call *call = &backward->attention;
    const fovea_sequence *sequence = row->sequence;
    double uncapped, magnitude, slope = 1;
    double s = fovea_reference_score(call, sequence, row->head, row->i, j, &uncapped);
    if (s == -INFINITY || row->lse == -INFINITY) return false;
    const char *k = fovea_key_row(call, &call->k, sequence, row->head / call->group, j);
    double spread = score_spread(call, row->q, k);
    if (isfinite(s)) *largest = fmax(*largest, fmax(fabs(s), isfinite(spread) ? spread : 0));
    if (isfinite(row->lse)) *largest = fmax(*largest, fabs(row->lse));
    double p = exp(s - row->lse);
    double kept = fovea_reference_dropout(call, sequence, row->head, row->i, j);
    const char *v = fovea_key_row(call, &call->v, sequence, row->head / call->group, j);
    double values = product(&backward->dout, row->dout, &call->v, v, &magnitude);
    if (isfinite(call->softcap)) slope = 1 - pow(tanh(uncapped / call->softcap), 2);
    /* A dropped element has no product, though it be infinite. */
    pair->weight = kept == 0 ? 0 : p * kept;
    pair->gradient = p * ((kept == 0 ? 0 : kept * values) - row->delta);
    pair->raw_gradient = pair->gradient * slope;
    pair->weight_magnitude = kept == 0 ? 0 : (p + flushed) * kept;
    pair->gradient_magnitude = (p + flushed) * (kept * magnitude + row->delta_magnitude);
    pair->textbook_weight = pair->weight;
    pair->textbook_gradient = pair->gradient, pair->textbook_raw = pair->raw_gradient;
    if (call->q.dtype != FOVEA_F32)
        textbook_pair(call, row, s, kept, kept == 0 ? 0 : values, slope, pair);
    return true;
}

/* elements += weight times a row. */
static void add_row(fovea_gradient *elements, const fovea_view *view, const char *row,
                    double weight, double magnitude, double textbook) {
    for (int64_t d = 0; d < view->shape[3]; d++) {
        double x = element(view, row, d);
        elements[d].value += weight * x;
        elements[d].magnitude += magnitude * fabs(x);
        elements[d].textbook += textbook * x;
    }
}

/* ---- Rows of the gradients ------------------------------------------------------------------------ */

static void query_gradient(const fovea_backward_call *backward, const fovea_sequence *sequence,
                           int64_t head, int64_t i, fovea_gradient *elements, double *largest) {
    const fovea_attention_call *call = &backward->attention;
    query_row row = make_row(backward, sequence, head, i);
    double scale = call->scale;
    pair pair;
    for (int64_t j = 0; j < sequence->key_count; j++)
        if (make_pair(backward, &row, j, largest, &pair))
            add_row(elements, &call->k,
                    fovea_key_row(call, &call->k, sequence, head / call->group, j),
                    scale * pair.raw_gradient, fabs(scale) * pair.gradient_magnitude,
                    scale * pair.textbook_raw);
}

static void key_gradient(const fovea_backward_call *backward, bool of_values,
                         const fovea_sequence *sequence, int64_t key_head, int64_t j,
                         fovea_gradient *elements, double *largest) {
    const fovea_attention_call *call = &backward->attention;
    double scale = call->scale;
    pair pair;
    for (int64_t head = key_head * call->group; head < (key_head + 1) * call->group; head++)
        for (int64_t i = 0; i < sequence->query_count; i++) {
            query_row row = make_row(backward, sequence, head, i);
            if (!make_pair(backward, &row, j, largest, &pair)) continue;
            if (of_values)
                add_row(elements, &backward->dout, row.dout, pair.weight, pair.weight_magnitude,
                        pair.textbook_weight);
            else
                add_row(elements, &call->q, row.q, scale * pair.raw_gradient,
                        fabs(scale) * pair.gradient_magnitude, scale * pair.textbook_raw);
        }
}

typedef struct range {
    int64_t first, end;
} range;

/* The indices along an axis that an element of dbias stands for. */
static range indices(const fovea_view *dbias, int axis, int64_t index, int64_t all) {
    return dbias->stride[axis] == 0 ? (range){0, all} : (range){index, index + 1};
}

static void bias_gradient(const fovea_backward_call *backward, int64_t number, fovea_gradient *sum,
                          double *largest) {
    const fovea_attention_call *call = &backward->attention;
    const fovea_view *dbias = &backward->dbias;
    int64_t index[4];
    pair pair;
    for (int axis = 3; axis >= 0; number /= dbias->shape[axis--])
        index[axis] = number % dbias->shape[axis];
    range batches = indices(dbias, 0, index[0], call->batch);
    range heads = indices(dbias, 1, index[1], call->query_heads);
    for (int64_t b = batches.first; b < batches.end; b++) {
        fovea_sequence sequence = fovea_attention_sequence(call, b);
        range queries = indices(dbias, 2, index[2], sequence.query_count);
        range keys = indices(dbias, 3, index[3], sequence.key_count);
        for (int64_t h = heads.first; h < heads.end; h++)
            for (int64_t i = queries.first; i < queries.end && i < sequence.query_count; i++) {
                query_row row = make_row(backward, &sequence, h, i);
                for (int64_t j = keys.first; j < keys.end && j < sequence.key_count; j++) {
                    if (!make_pair(backward, &row, j, largest, &pair)) continue;
                    sum->value += pair.gradient, sum->magnitude += pair.gradient_magnitude;
                    sum->textbook += pair.textbook_gradient;
                }
            }
    }
}

static void sink_gradient(const fovea_backward_call *backward, int64_t head, fovea_gradient *sum,
                          double *largest) {
    const fovea_attention_call *call = &backward->attention;
    double sink =
        fovea_read_element(call->sinks.data + head * call->sinks.stride[0] * 4, FOVEA_F32);
    if (isfinite(sink)) *largest = fmax(*largest, fabs(sink));
    for (int64_t b = 0; b < call->batch; b++) {
        fovea_sequence sequence = fovea_attention_sequence(call, b);
        for (int64_t i = 0; i < sequence.query_count; i++) {
            query_row row = make_row(backward, &sequence, head, i);
            if (row.lse == -INFINITY || sink == -INFINITY) continue;
            if (isfinite(row.lse)) *largest = fmax(*largest, fabs(row.lse));
            double p = exp(sink - row.lse);
            sum->value -= p * row.delta;
            sum->textbook -= p * row.delta;
            sum->magnitude += (p + flushed) * row.delta_magnitude;
        }
    }
}

/* ---- Rows of outputs ------------------------------------------------------------------------------ */

int64_t fovea_gradient_row_size(const fovea_backward_call *backward, int output) {
    return output == FOVEA_BACKWARD_DQ || output == FOVEA_BACKWARD_DK
               ? backward->attention.head_size
           : output == FOVEA_BACKWARD_DV ? backward->attention.value_size
                                         : 1;
}

bool fovea_gradient_place(const fovea_backward_call *backward, int output, int64_t row,
                          fovea_sequence *sequence, int64_t *head, int64_t *place) {
    const fovea_attention_call *call = &backward->attention;
    bool query = output == FOVEA_BACKWARD_DQ;
    int offsets = query ? FOVEA_ATTENTION_CU_SEQLENS_Q : FOVEA_ATTENTION_CU_SEQLENS_K;
    int64_t heads = query ? call->query_heads : call->key_heads;
    int64_t length = query ? call->query_length : call->key_length;
    if (fovea_given(call->problem, offsets)) {
        *head = row % heads, row /= heads;
        for (int64_t b = 0; b < call->batch; b++) {
            *sequence = fovea_attention_sequence(call, b);
            *place = row - (query ? sequence->query_start : sequence->key_start);
            if (*place >= 0 && *place < (query ? sequence->query_count : sequence->key_count))
                return true;
        }
        return false;
    }
    bool inside = call->options->layout == FOVEA_ATTENTION_LAYOUT_BSHD;
    *head = inside ? row % heads : row / length % heads;
    *place = inside ? row / heads % length : row % length;
    *sequence = fovea_attention_sequence(call, row / (heads * length));
    return *place < (query ? sequence->query_count : sequence->key_count);
}

void fovea_reference_gradient_row(const fovea_backward_call *backward, int output, int64_t row,
                                  fovea_gradient *elements, double *largest) {
    fovea_sequence sequence;
    int64_t head, place, size = fovea_gradient_row_size(backward, output);
    for (int64_t d = 0; d < size; d++) elements[d] = (fovea_gradient){0};
    if (output == FOVEA_BACKWARD_DBIAS)
        bias_gradient(backward, row, elements, largest);
    else if (output == FOVEA_BACKWARD_DSINKS)
        sink_gradient(backward, row, elements, largest);
    else if (!fovea_gradient_place(backward, output, row, &sequence, &head, &place))
        return;
    else if (output == FOVEA_BACKWARD_DQ)
        query_gradient(backward, &sequence, head, place, elements, largest);
    else
        key_gradient(backward, output == FOVEA_BACKWARD_DV, &sequence, head, place, elements,
                     largest);
}

double fovea_gradient_bound_f32(const fovea_gradient *element, double largest) {
    return 4e-6 * fmax(1, largest / 8) * element->magnitude;
}

double fovea_gradient_bound(const fovea_backward_call *backward, fovea_dtype dtype,
                            const fovea_gradient *element, double largest, double textbook) {
    double bound = fovea_gradient_bound_f32(element, largest);
    if (backward->attention.q.dtype != FOVEA_F32) bound += 2 * textbook;
    if (dtype != FOVEA_F32) bound += 0.5 * fovea_ulp(dtype, element->value);
    return bound;
}

/* ---- Whole problems ------------------------------------------------------------------------------- */

/* All elements of an output; the caller frees them. NULL if memory is short. */
static fovea_gradient *all_gradients(const fovea_backward_call *backward, int output, int64_t count,
                                     double *largest) {
    int64_t size = fovea_gradient_row_size(backward, output);
    fovea_gradient *elements = malloc(((size_t)count + 1) * sizeof *elements);
    for (int64_t row = 0; elements && size > 0 && row < count / size; row++)
        fovea_reference_gradient_row(backward, output, row, elements + row * size, largest);
    return elements;
}

bool fovea_reference_backward(const fovea_problem *problem, double *const outputs[]) {
    fovea_backward_call backward;
    fovea_backward_describe(problem, &backward);
    for (int output = FOVEA_BACKWARD_DQ; output <= FOVEA_BACKWARD_DSINKS; output++) {
        double largest = 0;
        if (!outputs[output]) continue;
        int64_t count = fovea_view_elements(&problem->views[output]);
        fovea_gradient *elements = all_gradients(&backward, output, count, &largest);
        if (!elements) return false;
        for (int64_t e = 0; e < count; e++) outputs[output][e] = elements[e].value;
        free(elements);
    }
    return true;
}

void fovea_bound_backward(const fovea_problem *problem, int output, const double *expected,
                          double *bound) {
    fovea_backward_call backward;
    double largest = 0, textbook = 0;
    fovea_backward_describe(problem, &backward);
    const fovea_view *view = &problem->views[output];
    int64_t count = fovea_view_elements(view);
    fovea_gradient *elements = all_gradients(&backward, output, count, &largest);
    for (int64_t e = 0; elements && e < count; e++)
        textbook =
            fmax(textbook, fabs(fovea_round_to(view->dtype, elements[e].textbook) - expected[e]));
    for (int64_t e = 0; elements && e < count; e++)
        bound[e] = fovea_gradient_bound(&backward, view->dtype, &elements[e], largest, textbook);
    free(elements);
}
