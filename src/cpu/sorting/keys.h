/* Elements as integers that compare as they do, and back. */
#ifndef FOVEA_CPU_SORTING_KEYS_H
#define FOVEA_CPU_SORTING_KEYS_H

#include "cpu/dense.h"
#include "cpu/simd/simd_order.h"

/* One formula for all: x, of which the bits of `flip` are inverted if its sign is set, less `rotation`,
 * with the bits of `change` inverted. The bits of negative floats but the sign are inverted, then all
 * compare with a sign; NaN of the sign are below -inf, and a rotation by as many as there are brings them
 * above all others. Integers are `change`d alone. */
enum { KEY_NAN_32 = 0x7fffff };
#define KEY_NAN_64 UINT64_C(0xfffffffffffff)

/* The keys of NaN: from that of the first beyond +inf on. */
#define KEY_FIRST_NAN_32 (UINT32_C(0xff800000) - KEY_NAN_32 + 1)
#define KEY_FIRST_NAN_64 (UINT64_C(0xfff0000000000000) - KEY_NAN_64 + 1)

static inline bool key_is_float(fovea_dtype dtype) {
    return dtype == FOVEA_F32 || dtype == FOVEA_F64;
}

#define VECTOR_KEYS(V, T, bits, spread)                                                            \
    typedef struct V##_turn {                                                                      \
        V flip, rotation, change;                                                                  \
    } V##_turn;                                                                                    \
    static inline V##_turn V##_turn_of(turn_##bits t) {                                            \
        return (V##_turn){V##_set1((T)t.flip), V##_set1((T)t.rotation), V##_set1((T)t.change)};    \
    }                                                                                              \
    static inline V V##_key(V##_turn t, V x) {                                                     \
        return V##_xor(V##_sub(V##_xor(x, spread(x, t.flip)), t.rotation), t.change);              \
    }                                                                                              \
    static inline V V##_element(V##_turn t, V key) {                                               \
        V x = V##_add(V##_xor(key, t.change), t.rotation);                                         \
        return V##_xor(x, spread(x, t.flip));                                                      \
    }

/* Turns n elements that stand side by side into keys, or keys into elements. Keys compare without a sign;
 * `also` is exclusive-ored to them: the sign bit, for those that are compared with a sign. */
#define TURN(bits, V, T, W, spread)                                                                \
    typedef struct turn_##bits {                                                                   \
        uint##bits##_t flip, rotation, change;                                                     \
    } turn_##bits;                                                                                 \
    static inline turn_##bits turn_##bits##_of(fovea_dtype dtype, uint##bits##_t also) {           \
        const uint##bits##_t sign = (uint##bits##_t)1 << (bits - 1);                               \
        bool floats = key_is_float(dtype);                                                         \
        return (turn_##bits){floats ? sign - 1 : 0, floats ? KEY_NAN_##bits : 0,                   \
                             (dtype == FOVEA_U32 ? 0 : sign) ^ also};                              \
    }                                                                                              \
    static inline uint##bits##_t spread_##bits(uint##bits##_t x, uint##bits##_t flip) {            \
        return (uint##bits##_t)((int##bits##_t)x >> (bits - 1)) & flip;                            \
    }                                                                                              \
    VECTOR_KEYS(V, T, bits, spread)                                                                \
    static inline void keys_from_##bits(fovea_dtype dtype, const void *from, uint##bits##_t *to,   \
                                        int64_t n, uint##bits##_t also) {                          \
        const dense_uint##bits##_t *x = from;                                                      \
        const turn_##bits t = turn_##bits##_of(dtype, also);                                       \
        const V##_turn turn = V##_turn_of(t);                                                      \
        int64_t i = 0;                                                                             \
        for (; i + W <= n; i += W)                                                                 \
            V##_store((T *)to + i, V##_key(turn, V##_load((const T *)from + i)));                  \
        for (; i < n; i++) to[i] = ((x[i] ^ spread_##bits(x[i], t.flip)) - t.rotation) ^ t.change; \
    }                                                                                              \
    static inline void keys_to_##bits(fovea_dtype dtype, const uint##bits##_t *from, void *to,     \
                                      int64_t n, uint##bits##_t also) {                            \
        dense_uint##bits##_t *x = to;                                                              \
        const turn_##bits t = turn_##bits##_of(dtype, also);                                       \
        const V##_turn turn = V##_turn_of(t);                                                      \
        int64_t i = 0;                                                                             \
        for (; i + W <= n; i += W)                                                                 \
            V##_store((T *)to + i, V##_element(turn, V##_load((const T *)from + i)));              \
        for (; i < n; i++) {                                                                       \
            uint##bits##_t y = (from[i] ^ t.change) + t.rotation;                                  \
            x[i] = y ^ spread_##bits(y, t.flip);                                                   \
        }                                                                                          \
    }
#define SPREAD_WORDS(x, flip) vi_and(vi_sar(x, 31), flip)
#define SPREAD_LONGS(x, flip) vl_select(vl_gt(vl_set1(0), x), flip, vl_set1(0))
TURN(32, vi, int32_t, VF_WIDTH, SPREAD_WORDS)
TURN(64, vl, int64_t, VD_WIDTH, SPREAD_LONGS)

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
