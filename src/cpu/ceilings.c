/* The loops of ceilings.h, compiled once a tier. Twelve independent chains cover four or five cycles of
 * latency on two ports, and with two constants fit sixteen registers. */
#include "cpu/ceilings.h"

#include "cpu/simd/simd.h"

/* Written out by the pragmas: an array that is indexed by a variable would live in memory. */
enum { CHAINS = 12, UNROLL = 8 };

#ifndef FOVEA_TIER_AMX
static double multiply_add(int64_t rounds, float *sink) {
    vf x = vf_set1(0.999f), y = vf_set1(1e-3f), a[CHAINS];
    VF_UNROLLED for (int c = 0; c < CHAINS; c++) a[c] = vf_set1((float)c);
    for (int64_t r = 0; r < rounds; r++)
        VF_UNROLLED for (int c = 0; c < CHAINS; c++) a[c] = vf_fma(a[c], x, y);
    VF_UNROLLED for (int c = 1; c < CHAINS; c++) a[0] = vf_add(a[0], a[c]);
    *sink = vf_reduce_add(a[0]);
    return 2.0 * VF_WIDTH * CHAINS * (double)rounds;
}
#endif

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

#ifdef FOVEA_TIER_AMX
/* Four accumulators cover the latency (52 cycles at one product in 16). */
    #define TILE_PEAK(name, product, type, one)                                                    \
        static double name(int64_t rounds, float *sink) {                                          \
            static const type ones[AMX_TILE_BYTES / sizeof(type)] = {one};                         \
            uint32_t result[AMX_ROWS][AMX_ROW_BYTES / 4];                                          \
            const amx_configuration whole = amx_whole_tiles();                                     \
            amx_configure(&whole);                                                                 \
            amx_load(4, ones, AMX_ROW_BYTES);                                                      \
            amx_load(5, ones, AMX_ROW_BYTES);                                                      \
            for (int64_t r = 0; r < rounds; r++) {                                                 \
                product(0, 4, 5);                                                                  \
                product(1, 4, 5);                                                                  \
                product(2, 4, 5);                                                                  \
                product(3, 4, 5);                                                                  \
            }                                                                                      \
            amx_store(0, result, AMX_ROW_BYTES);                                                   \
            amx_release();                                                                         \
            *sink = (float)result[0][0];                                                           \
            return 4 * 2.0 * 16 * 16 * (64 / sizeof(type)) * (double)rounds;                       \
        }
TILE_PEAK(tile_bf16, amx_bf16, uint16_t, 0x3f80)
TILE_PEAK(tile_int8, amx_s8s8, int8_t, 1)
#endif

#if defined(FOVEA_TIER_AMX)
    #define ARITHMETIC                                                                             \
        {                                                                                          \
            {"tile_bf16", tile_bf16}, { "tile_int8", tile_int8 }                                   \
        }
#elif defined(FOVEA_TIER_AVX512)
extern double fovea_dot_bf16_avx512(int64_t rounds, float *sink); /* ceilings_bf16.c */
    #define ARITHMETIC                                                                             \
        {                                                                                          \
            {"fma_f32", multiply_add}, { "dot_bf16", fovea_dot_bf16_avx512 }                       \
        }
#else
    #define ARITHMETIC                                                                             \
        {                                                                                          \
            { "fma_f32", multiply_add }                                                            \
        }
#endif

extern const fovea_ceiling_loops FOVEA_TIERED(fovea_ceilings);
const fovea_ceiling_loops FOVEA_TIERED(fovea_ceilings) = {
    .arithmetic = ARITHMETIC, .read = read, .copy = copy, .stream_copy = stream_copy};
