/* The products of sage attention on tiles of query rows across vector lanes, as in attention_micro.h, with integers or bf16
 * packed into 32-bit lanes along what is summed over: head dimensions in q k^T, keys in p v. Compiled once a tier, and again
 * for extensions of it, of which the processor's best is chosen when a call runs. */
#ifndef FOVEA_CPU_ATTENTION_SAGE_KERNELS_H
#define FOVEA_CPU_ATTENTION_SAGE_KERNELS_H

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
    int elements;     /* integers in a word: 4 of 8 bits or 2 of 16 */
    int offset;       /* what is added to elements of queries */
    float weight_max; /* integer weights lie between 0 and this */
    bool bf16;        /* whether there is a product of bf16 weights and values */
    /* s[key][rows] = row_scale[row] scale[key] (q k) + row_shift[row]; `maximum` takes them in. */
    void (*scores)(int vectors, int64_t keys, const sage_keys *k, const float *q, int64_t pitch,
                   const float *row_scale, const float *row_shift, float *s, float *maximum);
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

#endif
