/* Rows of one element type, for columns.h; included once for each, with ELEMENT, VECTOR (the prefix
 * of its operations) and WIDTH defined. */

#include "cpu/of_type.h"

static void OF_TYPE(add_to)(ELEMENT *sum, const ELEMENT *x, int64_t n) {
    int64_t c = 0;
    for (; c + WIDTH <= n; c += WIDTH) V(store)(sum + c, V(add)(V(load)(sum + c), V(load)(x + c)));
    for (; c < n; c++) sum[c] += x[c];
}

/* Adds eight rows to `sum`, as a tree. */
static void OF_TYPE(add_eight_rows)(ELEMENT *sum, const ELEMENT *x, int64_t row, int64_t columns) {
    int64_t c = 0;
    for (; c + WIDTH <= columns; c += WIDTH) {
        const ELEMENT *p = x + c, *q = p + 4 * row;
        VECTOR s = V(add)(V(add)(V(load)(p), V(load)(p + row)),
                          V(add)(V(load)(p + 2 * row), V(load)(p + 3 * row)));
        VECTOR t = V(add)(V(add)(V(load)(q), V(load)(q + row)),
                          V(add)(V(load)(q + 2 * row), V(load)(q + 3 * row)));
        V(store)(sum + c, V(add)(V(load)(sum + c), V(add)(s, t)));
    }
    for (; c < columns; c++) {
        const ELEMENT *p = x + c, *q = p + 4 * row;
        ELEMENT s = (p[0] + p[row]) + (p[2 * row] + p[3 * row]);
        sum[c] += s + ((q[0] + q[row]) + (q[2 * row] + q[3 * row]));
    }
}

/* sum[c] = the sum of x[r, c] over the rows; at most COLUMNS columns. Contiguous columns: blocks of
 * 128 rows, eight at a time; others: a gathered row at a time, 16 in a chain. */
static void OF_TYPE(sum_rows)(const void *from, int64_t row, int64_t column, int64_t rows,
                              int64_t columns, void *to) {
    const ELEMENT *x = from;
    ELEMENT *sum = to, other[COLUMNS];
    int64_t block = column == 1 ? 128 : 16, r = 0;
    if (rows > block) {
        int64_t half = block;
        while (2 * half < rows) half *= 2;
        OF_TYPE(sum_rows)(x, row, column, half, columns, sum);
        OF_TYPE(sum_rows)(x + half * row, row, column, rows - half, columns, other);
        OF_TYPE(add_to)(sum, other, columns);
        return;
    }
    memset(sum, 0, (size_t)columns * sizeof *sum);
    for (; column == 1 && r + 8 <= rows; r += 8)
        OF_TYPE(add_eight_rows)(sum, x + r * row, row, columns);
    for (; r < rows; r++) {
        const ELEMENT *line = x + r * row;
        for (int64_t c = 0; column != 1 && c < columns; c++) other[c] = line[c * column];
        OF_TYPE(add_to)(sum, column == 1 ? line : other, columns);
    }
}

/* sums[0] += sums[1] + ... in a tree: `count` arrays of n elements, one after the other. */
static void OF_TYPE(fold)(void *sums, int64_t count, int64_t n) {
    ELEMENT *sum = sums;
    while (count > 1) {
        int64_t half = (count + 1) / 2;
        OF_TYPE(add_to)(sum, sum + half * n, (count - half) * n);
        count = half;
    }
}

#undef ELEMENT
#undef VECTOR
#undef WIDTH
