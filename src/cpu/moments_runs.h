/* Blocks of rows of one element type, for moments.h; included once for each, after gemm.h, with ELEMENT,
 * VECTOR (the prefix of its operations) and WIDTH defined. */

#include "cpu/of_type.h"

/* `vectors` vectors of a row, of which the last has n elements. */
FOVEA_INLINE void OF_TYPE(load_columns)(const int vectors, int64_t n, const ELEMENT *x,
                                        VECTOR *to) {
    VF_UNROLLED for (int v = 0; v < vectors; v++) to[v] = v == vectors - 1 && n < WIDTH
                                                              ? V(load_n)(x + v * WIDTH, (size_t)n)
                                                              : V(load)(x + v * WIDTH);
}

/* sum = sum over the rows of x - origin, in one chain a column. */
FOVEA_INLINE void OF_TYPE(sum_columns)(const int vectors, int64_t n, const ELEMENT *x,
                                       const ELEMENT *origin, int64_t row, int64_t rows,
                                       ELEMENT *sum) {
    VECTOR first[4], s[4], a[4];
    OF_TYPE(load_columns)(vectors, n, origin, first);
    VF_UNROLLED for (int v = 0; v < vectors; v++) s[v] = V(set1)(0);
    for (int64_t i = 0; i < rows; i++, x += row) {
        OF_TYPE(load_columns)(vectors, n, x, a);
        VF_UNROLLED for (int v = 0; v < vectors; v++) s[v] = V(add)(s[v], V(sub)(a[v], first[v]));
    }
    VF_UNROLLED for (int v = 0; v < vectors; v++) V(store)(sum + v * WIDTH, s[v]);
}

/* Means of `columns` columns of `rows` rows, as the first row and what the mean is more: of equal elements
 * that is 0. Sums of the differences run in chains of 64, which are added in double. */
static void OF_TYPE(means)(const void *from, int64_t row, int64_t column, int64_t rows,
                           int64_t columns, double *rest) {
    enum { CHAIN = 64 };
    const ELEMENT *x = from, *r = from;
    ELEMENT sum[MOMENTS_TILE];
    for (int64_t j = 0; j < columns; j++) rest[j] = 0;
    for (int64_t first = 0; first < rows; first += CHAIN, r += CHAIN * row) {
        int64_t count = smaller(CHAIN, rows - first), j = 0;
        for (; column == 1 && j + 4 * WIDTH <= columns; j += 4 * WIDTH)
            OF_TYPE(sum_columns)(4, WIDTH, r + j, x + j, row, count, sum + j);
        for (; column == 1 && j < columns; j += WIDTH)
            OF_TYPE(sum_columns)(1, smaller(WIDTH, columns - j), r + j, x + j, row, count, sum + j);
        for (; j < columns; j++) {
            sum[j] = 0;
            for (int64_t i = 0; i < count; i++) sum[j] += r[i * row + j * column] - x[j * column];
        }
        for (j = 0; j < columns; j++) rest[j] += (double)sum[j];
    }
    for (int64_t j = 0; j < columns; j++) rest[j] /= (double)rows;
}

/* Vectors of columns less origin and offset; sum: of what is left. Lanes from n on are those of zeros. */
FOVEA_INLINE void OF_TYPE(centre_vectors)(const int vectors, int64_t n, const ELEMENT *x,
                                          const ELEMENT *origin, const ELEMENT *offset, int64_t row,
                                          int64_t rows, ELEMENT *to, int64_t pitch, ELEMENT *sum) {
    VECTOR first[4], rest[4], s[4], a[4];
    OF_TYPE(load_columns)(vectors, n, origin, first);
    OF_TYPE(load_columns)(vectors, n, offset, rest);
    VF_UNROLLED for (int v = 0; v < vectors; v++) s[v] = V(set1)(0);
    for (int64_t i = 0; i < rows; i++, x += row, to += pitch) {
        OF_TYPE(load_columns)(vectors, n, x, a);
        VF_UNROLLED for (int v = 0; v < vectors; v++) {
            a[v] = V(sub)(V(sub)(a[v], first[v]), rest[v]);
            s[v] = V(add)(s[v], a[v]);
            V(store)(to + v * WIDTH, a[v]);
        }
    }
    VF_UNROLLED for (int v = 0; v < vectors; v++) V(store)(sum + v * WIDTH, s[v]);
}

/* to[i * pitch + j] = x[i, j] less what is near its mean, x[first, j] + rest[j]; columns from `columns` to
 * the next whole vector become 0. The sums of what is left of the columns are added to left_over. */
static void OF_TYPE(centre_columns)(const void *from, const void *first, int64_t row,
                                    int64_t column, int64_t rows, int64_t columns,
                                    const double *rest, void *centred, int64_t pitch,
                                    double *left_over) {
    const ELEMENT *x = from, *origin = first;
    ELEMENT offset[MOMENTS_TILE], sum[MOMENTS_TILE], *to = centred;
    int64_t j = 0;
    for (; j < columns; j++) offset[j] = (ELEMENT)rest[j];
    for (j = 0; column == 1 && j + 4 * WIDTH <= columns; j += 4 * WIDTH) OF_TYPE(centre_vectors)
    (4, WIDTH, x + j, origin + j, offset + j, row, rows, to + j, pitch, sum + j);
    for (; column == 1 && j < columns; j += WIDTH) OF_TYPE(centre_vectors)
    (1, smaller(WIDTH, columns - j), x + j, origin + j, offset + j, row, rows, to + j, pitch,
     sum + j);
    for (; j < columns; j++) {
        ELEMENT mean = origin[j * column];
        sum[j] = 0;
        for (int64_t i = 0; i < rows; i++) {
            ELEMENT left = x[i * row + j * column] - mean - offset[j];
            to[i * pitch + j] = left, sum[j] += left;
        }
    }
    for (; column != 1 && j % WIDTH != 0; j++)
        for (int64_t i = 0; i < rows; i++) to[i * pitch + j] = 0;
    for (j = 0; j < columns; j++) left_over[j] += (double)sum[j];
}

/* sum[i * pitch + j] += sum over the rows of a[., i] b[., j] for tiles that touch j >= i + from on; the
 * same panel of b with all rows of tiles. */
static void OF_TYPE(add_products)(const void *left, const void *right, int64_t rows, int64_t m,
                                  int64_t n, bool diagonal, void *sum, int64_t pitch) {
    const ELEMENT *a = left, *b = right;
    gemm_tile tile = {.a_row = 1,
                      .a_inner = pitch,
                      .b_row = pitch,
                      .y_row = pitch,
                      .k = rows,
                      .alpha = 1,
                      .add = true,
                      .way = GEMM_ADD};
    for (int64_t j = 0, columns; j < n; j += columns) {
        columns = OF_TYPE(panel_columns)(n - j);
        int64_t wanted = diagonal ? smaller(m, j + columns) : m;
        tile.a = a, tile.b = b + j, tile.y = (ELEMENT *)sum + j;
        OF_TYPE(strip)(&tile, wanted, columns);
    }
}

/* to = from - scale with. Eight at a time, which compilers put into vectors. */
static void OF_TYPE(widen)(const void *from, double scale, const double *restrict with, int64_t n,
                           double *restrict to) {
    const ELEMENT *restrict x = from;
    int64_t j = 0;
    for (; j + 8 <= n; j += 8)
        for (int64_t k = j; k < j + 8; k++) to[k] = (double)x[k] - scale * with[k];
    for (; j < n; j++) to[j] = (double)x[j] - scale * with[j];
}

/* n values to elements `step` apart, and to their mirror images. */
static void OF_TYPE(store_moments)(void *to, int64_t at, int64_t step, int64_t image,
                                   int64_t image_step, const double *value, int64_t n) {
    ELEMENT *y = (ELEMENT *)to + at, *z = (ELEMENT *)to + image;
    for (int64_t j = 0; j < n; j++) y[j * step] = z[j * image_step] = (ELEMENT)value[j];
}

static double OF_TYPE(element)(const void *from, int64_t at) {
    return (double)((const ELEMENT *)from)[at];
}

#undef ELEMENT
#undef VECTOR
#undef WIDTH
