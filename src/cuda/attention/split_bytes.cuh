/* What the split kernel needs besides tiles of halves: 8-bit caches, results of one element, and grids that
 * start before the one before them has ended. */
#ifndef FOVEA_CUDA_ATTENTION_SPLIT_BYTES_CUH
#define FOVEA_CUDA_ATTENTION_SPLIT_BYTES_CUH

#include "cuda/attention/grids.cuh"
#include "cuda/attention/tiles.cuh"

#include <type_traits>

/* ---- Rows of bytes in shared memory --------------------------------------------------------- */

/* A row's 16 bytes from `first` on, of any stride, zeros beyond the size. */
static __device__ __forceinline__ void store_bytes(uint32_t to, const char *row, int64_t stride,
                                                   int first, int size) {
    uint32_t words[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < 16; i++)
        if (row && first + i < size)
            words[i / 4] |= (uint32_t)(uint8_t)row[(first + i) * stride] << i % 4 * 8;
    asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(to), "r"(words[0]), "r"(words[1]),
                 "r"(words[2]), "r"(words[3])
                 : "memory");
}

/* The same of 4 floats. */
static __device__ __forceinline__ void store_words(uint32_t to, const float *row, int64_t stride,
                                                   int first, int size) {
    float words[4];
#pragma unroll
    for (int i = 0; i < 4; i++) words[i] = row && first + i < size ? row[(first + i) * stride] : 0;
    asm volatile("st.shared.v4.f32 [%0], {%1,%2,%3,%4};" ::"r"(to), "f"(words[0]), "f"(words[1]),
                 "f"(words[2]), "f"(words[3])
                 : "memory");
}

static __device__ __forceinline__ void load_pair(uint32_t &a, uint32_t &b, uint32_t address) {
    asm volatile("ld.shared.v2.b32 {%0,%1}, [%2];" : "=r"(a), "=r"(b) : "r"(address) : "memory");
}

static __device__ __forceinline__ uint32_t load_one(uint32_t address) {
    uint32_t word;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(word) : "r"(address) : "memory");
    return word;
}
static __device__ __forceinline__ void store_one(uint32_t address, uint32_t word) {
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(word) : "memory");
}

/* ---- Four bytes to two pairs of f16 --------------------------------------------------------- */

/* Two e4m3 to two f16, exactly. */
static __device__ __forceinline__ uint32_t widen_e4m3(uint32_t two) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
    uint32_t word;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(word) : "h"((uint16_t)two));
    return word;
#else
    /* Sign, exponent and fraction in f16's places; its exponents are 8 less. 0x7f is NaN. */
    uint32_t apart = __byte_perm(two, 0, 0x1404), size = apart >> 1 & 0x3f803f80;
    __half2 factor = __float2half2_rn(256);
    __half2 value = __hmul2(*reinterpret_cast<__half2 *>(&size), factor);
    uint32_t word = *reinterpret_cast<uint32_t *>(&value);
    if ((apart & 0x7f00) == 0x7f00) word |= 0x7fff;
    if ((apart & 0x7f000000) == 0x7f000000) word |= 0x7fff0000;
    return word | (apart & 0x80008000);
#endif
}

/* Signed bytes 0 and 1, and 2 and 3, or 128 more, as the lowest bits of f16: times 2^-24. */
template <bool raised>
static __device__ __forceinline__ void widen_small(uint32_t bytes, uint32_t &low, uint32_t &high) {
    uint32_t more = bytes ^ 0x80808080;
    low = __byte_perm(more, 0, 0x4140), high = __byte_perm(more, 0, 0x4342);
    if constexpr (!raised) {
        uint32_t offset = 0x00800080;
        __half2 less = *reinterpret_cast<__half2 *>(&offset);
        __half2 a = __hsub2(*reinterpret_cast<__half2 *>(&low), less);
        __half2 b = __hsub2(*reinterpret_cast<__half2 *>(&high), less);
        low = *reinterpret_cast<uint32_t *>(&a), high = *reinterpret_cast<uint32_t *>(&b);
    }
}

/* Bytes 0 and 2, and 1 and 3, of e4m3, or of signed integers, 128 more, as the lowest bits of f16. */
template <bool integers>
static __device__ __forceinline__ void widen_apart(uint32_t bytes, uint32_t &even, uint32_t &odd) {
    if constexpr (integers) {
        even = (bytes & 0x00ff00ff) ^ 0x00800080;
        odd = __byte_perm(bytes ^ 0x80808080, 0, 0x4341);
    } else {
        uint32_t apart = __byte_perm(bytes, 0, 0x3120);
        even = widen_e4m3(apart), odd = widen_e4m3(apart >> 16);
    }
}

/* ---- Results --------------------------------------------------------------------------------- */

/* Elements d to d + 3 of the row that begins at element `place`. */
template <class T>
static __device__ __forceinline__ void write_four(const fovea_cuda_attention &p, int64_t place,
                                                  int d, const float (&values)[4]) {
    T *to = (T *)p.out.data + place + d * p.out.stride[3];
    pack<T, 4> four;
#pragma unroll
    for (int e = 0; e < 4; e++) four.at[e] = narrow<T>(values[e]);
    if (p.out.stride[3] == 1 && d + 4 <= p.value_size && (uintptr_t)to % sizeof four == 0) {
        *reinterpret_cast<pack<T, 4> *>(to) = four;
    } else {
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (d + e < p.value_size) to[e * p.out.stride[3]] = four.at[e];
    }
}

/* Element d of a row whose sum of products is `total`; state: its maximum, in units of log 2, and sum. */
template <class T>
static __device__ __forceinline__ void write_element(const fovea_cuda_attention &p,
                                                     const sequence &s, int head, int i, int d,
                                                     float total, float2 state) {
    if (d >= p.value_size && d > 0) return;
    int64_t row = s.query_start + i;
    row_result result = finish_row(p, head, state.x, state.y);
    if (d < p.value_size)
        ((T *)p.out.data)[s.batch * p.out.stride[0] + head * p.out.stride[1] +
                          row * p.out.stride[2] + d * p.out.stride[3]] =
            narrow<T>(total * result.factor);
    if (p.lse.data && d == 0)
        ((float *)p.lse
             .data)[s.batch * p.lse.stride[0] + head * p.lse.stride[1] + row * p.lse.stride[2]] =
            result.lse;
}

#endif
