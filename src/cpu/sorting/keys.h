/* Elements as integers that compare as they do, and back. */
#ifndef FOVEA_CPU_SORTING_KEYS_H
#define FOVEA_CPU_SORTING_KEYS_H

#include "cpu/dense.h"
#include "cpu/simd/simd_order.h"

/* Floats of 32 bits: without a sign they compare as they do once the bits of negative ones are inverted
 * and the sign of others is set. NaN of the sign are below -inf then; a rotation by as many as there are
 * brings them above all others, and can be undone. */
enum { KEY_NAN_32 = 0x7fffff };
#define KEY_NAN_64 UINT64_C(0xfffffffffffff)

#define KEYS(bits, all)                                                                            \
    static inline uint##bits##_t key_of_float_##bits(uint##bits##_t x) {                           \
        uint##bits##_t sign = (uint##bits##_t)1 << (bits - 1);                                     \
        return (x ^ ((uint##bits##_t)((int##bits##_t)x >> (bits - 1)) | sign)) -                   \
               (uint##bits##_t)KEY_NAN_##bits;                                                     \
    }                                                                                              \
    static inline uint##bits##_t float_of_key_##bits(uint##bits##_t key) {                         \
        uint##bits##_t sign = (uint##bits##_t)1 << (bits - 1);                                     \
        uint##bits##_t x = key + (uint##bits##_t)KEY_NAN_##bits;                                   \
        return x & sign ? x ^ sign : ~x;                                                           \
    }
KEYS(32, UINT32_MAX)
KEYS(64, UINT64_MAX)

/* The keys of NaN: from that of the first beyond +inf on. */
#define KEY_FIRST_NAN_32 (UINT32_C(0xff800000) - KEY_NAN_32 + 1)
#define KEY_FIRST_NAN_64 (UINT64_C(0xfff0000000000000) - KEY_NAN_64 + 1)

static inline bool key_is_float(fovea_dtype dtype) {
    return dtype == FOVEA_F32 || dtype == FOVEA_F64;
}
/* What integers are changed by to compare without a sign. */
static inline uint64_t key_sign(fovea_dtype dtype) {
    return dtype == FOVEA_I32 ? UINT64_C(1) << 31 : dtype == FOVEA_I64 ? UINT64_C(1) << 63 : 0;
}

/* The first elements in vectors; how many. Integers are `change`d alone. */
static inline int64_t turn_vectors_32(bool floats, bool to_keys, const void *from, void *to,
                                      int64_t n, uint32_t change) {
    const vi sign = vi_set1(INT32_MIN), nan = vi_set1(KEY_NAN_32), other = vi_set1((int32_t)change);
    int64_t i = 0;
    for (; i + VF_WIDTH <= n; i += VF_WIDTH) {
        vi x = vi_load((const int32_t *)from + i);
        if (floats && to_keys) x = vi_sub(vi_xor(x, vi_or(vi_sar(x, 31), sign)), nan);
        x = vi_xor(x, other);
        if (floats && !to_keys) {
            x = vi_add(x, nan);
            x = vi_xor(x, vi_or(vi_xor(vi_sar(x, 31), vi_set1(-1)), sign));
        }
        vi_store((int32_t *)to + i, x);
    }
    return i;
}
static inline int64_t turn_vectors_64(bool floats, bool to_keys, const void *from, void *to,
                                      int64_t n, uint64_t change) {
    const vl sign = vl_set1(INT64_MIN), nan = vl_set1((int64_t)KEY_NAN_64), all = vl_set1(-1);
    const vl zero = vl_set1(0), other = vl_set1((int64_t)change);
    int64_t i = 0;
    for (; i + VD_WIDTH <= n; i += VD_WIDTH) {
        vl x = vl_load((const int64_t *)from + i);
        if (floats && to_keys) x = vl_sub(vl_xor(x, vl_select(vl_gt(zero, x), all, sign)), nan);
        x = vl_xor(x, other);
        if (floats && !to_keys) {
            x = vl_add(x, nan);
            x = vl_xor(x, vl_select(vl_gt(zero, x), sign, all));
        }
        vl_store((int64_t *)to + i, x);
    }
    return i;
}

/* Turns n elements that stand side by side into keys, or keys into elements; `also` is exclusive-ored to
 * the keys: the sign bit, for those that are compared with a sign. */
#define TURN(bits)                                                                                 \
    static inline void keys_from_##bits(fovea_dtype dtype, const void *from, uint##bits##_t *to,   \
                                        int64_t n, uint##bits##_t also) {                          \
        const dense_uint##bits##_t *x = from;                                                      \
        uint##bits##_t change = (uint##bits##_t)key_sign(dtype) ^ also;                            \
        if (key_is_float(dtype))                                                                   \
            for (int64_t i = turn_vectors_##bits(true, true, from, to, n, change); i < n; i++)     \
                to[i] = key_of_float_##bits(x[i]) ^ change;                                        \
        else                                                                                       \
            for (int64_t i = turn_vectors_##bits(false, true, from, to, n, change); i < n; i++)    \
                to[i] = x[i] ^ change;                                                             \
    }                                                                                              \
    static inline void keys_to_##bits(fovea_dtype dtype, const uint##bits##_t *from, void *to,     \
                                      int64_t n, uint##bits##_t also) {                            \
        dense_uint##bits##_t *x = to;                                                              \
        uint##bits##_t change = (uint##bits##_t)key_sign(dtype) ^ also;                            \
        if (key_is_float(dtype))                                                                   \
            for (int64_t i = turn_vectors_##bits(true, false, from, to, n, change); i < n; i++)    \
                x[i] = float_of_key_##bits(from[i] ^ change);                                      \
        else                                                                                       \
            for (int64_t i = turn_vectors_##bits(false, false, from, to, n, change); i < n; i++)   \
                x[i] = from[i] ^ change;                                                           \
    }
TURN(32)
TURN(64)

/* The same of elements [first, first + n) of a view, by blocks where they do not stand side by side. */
enum { TURN_BLOCK = 1024 };

#define TURN_VIEW(bits)                                                                            \
    static inline void keys_read_##bits(const fovea_view *view, int64_t first, int64_t n,          \
                                        uint##bits##_t *keys, uint##bits##_t also) {               \
        const void *place = dense_place(view, first, n);                                           \
        if (place) {                                                                               \
            keys_from_##bits(view->dtype, place, keys, n, also);                                   \
            return;                                                                                \
        }                                                                                          \
        dense_read(view, first, n, keys);                                                          \
        keys_from_##bits(view->dtype, keys, keys, n, also);                                        \
    }                                                                                              \
    static inline void keys_write_##bits(const fovea_view *view, int64_t first, int64_t n,         \
                                         const uint##bits##_t *keys, uint##bits##_t also) {        \
        uint##bits##_t block[TURN_BLOCK];                                                          \
        void *place = dense_place(view, first, n);                                                 \
        if (place) keys_to_##bits(view->dtype, keys, place, n, also);                              \
        for (int64_t i = 0; i < n && !place; i += TURN_BLOCK) {                                    \
            int64_t count = smaller(TURN_BLOCK, n - i);                                            \
            keys_to_##bits(view->dtype, keys + i, block, count, also);                             \
            dense_write(view, first + i, count, block);                                            \
        }                                                                                          \
    }
TURN_VIEW(32)
TURN_VIEW(64)

#endif
