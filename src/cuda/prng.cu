/* Domain 14, prng: words of Philox4x32-10 and what is made of them, a block of four words a thread. Ten
 * rounds are 20 products of 32 by 32 bits for 16 bytes, which is a third of what the multiplier does while
 * memory takes them. */
#include "cuda/philox.cuh"

enum { PRNG_THREADS = 256, PRNG_EARLY = 1 << 21 /* elements below which a kernel is short */ };

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

/* Box and Muller, A note on the generation of random normal deviates, 1958. Turns are exact in f32, and
 * half turns too. */
struct normal_maker {
    using output = float;
    static constexpr int outputs = 4;
    __device__ __forceinline__ void operator()(const philox_words &w, float (&y)[4]) const {
#pragma unroll
        for (int i = 0; i < 4; i += 2) {
            float u = (float)((w.word[i] >> 8) + 1) * 0x1p-24f, sine, cosine;
            float radius = sqrtf(-2 * logf(u));
            sincospif((float)(w.word[i + 1] >> 8) * 0x1p-23f, &sine, &cosine);
            y[i] = radius * cosine, y[i + 1] = radius * sine;
        }
    }
};

struct mask_maker {
    using output = uint8_t;
    static constexpr int outputs = 4;
    unsigned limit;
    __device__ __forceinline__ void operator()(const philox_words &w, uint8_t (&y)[4]) const {
#pragma unroll
        for (int i = 0; i < 4; i++) y[i] = w.word[i] >> 8 < limit;
    }
};

/* `blocks` of the generator a thread, side by side. */
template <class Maker, int blocks>
static __global__ __launch_bounds__(PRNG_THREADS) void draw_kernel(
    typename Maker::output *y, const __grid_constant__ strided<1> where, int64_t count, bool dense,
    bool wide, bool early, philox_key key, Maker maker) {
    constexpr int each = Maker::outputs, size = each * blocks;
    using T = typename Maker::output;
    int64_t thread = (int64_t)blockIdx.x * PRNG_THREADS + threadIdx.x, first = thread * size;
    pack<T, size> values;
    if (early) follow_stream();
    if (first >= count) return;
#pragma unroll
    for (int b = 0; b < blocks; b++) {
        T made[each];
        maker(philox(key, thread * blocks + b), made);
#pragma unroll
        for (int i = 0; i < each; i++) values.at[b * each + i] = made[i];
    }
    if (dense) {
        store_pack<T, size>(y + first, values, count - first, wide);
        return;
    }
#pragma unroll
    for (int i = 0; i < size; i++) {
        int64_t at[1];
        where.offsets(first + i, at);
        if (first + i < count) y[at[0]] = values.at[i];
    }
}

template <int blocks, class Maker>
static fovea_status draw(const fovea_problem *problem, fovea_run *run, int64_t seed, int64_t stream,
                         Maker maker) {
    constexpr int size = Maker::outputs * blocks;
    using T = typename Maker::output;
    fovea_view y = problem->views[0], *all[] = {&y};
    int64_t count = fovea_view_elements(&y);
    if (count == 0) return FOVEA_OK;
    fovea_views_collapse(all, 1);
    bool dense = y.rank == 1 && (y.stride[0] == 1 || count == 1);
    /* What a block spends on following the stream is an eighth of its time where there are many. */
    const bool early = count < PRNG_EARLY;
    return launch_as(run, early, draw_kernel<Maker, blocks>, blocks_for(count, PRNG_THREADS * size),
                     PRNG_THREADS, 0, (T *)y.data, strided_of<1>({&y}), count, dense,
                     is_aligned(y.data, sizeof(T) * size), early,
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
    return draw<4>(problem, run, o->seed, o->stream, mask_maker{philox_limit((float)o->keep)});
}

extern "C" const fovea_implementation fovea_cuda_table_prng[] = {
    CUDA_ROW(prng_philox, 1u << FOVEA_U32, prng_philox),
    CUDA_ROW(prng_uniform, 1u << FOVEA_F32 | 1u << FOVEA_F64, prng_uniform),
    CUDA_ROW(prng_normal, 1u << FOVEA_F32, prng_normal),
    CUDA_ROW(prng_dropout_mask, 1u << FOVEA_U8, prng_dropout_mask),
    {}};
