/* Domain 4, softmax along the last axis. A row that is all -inf, or holds +inf or NaN, comes out NaN:
 * the maximum is then infinite or NaN, and the difference from it NaN. */
#include "cuda/rows.cuh"

#include <math.h>

/* e^x, x <= 0. The product of rows of halves errs by eps |x| at most, which the bound allows; results below 2^-126
 * are 0 there. */
template <class T>
static __device__ __forceinline__ float power_of_e(float x) {
    return sizeof(T) == 2 ? quick_exp2(x * 1.44269504f) : expf(x);
}

struct softmax_job {
    static constexpr float pad = -INFINITY;
    static constexpr row_needs needs = {40, 64, true, false, false};

    template <class Row, class O>
    __device__ __forceinline__ void operator()(Row &row, O *y, int64_t, int64_t) const {
        row_ask(row);
        if constexpr (Row::brief) {
            Row powers = row;
            const float sum = powers.near_powers(), factor = quick_reciprocal(sum);
            if (sum == sum) {
                powers.store(
                    y, [](float e) { return e; },
                    [=](auto &values, int64_t) {
                        for (float &e : values) e *= factor;
                    });
                return;
            }
        }
        const float maximum = row.maximum();
        auto power = [=](float x) { return power_of_e<typename Row::element_type>(x - maximum); };
        float sum = sum_replaced(row, power, [](float e) { return e; });
        const float factor = 1 / sum;
        row.store(y, power, [=](auto &values, int64_t) {
            for (float &e : values) e *= factor;
        });
    }
};

struct log_softmax_job {
    static constexpr float pad = -INFINITY;
    static constexpr row_needs needs = {64, 64, true, false, false};

    template <class Row, class O>
    __device__ __forceinline__ void operator()(Row &row, O *y, int64_t, int64_t) const {
        row_ask(row);
        if constexpr (Row::brief) {
            Row powers = row;
            const float sum = powers.near_powers();
            const ln_parts total = ln_in_parts(sum);
            if (sum == sum) {
                row.store(
                    y, [](float x) { return x; },
                    [=](auto &values, int64_t) {
                        for (float &x : values) x = x - total.high - total.low;
                    });
                return;
            }
        }
        const float maximum = row.maximum();
        const float rest = logf(
            row.sum([=](float x) { return power_of_e<typename Row::element_type>(x - maximum); }));
        row.store(
            y, [](float x) { return x; },
            [=](auto &values, int64_t) {
                for (float &x : values) x = x - maximum - rest;
            });
    }
};

static fovea_status softmax(const fovea_problem *problem, fovea_run *run) {
    return rows_floats(problem, run, softmax_job{});
}
static fovea_status log_softmax(const fovea_problem *problem, fovea_run *run) {
    return rows_floats(problem, run, log_softmax_job{});
}

/* One streaming pass over memory is what registers give both forms. */
extern "C" const fovea_implementation fovea_cuda_table_softmax[] = {
    CUDA_ROW(softmax_stable, FOVEA_FLOATS, softmax),
    CUDA_ROW(softmax_online, FOVEA_FLOATS, softmax),
    CUDA_ROW(log_softmax, FOVEA_FLOATS, log_softmax),
    {}};
