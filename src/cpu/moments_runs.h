/* Blocks of rows of one element type, for moments.h; included once for each, after gemm.h, with ELEMENT,
 * VECTOR (the prefix of its operations) and WIDTH defined. */

#include "cpu/of_type.h"

/* Means of `columns` columns of `rows` rows, as the first row and what the mean is more: of equal elements
 * that is 0. Sums of the differences run in chains of 64, which are added in double. */
static void OF_TYPE(means)(const void *from, int64_t row, int64_t column, int64_t rows,
                           int64_t columns, double *rest) {
    const ELEMENT *x = from;
    ELEMENT sum[MOMENTS_TILE];
    for (int64_t j = 0; j < columns; j++) rest[j] = 0;
    for (int64_t first = 0; first < rows; first += 64) {
        int64_t stop = smaller(first + 64, rows);
        memset(sum, 0, (size_t)columns * sizeof *sum);
        for (int64_t i = first; i < stop; i++) {
            const ELEMENT *r = x + i * row;
            int64_t j = 0;
            for (; column == 1 && j + WIDTH <= columns; j += WIDTH)
                V(store)(sum + j, V(add)(V(load)(sum + j), V(sub)(V(load)(r + j), V(load)(x + j))));
            for (; j < columns; j++) sum[j] += r[j * column] - x[j * column];
        }
        for (int64_t j = 0; j < columns; j++) rest[j] += (double)sum[j];
    }
    for (int64_t j = 0; j < columns; j++) rest[j] /= (double)rows;
}

/* to[i * pitch + j] = x[i, j] less what is near its mean, x[first, j] + rest[j]; columns from `columns` to
 * the next whole vector become 0. */
static void OF_TYPE(centre_columns)(const void *from, const void *first, int64_t row,
                                    int64_t column, int64_t rows, int64_t columns,
                                    const double *rest, void *centred, int64_t pitch) {
    const ELEMENT *x = from, *origin = first;
    ELEMENT mean[MOMENTS_TILE], offset[MOMENTS_TILE], *to = centred;
    int64_t whole = divide_up(columns, WIDTH) * WIDTH;
    for (int64_t j = 0; j < columns; j++)
        mean[j] = origin[j * column], offset[j] = (ELEMENT)rest[j];
    for (int64_t i = 0; i < rows; i++, x += row, to += pitch) {
        int64_t j = 0;
        for (; column == 1 && j + WIDTH <= columns; j += WIDTH) V(store)
        (to + j, V(sub)(V(sub)(V(load)(x + j), V(load)(mean + j)), V(load)(offset + j)));
        for (; j < columns; j++) to[j] = x[j * column] - mean[j] - offset[j];
        for (; j < whole; j++) to[j] = 0;
    }
}

/* sum[i * pitch + j] += sum over the rows of a[., i] b[., j] for tiles that touch j >= i + from on; the
 * same panel of b with all rows of tiles. */
static void OF_TYPE(add_products)(const void *left, const void *right, int64_t rows, int64_t m,
                                  int64_t n, bool diagonal, void *sum, int64_t pitch) {
    enum { COLUMNS = OF_TYPE(TILE_COLUMNS) };
    const ELEMENT *a = left, *b = right;
    gemm_tile tile = {.a_row = 1,
                      .a_inner = pitch,
                      .b_row = pitch,
                      .y_row = pitch,
                      .k = rows,
                      .alpha = 1,
                      .add = true,
                      .way = GEMM_ADD};
    for (int64_t j = 0; j < n; j += COLUMNS) {
        int64_t columns = smaller(COLUMNS, n - j);
        int64_t wanted = diagonal ? smaller(m, j + columns) : m;
        tile.a = a, tile.b = b + j, tile.y = (ELEMENT *)sum + j;
        OF_TYPE(strip)(&tile, wanted, columns);
    }
}

/* Sums of the columns of centred rows, in double. */
static void OF_TYPE(left_over)(const void *centred, int64_t rows, int64_t columns, int64_t pitch,
                               double *sum) {
    const ELEMENT *x = centred;
    ELEMENT chain[MOMENTS_TILE];
    memset(chain, 0, (size_t)(divide_up(columns, WIDTH) * WIDTH) * sizeof *chain);
    for (int64_t i = 0; i < rows; i++, x += pitch)
        for (int64_t j = 0; j < columns; j += WIDTH)
            V(store)(chain + j, V(add)(V(load)(chain + j), V(load)(x + j)));
    for (int64_t j = 0; j < columns; j++) sum[j] += (double)chain[j];
}

static void OF_TYPE(widen)(const void *from, int64_t n, double *to) {
    for (int64_t j = 0; j < n; j++) to[j] = (double)((const ELEMENT *)from)[j];
}

static void OF_TYPE(store_moment)(void *to, int64_t at, double value) {
    ((ELEMENT *)to)[at] = (ELEMENT)value;
}

static double OF_TYPE(element)(const void *from, int64_t at) {
    return (double)((const ELEMENT *)from)[at];
}

#undef ELEMENT
#undef VECTOR
#undef WIDTH
