/* Counts of elements by equal bins. The bin of an element is computed by a subtraction and a product; where
 * that comes so near to an edge that rounding may have moved it across, the edges themselves decide: with
 * 256 bins and f32, one element in 4000. Where the edges are so close that all are near, a bisection
 * decides.
 *
 * Bins are counted several times over, so that equal neighbours do not wait for one another: a counter can
 * be added to every 4 to 8 cycles. The copies of a bin stand side by side, of 16 bits, and are added to the
 * counts before they can overflow. So up to 440 bins take one page, with the places that are counted: of two pages
 * a Xeon takes some pairs for one another, and a load from one waits for stores to the same place of the other. With
 * counters of 64 bits, four pages of them, one process in ten counted at 2.5 ns an element instead of 0.40; on one
 * page all do at 0.39, where a store a cycle would be 0.35. One counter a bin takes 2.2 to 3.5 ns an element: a load that
 * overtook the store to the same counter is undone. Copies cost some 0.4 ns a bin. */
#ifndef FOVEA_CPU_HISTOGRAM_H
#define FOVEA_CPU_HISTOGRAM_H

#include "catalogue/order.h"
#include "cpu/dense.h"
#include "cpu/simd/simd_order.h"
#include "cpu/threads.h"

#include <math.h>

enum {
    HISTOGRAM_PIECE = 1 << 16,
    HISTOGRAM_BLOCK = 2048,
    HISTOGRAM_SHIFT = 2,
    HISTOGRAM_COPIES = 1 << HISTOGRAM_SHIFT,
    HISTOGRAM_FEW = 2048, /* bins up to which there are several copies of the counts */
    HISTOGRAM_PAGE = 4096,
    HISTOGRAM_STEP = 64,
    HISTOGRAM_PLACES = 2 * HISTOGRAM_STEP * 4, /* bytes: those of two steps */
    HISTOGRAM_FLUSH = 3 /* pieces, of each of which a copy counts 2^14 elements at most */
};

typedef struct histogram_range {
    double least, largest;
    bool nan;
} histogram_range;

typedef struct histogram {
    fovea_view x;
    int64_t elements, bins;
    bool several;               /* copies */
    int64_t stride;             /* of counts: bins and one for what is outside */
    double lo, hi, scale, near; /* bins a unit; how near to an edge is doubtful */
    bool bisect;
    const double *edges; /* NULL: computed where they are asked for */
    int64_t *counts;     /* of each thread */
    char *copies;        /* of each thread, and behind them two steps' places: pages */
    int64_t copy_bytes;
    histogram_range *ranges; /* of each piece */
} histogram;

/* Elements that are looked at together: those of a piece, where they need not be copied. */
static int64_t histogram_block_length(const histogram *h) {
    bool whole = h->x.dtype == FOVEA_F32 && fovea_view_is_contiguous(&h->x);
    return whole ? HISTOGRAM_PIECE : HISTOGRAM_BLOCK;
}
static const void *histogram_block(const histogram *h, int64_t first, int64_t n, void *buffer) {
    const void *place = dense_place(&h->x, first, n);
    if (!place) dense_read(&h->x, first, n, buffer);
    return place ? place : buffer;
}

/* ---- The range ------------------------------------------------------------------------------- */

static void range_of_floats(const float *x, int64_t n, histogram_range *range) {
    enum { W = VF_WIDTH, CHAINS = 4, AHEAD = 2048 };
    vf least[CHAINS], largest[CHAINS];
    vm nan = vm_first(0);
    int64_t i = 0;
    VF_UNROLLED for (int k = 0; k < CHAINS; k++) least[k] = vf_set1(INFINITY),
                                                 largest[k] = vf_set1(-INFINITY);
    for (; i + CHAINS * W <= n; i += CHAINS * W) VF_UNROLLED for (int k = 0; k < CHAINS; k++) {
            vf v = vf_load(x + i + k * W);
            if (W > 1) __builtin_prefetch((const char *)(x + i + k * W) + AHEAD, 0, 3);
            least[k] = vf_min(v, least[k]), largest[k] = vf_max(v, largest[k]);
            nan = vm_or(nan, vf_unordered(v, v));
        }
    VF_UNROLLED for (int k = 1; k < CHAINS; k++) least[0] = vf_min(least[0], least[k]),
                                                 largest[0] = vf_max(largest[0], largest[k]);
    range->least = fmin(range->least, (double)vf_reduce_min(least[0]));
    range->largest = fmax(range->largest, (double)vf_reduce_max(largest[0]));
    range->nan |= vm_any(nan);
    for (; i < n; i++) {
        range->least = fmin(range->least, (double)x[i]);
        range->largest = fmax(range->largest, (double)x[i]);
        range->nan |= isnan(x[i]);
    }
}

static void range_of_doubles(const double *x, int64_t n, histogram_range *range) {
    for (int64_t i = 0; i < n; i++) {
        range->least = x[i] < range->least ? x[i] : range->least;
        range->largest = x[i] > range->largest ? x[i] : range->largest;
        range->nan |= isnan(x[i]);
    }
}

static void histogram_find_ranges(const void *task, int64_t begin, int64_t end, int thread) {
    const histogram *h = task;
    _Alignas(64) double buffer[HISTOGRAM_BLOCK];
    int64_t block = histogram_block_length(h);
    (void)thread;
    for (int64_t piece = begin; piece < end; piece++) {
        histogram_range range = {INFINITY, -INFINITY, false};
        int64_t last = smaller((piece + 1) * HISTOGRAM_PIECE, h->elements);
        for (int64_t i = piece * HISTOGRAM_PIECE; i < last; i += block) {
            int64_t n = smaller(block, last - i);
            const void *x = histogram_block(h, i, n, buffer);
            if (h->x.dtype == FOVEA_F32)
                range_of_floats(x, n, &range);
            else
                range_of_doubles(x, n, &range);
        }
        h->ranges[piece] = range;
    }
}

/* ---- Counting -------------------------------------------------------------------------------- */

static double edge_of(const histogram *h, int64_t b) {
    return h->edges ? h->edges[b] : fovea_histogram_edge(h->x.dtype, h->lo, h->hi, h->bins, b);
}

/* The last bin whose lower edge is not above x, which lies in the range. */
#define HISTOGRAM_BIN(type)                                                                        \
    static int64_t bin_of_##type(const histogram *h, type x, int64_t guess) {                      \
        int64_t first = 0, end = h->bins;                                                          \
        while (h->bisect && end - first > 1) {                                                     \
            int64_t middle = first + (end - first) / 2;                                            \
            if (h->edges[middle] <= x)                                                             \
                first = middle;                                                                    \
            else                                                                                   \
                end = middle;                                                                      \
        }                                                                                          \
        if (h->bisect) return first;                                                               \
        guess = guess < 0 ? 0 : smaller(guess, h->bins - 1);                                       \
        while (guess > 0 && x < edge_of(h, guess)) guess--;                                        \
        while (guess + 1 < h->bins && x >= edge_of(h, guess + 1)) guess++;                         \
        return guess;                                                                              \
    }
HISTOGRAM_BIN(float)
HISTOGRAM_BIN(double)

typedef struct histogram_lanes {
    vf lo, hi, scale, near, far;
    vi outside;
} histogram_lanes;

static histogram_lanes histogram_spread(const histogram *h) {
    return (histogram_lanes){vf_set1((float)h->lo),         vf_set1((float)h->hi),
                             vf_set1((float)h->scale),      vf_set1((float)h->near),
                             vf_set1((float)(1 - h->near)), vi_set1((int32_t)h->bins)};
}

/* Of n floats, at most a vector; times 2^shift. Returns a bit for each that is doubtful. */
FOVEA_INLINE uint32_t places_of_vector(const histogram_lanes *l, const float *x, int64_t n,
                                       const int shift, int32_t *places) {
    vf v = n == VF_WIDTH ? vf_load(x) : vf_load_n(x, (size_t)n);
    vf place = vf_mul(vf_sub(v, l->lo), l->scale);
    vi bin = vi_truncate_vf(place);
    vf part = vf_sub(place, vf_from_vi(bin));
    vm within = vm_and(vf_ge(v, l->lo), vf_le(v, l->hi));
    vm sure = vm_and(vf_gt(part, l->near), vf_lt(part, l->far));
    bin = vi_select(within, bin, l->outside);
    if (shift) bin = vi_shl(bin, HISTOGRAM_SHIFT);
    if (n == VF_WIDTH)
        vi_store(places, bin);
    else
        vi_store_n(places, bin, (size_t)n);
    uint32_t doubtful = vm_bits(vm_and(within, vm_not(sure)));
    return n < VF_WIDTH ? doubtful & ((1u << n) - 1) : doubtful;
}

/* By the edges, where places are doubtful. */
static __attribute__((noinline)) void settle_places(const histogram *h, const float *x,
                                                    uint64_t doubtful, int shift, int32_t *places) {
    for (; doubtful; doubtful &= doubtful - 1) {
        int at = __builtin_ctzll(doubtful);
        places[at] = (int32_t)bin_of_float(h, x[at], places[at] >> shift) << shift;
    }
}

static void places_of_doubles(const histogram *h, const double *x, int64_t n, int32_t *places) {
    for (int64_t i = 0; i < n; i++) {
        bool within = x[i] >= h->lo && x[i] <= h->hi;
        double place = h->bisect || !within ? 0 : (x[i] - h->lo) * h->scale;
        places[i] = (int32_t)(within ? bin_of_double(h, x[i], (int64_t)place) : h->bins);
    }
}

static void count_places(const int32_t *places, int64_t n, int64_t *counts) {
    for (int64_t k = 0; k < n; k++) counts[places[k]]++;
}

/* Adds the copies to the counts, four of them in a word, and begins them anew. By eights, of which compilers make
 * vectors: the stride is a multiple of that. */
static void histogram_flush(const histogram *h, uint16_t *copies, int64_t *counts) {
    enum { BINS = 8 };
    const uint64_t even = 0x0000ffff0000ffff;
    for (int64_t b = 0; b < h->stride; b += BINS) {
        uint64_t words[BINS];
        memcpy(words, copies + b * HISTOGRAM_COPIES, sizeof words);
        for (int k = 0; k < BINS; k++) {
            uint64_t pairs = (words[k] & even) + (words[k] >> 16 & even);
            counts[b + k] += (int64_t)((pairs & UINT32_MAX) + (pairs >> 32));
        }
    }
    memset(copies, 0, (size_t)(h->stride * HISTOGRAM_COPIES) * sizeof *copies);
}

/* The places of some elements are computed while those before are counted, with what is needed 2 KiB later: by blocks
 * of 2048, first the ones and then the others, half of the time went by waiting for memory; and places that are read
 * back at once wait for their store, 0.90 ns an element on a Xeon where so it takes 0.53. */
FOVEA_INLINE void places_of_step(const histogram *h, const histogram_lanes *lanes, const float *x,
                                 int32_t *places) {
    enum { AHEAD = 2048 };
    uint64_t doubtful = 0;
    VF_UNROLLED for (int v = 0; v < HISTOGRAM_STEP; v += VF_WIDTH) {
        if (VF_WIDTH > 1 && v % 16 == 0) __builtin_prefetch((const char *)(x + v) + AHEAD, 0, 3);
        doubtful |= (uint64_t)places_of_vector(lanes, x + v, VF_WIDTH, HISTOGRAM_SHIFT, places + v)
                    << v;
    }
    if (doubtful) settle_places(h, x, doubtful, HISTOGRAM_SHIFT, places);
}

/* Of the last elements, fewer than a step. */
static void places_of_rest(const histogram *h, const histogram_lanes *lanes, const float *x,
                           int64_t n, int32_t *places) {
    uint64_t doubtful = 0;
    for (int64_t v = 0; v < n; v += VF_WIDTH) {
        int64_t count = smaller(VF_WIDTH, n - v);
        doubtful |= (uint64_t)places_of_vector(lanes, x + v, count, HISTOGRAM_SHIFT, places + v)
                    << v;
    }
    if (doubtful) settle_places(h, x, doubtful, HISTOGRAM_SHIFT, places);
}

static void count_copies(const histogram *h, const float *x, int64_t n, uint16_t *copies) {
    enum { STEP = HISTOGRAM_STEP };
    const histogram_lanes lanes = histogram_spread(h);
    int32_t(*places)[STEP] = (int32_t(*)[STEP])(void *)(copies + h->stride * HISTOGRAM_COPIES);
    for (int64_t i = -STEP; i < n; i += STEP) {
        int32_t *now = places[i / STEP & 1], *next = places[~(i / STEP) & 1];
        int64_t count = i < 0 ? 0 : smaller(STEP, n - i), later = n - i - STEP;
        if (later >= STEP)
            places_of_step(h, &lanes, x + i + STEP, next);
        else if (later > 0)
            places_of_rest(h, &lanes, x + i + STEP, later, next);
        for (int first = 0; first < STEP && count == STEP; first += 16)
            VF_UNROLLED for (int k = 0; k < 16; k++)
                copies[(int64_t)now[first + k] + k % HISTOGRAM_COPIES]++;
        for (int64_t k = 0; k < count && count < STEP; k++)
            copies[(int64_t)now[k] + k % HISTOGRAM_COPIES]++;
    }
}

static void count_floats(const histogram *h, const float *x, int64_t n, int64_t *counts) {
    const histogram_lanes lanes = histogram_spread(h);
    int32_t places[VF_WIDTH];
    for (int64_t i = 0; i < n; i += VF_WIDTH) {
        int64_t count = smaller(VF_WIDTH, n - i);
        uint32_t doubtful = places_of_vector(&lanes, x + i, count, 0, places);
        if (doubtful) settle_places(h, x + i, doubtful, 0, places);
        count_places(places, count, counts);
    }
}

static void histogram_count(const void *task, int64_t begin, int64_t end, int thread) {
    const histogram *h = task;
    _Alignas(64) double buffer[HISTOGRAM_BLOCK];
    int32_t places[HISTOGRAM_BLOCK];
    int64_t block = histogram_block_length(h);
    int64_t *counts = h->counts + thread * h->stride;
    uint16_t *copies = (uint16_t *)(void *)(h->copies + thread * h->copy_bytes);
    memset(counts, 0, (size_t)h->stride * sizeof *counts);
    if (h->several) memset(copies, 0, (size_t)(h->stride * HISTOGRAM_COPIES) * sizeof *copies);
    int64_t last = smaller(end * HISTOGRAM_PIECE, h->elements), first = begin * HISTOGRAM_PIECE;
    for (int64_t i = first; i < last; i += block) {
        int64_t n = smaller(block, last - i);
        const void *x = histogram_block(h, i, n, buffer);
        if (h->several) {
            count_copies(h, x, n, copies);
        } else if (h->x.dtype == FOVEA_F32) {
            count_floats(h, x, n, counts);
        } else {
            places_of_doubles(h, x, n, places);
            count_places(places, n, counts);
        }
        bool full = (i + n - first) % (HISTOGRAM_FLUSH * HISTOGRAM_PIECE) == 0;
        if (h->several && (full || i + n == last)) histogram_flush(h, copies, counts);
    }
}

/* ---- The tensor ------------------------------------------------------------------------------ */

static histogram histogram_describe(const fovea_problem *problem) {
    histogram h = {.x = problem->views[0]};
    h.elements = fovea_view_elements(&h.x);
    h.bins = fovea_view_elements(&problem->views[1]);
    h.several = h.x.dtype == FOVEA_F32 && h.bins <= HISTOGRAM_FEW &&
                h.elements >= h.bins / 2; /* else clearing and adding the copies takes longer */
    h.stride = (h.bins + 8) / 8 * 8;
    int64_t bytes = h.several ? h.stride * HISTOGRAM_COPIES * (int64_t)sizeof(uint16_t) : 0;
    h.copy_bytes = divide_up(bytes + HISTOGRAM_PLACES, HISTOGRAM_PAGE) * HISTOGRAM_PAGE;
    return h;
}

static size_t histogram_edge_bytes(const histogram *h) {
    return (size_t)divide_up((h->bins + 1) * 8, 64) * 64;
}

static size_t histogram_workspace(const fovea_problem *problem, int threads) {
    histogram h = histogram_describe(problem);
    size_t ranges = (size_t)divide_up(h.elements, HISTOGRAM_PIECE) * sizeof(histogram_range);
    return histogram_edge_bytes(&h) + (ranges + 63) / 64 * 64 + (size_t)(threads * h.stride) * 8 +
           (size_t)(threads * h.copy_bytes) + HISTOGRAM_PAGE;
}

/* Bounds that are given, or those of the data. False if they are not finite. */
static bool histogram_bounds(histogram *h, double lo, double hi, int64_t pieces, int threads) {
    histogram_range all = {INFINITY, -INFINITY, false};
    h->lo = fovea_round_to(h->x.dtype, lo), h->hi = fovea_round_to(h->x.dtype, hi);
    bool given = !isnan(h->lo);
    if (!given || isnan(h->hi)) {
        fovea_share(pieces, threads, histogram_find_ranges, h);
        for (int64_t p = 0; p < pieces; p++) {
            all.least = fmin(all.least, h->ranges[p].least);
            all.largest = fmax(all.largest, h->ranges[p].largest);
            all.nan |= h->ranges[p].nan;
        }
        if (h->elements == 0) all = (histogram_range){0, 1, false};
        if (all.nan) all.least = all.largest = NAN;
        if (!given) h->lo = all.least;
        if (isnan(h->hi)) h->hi = all.largest;
    }
    if (h->lo > h->hi) *(given ? &h->hi : &h->lo) = given ? h->lo : h->hi;
    if (h->lo == h->hi) {
        h->lo = fovea_round_to(h->x.dtype, h->lo - 0.5);
        h->hi = fovea_round_to(h->x.dtype, h->hi + 0.5);
    }
    return isfinite(h->lo) && isfinite(h->hi);
}

/* Edges, rounded to the dtype, where they are looked at often; how much a computed bin may be wrong. */
static void histogram_edges(histogram *h, double *edges, bool given) {
    double epsilon = fovea_epsilon(h->x.dtype), bins = (double)h->bins;
    double width = (h->hi - h->lo) / bins, size = fmax(fabs(h->lo), fabs(h->hi));
    h->scale = 1 / width;
    h->near = 4 * epsilon * bins + epsilon * size / width;
    double most = h->x.dtype == FOVEA_F32 ? 0x1p127 : 0x1p1000;
    h->bisect = !(h->near < 0.25 && h->hi - h->lo < most && h->scale < most && width > 1 / most);
    if (h->bisect) h->scale = 0, h->near = 2; /* every element is doubtful */
    if (!given && !h->bisect && h->elements < 64 * h->bins) return;
    for (int64_t b = 0; b <= h->bins; b++) edges[b] = edge_of(h, b);
    h->edges = edges;
}

static void histogram_store(const histogram *h, const fovea_view *counts, bool finite,
                            int threads) {
    int64_t *total = h->counts;
    if (!finite) memset(total, 0, (size_t)h->bins * sizeof *total);
    for (int t = 1; t < threads && finite; t++)
        for (int64_t b = 0; b < h->bins; b++) total[b] += total[t * h->stride + b];
    dense_write(counts, 0, h->bins, total);
}

static fovea_status histogram_run(const fovea_problem *problem, fovea_run *run, double lo,
                                  double hi) {
    histogram h = histogram_describe(problem);
    char *scratch = run->workspace;
    double *edges = (double *)(void *)scratch;
    int64_t pieces = divide_up(h.elements, HISTOGRAM_PIECE);
    size_t size = fovea_dtype_size(h.x.dtype);
    h.ranges = (histogram_range *)(void *)(scratch + histogram_edge_bytes(&h));
    h.counts = (int64_t *)(void *)(scratch + histogram_edge_bytes(&h) +
                                   ((size_t)pieces * sizeof *h.ranges + 63) / 64 * 64);
    run->threads = fovea_useful_threads(pieces, h.elements * (int64_t)size * 2, run->threads);
    char *rest = (char *)(h.counts + run->threads * h.stride);
    h.copies = rest + -(uintptr_t)rest % HISTOGRAM_PAGE;
    bool finite = histogram_bounds(&h, lo, hi, pieces, run->threads);
    if (finite) histogram_edges(&h, edges, fovea_given(problem, 2));
    if (finite) fovea_share(pieces, run->threads, histogram_count, &h);
    histogram_store(&h, &problem->views[1], finite, run->threads);
    for (int64_t b = 0; b <= h.bins && fovea_given(problem, 2); b++)
        fovea_view_write(&problem->views[2], b, finite ? edges[b] : NAN);
    return FOVEA_OK;
}

#endif
