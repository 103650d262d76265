/* The attention problem in canonical form: axes in one order, masks with zero strides where they
 * broadcast, sequences taken apart, positions and allowed keys in one place. The reference and
 * every backend read attention calls through this. Definitions: the manual of `attention`. */
#ifndef FOVEA_CATALOGUE_ATTENTION_H
#define FOVEA_CATALOGUE_ATTENTION_H

#include "catalogue/problem.h"

/* Positions of the arguments in the row. */
enum {
    FOVEA_ATTENTION_Q,
    FOVEA_ATTENTION_K,
    FOVEA_ATTENTION_V,
    FOVEA_ATTENTION_OUT,
    FOVEA_ATTENTION_LSE,
    FOVEA_ATTENTION_MASK,
    FOVEA_ATTENTION_BIAS,
    FOVEA_ATTENTION_SLOPES,
    FOVEA_ATTENTION_SINKS,
    FOVEA_ATTENTION_CU_SEQLENS_Q,
    FOVEA_ATTENTION_CU_SEQLENS_K,
    FOVEA_ATTENTION_SEQUSED_K,
    FOVEA_ATTENTION_BLOCK_TABLE,
    FOVEA_ATTENTION_K_SCALE,
    FOVEA_ATTENTION_V_SCALE
};

/* The row's functions. */
fovea_status fovea_attention_shape(fovea_problem *problem, fovea_message *message);
fovea_status fovea_attention_check(const fovea_problem *problem, fovea_message *message);
double fovea_attention_operations(const fovea_problem *problem);
double fovea_attention_bytes(const fovea_problem *problem);
void fovea_attention_traits(const fovea_problem *problem, fovea_traits *traits);
void fovea_attention_case_defaults(fovea_case *c);
void fovea_attention_case_shape(const fovea_case *c, int argument, int *rank, int64_t *shape);
void fovea_attention_case_fill(const fovea_case *c, int argument, const fovea_view *view);

typedef struct fovea_attention_call {
    const fovea_attention_options *options;
    const fovea_problem *problem;
    int64_t batch, query_heads, key_heads, head_size, value_size;
    int64_t group;        /* query_heads / key_heads */
    int64_t query_length; /* of every sequence; of the longest if ragged */
    int64_t key_length;
    double scale, softcap; /* softcap inf: off */
    /* [B, H, S, D] in that order of dimensions. Ragged: dimension 0 has stride 0 and dimension 2
     * counts rows of the packed tensor. Paged k and v: [pages, Hkv, page_size, D]. */
    fovea_view q, k, v, out;
    fovea_view lse;        /* [B, Hq, Sq]; ragged: dimension 0 has stride 0, total rows */
    fovea_view mask, bias; /* [B, Hq, Sq, Sk] with zero strides where they broadcast */
    bool has_lse, has_mask, has_bias, has_slopes, has_sinks, paged;
    fovea_view slopes, sinks; /* [Hq] f32 */
    int64_t page_size;
    bool quantised; /* k or v is i8 or e4m3 */
    /* As k and v, with strides of 0 where they broadcast; dimension 3 counts groups of `k_group` and
     * `v_group` elements. data NULL: there is none, all scales are 1. */
    fovea_view k_scale, v_scale;
    int64_t k_group, v_group;
} fovea_attention_call;

/* A sequence of the batch. query_start and key_start count rows of dimension 2 (0 unless ragged).
 */
typedef struct fovea_sequence {
    int64_t batch, query_start, query_count, key_start, key_count;
} fovea_sequence;

/* The problem must have passed its checks. Of tensors on a device the contents are not known: there
 * every sequence counts as having all rows, which bounds what it can be. */
void fovea_attention_describe(const fovea_problem *problem, fovea_attention_call *attention);
/* The description that a call alike has left: only options and addresses may be others. */
void fovea_attention_describe_again(const fovea_problem *problem,
                                    const fovea_attention_options *options,
                                    fovea_attention_call *attention);
/* The same of a problem whose first arguments are those of attention: of these only the ones in `present`
 * count, and the options are given beside it. */
void fovea_attention_describe_part(const fovea_problem *problem, uint32_t present,
                                   const fovea_attention_options *options,
                                   fovea_attention_call *attention);
/* [total, H, D] or [B, S, H, D] or [B, H, S, D] to [B, H, S, D]. */
void fovea_attention_canonical(const fovea_view *given, bool ragged, bool heads_inside,
                               fovea_view *view);
/* NumPy broadcasting to four dimensions: missing ones and extents of 1 get stride 0. */
void fovea_attention_broadcast(fovea_view *view);
fovea_status fovea_attention_check_options(const fovea_attention_options *options,
                                           fovea_message *message);
/* Where lengths are given; then the contents say it. */
fovea_sequence fovea_ragged_sequence(const fovea_attention_call *attention, int64_t batch);
static inline bool fovea_has_lengths(const fovea_problem *problem) {
    const uint32_t lengths = 1u << FOVEA_ATTENTION_CU_SEQLENS_Q |
                             1u << FOVEA_ATTENTION_CU_SEQLENS_K | 1u << FOVEA_ATTENTION_SEQUSED_K;
    return problem->present & lengths;
}
static inline fovea_sequence fovea_attention_sequence(const fovea_attention_call *attention,
                                                      int64_t batch) {
    if (fovea_has_lengths(attention->problem)) return fovea_ragged_sequence(attention, batch);
    return (fovea_sequence){
        .batch = batch, .query_count = attention->query_length, .key_count = attention->key_length};
}

/* Position of query row i of a sequence on the axis of its keys. */
int64_t fovea_query_position(const fovea_attention_call *attention, const fovea_sequence *sequence,
                             int64_t i);
/* Keys [first, end) that causal mask, window and length let row i attend; first <= end. Boolean
 * masks and biases come on top. */
void fovea_attended_keys(const fovea_attention_call *attention, const fovea_sequence *sequence,
                         int64_t i, int64_t *first, int64_t *end);

/* ---- Backward (catalogue/attention_backward.c) ------------------------------------------------ */

/* Arguments of attention_backward: those of attention at the same positions, then these. */
enum {
    FOVEA_BACKWARD_DOUT = FOVEA_ATTENTION_BLOCK_TABLE + 1,
    FOVEA_BACKWARD_DQ,
    FOVEA_BACKWARD_DK,
    FOVEA_BACKWARD_DV,
    FOVEA_BACKWARD_DBIAS,
    FOVEA_BACKWARD_DSINKS
};

fovea_status fovea_backward_shape(fovea_problem *problem, fovea_message *message);
fovea_status fovea_backward_check(const fovea_problem *problem, fovea_message *message);
double fovea_backward_operations(const fovea_problem *problem);
double fovea_backward_bytes(const fovea_problem *problem);
void fovea_backward_traits(const fovea_problem *problem, fovea_traits *traits);
void fovea_backward_case_shape(const fovea_case *c, int argument, int *rank, int64_t *shape);

/* Whether a row computes gradients of attention. */
static inline bool fovea_is_backward(const fovea_kernel *kernel) {
    return kernel->shape == fovea_backward_shape;
}

#ifndef FOVEA_GENERATOR /* which has no options yet */
/* A call of attention_backward: the forward call that it belongs to, where `out` and `lse` are
 * inputs, and the gradients in canonical form. It points into itself and must not be copied. */
typedef struct fovea_backward_call {
    fovea_attention_call attention;
    fovea_view dout, dq, dk, dv; /* as attention's out, q, k, v */
    fovea_view dbias;            /* as attention's bias, zero strides where it was broadcast */
    fovea_view dsinks;           /* [Hq] */
    bool has_dbias, has_dsinks;
    fovea_attention_options options;
} fovea_backward_call;

/* The problem must have passed its checks. */
void fovea_backward_describe(const fovea_problem *problem, fovea_backward_call *backward);
void fovea_backward_describe_again(const fovea_problem *problem, fovea_backward_call *backward);
/* The forward problem: the same arguments at the same positions, and its own options. */
void fovea_backward_forward(const fovea_problem *problem, fovea_problem *forward,
                            fovea_attention_options *options);
#endif

/* Byte addresses of rows: element d is at + d * stride[3] elements. */
static inline char *fovea_row(const fovea_view *view, int64_t batch, int64_t head, int64_t row) {
    int64_t offset = batch * view->stride[0] + head * view->stride[1] + row * view->stride[2];
    if (!view->data) return NULL; /* no elements, so that nobody reads there */
    return view->data + offset * (int64_t)fovea_dtype_size(view->dtype);
}
/* Elements from one row to the next. Rows without elements are all at the same place, which is nowhere. */
static inline int64_t fovea_row_stride(const fovea_view *view) {
    return view->data ? view->stride[2] : 0;
}
/* Row j of a sequence's keys or values (view is k or v), through the block table if there is one.
 */
char *fovea_key_row(const fovea_attention_call *attention, const fovea_view *view,
                    const fovea_sequence *sequence, int64_t head, int64_t j);

/* Pairs (query row, key) that are not masked by causal, window and length: for FLOP counts. */
double fovea_attention_pairs(const fovea_attention_call *attention);

#endif
