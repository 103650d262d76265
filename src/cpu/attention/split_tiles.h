/* The products of split with caches of 8 bits on AMX's tiles, for queries of bf16 and f16.
 *
 * Rows of the cache become bf16 in L1 (split_bytes.h), a line of 64 bytes of 16 keys at a time. Keys are a first factor, 16 keys x
 * 32 bf16; the second is queries, 16 pairs of elements x rows. Values are a second factor: a word of theirs is two columns of one
 * key, so the first factor has weights with a zero beside each, (p, 0) in one line of each row for the even columns, (0, p) in
 * another for the odd ones, and nothing is interleaved. Queries and weights of f16 are two terms (attention_terms.h). While
 * the tiles multiply, the vector units convert what is next.
 */
#ifndef FOVEA_CPU_ATTENTION_SPLIT_TILES_H
#define FOVEA_CPU_ATTENTION_SPLIT_TILES_H

#include "cpu/attention/split_bytes.h"
#include "cpu/attention/split_pairs.h"

/* Sums of 16 keys by `rows`, of lines of weights by 16 pairs of columns; the factors. */
enum { SUM0, SUM1, SUM2, SUM3, FIRST0, FIRST1, SECOND0, SECOND1 };
enum { TILE_KEYS = 16, TILE_COLUMNS = 32, TILE_SUMS = 4, TILE_TERMS = 2, LINE = 64 };

/* A line of 16 keys as two tiles: the first and the last eight of each 16 elements. It is multiplied while the next is converted;
 * the buffers of both are 4 KiB, for a load waits for a store before it whose address has the same lower twelve bits. */
typedef struct tile_lines {
    const char *at;
    int64_t part;  /* of a row */
    int64_t group; /* of 16 keys */
} tile_lines;
typedef char tile_buffer[2 * AMX_TILE_BYTES];

/* Elements [d, d + n) of 16 rows, zeros up to a line. */
VF_INLINE void convert_lines(const fovea_dtype dtype, const char *const *rows, int64_t d, int64_t n,
                             split_ahead *next, char *to) {
    const __mmask64 mask = n >= LINE ? ~(__mmask64)0 : ((__mmask64)1 << n) - 1;
    for (int j = 0; j < TILE_KEYS; j++, to += AMX_ROW_BYTES) {
        __m512i low, high;
        if (j % 4 == 0) split_fetch(next);
        find_bytes(dtype, _mm512_maskz_loadu_epi8(mask, rows[j] + d), &low, &high);
        _mm512_store_si512(to, _mm512_unpacklo_epi8(low, high));
        _mm512_store_si512(to + AMX_TILE_BYTES, _mm512_unpackhi_epi8(low, high));
    }
}

VF_INLINE void zero_sums(void) {
    amx_zero(SUM0);
    amx_zero(SUM1);
    amx_zero(SUM2);
    amx_zero(SUM3);
}

/* PRODUCTS(sum) for the sum of that number: tiles are named by literals. */
#define FOR_SUM(number, PRODUCTS)                                                                  \
    switch (number) {                                                                              \
    case 0:                                                                                        \
        PRODUCTS(SUM0);                                                                            \
        break;                                                                                     \
    case 1:                                                                                        \
        PRODUCTS(SUM1);                                                                            \
        break;                                                                                     \
    case 2:                                                                                        \
        PRODUCTS(SUM2);                                                                            \
        break;                                                                                     \
    default:                                                                                       \
        PRODUCTS(SUM3);                                                                            \
    }

/* ---- Scores ------------------------------------------------------------------------------------------ */

/* [line][term][tile][pair of elements][row]. False if an element has no second term: it is not finite. */
VF_INLINE bool pack_tile_query(const int terms, const int rows, const char *row, int64_t stride,
                               int64_t size, int64_t number, uint16_t *q) {
    const int64_t tile = 2 * AMX_ROWS * rows;
    const fovea_dtype type = terms == 1 ? FOVEA_BF16 : FOVEA_F16;
    for (int64_t d = 0; d < size; d += VF_WIDTH) {
        const int64_t n = smaller(size - d, VF_WIDTH);
        vf x = load_elements(row, type, stride, d, n);
        if (terms > 1 && vm_any(vm_not(vf_lt(vf_abs(x), vf_set1(INFINITY))))) return false;
        for (int t = 0; t < terms; t++) {
            __m256i words = (__m256i)_mm512_cvtneps_pbh(x);
            uint16_t halves[VF_WIDTH];
            _mm256_storeu_si256((__m256i *)(void *)halves, words);
            x = vf_sub(x, vi_as_vf(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16)));
            for (int64_t i = 0; i < n; i++) {
                int64_t place = d % LINE / 16 * 8 + i % 8, half = i / 8;
                int64_t at = (d / LINE * terms + t) * 2 + half;
                q[at * tile + (place / 2 * rows + number) * 2 + place % 2] = halves[i];
            }
        }
    }
    return true;
}

VF_INLINE void configure_scores(const int rows) {
    amx_configuration c = amx_whole_tiles();
    for (int t = SUM0; t <= SUM3; t++) c.row_bytes[t] = (uint16_t)(4 * rows);
    c.row_bytes[SECOND0] = c.row_bytes[SECOND1] = (uint16_t)(4 * rows);
    amx_configure(&c);
}

/* Queries of one term stay in their tiles for four groups of keys. */
VF_INLINE void multiply_keys(const int terms, const int rows, const tile_lines *lines,
                             const uint16_t *q) {
    const int64_t tile = 2 * AMX_ROWS * rows;
    q += lines->part * terms * 2 * tile;
    amx_load(FIRST0, lines->at, AMX_ROW_BYTES);
    amx_load(FIRST1, lines->at + AMX_TILE_BYTES, AMX_ROW_BYTES);
    for (int t = 0; t < terms; t++, q += 2 * tile) {
        if (terms > 1 || lines->group == 0) {
            amx_load(SECOND0, q, 4 * rows);
            amx_load(SECOND1, q + tile, 4 * rows);
        }
#define MULTIPLY_KEYS(sum)                                                                         \
    amx_bf16(sum, FIRST0, SECOND0);                                                                \
    amx_bf16(sum, FIRST1, SECOND1)
        FOR_SUM(lines->group, MULTIPLY_KEYS)
    }
}

VF_INLINE void tile_scores(const fovea_dtype dtype, const int terms, const int rows, int64_t groups,
                           int64_t size, const uint16_t *q, const char *const *k,
                           const char *const *ahead, int64_t ahead_bytes, float *s) {
    _Alignas(64) tile_buffer buffer[2];
    const int64_t parts = divide_up(larger(size, 1), LINE);
    int64_t left = divide_up(groups, rows); /* groups of 16 keys */
    split_ahead next =
        split_plan_ahead(ahead, groups * (SPLIT_LANES / rows), ahead_bytes, left * parts * 4);
    configure_scores(rows);
    for (; left > 0; left -= TILE_SUMS, k += TILE_SUMS * TILE_KEYS) {
        const int64_t count = smaller(left, TILE_SUMS);
        tile_lines before = {.at = NULL}, now;
        int64_t unit = 0;
        zero_sums();
        for (int64_t part = 0; part < parts; part++)
            for (int64_t g = 0; g < count; g++, before = now) {
                char *to = buffer[unit++ % 2];
                now = (tile_lines){to, part, g};
                convert_lines(dtype, k + g * TILE_KEYS, part * LINE,
                              smaller(size - part * LINE, LINE), &next, to);
                if (before.at) multiply_keys(terms, rows, &before, q);
            }
        multiply_keys(terms, rows, &before, q);
        for (int64_t g = 0; g < count; g++, s += TILE_KEYS * rows) {
#define STORE_SCORES(sum) amx_store(sum, s, 4 * rows)
            FOR_SUM(g, STORE_SCORES)
        }
    }
    amx_release();
}

/* ---- Values ------------------------------------------------------------------------------------------ */

/* Of 16 keys: [term][line][key], a line for the even columns of each row, then one for the odd ones; rows in the order of their
 * reversed bits. */
typedef uint32_t tile_weights[TILE_TERMS][2 * SPLIT_ROWS * TILE_KEYS];

VF_INLINE void pack_tile_weights(const int terms, const int rows, int64_t keys, const float *p,
                                 tile_weights to) {
    const vi even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const vi odd = vi_add(even, vi_set1(1));
    vf x[SPLIT_ROWS], y[SPLIT_ROWS];
    VF_UNROLLED for (int i = 0; i < rows; i++) x[i] =
        i * VF_WIDTH < keys * rows ? vf_load(p + i * VF_WIDTH) : vf_set1(0);
    VF_UNROLLED for (int n = rows; n > 1; n /= 2) {
        VF_UNROLLED for (int i = 0; i < rows / 2; i++) {
            const int of_run = i % (n / 2), run = i / (n / 2) * n;
            const vf a = x[run + 2 * of_run], b = x[run + 2 * of_run + 1];
            y[run + of_run] = _mm512_permutex2var_ps(a, even, b);
            y[run + n / 2 + of_run] = _mm512_permutex2var_ps(a, odd, b);
        }
        VF_UNROLLED for (int i = 0; i < rows; i++) x[i] = y[i];
    }
    VF_UNROLLED for (int t = 0; t < terms; t++) {
        VF_UNROLLED for (int i = 0; i < rows; i++) {
            vi words = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x[i]));
            vi above = _mm512_slli_epi32(words, 16);
            x[i] = vf_sub(x[i], vi_as_vf(above));
            _mm512_store_si512(to[t] + i * TILE_KEYS, words);
            _mm512_store_si512(to[t] + (rows + i) * TILE_KEYS, above);
        }
    }
}

VF_INLINE void configure_values(const int rows) {
    amx_configuration c = amx_whole_tiles();
    for (int t = SUM0; t <= FIRST1; t++) c.rows[t] = (uint8_t)(2 * rows);
    amx_configure(&c);
}

VF_INLINE void multiply_values(const int terms, const tile_lines *lines, tile_weights weights) {
    if (lines->part == 0) {
        amx_load(FIRST0, weights[0], AMX_ROW_BYTES);
        if (terms > 1) amx_load(FIRST1, weights[1], AMX_ROW_BYTES);
    }
    amx_load(SECOND0, lines->at, AMX_ROW_BYTES);
    amx_load(SECOND1, lines->at + AMX_TILE_BYTES, AMX_ROW_BYTES);
#define MULTIPLY_VALUES(first, second)                                                             \
    amx_bf16(first, FIRST0, SECOND0);                                                              \
    amx_bf16(second, FIRST0, SECOND1);                                                             \
    if (terms > 1) amx_bf16(first, FIRST1, SECOND0);                                               \
    if (terms > 1) amx_bf16(second, FIRST1, SECOND1)
    if (lines->part == 0) {
        MULTIPLY_VALUES(SUM0, SUM1);
    } else {
        MULTIPLY_VALUES(SUM2, SUM3);
    }
}

VF_INLINE void add_vector(float *out, vf sum, int64_t n) {
    if (n > 0) vf_store(out, vf_add(vf_load(out), sum));
}

/* The block's sum begins at 0, as in split_micro.h. n: columns, up to 128. */
VF_INLINE void add_outputs(const int rows, int64_t n, float *out, int64_t pitch) {
    _Alignas(64) float sum[TILE_SUMS][2 * SPLIT_ROWS][VF_WIDTH];
    amx_store(SUM0, sum[0], AMX_ROW_BYTES);
    amx_store(SUM1, sum[1], AMX_ROW_BYTES);
    amx_store(SUM2, sum[2], AMX_ROW_BYTES);
    amx_store(SUM3, sum[3], AMX_ROW_BYTES);
    for (int r = 0; r < rows; r++, out += pitch) {
        vf x[2 * TILE_SUMS];
        int line = 0;
        for (int bit = 1; bit < rows; bit *= 2) line = 2 * line + (r & bit ? 1 : 0);
        VF_UNROLLED for (int t = 0; t < TILE_SUMS; t++) {
            x[2 * t] = vf_load(sum[t][line]), x[2 * t + 1] = vf_load(sum[t][rows + line]);
            vf_interleave(x[2 * t], x[2 * t + 1], &x[2 * t], &x[2 * t + 1]);
        }
        /* Eight columns of one tile, eight of the other. */
        VF_UNROLLED for (int i = 0; i < 2 * TILE_SUMS; i += 4) {
            vf a = x[i], b = x[i + 1], c = x[i + 2], d = x[i + 3];
            x[i] = _mm512_shuffle_f32x4(a, c, 0x44), x[i + 1] = _mm512_shuffle_f32x4(a, c, 0xee);
            x[i + 2] = _mm512_shuffle_f32x4(b, d, 0x44);
            x[i + 3] = _mm512_shuffle_f32x4(b, d, 0xee);
        }
        VF_UNROLLED for (int i = 0; i < 2 * TILE_SUMS; i++)
            add_vector(out + i * VF_WIDTH, x[i], n - i * VF_WIDTH);
    }
}

VF_INLINE void tile_values(const fovea_dtype dtype, const int terms, const int rows, int64_t keys,
                           int64_t size, const char *const *v, const char *const *ahead,
                           int64_t ahead_bytes, const float *p, float *out, int64_t pitch) {
    _Alignas(64) tile_buffer buffer[2];
    _Alignas(64) tile_weights weights[2];
    const int64_t most = TILE_SUMS * TILE_COLUMNS;
    split_ahead next =
        split_plan_ahead(ahead, keys, ahead_bytes,
                         divide_up(keys, TILE_KEYS) * divide_up(larger(size, 1), LINE) * 4);
    configure_values(rows);
    for (int64_t d = 0; d < size; d += most) {
        const int64_t n = smaller(size - d, most), parts = divide_up(n, LINE);
        tile_lines before = {.at = NULL}, now;
        int64_t unit = 0;
        zero_sums();
        for (int64_t group = 0; group * TILE_KEYS < keys; group++) {
            const int64_t j = group * TILE_KEYS;
            pack_tile_weights(terms, rows, keys - j, p + j * rows, weights[group % 2]);
            for (int64_t part = 0; part < parts; part++, before = now) {
                char *to = buffer[unit++ % 2];
                now = (tile_lines){to, part, group};
                convert_lines(dtype, v + j, d + part * LINE, smaller(n - part * LINE, LINE), &next,
                              to);
                if (before.at) multiply_values(terms, &before, weights[before.group % 2]);
            }
        }
        if (before.at) multiply_values(terms, &before, weights[before.group % 2]);
        add_outputs(rows, n, out + d, pitch);
    }
    amx_release();
}

/* ---- One function for each dtype, number of terms and of rows ---------------------------------------- */

#define TILE_KERNELS(name, dtype, terms, rows)                                                     \
    static bool pack_##name##_##terms##_##rows(const char *row, int64_t stride, int64_t size,      \
                                               int64_t number, uint16_t *q) {                      \
        return pack_tile_query(terms, rows, row, stride, size, number, q);                         \
    }                                                                                              \
    static void scores_##name##_##terms##_##rows(int64_t groups, int64_t size, const uint16_t *q,  \
                                                 const char *const *k, const char *const *ahead,   \
                                                 int64_t ahead_bytes, float *s) {                  \
        tile_scores(dtype, terms, rows, groups, size, q, k, ahead, ahead_bytes, s);                \
    }                                                                                              \
    static void values_##name##_##terms##_##rows(int64_t keys, int64_t size, const char *const *v, \
                                                 const char *const *ahead, int64_t ahead_bytes,    \
                                                 const float *p, float *out, int64_t pitch) {      \
        tile_values(dtype, terms, rows, keys, size, v, ahead, ahead_bytes, p, out, pitch);         \
    }
#define TILE_ENTRY(name, terms, rows)                                                              \
    {                                                                                              \
        .query_floats = terms, .pack_query = pack_##name##_##terms##_##rows,                       \
        .scores = scores_##name##_##terms##_##rows, .values = values_##name##_##terms##_##rows     \
    }
#define TILE_DTYPE(name, dtype, terms)                                                             \
    TILE_KERNELS(name, dtype, terms, 1)                                                            \
    TILE_KERNELS(name, dtype, terms, 2)                                                            \
    TILE_KERNELS(name, dtype, terms, 4)                                                            \
    TILE_KERNELS(name, dtype, terms, 8)
#define TILE_LINE(name, terms)                                                                     \
    {                                                                                              \
        TILE_ENTRY(name, terms, 1), TILE_ENTRY(name, terms, 2), TILE_ENTRY(name, terms, 4),        \
            TILE_ENTRY(name, terms, 8)                                                             \
    }

TILE_DTYPE(i8, FOVEA_I8, 1)
TILE_DTYPE(i8, FOVEA_I8, 2)
TILE_DTYPE(e4m3, FOVEA_E4M3, 1)
TILE_DTYPE(e4m3, FOVEA_E4M3, 2)

/* By dtypes of the queries and of the cache. */
static const split_pair_kernels split_tiles[FOVEA_DTYPE_COUNT][FOVEA_DTYPE_COUNT][4] = {
    [FOVEA_BF16] = {[FOVEA_I8] = TILE_LINE(i8, 1), [FOVEA_E4M3] = TILE_LINE(e4m3, 1)},
    [FOVEA_F16] = {[FOVEA_I8] = TILE_LINE(i8, 2), [FOVEA_E4M3] = TILE_LINE(e4m3, 2)}};

static inline const split_pair_kernels *split_find_pairs(fovea_dtype queries, fovea_dtype cache) {
    bool has = fovea_processor_get()->avx512_vbmi && split_tiles[queries][cache][0].scores;
    return has ? split_tiles[queries][cache] : NULL;
}

#endif
