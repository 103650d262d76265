/* Attention forward on the CPU: textbook, fused and flash over the micro-kernels of attention_micro.h.
 *
 * flash: a work item is a superblock of query rows of one key head. Blocks of keys are the outer loop and the tiles of the
 * superblock the inner one, so that a block of k and v is fetched, and converted where its layout asks for it, once for all of them.
 * Blocks that no row of a tile attends are skipped; only blocks on the edge of a mask are compared lane by lane. Items are
 * drained from atomic counters, those with most keys first.
 * fused: the same with a single block that spans all keys; the maximum is known before the first exponential.
 * textbook: all scores of the problem in memory, three passes, nothing skipped: what the others are compared with.
 */
#include "cpu/attention/attention_ahead.h"
#include "cpu/attention/attention_tile.h"
#include "cpu/attention/merge.h"
#include "cpu/simd/philox.h"
#include "cpu/attention/split.h"

#include "catalogue/case.h"
#include "catalogue/implementation.h"

#include <omp.h>
#include <stdatomic.h>
#include <stdio.h>

typedef enum algorithm { TEXTBOOK, FUSED, FLASH } algorithm;

enum { LISTS_MAX = 32 };

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
    bool ahead, ahead_panels;  /* what comes next is fetched: rows of q, k, v; of mask and bias */
    const pair_kernels *pairs; /* NULL: floats */
    int64_t head_words;        /* of 32 bits, in a packed query */
    size_t keys_floats, values_floats, scores_floats, query_floats, out_floats, slice_floats;
    size_t score_matrix_floats; /* textbook: behind the slices; scores, references and sums */
} plan;

static int64_t round_up(int64_t x, int64_t multiple) {
    return (x + multiple - 1) / multiple * multiple;
}

/* Half of L1 for the scores of a tile (measured flat between 48 and 192 keys); whole groups of any micro-kernel. */
static int64_t keys_of_a_block(const fovea_attention_call *call, algorithm algorithm) {
    int64_t keys = (int64_t)fovea_processor_get()->l1_bytes / 2 / (TILE_ROWS * 4);
    keys = smaller(larger(keys, 48), 192) / 24 * 24;
    if (call->options->block_keys > 0) keys = call->options->block_keys;
    if (algorithm == FUSED) keys = call->key_length;
    return larger(smaller(keys, call->key_length), 1);
}

/* Queries and outputs of a superblock in half of L2; fewer rows where the threads would run out of items. */
static int64_t rows_of_a_block(const fovea_attention_call *call, int threads) {
    int64_t row_bytes = (call->head_size + call->value_size + TILE_ARRAYS) * 4;
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
    return bf16 && scaled && algorithm != TEXTBOOK ? find_pair_kernels() : NULL;
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

/* Pays where the tensors do not stay in the second cache; rows of pages and of the heads of a group are not asked for. */
static bool fetches_ahead(const fovea_attention_call *call) {
    double rows = (double)(call->batch * call->query_heads) * (double)call->query_length +
                  (double)(call->batch * call->key_heads) * (double)call->key_length;
    double bytes = rows * (double)(call->head_size + call->value_size) *
                   (double)fovea_dtype_size(call->q.dtype);
    return !call->paged && call->k.stride[3] == 1 && call->v.stride[3] == 1 &&
           call->q.stride[3] == 1 && bytes > (double)fovea_processor_get()->l2_bytes / 2;
}

static plan make_plan(const fovea_attention_call *call, algorithm algorithm, int threads) {
    plan p = {.algorithm = algorithm, .threads = threads_that_pay(call, threads)};
    p.block_keys = keys_of_a_block(call, algorithm);
    p.value_keys = round_up(keys_of_a_block(call, FLASH), 2);
    p.pairs = pairs_that_serve(call, algorithm);
    p.ahead = algorithm == FLASH && fetches_ahead(call);
    p.ahead_panels = algorithm == FLASH && (!call->has_mask || call->mask.stride[3] == 1) &&
                     (!call->has_bias || call->bias.stride[3] == 1) &&
                     (call->has_mask || call->has_bias);
    p.block_rows = algorithm == TEXTBOOK ? TILE_ROWS : rows_of_a_block(call, p.threads);
    int64_t rows = call->query_length * call->group;
    p.superblocks = (rows + p.block_rows - 1) / p.block_rows;
    p.items = p.superblocks * call->batch * call->key_heads;
    if (p.items < p.threads) p.threads = (int)larger(p.items, 1);
    p.lists = (int)smaller(p.threads, LISTS_MAX);
    p.convert_keys = needs_conversion(call, &call->k, p.pairs);
    p.convert_values =
        p.pairs || needs_conversion(call, &call->v, false) || values_are_far(call, p.block_rows);
    p.head_words = p.pairs ? words_of(call->head_size) : call->head_size;
    int64_t value_rows = p.pairs ? words_of(p.block_keys) : p.block_keys;
    p.keys_floats = (size_t)(p.convert_keys ? round_up(p.block_keys * p.head_words, 16) : 0);
    p.values_floats = (size_t)(p.convert_values ? round_up(value_rows * call->value_size, 16) : 0);
    p.scores_floats = (size_t)(p.block_keys * TILE_ROWS);
    p.query_floats = (size_t)(p.block_rows * p.head_words);
    p.out_floats = (size_t)(p.block_rows * call->value_size);
    p.slice_floats = (p.keys_floats + p.values_floats + p.scores_floats + p.query_floats +
                      p.out_floats + (size_t)(TILE_ARRAYS * p.block_rows) + 31) /
                     16 * 16;
    if (algorithm == TEXTBOOK)
        p.score_matrix_floats = (size_t)(p.items * (call->key_length + 2) * TILE_ROWS);
    return p;
}

/* ---- A thread's slice -------------------------------------------------------------------------------- */

typedef struct slice {
    float *keys, *values, *scores, *queries, *outputs, *rows;
} slice;

static slice thread_slice(const plan *p, void *workspace, int thread) {
    slice s;
    s.keys = (float *)workspace + (size_t)thread * p->slice_floats;
    s.values = s.keys + p->keys_floats;
    s.scores = s.values + p->values_floats;
    s.queries = s.scores + p->scores_floats;
    s.outputs = s.queries + p->query_floats;
    s.rows = s.outputs + p->out_floats;
    return s;
}

static tile superblock_tile(const plan *p, const tile_context *at, const slice *s,
                            int64_t first_row, int64_t rows, int64_t number) {
    const fovea_attention_call *call = at->call;
    float *data = s->rows + number * TILE_ARRAYS * TILE_ROWS;
    tile t = {.row = first_row, .rows = smaller(rows, TILE_ROWS)};
    t.vectors = (int)((t.rows + VF_WIDTH - 1) / VF_WIDTH);
    t.q = s->queries + number * TILE_ROWS * p->head_words;
    t.out = s->outputs + number * TILE_ROWS * call->value_size;
    t.reference = data, t.sum = data + TILE_ROWS, t.slope = data + 2 * TILE_ROWS;
    t.query = (int32_t *)(void *)(data + 3 * TILE_ROWS);
    t.head = t.query + TILE_ROWS, t.first = t.head + TILE_ROWS;
    t.end = t.first + TILE_ROWS, t.position = t.end + TILE_ROWS;
    return t;
}

/* ---- Keys and values of a block -------------------------------------------------------------------- */

/* Of floats, of bf16 (k in pairs), or of words (v in pairs: a row is two keys). */
typedef struct rows_of_block {
    const void *data;
    int64_t stride; /* in elements, or words */
} rows_of_block;

static const char *key_row(const tile_context *at, const fovea_view *view, int64_t key) {
    return fovea_key_row(at->call, view, &at->sequence, at->key_head, key);
}

/* Rows [first, first + count) of k or v as floats: in place, or converted into `buffer`. */
static rows_of_block fetch_rows(const tile_context *at, const fovea_view *view, bool convert,
                                int64_t first, int64_t count, float *buffer) {
    int64_t size = view->shape[3];
    if (!convert) return (rows_of_block){key_row(at, view, first), view->stride[2]};
    for (int64_t j = 0; j < count; j++) {
        convert_row(key_row(at, view, first + j), view->dtype, view->stride[3], size,
                    buffer + j * size);
        scale_row(at->call, view, &at->sequence, at->key_head, first + j, buffer + j * size);
    }
    return (rows_of_block){buffer, size};
}

/* The same for the products of pairs: rows of k with an even number of elements. */
static rows_of_block fetch_pair_keys(const tile_context *at, bool convert, int64_t first,
                                     int64_t count, void *buffer) {
    const fovea_view *k = &at->call->k;
    int64_t size = 2 * words_of(k->shape[3]);
    if (!convert) return (rows_of_block){key_row(at, k, first), k->stride[2]};
    for (int64_t j = 0; j < count; j++)
        load_halves(key_row(at, k, first + j), k->stride[3], 0, k->shape[3],
                    (uint16_t *)buffer + j * size, size);
    return (rows_of_block){buffer, size};
}

static rows_of_block fetch_pair_values(const tile_context *at, int64_t first, int64_t count,
                                       void *buffer) {
    const fovea_view *v = &at->call->v;
    int64_t size = v->shape[3];
    for (int64_t j = 0; j < count; j += 2)
        interleave_rows(key_row(at, v, first + j),
                        j + 1 < count ? key_row(at, v, first + j + 1) : NULL, v->stride[3], size,
                        (int32_t *)buffer + j / 2 * size);
    return (rows_of_block){buffer, size};
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

/* Row `row` of a block of p becomes 0 where it is dropped; of a pair only its half of the word. */
VF_INLINE void drop_lanes(const tile_context *at, vm dropped, float *p, int64_t row) {
    if (!at->pairs) {
        float *place = p + row * TILE_ROWS;
        vf_store(place, vf_select(dropped, vf_set1(0), vf_load(place)));
        return;
    }
    int32_t *place = (int32_t *)(void *)(p + row / 2 * TILE_ROWS);
    vi word = vi_load(place), other = vi_set1(row % 2 ? 0xffff : (int32_t)0xffff0000);
    vi_store(place, vi_select(dropped, vi_and(word, other), word));
}

/* Zero where an element is dropped: lanes are rows, the four words of a counter are four keys. */
static void drop_elements(const tile_context *at, const tile *t, float *p, int64_t key,
                          int64_t keys) {
    const fovea_attention_call *call = at->call;
    const fovea_attention_options *options = call->options;
    const vi_philox_keys seed = vi_philox_begin((uint64_t)options->seed);
    const vi limit = vi_philox_limit((float)(1 - options->dropout));
    const vi base = vi_set1((int32_t)(at->sequence.batch * call->query_heads));
    for (int v = 0; v < t->vectors; v++, p += VF_WIDTH) {
        vi query = vi_load(t->query + v * VF_WIDTH),
           offset = vi_set1((int32_t)options->dropout_offset);
        vi head = vi_add(vi_load(t->head + v * VF_WIDTH), base);
        for (int64_t j = key / 8 * 8; j < key + keys; j += 8) {
            vi words[2][4];
            for (int i = 0; i < 2; i++) {
                words[i][0] = vi_set1((int32_t)(j / 4 + i));
                words[i][1] = query, words[i][2] = head, words[i][3] = offset;
            }
            vi_philox_sets(2, words, &seed);
            if (j >= key && j + 8 <= key + keys)
                VF_UNROLLED for (int w = 0; w < 8; w++)
                    drop_lanes(at, vi_philox_at_least(words[w / 4][w % 4], limit), p, j + w - key);
            else
                for (int64_t w = larger(key - j, 0); w < smaller(key + keys - j, 8); w++)
                    drop_lanes(at, vi_philox_at_least(words[w / 4][w % 4], limit), p, j + w - key);
        }
    }
}

static void score_tile(const tile_context *at, const tile *t, const segment *segments, int count,
                       rows_of_block k, float *s, float *maximum) {
    for (int v = 0; v < t->vectors; v++) vf_store(maximum + v * VF_WIDTH, NEGATIVE_INFINITY);
    for (int i = 0; i < count; i++) {
        const segment *g = &segments[i];
        if (g->vectors == 0) continue;
        int64_t lane = g->vector * VF_WIDTH, skipped = g->start * k.stride;
        float *scores = s + g->start * TILE_ROWS + lane;
        if (at->pairs)
            at->pairs[g->vectors].scores(
                g->keys, words_of(at->call->head_size), (const int32_t *)(void *)(t->q + lane),
                (const uint16_t *)k.data + skipped, k.stride, scores, maximum + lane);
        else
            micro[g->vectors].scores(g->keys, at->call->head_size, t->q + lane, TILE_ROWS,
                                     (const float *)k.data + skipped, k.stride, scores,
                                     maximum + lane);
    }
}

/* The product of keys [start, start + keys) of a block with the vectors of a segment. */
static void add_piece(const tile_context *at, const tile *t, const segment *g, int64_t start,
                      int64_t keys, rows_of_block v, const float *p) {
    int64_t size = at->call->value_size, lane = g->vector * VF_WIDTH;
    if (at->pairs)
        at->pairs[g->vectors].values(
            words_of(keys), size, (const int32_t *)(const void *)(p + start / 2 * TILE_ROWS + lane),
            (const int32_t *)v.data + start / 2 * v.stride, t->out + lane, !t->started);
    else
        micro[g->vectors].values(keys, size, p + start * TILE_ROWS + lane, TILE_ROWS,
                                 (const float *)v.data + start * v.stride, v.stride, t->out + lane,
                                 !t->started);
}

/* Long strips are taken in pieces that L1 holds. What comes first sets `out` instead of adding. */
static void add_values(const tile_context *at, tile *t, const segment *segments, int count,
                       rows_of_block v, const float *p) {
    int64_t size = at->call->value_size;
    for (int i = 0; i < count; i++) {
        const segment *g = &segments[i];
        if (g->vectors == 0) continue;
        if (!t->started && g->vectors < t->vectors) {
            memset(t->out, 0, (size_t)(size * TILE_ROWS) * sizeof(float));
            t->started = true;
        }
        for (int64_t j = g->start; j < g->start + g->keys; j += at->value_keys) {
            add_piece(at, t, g, j, smaller(at->value_keys, g->start + g->keys - j), v, p);
            t->started = true;
        }
    }
}

static void attend_block(const tile_context *at, tile *t, int64_t key, int64_t keys,
                         rows_of_block k, rows_of_block v, float *s, ahead *rows_ahead,
                         ahead *panels) {
    float maximum[TILE_ROWS];
    segment segments[2 * TILE_VECTORS + 1] = {{0, keys, 0, t->vectors}};
    bool edge = key < t->full_low || key + keys > t->full_high;
    int count = edge ? cut_segments(t, key, keys, at->pairs ? 2 : 1, segments) : 1;
    ahead_fetch(rows_ahead);
    ahead_fetch(panels);
    score_tile(at, t, segments, count, k, s, maximum);
    ahead_fetch(rows_ahead);
    ahead_fetch(panels);
    if (at->general) change_scores(at, t, s, key, keys);
    if (edge)
        limit_scores(t, s, key, keys, maximum);
    else if (at->general)
        find_maxima(t, s, keys, maximum);
    softmax_block(at, t, s, keys, maximum);
    if (at->call->options->dropout > 0) drop_elements(at, t, s, key, keys);
    ahead_fetch(rows_ahead);
    ahead_fetch(panels);
    add_values(at, t, segments, count, v, s);
}

/* ---- Work items ------------------------------------------------------------------------------------- */

static tile_context item_context(const plan *p, const fovea_attention_call *call, int64_t item,
                                 int64_t *first_row, int64_t *rows) {
    int64_t heads = call->batch * call->key_heads;
    bool causal = call->options->causal != FOVEA_ATTENTION_CAUSAL_NONE;
    /* With a causal mask the last rows attend most keys: all heads' last superblocks come first. */
    int64_t head = causal ? item % heads : item / p->superblocks;
    int64_t block = causal ? p->superblocks - 1 - item / heads : item % p->superblocks;
    tile_context at = {
        .call = call,
        .sequence = fovea_attention_sequence(call, head / call->key_heads),
        .key_head = head % call->key_heads,
        .value_keys = p->value_keys,
        .general = call->has_bias || call->has_mask || call->has_slopes || isfinite(call->softcap),
        .limited = causal || call->options->window_left >= 0 || call->options->window_right >= 0,
        .pairs = p->pairs,
        .scale = (float)fabs(call->scale * LOG2E)};
    at.unit = at.pairs && !at.general ? at.scale : 1;
    *first_row = block * p->block_rows;
    *rows = smaller(at.sequence.query_count * call->group - *first_row, p->block_rows);
    return at;
}

/* The first key of a block's part; pairs keep their places in the block. */
static int64_t pair_start(const tile_context *at, int64_t block, int64_t key) {
    return at->pairs ? block + (key - block) / 2 * 2 : key;
}

/* Rows of a mask or a bias that a tile will read for keys [first, end): of each of its heads. */
static void plan_panel_ahead(const tile_context *at, const tile *t, const fovea_view *view,
                             int64_t first, int64_t end, ahead *next) {
    int64_t size = (int64_t)fovea_dtype_size(view->dtype), group = at->call->group;
    int64_t heads = view->stride[1] == 0 ? 1 : smaller(group, AHEAD_RANGES / 2);
    for (int64_t h = 0; h < heads; h++)
        ahead_add(next,
                  fovea_row(view, at->sequence.batch, at->key_head * group + h, t->row / group) +
                      first * size,
                  view->stride[2] * size, (end - first) * size,
                  view->stride[2] == 0 ? 1 : divide_up(t->rows, group));
}

static void plan_panels_ahead(const tile_context *at, const tile *t, int64_t first, int64_t end,
                              ahead *next) {
    const fovea_attention_call *call = at->call;
    if (first >= end) return;
    if (call->has_mask) plan_panel_ahead(at, t, &call->mask, first, end, next);
    if (call->has_bias) plan_panel_ahead(at, t, &call->bias, first, end, next);
    ahead_share(next, 3);
}

/* All tiles of a superblock attend keys [start, end) of the block that begins at `block`. */
static void attend_keys(const plan *p, const tile_context *at, tile *tiles, int count,
                        int64_t block, int64_t start, int64_t end, const slice *s,
                        ahead *rows_ahead) {
    const fovea_attention_call *call = at->call;
    start = pair_start(at, block, start);
    rows_of_block k = at->pairs
                          ? fetch_pair_keys(at, p->convert_keys, start, end - start, s->keys)
                          : fetch_rows(at, &call->k, p->convert_keys, start, end - start, s->keys);
    rows_of_block v =
        at->pairs ? fetch_pair_values(at, start, end - start, s->values)
                  : fetch_rows(at, &call->v, p->convert_values, start, end - start, s->values);
    int64_t k_size = at->pairs ? 2 : 4, v_rows = at->pairs ? 2 : 1;
    for (int i = 0; i < count; i++) {
        int64_t a = pair_start(at, block, larger(start, tiles[i].low));
        int64_t b = smaller(end, tiles[i].high);
        if (a >= b) continue;
        rows_of_block tile_k = {(const char *)k.data + (a - start) * k.stride * k_size, k.stride};
        rows_of_block tile_v = {(const float *)v.data + (a - start) / v_rows * v.stride, v.stride};
        ahead panels = {.count = 0};
        if (p->ahead_panels && i + 1 < count)
            plan_panels_ahead(at, &tiles[i + 1], start, end, &panels);
        else if (p->ahead_panels)
            plan_panels_ahead(at, &tiles[0], end,
                              smaller(end + p->block_keys, at->sequence.key_count), &panels);
        attend_block(at, &tiles[i], a, b - a, tile_k, tile_v, s->scores, rows_ahead, &panels);
    }
}

/* Keys and values [first, end) of the item's head. */
static void plan_keys_ahead(const tile_context *at, int64_t first, int64_t end, ahead *next) {
    const fovea_view *k = &at->call->k, *v = &at->call->v;
    int64_t size = (int64_t)fovea_dtype_size(k->dtype);
    if (first >= end) return;
    ahead_add(next, key_row(at, v, first), v->stride[2] * size, v->shape[3] * size, end - first);
    ahead_add(next, key_row(at, k, first), k->stride[2] * size, k->shape[3] * size, end - first);
}

/* What this thread's next item begins with, if threads take turns. */
static void plan_item_ahead(const plan *p, const fovea_attention_call *call, int64_t item,
                            ahead *next) {
    int64_t first_row, rows;
    item += p->lists;
    if (item >= p->items || call->options->window_left >= 0) return;
    tile_context at = item_context(p, call, item, &first_row, &rows);
    int64_t size = (int64_t)fovea_dtype_size(call->q.dtype);
    plan_keys_ahead(&at, 0, smaller(p->block_keys, at.sequence.key_count), next);
    if (call->group > 1 || rows <= 0) return;
    ahead_add(
        next,
        fovea_row(&call->q, at.sequence.batch, at.key_head, at.sequence.query_start + first_row),
        call->q.stride[2] * size, call->head_size * size, rows);
}

static void attend_superblock(const plan *p, const fovea_attention_call *call, int64_t item,
                              const slice *s) {
    tile tiles[512 / TILE_ROWS + 1];
    int64_t first_row, rows, low = INT64_MAX, high = 0;
    tile_context at = item_context(p, call, item, &first_row, &rows);
    int count = 0;
    for (int64_t row = 0; row < rows; row += TILE_ROWS, count++) {
        tile *t = &tiles[count];
        *t = superblock_tile(p, &at, s, first_row + row, rows - row, count);
        tile_begin(&at, t);
        low = smaller(low, t->low), high = larger(high, t->high);
    }
    for (int64_t block = low / p->block_keys * p->block_keys; block < high;
         block += p->block_keys) {
        int64_t end = block + p->block_keys;
        ahead next = {.count = 0};
        if (p->ahead && end < high)
            plan_keys_ahead(&at, end, smaller(end + p->block_keys, high), &next);
        else if (p->ahead)
            plan_item_ahead(p, call, item, &next);
        ahead_share(&next, 3 * (int64_t)count);
        attend_keys(p, &at, tiles, count, block, larger(block, low), smaller(end, high), s, &next);
    }
    for (int i = 0; i < count; i++) tile_finish(&at, &tiles[i]);
}

/* ---- Textbook --------------------------------------------------------------------------------------- */

/* An item is a tile. Its scores, for all keys, and after them its references and sums. */
static float *item_scores(const plan *p, const fovea_attention_call *call, void *workspace,
                          int64_t item) {
    return (float *)workspace + (size_t)p->threads * p->slice_floats +
           (size_t)(item * (call->key_length + 2) * TILE_ROWS);
}

static void textbook_scores(const plan *p, const fovea_attention_call *call, void *workspace,
                            int64_t item, const slice *s) {
    int64_t first_row, rows;
    float maximum[TILE_ROWS], *scores = item_scores(p, call, workspace, item);
    tile_context at = item_context(p, call, item, &first_row, &rows);
    if (rows <= 0) return;
    tile t = superblock_tile(p, &at, s, first_row, rows, 0);
    tile_begin(&at, &t);
    for (int64_t j = 0; j < at.sequence.key_count; j += p->block_keys) {
        int64_t keys = smaller(p->block_keys, at.sequence.key_count - j);
        rows_of_block k = fetch_rows(&at, &call->k, p->convert_keys, j, keys, s->keys);
        const segment all = {0, keys, 0, t.vectors};
        score_tile(&at, &t, &all, 1, k, scores + j * TILE_ROWS, maximum);
    }
    if (at.general) change_scores(&at, &t, scores, 0, at.sequence.key_count);
    limit_scores(&t, scores, 0, at.sequence.key_count, maximum);
    memcpy(scores + call->key_length * TILE_ROWS, maximum, sizeof maximum);
}

static void textbook_softmax(const plan *p, const fovea_attention_call *call, void *workspace,
                             int64_t item, const slice *s) {
    int64_t first_row, rows;
    float *scores = item_scores(p, call, workspace, item);
    float *state = scores + call->key_length * TILE_ROWS, maximum[TILE_ROWS];
    tile_context at = item_context(p, call, item, &first_row, &rows);
    if (rows <= 0) return;
    tile t = superblock_tile(p, &at, s, first_row, rows, 0);
    number_rows(&at, &t);
    memcpy(maximum, state, sizeof maximum);
    t.reference = state, t.sum = state + TILE_ROWS;
    for (int64_t i = 0; i < TILE_ROWS; i++) t.reference[i] = -INFINITY, t.sum[i] = 0;
    softmax_block(&at, &t, scores, at.sequence.key_count, maximum);
    if (call->options->dropout > 0) drop_elements(&at, &t, scores, 0, at.sequence.key_count);
}

static void textbook_values(const plan *p, const fovea_attention_call *call, void *workspace,
                            int64_t item, const slice *s) {
    int64_t first_row, rows;
    float *scores = item_scores(p, call, workspace, item);
    tile_context at = item_context(p, call, item, &first_row, &rows);
    if (rows <= 0) return;
    tile t = superblock_tile(p, &at, s, first_row, rows, 0);
    number_rows(&at, &t);
    t.reference = scores + call->key_length * TILE_ROWS, t.sum = t.reference + TILE_ROWS;
    for (int64_t j = 0; j < at.sequence.key_count; j += p->block_keys) {
        int64_t keys = smaller(p->block_keys, at.sequence.key_count - j);
        rows_of_block v = fetch_rows(&at, &call->v, p->convert_values, j, keys, s->values);
        const segment all = {0, keys, 0, t.vectors};
        add_values(&at, &t, &all, 1, v, scores + j * TILE_ROWS);
    }
    tile_finish(&at, &t);
}

/* ---- Running ---------------------------------------------------------------------------------------- */

typedef void phase(const plan *p, const fovea_attention_call *call, void *workspace, int64_t item,
                   const slice *s);

static void flash_phase(const plan *p, const fovea_attention_call *call, void *workspace,
                        int64_t item, const slice *s) {
    (void)workspace;
    attend_superblock(p, call, item, s);
}

/* Items l, l + lists, ... are list l: a thread drains its own first and then helps with the others'. So a head goes to the
 * same core call after call, where its lines are; with one counter for all, half of them came from the other core's
 * cache (H8 S64 D128 with two threads on Zen 5: 55 us, 46 with lists). */
enum { LINE_COUNTERS = 8 };

typedef struct work_lists {
    _Alignas(64) atomic_llong next[LISTS_MAX][LINE_COUNTERS]; /* the first of a line counts */
} work_lists;

static void drain(const plan *p, const fovea_attention_call *call, void *workspace, phase *run,
                  work_lists *lists, int thread) {
    slice s = thread_slice(p, workspace, thread);
    for (int i = 0; i < p->lists; i++) {
        int list = (thread + i) % p->lists;
        for (;;) {
            int64_t item = list + p->lists * atomic_fetch_add_explicit(&lists->next[list][0], 1,
                                                                       memory_order_relaxed);
            if (item >= p->items) break;
            run(p, call, workspace, item, &s);
        }
    }
}

static int run_phase(const plan *p, const fovea_attention_call *call, void *workspace, phase *run) {
    work_lists lists;
    int threads = 1;
    for (int i = 0; i < p->lists; i++) lists.next[i][0] = 0;
    if (p->threads == 1) {
        drain(p, call, workspace, run, &lists, 0);
        return 1;
    }
#pragma omp parallel num_threads(p->threads)
    {
        if (omp_get_thread_num() == 0) threads = omp_get_num_threads();
        drain(p, call, workspace, run, &lists, omp_get_thread_num());
    }
    return threads;
}

static fovea_status run_attention(const fovea_problem *problem, fovea_run *run,
                                  algorithm algorithm) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    plan p = make_plan(&call, algorithm, run->threads);
    run->block_rows = p.block_rows, run->block_keys = p.block_keys;
    run->arithmetic = p.pairs ? "bf16 pairs" : NULL;
    if (algorithm == TEXTBOOK) {
        run_phase(&p, &call, run->workspace, textbook_scores);
        run_phase(&p, &call, run->workspace, textbook_softmax);
        run->threads = run_phase(&p, &call, run->workspace, textbook_values);
    } else
        run->threads = run_phase(&p, &call, run->workspace, flash_phase);
    return FOVEA_OK;
}

static size_t workspace_bytes(const fovea_problem *problem, int threads, algorithm algorithm) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    double scores = algorithm != TEXTBOOK ? 0
                                          : (double)(call.batch * call.query_heads) *
                                                (double)(call.query_length + TILE_ROWS) *
                                                (double)(call.key_length + 2) * 4;
    if (scores > 0x1p62) return SIZE_MAX;
    plan p = make_plan(&call, algorithm, threads);
    return ((size_t)p.threads * p.slice_floats + p.score_matrix_floats) * 4;
}

static bool serves(const fovea_problem *problem, char *reason, size_t size, int wanted) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    const fovea_attention_options *options = call.options;
    if (options->algorithm != FOVEA_ATTENTION_ALGORITHM_AUTO && options->algorithm != wanted) {
        snprintf(reason, size, "another algorithm is asked for");
        return false;
    }
    int64_t offset = options->query_offset;
    if (call.key_length > INT32_MAX || call.query_length > INT32_MAX || offset > INT32_MAX / 2 ||
        offset < -INT32_MAX / 2) {
        snprintf(reason, size, "it counts positions in 32 bits: Sq %lld, Sk %lld, offset %lld",
                 (long long)call.query_length, (long long)call.key_length, (long long)offset);
        return false;
    }
    return true;
}

/* Seconds: FLOPs at a share of the peak that the algorithm was measured at, memory traffic of the score matrix, a start. */
static double cost(const fovea_problem *problem, int threads, double flops, double bandwidth,
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
    if (p.pairs) flops *= 2;
    return operations / (flops * share * p.threads) + scores / (bandwidth * p.threads) +
           (p.threads > 1 ? 3e-6 : 1e-6);
}

#define ALGORITHM(name, constant)                                                                  \
    static bool serves_##name(const fovea_problem *problem, char *reason, size_t size) {           \
        return serves(problem, reason, size, FOVEA_ATTENTION_ALGORITHM_##constant);                \
    }                                                                                              \
    static fovea_status run_##name(const fovea_problem *problem, fovea_run *run) {                 \
        return run_attention(problem, run, constant);                                              \
    }                                                                                              \
    static size_t workspace_##name(const fovea_problem *problem, int threads) {                    \
        return workspace_bytes(problem, threads, constant);                                        \
    }                                                                                              \
    static double cost_##name(const fovea_problem *problem, int threads, double flops,             \
                              double bandwidth) {                                                  \
        return cost(problem, threads, flops, bandwidth, constant);                                 \
    }
ALGORITHM(flash, FLASH)
ALGORITHM(fused, FUSED)
ALGORITHM(textbook, TEXTBOOK)

static bool serves_split(const fovea_problem *problem, char *reason, size_t size) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    return serves(problem, reason, size, FOVEA_ATTENTION_ALGORITHM_SPLIT) &&
           split_serves(&call, reason, size);
}

#if defined(FOVEA_TIER_AVX512)
    #define TIER FOVEA_TIER_AVX512
    #define NAME(algorithm) "cpu/avx512/" algorithm
#elif defined(FOVEA_TIER_AVX2)
    #define TIER FOVEA_TIER_AVX2
    #define NAME(algorithm) "cpu/avx2/" algorithm
#elif defined(FOVEA_TIER_NEON)
    #define TIER FOVEA_TIER_NEON
    #define NAME(algorithm) "cpu/neon/" algorithm
#else
    #define TIER FOVEA_TIER_SCALAR
    #define NAME(algorithm) "cpu/scalar/" algorithm
#endif
/* What `info` says: of flash and fused where the processor has the unit. */
#if defined(FOVEA_TIER_AVX512)
    #define PAIRS_NOTE "bf16 by AVX-512-BF16 where the processor has it"
#else
    #define PAIRS_NOTE NULL
#endif
#define NOTE_flash PAIRS_NOTE
#define NOTE_fused PAIRS_NOTE
#define NOTE_textbook NULL
#define FLOATS (1u << FOVEA_F32 | 1u << FOVEA_F16 | 1u << FOVEA_BF16)
#define ROW(algorithm)                                                                             \
    {                                                                                              \
        .kernel = "attention", .name = NAME(#algorithm), .dtypes = FLOATS, .tier = TIER,           \
        .serves = serves_##algorithm, .workspace = workspace_##algorithm, .run = run_##algorithm,  \
        .cost = cost_##algorithm, .note = NOTE_##algorithm                                         \
    }

extern const fovea_implementation FOVEA_TIERED(fovea_cpu_attention)[];
const fovea_implementation FOVEA_TIERED(fovea_cpu_attention)[] = {ROW(flash),
                                                                  ROW(fused),
                                                                  ROW(textbook),
                                                                  {.kernel = "attention",
                                                                   .name = NAME("split"),
                                                                   .dtypes = FLOATS,
                                                                   .tier = TIER,
                                                                   .serves = serves_split,
                                                                   .workspace = split_workspace,
                                                                   .run = split_run,
                                                                   .cost = split_cost},
                                                                  {.kernel = "attention_merge",
                                                                   .name = NAME("direct"),
                                                                   .dtypes = FLOATS,
                                                                   .tier = TIER,
                                                                   .workspace = merge_workspace,
                                                                   .run = run_merge},
                                                                  {0}};
