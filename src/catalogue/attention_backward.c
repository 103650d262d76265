/* attention_backward: its calls are described by the forward call that they belong to, and so are
 * their checks, counts and cases. */
#include "catalogue/attention.h"

#include "catalogue/case.h"
#include "catalogue/outcome.h"

static void make_options(const fovea_problem *problem, fovea_attention_options *options) {
    const fovea_attention_backward_options *given = problem->options;
    fovea_attention_options_default(options);
    options->scale = given->scale, options->softcap = given->softcap;
    options->dropout = given->dropout, options->seed = given->seed;
    options->dropout_offset = given->dropout_offset, options->query_offset = given->query_offset;
    options->window_left = given->window_left, options->window_right = given->window_right;
    options->block_rows = given->block_rows, options->block_keys = given->block_keys;
    options->layout = given->layout, options->causal = given->causal;
}

/* Of the arguments those of attention. */
static uint32_t forward_arguments(const fovea_problem *problem) {
    return problem->present & ((1u << FOVEA_BACKWARD_DOUT) - 1);
}

void fovea_backward_forward(const fovea_problem *problem, fovea_problem *forward,
                            fovea_attention_options *options) {
    make_options(problem, options);
    *forward = (fovea_problem){.index = fovea_catalogue_find("attention"),
                               .dtype = problem->dtype,
                               .device = problem->device,
                               .present = forward_arguments(problem),
                               .options = options};
    forward->kernel = fovea_catalogue_kernel(forward->index);
    memcpy(forward->extents, problem->extents, sizeof forward->extents);
    memcpy(forward->views, problem->views, FOVEA_BACKWARD_DOUT * sizeof *forward->views);
}

/* The axes of a gradient are those of what it is a gradient of. */
void fovea_backward_describe(const fovea_problem *problem, fovea_backward_call *backward) {
    const fovea_view *views = problem->views;
    make_options(problem, &backward->options);
    bool inside = backward->options.layout == FOVEA_ATTENTION_LAYOUT_BSHD;
    bool ragged_q = fovea_given(problem, FOVEA_ATTENTION_CU_SEQLENS_Q);
    bool ragged_k = fovea_given(problem, FOVEA_ATTENTION_CU_SEQLENS_K);
    fovea_attention_describe_part(problem, forward_arguments(problem), &backward->options,
                                  &backward->attention);
    fovea_attention_canonical(&views[FOVEA_BACKWARD_DOUT], ragged_q, inside, &backward->dout);
    fovea_attention_canonical(&views[FOVEA_BACKWARD_DQ], ragged_q, inside, &backward->dq);
    fovea_attention_canonical(&views[FOVEA_BACKWARD_DK], ragged_k, inside, &backward->dk);
    fovea_attention_canonical(&views[FOVEA_BACKWARD_DV], ragged_k, inside, &backward->dv);
    backward->has_dbias = fovea_given(problem, FOVEA_BACKWARD_DBIAS);
    backward->has_dsinks = fovea_given(problem, FOVEA_BACKWARD_DSINKS);
    if (backward->has_dsinks) backward->dsinks = views[FOVEA_BACKWARD_DSINKS];
    if (!backward->has_dbias) return;
    backward->dbias = views[FOVEA_BACKWARD_DBIAS];
    fovea_attention_broadcast(&backward->dbias);
}

void fovea_backward_describe_again(const fovea_problem *problem, fovea_backward_call *backward) {
    const fovea_view *views = problem->views;
    fovea_attention_describe_again(problem, &backward->options, &backward->attention);
    backward->dout.data = views[FOVEA_BACKWARD_DOUT].data;
    backward->dq.data = views[FOVEA_BACKWARD_DQ].data;
    backward->dk.data = views[FOVEA_BACKWARD_DK].data;
    backward->dv.data = views[FOVEA_BACKWARD_DV].data;
    if (backward->has_dbias) backward->dbias.data = views[FOVEA_BACKWARD_DBIAS].data;
    if (backward->has_dsinks) backward->dsinks.data = views[FOVEA_BACKWARD_DSINKS].data;
}

/* A gradient has the shape and the dtype of what it is a gradient of. */
bool fovea_backward_outcome(const fovea_problem *given, int argument, fovea_view *outcome) {
    static const int models[] = {[FOVEA_BACKWARD_DQ] = FOVEA_ATTENTION_Q,
                                 [FOVEA_BACKWARD_DK] = FOVEA_ATTENTION_K,
                                 [FOVEA_BACKWARD_DV] = FOVEA_ATTENTION_V,
                                 [FOVEA_BACKWARD_DBIAS] = FOVEA_ATTENTION_BIAS,
                                 [FOVEA_BACKWARD_DSINKS] = FOVEA_ATTENTION_SINKS};
    return fovea_outcome_like(given, models[argument], outcome);
}

/* ---- Checks --------------------------------------------------------------------------------- */

static fovea_status check_same(const fovea_problem *problem, int argument, int model,
                               fovea_message *message) {
    const fovea_view *view = &problem->views[argument], *wanted = &problem->views[model];
    char has[96], should[96];
    if (view->rank == wanted->rank &&
        memcmp(view->shape, wanted->shape, (size_t)view->rank * sizeof *view->shape) == 0)
        return FOVEA_OK;
    return fovea_fail(
        message, FOVEA_INVALID_ARGUMENT, "%s has shape %s; it has that of %s, %s",
        problem->kernel->arguments[argument].name, fovea_shape_text(view, has, sizeof has),
        problem->kernel->arguments[model].name, fovea_shape_text(wanted, should, sizeof should));
}

fovea_status fovea_backward_shape(fovea_problem *problem, fovea_message *message) {
    static const int models[][2] = {{FOVEA_BACKWARD_DOUT, FOVEA_ATTENTION_OUT},
                                    {FOVEA_BACKWARD_DQ, FOVEA_ATTENTION_Q},
                                    {FOVEA_BACKWARD_DK, FOVEA_ATTENTION_K},
                                    {FOVEA_BACKWARD_DV, FOVEA_ATTENTION_V},
                                    {FOVEA_BACKWARD_DBIAS, FOVEA_ATTENTION_BIAS},
                                    {FOVEA_BACKWARD_DSINKS, FOVEA_ATTENTION_SINKS}};
    fovea_attention_options options;
    fovea_problem forward;
    if (fovea_given(problem, FOVEA_ATTENTION_BLOCK_TABLE))
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "block_table is given: a paged cache is for inference and has no "
                          "gradient; gather keys and values and call without it");
    fovea_backward_forward(problem, &forward, &options);
    fovea_status status = fovea_attention_shape(&forward, message);
    memcpy(problem->extents, forward.extents, sizeof problem->extents);
    for (size_t i = 0; i < sizeof models / sizeof *models && status == FOVEA_OK; i++) {
        if (!fovea_given(problem, models[i][0])) continue;
        if (!fovea_given(problem, models[i][1]))
            return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s is given without %s",
                              problem->kernel->arguments[models[i][0]].name,
                              problem->kernel->arguments[models[i][1]].name);
        status = check_same(problem, models[i][0], models[i][1], message);
    }
    return status;
}

fovea_status fovea_backward_check(const fovea_problem *problem, fovea_message *message) {
    fovea_attention_options options;
    make_options(problem, &options);
    return fovea_attention_check_options(&options, message);
}

/* ---- Counts --------------------------------------------------------------------------------- */

/* Products of D columns: q k, ds k, ds^T q; of Dv: dout v, p^T dout. 2.5 times forward if D = Dv. */
double fovea_backward_operations(const fovea_problem *problem) {
    fovea_backward_call backward;
    fovea_backward_describe(problem, &backward);
    const fovea_attention_call *call = &backward.attention;
    return 2.0 * (double)(3 * call->head_size + 2 * call->value_size) * fovea_attention_pairs(call);
}

double fovea_backward_bytes(const fovea_problem *problem) {
    static const int once[] = {FOVEA_ATTENTION_Q,   FOVEA_ATTENTION_K,   FOVEA_ATTENTION_V,
                               FOVEA_ATTENTION_OUT, FOVEA_BACKWARD_DOUT, FOVEA_BACKWARD_DQ,
                               FOVEA_BACKWARD_DK,   FOVEA_BACKWARD_DV};
    double bytes = 0;
    for (size_t i = 0; i < sizeof once / sizeof *once; i++)
        bytes += (double)fovea_view_elements(&problem->views[once[i]]) *
                 (double)fovea_dtype_size(problem->views[once[i]].dtype);
    return bytes;
}

void fovea_backward_traits(const fovea_problem *problem, fovea_traits *traits) {
    fovea_attention_options options;
    fovea_problem forward;
    fovea_backward_forward(problem, &forward, &options);
    fovea_attention_traits(&forward, traits);
}

/* ---- Cases ---------------------------------------------------------------------------------- */

void fovea_backward_case_shape(const fovea_case *c, int argument, int *rank, int64_t *shape) {
    static const int models[] = {[FOVEA_BACKWARD_DOUT] = FOVEA_ATTENTION_OUT,
                                 [FOVEA_BACKWARD_DQ] = FOVEA_ATTENTION_Q,
                                 [FOVEA_BACKWARD_DK] = FOVEA_ATTENTION_K,
                                 [FOVEA_BACKWARD_DV] = FOVEA_ATTENTION_V,
                                 [FOVEA_BACKWARD_DBIAS] = FOVEA_ATTENTION_BIAS,
                                 [FOVEA_BACKWARD_DSINKS] = FOVEA_ATTENTION_SINKS};
    fovea_attention_case_shape(c, argument < FOVEA_BACKWARD_DOUT ? argument : models[argument],
                               rank, shape);
}
