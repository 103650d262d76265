/* q and smoothed k as bytes for the tiles of sage: a product of bytes takes as long as one of bf16 and has twice the elements.
 *
 * k is smoothed and q and k are rounded as sage.h says, but keys share scales by sixteens at least. Sums of products begin with the
 * bits of 1.5 2^23 where they might begin with 0: read as floats they are 1.5 2^23 + q k, exactly up to heads of 256, and nobody
 * converts them. The scale and what exponentials add join in one multiply-add, by row and by sixteen keys.
 *
 * Elements of a row stand in the order that takes the fewest shuffles, which is the same for q, k and the mean.
 */
#ifndef FOVEA_CPU_ATTENTION_ATTENTION_BYTES_H
#define FOVEA_CPU_ATTENTION_ATTENTION_BYTES_H

#include "cpu/attention/attention_terms.h"

enum {
    BYTE_STEP = 64,     /* elements of the inner dimension that a product of tiles takes */
    BYTE_HEAD_MAX = 256 /* 127 * 127 * 256 < 2^22 */
};
#define BYTE_ORIGIN 0x1.8p23f

/* 32 elements of a row from `start` on as two vectors; behind the row 0. Of whole rows of bf16 the even ones and the odd ones. */
VF_INLINE void load_part(const bool whole, const fovea_dtype dtype, const fovea_view *view,
                         const char *row, int64_t start, vf part[2]) {
    const int64_t size = view->shape[3];
    const uint16_t *halves = (const uint16_t *)(const void *)row + start;
    const float *floats = (const float *)(const void *)row + start;
    if (!whole || start >= size) {
        for (int i = 0; i < 2; i++) {
            int64_t first = start + i * VF_WIDTH, count = smaller(size - first, VF_WIDTH);
            part[i] =
                count > 0 ? load_elements(row, dtype, view->stride[3], first, count) : vf_set1(0);
        }
    } else if (dtype == FOVEA_BF16) {
        vi pairs = _mm512_loadu_si512(halves);
        part[0] = vi_as_vf(vi_shl(pairs, 16));
        part[1] = vi_as_vf(vi_and(pairs, vi_set1((int32_t)0xffff0000)));
    } else if (dtype == FOVEA_F16) {
        part[0] = vf_load_f16(halves), part[1] = vf_load_f16(halves + VF_WIDTH);
    } else {
        part[0] = vf_load(floats), part[1] = vf_load(floats + VF_WIDTH);
    }
}

/* Whether rows of a view may be loaded as whole ones: those of q and k together. */
static bool whole_rows(const fovea_view *view) {
    return view->stride[3] == 1 && view->shape[3] % STEP == 0;
}

/* What whole rows of bf16 that lie at equal distances add to the mean, 64 at a time. As the second factor sixteen keys are words of
 * two elements, and a line of (1, 0) sums the even ones of all keys, a line of (0, 1) the odd ones. Returns how many were taken. */
static int64_t find_mean_by_tiles(const tile_context *at, vf share, float *mean) {
    enum { S0, S1, S2, S3, PARTS, K0, K1, K2, SUMS = 4, TOGETHER = SUMS * AMX_ROWS };
    const fovea_view *k = &at->call->k;
    const int64_t keys = at->sequence.key_count / TOGETHER * TOGETHER, row = k->stride[2] * 2;
    uint32_t parts[AMX_ROWS][VF_WIDTH] = {{0}};
    float sum[SUMS][AMX_ROWS][VF_WIDTH];
    if (keys == 0) return 0;
    for (int i = 0; i < VF_WIDTH; i++) parts[0][i] = 0x3f80, parts[1][i] = 0x3f80u << 16;
    amx_load(PARTS, parts, AMX_ROW_BYTES);
    for (int64_t d = 0; d < k->shape[3]; d += STEP) {
        const char *from = fovea_key_row(at->call, k, &at->sequence, at->key_head, 0) + d * 2;
        amx_zero(S0);
        amx_zero(S1);
        amx_zero(S2);
        amx_zero(S3);
        for (int64_t key = 0; key < keys; key += TOGETHER, from += TOGETHER * row) {
            amx_load(K0, from, row);
            amx_bf16(S0, PARTS, K0);
            amx_load(K1, from + AMX_ROWS * row, row);
            amx_bf16(S1, PARTS, K1);
            amx_load(K2, from + 2 * AMX_ROWS * row, row);
            amx_bf16(S2, PARTS, K2);
            amx_load(K0, from + 3 * AMX_ROWS * row, row);
            amx_bf16(S3, PARTS, K0);
        }
        amx_store(S0, sum[0], AMX_ROW_BYTES);
        amx_store(S1, sum[1], AMX_ROW_BYTES);
        amx_store(S2, sum[2], AMX_ROW_BYTES);
        amx_store(S3, sum[3], AMX_ROW_BYTES);
        for (int part = 0; part < 2; part++) {
            vf all = vf_add(vf_add(vf_load(sum[0][part]), vf_load(sum[1][part])),
                            vf_add(vf_load(sum[2][part]), vf_load(sum[3][part])));
            vf_store(mean + d + part * VF_WIDTH, vf_mul(all, share));
        }
    }
    return keys;
}

/* The mean of the keys of a sequence and head, part by part. */
VF_INLINE void find_mean(const bool whole, const fovea_dtype dtype, const tile_context *at,
                         float *mean) {
    const fovea_view *k = &at->call->k;
    const int64_t size = divide_up(k->shape[3], BYTE_STEP) * BYTE_STEP,
                  keys = at->sequence.key_count;
    const vf share = vf_set1(1 / (float)keys);
    int64_t first = 0;
    memset(mean, 0, (size_t)size * sizeof *mean);
    if (whole && dtype == FOVEA_BF16 && !at->call->paged)
        first = find_mean_by_tiles(at, share, mean);
    for (int64_t key = first; key < keys; key += STEP) {
        const char *rows[STEP];
        int64_t count = smaller(keys - key, STEP);
        rows_of_group(at, k, key, count, rows);
        for (int64_t d = 0; d < size; d += STEP) {
            vf sum[2][2] = {{vf_load(mean + d), vf_load(mean + d + VF_WIDTH)},
                            {vf_set1(0), vf_set1(0)}};
            for (int64_t j = 0; j < count; j++) {
                vf part[2];
                load_part(whole, dtype, k, rows[j], d, part);
                sum[j % 2][0] = vf_fma(part[0], share, sum[j % 2][0]);
                sum[j % 2][1] = vf_fma(part[1], share, sum[j % 2][1]);
            }
            vf_store(mean + d, vf_add(sum[0][0], sum[1][0]));
            vf_store(mean + d + VF_WIDTH, vf_add(sum[0][1], sum[1][1]));
        }
    }
}

/* The larger magnitude. */
VF_INLINE vf larger_magnitude(vf a, vf b) { return _mm512_range_ps(a, b, 0xb); }

/* 64 numbers times `inverse` as bytes, in an order of their own; -128 is none of them but NaN. */
VF_INLINE __m512i round_parts(const vf part[2][2], vf inverse) {
    vi word[2][2];
    VF_UNROLLED for (int i = 0; i < 2; i++) VF_UNROLLED for (int half = 0; half < 2; half++)
        word[i][half] = vi_from_vf(vf_mul(part[i][half], inverse));
    return _mm512_packs_epi16(_mm512_packs_epi32(word[0][0], word[0][1]),
                              _mm512_packs_epi32(word[1][0], word[1][1]));
}

/* ---- Keys: [step][half], 16 keys x 64 elements, in groups of 32 keys --------------------------------- */

/* `longest` gets the squares of the keys' lengths, by lanes the largest, `sizes` the largest byte in each place. */
VF_INLINE float pack_sixteen_keys(const bool whole, const fovea_dtype dtype, const fovea_view *k,
                                  const char *const *rows, const float *mean, int8_t *packed,
                                  vf *longest, __m512i *sizes) {
    const int64_t size = divide_up(k->shape[3], BYTE_STEP) * BYTE_STEP;
    float smooth[AMX_ROWS * BYTE_HEAD_MAX], *to = smooth;
    vf largest[4] = {vf_set1(0), vf_set1(0), vf_set1(0), vf_set1(0)};
    vi squares = vi_set1(0);
    for (int j = 0; j < AMX_ROWS && rows[j]; j++)
        for (int64_t d = 0; d < size; d += BYTE_STEP, to += BYTE_STEP) {
            vf part[4];
            load_part(whole, dtype, k, rows[j], d, part);
            load_part(whole, dtype, k, rows[j], d + STEP, part + 2);
            VF_UNROLLED for (int i = 0; i < 4; i++) {
                vf x = vf_sub(part[i], vf_load(mean + d + i * VF_WIDTH));
                vf_store(to + i * VF_WIDTH, x);
                largest[i] = larger_magnitude(largest[i], x);
            }
        }
    largest[0] = larger_magnitude(larger_magnitude(largest[0], largest[1]),
                                  larger_magnitude(largest[2], largest[3]));
    const float unit = fmaxf(vf_reduce_max(largest[0]), smallest_absmax) * (1.0f / 127);
    const vf inverse = vf_set1(1 / unit);
    const float *from = smooth;
    for (int j = 0; j < AMX_ROWS; j++) {
        vi square = vi_set1(0);
        for (int64_t d = 0; d < size; d += BYTE_STEP) {
            int8_t *line = packed + d * 2 * AMX_ROWS + j * AMX_ROW_BYTES;
            __m512i bytes = _mm512_setzero_si512();
            if (rows[j]) {
                const vf part[2][2] = {{vf_load(from), vf_load(from + VF_WIDTH)},
                                       {vf_load(from + STEP), vf_load(from + STEP + VF_WIDTH)}};
                bytes = round_parts(part, inverse);
                from += BYTE_STEP;
            }
            __m512i magnitudes = _mm512_abs_epi8(bytes);
            square = _mm512_dpbusd_epi32(square, magnitudes, magnitudes);
            *sizes = _mm512_max_epu8(*sizes, magnitudes);
            _mm512_storeu_si512(line, bytes);
        }
        squares = _mm512_max_epi32(squares, square);
    }
    *longest = vf_max(vf_mul(vf_from_vi(squares), vf_set1(unit * unit)), *longest);
    return unit;
}

VF_INLINE group_facts pack_byte_keys(const bool whole, const fovea_dtype dtype,
                                     const tile_context *at, const float *mean, int64_t key,
                                     int64_t count, int8_t *packed) {
    const fovea_view *k = &at->call->k;
    const char *rows[STEP];
    group_facts facts = {0};
    vf longest = vf_set1(0);
    __m512i sizes = _mm512_setzero_si512();
    rows_of_group(at, k, key, count, rows);
    for (int half = 0; half < 2; half++)
        facts.scale[half] = pack_sixteen_keys(whole, dtype, k, rows + half * AMX_ROWS, mean,
                                              packed + half * AMX_TILE_BYTES, &longest, &sizes);
    facts.length = 1.01f * sqrtf(vf_reduce_add(longest));
    if (_mm512_movepi8_mask(sizes)) facts.length = NAN;
    return facts;
}

/* ---- Queries: [step][vector], quadruples of elements x 16 rows ----------------------------------------- */

/* Largest magnitudes of the rows of a tile that share a scale. */
static void share_magnitudes(const fovea_attention_call *call, float *largest) {
    int64_t together = 1;
    if (call->options->granularity == FOVEA_ATTENTION_GRANULARITY_WARP) together = VF_WIDTH;
    if (call->options->granularity == FOVEA_ATTENTION_GRANULARITY_BLOCK) together = TILE_ROWS;
    for (int64_t first = 0; first < TILE_ROWS && together > 1; first += together) {
        float most = 0;
        for (int64_t i = 0; i < together; i++) most = fmaxf(most, largest[first + i]);
        for (int64_t i = 0; i < together; i++) largest[first + i] = most;
    }
}

/* The largest magnitudes of 16 rows, NaN before inf, because the order of magnitudes is that of their bits. */
VF_INLINE vf largest_of_rows(const bool whole, const fovea_dtype dtype, const fovea_view *q,
                             char *const rows[VF_WIDTH]) {
    const vi magnitude = vi_set1(0x7fffffff), halves = vi_set1(0x7fff7fff);
    __m512i most[VF_WIDTH];
    VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++) {
        most[i] = vi_set1(0);
        for (int64_t d = 0; d < q->shape[3]; d += STEP) {
            vf part[2];
            if (whole && dtype == FOVEA_BF16) {
                vi pairs = _mm512_loadu_si512((const uint16_t *)(const void *)rows[i] + d);
                most[i] = _mm512_max_epu16(most[i], vi_and(pairs, halves));
                continue;
            }
            load_part(whole, dtype, q, rows[i], d, part);
            VF_UNROLLED for (int j = 0; j < 2; j++) most[i] =
                _mm512_max_epu32(most[i], vi_and(vf_as_vi(part[j]), magnitude));
        }
        if (whole && dtype == FOVEA_BF16)
            most[i] = _mm512_max_epu32(vi_shl(most[i], 16),
                                       vi_and(most[i], vi_set1((int32_t)0xffff0000)));
    }
    transpose_words(most);
    VF_UNROLLED for (int i = 1; i < VF_WIDTH; i++) most[0] = _mm512_max_epu32(most[0], most[i]);
    return vi_as_vf(most[0]);
}

/* `scale` gets the rows' scales times that of the scores. Returns the largest length of a row of bytes, NaN or inf if an element is. */
VF_INLINE float pack_byte_queries(const bool whole, const fovea_dtype dtype, const tile_context *at,
                                  const tile *t, int8_t *packed, float *scale) {
    const fovea_view *q = &at->call->q;
    float inverse[TILE_ROWS];
    vf length = vf_set1(0), poison = vf_set1(0);
    char *rows[TILE_ROWS];
    for (int v = 0; v < TILE_VECTORS; v++) {
        vector_rows(at, t, q, at->sequence.query_start, v, rows + v * VF_WIDTH);
        vf largest = largest_of_rows(whole, dtype, q, rows + v * VF_WIDTH);
        poison = vf_fma(largest, vf_set1(0), poison);
        vf_store(scale + v * VF_WIDTH, largest);
    }
    share_magnitudes(at->call, scale);
    for (int v = 0; v < TILE_VECTORS; v++) {
        vf unit = vf_mul(vf_max(vf_load(scale + v * VF_WIDTH), vf_set1(smallest_absmax)),
                         vf_set1(1.0f / 127));
        vi squares = vi_set1(0);
        vf_store(inverse + v * VF_WIDTH, vf_div(vf_set1(1), unit));
        for (int64_t d = 0; d < q->shape[3]; d += BYTE_STEP) {
            int8_t *to = packed + (d / BYTE_STEP * TILE_VECTORS + v) * AMX_TILE_BYTES;
            __m512i words[VF_WIDTH];
            VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++) {
                vf part[2][2];
                load_part(whole, dtype, q, rows[v * VF_WIDTH + i], d, part[0]);
                load_part(whole, dtype, q, rows[v * VF_WIDTH + i], d + STEP, part[1]);
                words[i] = round_parts(part, vf_set1(inverse[v * VF_WIDTH + i]));
            }
            transpose_words(words);
            VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++) {
                vi size = _mm512_abs_epi8(words[i]);
                squares = _mm512_dpbusd_epi32(squares, size, size);
                _mm512_storeu_si512(to + i * AMX_ROW_BYTES, words[i]);
            }
        }
        length = vf_max(vf_mul(vf_from_vi(squares), vf_mul(unit, unit)), length);
        vf_store(scale + v * VF_WIDTH, vf_mul(unit, vf_set1(at->scale)));
    }
    return 1.01f * sqrtf(vf_reduce_max(length)) + vf_reduce_add(poison);
}

/* What taking the mean from keys takes from the scores of each row. */
static void find_shifts(const bool whole, const tile_context *at, const tile *t, const float *mean,
                        float *shift) {
    const fovea_view *q = &at->call->q;
    for (int v = 0; v < TILE_VECTORS; v++) {
        char *rows[VF_WIDTH];
        vector_rows(at, t, q, at->sequence.query_start, v, rows);
        for (int i = 0; i < VF_WIDTH; i++) {
            vf sum = vf_set1(0);
            for (int64_t d = 0; d < q->shape[3]; d += STEP) {
                vf part[2];
                load_part(whole, q->dtype, q, rows[i], d, part);
                sum = vf_fma(part[0], vf_load(mean + d), sum);
                sum = vf_fma(part[1], vf_load(mean + d + VF_WIDTH), sum);
            }
            shift[v * VF_WIDTH + i] = at->scale * vf_reduce_add(sum);
        }
    }
}

#endif
