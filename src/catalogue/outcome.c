/* Shapes and dtypes of outputs, from the shape texts of the rows. */
#include "catalogue/outcome.h"

#include <math.h>

/* The rows whose shape texts are not the whole truth. */
static const struct {
    const char *kernel;
    fovea_outcome_function *outcome;
} special[] = {{"attention", fovea_attention_outcome},
               {"attention_backward", fovea_backward_outcome},
               {"loss_cross_entropy", fovea_loss_outcome},
               {"loss_mse", fovea_loss_outcome},
               {"loss_mae", fovea_loss_outcome},
               {"loss_huber", fovea_loss_outcome},
               {"loss_kl_div", fovea_loss_outcome},
               {"loss_bce", fovea_loss_outcome},
               {"fused_softmax_cross_entropy", fovea_loss_outcome},
               {"quantize_f16_to_i8", fovea_quantization_outcome}};

bool fovea_call_dtype(const fovea_problem *given, fovea_dtype *dtype) {
    for (int a = 0; given->kernel->arguments[a].name; a++) {
        if (!fovea_given(given, a) || given->kernel->arguments[a].dtypes) continue;
        *dtype = given->views[a].dtype;
        return true;
    }
    return false;
}

bool fovea_outcome_like(const fovea_problem *given, int argument, fovea_view *outcome) {
    if (!fovea_given(given, argument)) return false;
    *outcome = given->views[argument];
    return true;
}

/* That of the call where it may be, else the first of the set. */
static bool find_dtype(const fovea_problem *given, int argument, fovea_dtype *dtype) {
    const fovea_argument *wanted = &given->kernel->arguments[argument];
    uint32_t allowed = wanted->dtypes;
    bool known = fovea_call_dtype(given, dtype);
    if (known) allowed = fovea_argument_dtypes(wanted, *dtype);
    if (!allowed || allowed & FOVEA_CALL || (known && allowed >> *dtype & 1)) return known;
    *dtype = (fovea_dtype)__builtin_ctz(allowed);
    return true;
}

static bool append_letter(const fovea_problem *given, int letter, int more, fovea_view *outcome);

static bool append(fovea_view *outcome, int64_t extent) {
    if (outcome->rank == FOVEA_RANK_MAX) return false;
    outcome->shape[outcome->rank++] = extent;
    return true;
}

/* The group as the first argument has it, without the dimension that is reduced. */
static bool append_group(const fovea_problem *given, const fovea_shape *wanted,
                         fovea_view *outcome) {
    for (int a = 0; given->kernel->arguments[a].name; a++) {
        const fovea_shape *shape = fovea_kernel_shape(given->index, a);
        if (!fovea_given(given, a) || shape->group != wanted->group || shape->without_axis)
            continue;
        const fovea_view *view = &given->views[a];
        int axis = wanted->without_axis ? fovea_problem_axis(given) : view->rank;
        if (axis < 0) return true; /* all of them */
        for (int i = 0; i < view->rank - shape->count; i++)
            if (i != axis && !append(outcome, view->shape[shape->before + i])) return false;
        return view->rank >= shape->count;
    }
    return false;
}

/* The extents that are known, and parameters; NaN for others. */
static double lookup(const char *name, const void *user) {
    const fovea_problem *given = user;
    fovea_view extent = {.rank = 0};
    int letter = fovea_kernel_letter(given->index, name);
    if (letter < 0) return fovea_problem_parameter(given, name);
    return append_letter(given, letter, 0, &extent) ? (double)extent.shape[0] : NAN;
}

static bool append_derived(const fovea_problem *given, fovea_view *outcome) {
    double extent = fovea_evaluate(fovea_derived_formula(given->kernel), lookup, given);
    return extent >= 0 && extent <= 0x1p52 && append(outcome, (int64_t)extent);
}

static bool append_letter(const fovea_problem *given, int letter, int more, fovea_view *outcome) {
    if (letter == fovea_kernel_derived(given->index)) return append_derived(given, outcome);
    for (int a = 0; given->kernel->arguments[a].name; a++) {
        const fovea_shape *shape = fovea_kernel_shape(given->index, a);
        int group_rank = given->views[a].rank - shape->count;
        if (!fovea_given(given, a) || group_rank < 0) continue;
        for (int i = 0; i < shape->count; i++) {
            int less, place = fovea_problem_letter(given, shape, i, &less);
            int dimension = fovea_shape_dimension(shape, i, group_rank);
            int64_t extent = given->views[a].shape[dimension] - less;
            if (place == letter) return extent >= 0 && append(outcome, extent + more);
        }
    }
    return false;
}

bool fovea_outcome(const fovea_problem *given, int argument, fovea_view *outcome) {
    *outcome = (fovea_view){.rank = 0};
    if (!find_dtype(given, argument, &outcome->dtype)) return false;
    const fovea_shape *shape = fovea_kernel_shape(given->index, argument);
    bool by_row = given->kernel->shape || shape->by_row;
    for (size_t i = 0; by_row && i < sizeof special / sizeof *special; i++)
        if (strcmp(given->kernel->name, special[i].kernel) == 0)
            return special[i].outcome(given, argument, outcome);
    if (by_row) return false;
    for (int i = 0; i < shape->before; i++)
        if (!append_letter(given, shape->letters[i], shape->more[i], outcome)) return false;
    if (shape->group >= 0 && !append_group(given, shape, outcome)) return false;
    for (int i = shape->before; i < shape->count; i++) {
        int more, letter = fovea_problem_letter(given, shape, i, &more);
        if (!append_letter(given, letter, more, outcome)) return false;
    }
    return true;
}
