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

#ifdef FOVEA_TIER_AVX512
    #include "cpu/sorting/quick.h"
#endif

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

/* ---- Keys alone, where an instruction compresses vectors -------------------------------------- */

#ifdef FOVEA_TIER_AVX512

enum { INSERTED = 16 }; /* keys up to which inserting is faster than a network */

typedef struct quick_task {
    const fovea_problem *problem;
    char *scratch;
    size_t row_bytes;
    int64_t n, key_bytes;
    bool dense; /* y's rows are memory to sort in */
    int within;
} quick_task;

static quick_task describe_quick(const fovea_problem *problem) {
    const fovea_view *x = &problem->views[RADIX_X], *y = &problem->views[RADIX_Y];
    return (quick_task){.problem = problem,
                        .n = x->shape[x->rank - 1],
                        .key_bytes = (int64_t)fovea_dtype_size(x->dtype),
                        .dense = fovea_view_is_contiguous(y) || y->stride[y->rank - 1] == 1};
}

static bool quick_serves(const fovea_problem *problem) {
    const fovea_view *x = &problem->views[RADIX_X];
    return x->shape[x->rank - 1] > INSERTED && !fovea_given(problem, RADIX_PAYLOAD);
}

static size_t quick_row_bytes(const quick_task *t, int within) {
    quick_row r = {.n = t->n, .threads = within, .dense = t->dense};
    return quick_lay_out(&r, t->key_bytes, NULL);
}

static void quick_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const quick_task *t = task;
    for (int64_t row = begin; row < end; row++) {
        quick_row r = {.x = &t->problem->views[RADIX_X],
                       .y = &t->problem->views[RADIX_Y],
                       .first = row * t->n,
                       .n = t->n,
                       .threads = t->within,
                       .dense = t->dense};
        r.to = t->dense ? dense_place(r.y, r.first, r.n) : NULL;
        quick_lay_out(&r, t->key_bytes, t->scratch + (size_t)thread * t->row_bytes);
        t->key_bytes == 4 ? words_sort_row(&r) : longs_sort_row(&r);
    }
}

static fovea_status sort_keys(const fovea_problem *problem, fovea_run *run) {
    quick_task t = describe_quick(problem);
    int64_t rows = rows_of(&problem->views[RADIX_X]);
    split s = split_threads(rows, t.n * t.key_bytes * t.key_bytes, run->threads);
    t.scratch = run->workspace;
    t.within = s.within;
    t.row_bytes = quick_row_bytes(&t, s.within);
    run->threads = s.over_rows > s.within ? s.over_rows : s.within;
    fovea_share(rows, s.over_rows, quick_rows, &t);
    return FOVEA_OK;
}

static size_t quick_workspace(const fovea_problem *problem, int threads) {
    quick_task t = describe_quick(problem);
    int64_t rows = rows_of(&problem->views[RADIX_X]);
    size_t several = scratch_of(rows, quick_row_bytes(&t, 1), threads);
    size_t alone = quick_row_bytes(&t, threads < PARTS_MAX ? threads : PARTS_MAX);
    return rows > 0 && several < alone ? alone : several;
}

#endif

static size_t radix_workspace(const fovea_problem *problem, int threads) {
#ifdef FOVEA_TIER_AVX512
    if (quick_serves(problem)) return quick_workspace(problem, threads);
#endif
    return scratch_of(rows_of(&problem->views[0]), radix_row_bytes(problem), threads);
}

static fovea_status sort_radix(const fovea_problem *problem, fovea_run *run) {
#ifdef FOVEA_TIER_AVX512
    if (quick_serves(problem)) return sort_keys(problem, run);
#endif
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

/* Blocks of 2^14, 2^15, 2^16 and 2^17 bytes: 10^6 floats in 6.02, 5.90, 5.90, 6.08 ms. */
enum { BLOCK_BYTES = 1 << 16, PIECES = 16 };

/* How a row's tensors become the network's elements. */
typedef struct bitonic_task {
    const fovea_problem *problem;
    char *scratch;
    size_t row_bytes, key_bytes_all;
    int64_t n, size, element; /* of a row; padded; bytes of an element of the network */
    content content;
    int within;
} bitonic_task;

/* A row on its way. */
typedef struct network {
    const bitonic_task *task;
    int64_t first; /* of its elements */
    void *keys;
    int64_t *values;
    int64_t block;      /* elements that are filled, sorted, merged and emptied in a cache */
    int64_t piece;      /* of a thread */
    int64_t span, part; /* of a merge; of what its stages are taken over */
    int stages;         /* at a time */
} network;

static bool has_values(const fovea_problem *problem) {
    return problem->kernel->arguments[3].name != NULL;
}

/* Keys that compare with a sign, and values, of n elements from `first` on, in blocks. */
static void fill_packed(const bitonic_task *t, int64_t first, int64_t n, int64_t *to) {
    uint32_t keys[TURN_BLOCK], values[TURN_BLOCK];
    for (int64_t i = 0; i < n; i += TURN_BLOCK) {
        int64_t count = smaller(TURN_BLOCK, n - i);
        keys_read_32(&t->problem->views[0], first + i, count, keys, UINT32_C(1) << 31);
        dense_read(&t->problem->views[1], first + i, count, values);
        for (int64_t j = 0; j < count; j++)
            to[i + j] = (int64_t)((uint64_t)keys[j] << 32 | values[j]);
    }
}
static void empty_packed(const bitonic_task *t, int64_t first, int64_t n, const int64_t *from) {
    uint32_t keys[TURN_BLOCK], values[TURN_BLOCK];
    for (int64_t i = 0; i < n; i += TURN_BLOCK) {
        int64_t count = smaller(TURN_BLOCK, n - i);
        for (int64_t j = 0; j < count; j++)
            keys[j] = (uint32_t)((uint64_t)from[i + j] >> 32), values[j] = (uint32_t)from[i + j];
        keys_write_32(&t->problem->views[2], first + i, count, keys, UINT32_C(1) << 31);
        dense_write(&t->problem->views[3], first + i, count, values);
    }
}
static void fill_values(const bitonic_task *t, int64_t first, int64_t n, int64_t *to) {
    uint32_t values[TURN_BLOCK];
    for (int64_t i = 0; i < n; i += TURN_BLOCK) {
        int64_t count = smaller(TURN_BLOCK, n - i);
        dense_read(&t->problem->views[1], first + i, count, values);
        for (int64_t j = 0; j < count; j++) to[i + j] = values[j];
    }
}
static void empty_values(const bitonic_task *t, int64_t first, int64_t n, const int64_t *from) {
    uint32_t values[TURN_BLOCK];
    for (int64_t i = 0; i < n; i += TURN_BLOCK) {
        int64_t count = smaller(TURN_BLOCK, n - i);
        for (int64_t j = 0; j < count; j++) values[j] = (uint32_t)from[i + j];
        dense_write(&t->problem->views[3], first + i, count, values);
    }
}

/* Of `size` places from `at` on those that have an element. */
static int64_t elements_at(const network *n, int64_t at, int64_t size) {
    int64_t rest = n->task->n - at;
    return rest < 0 ? 0 : smaller(rest, size);
}

/* Places from `at` on, from the row's elements; padding comes last. */
static void fill_places(const network *n, int64_t at, int64_t size) {
    const bitonic_task *t = n->task;
    const fovea_view *x = &t->problem->views[0];
    int64_t count = elements_at(n, at, size), first = n->first + at;
    int32_t *words = (int32_t *)n->keys + at;
    int64_t *longs = (int64_t *)n->keys + at;
    if (count > 0 && t->content == WORDS)
        keys_read_32(x, first, count, (uint32_t *)words, UINT32_C(1) << 31);
    else if (count > 0 && t->content == PACKED)
        fill_packed(t, first, count, longs);
    else if (count > 0)
        keys_read_64(x, first, count, (uint64_t *)longs, UINT64_C(1) << 63);
    if (t->content == PAIRS) fill_values(t, first, count, n->values + at);
    for (int64_t i = count; i < size && t->content == WORDS; i++) words[i] = INT32_MAX;
    for (int64_t i = count; i < size && t->content != WORDS; i++) longs[i] = INT64_MAX;
    for (int64_t i = count; i < size && t->content == PAIRS; i++) n->values[at + i] = INT64_MAX;
}

/* Their elements, to where they are sorted. */
static void empty_places(const network *n, int64_t at, int64_t size) {
    const bitonic_task *t = n->task;
    const fovea_view *y = &t->problem->views[has_values(t->problem) ? 2 : 1];
    int64_t count = elements_at(n, at, size), first = n->first + at;
    if (count == 0) return;
    if (t->content == WORDS)
        keys_write_32(y, first, count, (uint32_t *)n->keys + at, UINT32_C(1) << 31);
    else if (t->content == PACKED)
        empty_packed(t, first, count, (int64_t *)n->keys + at);
    else
        keys_write_64(y, first, count, (uint64_t *)n->keys + at, UINT64_C(1) << 63);
    if (t->content == PAIRS) empty_values(t, first, count, n->values + at);
}

static void sort_part(const network *n, int64_t at, int64_t size, bool down) {
    if (n->task->content == WORDS)
        words_sort(n->keys, at, size, down);
    else if (n->task->content == PAIRS)
        pairs_sort((pairs){n->keys, n->values}, at, size, down);
    else
        longs_sort(n->keys, at, size, down);
}

static void merge_part(const network *n, int64_t at, int64_t size, bool down) {
    if (n->task->content == WORDS)
        words_merge(n->keys, at, size, down);
    else if (n->task->content == PAIRS)
        pairs_merge((pairs){n->keys, n->values}, at, size, down);
    else
        longs_merge(n->keys, at, size, down);
}

static void widen_part(const network *n, int64_t at, int64_t part, int stages, int64_t begin,
                       int64_t end, bool down) {
    if (n->task->content == WORDS)
        words_wide(n->keys, at, part, stages, begin, end, down);
    else if (n->task->content == PAIRS)
        pairs_wide((pairs){n->keys, n->values}, at, part, stages, begin, end, down);
    else
        longs_wide(n->keys, at, part, stages, begin, end, down);
}

/* Merges a part, block by block once it is narrow enough. What the last merge leaves goes to the row. */
static void merge_from(const network *n, int64_t at, int64_t size, bool down, bool last) {
    if (last && elements_at(n, at, size) == 0) return;
    if (size <= n->block) {
        merge_part(n, at, size, down);
        if (last) empty_places(n, at, size);
        return;
    }
    int stages = stages_at_once(size / n->block);
    int64_t part = size >> stages;
    widen_part(n, at, size, stages, 0, part, down);
    for (int64_t i = 0; i < size; i += part) merge_from(n, at + i, part, down, last);
}

/* Sorts a part, from the row's elements on; padding alone is sorted. */
static void sort_from(const network *n, int64_t at, int64_t size, bool down) {
    bool padding = elements_at(n, at, size) == 0, last = size == n->task->size;
    if (size <= n->block || padding) {
        fill_places(n, at, size);
        if (!padding) sort_part(n, at, size, down);
        if (last) empty_places(n, at, size);
        return;
    }
    sort_from(n, at, size / 2, false);
    sort_from(n, at + size / 2, size / 2, true);
    merge_from(n, at, size, down, last);
}

static void sort_pieces(const void *task, int64_t begin, int64_t end, int thread) {
    const network *n = task;
    (void)thread;
    for (int64_t p = begin; p < end; p++) sort_from(n, p * n->piece, n->piece, p & 1);
}

/* Every second merge runs down, but for the last. */
static bool runs_down(const network *n, int64_t at) {
    return n->span < n->task->size && at / n->span & 1;
}

static void merge_pieces(const void *task, int64_t begin, int64_t end, int thread) {
    const network *n = task;
    (void)thread;
    for (int64_t p = begin; p < end; p++)
        merge_from(n, p * n->piece, n->piece, runs_down(n, p * n->piece), n->span == n->task->size);
}

/* The stages of a merge that are wider than a piece: each piece takes a share of the places. */
static void widen_pieces(const void *task, int64_t begin, int64_t end, int thread) {
    const network *n = task;
    int64_t shares = n->part / n->piece, share = (n->part >> n->stages) / shares;
    (void)thread;
    for (int64_t p = begin; p < end; p++) {
        int64_t at = p / shares * n->part, first = p % shares * share;
        widen_part(n, at, n->part, n->stages, first, first + share, runs_down(n, at));
    }
}

/* Each thread sorts a piece, or several where threads are no power of two; all merge them two by two. */
static void run_network(network *n, int threads) {
    int64_t size = n->task->size,
            pieces = threads <= PIECES && !(threads & (threads - 1)) ? threads : PIECES;
    if (threads == 1) {
        sort_from(n, 0, size, false);
        return;
    }
    n->piece = size / pieces;
    fovea_share(pieces, threads, sort_pieces, n);
    for (n->span = 2 * n->piece; n->span <= size; n->span *= 2) {
        for (n->part = n->span; n->part > n->piece; n->part >>= n->stages) {
            n->stages = stages_at_once(n->part / n->piece);
            fovea_share(pieces, threads, widen_pieces, n);
        }
        fovea_share(pieces, threads, merge_pieces, n);
    }
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

static void bitonic_row(const bitonic_task *t, int64_t row, char *scratch) {
    network n = {.task = t,
                 .first = row * t->n,
                 .keys = scratch,
                 .values = (int64_t *)(void *)(scratch + t->key_bytes_all),
                 .block = BLOCK_BYTES / t->element};
    /* One element is sorted; its network is of 256, padded, and takes 300 ns. */
    if (t->n == 1) {
        fill_places(&n, 0, 1);
        empty_places(&n, 0, 1);
        return;
    }
    run_network(&n, t->size * t->element > PIECES * 1024 ? t->within : 1);
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
    smallest *parts; /* of the only row */
    int several;
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

/* The candidates of elements [from, to) of a row. */
static smallest topk_part(const topk_task *t, int64_t row, int64_t from, int64_t to,
                          char *scratch) {
    const fovea_view *x = &t->problem->views[0];
    uint64_t block[TURN_BLOCK];
    smallest s = smallest_begin(t->n, t->k, t->key_bytes, scratch);
    for (int64_t i = from; i < to; i += TURN_BLOCK) {
        int64_t count = smaller(TURN_BLOCK, to - i), first = row * t->n + i;
        if (t->key_bytes == 4) {
            uint32_t *words = (uint32_t *)(void *)block;
            read_inverted_32(x, first, count, words);
            smallest_take_32(&s, words, i, count);
        } else {
            read_inverted_64(x, first, count, block);
            smallest_take_64(&s, block, i, count);
        }
    }
    smallest_settle(&s, t->key_bytes);
    return s;
}

static void topk_write(const topk_task *t, int64_t row, const smallest *s) {
    const fovea_view *views = t->problem->views;
    const int64_t *places = s->sort.payload;
    for (int64_t i = 0; i < t->k; i++) {
        dense_run from = dense_run_at(&views[0], row * t->n + places[i], 1);
        dense_write(&views[1], row * t->k + i, 1, from.data);
        dense_write(&views[2], row * t->k + i, 1, &places[i]);
    }
}

static void topk_rows(const void *task, int64_t begin, int64_t end, int thread) {
    const topk_task *t = task;
    for (int64_t row = begin; row < end; row++) {
        smallest s = topk_part(t, row, 0, t->n, t->scratch + (size_t)thread * t->row_bytes);
        topk_write(t, row, &s);
    }
}

/* Parts of the only row. */
static void topk_parts(const void *task, int64_t begin, int64_t end, int thread) {
    const topk_task *t = task;
    (void)thread;
    for (int64_t part = begin; part < end; part++)
        t->parts[part] = topk_part(t, 0, t->n * part / t->several, t->n * (part + 1) / t->several,
                                   t->scratch + (size_t)part * t->row_bytes);
}

/* The first part takes what the others have kept, in their order: of equal elements the first stay. */
static void topk_join(const topk_task *t) {
    radix *all = &t->parts[0].sort;
    for (int part = 1; part < t->several; part++) {
        const radix *more = &t->parts[part].sort;
        size_t size = (size_t)t->key_bytes;
        memcpy((char *)all->keys + (size_t)all->n * size, more->keys, (size_t)more->n * size);
        memcpy((int64_t *)all->payload + all->n, more->payload, (size_t)more->n * 8);
        all->n += more->n;
        smallest_settle(&t->parts[0], t->key_bytes);
    }
    topk_write(t, 0, &t->parts[0]);
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
    topk_task t = describe_topk(problem);
    int64_t rows = rows_of(&problem->views[0]);
    return scratch_of(rows == 1 ? threads : rows, t.row_bytes, threads);
}

static fovea_status topk_select(const fovea_problem *problem, fovea_run *run) {
    topk_task t = describe_topk(problem);
    int64_t rows = t.k > 0 ? rows_of(&problem->views[0]) : 0;
    smallest parts[PARTS_MAX];
    int allowed = run->threads;
    split s = split_threads(rows, t.n * t.key_bytes, allowed);
    t.scratch = run->workspace, t.parts = parts, t.several = s.within;
    if (rows == 1 && s.within > 1 && t.k <= t.n / (8 * s.within)) {
        run->threads = s.within;
        fovea_share(s.within, s.within, topk_parts, &t);
        topk_join(&t);
        return FOVEA_OK;
    }
    run->threads = fovea_useful_threads(rows, rows * t.n * t.key_bytes, allowed);
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

enum { SORT_ALL = 2048, COUNTS_BYTES = BINS * sizeof(uint32_t) };

static void want_ranks(const quantile_task *t, bins *b) {
    for (int64_t j = 0; j < t->several; j++) {
        fovea_quantile place = place_of(t, j);
        b->wanted[bin_of_rank(b, place.below)] = 1;
        b->wanted[bin_of_rank(b, place.above)] = 1;
    }
}

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
        want_ranks(t, b);
        r.n =
            t->key_bytes == 4 ? bins_gather_32(b, all, t->n, to) : bins_gather_64(b, all, t->n, to);
        r.keys = to, r.other_keys = all;
    }
    radix_sort(&r, t->key_bytes, 0);
    return (statistics){r.keys, some ? b : NULL, t->key_bytes};
}

/* The only slice, in parts: its keys are counted, then those of wanted bins brought together; no others are
 * written down. */
typedef struct quantile_parts {
    const quantile_task *task;
    uint32_t (*counts)[BINS]; /* of each part */
    const bins *bins;
    void *to;
    int64_t starts[PARTS_MAX]; /* where a part puts its keys */
    bool nan[PARTS_MAX];
    int several;
} quantile_parts;

#define QUANTILE_PARTS(bits)                                                                       \
    static void count_parts_##bits(const void *task, int64_t begin, int64_t end, int thread) {     \
        quantile_parts *p = (quantile_parts *)(uintptr_t)task;                                     \
        const fovea_view *x = &p->task->problem->views[0];                                         \
        uint##bits##_t keys[TURN_BLOCK], most;                                                     \
        (void)thread;                                                                              \
        for (int64_t part = begin; part < end; part++) {                                           \
            int64_t i = p->task->n * part / p->several,                                            \
                    last = p->task->n * (part + 1) / p->several;                                   \
            uint32_t *counts = p->counts[part];                                                    \
            memset(counts, 0, sizeof p->counts[part]);                                             \
            most = 0;                                                                              \
            for (int64_t n; i < last; i += n) {                                                    \
                n = smaller(TURN_BLOCK, last - i);                                                 \
                keys_read_##bits(x, i, n, keys, 0);                                                \
                for (int64_t j = 0; j < n; j++) most = keys[j] > most ? keys[j] : most;            \
                for (int64_t j = 0; j < n; j++) counts[keys[j] >> (bits - BIN_BITS)]++;            \
            }                                                                                      \
            p->nan[part] = key_is_float(x->dtype) && most >= KEY_FIRST_NAN_##bits;                 \
        }                                                                                          \
    }                                                                                              \
    static void gather_parts_##bits(const void *task, int64_t begin, int64_t end, int thread) {    \
        const quantile_parts *p = task;                                                            \
        const fovea_view *x = &p->task->problem->views[0];                                         \
        uint##bits##_t keys[TURN_BLOCK], found[TURN_BLOCK];                                        \
        (void)thread;                                                                              \
        for (int64_t part = begin; part < end; part++) {                                           \
            int64_t i = p->task->n * part / p->several,                                            \
                    last = p->task->n * (part + 1) / p->several;                                   \
            uint##bits##_t *to = (uint##bits##_t *)p->to + p->starts[part];                        \
            for (int64_t n; i < last; i += n) {                                                    \
                int64_t kept = 0;                                                                  \
                n = smaller(TURN_BLOCK, last - i);                                                 \
                keys_read_##bits(x, i, n, keys, 0);                                                \
                for (int64_t j = 0; j < n; j++) {                                                  \
                    uint##bits##_t key = keys[j];                                                  \
                    found[kept] = key;                                                             \
                    kept += p->bins->wanted[key >> (bits - BIN_BITS)];                             \
                }                                                                                  \
                memcpy(to, found, (size_t)kept * sizeof *to);                                      \
                to += kept;                                                                        \
            }                                                                                      \
        }                                                                                          \
    }
QUANTILE_PARTS(32)
QUANTILE_PARTS(64)

/* The sizes of bins from those of parts; where parts put their keys. How many keys are wanted. */
static int64_t join_counts(quantile_parts *p, bins *b) {
    int64_t sum = 0, kept = 0;
    for (int d = 0; d < BINS; d++) {
        b->before[d] = sum, b->wanted[d] = 0;
        for (int part = 0; part < p->several; part++) sum += p->counts[part][d];
    }
    b->before[BINS] = sum;
    want_ranks(p->task, b);
    for (int part = 0; part < p->several; part++) {
        p->starts[part] = kept;
        for (int d = 0; d < BINS; d++) kept += b->wanted[d] ? p->counts[part][d] : 0;
    }
    bins_keep(b);
    return kept;
}

static statistics find_statistics_in_parts(const quantile_task *t, char *scratch, int several,
                                           bins *b, bool *numbers) {
    size_t keys = aligned(t->n * t->key_bytes);
    quantile_parts p = {.task = t, .bins = b, .to = scratch, .several = several};
    p.counts = (uint32_t(*)[BINS])(void *)(scratch + t->slice_bytes);
    bool words = t->key_bytes == 4;
    fovea_share(several, several, words ? count_parts_32 : count_parts_64, &p);
    for (int part = 0; part < several; part++) *numbers = *numbers && !p.nan[part];
    if (!*numbers) return (statistics){0};
    radix r = {.keys = scratch,
               .other_keys = scratch + keys,
               .n = join_counts(&p, b),
               .parts = 1,
               .places = (int64_t(*)[DIGITS])(void *)(scratch + 2 * keys)};
    fovea_share(several, several, words ? gather_parts_32 : gather_parts_64, &p);
    radix_sort(&r, t->key_bytes, 0);
    return (statistics){r.keys, b, t->key_bytes};
}

static void write_quantiles(const quantile_task *t, int64_t number, const statistics *s) {
    const fovea_view *y = &t->problem->views[t->q ? 2 : 1];
    for (int64_t j = 0; j < t->several; j++) {
        double value = NAN;
        if (s->sorted) {
            fovea_quantile place = place_of(t, j);
            uint64_t below = key_of_rank(s, place.below), above = key_of_rank(s, place.above);
            long double low = element_of(t, below), high = element_of(t, above);
            bool exact = place.fraction == 0 || low == high;
            value = (double)(exact ? low : low + (long double)place.fraction * (high - low));
        }
        fovea_view_write(y, number * t->several + j, value);
    }
}

static void quantiles_of_slice(const quantile_task *t, int64_t number, char *scratch) {
    bins b;
    statistics s = {0}; /* of a slice with NaN */
    if (read_slice(t, number, scratch)) s = find_statistics(t, scratch, &b);
    write_quantiles(t, number, &s);
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

/* Whether there is but one slice, of all elements in their order. */
static bool in_parts(const quantile_task *t, int64_t slices) {
    return slices == 1 && t->n > SORT_ALL && t->n <= INT32_MAX &&
           t->n == fovea_view_elements(&t->problem->views[0]);
}

static size_t quantile_workspace(const fovea_problem *problem, int threads) {
    quantile_task t = describe_quantiles(problem);
    size_t counts = (size_t)smaller(threads, PARTS_MAX) * COUNTS_BYTES;
    size_t bytes = t.slice_bytes + (in_parts(&t, slices_of(&t)) ? counts : 0);
    return scratch_of(slices_of(&t), bytes, threads);
}

static fovea_status quantiles(const fovea_problem *problem, fovea_run *run) {
    quantile_task t = describe_quantiles(problem);
    int64_t slices = slices_of(&t);
    t.scratch = run->workspace;
    split s = split_threads(slices, 4 * t.n * t.key_bytes, run->threads);
    if (in_parts(&t, slices) && s.within > 1) {
        bool numbers = true;
        bins b;
        run->threads = s.within;
        statistics found = find_statistics_in_parts(&t, t.scratch, s.within, &b, &numbers);
        write_quantiles(&t, 0, &found);
        return FOVEA_OK;
    }
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
