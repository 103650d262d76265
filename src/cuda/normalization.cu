/* Domain 5, normalization, and 110, which extends layer_norm. The variance is that of centred elements, in
 * a second pass over registers: sums of squares lose it where the data have an offset. */
#include "cuda/fold.cuh"
#include "cuda/map.cuh"
#include "cuda/network.cuh"
#include "cuda/philox.cuh"
#include "cuda/rows.cuh"

#include <stdio.h>

/* `n` elements of a lane, `apart` from one another, or `step` where that is 0. */
template <class T, int n, int apart>
struct aimed_weights {
    const void *first;
    int64_t step;
    int valid; /* how many are read; the others are `otherwise` */
    bool wide; /* f32 */
    float otherwise;

    /* plain: in vectors of T. */
    template <bool plain>
    __device__ __forceinline__ void load(float (&to)[n]) const {
#pragma unroll
        for (int j = 0; j < n; j++) to[j] = otherwise;
        if constexpr (plain) {
            if (valid > 0) {
                const auto loaded = *(const pack<T, n> *)first;
#pragma unroll
                for (int j = 0; j < n; j++) to[j] = widen(loaded.at[j]);
            }
        } else {
#pragma unroll
            for (int j = 0; j < n; j++)
                if (j < valid)
                    to[j] = std::is_same<T, float>::value || wide
                                ? ((const float *)first)[j * (apart ? apart : step)]
                                : widen(((const T *)first)[j * (apart ? apart : step)]);
        }
    }
};

/* gamma or beta, of f32 or of the dtype of the call; a residual too: a source of rows.cuh. Where a row is a
 * group of channels with `inner` elements each, there is one for each channel. */
template <class T>
struct weights {
    const void *data; /* NULL: none */
    int64_t step;
    bool wide, packed; /* f32; 16 bytes at a time, of places that divide */
    float otherwise;
    int inner;
    int64_t base; /* of the row */

    static constexpr bool one_type = std::is_same<T, float>::value;

    __device__ __forceinline__ float at(int64_t i) const {
        if (!data) return otherwise;
        int64_t place = base + i * step;
        return one_type || wide ? ((const float *)data)[place] : widen(((const T *)data)[place]);
    }
    __device__ __forceinline__ weights from(int64_t first) const {
        weights row = *this;
        row.base = first;
        return row;
    }
    template <class W, int m, int n, class I>
    __device__ __forceinline__ void gather_as(const I (&column)[m], I limit,
                                              float (&to)[m][n]) const {
        const W *first = (const W *)data + base;
        pack<W, n> loaded[m];
        if (n > 1 && packed) {
#pragma unroll
            for (int i = 0; i < m; i++) {
                loaded[i] = {};
                if (column[i] < limit) loaded[i] = *(const pack<W, n> *)(first + column[i]);
            }
        } else if (step == 1 && inner == 1) {
#pragma unroll
            for (int i = 0; i < m; i++)
#pragma unroll
                for (int j = 0; j < n; j++)
                    loaded[i].at[j] = column[i] < limit ? first[column[i] + j] : W(0);
        } else if (n > 1 && (unsigned)inner % n == 0) { /* all of one channel */
#pragma unroll
            for (int i = 0; i < m; i++) {
                const int64_t c = (unsigned)column[i] / (unsigned)inner;
                const W one = column[i] < limit ? first[c * step] : W(0);
#pragma unroll
                for (int j = 0; j < n; j++) loaded[i].at[j] = one;
            }
        } else {
#pragma unroll
            for (int i = 0; i < m; i++)
#pragma unroll
                for (int j = 0; j < n; j++) {
                    int64_t c = column[i] + j;
                    if (inner > 1) c = (unsigned)c / (unsigned)inner;
                    loaded[i].at[j] = column[i] < limit ? first[c * step] : W(0);
                }
        }
#pragma unroll
        for (int i = 0; i < m; i++)
#pragma unroll
            for (int j = 0; j < n; j++) to[i][j] = widen(loaded[i].at[j]);
    }
    __host__ __device__ __forceinline__ bool plain(T) const {
        return data && packed && wide == one_type;
    }
    bool fits() const { return !data || plain(T()); }
    bool together(int elements) const { return !data || inner == 1 || inner % elements == 0; }
    /* Of together(n). */
    template <int n>
    __device__ __forceinline__ aimed_weights<T, n, 0> aim(int column, bool inside) const {
        const int channel = inner > 1 ? (int)((unsigned)column / (unsigned)inner) : column;
        return aimed<n, 0>(base + channel * step, inner > 1 ? 0 : step, inside ? n : 0);
    }
    /* Of adjacent(). */
    template <int n, int apart>
    __device__ __forceinline__ aimed_weights<T, n, apart> aim_apart(int column, int valid) const {
        return aimed<n, apart>(base + column, 0, valid);
    }
    bool adjacent() const { return !data || (step == 1 && inner == 1); }
    template <int n, int apart>
    __device__ __forceinline__ aimed_weights<T, n, apart> aimed(int64_t place, int64_t from_one,
                                                                int valid) const {
        const void *at =
            (const char *)data + place * (int64_t)(one_type || wide ? sizeof(float) : sizeof(T));
        return {settled_global(at), from_one, data ? valid : 0, wide, data ? 0 : otherwise};
    }
    /* Whether that depends on its address alone. */
    bool dense() const { return data && step == 1 && inner == 1 && wide == one_type; }
    /* Of dense(). */
    template <class W>
    __device__ __forceinline__ const W *place(int column) const {
        return (const W *)data + base + column;
    }
    template <bool plain, int m, int n, class I>
    __device__ __forceinline__ void gather(const I (&column)[m], I limit, float (&to)[m][n]) const {
        if constexpr (plain) {
            pack<T, n> loaded[m];
#pragma unroll
            for (int i = 0; i < m; i++) {
                loaded[i] = {};
                if (column[i] < limit)
                    loaded[i] = *(const pack<T, n> *)((const T *)data + base + column[i]);
            }
#pragma unroll
            for (int i = 0; i < m; i++)
#pragma unroll
                for (int j = 0; j < n; j++) to[i][j] = widen(loaded[i].at[j]);
        } else if (!data) {
#pragma unroll
            for (int i = 0; i < m; i++)
#pragma unroll
                for (int j = 0; j < n; j++) to[i][j] = otherwise;
        } else if (one_type || wide) {
            gather_as<float>(column, limit, to);
        } else {
            gather_as<T>(column, limit, to);
        }
    }
};

template <class T>
static weights<T> weights_of(const fovea_problem *problem, int argument, float otherwise,
                             int inner = 1) {
    if (!fovea_given(problem, argument)) return {NULL, 0, true, false, otherwise, 1, 0};
    const fovea_view *view = &problem->views[argument];
    int64_t step = view->stride[view->rank - 1];
    bool packed = step == 1 && inner == 1 && is_aligned(view->data, 32);
    return {view->data, step, view->dtype == FOVEA_F32, packed, otherwise, inner, 0};
}

/* x = scale factor x + offset. */
template <int n>
static __device__ __forceinline__ void
scale_and_shift(float (&x)[n], float factor, const float (&scale)[n], const float (&offset)[n]) {
#pragma unroll
    for (int j = 0; j < n; j++) x[j] = fmaf(scale[j], x[j] * factor, offset[j]);
}

/* 1 / sqrt(x + eps). All that f32 has room for is done there: in f64 it takes as long as a barrier. */
static __device__ __forceinline__ float inverse_root(float x, double eps) {
    const float sum = x + (float)eps;
    if (sum > 0x1p-100f && sum < 0x1p100f) return quick_inverse_root(sum);
    return (float)(1 / sqrt((double)x + eps));
}

/* Mean of a row and 1 / sqrt(var + eps); the elements become differences from the mean. */
template <class Row>
static __device__ __forceinline__ float centre(Row &row, double eps, float *mean) {
    const float count = (float)row.columns;
    if constexpr (Row::at_once) {
        const float found = row.moments(mean), middle = *mean;
        row.replace([=](float x) { return x - middle; });
        return inverse_root(row.variance(found), eps);
    } else {
        const float middle = row.sum([](float x) { return x; }) / count;
        *mean = middle;
        return inverse_root(
            sum_derived(
                row, [=](float x) { return x - middle; }, [](float d) { return d * d; }) /
                count,
            eps);
    }
}

template <class T>
struct layer_norm_job {
    static constexpr float pad = 0;
    static constexpr row_needs needs = {64,    80,  true, true, true, {32, 1, 10, 10},
                                        false, true}; /* groups of 305 */
    static constexpr int sources = 2;
    weights<T> gamma, beta;
    int groups; /* rows of a sample, each with weights of its own; 0: all rows have the same */
    int64_t channels;
    double eps;

    bool carries() const { return gamma.dense() && beta.dense(); }
    bool streams() const { return carries() && groups == 0; }
    bool plain() const { return gamma.plain(T()) && beta.plain(T()); }
    bool fits() const { return gamma.fits() && beta.fits(); }
    bool dense() const { return gamma.adjacent() && beta.adjacent(); }
    bool together(int n) const { return gamma.together(n) && beta.together(n); }
    template <class Row, class O>
    __device__ __forceinline__ void operator()(Row &row, O *y, int64_t, int64_t number) const {
        float mean;
        const int64_t first = groups > 0 ? (unsigned)number % (unsigned)groups * channels : 0;
        const auto asked =
            row_ask(row, gamma.from(first * gamma.step), beta.from(first * beta.step));
        const float factor = centre(row, eps, &mean);
        row_store(
            row, y, [=](float x) { return x - mean; },
            [=](auto &d, int64_t, const auto &scale, const auto &offset) {
                scale_and_shift(d, factor, scale, offset);
            },
            asked);
    }
};

template <class T>
struct rms_norm_job {
    static constexpr float pad = 0;
    static constexpr row_needs needs = {80, 64, true, false, true, {}, true};
    weights<T> gamma;
    double eps;

    bool carries() const { return gamma.dense(); }
    bool plain() const { return gamma.plain(T()); }
    bool fits() const { return gamma.fits(); }
    bool dense() const { return gamma.adjacent(); }
    template <class Row, class O>
    __device__ __forceinline__ void operator()(Row &row, O *y, int64_t, int64_t) const {
        const auto asked = row_ask(row, gamma);
        float square = row.sum([](float x) { return x * x; }) / (float)row.columns;
        const float factor = inverse_root(square, eps);
        row_store(
            row, y, [](float x) { return x; },
            [=](auto &x, int64_t, const auto &weight) { scale(x, factor, weight); }, asked);
    }
    template <int n>
    static __device__ __forceinline__ void scale(float (&x)[n], float factor,
                                                 const float (&weight)[n]) {
#pragma unroll
        for (int j = 0; j < n; j++) x[j] = x[j] * factor * weight[j];
    }
};

static fovea_status layer_norm(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_layer_norm_options *)problem->options;
    return by_float(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        layer_norm_job<T> job = {weights_of<T>(problem, 2, 1), weights_of<T>(problem, 3, 0), 0, 0,
                                 o->eps};
        return rows_last<T, T>(problem->views[0], problem->views[1], NULL, run, job);
    });
}

static fovea_status rms_norm(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_rms_norm_options *)problem->options;
    return by_float(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        return rows_last<T, T>(problem->views[0], problem->views[1], NULL, run,
                               rms_norm_job<T>{weights_of<T>(problem, 2, 1), o->eps});
    });
}

/* ---- Groups --------------------------------------------------------------------------------- */

/* Dimensions [begin, end) of a view. */
static fovea_view part_of(const fovea_view &view, int begin, int end) {
    fovea_view part = view;
    part.rank = end - begin;
    for (int i = begin; i < end; i++) {
        part.shape[i - begin] = view.shape[i];
        part.stride[i - begin] = view.stride[i];
    }
    return part;
}

/* [B, groups] and [channels of a group, T...] of [B, C, T...]. */
static void split_groups(const fovea_view &x, int64_t groups, fovea_view *rows,
                         fovea_view *elements) {
    int64_t channels = x.shape[1] / groups;
    *rows = part_of(x, 0, 2);
    rows->shape[1] = groups, rows->stride[1] = x.stride[1] * channels;
    *elements = part_of(x, 1, x.rank);
    elements->shape[0] = channels;
}

static bool group_norm_serves(const fovea_problem *problem, char *reason, size_t size) {
    if (fovea_norm_describe(problem).size < INT32_MAX) return true;
    snprintf(reason, size, "a group has 2^31 elements or more");
    return false;
}

static fovea_status group_norm(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_group_norm_options *)problem->options;
    fovea_norm_sets sets = fovea_norm_describe(problem);
    fovea_view rows[3], elements[2];
    for (int t = 0; t < 2; t++) split_groups(problem->views[t], o->groups, &rows[t], &elements[t]);
    rows[2] = rows[0];
    return by_float(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        int inner = (int)sets.inner;
        layer_norm_job<T> job = {weights_of<T>(problem, 2, 1, inner),
                                 weights_of<T>(problem, 3, 0, inner), (int)o->groups, sets.group,
                                 o->eps};
        return rows_views<T, T>(rows, elements, run, job);
    });
}

/* ---- Dropout and residual ------------------------------------------------------------------- */

template <class T>
struct dropout_job {
    static constexpr float pad = 0;
    static constexpr row_needs needs = {96, 0, false, false, false};
    weights<T> gamma, beta, residual;
    double eps;
    const uint8_t *mask; /* NULL: drawn */
    uint8_t *kept;       /* NULL: not asked for */
    strided<3> rows;     /* of residual, mask and kept */
    int64_t step_mask, step_kept;
    philox_key key;
    unsigned limit; /* of a word of 24 bits that is kept */
    float factor;   /* 1 / keep */

    bool fits() const { return gamma.fits() && beta.fits() && residual.fits(); }
    bool dense() const { return gamma.adjacent() && beta.adjacent() && residual.adjacent(); }

    /* Where there are several elements side by side, they are so in the generator's blocks too. */
    template <int n>
    __device__ __forceinline__ void draw(int64_t element, bool (&keeps)[n]) const {
        if constexpr (n == 1) {
            keeps[0] = philox<1>(key, element >> 2).at(element & 3) >> 8 < limit;
        } else {
#pragma unroll
            for (int j = 0; j < n; j += 4) {
                philox_words words = philox(key, (element + j) >> 2);
#pragma unroll
                for (int i = 0; i < 4; i++) keeps[j + i] = words.word[i] >> 8 < limit;
            }
        }
    }
    template <int n>
    __device__ __forceinline__ void finish(float (&d)[n], float scale, const int64_t (&at)[3],
                                           int64_t first, int64_t c, const unsigned *drawn,
                                           const float (&weight)[n], const float (&offset)[n],
                                           const float (&rest)[n]) const {
        bool keeps[n];
        if (mask) {
#pragma unroll
            for (int j = 0; j < n; j++) keeps[j] = mask[at[1] + (c + j) * step_mask] != 0;
        } else if (drawn) {
#pragma unroll
            for (int j = 0; j < n; j++) keeps[j] = *drawn >> j & 1;
        } else {
            draw(first + c, keeps);
        }
        scale_and_shift(d, scale, weight, offset);
#pragma unroll
        for (int j = 0; j < n; j++) {
            if (kept) kept[at[2] + (c + j) * step_kept] = keeps[j];
            d[j] = keeps[j] ? fmaf(d[j], factor, rest[j]) : rest[j];
        }
    }
    template <class Row, class O>
    __device__ __forceinline__ void operator()(Row &row, O *y, int64_t, int64_t number) const {
        float mean;
        const int64_t first = number * (int64_t)row.columns;
        int64_t at[3];
        rows.offsets(number, at);
        unsigned drawn = 0; /* bits of the elements of a brief row's lane, before it waits */
        if constexpr (Row::brief) {
            bool keeps[sizeof row.values / sizeof(float)];
            if (!mask) draw(first + row.first, keeps);
#pragma unroll
            for (unsigned j = 0; !mask && j < sizeof keeps; j++) drawn |= (unsigned)keeps[j] << j;
            settle(drawn);
        }
        const auto asked = row_ask(row, gamma, beta, residual.from(at[0]));
        const float scale = centre(row, eps, &mean);
        row_store(
            row, y, [=](float x) { return x - mean; },
            [&](auto &d, int64_t c, const auto &weight, const auto &offset, const auto &rest) {
                finish(d, scale, at, first, c, Row::brief ? &drawn : NULL, weight, offset, rest);
            },
            asked);
    }
};

enum { X, RESIDUAL, Y, GAMMA, BETA, MASK, KEPT };

static fovea_status fused_layernorm_dropout_residual(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_fused_layernorm_dropout_residual_options *)problem->options;
    int last = problem->views[X].rank - 1;
    float keep = (float)o->keep;
    bool masked = fovea_given(problem, MASK), tells = fovea_given(problem, KEPT);
    fovea_view residual = problem->views[RESIDUAL], mask = masked ? problem->views[MASK] : residual;
    fovea_view kept = tells ? problem->views[KEPT] : residual;
    int64_t steps[3] = {residual.stride[last], mask.stride[last], kept.stride[last]};
    bool packed = steps[0] == 1 && is_aligned(residual.data, 16);
    int64_t size = 16 / (int64_t)fovea_dtype_size(residual.dtype);
    for (int i = 0; i < last; i++) packed &= residual.stride[i] % size == 0;
    residual.rank = mask.rank = kept.rank = last;
    return by_float(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        dropout_job<T> job = {
            weights_of<T>(problem, GAMMA, 1),
            weights_of<T>(problem, BETA, 0),
            {residual.data, steps[0], residual.dtype == FOVEA_F32, packed, 0, 1, 0},
            o->eps,
            masked ? (const uint8_t *)mask.data : NULL,
            tells ? (uint8_t *)kept.data : NULL,
            strided_of<3>({&residual, &mask, &kept}),
            steps[1],
            steps[2],
            philox_key_of((uint64_t)o->seed, (uint64_t)o->stream),
            philox_limit(keep),
            1 / keep};
        return rows_last<T, T>(problem->views[X], problem->views[Y], NULL, run, job);
    });
}

/* ---- Channels ------------------------------------------------------------------------------- */

/* Mean and variance of a channel, in f32. */
struct channel_finish {
    using output = float;
    __device__ __forceinline__ void operator()(const joint_moments &m, float *mean,
                                               float *variance) const {
        *mean = (float)m.mean_x;
        *variance = (float)(m.xx / m.count);
    }
};

enum {
    CHANNEL_ROWS = 8,
    CHANNELS_MANY = 1 << 20, /* elements from which 16 bytes a thread pay */
    CHANNEL_THREADS = 128,
    CHANNEL_FEW = 16 /* rows of which a thread has all */
};

template <class T>
struct channel_job {
    const T *x;
    T *y;
    strided<3> where; /* of x, y and the channel */
    const float *mean, *variance;
    int64_t step_mean, step_variance;
    weights<T> gamma, beta;
    double eps;
};

template <class T>
static __device__ __forceinline__ void channel_weights(const channel_job<T> &job, int64_t channel,
                                                       float *mean, float *scale, float *offset) {
    *mean = job.mean[channel * job.step_mean];
    *scale =
        job.gamma.at(channel) * inverse_root(job.variance[channel * job.step_variance], job.eps);
    *offset = job.beta.at(channel);
}

/* Channels beside one another: a thread takes `size` of them, in CHANNEL_ROWS rows that lie alike: every `period`-th
 * begins as far from a multiple of 16 bytes. From the last row to the first, as the sums come from the first to the
 * last and leave those in the cache. */
template <class T, int size>
static __global__
__launch_bounds__(MAP_THREADS) void channels_columns(const __grid_constant__ channel_job<T> job,
                                                     int64_t rows, int64_t channels, int period,
                                                     int64_t blocks) {
    const unsigned number = gridDim.x - 1 - blockIdx.x;
    const unsigned group = number / (unsigned)blocks, place = number - group * (unsigned)blocks;
    const int64_t first = (int64_t)(group / period) * period * CHANNEL_ROWS + group % period;
    follow_stream();
    const int64_t step_x = job.where.stride[0][0], step_y = job.where.stride[1][0];
    const int64_t column = job.where.stride[0][1], column_y = job.where.stride[1][1];
    const T *x = job.x + first * step_x;
    T *y = job.y + first * step_y;
    /* Places begin before the first multiple: the ends of a row are taken one by one. */
    const int head = size > 1 ? (int)(-(uintptr_t)x % 16 / sizeof(T)) : 0;
    const int64_t c = ((int64_t)place * MAP_THREADS + threadIdx.x - 1) * size + head;
    float mean[size], scale[size], offset[size];
    if (c >= channels || c + size <= 0) return;
    const bool whole = c >= 0 && c + size <= channels;
#pragma unroll
    for (int j = 0; j < size; j++)
        if (whole || (c + j >= 0 && c + j < channels))
            channel_weights(job, c + j, &mean[j], &scale[j], &offset[j]);
    if (size > 1 && whole) {
        pack<T, size> values[CHANNEL_ROWS];
#pragma unroll
        for (int r = 0; r < CHANNEL_ROWS; r++)
            if (first + r * period < rows)
                values[r] = *(const pack<T, size> *)(x + r * period * step_x + c);
#pragma unroll
        for (int r = 0; r < CHANNEL_ROWS; r++) {
            if (first + r * period >= rows) break;
#pragma unroll
            for (int j = 0; j < size; j++)
                values[r].at[j] =
                    narrow<T>(fmaf(widen(values[r].at[j]) - mean[j], scale[j], offset[j]));
            *(pack<T, size> *)(y + r * period * step_y + c) = values[r];
        }
        return;
    }
#pragma unroll
    for (int j = 0; j < size; j++) {
        T values[CHANNEL_ROWS];
        if (c + j < 0 || c + j >= channels) continue;
#pragma unroll
        for (int r = 0; r < CHANNEL_ROWS; r++)
            if (first + r * period < rows) values[r] = x[r * period * step_x + (c + j) * column];
#pragma unroll
        for (int r = 0; r < CHANNEL_ROWS; r++)
            if (first + r * period < rows)
                y[r * period * step_y + (c + j) * column_y] =
                    narrow<T>(fmaf(widen(values[r]) - mean[j], scale[j], offset[j]));
    }
}

template <class T, int size>
static fovea_status columns_run(const channel_job<T> &job, int64_t rows, int64_t channels,
                                fovea_run *run) {
    int period = 1;
    while (period * job.where.stride[0][0] % size != 0) period *= 2;
    const int64_t blocks = blocks_for(channels / size + 2, MAP_THREADS);
    const int64_t groups = blocks_for(rows, (int64_t)period * CHANNEL_ROWS) * period;
    return launch(run, channels_columns<T, size>, blocks * groups, MAP_THREADS, job, rows, channels,
                  period, blocks);
}

/* Where the statistics of a call go; NULL: nowhere. */
struct channel_statistics {
    float *mean, *variance;
    int64_t step_mean, step_variance;

    __device__ __forceinline__ void store(int64_t channel, float m, float v) const {
        if (mean) mean[channel * step_mean] = m;
        if (variance) variance[channel * step_variance] = v;
    }
};

/* A thread has all rows of a channel, `most` of them; part: 1 / rows. */
template <class T, int most>
static __global__ __launch_bounds__(CHANNEL_THREADS) void channels_few(
    const __grid_constant__ channel_job<T> job,
    const __grid_constant__ channel_statistics statistics, int rows, int channels, float part) {
    const int c = (int)blockIdx.x * CHANNEL_THREADS + (int)threadIdx.x;
    const int64_t step_x = job.where.stride[0][0], step_y = job.where.stride[1][0];
    T kept[most];
    float sum = 0, square = 0;
    release_next();
    if (c >= channels) return;
    ready_parameters(job), ready_parameters(statistics);
    const T *x[most];
#pragma unroll
    for (int r = 0; r < most; r++) {
        x[r] = job.x + c + r * step_x;
        if (most <= CHANNEL_FEW / 4)
            x[r] = settled_global(x[r]); /* more would not find registers */
    }
    T *y = settled_global(job.y + c);
    const auto gamma_there = job.gamma.template aim<1>(c, true);
    const auto beta_there = job.beta.template aim<1>(c, true);
    float gammas[1], betas[1];
    await_stream();
#pragma unroll
    for (int r = 0; r < most; r++)
        if (r < rows) kept[r] = *x[r];
    gamma_there.template load<false>(gammas), beta_there.template load<false>(betas);
    const float gamma = gammas[0], beta = betas[0];
#pragma unroll
    for (int r = 0; r < most; r++)
        if (r < rows) sum += widen(kept[r]);
    const float mean = sum * part;
#pragma unroll
    for (int r = 0; r < most; r++)
        if (r < rows) square = fmaf(widen(kept[r]) - mean, widen(kept[r]) - mean, square);
    const float variance = square * part, scale = gamma * inverse_root(variance, job.eps);
#pragma unroll
    for (int r = 0; r < most; r++)
        if (r < rows) y[r * step_y] = narrow<T>(fmaf(widen(kept[r]) - mean, scale, beta));
    statistics.store(c, mean, variance);
}

/* Any order of elements. */
template <class T>
static __global__
__launch_bounds__(MAP_THREADS) void channels_apply(const __grid_constant__ channel_job<T> job,
                                                   int64_t count) {
    int64_t i = (int64_t)blockIdx.x * MAP_THREADS + threadIdx.x, at[3];
    float mean, scale, offset;
    follow_stream();
    if (i >= count) return;
    job.where.offsets(i, at);
    channel_weights(job, at[2], &mean, &scale, &offset);
    job.y[at[1]] = narrow<T>(fmaf(widen(job.x[at[0]]) - mean, scale, offset));
}

enum { MEAN = 4, VARIANCE = 5 };

static size_t batch_norm_workspace(const fovea_problem *problem, int threads) {
    (void)threads;
    return FOLD_WORKSPACE + 2 * sizeof(float) * (size_t)problem->views[0].shape[1];
}

/* Where a statistic of the channels is: as given, or in the workspace. */
static fovea_view statistic(const fovea_problem *problem, int argument, fovea_run *run, int place) {
    if (fovea_given(problem, argument)) return problem->views[argument];
    fovea_view view = {};
    int64_t channels = problem->views[0].shape[1];
    view.data = (char *)run->workspace + FOLD_WORKSPACE + place * channels * (int64_t)sizeof(float);
    view.dtype = FOVEA_F32, view.rank = 1;
    view.shape[0] = channels, view.stride[0] = 1;
    return view;
}

static fovea_status batch_norm(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_batch_norm_options *)problem->options;
    const fovea_view *x = &problem->views[0], *y = &problem->views[1];
    fovea_view mean = statistic(problem, MEAN, run, 0);
    fovea_view variance = statistic(problem, VARIANCE, run, 1), channel = *x;
    for (int i = 0; i < channel.rank; i++) channel.stride[i] = i == 1;
    return by_float(problem->dtype, [&](auto zero) {
        using T = decltype(zero);
        const int64_t count = fovea_view_elements(x);
        const bool training = o->statistics == FOVEA_BATCH_NORM_STATISTICS_TRAINING;
        fovea_view views[3] = {*x, *y, channel}, *all[] = {&views[0], &views[1], &views[2]};
        if (count > 0) fovea_views_collapse(all, 3);
        channel_job<T> job = {(const T *)x->data,
                              (T *)y->data,
                              strided_of<3>({&views[0], &views[1], &views[2]}),
                              (const float *)mean.data,
                              (const float *)variance.data,
                              mean.stride[0],
                              variance.stride[0],
                              weights_of<T>(problem, 2, 1),
                              weights_of<T>(problem, 3, 0),
                              o->eps};
        constexpr int size = 16 / sizeof(T);
        const bool beside =
            count > 0 && views[0].rank == 2 && views[2].stride[0] == 0 && views[2].stride[1] == 1;
        const bool dense = beside && views[0].stride[1] == 1 && views[1].stride[1] == 1;
        const int64_t rows = views[0].shape[0], channels = views[0].shape[1];
        if (training && dense && rows <= CHANNEL_FEW && channels <= INT32_MAX) {
            channel_statistics statistics = {fovea_given(problem, MEAN) ? (float *)mean.data : NULL,
                                             fovea_given(problem, VARIANCE) ? (float *)variance.data
                                                                            : NULL,
                                             mean.stride[0], variance.stride[0]};
            return launch(run,
                          rows <= CHANNEL_FEW / 4 ? channels_few<T, CHANNEL_FEW / 4>
                                                  : channels_few<T, CHANNEL_FEW>,
                          blocks_for(channels, CHANNEL_THREADS), CHANNEL_THREADS, job, statistics,
                          (int)rows, (int)channels, 1 / (float)rows);
        }
        if (training) {
            fovea_status status =
                fold_channels(*x, mean, variance, run, moments_method<T, false, channel_finish>{});
            if (status != FOVEA_OK) return status;
        }
        if (count == 0) return FOVEA_OK;
        if (beside) {
            const bool alike = dense && count >= CHANNELS_MANY &&
                               (views[0].stride[0] - views[1].stride[0]) % size == 0 &&
                               ((uintptr_t)job.x - (uintptr_t)job.y) % 16 == 0;
            if (alike) return columns_run<T, size>(job, rows, channels, run);
            return columns_run<T, 1>(job, rows, channels, run);
        }
        return launch(run, channels_apply<T>, blocks_for(count, MAP_THREADS), MAP_THREADS, job,
                      count);
    });
}

extern "C" const fovea_implementation fovea_cuda_table_normalization[] = {
    CUDA_ROW(layer_norm, FOVEA_FLOATS, layer_norm),
    CUDA_ROW(rms_norm, FOVEA_FLOATS, rms_norm),
    CUDA_ROW(group_norm, FOVEA_FLOATS, group_norm, .serves = group_norm_serves),
    CUDA_ROW(batch_norm, FOVEA_FLOATS, batch_norm, .workspace = batch_norm_workspace),
    CUDA_ROW(fused_layernorm_dropout_residual, FOVEA_FLOATS, fused_layernorm_dropout_residual),
    {}};
