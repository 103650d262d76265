/* Domain 8, optimizers, in double, with the constants as f32 has them. */
#include "reference/reference.h"

#include <math.h>

static double f32(double value) { return (double)(float)value; }

static bool opt_sgd(const fovea_problem *problem, double *const outputs[]) {
    const fovea_opt_sgd_options *o = problem->options;
    int64_t count = fovea_view_elements(&problem->views[0]);
    for (int64_t i = 0; i < count; i++) {
        double p = fovea_view_read(&problem->views[0], i);
        double g = fovea_view_read(&problem->views[1], i) + f32(o->weight_decay) * p;
        outputs[0][i] = p - f32(o->lr) * g;
    }
    return true;
}

static bool opt_sgd_momentum(const fovea_problem *problem, double *const outputs[]) {
    const fovea_opt_sgd_momentum_options *o = problem->options;
    double keep = f32(o->momentum), taken = f32(1 - o->dampening);
    int64_t count = fovea_view_elements(&problem->views[0]);
    for (int64_t i = 0; i < count; i++) {
        double p = fovea_view_read(&problem->views[0], i),
               v = fovea_view_read(&problem->views[2], i);
        double g = fovea_view_read(&problem->views[1], i) + f32(o->weight_decay) * p;
        v = o->step == 1 ? g : keep * v + taken * g;
        outputs[0][i] = p - f32(o->lr) * (o->nesterov ? g + keep * v : v);
        outputs[2][i] = v;
    }
    return true;
}

static bool opt_adam(const fovea_problem *problem, double *const outputs[]) {
    const fovea_opt_adam_options *o = problem->options;
    bool decoupled = strcmp(problem->kernel->name, "opt_adam") != 0; /* the same options */
    double limit = f32(fovea_problem_parameter(problem, "c"));       /* NaN: none */
    double of_m = f32(1 - pow(o->beta1, (double)o->step));
    double of_v = f32(1 - pow(o->beta2, (double)o->step));
    double shrink = decoupled ? f32(1 - o->lr * o->weight_decay) : 1;
    double decay = decoupled ? 0 : f32(o->weight_decay);
    int64_t count = fovea_view_elements(&problem->views[0]);
    for (int64_t i = 0; i < count; i++) {
        double p = fovea_view_read(&problem->views[0], i);
        double g = fovea_view_read(&problem->views[1], i);
        if (!isnan(limit) && !isnan(g)) g = fmin(fmax(g, -limit), limit);
        g += decay * p;
        double m = f32(o->beta1) * fovea_view_read(&problem->views[2], i) + f32(1 - o->beta1) * g;
        double v =
            f32(o->beta2) * fovea_view_read(&problem->views[3], i) + f32(1 - o->beta2) * g * g;
        outputs[0][i] = p * shrink - f32(o->lr) * (m / of_m) / (sqrt(v / of_v) + f32(o->eps));
        outputs[2][i] = m;
        outputs[3][i] = v;
    }
    return true;
}

static bool grad_clip_norm(const fovea_problem *problem, double *const outputs[]) {
    const fovea_grad_clip_norm_options *o = problem->options;
    int64_t count = fovea_view_elements(&problem->views[0]);
    double squares = 0;
    for (int64_t i = 0; i < count; i++) {
        double g = fovea_view_read(&problem->views[0], i);
        squares += g * g;
    }
    double factor = o->max_norm / (sqrt(squares) + 1e-6);
    if (factor > 1) factor = 1;
    outputs[1][0] = sqrt(squares);
    for (int64_t i = 0; i < count; i++)
        outputs[0][i] = fovea_view_read(&problem->views[0], i) * factor;
    return true;
}

static bool grad_clip_value(const fovea_problem *problem, double *const outputs[]) {
    const fovea_grad_clip_value_options *o = problem->options;
    double c = f32(o->c);
    int64_t count = fovea_view_elements(&problem->views[0]);
    for (int64_t i = 0; i < count; i++) {
        double g = fovea_view_read(&problem->views[0], i);
        outputs[0][i] = isnan(g) ? g : fmin(fmax(g, -c), c);
    }
    return true;
}

const fovea_reference fovea_references_optimizers[] = {{"opt_sgd", opt_sgd},
                                                       {"opt_sgd_momentum", opt_sgd_momentum},
                                                       {"opt_adam", opt_adam},
                                                       {"opt_adamw", opt_adam},
                                                       {"fused_adam_clip_update", opt_adam},
                                                       {"grad_clip_norm", grad_clip_norm},
                                                       {"grad_clip_value", grad_clip_value},
                                                       {0}};
