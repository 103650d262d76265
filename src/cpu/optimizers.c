/* Domain 8, optimizers: updates in place, one pass over memory each (clipping by norm: two). */
#include "cpu/adam.h"
#include "cpu/fold.h"

#define ONE (1u << FOVEA_F32)

/* ---- Descent -------------------------------------------------------------------------------- */

enum { RATE, DECAY, KEEP, TAKE, DESCENT_CONSTANTS };

/* The elements from i on, of the operands in their order. */
typedef void update(const float *c, char *const at[], int64_t i, int64_t n);

FOVEA_INLINE void sgd(const float *c, char *const at[], int64_t i, int64_t n) {
    vf p = map_load(at, 0, i, n), g = vf_fma(vf_set1(c[DECAY]), p, map_load(at, 1, i, n));
    map_store(at, 0, i, vf_fnma(vf_set1(c[RATE]), g, p), n);
}

/* Step 1 keeps nothing of v, whatever it holds. */
FOVEA_INLINE void momentum(const float *c, char *const at[], int64_t i, int64_t n, bool first,
                           bool nesterov) {
    vf p = map_load(at, 0, i, n), g = vf_fma(vf_set1(c[DECAY]), p, map_load(at, 1, i, n)), v = g;
    if (!first) v = vf_fma(vf_set1(c[KEEP]), map_load(at, 2, i, n), vf_mul(vf_set1(c[TAKE]), g));
    vf direction = nesterov ? vf_fma(vf_set1(c[KEEP]), v, g) : v;
    map_store(at, 0, i, vf_fnma(vf_set1(c[RATE]), direction, p), n);
    map_store(at, 2, i, v, n);
}
FOVEA_INLINE void first_step(const float *c, char *const at[], int64_t i, int64_t n) {
    momentum(c, at, i, n, true, false);
}
FOVEA_INLINE void plain_step(const float *c, char *const at[], int64_t i, int64_t n) {
    momentum(c, at, i, n, false, false);
}
FOVEA_INLINE void first_nesterov(const float *c, char *const at[], int64_t i, int64_t n) {
    momentum(c, at, i, n, true, true);
}
FOVEA_INLINE void nesterov_step(const float *c, char *const at[], int64_t i, int64_t n) {
    momentum(c, at, i, n, false, true);
}
FOVEA_INLINE void adam(const float *c, char *const at[], int64_t i, int64_t n) {
    adam_vector(c, false, at, i, n);
}
FOVEA_INLINE void clipped_adam(const float *c, char *const at[], int64_t i, int64_t n) {
    adam_vector(c, true, at, i, n);
}

#define UPDATE(name, operation)                                                                    \
    static void name(const float *c, char *const at[], int64_t n, bool stream) {                   \
        int64_t i = 0;                                                                             \
        (void)stream;                                                                              \
        for (; i + VF_WIDTH <= n; i += VF_WIDTH) operation(c, at, i, VF_WIDTH);                    \
        if (i < n) operation(c, at, i, n - i);                                                     \
    }
UPDATE(run_sgd, sgd)
UPDATE(run_first_step, first_step)
UPDATE(run_plain_step, plain_step)
UPDATE(run_first_nesterov, first_nesterov)
UPDATE(run_nesterov_step, nesterov_step)
UPDATE(run_adam, adam)
UPDATE(run_clipped_adam, clipped_adam)

static fovea_status opt_sgd(const fovea_problem *problem, fovea_run *run) {
    const fovea_opt_sgd_options *o = problem->options;
    const float c[DESCENT_CONSTANTS] = {[RATE] = (float)o->lr, [DECAY] = (float)o->weight_decay};
    return map_update(problem, run, run_sgd, 2, 1u, c, 12);
}

static fovea_status opt_sgd_momentum(const fovea_problem *problem, fovea_run *run) {
    static map_function *const functions[2][2] = {{run_plain_step, run_nesterov_step},
                                                  {run_first_step, run_first_nesterov}};
    const fovea_opt_sgd_momentum_options *o = problem->options;
    const float c[DESCENT_CONSTANTS] = {[RATE] = (float)o->lr,
                                        [DECAY] = (float)o->weight_decay,
                                        [KEEP] = (float)o->momentum,
                                        [TAKE] = (float)(1 - o->dampening)};
    return map_update(problem, run, functions[o->step == 1][o->nesterov], 3, 1u | 1u << 2, c, 20);
}

static fovea_status opt_adam(const fovea_problem *problem, fovea_run *run) {
    const fovea_opt_adam_options *o = problem->options;
    float c[ADAM_CONSTANTS];
    adam_constants(o->lr, o->beta1, o->beta2, o->eps, o->step, c);
    c[ADAM_DECAY] = (float)o->weight_decay;
    return map_update(problem, run, run_adam, 4, 1u | 1u << 2 | 1u << 3, c, 28);
}

static fovea_status opt_adamw(const fovea_problem *problem, fovea_run *run) {
    const fovea_opt_adamw_options *o = problem->options;
    float c[ADAM_CONSTANTS];
    adam_constants(o->lr, o->beta1, o->beta2, o->eps, o->step, c);
    c[ADAM_SHRINK] = (float)(1 - o->lr * o->weight_decay);
    return map_update(problem, run, run_adam, 4, 1u | 1u << 2 | 1u << 3, c, 28);
}

static fovea_status fused_adam_clip_update(const fovea_problem *problem, fovea_run *run) {
    const fovea_fused_adam_clip_update_options *o = problem->options;
    float c[ADAM_CONSTANTS];
    adam_constants(o->lr, o->beta1, o->beta2, o->eps, o->step, c);
    c[ADAM_SHRINK] = (float)(1 - o->lr * o->weight_decay);
    c[ADAM_CLIP] = (float)o->c;
    return map_update(problem, run, run_clipped_adam, 4, 1u | 1u << 2 | 1u << 3, c, 28);
}

/* ---- Clipping ------------------------------------------------------------------------------- */

FOVEA_INLINE void scale(const float *c, char *const at[], int64_t i, int64_t n) {
    map_store(at, 0, i, vf_mul(vf_set1(c[0]), map_load(at, 0, i, n)), n);
}
/* The limits come first, so that NaN passes. */
FOVEA_INLINE void clip(const float *c, char *const at[], int64_t i, int64_t n) {
    map_store(at, 0, i, vf_min(vf_set1(c[0]), vf_max(vf_set1(-c[0]), map_load(at, 0, i, n))), n);
}
UPDATE(run_scale, scale)
UPDATE(run_clip, clip)

FOLD_SUM(squares, add_square, float, FOVEA_F32)
static double finish_root(double p, const fold *f) { return (void)p, sqrt(f->value[0]); }

static fovea_status grad_clip_norm(const fovea_problem *problem, fovea_run *run) {
    const fovea_grad_clip_norm_options *o = problem->options;
    fold_plan plan = {.method = {squares, fold_add, finish_root, {0}}, .inputs = 1};
    fovea_status status = fold_call(problem, run, -1, &plan);
    double norm = (double)*(const float *)(const void *)problem->views[1].data;
    double factor = o->max_norm / (norm + 1e-6);
    const float c[1] = {factor > 1 ? 1 : (float)factor};
    if (status != FOVEA_OK || c[0] == 1) return status;
    /* By as many threads as have read it: 10^5 elements that two write and one reads take three times as long, for they lie
     * in the other core's cache. */
    return map_update(problem, run, run_scale, 1, 1u, c, 8);
}

static fovea_status grad_clip_value(const fovea_problem *problem, fovea_run *run) {
    const fovea_grad_clip_value_options *o = problem->options;
    const float c[1] = {(float)o->c};
    return map_update(problem, run, run_clip, 1, 1u, c, 8);
}

#define ENTRY(name)                                                                                \
    { #name, FOVEA_CPU_NAME("direct"), ONE, FOVEA_TIER_HERE, .run = name }

const fovea_implementation FOVEA_TIERED(fovea_cpu_optimizers)[] = {ENTRY(opt_sgd),
                                                                   ENTRY(opt_sgd_momentum),
                                                                   ENTRY(opt_adam),
                                                                   ENTRY(opt_adamw),
                                                                   ENTRY(fused_adam_clip_update),
                                                                   ENTRY(grad_clip_norm),
                                                                   ENTRY(grad_clip_value),
                                                                   {0}};
