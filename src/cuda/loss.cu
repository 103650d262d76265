/* Domain 7, losses with their gradients, and 115. Terms of two tensors are folded where they are reduced
 * and mapped where they are not; their gradient is a second pass. Cross entropy goes row by row, with the
 * row in registers: each logit is read from memory once. */
#include "cuda/fold.cuh"
#include "cuda/map.cuh"
#include "cuda/network.cuh"
#include "cuda/rows.cuh"

#include <math.h>

/* ---- Terms of two tensors ------------------------------------------------------------------- */

/* A function of a term's two numbers and a constant: for fold.cuh, and, scaled, for map.cuh. */
#define TERM(name, expression)                                                                     \
    struct name {                                                                                  \
        static constexpr int inputs = 2;                                                           \
        float p, scale;                                                                            \
        __device__ __forceinline__ void prepare() {}                                               \
        __device__ __forceinline__ float operator()(float a, float b) const { return expression; } \
        __device__ __forceinline__ void operator()(const float (&x)[2], float (&y)[1]) const {     \
            y[0] = (*this)(x[0], x[1]) * scale;                                                    \
        }                                                                                          \
    };

static __device__ __forceinline__ float sign(float x) { return x > 0 ? 1 : x < 0 ? -1 : x; }

static __device__ __forceinline__ float huber(float distance, float delta) {
    return distance <= delta ? 0.5f * (distance * distance) : delta * fmaf(-0.5f, delta, distance);
}
/* NaN passes. */
static __device__ __forceinline__ float limited(float x, float low, float high) {
    return min_or_nan(max_or_nan(x, low), high);
}
static __device__ __forceinline__ float probability(float p) {
    return limited(p, (float)FOVEA_BCE_LEAST, (float)FOVEA_BCE_MOST);
}
/* By two logarithms where the quotient is no normal number, as is p = 1 beside a subnormal q. */
static __device__ __forceinline__ float kl_div(float p, float q) {
    if (p == 0 && q == q) return 0;
    const float quotient = p / q, infinity = INFINITY;
    if (quotient >= 0x1p-126f && quotient < infinity) return p * logf(quotient);
    const bool no_number = signbit(quotient) && fabsf(q) < infinity;
    return no_number ? NAN : p * (logf(fabsf(p)) - logf(fabsf(q)));
}
/* Of probabilities from 1e-7 on: terms may err by 9 eps (1 + |ln|). */
static __device__ __forceinline__ float short_log(float p) { return 0.693147182f * quick_log2(p); }
/* A branch for targets that are 0 or 1 would keep terms apart. */
static __device__ __forceinline__ float bce(float p, float y) {
    p = probability(p);
    return -0.693147182f * fmaf(y, quick_log2(p), (1 - y) * quick_log2(1 - p));
}
static __device__ __forceinline__ float bce_slope(float p, float y) {
    p = probability(p);
    return (p - y) / (p * (1 - p));
}
static __device__ __forceinline__ float bce_logits(float z, float y) {
    return fmaf(-z, y, z < 0 ? 0 : z) + log1pf(expf(-fabsf(z)));
}

/* Several terms at once have one logarithm of a quick quotient each, if all numbers lie where neither loses more
 * than the 2^-21 that terms may err by: p 8 eps (1 + |ln|). A branch for each would keep them apart. */
struct kl_div_term {
    static constexpr int inputs = 2;
    float constant, scale;
    __device__ __forceinline__ void prepare() {}
    __device__ __forceinline__ float operator()(float p, float q) const { return kl_div(p, q); }
    __device__ __forceinline__ void operator()(const float (&x)[2], float (&y)[1]) const {
        y[0] = kl_div(x[0], x[1]) * scale;
    }
    template <int n>
    __device__ __forceinline__ void several(const float (&p)[n], const float (&q)[n],
                                            float (&terms)[n]) const {
        float quotients[n];
        unsigned most = 0; /* that their bits exceed those of the least tame by; NaN's do by far */
#pragma unroll
        for (int i = 0; i < n; i++) {
            quotients[i] = (p[i] == 0 ? 1 : p[i]) * quick_reciprocal(q[i]);
            most = max(most, __float_as_uint(quotients[i]) - __float_as_uint(0x1p-100f));
        }
        const bool tame = most < __float_as_uint(0x1p100f) - __float_as_uint(0x1p-100f);
        if (tame) {
#pragma unroll
            for (int i = 0; i < n; i++) terms[i] = p[i] * short_log(quotients[i]);
        } else {
#pragma unroll
            for (int i = 0; i < n; i++) terms[i] = kl_div(p[i], q[i]);
        }
    }
};

TERM(mse_term, (a - b) * (a - b))
TERM(mse_slope, 2 * (a - b))
TERM(mae_term, fabsf(a - b))
TERM(mae_slope, sign(a - b))
TERM(huber_term, huber(fabsf(a - b), p))
TERM(huber_slope, limited(a - b, -p, p))
TERM(kl_div_slope, a == 0 && b == b ? 0 : -(a / b))
TERM(bce_term, bce(a, b))
TERM(bce_slope_term, bce_slope(a, b))
TERM(bce_logits_term, bce_logits(a, b))
TERM(bce_logits_slope, 1 / (1 + expf(-a)) - b)

template <class Term, class Slope>
static fovea_status loss_of(const fovea_problem *problem, fovea_run *run, float constant = 0) {
    const fovea_view *v = problem->views;
    fovea_reduction reduction = fovea_loss_reduction(problem);
    double divisor = reduction == FOVEA_MEAN ? (double)fovea_view_elements(&v[0]) : 1;
    return by_float(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        fovea_status status;
        if (reduction == FOVEA_NO_REDUCTION)
            status = map_run<T, float, 2>(problem, run, Term{constant, 1});
        else
            status = fold_run(v[0], &v[1], v[2], NULL, -1, run,
                              sum_method<T, float, Term>{
                                  {constant, 1}, reduction == FOVEA_MEAN ? FOLD_MEAN : FOLD_SUM});
        if (status != FOVEA_OK || !fovea_given(problem, FOVEA_LOSS_GRADIENT)) return status;
        const fovea_view *const views[] = {&v[0], &v[1], &v[FOVEA_LOSS_GRADIENT]};
        return map_views<T, T, 2, 1>(views, run, Slope{constant, (float)(1 / divisor)});
    });
}

static fovea_status loss_mse(const fovea_problem *problem, fovea_run *run) {
    return loss_of<mse_term, mse_slope>(problem, run);
}
static fovea_status loss_mae(const fovea_problem *problem, fovea_run *run) {
    return loss_of<mae_term, mae_slope>(problem, run);
}
static fovea_status loss_huber(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_loss_huber_options *)problem->options;
    return loss_of<huber_term, huber_slope>(problem, run, (float)o->delta);
}
static fovea_status loss_kl_div(const fovea_problem *problem, fovea_run *run) {
    return loss_of<kl_div_term, kl_div_slope>(problem, run);
}
static fovea_status loss_bce(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_loss_bce_options *)problem->options;
    if (o->from_logits) return loss_of<bce_logits_term, bce_logits_slope>(problem, run);
    return loss_of<bce_term, bce_slope_term>(problem, run);
}

/* ---- Cross entropy -------------------------------------------------------------------------- */

struct targets {
    const void *data;
    strided<1> where;
    bool wide; /* of 64 bits */

    __device__ __forceinline__ int64_t place(int64_t row) const {
        int64_t at[1];
        where.offsets(row, at);
        return at[0];
    }
    __device__ __forceinline__ int64_t at_place(int64_t place) const {
        return wide ? ((const int64_t *)data)[place] : ((const int32_t *)data)[place];
    }
    __device__ __forceinline__ int64_t at(int64_t row) const { return at_place(place(row)); }
};

enum { ENTROPY_FEW = 32 }; /* rows of which one block has all */

/* The third tensor of the rows is the loss of each. */
template <bool gradient>
struct entropy_job {
    static constexpr float pad = -INFINITY;
    /* 100 columns take 4 lanes with 28, for 8 with 16: 105 µs for 123 of 10^8. */
    static constexpr row_needs needs = {64, 0, false, false, false, {gradient ? 0 : 4, 4, 28, 8}};
    targets target;
    int64_t ignored;
    float on, off; /* weights of the target and of all */
    float *loss;
    const int64_t *counted; /* rows that count, where the gradient is divided by them; or NULL */

    /* The loss of a row, in all of its threads: without its maximum where the sum itself says that no power was too large
     * for it or too small, and that exponents lost little by rounding. */
    template <class Row>
    __device__ __forceinline__ float term(Row &row, int64_t chosen) const {
        const bool counts = chosen != ignored, known = chosen >= 0 && chosen < row.columns;
        float mine = 0, all = 0;
        if (counts && known) mine = row.value(chosen);
        if (on == 1 && off == 0) {
            const float sum = row.sum([](float x) { return quick_exp2(1.44269504f * x); });
            const bool near = sum > 0x1p-8f && sum < 0x1p12f;
            if (__all_sync(0xffffffffu, near)) /* rows of a warp go one way, as they exchange */
                return !counts ? 0 : known ? logf(sum) - mine : NAN;
        }
        const float maximum = row.maximum();
        if (off > 0) all = row.sum_inside([=](float x) { return x - maximum; });
        float result =
            logf(row.sum([=](float x) { return quick_exp2(1.44269504f * (x - maximum)); }));
        if (on > 0) result = fmaf(-on, mine - maximum, result);
        if (off > 0) result = fmaf(-off, all, result);
        return !counts ? 0 : known ? result : NAN;
    }
    /* y: e^x as the row's elements or `power` of them are. */
    template <class Row, class O, class F>
    __device__ __forceinline__ void slopes(Row &row, O *y, F power, float factor,
                                           int64_t chosen) const {
        const bool counts = chosen != ignored, known = chosen >= 0 && chosen < row.columns;
        const float scale = counted ? (float)(1 / (double)*counted) : 1;
        row.store(y, power, [&](auto &values, int64_t c) {
            for (float &e : values) {
                float weight = off + (c == chosen ? on : 0);
                e = !counts ? 0 : known ? (e * factor - weight) * scale : NAN;
                c++;
            }
        });
    }
    /* Without a maximum: its lanes have all of a row, and the one that has the target's element tells the loss. */
    template <class Row, class O>
    __device__ __forceinline__ bool brief(Row &row, O *y, int64_t at, int64_t chosen) const {
        Row powers = row;
        const float sum = powers.near_powers();
        const ln_parts total = ln_in_parts(sum);
        if (!(sum == sum && on == 1 && off == 0)) return false;
        if (chosen == ignored || chosen < 0 || chosen >= row.columns) {
            if (row.leads()) loss[at] = chosen == ignored ? 0 : NAN;
        } else {
#pragma unroll
            for (int j = 0; j < (int)(sizeof row.values / sizeof(float)); j++)
                if (row.first + j == (int)chosen)
                    loss[at] = (total.high - row.values[j]) + total.low;
        }
        if (gradient)
            slopes(
                powers, y, [](float e) { return e; }, quick_reciprocal(sum), chosen);
        return true;
    }
    template <class Row, class O>
    __device__ __forceinline__ void operator()(Row &row, O *y, int64_t at, int64_t number) const {
        size_t place = (size_t)target.place(number);
        if (Row::brief) settle(place);
        row_ask(row);
        with(row, y, at, target.at_place((int64_t)place));
    }
    template <class Row, class O>
    __device__ __forceinline__ void with(Row &row, O *y, int64_t at, int64_t chosen) const {
        const bool counts = chosen != ignored, known = chosen >= 0 && chosen < row.columns;
        if constexpr (Row::brief)
            if (brief(row, y, at, chosen)) return;
        const float maximum = row.maximum();
        float all = 0, mine = counts && known ? row.value(chosen) - maximum : 0;
        if (off > 0) all = row.sum_inside([=](float x) { return x - maximum; });
        auto power = [=](float x) { return quick_exp2(1.44269504f * (x - maximum)); };
        const float sum =
            gradient ? sum_replaced(row, power, [](float e) { return e; }) : row.sum(power);
        if (row.leads()) {
            float result = logf(sum);
            if (on > 0) result = fmaf(-on, mine, result);
            if (off > 0) result = fmaf(-off, all, result);
            loss[at] = !counts ? 0 : known ? result : NAN;
        }
        if (gradient) slopes(row, y, power, 1 / sum, chosen);
    }
};

/* How many targets are not ignored; with losses beside them also the sum of these. */
template <class U, bool losses>
struct entropy_method {
    using element = std::conditional_t<losses, float, U>;
    using other = U;
    using output = std::conditional_t<losses, float, int64_t>;
    using second = output;
    struct state {
        double sum;
        int64_t count;
    };
    static constexpr int inputs = losses ? 2 : 1;
    int64_t ignored;
    bool mean;

    static __device__ __forceinline__ state empty() { return {}; }
    __device__ __forceinline__ void begin(const element *, const other *) {}
    template <int n, int run>
    __device__ __forceinline__ void take(state &s, const element *x, const U *target, int64_t,
                                         int64_t) const {
#pragma unroll
        for (int i = 0; i < n; i++) {
            if constexpr (losses)
                s.sum += (double)x[i], s.count += target[i] != ignored;
            else
                s.count += x[i] != ignored;
        }
    }
    static __device__ __forceinline__ state join(const state &a, const state &b) {
        return {a.sum + b.sum, a.count + b.count};
    }
    __device__ __forceinline__ void finish(const state &s, int64_t, output *y, output *) const {
        if (losses)
            *y = (output)(mean ? s.sum / (double)s.count : s.sum);
        else
            *y = (output)s.count;
    }
};

/* All rows in one block, a warp each, whose losses the first thread adds up. */
template <class T, class U, int run, bool wide>
static __global__ __launch_bounds__(ENTROPY_FEW * 32) void entropy_few(
    const T *x, const __grid_constant__ brief_place place,
    const __grid_constant__ entropy_job<false> job, float *total, bool mean) {
    __shared__ __align__(16) float losses[ENTROPY_FEW];
    const int number = (int)threadIdx.x / 32, first = (int)threadIdx.x % 32 * run;
    release_next();
    if (threadIdx.x < ENTROPY_FEW) losses[threadIdx.x] = 0;
    x += number * place.stride[0];
    ready_parameters(job), ready_parameters(place);
    unsigned averages = mean;
    settle(averages), total = settled_global(total);
    brief_row<T, run, 1, wide> row = {x,          settled_global(x + first), place.columns, first,
                                      place.part, entropy_job<false>::pad};
    const U *const targets = (const U *)job.target.data;
    const U *target = settled_global(targets + job.target.place(number));
    /* The first warp counts all rows beside its own. */
    const int other = (int)threadIdx.x < place.count ? (int)threadIdx.x : 0;
    const U *beside = settled_global(targets + job.target.place(other));
    entropy_job<false> mine = job;
    mine.loss = losses;
    __syncthreads();
    row_ask(row);
    const int64_t chosen = *target, seen = number == 0 ? (int64_t)*beside : 0;
    mine.with(row, (T *)NULL, number, chosen);
    const bool counts = (int)threadIdx.x < place.count && seen != job.ignored;
    float share = 1;
    if (number == 0 && averages)
        share = quick_reciprocal((float)__popc(__ballot_sync(0xffffffffu, counts)));
    __syncthreads();
    if (threadIdx.x > 0) return;
    float sums[ENTROPY_FEW];
#pragma unroll
    for (int i = 0; i < ENTROPY_FEW; i++) sums[i] = losses[i];
#pragma unroll
    for (int span = 1; span < ENTROPY_FEW; span *= 2)
#pragma unroll
        for (int i = 0; i < ENTROPY_FEW; i += 2 * span) sums[i] += sums[i + span];
    *total = sums[0] * share;
}

static fovea_view dense_like(const fovea_view &view, void *data, fovea_dtype dtype) {
    fovea_view dense = view;
    int64_t step = 1;
    dense.data = (char *)data, dense.dtype = dtype;
    for (int i = view.rank - 1; i >= 0; i--) dense.stride[i] = step, step *= view.shape[i];
    return dense;
}

enum {
    COUNT_BYTES = 64,
    ENTROPY_MANY = 1 << 20, /* logits from which blocks that stay pay */
    ENTROPY_RESIDENT = 4,   /* such blocks of a multiprocessor, */
    ENTROPY_ASKED = 8       /* for as many of which one asks for targets */
};

/* The sum of the losses of rows of the form that entropy_job has: blocks that stay take turns along them, and meet at the
 * end. A row's target is read while the row before is at work; those of the round after the next are asked for 4 KiB at a
 * time, as memory has the 512 bytes that a block needs no sooner than these. */
template <class U>
static __global__ __launch_bounds__(FOLD_THREADS, ENTROPY_RESIDENT) void entropy_sum(
    const float *x, float *loss, typename entropy_method<U, true>::state *workspace,
    const __grid_constant__ row_place place, const __grid_constant__ entropy_job<false> job,
    entropy_method<U, true> method) {
    using way = entropy_method<U, true>;
    constexpr row_form form = entropy_job<false>::needs.form;
    constexpr int rows = FOLD_THREADS / form.lanes;
    const int64_t step = (int64_t)gridDim.x * rows;
    const int mine = (int)threadIdx.x / form.lanes;
    typename way::state state = way::empty();
    held_row<float, form.run, false, form.held, form.lanes> row;
    row.member = (int)threadIdx.x % form.lanes, row.members = form.lanes;
    row.columns = (int)place.columns, row.wide = true, row.idle = false;
    follow_stream();
    int64_t number = (int64_t)blockIdx.x * rows + mine;
    int64_t chosen = number < place.count ? job.target.at(number) : job.ignored;
    static_assert(FOLD_DEVICE * ENTROPY_RESIDENT % ENTROPY_ASKED == 0, "all rounds are asked for");
    constexpr int line = 128 / sizeof(U), asking = ENTROPY_ASKED * rows / line;
    unsigned turn = threadIdx.x < asking ? blockIdx.x % ENTROPY_ASKED : 1u << 31;
    int64_t asked = 2 * step + (int64_t)(blockIdx.x / ENTROPY_ASKED) * (ENTROPY_ASKED * rows) +
                    (int)threadIdx.x * line;
#pragma unroll 1
    for (; number - mine < place.count; number += step) {
        /* Beyond the last row that one is read again, and counts no more. */
        const int64_t there = number < place.count ? number : place.count - 1;
        const int64_t next = number + step, now = chosen;
        row.x = x + there * place.rows.stride[0][0];
        row.load(entropy_job<false>::pad);
        if (turn-- == 0) {
            turn = ENTROPY_ASKED - 1;
            if (asked < place.count)
                prefetch_l2((const U *)job.target.data + job.target.place(asked));
        }
        asked += step;
        chosen = next < place.count ? job.target.at(next) : job.ignored;
        const float term = job.term(row, now);
        if (row.member == 0) state.sum += (double)term, state.count += now != job.ignored;
    }
    state = fold_group<way>(state, FOLD_THREADS);
    if (!fold_meet<way>(state, (int)blockIdx.x, (int)gridDim.x, rooms_of(workspace))) return;
    if (threadIdx.x == 0) method.finish(state, 0, loss, NULL);
}

/* Whether all rows of z are as entropy_sum takes them, of f32, and where they are. Others are summed in f64 too, in another
 * order. */
static bool entropy_sums(const fovea_view &z, row_place *place) {
    constexpr row_form form = entropy_job<false>::needs.form;
    constexpr int places = form.lanes * form.held;
    fovea_view rows = z, *all[] = {&rows};
    *place = {};
    rows.rank--;
    place->count = fovea_view_elements(&rows), place->columns = z.shape[rows.rank];
    if (place->count * place->columns < ENTROPY_MANY) return false;
    fovea_views_collapse(all, 1);
    place->rows.stride[0][0] = rows.stride[0];
    return z.dtype == FOVEA_F32 && place->columns % form.run == 0 && place->columns <= places &&
           place->columns > row_above(places) && rows.rank == 1 && rows.stride[0] % form.run == 0 &&
           z.stride[z.rank - 1] == 1 && is_aligned(z.data, 16);
}

static size_t entropy_workspace(const fovea_problem *problem, int threads) {
    (void)threads;
    size_t rows = (size_t)fovea_view_elements(&problem->views[FOVEA_LOSS_SECOND]);
    bool kept = fovea_loss_reduction(problem) == FOVEA_NO_REDUCTION;
    return FOLD_WORKSPACE + COUNT_BYTES + (kept ? 0 : rows * sizeof(float));
}

template <class U>
static fovea_status entropy_with(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *v = problem->views, &target = v[FOVEA_LOSS_SECOND];
    fovea_cross_entropy_rule rule = fovea_cross_entropy_read(problem);
    bool gradient = fovea_given(problem, FOVEA_LOSS_GRADIENT), mean = rule.reduction == FOVEA_MEAN;
    char *count = (char *)run->workspace + FOLD_WORKSPACE;
    fovea_view loss = v[FOVEA_LOSS_LOSS], total = loss, lines = target, *all[] = {&lines};
    const bool reduced = rule.reduction != FOVEA_NO_REDUCTION;
    bool one_launch = false;
    if (reduced) loss = dense_like(target, count + COUNT_BYTES, FOVEA_F32);
    fovea_view counted = total;
    counted.data = count, counted.rank = 0;
    if (mean && gradient) {
        fovea_status status = fold_run(target, NULL, counted, NULL, -1, run,
                                       entropy_method<U, false>{rule.ignored, false});
        if (status != FOVEA_OK) return status;
    }
    if (fovea_view_elements(&lines) > 0) fovea_views_collapse(all, 1);
    targets read = {target.data, strided_of<1>({&lines}), sizeof(U) == 8};
    float on = (float)rule.on, off = (float)rule.off;
    row_place place;
    if (reduced && !gradient && entropy_sums(v[0], &place)) {
        using way = entropy_method<U, true>;
        return launch(run, entropy_sum<U>, FOLD_DEVICE * ENTROPY_RESIDENT, FOLD_THREADS,
                      (const float *)v[0].data, (float *)total.data,
                      (typename way::state *)run->workspace, place,
                      entropy_job<false>{read, rule.ignored, on, off, NULL, NULL},
                      way{rule.ignored, mean});
    }
    const int64_t *divisor = mean ? (const int64_t *)count : NULL;
    fovea_status status = by_float(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        constexpr int size = 16 / sizeof(T);
        const fovea_view &x = v[0];
        const int64_t rows = fovea_view_elements(&target), columns = x.shape[x.rank - 1];
        if (!gradient && reduced && x.rank == 2 && x.stride[1] == 1 && rows > 0 &&
            rows <= ENTROPY_FEW && columns > 0 && columns <= 32 * size && columns % size == 0) {
            one_launch = true;
            const brief_place place = {{x.stride[0]}, (int)rows, (int)columns, 1 / (double)columns};
            const bool wide = is_aligned(x.data, 16) && x.stride[0] % size == 0;
            return launch(run,
                          wide ? entropy_few<T, U, size, true> : entropy_few<T, U, size, false>, 1,
                          rows * 32, (const T *)x.data, place,
                          entropy_job<false>{read, rule.ignored, on, off, NULL, divisor},
                          (float *)total.data, mean);
        }
        if (!gradient)
            return rows_last<T, T>(
                v[0], v[0], &loss, run,
                entropy_job<false>{read, rule.ignored, on, off, (float *)loss.data, divisor});
        return rows_last<T, T>(
            v[0], v[FOVEA_LOSS_GRADIENT], &loss, run,
            entropy_job<true>{read, rule.ignored, on, off, (float *)loss.data, divisor});
    });
    if (status != FOVEA_OK || !reduced || one_launch) return status;
    total.rank = 0;
    return fold_run(loss, &target, total, NULL, -1, run,
                    entropy_method<U, true>{rule.ignored, mean});
}

static fovea_status cross_entropy(const fovea_problem *problem, fovea_run *run) {
    if (problem->views[FOVEA_LOSS_SECOND].dtype == FOVEA_I64)
        return entropy_with<int64_t>(problem, run);
    return entropy_with<int32_t>(problem, run);
}

#define LOSS(name) CUDA_ROW(name, FOVEA_FLOATS, name, .workspace = fold_workspace)
#define ENTROPY(name) CUDA_ROW(name, FOVEA_FLOATS, cross_entropy, .workspace = entropy_workspace)

extern "C" const fovea_implementation fovea_cuda_table_loss[] = {
    LOSS(loss_mse),
    LOSS(loss_mae),
    LOSS(loss_huber),
    LOSS(loss_kl_div),
    LOSS(loss_bce),
    ENTROPY(loss_cross_entropy),
    ENTROPY(fused_softmax_cross_entropy),
    {}};
