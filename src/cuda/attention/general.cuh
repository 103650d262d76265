/* Attention for f16 and bf16 on mma.sync (sm_80 and above), after FlashAttention-2 (Dao 2023, section
 * 3): a block owns a tile of query rows, walks the keys 64 at a time with online softmax, and keeps
 * scores, probabilities and output in registers. The query heads of a group are rows of one tile, so
 * that k and v are read once for them.
 *
 * K and V have two buffers each, so that the next block comes while this one is worked on, with one
 * barrier a block. Heads above 128 have one: the load of V runs under q k^T, that of the next K under
 * p v. Rows are swizzled (tiles.cuh), so that ldmatrix meets no bank conflict.
 *
 * Two forms: plain ones take causal masks, windows, packed sequences and sinks, with 32 rows a warp, so
 * that a fragment of k or v from shared memory serves two products (with 16 its bandwidth would be the
 * limit: 8 multiply-adds a byte, where the tensor cores want 16), and some of them dropout besides. The others take
 * everything else too. */
#ifndef FOVEA_CUDA_ATTENTION_GENERAL_CUH
#define FOVEA_CUDA_ATTENTION_GENERAL_CUH

#include "cuda/attention/grids.cuh"
#include "cuda/attention/options.cuh"
#include "cuda/attention/quads.cuh"
#include "cuda/attention/tiles.cuh"

enum { KEYS = 64 };

/* The assembler for sm_80 wants more registers for heads of 128 than there are: there some values are
 * kept in shared memory or worked out again. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
static constexpr bool is_tight = true;
#else
static constexpr bool is_tight = false;
#endif

template <class T, int size_, bool plain_, int warps_ = 4, bool drops_ = !plain_>
struct form {
    using element = T;
    static constexpr int size = size_; /* of heads, padded */
    static constexpr bool plain = plain_, drops = drops_;
    /* Tiles of k, and of v, in shared memory: of heads of 256 two would not fit an A100. */
    static constexpr int stages = size > 128 ? 1 : 2;
    static constexpr int warps = warps_;
    static constexpr int tiles = plain && size <= 128 ? 2 : 1; /* of 16 rows a warp */
    /* There are no registers to keep what would say where the next tile begins. */
    static constexpr bool reloads = is_tight || (plain && drops && size == 128);
    static constexpr int rows = warps * tiles * 16, threads = warps * 32;
    static constexpr int tile_bytes = KEYS * size * 2; /* of k or v */
    static constexpr int sums_offset = rows * size * 2 + 2 * stages * tile_bytes;
    static constexpr int limits_offset = sums_offset + tiles * 2 * threads * 4;
    static constexpr int drawn_offset = limits_offset + rows * 8;
    static constexpr int shared_bytes = drawn_offset + (drops ? tiles * threads * 16 : 0);
    using loader = tile_loader<2 * size, KEYS, threads>;
    using query_loader = tile_loader<2 * size, rows, threads>;
};

/* ---- Loading -------------------------------------------------------------------------------- */

/* Rows of a tile; where(row) is the address of one, NULL for one that is not there. */
template <class Form, int rows, class Where>
static __device__ __forceinline__ void load_tile(uint32_t tile, const fovea_cuda_tensor &t,
                                                 int size, bool aligned, Where where) {
    using T = typename Form::element;
    constexpr int chunks = Form::size / 8, steps = rows * chunks / Form::threads;
#pragma unroll 2
    for (int i = 0; i < steps; i++) {
        int number = i * Form::threads + threadIdx.x, row = number / chunks, c = number % chunks;
        const T *from = (const T *)where(row);
        uint32_t to = chunk_address<Form::size>(tile, row, c);
        bool real = from && c * 8 < size;
        if (Form::plain || aligned)
            copy_async(to, real ? (const void *)(from + c * 8) : (const void *)t.data,
                       real ? 16 : 0);
        else
            store_chunk(to, from, t.stride[3], c * 8, size);
    }
}

/* Bytes between a thread's rows of q, k and v. */
struct general_pitches {
    int64_t q, k, v;
};

/* ---- The kernel ----------------------------------------------------------------------------- */

template <class Form>
struct work {
    /* Registers are short: sums are in shared memory, and the place is worked out again at the end. */
    static constexpr bool is_lean = Form::plain && (Form::size == 128 || is_tight);
    const fovea_cuda_attention &p;
    const general_pitches &pitches;
    sequence s;
    int key_head, first_row, row_count; /* rows of all query heads of the group */
    uint32_t q_tile, k_tile, v_tile;
    typename Form::loader k_loader, v_loader;
    int warp, lane;
    float out[Form::tiles][Form::size / 8][4];
    float scores[Form::tiles][KEYS / 8][4];
    float maximum[Form::tiles][2], sum[Form::tiles][2], *sums;
    int2 *limits; /* of the block's rows */
    uint4 *
        drawn; /* of a thread, for each of its tiles: what its row begins draws with, and the draws */

    /* A thread's part of a row's sum. */
    __device__ __forceinline__ float &sum_of(int tile, int half) {
        if (is_lean) return sums[(2 * tile + half) * Form::threads + threadIdx.x];
        return sum[tile][half];
    }

    /* Which tile of which head this block has. */
    __device__ __forceinline__ void take_place(int block, int row_tiles) {
        int tile = row_tiles - 1 - block % row_tiles, head = block / row_tiles;
        s = sequence_of(p, head / p.key_heads);
        key_head = head % p.key_heads;
        first_row = tile * Form::rows;
        row_count = s.query_count * p.group;
    }

    /* The same once more, in a way that the compiler takes for new. */
    __device__ __forceinline__ void take_place_again(int row_tiles) {
        if (!is_lean) return;
        int block, thread;
        asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(block));
        asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
        take_place(block, row_tiles);
        warp = thread / 32, lane = thread % 32;
    }

    __device__ __forceinline__ int row_of(int tile, int half) const {
        return first_row + (warp * Form::tiles + tile) * 16 + half * 8 + lane / 4;
    }
    __device__ __forceinline__ int query_of(int row) const {
        return p.group == 1 ? row : row / p.group;
    }
    __device__ __forceinline__ int head_of(int row) const {
        return p.group == 1 ? key_head : key_head * p.group + row % p.group;
    }

    __device__ __forceinline__ void load_queries(bool aligned) {
        if (p.group == 1 && (Form::plain || aligned)) {
            typename Form::query_loader loader;
            loader.begin(p.q, 2, s.batch, key_head, s.query_start + first_row);
            loader.load(q_tile, row_count - first_row, 2 * p.head_size, pitches.q);
            return;
        }
        load_tile<Form, Form::rows>(q_tile, p.q, p.head_size, aligned, [&](int r) -> const char * {
            int row = first_row + r;
            if (row >= row_count) return NULL;
            return p.q.data + 2 * (s.batch * p.q.stride[0] + head_of(row) * p.q.stride[1] +
                                   (int64_t)(s.query_start + query_of(row)) * p.q.stride[2]);
        });
    }
    __device__ __forceinline__ void load(typename Form::loader &loader, uint32_t tile,
                                         const fovea_cuda_tensor &t, int size, bool aligned,
                                         int first, const int64_t &pitch) {
        if (Form::plain || (aligned && !p.block_table.data)) {
            if (Form::reloads) loader.begin(t, 2, s, key_head, first);
            loader.load(tile, s.key_count - first, 2 * size, pitch);
        } else
            load_tile<Form, KEYS>(tile, t, size, aligned, [&](int r) -> const char * {
                int j = first + r;
                return j < s.key_count ? key_row(p, t, 2, s, key_head, j) : NULL;
            });
    }
    __device__ __forceinline__ void load_keys(int stage, uint32_t aligned, int first) {
        load(k_loader, k_tile + stage * Form::tile_bytes, p.k, p.head_size, aligned & 2, first,
             pitches.k);
    }
    __device__ __forceinline__ void load_values(int stage, uint32_t aligned, int first) {
        load(v_loader, v_tile + stage * Form::tile_bytes, p.v, p.value_size, aligned & 4, first,
             pitches.v);
    }

    /* scores = q k^T */
    __device__ __forceinline__ void score(int stage) {
        using T = typename Form::element;
#pragma unroll
        for (int t = 0; t < Form::tiles; t++)
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) scores[t][n][e] = 0;
#pragma unroll
        for (int k = 0; k < Form::size / 16; k++) {
            uint32_t a[Form::tiles][4];
#pragma unroll
            for (int t = 0; t < Form::tiles; t++)
                load_matrices(a[t], chunk_address<Form::size>(
                                        q_tile, (warp * Form::tiles + t) * 16 + lane % 16,
                                        2 * k + lane / 16));
#pragma unroll
            for (int n = 0; n < KEYS / 16; n++) {
                uint32_t b[4];
                load_matrices(b, chunk_address<Form::size>(k_tile + stage * Form::tile_bytes,
                                                           n * 16 + lane % 8 + lane / 16 * 8,
                                                           2 * k + lane / 8 % 2));
#pragma unroll
                for (int t = 0; t < Form::tiles; t++) {
                    multiply<T>(scores[t][2 * n], a[t], b[0], b[1]);
                    multiply<T>(scores[t][2 * n + 1], a[t], b[2], b[3]);
                }
            }
        }
    }

    /* The keys that rows may attend, a row a thread: while scores are in registers there is no room to work
     * that out. */
    __device__ __forceinline__ void note_limits(void) {
        static_assert(Form::rows <= Form::threads, "a row a thread");
        int row = first_row + threadIdx.x, first, end;
        attended(p, s, query_of(row), first, end);
        if ((int)threadIdx.x < Form::rows)
            limits[threadIdx.x] = make_int2(first, row < row_count ? end : first);
    }
    __device__ __forceinline__ int2 limits_of(int tile, int half) const {
        return limits[(warp * Form::tiles + tile) * 16 + half * 8 + lane / 4];
    }

    __device__ __forceinline__ fragment_rows rows_of(int tile) const {
        fragment_rows rows;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int row = row_of(tile, h);
            int2 limit = limits_of(tile, h);
            rows.query[h] = query_of(row), rows.head[h] = head_of(row);
            rows.first[h] = limit.x, rows.end[h] = limit.y;
        }
        return rows;
    }

    /* -inf where a row may not attend. */
    __device__ __forceinline__ void mask(int first_key) {
#pragma unroll
        for (int t = 0; t < Form::tiles; t++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                int2 limit = limits_of(t, h);
                limit_row(h, limit.x, limit.y, first_key, scores[t]);
            }
    }

    /* Masks and biases on their way: a lane has a row of the warp's 16 and half of its keys. */
    __device__ __forceinline__ void touch(int first_key) {
        int row = first_row + warp * 16 + lane % 16;
        if (row >= row_count) return;
        touch_rows<KEYS>(p.mask, s, query_of(row), head_of(row), first_key, s.key_count);
        touch_rows<KEYS>(p.bias, s, query_of(row), head_of(row), first_key, s.key_count);
    }

    __device__ __forceinline__ void modify(int first_key, bool edge) {
#pragma unroll
        for (int t = 0; t < Form::tiles; t++) {
            fragment_rows rows = rows_of(t);
            limit_rows(p.mask, rows), limit_rows(p.bias, rows);
            apply_options<false>(p, s, rows, first_key, scores[t]);
            if (edge) apply_limits(rows, first_key, scores[t]);
        }
    }

    /* Online softmax; `factor` takes scores to units of log2. The maximum that exponents are taken
     * against moves only where it would grow by more than 2^8: until then probabilities and sums are far
     * from the end of their types, and nothing else need be rescaled. */
    __device__ __forceinline__ void soften(float factor) {
        constexpr float slack = 8;
        float rescale[Form::tiles][2];
        bool moved = false;
#pragma unroll
        for (int t = 0; t < Form::tiles; t++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                float m = scores[t][0][2 * h], total = 0;
#pragma unroll
                for (int n = 0; n < KEYS / 8; n++)
                    m = fmaxf(m, fmaxf(scores[t][n][2 * h], scores[t][n][2 * h + 1]));
                m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, 1));
                m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, 2));
                bool grew = (m - maximum[t][h]) * factor > slack;
                m = grew ? m : maximum[t][h];
                moved |= grew;
                rescale[t][h] = grew ? exp2_fast((maximum[t][h] - m) * factor) : 1;
                maximum[t][h] = m;
                float base = m == -INFINITY ? 0 : m * factor;
#pragma unroll
                for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        float &score = scores[t][n][2 * h + e];
                        score = exp2_fast(fmaf(score, factor, -base));
                        total += score;
                    }
                sum_of(t, h) = fmaf(sum_of(t, h), rescale[t][h], total);
            }
        if (__any_sync(0xffffffffu, moved))
#pragma unroll
            for (int t = 0; t < Form::tiles; t++)
#pragma unroll
                for (int n = 0; n < Form::size / 8; n++)
#pragma unroll
                    for (int e = 0; e < 4; e++) out[t][n][e] *= rescale[t][e / 2];
    }

    /* Draws are made while there are no scores yet, which would leave them no registers. */
    __device__ __forceinline__ void begin_draws(void) {
#pragma unroll
        for (int t = 0; t < Form::tiles; t++) {
            fragment_rows rows = rows_of(t);
            draw_row row = begin_row(p, s, rows.head, rows.query);
            drawn[t * Form::threads + threadIdx.x] =
                make_uint4(row.word[0], row.word[1], row.word[2], 0);
        }
    }
    __device__ __forceinline__ void make_draws(int first_key) {
        draw_row rows[Form::tiles];
        uint32_t words[Form::tiles];
#pragma unroll
        for (int t = 0; t < Form::tiles; t++) {
            uint4 row = drawn[t * Form::threads + threadIdx.x];
            rows[t] = {{row.x, row.y, row.z}};
        }
        draw_fragments<KEYS / 8>(p, rows, first_key, words);
#pragma unroll
        for (int t = 0; t < Form::tiles; t++) drawn[t * Form::threads + threadIdx.x].w = words[t];
    }
    __device__ __forceinline__ void drop(void) {
#pragma unroll
        for (int t = 0; t < Form::tiles; t++)
            drop_fragment(drawn[t * Form::threads + threadIdx.x].w, scores[t]);
    }

    /* out += p v */
    __device__ __forceinline__ void accumulate(int stage) {
        using T = typename Form::element;
#pragma unroll
        for (int k = 0; k < KEYS / 16; k++) {
            uint32_t a[Form::tiles][4];
#pragma unroll
            for (int t = 0; t < Form::tiles; t++) {
                a[t][0] = pack_two<T>(scores[t][2 * k][0], scores[t][2 * k][1]);
                a[t][1] = pack_two<T>(scores[t][2 * k][2], scores[t][2 * k][3]);
                a[t][2] = pack_two<T>(scores[t][2 * k + 1][0], scores[t][2 * k + 1][1]);
                a[t][3] = pack_two<T>(scores[t][2 * k + 1][2], scores[t][2 * k + 1][3]);
            }
#pragma unroll
            for (int n = 0; n < Form::size / 16; n++) {
                uint32_t b[4];
                load_transposed(b,
                                chunk_address<Form::size>(v_tile + stage * Form::tile_bytes,
                                                          k * 16 + lane % 16, 2 * n + lane / 16));
#pragma unroll
                for (int t = 0; t < Form::tiles; t++) {
                    multiply<T>(out[t][2 * n], a[t], b[0], b[1]);
                    multiply<T>(out[t][2 * n + 1], a[t], b[2], b[3]);
                }
            }
        }
    }

    /* All four lanes of a row; `real`: it is there. */
    __device__ __forceinline__ void store_row(int t, int h, int row, float factor, bool real) {
        using T = typename Form::element;
        T *to = (T *)p.out.data + s.batch * p.out.stride[0] + head_of(row) * p.out.stride[1] +
                (int64_t)(s.query_start + query_of(row)) * p.out.stride[2];
        if constexpr (Form::plain) {
#pragma unroll
            for (int j = 0; j < Form::size / 32; j++) {
                uint32_t words[4];
#pragma unroll
                for (int c = 0; c < 4; c++)
                    words[c] = pack_two<T>(out[t][4 * j + c][2 * h] * factor,
                                           out[t][4 * j + c][2 * h + 1] * factor);
                gather_chunks(words, lane % 4);
                int d = 32 * j + lane % 4 * 8;
                if (real && d < p.value_size)
                    *(uint4 *)(to + d) = make_uint4(words[0], words[1], words[2], words[3]);
            }
        } else {
#pragma unroll
            for (int n = 0; n < Form::size / 8; n++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    int d = n * 8 + lane % 4 * 2 + e;
                    if (real && d < p.value_size)
                        to[d * p.out.stride[3]] = narrow<T>(out[t][n][2 * h + e] * factor);
                }
        }
    }

    __device__ __forceinline__ void finish(float factor) {
#pragma unroll
        for (int t = 0; t < Form::tiles; t++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                int row = row_of(t, h);
                float l = sum_of(t, h), m = maximum[t][h];
                l += __shfl_xor_sync(0xffffffffu, l, 1);
                l += __shfl_xor_sync(0xffffffffu, l, 2);
                row_result result = finish_row(p, head_of(row), m == -INFINITY ? m : m * factor, l);
                store_row(t, h, row, result.factor, row < row_count);
                if (p.lse.data && lane % 4 == 0 && row < row_count)
                    ((float *)
                         p.lse.data)[s.batch * p.lse.stride[0] + head_of(row) * p.lse.stride[1] +
                                     (int64_t)(s.query_start + query_of(row)) * p.lse.stride[2]] =
                        result.lse;
            }
    }
};

template <class Form>
static __global__
__launch_bounds__(Form::threads) void general(const __grid_constant__ fovea_cuda_attention p,
                                              const __grid_constant__ general_pitches pitches,
                                              int row_tiles, uint32_t aligned) {
    extern __shared__ __align__(128) char memory[];
    /* A head's tiles stand together, so that its k and v stay in L2; the longest causal ones first. */
    work<Form> w = {p, pitches};
    w.take_place((int)blockIdx.x, row_tiles);
    if (w.first_row >= w.row_count) return;
    w.warp = threadIdx.x / 32, w.lane = threadIdx.x % 32;
    w.q_tile = shared_address(memory);
    w.sums = (float *)(memory + Form::sums_offset);
    w.limits = (int2 *)(memory + Form::limits_offset);
    w.drawn = (uint4 *)(memory + Form::drawn_offset);
    w.note_limits();
    w.k_tile = w.q_tile + Form::rows * Form::size * 2;
    w.v_tile = w.k_tile + Form::stages * Form::tile_bytes;
#pragma unroll
    for (int t = 0; t < Form::tiles; t++) {
#pragma unroll
        for (int n = 0; n < Form::size / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) w.out[t][n][e] = 0;
        w.maximum[t][0] = w.maximum[t][1] = -INFINITY;
        w.sum_of(t, 0) = w.sum_of(t, 1) = 0;
    }
    int last_row = min(w.first_row + Form::rows, w.row_count) - 1;
    int low, low_of_last, high, high_of_first;
    attended(p, w.s, w.query_of(w.first_row), low, high_of_first);
    attended(p, w.s, w.query_of(last_row), low_of_last, high);
    float factor = Form::plain ? p.scale_log2 : 1;
    bool ends_early = !Form::plain && (is_short(p.mask, w.s) || is_short(p.bias, w.s));
    bool drops = Form::drops && (Form::plain || p.keep < 1);
    if (drops) w.begin_draws();
    int key = low / KEYS * KEYS;
    if (Form::plain || !p.block_table.data) {
        w.k_loader.begin(p.k, 2, w.s, w.key_head, key);
        w.v_loader.begin(p.v, 2, w.s, w.key_head, key);
    }
    w.load_queries(aligned & 1);
    if (key < high) w.load_keys(0, aligned, key);
    if (Form::stages == 2 && key < high) w.load_values(0, aligned, key);
    copies_commit();
    for (int stage = 0; key < high; key += KEYS) {
        copies_wait<0>();
        __syncthreads(); /* k is there, and nobody reads what is overwritten now any more */
        if (Form::stages == 2) {
            if (key + KEYS < high) {
                w.load_keys(stage ^ 1, aligned, key + KEYS);
                w.load_values(stage ^ 1, aligned, key + KEYS);
            }
        } else {
            w.load_values(0, aligned, key);
        }
        copies_commit();
        if constexpr (!Form::plain && Form::size <= 128) /* others have no registers for it */
            if (p.mask.data || p.bias.data) w.touch(key);
        if (drops) w.make_draws(key);
        w.score(stage);
        bool edge = key < low_of_last || key + KEYS > high_of_first;
        if (!Form::plain)
            w.modify(key, edge || ends_early);
        else if (edge)
            w.mask(key);
        w.soften(factor);
        if (drops) w.drop();
        if (Form::stages == 1) {
            copies_wait<0>();
            __syncthreads(); /* v is there, and nobody reads k any more */
            if (key + KEYS < high) w.load_keys(0, aligned, key + KEYS);
            copies_commit();
        }
        w.accumulate(stage);
        if (Form::stages == 2) stage ^= 1;
    }
    copies_wait<0>();
    w.take_place_again(row_tiles);
    w.finish(factor);
}

/* ---- Launch --------------------------------------------------------------------------------- */

template <class Form>
static int launch_form(const fovea_cuda_attention &p, uint32_t aligned, cudaStream_t stream) {
    int64_t rows = (int64_t)p.query_length * p.group;
    int64_t tiles = blocks_for(rows, Form::rows), blocks = tiles * p.key_heads * p.batch;
    if (blocks == 0) return cudaSuccess;
    cudaError_t error = allow_shared_bytes<general<Form>>(Form::shared_bytes);
    if (error != cudaSuccess) return cudaGetLastError(), error;
    general_pitches pitches = {2 * Form::loader::pass * p.q.stride[2],
                               2 * Form::loader::pass * p.k.stride[2],
                               2 * Form::loader::pass * p.v.stride[2]};
    general<Form><<<(unsigned)blocks, Form::threads, Form::shared_bytes, stream>>>(
        p, pitches, (int)tiles, aligned);
    return cudaGetLastError();
}

template <class T, int size>
static int launch_general(const fovea_cuda_attention &p, cudaStream_t stream) {
    uint32_t aligned = fovea_cuda_rows_are_aligned(&p.q, p.head_size) |
                       fovea_cuda_rows_are_aligned(&p.k, p.head_size) << 1 |
                       fovea_cuda_rows_are_aligned(&p.v, p.value_size) << 2 |
                       fovea_cuda_rows_are_aligned(&p.out, p.value_size) << 3;
    bool plain = aligned == 15 && !p.mask.data && !p.bias.data && !p.slopes &&
                 !p.block_table.data && isinf(p.softcap) && p.scale > 0;
    bool drops = p.keep < 1;
    if constexpr (size <= 128) {
        return !plain  ? launch_form<form<T, size, false>>(p, aligned, stream)
               : drops ? launch_form<form<T, size, true, 4, true>>(p, aligned, stream)
                       : launch_form<form<T, size, true>>(p, aligned, stream);
    } else {
        /* Two blocks of 4 warps where their tiles find room, else one of 8; options have no registers for 4. */
        using pair = form<T, size, true>;
        int device, bytes;
        cudaError_t error = cudaGetDevice(&device);
        if (error == cudaSuccess)
            error =
                cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device);
        if (error != cudaSuccess) return cudaGetLastError(), error;
        if (!plain) return launch_form<form<T, size, false, 8>>(p, aligned, stream);
        if (drops) return launch_form<form<T, size, true, 4, true>>(p, aligned, stream);
        return bytes >= 2 * (pair::shared_bytes + 1024)
                   ? launch_form<pair>(p, aligned, stream)
                   : launch_form<form<T, size, true, 8>>(p, aligned, stream);
    }
}

#define FOVEA_CUDA_GENERAL(size)                                                                   \
    extern "C" int fovea_cuda_attention_general_##size(const fovea_cuda_attention *problem,        \
                                                       cudaStream_t stream) {                      \
        return problem->q.dtype == FOVEA_F16                                                       \
                   ? launch_general<__half, size>(*problem, stream)                                \
                   : launch_general<__nv_bfloat16, size>(*problem, stream);                        \
    }

#endif
