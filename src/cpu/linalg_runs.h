/* Rows and columns of matrices of one element type, for linalg.c; included once for each, with ELEMENT,
 * VECTOR (the prefix of its operations) and WIDTH defined. */

#include "cpu/of_type.h"

/* y[i] = the product of row i of `rows` with x, two chains a row. */
FOVEA_INLINE void OF_TYPE(dots)(const int rows, const ELEMENT *a, int64_t row, const ELEMENT *x,
                                int64_t n, ELEMENT y[]) {
    VECTOR even[4], odd[4];
    int64_t j = 0;
    VF_UNROLLED for (int i = 0; i < rows; i++) even[i] = odd[i] = V(set1)(0);
    for (; j + 2 * WIDTH <= n; j += 2 * WIDTH) {
        VECTOR first = V(load)(x + j), second = V(load)(x + j + WIDTH);
        VF_UNROLLED for (int i = 0; i < rows; i++) {
            even[i] = V(fma)(V(load)(a + i * row + j), first, even[i]);
            odd[i] = V(fma)(V(load)(a + i * row + j + WIDTH), second, odd[i]);
        }
    }
    for (; j < n; j += WIDTH) {
        size_t count = (size_t)smaller(WIDTH, n - j);
        VECTOR first = V(load_n)(x + j, count);
        VF_UNROLLED for (int i = 0; i < rows; i++) even[i] =
            V(fma)(V(load_n)(a + i * row + j, count), first, even[i]);
    }
    VF_UNROLLED for (int i = 0; i < rows; i++) y[i] = V(reduce_add)(V(add)(even[i], odd[i]));
}

/* y[i * y_step] = the product of row i with x; elements of a row side by side. Rows in fours, which follow
 * from their number alone. */
static void OF_TYPE(matvec_rows)(const void *from, int64_t row, const void *with, int64_t n,
                                 int64_t rows, void *to, int64_t y_step) {
    const ELEMENT *a = from, *x = with;
    ELEMENT *y = to, sums[4];
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4) {
        OF_TYPE(dots)(4, a + i * row, row, x, n, sums);
        for (int k = 0; k < 4; k++) y[(i + k) * y_step] = sums[k];
    }
    for (; i < rows; i++) {
        OF_TYPE(dots)(1, a + i * row, row, x, n, sums);
        y[i * y_step] = sums[0];
    }
}

/* sum[r] += x[c] times column c at r, of `columns` columns. */
FOVEA_INLINE void OF_TYPE(add_columns)(const int columns, const ELEMENT *a, int64_t column,
                                       const ELEMENT *x, int64_t rows, ELEMENT *sum) {
    VECTOR factor[8];
    VF_UNROLLED for (int c = 0; c < columns; c++) factor[c] = V(set1)(x[c]);
    int64_t r = 0;
    for (; r + WIDTH <= rows; r += WIDTH) {
        VECTOR s = V(load)(sum + r);
        VF_UNROLLED for (int c = 0; c < columns; c++) s =
            V(fma)(factor[c], V(load)(a + c * column + r), s);
        V(store)(sum + r, s);
    }
    if (r == rows) return;
    size_t count = (size_t)(rows - r);
    VECTOR s = V(load_n)(sum + r, count);
    VF_UNROLLED for (int c = 0; c < columns; c++) s =
        V(fma)(factor[c], V(load_n)(a + c * column + r, count), s);
    V(store_n)(sum + r, s, count);
}

/* As matvec_rows where elements of a column stand side by side: eight columns at a time are added to a
 * block of sums in the first-level cache. */
static void OF_TYPE(matvec_columns)(const void *from, int64_t column, const void *with, int64_t n,
                                    int64_t rows, void *to, int64_t y_step) {
    const ELEMENT *a = from, *x = with;
    ELEMENT *y = to, sums[LINALG_BLOCK];
    for (int64_t first = 0; first < rows; first += LINALG_BLOCK) {
        int64_t count = smaller(LINALG_BLOCK, rows - first), c = 0;
        memset(sums, 0, sizeof sums);
        for (; c + 8 <= n; c += 8)
            OF_TYPE(add_columns)(8, a + c * column + first, column, x + c, count, sums);
        for (; c < n; c++)
            OF_TYPE(add_columns)(1, a + c * column + first, column, x + c, count, sums);
        for (int64_t r = 0; r < count; r++) y[(first + r) * y_step] = sums[r];
    }
}

/* As matvec_rows where neither rows nor columns are dense: rows are gathered a block at a time. */
static void OF_TYPE(matvec_strided)(const void *from, int64_t row, int64_t column, const void *with,
                                    int64_t n, int64_t rows, void *to, int64_t y_step) {
    const ELEMENT *a = from, *x = with;
    ELEMENT *y = to, gathered[LINALG_BLOCK];
    for (int64_t r = 0; r < rows; r++) {
        ELEMENT total = 0, sum;
        for (int64_t first = 0; first < n; first += LINALG_BLOCK) {
            int64_t count = smaller(LINALG_BLOCK, n - first);
            for (int64_t c = 0; c < count; c++) gathered[c] = a[r * row + (first + c) * column];
            OF_TYPE(dots)(1, gathered, 0, x + first, count, &sum);
            total += sum;
        }
        y[r * y_step] = total;
    }
}

static void OF_TYPE(copy)(const void *from, int64_t from_step, void *to, int64_t to_step,
                          int64_t n) {
    const ELEMENT *x = from;
    ELEMENT *y = to;
    for (int64_t i = 0; i < n; i++) y[i * to_step] = x[i * from_step];
}

/* A row of an outer product: y[j] = a b[j]. */
static void OF_TYPE(scale)(const void *factor, const void *from, int64_t n, void *to, bool stream) {
    const ELEMENT *b = from;
    ELEMENT *y = to;
    VECTOR a = V(set1)(*(const ELEMENT *)factor);
    int64_t j = 0;
    if (stream && n > 16 * WIDTH) {
        j = (int64_t)(-(uintptr_t)y % (WIDTH * sizeof *y) / sizeof *y);
        if (j) V(store_n)(y, V(mul)(a, V(load_n)(b, (size_t)j)), (size_t)j);
        for (; j + WIDTH <= n; j += WIDTH) V(stream)(y + j, V(mul)(a, V(load)(b + j)));
    }
    for (; j + WIDTH <= n; j += WIDTH) V(store)(y + j, V(mul)(a, V(load)(b + j)));
    if (j < n) V(store_n)(y + j, V(mul)(a, V(load_n)(b + j, (size_t)(n - j))), (size_t)(n - j));
}

/* What a row of a sparse matrix adds to eight chains, from entry i on, where all steps are 1: whole vectors
 * of entries. Returns the entry after them. */
#ifdef GATHER
FOVEA_INLINE int64_t OF_TYPE(gather_i32)(const ELEMENT *value, const int32_t *column,
                                         const ELEMENT *x, int64_t i, int64_t stop, ELEMENT *sum) {
    VECTOR even = V(set1)(0), odd = V(set1)(0);
    for (; i + 2 * WIDTH <= stop; i += 2 * WIDTH) {
        even = V(fma)(V(load)(value + i), GATHER(x, vi_load(column + i)), even);
        odd = V(fma)(V(load)(value + i + WIDTH), GATHER(x, vi_load(column + i + WIDTH)), odd);
    }
    for (; i + WIDTH <= stop; i += WIDTH)
        even = V(fma)(V(load)(value + i), GATHER(x, vi_load(column + i)), even);
    *sum = V(reduce_add)(V(add)(even, odd));
    return i;
}
#else
FOVEA_INLINE int64_t OF_TYPE(gather_i32)(const ELEMENT *value, const int32_t *column,
                                         const ELEMENT *x, int64_t i, int64_t stop, ELEMENT *sum) {
    (void)value, (void)column, (void)x, (void)stop, (void)sum;
    return i;
}
#endif
FOVEA_INLINE int64_t OF_TYPE(gather_i64)(const ELEMENT *value, const int64_t *column,
                                         const ELEMENT *x, int64_t i, int64_t stop, ELEMENT *sum) {
    (void)value, (void)column, (void)x, (void)stop, (void)sum;
    return i;
}

/* Rows [first, end) of a sparse matrix: eight chains a row. */
#define SPARSE(name, index, gather)                                                                \
    static void OF_TYPE(name)(const sparse_plan *p, int64_t first, int64_t end) {                  \
        const ELEMENT *value = p->value, *x = p->x;                                                \
        const index *column = p->column;                                                           \
        int64_t v = p->value_step, c = p->column_step, at = p->x_step;                             \
        for (int64_t r = first; r < end; r++) {                                                    \
            int64_t i = sparse_row_start(p, r), stop = sparse_row_start(p, r + 1);                 \
            ELEMENT sums[8] = {0};                                                                 \
            if (v == 1 && c == 1 && at == 1) i = OF_TYPE(gather)(value, column, x, i, stop, sums); \
            if (v == 1 && c == 1 && at == 1)                                                       \
                for (; i + 8 <= stop; i += 8)                                                      \
                    VF_UNROLLED for (int k = 0; k < 8; k++) sums[k] +=                             \
                        value[i + k] * x[column[i + k]];                                           \
            for (int64_t k = 0; i < stop; i++, k = (k + 1) % 8)                                    \
                sums[k] += value[i * v] * x[column[i * c] * at];                                   \
            ((ELEMENT *)p->y)[r * p->y_step] = ((sums[0] + sums[4]) + (sums[2] + sums[6])) +       \
                                               ((sums[1] + sums[5]) + (sums[3] + sums[7]));        \
        }                                                                                          \
    }
SPARSE(sparse_i32, int32_t, gather_i32)
SPARSE(sparse_i64, int64_t, gather_i64)
#undef SPARSE

/* Solves `n` rows against their triangle; x holds the right sides, `sides` of them in rows of x_row. */
static void OF_TYPE(solve_triangle)(const void *from, int64_t row, int64_t column, int64_t n,
                                    bool upper, bool unit, void *solved, int64_t x_row,
                                    int64_t sides) {
    const ELEMENT *l = from;
    for (int64_t step = 0; step < n; step++) {
        int64_t i = upper ? n - 1 - step : step, first = upper ? i + 1 : 0, end = upper ? n : i;
        ELEMENT *x = solved, *to = x + i * x_row;
        for (int64_t k = first; k < end; k++) {
            VECTOR factor = V(set1)(-l[i * row + k * column]);
            int64_t j = 0;
            for (; j + WIDTH <= sides; j += WIDTH)
                V(store)(to + j, V(fma)(factor, V(load)(x + k * x_row + j), V(load)(to + j)));
            for (; j < sides; j++) to[j] -= l[i * row + k * column] * x[k * x_row + j];
        }
        if (unit) continue;
        ELEMENT pivot = l[i * row + i * column];
        for (int64_t j = 0; j < sides; j++) to[j] /= pivot;
    }
}

#undef GATHER
#undef ELEMENT
#undef VECTOR
#undef WIDTH
