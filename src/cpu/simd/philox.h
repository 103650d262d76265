/* Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011) on VF_WIDTH counters at a time: the same words as
 * fovea_philox. On AVX-512 a round of all lanes takes twelve operations, so 2 for each word that
 * comes out: the 64-bit products of even and of odd lanes are kept as they come, high halves shifted
 * down. */
#ifndef FOVEA_CPU_SIMD_PHILOX_H
#define FOVEA_CPU_SIMD_PHILOX_H

#include "simd.h"

#include <math.h>

enum { VI_PHILOX_ROUNDS = 10 };

/* The keys of the rounds. */
typedef struct vi_philox_keys {
    uint32_t words[VI_PHILOX_ROUNDS][2];
} vi_philox_keys;

static inline vi_philox_keys vi_philox_begin(uint64_t seed) {
    vi_philox_keys keys;
    for (uint32_t r = 0; r < VI_PHILOX_ROUNDS; r++) {
        keys.words[r][0] = (uint32_t)seed + r * 0x9E3779B9u;
        keys.words[r][1] = (uint32_t)(seed >> 32) + r * 0xBB67AE85u;
    }
    return keys;
}

#if VF_WIDTH >= 8
/* The even lanes of so many sets of counters, side by side; what lies in the odd ones is never looked at. */
VF_INLINE void vi_philox_even(const int sets, vi state[][4], const vi_philox_keys *keys) {
    const vi first = vi_set1((int32_t)0xD2511F53u), second = vi_set1((int32_t)0xCD9E8D57u);
    VF_UNROLLED for (int r = 0; r < VI_PHILOX_ROUNDS; r++) {
        vi low = vi_set1((int32_t)keys->words[r][0]), high = vi_set1((int32_t)keys->words[r][1]);
        VF_UNROLLED for (int i = 0; i < sets; i++) {
            vi x = vi_mul_even(state[i][0], first), y = vi_mul_even(state[i][2], second);
            state[i][0] = vi_xor3(vi_odd_to_even(y), state[i][1], low);
            state[i][1] = y;
            state[i][2] = vi_xor3(vi_odd_to_even(x), state[i][3], high);
            state[i][3] = x;
        }
    }
}

/* state[i][w], lane l: the counter's word w becomes the generator's. Two sets at a time keep the multiplier busy. */
VF_INLINE void vi_philox_sets(const int sets, vi state[][4], const vi_philox_keys *keys) {
    vi halves[4][4];
    VF_UNROLLED for (int i = 0; i < sets; i++) VF_UNROLLED for (int w = 0; w < 4; w++) {
        halves[2 * i][w] = state[i][w];
        halves[2 * i + 1][w] = vi_odd_to_even(state[i][w]);
    }
    vi_philox_even(2 * sets, halves, keys);
    VF_UNROLLED for (int i = 0; i < sets; i++) VF_UNROLLED for (int w = 0; w < 4; w++) state[i][w] =
        vi_merge(halves[2 * i][w], halves[2 * i + 1][w]);
}
#else
VF_INLINE void vi_philox_sets(const int sets, vi state[][4], const vi_philox_keys *keys) {
    const vi first = vi_set1((int32_t)0xD2511F53u), second = vi_set1((int32_t)0xCD9E8D57u);
    VF_UNROLLED for (int r = 0; r < VI_PHILOX_ROUNDS; r++) {
        vi below = vi_set1((int32_t)keys->words[r][0]), above = vi_set1((int32_t)keys->words[r][1]);
        VF_UNROLLED for (int i = 0; i < sets; i++) {
            vi high = vi_mul_high(state[i][0], first), low = vi_mul(state[i][0], first);
            state[i][0] = vi_xor3(vi_mul_high(state[i][2], second), state[i][1], below);
            state[i][1] = vi_mul(state[i][2], second);
            state[i][2] = vi_xor3(high, state[i][3], above);
            state[i][3] = low;
        }
    }
}
#endif

/* words[w], lane l: word w of the generator at counter (counter[0], ..., counter[3]), lane l. */
VF_INLINE void vi_philox(const vi counter[4], const vi_philox_keys *keys, vi words[4]) {
    vi state[1][4] = {{counter[0], counter[1], counter[2], counter[3]}};
    vi_philox_sets(1, state, keys);
    VF_UNROLLED for (int w = 0; w < 4; w++) words[w] = state[0][w];
}

/* Uniform on [0, 1) in steps of 2^-24, as prng_uniform defines it. */
VF_INLINE vf vi_philox_uniform(vi word) {
    return vf_mul(vf_from_vi(vi_shr(word, 8)), vf_set1(0x1p-24f));
}

/* uniform >= limit, as word >> 8 >= ceil(2^24 limit) in integers; of any limit, and NaN is below all. */
static inline vi vi_philox_limit(float limit) {
    return vi_set1((int32_t)ceilf(fminf(fmaxf(limit, 0), 1) * 0x1p24f) - 1);
}
VF_INLINE vm vi_philox_at_least(vi word, vi limit) { return vi_gt(vi_shr(word, 8), limit); }

#endif
