/* The products of split for queries of bf16 and caches of i8 in integers: vpdpbusd adds four products of bytes to a lane at the rate
 * of the multiply-add. Where vdpbf16ps is slow (split_pairs.c) that is half of the products that floats take, and nothing to convert.
 *
 * A row of q is 16 bits of a fixed point, a power of two above its largest element, so that most elements of bf16 are exact;
 * a weight is 16 bits of its row's largest of the block. Both are two digits of 8 bits, with a product each, put together where sums are
 * complete. Sums fit 32 bits: 2^15 times 128 times 512 elements, 2^16 times 128 times 256 keys; on the way they may wrap around.
 * Rows and blocks that this does not suit are left to floats: see pack_row and pack_weights. */
#include "cpu/attention/attention_rows.h"
#include "cpu/attention/split_pairs.h"

#include <math.h>

/* ---- Products ---------------------------------------------------------------------------------------- */

/* Bytes without a sign times bytes with one; as an instruction for GCC 12's sake, as in simd_dot.h. */
VF_INLINE vi add_bytes(vi sum, vi unsigned_bytes, vi signed_bytes) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_bytes), "v"(signed_bytes));
    return sum;
}
VF_INLINE vi add_bytes_at(vi sum, vi unsigned_bytes, const uint8_t *signed_bytes) {
    __asm__("vpdpbusd %2, %1, %0"
            : "+v"(sum)
            : "v"(unsigned_bytes), "m"(*(const __m512i *)(const void *)signed_bytes));
    return sum;
}

VF_INLINE vi join_digits(vi high, vi low) { return vi_add(vi_shl(high, 8), low); }

VF_INLINE vi load_bytes(const char *at, int64_t n) {
    if (n >= 64) return _mm512_loadu_si512(at);
    return _mm512_maskz_loadu_epi8(((__mmask64)1 << n) - 1, at);
}

/* Quarter c of each of four vectors, for c = 0 to 3. */
VF_INLINE void transpose_quarters(const vi *x, vi *y) {
    vi a = _mm512_shuffle_i64x2(x[0], x[1], 0x44), b = _mm512_shuffle_i64x2(x[2], x[3], 0x44);
    vi c = _mm512_shuffle_i64x2(x[0], x[1], 0xee), d = _mm512_shuffle_i64x2(x[2], x[3], 0xee);
    y[0] = _mm512_shuffle_i64x2(a, b, 0x88), y[1] = _mm512_shuffle_i64x2(a, b, 0xdd);
    y[2] = _mm512_shuffle_i64x2(c, d, 0x88), y[3] = _mm512_shuffle_i64x2(c, d, 0xdd);
}

/* ---- Scores ------------------------------------------------------------------------------------------ */

/* Vectors are a chunk of 16 elements of each of four keys, a key to a quarter. Queries are [chunk][row][digit] of the chunk four times,
 * then for each lane of a group of scores the row's scale, and what keys without a sign add to its sum. */
enum { CHUNK = 16, KEYS = 4, STEP = 64, QUERY_MORE = 2 * SPLIT_LANES };

static inline uint8_t *query_digits(uint16_t *q, const int rows, int64_t d, int row) {
    return (uint8_t *)q + ((d / CHUNK * rows + row) * 2 * STEP + d % CHUNK);
}
static inline float *query_scales(const uint16_t *q, const int rows, int64_t size) {
    return (float *)(void *)((char *)q + divide_up(size, CHUNK) * rows * 2 * STEP);
}

/* False where an element is not finite, or where rounding takes more than 2^-13 of the row, as it does if most elements are far
 * below the largest one: scores might rest on those. A score in bf16 is off by as much as 2^-9. */
static bool pack_row(const int rows, const char *row, int64_t stride, int64_t size, int64_t number,
                     uint16_t *q) {
    vf largest = vf_set1(0), all = vf_set1(0), lost = vf_set1(0), sum = vf_set1(0);
    for (int64_t d = 0; d < size; d += CHUNK) {
        vf x = vf_abs(load_elements(row, FOVEA_BF16, stride, d, smaller(size - d, CHUNK)));
        largest = vf_max(x, largest), all = vf_add(all, x);
    }
    int exponent, room = 15;
    frexpf(vf_reduce_max(largest), &exponent);
    if (!isfinite(vf_reduce_add(all)) || exponent < -60 || exponent > 60) return false;
    while (ldexp(1, room) * (double)size > 0x1p24) room--;
    const float factor = ldexpf(1, room - exponent);
    for (int64_t d = 0; d < size; d += CHUNK) {
        vf x = load_elements(row, FOVEA_BF16, stride, d, smaller(size - d, CHUNK));
        x = vf_mul(x, vf_set1(factor));
        vi digits = vi_from_vf(vf_min(x, vf_set1(127 * 256 + 127)));
        uint8_t *at = query_digits(q, rows, d, (int)number);
        __m128i high = _mm512_cvtepi32_epi8(vi_sar(vi_add(digits, vi_set1(128)), 8));
        _mm512_storeu_si512(at, _mm512_broadcast_i32x4(high));
        _mm512_storeu_si512(at + STEP, _mm512_broadcast_i32x4(_mm512_cvtepi32_epi8(digits)));
        sum = vf_add(sum, vf_from_vi(digits)); /* exact: below 2^24 */
        lost = vf_add(lost, vf_abs(vf_sub(x, vf_from_vi(digits))));
    }
    float *scales = query_scales(q, rows, size);
    int32_t *offsets = (int32_t *)(void *)(scales + SPLIT_LANES);
    for (int64_t l = number; l < SPLIT_LANES; l += rows)
        scales[l] = 1 / factor, offsets[l] = -128 * (int32_t)vf_reduce_add(sum);
    return vf_reduce_add(lost) <= 0x1p-13f * factor * vf_reduce_add(all);
}

/* One step of four keys: sums [row][digit]. */
VF_INLINE void score_step(const int rows, int64_t n, const char *const *k, int64_t d,
                          const uint8_t *q, split_ahead *next, vi *sum) {
    vi line[4], x[4];
    VF_UNROLLED for (int i = 0; i < KEYS; i++) line[i] =
        _mm512_xor_si512(load_bytes(k[i] + d, n), _mm512_set1_epi8(-128));
    transpose_quarters(line, x);
    split_fetch(next);
    VF_UNROLLED for (int c = 0; c < STEP / CHUNK; c++) {
        if (c * CHUNK >= n) continue;
        VF_UNROLLED for (int i = 0; i < 2 * rows; i++) sum[i] =
            add_bytes_at(sum[i], x[c], q + (c * 2 * rows + i) * STEP);
    }
}

/* The sums of the quarters of four vectors: of quarter c in lanes 4 c to 4 c + 3. */
VF_INLINE vi add_quarters(const vi *x) {
    vi a = vi_add(_mm512_unpacklo_epi32(x[0], x[1]), _mm512_unpackhi_epi32(x[0], x[1]));
    vi b = vi_add(_mm512_unpacklo_epi32(x[2], x[3]), _mm512_unpackhi_epi32(x[2], x[3]));
    return vi_add(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

/* Two groups at a time: eight vectors of a row and four keys each. */
VF_INLINE void integer_scores(const int rows, int64_t groups, int64_t size, const uint16_t *q,
                              const char *const *k, const char *const *ahead, int64_t ahead_bytes,
                              float *s) {
    const int quads = 8 / rows, keys = 2 * SPLIT_LANES / rows;
    const uint8_t *digits = (const uint8_t *)q;
    const float *scales = query_scales(q, rows, size);
    const vf scale = vf_load(scales);
    const vi offset = vi_load((const int32_t *)(const void *)(scales + SPLIT_LANES));
    int32_t places[2 * SPLIT_LANES];
    for (int l = 0; l < 2 * SPLIT_LANES; l++) {
        int vector = l / (KEYS * rows) * rows + l % rows;
        places[l] = vector / 4 * SPLIT_LANES + l / rows % KEYS * 4 + vector % 4;
    }
    const vi first = vi_load(places), second = vi_load(places + SPLIT_LANES);
    split_ahead next = split_plan_ahead(ahead, groups * SPLIT_LANES / rows, ahead_bytes,
                                        divide_up(groups, 2) * quads * divide_up(size, STEP));
    for (; groups > 0; groups -= 2, k += keys, s += 2 * SPLIT_LANES) {
        vi x[8], sum[2 * 8];
        VF_UNROLLED for (int i = 0; i < quads; i++) {
            const uint8_t *at = digits;
            split_ahead more = next;
            int64_t d = 0;
            VF_UNROLLED for (int v = 0; v < 2 * rows; v++) sum[v] = vi_set1(0);
            for (; d + STEP <= size; d += STEP, at += STEP / CHUNK * rows * 2 * STEP)
                score_step(rows, STEP, k + KEYS * i, d, at, &more, sum);
            if (d < size) score_step(rows, size - d, k + KEYS * i, d, at, &more, sum);
            next = more;
            VF_UNROLLED for (int r = 0; r < rows; r++) x[i * rows + r] =
                join_digits(sum[2 * r], sum[2 * r + 1]);
        }
        vi low = add_quarters(x), high = add_quarters(x + 4);
        vi of_first = vi_add(_mm512_permutex2var_epi32(low, first, high), offset);
        vi of_second = vi_add(_mm512_permutex2var_epi32(low, second, high), offset);
        vf_store(s, vf_mul(vf_from_vi(of_first), scale));
        if (groups > 1) vf_store(s + SPLIT_LANES, vf_mul(vf_from_vi(of_second), scale));
    }
}

/* ---- Values ------------------------------------------------------------------------------------------ */

/* After the weights, which take half of the scores' room: what a row's sum is multiplied by. */
static inline float *weight_scales(float *s, int64_t groups) {
    return s + divide_up(groups, 2) * SPLIT_LANES;
}

/* [four keys][row][digit], a byte of each key to a word. False, and nothing done, if a weight is negative or not finite. Weights
 * are rounded after something between -1/2 and 1/2 is added that differs from key to key: many small ones are not all lost. */
VF_INLINE bool pack_weights(const int rows, int64_t groups, float *s) {
    uint8_t places[64];
    for (int i = 0; i < 64; i++) {
        int key = i / 4 / (2 * rows) * KEYS + i % 4, high = i / 4 % 2 == 0;
        places[i] = (uint8_t)((key * rows + i / 8 % rows) * 4 + high);
    }
    /* As numbers without a sign, what is negative or not finite is larger than what is neither. */
    vi most = vi_set1(0);
    for (int64_t g = 0; g < groups; g++)
        most = _mm512_max_epu32(vf_as_vi(vf_load(s + g * SPLIT_LANES)), most);
    if (_mm512_reduce_max_epu32(most) > 0x71800000) return false; /* 2^100 */
    float largest[SPLIT_LANES], factors[SPLIT_LANES], ramp[SPLIT_LANES];
    vf_store(largest, vf_max(vi_as_vf(most), vf_set1(0x1p-100f)));
    for (int l = rows; l < SPLIT_LANES; l++)
        if (largest[l] > largest[l % rows]) largest[l % rows] = largest[l];
    for (int l = 0; l < SPLIT_LANES; l++) {
        factors[l] = 65534 / largest[l % rows];
        ramp[l] = 0.618034f * (float)(l / rows);
    }
    for (int r = 0; r < rows; r++) largest[r] /= 65534;
    const __m512i order = _mm512_loadu_si512(places);
    const vf factor = vf_load(factors), turn = vf_set1(0.618034f * (float)(SPLIT_LANES / rows));
    vf offset = vf_load(ramp);
    vi *words = (vi *)(void *)s;
    if (groups % 2) vf_store(s + groups * SPLIT_LANES, vf_set1(0));
    for (int64_t g = 0; g < groups; g += 2) {
        vi x[2];
        VF_UNROLLED for (int i = 0; i < 2; i++) {
            offset = _mm512_reduce_ps(offset, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
            x[i] = vi_from_vf(vf_fma(vf_load(s + (g + i) * SPLIT_LANES), factor, offset));
            offset = vf_add(offset, turn);
        }
        *words++ = _mm512_permutex2var_epi8(x[0], order, x[1]);
    }
    memcpy(weight_scales(s, groups), largest, (size_t)rows * sizeof *largest);
    return true;
}

/* Columns of four keys, the bytes of a column side by side: quarter c of x[i] holds columns from 16 c + 4 i. */
VF_INLINE void interleave_keys(const char *const *v, int64_t d, int64_t n, vi *x) {
    vi a = load_bytes(v[0] + d, n), b = load_bytes(v[1] + d, n);
    vi c = load_bytes(v[2] + d, n), e = load_bytes(v[3] + d, n);
    vi ab = _mm512_unpacklo_epi8(a, b), ce = _mm512_unpacklo_epi8(c, e);
    x[0] = _mm512_unpacklo_epi16(ab, ce), x[1] = _mm512_unpackhi_epi16(ab, ce);
    ab = _mm512_unpackhi_epi8(a, b), ce = _mm512_unpackhi_epi8(c, e);
    x[2] = _mm512_unpacklo_epi16(ab, ce), x[3] = _mm512_unpackhi_epi16(ab, ce);
}

enum { QUADS_MAX = 256 / KEYS, TOGETHER = 2 }; /* rows */

/* Keys; with several passes over them a line or two a time are asked for less often. */
VF_INLINE int64_t fetch_every(const int rows) { return rows > TOGETHER ? 2 * KEYS : KEYS; }

/* Rows [row, row + together) of 64 columns. The first rows of several interleave the values and keep them for the others. */
VF_INLINE void integer_columns(const int rows, const int row, int64_t keys, int64_t d, int64_t n,
                               const char *const *v, split_ahead *next, const uint8_t *p,
                               const float *scales, vi *kept, float *out, int64_t pitch) {
    const int together = rows < TOGETHER ? rows : TOGETHER;
    split_ahead ahead = *next;
    vi sum[TOGETHER * 2 * 4];
    VF_UNROLLED for (int i = 0; i < together * 2 * 4; i++) sum[i] = vi_set1(0);
    p += row * 2 * 4;
    for (int64_t j = 0; j < keys; j += KEYS, v += KEYS, p += rows * 2 * 4, kept += 4) {
        vi x[4];
        if (j % fetch_every(rows) == 0) split_fetch(&ahead);
        if (row == 0) interleave_keys(v, d, n, x);
        VF_UNROLLED for (int c = 0; c < 4; c++) {
            if (row > 0) x[c] = kept[c];
            if (row == 0 && rows > TOGETHER) kept[c] = x[c];
        }
        VF_UNROLLED for (int i = 0; i < 2 * together; i++) {
            int32_t word;
            memcpy(&word, p + 4 * i, sizeof word);
            const vi weights = vi_set1(word);
            VF_UNROLLED for (int c = 0; c < 4; c++) sum[i * 4 + c] =
                add_bytes(sum[i * 4 + c], weights, x[c]);
        }
    }
    *next = ahead;
    VF_UNROLLED for (int r = 0; r < together; r++) {
        vi x[4], columns[4];
        VF_UNROLLED for (int c = 0; c < 4; c++) x[c] =
            join_digits(sum[r * 8 + c], sum[r * 8 + 4 + c]);
        transpose_quarters(x, columns);
        VF_UNROLLED for (int c = 0; c < 4; c++) {
            if (c * VF_WIDTH >= n) continue; /* beyond the pitch */
            float *at = out + (row + r) * pitch + d + c * VF_WIDTH;
            vf_store(at, vf_fma(vf_from_vi(columns[c]), vf_set1(scales[row + r]), vf_load(at)));
        }
    }
}

VF_INLINE void integer_panel(const int rows, int64_t keys, int64_t d, int64_t n,
                             const char *const *v, split_ahead *next, const uint8_t *p,
                             const float *scales, vi *kept, float *out, int64_t pitch) {
    VF_UNROLLED for (int row = 0; row < rows; row += TOGETHER)
        integer_columns(rows, row, keys, d, n, v, next, p, scales, kept, out, pitch);
}

VF_INLINE void integer_values(const int rows, int64_t keys, int64_t size, const char *const *v,
                              const char *const *ahead, int64_t ahead_bytes, const float *p,
                              float *out, int64_t pitch) {
    _Alignas(64) vi kept[rows > TOGETHER ? QUADS_MAX * 4 : 1];
    float scales[SPLIT_ROWS];
    const uint8_t *weights = (const uint8_t *)p;
    const int64_t passes = divide_up(rows, TOGETHER);
    memcpy(scales, weight_scales((float *)p, divide_up(keys * rows, SPLIT_LANES)),
           (size_t)rows * sizeof *scales);
    split_ahead next =
        split_plan_ahead(ahead, keys, ahead_bytes,
                         divide_up(size, STEP) * passes * divide_up(keys, fetch_every(rows)));
    int64_t d = 0;
    for (; d + STEP <= size; d += STEP)
        integer_panel(rows, keys, d, STEP, v, &next, weights, scales, kept, out, pitch);
    if (d < size)
        integer_panel(rows, keys, d, size - d, v, &next, weights, scales, kept, out, pitch);
}

/* ---- One function for each number of rows ------------------------------------------------------------ */

#define INTEGER_KERNELS(rows)                                                                      \
    static bool pack_query_##rows(const char *row, int64_t stride, int64_t size, int64_t number,   \
                                  uint16_t *q) {                                                   \
        return pack_row(rows, row, stride, size, number, q);                                       \
    }                                                                                              \
    static void integer_scores_##rows(int64_t groups, int64_t size, const uint16_t *q,             \
                                      const char *const *k, const char *const *ahead,              \
                                      int64_t ahead_bytes, float *s) {                             \
        integer_scores(rows, groups, size, q, k, ahead, ahead_bytes, s);                           \
    }                                                                                              \
    static bool pack_weights_##rows(int64_t groups, float *s) {                                    \
        return pack_weights(rows, groups, s);                                                      \
    }                                                                                              \
    static void integer_values_##rows(int64_t keys, int64_t size, const char *const *v,            \
                                      const char *const *ahead, int64_t ahead_bytes,               \
                                      const float *p, float *out, int64_t pitch) {                 \
        integer_values(rows, keys, size, v, ahead, ahead_bytes, p, out, pitch);                    \
    }
#define INTEGER_ENTRY(rows)                                                                        \
    {                                                                                              \
        .query_floats = 2, .query_more = QUERY_MORE, .rounded = true,                              \
        .pack_query = pack_query_##rows, .scores = integer_scores_##rows,                          \
        .pack_weights = pack_weights_##rows, .values = integer_values_##rows                       \
    }

INTEGER_KERNELS(1)
INTEGER_KERNELS(2)
INTEGER_KERNELS(4)
INTEGER_KERNELS(8)

const split_pair_kernels fovea_split_integers_avx512[4] = {INTEGER_ENTRY(1), INTEGER_ENTRY(2),
                                                           INTEGER_ENTRY(4), INTEGER_ENTRY(8)};
