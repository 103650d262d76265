/* The transform of one element type, for fft.h; included once for each, with ELEMENT, VECTOR (the prefix
 * of its operations) and WIDTH defined. A line is a column of vectors: for each element WIDTH real
 * parts, then WIDTH imaginary ones. */

#include "cpu/fft_butterflies.h"
#include "cpu/of_type.h"

/* Rows of complex numbers in memory, one lane after the other. */
typedef struct OF_TYPE(fft_rows) {
    ELEMENT *data;        /* row 0 of the first lane */
    int64_t row, lane;    /* distances in elements */
    int64_t lanes;        /* 1 to WIDTH */
    bool direct, swapped; /* lanes are all there and stand side by side; parts change places */
    ELEMENT scale;
} OF_TYPE(fft_rows);

FOVEA_INLINE OF_TYPE(fft_pair)
    OF_TYPE(fft_load_row)(const OF_TYPE(fft_rows) * rows, int64_t number) {
    const ELEMENT *from = rows->data + 2 * number * rows->row;
    ELEMENT copy[2 * WIDTH];
    if (!rows->direct) {
        if (rows->lanes == 1) /* through memory it would wait for the store of its two parts */
            return (OF_TYPE(fft_pair)){V(set1)(from[rows->swapped]), V(set1)(from[!rows->swapped])};
        memset(copy, 0, sizeof copy);
        for (int64_t lane = 0; lane < rows->lanes; lane++)
            memcpy(copy + 2 * lane, from + 2 * lane * rows->lane, 2 * sizeof *copy);
        from = copy;
    }
    OF_TYPE(fft_pair) x;
    V(deinterleave)(V(load)(from), V(load)(from + WIDTH), &x.re, &x.im);
    return rows->swapped ? (OF_TYPE(fft_pair)){x.im, x.re} : x;
}

FOVEA_INLINE void OF_TYPE(fft_store_row)(const OF_TYPE(fft_rows) * rows, int64_t number,
                                         OF_TYPE(fft_pair) x) {
    ELEMENT *to = rows->data + 2 * number * rows->row, copy[2 * WIDTH];
    ELEMENT *place = rows->direct ? to : copy;
    VECTOR scale = V(set1)(rows->scale), a, b;
    x = (OF_TYPE(fft_pair)){V(mul)(scale, x.re), V(mul)(scale, x.im)};
    if (rows->swapped) x = (OF_TYPE(fft_pair)){x.im, x.re};
    V(interleave)(x.re, x.im, &a, &b);
    V(store)(place, a), V(store)(place + WIDTH, b);
    for (int64_t lane = 0; !rows->direct && lane < rows->lanes; lane++)
        memcpy(to + 2 * lane * rows->lane, copy + 2 * lane, 2 * sizeof *copy);
}

enum OF_TYPE(fft_kind) {
    OF_TYPE(fft_FIRST),
    OF_TYPE(fft_FROM_ROWS),
    OF_TYPE(fft_LATER),
    OF_TYPE(fft_TO_ROWS)
};

FOVEA_INLINE OF_TYPE(fft_pair) OF_TYPE(fft_load_pair)(const ELEMENT *at) {
    return (OF_TYPE(fft_pair)){V(load)(at), V(load)(at + WIDTH)};
}
FOVEA_INLINE void OF_TYPE(fft_store_pair)(ELEMENT *at, OF_TYPE(fft_pair) x) {
    V(store)(at, x.re), V(store)(at + WIDTH, x.im);
}

/* One pass of radix r over a line, after which sub-transforms of r times `span` are complete. */
FOVEA_INLINE void OF_TYPE(fft_pass)(int r, int kind, const fft_column *column, int64_t span,
                                    const ELEMENT *roots, const OF_TYPE(fft_rows) * rows,
                                    ELEMENT *line) {
    for (int64_t base = 0; base < column->n; base += r * span)
        for (int64_t k = 0; k < span; k++) {
            ELEMENT *at = line + (base + k) * 2 * WIDTH;
            const ELEMENT *w = roots + 2 * k * (r - 1);
            OF_TYPE(fft_pair) x[8];
            VF_UNROLLED for (int q = 0; q < 8; q++) {
                if (q >= r) continue;
                x[q] = kind == OF_TYPE(fft_FROM_ROWS)
                           ? OF_TYPE(fft_load_row)(rows, column->order[base + q])
                           : OF_TYPE(fft_load_pair)(at + q * span * 2 * WIDTH);
                if (q == 0 || kind == OF_TYPE(fft_FIRST) || kind == OF_TYPE(fft_FROM_ROWS))
                    continue;
                OF_TYPE(fft_pair) root = {V(set1)(w[2 * q - 2]), V(set1)(w[2 * q - 1])};
                x[q] = OF_TYPE(fft_times)(x[q], root);
            }
            OF_TYPE(fft_butterfly)(r, x);
            VF_UNROLLED for (int q = 0; q < 8; q++) {
                if (q >= r) continue;
                if (kind == OF_TYPE(fft_TO_ROWS))
                    OF_TYPE(fft_store_row)(rows, base + k + q * span, x[q]);
                else
                    OF_TYPE(fft_store_pair)(at + q * span * 2 * WIDTH, x[q]);
            }
        }
}

#define PASSES(name, kind)                                                                         \
    static void OF_TYPE(fft_##name)(int r, const fft_column *column, int64_t span,                 \
                                    const void *roots, const OF_TYPE(fft_rows) * rows,             \
                                    ELEMENT * line) {                                              \
        if (r == 8)                                                                                \
            OF_TYPE(fft_pass)(8, kind, column, span, roots, rows, line);                           \
        else if (r == 4)                                                                           \
            OF_TYPE(fft_pass)(4, kind, column, span, roots, rows, line);                           \
        else if (r == 2)                                                                           \
            OF_TYPE(fft_pass)(2, kind, column, span, roots, rows, line);                           \
        else if (r == 3)                                                                           \
            OF_TYPE(fft_pass)(3, kind, column, span, roots, rows, line);                           \
        else if (r == 5)                                                                           \
            OF_TYPE(fft_pass)(5, kind, column, span, roots, rows, line);                           \
        else                                                                                       \
            OF_TYPE(fft_pass)(7, kind, column, span, roots, rows, line);                           \
    }
PASSES(first_pass, OF_TYPE(fft_FIRST))
PASSES(pass_from_rows, OF_TYPE(fft_FROM_ROWS))
PASSES(later_pass, OF_TYPE(fft_LATER))
PASSES(pass_to_rows, OF_TYPE(fft_TO_ROWS))

/* All passes of a column. from, to: where it comes from and goes to; NULL: the line. */
static void OF_TYPE(fft_run_column)(const fft_column *column, const OF_TYPE(fft_rows) * from,
                                    const OF_TYPE(fft_rows) * to, ELEMENT *line) {
    int64_t span = 1;
    for (int pass = 0; pass < column->passes; pass++) {
        int r = column->radix[pass];
        const void *roots = column->roots[pass];
        if (to && pass == column->passes - 1)
            OF_TYPE(fft_pass_to_rows)(r, column, span, roots, to, line);
        else if (pass > 0)
            OF_TYPE(fft_later_pass)(r, column, span, roots, NULL, line);
        else if (from)
            OF_TYPE(fft_pass_from_rows)(r, column, span, roots, from, line);
        else
            OF_TYPE(fft_first_pass)(r, column, span, roots, NULL, line);
        span *= r;
    }
}

/* ---- Lengths that are split ----------------------------------------------------------------- */

/* One row of a transform: z[stride j] to Z[to_stride k], distances in complex numbers. */
typedef struct OF_TYPE(fft_task) {
    const fft_plan *plan;
    const ELEMENT *from;
    ELEMENT *to;
    int64_t stride, to_stride;
    bool inverse;
    ELEMENT scale;
    ELEMENT *middle, *lines; /* between the steps; a line of the second step for each thread */
} OF_TYPE(fft_task);

static void OF_TYPE(fft_first_step)(const void *user, int64_t begin, int64_t end, int thread) {
    const OF_TYPE(fft_task) *t = user;
    const fft_plan *plan = t->plan;
    (void)thread;
    for (int64_t b = begin; b < end; b++) {
        OF_TYPE(fft_rows)
        rows = {.data = (ELEMENT *)(uintptr_t)t->from + 2 * b * WIDTH * t->stride,
                .row = plan->second.n * t->stride,
                .lane = t->stride,
                .lanes = smaller(WIDTH, plan->second.n - b * WIDTH),
                .swapped = t->inverse};
        rows.direct = rows.lanes == WIDTH && t->stride == 1;
        OF_TYPE(fft_run_column)
        (&plan->first, &rows, NULL, t->middle + b * plan->first.n * 2 * WIDTH);
    }
}

/* A square of WIDTH rows k1 and the columns of block b, twiddled and turned, into the line. */
static void OF_TYPE(fft_take_square)(const OF_TYPE(fft_task) * t, int64_t b, int64_t row,
                                     int64_t rows, ELEMENT *line) {
    const fft_plan *plan = t->plan;
    int64_t n1 = plan->first.n, columns = smaller(WIDTH, plan->second.n - b * WIDTH);
    const ELEMENT *coarse = (const ELEMENT *)plan->coarse + 2 * (b * n1 + row);
    const ELEMENT *fine = (const ELEMENT *)plan->fine + 2 * row * WIDTH;
    const ELEMENT *from = t->middle + (b * n1 + row) * 2 * WIDTH;
    VECTOR re[WIDTH], im[WIDTH];
    VF_UNROLLED for (int r = 0; r < WIDTH; r++) {
        if (r >= rows) {
            re[r] = im[r] = V(set1)(0);
            continue;
        }
        OF_TYPE(fft_pair) w = {V(set1)(coarse[2 * r]), V(set1)(coarse[2 * r + 1])};
        w = OF_TYPE(fft_times)(OF_TYPE(fft_load_pair)(fine + 2 * r * WIDTH), w);
        OF_TYPE(fft_pair) x = OF_TYPE(fft_times)(OF_TYPE(fft_load_pair)(from + 2 * r * WIDTH), w);
        re[r] = x.re, im[r] = x.im;
    }
    V(transpose)(re);
    V(transpose)(im);
    const int32_t *place = plan->second.place + b * WIDTH;
    VF_UNROLLED for (int c = 0; c < WIDTH; c++) if (c < columns) OF_TYPE(fft_store_pair)(
        line + (int64_t)place[c] * 2 * WIDTH, (OF_TYPE(fft_pair)){re[c], im[c]});
}

static void OF_TYPE(fft_second_step)(const void *user, int64_t begin, int64_t end, int thread) {
    const OF_TYPE(fft_task) *t = user;
    const fft_plan *plan = t->plan;
    ELEMENT *line = t->lines + thread * plan->second.n * 2 * WIDTH;
    for (int64_t c = begin; c < end; c++) {
        OF_TYPE(fft_rows)
        rows = {.data = t->to + 2 * c * WIDTH * t->to_stride,
                .row = plan->first.n * t->to_stride,
                .lane = t->to_stride,
                .lanes = smaller(WIDTH, plan->first.n - c * WIDTH),
                .swapped = t->inverse,
                .scale = t->scale};
        rows.direct = rows.lanes == WIDTH && t->to_stride == 1;
        for (int64_t b = 0; b < plan->blocks; b++)
            OF_TYPE(fft_take_square)(t, b, c * WIDTH, rows.lanes, line);
        OF_TYPE(fft_run_column)(&plan->second, NULL, &rows, line);
    }
}

/* ---- Lengths of one column, of which lanes are rows ------------------------------------------ */

/* count transforms, each `row` and `to_row` complex numbers after the one before. */
static void OF_TYPE(fft_short_rows)(const OF_TYPE(fft_task) * t, int64_t count, int64_t row,
                                    int64_t to_row) {
    const fft_column *column = &t->plan->first;
    for (int64_t r = 0; r < count; r += WIDTH) {
        OF_TYPE(fft_rows)
        from = {.data = (ELEMENT *)(uintptr_t)t->from + 2 * r * row,
                .row = t->stride,
                .lane = row,
                .lanes = smaller(WIDTH, count - r),
                .swapped = t->inverse};
        OF_TYPE(fft_rows)
        to = {.data = t->to + 2 * r * to_row,
              .row = t->to_stride,
              .lane = to_row,
              .lanes = from.lanes,
              .swapped = t->inverse,
              .scale = t->scale};
        for (int64_t p = 0; p < column->n; p++) OF_TYPE(fft_store_pair)
        (t->lines + p * 2 * WIDTH, OF_TYPE(fft_load_row)(&from, column->order[p]));
        OF_TYPE(fft_run_column)(column, NULL, NULL, t->lines);
        for (int64_t p = 0; p < column->n; p++)
            OF_TYPE(fft_store_row)(&to, p, OF_TYPE(fft_load_pair)(t->lines + p * 2 * WIDTH));
    }
}

/* ---- Any length ------------------------------------------------------------------------------ */

static void OF_TYPE(fft_transform)(OF_TYPE(fft_task) t, ELEMENT *scratch, int threads);

/* The product of two arrays of complex numbers. */
static void OF_TYPE(fft_multiply)(const ELEMENT *a, const ELEMENT *b, ELEMENT *to, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        ELEMENT re = a[2 * i] * b[2 * i] - a[2 * i + 1] * b[2 * i + 1];
        ELEMENT im = a[2 * i] * b[2 * i + 1] + a[2 * i + 1] * b[2 * i];
        to[2 * i] = re, to[2 * i + 1] = im;
    }
}

/* The convolution of Bluestein with the chirp. An inverse swaps parts on both sides. */
static void OF_TYPE(fft_chirp_transform)(const OF_TYPE(fft_task) * t, ELEMENT *scratch,
                                         int threads) {
    const fft_plan *plan = t->plan;
    const ELEMENT *chirp = plan->chirp;
    int64_t circle = plan->circle;
    ELEMENT *a = scratch, *b = scratch + 2 * circle, *rest = scratch + 4 * circle;
    memset(a, 0, (size_t)(2 * circle) * sizeof *a);
    for (int64_t j = 0; j < plan->n; j++) {
        const ELEMENT *z = t->from + 2 * j * t->stride;
        a[2 * j] = z[t->inverse], a[2 * j + 1] = z[!t->inverse];
    }
    OF_TYPE(fft_multiply)(a, chirp, a, plan->n);
    OF_TYPE(fft_task)
    inner = {
        .plan = plan->convolution, .from = a, .to = b, .stride = 1, .to_stride = 1, .scale = 1};
    OF_TYPE(fft_transform)(inner, rest, threads);
    OF_TYPE(fft_multiply)(b, plan->filter, b, circle);
    inner.from = b, inner.to = a, inner.inverse = true;
    OF_TYPE(fft_transform)(inner, rest, threads);
    OF_TYPE(fft_multiply)(a, chirp, a, plan->n);
    for (int64_t k = 0; k < plan->n; k++) {
        ELEMENT *z = t->to + 2 * k * t->to_stride;
        z[t->inverse] = t->scale * a[2 * k], z[!t->inverse] = t->scale * a[2 * k + 1];
    }
}

/* One transform. scratch: aligned to 64 bytes. */
static void OF_TYPE(fft_transform)(OF_TYPE(fft_task) t, ELEMENT *scratch, int threads) {
    const fft_plan *plan = t.plan;
    if (plan->circle) {
        OF_TYPE(fft_chirp_transform)(&t, scratch, threads);
        return;
    }
    t.middle = scratch, t.lines = scratch + plan->blocks * plan->first.n * 2 * WIDTH;
    if (plan->second.n == 0) {
        OF_TYPE(fft_short_rows)(&t, 1, 0, 0);
        return;
    }
    fovea_share(plan->blocks, threads, OF_TYPE(fft_first_step), &t);
    fovea_share(divide_up(plan->first.n, WIDTH), threads, OF_TYPE(fft_second_step), &t);
}

/* The transform of the chirp's conjugate on the circle, over the length of the circle. */
static void OF_TYPE(fft_make_filter)(const fft_plan *plan, ELEMENT *scratch) {
    const ELEMENT *chirp = plan->chirp;
    int64_t circle = plan->circle;
    ELEMENT *a = scratch, *rest = scratch + 4 * circle;
    memset(a, 0, (size_t)(2 * circle) * sizeof *a);
    for (int64_t j = 0; j < plan->n; j++) {
        int64_t mirror = j ? circle - j : 0;
        a[2 * j] = a[2 * mirror] = chirp[2 * j];
        a[2 * j + 1] = a[2 * mirror + 1] = -chirp[2 * j + 1];
    }
    OF_TYPE(fft_task)
    t = {.plan = plan->convolution,
         .from = a,
         .to = plan->filter,
         .stride = 1,
         .to_stride = 1,
         .scale = (ELEMENT)(1 / (double)circle)};
    OF_TYPE(fft_transform)(t, rest, 1);
}

/* ---- Real transforms ------------------------------------------------------------------------- */

/* Between the transform Z of z_j = x_2j + i x_(2j+1), m numbers, and the first m + 1 bins X of x: with
 * A = from_k and B the conjugate of from_(m-k), to_k = (A + B)/2 + f (A - B)/2, where f is
 * -i e^(-pi i k/m) forward (from_m is from_0) and its conjugate back. */
typedef struct OF_TYPE(fft_bins) {
    const fft_plan *plan; /* of m */
    const ELEMENT *from;
    ELEMENT *to;
    int64_t to_stride;
    bool back;
} OF_TYPE(fft_bins);

FOVEA_INLINE OF_TYPE(fft_pair)
    OF_TYPE(fft_join_bins)(OF_TYPE(fft_pair) a, OF_TYPE(fft_pair) b, OF_TYPE(fft_pair) f) {
    VECTOR half = V(set1)((ELEMENT)0.5);
    OF_TYPE(fft_pair) e = {V(add)(a.re, b.re), V(sub)(a.im, b.im)};
    OF_TYPE(fft_pair) o = {V(sub)(a.re, b.re), V(add)(a.im, b.im)};
    o = OF_TYPE(fft_times)(o, f);
    return (OF_TYPE(fft_pair)){V(mul)(half, V(add)(e.re, o.re)), V(mul)(half, V(add)(e.im, o.im))};
}

/* The bin k alone: its numbers in lane 0. */
static void OF_TYPE(fft_one_bin)(const OF_TYPE(fft_bins) * t, int64_t k) {
    int64_t m = t->plan->n, a = t->back || k < m ? k : 0, b = t->back || k > 0 ? m - k : 0;
    const ELEMENT *coarse = (const ELEMENT *)t->plan->real_coarse + 2 * (k / WIDTH);
    const ELEMENT *fine = (const ELEMENT *)t->plan->real_fine + k % WIDTH;
    ELEMENT f_re = coarse[0] * fine[0] - coarse[1] * fine[WIDTH];
    ELEMENT f_im = coarse[0] * fine[WIDTH] + coarse[1] * fine[0];
    if (t->back) f_im = -f_im;
    const ELEMENT *x = t->from + 2 * a, *y = t->from + 2 * b;
    ELEMENT e_re = x[0] + y[0], e_im = x[1] - y[1], o_re = x[0] - y[0], o_im = x[1] + y[1];
    ELEMENT *to = t->to + 2 * k * t->to_stride;
    to[0] = (ELEMENT)0.5 * (e_re + (o_re * f_re - o_im * f_im));
    to[1] = (ELEMENT)0.5 * (e_im + (o_re * f_im + o_im * f_re));
}

/* Blocks of WIDTH bins; those at the ends one by one. */
static void OF_TYPE(fft_bin_blocks)(const void *user, int64_t begin, int64_t end, int thread) {
    const OF_TYPE(fft_bins) *t = user;
    int64_t m = t->plan->n, count = m + !t->back;
    const ELEMENT *fine = t->plan->real_fine;
    OF_TYPE(fft_pair) lanes = OF_TYPE(fft_load_pair)(fine);
    (void)thread;
    for (int64_t block = begin; block < end; block++) {
        int64_t k = block * WIDTH;
        if (k == 0 || k + WIDTH > m || t->to_stride != 1 || WIDTH == 1) {
            for (int64_t i = k; i < smaller(k + WIDTH, count); i++) OF_TYPE(fft_one_bin)(t, i);
            continue;
        }
        const ELEMENT *coarse = (const ELEMENT *)t->plan->real_coarse + 2 * block;
        const ELEMENT *mirror = t->from + 2 * (m - k - WIDTH + 1);
        OF_TYPE(fft_pair) f = {V(set1)(coarse[0]), V(set1)(coarse[1])}, a, b;
        VECTOR low, high;
        f = OF_TYPE(fft_times)(lanes, f);
        if (t->back) f.im = V(sub)(V(set1)(0), f.im);
        V(deinterleave)(V(load)(t->from + 2 * k), V(load)(t->from + 2 * k + WIDTH), &a.re, &a.im);
        V(deinterleave)(V(load)(mirror), V(load)(mirror + WIDTH), &b.re, &b.im);
        b = (OF_TYPE(fft_pair)){V(reverse)(b.re), V(reverse)(b.im)};
        a = OF_TYPE(fft_join_bins)(a, b, f);
        V(interleave)(a.re, a.im, &low, &high);
        V(store)(t->to + 2 * k, low), V(store)(t->to + 2 * k + WIDTH, high);
    }
}

static inline void OF_TYPE(fft_turn_bins)(const OF_TYPE(fft_bins) * t, int threads) {
    fovea_share(divide_up(t->plan->n + !t->back, WIDTH), threads, OF_TYPE(fft_bin_blocks), t);
}

#undef PASSES
#undef ELEMENT
#undef VECTOR
#undef WIDTH
