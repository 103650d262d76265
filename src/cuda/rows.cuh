/* Kernels that work along rows. Short rows are held in registers, by some lanes of a warp, a warp or a
 * block; long ones, and those that 16 bytes do not divide, in shared memory; both are read once. What is
 * longer still, or has a stride, is read again for every pass. A job is written once for all. Which thread
 * has which element follows from the numbers of rows and columns alone, so that bits do not depend on addresses. */
#ifndef FOVEA_CUDA_ROWS_CUH
#define FOVEA_CUDA_ROWS_CUH

#include "cuda/brief.cuh"
#include "cuda/hopper/bulk.cuh"
#include "cuda/hopper/cluster.cuh"
#include "cuda/kernel.cuh"

#include <tuple>
#include <utility>

enum {
    ROW_THREADS = 768,
    ROW_DISTANT = 512,
    ROW_HELD = 16,    /* values of a thread, */
    ROW_PACKED = 32,  /* or halves that stay as they are, */
    ROW_SPREAD = 8,   /* or of a row that a cluster of blocks has, */
    ROW_CARRIED = 40, /* or of those that come and go through shared memory */
    ROW_GATHERED = 8, /* of them, what is read beside the row at once */
    ROW_FORM_THREADS = 128,
    ROW_CLUSTER = 8,
    ROW_SCARCE = 24, /* rows, of which each has a cluster */
    ROW_REPEATED =
        40, /* values of a thread of a row that several blocks read, each for a part of the results, */
    ROW_OWN = 4,         /* so many of its own, */
    ROW_REPEATS = 24,    /* and so many blocks at most */
    ROW_BRIEF = 1 << 17, /* elements of all rows that then have a vector a lane */
    ROW_BRIEF_THREADS = 256,
    ROW_BRIEF_BLOCKS = 24, /* rows up to which a block has one of them, */
    ROW_BRIEF_MORE = 132,  /* and where a job that has 40 registers would hold them */
    ROW_STAGED = 512,      /* columns from which rows that 16 bytes do not divide are staged */
    ROW_MANY = 400,        /* rows that fill the time of one another: a wave of blocks */
    ROW_SHARED = 72 << 10, /* bytes up to which three such rows find room in a multiprocessor */
    ROW_AHEAD = 4 << 20,   /* bytes from a row to the one that is asked for beside it */
    ROW_EARLY = 16 << 20,  /* bytes of rows that are asked for before the stream is awaited */
    ROW_FEW = 1 << 14      /* elements of all rows that then have a lane for each vector */
};

/* Rows that come one after another. */
enum {
    STREAMED_VECTORS = 4,   /* of a thread */
    STREAMED_THREADS = 768, /* of all blocks of a multiprocessor */
    STREAMED_LEAST = 2048,  /* columns, of which there are more, */
    STREAMED_MOST = 12288,  /* and at most so many */
    STREAMED_SMALL = 4096,  /* columns up to which */
    STREAMED_FEW = 1 << 24  /* there are at most so many elements of all rows */
};

struct row_place {
    strided<3> rows;     /* of x, y and a third tensor, without what the rows are made of */
    strided<2> elements; /* of x and y along a row */
    int64_t count, columns;
    int members, members_log2; /* threads of a row: a power of 2 up to 32, or all of a block */
    bool wide;                 /* 16 bytes side by side are aligned */
    int block, ahead; /* rows of a block; how many later those are that it asks for, 0: none */
    int early;        /* blocks that ask for their rows before they wait for the stream */
};

/* A kernel for rows of so many lanes alone, whose places are known when it is compiled; lanes 0: none. */
struct row_form {
    int lanes;
    int run, held; /* values of a lane: side by side, and in all */
    int resident;  /* blocks at once */
};

/* What a job needs. */
struct row_needs {
    int registers; /* of a thread: 40, 64, 80 or more */
    int packed; /* the same of halves that stay so: what an element becomes costs less than room for it; or 0 */
    bool ahead;        /* rows are asked for before their blocks begin, */
    bool ahead_staged; /* and so are staged ones of f32 */
    bool carried;      /* many uneven rows come and go by bulk copies, where job.carries() */
    row_form form;     /* for columns that it has fewer places for than one of ROW_HELD values */
    bool repeated; /* few long rows are read by several blocks, each of which makes their sums */
    bool streamed; /* rows of halves come one after another to a block, where job.streams() */
};

/* g(values, column, what the sources have there). A source has gather<plain>(columns, limit, values): `n`
 * elements side by side from each of m columns, for several at once, so that loads overlap; plain(T()): they are of
 * type T and can be read as vectors. */
template <int n, int m, int sources, class G, size_t... S>
static __device__ __forceinline__ void row_apply(const G &g, float (&values)[n], int64_t column,
                                                 const float (&beside)[sources][m][n], int i,
                                                 std::index_sequence<S...>) {
    g(values, column, beside[S][i]...);
}

/* What sources have for all places of a thread, read before the sums are made. */
template <int sources, int m, int n>
struct row_beside {
    float values[sources][m][n];
};
/* Of a row that has room for it; the sources themselves of others, which read as they store. What a job does first: a
 * brief row is there after it, as it waits for the stream when it knows where everything is. */
template <class Row, class... S>
static __device__ __forceinline__ auto row_ask(Row &row, const S &...sources) {
    if constexpr (Row::early)
        return row.ask(sources...);
    else
        return std::tuple<S...>(sources...);
}
template <class Row, class O, class F, class G, class A>
static __device__ __forceinline__ void row_store(Row &row, O *y, F f, G g, const A &asked) {
    if constexpr (Row::early)
        row.store_asked(y, f, g, asked);
    else
        std::apply([&](const auto &...sources) { row.store(y, f, g, sources...); }, asked);
}

/* Over a block of `warps`; all get the result. One barrier: the same piece of code may not come twice without
 * another between. */
template <class Join>
static __device__ __forceinline__ float reduce_row(float value, int warps, Join join) {
    __shared__ float4 partial[8];
    float *const words = (float *)partial;
    value = reduce_warp(value, join);
    if (threadIdx.x % 32 == 0) words[threadIdx.x / 32] = value;
    __syncthreads();
    value = words[0];
#pragma unroll 1
    for (int w = 1; w < warps && w % 4 != 0; w++) value = join(value, words[w]);
#pragma unroll 2
    for (int w = 4; w + 4 <= warps; w += 4) {
        const float4 p = partial[w / 4];
        value = join(value, join(join(p.x, p.y), join(p.z, p.w)));
    }
#pragma unroll 1
    for (int w = warps < 4 ? warps : warps / 4 * 4; w < warps; w++) value = join(value, words[w]);
    return value;
}

/* The largest power of 2 below `places`. */
static constexpr int row_above(int places) {
    int power = 1;
    while (2 * power < places) power *= 2;
    return power;
}

/* Elements of a row in registers: `run` of them side by side in at[i]. `packed`: as they are in memory, where
 * halves take half the registers, so that more rows are on their way; f32 else, and can be replaced. */
template <class T, int run, bool packed, int held, int lanes>
struct held_row {
    /* Places of a thread that are within any row of its form, which is longer than half of the next power of 2. */
    static constexpr int sure = lanes > 0 ? row_above(lanes *held) / (lanes * run) : 0;
    static constexpr bool early = false, at_once = false, brief = false;
    using element_type = T;
    static constexpr bool replaceable = !packed;
    using kept = typename std::conditional<packed, T, float>::type;
    pack<kept, run> at[held / run];
    const T *x;
    int member, members, columns;
    bool wide, idle; /* rows of x and y are aligned; there is none for this thread */

    __device__ __forceinline__ int column(int i) const {
        return (i * (lanes > 0 ? lanes : members) + member) * run;
    }
    __device__ __forceinline__ bool inside(int i) const { return i < sure || column(i) < columns; }
    __device__ __forceinline__ float element(int i) const { return widen(at[i / run].at[i % run]); }

    /* Places beyond the row hold `otherwise`. All loads are on their way before the first is looked at. */
    __device__ __forceinline__ void load(float otherwise) {
        pack<T, run> loaded[held / run];
        if (run == 1 || wide) {
#pragma unroll
            for (int i = 0; i < held / run; i++) {
#pragma unroll
                for (int j = 0; j < run; j++) loaded[i].at[j] = narrow<T>(otherwise);
                if (inside(i)) loaded[i] = *reinterpret_cast<const pack<T, run> *>(x + column(i));
            }
        } else {
#pragma unroll
            for (int i = 0; i < held / run; i++) {
#pragma unroll
                for (int j = 0; j < run; j++) loaded[i].at[j] = narrow<T>(otherwise);
                if (inside(i)) loaded[i] = load_pack<T, run>(x + column(i), run, false);
            }
        }
#pragma unroll
        for (int i = 0; i < held; i++) {
            const T from = loaded[i / run].at[i % run];
            kept &to = at[i / run].at[i % run];
            if constexpr (packed)
                to = from;
            else
                to = widen(from);
        }
    }
    /* Widens packed elements anew from here on: the compiler would keep those it has in registers. */
    __device__ __forceinline__ void renew() {
#pragma unroll
        for (int i = 0; packed && i < held / run; i++) put_together(at[i]);
    }
    template <class Join>
    __device__ __forceinline__ float over_row(float value, Join join) const {
        if constexpr (lanes > 0) {
#pragma unroll
            for (int step = lanes / 2; step > 0; step /= 2)
                value = join(value, shuffle_xor(value, step));
            return value;
        }
        if (members <= 32) return reduce_lanes(value, members, join);
        return reduce_row(value, members / 32, join);
    }
    __device__ __forceinline__ float maximum() {
        renew();
        float best = element(0);
#pragma unroll
        for (int i = 1; i < held; i++) best = max_or_nan(best, element(i));
        return over_row(best, [](float a, float b) { return max_or_nan(a, b); });
    }
    __device__ __forceinline__ float largest() {
        float best = 0;
        renew();
#pragma unroll
        for (int i = 0; i < held; i++) best = max_or_nan(best, fabsf(element(i)));
        return over_row(best, [](float a, float b) { return max_or_nan(a, b); });
    }
    /* The sum of f over all places, those beyond the row included; in pairs, as sums of f32 err. */
    template <class F>
    __device__ __forceinline__ float sum(F f) {
        float chains[4] = {0, 0, 0, 0};
        renew();
#pragma unroll
        for (int i = 0; i < held; i++) chains[i % 4] += f(element(i));
        float total = (chains[0] + chains[1]) + (chains[2] + chains[3]);
        return over_row(total, [](float a, float b) { return a + b; });
    }
    /* The same without these. */
    template <class F>
    __device__ __forceinline__ float sum_inside(F f) {
        float chains[4] = {0, 0, 0, 0};
        renew();
#pragma unroll
        for (int i = 0; i < held; i++) chains[i % 4] += inside(i / run) ? f(element(i)) : 0;
        float total = (chains[0] + chains[1]) + (chains[2] + chains[3]);
        return over_row(total, [](float a, float b) { return a + b; });
    }
    /* Every element becomes f of it, 0 beyond the row. */
    template <class F>
    __device__ __forceinline__ void replace(F f) {
#pragma unroll
        for (int i = 0; i < held; i++)
            at[i / run].at[i % run] = inside(i / run) ? f(element(i)) : 0;
    }
    /* y = what g makes of elements side by side as they are now; f: what they would have been replaced by. */
    template <class O, class F, class G, class... S>
    __device__ __forceinline__ void store(O *y, F f, G g, const S &...sources) {
        renew();
        if (lanes > 0 && idle) return;
        if ((run == 1 || wide) && (sources.plain(T()) && ...))
            store_with<true>(y, f, g, sources...);
        else
            store_with<false>(y, f, g, sources...);
    }
    /* plain: all sources are of T, in vectors, so that no branch keeps loads apart. */
    template <bool plain, class O, class F, class G, class... S>
    __device__ __forceinline__ void store_with(O *y, F f, G g, const S &...sources) const {
        constexpr int m = run == 1 ? ROW_GATHERED / 2 : run < ROW_GATHERED ? ROW_GATHERED / run : 1;
        constexpr int count = sizeof...(S) > 0 ? sizeof...(S) : 1;
#pragma unroll
        for (int first = 0; first < held / run; first += m) {
            int places[m];
            float beside[count][m][run];
            int source = 0;
            if (!inside(first)) break;
#pragma unroll
            for (int i = 0; i < m; i++) {
                places[i] = column(first + i);
                if (first + i < sure) __builtin_assume(places[i] < columns);
            }
            (sources.template gather<plain>(places, columns, beside[source++]), ...);
            (void)source;
#pragma unroll
            for (int i = 0; i < m; i++) {
                pack<O, run> result;
                float values[run];
                if (first + i >= held / run || (first + i >= sure && places[i] >= columns)) break;
#pragma unroll
                for (int j = 0; j < run; j++) {
                    values[j] = element((first + i) * run + j);
                    if (packed) values[j] = f(values[j]);
                }
                row_apply(g, values, places[i], beside, i, std::index_sequence_for<S...>{});
#pragma unroll
                for (int j = 0; j < run; j++) result.at[j] = narrow<O>(values[j]);
                store_pack<O, run>(y + places[i], result, run, plain || wide);
            }
        }
    }
    __device__ __forceinline__ float value(int64_t c) const { return widen(x[c]); }
    __device__ __forceinline__ bool leads() const { return member == 0 && !idle; }
};

/* The same of a row in shared memory, at the address it has in memory but for multiples of 16: a block's
 * threads take turns along it. Elements of f32 can be replaced there; others are anew where they are stored. */
template <class T, int threads>
struct staged_row {
    using element_type = T;
    static constexpr bool early = false, at_once = false, brief = false;
    T *at;
    const T *x;
    int columns;
    bool replaced;

    static constexpr int chains = 4;
    static constexpr bool replaceable = std::is_same<T, float>::value;

    /* Elements before the first multiple of 16 bytes, and vectors from there on. */
    __device__ __forceinline__ int head() const {
        int first = (int)(-(uintptr_t)x % 16 / sizeof(T));
        return first < columns ? first : columns;
    }
    __device__ __forceinline__ int vectors() const {
        return (columns - head()) / (int)(16 / sizeof(T));
    }
    /* copy(vector, number of its first element) and single(number) for the rest. */
    template <class C, class S>
    __device__ __forceinline__ void whole(C copy, S single) const {
        constexpr int size = 16 / sizeof(T);
        const int first = head(), count = vectors(), rest = columns - first - count * size;
#pragma unroll 4
        for (int v = threadIdx.x; v < count; v += threads) copy(first + v * size);
        if ((int)threadIdx.x < first) single((int)threadIdx.x);
        if ((int)threadIdx.x < rest) single(first + count * size + (int)threadIdx.x);
    }
    __device__ __forceinline__ void load() const {
        whole([&](int i) { stage_vector(at + i, x + i); }, [&](int i) { at[i] = x[i]; });
        stage_commit();
        stage_wait<0>();
        __syncthreads();
    }
    /* take(chain, element) of a thread's elements, one chain after another. */
    template <class Take>
    __device__ __forceinline__ void each(Take take) const {
        int c = threadIdx.x;
        constexpr int step = threads;
        for (; c + (chains - 1) * step < columns; c += chains * step)
#pragma unroll
            for (int k = 0; k < chains; k++) take(k, widen(at[c + k * step]));
#pragma unroll
        for (int k = 0; k < chains - 1; k++, c += step)
            if (c < columns) take(k, widen(at[c]));
    }
    template <class Join>
    __device__ __forceinline__ float over_row(const float (&value)[chains], Join join) const {
        return reduce_row(join(join(value[0], value[1]), join(value[2], value[3])), threads / 32,
                          join);
    }
    __device__ __forceinline__ float maximum() const {
        float best[chains] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
        each([&](int k, float x) { best[k] = max_or_nan(best[k], x); });
        return over_row(best, [](float a, float b) { return max_or_nan(a, b); });
    }
    __device__ __forceinline__ float largest() const {
        float best[chains] = {0, 0, 0, 0};
        each([&](int k, float x) { best[k] = max_or_nan(best[k], fabsf(x)); });
        return over_row(best, [](float a, float b) { return max_or_nan(a, b); });
    }
    /* 256 to 1024 threads: at most 28 terms a chain. */
    template <class F>
    __device__ __forceinline__ float sum(F f) const {
        float total[chains] = {0, 0, 0, 0};
        each([&](int k, float x) { total[k] += f(x); });
        return over_row(total, [](float a, float b) { return a + b; });
    }
    template <class F>
    __device__ __forceinline__ float sum_inside(F f) const {
        return sum(f);
    }
    template <class F>
    __device__ __forceinline__ void replace(F f) {
        if constexpr (replaceable) {
#pragma unroll 4
            for (int c = threadIdx.x; c < columns; c += threads) at[c] = f(at[c]);
            replaced = true;
        }
    }
    template <class O, class F, class G, class... S>
    __device__ __forceinline__ void store(O *y, F f, G g, const S &...sources) const {
        if ((sources.plain(T()) && ...))
            store_with<true>(y, f, g, sources...);
        else
            store_with<false>(y, f, g, sources...);
    }
    /* By way of shared memory where y is aligned as x is: rms_norm of 10240 rows of 9765 floats, whose warps would
     * write across sectors, 225 to 217 µs. Floats with two sources lose by it (layer_norm 233 to 259), and so do few
     * rows (rms_norm of one 3.3 to 4.1). */
    template <bool plain, class O, class F, class G, class... S>
    __device__ __forceinline__ void store_with(O *y, F f, G g, const S &...sources) const {
        constexpr int m = sizeof...(S) > 2 ? 1 : ROW_GATHERED / 2;
        constexpr int count = sizeof...(S) > 0 ? sizeof...(S) : 1;
        const bool gains = sizeof(T) < 4 || (sizeof...(S) < 2 && gridDim.x >= ROW_MANY);
        const bool together =
            gains && sizeof(O) == sizeof(T) && ((uintptr_t)y - (uintptr_t)x) % 16 == 0;
        O *to = together ? (O *)at : y;
        constexpr int step = threads;
#pragma unroll 1
        for (int first = threadIdx.x; first < columns; first += m * step) {
            int places[m];
            float beside[count][m][1];
            int source = 0;
#pragma unroll
            for (int i = 0; i < m; i++) places[i] = first + i * step;
            (sources.template gather<plain>(places, columns, beside[source++]), ...);
            (void)source;
#pragma unroll
            for (int i = 0; i < m; i++) {
                if (places[i] >= columns) break;
                float values[1] = {widen(at[places[i]])};
                if (!replaced) values[0] = f(values[0]);
                row_apply(g, values, places[i], beside, i, std::index_sequence_for<S...>{});
                to[places[i]] = narrow<O>(values[0]);
            }
        }
        if (!together) return;
        __syncthreads();
        constexpr int size = 16 / sizeof(T);
        using vector = pack<O, sizeof(O) == sizeof(T) ? size : 1>;
        const O *from = (const O *)at;
        whole([&](int i) { *(vector *)(y + i) = *(const vector *)(from + i); },
              [&](int i) { y[i] = from[i]; });
    }
    __device__ __forceinline__ float value(int64_t c) const { return widen(x[c]); }
    __device__ __forceinline__ bool leads() const { return threadIdx.x == 0; }
};

/* The same of a row that comes to shared memory and leaves it by bulk copies, at the address it has in memory but for
 * multiples of 16, and is in registers between: a warp has 32 * held columns beside one another, so that a thread's
 * are 32 apart, which the compiler knows. */
template <class T, int held, bool even>
struct carried_row {
    using element_type = T;
    static constexpr bool early = false, at_once = true, brief = false;
    T *at;
    const T *x;
    int columns;
    float values[held];

    static __device__ __forceinline__ int first() {
        return (int)threadIdx.x / 32 * 32 * held + (int)threadIdx.x % 32;
    }
    /* Columns of a warp. */
    __device__ __forceinline__ int share(int warp) const {
        const int rest = columns - warp * 32 * held;
        return rest < 32 * held ? rest : 32 * held;
    }
    /* f(i) for the places that there are. */
    template <class F>
    __device__ __forceinline__ void each(F f) {
        if (share((int)threadIdx.x / 32) == 32 * held) {
#pragma unroll
            for (int i = 0; i < held; i++) f(i);
        } else {
#pragma unroll
            for (int i = 0; i < held; i++)
                if (first() + 32 * i < columns) f(i);
        }
    }
    /* Elements before the first multiple of 16 bytes, bytes of whole vectors, elements after them. */
    __device__ __forceinline__ int head() const { return (int)(-(uintptr_t)x % 16 / sizeof(T)); }
    __device__ __forceinline__ int middle() const {
        return (columns - head()) * (int)sizeof(T) / 16 * 16;
    }
    /* single(number) for what is outside of the vectors. */
    template <class F>
    __device__ __forceinline__ void ends(F single) const {
        const int before = head(), last = before + middle() / (int)sizeof(T);
        if ((int)threadIdx.x < before) single((int)threadIdx.x);
        if ((int)threadIdx.x < columns - last) single(last + (int)threadIdx.x);
    }
    __device__ __forceinline__ void load(uint32_t barrier) {
        if (threadIdx.x == 0) fovea::hopper::bulk_load(at + head(), x + head(), middle(), barrier);
        ends([&](int i) { at[i] = x[i]; });
        __syncthreads();
        fovea::hopper::barrier_wait(barrier, 0);
        each([&](int i) { values[i] = widen(at[first() + 32 * i]); });
    }
    template <class F>
    __device__ __forceinline__ float sum_mine(F f) {
        float chains[4] = {0, 0, 0, 0};
        each([&](int i) { chains[i % 4] += f(values[i]); });
        return (chains[0] + chains[1]) + (chains[2] + chains[3]);
    }
    template <class F>
    __device__ __forceinline__ float sum(F f) {
        return reduce_row(sum_mine(f), (int)blockDim.x / 32,
                          [](float a, float b) { return a + b; });
    }
    template <class F>
    __device__ __forceinline__ void replace(F f) {
        each([&](int i) { values[i] = f(values[i]); });
    }
    /* Mean and sum of squared differences from it, with one barrier: warps have those of their own columns. */
    __device__ __forceinline__ float moments(float *mean) {
        __shared__ float2 partial[32];
        const auto add = [](float a, float b) { return a + b; };
        const int warp = (int)threadIdx.x / 32, warps = (int)blockDim.x / 32;
        const float mine =
            reduce_warp(sum_mine([](float x) { return x; }), add) / (float)share(warp);
        const float square =
            reduce_warp(sum_mine([=](float x) { return (x - mine) * (x - mine); }), add);
        if (threadIdx.x % 32 == 0) partial[warp] = make_float2(mine, square);
        __syncthreads();
        float sum = 0, squares = 0;
#pragma unroll 4
        for (int w = 0; w < warps; w++) sum += (float)share(w) * partial[w].x;
        const float middle = sum / (float)columns;
#pragma unroll 4
        for (int w = 0; w < warps; w++) {
            const float2 p = partial[w];
            squares += fmaf((float)share(w), (p.x - middle) * (p.x - middle), p.y);
        }
        *mean = middle;
        return squares;
    }
    /* The quotient comes when the elements have been replaced: before, with all of them in registers, layer_norm of 10^8
     * took 213 to 216 µs for 211. */
    __device__ __forceinline__ float variance(float squares) const {
        return squares / (float)columns;
    }
    /* even: y lies as x does, and all sources are of T, in vectors. */
    template <class F, class G, class... S>
    __device__ __forceinline__ void store(T *y, F, G g, const S &...sources) {
        if constexpr (!even) {
            store_with<false>(y, g, sources...);
        } else {
            if (share((int)threadIdx.x / 32) == 32 * held)
                store_with<true>(at, g, sources...);
            else
                store_with<false>(at, g, sources...);
            fovea::hopper::bulk_fence();
            __syncthreads();
            ends([&](int i) { y[i] = at[i]; });
            if (threadIdx.x == 0) fovea::hopper::bulk_store(y + head(), at + head(), middle());
        }
    }
    /* whole: there are all places. */
    template <bool whole, class G, class... S>
    __device__ __forceinline__ void store_with(T *to, G g, const S &...sources) const {
        constexpr int m = ROW_GATHERED / 2, count = sizeof...(S) > 0 ? sizeof...(S) : 1;
        static_assert(held % m == 0, "gathered at once");
#pragma unroll
        for (int i = 0; i < held; i += m) {
            int places[m], source = 0;
            float beside[count][m][1];
            if (!whole && first() + 32 * i >= columns) break;
#pragma unroll
            for (int j = 0; j < m; j++) {
                places[j] = first() + 32 * (i + j);
                if (whole) __builtin_assume(places[j] < columns);
            }
            (sources.template gather<even>(places, columns, beside[source++]), ...);
            (void)source;
#pragma unroll
            for (int j = 0; j < m; j++) {
                float one[1] = {values[i + j]};
                if (!whole && places[j] >= columns) break;
                row_apply(g, one, places[j], beside, j, std::index_sequence_for<S...>{});
                to[places[j]] = narrow<T>(one[0]);
            }
        }
    }
};

/* The same where there are few rows: a cluster of blocks has it in registers, so that all of its loads are on their way at
 * once. Every warp shows every block what it has of a sum, and all wait once for it. */
template <class T, int threads>
struct spread_row {
    using element_type = T;
    static constexpr bool early = true, at_once = true, brief = false;
    static constexpr bool replaceable = true;
    static constexpr int distance = ROW_CLUSTER * threads; /* of columns between two values */
    const T *x, *mine;                                     /* of the row, and of values[0] */
    int columns, valid;                                    /* values */
    double part;                                           /* 1 / columns */
    float values[ROW_SPREAD], pivot;

    static __device__ __forceinline__ int warp() {
        return (int)(fovea::hopper::cluster_rank() * (threads / 32) + threadIdx.x / 32);
    }
    static constexpr int warps = distance / 32;
    __device__ __forceinline__ int column(int i) const {
        return warp() * 32 + (int)threadIdx.x % 32 + i * distance;
    }
    template <class F>
    __device__ __forceinline__ void each(F f) {
#pragma unroll
        for (int i = 0; i < ROW_SPREAD; i++)
            if (i < valid) f(i);
    }
    __device__ __forceinline__ void load() {
        T loaded[ROW_SPREAD];
#pragma unroll
        for (int i = 0; i < ROW_SPREAD; i++) loaded[i] = i < valid ? mine[i * distance] : T(0);
        pivot = widen(*x);
#pragma unroll
        for (int i = 0; i < ROW_SPREAD; i++) values[i] = widen(loaded[i]);
    }
    template <class V>
    static __device__ __forceinline__ void show(V *shown, V value) {
        const unsigned lane = threadIdx.x % 32;
        if (lane < ROW_CLUSTER) fovea::hopper::cluster_store(shown + warp(), lane, value);
        fovea::hopper::cluster_arrive();
        fovea::hopper::cluster_wait();
    }
    template <class Join>
    __device__ __forceinline__ float over_row(float value, Join join) const {
        __shared__ float2 shown[warps];
        const int lane = (int)threadIdx.x % 32;
        show(shown, make_float2(reduce_warp(value, join), 0));
        float all = shown[lane].x;
#pragma unroll
        for (int w = 32; w < warps; w += 32) all = join(all, shown[w + lane].x);
        return reduce_warp(all, join);
    }
    __device__ __forceinline__ float maximum() {
        float best = -INFINITY;
        each([&](int i) { best = max_or_nan(best, values[i]); });
        return over_row(best, [](float a, float b) { return max_or_nan(a, b); });
    }
    __device__ __forceinline__ float largest() {
        float best = 0;
        each([&](int i) { best = max_or_nan(best, fabsf(values[i])); });
        return over_row(best, [](float a, float b) { return max_or_nan(a, b); });
    }
    template <class F>
    __device__ __forceinline__ float sum(F f) {
        float chains[2] = {0, 0};
        each([&](int i) { chains[i % 2] += f(values[i]); });
        return over_row(chains[0] + chains[1], [](float a, float b) { return a + b; });
    }
    template <class F>
    __device__ __forceinline__ float sum_inside(F f) {
        return sum(f);
    }
    template <class F>
    __device__ __forceinline__ void replace(F f) {
        each([&](int i) { values[i] = f(values[i]); });
    }
    /* Mean and variance: sums of differences from the first element, in f64. */
    __device__ __forceinline__ float moments(float *mean) {
        __shared__ double2 shown[warps];
        const int lane = (int)threadIdx.x % 32;
        double sum = 0, squares = 0;
        each([&](int i) {
            const double d = (double)values[i] - (double)pivot;
            sum += d, squares = fma(d, d, squares);
        });
        double2 all = sum_pair(sum, squares);
        show(shown, all);
        all = shown[lane];
#pragma unroll
        for (int w = 32; w < warps; w += 32) all.x += shown[w + lane].x, all.y += shown[w + lane].y;
        all = sum_pair(all.x, all.y);
        return moments_of(all, part, pivot, mean);
    }
    static __device__ __forceinline__ float variance(float found) { return found; }
    /* A source has aim_apart<ROW_SPREAD, distance>(column, valid), as aim of brief rows. */
    template <class... S>
    __device__ __forceinline__ auto ask(const S &...sources) {
        float loaded[sizeof...(S) + !sizeof...(S)][ROW_SPREAD];
        row_beside<sizeof...(S) + !sizeof...(S), ROW_SPREAD, 1> asked = {};
        const auto aims =
            std::make_tuple(sources.template aim_apart<ROW_SPREAD, distance>(column(0), valid)...);
        int source = 0;
        await_stream();
        load();
        fovea::hopper::cluster_wait(); /* all have begun, and the row is asked for first */
        std::apply([&](const auto &...aim) { (aim.template load<false>(loaded[source++]), ...); },
                   aims);
        (void)source;
#pragma unroll
        for (int n = 0; n < (int)sizeof...(S); n++)
#pragma unroll
            for (int i = 0; i < ROW_SPREAD; i++) asked.values[n][i][0] = loaded[n][i];
        return asked;
    }
    /* y: where values[0] goes. */
    template <class O, class F, class G, int sources>
    __device__ __forceinline__ void
    store_asked(O *y, F, G g, const row_beside<sources, ROW_SPREAD, 1> &asked) const {
        store_with(y, g, asked, std::make_index_sequence<sources>{});
    }
    template <class O, class F, class G>
    __device__ __forceinline__ void store(O *y, F, G g) const {
        store_with(y, g, row_beside<1, ROW_SPREAD, 1>{}, std::index_sequence<>{});
    }
    template <class O, class G, int sources, size_t... S>
    __device__ __forceinline__ void store_with(O *y, G g,
                                               const row_beside<sources, ROW_SPREAD, 1> &asked,
                                               std::index_sequence<S...> which) const {
#pragma unroll
        for (int i = 0; i < ROW_SPREAD; i++) {
            float one[1] = {values[i]};
            if (i >= valid) break;
            row_apply(g, one, column(i), asked.values, i, which);
            y[i * distance] = narrow<O>(one[0]);
        }
    }
    __device__ __forceinline__ float value(int64_t c) const { return widen(x[c]); }
    __device__ __forceinline__ bool leads() const { return warp() == 0 && threadIdx.x == 0; }
};

/* What all warps have, by the same order in each. */
template <int warps, class V, class Join>
static __device__ __forceinline__ V join_warps(V value, Join join) {
    __shared__ __align__(16) V partial[warps];
    V all[warps];
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
    __syncthreads();
#pragma unroll
    for (int w = 0; w < warps; w++) all[w] = partial[w];
#pragma unroll
    for (int span = 1; span < warps; span *= 2)
#pragma unroll
        for (int w = 0; w < warps; w += 2 * span) all[w] = join(all[w], all[w + span]);
    return all[0];
}

/* The same where every block of a row reads all of it, and knows its sums without the others, whose word would take longer
 * to come than the row. A thread has ROW_OWN columns of the results, `threads` apart. Each kind of sum comes once. */
template <class T, int threads>
struct repeated_row {
    using element_type = T;
    static constexpr bool early = true, at_once = true, brief = false;
    const T *mine; /* of this thread's first value in the row */
    const T *own;  /* and among the results */
    int columns;
    int valid;        /* values of the thread */
    int first, owned; /* its first column of the results; how many are its own */
    float values[ROW_REPEATED], results[ROW_OWN];

    __device__ __forceinline__ void load() {
        T loaded[ROW_REPEATED], kept[ROW_OWN];
#pragma unroll
        for (int i = 0; i < ROW_REPEATED; i++)
            loaded[i] = i < valid ? mine[i * threads] : narrow<T>(0.0f);
#pragma unroll
        for (int i = 0; i < ROW_OWN; i++) kept[i] = i < owned ? own[i * threads] : narrow<T>(0.0f);
#pragma unroll
        for (int i = 0; i < ROW_REPEATED; i++) values[i] = widen(loaded[i]);
#pragma unroll
        for (int i = 0; i < ROW_OWN; i++) results[i] = widen(kept[i]);
    }
    /* f(0) is 0. */
    template <class F>
    __device__ __forceinline__ float sum(F f) const {
        float chains[4] = {0, 0, 0, 0};
#pragma unroll
        for (int i = 0; i < ROW_REPEATED; i++) chains[i % 4] += f(values[i]);
        return join_warps<threads / 32>(
            sum_of_warp((chains[0] + chains[1]) + (chains[2] + chains[3])),
            [](float a, float b) { return a + b; });
    }
    template <class... S>
    __device__ __forceinline__ auto ask(const S &...sources) {
        float loaded[sizeof...(S) + !sizeof...(S)][ROW_OWN];
        row_beside<sizeof...(S) + !sizeof...(S), ROW_OWN, 1> asked = {};
        const auto aims =
            std::make_tuple(sources.template aim_apart<ROW_OWN, threads>(first, owned)...);
        int source = 0;
        await_stream();
        load();
        std::apply([&](const auto &...aim) { (aim.template load<false>(loaded[source++]), ...); },
                   aims);
        (void)source;
#pragma unroll
        for (int n = 0; n < (int)sizeof...(S); n++)
#pragma unroll
            for (int i = 0; i < ROW_OWN; i++) asked.values[n][i][0] = loaded[n][i];
        return asked;
    }
    /* y: where results[0] goes. */
    template <class O, class F, class G, int sources>
    __device__ __forceinline__ void
    store_asked(O *y, F, G g, const row_beside<sources, ROW_OWN, 1> &asked) const {
        store_with(y, g, asked, std::make_index_sequence<sources>{});
    }
    template <class O, class G, int sources, size_t... S>
    __device__ __forceinline__ void store_with(O *y, G g,
                                               const row_beside<sources, ROW_OWN, 1> &asked,
                                               std::index_sequence<S...> which) const {
#pragma unroll
        for (int i = 0; i < ROW_OWN; i++) {
            float one[1] = {results[i]};
            row_apply(g, one, first + i * threads, asked.values, i, which);
            if (i < owned) y[i * threads] = narrow<O>(one[0]);
        }
    }
};

/* The same of a few rows that are short: a lane has `run` elements and no more, so that little code follows once they are
 * there. A row has `warps`, 1 or those of a block. */
template <class T, int run, int warps, bool wide>
struct brief_row {
    using element_type = T;
    static constexpr bool early = true, at_once = true, brief = true;
    static constexpr bool replaceable = true;
    const T *x, *mine;  /* of the row, and of values[0] */
    int columns, first; /* the column of that */
    double part;        /* 1 / columns */
    float otherwise;    /* beyond the end */
    float values[run], pivot;

    __device__ __forceinline__ bool inside() const { return first < columns; }
    __device__ __forceinline__ void load() {
        pack<T, run> loaded;
#pragma unroll
        for (int j = 0; j < run; j++) loaded.at[j] = narrow<T>(otherwise);
        if (inside()) loaded = load_pack<T, run>(mine, run, wide);
        pivot = widen(*x);
#pragma unroll
        for (int j = 0; j < run; j++) values[j] = widen(loaded.at[j]);
    }
    template <class Join>
    static __device__ __forceinline__ unsigned over_keys(unsigned key, Join join) {
        key = __reduce_max_sync(0xffffffffu, key);
        if constexpr (warps > 1) key = join_warps<warps>(key, join);
        return key;
    }
    __device__ __forceinline__ float maximum() const {
        float best = values[0];
#pragma unroll
        for (int j = 1; j < run; j++) best = max_or_nan(best, values[j]);
        return value_of_key<true>(
            over_keys(key_of<true>(best), [](unsigned a, unsigned b) { return max(a, b); }));
    }
    __device__ __forceinline__ float largest() const {
        unsigned most = 0;
#pragma unroll
        for (int j = 0; j < run; j++) most = max(most, without_sign(__float_as_uint(values[j])));
        return __uint_as_float(over_keys(most, [](unsigned a, unsigned b) { return max(a, b); }));
    }
    /* No branch around f, which would keep elements apart. */
    template <class F>
    static __device__ __forceinline__ float sum_mine(const float (&of)[run], F f) {
        float terms[run];
#pragma unroll
        for (int j = 0; j < run; j++) terms[j] = f(of[j]);
#pragma unroll
        for (int span = 1; span < run; span *= 2)
#pragma unroll
            for (int j = 0; j < run; j += 2 * span) terms[j] += terms[j + span];
        return terms[0];
    }
    /* Each kind of sum has shared memory of its own, so that no barrier is needed between two. */
    template <class Kind>
    static __device__ __forceinline__ float sum_over_row(float mine) {
        mine = sum_of_warp(mine);
        if constexpr (warps > 1)
            return join_warps<warps>(mine, [](float a, float b) { return a + b; });
        return mine;
    }
    template <class F>
    __device__ __forceinline__ float sum(F f) const {
        const float mine = sum_mine(values, f);
        return sum_over_row<F>(inside() ? mine : 0);
    }
    /* Elements become e^x, whose sum is returned, without a maximum that all have to wait for; NaN where not all are
     * near enough to 0 for it. */
    __device__ __forceinline__ float near_powers() {
        bool near = true;
#pragma unroll
        for (int j = 0; j < run; j++)
            near = near & (fabsf(values[j]) <= BRIEF_NEAR), values[j] = near_exp(values[j]);
        const float mine = sum_mine(values, [](float e) { return e; });
        return sum_over_row<brief_row>(!inside() ? 0 : near ? mine : NAN);
    }
    template <class F>
    __device__ __forceinline__ float sum_inside(F f) const {
        return sum(f);
    }
    template <class F>
    __device__ __forceinline__ void replace(F f) {
#pragma unroll
        for (int j = 0; j < run; j++) {
            const float value = f(values[j]);
            values[j] = inside() ? value : 0;
        }
    }
    /* Mean and variance: sums of differences from the first element, in f64. */
    __device__ __forceinline__ float moments(float *mean) const {
        double sum = 0, squares = 0;
#pragma unroll
        for (int j = 0; j < run; j++) {
            const double d = (double)(inside() ? values[j] : pivot) - (double)pivot;
            sum += d, squares = fma(d, d, squares);
        }
        double2 all = sum_pair(sum, squares);
        if constexpr (warps > 1)
            all = join_warps<warps>(
                all, [](double2 a, double2 b) { return make_double2(a.x + b.x, a.y + b.y); });
        return moments_of(all, part, pivot, mean);
    }
    static __device__ __forceinline__ float variance(float found) { return found; }
    /* A source has aim<run>(column, inside): where a lane's elements are, as something with load<wide>(values). */
    template <class... S>
    __device__ __forceinline__ auto ask(const S &...sources) {
        row_beside<sizeof...(S) + !sizeof...(S), 1, run> asked = {};
        const auto aims = std::make_tuple(sources.template aim<run>(first, inside())...);
        int source = 0;
        await_stream();
        load();
        std::apply(
            [&](const auto &...aim) { (aim.template load<wide>(asked.values[source++][0]), ...); },
            aims);
        (void)source;
        return asked;
    }
    /* y: where values[0] goes. */
    template <class O, class F, class G, int sources>
    __device__ __forceinline__ void store_asked(O *y, F, G g,
                                                const row_beside<sources, 1, run> &asked) const {
        store_with(y, g, asked, std::make_index_sequence<sources>{});
    }
    template <class O, class F, class G>
    __device__ __forceinline__ void store(O *y, F, G g) const {
        store_with(y, g, row_beside<1, 1, run>{}, std::index_sequence<>{});
    }
    template <class O, class G, int sources, size_t... S>
    __device__ __forceinline__ void store_with(O *y, G g, const row_beside<sources, 1, run> &asked,
                                               std::index_sequence<S...> which) const {
        pack<O, run> result;
        float mine[run];
        if (!inside()) return;
#pragma unroll
        for (int j = 0; j < run; j++) mine[j] = values[j];
        row_apply(g, mine, first, asked.values, 0, which);
#pragma unroll
        for (int j = 0; j < run; j++) result.at[j] = narrow<O>(mine[j]);
        store_pack(y, result, run, wide);
    }
    __device__ __forceinline__ float value(int64_t c) const { return widen(x[c]); }
    __device__ __forceinline__ bool leads() const {
        return threadIdx.x % (unsigned)(32 * warps) == 0;
    }
};

/* The same of a row in memory; replacing is done anew where elements are stored. */
template <class T>
struct distant_row {
    using element_type = T;
    static constexpr bool early = false, at_once = false, brief = false;
    const T *x;
    const strided<2> *elements;
    int64_t columns;

    __device__ __forceinline__ float value(int64_t c) const {
        int64_t from[2];
        elements->offsets(c, from);
        return widen(x[from[0]]);
    }
    template <class V, class Join>
    static __device__ __forceinline__ V over_row(V value, Join join) {
        return reduce_block(value, ROW_DISTANT / 32, join);
    }
    __device__ __forceinline__ float maximum() const {
        float best = -INFINITY;
        for (int64_t c = threadIdx.x; c < columns; c += ROW_DISTANT)
            best = max_or_nan(best, value(c));
        return over_row(best, [](float a, float b) { return max_or_nan(a, b); });
    }
    __device__ __forceinline__ float largest() const {
        float best = 0;
        for (int64_t c = threadIdx.x; c < columns; c += ROW_DISTANT)
            best = max_or_nan(best, fabsf(value(c)));
        return over_row(best, [](float a, float b) { return max_or_nan(a, b); });
    }
    /* Longer chains than in registers, so they are wider. */
    template <class F>
    __device__ __forceinline__ float sum(F f) const {
        double chain = 0;
        for (int64_t c = threadIdx.x; c < columns; c += ROW_DISTANT) chain += (double)f(value(c));
        return (float)over_row(chain, [](double a, double b) { return a + b; });
    }
    template <class F>
    __device__ __forceinline__ float sum_inside(F f) const {
        return sum(f);
    }
    template <class F>
    __device__ __forceinline__ void replace(F) {}
    template <class O, class F, class G, class... S>
    __device__ __forceinline__ void store(O *y, F f, G g, const S &...sources) const {
        constexpr int count = sizeof...(S) > 0 ? sizeof...(S) : 1;
        for (int64_t c = threadIdx.x; c < columns; c += ROW_DISTANT) {
            int64_t at[2], places[1] = {c};
            float beside[count][1][1];
            int source = 0;
            (sources.template gather<false>(places, columns, beside[source++]), ...);
            (void)source;
            elements->offsets(c, at);
            float values[1] = {f(widen(x[at[0]]))};
            row_apply(g, values, c, beside, 0, std::index_sequence_for<S...>{});
            y[at[1]] = narrow<O>(values[0]);
        }
    }
    __device__ __forceinline__ bool leads() const { return threadIdx.x == 0; }
};

/* Sums f of elements that were replaced by r of them: in place, or each time anew. */
template <class T, int run, bool packed, int held, int lanes, class R, class F>
static __device__ __forceinline__ float sum_replaced(held_row<T, run, packed, held, lanes> &row,
                                                     R r, F f) {
    if constexpr (packed) return row.sum_inside([&](float x) { return f(r(x)); });
    row.replace(r);
    return row.sum(f);
}
template <class T, int threads, class R, class F>
static __device__ __forceinline__ float sum_replaced(staged_row<T, threads> &row, R r, F f) {
    row.replace(r);
    return row.sum([&](float x) { return f(row.replaceable ? x : r(x)); });
}
template <class T, int threads, class R, class F>
static __device__ __forceinline__ float sum_replaced(spread_row<T, threads> &row, R r, F f) {
    row.replace(r);
    return row.sum(f);
}
template <class T, int run, int warps, bool wide, class R, class F>
static __device__ __forceinline__ float sum_replaced(brief_row<T, run, warps, wide> &row, R r,
                                                     F f) {
    row.replace(r);
    return row.sum(f);
}
template <class T, class R, class F>
static __device__ __forceinline__ float sum_replaced(distant_row<T> &row, R r, F f) {
    return row.sum([&](float x) { return f(r(x)); });
}

/* The same where r costs less than to keep what it makes. */
template <class T, int run, bool packed, int held, int lanes, class R, class F>
static __device__ __forceinline__ float sum_derived(held_row<T, run, packed, held, lanes> &row, R r,
                                                    F f) {
    return sum_replaced(row, r, f);
}
template <class Row, class R, class F>
static __device__ __forceinline__ float sum_derived(Row &row, R r, F f) {
    return row.sum([&](float x) { return f(r(x)); });
}

/* A row of halves, as they are in memory, in a block that stays for others: those of the next are on their way while it is
 * at work. What sources have at a thread's places, of T and the same for all rows, is in shared memory from the first row
 * on. Sums take turns in two places, so that one barrier a row suffices. */
template <class T, bool wide>
struct streamed_row {
    using element_type = T;
    static constexpr int size = 16 / sizeof(T), held = STREAMED_VECTORS;
    static constexpr bool early = true, at_once = true, brief = false;
    using vector = pack<T, size>;
    uint4 at[held], next[held]; /* words: halves that a load may leave alone are kept one by one */
    vector *kept;
    float2 *partial;
    const T *after; /* the next row, of which so many columns are read */
    int columns, coming;
    float count_of_lane;          /* columns of the warp of that number */
    float one_of_own, one_of_all; /* 1 / columns of this warp, of all */
    bool known;

    __device__ __forceinline__ int column(int i) const {
        return (int)(threadIdx.x + i * blockDim.x) * size;
    }
    __device__ __forceinline__ bool inside(int i) const { return column(i) < columns; }
    /* Under one condition for each vector: what a branch loads is waited for where the branches meet. */
    __device__ __forceinline__ void load(uint4 (&to)[held], const T *x, int limit) const {
#pragma unroll
        for (int i = 0; i < held; i++) {
            to[i] = {};
            if (column(i) >= limit) continue;
            if constexpr (wide) {
                to[i] = *(const uint4 *)(x + column(i));
            } else {
                const vector here = load_pack<T, size>(x + column(i), size, false);
                memcpy(to + i, &here, sizeof here);
            }
        }
    }
    __device__ __forceinline__ vector mine(int i) const {
        vector values;
        memcpy(&values, at + i, sizeof values);
        return values;
    }
    __device__ __forceinline__ void count() {
        const int lane = (int)threadIdx.x % 32;
        count_of_lane = lane < (int)blockDim.x / 32 ? (float)share(lane) : 0;
        one_of_own = 1 / (float)share((int)threadIdx.x / 32), one_of_all = 1 / (float)columns;
    }
    /* Columns of a warp. */
    __device__ __forceinline__ int share(int warp) const {
        int all = 0;
#pragma unroll
        for (int i = 0; i < held; i++) {
            const int rest = columns - (warp * 32 + i * (int)blockDim.x) * size;
            all += rest < 0 ? 0 : rest < 32 * size ? rest : 32 * size;
        }
        return all;
    }
    /* Of places in the row. */
    template <class F>
    __device__ __forceinline__ float sum_mine(F f) {
        float chains[4] = {0, 0, 0, 0};
#pragma unroll
        for (int i = 0; i < held; i++) {
            if (!inside(i)) break;
            const vector here = mine(i);
#pragma unroll
            for (int j = 0; j < size; j++) chains[j % 4] += f(widen(here.at[j]));
        }
        return (chains[0] + chains[1]) + (chains[2] + chains[3]);
    }
    /* From what each warp makes of its columns; lane w of all warps puts together what warp w made. */
    __device__ __forceinline__ float moments(float *mean) {
        const auto add = [](float a, float b) { return a + b; };
        const int lane = (int)threadIdx.x % 32, warps = (int)blockDim.x / 32;
        const float own = reduce_warp(sum_mine([](float x) { return x; }), add) * one_of_own;
        const float square =
            reduce_warp(sum_mine([=](float x) { return (x - own) * (x - own); }), add);
        if (lane == 0) partial[threadIdx.x / 32] = make_float2(own, square);
        __syncthreads();
        const float2 p = lane < warps ? partial[lane] : make_float2(0, 0);
        const float middle = reduce_warp(count_of_lane * p.x, add) * one_of_all;
        *mean = middle;
        return reduce_warp(fmaf(count_of_lane, (p.x - middle) * (p.x - middle), p.y), add);
    }
    __device__ __forceinline__ float variance(float squares) const { return squares * one_of_all; }
    /* Elements stay as they are; storing replaces them. */
    template <class F>
    __device__ __forceinline__ void replace(F) {}
    template <class S>
    __device__ __forceinline__ void keep(const S &source, vector *to) const {
#pragma unroll
        for (int i = 0; i < held; i++) {
            const T *from = source.template place<T>(column(i));
            if (!inside(i)) break;
            if (source.packed)
                stage_vector(to + i * blockDim.x, from);
            else
                to[i * blockDim.x] = load_pack<T, size>(from, size, false);
        }
    }
    template <int sources>
    struct asked {};
    template <class... S>
    __device__ __forceinline__ asked<sizeof...(S)> ask(const S &...sources) {
        int source = 0;
        if (!known) (keep(sources, kept + held * blockDim.x * source++), ...);
        (void)source;
        stage_commit();
        load(next, after, coming);
        return {};
    }
    template <class O, class F, class G, int sources>
    __device__ __forceinline__ void store_asked(O *y, F f, G g, asked<sources>) {
        stage_wait<0>();
#pragma unroll
        for (int i = 0; i < held; i++) {
            if (!inside(i)) break;
            float values[size], beside[sources][1][size];
            pack<O, size> result;
            const vector here = mine(i);
#pragma unroll
            for (int s = 0; s < sources; s++) {
                const vector one = kept[(s * held + i) * blockDim.x];
#pragma unroll
                for (int j = 0; j < size; j++) beside[s][0][j] = widen(one.at[j]);
            }
#pragma unroll
            for (int j = 0; j < size; j++) values[j] = f(widen(here.at[j]));
            row_apply(g, values, column(i), beside, 0, std::make_index_sequence<sources>{});
#pragma unroll
            for (int j = 0; j < size; j++) result.at[j] = narrow<O>(values[j]);
            store_pack<O, size>(y + column(i), result, size, wide);
        }
    }
};

/* Whether a job keeps the elements of its rows packed. */
template <class T, class Job, int run>
static constexpr bool row_packed() {
    return Job::needs.packed > 0 && sizeof(T) == 2 && run > 1;
}
template <class T, class Job, int run>
static constexpr int row_held() {
    return row_packed<T, Job, run>() ? ROW_PACKED : ROW_HELD;
}
/* Threads of a block at most, and blocks at once. */
template <class T, class Job, int run>
static constexpr int row_threads() {
    if (run == 1) return 256;
    if (row_packed<T, Job, run>()) return Job::needs.packed > 64 ? 384 : 512;
    return Job::needs.registers == 64 ? 1024 : ROW_THREADS;
}
template <class T, class Job, int run>
static constexpr int row_resident() {
    if (run == 1) return 3;
    return Job::needs.registers == 40 || row_packed<T, Job, run>() ? 2 : 1;
}

/* Asks for bytes, in multiples of 16, to be in the second cache soon. */
static __device__ __forceinline__ void prefetch(const void *from, unsigned bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
#endif
}

/* Rows that a later block begins with are to be in the cache by then: of those of this one, the first at x. */
template <class T>
static __device__ __forceinline__ void rows_ahead(const T *x, int64_t number,
                                                  const row_place &place) {
    if (threadIdx.x > 0 || place.ahead == 0 || number + place.ahead + place.block > place.count)
        return;
    const uintptr_t from = (uintptr_t)(x + place.ahead * place.columns) + 15;
    prefetch((const void *)(from & ~(uintptr_t)15),
             (unsigned)(place.block * place.columns * sizeof(T)) / 16 * 16 - 16);
}

/* A block's rows are asked for while the kernel before this one ends: what that one writes passes through the same
 * cache, so they come as it leaves them. */
template <class T>
static __device__ __forceinline__ void rows_early(const T *x, const row_place &place) {
    if (threadIdx.x > 0 || blockIdx.x >= (unsigned)place.early) return;
    const int64_t first = (int64_t)blockIdx.x * place.block;
    const int64_t rows = place.count - first < place.block ? place.count - first : place.block;
    const uintptr_t from = (uintptr_t)(x + first * place.columns) & ~(uintptr_t)15;
    prefetch((const void *)from, (unsigned)(rows * place.columns * sizeof(T)) / 16 * 16);
}

static constexpr int row_log2(int lanes) { return lanes > 1 ? 1 + row_log2(lanes / 2) : 0; }

/* job(row, where it goes in y, the offset in the third tensor, number) does the work; Job::pad fills what
 * lies beyond the columns at first. lanes: those of the job's form, 0: as the place says. */
template <class T, class O, class Job, int run, int held, int lanes>
static __global__ __launch_bounds__(
    lanes > 0 ? ROW_FORM_THREADS : row_threads<T, Job, run>(),
    lanes > 0 ? Job::needs.form.resident
              : row_resident<T, Job, run>()) void rows_held(const T *x, O *y,
                                                            const __grid_constant__ row_place place,
                                                            const __grid_constant__ Job job) {
    const int members = lanes > 0 ? lanes : place.members;
    const bool alone = members > 32;
    const int log2 = lanes > 0 ? row_log2(lanes) : place.members_log2;
    int64_t number = alone ? blockIdx.x : ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) >> log2;
    const bool idle = number >= place.count;
    int64_t at[3];
    held_row<T, run, row_packed<T, Job, run>(), held, lanes> row;
    release_next();
    rows_early(x, place);
    await_stream();
    if (idle) number = 0;
    place.rows.offsets(number, at);
    row.x = x + at[0];
    row.members = members;
    row.member = alone ? threadIdx.x : threadIdx.x & (members - 1);
    row.columns = idle && lanes == 0 ? 0 : (int)place.columns;
    row.wide = place.wide, row.idle = idle;
    row.load(Job::pad);
    if constexpr (Job::needs.ahead && lanes == 0) rows_ahead(row.x, number, place);
    job(row, y + at[1], at[2], number);
}

template <class T, class O, class Job, int threads>
static __global__
__launch_bounds__(threads, threads == 512 && Job::needs.registers <= 80 ? 3 : 1) void rows_staged(
    const T *x, O *y, const __grid_constant__ row_place place, const __grid_constant__ Job job) {
    extern __shared__ __align__(16) char staged_memory[];
    int64_t at[3];
    release_next();
    rows_early(x, place);
    await_stream();
    place.rows.offsets(blockIdx.x, at);
    x += at[0];
    if constexpr (Job::needs.ahead_staged && sizeof(T) == 4) rows_ahead(x, blockIdx.x, place);
    staged_row<T, threads> row = {(T *)(staged_memory + (uintptr_t)x % 16), x, (int)place.columns,
                                  false};
    row.load();
    job(row, y + at[1], at[2], blockIdx.x);
}

template <class T, class Job, bool even>
static __global__ __launch_bounds__(1024,
                                    1) void rows_carried(const T *x, T *y,
                                                         const __grid_constant__ row_place place,
                                                         const __grid_constant__ Job job) {
#if __CUDA_ARCH__ >= 900
    extern __shared__ __align__(16) char staged_memory[];
    __shared__ uint64_t arrived;
    int64_t at[3];
    const uint32_t barrier = fovea::hopper::shared_address(&arrived);
    if (threadIdx.x == 0) {
        fovea::hopper::barrier_init(barrier, 1);
        fovea::hopper::barrier_init_fence();
    }
    release_next();
    rows_early(x, place);
    await_stream();
    place.rows.offsets(blockIdx.x, at);
    x += at[0];
    carried_row<T, ROW_CARRIED, even> row = {(T *)(staged_memory + (uintptr_t)x % 16), x,
                                             (int)place.columns};
    row.load(barrier);
    job(row, y + at[1], at[2], blockIdx.x);
#endif
}

template <class T, class Job, bool wide>
static __global__ __launch_bounds__(STREAMED_THREADS,
                                    1) void rows_streamed(const T *x, T *y,
                                                          const __grid_constant__ row_place place,
                                                          const __grid_constant__ Job job) {
    using row_type = streamed_row<T, wide>;
    extern __shared__ __align__(16) char staged_memory[];
    __shared__ float2 partial[2][STREAMED_THREADS / 32];
    const int64_t from = place.rows.stride[0][0], to = place.rows.stride[1][0];
    const int columns = (int)place.columns;
    row_type row;
    row.kept = (typename row_type::vector *)staged_memory + threadIdx.x;
    row.columns = columns, row.known = false;
    row.count();
    release_next();
    rows_early(x, place);
    await_stream();
    row.load(row.at, x + blockIdx.x * from, columns);
    bool odd = false;
    for (int64_t number = blockIdx.x; number < place.count; number += gridDim.x) {
        const int64_t after = number + gridDim.x;
        row.partial = partial[odd];
        row.after = x + after * from, row.coming = after < place.count ? columns : 0;
        job(row, y + number * to, 0, number);
#pragma unroll
        for (int i = 0; i < STREAMED_VECTORS; i++) row.at[i] = row.next[i];
        row.known = true, odd = !odd;
    }
}

template <class T, class O, class Job, int threads>
static __global__
__launch_bounds__(threads, 1) void rows_spread(const T *x, O *y,
                                               const __grid_constant__ row_place place, double part,
                                               const __grid_constant__ Job job) {
#if __CUDA_ARCH__ >= 900
    int64_t at[3];
    const int64_t number = blockIdx.x / ROW_CLUSTER;
    fovea::hopper::cluster_arrive();
    release_next();
    ready_parameters(job), ready_parameters(place);
    place.rows.offsets(number, at);
    x += at[0], y += at[1];
    using spread = spread_row<T, threads>;
    const int first = spread::warp() * 32 + (int)threadIdx.x % 32;
    unsigned valid =
        first < place.columns
            ? ((unsigned)place.columns - first + spread::distance - 1) / (unsigned)spread::distance
            : 0;
    settle(valid);
    spread row = {x, settled_global(x + first), (int)place.columns, (int)valid, part};
    y = settled_global(y + first);
    job(row, y, at[2], number);
#endif
}

/* How many columns there are from one on, `threads` apart. */
template <int threads>
static __device__ __forceinline__ int columns_from(int column, int columns) {
    unsigned count = column < columns ? (unsigned)(columns - column + threads - 1) / threads : 0;
    settle(count);
    return (int)count;
}

template <class T, class O, class Job, int threads>
static __global__
__launch_bounds__(threads, 1) void rows_repeated(const T *x, O *y,
                                                 const __grid_constant__ row_place place,
                                                 unsigned blocks, const __grid_constant__ Job job) {
    const unsigned number = blockIdx.x / blocks;
    int64_t at[3];
    release_next();
    ready_parameters(job), ready_parameters(place);
    place.rows.offsets(number, at);
    x += at[0], y += at[1];
    const int columns = (int)place.columns, thread = (int)threadIdx.x;
    const int first = (int)(blockIdx.x - number * blocks) * threads * ROW_OWN + thread;
    const int rest = columns_from<threads>(first, columns);
    repeated_row<T, threads> row = {settled_global(x + thread),
                                    settled_global(x + first),
                                    columns,
                                    columns_from<threads>(thread, columns),
                                    first,
                                    rest < ROW_OWN ? rest : ROW_OWN};
    y = settled_global(y + first);
    job(row, y, at[2], number);
}

/* Few short rows, which follow one another at one distance in each tensor. */
struct brief_place {
    int64_t stride[3];
    int count, columns;
    double part; /* 1 / columns */
};

template <class T, class O, class Job, int run, int warps, bool wide>
static __global__ __launch_bounds__(ROW_BRIEF_THREADS) void rows_brief(
    const T *x, O *y, const __grid_constant__ brief_place place, const __grid_constant__ Job job) {
    constexpr unsigned lanes = 32 * warps;
    const int number = (int)(blockIdx.x * (ROW_BRIEF_THREADS / lanes) + threadIdx.x / lanes);
    unsigned first = threadIdx.x % lanes * run;
    release_next();
    if (number >= place.count) return;
    ready_parameters(job), ready_parameters(place);
    settle(first);
    x += number * place.stride[0], y += number * place.stride[1];
    brief_row<T, run, warps, wide> row = {
        x, settled_global(x + first), place.columns, (int)first, place.part, Job::pad};
    y = settled_global(y + first);
    job(row, y, number * place.stride[2], number);
}

template <class T, class O, class Job>
static __global__ __launch_bounds__(ROW_DISTANT) void rows_distant(
    const T *x, O *y, const __grid_constant__ row_place place, const __grid_constant__ Job job) {
    int64_t at[3];
    follow_stream();
    place.rows.offsets(blockIdx.x, at);
    distant_row<T> row = {x + at[0], &place.elements, place.columns};
    job(row, y + at[1], at[2], blockIdx.x);
}

/* Rows that follow one another are asked for early, where they are not read alone (10^7 cold: softmax 21.1 to 20.7 µs by
 * it, cross entropy 14.1 to 15.0). */
template <class T>
static void rows_look_ahead(row_place &place, bool only_read) {
    const int64_t bytes = place.block * place.columns * (int64_t)sizeof(T);
    const bool adjacent =
        place.count == 1 || (place.rows.rank == 1 && place.rows.stride[0][0] == place.columns);
    if (adjacent && !only_read && place.columns * (int64_t)sizeof(T) >= 16)
        place.early = (int)(ROW_EARLY / bytes);
    if (adjacent && bytes >= 64) place.ahead = (int)blocks_for(ROW_AHEAD, bytes) * place.block;
}

/* As many threads as hold a row; more where there are few. */
template <class T, class O, class Job, int run>
static fovea_status rows_launch(const T *x, O *y, row_place &place, fovea_run *state,
                                const Job &job) {
    constexpr int held = row_held<T, Job, run>();
    int64_t blocks = place.count, threads = 256;
    if (place.columns <= 32 * held) {
        while ((held << place.members_log2) < place.columns) place.members_log2++;
        if (place.count * place.columns <= ROW_FEW)
            while (place.members_log2 < 5 && (run << place.members_log2) < place.columns)
                place.members_log2++;
        place.members = 1 << place.members_log2;
        blocks = blocks_for(place.count * place.members, threads);
    } else {
        threads = place.members = (int)blocks_for(place.columns, 32 * held) * 32;
    }
    place.block = place.members > 32 ? 1 : (int)threads >> place.members_log2;
    rows_look_ahead<T>(place, (const void *)x == (const void *)y);
    return launch(state, rows_held<T, O, Job, run, held, 0>, blocks, threads, x, y, place, job);
}

/* A cluster of blocks for each row; as launch_as otherwise. */
template <class... P, class... A>
static fovea_status launch_spread(fovea_run *run, void (*kernel)(P...), int64_t rows,
                                  int64_t threads, A... arguments) {
    cudaLaunchAttribute attributes[2] = {};
    attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[0].val.programmaticStreamSerializationAllowed = 1;
    attributes[1].id = cudaLaunchAttributeClusterDimension;
    attributes[1].val.clusterDim.x = ROW_CLUSTER;
    attributes[1].val.clusterDim.y = attributes[1].val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)(rows * ROW_CLUSTER)),
    config.blockDim = dim3((unsigned)threads);
    config.stream = (cudaStream_t)run->stream;
    config.attrs = attributes, config.numAttrs = 2;
    cudaLaunchKernelEx(&config, kernel, arguments...);
    return launched(run);
}

/* Places that rows take of as few lanes as hold them, with ROW_HELD values each. */
static inline int64_t row_places(int64_t columns) {
    int64_t places = ROW_HELD;
    while (places < columns) places *= 2;
    return places;
}

/* Whether all that a job reads beside a row lies side by side; true of jobs that do not say. */
template <class Job>
static auto job_dense(const Job &job, int) -> decltype(job.dense()) {
    return job.dense();
}
template <class Job>
static bool job_dense(const Job &, long) {
    return true;
}
/* Whether what a job reads beside a row comes `together` elements at a time, and whether it does in vectors; true of jobs
 * that do not say. */
template <class Job>
static auto job_together(const Job &job, int together, int) -> decltype(job.together(together)) {
    return job.together(together);
}
template <class Job>
static bool job_together(const Job &, int, long) {
    return true;
}
template <class Job>
static auto job_fits(const Job &job, int) -> decltype(job.fits()) {
    return job.fits();
}
template <class Job>
static bool job_fits(const Job &, long) {
    return true;
}

/* A warp a row, or a block. */
template <class T, class O, class Job, int run, bool wide>
static fovea_status rows_brief_launch(const T *x, O *y, const row_place &place, fovea_run *state,
                                      const Job &job) {
    brief_place brief = {{}, (int)place.count, (int)place.columns, 1 / (double)place.columns};
    for (int t = 0; t < 3; t++) brief.stride[t] = place.rows.stride[t][0];
    if (place.columns <= 32 * run)
        return launch(state, rows_brief<T, O, Job, run, 1, wide>,
                      blocks_for(place.count * 32, ROW_BRIEF_THREADS), ROW_BRIEF_THREADS, x, y,
                      brief, job);
    return launch(state, rows_brief<T, O, Job, run, ROW_BRIEF_THREADS / 32, wide>, place.count,
                  ROW_BRIEF_THREADS, x, y, brief, job);
}

/* rows: of x, y and a third tensor; elements: of a row of x and of y. Data are taken from rows. */
template <class T, class O, class Job>
static fovea_status rows_views(fovea_view (&rows)[3], fovea_view (&elements)[2], fovea_run *run,
                               const Job &job) {
    constexpr int size = 16 / sizeof(T);
    row_place place = {};
    place.count = fovea_view_elements(&rows[0]);
    place.columns = fovea_view_elements(&elements[0]);
    if (place.count == 0) return FOVEA_OK;
    fovea_view *all[] = {&rows[0], &rows[1], &rows[2]}, *line[] = {&elements[0], &elements[1]};
    fovea_views_collapse(all, 3);
    if (place.columns > 0) fovea_views_collapse(line, 2);
    place.rows = strided_of<3>({&rows[0], &rows[1], &rows[2]});
    place.elements = strided_of<2>({&elements[0], &elements[1]});
    bool dense = place.columns <= 1 || (elements[0].rank == 1 && elements[0].stride[0] == 1 &&
                                        elements[1].stride[0] == 1);
    const T *x = (const T *)rows[0].data;
    O *y = (O *)rows[1].data;
    const bool even = place.columns % size == 0;
    const int64_t bytes = place.columns * (int64_t)sizeof(T) + 16;
    const int64_t most = row_packed<T, Job, size>() && even
                             ? row_threads<T, Job, size>() * ROW_PACKED
                             : ROW_THREADS * ROW_HELD; /* in registers */
    const int64_t room =
        fovea_cuda_shared_bytes(current_device()) - (4 << 10); /* beside what is static */
    const int beside =
        even && job_together(job, size, 0) ? size : 1; /* elements of a lane of a brief row */
    if (dense && place.rows.rank <= 1 && place.count * place.columns <= ROW_BRIEF &&
        place.columns > 0 && place.columns <= beside * ROW_BRIEF_THREADS &&
        (place.columns <= beside * 32 ||
         place.count <= (Job::needs.registers == 40 ? ROW_BRIEF_MORE : ROW_BRIEF_BLOCKS))) {
        place.wide = is_aligned(x, 16) && is_aligned(y, sizeof(O) * size) && job_fits(job, 0) &&
                     (place.count == 1 ||
                      (place.rows.stride[0][0] % size == 0 && place.rows.stride[1][0] % size == 0));
        if (beside == 1) return rows_brief_launch<T, O, Job, 1, false>(x, y, place, run, job);
        if (place.wide) return rows_brief_launch<T, O, Job, size, true>(x, y, place, run, job);
        return rows_brief_launch<T, O, Job, size, false>(x, y, place, run, job);
    }
    if constexpr (Job::needs.repeated) {
        const int64_t threads = place.columns <= 256 * ROW_REPEATED ? 256 : 512;
        const int64_t blocks = blocks_for(place.columns, threads * ROW_OWN);
        if (dense && job_dense(job, 0) && place.columns > 256 * ROW_CLUSTER &&
            place.columns <= threads * ROW_REPEATED && place.count * blocks <= ROW_REPEATS)
            return launch(
                run, threads == 256 ? rows_repeated<T, O, Job, 256> : rows_repeated<T, O, Job, 512>,
                place.count * blocks, threads, x, y, place, (unsigned)blocks, job);
    }
    if (dense && job_dense(job, 0) && place.count <= ROW_SCARCE &&
        place.columns > (even ? most : ROW_CLUSTER * 256) &&
        place.columns <= ROW_CLUSTER * 1024 * ROW_SPREAD &&
        fovea_cuda_capability(current_device()) >= 90) {
        if (place.columns <= 256 * ROW_CLUSTER * ROW_SPREAD)
            return launch_spread(run, rows_spread<T, O, Job, 256>, place.count, 256, x, y, place,
                                 1 / (double)place.columns, job);
        return launch_spread(run, rows_spread<T, O, Job, 1024>, place.count, 1024, x, y, place,
                             1 / (double)place.columns, job);
    }
    if (dense && bytes <= room && place.columns > (even ? most : ROW_STAGED)) {
        place.block = 1;
        rows_look_ahead<T>(place, (const void *)x == (const void *)y);
        if constexpr (Job::needs.carried)
            if (!even && job.carries() && place.count >= ROW_MANY && 2 * bytes <= room &&
                place.columns <= 1024 * ROW_CARRIED &&
                fovea_cuda_capability(current_device()) >= 90) {
                bool alike = ((uintptr_t)x - (uintptr_t)y) % 16 == 0 && job.plain();
                for (int i = 0; i < rows[0].rank; i++)
                    alike &= (rows[0].stride[i] - rows[1].stride[i]) % size == 0;
                return launch_as(run, true,
                                 alike ? rows_carried<T, Job, true> : rows_carried<T, Job, false>,
                                 place.count, blocks_for(place.columns, 32 * ROW_CARRIED) * 32,
                                 (size_t)bytes, x, y, place, job);
            }
        if (bytes <= ROW_SHARED)
            return launch_as(run, true, rows_staged<T, O, Job, 512>, place.count, 512,
                             (size_t)bytes, x, y, place, job);
        return launch_as(run, true, rows_staged<T, O, Job, 1024>, place.count, 1024, (size_t)bytes,
                         x, y, place, job);
    }
    if (!dense || place.columns > most)
        return launch(run, rows_distant<T, O, Job>, place.count, ROW_DISTANT, x, y, place, job);
    place.wide = is_aligned(x, 16) && is_aligned(y, sizeof(O) * size);
    for (int i = 0; i < rows[0].rank; i++)
        place.wide &= rows[0].shape[i] == 1 ||
                      (rows[0].stride[i] % size == 0 && rows[1].stride[i] % size == 0);
    constexpr row_form form = Job::needs.form;
    if constexpr (form.lanes > 0 && (form.run == 1 || form.run == size)) {
        constexpr int places = form.lanes * form.held;
        if (even == (form.run > 1) && place.columns <= places &&
            places < row_places(place.columns) && place.count * place.columns > ROW_FEW) {
            place.block = ROW_FORM_THREADS / form.lanes;
            rows_look_ahead<T>(place, (const void *)x == (const void *)y);
            return launch(run, rows_held<T, O, Job, form.run, form.held, form.lanes>,
                          blocks_for(place.count * form.lanes, ROW_FORM_THREADS), ROW_FORM_THREADS,
                          x, y, place, job);
        }
    }
    if constexpr (Job::needs.streamed && sizeof(T) == 2) {
        const int64_t threads = blocks_for(place.columns, 32 * size * STREAMED_VECTORS) * 32;
        const int64_t blocks =
            STREAMED_THREADS / threads * fovea_cuda_multiprocessors(current_device());
        if (even && place.rows.rank == 1 && place.columns > STREAMED_LEAST &&
            place.columns <= STREAMED_MOST && place.count >= blocks && job.streams() &&
            (place.columns > STREAMED_SMALL || place.count * place.columns <= STREAMED_FEW)) {
            place.block = 1;
            if (place.rows.stride[0][0] == place.columns) place.early = (int)blocks;
            return launch_as(
                run, true, place.wide ? rows_streamed<T, Job, true> : rows_streamed<T, Job, false>,
                blocks, threads, (size_t)(Job::sources * STREAMED_VECTORS * threads * 16), x, y,
                place, job);
        }
    }
    if (even) return rows_launch<T, O, Job, size>(x, y, place, run, job);
    return rows_launch<T, O, Job, 1>(x, y, place, run, job);
}

/* The last dimension of x and y is what rows are made of. third: a tensor with one element a row, or one
 * of the shape of x; NULL: none. */
template <class T, class O, class Job>
static fovea_status rows_last(const fovea_view &x, const fovea_view &y, const fovea_view *third,
                              fovea_run *run, const Job &job) {
    int last = x.rank - 1;
    fovea_view rows[3] = {x, y, third ? *third : x}, elements[2] = {x, y};
    for (fovea_view &row : rows) row.rank = last;
    for (fovea_view &line : elements) {
        line.rank = 1;
        line.shape[0] = line.shape[last], line.stride[0] = line.stride[last];
    }
    return rows_views<T, O>(rows, elements, run, job);
}

/* From the first argument to the second. */
template <class Job>
static fovea_status rows_floats(const fovea_problem *problem, fovea_run *run, const Job &job) {
    return by_float(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        return rows_last<T, T>(problem->views[0], problem->views[1], NULL, run, job);
    });
}

#endif
