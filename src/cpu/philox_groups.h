/* Words of a Philox stream in groups of VF_WIDTH blocks of four. Lanes are blocks, dealt so that
 * transposing quads of lanes brings the words into their order. */
#ifndef FOVEA_CPU_PHILOX_GROUPS_H
#define FOVEA_CPU_PHILOX_GROUPS_H

#include "cpu/kernel.h"
#include "cpu/simd/philox.h"

enum { PHILOX_GROUP = 4 * VF_WIDTH };

typedef struct philox_stream {
    vi_philox_keys keys;
    uint64_t number; /* of the stream */
    vi lanes;        /* the block of each lane */
} philox_stream;

static inline philox_stream philox_begin(uint64_t seed, uint64_t number) {
    philox_stream stream = {.keys = vi_philox_begin(seed), .number = number};
    int32_t lanes[VF_WIDTH];
    for (int l = 0; l < VF_WIDTH; l++) lanes[l] = VF_WIDTH / 4 * (l % 4) + l / 4;
    stream.lanes = vi_load(lanes);
    return stream;
}

/* Low and high words of the numbers of the blocks of a group. */
VF_INLINE void philox_count_blocks(const philox_stream *s, uint64_t first, vi *low, vi *high) {
    *low = vi_add(vi_set1((int32_t)first), s->lanes);
    *high = vi_set1((int32_t)(first >> 32));
    if ((uint32_t)first <= UINT32_MAX - VF_WIDTH) return;
    const vi sign = vi_set1(INT32_MIN); /* unsigned compare */
    vm carry = vi_lt(vi_xor(*low, sign), vi_xor(vi_set1((int32_t)first), sign));
    *high = vi_select(carry, vi_add(*high, vi_set1(1)), *high);
}

/* The words of a group, first words of the blocks in words[0] and so on, not yet in order. */
VF_INLINE void philox_group(const philox_stream *s, int64_t group, vi words[4]) {
    vi counter[4];
    philox_count_blocks(s, (uint64_t)group * VF_WIDTH, &counter[0], &counter[1]);
    counter[2] = vi_set1((int32_t)s->number), counter[3] = vi_set1((int32_t)(s->number >> 32));
    vi_philox(counter, &s->keys, words);
}

/* Words in their order as a dropout mask: 1 where the uniform is below the limit. */
VF_INLINE void philox_store_mask(const vf words[4], vi limit, uint8_t *y) {
    VF_UNROLLED for (int i = 0; i < 4; i++) {
        vm dropped = vi_philox_at_least(vf_as_vi(words[i]), limit);
        vi_store_u8_n(y + i * VF_WIDTH, vi_select(dropped, vi_set1(0), vi_set1(1)), VF_WIDTH);
    }
}

#endif
