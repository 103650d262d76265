/* split: attention of one to a few query rows over many keys, where time is reading k and v.
 *
 * The keys of each key head are cut into pieces; a work item is a piece, for all query rows of that
 * head. Pieces follow from the shape alone, and so does the order in which their partial results are
 * merged by their log-sum-exp: the bits are the same with any number of threads (Dao et al.,
 * Flash-Decoding, 2023, for the idea). Within a piece blocks of keys go through the online softmax of
 * attention_tile.h, but with vectors along the head size (split_micro.h), so that each vector of k
 * and v is loaded and converted once for up to 8 rows. Quantised and paged caches are read where
 * they lie; scales a head go into the query and the output, scales a token onto scores and
 * probabilities; only scales of parts of a row, and strided rows, are converted block by block.
 */
#ifndef FOVEA_CPU_ATTENTION_SPLIT_H
#define FOVEA_CPU_ATTENTION_SPLIT_H

#include "cpu/attention/attention_lists.h"
#include "cpu/attention/attention_rows.h"
#include "cpu/attention/split_micro.h"
#include "cpu/attention/split_pairs.h"

#include <math.h>
#include <omp.h>
#include <stdatomic.h>
#include <stdio.h>

enum {
    SPLIT_ROWS_MAX = 64, /* of a key head: more is work for flash */
    SPLIT_BLOCK_MAX = 256,
    SPLIT_BLOCK_BYTES = 32 << 10, /* of keys, and as much of values: on their way to L1 or in L2 */
    SPLIT_PIECE_KEYS = 512,       /* at least; half a millisecond of one thread at most is lost */
    SPLIT_ITEMS = 128,            /* wanted; enough for the threads to end together */
    SPLIT_WIDE_ARRAYS = 7
};

typedef struct split_plan {
    int64_t rows, tiles; /* of a key head, by the longest sequence */
    int64_t pieces, piece_keys, block_keys, items;
    int threads, lists;
    int64_t finish_rows; /* of a head whose pieces are merged at a time */
    bool convert_keys, convert_values;
    const split_pair_kernels *key_pairs, *value_pairs; /* NULL: from floats */
    bool key_scales,
        value_scales;           /* a scale a key, to be applied to its scores and probabilities */
    int64_t q_pitch, out_pitch; /* floats of a packed query row, of an output row */
    size_t keys_floats, values_floats, scores_floats, scales_floats, slice_floats;
    size_t partial_floats; /* of an item: rows of out_pitch, then references, then sums */
} split_plan;

/* One scale for a whole key head. */
static bool split_scale_is_constant(const fovea_attention_call *call, const fovea_view *scale) {
    return scale->stride[2] == 0 && (!call->paged || scale->stride[0] == 0) && scale->shape[3] == 1;
}

/* Rows that the micro-kernels cannot read in place. */
static bool split_converts(const fovea_view *view, const fovea_view *scale) {
    return view->stride[3] != 1 || (scale->data && scale->shape[3] != 1);
}

static int64_t split_round_up(int64_t x, int64_t multiple) {
    return divide_up(x, multiple) * multiple;
}

/* The bound of lse is that of f32; a softcap or a bias takes away the size of a score and leaves its error. */
static bool split_may_round(const fovea_attention_call *call) {
    return !call->has_lse && !call->has_bias && !isfinite(call->softcap);
}

static split_plan split_make_plan(const fovea_attention_call *call, int threads) {
    split_plan p = {.threads = threads, .rows = call->query_length * call->group};
    int64_t heads = call->batch * call->key_heads, keys = call->key_length;
    int64_t row_bytes = larger(call->head_size * (int64_t)fovea_dtype_size(call->k.dtype), 1);
    p.tiles = divide_up(p.rows, SPLIT_ROWS);
    p.block_keys =
        call->options->block_keys > 0 ? call->options->block_keys : SPLIT_BLOCK_BYTES / row_bytes;
    p.block_keys = larger(smaller(p.block_keys, SPLIT_BLOCK_MAX) / 16 * 16, 16);
    p.pieces = smaller(divide_up(SPLIT_ITEMS, larger(heads, 1)), divide_up(keys, SPLIT_PIECE_KEYS));
    p.pieces = larger(p.pieces, 1);
    p.piece_keys = split_round_up(larger(divide_up(keys, p.pieces), 1), p.block_keys);
    p.pieces = larger(divide_up(keys, p.piece_keys), 1);
    p.items = heads * p.pieces;
    if (p.items < p.threads) p.threads = (int)larger(p.items, 1);
    p.lists = (int)smaller(p.threads, LISTS_MAX);
    p.finish_rows = p.threads > 1 && heads < 2 * p.threads ? 1 : larger(p.rows, 1);
    p.convert_keys = split_converts(&call->k, &call->k_scale);
    p.convert_values = split_converts(&call->v, &call->v_scale);
    /* As in attention.c: without a scale scores are 0 whatever they were before. */
    if ((float)(call->scale * LOG2E) != 0 && !p.convert_keys)
        p.key_pairs = split_find_pairs(call->q.dtype, call->k.dtype);
    if (p.key_pairs && p.key_pairs->rounded && !split_may_round(call)) p.key_pairs = NULL;
    if (!p.convert_values) p.value_pairs = split_find_pairs(call->q.dtype, call->v.dtype);
    p.key_scales =
        call->k_scale.data && !p.convert_keys && !split_scale_is_constant(call, &call->k_scale);
    p.value_scales =
        call->v_scale.data && !p.convert_values && !split_scale_is_constant(call, &call->v_scale);
    p.q_pitch = split_round_up(larger(call->head_size, 1), 32);
    if (p.key_pairs) p.q_pitch = p.q_pitch * p.key_pairs->query_floats + p.key_pairs->query_more;
    p.out_pitch = split_round_up(larger(call->value_size, 1), 16);
    int64_t rows = p.tiles * SPLIT_ROWS;
    p.keys_floats = p.convert_keys ? (size_t)(p.block_keys * p.q_pitch) : 0;
    p.values_floats = p.convert_values ? (size_t)(p.block_keys * p.out_pitch) : 0;
    p.scores_floats = (size_t)(p.block_keys * SPLIT_ROWS + SPLIT_LANES);
    p.scales_floats = p.key_scales || p.value_scales ? p.scores_floats + 16 : 0;
    p.slice_floats =
        p.keys_floats + p.values_floats + p.scores_floats + p.scales_floats +
        (size_t)(rows * (p.q_pitch + p.out_pitch) + p.tiles * SPLIT_WIDE_ARRAYS * SPLIT_LANES);
    p.slice_floats = (p.slice_floats + 15) / 16 * 16;
    p.partial_floats = (size_t)(p.rows * (p.out_pitch + 2));
    return p;
}

/* ---- A tile of query rows ------------------------------------------------------------------- */

/* Wide arrays have LANES entries; lane l is row l % width. */
typedef struct split_tile {
    int width, kind;                 /* rows of the micro-kernel: 1, 2, 4 or 8, and log2 of it */
    float factor;                    /* of scores from queries as they are, in units of log 2 */
    const split_pair_kernels *pairs; /* of scores; NULL: from floats */
    int64_t row, rows;
    int64_t low, high, full_low, full_high; /* as in attention_tile.h */
    float *q, *out;
    float *reference, *sum, *slope;          /* wide */
    int32_t *first, *end, *position, *ahead; /* wide; ahead: which key of a group a lane is */
} split_tile;

typedef struct split_slice {
    float *keys, *values, *scores, *scales, *rows;
    int64_t head;                             /* whose queries are packed; -1: nobody's */
    bool floats[SPLIT_ROWS_MAX / SPLIT_ROWS]; /* of its tiles: packed as floats */
} split_slice;

/* What a work item is about. */
typedef struct split_item {
    const fovea_attention_call *call;
    const split_plan *plan;
    fovea_sequence sequence;
    int64_t head, key_head, first, end; /* head: of all batches; keys of the piece */
    split_slice *slice;
} split_item;

static const char *split_query_row(const split_item *item, const fovea_view *view, int64_t start,
                                   int64_t row) {
    int64_t group = item->call->group;
    return fovea_row(view, item->sequence.batch, item->key_head * group + row % group,
                     start + row / group);
}

/* A scale of the whole head joins the factor of the queries or of the output, unless the rows are
 * converted with their scales. */
static float split_head_scale(const split_item *item, const fovea_view *scale, bool converted) {
    float factor = 1;
    if (!converted && scale->data && split_scale_is_constant(item->call, scale) &&
        item->sequence.key_count > 0)
        memcpy(&factor, fovea_key_row(item->call, scale, &item->sequence, item->key_head, 0),
               sizeof factor);
    return factor;
}

static void split_set_limits(const split_item *item, split_tile *t) {
    const fovea_attention_call *call = item->call;
    t->low = INT64_MAX, t->high = 0, t->full_low = 0, t->full_high = INT64_MAX;
    for (int r = 0; r < t->width; r++) {
        int64_t first, end, row = t->row + smaller(r, t->rows - 1), query = row / call->group;
        fovea_attended_keys(call, &item->sequence, query, &first, &end);
        t->first[r] = (int32_t)first, t->end[r] = (int32_t)end;
        if (first < end) t->low = smaller(t->low, first), t->high = larger(t->high, end);
        t->full_low = larger(t->full_low, first), t->full_high = smaller(t->full_high, end);
        if (!call->has_slopes) continue;
        t->position[r] = (int32_t)fovea_query_position(call, &item->sequence, query);
        t->slope[r] =
            (float)(head_float(&call->slopes, item->key_head * call->group + row % call->group) *
                    LOG2E);
    }
    for (int l = t->width; l < SPLIT_LANES; l++) {
        t->first[l] = t->first[l - t->width], t->end[l] = t->end[l - t->width];
        if (!call->has_slopes) continue;
        t->position[l] = t->position[l - t->width], t->slope[l] = t->slope[l - t->width];
    }
    for (int l = 0; l < SPLIT_LANES; l++) t->ahead[l] = l / t->width;
    t->low = larger(smaller(t->low, t->high), item->first);
    t->high = smaller(t->high, item->end);
}

static const char *split_tile_query(const split_item *item, const split_tile *t, int64_t r) {
    return split_query_row(item, &item->call->q, item->sequence.query_start,
                           t->row + smaller(r, t->rows - 1));
}

static bool split_pack_pairs(const split_item *item, const split_tile *t) {
    const fovea_attention_call *call = item->call;
    int64_t pitch = item->plan->q_pitch;
    memset(t->q, 0, (size_t)(t->width * pitch) * sizeof *t->q);
    for (int64_t r = 0; r < t->width; r++)
        if (!t->pairs->pack_query(split_tile_query(item, t, r), call->q.stride[3], call->head_size,
                                  r, (uint16_t *)(void *)t->q))
            return false;
    return true;
}

static void split_pack_floats(const split_item *item, const split_tile *t) {
    const fovea_attention_call *call = item->call;
    int64_t pitch = item->plan->q_pitch;
    memset(t->q, 0, (size_t)(t->width * pitch) * sizeof *t->q);
    for (int64_t r = 0; r < t->width; r++) {
        const char *row = split_tile_query(item, t, r);
        for (int64_t d = 0; d < call->head_size; d += VF_WIDTH) {
            vf x = load_elements(row, call->q.dtype, call->q.stride[3], d,
                                 smaller(call->head_size - d, VF_WIDTH));
            vf_store(t->q + d * t->width + r * VF_WIDTH, vf_mul(x, vf_set1(t->factor)));
        }
    }
}

static void split_begin_tile(const split_item *item, int64_t number, split_tile *t) {
    const fovea_attention_call *call = item->call;
    const split_plan *p = item->plan;
    int64_t all = item->sequence.query_count * call->group;
    float *wide = item->slice->rows + p->tiles * SPLIT_ROWS * (p->q_pitch + p->out_pitch) +
                  number * SPLIT_WIDE_ARRAYS * SPLIT_LANES;
    *t = (split_tile){.row = number * SPLIT_ROWS, .width = 1};
    t->rows = smaller(all - t->row, SPLIT_ROWS);
    while (t->width < t->rows) t->width *= 2, t->kind++;
    t->q = item->slice->rows + number * SPLIT_ROWS * p->q_pitch;
    t->out = item->slice->rows + p->tiles * SPLIT_ROWS * p->q_pitch + t->row * p->out_pitch;
    t->reference = wide, t->sum = wide + SPLIT_LANES, t->slope = wide + 2 * SPLIT_LANES;
    t->first = (int32_t *)(void *)(wide + 3 * SPLIT_LANES);
    t->end = t->first + SPLIT_LANES, t->position = t->end + SPLIT_LANES;
    t->ahead = t->position + SPLIT_LANES;
    split_set_limits(item, t);
    t->factor =
        (float)(call->scale * LOG2E) * split_head_scale(item, &call->k_scale, p->convert_keys);
    bool *floats = &item->slice->floats[number];
    t->pairs = p->key_pairs ? &p->key_pairs[t->kind] : NULL;
    if (item->slice->head != item->head) *floats = !t->pairs || !split_pack_pairs(item, t);
    if (*floats) t->pairs = NULL;
    if (*floats && item->slice->head != item->head) split_pack_floats(item, t);
    memset(t->out, 0, (size_t)(t->width * p->out_pitch) * sizeof *t->out);
    for (int l = 0; l < SPLIT_LANES; l++) t->reference[l] = -INFINITY, t->sum[l] = 0;
}

/* ---- Scores --------------------------------------------------------------------------------- */

/* c tanh(s / c), in units of log 2 */
static void split_cap(const fovea_attention_call *call, float *s, int64_t count) {
    double cap = call->softcap * LOG2E;
    vf c = vf_set1((float)cap), inverse = vf_set1((float)(1 / cap));
    for (int64_t i = 0; i < count; i += VF_WIDTH)
        vf_store(s + i, vf_mul(c, vf_tanh(vf_mul(vf_load(s + i), inverse))));
}

/* Bias and mask lie along the keys of a row, scores along the rows of a key. */
static void split_bias(const split_item *item, const split_tile *t, int64_t key, int64_t keys,
                       float *s) {
    const fovea_attention_call *call = item->call;
    for (int64_t r = 0; r < t->rows; r++) {
        const char *bias =
            call->has_bias ? split_query_row(item, &call->bias, 0, t->row + r) : NULL;
        const char *mask =
            call->has_mask ? split_query_row(item, &call->mask, 0, t->row + r) : NULL;
        for (int64_t j = 0; j < keys; j += VF_WIDTH) {
            float lanes[VF_WIDTH];
            int64_t count = smaller(keys - j, VF_WIDTH);
            float *at = s + j * t->width + r;
            if (bias)
                vf_store(lanes, load_elements(bias, call->bias.dtype, call->bias.stride[3], key + j,
                                              count));
            for (int64_t i = 0; i < count; i++, at += t->width) {
                if (bias) *at += lanes[i] * (float)LOG2E;
                if (mask && !mask[(key + j + i) * call->mask.stride[3]]) *at = -INFINITY;
            }
        }
    }
}

static void split_slopes(const split_tile *t, int64_t key, int64_t groups, float *s) {
    int keys = SPLIT_LANES / t->width;
    for (int64_t g = 0; g < groups; g++, key += keys)
        for (int l = 0; l < SPLIT_LANES; l += VF_WIDTH, s += VF_WIDTH) {
            vi number = vi_add(vi_set1((int32_t)key), vi_load(t->ahead + l));
            vi distance = vi_sub(number, vi_load(t->position + l));
            vf_store(s, vf_fma(vf_load(t->slope + l), vf_from_vi(distance), vf_load(s)));
        }
}

/* -inf where a row does not attend a key. */
static void split_limit(const split_tile *t, int64_t key, int64_t groups, float *s) {
    int keys = SPLIT_LANES / t->width;
    for (int64_t g = 0; g < groups; g++, key += keys)
        for (int l = 0; l < SPLIT_LANES; l += VF_WIDTH, s += VF_WIDTH) {
            vi number = vi_add(vi_set1((int32_t)key), vi_load(t->ahead + l));
            vm out = vm_or(vi_lt(number, vi_load(t->first + l)),
                           vm_not(vi_lt(number, vi_load(t->end + l))));
            vf_store(s, vf_select(out, NEGATIVE_INFINITY, vf_load(s)));
        }
}

/* Asks for the scales of `count` keys: nobody else fetches them, and a block would wait for two times a KiB from memory. */
static void split_ask_scales(const split_item *item, const fovea_view *scale, int64_t key,
                             int64_t count) {
    const fovea_attention_call *call = item->call;
    int64_t step = scale->stride[2], at_once = step == 1 ? SPLIT_LINE / (int64_t)sizeof(float) : 1;
    while (count > 0) {
        int64_t run = count;
        if (call->paged) run = smaller(run, call->page_size - key % call->page_size);
        const char *from = fovea_key_row(call, scale, &item->sequence, item->key_head, key);
        for (int64_t j = 0; j < run; j += at_once)
            __builtin_prefetch(from + j * step * (int64_t)sizeof(float), 0, 3);
        key += run, count -= run;
    }
}

/* The scales of keys [key, key + keys), then zeros up to `padded`. */
static const float *split_take_scales(const split_item *item, const fovea_view *scale, int64_t key,
                                      int64_t keys, int64_t padded) {
    const fovea_attention_call *call = item->call;
    int64_t step = scale->stride[2];
    float *scales = item->slice->scales;
    for (int64_t j = 0; j < keys;) {
        int64_t run = keys - j;
        if (call->paged) run = smaller(run, call->page_size - (key + j) % call->page_size);
        const float *from = (const float *)(const void *)fovea_key_row(call, scale, &item->sequence,
                                                                       item->key_head, key + j);
        if (step == 1) memcpy(scales + j, from, (size_t)run * sizeof *from), j += run;
        for (; step != 1 && run > 0; run--, from += step) scales[j++] = *from;
    }
    for (int64_t j = keys; j < padded; j++) scales[j] = 0;
    return scales;
}

/* ---- Online softmax ------------------------------------------------------------------------- */

/* Scores times `factor` and their keys' scales (NULL: 1), and the largest of each row: one pass, for
 * with two cores of a Zen 5 a key of 128 bytes leaves 13 ns for everything. */
VF_INLINE void split_scale_pass(const bool has_factor, const bool has_scales, const split_tile *t,
                                int64_t groups, float factor, const float *scales, float *s,
                                vf *largest) {
    const int64_t of_a_group = SPLIT_LANES / t->width;
    for (int64_t g = 0; g < groups; g++, scales += has_scales ? of_a_group : 0)
        VF_UNROLLED for (int v = 0; v < SPLIT_LANES / VF_WIDTH; v++, s += VF_WIDTH) {
            vf x = vf_load(s);
            if (has_factor) x = vf_mul(x, vf_set1(factor));
            if (has_scales) x = vf_mul(x, split_spread(scales, t->ahead + v * VF_WIDTH));
            if (has_factor || has_scales) vf_store(s, x);
            largest[v] = vf_max(x, largest[v]);
        }
}

static void split_scale_scores(const split_tile *t, int64_t groups, float factor,
                               const float *scales, float *s, float *wide) {
    float rows[SPLIT_ROWS];
    vf largest[SPLIT_LANES / VF_WIDTH];
    for (int v = 0; v < SPLIT_LANES / VF_WIDTH; v++) largest[v] = NEGATIVE_INFINITY;
    if (scales)
        split_scale_pass(true, true, t, groups, factor, scales, s, largest);
    else if (factor != 1)
        split_scale_pass(true, false, t, groups, factor, NULL, s, largest);
    else
        split_scale_pass(false, false, t, groups, 1, NULL, s, largest);
    for (int v = 0; v < SPLIT_LANES / VF_WIDTH; v++) vf_store(wide + v * VF_WIDTH, largest[v]);
    for (int r = 0; r < t->width; r++) rows[r] = wide[r];
    for (int l = t->width; l < SPLIT_LANES; l++)
        if (wide[l] > rows[l % t->width]) rows[l % t->width] = wide[l];
    for (int l = 0; l < SPLIT_LANES; l++) wide[l] = rows[l % t->width];
}

/* Moves references that the block's maxima outgrow by more than 8, as in attention_tile.h. */
static void split_move_references(const split_item *item, split_tile *t, float *maximum) {
    const split_plan *p = item->plan;
    float factors[SPLIT_LANES];
    bool any = false;
    for (int l = 0; l < SPLIT_LANES; l += VF_WIDTH) {
        vf old = vf_load(t->reference + l), block = vf_load(maximum + l);
        vm grows = vf_gt(block, vf_add(old, vf_set1(8)));
        vf reference = vf_select(grows, block, old);
        vf factor = vf_select(grows, vf_exp2_softmax(vf_sub(old, reference)), vf_set1(1));
        any |= vm_any(grows) != 0;
        vf_store(t->sum + l, vf_mul(vf_load(t->sum + l), factor));
        vf_store(t->reference + l, reference);
        vf_store(factors + l, factor);
        vm none = vf_eq(reference, NEGATIVE_INFINITY);
        vf_store(maximum + l, vf_select(none, vf_set1(0), reference)); /* what to subtract */
    }
    for (int r = 0; any && r < t->width; r++)
        for (int64_t d = 0; d < p->out_pitch; d += VF_WIDTH) {
            float *at = t->out + r * p->out_pitch + d;
            vf_store(at, vf_mul(vf_load(at), vf_set1(factors[r])));
        }
}

/* Sums are taken before the scales of the values (NULL: 1). */
VF_INLINE void split_exponential_pass(const bool has_scales, const split_tile *t, int64_t groups,
                                      const float *shift, const float *scales, float *s, vf *sum) {
    const int64_t of_a_group = SPLIT_LANES / t->width;
    for (int64_t g = 0; g < groups; g++, scales += has_scales ? of_a_group : 0)
        VF_UNROLLED for (int v = 0; v < SPLIT_LANES / VF_WIDTH; v++, s += VF_WIDTH) {
            vf p = vf_exp2_softmax(vf_sub(vf_load(s), vf_load(shift + v * VF_WIDTH)));
            sum[v] = vf_add(sum[v], p);
            if (has_scales) p = vf_mul(p, split_spread(scales, t->ahead + v * VF_WIDTH));
            vf_store(s, p);
        }
}

static void split_exponentials(split_tile *t, int64_t groups, const float *shift,
                               const float *scales, float *s) {
    vf sum[SPLIT_LANES / VF_WIDTH];
    for (int v = 0; v < SPLIT_LANES / VF_WIDTH; v++) sum[v] = vf_set1(0);
    if (scales)
        split_exponential_pass(true, t, groups, shift, scales, s, sum);
    else
        split_exponential_pass(false, t, groups, shift, NULL, s, sum);
    for (int v = 0; v < SPLIT_LANES / VF_WIDTH; v++) {
        float *at = t->sum + v * VF_WIDTH;
        vf_store(at, vf_add(vf_load(at), sum[v]));
    }
}

/* ---- Blocks --------------------------------------------------------------------------------- */

/* Where the rows of a block are, the last one repeated up to `padded`, beyond what any block of the piece asks for. */
typedef struct split_rows {
    const char *at[SPLIT_BLOCK_MAX + SPLIT_LANES];
} split_rows;

static void split_find_rows(const split_item *item, const fovea_view *view, int64_t first,
                            int64_t count, int64_t padded, split_rows *rows) {
    const fovea_attention_call *call = item->call;
    int64_t step = fovea_row_stride(view) * (int64_t)fovea_dtype_size(view->dtype);
    int64_t filled = 0;
    while (filled < count) {
        int64_t key = first + filled, run = count - filled;
        if (call->paged) run = smaller(run, call->page_size - key % call->page_size);
        const char *row = fovea_key_row(call, view, &item->sequence, item->key_head, key);
#pragma omp simd
        for (int64_t i = 0; i < run; i++) rows->at[filled + i] = row + i * step;
        filled += run;
    }
    for (; filled < padded; filled++) rows->at[filled] = rows->at[count - 1];
}

/* Rows of a block as floats with their scales; `rows` then points to those. */
static void split_convert(const split_item *item, const fovea_view *view, int64_t first,
                          int64_t count, int64_t padded, int64_t pitch, float *buffer,
                          split_rows *rows) {
    for (int64_t j = 0; j < count; j++) {
        float *row = buffer + j * pitch;
        convert_row(rows->at[j], view->dtype, view->stride[3], view->shape[3], row);
        scale_row(item->call, view, &item->sequence, item->key_head, first + j, row);
    }
    for (int64_t j = 0; j < padded; j++)
        rows->at[j] = (const char *)(buffer + smaller(j, count - 1) * pitch);
}

static void split_attend_block(const split_item *item, split_tile *t, int64_t key, int64_t keys,
                               const split_rows *k, const split_rows *v, const split_rows *next) {
    const fovea_attention_call *call = item->call;
    const split_plan *p = item->plan;
    float maximum[SPLIT_LANES], *s = item->slice->scores;
    int64_t groups = divide_up(keys * t->width, SPLIT_LANES);
    int64_t k_bytes = call->head_size * (int64_t)fovea_dtype_size(call->k.dtype);
    int64_t v_bytes = call->value_size * (int64_t)fovea_dtype_size(call->v.dtype);
    fovea_dtype key_dtype = p->convert_keys ? FOVEA_F32 : call->k.dtype;
    fovea_dtype value_dtype = p->convert_values ? FOVEA_F32 : call->v.dtype;
    int64_t ahead_bytes = p->convert_values ? 0 : v_bytes;
    if (t->pairs)
        t->pairs->scores(groups, call->head_size, (const uint16_t *)(const void *)t->q, k->at,
                         v->at, ahead_bytes, s);
    else
        split_micro[key_dtype][t->kind].scores(groups, call->head_size, t->q, k->at, v->at,
                                               ahead_bytes, s);
    int64_t padded = groups * (SPLIT_LANES / t->width);
    const float *scales =
        p->key_scales ? split_take_scales(item, &call->k_scale, key, keys, padded) : NULL;
    split_scale_scores(t, groups, t->pairs ? t->factor : 1, scales, s, maximum);
    bool edge = key < t->full_low || key + padded > t->full_high || keys != padded;
    if (isfinite(call->softcap)) split_cap(call, s, groups * SPLIT_LANES);
    if (call->has_bias || call->has_mask) split_bias(item, t, key, keys, s);
    if (call->has_slopes) split_slopes(t, key, groups, s);
    if (edge) split_limit(t, key, groups, s);
    if (edge || isfinite(call->softcap) || call->has_bias || call->has_mask || call->has_slopes)
        split_scale_scores(t, groups, 1, NULL, s, maximum);
    split_move_references(item, t, maximum);
    scales = p->value_scales ? split_take_scales(item, &call->v_scale, key, keys, padded) : NULL;
    split_exponentials(t, groups, maximum, scales, s);
    int64_t next_bytes = p->convert_keys ? 0 : k_bytes;
    const split_pair_kernels *pairs = p->value_pairs ? &p->value_pairs[t->kind] : NULL;
    if (pairs && (!pairs->pack_weights || pairs->pack_weights(groups, s)))
        pairs->values(keys, call->value_size, v->at, next->at, next_bytes, s, t->out, p->out_pitch);
    else
        split_micro[value_dtype][t->kind].values(keys, call->value_size, v->at, next->at,
                                                 next_bytes, s, t->out, p->out_pitch);
}

/* Keys that come after this block, to be asked for with its values; their scales at once. */
static void split_find_next(const split_item *item, int64_t first, int64_t count, int64_t padded,
                            split_rows *rows) {
    split_find_rows(item, &item->call->k, first, count, padded, rows);
    if (item->plan->key_scales) split_ask_scales(item, &item->call->k_scale, first, count);
}

/* The first keys of what this thread is likely to do next: asked for with the last values of this piece. False if none. */
static bool split_find_following(const split_item *following, int64_t size, int64_t padded,
                                 split_rows *rows) {
    if (!following || following->call->options->window_left >= 0) return false;
    int64_t end = smaller(following->end, following->sequence.key_count);
    int64_t count = smaller(smaller(size, padded), end - following->first);
    if (count <= 0) return false;
    split_find_next(following, following->first, count, padded, rows);
    return true;
}

static void split_attend_piece(const split_item *item, const split_item *following,
                               split_tile *tiles, int count) {
    const fovea_attention_call *call = item->call;
    const split_plan *p = item->plan;
    int64_t low = INT64_MAX, high = 0, size = p->block_keys;
    split_rows rows[3], *k = &rows[0], *next = &rows[1], *v = &rows[2];
    for (int i = 0; i < count; i++)
        low = smaller(low, tiles[i].low), high = larger(high, tiles[i].high);
    /* Groups of keys are whole but at the end, where no row attends what would be missing. */
    low -= low % SPLIT_LANES;
    int64_t padded =
        split_round_up(smaller(size, larger(high - low, 0)), SPLIT_LANES) + SPLIT_LANES;
    if (low < high)
        split_find_rows(item, &call->k, low, smaller(size - low % size, high - low), padded, k);
    for (int64_t start = low; start < high;) {
        int64_t end = smaller(start - start % size + size, high), keys = end - start;
        split_find_rows(item, &call->v, start, keys, padded, v);
        if (p->value_scales) split_ask_scales(item, &call->v_scale, start, keys);
        bool more = end < high;
        if (more)
            split_find_next(item, end, smaller(size, high - end), padded, next);
        else
            more = split_find_following(following, size, padded, next);
        if (p->convert_keys)
            split_convert(item, &call->k, start, keys, padded, p->q_pitch, item->slice->keys, k);
        if (p->convert_values)
            split_convert(item, &call->v, start, keys, padded, p->out_pitch, item->slice->values,
                          v);
        for (int i = 0; i < count; i++)
            if (tiles[i].low < end && tiles[i].high > start)
                split_attend_block(item, &tiles[i], start, keys, k, v, more ? next : k);
        split_rows *done = k;
        k = next, next = done, start = end;
    }
}

/* ---- Partial results ------------------------------------------------------------------------ */

typedef struct split_partial {
    float *out, *references, *sums;
} split_partial;

static split_partial split_partial_of(const split_plan *p, float *partials, int64_t item) {
    float *at = partials + (size_t)item * p->partial_floats;
    return (split_partial){at, at + p->rows * p->out_pitch, at + p->rows * p->out_pitch + p->rows};
}

static void split_keep(const split_plan *p, const split_tile *t, split_partial partial) {
    for (int64_t r = 0; r < t->rows; r++) {
        float sum = 0;
        for (int l = (int)r; l < SPLIT_LANES; l += t->width) sum += t->sum[l];
        partial.references[t->row + r] = t->reference[r];
        partial.sums[t->row + r] = sum;
        memcpy(partial.out + (t->row + r) * p->out_pitch, t->out + r * p->out_pitch,
               (size_t)p->out_pitch * sizeof(float));
    }
}

static split_item split_find_item(const split_plan *p, const fovea_attention_call *call,
                                  int64_t number, split_slice *slice) {
    int64_t head = number / p->pieces, piece = number % p->pieces;
    return (split_item){.call = call,
                        .plan = p,
                        .sequence = fovea_attention_sequence(call, head / call->key_heads),
                        .head = head,
                        .key_head = head % call->key_heads,
                        .first = piece * p->piece_keys,
                        .end = (piece + 1) * p->piece_keys,
                        .slice = slice};
}

/* Followed by the next one if that is of the same list. */
static void split_run_item(const split_plan *p, const fovea_attention_call *call, int64_t number,
                           bool followed, split_slice *slice, float *partials) {
    split_tile tiles[SPLIT_ROWS_MAX / SPLIT_ROWS];
    split_item item = split_find_item(p, call, number, slice), following;
    int64_t rows = item.sequence.query_count * call->group;
    int count = 0;
    if (followed) following = split_find_item(p, call, number + 1, slice);
    for (; count * SPLIT_ROWS < rows; count++) split_begin_tile(&item, count, &tiles[count]);
    slice->head = item.head;
    split_attend_piece(&item, followed ? &following : NULL, tiles, count);
    split_partial partial = split_partial_of(p, partials, number);
    for (int i = 0; i < count; i++) split_keep(p, &tiles[i], partial);
}

/* Pieces of a row, in their order, with weights 2^(reference - the largest); then sinks. The first
 * piece's output takes the sum. */
static void split_finish_row(const split_item *item, int64_t head_number, int64_t row,
                             float *partials) {
    const fovea_attention_call *call = item->call;
    const split_plan *p = item->plan;
    float largest = -INFINITY, sum = 0;
    split_partial first = split_partial_of(p, partials, head_number * p->pieces);
    float *out = first.out + row * p->out_pitch;
    for (int64_t i = 0; i < p->pieces; i++) {
        float reference =
            split_partial_of(p, partials, head_number * p->pieces + i).references[row];
        if (reference > largest) largest = reference;
    }
    for (int64_t i = 0; i < p->pieces; i++) {
        split_partial part = split_partial_of(p, partials, head_number * p->pieces + i);
        float reference = part.references[row];
        float weight = reference == largest ? 1 : exp2f(reference - largest);
        const float *from = part.out + row * p->out_pitch;
        sum += weight * part.sums[row];
        for (int64_t d = 0; d < p->out_pitch; d += VF_WIDTH) {
            vf value = vf_mul(vf_set1(weight), vf_load(from + d));
            vf_store(out + d, i ? vf_add(vf_load(out + d), value) : value);
        }
    }
    int64_t head = item->key_head * call->group + row % call->group;
    float factor = split_head_scale(item, &call->v_scale, p->convert_values);
    bool empty = sum == 0;
    if (call->has_sinks) {
        float sink = (float)(head_float(&call->sinks, head) * LOG2E);
        float joint = sink > largest ? sink : largest, shift = joint == -INFINITY ? 0 : joint;
        float weight = exp2f(largest - shift);
        sum = sum * weight + exp2f(sink - shift);
        factor *= weight, largest = joint;
    }
    char *to = fovea_row(&call->out, item->sequence.batch, head,
                         item->sequence.query_start + row / call->group);
    for (int64_t d = 0; d < call->value_size; d += VF_WIDTH) {
        vf value = vf_mul(vf_load(out + d), vf_set1(factor / sum));
        store_elements(to, call->out.dtype, call->out.stride[3], d, empty ? vf_set1(0) : value,
                       smaller(call->value_size - d, VF_WIDTH));
    }
    if (!call->has_lse) return;
    float lse = largest * LN2 + logf(sum);
    memcpy(fovea_row(&call->lse, item->sequence.batch, head,
                     item->sequence.query_start + row / call->group),
           &lse, sizeof lse);
}

/* ---- Running -------------------------------------------------------------------------------- */

static split_slice split_thread_slice(const split_plan *p, float *workspace, int thread) {
    split_slice slice = {.keys = workspace + (size_t)thread * p->slice_floats, .head = -1};
    slice.values = slice.keys + p->keys_floats, slice.scores = slice.values + p->values_floats;
    slice.scales = slice.scores + p->scores_floats, slice.rows = slice.scales + p->scales_floats;
    return slice;
}

/* A list is a run of items, which lie one after another in the cache: the end of one asks for the beginning of the next. */
static void split_run_items(const split_plan *p, const fovea_attention_call *call, float *workspace,
                            int thread, work_lists *lists) {
    split_slice slice = split_thread_slice(p, workspace, thread);
    float *partials = workspace + (size_t)p->threads * p->slice_floats;
    for (int i = 0; i < p->lists; i++) {
        int list = (thread + i) % p->lists;
        int64_t first = p->items * list / p->lists, end = p->items * (list + 1) / p->lists;
        for (;;) {
            int64_t item = first + lists_take(lists, list);
            if (item >= end) break;
            split_run_item(p, call, item, item + 1 < end, &slice, partials);
        }
    }
}

/* When all items are done. */
static void split_finish_heads(const split_plan *p, const fovea_attention_call *call,
                               float *workspace, int thread, atomic_llong *next) {
    split_slice slice = split_thread_slice(p, workspace, thread);
    float *partials = workspace + (size_t)p->threads * p->slice_floats;
    int64_t parts = larger(divide_up(p->rows, p->finish_rows), 1); /* of a head */
    for (;;) {
        int64_t part = atomic_fetch_add_explicit(next, 1, memory_order_relaxed);
        int64_t head = part / parts, row = part % parts * p->finish_rows;
        if (head * p->pieces >= p->items) break;
        split_item item = split_find_item(p, call, head * p->pieces, &slice);
        int64_t rows = item.sequence.query_count * call->group;
        for (int64_t end = smaller(row + p->finish_rows, rows); row < end; row++)
            split_finish_row(&item, head, row, partials);
    }
}

/* What calls alike share. */
typedef struct split_work {
    fovea_attention_call call;
    split_plan plan;
} split_work;
_Static_assert(sizeof(split_work) <= FOVEA_KEPT_BYTES, "it can be kept");

static fovea_status split_run(const fovea_problem *problem, fovea_run *run) {
    split_work own;
    bool made;
    split_work *work = fovea_kept(run, sizeof own, &own, &made);
    fovea_attention_call *call = &work->call;
    split_plan *p = &work->plan;
    if (made)
        fovea_attention_describe_again(problem, problem->options, call);
    else {
        fovea_attention_describe(problem, call);
        *p = split_make_plan(call, run->threads);
    }
    work_lists items;
    atomic_llong heads = 0;
    lists_begin(&items, p->lists);
    run->block_rows = SPLIT_ROWS, run->block_keys = p->block_keys;
    run->threads = p->threads;
    if (p->threads == 1) { /* without a team, which libgomp would allocate */
        split_run_items(p, call, run->workspace, 0, &items);
        split_finish_heads(p, call, run->workspace, 0, &heads);
        return FOVEA_OK;
    }
#pragma omp parallel num_threads(p->threads)
    {
        split_run_items(p, call, run->workspace, omp_get_thread_num(), &items);
#pragma omp barrier
        split_finish_heads(p, call, run->workspace, omp_get_thread_num(), &heads);
    }
    return FOVEA_OK;
}

static size_t split_workspace(const fovea_problem *problem, int threads) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    split_plan p = split_make_plan(&call, threads);
    if ((double)p.items * (double)p.partial_floats > 0x1p58) return SIZE_MAX;
    return ((size_t)p.threads * p.slice_floats + (size_t)p.items * p.partial_floats) *
           sizeof(float);
}

static bool split_serves(const fovea_problem *problem, char *reason, size_t size) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    int64_t rows;
    if (call.options->algorithm != FOVEA_ATTENTION_ALGORITHM_AUTO &&
        call.options->algorithm != FOVEA_ATTENTION_ALGORITHM_SPLIT) {
        snprintf(reason, size, "another algorithm is asked for");
        return false;
    }
    if (!fovea_multiply(call.query_length, call.group, &rows) || rows > SPLIT_ROWS_MAX) {
        snprintf(reason, size, "it serves up to %d query rows of a key head: Sq %lld times %lld",
                 SPLIT_ROWS_MAX, (long long)call.query_length, (long long)call.group);
        return false;
    }
    if (call.options->dropout > 0) {
        snprintf(reason, size, "it has no dropout");
        return false;
    }
    return positions_fit(&call, reason, size);
}

/* Reading k and v; arithmetic only where many rows share a narrow cache. */
static double split_cost(const fovea_problem *problem, int threads, double flops,
                         double bandwidth) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    split_plan p = split_make_plan(&call, threads);
    double reading = fovea_problem_bytes(problem) / (bandwidth * fmin(p.threads, 3));
    double computing = fovea_problem_operations(problem) / (0.7 * flops * p.threads);
    return fmax(reading, computing) + 2e-7 * (double)(p.items / p.threads) +
           (p.threads > 1 ? 3e-6 : 1.6e-6);
}

#endif
