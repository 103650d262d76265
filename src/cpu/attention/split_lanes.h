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

enum { SPLIT_LINE = 64 };

/* Rows to be fetched, one after another in the order of memory: requests of one stream, which the processor continues by itself.
 * So many lines of them are asked for at each of the steps beside whose products they are fetched. */
typedef struct split_ahead {
    const char *const *rows, *const *end;
    int64_t row_bytes, at, lines;
} split_ahead;

/* `count` rows, during so many steps. */
VF_INLINE split_ahead split_plan_ahead(const char *const *rows, int64_t count, int64_t row_bytes,
                                       int64_t steps) {
    int64_t lines = count * divide_up(row_bytes, SPLIT_LINE);
    return (split_ahead){rows, rows + count, row_bytes, 0, divide_up(lines, larger(steps, 1))};
}

VF_INLINE void split_fetch(split_ahead *a) {
    for (int64_t i = a->lines; i > 0; i--) {
        __builtin_prefetch(*a->rows + a->at, 0, 2);
        a->at += SPLIT_LINE;
        if (a->at < a->row_bytes) continue;
        a->at = 0;
        if (++a->rows < a->end) continue;
        a->lines = 0;
        break;
    }
}

#endif
