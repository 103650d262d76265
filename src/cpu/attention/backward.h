/* attention_backward: p is computed again from lse, a tile of query rows and a block of keys at a
 * time, and so is ds = p (dout v^T - delta), delta = sum(dout out) of a row (Dao et al. 2022, B.2).
 *
 * Five products, in one pass: a work item is a superblock of query rows of a key head. It runs through
 * the keys in order; dq of its tiles stays in the cache, and dk and dv are added to where they are.
 * Items of a head take their turns: each adds to a block of keys after the one before has, and so the
 * sums have the same bits with any number of threads, and nobody has memory of its own for them. An
 * item waits only for items that were begun earlier. Heads are interleaved, as many as there are
 * threads, so that an item's predecessor is as a rule finished long before.
 *
 * dk and dv that are not f32 with unit stride are gathered in scratch memory, for twice as many heads
 * as there are threads. dbias and dsinks, where asked for, have passes of their own: what was
 * broadcast is summed by one thread, in order.
 */
#ifndef FOVEA_CPU_ATTENTION_BACKWARD_H
#define FOVEA_CPU_ATTENTION_BACKWARD_H

#include "cpu/attention/backward_few.h"

#include <omp.h>
#include <sched.h>

enum { BACKWARD_TILES = 512 / TILE_ROWS };

/* ---- Tiles ------------------------------------------------------------------------------------------ */

/* What can be known without reading the rows: which they are and what they attend. */
static void place_tile(const backward_item *item, int number, int64_t row, int64_t rows,
                       backward_tile *b) {
    const fovea_attention_call *call = item->at.call;
    float *data = item->slice.tiles + (size_t)number * item->plan->tile_floats;
    tile *t = &b->t;
    *t = (tile){.row = row, .rows = smaller(rows, TILE_ROWS)};
    t->vectors = (int)((t->rows + VF_WIDTH - 1) / VF_WIDTH);
    t->q = data, data += TILE_ROWS * call->head_size;
    t->out = data, data += TILE_ROWS * call->head_size;
    b->dout = data, data += TILE_ROWS * call->value_size;
    b->q_rows = data, data += TILE_ROWS * item->plan->head_pitch;
    b->dout_rows = data, data += TILE_ROWS * item->plan->value_pitch;
    t->reference = data, t->sum = data + TILE_ROWS, t->slope = data + 2 * TILE_ROWS;
    t->query = (int32_t *)(void *)(data + 3 * TILE_ROWS);
    t->head = t->query + TILE_ROWS, t->first = t->head + TILE_ROWS;
    t->end = t->first + TILE_ROWS, t->position = t->end + TILE_ROWS;
    number_rows(&item->at, t);
    set_limits(&item->at, t, t->vectors * VF_WIDTH);
}

static void multiply_row(float *row, int64_t pitch, float factor) {
    for (int64_t d = 0; d < pitch; d += VF_WIDTH)
        vf_store(row + d, vf_mul(vf_load(row + d), vf_set1(factor)));
}

/* Reads the rows of one vector of a tile. Lanes past the last row are not added to keys. */
static void read_rows(const backward_item *item, backward_tile *b, int vector) {
    const fovea_attention_call *call = item->at.call;
    const fovea_view *dout = &item->backward->dout;
    const int64_t start = item->at.sequence.query_start;
    const float keep = (float)(1 / (1 - call->options->dropout));
    char *q[VF_WIDTH], *gradient[VF_WIDTH], *out[VF_WIDTH], *lse[VF_WIDTH];
    int64_t lane = vector * VF_WIDTH;
    int64_t filled = filled_rows(&item->at, &b->t, &call->q, start, vector, q);
    filled_rows(&item->at, &b->t, dout, start, vector, gradient);
    filled_rows(&item->at, &b->t, &call->out, start, vector, out);
    filled_rows(&item->at, &b->t, &call->lse, start, vector, lse);
    pack_rows((const char *const *)q, filled, call->q.dtype, call->q.stride[3], call->head_size,
              (float)(call->scale * LOG2E), b->t.q + lane, TILE_ROWS);
    pack_rows((const char *const *)gradient, filled, dout->dtype, dout->stride[3], call->value_size,
              keep, b->dout + lane, TILE_ROWS);
    for (int64_t i = 0; i < filled; i++) {
        float *q_row = b->q_rows + (lane + i) * item->plan->head_pitch;
        float *dout_row = b->dout_rows + (lane + i) * item->plan->value_pitch;
        copy_row(q[i], &call->q, item->plan->head_pitch, q_row);
        multiply_row(q_row, item->plan->head_pitch, (float)call->scale);
        copy_row(gradient[i], dout, item->plan->value_pitch, dout_row);
        b->t.sum[lane + i] = row_product(dout_row, out[i], &call->out);
        if (keep != 1) multiply_row(dout_row, item->plan->value_pitch, keep);
        b->t.reference[lane + i] = lse_in_log2(lse[i]);
    }
    for (int64_t i = filled; i < VF_WIDTH; i++) b->t.sum[lane + i] = b->t.reference[lane + i] = 0;
}

static void read_tile(const backward_item *item, backward_tile *b) {
    if (item->at.call->has_slopes) set_slopes(&item->at, &b->t);
    for (int v = 0; v < b->t.vectors; v++) read_rows(item, b, v);
    memset(b->t.out, 0, (size_t)(TILE_ROWS * item->at.call->head_size) * sizeof(float));
}

/* ---- A tile and a block of keys ------------------------------------------------------------------------ */

typedef struct key_block {
    int64_t key, keys;
    rows_of_block k, v;
} key_block;

static key_block fetch_block(const backward_item *item, int64_t key, int64_t keys) {
    const fovea_attention_call *call = item->at.call;
    const backward_plan *p = item->plan;
    return (key_block){
        key, keys, fetch_rows(&item->at, &call->k, p->convert_keys, key, keys, item->slice.keys),
        fetch_rows(&item->at, &call->v, p->convert_values, key, keys, item->slice.values)};
}

static const float *rows_from(const rows_of_block *rows, int64_t first) {
    return (const float *)rows->data + first * rows->stride;
}

/* Like cap_scores, and 1 - tanh^2 beside it. */
static void cap_with_slope(const tile_context *at, float *s, float *slope, int64_t keys,
                           int vectors) {
    double cap = at->call->softcap * LOG2E;
    vf c = vf_set1((float)cap), inverse = vf_set1((float)(1 / cap)), one = vf_set1(1);
    for (int64_t j = 0; j < keys; j++)
        for (int v = 0; v < vectors; v++) {
            int64_t place = j * TILE_ROWS + v * VF_WIDTH;
            vf t = vf_tanh(vf_mul(vf_load(s + place), inverse));
            vf_store(slope + place, vf_mul(vf_sub(one, t), vf_add(one, t)));
            vf_store(s + place, vf_mul(c, t));
        }
}

static void change_for_gradient(const backward_item *item, const backward_tile *b,
                                const key_block *block) {
    const fovea_attention_call *call = item->at.call;
    const backward_slice *slice = &item->slice;
    int64_t keys = block->keys;
    if (slice->slope) cap_with_slope(&item->at, slice->s, slice->slope, keys, b->t.vectors);
    if (call->has_bias) add_bias(&item->at, &b->t, slice->s, block->key, keys);
    if (call->has_mask) apply_mask(&item->at, &b->t, slice->s, block->key, keys);
    if (call->has_slopes) add_slopes(&b->t, slice->s, block->key, keys);
    for (int64_t i = 0; slice->kept && i < keys * TILE_ROWS; i++) slice->kept[i] = 1;
    if (slice->kept) drop_elements(&item->at, &b->t, slice->kept, block->key, keys);
}

/* p into slice.s and ds into slice.dp; of the score as it stands before the cap, or after it. Returns
 * how many segments there are. */
static int score_gradients(const backward_item *item, const backward_tile *b,
                           const key_block *block, bool before_cap, segment *segments) {
    const tile *t = &b->t;
    const backward_slice *slice = &item->slice;
    const int64_t head_size = item->at.call->head_size, value_size = item->at.call->value_size;
    float maximum[TILE_ROWS];
    bool edge = block->key < t->full_low || block->key + block->keys > t->full_high;
    segments[0] = (segment){0, block->keys, 0, t->vectors};
    int count = edge ? cut_segments(t, block->key, block->keys, 1, segments) : 1;
    for (int i = 0; i < TILE_ROWS; i++) maximum[i] = 0;
    for (int i = 0; i < count; i++) {
        const segment *g = &segments[i];
        int64_t lane = g->vector * VF_WIDTH, place = g->start * TILE_ROWS + lane;
        if (g->vectors == 0) continue;
        micro[g->vectors].scores(g->keys, head_size, t->q + lane, TILE_ROWS,
                                 rows_from(&block->k, g->start), block->k.stride, slice->s + place,
                                 maximum + lane);
        micro[g->vectors].scores(g->keys, value_size, b->dout + lane, TILE_ROWS,
                                 rows_from(&block->v, g->start), block->v.stride, slice->dp + place,
                                 maximum + lane);
    }
    if (item->plan->general) change_for_gradient(item, b, block);
    if (edge || item->plan->general) {
        limit_scores(t, slice->s, block->key, block->keys, maximum);
        masked_gradients_of_block(t->vectors, block->keys, slice->s, slice->dp, slice->kept,
                                  before_cap ? slice->slope : NULL, t->reference, t->sum);
    } else {
        backward_micro[t->vectors].gradients(block->keys, slice->s, slice->dp, t->reference,
                                             t->sum);
    }
    return count;
}

/* ---- Turns ------------------------------------------------------------------------------------------- */

/* Until the item has come so far; its thread may have been put to sleep. */
static void wait_for(const backward_progress *item, int64_t keys) {
    enum { PATIENCE = 2000 };
    for (int spins = 0; atomic_load_explicit(&item->keys, memory_order_acquire) < keys; spins++)
        if (spins > PATIENCE) sched_yield();
}

static void wait_for_turn(const backward_item *item, int64_t keys) {
    if (item->before) wait_for(item->before, keys);
}

static void tell_progress(const backward_item *item, int64_t keys) {
    atomic_store_explicit(&item->progress->keys, keys, memory_order_release);
}

/* ---- A superblock of rows ------------------------------------------------------------------------------- */

#ifdef FOVEA_TIER_AMX
    #include "cpu/attention/backward_tiles.h"
#else
static key_block part_of_block(const key_block *block, int64_t key, int64_t end) {
    key_block part = {key, end - key, block->k, block->v};
    part.k.data = rows_from(&block->k, key - block->key);
    part.v.data = rows_from(&block->v, key - block->key);
    return part;
}

static void backward_block(const backward_item *item, const backward_tile *b,
                           const key_block *block) {
    const int64_t head_size = item->at.call->head_size, value_size = item->at.call->value_size;
    const backward_plan *p = item->plan;
    segment segments[2 * TILE_VECTORS + 1];
    int count = score_gradients(item, b, block, true, segments);
    for (int i = 0; i < count; i++) {
        const segment *g = &segments[i];
        int64_t lane = g->vector * VF_WIDTH, place = g->start * TILE_ROWS + lane;
        int64_t rows = smaller(b->t.rows - lane, g->vectors * VF_WIDTH);
        int64_t key = block->key + g->start;
        if (g->vectors == 0) continue;
        micro[g->vectors].values(g->keys, head_size, item->slice.dp + place, TILE_ROWS,
                                 rows_from(&block->k, g->start), block->k.stride, b->t.out + lane,
                                 false);
        sum_weighted(TILE_TO_KEYS, g->keys, rows, value_size, item->slice.s + place,
                     b->dout_rows + lane * p->value_pitch, p->value_pitch,
                     item->dv.data + key * item->dv.stride, item->dv.stride);
        sum_weighted(TILE_TO_KEYS, g->keys, rows, head_size, item->slice.dp + place,
                     b->q_rows + lane * p->head_pitch, p->head_pitch,
                     item->dk.data + key * item->dk.stride, item->dk.stride);
    }
}

static void finish_tile(const backward_item *item, const backward_tile *b) {
    const fovea_view *dq = &item->backward->dq;
    for (int v = 0; v < b->t.vectors; v++) {
        char *rows[VF_WIDTH];
        int64_t filled = filled_rows(&item->at, &b->t, dq, item->at.sequence.query_start, v, rows);
        unpack_rows(b->t.out + v * VF_WIDTH, TILE_ROWS, item->at.call->head_size,
                    vf_set1((float)item->at.call->scale), vm_first(0), rows, filled, dq->dtype,
                    dq->stride[3]);
    }
}

/* A superblock of rows through all keys. Blocks start at multiples of block_keys. */
static void backward_rows(const backward_item *item, int64_t first_row, int64_t rows) {
    const backward_plan *p = item->plan;
    backward_tile tiles[BACKWARD_TILES];
    int64_t low = INT64_MAX, high = 0;
    int count = 0;
    for (int64_t row = 0; row < rows; row += TILE_ROWS, count++) {
        place_tile(item, count, first_row + row, rows - row, &tiles[count]);
        read_tile(item, &tiles[count]);
        low = smaller(low, tiles[count].t.low), high = larger(high, tiles[count].t.high);
    }
    for (int64_t start = low / p->block_keys * p->block_keys; start < high;
         start += p->block_keys) {
        int64_t from = larger(start, low), to = smaller(start + p->block_keys, high);
        key_block block = fetch_block(item, from, to - from);
        wait_for_turn(item, to);
        for (int i = 0; i < count; i++) {
            int64_t a = larger(from, tiles[i].t.low), z = smaller(to, tiles[i].t.high);
            if (a >= z) continue;
            key_block part = part_of_block(&block, a, z);
            backward_block(item, &tiles[i], &part);
        }
        tell_progress(item, to);
    }
    for (int i = 0; i < count; i++) finish_tile(item, &tiles[i]);
}
#endif

/* ---- Work items -------------------------------------------------------------------------------------- */

typedef struct backward_phase {
    int64_t items;
    void (*run)(backward_item *item, int64_t number);
} backward_phase;

/* Keys that no row attends, and those of no sequence, have gradient 0. */
static void clear_keys(backward_item *item, int64_t number) {
    const fovea_view *views[] = {&item->backward->dk, &item->backward->dv};
    int64_t batch = 0, head = number;
    if (head >= views[0]->shape[1])
        batch = number / views[0]->shape[1], head = number % views[0]->shape[1];
    for (int i = 0; i < 2; i++) {
        const fovea_view *view = views[i];
        if (!view->data) continue;
        const int64_t size = view->shape[3], element = (int64_t)fovea_dtype_size(view->dtype);
        char *row = fovea_row(view, batch, head, 0);
        for (int64_t j = 0; j < view->shape[2]; j++, row += view->stride[2] * element)
            if (view->stride[3] == 1)
                memset(row, 0, (size_t)(size * element));
            else
                for (int64_t d = 0; d < size; d += VF_WIDTH)
                    store_elements(row, view->dtype, view->stride[3], d, vf_set1(0),
                                   smaller(size - d, VF_WIDTH));
    }
}

/* Where the keys of the item's head are added to. */
static float_rows open_rows(const backward_item *item, const fovea_view *view, bool in_place,
                            int64_t pitch, float *scratch) {
    if (!in_place) return (float_rows){scratch, pitch};
    char *first = fovea_key_row(item->at.call, view, &item->at.sequence, item->at.key_head, 0);
    return (float_rows){(float *)(void *)first, fovea_row_stride(view)};
}

static void close_rows(const backward_item *item, const fovea_view *view, bool in_place,
                       float factor, const float_rows *rows) {
    for (int64_t j = 0; j < item->at.sequence.key_count && !in_place; j++) {
        char *row = fovea_key_row(item->at.call, view, &item->at.sequence, item->at.key_head, j);
        for (int64_t d = 0; d < view->shape[3]; d += VF_WIDTH) {
            int64_t count = smaller(view->shape[3] - d, VF_WIDTH);
            vf x = vf_load_n(rows->data + j * rows->stride + d, (size_t)count);
            store_elements(row, view->dtype, view->stride[3], d, vf_mul(x, vf_set1(factor)), count);
        }
    }
}

/* The number of an item: groups of interleaved heads one after another, in a group superblock by
 * superblock, in that head by head. */
static int64_t item_number(const backward_plan *p, int64_t head, int64_t superblock) {
    int64_t first = head / p->interleaved * p->interleaved;
    int64_t group = smaller(p->interleaved, p->heads - first);
    return first * p->superblocks + superblock * group + head - first;
}

static void find_item(const backward_plan *p, int64_t number, int64_t *head, int64_t *superblock) {
    *head = *superblock = 0;
    if (number == 0) return; /* of a small call the only one: three divisions are a tenth of it */
    int64_t first = number / (p->interleaved * p->superblocks) * p->interleaved;
    int64_t group = smaller(p->interleaved, p->heads - first);
    number -= first * p->superblocks;
    *head = first + number % group, *superblock = number / group;
}

/* The first item of a head clears what it is gathered in, once the head before it there is done. */
static void clear_gathered(const backward_item *item, const backward_progress *all, int64_t head) {
    const backward_plan *p = item->plan;
    size_t floats = p->dk_floats + p->dv_floats;
    if (floats == 0) return;
    if (head >= p->slots)
        wait_for(&all[item_number(p, head - p->slots, p->superblocks - 1)], INT64_MAX);
    memset(item->dk.data, 0, floats * sizeof(float));
}

static void run_superblock(backward_item *item, int64_t number) {
    const backward_plan *p = item->plan;
    const fovea_backward_call *backward = item->backward;
    const fovea_attention_call *call = &backward->attention;
    int64_t head, superblock, batch = 0, slot;
    find_item(p, number, &head, &superblock);
    int64_t key_head = slot = head;
    if (head >= call->key_heads) batch = head / call->key_heads, key_head = head % call->key_heads;
    if (head >= p->slots) slot = head % p->slots;
    set_backward_context(call, batch, key_head, &item->at);
    item->progress = &item->all[number];
    item->before = superblock ? &item->all[item_number(p, head, superblock - 1)] : NULL;
    float *dk = item->gathered + (size_t)slot * (p->dk_floats + p->dv_floats);
    if (superblock == 0) {
        item->dk.data = dk;
        clear_gathered(item, item->all, head);
    }
    item->dk = open_rows(item, &backward->dk, p->keys_in_place, p->head_pitch, dk);
    item->dv =
        open_rows(item, &backward->dv, p->values_in_place, p->value_pitch, dk + p->dk_floats);
    int64_t row = superblock * p->block_rows;
    int64_t rows = item->at.sequence.query_count * call->group - row;
    if (rows > 0) backward_rows(item, row, smaller(rows, p->block_rows));
    wait_for_turn(item, INT64_MAX);
    if (superblock == p->superblocks - 1) {
        close_rows(item, &backward->dk, p->keys_in_place, p->key_factor, &item->dk);
        close_rows(item, &backward->dv, p->values_in_place, p->value_factor, &item->dv);
    }
    tell_progress(item, INT64_MAX);
}

/* ---- dsinks ---------------------------------------------------------------------------------------------- */

static void run_sink(backward_item *item, int64_t head) {
    const fovea_attention_call *call = &item->backward->attention;
    const fovea_view *dout = &item->backward->dout;
    double sum = 0, sink = head_float(&call->sinks, head);
    float *row = item->slice.tiles;
    for (int64_t b = 0; b < call->batch; b++) {
        fovea_sequence sequence = fovea_attention_sequence(call, b);
        for (int64_t i = 0; i < sequence.query_count; i++) {
            int64_t number = sequence.query_start + i;
            float lse;
            memcpy(&lse, fovea_row(&call->lse, b, head, number), sizeof lse);
            if (lse == -INFINITY || sink == -INFINITY) continue;
            copy_row(fovea_row(dout, b, head, number), dout, item->plan->value_pitch, row);
            float delta = row_product(row, fovea_row(&call->out, b, head, number), &call->out);
            sum -= exp(sink - (double)lse) * (double)delta;
        }
    }
    float total = (float)sum;
    memcpy(item->backward->dsinks.data + head * item->backward->dsinks.stride[0] * 4, &total,
           sizeof total);
}

/* ---- dbias ----------------------------------------------------------------------------------------------- */

/* An item of this pass: elements (batch, head, rows, all keys) of dbias, and what they stand for. */
typedef struct bias_item {
    int64_t batch, batches, head, heads, tile, tiles;
} bias_item;

static int64_t bias_tiles(const fovea_backward_call *backward) {
    return backward->dbias.stride[2] ? divide_up(backward->attention.query_length, TILE_ROWS) : 1;
}

static int64_t bias_items(const fovea_backward_call *backward) {
    return backward->dbias.shape[0] * backward->dbias.shape[1] * bias_tiles(backward);
}

static bias_item describe_bias_item(const fovea_backward_call *backward, int64_t number) {
    const fovea_view *dbias = &backward->dbias;
    int64_t tiles = bias_tiles(backward);
    bias_item i = {.tile = number % tiles, .tiles = 1, .batches = 1, .heads = 1};
    i.head = number / tiles % dbias->shape[1], i.batch = number / tiles / dbias->shape[1];
    if (!dbias->stride[0]) i.batch = 0, i.batches = backward->attention.batch;
    if (!dbias->stride[1]) i.head = 0, i.heads = backward->attention.query_heads;
    if (!dbias->stride[2])
        i.tile = 0, i.tiles = divide_up(backward->attention.query_length, TILE_ROWS);
    return i;
}

/* One query head by itself: a call in which it is the only one of its group. */
static fovea_attention_call call_of_head(const fovea_attention_call *call, int64_t head) {
    fovea_attention_call one = *call;
    fovea_view *views[] = {&one.k, &one.v};
    for (int i = 0; i < 2; i++) {
        int64_t step = views[i]->stride[1] * (int64_t)fovea_dtype_size(views[i]->dtype);
        views[i]->data += head / call->group * step;
        views[i]->stride[1] = 0;
    }
    one.key_heads = call->query_heads, one.group = 1;
    return one;
}

/* sum[key][row] += ds of a head's tile, for the keys of a block. */
static void add_bias_tile(backward_item *item, int64_t row, int64_t key, int64_t keys, bool read,
                          float *sum) {
    backward_tile b;
    segment segments[2 * TILE_VECTORS + 1];
    place_tile(item, 0, row, item->at.sequence.query_count - row, &b);
    int64_t from = larger(key, b.t.low), to = smaller(key + keys, b.t.high);
    if (read) read_tile(item, &b);
    if (from >= to) return;
    key_block block = fetch_block(item, from, to - from);
    score_gradients(item, &b, &block, false, segments);
    for (int64_t j = 0; j < block.keys; j++)
        for (int v = 0; v < b.t.vectors; v++) {
            int64_t place = j * TILE_ROWS + v * VF_WIDTH;
            float *to_sum = sum + (from - key) * TILE_ROWS + place;
            vm rows = vm_first((size_t)smaller(b.t.rows - v * VF_WIDTH, VF_WIDTH));
            vf ds = vf_select(rows, vf_load(item->slice.dp + place), vf_set1(0));
            vf_store(to_sum, vf_add(vf_load(to_sum), ds));
        }
}

static void store_bias(const fovea_view *dbias, const bias_item *i, int64_t row, int64_t key,
                       double value) {
    char *at = fovea_row(dbias, i->batch, i->head, row);
    store_elements(at, dbias->dtype, dbias->stride[3], key, vf_set1((float)value), 1);
}

/* Sums of a block of keys go to their elements; those along broadcast keys wait in `columns`. */
static void store_bias_block(const backward_item *item, const bias_item *i, int64_t key,
                             int64_t keys, const float *sum, double *columns) {
    const fovea_view *dbias = &item->backward->dbias;
    int64_t first = i->tile * TILE_ROWS, rows = smaller(dbias->shape[2] - first, TILE_ROWS);
    for (int64_t j = 0; j < keys; j++) {
        double total = 0;
        for (int64_t r = 0; r < TILE_ROWS; r++) {
            double value = (double)sum[j * TILE_ROWS + r];
            total += value;
            if (dbias->stride[3] == 0)
                columns[r] += value;
            else if (dbias->stride[2] && r < rows)
                store_bias(dbias, i, first + r, key + j, value);
        }
        if (dbias->stride[3] && !dbias->stride[2]) store_bias(dbias, i, 0, key + j, total);
    }
}

static void store_bias_columns(const backward_item *item, const bias_item *i,
                               const double *columns) {
    const fovea_view *dbias = &item->backward->dbias;
    int64_t first = i->tile * TILE_ROWS, rows = smaller(dbias->shape[2] - first, TILE_ROWS);
    double total = 0;
    for (int64_t r = 0; r < TILE_ROWS; r++) total += columns[r];
    if (!dbias->stride[2])
        store_bias(dbias, i, 0, 0, total);
    else
        for (int64_t r = 0; r < rows; r++) store_bias(dbias, i, first + r, 0, columns[r]);
}

static void add_bias_heads(backward_item *item, const bias_item *i, int64_t key, int64_t keys,
                           bool read, float *sum) {
    const fovea_attention_call *call = &item->backward->attention;
    for (int64_t b = i->batch; b < i->batch + i->batches; b++)
        for (int64_t h = i->head; h < i->head + i->heads; h++) {
            fovea_attention_call one = call_of_head(call, h);
            set_backward_context(&one, b, h, &item->at);
            for (int64_t t = i->tile; t < i->tile + i->tiles; t++)
                if (t * TILE_ROWS < item->at.sequence.query_count)
                    add_bias_tile(item, t * TILE_ROWS, key, keys, read, sum);
        }
}

static void run_bias(backward_item *item, int64_t number) {
    const backward_plan *p = item->plan;
    const bias_item i = describe_bias_item(item->backward, number);
    bool alone = i.batches * i.heads * i.tiles == 1;
    double columns[TILE_ROWS] = {0};
    float *sum = item->slice.bias;
    for (int64_t key = 0; key < item->backward->attention.key_length; key += p->block_keys) {
        int64_t keys = smaller(p->block_keys, item->backward->attention.key_length - key);
        memset(sum, 0, p->block_floats * sizeof *sum);
        add_bias_heads(item, &i, key, keys, !alone || key == 0, sum);
        store_bias_block(item, &i, key, keys, sum, columns);
    }
    if (item->backward->dbias.stride[3] == 0) store_bias_columns(item, &i, columns);
}

/* ---- Running --------------------------------------------------------------------------------------------- */

static void begin_items(const backward_plan *p, const fovea_backward_call *backward,
                        void *workspace, int thread, backward_item *item) {
    item->plan = p, item->backward = backward;
    item->all = progress_of_items(p, workspace);
    item->gathered = gathered_rows(p, workspace);
    set_backward_slice(p, workspace, thread, &item->slice);
}

static int run_backward_phase(const backward_plan *p, const fovea_backward_call *backward,
                              void *workspace, const backward_phase *phase) {
    atomic_llong next = 0;
    int threads = (int)larger(smaller(p->threads, phase->items), 1), used = 1;
    if (threads == 1) {
        backward_item item;
        begin_items(p, backward, workspace, 0, &item);
        for (int64_t number = 0; number < phase->items; number++) phase->run(&item, number);
        return 1;
    }
#pragma omp parallel num_threads(threads)
    {
#pragma omp single nowait
        used = omp_get_num_threads();
        backward_item item;
        begin_items(p, backward, workspace, omp_get_thread_num(), &item);
        for (;;) {
            int64_t number = atomic_fetch_add_explicit(&next, 1, memory_order_relaxed);
            if (number >= phase->items) break;
            phase->run(&item, number);
        }
    }
    return used;
}

/* What calls alike share. */
typedef struct backward_work {
    fovea_backward_call call;
    backward_plan plan;
} backward_work;
_Static_assert(sizeof(backward_work) <= FOVEA_KEPT_BYTES, "it can be kept");

static fovea_status run_backward(const fovea_problem *problem, fovea_run *run) {
    backward_work own;
    bool made;
    backward_work *work = fovea_kept(run, sizeof own, &own, &made);
    fovea_backward_call *backward = &work->call;
    backward_plan *p = &work->plan;
    if (made)
        fovea_backward_describe_again(problem, backward);
    else {
        fovea_backward_describe(problem, backward);
        *p = make_backward_plan(backward, run->threads);
    }
    bool all_keys = p->few && few_reach_all_keys(backward);
    const backward_phase phases[] = {
        {all_keys ? 0 : backward->dk.shape[0] * backward->dk.shape[1], clear_keys},
        {p->heads * p->superblocks, p->few ? run_few : run_superblock},
        {backward->has_dbias ? bias_items(backward) : 0, run_bias},
        {backward->has_dsinks ? backward->attention.query_heads : 0, run_sink}};
    backward_progress *progress = progress_of_items(p, run->workspace);
    for (int64_t i = 0; i < p->heads * p->superblocks && !p->few; i++)
        atomic_init(&progress[i].keys, 0);
    run->threads = 1;
    for (size_t i = 0; i < sizeof phases / sizeof *phases; i++) {
        if (phases[i].items == 0) continue;
        int used = run_backward_phase(p, backward, run->workspace, &phases[i]);
        if (used > run->threads) run->threads = used;
    }
    run->block_rows = p->block_rows, run->block_keys = p->block_keys;
    return FOVEA_OK;
}

static size_t workspace_backward(const fovea_problem *problem, int threads) {
    fovea_backward_call backward;
    fovea_backward_describe(problem, &backward);
    backward_plan p = make_backward_plan(&backward, threads);
    return ((size_t)p.threads * p.slice_floats + (size_t)p.slots * (p.dk_floats + p.dv_floats)) *
               sizeof(float) +
           (size_t)(p.heads * p.superblocks) * sizeof(backward_progress);
}

static bool serves_backward(const fovea_problem *problem, char *reason, size_t size) {
    fovea_backward_call backward;
    fovea_backward_describe(problem, &backward);
    return positions_fit(&backward.attention, reason, size);
}

static inline double cost_backward(const fovea_problem *problem, int threads, double flops,
                                   double bandwidth) {
    fovea_backward_call backward;
    (void)bandwidth;
    fovea_backward_describe(problem, &backward);
    backward_plan p = make_backward_plan(&backward, threads);
    return fovea_problem_operations(problem) / (flops * 0.75 * p.threads) +
           (p.threads > 1 ? 3e-6 : 1e-6);
}

#endif
