/* The products of attention on tiles, with the exponentials of other keys between them.
 *
 * A job is one tile of 32 query rows against one block of keys. Lanes are query rows throughout:
 * scores s[key][row] = K Q^T, p in pairs of keys [key / 2][row], and out[column][row] = V^T P^T, so
 * that the maximum, the sum and the references of a row stay in a lane, and the masks and options of
 * attention_tile.h apply as they are. Both products go two tiles by two: four accumulators, and one
 * tile is loaded for each product.
 *
 * The tile unit takes a product every 16 cycles and is left alone with it; meanwhile the vector units
 * take the exponentials. So three jobs are in hand: the values of the previous one and the scores of the
 * next are multiplied, and after each product follows its share of the current one's exponentials. The
 * scores of the next overwrite those of the current one, keys by keys, as these have become p: a store of
 * a tile whose lines are not in L1 takes several times as long. Keys and values, which a tile of rows
 * reads once, are loaded with the hint that spares the lines of scores and p.
 */
#ifndef FOVEA_CPU_ATTENTION_ATTENTION_PRODUCTS_H
#define FOVEA_CPU_ATTENTION_ATTENTION_PRODUCTS_H

#include "cpu/attention/attention_bytes.h"

/* Accumulators and factors of a product of two by two tiles. */
enum { C00, C01, C10, C11, A0, A1, B0, B1 };

typedef struct job {
    tile *t;
    const uint16_t *queries, *keys, *values;
    int64_t groups; /* of 32 keys */
    float *scores;
    uint16_t *p; /* [term][pair of keys][row], pairs of bf16 */
} job;

/* What the products need to know of the call. */
typedef struct shapes {
    int64_t head_steps, value_tiles;
    int64_t p_term;     /* bf16 from one term of p to the next */
    int64_t value_pair; /* bf16 from one pair of column tiles of v to the next */
} shapes;

/* How scores become p. */
typedef enum softmax_kind {
    NONE,
    QUICK,      /* nearly exact to bf16, |score| <= 60, the sum from the rounded p */
    CLAMPED,    /* the same from -inf on */
    ROWS_QUICK, /* both of scores of bytes, whose scales differ by row and by 16 keys */
    ROWS_CLAMPED,
    EXACT, /* to f32; any score */
    READY  /* they are p already */
} softmax_kind;

/* ---- Exponentials ------------------------------------------------------------------------------------ */

/* QUICK and CLAMPED work on a pair of keys in the halves of words. With y = 256 (127 + x), rounded by adding 1.5 2^23, the
 * number y / 2 is almost the bits of 2^x as a bf16 (Schraudolph 1999): with f the last 8 bits of y, 256 (1 + f / 256 -
 * 2^(f / 256)) has to be taken away, at most 22. A table of 64 bytes has it for the first 6 bits of f, as 32 less that, so y
 * comes 32 too small; the average of both, rounded up at halves, is the bf16. Its error is at most 2.3 times that of
 * rounding to bf16 alone, in the mean 1.14 times. Six operations for 32 exponentials, where polynomials took 14. */
#define HALVES_LEAST 0x1.8p23f
#define HALVES_BIAS (HALVES_LEAST + 127 * 256 - 32)
/* References must be whole numbers, and no larger, for the bias to be exact. */
#define REFERENCE_LIMIT 16000.0f

static const _Alignas(64) uint8_t power_corrections[64] = {
    23, 22, 21, 20, 19, 18, 18, 17, 16, 16, 15, 14, 14, 13, 13, 12, 12, 11, 11, 11, 11, 10,
    10, 10, 10, 10, 10, 10, 10, 10, 10, 11, 11, 11, 12, 12, 12, 13, 14, 14, 15, 16, 16, 17,
    18, 19, 20, 21, 22, 23, 24, 25, 27, 28, 30, 31, 32, 30, 29, 28, 27, 26, 25, 24};

typedef struct halves_constants {
    vi upper, corrections, ones;
    vf least;
    __mmask64 odd, low; /* bytes of the odd keys; low bytes of halves */
} halves_constants;

/* Hidden from gcc, which would make them anew for every pair: 3 operations of the shuffle unit. */
VF_INLINE halves_constants halves_begin(void) {
    halves_constants c = {
        .upper = _mm512_broadcast_i32x4(_mm_set_epi32(0x0d0c8080, 0x09088080, 0x05048080,
                                                      0x01008080)), /* low halves to high ones */
        .corrections = _mm512_load_si512(power_corrections),
        .ones = _mm512_set1_epi16(0x3f80),
        .least = vf_set1(HALVES_LEAST),
        .odd = 0xcccccccccccccccc,
        .low = 0x5555555555555555};
    __asm__("" : "+v"(c.upper), "+v"(c.corrections), "+v"(c.ones), "+v"(c.least));
    __asm__("" : "+Yk"(c.odd), "+Yk"(c.low));
    return c;
}

VF_INLINE vi bf16_powers_of_two(const halves_constants *c, vf even, vf odd) {
    vi y = _mm512_mask_shuffle_epi8(vf_as_vi(even), c->odd, vf_as_vi(odd), c->upper);
    vi correction = _mm512_maskz_permutexvar_epi8(c->low, _mm512_srli_epi16(y, 2), c->corrections);
    return _mm512_avg_epu16(y, correction);
}

/* The exponentials of a job, taken a pair of keys at a time. */
typedef struct softmax_work {
    const float *scores;
    uint16_t *p;
    int64_t p_term, pairs, pair;
    int64_t budget, slots; /* pairs are spread evenly over so many products */
    float factor;          /* of the scores, to units of log 2 */
    const float *rows;     /* of ROWS: the scales of the rows, and below those of the keys */
    const group_facts *facts;
    vf row_factor[TILE_VECTORS]; /* of ROWS, for 16 keys */
    vf shift[TILE_VECTORS], sum[TILE_VECTORS];
    halves_constants halves; /* of QUICK and CLAMPED, while products are made */
} softmax_work;

/* The high halves. */
VF_INLINE vi pair_high_halves(vi even, vi odd) {
    return _mm512_ternarylogic_epi32(vi_set1(0xffff), vi_shr(even, 16), odd, 0xce);
}

/* Terms of p: truncated, so that the rest is exact; the last of one or two is rounded. */
VF_INLINE void store_pair(const int terms, vf even, vf odd, uint16_t *p, int64_t p_term) {
    const vi mask = vi_set1((int32_t)0xffff0000), half = vi_set1(0x8000);
    VF_UNROLLED for (int n = 0; n < terms; n++) {
        vi e = vf_as_vi(even), o = vf_as_vi(odd);
        if (n == terms - 1 && terms < TERMS_MAX) e = vi_add(e, half), o = vi_add(o, half);
        _mm512_storeu_si512(p + n * p_term, pair_high_halves(e, o));
        even = vf_sub(even, vi_as_vf(vi_and(e, mask)));
        odd = vf_sub(odd, vi_as_vf(vi_and(o, mask)));
    }
}

/* What takes the next 16 keys' scores of bytes to halves of words. */
VF_INLINE void scale_rows(softmax_work *w) {
    const vf of_keys =
        vf_set1(w->factor * w->facts[w->pair / AMX_ROWS].scale[w->pair / (AMX_ROWS / 2) % 2]);
    VF_UNROLLED for (int v = 0; v < TILE_VECTORS; v++) {
        w->row_factor[v] = vf_mul(vf_load(w->rows + v * VF_WIDTH), of_keys);
        w->shift[v] = vf_fma(w->row_factor[v], vf_set1(-BYTE_ORIGIN), vf_set1(HALVES_BIAS));
    }
}

VF_INLINE void take_pair(const int terms, const softmax_kind kind, softmax_work *w) {
    const bool by_rows = kind == ROWS_QUICK || kind == ROWS_CLAMPED;
    const vf least = w->halves.least;
    if (by_rows && w->pair % (AMX_ROWS / 2) == 0) scale_rows(w);
    VF_UNROLLED for (int v = 0; v < TILE_VECTORS; v++) {
        const float *place = w->scores + v * VF_WIDTH;
        uint16_t *to = w->p + v * STEP;
        if (kind == READY) {
            store_pair(terms, vf_load(place), vf_load(place + TILE_ROWS), to, w->p_term);
            continue;
        }
        const vf factor = by_rows ? w->row_factor[v] : vf_set1(w->factor), shift = w->shift[v];
        vf even = vf_fma(vf_load(place), factor, shift);
        vf odd = vf_fma(vf_load(place + TILE_ROWS), factor, shift);
        if (kind == EXACT) {
            even = vf_exp2_softmax(even), odd = vf_exp2_softmax(odd);
            w->sum[v] = vf_add(vf_add(w->sum[v], even), odd);
            store_pair(terms, even, odd, to, w->p_term);
            continue;
        }
        if (kind == CLAMPED || kind == ROWS_CLAMPED)
            even = vf_max(even, least), odd = vf_max(odd, least);
        vi pair = bf16_powers_of_two(&w->halves, even, odd);
        _mm512_storeu_si512(to, pair);
        w->sum[v] = _mm512_dpbf16_ps(w->sum[v], (__m512bh)pair, (__m512bh)w->halves.ones);
        /* Here, not after all products, where gcc would move it. */
        __asm__ volatile("" : "+v"(w->sum[v]));
    }
    w->scores += 2 * TILE_ROWS;
    w->p += TILE_VECTORS * STEP;
    w->pair++;
}

/* After each product. */
VF_INLINE void take_share(const int terms, const softmax_kind kind, softmax_work *w) {
    if (kind == NONE) return;
    w->budget += w->pairs;
    while (w->budget >= w->slots && w->pair < w->pairs) {
        take_pair(terms, kind, w);
        w->budget -= w->slots;
    }
}

/* Before scores are overwritten. */
VF_INLINE void take_pairs_until(const int terms, const softmax_kind kind, int64_t pair,
                                softmax_work *w) {
    if (kind == NONE) return;
    while (w->pair < smaller(pair, w->pairs)) take_pair(terms, kind, w);
}

/* ---- Products ---------------------------------------------------------------------------------------- */

/* What sums of products begin with: of bytes a line with the bits of 1.5 2^23 for each row of the tile (attention_bytes.h). */
static const _Alignas(64) float byte_origin[AMX_ROWS] = {
    BYTE_ORIGIN, BYTE_ORIGIN, BYTE_ORIGIN, BYTE_ORIGIN, BYTE_ORIGIN, BYTE_ORIGIN,
    BYTE_ORIGIN, BYTE_ORIGIN, BYTE_ORIGIN, BYTE_ORIGIN, BYTE_ORIGIN, BYTE_ORIGIN,
    BYTE_ORIGIN, BYTE_ORIGIN, BYTE_ORIGIN, BYTE_ORIGIN};
#define BEGIN_SCORES(bytes, c)                                                                     \
    do {                                                                                           \
        if (bytes)                                                                                 \
            amx_load(c, byte_origin, 0);                                                           \
        else                                                                                       \
            amx_zero(c);                                                                           \
    } while (0)
#define MULTIPLY_SCORES(bytes, c, a, b)                                                            \
    do {                                                                                           \
        if (bytes)                                                                                 \
            amx_s8s8(c, a, b);                                                                     \
        else                                                                                       \
            amx_bf16(c, a, b);                                                                     \
    } while (0)

VF_INLINE void store_second_accumulators(float *second) {
    const int64_t row = TILE_ROWS * sizeof(float);
    amx_store(C10, second, row);
    amx_store(C11, second + AMX_ROWS, row);
}

VF_INLINE void store_accumulators(float *first, float *second) {
    const int64_t row = TILE_ROWS * sizeof(float);
    amx_store(C00, first, row);
    amx_store(C01, first + AMX_ROWS, row);
    if (second) store_second_accumulators(second);
}

/* Tiles of columns of out that are still in the accumulators: they are stored behind the next loads, which would have to wait for the
 * stores, as these have to wait for the products. */
typedef struct columns {
    float *first, *second; /* NULL if there is none */
} columns;

VF_INLINE void store_columns(columns c) {
    if (c.first) store_accumulators(c.first, c.second);
}

/* s = K Q^T for all keys of a job. */
VF_INLINE void multiply_keys(const bool bytes, const int terms, const int order,
                             const softmax_kind kind, const job *j, const shapes *at,
                             softmax_work *w) {
    const uint16_t *k = j->keys;
    float *s = j->scores;
    for (int64_t group = 0; group < j->groups; group++, s += STEP * TILE_ROWS) {
        const uint16_t *q = j->queries;
        BEGIN_SCORES(bytes, C00);
        BEGIN_SCORES(bytes, C01);
        BEGIN_SCORES(bytes, C10);
        BEGIN_SCORES(bytes, C11);
        for (int64_t step = 0; step < at->head_steps; step++) {
            VF_UNROLLED for (int i = 0; i < products_of_terms(terms, order); i++) {
                const term_pair n = pair_of_terms(terms, order, i),
                                before = i ? pair_of_terms(terms, order, i - 1) : no_terms;
                const bool other_keys = n.first != before.first,
                           other_queries = n.second != before.second;
                const uint16_t *keys = k + n.first * 2 * HALF_TILE,
                               *queries = q + n.second * TILE_VECTORS * HALF_TILE;
                if (other_keys) amx_stream_load(A0, keys, AMX_ROW_BYTES);
                if (other_queries) amx_load(B0, queries, AMX_ROW_BYTES);
                MULTIPLY_SCORES(bytes, C00, A0, B0);
                take_share(terms, kind, w);
                if (other_queries) amx_load(B1, queries + HALF_TILE, AMX_ROW_BYTES);
                MULTIPLY_SCORES(bytes, C01, A0, B1);
                take_share(terms, kind, w);
                if (other_keys) amx_stream_load(A1, keys + HALF_TILE, AMX_ROW_BYTES);
                MULTIPLY_SCORES(bytes, C10, A1, B0);
                take_share(terms, kind, w);
                MULTIPLY_SCORES(bytes, C11, A1, B1);
                take_share(terms, kind, w);
            }
            k += 2 * terms * HALF_TILE;
            q += TILE_VECTORS * terms * HALF_TILE;
        }
        take_pairs_until(terms, kind, (group + 1) * STEP / 2, w);
        store_accumulators(s, s + AMX_ROWS * TILE_ROWS);
    }
}

/* The same where the queries are four tiles, which then stay in registers: 16 keys at a time, half as
 * many loads. */
VF_INLINE void multiply_keys_of_two_steps(const bool bytes, const softmax_kind kind, const job *j,
                                          columns before, softmax_work *w) {
    enum { S0, S1, K0, K1, Q00, Q01, Q10, Q11 };
    const int64_t row = TILE_ROWS * sizeof(float);
    const uint16_t *k = j->keys, *q = j->queries;
    float *s = j->scores;
    amx_load(Q00, q, AMX_ROW_BYTES);
    amx_load(Q01, q + HALF_TILE, AMX_ROW_BYTES);
    amx_load(Q10, q + 2 * HALF_TILE, AMX_ROW_BYTES);
    amx_load(Q11, q + 3 * HALF_TILE, AMX_ROW_BYTES);
    store_columns(before);
    for (int64_t group = 0; group < j->groups; group++, k += 4 * HALF_TILE)
        VF_UNROLLED for (int half = 0; half < 2; half++, s += AMX_ROWS * TILE_ROWS) {
            BEGIN_SCORES(bytes, S0);
            BEGIN_SCORES(bytes, S1);
            amx_stream_load(K0, k + half * HALF_TILE, AMX_ROW_BYTES);
            MULTIPLY_SCORES(bytes, S0, K0, Q00);
            take_share(1, kind, w);
            MULTIPLY_SCORES(bytes, S1, K0, Q01);
            take_share(1, kind, w);
            amx_stream_load(K1, k + (2 + half) * HALF_TILE, AMX_ROW_BYTES);
            MULTIPLY_SCORES(bytes, S0, K1, Q10);
            take_share(1, kind, w);
            MULTIPLY_SCORES(bytes, S1, K1, Q11);
            take_share(1, kind, w);
            take_pairs_until(1, kind, (2 * group + half + 1) * AMX_ROWS / 2, w);
            amx_store(S0, s, row);
            amx_store(S1, s + AMX_ROWS, row);
        }
}

/* Of bytes where the queries are two tiles: 16 keys at a time as well, and each pair of tiles of scores is stored behind the load of
 * the next keys, which would have to wait for the stores, as they have to wait for the products. */
VF_INLINE void multiply_keys_of_one_step(const softmax_kind kind, const job *j, columns before,
                                         softmax_work *w) {
    enum { S0, S1, S2, S3, K0, K1, Q0, Q1 };
    const int64_t row = TILE_ROWS * sizeof(float);
    const uint16_t *k = j->keys;
    float *s = j->scores;
    amx_load(Q0, j->queries, AMX_ROW_BYTES);
    amx_load(Q1, j->queries + HALF_TILE, AMX_ROW_BYTES);
    amx_stream_load(K0, k, AMX_ROW_BYTES);
    store_columns(before);
    for (int64_t group = 0; group < j->groups; group++, k += 2 * HALF_TILE) {
        BEGIN_SCORES(true, S0);
        BEGIN_SCORES(true, S1);
        MULTIPLY_SCORES(true, S0, K0, Q0);
        take_share(1, kind, w);
        MULTIPLY_SCORES(true, S1, K0, Q1);
        take_share(1, kind, w);
        amx_stream_load(K1, k + HALF_TILE, AMX_ROW_BYTES);
        if (group) {
            take_pairs_until(1, kind, group * STEP / 2, w);
            amx_store(S2, s, row);
            amx_store(S3, s + AMX_ROWS, row);
            s += AMX_ROWS * TILE_ROWS;
        }
        BEGIN_SCORES(true, S2);
        BEGIN_SCORES(true, S3);
        MULTIPLY_SCORES(true, S2, K1, Q0);
        take_share(1, kind, w);
        MULTIPLY_SCORES(true, S3, K1, Q1);
        take_share(1, kind, w);
        if (group + 1 < j->groups) amx_stream_load(K0, k + 2 * HALF_TILE, AMX_ROW_BYTES);
        take_pairs_until(1, kind, group * STEP / 2 + AMX_ROWS / 2, w);
        amx_store(S0, s, row);
        amx_store(S1, s + AMX_ROWS, row);
        s += AMX_ROWS * TILE_ROWS;
    }
    take_pairs_until(1, kind, j->groups * STEP / 2, w);
    amx_store(S2, s, row);
    amx_store(S3, s + AMX_ROWS, row);
}

static void add_columns(float *out, const float *sum) {
    for (int64_t i = 0; i < AMX_ROWS * TILE_ROWS; i += VF_WIDTH)
        vf_store(out + i, vf_add(vf_load(out + i), vf_load(sum + i)));
}

/* What v of a tile of columns begins with. */
VF_INLINE const uint16_t *values_of(const int terms, const job *j, const shapes *at, int64_t tile) {
    return j->values + tile / 2 * at->value_pair + tile % 2 * terms * HALF_TILE;
}

/* A tile of out takes the place of another. */
#define TURN(c, before, started, out)                                                              \
    do {                                                                                           \
        const int64_t row_ = TILE_ROWS * sizeof(float);                                            \
        if (before) amx_store(c, before, row_);                                                    \
        if (started)                                                                               \
            amx_load(c, out, row_);                                                                \
        else                                                                                       \
            amx_zero(c);                                                                           \
    } while (0)

/* out += V^T P^T for one or two tiles of columns of v, the first and the second, which stay in the accumulators. With three terms the
 * sum of a block begins at 0 and is added as a whole: where 4097 values are equal, the six roundings of every 32 keys in one chain
 * lose 1.9 times what the bound of f32 allows. */
VF_INLINE columns multiply_columns(const int terms, const bool two, const softmax_kind kind,
                                   const job *j, const shapes *at, int64_t first, int64_t second,
                                   columns before, softmax_work *w) {
    const int64_t pair = TILE_VECTORS * AMX_ROW_BYTES, group_size = 2 * terms * HALF_TILE;
    const bool apart = terms == TERMS_MAX && j->t->started, started = j->t->started && !apart;
    float *out = j->t->out + first * AMX_ROWS * TILE_ROWS;
    float *other = two ? j->t->out + second * AMX_ROWS * TILE_ROWS : NULL;
    const uint16_t *v0 = values_of(terms, j, at, first), *p = j->p;
    const uint16_t *v1 = two ? values_of(terms, j, at, second) : v0;
    for (int64_t group = 0; group < j->groups; group++) {
        VF_UNROLLED for (int i = 0; i < term_products(terms); i++) {
            const term_pair n = pair_of_terms(terms, terms - 1, i),
                            last = i ? pair_of_terms(terms, terms - 1, i - 1) : no_terms;
            const bool other_values = n.first != last.first,
                       other_weights = n.second != last.second;
            const bool begins = i == 0 && group == 0;
            const uint16_t *weights = p + n.second * at->p_term;
            if (other_values) amx_stream_load(A0, v0 + n.first * HALF_TILE, AMX_ROW_BYTES);
            if (other_weights) amx_load(B0, weights, pair);
            if (begins) TURN(C00, before.first, started, out);
            amx_bf16(C00, A0, B0);
            take_share(terms, kind, w);
            if (other_weights) amx_load(B1, weights + STEP, pair);
            if (begins)
                TURN(C01, before.first ? before.first + AMX_ROWS : NULL, started, out + AMX_ROWS);
            amx_bf16(C01, A0, B1);
            take_share(terms, kind, w);
            if (two) {
                if (other_values) amx_stream_load(A1, v1 + n.first * HALF_TILE, AMX_ROW_BYTES);
                if (begins) TURN(C10, before.second, started, other);
                amx_bf16(C10, A1, B0);
                take_share(terms, kind, w);
                if (begins)
                    TURN(C11, before.second ? before.second + AMX_ROWS : NULL, started,
                         other + AMX_ROWS);
                amx_bf16(C11, A1, B1);
                take_share(terms, kind, w);
            } else if (begins && before.second) {
                store_second_accumulators(before.second);
            }
        }
        v0 += group_size, v1 += group_size;
        p += STEP / 2 * TILE_VECTORS * STEP;
    }
    if (!apart) return (columns){out, other};
    float sum[2][AMX_ROWS * TILE_ROWS];
    store_accumulators(sum[0], two ? sum[1] : NULL);
    add_columns(out, sum[0]);
    if (two) add_columns(other, sum[1]);
    return (columns){NULL, NULL};
}

/* The first and third, then the second and fourth of every four tiles of columns: a tile of out is 2 KiB, and what is loaded
 * then never lies 4 KiB from what was just stored, which the load would have to wait for. */
VF_INLINE columns multiply_values(const int terms, const softmax_kind kind, const job *j,
                                  const shapes *at, softmax_work *w) {
    enum { QUAD = 4 };
    columns c = {NULL, NULL};
    for (int64_t quad = 0; quad < at->value_tiles; quad += QUAD) {
        int64_t tiles = smaller(at->value_tiles - quad, QUAD), distance = tiles < 3 ? 1 : 2;
        for (int64_t i = 0; i < smaller(tiles, distance); i++)
            if (i + distance < tiles)
                c = multiply_columns(terms, true, kind, j, at, quad + i, quad + i + distance, c, w);
            else
                c = multiply_columns(terms, false, kind, j, at, quad + i, 0, c, w);
    }
    j->t->started = true;
    return c;
}

/* The values of `previous` and the scores of `next` (either may be NULL), and meanwhile all of the
 * work. */
VF_INLINE void multiply_meanwhile(const bool bytes, const int terms, const int order,
                                  const softmax_kind kind, const job *previous, const job *next,
                                  const shapes *at, softmax_work *work) {
    softmax_work w;
    if (kind != NONE) w = *work;
    int64_t of_values = previous ? previous->groups * at->value_tiles * TILE_VECTORS : 0;
    int64_t of_keys = next ? next->groups * at->head_steps * 2 * TILE_VECTORS : 0;
    w.slots =
        larger(of_values * term_products(terms) + of_keys * products_of_terms(terms, order), 1);
    w.budget = 0;
    if (kind != NONE && kind != EXACT && kind != READY) w.halves = halves_begin();
    columns out = {NULL, NULL};
    if (previous) out = multiply_values(terms, kind, previous, at, &w);
    if (next && bytes && at->head_steps == 1) {
        multiply_keys_of_one_step(kind, next, out, &w);
    } else if (next && terms == 1 && at->head_steps == 2) {
        multiply_keys_of_two_steps(bytes, kind, next, out, &w);
    } else {
        store_columns(out);
        if (next) multiply_keys(bytes, terms, order, kind, next, at, &w);
    }
    while (kind != NONE && w.pair < w.pairs) take_pair(terms, kind, &w);
    if (kind == NONE) return;
    VF_UNROLLED for (int v = 0; v < TILE_VECTORS; v++) work->sum[v] = w.sum[v];
}

typedef void multiply_function(softmax_kind kind, const job *previous, const job *next,
                               const shapes *at, softmax_work *work);

#define MEANWHILE(kind, bytes, terms, order)                                                       \
case kind:                                                                                         \
    multiply_meanwhile(bytes, terms, order, kind, previous, next, at, work);                       \
    break
#define MULTIPLY(name, terms, order)                                                               \
    static void name(softmax_kind kind, const job *previous, const job *next, const shapes *at,    \
                     softmax_work *work) {                                                         \
        switch (kind) {                                                                            \
            MEANWHILE(NONE, false, terms, order);                                                  \
            MEANWHILE(EXACT, false, terms, order);                                                 \
            MEANWHILE(READY, false, terms, order);                                                 \
        default:                                                                                   \
            break;                                                                                 \
        }                                                                                          \
    }
MULTIPLY(multiply_f16, 2, 1)
MULTIPLY(multiply_f16_exactly, 2, 2) /* the scores, where their sum of exponentials is asked for */
MULTIPLY(multiply_f32, 3, 2)

static void multiply_bf16(softmax_kind kind, const job *previous, const job *next, const shapes *at,
                          softmax_work *work) {
    switch (kind) {
        MEANWHILE(NONE, false, 1, 0);
        MEANWHILE(QUICK, false, 1, 0);
        MEANWHILE(CLAMPED, false, 1, 0);
        MEANWHILE(EXACT, false, 1, 0);
        MEANWHILE(READY, false, 1, 0);
    default:
        break;
    }
}

static void multiply_bytes(softmax_kind kind, const job *previous, const job *next,
                           const shapes *at, softmax_work *work) {
    switch (kind) {
        MEANWHILE(NONE, true, 1, 0);
        MEANWHILE(CLAMPED, true, 1, 0);
        MEANWHILE(ROWS_QUICK, true, 1, 0);
        MEANWHILE(ROWS_CLAMPED, true, 1, 0);
        MEANWHILE(EXACT, true, 1, 0);
        MEANWHILE(READY, true, 1, 0);
    default:
        break;
    }
}

#endif
