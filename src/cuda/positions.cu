/* Of domain 6 what prepares inputs of attention by their positions, and 113. Angles are positions times
 * frequencies, in turns and in double, so that reducing to the nearest quarter is exact; what remains, at
 * most an eighth of a turn, is a float. */
#include "cuda/kernel.cuh"

#include <math.h>

enum { POSITION_THREADS = 256, TABLE_ROWS = 16 };

/* ---- Tables --------------------------------------------------------------------------------- */

/* Beyond 2^50 quarters, or where the turns are not finite, NaN. */
static __device__ __forceinline__ void at_angle(double turns, double position, float *cosine,
                                                float *sine) {
    double quarters = 4 * (position * turns), nearest = rint(quarters);
    float rest = (float)(0.5 * (quarters - nearest)), c, s; /* in half turns */
    int quarter = (int)((int64_t)nearest & 3);
    if (!(fabs(quarters) < 0x1p50)) rest = NAN, quarter = 0;
    sincospif(rest, &s, &c);
    float x = quarter & 1 ? s : c, y = quarter & 1 ? c : s;
    *cosine = quarter == 1 || quarter == 2 ? -x : x;
    *sine = quarter >= 2 ? -y : y;
}

/* Where tables are: of row p and pair j. */
struct rope_table {
    float *cosines, *sines;
    int64_t cosine_row, cosine_step, sine_row, sine_step;
};

/* A thread goes through some rows of a pair, whose frequency it works out once. */
static __global__ __launch_bounds__(POSITION_THREADS) void make_tables(rope_table table,
                                                                       int64_t rows, int64_t pairs,
                                                                       double base,
                                                                       int64_t offset) {
    int64_t task = (int64_t)blockIdx.x * POSITION_THREADS + threadIdx.x, piece = task / pairs;
    follow_stream();
    int64_t j = task - piece * pairs;
    if (piece * TABLE_ROWS >= rows) return;
    double turns = pow(base, -(double)j / (double)pairs) * 0.15915494309189533577;
    for (int64_t p = piece * TABLE_ROWS; p < rows && p < (piece + 1) * TABLE_ROWS; p++)
        at_angle(turns, (double)p + (double)offset,
                 table.cosines + p * table.cosine_row + j * table.cosine_step,
                 table.sines + p * table.sine_row + j * table.sine_step);
}

static fovea_status fill_tables(const rope_table &table, int64_t rows, int64_t pairs, double base,
                                int64_t offset, fovea_run *run) {
    int64_t threads = blocks_for(rows, TABLE_ROWS) * pairs;
    if (threads == 0) return FOVEA_OK;
    return launch(run, make_tables, blocks_for(threads, POSITION_THREADS), POSITION_THREADS, table,
                  rows, pairs, base, offset);
}

static rope_table table_of(const fovea_view &cosines, const fovea_view &sines) {
    return {(float *)cosines.data, (float *)sines.data, cosines.stride[0],
            cosines.stride[1],     sines.stride[0],     sines.stride[1]};
}

static fovea_status rope_precompute(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_rope_precompute_options *)problem->options;
    const fovea_view &cosines = problem->views[0], &sines = problem->views[1];
    return fill_tables(table_of(cosines, sines), cosines.shape[0], cosines.shape[1], o->base,
                       o->offset, run);
}

static size_t table_bytes(const fovea_problem *problem) {
    const fovea_view &x = problem->views[0];
    int64_t rows = x.shape[x.rank - 2], pairs = x.shape[x.rank - 1] / 2;
    return (size_t)(rows * pairs) * sizeof(float);
}

/* The tables that are given as arguments `given` and the next, or ones made in the workspace. */
static fovea_status find_tables(const fovea_problem *problem, int given, double base,
                                int64_t offset, fovea_run *run, rope_table *table) {
    const fovea_view &x = problem->views[0];
    int64_t rows = x.shape[x.rank - 2], pairs = x.shape[x.rank - 1] / 2;
    if (fovea_given(problem, given)) {
        *table = table_of(problem->views[given], problem->views[given + 1]);
        return FOVEA_OK;
    }
    float *memory = (float *)run->workspace;
    *table = {memory, memory + rows * pairs, pairs, 1, pairs, 1};
    return fill_tables(*table, rows, pairs, base, offset, run);
}

/* ---- Rotation ------------------------------------------------------------------------------- */

struct rope_place {
    strided<2> rows;
    int64_t count, positions, pairs, step_x, step_y;
    double inverse; /* of the pairs of a row, in packs */
};

/* A thread takes `size` pairs of a row, whose elements follow one another. */
template <class T, int size, bool interleaved>
static __global__ __launch_bounds__(POSITION_THREADS) void rotate(
    const T *x, T *y, const __grid_constant__ rope_place place, rope_table table) {
    const int64_t packs = place.pairs / size;
    int64_t task = (int64_t)blockIdx.x * POSITION_THREADS + threadIdx.x, at[2];
    follow_stream();
    if (task >= place.count * packs) return;
    int64_t row = (int64_t)((double)task * place.inverse), j;
    while (row * packs > task) row--;
    while ((row + 1) * packs <= task) row++;
    j = (task - row * packs) * size;
    place.rows.offsets(row, at);
    const int64_t p = row % place.positions;
    const int64_t first = interleaved ? 2 * j : j,
                  second = interleaved ? 2 * j + size : place.pairs + j;
    pack<T, size> a, b;
    pack<float, size> c, s;
    if constexpr (size > 1) {
        a = *reinterpret_cast<const pack<T, size> *>(x + at[0] + first);
        b = *reinterpret_cast<const pack<T, size> *>(x + at[0] + second);
        c = *reinterpret_cast<const pack<float, size> *>(table.cosines + p * table.cosine_row + j);
        s = *reinterpret_cast<const pack<float, size> *>(table.sines + p * table.sine_row + j);
    } else {
        a.at[0] = x[at[0] + first * place.step_x], b.at[0] = x[at[0] + second * place.step_x];
        c.at[0] = table.cosines[p * table.cosine_row + j * table.cosine_step];
        s.at[0] = table.sines[p * table.sine_row + j * table.sine_step];
    }
    pack<T, size> left, right;
#pragma unroll
    for (int i = 0; i < size; i++) {
        const bool high = 2 * i >= size && size > 1, odd = interleaved && size > 1;
        float u = odd ? widen(high ? b.at[2 * i - size] : a.at[2 * i]) : widen(a.at[i]);
        float v = odd ? widen(high ? b.at[2 * i - size + 1] : a.at[2 * i + 1]) : widen(b.at[i]);
        T one = narrow<T>(fmaf(u, c.at[i], -(v * s.at[i])));
        T two = narrow<T>(fmaf(u, s.at[i], v * c.at[i]));
        if (odd && high)
            right.at[2 * i - size] = one, right.at[2 * i - size + 1] = two;
        else if (odd)
            left.at[2 * i] = one, left.at[2 * i + 1] = two;
        else
            left.at[i] = one, right.at[i] = two;
    }
    if constexpr (size > 1) {
        *reinterpret_cast<pack<T, size> *>(y + at[1] + first) = left;
        *reinterpret_cast<pack<T, size> *>(y + at[1] + second) = right;
    } else {
        y[at[1] + first * place.step_y] = left.at[0];
        y[at[1] + second * place.step_y] = right.at[0];
    }
}

template <class T, bool interleaved>
static fovea_status rotate_as(const fovea_view &x, const fovea_view &y, const rope_table &table,
                              fovea_run *run) {
    constexpr int size = 16 / sizeof(T);
    int last = x.rank - 1;
    fovea_view views[2] = {x, y}, *all[] = {&views[0], &views[1]};
    rope_place place = {};
    place.positions = x.shape[last - 1], place.pairs = x.shape[last] / 2;
    place.step_x = x.stride[last], place.step_y = y.stride[last];
    if (fovea_view_elements(&x) == 0) return FOVEA_OK;
    views[0].rank = views[1].rank = last;
    place.count = fovea_view_elements(&views[0]);
    bool wide = place.step_x == 1 && place.step_y == 1 && place.pairs % size == 0 &&
                table.cosine_step == 1 && table.sine_step == 1 && table.cosine_row % size == 0 &&
                table.sine_row % size == 0 && is_aligned(x.data, 16) && is_aligned(y.data, 16) &&
                is_aligned(table.cosines, 4 * size) && is_aligned(table.sines, 4 * size);
    for (int i = 0; i < last; i++)
        wide &= x.shape[i] == 1 || (x.stride[i] % size == 0 && y.stride[i] % size == 0);
    fovea_views_collapse(all, 2);
    place.rows = strided_of<2>({&views[0], &views[1]});
    int64_t packs = place.pairs / (wide ? size : 1);
    int64_t blocks = blocks_for(place.count * packs, POSITION_THREADS);
    place.inverse = 1 / (double)packs;
    if (wide)
        return launch(run, rotate<T, size, interleaved>, blocks, POSITION_THREADS,
                      (const T *)x.data, (T *)y.data, place, table);
    return launch(run, rotate<T, 1, interleaved>, blocks, POSITION_THREADS, (const T *)x.data,
                  (T *)y.data, place, table);
}

static fovea_status rotate_views(const fovea_view &x, const fovea_view &y, const rope_table &table,
                                 bool interleaved, fovea_run *run) {
    return by_float(x.dtype, [&](auto zero) {
        using T = decltype(zero);
        return interleaved ? rotate_as<T, true>(x, y, table, run)
                           : rotate_as<T, false>(x, y, table, run);
    });
}

static size_t rope_workspace(const fovea_problem *problem, int threads) {
    (void)threads;
    return fovea_given(problem, 2) ? 0 : 2 * table_bytes(problem);
}

static fovea_status rope_apply(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_rope_apply_options *)problem->options;
    rope_table table;
    fovea_status status = find_tables(problem, 2, o->base, o->offset, run, &table);
    if (status != FOVEA_OK) return status;
    return rotate_views(problem->views[0], problem->views[1], table,
                        o->pairing == FOVEA_ROPE_APPLY_PAIRING_INTERLEAVED, run);
}

/* ---- ALiBi ---------------------------------------------------------------------------------- */

struct alibi_place {
    strided<1> rows; /* [B..., H, Sq] */
    int64_t count, columns, step, heads, queries, offset, slope_step;
    const float *slopes; /* NULL: by the number of heads */
};

/* A warp takes rows, one after another. */
template <class T>
static __global__ __launch_bounds__(POSITION_THREADS) void add_bias(
    T *scores, const __grid_constant__ alibi_place place, bool wide) {
    constexpr int size = 16 / sizeof(T);
    const int64_t row = ((int64_t)blockIdx.x * POSITION_THREADS + threadIdx.x) / 32;
    follow_stream();
    if (row >= place.count) return;
    int64_t at[1], head = row / place.queries, q = row - head * place.queries;
    place.rows.offsets(row, at);
    head %= place.heads;
    float slope = place.slopes ? place.slopes[head * place.slope_step]
                               : (float)exp2(-8 * (double)(head + 1) / (double)place.heads);
    T *to = scores + at[0];
    if (place.step != 1) {
        for (int64_t k = threadIdx.x % 32; k < place.columns; k += 32)
            to[k * place.step] =
                narrow<T>(fmaf(slope, (float)(k - (q + place.offset)), widen(to[k * place.step])));
        return;
    }
    for (int64_t k = threadIdx.x % 32 * size; k < place.columns; k += 32 * size) {
        auto values = load_pack<T, size>(to + k, place.columns - k, wide);
#pragma unroll
        for (int j = 0; j < size; j++)
            values.at[j] =
                narrow<T>(fmaf(slope, (float)(k + j - (q + place.offset)), widen(values.at[j])));
        store_pack<T, size>(to + k, values, place.columns - k, wide);
    }
}

static fovea_status alibi_bias(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_alibi_bias_options *)problem->options;
    fovea_view scores = problem->views[0], *all[] = {&scores};
    int last = scores.rank - 1;
    int64_t size = 16 / (int64_t)fovea_dtype_size(scores.dtype);
    alibi_place place = {};
    if (fovea_view_elements(&scores) == 0) return FOVEA_OK;
    place.columns = scores.shape[last], place.step = scores.stride[last];
    place.heads = scores.shape[last - 2], place.queries = scores.shape[last - 1];
    place.offset = o->offset;
    if (fovea_given(problem, 1)) {
        place.slopes = (const float *)problem->views[1].data;
        place.slope_step = problem->views[1].stride[0];
    }
    scores.rank = last;
    place.count = fovea_view_elements(&scores);
    bool wide = is_aligned(scores.data, 16);
    for (int i = 0; i < last; i++) wide &= scores.shape[i] == 1 || scores.stride[i] % size == 0;
    fovea_views_collapse(all, 1);
    place.rows = strided_of<1>({&scores});
    return by_float(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        return launch(run, add_bias<T>, blocks_for(place.count * 32, POSITION_THREADS),
                      POSITION_THREADS, (T *)scores.data, place, wide);
    });
}

/* ---- Scores of rotated rows ----------------------------------------------------------------- */

enum { SCORE_TILE = 64, SCORE_STEP = 16 };

struct score_place {
    strided<3> batches;
    int64_t rows, size, q_row, q_step, k_row, k_step, a_row, a_step, tiles;
    bool interleaved;
    float scale;
};

/* Element d of a row, rotated. */
template <class T>
static __device__ __forceinline__ float rotated(const T *row, int64_t step, int64_t p, int64_t d,
                                                const score_place &place, const rope_table &table) {
    const int64_t half = place.size / 2;
    const bool first = place.interleaved ? d % 2 == 0 : d < half;
    const int64_t pair = place.interleaved ? d / 2 : first ? d : d - half;
    const int64_t partner = place.interleaved ? d ^ 1 : first ? d + half : d - half;
    float c = table.cosines[p * table.cosine_row + pair * table.cosine_step];
    float s = table.sines[p * table.sine_row + pair * table.sine_step];
    float mine = widen(row[d * step]), other = widen(row[partner * step]);
    return fmaf(mine, c, first ? -(other * s) : other * s);
}

/* 64 by 64 scores a block, 4 by 4 a thread; what is above the diagonal is only filled. */
template <class T>
static __global__ __launch_bounds__(POSITION_THREADS) void score(
    const T *q, const T *k, T *a, const __grid_constant__ score_place place, rope_table table) {
    __shared__ float queries[SCORE_STEP][SCORE_TILE + 4], keys[SCORE_STEP][SCORE_TILE + 4];
    const int64_t batch = blockIdx.x / (unsigned)(place.tiles * place.tiles);
    const unsigned rest = blockIdx.x - (unsigned)batch * (unsigned)(place.tiles * place.tiles);
    const int64_t first_q = rest / (unsigned)place.tiles * (int64_t)SCORE_TILE;
    const int64_t first_k = rest % (unsigned)place.tiles * (int64_t)SCORE_TILE;
    const int down = threadIdx.x / 16 * 4, across = threadIdx.x % 16 * 4;
    float sums[4][4] = {};
    int64_t at[3];
    follow_stream();
    place.batches.offsets(batch, at);
    for (int64_t d = 0; d < place.size && first_k <= first_q; d += SCORE_STEP) {
        for (int i = threadIdx.x; i < SCORE_STEP * SCORE_TILE; i += POSITION_THREADS) {
            const int row = i / SCORE_STEP, column = i % SCORE_STEP;
            const int64_t here_q = first_q + row, here_k = first_k + row;
            const bool inside = d + column < place.size;
            queries[column][row] = inside && here_q < place.rows
                                       ? rotated(q + at[0] + here_q * place.q_row, place.q_step,
                                                 here_q, d + column, place, table)
                                       : 0;
            keys[column][row] = inside && here_k < place.rows
                                    ? rotated(k + at[1] + here_k * place.k_row, place.k_step,
                                              here_k, d + column, place, table)
                                    : 0;
        }
        __syncthreads();
#pragma unroll
        for (int c = 0; c < SCORE_STEP; c++)
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    sums[i][j] = fmaf(queries[c][down + i], keys[c][across + j], sums[i][j]);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int64_t row = first_q + down + i, column = first_k + across + j;
            if (row < place.rows && column < place.rows)
                a[at[2] + row * place.a_row + column * place.a_step] =
                    narrow<T>(column <= row ? sums[i][j] * place.scale : -INFINITY);
        }
}

static size_t score_workspace(const fovea_problem *problem, int threads) {
    (void)threads;
    return fovea_given(problem, 3) ? 0 : 2 * table_bytes(problem);
}

static fovea_status fused_rope_attention_mask(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_fused_rope_attention_mask_options *)problem->options;
    fovea_view q = problem->views[0], k = problem->views[1], a = problem->views[2];
    fovea_view *all[] = {&q, &k, &a};
    int row = q.rank - 2, last = q.rank - 1;
    rope_table table;
    if (fovea_view_elements(&a) == 0) return FOVEA_OK;
    fovea_status status = find_tables(problem, 3, o->base, o->offset, run, &table);
    if (status != FOVEA_OK) return status;
    score_place place = {};
    place.rows = q.shape[row], place.size = q.shape[last];
    place.q_row = q.stride[row], place.q_step = q.stride[last];
    place.k_row = k.stride[row], place.k_step = k.stride[last];
    place.a_row = a.stride[row], place.a_step = a.stride[last];
    place.tiles = blocks_for(place.rows, SCORE_TILE);
    place.interleaved = o->pairing == FOVEA_FUSED_ROPE_ATTENTION_MASK_PAIRING_INTERLEAVED;
    place.scale = place.size > 0 ? (float)(1 / sqrt((double)place.size)) : 0;
    q.rank = k.rank = a.rank = row;
    int64_t batches = fovea_view_elements(&q);
    fovea_views_collapse(all, 3);
    place.batches = strided_of<3>({&q, &k, &a});
    return by_float(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        return launch(run, score<T>, batches * place.tiles * place.tiles, POSITION_THREADS,
                      (const T *)q.data, (const T *)k.data, (T *)a.data, place, table);
    });
}

extern "C" const fovea_implementation fovea_cuda_table_positions[] = {
    CUDA_ROW(rope_apply, FOVEA_FLOATS, rope_apply, .workspace = rope_workspace),
    CUDA_ROW(rope_precompute, 1u << FOVEA_F32, rope_precompute),
    CUDA_ROW(alibi_bias, FOVEA_FLOATS, alibi_bias),
    CUDA_ROW(fused_rope_attention_mask, FOVEA_FLOATS, fused_rope_attention_mask,
             .workspace = score_workspace),
    {}};
