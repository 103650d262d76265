/* Covariances of the columns of a matrix: sums of products of differences from a shift, in f64 on the tensor
 * cores, less what the shift was off. A warp holds the sums of all pairs of 64 columns, of one triangle, and takes
 * four rows at a time: what multiplies from the left and from the right are then the same registers. Of f32 the
 * shift is the first row, and nothing is lost that f32 could show; of f64 it is the mean, a pass of its own.
 * 36 products of 8 by 8 by 4 for 4 rows of 64 are 0.12 ms for 10^8 elements, reading them is 0.09. */
#ifndef FOVEA_CUDA_COVARIANCE_CUH
#define FOVEA_CUDA_COVARIANCE_CUH

#include "cuda/fold.cuh"

#include <math.h>

enum {
    GRAM_THREADS = 256,
    GRAM_WARPS = GRAM_THREADS / 32,
    GRAM_WHOLE = 8,     /* tiles of 8 columns: one triangle of them, */
    GRAM_HALF = 4,      /* or, of more columns, squares of pairs of so many */
    GRAM_PART = 64,     /* rows of a part at least: 8 of each warp */
    GRAM_MEET = 4,      /* warps that bring their sums into shared memory at once */
    GRAM_FEW_ROWS = 64, /* rows of which each thread of a block has all of a pair of columns, */
    GRAM_FEW = 1 << 16, /* where there are so few pairs */
    GRAM_FEW_LEFT = 8,  /* columns of a block, from the left and from the right */
    GRAM_FEW_RIGHT = 16,
    GRAM_FEW_THREADS = GRAM_FEW_LEFT * GRAM_FEW_RIGHT
};

/* A matrix of `rows` by `columns`, one of `batches`; blocks of columns in pairs, parts of rows. */
struct gram_place {
    strided<1> batches;
    int64_t rows, columns, step_row, step_column, parts, pairs;
};

/* Sums of a pair of column blocks in a part of the rows: tiles of 64, then sums of the columns. */
static constexpr __host__ __device__ int gram_tiles(int tiles, bool triangle) {
    return triangle ? tiles * (tiles + 1) / 2 : tiles * tiles;
}
static constexpr __host__ __device__ int gram_entries(int tiles, bool triangle) {
    return gram_tiles(tiles, triangle) * 64 + tiles * 8;
}

/* Pair number `pair` of blocks (a, b), b <= a. */
static __device__ __forceinline__ void gram_pair(int64_t pair, int *a, int *b) {
    *a = (int)((sqrt(8 * (double)pair + 1) - 1) / 2);
    while ((int64_t)*a * (*a + 1) / 2 > pair) --*a;
    while ((int64_t)(*a + 1) * (*a + 2) / 2 <= pair) ++*a;
    *b = (int)(pair - (int64_t)*a * (*a + 1) / 2);
}

/* Some rows of a block of columns, on their way: lane l has row l % 4, column l / 4 of each tile. */
template <class T, int tiles>
struct gram_rows {
    const T *x; /* of this lane in its first row */
    int64_t step_tile;
    int first, columns; /* of this lane in the first tile */

    __device__ __forceinline__ void load(int64_t offset, bool real, T (&to)[tiles]) const {
#pragma unroll
        for (int t = 0; t < tiles; t++)
            to[t] = real && first + 8 * t < columns ? x[offset + t * step_tile] : T(0);
    }
    __device__ __forceinline__ void centre(const T (&from)[tiles], const double *shift, bool real,
                                           double (&to)[tiles]) const {
#pragma unroll
        for (int t = 0; t < tiles; t++)
            to[t] = real && first + 8 * t < columns ? (double)from[t] - shift[8 * t] : 0;
    }
};

/* Where the product of tiles i and j is among those of a pair. */
static constexpr __host__ __device__ int gram_product(int tiles, bool triangle, int i, int j) {
    return triangle ? i * (i + 1) / 2 + j : i * tiles + j;
}

/* Adds the products of eight rows: two tiles from the left at a time. */
template <int tiles, bool triangle, int products>
static __device__ __forceinline__ void
gram_add(double (&c)[products][2], const double (&m)[2][tiles], const double (&n)[2][tiles]) {
#pragma unroll
    for (int i = 0; i < tiles; i += 2) {
        const double both[4] = {m[0][i], m[0][i + 1], m[1][i], m[1][i + 1]};
#pragma unroll
        for (int j = 0; j < (triangle ? i + 1 : tiles); j++) {
            const double from[2] = {n[0][j], n[1][j]};
            multiply_16x8x8(c[gram_product(tiles, triangle, i, j)],
                            c[gram_product(tiles, triangle, i + 1, j)], both, from);
        }
        if constexpr (triangle) { /* above the diagonal nothing is kept */
            const double one[4] = {0, m[0][i + 1], 0, m[1][i + 1]};
            const double from[2] = {n[0][i + 1], n[1][i + 1]};
            double nothing[2] = {0, 0};
            multiply_16x8x8(nothing, c[gram_product(tiles, true, i + 1, i + 1)], one, from);
        }
    }
}

extern __shared__ double gram_memory[]; /* sums of GRAM_MEET warps */

template <class T, int tiles, bool triangle>
static __global__ __launch_bounds__(GRAM_THREADS,
                                    1) void gram_kernel(const T *x,
                                                        const __grid_constant__ gram_place place,
                                                        const double *shift, double *partials) {
    constexpr int depth = triangle ? 2 : 4, products = gram_tiles(tiles, triangle);
    constexpr int entries = gram_entries(tiles, triangle);
    __shared__ double shifts[2][tiles * 8];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t part = blockIdx.x % (unsigned)place.parts,
                  set = blockIdx.x / (unsigned)place.parts;
    const int64_t batch = set / place.pairs;
    int a, b;
    int64_t at[1];
    follow_stream();
    gram_pair(set - batch * place.pairs, &a, &b);
    place.batches.offsets(batch, at);
    x += at[0];
    for (int c = threadIdx.x; c < 2 * tiles * 8; c += GRAM_THREADS) {
        const int64_t column = (c < tiles * 8 ? a : b) * (int64_t)(tiles * 8) + c % (tiles * 8);
        double value = 0;
        if (column < place.columns && place.rows > 0)
            value = shift ? shift[batch * place.columns + column]
                          : (double)x[column * place.step_column];
        shifts[c / (tiles * 8)][c % (tiles * 8)] = isfinite(value) ? value : 0;
    }
    __syncthreads();

    const int row_in = lane % 4, column_in = lane / 4;
    const int64_t step = place.parts * GRAM_WARPS * 4;
    const auto rows_of = [&](int block) {
        const int first = block * tiles * 8 + column_in;
        return gram_rows<T, tiles>{x + first * place.step_column, 8 * place.step_column, first,
                                   (int)place.columns};
    };
    const gram_rows<T, tiles> left = rows_of(a), right = rows_of(b);
    double c[products][2] = {}, total[tiles] = {};
    T coming[depth][tiles], other[triangle ? 1 : depth][tiles];
    int64_t row = (part * GRAM_WARPS + warp) * 4 + row_in;
#pragma unroll
    for (int d = 0; d < depth; d++) {
        left.load((row + d * step) * place.step_row, row + d * step < place.rows, coming[d]);
        if (!triangle)
            right.load((row + d * step) * place.step_row, row + d * step < place.rows,
                       other[triangle ? 0 : d]);
    }
    for (; row - row_in < place.rows; row += depth * step) {
#pragma unroll
        for (int d = 0; d < depth; d += 2) {
            double m[2][tiles], n[2][triangle ? 1 : tiles];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int64_t here = row + (d + h) * step, next = here + depth * step;
                left.centre(coming[d + h], shifts[0] + column_in, here < place.rows, m[h]);
                left.load(next * place.step_row, next < place.rows, coming[d + h]);
                if constexpr (!triangle) {
                    right.centre(other[d + h], shifts[1] + column_in, here < place.rows, n[h]);
                    right.load(next * place.step_row, next < place.rows, other[d + h]);
                }
            }
#pragma unroll
            for (int i = 0; i < tiles; i++) total[i] += m[0][i] + m[1][i];
            if constexpr (triangle)
                gram_add<tiles, true>(c, m, m);
            else
                gram_add<tiles, false>(c, m, n);
        }
    }
    double *mine = gram_memory + warp % GRAM_MEET * entries;
    const auto meet = [&](auto bring) {
#pragma unroll
        for (int p = 0; p < products; p++)
#pragma unroll
            for (int h = 0; h < 2; h++) bring(c[p][h], mine + p * 64 + lane * 2 + h);
#pragma unroll
        for (int t = 0; t < tiles; t++) {
            const double sum = reduce_lanes(total[t], 4, [](double p, double q) { return p + q; });
            if (row_in == 0) bring(sum, mine + products * 64 + t * 8 + column_in);
        }
    };
    static_assert(GRAM_WARPS == 2 * GRAM_MEET, "the others add theirs to them");
    if (warp >= GRAM_MEET) meet([](double value, double *at) { *at = value; });
    __syncthreads();
    if (warp < GRAM_MEET) meet([](double value, double *at) { *at += value; });
    __syncthreads();
    partials += blockIdx.x * (int64_t)entries;
    for (int i = threadIdx.x; i < entries; i += GRAM_THREADS) {
        double sum = gram_memory[i];
#pragma unroll
        for (int w = 1; w < GRAM_MEET; w++) sum += gram_memory[w * entries + i];
        partials[i] = sum;
    }
}

/* The parts of each pair, in their order, into the first. */
static __global__ __launch_bounds__(GRAM_THREADS) void gram_join(double *partials, int64_t entries,
                                                                 int64_t parts, int64_t sets) {
    const int64_t i = (int64_t)blockIdx.x * GRAM_THREADS + threadIdx.x;
    follow_stream();
    if (i >= entries * sets) return;
    const int64_t set = i / entries;
    double *at = partials + set * parts * entries + (i - set * entries), sum = 0;
#pragma unroll 8
    for (int64_t p = 0; p < parts; p++) sum += at[p * entries];
    *at = sum;
}

/* The sum of products of differences from the means, given those from shifts. */
static __device__ __forceinline__ double gram_centred(double product, double x, double y,
                                                      double part, bool same) {
    const double m = product - x * y * part;
    if (!isfinite(x) || !isfinite(y)) return NAN;
    return same && m < 0 ? 0 : m;
}

/* Where the sum of products of two columns, or of one alone, stands. */
struct gram_sums {
    const double *partials; /* of a matrix */
    int64_t step;           /* from a pair to the next */
    int tiles;
    bool triangle;

    __device__ __forceinline__ double product(int i, int j) const {
        if (i < j) return product(j, i);
        const int width = tiles * 8, a = i / width, b = j / width;
        const int s = i % width / 8, t = j % width / 8;
        const int tile = gram_product(tiles, triangle, s, t);
        /* On the diagonal of a triangle, and of a pair with itself, both halves are there. */
        return partials[((int64_t)a * (a + 1) / 2 + b) * step + tile * 64 + i % 8 * 8 + j % 8];
    }
    __device__ __forceinline__ double column(int i) const {
        const int width = tiles * 8, a = i / width;
        return partials[((int64_t)a * (a + 1) / 2 + a) * step + gram_tiles(tiles, triangle) * 64 +
                        i % width];
    }
    /* Of differences from the means. part: 1 / rows. */
    __device__ __forceinline__ double centred(int i, int j, double part) const {
        return gram_centred(product(i, j), column(i), column(j), part, i == j);
    }
};

/* The same of a pair of columns, i and j. */
struct gram_pair_sums {
    int i;
    double x, y, xx, yy, xy;
    __device__ __forceinline__ double centred(int a, int b, double part) const {
        if (a != b) return gram_centred(xy, x, y, part, false);
        return a == i ? gram_centred(xx, x, x, part, true) : gram_centred(yy, y, y, part, true);
    }
};

/* result(sums, i, j) for every pair of columns, the same for (i, j) and (j, i). */
template <class T, class Result>
static __global__
__launch_bounds__(GRAM_THREADS) void gram_write(T *y, const __grid_constant__ strided<1> where,
                                                int64_t columns, int64_t count, int64_t batch_step,
                                                gram_sums sums, Result result) {
    const int64_t number = (int64_t)blockIdx.x * GRAM_THREADS + threadIdx.x;
    int64_t at[1];
    follow_stream();
    if (number >= count) return;
    const int64_t batch = number / (columns * columns), place = number - batch * columns * columns;
    const int i = (int)(place / columns), j = (int)(place - i * columns);
    sums.partials += batch * batch_step;
    where.offsets(number, at);
    y[at[0]] = (T)result(sums, i > j ? i : j, i > j ? j : i);
}

/* Of a few rows a thread makes the sums of a pair of columns alone: nobody waits for another kernel. A block brings its
 * columns into shared memory as f64; f32 as differences from the first row. */
template <class T, class Result>
static __global__ __launch_bounds__(GRAM_FEW_THREADS) void gram_few(
    const T *x, T *y, const __grid_constant__ gram_place place,
    const __grid_constant__ strided<1> where, const __grid_constant__ Result result) {
    constexpr int width = GRAM_FEW_LEFT + GRAM_FEW_RIGHT, together = 4;
    constexpr int loads = GRAM_FEW_ROWS * width / GRAM_FEW_THREADS;
    __shared__ double values[GRAM_FEW_ROWS][width];
    const int columns = (int)place.columns, rows = (int)place.rows, thread = (int)threadIdx.x;
    const unsigned across = (unsigned)(columns + GRAM_FEW_RIGHT - 1) / GRAM_FEW_RIGHT;
    const unsigned down = (unsigned)(columns + GRAM_FEW_LEFT - 1) / GRAM_FEW_LEFT;
    const unsigned batch = blockIdx.x / (across * down), tile = blockIdx.x - batch * across * down;
    const int left = (int)(tile / across) * GRAM_FEW_LEFT;
    const int right = (int)(tile % across) * GRAM_FEW_RIGHT;
    const int i = left + thread / GRAM_FEW_RIGHT, j = right + thread % GRAM_FEW_RIGHT;
    const int padded = (rows + together - 1) / together * together, count = padded * width;
    int64_t at[1];
    release_next();
    ready_parameters(place), ready_parameters(where), ready_parameters(result);
    place.batches.offsets(batch, at);
    x = settled_global(x + at[0]);
    const bool real = i < columns && j < columns;
    where.offsets(((int64_t)batch * columns + (real ? i : 0)) * columns + (real ? j : 0), at);
    y = settled_global(y + at[0]);
    await_stream();
#pragma unroll 4
    for (int n = 0; n < loads; n++) {
        const int place_of = n * GRAM_FEW_THREADS + thread, row = place_of / width;
        const int c = place_of - row * width;
        const int column = c < GRAM_FEW_LEFT ? left + c : right + c - GRAM_FEW_LEFT;
        double value = 0;
        if (place_of >= count) break;
        if (row < rows && column < columns) {
            const T *from = x + column * place.step_column;
            value = (double)from[row * place.step_row];
            if constexpr (sizeof(T) < 8) {
                const T first = *from;
                value -= isfinite(first) ? (double)first : 0;
            }
        }
        values[row][c] = value;
    }
    __syncthreads();
    const double *a = &values[0][thread / GRAM_FEW_RIGHT];
    const double *b = &values[0][GRAM_FEW_LEFT + thread % GRAM_FEW_RIGHT];
    gram_pair_sums sums = {i, 0, 0, 0, 0, 0};
    double shift_a = 0, shift_b = 0;
    if constexpr (sizeof(T) == 8) { /* means, for which the rows added are 0 */
        for (int r = 0; r < rows; r++) shift_a += a[r * width], shift_b += b[r * width];
        shift_a *= result.part, shift_b *= result.part;
        shift_a = isfinite(shift_a) ? shift_a : 0, shift_b = isfinite(shift_b) ? shift_b : 0;
    }
    for (int r = 0; r < padded; r += together) {
#pragma unroll
        for (int u = 0; u < together; u++) {
            double p = a[(r + u) * width], q = b[(r + u) * width];
            if constexpr (sizeof(T) == 8)
                p = r + u < rows ? p - shift_a : 0, q = r + u < rows ? q - shift_b : 0;
            sums.x += p, sums.y += q;
            sums.xx = fma(p, p, sums.xx), sums.yy = fma(q, q, sums.yy);
            sums.xy = fma(p, q, sums.xy);
        }
    }
    if (real) *y = (T)result(sums, i > j ? i : j, i > j ? j : i);
}

/* ---- The host's part ------------------------------------------------------------------------ */

struct gram_sizes {
    int64_t batches, rows, columns, pairs, parts, entries;
    bool triangle;
};

static gram_sizes gram_sizes_of(const fovea_problem *problem) {
    const fovea_view *x = &problem->views[0];
    gram_sizes s = {1, x->shape[x->rank - 2], x->shape[x->rank - 1], 1, 1, 0, true};
    for (int i = 0; i < x->rank - 2; i++) s.batches *= x->shape[i];
    s.triangle = s.columns <= GRAM_WHOLE * 8;
    int64_t blocks = s.triangle ? 1 : blocks_for(s.columns, GRAM_HALF * 8);
    s.pairs = blocks * (blocks + 1) / 2;
    s.entries = gram_entries(s.triangle ? GRAM_WHOLE : GRAM_HALF, s.triangle);
    /* Enough for the device; sums of f64 are to be short ones too. */
    int64_t most = problem->dtype == FOVEA_F64 ? 8 * FOLD_DEVICE : FOLD_DEVICE;
    int64_t wanted = blocks_for(most, s.pairs * (s.batches > 0 ? s.batches : 1));
    s.parts = blocks_for(s.rows, GRAM_PART);
    if (s.parts > wanted) s.parts = wanted;
    if (s.parts < 1) s.parts = 1;
    return s;
}

static size_t gram_workspace(const fovea_problem *problem, int threads) {
    (void)threads;
    gram_sizes s = gram_sizes_of(problem);
    size_t total = 0, means = 0;
    if (__builtin_mul_overflow((size_t)s.batches * (size_t)s.pairs,
                               (size_t)(s.parts * s.entries) * sizeof(double), &total) ||
        __builtin_mul_overflow((size_t)s.batches, (size_t)s.columns * sizeof(double), &means))
        return SIZE_MAX;
    return FOLD_WORKSPACE + total + means;
}

struct column_mean {
    using output = double;
    __device__ __forceinline__ void operator()(const joint_moments &m, double *mean,
                                               double *) const {
        *mean = m.mean_x;
    }
};

/* The means of the columns, [batches, columns]. */
static fovea_status gram_means(const fovea_view &x, double *means, fovea_run *run) {
    fovea_view to = without_axis(x, x.rank - 2);
    int64_t step = 1;
    to.data = (char *)means;
    for (int i = to.rank - 1; i >= 0; i--) to.stride[i] = step, step *= to.shape[i];
    return fold_run(x, NULL, to, NULL, x.rank - 2, run,
                    moments_method<double, false, column_mean>{});
}

template <class T, int tiles, bool triangle, class Result>
static fovea_status gram_with(const fovea_problem *problem, fovea_run *run, const gram_sizes &s,
                              const double *means, double *partials, Result result) {
    const fovea_view &x = problem->views[0];
    fovea_view y = problem->views[1], batches = x, *all[] = {&batches}, *out[] = {&y};
    const int64_t sets = s.batches * s.pairs, count = fovea_view_elements(&y);
    batches.rank -= 2;
    fovea_views_collapse(all, 1), fovea_views_collapse(out, 1);
    gram_place place = {strided_of<1>({&batches}), s.rows,  s.columns, x.stride[x.rank - 2],
                        x.stride[x.rank - 1],      s.parts, s.pairs};
    fovea_status status = launch_as(run, true, gram_kernel<T, tiles, triangle>, sets * s.parts,
                                    GRAM_THREADS, (size_t)(GRAM_MEET * s.entries) * sizeof(double),
                                    (const T *)x.data, place, means, partials);
    if (status == FOVEA_OK && s.parts > 1)
        status = launch(run, gram_join, blocks_for(s.entries * sets, GRAM_THREADS), GRAM_THREADS,
                        partials, s.entries, s.parts, sets);
    if (status != FOVEA_OK) return status;
    gram_sums sums = {partials, s.parts * s.entries, tiles, triangle};
    return launch(run, gram_write<T, Result>, blocks_for(count, GRAM_THREADS), GRAM_THREADS,
                  (T *)y.data, strided_of<1>({&y}), s.columns, count, s.pairs * s.parts * s.entries,
                  sums, result);
}

template <class T, class Result>
static fovea_status gram_run_few(const fovea_problem *problem, fovea_run *run, const gram_sizes &s,
                                 Result result) {
    const fovea_view &x = problem->views[0];
    fovea_view y = problem->views[1], batches = x, *all[] = {&batches}, *out[] = {&y};
    const int64_t tiles =
        blocks_for(s.columns, GRAM_FEW_LEFT) * blocks_for(s.columns, GRAM_FEW_RIGHT);
    if (s.batches == 0 || s.columns == 0) return FOVEA_OK;
    batches.rank -= 2;
    fovea_views_collapse(all, 1), fovea_views_collapse(out, 1);
    gram_place place = {strided_of<1>({&batches}), s.rows, s.columns, x.stride[x.rank - 2],
                        x.stride[x.rank - 1],      1,      1};
    return launch(run, gram_few<T, Result>, s.batches * tiles, GRAM_FEW_THREADS, (const T *)x.data,
                  (T *)y.data, place, strided_of<1>({&y}), result);
}

template <class T, class Result>
static fovea_status gram_run(const fovea_problem *problem, fovea_run *run, Result result) {
    const gram_sizes s = gram_sizes_of(problem);
    if (s.rows > 0 && s.rows <= GRAM_FEW_ROWS && s.columns <= GRAM_FEW && s.batches <= GRAM_FEW &&
        s.batches * s.columns * s.columns <= GRAM_FEW)
        return gram_run_few<T>(problem, run, s, result);
    double *partials = (double *)((char *)run->workspace + FOLD_WORKSPACE), *means = NULL;
    if (s.batches == 0 || s.columns == 0) return FOVEA_OK;
    if (sizeof(T) == 8 && s.rows > 0) {
        means = partials + s.batches * s.pairs * s.parts * s.entries;
        fovea_status status = gram_means(problem->views[0], means, run);
        if (status != FOVEA_OK) return status;
    }
    if (s.triangle) return gram_with<T, GRAM_WHOLE, true>(problem, run, s, means, partials, result);
    return gram_with<T, GRAM_HALF, false>(problem, run, s, means, partials, result);
}

#endif
