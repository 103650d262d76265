/* Domain 8, optimizers: parameters and their states, updated in place in one pass over memory; and 114,
 * which clips first. Parameters of the method that multiply data are rounded to f32; 1 - beta and the like
 * are formed in double and rounded once. */
#include "cuda/fold_map.cuh"

#include <math.h>

/* The limits come first, so that NaN passes. */
static __device__ __forceinline__ float limited(float x, float c) {
    x = x < -c ? -c : x;
    return x > c ? c : x;
}

struct sgd_function {
    float rate, decay;
    __device__ __forceinline__ void prepare() {}
    __device__ __forceinline__ void operator()(const float (&x)[2], float (&y)[1]) const {
        y[0] = fmaf(-rate, fmaf(decay, x[0], x[1]), x[0]);
    }
};

struct momentum_function {
    float rate, decay, keep, take;
    bool first, nesterov;
    __device__ __forceinline__ void prepare() {}
    __device__ __forceinline__ void operator()(const float (&x)[3], float (&y)[2]) const {
        float g = fmaf(decay, x[0], x[1]), v = first ? g : fmaf(keep, x[2], take * g);
        y[0] = fmaf(-rate, nesterov ? fmaf(keep, v, g) : v, x[0]);
        y[1] = v;
    }
};

struct adam_function {
    float shrink, decay;                  /* of parameters; of the gradient */
    float keep_m, take_m, keep_v, take_v; /* beta and 1 - beta */
    float rate, root, eps, clip;          /* with the corrections of m and of the root of v */
    __device__ __forceinline__ void prepare() {}
    __device__ __forceinline__ void operator()(const float (&x)[4], float (&y)[3]) const {
        float g = fmaf(decay, x[0], limited(x[1], clip));
        float m = fmaf(keep_m, x[2], take_m * g), v = fmaf(keep_v, x[3], take_v * g * g);
        float update = rate * m / fmaf(sqrtf(v), root, eps);
        y[0] = fmaf(x[0], shrink, -update);
        y[1] = m, y[2] = v;
    }
};

static fovea_status opt_sgd(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_opt_sgd_options *)problem->options;
    const fovea_view *v = problem->views, *const views[] = {v, v + 1, v};
    return map_views<float, float, 2, 1>(views, run,
                                         sgd_function{(float)o->lr, (float)o->weight_decay});
}

static fovea_status opt_sgd_momentum(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_opt_sgd_momentum_options *)problem->options;
    const fovea_view *v = problem->views, *const views[] = {v, v + 1, v + 2, v, v + 2};
    momentum_function function = {(float)o->lr,       (float)o->weight_decay,
                                  (float)o->momentum, (float)(1 - o->dampening),
                                  o->step == 1,       o->nesterov};
    return map_views<float, float, 3, 2>(views, run, function);
}

/* The options of the three begin alike. */
template <class Options>
static fovea_status adam(const fovea_problem *problem, fovea_run *run, bool decoupled,
                         double clip) {
    const auto *o = (const Options *)problem->options;
    const fovea_view *v = problem->views;
    const fovea_view *const views[] = {v, v + 1, v + 2, v + 3, v, v + 2, v + 3};
    adam_function function = {
        .shrink = decoupled ? (float)(1 - o->lr * o->weight_decay) : 1,
        .decay = decoupled ? 0 : (float)o->weight_decay,
        .keep_m = (float)o->beta1,
        .take_m = (float)(1 - o->beta1),
        .keep_v = (float)o->beta2,
        .take_v = (float)(1 - o->beta2),
        .rate = (float)((double)(float)o->lr / (1 - pow(o->beta1, (double)o->step))),
        .root = (float)(1 / sqrt(1 - pow(o->beta2, (double)o->step))),
        .eps = (float)o->eps,
        .clip = (float)clip};
    return map_views<float, float, 4, 3>(views, run, function);
}

static fovea_status opt_adam(const fovea_problem *problem, fovea_run *run) {
    return adam<fovea_opt_adam_options>(problem, run, false, INFINITY);
}
static fovea_status opt_adamw(const fovea_problem *problem, fovea_run *run) {
    return adam<fovea_opt_adamw_options>(problem, run, true, INFINITY);
}
static fovea_status fused_adam_clip_update(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_fused_adam_clip_update_options *)problem->options;
    return adam<fovea_fused_adam_clip_update_options>(problem, run, true, o->c);
}

/* ---- Clipping ------------------------------------------------------------------------------- */

MAP_FUNCTION(clip, limited(a, p))

static fovea_status grad_clip_value(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_grad_clip_value_options *)problem->options;
    const fovea_view *const views[] = {problem->views, problem->views};
    return map_views<float, float, 1, 1>(views, run, clip_function{{(float)o->c, 0}});
}

/* By the norm. */
struct shrink_function {
    const float *number;
    float largest, factor;
    __device__ __forceinline__ void prepare() {
        float ratio = largest * quick_reciprocal(*number + 1e-6f);
        factor = ratio < 1 ? ratio : isnan(ratio) ? ratio : 1; /* NaN passes */
    }
    __device__ __forceinline__ void operator()(const float (&x)[1], float (&y)[1]) const {
        y[0] = x[0] * factor;
    }
};

static fovea_status grad_clip_norm(const fovea_problem *problem, fovea_run *run) {
    const auto *o = (const fovea_grad_clip_norm_options *)problem->options;
    const fovea_view *g = &problem->views[0], *norm = &problem->views[1];
    sum_method<float, float, square_term> method = {{}, FOLD_ROOT};
    return fold_and_map<float, float>(*g, *norm, *g, run, method,
                                      shrink_function{NULL, (float)o->max_norm, 0});
}

#define UPDATE(name) CUDA_ROW(name, 1u << FOVEA_F32, name)

extern "C" const fovea_implementation fovea_cuda_table_optimizers[] = {
    UPDATE(opt_sgd),
    UPDATE(opt_sgd_momentum),
    UPDATE(opt_adam),
    UPDATE(opt_adamw),
    UPDATE(fused_adam_clip_update),
    CUDA_ROW(grad_clip_norm, 1u << FOVEA_F32, grad_clip_norm, .workspace = fold_workspace),
    UPDATE(grad_clip_value),
    {}};
