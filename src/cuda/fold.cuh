/* Reductions of one or two tensors, over all elements or along an axis, in an order that the shape alone
 * decides. A method says what a thread keeps (state), how elements come into it (take), how two states
 * become one (join), and what is made of the last (finish). Threads in groups share a slice of the
 * tensor; where there are fewer slices than the device has room for, a slice is cut into parts. Their states
 * are shown to the block of the last part, which joins them; where they are too many for that, a second kernel
 * does. */
#ifndef FOVEA_CUDA_FOLD_CUH
#define FOVEA_CUDA_FOLD_CUH

#include "cuda/brief.cuh"
#include "cuda/kernel.cuh"
#include "cuda/signals.h"

enum {
    FOLD_THREADS = 256,
    FOLD_STEPS = 4,    /* 16 bytes each, of halves half as many */
    FOLD_AHEAD = 8,    /* of one tensor, where there are so many */
    FOLD_RESIDENT = 4, /* blocks at most, so that loads in flight find registers */
    FOLD_DEVICE = 132, /* multiprocessors; a constant, so that bits stay */
    FOLD_STATE = 64,   /* bytes of a state at most */
    FOLD_PARTS = FOLD_DEVICE * FOLD_RESIDENT * 128, /* states in the workspace */
    FOLD_WORKSPACE = FOLD_PARTS * FOLD_STATE,
    FOLD_WARP_PARTS = 64, /* that a warp joins */
    FOLD_MEETING = 128,   /* parts that a warp joins of those it is shown */
    FOLD_WHOLE = 512,     /* threads of a block that is alone on its multiprocessor */
    FOLD_WHOLE_MEETING = 160,
    FOLD_WHOLE_LEAST = 1 << 22, /* elements of a slice of one tensor that such blocks have, */
    FOLD_WHOLE_MOST = 1 << 25,  /* and of any */
    FOLD_ROOM = 60 << 10,       /* bytes of shared memory that leave place for three blocks */
    FOLD_LINES = 1 << 17,       /* elements up to which a short slice has a warp */
    FOLD_MANY = 1 << 20         /* elements from which slices go several to a thread */
};

/* Slices in tensors x and w and their results in y and z: slice `o` begins at outputs.offsets(o), element
 * k of it at elements.offsets(k) from there. */
struct fold_place {
    strided<4> outputs;
    strided<2> elements;
    int64_t count, length; /* slices; elements of one */
    int64_t parts, part;   /* parts of a slice; elements of one */
    /* Powers of 2: threads to a part; adjacent slices that a warp reads side by side. */
    int group, group_log2, across, across_log2;
    bool wide, meet; /* vectors are aligned; parts meet in one launch */
};

/* The same of few short ones, which follow one another at one distance in each tensor. */
struct fold_lines_place {
    int64_t stride[4];
    int count, length;
    bool wide;
};

/* Parts are counted within slices. There are few where a slice has more than one. */
static __device__ __forceinline__ void fold_task(const fold_place &place, int64_t task,
                                                 int64_t *slice, int64_t *part) {
    *slice = task, *part = 0;
    if (place.parts == 1) return;
    *slice = (unsigned)task / (unsigned)place.parts;
    *part = task - *slice * place.parts;
}

template <class Method>
static __device__ __forceinline__ void
fold_end(const Method &method, const fold_place &place, const typename Method::state &state,
         int64_t slice, int64_t part, typename Method::state *partials, typename Method::output *y,
         typename Method::second *z) {
    if (place.parts > 1 && !place.meet) {
        partials[slice * place.parts + part] = state;
        return;
    }
    int64_t at[4];
    place.outputs.offsets(slice, at);
    method.finish(state, place.length, y + at[2], z ? z + at[3] : z);
}

/* ---- Parts that meet ------------------------------------------------------------------------ */

/* Room for a state that is shown: its words, each with a flag beside it that it is there, two at a time. A trip
 * to memory and back brings both, so that nobody waits for a fence: a second kernel took 0.7 to 1.2 µs. Who joins
 * is the last part, whose block comes last to the device: those it waits for are there or done. */
template <class State>
struct shown {
    static constexpr int count = sizeof(State) / 4, pairs = (count + 1) / 2;
    uint64_t words[2 * pairs];
};

template <class State>
static __device__ __forceinline__ void show(shown<State> *room, const State &state) {
    constexpr int count = shown<State>::count;
    const uint64_t there = (uint64_t)1 << 32;
    unsigned words[count + 1] = {};
    memcpy(words, &state, sizeof state);
#pragma unroll
    for (int w = 0; w < count; w += 2)
        store_shown(room->words + w, there | words[w], there | words[w + 1]);
}

/* Whether all of it is there by now. */
template <class State>
static __device__ __forceinline__ bool look(const shown<State> *room, State &state) {
    constexpr int count = shown<State>::count;
    unsigned words[count + 1];
    bool there = true;
#pragma unroll
    for (int w = 0; w < count; w += 2) {
        uint64_t a, b;
        load_shown(room->words + w, a, b);
        there = there && a >> 32 && b >> 32;
        words[w] = (unsigned)a, words[w + 1] = (unsigned)b;
    }
    memcpy(&state, words, sizeof state);
    return there;
}

template <class State>
static __device__ __forceinline__ void clear(shown<State> *room) {
#pragma unroll
    for (int w = 0; w < shown<State>::count; w += 2)
        *(ulonglong2 *)(room->words + w) = make_ulonglong2(0, 0);
}

/* Joins parts p, p + members, ... of a slice to what there is of it, each once it is shown; `limit`: the parts that
 * are. */
template <class Method, int at_once>
static __device__ __forceinline__ void fold_await(typename Method::state &state,
                                                  shown<typename Method::state> *rooms, int p,
                                                  int limit, int members) {
#pragma unroll 1
    for (; p < limit; p += at_once * members) {
        typename Method::state seen[at_once];
        bool all = false;
#pragma unroll 1
        while (!all) {
            all = true;
#pragma unroll
            for (int i = 0; i < at_once; i++)
                if (p + i * members < limit) all &= look(rooms + p + i * members, seen[i]);
        }
#pragma unroll
        for (int i = 0; i < at_once; i++)
            if (p + i * members < limit) {
                clear(rooms + p + i * members);
                state = Method::join(state, seen[i]);
            }
    }
}

/* They stand before the workspace; parts of a slice are neighbours. */
template <class State>
static __device__ __forceinline__ shown<State> *rooms_of(State *workspace) {
    return (shown<State> *)((char *)workspace - FOVEA_CUDA_SIGNALS);
}

template <class State>
static bool fold_rooms_suffice(const fold_place &place) {
    return place.count * place.parts <= FOVEA_CUDA_SIGNALS / (int64_t)sizeof(shown<State>);
}

/* Whether a method has over_warp(state), to the first lane, where instructions do what shuffles would. */
template <class Method>
static constexpr auto has_over_warp(int) -> decltype(Method::over_warp(Method::empty()), true) {
    return true;
}
template <class Method>
static constexpr bool has_over_warp(...) {
    return false;
}
template <class Method>
static __device__ __forceinline__ typename Method::state
fold_warp(const typename Method::state &state) {
    using S = typename Method::state;
    if constexpr (has_over_warp<Method>(0))
        return Method::over_warp(state);
    else
        return reduce_warp(state, [](const S &a, const S &b) { return Method::join(a, b); });
}

/* Over the threads of a group, one of 1 ... 32 or the block, to the first of them. Once a kernel, or with barriers
 * between. */
template <class Method, int threads = FOLD_THREADS>
static __device__ __forceinline__ typename Method::state fold_group(typename Method::state state,
                                                                    int group) {
    constexpr int warps = threads / 32;
    __shared__ typename Method::state partial[warps];
    auto join = [](const typename Method::state &a, const typename Method::state &b) {
        return Method::join(a, b);
    };
    if (group <= 32) return reduce_lanes(state, group, join);
    state = fold_warp<Method>(state);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = state;
    __syncthreads();
    if (threadIdx.x >= 32) return state;
    if constexpr (has_over_warp<Method>(0))
        return Method::over_warp(threadIdx.x < warps ? partial[threadIdx.x] : Method::empty());
    else
        return reduce_lanes(partial[threadIdx.x % warps], warps, join);
}

/* The block of the last part has the state of the whole slice in its first thread then; false for the others. */
template <class Method, int threads = FOLD_THREADS>
static __device__ __forceinline__ bool fold_meet(typename Method::state &state, int part, int parts,
                                                 shown<typename Method::state> *rooms) {
    constexpr int most = threads > FOLD_THREADS ? FOLD_WHOLE_MEETING : FOLD_MEETING;
    constexpr size_t fits = has_over_warp<Method>(0) ? 16 : 8;
    constexpr int at_once = sizeof state > fits ? 1 : most / 32;
    const int last = parts - 1;
    if (part < last) {
        if (threadIdx.x == 0) show(rooms + part, state);
        return false;
    }
    if (threadIdx.x > 0) state = Method::empty();
    if (at_once > 1 && last <= most) {
        if (threadIdx.x >= 32) return false;
        fold_await<Method, at_once>(state, rooms, threadIdx.x, last, 32);
        state = fold_warp<Method>(state);
    } else {
        fold_await<Method, 1>(state, rooms, threadIdx.x, last, threads);
        __syncthreads(); /* fold_group was here before */
        state = fold_group<Method, threads>(state, threads);
    }
    return true;
}

static constexpr int fold_steps(size_t element) {
    return element < 4 ? FOLD_STEPS / 2 : FOLD_STEPS;
}

/* Whether a method first remembers where several elements came from alone, glance(state, elements, their place), and
 * looks at them again after all, settle(state, tensor, the first place, whether any came, the step, whether a warp
 * has one slice). */
template <class Method>
static constexpr auto has_glance(int) -> decltype(&Method::template glance<2>, true) {
    return true;
}
template <class Method>
static constexpr bool has_glance(...) {
    return false;
}

/* Whether what a method does with elements takes so long that the next are asked for part by part as they are taken, not
 * all after them. */
template <class Method>
static constexpr auto has_busy(int) -> decltype(Method::busy, true) {
    return true;
}
template <class Method>
static constexpr bool has_busy(...) {
    return false;
}

/* `ahead` vectors at a time, as long as there are so many: all are on their way before the first are taken, as many
 * together as fold_steps says. Aligned or not, the same elements come together. seen: of a method that glances. */
template <class Method, bool wide, int ahead>
static __device__ __forceinline__ int64_t fold_walk(const Method &method,
                                                    typename Method::state &state,
                                                    const typename Method::element *x,
                                                    const typename Method::other *w, int64_t i,
                                                    int64_t step, int64_t end,
                                                    typename Method::state &seen) {
    using T = typename Method::element;
    using U = typename Method::other;
    constexpr int size = 16 / sizeof(T), steps = fold_steps(sizeof(T));
    constexpr int others = Method::inputs > 1 ? ahead : 1;
    pack<T, size> loaded[ahead];
    pack<U, size> more[others] = {};
    const auto load = [&](int s, int64_t from) {
        loaded[s] = load_once<wide, T, size>(x + from + s * step);
        if constexpr (Method::inputs > 1) more[s] = load_once<wide, U, size>(w + from + s * step);
    };
    const auto take = [&](int s) {
        T values[steps * size];
        U beside[Method::inputs > 1 ? steps * size : 1] = {};
#pragma unroll
        for (int j = 0; j < steps * size; j++) {
            values[j] = loaded[s + j / size].at[j % size];
            if (Method::inputs > 1)
                beside[Method::inputs > 1 ? j : 0] =
                    more[Method::inputs > 1 ? s + j / size : 0].at[j % size];
        }
        if constexpr (has_glance<Method>(0))
            method.template glance<steps * size>(seen, values, i + s * step);
        else
            method.template take<steps * size, size>(state, values, beside, i + s * step, step);
    };
    const int64_t round = ahead * step, last = end - size - (ahead - 1) * step;
    if constexpr (ahead > steps && has_busy<Method>(0)) {
        if (i > last) return i;
#pragma unroll
        for (int s = 0; s < ahead; s++) load(s, i);
#pragma unroll 1
        for (; i + round <= last; i += round) {
#pragma unroll
            for (int s = 0; s < ahead; s += steps) {
                take(s);
#pragma unroll
                for (int j = 0; j < steps; j++) load(s + j, i + round);
            }
        }
#pragma unroll
        for (int s = 0; s < ahead; s += steps) take(s);
        i += round;
    } else {
#pragma unroll 1
        for (; i <= last; i += round) {
#pragma unroll
            for (int s = 0; s < ahead; s++) load(s, i);
#pragma unroll
            for (int s = 0; s < ahead; s += steps) take(s);
        }
    }
    return i;
}

/* What is left: fewer vectors than go at a time, and less than one. */
template <class Method>
static __device__ __forceinline__ void
fold_rest(const Method &method, typename Method::state &state, const typename Method::element *x,
          const typename Method::other *w, int64_t i, int64_t step, int64_t end, bool wide) {
    using T = typename Method::element;
    using U = typename Method::other;
    constexpr int size = 16 / sizeof(T), steps = fold_steps(sizeof(T));
    pack<T, size> loaded[steps];
    pack<U, size> more[steps] = {};
#pragma unroll
    for (int s = 0; s < steps; s++) {
        if (i + s * step + size > end) break;
        loaded[s] = load_pack<T, size>(x + i + s * step, size, wide);
        if constexpr (Method::inputs > 1)
            more[s] = load_pack<U, size>(w + i + s * step, size, wide);
    }
#pragma unroll
    for (int s = 0; s < steps; s++) {
        if (i + size > end) break;
        method.template take<size, size>(state, loaded[s].at, more[Method::inputs > 1 ? s : 0].at,
                                         i, 0);
        i += step;
    }
#pragma unroll 1
    for (int64_t k = i; k < end && k < i + size; k++)
        method.template take<1, 1>(state, x + k, Method::inputs > 1 ? w + k : w, k, 0);
}

/* More tensors and sums ask for more registers. All blocks of a reduction run at once, as many on each
 * multiprocessor. */
template <class Method>
static constexpr int fold_resident() {
    constexpr bool wide = sizeof(typename Method::element) == 8;
    return FOLD_RESIDENT - (Method::inputs > 1) -
           (sizeof(typename Method::state) > (wide ? 16 : 32));
}
/* The same of slices whose elements follow one another, of which FOLD_AHEAD vectors of a thread are on their way: with
 * three blocks 96 KiB a multiprocessor. */
template <class Method>
static constexpr int fold_beside() {
    return Method::inputs > 1 && sizeof(typename Method::state) > 32 ? 2 : 3;
}

/* Slices whose elements follow one another. */
template <class Method>
static __global__ __launch_bounds__(FOLD_THREADS, fold_beside<Method>()) void fold_contiguous(
    const typename Method::element *x, const typename Method::other *w, typename Method::output *y,
    typename Method::second *z, typename Method::state *partials,
    const __grid_constant__ fold_place place, Method method) {
    constexpr int size = 16 / sizeof(typename Method::element);
    const int member = threadIdx.x & (place.group - 1);
    release_next();
    int64_t task = ((int64_t)blockIdx.x * FOLD_THREADS + threadIdx.x) >> place.group_log2;
    bool idle = task >= place.count * place.parts;
    if (idle) task = 0;
    int64_t slice, part;
    fold_task(place, task, &slice, &part);
    int64_t end = idle ? 0 : place.length, at[4];
    place.outputs.offsets(slice, at);
    x = ready_global(x + at[0]), w = ready_global(w + at[1]);
    await_stream();
    if (place.length > 0) method.begin(x, w);
    typename Method::state state = Method::empty();
    /* Parts take turns, so that all blocks read near one another. */
    const int64_t step = place.parts * place.group * size;
    int64_t i = (part * place.group + member) * size;
    constexpr int steps = fold_steps(sizeof(typename Method::element));
    constexpr int ahead = Method::inputs > 1 ? steps : FOLD_AHEAD;
    const int64_t first = i;
    typename Method::state seen = Method::empty();
    if (place.wide && place.group == FOLD_THREADS)
        i = fold_walk<Method, true, ahead>(method, state, x, w, i, step, end, seen);
    if (place.wide)
        i = fold_walk<Method, true, steps>(method, state, x, w, i, step, end, seen);
    else
        i = fold_walk<Method, false, steps>(method, state, x, w, i, step, end, seen);
    if constexpr (has_glance<Method>(0)) {
        method.template settle<steps, size>(seen, x, first, i > first, step, place.group >= 32);
        state = Method::join(state, seen);
    }
    if (i < end) fold_rest(method, state, x, w, i, step, end, place.wide);
    state = fold_group<Method>(state, place.group);
    if (place.meet && !fold_meet<Method>(state, (int)part, (int)place.parts,
                                         rooms_of(partials) + slice * place.parts))
        return;
    if (member == 0 && !idle) fold_end(method, place, state, slice, part, partials, y, z);
}

/* Blocks of fold_whole that a multiprocessor has room for: the next kernel's is there before this one has ended. */
template <class Method>
static constexpr int fold_pairs() {
    const bool broad = sizeof(typename Method::other) > sizeof(typename Method::element);
    return sizeof(typename Method::state) > 16 || broad ? 1 : 2;
}

/* All that a thread of fold_whole has. */
template <class Method, bool wide>
static __device__ __forceinline__ typename Method::state
fold_share(const Method &method, const typename Method::element *x, const typename Method::other *w,
           int64_t i, int64_t step, int64_t end) {
    constexpr int steps = fold_steps(sizeof(typename Method::element));
    typename Method::state state = Method::empty(), seen = Method::empty();
    const int64_t first = i;
    if constexpr (Method::inputs == 1 ||
                  sizeof(typename Method::other) < sizeof(typename Method::element))
        i = fold_walk<Method, wide, FOLD_AHEAD>(method, state, x, w, i, step, end, seen);
    i = fold_walk<Method, wide, steps>(method, state, x, w, i, step, end, seen);
    if constexpr (has_glance<Method>(0)) {
        constexpr int size = 16 / sizeof(typename Method::element);
        method.template settle<steps, size>(seen, x, first, i > first, step, true);
        state = Method::join(state, seen);
    }
    if (i < end) fold_rest(method, state, x, w, i, step, end, wide);
    return state;
}

/* One large slice of two tensors, or of one of f32, in a block a multiprocessor, so that no multiprocessor has more of it than another. A
 * block asks for what it reads first while the kernel before it ends: lines come to the second cache, where what that
 * kernel still writes is seen. */
template <class Method>
static __global__ __launch_bounds__(FOLD_WHOLE, fold_pairs<Method>()) void fold_whole(
    const typename Method::element *x, const typename Method::other *w, typename Method::output *y,
    typename Method::second *z, typename Method::state *partials, int64_t length, bool wide,
    Method method) {
    constexpr int size = 16 / sizeof(typename Method::element);
    const int part = (int)blockIdx.x, parts = (int)gridDim.x;
    const int64_t step = (int64_t)parts * FOLD_WHOLE * size;
    const int64_t first = ((int64_t)part * FOLD_WHOLE + (int)threadIdx.x) * size;
    release_next();
    x = ready_global(x), w = ready_global(w);
#pragma unroll
    for (int s = 0; s < FOLD_STEPS; s++) {
        if (first + s * step >= length) break;
        prefetch_l2(x + first + s * step);
        if (Method::inputs > 1) prefetch_l2(w + first + s * step);
    }
    await_stream();
    method.begin(x, w);
    typename Method::state state =
        wide ? fold_share<Method, true>(method, x, w, first, step, length)
             : fold_share<Method, false>(method, x, w, first, step, length);
    state = fold_group<Method, FOLD_WHOLE>(state, FOLD_WHOLE);
    if (!fold_meet<Method, FOLD_WHOLE>(state, part, parts, rooms_of(partials))) return;
    if (threadIdx.x == 0) method.finish(state, length, y, z);
}

/* Elements i, i + 1, ... from x on: a vector where that is `whole`, else what there is of it. The slice begins at x_first
 * and w_first, which the method looks at when all that is asked for is on its way. */
template <class Method>
static __device__ __forceinline__ void
fold_vector(Method &method, typename Method::state &state, const typename Method::element *x_first,
            const typename Method::other *w_first, const typename Method::element *x,
            const typename Method::other *w, int i, int length, bool wide, bool whole) {
    using T = typename Method::element;
    using U = typename Method::other;
    constexpr int size = 16 / sizeof(T);
    pack<T, size> loaded = {};
    pack<U, size> more = {};
    if (whole) {
        loaded = load_pack<T, size>(x, size, wide);
        if constexpr (Method::inputs > 1) more = load_pack<U, size>(w, size, wide);
    }
    method.begin(x_first, w_first);
    if (__builtin_expect(whole, true)) {
        method.template take<size, size>(state, loaded.at, more.at, i, 0);
        return;
    }
#pragma unroll 1
    for (; i<length; i++, x++, w += Method::inputs> 1)
        method.template take<1, 1>(state, x, w, i, 0);
}

/* All of a tensor that is so small that each thread has one vector: what counts is how long the code is, and how
 * many trips to memory there are one after another. */
template <class Method>
static __global__ __launch_bounds__(FOLD_THREADS) void fold_few(
    const typename Method::element *x, const typename Method::other *w, typename Method::output *y,
    typename Method::second *z, typename Method::state *partials, int length, bool wide,
    const __grid_constant__ Method given) {
    constexpr int size = 16 / sizeof(typename Method::element);
    const int i = ((int)blockIdx.x * FOLD_THREADS + (int)threadIdx.x) * size;
    typename Method::state state = Method::empty();
    release_next();
    ready_parameters(given);
    Method method = given;
    const auto *from = ready_global(x + i);
    const auto *beside = Method::inputs > 1 ? ready_global(w + i) : w;
    await_stream();
    fold_vector(method, state, x, w, from, beside, i, length, wide, i + size <= length);
    state = fold_group<Method>(state, FOLD_THREADS);
    const int parts = (int)gridDim.x;
    if (parts > 1 && !fold_meet<Method>(state, (int)blockIdx.x, parts, rooms_of(partials))) return;
    if (threadIdx.x == 0) method.finish(state, length, y, z);
}

/* What one block does of a method: the method itself, or one that keeps less, as so few terms do not ask for more.
 * over_warp(state): where an instruction does what shuffles do. */
template <class Method>
static Method brief_of(const Method &method, int64_t) {
    return method;
}
/* What several blocks do of one slice of less than 2^32 elements: the method itself, or one of words that instructions join. */
template <class Method>
static Method whole_of(const Method &method) {
    return method;
}
/* Whether what a method has read is read once more, from the end on: fold_whole would ask for the next tensor too early, and
 * the cache would have lost what it still holds of this one (a histogram of 10^7 23.5 to 29.2 µs). */
template <class Method>
static constexpr auto reads_again(int) -> decltype(Method::again, true) {
    return true;
}
template <class Method>
static constexpr bool reads_again(...) {
    return false;
}

/* over_eight(state): the same of eight lanes, in the first. */
template <class Method>
static constexpr auto has_over_eight(int) -> decltype(&Method::over_eight, true) {
    return true;
}
template <class Method>
static constexpr bool has_over_eight(...) {
    return false;
}

/* The same of one block, whose first thread joins what its warps have, or first lanes do. Threads beyond the end take a vector that another
 * has, so that their warp need not branch. */
template <class Method, bool wide>
static __global__ __launch_bounds__(FOLD_THREADS) void fold_one(
    const typename Method::element *x, const typename Method::other *w, typename Method::output *y,
    typename Method::second *z, int length, const __grid_constant__ Method given) {
    using state = typename Method::state;
    constexpr int size = 16 / sizeof(typename Method::element), warps = FOLD_THREADS / 32;
    constexpr bool pair = Method::inputs > 1;
    __shared__ __align__(16) state partial[warps];
    const int first = (int)threadIdx.x * size;
    const bool none = first >= length, whole = first + size <= length || (none && length >= size);
    state sum = Method::empty(), sums[warps];
    release_next();
    ready_parameters(given);
    Method method = given;
    const auto *from = settled_global(x + (none ? 0 : first));
    const auto *beside = pair ? settled_global(w + (none ? 0 : first)) : w;
    state *mine = settled_shared(partial + threadIdx.x / 32);
    const state *all = settled_shared(partial);
    y = settled_global(
        y +
        threadIdx.x); /* of the first thread, so that it is not read from the parameters again */
    await_stream();
    fold_vector(method, sum, x, w, from, beside, first, length, wide, whole);
    if (none) sum = Method::empty();
    sum = fold_warp<Method>(sum);
    if (threadIdx.x % 32 == 0) *mine = sum;
    __syncthreads();
    if constexpr (has_over_eight<Method>(0)) {
        static_assert(warps == 8, "a lane each");
        if (threadIdx.x >= 32) return;
        sums[0] = Method::over_eight(all[threadIdx.x % warps]);
        if (threadIdx.x > 0) return;
    } else {
        if (threadIdx.x > 0) return;
#pragma unroll
        for (int i = 0; i < warps; i++) sums[i] = all[i];
#pragma unroll
        for (int span = 1; span < warps; span *= 2)
#pragma unroll
            for (int i = 0; i < warps; i += 2 * span)
                sums[i] = Method::join(sums[i], sums[i + span]);
    }
    method.finish(sums[0], length, y, z);
}

/* Slices of one vector a lane, a warp to each, as long as there are few. */
template <class Method>
static __global__ __launch_bounds__(FOLD_THREADS) void fold_lines(
    const typename Method::element *x, const typename Method::other *w, typename Method::output *y,
    typename Method::second *z, const __grid_constant__ fold_lines_place place, Method method) {
    using state = typename Method::state;
    constexpr int size = 16 / sizeof(typename Method::element);
    const int slice = (int)((blockIdx.x * FOLD_THREADS + threadIdx.x) / 32);
    const int first = (int)threadIdx.x % 32 * size;
    state sum = Method::empty();
    release_next();
    if (slice >= place.count) return;
    ready_parameters(place), ready_parameters(method);
    x += slice * place.stride[0], w += slice * place.stride[1];
    const auto *from = settled_global(x + first);
    const auto *beside = Method::inputs > 1 ? settled_global(w + first) : w;
    y = settled_global(y + slice * place.stride[2]);
    await_stream();
    fold_vector(method, sum, x, w, from, beside, first, place.length, place.wide,
                first + size <= place.length);
    sum = fold_warp<Method>(sum);
    if (threadIdx.x % 32 > 0) return;
    method.finish(sum, place.length, y, z ? z + slice * place.stride[3] : z);
}

/* Elements k, k + members, ... below `end` of `size` slices side by side; in lines with one stride. */
template <class Method, bool line, int size>
static __device__ __forceinline__ void
fold_strides(const Method (&methods)[size], typename Method::state (&states)[size],
             const typename Method::element *x, const typename Method::other *w, int64_t k,
             int64_t end, int members, const fold_place &place) {
    using T = typename Method::element;
    using U = typename Method::other;
    constexpr int steps = line && sizeof(T) * size < 8 ? 2 * FOLD_STEPS : FOLD_STEPS;
    int64_t from[2], step_x = place.elements.stride[0][0], step_w = place.elements.stride[1][0];
#pragma unroll 1
    for (; k + (steps - 1) * members < end; k += steps * members) {
        pack<T, size> values[steps];
        U others[steps] = {};
#pragma unroll
        for (int s = 0; s < steps; s++) {
            int64_t number = k + s * members;
            from[0] = number * step_x, from[1] = number * step_w;
            if (!line) place.elements.offsets(number, from);
            values[s] = *reinterpret_cast<const pack<T, size> *>(x + from[0]);
            if (Method::inputs > 1) others[s] = w[from[1]];
        }
#pragma unroll
        for (int v = 0; v < size; v++) {
            T slice[steps];
#pragma unroll
            for (int s = 0; s < steps; s++) slice[s] = values[s].at[v];
            methods[v].template take<steps, 1>(states[v], slice, others, k, members);
        }
    }
#pragma unroll 1
    for (; k < end; k += members) {
        place.elements.offsets(k, from);
#pragma unroll
        for (int v = 0; v < size; v++)
            methods[v].template take<1, 1>(states[v], x + from[0] + v,
                                           Method::inputs > 1 ? w + from[1] : w, k, 0);
    }
}

/* Over the threads that have one lane of `across`: the first of them has it all in shared[threadIdx.x] then. */
template <class Method>
static __device__ __forceinline__ void
fold_members(typename Method::state *shared, const typename Method::state &state, int across) {
    shared[threadIdx.x] = state;
    __syncthreads();
    for (int half = FOLD_THREADS / 2; half >= across; half /= 2) {
        if ((int)threadIdx.x < half)
            shared[threadIdx.x] = Method::join(shared[threadIdx.x], shared[threadIdx.x + half]);
        __syncthreads();
    }
}

/* Any strides: `across` times `size` slices beside one another, the rest of a block along each. */
template <class Method, int size>
static __global__
__launch_bounds__(FOLD_THREADS, size > 1 ? 3 : fold_resident<Method>()) void fold_strided(
    const typename Method::element *x, const typename Method::other *w, typename Method::output *y,
    typename Method::second *z, typename Method::state *partials,
    const __grid_constant__ fold_place place, const __grid_constant__ Method method) {
    __shared__ typename Method::state shared[FOLD_THREADS];
    const int lane = threadIdx.x & (place.across - 1), member = threadIdx.x >> place.across_log2;
    const int members = FOLD_THREADS >> place.across_log2;
    int64_t set, part;
    release_next();
    fold_task(place, blockIdx.x, &set, &part);
    int64_t slice = (set * place.across + lane) * size, end = (part + 1) * place.part, at[4];
    bool idle = slice >= place.count;
    if (end > place.length || idle) end = idle ? 0 : place.length;
    place.outputs.offsets(idle ? 0 : slice, at);
    x = ready_global(x + at[0]), w = ready_global(w + at[1]);
    await_stream();
    Method methods[size];
    typename Method::state states[size];
#pragma unroll
    for (int v = 0; v < size; v++) {
        methods[v] = method, states[v] = Method::empty();
        if (place.length > 0) methods[v].begin(x + v, w + v);
    }
    int64_t k = part * place.part + member;
    if (size > 1 || place.elements.rank <= 1)
        fold_strides<Method, true>(methods, states, x, w, k, end, members, place);
    else
        fold_strides<Method, false>(methods, states, x, w, k, end, members, place);
#pragma unroll
    for (int v = 0; v < size; v++) {
        fold_members<Method>(shared, states[v], place.across);
        if (size == 1 && place.meet) {
            auto *rooms = rooms_of(partials) + slice * place.parts;
            states[v] = member == 0 ? shared[threadIdx.x] : Method::empty();
            if (part + 1 < place.parts) {
                if (member == 0 && !idle) show(rooms + part, states[v]);
                return;
            }
            if (!idle) fold_await<Method, 1>(states[v], rooms, member, place.parts - 1, members);
            __syncthreads();
            fold_members<Method>(shared, states[v], place.across);
        }
        if (member == 0 && !idle)
            fold_end(methods[v], place, shared[threadIdx.x], slice + v, part, partials, y, z);
    }
}

/* Joins the parts of a slice: a warp does where there are few, else a block. */
template <class Method>
static __global__ __launch_bounds__(FOLD_THREADS) void fold_parts(
    const typename Method::element *x, const typename Method::other *w, typename Method::output *y,
    typename Method::second *z, const typename Method::state *partials,
    const __grid_constant__ fold_place place, Method method) {
    typename Method::state state = Method::empty();
    const int group = place.parts <= FOLD_WARP_PARTS ? 32 : FOLD_THREADS;
    const int member = threadIdx.x & (group - 1);
    int64_t slice = ((int64_t)blockIdx.x * FOLD_THREADS + threadIdx.x) / group, at[4];
    const bool idle = slice >= place.count;
    follow_stream();
    if (idle) slice = 0;
    for (int64_t p = member; p < place.parts; p += group)
        state = Method::join(state, partials[slice * place.parts + p]);
    state = fold_group<Method>(state, group);
    if (member > 0 || idle) return;
    place.outputs.offsets(slice, at);
    if (place.length > 0) method.begin(x + at[0], w + at[1]);
    method.finish(state, place.length, y + at[2], z ? z + at[3] : z);
}

/* ---- The host's part ------------------------------------------------------------------------ */

/* Parts so that there are `blocks`, of `unit` elements or a multiple. */
static inline void fold_cut(fold_place *place, int64_t blocks, int64_t blocks_of_one,
                            int64_t unit) {
    int64_t wanted = blocks / (blocks_of_one > 0 ? blocks_of_one : 1);
    int64_t most = blocks_for(place->length, unit), limit = FOLD_PARTS / place->count;
    int64_t parts = wanted < most ? wanted : most;
    if (parts > limit) parts = limit;
    if (parts < 1) parts = 1;
    place->part = blocks_for(blocks_for(place->length, parts), unit) * unit;
    if (place->part < 1) place->part = unit;
    place->parts = place->length > 0 ? blocks_for(place->length, place->part) : 1;
}

/* Takes dimension `axis` out of a view. */
static inline fovea_view without_axis(fovea_view view, int axis) {
    for (int i = axis; i + 1 < view.rank; i++) {
        view.shape[i] = view.shape[i + 1];
        view.stride[i] = view.stride[i + 1];
    }
    view.rank--;
    return view;
}
static inline fovea_view axis_alone(const fovea_view *view, int axis) {
    fovea_view line = *view;
    line.rank = 1, line.shape[0] = view->shape[axis], line.stride[0] = view->stride[axis];
    return line;
}

static inline size_t fold_workspace(const fovea_problem *problem, int threads) {
    (void)problem, (void)threads;
    return FOLD_WORKSPACE;
}

/* lines: a slice of x and of w; rests: where slices begin in x and w, and results in y and z. Data are
 * those of the rests. */
template <class Method>
static fovea_status fold_views(fovea_view (&lines)[2], fovea_view (&rests)[4], bool has_second,
                               fovea_run *run, Method method) {
    using T = typename Method::element;
    using U = typename Method::other;
    constexpr int size = 16 / sizeof(T);
    constexpr bool w = Method::inputs > 1;
    static_assert(sizeof(typename Method::state) <= FOLD_STATE, "it must fit the workspace");
    fold_place place = {};
    place.count = fovea_view_elements(&rests[2]), place.length = fovea_view_elements(&lines[0]);
    if (place.count == 0) return FOVEA_OK;
    fovea_view *all_lines[] = {&lines[0], &lines[1]};
    fovea_view *all_rests[] = {&rests[0], &rests[1], &rests[2], &rests[3]};
    if (place.length > 0) fovea_views_collapse(all_lines, 2);
    fovea_views_collapse(all_rests, 4);
    place.elements = strided_of<2>({&lines[0], &lines[1]});
    place.outputs = strided_of<4>({&rests[0], &rests[1], &rests[2], &rests[3]});
    bool contiguous = place.length <= 1 || (lines[0].rank == 1 && lines[0].stride[0] == 1 &&
                                            (!w || lines[1].stride[0] == 1));
    place.wide =
        is_aligned(rests[0].data, 16) && (!w || is_aligned(rests[1].data, size * sizeof(U)));
    for (int i = 0; i < rests[0].rank; i++)
        place.wide &= rests[0].shape[i] == 1 ||
                      (rests[0].stride[i] % size == 0 && rests[1].stride[i] % size == 0);
    auto *partials = (typename Method::state *)run->workspace;
    const T *from = (const T *)rests[0].data;
    const U *other = (const U *)rests[1].data;
    auto *to = (typename Method::output *)rests[2].data;
    auto *second = (typename Method::second *)(has_second ? rests[3].data : NULL);
    fovea_status status;
    const int64_t few = blocks_for(place.length, FOLD_THREADS * size);
    if (contiguous && place.count == 1 && few == 1) {
        const auto brief = brief_of(method, place.length);
        using Brief = std::decay_t<decltype(brief)>;
        return launch(run, place.wide ? fold_one<Brief, true> : fold_one<Brief, false>, 1,
                      FOLD_THREADS, from, other, to, second, (int)place.length, brief);
    }
    if (contiguous && place.length > 8 * size && place.length <= 32 * size && rests[2].rank == 1 &&
        place.count * place.length <= FOLD_LINES) {
        const auto brief = brief_of(method, place.length);
        fold_lines_place lines_at = {{}, (int)place.count, (int)place.length, place.wide};
        for (int t = 0; t < 4; t++) lines_at.stride[t] = place.outputs.stride[t][0];
        return launch(run, fold_lines<std::decay_t<decltype(brief)>>,
                      blocks_for(place.count * 32, FOLD_THREADS), FOLD_THREADS, from, other, to,
                      second, lines_at, brief);
    }
    const auto whole = whole_of(method);
    using Whole = std::decay_t<decltype(whole)>;
    auto *shares = (typename Whole::state *)run->workspace;
    if (contiguous && place.count == 1 && few > 0 && few <= FOLD_MEETING)
        return launch(run, fold_few<Whole>, few, FOLD_THREADS, from, other, to, second, shares,
                      (int)place.length, place.wide, whole);
    if constexpr (w || (std::is_same<T, float>::value && !reads_again<Method>(0))) {
        if (contiguous && place.count == 1 && few > 0 && (w || place.length >= FOLD_WHOLE_LEAST) &&
            place.length <= FOLD_WHOLE_MOST)
            return launch(run, fold_whole<Whole>, FOLD_DEVICE, FOLD_WHOLE, from, other, to, second,
                          shares, place.length, place.wide, whole);
    }
    if (contiguous) {
        constexpr int blocks_at_once = FOLD_DEVICE * fold_beside<Method>();
        constexpr int steps = fold_steps(sizeof(T));
        int64_t vectors = blocks_for(place.length, size), blocks;
        place.group = 1;
        while (place.group < 32 && place.group * steps < vectors) place.group *= 2;
        if (vectors > 512 || (vectors > 32 * steps && place.count < blocks_at_once))
            place.group = FOLD_THREADS;
        place.parts = 1, place.part = place.length;
        if (place.group == FOLD_THREADS)
            fold_cut(&place, blocks_at_once, place.count, FOLD_THREADS * size);
        while (1 << place.group_log2 < place.group) place.group_log2++;
        place.meet = place.parts > 1 && fold_rooms_suffice<typename Method::state>(place);
        blocks = blocks_for(place.count * place.parts * place.group, FOLD_THREADS);
        status = launch_as(run, true, fold_contiguous<Method>, blocks, FOLD_THREADS,
                           place.count == 1 && place.parts > 1 ? FOLD_ROOM : 0, from, other, to,
                           second, partials, place, method);
    } else {
        constexpr int blocks_at_once = FOLD_DEVICE * fold_resident<Method>();
        constexpr int beside = w ? 1 : size < 4 ? size : 4;
        int inner = rests[0].rank - 1;
        bool adjacent = inner >= 0 && rests[0].stride[inner] == 1, several = beside > 1 && adjacent;
        int64_t shape = adjacent ? rests[0].shape[inner] : 1;
        several = several && place.count * place.length >= FOLD_MANY && shape % beside == 0 &&
                  lines[0].rank == 1 && lines[0].stride[0] % beside == 0 &&
                  is_aligned(from, beside * sizeof(T));
        for (int i = 0; i < inner; i++) several = several && rests[0].stride[i] % beside == 0;
        int each = several ? beside : 1;
        place.across = 1;
        while (shape >= 4 && place.across < 32 && place.across * each < shape)
            place.across *= 2, place.across_log2++;
        int64_t sets = blocks_for(place.count, (int64_t)place.across * each);
        /* Blocks of unlike lengths even out where there are several for each place. */
        fold_cut(&place, 3 * blocks_at_once, sets, 2 * FOLD_STEPS * FOLD_THREADS / place.across);
        place.meet =
            place.parts > 1 && !several && fold_rooms_suffice<typename Method::state>(place);
        status = launch(run, several ? fold_strided<Method, beside> : fold_strided<Method, 1>,
                        sets * place.parts, FOLD_THREADS, from, other, to, second, partials, place,
                        method);
    }
    if (status != FOVEA_OK || place.parts == 1 || place.meet) return status;
    int64_t threads = place.count * (place.parts <= FOLD_WARP_PARTS ? 32 : FOLD_THREADS);
    return launch(run, fold_parts<Method>, blocks_for(threads, FOLD_THREADS), FOLD_THREADS, from,
                  other, to, second, partials, place, method);
}

/* x and, where the method has two inputs, w of the same shape, to y and, if it is given, z. axis: -1 for
 * all of them. */
template <class Method>
static fovea_status fold_run(const fovea_view &x, const fovea_view *w, const fovea_view &y,
                             const fovea_view *z, int axis, fovea_run *run, Method method) {
    fovea_view lines[2] = {x, w ? *w : x}, rests[4] = {x, w ? *w : x, y, z ? *z : y};
    for (int t = 0; t < 2; t++) {
        if (axis >= 0) {
            lines[t] = axis_alone(&rests[t], axis);
            rests[t] = without_axis(rests[t], axis);
        } else {
            rests[t].rank = 0;
        }
    }
    return fold_views(lines, rests, z != NULL, run, method);
}

/* Over all axes but the second, the channels, of which y and z have an element each. */
template <class Method>
static fovea_status fold_channels(const fovea_view &x, const fovea_view &y, const fovea_view &z,
                                  fovea_run *run, Method method) {
    fovea_view line = without_axis(x, 1), channel = axis_alone(&x, 1);
    fovea_view lines[2] = {line, line}, rests[4] = {channel, channel, y, z};
    return fold_views(lines, rests, true, run, method);
}

/* ---- Sums ----------------------------------------------------------------------------------- */

/* A sum of f64 with what its roundings lost (Knuth's two-sum). */
struct pair {
    double high, low;
};

static __device__ __forceinline__ float add(float a, float b) { return a + b; }
static __device__ __forceinline__ double add(double a, double b) { return a + b; }
static __device__ __forceinline__ pair add(pair a, pair b) {
    double high = a.high + b.high, part = high - a.high;
    double lost = (a.high - (high - part)) + (b.high - part), low = lost + (a.low + b.low);
    return {high, isfinite(low) ? low : 0}; /* an infinite sum has lost nothing */
}
static __device__ __forceinline__ float value_of(float x) { return x; }
static __device__ __forceinline__ double value_of(double x) { return x; }
static __device__ __forceinline__ double value_of(pair x) { return x.high + x.low; }

/* Sums are carried in twice the precision beyond 32 terms: what is computed in f32 in f64, f64 as a pair. */
template <class T>
struct carrier {
    using value = float;
    using sum = double;
    static __device__ __forceinline__ double of(float x) { return x; }
};
template <>
struct carrier<double> {
    using value = double;
    using sum = pair;
    static __device__ __forceinline__ pair of(double x) { return {x, 0}; }
};

/* Adds n terms to a sum: in f32 by pairs, in f64 one by one. */
template <class Sum, int n>
static __device__ __forceinline__ void add_terms(Sum &sum, float (&terms)[n]) {
#pragma unroll
    for (int span = 1; span < n; span *= 2)
#pragma unroll
        for (int i = 0; i + span < n; i += 2 * span) terms[i] += terms[i + span];
    sum += (Sum)terms[0];
}
template <int n>
static __device__ __forceinline__ void add_terms(pair &sum, double (&terms)[n]) {
#pragma unroll
    for (int i = 0; i < n; i++) sum = add(sum, pair{terms[i], 0});
}

enum fold_result { FOLD_SUM, FOLD_MEAN, FOLD_ROOT };

/* Whether a term has a way of its own for several at once. */
template <class Term>
static constexpr auto has_several(int) -> decltype(&Term::template several<2>, true) {
    return true;
}
template <class Term>
static constexpr bool has_several(...) {
    return false;
}

/* The sum of Term(x, w). */
template <class T, class Out, class Term, class U = T, class Sum = typename carrier<T>::sum>
struct sum_method {
    using element = T;
    using other = U;
    using output = Out;
    using second = Out;
    using value = typename carrier<T>::value;
    using state = Sum;
    static constexpr int inputs = Term::inputs;
    Term term;
    fold_result result;

    static __device__ __forceinline__ state empty() { return {}; }
    __device__ __forceinline__ void begin(const T *, const U *) {}
    template <int n, int run>
    __device__ __forceinline__ void take(state &sum, const T *x, const U *w, int64_t,
                                         int64_t) const {
        value terms[n];
        if constexpr (n > 1 && has_several<Term>(0)) {
            /* Sixteen halves at once, widened, would spill. */
            constexpr int together = sizeof(T) < 4 && n > 8 ? 8 : n;
#pragma unroll
            for (int from = 0; from < n; from += together) {
                value a[together], b[together], part[together];
#pragma unroll
                for (int i = 0; i < together; i++)
                    a[i] = widen(x[from + i]), b[i] = widen(w[from + i]);
                term.several(a, b, part);
#pragma unroll
                for (int i = 0; i < together; i++) terms[from + i] = part[i];
            }
        } else {
#pragma unroll
            for (int i = 0; i < n; i++) terms[i] = term(widen(x[i]), widen(w[inputs > 1 ? i : 0]));
        }
        add_terms(sum, terms);
    }
    static __device__ __forceinline__ state join(const state &a, const state &b) {
        return add(a, b);
    }
    template <class State = state>
    static __device__ __forceinline__ double
    over_warp(const std::enable_if_t<std::is_same<State, double>::value, State> &sum) {
        return sums_of_eights(sum_of_eight(sum)).x;
    }
    __device__ __forceinline__ void finish(const state &sum, int64_t count, Out *y, Out *) const {
        double total = value_of(sum);
        /* What divides is known before the sum is. */
        if (result == FOLD_MEAN)
            total = sizeof(Out) < 8 ? total * (1 / (double)count) : total / (double)count;
        if (result == FOLD_ROOT) total = sqrt(total);
        *y = (Out)total;
    }
};

/* Of one block, in f32: a dozen roundings at most one after another. */
template <class T, class Out, class Term, class U>
struct brief_sum : sum_method<T, Out, Term, U, float> {
    float share; /* 1 / count of a mean, else 1 */
    static __device__ __forceinline__ float over_warp(float sum) { return sum_of_warp(sum); }
    __device__ __forceinline__ void finish(float sum, int64_t, Out *y, Out *) const {
        sum *= share;
        *y = (Out)(this->result == FOLD_ROOT ? quick_root(sum) : sum);
    }
};
template <class T, class Out, class Term, class U>
static auto brief_of(const sum_method<T, Out, Term, U> &method, int64_t count) {
    if constexpr (sizeof(typename carrier<T>::value) < 8)
        return brief_sum<T, Out, Term, U>{{method.term, method.result},
                                          method.result == FOLD_MEAN ? (float)(1 / (double)count)
                                                                     : 1};
    else
        return method;
}

/* Terms of one input or two. */
struct identity_term {
    static constexpr int inputs = 1;
    template <class V, class W>
    __device__ __forceinline__ V operator()(V x, W) const {
        return x;
    }
};
struct square_term {
    static constexpr int inputs = 1;
    template <class V, class W>
    __device__ __forceinline__ V operator()(V x, W) const {
        return x * x;
    }
};
struct magnitude_term {
    static constexpr int inputs = 1;
    template <class V, class W>
    __device__ __forceinline__ V operator()(V x, W) const {
        return x < 0 ? -x : x;
    }
};
struct product_term {
    static constexpr int inputs = 2;
    template <class V, class W>
    __device__ __forceinline__ V operator()(V x, W w) const {
        return x * w;
    }
};
struct chosen_term {
    static constexpr int inputs = 2;
    template <class V, class W>
    __device__ __forceinline__ V operator()(V x, W w) const {
        return w != 0 ? x : 0;
    }
};

/* ---- Extremes ------------------------------------------------------------------------------- */

/* The larger, or the smaller; NaN if one is. */
template <bool largest>
static __device__ __forceinline__ float extreme(float a, float b) {
    return largest ? max_or_nan(a, b) : min_or_nan(a, b);
}
template <bool largest>
static __device__ __forceinline__ double extreme(double a, double b) {
    return (largest ? a > b : a < b) || isnan(a) ? a : b;
}

/* The largest, or smallest, Term(x). */
template <class T, class Out, bool largest>
struct extreme_method {
    using element = T;
    using other = T;
    using output = Out;
    using second = Out;
    using value = typename carrier<T>::value;
    using state = value;
    static constexpr int inputs = 1;

    static __device__ __forceinline__ state empty() {
        return largest ? -(value)INFINITY : (value)INFINITY;
    }
    __device__ __forceinline__ void begin(const T *, const T *) {}
    template <int n, int run>
    __device__ __forceinline__ void take(state &best, const T *x, const T *, int64_t,
                                         int64_t) const {
#pragma unroll
        for (int i = 0; i < n; i++) best = extreme<largest>(best, widen(x[i]));
    }
    static __device__ __forceinline__ state join(const state &a, const state &b) {
        return extreme<largest>(a, b);
    }
    __device__ __forceinline__ void finish(const state &best, int64_t, Out *y, Out *) const {
        *y = (Out)best;
    }
};

/* Of one block of f32. */
template <class Out, bool largest>
struct brief_extreme : extreme_method<float, Out, largest> {
    using state = unsigned;
    static __device__ __forceinline__ state empty() { return 0; }
    template <int n, int run>
    __device__ __forceinline__ void take(state &best, const float *x, const float *, int64_t,
                                         int64_t) const {
        float most = x[0];
#pragma unroll
        for (int i = 1; i < n; i++) most = extreme<largest>(most, x[i]);
        best = join(best, key_of<largest>(most));
    }
    static __device__ __forceinline__ state join(state a, state b) { return max(a, b); }
    static __device__ __forceinline__ state over_warp(state best) {
        return __reduce_max_sync(0xffffffffu, best);
    }
    __device__ __forceinline__ void finish(state best, int64_t, Out *y, Out *) const {
        *y = (Out)value_of_key<largest>(best);
    }
};
template <class Out, bool largest>
static brief_extreme<Out, largest> brief_of(const extreme_method<float, Out, largest> &, int64_t) {
    return {};
}
template <class Out, bool largest>
static brief_extreme<Out, largest> whole_of(const extreme_method<float, Out, largest> &) {
    return {};
}

/* ---- Joint moments -------------------------------------------------------------------------- */

/* Sums of centred squares and products of x and y; y may be x. */
struct joint_moments {
    double count, mean_x, mean_y, xx, yy, xy; /* means from an element of the slice */
};

/* Chan, Golub and LeVeque, Algorithms for computing the sample variance, 1983. */
static __device__ __forceinline__ joint_moments join_moments(const joint_moments &a,
                                                             const joint_moments &b) {
    if (b.count == 0) return a;
    if (a.count == 0) return b;
    double count = a.count + b.count, share = b.count / count;
    double dx = b.mean_x - a.mean_x, dy = b.mean_y - a.mean_y, weight = a.count * share;
    return {count,
            a.mean_x + dx * share,
            a.mean_y + dy * share,
            a.xx + (b.xx + dx * dx * weight),
            a.yy + (b.yy + dy * dy * weight),
            a.xy + (b.xy + dx * dy * weight)};
}

/* What a thread keeps of them: how many only where pieces are joined, y only where there is one. */
template <bool by_pieces, bool two>
struct moment_sums {
    double x, xx, y, yy, xy, count;
    __device__ __forceinline__ joint_moments all() const { return {count, x, y, xx, yy, xy}; }
    __device__ __forceinline__ void set(const joint_moments &m) {
        x = m.mean_x, y = m.mean_y, xx = m.xx, yy = m.yy, xy = m.xy, count = m.count;
    }
};
template <>
struct moment_sums<true, false> {
    double x, xx, count;
    __device__ __forceinline__ joint_moments all() const { return {count, x, 0, xx, 0, 0}; }
    __device__ __forceinline__ void set(const joint_moments &m) {
        x = m.mean_x, xx = m.xx, count = m.count;
    }
};
template <>
struct moment_sums<false, true> {
    double x, xx, y, yy, xy;
    __device__ __forceinline__ joint_moments all() const { return {0, x, y, xx, yy, xy}; }
};
template <>
struct moment_sums<false, false> {
    double x, xx;
    __device__ __forceinline__ joint_moments all() const { return {0, x, 0, xx, 0, 0}; }
};

/* Of differences from the means, given sums of those from others; part: 1 / count. NaN where a sum is not finite, as
 * such a mean's differences are. */
static __device__ __forceinline__ double centred_product(double xy, double x, double y,
                                                         double part) {
    return xy - x * (y * part) + ((x - x) + (y - y));
}

/* Moments of f32 come from sums in f64 of differences from the first element of the slice, which are 0
 * for equal elements; those of f64 from pieces that are centred by themselves. `two`: there is a y. */
template <class T, bool two, class Finish>
struct moments_method {
    using element = T;
    using other = T;
    using output = typename Finish::output;
    using second = typename Finish::output;
    static constexpr bool by_pieces = sizeof(T) == 8;
    using state = moment_sums<by_pieces, two>;
    static constexpr int inputs = two ? 2 : 1;
    Finish result;
    double first_x, first_y;

    static __device__ __forceinline__ state empty() { return {}; }
    __device__ __forceinline__ void begin(const T *x, const T *y) {
        first_x = (double)finite(widen(*x));
        first_y = two ? (double)finite(widen(*y)) : 0;
    }
    template <int n, int run>
    __device__ __forceinline__ void take(state &s, const T *x, const T *y, int64_t, int64_t) const {
        if constexpr (!by_pieces) {
#pragma unroll
            for (int i = 0; i < n; i++) {
                double dx = (double)widen(x[i]) - first_x;
                double dy = two ? (double)widen(y[two ? i : 0]) - first_y : 0;
                s.x += dx, s.xx = fma(dx, dx, s.xx);
                if constexpr (two) s.y += dy, s.yy = fma(dy, dy, s.yy), s.xy = fma(dx, dy, s.xy);
            }
        } else {
            take_piece<n>(s, x, y);
        }
    }
    template <int n>
    __device__ __forceinline__ void take_piece(state &s, const T *x, const T *y) const {
        joint_moments piece = {n, 0, 0, 0, 0, 0};
        double dx[n], dy[n];
#pragma unroll
        for (int i = 0; i < n; i++) {
            dx[i] = x[i] - first_x, dy[i] = two ? y[two ? i : 0] - first_y : 0;
            piece.mean_x += dx[i], piece.mean_y += dy[i];
        }
        piece.mean_x /= n, piece.mean_y /= n;
#pragma unroll
        for (int i = 0; i < n; i++) {
            double ex = dx[i] - piece.mean_x, ey = dy[i] - piece.mean_y;
            piece.xx = fma(ex, ex, piece.xx);
            if (two) piece.yy = fma(ey, ey, piece.yy), piece.xy = fma(ex, ey, piece.xy);
        }
        s = joined(s, piece);
    }
    static __device__ __forceinline__ state joined(const state &a, const joint_moments &b) {
        state sums = {};
        sums.set(join_moments(a.all(), b));
        return sums;
    }
    static __device__ __forceinline__ state join(const state &a, const state &b) {
        if constexpr (by_pieces) return joined(a, b.all());
        state sums = a;
        sums.x += b.x, sums.xx += b.xx;
        if constexpr (two) sums.y += b.y, sums.yy += b.yy, sums.xy += b.xy;
        return sums;
    }
    template <class State = state>
    static __device__ __forceinline__ state
    over_warp(const std::enable_if_t<!by_pieces, State> &s) {
        if constexpr (!two) {
            const double2 sums = sum_pair(s.x, s.xx);
            return {sums.x, sums.y};
        } else {
            const double parts[5] = {s.x, s.xx, s.y, s.yy, s.xy};
            double eights = 0;
#pragma unroll
            for (int i = 0; i < 5; i++) {
                const double part = sum_of_eight(parts[i]);
                if (threadIdx.x % 32 / 4 == i) eights = part;
            }
            const double2 sums = sums_of_eights(eights); /* lane t has 2 t and 2 t + 1 */
            return {sums.x, sums.y, __shfl_sync(0xffffffffu, sums.x, 1),
                    __shfl_sync(0xffffffffu, sums.y, 1), __shfl_sync(0xffffffffu, sums.x, 2)};
        }
    }
    __device__ __forceinline__ void finish(const state &s, int64_t count, output *y,
                                           output *z) const {
        joint_moments m = s.all();
        m.count = (double)count;
        if constexpr (!by_pieces) {
            const double x = m.mean_x, part = 1 / m.count;
            m.mean_x *= part, m.xx = positive(m.xx - x * m.mean_x);
            if constexpr (two) {
                const double sum = m.mean_y;
                m.mean_y *= part, m.yy = positive(m.yy - sum * m.mean_y);
                m.xy = centred_product(m.xy, x, sum, part);
            }
        }
        m.mean_x += first_x, m.mean_y += first_y;
        result(m, y, z);
    }
    static __device__ __forceinline__ double positive(double x) { return x < 0 ? 0 : x; }
    template <class V>
    static __device__ __forceinline__ V finite(V x) {
        return isfinite(x) ? x : 0;
    }
};

/* f32 whose elements are summed in f32 eight at a time, as differences from the first of them, which is within what they
 * differ among themselves, where their squares neither overflow nor vanish. By f64 alone a variance of 10^7 waits for
 * conversions. */
template <bool two, class Finish>
struct brief_moments_method : moments_method<float, two, Finish> {
    using whole = moments_method<float, two, Finish>;
    using state = typename whole::state;
    static constexpr bool busy = true;
    struct piece {
        float x, xx, y, yy, xy;
    };
    static __device__ __forceinline__ bool tame(float squares) {
        return squares > 0x1p-60f && squares < 0x1p60f;
    }
    template <int n>
    static __device__ __forceinline__ piece piece_of(const float *x, const float *y) {
        piece p = {};
#pragma unroll
        for (int i = 1; i < n; i++) {
            const float dx = x[i] - x[0], dy = two ? y[two ? i : 0] - y[0] : 0;
            p.x += dx, p.xx = fmaf(dx, dx, p.xx);
            if constexpr (two) p.y += dy, p.yy = fmaf(dy, dy, p.yy), p.xy = fmaf(dx, dy, p.xy);
        }
        return p;
    }
    template <int n>
    __device__ __forceinline__ void add(state &s, const piece &p, float x, float y) const {
        const double x0 = (double)x - this->first_x, x1 = (double)p.x, all = fma(n, x0, x1);
        s.x += all, s.xx += fma(x0, x1 + all, (double)p.xx);
        if constexpr (two) {
            const double y0 = (double)y - this->first_y, y1 = (double)p.y, other = fma(n, y0, y1);
            s.y += other, s.yy += fma(y0, y1 + other, (double)p.yy);
            s.xy += fma(x0, y1, fma(y0, all, (double)p.xy));
        }
    }
    template <int n, int run>
    __device__ __forceinline__ void take(state &s, const float *x, const float *y, int64_t,
                                         int64_t) const {
        constexpr int m = n % 8 == 0 ? 8 : n;
        piece pieces[n / m];
        bool all = true;
#pragma unroll
        for (int i = 0; i < n / m; i++) {
            pieces[i] = piece_of<m>(x + i * m, two ? y + i * m : y);
            all &= tame(pieces[i].xx) && (!two || tame(pieces[i].yy));
        }
        if (!all) {
            whole::template take<n, run>(s, x, y, 0, 0);
            return;
        }
#pragma unroll
        for (int i = 0; i < n / m; i++)
            add<m>(s, pieces[i], x[i * m], two ? y[two ? i * m : 0] : 0);
    }
    static __device__ __forceinline__ state over_eight(const state &s) {
        if constexpr (two)
            return {sum_of_eight(s.x), sum_of_eight(s.xx), sum_of_eight(s.y), sum_of_eight(s.yy),
                    sum_of_eight(s.xy)};
        else
            return {sum_of_eight(s.x), sum_of_eight(s.xx)};
    }
};

/* Of several blocks; of two tensors f64 alone is as fast. */
template <class Finish>
static brief_moments_method<false, Finish>
whole_of(const moments_method<float, false, Finish> &method) {
    return {method};
}

#endif
