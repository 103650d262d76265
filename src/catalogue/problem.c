/* Validation of a call against its row: the one place where arguments are checked. */
#include "catalogue/problem.h"

#include <math.h>
#include <stdio.h>

static const char *dtype_set_text(uint32_t set, char *text, size_t size) {
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < FOVEA_DTYPE_COUNT && used < size; i++)
        if (set >> i & 1)
            used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "",
                                     fovea_dtype_name((fovea_dtype)i));
    return text;
}

/* ---- Options -------------------------------------------------------------------------------- */

double fovea_parameter_read(int kernel, const void *options, int parameter) {
    const char *field = (const char *)options + fovea_options_layouts[kernel].parameter[parameter];
    switch (fovea_catalogue_kernel(kernel)->parameters[parameter].kind) {
    case FOVEA_REAL:
        return *(const double *)(const void *)field;
    case FOVEA_INTEGER:
        return (double)*(const int64_t *)(const void *)field;
    case FOVEA_CHOICE:
        return *(const int *)(const void *)field;
    case FOVEA_FLAG:
        return *(const bool *)field;
    }
    return NAN;
}

void fovea_parameter_write(int kernel, void *options, int parameter, double value) {
    char *field = (char *)options + fovea_options_layouts[kernel].parameter[parameter];
    switch (fovea_catalogue_kernel(kernel)->parameters[parameter].kind) {
    case FOVEA_REAL:
        *(double *)(void *)field = value;
        break;
    case FOVEA_INTEGER:
        *(int64_t *)(void *)field = (int64_t)value;
        break;
    case FOVEA_CHOICE:
        *(int *)(void *)field = (int)value;
        break;
    case FOVEA_FLAG:
        *(bool *)field = value != 0;
        break;
    }
}

static fovea_status complete_options(int kernel, const void *options, void *storage,
                                     const void **complete, fovea_message *message) {
    const fovea_options_layout *layout = &fovea_options_layouts[kernel];
    size_t size = layout->size;
    if (options) size = *(const size_t *)options;
    if (options && size == layout->size) return *complete = options, FOVEA_OK;
    /* All fields that are pointers stand at whole steps of this size: none is cut. */
    if (size > layout->size || size < sizeof(size_t) || size % sizeof(size_t) != 0)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "options.size is %zu; this version's struct has %zu bytes (fill it with "
                          "fovea_%s_options_default first)",
                          size, layout->size, fovea_catalogue_kernel(kernel)->name);
    layout->defaults(storage);
    if (options)
        memcpy((char *)storage + sizeof(size_t), (const char *)options + sizeof(size_t),
               size - sizeof(size_t));
    *complete = storage;
    return FOVEA_OK;
}

static int choice_count(const char *choices) {
    int count = 1;
    for (; *choices; choices++) count += *choices == ',';
    return count;
}

static fovea_status check_parameters(const fovea_problem *problem, fovea_message *message) {
    const fovea_kernel *kernel = problem->kernel;
    for (int i = 0; i < FOVEA_PARAMETERS_MAX && kernel->parameters[i].name; i++) {
        const fovea_parameter *parameter = &kernel->parameters[i];
        if (parameter->kind != FOVEA_CHOICE) continue;
        double value = fovea_parameter_read(problem->index, problem->options, i);
        if (value < 0 || value >= choice_count(parameter->choices))
            return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                              "options.%s is %d; it is one of %s (0 to %d)", parameter->name,
                              (int)value, parameter->choices, choice_count(parameter->choices) - 1);
    }
    return FOVEA_OK;
}

/* ---- Dtypes --------------------------------------------------------------------------------- */

/* The dtype of the call is that of the first argument that has no other choice. */
static fovea_status find_dtype(fovea_problem *problem, int arguments, fovea_message *message) {
    const fovea_kernel *kernel = problem->kernel;
    char text[96];
    for (int a = 0; a < arguments; a++) {
        if (!fovea_given(problem, a) || kernel->arguments[a].dtypes) continue;
        problem->dtype = problem->views[a].dtype;
        if (kernel->dtypes >> problem->dtype & 1) return FOVEA_OK;
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s is %s; %s takes %s",
                          kernel->arguments[a].name, fovea_dtype_name(problem->dtype), kernel->name,
                          dtype_set_text(kernel->dtypes, text, sizeof text));
    }
    return FOVEA_OK;
}

static fovea_status check_dtypes(fovea_problem *problem, int arguments, fovea_message *message) {
    const fovea_kernel *kernel = problem->kernel;
    char text[96];
    fovea_status status = find_dtype(problem, arguments, message);
    for (int a = 0; a < arguments && status == FOVEA_OK; a++) {
        const fovea_argument *argument = &kernel->arguments[a];
        fovea_dtype dtype = problem->views[a].dtype;
        uint32_t allowed = fovea_argument_dtypes(argument, problem->dtype);
        if (!fovea_given(problem, a) || allowed >> dtype & 1) continue;
        if (!argument->dtypes)
            return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                              "%s is %s, %s is %s; they must agree", argument->name,
                              fovea_dtype_name(dtype), kernel->arguments[0].name,
                              fovea_dtype_name(problem->dtype));
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s is %s; it may be %s", argument->name,
                          fovea_dtype_name(dtype), dtype_set_text(allowed, text, sizeof text));
    }
    return status;
}

/* ---- Shapes --------------------------------------------------------------------------------- */

typedef struct group {
    int letter, rank; /* letter -1: not bound yet */
    const int64_t *shape;
    const char *owner;
} group;

int fovea_problem_axis(const fovea_problem *problem) {
    int parameter = fovea_kernel_axis(problem->index);
    if (parameter < 0 && fovea_kernel_shape(problem->index, 0)->count > 0)
        return problem->views[0].rank - 1;
    if (parameter < 0) return -1;
    double value = fovea_parameter_read(problem->index, problem->options, parameter);
    if (value == FOVEA_ALL_AXES_VALUE) return -1;
    int rank = problem->views[0].rank;
    bool exists =
        value >= -rank && value < rank; /* outcomes are asked for before this is checked */
    return exists ? (int)(value < 0 ? value + rank : value) : -1;
}

fovea_slice fovea_problem_slice(const fovea_problem *problem, int64_t number) {
    const fovea_view *x = &problem->views[0];
    int axis = fovea_problem_axis(problem);
    if (axis < 0) return (fovea_slice){fovea_view_elements(x), 0, 1};
    fovea_slice slice = {.count = x->shape[axis], .step = 1};
    for (int i = axis + 1; i < x->rank; i++) slice.step *= x->shape[i];
    slice.first = number / slice.step * slice.count * slice.step + number % slice.step;
    return slice;
}

/* An extreme of nothing does not exist. */
static fovea_status check_elements(const fovea_problem *problem, fovea_message *message) {
    const fovea_view *x = &problem->views[0];
    int axis = fovea_problem_axis(problem);
    int64_t count = axis < 0 ? fovea_view_elements(x) : x->shape[axis];
    bool written = false;
    for (int a = 1; problem->kernel->arguments[a].name; a++)
        if (fovea_given(problem, a)) written |= fovea_view_elements(&problem->views[a]) > 0;
    if (!problem->kernel->of_something || count > 0 || !written) return FOVEA_OK;
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s: %s has no elements %s",
                      problem->kernel->name, problem->kernel->arguments[0].name,
                      axis < 0 ? "at all" : "along the axis");
}

static fovea_status check_axis(const fovea_problem *problem, fovea_message *message) {
    int parameter = fovea_kernel_axis(problem->index);
    if (parameter < 0) return FOVEA_OK;
    double value = fovea_parameter_read(problem->index, problem->options, parameter);
    int rank = problem->views[0].rank;
    if (value == FOVEA_ALL_AXES_VALUE || (value >= -rank && value < rank)) return FOVEA_OK;
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                      "options.axis is %.0f; %s has %d dimensions (%d to %d, or FOVEA_ALL_AXES)",
                      value, problem->kernel->arguments[0].name, rank, -rank, rank - 1);
}

int fovea_problem_letter(const fovea_problem *problem, const fovea_shape *shape, int i, int *more) {
    bool swapped = shape->swap >= 0 &&
                   fovea_parameter_read(problem->index, problem->options, shape->swap) != 0;
    int place = fovea_shape_letter(shape, i, swapped);
    *more = shape->more[place];
    return shape->letters[place];
}

/* The extents that a group takes in an argument: all of it, or without the reduced axis. */
static int expected_group(const fovea_problem *problem, const fovea_shape *shape,
                          const group *bound, int64_t *expected) {
    int axis = shape->without_axis ? fovea_problem_axis(problem) : bound->rank;
    int rank = 0;
    if (axis < 0) return 0;
    for (int i = 0; i < bound->rank; i++)
        if (i != axis) expected[rank++] = bound->shape[i];
    return rank;
}

static fovea_status shape_error(const fovea_problem *problem, int argument, const group *bound,
                                const int64_t *expected, int rank, fovea_message *message) {
    char actual[128], wanted[128];
    fovea_view view = {.rank = rank};
    memcpy(view.shape, expected, (size_t)rank * sizeof *expected);
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s has shape %s; %s asks for %s",
                      problem->kernel->arguments[argument].name,
                      fovea_shape_text(&problem->views[argument], actual, sizeof actual),
                      bound->owner ? bound->owner : problem->kernel->name,
                      fovea_shape_text(&view, wanted, sizeof wanted));
}

static int64_t group_elements(const int64_t *shape, int rank) {
    int64_t elements = 1;
    for (int i = 0; i < rank; i++) elements *= shape[i];
    return elements;
}

static fovea_status check_shape(fovea_problem *problem, int argument, group *bound,
                                const char *owners[], fovea_message *message) {
    const fovea_shape *shape = fovea_kernel_shape(problem->index, argument);
    const fovea_view *view = &problem->views[argument];
    const char *name = problem->kernel->arguments[argument].name;
    int group_rank = view->rank - shape->count;
    if (shape->by_row) return FOVEA_OK;
    if (group_rank < 0 || (shape->group < 0 && group_rank > 0))
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "%s has %d dimensions; its shape is [%s]", name, view->rank,
                          problem->kernel->arguments[argument].shape);
    if (shape->group >= 0 && bound->letter < 0) {
        const int64_t *first = view->shape + shape->before;
        *bound = (group){shape->group, group_rank, first, name};
        problem->extents[shape->group] = group_elements(first, group_rank);
    } else if (shape->group >= 0) {
        int64_t expected[FOVEA_RANK_MAX + FOVEA_RANK_MAX];
        int rank = expected_group(problem, shape, bound, expected + shape->before);
        bool same = rank == group_rank;
        for (int i = shape->before; same && i < shape->before + rank; i++)
            same = expected[i] == view->shape[i];
        for (int i = 0; i < shape->count; i++) {
            int more;
            int64_t extent = problem->extents[fovea_problem_letter(problem, shape, i, &more)];
            int64_t actual = view->shape[fovea_shape_dimension(shape, i, group_rank)];
            expected[fovea_shape_dimension(shape, i, rank)] = extent < 0 ? actual : extent + more;
        }
        if (!same)
            return shape_error(problem, argument, bound, expected, rank + shape->count, message);
    }
    for (int i = 0; i < shape->count; i++) {
        int more, letter = fovea_problem_letter(problem, shape, i, &more);
        int dimension = fovea_shape_dimension(shape, i, group_rank);
        int64_t extent = view->shape[dimension], *known = &problem->extents[letter];
        if (extent < more)
            return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                              "%s has extent %lld in dimension %d; it is at least %d", name,
                              (long long)extent, dimension, more);
        if (*known >= 0 && *known + more != extent)
            return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                              "%s has extent %lld in dimension %d, %s has %lld there (%s%s)", name,
                              (long long)extent, dimension, owners[letter], (long long)*known,
                              fovea_kernel_letter_name(problem->index, letter),
                              more ? ", and one more is asked for" : "");
        *known = extent - more;
        owners[letter] = name;
    }
    return FOVEA_OK;
}

static double lookup_extent(const char *name, const void *user);

static fovea_status check_derived(const fovea_problem *problem, fovea_message *message) {
    int letter = fovea_kernel_derived(problem->index);
    if (letter < 0) return FOVEA_OK;
    double wanted = fovea_evaluate(fovea_derived_formula(problem->kernel), lookup_extent, problem);
    if (wanted == (double)problem->extents[letter]) return FOVEA_OK;
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s: %s is %lld, but %s makes it %.0f",
                      problem->kernel->name, fovea_kernel_letter_name(problem->index, letter),
                      (long long)problem->extents[letter], problem->kernel->derived, wanted);
}

static fovea_status check_shapes(fovea_problem *problem, int arguments, fovea_message *message) {
    for (int i = 0; i < FOVEA_LETTERS_MAX; i++) problem->extents[i] = -1;
    if (problem->kernel->shape) return problem->kernel->shape(problem, message);
    group bound = {.letter = -1};
    const char *owners[FOVEA_LETTERS_MAX] = {0};
    fovea_status status = check_axis(problem, message);
    for (int a = 0; a < arguments && status == FOVEA_OK; a++)
        if (fovea_given(problem, a)) status = check_shape(problem, a, &bound, owners, message);
    return status == FOVEA_OK ? check_derived(problem, message) : status;
}

/* ---- Overlap -------------------------------------------------------------------------------- */

bool fovea_problem_clashes(const fovea_problem *problem, const fovea_range ranges[], int *output,
                           int *other) {
    const fovea_argument *arguments = problem->kernel->arguments;
    for (uint32_t rest = problem->present; rest; rest &= rest - 1) {
        int a = __builtin_ctz(rest);
        if (arguments[a].role == FOVEA_INPUT) continue;
        for (uint32_t others = problem->present & ~(1u << a); others; others &= others - 1) {
            int b = __builtin_ctz(others);
            if (ranges[a].first >= ranges[b].end || ranges[b].first >= ranges[a].end) continue;
            if (problem->kernel->elementwise && arguments[b].role == FOVEA_INPUT &&
                fovea_view_same_elements(&problem->views[a], &problem->views[b]))
                continue;
            return *output = a, *other = b, true;
        }
    }
    return false;
}

static fovea_status check_overlap(const fovea_problem *problem, fovea_message *message) {
    const fovea_kernel *kernel = problem->kernel;
    fovea_range ranges[FOVEA_ARGUMENTS_MAX];
    int output, other;
    for (uint32_t rest = problem->present; rest; rest &= rest - 1) {
        int a = __builtin_ctz(rest);
        const fovea_view *view = &problem->views[a];
        ranges[a] = fovea_view_range(view);
        if (kernel->arguments[a].role != FOVEA_INPUT && fovea_view_overlaps_itself(view))
            return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                              "%s has strides by which its elements overlap one another",
                              kernel->arguments[a].name);
    }
    if (!fovea_problem_clashes(problem, ranges, &output, &other)) return FOVEA_OK;
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s overlaps %s in memory%s",
                      kernel->arguments[output].name, kernel->arguments[other].name,
                      kernel->elementwise ? " without being the same tensor" : "");
}

/* ---- The whole ------------------------------------------------------------------------------ */

/* The first tensor says where the problem is. */
static fovea_status take_device(fovea_problem *problem, int argument, const DLTensor *tensor,
                                fovea_message *message) {
    char here[32], there[32];
    DLDevice device = fovea_device_of(tensor);
    if (problem->present == 0) problem->device = device;
    if (fovea_same_device(device, problem->device)) return FOVEA_OK;
    const fovea_argument *arguments = problem->kernel->arguments;
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                      "%s is on %s, %s is on %s; all must be on one", arguments[argument].name,
                      fovea_device_text(device, here, sizeof here),
                      arguments[__builtin_ctz(problem->present)].name,
                      fovea_device_text(problem->device, there, sizeof there));
}

static fovea_status take_tensors(fovea_problem *problem, int arguments,
                                 const DLTensor *const *tensors, size_t count,
                                 fovea_message *message) {
    const fovea_kernel *kernel = problem->kernel;
    size_t taken = 0;
    for (int a = 0; a < arguments; a++) {
        const fovea_argument *argument = &kernel->arguments[a];
        const DLTensor *tensor;
        if (argument->optional) {
            memcpy(&tensor,
                   (const char *)problem->options +
                       fovea_options_layouts[problem->index].argument[a],
                   sizeof tensor);
            if (!tensor) continue;
        } else {
            tensor = taken < count ? tensors[taken++] : NULL;
        }
        fovea_status status =
            fovea_view_from_tensor(tensor, argument->name, &problem->views[a], message);
        if (status == FOVEA_OK) status = take_device(problem, a, tensor, message);
        if (status != FOVEA_OK) return status;
        problem->present |= 1u << a;
    }
    if (taken != count)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s takes %zu tensors, %zu were given",
                          kernel->name, taken, count);
    return FOVEA_OK;
}

fovea_status fovea_problem_create(int kernel, const DLTensor *const *tensors, size_t count,
                                  const void *options, void *storage, fovea_problem *problem,
                                  fovea_message *message) {
    problem->kernel = fovea_catalogue_kernel(kernel);
    problem->index = kernel;
    problem->present = 0;
    problem->device = (DLDevice){kDLCPU, 0};
    int arguments = fovea_kernel_arguments(problem->kernel);
    fovea_status status = complete_options(kernel, options, storage, &problem->options, message);
    if (status == FOVEA_OK) status = take_tensors(problem, arguments, tensors, count, message);
    if (status == FOVEA_OK) status = check_parameters(problem, message);
    if (status == FOVEA_OK) status = check_dtypes(problem, arguments, message);
    if (status == FOVEA_OK) status = check_shapes(problem, arguments, message);
    if (status == FOVEA_OK) status = check_elements(problem, message);
    if (status == FOVEA_OK) status = check_overlap(problem, message);
    if (status == FOVEA_OK && problem->kernel->check)
        status = problem->kernel->check(problem, message);
    return status;
}

bool fovea_depends_on_contents(const fovea_problem *problem) {
    const fovea_argument *arguments = problem->kernel->arguments;
    for (uint32_t rest = problem->present; rest; rest &= rest - 1) {
        int a = __builtin_ctz(rest);
        if (arguments[a].fill == FOVEA_FILL_BY_ROW && problem->views[a].dtype == FOVEA_I32)
            return true;
    }
    return false;
}

bool fovea_given_as_bits(const fovea_problem *problem, int output) {
    fovea_given_as way = problem->kernel->arguments[output].given_as;
    return way == FOVEA_AS_BITS ||
           (way == FOVEA_INTEGERS_AS_BITS && fovea_dtype_is_word(problem->views[output].dtype));
}

const fovea_view *fovea_problem_view(const fovea_problem *problem, const char *argument) {
    int a = fovea_kernel_argument(problem->kernel, argument);
    return a >= 0 && fovea_given(problem, a) ? &problem->views[a] : NULL;
}

int64_t fovea_problem_extent(const fovea_problem *problem, const char *letter) {
    int index = fovea_kernel_letter(problem->index, letter);
    return index < 0 ? -1 : problem->extents[index];
}

double fovea_problem_parameter(const fovea_problem *problem, const char *name) {
    int parameter = fovea_kernel_parameter(problem->kernel, name);
    return parameter < 0 ? NAN : fovea_parameter_read(problem->index, problem->options, parameter);
}

static double lookup_extent(const char *name, const void *user) {
    const fovea_problem *problem = user;
    if (strcmp(name, "s") == 0) return (double)fovea_dtype_size(problem->dtype);
    int letter = fovea_kernel_letter(problem->index, name);
    if (letter >= 0) return (double)problem->extents[letter];
    int argument = fovea_kernel_argument(problem->kernel, name);
    if (argument < 0) return fovea_problem_parameter(problem, name);
    const fovea_view *view = &problem->views[argument];
    return fovea_given(problem, argument) ? (double)fovea_dtype_size(view->dtype) : 0;
}

double fovea_problem_operations(const fovea_problem *problem) {
    const fovea_kernel *kernel = problem->kernel;
    if (kernel->count_operations) return kernel->count_operations(problem);
    return fovea_evaluate(kernel->operations, lookup_extent, problem);
}

double fovea_problem_bytes(const fovea_problem *problem) {
    const fovea_kernel *kernel = problem->kernel;
    if (kernel->count_bytes) return kernel->count_bytes(problem);
    return fovea_evaluate(kernel->bytes, lookup_extent, problem);
}
