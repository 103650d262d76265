/* Contiguous runs in one compute dtype, for fold.h; included once for each, with ELEMENT, VECTOR (the
 * prefix of its operations), MASK (that of its masks) and WIDTH defined. The operations, steps, and
 * the dtypes in memory are constants of inlined loops. */

#include "cpu/of_type.h"

FOVEA_INLINE VECTOR OF_TYPE(take)(fovea_dtype dtype, const void *p, int64_t i, int64_t n) {
#if FOLD_IS_DOUBLE
    (void)dtype;
    const double *x = (const double *)p + i;
    return n == WIDTH ? vd_load(x) : vd_load_n(x, (size_t)n);
#else
    return n == WIDTH ? vf_load_as(dtype, p, i) : vf_load_n_as(dtype, p, i, n);
#endif
}

/* s with the elements a and b added in; p and q are constants of the pass. */
typedef VECTOR OF_TYPE(step)(VECTOR s, VECTOR a, VECTOR b, VECTOR p, VECTOR q);

/* What `count` elements need later. */
FOVEA_INLINE void OF_TYPE(fetch)(bool near, fovea_dtype dtype, const void *p, int64_t i,
                                 int64_t count) {
    int64_t size = dtype == FOVEA_F16 || dtype == FOVEA_BF16 ? 2 : (int64_t)sizeof(ELEMENT);
    if (dtype == FOVEA_U8) size = 1;
    fetch_for_many(near, p, i * size, count * size);
}

/* Eight accumulators in chains of at most 32 under a tree: whole chains need 256 WIDTH elements, so
 * that R(n) holds for any data. y may be NULL. */
FOVEA_INLINE double OF_TYPE(sum)(OF_TYPE(step) * step, fovea_dtype a, fovea_dtype b, const void *x,
                                 const void *y, ELEMENT first, ELEMENT second, int64_t n) {
    enum { W = WIDTH, STEP = 8 * W, CHAIN = W == 1 ? 16 : 32 };
    const VECTOR p = V(set1)(first), q = V(set1)(second), zero = V(set1)(0);
    const bool near = fovea_fetches_near;
    V(tree) tree;
    int64_t i = 0;
    tree.count = 0;
#define TERM(s, at, count)                                                                         \
    step(s, OF_TYPE(take)(a, x, at, count), y ? OF_TYPE(take)(b, y, at, count) : zero, p, q)
    while (i + STEP <= n) {
        int64_t end = smaller(n - STEP, i + (CHAIN - 1) * STEP);
        VECTOR s[8];
        VF_UNROLLED for (int k = 0; k < 8; k++) s[k] = zero;
        for (; i <= end; i += STEP) {
            OF_TYPE(fetch)(near, a, x, i, STEP);
            if (y) OF_TYPE(fetch)(near, b, y, i, STEP);
            VF_UNROLLED for (int k = 0; k < 8; k++) s[k] = TERM(s[k], i + k * W, W);
        }
        VF_UNROLLED for (int k = 0; k < 4; k++) s[k] = V(add)(s[k], s[k + 4]);
        VECTOR chain = V(add)(V(add)(s[0], s[1]), V(add)(s[2], s[3]));
        if (i == n && tree.count == 0) return (double)V(reduce_add)(chain);
        V(tree_push)(&tree, chain);
    }
    VECTOR rest = zero;
    for (; i + W <= n; i += W) rest = TERM(rest, i, W);
    if (i < n)
        rest = V(add)(rest, V(select)(M(first)((size_t)(n - i)), TERM(zero, i, n - i), zero));
#undef TERM
    if (tree.count == 0) return (double)V(reduce_add)(rest);
    V(tree_push)(&tree, rest);
    return (double)V(reduce_add)(V(tree_total)(&tree));
}

/* The largest or smallest element; NaN if there is one. Four loads in flight do not keep memory busy: on two
 * cores of a Zen 5 37 GB/s, with what comes 4 KiB later fetched 43. */
FOVEA_INLINE double OF_TYPE(extreme)(bool largest, fovea_dtype dtype, const void *x, int64_t n) {
    enum { W = WIDTH };
    const VECTOR worst = V(set1)(largest ? -INFINITY : INFINITY);
    VECTOR s[4] = {worst, worst, worst, worst};
    const bool near = fovea_fetches_near;
    MASK nan = M(first)(0);
    int64_t i = 0;
#define BETTER(a, b) (largest ? V(max)(a, b) : V(min)(a, b))
    for (; i + 4 * W <= n; i += 4 * W) {
        VECTOR a[4];
        fetch_ahead(near, (const ELEMENT *)x + i, 0, 4 * W * sizeof(ELEMENT));
        VF_UNROLLED for (int k = 0; k < 4; k++) a[k] = OF_TYPE(take)(dtype, x, i + k * W, W);
        VF_UNROLLED for (int k = 0; k < 4; k++) s[k] = BETTER(a[k], s[k]);
        nan = M(or)(nan, M(or)(V(unordered)(a[0], a[1]), V(unordered)(a[2], a[3])));
    }
    for (; i < n; i += W) {
        int64_t count = smaller(W, n - i);
        VECTOR a = V(select)(M(first)((size_t)count), OF_TYPE(take)(dtype, x, i, count), worst);
        s[0] = BETTER(a, s[0]);
        nan = M(or)(nan, V(unordered)(a, a));
    }
    if (M(any)(nan)) return NAN;
    VECTOR best = BETTER(BETTER(s[0], s[1]), BETTER(s[2], s[3]));
#undef BETTER
    return largest ? V(reduce_max)(best) : V(reduce_min)(best);
}

/* The first element that is `value`, or NaN if that is NaN. */
FOVEA_INLINE int64_t OF_TYPE(find)(double value, const ELEMENT *x, int64_t n) {
    const VECTOR wanted = V(set1)((ELEMENT)value);
    bool nan = value != value;
    int64_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        VECTOR a = V(load)(x + i);
        if (M(any)(nan ? V(unordered)(a, a) : V(eq)(a, wanted))) break;
    }
    while (i < n && (nan ? x[i] == x[i] : x[i] != (ELEMENT)value)) i++;
    return i;
}

/* ---- Steps ---------------------------------------------------------------------------------- */

#define STEP(name, expression)                                                                     \
    FOVEA_INLINE VECTOR OF_TYPE(name)(VECTOR s, VECTOR a, VECTOR b, VECTOR p, VECTOR q) {          \
        (void)a, (void)b, (void)p, (void)q;                                                        \
        return expression;                                                                         \
    }
STEP(add_element, V(add)(s, a))
STEP(add_square, V(fma)(a, a, s))
STEP(add_second_square, V(fma)(b, b, s))
STEP(add_magnitude, V(add)(s, V(abs)(a)))
STEP(add_product, V(fma)(a, b, s))
STEP(add_chosen, V(add)(s, V(select)(V(gt)(b, V(set1)(0)), a, V(set1)(0))))
STEP(count_above, V(add)(s, V(select)(V(gt)(a, p), V(set1)(1), V(set1)(0))))
STEP(add_distance, V(add)(s, V(sub)(a, p)))
STEP(add_squared_distance, V(fma)(V(sub)(a, p), V(sub)(a, p), s))
STEP(add_product_of_distances, V(fma)(V(sub)(a, p), V(sub)(b, q), s))
#undef STEP

/* ---- Moments -------------------------------------------------------------------------------- */

/* The mean of a run less its first element: exact where all are equal, and small where they have an
 * offset, which the difference of two means would lose otherwise. */
FOVEA_INLINE double OF_TYPE(rest_of_mean)(const ELEMENT *x, int64_t n) {
    return OF_TYPE(sum)(OF_TYPE(add_distance), FOLD_DTYPE, 0, x, NULL, x[0], 0, n) / (double)n;
}

/* The mean as the element's type has it, and what the mean is more than that. */
FOVEA_INLINE ELEMENT OF_TYPE(centre)(ELEMENT first, double rest, double *moved) {
    ELEMENT centre = (ELEMENT)((double)first + rest);
    *moved = ((double)first - (double)centre) + rest;
    return centre;
}

/* The sum of (x - mean)^2: about the rounded mean, which moves it by n times the square of the
 * difference. */
FOVEA_INLINE double OF_TYPE(squares)(const ELEMENT *x, double rest, int64_t n) {
    double moved;
    ELEMENT p = OF_TYPE(centre)(x[0], rest, &moved);
    double sum = OF_TYPE(sum)(OF_TYPE(add_squared_distance), FOLD_DTYPE, 0, x, NULL, p, 0, n);
    sum -= (double)n * moved * moved;
    return sum < 0 ? 0 : sum;
}

/* Sums of distances from p and of their squares: chains of at most 32 under a tree. */
FOVEA_INLINE void OF_TYPE(sum_distances)(const ELEMENT *x, ELEMENT centre, int64_t n, double *sum,
                                         double *squares) {
    enum { W = WIDTH, STEP = 4 * W, CHAIN = 32 };
    const VECTOR p = V(set1)(centre), zero = V(set1)(0);
    const bool near = fovea_fetches_near;
    V(tree) sums, products;
    int64_t i = 0;
    sums.count = products.count = 0;
    while (i + STEP <= n) {
        int64_t end = smaller(n - STEP, i + (CHAIN - 1) * STEP);
        VECTOR s[4], q[4];
        VF_UNROLLED for (int k = 0; k < 4; k++) s[k] = q[k] = zero;
        for (; i <= end; i += STEP) {
            OF_TYPE(fetch)(near, FOLD_DTYPE, x, i, STEP);
            VF_UNROLLED for (int k = 0; k < 4; k++) {
                VECTOR d = V(sub)(V(load)(x + i + k * W), p);
                s[k] = V(add)(s[k], d), q[k] = V(fma)(d, d, q[k]);
            }
        }
        V(tree_push)(&sums, V(add)(V(add)(s[0], s[1]), V(add)(s[2], s[3])));
        V(tree_push)(&products, V(add)(V(add)(q[0], q[1]), V(add)(q[2], q[3])));
    }
    VECTOR s = zero, q = zero;
    for (; i < n; i += W) {
        size_t count = (size_t)smaller(W, n - i);
        VECTOR d = V(select)(M(first)(count), V(sub)(V(load_n)(x + i, count), p), zero);
        s = V(add)(s, d), q = V(fma)(d, d, q);
    }
    V(tree_push)(&sums, s), V(tree_push)(&products, q);
    *sum = (double)V(reduce_add)(V(tree_total)(&sums));
    *squares = (double)V(reduce_add)(V(tree_total)(&products));
}

/* rest_of_mean and squares in one pass, about the mean of the first elements. Where that is further from the mean
 * than a standard deviation it would cost more than a bit, and there are two. */
FOVEA_INLINE void OF_TYPE(mean_and_squares)(const ELEMENT *x, int64_t n, double *rest,
                                            double *squares) {
    double moved, sum, first = OF_TYPE(rest_of_mean)(x, smaller(n, 64));
    ELEMENT p = OF_TYPE(centre)(x[0], first, &moved);
    OF_TYPE(sum_distances)(x, p, n, &sum, squares);
    double apart = sum / (double)n;
    *rest = (first - moved) + apart;
    *squares -= sum * apart;
    if (sum * apart <= *squares) return;
    *rest = OF_TYPE(rest_of_mean)(x, n);
    *squares = OF_TYPE(squares)(x, *rest, n);
}

/* The sum of (x - mean x) (y - mean y). */
FOVEA_INLINE double OF_TYPE(products)(const ELEMENT *x, const ELEMENT *y, double rest_x,
                                      double rest_y, int64_t n) {
    double moved_x, moved_y;
    ELEMENT p = OF_TYPE(centre)(x[0], rest_x, &moved_x);
    ELEMENT q = OF_TYPE(centre)(y[0], rest_y, &moved_y);
    double sum =
        OF_TYPE(sum)(OF_TYPE(add_product_of_distances), FOLD_DTYPE, FOLD_DTYPE, x, y, p, q, n);
    return sum - (double)n * moved_x * moved_y;
}

#undef ELEMENT
#undef VECTOR
#undef MASK
#undef WIDTH
#undef FOLD_IS_DOUBLE
#undef FOLD_DTYPE
