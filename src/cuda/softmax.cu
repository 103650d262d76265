/* Domain 4, softmax along the last axis. A row that is all -inf, or holds +inf or NaN, comes out NaN:
 * the maximum is then infinite, and the difference from it NaN. */
#include "cuda/rows.cuh"

#include <math.h>

struct no_call {};

struct softmax_row {
    static constexpr float pad = -INFINITY;

    template <class Row, class T>
    static __device__ __forceinline__ void apply(Row &row, T *target, const no_call &) {
        float maximum = -INFINITY;
        row.each([&](float x, int64_t) { maximum = fmaxf(maximum, x); });
        maximum = Row::over_row(maximum, [](float a, float b) { return fmaxf(a, b); });
        float sum = sum_over(row, [&](float x, int64_t) { return expf(x - maximum); });
        row.store(target, [&](float x, int64_t) { return expf(x - maximum) / sum; });
    }
};

static fovea_status softmax_stable(const fovea_problem *problem, fovea_run *run) {
    return rows_floats<softmax_row>(problem, run, no_call{});
}

extern "C" const fovea_implementation fovea_cuda_table_softmax[] = {{.kernel = "softmax_stable",
                                                                     .name = "cuda/sm80/direct",
                                                                     .dtypes = FOVEA_FLOATS,
                                                                     .run = softmax_stable,
                                                                     .device = kDLCUDA},
                                                                    {}};
