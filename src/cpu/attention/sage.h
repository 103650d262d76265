/* sage: flash attention with q k^T in integers (Zhang et al., SageAttention, 2024), and p v in f32, bf16 or integers.
 *
 * k is smoothed: its mean over the keys of the sequence and head is taken away, which shifts all scores of a row alike. The
 * shift, q mean, is given back when scores become floats, in the same multiply-add that scales them, so that softcap, sinks
 * and lse see the true scores. q and k are then rounded to 8 bits, absmax / 127 being one, in groups of rows (`granularity`):
 *     block   the query rows of a tile (16 to 64, with the tier); 64 keys
 *     warp    the query rows of a vector; 16 keys
 *     thread  each query row, which is a lane of its own; each key
 * Scales are applied a row and a key whatever the groups, so that the finest costs no more.
 *
 * Weights in 8 bits are relative to the largest of their row in the block of keys; values have a scale a column for every 128
 * keys; the product of a block starts from 0 in i32 and joins an f32 sum.
 *
 * Keys and values are quantised once, chunk by chunk, before the query rows that attend them: what is read of k, v twice, and
 * written once. A block of 512 query rows cannot do that as it goes: quantising for it alone would take two fifths of its time
 * (NOTES.md). The workspace holds the quantised keys of as many heads at a time (a wave) as keep the threads busy.
 */
#ifndef FOVEA_CPU_ATTENTION_SAGE_H
#define FOVEA_CPU_ATTENTION_SAGE_H

#include "cpu/attention/attention_blocks.h"

#include <omp.h>
#include <stdatomic.h>
#include <stdio.h>

enum { CHUNK_KEYS = 128, BLOCK_GROUP_KEYS = 64, WARP_GROUP_KEYS = 16 };

#if defined(FOVEA_TIER_AVX512)
    #define SAGE_NOTE "products of bytes by AVX-512 VNNI and of bf16 by AVX-512 BF16, where present"
#elif defined(FOVEA_TIER_AVX2)
    #define SAGE_NOTE "products of bytes by AVX-VNNI where the processor has it"
#elif defined(FOVEA_TIER_NEON)
    #define SAGE_NOTE "products of bytes by the dot product extension where present"
#else
    #define SAGE_NOTE NULL
#endif

/* ---- Plan ---------------------------------------------------------------------------------------- */

/* Where the parts of the workspace begin, in bytes. A head is a key head of a sequence, of which `wave` are quantised at a
 * time; their keys stand one after another, each head at a multiple of CHUNK_KEYS: at most `positions`. */
typedef struct sage_plan {
    plan items;
    const sage_kernels *kernels;
    const fovea_attention_call *call;
    char *workspace;
    bool integer_values, bf16_values, smooth;
    int value_elements;    /* keys in a word of values */
    int64_t words;         /* of a row of q or k */
    int64_t value_columns; /* of words of values, those that pad them among them */
    int64_t group_keys, heads, wave, positions;
    int64_t first_head, wave_heads, chunks; /* of the wave at work */
    int64_t slice_floats;                   /* of a thread, for scales of rows and for quantising */
    size_t slices, starts, keys, key_scales, key_starts, means, sums, values, value_scales, bytes;
} sage_plan;

static size_t reserve(size_t *used, int64_t count, size_t size) {
    size_t at = *used;
    *used = (at + (size_t)count * size + 63) / 64 * 64;
    return at;
}

static int64_t padded_keys(const fovea_attention_call *call, int64_t head) {
    return round_up(fovea_attention_sequence(call, head / call->key_heads).key_count, CHUNK_KEYS);
}

/* Eight items a thread in each wave: their ends cost a sixteenth at most. */
static int64_t heads_of_a_wave(const plan *items, int64_t heads) {
    int64_t wanted = divide_up(8 * (int64_t)items->threads, larger(items->superblocks, 1));
    return larger(smaller(wanted, heads), 1);
}

static int64_t group_of_keys(const fovea_attention_options *options) {
    if (options->granularity == FOVEA_ATTENTION_GRANULARITY_BLOCK) return BLOCK_GROUP_KEYS;
    return options->granularity == FOVEA_ATTENTION_GRANULARITY_WARP ? WARP_GROUP_KEYS : 1;
}

static void place_parts(sage_plan *p, int threads) {
    const fovea_attention_call *call = p->call;
    int64_t size = call->head_size, columns = call->value_size;
    bool packed = p->integer_values || p->bf16_values;
    size_t used = (size_t)p->items.threads * p->items.slice_floats * sizeof(float);
    p->slices = reserve(&used, 0, 1);
    reserve(&used, threads, (size_t)p->slice_floats * sizeof(float));
    int64_t chunks = p->positions / CHUNK_KEYS;
    p->starts = reserve(&used, p->wave + 1, sizeof(int64_t));
    p->keys = reserve(&used, p->positions + p->kernels->spare_keys, (size_t)p->words * 4);
    p->key_scales = reserve(&used, p->positions, 4);
    p->key_starts = reserve(&used, p->positions, 4);
    p->means = reserve(&used, p->smooth ? p->wave : 0, (size_t)size * 4);
    p->sums = reserve(&used, p->smooth ? chunks : 0, (size_t)size * 4);
    p->values =
        reserve(&used, packed ? p->positions / p->value_elements : 0, (size_t)p->value_columns * 4);
    p->value_scales = reserve(&used, p->integer_values ? chunks : 0, (size_t)columns * 4);
    p->bytes = used;
}

static sage_plan make_sage_plan(const fovea_attention_call *call, int threads) {
    sage_plan p = {.kernels = find_sage_kernels(), .call = call};
    int product = call->options->pv;
    p.integer_values = product == FOVEA_ATTENTION_PV_I8;
    p.bf16_values = product == FOVEA_ATTENTION_PV_BF16;
    p.smooth = call->options->smooth_k;
    p.value_elements = p.bf16_values ? 2 : p.kernels->elements;
    p.words = sage_words(call);
    p.value_columns = round_up(call->value_size, p.kernels->step_words);
    p.group_keys = group_of_keys(call->options);
    p.items = make_plan(call, SAGE, threads);
    p.heads = call->batch * call->key_heads;
    p.wave = heads_of_a_wave(&p.items, p.heads);
    for (int64_t first = 0, keys; first < p.heads; first += p.wave) {
        keys = 0;
        for (int64_t h = first; h < smaller(first + p.wave, p.heads); h++)
            keys += padded_keys(call, h);
        p.positions = larger(p.positions, keys);
    }
    int64_t wide = larger(p.words * p.kernels->elements, call->head_size);
    p.slice_floats = round_up(larger(larger(BLOCK_GROUP_KEYS * wide, CHUNK_KEYS * call->value_size),
                                     2 * p.items.block_rows),
                              16);
    place_parts(&p, p.items.threads);
    return p;
}

/* A head of the wave, in the workspace. */
typedef struct sage_head {
    int64_t first; /* position of its key 0 */
    sage_keys keys;
    const float *mean;
    const int32_t *values;
    const float *value_scales; /* of the chunk of its key 0 */
} sage_head;

static int64_t *starts_of(const sage_plan *p) {
    return (int64_t *)(void *)(p->workspace + p->starts);
}

static sage_head head_of(const sage_plan *p, int64_t number) {
    int64_t columns = p->call->value_size, first = starts_of(p)[number - p->first_head];
    const float *scales = (const float *)(void *)(p->workspace + p->key_scales);
    const int32_t *sums = (const int32_t *)(void *)(p->workspace + p->key_starts);
    const int32_t *keys = (const int32_t *)(void *)(p->workspace + p->keys);
    const float *means = (const float *)(void *)(p->workspace + p->means);
    return (sage_head){.first = first,
                       .keys = {keys + first * p->words, p->words, scales + first, sums + first},
                       .mean = means + (number - p->first_head) * p->call->head_size,
                       .values = (const int32_t *)(void *)(p->workspace + p->values) +
                                 first / p->value_elements * p->value_columns,
                       .value_scales = (const float *)(void *)(p->workspace + p->value_scales) +
                                       first / CHUNK_KEYS * columns};
}

/* ---- Keys and values into the workspace ------------------------------------------------------------ */

/* A chunk of one head. */
typedef struct sage_chunk {
    fovea_sequence sequence;
    int64_t key_head, number; /* number: among those of the wave */
    int64_t key, count;       /* its first key; how many are left there, at most CHUNK_KEYS */
    sage_head head;
} sage_chunk;

static sage_chunk chunk_of(const sage_plan *p, int64_t number) {
    const int64_t *starts = starts_of(p);
    int64_t position = number * CHUNK_KEYS, low = 0, high = p->wave_heads - 1;
    while (low < high) { /* the last head that begins at or before it, and is not empty */
        int64_t middle = (low + high + 1) / 2;
        if (starts[middle] <= position)
            low = middle;
        else
            high = middle - 1;
    }
    int64_t head = p->first_head + low;
    sage_chunk chunk = {.sequence = fovea_attention_sequence(p->call, head / p->call->key_heads),
                        .key_head = head % p->call->key_heads,
                        .number = number,
                        .key = position - starts[low]};
    chunk.count = smaller(chunk.sequence.key_count - chunk.key, CHUNK_KEYS);
    chunk.head = head_of(p, head);
    return chunk;
}

static void row_of_chunk(const sage_plan *p, const sage_chunk *chunk, const fovea_view *view,
                         int64_t row, float *out) {
    convert_row(fovea_key_row(p->call, view, &chunk->sequence, chunk->key_head, chunk->key + row),
                view->dtype, view->stride[3], view->shape[3], out);
    scale_row(p->call, view, &chunk->sequence, chunk->key_head, chunk->key + row, out);
}

/* The chunk's part of the mean. */
static void sum_chunk(const sage_plan *p, int64_t number, float *buffer) {
    sage_chunk chunk = chunk_of(p, number);
    int64_t size = p->call->head_size;
    float *sum = (float *)(void *)(p->workspace + p->sums) + number * size;
    vf share = vf_set1(1 / (float)chunk.sequence.key_count);
    memset(sum, 0, (size_t)size * sizeof *sum);
    for (int64_t j = 0; j < chunk.count; j++) {
        row_of_chunk(p, &chunk, &p->call->k, j, buffer);
        for (int64_t d = 0; d < size; d += VF_WIDTH) {
            size_t n = (size_t)smaller(size - d, VF_WIDTH);
            vf_store_n(sum + d, vf_fma(vf_load_n(buffer + d, n), share, vf_load_n(sum + d, n)), n);
        }
    }
}

/* Item: a head of the wave. */
static void add_sums(const sage_plan *p, int64_t item, float *buffer) {
    int64_t size = p->call->head_size;
    (void)buffer;
    sage_head head = head_of(p, p->first_head + item);
    const float *sums =
        (const float *)(void *)(p->workspace + p->sums) + head.first / CHUNK_KEYS * size;
    float *mean = (float *)(void *)(p->workspace + p->means) + item * size;
    int64_t chunks = (starts_of(p)[item + 1] - head.first) / CHUNK_KEYS;
    memset(mean, 0, (size_t)size * sizeof *mean);
    for (int64_t c = 0; c < chunks; c++, sums += size)
        for (int64_t d = 0; d < size; d += VF_WIDTH) {
            size_t n = (size_t)smaller(size - d, VF_WIDTH);
            vf_store_n(mean + d, vf_add(vf_load_n(mean + d, n), vf_load_n(sums + d, n)), n);
        }
}

/* k - mean of one key as floats, zeros up to `wide`. Returns its largest magnitude, or NaN if an
 * element is not finite. */
static float smooth_key(const sage_plan *p, const sage_chunk *chunk, int64_t row, int64_t wide,
                        float *out) {
    int64_t size = p->call->head_size;
    vf largest = vf_set1(0), bad = vf_set1(0);
    row_of_chunk(p, chunk, &p->call->k, row, out);
    for (int64_t d = 0; d < size; d += VF_WIDTH) {
        size_t n = (size_t)smaller(size - d, VF_WIDTH);
        vf x = vf_load_n(out + d, n);
        if (p->smooth) x = vf_sub(x, vf_load_n(chunk->head.mean + d, n));
        largest = vf_max(vf_abs(x), largest);
        bad = vf_fma(x, vf_set1(0), bad);
        vf_store_n(out + d, x, n);
    }
    for (int64_t d = size; d < wide; d++) out[d] = 0;
    return isnan(vf_reduce_add(bad)) ? NAN : vf_reduce_max(largest);
}

/* ---- Words ---------------------------------------------------------------------------------- */

/* Word i of a row holds elements i, i + words, i + 2 words, ...: q is packed alike. */
VF_INLINE void pack_key_of(const int elements, int64_t count, const float *key, vf factor,
                           int32_t *words, vi *sum) {
    for (int64_t i = 0; i < count; i += VF_WIDTH) {
        size_t n = (size_t)smaller(count - i, VF_WIDTH);
        vi x[4];
        VF_UNROLLED for (int e = 0; e < elements; e++) {
            x[e] = vi_from_vf(vf_mul(vf_load_n(key + e * count + i, n), factor));
            *sum = vi_add(*sum, x[e]);
        }
        vi_store_n(words + i, pack_integers(elements, x), n);
    }
}

static void pack_key(const sage_plan *p, const float *key, float inverse, int32_t *words,
                     int32_t *start) {
    vi sum = vi_set1(0);
    if (p->kernels->elements == 4)
        pack_key_of(4, p->words, key, vf_set1(inverse), words, &sum);
    else
        pack_key_of(2, p->words, key, vf_set1(inverse), words, &sum);
    *start = -p->kernels->offset * (int32_t)vf_reduce_add(vf_from_vi(sum));
}

/* Where line w of the words of a chunk of values begins for the columns from d on. */
static int32_t *word_place(const sage_plan *p, int32_t *words, int64_t w, int64_t d) {
    int64_t step = p->kernels->step_words;
    return words + w / step * step * p->value_columns + d * step + w % step * VF_WIDTH;
}

/* Columns d to d + n of a chunk of values. */
VF_INLINE void pack_columns(const int elements, const sage_plan *p, const float *buffer, int64_t d,
                            size_t n, vf inverse, vm wrong, int32_t *words) {
    int64_t columns = p->call->value_size;
    for (int64_t j = 0; j < CHUNK_KEYS; j += elements) {
        vi x[4];
        VF_UNROLLED for (int e = 0; e < elements; e++) {
            vf value = vf_mul(vf_load_n(buffer + (j + e) * columns + d, n), inverse);
            x[e] = vi_from_vf(vf_select(wrong, vf_set1(0), value));
        }
        vi_store_n(word_place(p, words, j / elements, d), pack_integers(elements, x), n);
    }
}

/* ---- Keys and values into the workspace, chunk by chunk --------------------------------------- */

static void quantise_keys(const sage_plan *p, const sage_chunk *chunk, float *buffer) {
    int64_t wide = larger(p->words * p->kernels->elements, p->call->head_size);
    int32_t *words =
        (int32_t *)(void *)(p->workspace + p->keys) + chunk->number * CHUNK_KEYS * p->words;
    float *scales = (float *)(void *)(p->workspace + p->key_scales) + chunk->number * CHUNK_KEYS;
    int32_t *starts =
        (int32_t *)(void *)(p->workspace + p->key_starts) + chunk->number * CHUNK_KEYS;
    for (int64_t first = 0; first < chunk->count; first += p->group_keys) {
        int64_t count = smaller(chunk->count - first, p->group_keys);
        float largest = smallest_absmax, rows[BLOCK_GROUP_KEYS];
        for (int64_t j = 0; j < count; j++) {
            rows[j] = smooth_key(p, chunk, first + j, wide, buffer + j * wide);
            if (rows[j] > largest) largest = rows[j];
        }
        for (int64_t j = 0; j < count; j++) {
            bool bad = isnan(rows[j]);
            if (bad) memset(buffer + j * wide, 0, (size_t)wide * sizeof *buffer);
            pack_key(p, buffer + j * wide, 127 / largest, words + (first + j) * p->words,
                     starts + first + j);
            scales[first + j] = bad ? NAN : largest / 127;
        }
    }
}

/* Columns [d, d + n) of the chunk's values, `buffer` rows of them, as words of integers. */
static void quantise_columns(const sage_plan *p, const float *buffer, int64_t d, size_t n,
                             int32_t *words, float *scales) {
    int64_t columns = p->call->value_size;
    vf largest = vf_set1(smallest_absmax), bad = vf_set1(0);
    for (int64_t j = 0; j < CHUNK_KEYS; j++) {
        vf x = vf_load_n(buffer + j * columns + d, n);
        largest = vf_max(vf_abs(x), largest);
        bad = vf_fma(x, vf_set1(0), bad);
    }
    vm wrong = vf_unordered(bad, bad);
    vf inverse = vf_div(vf_set1(127), largest);
    vf scale = vf_select(wrong, vf_set1(NAN), vf_mul(largest, vf_set1(1 / 127.0f)));
    if (p->value_elements == 4)
        pack_columns(4, p, buffer, d, n, inverse, wrong, words);
    else
        pack_columns(2, p, buffer, d, n, inverse, wrong, words);
    vf_store_n(scales + d, scale, n);
}

static void halve_columns(const sage_plan *p, const float *buffer, int64_t d, size_t n,
                          int32_t *words) {
    int64_t columns = p->call->value_size;
    for (int64_t j = 0; j < CHUNK_KEYS; j += 2) {
        uint16_t halves[2][VF_WIDTH] = {{0}};
        int32_t pairs[VF_WIDTH];
        for (int e = 0; e < 2; e++)
            vf_store_bf16(halves[e], vf_load_n(buffer + (j + e) * columns + d, n));
        for (int i = 0; i < VF_WIDTH; i++)
            pairs[i] = (int32_t)(halves[0][i] | (uint32_t)halves[1][i] << 16);
        vi_store_n(word_place(p, words, j / 2, d), vi_load(pairs), n);
    }
}

/* With steps of several words a column's lie side by side: lines of 16 columns become the columns of 16 lines. */
static void turn_words(const sage_plan *p, int64_t d, int32_t *words) {
    vf square[VF_WIDTH];
    for (int64_t w = 0; w < CHUNK_KEYS / p->value_elements; w += VF_WIDTH) {
        float *place = (float *)(void *)word_place(p, words, w, d);
        VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++) square[i] = vf_load(place + i * VF_WIDTH);
        vf_transpose(square);
        VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++) vf_store(place + i * VF_WIDTH, square[i]);
    }
}

static void quantise_values(const sage_plan *p, const sage_chunk *chunk, float *buffer) {
    int64_t columns = p->call->value_size;
    int32_t *words = (int32_t *)(void *)(p->workspace + p->values) +
                     chunk->number * CHUNK_KEYS / p->value_elements * p->value_columns;
    float *scales = (float *)(void *)(p->workspace + p->value_scales) + chunk->number * columns;
    for (int64_t j = 0; j < chunk->count; j++)
        row_of_chunk(p, chunk, &p->call->v, j, buffer + j * columns);
    memset(buffer + chunk->count * columns, 0,
           (size_t)((CHUNK_KEYS - chunk->count) * columns) * sizeof *buffer);
    for (int64_t d = 0; d < columns; d += VF_WIDTH) {
        size_t n = (size_t)smaller(columns - d, VF_WIDTH);
        if (p->integer_values)
            quantise_columns(p, buffer, d, n, words, scales);
        else
            halve_columns(p, buffer, d, n, words);
        if (p->kernels->step_words > 1) turn_words(p, d, words);
    }
}

static void quantise_chunk(const sage_plan *p, int64_t number, float *buffer) {
    sage_chunk chunk = chunk_of(p, number);
    quantise_keys(p, &chunk, buffer);
    if (p->integer_values || p->bf16_values) quantise_values(p, &chunk, buffer);
}

/* ---- Queries of a tile ------------------------------------------------------------------------------- */

/* The tile of flash with what its rows are scaled and shifted by. */
typedef struct sage_tile {
    tile rows;
    float *scale, *shift;
} sage_tile;

/* Largest magnitudes that the rows of each vector share; `bad` rows have none. */
static void share_largest(const sage_plan *p, int vectors, float *largest) {
    int granularity = p->call->options->granularity;
    if (granularity == FOVEA_ATTENTION_GRANULARITY_THREAD) return;
    int64_t group = granularity == FOVEA_ATTENTION_GRANULARITY_WARP ? 1 : vectors;
    for (int64_t first = 0; first < vectors; first += group) {
        float most = 0;
        for (int64_t v = first; v < first + group; v++)
            most = fmaxf(most, vf_reduce_max(vf_load(largest + v * VF_WIDTH)));
        for (int64_t v = first; v < first + group; v++)
            vf_store(largest + v * VF_WIDTH, vf_set1(most));
    }
}

/* Measures the rows of one vector: `scale` gets their largest magnitudes, 0 for rows that are not finite, and `shift` what
 * smoothing took from their scores, NaN for these. */
static void measure_rows(const sage_plan *p, const float *q, const float *mean, float *scale,
                         float *shift) {
    vf largest = vf_set1(0), bad = vf_set1(0), product = vf_set1(0);
    for (int64_t d = 0; d < p->call->head_size; d++, q += TILE_ROWS) {
        vf x = vf_load(q);
        largest = vf_max(vf_abs(x), largest);
        bad = vf_fma(x, vf_set1(0), bad);
        if (p->smooth) product = vf_fma(x, vf_set1(mean[d]), product);
    }
    vm wrong = vf_unordered(bad, bad);
    vf_store(scale, vf_select(wrong, vf_set1(0), largest));
    vf_store(shift, vf_select(wrong, vf_set1(NAN), product));
}

static void pack_rows_of_vector(const sage_plan *p, float *q, vf inverse, vm wrong) {
    if (p->kernels->elements == 4)
        pack_lines(4, p->words, p->call->head_size, p->kernels->offset, q, inverse, wrong);
    else
        pack_lines(2, p->words, p->call->head_size, p->kernels->offset, q, inverse, wrong);
}

static void sage_tile_begin(const sage_plan *p, const tile_context *at, const float *mean,
                            sage_tile *t) {
    tile *rows = &t->rows;
    tile_begin(at, rows);
    for (int v = 0; v < rows->vectors; v++)
        measure_rows(p, rows->q + v * VF_WIDTH, mean, t->scale + v * VF_WIDTH,
                     t->shift + v * VF_WIDTH);
    share_largest(p, rows->vectors, t->scale);
    for (int v = 0; v < rows->vectors; v++) {
        float *scale = t->scale + v * VF_WIDTH;
        vf shift = vf_load(t->shift + v * VF_WIDTH);
        vf largest = vf_max(vf_load(scale), vf_set1(smallest_absmax));
        pack_rows_of_vector(p, rows->q + v * VF_WIDTH, vf_div(vf_set1(127), largest),
                            vf_unordered(shift, shift));
        vf_store(scale, vf_mul(largest, vf_set1(1 / 127.0f)));
    }
}

/* ---- One tile, one block of keys --------------------------------------------------------------------- */

static void sage_scores(const sage_plan *p, const sage_tile *t, const sage_head *head,
                        const segment *segments, int count, int64_t key, float *s, float *maximum) {
    for (int v = 0; v < t->rows.vectors; v++) vf_store(maximum + v * VF_WIDTH, NEGATIVE_INFINITY);
    for (int i = 0; i < count; i++) {
        const segment *g = &segments[i];
        if (g->vectors == 0) continue;
        int64_t lane = g->vector * VF_WIDTH, first = key + g->start;
        sage_keys k = head->keys;
        k.data += first * k.words, k.scale += first, k.start += first;
        p->kernels->scores(g->vectors, g->keys, &k, t->rows.q + lane, TILE_ROWS, t->scale + lane,
                           t->shift + lane, s + g->start * TILE_ROWS + lane, maximum + lane);
    }
}

/* Weights relative to the block's maxima; `factor` gets what makes them relative to the references, and the rows' sums take
 * the block's in. */
static void weigh_block(const sage_plan *p, const tile_context *at, tile *t, float *s, int64_t key,
                        int64_t keys, const float *maximum, float *factor) {
    float reference[TILE_ROWS], shift[TILE_ROWS], block_sum[TILE_ROWS];
    float most = p->integer_values ? p->kernels->weight_max : 1;
    void (*weights)(int, int64_t, int64_t, float *, const float *, float *, bool) =
        p->integer_values ? p->kernels->integer_weights : p->kernels->bf16_weights;
    bool dropped = at->call->options->dropout > 0;
    move_references(t, maximum, at->unit, at->call->value_size, reference);
    for (int v = 0; v < t->vectors; v++) {
        vf largest = vf_load(maximum + v * VF_WIDTH);
        vf base = vf_select(vf_eq(largest, NEGATIVE_INFINITY), vf_set1(0), largest);
        vf ratio = vf_exp2_softmax(vf_sub(largest, vf_load(reference + v * VF_WIDTH)));
        vf_store(shift + v * VF_WIDTH, vf_sub(base, vf_set1(log2f(most))));
        vf_store(factor + v * VF_WIDTH, vf_mul(ratio, vf_set1(1 / most)));
    }
    if (dropped) {
        micro[t->vectors].exponentials(keys, TILE_ROWS, s, shift, block_sum);
        drop_elements(at, t, s, key, keys);
    }
    weights(t->vectors, keys, TILE_ROWS, s, shift, block_sum, dropped);
    for (int v = 0; v < t->vectors; v++) {
        float *sum = t->sum + v * VF_WIDTH;
        vf_store(sum, vf_fma(vf_load(block_sum + v * VF_WIDTH), vf_load(factor + v * VF_WIDTH),
                             vf_load(sum)));
    }
}

/* Values have scales of their own in each chunk, so integers are added within one only. */
static void add_packed_values(const sage_plan *p, tile *t, const sage_head *head, const float *s,
                              int64_t key, int64_t keys, const float *factor) {
    int64_t columns = p->call->value_size, elements = p->value_elements;
    int64_t chunk = p->integer_values ? CHUNK_KEYS : INT64_MAX;
    for (int64_t j = key; j < key + keys;) {
        int64_t end = smaller(key + keys, j / chunk * chunk + chunk);
        int64_t steps = divide_up(end - j, elements);
        const float *line = s + (j - key) / elements * TILE_ROWS;
        const int32_t *values = head->values + j / elements * p->value_columns;
        const float *scales = head->value_scales + j / CHUNK_KEYS * columns;
        (p->integer_values ? p->kernels->integer_values : p->kernels->bf16_values)(
            t->vectors, steps, columns, line, TILE_ROWS, values, scales, factor, t->out);
        j = end;
    }
}

static void sage_block(const sage_plan *p, const tile_context *at, sage_tile *t,
                       const sage_head *head, rows_of_block v, int64_t key, int64_t keys,
                       float *s) {
    float maximum[TILE_ROWS], factor[TILE_ROWS];
    tile *rows = &t->rows;
    segment segments[2 * TILE_VECTORS + 1] = {{0, keys, 0, rows->vectors}};
    bool edge = key < rows->full_low || key + keys > rows->full_high;
    int count = edge ? cut_segments(rows, key, keys, 1, segments) : 1;
    sage_scores(p, t, head, segments, count, key, s, maximum);
    if (at->general) change_scores(at, rows, s, key, keys);
    if (at->general || edge) limit_scores(rows, s, key, keys, maximum);
    if (p->integer_values || p->bf16_values) {
        if (!rows->started)
            memset(rows->out, 0, (size_t)(at->call->value_size * TILE_ROWS) * sizeof(float));
        weigh_block(p, at, rows, s, key, keys, maximum, factor);
        rows->started = true;
        add_packed_values(p, rows, head, s, key, keys, factor);
        return;
    }
    softmax_block(at, rows, s, keys, maximum);
    if (at->call->options->dropout > 0) drop_elements(at, rows, s, key, keys);
    ahead none;
    ahead_begin(&none);
    add_values(at, rows, segments, count, v, s, NULL, &none);
}

/* ---- Work items --------------------------------------------------------------------------------------- */

static void sage_superblock(const sage_plan *p, int64_t item, const slice *s, float *scales) {
    int64_t step = p->kernels->step_keys; /* blocks begin at whole steps */
    sage_tile tiles[512 / TILE_ROWS + 1];
    const fovea_attention_call *call = p->call;
    bool floats = !p->integer_values && !p->bf16_values;
    int64_t first_row, low = INT64_MAX, high = 0;
    tile_context at;
    int64_t rows = begin_item(&p->items, call, item, &at, &first_row);
    sage_head head = head_of(p, at.sequence.batch * call->key_heads + at.key_head);
    int count = 0;
    if (p->kernels->begin) p->kernels->begin();
    for (int64_t row = 0; row < rows; row += TILE_ROWS, count++) {
        sage_tile *t = &tiles[count];
        set_tile(&p->items, &at, s, first_row + row, rows - row, count, &t->rows);
        t->scale = scales + 2 * count * TILE_ROWS, t->shift = t->scale + TILE_ROWS;
        sage_tile_begin(p, &at, head.mean, t);
        t->rows.low = t->rows.low / step * step;
        low = smaller(low, t->rows.low), high = larger(high, t->rows.high);
    }
    int64_t keys = p->items.block_keys;
    for (int64_t block = low / keys * keys; block < high; block += keys) {
        int64_t start = larger(block, low), end = smaller(block + keys, high);
        rows_of_block v = {0};
        if (floats)
            v = fetch_rows(&at, &call->v, p->items.convert_values, start, end - start, s->values);
        for (int i = 0; i < count; i++) {
            int64_t a = larger(start, tiles[i].rows.low), b = smaller(end, tiles[i].rows.high);
            if (a >= b) continue;
            rows_of_block tile_v = v;
            if (v.data) tile_v.data = (const float *)v.data + (a - start) * v.stride;
            sage_block(p, &at, &tiles[i], &head, tile_v, a, b - a, s->scores);
        }
    }
    if (p->kernels->end) p->kernels->end();
    for (int i = 0; i < count; i++) tile_finish(&at, &tiles[i].rows);
}

/* ---- Running ------------------------------------------------------------------------------------------ */

/* The item of the call that item `i` of the wave is; with a causal mask all last superblocks come first, as in begin_item. */
static int64_t item_of_wave(const sage_plan *p, int64_t i) {
    int64_t blocks = p->items.superblocks;
    if (p->call->options->causal == FOVEA_ATTENTION_CAUSAL_NONE) return p->first_head * blocks + i;
    return i / p->wave_heads * p->heads + p->first_head + i % p->wave_heads;
}

typedef void sage_phase(const sage_plan *p, int64_t item, float *buffer);

static void sage_drain_items(const sage_plan *p, int64_t items, sage_phase *run, atomic_llong *next,
                             int thread) {
    slice s = thread_slice(&p->items, p->workspace, thread);
    float *buffer = (float *)(void *)(p->workspace + p->slices) + thread * p->slice_floats;
    for (;;) {
        int64_t item = atomic_fetch_add_explicit(next, 1, memory_order_relaxed);
        if (item >= items) break;
        if (run)
            run(p, item, buffer);
        else
            sage_superblock(p, item_of_wave(p, item), &s, buffer);
    }
}

static int sage_drain(const sage_plan *p, int64_t items, sage_phase *run) {
    atomic_llong next = 0;
    int threads = (int)larger(smaller(items, p->items.threads), 1), used = 1;
    if (threads == 1) {
        sage_drain_items(p, items, run, &next, 0);
        return 1;
    }
#pragma omp parallel num_threads(threads)
    {
#pragma omp single nowait
        used = omp_get_num_threads();
        sage_drain_items(p, items, run, &next, omp_get_thread_num());
    }
    return used;
}

static int run_wave(sage_plan *p) {
    int64_t *starts = starts_of(p);
    p->wave_heads = smaller(p->wave, p->heads - p->first_head);
    for (int64_t h = starts[0] = 0; h < p->wave_heads; h++)
        starts[h + 1] = starts[h] + padded_keys(p->call, p->first_head + h);
    p->chunks = starts[p->wave_heads] / CHUNK_KEYS;
    if (p->smooth) {
        sage_drain(p, p->chunks, sum_chunk);
        sage_drain(p, p->wave_heads, add_sums);
    }
    sage_drain(p, p->chunks, quantise_chunk);
    return sage_drain(p, p->wave_heads * p->items.superblocks, NULL);
}

static fovea_status run_sage(const fovea_problem *problem, fovea_run *run) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    sage_plan p = make_sage_plan(&call, run->threads);
    p.workspace = run->workspace;
    run->block_rows = p.items.block_rows, run->block_keys = p.items.block_keys;
    run->threads = p.items.threads;
    for (; p.first_head < p.heads; p.first_head += p.wave) run->threads = run_wave(&p);
    return FOVEA_OK;
}

static size_t workspace_sage(const fovea_problem *problem, int threads) {
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    double bytes = (double)call.batch * (double)call.key_heads *
                   (double)(call.key_length + CHUNK_KEYS) *
                   (double)(call.head_size + call.value_size + 16) * 16;
    if (bytes > 0x1p62) return SIZE_MAX;
    return make_sage_plan(&call, threads).bytes;
}

static bool serves_sage(const fovea_problem *problem, char *reason, size_t size) {
    const fovea_attention_options *options = problem->options;
    if (options->algorithm != FOVEA_ATTENTION_ALGORITHM_SAGE) {
        snprintf(reason, size, "it is approximate and runs only where algorithm=sage asks for it");
        return false;
    }
    fovea_attention_call call;
    fovea_attention_describe(problem, &call);
    if (call.head_size > 1 << 16) {
        snprintf(reason, size, "it sums products of bytes in 32 bits: D %lld, at most 65536",
                 (long long)call.head_size);
        return false;
    }
    if (options->pv == FOVEA_ATTENTION_PV_BF16 && !find_sage_kernels()->bf16) {
        snprintf(reason, size, "pv=bf16: it has no product of bf16 on this processor");
        return false;
    }
    return serves(problem, reason, size, FOVEA_ATTENTION_ALGORITHM_SAGE);
}

static inline double cost_sage(const fovea_problem *problem, int threads, double flops,
                               double bandwidth) {
    /* q k and p v at twice to four times the rate of floats. */
    const fovea_attention_options *options = problem->options;
    double faster = options->pv == FOVEA_ATTENTION_PV_I8 ? 2.5 : 1.5;
    return cost(problem, threads, flops * faster, bandwidth, FLASH);
}

#endif
