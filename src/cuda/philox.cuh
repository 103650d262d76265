/* Philox4x32-10 (Salmon, Moraes, Dror and Shaw, Parallel random numbers: as easy as 1, 2, 3, 2011): the
 * words of the CPU, bit for bit. */
#ifndef FOVEA_CUDA_PHILOX_CUH
#define FOVEA_CUDA_PHILOX_CUH

#include "cuda/kernel.cuh"

#include <math.h>

enum { PHILOX_ROUNDS = 10 };

/* Keys of all rounds: operands from constant memory, for which no thread adds anything. */
struct philox_key {
    unsigned rounds[PHILOX_ROUNDS][2], stream[2];
};

static inline philox_key philox_key_of(uint64_t seed, uint64_t stream) {
    philox_key key = {{}, {(unsigned)stream, (unsigned)(stream >> 32)}};
    unsigned low = (unsigned)seed, high = (unsigned)(seed >> 32);
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        key.rounds[round][0] = low, key.rounds[round][1] = high;
        low += 0x9E3779B9u, high += 0xBB67AE85u;
    }
    return key;
}

struct philox_words {
    unsigned word[4];
    /* Without an index into registers. */
    __device__ __forceinline__ unsigned at(int i) const {
        unsigned low = i & 1 ? word[1] : word[0], high = i & 1 ? word[3] : word[2];
        return i & 2 ? high : low;
    }
};

/* Block number high 2^32 + low of the stream; `unrolled` rounds at a time. Where all threads have one high word, two
 * of the twenty products are not theirs. */
template <int unrolled = PHILOX_ROUNDS>
static __device__ __forceinline__ philox_words philox(const philox_key &key, unsigned low,
                                                      unsigned high) {
    unsigned c[4] = {low, high, key.stream[0], key.stream[1]};
#pragma unroll unrolled
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
        c[0] = (unsigned)(b >> 32) ^ c[1] ^ key.rounds[round][0];
        c[2] = (unsigned)(a >> 32) ^ c[3] ^ key.rounds[round][1];
        c[1] = (unsigned)b, c[3] = (unsigned)a;
    }
    return {{c[0], c[1], c[2], c[3]}};
}
template <int unrolled = PHILOX_ROUNDS>
static __device__ __forceinline__ philox_words philox(const philox_key &key, int64_t block) {
    return philox<unrolled>(key, (unsigned)block, (unsigned)((uint64_t)block >> 32));
}

/* uniform < limit is word >> 8 < this. */
static inline unsigned philox_limit(float limit) { return (unsigned)ceil((double)limit * 0x1p24); }

#endif
