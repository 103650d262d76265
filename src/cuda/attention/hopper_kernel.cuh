#pragma once

/* Attention forward for sm_90a: one producer warpgroup, two to four consumer warpgroups of 64
 * query rows each. NOTES.md beside this has the argument. Method: FlashAttention-3 (arXiv
 * 2407.08608, sections 3.1 and 3.2) for the division of work and the overlap of softmax and
 * products; what differs from it stands in NOTES.md. */

#include "cuda/attention/grids.cuh"
#include "cuda/attention/hopper_options.cuh"
#include "cuda/attention/quads.cuh"
#include "cuda/hopper/barrier.cuh"
#include "cuda/hopper/copy.cuh"
#include "cuda/hopper/wgmma.cuh"

#include <type_traits>

namespace fovea::hopper {

/* What rows attend: row i of query_length the keys i + shift_left … i + shift_right of key_length. */
struct attention_band {
    int32_t query_length, key_length, shift_left, shift_right;
};

/* Of batches whose sequences differ; int32 on the device, NULL: not given. */
struct attention_sequences {
    const int32_t *query_starts, *key_starts, *keys_used, *pages;
    int64_t query_starts_step, key_starts_step, keys_used_step, pages_batch, pages_step;
    int32_t batch, page_size, page_count;
    int32_t left, right; /* bounds of the window from a query's position; at most 2^29 away */
    int32_t offset;      /* of query 0's position */
    bool bottom_right;   /* which is further by the keys more than queries */
};

struct attention_parameters : attention_band {
    CUtensorMap q, k, v;
    char *out;
    float *lse;                                                         /* NULL: not wanted */
    int64_t out_batch, out_head, out_row, lse_batch, lse_head, lse_row; /* strides in elements */
    int32_t query_heads, group, value_size;
    float scale_log2;
    /* Tiles are numbered section by section; a section is `section` heads of all batches, whose
     * keys and values stay in the L2, and within it the last rows come first, because causal
     * rows grow longer. */
    int32_t tiles, row_tiles, heads, section;
    bool descending;
    uint32_t *counter; /* tiles taken after the first ones; NULL: dealt in turns */
    /* Whole rounds of tiles leave `rest` ones, which are shared: as many blocks have the blocks of keys
     * from `cut` on of one each, the others take in turns what comes before. 0: all tiles are whole. */
    int32_t rest, cut;
    uint32_t *arrivals; /* of those tiles, a word a warp */
    float4 *parts;      /* what the warp that is done first leaves for the other one */
    const float *sinks; /* of varied shapes; NULL: none */
    int64_t sinks_step;
    attention_sequences sequences; /* of varied shapes */
};

struct modified_parameters : attention_parameters {
    attention_options options;
};

template <typename Element_, int D_, int N_, int groups_, int stages_, int queries_, bool turns_,
          bool trusting_, bool varied_ = false, int planes_ = 1, int option_ = 0, int drawers_ = 0>
struct attention_shape {
    using Element = Element_;
    static constexpr int D = D_;           /* head size, a multiple of 64 */
    static constexpr int N = N_;           /* keys a block */
    static constexpr int groups = groups_; /* consumer warpgroups */
    static constexpr int stages = stages_; /* blocks of K, and of V, in shared memory */
    /* Blocks of 64 rows of Q in shared memory. One more than a tile has hides how long the next ones take: what a
     * warpgroup leaves is for the one after it. */
    static constexpr int queries = queries_;
    static_assert(queries >= groups);
    static constexpr bool turns = turns_; /* warpgroups take turns at the tensor cores */
    static constexpr bool trusting =
        trusting_;                          /* maxima are taken again only where sums ask for it */
    static constexpr bool varied = varied_; /* sequences have lengths of their own, or pages */
    /* Terms that a number of q, k or v is the sum of; a tile is that many, one behind the other. */
    static constexpr int planes = planes_;
    /* Scores may be modified, and of so many bytes may an element of a bias be. */
    static constexpr int option = option_;
    static constexpr bool modified = option > 0;
    static_assert(!modified || (!trusting && !varied), "not both");
    /* There is dropout, and behind the consumers are so many warpgroups that draw for it. */
    static constexpr int drawers = drawers_;
    static constexpr bool drops = drawers > 0, has_options = modified || drops;
    static_assert(!drops || (!varied && N <= 128), "a drawing lane begins four keys");
    /* Tiles that do not fill the device may be shared. */
    static constexpr bool shares = !varied && !has_options && planes == 1 && groups > 1;
    static constexpr int part_size = 32 * (D / 8 + 1); /* float4 that a warp's sums take */
    static constexpr int warpgroups = 1 + groups + drawers;
    static constexpr int rows = 64 * groups, threads = 128 * warpgroups, panels = D / 64;
    static constexpr int query_bytes = planes * 64 * D * 2, block_bytes = planes * N * D * 2;
    static constexpr int option_bytes = rows * N * option;
    static constexpr int draw_stages = drops ? 2 + drawers : 0,
                         draw_bytes = rows * N / 8, /* a bit a score */
        begun_bytes = 4 * N; /* what a drawing warp has of a block's keys, 16 bytes for four */
    /* A varied shape's dealer needs more, and its consumers of 64 columns have some to spare. */
    static constexpr bool spares = varied && D == 64;
    static constexpr int producer_registers = drops         ? 24
                                              : groups == 3 ? (spares ? 56 : 32)
                                              : varied      ? 40
                                                            : 24;
    static constexpr int drawer_registers = D > 128 ? 40 : 56;
    static constexpr int all_registers = 65536 / threads / 8 * 8 * warpgroups;
    static constexpr int consumer_registers =
        drops ? (all_registers - producer_registers - drawers * drawer_registers) / groups / 8 * 8
        : groups <= 2 ? (varied ? 232 : 240)
        : groups == 3 ? (spares ? 152 : 160)
                      : 112;
    /* A block has what it was launched with, in eights a thread: more would be waited for without end. */
    static_assert(producer_registers + drawers * drawer_registers + groups * consumer_registers <=
                  all_registers);
    static constexpr int tile_slots = 2, slot_bytes = varied ? 48 : 16;
    static constexpr int barriers = 4 * stages + 2 * queries + 2 * tile_slots + 1 + 2 * draw_stages;
    static constexpr int query_offset = 0, key_offset = queries * query_bytes,
                         value_offset = key_offset + stages * block_bytes,
                         option_offset = value_offset + stages * block_bytes,
                         draw_offset = option_offset + stages * option_bytes,
                         slot_offset = draw_offset + draw_stages * draw_bytes,
                         barrier_offset = slot_offset + tile_slots * slot_bytes,
                         factor_offset = barrier_offset + barriers * 8,
                         begun_offset = (factor_offset + 15) / 16 * 16,
                         shared_bytes = begun_offset + (planes > 1 ? 8 * stages : 0) +
                                        drawers * 4 * begun_bytes + 1024;
    static_assert(D % 64 == 0 && N % 16 == 0 && shared_bytes <= 232448);
};

template <typename Shape>
using parameters_of =
    std::conditional_t<Shape::has_options, modified_parameters, attention_parameters>;

/* Addresses of a block's shared memory. */
template <typename Shape>
struct attention_memory {
    uint32_t base;
    __device__ uint32_t query(int i) const { return base + i * Shape::query_bytes; }
    __device__ uint32_t key() const { return base + Shape::key_offset; }
    __device__ uint32_t value() const { return base + Shape::value_offset; }
    __device__ uint32_t option(int stage) const {
        return base + Shape::option_offset + stage * Shape::option_bytes;
    }
    /* Of the scores of a stage's block, by consumers' threads, a word for 64 keys. */
    __device__ uint32_t draws(int stage, int word) const {
        return base + Shape::draw_offset + stage * Shape::draw_bytes + word * Shape::rows * 8;
    }
    __device__ uint32_t slot(int i) const {
        return base + Shape::slot_offset + Shape::slot_bytes * i;
    }
    __device__ uint32_t barrier(int i) const { return base + Shape::barrier_offset + 8 * i; }
    /* Of a stage's keys (0) or values (1), where a tile has several planes. */
    __device__ uint32_t factor(int stage, int role) const {
        return base + Shape::factor_offset + 8 * stage + 4 * role;
    }
    __device__ uint32_t begun(int warp) const {
        return base + Shape::begun_offset + warp * Shape::begun_bytes;
    }
    __device__ uint32_t key_full(int i) const { return barrier(i); }
    __device__ uint32_t key_empty(int i) const { return barrier(Shape::stages + i); }
    __device__ uint32_t value_full(int i) const { return barrier(2 * Shape::stages + i); }
    __device__ uint32_t value_empty(int i) const { return barrier(3 * Shape::stages + i); }
    __device__ uint32_t query_full(int i) const { return barrier(4 * Shape::stages + i); }
    __device__ uint32_t query_empty(int i) const { return query_full(Shape::queries + i); }
    __device__ uint32_t tile_full(int i) const {
        return barrier(4 * Shape::stages + 2 * Shape::queries + i);
    }
    __device__ uint32_t tile_empty(int i) const { return tile_full(Shape::tile_slots + i); }
    __device__ uint32_t tile_wanted() const { return tile_full(2 * Shape::tile_slots); }
    __device__ uint32_t draws_full(int i) const { return tile_full(2 * Shape::tile_slots + 1 + i); }
    __device__ uint32_t draws_empty(int i) const { return draws_full(Shape::draw_stages + i); }
};

/* A place in a ring of `count` stages, and the parity of its barriers' phase. */
template <int count>
struct ring_place {
    int stage = 0;
    uint32_t parity = 0;
    __device__ void advance(int by = 1) {
        stage += by;
        if (stage >= count) {
            stage -= count;
            parity ^= 1;
        }
    }
};

/* The query rows that a tile starts at, and whose; part: 0: of all its keys, 1: of those from the cut on,
 * 2: of those before. */
struct attention_tile {
    int row, head, batch, part;
    __device__ bool valid() const { return row >= 0; }
};

/* Of varied shapes also what its sequence is: where it starts in packed tensors, and its band. */
struct varied_tile : attention_tile {
    int query_start, key_start;
    attention_band band;
};

template <typename Shape>
using tile_of = std::conditional_t<Shape::varied, varied_tile, attention_tile>;

__device__ __forceinline__ const attention_band &band_of(const attention_parameters &p,
                                                         const attention_tile &) {
    return p;
}
__device__ __forceinline__ const attention_band &band_of(const attention_parameters &,
                                                         const varied_tile &tile) {
    return tile.band;
}

/* Blocks of keys that some row of a tile attends, `last` down to `first`; one block where none
 * is attended, so that every tile runs the same course and its rows come out as rows that saw
 * nothing. */
struct key_blocks {
    int first, last;
};

template <typename Shape>
__device__ __forceinline__ key_blocks blocks_of(const attention_band &p, int row) {
    int last_row = min(row + Shape::rows, p.query_length) - 1;
    int end = min(p.key_length, last_row + p.shift_right + 1), begin = max(0, row + p.shift_left);
    int last = max((end + Shape::N - 1) / Shape::N - 1, 0);
    return {min(begin / Shape::N, last), last};
}

/* Those of a tile or of its part. */
template <typename Shape>
__device__ __forceinline__ key_blocks blocks_of(const attention_parameters &p,
                                                const tile_of<Shape> &tile) {
    key_blocks blocks = blocks_of<Shape>(band_of(p, tile), tile.row);
    if constexpr (Shape::shares) {
        if (tile.part == 1) blocks.first = p.cut;
        if (tile.part == 2) blocks.last = p.cut - 1;
    }
    return blocks;
}

/* The last of those blocks that one warpgroup needs: the ones after it, which all its rows mask,
 * it passes over. */
template <typename Shape>
__device__ __forceinline__ int last_of(const attention_band &p, key_blocks blocks, int first_row) {
    if (first_row >= p.query_length) return blocks.first;
    int end = min(p.key_length, min(first_row + 64, p.query_length) + p.shift_right);
    return max(blocks.first, min(blocks.last, (end + Shape::N - 1) / Shape::N - 1));
}

template <typename Shape>
struct tile_reader {
    ring_place<Shape::tile_slots> place;
    /* Called by one lane of a producer's warp (`alone`) or by all lanes of a consumer's warp. */
    __device__ tile_of<Shape> next(const attention_memory<Shape> &memory, bool alone) {
        barrier_wait(memory.tile_full(place.stage), place.parity);
        tile_of<Shape> tile = {}; /* or its registers would be kept from call to call */
        bool reads = alone || threadIdx.x % 32 == 0;
        if (reads) {
            int4 first = load_slot(memory.slot(place.stage));
            tile.row = first.x, tile.head = first.y, tile.batch = first.z, tile.part = first.w;
            if constexpr (Shape::varied) {
                int4 second = load_slot(memory.slot(place.stage) + 16);
                int4 third = load_slot(memory.slot(place.stage) + 32);
                tile.query_start = second.x, tile.key_start = second.y;
                tile.band = {third.x, third.y, third.z, third.w};
            }
            barrier_arrive(memory.tile_empty(place.stage));
        }
        if (!alone) {
            broadcast(tile.row), broadcast(tile.head), broadcast(tile.batch);
            if constexpr (Shape::shares) broadcast(tile.part);
            if constexpr (Shape::varied) {
                broadcast(tile.query_start), broadcast(tile.band.query_length);
                broadcast(tile.band.key_length);
                broadcast(tile.band.shift_left), broadcast(tile.band.shift_right);
            }
        }
        place.advance();
        return tile;
    }

  private:
    static __device__ int4 load_slot(uint32_t slot) {
        int4 words;
        asm volatile("ld.shared.v4.s32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                     : "r"(slot)
                     : "memory");
        return words;
    }
    static __device__ void broadcast(int &value) { value = __shfl_sync(~0u, value, 0); }
};

/* ---- The producer warpgroup: a lane of each of its warps deals tiles, loads Q, K or V  ---- */

__device__ __forceinline__ void store_slot(uint32_t slot, int4 words) {
    asm volatile("st.shared.v4.s32 [%0], {%1, %2, %3, %4};" ::"r"(slot), "r"(words.x), "r"(words.y),
                 "r"(words.z), "r"(words.w)
                 : "memory");
}

__device__ __forceinline__ int clamped(int value, int low, int high) {
    return min(max(value, low), high);
}

/* The sequences of a varied batch one after the other: tiles are numbered sequence by sequence, and a
 * dealer's numbers only rise. Lengths that the device alone knows are cut to what the tensors have. */
struct sequence_walk {
    int batch = -1, tiles_before = 0, row_tiles = 0; /* row_tiles: of a head of the sequence */
    int query_start = 0, key_start = 0;
    attention_band band;

    __device__ void advance(const attention_parameters &p, int rows) {
        const attention_sequences &s = p.sequences;
        tiles_before += row_tiles * p.query_heads;
        row_tiles = 0;
        if (++batch >= s.batch) return;
        band.query_length = p.query_length, band.key_length = p.key_length;
        if (s.query_starts) {
            query_start = clamped(s.query_starts[batch * s.query_starts_step], 0, p.query_length);
            band.query_length = clamped(s.query_starts[(batch + 1) * s.query_starts_step],
                                        query_start, p.query_length) -
                                query_start;
        }
        if (s.key_starts) {
            key_start = clamped(s.key_starts[batch * s.key_starts_step], 0, p.key_length);
            band.key_length =
                clamped(s.key_starts[(batch + 1) * s.key_starts_step], key_start, p.key_length) -
                key_start;
        }
        if (s.keys_used)
            band.key_length = clamped(s.keys_used[batch * s.keys_used_step], 0, band.key_length);
        int offset = s.offset + (s.bottom_right ? band.key_length - band.query_length : 0);
        band.shift_left = clamped(offset + s.left, -(1 << 29), 1 << 29);
        band.shift_right = clamped(offset + s.right, -(1 << 29), 1 << 29);
        row_tiles = (band.query_length + rows - 1) / rows;
    }

    /* The tile of a number, its longest rows first; false where there are no more. */
    __device__ bool find(const attention_parameters &p, int rows, int number, int4 (&slot)[3]) {
        while (batch < 0 || number >= tiles_before + row_tiles * p.query_heads) {
            if (batch >= p.sequences.batch) return false;
            advance(p, rows);
        }
        int within = number - tiles_before, row = within / p.query_heads;
        slot[0] = {(row_tiles - 1 - row) * rows, within - row * p.query_heads, batch, 0};
        slot[1] = {query_start, key_start, 0, 0};
        slot[2] = {band.query_length, band.key_length, band.shift_left, band.shift_right};
        return true;
    }
};

template <typename Shape>
__device__ void deal_tiles(const attention_parameters &p, const attention_memory<Shape> &memory) {
    ring_place<Shape::tile_slots> place;
    sequence_walk walk;
    for (int round = 0;; round++) {
        /* Not before the keys' loader is at its last block: tiles reserved early cannot even out
         * the end. */
        if (round > 0) barrier_wait(memory.tile_wanted(), round - 1 & 1);
        /* Neither lengths nor the counter are looked at before that; a block's first tile needs no counter. */
        if (round == (Shape::varied ? 0 : 1)) wait_for_the_grid_before();
        int blocks = static_cast<int>(gridDim.x);
        int tile = p.counter && round > 0 ? blocks + static_cast<int>(atomicAdd(p.counter, 1u))
                                          : round * blocks + static_cast<int>(blockIdx.x);
        int part = 0, beyond = tile - (p.tiles - p.rest);
        if (Shape::shares && p.rest > 0 && beyond >= 0) {
            int helper = static_cast<int>(blockIdx.x) - p.rest;
            part = helper < 0 ? 1 : 2;
            if (helper >= 0) tile += helper + beyond / blocks * (blocks - p.rest) - beyond;
        }
        int4 slots[3] = {{-1, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}}, &slot = slots[0];
        if constexpr (Shape::varied) {
            walk.find(p, Shape::rows, tile, slots);
        } else if (tile < p.tiles) {
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
            slot = {row * Shape::rows, head % p.query_heads, head / p.query_heads, part};
        }
        barrier_wait(memory.tile_empty(place.stage), place.parity ^ 1);
        for (int i = 0; i < Shape::slot_bytes / 16; i++)
            store_slot(memory.slot(place.stage) + 16 * i, slots[i]);
        barrier_arrive(memory.tile_full(place.stage));
        place.advance();
        if (slot.x < 0) break;
    }
}

/* The panels of a tile of Q, K or V. Planes are numbered by the map's last dimension, and the heads of all
 * batches by the one before it. */
template <typename Shape>
__device__ __forceinline__ void copy_tile(uint32_t to, int panel_bytes, const CUtensorMap *map,
                                          uint32_t full, int row, int head, int heads, int batch,
                                          uint64_t policy) {
#pragma unroll 1
    for (int panel = 0; panel < Shape::panels; panel++)
        if constexpr (Shape::planes == 1)
            copy_box(to + panel * panel_bytes, map, full, panel * 64, row, head, batch, policy);
        else
            for (int plane = 0; plane < Shape::planes; plane++)
                copy_box(to + (plane * Shape::panels + panel) * panel_bytes, map, full, panel * 64,
                         row, batch * heads + head, plane, policy);
}

template <typename Shape>
__device__ void load_queries(const attention_parameters &p, const attention_memory<Shape> &memory) {
    tile_reader<Shape> reader;
    ring_place<Shape::queries> place;
    uint64_t policy = stream_policy();
    prefetch_map(&p.q);
    wait_for_the_grid_before();
    for (auto tile = reader.next(memory, true); tile.valid(); tile = reader.next(memory, true)) {
        int batch = tile.batch, start = 0;
        if constexpr (Shape::varied) {
            start = tile.query_start;
            if (p.sequences.query_starts) batch = 0;
        }
        for (int group = 0; group < Shape::groups; group++, place.advance()) {
            uint32_t full = memory.query_full(place.stage);
            barrier_wait(memory.query_empty(place.stage), place.parity ^ 1);
            barrier_expect(full, Shape::query_bytes);
            int row = start + tile.row + group * 64;
            copy_tile<Shape>(memory.query(place.stage), 8192, &p.q, full, row, tile.head,
                             p.query_heads, batch, policy);
        }
    }
}

/* Where block n of keys lies: the row, and the batch or the page. Of a sequence without keys one block
 * is wanted all the same: it comes from beyond the tensor, as zeros. */
template <typename Shape>
__device__ __forceinline__ void place_block(const attention_parameters &p,
                                            const tile_of<Shape> &tile, int n, int &row,
                                            int &batch) {
    row = n * Shape::N, batch = tile.batch;
    if constexpr (Shape::varied) {
        const attention_sequences &s = p.sequences;
        if (s.pages) {
            int number = row / s.page_size;
            batch = 0;
            if (row < tile.band.key_length)
                batch = clamped(s.pages[tile.batch * s.pages_batch + number * s.pages_step], 0,
                                s.page_count - 1);
            row = row < tile.band.key_length ? row - number * s.page_size : s.page_size;
        } else if (s.key_starts) {
            row += tile.key_start, batch = 0;
        }
    }
}

/* The bias or mask of a tile and block n of keys. */
template <typename Shape>
__device__ __forceinline__ void copy_options(const attention_options &o, uint32_t to, uint32_t full,
                                             const attention_tile &tile, int n, uint64_t policy) {
    int copies = o.element == 4 ? 2 : 1;
#pragma unroll 1
    for (int i = 0; i < copies; i++)
        copy_box(to + i * Shape::rows * 128, &o.map, full, n * Shape::N + i * 32,
                 tile.row * o.row_step, tile.head * o.head_step, tile.batch * o.batch_step, policy);
}

/* Keys or values: `ring`, `full` and `empty` are those of one of them. `deals`: keys, with what belongs to their
 * scores, and the dealer is told when to go on. */
template <typename Shape>
__device__ void load_blocks(const parameters_of<Shape> &p, const attention_memory<Shape> &memory,
                            const CUtensorMap *map, uint32_t ring, uint32_t full, uint32_t empty,
                            bool deals) {
    tile_reader<Shape> reader;
    ring_place<Shape::stages> place;
    uint64_t policy = keep_policy();
    prefetch_map(map);
    wait_for_the_grid_before();
    for (auto tile = reader.next(memory, true); tile.valid(); tile = reader.next(memory, true)) {
        key_blocks blocks = blocks_of<Shape>(p, tile);
        int head = tile.head / p.group;
        for (int n = blocks.last; n >= blocks.first; n--) {
            uint32_t arrived = full + 8 * place.stage;
            if (deals && n == blocks.first) barrier_arrive(memory.tile_wanted());
            barrier_wait(empty + 8 * place.stage, place.parity ^ 1);
            uint32_t bytes = Shape::block_bytes;
            if constexpr (Shape::modified)
                if (deals)
                    bytes += p.options.element == 4 ? 2 * p.options.box_bytes : p.options.box_bytes;
            barrier_expect(arrived, bytes);
            int row, batch;
            place_block<Shape>(p, tile, n, row, batch);
            copy_tile<Shape>(ring + place.stage * Shape::block_bytes, Shape::N * 128, map, arrived,
                             row, head, p.query_heads / p.group, batch, policy);
            if constexpr (Shape::modified)
                if (deals && p.options.element)
                    copy_options<Shape>(p.options, memory.option(place.stage), arrived, tile, n,
                                        policy);
            place.advance();
        }
    }
}

/* ---- The warpgroups that draw ------------------------------------------------------------- */

/* One arrival a warp. */
__device__ __forceinline__ void release(uint32_t empty) {
    if (threadIdx.x % 32 == 0) barrier_arrive(empty);
}

/* What dropout leaves of each block's scores, in words as consumers' threads want them. A warp draws for the same 16
 * rows of every consumer warpgroup, so that what the keys alone decide is done once for all. Drawers take blocks in
 * turns. */
template <typename Shape>
__device__ void draw_blocks(const parameters_of<Shape> &p, const attention_memory<Shape> &memory,
                            int drawer) {
    if constexpr (Shape::drops) {
        const fovea_cuda_attention &a = p.options.problem;
        tile_reader<Shape> reader;
        ring_place<Shape::draw_stages> place;
        int thread = threadIdx.x % 128, lane = thread % 32, turn = 0;
        uint32_t begun = memory.begun(drawer * 4 + thread / 32);
        for (auto tile = reader.next(memory, false); tile.valid();
             tile = reader.next(memory, false)) {
            key_blocks blocks = blocks_of<Shape>(p, tile);
            draw_row rows[Shape::groups];
            sequence s = {};
            s.batch = tile.batch;
#pragma unroll
            for (int g = 0; g < Shape::groups; g++)
                rows[g] =
                    ::begin_row(a, s, tile.head,
                                tile.row + g * 64 + thread / 32 * 16 + lane / 4 + lane % 2 * 8);
#pragma unroll 1
            for (int n = blocks.last; n >= blocks.first; n--, place.advance()) {
                if (Shape::drawers > 1) {
                    bool mine = turn == drawer;
                    if (++turn == Shape::drawers) turn = 0;
                    if (!mine) continue;
                }
                __syncwarp(); /* nobody reads the words of the block before any more */
                if (lane < Shape::N / 4)
                    store_four_words(begun + lane * 16,
                                     begin_words(a, n * (Shape::N / 4) + lane, rows[0]));
                __syncwarp();
                barrier_wait(memory.draws_empty(place.stage), place.parity ^ 1);
#pragma unroll 1
                for (int i = 0; i < Shape::N / 64; i++) {
                    uint32_t words[Shape::groups];
                    draw_scores(a, rows, begun + i * 256, words);
#pragma unroll
                    for (int g = 0; g < Shape::groups; g++)
                        store_word(memory.draws(place.stage, i) + g * 512 + thread * 4, words[g]);
                }
                barrier_arrive(memory.draws_full(place.stage));
            }
        }
    }
}

/* ---- The consumer warpgroups -------------------------------------------------------------- */

__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* A thread's two rows: the maximum that exponents are taken against, and its own part of the
 * sum. */
struct softmax_state {
    float maximum[2], sum[2];
};

/* The greatest score of one of a thread's two rows, the same in the four lanes that share it: by two
 * chains, each half as long. */
template <int count>
__device__ __forceinline__ float row_maximum(const float (&s)[count], int r) {
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
    return fmaxf(a, __shfl_xor_sync(~0u, a, 2));
}

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
        float a = row_maximum(s, r);
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
 * or a row has no maximum yet (all of its probabilities are infinite or NaN then). */
template <typename Element, int count>
__device__ __forceinline__ bool softmax_trusting(float (&s)[count], const softmax_state &state,
                                                 float scale_log2, float (&sum)[2]) {
    constexpr float limit = std::is_same_v<Element, __nv_bfloat16> ? 0x1p60f : 0x1p14f;
    float origin[2], part[4];
#pragma unroll
    for (int r = 0; r < 2; r++) origin[r] = state.maximum[r] * scale_log2;
#pragma unroll
    for (int i = 0; i < count; i++) {
        s[i] = exp2_fast(fmaf(s[i], scale_log2, -origin[i / 2 % 2]));
        part[i % 4] = i < 4 ? s[i] : part[i % 4] + s[i];
    }
    sum[0] = part[0] + part[1];
    sum[1] = part[2] + part[3];
    return sum[0] < limit && sum[1] < limit;
}

/* Puts -inf where a thread's two rows may not look. `row` is its first row, `column` its first
 * column of the block. */
template <int count>
__device__ __forceinline__ void mask_after(float (&s)[count], const attention_band &p, int row,
                                           int column) {
    int end[2];
#pragma unroll
    for (int r = 0; r < 2; r++)
        end[r] = min(p.key_length, row + 8 * r + p.shift_right + 1) - column;
#pragma unroll
    for (int i = 0; i < count; i++)
        if (i / 4 * 8 + i % 2 >= end[i / 2 % 2]) s[i] = -INFINITY;
}

template <int count>
__device__ __forceinline__ void mask_before(float (&s)[count], const attention_band &p, int row,
                                            int column) {
#pragma unroll
    for (int i = 0; i < count; i++)
        if (i / 4 * 8 + i % 2 < row + 8 * (i / 2 % 2) + p.shift_left - column) s[i] = -INFINITY;
}

/* The sink's part of a row's sum, which counts against the row's maximum. A row that attends nothing has
 * the sink's logit as its maximum. */
__device__ __forceinline__ void join_sink(const attention_parameters &p, int head, float &maximum,
                                          float &sum) {
    float sink = p.sinks[head * p.sinks_step] * 1.44269504f;
    if (maximum == -INFINITY) {
        maximum = sink / p.scale_log2;
        sum = sink == -INFINITY ? 0.0f : 1.0f;
    } else {
        sum += exp2_fast(sink - maximum * p.scale_log2);
    }
}

/* What scores are multiplied by to be in units of log 2, which some modified ones are. */
template <typename Shape>
__device__ __forceinline__ float unit_of(const parameters_of<Shape> &p) {
    if constexpr (Shape::modified)
        return p.options.unit;
    else
        return p.scale_log2;
}

/* Divides by the sums, rounds and writes a warp's 16 rows, 64 contiguous bytes a row and
 * instruction. part: sums that another warp has of the same rows. */
template <typename Shape>
__device__ __forceinline__ void
write_rows(const parameters_of<Shape> &p, const tile_of<Shape> &tile, int row,
           const float (&o)[Shape::D / 2], softmax_state &state, const float4 *part = nullptr) {
    int t = threadIdx.x % 4;
    float unit = unit_of<Shape>(p), kept = 1.0f;
    if constexpr (Shape::drops) kept = p.options.problem.keep;
    float weight[2] = {1.0f, 1.0f}, its_weight[2];
    if (part) {
        float4 its = __ldcg(part + 4 * Shape::D);
        float maxima[2] = {its.x, its.y}, sums[2] = {its.z, its.w};
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float most = fmaxf(state.maximum[r], maxima[r]);
            float base = most == -INFINITY ? 0.0f : most;
            weight[r] = exp2_fast((state.maximum[r] - base) * unit);
            its_weight[r] = exp2_fast((maxima[r] - base) * unit);
            state.maximum[r] = most;
            state.sum[r] = state.sum[r] * weight[r] + sums[r] * its_weight[r];
        }
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float sum = state.sum[r];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        if constexpr (Shape::varied)
            if (p.sinks) join_sink(p, tile.head, state.maximum[r], sum);
        float inverse = sum == 0.0f ? 0.0f : __fdividef(1.0f, sum * kept);
        int i = row + 8 * r;
        bool inside = i < band_of(p, tile).query_length;
        if constexpr (Shape::varied) i += tile.query_start;
        if (p.lse && t == 0 && inside) {
            float lse =
                sum == 0.0f ? -INFINITY : (state.maximum[r] * unit + __log2f(sum)) * 0.69314718f;
            p.lse[tile.batch * p.lse_batch + tile.head * p.lse_head + i * p.lse_row] = lse;
        }
        char *out = p.out +
                    2 * (tile.batch * p.out_batch + tile.head * p.out_head + i * p.out_row) +
                    16 * t;
#pragma unroll
        for (int j = 0; j < Shape::D / 32; j++) {
            uint32_t w[4];
            float more[8] = {};
            if (part) {
                const float4 *at = part + 32 * (r * Shape::D / 16 + 2 * j);
                float4 x = __ldcg(at), y = __ldcg(at + 32);
                float b = its_weight[r] * inverse;
                more[0] = x.x * b, more[1] = x.y * b, more[2] = x.z * b, more[3] = x.w * b;
                more[4] = y.x * b, more[5] = y.y * b, more[6] = y.z * b, more[7] = y.w * b;
            }
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const float *pair = &o[16 * j + 4 * c + 2 * r];
                float a = part ? weight[r] * inverse : inverse;
                float first = pair[0] * a, second = pair[1] * a;
                if (part) first += more[2 * c], second += more[2 * c + 1];
                w[c] = pack_two<typename Shape::Element>(first, second);
            }
            gather_chunks(w, t);
            if (inside && 32 * j + 8 * t < p.value_size)
                *reinterpret_cast<uint4 *>(out + 64 * j) = make_uint4(w[0], w[1], w[2], w[3]);
        }
    }
}

/* S = Q·Kᵀ of one block, or S += Q·Kᵀ. */
template <typename Shape, bool add = false>
__device__ __forceinline__ void issue_scores(float (&s)[Shape::N / 2], uint32_t query,
                                             uint32_t key) {
    uint32_t a = panel_place(query, 8192), b = panel_place(key, Shape::N * 128);
#pragma unroll
    for (int i = 0; i < Shape::D / 16; i++)
        product<typename Shape::Element, Shape::N>::shared(
            s, panel_descriptor(a + (i / 4 * 8192 + i % 4 * 32) / 16),
            panel_descriptor(b + (i / 4 * Shape::N * 128 + i % 4 * 32) / 16), add || i > 0);
}

/* O += P·V of one block, or O = P·V, for so many columns of the output. */
template <typename Shape, int columns = Shape::D, bool add = true>
__device__ __forceinline__ void issue_output(float (&o)[columns / 2],
                                             const uint32_t (&probabilities)[Shape::N / 4],
                                             uint32_t value) {
    uint32_t b = panel_place(value, Shape::N * 128);
#pragma unroll
    for (int i = 0; i < Shape::N / 16; i++)
        product<typename Shape::Element, columns>::registers(
            o, probabilities + 4 * i, panel_descriptor(b + i * 2048 / 16), add || i > 0);
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

/* The course of a consumer warpgroup, whatever its numbers are: its places in the rings, the rows that it
 * works on. Work, which derives from it, has the registers and the products:
 *   begin_queries()  returns when a tile's queries are there
 *   scores()         issues the products of a block of keys; hold_scores() names their registers
 *   first_block()    makes the scores that are there the first probabilities of a tile
 *   middle_blocks()  all others of the tile, and what is due of the output
 *   cross_over()     the output's last block beside the next tile's first scores; writes the tile
 *   last_product()   the same where there is no such tile
 * Everything is inlined into run, so that arrays are registers. */
template <typename Shape, typename Work>
struct consumer_course {
    static constexpr int N = Shape::N, D = Shape::D;

    const parameters_of<Shape> &p;
    const attention_memory<Shape> &memory;
    const int group, lane, thread_row; /* thread_row: of the warpgroup's 64, a thread's first */
    tile_reader<Shape> reader;
    ring_place<Shape::stages> key, value;
    ring_place<Shape::queries> query;
    ring_place<Shape::draw_stages> draws;
    key_blocks blocks;     /* of the tile */
    int first_row, last;   /* of the warpgroup: its first row, the last block that it needs */
    key_blocks seen_whole; /* by all its rows */
    tile_of<Shape> tile;

    __device__ __forceinline__ consumer_course(const parameters_of<Shape> &p,
                                               const attention_memory<Shape> &memory, int group)
        : p(p), memory(memory), group(group), lane(threadIdx.x % 32),
          thread_row(threadIdx.x / 32 % 4 * 16 + lane / 4), query{group} {}

    __device__ __forceinline__ Work &work() { return static_cast<Work &>(*this); }

    __device__ __forceinline__ void wait_key() {
        barrier_wait(memory.key_full(key.stage), key.parity);
    }
    __device__ __forceinline__ void wait_value() {
        barrier_wait(memory.value_full(value.stage), value.parity);
    }
    __device__ __forceinline__ void wait_query() {
        barrier_wait(memory.query_full(query.stage), query.parity);
    }
    __device__ __forceinline__ void release_key() {
        release(memory.key_empty(key.stage));
        key.advance();
    }
    __device__ __forceinline__ void release_value() {
        release(memory.value_empty(value.stage));
        value.advance();
    }
    __device__ __forceinline__ void release_query() { release(memory.query_empty(query.stage)); }
    __device__ __forceinline__ void wait_draws() {
        barrier_wait(memory.draws_full(draws.stage), draws.parity);
    }
    __device__ __forceinline__ void release_draws() {
        barrier_arrive(memory.draws_empty(draws.stage));
        draws.advance();
    }
    __device__ __forceinline__ uint32_t query_place() { return memory.query(query.stage); }
    __device__ __forceinline__ uint32_t key_place() {
        return memory.key() + key.stage * Shape::block_bytes;
    }
    __device__ __forceinline__ uint32_t value_place() {
        return memory.value() + value.stage * Shape::block_bytes;
    }

    /* Only blocks on the edge of what this warpgroup's rows attend are masked. */
    __device__ __forceinline__ void mask(float (&s)[N / 2], int n) {
        int row = first_row + thread_row, column = n * N + lane % 4 * 2;
        const attention_band &band = band_of(p, tile);
        if (n >= seen_whole.first && n <= seen_whole.last) return;
        if (n > seen_whole.last) mask_after(s, band, row, column);
        if (n < seen_whole.first) mask_before(s, band, row, column);
    }

    __device__ __forceinline__ void begin_tile(const tile_of<Shape> &next, int next_last) {
        tile = next, last = next_last;
        first_row = tile.row + group * 64;
        const attention_band &band = band_of(p, tile);
        int end = min(band.key_length, first_row + band.shift_right + 1);
        seen_whole.last = max(end, 0) / N - 1;
        seen_whole.first = (max(first_row + 63 + band.shift_left, 0) + N - 1) / N;
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
            if constexpr (Shape::drops) {
                wait_draws();
                release_draws();
            }
        }
    }

    /* Waits for the output's last block, once the next block's keys are there. That wait is a
     * branch, and has to stand here: without one the assembler moves the wait for the output up
     * into the softmax. It moves the softmax's additions down behind it unless the branch needs
     * them: `never` is false, for a sum is never negative. */
    __device__ __forceinline__ void wait_output(int n, uint32_t never) {
        if (n > blocks.first) barrier_wait(memory.key_full(key.stage), key.parity ^ never);
        product_wait<0>();
    }

    __device__ __forceinline__ void run() {
        tile = reader.next(memory, false);
        if (!tile.valid()) return;
        turn<Shape>::begin(group);
        blocks = blocks_of<Shape>(p, tile);
        begin_tile(tile, last_of<Shape>(band_of(p, tile), blocks, tile.row + group * 64));
        while (true) {
            pass_over();
            work().begin_queries(tile);
            wait_key();
            product_fence();
            work().scores();
            product_wait<0>();
            work().hold_scores();
            tile_of<Shape> next;
            int next_last = 0;
            while (true) {
                work().first_block();
                work().middle_blocks();
                query.advance(Shape::groups);
                next = reader.next(memory, false);
                if (next.valid()) {
                    blocks = blocks_of<Shape>(p, next);
                    next_last = last_of<Shape>(band_of(p, next), blocks, next.row + group * 64);
                }
                wait_value();
                if (!next.valid() || next_last < blocks.last) break;
                work().cross_over(next);
                begin_tile(next, next_last);
            }
            work().last_product();
            if (!next.valid()) break;
            begin_tile(next, next_last);
        }
    }
};

/* The work on halves: P is rounded to them, the output summed by the products. */
template <typename Shape>
struct consumer : consumer_course<Shape, consumer<Shape>> {
    using Element = typename Shape::Element;
    using course = consumer_course<Shape, consumer<Shape>>;
    using course::blocks, course::first_row, course::group, course::last, course::memory, course::p;
    using course::key, course::lane, course::thread_row, course::tile, course::value;
    static constexpr int N = Shape::N, D = Shape::D;
    static constexpr bool loads_queries = false; /* a producer's warp does */
    static constexpr bool splits_keys = false;   /* they come as they are */
    /* Where the next tile has queries of its own, a tile's are released once, behind the loop. */
    static constexpr bool releases_late = Shape::queries >= 2 * Shape::groups;

    float s[N / 2], o[D / 2], correction[2];
    uint32_t probabilities[N / 4];
    softmax_state state;
    uint32_t kept[Shape::drops ? N / 64 : 1]; /* what dropout leaves of a block, a bit a score */

    using course::course;

    __device__ __forceinline__ void scores() {
        issue_scores<Shape>(s, this->query_place(), this->key_place());
        product_commit();
    }
    __device__ __forceinline__ void begin_queries(const tile_of<Shape> &) { this->wait_query(); }
    __device__ __forceinline__ void hold_scores() { hold_registers(s); }
    __device__ __forceinline__ void output() {
        uint32_t v = this->value_place();
        if constexpr (D > 128 && Shape::drops) {
            /* A block of four warpgroups begins with 128 registers a thread, too few for all sums of one product. */
            float(&left)[D / 4] = reinterpret_cast<float(&)[D / 4]>(o[0]);
            float(&right)[D / 4] = reinterpret_cast<float(&)[D / 4]>(o[D / 4]);
            issue_output<Shape, D / 2>(left, probabilities, v);
            issue_output<Shape, D / 2>(right, probabilities, v + D / 128 * N * 128);
        } else {
            issue_output<Shape>(o, probabilities, v);
        }
        product_commit();
    }

    __device__ __forceinline__ void round_probabilities() {
#pragma unroll
        for (int i = 0; i < N / 4; i++) {
            probabilities[i] = pack_two<Element>(s[2 * i], s[2 * i + 1]);
            if constexpr (Shape::drops)
                probabilities[i] &= kept_halves(kept[i / 16] << i % 16 / 2, i % 2);
        }
    }
    __device__ __forceinline__ void correct_output() {
#pragma unroll
        for (int i = 0; i < D / 2; i++) o[i] *= correction[i / 2 % 2];
    }
    /* Of a tile that is shared the warp that is done first leaves its sums and goes on; the other one adds them to its
     * own as it writes the rows. Who is which makes no difference: each adds two products. */
    __device__ __forceinline__ void write_part() {
        int number = (tile.batch * p.query_heads + tile.head) * p.row_tiles +
                     tile.row / Shape::rows - (p.tiles - p.rest);
        int warp = (number * Shape::groups + group) * 4 + threadIdx.x / 32 % 4;
        float4 *part = p.parts + int64_t{warp} * Shape::part_size + lane;
        uint32_t *arrivals = p.arrivals + warp, before = 0;
        if (lane == 0) before = atomicAdd(arrivals, 1u);
        if (__any_sync(~0u, before > 0)) {
            /* 1 for each of the two, and 2 for what lies there. */
            while (__any_sync(~0u, load_acquired(arrivals) != 4)) {
            }
            write_rows<Shape>(p, tile, first_row + thread_row, o, state, part);
            return;
        }
#pragma unroll
        for (int r = 0; r < 2; r++)
#pragma unroll
            for (int i = 0; i < D / 16; i++)
                part[32 * (r * D / 16 + i)] =
                    make_float4(o[8 * i + 2 * r], o[8 * i + 2 * r + 1], o[8 * i + 4 + 2 * r],
                                o[8 * i + 5 + 2 * r]);
        part[4 * D] = make_float4(state.maximum[0], state.maximum[1], state.sum[0], state.sum[1]);
        __threadfence();
        __syncwarp();
        if (lane == 0) atomicAdd(arrivals, 2u);
    }

    __device__ __forceinline__ void write() {
        if constexpr (Shape::shares)
            if (__any_sync(~0u, tile.part)) return write_part();
        write_rows<Shape>(p, tile, first_row + thread_row, o, state);
    }

    /* The same number, from which nothing is worked out ahead of the loop: registers are short. */
    static __device__ __forceinline__ int anew(int value) {
        asm volatile("" : "+r"(value));
        return value;
    }

    /* What the drawers have for this thread's scores of a block. */
    __device__ __forceinline__ void take_draws() {
        if constexpr (Shape::drops) {
            this->wait_draws();
#pragma unroll
            for (int i = 0; i < N / 64; i++)
                kept[i] = load_word(memory.draws(this->draws.stage, i) + group * 512 +
                                    threadIdx.x % 128 * 4);
            this->release_draws();
        }
    }

    /* The scores of block n, whose products are there, and the end of what they came from. */
    __device__ __forceinline__ void finish_scores(int n) {
        if constexpr (Shape::modified) {
            const attention_options &o = p.options;
            int row = anew(group * 64 + thread_row);
            scale_scores(o, s);
            if (o.problem.slopes)
                add_distances(o, tile.head, tile.row + row, n * N + lane % 4 * 2, s);
            if (o.element)
                apply_tile<Element, (Shape::option == 4)>(o, memory.option(key.stage),
                                                          Shape::rows * 128, row, s);
        }
        this->release_key();
        if (!releases_late && n == blocks.first) this->release_query();
        this->mask(s, n);
    }

    /* The last block's scores, which are there, become the first probabilities. */
    __device__ __forceinline__ void first_block() {
        state = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}};
#pragma unroll
        for (int i = 0; i < D / 2; i++) o[i] = 0.0f;
        finish_scores(last);
        softmax_block(s, state, unit_of<Shape>(p), correction);
        take_draws();
        round_probabilities();
        if constexpr (Shape::varied)
            if ((last + 1) * N > tile.band.key_length)
                clear_values(max(tile.band.key_length - last * N, 0));
        if (last > blocks.first) this->wait_key();
    }

    /* Rows of the block of values that the sequence does not have become zeros: what lies beyond it may
     * be NaN, which no probability of 0 would hide. Every warpgroup does so for itself. */
    __device__ __forceinline__ void clear_values(int first) {
        this->wait_value();
        uint32_t at = this->value_place();
        int chunks = (N - first) * 8;
        for (int i = threadIdx.x % 128; i < chunks * Shape::panels; i += 128) {
            int panel = i / chunks;
            store_slot(at + panel * N * 128 + first * 128 + (i - panel * chunks) * 16,
                       {0, 0, 0, 0});
        }
        asm volatile("fence.proxy.async;" ::: "memory");
        named_sync(vote_name + group, 128);
    }

    __device__ __forceinline__ void finish_block(int n, bool moved, uint32_t never) {
        this->wait_output(n, never);
        hold_registers(o);
        this->release_value();
        round_probabilities();
        if (moved) correct_output();
    }

    __device__ __forceinline__ void block_by_maximum(int n) {
        finish_scores(n);
        bool moved = softmax_block(s, state, unit_of<Shape>(p), correction);
        take_draws();
        hold_registers(s);
        finish_block(n, moved, state.sum[0] + state.sum[1] < 0.0f);
    }

    __device__ __forceinline__ void block_trusting(int n) {
        float sum[2];
        this->mask(s, n);
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
            this->mask(s, n);
            softmax_block(s, state, p.scale_log2, correction);
        } else {
            state.sum[0] += sum[0];
            state.sum[1] += sum[1];
        }
        this->release_key();
        if (!releases_late && n == blocks.first) this->release_query();
        take_draws();
        finish_block(n, again, 0);
    }

    /* The products of a block in the middle of a tile; its scores are there afterwards. */
    __device__ __forceinline__ void middle_products() {
        turn<Shape>::take(group);
        hold_registers(o);
        product_fence();
        scores();
        this->wait_value();
        product_fence();
        output();
        turn<Shape>::pass(group);
        product_wait<1>();
        hold_registers(s);
    }

    __device__ __forceinline__ void middle_blocks() {
#pragma unroll 1
        for (int n = last - 1; n >= blocks.first; n--) {
            middle_products();
            if constexpr (Shape::trusting)
                block_trusting(n);
            else
                block_by_maximum(n);
        }
        if constexpr (releases_late) this->release_query();
    }

    /* The tile's last product, and the next tile's first, which is computed while rows are
     * written. Where two warpgroups share the tensor cores, what the next one needs is waited for under the last
     * product; more of them do not gain by a turn that takes longer. */
    __device__ __forceinline__ void cross_over(const tile_of<Shape> &) {
        constexpr bool late = Shape::groups == 2;
        if constexpr (!late) this->wait_query(), this->wait_key();
        turn<Shape>::take(group);
        hold_registers(o);
        product_fence();
        output();
        if constexpr (late) this->wait_query(), this->wait_key(), product_fence();
        scores();
        turn<Shape>::pass(group);
        product_wait<1>();
        hold_registers(o);
        this->release_value();
        write();
        product_wait<0>();
        hold_registers(s);
    }

    __device__ __forceinline__ void last_product() {
        turn<Shape>::take(group);
        hold_registers(o);
        product_fence();
        output();
        turn<Shape>::pass(group);
        product_wait<0>();
        hold_registers(o);
        this->release_value();
        write();
    }
};

/* What a block of threads does, with consumers of the given kind. */
template <typename Shape, typename Consumer, typename Parameters>
__device__ __forceinline__ void attend(const Parameters &p) {
    extern __shared__ char raw[];
    let_the_next_grid_start();
    attention_memory<Shape> memory{(shared_address(raw) + 1023) & ~1023u};
    int role = __shfl_sync(~0u, threadIdx.x / 128, 0);
    if (threadIdx.x == 0) {
        constexpr int warps = 4 * Shape::groups;
        for (int i = 0; i < Shape::stages; i++) {
            barrier_init(memory.key_full(i), Consumer::splits_keys ? 4 : 1);
            barrier_init(memory.value_full(i), Consumer::splits_keys ? 4 : 1);
            barrier_init(memory.key_empty(i), warps);
            barrier_init(memory.value_empty(i), warps);
        }
        for (int i = 0; i < Shape::queries; i++) {
            barrier_init(memory.query_full(i), 1);
            barrier_init(memory.query_empty(i), 4);
        }
        barrier_init(memory.tile_wanted(), 1);
        for (int i = 0; i < Shape::tile_slots; i++) {
            barrier_init(memory.tile_full(i), 1);
            barrier_init(memory.tile_empty(i),
                         warps + (Consumer::loads_queries ? 2 : 3) + 4 * Shape::drawers);
        }
        for (int i = 0; i < Shape::draw_stages; i++) {
            barrier_init(memory.draws_full(i), 128); /* every thread arrives */
            barrier_init(memory.draws_empty(i), 32 * warps);
        }
        barrier_init_fence();
    }
    __syncthreads();
    if constexpr (Consumer::splits_keys) { /* two warpgroups: there are registers for both */
        wait_for_the_grid_before();
        if (role == 0)
            Consumer::split_keys(p, memory);
        else
            Consumer(p, memory, role - 1).run();
    } else if (role == 0) {
        registers_give<Shape::producer_registers>();
        int warp = __shfl_sync(~0u, threadIdx.x / 32, 0);
        if (threadIdx.x % 32 == 0) {
            if (warp == 0)
                load_blocks(p, memory, &p.k, memory.key(), memory.key_full(0), memory.key_empty(0),
                            true);
            else if (warp == 1 && !Consumer::loads_queries)
                load_queries(p, memory);
            else if (warp == 2)
                load_blocks(p, memory, &p.v, memory.value(), memory.value_full(0),
                            memory.value_empty(0), false);
            else if (warp == 3)
                deal_tiles(p, memory);
        }
    } else if (role > Shape::groups) {
        registers_give<Shape::drawer_registers>();
        draw_blocks(p, memory, role - Shape::groups - 1);
    } else {
        registers_take<Shape::consumer_registers>();
        if constexpr (!Consumer::loads_queries) wait_for_the_grid_before();
        Consumer(p, memory, role - 1).run();
    }
}

template <typename Shape>
__global__ void __launch_bounds__(Shape::threads, 1)
    attention_kernel(const __grid_constant__ parameters_of<Shape> p) {
    attend<Shape, consumer<Shape>>(p);
}

} /* namespace fovea::hopper */
