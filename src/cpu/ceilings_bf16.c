/* The rate of AVX-512-BF16's product of pairs: two multiply-adds a lane. Six cycles of latency on two ports ask
 * for twelve chains; sixteen leave room. */
#include "cpu/ceilings.h"

#include "cpu/simd/simd.h"

enum { CHAINS = 16 };

extern double fovea_dot_bf16_avx512(int64_t rounds, float *sink);
double fovea_dot_bf16_avx512(int64_t rounds, float *sink) {
    __m512bh x = (__m512bh)_mm512_set1_epi32(0x3f003f00); /* 0.5, 0.5 */
    vf a[CHAINS];
    VF_UNROLLED for (int c = 0; c < CHAINS; c++) a[c] = vf_set1((float)c);
    for (int64_t r = 0; r < rounds; r++)
        VF_UNROLLED for (int c = 0; c < CHAINS; c++) a[c] = _mm512_dpbf16_ps(a[c], x, x);
    VF_UNROLLED for (int c = 1; c < CHAINS; c++) a[0] = vf_add(a[0], a[c]);
    *sink = vf_reduce_add(a[0]);
    return 4.0 * VF_WIDTH * CHAINS * (double)rounds;
}
