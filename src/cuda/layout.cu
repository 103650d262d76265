/* Domain 15, layout: movements of data that change nothing but the order. Elements are moved as bits. A
 * transpose goes through tiles of 64 by 64 in shared memory, read and written in whole sectors; four
 * values of an element are brought apart and together in registers. */
#include "cuda/kernel.cuh"

enum { TILE = 64, TILE_THREADS = 256, FOUR_THREADS = 256 };

/* Matrices of `rows` by `columns`, and where they begin in x and y. */
struct transpose_place {
    strided<2> batches;
    int64_t rows, columns;
    int64_t x_row, x_column, y_row, y_column; /* strides; y[column][row] */
    int64_t tiles_across, tiles;              /* along the columns; of a matrix */
    bool wide;                                /* four elements at a time */
};

#ifndef TRV
    #define TRV 1
#endif
/* A tile, x and y where it begins. One word a lane: no two of a warp are then in one bank of shared memory, on neither
 * side, and whole lines of memory are read and written. */
static __device__ __forceinline__ void
transpose_tile(const unsigned *x, unsigned *y, unsigned *memory, const transpose_place &place) {
    constexpr int each = 2, lanes = TILE / each, rows = TILE_THREADS / lanes, steps = TILE / rows;
    const int across = threadIdx.x % lanes * each, down = threadIdx.x / lanes;
    auto *const tile = (unsigned(*)[TILE + 1]) memory;
    pack<unsigned, each> values[steps];
    x += down * place.x_row + across, y += down * place.y_row + across;
#pragma unroll
    for (int p = 0; p < steps; p++)
        values[p] = *reinterpret_cast<const pack<unsigned, each> *>(x + p * rows * place.x_row);
#pragma unroll
    for (int p = 0; p < steps; p++)
#pragma unroll
        for (int j = 0; j < each; j++) tile[down + p * rows][across + j] = values[p].at[j];
    __syncthreads();
#pragma unroll
    for (int p = 0; p < steps; p++) {
#pragma unroll
        for (int j = 0; j < each; j++) values[p].at[j] = tile[across + j][down + p * rows];
        *reinterpret_cast<pack<unsigned, each> *>(y + p * rows * place.y_row) = values[p];
    }
}

/* Of halves two rows go at a time: what stands below one another in them is a word of a row of y. */
static __device__ __forceinline__ void
transpose_tile(const uint16_t *x, uint16_t *y, unsigned *memory, const transpose_place &place) {
    const int across = threadIdx.x % 16, down = threadIdx.x / 16;
    auto *const tile = (unsigned(*)[TILE / 2 + 1]) memory;
    pack<unsigned, 2> rows[2][2];
    x += 4 * across, y += down * place.y_row + 4 * across;
#pragma unroll
    for (int p = 0; p < 4; p++)
        rows[p / 2][p % 2] = *reinterpret_cast<const pack<unsigned, 2> *>(
            x + (2 * (down + p / 2 * 16) + p % 2) * place.x_row);
#pragma unroll
    for (int p = 0; p < 2; p++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            tile[4 * across + j][down + p * 16] =
                __byte_perm(rows[p][0].at[j / 2], rows[p][1].at[j / 2], j % 2 ? 0x7632 : 0x5410);
    __syncthreads();
#pragma unroll
    for (int p = 0; p < 4; p++) {
        const unsigned *from = tile[down + p * 16] + 2 * across;
        *reinterpret_cast<pack<unsigned, 2> *>(y + p * 16 * place.y_row) = {{from[0], from[1]}};
    }
}

/* whole: there are no rims. */
template <class T, bool whole>
static __global__ __launch_bounds__(TILE_THREADS, whole ? 8 : 2) void transpose(
    const T *x, T *y, const __grid_constant__ transpose_place place) {
    __shared__ unsigned memory[TILE * (TILE * sizeof(T) / 4 + 1)];
    auto *const tile = (T(*)[TILE + 1]) memory;
    const int64_t batch = blockIdx.x / (unsigned)place.tiles;
    const unsigned rest = blockIdx.x - (unsigned)batch * (unsigned)place.tiles;
    const int64_t first_row = rest / (unsigned)place.tiles_across * (int64_t)TILE;
    const int64_t first_column = rest % (unsigned)place.tiles_across * (int64_t)TILE;
    int64_t at[2];
    follow_stream();
    place.batches.offsets(batch, at);
    x += at[0], y += at[1];
    if (whole ||
        (place.wide && first_row + TILE <= place.rows && first_column + TILE <= place.columns)) {
        transpose_tile(x + first_row * place.x_row + first_column,
                       y + first_column * place.y_row + first_row, memory, place);
        return;
    }
    if constexpr (whole) return;
    /* The rims, and other strides: several loads at once. */
    constexpr int each = 8;
#pragma unroll 1
    for (int i = threadIdx.x; i < TILE * TILE; i += each * TILE_THREADS) {
        T values[each];
#pragma unroll
        for (int k = 0; k < each; k++) {
            const int place_in = i + k * TILE_THREADS;
            int64_t row = first_row + place_in / TILE, column = first_column + place_in % TILE;
            values[k] = 0;
            if (row < place.rows && column < place.columns)
                values[k] = x[row * place.x_row + column * place.x_column];
        }
#pragma unroll
        for (int k = 0; k < each; k++)
            tile[(i + k * TILE_THREADS) / TILE][(i + k * TILE_THREADS) % TILE] = values[k];
    }
    __syncthreads();
#pragma unroll 4
    for (int i = threadIdx.x; i < TILE * TILE; i += TILE_THREADS) {
        int64_t column = first_column + i / TILE, row = first_row + i % TILE;
        if (row < place.rows && column < place.columns)
            y[column * place.y_row + row * place.y_column] = tile[i % TILE][i / TILE];
    }
}

/* Matrices of x, in the last two dimensions, to their transposes in y. */
template <class T>
static fovea_status transpose_as(const fovea_problem *problem, fovea_run *run) {
    fovea_view x = problem->views[0], y = problem->views[1], *all[] = {&x, &y};
    int r = x.rank - 2, c = x.rank - 1;
    transpose_place place = {};
    place.rows = x.shape[r], place.columns = x.shape[c];
    place.x_row = x.stride[r], place.x_column = x.stride[c];
    place.y_row = y.stride[r], place.y_column = y.stride[c];
    if (fovea_view_elements(&x) == 0) return FOVEA_OK;
    x.rank = y.rank = r;
    int64_t batches = fovea_view_elements(&x);
    fovea_views_collapse(all, 2);
    place.batches = strided_of<2>({&x, &y});
    place.tiles_across = blocks_for(place.columns, TILE);
    place.tiles = place.tiles_across * blocks_for(place.rows, TILE);
    place.wide = place.x_column == 1 && place.y_column == 1 && place.x_row % 4 == 0 &&
                 place.y_row % 4 == 0 && is_aligned(x.data, 4 * sizeof(T)) &&
                 is_aligned(y.data, 4 * sizeof(T));
    for (int i = 0; i < x.rank; i++)
        place.wide &= x.shape[i] == 1 || (x.stride[i] % 4 == 0 && y.stride[i] % 4 == 0);
    const bool whole = place.wide && place.rows % TILE == 0 && place.columns % TILE == 0;
    return launch(run, whole ? transpose<T, true> : transpose<T, false>, batches * place.tiles,
                  TILE_THREADS, (const T *)x.data, (T *)y.data, place);
}

static fovea_status transpose_2d(const fovea_problem *problem, fovea_run *run) {
    if (fovea_dtype_size(problem->dtype) == 4) return transpose_as<unsigned>(problem, run);
    return transpose_as<uint16_t>(problem, run);
}

/* ---- Four values ---------------------------------------------------------------------------- */

using four_words = pack<unsigned, 4>;

/* Two elements of four halves side by side become four pairs, and back. */
static __device__ __forceinline__ four_words pairs_apart(const four_words &w) {
    return {{(w.at[0] & 0xffff) | w.at[2] << 16, w.at[0] >> 16 | (w.at[2] & 0xffff0000),
             (w.at[1] & 0xffff) | w.at[3] << 16, w.at[1] >> 16 | (w.at[3] & 0xffff0000)}};
}
static __device__ __forceinline__ four_words pairs_together(const four_words &w) {
    return {{(w.at[0] & 0xffff) | w.at[1] << 16, (w.at[2] & 0xffff) | w.at[3] << 16,
             w.at[0] >> 16 | (w.at[1] & 0xffff0000), w.at[2] >> 16 | (w.at[3] & 0xffff0000)}};
}

/* 16 bytes hold all of one element in f32, of two beside one another in halves. `apart`: the last
 * dimension of x, of four, becomes the first of y. */
template <class T, bool apart>
static __global__
__launch_bounds__(FOUR_THREADS) void repack(const T *x, T *y,
                                            const __grid_constant__ strided<2> batches,
                                            int64_t count, int64_t blocks, int64_t step) {
    constexpr int each = 4 / (int)sizeof(T), steps = 4;
    const int64_t batch = blockIdx.x / (unsigned)blocks;
    const unsigned block = blockIdx.x - (unsigned)batch * (unsigned)blocks;
    int64_t at[2];
    follow_stream();
    batches.offsets(batch, at);
    x += at[0], y += at[1];
    const int64_t first = (block * (int64_t)FOUR_THREADS * steps + threadIdx.x) * each;
    const bool full = first - threadIdx.x * each + FOUR_THREADS * steps * each <= count;
    four_words values[steps];
#pragma unroll
    for (int s = 0; s < steps; s++) {
        const int64_t i = first + s * FOUR_THREADS * each;
        values[s] = {};
        if (!full && i >= count) continue;
        if constexpr (apart) {
            values[s] = *reinterpret_cast<const four_words *>(x + 4 * i);
        } else {
#pragma unroll
            for (int c = 0; c < 4; c++)
                values[s].at[c] = *reinterpret_cast<const unsigned *>(x + c * step + i);
        }
    }
#pragma unroll
    for (int s = 0; s < steps; s++) {
        const int64_t i = first + s * FOUR_THREADS * each;
        if (!full && i >= count) continue;
        if constexpr (each > 1)
            values[s] = apart ? pairs_apart(values[s]) : pairs_together(values[s]);
        if constexpr (!apart) {
            *reinterpret_cast<four_words *>(y + 4 * i) = values[s];
        } else {
#pragma unroll
            for (int c = 0; c < 4; c++)
                *reinterpret_cast<unsigned *>(y + c * step + i) = values[s].at[c];
        }
    }
}

/* Elements of four side by side, four rows of elements side by side, all aligned: else it is a transpose
 * like others. */
template <class T, bool apart>
static fovea_status repack_as(const fovea_problem *problem, fovea_run *run) {
    constexpr int each = 4 / (int)sizeof(T);
    fovea_view x = problem->views[0], y = problem->views[1], *all[] = {&x, &y};
    const fovea_view &fours = apart ? x : y, &rows = apart ? y : x;
    int last = x.rank - 1;
    int64_t count = fours.shape[last - 1], step = rows.stride[last - 1];
    bool fits = fours.stride[last] == 1 && fours.stride[last - 1] == 4 && rows.stride[last] == 1 &&
                step % each == 0 && count % each == 0 && is_aligned(fours.data, 16) &&
                is_aligned(rows.data, 4);
    for (int i = 0; i < last - 1; i++)
        fits &= fours.shape[i] == 1 ||
                (fours.stride[i] % (4 * each) == 0 && rows.stride[i] % each == 0);
    if (!fits || fovea_view_elements(&x) == 0) return transpose_as<T>(problem, run);
    x.rank = y.rank = last - 1;
    int64_t batches = fovea_view_elements(&x), blocks = blocks_for(count, FOUR_THREADS * 4 * each);
    fovea_views_collapse(all, 2);
    return launch(run, repack<T, apart>, batches * blocks, FOUR_THREADS, (const T *)x.data,
                  (T *)y.data, strided_of<2>({&x, &y}), count, blocks, step);
}

template <bool apart>
static fovea_status repack_four(const fovea_problem *problem, fovea_run *run) {
    if (fovea_dtype_size(problem->dtype) == 4) return repack_as<unsigned, apart>(problem, run);
    return repack_as<uint16_t, apart>(problem, run);
}

extern "C" const fovea_implementation fovea_cuda_table_layout[] = {
    CUDA_ROW(transpose_2d, FOVEA_FLOATS, transpose_2d),
    CUDA_ROW(repack_aos_to_soa, FOVEA_FLOATS, repack_four<true>),
    CUDA_ROW(repack_soa_to_aos, FOVEA_FLOATS, repack_four<false>),
    {}};
