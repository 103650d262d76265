/* Route keys: features and logarithmic sizes. Rows that say nothing of their own are keyed by
 * bytes, the length of a row, strides, choices, and the dtypes that an argument picks for itself.
 */
#include "router/key.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* The bits of a key that no row defines itself. */
enum { BIT_STRIDED, BIT_AXIS, BITS_DTYPES = 4, BITS_CHOICES = 12, CHOICE_BITS = 3, DTYPE_BITS = 4 };

/* log2 of a size in quarter octaves, rounded to a multiple of `step` (1, 2 or 4). Thresholds are
 * the powers of 2^(1/8) as fractions of 2^64. */
static uint8_t quarter_octaves(int64_t size, int step) {
    static const uint64_t thresholds[] = {
        0x8b95c1e3ea8bd6e7, 0x9837f0518db8a96f, 0xa5fed6a9b15138ea, 0xb504f333f9de6484,
        0xc5672a115506dadd, 0xd744fccad69d6af4, 0xeac0c6e7dd24392f};
    if (size <= 1) return 0;
    int zeros = __builtin_clzll((unsigned long long)size), above = 0;
    uint64_t mantissa = (uint64_t)size << zeros;
    /* The eighths at which rounding goes up: 1 3 5 7 for quarters, 2 6 for halves, 4 for octaves.
     */
    for (int eighth = step; eighth < 8; eighth += 2 * step)
        above += mantissa >= thresholds[eighth - 1];
    return (uint8_t)(4 * (63 - zeros) + step * above);
}

static int64_t row_length(const fovea_problem *problem) {
    const fovea_shape *shape = fovea_kernel_shape(problem->index, 0);
    if (shape->count > 0) return problem->extents[shape->letters[shape->count - 1]];
    int axis = fovea_problem_axis(problem);
    return axis >= 0 ? problem->views[0].shape[axis] : 0;
}

static uint32_t own_dtypes(const fovea_problem *problem) {
    const fovea_argument *arguments = problem->kernel->arguments;
    uint32_t bits = 0, place = BITS_DTYPES;
    for (int a = 0; arguments[a].name && place < BITS_CHOICES; a++) {
        bool choice = arguments[a].dtypes & (arguments[a].dtypes - 1);
        if (!choice || arguments[a].optional) continue;
        bits |= (uint32_t)problem->views[a].dtype << place;
        place += DTYPE_BITS;
    }
    return bits;
}

static uint32_t choices(const fovea_problem *problem) {
    const fovea_parameter *parameters = problem->kernel->parameters;
    uint32_t bits = 0, place = BITS_CHOICES;
    for (int p = 0; p < FOVEA_PARAMETERS_MAX && parameters[p].name && place < 30; p++) {
        if (parameters[p].kind != FOVEA_CHOICE && parameters[p].kind != FOVEA_FLAG) continue;
        bits |= (uint32_t)fovea_parameter_read(problem->index, problem->options, p) << place;
        place += CHOICE_BITS;
    }
    return bits;
}

/* Axes differ in kind: all or the last run along memory, another one across it. */
static bool across_memory(const fovea_problem *problem) {
    int axis = fovea_problem_axis(problem);
    return axis >= 0 && axis != problem->views[0].rank - 1;
}

static void general_traits(const fovea_problem *problem, fovea_traits *traits) {
    uint64_t bytes = 0; /* may wrap for views that repeat elements: then any bucket will do */
    bool strided = false;
    for (uint32_t rest = problem->present; rest; rest &= rest - 1) {
        const fovea_view *view = &problem->views[__builtin_ctz(rest)];
        bytes += (uint64_t)fovea_view_elements(view) * fovea_dtype_size(view->dtype);
        strided |= !fovea_view_is_contiguous(view);
    }
    *traits = (fovea_traits){.features = (uint32_t)strided << BIT_STRIDED |
                                         (uint32_t)across_memory(problem) << BIT_AXIS |
                                         own_dtypes(problem) | choices(problem),
                             .sizes = {(int64_t)(bytes & INT64_MAX), row_length(problem)},
                             .steps = {2, 2}};
}

void fovea_route_key_of(const fovea_problem *problem, int threads, fovea_route_key *key) {
    fovea_traits traits;
    if (problem->kernel->traits)
        problem->kernel->traits(problem, &traits);
    else
        general_traits(problem, &traits);
    bool device = problem->device.device_type == kDLCUDA; /* the host's threads do nothing there */
    *key = (fovea_route_key){.kernel = problem->index,
                             .threads = device ? 1 : threads,
                             .dtype = problem->dtype,
                             .features = traits.features};
    for (int i = 0; i < FOVEA_TRAIT_SIZES && traits.steps[i]; i++)
        key->sizes[i] = quarter_octaves(traits.sizes[i], traits.steps[i]);
}

int fovea_route_key_compare(const fovea_route_key *a, const fovea_route_key *b) {
    if (a->kernel != b->kernel) return a->kernel < b->kernel ? -1 : 1;
    if (a->dtype != b->dtype) return a->dtype < b->dtype ? -1 : 1;
    if (a->features != b->features) return a->features < b->features ? -1 : 1;
    if (a->threads != b->threads) return a->threads < b->threads ? -1 : 1;
    return memcmp(a->sizes, b->sizes, sizeof a->sizes);
}

double fovea_route_key_distance(const fovea_route_key *a, const fovea_route_key *b) {
    if (a->kernel != b->kernel || a->dtype != b->dtype || a->features != b->features)
        return INFINITY;
    double distance = 16 * fabs(log2((double)a->threads / b->threads));
    for (int i = 0; i < FOVEA_TRAIT_SIZES; i++) distance += abs(a->sizes[i] - b->sizes[i]);
    return distance;
}

/* ---- In words ------------------------------------------------------------------------------- */

typedef struct words {
    char *text;
    size_t size, used;
} words;

__attribute__((format(printf, 2, 3))) static void add(words *w, const char *format, ...) {
    va_list arguments;
    if (w->used >= w->size) return;
    va_start(arguments, format);
    w->used += (size_t)vsnprintf(w->text + w->used, w->size - w->used, format, arguments);
    va_end(arguments);
}

/* Item `number` of "a,b,c"; NULL past the last. */
static const char *item(const char *list, int number, int *length) {
    for (; number > 0 && list; number--)
        if ((list = strchr(list, ','))) list++;
    *length = list ? (int)strcspn(list, ",") : 0;
    return list;
}

static void add_general_features(words *w, const fovea_kernel *kernel, uint32_t features) {
    uint32_t place = BITS_DTYPES;
    int length;
    if (features >> BIT_STRIDED & 1) add(w, " strided");
    if (features >> BIT_AXIS & 1) add(w, " across");
    for (int a = 0; kernel->arguments[a].name && place < BITS_CHOICES; a++) {
        const fovea_argument *argument = &kernel->arguments[a];
        uint32_t dtype = features >> place & ((1 << DTYPE_BITS) - 1);
        if (!(argument->dtypes & (argument->dtypes - 1)) || argument->optional) continue;
        if (dtype < FOVEA_DTYPE_COUNT)
            add(w, " %s=%s", argument->name, fovea_dtype_name((fovea_dtype)dtype));
        place += DTYPE_BITS;
    }
    place = BITS_CHOICES;
    for (int p = 0; p < FOVEA_PARAMETERS_MAX && kernel->parameters[p].name && place < 30; p++) {
        const fovea_parameter *parameter = &kernel->parameters[p];
        if (parameter->kind != FOVEA_CHOICE && parameter->kind != FOVEA_FLAG) continue;
        int value = features >> place & ((1 << CHOICE_BITS) - 1);
        const char *name = item(parameter->choices ? parameter->choices : "no,yes", value, &length);
        if (name) add(w, " %s=%.*s", parameter->name, length, name);
        place += CHOICE_BITS;
    }
}

const char *fovea_route_key_text(const fovea_route_key *key, char *text, size_t size) {
    const fovea_kernel *kernel = fovea_catalogue_kernel(key->kernel);
    const char *name, *sizes = kernel->traits ? kernel->trait_sizes : "bytes,row";
    words w = {text, size, 0};
    int length;
    add(&w, "%s threads=%d", fovea_dtype_name(key->dtype), key->threads);
    if (!kernel->traits) add_general_features(&w, kernel, key->features);
    for (int i = 0; kernel->traits && (name = item(kernel->trait_features, i, &length)); i++)
        if (key->features >> i & 1) add(&w, " %.*s", length, name);
    for (int i = 0; i < FOVEA_TRAIT_SIZES && (name = item(sizes, i, &length)); i++)
        if (key->sizes[i] || kernel->traits)
            add(&w, " %.*s=%.0f", length, name, exp2(key->sizes[i] / 4.0));
    return text;
}
