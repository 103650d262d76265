/* Products of split by units for pairs of bf16 or bytes: split_pairs.c, split_integers.c, and tiles (split_tiles.h). */
#ifndef FOVEA_CPU_ATTENTION_SPLIT_PAIRS_H
#define FOVEA_CPU_ATTENTION_SPLIT_PAIRS_H

#include "cpu/attention/split_lanes.h"
#include "runtime/processor.h"

/* As split_kernels. Queries are as they are stored, not scaled, and packed row by row (`number`) into zeros, two floats' room or
 * one for each element (`query_floats`) and some for all (`query_more`); weights are packed in place (NULL: they are used as they
 * are). The kernels know how, and say no (false) to rows and weights that they do not suit. */
typedef struct split_pair_kernels {
    int query_floats, query_more;
    bool rounded; /* scores have an error of their own, below that of rounding them to bf16 */
    bool (*pack_query)(const char *row, int64_t stride, int64_t size, int64_t number, uint16_t *q);
    void (*scores)(int64_t groups, int64_t size, const uint16_t *q, const char *const *k,
                   const char *const *ahead, int64_t ahead_bytes, float *s);
    bool (*pack_weights)(int64_t groups, float *s);
    void (*values)(int64_t keys, int64_t size, const char *const *v, const char *const *ahead,
                   int64_t ahead_bytes, const float *p, float *out, int64_t pitch);
} split_pair_kernels;

/* By log2 of the rows of a tile; NULL where the processor, the tier or the dtypes have none. */
#if defined(FOVEA_TIER_AMX)
static inline const split_pair_kernels *split_find_pairs(fovea_dtype queries,
                                                         fovea_dtype cache); /* split_tiles.h */
#elif defined(FOVEA_TIER_AVX512)
extern const split_pair_kernels fovea_split_pairs_avx512[FOVEA_DTYPE_COUNT][4];
extern const split_pair_kernels fovea_split_halves_avx512[FOVEA_DTYPE_COUNT][4];
extern const split_pair_kernels fovea_split_integers_avx512[4];
static inline const split_pair_kernels *split_find_pairs(fovea_dtype queries, fovea_dtype cache) {
    const fovea_processor *processor = fovea_processor_get();
    if (queries != FOVEA_BF16 || !processor->avx512_bf16 || !processor->avx512_vbmi) return NULL;
    if (processor->slow_dot_bf16 && processor->avx512_vnni && cache == FOVEA_I8)
        return fovea_split_integers_avx512;
    const split_pair_kernels *found = processor->slow_dot_bf16 ? fovea_split_halves_avx512[cache]
                                                               : fovea_split_pairs_avx512[cache];
    return found->scores ? found : NULL;
}
#else
static inline const split_pair_kernels *split_find_pairs(fovea_dtype queries, fovea_dtype cache) {
    (void)queries, (void)cache;
    return NULL;
}
#endif

#endif
