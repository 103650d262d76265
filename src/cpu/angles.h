/* Cosines and sines of rotary embedding: position times frequency, in turns and in double, so that
 * reducing to the nearest quarter is exact; what remains, at most an eighth of a turn, is a float. An
 * angle in f32 would be off by a radian at positions near 2^24; this way the error of a turn is
 * 2^24 * 2^-53, and that of the result 1 ULP. */
#ifndef FOVEA_CPU_ANGLES_H
#define FOVEA_CPU_ANGLES_H

#include "cpu/kernel.h"
#include "cpu/simd/simd_turns.h"

#include <math.h>

/* Turns a position, of each pair j: base^(-j/pairs) / 2 pi. */
static inline void angles_frequencies(double base, int64_t pairs, double *turns) {
    for (int64_t j = 0; j < pairs; j++)
        turns[j] = pow(base, -(double)j / (double)pairs) * 0.15915494309189533577;
}

/* Of n pairs at a position. Beyond 2^50 quarters, or where the turns are not finite, NaN. */
static inline void angles_at(const double *turns, double position, int64_t n, float *cosines,
                             float *sines) {
    for (int64_t j = 0; j < n; j += VF_WIDTH) {
        int64_t count = smaller(n - j, VF_WIDTH);
        float rest[VF_WIDTH] = {0};
        int32_t quarter[VF_WIDTH] = {0};
        for (int64_t l = 0; l < count; l++) {
            double quarters = 4 * (position * turns[j + l]);
            double nearest = quarters + 0x1.8p52; /* whose low bits are the nearest integer */
            int64_t bits;
            memcpy(&bits, &nearest, sizeof bits);
            quarter[l] = (int32_t)(bits & 3);
            rest[l] = (float)(0.25 * (quarters - (nearest - 0x1.8p52)));
            if (!(fabs(quarters) < 0x1p50)) rest[l] = NAN;
        }
        vf cosine, sine;
        vf_sin_cos_of_turn(vi_load(quarter), vf_load(rest), &sine, &cosine);
        vf_store_n(cosines + j, cosine, (size_t)count);
        vf_store_n(sines + j, sine, (size_t)count);
    }
}

/* A row whose pairs are j and j + pairs; y may be x. */
FOVEA_INLINE void angles_rotate_half(fovea_dtype dtype, const void *x, const float *cosines,
                                     const float *sines, int64_t pairs, void *y) {
    enum { W = VF_WIDTH };
#define ROTATE(load, store, table, ...)                                                            \
    {                                                                                              \
        vf a = load(dtype, x, j __VA_ARGS__), b = load(dtype, x, pairs + j __VA_ARGS__);           \
        vf c = table(cosines), s = table(sines);                                                   \
        vf first = vf_fms(a, c, vf_mul(b, s)), second = vf_fma(a, s, vf_mul(b, c));                \
        store(first, j), store(second, pairs + j);                                                 \
    }
#define TABLE(t) vf_load(t + j)
#define TABLE_REST(t) vf_load_n(t + j, (size_t)n)
#define STORE(value, at) vf_store_as(dtype, y, at, value)
#define STORE_REST(value, at) vf_store_n_as(dtype, y, at, value, n)
    int64_t j = 0, n;
    for (; j + W <= pairs; j += W) ROTATE(vf_load_as, STORE, TABLE)
    n = pairs - j;
    if (n > 0) ROTATE(vf_load_n_as, STORE_REST, TABLE_REST, , n)
#undef ROTATE
#undef TABLE
#undef TABLE_REST
#undef STORE
#undef STORE_REST
}

/* A row of floats whose pairs are 2j and 2j + 1; y may be x. */
static inline void angles_rotate_interleaved(const float *x, const float *cosines,
                                             const float *sines, int64_t pairs, float *y) {
    for (int64_t j = 0; j < pairs; j++) {
        float a = x[2 * j], b = x[2 * j + 1];
        y[2 * j] = a * cosines[j] - b * sines[j];
        y[2 * j + 1] = a * sines[j] + b * cosines[j];
    }
}

#endif
