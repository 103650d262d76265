/* sage_kernels.h for one tier, or for an extension of it: the instructions that the compiler may use
 * decide which products of simd_dot.h these are. */
#include "cpu/attention/sage_kernels.h"

#include "cpu/attention/attention_micro.h"
#include "cpu/simd/simd_dot.h"

typedef enum product { INTEGERS, HALVES, SHORTS } product;

#ifndef FOVEA_TIER_AMX
/* sum[r][v] += the products of `steps` words of row r with the lines of the tile. */
VF_INLINE void dot_group(const product kind, const int rows, const int vectors, int64_t steps,
                         const float *line, int64_t pitch, const int32_t *data, int64_t row_stride,
                         int64_t step_stride, vi sum[12][TILE_VECTORS]) {
    for (int64_t i = 0; i < steps; i++, line += pitch, data += step_stride) {
        vi lines[TILE_VECTORS];
        VF_UNROLLED for (int v = 0; v < vectors; v++) lines[v] =
            vf_as_vi(vf_load(line + v * VF_WIDTH));
        VF_UNROLLED for (int r = 0; r < rows; r++) {
            vi word = vi_set1(data[r * row_stride]);
            VF_UNROLLED for (int v = 0; v < vectors; v++) sum[r][v] =
                kind == HALVES   ? vi_dot_bf16(sum[r][v], lines[v], word)
                : kind == SHORTS ? vi_dot_shorts(sum[r][v], lines[v], word)
                                 : vi_dot(sum[r][v], lines[v], word);
        }
    }
}

VF_INLINE void score_rows(const product kind, const int keys, const int vectors, const sage_keys *k,
                          int64_t first, const float *q, int64_t pitch, const float *row_scale,
                          const float *row_shift, float *s, float *maximum) {
    vi sum[12][TILE_VECTORS];
    VF_UNROLLED for (int r = 0; r < keys; r++) VF_UNROLLED for (int v = 0; v < vectors; v++)
        sum[r][v] = vi_set1(kind == SHORTS ? 0 : k->start[first + r]);
    dot_group(kind, keys, vectors, k->words, q, pitch, k->data + first * k->words, k->words, 1,
              sum);
    VF_UNROLLED for (int v = 0; v < vectors; v++) {
        vf largest = vf_load(maximum + v * VF_WIDTH);
        vf scale = vf_load(row_scale + v * VF_WIDTH);
        vf shift = kind == SHORTS ? scale : vf_load(row_shift + v * VF_WIDTH);
        VF_UNROLLED for (int r = 0; r < keys; r++) {
            vf product = vf_mul(vf_from_vi(sum[r][v]), vf_set1(k->scale[first + r]));
            vf score = kind == SHORTS ? vf_mul(product, scale) : vf_fma(product, scale, shift);
            largest = vf_max(score, largest);
            vf_store(s + (first + r) * pitch + v * VF_WIDTH, score);
        }
        vf_store(maximum + v * VF_WIDTH, largest);
    }
}

    #define SCORE_ROWS(n)                                                                          \
        score_rows(kind, n, vectors, k, i, q, pitch, row_scale, row_shift, s, maximum)
VF_INLINE void score_keys(const product kind, const int most, const int vectors, int64_t keys,
                          const sage_keys *k, const float *q, int64_t pitch, const float *row_scale,
                          const float *row_shift, float *s, float *maximum) {
    IN_GROUPS(most, keys, SCORE_ROWS);
}

VF_INLINE void value_columns(const product kind, const int columns, const int vectors,
                             int64_t steps, int64_t step_stride, const float *p, int64_t pitch,
                             const int32_t *values, const float *scale, const float *factor,
                             float *out) {
    vi sum[12][TILE_VECTORS];
    VF_UNROLLED for (int r = 0; r < columns; r++) VF_UNROLLED for (int v = 0; v < vectors; v++)
        sum[r][v] = vi_set1(0);
    dot_group(kind, columns, vectors, steps, p, pitch, values, 1, step_stride, sum);
    VF_UNROLLED for (int v = 0; v < vectors; v++) {
        vf row = vf_load(factor + v * VF_WIDTH);
        VF_UNROLLED for (int r = 0; r < columns; r++) {
            float *place = out + r * pitch + v * VF_WIDTH;
            vf total = kind == HALVES ? vi_as_vf(sum[r][v])
                                      : vf_mul(vf_from_vi(sum[r][v]), vf_set1(scale[r]));
            vf_store(place, vf_fma(total, row, vf_load(place)));
        }
    }
}

    #define VALUE_COLUMNS(n)                                                                       \
        value_columns(kind, n, vectors, steps, columns, p, pitch, values + i,                      \
                      kind == HALVES ? scale : scale + i, factor, out + i * pitch)
VF_INLINE void value_block_of(const product kind, const int most, const int vectors, int64_t steps,
                              int64_t columns, const float *p, int64_t pitch, const int32_t *values,
                              const float *scale, const float *factor, float *out) {
    IN_GROUPS(most, columns, VALUE_COLUMNS);
}

#endif

/* A word of weights of each vector: of the first `count` keys, those after them weigh nothing. */
VF_INLINE void pack_word(const product kind, const int vectors, const bool ready, const int count,
                         int64_t pitch, const float *s, const vf *reference, vf *total,
                         float *packed) {
    const int elements = kind == HALVES ? 2 : DOT_ELEMENTS;
    VF_UNROLLED for (int v = 0; v < vectors; v++) {
        vf weights[4];
        vf part = vf_set1(0);
        VF_UNROLLED for (int e = 0; e < elements; e++) {
            weights[e] = e < count ? vf_load(s + e * pitch + v * VF_WIDTH) : vf_set1(0);
            if (ready || e >= count) continue;
            weights[e] = vf_exp2_coarse(vf_sub(weights[e], reference[v]));
            part = vf_add(part, weights[e]);
        }
        total[v] = vf_add(total[v], part);
        vi word, integers[4];
        if (kind == HALVES) {
            word = vi_pack_bf16(weights[0], weights[1]);
        } else {
            VF_UNROLLED for (int e = 0; e < DOT_ELEMENTS; e++) integers[e] = vi_from_vf(weights[e]);
            word = DOT_ELEMENTS == 4 ? vi_pack_bytes(integers) : vi_pack_shorts(integers);
        }
        vf_store(packed + v * VF_WIDTH, vi_as_vf(word));
    }
}

VF_INLINE void pack_weights(const product kind, const int vectors, const bool ready, int64_t keys,
                            int64_t pitch, float *s, const float *shift, float *sum) {
    const int elements = kind == HALVES ? 2 : DOT_ELEMENTS;
    vf total[TILE_VECTORS], reference[TILE_VECTORS];
    float *packed = s;
    VF_UNROLLED for (int v = 0; v < vectors; v++) {
        total[v] = vf_set1(0);
        reference[v] = ready ? total[v] : vf_load(shift + v * VF_WIDTH);
    }
    int64_t j = 0;
    for (; j + elements <= keys; j += elements, packed += pitch, s += elements * pitch)
        pack_word(kind, vectors, ready, elements, pitch, s, reference, total, packed);
    if (j < keys)
        pack_word(kind, vectors, ready, (int)(keys - j), pitch, s, reference, total, packed);
    if (ready) return;
    VF_UNROLLED for (int v = 0; v < vectors; v++) vf_store(sum + v * VF_WIDTH, total[v]);
}

/* ---- One function of each for all numbers of vectors --------------------------------------------- */

#if defined(FOVEA_TIER_AVX2) || defined(FOVEA_TIER_AMX)
    #define BY_VECTORS(CALL)                                                                       \
        if (vectors == 2)                                                                          \
            CALL(2, 6);                                                                            \
        else                                                                                       \
            CALL(1, 12)
#elif defined(FOVEA_TIER_SCALAR)
    #define BY_VECTORS(CALL)                                                                       \
        if (vectors == 4)                                                                          \
            CALL(4, 2);                                                                            \
        else if (vectors == 3)                                                                     \
            CALL(3, 2);                                                                            \
        else if (vectors == 2)                                                                     \
            CALL(2, 2);                                                                            \
        else                                                                                       \
            CALL(1, 2)
#else
    #define BY_VECTORS(CALL)                                                                       \
        if (vectors == 4)                                                                          \
            CALL(4, 6);                                                                            \
        else if (vectors == 3)                                                                     \
            CALL(3, 8);                                                                            \
        else if (vectors == 2)                                                                     \
            CALL(2, 12);                                                                           \
        else                                                                                       \
            CALL(1, 12)
#endif

#ifdef FOVEA_TIER_AMX
    #include "cpu/attention/sage_tiles.h"
#else
static void scores(int vectors, int64_t keys, const sage_keys *k, const float *q, int64_t pitch,
                   const float *row_scale, const float *row_shift, float *s, float *maximum) {
    #define SCORES(n, most)                                                                        \
        score_keys(INTEGERS, most, n, keys, k, q, pitch, row_scale, row_shift, s, maximum)
    BY_VECTORS(SCORES);
}

    #if DOT_HAS_SHORTS
static void short_scores(int vectors, int64_t keys, const sage_keys *k, const float *q,
                         int64_t pitch, const float *row_scale, float *s, float *maximum) {
        #define SHORT_SCORES(n, most)                                                              \
            score_keys(SHORTS, most, n, keys, k, q, pitch, row_scale, NULL, s, maximum)
    BY_VECTORS(SHORT_SCORES);
}
    #endif
#endif

#ifdef FOVEA_TIER_AMX
    #define CLEAR_WEIGHTS clear_weights
#else
    #define CLEAR_WEIGHTS(kind, vectors, keys, pitch, s) (void)0
#endif
#define WEIGHTS(name, kind)                                                                        \
    static void name(int vectors, int64_t keys, int64_t pitch, float *s, const float *shift,       \
                     float *sum, bool ready) {                                                     \
        if (ready)                                                                                 \
            for (int v = 0; v < vectors; v++)                                                      \
                pack_weights(kind, 1, true, keys, pitch, s + v * VF_WIDTH, shift, sum);            \
        else                                                                                       \
            BY_VECTORS(WEIGHTS_OF);                                                                \
        CLEAR_WEIGHTS(kind, vectors, keys, pitch, s);                                              \
    }
#define WEIGHTS_OF(n, most) pack_weights(INTEGERS, n, false, keys, pitch, s, shift, sum)
WEIGHTS(integer_weights, INTEGERS)
#undef WEIGHTS_OF
#define WEIGHTS_OF(n, most) pack_weights(HALVES, n, false, keys, pitch, s, shift, sum)
WEIGHTS(bf16_weights, HALVES)

#ifndef FOVEA_TIER_AMX
static void integer_values(int vectors, int64_t steps, int64_t columns, const float *p,
                           int64_t pitch, const int32_t *values, const float *scale,
                           const float *factor, float *out) {
    #define INTEGER_VALUES(n, most)                                                                \
        value_block_of(INTEGERS, most, n, steps, columns, p, pitch, values, scale, factor, out)
    BY_VECTORS(INTEGER_VALUES);
}

static void bf16_values(int vectors, int64_t steps, int64_t columns, const float *p, int64_t pitch,
                        const int32_t *values, const float *scale, const float *factor,
                        float *out) {
    #define BF16_VALUES(n, most)                                                                   \
        value_block_of(HALVES, most, n, steps, columns, p, pitch, values, scale, factor, out)
    BY_VECTORS(BF16_VALUES);
}
#endif

#ifdef FOVEA_EXTENSION
    #define PASTE(a, b) a##_##b
    #define NAME_OF(a, b) PASTE(a, b)
    #define SAGE_KERNELS NAME_OF(FOVEA_TIERED(fovea_sage_kernels), FOVEA_EXTENSION)
#else
    #define SAGE_KERNELS FOVEA_TIERED(fovea_sage_kernels)
#endif
#ifdef FOVEA_TIER_AMX
enum { OFFSET = 0, WORDS_OF_A_STEP = TILE_WORDS, KEYS_OF_A_STEP = 64, SPARE_KEYS = AMX_ROWS };
#else
enum { OFFSET = DOT_OFFSET, WORDS_OF_A_STEP = 1, KEYS_OF_A_STEP = 4, SPARE_KEYS = 0 };
#endif
extern const sage_kernels SAGE_KERNELS;
const sage_kernels SAGE_KERNELS = {.elements = DOT_ELEMENTS,
                                   .offset = OFFSET,
                                   .step_words = WORDS_OF_A_STEP,
                                   .step_keys = KEYS_OF_A_STEP,
                                   .spare_keys = SPARE_KEYS,
                                   .weight_max = DOT_WEIGHT_MAX,
                                   .bf16 = DOT_HAS_BF16,
                                   .scores = scores,
#ifdef FOVEA_TIER_AMX
                                   .begin = begin,
                                   .end = end,
#elif DOT_HAS_SHORTS
                                   .short_scores = short_scores,
#endif
                                   .integer_weights = integer_weights,
                                   .bf16_weights = bf16_weights,
                                   .integer_values = integer_values,
                                   .bf16_values = bf16_values};
