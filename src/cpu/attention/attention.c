/* Attention forward on the CPU: textbook, fused and flash over the micro-kernels of attention_micro.h.
 *
 * flash: a work item is a superblock of query rows of one key head. Blocks of keys are the outer loop and the tiles of the
 * superblock the inner one, so that a block of k and v is fetched, and converted where its layout asks for it, once for all of them.
 * Blocks that no row of a tile attends are skipped; only blocks on the edge of a mask are compared lane by lane. Items are
 * drained from one atomic counter, those with most keys first.
 * fused: the same with a single block that spans all keys; the maximum is known before the first exponential.
 * textbook: all scores of the problem in memory, three passes, nothing skipped: what the others are compared with.
 */
#include "cpu/attention/attention_tile.h"
#include "cpu/attention/merge.h"
#include "cpu/simd/philox.h"

#include "catalogue/case.h"
#include "catalogue/implementation.h"

#include <omp.h>
#include <stdatomic.h>
#include <stdio.h>

typedef enum algorithm { TEXTBOOK, FUSED, FLASH } algorithm;

/* How a call is cut into work. Floats of a thread's slice of the workspace, in this order: a block of keys, a block of
 * values, the scores of a tile, then for the tiles of a superblock queries, outputs, row data. */
typedef struct plan {
    algorithm algorithm;
    int64_t block_keys, block_rows; /* block_rows: a multiple of TILE_ROWS */
    int64_t value_keys;             /* keys at a time in the product with v */
    int64_t superblocks;            /* of a key head, by the longest sequence */
    int64_t items;
    int threads;
    bool convert_keys, convert_values;
    size_t keys_floats, values_floats, scores_floats, query_floats, out_floats, slice_floats;
    size_t score_matrix_floats; /* textbook: behind the slices; scores, references and sums */
} plan;

static int64_t round_up(int64_t x, int64_t multiple) {
    return (x + multiple - 1) / multiple * multiple;
}

/* Half of L1 for the scores of a tile (measured flat between 48 and 192 keys); whole groups of any micro-kernel. */
static int64_t keys_of_a_block(const fovea_attention_call *call, algorithm algorithm) {
    int64_t keys = (int64_t)fovea_processor_get()->l1_bytes / 2 / (TILE_ROWS * 4);
    keys = smaller(larger(keys, 48), 192) / 24 * 24;
    if (call->options->block_keys > 0) keys = call->options->block_keys;
    if (algorithm == FUSED) keys = call->key_length;
    return larger(smaller(keys, call->key_length), 1);
}

/* Queries and outputs of a superblock in half of L2; fewer rows where the threads would run out of items. */
static int64_t rows_of_a_block(const fovea_attention_call *call, int threads) {
    int64_t row_bytes = (call->head_size + call->value_size + TILE_ARRAYS) * 4;
    int64_t rows = (int64_t)fovea_processor_get()->l2_bytes / 2 / row_bytes;
    int64_t of_a_head = call->query_length * call->group;
    if (threads > 1)
        rows = smaller(rows, of_a_head * call->batch * call->key_heads / (4 * threads));
    if (call->options->block_rows > 0) rows = call->options->block_rows;
    rows = larger(smaller(rows, 512), 1);
    int64_t count = larger((of_a_head + rows - 1) / rows, 1);
    return round_up(larger((of_a_head + count - 1) / count, 1), TILE_ROWS);
}

/* The micro-kernels read f32 rows with unit stride in place. */
static bool needs_conversion(const fovea_attention_call *call, const fovea_view *view) {
    return call->paged || view->dtype != FOVEA_F32 || view->stride[3] != 1;
}

/* Values are read a row a key, over and over. Rows 2 KiB apart or more share few sets of L1 and take
 * a page each, so where several tiles read them a dense copy pays (bshd, 8 heads of 128: 77 % of the
 * peak in place, 83 % with v copied; copying k too gains nothing). */
static bool values_are_far(const fovea_attention_call *call, int64_t block_rows) {
    int64_t stride = call->v.stride[2];
    return (stride >= 512 || stride <= -512) && stride != call->value_size &&
           block_rows > TILE_ROWS;
}

/* A thread that would get less than half a million FLOPs costs more to wake than it brings. */
static int threads_that_pay(const fovea_attention_call *call, int threads) {
    double operations = 2 * (double)(call->head_size + call->value_size) *
                        (double)(call->batch * call->query_heads) * (double)call->query_length *
                        (double)call->key_length;
    double most = operations / 5e5;
    return most < 1 ? 1 : most < threads ? (int)most : threads;
}

static plan make_plan(const fovea_attention_call *call, algorithm algorithm, int threads) {
    plan p = {.algorithm = algorithm, .threads = threads_that_pay(call, threads)};
    p.block_keys = keys_of_a_block(call, algorithm);
    p.value_keys = keys_of_a_block(call, FLASH);
    p.block_rows = algorithm == TEXTBOOK ? TILE_ROWS : rows_of_a_block(call, p.threads);
    int64_t rows = call->query_length * call->group;
    p.superblocks = (rows + p.block_rows - 1) / p.block_rows;
    p.items = p.superblocks * call->batch * call->key_heads;
    if (p.items < p.threads) p.threads = (int)larger(p.items, 1);
    p.convert_keys = needs_conversion(call, &call->k);
    p.convert_values = needs_conversion(call, &call->v) || values_are_far(call, p.block_rows);
    p.keys_floats = (size_t)(p.convert_keys ? round_up(p.block_keys * call->head_size, 16) : 0);
    p.values_floats =
        (size_t)(p.convert_values ? round_up(p.block_keys * call->value_size, 16) : 0);
    p.scores_floats = (size_t)(p.block_keys * TILE_ROWS);
    p.query_floats = (size_t)(p.block_rows * call->head_size);
    p.out_floats = (size_t)(p.block_rows * call->value_size);
    p.slice_floats = (p.keys_floats + p.values_floats + p.scores_floats + p.query_floats +
                      p.out_floats + (size_t)(TILE_ARRAYS * p.block_rows) + 31) /
                     16 * 16;
    if (algorithm == TEXTBOOK)
        p.score_matrix_floats = (size_t)(p.items * (call->key_length + 2) * TILE_ROWS);
    return p;
}

/* ---- A thread's slice -------------------------------------------------------------------------------- */

typedef struct slice {
    float *keys, *values, *scores, *queries, *outputs, *rows;
} slice;

static slice thread_slice(const plan *p, void *workspace, int thread) {
    slice s;
    s.keys = (float *)workspace + (size_t)thread * p->slice_floats;
    s.values = s.keys + p->keys_floats;
    s.scores = s.values + p->values_floats;
    s.queries = s.scores + p->scores_floats;
    s.outputs = s.queries + p->query_floats;
    s.rows = s.outputs + p->out_floats;
    return s;
}

static tile superblock_tile(const plan *p, const tile_context *at, const slice *s,
                            int64_t first_row, int64_t rows, int64_t number) {
    const fovea_attention_call *call = at->call;
    float *data = s->rows + number * TILE_ARRAYS * TILE_ROWS;
    tile t = {.row = first_row, .rows = smaller(rows, TILE_ROWS)};
    (void)p;
    t.vectors = (int)((t.rows + VF_WIDTH - 1) / VF_WIDTH);
    t.q = s->queries + number * TILE_ROWS * call->head_size;
    t.out = s->outputs + number * TILE_ROWS * call->value_size;
    t.reference = data, t.sum = data + TILE_ROWS, t.slope = data + 2 * TILE_ROWS;
    t.query = (int32_t *)(void *)(data + 3 * TILE_ROWS);
    t.head = t.query + TILE_ROWS, t.first = t.head + TILE_ROWS;
    t.end = t.first + TILE_ROWS, t.position = t.end + TILE_ROWS;
    return t;
}

/* ---- Keys and values of a block -------------------------------------------------------------------- */

typedef struct rows_of_block {
    const float *data;
    int64_t stride;
} rows_of_block;

/* Rows [first, first + count) of k or v: in place, or converted into `buffer`. */
static rows_of_block fetch_rows(const tile_context *at, const fovea_view *view, bool convert,
                                int64_t first, int64_t count, float *buffer) {
    int64_t size = view->shape[3];
    if (!convert)
        return (rows_of_block){(const float *)(void *)fovea_key_row(at->call, view, &at->sequence,
                                                                    at->key_head, first),
                               view->stride[2]};
    for (int64_t j = 0; j < count; j++)
        convert_row(fovea_key_row(at->call, view, &at->sequence, at->key_head, first + j),
                    view->dtype, view->stride[3], size, buffer + j * size);
    return (rows_of_block){buffer, size};
}

/* ---- One tile, one block of keys --------------------------------------------------------------------- */

/* A run of keys that the same neighbouring vectors of a tile attend. */
typedef struct segment {
    int64_t start, keys; /* from the beginning of the block */
    int vector, vectors;
} segment;

/* Limits rise with the rows, so at each key the vectors that attend it are neighbours: on the diagonal of a causal mask a
 * fourth of the work falls away. */
static int cut_segments(const tile *t, int64_t key, int64_t keys,
                        segment segments[2 * TILE_VECTORS + 1]) {
    int count = 0;
    for (int64_t j = key; j < key + keys;) {
        int64_t next = key + keys;
        int low = 0, high = t->vectors;
        while (low < high && t->end[low * VF_WIDTH + VF_WIDTH - 1] <= j) low++;
        while (high > low && t->first[(high - 1) * VF_WIDTH] > j) high--;
        if (low < t->vectors)
            next = smaller(next, larger(t->end[low * VF_WIDTH + VF_WIDTH - 1], j + 1));
        if (high < t->vectors) next = smaller(next, larger(t->first[high * VF_WIDTH], j + 1));
        segments[count++] = (segment){j - key, next - j, low, high - low};
        j = next;
    }
    return count;
}

/* Zero where an element is dropped: lanes are rows, the four words of a counter are four keys. */
static void drop_elements(const tile_context *at, const tile *t, float *p, int64_t key,
                          int64_t keys) {
    const fovea_attention_call *call = at->call;
    const fovea_attention_options *options = call->options;
    const vi_philox_keys seed = vi_philox_begin((uint64_t)options->seed);
    const vi limit = vi_philox_limit((float)(1 - options->dropout));
    const vi base = vi_set1((int32_t)(at->sequence.batch * call->query_heads));
    for (int v = 0; v < t->vectors; v++, p += VF_WIDTH) {
        vi counter[4] = {vi_set1(0), vi_load(t->query + v * VF_WIDTH),
                         vi_add(vi_load(t->head + v * VF_WIDTH), base),
                         vi_set1((int32_t)options->dropout_offset)};
        for (int64_t j = key / 4 * 4; j < key + keys; j += 4) {
            vi words[4];
            counter[0] = vi_set1((int32_t)(j / 4));
            vi_philox(counter, &seed, words);
            VF_UNROLLED for (int w = 0; w < 4; w++) {
                int64_t row = j + w - key;
                if (row < 0 || row >= keys) continue;
                float *place = p + row * TILE_ROWS;
                vm dropped = vi_philox_at_least(words[w], limit);
                vf_store(place, vf_select(dropped, vf_set1(0), vf_load(place)));
            }
        }
    }
}

static void score_tile(const tile_context *at, const tile *t, const segment *segments, int count,
                       rows_of_block k, float *s, float *maximum) {
    for (int v = 0; v < t->vectors; v++) vf_store(maximum + v * VF_WIDTH, NEGATIVE_INFINITY);
    for (int i = 0; i < count; i++) {
        const segment *g = &segments[i];
        if (g->vectors == 0) continue;
        int64_t lane = g->vector * VF_WIDTH;
        micro[g->vectors].scores(g->keys, at->call->head_size, t->q + lane, TILE_ROWS,
                                 k.data + g->start * k.stride, k.stride,
                                 s + g->start * TILE_ROWS + lane, maximum + lane);
    }
}

/* Long strips are taken in pieces that L1 holds. What comes first sets `out` instead of adding. */
static void add_values(const tile_context *at, tile *t, const segment *segments, int count,
                       rows_of_block v, const float *p) {
    int64_t size = at->call->value_size;
    for (int i = 0; i < count; i++) {
        const segment *g = &segments[i];
        if (g->vectors == 0) continue;
        if (!t->started && g->vectors < t->vectors) {
            memset(t->out, 0, (size_t)(size * TILE_ROWS) * sizeof(float));
            t->started = true;
        }
        int64_t lane = g->vector * VF_WIDTH;
        for (int64_t j = g->start; j < g->start + g->keys; j += at->value_keys) {
            int64_t keys = smaller(at->value_keys, g->start + g->keys - j);
            micro[g->vectors].values(keys, size, p + j * TILE_ROWS + lane, TILE_ROWS,
                                     v.data + j * v.stride, v.stride, t->out + lane, !t->started);
            t->started = true;
        }
    }
}

static void attend_block(const tile_context *at, tile *t, int64_t key, int64_t keys,
                         rows_of_block k, rows_of_block v, float *s) {
    float maximum[TILE_ROWS];
    segment segments[2 * TILE_VECTORS + 1] = {{0, keys, 0, t->vectors}};
    bool edge = key < t->full_low || key + keys > t->full_high;
    int count = edge ? cut_segments(t, key, keys, segments) : 1;
    score_tile(at, t, segments, count, k, s, maximum);
    if (at->general) change_scores(at, t, s, key, keys);
    if (at->general || edge) limit_scores(t, s, key, keys, maximum);
    softmax_block(t, s, keys, maximum, at->call->value_size);
    if (at->call->options->dropout > 0) drop_elements(at, t, s, key, keys);
    add_values(at, t, segments, count, v, s);
}

/* ---- Work items ------------------------------------------------------------------------------------- */

static tile_context item_context(const plan *p, const fovea_attention_call *call, int64_t item,
                                 int64_t *first_row, int64_t *rows) {
    int64_t heads = call->batch * call->key_heads;
    bool causal = call->options->causal != FOVEA_ATTENTION_CAUSAL_NONE;
    /* With a causal mask the last rows attend most keys: all heads' last superblocks come first. */
    int64_t head = causal ? item % heads : item / p->superblocks;
    int64_t block = causal ? p->superblocks - 1 - item / heads : item % p->superblocks;
    tile_context at = {
        .call = call,
        .sequence = fovea_attention_sequence(call, head / call->key_heads),
        .key_head = head % call->key_heads,
        .value_keys = p->value_keys,
        .general = call->has_bias || call->has_mask || call->has_slopes || isfinite(call->softcap),
        .limited = causal || call->options->window_left >= 0 || call->options->window_right >= 0};
    *first_row = block * p->block_rows;
    *rows = smaller(at.sequence.query_count * call->group - *first_row, p->block_rows);
    return at;
}

static void attend_superblock(const plan *p, const fovea_attention_call *call, int64_t item,
                              const slice *s) {
    tile tiles[512 / TILE_ROWS + 1];
    int64_t first_row, rows, low = INT64_MAX, high = 0;
    tile_context at = item_context(p, call, item, &first_row, &rows);
    int count = 0;
    for (int64_t row = 0; row < rows; row += TILE_ROWS, count++) {
        tile *t = &tiles[count];
        *t = superblock_tile(p, &at, s, first_row + row, rows - row, count);
        tile_begin(&at, t);
        low = smaller(low, t->low), high = larger(high, t->high);
    }
    for (int64_t block = low / p->block_keys * p->block_keys; block < high;
         block += p->block_keys) {
        int64_t start = larger(block, low), end = smaller(block + p->block_keys, high);
        rows_of_block k = fetch_rows(&at, &call->k, p->convert_keys, start, end - start, s->keys);
        rows_of_block v =
            fetch_rows(&at, &call->v, p->convert_values, start, end - start, s->values);
        for (int i = 0; i < count; i++) {
            int64_t a = larger(start, tiles[i].low), b = smaller(end, tiles[i].high);
            if (a >= b) continue;
            rows_of_block tile_k = {k.data + (a - start) * k.stride, k.stride};
            rows_of_block tile_v = {v.data + (a - start) * v.stride, v.stride};
            attend_block(&at, &tiles[i], a, b - a, tile_k, tile_v, s->scores);
        }
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
    int64_t first_row, rows;
    float maximum[TILE_ROWS], *scores = item_scores(p, call, workspace, item);
    tile_context at = item_context(p, call, item, &first_row, &rows);
    if (rows <= 0) return;
    tile t = superblock_tile(p, &at, s, first_row, rows, 0);
    tile_begin(&at, &t);
    for (int64_t j = 0; j < at.sequence.key_count; j += p->block_keys) {
        int64_t keys = smaller(p->block_keys, at.sequence.key_count - j);
        rows_of_block k = fetch_rows(&at, &call->k, p->convert_keys, j, keys, s->keys);
        const segment all = {0, keys, 0, t.vectors};
        score_tile(&at, &t, &all, 1, k, scores + j * TILE_ROWS, maximum);
    }
    if (at.general) change_scores(&at, &t, scores, 0, at.sequence.key_count);
    limit_scores(&t, scores, 0, at.sequence.key_count, maximum);
    memcpy(scores + call->key_length * TILE_ROWS, maximum, sizeof maximum);
}

static void textbook_softmax(const plan *p, const fovea_attention_call *call, void *workspace,
                             int64_t item, const slice *s) {
    int64_t first_row, rows;
    float *scores = item_scores(p, call, workspace, item);
    float *state = scores + call->key_length * TILE_ROWS, maximum[TILE_ROWS];
    tile_context at = item_context(p, call, item, &first_row, &rows);
    if (rows <= 0) return;
    tile t = superblock_tile(p, &at, s, first_row, rows, 0);
    number_rows(&at, &t);
    memcpy(maximum, state, sizeof maximum);
    t.reference = state, t.sum = state + TILE_ROWS;
    for (int64_t i = 0; i < TILE_ROWS; i++) t.reference[i] = -INFINITY, t.sum[i] = 0;
    softmax_block(&t, scores, at.sequence.key_count, maximum, call->value_size);
    if (call->options->dropout > 0) drop_elements(&at, &t, scores, 0, at.sequence.key_count);
}

static void textbook_values(const plan *p, const fovea_attention_call *call, void *workspace,
                            int64_t item, const slice *s) {
    int64_t first_row, rows;
    float *scores = item_scores(p, call, workspace, item);
    tile_context at = item_context(p, call, item, &first_row, &rows);
    if (rows <= 0) return;
    tile t = superblock_tile(p, &at, s, first_row, rows, 0);
    number_rows(&at, &t);
    t.reference = scores + call->key_length * TILE_ROWS, t.sum = t.reference + TILE_ROWS;
    for (int64_t j = 0; j < at.sequence.key_count; j += p->block_keys) {
        int64_t keys = smaller(p->block_keys, at.sequence.key_count - j);
        rows_of_block v = fetch_rows(&at, &call->v, p->convert_values, j, keys, s->values);
        const segment all = {0, keys, 0, t.vectors};
        add_values(&at, &t, &all, 1, v, scores + j * TILE_ROWS);
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

static void drain(const plan *p, const fovea_attention_call *call, void *workspace, phase *run,
                  atomic_llong *next, int thread) {
    slice s = thread_slice(p, workspace, thread);
    for (;;) {
        int64_t item = atomic_fetch_add_explicit(next, 1, memory_order_relaxed);
        if (item >= p->items) break;
        run(p, call, workspace, item, &s);
    }
}

static int run_phase(const plan *p, const fovea_attention_call *call, void *workspace, phase *run) {
    atomic_llong next = 0;
    int threads = 1;
    if (p->threads == 1) {
        drain(p, call, workspace, run, &next, 0);
        return 1;
    }
#pragma omp parallel num_threads(p->threads)
    {
#pragma omp single nowait
        threads = omp_get_num_threads();
        drain(p, call, workspace, run, &next, omp_get_thread_num());
    }
    return threads;
}

static fovea_status run_attention(const fovea_problem *problem, fovea_run *run,
                                  algorithm algorithm) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    plan p = make_plan(&call, algorithm, run->threads);
    run->block_rows = p.block_rows, run->block_keys = p.block_keys;
    if (algorithm == TEXTBOOK) {
        run_phase(&p, &call, run->workspace, textbook_scores);
        run_phase(&p, &call, run->workspace, textbook_softmax);
        run->threads = run_phase(&p, &call, run->workspace, textbook_values);
    } else
        run->threads = run_phase(&p, &call, run->workspace, flash_phase);
    return FOVEA_OK;
}

static size_t workspace_bytes(const fovea_problem *problem, int threads, algorithm algorithm) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    double scores = algorithm != TEXTBOOK ? 0
                                          : (double)(call.batch * call.query_heads) *
                                                (double)(call.query_length + TILE_ROWS) *
                                                (double)(call.key_length + 2) * 4;
    if (scores > 0x1p62) return SIZE_MAX;
    plan p = make_plan(&call, algorithm, threads);
    return ((size_t)p.threads * p.slice_floats + p.score_matrix_floats) * 4;
}

static bool serves(const fovea_problem *problem, char *reason, size_t size, int wanted) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    const fovea_attention_options *options = call.options;
    if (options->algorithm != FOVEA_ATTENTION_ALGORITHM_AUTO && options->algorithm != wanted) {
        snprintf(reason, size, "another algorithm is asked for");
        return false;
    }
    int64_t offset = options->query_offset;
    if (call.key_length > INT32_MAX || call.query_length > INT32_MAX || offset > INT32_MAX / 2 ||
        offset < -INT32_MAX / 2) {
        snprintf(reason, size, "it counts positions in 32 bits: Sq %lld, Sk %lld, offset %lld",
                 (long long)call.query_length, (long long)call.key_length, (long long)offset);
        return false;
    }
    return true;
}

/* Seconds: FLOPs at a share of the peak that the algorithm was measured at, memory traffic of the score matrix, a start. */
static double cost(const fovea_problem *problem, int threads, double flops, double bandwidth,
                   algorithm algorithm) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    plan p = make_plan(&call, algorithm, threads);
    double operations = fovea_problem_operations(problem), scores = 0;
    if (algorithm == TEXTBOOK) {
        operations = 2 * (double)(call.head_size + call.value_size) * (double)call.query_length *
                     (double)call.key_length * (double)(call.batch * call.query_heads);
        scores = 4 * (double)p.score_matrix_floats * 4;
    }
    double share = algorithm == FLASH ? 0.85 : algorithm == FUSED ? 0.8 : 0.7;
    return operations / (flops * share * p.threads) + scores / (bandwidth * p.threads) +
           (p.threads > 1 ? 3e-6 : 1e-6);
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
#define FLOATS (1u << FOVEA_F32 | 1u << FOVEA_F16 | 1u << FOVEA_BF16)
#define ROW(algorithm)                                                                             \
    {                                                                                              \
        .kernel = "attention", .name = NAME(#algorithm), .dtypes = FLOATS, .tier = TIER,           \
        .serves = serves_##algorithm, .workspace = workspace_##algorithm, .run = run_##algorithm,  \
        .cost = cost_##algorithm                                                                   \
    }

extern const fovea_implementation FOVEA_TIERED(fovea_cpu_attention)[];
const fovea_implementation FOVEA_TIERED(fovea_cpu_attention)[] = {ROW(flash),
                                                                  ROW(fused),
                                                                  ROW(textbook),
                                                                  {.kernel = "attention_merge",
                                                                   .name = NAME("direct"),
                                                                   .dtypes = FLOATS,
                                                                   .tier = TIER,
                                                                   .workspace = merge_workspace,
                                                                   .run = run_merge},
                                                                  {0}};
