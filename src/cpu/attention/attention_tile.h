/* A tile of query rows on its way through the keys: what is known of its rows, what changes their scores, the online softmax.
 *
 * Scores are in units of log 2: log2(e) is folded into the packed queries, so that p = 2^(s - reference). The reference of a
 * row is a maximum seen earlier; it moves only when the maximum has grown by more than 8, because p up to 2^8 does no harm to
 * f32, and the accumulator is then rescaled (Dao's online softmax, lazily). Each lane decides for itself, and blocks of
 * keys start at fixed multiples of block_keys, so that a row's bits depend neither on threads nor on other rows.
 */
#ifndef FOVEA_CPU_ATTENTION_ATTENTION_TILE_H
#define FOVEA_CPU_ATTENTION_ATTENTION_TILE_H

#include "cpu/attention/attention_pairs.h"
#include "cpu/attention/attention_rows.h"
#include "cpu/attention/sage_kernels.h"
#include "cpu/simd/philox.h"

/* Query rows that share a key head are numbered together: row r is query r / group of head r %
 * group. Arrays have an entry a lane; lanes past the last row repeat it. */
typedef struct tile {
    int vectors;                 /* of rows, the last may be partly empty */
    int64_t row, rows;           /* the first, and how many */
    int64_t low, high;           /* keys that some row attends */
    int64_t full_low, full_high; /* keys that all rows attend */
    bool started;                /* some block has been seen */
    bool plain;                  /* scores are made of the elements themselves */
    bool stored;                 /* its rows are in the output */
    bool by_rows;                /* out is [TILE_ROWS][value_size], not [value_size][TILE_ROWS] */
    float *q, *out;              /* q is [head_size][TILE_ROWS] */
    float *reference, *sum, *slope;
    float *scale; /* of a lane, where queries are integers */
    int32_t *query, *head;
    int32_t *first, *end, *position; /* keys that a row attends; where it stands among them */
} tile;
enum { TILE_ARRAYS = 9 };

/* What a work item is about. */
typedef struct tile_context {
    const fovea_attention_call *call;
    fovea_sequence sequence;
    int64_t key_head;
    int64_t value_keys; /* at most so many keys at a time in the product with v */
    bool general;       /* scores need more than lane limits: softcap, bias, slopes, boolean mask */
    bool limited;       /* rows attend different keys */
    const pair_kernels *pairs;  /* NULL: floats */
    const sage_kernels *shorts; /* not NULL: q and k as 16-bit integers */
    float scale; /* of scores as they come, in units of log 2; floats have it in the queries */
    float unit;  /* what is left of it when the softmax begins */
} tile_context;

/* Addresses of the rows of the lanes from one vector of the tile on. `start` is what the view's rows begin with: query_start,
 * or 0 in a mask or bias. */
static void rows_of_lanes(const tile_context *at, const tile *t, const fovea_view *view,
                          int64_t start, int vector, int64_t lanes, char *rows[]) {
    int64_t size = (int64_t)fovea_dtype_size(view->dtype);
    int64_t of_head = view->stride[1] * size, of_query = view->stride[2] * size;
    if (!view->data) { /* no elements, so that nobody reads there */
        for (int64_t i = 0; i < lanes; i++) rows[i] = NULL;
        return;
    }
    char *base = view->data + at->sequence.batch * view->stride[0] * size + start * of_query;
    const int32_t *head = t->head + vector * VF_WIDTH, *query = t->query + vector * VF_WIDTH;
    for (int64_t i = 0; i < lanes; i++) rows[i] = base + head[i] * of_head + query[i] * of_query;
}

/* Of all lanes: those past the last row repeat it. */
static void vector_rows(const tile_context *at, const tile *t, const fovea_view *view,
                        int64_t start, int vector, char *rows[VF_WIDTH]) {
    rows_of_lanes(at, t, view, start, vector, VF_WIDTH, rows);
}

/* Of the lanes that have a row of their own; returns how many: 0 or less of a vector past the last row. */
static int64_t filled_rows(const tile_context *at, const tile *t, const fovea_view *view,
                           int64_t start, int vector, char *rows[VF_WIDTH]) {
    int64_t filled = smaller(t->rows - vector * VF_WIDTH, VF_WIDTH);
    rows_of_lanes(at, t, view, start, vector, filled, rows);
    return filled;
}

static void number_rows(const tile_context *at, tile *t) {
    const int64_t group = at->call->group, first_head = at->key_head * group;
    if (group == 1) {
        const vi row = vi_set1((int32_t)t->row), last = vi_set1((int32_t)(t->rows - 1));
        for (int v = 0; v < t->vectors; v++) {
            vi lane = vi_add(vi_iota(), vi_set1(v * VF_WIDTH));
            vi_store(t->query + v * VF_WIDTH, vi_add(row, vi_min(lane, last)));
            vi_store(t->head + v * VF_WIDTH, vi_set1((int32_t)first_head));
        }
        return;
    }
    int64_t query = t->row / group, member = t->row % group;
    for (int64_t i = 0; i < t->vectors * VF_WIDTH; i++) {
        t->query[i] = (int32_t)query, t->head[i] = (int32_t)(first_head + member);
        if (i + 1 < t->rows && ++member == group) member = 0, query++;
    }
}

/* Of the first `lanes`: all rows are among them. */
static void set_limits(const tile_context *at, tile *t, int64_t lanes) {
    int64_t first = 0, end = at->sequence.key_count;
    t->low = t->full_low = 0, t->high = t->full_high = end;
    for (int v = 0; v < t->vectors; v++) {
        vi_store(t->first + v * VF_WIDTH, vi_set1(0));
        vi_store(t->end + v * VF_WIDTH, vi_set1((int32_t)end));
    }
    if (!at->limited) return;
    int64_t low = INT64_MAX, high = 0, full_low = 0, full_high = INT64_MAX;
    for (int64_t i = 0; i < lanes; i++) {
        bool changed = i == 0 || t->query[i] != t->query[i - 1];
        if (changed) fovea_attended_keys(at->call, &at->sequence, t->query[i], &first, &end);
        t->first[i] = (int32_t)first, t->end[i] = (int32_t)end;
        if (!changed) continue;
        if (first < end) low = smaller(low, first), high = larger(high, end);
        full_low = larger(full_low, first), full_high = smaller(full_high, end);
    }
    t->low = smaller(low, high), t->high = high;
    t->full_low = full_low, t->full_high = full_high;
}

static void set_slopes(const tile_context *at, tile *t) {
    for (int64_t i = 0; i < t->vectors * VF_WIDTH; i++) {
        double slope = head_float(&at->call->slopes, t->head[i]);
        t->slope[i] = (float)(slope * LOG2E);
        t->position[i] = (int32_t)fovea_query_position(at->call, &at->sequence, t->query[i]);
    }
}

static inline void tile_begin(const tile_context *at, tile *t) {
    const fovea_attention_call *call = at->call;
    char *rows[VF_WIDTH];
    number_rows(at, t);
    set_limits(at, t, t->vectors * VF_WIDTH);
    if (call->has_slopes) set_slopes(at, t);
    for (int v = 0; v < t->vectors; v++) {
        int64_t filled = filled_rows(at, t, &call->q, at->sequence.query_start, v, rows);
        if (at->pairs)
            pack_pair_rows((const char *const *)rows, filled, call->q.stride[3], call->head_size,
                           call->scale < 0 ? 0x80008000 : 0, t->q + v * VF_WIDTH, TILE_ROWS);
        else
            pack_rows((const char *const *)rows, filled, call->q.dtype, call->q.stride[3],
                      call->head_size, (float)(call->scale * LOG2E), t->q + v * VF_WIDTH,
                      TILE_ROWS);
        vf_store(t->reference + v * VF_WIDTH, NEGATIVE_INFINITY);
        vf_store(t->sum + v * VF_WIDTH, vf_set1(0));
    }
    t->started = t->plain = false;
}

/* ---- What changes scores ------------------------------------------------------------------------ */

static void scale_scores(const tile_context *at, float *s, int64_t keys, int vectors) {
    vf scale = vf_set1(at->scale);
    for (int64_t j = 0; j < keys; j++, s += TILE_ROWS)
        for (int v = 0; v < vectors; v++)
            vf_store(s + v * VF_WIDTH, vf_mul(vf_load(s + v * VF_WIDTH), scale));
}

/* c tanh(s / c), in units of log 2; scores come in units of 1 / scale. */
static void cap_scores(const tile_context *at, float scale, float *s, int64_t keys, int vectors) {
    double cap = at->call->softcap * LOG2E;
    vf c = vf_set1((float)cap), inverse = vf_set1((float)(2 * LOG2E * (double)scale / cap));
    for (int64_t j = 0; j < keys; j++, s += TILE_ROWS)
        for (int v = 0; v < vectors; v++) {
            vf exponent = vf_mul(vf_load(s + v * VF_WIDTH), inverse);
            vf_store(s + v * VF_WIDTH, vf_mul(c, vf_tanh_of_exponent(exponent)));
        }
}

/* panel[j][rows of the vector] = element (row, key + j) of a bias, j < count <= VF_WIDTH. */
VF_INLINE void load_panel(const fovea_view *view, char *const rows[VF_WIDTH], int64_t key,
                          int64_t count, vf panel[VF_WIDTH]) {
    int64_t stride = view->stride[3];
    if (count == VF_WIDTH && stride == 1 && view->dtype == FOVEA_F32)
        VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++) panel[i] =
            vf_load((const float *)(const void *)rows[i] + key);
    else
        for (int i = 0; i < VF_WIDTH; i++)
            panel[i] = load_elements(rows[i], view->dtype, stride, key, count);
    vf_transpose(panel);
}

static void add_bias(const tile_context *at, const tile *t, float *s, int64_t key, int64_t keys) {
    const fovea_view *bias = &at->call->bias;
    const vf unit = vf_set1((float)LOG2E);
    for (int v = 0; v < t->vectors; v++) {
        char *rows[VF_WIDTH];
        vector_rows(at, t, bias, 0, v, rows);
        for (int64_t j = 0; j < keys; j += VF_WIDTH) {
            int64_t count = smaller(keys - j, VF_WIDTH);
            float *place = s + j * TILE_ROWS + v * VF_WIDTH;
            vf panel[VF_WIDTH];
            load_panel(bias, rows, key + j, count, panel);
            if (count == VF_WIDTH)
                VF_UNROLLED for (int i = 0; i < VF_WIDTH; i++, place += TILE_ROWS)
                    vf_store(place, vf_fma(panel[i], unit, vf_load(place)));
            else
                for (int i = 0; i < count; i++, place += TILE_ROWS)
                    vf_store(place, vf_fma(panel[i], unit, vf_load(place)));
        }
    }
}

/* Bit j of lane i: whether row i may attend key + j, j < count <= 32. */
VF_INLINE vi load_mask(const fovea_view *mask, char *const rows[VF_WIDTH], int64_t key,
                       int64_t count) {
    int32_t bits[VF_WIDTH];
    int64_t stride = mask->stride[3];
    for (int i = 0; i < VF_WIDTH; i++) {
        const uint8_t *p = (const uint8_t *)rows[i] + key * stride;
        uint8_t lanes[32];
        for (int64_t j = 0; stride != 1 && j < count; j++) lanes[j] = p[j * stride];
        bits[i] = (int32_t)u8_bits(stride != 1 ? lanes : p, (size_t)count);
    }
    return vi_load(bits);
}

static void apply_mask(const tile_context *at, const tile *t, float *s, int64_t key, int64_t keys) {
    const fovea_view *mask = &at->call->mask;
    for (int v = 0; v < t->vectors; v++) {
        char *rows[VF_WIDTH];
        vector_rows(at, t, mask, 0, v, rows);
        for (int64_t j = 0; j < keys; j += 32) {
            int64_t count = smaller(keys - j, 32);
            float *place = s + j * TILE_ROWS + v * VF_WIDTH;
            vi bits = load_mask(mask, rows, key + j, count), bit = vi_set1(1);
            for (int64_t i = 0; i < count; i++, place += TILE_ROWS) {
                vf_store(place, vf_select(vi_test(bits, bit), vf_load(place), NEGATIVE_INFINITY));
                bit = vi_add(bit, bit);
            }
        }
    }
}

static void add_slopes(const tile *t, float *s, int64_t key, int64_t keys) {
    for (int v = 0; v < t->vectors; v++) {
        vi position = vi_load(t->position + v * VF_WIDTH);
        vf slope = vf_load(t->slope + v * VF_WIDTH);
        float *p = s + v * VF_WIDTH;
        for (int64_t j = 0; j < keys; j++, p += TILE_ROWS) {
            vi distance = vi_sub(vi_set1((int32_t)(key + j)), position);
            vf_store(p, vf_fma(slope, vf_from_vi(distance), vf_load(p)));
        }
    }
}

static void find_maxima(const tile *t, const float *s, int64_t keys, float *maximum) {
    vf largest[TILE_VECTORS];
    for (int v = 0; v < TILE_VECTORS; v++) largest[v] = NEGATIVE_INFINITY;
    for (int64_t j = 0; j < keys; j++, s += TILE_ROWS)
        for (int v = 0; v < t->vectors; v++)
            largest[v] = vf_max(vf_load(s + v * VF_WIDTH), largest[v]);
    for (int v = 0; v < t->vectors; v++) vf_store(maximum + v * VF_WIDTH, largest[v]);
}

static inline void change_scores(const tile_context *at, const tile *t, float *s, int64_t key,
                                 int64_t keys) {
    const fovea_attention_call *call = at->call;
    if (isfinite(call->softcap))
        cap_scores(at, at->pairs ? at->scale : 1, s, keys, t->vectors);
    else if (at->pairs)
        scale_scores(at, s, keys, t->vectors);
    if (call->has_bias) add_bias(at, t, s, key, keys);
    if (call->has_mask) apply_mask(at, t, s, key, keys);
    if (call->has_slopes) add_slopes(t, s, key, keys);
}

/* Scores of keys [key, key + keys) from the elements themselves, times a factor; for rows and keys that are not finite: an
 * infinite element is inf in its first bf16 term, and times a second that is 0 it would be NaN where the product is inf. */
static void score_plainly(const tile_context *at, const tile *t, int64_t key, int64_t keys,
                          float factor, float *s) {
    enum { SLICE = 64 };
    const fovea_view *q = &at->call->q, *k = &at->call->k;
    int64_t size = (int64_t)fovea_dtype_size(q->dtype);
    float queries[SLICE * TILE_ROWS], row[SLICE];
    for (int64_t i = 0; i < keys; i++)
        for (int v = 0; v < t->vectors; v++) vf_store(s + i * TILE_ROWS + v * VF_WIDTH, vf_set1(0));
    for (int64_t start = 0; start < q->shape[3]; start += SLICE) {
        int64_t count = smaller(q->shape[3] - start, SLICE);
        for (int v = 0; v < t->vectors; v++) {
            char *rows[VF_WIDTH];
            int64_t filled = filled_rows(at, t, q, at->sequence.query_start, v, rows);
            for (int64_t i = 0; i < filled; i++) rows[i] += start * q->stride[3] * size;
            pack_rows((const char *const *)rows, filled, q->dtype, q->stride[3], count, factor,
                      queries + v * VF_WIDTH, TILE_ROWS);
        }
        for (int64_t i = 0; i < keys; i++) {
            const char *from = fovea_key_row(at->call, k, &at->sequence, at->key_head, key + i);
            convert_row(from + start * k->stride[3] * size, k->dtype, k->stride[3], count, row);
            for (int lane = 0; lane < t->vectors * VF_WIDTH; lane += VF_WIDTH) {
                float *place = s + i * TILE_ROWS + lane;
                vf sum = vf_load(place);
                for (int64_t d = 0; d < count; d++)
                    sum = vf_fma(vf_set1(row[d]), vf_load(queries + d * TILE_ROWS + lane), sum);
                vf_store(place, sum);
            }
        }
    }
}

/* -inf where a row does not attend a key, and the maxima of what is left. */
static void limit_scores(const tile *t, float *s, int64_t key, int64_t keys, float *maximum) {
    for (int v = 0; v < t->vectors; v++) {
        vi first = vi_load(t->first + v * VF_WIDTH), end = vi_load(t->end + v * VF_WIDTH);
        vf largest = NEGATIVE_INFINITY;
        for (int64_t j = 0; j < keys; j++) {
            float *p = s + j * TILE_ROWS + v * VF_WIDTH;
            vi number = vi_set1((int32_t)(key + j));
            vm out = vm_or(vi_lt(number, first), vm_not(vi_lt(number, end)));
            vf score = vf_select(out, NEGATIVE_INFINITY, vf_load(p));
            largest = vf_max(score, largest);
            vf_store(p, score);
        }
        vf_store(maximum + v * VF_WIDTH, largest);
    }
}

/* ---- Online softmax ------------------------------------------------------------------------------- */

static void rescale(const tile *t, int vector, vf factor, int64_t value_size) {
    if (t->by_rows) {
        float factors[VF_WIDTH], *row = t->out + vector * VF_WIDTH * value_size;
        int64_t rows = smaller(t->rows - vector * VF_WIDTH, VF_WIDTH);
        vf_store(factors, factor);
        for (int64_t i = 0; i < rows; i++, row += value_size)
            for (int64_t d = 0; factors[i] < 1 && d < value_size; d += VF_WIDTH) {
                size_t columns = (size_t)smaller(value_size - d, VF_WIDTH);
                vf_store_n(row + d, vf_mul(vf_load_n(row + d, columns), vf_set1(factors[i])),
                           columns);
            }
        return;
    }
    float *out = t->out + vector * VF_WIDTH;
    for (int64_t d = 0; d < value_size; d++, out += TILE_ROWS)
        vf_store(out, vf_mul(vf_load(out), factor));
}

/* Moves the references where the block's maxima demand it. `shift` gets what to subtract: the reference, or 0 where
 * there is none yet (-inf - -inf would be NaN). */
static void move_references(tile *t, const float *maximum, float unit, int64_t value_size,
                            float *shift) {
    for (int v = 0; v < t->vectors; v++) {
        vf old = vf_load(t->reference + v * VF_WIDTH);
        vf block = vf_mul(vf_load(maximum + v * VF_WIDTH), vf_set1(unit));
        vm grows = vf_gt(block, vf_add(old, vf_set1(8)));
        vf reference = vf_select(grows, block, old);
        if (vm_any(grows)) {
            vf factor = vf_select(grows, vf_exp2_softmax(vf_sub(old, reference)), vf_set1(1));
            float *sum = t->sum + v * VF_WIDTH;
            vf_store(sum, vf_mul(vf_load(sum), factor));
            if (t->started) rescale(t, v, factor, value_size);
            vf_store(t->reference + v * VF_WIDTH, reference);
        }
        vm none = vf_eq(reference, NEGATIVE_INFINITY);
        vf_store(shift + v * VF_WIDTH, vf_select(none, vf_set1(0), reference));
    }
}

static inline void softmax_block(const tile_context *at, tile *t, float *s, int64_t keys,
                                 const float *maximum) {
    float shift[TILE_ROWS], block_sum[TILE_ROWS];
    move_references(t, maximum, at->unit, at->call->value_size, shift);
    if (at->pairs)
        at->pairs[t->vectors].exponentials(keys, s, at->unit, shift, block_sum);
    else
        micro[t->vectors].exponentials(keys, TILE_ROWS, s, shift, block_sum);
    for (int v = 0; v < t->vectors; v++) {
        float *sum = t->sum + v * VF_WIDTH;
        vf_store(sum, vf_add(vf_load(sum), vf_load(block_sum + v * VF_WIDTH)));
    }
}

/* Row `row` of a block of p becomes 0 where it is dropped; of a pair only its half of the word. */
VF_INLINE void drop_lanes(const tile_context *at, vm dropped, float *p, int64_t row) {
    if (!at->pairs) {
        float *place = p + row * TILE_ROWS;
        vf_store(place, vf_select(dropped, vf_set1(0), vf_load(place)));
        return;
    }
    int32_t *place = (int32_t *)(void *)(p + row / 2 * TILE_ROWS);
    vi word = vi_load(place), other = vi_set1(row % 2 ? 0xffff : (int32_t)0xffff0000);
    vi_store(place, vi_select(dropped, vi_and(word, other), word));
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
        vi query = vi_load(t->query + v * VF_WIDTH),
           offset = vi_set1((int32_t)options->dropout_offset);
        vi head = vi_add(vi_load(t->head + v * VF_WIDTH), base);
        for (int64_t j = key / 8 * 8; j < key + keys; j += 8) {
            vi words[2][4];
            for (int i = 0; i < 2; i++) {
                words[i][0] = vi_set1((int32_t)(j / 4 + i));
                words[i][1] = query, words[i][2] = head, words[i][3] = offset;
            }
            vi_philox_sets(2, words, &seed);
            if (j >= key && j + 8 <= key + keys)
                VF_UNROLLED for (int w = 0; w < 8; w++)
                    drop_lanes(at, vi_philox_at_least(words[w / 4][w % 4], limit), p, j + w - key);
            else
                for (int64_t w = larger(key - j, 0); w < smaller(key + keys - j, 8); w++)
                    drop_lanes(at, vi_philox_at_least(words[w / 4][w % 4], limit), p, j + w - key);
        }
    }
}

/* ---- The end ---------------------------------------------------------------------------------- */

/* Lets the sinks join: as a key with that score and no value. Returns the factor of the output. */
static vf join_sinks(const tile_context *at, const tile *t, int v, vf *reference, vf *sum) {
    float sinks[VF_WIDTH];
    for (int i = 0; i < VF_WIDTH; i++) {
        double sink = head_float(&at->call->sinks, t->head[v * VF_WIDTH + i]);
        sinks[i] = (float)(sink * LOG2E);
    }
    vf sink = vf_load(sinks), joint = vf_max(sink, *reference);
    vf shift = vf_select(vf_eq(joint, NEGATIVE_INFINITY), vf_set1(0), joint);
    vf factor = vf_exp2_softmax(vf_sub(*reference, shift));
    *sum = vf_fma(*sum, factor, vf_exp2_softmax(vf_sub(sink, shift)));
    *reference = joint;
    return factor;
}

static void store_lse(const tile_context *at, const tile *t, int v, int64_t filled, vf lse) {
    float lanes[VF_WIDTH];
    char *rows[VF_WIDTH];
    vf_store(lanes, lse);
    filled_rows(at, t, &at->call->lse, at->sequence.query_start, v, rows);
    for (int64_t i = 0; i < filled; i++) memcpy(rows[i], &lanes[i], sizeof lanes[i]);
}

/* What the sums of a vector's rows are multiplied by in the end. */
static vf row_factor(const tile_context *at, const tile *t, int v, vf *reference, vf *sum) {
    vf factor = vf_set1((float)(1 / (1 - at->call->options->dropout)));
    *reference = vf_load(t->reference + v * VF_WIDTH), *sum = vf_load(t->sum + v * VF_WIDTH);
    if (at->call->has_sinks) factor = vf_mul(factor, join_sinks(at, t, v, reference, sum));
    return vf_div(factor, *sum);
}

static inline void tile_finish(const tile_context *at, const tile *t) {
    const fovea_attention_call *call = at->call;
    if (t->stored && !call->has_lse) return;
    for (int v = 0; v < t->vectors; v++) {
        char *rows[VF_WIDTH];
        int64_t filled = filled_rows(at, t, &call->out, at->sequence.query_start, v, rows);
        vf reference, sum, factor = row_factor(at, t, v, &reference, &sum);
        vm empty =
            t->started ? vf_eq(vf_load(t->sum + v * VF_WIDTH), vf_set1(0)) : vm_first(VF_WIDTH);
        if (t->by_rows && !t->stored)
            store_rows(t->out + v * VF_WIDTH * call->value_size, call->value_size, factor, empty,
                       rows, filled, call->out.dtype, call->out.stride[3]);
        else if (!t->by_rows)
            unpack_rows(t->out + v * VF_WIDTH, TILE_ROWS, call->value_size, factor, empty, rows,
                        filled, call->out.dtype, call->out.stride[3]);
        if (call->has_lse)
            store_lse(at, t, v, filled, vf_fma(reference, vf_set1(LN2), vf_log(sum)));
    }
}

#endif
