/* Rows of tensors in and out of tiles: any dtype of the call, any strides, in vectors of VF_WIDTH elements. */
#ifndef FOVEA_CPU_ATTENTION_ATTENTION_ROWS_H
#define FOVEA_CPU_ATTENTION_ATTENTION_ROWS_H

#include "catalogue/attention.h"
#include "cpu/attention/attention_micro.h"
#include "cpu/kernel.h"

#include <math.h>
#include <stdio.h>

#define LOG2E 1.4426950408889634
#define LN2 0x1.62e43p-1f
#define NEGATIVE_INFINITY vf_set1(-INFINITY)

/* What rows of zeros count as where they become integers: 127 divided by it is finite. */
static const float smallest_absmax = 1e-30f;

/* Elements [start, start + count) of the row at an address as floats; lanes from count on are 0. */
static vf load_elements(const char *row, fovea_dtype dtype, int64_t stride, int64_t start,
                        int64_t count) {
    size_t n = (size_t)count;
    if (dtype == FOVEA_F32) {
        const float *p = (const float *)(const void *)row + start * stride;
        if (stride != 1) return vf_load_strided_n(p, stride, n);
        return n == VF_WIDTH ? vf_load(p) : vf_load_n(p, n);
    }
    if (fovea_dtype_size(dtype) == 1) {
        const uint8_t *p = (const uint8_t *)row + start * stride;
        uint8_t lanes[VF_WIDTH];
        for (size_t i = 0; stride != 1 && i < n; i++) lanes[i] = p[(int64_t)i * stride];
        if (stride != 1) p = lanes;
        return dtype == FOVEA_I8 ? vf_load_i8_n(p, n) : vf_load_e4m3_n(p, n);
    }
    const uint16_t *p = (const uint16_t *)(const void *)row + start * stride;
    uint16_t lanes[VF_WIDTH];
    if (stride != 1) {
        for (size_t i = 0; i < n; i++) lanes[i] = p[(int64_t)i * stride];
        p = lanes;
    }
    if (dtype == FOVEA_F16) return n == VF_WIDTH ? vf_load_f16(p) : vf_load_f16_n(p, n);
    return n == VF_WIDTH ? vf_load_bf16(p) : vf_load_bf16_n(p, n);
}

static void store_elements(char *row, fovea_dtype dtype, int64_t stride, int64_t start, vf x,
                           int64_t count) {
    size_t n = (size_t)count;
    if (dtype == FOVEA_F32) {
        float *p = (float *)(void *)row + start * stride, lanes[VF_WIDTH];
        if (stride == 1) {
            vf_store_n(p, x, n);
            return;
        }
        vf_store(lanes, x);
        for (size_t i = 0; i < n; i++) p[(int64_t)i * stride] = lanes[i];
        return;
    }
    uint16_t *p = (uint16_t *)(void *)row + start * stride, halves[VF_WIDTH];
    uint16_t *target = stride == 1 ? p : halves;
    if (dtype == FOVEA_F16)
        vf_store_f16_n(target, x, n);
    else
        vf_store_bf16_n(target, x, n);
    for (size_t i = 0; target == halves && i < n; i++) p[(int64_t)i * stride] = halves[i];
}

/* A row as `size` floats, side by side. The branches stand outside the loops. */
static inline void convert_row(const char *row, fovea_dtype dtype, int64_t stride, int64_t size,
                               float *out) {
    const void *from = row;
    int64_t d = 0, whole = stride == 1 ? size / VF_WIDTH * VF_WIDTH : 0;
    if (dtype == FOVEA_F32)
        for (; d < whole; d += VF_WIDTH) vf_store(out + d, vf_load((const float *)from + d));
    else if (dtype == FOVEA_F16)
        for (; d < whole; d += VF_WIDTH) vf_store(out + d, vf_load_f16((const uint16_t *)from + d));
    else if (dtype == FOVEA_BF16)
        for (; d < whole; d += VF_WIDTH)
            vf_store(out + d, vf_load_bf16((const uint16_t *)from + d));
    else if (dtype == FOVEA_I8)
        for (; d < whole; d += VF_WIDTH) vf_store(out + d, vf_load_i8((const uint8_t *)from + d));
    else
        for (; d < whole; d += VF_WIDTH) vf_store(out + d, vf_load_e4m3((const uint8_t *)from + d));
    for (; d < size; d += VF_WIDTH) {
        int64_t count = smaller(size - d, VF_WIDTH);
        vf_store_n(out + d, load_elements(row, dtype, stride, d, count), (size_t)count);
    }
}

/* Multiplies a converted row j of k or v by its scales. */
static inline void scale_row(const fovea_attention_call *call, const fovea_view *view,
                             const fovea_sequence *sequence, int64_t head, int64_t j, float *row) {
    bool key = view == &call->k;
    const fovea_view *scale = key ? &call->k_scale : &call->v_scale;
    if (!scale->data) return;
    const char *scales = fovea_key_row(call, scale, sequence, head, j);
    int64_t size = view->shape[3], group = key ? call->k_group : call->v_group;
    for (int64_t first = 0; first < size; first += group, scales += scale->stride[3] * 4) {
        float factor;
        memcpy(&factor, scales, sizeof factor);
        for (int64_t d = first; d < first + group; d++) row[d] *= factor;
    }
}

/* `filled` rows, `count` elements of each; other rows and elements are 0. */
VF_INLINE void load_square(const char *const rows[VF_WIDTH], int64_t filled, fovea_dtype dtype,
                           int64_t stride, int64_t d, int64_t count, vf square[VF_WIDTH]) {
    const bool whole = count == VF_WIDTH && filled == VF_WIDTH && stride == 1;
    if (whole && dtype == FOVEA_F32)
        VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++) square[i] =
            vf_load((const float *)(const void *)rows[i] + d);
    else if (whole && dtype == FOVEA_BF16)
        VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++) square[i] =
            vf_load_bf16((const uint16_t *)(const void *)rows[i] + d);
    else
        for (int i = 0; i < VF_WIDTH; i++)
            square[i] = i < filled ? load_elements(rows[i], dtype, stride, d, count) : vf_set1(0);
}

/* Packs `filled` rows as one vector a column: packed[d * pitch] holds element d of each, times
 * factor, and 0 in the lanes after them. */
static inline void pack_rows(const char *const rows[VF_WIDTH], int64_t filled, fovea_dtype dtype,
                             int64_t stride, int64_t size, float factor, float *packed,
                             int64_t pitch) {
    vf square[VF_WIDTH], multiplier = vf_set1(factor);
    for (int64_t d = 0; d < size; d += VF_WIDTH, packed += VF_WIDTH * pitch) {
        int64_t count = smaller(size - d, VF_WIDTH);
        load_square(rows, filled, dtype, stride, d, count, square);
        vf_transpose(square);
        if (count == VF_WIDTH)
            VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++)
                vf_store(packed + i * pitch, vf_mul(square[i], multiplier));
        else
            for (int i = 0; i < count; i++)
                vf_store(packed + i * pitch, vf_mul(square[i], multiplier));
    }
}

/* Bits of a bf16 in the high halves, rounded to nearest even. */
VF_INLINE vi bf16_in_high_half(vf x) {
    vi bits = vf_as_vi(x), last = vi_and(vi_shr(bits, 16), vi_set1(1));
    vi rounded = vi_add(bits, vi_add(last, vi_set1(0x7fff)));
    return vi_select(vf_eq(x, x), rounded, vi_or(bits, vi_set1(0x400000)));
}

/* Of whole rows of bf16: two columns are a word, so half as many words are transposed. */
static inline void unpack_bf16_rows(const float *packed, int64_t pitch, int64_t size, vf factor,
                                    vm empty, char *const rows[VF_WIDTH]) {
    const vf zero = vf_set1(0);
    vf square[VF_WIDTH];
    for (int64_t d = 0; d < size; d += 2 * VF_WIDTH, packed += 2 * VF_WIDTH * pitch) {
        VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++) {
            const float *even = packed + 2 * i * pitch;
            vi low = bf16_in_high_half(vf_select(empty, zero, vf_mul(vf_load(even), factor)));
            vi high =
                bf16_in_high_half(vf_select(empty, zero, vf_mul(vf_load(even + pitch), factor)));
            vi upper = vi_and(high, vi_set1((int32_t)0xffff0000));
            square[i] = vi_as_vf(vi_or(vi_shr(low, 16), upper));
        }
        vf_transpose(square);
        VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++)
            vf_store((float *)(void *)(rows[i] + 2 * d), square[i]);
    }
}

/* The way back: one vector a column, times a factor a lane, into `filled` rows. Lanes where `empty`
 * holds are 0 whatever the columns hold. */
static inline void unpack_rows(const float *packed, int64_t pitch, int64_t size, vf factor,
                               vm empty, char *const rows[VF_WIDTH], int64_t filled,
                               fovea_dtype dtype, int64_t stride) {
    vf square[VF_WIDTH];
    const vf zero = vf_set1(0);
    if (dtype == FOVEA_BF16 && stride == 1 && filled == VF_WIDTH && size % (2 * VF_WIDTH) == 0) {
        unpack_bf16_rows(packed, pitch, size, factor, empty, rows);
        return;
    }
    for (int64_t d = 0; d < size; d += VF_WIDTH, packed += VF_WIDTH * pitch) {
        int64_t count = smaller(size - d, VF_WIDTH);
        if (count == VF_WIDTH)
            VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++) square[i] =
                vf_select(empty, zero, vf_mul(vf_load(packed + i * pitch), factor));
        else
            for (int i = 0; i < VF_WIDTH; i++)
                square[i] =
                    i < count ? vf_select(empty, zero, vf_mul(vf_load(packed + i * pitch), factor))
                              : zero;
        vf_transpose(square);
        if (count == VF_WIDTH && filled == VF_WIDTH && stride == 1 && dtype == FOVEA_F32)
            VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++)
                vf_store((float *)(void *)rows[i] + d, square[i]);
        else if (count == VF_WIDTH && filled == VF_WIDTH && stride == 1 && dtype == FOVEA_F16)
            VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++)
                vf_store_f16((uint16_t *)(void *)rows[i] + d, square[i]);
        else
            for (int i = 0; i < filled; i++)
                store_elements(rows[i], dtype, stride, d, square[i], count);
    }
}

/* Of rows side by side. */
static inline void store_rows(const float *from, int64_t size, vf factor, vm empty,
                              char *const rows[VF_WIDTH], int64_t filled, fovea_dtype dtype,
                              int64_t stride) {
    float factors[VF_WIDTH], kept[VF_WIDTH];
    vf_store(factors, factor);
    vf_store(kept, vf_select(empty, vf_set1(0), vf_set1(1)));
    for (int64_t i = 0; i < filled; i++, from += size) {
        const vf multiplier = vf_set1(factors[i]);
        int64_t d = 0, whole = stride == 1 && kept[i] ? size / VF_WIDTH * VF_WIDTH : 0;
        if (dtype == FOVEA_F32)
            for (; d < whole; d += VF_WIDTH)
                vf_store((float *)(void *)rows[i] + d, vf_mul(vf_load(from + d), multiplier));
        else if (dtype == FOVEA_F16)
            for (; d < whole; d += VF_WIDTH)
                vf_store_f16((uint16_t *)(void *)rows[i] + d,
                             vf_mul(vf_load(from + d), multiplier));
        for (; d < size; d += VF_WIDTH) {
            int64_t count = smaller(size - d, VF_WIDTH);
            vf x = vf_mul(vf_load_n(from + d, (size_t)count), multiplier);
            store_elements(rows[i], dtype, stride, d, kept[i] ? x : vf_set1(0), count);
        }
    }
}

/* ---- Pairs of bf16 in words of 32 bits (attention_pairs.h) ------------------------------------- */

static inline int64_t words_of(int64_t elements) { return (elements + 1) / 2; }

/* The 16 bits of elements [start, start + count) of a row, those after them 0. */
static void load_halves(const char *row, int64_t stride, int64_t start, int64_t count,
                        uint16_t *halves, int64_t size) {
    const uint16_t *p = (const uint16_t *)(const void *)row + start * stride;
    if (stride == 1)
        memcpy(halves, p, (size_t)count * sizeof *halves);
    else
        for (int64_t i = 0; i < count; i++) halves[i] = p[i * stride];
    memset(halves + count, 0, (size_t)(size - count) * sizeof *halves);
}

/* packed[w * pitch]: word w of `filled` rows; `flip` is added to the bits of each word, as a sign. */
static inline void pack_pair_rows(const char *const rows[VF_WIDTH], int64_t filled, int64_t stride,
                                  int64_t size, uint32_t flip, float *packed, int64_t pitch) {
    enum { ELEMENTS = 2 * VF_WIDTH };
    const vi signs = vi_set1((int32_t)flip);
    vf square[VF_WIDTH];
    for (int64_t d = 0; d < size; d += ELEMENTS) {
        int64_t count = smaller(size - d, ELEMENTS);
        if (count == ELEMENTS && filled == VF_WIDTH && stride == 1)
            VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++) square[i] =
                vf_load((const float *)(const void *)(rows[i] + 2 * d));
        else
            for (int i = 0; i < VF_WIDTH; i++) {
                uint16_t halves[ELEMENTS];
                square[i] = vf_set1(0);
                if (i >= filled) continue;
                load_halves(rows[i], stride, d, count, halves, ELEMENTS);
                square[i] = vf_load((const float *)(const void *)halves);
            }
        vf_transpose(square);
        int64_t words = words_of(count);
        for (int64_t i = 0; i < words; i++, packed += pitch)
            vf_store(packed, vi_as_vf(vi_xor(vf_as_vi(square[i]), signs)));
    }
}

/* Words of two rows of v, side by side; `second` is NULL after the last key. */
static inline void interleave_rows(const char *first, const char *second, int64_t stride,
                                   int64_t size, int32_t *words) {
    for (int64_t d = 0; d < size; d += VF_WIDTH) {
        int64_t count = smaller(size - d, VF_WIDTH);
        vi low = vi_shr(vf_as_vi(load_elements(first, FOVEA_BF16, stride, d, count)), 16);
        vi high = vi_set1(0);
        if (second) high = vf_as_vi(load_elements(second, FOVEA_BF16, stride, d, count));
        vi_store_n(words + d, vi_or(low, high), (size_t)count);
    }
}

static inline float head_float(const fovea_view *view, int64_t head) {
    float value;
    memcpy(&value, view->data + head * view->stride[0] * 4, sizeof value);
    return value;
}

/* Positions of queries and keys are compared in 32 bits. */
static inline bool positions_fit(const fovea_attention_call *call, char *reason, size_t size) {
    int64_t offset = call->options->query_offset;
    if (call->key_length <= INT32_MAX && call->query_length <= INT32_MAX &&
        offset <= INT32_MAX / 2 && offset >= -INT32_MAX / 2)
        return true;
    snprintf(reason, size, "it counts positions in 32 bits: Sq %lld, Sk %lld, offset %lld",
             (long long)call->query_length, (long long)call->key_length, (long long)offset);
    return false;
}

#endif
