/* The rows of backward.h on AMX's tiles: its five products of bf16, or of f16 as two terms each (attention_terms.h), included by it in that tier.
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

/* Sums of two by two tiles, first and second factors. */
enum { T00, T01, T10, T11, F0, F1, S0, S1 };

/* Halves are in tiles of 512, and terms one behind another where [term] stands. */
typedef struct row_tile {
    backward_tile b;                        /* t.out gathers dq: [column][row] */
    uint16_t *queries, *gradients;          /* [step][term][vector]: second factors of s and dp */
    uint16_t *query_pairs, *gradient_pairs; /* [32 columns][term][16]: second factors of dk, dv */
    uint16_t *p, *ds;                       /* [group][term][16 keys]: first factors of dv, dk */
    bool finite;                            /* its queries are */
} row_tile;

/* A block of keys in packed form. */
typedef struct tiled_block {
    int64_t first, end;      /* multiples of 32 */
    uint16_t *keys, *values; /* [group][step][term][16 keys]: first factors of s and dp */
    uint16_t *columns;       /* [32 columns][group][16][term]: first factors of dq */
    uint16_t *ds;            /* [group][term][vector]: second factors of dq, of the tile in hand */
    bool finite;             /* its keys are */
} tiled_block;

/* ---- Rows ------------------------------------------------------------------------------------------- */

static void place_rows(const backward_item *item, int number, int64_t row, int64_t rows,
                       row_tile *r) {
    const backward_plan *p = item->plan;
    float *data = item->slice.tiles + (size_t)p->terms * p->block_floats / 2 +
                  (size_t)number * p->tile_floats;
    const int64_t queries = p->terms * TILE_ROWS * p->head_pitch / 2,
                  gradients = p->terms * TILE_ROWS * p->value_pitch / 2,
                  halves = p->terms * (int64_t)p->block_floats / 2;
    tile *t = &r->b.t;
    *r = (row_tile){0};
    t->row = row, t->rows = smaller(rows, TILE_ROWS), t->vectors = TILE_VECTORS;
    r->queries = (uint16_t *)(void *)data, data += queries;
    r->query_pairs = (uint16_t *)(void *)data, data += queries;
    r->gradients = (uint16_t *)(void *)data, data += gradients;
    r->gradient_pairs = (uint16_t *)(void *)data, data += gradients;
    r->p = (uint16_t *)(void *)data, data += halves;
    r->ds = (uint16_t *)(void *)data, data += halves;
    t->out = data, data += TILE_ROWS * p->head_pitch;
    t->reference = data, t->sum = data + TILE_ROWS, t->slope = data + 2 * TILE_ROWS;
    t->query = (int32_t *)(void *)(data + 3 * TILE_ROWS);
    t->head = t->query + TILE_ROWS, t->first = t->head + TILE_ROWS;
    t->end = t->first + TILE_ROWS, t->position = t->end + TILE_ROWS;
    number_rows(&item->at, t);
    set_limits(&item->at, t, TILE_ROWS);
}

/* [32 columns][term][16 columns][pair of rows]: words of two rows. */
VF_INLINE void pair_rows(const int terms, const bool whole, char *const rows[TILE_ROWS],
                         const fovea_view *view, uint16_t *packed) {
    const __m512i iota = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i low = _mm512_add_epi32(_mm512_mullo_epi32(iota, vi_set1(0x10001)),
                                         vi_set1(0x200000)),
                  high = _mm512_add_epi32(low, vi_set1(0x100010));
    for (int64_t d = 0; d < view->shape[3]; d += STEP, packed += terms * 2 * HALF_TILE)
        for (int i = 0; i < TILE_ROWS; i += 2) {
            __m512i row[2][TERMS_MAX];
            VF_UNROLLED for (int odd = 0; odd < 2; odd++)
                load_terms(terms, whole, rows[i + odd], dtype_of_terms(terms), view->stride[3], d,
                           smaller(view->shape[3] - d, STEP), row[odd]);
            VF_UNROLLED for (int n = 0; n < terms; n++) {
                uint16_t *to = packed + n * 2 * HALF_TILE + i / 2 * STEP;
                _mm512_storeu_si512(to, _mm512_permutex2var_epi16(row[0][n], low, row[1][n]));
                _mm512_storeu_si512(to + HALF_TILE,
                                    _mm512_permutex2var_epi16(row[0][n], high, row[1][n]));
            }
        }
}

VF_INLINE bool pack_whole_rows(const int terms, const bool whole, char *const rows[TILE_ROWS],
                               const fovea_view *view, uint16_t *packed, uint16_t *pairs) {
    vf squares = vf_set1(0);
    for (int v = 0; v < TILE_VECTORS; v++)
        squares = vf_add(squares, pack_query_vector(terms, whole, view, rows + v * VF_WIDTH,
                                                    packed + v * HALF_TILE));
    pair_rows(terms, whole, rows, view, pairs);
    return isfinite(vf_reduce_add(squares));
}

/* In both orders; returns whether all elements are finite, or false. */
VF_INLINE bool pack_tile_rows(const int terms, char *const rows[TILE_ROWS], const fovea_view *view,
                              uint16_t *packed, uint16_t *pairs) {
    return view->stride[3] == 1 && view->shape[3] % STEP == 0
               ? pack_whole_rows(terms, true, rows, view, packed, pairs)
               : pack_whole_rows(terms, false, rows, view, packed, pairs);
}

VF_INLINE float product_of_rows(const int terms, const char *x, const fovea_view *a, const char *y,
                                const fovea_view *b) {
    const bool whole = a->stride[3] == 1 && b->stride[3] == 1;
    vf sum = vf_set1(0);
    int64_t d = 0;
    for (; terms == 1 && whole && d + STEP <= a->shape[3]; d += STEP)
        sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_loadu_si512(x + 2 * d),
                               (__m512bh)_mm512_loadu_si512(y + 2 * d));
    for (; d < a->shape[3]; d += VF_WIDTH) {
        int64_t count = smaller(a->shape[3] - d, VF_WIDTH);
        sum = vf_fma(load_elements(x, dtype_of_terms(terms), a->stride[3], d, count),
                     load_elements(y, dtype_of_terms(terms), b->stride[3], d, count), sum);
    }
    return vf_reduce_add(sum);
}

/* Lanes past the last row repeat it with p and ds of 0. */
VF_INLINE void read_tile_rows(const int terms, const backward_item *item, row_tile *r) {
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
    r->finite = pack_tile_rows(terms, q, &call->q, r->queries, r->query_pairs);
    pack_tile_rows(terms, gradient, dout, r->gradients, r->gradient_pairs);
    for (int64_t i = 0; i < TILE_ROWS; i++) {
        bool there = i < t->rows;
        t->sum[i] = there ? product_of_rows(terms, gradient[i], dout, out[i], &call->out) : 0;
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

VF_INLINE bool pack_key_group(const int terms, const bool whole, const fovea_view *k,
                              const char *const rows[STEP], int64_t groups, uint16_t *keys,
                              uint16_t *columns) {
    for (int64_t d = 0; d < k->shape[3]; d += STEP, columns += groups * terms * 2 * HALF_TILE)
        pack_value_columns(terms, dtype_of_terms(terms), whole, k, rows, d, vi_set1(0), columns);
    return isfinite(pack_key_rows(terms, whole, k, rows, keys));
}

VF_INLINE tiled_block pack_block(const int terms, const backward_item *item, int64_t first,
                                 int64_t end) {
    const fovea_attention_call *call = item->at.call;
    const backward_plan *p = item->plan;
    tiled_block b = {.first = first,
                     .end = end,
                     .keys = (uint16_t *)(void *)item->slice.keys,
                     .values = (uint16_t *)(void *)item->slice.values,
                     .ds = (uint16_t *)(void *)item->slice.tiles,
                     .finite = true};
    b.columns = b.keys + p->keys_floats;
    for (int64_t g = 0; g < groups_of(&b); g++) {
        int64_t key = first + g * STEP, count = smaller(item->at.sequence.key_count - key, STEP);
        const char *rows[STEP];
        uint16_t *keys = b.keys + g * terms * STEP * p->head_pitch;
        uint16_t *values = b.values + g * terms * STEP * p->value_pitch;
        uint16_t *columns = b.columns + g * terms * 2 * HALF_TILE;
        b.finite &=
            rows_of_group(&item->at, &call->k, key, count, rows)
                ? pack_key_group(terms, true, &call->k, rows, groups_of(&b), keys, columns)
                : pack_key_group(terms, false, &call->k, rows, groups_of(&b), keys, columns);
        if (rows_of_group(&item->at, &call->v, key, count, rows))
            pack_key_rows(terms, true, &call->v, rows, values);
        else
            pack_key_rows(terms, false, &call->v, rows, values);
    }
    return b;
}

/* ---- p and ds --------------------------------------------------------------------------------------- */

/* Where the halves of a group go. */
typedef struct weights {
    uint16_t *p, *ds, *ds_pairs;
} weights;

/* The terms of a key's lanes: all but the last are cut, so that the rest is exact. */
VF_INLINE void split_lanes(const int terms, vf x[TILE_VECTORS], __m512i term[]) {
    const vi mask = vi_set1((int32_t)0xffff0000);
    VF_UNROLLED for (int n = 0; n < terms; n++) {
        vf cut[TILE_VECTORS];
        VF_UNROLLED for (int v = 0; v < TILE_VECTORS; v++) {
            cut[v] = n == terms - 1 ? x[v] : vi_as_vf(vi_and(vf_as_vi(x[v]), mask));
            x[v] = vf_sub(x[v], cut[v]);
        }
        term[n] = (__m512i)_mm512_cvtne2ps_pbh(cut[1], cut[0]);
    }
}

/* The factors of two keys. */
VF_INLINE void store_weights(const int terms, int pair, vf p[2][TILE_VECTORS],
                             vf ds[2][TILE_VECTORS], const weights *to) {
    const int row = pair / (AMX_ROWS / 2) * HALF_TILE + pair % (AMX_ROWS / 2) * 2 * STEP;
    __m512i term[2][TERMS_MAX];
    VF_UNROLLED for (int odd = 0; odd < 2; odd++) {
        split_lanes(terms, p[odd], term[odd]);
        VF_UNROLLED for (int n = 0; n < terms; n++)
            _mm512_storeu_si512(to->p + n * 2 * HALF_TILE + row + odd * STEP, term[odd][n]);
    }
    VF_UNROLLED for (int odd = 0; odd < 2; odd++) {
        split_lanes(terms, ds[odd], term[odd]);
        VF_UNROLLED for (int n = 0; n < terms; n++)
            _mm512_storeu_si512(to->ds + n * 2 * HALF_TILE + row + odd * STEP, term[odd][n]);
    }
    VF_UNROLLED for (int n = 0; n < terms; n++) {
        uint16_t *pairs = to->ds_pairs + n * 2 * HALF_TILE + pair * STEP;
        _mm512_storeu_si512(pairs, _mm512_unpacklo_epi16(term[0][n], term[1][n]));
        _mm512_storeu_si512(pairs + HALF_TILE, _mm512_unpackhi_epi16(term[0][n], term[1][n]));
    }
}

/* Of a group that all rows attend, from scores that want a factor. */
VF_INLINE void find_weights(const int terms, const tile *t, float factor, const float *s,
                            const float *dp, const weights *to) {
    const vf unit = vf_set1(factor);
    vf shift[TILE_VECTORS], mean[TILE_VECTORS];
    VF_UNROLLED for (int v = 0; v < TILE_VECTORS; v++) {
        shift[v] = vf_sub(vf_set1(0), vf_load(t->reference + v * VF_WIDTH));
        mean[v] = vf_load(t->sum + v * VF_WIDTH);
    }
    for (int pair = 0; pair < STEP / 2; pair++, s += 2 * TILE_ROWS, dp += 2 * TILE_ROWS) {
        vf p[2][TILE_VECTORS], ds[2][TILE_VECTORS];
        VF_UNROLLED for (int i = 0; i < 2; i++) VF_UNROLLED for (int v = 0; v < TILE_VECTORS; v++) {
            const int64_t place = i * TILE_ROWS + v * VF_WIDTH;
            p[i][v] = vf_exp2_softmax(vf_fma(vf_load(s + place), unit, shift[v]));
            ds[i][v] = vf_mul(p[i][v], vf_sub(vf_load(dp + place), mean[v]));
        }
        store_weights(terms, pair, p, ds, to);
    }
}

/* Of any group: by the functions of backward.h, then rounded. */
VF_INLINE void find_weights_with_options(const int terms, const backward_item *item,
                                         const row_tile *r, bool finite, int64_t key,
                                         const weights *to) {
    const backward_slice *slice = &item->slice;
    const tile *t = &r->b.t;
    const float keep = item->plan->value_factor;
    float *s = slice->s, *dp = slice->dp, maximum[TILE_ROWS];
    key_block block = {.key = key, .keys = smaller(STEP, item->at.sequence.key_count - key)};
    if (!finite) score_plainly(&item->at, t, key, block.keys, 1, s);
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
        store_weights(terms, pair, p, ds, to);
    }
}

/* ---- Products --------------------------------------------------------------------------------------- */

enum { FLOAT_LINE = TILE_ROWS * sizeof(float) };

/* Where the terms and the second tile of a first factor lie; those of a second factor lie as in `of_keys`. */
typedef struct factor_order {
    int64_t term, second;
} factor_order;
static const factor_order of_keys = {2 * HALF_TILE, HALF_TILE}; /* [term][tile] */

/* A factor that others follow before it is needed again is loaded with the hint that spares the lines of the other. */
#define LOAD_FACTOR(passing, t, from)                                                              \
    do {                                                                                           \
        if (passing)                                                                               \
            amx_stream_load(t, from, AMX_ROW_BYTES);                                               \
        else                                                                                       \
            amx_load(t, from, AMX_ROW_BYTES);                                                      \
    } while (0)
typedef enum passing_factor { FIRST_PASSES, SECOND_PASSES } passing_factor;

/* The products of the terms of two by two tiles. */
VF_INLINE void add_products(const int terms, const passing_factor passing, const uint16_t *first,
                            const factor_order at, const uint16_t *second) {
    VF_UNROLLED for (int i = 0; i < term_products(terms); i++) {
        const term_pair n = pair_of_terms(terms, terms - 1, i),
                        before = i > 0 ? pair_of_terms(terms, terms - 1, i - 1) : no_terms;
        const uint16_t *a = first + n.first * at.term, *b = second + n.second * 2 * HALF_TILE;
        const bool other = n.second != before.second;
        if (n.first != before.first) LOAD_FACTOR(passing == FIRST_PASSES, F0, a);
        if (other) LOAD_FACTOR(passing == SECOND_PASSES, S0, b);
        amx_bf16(T00, F0, S0);
        if (other) LOAD_FACTOR(passing == SECOND_PASSES, S1, b + HALF_TILE);
        amx_bf16(T01, F0, S1);
        if (n.first != before.first) LOAD_FACTOR(passing == FIRST_PASSES, F1, a + at.second);
        amx_bf16(T10, F1, S0);
        amx_bf16(T11, F1, S1);
    }
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

/* s[32 keys][32 rows] of `steps` elements. */
VF_INLINE void multiply_group(const int terms, int64_t steps, const uint16_t *keys,
                              const uint16_t *rows, float *s) {
    const int64_t step = terms * 2 * HALF_TILE;
    amx_zero(T00);
    amx_zero(T01);
    amx_zero(T10);
    amx_zero(T11);
    for (int64_t i = 0; i < steps; i++)
        add_products(terms, FIRST_PASSES, keys + i * step, of_keys, rows + i * step);
    store_sums(s, FLOAT_LINE);
}

/* dq of a tile += K^T ds for groups [first, end) of the block. */
VF_INLINE void add_to_rows(const int terms, const backward_item *item, const row_tile *r,
                           const tiled_block *block, int64_t first, int64_t end) {
    const factor_order of_columns = {HALF_TILE, terms * HALF_TILE}; /* [tile][term] */
    const int64_t group = terms * 2 * HALF_TILE;
    const uint16_t *columns = block->columns, *ds = block->ds;
    float *out = r->b.t.out;
    for (int64_t d = 0; d < item->plan->head_pitch; d += STEP, out += STEP * TILE_ROWS) {
        load_sums(out, FLOAT_LINE);
        for (int64_t g = first; g < end; g++)
            add_products(terms, FIRST_PASSES, columns + g * group, of_columns, ds + g * group);
        store_sums(out, FLOAT_LINE);
        columns += groups_of(block) * group;
    }
}

/* sums[32 keys][columns] += first^T second over tiles of rows. */
VF_INLINE void add_to_keys(const int terms, int64_t count, const uint16_t *const first[],
                           const uint16_t *const second[], int64_t pitch, float *sums) {
    const int64_t line = pitch * (int64_t)sizeof(float);
    for (int64_t d = 0; d < pitch; d += STEP) {
        load_sums(sums + d, line);
        for (int64_t i = 0; i < count; i++)
            add_products(terms, SECOND_PASSES, first[i], of_keys,
                         second[i] + d / STEP * terms * 2 * HALF_TILE);
        store_sums(sums + d, line);
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

/* p and ds of a tile, and its dq. */
VF_INLINE void attend_block(const int terms, const backward_item *item, const row_tile *r,
                            const tiled_block *block) {
    const backward_plan *p = item->plan;
    const tile *t = &r->b.t;
    const bool finite = terms == 1 || (r->finite && block->finite);
    int64_t first, end;
    attended_groups(t, block, &first, &end);
    if (first == end) return;
    for (int64_t g = first; g < end; g++) {
        const int64_t key = block->first + g * STEP, group = g * terms * 2 * HALF_TILE;
        const weights to = {r->p + group, r->ds + group, block->ds + group};
        multiply_group(terms, p->head_pitch / STEP, block->keys + g * terms * STEP * p->head_pitch,
                       r->queries, item->slice.s);
        multiply_group(terms, p->value_pitch / STEP,
                       block->values + g * terms * STEP * p->value_pitch, r->gradients,
                       item->slice.dp);
        if (p->general || !finite || key < t->full_low || key + STEP > t->full_high)
            find_weights_with_options(terms, item, r, finite, key, &to);
        else
            find_weights(terms, t, item->at.scale, item->slice.s, item->slice.dp, &to);
    }
    add_to_rows(terms, item, r, block, first, end);
}

/* Tiles that attend a group, and share a sum. */
typedef struct sharers {
    int64_t count;
    const uint16_t *p[BACKWARD_TILES], *ds[BACKWARD_TILES], *dout[BACKWARD_TILES],
        *q[BACKWARD_TILES];
} sharers;

VF_INLINE void attend_keys(const int terms, const backward_item *item, const row_tile *tiles,
                           int count, const tiled_block *block) {
    const float_rows *dv = &item->dv, *dk = &item->dk;
    for (int64_t g = 0; g < groups_of(block); g++) {
        const int64_t key = block->first + g * STEP, group = g * terms * 2 * HALF_TILE;
        int64_t first, end;
        sharers s = {.count = 0};
        for (int i = 0; i < count; i++) {
            const row_tile *r = &tiles[i];
            attended_groups(&r->b.t, block, &first, &end);
            if (g < first || g >= end) continue;
            s.p[s.count] = r->p + group, s.ds[s.count] = r->ds + group;
            s.dout[s.count] = r->gradient_pairs, s.q[s.count] = r->query_pairs;
            s.count++;
        }
        if (s.count == 0) continue;
        add_to_keys(terms, s.count, s.p, s.dout, dv->stride, dv->data + key * dv->stride);
        add_to_keys(terms, s.count, s.ds, s.q, dk->stride, dk->data + key * dk->stride);
    }
}

/* Turns are taken by whole groups, as these are added to. */
VF_INLINE void rows_by_terms(const int terms, const backward_item *item, int64_t first_row,
                             int64_t rows) {
    const backward_plan *p = item->plan;
    const amx_configuration whole = amx_whole_tiles();
    row_tile tiles[BACKWARD_TILES];
    int64_t low = INT64_MAX, high = 0;
    int count = 0;
    amx_configure(&whole);
    for (int64_t row = 0; row < rows; row += TILE_ROWS, count++) {
        place_rows(item, count, first_row + row, rows - row, &tiles[count]);
        read_tile_rows(terms, item, &tiles[count]);
        low = smaller(low, tiles[count].b.t.low), high = larger(high, tiles[count].b.t.high);
    }
    low = low / STEP * STEP, high = round_up(high, STEP);
    for (int64_t start = low / p->block_keys * p->block_keys; start < high;
         start += p->block_keys) {
        int64_t from = larger(start, low), to = smaller(start + p->block_keys, high);
        tiled_block block = pack_block(terms, item, from, to);
        for (int i = 0; i < count; i++) attend_block(terms, item, &tiles[i], &block);
        wait_for_turn(item, to);
        attend_keys(terms, item, tiles, count, &block);
        tell_progress(item, to);
    }
    for (int i = 0; i < count; i++) finish_rows(item, &tiles[i]);
    amx_release();
}

/* A superblock of rows through all keys. */
static void backward_rows(const backward_item *item, int64_t first_row, int64_t rows) {
    if (item->plan->terms == 1) rows_by_terms(1, item, first_row, rows);
    if (item->plan->terms == 2) rows_by_terms(2, item, first_row, rows);
}

#endif
