/* Words of a Philox stream in groups of sets of VF_WIDTH blocks of four. Lanes are blocks, dealt so that
 * transposing quads of lanes brings the words of a set into their order. A round waits 7 cycles for its operands, so
 * that one set at a time, which is two chains, leaves half of the arithmetic idle; two need 16 registers. */
#ifndef FOVEA_CPU_PHILOX_GROUPS_H
#define FOVEA_CPU_PHILOX_GROUPS_H

#include "cpu/kernel.h"
#include "cpu/simd/philox.h"

enum {
    PHILOX_SETS = VF_WIDTH == 16 ? 2 : 1,
    PHILOX_SET = 4 * VF_WIDTH, /* words */
    PHILOX_GROUP = PHILOX_SETS * PHILOX_SET
};

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

/* Low and high words of the numbers of the blocks of a set. */
VF_INLINE void philox_count_blocks(const philox_stream *s, uint64_t first, vi *low, vi *high) {
    *low = vi_add(vi_set1((int32_t)first), s->lanes);
    *high = vi_set1((int32_t)(first >> 32));
    if ((uint32_t)first <= UINT32_MAX - VF_WIDTH) return;
    const vi sign = vi_set1(INT32_MIN); /* unsigned compare */
    vm carry = vi_lt(vi_xor(*low, sign), vi_xor(vi_set1((int32_t)first), sign));
    *high = vi_select(carry, vi_add(*high, vi_set1(1)), *high);
}

/* The words of a group, by sets the first words of the blocks and so on, not yet in order. */
VF_INLINE void philox_group(const philox_stream *s, int64_t group, vi words[PHILOX_SETS][4]) {
    VF_UNROLLED for (int i = 0; i < PHILOX_SETS; i++) {
        uint64_t first = ((uint64_t)group * PHILOX_SETS + (uint64_t)i) * VF_WIDTH;
        philox_count_blocks(s, first, &words[i][0], &words[i][1]);
        words[i][2] = vi_set1((int32_t)s->number);
        words[i][3] = vi_set1((int32_t)(s->number >> 32));
    }
    vi_philox_sets(PHILOX_SETS, words, &s->keys);
}

/* The words of a set in their order as a dropout mask: 1 where the uniform is below the limit. */
VF_INLINE void philox_store_mask(const vf words[4], vi limit, uint8_t *y) {
    vm kept[4];
    VF_UNROLLED for (int i = 0; i < 4; i++) kept[i] =
        vm_not(vi_philox_at_least(vf_as_vi(words[i]), limit));
    vm_store_u8_quads(y, kept);
}

#endif
