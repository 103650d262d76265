#pragma once

/* Attention forward for sm_90a: one producer warpgroup, two to four consumer warpgroups of 64
 * query rows each. NOTES.md beside this has the argument. Method: FlashAttention-3 (arXiv
 * 2407.08608, sections 3.1 and 3.2) for the division of work and the overlap of softmax and
 * products; what differs from it stands in NOTES.md. */

#include "cuda/hopper/barrier.cuh"
#include "cuda/hopper/copy.cuh"
#include "cuda/hopper/wgmma.cuh"

#include <type_traits>

namespace fovea::hopper {

struct attention_parameters {
    CUtensorMap q, k, v;
    char *out;
    float *lse;                                                         /* NULL: not wanted */
    int64_t out_batch, out_head, out_row, lse_batch, lse_head, lse_row; /* strides in elements */
    int32_t query_length, key_length, query_heads, group, head_size;
    /* Row i attends the keys i + shift_left … i + shift_right that exist. */
    int32_t shift_left, shift_right;
    float scale_log2;
    /* Tiles are numbered section by section; a section is `section` heads of all batches, whose
     * keys and values stay in the L2, and within it the last rows come first, because causal
     * rows grow longer. */
    int32_t tiles, row_tiles, heads, section;
    bool descending;
    uint32_t *counter; /* next tile, zero before the launch; NULL: dealt in turns */
};

template <typename Element_, int D_, int N_, int groups_, int stages_, int query_stages_,
          bool turns_, bool trusting_>
struct attention_shape {
    using Element = Element_;
    static constexpr int D = D_;                       /* head size, a multiple of 64 */
    static constexpr int N = N_;                       /* keys a block */
    static constexpr int groups = groups_;             /* consumer warpgroups */
    static constexpr int stages = stages_;             /* blocks of K, and of V, in shared memory */
    static constexpr int query_stages = query_stages_; /* tiles of Q in shared memory */
    static constexpr bool turns = turns_; /* warpgroups take turns at the tensor cores */
    static constexpr bool trusting =
        trusting_; /* maxima are taken again only where sums ask for it */
    static constexpr int rows = 64 * groups, threads = 128 * (groups + 1), panels = D / 64;
    static constexpr int query_bytes = 64 * D * 2, block_bytes = N * D * 2;
    static constexpr int producer_registers = groups == 3 ? 32 : 24;
    static constexpr int consumer_registers = groups == 2 ? 240 : groups == 3 ? 160 : 112;
    static constexpr int tile_slots = 2;
    static constexpr int barriers = 4 * stages + 2 * query_stages * groups + 2 * tile_slots + 1;
    static constexpr int query_offset = 0, key_offset = query_stages * groups * query_bytes,
                         value_offset = key_offset + stages * block_bytes,
                         slot_offset = value_offset + stages * block_bytes,
                         barrier_offset = slot_offset + tile_slots * 16,
                         shared_bytes = barrier_offset + barriers * 8 + 1024;
    static_assert(D % 64 == 0 && N % 16 == 0 && shared_bytes <= 232448);
};

/* Addresses of a block's shared memory. */
template <typename Shape>
struct attention_memory {
    uint32_t base;
    __device__ uint32_t query(int stage, int group) const {
        return base + (stage * Shape::groups + group) * Shape::query_bytes;
    }
    __device__ uint32_t key() const { return base + Shape::key_offset; }
    __device__ uint32_t value() const { return base + Shape::value_offset; }
    __device__ uint32_t slot(int i) const { return base + Shape::slot_offset + 16 * i; }
    __device__ uint32_t barrier(int i) const { return base + Shape::barrier_offset + 8 * i; }
    __device__ uint32_t key_full(int i) const { return barrier(i); }
    __device__ uint32_t key_empty(int i) const { return barrier(Shape::stages + i); }
    __device__ uint32_t value_full(int i) const { return barrier(2 * Shape::stages + i); }
    __device__ uint32_t value_empty(int i) const { return barrier(3 * Shape::stages + i); }
    __device__ uint32_t query_full(int stage, int group) const {
        return barrier(4 * Shape::stages + stage * Shape::groups + group);
    }
    __device__ uint32_t query_empty(int stage, int group) const {
        return barrier(4 * Shape::stages + (Shape::query_stages + stage) * Shape::groups + group);
    }
    __device__ uint32_t tile_full(int i) const {
        return barrier(4 * Shape::stages + 2 * Shape::query_stages * Shape::groups + i);
    }
    __device__ uint32_t tile_empty(int i) const { return tile_full(Shape::tile_slots + i); }
    __device__ uint32_t tile_wanted() const { return tile_full(2 * Shape::tile_slots); }
};

/* A place in a ring of `count` stages, and the parity of its barriers' phase. */
template <int count>
struct ring_place {
    int stage = 0;
    uint32_t parity = 0;
    __device__ void advance() {
        if (++stage == count) {
            stage = 0;
            parity ^= 1;
        }
    }
};

/* The query rows that a tile starts at, and whose. */
struct attention_tile {
    int row, head, batch;
    __device__ bool valid() const { return row >= 0; }
};

/* Blocks of keys that some row of a tile attends, `last` down to `first`; one block where none
 * is attended, so that every tile runs the same course and its rows come out as rows that saw
 * nothing. */
struct key_blocks {
    int first, last;
};

template <typename Shape>
__device__ __forceinline__ key_blocks blocks_of(const attention_parameters &p, int row) {
    int last_row = min(row + Shape::rows, p.query_length) - 1;
    int end = min(p.key_length, last_row + p.shift_right + 1), begin = max(0, row + p.shift_left);
    int last = max((end + Shape::N - 1) / Shape::N - 1, 0);
    return {min(begin / Shape::N, last), last};
}

/* The last of those blocks that one warpgroup needs: the ones after it, which all its rows mask,
 * it passes over. */
template <typename Shape>
__device__ __forceinline__ int last_of(const attention_parameters &p, key_blocks blocks,
                                       int first_row) {
    if (first_row >= p.query_length) return blocks.first;
    int end = min(p.key_length, min(first_row + 64, p.query_length) + p.shift_right);
    return max(blocks.first, min(blocks.last, (end + Shape::N - 1) / Shape::N - 1));
}

template <typename Shape>
struct tile_reader {
    ring_place<Shape::tile_slots> place;
    /* Called by one lane of a producer's warp (`alone`) or by all lanes of a consumer's warp. */
    __device__ attention_tile next(const attention_memory<Shape> &memory, bool alone) {
        barrier_wait(memory.tile_full(place.stage), place.parity);
        attention_tile tile;
        bool reads = alone || threadIdx.x % 32 == 0;
        if (reads) {
            int unused;
            asm volatile("ld.shared.v4.s32 {%0, %1, %2, %3}, [%4];"
                         : "=r"(tile.row), "=r"(tile.head), "=r"(tile.batch), "=r"(unused)
                         : "r"(memory.slot(place.stage))
                         : "memory");
            barrier_arrive(memory.tile_empty(place.stage));
        }
        if (!alone) {
            tile.row = __shfl_sync(~0u, tile.row, 0);
            tile.head = __shfl_sync(~0u, tile.head, 0);
            tile.batch = __shfl_sync(~0u, tile.batch, 0);
        }
        place.advance();
        return tile;
    }
};

/* ---- The producer warpgroup: a lane of each of its warps deals tiles, loads Q, K or V  ---- */

template <typename Shape>
__device__ void deal_tiles(const attention_parameters &p, const attention_memory<Shape> &memory) {
    ring_place<Shape::tile_slots> place;
    for (int round = 0;; round++) {
        /* Not before the keys' loader is at its last block: tiles reserved early cannot even out
         * the end. */
        if (round > 0) barrier_wait(memory.tile_wanted(), round - 1 & 1);
        int tile = p.counter ? static_cast<int>(atomicAdd(p.counter, 1u))
                             : round * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x);
        int4 slot = {-1, 0, 0, 0};
        if (tile < p.tiles) {
            int section_tiles = p.section * p.row_tiles, section = tile / section_tiles;
            int within = tile - section * section_tiles;
            int section_heads = min(p.section, p.heads - section * p.section);
            int row, head;
            if (p.descending) {
                row = within / section_heads;
                head = section * p.section + within - row * section_heads;
                row = p.row_tiles - 1 - row;
            } else {
                head = within / p.row_tiles;
                row = within - head * p.row_tiles;
                head += section * p.section;
            }
            slot = {row * Shape::rows, head % p.query_heads, head / p.query_heads, 0};
        }
        barrier_wait(memory.tile_empty(place.stage), place.parity ^ 1);
        asm volatile("st.shared.v4.s32 [%0], {%1, %2, %3, %4};" ::"r"(memory.slot(place.stage)),
                     "r"(slot.x), "r"(slot.y), "r"(slot.z), "r"(slot.w)
                     : "memory");
        barrier_arrive(memory.tile_full(place.stage));
        place.advance();
        if (slot.x < 0) break;
    }
}

template <typename Shape>
__device__ void load_queries(const attention_parameters &p, const attention_memory<Shape> &memory) {
    tile_reader<Shape> reader;
    ring_place<Shape::query_stages> place;
    uint64_t policy = stream_policy();
    for (attention_tile tile = reader.next(memory, true); tile.valid();
         tile = reader.next(memory, true)) {
        for (int group = 0; group < Shape::groups; group++) {
            uint32_t full = memory.query_full(place.stage, group);
            barrier_wait(memory.query_empty(place.stage, group), place.parity ^ 1);
            barrier_expect(full, Shape::query_bytes);
            int row = tile.row + group * 64;
            for (int panel = 0; panel < Shape::panels; panel++)
                copy_box(memory.query(place.stage, group) + panel * 8192, &p.q, full, panel * 64,
                         row, tile.head, tile.batch, policy);
        }
        place.advance();
    }
}

/* Keys or values: `ring`, `full` and `empty` are those of one of them. */
template <typename Shape>
__device__ void load_blocks(const attention_parameters &p, const attention_memory<Shape> &memory,
                            const CUtensorMap *map, uint32_t ring, uint32_t full, uint32_t empty,
                            bool deals) {
    tile_reader<Shape> reader;
    ring_place<Shape::stages> place;
    uint64_t policy = keep_policy();
    for (attention_tile tile = reader.next(memory, true); tile.valid();
         tile = reader.next(memory, true)) {
        key_blocks blocks = blocks_of<Shape>(p, tile.row);
        int head = tile.head / p.group;
        for (int n = blocks.last; n >= blocks.first; n--) {
            uint32_t arrived = full + 8 * place.stage;
            if (deals && n == blocks.first) barrier_arrive(memory.tile_wanted());
            barrier_wait(empty + 8 * place.stage, place.parity ^ 1);
            barrier_expect(arrived, Shape::block_bytes);
#pragma unroll 1
            for (int panel = 0; panel < Shape::panels; panel++) {
                uint32_t to = ring + place.stage * Shape::block_bytes + panel * Shape::N * 128;
                int row = n * Shape::N;
                copy_box(to, map, arrived, panel * 64, row, head, tile.batch, policy);
            }
            place.advance();
        }
    }
}

/* ---- The consumer warpgroups -------------------------------------------------------------- */

__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

template <typename Element>
__device__ __forceinline__ uint32_t pack(float low, float high);
template <>
__device__ __forceinline__ uint32_t pack<__nv_bfloat16>(float low, float high) {
    uint32_t word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}
template <>
__device__ __forceinline__ uint32_t pack<__half>(float low, float high) {
    uint32_t word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}

/* A thread's two rows: the maximum that exponents are taken against, and its own part of the
 * sum. */
struct softmax_state {
    float maximum[2], sum[2];
};

/* Scores to probabilities, in place. The maximum moves only where it would grow by more than a
 * factor of 2^8: until then probabilities are at most 2^8, and sums of them far from the end of
 * f32, so nothing else need be rescaled. Returns whether some row of the warp moved;
 * `correction` is what its former sums are to be multiplied by. */
template <int count>
__device__ __forceinline__ bool softmax_block(float (&s)[count], softmax_state &state,
                                              float scale_log2, float (&correction)[2]) {
    constexpr float slack = 8.0f;
    float negative[2], sum[4];
    bool moved = false;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float a = fmaxf(s[2 * r], s[2 * r + 1]), b = fmaxf(s[2 * r + 4], s[2 * r + 5]);
#pragma unroll
        for (int j = 8; j < count; j += 8) {
            a = fmaxf(a, s[j + 2 * r]);
            b = fmaxf(b, s[j + 2 * r + 4]);
            a = fmaxf(a, s[j + 2 * r + 1]);
            b = fmaxf(b, s[j + 2 * r + 5]);
        }
        a = fmaxf(a, b);
        a = fmaxf(a, __shfl_xor_sync(~0u, a, 1));
        a = fmaxf(a, __shfl_xor_sync(~0u, a, 2));
        float former = state.maximum[r];
        bool grew = (a - former) * scale_log2 > slack;
        float now = grew ? a : former;
        correction[r] = grew ? exp2_fast((former - now) * scale_log2) : 1.0f;
        state.maximum[r] = now;
        negative[r] = now == -INFINITY ? 0.0f : -now * scale_log2;
        moved |= grew;
        sum[2 * r] = 0.0f;
        sum[2 * r + 1] = 0.0f;
    }
#pragma unroll
    for (int i = 0; i < count; i++) {
        int r = i / 2 % 2;
        float x = fmaf(s[i], scale_log2, negative[r]);
        s[i] = exp2_fast(x);
        sum[i % 4] += s[i];
    }
#pragma unroll
    for (int r = 0; r < 2; r++)
        state.sum[r] = fmaf(state.sum[r], correction[r], sum[2 * r] + sum[2 * r + 1]);
    return __any_sync(~0u, moved);
}

/* Scores to probabilities in place, against the maxima as they stand, without looking for
 * greater ones; `sum` gets this thread's sums. Returns false where that will not do: some
 * probability of this thread is so great that its type or a sum may overflow, or a score is NaN,
 * or a row has no maximum yet (its negated maximum is NaN then). */
template <typename Element, int count>
__device__ __forceinline__ bool softmax_trusting(float (&s)[count], const softmax_state &state,
                                                 float scale_log2, float (&sum)[2]) {
    constexpr float limit = std::is_same_v<Element, __nv_bfloat16> ? 0x1p60f : 0x1p14f;
    float negative[2], part[4] = {0, 0, 0, 0};
#pragma unroll
    for (int r = 0; r < 2; r++)
        negative[r] = state.maximum[r] == -INFINITY ? __int_as_float(0x7fffffff)
                                                    : -state.maximum[r] * scale_log2;
#pragma unroll
    for (int i = 0; i < count; i++) {
        float x = fmaf(s[i], scale_log2, negative[i / 2 % 2]);
        s[i] = exp2_fast(x);
        part[i % 4] += s[i];
    }
    sum[0] = part[0] + part[1];
    sum[1] = part[2] + part[3];
    return sum[0] < limit && sum[1] < limit;
}

/* Puts -inf where a thread's two rows may not look. `row` is its first row, `column` its first
 * column of the block. */
template <int count>
__device__ __forceinline__ void mask_after(float (&s)[count], const attention_parameters &p,
                                           int row, int column) {
    int end[2];
#pragma unroll
    for (int r = 0; r < 2; r++)
        end[r] = min(p.key_length, row + 8 * r + p.shift_right + 1) - column;
#pragma unroll
    for (int i = 0; i < count; i++)
        if (i / 4 * 8 + i % 2 >= end[i / 2 % 2]) s[i] = -INFINITY;
}

template <int count>
__device__ __forceinline__ void mask_before(float (&s)[count], const attention_parameters &p,
                                            int row, int column) {
#pragma unroll
    for (int i = 0; i < count; i++)
        if (i / 4 * 8 + i % 2 < row + 8 * (i / 2 % 2) + p.shift_left - column) s[i] = -INFINITY;
}

/* Four words a lane, of columns 2t, 2t+1 of four chunks of 8 columns: afterwards lane t of a
 * quad has all of chunk t. */
__device__ __forceinline__ void gather_chunks(uint32_t (&w)[4], int t) {
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
        uint32_t got = __shfl_xor_sync(~0u, t & 1 ? w[i] : w[i + 1], 1);
        (t & 1 ? w[i] : w[i + 1]) = got;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t got = __shfl_xor_sync(~0u, t & 2 ? w[i] : w[i + 2], 2);
        (t & 2 ? w[i] : w[i + 2]) = got;
    }
}

/* Divides by the sums, rounds and writes a warp's 16 rows, 64 contiguous bytes a row and
 * instruction. */
template <typename Shape>
__device__ __forceinline__ void write_rows(const attention_parameters &p,
                                           const attention_tile &tile, int row,
                                           const float (&o)[Shape::D / 2], softmax_state &state) {
    int t = threadIdx.x % 4;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float sum = state.sum[r];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        float inverse = sum == 0.0f ? 0.0f : __fdividef(1.0f, sum);
        int i = row + 8 * r;
        bool inside = i < p.query_length;
        if (p.lse && t == 0 && inside) {
            float lse = sum == 0.0f
                            ? -INFINITY
                            : (state.maximum[r] * p.scale_log2 + __log2f(sum)) * 0.69314718f;
            p.lse[tile.batch * p.lse_batch + tile.head * p.lse_head + i * p.lse_row] = lse;
        }
        char *out = p.out +
                    2 * (tile.batch * p.out_batch + tile.head * p.out_head + i * p.out_row) +
                    16 * t;
#pragma unroll
        for (int j = 0; j < Shape::D / 32; j++) {
            uint32_t w[4];
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const float *pair = &o[16 * j + 4 * c + 2 * r];
                w[c] = pack<typename Shape::Element>(pair[0] * inverse, pair[1] * inverse);
            }
            gather_chunks(w, t);
            if (inside && 32 * j + 8 * t < p.head_size)
                *reinterpret_cast<uint4 *>(out + 64 * j) = make_uint4(w[0], w[1], w[2], w[3]);
        }
    }
}

/* S = Q·Kᵀ of one block. */
template <typename Shape>
__device__ __forceinline__ void issue_scores(float (&s)[Shape::N / 2], uint32_t query,
                                             uint32_t key) {
    uint32_t a = panel_place(query, 8192), b = panel_place(key, Shape::N * 128);
#pragma unroll
    for (int i = 0; i < Shape::D / 16; i++)
        product<typename Shape::Element, Shape::N>::shared(
            s, panel_descriptor(a + (i / 4 * 8192 + i % 4 * 32) / 16),
            panel_descriptor(b + (i / 4 * Shape::N * 128 + i % 4 * 32) / 16), i > 0);
    product_commit();
}

/* O += P·V of one block. */
template <typename Shape>
__device__ __forceinline__ void issue_output(float (&o)[Shape::D / 2],
                                             const uint32_t (&probabilities)[Shape::N / 4],
                                             uint32_t value) {
    uint32_t b = panel_place(value, Shape::N * 128);
#pragma unroll
    for (int i = 0; i < Shape::N / 16; i++)
        product<typename Shape::Element, Shape::D>::registers(
            o, probabilities + 4 * i, panel_descriptor(b + i * 2048 / 16), 1);
    product_commit();
}

constexpr int vote_name = 8; /* of the first consumer warpgroup's barrier */

template <typename Shape>
struct turn {
    static constexpr int first_name = 1;
    static __device__ __forceinline__ void begin(int group) {
        if constexpr (Shape::turns) {
            if (group == Shape::groups - 1) named_arrive(first_name, 256);
        }
    }
    static __device__ __forceinline__ void take(int group) {
        if constexpr (Shape::turns) named_sync(first_name + group, 256);
    }
    static __device__ __forceinline__ void pass(int group) {
        if constexpr (Shape::turns)
            named_arrive(first_name + (group == Shape::groups - 1 ? 0 : group + 1), 256);
    }
};

/* One arrival a warp. */
__device__ __forceinline__ void release(uint32_t empty) {
    if (threadIdx.x % 32 == 0) barrier_arrive(empty);
}

/* A consumer warpgroup: its scores, probabilities and output, its places in the rings, and the rows
 * that it works on. Everything is inlined into run, so that arrays are registers. */
template <typename Shape>
struct consumer {
    using Element = typename Shape::Element;
    static constexpr int N = Shape::N, D = Shape::D;

    const attention_parameters &p;
    const attention_memory<Shape> &memory;
    const int group, lane, thread_row; /* thread_row: of the warpgroup's 64, a thread's first */
    tile_reader<Shape> reader;
    ring_place<Shape::stages> key, value;
    ring_place<Shape::query_stages> query;
    float s[N / 2], o[D / 2], correction[2];
    uint32_t probabilities[N / 4];
    softmax_state state;
    key_blocks blocks;   /* of the tile */
    int first_row, last; /* of the warpgroup: its first row, the last block that it needs */

    __device__ __forceinline__ consumer(const attention_parameters &p,
                                        const attention_memory<Shape> &memory, int group)
        : p(p), memory(memory), group(group), lane(threadIdx.x % 32),
          thread_row(threadIdx.x / 32 % 4 * 16 + lane / 4) {}

    __device__ __forceinline__ void wait_key() {
        barrier_wait(memory.key_full(key.stage), key.parity);
    }
    __device__ __forceinline__ void wait_value() {
        barrier_wait(memory.value_full(value.stage), value.parity);
    }
    __device__ __forceinline__ void wait_query() {
        barrier_wait(memory.query_full(query.stage, group), query.parity);
    }
    __device__ __forceinline__ void release_key() {
        release(memory.key_empty(key.stage));
        key.advance();
    }
    __device__ __forceinline__ void release_value() {
        release(memory.value_empty(value.stage));
        value.advance();
    }
    __device__ __forceinline__ void release_query() {
        release(memory.query_empty(query.stage, group));
    }

    __device__ __forceinline__ void scores() {
        issue_scores<Shape>(s, memory.query(query.stage, group),
                            memory.key() + key.stage * Shape::block_bytes);
    }
    __device__ __forceinline__ void output() {
        issue_output<Shape>(o, probabilities, memory.value() + value.stage * Shape::block_bytes);
    }

    /* Only blocks on the edge of what this warpgroup's rows attend are masked. */
    __device__ __forceinline__ void mask(int n) {
        int row = first_row + thread_row, column = n * N + lane % 4 * 2;
        if ((n + 1) * N > min(p.key_length, first_row + p.shift_right + 1))
            mask_after(s, p, row, column);
        if (n * N < first_row + 63 + p.shift_left) mask_before(s, p, row, column);
    }
    __device__ __forceinline__ void round_probabilities() {
#pragma unroll
        for (int i = 0; i < N / 4; i++) probabilities[i] = pack<Element>(s[2 * i], s[2 * i + 1]);
    }
    __device__ __forceinline__ void correct_output() {
#pragma unroll
        for (int i = 0; i < D / 2; i++) o[i] *= correction[i / 2 % 2];
    }
    __device__ __forceinline__ void write(const attention_tile &tile) {
        write_rows<Shape>(p, tile, first_row + thread_row, o, state);
    }

    /* Lets the blocks go by that all rows of the warpgroup mask, and as many turns. */
    __device__ __forceinline__ void pass_over() {
#pragma unroll 1
        for (int n = blocks.last; n > last; n--) {
            wait_key();
            release_key();
            turn<Shape>::take(group);
            turn<Shape>::pass(group);
            wait_value();
            release_value();
        }
    }

    /* The last block's scores, which are there, become the first probabilities. */
    __device__ __forceinline__ void first_block() {
        state = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}};
#pragma unroll
        for (int i = 0; i < D / 2; i++) o[i] = 0.0f;
        release_key();
        if (blocks.first == last) release_query();
        mask(last);
        softmax_block(s, state, p.scale_log2, correction);
        round_probabilities();
        if (last > blocks.first) wait_key();
    }

    /* Waits for the output's last block, once the next block's keys are there. That wait is a
     * branch, and has to stand here: without one the assembler moves the wait for the output up
     * into the softmax. It moves the softmax's additions down behind it unless the branch needs
     * them: `never` is false, for a sum is never negative. */
    __device__ __forceinline__ void finish_block(int n, bool moved, uint32_t never) {
        if (n > blocks.first) barrier_wait(memory.key_full(key.stage), key.parity ^ never);
        product_wait<0>();
        hold_registers(o);
        release_value();
        round_probabilities();
        if (moved) correct_output();
    }

    __device__ __forceinline__ void block_by_maximum(int n) {
        release_key();
        if (n == blocks.first) release_query();
        mask(n);
        bool moved = softmax_block(s, state, p.scale_log2, correction);
        hold_registers(s);
        finish_block(n, moved, state.sum[0] + state.sum[1] < 0.0f);
    }

    __device__ __forceinline__ void block_trusting(int n) {
        float sum[2];
        mask(n);
        bool good = softmax_trusting<Element>(s, state, p.scale_log2, sum);
        hold_registers(s);
        /* The second vote tells the compiler that the first is uniform: without it stages and
         * parities leave the uniform registers, and others spill. */
        bool again = __any_sync(~0u, named_any(vote_name + group, 128, !good));
        if (again) {
            /* All four warps compute the scores once more, and go by their maxima. */
            product_fence();
            scores();
            product_wait<0>();
            hold_registers(s);
            mask(n);
            softmax_block(s, state, p.scale_log2, correction);
        } else {
            state.sum[0] += sum[0];
            state.sum[1] += sum[1];
        }
        release_key();
        if (n == blocks.first) release_query();
        finish_block(n, again, 0);
    }

    __device__ __forceinline__ void middle_blocks() {
#pragma unroll 1
        for (int n = last - 1; n >= blocks.first; n--) {
            turn<Shape>::take(group);
            hold_registers(o);
            product_fence();
            scores();
            wait_value();
            product_fence();
            output();
            turn<Shape>::pass(group);
            product_wait<1>();
            hold_registers(s);
            if constexpr (Shape::trusting)
                block_trusting(n);
            else
                block_by_maximum(n);
        }
    }

    /* The tile's last product, and the next tile's first, which is computed while rows are
     * written. */
    __device__ __forceinline__ void cross_over(const attention_tile &tile) {
        wait_query();
        wait_key();
        turn<Shape>::take(group);
        hold_registers(o);
        product_fence();
        output();
        scores();
        turn<Shape>::pass(group);
        product_wait<1>();
        hold_registers(o);
        release_value();
        write(tile);
        product_wait<0>();
        hold_registers(s);
    }

    __device__ __forceinline__ void last_product(const attention_tile &tile) {
        turn<Shape>::take(group);
        hold_registers(o);
        product_fence();
        output();
        turn<Shape>::pass(group);
        product_wait<0>();
        hold_registers(o);
        release_value();
        write(tile);
    }

    __device__ __forceinline__ void run() {
        attention_tile tile = reader.next(memory, false);
        if (!tile.valid()) return;
        turn<Shape>::begin(group);
        blocks = blocks_of<Shape>(p, tile.row);
        first_row = tile.row + group * 64;
        last = last_of<Shape>(p, blocks, first_row);
        while (true) {
            pass_over();
            wait_query();
            wait_key();
            product_fence();
            scores();
            product_wait<0>();
            hold_registers(s);
            attention_tile next;
            int next_last = 0;
            while (true) {
                first_block();
                middle_blocks();
                query.advance();
                next = reader.next(memory, false);
                if (next.valid()) {
                    blocks = blocks_of<Shape>(p, next.row);
                    next_last = last_of<Shape>(p, blocks, next.row + group * 64);
                }
                wait_value();
                if (!next.valid() || next_last < blocks.last) break;
                cross_over(tile);
                tile = next;
                last = next_last;
                first_row = tile.row + group * 64;
            }
            last_product(tile);
            if (!next.valid()) break;
            tile = next;
            last = next_last;
            first_row = tile.row + group * 64;
        }
    }
};

template <typename Shape>
__global__ void __launch_bounds__(Shape::threads, 1)
    attention_kernel(const __grid_constant__ attention_parameters p) {
    extern __shared__ char raw[];
    attention_memory<Shape> memory{(shared_address(raw) + 1023) & ~1023u};
    int role = __shfl_sync(~0u, threadIdx.x / 128, 0);
    if (threadIdx.x == 0) {
        constexpr int warps = 4 * Shape::groups;
        for (int i = 0; i < Shape::stages; i++) {
            barrier_init(memory.key_full(i), 1);
            barrier_init(memory.value_full(i), 1);
            barrier_init(memory.key_empty(i), warps);
            barrier_init(memory.value_empty(i), warps);
        }
        for (int i = 0; i < Shape::query_stages * Shape::groups; i++) {
            barrier_init(memory.query_full(0, i), 1);
            barrier_init(memory.query_empty(0, i), 4);
        }
        barrier_init(memory.tile_wanted(), 1);
        for (int i = 0; i < Shape::tile_slots; i++) {
            barrier_init(memory.tile_full(i), 1);
            barrier_init(memory.tile_empty(i), warps + 3);
        }
        barrier_init_fence();
    }
    __syncthreads();
    if (role == 0) {
        registers_give<Shape::producer_registers>();
        int warp = __shfl_sync(~0u, threadIdx.x / 32, 0);
        if (threadIdx.x % 32 == 0) {
            if (warp == 0)
                load_blocks(p, memory, &p.k, memory.key(), memory.key_full(0), memory.key_empty(0),
                            true);
            else if (warp == 1)
                load_queries(p, memory);
            else if (warp == 2)
                load_blocks(p, memory, &p.v, memory.value(), memory.value_full(0),
                            memory.value_empty(0), false);
            else
                deal_tiles(p, memory);
        }
    } else {
        registers_take<Shape::consumer_registers>();
        consumer<Shape>(p, memory, role - 1).run();
    }
}

} /* namespace fovea::hopper */
