/* How a call of attention_backward is cut into work, and reading its rows. */
#ifndef FOVEA_CPU_ATTENTION_BACKWARD_PLAN_H
#define FOVEA_CPU_ATTENTION_BACKWARD_PLAN_H

#include "cpu/attention/attention_blocks.h"
#include "cpu/attention/backward_micro.h"
#ifdef FOVEA_TIER_AMX
    #include "cpu/attention/attention_terms.h"
#endif

#include <stdatomic.h>

typedef struct backward_plan {
    int64_t block_keys, block_rows; /* block_rows: a multiple of TILE_ROWS, or all if few */
    int64_t heads, interleaved;     /* key heads of all sequences; how many run at a time */
    int64_t superblocks, slots;     /* of a head; heads whose dk and dv are gathered at a time */
    int threads;
    bool few; /* rows of a head, all at once (backward_few.h) */
    bool general, dropout, capped, biased, keys_in_place, values_in_place;
    bool convert_keys, convert_values;
    int64_t head_pitch, value_pitch; /* of rows of q and dout in a tile, and of gathered ones */
    int terms;                       /* of bf16 (backward_tiles.h) */
    float key_factor, value_factor;  /* that gathered dk and dv still want */
    size_t keys_floats, values_floats, block_floats, tile_floats, slice_floats;
    size_t dk_floats, dv_floats; /* gathered for a head */
} backward_plan;

/* How far an item is: keys below have got all that it and those before it add. A cache line each. */
typedef struct backward_progress {
    _Alignas(64) atomic_llong keys;
} backward_progress;

/* A tile of forward (its `out` gathers dq, `reference` is lse in units of log 2, `sum` is delta), and
 * dout packed like q; rows of q, times scale, and of dout, over the share that dropout keeps. */
typedef struct backward_tile {
    tile t;
    float *dout, *q_rows, *dout_rows;
} backward_tile;

typedef struct backward_slice {
    float *keys, *values, *s, *dp, *kept, *slope, *bias, *tiles;
} backward_slice;

/* Floats side by side, rows `stride` floats apart. */
typedef struct float_rows {
    float *data;
    int64_t stride;
} float_rows;

typedef struct backward_item {
    const backward_plan *plan;
    const fovea_backward_call *backward;
    backward_slice slice;
    tile_context at;
    float_rows dk, dv;                    /* are added to there; row 0 is key 0 of the sequence */
    backward_progress *all;               /* of all items */
    backward_progress *progress, *before; /* of this one; before: NULL, it is the first */
    float *gathered;
} backward_item;

/* ---- The plan --------------------------------------------------------------------------------------- */

/* Scores and their gradients of a tile fill a third of L1 (see NOTES.md). */
static int64_t backward_block_keys(const fovea_attention_call *call) {
    int64_t keys = (int64_t)fovea_processor_get()->l1_bytes / 3 / (2 * TILE_ROWS * 4);
    keys = smaller(larger(keys, 24), 192) / 24 * 24;
    if (call->options->block_keys > 0) keys = call->options->block_keys;
    return larger(smaller(keys, call->key_length), 1);
}

#ifdef FOVEA_TIER_AMX
/* Of tiles: keys in whole steps, rows by four tiles. */
enum { BACKWARD_LANES = STEP, BACKWARD_ROWS = 4 * TILE_ROWS, TILED_KEYS = 128 };

/* What backward_tiles.h wants: keys and rows as halves in two orders each, p and ds of a block, and ds of a tile in a second order. */
static void plan_tiles(const fovea_attention_call *call, backward_plan *p) {
    int64_t keys = call->options->block_keys > 0 ? call->options->block_keys : TILED_KEYS;
    p->terms = call->q.dtype == FOVEA_BF16 ? 1 : 2;
    p->block_keys = round_up(larger(smaller(keys, call->key_length), 1), STEP);
    int64_t row = p->terms * (p->head_pitch + p->value_pitch + p->block_keys) + p->head_pitch;
    size_t tile = (size_t)(TILE_ROWS * (row + TILE_ARRAYS));
    p->tile_floats = p->biased && p->tile_floats > tile ? p->tile_floats : tile;
    p->keys_in_place = p->values_in_place = false;
    p->key_factor = (float)call->scale;
    p->value_factor = (float)(1 / (1 - call->options->dropout));
}
#else
enum { BACKWARD_LANES = VF_WIDTH, BACKWARD_ROWS = TILE_ROWS };
#endif

/* Tiles in half of L2; fewer rows where the threads would run out of items. */
static int64_t backward_block_rows(const fovea_attention_call *call, const backward_plan *p) {
    int64_t row_bytes = (int64_t)(p->tile_floats / TILE_ROWS) * 4;
    int64_t rows = (int64_t)fovea_processor_get()->l2_bytes / 2 / row_bytes;
    int64_t of_a_head = call->query_length * call->group;
    if (p->threads > 1) rows = smaller(rows, of_a_head * p->heads / (8 * p->threads));
    if (call->options->block_rows > 0) rows = call->options->block_rows;
    rows = smaller(larger(rows, 1), smaller(of_a_head, 512));
    return larger(round_up(rows, BACKWARD_ROWS), BACKWARD_ROWS);
}

enum { FEW_ROWS = 32 };

/* Where tiles take longer (NOTES.md). Tiles of one lane have none to leave empty. */
static bool rows_are_few(const fovea_attention_call *call) {
    int64_t rows = call->query_length * call->group;
    int64_t most = call->key_length <= FEW_KEYS ? FEW_ROWS : FEW_ROWS * 3 / 4;
    bool forced = call->options->block_rows > 0 || call->options->block_keys > 0;
    return VF_WIDTH > 1 && !forced && rows <= most;
}

/* Floats of a slice where rows are few: as few_slice lays them out. */
static size_t few_slice_floats(const backward_plan *p) {
    return (size_t)(p->block_rows * (p->value_pitch + 2 * p->head_pitch + 2 * FEW_KEYS) +
                    FEW_KEYS * (p->value_pitch + p->head_pitch));
}

/* Rows of a block that are not floats side by side: a superblock reads them over and over. */
static bool is_copied(const fovea_attention_call *call, const fovea_view *view) {
    return needs_conversion(call, view, false) || fovea_row_stride(view) != view->shape[3];
}

static backward_plan make_backward_plan(const fovea_backward_call *backward, int threads) {
    const fovea_attention_call *call = &backward->attention;
    const fovea_view *dk = &backward->dk, *dv = &backward->dv;
    int64_t d = call->head_size, dv_size = call->value_size;
    backward_plan p = {.threads = threads_that_pay(call, threads),
                       .heads = call->batch * call->key_heads,
                       .general = call->has_bias || call->has_mask || call->has_slopes ||
                                  isfinite(call->softcap) || call->options->dropout > 0,
                       .dropout = call->options->dropout > 0,
                       .capped = isfinite(call->softcap),
                       .biased = backward->has_dbias,
                       .convert_keys = is_copied(call, &call->k),
                       .convert_values = is_copied(call, &call->v),
                       .keys_in_place = dk->dtype == FOVEA_F32 && dk->stride[3] == 1,
                       .values_in_place = dv->dtype == FOVEA_F32 && dv->stride[3] == 1,
                       .head_pitch = round_up(d, BACKWARD_LANES),
                       .value_pitch = round_up(dv_size, BACKWARD_LANES),
                       .key_factor = 1,
                       .value_factor = 1};
    p.tile_floats =
        (size_t)(TILE_ROWS * (2 * d + dv_size + p.head_pitch + p.value_pitch + TILE_ARRAYS));
    p.few = !p.general && rows_are_few(call);
    p.block_keys =
        p.few ? larger(smaller(call->key_length, FEW_KEYS), 1) : backward_block_keys(call);
#ifdef FOVEA_TIER_AMX
    if (!p.few) plan_tiles(call, &p);
#endif
    p.block_rows =
        p.few ? larger(call->query_length * call->group, 1) : backward_block_rows(call, &p);
    p.superblocks = larger(divide_up(call->query_length * call->group, p.block_rows), 1);
    if (p.superblocks * p.heads < p.threads) p.threads = (int)larger(p.superblocks * p.heads, 1);
    p.interleaved = larger(smaller(p.heads, p.threads), 1);
    p.slots = smaller(p.heads, 2 * p.interleaved);
    int64_t gathered = round_up(call->key_length, BACKWARD_LANES);
    if (!p.keys_in_place && !p.few) p.dk_floats = (size_t)round_up(gathered * p.head_pitch, 16);
    if (!p.values_in_place && !p.few) p.dv_floats = (size_t)round_up(gathered * p.value_pitch, 16);
    p.block_floats = (size_t)(p.block_keys * TILE_ROWS);
    p.keys_floats = (size_t)(p.block_keys * p.head_pitch * larger(p.terms, 1));
    p.values_floats = (size_t)(p.block_keys * p.value_pitch * larger(p.terms, 1));
    p.slice_floats = p.keys_floats + p.values_floats +
                     (size_t)(2 + p.dropout + p.capped + p.biased) * p.block_floats +
                     (size_t)p.terms * p.block_floats / 2 +
                     (size_t)(p.block_rows / TILE_ROWS) * p.tile_floats;
    if (p.few) p.slice_floats = few_slice_floats(&p);
    p.slice_floats = (p.slice_floats + 31) / 16 * 16;
    return p;
}

/* The workspace: a slice a thread, gathered dk and dv, progress of all items. */
static float *gathered_rows(const backward_plan *p, void *workspace) {
    return (float *)workspace + (size_t)p->threads * p->slice_floats;
}

static backward_progress *progress_of_items(const backward_plan *p, void *workspace) {
    return (backward_progress *)(void *)(gathered_rows(p, workspace) +
                                         (size_t)p->slots * (p->dk_floats + p->dv_floats));
}

static void set_backward_slice(const backward_plan *p, void *workspace, int thread,
                               backward_slice *s) {
    s->keys = s->tiles = (float *)workspace + (size_t)thread * p->slice_floats;
    if (p->few) return;
    s->values = s->keys + p->keys_floats;
    s->s = s->values + p->values_floats;
    s->dp = s->s + p->block_floats;
    s->kept = p->dropout ? s->dp + p->block_floats : NULL;
    s->slope = p->capped ? s->dp + (1 + p->dropout) * p->block_floats : NULL;
    s->bias = s->dp + (size_t)(1 + p->dropout + p->capped) * p->block_floats;
    s->tiles = s->bias + (p->biased ? p->block_floats : 0);
}

/* ---- Rows ------------------------------------------------------------------------------------------- */

/* A row side by side, padded with zeros to whole vectors. */
static void copy_row(const char *row, const fovea_view *view, int64_t pitch, float *copy) {
    int64_t size = view->shape[3], whole = size / VF_WIDTH * VF_WIDTH;
    const bool plain = view->dtype == FOVEA_F32 && view->stride[3] == 1;
    const float *from = (const float *)(const void *)row;
    for (int64_t d = 0; plain && d < whole; d += VF_WIDTH) vf_store(copy + d, vf_load(from + d));
    if (!plain) convert_row(row, view->dtype, view->stride[3], whole, copy);
    /* The last vector at once, since it is read at once: what is stored in parts is not forwarded. */
    if (whole < pitch)
        vf_store(copy + whole,
                 plain ? vf_load_n(from + whole, (size_t)(size - whole))
                       : load_elements(row, view->dtype, view->stride[3], whole, size - whole));
}

static float row_product(const float *dout, const char *out, const fovea_view *view) {
    const bool plain = view->dtype == FOVEA_F32 && view->stride[3] == 1;
    const float *from = (const float *)(const void *)out;
    vf sum = vf_set1(0);
    for (int64_t d = 0; d < view->shape[3]; d += VF_WIDTH) {
        int64_t count = smaller(view->shape[3] - d, VF_WIDTH);
        vf x = plain ? vf_load_n(from + d, (size_t)count)
                     : load_elements(out, view->dtype, view->stride[3], d, count);
        sum = vf_fma(vf_load(dout + d), x, sum);
    }
    return vf_reduce_add(sum);
}

/* A row whose lse is -inf attends nothing: with +inf its p are 0. */
static float lse_in_log2(const char *at) {
    float lse;
    memcpy(&lse, at, sizeof lse);
    return lse == -INFINITY ? INFINITY : (float)((double)lse * LOG2E);
}

/* In place, as a copy would wait for what has just been stored. */
static void set_backward_context(const fovea_attention_call *call, int64_t batch, int64_t key_head,
                                 tile_context *at) {
    const fovea_attention_options *options = call->options;
    at->call = call;
    at->sequence = fovea_attention_sequence(call, batch);
    at->key_head = key_head;
    at->general = false;
    at->limited = options->causal != FOVEA_ATTENTION_CAUSAL_NONE || options->window_left >= 0 ||
                  options->window_right >= 0;
    at->pairs = NULL, at->shorts = NULL;
    at->scale = (float)(call->scale * LOG2E);
    at->value_keys = 0, at->unit = 0;
}

#endif
