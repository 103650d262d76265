/* Attention forward on the CPU: textbook, fused and flash over the micro-kernels of attention_micro.h.
 *
 * flash: a work item is a superblock of query rows of one key head. Blocks of keys are the outer loop and the tiles of the
 * superblock the inner one, so that a block of k and v is fetched, and converted where its layout asks for it, once for all of them.
 * Blocks that no row of a tile attends are skipped; only blocks on the edge of a mask are compared lane by lane. Items are
 * drained from atomic counters, those with most keys first.
 * fused: the same with a single block that spans all keys; the maximum is known before the first exponential.
 * textbook: all scores of the problem in memory, three passes, nothing skipped: what the others are compared with.
 */
#include "cpu/attention/append.h"
#include "cpu/attention/attention_blocks.h"
#include "cpu/attention/backward.h"
#include "cpu/attention/merge.h"
#include "cpu/attention/sage.h"
#include "cpu/attention/split.h"

#include "catalogue/implementation.h"

#include <omp.h>

static void attend_block(const tile_context *at, tile *t, int64_t key, int64_t keys,
                         rows_of_block k, rows_of_block v, float *s, ahead *rows_ahead,
                         ahead *panels) {
    float maximum[TILE_ROWS];
    segment segments[2 * TILE_VECTORS + 1] = {{0, keys, 0, t->vectors}};
    bool edge = key < t->full_low || key + keys > t->full_high;
    int count = edge ? cut_segments(t, key, keys, at->pairs ? 2 : 1, segments) : 1;
    ahead_fetch(panels);
    score_tile(at, t, segments, count, key, k, s, maximum, rows_ahead);
    ahead_fetch(panels);
    if (at->general) change_scores(at, t, s, key, keys);
    if (edge)
        limit_scores(t, s, key, keys, maximum);
    else if (at->general)
        find_maxima(t, s, keys, maximum);
    softmax_block(at, t, s, keys, maximum);
    if (at->call->options->dropout > 0) drop_elements(at, t, s, key, keys);
    ahead_fetch(panels);
    float factors[TILE_ROWS];
    row_sums last;
    t->stored = !edge && last_sums(at, t, key + keys, factors, &last);
    add_values(at, t, segments, count, v, s, t->stored ? &last : NULL, rows_ahead);
}

/* ---- Work items ------------------------------------------------------------------------------------- */

/* The first key of a block's part; pairs keep their places in the block. */
static int64_t pair_start(const tile_context *at, int64_t block, int64_t key) {
    return at->pairs ? block + (key - block) / 2 * 2 : key;
}

/* Rows of a mask or a bias that a tile will read for keys [first, end): of each of its heads. */
static void plan_panel_ahead(const tile_context *at, const tile *t, const fovea_view *view,
                             int64_t first, int64_t end, ahead *next) {
    int64_t size = (int64_t)fovea_dtype_size(view->dtype), group = at->call->group;
    int64_t heads = view->stride[1] == 0 ? 1 : smaller(group, AHEAD_RANGES / 2);
    for (int64_t h = 0; h < heads; h++)
        ahead_add(next,
                  fovea_row(view, at->sequence.batch, at->key_head * group + h, t->row / group) +
                      first * size,
                  view->stride[2] * size, (end - first) * size,
                  view->stride[2] == 0 ? 1 : divide_up(t->rows, group));
}

static void plan_panels_ahead(const tile_context *at, const tile *t, int64_t first, int64_t end,
                              ahead *next) {
    const fovea_attention_call *call = at->call;
    if (first >= end) return;
    if (call->has_mask) plan_panel_ahead(at, t, &call->mask, first, end, next);
    if (call->has_bias) plan_panel_ahead(at, t, &call->bias, first, end, next);
    ahead_share(next, 3);
}

/* All tiles of a superblock attend keys [start, end) of the block that begins at `block`. */
static void attend_keys(const plan *p, const tile_context *at, tile *tiles, int count,
                        int64_t block, int64_t start, int64_t end, const slice *s,
                        ahead *rows_ahead) {
    const fovea_attention_call *call = at->call;
    start = pair_start(at, block, start);
    rows_of_block k = at->pairs ? fetch_pair_keys(at, p->convert_keys, start, end - start, s->keys)
                      : at->shorts
                          ? fetch_short_keys(at, start, end - start, s->keys)
                          : fetch_rows(at, &call->k, p->convert_keys, start, end - start, s->keys);
    rows_of_block v =
        at->pairs ? fetch_pair_values(at, start, end - start, s->values)
                  : fetch_rows(at, &call->v, p->convert_values, start, end - start, s->values);
    int64_t k_size = at->pairs ? 2 : 4, v_rows = at->pairs ? 2 : 1;
    for (int i = 0; i < count; i++) {
        int64_t a = pair_start(at, block, larger(start, tiles[i].low));
        int64_t b = smaller(end, tiles[i].high);
        if (a >= b) continue;
        rows_of_block tile_k = k, tile_v = v;
        tile_k.data = (const char *)k.data + (a - start) * k.stride * k_size;
        tile_v.data = (const float *)v.data + (a - start) / v_rows * v.stride;
        if (k.scale) tile_k.scale += a - start;
        ahead panels;
        ahead_begin(&panels);
        if (p->ahead_panels && i + 1 < count)
            plan_panels_ahead(at, &tiles[i + 1], start, end, &panels);
        else if (p->ahead_panels)
            plan_panels_ahead(at, &tiles[0], end,
                              smaller(end + p->block_keys, at->sequence.key_count), &panels);
        attend_block(at, &tiles[i], a, b - a, tile_k, tile_v, s->scores, rows_ahead, &panels);
    }
}

/* Keys and values [first, end) of the item's head. */
static void plan_keys_ahead(const tile_context *at, int64_t first, int64_t end, ahead *next) {
    const fovea_view *k = &at->call->k, *v = &at->call->v;
    int64_t size = (int64_t)fovea_dtype_size(k->dtype);
    if (first >= end) return;
    ahead_add(next, key_row(at, v, first), v->stride[2] * size, v->shape[3] * size, end - first);
    ahead_add(next, key_row(at, k, first), k->stride[2] * size, k->shape[3] * size, end - first);
}

/* What this thread's next item begins with, if no other thread takes it: queries are asked for in the middle of this one,
 * keys and values with its last block, where a causal mask leaves few tiles at work. */
static void plan_item_ahead(const plan *p, const fovea_attention_call *call, int64_t item,
                            bool queries, bool keys, ahead *next) {
    int64_t first_row;
    item += p->lists;
    if (item >= p->items || call->options->window_left >= 0) return;
    tile_context at;
    int64_t rows = begin_item(p, call, item, &at, &first_row);
    int64_t size = (int64_t)fovea_dtype_size(call->q.dtype);
    if (keys) plan_keys_ahead(&at, 0, smaller(p->block_keys, at.sequence.key_count), next);
    if (!queries || call->group > 1) return;
    ahead_add(
        next,
        fovea_row(&call->q, at.sequence.batch, at.key_head, at.sequence.query_start + first_row),
        call->q.stride[2] * size, call->head_size * size, rows);
}

/* Into how many parts the products of a tile and so many keys are cut. */
static int64_t parts_of_tile(const tile_context *at, const tile *t, int64_t keys) {
    int64_t panels = divide_up(at->call->value_size, TILE_ROWS) * divide_up(t->rows, PART_ROWS);
    return divide_up(keys, PART_KEYS) + (t->by_rows ? divide_up(keys, at->value_keys) * panels : 1);
}

/* What to ask for while keys [start, end) are attended, shared among the tiles that attend some of them. */
static void plan_ahead(const plan *p, const tile_context *at, int64_t item, const tile *tiles,
                       int count, int64_t start, int64_t end, int64_t high, ahead *next) {
    int64_t portions = 0;
    ahead_begin(next);
    if (!p->ahead) return;
    for (int i = 0; i < count; i++)
        if (tiles[i].low < end && tiles[i].high > start)
            portions += parts_of_tile(at, &tiles[i], end - start);
    if (!portions) return;
    bool last = end >= high, halfway = 2 * start < high && 2 * end >= high;
    if (!last) plan_keys_ahead(at, end, smaller(end + p->block_keys, high), next);
    if (last || halfway) plan_item_ahead(p, at->call, item, halfway, last, next);
    ahead_share(next, portions);
}

static void attend_superblock(const plan *p, const fovea_attention_call *call, int64_t item,
                              const slice *s) {
    tile tiles[512 / TILE_ROWS + 1];
    int64_t first_row, low = INT64_MAX, high = 0;
    tile_context at;
    int64_t rows = begin_item(p, call, item, &at, &first_row);
    int count = 0;
    for (int64_t row = 0; row < rows; row += TILE_ROWS, count++) {
        tile *t = &tiles[count];
        set_tile(p, &at, s, first_row + row, rows - row, count, t);
        tile_begin(&at, t);
        if (p->shorts) t->plain = !pack_short_queries(t, call->head_size, p->head_words);
        low = smaller(low, t->low), high = larger(high, t->high);
    }
    for (int64_t block = low / p->block_keys * p->block_keys; block < high;
         block += p->block_keys) {
        int64_t end = smaller(block + p->block_keys, high);
        ahead next;
        plan_ahead(p, &at, item, tiles, count, block, end, high, &next);
        attend_keys(p, &at, tiles, count, block, larger(block, low), end, s, &next);
    }
    for (int i = 0; i < count; i++) tile_finish(&at, &tiles[i]);
}

/* ---- Textbook --------------------------------------------------------------------------------------- */

/* An item is a tile. Its scores, for all keys, and after them its references and sums. */
static float *item_scores(const plan *p, const fovea_attention_call *call, void *workspace,
                          int64_t item) {
    return (float *)workspace + (size_t)p->threads * p->slice_floats +
           (size_t)(item * (call->key_length + 2) * TILE_ROWS);
}

static void textbook_scores(const plan *p, const fovea_attention_call *call, void *workspace,
                            int64_t item, const slice *s) {
    int64_t first_row;
    float maximum[TILE_ROWS], *scores = item_scores(p, call, workspace, item);
    tile_context at;
    int64_t rows = begin_item(p, call, item, &at, &first_row);
    if (rows <= 0) return;
    tile t;
    ahead none;
    ahead_begin(&none);
    set_tile(p, &at, s, first_row, rows, 0, &t);
    tile_begin(&at, &t);
    for (int64_t j = 0; j < at.sequence.key_count; j += p->block_keys) {
        int64_t keys = smaller(p->block_keys, at.sequence.key_count - j);
        rows_of_block k = fetch_rows(&at, &call->k, p->convert_keys, j, keys, s->keys);
        const segment all = {0, keys, 0, t.vectors};
        score_tile(&at, &t, &all, 1, j, k, scores + j * TILE_ROWS, maximum, &none);
    }
    if (at.general) change_scores(&at, &t, scores, 0, at.sequence.key_count);
    limit_scores(&t, scores, 0, at.sequence.key_count, maximum);
    memcpy(scores + call->key_length * TILE_ROWS, maximum, sizeof maximum);
}

static void textbook_softmax(const plan *p, const fovea_attention_call *call, void *workspace,
                             int64_t item, const slice *s) {
    int64_t first_row;
    float *scores = item_scores(p, call, workspace, item);
    float *state = scores + call->key_length * TILE_ROWS, maximum[TILE_ROWS];
    tile_context at;
    int64_t rows = begin_item(p, call, item, &at, &first_row);
    if (rows <= 0) return;
    tile t;
    set_tile(p, &at, s, first_row, rows, 0, &t);
    number_rows(&at, &t);
    memcpy(maximum, state, sizeof maximum);
    t.reference = state, t.sum = state + TILE_ROWS;
    for (int64_t i = 0; i < TILE_ROWS; i++) t.reference[i] = -INFINITY, t.sum[i] = 0;
    softmax_block(&at, &t, scores, at.sequence.key_count, maximum);
    if (call->options->dropout > 0) drop_elements(&at, &t, scores, 0, at.sequence.key_count);
}

static void textbook_values(const plan *p, const fovea_attention_call *call, void *workspace,
                            int64_t item, const slice *s) {
    int64_t first_row;
    float *scores = item_scores(p, call, workspace, item);
    tile_context at;
    int64_t rows = begin_item(p, call, item, &at, &first_row);
    if (rows <= 0) return;
    tile t;
    ahead none;
    ahead_begin(&none);
    set_tile(p, &at, s, first_row, rows, 0, &t);
    number_rows(&at, &t);
    t.reference = scores + call->key_length * TILE_ROWS, t.sum = t.reference + TILE_ROWS;
    for (int64_t j = 0; j < at.sequence.key_count; j += p->block_keys) {
        int64_t keys = smaller(p->block_keys, at.sequence.key_count - j);
        rows_of_block v = fetch_rows(&at, &call->v, p->convert_values, j, keys, s->values);
        const segment all = {0, keys, 0, t.vectors};
        add_values(&at, &t, &all, 1, v, scores + j * TILE_ROWS, NULL, &none);
    }
    tile_finish(&at, &t);
}

/* ---- Running ---------------------------------------------------------------------------------------- */

typedef void phase(const plan *p, const fovea_attention_call *call, void *workspace, int64_t item,
                   const slice *s);

static void flash_phase(const plan *p, const fovea_attention_call *call, void *workspace,
                        int64_t item, const slice *s) {
    (void)workspace;
    attend_superblock(p, call, item, s);
}

/* Items l, l + lists, ... are list l. With one counter for all, half of a head's lines came from the other core's cache (H8 S64
 * D128 with two threads on Zen 5: 55 us, 46 with lists). */
static void drain(const plan *p, const fovea_attention_call *call, void *workspace, phase *run,
                  work_lists *lists, int thread) {
    slice s = thread_slice(p, workspace, thread);
    for (int i = 0; i < p->lists; i++) {
        int list = (thread + i) % p->lists;
        for (;;) {
            int64_t item = list + p->lists * lists_take(lists, list);
            if (item >= p->items) break;
            run(p, call, workspace, item, &s);
        }
    }
}

static int run_phase(const plan *p, const fovea_attention_call *call, void *workspace, phase *run) {
    work_lists lists;
    int threads = 1;
    if (p->threads == 1) {
        slice s = thread_slice(p, workspace, 0);
        for (int64_t item = 0; item < p->items; item++) run(p, call, workspace, item, &s);
        return 1;
    }
    lists_begin(&lists, p->lists);
#pragma omp parallel num_threads(p->threads)
    {
        if (omp_get_thread_num() == 0) threads = omp_get_num_threads();
        drain(p, call, workspace, run, &lists, omp_get_thread_num());
    }
    return threads;
}

/* What calls alike share. */
typedef struct attention_work {
    fovea_attention_call call;
    plan plan;
} attention_work;
_Static_assert(sizeof(attention_work) <= FOVEA_KEPT_BYTES, "it can be kept");

static fovea_status run_attention(const fovea_problem *problem, fovea_run *run,
                                  algorithm algorithm) {
    attention_work own;
    bool made;
    attention_work *work = fovea_kept(run, sizeof own, &own, &made);
    fovea_attention_call *call = &work->call;
    plan *p = &work->plan;
    if (made)
        fovea_attention_describe_again(problem, problem->options, call);
    else {
        fovea_attention_describe(problem, call);
        *p = make_plan(call, algorithm, run->threads);
    }
    run->block_rows = p->block_rows, run->block_keys = p->block_keys;
    run->arithmetic = p->pairs ? "bf16 pairs" : p->shorts ? "16-bit integer scores" : NULL;
    if (algorithm == TEXTBOOK) {
        run_phase(p, call, run->workspace, textbook_scores);
        run_phase(p, call, run->workspace, textbook_softmax);
        run->threads = run_phase(p, call, run->workspace, textbook_values);
    } else
        run->threads = run_phase(p, call, run->workspace, flash_phase);
    return FOVEA_OK;
}

static size_t workspace_bytes(const fovea_problem *problem, int threads, algorithm algorithm) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    plan p = make_plan(&call, algorithm, threads);
    return ((size_t)p.threads * p.slice_floats + p.score_matrix_floats) * 4;
}

#define ALGORITHM(name, constant)                                                                  \
    static bool serves_##name(const fovea_problem *problem, char *reason, size_t size) {           \
        return serves(problem, reason, size, FOVEA_ATTENTION_ALGORITHM_##constant);                \
    }                                                                                              \
    static fovea_status run_##name(const fovea_problem *problem, fovea_run *run) {                 \
        return run_attention(problem, run, constant);                                              \
    }                                                                                              \
    static size_t workspace_##name(const fovea_problem *problem, int threads) {                    \
        return workspace_bytes(problem, threads, constant);                                        \
    }                                                                                              \
    static double cost_##name(const fovea_problem *problem, int threads, double flops,             \
                              double bandwidth) {                                                  \
        return cost(problem, threads, flops, bandwidth, constant);                                 \
    }
ALGORITHM(flash, FLASH)
ALGORITHM(fused, FUSED)
ALGORITHM(textbook, TEXTBOOK)

#if defined(FOVEA_TIER_AVX512)
    #define TIER FOVEA_TIER_AVX512
    #define NAME(algorithm) "cpu/avx512/" algorithm
#elif defined(FOVEA_TIER_AVX2)
    #define TIER FOVEA_TIER_AVX2
    #define NAME(algorithm) "cpu/avx2/" algorithm
#elif defined(FOVEA_TIER_NEON)
    #define TIER FOVEA_TIER_NEON
    #define NAME(algorithm) "cpu/neon/" algorithm
#else
    #define TIER FOVEA_TIER_SCALAR
    #define NAME(algorithm) "cpu/scalar/" algorithm
#endif
/* What `info` says: of flash and fused where the processor has the unit. */
#if defined(FOVEA_TIER_AVX512)
    #define PAIRS_NOTE                                                                             \
        "bf16 by AVX-512-BF16, scores of f16 by 16-bit integers of VNNI, where the processor "     \
        "has them at full rate"
#elif defined(FOVEA_TIER_AVX2)
    #define PAIRS_NOTE "scores of f16 by 16-bit integers where the processor has AVX-VNNI"
#else
    #define PAIRS_NOTE NULL
#endif
#define NOTE_flash PAIRS_NOTE
#define NOTE_fused PAIRS_NOTE
#define NOTE_textbook NULL
#define NOTE_sage SAGE_NOTE
#define FLOATS (1u << FOVEA_F32 | 1u << FOVEA_F16 | 1u << FOVEA_BF16)
#define ROW(algorithm)                                                                             \
    {                                                                                              \
        .kernel = "attention", .name = NAME(#algorithm), .dtypes = FLOATS, .tier = TIER,           \
        .serves = serves_##algorithm, .workspace = workspace_##algorithm, .run = run_##algorithm,  \
        .cost = cost_##algorithm, .note = NOTE_##algorithm                                         \
    }

extern const fovea_implementation FOVEA_TIERED(fovea_cpu_attention)[];
const fovea_implementation FOVEA_TIERED(fovea_cpu_attention)[] = {ROW(flash),
                                                                  ROW(fused),
                                                                  ROW(textbook),
                                                                  ROW(sage),
                                                                  {.kernel = "attention",
                                                                   .name = NAME("split"),
                                                                   .dtypes = FLOATS,
                                                                   .tier = TIER,
                                                                   .serves = split_serves,
                                                                   .workspace = split_workspace,
                                                                   .run = split_run,
                                                                   .cost = split_cost},
                                                                  {.kernel = "attention_backward",
                                                                   .name = NAME("flash"),
                                                                   .dtypes = FLOATS,
                                                                   .tier = TIER,
                                                                   .serves = serves_backward,
                                                                   .workspace = workspace_backward,
                                                                   .run = run_backward,
                                                                   .cost = cost_backward},
                                                                  {.kernel = "attention_merge",
                                                                   .name = NAME("direct"),
                                                                   .dtypes = FLOATS,
                                                                   .tier = TIER,
                                                                   .workspace = merge_workspace,
                                                                   .run = run_merge},
                                                                  {.kernel = "kv_append",
                                                                   .name = NAME("direct"),
                                                                   .dtypes = FLOATS,
                                                                   .tier = TIER,
                                                                   .workspace = append_workspace,
                                                                   .run = append_run},
                                                                  {0}};
