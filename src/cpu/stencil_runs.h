/* Rows of cells of one element type, for stencil.h; included once for each, with ELEMENT, VECTOR (the
 * prefix of its operations) and WIDTH defined. */

#include "cpu/of_type.h"

/* Of cells that lie side by side: what becomes of them. `others`: the sum of the neighbours. */
FOVEA_INLINE VECTOR OF_TYPE(next)(stencil_kind kind, VECTOR others, VECTOR u, VECTOR previous,
                                  ELEMENT factor) {
    VECTOR r = V(set1)(factor);
    if (kind == MEAN) return V(mul)(others, r);
    VECTOR bent = V(fma)(V(set1)(-4), u, others);
    return V(fma)(r, bent, kind == HEAT ? u : V(fma)(V(set1)(2), u, V(sub)(V(set1)(0), previous)));
}

/* Cell j alone, with its neighbours wrapped around. */
FOVEA_INLINE void OF_TYPE(cell)(stencil_kind kind, int planes, const stencil_row *row, int64_t j,
                                int64_t n) {
    const ELEMENT *u = row->u;
    ELEMENT others = u[j > 0 ? j - 1 : n - 1] + u[j < n - 1 ? j + 1 : 0];
    for (int i = 0; i < planes; i++)
        others += ((const ELEMENT *)row->before[i])[j] + ((const ELEMENT *)row->after[i])[j];
    const ELEMENT *previous = kind == WAVE ? row->previous : row->u;
    VECTOR next = OF_TYPE(next)(kind, V(set1)(others), V(set1)(u[j]), V(set1)(previous[j]),
                                (ELEMENT)row->factor);
    V(store_n)((ELEMENT *)row->to + j, next, 1);
}

FOVEA_INLINE VECTOR OF_TYPE(take)(const void *from, int64_t j, int64_t count) {
    const ELEMENT *p = (const ELEMENT *)from + j;
    return count == WIDTH ? V(load)(p) : V(load_n)(p, (size_t)count);
}

FOVEA_INLINE VECTOR OF_TYPE(cells)(stencil_kind kind, int planes, const stencil_row *row, int64_t j,
                                   int64_t count) {
    VECTOR others =
        V(add)(OF_TYPE(take)(row->u, j - 1, count), OF_TYPE(take)(row->u, j + 1, count));
    VF_UNROLLED for (int i = 0; i < planes; i++) others =
        V(add)(others, V(add)(OF_TYPE(take)(row->before[i], j, count),
                              OF_TYPE(take)(row->after[i], j, count)));
    VECTOR u = kind == MEAN ? others : OF_TYPE(take)(row->u, j, count);
    VECTOR previous = kind == WAVE ? OF_TYPE(take)(row->previous, j, count) : u;
    return OF_TYPE(next)(kind, others, u, previous, (ELEMENT)row->factor);
}

/* A row of n cells. */
FOVEA_INLINE void OF_TYPE(row)(stencil_kind kind, int planes, const stencil_row *row, int64_t n) {
    ELEMENT *to = row->to;
    const ELEMENT *u = row->u;
    int64_t j = 1;
    if (row->held) {
        to[0] = u[0], to[n - 1] = u[n - 1];
    } else {
        OF_TYPE(cell)(kind, planes, row, 0, n);
        if (n > 1) OF_TYPE(cell)(kind, planes, row, n - 1, n);
    }
    if (row->stream && n > 16 * WIDTH) {
        int64_t head =
            (int64_t)(-(uintptr_t)(to + 1) % (WIDTH * sizeof(ELEMENT)) / sizeof(ELEMENT));
        if (head) V(store_n)(to + 1, OF_TYPE(cells)(kind, planes, row, 1, head), (size_t)head);
        for (j += head; j + WIDTH < n; j += WIDTH)
            V(stream)(to + j, OF_TYPE(cells)(kind, planes, row, j, WIDTH));
    }
    for (; j + WIDTH < n; j += WIDTH) V(store)(to + j, OF_TYPE(cells)(kind, planes, row, j, WIDTH));
    if (j < n - 1)
        V(store_n)(to + j, OF_TYPE(cells)(kind, planes, row, j, n - 1 - j), (size_t)(n - 1 - j));
}

static void OF_TYPE(heat_row)(const stencil_row *row, int64_t n) { OF_TYPE(row)(HEAT, 1, row, n); }
static void OF_TYPE(wave_row)(const stencil_row *row, int64_t n) { OF_TYPE(row)(WAVE, 1, row, n); }
static void OF_TYPE(mean_row)(const stencil_row *row, int64_t n) { OF_TYPE(row)(MEAN, 1, row, n); }
static void OF_TYPE(mean_row_of_space)(const stencil_row *row, int64_t n) {
    OF_TYPE(row)(MEAN, 2, row, n);
}

/* Elements that stand `from_step` apart to where they stand `to_step` apart. */
static void OF_TYPE(move_row)(const void *from, int64_t from_step, void *to, int64_t to_step,
                              int64_t n) {
    const ELEMENT *source = from;
    ELEMENT *target = to;
    if (from_step == 1 && to_step == 1)
        memcpy(target, source, (size_t)n * sizeof *target);
    else
        for (int64_t i = 0; i < n; i++) target[i * to_step] = source[i * from_step];
}

#undef ELEMENT
#undef VECTOR
#undef WIDTH
