/* A reduction of a tensor to one number and a map of the same tensor by it: two passes, of which the second goes
 * backwards, as the cache still holds the end; one where a block has a thread for each vector, or where the device holds
 * the tensor on its chip. */
#ifndef FOVEA_CUDA_FOLD_MAP_CUH
#define FOVEA_CUDA_FOLD_MAP_CUH

#include "cuda/fold.cuh"
#include "cuda/map.cuh"

/* All threads join what the warps have, as each needs it. Threads beyond the end take another's vector, so that their warp
 * need not branch; elements beyond the end of one are 0, which adds nothing to what the methods keep. */
template <class Method, class T, class Out, class Function, bool wide>
static __global__
__launch_bounds__(FOLD_THREADS) void fold_map_few(const T *x, float *result, Out *y, int length,
                                                  const __grid_constant__ Method given,
                                                  const __grid_constant__ Function form) {
    using state = typename Method::state;
    constexpr int size = 16 / sizeof(T), warps = FOLD_THREADS / 32;
    __shared__ __align__(16) state partial[warps];
    const int first = (int)threadIdx.x * size;
    state sum = Method::empty(), sums[warps];
    const bool none = first >= length, whole = first + size <= length || (none && length >= size);
    pack<T, size> values = {};
    pack<Out, size> results;
    float number;
    release_next();
    ready_parameters(given), ready_parameters(form);
    Method method = given;
    Function function = form;
    const T *from = settled_global(x + (none ? 0 : first));
    Out *to = settled_global(y + first);
    state *mine = settled_shared(partial + threadIdx.x / 32);
    const state *all = settled_shared(partial);
    result = settled_global(result + threadIdx.x); /* of the first thread */
    await_stream();
    if (__builtin_expect(whole, true))
        values = load_pack<T, size>(from, size, wide);
    else
        values = load_pack<T, size>(from, length - first, false);
    method.template take<size, size>(sum, values.at, values.at, first, 0);
    if (none) sum = Method::empty();
    sum = fold_warp<Method>(sum);
    if (threadIdx.x % 32 == 0) *mine = sum;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < warps; i++) sums[i] = all[i];
#pragma unroll
    for (int span = 1; span < warps; span *= 2)
#pragma unroll
        for (int i = 0; i < warps; i += 2 * span) sums[i] = Method::join(sums[i], sums[i + span]);
    method.finish(sums[0], length, &number, NULL);
    if (threadIdx.x == 0) *result = number;
    function.number = &number;
    function.prepare();
#pragma unroll
    for (int i = 0; i < size; i++) {
        const T value[1] = {values.at[i]};
        Out mapped[1];
        map_one<T, Out, 1, 1>(function, value, mapped);
        results.at[i] = mapped[0];
    }
    if (none) return;
    if (__builtin_expect(whole, true))
        store_pack(to, results, size, wide);
    else
        store_pack(to, results, length - first, false);
}

/* ---- A tensor that stays on the chip: a block a multiprocessor keeps its part, and all learn what they make together.
 * They run at once (launch_together). */

enum {
    KEPT_THREADS = 1024,
    KEPT_VECTORS = 13, /* of a thread, 208 KiB of a block */
    KEPT_ASKED = 4,    /* that are asked for before the stream is awaited */
    KEPT_SHARED = KEPT_THREADS * KEPT_VECTORS * 16,
    KEPT_BESIDE = 1 << 10, /* bytes of shared memory that the kernel declares */
    KEPT_LEAST = 4 << 20   /* of the tensor */
};

/* Whether the device has room for it, and as many multiprocessors as there are blocks. */
static inline bool kept_fits(int64_t bytes) {
    const int device = current_device();
    return bytes >= KEPT_LEAST && bytes <= (int64_t)FOLD_DEVICE * KEPT_SHARED &&
           fovea_cuda_multiprocessors(device) >= FOLD_DEVICE &&
           fovea_cuda_shared_bytes(device) >= KEPT_SHARED + KEPT_BESIDE;
}

/* A thread's vectors k, k + 1, ... on their way to shared memory; it begins with vector `first`, `step` apart. */
template <class T, bool wide>
static __device__ __forceinline__ void kept_stage(pack<T, 16 / sizeof(T)> *mine, const T *x, int k,
                                                  int end, int first, int step, int vectors) {
    constexpr int size = 16 / sizeof(T);
#pragma unroll
    for (; k < end; k++) {
        const int v = first + k * step;
        if (v >= vectors) break;
        if (wide)
            stage_vector(mine + k * KEPT_THREADS, x + (int64_t)v * size);
        else
            mine[k * KEPT_THREADS] = load_pack<T, size>(x + (int64_t)v * size, size, false);
    }
    stage_commit();
}

/* What all blocks make together, for every thread, of what the threads have. The last joins the others' states and shows
 * each block the whole in a room of its own. */
template <class Method>
static __device__ __forceinline__ typename Method::state
kept_meet(typename Method::state state, shown<typename Method::state> *rooms) {
    __shared__ typename Method::state whole;
    const int part = (int)blockIdx.x, parts = (int)gridDim.x;
    shown<typename Method::state> *const answers = rooms + parts;
    state = fold_group<Method, KEPT_THREADS>(state, KEPT_THREADS);
    const bool leads = fold_meet<Method, KEPT_THREADS>(state, part, parts, rooms);
    if (threadIdx.x == 0) {
        if (!leads) {
            while (!look(answers + part, state)) {
            }
            clear(answers + part);
        }
        whole = state;
    }
    __syncthreads();
    if (part == parts - 1 && (int)threadIdx.x < part) show(answers + threadIdx.x, whole);
    return whole;
}

/* The tensor is read once, into shared memory. */
template <class Method, class T, class Out, class Function, bool wide>
static __global__
__launch_bounds__(KEPT_THREADS, 1) void fold_map_kept(const T *x, float *result, Out *y, int length,
                                                      typename Method::state *partials,
                                                      Method method, Function function) {
    constexpr int size = 16 / sizeof(T), half = KEPT_VECTORS / 2 + 1;
    extern __shared__ __align__(16) char kept_memory[];
    __shared__ float number;
    pack<T, size> *const mine = (pack<T, size> *)kept_memory + threadIdx.x;
    const int vectors = length / size, step = (int)gridDim.x * KEPT_THREADS;
    const int first = (int)(blockIdx.x * KEPT_THREADS + threadIdx.x);
    const int rest = blockIdx.x == 0 ? vectors * size + (int)threadIdx.x : length; /* one element */
    typename Method::state state = Method::empty();
    release_next();
#pragma unroll
    for (int k = 0; k < KEPT_ASKED; k++)
        if (first + k * step < vectors) prefetch_l2(x + (int64_t)(first + k * step) * size);
    await_stream();
    method.begin(x, x);
    kept_stage<T, wide>(mine, x, 0, half, first, step, vectors);
    kept_stage<T, wide>(mine, x, half, KEPT_VECTORS, first, step, vectors);
#pragma unroll
    for (int k = 0; k < KEPT_VECTORS; k++) {
        const int v = first + k * step;
        if (k == 0) stage_wait<1>();
        if (k == half) stage_wait<0>();
        if (v < vectors) {
            const pack<T, size> here = mine[k * KEPT_THREADS];
            method.template take<size, size>(state, here.at, here.at, (int64_t)v * size, 0);
        }
    }
    if (rest < length) method.template take<1, 1>(state, x + rest, x + rest, rest, 0);
    state = kept_meet<Method>(state, rooms_of(partials));
    if (threadIdx.x == 0) {
        float all;
        method.finish(state, length, &all, NULL);
        if (blockIdx.x == 0) *result = all;
        number = all;
    }
    __syncthreads();
    function.number = &number;
    function.prepare();
    const auto map = [&](T from) {
        const T value[1] = {from};
        Out mapped[1];
        map_one<T, Out, 1, 1>(function, value, mapped);
        return mapped[0];
    };
#pragma unroll 4
    for (int k = 0; k < KEPT_VECTORS; k++) {
        const int v = first + k * step;
        if (v >= vectors) break;
        const pack<T, size> here = mine[k * KEPT_THREADS];
        pack<Out, size> results;
#pragma unroll
        for (int i = 0; i < size; i++) results.at[i] = map(here.at[i]);
        store_pack(y + (int64_t)v * size, results, size, wide);
    }
    if (rest < length) y[rest] = map(x[rest]);
}

/* function.number: where it finds what the method makes of all elements, `result`. */
template <class T, class Out, class Method, class Function>
static fovea_status fold_and_map(const fovea_view &x, const fovea_view &result, const fovea_view &y,
                                 fovea_run *run, Method method, Function function) {
    constexpr int size = 16 / sizeof(T);
    fovea_view views[2] = {x, y}, whole = result, *all[2] = {&views[0], &views[1]};
    const fovea_view *const given[] = {&x, &y};
    const int64_t count = fovea_view_elements(&x);
    if (count > 0) fovea_views_collapse(all, 2);
    whole.rank = 0;
    const bool dense = count > 0 && views[0].rank == 1 &&
                       (count == 1 || (views[0].stride[0] == 1 && views[1].stride[0] == 1));
    const bool wide =
        is_aligned(views[0].data, 16) && is_aligned(views[1].data, size * sizeof(Out));
    if (dense && count <= FOLD_THREADS * size) {
        const auto brief = brief_of(method, count);
        using Brief = std::decay_t<decltype(brief)>;
        return launch(run,
                      wide ? fold_map_few<Brief, T, Out, Function, true>
                           : fold_map_few<Brief, T, Out, Function, false>,
                      1, FOLD_THREADS, (const T *)views[0].data, (float *)whole.data,
                      (Out *)views[1].data, (int)count, brief, function);
    }
    if (dense && kept_fits(count * (int64_t)sizeof(T)))
        return launch_together(run,
                               wide ? fold_map_kept<Method, T, Out, Function, true>
                                    : fold_map_kept<Method, T, Out, Function, false>,
                               FOLD_DEVICE, KEPT_THREADS, (size_t)KEPT_SHARED,
                               (const T *)views[0].data, (float *)whole.data, (Out *)views[1].data,
                               (int)count, (typename Method::state *)run->workspace, method,
                               function);
    fovea_status status = fold_run(x, NULL, whole, NULL, -1, run, method);
    function.number = (const float *)whole.data;
    return status != FOVEA_OK ? status : map_views<T, Out, 1, 1>(given, run, function, true);
}

#endif
