/* What the rows of losses, normalization, positions, quantization and their fused forms need beyond
 * letters: shapes that hang on options, arguments that go together, cases, counts. */
#ifndef FOVEA_CATALOGUE_NETWORK_H
#define FOVEA_CATALOGUE_NETWORK_H

#include "catalogue/bounds.h"
#include "catalogue/case.h"

/* ---- Losses: catalogue/loss.c. All rows of losses begin with these arguments. ---------------- */

enum { FOVEA_LOSS_FIRST, FOVEA_LOSS_SECOND, FOVEA_LOSS_LOSS, FOVEA_LOSS_GRADIENT };
typedef enum fovea_reduction { FOVEA_NO_REDUCTION, FOVEA_MEAN, FOVEA_SUM } fovea_reduction;

fovea_reduction fovea_loss_reduction(const fovea_problem *problem);
fovea_status fovea_loss_check(const fovea_problem *problem, fovea_message *message);
void fovea_loss_case_shape(const fovea_case *c, int argument, int *rank, int64_t *shape);
void fovea_loss_case_fill(const fovea_case *c, int argument, const fovea_view *view);

/* The parameters of loss_cross_entropy and fused_softmax_cross_entropy. */
typedef struct fovea_cross_entropy_rule {
    fovea_reduction reduction;
    int64_t ignored;
    double on, off; /* weights of the target and of every class */
} fovea_cross_entropy_rule;
fovea_cross_entropy_rule fovea_cross_entropy_read(const fovea_problem *problem);
int64_t fovea_cross_entropy_target(const fovea_view *targets, int64_t row); /* of any integers */

/* The limits of probabilities in loss_bce: neighbours in f32. */
#define FOVEA_BCE_LEAST ((double)1e-7f)
#define FOVEA_BCE_MOST (1 - 0x1p-23)

/* ---- Normalization: catalogue/normalization.c ----------------------------------------------- */

fovea_status fovea_batch_norm_check(const fovea_problem *problem, fovea_message *message);
fovea_status fovea_group_norm_check(const fovea_problem *problem, fovea_message *message);
void fovea_norm_case_defaults(fovea_case *c);
double fovea_batch_norm_operations(const fovea_problem *problem);

/* Elements of x that are normalised together: number `set` of `sets`, with `size` elements. x is
 * [outer, channels, inner]; a set is a channel, or `channels` of one sample. */
typedef struct fovea_norm_sets {
    int64_t outer, channels, inner; /* of x */
    int64_t group;                  /* channels of a set of group_norm; 0: batch_norm */
    int64_t sets, size;
} fovea_norm_sets;
fovea_norm_sets fovea_norm_describe(const fovea_problem *problem);
/* The row-major number in x of element i of a set. */
static inline int64_t fovea_norm_element(const fovea_norm_sets *n, int64_t set, int64_t i) {
    if (n->group) return set * n->size + i;
    return (i / n->inner * n->channels + set) * n->inner + i % n->inner;
}

fovea_status fovea_dropout_check(const fovea_problem *problem, fovea_message *message);
void fovea_dropout_case_defaults(fovea_case *c);
double fovea_dropout_operations(const fovea_problem *problem);
/* Whether fused_layernorm_dropout_residual keeps element i. */
bool fovea_dropout_keeps(const fovea_problem *problem, int64_t i);

/* ---- Positions: catalogue/positions.c ------------------------------------------------------- */

fovea_status fovea_rope_check(const fovea_problem *problem, fovea_message *message);
fovea_status fovea_rope_table_check(const fovea_problem *problem, fovea_message *message);
void fovea_rope_case_defaults(fovea_case *c);
void fovea_rope_case_shape(const fovea_case *c, int argument, int *rank, int64_t *shape);

/* Row p of x [..., S, size] in pairs: element d goes with `partner`, as the first or second of pair
 * number `pair`. */
typedef struct fovea_rope_place {
    int64_t partner, pair;
    bool first;
} fovea_rope_place;
fovea_rope_place fovea_rope_find(bool interleaved, int64_t size, int64_t d);

/* ---- Quantization: catalogue/quantization.c ------------------------------------------------- */

fovea_status fovea_quantization_check(const fovea_problem *problem, fovea_message *message);
void fovea_quantization_case_shape(const fovea_case *c, int argument, int *rank, int64_t *shape);

/* Rows of the last axis and what shares a scale: `block` columns, the last may be fewer; 0: all. */
typedef struct fovea_quantization {
    int64_t rows, columns, block, blocks; /* blocks: of a row */
} fovea_quantization;
fovea_quantization fovea_quantization_describe(const fovea_problem *problem);
/* The number of the scale of element i. */
static inline int64_t fovea_quantization_scale(const fovea_quantization *q, int64_t i) {
    return q->block ? i / q->columns * q->blocks + i % q->columns / q->block : 0;
}

/* Bounds, each in the file of its rows. */
fovea_bound_function fovea_bound_loss, fovea_bound_cross_entropy;
fovea_bound_function fovea_bound_norm_sets, fovea_bound_dropout_residual;
fovea_bound_function fovea_bound_rope, fovea_bound_alibi, fovea_bound_table,
    fovea_bound_rope_scores;
fovea_bound_function fovea_bound_quantize;

#endif
