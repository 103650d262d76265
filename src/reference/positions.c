/* Rotary embedding and ALiBi, in double. */
#include "catalogue/network.h"
#include "reference/reference.h"

#include <math.h>
#include <stdlib.h>

typedef struct rotation {
    double cos, sin;
} rotation;

/* Of pair j of row p; from the tables if they are given. */
static rotation find_rotation(const fovea_problem *problem, int64_t pairs, int64_t p, int64_t j) {
    int table = fovea_kernel_argument(problem->kernel, "cos");
    if (problem->kernel->arguments[table].role == FOVEA_INPUT && fovea_given(problem, table)) {
        int64_t i = p * pairs + j;
        return (rotation){fovea_view_read(&problem->views[table], i),
                          fovea_view_read(&problem->views[table + 1], i)};
    }
    double position = (double)p + fovea_problem_parameter(problem, "offset");
    double base = fovea_problem_parameter(problem, "base");
    double angle = position * pow(base, -(double)j / (double)pairs);
    return (rotation){cos(angle), sin(angle)};
}

/* Element i of x [..., S, D], rotated. */
static double rotated(const fovea_problem *problem, const fovea_view *x, int64_t i) {
    int64_t rows = fovea_problem_extent(problem, "S"), size = fovea_problem_extent(problem, "D");
    bool interleaved = fovea_problem_parameter(problem, "pairing") != 0;
    fovea_rope_place place = fovea_rope_find(interleaved, size, i % size);
    rotation r = find_rotation(problem, size / 2, i / size % rows, place.pair);
    double own = fovea_view_read(x, i), other = fovea_view_read(x, i - i % size + place.partner);
    return place.first ? own * r.cos - other * r.sin : other * r.sin + own * r.cos;
}

static bool rope_apply(const fovea_problem *problem, double *const outputs[]) {
    int64_t count = fovea_view_elements(&problem->views[0]);
    for (int64_t i = 0; i < count; i++) outputs[1][i] = rotated(problem, &problem->views[0], i);
    return true;
}

static bool rope_precompute(const fovea_problem *problem, double *const outputs[]) {
    int64_t pairs = fovea_problem_extent(problem, "P");
    int64_t count = fovea_view_elements(&problem->views[0]);
    for (int64_t i = 0; i < count; i++) {
        rotation r = find_rotation(problem, pairs, i / pairs, i % pairs);
        outputs[0][i] = r.cos, outputs[1][i] = r.sin;
    }
    return true;
}

static bool alibi_bias(const fovea_problem *problem, double *const outputs[]) {
    int64_t heads = fovea_problem_extent(problem, "H"), keys = fovea_problem_extent(problem, "Sk");
    int64_t queries = fovea_problem_extent(problem, "Sq");
    const fovea_view *scores = &problem->views[0], *slopes = fovea_problem_view(problem, "slopes");
    double offset = fovea_problem_parameter(problem, "offset");
    int64_t count = fovea_view_elements(scores);
    for (int64_t i = 0; i < count; i++) {
        int64_t head = i / (keys * queries) % heads;
        double slope = slopes ? fovea_view_read(slopes, head)
                              : exp2(-8.0 * (double)(head + 1) / (double)heads);
        double distance = (double)(i % keys) - ((double)(i / keys % queries) + offset);
        outputs[0][i] = fovea_view_read(scores, i) + slope * distance;
    }
    return true;
}

static bool fused_rope_attention_mask(const fovea_problem *problem, double *const outputs[]) {
    int64_t rows = fovea_problem_extent(problem, "S"), size = fovea_problem_extent(problem, "D");
    int64_t elements = fovea_view_elements(&problem->views[0]);
    int64_t count = fovea_view_elements(&problem->views[2]);
    double *q = malloc((size_t)(2 * elements + 1) * sizeof *q), *k = q + elements;
    if (!q) return false;
    for (int64_t i = 0; i < elements; i++) {
        q[i] = rotated(problem, &problem->views[0], i);
        k[i] = rotated(problem, &problem->views[1], i);
    }
    for (int64_t i = 0; i < count; i++) {
        int64_t batch = i / (rows * rows) * rows, query = i / rows % rows, key = i % rows;
        double sum = 0;
        for (int64_t d = 0; d < size; d++)
            sum += q[(batch + query) * size + d] * k[(batch + key) * size + d];
        outputs[2][i] = key > query ? -INFINITY : size > 0 ? sum / sqrt((double)size) : 0;
    }
    free(q);
    return true;
}

const fovea_reference fovea_references_positions[] = {
    {"rope_apply", rope_apply},
    {"rope_precompute", rope_precompute},
    {"alibi_bias", alibi_bias},
    {"fused_rope_attention_mask", fused_rope_attention_mask},
    {0}};
