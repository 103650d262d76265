/* Calls that repeat: comparing a call with the one before it. */
#include "catalogue/repeat.h"

/* The strides that a tensor without any has. */
static bool is_dense(const fovea_view *view) {
    int64_t elements = 1;
    for (int i = view->rank - 1; i >= 0; i--) {
        if (view->stride[i] != elements || !fovea_multiply(elements, view->shape[i], &elements))
            return false;
    }
    return true;
}

static const DLTensor *tensor_at(const fovea_repeat_tensor *kept, const DLTensor *const *tensors,
                                 const void *options) {
    const DLTensor *tensor;
    if (!kept->optional) return tensors[kept->place];
    memcpy(&tensor, (const char *)options + kept->place, sizeof tensor);
    return tensor;
}

/* Which tensors of the options are given, in the order that they have there: behind the parameters, at
 * the next place for a pointer. */
static uint32_t optional_tensors(const fovea_options_layout *layout, const void *options) {
    const DLTensor *tensor;
    uint32_t given = 0;
    size_t place = (layout->parameters_end + sizeof tensor - 1) / sizeof tensor * sizeof tensor;
    for (int i = 0; options && place < layout->size; i++, place += sizeof tensor) {
        memcpy(&tensor, (const char *)options + place, sizeof tensor);
        given |= (uint32_t)(tensor != NULL) << i;
    }
    return given;
}

/* ---- Keeping -------------------------------------------------------------------------------- */

static void keep_tensor(fovea_repeat *repeat, int argument, const DLTensor *const *tensors,
                        const void *options) {
    const fovea_problem *problem = &repeat->problem;
    const fovea_argument *row = &problem->kernel->arguments[argument];
    const fovea_view *view = &problem->views[argument];
    fovea_repeat_tensor *kept = &repeat->tensors[repeat->count++];
    fovea_range range = fovea_view_range(view);
    uint16_t field = fovea_options_layouts[problem->index].argument[argument];
    kept->argument = argument;
    kept->optional = row->optional;
    kept->place = row->optional ? field : (uint16_t)repeat->required++;
    kept->written = row->role != FOVEA_INPUT;
    kept->dense = is_dense(view);
    const DLTensor *tensor = tensor_at(kept, tensors, options);
    kept->head.device = tensor->device;
    kept->head.ndim = tensor->ndim;
    kept->head.dtype = tensor->dtype;
    kept->unaligned = fovea_dtype_size(fovea_dtype_of_part(view->dtype)) - 1;
    kept->low = view->data ? range.first - view->data : 0;
    kept->high = view->data ? range.end - view->data : 0;
}

static void keep(fovea_repeat *repeat, const DLTensor *const *tensors, const void *options) {
    const fovea_problem *problem = &repeat->problem;
    const fovea_options_layout *layout = &fovea_options_layouts[problem->index];
    /* Structs of an older version are completed in every call. */
    if (options && *(const size_t *)options != layout->size) return;
    repeat->standard = !options;
    repeat->contents = fovea_depends_on_contents(problem);
    repeat->count = 0;
    repeat->required = 0;
    repeat->optional = optional_tensors(layout, options);
    for (uint32_t rest = problem->present; rest; rest &= rest - 1)
        keep_tensor(repeat, __builtin_ctz(rest), tensors, options);
    if (options) memcpy(repeat->options, options, layout->parameters_end);
    repeat->kept = true;
}

/* ---- Comparing ------------------------------------------------------------------------------ */

static bool same_parameters(const fovea_repeat *repeat, const void *options) {
    const fovea_options_layout *layout = &fovea_options_layouts[repeat->problem.index];
    if (!options || repeat->standard) return !options && repeat->standard;
    return *(const size_t *)options == layout->size &&
           memcmp(options, repeat->options, layout->parameters_end) == 0;
}

_Static_assert(offsetof(DLTensor, ndim) == offsetof(DLTensor, device) + 8 &&
                   offsetof(DLTensor, dtype) == offsetof(DLTensor, device) + 12 &&
                   sizeof((fovea_repeat_tensor){0}.head) == 16,
               "the head of a tensor is compared at once");

static bool same_tensor(const fovea_repeat *repeat, const fovea_repeat_tensor *kept,
                        const DLTensor *tensor) {
    const fovea_view *view = &repeat->problem.views[kept->argument];
    uint64_t differences = 0;
    const char *head = (const char *)tensor + offsetof(DLTensor, device);
    if (memcmp(head, &kept->head, sizeof kept->head) != 0) return false;
    if (!tensor->shape && view->rank > 0) return false;
    for (int i = 0; i < view->rank; i++)
        differences |= (uint64_t)(tensor->shape[i] ^ view->shape[i]);
    if (!tensor->strides) return differences == 0 && kept->dense;
    for (int i = 0; i < view->rank; i++) /* those of one element do not matter */
        differences |=
            (uint64_t)(tensor->strides[i] ^ view->stride[i]) & -(uint64_t)(view->shape[i] > 1);
    return differences == 0;
}

/* Whether the tensor, which has elements, is where it was. */
static bool same_address(const fovea_repeat *repeat, const fovea_repeat_tensor *kept,
                         const DLTensor *tensor) {
    uintptr_t data = (uintptr_t)tensor->data, base = data + tensor->byte_offset;
    return base == (uintptr_t)repeat->problem.views[kept->argument].data && data - 1 < base;
}

/* Where the tensor is now. False: not where it can be. */
static bool take_address(fovea_repeat *repeat, const fovea_repeat_tensor *kept,
                         const DLTensor *tensor, fovea_range *range) {
    uintptr_t base = (uintptr_t)tensor->data, first, end;
    *range = (fovea_range){NULL, NULL};
    if (kept->high == 0) return true; /* it has no elements */
    if (!base || __builtin_add_overflow(base, tensor->byte_offset, &base) ||
        __builtin_sub_overflow(base, -(uint64_t)kept->low, &first) ||
        __builtin_add_overflow(base, (uint64_t)kept->high, &end) || base & kept->unaligned)
        return false;
    repeat->problem.views[kept->argument].data = (char *)base;
    *range = (fovea_range){(const char *)first, (const char *)end};
    return true;
}

/* Whether memory that is written meets that of another tensor. ranges: in the order of what is kept. */
static bool any_meet(const fovea_repeat *repeat, const fovea_range ranges[]) {
    bool meet = false;
    for (int n = 0; n < repeat->count; n++) {
        if (!repeat->tensors[n].written) continue;
        for (int m = 0; m < repeat->count; m++)
            meet |=
                (m != n) & (ranges[n].first < ranges[m].end) & (ranges[m].first < ranges[n].end);
    }
    return meet;
}

/* Some may meet. */
static bool clash(const fovea_repeat *repeat, const fovea_range ranges[]) {
    fovea_range by_argument[FOVEA_ARGUMENTS_MAX];
    int output, other;
    for (int n = 0; n < repeat->count; n++) by_argument[repeat->tensors[n].argument] = ranges[n];
    return fovea_problem_clashes(&repeat->problem, by_argument, &output, &other);
}

/* Some tensor is elsewhere than before. */
static bool take_addresses(fovea_repeat *repeat, const DLTensor *const *tensors,
                           const void *options) {
    fovea_range ranges[FOVEA_ARGUMENTS_MAX];
    for (int n = 0; n < repeat->count; n++) {
        const fovea_repeat_tensor *kept = &repeat->tensors[n];
        if (!take_address(repeat, kept, tensor_at(kept, tensors, options), &ranges[n]))
            return false;
    }
    return !any_meet(repeat, ranges) || !clash(repeat, ranges);
}

static bool same_tensors(fovea_repeat *repeat, const DLTensor *const *tensors, size_t count,
                         const void *options) {
    bool moved = false;
    const fovea_options_layout *layout = &fovea_options_layouts[repeat->problem.index];
    if (count != repeat->required || optional_tensors(layout, options) != repeat->optional)
        return false;
    for (int n = 0; n < repeat->count; n++) {
        const fovea_repeat_tensor *kept = &repeat->tensors[n];
        const DLTensor *tensor = tensor_at(kept, tensors, options);
        if (!tensor || !same_tensor(repeat, kept, tensor)) return false;
        if (kept->high != 0) moved |= !same_address(repeat, kept, tensor);
    }
    return !moved || take_addresses(repeat, tensors, options);
}

/* What hangs on contents: shapes by lengths and tables alone, and few checks. */
static bool still_right(fovea_repeat *repeat, fovea_message *message) {
    fovea_problem *problem = &repeat->problem;
    const fovea_kernel *kernel = problem->kernel;
    if (kernel->shape && repeat->contents) {
        for (int i = 0; i < FOVEA_LETTERS_MAX; i++) problem->extents[i] = -1;
        if (kernel->shape(problem, message) != FOVEA_OK) return false;
    }
    return !kernel->checks_contents || kernel->check(problem, message) == FOVEA_OK;
}

fovea_status fovea_problem_repeat(fovea_repeat *repeat, int kernel, const DLTensor *const *tensors,
                                  size_t count, const void *options, bool *repeated,
                                  fovea_message *message) {
    fovea_problem *problem = &repeat->problem;
    *repeated = repeat->kept && problem->index == kernel && same_parameters(repeat, options);
    if (*repeated) {
        problem->options = options ? options : repeat->options;
        *repeated = same_tensors(repeat, tensors, count, options) && still_right(repeat, message);
        if (*repeated) return FOVEA_OK;
    }
    /* Another call, or one that is wrong: then this finds the sentence. */
    repeat->kept = false;
    fovea_status status =
        fovea_problem_create(kernel, tensors, count, options, repeat->options, problem, message);
    if (status == FOVEA_OK) keep(repeat, tensors, options);
    return status;
}
