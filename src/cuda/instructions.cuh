/* Instructions that CUDA C++ has no function for. */
#ifndef FOVEA_CUDA_INSTRUCTIONS_CUH
#define FOVEA_CUDA_INSTRUCTIONS_CUH

#include <stdint.h>

/* The larger or the smaller of two; NaN if one is. */
static __device__ __forceinline__ float max_or_nan(float a, float b) {
    float y;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
    return y;
}
static __device__ __forceinline__ float min_or_nan(float a, float b) {
    float y;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
    return y;
}

/* a where x > limit, else b, which the compiler would branch around. */
static __device__ __forceinline__ float choose_above(float x, float limit, float a, float b) {
    float y;
    asm("{.reg .pred above; setp.gt.f32 above, %1, %2; selp.f32 %0, %3, %4, above;}"
        : "=f"(y)
        : "f"(x), "f"(limit), "f"(a), "f"(b));
    return y;
}

/* x without its highest bit, which the compiler would not take apart from what follows. */
static __device__ __forceinline__ unsigned without_sign(unsigned x) {
    unsigned y;
    asm("and.b32 %0, %1, 0x7fffffff;" : "=r"(y) : "r"(x));
    return y;
}
/* x with its sign turned where that of `sign` is set. */
static __device__ __forceinline__ float with_sign_of(float x, unsigned sign) {
    return __uint_as_float(__float_as_uint(x) ^ (sign & 0x80000000u));
}

/* 1/x to 1 ULP and 2^x to 2^-22, subnormal results as 0. */
static __device__ __forceinline__ float quick_reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
static __device__ __forceinline__ float quick_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
/* 1/sqrt(x) to 2^-22.9, inf of 0. */
static __device__ __forceinline__ float quick_inverse_root(float x) {
    float y;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* sqrt(x) to 1 ULP; correctly rounded near the ends of the range. */
static __device__ __forceinline__ float quick_root(float x) {
    float y;
    if (!(x > 0x1p-100f && x < 0x1p100f)) return sqrtf(x);
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* 1 / (1 + e) of e >= 0: what rounding the sum loses, and what the reciprocal does, are given back in one
 * step. 0 or NaN where e is infinite. */
static __device__ __forceinline__ float reciprocal_of_one_plus(float e) {
    const float sum = 1 + e, most = sum - 1, lost = (1 - (sum - most)) + (e - most);
    const float y = quick_reciprocal(sum);
    return fmaf(y, fmaf(-lost, y, fmaf(-sum, y, 1.0f)), y);
}

/* log2 x to 2^-22, of normal numbers. */
static __device__ __forceinline__ float quick_log2(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Bytes that are 0 or 255, by the signs of words. */
static __device__ __forceinline__ unsigned signs_as_bytes(const unsigned (&x)[4]) {
    unsigned low, high, y;
    asm("prmt.b32 %0, %1, %2, 0x00fb;" : "=r"(low) : "r"(x[0]), "r"(x[1]));
    asm("prmt.b32 %0, %1, %2, 0x00fb;" : "=r"(high) : "r"(x[2]), "r"(x[3]));
    asm("prmt.b32 %0, %1, %2, 0x5410;" : "=r"(y) : "r"(low), "r"(high));
    return y;
}

/* What a kernel does first: lets the next one be brought in, and waits for all that stands before it on the
 * stream. */
static __device__ __forceinline__ void release_next() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
static __device__ __forceinline__ void await_stream() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
static __device__ __forceinline__ void follow_stream() {
    release_next();
    await_stream();
}

/* Addresses in global and in shared memory that are computed here: what a short kernel has ready before it waits it
 * need not do after. */
template <class T>
static __device__ __forceinline__ T *ready_global(T *at) {
    size_t address = __cvta_generic_to_global(at);
    asm volatile("" : "+l"(address));
    return (T *)__cvta_global_to_generic(address);
}
template <class T>
static __device__ __forceinline__ T *ready_shared(T *at) {
    unsigned address = (unsigned)__cvta_generic_to_shared(at);
    asm volatile("" : "+r"(address));
    return (T *)__cvta_shared_to_generic(address);
}

/* Brings the line of an address into the second cache. */
static __device__ __forceinline__ void prefetch_l2(const void *at) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
}

/* 16 bytes that the first cache keeps no place for. */
static __device__ __forceinline__ void load_past_l1(unsigned (&words)[4], const void *from) {
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "l"(from)
                 : "memory");
}

/* Adds 1 to the word at `address` of shared memory where |x| < x_limit and |y| < y_limit, to the one at `elsewhere`
 * where not, so that there is no branch; and `bit` to `others` where only |y| is below its limit. */
static __device__ __forceinline__ void count_where_less(float x, float x_limit, float y,
                                                        float y_limit, unsigned address,
                                                        unsigned elsewhere, unsigned bit,
                                                        unsigned &others) {
    asm volatile("{.reg .pred in, yes, no; .reg .f32 x, y; .reg .u32 to;\n\t"
                 "abs.f32 x, %1; abs.f32 y, %3; setp.ltu.f32 in, y, %4;\n\t"
                 "setp.lt.and.f32 yes|no, x, %2, in; selp.u32 to, %5, %6, yes;\n\t"
                 "red.shared.add.u32 [to], 1; @no or.b32 %0, %0, %7;}"
                 : "+r"(others)
                 : "f"(x), "f"(x_limit), "f"(y), "f"(y_limit), "r"(address), "r"(elsewhere),
                   "r"(bit)
                 : "memory");
}
static __device__ __forceinline__ void count_where_less(double x, double x_limit, double y,
                                                        double y_limit, unsigned address,
                                                        unsigned elsewhere, unsigned bit,
                                                        unsigned &others) {
    asm volatile("{.reg .pred in, yes, no; .reg .f64 x, y; .reg .u32 to;\n\t"
                 "abs.f64 x, %1; abs.f64 y, %3; setp.ltu.f64 in, y, %4;\n\t"
                 "setp.lt.and.f64 yes|no, x, %2, in; selp.u32 to, %5, %6, yes;\n\t"
                 "red.shared.add.u32 [to], 1; @no or.b32 %0, %0, %7;}"
                 : "+r"(others)
                 : "d"(x), "d"(x_limit), "d"(y), "d"(y_limit), "r"(address), "r"(elsewhere),
                   "r"(bit)
                 : "memory");
}

/* Copies of a thread to shared memory that go on while it does other things: 16 bytes, or one element. */
static __device__ __forceinline__ void stage_vector(void *to, const void *from) {
    asm volatile(
        "cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((unsigned)__cvta_generic_to_shared(to)),
        "l"(from)
        : "memory");
}
template <int bytes>
static __device__ __forceinline__ void stage_element(void *to, const void *from) {
    asm volatile(
        "cp.async.ca.shared.global [%0], [%1], %2;" ::"r"((unsigned)__cvta_generic_to_shared(to)),
        "l"(from), "n"(bytes)
        : "memory");
}
static __device__ __forceinline__ void stage_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Until at most `pending` groups are on their way. */
template <int pending>
static __device__ __forceinline__ void stage_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

/* c += a b, of 8 by 4 and 4 by 8 numbers: a lane holds [lane / 4][lane % 4] of a, [lane % 4][lane / 4] of b,
 * [lane / 4][lane % 4 * 2 + 0, 1] of c. */
static __device__ __forceinline__ void multiply_8x8x4(double (&c)[2], double a, double b) {
    asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};"
                 : "+d"(c[0]), "+d"(c[1])
                 : "d"(a), "d"(b));
}

/* The same of 16 by 8 and 8 by 8: of rows g = lane / 4 and g + 8 and columns t = lane % 4 and t + 4 a lane holds
 * a[g][t], a[g + 8][t], a[g][t + 4], a[g + 8][t + 4], of b [t][g] and [t + 4][g], of c [g][2 t + 0, 1] and those of
 * g + 8. Hopper's own size; 8 by 8 by 4 takes as long for a quarter of it. */
static __device__ __forceinline__ void multiply_16x8x8(double (&c)[2], double (&d)[2],
                                                       const double (&a)[4], const double (&b)[2]) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f64.f64.f64.f64 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
                 "{%8,%9}, {%0,%1,%2,%3};"
                 : "+d"(c[0]), "+d"(c[1]), "+d"(d[0]), "+d"(d[1])
                 : "d"(a[0]), "d"(a[1]), "d"(a[2]), "d"(a[3]), "d"(b[0]), "d"(b[1]));
#else
    multiply_8x8x4(c, a[0], b[0]), multiply_8x8x4(d, a[1], b[0]);
    multiply_8x8x4(c, a[2], b[1]), multiply_8x8x4(d, a[3], b[1]);
#endif
}

/* Two words that other blocks look at while this one writes them; each is seen as it was before or after. */
static __device__ __forceinline__ void store_shown(uint64_t *to, uint64_t a, uint64_t b) {
    asm volatile("st.relaxed.gpu.global.v2.u64 [%0], {%1,%2};" ::"l"(to), "l"(a), "l"(b)
                 : "memory");
}
static __device__ __forceinline__ void load_shown(const uint64_t *from, uint64_t &a, uint64_t &b) {
    asm volatile("ld.relaxed.gpu.global.v2.u64 {%0,%1}, [%2];"
                 : "=l"(a), "=l"(b)
                 : "l"(from)
                 : "memory");
}

#endif
