/* A reduction of a tensor to one number and a map of the same tensor by it: two passes, of which the second goes
 * backwards, as the cache still holds the end; or one launch where a block has a thread for each vector. */
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
    if constexpr (has_over_warp<Method>(0))
        sum = Method::over_warp(sum);
    else
        sum = reduce_warp(sum, [](const state &a, const state &b) { return Method::join(a, b); });
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
    if (count > 0 && count <= FOLD_THREADS * size && views[0].rank == 1 &&
        (count == 1 || (views[0].stride[0] == 1 && views[1].stride[0] == 1))) {
        const auto brief = brief_of(method, count);
        const bool wide =
            is_aligned(views[0].data, 16) && is_aligned(views[1].data, size * sizeof(Out));
        using Brief = std::decay_t<decltype(brief)>;
        return launch(run,
                      wide ? fold_map_few<Brief, T, Out, Function, true>
                           : fold_map_few<Brief, T, Out, Function, false>,
                      1, FOLD_THREADS, (const T *)views[0].data, (float *)whole.data,
                      (Out *)views[1].data, (int)count, brief, function);
    }
    fovea_status status = fold_run(x, NULL, whole, NULL, -1, run, method);
    function.number = (const float *)whole.data;
    return status != FOVEA_OK ? status : map_views<T, Out, 1, 1>(given, run, function, true);
}

#endif
