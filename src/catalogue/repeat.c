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

static const DLTensor *optional_tensor(const fovea_problem *problem, const void *options,
                                       int argument) {
    const DLTensor *tensor;
    memcpy(&tensor,
           (const char *)options + fovea_options_layouts[problem->index].argument[argument],
           sizeof tensor);
    return tensor;
}

/* ---- Keeping -------------------------------------------------------------------------------- */

static void keep(fovea_repeat *repeat, const DLTensor *const *tensors, const void *options) {
    const fovea_problem *problem = &repeat->problem;
    const fovea_options_layout *layout = &fovea_options_layouts[problem->index];
    size_t taken = 0;
    /* Structs of an older version are completed in every call. */
    if (options && *(const size_t *)options != layout->size) return;
    repeat->standard = !options;
    repeat->contents = fovea_depends_on_contents(problem);
    repeat->dense = 0;
    for (uint32_t rest = problem->present; rest; rest &= rest - 1) {
        int a = __builtin_ctz(rest);
        const fovea_view *view = &problem->views[a];
        const DLTensor *tensor = problem->kernel->arguments[a].optional
                                     ? optional_tensor(problem, options, a)
                                     : tensors[taken++];
        fovea_range range = fovea_view_range(view);
        repeat->types[a] = tensor->dtype;
        repeat->dense |= (uint32_t)is_dense(view) << a;
        repeat->low[a] = view->data ? range.first - view->data : 0;
        repeat->high[a] = view->data ? range.end - view->data : 0;
    }
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

static bool same_tensor(const fovea_repeat *repeat, int argument, const DLTensor *tensor) {
    const fovea_view *view = &repeat->problem.views[argument];
    DLDevice device = repeat->problem.device;
    if (tensor->ndim != view->rank || (!tensor->shape && view->rank > 0) ||
        memcmp(&tensor->dtype, &repeat->types[argument], sizeof tensor->dtype) != 0 ||
        tensor->device.device_type != device.device_type ||
        (device.device_type != kDLCPU && tensor->device.device_id != device.device_id))
        return false;
    for (int i = 0; i < view->rank; i++)
        if (tensor->shape[i] != view->shape[i]) return false;
    if (!tensor->strides) return repeat->dense >> argument & 1;
    for (int i = 0; i < view->rank; i++)
        if (tensor->strides[i] != view->stride[i]) return false;
    return true;
}

/* Where the tensor is now. False: not where it can be. */
static bool take_address(fovea_repeat *repeat, int argument, const DLTensor *tensor,
                         fovea_range *range) {
    fovea_view *view = &repeat->problem.views[argument];
    size_t unit = fovea_dtype_size(fovea_dtype_of_part(view->dtype));
    uintptr_t base = (uintptr_t)tensor->data, first, end;
    *range = (fovea_range){NULL, NULL};
    if (repeat->high[argument] == 0) return true; /* it has no elements */
    if (!base || __builtin_add_overflow(base, tensor->byte_offset, &base) ||
        __builtin_sub_overflow(base, -(uint64_t)repeat->low[argument], &first) ||
        __builtin_add_overflow(base, (uint64_t)repeat->high[argument], &end) || base % unit != 0)
        return false;
    view->data = (char *)base;
    *range = (fovea_range){(const char *)first, (const char *)end};
    return true;
}

static bool same_tensors(fovea_repeat *repeat, const DLTensor *const *tensors, size_t count,
                         const void *options) {
    fovea_problem *problem = &repeat->problem;
    const fovea_argument *arguments = problem->kernel->arguments;
    fovea_range ranges[FOVEA_ARGUMENTS_MAX];
    size_t taken = 0;
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX && arguments[a].name; a++) {
        const DLTensor *tensor = NULL;
        if (!arguments[a].optional)
            tensor = taken < count ? tensors[taken++] : NULL;
        else if (options)
            tensor = optional_tensor(problem, options, a);
        if (!tensor != !fovea_given(problem, a)) return false;
        if (tensor &&
            !(same_tensor(repeat, a, tensor) && take_address(repeat, a, tensor, &ranges[a])))
            return false;
    }
    int output, other;
    return taken == count && !fovea_problem_clashes(problem, ranges, &output, &other);
}

/* What a row checks by itself may hang on contents. Shapes do so by lengths and tables alone. */
static bool still_right(fovea_repeat *repeat, fovea_message *message) {
    fovea_problem *problem = &repeat->problem;
    const fovea_kernel *kernel = problem->kernel;
    if (kernel->shape && repeat->contents) {
        for (int i = 0; i < FOVEA_LETTERS_MAX; i++) problem->extents[i] = -1;
        if (kernel->shape(problem, message) != FOVEA_OK) return false;
    }
    return !kernel->check || kernel->check(problem, message) == FOVEA_OK;
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
