/* Products of matrices of one element type, for gemm.h; included once for each, with ELEMENT, VECTOR (the
 * prefix of its operations) and WIDTH defined. */

#include "cpu/of_type.h"

/* Columns of a tile; rows that lie side by side in a packed panel of a. */
enum {
    OF_TYPE(TILE_COLUMNS) = GEMM_VECTORS * WIDTH,
    OF_TYPE(PANEL) = WIDTH > GEMM_ROWS ? WIDTH : GEMM_ROWS,
};

/* ---- The register kernel ------------------------------------------------------------------------- */

/* acc[i][v] += a[i * row + l * inner] b[l * b_row + v * WIDTH ...] for first <= l < end, one chain each. What is
 * wanted next is fetched meanwhile, as many bytes from `ahead` on as the rows take in a. */
FOVEA_INLINE void OF_TYPE(multiply)(const int rows, const int vectors, const gemm_tile *t,
                                    int64_t first, int64_t end,
                                    VECTOR acc[GEMM_ROWS][GEMM_VECTORS]) {
    enum { LINES = GEMM_ROWS * sizeof(ELEMENT) / 32 }; /* of two steps */
    const ELEMENT *a = (const ELEMENT *)t->a + first * t->a_inner;
    const ELEMENT *b = (const ELEMENT *)t->b + first * t->b_row;
    const char *ahead = (const char *)(t->ahead ? t->ahead : t->a) + first / 2 * LINES * 64;
    const int64_t row = t->a_row, inner = t->a_inner, b_row = t->b_row;
    for (int64_t l = first; l < end; l++, a += inner, b += b_row) {
        VECTOR right[GEMM_VECTORS];
        VF_UNROLLED for (int v = 0; v < vectors; v++) right[v] = V(load)(b + v * WIDTH);
        if (VF_WIDTH > 1 && l % 2 == 0) {
            VF_UNROLLED for (int i = 0; i < LINES; i++) __builtin_prefetch(ahead + i * 64, 0, 3);
            ahead += LINES * 64;
        }
        VF_UNROLLED for (int i = 0; i < rows; i++) {
            VECTOR left = V(set1)(a[i * row]);
            VF_UNROLLED for (int v = 0; v < vectors; v++) acc[i][v] =
                V(fma)(left, right[v], acc[i][v]);
        }
    }
}

/* n elements of a row of the result: the first block scales them and adds beta c, the others add. */
FOVEA_INLINE void OF_TYPE(put)(const gemm_tile *t, int i, int64_t j, VECTOR sum, int64_t n) {
    ELEMENT *y = (ELEMENT *)t->y + i * t->y_row + j, scale = (ELEMENT)t->alpha;
    VECTOR alpha = V(set1)(scale);
    if (t->add) {
        VECTOR before = n == WIDTH ? V(load)(y) : V(load_n)(y, (size_t)n);
        sum = scale == 1 ? V(add)(before, sum) : V(fma)(alpha, sum, before);
    } else {
        if (scale != 1) sum = V(mul)(alpha, sum);
        if (t->c) {
            const ELEMENT *c = (const ELEMENT *)t->c + i * t->c_row + j * t->c_column;
            ELEMENT gathered[WIDTH] = {0};
            if (t->c_column != 1)
                for (int64_t e = 0; e < n; e++) gathered[e] = c[e * t->c_column];
            if (t->c_column != 1) c = gathered;
            VECTOR more = n == WIDTH ? V(load)(c) : V(load_n)(c, (size_t)n);
            sum = V(fma)(V(set1)((ELEMENT)t->beta), more, sum);
        }
    }
    if (n == WIDTH)
        V(store)(y, sum);
    else
        V(store_n)(y, sum, (size_t)n);
}

/* The result of a tile of whole vectors, unscaled, without c: all but a few tiles of most products. */
FOVEA_INLINE void OF_TYPE(put_plain)(const int rows, const int vectors, const gemm_tile *t,
                                     gemm_plain way, VECTOR acc[GEMM_ROWS][GEMM_VECTORS]) {
    ELEMENT *y = t->y;
    const int64_t y_row = t->y_row;
    VF_UNROLLED for (int i = 0; i < rows; i++, y += y_row)
        VF_UNROLLED for (int v = 0; v < vectors; v++) {
        if (way == GEMM_ADD)
            V(store)(y + v * WIDTH, V(add)(V(load)(y + v * WIDTH), acc[i][v]));
        else if (way == GEMM_STREAM)
            V(stream)(y + v * WIDTH, acc[i][v]);
        else
            V(store)(y + v * WIDTH, acc[i][v]);
    }
}

FOVEA_INLINE void OF_TYPE(tile)(const int rows, const int vectors, const gemm_tile *from) {
    const gemm_tile t = *from; /* stores of vectors may alias what is behind the pointer */
    gemm_plain way = t.last == WIDTH ? t.way : GEMM_ANY;
    const int64_t late = larger(t.k - GEMM_LATE, 0);
    VECTOR acc[GEMM_ROWS][GEMM_VECTORS];
    VF_UNROLLED for (int i = 0; i < rows; i++) VF_UNROLLED for (int v = 0; v < vectors; v++)
        acc[i][v] = V(set1)(0);
    OF_TYPE(multiply)(rows, vectors, &t, 0, late, acc);
    for (int i = 0; i < rows && VF_WIDTH > 1 && way != GEMM_STREAM; i++)
        for (int v = 0; v < vectors; v++)
            __builtin_prefetch((const ELEMENT *)t.y + i * t.y_row + v * WIDTH, 1, 3);
    OF_TYPE(multiply)(rows, vectors, &t, late, t.k, acc);
    if (way == GEMM_ADD)
        OF_TYPE(put_plain)(rows, vectors, &t, GEMM_ADD, acc);
    else if (way == GEMM_STORE)
        OF_TYPE(put_plain)(rows, vectors, &t, GEMM_STORE, acc);
    else if (way == GEMM_STREAM)
        OF_TYPE(put_plain)(rows, vectors, &t, GEMM_STREAM, acc);
    else
        VF_UNROLLED for (int i = 0; i < rows; i++) VF_UNROLLED for (int v = 0; v < vectors; v++)
            OF_TYPE(put)(&t, i, v * WIDTH, acc[i][v], v < vectors - 1 ? WIDTH : t.last);
}

#define TILE(rows, vectors)                                                                        \
    static void OF_TYPE(tile_##rows##_##vectors)(const gemm_tile *t) {                             \
        OF_TYPE(tile)(rows, vectors, t);                                                           \
    }
#define TILES(rows) TILE(rows, 1) TILE(rows, 2) TILE(rows, 3)
TILES(1)
TILES(2)
TILES(4)
#if GEMM_ROWS == 8
TILES(8)
#endif
#undef TILE
#undef TILES

/* Some rows of a panel of at most TILE_COLUMNS columns: eight at a time, then four, two and one. */
static void OF_TYPE(strip)(gemm_tile *t, int64_t rows, int64_t columns) {
    typedef void tile_function(const gemm_tile *);
    static tile_function *const tiles[4][GEMM_VECTORS] = {
        {OF_TYPE(tile_1_1), OF_TYPE(tile_1_2), OF_TYPE(tile_1_3)},
        {OF_TYPE(tile_2_1), OF_TYPE(tile_2_2), OF_TYPE(tile_2_3)},
        {OF_TYPE(tile_4_1), OF_TYPE(tile_4_2), OF_TYPE(tile_4_3)},
#if GEMM_ROWS == 8
        {OF_TYPE(tile_8_1), OF_TYPE(tile_8_2), OF_TYPE(tile_8_3)},
#endif
    };
    int64_t vectors = divide_up(columns, WIDTH);
    t->last = columns - (vectors - 1) * WIDTH;
    for (int shift = GEMM_ROWS == 8 ? 3 : 2; shift >= 0; shift--)
        for (int64_t step = 1 << shift; rows >= step; rows -= step) {
            tiles[shift][vectors - 1](t);
            t->a = (const ELEMENT *)t->a + step * t->a_row;
            t->ahead += step * t->ahead_row;
            t->y = (ELEMENT *)t->y + step * t->y_row;
            if (t->c) t->c = (const ELEMENT *)t->c + step * t->c_row;
        }
}

/* ---- Packing --------------------------------------------------------------------------------------- */

/* A square of WIDTH lanes, which stand `lane` apart, and WIDTH steps, side by side: step l to
 * to[l * width]. */
FOVEA_INLINE void OF_TYPE(pack_square)(const ELEMENT *from, int64_t lane, ELEMENT *to,
                                       int64_t width) {
    VECTOR x[WIDTH];
    VF_UNROLLED for (int i = 0; i < WIDTH; i++) x[i] = V(load)(from + i * lane);
    V(transpose)(x);
    VF_UNROLLED for (int i = 0; i < WIDTH; i++) V(store)(to + i * width, x[i]);
}

/* Lanes that are dense: a step after the other, all its vectors at once, since steps lie far apart in memory,
 * often a page each. */
static void OF_TYPE(pack_dense)(const ELEMENT *from, int64_t step, int64_t vectors, int64_t steps,
                                int64_t width, ELEMENT *to) {
    for (int64_t l = 0; l < steps; l++, from += step, to += width) {
        if (vectors == GEMM_VECTORS) {
            VF_UNROLLED for (int v = 0; v < GEMM_VECTORS; v++)
                V(store)(to + v * WIDTH, V(load)(from + v * WIDTH));
        } else {
            for (int64_t v = 0; v < vectors; v++)
                V(store)(to + v * WIDTH, V(load)(from + v * WIDTH));
        }
    }
}

/* `lanes` of `width` lanes, `steps` times: to[l * width + i] = from[i * lane + l * step]; lanes from
 * `lanes` on become 0. */
static void OF_TYPE(pack)(const void *source, int64_t lane, int64_t step, int64_t lanes,
                          int64_t steps, int64_t width, void *target) {
    const ELEMENT *from = source;
    ELEMENT *to = target;
    int64_t i = 0;
    if (lane == 1) {
        OF_TYPE(pack_dense)(from, step, lanes / WIDTH, steps, width, to);
        i = lanes / WIDTH * WIDTH;
    }
    for (; i + WIDTH <= lanes && step == 1; i += WIDTH) {
        int64_t l = 0;
        for (; l + WIDTH <= steps; l += WIDTH)
            OF_TYPE(pack_square)(from + i * lane + l, lane, to + l * width + i, width);
        for (; l < steps; l++)
            for (int64_t j = i; j < i + WIDTH; j++) to[l * width + j] = from[j * lane + l * step];
    }
    for (int64_t l = 0; i < width && l < steps; l++)
        for (int64_t j = i; j < width; j++)
            to[l * width + j] = j < lanes ? from[j * lane + l * step] : 0;
}

/* ---- Blocks ------------------------------------------------------------------------------------------ */

/* Columns of the panel before which so many are left. Four vectors are two panels of two: a tile of one has
 * too few chains for the multipliers, and took as long as one of two. */
static inline int64_t OF_TYPE(panel_columns)(int64_t left) {
    bool even = GEMM_VECTORS == 3 && divide_up(left, WIDTH) == 4;
    return smaller(even ? 2 * WIDTH : (int64_t)OF_TYPE(TILE_COLUMNS), left);
}

/* A panel of b, in the form in which the kernel takes it. */
static const void *OF_TYPE(panel_of_b)(const gemm_matrix *m, const gemm_region *r, int64_t j,
                                       int64_t columns, int64_t l, int64_t k, void *packed,
                                       int64_t *b_row) {
    const ELEMENT *b = (const ELEMENT *)m->b + l * m->b_row + j * m->b_column;
    *b_row = m->b_row;
    if (!r->pack_b && m->b_column == 1 && columns % WIDTH == 0) return b;
    *b_row = divide_up(columns, WIDTH) * WIDTH;
    OF_TYPE(pack)(b, m->b_column, m->b_row, columns, k, *b_row, packed);
    return packed;
}

/* Fetches part `part` of `parts` of the panel of b after this one: its rows lie far apart, and what packs
 * them would wait for each. */
static void OF_TYPE(fetch_b)(const gemm_matrix *m, const gemm_region *r, int64_t j, int64_t l,
                             int64_t k, int64_t part, int64_t parts) {
    if (VF_WIDTH == 1 || j >= r->column_end || m->b_column != 1) return;
    const ELEMENT *b = (const ELEMENT *)m->b + l * m->b_row + j;
    int64_t columns = OF_TYPE(panel_columns)(r->column_end - j);
    for (int64_t i = k * part / parts; i < k * (part + 1) / parts; i++)
        for (int64_t c = 0; c < columns; c += 64 / (int64_t)sizeof *b)
            __builtin_prefetch(b + i * m->b_row + c, 0, 2);
}

/* Rows [i, i + rows) of a, inner extent [l, l + k), in panels. */
static void OF_TYPE(pack_a)(const gemm_matrix *m, int64_t i, int64_t rows, int64_t l, int64_t k,
                            ELEMENT *packed) {
    enum { PANEL = OF_TYPE(PANEL), LINE = 64 / sizeof(ELEMENT) };
    const ELEMENT *a = (const ELEMENT *)m->a + i * m->a_row + l * m->a_inner;
    for (int64_t p = 0; p < rows; p += PANEL, a += PANEL * m->a_row) {
        for (int64_t r = PANEL; VF_WIDTH > 1 && m->a_inner == 1 && r < smaller(2 * PANEL, rows - p);
             r++)
            for (int64_t c = 0; c < k; c += LINE) __builtin_prefetch(a + r * m->a_row + c, 0, 3);
        OF_TYPE(pack)(a, m->a_row, m->a_inner, smaller(PANEL, rows - p), k, PANEL, packed + p * k);
    }
}

/* Rows [i, i + rows) by all columns of the region, inner extent [l, l + k). */
static void OF_TYPE(block)(const gemm_matrix *m, const gemm_region *r, int64_t i, int64_t rows,
                           int64_t l, int64_t k, void *packed_a, void *packed_b) {
    enum { PANEL = OF_TYPE(PANEL) };
    const ELEMENT *a = (const ELEMENT *)m->a + i * m->a_row + l * m->a_inner;
    if (r->pack_a) OF_TYPE(pack_a)(m, i, rows, l, k, packed_a);
    gemm_tile tile = {.k = k, .y_row = m->y_row, .alpha = m->alpha, .beta = m->beta};
    tile.c_row = m->c_row, tile.c_column = m->c_column, tile.add = l > 0;
    tile.way = m->alpha != 1 || (m->c && l == 0) ? GEMM_ANY
               : l > 0                           ? GEMM_ADD
               : r->stream                       ? GEMM_STREAM
                                                 : GEMM_STORE;
    tile.a_row = r->pack_a ? 1 : m->a_row, tile.a_inner = r->pack_a ? PANEL : m->a_inner;
    int64_t bytes = k * (int64_t)sizeof(ELEMENT),
            step = r->pack_a ? PANEL : smaller(rows, 2 * GEMM_ROWS);
    int64_t strips = divide_up(r->column_end - r->column, OF_TYPE(TILE_COLUMNS)) * rows, strip = 0;
    for (int64_t j = r->column, columns; j < r->column_end; j += columns, strip += rows) {
        columns = OF_TYPE(panel_columns)(r->column_end - j);
        const void *b = OF_TYPE(panel_of_b)(m, r, j, columns, l, k, packed_b, &tile.b_row);
        for (int64_t p = 0; p < rows; p += step) {
            OF_TYPE(fetch_b)(m, r, j + columns, l, k, p / step, divide_up(rows, step));
            tile.a = r->pack_a ? (const ELEMENT *)packed_a + p * k : a + p * m->a_row;
            tile.b = b;
            tile.y = (ELEMENT *)m->y + (i + p) * m->y_row + j;
            tile.c = m->c ? (const ELEMENT *)m->c + (i + p) * m->c_row + j * m->c_column : NULL;
            tile.ahead = (const char *)tile.a + step * bytes, tile.ahead_row = bytes;
            if (m->next_bytes[0]) gemm_fetch_next(m, &tile, strip + p, strips);
            OF_TYPE(strip)(&tile, smaller(step, rows - p), columns);
        }
    }
}

static void OF_TYPE(region)(const gemm_matrix *m, const gemm_region *r, char *memory) {
    void *packed_b = memory, *packed_a = memory + GEMM_PANEL_BYTES;
    int64_t height = r->block_rows, inner = gemm_inner(m->k);
    for (int64_t i = r->row; i < r->row_end; i += height)
        for (int64_t l = 0; l == 0 || l < m->k; l += inner) OF_TYPE(block)
    (m, r, i, smaller(height, r->row_end - i), l, smaller(inner, m->k - l), packed_a, packed_b);
}

#undef ELEMENT
#undef VECTOR
#undef WIDTH
