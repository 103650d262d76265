/* Sine and cosine of an angle in turns, for those who bring it to quarters exactly. */
#ifndef FOVEA_CPU_SIMD_SIMD_TURNS_H
#define FOVEA_CPU_SIMD_SIMD_TURNS_H

#include "simd.h"

/* sin and cos of 2 pi (quarter/4 + t), |t| <= 1/8, both within 0.6 ULP and exact at quarter turns. */
VF_INLINE void vf_sin_cos_of_turn(vi quarter, vf t, vf *sine, vf *cosine) {
    vf u = vf_mul(t, t);
    vf c = vf_set1(0x1.db64dp5f); /* (cos(2 pi t) - 1) / t^2 in t^2 */
    c = vf_fma(c, u, vf_set1(-0x1.55cb98p6f));
    c = vf_fma(c, u, vf_set1(0x1.03c1eap6f));
    c = vf_fma(c, u, vf_set1(-0x1.3bd3ccp4f));
    c = vf_fma(c, u, vf_set1(1));
    vf s = vf_set1(0x1.4cb78p5f); /* (sin(2 pi t) / t - 2 pi) / t^2 */
    s = vf_fma(s, u, vf_set1(-0x1.32ce1ep6f));
    s = vf_fma(s, u, vf_set1(0x1.466bc2p6f));
    s = vf_fma(s, u, vf_set1(-0x1.4abbcep5f));
    s = vf_fma(s, u, vf_set1(-0x1.777a5cp-23f)); /* 2 pi in two parts */
    s = vf_fma(t, vf_set1(0x1.921fb6p2f), vf_mul(t, s));
    vm swap = vi_eq(vi_and(quarter, vi_set1(1)), vi_set1(1));
    vi negative_sine = vi_shl(vi_and(quarter, vi_set1(2)), 30);
    vi negative_cosine = vi_shl(vi_and(vi_add(quarter, vi_set1(1)), vi_set1(2)), 30);
    *sine = vi_as_vf(vi_xor(vf_as_vi(vf_select(swap, c, s)), negative_sine));
    *cosine = vi_as_vf(vi_xor(vf_as_vi(vf_select(swap, s, c)), negative_cosine));
}

#endif
