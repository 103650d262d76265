/* Steps of elements of one type, for motion.h; included once for each, with ELEMENT, VECTOR (the prefix
 * of its operations) and WIDTH defined. */

#include "cpu/of_type.h"

/* Vectors side by side: a step is a chain of nine operations of four cycles each. */
enum { OF_TYPE(GROUP) = 4 };

FOVEA_INLINE void OF_TYPE(runge_kutta)(const motion_plan *p, VECTOR y[], int count) {
    const VECTOR rate = V(set1)((ELEMENT)-p->k), step = V(set1)((ELEMENT)p->dt);
    const VECTOR half = V(set1)((ELEMENT)(p->dt / 2)), sixth = V(set1)((ELEMENT)(p->dt / 6));
    for (int64_t s = 0; s < p->steps; s++) {
        VF_UNROLLED for (int i = 0; i < count; i++) {
            VECTOR k1 = V(mul)(rate, y[i]);
            VECTOR k2 = V(mul)(rate, V(fma)(half, k1, y[i]));
            VECTOR k3 = V(mul)(rate, V(fma)(half, k2, y[i]));
            VECTOR k4 = V(mul)(rate, V(fma)(step, k3, y[i]));
            VECTOR sum = V(fma)(V(set1)(2), V(add)(k2, k3), V(add)(k1, k4));
            y[i] = V(fma)(sixth, sum, y[i]);
        }
    }
}

FOVEA_INLINE void OF_TYPE(verlet)(const motion_plan *p, VECTOR x[], VECTOR v[], int count) {
    const VECTOR rate = V(set1)((ELEMENT)-p->k), step = V(set1)((ELEMENT)p->dt);
    const VECTOR half = V(set1)((ELEMENT)(p->dt / 2));
    const VECTOR square = V(set1)((ELEMENT)(p->dt * p->dt / 2));
    VECTOR a[OF_TYPE(GROUP)];
    VF_UNROLLED for (int i = 0; i < count; i++) a[i] = V(mul)(rate, x[i]);
    for (int64_t s = 0; s < p->steps; s++) {
        VF_UNROLLED for (int i = 0; i < count; i++) {
            x[i] = V(fma)(step, v[i], V(fma)(square, a[i], x[i]));
            VECTOR next = V(mul)(rate, x[i]);
            v[i] = V(fma)(half, V(add)(a[i], next), v[i]);
            a[i] = next;
        }
    }
}

FOVEA_INLINE void OF_TYPE(advance)(const motion_plan *p, VECTOR x[], VECTOR v[], int count) {
    if (p->method == VERLET)
        OF_TYPE(verlet)(p, x, v, count);
    else
        OF_TYPE(runge_kutta)(p, x, count);
}

/* n elements side by side, of `from` (and v, which changes in place) to `to`, which may be `from`. */
static void OF_TYPE(move)(const motion_plan *p, const void *from, void *to, void *velocities,
                          int64_t n) {
    const ELEMENT *x = from;
    ELEMENT *y = to, *v = p->method == VERLET ? velocities : to;
    VECTOR a[OF_TYPE(GROUP)], b[OF_TYPE(GROUP)];
    int64_t i = 0;
    for (; i + OF_TYPE(GROUP) * WIDTH <= n; i += OF_TYPE(GROUP) * WIDTH) {
        VF_UNROLLED for (int g = 0; g < OF_TYPE(GROUP); g++) {
            a[g] = V(load)(x + i + g * WIDTH);
            b[g] = p->method == VERLET ? V(load)(v + i + g * WIDTH) : a[g];
        }
        OF_TYPE(advance)(p, a, b, OF_TYPE(GROUP));
        VF_UNROLLED for (int g = 0; g < OF_TYPE(GROUP); g++) {
            if (p->method == VERLET) V(store)(v + i + g * WIDTH, b[g]);
            V(store)(y + i + g * WIDTH, a[g]);
        }
    }
    for (; i < n; i += WIDTH) {
        size_t count = (size_t)smaller(WIDTH, n - i);
        a[0] = V(load_n)(x + i, count);
        b[0] = p->method == VERLET ? V(load_n)(v + i, count) : a[0];
        OF_TYPE(advance)(p, a, b, 1);
        if (p->method == VERLET) V(store_n)(v + i, b[0], count);
        V(store_n)(y + i, a[0], count);
    }
}

static void OF_TYPE(gather)(const void *from, int64_t step, void *to, int64_t n) {
    const ELEMENT *x = from;
    for (int64_t i = 0; i < n; i++) ((ELEMENT *)to)[i] = x[i * step];
}
static void OF_TYPE(scatter)(const void *from, void *to, int64_t step, int64_t n) {
    ELEMENT *y = to;
    for (int64_t i = 0; i < n; i++) y[i * step] = ((const ELEMENT *)from)[i];
}

#undef ELEMENT
#undef VECTOR
#undef WIDTH
