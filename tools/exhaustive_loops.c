/* Everything here is arithmetic and selection on doubles and their bits. Each loop is compiled for the
 * processor at hand: eight functions of 2^32 inputs take a minute so, and a quarter of an hour by the
 * C library. tests/unit/test_exhaustive.c holds the functions against those of the reference. */
#include "exhaustive_loops.h"

#include <float.h>
#include <math.h>

#define INLINE static inline __attribute__((always_inline))

INLINE int64_t bits_of(double x) {
    int64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

INLINE double from_bits(int64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

INLINE double at_least(double x, double low) { return x < low ? low : x; } /* NaN stays */
INLINE double at_most(double x, double high) { return x > high ? high : x; }

/* ---- Functions ------------------------------------------------------------------------------ */

static const double shift = 0x1.8p52; /* a sum with it is rounded to a whole number */
static const double log2_e = 0x1.71547652b82fep0;
static const double ln2_high = 0x1.62e42fefa39efp-1, ln2_low = 0x1.abc9e3b39803fp-56;

/* Without a sign, which may not be shifted. */
INLINE int64_t to_exponent(int64_t x) { return (int64_t)((uint64_t)x << 52); }

/* 2^k of a whole number: the lowest bits of the sum are k + 1023. */
INLINE double power_of_two(double k) { return from_bits(to_exponent(bits_of(k + (shift + 1023)))); }

/* e^r - 1 where |r| <= ln(2)/2: Taylor's series, whose next term is below 2^-57 of the first. */
INLINE double small_expm1(double r) {
    double p = 1.0 / 6227020800;
    p = p * r + 1.0 / 479001600, p = p * r + 1.0 / 39916800, p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880, p = p * r + 1.0 / 40320, p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720, p = p * r + 1.0 / 120, p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6, p = p * r + 0.5;
    return r + r * r * p;
}

/* k and r of x = k ln 2 + r. */
INLINE double reduce(double x, double *k) {
    *k = (x * log2_e + shift) - shift;
    return (x - *k * ln2_high) - *k * ln2_low;
}

INLINE double exponential(double x) {
    double k, r = reduce(at_most(at_least(x, -700), 700), &k);
    return power_of_two(k) * (1 + small_expm1(r));
}

INLINE double exponential_less_1(double x) {
    double k, r = reduce(at_most(at_least(x, -700), 700), &k), power = power_of_two(k);
    return power * small_expm1(r) + (power - 1);
}

/* Of positive finite x: x = 2^k m with m from sqrt(1/2) on, and ln m = 2 artanh s. */
INLINE double positive_log(double x) {
    const uint64_t root = 0x3fe6a09e667f3bcd, one = UINT64_C(1023) << 52;
    uint64_t bits = (uint64_t)bits_of(x), raised = (bits - root + one) >> 52; /* k + 1023 */
    double k = from_bits((int64_t)(raised | 0x4330000000000000)) - (0x1p52 + 1023);
    double m = from_bits((int64_t)(bits - ((raised - 1023) << 52)));
    double s = (m - 1) / (m + 1), z = s * s, p = 1.0 / 23;
    p = p * z + 1.0 / 21, p = p * z + 1.0 / 19, p = p * z + 1.0 / 17, p = p * z + 1.0 / 15;
    p = p * z + 1.0 / 13, p = p * z + 1.0 / 11, p = p * z + 1.0 / 9, p = p * z + 1.0 / 7;
    p = p * z + 1.0 / 5, p = p * z + 1.0 / 3;
    return k * ln2_high + (k * ln2_low + (2 * s + 2 * s * z * p));
}

INLINE double logarithm(double x) {
    double y = positive_log(x > 0 && x < INFINITY ? x : 1);
    y = x == 0 ? -INFINITY : y;
    return x >= 0 ? (x == INFINITY ? x : y) : NAN;
}

/* ln(1 + t) of 0 <= t <= 1; what 1 + t rounds away is put back. */
INLINE double log_1_plus(double t) {
    double u = 1 + t;
    return positive_log(u) + (t - (u - 1)) / u;
}

INLINE double softplus(double x) { return (x > 0 ? x : 0) + log_1_plus(exponential(-fabs(x))); }

INLINE double hyperbolic_tangent(double x) {
    double e = exponential_less_1(2 * at_most(fabs(x), 50));
    return copysign(e / (e + 2), x);
}

/* (1 + 2z) e^(z^2) erfc z as a polynomial in t = (z - 15/4) / (z + 15/4), which is bounded on the whole
 * half axis: the form is that of Shepherd and Laframboise (Math. Comp. 36, 1981); the coefficients
 * are of the Chebyshev series, computed in 60 digits, and their absolute values add up to 1.8. */
INLINE double scaled_erfc(double t) {
    double p = 0x1.561b105822235p-32;
    p = p * t - 0x1.6884628ace07ap-29, p = p * t - 0x1.014cd7201b5adp-28;
    p = p * t + 0x1.12b326b5668bfp-25, p = p * t + 0x1.8fa9fe49c359bp-26;
    p = p * t - 0x1.0ae6bf9452a1fp-22, p = p * t - 0x1.eb803840c0574p-25;
    p = p * t + 0x1.d39c1a3875509p-20, p = p * t - 0x1.055686d42aa63p-20;
    p = p * t - 0x1.7fcc159f9a760p-17, p = p * t + 0x1.778b933adcce7p-16;
    p = p * t + 0x1.b13e13fe20445p-15, p = p * t - 0x1.303fa4966bc38p-12;
    p = p * t + 0x1.33fb5a5e7ca14p-12, p = p * t + 0x1.cc3a0e7d2150cp-10;
    p = p * t - 0x1.3f603c7e65d24p-7, p = p * t + 0x1.d0b0037d167adp-6;
    p = p * t - 0x1.e0d0fa6c16f3fp-5, p = p * t + 0x1.7a14188a9ce2ap-4;
    p = p * t - 0x1.bda9309a35871p-4, p = p * t + 0x1.510169d09665bp-4;
    p = p * t + 0x1.d5f294816277ep-9, p = p * t - 0x1.1f367683f89a5p-3;
    return p * t + 0x1.3ccda0b5d5dc2p+0;
}

/* x/2 erfc(-x / sqrt 2); x^2 is exact where x is an f32. */
INLINE double gelu(double x) {
    double held = at_most(at_least(x, -140), 140), z = fabs(held) * M_SQRT1_2;
    double tail = exponential(-0.5 * (held * held)) * scaled_erfc((z - 3.75) / (z + 3.75));
    tail = 0.5 * fabs(held) * tail / (1 + 2 * z);
    return x > 0 ? x - tail : -tail;
}

INLINE double gelu_by_tanh(double x) {
    double w = at_least(x, -50), v = at_most(w, 50);
    double z = 0.79788456080286535588 * (v + 0.044715 * (v * v * v));
    return w / (1 + exponential(-2 * z));
}

INLINE double silu(double x) {
    double w = at_least(x, -200);
    return w / (1 + exponential(-w));
}

INLINE double mish(double x) {
    double w = at_least(x, -300), e = exponential(at_most(w, 300)), n = e * (e + 2);
    return w * (n / (n + 2));
}

/* Rounded to a half, nearest even, by its spacing at x. */
INLINE double rounded(double x, int mantissa, double smallest, double limit) {
    double power = from_bits(bits_of(x) & (INT64_C(0x7ff) << 52));
    double spacing =
        (power < smallest ? smallest : power) * from_bits(to_exponent(1023 - mantissa));
    double y = x / spacing;
    y = ((fabs(y) + 0x1p52) - 0x1p52) * spacing;
    return fabs(x) < INFINITY ? copysign(y > limit ? INFINITY : y, x) : x;
}

typedef enum function {
    EXP,
    LOG,
    SIGMOID,
    TANH,
    SOFTPLUS,
    CLAMP,
    ABS,
    RELU,
    LEAKY_RELU,
    ELU,
    GELU,
    GELU_TANH,
    SILU,
    MISH,
    TO_F16,
    TO_BF16,
    NONE
} function;

#define LOOP(expression)                                                                           \
    for (int64_t i = 0; i < n; i++) {                                                              \
        double x = from[i];                                                                        \
        y[i] = (expression);                                                                       \
    }                                                                                              \
    break;

INLINE void evaluate(function f, double p, double q, const double *restrict from,
                     double *restrict y, int64_t n) {
    switch (f) {
    case EXP:
        LOOP(exponential(x))
    case LOG:
        LOOP(logarithm(x))
    case SIGMOID:
        LOOP(1 / (1 + exponential(-x)))
    case TANH:
        LOOP(hyperbolic_tangent(x))
    case SOFTPLUS:
        LOOP(softplus(x))
    case CLAMP:
        LOOP(at_most(at_least(x, p), q))
    case ABS:
        LOOP(fabs(x))
    case RELU:
        LOOP(at_least(x, 0))
    case LEAKY_RELU:
        LOOP(x > 0 ? x : p * x)
    case ELU:
        LOOP(x > 0 ? x : p * exponential_less_1(x))
    case GELU:
        LOOP(gelu(x))
    case GELU_TANH:
        LOOP(gelu_by_tanh(x))
    case SILU:
        LOOP(silu(x))
    case MISH:
        LOOP(mish(x))
    case TO_F16:
        LOOP(rounded(x, 10, 0x1p-14, 65504))
    case TO_BF16:
        LOOP(rounded(x, 7, 0x1p-126, 0x1.FEp127))
    case NONE:
        break;
    }
}

/* ---- Comparison ----------------------------------------------------------------------------- */

typedef struct format {
    double spacing_of_1, smallest, largest; /* normal numbers */
} format;

static format format_of(fovea_dtype dtype) {
    if (dtype == FOVEA_F16) return (format){0x1p-10, 0x1p-14, 65504};
    if (dtype == FOVEA_BF16) return (format){0x1p-7, 0x1p-126, 0x1.FEp127};
    return (format){0x1p-23, 0x1p-126, FLT_MAX};
}

/* One condition a selection: joined ones would be branches, and the loop would not be vector code. */
INLINE double distance(double expected, double actual) {
    double error = fabs(actual - expected);
    double infinite = actual == copysign(INFINITY, expected) ? 0 : error;
    double undefined = actual != actual ? 0 : error;
    error = fabs(expected) > 0x1p129 ? infinite : error;
    error = expected != expected ? undefined : error;
    return expected == actual ? 0 : error;
}

INLINE double in_ulps(const format *f, double expected, double error) {
    double power = from_bits(bits_of(expected) & (INT64_C(0x7ff) << 52)), size = fabs(expected);
    double ulps = error / (power * f->spacing_of_1);
    ulps = size >= f->smallest ? ulps : 0;
    ulps = size <= f->largest ? ulps : 0;
    return error < INFINITY ? ulps : 0;
}

/* Doubles that are not negative are in the order of their bits. */
INLINE void compare(const format *f, const double *restrict expected, const double *restrict bound,
                    const double *restrict actual, int64_t n, fovea_block_worst *worst) {
    const format local = *f;
    int64_t ulps = 0, share = 0, odd = 0;
    for (int64_t i = 0; i < n; i++) {
        double error = distance(expected[i], actual[i]), part = error / bound[i];
        int64_t u = bits_of(in_ulps(&local, expected[i], error));
        part = error > 0 ? part : 0;
        int64_t p = bits_of(error <= bound[i] ? part : 0);
        odd += error <= bound[i] ? 0 : 1;
        ulps = u > ulps ? u : ulps;
        share = p > share ? p : share;
    }
    *worst = (fovea_block_worst){from_bits(ulps), from_bits(share), odd};
}

/* The bits of halves, sign apart, are those of a float 2^112 times too small (f16) or cut off. */
INLINE double half_value(uint16_t bits) {
    uint32_t magnitude = (uint32_t)(bits & 0x7fff) << 13;
    float scaled;
    memcpy(&scaled, &magnitude, sizeof scaled);
    double value = (double)scaled * 0x1p112;
    value = magnitude > 0x0f800000 ? NAN : value;
    value = magnitude == 0x0f800000 ? INFINITY : value;
    return bits & 0x8000 ? -value : value;
}

INLINE double brain_value(uint16_t bits) {
    uint32_t word = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return (double)value;
}

INLINE void widen(fovea_dtype dtype, const void *from, double *restrict to, int64_t n) {
    const float *floats = from;
    const uint16_t *halves = from;
    if (dtype == FOVEA_F32)
        for (int64_t i = 0; i < n; i++) to[i] = (double)floats[i];
    else if (dtype == FOVEA_F16)
        for (int64_t i = 0; i < n; i++) to[i] = half_value(halves[i]);
    else
        for (int64_t i = 0; i < n; i++) to[i] = brain_value(halves[i]);
}

/* ---- One copy a processor ------------------------------------------------------------------- */

#define COPY(suffix, attribute)                                                                    \
    attribute static void evaluate_##suffix(function f, double p, double q, const double *from,    \
                                            double *y, int64_t n) {                                \
        evaluate(f, p, q, from, y, n);                                                             \
    }                                                                                              \
    attribute static void compare_##suffix(const format *f, const double *expected,                \
                                           const double *bound, const double *actual, int64_t n,   \
                                           fovea_block_worst *worst) {                             \
        compare(f, expected, bound, actual, n, worst);                                             \
    }                                                                                              \
    attribute static void widen_##suffix(fovea_dtype dtype, const void *from, double *to,          \
                                         int64_t n) {                                              \
        widen(dtype, from, to, n);                                                                 \
    }

#define CHOOSE(name) name##_plain
COPY(plain, )
#if defined(__x86_64__)
COPY(avx2, __attribute__((target("avx2,fma"))))
COPY(avx512, __attribute__((target("avx512f,avx512dq,avx512vl,fma"))))
    #undef CHOOSE
    #define CHOOSE(name)                                                                           \
        (__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") ? name##_avx512  \
         : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")        ? name##_avx2    \
                                                                                  : name##_plain)
#endif

static double constant(const fovea_problem *problem, const char *name) {
    return (double)(float)fovea_problem_parameter(problem, name);
}

static function function_of(const fovea_problem *problem, double *p, double *q) {
    static const struct {
        const char *kernel, *p, *q;
        function function;
    } functions[] = {{"map_exp", NULL, NULL, EXP},
                     {"map_log", NULL, NULL, LOG},
                     {"map_sigmoid", NULL, NULL, SIGMOID},
                     {"map_tanh", NULL, NULL, TANH},
                     {"map_softplus", NULL, NULL, SOFTPLUS},
                     {"map_clamp", "lo", "hi", CLAMP},
                     {"map_abs", NULL, NULL, ABS},
                     {"map_relu", NULL, NULL, RELU},
                     {"map_leaky_relu", "slope", NULL, LEAKY_RELU},
                     {"map_elu", "alpha", NULL, ELU},
                     {"map_gelu", NULL, NULL, GELU},
                     {"map_silu", NULL, NULL, SILU},
                     {"map_mish", NULL, NULL, MISH},
                     {"quantize_f32_to_f16", NULL, NULL, TO_F16}};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        if (strcmp(problem->kernel->name, functions[i].kernel) != 0) continue;
        function found = functions[i].function;
        if (functions[i].p) *p = constant(problem, functions[i].p);
        if (functions[i].q) *q = constant(problem, functions[i].q);
        if (found == GELU && fovea_problem_parameter(problem, "approximate") > 0) return GELU_TANH;
        return found == TO_F16 && problem->views[1].dtype == FOVEA_BF16 ? TO_BF16 : found;
    }
    return NONE;
}

bool fovea_exhaustive_values(const fovea_problem *problem, const double *x, double *y, int64_t n) {
    double p = 0, q = 0;
    function f = function_of(problem, &p, &q);
    if (f != NONE) CHOOSE(evaluate)(f, p, q, x, y, n);
    return f != NONE;
}

void fovea_exhaustive_widen(fovea_dtype dtype, const void *from, double *to, int64_t n) {
    CHOOSE(widen)(dtype, from, to, n);
}

fovea_block_worst fovea_exhaustive_compare(fovea_dtype output, const double *expected,
                                           const double *bound, const double *actual, int64_t n) {
    format f = format_of(output);
    fovea_block_worst worst;
    CHOOSE(compare)(&f, expected, bound, actual, n, &worst);
    return worst;
}

double fovea_exhaustive_ulps(fovea_dtype output, double expected, double actual) {
    format f = format_of(output);
    return in_ulps(&f, expected, distance(expected, actual));
}
