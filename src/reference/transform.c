/* The transform by its definition, taken apart at the smallest factor of the length; prime lengths
 * beyond a few dozen by Bluestein's convolution (A linear filtering approach to the computation of
 * discrete Fourier transform, 1970). */
#include "reference/transform.h"

#include <math.h>
#include <stdlib.h>

enum { DIRECT_PRIME = 64 };

static fovea_complex product(fovea_complex a, fovea_complex b) {
    return (fovea_complex){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

/* e^(sign 2 pi i k/n), 0 <= k < n, from an angle of at most an eighth of a turn. */
static fovea_complex root(int64_t k, int64_t n, int sign) {
    const long double turn = 2 * 3.14159265358979323846264338327950288L;
    int octant = (int)(8 * (long double)k / (long double)n);
    long double rest = (long double)(8 * k - octant * n) / (long double)(8 * n);
    if (octant % 2) rest = 0.125L - rest;
    long double c = cosl(turn * rest), s = sinl(turn * rest);
    fovea_complex w =
        octant % 4 == 0 || octant % 4 == 3 ? (fovea_complex){c, s} : (fovea_complex){s, c};
    if (octant >= 2 && octant <= 5) w.re = -w.re;
    if (octant >= 4) w.im = -w.im;
    if (sign < 0) w.im = -w.im;
    return w;
}

static int64_t smallest_factor(int64_t n) {
    for (int64_t f = 2; f * f <= n; f++)
        if (n % f == 0) return f;
    return n;
}

typedef struct roots {
    const fovea_complex *w; /* all of order n */
    int64_t n;
    int sign;
} roots;

static bool bluestein(const fovea_complex *z, int64_t stride, fovea_complex *to, int64_t n,
                      int sign);

/* to[0..n) = transform of z[0], z[stride], ...; n divides r->n. */
static bool transform(const fovea_complex *z, int64_t stride, fovea_complex *to, int64_t n,
                      const roots *r) {
    if (n == 1) return to[0] = z[0], true;
    int64_t factor = smallest_factor(n), rest = n / factor, step = r->n / n;
    if (factor > DIRECT_PRIME && rest == 1) return bluestein(z, stride, to, n, r->sign);
    for (int64_t f = 0; f < factor; f++)
        if (!transform(z + f * stride, stride * factor, to + f * rest, rest, r)) return false;
    fovea_complex column[DIRECT_PRIME], *parts = column;
    if (factor > DIRECT_PRIME && !(parts = malloc((size_t)factor * sizeof *parts))) return false;
    for (int64_t k = 0; k < rest; k++) {
        for (int64_t f = 0; f < factor; f++)
            parts[f] = product(to[f * rest + k], r->w[f * k * step]);
        for (int64_t q = 0; q < factor; q++) {
            fovea_complex sum = parts[0];
            for (int64_t f = 1; f < factor; f++) {
                fovea_complex term = product(parts[f], r->w[f * q % factor * (r->n / factor)]);
                sum.re += term.re, sum.im += term.im;
            }
            to[q * rest + k] = sum;
        }
    }
    if (parts != column) free(parts);
    return true;
}

bool fovea_reference_transform(fovea_complex *z, int64_t n, int sign) {
    fovea_complex *w = malloc((size_t)n * sizeof *w), *from = malloc((size_t)n * sizeof *from);
    bool enough = w && from;
    for (int64_t k = 0; enough && k < n; k++) w[k] = root(k, n, sign), from[k] = z[k];
    enough = enough && transform(from, 1, z, n, &(roots){w, n, sign});
    free(w), free(from);
    return enough;
}

/* j k = (j^2 + k^2 - (k-j)^2) / 2 makes the transform a convolution with e^(-sign pi i j^2/n). */
static bool bluestein(const fovea_complex *z, int64_t stride, fovea_complex *to, int64_t n,
                      int sign) {
    int64_t length = 1;
    while (length < 2 * n - 1) length *= 2;
    fovea_complex *a = calloc((size_t)length, sizeof *a), *b = calloc((size_t)length, sizeof *b);
    bool enough = a && b;
    for (int64_t j = 0; enough && j < n; j++) {
        fovea_complex chirp = root((int64_t)((__int128)j * j % (2 * n)), 2 * n, sign);
        a[j] = product(z[j * stride], chirp);
        b[j] = b[(length - j) % length] = (fovea_complex){chirp.re, -chirp.im};
    }
    enough = enough && fovea_reference_transform(a, length, -1) &&
             fovea_reference_transform(b, length, -1);
    for (int64_t k = 0; enough && k < length; k++) a[k] = product(a[k], b[k]);
    enough = enough && fovea_reference_transform(a, length, 1);
    for (int64_t k = 0; enough && k < n; k++) {
        fovea_complex chirp = root((int64_t)((__int128)k * k % (2 * n)), 2 * n, sign);
        fovea_complex value = product(a[k], chirp);
        to[k] = (fovea_complex){value.re / (long double)length, value.im / (long double)length};
    }
    free(a), free(b);
    return enough;
}
