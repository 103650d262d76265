/* f32 on the tensor cores: factors split into two TF32 terms each, and their products (f32_products.cu says
 * how many, and what is lost). */
#ifndef FOVEA_CUDA_ATTENTION_TERMS_CUH
#define FOVEA_CUDA_ATTENTION_TERMS_CUH

#include "cuda/attention/tiles.cuh"

/* x = high + low, both TF32 but for low's last bits, which the product cuts off. Within 2^-12 of the
 * greatest float high is infinite, low too, and sums of products NaN. */
static __device__ __forceinline__ void split(uint32_t x, uint32_t &high, uint32_t &low) {
    high = (x + 0x1000) & 0xffffe000;
    low = __float_as_uint(__uint_as_float(x) - __uint_as_float(high));
}

/* The same of any number of a query: an infinity is all low, so that of a score's products only that with the key's
 * high is infinite; and high is never rounded to one. */
static __device__ __forceinline__ void split_far(uint32_t x, uint32_t &high, uint32_t &low) {
    split(x, high, low);
    if (isfinite(__uint_as_float(high))) return;
    high = isinf(__uint_as_float(x)) ? 0 : x & 0xffffe000;
    low = __float_as_uint(__uint_as_float(x) - __uint_as_float(high));
}

/* Whether a number of the warp's queries was split into infinite terms: then all scores of its row are NaN, the
 * first among them. As the scores may well be something else, softcap making a number of what is infinite, they
 * are to be made again by split_far; at every step it would cost an eighth of all instructions. */
template <int blocks>
static __device__ __forceinline__ bool is_far(const float (&scores)[blocks][4]) {
    return __any_sync(~0u, isnan(scores[0][0] + scores[0][2]));
}

static __device__ __forceinline__ void multiply_tf32(float (&c)[4], const uint32_t (&a)[4],
                                                     uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* c += a b, the second factor not split yet; the small products first. */
static __device__ __forceinline__ void multiply_terms(float (&c)[4], const uint32_t (&high)[4],
                                                      const uint32_t (&low)[4], uint32_t b0,
                                                      uint32_t b1) {
    uint32_t b_high[2], b_low[2];
    split(b0, b_high[0], b_low[0]);
    split(b1, b_high[1], b_low[1]);
    multiply_tf32(c, high, b_low[0], b_low[1]);
    multiply_tf32(c, low, b_high[0], b_high[1]);
    multiply_tf32(c, high, b_high[0], b_high[1]);
}

static __device__ __forceinline__ void load_four(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

#endif
