/* Short rows after one another, normalised as many at a time as a vector has lanes: what their sums come to is found
 * for all of them at once, by transposing, and while one block is summed the results of the block before are written,
 * so that nothing waits for roots and divisions. In a cache, ns an element: rows of 32 floats 0.56 (each by itself 1.33, groups of
 * channels by eight 0.78), of 100 0.24 (0.52, 0.43), of 305 0.20 (0.26). Past the caches rows that are long enough
 * overlap by one instead: a block's rows are out of the first level when they are written. */
#ifndef FOVEA_CPU_ROWS_SHORT_H
#define FOVEA_CPU_ROWS_SHORT_H

#include "cpu/rows_moments.h"

enum { SHORT_ROW = 32 * VF_WIDTH, SHORT_AHEAD = 2 };

typedef struct short_rows {
    const float *x; /* dense, row after row, as y is */
    float *y;
    int64_t columns, period;   /* period: rows that have weights of their own */
    const float *gamma, *beta; /* of these rows, one after another */
    double eps;
    bool stream; /* y bypasses the caches */
} short_rows;

/* What the results of a block follow from; lanes are rows. */
typedef struct short_block {
    int64_t first, count;
    float mean[VF_WIDTH], factor[VF_WIDTH];
} short_block;

/* The results that are written beside sums. */
typedef struct short_row {
    const float *x, *gamma, *beta;
    float *to;
    vf mean, factor;
} short_row;

FOVEA_INLINE vf short_item(const short_row *r, int64_t i, int64_t n) {
    vf d = vf_mul(vf_sub(rows_take(r->x, i, n), r->mean), r->factor);
    return vf_fma(d, rows_take(r->gamma, i, n), rows_take(r->beta, i, n));
}
FOVEA_INLINE void short_items(const short_row *r, int64_t from, int64_t end, float *to) {
    for (int64_t i = from, n; i < end; i += n) {
        n = smaller(VF_WIDTH, end - i);
        vf_store_n(to + (i - from), short_item(r, i, n), (size_t)n);
    }
}
FOVEA_INLINE void short_put(const short_row *r, int64_t i, bool past) {
    vf y = short_item(r, i, VF_WIDTH);
    if (past)
        vf_stream(r->to + i, y);
    else
        vf_store(r->to + i, y);
}

/* The elements before the first whole line and after the last; returns how many of each. */
static inline void short_ends(const short_row *r, int64_t n, rows_lines *lines, int64_t *head,
                              int64_t *rest) {
    float *last;
    *head = elements_to_alignment(FOVEA_F32, r->to), *rest = (n - *head) % LINE_FLOATS;
    float *first = rows_share_line(lines, r->to, *head, &last);
    short_items(r, 0, *head, first);
    short_items(r, n - *rest, n, last);
}

/* The sum of distances from a centre and that of their squares, in lanes; beside that elements [at, end) of `row`, whole
 * vectors, are written. */
FOVEA_INLINE void sum_short_row(const float *x, int64_t n, float centre, const short_row row,
                                int64_t at, int64_t end, bool past, vf *sum, vf *squares) {
    enum { W = VF_WIDTH, STEP = 2 * W };
    const bool near = fovea_fetches_near;
    const vf c = vf_set1(centre);
    vf s[2], q[2];
    int64_t i = 0, last = end - STEP;
    VF_UNROLLED for (int k = 0; k < 2; k++) s[k] = q[k] = vf_set1(0);
    for (; i + STEP <= n; i += STEP) {
        if (past) fetch_ahead(near, x + i, 0, 2 * VF_BYTES);
        VF_UNROLLED for (int k = 0; k < 2; k++) {
            vf d = vf_sub(vf_load(x + i + k * W), c);
            s[k] = vf_add(s[k], d), q[k] = vf_fma(d, d, q[k]);
        }
        if (at > last) continue;
        VF_UNROLLED for (int k = 0; k < 2; k++) short_put(&row, at + k * W, past);
        at += STEP;
    }
    for (; i < n; i += W) {
        size_t count = (size_t)smaller(W, n - i);
        vf d = vf_select(vm_first(count), vf_sub(vf_load_n(x + i, count), c), vf_set1(0));
        s[0] = vf_add(s[0], d), q[0] = vf_fma(d, d, q[0]);
    }
    for (; at < end; at += W) short_put(&row, at, past);
    *sum = vf_add(s[0], s[1]), *squares = vf_add(q[0], q[1]);
}

/* Mean and factor of each row of a block; the results of the block before are written meanwhile. */
FOVEA_INLINE void sum_short_block(const short_rows *p, const short_block *before, short_block *now,
                                  int64_t end, float *ahead, rows_lines *lines, bool past) {
    enum { W = VF_WIDTH };
    int64_t n = p->columns;
    const float *x = p->x + now->first * n;
    const vf size = vf_set1((float)n);
    float centres[W] = {0}, variances[W];
    vf sums[W], squares[W];
    for (int l = 0; l < W; l++) sums[l] = squares[l] = vf_set1(0);
    for (int64_t l = 0; l < larger(now->count, before->count); l++) {
        short_row row = {0};
        int64_t head = 0, rest = 0, number = before->first + l, weights = number % p->period * n;
        if (l < before->count) {
            row = (short_row){p->x + number * n,        p->gamma + weights,
                              p->beta + weights,        p->y + number * n,
                              vf_set1(before->mean[l]), vf_set1(before->factor[l])};
            rest = n % W;
            if (past)
                short_ends(&row, n, lines, &head, &rest);
            else
                short_items(&row, n - rest, n, row.to + n - rest);
        }
        int64_t stop = l < before->count ? n - rest : 0;
        if (l >= now->count) {
            for (int64_t at = head; at < stop; at += W) short_put(&row, at, past);
            continue;
        }
        int64_t coming = smaller(now->first + l + SHORT_AHEAD, end - 1);
        centres[l] = ahead[l % SHORT_AHEAD];
        ahead[l % SHORT_AHEAD] = rows_centre(p->x + coming * n, n);
        sum_short_row(x + l * n, n, centres[l], row, head, stop, past, &sums[l], &squares[l]);
    }
    if (now->count == 0) return;
    vf apart = vf_div(vf_reduce_each(sums), size), both = vf_div(vf_reduce_each(squares), size);
    vf variance = vf_fnma(apart, apart, both);
    vf_store(now->mean, vf_add(vf_load(centres), apart)), vf_store(variances, variance);
    uint32_t holds = vm_bits(vf_le(vf_mul(apart, apart), variance));
    for (int l = 0; l < now->count; l++) {
        if (holds >> l & 1) continue;
        variances[l] = (float)rows_moments_again(x + l * n, n, &now->mean[l]);
    }
    vf root = vf_sqrt(vf_add(vf_load(variances), vf_set1((float)p->eps)));
    vf_store(now->factor, vf_div(vf_set1(1), root));
}

FOVEA_INLINE void normalise_short_rows_by(const short_rows *p, int64_t begin, int64_t end,
                                          bool past) {
    rows_lines lines = {.rows = 0};
    short_block before = {.first = begin}, now = {.first = begin};
    float ahead[SHORT_AHEAD]; /* centres of the rows that come next */
    for (int64_t k = 0; k < SHORT_AHEAD && begin < end; k++)
        ahead[k] = rows_centre(p->x + smaller(begin + k, end - 1) * p->columns, p->columns);
    for (;; before = now, now.first += now.count) {
        now.count = smaller(VF_WIDTH, end - now.first);
        sum_short_block(p, &before, &now, end, ahead, &lines, past);
        if (now.count == 0) break;
    }
    if (past) rows_end_lines(&lines, p->y + end * p->columns), vf_stream_fence();
}

static inline void normalise_short_rows(const short_rows *p, int64_t begin, int64_t end) {
    if (VF_WIDTH > 1 && p->stream && p->columns >= LINE_FLOATS)
        normalise_short_rows_by(p, begin, end, true);
    else
        normalise_short_rows_by(p, begin, end, false);
}

#endif
