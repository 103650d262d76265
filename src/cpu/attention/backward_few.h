/* attention_backward of a few query rows of a key head: vectors run along the head size, as rows lie in memory, so that
 * nothing is packed or transposed. Rows that are f32 side by side are read, and gradients written, where they are.
 *
 * Where a tile has few rows most of its lanes are empty, and turning its rows into lanes and back takes longer than the
 * products. Here s = q k^T and dp = dout v^T are inner products, VF_WIDTH of them summed at a time by vf_reduce_each (45
 * operations for 16 on AVX-512); the other three products take rows for lines and p or ds for broadcasts. p and ds lie
 * [row][key], a block of FEW_KEYS keys at a time.
 */
#ifndef FOVEA_CPU_ATTENTION_BACKWARD_FEW_H
#define FOVEA_CPU_ATTENTION_BACKWARD_FEW_H

#include "cpu/attention/backward_plan.h"

/* s[r][key] = x[r] y[key] for `rows` rows and as many keys as then fill a vector; `left` of these are there, at least one.
 * At most four keys at a time, so that their sums fit the registers of any tier. */
VF_INLINE void few_products(const int rows, float_rows x, float_rows y, int64_t left, int64_t size,
                            float *s) {
    const int keys = VF_WIDTH / rows, of_pass = keys < 4 ? keys : 4;
    vf sum[VF_WIDTH];
    VF_UNROLLED for (int first = 0; first < keys; first += of_pass) {
        vf part[VF_WIDTH];
        const float *line[4];
        VF_UNROLLED for (int i = 0; i < rows * of_pass; i++) part[i] = vf_set1(0);
        VF_UNROLLED for (int c = 0; c < of_pass; c++) line[c] =
            y.data + smaller(first + c, left - 1) * y.stride;
        for (int64_t d = 0; d < size && first < left; d += VF_WIDTH) {
            vf key[4];
            VF_UNROLLED for (int c = 0; c < of_pass; c++) key[c] = vf_load(line[c] + d);
            VF_UNROLLED for (int r = 0; r < rows; r++) {
                vf row = vf_load(x.data + r * x.stride + d);
                VF_UNROLLED for (int c = 0; c < of_pass; c++) part[r * of_pass + c] =
                    vf_fma(key[c], row, part[r * of_pass + c]);
            }
        }
        VF_UNROLLED for (int r = 0; r < rows; r++) VF_UNROLLED for (int c = 0; c < of_pass; c++)
            sum[r * keys + first + c] = part[r * of_pass + c];
    }
    if (rows == 1) {
        vf_store(s, vf_reduce_each(sum));
        return;
    }
    float lanes[VF_WIDTH];
    vf_store(lanes, vf_reduce_each(sum));
    VF_UNROLLED for (int r = 0; r < rows; r++)
        memcpy(s + r * FEW_KEYS, lanes + r * keys, (size_t)keys * sizeof *s);
}

/* How many rows are taken at a time, as long as there are so many. */
enum { FEW_SQUARE = VF_WIDTH < 4 ? 1 : 4, FEW_PAIR = VF_WIDTH < 2 ? 1 : 2 };

/* s[row][key] = x[row] y[key] for all. */
static void few_scores(int64_t rows, int64_t keys, int64_t size, float_rows x, float_rows y,
                       float *s) {
    for (int64_t i = 0; i < rows;) {
        int64_t left = rows - i, taken = left >= FEW_SQUARE ? FEW_SQUARE
                                         : left >= FEW_PAIR ? FEW_PAIR
                                                            : 1;
        float_rows lines = y;
        for (int64_t j = 0; j < keys; j += VF_WIDTH / taken) {
            lines.data = y.data + j * y.stride;
            if (taken == FEW_SQUARE)
                few_products(FEW_SQUARE, x, lines, keys - j, size, s + j);
            else if (taken == FEW_PAIR)
                few_products(FEW_PAIR, x, lines, keys - j, size, s + j);
            else
                few_products(1, x, lines, keys - j, size, s + j);
        }
        i += taken, x.data += taken * x.stride, s += taken * FEW_KEYS;
    }
}

/* Row by row s becomes p = 2^(unit s - lse) and dp becomes scale p (dp - delta); 0 where a row does not attend a key. */
static void few_gradients(const tile *t, int64_t first_key, int64_t keys, float unit, float scale,
                          float *s, float *dp) {
    for (int64_t i = 0; i < t->rows; i++, s += FEW_KEYS, dp += FEW_KEYS) {
        const vf lse = vf_set1(t->reference[i]), delta = vf_set1(t->sum[i]);
        const vi first = vi_set1(t->first[i]), end = vi_set1(t->end[i]);
        for (int64_t j = 0; j < keys; j += VF_WIDTH) {
            vi number = vi_add(vi_set1((int32_t)(first_key + j)), vi_iota());
            vm out = vm_or(vi_lt(number, first), vm_not(vi_lt(number, end)));
            vf p = vf_exp2_softmax(vf_fms(vf_load(s + j), vf_set1(unit), lse));
            vf ds = vf_mul(vf_mul(p, vf_set1(scale)), vf_sub(vf_load(dp + j), delta));
            vf_store(s + j, vf_select(out, vf_set1(0), p));
            vf_store(dp + j, vf_select(out, vf_set1(0), ds));
        }
    }
}

/* ---- Rows where they are, or copies ------------------------------------------------------------- */

/* Rows of the tensors of queries or of keys: `bytes` from one to the next if `even`, else at
 * these addresses. */
typedef struct few_rows {
    char *first;
    int64_t bytes, count;
    bool even;
    char *at[FEW_ROWS];
} few_rows;

static char *few_row(const few_rows *rows, int64_t i) {
    return rows->even ? rows->first + i * rows->bytes : rows->at[i];
}

static bool few_in_place(const few_rows *rows, const fovea_view *view) {
    return view->dtype == FOVEA_F32 && view->stride[3] == 1 && rows->even && rows->first;
}

static float_rows few_placed(const few_rows *rows) {
    return (float_rows){(float *)(void *)rows->first, rows->bytes / (int64_t)sizeof(float)};
}

static float_rows few_read(const few_rows *rows, const fovea_view *view, int64_t pitch,
                           float *copy) {
    if (few_in_place(rows, view) && view->shape[3] == pitch) return few_placed(rows);
    for (int64_t i = 0; i < rows->count; i++)
        copy_row(few_row(rows, i), view, pitch, copy + i * pitch);
    return (float_rows){copy, pitch};
}

static float_rows few_written(const few_rows *rows, const fovea_view *view, int64_t pitch,
                              float *copy) {
    return few_in_place(rows, view) ? few_placed(rows) : (float_rows){copy, pitch};
}

static void few_store(const few_rows *rows, const fovea_view *view, float_rows from) {
    if (few_in_place(rows, view)) return;
    for (int64_t i = 0; i < rows->count; i++)
        for (int64_t d = 0; d < view->shape[3]; d += VF_WIDTH) {
            int64_t count = smaller(view->shape[3] - d, VF_WIDTH);
            vf x = vf_load_n(from.data + i * from.stride + d, (size_t)count);
            store_elements(few_row(rows, i), view->dtype, view->stride[3], d, x, count);
        }
}

static void few_queries(const tile_context *at, const tile *t, const fovea_view *view,
                        few_rows *rows) {
    const int64_t group = at->call->group, start = at->sequence.query_start;
    rows->count = t->rows, rows->even = group == 1 || at->sequence.query_count == 1;
    if (!rows->even) {
        rows_of_lanes(at, t, view, start, 0, t->rows, rows->at);
        return;
    }
    rows->first = fovea_row(view, at->sequence.batch, at->key_head * group, start);
    rows->bytes = view->stride[group == 1 ? 2 : 1] * (int64_t)fovea_dtype_size(view->dtype);
    if (!rows->first) rows->bytes = 0;
}

static void few_keys(const tile_context *at, const fovea_view *view, int64_t first, int64_t count,
                     few_rows *rows) {
    const fovea_sequence *sequence = &at->sequence;
    rows->first = fovea_row(view, sequence->batch, at->key_head, sequence->key_start + first);
    rows->bytes = fovea_row_stride(view) * (int64_t)fovea_dtype_size(view->dtype);
    rows->count = count, rows->even = true;
}

/* ---- A key head --------------------------------------------------------------------------------- */

/* Where rows are copied to and gathered. dv takes the place of v, and dk that of k, which are then no longer needed. */
typedef struct few_slice {
    float *dout, *q, *dq, *k, *v, *s, *dp;
} few_slice;

static few_slice lay_out_few(const backward_plan *p, float *data) {
    few_slice f;
    f.dout = data, data += p->block_rows * p->value_pitch; /* a row of it serves dsinks */
    f.q = data, data += p->block_rows * p->head_pitch;
    f.dq = data, data += p->block_rows * p->head_pitch;
    f.k = data, data += FEW_KEYS * p->head_pitch;
    f.v = data, data += FEW_KEYS * p->value_pitch;
    f.s = data, f.dp = data + p->block_rows * FEW_KEYS;
    return f;
}

static void clear_rows(float_rows rows, int64_t count, int64_t size) {
    for (int64_t i = 0; i < count; i++, rows.data += rows.stride)
        for (int64_t d = 0; d < size; d += VF_WIDTH)
            vf_store_n(rows.data + d, vf_set1(0), (size_t)smaller(size - d, VF_WIDTH));
}

/* Keys [first, first + count) against all rows. */
static void few_block(const backward_item *item, const tile *t, const few_slice *f, float_rows q,
                      float_rows dout, float_rows dq, int64_t first, int64_t count) {
    const fovea_attention_call *call = item->at.call;
    const fovea_backward_call *backward = item->backward;
    const int64_t head_size = call->head_size, value_size = call->value_size;
    few_rows rows;
    few_keys(&item->at, &call->k, first, count, &rows);
    float_rows k = few_read(&rows, &call->k, item->plan->head_pitch, f->k);
    few_keys(&item->at, &call->v, first, count, &rows);
    float_rows v = few_read(&rows, &call->v, item->plan->value_pitch, f->v);
    few_scores(t->rows, count, head_size, q, k, f->s);
    few_scores(t->rows, count, value_size, dout, v, f->dp);
    few_gradients(t, first, count, (float)(call->scale * LOG2E), (float)call->scale, f->s, f->dp);
    sum_weighted(FEW_TO_ROWS, t->rows, count, head_size, f->dp, k.data, k.stride, dq.data,
                 dq.stride);
    few_keys(&item->at, &backward->dv, first, count, &rows);
    float_rows dv = few_written(&rows, &backward->dv, item->plan->value_pitch, f->v);
    sum_weighted(FEW_TO_KEYS, count, t->rows, value_size, f->s, dout.data, dout.stride, dv.data,
                 dv.stride);
    few_store(&rows, &backward->dv, dv);
    few_keys(&item->at, &backward->dk, first, count, &rows);
    float_rows dk = few_written(&rows, &backward->dk, item->plan->head_pitch, f->k);
    sum_weighted(FEW_TO_KEYS, count, t->rows, head_size, f->dp, q.data, q.stride, dk.data,
                 dk.stride);
    few_store(&rows, &backward->dk, dk);
}

static void few_attend(const backward_item *item, tile *t) {
    const fovea_attention_call *call = item->at.call;
    const fovea_backward_call *backward = item->backward;
    const backward_plan *p = item->plan;
    const few_slice f = lay_out_few(p, item->slice.tiles);
    few_rows rows;
    few_queries(&item->at, t, &call->q, &rows);
    float_rows q = few_read(&rows, &call->q, p->head_pitch, f.q);
    few_queries(&item->at, t, &backward->dout, &rows);
    float_rows dout = few_read(&rows, &backward->dout, p->value_pitch, f.dout);
    few_queries(&item->at, t, &call->out, &rows);
    for (int64_t i = 0; i < t->rows; i++)
        t->sum[i] = row_product(dout.data + i * dout.stride, few_row(&rows, i), &call->out);
    few_queries(&item->at, t, &call->lse, &rows);
    for (int64_t i = 0; i < t->rows; i++) t->reference[i] = lse_in_log2(few_row(&rows, i));
    few_queries(&item->at, t, &backward->dq, &rows);
    float_rows dq = few_written(&rows, &backward->dq, p->head_pitch, f.dq);
    clear_rows(dq, t->rows, call->head_size);
    for (int64_t key = t->low; key < t->high; key += FEW_KEYS)
        few_block(item, t, &f, q, dout, dq, key, smaller(t->high - key, FEW_KEYS));
    few_store(&rows, &backward->dq, dq);
}

/* An item is a key head: all its rows, all its keys. */
static void run_few(backward_item *item, int64_t head) {
    const fovea_attention_call *call = &item->backward->attention;
    int64_t batch = 0;
    if (head >= call->key_heads) batch = head / call->key_heads, head = head % call->key_heads;
    set_backward_context(call, batch, head, &item->at);
    int32_t numbers[4][FEW_ROWS];
    float of_rows[2][FEW_ROWS];
    tile t;
    t.row = 0, t.rows = item->at.sequence.query_count * call->group;
    if (t.rows <= 0) return;
    t.vectors = (int)divide_up(t.rows, VF_WIDTH);
    t.query = numbers[0], t.head = numbers[1], t.first = numbers[2], t.end = numbers[3];
    t.reference = of_rows[0], t.sum = of_rows[1];
    number_rows(&item->at, &t);
    set_limits(&item->at, &t, t.rows);
    few_attend(item, &t);
}

/* Whether items set all of dk and dv, so that nothing has to be cleared before them. */
static bool few_reach_all_keys(const fovea_backward_call *backward) {
    const fovea_attention_options *options = &backward->options;
    bool limited = options->causal != FOVEA_ATTENTION_CAUSAL_NONE || options->window_left >= 0 ||
                   options->window_right >= 0;
    return !limited && !fovea_has_lengths(backward->attention.problem) &&
           backward->attention.query_length * backward->attention.group > 0;
}

#endif
