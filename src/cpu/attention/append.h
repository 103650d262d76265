/* kv_append: rows of new keys and values into a cache. A piece of work is one token of one sequence;
 * its angles are found once for all heads. A row passes through floats in L1: widened, rotated,
 * quantised or narrowed, stored. */
#ifndef FOVEA_CPU_ATTENTION_APPEND_H
#define FOVEA_CPU_ATTENTION_APPEND_H

#include "catalogue/append.h"
#include "cpu/angles.h"
#include "cpu/attention/attention_rows.h"
#include "cpu/threads.h"

#include <math.h>

typedef struct append_task {
    fovea_append_call call;
    const double *frequencies; /* turns a position, of each pair */
    char *scratch;             /* of each thread: a row, its rotation, cosines, sines */
    int64_t scratch_floats, pairs;
} append_task;

static void append_angles(const append_task *task, int64_t position, float *cosines, float *sines) {
    const fovea_append_call *call = &task->call;
    if (!call->cos.data) {
        double place = (double)(position + call->options->offset);
        angles_at(task->frequencies, place, task->pairs, cosines, sines);
        return;
    }
    for (int64_t j = 0; j < task->pairs; j++) {
        const fovea_view *c = &call->cos, *s = &call->sin;
        memcpy(cosines + j, c->data + (position * c->stride[0] + j * c->stride[1]) * 4, 4);
        memcpy(sines + j, s->data + (position * s->stride[0] + j * s->stride[1]) * 4, 4);
    }
}

/* The largest magnitude; NaN if there is one. */
static float append_largest(const float *x, int64_t count) {
    vf largest = vf_set1(0), unordered = vf_set1(0);
    for (int64_t i = 0; i < count; i += VF_WIDTH) {
        vf size = vf_abs(vf_load_n(x + i, (size_t)smaller(count - i, VF_WIDTH)));
        largest = vf_max(size, largest);
        unordered = vf_select(vf_unordered(size, size), size, unordered);
    }
    float lanes[VF_WIDTH];
    vf_store(lanes, unordered);
    for (int i = 0; i < VF_WIDTH; i++)
        if (isnan(lanes[i])) return lanes[i];
    return vf_reduce_max(largest);
}

static uint8_t append_i8(float x) { return isnan(x) ? 0 : (uint8_t)(int8_t)rintf(x); }

/* The nearest e4m3 of |x| <= 448, ties to even: below 2^-6 in steps of 2^-9, else by the bits. */
static uint8_t append_e4m3(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint8_t sign = (uint8_t)(bits >> 24 & 0x80);
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) return sign | 0x7f;
    if (bits < 0x3c800000) return sign | (uint8_t)rintf(fabsf(x) * 0x1p9f);
    bits += 0x7ffff + (bits >> 20 & 1);
    return (uint8_t)(sign | ((bits >> 20) - (120 << 3)));
}

/* Codes of a group, beside one another in `codes`. */
static void append_codes(fovea_dtype dtype, const float *x, int64_t count, float scale,
                         uint8_t *codes) {
    vf limit = vf_set1(dtype == FOVEA_I8 ? 127.0f : 448.0f), factor = vf_set1(scale);
    for (int64_t i = 0; i < count; i += VF_WIDTH) {
        float lanes[VF_WIDTH];
        int64_t n = smaller(count - i, VF_WIDTH);
        vf quotient = vf_div(vf_load_n(x + i, (size_t)n), factor);
        vf_store(lanes, vf_min(limit, vf_max(vf_neg(limit), quotient))); /* lets NaN through */
        for (int64_t l = 0; l < n; l++)
            codes[i + l] = dtype == FOVEA_I8 ? append_i8(lanes[l]) : append_e4m3(lanes[l]);
    }
}

static void append_quantise(const append_task *task, const fovea_append_side *side, int64_t outer,
                            int64_t head, int64_t place, const float *x, uint8_t *codes) {
    bool absmax = task->call.options->scaling == FOVEA_KV_APPEND_SCALING_ABSMAX;
    char *scales = side->scale.data ? fovea_row(&side->scale, outer, head, place) : NULL;
    float largest_code = side->cache.dtype == FOVEA_I8 ? 127.0f : 448.0f;
    for (int64_t first = 0; first < side->size; first += side->group) {
        char *at = scales ? scales + first / side->group * side->scale.stride[3] * 4 : NULL;
        float scale = 1;
        if (absmax) {
            scale = append_largest(x + first, side->group) / largest_code;
            memcpy(at, &scale, sizeof scale);
        } else if (at) {
            memcpy(&scale, at, sizeof scale);
        }
        if (absmax && (scale == 0 || !isfinite(scale)))
            memset(codes + first, 0, (size_t)side->group);
        else
            append_codes(side->cache.dtype, x + first, side->group, scale, codes + first);
    }
}

static void append_row(const append_task *task, const fovea_append_side *side, int64_t b, int64_t h,
                       int64_t t, int64_t outer, int64_t place, float *scratch) {
    const fovea_append_call *call = &task->call;
    float *x = scratch, *y = x + task->scratch_floats / 4;
    const float *cosines = y + task->scratch_floats / 4;
    const float *sines = cosines + task->scratch_floats / 4;
    char *to = fovea_row(&side->cache, outer, h, place);
    convert_row(fovea_row(&side->from, b, h, t), side->from.dtype, side->from.stride[3], side->size,
                x);
    if (side->rotated) {
        if (call->options->rope == FOVEA_KV_APPEND_ROPE_HALF)
            angles_rotate_half(FOVEA_F32, x, cosines, sines, task->pairs, y);
        else
            angles_rotate_interleaved(x, cosines, sines, task->pairs, y);
    }
    float *row = side->rotated ? y : x;
    int64_t step = side->cache.stride[3];
    if (fovea_dtype_size(side->cache.dtype) > 1) {
        for (int64_t d = 0; d < side->size; d += VF_WIDTH) {
            int64_t n = smaller(side->size - d, VF_WIDTH);
            store_elements(to, side->cache.dtype, step, d, vf_load_n(row + d, (size_t)n), n);
        }
        return;
    }
    uint8_t *codes = (uint8_t *)(side->rotated ? x : y);
    append_quantise(task, side, outer, h, place, row, codes);
    for (int64_t d = 0; d < side->size; d++) to[d * step] = (char)codes[d];
}

static void append_tokens(const void *argument, int64_t begin, int64_t end, int thread) {
    const append_task *task = argument;
    const fovea_append_call *call = &task->call;
    float *scratch = (float *)(void *)task->scratch + thread * task->scratch_floats;
    float *cosines = scratch + task->scratch_floats / 2;
    for (int64_t i = begin; i < end; i++) {
        int64_t b = i / call->tokens, t = i % call->tokens, outer, place;
        int64_t position = fovea_append_position(call, b, t);
        if (position < 0) continue;
        fovea_append_place(call, b, position, &outer, &place);
        if (call->k.rotated)
            append_angles(task, position, cosines, cosines + task->scratch_floats / 4);
        for (int64_t h = 0; h < call->heads; h++) {
            append_row(task, &call->k, b, h, t, outer, place, scratch);
            append_row(task, &call->v, b, h, t, outer, place, scratch);
        }
    }
}

static int64_t append_scratch_floats(const fovea_append_call *call) {
    return 4 * divide_up(larger(call->k.size, call->v.size) + 16, 16) * 16;
}

static size_t append_frequency_bytes(const fovea_append_call *call) {
    return (size_t)divide_up(call->k.size / 2 * 8, 64) * 64;
}

static size_t append_workspace(const fovea_problem *problem, int threads) {
    fovea_append_call call;
    fovea_append_describe(problem, &call);
    return append_frequency_bytes(&call) + (size_t)(append_scratch_floats(&call) * threads) * 4;
}

static fovea_status append_run(const fovea_problem *problem, fovea_run *run) {
    append_task task;
    fovea_append_describe(problem, &task.call);
    const fovea_append_call *call = &task.call;
    double *frequencies = run->workspace;
    task.pairs = call->k.size / 2;
    if (call->k.rotated && !call->cos.data)
        angles_frequencies(call->options->base, task.pairs, frequencies);
    task.frequencies = frequencies;
    task.scratch = (char *)run->workspace + append_frequency_bytes(call);
    task.scratch_floats = append_scratch_floats(call);
    int64_t tokens = call->batch * call->tokens;
    double bytes = fovea_problem_bytes(problem);
    run->threads =
        fovea_useful_threads(tokens, bytes < 0x1p62 ? (int64_t)bytes : INT64_MAX, run->threads);
    fovea_share(tokens, run->threads, append_tokens, &task);
    return FOVEA_OK;
}

#endif
