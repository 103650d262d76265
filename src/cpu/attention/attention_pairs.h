/* Attention of bf16 by products of pairs: one instruction adds two products to a float, at twice the rate of the
 * multiply-add. The elements of a pair lie side by side in a 32-bit word: q and k hold neighbours along
 * the head, p and v neighbouring keys. Rows of k are read as they lie; queries are packed in words
 * instead of floats, and a block of v is interleaved two rows at a time. Queries stay unscaled, so that they are not
 * rounded again: a score times `unit` is in units of log 2. p is rounded to bf16, its sum is of what was not rounded. The
 * instruction takes subnormal bf16 for 0. */
#ifndef FOVEA_CPU_ATTENTION_ATTENTION_PAIRS_H
#define FOVEA_CPU_ATTENTION_ATTENTION_PAIRS_H

#include "cpu/attention/attention_groups.h"

/* As micro_kernels in attention_micro.h; the pitch is TILE_ROWS. */
typedef struct pair_kernels {
    void (*scores)(int64_t keys, int64_t words, const int32_t *q, const uint16_t *k,
                   int64_t key_stride, float *s, float *maximum);
    void (*values)(int64_t pairs, int64_t value_size, const int32_t *p, const int32_t *v,
                   float *out, bool first);
    /* Scores become words in place, two rows one; after an odd number the last is paired with 0. */
    void (*exponentials)(int64_t keys, float *s, float unit, const float *reference,
                         float *block_sum);
} pair_kernels;

/* By vectors of rows; NULL where the processor or the tier cannot. */
static inline const pair_kernels *find_pair_kernels(void);

#if defined(FOVEA_TIER_AVX512)
extern const pair_kernels fovea_attention_pairs_avx512[TILE_VECTORS + 1];
static inline const pair_kernels *find_pair_kernels(void) {
    const fovea_processor *processor = fovea_processor_get();
    return processor->avx512_bf16 && !processor->slow_dot_bf16 ? fovea_attention_pairs_avx512
                                                               : NULL;
}
#else
static inline const pair_kernels *find_pair_kernels(void) { return NULL; }
#endif

#endif
