/* Products of matrices of one element type, for gemm.h; included once for each, with ELEMENT, VECTOR (the
 * prefix of its operations) and WIDTH defined. */

#include "cpu/of_type.h"

/* Columns of a tile; rows that lie side by side in a packed panel of a. */
enum {
    OF_TYPE(TILE_COLUMNS) = GEMM_VECTORS * WIDTH,
    OF_TYPE(PANEL) = WIDTH > GEMM_ROWS ? WIDTH : GEMM_ROWS,
};

/* ---- The register kernel ------------------------------------------------------------------------- */

/* acc[i][v] += a[i * row + l * inner] b[l * b_row + v * WIDTH ...] for l < steps, one chain each. */
FOVEA_INLINE void OF_TYPE(multiply)(const int rows, const int vectors, const gemm_tile *t,
                                    const ELEMENT *a, const ELEMENT *b, int64_t steps,
                                    VECTOR acc[GEMM_ROWS][GEMM_VECTORS]) {
    const int64_t row = t->a_row, inner = t->a_inner, b_row = t->b_row;
    const int64_t next = inner == 1 ? row : inner;
    const ELEMENT *ahead = a + GEMM_STEPS * inner;
    for (int64_t l = 0; l < steps; l++, a += inner, b += b_row) {
        VECTOR right[GEMM_VECTORS];
        VF_UNROLLED for (int v = 0; v < vectors; v++) right[v] = V(load)(b + v * WIDTH);
        if (VF_WIDTH > 1) __builtin_prefetch(ahead, 0, 3), ahead += next;
        VF_UNROLLED for (int i = 0; i < rows; i++) {
            VECTOR left = V(set1)(a[i * row]);
            VF_UNROLLED for (int v = 0; v < vectors; v++) acc[i][v] =
                V(fma)(left, right[v], acc[i][v]);
        }
    }
}

/* The lines in which vectors end, to be written or else read; the one in which the first begins is that in which the
 * panel before ends. */
FOVEA_INLINE void OF_TYPE(fetch_row)(const int vectors, const bool write, const ELEMENT *x) {
    VF_UNROLLED for (int v = 1; v <= vectors; v++) {
        if (write)
            __builtin_prefetch(x + v * WIDTH - 1, 1, 3);
        else
            __builtin_prefetch(x + v * WIDTH - 1, 0, 3);
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

/* A group of rows of the next panel of b. */
FOVEA_INLINE void OF_TYPE(copy_rows)(gemm_copy *c) {
    const ELEMENT *from = c->from;
    ELEMENT *to = c->to;
    for (int64_t i = 0; i < c->count && c->rows > 0; i++, c->rows--) {
        OF_TYPE(fetch_row)(GEMM_VECTORS, false, from + GEMM_AHEAD * c->row);
        VF_UNROLLED for (int v = 0; v < GEMM_VECTORS; v++)
            V(store)(to + v * WIDTH, V(load)(from + v * WIDTH));
        from += c->row, to += GEMM_VECTORS * WIDTH;
    }
    c->from = from, c->to = to;
}

/* The rows of the result are fetched one before each of the last groups of steps: all at once they would wait for
 * each other, and at the beginning of the tile b would push them out again. */
FOVEA_INLINE void OF_TYPE(tile)(const int rows, const int vectors, gemm_tile *from) {
    const gemm_tile t = *from; /* stores of vectors may alias what is behind the pointer */
    gemm_plain way = t.last == WIDTH ? t.way : GEMM_ANY;
    const bool fetches = VF_WIDTH > 1 && way != GEMM_STREAM;
    const ELEMENT *a = t.a, *b = t.b, *y = t.y;
    const char *line = t.fetch.from;
    int64_t left = t.k / GEMM_STEPS, rest = t.k % GEMM_STEPS, groups = t.fetch.groups;
    VECTOR acc[GEMM_ROWS][GEMM_VECTORS];
    VF_UNROLLED for (int i = 0; i < rows; i++) VF_UNROLLED for (int v = 0; v < vectors; v++)
        acc[i][v] = V(set1)(0);
    for (int i = (int)smaller(left, rows); fetches && i < rows; i++, y += t.y_row)
        OF_TYPE(fetch_row)(vectors, true, y);
    OF_TYPE(multiply)(rows, vectors, &t, a, b, rest, acc);
    a += rest * t.a_inner, b += rest * t.b_row;
    for (; left > 0; left--, a += GEMM_STEPS * t.a_inner, b += GEMM_STEPS * t.b_row) {
        if (VF_WIDTH > 1 && groups-- > 0) {
            for (int64_t i = 0; i < t.fetch.count; i++)
                __builtin_prefetch(line + i * t.fetch.stride, 0, 2);
            line += t.fetch.step;
        }
        if (VF_WIDTH > 1 && from->copy.rows > 0) OF_TYPE(copy_rows)(&from->copy);
        if (fetches && left <= rows) OF_TYPE(fetch_row)(vectors, true, y), y += t.y_row;
        OF_TYPE(multiply)(rows, vectors, &t, a, b, GEMM_STEPS, acc);
    }
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
    static void OF_TYPE(tile_##rows##_##vectors)(gemm_tile * t) { OF_TYPE(tile)(rows, vectors, t); }
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
    typedef void tile_function(gemm_tile *);
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
            t->fetch.from += t->k / GEMM_STEPS * t->fetch.step;
            t->fetch.groups -= t->k / GEMM_STEPS;
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

/* Whether a panel of so many columns is copied. */
static inline bool OF_TYPE(packs_b)(const gemm_matrix *m, const gemm_region *r, int64_t columns) {
    return columns > 0 && (r->pack_b || m->b_column != 1 || columns % WIDTH != 0);
}

/* Steps [first, end) of the inner extent of a panel of b, whose first element is *b. */
static void OF_TYPE(pack_b)(const gemm_matrix *m, const ELEMENT *b, int64_t columns, int64_t first,
                            int64_t end, ELEMENT *packed) {
    int64_t width = divide_up(columns, WIDTH) * WIDTH;
    OF_TYPE(pack)
    (b + first * m->b_row, m->b_column, m->b_row, columns, end - first, width,
     packed + first * width);
}

/* What that will read: a step's columns side by side, or a few columns' elements for some steps. */
static inline gemm_fetch OF_TYPE(fetch_b)(const gemm_matrix *m, const ELEMENT *b, int64_t columns,
                                          int64_t first, int64_t end) {
    enum { LINE = 64 / sizeof(ELEMENT), COLUMNS = 12 };
    const char *from = (const char *)(b + first * m->b_row);
    int64_t row = m->b_row * (int64_t)sizeof *b, column = m->b_column * (int64_t)sizeof *b;
    if (m->b_column == 1)
        return (gemm_fetch){from, divide_up(columns, LINE) + 1, 64, row, end - first};
    if (m->b_row == 1)
        return (gemm_fetch){from, COLUMNS, column, COLUMNS * column, divide_up(columns, COLUMNS)};
    return (gemm_fetch){0};
}

/* Rows [i, i + rows) of a, at most a panel, inner extent [l, l + k). */
static void OF_TYPE(pack_a)(const gemm_matrix *m, int64_t i, int64_t rows, int64_t l, int64_t k,
                            ELEMENT *packed) {
    const ELEMENT *a = (const ELEMENT *)m->a + i * m->a_row + l * m->a_inner;
    OF_TYPE(pack)(a, m->a_row, m->a_inner, rows, k, OF_TYPE(PANEL), packed);
}

static inline gemm_fetch OF_TYPE(fetch_a)(const gemm_matrix *m, int64_t i, int64_t rows, int64_t l,
                                          int64_t k) {
    enum { LINE = 64 / sizeof(ELEMENT) };
    const ELEMENT *a = (const ELEMENT *)m->a + i * m->a_row + l * m->a_inner;
    int64_t row = m->a_row * (int64_t)sizeof *a, inner = m->a_inner * (int64_t)sizeof *a;
    if (rows <= 0) return (gemm_fetch){0};
    if (m->a_inner == 1) return (gemm_fetch){(const char *)a, rows, row, 64, divide_up(k, LINE)};
    if (m->a_row == 1) return (gemm_fetch){(const char *)a, 8, inner, 8 * inner, divide_up(k, 8)};
    return (gemm_fetch){0};
}

/* Rows [i, i + rows) by all columns of the region, inner extent [l, l + k). What the next strip needs is packed just
 * before it, from lines that were fetched while the strips before were computed: a panel of a with the first
 * panel of b, later a share of the panel of b after this one. */
static void OF_TYPE(block)(const gemm_matrix *m, const gemm_region *r, int64_t i, int64_t rows,
                           int64_t l, int64_t k, ELEMENT *packed_a, ELEMENT *packed_b,
                           ELEMENT *next_b) {
    enum { PANEL = OF_TYPE(PANEL), UNIT = 64 };
    const ELEMENT *a = (const ELEMENT *)m->a + i * m->a_row + l * m->a_inner;
    const ELEMENT *b = (const ELEMENT *)m->b + l * m->b_row + r->column * m->b_column;
    gemm_tile tile = {.k = k, .y_row = m->y_row, .alpha = m->alpha, .beta = m->beta};
    tile.c_row = m->c_row, tile.c_column = m->c_column, tile.add = l > 0;
    tile.way = m->alpha != 1 || (m->c && l == 0) ? GEMM_ANY
               : l > 0                           ? GEMM_ADD
               : r->stream                       ? GEMM_STREAM
                                                 : GEMM_STORE;
    tile.a_row = r->pack_a ? 1 : m->a_row, tile.a_inner = r->pack_a ? PANEL : m->a_inner;
    int64_t step = r->pack_a ? GEMM_ROWS : 2 * GEMM_ROWS;
    int64_t strip = 0, strips = divide_up(rows, step);
    int64_t share = divide_up(divide_up(k, strips), UNIT) * UNIT; /* of the next panel of b */
    strips *= divide_up(r->column_end - r->column, OF_TYPE(TILE_COLUMNS));
    int64_t columns = OF_TYPE(panel_columns)(r->column_end - r->column), next;
    bool first = true, packs = OF_TYPE(packs_b)(m, r, columns);
    if (packs) OF_TYPE(pack_b)(m, b, columns, 0, k, packed_b);
    for (int64_t j = r->column; j < r->column_end; j += columns, columns = next, first = false) {
        const ELEMENT *next_from = b + columns * m->b_column;
        next = OF_TYPE(panel_columns)(r->column_end - j - columns);
        bool packs_next = OF_TYPE(packs_b)(m, r, next);
        tile.b_row = packs ? divide_up(columns, WIDTH) * WIDTH : m->b_row;
        bool copies =
            packs_next && VF_WIDTH > 1 && m->b_column == 1 && next == OF_TYPE(TILE_COLUMNS);
        tile.copy = (gemm_copy){next_from, next_b, m->b_row,
                                divide_up(GEMM_ROWS * GEMM_STEPS, rows), copies ? k : 0};
        for (int64_t p = 0, at = 0; p < rows; p += step, strip++) {
            int64_t count = smaller(step, rows - p);
            tile.b = packs ? packed_b : b, tile.fetch = (gemm_fetch){0};
            tile.a = r->pack_a ? packed_a + p / PANEL * PANEL * k + p % PANEL : a + p * m->a_row;
            tile.y = (ELEMENT *)m->y + (i + p) * m->y_row + j;
            tile.c = m->c ? (const ELEMENT *)m->c + (i + p) * m->c_row + j * m->c_column : NULL;
            if (packs_next && !copies && at < k) {
                int64_t end = smaller(at + share, k);
                OF_TYPE(pack_b)(m, next_from, next, at, end, next_b);
                at = end, end = smaller(at + share, k);
                tile.fetch = OF_TYPE(fetch_b)(m, next_from, next, at, end);
            }
            if (first && r->pack_a) {
                int64_t after = p + PANEL;
                if (p % PANEL == 0)
                    OF_TYPE(pack_a)(m, i + p, smaller(PANEL, rows - p), l, k, packed_a + p * k);
                tile.fetch = OF_TYPE(fetch_a)(m, i + after, smaller(step, rows - after), l, k);
            } else if (m->next_bytes[0]) {
                tile.fetch = gemm_fetch_next(m, step, strip, strips);
            }
            OF_TYPE(strip)(&tile, count, columns);
        }
        if (tile.copy.rows > 0) OF_TYPE(pack_b)(m, next_from, next, k - tile.copy.rows, k, next_b);
        b = next_from, packs = packs_next;
        ELEMENT *used = packed_b;
        packed_b = next_b, next_b = used;
    }
}

static void OF_TYPE(region)(const gemm_matrix *m, const gemm_region *r, char *memory) {
    int64_t height = r->block_rows, inner = gemm_inner(m->k), panel = gemm_panel_bytes(m->k);
    void *packed_b = memory, *next_b = memory + panel, *packed_a = memory + 2 * panel;
    for (int64_t i = r->row; i < r->row_end; i += height)
        for (int64_t l = 0; l == 0 || l < m->k; l += inner) OF_TYPE(block)
    (m, r, i, smaller(height, r->row_end - i), l, smaller(inner, m->k - l), packed_a, packed_b,
     next_b);
}

#undef ELEMENT
#undef VECTOR
#undef WIDTH
