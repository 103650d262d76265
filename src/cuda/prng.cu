/* Domain 14, prng: words of Philox4x32-10 and what is made of them, a block of four words a thread. Ten
 * rounds are 20 products of 32 by 32 bits for 16 bytes, which is a third of what the multiplier does while
 * memory takes them. */
#include "cuda/philox.cuh"

enum {
    PRNG_THREADS = 256,
    PRNG_TURNS = 2,      /* of vectors that are a block of the generator; others are long enough */
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
 * 2.6e-8; it errs by 1.5 2^-24, of which its root keeps half. */
static __device__ __forceinline__ float normal_radius(unsigned word) {
    const unsigned bits = __float_as_uint((float)((word >> 8) + 1));
    const unsigned power = (bits - 0x3f2aaaabu) & 0xff800000u;
    const float f = __uint_as_float(bits - power) - 1;
    float p = -0x1.1f42a6p-2f;
    p = fmaf(p, f, 0x1.3b2866p-2f);
    p = fmaf(p, f, -0x1.1ea25p-2f);
    p = fmaf(p, f, 0x1.5032e4p-2f);
    p = fmaf(p, f, -0x1.99d428p-2f);
    p = fmaf(p, f, 0x1.00148p-1f);
    p = fmaf(p, f, -0x1.5554fap-1f);
    p = fmaf(p, f, 0x1.ffffd6p-1f);
    p = fmaf(f, f * p, -2 * f);
    const float square = fmaf(fmaf((float)(int)power, 0x1p-23f, -24), -0x1.62e43p+0f, p);
    const float inverse = quick_inverse_root(square + 0x1p-100f); /* a square of 0 has a root */
    const float root = square * inverse;
    return fmaf(fmaf(-root, root, square), 0.5f * inverse, root);
}

/* Sine and cosine of word >> 8 of 2^24 turns: of what is left of quarter turns, in [-1/2, 1/2), exact in f32, by
 * minimax fits, then exchanged and with the signs of the quarter. */
static __device__ __forceinline__ void turn(unsigned word, float &sine, float &cosine) {
    const float x = (float)(int)(word << 2 & 0xfffffc00u) * 0x1p-32f, z = x * x;
    float s = -0x1.2d9302p-8f, c = 0x1.d9d57ep-11f;
    s = fmaf(s, z, 0x1.465e92p-4f);
    c = fmaf(c, z, -0x1.55c5ep-6f);
    s = fmaf(s, z, -0x1.4abbbap-1f);
    c = fmaf(c, z, 0x1.03c1dep-2f);
    s = fmaf(s, z, 0x1.921fb6p+0f) * x;
    c = fmaf(c, z, -0x1.3bd3ccp+0f);
    c = fmaf(c, z, 1);
    const unsigned quarter = word + 0x20000000u; /* in its two highest bits */
    const unsigned odd = quarter << 1;           /* in its sign */
    sine = with_sign_of(choose_negative(odd, c, s), quarter);
    cosine = with_sign_of(choose_negative(odd, s, c), quarter + 0x40000000u);
}

struct normal_maker {
    using output = float;
    static constexpr int outputs = 4;
    __device__ __forceinline__ void operator()(const philox_words &w, float (&y)[4]) const {
#pragma unroll
        for (int i = 0; i < 4; i += 2) {
            float sine, cosine;
            const float radius = normal_radius(w.word[i]);
            turn(w.word[i + 1], sine, cosine);
            y[i] = radius * cosine, y[i + 1] = radius * sine;
        }
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

/* `side` blocks of the generator make a vector, of which a thread stores `turns`, a block of threads apart. */
template <class Maker, int side, int turns>
static __global__ __launch_bounds__(PRNG_THREADS) void draw_kernel(
    typename Maker::output *y, const __grid_constant__ strided<1> where, int64_t count, bool dense,
    bool wide, bool early, philox_key key, Maker maker) {
    constexpr int each = Maker::outputs, size = each * side;
    using T = typename Maker::output;
    const int64_t vector = (int64_t)blockIdx.x * (PRNG_THREADS * turns) + threadIdx.x;
    if (early) follow_stream();
#pragma unroll
    for (int t = 0; t < turns; t++) {
        const int64_t number = vector + t * PRNG_THREADS, first = number * size;
        pack<T, size> values;
        if (first >= count) return;
#pragma unroll
        for (int b = 0; b < side; b++) {
            T made[each];
            maker(philox(key, number * side + b), made);
            memcpy(&values.at[b * each], made, sizeof made);
        }
        if (dense) {
            store_pack<T, size>(y + first, values, count - first, wide);
            continue;
        }
#pragma unroll
        for (int i = 0; i < size; i++) {
            int64_t at[1];
            where.offsets(first + i, at);
            if (first + i < count) y[at[0]] = values.at[i];
        }
    }
}

template <int side, class Maker>
static fovea_status draw(const fovea_problem *problem, fovea_run *run, int64_t seed, int64_t stream,
                         Maker maker) {
    constexpr int size = Maker::outputs * side;
    using T = typename Maker::output;
    fovea_view y = problem->views[0], *all[] = {&y};
    int64_t count = fovea_view_elements(&y);
    if (count == 0) return FOVEA_OK;
    fovea_views_collapse(all, 1);
    bool dense = y.rank == 1 && (y.stride[0] == 1 || count == 1);
    /* What a block spends on following the stream is an eighth of its time where there are many. */
    const bool early = count < PRNG_EARLY;
    constexpr int many = side > 1 ? 1 : PRNG_TURNS;
    const int turns = early ? 1 : many;
    return launch_as(run, early,
                     early ? draw_kernel<Maker, side, 1> : draw_kernel<Maker, side, many>,
                     blocks_for(count, PRNG_THREADS * size * turns), PRNG_THREADS, 0, (T *)y.data,
                     strided_of<1>({&y}), count, dense, is_aligned(y.data, sizeof(T) * size), early,
                     philox_key_of((uint64_t)seed, (uint64_t)stream), maker);
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
    return draw<4>(problem, run, o->seed, o->stream, mask_maker{limit << 7});
}

extern "C" const fovea_implementation fovea_cuda_table_prng[] = {
    CUDA_ROW(prng_philox, 1u << FOVEA_U32, prng_philox),
    CUDA_ROW(prng_uniform, 1u << FOVEA_F32 | 1u << FOVEA_F64, prng_uniform),
    CUDA_ROW(prng_normal, 1u << FOVEA_F32, prng_normal),
    CUDA_ROW(prng_dropout_mask, 1u << FOVEA_U8, prng_dropout_mask),
    {}};
