/* What a score goes through, for every kernel of attention on CUDA: sequences, positions, limits,
 * softcap, bias, ALiBi, masks, dropout. The meaning is that of catalogue/attention.c. */
#ifndef FOVEA_CUDA_ATTENTION_SCORES_CUH
#define FOVEA_CUDA_ATTENTION_SCORES_CUH

#include "cuda/attention/attention.h"
#include "cuda/kernel.cuh"

#include <math.h>

/* A sequence of the batch. Lengths that a table on the device gives are cut to what the tensors have. */
struct sequence {
    int batch, query_start, query_count, key_start, key_count;
    int position; /* of query 0 */
};

static __device__ __forceinline__ int integer_at(const fovea_cuda_integers &integers, int i) {
    return integers.data[i * integers.stride[0]];
}

static __device__ __forceinline__ int between(int low, int value, int high) {
    return value < low ? low : value > high ? high : value;
}

static __device__ __forceinline__ sequence sequence_of(const fovea_cuda_attention &p, int batch) {
    sequence s = {batch, 0, p.query_length, 0, p.key_length, 0};
    if (p.cu_seqlens_q.data) {
        s.query_start = between(0, integer_at(p.cu_seqlens_q, batch), p.query_length);
        s.query_count =
            between(s.query_start, integer_at(p.cu_seqlens_q, batch + 1), p.query_length) -
            s.query_start;
    }
    if (p.cu_seqlens_k.data) {
        s.key_start = between(0, integer_at(p.cu_seqlens_k, batch), p.key_length);
        s.key_count =
            between(s.key_start, integer_at(p.cu_seqlens_k, batch + 1), p.key_length) - s.key_start;
    }
    if (p.seqused_k.data) s.key_count = between(0, integer_at(p.seqused_k, batch), s.key_count);
    s.position = p.query_offset;
    if (p.causal == FOVEA_ATTENTION_CAUSAL_BOTTOM_RIGHT) s.position += s.key_count - s.query_count;
    return s;
}

/* Keys [first, end) that query i may attend. */
static __device__ __forceinline__ void attended(const fovea_cuda_attention &p, const sequence &s,
                                                int i, int &first, int &end) {
    int64_t position = (int64_t)s.position + i, low = 0, high = s.key_count;
    if (p.window_left >= 0 && position - p.window_left > low) low = position - p.window_left;
    if (p.causal != FOVEA_ATTENTION_CAUSAL_NONE && position + 1 < high) high = position + 1;
    if (p.window_right >= 0 && position + p.window_right + 1 < high)
        high = position + p.window_right + 1;
    end = high < 0 ? 0 : (int)high;
    first = low < end ? (int)low : end;
}

/* Row j of a sequence's keys or values. */
static __device__ __forceinline__ const char *key_row(const fovea_cuda_attention &p,
                                                      const fovea_cuda_tensor &t, int bytes,
                                                      const sequence &s, int head, int j) {
    int64_t at;
    if (p.block_table.data) {
        int number = j / p.page_size;
        int page = p.block_table
                       .data[s.batch * p.block_table.stride[0] + number * p.block_table.stride[1]];
        page = between(0, page, p.pages - 1);
        at = page * t.stride[0] + head * t.stride[1] + (j - number * p.page_size) * t.stride[2];
    } else {
        at = s.batch * t.stride[0] + head * t.stride[1] + (int64_t)(s.key_start + j) * t.stride[2];
    }
    return t.data + at * bytes;
}

static __device__ __forceinline__ float bias_at(const fovea_cuda_tensor &t, int64_t at) {
    switch (t.dtype) {
    case FOVEA_F16:
        return widen(((const __half *)t.data)[at]);
    case FOVEA_BF16:
        return widen(((const __nv_bfloat16 *)t.data)[at]);
    default:
        return ((const float *)t.data)[at];
    }
}

/* The score of (i, j) from q k^T, in units of log2: everything but the limits of `attended`. */
static __device__ __forceinline__ float modified_score(const fovea_cuda_attention &p,
                                                       const sequence &s, int head, int i, int j,
                                                       float product) {
    float score = product * p.scale;
    if (p.mask.data) {
        if (i >= p.mask.rows || j >= p.mask.keys ||
            !p.mask.data[s.batch * p.mask.stride[0] + head * p.mask.stride[1] +
                         i * p.mask.stride[2] + j * p.mask.stride[3]])
            return -INFINITY;
    }
    if (p.softcap < INFINITY) score = p.softcap * tanhf(score / p.softcap);
    if (p.bias.data) {
        if (i >= p.bias.rows || j >= p.bias.keys) return -INFINITY;
        score += bias_at(p.bias, s.batch * p.bias.stride[0] + head * p.bias.stride[1] +
                                     i * p.bias.stride[2] + j * p.bias.stride[3]);
    }
    if (p.slopes) score += p.slopes[head * p.slopes_stride] * (float)(j - (s.position + i));
    return score * 1.4426950408889634f;
}

/* Random words of four keys of a row: Philox4x32-10 (Salmon et al. 2011), whose counter is the number of the
 * four keys, the row, its head, the call's offset. Two rounds leave what comes of the keys and what comes of the row
 * apart: those are done once for many draws. */
enum : uint32_t {
    PHILOX_FACTOR_0 = 0xD2511F53,
    PHILOX_FACTOR_1 = 0xCD9E8D57,
    PHILOX_STEP_0 = 0x9E3779B9,
    PHILOX_STEP_1 = 0xBB67AE85
};

struct draw_keys {
    uint32_t high, low, first_low;
};
struct draw_row {
    uint32_t word[3];
};

static __device__ __forceinline__ draw_keys begin_keys(const fovea_cuda_attention &p, int number) {
    uint64_t first = (uint64_t)PHILOX_FACTOR_0 * (uint32_t)number;
    uint64_t second =
        (uint64_t)PHILOX_FACTOR_1 * ((uint32_t)(first >> 32) ^ p.dropout_offset ^ p.seed[1]);
    return {(uint32_t)(second >> 32), (uint32_t)second, (uint32_t)first};
}

static __device__ __forceinline__ draw_row begin_row(const fovea_cuda_attention &p,
                                                     const sequence &s, int head, int i) {
    uint64_t first = (uint64_t)PHILOX_FACTOR_1 * (uint32_t)(s.batch * p.query_heads + head);
    uint64_t second =
        (uint64_t)PHILOX_FACTOR_0 * ((uint32_t)(first >> 32) ^ (uint32_t)i ^ p.seed[0]);
    return {{(uint32_t)first ^ (p.seed[0] + PHILOX_STEP_0),
             (uint32_t)(second >> 32) ^ (p.seed[1] + PHILOX_STEP_1), (uint32_t)second}};
}

/* Rounds `first` to 9. */
template <uint32_t first>
static __device__ __forceinline__ void draw_rounds(const uint32_t (&seed)[2],
                                                   uint32_t (&words)[4]) {
#pragma unroll
    for (uint32_t round = first; round < 10; round++) {
        uint64_t x = (uint64_t)PHILOX_FACTOR_0 * words[0];
        uint64_t y = (uint64_t)PHILOX_FACTOR_1 * words[2];
        words[0] = (uint32_t)(y >> 32) ^ words[1] ^ (seed[0] + round * PHILOX_STEP_0);
        words[2] = (uint32_t)(x >> 32) ^ words[3] ^ (seed[1] + round * PHILOX_STEP_1);
        words[1] = (uint32_t)y, words[3] = (uint32_t)x;
    }
}

static __device__ __forceinline__ void draw(const uint32_t (&seed)[2], const draw_keys &keys,
                                            const draw_row &row, uint32_t (&words)[4]) {
    words[0] = keys.high ^ row.word[0], words[1] = keys.low;
    words[2] = row.word[1] ^ keys.first_low, words[3] = row.word[2];
    draw_rounds<2>(seed, words);
}

/* A key is kept whose word's upper 24 bits are below 2^24 times `keep`, which is below 1: whose word is below
 * this. */
static __device__ __forceinline__ uint32_t kept_below(const fovea_cuda_attention &p) {
    return (uint32_t)ceilf(p.keep * 0x1p24f) << 8;
}

static __device__ __forceinline__ bool is_kept(const fovea_cuda_attention &p, const sequence &s,
                                               int head, int i, int j) {
    uint32_t words[4];
    draw(p.seed, begin_keys(p, j / 4), begin_row(p, s, head, i), words);
    uint32_t low = j & 1 ? words[1] : words[0], high = j & 1 ? words[3] : words[2];
    return (j & 2 ? high : low) < kept_below(p);
}

static __device__ __forceinline__ float exp2_fast(float x) { /* 2 ULP; 0 at -inf */
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* What a row's sum of products is multiplied by, and the row's lse, from its maximum in units of log 2
 * and its sum. */
struct row_result {
    float factor, lse;
};

static __device__ __forceinline__ row_result finish_row(const fovea_cuda_attention &p, int head,
                                                        float m, float l) {
    float scale = 1;
    if (p.sinks) {
        float sink = p.sinks[head * p.sinks_stride] * 1.4426950408889634f;
        float top = fmaxf(m, sink), base = top == -INFINITY ? 0 : top;
        scale = exp2_fast(m - base);
        l = l * scale + exp2_fast(sink - base);
        m = top;
    }
    return {l == 0 ? 0 : scale / (l * p.keep),
            l == 0 ? -INFINITY : (m + log2f(l)) * 0.69314718055994531f};
}

#endif
