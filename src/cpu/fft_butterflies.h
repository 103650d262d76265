/* Butterflies of one element type, and the passes that they make: included by fft_runs.h. */
#include "cpu/of_type.h"

typedef struct OF_TYPE(fft_pair) {
    VECTOR re, im;
} OF_TYPE(fft_pair);

FOVEA_INLINE OF_TYPE(fft_pair) OF_TYPE(fft_plus)(OF_TYPE(fft_pair) a, OF_TYPE(fft_pair) b) {
    return (OF_TYPE(fft_pair)){V(add)(a.re, b.re), V(add)(a.im, b.im)};
}
FOVEA_INLINE OF_TYPE(fft_pair) OF_TYPE(fft_minus)(OF_TYPE(fft_pair) a, OF_TYPE(fft_pair) b) {
    return (OF_TYPE(fft_pair)){V(sub)(a.re, b.re), V(sub)(a.im, b.im)};
}
FOVEA_INLINE OF_TYPE(fft_pair) OF_TYPE(fft_times)(OF_TYPE(fft_pair) a, OF_TYPE(fft_pair) w) {
    return (OF_TYPE(fft_pair)){V(fms)(a.re, w.re, V(mul)(a.im, w.im)),
                               V(fma)(a.re, w.im, V(mul)(a.im, w.re))};
}
/* a + (-i) b and a - (-i) b */
FOVEA_INLINE OF_TYPE(fft_pair) OF_TYPE(fft_plus_turned)(OF_TYPE(fft_pair) a, OF_TYPE(fft_pair) b) {
    return (OF_TYPE(fft_pair)){V(add)(a.re, b.im), V(sub)(a.im, b.re)};
}
FOVEA_INLINE OF_TYPE(fft_pair) OF_TYPE(fft_minus_turned)(OF_TYPE(fft_pair) a, OF_TYPE(fft_pair) b) {
    return (OF_TYPE(fft_pair)){V(sub)(a.re, b.im), V(add)(a.im, b.re)};
}

FOVEA_INLINE void OF_TYPE(fft_four)(OF_TYPE(fft_pair) * a, OF_TYPE(fft_pair) * b,
                                    OF_TYPE(fft_pair) * c, OF_TYPE(fft_pair) * d) {
    OF_TYPE(fft_pair) s = OF_TYPE(fft_plus)(*a, *c), t = OF_TYPE(fft_minus)(*a, *c);
    OF_TYPE(fft_pair) u = OF_TYPE(fft_plus)(*b, *d), v = OF_TYPE(fft_minus)(*b, *d);
    *a = OF_TYPE(fft_plus)(s, u), *c = OF_TYPE(fft_minus)(s, u);
    *b = OF_TYPE(fft_plus_turned)(t, v), *d = OF_TYPE(fft_minus_turned)(t, v);
}

FOVEA_INLINE void OF_TYPE(fft_eight)(OF_TYPE(fft_pair) * x) {
    VECTOR half = V(set1)((ELEMENT)0.70710678118654752440);
    OF_TYPE(fft_four)(&x[0], &x[2], &x[4], &x[6]);
    OF_TYPE(fft_four)(&x[1], &x[3], &x[5], &x[7]);
    /* e^(-pi i/4), -i and e^(-3 pi i/4) times the odd ones */
    OF_TYPE(fft_pair)
    b = {V(mul)(half, V(add)(x[3].re, x[3].im)), V(mul)(half, V(sub)(x[3].im, x[3].re))};
    OF_TYPE(fft_pair)
    d = {V(mul)(half, V(sub)(x[7].im, x[7].re)), V(mul)(half, V(add)(x[7].re, x[7].im))};
    OF_TYPE(fft_pair) even[4] = {x[0], x[2], x[4], x[6]}, a = x[1], c = x[5];
    x[0] = OF_TYPE(fft_plus)(even[0], a), x[4] = OF_TYPE(fft_minus)(even[0], a);
    x[1] = OF_TYPE(fft_plus)(even[1], b), x[5] = OF_TYPE(fft_minus)(even[1], b);
    x[2] = OF_TYPE(fft_plus_turned)(even[2], c), x[6] = OF_TYPE(fft_minus_turned)(even[2], c);
    x[3] = (OF_TYPE(fft_pair)){V(add)(even[3].re, d.re), V(sub)(even[3].im, d.im)};
    x[7] = (OF_TYPE(fft_pair)){V(sub)(even[3].re, d.re), V(add)(even[3].im, d.im)};
}

/* An odd prime: sums and differences of x_j and x_(r-j), cosines of the one, sines of the other. */
FOVEA_INLINE void OF_TYPE(fft_odd)(int r, OF_TYPE(fft_pair) * x) {
    static const double cosines[8][4] = {
        [3] = {1, -0.5},
        [5] = {1, 0.30901699437494742410, -0.80901699437494742410},
        [7] = {1, 0.62348980185873353053, -0.22252093395631440429, -0.90096886790241912624}};
    static const double sines[8][4] = {
        [3] = {0, 0.86602540378443864676},
        [5] = {0, 0.95105651629515357212, 0.58778525229247312917},
        [7] = {0, 0.78183148246802980871, 0.97492791218182360702, 0.43388373911755812048}};
    OF_TYPE(fft_pair) sum[4], difference[4], total = x[0];
    VF_UNROLLED for (int j = 1; j <= 3; j++) {
        if (j > r / 2) continue;
        sum[j] = OF_TYPE(fft_plus)(x[j], x[r - j]),
        difference[j] = OF_TYPE(fft_minus)(x[j], x[r - j]);
        total = OF_TYPE(fft_plus)(total, sum[j]);
    }
    OF_TYPE(fft_pair) zero = {V(set1)(0), V(set1)(0)}, first = x[0];
    VF_UNROLLED for (int k = 1; k <= 3; k++) {
        if (k > r / 2) continue;
        OF_TYPE(fft_pair) even = first, turned = zero;
        VF_UNROLLED for (int j = 1; j <= 3; j++) {
            if (j > r / 2) continue;
            int m = j * k % r;
            bool beyond = m > r / 2;
            VECTOR c = V(set1)((ELEMENT)cosines[r][beyond ? r - m : m]);
            VECTOR s = V(set1)((ELEMENT)(beyond ? -sines[r][r - m] : sines[r][m]));
            even.re = V(fma)(c, sum[j].re, even.re), even.im = V(fma)(c, sum[j].im, even.im);
            turned.re = V(fma)(s, difference[j].re, turned.re);
            turned.im = V(fma)(s, difference[j].im, turned.im);
        }
        x[k] = OF_TYPE(fft_plus_turned)(even, turned);
        x[r - k] = OF_TYPE(fft_minus_turned)(even, turned);
    }
    x[0] = total;
}

FOVEA_INLINE void OF_TYPE(fft_butterfly)(int r, OF_TYPE(fft_pair) * x) {
    if (r == 8) {
        OF_TYPE(fft_eight)(x);
    } else if (r == 4) {
        OF_TYPE(fft_four)(&x[0], &x[1], &x[2], &x[3]);
    } else if (r == 2) {
        OF_TYPE(fft_pair) a = x[0];
        x[0] = OF_TYPE(fft_plus)(a, x[1]), x[1] = OF_TYPE(fft_minus)(a, x[1]);
    } else {
        OF_TYPE(fft_odd)(r, x);
    }
}
