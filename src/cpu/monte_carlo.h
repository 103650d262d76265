/* The mean of 4/(1 + x^2) at uniform points, and its standard error. Points come in groups of VF_WIDTH
 * blocks of Philox; sums are of differences from 3, so that the variance loses nothing that counts.
 * Pieces follow from n alone, and their sums are added in order. */
#ifndef FOVEA_CPU_MONTE_CARLO_H
#define FOVEA_CPU_MONTE_CARLO_H

#include "cpu/kernel.h"
#include "cpu/simd/philox.h"
#include "cpu/threads.h"
#include "fovea/kernels.h"

#include <math.h>

enum { MONTE_CARLO_GROUP = 4 * VF_WIDTH, MONTE_CARLO_PIECE = 1 << 14, MONTE_CARLO_PIECES = 1024 };

typedef struct monte_carlo {
    vi_philox_keys keys;
    uint64_t stream;
    bool wide;           /* doubles: two words a point */
    int64_t n, of_piece; /* points */
    double (*sums)[2];   /* of each piece: d and d^2 */
} monte_carlo;

/* The words of blocks `first` to first + VF_WIDTH - 1. */
VF_INLINE void monte_carlo_words(const monte_carlo *m, uint64_t first, vi words[4]) {
    uint32_t low[VF_WIDTH], high[VF_WIDTH];
    for (uint64_t l = 0; l < VF_WIDTH; l++)
        low[l] = (uint32_t)(first + l), high[l] = (uint32_t)((first + l) >> 32);
    vi counter[4] = {vi_load((const int32_t *)low), vi_load((const int32_t *)high),
                     vi_set1((int32_t)m->stream), vi_set1((int32_t)(m->stream >> 32))};
    vi_philox(counter, &m->keys, words);
}

/* 4/(1 + x^2) - 3 */
VF_INLINE vf monte_carlo_float(vf x) {
    return vf_sub(vf_div(vf_set1(4), vf_fma(x, x, vf_set1(1))), vf_set1(3));
}
static inline double monte_carlo_double(uint32_t low, uint32_t high) {
    double x = (double)(int64_t)((low | (uint64_t)high << 32) >> 11) * 0x1p-53;
    return 4 / (1 + x * x) - 3;
}

/* At most 16 groups of floats in a chain: a sum of 64 terms below 1 errs by less than 2^-19. */
static void monte_carlo_floats(const monte_carlo *m, uint64_t block, int64_t groups,
                               double sums[2]) {
    vf sum = vf_set1(0), squares = vf_set1(0);
    for (int64_t g = 0; g < groups; g++, block += VF_WIDTH) {
        vi words[4];
        monte_carlo_words(m, block, words);
        VF_UNROLLED for (int i = 0; i < 4; i++) {
            vf d = monte_carlo_float(vi_philox_uniform(words[i]));
            sum = vf_add(sum, d), squares = vf_fma(d, d, squares);
        }
    }
    sums[0] += (double)vf_reduce_add(sum), sums[1] += (double)vf_reduce_add(squares);
}

static void monte_carlo_doubles(const monte_carlo *m, uint64_t block, int64_t groups,
                                double sums[2]) {
    double sum[VF_WIDTH] = {0}, squares[VF_WIDTH] = {0};
    for (int64_t g = 0; g < groups; g++, block += VF_WIDTH) {
        vi words[4];
        int32_t stored[4][VF_WIDTH];
        monte_carlo_words(m, block, words);
        VF_UNROLLED for (int i = 0; i < 4; i++) vi_store(stored[i], words[i]);
        for (int i = 0; i < 4; i += 2)
            for (int l = 0; l < VF_WIDTH; l++) {
                double d = monte_carlo_double((uint32_t)stored[i][l], (uint32_t)stored[i + 1][l]);
                sum[l] += d, squares[l] += d * d;
            }
    }
    for (int l = 0; l < VF_WIDTH; l++) sums[0] += sum[l], sums[1] += squares[l];
}

/* Points that do not fill a group. */
static void monte_carlo_rest(const monte_carlo *m, int64_t first, int64_t end, double sums[2]) {
    int64_t of_block = m->wide ? 2 : 4;
    for (int64_t i = first; i < end; i += VF_WIDTH * of_block) {
        vi words[4];
        int32_t stored[4][VF_WIDTH];
        monte_carlo_words(m, (uint64_t)(i / of_block), words);
        VF_UNROLLED for (int w = 0; w < 4; w++) vi_store(stored[w], words[w]);
        for (int64_t k = i; k < end && k < i + VF_WIDTH * of_block; k++) {
            int64_t lane = (k - i) / of_block, w = (k - i) % of_block;
            vf x = vf_mul(vf_from_vi(vi_shr(vi_set1(stored[w][lane]), 8)), vf_set1(0x1p-24f));
            double d = m->wide ? monte_carlo_double((uint32_t)stored[2 * w][lane],
                                                    (uint32_t)stored[2 * w + 1][lane])
                               : (double)vf_reduce_max(monte_carlo_float(x));
            sums[0] += d, sums[1] += d * d;
        }
    }
}

static void monte_carlo_pieces(const void *task, int64_t begin, int64_t end, int thread) {
    const monte_carlo *m = task;
    int64_t of_group = m->wide ? MONTE_CARLO_GROUP / 2 : MONTE_CARLO_GROUP;
    int64_t of_block = m->wide ? 2 : 4;
    (void)thread;
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t first = piece * m->of_piece, stop = smaller(first + m->of_piece, m->n);
        double *sums = m->sums[piece];
        sums[0] = sums[1] = 0;
        for (; first + of_group <= stop;) {
            int64_t groups = smaller(16, (stop - first) / of_group);
            (m->wide ? monte_carlo_doubles : monte_carlo_floats)(m, (uint64_t)(first / of_block),
                                                                 groups, sums);
            first += groups * of_group;
        }
        monte_carlo_rest(m, first, stop, sums);
    }
}

static size_t monte_carlo_workspace(const fovea_problem *problem, int threads) {
    (void)problem, (void)threads;
    return MONTE_CARLO_PIECES * sizeof(double[2]);
}

static void monte_carlo_store(const fovea_view *view, double value) {
    if (view->dtype == FOVEA_F64)
        *(double *)(void *)view->data = value;
    else
        *(float *)(void *)view->data = (float)value;
}

static fovea_status monte_carlo_integrate(const fovea_problem *problem, fovea_run *run) {
    const fovea_monte_carlo_integrate_options *o = problem->options;
    monte_carlo m = {.keys = vi_philox_begin((uint64_t)o->seed),
                     .stream = (uint64_t)o->stream,
                     .wide = problem->dtype == FOVEA_F64,
                     .n = o->n,
                     .of_piece = MONTE_CARLO_PIECE,
                     .sums = run->workspace};
    while (m.n / MONTE_CARLO_PIECES >= m.of_piece) m.of_piece *= 2;
    int64_t pieces = divide_up(m.n, m.of_piece);
    double sum = 0, squares = 0, n = (double)m.n;
    run->threads = fovea_useful_threads(pieces, smaller(m.n, INT64_MAX / 16) * 8, run->threads);
    if (pieces > 0) fovea_share(pieces, run->threads, monte_carlo_pieces, &m);
    for (int64_t piece = 0; piece < pieces; piece++)
        sum += m.sums[piece][0], squares += m.sums[piece][1];
    double variance = (squares - sum * sum / n) / (n - 1);
    monte_carlo_store(&problem->views[0], 3 + sum / n);
    monte_carlo_store(&problem->views[1], m.n > 1 ? sqrt(fmax(variance, 0) / n) : NAN);
    return FOVEA_OK;
}

#endif
