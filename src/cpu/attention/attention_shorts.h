/* Scores of f16 from 16-bit integers: one instruction adds two exact products to a lane, at twice the rate of the multiply-add.
 *
 * Each row of q and k is scaled until its length is that of the root of 2^31, so that no product of two rows leaves 32 bits
 * (Cauchy and Schwarz; sums on the way may wrap), or its largest element is 2^15, and rounded to nearest. A score is then off by
 * scale |q| |k| 2^-16.8 (root mean square, both roundings), where f16 itself rounds a score of rows in any directions,
 * scale |q| |k| / sqrt(D) in size, by 2^-13: half of that at D = 64, and as much at D = 256. That is within the bound of
 * f16, twice the error of arithmetic in f16, but not within that of lse, which is f32's; and not after a softcap or a bias, which
 * take away the size of a score and leave its error. */
#ifndef FOVEA_CPU_ATTENTION_ATTENTION_SHORTS_H
#define FOVEA_CPU_ATTENTION_ATTENTION_SHORTS_H

#include "cpu/attention/attention_tile.h"
#include "cpu/simd/simd_dot.h"

VF_INLINE vi pack_integers(const int elements, const vi *x) {
    return elements == 4 ? vi_pack_bytes(x) : vi_pack_shorts(x);
}

/* Line i of words holds lines i, i + count, i + 2 count, ... of the packed queries of one vector, in place: it overwrites the
 * first of those it is made of. */
VF_INLINE void pack_lines(const int elements, int64_t count, int64_t size, int offset, float *q,
                          vf inverse, vm wrong) {
    for (int64_t i = 0; i < count; i++) {
        vi x[4];
        VF_UNROLLED for (int e = 0; e < elements; e++) {
            int64_t d = e * count + i;
            vf value = d < size ? vf_mul(vf_load(q + d * TILE_ROWS), inverse) : vf_set1(0);
            x[e] = vi_add(vi_from_vf(vf_select(wrong, vf_set1(0), value)), vi_set1(offset));
        }
        vf_store(q + i * TILE_ROWS, vi_as_vf(pack_integers(elements, x)));
    }
}

/* Elements [start, start + count) of a row of which there are `size`; 0 beyond them. */
VF_INLINE vf load_within(const char *row, fovea_dtype dtype, int64_t stride, int64_t size,
                         int64_t start, int64_t count) {
    int64_t n = smaller(count, larger(size - start, 0));
    return n > 0 ? load_elements(row, dtype, stride, start, n) : vf_set1(0);
}

/* What a row is multiplied by, from its length and its largest element; both roundings of a product included. */
VF_INLINE float short_factor(float squares, float largest, int64_t size) {
    float length = 46340 - 1 - sqrtf((float)size) / 2, of_row = sqrtf(squares);
    float by_length = length / (of_row > smallest_absmax ? of_row : smallest_absmax);
    float by_element = 32767 / (largest > smallest_absmax ? largest : smallest_absmax);
    return by_length < by_element ? by_length : by_element;
}

/* `whole`: f16 with unit stride, in whole vectors of words. */
VF_INLINE float pack_short_row(const bool whole, const char *row, fovea_dtype dtype, int64_t stride,
                               int64_t size, int64_t words, int32_t *packed) {
    const uint16_t *halves = (const uint16_t *)(const void *)row;
    vf squares = vf_set1(0), largest = vf_set1(0);
    for (int64_t d = 0; d < size; d += VF_WIDTH) {
        vf x = whole ? vf_load_f16(halves + d) : load_within(row, dtype, stride, size, d, VF_WIDTH);
        squares = vf_fma(x, x, squares), largest = vf_max(vf_abs(x), largest);
    }
    float sum = vf_reduce_add(squares), factor = short_factor(sum, vf_reduce_max(largest), size);
    if (!isfinite(sum)) return NAN;
    const vf multiplier = vf_set1(factor);
    for (int64_t i = 0; i < words; i += VF_WIDTH) {
        int64_t n = smaller(words - i, VF_WIDTH);
        vi x[2];
        VF_UNROLLED for (int e = 0; e < 2; e++) {
            vf y = whole ? vf_load_f16(halves + e * words + i)
                         : load_within(row, dtype, stride, size, e * words + i, n);
            x[e] = vi_from_vf(vf_mul(y, multiplier));
        }
        if (whole)
            vi_store(packed + i, vi_pack_shorts(x));
        else
            vi_store_n(packed + i, vi_pack_shorts(x), (size_t)n);
    }
    return 1 / factor;
}

/* A row of k as words of two elements, i and i + words. Returns its scale; NaN if an element is not finite. */
static float pack_short_key(const char *row, fovea_dtype dtype, int64_t stride, int64_t size,
                            int64_t words, int32_t *packed) {
    if (dtype == FOVEA_F16 && stride == 1 && size % (2 * VF_WIDTH) == 0)
        return pack_short_row(true, row, dtype, stride, size, words, packed);
    return pack_short_row(false, row, dtype, stride, size, words, packed);
}

/* The packed queries of a tile become words of two elements, and `scale` gets a lane's scale. Returns false if an element is not
 * finite: the queries are of no use then. */
static inline bool pack_short_queries(tile *t, int64_t size, int64_t words) {
    bool finite = true;
    for (int v = 0; v < t->vectors; v++) {
        float *q = t->q + v * VF_WIDTH, sums[VF_WIDTH], largest[VF_WIDTH], factors[VF_WIDTH];
        vf squares = vf_set1(0), most = vf_set1(0);
        for (int64_t d = 0; d < size; d++) {
            vf x = vf_load(q + d * TILE_ROWS);
            squares = vf_fma(x, x, squares), most = vf_max(vf_abs(x), most);
        }
        vf_store(sums, squares), vf_store(largest, most);
        for (int i = 0; i < VF_WIDTH; i++) {
            finite = finite && isfinite(sums[i]);
            factors[i] = short_factor(sums[i], largest[i], size);
            t->scale[v * VF_WIDTH + i] = 1 / factors[i];
        }
        pack_lines(2, words, size, 0, q, vf_load(factors), vm_first(0));
    }
    return finite;
}

#endif
