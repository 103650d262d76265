/* What a transform works out once a length: how the length is taken apart, in which order elements
 * enter, and all roots of unity, formed in double and rounded once.
 *
 * n = n1 n2 with n1 and n2 near its root (Bailey, FFTs in external or hierarchical memory, 1990):
 * columns j2 of z[j1 n2 + j2] are transformed over j1, multiplied by w^(k1 j2), and transformed over
 * j2. Lanes of a vector are columns, then rows, so that no butterfly moves a lane. Short lengths and
 * those without such factors are one column. Prime factors above 7: Bluestein's convolution. */
#ifndef FOVEA_CPU_FFT_PLAN_H
#define FOVEA_CPU_FFT_PLAN_H

#include "cpu/kernel.h"

#include <math.h>

enum { FFT_PASSES = 48, FFT_SPLIT = 16, FFT_SHORTEST_COLUMN = 4 };

/* A transform down the columns: decimation in time, in place, position p holding element order[p]. */
typedef struct fft_column {
    int64_t n;
    int passes, radix[FFT_PASSES];
    int32_t *order, *place;  /* place[order[p]] = p */
    void *roots[FFT_PASSES]; /* of each pass: for k below the span, radix - 1 complex numbers */
} fft_column;

typedef struct fft_plan {
    int64_t n;                /* of complex numbers */
    fft_column first, second; /* second.n 0: one column alone */
    int64_t blocks;           /* of vector-wide columns of the first */
    void *coarse, *fine;      /* w^(k1 width b) by [b][k1]; w^(k1 lane) by [k1][re, im][lane] */
    int64_t circle;           /* of Bluestein's convolution; 0: none */
    void *chirp, *filter;
    struct fft_plan *convolution;
    void *real_coarse,
        *real_fine; /* of real transforms of 2n: -i e^(-pi i k/n), k = width b + lane */
} fft_plan;

/* Memory is taken from a block twice: without one, to count, and then really. */
typedef struct fft_arena {
    char *memory;
    size_t used;
} fft_arena;

static void *fft_take(fft_arena *arena, int64_t count, size_t size) {
    size_t at = arena->used;
    arena->used += ((size_t)count * size + 63) / 64 * 64;
    return arena->memory ? arena->memory + at : NULL;
}

/* Lanes of a vector of the elements. */
static int64_t fft_width(fovea_dtype part) { return part == FOVEA_F64 ? VD_WIDTH : VF_WIDTH; }

/* e^(-2 pi i k/n), 0 <= k < n, from an angle of at most an eighth of a turn. */
static void fft_root(int64_t k, int64_t n, double *re, double *im) {
    const double turn = 2 * 3.14159265358979323846;
    int64_t octant = 8 * k / n, rest = 8 * k - octant * n;
    double angle = turn * ((double)(octant % 2 ? n - rest : rest) / (double)(8 * n));
    double c = cos(angle), s = sin(angle);
    bool swap = octant % 4 == 1 || octant % 4 == 2;
    *re = octant >= 2 && octant <= 5 ? -(swap ? s : c) : swap ? s : c;
    *im = octant >= 4 ? (swap ? c : s) : -(swap ? c : s);
}

static void fft_put(void *array, fovea_dtype part, int64_t i, double value) {
    if (!array) return;
    if (part == FOVEA_F64)
        ((double *)array)[i] = value;
    else
        ((float *)array)[i] = (float)value;
}

static void fft_put_root(void *array, fovea_dtype part, int64_t i, int64_t k, int64_t n) {
    double re, im;
    if (!array) return;
    fft_root(k % n, n, &re, &im);
    fft_put(array, part, 2 * i, re);
    fft_put(array, part, 2 * i + 1, im);
}

/* Eights, and fours where the power of two is not one of eight; the odd ones first. */
static void fft_choose_radices(fft_column *column, int only) {
    int64_t rest = column->n;
    int power = __builtin_ctzll((uint64_t)rest);
    for (int f = 3; f <= 7; f += 2)
        for (; rest % f == 0; rest /= f) column->radix[column->passes++] = f;
    if (only) {
        for (int step = only == 2 ? 1 : 2; power > 0; power -= step)
            column->radix[column->passes++] = power == 1 ? 2 : only;
        return;
    }
    int fours = power % 3 == 2 ? 1 : power % 3 == 1 && power > 1 ? 2 : 0;
    if (power == 1) column->radix[column->passes++] = 2;
    for (int i = 0; i < fours; i++) column->radix[column->passes++] = 4;
    for (int i = 0; i < (power - 2 * fours) / 3; i++) column->radix[column->passes++] = 8;
}

/* The element at position p: the last pass joins sub-transforms of every radix-th element. */
static int64_t fft_element_at(const fft_column *column, int64_t position) {
    int64_t span = column->n, element = 0, step = 1;
    for (int pass = column->passes - 1; pass >= 0; pass--) {
        span /= column->radix[pass];
        element += position / span * step;
        position %= span;
        step *= column->radix[pass];
    }
    return element;
}

static void fft_lay_out_column(fft_column *column, int64_t n, int only, fovea_dtype part,
                               fft_arena *arena) {
    size_t size = fovea_dtype_size(part);
    *column = (fft_column){.n = n};
    fft_choose_radices(column, only);
    column->order = fft_take(arena, n, sizeof *column->order);
    column->place = fft_take(arena, n, sizeof *column->place);
    for (int64_t p = 0; column->order && p < n; p++) {
        column->order[p] = (int32_t)fft_element_at(column, p);
        column->place[column->order[p]] = (int32_t)p;
    }
    int64_t span = 1;
    for (int pass = 0; pass < column->passes; pass++) {
        int radix = column->radix[pass];
        void *roots = column->roots[pass] = fft_take(arena, 2 * span * (radix - 1), size);
        for (int64_t k = 0; roots && k < span; k++)
            for (int q = 1; q < radix; q++)
                fft_put_root(roots, part, k * (radix - 1) + q - 1, k * q, span * radix);
        span *= radix;
    }
}

static bool fft_is_smooth(int64_t n) {
    for (int f = 2; f <= 7; f++)
        while (n % f == 0) n /= f;
    return n == 1;
}

/* The largest divisor up to the root. */
static int64_t fft_divisor(int64_t n) {
    int64_t d = (int64_t)sqrt((double)n);
    while (d > 1 && n % d != 0) d--;
    return d;
}

/* The shortest length from `least` on that is 1, 3, 5, 9 or 15 times a power of two. */
static int64_t fft_good_length(int64_t least) {
    static const int odd[] = {1, 3, 5, 9, 15};
    int64_t best = INT64_MAX;
    for (int i = 0; i < 5; i++) {
        int64_t n = odd[i];
        while (n < least) n *= 2;
        best = smaller(best, n);
    }
    return best;
}

static void fft_lay_out_steps(fft_plan *plan, fovea_dtype part, fft_arena *arena) {
    int64_t width = fft_width(part), n1 = plan->first.n, n2 = plan->second.n;
    size_t size = fovea_dtype_size(part);
    plan->blocks = divide_up(n2, width);
    plan->coarse = fft_take(arena, 2 * plan->blocks * n1, size);
    plan->fine = fft_take(arena, 2 * n1 * width, size);
    for (int64_t b = 0; plan->coarse && b < plan->blocks; b++)
        for (int64_t k = 0; k < n1; k++)
            fft_put_root(plan->coarse, part, b * n1 + k, k * b * width, plan->n);
    for (int64_t k = 0; plan->fine && k < n1; k++)
        for (int64_t lane = 0; lane < width; lane++) {
            double re, im;
            fft_root(k * lane % plan->n, plan->n, &re, &im);
            fft_put(plan->fine, part, 2 * k * width + lane, re);
            fft_put(plan->fine, part, (2 * k + 1) * width + lane, im);
        }
}

static bool fft_splits(int64_t n) {
    return n >= FFT_SPLIT && fft_divisor(n) >= FFT_SHORTEST_COLUMN;
}

/* Numbers of scratch that a transform takes with so many threads. */
static int64_t fft_scratch(int64_t n, fovea_dtype part, int threads) {
    int64_t width = fft_width(part);
    if (!fft_is_smooth(n)) {
        int64_t circle = fft_good_length(2 * n - 1);
        return 4 * circle + 64 + fft_scratch(circle, part, threads);
    }
    if (!fft_splits(n)) return 2 * n * width;
    int64_t n1 = fft_divisor(n), n2 = n / n1;
    return 2 * width * (divide_up(n2, width) * n1 + threads * n2);
}

/* only: 2 or 4 for stages of that radix alone, else 0. real: twiddles of real transforms too. */
static void fft_lay_out(fft_plan *plan, int64_t n, int only, bool real, fovea_dtype part,
                        fft_arena *arena) {
    int64_t width = fft_width(part);
    size_t size = fovea_dtype_size(part);
    *plan = (fft_plan){.n = n};
    if (!fft_is_smooth(n)) {
        plan->circle = fft_good_length(2 * n - 1);
        plan->chirp = fft_take(arena, 2 * n, size);
        plan->filter = fft_take(arena, 2 * plan->circle, size);
        for (int64_t j = 0; plan->chirp && j < n; j++)
            fft_put_root(plan->chirp, part, j, (int64_t)((__int128)j * j % (2 * n)), 2 * n);
        fft_plan counted;
        fft_plan *inner = fft_take(arena, 1, sizeof *inner);
        fft_lay_out(inner ? inner : &counted, plan->circle, 0, false, part, arena);
        plan->convolution = inner;
    } else if (fft_splits(n)) {
        int64_t divisor = fft_divisor(n);
        fft_lay_out_column(&plan->first, divisor, only, part, arena);
        fft_lay_out_column(&plan->second, n / divisor, only, part, arena);
        fft_lay_out_steps(plan, part, arena);
    } else {
        fft_lay_out_column(&plan->first, n, only, part, arena);
    }
    if (!real) return;
    plan->real_coarse = fft_take(arena, 2 * (n / width + 1), size);
    plan->real_fine = fft_take(arena, 2 * width, size);
    for (int64_t b = 0; plan->real_coarse && b <= n / width; b++)
        fft_put_root(plan->real_coarse, part, b, b * width, 2 * n);
    for (int64_t lane = 0; plan->real_fine && lane < width; lane++) {
        double re, im;
        fft_root(lane % (2 * n), 2 * n, &re, &im);
        fft_put(plan->real_fine, part, lane, im);
        fft_put(plan->real_fine, part, width + lane, -re);
    }
}

#endif
