/* One small vocabulary of vector operations, the same in every tier.
 *
 * A domain's source is compiled once a tier, with that tier's compiler flags and one of the macros
 * FOVEA_TIER_SCALAR, FOVEA_TIER_AVX2, FOVEA_TIER_AVX512, FOVEA_TIER_AMX (AVX-512 and the tiles of
 * amx.h; only domains that gain by tiles), FOVEA_TIER_NEON. Everything here is static inline, so that no copy made for one tier can be linked into another. External symbols of such a
 * source are named through FOVEA_TIERED(name), which appends _avx2 and so on. Compile with
 * -ffp-contract=off: where a fused multiply-add is meant, it is written.
 *
 * Types     vf: VF_WIDTH floats; vi: VF_WIDTH int32; vm: a mask of VF_WIDTH lanes. VF_BYTES is the
 *           size of a vf.
 * Memory    vf_load(p), vf_store(p, x): any alignment. vf_load_n(p, n), vf_store_n(p, x, n): the
 *           first n lanes, 0 <= n <= VF_WIDTH; memory beyond them is not touched, lanes beyond them
 *           read as 0. The same four with the suffix _f16 or _bf16 convert (uint16_t *); stores
 *           round to nearest even, keep subnormals, and keep NaN a NaN. vf_load_i8, vf_load_e4m3
 *           (both from uint8_t *), and _n: bytes of a quantised cache, exactly. vf_load_strided(p, stride),
 *           with _n: lane i is p[i * stride]. vf_gather(p, i): p[i] a lane. vf_stream(p, x): past
 *           the caches, p aligned to the bytes that are written (also _f16, _bf16);
 *           vf_stream_fence() when done. vi_load, vi_store, _n.
 * Floats    vf_set1 add sub mul div sqrt abs neg copysign round(nearest even) floor ceil trunc;
 *           vf_fma(a, b, c) = ab + c, vf_fms = ab - c, vf_fnma = c - ab, each rounded once (tiers
 *           without a fused instruction: through double, within 2^-29 of that). vf_min(a, b) is
 *           a < b ? a : b and vf_max(a, b) is a > b ? a : b, in every tier: *b* where either is
 *           NaN, and b where they are zeros of either sign. So vf_max(x, running) skips NaN in x,
 *           and vf_max(limit, x) lets NaN in x through.
 * Compares  vf_lt le gt ge eq (false on NaN), vf_ne (true on NaN), vf_unordered -> vm.
 *           vf_select(m, a, b): a where m, else b.
 * Masks     vm_and or xor not, vm_any vm_all, vm_first(n): the first n lanes, vm_bits(m): bit i is
 *           lane i. vm_load_u8_n(p, n): the lanes of n bytes that are not 0; vm_store_u8_quads(p, m): four
 *           masks, a byte a lane, 1 or 0.
 * Layout    vf_transpose(x): the square of VF_WIDTH vectors x[], in place. vf_transpose_quads(x): four
 *           vectors; each run of four lanes becomes the transpose of its 4 x 4 square (with one lane:
 *           nothing to do). vf_deinterleave(a, b, &even, &odd): the lanes with even and odd numbers of a
 *           and b together, vf_interleave(even, odd, &a, &b) its inverse; vf_reverse(x): the last lane
 *           first. vi_load_u8_n(p, n): n
 *           bytes, widened; vi_store_u8_n(p, x, n): the low bytes.
 * Integers  vi_set1 iota add sub mul and or xor xor3 min max, vi_mul_high (of the unsigned product),
 *           vi_test(a, b): (a & b) != 0 -> vm. Tiers of 8 lanes and more: vi_mul_even, the unsigned
 *           64-bit products of the even lanes; vi_odd_to_even(x) moves lanes down by one,
 *           vi_merge(even, odd) is its inverse. u8_bits(p, n): bit i is p[i] != 0, n <= 32.
 *           vi_shl shr(logical) sar(arithmetic) by a literal, vi_eq gt lt, vi_select.
 * Converts  vi_from_vf (nearest even; out of range is unspecified), vi_truncate_vf, vf_from_vi;
 *           bits kept: vf_as_vi, vi_as_vf.
 * Doubles   vd: VD_WIDTH doubles, vdm: a mask of them. vd_set1 load load_n store store_n stream add sub mul
 *           div fma fms fnma min max abs sqrt, transpose deinterleave interleave reverse, eq gt and unordered -> vdm, select, reduce_add max min; vdm_or,
 *           vdm_any, vdm_first(n): all as for floats. vd_fma
 *           of the scalar tier rounds twice.
 * Across    vf_reduce_add, vf_reduce_max, vf_reduce_min: lane i with lane i + width/2, then halves
 *           again: one fixed order. vf_reduce_each(x): of VF_WIDTH vectors x[], lane i is the sum of
 *           x[i].
 */
#ifndef FOVEA_CPU_SIMD_SIMD_H
#define FOVEA_CPU_SIMD_SIMD_H

/* Before a loop of at most 16 rounds that must become straight code. */
#ifdef __clang__
    #define VF_UNROLLED _Pragma("clang loop unroll(full)")
#else
    #define VF_UNROLLED _Pragma("GCC unroll 16")
#endif
#define VF_INLINE static inline __attribute__((always_inline))

#if defined(FOVEA_TIER_SCALAR)
    #include "simd_scalar.h"
    #define FOVEA_TIERED(name) name##_scalar
#elif defined(FOVEA_TIER_AVX2)
    #include "simd_avx2.h"
    #define FOVEA_TIERED(name) name##_avx2
#elif defined(FOVEA_TIER_AMX) /* AVX-512 and tiles beside it */
    #define FOVEA_TIER_AVX512 FOVEA_TIER_AVX512
    #include "simd_avx512.h"

    #include "amx.h"
    #define FOVEA_TIERED(name) name##_amx
#elif defined(FOVEA_TIER_AVX512)
    #include "simd_avx512.h"
    #define FOVEA_TIERED(name) name##_avx512
#elif defined(FOVEA_TIER_NEON)
    #include "simd_neon.h"
    #define FOVEA_TIERED(name) name##_neon
#else
    #error "compile with one of FOVEA_TIER_SCALAR, _AVX2, _AVX512, _AMX, _NEON"
#endif

#ifndef FOVEA_TIER_AVX512
static inline vm vm_load_u8_n(const uint8_t *p, size_t n) {
    return vi_gt(vi_load_u8_n(p, n), vi_set1(0));
}
static inline void vm_store_u8_quads(uint8_t *p, const vm m[4]) {
    for (int i = 0; i < 4; i++)
        vi_store_u8_n(p + i * VF_WIDTH, vi_select(m[i], vi_set1(1), vi_set1(0)), VF_WIDTH);
}
#endif

#define VF_BYTES (4 * VF_WIDTH)

#endif
