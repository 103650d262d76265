/* split: attention of few query rows over many keys, where time is reading k and v (Dao et al.,
 * Flash-Decoding, 2023, for the idea). The rows are the queries of a key head's whole group, 8 or 16 to a
 * block; the keys are cut into as many pieces as fill the device evenly, one to a block, and what
 * the pieces give is merged in their order, so that the bits repeat.
 *
 * Each warp of a block walks its own steps of keys through a ring in shared memory that is its alone:
 * no warp waits for another before the end, and all copies but the stage being read are always on their
 * way. Two blocks a multiprocessor keep 128 KiB in flight where Little's law asks for 40 (4.8 TB/s over 132
 * multiprocessors, 1.1 us). A step of 8 KiB takes a multiprocessor 400 cycles at that rate, 1600 places for
 * instructions, of which some 300 are used: so rows are addressed plainly, page by page if need be.
 *
 * f32 goes by products of TF32 terms (f32_products.cu), some 700 instructions a step of 8 KiB with 48 to 96
 * products; plain multiply-adds of 16 rows would take 1400 and as many again for the scores' sums over lanes.
 * Each step's share of the output begins at 0 and is added with rounding. Of f32 heads above 128 a launch has 128
 * columns of the values, for whose sums there are registers, and reads all of the keys. */
#ifndef FOVEA_CUDA_ATTENTION_SPLIT_CUH
#define FOVEA_CUDA_ATTENTION_SPLIT_CUH

#include "cuda/attention/options.cuh"
#include "cuda/attention/split_bytes.cuh"
#include "cuda/attention/terms.cuh"

/* Rows of queries to a block. Of bytes 8 are enough where there are no more. */
static constexpr int split_rows(int cache, int64_t rows) {
    return cache == 1 && rows <= 8 ? 8 : 16;
}

/* Blocks of a multiprocessor. */
static constexpr int split_blocks(int size, int cache, int rows) {
    return size == 256 && cache == 2 ? 1 : size == 64 && cache == 1 && rows == 16 ? 3 : 2;
}

/* cache: bytes of an element of k and v. */
template <class T, int size_, int cache_, int rows_, bool plain_>
struct split_form {
    using element = T;
    /* What the tensor cores multiply: a cache of bytes is widened to f16, which holds both of its types and costs half
     * of what bf16 does, so queries and probabilities are scaled to its range. */
    using factor = std::conditional_t<cache_ == 1, __half, T>;
    static constexpr int size = size_, cache = cache_; /* size: of heads, padded */
    static constexpr int values =
        cache < 4 || size <= 128 ? size : 128; /* columns of a value row */
    static constexpr bool plain = plain_;
    static constexpr int warps = 4, threads = warps * 32, rows = rows_, halves = rows / 8;
    static constexpr bool holds_queries = size <= 128 && cache < 4; /* in registers */
    static constexpr int row_bytes = size * cache, value_row_bytes = values * cache;
    static constexpr int keys = row_bytes <= 64 && rows == 8 ? 64
                                : row_bytes <= 128           ? 32
                                : cache < 4 || size <= 64    ? 16
                                                             : 8;
    static constexpr int blocks = split_blocks(size, cache, rows); /* of a multiprocessor */
    static constexpr int stages = size > 128 && cache > 1 ? 2 : 3;
    static constexpr bool has_parts = cache == 4; /* sums in two levels */
    static constexpr int key_bytes = keys * row_bytes, value_bytes = keys * value_row_bytes;
    static constexpr int scale_bytes = cache == 1 ? 2 * keys * 4 : 0;
    static constexpr int step_bytes = key_bytes + value_bytes + scale_bytes;
    static constexpr int query_row = size * (int)sizeof(T);
    static constexpr int factor_bytes = cache == 1 ? rows * 8 : 0; /* of the rows of queries */
    /* Copies into lines that begin in the middle of one take twice as long. */
    static constexpr int query_bytes = (rows * query_row + factor_bytes + 127) / 128 * 128;
    static constexpr int out_pitch =
        values + 8; /* floats, of the warps' results on their way to one */
    static constexpr int weights_offset = warps * rows * (out_pitch + 2) * 4;
    static constexpr int merge_bytes = weights_offset + rows * (warps * 4 + 8);
    static constexpr int ring_bytes = warps * stages * step_bytes;
    static constexpr int shared_bytes =
        query_bytes + (ring_bytes > merge_bytes ? ring_bytes : merge_bytes);
    static_assert((shared_bytes + 1024) * blocks <= 228 << 10);
    using key_loader = tile_loader<row_bytes, keys, 32>;
    using value_loader = tile_loader<value_row_bytes, keys, 32>;
};

/* Bytes between the rows of a thread, and from the last of a warp's step to its next step. */
struct split_pitches {
    row_pitches row, jump;
};

/* Where partial results go: rows of `values` floats, unnormalised, and after all of them their maxima
 * (in units of log 2) and sums. */
struct split_parts {
    float *rows;
    float2 *states;
    int pieces, rows_each, row_tiles; /* rows_each: to a block */
};

template <class Form>
struct split_work {
    using T = typename Form::element;
    using factor = typename Form::factor;
    static constexpr int KEYS = Form::keys, lines = (KEYS + 31) / 32;

    const fovea_cuda_attention &p;
    const split_pitches &pitches;
    sequence s;
    int key_head, first_row, row_count, warp, lane;
    bool aligned_keys, aligned_values;
    uint64_t policy;           /* of bytes in the L2 */
    uint32_t query_tile, ring; /* ring: of this warp */
    typename Form::key_loader k_loader;
    typename Form::value_loader v_loader;
    const char *k_base, *v_base;     /* of the head, and of the sequence unless paged */
    const char *k_scales, *v_scales; /* likewise */
    int page[lines],
        slot[lines];      /* paged: where key `lane` of each 32 of the step to be fetched next is */
    int first[2], end[2]; /* keys that this thread's rows may attend */
    uint32_t query[Form::holds_queries ? Form::size / 16 : 1][4];
    /* Of bytes what is multiplied is v transposed, and so is out: 16 columns of 8 rows, and behind the last ones
     * what integers came too great by. */
    static constexpr bool turned = Form::cache == 1;
    static constexpr int strips = Form::values / 16 + 1;
    float out[turned ? Form::halves * strips : Form::values / 8][4];
    float scores[KEYS / 8][4], maximum[2], sum[2];
    float part[Form::has_parts ? Form::values / 8 : 1][4], part_sum[2]; /* of the last steps */
    float score_factor[2], bias[2]; /* bytes: what products are multiplied by, and begin at */
    bool raised;                    /* signed bytes: they come 128 too great */
    int value_exponent;             /* bytes: the greatest of the scales of values so far */

    __device__ __forceinline__ int row_of(int half) const {
        return first_row + half * 8 + lane / 4;
    }
    __device__ __forceinline__ int query_of(int row) const { return row / p.group; }
    __device__ __forceinline__ int head_of(int row) const {
        return key_head * p.group + row % p.group;
    }

    /* ---- Copies ---- */

    __device__ __forceinline__ uint32_t key_tile(int stage) const {
        return ring + stage * Form::step_bytes;
    }
    __device__ __forceinline__ uint32_t value_tile(int stage) const {
        return key_tile(stage) + Form::key_bytes;
    }
    /* Scales of the keys, and of the values after them. */
    __device__ __forceinline__ uint32_t scales(int stage) const {
        return value_tile(stage) + Form::value_bytes;
    }

    __device__ __forceinline__ void begin_fetching(int key, bool paged) {
        int64_t k_at = key_head * p.k.stride[1], v_at = key_head * p.v.stride[1];
        if constexpr (Form::cache == 1)
            k_scales = scales_of(p.k_scale, paged), v_scales = scales_of(p.v_scale, paged);
        if (!paged) {
            k_at += s.batch * p.k.stride[0] + (int64_t)s.key_start * p.k.stride[2];
            v_at += s.batch * p.v.stride[0] + (int64_t)s.key_start * p.v.stride[2];
            k_loader.begin(p.k, Form::cache, s, key_head, key);
            v_loader.begin(p.v, Form::cache, s, key_head, key);
        } else {
            find_pages(key);
        }
        k_base = p.k.data + Form::cache * k_at, v_base = p.v.data + Form::cache * v_at;
    }

    /* Of key 0 of the sequence, or of slot 0 of page 0. */
    __device__ __forceinline__ const char *scales_of(const fovea_cuda_tensor &t, bool paged) const {
        int64_t at = key_head * t.stride[1];
        if (!paged) at += s.batch * t.stride[0] + (int64_t)s.key_start * t.stride[2];
        return t.data ? t.data + 4 * at : NULL;
    }

    __device__ __forceinline__ void find_pages(int key) {
#pragma unroll
        for (int i = 0; i < lines; i++) {
            int j = key + 32 * i + lane;
            page[i] = slot[i] = 0;
            if (j < s.key_count && 32 * i + lane < KEYS) {
                int number = j / p.page_size;
                int64_t at = s.batch * p.block_table.stride[0] + number * p.block_table.stride[1];
                page[i] = between(0, p.block_table.data[at], p.pages - 1);
                slot[i] = j - number * p.page_size;
            }
        }
    }

    template <int row_bytes>
    __device__ __forceinline__ void fetch_chunk(uint32_t tile, const char *row, bool real,
                                                const fovea_cuda_tensor &t, int size, bool aligned,
                                                int r, int c) {
        uint32_t to = byte_chunk_address<row_bytes>(tile, r, c);
        real = real && c * 16 < size * Form::cache;
        if (Form::plain || aligned)
            copy_async(to, real ? row + c * 16 : t.data, real ? 16 : 0);
        else if constexpr (Form::cache == 2)
            store_chunk(to, real ? (const T *)row : NULL, t.stride[3], c * 8, size);
        else if constexpr (Form::cache == 4)
            store_words(to, real ? (const float *)row : NULL, t.stride[3], c * 4, size);
        else
            store_bytes(to, real ? row : NULL, t.stride[3], c * 16, size);
    }

    /* A step's keys and values into a stage, row by row; values may have fewer chunks. */
    __device__ __forceinline__ void fetch_rows(int stage, int key) {
        constexpr int row_bytes = Form::row_bytes, value_row_bytes = Form::value_row_bytes;
        constexpr int chunks = row_bytes / 16, value_chunks = value_row_bytes / 16;
        constexpr int steps = KEYS * chunks / 32, unrolled = Form::plain ? 4 : 1; /* registers */
#pragma unroll unrolled
        for (int i = 0; i < steps; i++) {
            int r = (i * 32 + lane) / chunks, c = (i * 32 + lane) % chunks, j = key + r;
            int64_t k_at, v_at;
            if (p.block_table.data) {
                bool more = lines > 1 && i * 32 / chunks >= 32;
                int at = __shfl_sync(~0u, more ? page[lines - 1] : page[0], r);
                int in = __shfl_sync(~0u, more ? slot[lines - 1] : slot[0], r);
                k_at = at * p.k.stride[0] + in * p.k.stride[2];
                v_at = at * p.v.stride[0] + in * p.v.stride[2];
            } else {
                k_at = (int64_t)j * p.k.stride[2];
                v_at = (int64_t)j * p.v.stride[2];
            }
            bool real = j < s.key_count;
            fetch_chunk<row_bytes>(key_tile(stage), k_base + k_at * Form::cache, real, p.k,
                                   p.head_size, aligned_keys, r, c);
            if (c < value_chunks)
                fetch_chunk<value_row_bytes>(value_tile(stage), v_base + v_at * Form::cache, real,
                                             p.v, p.value_size, aligned_values, r, c);
        }
    }

    __device__ __forceinline__ void fetch_scales(uint32_t to, const char *from,
                                                 const fovea_cuda_tensor &t, int key) {
        if (!from) return;
#pragma unroll
        for (int i = 0; i < lines; i++) {
            int j = key + 32 * i + lane;
            bool real = j < s.key_count;
            int64_t at = j * t.stride[2];
            if (p.block_table.data) at = page[i] * t.stride[0] + slot[i] * t.stride[2];
            if (32 * i + lane < KEYS)
                copy_word_async(to + 4 * (32 * i + lane), real ? from + 4 * at : t.data, real);
        }
    }

    __device__ __forceinline__ void fetch(int stage, int key) {
        if (!p.block_table.data && (Form::plain || (aligned_keys && aligned_values))) {
            int left = s.key_count - key;
            if constexpr (Form::cache == 1) {
                k_loader.load(key_tile(stage), left, p.head_size, pitches.row.k, policy);
                v_loader.load(value_tile(stage), left, p.value_size, pitches.row.v, policy);
            } else {
                k_loader.load(key_tile(stage), left, Form::cache * p.head_size, pitches.row.k);
                v_loader.load(value_tile(stage), left, Form::cache * p.value_size, pitches.row.v);
            }
            k_loader.from += pitches.jump.k, v_loader.from += pitches.jump.v;
        } else {
            fetch_rows(stage, key);
        }
        if constexpr (Form::cache == 1) {
            fetch_scales(scales(stage), k_scales, p.k_scale, key);
            fetch_scales(scales(stage) + 4 * KEYS, v_scales, p.v_scale, key);
        }
    }

    /* ---- Queries ---- */

    /* The block's rows to shared memory. */
    __device__ __forceinline__ void fetch_queries(bool aligned) {
        constexpr int unit = 16 / sizeof(T), row_chunks = Form::size / unit;
#pragma unroll 1
        for (int e = threadIdx.x; e < Form::rows * row_chunks; e += Form::threads) {
            int r = e / row_chunks, c = e % row_chunks, row = first_row + r;
            bool real = row < row_count && c * unit < p.head_size;
            const T *from = (const T *)p.q.data;
            uint32_t to = byte_chunk_address<Form::query_row>(query_tile, r, c);
            if (real)
                from += s.batch * p.q.stride[0] + head_of(row) * p.q.stride[1] +
                        (int64_t)(s.query_start + query_of(row)) * p.q.stride[2];
            if (Form::plain || aligned)
                copy_async(to, real ? from + c * unit : from, real ? 16 : 0);
            else if constexpr (sizeof(T) == 4)
                store_words(to, real ? from : NULL, p.q.stride[3], c * unit, p.head_size);
            else
                store_chunk(to, real ? from : NULL, p.q.stride[3], c * unit, p.head_size);
        }
    }

    /* 16 elements of the rows. Their order is that in which keys come from shared memory: bytes come
     * four to a thread. */
    __device__ __forceinline__ void load_query(int k, uint32_t (&a)[4]) const {
        if constexpr (Form::cache == 2) {
            load_matrices(a, chunk_address<Form::size>(query_tile, lane % 16, 2 * k + lane / 16));
        } else {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                a[h] = a[2 + h] = 0;
                if (h < Form::halves)
                    load_pair(a[h], a[2 + h],
                              chunk_address<Form::size>(query_tile, h * 8 + lane / 4,
                                                        2 * k + lane % 4 / 2) +
                                  lane % 2 * 8);
            }
        }
    }
    __device__ __forceinline__ void load_queries(void) {
        if constexpr (Form::holds_queries)
#pragma unroll
            for (int k = 0; k < Form::size / 16; k++) load_query(k, query[k]);
    }
    __device__ __forceinline__ void get_query(int k, uint32_t (&a)[4]) const {
        if constexpr (Form::holds_queries) {
#pragma unroll
            for (int i = 0; i < 4; i++) a[i] = query[k][i];
        } else {
            load_query(k, a);
        }
    }

    /* For a cache of bytes: rows become f16, of bf16 times a power of two by which the greatest is in [2^14, 2^15), and
     * what falls below f16 then is 2^-38 of it. Behind them are the factors that undo this, and the rows' sums. */
    __device__ __forceinline__ void prepare_queries(void) {
        constexpr int words = Form::size / 64;
#pragma unroll
        for (int i = 0; i < Form::rows / Form::warps; i++) {
            int r = warp * (Form::rows / Form::warps) + i;
            uint32_t at = query_tile + r * Form::query_row + lane * 4, word[words], top = 0;
            float undo = 1, sum = 0;
#pragma unroll
            for (int w = 0; w < words; w++) {
                word[w] = load_one(at + w * 128);
                top = max(top, max(word[w] & 0x7fff, word[w] >> 16 & 0x7fff));
            }
            if constexpr (!std::is_same_v<T, factor>) {
                int exponent = max((int)(__reduce_max_sync(~0u, top) >> 7), 77);
                float scale = __uint_as_float((uint32_t)(268 - exponent) << 23);
                undo = __uint_as_float((uint32_t)(exponent - 14) << 23);
#pragma unroll
                for (int w = 0; w < words; w++)
                    word[w] = pack_two<factor>(__uint_as_float(word[w] << 16) * scale,
                                               __uint_as_float(word[w] & 0xffff0000) * scale);
            }
#pragma unroll
            for (int w = 0; w < words; w++) {
                float2 two = __half22float2(*reinterpret_cast<const __half2 *>(&word[w]));
                sum += two.x + two.y;
                store_one(at + w * 128, word[w]);
            }
            sum = reduce_warp(sum, [](float a, float b) { return a + b; });
            if (lane > 0) continue;
            uint32_t to = query_tile + Form::rows * Form::query_row + r * 8;
            store_one(to, __float_as_uint(undo)), store_one(to + 4, __float_as_uint(sum));
        }
    }
    __device__ __forceinline__ void load_factors(void) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            uint32_t pair[2] = {0, 0};
            if (h < Form::halves)
                load_pair(pair[0], pair[1],
                          query_tile + Form::rows * Form::query_row + (h * 8 + lane / 4) * 8);
            score_factor[h] = __uint_as_float(pair[0]), bias[h] = __uint_as_float(pair[1]);
        }
        bool integers = p.k.dtype == FOVEA_I8;
        raised = integers && __all_sync(~0u, isfinite(bias[0]) && isfinite(bias[1]));
#pragma unroll
        for (int h = 0; h < 2; h++) {
            bias[h] = raised ? bias[h] * -0x1p-17f : 0; /* 128 times 2^-24 */
            if (integers) score_factor[h] *= 0x1p24f;
        }
    }

    /* ---- Products ---- */

    __device__ __forceinline__ void score(uint32_t tile) {
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) scores[n][e] = 0;
#pragma unroll
        for (int k = 0; k < Form::size / 16; k++) {
            uint32_t a[4];
            get_query(k, a);
#pragma unroll
            for (int n = 0; n < KEYS / 16; n++) {
                uint32_t b[4];
                load_matrices(b, chunk_address<Form::size>(tile, n * 16 + lane % 8 + lane / 16 * 8,
                                                           2 * k + lane / 8 % 2));
                multiply<T>(scores[2 * n], a, b[0], b[1]);
                multiply<T>(scores[2 * n + 1], a, b[2], b[3]);
            }
        }
    }

    /* The smaller products have sums of their own. */
    template <bool far>
    __device__ __forceinline__ void score_terms(uint32_t tile) {
        /* All of them at once would want more registers than there are. */
        constexpr int unrolled = far ? 1 : 2;
        float sums[3][KEYS / 8][4] = {};
#pragma unroll unrolled
        for (int k = 0; k < Form::size / 16; k++) {
            uint32_t high[2][4], low[2][4];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                uint32_t a[4];
                load_matrices(a, byte_chunk_address<Form::query_row>(query_tile, lane % 16,
                                                                     4 * k + 2 * i + lane / 16));
#pragma unroll
                for (int e = 0; e < 4; e++)
                    far ? split_far(a[e], high[i][e], low[i][e])
                        : split(a[e], high[i][e], low[i][e]);
            }
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
                uint32_t b[4], b_high[4], b_low[4]; /* 16 elements of 8 keys */
                load_matrices(b, byte_chunk_address<Form::row_bytes>(tile, n * 8 + lane % 8,
                                                                     4 * k + lane / 8));
#pragma unroll
                for (int e = 0; e < 4; e++) split(b[e], b_high[e], b_low[e]);
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    multiply_tf32(sums[0][n], high[i], b_high[2 * i], b_high[2 * i + 1]);
                    multiply_tf32(sums[1][n], high[i], b_low[2 * i], b_low[2 * i + 1]);
                    multiply_tf32(sums[2][n], low[i], b_high[2 * i], b_high[2 * i + 1]);
                }
            }
        }
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                scores[n][e] = sums[0][n][e] + (sums[1][n][e] + sums[2][n][e]);
    }

    __device__ __forceinline__ void score_words(uint32_t tile) {
        score_terms<false>(tile);
        if (is_far(scores)) score_terms<true>(tile);
    }

    /* Integers come 128 too great, so sums begin by as much below zero, unless a query is infinite: its scores may
     * yet be numbers under softcap. */
    template <bool integers, bool is_raised>
    __device__ __forceinline__ void score_bytes(uint32_t tile) {
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) scores[n][e] = bias[e / 2];
#pragma unroll
        for (int k = 0; k < Form::size / 16; k += 2) {
            uint32_t a[2][4];
            get_query(k, a[0]), get_query(k + 1, a[1]);
#pragma unroll
            for (int n = 0; n < KEYS / 16; n++) {
                uint32_t b[4], low, high; /* keys 0 to 7 and 8 to 15 of chunk k, then of k + 1 */
                load_matrices(b, byte_chunk_address<Form::row_bytes>(tile, n * 16 + lane % 16,
                                                                     k + lane / 16));
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    if constexpr (integers)
                        widen_small<is_raised>(b[i], low, high);
                    else
                        low = widen_e4m3(b[i]), high = widen_e4m3(b[i] >> 16);
                    multiply<factor>(scores[2 * n + i % 2], a[i / 2], low, high);
                }
            }
        }
    }

    /* out += p v */
    __device__ __forceinline__ void accumulate(uint32_t tile) {
#pragma unroll
        for (int k = 0; k < KEYS / 16; k++) {
            uint32_t a[4];
            pack_probabilities(k, a);
#pragma unroll
            for (int n = 0; n < Form::size / 16; n++) {
                uint32_t b[4];
                load_transposed(
                    b, chunk_address<Form::size>(tile, k * 16 + lane % 16, 2 * n + lane / 16));
                multiply<T>(out[2 * n], a, b[0], b[1]);
                multiply<T>(out[2 * n + 1], a, b[2], b[3]);
            }
        }
    }

    /* Keys and columns stand as in f32_products.cu. */
    __device__ __forceinline__ void accumulate_words(uint32_t tile) {
        uint32_t high[KEYS / 8][4], low[KEYS / 8][4];
#pragma unroll
        for (int k = 0; k < KEYS / 8; k++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                split(__float_as_uint(scores[k][i % 2 * 2 + i / 2]), high[k][i], low[k][i]);
#pragma unroll
        for (int c = 0; c < Form::values / 32; c++) {
            float products[4][4] = {};
#pragma unroll
            for (int k = 0; k < KEYS / 8; k++) {
                uint32_t b[2][4];
#pragma unroll
                for (int i = 0; i < 2; i++)
                    load_four(b[i], byte_chunk_address<Form::value_row_bytes>(
                                        tile, k * 8 + lane % 4 * 2 + i, c * 8 + lane / 4));
#pragma unroll
                for (int n = 0; n < 4; n++)
                    multiply_terms(products[n], high[k], low[k], b[0][n], b[1][n]);
            }
#pragma unroll
            for (int n = 0; n < 4; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) part[4 * c + n][e] += products[n][e];
        }
    }

    __device__ __forceinline__ void close_part(void) {
        if constexpr (Form::has_parts) {
#pragma unroll
            for (int n = 0; n < Form::values / 8; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) out[n][e] += part[n][e], part[n][e] = 0;
        }
#pragma unroll
        for (int h = 0; h < 2; h++) sum[h] += part_sum[h], part_sum[h] = 0;
    }

    /* Out transposed, for then 8 rows of probabilities are a whole factor: v transposed has its even columns as
     * rows 0 to 7, its odd ones as rows 8 to 15. Integers come 128 too great, which a product of the same
     * probabilities and 128 takes off in the end. */
    template <bool integers>
    __device__ __forceinline__ void accumulate_bytes(uint32_t tile) {
#pragma unroll
        for (int k = 0; k < KEYS / 16; k++) {
            uint32_t rows[4]; /* 0 to 7 and 8 to 15 of keys 0 to 7, then of keys 8 to 15 */
            pack_probabilities(k, rows);
            if constexpr (integers) {
                const uint32_t more[4] = {0x00800080, 0x00800080, 0x00800080, 0x00800080};
                multiply<factor>(out[strips - 1], more, rows[0], rows[2]);
                if constexpr (Form::halves > 1)
                    multiply<factor>(out[2 * strips - 1], more, rows[1], rows[3]);
            }
#pragma unroll
            for (int n = 0; n < Form::size / 16; n += 2) {
                uint32_t b[4]; /* keys 0 to 7 and 8 to 15 of chunk n, then n + 1 */
                load_transposed(b, byte_chunk_address<Form::row_bytes>(tile, k * 16 + lane % 16,
                                                                       n + lane / 16));
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    uint32_t a[4];
                    widen_apart<integers>(b[2 * c], a[0], a[1]);
                    widen_apart<integers>(b[2 * c + 1], a[2], a[3]);
                    multiply<factor>(out[n + c], a, rows[0], rows[2]);
                    if constexpr (Form::halves > 1)
                        multiply<factor>(out[strips + n + c], a, rows[1], rows[3]);
                }
            }
        }
    }

    __device__ __forceinline__ void pack_probabilities(int k, uint32_t (&a)[4]) const {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float *two = &scores[2 * k + i / 2][i % 2 * 2];
            a[i] = pack_two<factor>(two[0], two[1]);
        }
    }

    /* The column of out that element e of product n holds. */
    __device__ __forceinline__ int column_of(int n, int e) const {
        if (Form::cache == 2) return n * 8 + lane % 4 * 2 + e;
        return n / 4 * 32 + lane % 4 * 8 + 4 * e + n % 4;
    }

    /* ---- Softmax ---- */

    /* Factors of a quantised cache, one a key, each times `unit`. */
    __device__ __forceinline__ void apply_scales(uint32_t scales, float unit) {
        float scale[KEYS / 8][2];
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
            uint32_t word[2];
            load_pair(word[0], word[1], scales + 4 * (n * 8 + lane % 4 * 2));
#pragma unroll
            for (int e = 0; e < 2; e++) {
                scale[n][e] = __uint_as_float(word[e]) * unit;
                scores[n][e] *= scale[n][e];
            }
        }
        if constexpr (Form::halves > 1)
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                for (int e = 0; e < 2; e++) scores[n][2 + e] *= scale[n][e];
    }

    __device__ __forceinline__ void multiply_out(float by) {
#pragma unroll
        for (auto &four : out)
#pragma unroll
            for (float &x : four) x *= by;
    }

    /* The scales of the values, in a unit by which the greatest so far is in [2^14, 2^15): their products with
     * probabilities are f16. What has no exponent shows itself. */
    __device__ __forceinline__ void apply_value_scales(uint32_t scales) {
        uint32_t greatest = 0;
#pragma unroll
        for (int i = 0; i < lines; i++) {
            uint32_t at = 32 * i + lane;
            uint32_t mine = at < KEYS ? load_one(scales + 4 * at) & 0x7fffffff : 0;
            greatest = max(greatest, mine < 0x7f000000 ? mine : 0);
        }
        int exponent = (int)(__reduce_max_sync(~0u, greatest) >> 23);
        if (exponent > value_exponent) {
            multiply_out(__uint_as_float((uint32_t)max(127 + value_exponent - exponent, 0) << 23));
            value_exponent = exponent;
        }
        apply_scales(scales, __uint_as_float((uint32_t)(268 - value_exponent) << 23));
    }

    __device__ __forceinline__ fragment_rows rows_of_thread(void) const {
        fragment_rows rows;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int row = row_of(h);
            rows.query[h] = query_of(row), rows.head[h] = head_of(row);
            rows.first[h] = first[h], rows.end[h] = end[h];
        }
        return rows;
    }

    __device__ __forceinline__ void modify(int key) {
        fragment_rows rows = rows_of_thread();
        limit_rows(p.mask, rows), limit_rows(p.bias, rows);
        apply_options<Form::cache == 4>(p, s, rows, key, scores);
        apply_limits(rows, key, scores);
    }

    __device__ __forceinline__ void soften(const float (&factor)[2]) {
        float rescale[2];
        bool moved = false;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            if (h >= Form::halves) {
                rescale[h] = 1;
                break;
            }
            float m = maximum[h], total = 0;
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
                m = fmaxf(m, fmaxf(scores[n][2 * h], scores[n][2 * h + 1]));
            m = fmaxf(m, __shfl_xor_sync(~0u, m, 1));
            m = fmaxf(m, __shfl_xor_sync(~0u, m, 2));
            float base = m == -INFINITY ? 0 : m * factor[h];
            moved |= m != maximum[h];
            rescale[h] = exp2_fast(fmaf(maximum[h], factor[h], -base));
            maximum[h] = m;
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float &score = scores[n][2 * h + e];
                    score = exp2_fast(fmaf(score, factor[h], -base));
                    total += score;
                }
            sum[h] *= rescale[h];
            part_sum[h] = fmaf(part_sum[h], rescale[h], total);
        }
        if (!__any_sync(~0u, moved)) return;
        if constexpr (turned) {
#pragma unroll
            for (int h = 0; h < Form::halves; h++)
#pragma unroll
                for (int e = 0; e < 2; e++) { /* of row 2 (lane mod 4) + e */
                    float by = __shfl_sync(~0u, rescale[h], (lane % 4 * 2 + e) * 4);
#pragma unroll
                    for (int n = 0; n < strips; n++) {
                        float(&four)[4] = out[h * strips + n];
                        four[e] *= by, four[2 + e] *= by;
                    }
                }
        } else {
#pragma unroll
            for (int n = 0; n < Form::values / 8; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    out[n][e] *= rescale[e / 2];
                    if constexpr (Form::has_parts) part[n][e] *= rescale[e / 2];
                }
        }
    }

    __device__ __forceinline__ void attend(int stage, int key, bool edge,
                                           const float (&factor)[2]) {
        uint32_t keys = key_tile(stage), values = value_tile(stage);
        if constexpr (Form::cache == 4) {
            score_words(keys);
        } else if constexpr (Form::cache == 2) {
            score(keys);
        } else {
            if (raised)
                score_bytes<true, true>(keys);
            else if (p.k.dtype == FOVEA_I8)
                score_bytes<true, false>(keys);
            else
                score_bytes<false, false>(keys);
            if (p.k_scale.data) apply_scales(scales(stage), 1);
            if constexpr (!Form::plain)
#pragma unroll
                for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                    for (int e = 0; e < 4; e++) scores[n][e] *= score_factor[e / 2];
        }
        if (!Form::plain)
            modify(key);
        else if (edge)
            apply_limits(rows_of_thread(), key, scores);
        soften(factor);
        if (!Form::plain && p.keep < 1) {
            fragment_rows rows = rows_of_thread();
            const draw_row row[1] = {begin_row(p, s, rows.head, rows.query)};
            uint32_t drawn[1];
            draw_fragments<KEYS / 8>(p, row, key, drawn);
            drop_fragment(drawn[0], scores);
        }
        if constexpr (Form::cache == 4) {
            accumulate_words(values);
        } else if constexpr (Form::cache == 2) {
            accumulate(values);
        } else {
            if (p.v_scale.data) apply_value_scales(scales(stage) + 4 * KEYS);
            p.v.dtype == FOVEA_I8 ? accumulate_bytes<true>(values)
                                  : accumulate_bytes<false>(values);
        }
    }

    /* ---- Results ---- */

    /* The warps' results lie in shared memory one after the other. */
    __device__ __forceinline__ void hand_over(char *memory, const float (&factor)[2]) {
        bool integers = turned && p.v.dtype == FOVEA_I8;
        float whole = integers ? 0x1p24f : 1, unit = 1;
        if (turned && p.v_scale.data) unit = __uint_as_float((uint32_t)(value_exponent - 14) << 23);
        float *rows = (float *)memory + warp * Form::rows * Form::out_pitch;
        float2 *states = (float2 *)((float *)memory + Form::warps * Form::rows * Form::out_pitch);
#pragma unroll
        for (int h = 0; h < Form::halves; h++) {
            int r = h * 8 + lane / 4;
            float l = sum[h];
            l += __shfl_xor_sync(~0u, l, 1);
            l += __shfl_xor_sync(~0u, l, 2);
            if (first_row + h * 8 >= row_count) continue;
            if (lane % 4 == 0)
                states[warp * Form::rows + r] =
                    make_float2(maximum[h] == -INFINITY ? maximum[h] : maximum[h] * factor[h], l);
            if constexpr (turned) {
                float *to = rows + (h * 8 + lane % 4 * 2) * Form::out_pitch + lane / 4 * 2;
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float excess = integers ? out[(h + 1) * strips - 1][e] : 0;
#pragma unroll
                    for (int n = 0; n < strips - 1; n++) {
                        const float(&four)[4] = out[h * strips + n];
                        *(float2 *)(to + e * Form::out_pitch + n * 16) =
                            make_float2((four[e] - excess) * whole * unit,
                                        (four[2 + e] - excess) * whole * unit);
                    }
                }
            } else {
#pragma unroll
                for (int n = 0; n < Form::values / 8; n++) {
                    float *to = rows + r * Form::out_pitch + column_of(n, 0);
                    if (Form::cache == 2)
                        *(float2 *)to = make_float2(out[n][2 * h], out[n][2 * h + 1]);
                    else
                        to[0] = out[n][2 * h],
                        to[column_of(0, 1) - column_of(0, 0)] = out[n][2 * h + 1];
                }
            }
        }
    }

    /* What the warps' results of a row are multiplied by, and where their sum goes; its maximum and sum, or its
     * lse. A thread a row, because they take it some 200 instructions. */
    __device__ __forceinline__ void weigh(char *memory, const split_parts &parts, int64_t part) {
        const float2 *states =
            (const float2 *)((float *)memory + Form::warps * Form::rows * Form::out_pitch);
        float4 *weights = (float4 *)(memory + Form::weights_offset);
        int64_t *places = (int64_t *)(weights + Form::rows);
        static_assert(Form::warps == 4, "float4");
        int r = threadIdx.x, row = first_row + r;
        if (r >= Form::rows || row >= row_count) return;
        float top = -INFINITY, l = 0, weight[Form::warps], factor = 1;
#pragma unroll
        for (int w = 0; w < Form::warps; w++) top = fmaxf(top, states[w * Form::rows + r].x);
        float base = top == -INFINITY ? 0 : top;
#pragma unroll
        for (int w = 0; w < Form::warps; w++) {
            float2 state = states[w * Form::rows + r];
            weight[w] = exp2_fast(state.x - base);
            l = fmaf(weight[w], state.y, l);
        }
        if (parts.pieces == 1) {
            int head = head_of(row);
            int64_t i = s.query_start + query_of(row);
            row_result result = finish_row(p, head, top, l);
            factor = result.factor;
            places[r] = s.batch * p.out.stride[0] + head * p.out.stride[1] + i * p.out.stride[2];
            if (p.lse.data)
                ((float *)p.lse.data)[s.batch * p.lse.stride[0] + head * p.lse.stride[1] +
                                      i * p.lse.stride[2]] = result.lse;
        } else {
            places[r] = (part * Form::rows + r) * Form::values;
            parts.states[part * Form::rows + r] = make_float2(top, l);
        }
        weights[r] = make_float4(weight[0] * factor, weight[1] * factor, weight[2] * factor,
                                 weight[3] * factor);
    }

    /* Their sum: the result, or that of a piece. Four columns a thread. */
    __device__ __forceinline__ void combine(const char *memory, const split_parts &parts) {
        constexpr int columns = Form::values / 4, pass = Form::threads / columns;
        const float *rows = (const float *)memory;
        const float4 *weights = (const float4 *)(memory + Form::weights_offset);
        const int64_t *places = (const int64_t *)(weights + Form::rows);
        int count = min(Form::rows, row_count - first_row), d = threadIdx.x % columns * 4;
#pragma unroll 1
        for (int r = threadIdx.x / columns; r < count; r += pass) {
            float4 four = weights[r];
            const float weight[Form::warps] = {four.x, four.y, four.z, four.w};
            float total[4] = {0, 0, 0, 0};
#pragma unroll
            for (int w = 0; w < Form::warps; w++) {
                float4 x = *(const float4 *)(rows + (w * Form::rows + r) * Form::out_pitch + d);
                total[0] = fmaf(weight[w], x.x, total[0]);
                total[1] = fmaf(weight[w], x.y, total[1]);
                total[2] = fmaf(weight[w], x.z, total[2]);
                total[3] = fmaf(weight[w], x.w, total[3]);
            }
            if (parts.pieces == 1)
                write_four<T>(p, places[r], d, total);
            else
                *(float4 *)(parts.rows + places[r] + d) =
                    make_float4(total[0], total[1], total[2], total[3]);
        }
    }
};

template <class Form>
static __global__ __launch_bounds__(Form::threads, Form::blocks) void split_keys(
    const __grid_constant__ fovea_cuda_attention p, const __grid_constant__ split_pitches pitches,
    const __grid_constant__ split_parts parts, uint32_t aligned) {
    extern __shared__ __align__(128) char memory[];
    constexpr int KEYS = Form::keys, stages = Form::stages, stride = Form::warps * KEYS;
    let_the_next_grid_start();
    int tile = 0, rest = blockIdx.x, piece = 0;
    if (parts.row_tiles > 1) tile = rest % parts.row_tiles, rest /= parts.row_tiles;
    int head = rest;
    if (parts.pieces > 1) piece = rest % parts.pieces, head = rest / parts.pieces;
    split_work<Form> w = {p, pitches};
    w.policy = first_to_leave();
    wait_for_the_grid_before();
    w.s = sequence_of(p, head / p.key_heads);
    w.key_head = head % p.key_heads;
    w.first_row = tile * Form::rows;
    w.row_count = w.s.query_count * p.group;
    if (w.first_row >= w.row_count) return;
    w.warp = threadIdx.x / 32, w.lane = threadIdx.x % 32;
    w.query_tile = shared_address(memory);
    w.ring = w.query_tile + Form::query_bytes + w.warp * stages * Form::step_bytes;
    w.aligned_keys = aligned & 2, w.aligned_values = aligned & 4;
    bool paged = p.block_table.data;
    int last_row = min(w.first_row + Form::rows, w.row_count) - 1;
    int low, low_of_last, high, high_of_first;
    attended(p, w.s, w.query_of(w.first_row), low, high_of_first);
    attended(p, w.s, w.query_of(last_row), low_of_last, high);
    /* This piece's steps, and of those this warp's. */
    int origin = low / KEYS, steps = max((high + KEYS - 1) / KEYS - origin, 0);
    int each = steps, left = 0;
    if (parts.pieces > 1) each = steps / parts.pieces, left = steps % parts.pieces;
    int step = each * piece + min(piece, left) + w.warp;
    int end = each * (piece + 1) + min(piece + 1, left);
    int key = (origin + step) * KEYS, end_key = (origin + end) * KEYS;
    w.begin_fetching(key, paged);
    w.fetch_queries(aligned & 1);
    copies_commit();
#pragma unroll 1
    for (int i = 0; i < stages - 1; i++) {
        if (key + i * stride < end_key) w.fetch(i, key + i * stride);
        copies_commit();
        if (paged) w.find_pages(key + (i + 1) * stride);
    }
#pragma unroll
    for (auto &four : w.out)
#pragma unroll
        for (float &x : four) x = 0;
#pragma unroll
    for (auto &four : w.part)
#pragma unroll
        for (float &x : four) x = 0;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int row = w.row_of(h);
        attended(p, w.s, w.query_of(row), w.first[h], w.end[h]);
        if (row >= w.row_count) w.end[h] = w.first[h];
        w.maximum[h] = -INFINITY, w.sum[h] = w.part_sum[h] = 0;
    }
    copies_wait<stages - 1>();
    __syncthreads(); /* the queries are there */
    float factor[2];
    factor[0] = factor[1] = Form::plain ? p.scale_log2 : 1;
    if constexpr (Form::cache == 1) {
        w.prepare_queries();
        __syncthreads();
        w.load_factors();
        w.value_exponent = 14;
        if (Form::plain) factor[0] *= w.score_factor[0], factor[1] *= w.score_factor[1];
    }
    w.load_queries();
    for (int stage = 0, count = 0; key < end_key; key += stride) {
        copies_wait<stages - 2>();
        __syncwarp(); /* this stage is there for all, and nobody reads the one before any more */
        int ahead = key + (stages - 1) * stride;
        if (ahead < end_key) w.fetch(stage == 0 ? stages - 1 : stage - 1, ahead);
        copies_commit();
        if (paged) w.find_pages(ahead + stride);
        w.attend(stage, key, key < low_of_last || key + KEYS > high_of_first, factor);
        if (++stage == stages) stage = 0;
        if (Form::cache == 4 && ++count % 16 == 0) w.close_part();
    }
    copies_wait<0>();
    w.close_part();
    __syncthreads(); /* nobody reads a ring any more */
    w.hand_over(memory, factor);
    __syncthreads();
    w.weigh(memory, parts, (int64_t)(head * parts.row_tiles + tile) * parts.pieces + piece);
    __syncthreads();
    w.combine(memory, parts);
}

/* ---- Merging the pieces --------------------------------------------------------------------- */

/* A block a row. Each of its warps has the states of all pieces and adds up every fourth piece's row, 4
 * columns a lane of each 128; then the warps' sums are added in their order. */
template <class T, int size>
static __global__
__launch_bounds__(128) void merge_pieces(const __grid_constant__ fovea_cuda_attention p,
                                         const __grid_constant__ split_parts parts) {
    constexpr int warps = 4, width = size > 128 ? 2 : 1;
    __shared__ float sums[warps][width * 128];
    wait_for_the_grid_before();
    int rows = parts.rows_each;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, item = blockIdx.x / rows;
    int r = blockIdx.x % rows, head = item / parts.row_tiles;
    int row = item % parts.row_tiles * rows + r, key_head = head % p.key_heads;
    sequence s = sequence_of(p, head / p.key_heads);
    if (row >= s.query_count * p.group) return;
    const float2 *states = parts.states + (int64_t)item * parts.pieces * rows + r;
    const float *parts_of =
        parts.rows + ((int64_t)item * parts.pieces * rows + r) * size + lane * 4;
    float top = -INFINITY, l = 0, total[width][4] = {};
    for (int i = lane; i < parts.pieces; i += 32) top = fmaxf(top, states[(int64_t)i * rows].x);
    top = reduce_warp(top, [](float a, float b) { return fmaxf(a, b); });
    float base = top == -INFINITY ? 0 : top;
    for (int first = 0; first < parts.pieces; first += 32) {
        float2 state = make_float2(-INFINITY, 0);
        if (first + lane < parts.pieces) state = states[(int64_t)(first + lane) * rows];
        float mine = exp2_fast(state.x - base);
        l += reduce_warp(mine * state.y, [](float a, float b) { return a + b; });
#pragma unroll 8
        for (int i = warp; i < min(32, parts.pieces - first); i += warps) {
            float weight = __shfl_sync(~0u, mine, i);
            const float *from = parts_of + (int64_t)(first + i) * rows * size;
#pragma unroll
            for (int c = 0; c < width; c++) {
                if (size < 128 && lane * 4 >= size) continue;
                float4 x = *(const float4 *)(from + c * 128);
                total[c][0] = fmaf(weight, x.x, total[c][0]);
                total[c][1] = fmaf(weight, x.y, total[c][1]);
                total[c][2] = fmaf(weight, x.z, total[c][2]);
                total[c][3] = fmaf(weight, x.w, total[c][3]);
            }
        }
    }
#pragma unroll
    for (int c = 0; c < width; c++)
#pragma unroll
        for (int e = 0; e < 4; e++) sums[warp][c * 128 + lane * 4 + e] = total[c][e];
    __syncthreads();
    for (int d = threadIdx.x; d < size; d += warps * 32) {
        float sum = (sums[0][d] + sums[1][d]) + (sums[2][d] + sums[3][d]);
        write_element<T>(p, s, key_head * p.group + row % p.group, row / p.group, d, sum,
                         make_float2(top, l));
    }
}

#endif
