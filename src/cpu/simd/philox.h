/* Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011) on VF_WIDTH counters at a time: the same words as
 * fovea_philox. Fourteen operations a round on AVX-512, so 2.2 for each word that comes out. */
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

/* words[w], lane i: word w of the generator at counter (counter[0], ..., counter[3]), lane i. */
VF_INLINE void vi_philox(const vi counter[4], const vi_philox_keys *keys, vi words[4]) {
    const vi first = vi_set1((int32_t)0xD2511F53u), second = vi_set1((int32_t)0xCD9E8D57u);
    vi a = counter[0], b = counter[1], c = counter[2], d = counter[3];
    VF_UNROLLED for (int r = 0; r < VI_PHILOX_ROUNDS; r++) {
        vi high = vi_mul_high(a, first), low = vi_mul(a, first);
        a = vi_xor3(vi_mul_high(c, second), b, vi_set1((int32_t)keys->words[r][0]));
        b = vi_mul(c, second);
        c = vi_xor3(high, d, vi_set1((int32_t)keys->words[r][1]));
        d = low;
    }
    words[0] = a, words[1] = b, words[2] = c, words[3] = d;
}

/* Uniform on [0, 1) in steps of 2^-24, as prng_uniform defines it. */
VF_INLINE vf vi_philox_uniform(vi word) {
    return vf_mul(vf_from_vi(vi_shr(word, 8)), vf_set1(0x1p-24f));
}

/* uniform >= limit, as word >> 8 >= ceil(2^24 limit) in integers. */
static inline vi vi_philox_limit(float limit) {
    return vi_set1((int32_t)ceilf(limit * 0x1p24f) - 1);
}
VF_INLINE vm vi_philox_at_least(vi word, vi limit) { return vi_gt(vi_shr(word, 8), limit); }

#endif
