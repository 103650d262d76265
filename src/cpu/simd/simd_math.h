/* Elementary functions, written once over the vocabulary of simd.h. The error stated with each is
 * the largest found over every float, in every tier, against double; "full range" means that
 * subnormal results, overflow, infinities and NaN come out right too. The polynomials are minimax
 * fits (Remez exchange) of the function named beside them, rounded to float. */
#ifndef FOVEA_CPU_SIMD_SIMD_MATH_H
#define FOVEA_CPU_SIMD_SIMD_MATH_H

#include "simd.h"

#define VF_LN2_HIGH 0x1.62e430p-1f /* their sum is ln 2 to 2^-50 */
#define VF_LN2_LOW -0x1.05c610p-29f
#define VF_LOG2E 0x1.715476p0f

/* 2^n for integer-valued n in [-126, 127]. */
static inline vf vf_power_of_two(vf n) {
    return vi_as_vf(vi_shl(vi_add(vi_from_vf(n), vi_set1(127)), 23));
}

/* y * 2^n for |n| <= 252: in two factors, so that only a subnormal result is rounded, and once. */
static inline vf vf_scale_by_power_of_two(vf y, vf n) {
#ifdef FOVEA_TIER_AVX512
    return _mm512_scalef_ps(y, n);
#else
    vi whole = vi_from_vf(n), half = vi_sar(whole, 1);
    vi rest = vi_sub(whole, half);
    vf first = vi_as_vf(vi_shl(vi_add(half, vi_set1(127)), 23));
    vf second = vi_as_vf(vi_shl(vi_add(rest, vi_set1(127)), 23));
    return vf_mul(vf_mul(y, first), second);
#endif
}

/* (e^r - 1 - r) / r^2 on |r| <= ln(2)/2 */
static inline vf vf_exp_polynomial(vf r) {
    vf p = vf_set1(0x1.6a243ap-10f);
    p = vf_fma(p, r, vf_set1(0x1.1239e4p-7f));
    p = vf_fma(p, r, vf_set1(0x1.5558f2p-5f));
    p = vf_fma(p, r, vf_set1(0x1.555492p-3f));
    return vf_fma(p, r, vf_set1(0x1.fffffcp-2f));
}

/* x = n ln 2 + r, n integer, |r| <= ln(2)/2 */
static inline vf vf_exp_reduce(vf x, vf *n) {
    *n = vf_round(vf_mul(x, vf_set1(VF_LOG2E)));
    vf r = vf_fnma(*n, vf_set1(VF_LN2_HIGH), x);
    return vf_fnma(*n, vf_set1(VF_LN2_LOW), r);
}

/* e^x, full range. 1.1 ULP. */
static inline vf vf_exp(vf x) {
    vf n;
    x = vf_min(vf_set1(89.0f), vf_max(vf_set1(-104.0f), x)); /* both limits let NaN through */
    vf r = vf_exp_reduce(x, &n);
    vf y = vf_add(vf_fma(vf_mul(r, r), vf_exp_polynomial(r), r), vf_set1(1.0f));
    return vf_scale_by_power_of_two(y, n);
}

/* e^x - 1, full range. 1.5 ULP. */
static inline vf vf_expm1(vf x) {
    vf n, clamped = vf_min(vf_set1(89.0f), vf_max(vf_set1(-20.0f), x));
    vf r = vf_exp_reduce(clamped, &n);
    vf p = vf_fma(vf_mul(r, r), vf_exp_polynomial(r), r);
    /* 2 (p 2^(n-1) + 2^(n-1) - 1/2): half of the result, because 2^128 is no float */
    vf scale = vf_power_of_two(vf_sub(n, vf_set1(1.0f)));
    vf half = vf_fma(scale, p, vf_sub(scale, vf_set1(0.5f)));
    return vf_select(vf_lt(vf_abs(x), vf_set1(0x1p-26f)), x, vf_add(half, half));
}

/* 2^x for a softmax: x <= 126; -inf gives 0, NaN gives NaN, 0 gives 1 exactly. 2.1 ULP, on
 * AVX-512 3.1 (just below 1); results
 * below 2^-126 may be flushed to 0. AVX-512: 8 operations (vreduceps leaves the fraction in [0, 1),
 * vscalefps floors the exponent itself); elsewhere 11, the exponent being read from the low bits of
 * x + 1.5 * 2^23 + 127. */
static inline vf vf_exp2_softmax(vf x) {
#ifdef FOVEA_TIER_AVX512
    vf r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    vf p = vf_set1(0x1.e975p-10f);
    p = vf_fma(p, r, vf_set1(0x1.277854p-7f));
    p = vf_fma(p, r, vf_set1(0x1.c91ce6p-5f));
    p = vf_fma(p, r, vf_set1(0x1.ebdb56p-3f));
    p = vf_fma(p, r, vf_set1(0x1.62e4bap-1f));
    return _mm512_scalef_ps(vf_fma(p, r, vf_set1(1.0f)), x);
#else
    const vf magic = vf_set1(0x1.8p23f + 127.0f);
    x = vf_max(vf_set1(-127.0f), x);
    vf biased = vf_add(x, magic);
    vf r = vf_sub(x, vf_sub(biased, magic));
    vf p = vf_set1(0x1.5bba12p-10f);
    p = vf_fma(p, r, vf_set1(0x1.3cea88p-7f));
    p = vf_fma(p, r, vf_set1(0x1.c6b752p-5f));
    p = vf_fma(p, r, vf_set1(0x1.ebf9bcp-3f));
    p = vf_fma(p, r, vf_set1(0x1.62e42ap-1f));
    p = vf_fma(p, r, vf_set1(1.0f));
    return vf_mul(p, vi_as_vf(vi_shl(vf_as_vi(biased), 23)));
#endif
}

/* ln(1 + f) + e ln 2 for 1 + f in [sqrt(1/2), sqrt 2]. */
static inline vf vf_log_polynomial(vf f, vf e) {
    /* (ln(1 + f) - f + f^2/2) / f^3 */
    vf p = vf_set1(-0x1.38b564p-4f);
    p = vf_fma(p, f, vf_set1(0x1.055b5ap-3f));
    p = vf_fma(p, f, vf_set1(-0x1.0d854p-3f));
    p = vf_fma(p, f, vf_set1(0x1.22da2p-3f));
    p = vf_fma(p, f, vf_set1(-0x1.547246p-3f));
    p = vf_fma(p, f, vf_set1(0x1.99a008p-3f));
    p = vf_fma(p, f, vf_set1(-0x1.000226p-2f));
    p = vf_fma(p, f, vf_set1(0x1.555554p-2f));
    vf square = vf_mul(f, f);
    vf y = vf_mul(vf_mul(square, f), p);
    y = vf_fma(e, vf_set1(VF_LN2_LOW), y);
    y = vf_add(f, vf_fma(vf_set1(-0.5f), square, y));
    return vf_fma(e, vf_set1(VF_LN2_HIGH), y);
}

/* ln x, full range: 0 gives -inf, x < 0 NaN. 0.9 ULP, on AVX-512 1.01 (at 1.0636).
 * AVX-512: x = m 2^e with m in [3/4, 3/2), ln m = ln(m/c) + ln c by sixteen c that a register holds. 1/c is a
 * float near the inverse of the middle of an interval, -ln of which is a float to 2^-38; beside 1 c is 1, so that
 * nothing cancels. 15 operations where the polynomial takes 29: exponents of 0, infinity and NaN come out right
 * by themselves, and subnormals are no case. */
static inline vf vf_log(vf x) {
#ifdef FOVEA_TIER_AVX512
    const vf inverse = _mm512_setr_ps(
        0x1.0p+0f, 0x1.d40f4ep-1f, 0x1.badefep-1f, 0x1.a42dbp-1f, 0x1.8f9708p-1f, 0x1.7cf1b6p-1f,
        0x1.6c138p-1f, 0x1.5caeb8p-1f, 0x1.4e5f7ep+0f, 0x1.41525ap+0f, 0x1.352496p+0f,
        0x1.29e368p+0f, 0x1.1f81eep+0f, 0x1.159aaep+0f, 0x1.0cadccp+0f, 0x1.0p+0f);
    const vf logarithm = _mm512_setr_ps(
        0.0f, 0x1.6f874p-4f, 0x1.290ddap-3f, 0x1.94c6f2p-3f, 0x1.fbab7ep-3f, 0x1.2ec494p-2f,
        0x1.5d2504p-2f, 0x1.8961fep-2f, -0x1.117d5ap-2f, -0x1.d1707ap-3f, -0x1.824e78p-3f,
        -0x1.365b36p-3f, -0x1.db6deep-4f, -0x1.4bda8ep-4f, -0x1.8bff52p-5f, 0.0f);
    vf m = _mm512_getmant_ps(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_nan);
    vf e = vf_sub(_mm512_getexp_ps(x), _mm512_getexp_ps(m));
    vi interval = vi_shr(vf_as_vi(m), 19); /* its lowest four bits count */
    vf r = vf_fms(m, _mm512_permutexvar_ps(interval, inverse), vf_set1(1.0f));
    /* (ln(1 + r) - r) / r^2 on [-1/32, 1/16] */
    vf p = vf_set1(0x1.8227b6p-3f);
    p = vf_fma(p, r, vf_set1(-0x1.00117cp-2f));
    p = vf_fma(p, r, vf_set1(0x1.55584p-2f));
    p = vf_fma(p, r, vf_set1(-0.5f));
    vf y = vf_fma(vf_mul(r, r), p, r);
    y = vf_add(y, _mm512_permutexvar_ps(interval, logarithm));
    return vf_fma(e, vf_set1(0x1.62e430p-1f), y);
#else
    vm small = vf_lt(x, vf_set1(0x1p-126f));
    vf scaled = vf_select(small, vf_mul(x, vf_set1(0x1p23f)), x);
    /* m in [sqrt(1/2), sqrt 2), x = m 2^e */
    vi offset = vi_sub(vf_as_vi(scaled), vi_set1(0x3f3504f3));
    vf e = vf_from_vi(vi_sar(offset, 23));
    vf m = vi_as_vf(vi_add(vi_and(offset, vi_set1(0x7fffff)), vi_set1(0x3f3504f3)));
    e = vf_select(small, vf_sub(e, vf_set1(23.0f)), e);
    vf y = vf_log_polynomial(vf_sub(m, vf_set1(1.0f)), e);
    const vf infinity = vi_as_vf(vi_set1(0x7f800000));
    y = vf_select(vf_eq(x, infinity), infinity, y);
    y = vf_select(vf_eq(x, vf_set1(0.0f)), vf_neg(infinity), y);
    return vf_select(vf_ge(x, vf_set1(0.0f)), y, vi_as_vf(vi_set1(0x7fc00000)));
#endif
}

#ifdef FOVEA_TIER_AVX512
/* ln(p/q), and ln(1/q) where p is 0, off by 2^-22 (1 + |ln|) at most, where the result is finite and the quotient (which
 * is kept) a normal number; where a quotient would be 0, infinite, NaN or negative the result is no number. w is 1/q to 14 bits, w p
 * the quotient up to 1 + d; d = q w - 1 is exact, and ln(1 + d) = d to 2^-29. As the result need not be exact relative to
 * itself near 1, fractions are [1, 2) and a cubic in r, |r| <= 1/33, suffices. 15 operations, as many as vf_log alone. */
static inline vf vf_log_quotient(vf p, vf q, vf *quotient) {
    const vf inverse =
        _mm512_setr_ps(0x1.f07c2p-1f, 0x1.d41d42p-1f, 0x1.bacf92p-1f, 0x1.a41a42p-1f,
                       0x1.8f9c18p-1f, 0x1.7d05f4p-1f, 0x1.6c16c2p-1f, 0x1.5c9882p-1f,
                       0x1.4e5e0ap-1f, 0x1.414142p-1f, 0x1.3521dp-1f, 0x1.29e412p-1f,
                       0x1.1f7048p-1f, 0x1.15b1e6p-1f, 0x1.0c9714p-1f, 0x1.041042p-1f);
    const vf logarithm =
        _mm512_setr_ps(0x1.f829aep-6f, 0x1.6f0d2ep-4f, 0x1.29553p-3f, 0x1.9525acp-3f, 0x1.fb919p-3f,
                       0x1.2e8e2ep-2f, 0x1.5d1bdcp-2f, 0x1.89a33cp-2f, 0x1.b44f7ap-2f,
                       0x1.dd46ap-2f, 0x1.02552ap-1f, 0x1.154c4p-1f, 0x1.2795e2p-1f, 0x1.393e0ep-1f,
                       0x1.4a4f88p-1f, 0x1.5ad404p-1f);
    vf w = _mm512_rcp14_ps(q), d = vf_fms(q, w, vf_set1(1.0f));
    vf y = *quotient = _mm512_mask_mul_ps(w, vf_ne(p, vf_set1(0.0f)), p, w);
    vf m = _mm512_getmant_ps(y, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_nan);
    vi interval = vi_shr(vf_as_vi(m), 19); /* its lowest four bits count */
    vf r = vf_fms(m, _mm512_permutexvar_ps(interval, inverse), vf_set1(1.0f));
    vf s = vf_fma(vf_set1(0x1.559184p-2f), r, vf_set1(-0x1.001e18p-1f));
    s = vf_fma(s, r, vf_set1(1.0f));
    s = vf_fma(s, r, vf_sub(_mm512_permutexvar_ps(interval, logarithm), d));
    return vf_fma(_mm512_getexp_ps(y), vf_set1(0x1.62e430p-1f), s);
}
#endif

/* ln(1 + e) with e = e^-|x|, full range. 2.0 ULP. No step rounds 1 + e.
 * AVX-512: ln(1 + e) = ln((1 + e) c) - ln c by sixteen c near 1 / (1 + k/15), k = 15 e rounded, so that (1 + e) c =
 * 1 + r with |r| <= 1/30; r is one multiply-add, since c - 1 is a float. -ln c is a float to 2^-36. 24 operations. */
static inline vf vf_log1p_exp(vf x) {
#ifdef FOVEA_TIER_AVX512
    const vf inverse = _mm512_setr_ps(
        0x1.0p+0f, 0x1.dfed14p-1f, 0x1.c3cdfap-1f, 0x1.aaae7cp-1f, 0x1.9440d6p-1f, 0x1.7fea98p-1f,
        0x1.6db3eep-1f, 0x1.5d0df8p-1f, 0x1.4dd37cp-1f, 0x1.3ff3ap-1f, 0x1.33468p-1f,
        0x1.275bf2p-1f, 0x1.1c80e2p-1f, 0x1.1239b2p-1f, 0x1.08dedap-1f, 0x1.fff7eap-2f);
    const vf logarithm = _mm512_setr_ps(
        0.0f, 0x1.08fb06p-4f, 0x1.00273ep-3f, 0x1.7552aep-3f, 0x1.e3e85ep-3f, 0x1.26cf38p-2f,
        0x1.58946p-2f, 0x1.884a6ap-2f, 0x1.b5f824p-2f, 0x1.e1703cp-2f, 0x1.056ac6p-1f,
        0x1.19aaf8p-1f, 0x1.2cd73p-1f, 0x1.3fadfep-1f, 0x1.517366p-1f, 0x1.62ec46p-1f);
    const vf units = vf_set1(0x1.8p23f);
    vf a = vf_min(vf_set1(104.0f), vf_abs(x));
    vf n = vf_sub(vf_fma(a, vf_set1(-VF_LOG2E), units), units);
    vf d = vf_fma(n, vf_set1(VF_LN2_LOW), vf_fma(n, vf_set1(VF_LN2_HIGH), a));
    vf e = vf_set1(0x1.6ab96ep-10f); /* e^-d on |d| <= ln(2)/2 */
    e = vf_fma(e, d, vf_set1(-0x1.126d1ep-7f));
    e = vf_fma(e, d, vf_set1(0x1.55589ap-5f));
    e = vf_fma(e, d, vf_set1(-0x1.55540ap-3f));
    e = vf_fma(e, d, vf_set1(0x1.fffffap-2f));
    e = vf_fma(e, d, vf_set1(-1.0f));
    e = vf_scale_by_power_of_two(vf_fma(e, d, vf_set1(1.0f)), n);
    vi k = vf_as_vi(vf_fma(e, vf_set1(15.0f), units)); /* its lowest four bits count */
    vf c = _mm512_permutexvar_ps(k, inverse);
    vf r = vf_fma(e, c, vf_sub(c, vf_set1(1.0f)));
    vf p = vf_set1(-0x1.0044b8p-2f); /* (ln(1 + r) - r) / r^2 */
    p = vf_fma(p, r, vf_set1(0x1.5585ap-2f));
    p = vf_fma(p, r, vf_set1(-0x1.fffffap-2f));
    return vf_add(vf_fma(vf_mul(r, r), p, r), _mm512_permutexvar_ps(k, logarithm));
#else
    vf e = vf_exp(vf_neg(vf_abs(x)));
    vm large = vf_gt(e, vf_set1(0x1.a8279ap-2f)); /* sqrt 2 - 1: half of 1 + e there */
    vf half = vf_fms(e, vf_set1(0.5f), vf_set1(0.5f));
    vf halved = vf_select(large, vf_set1(1.0f), vf_set1(0.0f));
    return vf_log_polynomial(vf_select(large, half, e), halved);
#endif
}

/* max(x, 0) + ln(1 + e^-|x|), full range. 2.0 ULP. The limit comes first, so that NaN passes. */
static inline vf vf_softplus(vf x) { return vf_add(vf_max(vf_set1(0.0f), x), vf_log1p_exp(x)); }

/* 1 / (1 + e^-x), full range. 2.5 ULP. */
static inline vf vf_sigmoid(vf x) {
    vf e = vf_exp(vf_neg(vf_abs(x)));
    vf numerator = vf_select(vf_lt(x, vf_set1(0.0f)), e, vf_set1(1.0f));
    return vf_div(numerator, vf_add(e, vf_set1(1.0f)));
}

/* tanh x, full range. 2.7 ULP. From e = e^2|x| - 1, as e / (e + 2), which loses nothing near 0; |x| = n (ln 2)/2 + h with
 * n in the low bits of 1.5 * 2^23 + 128 + n. What (ln 2)/2 as a float leaves out counts for less than 2^-28 of the result. 17
 * operations beside the division. */
static inline vf vf_tanh(vf x) {
    const vf magic = vf_set1(0x1.8p23f + 128.0f);
    vf a = vf_min(vf_set1(10.0f), vf_abs(x)); /* tanh 10 rounds to 1; NaN passes */
    vf biased = vf_fma(a, vf_set1(2 * VF_LOG2E), magic), n = vf_sub(biased, magic);
    vf h = vf_fnma(n, vf_set1(0.5f * VF_LN2_HIGH), a);
    vf p = vf_set1(0x1.6a243ap-5f); /* (e^2h - 1 - 2h) / 2h^2, that of vf_exp_polynomial in 2h */
    p = vf_fma(p, h, vf_set1(0x1.1239e4p-3f));
    p = vf_fma(p, h, vf_set1(0x1.5558f2p-2f));
    p = vf_fma(p, h, vf_set1(0x1.555492p-1f));
    p = vf_fma(p, h, vf_set1(0x1.fffffcp-1f));
    p = vf_fma(vf_mul(h, h), p, h);
    vf twice = vi_as_vf(vi_shl(vf_as_vi(biased), 23)); /* 2^(n + 1) */
    vf e = vf_fma(twice, p, vf_fma(twice, vf_set1(0.5f), vf_set1(-1.0f)));
    return vf_copysign(vf_div(e, vf_add(e, vf_set1(2.0f))), x);
}

/* tanh of x for y = 2 x log2 e, as e / (e + 2) with e = 2^y - 1, which loses nothing near 0. On
 * AVX-512 the quotient is a reciprocal by Newton's method: a division holds half of the arithmetic
 * for 16 cycles. Relative error 4e-7. */
static inline vf vf_tanh_of_exponent(vf y) {
    const vf magic = vf_set1(0x1.8p23f + 127.0f);
    vf a = vf_min(vf_set1(28.9f), vf_abs(y)); /* tanh 10 rounds to 1; NaN passes */
    vf biased = vf_add(a, magic);
    vf r = vf_sub(a, vf_sub(biased, magic));
    vf p = vf_set1(0x1.41fbbcp-13f); /* (2^r - 1) / r */
    p = vf_fma(p, r, vf_set1(0x1.5f3e52p-10f));
    p = vf_fma(p, r, vf_set1(0x1.3b2d4cp-7f));
    p = vf_fma(p, r, vf_set1(0x1.c6aee8p-5f));
    p = vf_fma(p, r, vf_set1(0x1.ebfbdcp-3f));
    p = vf_fma(p, r, vf_set1(0x1.62e430p-1f));
    vf scale = vi_as_vf(vi_shl(vf_as_vi(biased), 23));
    vf e = vf_fma(scale, vf_mul(p, r), vf_sub(scale, vf_set1(1.0f)));
    vf d = vf_add(e, vf_set1(2.0f));
#ifdef FOVEA_TIER_AVX512
    vf w = _mm512_rcp14_ps(d);
    w = vf_fma(w, vf_fnma(d, w, vf_set1(1.0f)), w);
    return vf_copysign(vf_mul(e, w), y);
#else
    return vf_copysign(vf_div(e, d), y);
#endif
}

/* e^(z^2) erfc(z) for 0 <= z <= 9.5: a polynomial in t = (z - 3)/(z + 3) times 3/(z + 3). */
static inline vf vf_scaled_erfc(vf z) {
    vf w = vf_div(vf_set1(1.0f), vf_add(z, vf_set1(3.0f)));
    vf t = vf_fnma(vf_set1(6.0f), w, vf_set1(1.0f));
    vf p = vf_set1(-0x1.cd232ep-14f);
    p = vf_fma(p, t, vf_set1(-0x1.57d82p-13f));
    p = vf_fma(p, t, vf_set1(0x1.0cfb2p-10f));
    p = vf_fma(p, t, vf_set1(-0x1.ab329cp-12f));
    p = vf_fma(p, t, vf_set1(-0x1.2524cap-7f));
    p = vf_fma(p, t, vf_set1(0x1.46646ap-5f));
    p = vf_fma(p, t, vf_set1(-0x1.a7e3d4p-4f));
    p = vf_fma(p, t, vf_set1(0x1.92edep-3f));
    p = vf_fma(p, t, vf_set1(-0x1.2d883p-2f));
    p = vf_fma(p, t, vf_set1(0x1.6e9828p-2f));
    return vf_mul(vf_mul(p, vf_set1(3.0f)), w);
}

/* erf x, full range. 2.6 ULP. */
static inline vf vf_erf(vf x) {
    vf a = vf_min(vf_set1(9.5f), vf_abs(x)), square = vf_mul(a, a);
    /* erf(a)/a in a^2, for a < 1 */
    vf p = vf_set1(0x1.496a3p-14f);
    p = vf_fma(p, square, vf_set1(-0x1.a3f7p-11f));
    p = vf_fma(p, square, vf_set1(0x1.5405b2p-8f));
    p = vf_fma(p, square, vf_set1(-0x1.b7f90ep-6f));
    p = vf_fma(p, square, vf_set1(0x1.ce2cf8p-4f));
    p = vf_fma(p, square, vf_set1(-0x1.81273ep-2f));
    p = vf_fma(p, square, vf_set1(0x1.20dd74p0f));
    vf outer = vf_fnma(vf_exp(vf_neg(square)), vf_scaled_erfc(a), vf_set1(1.0f));
    return vf_copysign(vf_select(vf_lt(a, vf_set1(1.0f)), vf_mul(p, a), outer), x);
}

/* x Phi(x), Phi the normal distribution: Phi = erfc(-x/sqrt 2)/2 below -1 (nothing cancels), 1 -
 * erfc(x/sqrt 2)/2 above 1, and 1/2 + x Q(x^2) between, where the division in vf_scaled_erfc would
 * cost 7 ULP. 2.9 ULP for x >= -1; below, the error of e^(-x^2/2) grows with x^2/2 ULP. */
static inline vf vf_gelu(vf x) {
    vf a = vf_min(vf_set1(14.5f), vf_abs(x)), square = vf_mul(a, a); /* e^(-14.5^2/2) is 0 */
    vf gauss = vf_exp(vf_mul(square, vf_set1(-0.5f)));
    vf half = vf_mul(vf_set1(0.5f), vf_scaled_erfc(vf_mul(a, vf_set1(0x1.6a09e6p-1f))));
    vf tail = vf_mul(gauss, half);
    vf q = vf_set1(-0x1.00204cp-17f);
    q = vf_fma(q, square, vf_set1(0x1.dbce7ep-14f));
    q = vf_fma(q, square, vf_set1(-0x1.36fb0cp-10f));
    q = vf_fma(q, square, vf_set1(0x1.46ce38p-7f));
    q = vf_fma(q, square, vf_set1(-0x1.105832p-4f));
    q = vf_fma(q, square, vf_set1(0x1.988454p-2f));
    vm negative = vf_lt(x, vf_set1(0.0f));
    vf clamped = vf_select(negative, vf_neg(a), x); /* -inf times a tail would be -inf */
    vf weight = vf_select(negative, tail, vf_sub(vf_set1(1.0f), tail));
    weight = vf_select(vf_lt(a, vf_set1(1.0f)), vf_fma(clamped, q, vf_set1(0.5f)), weight);
    return vf_mul(clamped, weight);
}

/* x (1 + tanh z) / 2 with z = sqrt(2/pi) (x + 0.044715 x^3), as x sigmoid(2z), which does not
 * cancel. AVX-512: 2^t with t = -2z log2 e and a reciprocal by Newton's method. A division holds
 * half of the arithmetic for 16 cycles; by it 22 GB/s from L1, without it 31. 2.3 ULP. */
static inline vf vf_gelu_tanh(vf x) {
    vf a = vf_max(vf_set1(-13.0f), x);
#ifdef FOVEA_TIER_AVX512
    vf t = vf_mul(a, vf_fma(vf_mul(a, a), vf_set1(-0x1.a5a7dp-4f), vf_set1(-0x1.26aec2p1f)));
    vf r = _mm512_reduce_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    vf p = vf_set1(0x1.41fbbcp-13f); /* (2^r - 1) / r */
    p = vf_fma(p, r, vf_set1(0x1.5f3e52p-10f));
    p = vf_fma(p, r, vf_set1(0x1.3b2d4cp-7f));
    p = vf_fma(p, r, vf_set1(0x1.c6aee8p-5f));
    p = vf_fma(p, r, vf_set1(0x1.ebfbdcp-3f));
    p = vf_fma(p, r, vf_set1(0x1.62e430p-1f));
    /* t - r is an integer, exactly */
    vf d = vf_add(_mm512_scalef_ps(vf_fma(p, r, vf_set1(1.0f)), vf_sub(t, r)), vf_set1(1.0f));
    vf w = _mm512_rcp14_ps(d);
    vm finite = vf_lt(t, vf_set1(126.0f)); /* beyond, 1/d is small enough as it is */
    w = _mm512_mask_fmadd_ps(w, finite, vf_fnma(d, w, vf_set1(1.0f)), w);
    return vf_mul(a, w);
#else
    vf cubic = vf_fma(vf_mul(a, a), vf_set1(0.044715f), vf_set1(1.0f));
    vf minus_2z = vf_mul(vf_mul(a, vf_set1(-0x1.988454p0f)), cubic);
    return vf_div(a, vf_add(vf_exp(minus_2z), vf_set1(1.0f)));
#endif
}

#endif
