/* Expected values and bounds of a problem, and the comparison by rule 10 of docs/rules.md: an
 * element passes if it is the reference's value rounded to the dtype, or within the bound. NaN
 * matches NaN, an infinity only itself, and a value at the overflow threshold may be infinite. */
#include "verify.h"
#include "bench_statistics.h"

#include "reference/attention.h"
#include "reference/reference.h"
#include "runtime/parallel.h"
#include "runtime/processor.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { NEVER_NAN = 2 }; /* of an element in may_be_nan: not even where an infinity is expected */

/* What one output must be. numbers NULL: all elements in order. */
typedef struct expectation {
    fovea_view view;
    int64_t count; /* of values: of complex elements both parts */
    int64_t *numbers;
    double *expected, *bound; /* bound NULL: exact */
    bool bits;                /* what is expected are bits */
    double *peer_bound;       /* NULL: derived from bound */
    uint8_t *may_be_nan;      /* NULL: none */
    double *norms; /* of transforms: what norm2 of the error of each row may be; NaN: free */
    int64_t row_values;
} expectation;

struct fovea_verification {
    const fovea_kernel *kernel;
    fovea_problem problem; /* of rows with a residual */
    fovea_dtype compute;
    expectation outputs[FOVEA_ARGUMENTS_MAX]; /* view.data NULL and count 0: none */
    fovea_quality_row *rows;                  /* of attention, as they are compared */
    int64_t row_count;
    bool approximate; /* the problem asks for an approximate algorithm, of this quality: */
    fovea_quality quality;
};

static bool is_output(const fovea_problem *problem, int argument) {
    return problem->kernel->arguments[argument].name && fovea_given(problem, argument) &&
           problem->kernel->arguments[argument].role != FOVEA_INPUT;
}

void fovea_verification_destroy(fovea_verification *verification) {
    for (int a = 0; verification && a < FOVEA_ARGUMENTS_MAX; a++) {
        expectation *output = &verification->outputs[a];
        free(output->numbers), free(output->expected), free(output->bound);
        free(output->peer_bound), free(output->may_be_nan), free(output->norms);
    }
    if (verification) free(verification->rows);
    free(verification);
}

/* ---- Kernels in full ------------------------------------------------------------------------ */

/* Of several right results the one that is compared: of what is expected, or of other bits by argument. */
static void bring_into_order(const fovea_verification *verification, double *const values[]) {
    const fovea_view *views[FOVEA_ARGUMENTS_MAX];
    double *expected[FOVEA_ARGUMENTS_MAX];
    if (!verification->kernel->canonical) return;
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        const expectation *output = &verification->outputs[a];
        views[a] = output->expected ? &output->view : NULL;
        expected[a] = output->expected;
    }
    verification->kernel->canonical(views, values ? values : expected);
}

static bool expect_norms(const fovea_problem *problem, int argument, expectation *output) {
    const fovea_view *view = &problem->views[argument];
    if (!problem->kernel->norm_bound || output->count == 0) return true;
    output->row_values = view->shape[view->rank - 1] * fovea_dtype_parts(view->dtype);
    output->norms = malloc((size_t)(output->count / output->row_values) * sizeof(double));
    for (int64_t r = 0; output->norms && r < output->count / output->row_values; r++) {
        const double *expected = output->expected + r * output->row_values;
        output->norms[r] = problem->kernel->norm_bound(problem, r, expected, output->row_values);
        for (int64_t i = 0; i < output->row_values; i++)
            if (!isfinite(expected[i])) output->norms[r] = NAN;
    }
    return output->norms != NULL;
}

static bool expect_all(const fovea_problem *problem, fovea_verification *verification) {
    double *outputs[FOVEA_ARGUMENTS_MAX];
    bool enough = fovea_reference_run(problem, outputs);
    for (int a = 0; enough && a < FOVEA_ARGUMENTS_MAX; a++) {
        if (!is_output(problem, a)) continue;
        expectation *output = &verification->outputs[a];
        output->count = fovea_reference_written(problem, a, outputs);
        output->bits = fovea_given_as_bits(problem, a);
    }
    for (int a = 0; enough && a < FOVEA_ARGUMENTS_MAX; a++) {
        if (!is_output(problem, a)) continue;
        expectation *output = &verification->outputs[a];
        output->expected = outputs[a];
        outputs[a] = NULL;
        enough &= expect_norms(problem, a, output);
        if (!problem->kernel->bound || output->bits) continue;
        output->bound = malloc(((size_t)output->count + 1) * sizeof(double));
        if (output->bound)
            problem->kernel->bound(problem, a, output->expected, output->bound);
        else
            enough = false;
    }
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) free(outputs[a]);
    if (enough) bring_into_order(verification, NULL);
    return enough;
}

/* ---- Attention, row by row ------------------------------------------------------------------ */

typedef struct row {
    int64_t batch, head, i;
} row;

typedef struct row_list {
    row *rows;
    int64_t count;
} row_list;

static int64_t all_rows(const fovea_attention_call *call, row *rows) {
    int64_t count = 0;
    for (int64_t b = 0; b < call->batch; b++) {
        fovea_sequence sequence = fovea_attention_sequence(call, b);
        for (int64_t h = 0; h < call->query_heads; h++)
            for (int64_t i = 0; i < sequence.query_count; i++, count++)
                if (rows) rows[count] = (row){b, h, i};
    }
    return count;
}

/* Rows where tiles end come first, then any. */
static row sample_row(const fovea_attention_call *call, int64_t number, uint64_t *random) {
    static const int64_t edges[] = {0, -1, 1, 63, 64, 31, 32, 127, 128, -2, 15, 16, 255, 256, 7, 8};
    const int64_t edge_count = (int64_t)(sizeof edges / sizeof *edges);
    for (;; number = edge_count) {
        row r = {.batch = (int64_t)(fovea_random_next(random) % (uint64_t)call->batch),
                 .head = (int64_t)(fovea_random_next(random) % (uint64_t)call->query_heads)};
        int64_t count = fovea_attention_sequence(call, r.batch).query_count;
        if (count == 0) continue;
        r.i = (int64_t)(fovea_random_next(random) % (uint64_t)count);
        int64_t edge = number < edge_count ? edges[number] : r.i;
        if (edge < 0) edge += count;
        if (edge >= 0 && edge < count) r.i = edge;
        return r;
    }
}

static bool choose_rows(const fovea_attention_call *call, int64_t limit, uint64_t seed,
                        row_list *list) {
    int64_t total = all_rows(call, NULL);
    bool sampled = limit > 0 && total > limit;
    list->count = sampled ? limit : total;
    list->rows = malloc(((size_t)list->count + 1) * sizeof *list->rows);
    if (!list->rows) return false;
    if (!sampled) return all_rows(call, list->rows), true;
    for (int64_t r = 0; r < limit; r++) list->rows[r] = sample_row(call, r, &seed);
    return true;
}

static bool allocate_expectation(expectation *output, int64_t count) {
    size_t size = (size_t)count + 1;
    output->count = count;
    output->numbers = malloc(size * sizeof *output->numbers);
    output->expected = malloc(size * sizeof *output->expected);
    output->bound = malloc(size * sizeof *output->bound);
    output->peer_bound = malloc(size * sizeof *output->peer_bound);
    output->may_be_nan = calloc(size, 1);
    return output->numbers && output->expected && output->bound && output->peer_bound &&
           output->may_be_nan;
}

/* Of a row without gaps the exponents are looked at: caches of 10^9 numbers are searched. */
#define ANY_SPECIAL(type, mask)                                                                    \
    {                                                                                              \
        const type *bits = (const type *)(const void *)data;                                       \
        type special = 0;                                                                          \
        for (int64_t d = 0; d < size; d++) special |= (bits[d] & (mask)) == (mask);                \
        return special;                                                                            \
    }

static bool dense_row_has_special(fovea_dtype dtype, const char *data, int64_t size) {
    switch (dtype) {
    case FOVEA_F32:
        ANY_SPECIAL(uint32_t, 0x7f800000)
    case FOVEA_F16:
        ANY_SPECIAL(uint16_t, 0x7c00)
    case FOVEA_BF16:
        ANY_SPECIAL(uint16_t, 0x7f80)
    case FOVEA_E4M3:
        ANY_SPECIAL(uint8_t, 0x7f)
    default:
        return false; /* integers */
    }
}

static bool row_is_finite(const fovea_view *view, const char *data) {
    if (view->stride[3] == 1) return !dense_row_has_special(view->dtype, data, view->shape[3]);
    int64_t size = (int64_t)fovea_dtype_size(view->dtype);
    for (int64_t d = 0; d < view->shape[3]; d++)
        if (!isfinite(fovea_read_element(data + d * view->stride[3] * size, view->dtype)))
            return false;
    return true;
}

/* Whether a key or value row of this sequence and key head holds NaN or an infinity: then rows that
 * mask it may be NaN (docs/rules.md). */
static bool keys_are_finite(const fovea_attention_call *call, const fovea_sequence *sequence,
                            int64_t key_head) {
    for (int64_t j = 0; j < sequence->key_count; j++)
        if (!row_is_finite(&call->k, fovea_key_row(call, &call->k, sequence, key_head, j)) ||
            !row_is_finite(&call->v, fovea_key_row(call, &call->v, sequence, key_head, j)))
            return false;
    return true;
}

static bool all_keys_are_finite(const fovea_attention_call *call) {
    for (int64_t b = 0; b < call->batch; b++) {
        fovea_sequence sequence = fovea_attention_sequence(call, b);
        for (int64_t h = 0; h < call->key_heads; h++)
            if (!keys_are_finite(call, &sequence, h)) return false;
    }
    return true;
}

static double root_of_squares(const double *scores, int64_t count, double lse) {
    double sum = 0;
    for (int64_t j = 0; j < count; j++) sum += exp(2 * (scores[j] - lse));
    return lse > -INFINITY ? sqrt(sum) : 0;
}

/* Fills the elements of row number r of the list. */
static void expect_row(const fovea_attention_call *call, const row *place, int64_t r,
                       double *scores, bool finite_keys, expectation *out, expectation *lse,
                       fovea_attention_error *error, fovea_quality_row *quality) {
    fovea_sequence sequence = fovea_attention_sequence(call, place->batch);
    int64_t size = call->value_size;
    double *expected = out->expected + r * size, logarithm;
    fovea_reference_attention_row(call, &sequence, place->head, place->i, scores, expected,
                                  &logarithm);
    *error =
        fovea_reference_attention_error(call, &sequence, place->head, place->i, scores, expected);
    bool may_be_nan = !finite_keys && !keys_are_finite(call, &sequence, place->head / call->group);
    int64_t first = fovea_attention_out_number(call, &sequence, place->head, place->i) * size;
    for (int64_t d = 0; d < size; d++) out->numbers[r * size + d] = first + d;
    memset(out->may_be_nan + r * size, may_be_nan, (size_t)size);
    quality->weight = root_of_squares(scores, sequence.key_count, logarithm);
    quality->value = error->scale_of_f32 / (4e-6 * error->lse_factor);
    quality->empty = logarithm == -INFINITY;
    fovea_value_noise(call, &sequence, place->head, scores, logarithm, scores + sequence.key_count,
                      quality);
    if (!lse) return;
    lse->numbers[r] = fovea_attention_lse_number(call, &sequence, place->head, place->i);
    lse->expected[r] = logarithm;
    lse->may_be_nan[r] = !may_be_nan && quality->empty ? NEVER_NAN : may_be_nan;
}

/* Peers get 64 times what f32 arithmetic may lose, but only twice what a half itself loses, and of f16 nothing beyond our own
 * bound: it holds twice the error of a textbook computation in f16, and bf16 arithmetic behind an f16 interface loses eight
 * times as much. 64 times the f32 part alone would let that pass from a few hundred keys on, which average it away. */
static double peer_bound_of_out(const fovea_attention_call *call, double bound,
                                const fovea_attention_error *error) {
    return call->q.dtype == FOVEA_F16 ? bound : 2 * bound + 62 * error->scale_of_f32;
}

/* Once all rows are known, for bounds hang on the largest score of them. */
static void bound_rows(const fovea_attention_call *call, int64_t rows, expectation *out,
                       expectation *lse, fovea_attention_error *errors) {
    fovea_attention_join_errors(errors, rows);
    for (int64_t e = 0; e < out->count; e++) {
        const fovea_attention_error *error = &errors[e / call->value_size];
        out->bound[e] = fovea_attention_out_bound(call, out->expected[e], error);
        out->peer_bound[e] = peer_bound_of_out(call, out->bound[e], error);
    }
    for (int64_t r = 0; lse && r < rows; r++) {
        lse->bound[r] = fovea_attention_lse_bound(lse->expected[r], &errors[r]);
        lse->peer_bound[r] = 64 * lse->bound[r];
    }
}

/* What rounding to 8 bits does to the rows' scores. Approximate attention gives a query row that holds NaN or an infinity
 * as NaN, where the definition may have a number. */
/* Key heads that rows are of, for several threads. */
typedef struct head_task {
    const fovea_attention_call *call;
    const bool *wanted;
    fovea_head_spread *spreads;
    double *scratch; /* `length` for each thread */
    size_t length;
} head_task;

static void measure_heads(void *task, int64_t first, int64_t end, int thread) {
    const head_task *t = task;
    for (int64_t head = first; head < end; head++) {
        if (!t->wanted[head]) continue;
        fovea_sequence sequence = fovea_attention_sequence(t->call, head / t->call->key_heads);
        t->spreads[head] = fovea_measure_head(t->call, &sequence, head % t->call->key_heads,
                                              t->scratch + (size_t)thread * t->length);
    }
}

static int64_t key_head_of(const fovea_attention_call *call, const row *place) {
    return place->batch * call->key_heads + place->head / call->group;
}

static bool measure_noise(const fovea_attention_call *call, const row_list *list, int threads,
                          fovea_verification *verification) {
    int64_t size = call->value_size;
    int64_t heads = call->batch * call->key_heads;
    size_t length = 2 * (size_t)call->head_size + 1;
    fovea_head_spread *spreads = calloc((size_t)heads + 1, sizeof *spreads);
    bool *known = calloc((size_t)heads + 1, sizeof *known);
    double *scratch = malloc((size_t)threads * length * sizeof *scratch);
    bool enough = spreads && known && scratch;
    for (int64_t r = 0; enough && r < list->count; r++)
        known[key_head_of(call, &list->rows[r])] = true;
    head_task task = {call, known, spreads, scratch, length};
    if (enough) fovea_parallel(heads, 1, threads, measure_heads, &task);
    for (int64_t r = 0; enough && r < list->count; r++) {
        const row *place = &list->rows[r];
        fovea_sequence sequence = fovea_attention_sequence(call, place->batch);
        int64_t head = key_head_of(call, place);
        fovea_row_noise(call, &spreads[head], &sequence, place->head, place->i,
                        &verification->rows[r]);
        const char *q =
            fovea_row(&call->q, place->batch, place->head, sequence.query_start + place->i);
        if (!verification->approximate || row_is_finite(&call->q, q)) continue;
        memset(verification->outputs[FOVEA_ATTENTION_OUT].may_be_nan + r * size, 1, (size_t)size);
        if (call->has_lse) verification->outputs[FOVEA_ATTENTION_LSE].may_be_nan[r] = 1;
    }
    free(spreads), free(known), free(scratch);
    return enough;
}

/* Rows of attention for several threads. */
typedef struct row_task {
    const fovea_attention_call *call;
    const row *places;
    double *scores; /* `length` for each thread: a row's, and three of values */
    size_t length;
    bool finite_keys;
    expectation *out, *lse;
    fovea_attention_error *errors;
    fovea_quality_row *qualities;
} row_task;

static void expect_rows(void *task, int64_t first, int64_t end, int thread) {
    const row_task *t = task;
    for (int64_t r = first; r < end; r++)
        expect_row(t->call, &t->places[r], r, t->scores + (size_t)thread * t->length,
                   t->finite_keys, t->out, t->lse, &t->errors[r], &t->qualities[r]);
}

static bool expect_attention(const fovea_problem *problem, int64_t limit, uint64_t seed,
                             fovea_verification *verification) {
    fovea_attention_call call;
    row_list list;
    fovea_attention_describe(problem, &call);
    if (!choose_rows(&call, limit, seed, &list)) return false;
    expectation *out = &verification->outputs[FOVEA_ATTENTION_OUT];
    expectation *lse = call.has_lse ? &verification->outputs[FOVEA_ATTENTION_LSE] : NULL;
    /* Of few rows too the heads are looked at whole. */
    double row = (double)call.key_length * (double)(call.head_size + call.value_size);
    int threads = (double)list.count * row > 5e6 ? fovea_processor_get()->threads : 1;
    size_t length = (size_t)call.key_length + 3 * (size_t)call.value_size + 1;
    double *scores = malloc((size_t)threads * length * sizeof *scores);
    fovea_attention_error *errors = malloc(((size_t)list.count + 1) * sizeof *errors);
    verification->rows = calloc((size_t)list.count + 1, sizeof *verification->rows);
    verification->row_count = list.count;
    verification->approximate = fovea_attention_quality(problem->options, &verification->quality);
    bool enough = scores && errors && verification->rows &&
                  allocate_expectation(out, list.count * call.value_size) &&
                  (!lse || allocate_expectation(lse, list.count));
    row_task task = {.call = &call,
                     .places = list.rows,
                     .scores = scores,
                     .length = length,
                     .finite_keys = all_keys_are_finite(&call),
                     .out = out,
                     .lse = lse,
                     .errors = errors,
                     .qualities = verification->rows};
    if (enough) fovea_parallel(list.count, 1, threads, expect_rows, &task);
    enough = enough && measure_noise(&call, &list, threads, verification);
    if (enough) bound_rows(&call, list.count, out, lse, errors);
    free(scores), free(errors), free(list.rows);
    return enough;
}

/* ---- Attention's gradients ------------------------------------------------------------------ */

/* Whether the rows of a view that belong to a sequence and head hold numbers only. */
static bool rows_are_finite(const fovea_view *view, const fovea_sequence *sequence, int64_t head,
                            int64_t first, int64_t count) {
    for (int64_t i = first; i < first + count; i++)
        if (!row_is_finite(view, fovea_row(view, sequence->batch, head, i))) return false;
    return true;
}

/* What masked pairs may let through: zero times what is not finite. A lse of -inf is no such thing,
 * for the row counts nothing; others come with an out that is not finite. */
static bool key_head_is_finite(const fovea_backward_call *backward, const fovea_sequence *sequence,
                               int64_t key_head) {
    const fovea_attention_call *call = &backward->attention;
    const fovea_view *views[] = {&call->q, &call->out, &backward->dout};
    bool finite = keys_are_finite(call, sequence, key_head);
    for (int64_t h = key_head * call->group; h < (key_head + 1) * call->group && finite; h++)
        for (int v = 0; v < 3 && finite; v++)
            finite = rows_are_finite(views[v], sequence, h, sequence->query_start,
                                     sequence->query_count);
    return finite;
}

static bool gradient_may_be_nan(const fovea_backward_call *backward, int output, int64_t row) {
    const fovea_attention_call *call = &backward->attention;
    fovea_sequence sequence;
    int64_t head, place;
    if (output == FOVEA_BACKWARD_DBIAS || output == FOVEA_BACKWARD_DSINKS) return false;
    if (!fovea_gradient_place(backward, output, row, &sequence, &head, &place)) return false;
    return output == FOVEA_BACKWARD_DQ ? !keys_are_finite(call, &sequence, head / call->group)
                                       : !key_head_is_finite(backward, &sequence, head);
}

/* How many rows of an output the reference computes in the time of `limit` rows of dq; 0: all. */
static int64_t gradient_rows(const fovea_backward_call *backward, int output, int64_t total,
                             int64_t limit) {
    const fovea_attention_call *call = &backward->attention;
    double keys = (double)call->key_length, queries = (double)call->query_length;
    double all = (double)(call->batch * call->query_heads) * queries * keys;
    double pairs = output == FOVEA_BACKWARD_DQ       ? keys
                   : output == FOVEA_BACKWARD_DBIAS  ? all / (double)(total > 0 ? total : 1)
                   : output == FOVEA_BACKWARD_DSINKS ? (double)call->batch * queries
                                                     : 2 * (double)call->group * queries;
    double rows = fmax((double)limit * keys / fmax(pairs, 1), 12);
    return limit == 0 || rows >= (double)total ? total : (int64_t)rows;
}

/* Row r of n that are compared of `total`: the ends and what lies beside tile edges first. */
static int64_t gradient_row(int64_t r, int64_t n, int64_t total, uint64_t *random) {
    static const int64_t edges[] = {0, -1, 63, 64, 47, 48, 127, 128, -2, 15};
    if (n == total) return r;
    int64_t edge = r < (int64_t)(sizeof edges / sizeof *edges) ? edges[r] : total;
    if (edge < 0) edge += total;
    return edge < total ? edge : (int64_t)(fovea_random_next(random) % (uint64_t)total);
}

/* One output; *largest grows. The bounds follow when that of all outputs is known. */
static fovea_gradient *expect_gradient(const fovea_backward_call *backward, int output,
                                       int64_t limit, uint64_t random, bool finite, double *largest,
                                       expectation *expected) {
    int64_t size = fovea_gradient_row_size(backward, output);
    int64_t total = size ? fovea_view_elements(&expected->view) / size : 0;
    int64_t rows = gradient_rows(backward, output, total, limit);
    fovea_gradient *elements = malloc(((size_t)(rows * size) + 1) * sizeof *elements);
    if (!elements || !allocate_expectation(expected, rows * size)) return free(elements), NULL;
    for (int64_t r = 0; r < rows; r++) {
        int64_t row = gradient_row(r, rows, total, &random);
        fovea_reference_gradient_row(backward, output, row, elements + r * size, largest);
        for (int64_t d = 0; d < size; d++) {
            expected->numbers[r * size + d] = row * size + d;
            expected->expected[r * size + d] = elements[r * size + d].value;
        }
        memset(expected->may_be_nan + r * size,
               !finite && gradient_may_be_nan(backward, output, row), (size_t)size);
    }
    return elements;
}

static void bound_gradient(const fovea_backward_call *backward, const fovea_gradient *elements,
                           double largest, expectation *output) {
    fovea_dtype dtype = output->view.dtype;
    double textbook = 0;
    for (int64_t e = 0; e < output->count; e++)
        textbook =
            fmax(textbook, fabs(fovea_round_to(dtype, elements[e].textbook) - elements[e].value));
    for (int64_t e = 0; e < output->count; e++) {
        output->bound[e] = fovea_gradient_bound(backward, dtype, &elements[e], largest, textbook);
        output->peer_bound[e] =
            2 * output->bound[e] + 62 * fovea_gradient_bound_f32(&elements[e], largest);
    }
}

static bool expect_backward(const fovea_problem *problem, int64_t limit, uint64_t seed,
                            fovea_verification *verification) {
    fovea_backward_call backward;
    fovea_gradient *elements[FOVEA_ARGUMENTS_MAX] = {0};
    double largest = 0;
    bool enough = true, finite = true;
    fovea_backward_describe(problem, &backward);
    for (int64_t b = 0; b < backward.attention.batch && finite; b++) {
        fovea_sequence sequence = fovea_attention_sequence(&backward.attention, b);
        for (int64_t h = 0; h < backward.attention.key_heads && finite; h++)
            finite = key_head_is_finite(&backward, &sequence, h);
    }
    for (int a = FOVEA_BACKWARD_DQ; a <= FOVEA_BACKWARD_DSINKS && enough; a++) {
        if (!is_output(problem, a)) continue;
        elements[a] = expect_gradient(&backward, a, limit, seed + (uint64_t)a, finite, &largest,
                                      &verification->outputs[a]);
        enough = elements[a] != NULL;
    }
    for (int a = FOVEA_BACKWARD_DQ; a <= FOVEA_BACKWARD_DSINKS; a++) {
        if (enough && elements[a])
            bound_gradient(&backward, elements[a], largest, &verification->outputs[a]);
        free(elements[a]);
    }
    return enough;
}

fovea_verification *fovea_verification_create(const fovea_problem *problem, int64_t rows,
                                              uint64_t seed) {
    fovea_verification *verification = calloc(1, sizeof *verification);
    if (!verification) return NULL;
    verification->kernel = problem->kernel;
    verification->problem = *problem;
    verification->compute = fovea_compute_dtype(problem->dtype);
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++)
        if (is_output(problem, a)) verification->outputs[a].view = problem->views[a];
    const char *kernel = problem->kernel->name;
    bool enough = strcmp(kernel, "attention") == 0
                      ? expect_attention(problem, rows, seed, verification)
                  : strcmp(kernel, "attention_backward") == 0
                      ? expect_backward(problem, rows, seed, verification)
                      : expect_all(problem, verification);
    if (enough) return verification;
    fovea_verification_destroy(verification);
    return NULL;
}

/* ---- Comparison ----------------------------------------------------------------------------- */

static double largest_finite(fovea_dtype dtype) {
    switch (dtype) {
    case FOVEA_F16:
        return 65504;
    case FOVEA_BF16:
        return 0x1.FEp127;
    case FOVEA_F32:
        return FLT_MAX;
    default:
        return DBL_MAX;
    }
}

static double smallest_normal(fovea_dtype compute) {
    return compute == FOVEA_F64 ? DBL_MIN : compute == FOVEA_F32 ? 0x1p-126 : 0;
}

double fovea_error_share(fovea_dtype dtype, double expected, double actual, double bound,
                         bool may_be_nan) {
    double rounded = fovea_round_to(dtype, expected);
    if (actual == rounded) /* a bound below half an ULP is met by the rounded value */
        return bound > 0 && isfinite(expected) ? fmin(1, fabs(actual - expected) / bound) : 0;
    if (isnan(actual)) return isnan(expected) || may_be_nan ? 0 : INFINITY;
    if (!isfinite(expected)) return INFINITY;
    if (isinf(actual))
        return bound > 0 && copysign(1, actual) * expected + bound >= largest_finite(dtype)
                   ? 0
                   : INFINITY;
    return bound > 0 ? fabs(actual - expected) / bound : INFINITY;
}

/* Peers: 64 times the bound, though the rounding of a half output twice only; elementwise and exact
 * kernels 1e-5 max(|y|, 1e-2) if that is more. For sums 64 times the bound is more than 1e-5 S in
 * f32 and stricter in f64. */
static double peer_bound(const fovea_verification *verification, fovea_dtype dtype, double expected,
                         double bound) {
    bool half = dtype == FOVEA_F16 || dtype == FOVEA_BF16;
    double rounding = half ? 0.5 * fovea_ulp(dtype, expected) : 0;
    double wide = 64 * fmax(bound - rounding, 0) + 2 * rounding;
    if (verification->kernel->elementwise || !verification->kernel->bound)
        wide = fmax(wide, 1e-5 * fmax(fabs(expected), 1e-2));
    return wide;
}

/* NaN is accepted for an infinity in attention: a weight that underflows times inf is NaN. */
static bool nan_is_accepted(const expectation *output, int64_t e) {
    if (!output->may_be_nan || output->may_be_nan[e] == NEVER_NAN) return false;
    return output->may_be_nan[e] || isinf(output->expected[e]);
}

static void note_worst(const fovea_verification *verification, int argument, int64_t e,
                       double actual, double share, double bound, fovea_verdict *verdict) {
    const expectation *output = &verification->outputs[argument];
    verdict->share = share;
    verdict->expected = output->expected[e];
    verdict->actual = actual;
    verdict->error = fabs(actual - output->expected[e]);
    verdict->bound = bound;
    verdict->output = argument;
    verdict->number = output->numbers ? output->numbers[e] : e;
}

static void note_share(const fovea_verification *verification, int argument, int64_t e,
                       double actual, double share, double bound, fovea_verdict *verdict) {
    if (share > verdict->share || verdict->output < 0)
        note_worst(verification, argument, e, actual, share, bound, verdict);
    verdict->wrong += !(share <= 1);
}

/* Peers get 64 times the bound, as elsewhere. */
static void judge_residual(const fovea_verification *verification, int argument,
                           const fovea_view *view, fovea_verdict *verdict) {
    const expectation *output = &verification->outputs[argument];
    double *error = malloc(2 * ((size_t)output->count + 1) * sizeof *error);
    double *bound = error ? error + output->count : NULL;
    double least = smallest_normal(verification->compute);
    if (error)
        verification->kernel->residual(&verification->problem, argument, view, output->expected,
                                       error, bound);
    for (int64_t e = 0; e < output->count; e++) {
        double share = error ? error[e] / (bound[e] + least) : INFINITY;
        note_share(verification, argument, e, fovea_view_read(view, e), share, error ? bound[e] : 0,
                   verdict);
        verdict->peer_share = fmax(verdict->peer_share, share / 64);
        if (error && verdict->share == share)
            verdict->error = verdict->peer_error = error[e], verdict->peer_bound = 64 * bound[e];
    }
    verdict->compared += output->count;
    free(error);
}

static void note_peer(double share, double error, double bound, fovea_verdict *verdict) {
    if (!(share > verdict->peer_share) && verdict->peer_bound != 0) return;
    verdict->peer_share = fmax(share, verdict->peer_share);
    verdict->peer_error = share > 0 ? error : 0;
    verdict->peer_bound = bound;
}

static bool is_free(const expectation *output, int64_t e) {
    return output->norms && isnan(output->norms[e / output->row_values]);
}

/* Elements [first, end) of an output, of which no complex number is cut. The two parts of one share a bound
 * on the absolute value of their error. */
static void compare(const fovea_verification *verification, int argument, const fovea_view *view,
                    const double *held, int64_t first, int64_t end, fovea_verdict *verdict) {
    const expectation *output = &verification->outputs[argument];
    bool exact = !verification->kernel->bound, dense = fovea_view_is_contiguous(view);
    double least = exact ? 0 : smallest_normal(verification->compute);
    double real_share = 0, real_peer_share = 0;
    fovea_dtype dtype = fovea_dtype_of_part(view->dtype);
    bool complex = dtype != view->dtype;
    size_t size = fovea_dtype_size(dtype);
    (void)held;
    for (int64_t e = first; e < end; e++) {
        int64_t number = output->numbers ? output->numbers[e] : e;
        double actual = dense ? fovea_read_element(view->data + (size_t)number * size, dtype)
                              : fovea_view_read(view, number);
        double expected = output->expected[e], bound = exact ? 0 : output->bound[e] + least;
        double peer = output->peer_bound ? output->peer_bound[e] + least
                                         : peer_bound(verification, dtype, expected, bound);
        bool nan = nan_is_accepted(output, e);
        if (is_free(output, e)) continue;
        double share = fovea_error_share(dtype, expected, actual, bound, nan);
        double peer_share = fovea_error_share(dtype, expected, actual, peer, nan);
        if (complex && e % 2)
            share = hypot(share, real_share), peer_share = hypot(peer_share, real_peer_share);
        real_share = share, real_peer_share = peer_share;
        note_share(verification, argument, e, actual, share, bound, verdict);
        note_peer(peer_share, fabs(actual - expected), peer, verdict);
    }
}

/* Bits must be met; peers may give another zero or NaN. */
static void compare_bits(const fovea_verification *verification, int argument,
                         const fovea_view *view, const double *held, int64_t first, int64_t end,
                         fovea_verdict *verdict) {
    const expectation *output = &verification->outputs[argument];
    size_t size = fovea_dtype_size(view->dtype);
    bool dense = fovea_view_is_contiguous(view);
    for (int64_t e = first; e < end; e++) {
        char expected_bytes[8], actual_bytes[8];
        uint64_t expected, actual;
        memcpy(&expected, &output->expected[e], sizeof expected);
        if (held)
            memcpy(&actual, &held[e], sizeof actual);
        else
            actual = fovea_read_bits(
                dense ? view->data + (size_t)e * size : fovea_view_address(view, e), view->dtype);
        if (actual == expected && verdict->output >= 0) continue;
        fovea_write_bits(expected_bytes, view->dtype, expected);
        fovea_write_bits(actual_bytes, view->dtype, actual);
        double wanted = fovea_read_element(expected_bytes, view->dtype);
        double found = fovea_read_element(actual_bytes, view->dtype);
        double share = actual == expected ? 0 : INFINITY;
        bool same = actual == expected || (fovea_dtype_is_float(view->dtype) &&
                                           (wanted == found || (isnan(wanted) && isnan(found))));
        if (share > verdict->share || verdict->output < 0) {
            note_worst(verification, argument, e, found, share, 0, verdict);
            verdict->expected = wanted;
            verdict->error = actual == expected ? 0 : fabs(found - wanted);
        }
        if (!same) verdict->peer_share = INFINITY, verdict->peer_error = fabs(found - wanted);
        verdict->wrong += actual != expected;
    }
}

/* ---- All of an output, by several threads --------------------------------------------------- */

typedef void compare_function(const fovea_verification *verification, int argument,
                              const fovea_view *view, const double *held, int64_t first,
                              int64_t end, fovea_verdict *verdict);
enum { COMPARED_AT_ONCE = 1 << 19 };

typedef struct compare_task {
    compare_function *function;
    const fovea_verification *verification;
    int argument;
    const fovea_view *view;
    const double *held;
    fovea_verdict *verdicts; /* one a part */
} compare_task;

static void compare_parts(void *task, int64_t first, int64_t end, int thread) {
    const compare_task *t = task;
    int64_t count = t->verification->outputs[t->argument].count;
    (void)thread;
    for (int64_t part = first; part < end; part++) {
        int64_t from = part * COMPARED_AT_ONCE, rest = count - from;
        t->verdicts[part] = (fovea_verdict){.output = -1};
        t->function(t->verification, t->argument, t->view, t->held, from,
                    from + (rest < COMPARED_AT_ONCE ? rest : COMPARED_AT_ONCE), &t->verdicts[part]);
    }
}

/* As if `part` had been found after what the verdict holds. */
static void join_verdicts(const fovea_verdict *part, fovea_verdict *verdict) {
    fovea_verdict all = *verdict;
    if (part->share > verdict->share || verdict->output < 0) *verdict = *part;
    verdict->wrong = all.wrong + part->wrong, verdict->compared = all.compared;
    const fovea_verdict *peer =
        part->peer_share > all.peer_share || all.peer_bound == 0 ? part : &all;
    verdict->peer_share = fmax(part->peer_share, all.peer_share);
    verdict->peer_error = peer->peer_error, verdict->peer_bound = peer->peer_bound;
}

static void compare_all(compare_function *function, const fovea_verification *verification,
                        int argument, const fovea_view *view, const double *held,
                        fovea_verdict *verdict) {
    int64_t count = verification->outputs[argument].count;
    int64_t parts = (count + COMPARED_AT_ONCE - 1) / COMPARED_AT_ONCE;
    fovea_verdict *verdicts = parts > 1 ? malloc((size_t)parts * sizeof *verdicts) : NULL;
    compare_task task = {function, verification, argument, view, held, verdicts};
    if (verdicts)
        fovea_parallel(parts, 1, fovea_processor_get()->threads, compare_parts, &task);
    else
        function(verification, argument, view, held, 0, count, verdict);
    for (int64_t part = 0; verdicts && part < parts; part++)
        join_verdicts(&verdicts[part], verdict);
    verdict->compared += count;
    free(verdicts);
}

/* The bits of all outputs, brought into the order in which they are compared. NULL: no memory. */
static bool hold_bits(const fovea_verification *verification, const fovea_view *const views[],
                      double *held[]) {
    bool enough = true;
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        const expectation *output = &verification->outputs[a];
        held[a] = NULL;
        if (!output->expected) continue;
        held[a] = malloc(((size_t)output->count + 1) * sizeof(double));
        enough = enough && held[a];
        for (int64_t e = 0; held[a] && e < output->count; e++) {
            uint64_t bits = fovea_read_bits(fovea_view_address(views[a], e), views[a]->dtype);
            memcpy(&held[a][e], &bits, sizeof bits);
        }
    }
    if (enough) bring_into_order(verification, held);
    return enough;
}

static void describe(const fovea_verification *verification, fovea_verdict *verdict) {
    const fovea_view *view = &verification->outputs[verdict->output].view;
    int64_t index[FOVEA_RANK_MAX], rest = verdict->number / fovea_dtype_parts(view->dtype);
    for (int i = view->rank - 1; i >= 0; i--) {
        index[i] = rest % view->shape[i];
        rest /= view->shape[i];
    }
    fovea_view place = {.rank = view->rank};
    memcpy(place.shape, index, sizeof index);
    char text[96], excess[48] = "no bound allows that";
    if (isfinite(verdict->share))
        snprintf(excess, sizeof excess, "%.3g of the bound %.3g", verdict->share, verdict->bound);
    snprintf(verdict->where, sizeof verdict->where, "%s%s is %.9g, expected %.9g: %s",
             verification->kernel->arguments[verdict->output].name,
             fovea_shape_text(&place, text, sizeof text), verdict->actual, verdict->expected,
             verdict->share == 0 ? "right" : excess);
}

/* Rows of transforms as wholes: norm2 of the error, for peers 64 times as much. A row that is free must
 * still tell that it is not finite. */
static void compare_norms(const fovea_verification *verification, int argument,
                          const fovea_view *view, fovea_verdict *verdict) {
    const expectation *output = &verification->outputs[argument];
    int64_t rows = output->norms ? output->count / output->row_values : 0;
    for (int64_t r = 0; r < rows; r++) {
        double square = 0, bound = output->norms[r];
        for (int64_t e = r * output->row_values; e < (r + 1) * output->row_values; e++) {
            double error = fovea_view_read(view, e) - output->expected[e];
            square += error * error;
        }
        double error = sqrt(square), share = error <= 0 ? 0 : error / bound;
        if (isnan(bound)) share = isfinite(error) ? INFINITY : 0;
        note_peer(isnan(bound) ? share : share / 64, error, 64 * bound, verdict);
        verdict->wrong += !(share <= 1);
        if (!(share > verdict->share) && verdict->output >= 0 && !isnan(share)) continue;
        verdict->share = isnan(share) ? INFINITY : share;
        verdict->error = error, verdict->bound = bound;
        verdict->output = argument, verdict->number = r * output->row_values;
        snprintf(verdict->where, sizeof verdict->where,
                 "norm2 of the error of %s's row %lld is %.3g, %.3g of the bound",
                 verification->kernel->arguments[argument].name, (long long)r, error, share);
    }
}

static void verify_exactly(const fovea_verification *verification, const fovea_view *outputs,
                           fovea_verdict *verdict) {
    const fovea_view *views[FOVEA_ARGUMENTS_MAX];
    double *held[FOVEA_ARGUMENTS_MAX] = {0};
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++)
        views[a] = outputs ? &outputs[a] : &verification->outputs[a].view;
    bool enough = !verification->kernel->canonical || hold_bits(verification, views, held);
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX && enough; a++) {
        if (verification->outputs[a].count == 0) continue;
        if (verification->outputs[a].bits)
            compare_all(compare_bits, verification, a, views[a], held[a], verdict);
        else if (verification->kernel->residual)
            judge_residual(verification, a, views[a], verdict);
        else
            compare_all(compare, verification, a, views[a], NULL, verdict);
    }
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) free(held[a]);
    verdict->wrong += !enough;
    if (verdict->output >= 0) describe(verification, verdict);
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX && enough; a++)
        if (verification->outputs[a].count > 0) compare_norms(verification, a, views[a], verdict);
    verdict->verified = verdict->wrong == 0;
    verdict->verified_as_peer = verdict->peer_share <= 1;
}

/* ---- Approximate attention ------------------------------------------------------------------ */

/* A figure beside its limit; the one nearest to it is kept, in words. */
static void weigh(fovea_verdict *verdict, int output, int64_t number, const char *what,
                  double error, double bound) {
    double share = error <= 0 ? 0 : bound > 0 ? error / bound : INFINITY;
    if (isnan(error)) share = INFINITY;
    verdict->wrong += !(share <= 1);
    if (verdict->output >= 0 && !(share > verdict->share)) return;
    verdict->share = verdict->peer_share = share;
    verdict->error = verdict->peer_error = error;
    verdict->bound = verdict->peer_bound = bound;
    verdict->output = output, verdict->number = number;
    snprintf(verdict->where, sizeof verdict->where, "%s is %.4g, at most %.4g is allowed", what,
             error, bound);
}

/* Elements that are NaN or infinite here or there are judged one by one, and left out of sums. */
static bool both_finite(const fovea_verification *verification, int argument,
                        const fovea_view *view, int64_t e, double *actual, fovea_verdict *verdict) {
    const expectation *output = &verification->outputs[argument];
    char what[96];
    *actual = fovea_view_read(view, output->numbers[e]);
    double expected = output->expected[e];
    if (isfinite(expected) && isfinite(*actual)) return true;
    double share = fovea_error_share(view->dtype, expected, *actual, 0, nan_is_accepted(output, e));
    snprintf(what, sizeof what, "%s element %lld, %g where %g is expected,",
             verification->kernel->arguments[argument].name, (long long)output->numbers[e], *actual,
             expected);
    weigh(verdict, argument, output->numbers[e], what, share, 1);
    return false;
}

static fovea_tally tally_row(const fovea_verification *verification, const fovea_view *view,
                             int64_t r, fovea_tally *all, fovea_verdict *verdict) {
    const expectation *out = &verification->outputs[FOVEA_ATTENTION_OUT];
    int64_t size = out->count / verification->row_count;
    fovea_tally row = {0};
    for (int64_t e = r * size; e < (r + 1) * size; e++) {
        double actual;
        if (!both_finite(verification, FOVEA_ATTENTION_OUT, view, e, &actual, verdict)) continue;
        fovea_tally_add(&row, out->expected[e], actual);
        fovea_tally_add(all, out->expected[e], actual);
    }
    return row;
}

/* What an element below the normal range of its dtype may lose. */
static double smallest_step(fovea_dtype dtype) { return dtype == FOVEA_F16 ? 0x1p-25 : 0x1p-126; }

/* What the rows have in common for the judgement of the whole. */
typedef struct rows_noise {
    double factor, value_error, value_square;
} rows_noise;

static void judge_rows(const fovea_verification *verification, const fovea_quality *quality,
                       const fovea_view *view, fovea_tally *all, rows_noise *noise,
                       fovea_verdict *verdict) {
    const expectation *out = &verification->outputs[FOVEA_ATTENTION_OUT];
    int64_t size = verification->row_count ? out->count / verification->row_count : 0;
    char what[96];
    for (int64_t r = 0; r < verification->row_count && size > 0; r++) {
        const fovea_quality_row *row = &verification->rows[r];
        fovea_tally tally = tally_row(verification, view, r, all, verdict);
        noise->factor = fmax(noise->factor, fovea_quality_factor(row));
        noise->value_error += row->value_error, noise->value_square += row->value_square;
        double limit = fovea_quality_row_error(quality->relative_l1, row, &tally) +
                       (double)tally.count * smallest_step(view->dtype);
        if (row->empty) limit = 0;
        snprintf(what, sizeof what, "the sum of errors of out's row from element %lld on",
                 (long long)out->numbers[r * size]);
        weigh(verdict, FOVEA_ATTENTION_OUT, out->numbers[r * size], what, tally.error, limit);
    }
}

static void judge_lses(const fovea_verification *verification, const fovea_quality *quality,
                       const fovea_view *view, fovea_verdict *verdict) {
    const expectation *lse = &verification->outputs[FOVEA_ATTENTION_LSE];
    char what[96];
    for (int64_t r = 0; r < lse->count; r++) {
        double actual, expected = lse->expected[r];
        if (!both_finite(verification, FOVEA_ATTENTION_LSE, view, r, &actual, verdict)) continue;
        snprintf(what, sizeof what, "the error of lse element %lld", (long long)lse->numbers[r]);
        weigh(verdict, FOVEA_ATTENTION_LSE, lse->numbers[r], what, fabs(actual - expected),
              fovea_quality_lse(quality->lse, &verification->rows[r], expected));
    }
}

/* An error of variance e^2 to an element x takes e^2 / (2 x^2) from the cosine, up to 2 where it turns its sign: six times its
 * part of x^2 is more than either. */
static void judge_whole(const fovea_quality *quality, const fovea_tally *all, fovea_dtype dtype,
                        const rows_noise *noise, fovea_verdict *verdict) {
    double step = smallest_step(dtype), count = (double)all->count;
    double lost = all->magnitude > 0 ? count * step / all->magnitude : 0;
    double square = all->expected_square > 0 ? count * step * step / all->expected_square : 0;
    double l1 = quality->relative_l1 * noise->factor;
    double cosine = (1 - quality->cosine) * noise->factor * noise->factor;
    if (all->magnitude > 0) l1 = fovea_quality_whole(l1, noise->value_error / all->magnitude);
    if (all->expected_square > 0)
        cosine = fovea_quality_whole(cosine, 6 * noise->value_square / all->expected_square);
    weigh(verdict, FOVEA_ATTENTION_OUT, 0, "the relative L1 difference of out",
          verdict->accuracy.relative_l1, l1 + lost);
    weigh(verdict, FOVEA_ATTENTION_OUT, 0, "1 - cosine of out", 1 - verdict->accuracy.cosine,
          cosine + square);
}

static const fovea_view *view_of(const fovea_verification *verification, const fovea_view *outputs,
                                 int argument) {
    return outputs ? &outputs[argument] : &verification->outputs[argument].view;
}

static void measure_accuracy(const fovea_verification *verification, const fovea_view *outputs,
                             fovea_verdict *verdict) {
    const expectation *out = &verification->outputs[FOVEA_ATTENTION_OUT];
    const fovea_view *view = view_of(verification, outputs, FOVEA_ATTENTION_OUT);
    fovea_tally all = {0};
    for (int64_t e = 0; e < out->count; e++) {
        double actual = fovea_view_read(view, out->numbers[e]);
        if (isfinite(actual) && isfinite(out->expected[e]))
            fovea_tally_add(&all, out->expected[e], actual);
    }
    verdict->accuracy = fovea_tally_accuracy(&all);
}

void fovea_verify_quality(const fovea_verification *verification, const fovea_quality *quality,
                          const fovea_view *outputs, fovea_verdict *verdict) {
    fovea_tally all = {0};
    rows_noise noise = {.factor = 1};
    *verdict = (fovea_verdict){.output = -1};
    judge_rows(verification, quality, view_of(verification, outputs, FOVEA_ATTENTION_OUT), &all,
               &noise, verdict);
    if (verification->outputs[FOVEA_ATTENTION_LSE].count > 0)
        judge_lses(verification, quality, view_of(verification, outputs, FOVEA_ATTENTION_LSE),
                   verdict);
    verdict->accuracy = fovea_tally_accuracy(&all);
    judge_whole(quality, &all, verification->outputs[FOVEA_ATTENTION_OUT].view.dtype, &noise,
                verdict);
    verdict->compared = verification->outputs[FOVEA_ATTENTION_OUT].count +
                        verification->outputs[FOVEA_ATTENTION_LSE].count;
    verdict->verified = verdict->verified_as_peer = verdict->wrong == 0;
}

int64_t fovea_verification_written(const fovea_verification *verification, int argument) {
    const expectation *output = &verification->outputs[argument];
    return output->numbers ? fovea_view_values(&output->view) : output->count;
}

void fovea_verify(const fovea_verification *verification, const fovea_view *outputs,
                  fovea_verdict *verdict) {
    if (verification->approximate) {
        fovea_verify_quality(verification, &verification->quality, outputs, verdict);
        return;
    }
    *verdict = (fovea_verdict){.output = -1};
    verify_exactly(verification, outputs, verdict);
    if (verification->rows) measure_accuracy(verification, outputs, verdict);
}
