#pragma once

/* What scores go through besides edges in the modified shapes of attention_kernel: softcap, ALiBi, a bias or a
 * mask, and dropout of probabilities. A thread's scores are of two rows of 64, as a warpgroup's product leaves
 * them; the meaning is that of scores.cuh.
 *
 * A bias or a mask comes with the keys it belongs to, by their barrier: a box of the tile's rows in lines of
 * 128 bytes, a mask's of 64, swizzled by as much; of f32 two boxes side by side. */

#include "cuda/attention/options.cuh"

#include <cuda.h>

namespace fovea::hopper {

struct attention_options {
    CUtensorMap map;                         /* of the bias or mask */
    int32_t element;                         /* its bytes; 1: a mask, 0: there is neither */
    int32_t box_bytes;                       /* that one copy brings */
    int32_t row_step, head_step, batch_step; /* 0: the same for all, else 1 */
    int32_t position;                        /* of query 0 */
    float unit;                              /* of scores that were modified, in those of log 2 */
    fovea_cuda_attention problem;
};

/* Products to scores; in units of log 2 where something is added to them or softcap makes them anew. */
template <int count>
__device__ __forceinline__ void scale_scores(const attention_options &o, float (&s)[count]) {
    const fovea_cuda_attention &a = o.problem;
    if (a.softcap < INFINITY) {
        float inverse = a.scale / a.softcap, top = a.softcap * score_unit;
#pragma unroll
        for (int i = 0; i < count; i++) s[i] = top * soft_limit<false>(s[i] * inverse);
    } else if (o.unit == 1) {
#pragma unroll
        for (int i = 0; i < count; i++) s[i] *= a.scale_log2;
    }
}

/* ALiBi: of query rows i and i + 8, from key j on. */
template <int count>
__device__ __forceinline__ void add_distances(const attention_options &o, int head, int i, int j,
                                              float (&s)[count]) {
    float slope = o.problem.slopes[head * o.problem.slopes_stride] * score_unit;
    int first = j - (o.position + i);
    float distance[2] = {(float)first, (float)(first - 8)};
#pragma unroll
    for (int n = 0; n < count; n++)
        s[n] = fmaf(slope, distance[n / 2 % 2] + (float)(n / 4 * 8 + n % 2), s[n]);
}

/* Two neighbouring elements of a tile. */
template <class Element>
__device__ __forceinline__ pack<Element, 2> load_two(uint32_t at) {
    pack<Element, 2> two;
    if constexpr (sizeof(Element) == 4) {
        asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];"
                     : "=f"(two.at[0]), "=f"(two.at[1])
                     : "r"(at));
    } else if constexpr (sizeof(Element) == 2) {
        uint32_t bits;
        asm volatile("ld.shared.b32 %0, [%1];" : "=r"(bits) : "r"(at));
        memcpy(&two, &bits, sizeof two);
    } else {
        uint16_t bits;
        asm volatile("ld.shared.u16 %0, [%1];" : "=h"(bits) : "r"(at));
        memcpy(&two, &bits, sizeof two);
    }
    return two;
}

/* change(score, element) for all of a thread's scores of 64 keys, whose elements are in rows row and row + 8 of a tile;
 * box: bytes from one box to the next; together: pairs of a row that are on their way at once. */
template <class Element, int together, class Change>
__device__ __forceinline__ void with_tile(uint32_t tile, int box, int row, int row_step,
                                          float (&s)[32], Change change) {
    constexpr uint32_t bytes = sizeof(Element), line = bytes == 1 ? 64 : 128;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        uint32_t begin = (row + 8 * h) * row_step * line;
        begin ^= (begin >> 3 & (line - 16)) ^ threadIdx.x % 4 * 2 * bytes;
#pragma unroll
        for (int first = 0; first < 8; first += together) {
            pack<Element, 2> two[together];
#pragma unroll
            for (int i = 0; i < together; i++) {
                int at = 8 * (first + i) * bytes;
                two[i] = load_two<Element>(tile + at / line * box + (begin ^ at % line));
            }
#pragma unroll
            for (int i = 0; i < 2 * together; i++)
                change(s[4 * (first + i / 2) + 2 * h + i % 2], two[i / 2].at[i % 2]);
        }
    }
}

/* Element: of the queries, and of a bias of 2 bytes; wide: there may be one of 4. */
template <class Element, bool wide>
__device__ __forceinline__ void apply_tile(const attention_options &o, uint32_t tile, int box,
                                           int row, float (&s)[32]) {
    constexpr int together = wide ? 8 : 4;
    auto add = [](float &score, auto bias) { score = fmaf(widen(bias), score_unit, score); };
    if (o.element == 1)
        with_tile<uint8_t, together>(tile, box, row, o.row_step, s, [](float &score, uint8_t may) {
            if (!may) score = -INFINITY;
        });
    else if (wide && o.element == 4)
        with_tile<float, together>(tile, box, row, o.row_step, s, add);
    else
        with_tile<Element, together>(tile, box, row, o.row_step, s, add);
}

/* ---- Dropout ------------------------------------------------------------------------------ */

__device__ __forceinline__ uint32_t load_word(uint32_t at) {
    uint32_t word;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(word) : "r"(at) : "memory");
    return word;
}
__device__ __forceinline__ uint4 load_four_words(uint32_t at) {
    uint4 words;
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                 : "r"(at)
                 : "memory");
    return words;
}
__device__ __forceinline__ void store_four_words(uint32_t at, uint4 words) {
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(words.x), "r"(words.y),
                 "r"(words.z), "r"(words.w)
                 : "memory");
}
__device__ __forceinline__ void store_word(uint32_t at, uint32_t word) {
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(at), "r"(word) : "memory");
}

__device__ __forceinline__ void set_where_below(uint32_t &bits, uint32_t word, uint32_t limit,
                                                uint32_t set) {
    asm("{\n.reg .pred below;\nsetp.lo.u32 below, %1, %2;\n@below or.b32 %0, %0, %3;\n}"
        : "+r"(bits)
        : "r"(word), "r"(limit), "r"(set));
}

/* What a row has no part in of its words of four keys: the words behind the second round are the first two of
 * these, and products by the third and the fourth; the keys of the third round are in it. */
__device__ __forceinline__ uint4 begin_words(const fovea_cuda_attention &a, uint32_t number,
                                             const draw_row &row) {
    draw_keys keys = begin_keys(a, number);
    uint64_t product = (uint64_t)PHILOX_FACTOR_0 * (keys.high ^ row.word[0]);
    return make_uint4(keys.low ^ (a.seed[0] + 2 * PHILOX_STEP_0), keys.first_low,
                      (uint32_t)(product >> 32) ^ (a.seed[1] + 2 * PHILOX_STEP_1),
                      (uint32_t)product);
}

/* What dropout leaves of 64 keys, a word a thread of each warpgroup, as its products leave the scores: byte 0 is of
 * the first row and even columns, byte 1 of odd ones, 2 and 3 of the second row; the top bit is of columns 0 to 7.
 * Even lanes draw for the first of their two rows, odd ones for the second, each the four keys that it shares with the
 * lane beside it. Draws are chains, so many go on side by side. begun: where begin_words of the keys lies. */
template <int groups>
__device__ __forceinline__ void draw_scores(const fovea_cuda_attention &a,
                                            const draw_row (&rows)[groups], uint32_t begun,
                                            uint32_t (&kept)[groups]) {
    uint32_t limit = kept_below(a);
#pragma unroll
    for (int g = 0; g < groups; g++) kept[g] = 0;
    begun += (threadIdx.x / 2 & 1) * 16;
#pragma unroll
    for (int n = 0; n < 8; n++) {
        uint4 common = load_four_words(begun + n * 32);
#pragma unroll
        for (int g = 0; g < groups; g++) {
            uint64_t first = (uint64_t)PHILOX_FACTOR_1 * (rows[g].word[1] ^ common.y);
            uint32_t words[4] = {(uint32_t)(first >> 32) ^ common.x, (uint32_t)first,
                                 rows[g].word[2] ^ common.z, common.w};
            draw_rounds<3>(a.seed, words);
#pragma unroll
            for (int w = 0; w < 4; w++)
                set_where_below(kept[g], words[w], limit, 1u << (8 * w + 7 - n));
        }
    }
    /* Even lanes want words 0 and 1 of both rows, odd ones 2 and 3. */
#pragma unroll
    for (int g = 0; g < groups; g++) {
        uint32_t other = __shfl_xor_sync(~0u, kept[g], 1);
        kept[g] = __byte_perm(kept[g], other, threadIdx.x & 1 ? 0x3276 : 0x5410);
    }
}

/* Ones in the halves of two scores that are kept: the top bits of bytes 0 and 1, or of 2 and 3. */
__device__ __forceinline__ uint32_t kept_halves(uint32_t kept, int row) {
    uint32_t halves;
    asm("prmt.b32 %0, %1, %1, %2;" : "=r"(halves) : "r"(kept), "r"(row ? 0xbbaa : 0x9988));
    return halves;
}

} /* namespace fovea::hopper */
