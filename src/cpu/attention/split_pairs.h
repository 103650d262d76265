/* Where scores of bf16 come from products of pairs; see split_pairs.c. */
#ifndef FOVEA_CPU_ATTENTION_SPLIT_PAIRS_H
#define FOVEA_CPU_ATTENTION_SPLIT_PAIRS_H

#include "cpu/attention/split_lanes.h"
#include "runtime/processor.h"

/* As the scores of split_kernels, with q as it is stored, not scaled: [rows][pitch] bf16. */
typedef void split_pair_scores(int64_t groups, int64_t size, const uint16_t *q, int64_t pitch,
                               const char *const *k, const char *const *ahead, int64_t ahead_bytes,
                               float *s);

/* By log2 of the rows of a tile; NULL where the processor or the tier cannot. */
#if defined(FOVEA_TIER_AVX512)
extern split_pair_scores *const fovea_split_pairs_avx512[4];
static inline split_pair_scores *const *split_find_pairs(void) {
    return fovea_processor_get()->avx512_bf16 ? fovea_split_pairs_avx512 : NULL;
}
#else
static inline split_pair_scores *const *split_find_pairs(void) { return NULL; }
#endif

#endif
