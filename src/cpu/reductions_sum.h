/* Sums of one element type; included by reductions.c once for each, with ELEMENT, VECTOR (the
 * prefix of its operations) and WIDTH defined. */

#define JOINED(a, b) a##b
#define JOIN(a, b) JOINED(a, b)
#define OF_TYPE(name) JOIN(name##_, ELEMENT)
#define V(operation) JOIN(VECTOR, JOIN(_, operation))

/* A contiguous run: eight accumulators in chains of at most 32 under a tree. A chain of 32 in eight
 * vectors keeps R(n) for any data, since whole chains need n >= 256 WIDTH. */
static double OF_TYPE(sum_contiguous)(const ELEMENT *x, int64_t n) {
    enum { W = WIDTH, STEP = 8 * W, CHAIN = W == 1 ? 16 : 32 };
    V(tree) tree;
    tree.count = 0;
    while (n >= STEP) {
        int64_t steps = smaller(n / STEP, CHAIN);
        VECTOR s0 = V(load)(x), s1 = V(load)(x + W), s2 = V(load)(x + 2 * W);
        VECTOR s3 = V(load)(x + 3 * W), s4 = V(load)(x + 4 * W), s5 = V(load)(x + 5 * W);
        VECTOR s6 = V(load)(x + 6 * W), s7 = V(load)(x + 7 * W);
        for (int64_t i = 1; i < steps; i++) {
            const ELEMENT *p = x + i * STEP;
            s0 = V(add)(s0, V(load)(p)), s1 = V(add)(s1, V(load)(p + W));
            s2 = V(add)(s2, V(load)(p + 2 * W)), s3 = V(add)(s3, V(load)(p + 3 * W));
            s4 = V(add)(s4, V(load)(p + 4 * W)), s5 = V(add)(s5, V(load)(p + 5 * W));
            s6 = V(add)(s6, V(load)(p + 6 * W)), s7 = V(add)(s7, V(load)(p + 7 * W));
        }
        s0 = V(add)(V(add)(s0, s1), V(add)(s2, s3));
        s4 = V(add)(V(add)(s4, s5), V(add)(s6, s7));
        V(tree_push)(&tree, V(add)(s0, s4));
        x += steps * STEP, n -= steps * STEP;
    }
    VECTOR rest = V(set1)(0);
    for (; n >= W; x += W, n -= W) rest = V(add)(rest, V(load)(x));
    if (n > 0) rest = V(add)(rest, V(load_n)(x, (size_t)n));
    V(tree_push)(&tree, rest);
    return (double)V(reduce_add)(V(tree_total)(&tree));
}

/* A run of any stride. */
static double OF_TYPE(sum_run)(const void *from, int64_t stride, int64_t n) {
    ELEMENT block[GATHERED];
    const ELEMENT *x = from;
    if (stride == 1 || n == 1) return OF_TYPE(sum_contiguous)(x, n);
    double_tree tree;
    tree.count = 0;
    for (int64_t i = 0; i < n; i += GATHERED) {
        int64_t count = smaller(GATHERED, n - i);
        for (int64_t k = 0; k < count; k++) block[k] = x[(i + k) * stride];
        double_tree_push(&tree, OF_TYPE(sum_contiguous)(block, count));
    }
    return double_tree_total(&tree);
}

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
#undef V
#undef OF_TYPE
#undef JOIN
#undef JOINED
