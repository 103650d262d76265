/* What a fragment of scores goes through, for the kernels whose products come from mma.sync: 16 rows of
 * which a thread has two, h = 0 and 1, and of each 8 keys 2t and 2t + 1, t its lane in the quad.
 * The meaning is that of modified_score and is_kept in scores.cuh, in another order: an option is looked at once
 * a fragment, not once a score, masks and biases are read two keys at a time where they lie so, and the four
 * random words of a draw are shared by the two lanes that need them. */
#ifndef FOVEA_CUDA_ATTENTION_OPTIONS_CUH
#define FOVEA_CUDA_ATTENTION_OPTIONS_CUH

#include "cuda/attention/scores.cuh"

/* Whether a mask or bias ends before the sequence does. */
static __device__ __forceinline__ bool is_short(const fovea_cuda_tensor &t, const sequence &s) {
    return t.data && (t.rows < s.query_count || t.keys < s.key_count);
}

/* The two rows of a thread: keys [first, end) may be attended. */
struct fragment_rows {
    int query[2], head[2], first[2], end[2];
};

/* What is beyond a mask's or bias's own rows and keys may not be attended. */
static __device__ __forceinline__ void limit_rows(const fovea_cuda_tensor &t, fragment_rows &rows) {
    if (!t.data) return;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        rows.end[h] = min(rows.end[h], rows.query[h] < t.rows ? t.keys : 0);
        rows.first[h] = min(rows.first[h], rows.end[h]);
    }
}

/* tanh, or within 2^-21 of it, which is enough for probabilities of halves. */
template <bool exact>
static __device__ __forceinline__ float soft_limit(float x) {
    if (exact) return tanhf(x);
    return 1 - 2 * quick_reciprocal(exp2_fast(x * 2.8853900817779268f) + 1);
}

/* A thread's elements of row h of a tensor, zeros where the row may not attend; two at once where they
 * lie so, and then all of them on their way together. */
template <class T, int blocks>
static __device__ __forceinline__ void load_row(const fovea_cuda_tensor &t, const sequence &s,
                                                const fragment_rows &rows, int h, int first_key,
                                                pack<T, 2> (&two)[blocks]) {
    const T *row = (const T *)t.data + s.batch * t.stride[0] + rows.head[h] * t.stride[1] +
                   rows.query[h] * t.stride[2];
    int j = first_key + threadIdx.x % 4 * 2, left = rows.end[h] - j;
    if (t.stride[3] == 1 && (uintptr_t)row % (2 * sizeof(T)) == 0 && left > blocks * 8 - 7) {
#pragma unroll
        for (int n = 0; n < blocks; n++)
            two[n] = *reinterpret_cast<const pack<T, 2> *>(row + j + n * 8);
    } else {
#pragma unroll
        for (int n = 0; n < blocks; n++)
#pragma unroll
            for (int e = 0; e < 2; e++)
                two[n].at[e] = n * 8 + e < left ? row[(j + n * 8 + e) * t.stride[3]] : T(0);
    }
}

/* Brings what 16 rows of a tensor have of 64 keys to the L1, 32 bytes a lane and step, so that they are
 * there when products are: nobody waits for these loads. */
template <int keys>
static __device__ __forceinline__ void touch_rows(const fovea_cuda_tensor &t, const sequence &s,
                                                  int query, int head, int first_key, int end) {
    if (!t.data || t.stride[3] != 1 || query >= t.rows) return;
    int size = t.dtype == FOVEA_F32 ? 4 : t.dtype == FOVEA_F16 || t.dtype == FOVEA_BF16 ? 2 : 1;
    const char *row = t.data + size * (s.batch * t.stride[0] + head * t.stride[1] +
                                       query * t.stride[2] + first_key);
    int left = (min(end, t.keys) - first_key) * size;
#pragma unroll 1
    for (int at = threadIdx.x % 32 / 16 * 32; at < min(left, keys * size); at += 64)
        asm volatile("{ .reg .b32 unused; ld.global.u8 unused, [%0]; }" ::"l"(row + at));
}

static constexpr float score_unit = 1.4426950408889634f; /* log2 e: scores are in units of log2 */

template <class T, int blocks>
static __device__ __forceinline__ void add_bias(const fovea_cuda_tensor &t, const sequence &s,
                                                const fragment_rows &rows, int first_key,
                                                float (&scores)[blocks][4]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        pack<T, 2> two[blocks];
        load_row(t, s, rows, h, first_key, two);
#pragma unroll
        for (int n = 0; n < blocks; n++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                float &score = scores[n][2 * h + e];
                score = fmaf(widen(two[n].at[e]), score_unit, score);
            }
    }
}

template <int blocks>
static __device__ __forceinline__ void apply_mask(const fovea_cuda_tensor &t, const sequence &s,
                                                  const fragment_rows &rows, int first_key,
                                                  float (&scores)[blocks][4]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        pack<uint8_t, 2> two[blocks];
        load_row(t, s, rows, h, first_key, two);
#pragma unroll
        for (int n = 0; n < blocks; n++)
#pragma unroll
            for (int e = 0; e < 2; e++)
                if (!two[n].at[e]) scores[n][2 * h + e] = -INFINITY;
    }
}

/* -inf where row h may not attend. */
template <int blocks>
static __device__ __forceinline__ void limit_row(int h, int first, int end, int first_key,
                                                 float (&scores)[blocks][4]) {
    int j = first_key + threadIdx.x % 4 * 2;
    first -= j, end -= j;
#pragma unroll
    for (int n = 0; n < blocks; n++)
#pragma unroll
        for (int e = 0; e < 2; e++)
            if (n * 8 + e < first || n * 8 + e >= end) scores[n][2 * h + e] = -INFINITY;
}

template <int blocks>
static __device__ __forceinline__ void apply_limits(const fragment_rows &rows, int first_key,
                                                    float (&scores)[blocks][4]) {
#pragma unroll
    for (int h = 0; h < 2; h++) limit_row(h, rows.first[h], rows.end[h], first_key, scores);
}

/* Products q k^T to scores in units of log2; the limits are not applied. */
template <bool exact, int blocks>
static __device__ __forceinline__ void apply_options(const fovea_cuda_attention &p,
                                                     const sequence &s, const fragment_rows &rows,
                                                     int first_key, float (&scores)[blocks][4]) {
    if (p.softcap < INFINITY) {
        float inverse = p.scale / p.softcap, top = p.softcap * score_unit;
#pragma unroll
        for (int n = 0; n < blocks; n++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                scores[n][e] = top * soft_limit<exact>(scores[n][e] * inverse);
    } else {
#pragma unroll
        for (int n = 0; n < blocks; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) scores[n][e] *= p.scale_log2;
    }
    if (p.bias.data) switch (p.bias.dtype) {
        case FOVEA_F16:
            add_bias<__half>(p.bias, s, rows, first_key, scores);
            break;
        case FOVEA_BF16:
            add_bias<__nv_bfloat16>(p.bias, s, rows, first_key, scores);
            break;
        default:
            add_bias<float>(p.bias, s, rows, first_key, scores);
        }
    if (p.slopes)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float slope = p.slopes[rows.head[h] * p.slopes_stride] * score_unit;
            int distance = first_key + threadIdx.x % 4 * 2 - (s.position + rows.query[h]);
#pragma unroll
            for (int n = 0; n < blocks; n++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float &score = scores[n][2 * h + e];
                    score = fmaf(slope, (float)(distance + n * 8 + e), score);
                }
        }
    if (p.mask.data) apply_mask(p.mask, s, rows, first_key, scores);
}

/* The row that a lane draws for, the keys of the lane beside it too: even lanes row 0, odd ones row 1. */
static __device__ __forceinline__ draw_row begin_row(const fovea_cuda_attention &p,
                                                     const sequence &s, const int (&head)[2],
                                                     const int (&query)[2]) {
    int odd = threadIdx.x & 1;
    return begin_row(p, s, odd ? head[1] : head[0], odd ? query[1] : query[0]);
}

/* What dropout leaves of several fragments, a word of bits each. A draw is a chain of ten rounds, so those of all
 * fragments go on side by side. */
template <int blocks, int fragments>
static __device__ __forceinline__ void draw_fragments(const fovea_cuda_attention &p,
                                                      const draw_row (&rows)[fragments],
                                                      int first_key, uint32_t (&drawn)[fragments]) {
    static_assert(blocks <= 8, "4 bits for each 8 keys");
    /* Sums of the seed are worked out anew: kept from step to step they would want registers. */
    uint32_t limit = kept_below(p), seed[2] = {p.seed[0], p.seed[1]};
    asm volatile("" : "+r"(limit), "+r"(seed[0]), "+r"(seed[1]));
#pragma unroll
    for (int f = 0; f < fragments; f++) drawn[f] = 0;
    constexpr int unrolled = blocks % 2 ? 1 : 2;
#pragma unroll unrolled
    for (int n = 0; n < blocks; n++) {
        draw_keys keys = begin_keys(p, first_key / 4 + n * 2 + (threadIdx.x / 2 & 1));
#pragma unroll
        for (int f = 0; f < fragments; f++) {
            uint32_t words[4], bits = 0;
            draw(seed, keys, rows[f], words);
#pragma unroll
            for (int w = 0; w < 4; w++) bits |= words[w] < limit ? 1u << (28 + w) : 0;
            drawn[f] = drawn[f] >> 4 | bits;
        }
    }
#pragma unroll
    for (int f = 0; f < fragments; f++) drawn[f] >>= 32 - 4 * blocks;
}

/* Probabilities that dropout takes become 0. */
template <int blocks>
static __device__ __forceinline__ void drop_fragment(uint32_t drawn, float (&scores)[blocks][4]) {
    int odd = threadIdx.x & 1;
    uint32_t other = __shfl_xor_sync(~0u, drawn, 1);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        uint32_t kept = (odd == h ? drawn : other) >> 2 * odd; /* from this lane's first key on */
#pragma unroll
        for (int n = 0; n < blocks; n++)
#pragma unroll
            for (int e = 0; e < 2; e++)
                if (!(kept >> (n * 4 + e) & 1)) scores[n][2 * h + e] = 0;
    }
}

#endif
