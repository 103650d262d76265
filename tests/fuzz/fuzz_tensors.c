/* Tensors and options of any kernel as no caller should write them: any rank, extents, strides, types,
 * addresses, offsets, and options of any size and content. What is accepted must hold together, and
 * can be asked everything that a call asks before it touches memory. The tensors are said to be on a
 * device, whose memory nobody reads here. */
#include "bytes.h"
#include "catalogue/outcome.h"
#include "catalogue/problem.h"
#include "router/choose.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct tensor {
    DLTensor description;
    int64_t shape[40], strides[40];
} tensor;

static char memory[64];

/* Mostly what a call could mean; the further bytes spoil it. */
static void describe(bytes *b, tensor *t) {
    static const int64_t extents[] = {0, 1, 2, 3, 7, 8, 16, 31, 64, 1000};
    static const DLDataType types[] = {{kDLFloat, 32, 1},  {kDLFloat, 32, 1}, {kDLFloat, 16, 1},
                                       {kDLBfloat, 16, 1}, {kDLFloat, 64, 1}, {kDLInt, 64, 1},
                                       {kDLInt, 32, 1},    {kDLUInt, 8, 1},   {kDLInt, 8, 1},
                                       {6, 8, 1}};
    int flaws = next_byte(b), rank = next_choice(b, 6);
    if (flaws % 16 == 1) rank = next_byte(b) % 40;
    t->description = (DLTensor){.data = memory,
                                .device = {kDLCUDA, 0},
                                .ndim = flaws % 32 == 2 ? -rank : rank,
                                .dtype = types[next_choice(b, 10)],
                                .shape = flaws % 64 == 3 ? NULL : t->shape,
                                .strides = flaws % 4 == 0 ? t->strides : NULL};
    for (int i = 0; i < rank; i++) {
        t->shape[i] = flaws & 8 ? next_integer(b) : extents[next_choice(b, 10)];
        t->strides[i] = next_integer(b);
    }
    if (flaws % 32 == 5) t->description.byte_offset = next_word(b);
    if (flaws % 32 == 6) t->description.data = NULL;
    if (flaws % 32 == 7) t->description.device.device_type = next_byte(b);
    if (flaws % 32 == 9) t->description.dtype.bits = next_byte(b);
    if (flaws % 32 == 10) t->description.dtype.lanes = next_byte(b);
    if (flaws % 32 == 11) t->description.dtype.code = next_byte(b);
}

/* Any, also those that a double does not hold. */
static void write_integer(int kernel, char *options, int parameter, int64_t value) {
    memcpy(options + fovea_options_layouts[kernel].parameter[parameter], &value, sizeof value);
}

static void set_parameters(bytes *b, int kernel, char *options) {
    const fovea_kernel *row = fovea_catalogue_kernel(kernel);
    for (int p = 0; p < fovea_kernel_parameters(row); p++) {
        int kind = next_choice(b, 4);
        if (kind == 1 && row->parameters[p].kind == FOVEA_REAL)
            fovea_parameter_write(kernel, options, p, next_real(b));
        else if (kind == 1)
            fovea_parameter_write(kernel, options, p, next_choice(b, 5));
        else if (kind == 2 && row->parameters[p].kind == FOVEA_INTEGER)
            write_integer(kernel, options, p, next_integer(b));
        else if (kind == 2 && row->parameters[p].kind == FOVEA_CHOICE)
            fovea_parameter_write(kernel, options, p, (double)(int8_t)next_byte(b));
    }
}

static void set_tensors(bytes *b, int kernel, char *options, tensor tensors[]) {
    const fovea_kernel *row = fovea_catalogue_kernel(kernel);
    const fovea_options_layout *layout = &fovea_options_layouts[kernel];
    for (int a = 0; a < fovea_kernel_arguments(row); a++) {
        const DLTensor *given = &tensors[a].description;
        if (!row->arguments[a].optional || next_choice(b, 3) != 1) continue;
        describe(b, &tensors[a]);
        memcpy(options + layout->argument[a], &given, sizeof given);
    }
}

static void examine(const fovea_problem *problem) {
    fovea_route_key key;
    char text[256];
    for (uint32_t rest = problem->present; rest; rest &= rest - 1) {
        const fovea_view *view = &problem->views[__builtin_ctz(rest)];
        fovea_range range = fovea_view_range(view);
        must(fovea_view_elements(view) >= 0, "a view has fewer than no elements");
        must(view->rank >= 0 && view->rank <= FOVEA_RANK_MAX, "a view has a rank of its own");
        must(fovea_view_elements(view) == 0 || range.first < range.end, "a view spans nothing");
        (void)fovea_view_overlaps_itself(view);
        fovea_shape_text(view, text, sizeof text);
    }
    (void)fovea_problem_operations(problem);
    (void)fovea_problem_bytes(problem);
    fovea_route_key_of(problem, 2, &key);
    fovea_route_key_text(&key, text, sizeof text);
    must(fovea_problem_signature(problem) != 0, "a signature is 0");
    for (int i = 0; i < fovea_implementation_count(problem->index); i++) {
        const fovea_implementation *one = fovea_implementation_at(problem->index, i);
        bool served = fovea_implementation_serves(one, problem, text, sizeof text);
        must(!served || fovea_implementation_is_cuda(one) || problem->device.device_type != kDLCUDA,
             "the CPU serves what is on a device");
    }
}

static bool choices_exist(int kernel, const char *options) {
    const fovea_kernel *row = fovea_catalogue_kernel(kernel);
    for (int p = 0; p < fovea_kernel_parameters(row); p++) {
        double value = fovea_parameter_read(kernel, options, p), names = 1;
        for (const char *at = row->parameters[p].choices; at && *at; at++) names += *at == ',';
        if (row->parameters[p].kind == FOVEA_CHOICE && !(value >= 0 && value < names)) return false;
    }
    return true;
}

/* What is foreseen of results, of which the Python package makes them, before anything is checked but each
 * tensor and each choice by itself. */
static void foresee(int kernel, const DLTensor *const *required, const char *options) {
    const fovea_kernel *row = fovea_catalogue_kernel(kernel);
    fovea_problem given = {.kernel = row, .index = kernel, .options = options};
    fovea_message message;
    for (int a = 0; a < fovea_kernel_arguments(row); a++) {
        const DLTensor *tensor;
        if (row->arguments[a].optional)
            memcpy(&tensor, options + fovea_options_layouts[kernel].argument[a], sizeof tensor);
        else
            tensor = *required++;
        if (row->arguments[a].role != FOVEA_OUTPUT && tensor &&
            fovea_view_from_tensor(tensor, "x", &given.views[a], &message) == FOVEA_OK)
            given.present |= 1u << a;
    }
    for (int a = 0; a < fovea_kernel_arguments(row); a++) {
        fovea_view outcome;
        if (row->arguments[a].role != FOVEA_OUTPUT || !fovea_outcome(&given, a, &outcome)) continue;
        must(outcome.rank >= 0 && outcome.rank <= FOVEA_RANK_MAX, "a result has a rank of its own");
        for (int i = 0; i < outcome.rank; i++)
            must(outcome.shape[i] >= 0, "a result has fewer than no elements");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static tensor tensors[FOVEA_ARGUMENTS_MAX];
    static _Alignas(16) char options[FOVEA_OPTIONS_SIZE_MAX], storage[FOVEA_OPTIONS_SIZE_MAX];
    const DLTensor *required[FOVEA_ARGUMENTS_MAX];
    bytes b = {data, data + size};
    int kernel = (next_byte(&b) << 8 | next_byte(&b)) % fovea_catalogue_count();
    const fovea_kernel *row = fovea_catalogue_kernel(kernel);
    fovea_problem problem;
    fovea_message message;
    size_t count = 0;
    int flaws = next_byte(&b);
    for (int a = 0; a < fovea_kernel_arguments(row); a++) {
        if (row->arguments[a].optional) continue;
        describe(&b, &tensors[a]);
        required[count++] = flaws % 64 == 1 ? NULL : &tensors[a].description;
    }
    memset(options, 0, sizeof options);
    fovea_options_layouts[kernel].defaults(options);
    set_parameters(&b, kernel, options);
    set_tensors(&b, kernel, options, tensors);
    if (flaws % 16 == 2) {
        size_t wrong = (size_t)next_integer(&b);
        memcpy(options, &wrong, sizeof wrong);
    }
    if (choices_exist(kernel, options)) foresee(kernel, required, options);
    message.text[0] = 0;
    fovea_status status =
        fovea_problem_create(kernel, required, flaws % 32 == 3 ? count - 1 : count,
                             flaws % 8 == 4 ? NULL : options, storage, &problem, &message);
    if (status == FOVEA_OK)
        examine(&problem);
    else
        must(strlen(message.text) > 5, "a refusal has no sentence");
    return 0;
}
