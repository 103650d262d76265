/* The rows of backward.h on AMX's tiles: its five products of bf16, included by it in that tier.
 *
 * A block of keys is taken in groups of 32. Lanes are query rows: s[key][row] = K Q^T and dp[key][row] = V dout^T for 32 rows
 * come out of the tiles as floats and become p and ds, rounded to bf16 once each, in the orders in which the other products take
 * them. [16 keys][32 rows] is a first factor: dv[key][column] += p dout and dk[key][column] += ds q, with the rows of dout and q
 * interleaved by pairs as second factors. These sum over all tiles of a superblock while a tile of dk or dv stays in a register,
 * for loading and storing it costs as much as four products. [pairs of keys][16 rows] is a second factor:
 * dq[column][row] += K^T ds, over the groups of a block.
 *
 * Interleaving the rows of two keys takes rows 0 to 3, 8 to 11, ... of 32 into one vector and the others into the other
 * (vpunpcklwd and vpunpckhwd); dq has them in that order until it is finished. The scale and the share that dropout keeps do not
 * fit bf16: scores and dp are multiplied as floats, gradients when they are stored.
 *
 * Sums of dk and dv are added to a group of 32 rows after another, and those of dq of 32 keys, whatever the superblocks and
 * blocks are.
 */
#ifndef FOVEA_CPU_ATTENTION_BACKWARD_TILES_H
#define FOVEA_CPU_ATTENTION_BACKWARD_TILES_H

#include "cpu/simd/amx.h"

enum {
    T00,
    T01,
    T10,
    T11,
    F0,
    F1,
    S0,
    S1
}; /* sums of two by two tiles, first and second factors */

typedef struct row_tile {
    backward_tile b;                        /* t.out gathers dq: [column][row] */
    uint16_t *queries, *gradients;          /* [step][vector]: second factors of s and dp */
    uint16_t *query_pairs, *gradient_pairs; /* [16 columns]: second factors of dk and dv */
    uint16_t *p, *ds;                       /* [16 keys of the block]: first factors of dv and dk */
} row_tile;

/* A block of keys in packed form. */
typedef struct tiled_block {
    int64_t first, end;      /* multiples of 32 */
    uint16_t *keys, *values; /* [group][step][16 keys]: first factors of s and dp */
    uint16_t *columns;       /* [32 columns][group][16 columns]: first factors of dq */
    uint16_t *ds;            /* [group][vector]: second factors of dq, of the tile in hand */
} tiled_block;

/* ---- Rows ------------------------------------------------------------------------------------------- */

static void place_rows(const backward_item *item, int number, int64_t row, int64_t rows,
                       row_tile *r) {
    const backward_plan *p = item->plan;
    float *data = item->slice.tiles + p->block_floats + (size_t)number * p->tile_floats;
    tile *t = &r->b.t;
    *r = (row_tile){0};
    t->row = row, t->rows = smaller(rows, TILE_ROWS), t->vectors = TILE_VECTORS;
    r->queries = (uint16_t *)(void *)data, data += TILE_ROWS * p->head_pitch / 2;
    r->query_pairs = (uint16_t *)(void *)data, data += TILE_ROWS * p->head_pitch / 2;
    r->gradients = (uint16_t *)(void *)data, data += TILE_ROWS * p->value_pitch / 2;
    r->gradient_pairs = (uint16_t *)(void *)data, data += TILE_ROWS * p->value_pitch / 2;
    r->p = (uint16_t *)(void *)data, data += p->block_floats / 2;
    r->ds = (uint16_t *)(void *)data, data += p->block_floats / 2;
    t->out = data, data += TILE_ROWS * p->head_pitch;
    t->reference = data, t->sum = data + TILE_ROWS, t->slope = data + 2 * TILE_ROWS;
    t->query = (int32_t *)(void *)(data + 3 * TILE_ROWS);
    t->head = t->query + TILE_ROWS, t->first = t->head + TILE_ROWS;
    t->end = t->first + TILE_ROWS, t->position = t->end + TILE_ROWS;
    number_rows(&item->at, t);
    set_limits(&item->at, t, TILE_ROWS);
}

/* [16 columns][pair of rows]: words of two rows. */
static void pair_rows(char *const rows[TILE_ROWS], const fovea_view *view, uint16_t *packed) {
    const bool whole = view->stride[3] == 1 && view->shape[3] % STEP == 0;
    const __m512i iota = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i low = _mm512_add_epi32(_mm512_mullo_epi32(iota, vi_set1(0x10001)),
                                         vi_set1(0x200000)),
                  high = _mm512_add_epi32(low, vi_set1(0x100010));
    for (int64_t d = 0; d < view->shape[3]; d += STEP, packed += 2 * HALF_TILE)
        for (int i = 0; i < TILE_ROWS; i += 2) {
            __m512i row[2];
            for (int odd = 0; odd < 2; odd++)
                load_terms(1, whole, rows[i + odd], FOVEA_BF16, view->stride[3], d,
                           smaller(view->shape[3] - d, STEP), &row[odd]);
            uint16_t *to = packed + i / 2 * STEP;
            _mm512_storeu_si512(to, _mm512_permutex2var_epi16(row[0], low, row[1]));
            _mm512_storeu_si512(to + HALF_TILE, _mm512_permutex2var_epi16(row[0], high, row[1]));
        }
}

static void pack_tile_rows(char *const rows[TILE_ROWS], const fovea_view *view, uint16_t *packed,
                           uint16_t *pairs) {
    const bool whole = view->stride[3] == 1 && view->shape[3] % STEP == 0;
    for (int v = 0; v < TILE_VECTORS; v++)
        if (whole)
            pack_query_vector(1, true, view, rows + v * VF_WIDTH, packed + v * HALF_TILE);
        else
            pack_query_vector(1, false, view, rows + v * VF_WIDTH, packed + v * HALF_TILE);
    pair_rows(rows, view, pairs);
}

static float product_of_rows(const char *x, const fovea_view *a, const char *y,
                             const fovea_view *b) {
    vf sum = vf_set1(0);
    for (int64_t d = 0; d < a->shape[3]; d += VF_WIDTH) {
        int64_t count = smaller(a->shape[3] - d, VF_WIDTH);
        sum = vf_fma(load_elements(x, a->dtype, a->stride[3], d, count),
                     load_elements(y, b->dtype, b->stride[3], d, count), sum);
    }
    return vf_reduce_add(sum);
}

/* Lanes past the last row repeat it with p and ds of 0. */
static void read_tile_rows(const backward_item *item, row_tile *r) {
    const fovea_attention_call *call = item->at.call;
    const fovea_view *dout = &item->backward->dout;
    const int64_t start = item->at.sequence.query_start;
    tile *t = &r->b.t;
    char *q[TILE_ROWS], *gradient[TILE_ROWS], *out[TILE_ROWS], *lse[TILE_ROWS];
    rows_of_lanes(&item->at, t, &call->q, start, 0, TILE_ROWS, q);
    rows_of_lanes(&item->at, t, dout, start, 0, TILE_ROWS, gradient);
    rows_of_lanes(&item->at, t, &call->out, start, 0, TILE_ROWS, out);
    rows_of_lanes(&item->at, t, &call->lse, start, 0, TILE_ROWS, lse);
    if (call->has_slopes) set_slopes(&item->at, t);
    pack_tile_rows(q, &call->q, r->queries, r->query_pairs);
    pack_tile_rows(gradient, dout, r->gradients, r->gradient_pairs);
    for (int64_t i = 0; i < TILE_ROWS; i++) {
        bool there = i < t->rows;
        t->sum[i] = there ? product_of_rows(gradient[i], dout, out[i], &call->out) : 0;
        t->reference[i] = there ? lse_in_log2(lse[i]) : INFINITY;
    }
    memset(t->out, 0, (size_t)(TILE_ROWS * item->plan->head_pitch) * sizeof(float));
}

/* dq, its rows put in order. */
static void finish_rows(const backward_item *item, const row_tile *r) {
    const fovea_view *dq = &item->backward->dq;
    const tile *t = &r->b.t;
    const vi low = _mm512_set_epi32(23, 22, 21, 20, 7, 6, 5, 4, 19, 18, 17, 16, 3, 2, 1, 0),
             high = vi_add(low, vi_set1(8));
    for (int64_t d = 0; d < item->at.call->head_size; d++) {
        float *line = t->out + d * TILE_ROWS;
        vf first = vf_load(line), second = vf_load(line + VF_WIDTH);
        vf_store(line, _mm512_permutex2var_ps(first, low, second));
        vf_store(line + VF_WIDTH, _mm512_permutex2var_ps(first, high, second));
    }
    for (int v = 0; v < TILE_VECTORS; v++) {
        char *rows[VF_WIDTH];
        int64_t filled = filled_rows(&item->at, t, dq, item->at.sequence.query_start, v, rows);
        unpack_rows(t->out + v * VF_WIDTH, TILE_ROWS, item->at.call->head_size,
                    vf_set1((float)item->at.call->scale), vm_first(0), rows, filled, dq->dtype,
                    dq->stride[3]);
    }
}

/* ---- Keys ------------------------------------------------------------------------------------------- */

static int64_t groups_of(const tiled_block *block) { return (block->end - block->first) / STEP; }

VF_INLINE void pack_group(const bool whole, const fovea_view *view, const char *const rows[STEP],
                          uint16_t *packed) {
    pack_key_rows(1, whole, view, rows, packed);
}

VF_INLINE void pack_columns(const bool whole, const fovea_view *view, const char *const rows[STEP],
                            int64_t groups, uint16_t *packed) {
    for (int64_t d = 0; d < view->shape[3]; d += STEP, packed += groups * 2 * HALF_TILE)
        pack_value_columns(1, FOVEA_BF16, whole, view, rows, d, vi_set1(0), packed);
}

static tiled_block pack_block(const backward_item *item, int64_t first, int64_t end) {
    const fovea_attention_call *call = item->at.call;
    const backward_plan *p = item->plan;
    tiled_block b = {.first = first,
                     .end = end,
                     .keys = (uint16_t *)(void *)item->slice.keys,
                     .values = (uint16_t *)(void *)item->slice.values,
                     .ds = (uint16_t *)(void *)item->slice.tiles};
    b.columns = b.keys + p->block_keys * p->head_pitch;
    for (int64_t g = 0; g < groups_of(&b); g++) {
        int64_t key = first + g * STEP, count = item->at.sequence.key_count - key;
        const char *rows[STEP];
        uint16_t *keys = b.keys + g * STEP * p->head_pitch;
        uint16_t *values = b.values + g * STEP * p->value_pitch;
        uint16_t *columns = b.columns + g * 2 * HALF_TILE;
        if (rows_of_group(&item->at, &call->k, key, smaller(count, STEP), rows)) {
            pack_group(true, &call->k, rows, keys);
            pack_columns(true, &call->k, rows, groups_of(&b), columns);
        } else {
            pack_group(false, &call->k, rows, keys);
            pack_columns(false, &call->k, rows, groups_of(&b), columns);
        }
        if (rows_of_group(&item->at, &call->v, key, smaller(count, STEP), rows))
            pack_group(true, &call->v, rows, values);
        else
            pack_group(false, &call->v, rows, values);
    }
    return b;
}

/* ---- p and ds --------------------------------------------------------------------------------------- */

/* Where the halves of a group go. */
typedef struct weights {
    uint16_t *p, *ds, *ds_pairs;
} weights;

VF_INLINE __m512i halves_of_row(const vf x[TILE_VECTORS]) {
    return (__m512i)_mm512_cvtne2ps_pbh(x[1], x[0]);
}

/* The factors of two keys. */
VF_INLINE void store_weights(int pair, vf p[2][TILE_VECTORS], vf ds[2][TILE_VECTORS],
                             const weights *to) {
    __m512i row[2];
    VF_UNROLLED for (int odd = 0; odd < 2; odd++) {
        _mm512_storeu_si512(to->p + (2 * pair + odd) * STEP, halves_of_row(p[odd]));
        row[odd] = halves_of_row(ds[odd]);
        _mm512_storeu_si512(to->ds + (2 * pair + odd) * STEP, row[odd]);
    }
    _mm512_storeu_si512(to->ds_pairs + pair * STEP, _mm512_unpacklo_epi16(row[0], row[1]));
    _mm512_storeu_si512(to->ds_pairs + pair * STEP + HALF_TILE,
                        _mm512_unpackhi_epi16(row[0], row[1]));
}

/* A group that all rows attend, whose scores want a factor: taken a pair of keys at a time while other products are made. */
typedef struct weight_work {
    const float *s, *dp;
    weights to;
    int pair, budget, slots; /* pairs are spread evenly over so many products */
    vf unit, shift[TILE_VECTORS], mean[TILE_VECTORS];
} weight_work;

VF_INLINE void take_pair(weight_work *w) {
    vf p[2][TILE_VECTORS], ds[2][TILE_VECTORS];
    VF_UNROLLED for (int i = 0; i < 2; i++) VF_UNROLLED for (int v = 0; v < TILE_VECTORS; v++) {
        const int64_t place = i * TILE_ROWS + v * VF_WIDTH;
        p[i][v] = vf_exp2_softmax(vf_fma(vf_load(w->s + place), w->unit, w->shift[v]));
        ds[i][v] = vf_mul(p[i][v], vf_sub(vf_load(w->dp + place), w->mean[v]));
    }
    store_weights(w->pair++, p, ds, &w->to);
    w->s += 2 * TILE_ROWS, w->dp += 2 * TILE_ROWS;
}

VF_INLINE void take_share(const bool busy, weight_work *w) {
    if (!busy) return;
    w->budget += STEP / 2;
    while (w->budget >= w->slots && w->pair < STEP / 2) {
        take_pair(w);
        w->budget -= w->slots;
    }
}

/* ---- Products --------------------------------------------------------------------------------------- */

enum { FLOAT_LINE = TILE_ROWS * sizeof(float) };

/* s[32 keys][32 rows] of `steps` elements. */
VF_INLINE void multiply_group(const bool busy, int64_t steps, const uint16_t *keys,
                              const uint16_t *rows, float *s, weight_work *w) {
    amx_zero(T00);
    amx_zero(T01);
    amx_zero(T10);
    amx_zero(T11);
    for (int64_t step = 0; step < steps; step++, keys += 2 * HALF_TILE, rows += 2 * HALF_TILE) {
        amx_load(F0, keys, AMX_ROW_BYTES);
        amx_load(S0, rows, AMX_ROW_BYTES);
        amx_bf16(T00, F0, S0);
        take_share(busy, w);
        amx_load(S1, rows + HALF_TILE, AMX_ROW_BYTES);
        amx_bf16(T01, F0, S1);
        take_share(busy, w);
        amx_load(F1, keys + HALF_TILE, AMX_ROW_BYTES);
        amx_bf16(T10, F1, S0);
        take_share(busy, w);
        amx_bf16(T11, F1, S1);
        take_share(busy, w);
    }
    amx_store(T00, s, FLOAT_LINE);
    amx_store(T01, s + AMX_ROWS, FLOAT_LINE);
    amx_store(T10, s + AMX_ROWS * TILE_ROWS, FLOAT_LINE);
    amx_store(T11, s + AMX_ROWS * TILE_ROWS + AMX_ROWS, FLOAT_LINE);
}

/* Two by two tiles of floats, lines `line` bytes apart. */
static void load_sums(const float *from, int64_t line) {
    const float *below = (const float *)(const void *)((const char *)from + AMX_ROWS * line);
    amx_load(T00, from, line);
    amx_load(T01, from + AMX_ROWS, line);
    amx_load(T10, below, line);
    amx_load(T11, below + AMX_ROWS, line);
}

static void store_sums(float *to, int64_t line) {
    float *below = (float *)(void *)((char *)to + AMX_ROWS * line);
    amx_store(T00, to, line);
    amx_store(T01, to + AMX_ROWS, line);
    amx_store(T10, below, line);
    amx_store(T11, below + AMX_ROWS, line);
}

/* The products of two by two tiles, each factor's side by side. */
static void add_products(const uint16_t *first, const uint16_t *second) {
    amx_load(F0, first, AMX_ROW_BYTES);
    amx_load(S0, second, AMX_ROW_BYTES);
    amx_bf16(T00, F0, S0);
    amx_load(S1, second + HALF_TILE, AMX_ROW_BYTES);
    amx_bf16(T01, F0, S1);
    amx_load(F1, first + HALF_TILE, AMX_ROW_BYTES);
    amx_bf16(T10, F1, S0);
    amx_bf16(T11, F1, S1);
}

/* dq of a tile += K^T ds for groups [first, end) of the block. */
static void add_to_rows(const backward_item *item, const row_tile *r, const tiled_block *block,
                        int half, int64_t first, int64_t end) {
    const uint16_t *columns = block->columns;
    const uint16_t *ds = block->ds + half * groups_of(block) * 2 * HALF_TILE;
    float *out = r->b.t.out;
    for (int64_t d = 0; d < item->plan->head_pitch; d += STEP, out += STEP * TILE_ROWS) {
        load_sums(out, FLOAT_LINE);
        for (int64_t g = first; g < end; g++)
            add_products(columns + g * 2 * HALF_TILE, ds + g * 2 * HALF_TILE);
        store_sums(out, FLOAT_LINE);
        columns += groups_of(block) * 2 * HALF_TILE;
    }
}

/* sums[32 keys][columns] += first^T second over tiles of rows. */
static void add_to_keys(int64_t count, const uint16_t *const first[],
                        const uint16_t *const second[], int64_t pitch, float *sums) {
    for (int64_t d = 0; d < pitch; d += STEP) {
        load_sums(sums + d, pitch * (int64_t)sizeof(float));
        for (int64_t i = 0; i < count; i++)
            add_products(first[i], second[i] + d / STEP * 2 * HALF_TILE);
        store_sums(sums + d, pitch * (int64_t)sizeof(float));
    }
}

/* Of any group: by the functions of backward.h, then rounded. */
static void find_weights_with_options(const backward_item *item, const row_tile *r, int64_t key,
                                      float *s, float *dp, const weights *to) {
    const backward_slice *slice = &item->slice;
    const tile *t = &r->b.t;
    const float keep = item->plan->value_factor;
    float maximum[TILE_ROWS];
    key_block block = {.key = key, .keys = smaller(STEP, item->at.sequence.key_count - key)};
    scale_scores(&item->at, s, STEP, TILE_VECTORS);
    for (int64_t i = 0; keep != 1 && i < STEP * TILE_ROWS; i += VF_WIDTH)
        vf_store(dp + i, vf_mul(vf_load(dp + i), vf_set1(keep)));
    if (item->plan->general) change_for_gradient(item, &r->b, &block);
    limit_scores(t, s, key, STEP, maximum);
    masked_gradients_of_block(TILE_VECTORS, STEP, s, dp, slice->kept, slice->slope, t->reference,
                              t->sum);
    for (int pair = 0; pair < STEP / 2; pair++, s += 2 * TILE_ROWS, dp += 2 * TILE_ROWS) {
        vf p[2][TILE_VECTORS], ds[2][TILE_VECTORS];
        for (int i = 0; i < 2 * TILE_VECTORS; i++)
            p[i / 2][i % 2] = vf_load(s + i * VF_WIDTH),
                         ds[i / 2][i % 2] = vf_load(dp + i * VF_WIDTH);
        store_weights(pair, p, ds, to);
    }
}

/* ---- A superblock ----------------------------------------------------------------------------------- */

/* The groups of a block that a tile attends: [*first, *end). */
static void attended_groups(const tile *t, const tiled_block *block, int64_t *first, int64_t *end) {
    int64_t low = larger(t->low / STEP * STEP, block->first);
    int64_t high = smaller(round_up(t->high, STEP), block->end);
    *first = (low - block->first) / STEP;
    *end = t->low < t->high ? larger((high - block->first) / STEP, *first) : *first;
}

/* A tile and a group whose s and dp there are, or NULL. */
typedef struct pending {
    const row_tile *r;
    int64_t group;
    int turn; /* which buffers of s and dp, and of ds */
    int half;
} pending;

static weights weights_of(const row_tile *r, const tiled_block *block, int64_t g, int half) {
    return (weights){r->p + g * 2 * HALF_TILE, r->ds + g * 2 * HALF_TILE,
                     block->ds + (half * groups_of(block) + g) * 2 * HALF_TILE};
}

static bool is_plain(const backward_item *item, const tile *t, int64_t key) {
    return !item->plan->general && key >= t->full_low && key + STEP <= t->full_high;
}

/* s and dp of the next, if there is one, and meanwhile p and ds of the one before. */
static void advance(const backward_item *item, const tiled_block *block, pending *before,
                    pending next) {
    const backward_plan *p = item->plan;
    const int64_t head_steps = p->head_pitch / STEP, value_steps = p->value_pitch / STEP;
    weight_work w = {0};
    bool busy = false;
    if (before->r) {
        const tile *t = &before->r->b.t;
        const int64_t key = block->first + before->group * STEP;
        const weights to = weights_of(before->r, block, before->group, before->half);
        float *s = item->slice.s + before->turn * STEP * TILE_ROWS;
        float *dp = item->slice.dp + before->turn * STEP * TILE_ROWS;
        if (is_plain(item, t, key)) {
            busy = true;
            w = (weight_work){.s = s, .dp = dp, .to = to, .unit = vf_set1(item->at.scale)};
            w.slots = (int)larger(4 * (head_steps + value_steps), 1);
            for (int v = 0; v < TILE_VECTORS; v++) {
                w.shift[v] = vf_sub(vf_set1(0), vf_load(t->reference + v * VF_WIDTH));
                w.mean[v] = vf_load(t->sum + v * VF_WIDTH);
            }
        } else {
            find_weights_with_options(item, before->r, key, s, dp, &to);
        }
    }
    if (next.r) {
        float *s = item->slice.s + next.turn * STEP * TILE_ROWS;
        float *dp = item->slice.dp + next.turn * STEP * TILE_ROWS;
        const uint16_t *keys = block->keys + next.group * STEP * p->head_pitch;
        const uint16_t *values = block->values + next.group * STEP * p->value_pitch;
        if (busy) {
            multiply_group(true, head_steps, keys, next.r->queries, s, &w);
            multiply_group(true, value_steps, values, next.r->gradients, dp, &w);
        } else {
            multiply_group(false, head_steps, keys, next.r->queries, s, NULL);
            multiply_group(false, value_steps, values, next.r->gradients, dp, NULL);
        }
    }
    while (busy && w.pair < STEP / 2) take_pair(&w);
    *before = next;
}

/* p, ds and dq of all tiles. dq of a tile follows when the next one has begun. */
static void attend_block(const backward_item *item, const row_tile *tiles, int count,
                         const tiled_block *block) {
    pending before = {0};
    const row_tile *last = NULL;
    int64_t first, end, last_first = 0, last_end = 0;
    int turn = 0, half = 0;
    for (int i = 0; i < count; i++) {
        attended_groups(&tiles[i].b.t, block, &first, &end);
        if (first == end) continue;
        for (int64_t g = first; g < end; g++, turn ^= !item->plan->general) {
            advance(item, block, &before, (pending){&tiles[i], g, turn, half});
            if (g == first && last) add_to_rows(item, last, block, half ^ 1, last_first, last_end);
        }
        last = &tiles[i], last_first = first, last_end = end, half ^= 1;
    }
    advance(item, block, &before, (pending){0});
    if (last) add_to_rows(item, last, block, half ^ 1, last_first, last_end);
}

static void attend_keys(const backward_item *item, const row_tile *tiles, int count,
                        const tiled_block *block) {
    for (int64_t g = 0; g < groups_of(block); g++) {
        const uint16_t *p[BACKWARD_TILES], *ds[BACKWARD_TILES], *dout[BACKWARD_TILES],
            *q[BACKWARD_TILES];
        const int64_t key = block->first + g * STEP;
        int64_t found = 0, first, end;
        for (int i = 0; i < count; i++) {
            attended_groups(&tiles[i].b.t, block, &first, &end);
            if (g < first || g >= end) continue;
            p[found] = tiles[i].p + g * 2 * HALF_TILE, ds[found] = tiles[i].ds + g * 2 * HALF_TILE;
            dout[found] = tiles[i].gradient_pairs, q[found] = tiles[i].query_pairs;
            found++;
        }
        if (found == 0) continue;
        add_to_keys(found, p, dout, item->dv.stride, item->dv.data + key * item->dv.stride);
        add_to_keys(found, ds, q, item->dk.stride, item->dk.data + key * item->dk.stride);
    }
}

/* A superblock of rows through all keys. Turns are taken by whole groups, as these are added to. */
static void backward_rows(const backward_item *item, int64_t first_row, int64_t rows) {
    const backward_plan *p = item->plan;
    const amx_configuration whole = amx_whole_tiles();
    row_tile tiles[BACKWARD_TILES];
    int64_t low = INT64_MAX, high = 0;
    int count = 0;
    amx_configure(&whole);
    for (int64_t row = 0; row < rows; row += TILE_ROWS, count++) {
        place_rows(item, count, first_row + row, rows - row, &tiles[count]);
        read_tile_rows(item, &tiles[count]);
        low = smaller(low, tiles[count].b.t.low), high = larger(high, tiles[count].b.t.high);
    }
    low = low / STEP * STEP, high = round_up(high, STEP);
    for (int64_t start = low / p->block_keys * p->block_keys; start < high;
         start += p->block_keys) {
        int64_t from = larger(start, low), to = smaller(start + p->block_keys, high);
        tiled_block block = pack_block(item, from, to);
        attend_block(item, tiles, count, &block);
        wait_for_turn(item, to);
        attend_keys(item, tiles, count, &block);
        tell_progress(item, to);
    }
    for (int i = 0; i < count; i++) finish_rows(item, &tiles[i]);
    amx_release();
}

#endif
