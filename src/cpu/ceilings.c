/* The loops of ceilings.h, compiled once a tier. Twelve independent chains cover four or five cycles of
 * latency on two ports, and with two constants fit sixteen registers. */
#include "cpu/ceilings.h"

#include "cpu/simd/simd.h"

/* Written out by the pragmas: an array that is indexed by a variable would live in memory. */
enum { CHAINS = 12, UNROLL = 8 };

static double multiply_add(int64_t rounds, float *sink) {
    vf x = vf_set1(0.999f), y = vf_set1(1e-3f), a[CHAINS];
    VF_UNROLLED for (int c = 0; c < CHAINS; c++) a[c] = vf_set1((float)c);
    for (int64_t r = 0; r < rounds; r++)
        VF_UNROLLED for (int c = 0; c < CHAINS; c++) a[c] = vf_fma(a[c], x, y);
    VF_UNROLLED for (int c = 1; c < CHAINS; c++) a[0] = vf_add(a[0], a[c]);
    *sink = vf_reduce_add(a[0]);
    return 2.0 * VF_WIDTH * CHAINS * (double)rounds;
}

static float read(const float *from, size_t count) {
    vf sums[UNROLL];
    VF_UNROLLED for (int u = 0; u < UNROLL; u++) sums[u] = vf_set1(0);
    for (size_t i = 0; i < count; i += UNROLL * VF_WIDTH)
        VF_UNROLLED for (int u = 0; u < UNROLL; u++) sums[u] =
            vf_add(sums[u], vf_load(from + i + u * VF_WIDTH));
    VF_UNROLLED for (int u = 1; u < UNROLL; u++) sums[0] = vf_add(sums[0], sums[u]);
    return vf_reduce_add(sums[0]);
}

static void copy(float *to, const float *from, size_t count) {
    for (size_t i = 0; i < count; i += VF_WIDTH) vf_store(to + i, vf_load(from + i));
}

static void stream_copy(float *to, const float *from, size_t count) {
    for (size_t i = 0; i < count; i += VF_WIDTH) vf_stream(to + i, vf_load(from + i));
    vf_stream_fence();
}

#if defined(FOVEA_TIER_AVX512)
extern double fovea_dot_bf16_avx512(int64_t rounds, float *sink); /* ceilings_bf16.c */
    #define DOT_BF16 fovea_dot_bf16_avx512
#else
    #define DOT_BF16 NULL
#endif

extern const fovea_ceiling_loops FOVEA_TIERED(fovea_ceilings);
const fovea_ceiling_loops FOVEA_TIERED(fovea_ceilings) = {.multiply_add = multiply_add,
                                                          .read = read,
                                                          .copy = copy,
                                                          .stream_copy = stream_copy,
                                                          .dot_bf16 = DOT_BF16};
