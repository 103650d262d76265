/* Rows of tensors in and out of tiles: any dtype of the call, any strides, in vectors of VF_WIDTH elements. */
#ifndef FOVEA_CPU_ATTENTION_ATTENTION_ROWS_H
#define FOVEA_CPU_ATTENTION_ATTENTION_ROWS_H

#include "catalogue/attention.h"
#include "cpu/attention/attention_micro.h"
#include "cpu/kernel.h"

/* Elements [start, start + count) of the row at an address as floats; lanes from count on are 0. */
static vf load_elements(const char *row, fovea_dtype dtype, int64_t stride, int64_t start,
                        int64_t count) {
    size_t n = (size_t)count;
    if (dtype == FOVEA_F32) {
        const float *p = (const float *)(const void *)row + start * stride;
        if (stride != 1) return vf_load_strided_n(p, stride, n);
        return n == VF_WIDTH ? vf_load(p) : vf_load_n(p, n);
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
    else
        for (; d < whole; d += VF_WIDTH)
            vf_store(out + d, vf_load_bf16((const uint16_t *)from + d));
    for (; d < size; d += VF_WIDTH) {
        int64_t count = smaller(size - d, VF_WIDTH);
        vf_store_n(out + d, load_elements(row, dtype, stride, d, count), (size_t)count);
    }
}

/* VF_WIDTH rows, VF_WIDTH elements of each. */
VF_INLINE void load_square(const char *const rows[VF_WIDTH], fovea_dtype dtype, int64_t stride,
                           int64_t d, int64_t count, vf square[VF_WIDTH]) {
    if (count == VF_WIDTH && stride == 1 && dtype == FOVEA_F32)
        VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++) square[i] =
            vf_load((const float *)(const void *)rows[i] + d);
    else if (count == VF_WIDTH && stride == 1 && dtype == FOVEA_BF16)
        VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++) square[i] =
            vf_load_bf16((const uint16_t *)(const void *)rows[i] + d);
    else
        for (int i = 0; i < VF_WIDTH; i++)
            square[i] = load_elements(rows[i], dtype, stride, d, count);
}

/* Packs VF_WIDTH rows as one vector a column: packed[d * pitch] holds element d of each, times
 * factor. */
static void pack_rows(const char *const rows[VF_WIDTH], fovea_dtype dtype, int64_t stride,
                      int64_t size, float factor, float *packed, int64_t pitch) {
    vf square[VF_WIDTH], multiplier = vf_set1(factor);
    for (int64_t d = 0; d < size; d += VF_WIDTH, packed += VF_WIDTH * pitch) {
        int64_t count = smaller(size - d, VF_WIDTH);
        load_square(rows, dtype, stride, d, count, square);
        vf_transpose(square);
        if (count == VF_WIDTH)
            VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++)
                vf_store(packed + i * pitch, vf_mul(square[i], multiplier));
        else
            for (int i = 0; i < count; i++)
                vf_store(packed + i * pitch, vf_mul(square[i], multiplier));
    }
}

/* The way back: one vector a column, times a factor a lane, into `filled` rows. Lanes where `empty`
 * holds are 0 whatever the columns hold. */
static void unpack_rows(const float *packed, int64_t pitch, int64_t size, vf factor, vm empty,
                        char *const rows[VF_WIDTH], int64_t filled, fovea_dtype dtype,
                        int64_t stride) {
    vf square[VF_WIDTH];
    const vf zero = vf_set1(0);
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
        else
            for (int i = 0; i < filled; i++)
                store_elements(rows[i], dtype, stride, d, square[i], count);
    }
}

#endif
