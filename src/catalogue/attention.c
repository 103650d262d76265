/* What attention means beyond the scores: axes, sequences, positions, masks; the validation of its
 * arguments; its check and benchmark cases. */
#include "catalogue/attention.h"

#include "catalogue/case.h"
#include "catalogue/outcome.h"

#include <math.h>
#include <stdio.h>

enum { LETTER_B, LETTER_HQ, LETTER_HKV, LETTER_SQ, LETTER_SK, LETTER_D, LETTER_DV, LETTER_PAGE };

/* ---- Canonical form ------------------------------------------------------------------------- */

static void swap_dimensions(fovea_view *view, int a, int b) {
    int64_t shape = view->shape[a], stride = view->stride[a];
    view->shape[a] = view->shape[b], view->stride[a] = view->stride[b];
    view->shape[b] = shape, view->stride[b] = stride;
}

static void prepend_dimension(fovea_view *view) {
    for (int i = view->rank; i > 0; i--) {
        view->shape[i] = view->shape[i - 1];
        view->stride[i] = view->stride[i - 1];
    }
    view->shape[0] = 1, view->stride[0] = 0;
    view->rank++;
}

/* Tensors here have four dimensions at most. Copies of whole views took a third of a small call. */
static void copy_view(const fovea_view *from, fovea_view *to) {
    enum { DIMENSIONS = 4 };
    to->data = from->data, to->dtype = from->dtype, to->rank = from->rank;
    memcpy(to->shape, from->shape, DIMENSIONS * sizeof *to->shape);
    memcpy(to->stride, from->stride, DIMENSIONS * sizeof *to->stride);
}

void fovea_attention_canonical(const fovea_view *given, bool ragged, bool heads_inside,
                               fovea_view *view) {
    copy_view(given, view);
    if (ragged) prepend_dimension(view);
    if (ragged || heads_inside) swap_dimensions(view, 1, 2);
}

void fovea_attention_broadcast(fovea_view *view) {
    while (view->rank < 4) prepend_dimension(view);
    for (int i = 0; i < 4; i++)
        if (view->shape[i] == 1) view->stride[i] = 0;
}

/* Whether an optional tensor is there; of its view otherwise only what says that it is not. */
static bool take(const fovea_view *views, uint32_t present, int argument, fovea_view *view) {
    bool given = present >> argument & 1;
    if (given)
        copy_view(&views[argument], view);
    else
        view->data = NULL, view->dtype = FOVEA_F32, view->rank = 0;
    return given;
}

/* A scale of k or v, canonical, with zero strides where it broadcasts. */
static void take_scale(const fovea_view *views, uint32_t present, int argument, bool ragged,
                       bool heads_inside, fovea_view *view) {
    if (!take(views, present, argument, view)) return;
    fovea_attention_canonical(&views[argument], ragged, heads_inside, view);
    fovea_attention_broadcast(view);
}

static int64_t elements_of_a_scale(const fovea_view *row, const fovea_view *scale) {
    return scale->data && scale->shape[3] > 0 ? row->shape[3] / scale->shape[3] : row->shape[3];
}

static bool is_quantised(fovea_dtype dtype) { return dtype == FOVEA_I8 || dtype == FOVEA_E4M3; }

/* Every call comes here several times: views are made where they stay, and the
 * seven optional ones are not cleared, which took half of its time. */
void fovea_attention_describe_part(const fovea_problem *problem, uint32_t present,
                                   const fovea_attention_options *options,
                                   fovea_attention_call *attention) {
    const fovea_view *views = problem->views;
    bool inside = options->layout == FOVEA_ATTENTION_LAYOUT_BSHD;
    bool ragged_q = present >> FOVEA_ATTENTION_CU_SEQLENS_Q & 1;
    bool ragged_k = present >> FOVEA_ATTENTION_CU_SEQLENS_K & 1;
    bool paged = present >> FOVEA_ATTENTION_BLOCK_TABLE & 1;
    attention->options = options, attention->problem = problem;
    attention->batch = problem->extents[LETTER_B];
    attention->query_heads = problem->extents[LETTER_HQ];
    attention->key_heads = problem->extents[LETTER_HKV];
    attention->group = attention->key_heads > 0 ? attention->query_heads / attention->key_heads : 0;
    attention->head_size = problem->extents[LETTER_D];
    attention->value_size = problem->extents[LETTER_DV];
    attention->query_length = problem->extents[LETTER_SQ];
    attention->key_length = problem->extents[LETTER_SK];
    attention->softcap = options->softcap;
    attention->paged = paged, attention->page_size = problem->extents[LETTER_PAGE];
    fovea_attention_canonical(&views[FOVEA_ATTENTION_Q], ragged_q, inside, &attention->q);
    fovea_attention_canonical(&views[FOVEA_ATTENTION_K], ragged_k, inside || paged, &attention->k);
    fovea_attention_canonical(&views[FOVEA_ATTENTION_V], ragged_k, inside || paged, &attention->v);
    fovea_attention_canonical(&views[FOVEA_ATTENTION_OUT], ragged_q, inside, &attention->out);
    attention->quantised = is_quantised(attention->k.dtype) || is_quantised(attention->v.dtype);
    take_scale(views, present, FOVEA_ATTENTION_K_SCALE, ragged_k, inside || paged,
               &attention->k_scale);
    take_scale(views, present, FOVEA_ATTENTION_V_SCALE, ragged_k, inside || paged,
               &attention->v_scale);
    attention->k_group = elements_of_a_scale(&attention->k, &attention->k_scale);
    attention->v_group = elements_of_a_scale(&attention->v, &attention->v_scale);
    double root = sqrt((double)attention->head_size);
    attention->scale = !isnan(options->scale) ? options->scale : root > 0 ? 1 / root : 1;
    attention->has_lse = take(views, present, FOVEA_ATTENTION_LSE, &attention->lse);
    if (attention->has_lse && ragged_q) prepend_dimension(&attention->lse);
    attention->has_mask = take(views, present, FOVEA_ATTENTION_MASK, &attention->mask);
    if (attention->has_mask) fovea_attention_broadcast(&attention->mask);
    attention->has_bias = take(views, present, FOVEA_ATTENTION_BIAS, &attention->bias);
    if (attention->has_bias) fovea_attention_broadcast(&attention->bias);
    attention->has_slopes = take(views, present, FOVEA_ATTENTION_SLOPES, &attention->slopes);
    attention->has_sinks = take(views, present, FOVEA_ATTENTION_SINKS, &attention->sinks);
}

void fovea_attention_describe(const fovea_problem *problem, fovea_attention_call *attention) {
    fovea_attention_describe_part(problem, problem->present, problem->options, attention);
}

/* What has no data has none in any call alike: it is not given, or has no elements. */
static void move(const fovea_view *given, fovea_view *view) {
    if (view->data) view->data = given->data;
}

void fovea_attention_describe_again(const fovea_problem *problem,
                                    const fovea_attention_options *options,
                                    fovea_attention_call *attention) {
    const fovea_view *views = problem->views;
    attention->problem = problem, attention->options = options;
    move(&views[FOVEA_ATTENTION_Q], &attention->q);
    move(&views[FOVEA_ATTENTION_K], &attention->k);
    move(&views[FOVEA_ATTENTION_V], &attention->v);
    move(&views[FOVEA_ATTENTION_OUT], &attention->out);
    move(&views[FOVEA_ATTENTION_LSE], &attention->lse);
    move(&views[FOVEA_ATTENTION_MASK], &attention->mask);
    move(&views[FOVEA_ATTENTION_BIAS], &attention->bias);
    move(&views[FOVEA_ATTENTION_SLOPES], &attention->slopes);
    move(&views[FOVEA_ATTENTION_SINKS], &attention->sinks);
    move(&views[FOVEA_ATTENTION_K_SCALE], &attention->k_scale);
    move(&views[FOVEA_ATTENTION_V_SCALE], &attention->v_scale);
}

bool fovea_attention_outcome(const fovea_problem *given, int argument, fovea_view *outcome) {
    const fovea_attention_options *options = given->options;
    const fovea_view *q = &given->views[FOVEA_ATTENTION_Q], *v = &given->views[FOVEA_ATTENTION_V];
    bool ragged = fovea_given(given, FOVEA_ATTENTION_CU_SEQLENS_Q);
    fovea_dtype dtype = outcome->dtype;
    if (q->rank < 3 || v->rank < 1) return false;
    *outcome = *q;
    outcome->dtype = dtype;
    outcome->shape[q->rank - 1] = v->shape[v->rank - 1];
    if (argument == FOVEA_ATTENTION_LSE) {
        outcome->rank--; /* heads before lengths in every layout */
        if (ragged || options->layout == FOVEA_ATTENTION_LAYOUT_BSHD) {
            outcome->shape[q->rank - 3] = q->shape[q->rank - 2];
            outcome->shape[q->rank - 2] = q->shape[q->rank - 3];
        }
    }
    return true;
}

static int64_t read_integer(const fovea_problem *problem, int argument, int64_t i) {
    const fovea_view *view = &problem->views[argument];
    int32_t value;
    memcpy(&value, view->data + i * view->stride[view->rank - 1] * 4, sizeof value);
    return value;
}

fovea_sequence fovea_ragged_sequence(const fovea_attention_call *attention, int64_t batch) {
    const fovea_problem *problem = attention->problem;
    fovea_sequence sequence = {
        .batch = batch, .query_count = attention->query_length, .key_count = attention->key_length};
    if (!fovea_readable(problem)) return sequence;
    if (fovea_given(problem, FOVEA_ATTENTION_CU_SEQLENS_Q)) {
        sequence.query_start = read_integer(problem, FOVEA_ATTENTION_CU_SEQLENS_Q, batch);
        sequence.query_count =
            read_integer(problem, FOVEA_ATTENTION_CU_SEQLENS_Q, batch + 1) - sequence.query_start;
    }
    if (fovea_given(problem, FOVEA_ATTENTION_CU_SEQLENS_K)) {
        sequence.key_start = read_integer(problem, FOVEA_ATTENTION_CU_SEQLENS_K, batch);
        sequence.key_count =
            read_integer(problem, FOVEA_ATTENTION_CU_SEQLENS_K, batch + 1) - sequence.key_start;
    }
    if (fovea_given(problem, FOVEA_ATTENTION_SEQUSED_K))
        sequence.key_count = read_integer(problem, FOVEA_ATTENTION_SEQUSED_K, batch);
    return sequence;
}

int64_t fovea_query_position(const fovea_attention_call *attention, const fovea_sequence *sequence,
                             int64_t i) {
    int64_t position = i + attention->options->query_offset;
    if (attention->options->causal == FOVEA_ATTENTION_CAUSAL_BOTTOM_RIGHT)
        position += sequence->key_count - sequence->query_count;
    return position;
}

void fovea_attended_keys(const fovea_attention_call *attention, const fovea_sequence *sequence,
                         int64_t i, int64_t *first, int64_t *end) {
    const fovea_attention_options *options = attention->options;
    int64_t position = fovea_query_position(attention, sequence, i);
    int64_t low = 0, high = sequence->key_count;
    if (options->window_left >= 0 && position - options->window_left > low)
        low = position - options->window_left;
    if (options->causal != FOVEA_ATTENTION_CAUSAL_NONE && position + 1 < high) high = position + 1;
    if (options->window_right >= 0 && position < high - options->window_right - 1)
        high = position + options->window_right + 1;
    *end = high < 0 ? 0 : high;
    *first = low < *end ? low : *end;
}

char *fovea_key_row(const fovea_attention_call *attention, const fovea_view *view,
                    const fovea_sequence *sequence, int64_t head, int64_t j) {
    if (!attention->paged) return fovea_row(view, sequence->batch, head, sequence->key_start + j);
    const fovea_view *table = &attention->problem->views[FOVEA_ATTENTION_BLOCK_TABLE];
    int32_t page;
    memcpy(&page,
           table->data +
               (sequence->batch * table->stride[0] + j / attention->page_size * table->stride[1]) *
                   4,
           sizeof page);
    return fovea_row(view, page, head, j % attention->page_size);
}

/* Sum over i in [0, rows) of i + offset clamped to [0, keys]. */
static double clamped_sum(double rows, double offset, double keys) {
    double rising = fmin(fmax(-offset, 0), rows);          /* first row above 0 */
    double full = fmin(fmax(keys - offset, rising), rows); /* first row at keys */
    double count = full - rising;
    return count * (rising + offset + full - 1 + offset) / 2 + (rows - full) * keys;
}

double fovea_attention_pairs(const fovea_attention_call *attention) {
    const fovea_attention_options *options = attention->options;
    bool causal = options->causal != FOVEA_ATTENTION_CAUSAL_NONE;
    bool alike = !fovea_has_lengths(attention->problem) || !fovea_readable(attention->problem);
    double pairs = 0;
    for (int64_t b = 0; b < (alike ? attention->batch > 0 : attention->batch); b++) {
        fovea_sequence sequence = fovea_attention_sequence(attention, b);
        double rows = (double)sequence.query_count, keys = (double)sequence.key_count;
        double position = (double)fovea_query_position(attention, &sequence, 0), after = INFINITY;
        if (options->window_right >= 0) after = (double)options->window_right;
        if (causal) after = 0;
        pairs += isinf(after) ? rows * keys : clamped_sum(rows, position + after + 1, keys);
        if (options->window_left >= 0)
            pairs -= clamped_sum(rows, position - (double)options->window_left, keys);
    }
    return pairs * (double)attention->query_heads * (alike ? (double)attention->batch : 1);
}

/* ---- Validation ----------------------------------------------------------------------------- */

static fovea_status wrong_shape(const fovea_problem *problem, int argument, const char *wanted,
                                fovea_message *message) {
    char text[128];
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s has shape %s; %s",
                      problem->kernel->arguments[argument].name,
                      fovea_shape_text(&problem->views[argument], text, sizeof text), wanted);
}

static fovea_status check_rank(const fovea_problem *problem, int argument, int rank,
                               const char *shape, fovea_message *message) {
    char wanted[96];
    if (problem->views[argument].rank == rank) return FOVEA_OK;
    snprintf(wanted, sizeof wanted, "it is %s", shape);
    return wrong_shape(problem, argument, wanted, message);
}

/* The extent of a letter must be the one that another argument set. */
static fovea_status check_extent(const fovea_problem *problem, int argument, const char *what,
                                 int64_t actual, const char *owner, int64_t wanted,
                                 fovea_message *message) {
    if (actual == wanted) return FOVEA_OK;
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s has %s %lld, %s has %lld",
                      problem->kernel->arguments[argument].name, what, (long long)actual, owner,
                      (long long)wanted);
}

/* Of a cache in pages, which a table may name again and again, and of offsets: sums of two of these, and of some bytes
 * of each cannot overflow. */
static const int64_t extent_limit = INT64_C(1) << 48;

static fovea_status check_main_tensors(fovea_problem *problem, fovea_message *message) {
    const fovea_attention_options *options = problem->options;
    bool inside = options->layout == FOVEA_ATTENTION_LAYOUT_BSHD;
    bool ragged_q = fovea_given(problem, FOVEA_ATTENTION_CU_SEQLENS_Q);
    bool ragged_k = fovea_given(problem, FOVEA_ATTENTION_CU_SEQLENS_K);
    bool paged = fovea_given(problem, FOVEA_ATTENTION_BLOCK_TABLE);
    const char *plain = inside ? "[B, S, H, D] (layout bshd)" : "[B, H, S, D] (layout bhsd)";
    const char *packed = "[total, H, D] with cu_seqlens";
    const char *pages = "[pages, page_size, Hkv, D] with block_table";
    const bool ragged[] = {ragged_q, ragged_k, ragged_k, ragged_q};
    fovea_status status = FOVEA_OK;
    for (int a = FOVEA_ATTENTION_Q; a <= FOVEA_ATTENTION_OUT && status == FOVEA_OK; a++) {
        bool in_pages = paged && (a == FOVEA_ATTENTION_K || a == FOVEA_ATTENTION_V);
        status = check_rank(problem, a, ragged[a] && !in_pages ? 3 : 4,
                            in_pages    ? pages
                            : ragged[a] ? packed
                                        : plain,
                            message);
    }
    if (status != FOVEA_OK) return status;
    if (paged && ragged_k)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "cu_seqlens_k and block_table are both given; a paged cache takes its "
                          "lengths from seqused_k");
    if (paged && !fovea_given(problem, FOVEA_ATTENTION_SEQUSED_K))
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "block_table is given without seqused_k, the length of each sequence");
    fovea_view q, k, v, out;
    fovea_attention_canonical(&problem->views[FOVEA_ATTENTION_Q], ragged_q, inside, &q);
    fovea_attention_canonical(&problem->views[FOVEA_ATTENTION_K], ragged_k, inside || paged, &k);
    fovea_attention_canonical(&problem->views[FOVEA_ATTENTION_V], ragged_k, inside || paged, &v);
    fovea_attention_canonical(&problem->views[FOVEA_ATTENTION_OUT], ragged_q, inside, &out);
    int64_t *extents = problem->extents;
    extents[LETTER_B] = q.shape[0], extents[LETTER_HQ] = q.shape[1];
    extents[LETTER_SQ] = q.shape[2], extents[LETTER_D] = q.shape[3];
    extents[LETTER_HKV] = k.shape[1], extents[LETTER_SK] = k.shape[2];
    extents[LETTER_DV] = v.shape[3], extents[LETTER_PAGE] = paged ? k.shape[2] : 0;
    struct {
        int argument;
        const char *what, *owner;
        int64_t actual, wanted;
    } checks[] = {
        {FOVEA_ATTENTION_K, "head size", "q", k.shape[3], q.shape[3]},
        {FOVEA_ATTENTION_V, "heads", "k", v.shape[1], k.shape[1]},
        {FOVEA_ATTENTION_V, "length", "k", v.shape[2], k.shape[2]},
        {FOVEA_ATTENTION_V, paged ? "pages" : "batch size", "k", v.shape[0], k.shape[0]},
        {FOVEA_ATTENTION_OUT, "heads", "q", out.shape[1], q.shape[1]},
        {FOVEA_ATTENTION_OUT, "length", "q", out.shape[2], q.shape[2]},
        {FOVEA_ATTENTION_OUT, "head size", "v", out.shape[3], v.shape[3]},
        {FOVEA_ATTENTION_OUT, "batch size", "q", out.shape[0], q.shape[0]},
    };
    for (size_t i = 0; i < sizeof checks / sizeof *checks && status == FOVEA_OK; i++)
        status = check_extent(problem, checks[i].argument, checks[i].what, checks[i].actual,
                              checks[i].owner, checks[i].wanted, message);
    if (status == FOVEA_OK && !paged && !ragged_q && !ragged_k)
        status = check_extent(problem, FOVEA_ATTENTION_K, "batch size", k.shape[0], "q", q.shape[0],
                              message);
    if (status != FOVEA_OK) return status;
    if (k.shape[1] == 0 ? q.shape[1] != 0 : q.shape[1] % k.shape[1] != 0)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "q has %lld heads, not a multiple of the %lld of k",
                          (long long)q.shape[1], (long long)k.shape[1]);
    return FOVEA_OK;
}

/* cu_seqlens: B + 1 offsets from 0 to the total, never falling. Sets the longest length. */
static fovea_status check_offsets(fovea_problem *problem, int argument, int64_t total, int letter,
                                  fovea_message *message) {
    const char *name = problem->kernel->arguments[argument].name;
    fovea_status status = check_rank(problem, argument, 1, "[B+1]", message);
    if (status != FOVEA_OK) return status;
    int64_t count = problem->views[argument].shape[0];
    if (count < 1) return wrong_shape(problem, argument, "it is [B+1], at least [1]", message);
    if (!fovea_readable(problem)) return problem->extents[letter] = total, FOVEA_OK;
    int64_t previous = read_integer(problem, argument, 0), longest = 0;
    if (previous != 0)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s starts with %lld, not 0", name,
                          (long long)previous);
    for (int64_t i = 1; i < count; i++) {
        int64_t next = read_integer(problem, argument, i);
        if (next < previous || next > total)
            return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                              "%s[%lld] is %lld; it lies between %lld, the one before, and %lld, "
                              "the rows of the packed tensor",
                              name, (long long)i, (long long)next, (long long)previous,
                              (long long)total);
        if (next - previous > longest) longest = next - previous;
        previous = next;
    }
    problem->extents[letter] = longest;
    return FOVEA_OK;
}

static fovea_status check_sequences(fovea_problem *problem, fovea_message *message) {
    int64_t *extents = problem->extents;
    bool ragged_q = fovea_given(problem, FOVEA_ATTENTION_CU_SEQLENS_Q);
    bool ragged_k = fovea_given(problem, FOVEA_ATTENTION_CU_SEQLENS_K);
    bool paged = fovea_given(problem, FOVEA_ATTENTION_BLOCK_TABLE);
    fovea_status status = FOVEA_OK;
    int64_t batch_q = extents[LETTER_B];
    int64_t batch_k = problem->views[FOVEA_ATTENTION_K].shape[0];
    if (ragged_q) {
        status = check_offsets(problem, FOVEA_ATTENTION_CU_SEQLENS_Q, extents[LETTER_SQ], LETTER_SQ,
                               message);
        if (status != FOVEA_OK) return status;
        batch_q = problem->views[FOVEA_ATTENTION_CU_SEQLENS_Q].shape[0] - 1;
        /* A row of no sequence would have no result. */
        int64_t rows = problem->views[FOVEA_ATTENTION_Q].shape[0], end = rows;
        if (fovea_readable(problem))
            end = read_integer(problem, FOVEA_ATTENTION_CU_SEQLENS_Q, batch_q);
        if (end != rows)
            return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                              "cu_seqlens_q ends with %lld; q has %lld rows", (long long)end,
                              (long long)rows);
    }
    if (ragged_k) {
        status = check_offsets(problem, FOVEA_ATTENTION_CU_SEQLENS_K, extents[LETTER_SK], LETTER_SK,
                               message);
        if (status != FOVEA_OK) return status;
        batch_k = problem->views[FOVEA_ATTENTION_CU_SEQLENS_K].shape[0] - 1;
    }
    if (!paged && batch_q != batch_k)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "q has batch size %lld, k has %lld",
                          (long long)batch_q, (long long)batch_k);
    extents[LETTER_B] = batch_q;
    return FOVEA_OK;
}

static fovea_status check_pages(fovea_problem *problem, fovea_message *message) {
    int64_t *extents = problem->extents, batch = extents[LETTER_B];
    const fovea_view *table = &problem->views[FOVEA_ATTENTION_BLOCK_TABLE];
    fovea_status status =
        check_rank(problem, FOVEA_ATTENTION_BLOCK_TABLE, 2, "[B, max_pages]", message);
    if (status != FOVEA_OK) return status;
    if (table->shape[0] != batch)
        return wrong_shape(problem, FOVEA_ATTENTION_BLOCK_TABLE, "it has a row a sequence",
                           message);
    int64_t pages = problem->views[FOVEA_ATTENTION_K].shape[0], size = extents[LETTER_PAGE];
    if (size < 1)
        return wrong_shape(problem, FOVEA_ATTENTION_K, "its page size is at least 1", message);
    if (!fovea_multiply(table->shape[1], size, &extents[LETTER_SK]) ||
        extents[LETTER_SK] > extent_limit)
        return wrong_shape(problem, FOVEA_ATTENTION_BLOCK_TABLE, "it counts too many keys",
                           message);
    for (int64_t b = 0; fovea_readable(problem) && b < batch; b++) {
        int64_t length = read_integer(problem, FOVEA_ATTENTION_SEQUSED_K, b);
        for (int64_t i = 0; i * size < length; i++) {
            int32_t page;
            memcpy(&page, table->data + (b * table->stride[0] + i * table->stride[1]) * 4, 4);
            if (page < 0 || page >= pages)
                return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                                  "block_table[%lld][%lld] is %d; k has %lld pages", (long long)b,
                                  (long long)i, page, (long long)pages);
        }
    }
    return FOVEA_OK;
}

static fovea_status check_used(fovea_problem *problem, fovea_message *message) {
    int64_t batch = problem->extents[LETTER_B];
    fovea_status status = check_rank(problem, FOVEA_ATTENTION_SEQUSED_K, 1, "[B]", message);
    if (status != FOVEA_OK) return status;
    if (problem->views[FOVEA_ATTENTION_SEQUSED_K].shape[0] != batch)
        return wrong_shape(problem, FOVEA_ATTENTION_SEQUSED_K, "it has one length a sequence",
                           message);
    bool ragged = fovea_given(problem, FOVEA_ATTENTION_CU_SEQLENS_K);
    bool paged = fovea_given(problem, FOVEA_ATTENTION_BLOCK_TABLE);
    for (int64_t b = 0; fovea_readable(problem) && b < batch; b++) {
        int64_t used = read_integer(problem, FOVEA_ATTENTION_SEQUSED_K, b);
        int64_t room = problem->extents[LETTER_SK];
        if (ragged)
            room = read_integer(problem, FOVEA_ATTENTION_CU_SEQLENS_K, b + 1) -
                   read_integer(problem, FOVEA_ATTENTION_CU_SEQLENS_K, b);
        if (paged && !fovea_multiply(problem->views[FOVEA_ATTENTION_BLOCK_TABLE].shape[1],
                                     problem->extents[LETTER_PAGE], &room))
            room = INT64_MAX;
        if (used < 0 || used > room)
            return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                              "seqused_k[%lld] is %lld; there is room for %lld keys", (long long)b,
                              (long long)used, (long long)room);
    }
    return FOVEA_OK;
}

/* A tensor that broadcasts to [B, Hq, Sq, Sk]. Of packed sequences on a device only the rows of all
 * are known: there Sq and Sk may be fewer, and what lies beyond them is not attended. */
static fovea_status check_broadcast(const fovea_problem *problem, int argument,
                                    fovea_message *message) {
    const fovea_view *view = &problem->views[argument];
    const int64_t *extents = problem->extents;
    const int64_t full[4] = {extents[LETTER_B], extents[LETTER_HQ], extents[LETTER_SQ],
                             extents[LETTER_SK]};
    const bool at_most[4] = {
        false, false,
        !fovea_readable(problem) && fovea_given(problem, FOVEA_ATTENTION_CU_SEQLENS_Q),
        !fovea_readable(problem) && fovea_given(problem, FOVEA_ATTENTION_CU_SEQLENS_K)};
    bool fits = view->rank <= 4;
    for (int i = 0; fits && i < view->rank; i++) {
        int axis = 4 - view->rank + i;
        fits = view->shape[i] == full[axis] || view->shape[i] == 1 ||
               (at_most[axis] && view->shape[i] < full[axis]);
    }
    if (fits) return FOVEA_OK;
    char wanted[128];
    snprintf(wanted, sizeof wanted, "it broadcasts to [B, Hq, Sq, Sk] = [%lld, %lld, %lld, %lld]",
             (long long)full[0], (long long)full[1], (long long)full[2], (long long)full[3]);
    return wrong_shape(problem, argument, wanted, message);
}

/* k or v is of the call's dtype, or quantised; only then it may have a scale, of its axes. */
static fovea_status check_scale(const fovea_problem *problem, int argument, int scale_argument,
                                fovea_message *message) {
    const fovea_view *view = &problem->views[argument], *scale = &problem->views[scale_argument];
    const char *name = problem->kernel->arguments[argument].name;
    const char *scale_name = problem->kernel->arguments[scale_argument].name;
    bool quantised = is_quantised(view->dtype);
    if (!quantised && view->dtype != problem->dtype)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "%s is %s, q is %s; they agree, or %s is i8 or e4m3", name,
                          fovea_dtype_name(view->dtype), fovea_dtype_name(problem->dtype), name);
    if (!fovea_given(problem, scale_argument)) return FOVEA_OK;
    if (!quantised)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "%s is given, but %s is %s, not quantised", scale_name, name,
                          fovea_dtype_name(view->dtype));
    int last = view->rank - 1;
    bool fits = scale->rank == view->rank;
    for (int i = 0; fits && i < last; i++)
        fits = scale->shape[i] == view->shape[i] || scale->shape[i] == 1;
    fits = fits && scale->shape[last] > 0 && view->shape[last] % scale->shape[last] == 0;
    if (fits) return FOVEA_OK;
    char wanted[160], shape[96];
    snprintf(wanted, sizeof wanted,
             "it has the axes of %s = %s, each as long or 1, the last a divisor", name,
             fovea_shape_text(view, shape, sizeof shape));
    return wrong_shape(problem, scale_argument, wanted, message);
}

static fovea_status check_optional_tensors(fovea_problem *problem, fovea_message *message) {
    const int64_t *extents = problem->extents;
    bool ragged = fovea_given(problem, FOVEA_ATTENTION_CU_SEQLENS_Q);
    fovea_status status = check_scale(problem, FOVEA_ATTENTION_K, FOVEA_ATTENTION_K_SCALE, message);
    if (status == FOVEA_OK)
        status = check_scale(problem, FOVEA_ATTENTION_V, FOVEA_ATTENTION_V_SCALE, message);
    for (int a = FOVEA_ATTENTION_MASK; a <= FOVEA_ATTENTION_BIAS && status == FOVEA_OK; a++)
        if (fovea_given(problem, a)) status = check_broadcast(problem, a, message);
    for (int a = FOVEA_ATTENTION_SLOPES; a <= FOVEA_ATTENTION_SINKS && status == FOVEA_OK; a++) {
        if (!fovea_given(problem, a)) continue;
        const fovea_view *view = &problem->views[a];
        if (view->rank != 1 || view->shape[0] != extents[LETTER_HQ])
            status = wrong_shape(problem, a, "it is [Hq], one value a query head", message);
    }
    if (status == FOVEA_OK && fovea_given(problem, FOVEA_ATTENTION_LSE)) {
        const fovea_view *lse = &problem->views[FOVEA_ATTENTION_LSE];
        const int64_t wanted[3] = {extents[LETTER_B], extents[LETTER_HQ], extents[LETTER_SQ]};
        bool fits = lse->rank == (ragged ? 2 : 3);
        if (fits && ragged)
            fits = lse->shape[0] == wanted[1] &&
                   lse->shape[1] == problem->views[FOVEA_ATTENTION_Q].shape[0];
        else if (fits)
            fits = memcmp(lse->shape, wanted, sizeof wanted) == 0;
        if (!fits)
            status = wrong_shape(problem, FOVEA_ATTENTION_LSE,
                                 ragged ? "it is [Hq, total]" : "it is [B, Hq, Sq]", message);
    }
    return status;
}

fovea_status fovea_attention_shape(fovea_problem *problem, fovea_message *message) {
    fovea_status status = check_main_tensors(problem, message);
    if (status == FOVEA_OK) status = check_sequences(problem, message);
    if (status == FOVEA_OK && fovea_given(problem, FOVEA_ATTENTION_SEQUSED_K))
        status = check_used(problem, message);
    if (status == FOVEA_OK && fovea_given(problem, FOVEA_ATTENTION_BLOCK_TABLE))
        status = check_pages(problem, message);
    if (status == FOVEA_OK) status = check_optional_tensors(problem, message);
    return status;
}

fovea_status fovea_attention_check_options(const fovea_attention_options *options,
                                           fovea_message *message) {
    if (isinf(options->scale))
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "options.scale is %g; it is finite",
                          options->scale);
    if (!(options->softcap > 0))
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "options.softcap is %g; it is above 0 (INFINITY is off)",
                          options->softcap);
    if (!(options->dropout >= 0 && options->dropout < 1))
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "options.dropout is %g; it is at least 0 and below 1", options->dropout);
    const int64_t limit = extent_limit;
    struct {
        const char *name;
        int64_t value, lowest;
    } checks[] = {{"window_left", options->window_left, -1},
                  {"window_right", options->window_right, -1},
                  {"query_offset", options->query_offset, -limit},
                  {"block_rows", options->block_rows, 0},
                  {"block_keys", options->block_keys, 0}};
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        if (checks[i].value < checks[i].lowest || checks[i].value > limit)
            return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                              "options.%s is %lld; it lies between %lld and %lld", checks[i].name,
                              (long long)checks[i].value, (long long)checks[i].lowest,
                              (long long)limit);
    return FOVEA_OK;
}

fovea_status fovea_attention_check(const fovea_problem *problem, fovea_message *message) {
    return fovea_attention_check_options(problem->options, message);
}

double fovea_attention_operations(const fovea_problem *problem) {
    fovea_attention_call attention;
    fovea_attention_describe(problem, &attention);
    return 2.0 * (double)(attention.head_size + attention.value_size) *
           fovea_attention_pairs(&attention);
}

double fovea_attention_bytes(const fovea_problem *problem) {
    double bytes = 0;
    for (int a = FOVEA_ATTENTION_Q; a <= FOVEA_ATTENTION_OUT; a++)
        bytes += (double)fovea_view_elements(&problem->views[a]) *
                 (double)fovea_dtype_size(problem->views[a].dtype);
    for (int a = FOVEA_ATTENTION_K_SCALE; a <= FOVEA_ATTENTION_V_SCALE; a++)
        if (fovea_given(problem, a)) bytes += 4 * (double)fovea_view_elements(&problem->views[a]);
    return bytes;
}

/* ---- What the router distinguishes ---------------------------------------------------------- */

void fovea_attention_traits(const fovea_problem *problem, fovea_traits *traits) {
    enum { CAUSAL = 1, WINDOW = 2, MASK = 4, BIAS = 8, RAGGED = 16, PAGED = 32, MODIFIED = 64 };
    enum { STEPPED = 128, K_I8 = 256, K_E4M3 = 512, V_I8 = 1024, V_E4M3 = 2048 };
    fovea_dtype k = problem->views[FOVEA_ATTENTION_K].dtype;
    fovea_dtype v = problem->views[FOVEA_ATTENTION_V].dtype;
    const fovea_attention_options *options = problem->options;
    const int64_t *extents = problem->extents;
    const uint32_t bias = 1u << FOVEA_ATTENTION_BIAS | 1u << FOVEA_ATTENTION_SLOPES;
    const uint32_t ragged = 1u << FOVEA_ATTENTION_CU_SEQLENS_Q | 1u << FOVEA_ATTENTION_CU_SEQLENS_K;
    bool paged = fovea_given(problem, FOVEA_ATTENTION_BLOCK_TABLE);
    bool stepped = false;
    for (int a = FOVEA_ATTENTION_Q; a <= FOVEA_ATTENTION_OUT; a++)
        stepped |= problem->views[a].stride[problem->views[a].rank - 1] != 1;
    bool modified = !isinf(options->softcap) || options->dropout != 0 ||
                    fovea_given(problem, FOVEA_ATTENTION_SINKS);
    int64_t keys = extents[LETTER_SK], heads;
    if (paged && !fovea_multiply(keys, problem->views[FOVEA_ATTENTION_BLOCK_TABLE].shape[1], &keys))
        keys = INT64_MAX;
    if (!fovea_multiply(extents[LETTER_B], extents[LETTER_HQ], &heads)) heads = INT64_MAX;
    *traits = (fovea_traits){
        .features = (options->causal ? CAUSAL : 0) |
                    (options->window_left >= 0 || options->window_right >= 0 ? WINDOW : 0) |
                    (fovea_given(problem, FOVEA_ATTENTION_MASK) ? MASK : 0) |
                    (problem->present & bias ? BIAS : 0) |
                    (problem->present & ragged ? RAGGED : 0) | (paged ? PAGED : 0) |
                    (modified ? MODIFIED : 0) | (stepped ? STEPPED : 0) |
                    (k == FOVEA_I8 ? K_I8 : 0) | (k == FOVEA_E4M3 ? K_E4M3 : 0) |
                    (v == FOVEA_I8 ? V_I8 : 0) | (v == FOVEA_E4M3 ? V_E4M3 : 0),
        .sizes = {extents[LETTER_D], extents[LETTER_DV], extents[LETTER_SQ], keys, heads,
                  extents[LETTER_HKV] ? extents[LETTER_HQ] / extents[LETTER_HKV] : 1},
        .steps = {1, 1, 4, 4, 4, 4}};
}

/* ---- Cases ---------------------------------------------------------------------------------- */

void fovea_attention_case_defaults(fovea_case *c) {
    int64_t *extents = c->extents;
    const struct {
        int letter, from;
    } copies[] = {{LETTER_HKV, LETTER_HQ}, {LETTER_SK, LETTER_SQ}, {LETTER_DV, LETTER_D}};
    for (size_t i = 0; i < sizeof copies / sizeof *copies; i++)
        if (extents[copies[i].letter] < 0) extents[copies[i].letter] = extents[copies[i].from];
    if (extents[LETTER_B] < 0) extents[LETTER_B] = 1;
    if (extents[LETTER_PAGE] < 0) extents[LETTER_PAGE] = 16;
}

static bool case_has(const fovea_case *c, int argument) { return c->optional >> argument & 1; }

/* Ragged and used lengths of a case: sequence b has this many of at most `longest` rows. */
static int64_t case_length(const fovea_case *c, int64_t longest, int64_t b, int salt) {
    static const int quarters[] = {4, 1, 3, 0, 2};
    (void)c;
    return longest * quarters[(b + salt) % 5] / 4;
}

static int64_t case_total(const fovea_case *c, int letter, int salt) {
    int64_t total = 0;
    for (int64_t b = 0; b < c->extents[LETTER_B]; b++)
        total += case_length(c, c->extents[letter], b, salt);
    return total;
}

enum { SALT_QUERIES = 0, SALT_KEYS = 1, SALT_USED = 2 };

static int64_t case_pages(const fovea_case *c) {
    int64_t page = c->extents[LETTER_PAGE]; /* 0 is refused with the tensors */
    return page ? (c->extents[LETTER_SK] + page - 1) / page : 0;
}

static void set_shape(int *rank, int64_t *shape, int count, const int64_t *extents) {
    *rank = count;
    memcpy(shape, extents, (size_t)count * sizeof *extents);
}

/* A scale a token, a head (of each sequence or page, or of all), or a group of eight elements, as the seed says; the first
 * suits a cache that grows. */
static void scale_shape(const fovea_case *c, int argument, int *rank, int64_t *shape) {
    int of = argument == FOVEA_ATTENTION_K_SCALE ? FOVEA_ATTENTION_K : FOVEA_ATTENTION_V;
    fovea_attention_case_shape(c, of, rank, shape);
    bool heads_inside = case_has(c, FOVEA_ATTENTION_BLOCK_TABLE) || *rank == 3 ||
                        fovea_case_parameter(c, "layout") == FOVEA_ATTENTION_LAYOUT_BSHD;
    int64_t size = shape[*rank - 1], way = (int64_t)(c->seed / 4 % 3);
    shape[*rank - 1] = way == 2 && size > 0 && size % 8 == 0 ? size / 8 : 1;
    for (int i = 0; way == 1 && i < *rank - 1; i++)
        if (i != (heads_inside ? *rank - 2 : 1) && !(i == 0 && c->seed & 1)) shape[i] = 1;
}

void fovea_attention_case_shape(const fovea_case *c, int argument, int *rank, int64_t *shape) {
    const int64_t *e = c->extents;
    int64_t b = e[LETTER_B], hq = e[LETTER_HQ], hkv = e[LETTER_HKV], sq = e[LETTER_SQ];
    int64_t sk = e[LETTER_SK], d = e[LETTER_D], dv = e[LETTER_DV], page = e[LETTER_PAGE];
    bool inside = fovea_case_parameter(c, "layout") == FOVEA_ATTENTION_LAYOUT_BSHD;
    bool ragged_q = case_has(c, FOVEA_ATTENTION_CU_SEQLENS_Q);
    bool ragged_k = case_has(c, FOVEA_ATTENTION_CU_SEQLENS_K);
    bool query = argument == FOVEA_ATTENTION_Q || argument == FOVEA_ATTENTION_OUT;
    int64_t heads = query ? hq : hkv, length = query ? sq : sk;
    int64_t size = argument == FOVEA_ATTENTION_V || argument == FOVEA_ATTENTION_OUT ? dv : d;
    switch (argument) {
    case FOVEA_ATTENTION_Q:
    case FOVEA_ATTENTION_K:
    case FOVEA_ATTENTION_V:
    case FOVEA_ATTENTION_OUT:
        if (!query && case_has(c, FOVEA_ATTENTION_BLOCK_TABLE))
            set_shape(rank, shape, 4, (int64_t[]){case_pages(c) * b + 1, page, heads, size});
        else if (query ? ragged_q : ragged_k)
            set_shape(rank, shape, 3,
                      (int64_t[]){case_total(c, query ? LETTER_SQ : LETTER_SK,
                                             query ? SALT_QUERIES : SALT_KEYS),
                                  heads, size});
        else if (inside)
            set_shape(rank, shape, 4, (int64_t[]){b, length, heads, size});
        else
            set_shape(rank, shape, 4, (int64_t[]){b, heads, length, size});
        break;
    case FOVEA_ATTENTION_LSE:
        if (ragged_q)
            set_shape(rank, shape, 2, (int64_t[]){hq, case_total(c, LETTER_SQ, SALT_QUERIES)});
        else
            set_shape(rank, shape, 3, (int64_t[]){b, hq, sq});
        break;
    case FOVEA_ATTENTION_MASK:
    case FOVEA_ATTENTION_BIAS: /* the seed chooses what broadcasts */
        if (case_has(c, FOVEA_ATTENTION_BLOCK_TABLE)) sk = case_pages(c) * page;
        if (ragged_q || ragged_k) {
            int64_t longest_q = 0, longest_k = 0;
            for (int64_t i = 0; i < b; i++) {
                int64_t lq = case_length(c, sq, i, SALT_QUERIES),
                        lk = case_length(c, sk, i, SALT_KEYS);
                if (lq > longest_q) longest_q = lq;
                if (lk > longest_k) longest_k = lk;
            }
            if (ragged_q) sq = longest_q;
            if (ragged_k) sk = longest_k;
        }
        set_shape(rank, shape, 4,
                  (int64_t[]){c->seed & 1 ? 1 : b, c->seed & 2 ? 1 : hq, c->seed % 6 == 4 ? 1 : sq,
                              c->seed % 6 == 5 ? 1 : sk});
        break;
    case FOVEA_ATTENTION_K_SCALE:
    case FOVEA_ATTENTION_V_SCALE:
        scale_shape(c, argument, rank, shape);
        break;
    case FOVEA_ATTENTION_SLOPES:
    case FOVEA_ATTENTION_SINKS:
        set_shape(rank, shape, 1, (int64_t[]){hq});
        break;
    case FOVEA_ATTENTION_CU_SEQLENS_Q:
    case FOVEA_ATTENTION_CU_SEQLENS_K:
        set_shape(rank, shape, 1, (int64_t[]){b + 1});
        break;
    case FOVEA_ATTENTION_SEQUSED_K:
        set_shape(rank, shape, 1, (int64_t[]){b});
        break;
    case FOVEA_ATTENTION_BLOCK_TABLE:
        set_shape(rank, shape, 2, (int64_t[]){b, case_pages(c)});
        break;
    default:
        *rank = 0;
    }
}

static void fill_offsets(const fovea_case *c, const fovea_view *view, int letter, int salt) {
    int64_t total = 0;
    for (int64_t b = 0; b <= c->extents[LETTER_B]; b++) {
        fovea_view_write(view, b, (double)total);
        total += case_length(c, c->extents[letter], b, salt);
    }
}

void fovea_attention_case_fill(const fovea_case *c, int argument, const fovea_view *view) {
    int64_t elements = fovea_view_elements(view);
    switch (argument) {
    case FOVEA_ATTENTION_SLOPES:
        for (int64_t h = 0; h < elements; h++)
            fovea_view_write(view, h, exp2(-8.0 * (double)(h + 1) / (double)elements));
        break;
    case FOVEA_ATTENTION_CU_SEQLENS_Q:
        fill_offsets(c, view, LETTER_SQ, SALT_QUERIES);
        break;
    case FOVEA_ATTENTION_CU_SEQLENS_K:
        fill_offsets(c, view, LETTER_SK, SALT_KEYS);
        break;
    case FOVEA_ATTENTION_SEQUSED_K:
        for (int64_t b = 0; b < elements; b++) {
            int64_t room = c->extents[LETTER_SK];
            if (case_has(c, FOVEA_ATTENTION_CU_SEQLENS_K))
                room = case_length(c, room, b, SALT_KEYS);
            fovea_view_write(view, b, (double)case_length(c, room, b, SALT_USED));
        }
        break;
    case FOVEA_ATTENTION_BLOCK_TABLE: /* a shuffled page each, page 0 unused, entries past the
                                         length out of range: they must not be read */
        for (int64_t i = 0; i < elements; i++) {
            int64_t b = i / view->shape[1], n = i % view->shape[1];
            int64_t used = case_length(c, c->extents[LETTER_SK], b, SALT_USED);
            bool needed = n * c->extents[LETTER_PAGE] < used;
            fovea_view_write(view, i, needed ? (double)(elements - i) : -7.0);
        }
        break;
    default:
        break;
    }
}
