/* What flash, fused, textbook and sage have in common, and backward in part: how a call is cut into work, a thread's slice of
 * the workspace, keys and values of a block as the micro-kernels read them, and the products of a tile with them.
 */
#ifndef FOVEA_CPU_ATTENTION_ATTENTION_BLOCKS_H
#define FOVEA_CPU_ATTENTION_ATTENTION_BLOCKS_H

#include "cpu/attention/attention_ahead.h"
#include "cpu/attention/attention_lists.h"
#include "cpu/attention/attention_shorts.h"

#include "catalogue/implementation.h"

#include <stdio.h>

typedef enum algorithm { TEXTBOOK, FUSED, FLASH, SAGE } algorithm;

/* How a call is cut into work. Floats of a thread's slice of the workspace, in this order: a block of keys, a block of
 * values, the scores of a tile, then for the tiles of a superblock queries, outputs, row data. */
typedef struct plan {
    algorithm algorithm;
    int64_t block_keys, block_rows; /* block_rows: a multiple of TILE_ROWS */
    int64_t value_keys;             /* keys at a time in the product with v */
    int64_t superblocks;            /* of a key head, by the longest sequence */
    int64_t items;
    int threads, lists; /* of items */
    bool convert_keys, convert_values;
    bool by_rows;               /* how outputs lie: see tile */
    bool ahead, ahead_panels;   /* what comes next is fetched: rows of q, k, v; of mask and bias */
    const pair_kernels *pairs;  /* NULL: floats */
    const sage_kernels *shorts; /* not NULL: scores from 16-bit integers */
    int64_t head_words, query_words; /* of 32 bits: of a row of k, and of room for one of q */
    size_t keys_floats, values_floats, scores_floats, query_floats, out_floats, slice_floats;
    size_t score_matrix_floats; /* textbook: behind the slices; scores, references and sums */
} plan;

static int64_t round_up(int64_t x, int64_t multiple) {
    return (x + multiple - 1) / multiple * multiple;
}

/* Three quarters of L1 for the scores of a tile; whole groups of any micro-kernel. Measured flat between 48 and 192 keys, and on
 * Zen 5 up to 2 % better at 144 than at 96, the half. */
static int64_t keys_of_a_block(const fovea_attention_call *call, algorithm algorithm) {
    int64_t keys = (int64_t)fovea_processor_get()->l1_bytes * 3 / 4 / (TILE_ROWS * 4);
    keys = smaller(larger(keys, 48), 192) / 24 * 24;
    if (algorithm == SAGE) keys = 128; /* one chunk: a scale of values ends there */
    if (call->options->block_keys > 0) keys = call->options->block_keys;
    if (algorithm == FUSED) keys = call->key_length;
    keys = larger(smaller(keys, call->key_length), 1);
    return algorithm == SAGE ? round_up(keys, find_sage_kernels()->step_keys) : keys;
}

/* Queries and outputs of a superblock in half of L2; fewer rows where the threads would run out of items. */
static int64_t rows_of_a_block(const fovea_attention_call *call, int64_t query_words, int threads) {
    int64_t row_bytes = (query_words + call->value_size + TILE_ARRAYS) * 4;
    int64_t rows = (int64_t)fovea_processor_get()->l2_bytes / 2 / row_bytes;
    int64_t of_a_head = call->query_length * call->group;
    if (threads > 1)
        rows = smaller(rows, of_a_head * call->batch * call->key_heads / (4 * threads));
    if (call->options->block_rows > 0) rows = call->options->block_rows;
    rows = larger(smaller(rows, 512), 1);
    int64_t count = larger((of_a_head + rows - 1) / rows, 1);
    return round_up(larger((of_a_head + count - 1) / count, 1), TILE_ROWS);
}

/* The micro-kernels read f32 rows with unit stride in place, and k in pairs. */
static bool needs_conversion(const fovea_attention_call *call, const fovea_view *view, bool pairs) {
    bool in_place = pairs ? view->shape[3] % 2 == 0 : view->dtype == FOVEA_F32;
    return call->paged || !in_place || view->stride[3] != 1;
}

/* Without a scale scores are 0 whatever their sign, and -inf * 0 is not what a mask means. */
static const pair_kernels *pairs_that_serve(const fovea_attention_call *call, algorithm algorithm) {
    bool bf16 =
        call->q.dtype == FOVEA_BF16 && call->k.dtype == FOVEA_BF16 && call->v.dtype == FOVEA_BF16;
    bool scaled = (float)(call->scale * LOG2E) != 0;
    return bf16 && scaled && algorithm != TEXTBOOK && algorithm != SAGE ? find_pair_kernels()
                                                                        : NULL;
}

/* Where a key is packed for enough rows, and nothing stands between a score and its exponential (attention_shorts.h). */
static const sage_kernels *shorts_that_serve(const fovea_attention_call *call,
                                             algorithm algorithm) {
    bool f16 = call->q.dtype == FOVEA_F16 && call->k.dtype == FOVEA_F16;
    bool changed = call->has_bias || call->has_slopes || isfinite(call->softcap);
    const sage_kernels *kernels = find_sage_kernels();
    return f16 && !changed && !call->has_lse && call->query_length * call->group >= TILE_ROWS &&
                   algorithm != TEXTBOOK && algorithm != SAGE && kernels->short_scores
               ? kernels
               : NULL;
}

/* Words of a row of q or k in sage. */
static int64_t sage_words(const fovea_attention_call *call) {
    const sage_kernels *kernels = find_sage_kernels();
    return round_up(divide_up(call->head_size, kernels->elements), kernels->step_words);
}

/* Values are read a row a key, over and over. Rows 2 KiB apart or more share few sets of L1 and take
 * a page each, so where several tiles read them a dense copy pays (bshd, 8 heads of 128: 77 % of the
 * peak in place, 83 % with v copied; copying k too gains nothing). */
static bool values_are_far(const fovea_attention_call *call, int64_t block_rows) {
    int64_t stride = call->v.stride[2];
    return (stride >= 512 || stride <= -512) && stride != call->value_size &&
           block_rows > TILE_ROWS;
}

/* A thread that would get less than half a million FLOPs costs more to wake than it brings. */
static int threads_that_pay(const fovea_attention_call *call, int threads) {
    double operations = 2 * (double)(call->head_size + call->value_size) *
                        (double)(call->batch * call->query_heads) * (double)call->query_length *
                        (double)call->key_length;
    double most = operations / 5e5;
    return most < 1 ? 1 : most < threads ? (int)most : threads;
}

/* Pays where the tensors do not stay in the second cache; rows of pages and of the heads of a group are not asked for. A head of
 * one block of keys is done before what is asked for beside it arrives, and the third cache is near enough by itself: on Zen 5
 * with two threads asking made lengths 64 and 128, D 64, 2 to 7 % slower up to batch 8 (8 MiB), and 5 to 12 % faster from 16 MiB on. */
static bool fetches_ahead(const fovea_attention_call *call, int64_t block_keys) {
    const fovea_processor *processor = fovea_processor_get();
    double rows = (double)(call->batch * call->query_heads) * (double)call->query_length +
                  (double)(call->batch * call->key_heads) * (double)call->key_length;
    double bytes = rows * (double)(call->head_size + call->value_size) *
                   (double)fovea_dtype_size(call->q.dtype);
    double near =
        (double)(call->key_length > block_keys ? processor->l2_bytes : processor->l3_bytes);
    return !call->paged && call->k.stride[3] == 1 && call->v.stride[3] == 1 &&
           call->q.stride[3] == 1 && bytes > near / 2;
}

static plan make_plan(const fovea_attention_call *call, algorithm algorithm, int threads) {
    plan p = {.algorithm = algorithm, .threads = threads_that_pay(call, threads)};
    p.block_keys = keys_of_a_block(call, algorithm);
    p.value_keys = round_up(keys_of_a_block(call, FLASH), 2);
    p.pairs = pairs_that_serve(call, algorithm);
    p.shorts = shorts_that_serve(call, algorithm);
    p.by_rows = algorithm != SAGE && !p.pairs;
    p.ahead = algorithm == FLASH && fetches_ahead(call, p.block_keys);
    p.ahead_panels = algorithm == FLASH && (!call->has_mask || call->mask.stride[3] == 1) &&
                     (!call->has_bias || call->bias.stride[3] == 1) &&
                     (call->has_mask || call->has_bias);
    p.query_words = p.pairs ? words_of(call->head_size) : call->head_size;
    p.block_rows =
        algorithm == TEXTBOOK ? TILE_ROWS : rows_of_a_block(call, p.query_words, p.threads);
    int64_t rows = call->query_length * call->group;
    p.superblocks = (rows + p.block_rows - 1) / p.block_rows;
    p.items = p.superblocks * call->batch * call->key_heads;
    if (p.items < p.threads) p.threads = (int)larger(p.items, 1);
    p.lists = (int)smaller(p.threads, LISTS_MAX);
    p.convert_keys = algorithm != SAGE && needs_conversion(call, &call->k, p.pairs);
    p.convert_values =
        p.pairs || needs_conversion(call, &call->v, false) || values_are_far(call, p.block_rows);
    p.head_words = p.pairs || p.shorts ? words_of(call->head_size) : call->head_size;
    int64_t value_rows = p.pairs ? words_of(p.block_keys) : p.block_keys;
    int64_t key_words = p.head_words + (p.shorts ? 1 : 0); /* a scale */
    p.keys_floats = (size_t)(p.convert_keys ? round_up(p.block_keys * key_words, 16) : 0);
    p.values_floats = (size_t)(p.convert_values ? round_up(value_rows * call->value_size, 16) : 0);
    p.scores_floats = (size_t)(p.block_keys * TILE_ROWS);
    if (algorithm == SAGE) p.query_words = larger(p.query_words, sage_words(call));
    p.query_floats = (size_t)(p.block_rows * p.query_words);
    p.out_floats = (size_t)(p.block_rows * call->value_size);
    p.slice_floats = (p.keys_floats + p.values_floats + p.scores_floats + p.query_floats +
                      p.out_floats + (size_t)(TILE_ARRAYS * p.block_rows) + 31) /
                     16 * 16;
    /* Of more than 2^60 no memory is to be had, and products would overflow. */
    double scores = (double)p.items * (double)(call->key_length + 2) * TILE_ROWS;
    if (algorithm == TEXTBOOK) p.score_matrix_floats = (size_t)fmin(scores, 0x1p60);
    return p;
}

/* ---- A thread's slice -------------------------------------------------------------------------------- */

typedef struct slice {
    float *keys, *values, *scores, *queries, *outputs, *rows;
} slice;

static inline slice thread_slice(const plan *p, void *workspace, int thread) {
    slice s;
    s.keys = (float *)workspace + (size_t)thread * p->slice_floats;
    s.values = s.keys + p->keys_floats;
    s.scores = s.values + p->values_floats;
    s.queries = s.scores + p->scores_floats;
    s.outputs = s.queries + p->query_floats;
    s.rows = s.outputs + p->out_floats;
    return s;
}

/* In place, as are contexts: a copy would wait for what has just been stored. */
static inline void set_tile(const plan *p, const tile_context *at, const slice *s,
                            int64_t first_row, int64_t rows, int64_t number, tile *t) {
    float *data = s->rows + number * TILE_ARRAYS * TILE_ROWS;
    t->row = first_row, t->rows = smaller(rows, TILE_ROWS);
    t->vectors = (int)((t->rows + VF_WIDTH - 1) / VF_WIDTH);
    t->low = t->high = t->full_low = t->full_high = 0;
    t->started = t->plain = false, t->by_rows = p->by_rows, t->stored = false;
    t->q = s->queries + number * TILE_ROWS * p->query_words;
    t->out = s->outputs + number * TILE_ROWS * at->call->value_size;
    t->reference = data, t->sum = data + TILE_ROWS, t->slope = data + 2 * TILE_ROWS;
    t->scale = data + 3 * TILE_ROWS;
    t->query = (int32_t *)(void *)(data + 4 * TILE_ROWS);
    t->head = t->query + TILE_ROWS, t->first = t->head + TILE_ROWS;
    t->end = t->first + TILE_ROWS, t->position = t->end + TILE_ROWS;
}

/* ---- Keys and values of a block -------------------------------------------------------------------- */

/* Of floats, of bf16 (k in pairs), or of words (v in pairs: a row is two keys; k in integers). */
typedef struct rows_of_block {
    const void *data;
    int64_t stride;     /* in elements, or words */
    const float *scale; /* of rows of integers */
    bool plain;         /* rows that are not finite: scores are made of the elements themselves */
} rows_of_block;

static const char *key_row(const tile_context *at, const fovea_view *view, int64_t key) {
    return fovea_key_row(at->call, view, &at->sequence, at->key_head, key);
}

/* Rows [first, first + count) of k or v as floats: in place, or converted into `buffer`. */
static rows_of_block fetch_rows(const tile_context *at, const fovea_view *view, bool convert,
                                int64_t first, int64_t count, float *buffer) {
    int64_t size = view->shape[3];
    if (!convert)
        return (rows_of_block){.data = key_row(at, view, first), .stride = fovea_row_stride(view)};
    for (int64_t j = 0; j < count; j++) {
        convert_row(key_row(at, view, first + j), view->dtype, view->stride[3], size,
                    buffer + j * size);
        scale_row(at->call, view, &at->sequence, at->key_head, first + j, buffer + j * size);
    }
    return (rows_of_block){.data = buffer, .stride = size};
}

/* The same for the products of pairs: rows of k with an even number of elements. */
static inline rows_of_block fetch_pair_keys(const tile_context *at, bool convert, int64_t first,
                                            int64_t count, void *buffer) {
    const fovea_view *k = &at->call->k;
    int64_t size = 2 * words_of(k->shape[3]);
    if (!convert)
        return (rows_of_block){.data = key_row(at, k, first), .stride = fovea_row_stride(k)};
    for (int64_t j = 0; j < count && size > 0; j++) /* rows of no elements have no address */
        load_halves(key_row(at, k, first + j), k->stride[3], 0, k->shape[3],
                    (uint16_t *)buffer + j * size, size);
    return (rows_of_block){.data = buffer, .stride = size};
}

/* And for products of integers: words of all rows, then their scales. */
static inline rows_of_block fetch_short_keys(const tile_context *at, int64_t first, int64_t count,
                                             float *buffer) {
    const fovea_view *k = &at->call->k;
    int64_t words = words_of(k->shape[3]);
    float *scale = buffer + count * words;
    bool plain = false;
    for (int64_t j = 0; j < count; j++) {
        scale[j] = pack_short_key(key_row(at, k, first + j), k->dtype, k->stride[3], k->shape[3],
                                  words, (int32_t *)(void *)buffer + j * words);
        plain |= isnan(scale[j]);
    }
    return (rows_of_block){.data = buffer, .stride = words, .scale = scale, .plain = plain};
}

static inline rows_of_block fetch_pair_values(const tile_context *at, int64_t first, int64_t count,
                                              void *buffer) {
    const fovea_view *v = &at->call->v;
    int64_t size = v->shape[3];
    for (int64_t j = 0; j < count; j += 2)
        interleave_rows(key_row(at, v, first + j),
                        j + 1 < count ? key_row(at, v, first + j + 1) : NULL, v->stride[3], size,
                        (int32_t *)buffer + j / 2 * size);
    return (rows_of_block){.data = buffer, .stride = size};
}

/* ---- One tile, one block of keys --------------------------------------------------------------------- */

/* A run of keys that the same neighbouring vectors of a tile attend. */
typedef struct segment {
    int64_t start, keys; /* from the beginning of the block */
    int vector, vectors;
} segment;

/* Limits rise with the rows, so at each key the vectors that attend it are neighbours: on the diagonal of a causal mask a
 * fourth of the work falls away. Keys stay together in groups of `step`. */
static int cut_segments(const tile *t, int64_t key, int64_t keys, int64_t step,
                        segment segments[2 * TILE_VECTORS + 1]) {
    int count = 0;
    for (int64_t j = key; j < key + keys;) {
        int64_t next = key + keys;
        int low = 0, high = t->vectors;
        while (low < high && t->end[low * VF_WIDTH + VF_WIDTH - 1] <= j) low++;
        while (high > low && t->first[(high - 1) * VF_WIDTH] > j + step - 1) high--;
        if (low < t->vectors) {
            int64_t end = t->end[low * VF_WIDTH + VF_WIDTH - 1] - key;
            next = smaller(next, key + larger(round_up(end, step), j - key + step));
        }
        if (high < t->vectors) {
            int64_t first = t->first[high * VF_WIDTH] - key;
            next = smaller(next, key + larger(first / step * step, j - key + step));
        }
        segments[count++] = (segment){j - key, next - j, low, high - low};
        j = next;
    }
    return count;
}

/* The part of a segment's products that is made at a time: what comes next is asked for between the parts. */
enum { PART_KEYS = 24, PART_ROWS = 24 };

static inline void score_part(const tile_context *at, const tile *t, const segment *g,
                              rows_of_block k, float *s, float *maximum) {
    int64_t lane = g->vector * VF_WIDTH, skipped = g->start * k.stride;
    float *scores = s + g->start * TILE_ROWS + lane;
    if (at->pairs)
        at->pairs[g->vectors].scores(
            g->keys, words_of(at->call->head_size), (const int32_t *)(void *)(t->q + lane),
            (const uint16_t *)k.data + skipped, k.stride, scores, maximum + lane);
    else if (at->shorts) {
        sage_keys rows = {.data = (const int32_t *)k.data + skipped,
                          .words = k.stride,
                          .scale = k.scale + g->start};
        at->shorts->short_scores(g->vectors, g->keys, &rows, t->q + lane, TILE_ROWS,
                                 t->scale + lane, scores, maximum + lane);
    } else
        micro[g->vectors].scores(g->keys, at->call->head_size, t->q + lane, TILE_ROWS,
                                 (const float *)k.data + skipped, k.stride, scores, maximum + lane);
}

/* `key`: the first of the block. */
static inline void score_tile(const tile_context *at, const tile *t, const segment *segments,
                              int count, int64_t key, rows_of_block k, float *s, float *maximum,
                              ahead *next) {
    for (int v = 0; v < t->vectors; v++) vf_store(maximum + v * VF_WIDTH, NEGATIVE_INFINITY);
    if (t->plain || k.plain) {
        int64_t keys = segments[count - 1].start + segments[count - 1].keys;
        score_plainly(at, t, key, keys, (float)(at->call->scale * LOG2E), s);
        find_maxima(t, s, keys, maximum);
        return;
    }
    for (int i = 0; i < count; i++) {
        const segment *g = &segments[i];
        if (g->vectors == 0) continue;
        int64_t step = next->count ? PART_KEYS : g->keys;
        for (int64_t j = 0; j < g->keys; j += step) {
            const segment part = {g->start + j, smaller(step, g->keys - j), g->vector, g->vectors};
            ahead_fetch(next);
            score_part(at, t, &part, k, s, maximum);
        }
    }
}

/* The product of keys [start, start + keys) of a block with the vectors of a segment. */
static void add_piece(const tile_context *at, const tile *t, const segment *g, int64_t start,
                      int64_t keys, rows_of_block v, const float *p, const row_sums *out,
                      ahead *next) {
    int64_t size = at->call->value_size, lane = g->vector * VF_WIDTH;
    if (t->by_rows)
        for (int64_t d = 0; d < size; d += TILE_ROWS) {
            int64_t columns = smaller(size - d, TILE_ROWS), vectors = divide_up(columns, VF_WIDTH);
            int64_t end = smaller(t->rows, lane + g->vectors * VF_WIDTH);
            int64_t step = next->count ? PART_ROWS : TILE_ROWS;
            for (int64_t row = lane; row < end; row += step) {
                ahead_fetch(next);
                row_sums rows = sums_from(out, row);
                rows.out += d;
                if (rows.before) rows.before += d;
                micro[vectors].values_by_rows(
                    smaller(step, end - row), keys, p + start * TILE_ROWS + row,
                    (const float *)v.data + start * v.stride + d, v.stride, &rows,
                    (size_t)(columns - (vectors - 1) * VF_WIDTH));
            }
        }
    else if (at->pairs)
        at->pairs[g->vectors].values(
            words_of(keys), size, (const int32_t *)(const void *)(p + start / 2 * TILE_ROWS + lane),
            (const int32_t *)v.data + start / 2 * v.stride, t->out + lane, !t->started);
    else
        micro[g->vectors].values(keys, size, p + start * TILE_ROWS + lane, TILE_ROWS,
                                 (const float *)v.data + start * v.stride, v.stride, t->out + lane,
                                 !t->started);
}

/* Where the last sums of a tile may go straight to the output: rows of floats at a constant distance, none of them empty. */
static inline bool last_sums(const tile_context *at, tile *t, int64_t end, float *factors,
                             row_sums *last) {
    const fovea_view *out = &at->call->out;
    bool direct = t->by_rows && end >= t->high && out->dtype == FOVEA_F32 && out->stride[3] == 1 &&
                  at->call->group == 1;
    for (int v = 0; direct && v < t->vectors; v++) {
        vf reference, sum, factor = row_factor(at, t, v, &reference, &sum);
        direct = !vm_any(vf_eq(vf_load(t->sum + v * VF_WIDTH), vf_set1(0)));
        vf_store(factors + v * VF_WIDTH, factor);
    }
    if (!direct) return false;
    last->out = (float *)(void *)fovea_row(out, at->sequence.batch, at->key_head,
                                           at->sequence.query_start + t->row);
    last->stride = out->stride[2], last->factor = factors;
    return true;
}

/* Long strips are taken in pieces that L1 holds. What comes first sets `out` instead of adding; `last`, where it is not NULL, says
 * where what comes last goes. */
static inline void add_values(const tile_context *at, tile *t, const segment *segments, int count,
                              rows_of_block v, const float *p, const row_sums *last, ahead *next) {
    int64_t size = at->call->value_size;
    for (int i = 0; i < count; i++) {
        const segment *g = &segments[i];
        if (g->vectors == 0) continue;
        if (!t->started && g->vectors < t->vectors) {
            memset(t->out, 0, (size_t)(size * TILE_ROWS) * sizeof(float));
            t->started = true;
        }
        for (int64_t j = g->start; j < g->start + g->keys; j += at->value_keys) {
            bool ends = last && j + at->value_keys >= g->start + g->keys;
            row_sums rows = {t->out, NULL, NULL, size, size};
            if (ends) rows = *last;
            rows.before = t->started ? t->out : NULL, rows.before_stride = size;
            add_piece(at, t, g, j, smaller(at->value_keys, g->start + g->keys - j), v, p, &rows,
                      next);
            t->started = true;
        }
    }
}

/* ---- Work items ------------------------------------------------------------------------------------- */

/* Describes item `item` and returns how many rows it has. */
static inline int64_t begin_item(const plan *p, const fovea_attention_call *call, int64_t item,
                                 tile_context *at, int64_t *first_row) {
    int64_t heads = call->batch * call->key_heads, head = 0, block = 0, batch = 0;
    bool causal = call->options->causal != FOVEA_ATTENTION_CAUSAL_NONE;
    /* With a causal mask the last rows attend most keys: all heads' last superblocks come first. */
    if (item > 0 || p->superblocks > 1) { /* of a small call divisions would be a tenth */
        head = causal ? item % heads : item / p->superblocks;
        block = causal ? p->superblocks - 1 - item / heads : item % p->superblocks;
        batch = head / call->key_heads, head = head % call->key_heads;
    }
    at->call = call;
    at->sequence = fovea_attention_sequence(call, batch);
    at->key_head = head;
    at->value_keys = p->value_keys;
    at->general = call->has_bias || call->has_mask || call->has_slopes || isfinite(call->softcap);
    at->limited = causal || call->options->window_left >= 0 || call->options->window_right >= 0;
    at->pairs = p->pairs, at->shorts = p->shorts;
    at->scale = (float)fabs(call->scale * LOG2E);
    at->unit = at->pairs && !at->general ? at->scale : 1;
    *first_row = block * p->block_rows;
    return smaller(at->sequence.query_count * call->group - *first_row, p->block_rows);
}

/* ---- What a table row says --------------------------------------------------------------------------- */

static inline bool serves(const fovea_problem *problem, char *reason, size_t size, int wanted) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    const fovea_attention_options *options = call.options;
    if (options->algorithm != FOVEA_ATTENTION_ALGORITHM_AUTO && options->algorithm != wanted) {
        snprintf(reason, size, "another algorithm is asked for");
        return false;
    }
    return positions_fit(&call, reason, size);
}

/* Seconds: FLOPs at a share of the peak that the algorithm was measured at, memory traffic of the score matrix, a start. */
static inline double cost(const fovea_problem *problem, int threads, double flops, double bandwidth,
                          algorithm algorithm) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    plan p = make_plan(&call, algorithm, threads);
    double operations = fovea_problem_operations(problem), scores = 0;
    if (algorithm == TEXTBOOK) {
        operations = 2 * (double)(call.head_size + call.value_size) * (double)call.query_length *
                     (double)call.key_length * (double)(call.batch * call.query_heads);
        scores = 4 * (double)p.score_matrix_floats * 4;
    }
    double share = algorithm == FLASH ? 0.85 : algorithm == FUSED ? 0.8 : 0.7;
    int64_t rows = larger(call.query_length * call.group, 1);
    operations *= (double)round_up(rows, VF_WIDTH) / (double)rows; /* lanes that stay empty */
    if (rows <= VF_WIDTH) share *= 0.15; /* keys come from memory, a broadcast an element */
    if (p.pairs) flops *= 2;
    if (p.shorts) flops *= 4.0 / 3; /* half of the products at twice the rate */
    return operations / (flops * share * p.threads) + scores / (bandwidth * p.threads) +
           (p.threads > 1 ? 3e-6 : 1e-6);
}

#endif
