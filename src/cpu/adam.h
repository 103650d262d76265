/* One step of Adam on a vector of parameters, for the kernels that have one. A square root and a
 * division for 28 bytes: memory is slower. */
#ifndef FOVEA_CPU_ADAM_H
#define FOVEA_CPU_ADAM_H

#include "cpu/map.h"

#include <math.h>

enum {
    ADAM_SHRINK, /* 1 - lr weight_decay, or 1 */
    ADAM_DECAY,  /* of the gradient */
    ADAM_KEEP_M,
    ADAM_TAKE_M,
    ADAM_KEEP_V,
    ADAM_TAKE_V,
    ADAM_RATE, /* lr over the correction of m */
    ADAM_ROOT, /* 1 over the root of the correction of v */
    ADAM_EPS,
    ADAM_CLIP,
    ADAM_CONSTANTS
};

static inline void adam_constants(double lr, double beta1, double beta2, double eps, int64_t step,
                                  float *c) {
    c[ADAM_SHRINK] = 1, c[ADAM_DECAY] = 0, c[ADAM_CLIP] = 0;
    c[ADAM_KEEP_M] = (float)beta1, c[ADAM_TAKE_M] = (float)(1 - beta1);
    c[ADAM_KEEP_V] = (float)beta2, c[ADAM_TAKE_V] = (float)(1 - beta2);
    c[ADAM_RATE] = (float)((double)(float)lr / (1 - pow(beta1, (double)step)));
    c[ADAM_ROOT] = (float)(1 / sqrt(1 - pow(beta2, (double)step)));
    c[ADAM_EPS] = (float)eps;
}

/* at: p, g, m, v. */
FOVEA_INLINE void adam_vector(const float *c, bool clip, char *const at[], int64_t i, int64_t n) {
    vf p = map_load(at, 0, i, n), g = map_load(at, 1, i, n);
    vf m = map_load(at, 2, i, n), v = map_load(at, 3, i, n);
    if (clip) /* the limits come first, so that NaN passes */
        g = vf_min(vf_set1(c[ADAM_CLIP]), vf_max(vf_set1(-c[ADAM_CLIP]), g));
    g = vf_fma(vf_set1(c[ADAM_DECAY]), p, g);
    m = vf_fma(vf_set1(c[ADAM_KEEP_M]), m, vf_mul(vf_set1(c[ADAM_TAKE_M]), g));
    v = vf_fma(vf_set1(c[ADAM_KEEP_V]), v, vf_mul(vf_mul(vf_set1(c[ADAM_TAKE_V]), g), g));
    vf root = vf_fma(vf_sqrt(v), vf_set1(c[ADAM_ROOT]), vf_set1(c[ADAM_EPS]));
    vf update = vf_div(vf_mul(vf_set1(c[ADAM_RATE]), m), root);
    map_store(at, 0, i, vf_fms(p, vf_set1(c[ADAM_SHRINK]), update), n);
    map_store(at, 2, i, m, n);
    map_store(at, 3, i, v, n);
}

#endif
