/* Mean and squares of a row of floats in one pass, and beside that pass the results of the row before.
 *
 * Distances are taken from a centre near the mean, so that their sum and the sum of their squares give both:
 * variance = mean of squares - (mean - centre)^2. Where the second term is larger than the variance it would
 * cost more than a bit, and the caller goes over the row twice. A second pass that only computes leaves memory
 * idle, and so does one that only writes: memory moves as a copy does only where reading and writing take turns
 * by lines. */
#ifndef FOVEA_CPU_ROWS_MOMENTS_H
#define FOVEA_CPU_ROWS_MOMENTS_H

#include "cpu/rows.h"

#include <math.h>
#include <string.h>

typedef struct rows_moments {
    float centre;
    double sum, squares; /* of distances from it */
} rows_moments;

/* Lines that two rows share, of rows that stand one after another: half a line past the caches, or two halves by
 * way of them, cost more than the whole. One is written rows after both have left their part: its load waits for their
 * stores, and those for all results that are on their way before them. */
enum { ROWS_LINES = 4, LINE_FLOATS = 16 };
typedef struct rows_lines {
    _Alignas(64) float line[ROWS_LINES][LINE_FLOATS];
    float *to[ROWS_LINES]; /* NULL: no line, or not whole */
    int64_t rows;          /* of this thread so far */
} rows_lines;

static inline void rows_put_line(rows_lines *lines, int64_t number) {
    int64_t at = number % ROWS_LINES;
    for (int64_t v = 0; v < LINE_FLOATS && lines->to[at]; v += VF_WIDTH)
        vf_stream(lines->to[at] + v, vf_load(lines->line[at] + v));
    lines->to[at] = NULL;
}
/* Where the next row, of which `head` elements stand before a whole line, leaves these and what follows its last. */
static inline float *rows_share_line(rows_lines *lines, float *to, int64_t head, float **last) {
    int64_t row = lines->rows++, now = row % ROWS_LINES;
    rows_put_line(lines, row + ROWS_LINES - 2);
    *last = lines->line[(row + 1) % ROWS_LINES];
    if (row == 0) return to; /* of the rest of that line others have charge */
    if (head > 0) lines->to[now] = to + head - LINE_FLOATS;
    return lines->line[now] + LINE_FLOATS - head;
}
/* The rows end before `stop`. */
static inline void rows_end_lines(rows_lines *lines, float *stop) {
    int64_t rest = (int64_t)((uintptr_t)stop / sizeof *stop % LINE_FLOATS);
    for (int64_t k = 0; k < ROWS_LINES; k++) rows_put_line(lines, k);
    if (lines->rows > 0)
        memcpy(stop - rest, lines->line[lines->rows % ROWS_LINES], (size_t)rest * sizeof *stop);
}

/* What a pass writes beside: item(x, state) to `to`. */
typedef struct rows_beside {
    const float *x;
    void *state;
    float *to; /* NULL: nothing is written */
    int64_t n;
    rows_lines
        *lines; /* NULL: rows that stand apart; else they are written past the caches, in order */
} rows_beside;

static inline float finite_centre(float x) { return isfinite(x) ? x : 0; }

/* The mean of the first elements: exact where all are equal, 0 where it would be no number. */
static inline float rows_centre(const float *x, int64_t n) {
    enum { FIRST = 64 };
    float first = finite_centre(*x);
    vf sums[2] = {vf_set1(0), vf_set1(0)};
    if (n < FIRST) return first;
    for (int64_t i = 0; i < FIRST; i += 2 * VF_WIDTH)
        VF_UNROLLED for (int k = 0; k < 2; k++) sums[k] =
            vf_add(sums[k], vf_sub(vf_load(x + i + k * VF_WIDTH), vf_set1(first)));
    return finite_centre(first + vf_reduce_add(vf_add(sums[0], sums[1])) / FIRST);
}

/* A vector of what is written beside. */
FOVEA_INLINE void rows_put(const rows_beside *b, rows_item *item, int64_t i, bool past) {
    vf y = item(b->x, b->state, i, VF_WIDTH);
    if (past)
        vf_stream(b->to + i, y);
    else
        vf_store(b->to + i, y);
}

/* Where its whole vectors end. */
FOVEA_INLINE int64_t rows_stop(const rows_beside *b, int64_t head) {
    return b->lines ? b->n - (b->n - head) % LINE_FLOATS : b->n;
}

/* What the loop left: the elements before `head` and those from `at` on. */
FOVEA_INLINE void rows_put_rest(const rows_beside *b, rows_item *item, int64_t head, int64_t at,
                                bool past) {
    enum { W = VF_WIDTH };
    int64_t stop = rows_stop(b, head);
    float *last = b->to + stop,
          *first = b->lines ? rows_share_line(b->lines, b->to, head, &last) : b->to;
    for (int64_t i = 0; i < head; i += W) {
        int64_t count = smaller(W, smaller(head, b->n) - i);
        vf_store_n(first + i, item(b->x, b->state, i, count), (size_t)count);
    }
    for (; at + W <= stop; at += W) rows_put(b, item, at, past);
    if (!b->lines) last = b->to + at, stop = at;
    for (int64_t i = at; i < b->n; i += W) {
        int64_t count = smaller(W, b->n - i);
        vf_store_n(last + (i - stop), item(b->x, b->state, i, count), (size_t)count);
    }
}

/* What else is done for each step of four vectors of the sums: arithmetic that memory leaves time for. */
typedef void rows_meanwhile(void *state, int64_t step);
FOVEA_INLINE void rows_idle(void *state, int64_t step) { (void)state, (void)step; }

/* Sums over a row, chains of 16 in four accumulators under a tree; `centred`: the centre is not 0 and the sum
 * is wanted too. past: what is written beside goes past the caches. */
FOVEA_INLINE rows_moments rows_sum_moments(const float *x, int64_t n, float centre, bool centred,
                                           const rows_beside *beside, rows_item *item, bool past,
                                           rows_meanwhile *meanwhile, void *state) {
    enum { W = VF_WIDTH, STEP = 4 * W, CHAIN = 16, LINE = 16 };
    const vf c = vf_set1(centre), zero = vf_set1(0);
    const bool near = fovea_fetches_near;
    vf_tree sums, squares;
    sums.count = squares.count = 0;
    int64_t head = beside->to && past ? elements_to_alignment(FOVEA_F32, beside->to) : 0;
    int64_t i = 0, at = head, last = beside->to ? rows_stop(beside, head) - STEP : -1;
#define DISTANCE(i) (centred ? vf_sub(vf_load(x + (i)), c) : vf_load(x + (i)))
    while (i + STEP <= n) {
        int64_t end = smaller(n - STEP, i + (CHAIN - 1) * STEP);
        vf s[4], q[4];
        VF_UNROLLED for (int k = 0; k < 4; k++) s[k] = q[k] = zero;
        for (; i <= end; i += STEP) {
            fetch_ahead(near, x + i, 0, 4 * VF_BYTES);
            VF_UNROLLED for (int k = 0; k < 4; k++) {
                vf d = DISTANCE(i + k * W);
                if (centred) s[k] = vf_add(s[k], d);
                q[k] = vf_fma(d, d, q[k]);
            }
            meanwhile(state, i / STEP);
            if (at > last) continue;
            VF_UNROLLED for (int k = 0; k < 4; k++) rows_put(beside, item, at + k * W, past);
            at += STEP;
        }
        if (centred) vf_tree_push(&sums, vf_add(vf_add(s[0], s[1]), vf_add(s[2], s[3])));
        vf_tree_push(&squares, vf_add(vf_add(q[0], q[1]), vf_add(q[2], q[3])));
    }
    vf s = zero, q = zero;
    for (; i < n; i += W) {
        int64_t count = smaller(W, n - i);
        vf d = count == W ? DISTANCE(i) : vf_sub(vf_load_n(x + i, (size_t)count), c);
        if (count < W) d = vf_select(vm_first((size_t)count), d, zero);
        if (centred) s = vf_add(s, d);
        q = vf_fma(d, d, q);
    }
#undef DISTANCE
    if (centred) vf_tree_push(&sums, s);
    vf_tree_push(&squares, q);
    if (beside->to) rows_put_rest(beside, item, head, at, past);
    return (rows_moments){centre, centred ? (double)vf_reduce_add(vf_tree_total(&sums)) : 0,
                          (double)vf_reduce_add(vf_tree_total(&squares))};
}

/* What is written when there is no other row to sum. */
FOVEA_INLINE void rows_finish(const rows_beside *beside, rows_item *item, bool past) {
    if (!beside->to) return;
    if (beside->lines) {
        int64_t head = elements_to_alignment(FOVEA_F32, beside->to);
        rows_put_rest(beside, item, head, head, past);
        rows_end_lines(beside->lines, beside->to + beside->n);
    } else {
        rows_write(FOVEA_F32, (char *)beside->to, item, beside->x, beside->state, beside->n, past);
    }
}

/* The variance of a row, and its mean, by two passes. The mean is clamped to the range of the row, so that a constant
 * row has variance 0 exactly. */
typedef struct rows_range {
    vf low, high;
} rows_range;
FOVEA_INLINE vf rows_element(const float *x, void *state, int64_t i, int64_t n) {
    rows_range *r = state;
    vf value = rows_take(x, i, n), inside = value;
    if (n != VF_WIDTH) inside = vf_select(vm_first((size_t)n), value, vf_set1(x[i]));
    r->low = vf_min(inside, r->low), r->high = vf_max(inside, r->high);
    return value;
}
FOVEA_INLINE vf rows_square(const float *x, void *mean, int64_t i, int64_t n) {
    vf d = vf_sub(rows_take(x, i, n), vf_set1(*(const float *)mean));
    if (n != VF_WIDTH) d = vf_select(vm_first((size_t)n), d, vf_set1(0));
    return vf_mul(d, d);
}
static double rows_moments_again(const float *x, int64_t n, float *mean) {
    rows_range r = {vf_set1(INFINITY), vf_set1(-INFINITY)};
    float found = rows_sum(rows_element, x, &r, n) / (float)n;
    float low = vf_reduce_min(r.low), high = vf_reduce_max(r.high);
    *mean = found < low ? low : found > high ? high : found; /* NaN stays */
    return (double)rows_sum(rows_square, x, mean, n) / (double)n;
}

/* Mean and variance of n elements; false where two passes have to find them. */
static inline bool rows_moments_hold(const rows_moments *m, int64_t n, float *mean,
                                     double *variance) {
    double apart = m->sum / (double)n, both = m->squares / (double)n;
    *mean = (float)((double)m->centre + apart);
    *variance = both - apart * apart;
    return apart * apart <= *variance; /* false also of NaN */
}

#endif
