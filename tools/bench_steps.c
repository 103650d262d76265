/* Fused kernels step by step. Each is what a caller without the fused kernel would write with the others:
 * every step reads its inputs from memory and writes a tensor of its own. Tensors between steps, and
 * constants that depend on the shape alone, are made outside the timer, as peers' are. */
#include "bench_steps.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BETWEEN = 4 };

typedef fovea_status run_function(const fovea_steps *steps, fovea_context *context,
                                  const fovea_sample *sample);

struct fovea_steps {
    run_function *run;
    int count;
    DLTensor tensors[BETWEEN];
    int64_t shapes[BETWEEN][FOVEA_RANK_MAX], strides[BETWEEN][FOVEA_RANK_MAX];
    void *memory[BETWEEN];
    float constants[BETWEEN]; /* what tensors of one number, of all strides 0, point to */
};

static const DLTensor *argument(const fovea_sample *sample, const char *name) {
    int index = fovea_kernel_argument(sample->problem.kernel, name);
    return index >= 0 && sample->present >> index & 1 ? &sample->tensors[index] : NULL;
}

static DLTensor *result(const fovea_sample *sample, const char *name) {
    return &((fovea_sample *)(uintptr_t)sample)
                ->tensors[fovea_kernel_argument(sample->problem.kernel, name)];
}

/* ---- Tensors between steps ------------------------------------------------------------------ */

/* Dense, of these extents; false if memory is short. */
static bool add_tensor(fovea_steps *steps, fovea_dtype dtype, int rank, const int64_t *shape) {
    int at = steps->count++;
    size_t elements = 1;
    for (int i = 0; i < rank; i++) {
        steps->shapes[at][i] = shape[i];
        if (__builtin_mul_overflow(elements, (size_t)shape[i], &elements)) return false;
    }
    for (int64_t i = rank - 1, stride = 1; i >= 0; stride *= shape[i--])
        steps->strides[at][i] = stride;
    size_t bytes;
    if (__builtin_mul_overflow(elements, fovea_dtype_size(dtype), &bytes)) return false;
    steps->memory[at] = calloc(bytes + 1, 1);
    steps->tensors[at] = (DLTensor){.data = steps->memory[at],
                                    .device = {kDLCPU, 0},
                                    .ndim = rank,
                                    .dtype = fovea_dtype_to_dlpack(dtype),
                                    .shape = steps->shapes[at],
                                    .strides = steps->strides[at]};
    return steps->memory[at] != NULL;
}

/* One f32 at every place of a tensor of this shape. */
static void add_constant(fovea_steps *steps, float value, int rank, const int64_t *shape) {
    int at = steps->count++;
    steps->constants[at] = value;
    for (int i = 0; i < rank; i++) steps->shapes[at][i] = shape[i], steps->strides[at][i] = 0;
    steps->tensors[at] = (DLTensor){.data = &steps->constants[at],
                                    .device = {kDLCPU, 0},
                                    .ndim = rank,
                                    .dtype = fovea_dtype_to_dlpack(FOVEA_F32),
                                    .shape = steps->shapes[at],
                                    .strides = steps->strides[at]};
}

static DLTensor *between(const fovea_steps *steps, int at) {
    return &((fovea_steps *)(uintptr_t)steps)->tensors[at];
}

static bool add_like(fovea_steps *steps, fovea_dtype dtype, const fovea_view *view) {
    return add_tensor(steps, dtype, view->rank, view->shape);
}

/* ---- The kernels ---------------------------------------------------------------------------- */

#define CALL(step)                                                                                 \
    do {                                                                                           \
        fovea_status status_of_step = (step);                                                      \
        if (status_of_step != FOVEA_OK) return status_of_step;                                     \
    } while (0)

/* Normalise, draw, compare, drop, scale and add. */
static fovea_status dropout_steps(const fovea_steps *steps, fovea_context *context,
                                  const fovea_sample *sample) {
    const fovea_fused_layernorm_dropout_residual_options *o = (const void *)sample->options;
    fovea_layer_norm_options norm = {
        .size = sizeof norm, .eps = o->eps, .gamma = o->gamma, .beta = o->beta};
    fovea_prng_uniform_options draw = {.size = sizeof draw, .seed = o->seed, .stream = o->stream};
    DLTensor *y = result(sample, "y"), *mask = between(steps, 0);
    CALL(fovea_layer_norm(context, argument(sample, "x"), y, &norm));
    CALL(fovea_prng_uniform(context, mask, &draw));
    CALL(fovea_map_compare(context, between(steps, 1), mask, mask, NULL));
    CALL(fovea_map_mul(context, y, mask, y, NULL));
    return fovea_map_fma(context, y, between(steps, 2), argument(sample, "residual"), y, NULL);
}

static bool dropout_begin(fovea_steps *steps, const fovea_problem *problem) {
    const fovea_fused_layernorm_dropout_residual_options *o = (const void *)problem->options;
    const fovea_view *x = &problem->views[fovea_kernel_argument(problem->kernel, "x")];
    float keep = (float)o->keep;
    if (!add_like(steps, FOVEA_F32, x)) return false;
    add_constant(steps, keep, x->rank, x->shape);
    add_constant(steps, 1 / keep, x->rank, x->shape);
    return true;
}

/* The score matrix, its softmax, the weighted sums. */
static fovea_status attention_steps(const fovea_steps *steps, fovea_context *context,
                                    const fovea_sample *sample) {
    const DLTensor *q = argument(sample, "q");
    fovea_matmul_batched_options product = {.size = sizeof product,
                                            .transpose_b = true,
                                            .alpha = 1 / sqrt((double)q->shape[q->ndim - 1])};
    DLTensor *scores = between(steps, 0), *shares = between(steps, 1);
    CALL(fovea_matmul_batched(context, q, argument(sample, "k"), scores, &product));
    CALL(fovea_softmax_stable(context, scores, shares, NULL));
    return fovea_matmul_batched(context, shares, argument(sample, "v"), result(sample, "out"),
                                NULL);
}

static bool attention_begin(fovea_steps *steps, const fovea_problem *problem) {
    const fovea_view *q = &problem->views[fovea_kernel_argument(problem->kernel, "q")];
    const fovea_view *k = &problem->views[fovea_kernel_argument(problem->kernel, "k")];
    const int64_t shape[] = {q->shape[0], q->shape[1], q->shape[2], k->shape[2]};
    return add_tensor(steps, FOVEA_F32, 4, shape) && add_tensor(steps, FOVEA_F32, 4, shape);
}

/* Flags, then what they keep. */
static fovea_status compact_steps(const fovea_steps *steps, fovea_context *context,
                                  const fovea_sample *sample) {
    const DLTensor *x = argument(sample, "x");
    CALL(fovea_map_compare(context, x, between(steps, 1), between(steps, 0), NULL));
    return fovea_compact_mask(context, x, between(steps, 0), result(sample, "y"),
                              result(sample, "count"), NULL);
}

static bool compact_begin(fovea_steps *steps, const fovea_problem *problem) {
    const fovea_fused_scan_compact_options *o = (const void *)problem->options;
    const fovea_view *x = &problem->views[fovea_kernel_argument(problem->kernel, "x")];
    if (!add_like(steps, FOVEA_U8, x)) return false;
    add_constant(steps, (float)o->threshold, x->rank, x->shape);
    return true;
}

/* Rotate both, multiply, mask. */
static fovea_status rope_steps(const fovea_steps *steps, fovea_context *context,
                               const fovea_sample *sample) {
    const fovea_fused_rope_attention_mask_options *o = (const void *)sample->options;
    const DLTensor *q = argument(sample, "q");
    fovea_rope_apply_options turn = {.size = sizeof turn,
                                     .pairing = o->pairing,
                                     .base = o->base,
                                     .offset = o->offset,
                                     .cos = o->cos,
                                     .sin = o->sin};
    fovea_matmul_batched_options product = {.size = sizeof product,
                                            .transpose_b = true,
                                            .alpha = 1 / sqrt((double)q->shape[q->ndim - 1])};
    DLTensor *scores = result(sample, "A");
    CALL(fovea_rope_apply(context, q, between(steps, 0), &turn));
    CALL(fovea_rope_apply(context, argument(sample, "k"), between(steps, 1), &turn));
    CALL(fovea_matmul_batched(context, between(steps, 0), between(steps, 1), scores, &product));
    return fovea_map_add(context, scores, between(steps, 2), scores, NULL);
}

static bool rope_begin(fovea_steps *steps, const fovea_problem *problem) {
    const fovea_view *q = &problem->views[fovea_kernel_argument(problem->kernel, "q")];
    const fovea_view *a = &problem->views[fovea_kernel_argument(problem->kernel, "A")];
    int64_t rows = a->shape[a->rank - 2], columns = a->shape[a->rank - 1];
    if (!add_like(steps, FOVEA_F32, q) || !add_like(steps, FOVEA_F32, q)) return false;
    if (!add_tensor(steps, FOVEA_F32, 2, a->shape + a->rank - 2)) return false;
    float *above = between(steps, 2)->data;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = i + 1; j < columns; j++) above[i * columns + j] = -INFINITY;
    /* The same for every batch: leading extents of stride 0. */
    DLTensor *mask = between(steps, 2);
    int batches = a->rank - 2;
    mask->ndim = a->rank;
    memmove(mask->strides + batches, mask->strides, 2 * sizeof *mask->strides);
    memcpy(mask->shape, a->shape, (size_t)a->rank * sizeof *mask->shape);
    for (int i = 0; i < batches; i++) mask->strides[i] = 0;
    return true;
}

/* Clamp a copy, then update. */
static fovea_status adam_steps(const fovea_steps *steps, fovea_context *context,
                               const fovea_sample *sample) {
    const fovea_fused_adam_clip_update_options *o = (const void *)sample->options;
    fovea_map_clamp_options clamp = {.size = sizeof clamp, .lo = -o->c, .hi = o->c};
    fovea_opt_adamw_options update = {.size = sizeof update,
                                      .lr = o->lr,
                                      .beta1 = o->beta1,
                                      .beta2 = o->beta2,
                                      .eps = o->eps,
                                      .weight_decay = o->weight_decay,
                                      .step = o->step};
    CALL(fovea_map_clamp(context, argument(sample, "g"), between(steps, 0), &clamp));
    return fovea_opt_adamw(context, result(sample, "p"), between(steps, 0), result(sample, "m"),
                           result(sample, "v"), &update);
}

static bool adam_begin(fovea_steps *steps, const fovea_problem *problem) {
    return add_like(steps, FOVEA_F32, &problem->views[fovea_kernel_argument(problem->kernel, "g")]);
}

/* The losses, the probabilities, and 1 taken from those of the targets. */
static fovea_status entropy_steps(const fovea_steps *steps, fovea_context *context,
                                  const fovea_sample *sample) {
    const fovea_fused_softmax_cross_entropy_options *o = (const void *)sample->options;
    const DLTensor *z = argument(sample, "z"), *target = argument(sample, "target");
    fovea_loss_cross_entropy_options loss = {
        .size = sizeof loss, .reduction = o->reduction, .ignore_index = o->ignore_index};
    DLTensor *gradient = result(sample, "gradient");
    (void)steps;
    CALL(fovea_loss_cross_entropy(context, z, target, result(sample, "loss"), &loss));
    CALL(fovea_softmax_stable(context, z, gradient, NULL));
    int64_t classes = z->shape[z->ndim - 1];
    const int64_t *targets = target->data;
    float *rows = gradient->data;
    for (int64_t b = 0; b < target->shape[0]; b++) rows[b * classes + targets[b]] -= 1;
    return FOVEA_OK;
}

static bool entropy_begin(fovea_steps *steps, const fovea_problem *problem) {
    (void)steps, (void)problem;
    return true;
}

/* ---- Creating and running ------------------------------------------------------------------- */

static const struct {
    const char *kernel;
    run_function *run;
    bool (*begin)(fovea_steps *steps, const fovea_problem *problem);
    const char *without; /* an argument that must not be given */
} table[] = {{"fused_layernorm_dropout_residual", dropout_steps, dropout_begin, "mask"},
             {"fused_attention_softmax_v", attention_steps, attention_begin, "mask"},
             {"fused_scan_compact", compact_steps, compact_begin, NULL},
             {"fused_rope_attention_mask", rope_steps, rope_begin, NULL},
             {"fused_adam_clip_update", adam_steps, adam_begin, NULL},
             {"fused_softmax_cross_entropy", entropy_steps, entropy_begin, NULL}};

/* They are written for the benchmark's case: dense f32, with i64 targets. */
static bool is_plain(const fovea_problem *problem, const char *without) {
    if (problem->dtype != FOVEA_F32) return false;
    int index = without ? fovea_kernel_argument(problem->kernel, without) : -1;
    if (index >= 0 && fovea_given(problem, index)) return false;
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX && problem->kernel->arguments[a].name; a++) {
        if (!fovea_given(problem, a)) continue;
        if (!fovea_view_is_contiguous(&problem->views[a])) return false;
        if (strcmp(problem->kernel->arguments[a].name, "target") == 0 &&
            problem->views[a].dtype != FOVEA_I64)
            return false;
    }
    return true;
}

fovea_steps *fovea_steps_create(const char *kernel, const fovea_problem *problem, char *why,
                                size_t size) {
    *why = 0;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strcmp(kernel, table[i].kernel) != 0) continue;
        if (!is_plain(problem, table[i].without)) {
            snprintf(why, size, "the steps are written for dense f32 tensors");
            return NULL;
        }
        fovea_steps *steps = calloc(1, sizeof *steps);
        if (steps) steps->run = table[i].run;
        if (steps && table[i].begin(steps, problem)) return steps;
        fovea_steps_destroy(steps);
        snprintf(why, size, "no memory for what lies between the steps");
        return NULL;
    }
    return NULL;
}

void fovea_steps_destroy(fovea_steps *steps) {
    for (int i = 0; steps && i < BETWEEN; i++) free(steps->memory[i]);
    free(steps);
}

bool fovea_steps_run(const fovea_steps *steps, fovea_context *context, const fovea_sample *sample) {
    return steps->run(steps, context, sample) == FOVEA_OK;
}
