/* The comparison of outputs with the reference. */
#include "bench_verify.h"

#include "bench_statistics.h"
#include "catalogue/attention.h"
#include "reference/attention.h"
#include "reference/reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SAMPLED_ROWS = 64, POISON_RUN = 16 };

/* ---- What is expected ----------------------------------------------------------------------- */

static bool add_output(fovea_expectation *expectation, int argument, int64_t count, bool sampled) {
    fovea_expected_output *output = &expectation->outputs[expectation->output_count++];
    size_t size = (size_t)(count ? count : 1);
    *output = (fovea_expected_output){.argument = argument, .count = count};
    output->values = malloc(size * sizeof *output->values);
    output->bounds = calloc(size, sizeof *output->bounds);
    if (sampled) output->elements = malloc(size * sizeof *output->elements);
    return output->values && output->bounds && (!sampled || output->elements);
}

void fovea_expectation_destroy(fovea_expectation *expectation) {
    for (int i = 0; i < expectation->output_count; i++) {
        free(expectation->outputs[i].elements);
        free(expectation->outputs[i].values);
        free(expectation->outputs[i].bounds);
    }
    expectation->output_count = 0;
}

typedef struct sampled_row {
    int64_t number; /* (b Hq + h) Sq + i */
    fovea_attention_error error;
    double *out; /* Dv values */
} sampled_row;

/* The reference of one row; false if memory is short. */
static bool expect_row(const fovea_attention_call *call, sampled_row *row) {
    int64_t i = row->number % call->query_length, above = row->number / call->query_length;
    int64_t head = above % call->query_heads;
    fovea_sequence sequence = fovea_attention_sequence(call, above / call->query_heads);
    double *scores = malloc((size_t)(sequence.key_count + 1) * sizeof *scores);
    if (!scores) return false;
    fovea_reference_attention_row(call, &sequence, head, i, scores, row->out, NULL);
    row->error = fovea_reference_attention_error(call, &sequence, head, scores, row->out);
    free(scores);
    return true;
}

/* Rows at the ends, where causal masks and tails are, and the rest spread at random. */
static void choose_rows(sampled_row *rows, int count, int64_t all, uint64_t seed) {
    uint64_t state = seed;
    for (int r = 0; r < count; r++) {
        rows[r].number = all <= SAMPLED_ROWS ? r : (int64_t)(fovea_random_next(&state) % (uint64_t)all);
        if (all > SAMPLED_ROWS && r == 0) rows[r].number = 0;
        if (all > SAMPLED_ROWS && r == 1) rows[r].number = all - 1;
    }
}

static bool expect_attention(const fovea_sample *sample, fovea_expectation *expectation) {
    fovea_attention_call call;
    sampled_row rows[SAMPLED_ROWS];
    fovea_attention_describe(&sample->problem, &call);
    int64_t all = call.batch * call.query_heads * call.query_length, size = call.value_size;
    int count = all < SAMPLED_ROWS ? (int)all : SAMPLED_ROWS;
    bool good = add_output(expectation, FOVEA_ATTENTION_OUT, count * size, true);
    fovea_expected_output *output = &expectation->outputs[expectation->output_count - 1];
    double textbook = 0;
    if (!good) return false;
    choose_rows(rows, count, all, sample->c->seed + 1);
#pragma omp parallel for schedule(dynamic) reduction(&& : good) reduction(max : textbook)
    for (int r = 0; r < count; r++) {
        rows[r].out = output->values + r * size;
        good = expect_row(&call, &rows[r]) && good;
        textbook = fmax(textbook, rows[r].error.textbook);
    }
    for (int64_t e = 0; e < count * size; e++) {
        const sampled_row *row = &rows[e / size];
        output->elements[e] = row->number * size + e % size;
        output->bounds[e] =
            fovea_attention_out_bound(&call, output->values[e], &row->error, textbook);
    }
    return good;
}

static bool expect_all(const fovea_sample *sample, fovea_expectation *expectation) {
    const fovea_problem *problem = &sample->problem;
    double *outputs[FOVEA_ARGUMENTS_MAX];
    bool good = fovea_reference_run(problem, outputs);
    for (int a = 0; good && a < FOVEA_ARGUMENTS_MAX; a++) {
        if (!outputs[a]) continue;
        int64_t count = fovea_view_elements(&problem->views[a]);
        good = add_output(expectation, a, count, false);
        fovea_expected_output *output = &expectation->outputs[expectation->output_count - 1];
        free(output->values);
        output->values = outputs[a];
        outputs[a] = NULL;
        if (good && problem->kernel->bound)
            problem->kernel->bound(problem, a, output->values, output->bounds);
        /* What is exact is compared with the value as the output can hold it. */
        for (int64_t i = 0; good && !problem->kernel->bound && i < count; i++)
            output->values[i] = fovea_round_to(problem->views[a].dtype, output->values[i]);
    }
    return good;
}

fovea_status fovea_expectation_create(const fovea_sample *sample, fovea_expectation *expectation,
                                      fovea_message *message) {
    bool attention = strcmp(sample->problem.kernel->name, "attention") == 0;
    *expectation = (fovea_expectation){0};
    bool dense = attention && sample->problem.views[FOVEA_ATTENTION_OUT].rank == 4 &&
                 fovea_problem_parameter(&sample->problem, "layout") == 0 &&
                 !fovea_given(&sample->problem, FOVEA_ATTENTION_LSE);
    if (dense ? expect_attention(sample, expectation) : expect_all(sample, expectation))
        return FOVEA_OK;
    fovea_expectation_destroy(expectation);
    return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no memory for the reference");
}

/* ---- The comparison ------------------------------------------------------------------------- */

static double peer_bound(fovea_dtype dtype, double expected, double bound) {
    bool half = dtype == FOVEA_F16 || dtype == FOVEA_BF16;
    return fmax((half ? 4 : 64) * bound, 1e-5 * fmax(fabs(expected), 1e-2));
}

static void blame(fovea_verdict *verdict, const fovea_sample *sample, int argument, int64_t element,
                  const char *format, double actual, double expected, double bound) {
    char what[128];
    if (!verdict->right) return;
    verdict->right = false;
    snprintf(what, sizeof what, format, actual, expected, bound);
    snprintf(verdict->reason, sizeof verdict->reason, "%s[%lld] %s",
             sample->problem.kernel->arguments[argument].name, (long long)element, what);
}

static void compare_element(const fovea_expected_output *output, const fovea_sample *sample,
                            int64_t i, bool peer, double *worst, fovea_verdict *verdict) {
    const fovea_view *view = &sample->problem.views[output->argument];
    int64_t element = output->elements ? output->elements[i] : i;
    double actual = fovea_view_read(view, element), expected = output->values[i];
    double own = output->bounds[i];
    double bound = peer ? peer_bound(view->dtype, expected, own) : own;
    double error = fabs(actual - expected);
    if (actual == expected || (isnan(actual) && isnan(expected))) error = 0;
    double share = error == 0 ? 0 : isnan(error) ? INFINITY : error / bound;
    verdict->within_catalogue &= error <= own;
    if (share > *worst || (*worst == 0 && bound > verdict->bound)) {
        *worst = share;
        verdict->error = error;
        verdict->bound = bound;
    }
    if (!(error <= bound))
        blame(verdict, sample, output->argument, element, "is %.8g, not %.8g within %.2g", actual,
              expected, bound);
}

/* Elements that were left as they were poisoned, and values that cannot be, over the whole output. */
static void check_whole(const fovea_expected_output *output, const fovea_sample *sample,
                        fovea_verdict *verdict) {
    const fovea_view *view = &sample->problem.views[output->argument];
    size_t size = fovea_dtype_size(view->dtype);
    int64_t count = fovea_view_elements(view), run = 0;
    bool finite = true;
    for (int64_t i = 0; i < output->count && finite; i++) finite = isfinite(output->values[i]);
    if (!fovea_view_is_contiguous(view)) return;
    for (int64_t i = 0; i < count && verdict->right; i++) {
        const unsigned char *bytes = (const unsigned char *)view->data + (size_t)i * size;
        bool poison = true;
        for (size_t b = 0; b < size && poison; b++) poison = bytes[b] == 0xA5;
        run = poison ? run + 1 : 0;
        if (run >= POISON_RUN)
            blame(verdict, sample, output->argument, i, "was not written", 0, 0, 0);
        if (finite && fovea_dtype_is_float(view->dtype)) {
            double value = fovea_read_element(bytes, view->dtype);
            if (!isfinite(value))
                blame(verdict, sample, output->argument, i, "is %g", value, 0, 0);
        }
    }
}

fovea_verdict fovea_expectation_compare(const fovea_expectation *expectation,
                                        const fovea_sample *sample, bool peer) {
    fovea_verdict verdict = {.right = true, .within_catalogue = true};
    double worst = 0;
    for (int o = 0; o < expectation->output_count; o++) {
        const fovea_expected_output *output = &expectation->outputs[o];
        for (int64_t i = 0; i < output->count; i++)
            compare_element(output, sample, i, peer, &worst, &verdict);
        check_whole(output, sample, &verdict);
    }
    return verdict;
}
