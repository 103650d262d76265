/* What kv_append means beyond the numbers: axes, places in the cache; the validation of its
 * arguments; its check and benchmark cases. */
#include "catalogue/append.h"

#include "catalogue/attention.h"
#include "catalogue/case.h"

#include <math.h>
#include <stdio.h>

enum { LETTER_B, LETTER_HKV, LETTER_T, LETTER_S, LETTER_D, LETTER_DV, LETTER_PAGE };

/* ---- Canonical form ------------------------------------------------------------------------- */

/* [B, H, S, D], of axes in that order or with the heads inside. */
static void canonical(const fovea_view *given, bool heads_inside, fovea_view *view) {
    fovea_attention_canonical(given, false, heads_inside, view);
}

static void describe_scale(const fovea_problem *problem, int argument, bool heads_inside,
                           fovea_view *scale) {
    if (!fovea_given(problem, argument)) {
        scale->data = NULL, scale->dtype = FOVEA_F32, scale->rank = 0;
        memset(scale->stride, 0, sizeof scale->stride);
        return;
    }
    canonical(&problem->views[argument], heads_inside, scale);
    for (int i = 0; i < 4; i++)
        if (scale->shape[i] == 1) scale->stride[i] = 0;
}

static void describe_side(const fovea_problem *problem, bool key, bool new_inside, bool inside,
                          fovea_append_side *side) {
    const fovea_kv_append_options *options = problem->options;
    int from = key ? FOVEA_APPEND_K : FOVEA_APPEND_V;
    side->cache_argument = key ? FOVEA_APPEND_K_CACHE : FOVEA_APPEND_V_CACHE;
    side->scale_argument = key ? FOVEA_APPEND_K_SCALE : FOVEA_APPEND_V_SCALE;
    side->rotated = key && options->rope != FOVEA_KV_APPEND_ROPE_NONE;
    canonical(&problem->views[from], new_inside, &side->from);
    canonical(&problem->views[side->cache_argument], inside, &side->cache);
    describe_scale(problem, side->scale_argument, inside, &side->scale);
    side->size = side->group = side->cache.shape[3];
    if (side->scale.data && side->scale.shape[3] > 0)
        side->group = side->size / side->scale.shape[3];
}

static void describe_table(const fovea_problem *problem, int argument, fovea_view *table) {
    table->data = NULL;
    if (fovea_given(problem, argument)) *table = problem->views[argument];
}

/* Every call comes here several times: views are made where they stay, and those of optional arguments are
 * not cleared, which took half of its time. */
void fovea_append_describe(const fovea_problem *problem, fovea_append_call *append) {
    const fovea_kv_append_options *options = problem->options;
    bool inside = options->layout == FOVEA_KV_APPEND_LAYOUT_BSHD;
    bool paged = fovea_given(problem, FOVEA_APPEND_BLOCK_TABLE);
    append->options = options, append->problem = problem;
    append->batch = problem->extents[LETTER_B], append->heads = problem->extents[LETTER_HKV];
    append->tokens = problem->extents[LETTER_T];
    append->page_size = problem->extents[LETTER_PAGE];
    append->heads_inside = inside || paged, append->paged = paged;
    describe_side(problem, true, inside, inside || paged, &append->k);
    describe_side(problem, false, inside, inside || paged, &append->v);
    describe_table(problem, FOVEA_APPEND_COS, &append->cos);
    describe_table(problem, FOVEA_APPEND_SIN, &append->sin);
}

static int32_t read_index(const fovea_view *view, int64_t i, int64_t j) {
    int32_t value;
    memcpy(&value, view->data + (i * view->stride[0] + j * view->stride[1]) * 4, sizeof value);
    return value;
}

int64_t fovea_append_position(const fovea_append_call *append, int64_t batch, int64_t token) {
    return read_index(&append->problem->views[FOVEA_APPEND_POSITIONS], batch, token);
}

void fovea_append_place(const fovea_append_call *append, int64_t batch, int64_t position,
                        int64_t *outer, int64_t *row) {
    *outer = batch, *row = position;
    if (!append->paged) return;
    const fovea_view *table = &append->problem->views[FOVEA_APPEND_BLOCK_TABLE];
    *outer = read_index(table, batch, position / append->page_size);
    *row = position % append->page_size;
}

/* ---- Validation ----------------------------------------------------------------------------- */

static bool is_quantised(fovea_dtype dtype) { return dtype == FOVEA_I8 || dtype == FOVEA_E4M3; }

static fovea_status wrong_shape(const fovea_problem *problem, int argument, const char *wanted,
                                fovea_message *message) {
    char text[128];
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s has shape %s; it is %s",
                      problem->kernel->arguments[argument].name,
                      fovea_shape_text(&problem->views[argument], text, sizeof text), wanted);
}

static fovea_status check_shape(const fovea_problem *problem, int argument, int rank,
                                const int64_t *shape, fovea_message *message) {
    const fovea_view *view = &problem->views[argument];
    bool fits = view->rank == rank && memcmp(view->shape, shape, (size_t)rank * sizeof *shape) == 0;
    if (fits) return FOVEA_OK;
    fovea_view wanted = {.rank = rank};
    char text[128];
    memcpy(wanted.shape, shape, (size_t)rank * sizeof *shape);
    return wrong_shape(problem, argument, fovea_shape_text(&wanted, text, sizeof text), message);
}

static fovea_status check_ranks(const fovea_problem *problem, fovea_message *message) {
    static const struct {
        int argument, rank;
    } ranks[] = {{FOVEA_APPEND_K, 4},         {FOVEA_APPEND_V, 4},
                 {FOVEA_APPEND_POSITIONS, 2}, {FOVEA_APPEND_K_CACHE, 4},
                 {FOVEA_APPEND_V_CACHE, 4},   {FOVEA_APPEND_BLOCK_TABLE, 2},
                 {FOVEA_APPEND_COS, 2},       {FOVEA_APPEND_SIN, 2}};
    for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++)
        if (fovea_given(problem, ranks[i].argument) &&
            problem->views[ranks[i].argument].rank != ranks[i].rank)
            return wrong_shape(problem, ranks[i].argument,
                               ranks[i].rank == 4 ? "of 4 dimensions" : "of 2 dimensions", message);
    return FOVEA_OK;
}

static fovea_status check_tensors(fovea_problem *problem, fovea_message *message) {
    const fovea_kv_append_options *options = problem->options;
    bool inside = options->layout == FOVEA_KV_APPEND_LAYOUT_BSHD;
    bool paged = fovea_given(problem, FOVEA_APPEND_BLOCK_TABLE);
    fovea_view k, cache;
    canonical(&problem->views[FOVEA_APPEND_K], inside, &k);
    canonical(&problem->views[FOVEA_APPEND_K_CACHE], inside || paged, &cache);
    const int64_t *raw = problem->views[FOVEA_APPEND_K].shape;
    const int64_t *raw_cache = problem->views[FOVEA_APPEND_K_CACHE].shape;
    int64_t *e = problem->extents, dv = problem->views[FOVEA_APPEND_V].shape[3];
    e[LETTER_B] = k.shape[0], e[LETTER_HKV] = k.shape[1], e[LETTER_T] = k.shape[2];
    e[LETTER_D] = k.shape[3], e[LETTER_DV] = dv, e[LETTER_S] = cache.shape[2];
    e[LETTER_PAGE] = paged ? cache.shape[2] : 0;
    if (paged && e[LETTER_PAGE] < 1)
        return wrong_shape(problem, FOVEA_APPEND_K_CACHE, "of pages of at least 1", message);
    if (paged && !fovea_multiply(problem->views[FOVEA_APPEND_BLOCK_TABLE].shape[1], e[LETTER_PAGE],
                                 &e[LETTER_S]))
        return wrong_shape(problem, FOVEA_APPEND_BLOCK_TABLE, "of fewer pages", message);
    const int64_t outer = paged ? raw_cache[0] : raw[0];
    const int64_t k_cache[4] = {outer, inside || paged ? raw_cache[1] : k.shape[1],
                                inside || paged ? k.shape[1] : raw_cache[2], k.shape[3]};
    const int64_t v_cache[4] = {k_cache[0], k_cache[1], k_cache[2], dv};
    const int64_t v[4] = {raw[0], raw[1], raw[2], dv};
    const int64_t positions[2] = {k.shape[0], k.shape[2]};
    fovea_status status = check_shape(problem, FOVEA_APPEND_V, 4, v, message);
    if (status == FOVEA_OK)
        status = check_shape(problem, FOVEA_APPEND_POSITIONS, 2, positions, message);
    if (status == FOVEA_OK)
        status = check_shape(problem, FOVEA_APPEND_K_CACHE, 4, k_cache, message);
    if (status == FOVEA_OK)
        status = check_shape(problem, FOVEA_APPEND_V_CACHE, 4, v_cache, message);
    if (status == FOVEA_OK && paged &&
        problem->views[FOVEA_APPEND_BLOCK_TABLE].shape[0] != k.shape[0])
        status = wrong_shape(problem, FOVEA_APPEND_BLOCK_TABLE, "of a row a sequence", message);
    return status;
}

/* Rising, within the cache, on pages that exist. */
static fovea_status check_positions(const fovea_problem *problem, fovea_message *message) {
    const int64_t *e = problem->extents;
    bool paged = fovea_given(problem, FOVEA_APPEND_BLOCK_TABLE);
    int64_t pages = problem->views[FOVEA_APPEND_K_CACHE].shape[0];
    for (int64_t b = 0; fovea_readable(problem) && b < e[LETTER_B]; b++) {
        int64_t last = -1;
        for (int64_t t = 0; t < e[LETTER_T]; t++) {
            int64_t position = read_index(&problem->views[FOVEA_APPEND_POSITIONS], b, t);
            if (position < 0) continue;
            if (position <= last || position >= e[LETTER_S])
                return fovea_fail(
                    message, FOVEA_INVALID_ARGUMENT,
                    "positions[%lld][%lld] is %lld; it is above %lld, the one before, "
                    "and below %lld, the room of the cache",
                    (long long)b, (long long)t, (long long)position, (long long)last,
                    (long long)e[LETTER_S]);
            last = position;
            if (!paged) continue;
            int64_t n = position / e[LETTER_PAGE];
            int32_t page = read_index(&problem->views[FOVEA_APPEND_BLOCK_TABLE], b, n);
            if (page < 0 || page >= pages)
                return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                                  "block_table[%lld][%lld] is %d; the cache has %lld pages",
                                  (long long)b, (long long)n, page, (long long)pages);
        }
    }
    return FOVEA_OK;
}

static fovea_status check_scale(const fovea_problem *problem, bool key, fovea_message *message) {
    const fovea_kv_append_options *options = problem->options;
    int cache = key ? FOVEA_APPEND_K_CACHE : FOVEA_APPEND_V_CACHE;
    int argument = key ? FOVEA_APPEND_K_SCALE : FOVEA_APPEND_V_SCALE;
    const char *name = problem->kernel->arguments[cache].name;
    const char *scale_name = problem->kernel->arguments[argument].name;
    const fovea_view *view = &problem->views[cache], *scale = &problem->views[argument];
    bool quantised = is_quantised(view->dtype), given = fovea_given(problem, argument);
    bool absmax = options->scaling == FOVEA_KV_APPEND_SCALING_ABSMAX;
    if (!quantised && view->dtype != problem->dtype)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "%s is %s, k is %s; they agree, or %s is i8 or e4m3", name,
                          fovea_dtype_name(view->dtype), fovea_dtype_name(problem->dtype), name);
    if (given != quantised && (given || absmax))
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s is %s, and %s is %s", name,
                          fovea_dtype_name(view->dtype), scale_name,
                          given ? "given; only a quantised cache has scales"
                                : "not given; options.scaling absmax writes it");
    if (!given) return FOVEA_OK;
    bool fits = scale->rank == 4 && scale->shape[3] > 0 && view->shape[3] % scale->shape[3] == 0;
    for (int i = 0; fits && i < 3; i++)
        fits = scale->shape[i] == view->shape[i] || (!absmax && scale->shape[i] == 1);
    if (fits) return FOVEA_OK;
    char wanted[160], shape[96];
    snprintf(wanted, sizeof wanted, "of the axes of %s = %s, the last a divisor%s", name,
             fovea_shape_text(view, shape, sizeof shape), absmax ? "" : ", others may be 1");
    return wrong_shape(problem, argument, wanted, message);
}

static fovea_status check_rope(const fovea_problem *problem, fovea_message *message) {
    const fovea_kv_append_options *options = problem->options;
    const int64_t *e = problem->extents;
    bool cos_given = fovea_given(problem, FOVEA_APPEND_COS);
    bool sin_given = fovea_given(problem, FOVEA_APPEND_SIN);
    bool rotates = options->rope != FOVEA_KV_APPEND_ROPE_NONE;
    if (cos_given != sin_given)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s is given without %s",
                          cos_given ? "cos" : "sin", cos_given ? "sin" : "cos");
    if (cos_given && !rotates)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "cos and sin are given, options.rope is none");
    if (rotates && e[LETTER_D] % 2 != 0)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "k has head size %lld; rotating takes pairs", (long long)e[LETTER_D]);
    if (!cos_given) return FOVEA_OK;
    int64_t rows = problem->views[FOVEA_APPEND_COS].shape[0];
    const int64_t shape[2] = {rows, e[LETTER_D] / 2};
    fovea_status status = check_shape(problem, FOVEA_APPEND_COS, 2, shape, message);
    if (status == FOVEA_OK) status = check_shape(problem, FOVEA_APPEND_SIN, 2, shape, message);
    bool readable = fovea_readable(problem);
    for (int64_t b = 0; readable && b < e[LETTER_B] && status == FOVEA_OK; b++)
        for (int64_t t = 0; t < e[LETTER_T] && status == FOVEA_OK; t++) {
            int64_t position = read_index(&problem->views[FOVEA_APPEND_POSITIONS], b, t);
            if (position >= rows)
                status =
                    fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                               "positions[%lld][%lld] is %lld; cos and sin have %lld rows",
                               (long long)b, (long long)t, (long long)position, (long long)rows);
        }
    return status;
}

fovea_status fovea_append_shape(fovea_problem *problem, fovea_message *message) {
    fovea_status status = check_ranks(problem, message);
    if (status == FOVEA_OK) status = check_tensors(problem, message);
    if (status == FOVEA_OK) status = check_positions(problem, message);
    if (status == FOVEA_OK) status = check_scale(problem, true, message);
    if (status == FOVEA_OK) status = check_scale(problem, false, message);
    if (status == FOVEA_OK) status = check_rope(problem, message);
    return status;
}

fovea_status fovea_append_check(const fovea_problem *problem, fovea_message *message) {
    const fovea_kv_append_options *options = problem->options;
    if (!(options->base > 0) || isinf(options->base))
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "options.base is %g; it is positive and finite", options->base);
    if (options->offset < -(INT64_C(1) << 48) || options->offset > INT64_C(1) << 48)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "options.offset is %lld; it lies between -2^48 and 2^48",
                          (long long)options->offset);
    return FOVEA_OK;
}

/* ---- Counts --------------------------------------------------------------------------------- */

static double new_rows(const fovea_problem *problem) {
    const int64_t *e = problem->extents;
    return (double)e[LETTER_B] * (double)e[LETTER_HKV] * (double)e[LETTER_T];
}

/* Storing is a conversion an element, rotating 3 more, finding a scale 2, dividing, rounding and
 * limiting 3. */
double fovea_append_operations(const fovea_problem *problem) {
    fovea_append_call append;
    fovea_append_describe(problem, &append);
    double k = 1 + (append.k.rotated ? 3 : 0) + (is_quantised(append.k.cache.dtype) ? 5 : 0);
    double v = 1 + (is_quantised(append.v.cache.dtype) ? 5 : 0);
    return new_rows(problem) * (k * (double)append.k.size + v * (double)append.v.size);
}

static double side_bytes(const fovea_append_side *side) {
    double stored =
        (double)(fovea_dtype_size(side->from.dtype) + fovea_dtype_size(side->cache.dtype));
    return stored * (double)side->size +
           (side->scale.data ? 4 * (double)side->size / (double)(side->group ? side->group : 1)
                             : 0);
}

double fovea_append_bytes(const fovea_problem *problem) {
    fovea_append_call append;
    fovea_append_describe(problem, &append);
    return new_rows(problem) * (side_bytes(&append.k) + side_bytes(&append.v));
}

/* ---- Cases ---------------------------------------------------------------------------------- */

void fovea_append_case_defaults(fovea_case *c) {
    int64_t *e = c->extents;
    if (e[LETTER_T] < 0) e[LETTER_T] = 1;
    if (e[LETTER_DV] < 0) e[LETTER_DV] = e[LETTER_D];
    if (e[LETTER_PAGE] < 0) e[LETTER_PAGE] = 16;
}

static bool case_has(const fovea_case *c, int argument) { return c->optional >> argument & 1; }

static int64_t case_pages(const fovea_case *c) {
    int64_t page = c->extents[LETTER_PAGE]; /* 0 is refused with the tensors */
    return page ? (c->extents[LETTER_S] + page - 1) / page : 0;
}

/* Each sequence begins somewhere else; every fifth token is left out, and what finds no room. */
static int64_t case_position(const fovea_case *c, int64_t b, int64_t t) {
    int64_t room = c->extents[LETTER_S] - c->extents[LETTER_T];
    int64_t position =
        t + (room > 0 ? room * (int64_t)((uint64_t)(b + 1) * (c->seed + 1) % 4) / 3 : 0);
    bool skipped = (t + b) % 5 == 3;
    return skipped || position >= c->extents[LETTER_S] ? -1 : position;
}

void fovea_append_case_shape(const fovea_case *c, int argument, int *rank, int64_t *shape) {
    const int64_t *e = c->extents;
    bool inside = fovea_case_parameter(c, "layout") == FOVEA_KV_APPEND_LAYOUT_BSHD;
    bool paged = case_has(c, FOVEA_APPEND_BLOCK_TABLE);
    bool value = argument == FOVEA_APPEND_V || argument == FOVEA_APPEND_V_CACHE ||
                 argument == FOVEA_APPEND_V_SCALE;
    int64_t size = value ? e[LETTER_DV] : e[LETTER_D], length = e[LETTER_S], outer = e[LETTER_B];
    *rank = 2;
    switch (argument) {
    case FOVEA_APPEND_K:
    case FOVEA_APPEND_V:
        length = e[LETTER_T], paged = false;
        break;
    case FOVEA_APPEND_K_SCALE:
    case FOVEA_APPEND_V_SCALE:
        size = c->seed % 3 == 2 && size % 8 == 0 && size > 0 ? size / 8 : 1;
        break;
    case FOVEA_APPEND_POSITIONS:
        shape[0] = e[LETTER_B], shape[1] = e[LETTER_T];
        return;
    case FOVEA_APPEND_BLOCK_TABLE:
        shape[0] = e[LETTER_B], shape[1] = case_pages(c);
        return;
    case FOVEA_APPEND_COS:
    case FOVEA_APPEND_SIN:
        shape[0] = e[LETTER_S], shape[1] = e[LETTER_D] / 2;
        return;
    default:
        break;
    }
    if (paged) outer = case_pages(c) * e[LETTER_B] + 1, length = e[LETTER_PAGE];
    *rank = 4;
    shape[0] = outer, shape[3] = size;
    shape[inside || paged ? 1 : 2] = length, shape[inside || paged ? 2 : 1] = e[LETTER_HKV];
}

void fovea_append_case_fill(const fovea_case *c, int argument, const fovea_view *view) {
    int64_t elements = fovea_view_elements(view), columns = view->shape[1];
    if (argument == FOVEA_APPEND_POSITIONS) {
        for (int64_t i = 0; i < elements; i++)
            fovea_view_write(view, i, (double)case_position(c, i / columns, i % columns));
        return;
    }
    /* A page each, in disorder; entries that no token needs are out of range. */
    for (int64_t i = 0; i < elements; i++) {
        bool needed = false;
        for (int64_t t = 0; t < c->extents[LETTER_T]; t++) {
            int64_t position = case_position(c, i / columns, t);
            needed |= position >= 0 && position / c->extents[LETTER_PAGE] == i % columns;
        }
        fovea_view_write(view, i, needed ? (double)(elements - i) : -7.0);
    }
}
