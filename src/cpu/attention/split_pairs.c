/* Scores of bf16 queries and keys by products of pairs (AVX512-BF16), where the processor has them:
 * half the multiply-adds of split_micro.h and no conversions. Compiled for that unit alone. */
#include "cpu/attention/split_pairs.h"

VF_INLINE void pair_scores(const int rows, int64_t groups, int64_t size, const uint16_t *q,
                           int64_t pitch, const char *const *k, const char *const *ahead,
                           int64_t ahead_bytes, float *s) {
    const int keys = SPLIT_LANES / rows;
    for (; groups > 0; groups--, k += keys, ahead += keys, s += SPLIT_LANES) {
        vf sum[SPLIT_LANES];
        VF_UNROLLED for (int l = 0; l < SPLIT_LANES; l++) sum[l] = vf_set1(0);
        for (int j = 0; j < keys; j++) split_fetch(ahead[j], 0, ahead_bytes);
        for (int64_t d = 0; d < size; d += 32) {
            __mmask32 mask = size - d < 32 ? (1u << (size - d)) - 1 : 0xffffffffu;
            __m512i x[SPLIT_LANES];
            VF_UNROLLED for (int j = 0; j < keys; j++) x[j] =
                _mm512_maskz_loadu_epi16(mask, (const uint16_t *)(const void *)k[j] + d);
            VF_UNROLLED for (int r = 0; r < rows; r++) {
                __m512i line = _mm512_loadu_si512(q + r * pitch + d);
                VF_UNROLLED for (int j = 0; j < keys; j++) sum[j * rows + r] =
                    _mm512_dpbf16_ps(sum[j * rows + r], (__m512bh)x[j], (__m512bh)line);
            }
        }
        vf_store(s, vf_reduce_each(sum));
    }
}

#define PAIR_SCORES(rows)                                                                          \
    static void pair_scores_##rows(int64_t groups, int64_t size, const uint16_t *q, int64_t pitch, \
                                   const char *const *k, const char *const *ahead,                 \
                                   int64_t ahead_bytes, float *s) {                                \
        pair_scores(rows, groups, size, q, pitch, k, ahead, ahead_bytes, s);                       \
    }
PAIR_SCORES(1)
PAIR_SCORES(2)
PAIR_SCORES(4)
PAIR_SCORES(8)

split_pair_scores *const fovea_split_pairs_avx512[4] = {pair_scores_1, pair_scores_2, pair_scores_4,
                                                        pair_scores_8};
