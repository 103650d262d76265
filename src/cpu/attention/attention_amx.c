/* Attention forward on AMX's tiles: flash, as in attention.c, with both products on bf16 tiles.
 *
 * bf16 as it is (flash); f16 as two terms and f32 as three (flash_bf16x2, flash_bf16x3), within the
 * bounds of f16 and f32. The way of a superblock is that of attention.c: blocks of keys outside, tiles
 * of 32 rows inside; here k and v of a block are packed for the tiles once for all rows.
 *
 * A row's scores need a reference only lest 2^s leaves the range of floats. Where |q| |k| shows that
 * no score is beyond 60 (in units of log 2), the reference is 0 and nobody looks for maxima; elsewhere
 * it moves as in attention_tile.h. (Fixed references with a way out: FlashDecoding++, Hong et al. 2023,
 * section 3; the bound by Cauchy and Schwarz makes the way out unnecessary.)
 *
 * What a row's bits depend on: its tile and the blocks of keys, neither on threads nor on superblocks.
 */
#include "cpu/attention/attention_ahead.h"
#include "cpu/attention/attention_products.h"
#include "cpu/attention/attention_shared.h"
#include "cpu/attention/backward_amx.h"
#include "cpu/attention/sage_amx.h"
#include "cpu/attention/split_amx.h"

#include "catalogue/implementation.h"

#include <omp.h>
#include <stdatomic.h>
#include <stdio.h>

enum {
    TILES_MAX = 64,   /* of a superblock */
    PIECE_KEYS = 128, /* of a shared head, packed at a time */
};
#define SCORE_LIMIT 60.0f

typedef struct plan {
    int terms, threads;
    bool bytes; /* sage: q and k as bytes, p and v in one term */
    shapes shapes;
    int64_t block_keys, block_rows, superblocks, items;
    int64_t chunk_keys;  /* attended at a time by all tiles of a superblock: whole blocks */
    int64_t packed_keys; /* that stand side by side: a chunk's, or a head's */
    bool shared;         /* threads share packed heads (attention_shared.h) */
    int64_t heads, wave_heads, slots, pieces;
    /* Bytes of a thread's slice: a chunk of k and v, scores of a block and p of two, of bytes their mean,
     * then for the tiles of a superblock queries, outputs, row data. */
    size_t keys_bytes, values_bytes, facts_bytes, scores_bytes, p_bytes, mean_bytes;
    size_t query_bytes, out_bytes, slice_bytes, slot_bytes;
} plan;

static int64_t round_up(int64_t x, int64_t multiple) { return divide_up(x, multiple) * multiple; }

static bool is_sage(const fovea_attention_call *call) {
    return call->options->algorithm == FOVEA_ATTENTION_ALGORITHM_SAGE;
}

static int terms_of(const fovea_attention_call *call) {
    if (is_sage(call)) return 1;
    return call->q.dtype == FOVEA_BF16 ? 1 : call->q.dtype == FOVEA_F16 ? 2 : 3;
}

static bool is_causal(const fovea_attention_call *call) {
    return call->options->causal != FOVEA_ATTENTION_CAUSAL_NONE;
}

/* Up to 64 elements and of bytes 128 keys' scores and p stay in L1, or near it; beyond that, loading and storing out once a block costs
 * more than scores out of L2. */
static int64_t keys_of_a_block(const fovea_attention_call *call) {
    bool narrow = (call->head_size <= 64 && call->value_size <= 64) || is_sage(call);
    int64_t keys = narrow ? 128 : 384;
    if (call->options->block_keys > 0) keys = call->options->block_keys;
    return round_up(larger(smaller(keys, call->key_length), 1), STEP);
}

/* Packing k and v of a block costs as much as attending it with some 40 rows; the fewer superblocks a
 * head has the less often it is done, the more it has the evener the threads are loaded. */
static int64_t superblocks_of_a_head(const fovea_attention_call *call, int64_t most_rows,
                                     int threads) {
    const double packing = 40;
    double rows = (double)(call->query_length * call->group), best = INFINITY;
    double heads = (double)(call->batch * call->key_heads);
    bool causal = call->options->causal != FOVEA_ATTENTION_CAUSAL_NONE;
    int64_t least = larger(divide_up(call->query_length * call->group, most_rows), 1),
            count = least;
    for (int64_t n = least; n <= least + 4 * threads && n <= larger((int64_t)rows / TILE_ROWS, 1);
         n++) {
        double item = rows / (double)n + packing, items = heads * (double)n;
        double seconds = ceil(items / threads) * item;
        if (causal) seconds = (heads * rows / 2 + items * packing) / threads + item / 2;
        if (seconds < best) best = seconds, count = n;
    }
    return count;
}

static int threads_that_pay(const fovea_attention_call *call, int terms, int threads) {
    double operations = 2 * (double)(call->head_size + call->value_size) *
                        (double)(call->batch * call->query_heads) * (double)call->query_length *
                        (double)call->key_length * term_products(terms);
    double most = operations / 3e6; /* what a woken thread costs, at a megaflop a microsecond */
    return most < 1 ? 1 : most < threads ? (int)most : threads;
}

static int64_t bytes_of_a_key(const plan *p) {
    return larger(
        (p->shapes.head_steps + divide_up(p->shapes.value_tiles, 2)) * STEP * p->terms * 2, 1);
}

/* Packed k and v in an eighth of L2, where every tile of rows finds them. */
static int64_t keys_of_a_chunk(const fovea_attention_call *call, const plan *p) {
    int64_t keys = (int64_t)fovea_processor_get()->l2_bytes / 8 / bytes_of_a_key(p);
    return round_up(larger(smaller(keys, call->key_length), 1), p->block_keys);
}

/* Where what is packed at a time takes no more than half of the threads' L2, and rows attend all keys of a head. Causal calls lose: 4743
 * and 8717 GFLOP/s where they have 4811 and 9759 (H8 S1024 and B4 H16 S2048, D64, 16 threads). */
static bool heads_are_shared(const fovea_attention_call *call, const plan *p) {
    const fovea_attention_options *options = call->options;
    double packed = (double)p->slots * (double)call->key_length * (double)bytes_of_a_key(p);
    return p->threads > 1 &&
           packed <= (double)p->threads * (double)fovea_processor_get()->l2_bytes / 2 &&
           !is_causal(call) && options->window_left < 0 && options->window_right < 0 &&
           2 * call->query_length >= call->key_length;
}

/* Eight items a thread, but rather of four tiles, and of two at least. */
static int64_t shares_of_a_head(const fovea_attention_call *call, const plan *p, int64_t most) {
    int64_t rows = call->query_length * call->group, of_a_thread = rows * p->heads / p->threads;
    int64_t wanted = larger(of_a_thread / 8, smaller(of_a_thread, 4 * TILE_ROWS));
    return larger(divide_up(rows, larger(smaller(wanted, most), 2 * TILE_ROWS)), 1);
}

/* Heads whose packed keys stand side by side: a wave's, or those of two. */
static void plan_waves(plan *p) {
    p->wave_heads = divide_up(p->heads, larger(p->heads / p->threads, 1));
    p->slots = p->heads > p->wave_heads ? 2 * p->wave_heads : p->wave_heads;
}

static plan make_plan(const fovea_attention_call *call, int threads) {
    plan p = {.terms = terms_of(call), .bytes = is_sage(call)};
    p.threads = threads_that_pay(call, p.terms, threads);
    p.shapes.head_steps = divide_up(call->head_size, p.bytes ? BYTE_STEP : STEP);
    p.shapes.value_tiles = divide_up(call->value_size, AMX_ROWS);
    p.block_keys = keys_of_a_block(call);
    int64_t query_row = p.shapes.head_steps * AMX_ROW_BYTES * p.terms;
    int64_t out_row = p.shapes.value_tiles * AMX_ROWS * 4;
    int64_t most = (int64_t)fovea_processor_get()->l2_bytes / 2 / larger(query_row + out_row, 1);
    if (call->options->block_rows > 0) most = call->options->block_rows;
    most = larger(smaller(most / TILE_ROWS, TILES_MAX), 1) * TILE_ROWS;
    int64_t rows = call->query_length * call->group, count = larger(divide_up(rows, most), 1);
    p.heads = call->batch * call->key_heads;
    p.chunk_keys = keys_of_a_chunk(call, &p);
    plan_waves(&p);
    p.shared = heads_are_shared(call, &p);
    p.packed_keys = p.shared ? round_up(larger(call->key_length, 1), p.block_keys) : p.chunk_keys;
    p.pieces = larger(divide_up(call->key_length, PIECE_KEYS), 1);
    if (call->options->block_rows <= 0)
        count = p.shared ? shares_of_a_head(call, &p, most)
                         : superblocks_of_a_head(call, most, p.threads);
    p.block_rows = round_up(larger(divide_up(rows, count), 1), TILE_ROWS);
    p.superblocks = divide_up(rows, p.block_rows);
    p.items = p.superblocks * p.heads;
    if (p.items < p.threads) p.threads = (int)larger(p.items, 1);
    p.shapes.p_term = p.block_keys * TILE_ROWS;
    p.keys_bytes = (size_t)(p.packed_keys * p.shapes.head_steps * AMX_ROW_BYTES * p.terms);
    p.shapes.value_pair = p.packed_keys * 2 * AMX_ROWS * p.terms;
    p.values_bytes = (size_t)(divide_up(p.shapes.value_tiles, 2) * p.shapes.value_pair) * 2;
    p.facts_bytes = (size_t)round_up(p.packed_keys / STEP * (int64_t)sizeof(group_facts), 64);
    p.scores_bytes = (size_t)(p.block_keys * TILE_ROWS) * 4;
    p.p_bytes = (size_t)(p.shapes.p_term * p.terms) * 2;
    if (p.bytes) p.mean_bytes = (size_t)(p.shapes.head_steps * BYTE_STEP) * 4;
    p.query_bytes = (size_t)(p.block_rows * query_row);
    p.out_bytes = (size_t)(p.block_rows * out_row);
    p.slice_bytes = p.scores_bytes + 2 * p.p_bytes + p.mean_bytes + p.query_bytes + p.out_bytes +
                    (size_t)((TILE_ARRAYS + 1) * p.block_rows) * 4;
    p.slot_bytes = p.keys_bytes + p.values_bytes + p.facts_bytes + p.mean_bytes;
    if (!p.shared) p.slice_bytes += p.keys_bytes + p.values_bytes + p.facts_bytes;
    return p;
}

/* ---- Superblocks ------------------------------------------------------------------------------------- */

typedef struct query_tile {
    tile t;
    uint16_t *queries;
    float *shift; /* what smoothing took from the rows' scores */
    float length; /* at least that of its longest query */
    bool has_reference, zero_reference;
    bool far; /* its references may be beyond REFERENCE_LIMIT */
} query_tile;

/* A chunk of keys in packed form. */
typedef struct key_chunk {
    int64_t first, end; /* multiples of 32, except the last end */
    uint16_t *keys, *values;
    group_facts *facts;
} key_chunk;

typedef struct attend_job {
    job products;
    query_tile *q;
    const group_facts *facts;
    int64_t first, groups; /* key and number of groups */
} attend_job;

/* A superblock on its way, and the jobs in hand. */
typedef struct superblock {
    const plan *p;
    int64_t head, next_item; /* that this thread probably takes, or past the last */
    tile_context at;
    multiply_function *multiply;
    bool general;
    bool whole;    /* rows of q and k are whole: they become bytes in the same order */
    bool smoothed; /* something has been taken from k */
    bool shifted;  /* scores are wanted as they were before that */
    float *mean;
    query_tile tiles[TILES_MAX];
    int64_t count;
    key_chunk chunk;
    float *scores;
    uint16_t *weights[2];
    int64_t jobs;
    attend_job previous, current;
    bool has_previous, has_current;
    ahead next; /* what is packed next */
} superblock;

/* ---- What happens to scores before their exponentials ----------------------------------------------- */

/* -inf where a row does not attend a key. Returns whether there may be such places. */
static bool limit_edges(const tile *t, float *s, int64_t key, int64_t keys) {
    float unused[TILE_ROWS];
    int64_t low = smaller(larger(t->full_low - key, 0), keys);
    int64_t high = smaller(larger(t->full_high - key, low), keys);
    if (low > 0) limit_scores(t, s, key, low, unused);
    if (high < keys) limit_scores(t, s + high * TILE_ROWS, key + high, keys - high, unused);
    return low > 0 || high < keys;
}

static float length_of_keys(const attend_job *j, bool *values_tame) {
    float length = 0;
    *values_tame = true;
    for (int64_t g = 0; g < j->groups; g++) {
        if (!(j->facts[g].length <= length) && !isnan(length)) length = j->facts[g].length;
        *values_tame &= j->facts[g].values_tame;
    }
    return length;
}

/* Finishes the values of the previous job by themselves, where the way is not free otherwise. */
static void retire_previous(superblock *b) {
    if (b->has_previous) b->multiply(NONE, &b->previous.products, NULL, &b->p->shapes, NULL);
    b->has_previous = false;
}

/* Whether move_references will rescale. */
static bool references_move(const tile *t, const float *maximum) {
    bool any = false;
    for (int v = 0; v < TILE_VECTORS; v++) {
        vf limit = vf_add(vf_load(t->reference + v * VF_WIDTH), vf_set1(8));
        any |= vm_any(vf_gt(vf_load(maximum + v * VF_WIDTH), limit)) != 0;
    }
    return any;
}

/* Moves the references of a tile, where CLAMPED takes them to whole numbers. */
static void follow_maxima(superblock *b, query_tile *q, bool whole, float *maximum, float factor,
                          float *shift) {
    for (int v = 0; v < TILE_VECTORS; v++) {
        vf largest = vf_mul(vf_load(maximum + v * VF_WIDTH), vf_set1(factor));
        vf_store(maximum + v * VF_WIDTH, whole ? vf_ceil(largest) : largest);
    }
    /* What is rescaled must not be waiting for the previous job. */
    if (q->has_reference && references_move(&q->t, maximum)) retire_previous(b);
    move_references(&q->t, maximum, 1, b->at.call->value_size, shift);
    q->zero_reference = false;
}

/* The exponentials at once, because what is dropped still counts in the sum. */
static void drop_from_softmax(const superblock *b, const attend_job *j, const float *shift) {
    tile *t = &j->q->t;
    float *s = j->products.scores, block_sum[TILE_ROWS];
    int64_t keys = j->groups * STEP;
    micro[TILE_VECTORS].exponentials(keys, TILE_ROWS, s, shift, block_sum);
    for (int v = 0; v < TILE_VECTORS; v++) {
        float *sum = t->sum + v * VF_WIDTH;
        vf_store(sum, vf_add(vf_load(sum), vf_load(block_sum + v * VF_WIDTH)));
    }
    drop_elements(&b->at, t, s, j->first, keys);
}

/* Scores of bytes to floats, in units of log 2. */
static void convert_scores(const superblock *b, const attend_job *j) {
    const query_tile *q = j->q;
    float *s = j->products.scores;
    const vf origin = vf_set1(BYTE_ORIGIN);
    for (int64_t i = 0; i < 2 * j->groups; i++) {
        vf of_keys = vf_set1(j->facts[i / 2].scale[i % 2]), factor[2], shift[2];
        VF_UNROLLED for (int v = 0; v < TILE_VECTORS; v++) {
            factor[v] = vf_mul(vf_load(q->t.scale + v * VF_WIDTH), of_keys);
            shift[v] = b->shifted ? vf_load(q->shift + v * VF_WIDTH) : vf_set1(0);
        }
        for (int key = 0; key < AMX_ROWS; key++, s += TILE_ROWS)
            VF_UNROLLED for (int v = 0; v < TILE_VECTORS; v++) {
                vf sum = vf_sub(vf_load(s + v * VF_WIDTH), origin);
                vf_store(s + v * VF_WIDTH, vf_fma(sum, factor[v], shift[v]));
            }
    }
}

/* From the elements, where q or k is not finite: less what smoothing takes from the scores of other blocks, if it is finite. */
static void score_bytes_plainly(const superblock *b, const attend_job *j, int64_t present) {
    float shift[TILE_ROWS], *s = j->products.scores;
    score_plainly(&b->at, &j->q->t, j->first, present, b->at.scale, s);
    if (!b->smoothed || b->shifted) return;
    find_shifts(b->whole, &b->at, &j->q->t, b->mean, shift);
    for (int64_t i = 0; i < present * TILE_ROWS; i++)
        if (isfinite(shift[i % TILE_ROWS])) s[i] -= shift[i % TILE_ROWS];
}

/* Scores as the options want them. Returns whether some may be -inf; a general call's become the scores of log 2. */
static bool change_job(const superblock *b, const attend_job *j, bool finite, bool as_bytes,
                       float *maximum) {
    const tile *t = &j->q->t;
    float *s = j->products.scores;
    int64_t keys = j->groups * STEP, present = smaller(keys, b->at.sequence.key_count - j->first);
    if (b->p->bytes && !finite) score_bytes_plainly(b, j, present);
    if (b->p->bytes && finite && !as_bytes) convert_scores(b, j);
    if (b->p->terms > 1 && !finite) score_plainly(&b->at, t, j->first, present, 1, s);
    if (!b->general) return limit_edges(t, s, j->first, keys);
    if (!b->p->bytes) scale_scores(&b->at, s, keys, TILE_VECTORS);
    change_scores(&b->at, t, s, j->first, present);
    limit_scores(t, s, j->first, keys, maximum);
    return true;
}

static softmax_kind begin_softmax(superblock *b, attend_job *j, softmax_work *work) {
    const fovea_attention_call *call = b->at.call;
    query_tile *q = j->q;
    tile *t = &q->t;
    int64_t keys = j->groups * STEP;
    float *s = j->products.scores, maximum[TILE_ROWS], shift[TILE_ROWS] = {0};
    float factor = b->general || b->p->bytes ? 1 : b->at.scale;
    bool tame;
    float bound = b->at.scale * q->length * length_of_keys(j, &tame);
    bool finite = isfinite(bound);
    q->far |= !(bound <= REFERENCE_LIMIT);
    bool exact = b->p->terms > 1 || b->general || call->has_lse || !finite;
    /* p of one term is rounded, and where it is exact its sum is not: the largest must be 1, or equal scores all err alike. */
    bool fixed = !b->general && !call->has_sinks && (b->p->terms > 1 || !exact);
    bool from_zero =
        fixed && bound <= SCORE_LIMIT && tame && (q->zero_reference || !q->has_reference);
    bool as_bytes = b->p->bytes && from_zero;
    bool edge = change_job(b, j, finite, as_bytes, maximum);
    if (from_zero) {
        if (!q->has_reference)
            for (int v = 0; v < TILE_VECTORS; v++)
                vf_store(t->reference + v * VF_WIDTH, vf_set1(0));
        q->zero_reference = true;
    } else {
        if (!b->general) find_maxima(t, s, keys, maximum);
        follow_maxima(b, q, !exact && !q->far, maximum, factor, shift);
    }
    q->has_reference = true;
    bool halves = !exact && (q->zero_reference || !q->far);
    work->scores = s, work->p = j->products.p, work->p_term = b->p->shapes.p_term;
    work->pairs = keys / 2, work->pair = 0;
    work->factor = halves ? 256 * factor : factor;
    work->rows = t->scale, work->facts = j->facts;
    for (int v = 0; v < TILE_VECTORS; v++) {
        vf from = vf_load(shift + v * VF_WIDTH);
        work->shift[v] =
            halves ? vf_fma(from, vf_set1(-256), vf_set1(HALVES_BIAS)) : vf_sub(vf_set1(0), from);
        work->sum[v] = vf_set1(0);
    }
    if (call->options->dropout > 0) {
        drop_from_softmax(b, j, shift);
        return READY;
    }
    if (as_bytes) return edge ? ROWS_CLAMPED : ROWS_QUICK;
    return !halves ? EXACT : q->zero_reference && !edge && !b->p->bytes ? QUICK : CLAMPED;
}

/* ---- The jobs in hand -------------------------------------------------------------------------------- */

/* One step of all jobs; next may be NULL. */
static void advance(superblock *b, const attend_job *next) {
    softmax_work work;
    softmax_kind kind = NONE;
    if (b->has_current) kind = begin_softmax(b, &b->current, &work);
    b->multiply(kind, b->has_previous ? &b->previous.products : NULL, next ? &next->products : NULL,
                &b->p->shapes, &work);
    if (b->has_current) {
        float *sum = b->current.q->t.sum;
        for (int v = 0; v < TILE_VECTORS; v++)
            vf_store(sum + v * VF_WIDTH, vf_add(vf_load(sum + v * VF_WIDTH), work.sum[v]));
    }
    b->has_previous = b->has_current, b->previous = b->current;
    b->has_current = next != NULL;
    if (next) b->current = *next;
}

static void attend_tile(superblock *b, query_tile *q) {
    const key_chunk *chunk = &b->chunk;
    const plan *p = b->p;
    int64_t first = larger(chunk->first, q->t.low / STEP * STEP);
    int64_t end = smaller(round_up(chunk->end, STEP), round_up(q->t.high, STEP));
    if (q->t.low >= q->t.high) return;
    while (first < end) {
        int64_t next_block = (first / p->block_keys + 1) * p->block_keys;
        int64_t group = (first - chunk->first) / STEP, turn = b->jobs++ % 2;
        attend_job next = {.q = q,
                           .facts = chunk->facts + group,
                           .first = first,
                           .groups = (smaller(next_block, end) - first) / STEP};
        next.products =
            (job){.t = &q->t,
                  .queries = q->queries,
                  .keys = chunk->keys + group * p->shapes.head_steps * p->terms * 2 * HALF_TILE,
                  .values = chunk->values + group * 2 * p->terms * HALF_TILE,
                  .groups = next.groups,
                  .scores = b->scores,
                  .p = b->weights[turn]};
        advance(b, &next);
        ahead_fetch(&b->next);
        first = next_block;
    }
}

/* ---- Work items -------------------------------------------------------------------------------------- */

VF_INLINE void pack_chunk(const int terms, const superblock *b, key_chunk *chunk) {
    int64_t keys_group = b->p->shapes.head_steps * terms * 2 * HALF_TILE;
    int64_t values_group = 2 * terms * HALF_TILE, pair = b->p->shapes.value_pair, g = 0;
    for (int64_t key = chunk->first; key < chunk->end; key += STEP, g++) {
        int64_t count = smaller(STEP, chunk->end - key);
        chunk->facts[g] = (group_facts){
            .length = pack_keys(terms, &b->at, key, count, chunk->keys + g * keys_group),
            .values_tame = pack_values(terms, dtype_of_terms(terms), &b->at, key, count, pair,
                                       chunk->values + g * values_group)};
    }
}

VF_INLINE void pack_byte_chunk(const bool whole, const fovea_dtype dtype, const superblock *b,
                               key_chunk *chunk) {
    int64_t keys_group = b->p->shapes.head_steps * 2 * HALF_TILE;
    int64_t pair = b->p->shapes.value_pair, g = 0;
    for (int64_t key = chunk->first; key < chunk->end; key += STEP, g++) {
        int64_t count = smaller(STEP, chunk->end - key);
        chunk->facts[g] = pack_byte_keys(whole, dtype, &b->at, b->mean, key, count,
                                         (int8_t *)(chunk->keys + g * keys_group));
        chunk->facts[g].values_tame =
            pack_values(1, dtype, &b->at, key, count, pair, chunk->values + g * 2 * HALF_TILE);
    }
}

/* Calls a function of whole rows of each dtype, or of any rows. */
#define BY_ROWS(b, dtype, CALL)                                                                    \
    do {                                                                                           \
        if (!(b)->whole)                                                                           \
            CALL(false, dtype);                                                                    \
        else if (dtype == FOVEA_BF16)                                                              \
            CALL(true, FOVEA_BF16);                                                                \
        else if (dtype == FOVEA_F16)                                                               \
            CALL(true, FOVEA_F16);                                                                 \
        else                                                                                       \
            CALL(true, FOVEA_F32);                                                                 \
    } while (0)

static void pack_bytes(const superblock *b, key_chunk *chunk) {
#define PACK_BYTES(whole, dtype) pack_byte_chunk(whole, dtype, b, chunk)
    BY_ROWS(b, b->at.call->k.dtype, PACK_BYTES);
}

static void pack_queries_as_bytes(const superblock *b, query_tile *q) {
#define PACK_QUERIES(whole, dtype)                                                                 \
    q->length = pack_byte_queries(whole, dtype, &b->at, &q->t, (int8_t *)q->queries, q->t.scale)
    BY_ROWS(b, b->at.call->q.dtype, PACK_QUERIES);
    if (b->shifted) find_shifts(b->whole, &b->at, &q->t, b->mean, q->shift);
}

static void begin_bytes(superblock *b) {
    const fovea_attention_call *call = b->at.call;
    b->whole = whole_rows(&call->q) && whole_rows(&call->k);
    b->smoothed = call->options->smooth_k;
    b->shifted = b->smoothed && (b->general || call->has_lse || call->has_sinks);
}

static void begin_mean(superblock *b) {
    if (!b->smoothed) memset(b->mean, 0, b->p->mean_bytes);
#define FIND_MEAN(whole, dtype) find_mean(whole, dtype, &b->at, b->mean)
    if (b->smoothed) BY_ROWS(b, b->at.call->k.dtype, FIND_MEAN);
}

static void pack(const superblock *b, key_chunk *chunk) {
    if (b->p->bytes) {
        pack_bytes(b, chunk);
        return;
    }
    if (b->p->terms == 1) pack_chunk(1, b, chunk);
    if (b->p->terms == 2) pack_chunk(2, b, chunk);
    if (b->p->terms == 3) pack_chunk(3, b, chunk);
}

/* Keys [first, end) of a chunk. */
static key_chunk part_of_chunk(const plan *p, const key_chunk *chunk, int64_t first, int64_t end) {
    int64_t group = (first - chunk->first) / STEP;
    return (key_chunk){.first = first,
                       .end = end,
                       .keys =
                           chunk->keys + group * p->shapes.head_steps * p->terms * 2 * HALF_TILE,
                       .values = chunk->values + group * 2 * p->terms * HALF_TILE,
                       .facts = chunk->facts + group};
}

/* Packs what nobody else has claimed of a shared head, and waits for the rest. `mean` is that of the slot. */
static void pack_with_others(superblock *b, shared_slot *slot, int64_t uses, float *mean) {
    const plan *p = b->p;
    bool found = false;
    wait_for(&slot->finished, uses * p->superblocks);
    for (;;) {
        int64_t piece = take_below(&slot->claimed, (uses + 1) * p->pieces);
        if (piece < 0) break;
        piece -= uses * p->pieces;
        int64_t first = piece * PIECE_KEYS;
        key_chunk part = part_of_chunk(p, &b->chunk, first,
                                       smaller(first + PIECE_KEYS, b->at.sequence.key_count));
        if (p->bytes && !found) begin_mean(b);
        found = true;
        if (piece == 0) memcpy(mean, b->mean, p->mean_bytes);
        if (part.first < part.end) pack(b, &part);
        count_one(&slot->packed);
    }
    wait_for(&slot->packed, (uses + 1) * p->pieces);
    b->mean = mean;
}

static void begin_tile(const superblock *b, query_tile *q) {
    const tile_context *at = &b->at;
    number_rows(at, &q->t);
    set_limits(at, &q->t, q->t.vectors * VF_WIDTH);
    if (at->call->has_slopes) set_slopes(at, &q->t);
    if (b->p->bytes)
        pack_queries_as_bytes(b, q);
    else if (b->p->terms == 1)
        q->length = pack_queries(1, at, &q->t, q->queries);
    if (b->p->terms == 2) q->length = pack_queries(2, at, &q->t, q->queries);
    if (b->p->terms == 3) q->length = pack_queries(3, at, &q->t, q->queries);
    for (int v = 0; v < TILE_VECTORS; v++) {
        vf_store(q->t.reference + v * VF_WIDTH, NEGATIVE_INFINITY);
        vf_store(q->t.sum + v * VF_WIDTH, vf_set1(0));
    }
}

static void lay_out_tiles(superblock *b, int64_t first_row, int64_t rows, char *memory) {
    const plan *p = b->p;
    char *queries = memory, *outputs = queries + p->query_bytes, *data = outputs + p->out_bytes;
    for (int64_t row = 0; row < rows; row += TILE_ROWS) {
        query_tile *q = &b->tiles[b->count++];
        float *arrays = (float *)(void *)data;
        *q = (query_tile){.queries = (uint16_t *)(void *)queries};
        q->t = (tile){.row = first_row + row,
                      .rows = smaller(rows - row, TILE_ROWS),
                      .vectors = TILE_VECTORS,
                      .out = (float *)(void *)outputs,
                      .reference = arrays,
                      .sum = arrays + TILE_ROWS,
                      .slope = arrays + 2 * TILE_ROWS,
                      .scale = arrays + 3 * TILE_ROWS,
                      .query = (int32_t *)(void *)(arrays + 4 * TILE_ROWS)};
        q->t.head = q->t.query + TILE_ROWS, q->t.first = q->t.head + TILE_ROWS;
        q->t.end = q->t.first + TILE_ROWS, q->t.position = q->t.end + TILE_ROWS;
        q->shift = arrays + TILE_ARRAYS * TILE_ROWS;
        queries += p->shapes.head_steps * p->terms * TILE_VECTORS * AMX_TILE_BYTES;
        outputs += p->shapes.value_tiles * AMX_ROWS * TILE_ROWS * 4;
        data += (TILE_ARRAYS + 1) * TILE_ROWS * 4;
        begin_tile(b, q);
    }
}

/* Both return what is left of the memory. */
static char *lay_out_chunk(superblock *b, char *memory) {
    const plan *p = b->p;
    b->chunk.keys = (uint16_t *)(void *)memory;
    memory += p->keys_bytes;
    b->chunk.values = (uint16_t *)(void *)memory;
    memory += p->values_bytes;
    b->chunk.facts = (group_facts *)(void *)memory;
    return memory + p->facts_bytes;
}

static char *lay_out_buffers(superblock *b, char *memory) {
    const plan *p = b->p;
    b->mean = (float *)(void *)memory;
    memory += p->mean_bytes;
    b->scores = (float *)(void *)memory;
    memory += p->scores_bytes;
    for (int i = 0; i < 2; i++) {
        b->weights[i] = (uint16_t *)(void *)memory;
        memory += p->p_bytes;
    }
    return memory;
}

/* With a causal mask the last rows attend most keys: all heads' last superblocks come first. */
static int64_t head_of_item(const plan *p, const fovea_attention_call *call, int64_t item) {
    return is_causal(call) ? item % p->heads : item / p->superblocks;
}

static int64_t number_of_item(const plan *p, const fovea_attention_call *call, int64_t item) {
    return is_causal(call) ? p->superblocks - 1 - item / p->heads : item % p->superblocks;
}

/* Asks for rows of a view, as many as a quarter of L2 holds of keys, values and queries together. */
static void ask_for_rows(ahead *next, const fovea_attention_call *call, const fovea_view *view,
                         int64_t batch, int64_t head, int64_t first, int64_t end) {
    int64_t size = (int64_t)fovea_dtype_size(view->dtype);
    int64_t most = (int64_t)fovea_processor_get()->l2_bytes / 4 /
                   larger((2 * call->head_size + call->value_size) * size, 1);
    if (view->stride[3] == 1 && end > first)
        ahead_add(next, fovea_row(view, batch, head, first), view->stride[2] * size,
                  view->shape[3] * size, smaller(end - first, most));
}

/* What is packed after this chunk: the keys and values of the next, or the first ones and the queries of the item that this
 * thread probably takes next. Reading them when they are packed took a quarter of the time of a head of 1024 keys. */
static void look_ahead(superblock *b, int64_t high) {
    const fovea_attention_call *call = b->at.call;
    const plan *p = b->p;
    const fovea_sequence *sequence = &b->at.sequence;
    int64_t next = b->next_item, portions = 0;
    b->next.count = 0;
    if (call->paged) return;
    if (b->chunk.end < high) {
        int64_t first = sequence->key_start + b->chunk.end;
        high = smaller(sequence->key_start + high, first + p->chunk_keys);
        ask_for_rows(&b->next, call, &call->k, sequence->batch, b->at.key_head, first, high);
        ask_for_rows(&b->next, call, &call->v, sequence->batch, b->at.key_head, first, high);
    } else if (next < p->items && call->group == 1) {
        int64_t head = head_of_item(p, call, next), row = head % call->key_heads;
        fovea_sequence s = fovea_attention_sequence(call, head / call->key_heads);
        int64_t end = s.key_start + s.key_count;
        int64_t first = number_of_item(p, call, next) * p->block_rows;
        ask_for_rows(&b->next, call, &call->q, s.batch, row, s.query_start + first,
                     s.query_start + smaller(s.query_count, first + p->block_rows));
        if (!p->shared || head != b->head) {
            ask_for_rows(&b->next, call, &call->k, s.batch, row, s.key_start, end);
            ask_for_rows(&b->next, call, &call->v, s.batch, row, s.key_start, end);
        }
    }
    for (int64_t i = 0; i < b->count; i++) {
        const tile *t = &b->tiles[i].t;
        portions += larger(smaller(t->high, b->chunk.end) - larger(t->low, b->chunk.first), 0);
    }
    ahead_share(&b->next, larger(portions / p->block_keys, 1));
}

static void attend_chunk(superblock *b) {
    for (int64_t i = 0; i < b->count; i++) attend_tile(b, &b->tiles[i]);
}

static void finish_jobs(superblock *b) {
    if (b->has_current) advance(b, NULL);
    retire_previous(b);
}

/* Rows attend all keys of a shared head. */
static void attend_shared_head(superblock *b) {
    const plan *p = b->p;
    const int64_t keys = b->at.sequence.key_count;
    b->chunk.first = 0, b->chunk.end = keys;
    const key_chunk head = b->chunk;
    look_ahead(b, keys);
    for (int64_t first = 0; first < keys; first += p->chunk_keys) {
        b->chunk = part_of_chunk(p, &head, first, smaller(first + p->chunk_keys, keys));
        attend_chunk(b);
    }
    finish_jobs(b);
}

static void attend_own_chunks(superblock *b) {
    const plan *p = b->p;
    int64_t low = INT64_MAX, high = 0;
    for (int64_t i = 0; i < b->count; i++)
        low = smaller(low, b->tiles[i].t.low), high = larger(high, b->tiles[i].t.high);
    high = smaller(round_up(high, STEP), b->at.sequence.key_count);
    for (int64_t first = low / p->block_keys * p->block_keys; first < high;
         first += p->chunk_keys) {
        b->chunk.first = larger(first, low / STEP * STEP);
        b->chunk.end = smaller(first + p->chunk_keys, high);
        pack(b, &b->chunk);
        look_ahead(b, high);
        attend_chunk(b);
        finish_jobs(b);
    }
}

static void attend_superblock(superblock *b) {
    if (b->p->shared)
        attend_shared_head(b);
    else
        attend_own_chunks(b);
    for (int64_t i = 0; i < b->count; i++) tile_finish(&b->at, &b->tiles[i].t);
}

/* Where the parts of the workspace begin: slices of the threads, slots of shared heads, counters. */
typedef struct places {
    char *slices, *slots;
    shared_slot *heads;
    shared_counter *lists;
} places;

static places lay_out_workspace(const plan *p, char *memory) {
    places at = {.slices = memory, .slots = memory + (size_t)p->threads * p->slice_bytes};
    at.heads = (shared_slot *)(void *)(at.slots + (size_t)p->slots * p->slot_bytes);
    at.lists = (shared_counter *)(void *)(at.heads + p->slots);
    return at;
}

static size_t workspace_bytes(const plan *p) {
    size_t slices = (size_t)p->threads * p->slice_bytes;
    if (!p->shared) return slices;
    return slices + (size_t)p->slots * (p->slot_bytes + sizeof(shared_slot)) +
           (size_t)p->threads * sizeof(shared_counter);
}

/* Waves take turns with the slots. */
static int64_t slot_of_head(const plan *p, int64_t head) { return head % p->slots; }

static void share_head(superblock *b, const places *at) {
    const plan *p = b->p;
    int64_t slot = slot_of_head(p, b->head), served = b->head / p->slots;
    char *mean = lay_out_chunk(b, at->slots + (size_t)slot * p->slot_bytes);
    pack_with_others(b, at->heads + slot, served, (float *)(void *)mean);
}

static void attend_item(const plan *p, const fovea_attention_call *call, const places *at,
                        int thread, int64_t item, int64_t next_item) {
    multiply_function *const by_terms[] = {NULL, p->bytes ? multiply_bytes : multiply_bf16,
                                           call->has_lse ? multiply_f16_exactly : multiply_f16,
                                           multiply_f32};
    int64_t head = head_of_item(p, call, item);
    superblock b = {.p = p,
                    .head = head,
                    .next_item = next_item,
                    .at = {.call = call,
                           .sequence = fovea_attention_sequence(call, head / call->key_heads),
                           .key_head = head % call->key_heads,
                           .limited = is_causal(call) || call->options->window_left >= 0 ||
                                      call->options->window_right >= 0,
                           .scale = (float)(call->scale * LOG2E),
                           .unit = 1},
                    .multiply = by_terms[p->terms]};
    b.general = call->has_bias || call->has_mask || call->has_slopes || isfinite(call->softcap) ||
                !(b.at.scale > 0) || call->options->dropout > 0;
    b.at.general = b.general;
    int64_t first_row = number_of_item(p, call, item) * p->block_rows;
    int64_t rows = smaller(b.at.sequence.query_count * call->group - first_row, p->block_rows);
    const amx_configuration whole = amx_whole_tiles();
    amx_configure(&whole);
    char *memory = at->slices + (size_t)thread * p->slice_bytes;
    if (!p->shared) memory = lay_out_chunk(&b, memory);
    memory = lay_out_buffers(&b, memory);
    if (p->bytes) begin_bytes(&b);
    if (p->shared)
        share_head(&b, at);
    else if (p->bytes)
        begin_mean(&b);
    lay_out_tiles(&b, first_row, rows, memory);
    attend_superblock(&b);
    amx_release();
}

/* ---- Running ----------------------------------------------------------------------------------------- */

static void drain(const plan *p, const fovea_attention_call *call, const places *at, int thread,
                  atomic_llong *next) {
    for (;;) {
        int64_t item = atomic_fetch_add_explicit(next, 1, memory_order_relaxed);
        if (item >= p->items) break;
        attend_item(p, call, at, thread, item, item + p->threads);
    }
}

/* The items of a wave in list `i`: [start, end). */
static int64_t start_of_list(const plan *p, int64_t items, int64_t i) {
    return i * items / p->threads;
}

static void drain_waves(const plan *p, const fovea_attention_call *call, const places *at,
                        int thread) {
    const int64_t whole = p->wave_heads * p->superblocks;
    for (int64_t wave = 0; wave * whole < p->items; wave++)
        for (int i = 0; i < p->threads; i++) {
            int64_t list = (thread + i) % p->threads, n;
            int64_t items = smaller(p->items - wave * whole, whole);
            int64_t start = start_of_list(p, items, list), end = start_of_list(p, items, list + 1);
            int64_t before =
                wave * (start_of_list(p, whole, list + 1) - start_of_list(p, whole, list));
            while ((n = take_below(&at->lists[list], before + end - start)) >= 0) {
                int64_t item = wave * whole + start + n - before;
                attend_item(p, call, at, thread, item, item + 1);
                count_one(&at->heads[slot_of_head(p, item / p->superblocks)].finished);
            }
        }
}

static fovea_status run_flash(const fovea_problem *problem, fovea_run *run) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    plan p = make_plan(&call, run->threads);
    places at = lay_out_workspace(&p, run->workspace);
    atomic_llong next = 0;
    int threads = 1;
    run->block_rows = p.block_rows, run->block_keys = p.block_keys;
    if (p.shared)
        memset(at.heads, 0,
               (size_t)p.slots * sizeof *at.heads + (size_t)p.threads * sizeof *at.lists);
    if (p.threads == 1)
        drain(&p, &call, &at, 0, &next);
    else
#pragma omp parallel num_threads(p.threads)
    {
#pragma omp single nowait
        threads = omp_get_num_threads();
        if (p.shared)
            drain_waves(&p, &call, &at, omp_get_thread_num());
        else
            drain(&p, &call, &at, omp_get_thread_num(), &next);
    }
    run->threads = threads;
    return FOVEA_OK;
}

static size_t workspace(const fovea_problem *problem, int threads) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    plan p = make_plan(&call, threads);
    return workspace_bytes(&p);
}

static bool serves_operands(const fovea_attention_call *call, char *reason, size_t size) {
    if (call->k.dtype != call->q.dtype || call->v.dtype != call->q.dtype) {
        snprintf(reason, size, "q is %s, k %s, v %s; it serves one dtype for all",
                 fovea_dtype_name(call->q.dtype), fovea_dtype_name(call->k.dtype),
                 fovea_dtype_name(call->v.dtype));
        return false;
    }
    return positions_fit(call, reason, size);
}

static bool serves(const fovea_problem *problem, char *reason, size_t size) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    const fovea_attention_options *options = call.options;
    if (options->algorithm != FOVEA_ATTENTION_ALGORITHM_AUTO &&
        options->algorithm != FOVEA_ATTENTION_ALGORITHM_FLASH) {
        snprintf(reason, size, "another algorithm is asked for");
        return false;
    }
    return serves_operands(&call, reason, size);
}

/* Whether sage is served here; what else may be asked of it is sage_tiles.h's. */
static bool serves_as_bytes(const fovea_attention_call *call) {
    char reason[128];
    return call->options->pv == FOVEA_ATTENTION_PV_BF16 && call->head_size <= BYTE_HEAD_MAX &&
           serves_operands(call, reason, sizeof reason);
}

static bool serves_sage(const fovea_problem *problem, char *reason, size_t size) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    return is_sage(&call) && serves_as_bytes(&call) ? true
                                                    : fovea_sage_amx_serves(problem, reason, size);
}

static fovea_status run_sage(const fovea_problem *problem, fovea_run *run) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    return serves_as_bytes(&call) ? run_flash(problem, run) : fovea_sage_amx_run(problem, run);
}

static size_t workspace_sage(const fovea_problem *problem, int threads) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    return serves_as_bytes(&call) ? workspace(problem, threads)
                                  : fovea_sage_amx_workspace(problem, threads);
}

/* Seconds: products of whole tiles at a share of their peak that was measured, and a start. Three terms
 * gain little over vectors of f32 and lose with all cores busy (1.5 against 1.9 TFLOP/s with 16 at
 * length 1024): 0.42 was seen with one, but only a measurement should choose them.
 *
 * Keys and values are packed before they are multiplied, a term after the other, at half the rate that a thread moves memory,
 * and at no more than what feeds about three cores: with few rows that is all that counts. 16 threads, 8 heads of 8 rows and
 * 32768 keys: 3.8, 7.0 and 12.3 ms of one, two and three terms, where split takes 1.2, 1.1 and 1.9. */
static double cost(const fovea_problem *problem, int threads, double flops, double bandwidth) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    plan p = make_plan(&call, threads);
    double rows = (double)call.query_length * (double)call.group;
    double padding = (double)round_up((int64_t)rows, TILE_ROWS) / fmax(rows, 1) *
                     (double)(p.shapes.head_steps * STEP + p.shapes.value_tiles * AMX_ROWS) /
                     fmax((double)(call.head_size + call.value_size), 1);
    static const double shares[] = {0, 0.25, 0.33, 0.27};
    double computing = fovea_problem_operations(problem) * padding * term_products(p.terms) /
                       (flops * shares[p.terms] * p.threads);
    double packing = 0;
    if (rows <= TILE_ROWS)
        packing = fovea_problem_bytes(problem) / bandwidth *
                  fmax(2.0 * p.terms / p.threads, 1 / fmin(p.threads, 3));
    return computing + packing + (p.threads > 1 ? 3e-6 : 1e-6);
}

static double cost_sage(const fovea_problem *problem, int threads, double flops, double bandwidth) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    return serves_as_bytes(&call) ? cost(problem, threads, flops, bandwidth)
                                  : fovea_sage_amx_cost(problem, threads, flops, bandwidth);
}

#define ROW(algorithm, dtype)                                                                      \
    {                                                                                              \
        .kernel = "attention", .name = FOVEA_CPU_NAME(algorithm), .dtypes = 1u << (dtype),         \
        .tier = FOVEA_TIER_HERE, .serves = serves, .workspace = workspace, .run = run_flash,       \
        .cost = cost                                                                               \
    }

#define BACKWARD_ROW(algorithm, dtype)                                                             \
    {                                                                                              \
        .kernel = "attention_backward", .name = FOVEA_CPU_NAME(algorithm),                         \
        .dtypes = 1u << (dtype), .tier = FOVEA_TIER_HERE, .serves = fovea_backward_amx_serves,     \
        .workspace = fovea_backward_amx_workspace, .run = fovea_backward_amx_run,                  \
        .cost = fovea_backward_amx_cost                                                            \
    }

extern const fovea_implementation FOVEA_TIERED(fovea_cpu_attention)[];
const fovea_implementation FOVEA_TIERED(fovea_cpu_attention)[] = {
    ROW("flash", FOVEA_BF16),
    ROW("flash_bf16x2", FOVEA_F16),
    ROW("flash_bf16x3", FOVEA_F32),
    {.kernel = "attention",
     .name = FOVEA_CPU_NAME("sage"),
     .dtypes = 1u << FOVEA_F32 | 1u << FOVEA_F16 | 1u << FOVEA_BF16,
     .tier = FOVEA_TIER_HERE,
     .serves = serves_sage,
     .workspace = workspace_sage,
     .run = run_sage,
     .cost = cost_sage},
    {.kernel = "attention",
     .name = FOVEA_CPU_NAME("split"),
     .dtypes = 1u << FOVEA_F16 | 1u << FOVEA_BF16,
     .tier = FOVEA_TIER_HERE,
     .serves = fovea_split_amx_serves,
     .workspace = fovea_split_amx_workspace,
     .run = fovea_split_amx_run,
     .cost = fovea_split_amx_cost},
    BACKWARD_ROW("flash", FOVEA_BF16),
    BACKWARD_ROW("flash_bf16x2", FOVEA_F16),
    {0}};
