/* The double-precision reference of attention: closed forms, cases by hand, and properties that any
 * attention has. What it computes is compared with NumPy's in tests/python. */
#include "catalogue/attention.h"
#include "catalogue/bounds.h"
#include "catalogue/case.h"
#include "reference/reference.h"
#include "test.h"
#include "verify.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct run {
    fovea_case c;
    fovea_sample sample;
    double *outputs[FOVEA_ARGUMENTS_MAX];
} run;

/* Builds a case from its words; contents may be changed before `compute`. */
static void begin_kernel(run *r, const char *kernel, const char *text) {
    fovea_message message;
    memset(r, 0, sizeof *r);
    fovea_case_begin(&r->c, fovea_catalogue_find(kernel));
    fovea_status status = fovea_case_parse(&r->c, text, 0, &message);
    if (status == FOVEA_OK) status = fovea_case_complete(&r->c, &message);
    if (status == FOVEA_OK) status = fovea_sample_create(&r->c, NULL, &r->sample, &message);
    if (status != FOVEA_OK) fail_msg("%s: %s", text, message.text);
}

static void begin(run *r, const char *text) { begin_kernel(r, "attention", text); }

static void compute(run *r) { assert_true(fovea_reference_run(&r->sample.problem, r->outputs)); }

static void start(run *r, const char *text) {
    begin(r, text);
    compute(r);
}

static void end(run *r) {
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) free(r->outputs[a]);
    fovea_sample_destroy(&r->sample);
}

static float *data(run *r, int argument) { return r->sample.storage[argument]; }
static double *out(run *r) { return r->outputs[FOVEA_ATTENTION_OUT]; }
static double *lse(run *r) { return r->outputs[FOVEA_ATTENTION_LSE]; }
static int64_t elements(run *r, int argument) {
    return fovea_view_elements(&r->sample.problem.views[argument]);
}

static void fill(run *r, int argument, float value) {
    for (int64_t i = 0; i < elements(r, argument); i++) data(r, argument)[i] = value;
}

static void copy(run *r, int argument, const float *from) {
    memcpy(data(r, argument), from, (size_t)elements(r, argument) * sizeof(float));
}

static void assert_close(double actual, double expected, double tolerance) {
    if (actual == expected || fabs(actual - expected) <= tolerance) return;
    fail_msg("%.17g, not %.17g (%g allowed)", actual, expected, tolerance);
}

static void assert_all_close(const double *actual, const double *expected, int64_t count,
                             double tolerance) {
    for (int64_t i = 0; i < count; i++) assert_close(actual[i], expected[i], tolerance);
}

/* ---- Closed forms --------------------------------------------------------------------------- */

static void uniform_scores_give_the_mean_of_the_values(void **state) {
    (void)state;
    run r;
    begin(&r, "hq=1,sq=2,sk=5,d=4,dv=3,lse=1");
    fill(&r, FOVEA_ATTENTION_Q, 0);
    compute(&r);
    for (int d = 0; d < 3; d++) {
        double mean = 0;
        for (int j = 0; j < 5; j++) mean += (double)data(&r, FOVEA_ATTENTION_V)[j * 3 + d] / 5;
        assert_close(out(&r)[d], mean, 1e-15);
    }
    assert_close(lse(&r)[1], log(5), 1e-15);
    end(&r);
}

static void one_key_gives_its_value(void **state) {
    (void)state;
    run r;
    start(&r, "hq=2,sq=3,sk=1,d=8,lse=1");
    const float *q = data(&r, FOVEA_ATTENTION_Q), *k = data(&r, FOVEA_ATTENTION_K);
    for (int h = 0; h < 2; h++)
        for (int i = 0; i < 3; i++) {
            double score = 0;
            for (int d = 0; d < 8; d++) {
                score += (double)q[(h * 3 + i) * 8 + d] * (double)k[h * 8 + d] / sqrt(8);
                assert_close(out(&r)[(h * 3 + i) * 8 + d],
                             (double)data(&r, FOVEA_ATTENTION_V)[h * 8 + d], 1e-15);
            }
            assert_close(lse(&r)[h * 3 + i], score, 1e-14);
        }
    end(&r);
}

/* Scores 0 and ln 2 weigh 1 : 2; twice that, 1 : 4. */
static void two_by_two_by_hand(void **state) {
    (void)state;
    run r;
    begin(&r, "hq=1,sq=2,sk=2,d=1,lse=1,scale=1");
    copy(&r, FOVEA_ATTENTION_Q, (const float[]){1, 2});
    copy(&r, FOVEA_ATTENTION_K, (const float[]){0, (float)log(2)});
    copy(&r, FOVEA_ATTENTION_V, (const float[]){1, 4});
    compute(&r);
    assert_close(out(&r)[0], 3, 1e-7);
    assert_close(out(&r)[1], 17.0 / 5, 1e-7);
    assert_close(lse(&r)[0], log(3), 1e-7);
    assert_close(lse(&r)[1], log(5), 1e-7);
    end(&r);
}

static void the_default_scale_is_one_over_the_root_of_the_head_size(void **state) {
    (void)state;
    run standard, given;
    start(&standard, "hq=1,sq=3,sk=5,d=16");
    start(&given, "hq=1,sq=3,sk=5,d=16,scale=0.25");
    assert_all_close(out(&standard), out(&given), 48, 0);
    end(&standard), end(&given);
}

static void softcap_bends_the_scores(void **state) {
    (void)state;
    run r;
    begin(&r, "hq=1,sq=1,sk=1,d=1,scale=1,softcap=5,lse=1");
    copy(&r, FOVEA_ATTENTION_Q, (const float[]){3});
    copy(&r, FOVEA_ATTENTION_K, (const float[]){4});
    compute(&r);
    assert_close(lse(&r)[0], 5 * tanh(12.0 / 5), 1e-14);
    end(&r);
}

static void slopes_add_a_slope_times_the_distance(void **state) {
    (void)state;
    run r;
    begin(&r, "hq=2,sq=3,sk=4,d=2,slopes=1,lse=1,causal=bottom_right");
    fill(&r, FOVEA_ATTENTION_Q, 0);
    copy(&r, FOVEA_ATTENTION_SLOPES, (const float[]){0.5f, 0.25f});
    compute(&r);
    for (int h = 0; h < 2; h++)
        for (int i = 0; i < 3; i++) {
            double sum = 0;
            for (int j = 0; j <= i + 1; j++) sum += exp((h ? 0.25 : 0.5) * (j - (i + 1)));
            assert_close(lse(&r)[h * 3 + i], log(sum), 1e-14);
        }
    end(&r);
}

static void a_sink_joins_the_denominator_only(void **state) {
    (void)state;
    run r;
    begin(&r, "hq=1,sq=1,sk=1,d=2,sinks=1,lse=1");
    fill(&r, FOVEA_ATTENTION_Q, 0);
    fill(&r, FOVEA_ATTENTION_SINKS, 0);
    compute(&r);
    for (int d = 0; d < 2; d++)
        assert_close(out(&r)[d], (double)data(&r, FOVEA_ATTENTION_V)[d] / 2, 1e-15);
    assert_close(lse(&r)[0], log(2), 1e-15);
    end(&r);
}

static void biases_are_added_after_the_scale(void **state) {
    (void)state;
    run r;
    begin(&r, "hq=1,sq=1,sk=2,d=1,scale=0.5,bias=1,lse=1");
    copy(&r, FOVEA_ATTENTION_Q, (const float[]){2});
    copy(&r, FOVEA_ATTENTION_K, (const float[]){1, 3});
    copy(&r, FOVEA_ATTENTION_BIAS, (const float[]){0.5f, -1});
    compute(&r);
    assert_close(lse(&r)[0], log(exp(1.5) + exp(2)), 1e-14);
    end(&r);
}

/* ---- Properties ----------------------------------------------------------------------------- */

static void the_order_of_keys_does_not_matter(void **state) {
    (void)state;
    run a, b;
    start(&a, "b=2,hq=2,sq=5,sk=9,d=8,lse=1");
    begin(&b, "b=2,hq=2,sq=5,sk=9,d=8,lse=1");
    for (int argument = FOVEA_ATTENTION_K; argument <= FOVEA_ATTENTION_V; argument++)
        for (int head = 0; head < 4; head++)
            for (int j = 0; j < 9; j++)
                memcpy(data(&b, argument) + (head * 9 + 8 - j) * 8,
                       data(&a, argument) + (head * 9 + j) * 8, 8 * sizeof(float));
    compute(&b);
    assert_all_close(out(&b), out(&a), elements(&a, FOVEA_ATTENTION_OUT), 1e-14);
    assert_all_close(lse(&b), lse(&a), elements(&a, FOVEA_ATTENTION_LSE), 1e-14);
    end(&a), end(&b);
}

static void shifting_all_scores_shifts_the_lse_alone(void **state) {
    (void)state;
    run a, b;
    start(&a, "hq=2,sq=5,sk=9,d=8,lse=1");
    begin(&b, "hq=2,sq=5,sk=9,d=8,lse=1,bias=1");
    fill(&b, FOVEA_ATTENTION_BIAS, 3.5f);
    compute(&b);
    assert_all_close(out(&b), out(&a), elements(&a, FOVEA_ATTENTION_OUT), 1e-14);
    for (int i = 0; i < 10; i++) assert_close(lse(&b)[i], lse(&a)[i] + 3.5, 1e-14);
    end(&a), end(&b);
}

static void doubling_the_values_doubles_the_result(void **state) {
    (void)state;
    run a, b;
    start(&a, "hq=2,sq=5,sk=9,d=8");
    begin(&b, "hq=2,sq=5,sk=9,d=8");
    for (int i = 0; i < 2 * 9 * 8; i++) data(&b, FOVEA_ATTENTION_V)[i] *= 2;
    compute(&b);
    for (int i = 0; i < 2 * 5 * 8; i++) assert_close(out(&b)[i], 2 * out(&a)[i], 0);
    end(&a), end(&b);
}

/* The first 6 and the last 7 of 13 keys, merged. Partial results are rounded to f32. */
static void parts_merge_into_the_whole(void **state) {
    (void)state;
    run whole, part, merged;
    start(&whole, "hq=3,sq=4,sk=13,d=8,lse=1");
    begin_kernel(&merged, "attention_merge", "p=2,b=1,hq=3,sq=4,dv=8,lse=1");
    for (int p = 0; p < 2; p++) {
        int first = p ? 6 : 0, count = p ? 7 : 6;
        begin(&part, p ? "hq=3,sq=4,sk=7,d=8,lse=1" : "hq=3,sq=4,sk=6,d=8,lse=1");
        copy(&part, FOVEA_ATTENTION_Q, data(&whole, FOVEA_ATTENTION_Q));
        for (int argument = FOVEA_ATTENTION_K; argument <= FOVEA_ATTENTION_V; argument++)
            for (int h = 0; h < 3; h++)
                memcpy(data(&part, argument) + h * count * 8,
                       data(&whole, argument) + (h * 13 + first) * 8,
                       (size_t)count * 8 * sizeof(float));
        compute(&part);
        for (int i = 0; i < 12 * 8; i++) data(&merged, 0)[p * 12 * 8 + i] = (float)out(&part)[i];
        for (int i = 0; i < 12; i++) data(&merged, 1)[p * 12 + i] = (float)lse(&part)[i];
        end(&part);
    }
    compute(&merged);
    assert_all_close(merged.outputs[2], out(&whole), 12 * 8, 1e-6);
    assert_all_close(merged.outputs[3], lse(&whole), 12, 1e-6);
    end(&whole), end(&merged);
}

static void empty_parts_count_nothing_in_a_merge(void **state) {
    (void)state;
    run r;
    begin_kernel(&r, "attention_merge", "p=3,b=1,hq=1,sq=2,dv=2,lse=1");
    copy(&r, 0, (const float[]){NAN, NAN, 1, 2, 3, 4, 5, 6, NAN, NAN, 7, 8});
    copy(&r, 1, (const float[]){-INFINITY, -INFINITY, 0, -INFINITY, -INFINITY, -INFINITY});
    compute(&r);
    assert_all_close(r.outputs[2], (const double[]){3, 4, 0, 0}, 4, 0);
    assert_all_close(r.outputs[3], (const double[]){0, -INFINITY}, 2, 0);
    end(&r);
}

/* ---- Masks and positions --------------------------------------------------------------------- */

/* Row i of a masked run equals a run over the keys [first, end) alone. */
static void assert_row_attends(run *masked, int row, int rows, int keys, int first, int end_key) {
    run r;
    char text[80];
    snprintf(text, sizeof text, "hq=1,sq=%d,sk=%d,d=4,lse=1", rows, end_key - first);
    begin(&r, text);
    copy(&r, FOVEA_ATTENTION_Q, data(masked, FOVEA_ATTENTION_Q));
    copy(&r, FOVEA_ATTENTION_K, data(masked, FOVEA_ATTENTION_K) + first * 4);
    copy(&r, FOVEA_ATTENTION_V, data(masked, FOVEA_ATTENTION_V) + first * 4);
    compute(&r);
    assert_in_range(end_key, 0, keys);
    assert_all_close(out(masked) + row * 4, out(&r) + row * 4, 4, 1e-14);
    assert_close(lse(masked)[row], lse(&r)[row], 1e-14);
    end(&r);
}

static void causal_rows_attend_what_their_alignment_says(void **state) {
    (void)state;
    run top, bottom;
    start(&top, "hq=1,sq=4,sk=7,d=4,lse=1,causal=top_left");
    start(&bottom, "hq=1,sq=4,sk=7,d=4,lse=1,causal=bottom_right");
    for (int i = 0; i < 4; i++) {
        assert_row_attends(&top, i, 4, 7, 0, i + 1);
        assert_row_attends(&bottom, i, 4, 7, 0, i + 4);
    }
    end(&top), end(&bottom);
}

static void rows_without_keys_are_zero(void **state) {
    (void)state;
    run r;
    start(&r, "hq=1,sq=5,sk=2,d=4,lse=1,causal=bottom_right");
    for (int i = 0; i < 3; i++) {
        for (int d = 0; d < 4; d++) assert_close(out(&r)[i * 4 + d], 0, 0);
        assert_close(lse(&r)[i], -INFINITY, 0);
    }
    assert_row_attends(&r, 3, 5, 2, 0, 1);
    assert_row_attends(&r, 4, 5, 2, 0, 2);
    end(&r);
}

static void rows_without_keys_keep_their_sink(void **state) {
    (void)state;
    run r;
    begin(&r, "hq=1,sq=2,sk=3,d=4,lse=1,sinks=1,mask=1");
    fill(&r, FOVEA_ATTENTION_SINKS, 1.25f);
    memset(r.sample.storage[FOVEA_ATTENTION_MASK], 0, r.sample.bytes[FOVEA_ATTENTION_MASK]);
    compute(&r);
    for (int i = 0; i < 8; i++) assert_close(out(&r)[i], 0, 0);
    for (int i = 0; i < 2; i++) assert_close(lse(&r)[i], 1.25, 0);
    end(&r);
}

static void scores_of_minus_infinity_are_no_keys(void **state) {
    (void)state;
    run r;
    begin(&r, "hq=1,sq=2,sk=3,d=4,lse=1,bias=1");
    fill(&r, FOVEA_ATTENTION_BIAS, -INFINITY);
    compute(&r);
    for (int i = 0; i < 8; i++) assert_close(out(&r)[i], 0, 0);
    assert_close(lse(&r)[0], -INFINITY, 0);
    end(&r);
}

static void windows_bound_both_sides(void **state) {
    (void)state;
    run r;
    start(&r, "hq=1,sq=6,sk=8,d=4,lse=1,window_left=2,window_right=1,query_offset=1");
    for (int i = 0; i < 6; i++) {
        int first = i + 1 - 2 < 0 ? 0 : i + 1 - 2, last = i + 1 + 1 > 7 ? 7 : i + 1 + 1;
        assert_row_attends(&r, i, 6, 8, first, last + 1);
    }
    end(&r);
}

static void true_in_a_mask_means_may_attend(void **state) {
    (void)state;
    run r;
    begin(&r, "hq=1,sq=3,sk=5,d=4,lse=1,mask=1");
    unsigned char *mask = r.sample.storage[FOVEA_ATTENTION_MASK];
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 5; j++) mask[i * 5 + j] = j >= i && j < i + 2;
    compute(&r);
    for (int i = 0; i < 3; i++) assert_row_attends(&r, i, 3, 5, i, i + 2);
    end(&r);
}

static void grouped_heads_share_keys(void **state) {
    (void)state;
    run grouped, repeated;
    start(&grouped, "b=2,hq=6,hkv=2,sq=3,sk=5,d=4,lse=1");
    begin(&repeated, "b=2,hq=6,hkv=6,sq=3,sk=5,d=4,lse=1");
    copy(&repeated, FOVEA_ATTENTION_Q, data(&grouped, FOVEA_ATTENTION_Q));
    for (int argument = FOVEA_ATTENTION_K; argument <= FOVEA_ATTENTION_V; argument++)
        for (int b = 0; b < 2; b++)
            for (int h = 0; h < 6; h++)
                memcpy(data(&repeated, argument) + (b * 6 + h) * 20,
                       data(&grouped, argument) + (b * 2 + h / 3) * 20, 20 * sizeof(float));
    compute(&repeated);
    assert_all_close(out(&grouped), out(&repeated), 2 * 6 * 3 * 4, 0);
    assert_all_close(lse(&grouped), lse(&repeated), 2 * 6 * 3, 0);
    end(&grouped), end(&repeated);
}

static void layouts_are_the_same_attention(void **state) {
    (void)state;
    run heads_first, heads_inside;
    start(&heads_first, "b=2,hq=3,sq=4,sk=5,d=4,dv=6,causal=top_left,lse=1");
    begin(&heads_inside, "b=2,hq=3,sq=4,sk=5,d=4,dv=6,causal=top_left,lse=1,layout=bshd");
    const int lengths[] = {4, 5, 5}, sizes[] = {4, 4, 6};
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 2; b++)
            for (int h = 0; h < 3; h++)
                for (int s = 0; s < lengths[a]; s++)
                    memcpy(data(&heads_inside, a) + ((b * lengths[a] + s) * 3 + h) * sizes[a],
                           data(&heads_first, a) + ((b * 3 + h) * lengths[a] + s) * sizes[a],
                           (size_t)sizes[a] * sizeof(float));
    compute(&heads_inside);
    for (int b = 0; b < 2; b++)
        for (int h = 0; h < 3; h++)
            for (int s = 0; s < 4; s++)
                assert_all_close(out(&heads_inside) + ((b * 4 + s) * 3 + h) * 6,
                                 out(&heads_first) + ((b * 3 + h) * 4 + s) * 6, 6, 0);
    assert_all_close(lse(&heads_inside), lse(&heads_first), 24, 0);
    end(&heads_first), end(&heads_inside);
}

/* ---- Ragged batches and pages ---------------------------------------------------------------- */

static void ragged_batches_are_separate_calls(void **state) {
    (void)state;
    run ragged, one;
    start(&ragged, "b=5,hq=4,hkv=2,sq=8,sk=12,d=4,lse=1,cu_seqlens_q=1,cu_seqlens_k=1,"
                   "causal=bottom_right");
    const int32_t *q_starts = ragged.sample.storage[FOVEA_ATTENTION_CU_SEQLENS_Q];
    const int32_t *k_starts = ragged.sample.storage[FOVEA_ATTENTION_CU_SEQLENS_K];
    for (int b = 0; b < 5; b++) {
        int rows = q_starts[b + 1] - q_starts[b], keys = k_starts[b + 1] - k_starts[b];
        char text[120];
        snprintf(text, sizeof text,
                 "hq=4,hkv=2,sq=%d,sk=%d,d=4,lse=1,layout=bshd,causal=bottom_right", rows, keys);
        begin(&one, text);
        copy(&one, FOVEA_ATTENTION_Q, data(&ragged, FOVEA_ATTENTION_Q) + q_starts[b] * 16);
        copy(&one, FOVEA_ATTENTION_K, data(&ragged, FOVEA_ATTENTION_K) + k_starts[b] * 8);
        copy(&one, FOVEA_ATTENTION_V, data(&ragged, FOVEA_ATTENTION_V) + k_starts[b] * 8);
        compute(&one);
        assert_all_close(out(&ragged) + q_starts[b] * 16, out(&one), rows * 16, 0);
        for (int h = 0; h < 4; h++)
            assert_all_close(lse(&ragged) + h * q_starts[5] + q_starts[b], lse(&one) + h * rows,
                             rows, 0);
        end(&one);
    }
    end(&ragged);
}

static void pages_are_contiguous_keys(void **state) {
    (void)state;
    enum { PAGE = 4, HEADS = 2, SIZE = 4, ROOM = 12 };
    run paged, plain;
    start(&paged, "b=4,hq=4,hkv=2,sq=3,sk=12,d=4,page=4,block_table=1,seqused_k=1,lse=1,"
                  "causal=bottom_right");
    begin(&plain, "b=4,hq=4,hkv=2,sq=3,sk=12,d=4,seqused_k=1,lse=1,causal=bottom_right");
    copy(&plain, FOVEA_ATTENTION_Q, data(&paged, FOVEA_ATTENTION_Q));
    const int32_t *table = paged.sample.storage[FOVEA_ATTENTION_BLOCK_TABLE];
    const int32_t *used = paged.sample.storage[FOVEA_ATTENTION_SEQUSED_K];
    int32_t *lengths = plain.sample.storage[FOVEA_ATTENTION_SEQUSED_K];
    for (int argument = FOVEA_ATTENTION_K; argument <= FOVEA_ATTENTION_V; argument++) {
        fill(&plain, argument, NAN); /* beyond the length nothing is read */
        for (int b = 0; b < 4; b++)
            for (int j = 0; j < used[b]; j++)
                for (int h = 0; h < HEADS; h++) {
                    int page = table[b * (ROOM / PAGE) + j / PAGE];
                    memcpy(data(&plain, argument) + ((b * HEADS + h) * ROOM + j) * SIZE,
                           data(&paged, argument) + ((page * PAGE + j % PAGE) * HEADS + h) * SIZE,
                           SIZE * sizeof(float));
                }
    }
    for (int b = 0; b < 4; b++) lengths[b] = used[b];
    compute(&plain);
    assert_all_close(out(&paged), out(&plain), elements(&paged, FOVEA_ATTENTION_OUT), 0);
    assert_all_close(lse(&paged), lse(&plain), elements(&paged, FOVEA_ATTENTION_LSE), 0);
    end(&paged), end(&plain);
}

/* ---- Dropout -------------------------------------------------------------------------------- */

static void dropout_drops_what_philox_says(void **state) {
    (void)state;
    enum { ROWS = 3, KEYS = 10, SIZE = 4, HEADS = 2, BATCH = 2 };
    run r;
    start(&r, "b=2,hq=2,sq=3,sk=10,d=4,dropout=0.25,seed=123456789012,dropout_offset=7,lse=1");
    const uint32_t key[2] = {(uint32_t)123456789012, (uint32_t)(123456789012 >> 32)};
    int kept = 0;
    for (int b = 0; b < BATCH; b++)
        for (int h = 0; h < HEADS; h++)
            for (int i = 0; i < ROWS; i++) {
                int head = b * HEADS + h;
                double expected[SIZE] = {0}, total = 0;
                for (int j = 0; j < KEYS; j++) {
                    const float *q = data(&r, FOVEA_ATTENTION_Q) + (head * ROWS + i) * SIZE;
                    const float *k = data(&r, FOVEA_ATTENTION_K) + (head * KEYS + j) * SIZE;
                    const float *v = data(&r, FOVEA_ATTENTION_V) + (head * KEYS + j) * SIZE;
                    double s = 0;
                    for (int d = 0; d < SIZE; d++) s += 0.5 * (double)q[d] * (double)k[d];
                    uint32_t words[4];
                    const uint32_t counter[4] = {(uint32_t)j / 4, (uint32_t)i, (uint32_t)head, 7};
                    fovea_philox(counter, key, words);
                    bool keep = (words[j % 4] >> 8) * 0x1p-24 < 0.75;
                    kept += keep;
                    total += exp(s);
                    for (int d = 0; d < SIZE; d++)
                        expected[d] += keep ? exp(s) * (double)v[d] / 0.75 : 0;
                }
                for (int d = 0; d < SIZE; d++)
                    assert_close(out(&r)[(head * ROWS + i) * SIZE + d], expected[d] / total, 1e-14);
                assert_close(lse(&r)[head * ROWS + i], log(total), 1e-14);
            }
    assert_in_range(kept, 70, 110); /* of 120, 90 expected */
    end(&r);
}

/* ---- NaN, and nothing at all ----------------------------------------------------------------- */

static void nan_in_a_query_stays_in_its_row(void **state) {
    (void)state;
    run clean, r;
    start(&clean, "hq=1,sq=4,sk=5,d=4");
    begin(&r, "hq=1,sq=4,sk=5,d=4");
    data(&r, FOVEA_ATTENTION_Q)[2 * 4 + 1] = NAN;
    compute(&r);
    for (int i = 0; i < 4; i++)
        for (int d = 0; d < 4; d++) {
            if (i == 2)
                assert_true(isnan(out(&r)[i * 4 + d]));
            else
                assert_close(out(&r)[i * 4 + d], out(&clean)[i * 4 + d], 0);
        }
    end(&clean), end(&r);
}

static void nothing_is_valid(void **state) {
    (void)state;
    const char *const empties[] = {"b=0,hq=2,sq=3,d=4,lse=1", "hq=0,sq=3,d=4,lse=1",
                                   "hq=2,sq=0,sk=3,d=4,lse=1", "hq=2,sq=3,d=4,dv=0,lse=1"};
    run r;
    for (size_t i = 0; i < sizeof empties / sizeof *empties; i++) {
        start(&r, empties[i]);
        assert_int_equal(elements(&r, FOVEA_ATTENTION_OUT), 0);
        end(&r);
    }
    start(&r, "hq=2,sq=3,sk=0,d=4,lse=1");
    for (int i = 0; i < 2 * 3 * 4; i++) assert_close(out(&r)[i], 0, 0);
    for (int i = 0; i < 2 * 3; i++) assert_close(lse(&r)[i], -INFINITY, 0);
    end(&r);
    start(&r, "hq=1,sq=1,sk=2,d=0,dv=2,lse=1");
    assert_close(lse(&r)[0], log(2), 1e-15);
    end(&r);
}

/* ---- Bounds --------------------------------------------------------------------------------- */

static void the_bound_is_the_stated_formula(void **state) {
    (void)state;
    run r;
    double bound[2];
    begin(&r, "hq=1,sq=2,sk=2,d=1,scale=1,lse=1");
    copy(&r, FOVEA_ATTENTION_Q, (const float[]){1, 16});
    copy(&r, FOVEA_ATTENTION_K, (const float[]){1, -2});
    copy(&r, FOVEA_ATTENTION_V, (const float[]){3, -5});
    compute(&r);
    fovea_bound_attention(&r.sample.problem, FOVEA_ATTENTION_OUT, out(&r), bound);
    /* The largest score, 32, is the second row's and counts for all rows. */
    assert_close(bound[0], 4e-6 * 5 * 4, 1e-18);
    assert_close(bound[1], 4e-6 * 5 * 4, 1e-18);
    fovea_bound_attention(&r.sample.problem, FOVEA_ATTENTION_LSE, lse(&r), bound);
    assert_close(bound[1], (2e-6 * fabs(lse(&r)[1]) + 2e-6) * 4, 1e-18);
    end(&r);
}

/* A peer's: the exact answer for queries, keys and values as they are, or as bf16 arithmetic takes them. */
static fovea_verdict verdict_of_peer(const char *text, fovea_dtype arithmetic) {
    run r;
    fovea_verdict verdict;
    begin(&r, text);
    fovea_verification *expected = fovea_verification_create(&r.sample.problem, 0, 1);
    assert_non_null(expected);
    for (int a = FOVEA_ATTENTION_Q; a <= FOVEA_ATTENTION_V; a++) {
        const fovea_view *view = &r.sample.problem.views[a];
        for (int64_t i = 0; i < elements(&r, a); i++)
            fovea_view_write(view, i, fovea_round_to(arithmetic, fovea_view_read(view, i)));
    }
    compute(&r);
    const fovea_view *view = &r.sample.problem.views[FOVEA_ATTENTION_OUT];
    for (int64_t i = 0; i < fovea_view_elements(view); i++) fovea_view_write(view, i, out(&r)[i]);
    fovea_verify(expected, NULL, &verdict);
    fovea_verification_destroy(expected);
    end(&r);
    return verdict;
}

/* Many keys average the rounding of each away, so that a bound of f32 times 64 has room for it. */
static void bf16_arithmetic_is_no_f16(void **state) {
    (void)state;
    static const char *const cases[] = {"dtype=f16,hq=1,sq=64,sk=256,d=64",
                                        "dtype=f16,hq=1,sq=64,sk=4096,d=64",
                                        "dtype=f16,hq=1,sq=129,d=128,causal=top_left"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(verdict_of_peer(cases[i], FOVEA_F16).peer_share < 0.3);
        assert_false(verdict_of_peer(cases[i], FOVEA_BF16).verified_as_peer);
    }
    assert_true(verdict_of_peer("dtype=bf16,hq=1,sq=64,sk=256,d=64", FOVEA_BF16).verified_as_peer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uniform_scores_give_the_mean_of_the_values),
        cmocka_unit_test(one_key_gives_its_value),
        cmocka_unit_test(two_by_two_by_hand),
        cmocka_unit_test(the_default_scale_is_one_over_the_root_of_the_head_size),
        cmocka_unit_test(softcap_bends_the_scores),
        cmocka_unit_test(slopes_add_a_slope_times_the_distance),
        cmocka_unit_test(a_sink_joins_the_denominator_only),
        cmocka_unit_test(biases_are_added_after_the_scale),
        cmocka_unit_test(the_order_of_keys_does_not_matter),
        cmocka_unit_test(shifting_all_scores_shifts_the_lse_alone),
        cmocka_unit_test(doubling_the_values_doubles_the_result),
        cmocka_unit_test(parts_merge_into_the_whole),
        cmocka_unit_test(empty_parts_count_nothing_in_a_merge),
        cmocka_unit_test(causal_rows_attend_what_their_alignment_says),
        cmocka_unit_test(rows_without_keys_are_zero),
        cmocka_unit_test(rows_without_keys_keep_their_sink),
        cmocka_unit_test(scores_of_minus_infinity_are_no_keys),
        cmocka_unit_test(windows_bound_both_sides),
        cmocka_unit_test(true_in_a_mask_means_may_attend),
        cmocka_unit_test(grouped_heads_share_keys),
        cmocka_unit_test(layouts_are_the_same_attention),
        cmocka_unit_test(ragged_batches_are_separate_calls),
        cmocka_unit_test(pages_are_contiguous_keys),
        cmocka_unit_test(dropout_drops_what_philox_says),
        cmocka_unit_test(nan_in_a_query_stays_in_its_row),
        cmocka_unit_test(nothing_is_valid),
        cmocka_unit_test(the_bound_is_the_stated_formula),
        cmocka_unit_test(bf16_arithmetic_is_no_f16),
    };
    return cmocka_run_group_tests_name("reference of attention", tests, NULL, NULL);
}
