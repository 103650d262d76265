/* The transform in one type of numbers, for transform.c; included once for each, with REAL, COSINE, SINE and
 * OF_REAL (which makes a name of the type's own) defined. */

typedef struct OF_REAL(number) {
    REAL re, im;
} OF_REAL(number);

/* All roots of order n. */
typedef struct OF_REAL(roots) {
    const OF_REAL(number) * w;
    int64_t n;
    int sign;
} OF_REAL(roots);

static OF_REAL(number) OF_REAL(product)(OF_REAL(number) a, OF_REAL(number) b) {
    return (OF_REAL(number)){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

/* e^(sign 2 pi i k/n), 0 <= k < n, from an angle of at most an eighth of a turn. */
static OF_REAL(number) OF_REAL(root)(int64_t k, int64_t n, int sign) {
    const REAL turn = (REAL)(2 * 3.14159265358979323846264338327950288L);
    int64_t octant = 8 * k / n, rest = 8 * k - octant * n;
    if (octant % 2) rest = n - rest;
    REAL angle = turn * ((REAL)rest / (REAL)(8 * n)), c = COSINE(angle), s = SINE(angle);
    OF_REAL(number)
    w = octant % 4 == 0 || octant % 4 == 3 ? (OF_REAL(number)){c, s} : (OF_REAL(number)){s, c};
    if (octant >= 2 && octant <= 5) w.re = -w.re;
    if (octant >= 4) w.im = -w.im;
    if (sign < 0) w.im = -w.im;
    return w;
}

static bool OF_REAL(bluestein)(const OF_REAL(number) * z, int64_t stride, OF_REAL(number) * to,
                               int64_t n, int sign);

/* Transforms of `factor` numbers each, of which the q-th is rest * q after the first. */
static void OF_REAL(join)(OF_REAL(number) * to, int64_t factor, int64_t rest,
                          const OF_REAL(roots) * r, OF_REAL(number) * parts) {
    int64_t step = r->n / (factor * rest), turn = r->n / factor;
    for (int64_t k = 0; k < rest; k++) {
        for (int64_t f = 0; f < factor; f++)
            parts[f] = OF_REAL(product)(to[f * rest + k], r->w[f * k * step]);
        for (int64_t q = 0; q < factor; q++) {
            OF_REAL(number) sum = parts[0];
            for (int64_t f = 1, at = q; f < factor; f++, at += q) {
                if (at >= factor) at -= factor;
                OF_REAL(number) term = OF_REAL(product)(parts[f], r->w[at * turn]);
                sum.re += term.re, sum.im += term.im;
            }
            to[q * rest + k] = sum;
        }
    }
}

/* The same of two numbers. */
static void OF_REAL(join_pairs)(OF_REAL(number) * to, int64_t rest, const OF_REAL(roots) * r) {
    int64_t step = r->n / (2 * rest);
    for (int64_t k = 0; k < rest; k++) {
        OF_REAL(number) a = to[k], b = OF_REAL(product)(to[rest + k], r->w[k * step]);
        to[k] = (OF_REAL(number)){a.re + b.re, a.im + b.im};
        to[rest + k] = (OF_REAL(number)){a.re - b.re, a.im - b.im};
    }
}

/* to[0..n) = transform of z[0], z[stride], ...; n divides r->n. */
static bool OF_REAL(transform)(const OF_REAL(number) * z, int64_t stride, OF_REAL(number) * to,
                               int64_t n, const OF_REAL(roots) * r) {
    if (n == 1) return to[0] = z[0], true;
    int64_t factor = smallest_factor(n), rest = n / factor;
    if (factor > DIRECT_PRIME && rest == 1) return OF_REAL(bluestein)(z, stride, to, n, r->sign);
    for (int64_t f = 0; f < factor; f++)
        if (!OF_REAL(transform)(z + f * stride, stride * factor, to + f * rest, rest, r))
            return false;
    OF_REAL(number) column[DIRECT_PRIME], *parts = column;
    if (factor == 2) return OF_REAL(join_pairs)(to, rest, r), true;
    if (factor > DIRECT_PRIME && !(parts = malloc((size_t)factor * sizeof *parts))) return false;
    OF_REAL(join)(to, factor, rest, r, parts);
    if (parts != column) free(parts);
    return true;
}

static bool OF_REAL(transform_all)(OF_REAL(number) * z, int64_t n, int sign) {
    OF_REAL(number) *w = malloc((size_t)n * sizeof *w), *from = malloc((size_t)n * sizeof *from);
    bool enough = w && from;
    for (int64_t k = 0; enough && k < n; k++) w[k] = OF_REAL(root)(k, n, sign), from[k] = z[k];
    enough = enough && OF_REAL(transform)(from, 1, z, n, &(OF_REAL(roots)){w, n, sign});
    free(w), free(from);
    return enough;
}

/* j k = (j^2 + k^2 - (k-j)^2) / 2 makes the transform a convolution with e^(-sign pi i j^2/n). */
static bool OF_REAL(bluestein)(const OF_REAL(number) * z, int64_t stride, OF_REAL(number) * to,
                               int64_t n, int sign) {
    int64_t length = 1;
    while (length < 2 * n - 1) length *= 2;
    OF_REAL(number) *a = calloc((size_t)length, sizeof *a), *b = calloc((size_t)length, sizeof *b);
    bool enough = a && b;
    for (int64_t j = 0; enough && j < n; j++) {
        OF_REAL(number)
        chirp = OF_REAL(root)((int64_t)((__int128)j * j % (2 * n)), 2 * n, sign);
        a[j] = OF_REAL(product)(z[j * stride], chirp);
        b[j] = b[(length - j) % length] = (OF_REAL(number)){chirp.re, -chirp.im};
    }
    enough =
        enough && OF_REAL(transform_all)(a, length, -1) && OF_REAL(transform_all)(b, length, -1);
    for (int64_t k = 0; enough && k < length; k++) a[k] = OF_REAL(product)(a[k], b[k]);
    enough = enough && OF_REAL(transform_all)(a, length, 1);
    for (int64_t k = 0; enough && k < n; k++) {
        OF_REAL(number)
        chirp = OF_REAL(root)((int64_t)((__int128)k * k % (2 * n)), 2 * n, sign);
        OF_REAL(number) value = OF_REAL(product)(a[k], chirp);
        to[k] = (OF_REAL(number)){value.re / (REAL)length, value.im / (REAL)length};
    }
    free(a), free(b);
    return enough;
}

#undef REAL
#undef COSINE
#undef SINE
#undef OF_REAL
