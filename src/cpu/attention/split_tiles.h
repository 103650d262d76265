/* The products of split with bf16 queries and caches of 8 bits on AMX's tiles.
 *
 * Rows of the cache become bf16 in L1 (split_bytes.h), 16 keys of 64 elements or 32 values of 32 columns at a time; a product of
 * tiles then takes 16 lines of 32 bf16 against all rows of a tile in 16 cycles, where 8 rows by multiply-adds take 128. While
 * the tiles multiply, the vector units convert what is next.
 */
#ifndef FOVEA_CPU_ATTENTION_SPLIT_TILES_H
#define FOVEA_CPU_ATTENTION_SPLIT_TILES_H

#include "cpu/attention/split_bytes.h"
#include "cpu/attention/split_pairs.h"

/* Of scores: 16 keys by `rows`, 16 keys by 32 elements, 16 pairs of elements by `rows`. */
enum { SCORES, KEYS, QUERIES, QUERIES1, QUERIES2, QUERIES3 };
/* Of values: `rows` by 16 columns, `rows` by 32 keys, 16 pairs of keys by 16 columns. */
enum { OUT0, OUT1, WEIGHTS, VALUES };
enum {
    TILE_KEYS = 16,
    TILE_VALUES = 32,
    TILE_PARTS = 64,   /* elements of a key that are converted together */
    TILE_COLUMNS = 32, /* of a value */
    TILE_HALVES = AMX_TILE_BYTES / 2
};

/* Two tiles are filled while the two before them are multiplied. Four make 4 KiB and no more: a load waits for a store before it
 * whose address has the same lower twelve bits. */
typedef uint16_t tile_pair[2 * TILE_HALVES];

/* ---- Scores ------------------------------------------------------------------------------------------ */

/* Words of two elements, [pair of elements][row], in the order in which convert_keys leaves elements. */
VF_INLINE void pack_tile_query(const int rows, const char *row, int64_t stride, int64_t size,
                               int64_t number, uint16_t *q) {
    for (int64_t d = 0; d < size; d++) {
        int64_t part = d % TILE_PARTS, place = part / 16 * 8 + part % 8;
        int64_t tile = d / TILE_PARTS * 2 + part % 16 / 8;
        uint16_t *at = q + ((tile * AMX_ROWS + place / 2) * rows + number) * 2 + place % 2;
        memcpy(at, row + 2 * d * stride, sizeof *at);
    }
}

/* Elements [d, d + n) of 16 keys as two tiles: of each 16 elements the first 8 in the first. */
VF_INLINE void convert_keys(const fovea_dtype dtype, const char *const *k, int64_t d, int64_t n,
                            split_ahead *next, uint16_t *to) {
    const __mmask64 mask = n >= TILE_PARTS ? ~(__mmask64)0 : ((__mmask64)1 << n) - 1;
    for (int j = 0; j < TILE_KEYS; j++, to += AMX_ROW_BYTES / 2) {
        __m512i low, high;
        if (j % 4 == 0) split_fetch(next);
        find_bytes(dtype, _mm512_maskz_loadu_epi8(mask, k[j] + d), &low, &high);
        _mm512_store_si512(to, _mm512_unpacklo_epi8(low, high));
        _mm512_store_si512(to + TILE_HALVES, _mm512_unpackhi_epi8(low, high));
    }
}

VF_INLINE void configure_scores(const int rows) {
    amx_configuration c = amx_whole_tiles();
    c.row_bytes[SCORES] = (uint16_t)(4 * rows);
    VF_UNROLLED for (int t = QUERIES; t <= QUERIES3; t++) c.row_bytes[t] = (uint16_t)(4 * rows);
    amx_configure(&c);
}

/* Queries of up to 128 elements stay in their tiles. */
VF_INLINE void keep_queries(const int rows, int64_t parts, const uint16_t *q) {
    const int64_t tile = 2 * AMX_ROWS * rows;
    amx_load(QUERIES, q, 4 * rows);
    amx_load(QUERIES1, q + tile, 4 * rows);
    if (parts < 2) return;
    amx_load(QUERIES2, q + 2 * tile, 4 * rows);
    amx_load(QUERIES3, q + 3 * tile, 4 * rows);
}

VF_INLINE void multiply_keys(const int rows, bool kept, int64_t part, const uint16_t *keys,
                             const uint16_t *q) {
    const int64_t tile = 2 * AMX_ROWS * rows;
    amx_load(KEYS, keys, AMX_ROW_BYTES);
    if (!kept) amx_load(QUERIES, q + 2 * part * tile, 4 * rows);
    if (kept && part == 1)
        amx_bf16(SCORES, KEYS, QUERIES2);
    else
        amx_bf16(SCORES, KEYS, QUERIES);
    amx_load(KEYS, keys + TILE_HALVES, AMX_ROW_BYTES);
    if (!kept) amx_load(QUERIES1, q + (2 * part + 1) * tile, 4 * rows);
    if (kept && part == 1)
        amx_bf16(SCORES, KEYS, QUERIES3);
    else
        amx_bf16(SCORES, KEYS, QUERIES1);
}

/* A unit is a part of 16 keys; it is multiplied while the next is converted. */
VF_INLINE void tile_scores(const fovea_dtype dtype, const int rows, int64_t groups, int64_t size,
                           const uint16_t *q, const char *const *k, const char *const *ahead,
                           int64_t ahead_bytes, float *s) {
    _Alignas(64) tile_pair converted[2];
    const int64_t parts = divide_up(larger(size, 1), TILE_PARTS);
    const int64_t units = divide_up(groups, rows) * parts;
    const bool kept = parts <= 2;
    split_ahead next =
        split_plan_ahead(ahead, groups * (SPLIT_LANES / rows), ahead_bytes, larger(units, 1) * 4);
    configure_scores(rows);
    if (kept) keep_queries(rows, parts, q);
    for (int64_t unit = 0, part = 0, d = 0; unit <= units; unit++) {
        if (unit < units) {
            convert_keys(dtype, k, d, smaller(size - d, TILE_PARTS), &next, converted[unit % 2]);
            d += TILE_PARTS;
            if (d >= size) d = 0, k += TILE_KEYS;
        }
        if (unit == 0) continue;
        if (part == 0) amx_zero(SCORES);
        multiply_keys(rows, kept, part, converted[(unit - 1) % 2], q);
        if (++part < parts) continue;
        amx_store(SCORES, s, 4 * rows);
        s += TILE_KEYS * rows, part = 0;
    }
    amx_release();
}

/* ---- Values ------------------------------------------------------------------------------------------ */

/* Weights of 32 keys in place, [row][key] as bf16, zeros after the last. */
VF_INLINE void pack_tile_weights(const int rows, int64_t groups, float *s) {
    const int keys = 32 / rows; /* of a vector of bf16 */
    uint16_t places[32], *to = (uint16_t *)(void *)s;
    for (int i = 0; i < 32; i++) places[i] = (uint16_t)(i % keys * rows + i / keys);
    const __m512i order = _mm512_loadu_si512(places);
    for (; groups > 0; groups -= 2 * rows, s += 32 * rows, to += 32 * rows) {
        uint16_t weights[8][32];
        for (int i = 0; i < rows; i++) {
            const float *at = s + i * 32;
            vf first = 2 * i < groups ? vf_load(at) : vf_set1(0);
            vf second = 2 * i + 1 < groups ? vf_load(at + 16) : vf_set1(0);
            __m512i halves = (__m512i)_mm512_cvtne2ps_pbh(second, first);
            _mm512_storeu_si512(weights[i], _mm512_permutexvar_epi16(order, halves));
        }
        for (int r = 0; r < rows; r++)
            for (int i = 0; i < rows; i++)
                memcpy(to + r * 32 + i * keys, weights[i] + r * keys,
                       (size_t)keys * sizeof **weights);
    }
}

/* Columns [d, d + n), up to 32, of up to 32 keys as two tiles: lines are pairs of keys, zeros after the last. */
VF_INLINE void convert_values(const fovea_dtype dtype, const char *const *v, int64_t keys,
                              int64_t d, int64_t n, split_ahead *next, uint16_t *to) {
    for (int64_t j = 0; j < TILE_VALUES; j += 2, to += AMX_ROW_BYTES / 2) {
        __m512i x[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
        if (j % 8 == 0) split_fetch(next);
        if (j < keys) load_values(dtype, j + 1 < keys, v[j], v[j + 1], d, n, x);
        _mm512_store_si512(to, x[0]);
        _mm512_store_si512(to + TILE_HALVES, x[1]);
    }
}

VF_INLINE void configure_values(const int rows) {
    amx_configuration c = amx_whole_tiles();
    c.rows[OUT0] = c.rows[OUT1] = c.rows[WEIGHTS] = (uint8_t)rows;
    amx_configure(&c);
}

VF_INLINE void multiply_values(const uint16_t *weights, const uint16_t *values) {
    amx_load(WEIGHTS, weights, AMX_ROW_BYTES);
    amx_load(VALUES, values, AMX_ROW_BYTES);
    amx_bf16(OUT0, WEIGHTS, VALUES);
    amx_load(VALUES, values + TILE_HALVES, AMX_ROW_BYTES);
    amx_bf16(OUT1, WEIGHTS, VALUES);
}

/* The block's sum begins at 0, as in split_micro.h. */
VF_INLINE void add_outputs(const int rows, int64_t n, float *out, int64_t pitch) {
    _Alignas(64) float sum[8][TILE_COLUMNS];
    amx_store(OUT0, sum[0], sizeof *sum);
    amx_store(OUT1, sum[0] + 16, sizeof *sum);
    for (int r = 0; r < rows; r++, out += pitch) {
        vf_store(out, vf_add(vf_load(out), vf_load(sum[r])));
        if (n > 16) vf_store(out + 16, vf_add(vf_load(out + 16), vf_load(sum[r] + 16)));
    }
}

VF_INLINE void tile_values(const fovea_dtype dtype, const int rows, int64_t keys, int64_t size,
                           const char *const *v, const char *const *ahead, int64_t ahead_bytes,
                           const float *p, float *out, int64_t pitch) {
    _Alignas(64) tile_pair converted[2];
    const int64_t steps = divide_up(keys, TILE_VALUES), parts = divide_up(size, TILE_COLUMNS);
    const uint16_t *weights = (const uint16_t *)(const void *)p;
    split_ahead next = split_plan_ahead(ahead, keys, ahead_bytes, larger(steps * parts, 1) * 4);
    configure_values(rows);
    for (int64_t d = 0; d < size; d += TILE_COLUMNS) {
        const int64_t n = smaller(size - d, TILE_COLUMNS);
        amx_zero(OUT0);
        amx_zero(OUT1);
        for (int64_t step = 0; step <= steps; step++) {
            if (step < steps)
                convert_values(dtype, v + step * TILE_VALUES, keys - step * TILE_VALUES, d, n,
                               &next, converted[step % 2]);
            if (step > 0)
                multiply_values(weights + (step - 1) * 32 * rows, converted[(step - 1) % 2]);
        }
        add_outputs(rows, n, out + d, pitch);
    }
    amx_release();
}

/* ---- One function for each dtype and number of rows -------------------------------------------------- */

#define TILE_KERNELS(name, dtype, rows)                                                            \
    static void scores_##name##_##rows(int64_t groups, int64_t size, const uint16_t *q,            \
                                       const char *const *k, const char *const *ahead,             \
                                       int64_t ahead_bytes, float *s) {                            \
        tile_scores(dtype, rows, groups, size, q, k, ahead, ahead_bytes, s);                       \
    }                                                                                              \
    static void values_##name##_##rows(int64_t keys, int64_t size, const char *const *v,           \
                                       const char *const *ahead, int64_t ahead_bytes,              \
                                       const float *p, float *out, int64_t pitch) {                \
        tile_values(dtype, rows, keys, size, v, ahead, ahead_bytes, p, out, pitch);                \
    }
#define TILE_DTYPE(name, dtype)                                                                    \
    TILE_KERNELS(name, dtype, 1)                                                                   \
    TILE_KERNELS(name, dtype, 2)                                                                   \
    TILE_KERNELS(name, dtype, 4)                                                                   \
    TILE_KERNELS(name, dtype, 8)
#define TILE_PACKING(rows)                                                                         \
    static bool pack_query_##rows(const char *row, int64_t stride, int64_t size, int64_t number,   \
                                  uint16_t *q) {                                                   \
        pack_tile_query(rows, row, stride, size, number, q);                                       \
        return true;                                                                               \
    }                                                                                              \
    static bool pack_weights_##rows(int64_t groups, float *s) {                                    \
        pack_tile_weights(rows, groups, s);                                                        \
        return true;                                                                               \
    }
#define TILE_ENTRY(name, rows)                                                                     \
    {                                                                                              \
        .query_floats = 1, .pack_query = pack_query_##rows, .scores = scores_##name##_##rows,      \
        .pack_weights = pack_weights_##rows, .values = values_##name##_##rows                      \
    }
#define TILE_LINE(name)                                                                            \
    { TILE_ENTRY(name, 1), TILE_ENTRY(name, 2), TILE_ENTRY(name, 4), TILE_ENTRY(name, 8) }

TILE_PACKING(1)
TILE_PACKING(2)
TILE_PACKING(4)
TILE_PACKING(8)
TILE_DTYPE(i8, FOVEA_I8)
TILE_DTYPE(e4m3, FOVEA_E4M3)

static const split_pair_kernels split_tiles[FOVEA_DTYPE_COUNT][4] = {
    [FOVEA_I8] = TILE_LINE(i8), [FOVEA_E4M3] = TILE_LINE(e4m3)};

static inline const split_pair_kernels *split_find_pairs(fovea_dtype cache) {
    bool has = fovea_processor_get()->avx512_vbmi && split_tiles[cache][0].scores;
    return has ? split_tiles[cache] : NULL;
}

#endif
