/* Domain 14, prng: words of Philox4x32-10 and what is made of them, a block of four words a thread. Ten
 * rounds are 20 products of 32 by 32 bits for 16 bytes, which is a third of what the multiplier does while
 * memory takes them. */
#include "cuda/philox.cuh"

enum {
    PRNG_THREADS = 128,
    PRNG_TURNS = 4,      /* vectors a thread, where there are many */
    PRNG_FEW = 1 << 17,  /* bytes up to which a thread draws one block */
    PRNG_EARLY = 1 << 21 /* elements below which a kernel is short */
};

struct words_maker {
    using output = unsigned;
    static constexpr int outputs = 4;
    __device__ __forceinline__ void operator()(const philox_words &w, unsigned (&y)[4]) const {
#pragma unroll
        for (int i = 0; i < 4; i++) y[i] = w.word[i];
    }
};

static __device__ __forceinline__ float uniform(unsigned word) {
    return (float)(word >> 8) * 0x1p-24f;
}

struct uniform_maker {
    using output = float;
    static constexpr int outputs = 4;
    __device__ __forceinline__ void operator()(const philox_words &w, float (&y)[4]) const {
#pragma unroll
        for (int i = 0; i < 4; i++) y[i] = uniform(w.word[i]);
    }
};

struct wide_uniform_maker {
    using output = double;
    static constexpr int outputs = 2;
    __device__ __forceinline__ void operator()(const philox_words &w, double (&y)[2]) const {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            uint64_t bits = (uint64_t)w.word[2 * i + 1] << 32 | w.word[2 * i];
            y[i] = (double)(int64_t)(bits >> 11) * 0x1p-53;
        }
    }
};

/* Box and Muller, A note on the generation of random normal deviates, 1958: in one stream without a branch, since
 * arguments are known. -2 ln of m 2^-24 is that of a number in [2/3, 4/3) and a multiple of ln 2, by a minimax fit to
 * 2.6e-8; it errs by 1.9 2^-24 at most over all m, of which its root keeps half. */
static __device__ __forceinline__ float normal_radius(unsigned word) {
    const unsigned bits = __float_as_uint((float)((word >> 8) + 1));
    const unsigned power = (bits - (0x3f2aaaabu + (24u << 23))) & 0xff800000u;
    const float f = fmaf(__uint_as_float(bits - power), 0x1p-24f, -1);
    float p = -0x1.1f42a6p-2f;
    p = fmaf(p, f, 0x1.3b2866p-2f);
    p = fmaf(p, f, -0x1.1ea25p-2f);
    p = fmaf(p, f, 0x1.5032e4p-2f);
    p = fmaf(p, f, -0x1.99d428p-2f);
    p = fmaf(p, f, 0x1.00148p-1f);
    p = fmaf(p, f, -0x1.5554fap-1f);
    p = fmaf(p, f, 0x1.ffffd6p-1f);
    const float whole = (float)(int)power * (-0x1.62e43p+0f * 0x1p-23f);
    const float square = fmaf(f, f * p, fmaf(f, -2, whole));
    const float inverse = quick_inverse_root(square + 0x1p-100f); /* a square of 0 has a root */
    const float root = square * inverse;
    return fmaf(fmaf(-root, root, square), 0.5f * inverse, root);
}

/* radius times sine and cosine of word >> 8 of 2^24 turns. The highest bit is a half turn, which turns both signs. What
 * is left of it counts from its middle, t in [-1, 1), exact in f32: the sine is then cos(t pi/2), the cosine
 * -sin(t pi/2), so nothing is exchanged. With z = t^2 and w = 1 - z, sin(t pi/2) = t + t w g(z) and cos(t pi/2) =
 * w - w z h(z): what a fit adds is small beside what it is added to, and both are right where they are 0 or 1. */
static __device__ __forceinline__ void turn(unsigned word, float radius, float &sine,
                                            float &cosine) {
    const float t = __uint_as_float(without_sign(word) / 256 + 0x40000000u) - 3;
    const float z = t * t, w = fmaf(-t, t, 1);
    float g = -0x1.3b6b3ep-13f, h = -0x1.8bd852p-16f;
    g = fmaf(g, z, 0x1.284daap-8f);
    h = fmaf(h, z, 0x1.d4786ep-11f);
    g = fmaf(g, z, -0x1.33e278p-4f);
    h = fmaf(h, z, -0x1.472a76p-6f);
    g = fmaf(g, z, 0x1.243f6ap-1f);
    h = fmaf(h, z, 0x1.de9e6p-3f);
    radius = with_sign_of(radius, word);
    const float along = -t * radius, across = radius * w;
    cosine = fmaf(along, w * g, along);
    sine = fmaf(across, -z * h, across);
}

struct normal_maker {
    using output = float;
    static constexpr int outputs = 4;
    __device__ __forceinline__ void operator()(const philox_words &w, float (&y)[4]) const {
#pragma unroll
        for (int i = 0; i < 4; i += 2)
            turn(w.word[i + 1], normal_radius(w.word[i]), y[i + 1], y[i]);
    }
};

/* word >> 8 < limit, as the sign of a difference; four signs make a word of bytes. */
struct mask_maker {
    using output = uint8_t;
    static constexpr int outputs = 4;
    unsigned limit; /* 2^7 times it, 2^31 if all are kept */
    __device__ __forceinline__ void operator()(const philox_words &w, uint8_t (&y)[4]) const {
        unsigned less[4];
#pragma unroll
        for (int i = 0; i < 4; i++) less[i] = (w.word[i] >> 1) - limit;
        const unsigned bytes = signs_as_bytes(less) & 0x01010101u;
        memcpy(y, &bytes, sizeof bytes);
    }
};

/* A vector of 16 bytes or less from `side` blocks of the generator, kept in words: of bytes that are also stored one by
 * one the compiler would make each alone. The block's numbers differ in their low words. */
template <class Maker, int side>
struct drawn {
    static constexpr int size = Maker::outputs * side;
    static constexpr int words = size * sizeof(typename Maker::output) / 4;
    pack<unsigned, words> bits;

    __device__ __forceinline__ drawn(const Maker &maker, const philox_key &key, uint64_t base,
                                     int number) {
#pragma unroll
        for (int b = 0; b < side; b++) {
            typename Maker::output made[Maker::outputs];
            maker(philox(key, (unsigned)base + number * side + b, (unsigned)(base >> 32)), made);
            memcpy(&bits.at[b * words / side], made, sizeof made);
        }
    }
    __device__ __forceinline__ pack<typename Maker::output, size> elements() const {
        pack<typename Maker::output, size> values;
        memcpy(&values, &bits, sizeof bits);
        return values;
    }
};

/* A block of threads draws `turns` vectors a thread, a block apart. One turn: the kernel is short and follows the
 * stream, which only what is stored has to wait for. */
template <class Maker, int side, int turns>
static __global__ __launch_bounds__(PRNG_THREADS) void draw_kernel(typename Maker::output *y,
                                                                   int64_t count, bool wide,
                                                                   philox_key key, Maker maker) {
    using vector = drawn<Maker, side>;
    const uint64_t base = (uint64_t)blockIdx.x * (PRNG_THREADS * turns * side);
    const int64_t start = (int64_t)base * Maker::outputs, left = count - start;
    if (turns == 1) release_next();
    y += start;
    if (wide && left >= PRNG_THREADS * turns * vector::size) {
#pragma unroll
        for (int t = 0; t < turns; t++) {
            const int number = t * PRNG_THREADS + (int)threadIdx.x;
            const vector values(maker, key, base, number);
            if (turns == 1) await_stream();
            *reinterpret_cast<decltype(values.bits) *>(y + number * vector::size) = values.bits;
        }
        return;
    }
#pragma unroll 1
    for (int number = (int)threadIdx.x; number * vector::size < left; number += PRNG_THREADS) {
        const int first = number * vector::size;
        const auto values = vector(maker, key, base, number).elements();
        if (turns == 1) await_stream();
        store_pack(y + first, values, left - first, wide);
    }
}

/* The same of a tensor with strides. */
template <class Maker, int side>
static __global__
__launch_bounds__(PRNG_THREADS) void draw_strided(typename Maker::output *y,
                                                  const __grid_constant__ strided<1> where,
                                                  int64_t count, philox_key key, Maker maker) {
    using vector = drawn<Maker, side>;
    const uint64_t base = (uint64_t)blockIdx.x * (PRNG_THREADS * side);
    const int64_t first = (int64_t)base * Maker::outputs + (int)threadIdx.x * vector::size;
    release_next();
    if (first >= count) return;
    const auto values = vector(maker, key, base, (int)threadIdx.x).elements();
    await_stream();
#pragma unroll
    for (int i = 0; i < vector::size; i++) {
        int64_t at[1];
        where.offsets(first + i, at);
        if (first + i < count) y[at[0]] = values.at[i];
    }
}

template <int side, class Maker>
static fovea_status draw(const fovea_problem *problem, fovea_run *run, int64_t seed, int64_t stream,
                         Maker maker) {
    constexpr int size = Maker::outputs * side;
    using T = typename Maker::output;
    fovea_view y = problem->views[0], *all[] = {&y};
    const int64_t count = fovea_view_elements(&y);
    const philox_key key = philox_key_of((uint64_t)seed, (uint64_t)stream);
    if (count == 0) return FOVEA_OK;
    fovea_views_collapse(all, 1);
    if (y.rank > 1 || (y.rank == 1 && y.stride[0] != 1 && count > 1))
        return launch(run, draw_strided<Maker, side>, blocks_for(count, PRNG_THREADS * size),
                      PRNG_THREADS, (T *)y.data, strided_of<1>({&y}), count, key, maker);
    /* What a block spends on following the stream is an eighth of its time where there are many. */
    const bool early = count < PRNG_EARLY;
    const int turns = early ? 1 : PRNG_TURNS;
    return launch_as(run, early,
                     early ? draw_kernel<Maker, side, 1> : draw_kernel<Maker, side, PRNG_TURNS>,
                     blocks_for(count, PRNG_THREADS * size * turns), PRNG_THREADS, 0, (T *)y.data,
                     count, is_aligned(y.data, sizeof(T) * size), key, maker);
}

static fovea_status prng_philox(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_prng_philox_options *)problem->options;
    return draw<1>(problem, run, o->seed, o->stream, words_maker{});
}

static fovea_status prng_uniform(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_prng_uniform_options *)problem->options;
    if (problem->dtype == FOVEA_F64)
        return draw<1>(problem, run, o->seed, o->stream, wide_uniform_maker{});
    return draw<1>(problem, run, o->seed, o->stream, uniform_maker{});
}

static fovea_status prng_normal(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_prng_normal_options *)problem->options;
    return draw<1>(problem, run, o->seed, o->stream, normal_maker{});
}

static fovea_status prng_dropout_mask(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_prng_dropout_mask_options *)problem->options;
    const unsigned limit = philox_limit((float)o->keep);
    const mask_maker maker = {limit << 7};
    if (fovea_view_elements(&problem->views[0]) <= PRNG_FEW)
        return draw<1>(problem, run, o->seed, o->stream, maker);
    return draw<4>(problem, run, o->seed, o->stream, maker);
}

extern "C" const fovea_implementation fovea_cuda_table_prng[] = {
    CUDA_ROW(prng_philox, 1u << FOVEA_U32, prng_philox),
    CUDA_ROW(prng_uniform, 1u << FOVEA_F32 | 1u << FOVEA_F64, prng_uniform),
    CUDA_ROW(prng_normal, 1u << FOVEA_F32, prng_normal),
    CUDA_ROW(prng_dropout_mask, 1u << FOVEA_U8, prng_dropout_mask),
    {}};
