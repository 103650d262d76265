/* Attention for f32 on the tensor cores: each factor is split into two TF32 terms of 11 bits, and three
 * of the four products are summed, hi hi + hi lo + lo hi, so that what is left out is 2^-22 of a product
 * (the scheme of Markidis et al. 2018 and Ootomo and Yokota 2022). The tensor cores cut their sums off where f32
 * would round, half a place in the mean and always towards 0, so chains are kept short: the small products of a
 * score have a sum of their own, and 64 keys' share of the output (24 products, 5e-7 of it) is added to it by a
 * rounded addition.
 *
 * A block has 64 query rows, 16 a warp. By count, for a warp and 32 keys of heads of 128: 384 products of 8
 * cycles, against some 1000 instructions of splitting (half of them on a pipe that takes one in two cycles) and
 * 300 others; two warps a scheduler: the tensor cores bind, at a third of their TF32 rate. */
#include "cuda/attention/grids.cuh"
#include "cuda/attention/terms.cuh"

enum { BLOCK_KEYS = 32, BLOCKS_A_PART = 2 };

template <int size_, bool plain_>
struct products_form {
    static constexpr int size = size_;
    static constexpr bool plain = plain_;
    static constexpr int warps = 4, rows = warps * 16, threads = warps * 32;
    static constexpr int row_bytes = size * 4, tile_bytes = BLOCK_KEYS * row_bytes;
    static constexpr int shared_bytes = rows * row_bytes + 4 * tile_bytes;
    using loader = tile_loader<row_bytes, BLOCK_KEYS, threads>;
};

template <class Form>
struct products_work {
    static constexpr int size = Form::size;
    const fovea_cuda_attention &p;
    const row_pitches &pitches;
    sequence s;
    int key_head, first_row, row_count, warp, lane;
    uint32_t q_tile, k_tile, v_tile;
    typename Form::loader k_loader, v_loader;
    float out[size / 8][4], part[size / 8][4], scores[BLOCK_KEYS / 8][4];
    float maximum[2], sum[2], part_sum[2];

    __device__ __forceinline__ int row_of(int half) const {
        return first_row + warp * 16 + half * 8 + lane / 4;
    }
    __device__ __forceinline__ int query_of(int row) const { return row / p.group; }
    __device__ __forceinline__ int head_of(int row) const {
        return key_head * p.group + row % p.group;
    }

    __device__ __forceinline__ void load_queries(void) {
        constexpr int chunks = Form::row_bytes / 16;
        for (int e = threadIdx.x; e < Form::rows * chunks; e += Form::threads) {
            int r = e / chunks, c = e % chunks, row = first_row + r;
            bool real = row < row_count && c * 4 < p.head_size;
            const char *from = p.q.data;
            if (real)
                from += 4 * (s.batch * p.q.stride[0] + head_of(row) * p.q.stride[1] +
                             (int64_t)(s.query_start + query_of(row)) * p.q.stride[2] + c * 4);
            copy_async(byte_chunk_address<Form::row_bytes>(q_tile, r, c), from, real ? 16 : 0);
        }
    }

    __device__ __forceinline__ void load_paged(uint32_t tile, const fovea_cuda_tensor &t, int size,
                                               int key) {
        constexpr int chunks = Form::row_bytes / 16;
#pragma unroll 1
        for (int e = threadIdx.x; e < BLOCK_KEYS * chunks; e += Form::threads) {
            int r = e / chunks, c = e % chunks;
            bool real = key + r < s.key_count && c * 4 < size;
            const char *from = real ? key_row(p, t, 4, s, key_head, key + r) + c * 16 : t.data;
            copy_async(byte_chunk_address<Form::row_bytes>(tile, r, c), from, real ? 16 : 0);
        }
    }

    __device__ __forceinline__ void load(int stage, int key) {
        uint32_t k = k_tile + stage * Form::tile_bytes, v = v_tile + stage * Form::tile_bytes;
        if (Form::plain || !p.block_table.data) {
            k_loader.load(k, s.key_count - key, 4 * p.head_size, pitches.k);
            v_loader.load(v, s.key_count - key, 4 * p.value_size, pitches.v);
        } else {
            load_paged(k, p.k, p.head_size, key);
            load_paged(v, p.v, p.value_size, key);
        }
    }

    /* far: a step at a time, for that is rare. */
    template <bool far>
    __device__ __forceinline__ void score_terms(int stage) {
        constexpr int unrolled = far ? 1 : size / 8;
        float small[BLOCK_KEYS / 8][4];
        uint32_t k_at = k_tile + stage * Form::tile_bytes;
#pragma unroll
        for (int n = 0; n < BLOCK_KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) scores[n][e] = small[n][e] = 0;
#pragma unroll unrolled
        for (int k = 0; k < size / 8; k++) {
            uint32_t a[4], high[4], low[4];
            load_matrices(a, byte_chunk_address<Form::row_bytes>(q_tile, warp * 16 + lane % 16,
                                                                 2 * k + lane / 16));
#pragma unroll
            for (int i = 0; i < 4; i++)
                far ? split_far(a[i], high[i], low[i]) : split(a[i], high[i], low[i]);
#pragma unroll
            for (int n = 0; n < BLOCK_KEYS / 16; n++) {
                uint32_t b[4], b_high[4], b_low[4];
                load_matrices(
                    b, byte_chunk_address<Form::row_bytes>(k_at, n * 16 + lane % 8 + lane / 16 * 8,
                                                           2 * k + lane / 8 % 2));
#pragma unroll
                for (int i = 0; i < 4; i++) split(b[i], b_high[i], b_low[i]);
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    multiply_tf32(scores[2 * n + i], high, b_high[2 * i], b_high[2 * i + 1]);
                    multiply_tf32(small[2 * n + i], high, b_low[2 * i], b_low[2 * i + 1]);
                    multiply_tf32(small[2 * n + i], low, b_high[2 * i], b_high[2 * i + 1]);
                }
            }
        }
#pragma unroll
        for (int n = 0; n < BLOCK_KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) scores[n][e] += small[n][e];
    }

    __device__ __forceinline__ void score(int stage) {
        score_terms<false>(stage);
        if (is_far(scores)) score_terms<true>(stage);
    }

    __device__ __forceinline__ void mask(int key) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int row = row_of(h), i = query_of(row), head = head_of(row), first, end;
            attended(p, s, i, first, end);
            if (row >= row_count) end = first;
#pragma unroll
            for (int n = 0; n < BLOCK_KEYS / 8; n++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    int j = key + n * 8 + lane % 4 * 2 + e;
                    float &score = scores[n][2 * h + e];
                    if (j < first || j >= end)
                        score = -INFINITY;
                    else if (!Form::plain)
                        score = modified_score(p, s, head, i, j, score);
                }
        }
    }

    /* As in the general kernel: the maximum moves only where it would grow by more than 2^8. */
    __device__ __forceinline__ void soften(float factor) {
        constexpr float slack = 8;
        float rescale[2];
        bool moved = false;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float m = scores[0][2 * h], total = 0;
#pragma unroll
            for (int n = 0; n < BLOCK_KEYS / 8; n++)
                m = fmaxf(m, fmaxf(scores[n][2 * h], scores[n][2 * h + 1]));
            m = fmaxf(m, __shfl_xor_sync(~0u, m, 1));
            m = fmaxf(m, __shfl_xor_sync(~0u, m, 2));
            bool grew = (m - maximum[h]) * factor > slack;
            m = grew ? m : maximum[h];
            moved |= grew;
            rescale[h] = grew ? exp2f((maximum[h] - m) * factor) : 1;
            maximum[h] = m;
            float base = m == -INFINITY ? 0 : m * factor;
#pragma unroll
            for (int n = 0; n < BLOCK_KEYS / 8; n++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float &score = scores[n][2 * h + e];
                    score = exp2_fast(fmaf(score, factor, -base));
                    total += score;
                }
            sum[h] *= rescale[h];
            part_sum[h] = fmaf(part_sum[h], rescale[h], total);
        }
        if (__any_sync(~0u, moved))
#pragma unroll
            for (int n = 0; n < size / 8; n++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    out[n][e] *= rescale[e / 2], part[n][e] *= rescale[e / 2];
    }

    __device__ __forceinline__ void drop(int key) {
#pragma unroll
        for (int n = 0; n < BLOCK_KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int row = row_of(e / 2), j = key + n * 8 + lane % 4 * 2 + e % 2;
                if (!is_kept(p, s, head_of(row), query_of(row), j)) scores[n][e] = 0;
            }
    }

    /* part += p v. Of eight keys thread t of a quad has 2 t and 2 t + 1, which stand for rows t and t + 4
     * of the second factor; of 32 columns thread g of eight loads 4 g to 4 g + 3, one for each of
     * four products. */
    __device__ __forceinline__ void accumulate(int stage) {
        uint32_t v_at = v_tile + stage * Form::tile_bytes;
#pragma unroll
        for (int k = 0; k < BLOCK_KEYS / 8; k++) {
            uint32_t high[4], low[4];
#pragma unroll
            for (int i = 0; i < 4; i++)
                split(__float_as_uint(scores[k][i % 2 * 2 + i / 2]), high[i], low[i]);
#pragma unroll
            for (int c = 0; c < size / 32; c++) {
                uint32_t b[2][4];
#pragma unroll
                for (int i = 0; i < 2; i++)
                    load_four(b[i], byte_chunk_address<Form::row_bytes>(
                                        v_at, k * 8 + lane % 4 * 2 + i, c * 8 + lane / 4));
#pragma unroll
                for (int n = 0; n < 4; n++)
                    multiply_terms(part[4 * c + n], high, low, b[0][n], b[1][n]);
            }
        }
    }

    __device__ __forceinline__ void close_part(void) {
#pragma unroll
        for (int n = 0; n < size / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) out[n][e] += part[n][e], part[n][e] = 0;
#pragma unroll
        for (int h = 0; h < 2; h++) sum[h] += part_sum[h], part_sum[h] = 0;
    }

    __device__ __forceinline__ void finish(float factor) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int row = row_of(h), i = query_of(row), head = head_of(row);
            float l = sum[h], m = maximum[h];
            l += __shfl_xor_sync(~0u, l, 1);
            l += __shfl_xor_sync(~0u, l, 2);
            if (row >= row_count) continue;
            row_result result = finish_row(p, head, m == -INFINITY ? m : m * factor, l);
            int64_t at = s.query_start + i;
            float *to = (float *)p.out.data + s.batch * p.out.stride[0] + head * p.out.stride[1] +
                        at * p.out.stride[2];
#pragma unroll
            for (int c = 0; c < size / 32; c++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    int d = c * 32 + lane % 4 * 8 + e * 4;
                    float four[4];
#pragma unroll
                    for (int n = 0; n < 4; n++) four[n] = out[4 * c + n][2 * h + e] * result.factor;
                    if (d < p.value_size)
                        *(float4 *)(to + d) = make_float4(four[0], four[1], four[2], four[3]);
                }
            if (p.lse.data && lane % 4 == 0)
                ((float *)p.lse.data)[s.batch * p.lse.stride[0] + head * p.lse.stride[1] +
                                      at * p.lse.stride[2]] = result.lse;
        }
    }
};

template <class Form>
static __global__ __launch_bounds__(Form::threads, 2) void attention_products(
    const __grid_constant__ fovea_cuda_attention p, const __grid_constant__ row_pitches pitches,
    int row_tiles, const uint32_t *wanted, int words) {
    extern __shared__ __align__(128) char memory[];
    let_the_next_grid_start();
    wait_for_the_grid_before();
    if (wanted) {
        bool any = false;
        for (int i = (int)threadIdx.x; i < words; i += Form::threads) any |= wanted[i] != 0;
        if (!__syncthreads_or(any)) return;
    }
    int tile = row_tiles - 1 - (int)(blockIdx.x % row_tiles), head = blockIdx.x / row_tiles;
    products_work<Form> w = {p, pitches};
    w.s = sequence_of(p, head / p.key_heads);
    w.key_head = head % p.key_heads;
    w.first_row = tile * Form::rows;
    w.row_count = w.s.query_count * p.group;
    if (w.first_row >= w.row_count) return;
    w.warp = threadIdx.x / 32, w.lane = threadIdx.x % 32;
    w.q_tile = shared_address(memory);
    w.k_tile = w.q_tile + Form::rows * Form::row_bytes;
    w.v_tile = w.k_tile + 2 * Form::tile_bytes;
#pragma unroll
    for (int n = 0; n < Form::size / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) w.out[n][e] = w.part[n][e] = 0;
#pragma unroll
    for (int h = 0; h < 2; h++) w.maximum[h] = -INFINITY, w.sum[h] = w.part_sum[h] = 0;
    int last_row = min(w.first_row + Form::rows, w.row_count) - 1;
    int low, low_of_last, high, high_of_first;
    attended(p, w.s, w.query_of(w.first_row), low, high_of_first);
    attended(p, w.s, w.query_of(last_row), low_of_last, high);
    float factor = Form::plain ? p.scale_log2 : 1;
    int key = low / BLOCK_KEYS * BLOCK_KEYS;
    if (Form::plain || !p.block_table.data) {
        w.k_loader.begin(p.k, 4, w.s, w.key_head, key);
        w.v_loader.begin(p.v, 4, w.s, w.key_head, key);
    }
    w.load_queries();
    if (key < high) w.load(0, key);
    copies_commit();
    for (int stage = 0, blocks = 0; key < high; key += BLOCK_KEYS, stage ^= 1) {
        copies_wait<0>();
        __syncthreads(); /* this stage is there, and nobody reads the other any more */
        if (key + BLOCK_KEYS < high) w.load(stage ^ 1, key + BLOCK_KEYS);
        copies_commit();
        w.score(stage);
        if (!Form::plain || key < low_of_last || key + BLOCK_KEYS > high_of_first) w.mask(key);
        w.soften(factor);
        if (!Form::plain && p.keep < 1) w.drop(key);
        w.accumulate(stage);
        if (++blocks % BLOCKS_A_PART == 0) w.close_part();
    }
    copies_wait<0>();
    w.close_part();
    w.finish(factor);
}

template <class Form>
static int launch_form(const fovea_cuda_attention &p, const uint32_t *wanted, int words,
                       cudaStream_t stream) {
    int64_t tiles = blocks_for((int64_t)p.query_length * p.group, Form::rows);
    int64_t blocks = tiles * p.key_heads * p.batch;
    if (blocks == 0) return cudaSuccess;
    cudaError_t error = allow_shared_bytes<attention_products<Form>>(Form::shared_bytes);
    if (error != cudaSuccess) return cudaGetLastError(), error;
    row_pitches pitches = {4 * Form::loader::pass * p.k.stride[2],
                           4 * Form::loader::pass * p.v.stride[2]};
    error =
        launch_after(attention_products<Form>, (unsigned)blocks, Form::threads, Form::shared_bytes,
                     wanted != NULL, stream, p, pitches, (int)tiles, wanted, words);
    if (error != cudaSuccess) cudaGetLastError();
    return error;
}

template <int size>
static int launch_size(const fovea_cuda_attention &p, const uint32_t *wanted, int words,
                       cudaStream_t stream) {
    bool plain = !p.mask.data && !p.bias.data && !p.slopes && !p.block_table.data &&
                 isinf(p.softcap) && p.keep == 1 && p.scale > 0;
    return plain ? launch_form<products_form<size, true>>(p, wanted, words, stream)
                 : launch_form<products_form<size, false>>(p, wanted, words, stream);
}

extern "C" bool fovea_cuda_attention_f32_products_serves(const fovea_cuda_attention *p) {
    return p->head_size <= 128 && p->value_size <= 128 &&
           fovea_cuda_rows_are_aligned(&p->q, p->head_size) &&
           fovea_cuda_rows_are_aligned(&p->k, p->head_size) &&
           fovea_cuda_rows_are_aligned(&p->v, p->value_size) &&
           fovea_cuda_rows_are_aligned(&p->out, p->value_size);
}

extern "C" int fovea_cuda_attention_f32_products(const fovea_cuda_attention *problem,
                                                 const uint32_t *wanted, int words,
                                                 cudaStream_t stream) {
    bool small = problem->head_size <= 64 && problem->value_size <= 64;
    return small ? launch_size<64>(*problem, wanted, words, stream)
                 : launch_size<128>(*problem, wanted, words, stream);
}
