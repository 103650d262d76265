/* Domain 13, sorting: rows become integer keys (keys.h) in scratch memory, dense, which are sorted or
 * selected from there, and elements again.
 *
 * Rows are dealt to threads; a row that is alone is worked on by all of them. */
#include "catalogue/order.h"
#include "cpu/sorting/bitonic.h"
#include "cpu/sorting/buckets.h"
#include "cpu/sorting/select.h"
#include "fovea/kernels.h"

#include <math.h>

#define DTYPES                                                                                     \
    (1u << FOVEA_F32 | 1u << FOVEA_F64 | 1u << FOVEA_I32 | 1u << FOVEA_U32 | 1u << FOVEA_I64)

/* Scratch of a row, and how many rows have theirs at a time. */
typedef struct room {
    size_t bytes;
    int rows;
} room;

static int64_t rows_of(const fovea_view *x) {
    int64_t length = x->shape[x->rank - 1];
    return length > 0 ? fovea_view_elements(x) / length : 0;
}

static size_t aligned(int64_t bytes) { return ((size_t)bytes + 63) & ~(size_t)63; }

/* For `rows` rows that need `bytes` each: 0 without rows, SIZE_MAX if that cannot be counted. */
static size_t scratch_of(int64_t rows, size_t bytes, int threads) {
    size_t several = (size_t)smaller(rows, threads), total;
    return __builtin_mul_overflow(several, bytes, &total) ? SIZE_MAX : total;
}

/* Threads that share rows, and those that share one row. */
typedef struct split {
    int over_rows, within;
} split;

static split split_threads(int64_t rows, int64_t bytes, int allowed) {
    split s = {fovea_useful_threads(rows, rows * bytes, allowed), 1};
    if (rows < allowed && s.over_rows <= rows) {
        int within = fovea_useful_threads(allowed, bytes, allowed);
        if (within > s.over_rows) s = (split){1, within < PARTS_MAX ? within : PARTS_MAX};
    }
    return s;
}

/* ---- Radix ----------------------------------------------------------------------------------- */

enum { RADIX_X, RADIX_Y, RADIX_PAYLOAD, RADIX_SORTED_PAYLOAD };

typedef struct radix_task {
    const fovea_problem *problem;
    char *scratch;
    size_t row_bytes;
    int64_t n, key_bytes, payload_bytes;
    int parts;
} radix_task;

static size_t radix_row_bytes(const fovea_problem *problem) {
    const fovea_view *x = &problem->views[RADIX_X];
    int64_t n = x->shape[x->rank - 1], payload = 0;
    if (fovea_given(problem, RADIX_PAYLOAD))
        payload = (int64_t)fovea_dtype_size(problem->views[RADIX_PAYLOAD].dtype);
    return 2 * aligned(n * (int64_t)fovea_dtype_size(x->dtype)) + 2 * aligned(n * payload) +
           aligned(PARTS_MAX * DIGITS * 8);
}

/* Keys of NaN are all the largest here, so that those of either sign and any payload are equal; their
 * bits follow at the end, where they belong in the order they had. */
#define RADIX_NAN(bits)                                                                            \
    static int64_t level_nans_##bits(uint##bits##_t *keys, int64_t n) {                            \
        int64_t count = 0;                                                                         \
        for (int64_t i = 0; i < n; i++) {                                                          \
            bool nan = keys[i] >= KEY_FIRST_NAN_##bits;                                            \
            keys[i] = nan ? UINT##bits##_MAX : keys[i];                                            \
            count += nan;                                                                          \
        }                                                                                          \
        return count;                                                                              \
    }                                                                                              \
    static void place_nans_##bits(const fovea_view *x, int64_t first, int64_t n,                   \
                                  uint##bits##_t *end, int64_t count) {                            \
        uint##bits##_t block[TURN_BLOCK], *to = end - count;                                       \
        for (int64_t i = 0; i < n && count > 0; i += TURN_BLOCK) {                                 \
            int64_t several = smaller(TURN_BLOCK, n - i);                                          \
            keys_read_##bits(x, first + i, several, block, 0);                                     \
            for (int64_t j = 0; j < several; j++)                                                  \
                if (block[j] >= KEY_FIRST_NAN_##bits) *to++ = block[j];                            \
        }                                                                                          \
    }
RADIX_NAN(32)
RADIX_NAN(64)

/* A row on its way: what its parts have of NaN, and whether they count buckets. */
typedef struct radix_work {
    const radix_task *task;
    int64_t first;
    radix sort;
    bool buckets;
    int64_t *nans;
} radix_work;

/* A block of keys from its elements; how many are NaN. */
static int64_t load_keys(const radix_work *w, int64_t i, int64_t n) {
    const fovea_view *x = &w->task->problem->views[RADIX_X];
    bool floats = key_is_float(x->dtype);
    if (w->task->key_bytes == 4) {
        uint32_t *keys = (uint32_t *)w->sort.keys + i;
        keys_read_32(x, w->first + i, n, keys, 0);
        return floats ? level_nans_32(keys, n) : 0;
    }
    uint64_t *keys = (uint64_t *)w->sort.keys + i;
    keys_read_64(x, w->first + i, n, keys, 0);
    return floats ? level_nans_64(keys, n) : 0;
}

static void load_parts(const void *task, int64_t begin, int64_t end, int thread) {
    const radix_work *w = task;
    (void)thread;
    for (int part = (int)begin; part < (int)end; part++) {
        int64_t i = part_start(&w->sort, part), last = part_start(&w->sort, part + 1), nans = 0;
        uint32_t *counts = bucket_places(&w->sort, w->buckets ? part : 0);
        if (w->buckets) memset(counts, 0, BUCKETS * sizeof *counts);
        for (int64_t n; i < last; i += n) {
            n = smaller(TURN_BLOCK, last - i);
            nans += load_keys(w, i, n);
            const uint32_t *keys = (const uint32_t *)w->sort.keys + i;
            for (int64_t j = 0; w->buckets && j < n; j++) counts[keys[j] >> BUCKET_SHIFT]++;
        }
        w->nans[part] = nans;
    }
}

static void store_parts(const void *task, int64_t begin, int64_t end, int thread) {
    const radix_work *w = task;
    const fovea_view *y = &w->task->problem->views[RADIX_Y];
    int64_t i = part_start(&w->sort, (int)begin), n = part_start(&w->sort, (int)end) - i;
    (void)thread;
    if (w->task->key_bytes == 4)
        keys_write_32(y, w->first + i, n, (const uint32_t *)w->sort.keys + i, 0);
    else
        keys_write_64(y, w->first + i, n, (const uint64_t *)w->sort.keys + i, 0);
}

static void radix_row(const radix_task *t, int64_t row, char *scratch) {
    const fovea_view *x = &t->problem->views[RADIX_X];
    int64_t n = t->n, first = row * n, parts_nans[PARTS_MAX] = {0}, nans = 0;
    size_t keys = aligned(n * t->key_bytes), payload = aligned(n * t->payload_bytes);
    radix r = {.keys = scratch,
               .other_keys = scratch + keys,
               .payload = scratch + 2 * keys,
               .other_payload = scratch + 2 * keys + payload,
               .n = n,
               .parts = t->parts};
    r.places = (int64_t(*)[DIGITS])(void *)(scratch + 2 * keys + 2 * payload);
    radix_work w = {.task = t, .first = first, .sort = r, .nans = parts_nans};
    w.buckets = buckets_suit(&r, t->key_bytes, t->payload_bytes);
    fovea_share(r.parts, r.parts, load_parts, &w);
    for (int part = 0; part < r.parts; part++) nans += parts_nans[part];
    if (t->payload_bytes) dense_read(&t->problem->views[RADIX_PAYLOAD], first, n, r.payload);
    if (!w.buckets || !buckets_run(&r)) radix_sort(&r, t->key_bytes, t->payload_bytes);
    if (t->key_bytes == 4)
        place_nans_32(x, first, n, (uint32_t *)r.keys + n, nans);
    else
        place_nans_64(x, first, n, (uint64_t *)r.keys + n, nans);
    w.sort = r;
    fovea_share(r.parts, r.parts, store_parts, &w);
    if (t->payload_bytes)
        dense_write(&t->problem->views[RADIX_SORTED_PAYLOAD], first, n, r.payload);
}

static void radix_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const radix_task *t = task;
    for (int64_t row = begin; row < end; row++)
        radix_row(t, row, t->scratch + (size_t)thread * t->row_bytes);
}

static size_t radix_workspace(const fovea_problem *problem, int threads) {
    return scratch_of(rows_of(&problem->views[0]), radix_row_bytes(problem), threads);
}

static fovea_status sort_radix(const fovea_problem *problem, fovea_run *run) {
    const fovea_view *x = &problem->views[RADIX_X];
    int64_t rows = rows_of(x);
    radix_task t = {.problem = problem, .scratch = run->workspace};
    t.key_bytes = (int64_t)fovea_dtype_size(x->dtype);
    if (fovea_given(problem, RADIX_PAYLOAD))
        t.payload_bytes = (int64_t)fovea_dtype_size(problem->views[RADIX_PAYLOAD].dtype);
    t.n = x->shape[x->rank - 1];
    t.row_bytes = radix_row_bytes(problem);
    split s =
        split_threads(rows, t.n * (t.key_bytes + t.payload_bytes) * 2 * t.key_bytes, run->threads);
    t.parts = s.within;
    run->threads = s.over_rows > s.within ? s.over_rows : s.within;
    fovea_share(rows, s.over_rows, radix_rows, &t);
    return FOVEA_OK;
}

/* ---- The bitonic network ---------------------------------------------------------------------- */

/* Elements are words, longs, words with a value below them in a long, or longs beside values. */
typedef enum content { WORDS, LONGS, PACKED, PAIRS } content;

enum { CHUNK_BYTES = 1 << 16, CHUNKS = 16 };

typedef struct network {
    content content;
    void *keys;
    int64_t *values;
    int64_t size;       /* elements, a power of two */
    int64_t chunk;      /* elements of a piece of work */
    int64_t span, part; /* of a merge; of what its stages are taken over */
    int stages;         /* at a time */
} network;

static void sort_part(const network *n, int64_t at, int64_t size, bool down) {
    if (n->content == WORDS)
        words_sort(n->keys, at, size, down);
    else if (n->content == PAIRS)
        pairs_sort((pairs){n->keys, n->values}, at, size, down);
    else
        longs_sort(n->keys, at, size, down);
}

static void merge_part(const network *n, int64_t at, int64_t size, bool down) {
    if (n->content == WORDS)
        words_merge(n->keys, at, size, down);
    else if (n->content == PAIRS)
        pairs_merge((pairs){n->keys, n->values}, at, size, down);
    else
        longs_merge(n->keys, at, size, down);
}

static void widen_part(const network *n, int64_t at, int64_t begin, int64_t end, bool down) {
    if (n->content == WORDS)
        words_wide(n->keys, at, n->part, n->stages, begin, end, down);
    else if (n->content == PAIRS)
        pairs_wide((pairs){n->keys, n->values}, at, n->part, n->stages, begin, end, down);
    else
        longs_wide(n->keys, at, n->part, n->stages, begin, end, down);
}

static void sort_chunks(const void *task, int64_t begin, int64_t end, int thread) {
    const network *n = task;
    (void)thread;
    for (int64_t c = begin; c < end; c++) sort_part(n, c * n->chunk, n->chunk, c & 1);
}

/* Every second merge runs down, but for the last. */
static bool runs_down(const network *n, int64_t at) {
    return n->span < n->size && at / n->span & 1;
}

static void merge_chunks(const void *task, int64_t begin, int64_t end, int thread) {
    const network *n = task;
    (void)thread;
    for (int64_t c = begin; c < end; c++)
        merge_part(n, c * n->chunk, n->chunk, runs_down(n, c * n->chunk));
}

/* The stages of a merge that are wider than a chunk: each piece takes a share of the places. */
static void widen_chunks(const void *task, int64_t begin, int64_t end, int thread) {
    const network *n = task;
    int64_t shares = n->part / n->chunk, share = (n->part >> n->stages) / shares;
    (void)thread;
    for (int64_t c = begin; c < end; c++) {
        int64_t at = c / shares * n->part, first = c % shares * share;
        widen_part(n, at, first, first + share, runs_down(n, at));
    }
}

/* By all threads: chunks are sorted, then merged two by two. */
static void run_network(network *n, int threads) {
    int64_t chunks = threads > 1 ? CHUNKS : 1;
    n->chunk = n->size / chunks;
    if (chunks == 1) {
        sort_part(n, 0, n->size, false);
        return;
    }
    fovea_share(chunks, threads, sort_chunks, n);
    for (n->span = 2 * n->chunk; n->span <= n->size; n->span *= 2) {
        for (n->part = n->span; n->part > n->chunk; n->part >>= n->stages) {
            n->stages = stages_at_once(n->part / n->chunk);
            fovea_share(chunks, threads, widen_chunks, n);
        }
        fovea_share(chunks, threads, merge_chunks, n);
    }
}

/* How a row's tensors become the network's elements. */
typedef struct bitonic_task {
    const fovea_problem *problem;
    char *scratch;
    size_t row_bytes, key_bytes_all;
    int64_t n, size, element; /* of a row; padded; bytes of an element of the network */
    content content;
    int within;
} bitonic_task;

static bool has_values(const fovea_problem *problem) {
    return problem->kernel->arguments[3].name != NULL;
}

static bitonic_task describe_bitonic(const fovea_problem *problem) {
    const fovea_view *x = &problem->views[0];
    bitonic_task t = {.problem = problem, .n = x->shape[x->rank - 1]};
    bool wide = fovea_dtype_size(x->dtype) == 8, with_values = has_values(problem);
    t.content = with_values ? wide ? PAIRS : PACKED : wide ? LONGS : WORDS;
    int64_t square = t.content == WORDS ? words_SQUARE : longs_SQUARE;
    for (t.size = square; t.size < t.n;) t.size *= 2;
    t.element = t.content == WORDS ? 4 : 8;
    t.key_bytes_all = aligned(t.size * t.element);
    t.row_bytes = t.key_bytes_all + (t.content == PAIRS ? aligned(t.size * 8) : 0);
    return t;
}

/* Keys that compare with a sign; padding comes last. */
static void fill_words_of(const bitonic_task *t, int64_t first, int32_t *to) {
    keys_read_32(&t->problem->views[0], first, t->n, (uint32_t *)to, UINT32_C(1) << 31);
    for (int64_t i = t->n; i < t->size; i++) to[i] = INT32_MAX;
}
static void fill_longs_of(const bitonic_task *t, int64_t first, int64_t *to) {
    keys_read_64(&t->problem->views[0], first, t->n, (uint64_t *)to, UINT64_C(1) << 63);
    for (int64_t i = t->n; i < t->size; i++) to[i] = INT64_MAX;
}

static void fill_packed(const bitonic_task *t, int64_t first, int64_t *to) {
    uint32_t keys[TURN_BLOCK], values[TURN_BLOCK];
    for (int64_t i = 0; i < t->n; i += TURN_BLOCK) {
        int64_t count = smaller(TURN_BLOCK, t->n - i);
        keys_read_32(&t->problem->views[0], first + i, count, keys, UINT32_C(1) << 31);
        dense_read(&t->problem->views[1], first + i, count, values);
        for (int64_t j = 0; j < count; j++)
            to[i + j] = (int64_t)((uint64_t)keys[j] << 32 | values[j]);
    }
    for (int64_t i = t->n; i < t->size; i++) to[i] = INT64_MAX;
}
static void empty_packed(const bitonic_task *t, int64_t first, const int64_t *from) {
    uint32_t keys[TURN_BLOCK], values[TURN_BLOCK];
    for (int64_t i = 0; i < t->n; i += TURN_BLOCK) {
        int64_t count = smaller(TURN_BLOCK, t->n - i);
        for (int64_t j = 0; j < count; j++)
            keys[j] = (uint32_t)((uint64_t)from[i + j] >> 32), values[j] = (uint32_t)from[i + j];
        keys_write_32(&t->problem->views[2], first + i, count, keys, UINT32_C(1) << 31);
        dense_write(&t->problem->views[3], first + i, count, values);
    }
}

static void fill_values(const bitonic_task *t, int64_t first, int64_t *to) {
    uint32_t values[TURN_BLOCK];
    for (int64_t i = 0; i < t->n; i += TURN_BLOCK) {
        int64_t count = smaller(TURN_BLOCK, t->n - i);
        dense_read(&t->problem->views[1], first + i, count, values);
        for (int64_t j = 0; j < count; j++) to[i + j] = values[j];
    }
    for (int64_t i = t->n; i < t->size; i++) to[i] = INT64_MAX;
}
static void empty_values(const bitonic_task *t, int64_t first, const int64_t *from) {
    uint32_t values[TURN_BLOCK];
    for (int64_t i = 0; i < t->n; i += TURN_BLOCK) {
        int64_t count = smaller(TURN_BLOCK, t->n - i);
        for (int64_t j = 0; j < count; j++) values[j] = (uint32_t)from[i + j];
        dense_write(&t->problem->views[3], first + i, count, values);
    }
}

static void bitonic_row(const bitonic_task *t, int64_t row, char *scratch) {
    const fovea_view *y = &t->problem->views[has_values(t->problem) ? 2 : 1];
    int64_t first = row * t->n;
    network n = {.content = t->content,
                 .keys = scratch,
                 .values = (int64_t *)(void *)(scratch + t->key_bytes_all),
                 .size = t->size};
    if (t->content == WORDS)
        fill_words_of(t, first, n.keys);
    else if (t->content == PACKED)
        fill_packed(t, first, n.keys);
    else
        fill_longs_of(t, first, n.keys);
    if (t->content == PAIRS) fill_values(t, first, n.values);
    run_network(&n, t->size * t->element > CHUNKS * 1024 ? t->within : 1);
    if (t->content == WORDS)
        keys_write_32(y, first, t->n, n.keys, UINT32_C(1) << 31);
    else if (t->content == PACKED)
        empty_packed(t, first, n.keys);
    else
        keys_write_64(y, first, t->n, n.keys, UINT64_C(1) << 63);
    if (t->content == PAIRS) empty_values(t, first, n.values);
}

static void bitonic_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const bitonic_task *t = task;
    for (int64_t row = begin; row < end; row++)
        bitonic_row(t, row, t->scratch + (size_t)thread * t->row_bytes);
}

static size_t bitonic_workspace(const fovea_problem *problem, int threads) {
    bitonic_task t = describe_bitonic(problem);
    return scratch_of(rows_of(&problem->views[0]), t.row_bytes, threads);
}

static fovea_status sort_bitonic(const fovea_problem *problem, fovea_run *run) {
    bitonic_task t = describe_bitonic(problem);
    int64_t rows = rows_of(&problem->views[0]);
    int64_t bits = 63 - __builtin_clzll((uint64_t)t.size);
    t.scratch = run->workspace;
    split s = split_threads(rows, t.size * t.element * bits * bits / 8, run->threads);
    t.within = s.within;
    run->threads = s.over_rows > s.within ? s.over_rows : s.within;
    fovea_share(rows, s.over_rows, bitonic_rows, &t);
    return FOVEA_OK;
}

/* ---- The largest ------------------------------------------------------------------------------ */

/* The largest are the smallest of inverted keys; NaN, all equal, come first. */
typedef struct topk_task {
    const fovea_problem *problem;
    char *scratch;
    size_t row_bytes;
    int64_t n, k, key_bytes;
} topk_task;

#define INVERTED(bits)                                                                             \
    static void read_inverted_##bits(const fovea_view *x, int64_t first, int64_t n,                \
                                     uint##bits##_t *keys) {                                       \
        bool floats = key_is_float(x->dtype);                                                      \
        keys_read_##bits(x, first, n, keys, UINT##bits##_MAX);                                     \
        for (int64_t i = 0; i < n && floats; i++)                                                  \
            keys[i] = keys[i] <= (uint##bits##_t) ~KEY_FIRST_NAN_##bits ? 0 : keys[i];             \
    }
INVERTED(32)
INVERTED(64)

static void topk_row(const topk_task *t, int64_t row, char *scratch) {
    const fovea_view *views = t->problem->views;
    uint64_t block[TURN_BLOCK];
    smallest s = smallest_begin(t->n, t->k, t->key_bytes, scratch);
    for (int64_t i = 0; i < t->n; i += TURN_BLOCK) {
        int64_t count = smaller(TURN_BLOCK, t->n - i), first = row * t->n + i;
        if (t->key_bytes == 4) {
            uint32_t *words = (uint32_t *)(void *)block;
            read_inverted_32(&views[0], first, count, words);
            smallest_take_32(&s, words, i, count);
        } else {
            read_inverted_64(&views[0], first, count, block);
            smallest_take_64(&s, block, i, count);
        }
    }
    smallest_settle(&s, t->key_bytes);
    const int64_t *places = s.sort.payload;
    for (int64_t i = 0; i < t->k; i++) {
        dense_run from = dense_run_at(&views[0], row * t->n + places[i], 1);
        dense_write(&views[1], row * t->k + i, 1, from.data);
        dense_write(&views[2], row * t->k + i, 1, &places[i]);
    }
}

static void topk_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const topk_task *t = task;
    for (int64_t row = begin; row < end; row++)
        topk_row(t, row, t->scratch + (size_t)thread * t->row_bytes);
}

static topk_task describe_topk(const fovea_problem *problem) {
    const fovea_view *x = &problem->views[0], *values = &problem->views[1];
    topk_task t = {.problem = problem,
                   .n = x->shape[x->rank - 1],
                   .k = values->shape[values->rank - 1],
                   .key_bytes = (int64_t)fovea_dtype_size(x->dtype)};
    t.row_bytes = aligned((int64_t)smallest_bytes(t.n, t.k, t.key_bytes));
    return t;
}

static size_t topk_workspace(const fovea_problem *problem, int threads) {
    return scratch_of(rows_of(&problem->views[0]), describe_topk(problem).row_bytes, threads);
}

static fovea_status topk_select(const fovea_problem *problem, fovea_run *run) {
    topk_task t = describe_topk(problem);
    int64_t rows = t.k > 0 ? rows_of(&problem->views[0]) : 0;
    t.scratch = run->workspace;
    run->threads = fovea_useful_threads(rows, rows * t.n * t.key_bytes, run->threads);
    fovea_share(rows, run->threads, topk_rows, &t);
    return FOVEA_OK;
}

/* ---- Order statistics ------------------------------------------------------------------------- */

typedef struct quantile_task {
    const fovea_problem *problem;
    const fovea_view *q; /* NULL: the median */
    char *scratch;
    size_t slice_bytes;
    int64_t n, several, key_bytes;
    int axis;
} quantile_task;

/* Keys of a slice to scratch; false if one is NaN. */
static bool read_slice(const quantile_task *t, int64_t number, void *keys) {
    const fovea_view *x = &t->problem->views[0];
    size_t size = (size_t)t->key_bytes;
    bool nan = false;
    if (t->axis < 0) {
        dense_read(x, 0, t->n, keys);
    } else {
        fovea_slice slice = fovea_problem_slice(t->problem, number);
        int64_t step = x->stride[t->axis] * t->key_bytes;
        dense_copy(keys, t->key_bytes, fovea_view_address(x, slice.first), step, t->n, size);
    }
    if (size == 4) {
        uint32_t *words = keys;
        keys_from_32(x->dtype, keys, words, t->n, 0);
        for (int64_t i = 0; i < t->n; i++) nan |= words[i] >= KEY_FIRST_NAN_32;
    } else {
        uint64_t *longs = keys;
        keys_from_64(x->dtype, keys, longs, t->n, 0);
        for (int64_t i = 0; i < t->n; i++) nan |= longs[i] >= KEY_FIRST_NAN_64;
    }
    return !(nan && key_is_float(x->dtype));
}

static long double element_of(const quantile_task *t, uint64_t key) {
    fovea_dtype dtype = t->problem->views[0].dtype;
    char bytes[8];
    if (t->key_bytes == 4) {
        uint32_t word = (uint32_t)key;
        keys_to_32(dtype, &word, bytes, 1, 0);
    } else {
        keys_to_64(dtype, &key, bytes, 1, 0);
    }
    int64_t integer;
    memcpy(&integer, bytes, sizeof integer);
    return dtype == FOVEA_I64 ? (long double)integer : fovea_read_element(bytes, dtype);
}

/* Where the order statistics of a slice can be looked up: the sorted keys of some bins, or of all. */
typedef struct statistics {
    const void *sorted;
    const bins *bins; /* NULL: all keys are sorted */
    int64_t key_bytes;
} statistics;

static uint64_t key_of_rank(const statistics *s, int64_t rank) {
    int64_t place = rank;
    if (s->bins) {
        int bin = bin_of_rank(s->bins, rank);
        place = s->bins->kept[bin] + rank - s->bins->before[bin];
    }
    return s->key_bytes == 4 ? ((const uint32_t *)s->sorted)[place]
                             : ((const uint64_t *)s->sorted)[place];
}

static fovea_quantile place_of(const quantile_task *t, int64_t j) {
    return fovea_quantile_place(t->n, t->q ? fovea_view_read(t->q, j) : 50);
}

enum { SORT_ALL = 2048 };

/* Keys at the start of scratch, memory for as many after them, and counters of the sort. */
static statistics find_statistics(const quantile_task *t, char *scratch, bins *b) {
    size_t keys = aligned(t->n * t->key_bytes);
    radix r = {.keys = scratch,
               .other_keys = scratch + keys,
               .n = t->n,
               .parts = 1,
               .places = (int64_t(*)[DIGITS])(void *)(scratch + 2 * keys)};
    bool some = t->n > SORT_ALL;
    if (some) {
        void *all = scratch, *to = scratch + keys;
        t->key_bytes == 4 ? bins_count_32(b, all, t->n) : bins_count_64(b, all, t->n);
        for (int64_t j = 0; j < t->several; j++) {
            fovea_quantile place = place_of(t, j);
            b->wanted[bin_of_rank(b, place.below)] = 1;
            b->wanted[bin_of_rank(b, place.above)] = 1;
        }
        r.n =
            t->key_bytes == 4 ? bins_gather_32(b, all, t->n, to) : bins_gather_64(b, all, t->n, to);
        r.keys = to, r.other_keys = all;
    }
    radix_sort(&r, t->key_bytes, 0);
    return (statistics){r.keys, some ? b : NULL, t->key_bytes};
}

static void quantiles_of_slice(const quantile_task *t, int64_t number, char *scratch) {
    const fovea_view *y = &t->problem->views[t->q ? 2 : 1];
    bins b;
    bool numbers = read_slice(t, number, scratch);
    statistics s = {0};
    if (numbers) s = find_statistics(t, scratch, &b);
    for (int64_t j = 0; j < t->several; j++) {
        double value = NAN;
        if (numbers) {
            fovea_quantile place = place_of(t, j);
            uint64_t below = key_of_rank(&s, place.below), above = key_of_rank(&s, place.above);
            long double low = element_of(t, below), high = element_of(t, above);
            bool exact = place.fraction == 0 || low == high;
            value = (double)(exact ? low : low + (long double)place.fraction * (high - low));
        }
        fovea_view_write(y, number * t->several + j, value);
    }
}

static void quantile_slices(const void *task, int64_t begin, int64_t end, int thread) {
    const quantile_task *t = task;
    for (int64_t number = begin; number < end; number++)
        quantiles_of_slice(t, number, t->scratch + (size_t)thread * t->slice_bytes);
}

static quantile_task describe_quantiles(const fovea_problem *problem) {
    const fovea_view *x = &problem->views[0];
    bool median = problem->kernel->arguments[2].name == NULL;
    quantile_task t = {.problem = problem,
                       .q = median ? NULL : &problem->views[1],
                       .axis = fovea_problem_axis(problem),
                       .key_bytes = (int64_t)fovea_dtype_size(x->dtype)};
    t.several = median ? 1 : fovea_view_elements(t.q);
    t.n = t.axis < 0 ? fovea_view_elements(x) : x->shape[t.axis];
    t.slice_bytes = 2 * aligned(t.n * t.key_bytes) + aligned(DIGITS * 8);
    return t;
}

static int64_t slices_of(const quantile_task *t) {
    int64_t values = fovea_view_elements(&t->problem->views[t->q ? 2 : 1]);
    return values > 0 ? values / t->several : 0;
}

static size_t quantile_workspace(const fovea_problem *problem, int threads) {
    quantile_task t = describe_quantiles(problem);
    return scratch_of(slices_of(&t), t.slice_bytes, threads);
}

static fovea_status quantiles(const fovea_problem *problem, fovea_run *run) {
    quantile_task t = describe_quantiles(problem);
    int64_t slices = slices_of(&t);
    t.scratch = run->workspace;
    run->threads = fovea_useful_threads(slices, 4 * slices * t.n * t.key_bytes, run->threads);
    fovea_share(slices, run->threads, quantile_slices, &t);
    return FOVEA_OK;
}

#define ENTRY(name, algorithm, run_function, scratch)                                              \
    {                                                                                              \
        name, FOVEA_CPU_NAME(algorithm), DTYPES, FOVEA_TIER_HERE, .run = run_function,             \
                                                                  .workspace = scratch             \
    }

const fovea_implementation FOVEA_TIERED(fovea_cpu_sorting)[] = {
    ENTRY("sort_bitonic", "bitonic", sort_bitonic, bitonic_workspace),
    ENTRY("sort_bitonic_kv", "bitonic", sort_bitonic, bitonic_workspace),
    ENTRY("topk_select", "candidates", topk_select, topk_workspace),
    ENTRY("sort_radix", "radix", sort_radix, radix_workspace),
    ENTRY("median_select", "bins", quantiles, quantile_workspace),
    ENTRY("percentile_select", "bins", quantiles, quantile_workspace),
    {0}};
