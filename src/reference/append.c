/* kv_append: rotation in double, quantisation in the f32 arithmetic that the manual of `kv_append`
 * prescribes, so that codes and scales of keys that are not rotated are exact. */
#include "catalogue/append.h"

#include "catalogue/attention.h"
#include "catalogue/bounds.h"
#include "reference/reference.h"

#include <math.h>
#include <stdlib.h>

/* Row-major number of the first element that a view has at (outer, head, row). */
static int64_t element_number(const fovea_append_call *call, const fovea_view *view, int64_t outer,
                              int64_t head, int64_t row) {
    int64_t number = call->heads_inside ? (outer * view->shape[2] + row) * view->shape[1] + head
                                        : (outer * view->shape[1] + head) * view->shape[2] + row;
    return number * view->shape[3];
}

static double element(const fovea_view *view, int64_t outer, int64_t head, int64_t row, int64_t d) {
    const char *at = fovea_row(view, outer, head, row);
    return fovea_read_element(at + d * view->stride[3] * (int64_t)fovea_dtype_size(view->dtype),
                              view->dtype);
}

static double table_element(const fovea_view *table, int64_t row, int64_t column) {
    return fovea_view_read(table, row * table->shape[1] + column);
}

/* The partner of element d in its pair, and whether d is the first of the two. */
static int64_t partner(const fovea_append_call *call, int64_t d, int64_t size, int64_t *pair,
                       bool *first) {
    if (call->options->rope == FOVEA_KV_APPEND_ROPE_INTERLEAVED) {
        *pair = d / 2, *first = d % 2 == 0;
        return d ^ 1;
    }
    *pair = d % (size / 2), *first = d < size / 2;
    return *first ? d + size / 2 : d - size / 2;
}

/* A new row as it arrives in the cache, before quantisation. size: |a| + |b| of each element. */
static void new_row(const fovea_append_call *call, const fovea_append_side *side, int64_t b,
                    int64_t h, int64_t t, double *row, double *sizes) {
    double position = (double)(fovea_append_position(call, b, t) + call->options->offset);
    for (int64_t d = 0; d < side->size; d++) {
        double x = element(&side->from, b, h, t, d), cosine, sine;
        int64_t pair;
        bool first;
        row[d] = x, sizes[d] = 0;
        if (!side->rotated) continue;
        double y = element(&side->from, b, h, t, partner(call, d, side->size, &pair, &first));
        if (call->cos.data) {
            int64_t line = fovea_append_position(call, b, t);
            cosine = table_element(&call->cos, line, pair);
            sine = table_element(&call->sin, line, pair);
        } else {
            double angle =
                position * pow(call->options->base, -2.0 * (double)pair / (double)side->size);
            cosine = cos(angle), sine = sin(angle);
        }
        row[d] = first ? x * cosine - y * sine : x * cosine + y * sine;
        sizes[d] = fabs(x) + fabs(y);
    }
}

static double largest_code(fovea_dtype dtype) { return dtype == FOVEA_I8 ? 127 : 448; }

static double code_of(fovea_dtype dtype, float x, float scale, bool absmax) {
    double limit = largest_code(dtype);
    if (absmax && (scale == 0 || !isfinite(scale))) return 0;
    float quotient = x / scale;
    if (isnan(quotient)) return dtype == FOVEA_I8 ? 0 : NAN;
    return fovea_round_to(dtype, fmin(fmax((double)quotient, -limit), limit));
}

static void quantise(const fovea_append_call *call, const fovea_append_side *side, int64_t outer,
                     int64_t head, int64_t place, double *row, double *scales) {
    bool absmax = call->options->scaling == FOVEA_KV_APPEND_SCALING_ABSMAX;
    for (int64_t first = 0; first < side->size; first += side->group) {
        float largest = 0, scale = 1;
        for (int64_t d = first; d < first + side->group; d++) {
            float size = fabsf((float)row[d]);
            if (isnan(size) || size > largest) largest = size;
            if (isnan(largest)) break;
        }
        if (absmax)
            scale = largest / (float)largest_code(side->cache.dtype);
        else if (side->scale.data)
            scale = (float)element(&side->scale, outer, head, place, first / side->group);
        if (absmax)
            scales[element_number(call, &side->scale, outer, head, place) + first / side->group] =
                (double)scale;
        for (int64_t d = first; d < first + side->group; d++)
            row[d] = code_of(side->cache.dtype, (float)row[d], scale, absmax);
    }
}

static bool is_quantised(const fovea_append_side *side) {
    return side->cache.dtype == FOVEA_I8 || side->cache.dtype == FOVEA_E4M3;
}

static void append_row(const fovea_append_call *call, const fovea_append_side *side, int64_t b,
                       int64_t h, int64_t t, double *const outputs[], double *row, double *sizes) {
    int64_t outer, place, position = fovea_append_position(call, b, t);
    if (position < 0) return;
    fovea_append_place(call, b, position, &outer, &place);
    new_row(call, side, b, h, t, row, sizes);
    if (is_quantised(side))
        quantise(call, side, outer, h, place, row, outputs[side->scale_argument]);
    double *to =
        outputs[side->cache_argument] + element_number(call, &side->cache, outer, h, place);
    for (int64_t d = 0; d < side->size; d++) to[d] = row[d];
}

bool fovea_reference_append(const fovea_problem *problem, double *const outputs[]) {
    fovea_append_call call;
    fovea_append_describe(problem, &call);
    int64_t size = call.k.size > call.v.size ? call.k.size : call.v.size;
    double *row = malloc(2 * ((size_t)size + 1) * sizeof *row);
    if (!row) return false;
    for (int a = FOVEA_APPEND_K_CACHE; a <= FOVEA_APPEND_V_SCALE; a++)
        if (outputs[a]) fovea_view_read_all(&problem->views[a], outputs[a]);
    for (int64_t b = 0; b < call.batch; b++)
        for (int64_t h = 0; h < call.heads; h++)
            for (int64_t t = 0; t < call.tokens; t++) {
                append_row(&call, &call.k, b, h, t, outputs, row, row + size);
                append_row(&call, &call.v, b, h, t, outputs, row, row + size);
            }
    free(row);
    return true;
}

/* Only rotated rows may differ: by the rotation's rounding and that of the cache, a step of codes
 * or what the largest element of a group passes on to its scale. */
static void bound_row(const fovea_append_call *call, const fovea_append_side *side, int64_t b,
                      int64_t h, int64_t t, int output, const double *expected, double *bound,
                      double *row, double *sizes) {
    int64_t outer, place, position = fovea_append_position(call, b, t);
    double epsilon = fovea_epsilon(FOVEA_F32);
    if (position < 0) return;
    fovea_append_place(call, b, position, &outer, &place);
    new_row(call, side, b, h, t, row, sizes);
    int64_t cache = element_number(call, &side->cache, outer, h, place);
    for (int64_t d = 0; d < side->size && output == side->cache_argument; d++) {
        fovea_dtype dtype = side->cache.dtype;
        double ulp = fovea_ulp(dtype, expected[cache + d]);
        bound[cache + d] = dtype == FOVEA_I8     ? 1
                           : dtype == FOVEA_E4M3 ? ulp
                           : dtype == FOVEA_F32  ? 4 * epsilon * sizes[d]
                                                 : 4 * epsilon * sizes[d] + 0.5 * ulp;
    }
    if (output != side->scale_argument || !side->scale.data) return;
    int64_t scales = element_number(call, &side->scale, outer, h, place);
    for (int64_t d = 0; d < side->size; d++) {
        double share = 4 * epsilon * sizes[d] / largest_code(side->cache.dtype);
        bound[scales + d / side->group] = fmax(
            bound[scales + d / side->group], share + epsilon * expected[scales + d / side->group]);
    }
}

void fovea_bound_append(const fovea_problem *problem, int output, const double *expected,
                        double *bound) {
    fovea_append_call call;
    fovea_append_describe(problem, &call);
    const fovea_append_side *side = &call.k;
    int64_t count = fovea_view_elements(&problem->views[output]);
    double *row = malloc(2 * ((size_t)side->size + 1) * sizeof *row);
    for (int64_t e = 0; e < count; e++) bound[e] = 0;
    bool ours = output == side->cache_argument || output == side->scale_argument;
    bool written =
        output == side->cache_argument || call.options->scaling == FOVEA_KV_APPEND_SCALING_ABSMAX;
    for (int64_t b = 0; row && ours && written && side->rotated && b < call.batch; b++)
        for (int64_t h = 0; h < call.heads; h++)
            for (int64_t t = 0; t < call.tokens; t++)
                bound_row(&call, side, b, h, t, output, expected, bound, row, row + side->size);
    free(row);
}
