/* The products of sage_kernels.c on AMX's tiles: 16 keys or columns of values times 16 rows, 16 words of the inner dimension at a
 * time, as signed bytes, weights without a sign, or pairs of bf16.
 *
 * Queries and weights lie as the second factor wants them already: a line of the tile is 16 words, one a row. The first factor is
 * 16 rows of 16 words: keys as they are packed, with words in whole tiles, and of values the words of 64 (or 32) keys of a column
 * side by side. The workspace has room for a tile of keys more than there are.
 *
 * Sums leave the tiles through a buffer in L1, because they are scaled on the way to where they belong. */
#ifndef FOVEA_CPU_ATTENTION_SAGE_TILES_H
#define FOVEA_CPU_ATTENTION_SAGE_TILES_H

enum { TILE_WORDS = AMX_ROW_BYTES / 4 };
enum { C00, C01, C10, C11, A0, A1, B0, B1 };

static void begin(void) {
    const amx_configuration whole = amx_whole_tiles();
    amx_configure(&whole);
}

static void end(void) { amx_release(); }

/* One product of all four accumulators, or of those of the first vector. */
#define FOUR_PRODUCTS(product)                                                                     \
    product(C00, A0, B0);                                                                          \
    product(C10, A1, B0);                                                                          \
    if (vectors > 1) {                                                                             \
        product(C01, A0, B1);                                                                      \
        product(C11, A1, B1);                                                                      \
    }

/* What a product of tiles is made of: two tiles of rows of `data`, `stride` words apart, the second `second` words after the first,
 * times one or two vectors of the lines. A step of the inner dimension is TILE_WORDS lines, and `step` words of the data. */
typedef struct factors {
    const float *line;
    const int32_t *data;
    int64_t pitch, stride, second, steps, step;
} factors;

typedef int32_t tile_sums[2 * AMX_ROWS][2][VF_WIDTH];

VF_INLINE void multiply_tiles(const product kind, const bool weights, const int vectors,
                              const factors *f) {
    const int64_t of_lines = f->pitch * (int64_t)sizeof *f->line, of_data = f->stride * 4;
    const float *line = f->line;
    const int32_t *data = f->data;
    amx_zero(C00);
    amx_zero(C01);
    amx_zero(C10);
    amx_zero(C11);
    for (int64_t i = 0; i < f->steps; i++, line += TILE_WORDS * f->pitch, data += f->step) {
        amx_load(A0, data, of_data);
        amx_load(B0, line, of_lines);
        amx_load(A1, data + f->second, of_data);
        if (vectors > 1) amx_load(B1, line + VF_WIDTH, of_lines);
        if (kind == HALVES) {
            FOUR_PRODUCTS(amx_bf16)
        } else if (weights) {
            FOUR_PRODUCTS(amx_s8u8)
        } else {
            FOUR_PRODUCTS(amx_s8s8)
        }
    }
}

VF_INLINE void store_tiles(const int vectors, tile_sums sums) {
    const int64_t row = sizeof sums[0];
    amx_store(C00, sums[0][0], row);
    amx_store(C10, sums[AMX_ROWS][0], row);
    if (vectors == 1) return;
    amx_store(C01, sums[0][1], row);
    amx_store(C11, sums[AMX_ROWS][1], row);
}

/* The products of group i, of 32 keys or columns: their tiles leave through one of two buffers, and the next are on their way while
 * these are taken out of it. */
#define IN_GROUPS_OF_TILES(kind, weights, count, FACTORS, TAKE)                                    \
    do {                                                                                           \
        _Alignas(64) tile_sums sums[2];                                                            \
        const int64_t groups = divide_up(count, 2 * AMX_ROWS);                                     \
        factors next;                                                                              \
        if (groups > 0) {                                                                          \
            next = FACTORS(0);                                                                     \
            multiply_tiles(kind, weights, vectors, &next);                                         \
        }                                                                                          \
        for (int64_t i = 0; i < groups; i++) {                                                     \
            store_tiles(vectors, sums[i % 2]);                                                     \
            if (i + 1 < groups) {                                                                  \
                next = FACTORS(i + 1);                                                             \
                multiply_tiles(kind, weights, vectors, &next);                                     \
            }                                                                                      \
            TAKE(i, sums[i % 2]);                                                                  \
        }                                                                                          \
    } while (0)

VF_INLINE factors score_factors(int64_t keys, const sage_keys *k, const float *q, int64_t pitch,
                                int64_t group) {
    int64_t first = group * 2 * AMX_ROWS;
    return (factors){.line = q,
                     .data = k->data + first * k->words,
                     .pitch = pitch,
                     .stride = k->words,
                     .second = keys - first > AMX_ROWS ? AMX_ROWS * k->words : 0,
                     .steps = k->words / TILE_WORDS,
                     .step = TILE_WORDS};
}

VF_INLINE void take_scores(const int vectors, int64_t keys, const sage_keys *k, int64_t pitch,
                           int64_t group, tile_sums sums, const vf *scale, const vf *shift,
                           vf *largest, float *s) {
    int64_t first = group * 2 * AMX_ROWS, count = smaller(keys - first, 2 * AMX_ROWS);
    float *place = s + first * pitch;
    for (int64_t r = 0; r < count; r++, place += pitch) {
        const vf of_key = vf_set1(k->scale[first + r]);
        VF_UNROLLED for (int v = 0; v < vectors; v++) {
            vf product = vf_mul(vf_from_vi(vi_load(sums[r][v])), of_key);
            vf score = vf_fma(product, scale[v], shift[v]);
            largest[v] = vf_max(score, largest[v]);
            vf_store(place + v * VF_WIDTH, score);
        }
    }
}

VF_INLINE void tile_scores(const int vectors, int64_t keys, const sage_keys *k, const float *q,
                           int64_t pitch, const float *row_scale, const float *row_shift, float *s,
                           float *maximum) {
    vf scale[2], shift[2], largest[2];
    VF_UNROLLED for (int v = 0; v < vectors; v++) {
        scale[v] = vf_load(row_scale + v * VF_WIDTH), shift[v] = vf_load(row_shift + v * VF_WIDTH);
        largest[v] = vf_load(maximum + v * VF_WIDTH);
    }
#define SCORE_FACTORS(i) score_factors(keys, k, q, pitch, i)
#define TAKE_SCORES(i, sums) take_scores(vectors, keys, k, pitch, i, sums, scale, shift, largest, s)
    IN_GROUPS_OF_TILES(INTEGERS, false, keys, SCORE_FACTORS, TAKE_SCORES);
    VF_UNROLLED for (int v = 0; v < vectors; v++) vf_store(maximum + v * VF_WIDTH, largest[v]);
}

static void scores(int vectors, int64_t keys, const sage_keys *k, const float *q, int64_t pitch,
                   const float *row_scale, const float *row_shift, float *s, float *maximum) {
    if (vectors == 2)
        tile_scores(2, keys, k, q, pitch, row_scale, row_shift, s, maximum);
    else
        tile_scores(1, keys, k, q, pitch, row_scale, row_shift, s, maximum);
}

/* Weights of whole tiles: 0 after the last. */
static void clear_weights(const product kind, int vectors, int64_t keys, int64_t pitch, float *s) {
    int64_t words = divide_up(keys, kind == HALVES ? 2 : DOT_ELEMENTS);
    for (int64_t w = words; w % TILE_WORDS; w++)
        for (int v = 0; v < vectors; v++) vf_store(s + w * pitch + v * VF_WIDTH, vf_set1(0));
}

VF_INLINE factors value_factors(int64_t steps, int64_t columns, const float *p, int64_t pitch,
                                const int32_t *values, int64_t group) {
    int64_t first = group * 2 * AMX_ROWS, padded = divide_up(columns, AMX_ROWS) * AMX_ROWS;
    return (factors){.line = p,
                     .data = values + first * TILE_WORDS,
                     .pitch = pitch,
                     .stride = TILE_WORDS,
                     .second = columns - first > AMX_ROWS ? AMX_ROWS * TILE_WORDS : 0,
                     .steps = divide_up(steps, TILE_WORDS),
                     .step = padded * TILE_WORDS};
}

VF_INLINE void take_values(const product kind, const int vectors, int64_t columns, int64_t pitch,
                           int64_t group, tile_sums sums, const float *scale, const vf *factor,
                           float *out) {
    int64_t first = group * 2 * AMX_ROWS, count = smaller(columns - first, 2 * AMX_ROWS);
    float *place = out + first * pitch;
    for (int64_t r = 0; r < count; r++, place += pitch) {
        const vf of_column = kind == HALVES ? vf_set1(1) : vf_set1(scale[first + r]);
        VF_UNROLLED for (int v = 0; v < vectors; v++) {
            vi bits = vi_load(sums[r][v]);
            vf total = kind == HALVES ? vi_as_vf(bits) : vf_mul(vf_from_vi(bits), of_column);
            float *at = place + v * VF_WIDTH;
            vf_store(at, vf_fma(total, factor[v], vf_load(at)));
        }
    }
}

VF_INLINE void tile_values(const product kind, const int vectors, int64_t steps, int64_t columns,
                           const float *p, int64_t pitch, const int32_t *values, const float *scale,
                           const float *row_factor, float *out) {
    vf factor[2];
    VF_UNROLLED for (int v = 0; v < vectors; v++) factor[v] = vf_load(row_factor + v * VF_WIDTH);
#define VALUE_FACTORS(i) value_factors(steps, columns, p, pitch, values, i)
#define TAKE_VALUES(i, sums) take_values(kind, vectors, columns, pitch, i, sums, scale, factor, out)
    IN_GROUPS_OF_TILES(kind, true, columns, VALUE_FACTORS, TAKE_VALUES);
}

#define TILE_VALUES(name, kind)                                                                    \
    static void name(int vectors, int64_t steps, int64_t columns, const float *p, int64_t pitch,   \
                     const int32_t *values, const float *scale, const float *factor, float *out) { \
        if (vectors == 2)                                                                          \
            tile_values(kind, 2, steps, columns, p, pitch, values, scale, factor, out);            \
        else                                                                                       \
            tile_values(kind, 1, steps, columns, p, pitch, values, scale, factor, out);            \
    }
TILE_VALUES(integer_values, INTEGERS)
TILE_VALUES(bf16_values, HALVES)

#endif
