/* Domain 14, prng, exactly; normals in double. */
#include "catalogue/case.h"
#include "reference/reference.h"

#include <math.h>

/* Word i of a stream. */
static uint32_t word(int64_t seed, int64_t stream, uint64_t i) {
    uint64_t block = i / 4;
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)stream,
                                 (uint32_t)((uint64_t)stream >> 32)};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)((uint64_t)seed >> 32)};
    uint32_t words[4];
    fovea_philox(counter, key, words);
    return words[i % 4];
}

#define W(i) word(options->seed, options->stream, (uint64_t)(i))

/* A kernel whose element i is the expression. */
#define DRAW(name, expression)                                                                     \
    static bool name(const fovea_problem *problem, double *const outputs[]) {                      \
        const fovea_##name##_options *options = problem->options;                                  \
        int64_t count = fovea_view_elements(&problem->views[0]);                                   \
        for (int64_t i = 0; i < count; i++) outputs[0][i] = expression;                            \
        return true;                                                                               \
    }

static double uniform_f32(uint32_t w) { return (w >> 8) * 0x1p-24; }
static double uniform_f64(uint32_t low, uint32_t high) {
    return (double)((low | (uint64_t)high << 32) >> 11) * 0x1p-53;
}

/* The angle in quarters, so that sines and cosines of quarter turns are exact. */
static double sine_of_turn(double turns) {
    double quarter = nearbyint(4 * turns),
           angle = 2 * 3.14159265358979323846 * (turns - quarter / 4);
    switch ((int)quarter & 3) {
    case 0:
        return sin(angle);
    case 1:
        return cos(angle);
    case 2:
        return -sin(angle);
    default:
        return -cos(angle);
    }
}
static double normal(uint32_t first, uint32_t second, bool odd) {
    double radius = sqrt(-2 * log(uniform_f32(first) + 0x1p-24)), turns = uniform_f32(second);
    return radius * sine_of_turn(odd ? turns : turns + 0.25);
}

DRAW(prng_philox, W(i))
DRAW(prng_uniform,
     problem->dtype == FOVEA_F64 ? uniform_f64(W(2 * i), W(2 * i + 1)) : uniform_f32(W(i)))
DRAW(prng_normal, normal(W(i / 2 * 2), W(i / 2 * 2 + 1), i & 1))
DRAW(prng_dropout_mask, uniform_f32(W(i)) < fovea_round_to(FOVEA_F32, options->keep))

const fovea_reference fovea_references_prng[] = {{"prng_philox", prng_philox},
                                                 {"prng_uniform", prng_uniform},
                                                 {"prng_normal", prng_normal},
                                                 {"prng_dropout_mask", prng_dropout_mask},
                                                 {0}};
