/* Domain 10, signal: direct convolutions with outputs held in registers, windows, and convolutions and
 * correlations by real transforms.
 *
 * Two cores, Zen 5, 10^6 elements: conv1d and fir_filter with 32 taps 0.29 ms before two vectors in three
 * were put together in registers (PyTorch 39 and 81 ms, NumPy 6.5); fft_conv1d with 256 taps on one
 * circle 2.4 ms (SciPy's overlap-add 5.5, PyTorch 27); autocorrelation 4.0 (PyTorch 24); hann 0.12. Of 10^7
 * elements hann takes 1.55 ms past the caches and 1.97 through them. */
#include "cpu/fft.h"
#include "cpu/map.h"
#include "cpu/simd/simd_order.h"

#define ONE (1u << FOVEA_F32)

static int64_t length_of(const fovea_view *view) { return view->shape[view->rank - 1]; }
static int64_t stride_of(const fovea_view *view) { return view->stride[view->rank - 1]; }
static int64_t rows_of(const fovea_view *view) {
    return length_of(view) ? fovea_view_elements(view) / length_of(view) : 0;
}
static float *row_of(const fovea_view *view, int64_t row) {
    return (float *)(void *)fovea_view_address(view, row * length_of(view));
}

/* ---- Direct convolutions -------------------------------------------------------------------- */

/* Vectors of outputs that are held; taps that a chain adds before it joins the sum: a chain of 64 equal
 * terms errs by 8 eps, and of more by more than M(K) allows. */
#if defined(FOVEA_TIER_AVX2) || defined(FOVEA_TIER_SCALAR)
    #define HELD 4
#else
    #define HELD 8
#endif
enum { CHAIN = 64, TILE = 2048, FETCHED = 1024, OVERHANG = (HELD + 1) * VF_WIDTH };

/* At the end of a row half as many vectors are held, or a quarter, where they suffice: a row of 62 outputs
 * took eight vectors of 16, and AVX2 was ahead. */

/* Taps k and k + W of those of a group, which use the same vectors of x. Written out: clang 14 does not unroll a
 * loop of these once `held` is known. */
#define TAPS_OF(k, u)                                                                              \
    if ((u) < HELD && (u) < held) {                                                                \
        enum { U = (u) < HELD ? (u) : 0 };                                                         \
        vf next = U % 3 == 1 ? vf_load(x + (U + 1) * W + (k)) : vf_along(v[U + 1], v[U + 2], k);   \
        acc[U] = vf_fma(far, next, vf_fma(near, last, acc[U]));                                    \
        last = next;                                                                               \
    }
#define PAIR_OF_TAPS(k)                                                                            \
    if (k < W) {                                                                                   \
        vf near = vf_set1(h[k]), far = vf_set1(h[(k) + W]), last = vf_along(v[0], v[1], k);        \
        TAPS_OF(k, 0)                                                                              \
        TAPS_OF(k, 1)                                                                              \
        TAPS_OF(k, 2)                                                                              \
        TAPS_OF(k, 3)                                                                              \
        TAPS_OF(k, 4)                                                                              \
        TAPS_OF(k, 5)                                                                              \
        TAPS_OF(k, 6)                                                                              \
        TAPS_OF(k, 7)                                                                              \
    }

/* 2 VF_WIDTH taps with vectors of x of which two in three are put together in registers. A load across cache
 * lines takes two cycles on Zen 5, so that loads took 19 cycles for the 8 of their multiply-adds. One
 * thread, 10^6 elements, 32 taps, of 245 GFLOP/s: all by loads 104, none 186, every third 195, every second
 * 144. */
FOVEA_INLINE void add_group(const int held, vf acc[HELD], const float *x, const float *h) {
    enum { W = VF_WIDTH };
    vf v[HELD + 2];
    VF_UNROLLED for (int u = 0; u < held + 2; u++) v[u] = vf_load(x + u * W);
    PAIR_OF_TAPS(0)
    PAIR_OF_TAPS(1)
    PAIR_OF_TAPS(2)
    PAIR_OF_TAPS(3)
    PAIR_OF_TAPS(4)
    PAIR_OF_TAPS(5)
    PAIR_OF_TAPS(6)
    PAIR_OF_TAPS(7)
    PAIR_OF_TAPS(8)
    PAIR_OF_TAPS(9)
    PAIR_OF_TAPS(10)
    PAIR_OF_TAPS(11)
    PAIR_OF_TAPS(12)
    PAIR_OF_TAPS(13)
    PAIR_OF_TAPS(14)
    PAIR_OF_TAPS(15)
}
#undef PAIR_OF_TAPS
#undef TAPS_OF

/* acc_u += sum over k of h_k x[u width + k], k < taps. Taps that are a vector apart use the same
 * vector of x, so that pairs of them take HELD + 1 loads for 2 HELD multiply-adds: with one load each,
 * loads across cache lines would take twice as long as the multiply-adds. */
FOVEA_INLINE void add_taps(const int held, vf acc[HELD], const float *x, const float *h,
                           int64_t taps) {
    enum { W = VF_WIDTH };
    int64_t k = 0;
    for (; W == 16 && k + 2 * W <= taps; k += 2 * W) add_group(held, acc, x + k, h + k);
    for (; k + 2 * W <= taps; k += 2 * W)
        for (int64_t j = k; j < k + W; j++) {
            vf near = vf_set1(h[j]), far = vf_set1(h[j + W]), last = vf_load(x + j);
            VF_UNROLLED for (int u = 0; u < held; u++) {
                vf next = vf_load(x + j + (u + 1) * W);
                acc[u] = vf_fma(far, next, vf_fma(near, last, acc[u]));
                last = next;
            }
        }
    for (; k < taps; k++) {
        vf tap = vf_set1(h[k]);
        VF_UNROLLED for (int u = 0; u < held; u++) acc[u] =
            vf_fma(tap, vf_load(x + k + u * W), acc[u]);
    }
}

/* `held` vectors of outputs from y on. */
FOVEA_INLINE void convolve_block(const int held, const float *x, const float *h, int64_t taps,
                                 float *y, bool stream) {
    vf sum[HELD];
    VF_UNROLLED for (int u = 0; u < held; u++) sum[u] = vf_set1(0);
    add_taps(held, sum, x, h, smaller(taps, CHAIN));
    for (int64_t k = CHAIN; k < taps; k += CHAIN) {
        vf acc[HELD];
        VF_UNROLLED for (int u = 0; u < held; u++) acc[u] = vf_set1(0);
        add_taps(held, acc, x + k, h + k, smaller(taps - k, CHAIN));
        VF_UNROLLED for (int u = 0; u < held; u++) sum[u] = vf_add(sum[u], acc[u]);
    }
    VF_UNROLLED for (int u = 0; u < held; u++) {
        if (stream)
            vf_stream(y + u * VF_WIDTH, sum[u]);
        else
            vf_store(y + u * VF_WIDTH, sum[u]);
    }
}

/* Each a function of its own: all in one, accumulators went through memory. */
#define CONVOLVE(held)                                                                             \
    static __attribute__((noinline)) void convolve_##held(                                         \
        const float *x, const float *h, int64_t taps, float *y, int64_t n, bool stream) {          \
        for (int64_t i = 0; i < n; i += held * VF_WIDTH) {                                         \
            convolve_block(held, x + i, h, taps, y + i, stream);                                   \
            for (int u = 0; u < held && VF_WIDTH > 1; u++)                                         \
                __builtin_prefetch(x + i + FETCHED + u * VF_WIDTH, 0, 3);                          \
        }                                                                                          \
    }
CONVOLVE(1)
CONVOLVE(2)
CONVOLVE(4)
#if HELD == 8
CONVOLVE(8)
#endif

typedef void convolve_function(const float *x, const float *h, int64_t taps, float *y, int64_t n,
                               bool stream);
/* By log2 of what is held. */
static convolve_function *const convolutions[] = {convolve_1, convolve_2, convolve_4,
#if HELD == 8
                                                  convolve_8
#endif
};
enum { MOST_HELD = sizeof convolutions / sizeof *convolutions - 1 };

/* For the last outputs of a tile, fewer than HELD vectors of them. */
static int last_held(int64_t outputs) {
    int held = 0;
    while (held < MOST_HELD && outputs > (VF_WIDTH << held)) held++;
    return held;
}
/* The outputs that a tile of n computes. */
static int64_t covered(int64_t n) {
    int64_t rest = n % (HELD * VF_WIDTH);
    return n - rest + (rest ? VF_WIDTH << last_held(rest) : 0);
}

/* y[i] = sum of h[k] x[i + k], i < covered(n). */
static void convolve_tile(const float *x, const float *h, int64_t taps, float *y, int64_t n,
                          bool stream) {
    int64_t rest = n % (HELD * VF_WIDTH), whole = n - rest;
    convolutions[MOST_HELD](x, h, taps, y, whole, stream);
    convolutions[last_held(rest)](x + whole, h, taps, y + whole, rest, stream);
}

typedef struct direct_task {
    const fovea_view *x, *y;
    const float *h; /* in the order of x */
    int64_t taps, padding, tiles;
    float *scratch;
    int64_t scratch_floats; /* of each thread */
    bool stream;            /* y past the caches */
} direct_task;

static int64_t input_floats(int64_t taps) { return TILE + taps + 2 * OVERHANG; }

/* x[first], x[first + 1], ..., zeros outside: where they are if all are there, or a copy. */
static const float *take_input(const direct_task *t, const float *x, int64_t first, int64_t count,
                               float *copy) {
    int64_t n = length_of(t->x), stride = stride_of(t->x);
    if (stride == 1 && first >= 0 && first + count <= n) return x + first;
    int64_t begin = smaller(count, larger(0, -first)),
            end = larger(begin, smaller(count, n - first));
    memset(copy, 0, (size_t)begin * sizeof *copy);
    if (stride == 1 && end > begin)
        memcpy(copy + begin, x + first + begin, (size_t)(end - begin) * sizeof *copy);
    for (int64_t i = begin; stride != 1 && i < end; i++) copy[i] = x[(first + i) * stride];
    memset(copy + end, 0, (size_t)(count - end) * sizeof *copy);
    return copy;
}

static void convolve_tiles(const void *task, int64_t begin, int64_t end, int thread) {
    const direct_task *t = task;
    float *copy = t->scratch + thread * t->scratch_floats, *out = copy + input_floats(t->taps);
    int64_t m = length_of(t->y), stride = stride_of(t->y);
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t row = piece / t->tiles, first = piece % t->tiles * TILE;
        int64_t count = smaller(TILE, m - first);
        float *y = row_of(t->y, row) + first * stride;
        const float *x =
            take_input(t, row_of(t->x, row), first - t->padding, covered(count) + t->taps, copy);
        bool whole = stride == 1 && count == covered(count);
        bool stream = t->stream && whole && (uintptr_t)y % VF_BYTES == 0;
        if (stream)
            convolve_tile(x, t->h, t->taps, y, count, true);
        else
            convolve_tile(x, t->h, t->taps, whole ? y : out, count, false);
        if (!whole && stride == 1) memcpy(y, out, (size_t)count * sizeof *y);
        for (int64_t i = 0; stride != 1 && i < count; i++) y[i * stride] = out[i];
    }
    if (t->stream) vf_stream_fence();
}

static int64_t padded(int64_t floats) { return (floats + 15) / 16 * 16; }

static int64_t direct_floats(int64_t taps) {
    return padded(input_floats(taps) + TILE + HELD * VF_WIDTH);
}

static size_t direct_workspace(const fovea_problem *problem, int threads) {
    int64_t taps = length_of(&problem->views[1]);
    return (size_t)(padded(taps) + threads * direct_floats(taps)) * sizeof(float);
}

static fovea_status convolve(const fovea_problem *problem, fovea_run *run, int64_t padding,
                             bool reversed) {
    const fovea_view *h = &problem->views[1], *y = &problem->views[2];
    direct_task t = {.x = &problem->views[0],
                     .y = y,
                     .taps = length_of(h),
                     .padding = padding,
                     .tiles = divide_up(length_of(y), TILE),
                     .scratch_floats = direct_floats(length_of(h))};
    float *taps = run->workspace;
    int allowed = run->threads;
    run->threads = 1;
    if (fovea_view_elements(y) == 0) return FOVEA_OK;
    for (int64_t k = 0; k < t.taps; k++)
        taps[reversed ? t.taps - 1 - k : k] = row_of(h, 0)[k * stride_of(h)];
    t.h = taps, t.scratch = taps + padded(t.taps);
    int64_t pieces = rows_of(y) * t.tiles;
    int64_t work = fovea_view_elements(y) * (8 + t.taps / 2);
    run->threads = fovea_useful_threads(pieces, work, allowed);
    t.stream = fovea_worth_streaming(fovea_view_elements(y) * 8, run->threads);
    fovea_share(pieces, run->threads, convolve_tiles, &t);
    return FOVEA_OK;
}

static fovea_status conv1d(const fovea_problem *problem, fovea_run *run) {
    const fovea_conv1d_options *options = problem->options;
    int64_t taps = length_of(&problem->views[1]);
    int64_t padding = options->mode == FOVEA_CONV1D_MODE_FULL   ? taps - 1
                      : options->mode == FOVEA_CONV1D_MODE_SAME ? taps / 2
                                                                : 0;
    return convolve(problem, run, padding, false);
}

static fovea_status fir_filter(const fovea_problem *problem, fovea_run *run) {
    return convolve(problem, run, length_of(&problem->views[1]) - 1, true);
}

/* ---- Windows -------------------------------------------------------------------------------- */

typedef struct window_task {
    const fovea_view *x, *y;
    int window;
    int64_t tiles;
    bool stream; /* y past the caches */
} window_task;

/* 2 sin^2(pi s), |s| <= 1/4: Taylor's series to s^9 is within 2e-9 of the sine. */
FOVEA_INLINE vf rise(vf s) {
    static const float terms[] = {3.14159265f, -5.16771278f, 2.55016404f, -0.599264529f,
                                  0.0821458866f};
    vf square = vf_mul(s, s), sine = vf_set1(terms[4]);
    VF_UNROLLED for (int i = 3; i >= 0; i--) sine = vf_fma(sine, square, vf_set1(terms[i]));
    sine = vf_mul(sine, s);
    return vf_mul(vf_add(sine, sine), sine);
}

FOVEA_INLINE vf window_of(int window, vf v) {
    if (window == FOVEA_WINDOW_APPLY_WINDOW_HANN) return vf_mul(vf_set1(0.5f), v);
    if (window == FOVEA_WINDOW_APPLY_WINDOW_HAMMING)
        return vf_fma(vf_set1(0.46f), v, vf_set1(0.08f));
    return vf_mul(v, vf_fma(vf_set1(0.16f), v, vf_set1(0.18f)));
}

/* Its value at t = i/(n-1) - 1/2. The sine is taken from the nearer end of a quarter: from the window's end alone it
 * cost 4 eps at the top. */
FOVEA_INLINE vf window_at(int window, vf t) {
    vf near = vf_abs(t), far = vf_sub(vf_set1(0.5f), near);
    vf v = rise(vf_min(near, far));
    return window_of(window, vf_select(vf_lt(near, far), vf_sub(vf_set1(2), v), v));
}

/* Elements of a window of n, from number `first` on; its ends are exact, since 0 times an infinity is NaN. Of four
 * vectors only the middle of t is taken from double: 10^7 elements took 2.7 ms with a division for each vector and
 * nothing fetched, and take 2.06 where copying takes 1.97. */
FOVEA_INLINE void apply(int window, const float *x, float *y, int64_t first, int64_t count,
                        int64_t n, bool stream) {
    enum { W = VF_WIDTH };
    const double step = n > 1 ? 1 / (double)(n - 1) : 0;
    const vf steps = vf_set1((float)step), lanes = vf_from_vi(vi_iota());
    const float end = n == 1 ? 1 : window == FOVEA_WINDOW_APPLY_WINDOW_HAMMING ? 0.08f : 0;
    if (count <= 0) return;
    const float head = x[0], tail = x[count - 1];
    int64_t i = 0;
#define MIDDLE(i) vf_set1((float)((double)(first + (i)) * step - 0.5))
    for (; i + 4 * W <= count; i += 4 * W) {
        const vf middle = MIDDLE(i + 2 * W);
        if (stream) map_fetch(fovea_fetches_near, FOVEA_F32, (const char *)x, i);
        VF_UNROLLED for (int k = 0; k < 4; k++) {
            vf t = vf_fma(vf_add(lanes, vf_set1((float)(k - 2) * W)), steps, middle);
            vf value = vf_mul(vf_load(x + i + k * W), window_at(window, t));
            if (stream)
                vf_stream(y + i + k * W, value);
            else
                vf_store(y + i + k * W, value);
        }
    }
    for (; i < count; i += W) {
        size_t left = (size_t)smaller(W, count - i);
        vf w = window_at(window, vf_fma(lanes, steps, MIDDLE(i)));
        vf_store_n(y + i, vf_mul(vf_load_n(x + i, left), w), left);
    }
    if (first == 0) y[0] = head * end;
    if (first + count == n) y[count - 1] = tail * end;
#undef MIDDLE
}

static void window_tiles(const void *task, int64_t begin, int64_t end, int thread) {
    const window_task *t = task;
    int64_t n = length_of(t->x), stride = stride_of(t->x), to_stride = stride_of(t->y);
    (void)thread;
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t row = piece / t->tiles, first = piece % t->tiles * TILE;
        int64_t count = smaller(TILE, n - first);
        const float *x = row_of(t->x, row) + first * stride;
        float *y = row_of(t->y, row) + first * to_stride, buffer[TILE];
        bool dense = stride == 1 && to_stride == 1;
        for (int64_t i = 0; !dense && i < count; i++) buffer[i] = x[i * stride];
        const float *from = dense ? x : buffer;
        float *to = dense ? y : buffer;
        bool stream = t->stream && dense && (uintptr_t)y % VF_BYTES == 0;
        if (t->window == FOVEA_WINDOW_APPLY_WINDOW_HANN)
            apply(FOVEA_WINDOW_APPLY_WINDOW_HANN, from, to, first, count, n, stream);
        else if (t->window == FOVEA_WINDOW_APPLY_WINDOW_HAMMING)
            apply(FOVEA_WINDOW_APPLY_WINDOW_HAMMING, from, to, first, count, n, stream);
        else
            apply(FOVEA_WINDOW_APPLY_WINDOW_BLACKMAN, from, to, first, count, n, stream);
        for (int64_t i = 0; !dense && i < count; i++) y[i * to_stride] = buffer[i];
    }
    if (t->stream) vf_stream_fence();
}

static fovea_status window_apply(const fovea_problem *problem, fovea_run *run) {
    const fovea_window_apply_options *options = problem->options;
    window_task t = {.x = &problem->views[0], .y = &problem->views[1], .window = options->window};
    int64_t elements = fovea_view_elements(t.x);
    int allowed = run->threads;
    run->threads = 1;
    if (elements == 0) return FOVEA_OK;
    t.tiles = divide_up(length_of(t.x), TILE);
    int64_t pieces = rows_of(t.x) * t.tiles;
    run->threads = fovea_useful_threads(pieces, elements * 8, allowed);
    t.stream = fovea_worth_streaming(elements * 8, run->threads);
    fovea_share(pieces, run->threads, window_tiles, &t);
    return FOVEA_OK;
}

/* ---- By transforms --------------------------------------------------------------------------- */

/* Real rows on a circle of 2m numbers: the bins of one, of another, and of one under way. */
typedef struct circle {
    const fft_plan *plan; /* of m complex numbers */
    int64_t m;
    int threads;
    float *values, *one, *other, *spare, *scratch; /* 2m, and 2m + 2 each */
} circle;

static int64_t half_circle(int64_t n, int64_t m) { return fft_good_length((n + m) / 2 + 1); }

static int64_t circle_floats(int64_t m, int threads) {
    return padded(2 * m) + 3 * padded(2 * m + 2) + padded(fft_scratch(m, FOVEA_F32, threads));
}

static size_t circle_workspace(const fovea_problem *problem, int threads) {
    bool alone = problem->kernel->arguments[1].role == FOVEA_OUTPUT;
    int64_t n = length_of(&problem->views[0]);
    int64_t m = half_circle(n, alone ? n : length_of(&problem->views[1]));
    return (size_t)circle_floats(m, threads) * sizeof(float);
}

static circle place_circle(float *memory, int64_t m, const fft_plan *plan, int threads) {
    circle c = {.plan = plan, .m = m, .threads = threads, .values = memory};
    c.one = memory + padded(2 * m), c.other = c.one + padded(2 * m + 2);
    c.spare = c.other + padded(2 * m + 2), c.scratch = c.spare + padded(2 * m + 2);
    return c;
}

static bool make_circle(fovea_run *run, int64_t m, circle *c) {
    int threads = fovea_useful_threads(m, 2 * fft_work(m, FOVEA_F32), run->threads);
    *c = place_circle(run->workspace, m, NULL, run->threads = threads);
    c->plan = fft_find_plan(run, m, 0, true, FOVEA_F32, c->scratch);
    return c->plan != NULL;
}

/* The bins of 2m numbers that lie side by side. */
static void find_bins(const circle *c, const float *from, float *bins) {
    fft_task_float t = {
        .plan = c->plan, .from = from, .to = c->spare, .stride = 1, .to_stride = 1, .scale = 1};
    fft_transform_float(t, c->scratch, c->threads);
    fft_bins_float turn = {c->plan, c->spare, bins, 1, false};
    fft_turn_bins_float(&turn, c->threads);
}

/* The bins of a row of a view. */
static void take_bins(const circle *c, const fovea_view *view, int64_t row, float *bins) {
    int64_t n = length_of(view), stride = stride_of(view);
    const float *x = row_of(view, row);
    if (stride == 1) memcpy(c->values, x, (size_t)n * sizeof *x);
    for (int64_t i = 0; stride != 1 && i < n; i++) c->values[i] = x[i * stride];
    memset(c->values + n, 0, (size_t)(2 * c->m - n) * sizeof *x);
    find_bins(c, c->values, bins);
}

typedef struct product_task {
    float *bins;
    const float *by;
    int64_t count;
    bool conjugate;
} product_task;

static int64_t bin_vectors(int64_t count) { return divide_up(count, VF_WIDTH); }

/* bins *= by, or its conjugate. Pieces are vectors of bins: where those that are left over begin must not depend
 * on the threads, for a product of vectors is rounded once less. */
static void multiply_bins(const void *task, int64_t begin, int64_t vectors, int thread) {
    const product_task *t = task;
    float sign = t->conjugate ? -1 : 1;
    int64_t i = begin * VF_WIDTH, end = smaller(vectors * VF_WIDTH, t->count);
    (void)thread;
    for (; i + VF_WIDTH <= end; i += VF_WIDTH) {
        float *at = t->bins + 2 * i;
        const float *by = t->by + 2 * i;
        vf a, b, c, d, low, high;
        vf_deinterleave(vf_load(at), vf_load(at + VF_WIDTH), &a, &b);
        vf_deinterleave(vf_load(by), vf_load(by + VF_WIDTH), &c, &d);
        d = vf_mul(vf_set1(sign), d);
        vf_interleave(vf_fms(a, c, vf_mul(b, d)), vf_fma(a, d, vf_mul(b, c)), &low, &high);
        vf_store(at, low), vf_store(at + VF_WIDTH, high);
    }
    for (; i < end; i++) {
        float a = t->bins[2 * i], b = t->bins[2 * i + 1];
        float c = t->by[2 * i], d = sign * t->by[2 * i + 1];
        t->bins[2 * i] = a * c - b * d, t->bins[2 * i + 1] = a * d + b * c;
    }
}

/* values = the real numbers of which c->one are the bins. */
static void give_values(const circle *c) {
    fft_bins_float turn = {c->plan, c->one, c->spare, 1, true};
    fft_turn_bins_float(&turn, c->threads);
    fft_task_float t = {.plan = c->plan,
                        .from = c->spare,
                        .to = c->values,
                        .stride = 1,
                        .to_stride = 1,
                        .inverse = true,
                        .scale = (float)(1 / (double)c->m)};
    fft_transform_float(t, c->scratch, c->threads);
}

/* result_i = values[i - shift] on the circle. */
static void give_row(const circle *c, const fovea_view *view, int64_t row, int64_t shift) {
    int64_t n = length_of(view), stride = stride_of(view), length = 2 * c->m;
    float *y = row_of(view, row);
    for (int64_t i = 0; i < n; i++)
        y[i * stride] = c->values[i < shift ? i - shift + length : i - shift];
}

/* Rows of the first argument with rows of the second, or its only one, or themselves. */
static fovea_status by_transforms(const fovea_problem *problem, fovea_run *run, bool conjugate,
                                  int64_t shift) {
    bool alone = problem->kernel->arguments[1].role == FOVEA_OUTPUT;
    const fovea_view *x = &problem->views[0], *h = alone ? x : &problem->views[1];
    const fovea_view *y = &problem->views[alone ? 1 : 2];
    int64_t rows = rows_of(x);
    int allowed = run->threads;
    circle c;
    run->threads = 1;
    if (rows == 0) return FOVEA_OK;
    run->threads = allowed;
    if (!make_circle(run, half_circle(length_of(x), length_of(h)), &c)) return FOVEA_OUT_OF_MEMORY;
    for (int64_t row = 0; row < rows; row++) {
        if (!alone && (row == 0 || h->rank > 1)) take_bins(&c, h, row, c.other);
        take_bins(&c, x, row, c.one);
        product_task t = {c.one, alone ? c.one : c.other, c.m + 1, conjugate};
        fovea_share(bin_vectors(t.count), c.threads, multiply_bins, &t);
        give_values(&c);
        give_row(&c, y, row, shift);
    }
    return FOVEA_OK;
}

/* ---- Long rows by a few taps ------------------------------------------------------------------ */

/* Blocks of a row on circles of their own, which begin with the taps - 1 numbers before the block: what wraps
 * around falls on the results of those, which are left out. Blocks stay in the second-level cache: of 10^7
 * elements and 256 taps 8.0 ms (two cores, Zen 5), where one circle took 52 (SciPy's overlap-add 64). */
typedef struct overlap_task {
    const fovea_view *x, *y;
    const fft_plan *plan;
    const float *bins; /* of h */
    float *scratch;
    int64_t m, taps, step, blocks; /* half a circle; results of a block; blocks of a row */
} overlap_task;

enum { OVERLAP_HALF = 2048 };

/* Half the circle of a block; 0: rows are taken whole. */
static int64_t overlap_half(const fovea_problem *problem) {
    int64_t n = length_of(&problem->views[0]), taps = length_of(&problem->views[1]);
    int64_t m = OVERLAP_HALF;
    while (m < 4 * taps) m *= 2;
    return n > 4 * m ? m : 0;
}

static size_t overlap_workspace(const fovea_problem *problem, int threads) {
    int64_t m = overlap_half(problem);
    if (m == 0) return circle_workspace(problem, threads);
    return (size_t)(threads * circle_floats(m, 1) + padded(2 * m + 2)) * sizeof(float);
}

static void overlap_blocks(const void *task, int64_t begin, int64_t end, int thread) {
    const overlap_task *t = task;
    int64_t n = length_of(t->x), stride = stride_of(t->x), to_stride = stride_of(t->y);
    circle c = place_circle(t->scratch + thread * circle_floats(t->m, 1), t->m, t->plan, 1);
    for (int64_t block = begin; block < end; block++) {
        int64_t row = block / t->blocks, first = block % t->blocks * t->step;
        int64_t from = first - (t->taps - 1), count = smaller(t->step, n - first);
        const float *x = row_of(t->x, row);
        float *y = row_of(t->y, row) + first * to_stride;
        bool inside = stride == 1 && from >= 0 && from + 2 * t->m <= n;
        for (int64_t i = 0; !inside && i < 2 * t->m; i++)
            c.values[i] = from + i >= 0 && from + i < n ? x[(from + i) * stride] : 0;
        find_bins(&c, inside ? x + from : c.values, c.one);
        product_task product = {c.one, t->bins, t->m + 1, false};
        multiply_bins(&product, 0, bin_vectors(product.count), 0);
        give_values(&c);
        const float *results = c.values + t->taps - 1;
        if (to_stride == 1) memcpy(y, results, (size_t)count * sizeof *y);
        for (int64_t i = 0; to_stride != 1 && i < count; i++) y[i * to_stride] = results[i];
    }
}

static fovea_status by_overlap(const fovea_problem *problem, fovea_run *run, int64_t m) {
    const fovea_view *x = &problem->views[0], *h = &problem->views[1];
    int64_t taps = length_of(h), step = 2 * m - taps + 1, allowed = run->threads;
    overlap_task t = {.x = x, .y = &problem->views[2], .m = m, .taps = taps, .step = step};
    float *bins = run->workspace;
    t.bins = bins, t.scratch = bins + padded(2 * m + 2);
    t.blocks = divide_up(length_of(x), step);
    run->threads = 1;
    if (rows_of(x) == 0) return FOVEA_OK;
    circle c = place_circle(t.scratch, m, NULL, 1);
    t.plan = c.plan = fft_find_plan(run, m, 0, true, FOVEA_F32, c.scratch);
    if (!t.plan) return FOVEA_OUT_OF_MEMORY;
    take_bins(&c, h, 0, bins);
    int64_t pieces = rows_of(x) * t.blocks;
    run->threads = fovea_useful_threads(pieces, pieces * 2 * fft_work(m, FOVEA_F32), (int)allowed);
    fovea_share(pieces, run->threads, overlap_blocks, &t);
    return FOVEA_OK;
}

static fovea_status fft_conv1d(const fovea_problem *problem, fovea_run *run) {
    int64_t m = overlap_half(problem);
    return m ? by_overlap(problem, run, m) : by_transforms(problem, run, false, 0);
}
static fovea_status autocorrelation(const fovea_problem *problem, fovea_run *run) {
    return by_transforms(problem, run, true, 0);
}
static fovea_status cross_correlation(const fovea_problem *problem, fovea_run *run) {
    return by_transforms(problem, run, true, length_of(&problem->views[1]) - 1);
}

#define DIRECT(name)                                                                               \
    {                                                                                              \
        #name, FOVEA_CPU_NAME("direct"), ONE, FOVEA_TIER_HERE, .workspace = direct_workspace,      \
                                                               .run = name                         \
    }
#define BY_TRANSFORM(name)                                                                         \
    {                                                                                              \
        #name, FOVEA_CPU_NAME("transform"), ONE, FOVEA_TIER_HERE, .workspace = circle_workspace,   \
                                                                  .run = name                      \
    }

const fovea_implementation FOVEA_TIERED(fovea_cpu_signal)[] = {
    DIRECT(conv1d),
    {"window_apply", FOVEA_CPU_NAME("direct"), ONE, FOVEA_TIER_HERE, .run = window_apply},
    DIRECT(fir_filter),
    {"fft_conv1d", FOVEA_CPU_NAME("transform"), ONE, FOVEA_TIER_HERE,
     .workspace = overlap_workspace, .run = fft_conv1d},
    BY_TRANSFORM(autocorrelation),
    BY_TRANSFORM(cross_correlation),
    {0}};
