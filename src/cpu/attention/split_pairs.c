/* The products of split with bf16 queries, keys and values as pairs of bf16; caches of 8 bits by tables (split_bytes.h, AVX512-VBMI).
 * Where vdpbf16ps is fast, each pair is one product: half the multiply-adds of split_micro.h. Where it is not, the two halves of each
 * word become floats by a shift and a mask, two operations for 32 elements where split_micro.h takes four for bf16 and 18 for
 * e4m3. Compiled for those units alone. */
#include "cpu/attention/split_pairs.h"

#include "cpu/attention/split_bytes.h"

/* Written as an instruction for GCC 12's sake, as in simd_dot.h. */
VF_INLINE vf add_pairs(vf sum, __m512i a, __m512i b) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

/* The elements with even numbers, and those with odd numbers, as floats. */
VF_INLINE vf even_halves(__m512i x) { return vi_as_vf(_mm512_slli_epi32(x, 16)); }
VF_INLINE vf odd_halves(__m512i x) {
    return vi_as_vf(_mm512_and_si512(x, _mm512_set1_epi32((int)0xffff0000)));
}

/* Keeps a vector in a register: GCC 12 would make it a memory operand of every product. */
VF_INLINE vf held(vf x) {
    __asm__("" : "+v"(x));
    return x;
}

/* ---- Scores ------------------------------------------------------------------------------------------ */

/* Elements of a key that one step takes. */
VF_INLINE int64_t score_step(const fovea_dtype dtype) { return dtype == FOVEA_BF16 ? 16 : 32; }

/* Halves of words that they take in a packed query. */
VF_INLINE int64_t query_unit(const bool pairs, const fovea_dtype keys) {
    return (pairs ? 2 : 4) * score_step(keys);
}

/* Queries are [step][row]: all rows at constant distances from one pointer. Where element d would lie in a row packed by itself, and again PAIR_HALF elements further: half a vector for
 * each of two keys. 32 elements of i8 and e4m3 keys become bf16 eight of sixteen at a time. */
enum { PAIR_HALF = 16 };
static inline int64_t pair_place(fovea_dtype keys, int64_t d) {
    if (keys == FOVEA_BF16) return d / 16 * 32 + d % 16;
    return d / 32 * 64 + d % 16 / 8 * 32 + d % 32 / 16 * 8 + d % 8;
}

/* Pairs: runs of eight stay together in both orders. Halves: floats, of each 32 the even ones before the odd. */
VF_INLINE void pack_query(const bool pairs, const fovea_dtype keys, const int rows, const char *row,
                          int64_t stride, int64_t size, int64_t number, uint16_t *q) {
    enum { RUN = 8 };
    const int64_t unit = query_unit(pairs, keys);
#define OF_ROW(place) (q + ((place) / unit * rows + number) * unit + (place) % unit)
    int64_t d = 0;
    for (; pairs && stride == 1 && d + RUN <= size; d += RUN) {
        uint16_t *at = OF_ROW(pair_place(keys, d));
        memcpy(at, row + 2 * d, RUN * sizeof *at);
        memcpy(at + PAIR_HALF, row + 2 * d, RUN * sizeof *at);
    }
    for (; d < size; d++) {
        int64_t place = pair_place(keys, d), at = place / 32 * 32 + place % 2 * 16 + place % 32 / 2;
        uint16_t half;
        memcpy(&half, row + 2 * d * stride, sizeof half);
        uint32_t bits = (uint32_t)half << 16;
        if (pairs) {
            OF_ROW(place)[0] = OF_ROW(place)[PAIR_HALF] = half;
            continue;
        }
        memcpy(OF_ROW(2 * at), &bits, sizeof bits);
        memcpy(OF_ROW(2 * at) + PAIR_HALF, &bits, sizeof bits);
    }
#undef OF_ROW
}

/* Elements [d, d + n) of two keys, at most 16 of bf16 and 32 of bytes, in the order of pair_place. */
VF_INLINE void load_keys(const fovea_dtype dtype, const char *const *k, int64_t d, int64_t n,
                         __m512i *x) {
    __m512i low, high;
    if (dtype == FOVEA_BF16) {
        x[0] = load_both(k[0], k[1], 2 * d, 2 * n);
        return;
    }
    find_bytes(dtype, load_both(k[0], k[1], d, n), &low, &high);
    x[0] = _mm512_unpacklo_epi8(low, high), x[1] = _mm512_unpackhi_epi8(low, high);
}

/* Sum 8 i + r + rows m is of row r and of keys 2 m and 2 m + 1 of group i, eight lanes each. */
VF_INLINE void pair_products(const bool pairs, const fovea_dtype dtype, const int rows,
                             const int groups, int64_t d, int64_t n, const uint16_t *q,
                             const char *const *k, vf *sum) {
    const int count = groups * SPLIT_LANES / rows / 2, parts = dtype == FOVEA_BF16 ? 1 : 2;
    const int together = count < 2 ? count : 2; /* share a load of q */
    VF_UNROLLED for (int j = 0; j < count; j += together) {
        __m512i x[2][2];
        VF_UNROLLED for (int i = 0; i < together; i++)
            load_keys(dtype, k + 2 * (j + i), d, n, x[i]);
        VF_UNROLLED for (int h = 0; h < parts; h++) {
            vf even[2], odd[2];
            VF_UNROLLED for (int i = 0; !pairs && i < together; i++) even[i] = even_halves(x[i][h]),
                                                                     odd[i] = odd_halves(x[i][h]);
            VF_UNROLLED for (int r = 0; r < rows; r++) {
                vf *to = sum + j * rows + r;
                const uint16_t *line =
                    q + (pairs ? 2 : 4) * (d * rows + 16 * h) + r * query_unit(pairs, dtype);
                const __m512i words = _mm512_loadu_si512(line);
                if (pairs) {
                    VF_UNROLLED for (int i = 0; i < together; i++) to[i * rows] =
                        add_pairs(to[i * rows], x[i][h], words);
                    continue;
                }
                const vf first = held(vi_as_vf(words)),
                         second = held(vi_as_vf(_mm512_loadu_si512(line + 32)));
                VF_UNROLLED for (int i = 0; i < together; i++) to[i * rows] =
                    vf_fma(odd[i], second, vf_fma(even[i], first, to[i * rows]));
            }
        }
    }
}

/* The sums of each half of 8 vectors, those of vectors 0 to 3 in the order low, high, then those of 4 to 7: 21 operations. */
VF_INLINE vf reduce_halves(const vf *x) {
    vf y[4], z[2];
    VF_UNROLLED for (int i = 0; i < 4; i++) y[i] = _mm512_add_ps(
        _mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]), _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]));
    VF_UNROLLED for (int i = 0; i < 2; i++) z[i] =
        _mm512_add_ps(_mm512_shuffle_ps(y[2 * i], y[2 * i + 1], 0x44),
                      _mm512_shuffle_ps(y[2 * i], y[2 * i + 1], 0xee));
    return _mm512_add_ps(_mm512_shuffle_f32x4(z[0], z[1], 0x88),
                         _mm512_shuffle_f32x4(z[0], z[1], 0xdd));
}

VF_INLINE void score_groups(const bool pairs, const fovea_dtype dtype, const int rows,
                            const int groups, vi order, int64_t size, const uint16_t *q,
                            const char *const *k, split_ahead *next, float *s) {
    const int64_t step = score_step(dtype);
    split_ahead ahead = *next;
    vf sum[SPLIT_LANES];
    VF_UNROLLED for (int l = 0; l < 8 * groups; l++) sum[l] = vf_set1(0);
    int64_t d = 0;
    for (; d + step <= size; d += step) {
        split_fetch(&ahead);
        pair_products(pairs, dtype, rows, groups, d, step, q, k, sum);
    }
    if (d < size) {
        split_fetch(&ahead);
        pair_products(pairs, dtype, rows, groups, d, size - d, q, k, sum);
    }
    *next = ahead;
    VF_UNROLLED for (int i = 0; i < groups; i++)
        vf_store(s + i * SPLIT_LANES, _mm512_permutexvar_ps(order, reduce_halves(sum + 8 * i)));
}

VF_INLINE void pair_scores(const bool pairs, const fovea_dtype dtype, const int rows,
                           int64_t groups, int64_t size, const uint16_t *q, const char *const *k,
                           const char *const *ahead, int64_t ahead_bytes, float *s) {
    const int keys = SPLIT_LANES / rows;
    int32_t places[SPLIT_LANES];
    for (int l = 0; l < SPLIT_LANES; l++) {
        int vector = l / rows / 2 * rows + l % rows;
        places[l] = vector / 4 * 8 + l / rows % 2 * 4 + vector % 4;
    }
    const vi order = vi_load(places);
    split_ahead next = split_plan_ahead(ahead, groups * keys, ahead_bytes,
                                        divide_up(groups, 2) * divide_up(size, score_step(dtype)));
    for (; groups >= 2; groups -= 2, k += 2 * keys, s += 2 * SPLIT_LANES)
        score_groups(pairs, dtype, rows, 2, order, size, q, k, &next, s);
    if (groups > 0) score_groups(pairs, dtype, rows, 1, order, size, q, k, &next, s);
}

/* ---- Values ------------------------------------------------------------------------------------------ */

/* Two keys of a row to a word, the even one low, [keys / 2][rows]: 32 floats become 16 words. */
VF_INLINE void pack_weights(const int rows, int64_t groups, float *s) {
    uint16_t places[32];
    for (int w = 0; w < 16; w++)
        for (int i = 0; i < 2; i++)
            places[2 * w + i] = (uint16_t)((2 * (w / rows) + i) * rows + w % rows);
    const __m512i order = _mm512_loadu_si512(places);
    float *words = s;
    for (int64_t g = 0; g < groups; g += 2, s += 2 * SPLIT_LANES, words += SPLIT_LANES) {
        vf second = g + 1 < groups ? vf_load(s + SPLIT_LANES) : vf_set1(0);
        __m512i halves = (__m512i)_mm512_cvtne2ps_pbh(second, vf_load(s));
        vf_store(words, vi_as_vf(_mm512_permutexvar_epi16(order, halves)));
    }
}

/* One pair of keys, or the even one alone. */
VF_INLINE void add_values(const fovea_dtype dtype, const bool both, const int rows, const int parts,
                          int64_t d, int64_t n, const char *even, const char *odd, const float *p,
                          vf *sum) {
    __m512i x[8];
    VF_UNROLLED for (int c = 0; c < parts; c++)
        load_values(dtype, both, even, odd, d + 32 * c, n, x + 2 * c);
    VF_UNROLLED for (int r = 0; r < rows; r++) {
        __m512i weights = vf_as_vi(vf_set1(p[r]));
        VF_UNROLLED for (int c = 0; c < 2 * parts; c++) sum[r * 2 * parts + c] =
            add_pairs(sum[r * 2 * parts + c], x[c], weights);
    }
}

/* The same of halves: p[i][r] is the weight of key i. Even columns before odd ones. */
VF_INLINE void add_halves(const fovea_dtype dtype, const bool both, const int rows, const int parts,
                          int64_t d, int64_t n, const char *even, const char *odd, const float *p,
                          vf *sum) {
    VF_UNROLLED for (int c = 0; c < parts; c++) {
        __m512i x[2];
        load_rows(dtype, both, even, odd, d + 32 * c, n, x);
        VF_UNROLLED for (int i = 0; i < 2; i++) {
            if (i == 1 && !both) continue;
            const vf first = even_halves(x[i]), second = odd_halves(x[i]);
            VF_UNROLLED for (int r = 0; r < rows; r++) {
                const vf weight = vf_set1(p[i * rows + r]);
                vf *to = sum + r * 2 * parts + 2 * c;
                to[0] = vf_fma(first, weight, to[0]), to[1] = vf_fma(second, weight, to[1]);
            }
        }
    }
}

/* `parts` times 32 columns from d, of the last n. */
VF_INLINE void pair_columns(const bool pairs, const fovea_dtype dtype, const int rows,
                            const int parts, int64_t keys, int64_t d, int64_t n,
                            const char *const *v, split_ahead *next, const float *p, float *out,
                            int64_t pitch) {
    split_ahead ahead = *next;
    vf sum[2 * SPLIT_LANES];
    VF_UNROLLED for (int i = 0; i < rows * 2 * parts; i++) sum[i] = vf_set1(0);
    int64_t j = 0;
    for (; j + 2 <= keys; j += 2, p += pairs ? rows : 2 * rows) {
        split_fetch(&ahead);
        if (pairs)
            add_values(dtype, true, rows, parts, d, n, v[j], v[j + 1], p, sum);
        else
            add_halves(dtype, true, rows, parts, d, n, v[j], v[j + 1], p, sum);
    }
    if (j < keys && pairs)
        add_values(dtype, false, rows, parts, d, n, v[j], NULL, p, sum);
    else if (j < keys)
        add_halves(dtype, false, rows, parts, d, n, v[j], NULL, p, sum);
    if (!pairs)
        VF_UNROLLED for (int i = 0; i < rows * parts; i++)
            vf_interleave(sum[2 * i], sum[2 * i + 1], &sum[2 * i], &sum[2 * i + 1]);
    VF_UNROLLED for (int r = 0; r < rows; r++) VF_UNROLLED for (int c = 0; c < 2 * parts; c++) {
        if (16 * c >= n && c > 0) continue; /* beyond the pitch */
        float *at = out + r * pitch + d + c * VF_WIDTH;
        vf_store(at, vf_add(vf_load(at), sum[r * 2 * parts + c]));
    }
    *next = ahead;
}

VF_INLINE void pair_values(const bool pairs, const fovea_dtype dtype, const int rows, int64_t keys,
                           int64_t size, const char *const *v, const char *const *ahead,
                           int64_t ahead_bytes, const float *p, float *out, int64_t pitch) {
    const int parts = rows == 8 ? 1 : rows == 4 ? 2 : 4;
    const int64_t step = 32 * parts;
    split_ahead next =
        split_plan_ahead(ahead, keys, ahead_bytes, larger(size / step, 1) * larger(keys / 2, 1));
    int64_t d = 0;
    for (; d + step <= size; d += step)
        pair_columns(pairs, dtype, rows, parts, keys, d, step, v, &next, p, out, pitch);
    for (; parts > 2 && d + 64 <= size; d += 64)
        pair_columns(pairs, dtype, rows, 2, keys, d, 64, v, &next, p, out, pitch);
    for (; d < size; d += 32)
        pair_columns(pairs, dtype, rows, 1, keys, d, smaller(size - d, 32), v, &next, p, out,
                     pitch);
}

/* ---- One function for each dtype and number of rows -------------------------------------------------- */

#define PAIR_KERNELS(form, pairs, name, dtype, rows)                                               \
    static bool pack_query_##form##_##name##_##rows(const char *row, int64_t stride, int64_t size, \
                                                    int64_t number, uint16_t *q) {                 \
        pack_query(pairs, dtype, rows, row, stride, size, number, q);                              \
        return true;                                                                               \
    }                                                                                              \
    static void scores_##form##_##name##_##rows(int64_t groups, int64_t size, const uint16_t *q,   \
                                                const char *const *k, const char *const *ahead,    \
                                                int64_t ahead_bytes, float *s) {                   \
        pair_scores(pairs, dtype, rows, groups, size, q, k, ahead, ahead_bytes, s);                \
    }                                                                                              \
    static void values_##form##_##name##_##rows(int64_t keys, int64_t size, const char *const *v,  \
                                                const char *const *ahead, int64_t ahead_bytes,     \
                                                const float *p, float *out, int64_t pitch) {       \
        pair_values(pairs, dtype, rows, keys, size, v, ahead, ahead_bytes, p, out, pitch);         \
    }
#define PAIR_DTYPE(form, pairs, name, dtype)                                                       \
    PAIR_KERNELS(form, pairs, name, dtype, 1)                                                      \
    PAIR_KERNELS(form, pairs, name, dtype, 2)                                                      \
    PAIR_KERNELS(form, pairs, name, dtype, 4)                                                      \
    PAIR_KERNELS(form, pairs, name, dtype, 8)
#define PACK_WEIGHTS(rows)                                                                         \
    static bool pack_weights_##rows(int64_t groups, float *s) {                                    \
        pack_weights(rows, groups, s);                                                             \
        return true;                                                                               \
    }
#define PAIR_ENTRY(floats, form, name, rows, weights)                                              \
    {                                                                                              \
        .query_floats = floats, .pack_query = pack_query_##form##_##name##_##rows,                 \
        .scores = scores_##form##_##name##_##rows, .pack_weights = weights,                        \
        .values = values_##form##_##name##_##rows                                                  \
    }
#define PAIR_LINE(name)                                                                            \
    {                                                                                              \
        PAIR_ENTRY(1, pairs, name, 1, pack_weights_1),                                             \
            PAIR_ENTRY(1, pairs, name, 2, pack_weights_2),                                         \
            PAIR_ENTRY(1, pairs, name, 4, pack_weights_4),                                         \
            PAIR_ENTRY(1, pairs, name, 8, pack_weights_8)                                          \
    }
#define HALF_LINE(name)                                                                            \
    {                                                                                              \
        PAIR_ENTRY(2, halves, name, 1, NULL), PAIR_ENTRY(2, halves, name, 2, NULL),                \
            PAIR_ENTRY(2, halves, name, 4, NULL), PAIR_ENTRY(2, halves, name, 8, NULL)             \
    }

PACK_WEIGHTS(1)
PACK_WEIGHTS(2)
PACK_WEIGHTS(4)
PACK_WEIGHTS(8)
PAIR_DTYPE(pairs, true, bf16, FOVEA_BF16)
PAIR_DTYPE(pairs, true, i8, FOVEA_I8)
PAIR_DTYPE(pairs, true, e4m3, FOVEA_E4M3)
PAIR_DTYPE(halves, false, bf16, FOVEA_BF16)
PAIR_DTYPE(halves, false, e4m3, FOVEA_E4M3)

const split_pair_kernels fovea_split_pairs_avx512[FOVEA_DTYPE_COUNT][4] = {
    [FOVEA_BF16] = PAIR_LINE(bf16), [FOVEA_I8] = PAIR_LINE(i8), [FOVEA_E4M3] = PAIR_LINE(e4m3)};
const split_pair_kernels fovea_split_halves_avx512[FOVEA_DTYPE_COUNT][4] = {
    [FOVEA_BF16] = HALF_LINE(bf16), [FOVEA_E4M3] = HALF_LINE(e4m3)};
