/* The products of sage attention on tiles of query rows across vector lanes, as in attention_micro.h, with integers or bf16
 * packed into 32-bit lanes along what is summed over: head dimensions in q k^T, keys in p v. Compiled once a tier, and again
 * for extensions of it, of which the processor's best is chosen when a call runs. */
#ifndef FOVEA_CPU_ATTENTION_SAGE_KERNELS_H
#define FOVEA_CPU_ATTENTION_SAGE_KERNELS_H

#include "cpu/kernel.h"
#include "runtime/processor.h"

#include <stdbool.h>
#include <stdint.h>

/* Keys, quantised: rows of `words` words with a scale and the start of their sums each. */
typedef struct sage_keys {
    const int32_t *data;
    int64_t words;
    const float *scale;
    const int32_t *start;
} sage_keys;

/* Lines of a tile (queries, weights) are `pitch` floats apart and hold bits, packed or not. */
typedef struct sage_kernels {
    int elements; /* integers in a word: 4 of 8 bits or 2 of 16 */
    int offset;   /* what is added to elements of queries */
    /* Words of q, k and of the keys of a column of values come in whole steps; with more than one word, those of a step of keys
     * lie side by side, column by column, with columns in sixteens. A step begins at a multiple of so many keys, 4 or 64; behind
     * the last key spare ones are read. */
    int step_words, step_keys, spare_keys;
    float weight_max;                  /* integer weights lie between 0 and this */
    bool bf16;                         /* whether there is a product of bf16 weights and values */
    void (*begin)(void), (*end)(void); /* around an item of work; NULL: nothing to do */
    /* s[key][rows] = row_scale[row] scale[key] (q k) + row_shift[row]; `maximum` takes them in. */
    void (*scores)(int vectors, int64_t keys, const sage_keys *k, const float *q, int64_t pitch,
                   const float *row_scale, const float *row_shift, float *s, float *maximum);
    /* The same of 16-bit integers, without starts and shifts, for exact attention; NULL where there is no instruction. */
    void (*short_scores)(int vectors, int64_t keys, const sage_keys *k, const float *q,
                         int64_t pitch, const float *row_scale, float *s, float *maximum);
    /* In place, scores [keys][rows] into packed 2^(s - shift); their sums, before they are rounded,
     * into `sum`. With `ready` the weights themselves are given, and sums are not touched. */
    void (*integer_weights)(int vectors, int64_t keys, int64_t pitch, float *s, const float *shift,
                            float *sum, bool ready);
    void (*bf16_weights)(int vectors, int64_t keys, int64_t pitch, float *s, const float *shift,
                         float *sum, bool ready);
    /* out[column][rows] += factor[row] scale[column] (p v) over `steps` words of keys; value words lie
     * [steps][columns]. The product of bf16 has no scale. */
    void (*integer_values)(int vectors, int64_t steps, int64_t columns, const float *p,
                           int64_t pitch, const int32_t *values, const float *scale,
                           const float *factor, float *out);
    void (*bf16_values)(int vectors, int64_t steps, int64_t columns, const float *p, int64_t pitch,
                        const int32_t *values, const float *scale, const float *factor, float *out);
} sage_kernels;

extern const sage_kernels FOVEA_TIERED(fovea_sage_kernels);
#if defined(FOVEA_TIER_AMX)
#elif defined(FOVEA_TIER_AVX512)
extern const sage_kernels fovea_sage_kernels_avx512_vnni, fovea_sage_kernels_avx512_bf16;
#elif defined(FOVEA_TIER_AVX2)
extern const sage_kernels fovea_sage_kernels_avx2_vnni;
#elif defined(FOVEA_TIER_NEON)
extern const sage_kernels fovea_sage_kernels_neon_dot;
#endif

/* The best that the processor has. */
static inline const sage_kernels *find_sage_kernels(void) {
    const fovea_processor *processor = fovea_processor_get();
    (void)processor;
#if defined(FOVEA_TIER_AMX)
#elif defined(FOVEA_TIER_AVX512)
    if (processor->avx512_vnni && processor->avx512_bf16) return &fovea_sage_kernels_avx512_bf16;
    if (processor->avx512_vnni) return &fovea_sage_kernels_avx512_vnni;
#elif defined(FOVEA_TIER_AVX2)
    if (processor->avx_vnni) return &fovea_sage_kernels_avx2_vnni;
#elif defined(FOVEA_TIER_NEON)
    if (processor->neon_dot) return &fovea_sage_kernels_neon_dot;
#endif
    return &FOVEA_TIERED(fovea_sage_kernels);
}

#endif
