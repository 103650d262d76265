/* What the micro-kernels of split have in common: how many sums they keep, and fetching ahead. */
#ifndef FOVEA_CPU_ATTENTION_SPLIT_LANES_H
#define FOVEA_CPU_ATTENTION_SPLIT_LANES_H

#include "cpu/kernel.h"

/* LANES sums, a vector of a key and one of a query must fit the registers: 32 on AVX-512 and NEON,
 * 16 on AVX2. */
#if defined(FOVEA_TIER_AVX512) || defined(FOVEA_TIER_NEON)
enum { SPLIT_ROWS = 8, SPLIT_LANES = 16 };
#elif defined(FOVEA_TIER_AVX2)
enum { SPLIT_ROWS = 4, SPLIT_LANES = 8 };
#else
enum { SPLIT_ROWS = 4, SPLIT_LANES = 4 };
#endif

/* Lane l: p[index[l]], index < SPLIT_LANES; as many floats may be read there. */
VF_INLINE vf split_spread(const float *p, const int32_t *index) {
#if defined(FOVEA_TIER_AVX512)
    return _mm512_permutexvar_ps(vi_load(index), vf_load(p));
#elif defined(FOVEA_TIER_AVX2)
    return _mm256_permutevar8x32_ps(vf_load(p), vi_load(index));
#else
    float lanes[VF_WIDTH];
    for (int l = 0; l < VF_WIDTH; l++) lanes[l] = p[index[l]];
    return vf_load(lanes);
#endif
}

/* Brings bytes [begin, end) of a row nearer. */
VF_INLINE void split_fetch(const char *row, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += 64) __builtin_prefetch(row + at, 0, 3);
}

#endif
