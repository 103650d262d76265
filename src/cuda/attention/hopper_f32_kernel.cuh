#pragma once

/* Attention forward for f32 by warpgroup products of halves: the argument is in NOTES.md. Each number is
 * scaled by a power of two and split in two halves of 11 bits, x = high + low, and three of the four products
 * are summed, as f32_products.cu does with TF32 terms, which have as many bits (Markidis et al. 2018; Ootomo
 * and Yokota 2022): what is left out is 2^-22 of a product. Halves multiply twice as fast as TF32 and take v
 * as it lies. What they lack is range, hence the scales: of a row of q, a block of keys, a block of values,
 * so that the greatest is in [2^14, 2^15); below 2^-18 of that greatest one bits are lost. Probabilities are taken
 * times 2^15.
 *
 * split_terms writes the terms of k and v, high and low in planes of their own, and the factors that undo the
 * scales; a consumer splits its queries itself, once a tile. It finds out, block by block, whether what the
 * scales may have lost stays within rounding, and if not (or if a number is not finite) leaves word for
 * f32_products, which then does everything again.
 *
 * The tensor cores cut their sums off towards 0, so chains are short: the small products come first, and
 * the output of one block of keys is added to that of the others by a rounded multiply-add. */

#include "cuda/attention/grids.cuh"
#include "cuda/attention/hopper_kernel.cuh"

namespace fovea::hopper {

constexpr int scaled_exponent = 14; /* of the greatest number behind one scale */
constexpr float probability_exponent = 15;

/* One of k and v, and the planes of its terms: [2, heads of all batches, length, pitch]. */
struct split_tensor {
    const float *data;
    int64_t batch, head, row; /* strides in elements */
    int32_t heads, length, columns, pitch, blocks;
    int64_t plane; /* elements */
    __half *planes;
};

enum split_role { SPLIT_K, SPLIT_V };

struct f32_parameters : attention_parameters {
    const float *queries;
    int64_t query_batch, query_head, query_row; /* strides in elements */
    /* Of a block of each key head, what products are to be multiplied by: x scores, y the output. */
    const float2 *key_factors;
    int head_size;
    int key_blocks;
    float lost_score; /* a score's error by what the scales lose, over the product of its factors */
    uint32_t *refused;       /* of few tiles a word for each */
    split_tensor tensors[2]; /* of few tiles: k and v, by role */
};

/* Two numbers as two halves each, x = high + low; each word has both numbers' halves. */
__device__ __forceinline__ void split_two(float x, float y, uint32_t &high, uint32_t &low) {
    high = pack_two<__half>(x, y);
    float2 rounded = __half22float2(*reinterpret_cast<const __half2 *>(&high));
    low = pack_two<__half>(x - rounded.x, y - rounded.y);
}

/* ---- The terms -------------------------------------------------------------------------------- */

struct split_parameters {
    split_tensor tensors[2]; /* by role */
    int64_t blocks;          /* of the grid, for each of them */
    float2 *key_factors;
    uint32_t *control; /* the tiles' counter, and the word of refusal: cleared */
};

__device__ __forceinline__ int exponent_of(uint32_t magnitude) {
    return static_cast<int>(magnitude >> 23) - 127;
}

__device__ __forceinline__ float power_of_two(int exponent) {
    return __int_as_float((exponent + 127) << 23);
}

/* The greatest magnitude of four numbers, as bits, which order as magnitudes do. */
__device__ __forceinline__ uint32_t greatest_of_four(float4 x) {
    uint32_t a = __float_as_uint(x.x) & 0x7fffffff, b = __float_as_uint(x.y) & 0x7fffffff,
             c = __float_as_uint(x.z) & 0x7fffffff, d = __float_as_uint(x.w) & 0x7fffffff;
    return max(max(a, b), max(c, d));
}

__device__ __forceinline__ void split_four(float4 x, float scale, uint2 &high, uint2 &low) {
    split_two(x.x * scale, x.y * scale, high.x, low.x);
    split_two(x.z * scale, x.w * scale, high.y, low.y);
}

/* The exponents that scales are made for: that of a score's factor stays within f32. NaN and infinity are
 * above. */
constexpr int score_bound = 40, value_bound = 100;

/* ROWS rows of a head whose columns are padded to `columns`, by 256 threads: a row is columns / 4
 * neighbouring lanes. */
template <int columns, int rows, split_role role>
__device__ __forceinline__ void split_block(const split_parameters &p, int64_t number) {
    constexpr int lanes = columns / 4, pass = 256 / lanes, steps = rows / pass;
    static_assert(rows % pass == 0);
    __shared__ uint32_t greatest_of[8], least_of[8];
    const split_tensor &t = p.tensors[role];
    int block = static_cast<int>(number % t.blocks), lane = threadIdx.x % lanes, column = 4 * lane;
    int64_t head = number / t.blocks;
    const float *from = t.data + head / t.heads * t.batch + head % t.heads * t.head + column;
    int first = block * rows + threadIdx.x / lanes;
    float4 x[steps];
    uint32_t greatest = 0, least = ~0u; /* of all rows' greatest magnitudes */
#pragma unroll
    for (int i = 0; i < steps; i++) {
        int row = first + i * pass;
        x[i] = make_float4(0, 0, 0, 0);
        if (row < t.length && column < t.columns)
            x[i] = __ldcs(reinterpret_cast<const float4 *>(from + row * t.row));
    }
#pragma unroll
    for (int i = 0; i < steps; i++) {
        uint32_t top = greatest_of_four(x[i]);
#pragma unroll
        for (int distance = lanes / 2; distance > 0; distance /= 2)
            top = max(top, __shfl_xor_sync(~0u, top, distance));
        greatest = max(greatest, top);
        if (top > 0) least = min(least, top);
    }
    if constexpr (lanes < 32) {
        greatest = max(greatest, __shfl_xor_sync(~0u, greatest, 16));
        least = min(least, __shfl_xor_sync(~0u, least, 16));
    }
    if (threadIdx.x % 32 == 0)
        greatest_of[threadIdx.x / 32] = greatest, least_of[threadIdx.x / 32] = least;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 8; i++)
        greatest = max(greatest, greatest_of[i]), least = min(least, least_of[i]);
    constexpr int bound = role == SPLIT_V ? value_bound : score_bound;
    int exponent = exponent_of(greatest);
    bool bad = exponent > bound;
    exponent = min(max(exponent, -bound), bound);
    /* The greatest number of a value row keeps its bits, so that rows which attend it alone come out right. */
    if constexpr (role == SPLIT_V) bad |= exponent_of(least) < exponent - 17;
    if (threadIdx.x == 0)
        (role == SPLIT_K ? p.key_factors[number].x : p.key_factors[number].y) =
            bad ? INFINITY : power_of_two(exponent - scaled_exponent);
#pragma unroll
    for (int i = 0; i < steps; i++) {
        int row = first + i * pass;
        uint2 high, low;
        split_four(x[i], power_of_two(scaled_exponent - exponent), high, low);
        if (row >= t.length || column >= t.pitch) continue;
        __half *to = t.planes + (head * t.length + row) * t.pitch + column;
        *reinterpret_cast<uint2 *>(to) = high;
        *reinterpret_cast<uint2 *>(to + t.plane) = low;
    }
}

template <int columns, int rows>
__global__ void __launch_bounds__(256) split_terms(const __grid_constant__ split_parameters p) {
    /* The next grid reads queries before it waits: whatever wrote them has ended then. */
    wait_for_the_grid_before();
    let_the_next_grid_start();
    int64_t block = blockIdx.x;
    if (block == 0 && threadIdx.x < 2) p.control[threadIdx.x] = 0;
    if (block < p.blocks)
        split_block<columns, rows, SPLIT_K>(p, block);
    else
        split_block<columns, rows, SPLIT_V>(p, block - p.blocks);
}

/* Where tiles are so few that each has a block of its own, the blocks split the keys and values that they need
 * themselves: a warpgroup does, from memory to where copies of planes would have put them. */
template <typename Shape>
struct splitter {
    static constexpr int N = Shape::N, D = Shape::D, lanes = D / 4, pass = 128 / lanes,
                         steps = N / pass, plane = Shape::block_bytes / 2;
    static constexpr int sync_name = 12, scratch_words = 4;

    const f32_parameters &p;
    const attention_memory<Shape> &memory;
    ring_place<Shape::stages> place[2];
    int head; /* of all batches' key heads */

    __device__ __forceinline__ splitter(const f32_parameters &p,
                                        const attention_memory<Shape> &memory)
        : p(p), memory(memory) {}

    __device__ __forceinline__ void load(float4 (&x)[steps], int role, int n) {
        const split_tensor &t = p.tensors[role];
        int column = threadIdx.x % lanes * 4, first = n * N + threadIdx.x / lanes;
        const float *from =
            t.data + head / t.heads * t.batch + head % t.heads * t.head + first * t.row + column;
#pragma unroll
        for (int i = 0; i < steps; i++, from += pass * t.row) {
            x[i] = make_float4(0, 0, 0, 0);
            if (first + i * pass < t.length && column < t.columns)
                x[i] = *reinterpret_cast<const float4 *>(from);
        }
    }

    template <int role>
    __device__ __forceinline__ void store(const float4 (&x)[steps], uint2 (*extremes)[4]) {
        ring_place<Shape::stages> &at = place[role];
        uint32_t greatest = 0, least = ~0u;
#pragma unroll
        for (int i = 0; i < steps; i++) {
            uint32_t top = greatest_of_four(x[i]);
            if constexpr (role == SPLIT_V) {
#pragma unroll
                for (int distance = lanes / 2; distance > 0; distance /= 2)
                    top = max(top, __shfl_xor_sync(~0u, top, distance));
                if (top > 0) least = min(least, top);
            }
            greatest = max(greatest, top);
        }
        greatest = __reduce_max_sync(~0u, greatest);
        if constexpr (role == SPLIT_V) least = __reduce_min_sync(~0u, least);
        /* Twice as many places as there are roles' turns: who is late reads the former ones. */
        if (threadIdx.x % 32 == 0) extremes[role][threadIdx.x / 32] = make_uint2(greatest, least);
        named_sync(sync_name + role, 128);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            greatest = max(greatest, extremes[role][i].x);
            least = min(least, extremes[role][i].y);
        }
        constexpr int bound = role == SPLIT_V ? value_bound : score_bound;
        int exponent = exponent_of(greatest);
        bool bad = exponent > bound;
        exponent = min(max(exponent, -bound), bound);
        if constexpr (role == SPLIT_V) bad |= exponent_of(least) < exponent - 17;
        uint32_t full = role == SPLIT_V ? memory.value_full(at.stage) : memory.key_full(at.stage);
        uint32_t empty =
            role == SPLIT_V ? memory.value_empty(at.stage) : memory.key_empty(at.stage);
        barrier_wait(empty, at.parity ^ 1);
        if (threadIdx.x == 0) {
            store_word(memory.factor(at.stage, role),
                       __float_as_uint(power_of_two(exponent - scaled_exponent)));
            if (bad) p.refused[blockIdx.x] = 1;
        }
        uint32_t to =
            (role == SPLIT_V ? memory.value() : memory.key()) + at.stage * Shape::block_bytes;
        int chunk = threadIdx.x % lanes; /* of 4 columns */
        to += chunk / 16 * N * 128 + chunk % 2 * 8;
#pragma unroll
        for (int i = 0; i < steps; i++) {
            int row = threadIdx.x / lanes + i * pass;
            uint2 high, low;
            split_four(x[i], power_of_two(scaled_exponent - exponent), high, low);
            uint32_t place = to + row * 128 + ((chunk / 2 ^ row) % 8) * 16;
            store_two(place, high);
            store_two(place + plane, low);
        }
        asm volatile("fence.proxy.async;" ::: "memory");
        __syncwarp();
        release(full);
        at.advance();
    }

    static __device__ __forceinline__ void store_two(uint32_t at, uint2 words) {
        asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(at), "r"(words.x), "r"(words.y)
                     : "memory");
    }

    __device__ __forceinline__ void run() {
        __shared__ uint2 extremes[2][4];
        int number = blockIdx.x, all = number / p.row_tiles;
        attention_tile tile = {(number - all * p.row_tiles) * Shape::rows, all % p.query_heads,
                               all / p.query_heads};
        if (threadIdx.x == 0) {
            p.refused[blockIdx.x] = 0;
            store_slot(memory.slot(0), make_int4(tile.row, tile.head, tile.batch, 0));
            store_slot(memory.slot(1), make_int4(-1, 0, 0, 0));
            barrier_arrive(memory.tile_full(0));
            barrier_arrive(memory.tile_full(1));
        }
        head = tile.batch * (p.query_heads / p.group) + tile.head / p.group;
        key_blocks blocks = blocks_of<Shape>(p, tile.row);
        float4 key[steps], value[steps];
        load(key, SPLIT_K, blocks.last);
#pragma unroll 1
        for (int n = blocks.last; n >= blocks.first; n--) {
            load(value, SPLIT_V, n);
            store<SPLIT_K>(key, extremes);
            if (n > blocks.first) load(key, SPLIT_K, n - 1);
            store<SPLIT_V>(value, extremes);
        }
    }
};

/* ---- The consumer warpgroups ------------------------------------------------------------------ */

template <typename Shape, bool splits>
struct f32_consumer : consumer_course<Shape, f32_consumer<Shape, splits>> {
    using course = consumer_course<Shape, f32_consumer<Shape, splits>>;
    using course::blocks, course::first_row, course::group, course::last, course::lane;
    using course::thread_row, course::tile;
    static constexpr int N = Shape::N, D = Shape::D;
    static constexpr int query_plane = Shape::query_bytes / 2, block_plane = Shape::block_bytes / 2;
    static constexpr bool loads_queries = true, splits_keys = splits;

    const f32_parameters &p;
    /* part: the output of one block of keys, 64 columns at a time, for all of 128 do not fit. */
    float s[N / 2], part[32], o[D / 2];
    uint32_t high[N / 4], low[N / 4]; /* that block's probabilities */
    /* Of a thread's two rows: 15 less the greatest score, by which probabilities are taken; their sum; what
     * former sums are to be multiplied by; the factor of scores. */
    float negative[2], sum[2], correction[2], query_factor[2];
    int factors;        /* where those of the tile's blocks of keys begin */
    float value_factor; /* of the block that `part` is of */

    __device__ __forceinline__ f32_consumer(const f32_parameters &p,
                                            const attention_memory<Shape> &memory, int group)
        : course(p, memory, group), p(p) {}

    static __device__ __forceinline__ void split_keys(const f32_parameters &p,
                                                      const attention_memory<Shape> &memory) {
        if constexpr (splits) splitter<Shape>(p, memory).run();
    }

    /* The factors of a block of keys, whose values have theirs when they are there. */
    __device__ __forceinline__ float2 factors_of(int n) {
        if constexpr (splits)
            return make_float2(__uint_as_float(load_word(this->memory.factor(this->key.stage, 0))),
                               0);
        else
            return p.key_factors[factors + n];
    }
    __device__ __forceinline__ void hold_factor(float2 factor) {
        if constexpr (!splits) value_factor = factor.y;
    }

    /* The terms of the tile's queries, a warp's 16 rows by the warp, 8 numbers a lane at a time, into the places where
     * a copy with the swizzle of 128 bytes would put them. */
    __device__ __forceinline__ void begin_queries(const attention_tile &tile) {
        constexpr int lanes = D / 8, pass = 32 / lanes, steps = 16 / pass, batch = D == 64 ? 4 : 2;
        int chunk = lane % lanes, warp_row = threadIdx.x / 32 % 4 * 16;
        int first = tile.row + group * 64 + warp_row;
        const float *from =
            p.queries + tile.batch * p.query_batch + tile.head * p.query_head + 8 * chunk;
        uint32_t to = this->query_place() + chunk / 8 * 8192;
        named_sync(vote_name + group, 128); /* nobody reads the former tile's any more */
#pragma unroll 1
        for (int begin = 0; begin < steps; begin += batch) {
            float4 x[batch][2];
#pragma unroll
            for (int i = 0; i < batch; i++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    int row = first + (begin + i) * pass + lane / lanes;
                    x[i][half] = make_float4(0, 0, 0, 0);
                    if (row < p.query_length && 8 * chunk + 4 * half < p.head_size)
                        x[i][half] =
                            *reinterpret_cast<const float4 *>(from + row * p.query_row + 4 * half);
                }
#pragma unroll
            for (int i = 0; i < batch; i++) {
                int row = (begin + i) * pass + lane / lanes; /* of the warp's 16 */
                uint32_t top = max(greatest_of_four(x[i][0]), greatest_of_four(x[i][1]));
#pragma unroll
                for (int distance = lanes / 2; distance > 0; distance /= 2)
                    top = max(top, __shfl_xor_sync(~0u, top, distance));
                int exponent = min(max(exponent_of(top), -score_bound), score_bound);
                float factor = exponent_of(top) > score_bound
                                   ? INFINITY
                                   : p.scale_log2 * power_of_two(exponent - scaled_exponent);
                float scale = power_of_two(scaled_exponent - exponent);
                /* Each lane keeps the factors of the two rows whose sums it has. */
                factor = __shfl_sync(~0u, factor, lane / 4 % pass * lanes);
                if ((begin + i) == lane / 4 / pass) query_factor[0] = factor;
                if ((begin + i) == lane / 4 / pass + steps / 2) query_factor[1] = factor;
                uint2 high[2], low[2];
                split_four(x[i][0], scale, high[0], low[0]);
                split_four(x[i][1], scale, high[1], low[1]);
                uint32_t at = to + (warp_row + row) * 128 + ((chunk ^ row) % 8) * 16;
                store_words(at, high);
                store_words(at + query_plane, low);
            }
        }
        asm volatile("fence.proxy.async;" ::: "memory");
        if constexpr (!splits)
            wait_for_the_grid_before(); /* the first time: terms and factors are there afterwards */
        named_sync(vote_name + group, 128);
    }

    static __device__ __forceinline__ void store_words(uint32_t at, const uint2 (&words)[2]) {
        store_slot(at,
                   make_int4(int(words[0].x), int(words[0].y), int(words[1].x), int(words[1].y)));
    }

    /* The small products first: what is cut off a sum is a part of the sum as it stands. */
    __device__ __forceinline__ void scores() {
        uint32_t q = this->query_place(), k = this->key_place();
        issue_scores<Shape>(s, q, k + block_plane);
        issue_scores<Shape, true>(s, q + query_plane, k);
        issue_scores<Shape, true>(s, q, k);
        product_commit();
    }
    __device__ __forceinline__ void hold_scores() { hold_registers(s); }

    template <int panel>
    __device__ __forceinline__ void output() {
        uint32_t v = this->value_place() + panel * N * 128;
        if constexpr (splits && panel == 0)
            value_factor =
                __uint_as_float(load_word(this->memory.factor(this->value.stage, SPLIT_V)));
        issue_output<Shape, 64, false>(part, low, v);
        issue_output<Shape, 64>(part, high, v + block_plane);
        issue_output<Shape, 64>(part, high, v);
        product_commit();
    }

    /* The output of the block joins that of the blocks before it. */
    template <int panel>
    __device__ __forceinline__ void join() {
        hold_registers(part);
#pragma unroll
        for (int i = 0; i < 32; i++)
            o[32 * panel + i] = fmaf(part[i], value_factor, o[32 * panel + i]);
    }

    /* The second panel of the output once the first, behind which scores may have been issued, has joined. */
    template <bool scored>
    __device__ __forceinline__ void second_panel() {
        product_wait<scored>();
        join<0>();
        hold_registers(part);
        product_fence();
        output<1>();
    }

    /* Whether the scales may have taken more from a row's scores than rounding does: 2^-20, or as much of the
     * greatest score over 8 (in units of log 2). A factor that is not finite is too much, too; and of scores beyond
     * 2^20 the greatest is rounded by so much that p times 2^15 may leave the range of halves. */
    __device__ __forceinline__ bool loses(float factor, float negative) {
        float greatest = fabsf(probability_exponent - negative);
        float allowed = fminf(fmaxf(1.0f, greatest * (1 / 11.541560f)) * 0x1p-20f, 1.0f);
        bool far = greatest > 0x1p20f && negative != INFINITY;
        return far || !(factor * p.lost_score <= allowed);
    }

    /* Scores to probabilities times 2^15, in place; the maximum moves whenever it grows. */
    __device__ __forceinline__ void soften(float2 block) {
        float factor[2], shift[2], total[4] = {0, 0, 0, 0};
#pragma unroll
        for (int r = 0; r < 2; r++) {
            factor[r] = query_factor[r] * block.x;
            float a = row_maximum(s, r);
            float now = fminf(negative[r], fmaf(-a, factor[r], probability_exponent));
            shift[r] = now == INFINITY ? 0.0f : now; /* nothing attended yet */
            correction[r] = exp2_fast(shift[r] - negative[r]);
            negative[r] = now;
        }
        if (loses(factor[0], negative[0]) || loses(factor[1], negative[1]) || block.y == INFINITY)
            p.refused[splits ? blockIdx.x : 0] = 1;
#pragma unroll
        for (int i = 0; i < N / 2; i++) {
            int r = i / 2 % 2;
            s[i] = exp2_fast(fmaf(s[i], factor[r], shift[r]));
            total[i % 4] += s[i];
        }
#pragma unroll
        for (int r = 0; r < 2; r++)
            sum[r] = fmaf(sum[r], correction[r], total[2 * r] + total[2 * r + 1]);
    }

    __device__ __forceinline__ void split_probabilities() {
#pragma unroll
        for (int i = 0; i < N / 4; i++) split_two(s[2 * i], s[2 * i + 1], high[i], low[i]);
    }

    __device__ __forceinline__ void correct_output() {
        if (__any_sync(~0u, correction[0] != 1.0f || correction[1] != 1.0f))
#pragma unroll
            for (int i = 0; i < D / 2; i++) o[i] *= correction[i / 2 % 2];
    }

    __device__ __forceinline__ void begin_tile() {
        factors = (tile.batch * (p.query_heads / p.group) + tile.head / p.group) * p.key_blocks;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            negative[r] = INFINITY, sum[r] = 0.0f;
        }
#pragma unroll
        for (int i = 0; i < D / 2; i++) o[i] = 0.0f;
    }

    __device__ __forceinline__ void first_block() {
        begin_tile();
        float2 factor = factors_of(last);
        this->release_key();

        this->mask(s, last);
        soften(factor);
        hold_factor(factor);
        split_probabilities();
        if (last > blocks.first) this->wait_key();
    }

    /* The products of a block in the middle of a tile; its scores are there afterwards. */
    __device__ __forceinline__ void middle_products() {
        turn<Shape>::take(group);
        if constexpr (D == 64) {
            hold_registers(part);
            product_fence();
            scores();
            this->wait_value();
            product_fence();
            output<0>();
        } else {
            this->wait_value();
            hold_registers(part);
            product_fence();
            output<0>();
            scores();
            second_panel<true>();
        }
        turn<Shape>::pass(group);
        product_wait<1>();
        hold_registers(s);
    }

    __device__ __forceinline__ void middle_blocks() {
#pragma unroll 1
        for (int n = last - 1; n >= blocks.first; n--) {
            float2 factor;
            if constexpr (!splits) factor = factors_of(n);
            middle_products();
            if constexpr (splits) factor = factors_of(n);
            this->release_key();

            this->mask(s, n);
            soften(factor);
            hold_registers(s);
            this->wait_output(n, sum[0] + sum[1] < 0.0f);
            this->release_value();
            join<D / 64 - 1>();
            correct_output();
            hold_factor(factor);
            split_probabilities();
        }
    }

    /* The output's last block runs while the next tile's queries are split. */
    __device__ __forceinline__ void cross_over(const attention_tile &next) {
        this->wait_key(); /* not after taking a turn: others may need one to let go of a block */
        turn<Shape>::take(group);
        hold_registers(part);
        product_fence();
        output<0>();
        turn<Shape>::pass(group);
        begin_queries(next);
        hold_registers(s);
        product_fence();
        scores();
        if constexpr (D > 64) second_panel<true>();
        product_wait<D == 64>();
        join<D / 64 - 1>();
        this->release_value();
        write();
        product_wait<0>();
        hold_registers(s);
    }

    __device__ __forceinline__ void last_product() {
        turn<Shape>::take(group);
        hold_registers(part);
        product_fence();
        output<0>();
        if constexpr (D > 64) second_panel<false>();
        turn<Shape>::pass(group);
        product_wait<0>();
        join<D / 64 - 1>();
        this->release_value();
        write();
    }

    __device__ __forceinline__ void write() {
        int t = lane % 4;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float total = sum[r];
            total += __shfl_xor_sync(~0u, total, 1);
            total += __shfl_xor_sync(~0u, total, 2);
            float inverse = total == 0.0f ? 0.0f : __frcp_rn(total);
            int i = first_row + thread_row + 8 * r;
            if (i >= p.query_length) continue;
            if (p.lse && t == 0)
                p.lse[tile.batch * p.lse_batch + tile.head * p.lse_head + i * p.lse_row] =
                    total == 0.0f ? -INFINITY : (log2f(total) - negative[r]) * 0.69314718f;
            float *out = reinterpret_cast<float *>(p.out) + tile.batch * p.out_batch +
                         tile.head * p.out_head + i * p.out_row + 2 * t;
#pragma unroll
            for (int j = 0; j < D / 8; j++)
                if (8 * j + 2 * t < p.value_size)
                    *reinterpret_cast<float2 *>(out + 8 * j) =
                        make_float2(o[4 * j + 2 * r] * inverse, o[4 * j + 2 * r + 1] * inverse);
        }
    }
};

template <typename Shape, bool splits>
__global__ void __launch_bounds__(Shape::threads, 1)
    attention_f32_kernel(const __grid_constant__ f32_parameters p) {
    attend<Shape, f32_consumer<Shape, splits>>(p);
}

} /* namespace fovea::hopper */
