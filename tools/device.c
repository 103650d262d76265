/* The process's CUDA device, and problems on it. */
#include "device.h"

#include "api/device.h"
#include "commands.h"
#include "cuda/load.h"

#include <stdlib.h>

enum { ALIGNMENT = 512, POISON = 0xA5 };

static const fovea_cuda_backend *cuda;
static void *stream;
static DLDevice device = {kDLCUDA, 0};

fovea_status fovea_tool_device_use(const fovea_cuda_backend *backend, int number,
                                   fovea_message *message) {
    int previous;
    if (cuda) cuda->stream_destroy(stream);
    cuda = NULL;
    if (!backend) return FOVEA_OK;
    fovea_status status = backend->open(number, message);
    if (status == FOVEA_OK) status = backend->enter(number, &previous, message);
    if (status == FOVEA_OK) status = backend->stream_create(&stream, message);
    if (status != FOVEA_OK) return status;
    cuda = backend;
    device.device_id = number;
    return FOVEA_OK;
}

fovea_status fovea_tool_device_open(int number, fovea_message *message) {
    const fovea_cuda_backend *found = fovea_cuda_get();
    if (cuda) return FOVEA_OK;
    if (!found) return fovea_fail(message, FOVEA_UNSUPPORTED, "%s", fovea_cuda_state());
    return fovea_tool_device_use(found, number, message);
}

const fovea_cuda_backend *fovea_tool_cuda(void) { return cuda; }
void *fovea_tool_stream(void) { return stream; }
DLDevice fovea_tool_device(void) { return device; }

void fovea_tool_device_identity(char *text, size_t size) {
    const fovea_device opened = {.cuda = cuda, .number = device.device_id};
    fovea_device_identity(&opened, text, size);
}

static void move_tensor(const fovea_view *view, char *data, int a, fovea_moved_problem *moved) {
    memcpy(moved->shapes[a], view->shape, sizeof view->shape);
    memcpy(moved->strides[a], view->stride, sizeof view->stride);
    moved->tensors[a] = (DLTensor){.data = data,
                                   .device = device,
                                   .ndim = view->rank,
                                   .dtype = fovea_dtype_to_dlpack(view->dtype),
                                   .shape = moved->shapes[a],
                                   .strides = moved->strides[a]};
}

fovea_status fovea_problem_move(const fovea_problem *problem, char *const data[],
                                fovea_moved_problem *moved, fovea_message *message) {
    const fovea_options_layout *layout = &fovea_options_layouts[problem->index];
    memcpy(moved->options, problem->options, layout->size);
    moved->count = 0;
    for (int a = 0; a < fovea_kernel_arguments(problem->kernel); a++) {
        bool optional = problem->kernel->arguments[a].optional;
        if (!fovea_given(problem, a)) continue;
        DLTensor *tensor = &moved->tensors[a];
        move_tensor(&problem->views[a], data[a], a, moved);
        if (optional)
            memcpy(moved->options + layout->argument[a], &tensor, sizeof tensor);
        else
            moved->required[moved->count++] = tensor;
    }
    return fovea_problem_create(problem->index, (const DLTensor *const *)moved->required,
                                moved->count, moved->options, moved->storage, &moved->problem,
                                message);
}

/* ---- The command line ----------------------------------------------------------------------- */

bool fovea_backend_is_cuda(const char *value, const struct argp_state *state) {
    if (strcmp(value, "cpu") != 0 && strcmp(value, "cuda") != 0)
        argp_error(state, "--backend=%s: it is cpu or cuda", value);
    return strcmp(value, "cuda") == 0;
}

int fovea_device_number(const char *value, const struct argp_state *state) {
    char *end;
    long number = strtol(value, &end, 10);
    if (end == value || *end || number < 0 || number > 63)
        argp_error(state, "--device=%s: a whole number from 0 to 63 is wanted", value);
    return (int)number;
}

void fovea_device_expect(bool cuda, int device, const struct argp_state *state) {
    if (device > 0 && !cuda) argp_error(state, "--device=%d goes with --backend=cuda", device);
}

/* ---- The tensors of a sample ---------------------------------------------------------------- */

static bool present(const fovea_sample *sample, int a) { return sample->present >> a & 1; }

static bool is_needed(const fovea_sample *sample, int a) {
    return present(sample, a) && sample->problem.kernel->arguments[a].role != FOVEA_OUTPUT;
}

static bool is_written(const fovea_sample *sample, int a) {
    return present(sample, a) && sample->problem.kernel->arguments[a].role != FOVEA_INPUT;
}

fovea_status fovea_device_tensors_create(const fovea_sample *sample, fovea_device_tensors *tensors,
                                         fovea_message *message) {
    size_t offset[FOVEA_ARGUMENTS_MAX], bytes = 0;
    *tensors = (fovea_device_tensors){.sample = sample};
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        if (!present(sample, a)) continue;
        offset[a] = bytes;
        bytes += (sample->bytes[a] / ALIGNMENT + 1) * ALIGNMENT;
        if (is_needed(sample, a)) tensors->sent_bytes += sample->bytes[a];
        if (is_written(sample, a)) tensors->fetched_bytes += sample->bytes[a];
    }
    tensors->bytes = bytes;
    tensors->block = cuda->allocate(bytes);
    if (!tensors->block)
        return fovea_fail(message, FOVEA_OUT_OF_MEMORY,
                          "the device has no %zu bytes for the tensors of %s", bytes,
                          sample->problem.kernel->name);
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++)
        if (present(sample, a)) tensors->storage[a] = tensors->block + offset[a];
    return FOVEA_OK;
}

void fovea_device_tensors_destroy(fovea_device_tensors *tensors) {
    if (tensors->block) cuda->release(tensors->block);
    *tensors = (fovea_device_tensors){0};
}

typedef bool choice(const fovea_sample *sample, int a);

/* Outputs hold the poison of a new sample, which need not travel. */
static fovea_status send(const fovea_device_tensors *tensors, choice *chosen,
                         fovea_message *message) {
    const fovea_sample *sample = tensors->sample;
    fovea_status status = FOVEA_OK;
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX && status == FOVEA_OK; a++) {
        if (!chosen(sample, a)) continue;
        if (is_needed(sample, a))
            status = cuda->copy_in(tensors->storage[a], sample->storage[a], sample->bytes[a],
                                   stream, message);
        else
            status = cuda->fill(tensors->storage[a], POISON, sample->bytes[a], stream, message);
    }
    return status;
}

static fovea_status then_wait(fovea_status status, fovea_message *message) {
    return status == FOVEA_OK ? cuda->synchronize(stream, message) : status;
}

fovea_status fovea_device_tensors_send(const fovea_device_tensors *tensors,
                                       fovea_message *message) {
    return then_wait(send(tensors, present, message), message);
}

fovea_status fovea_device_tensors_restore(const fovea_device_tensors *tensors,
                                          fovea_message *message) {
    return then_wait(send(tensors, is_written, message), message);
}

fovea_status fovea_device_tensors_feed(const fovea_device_tensors *tensors,
                                       fovea_message *message) {
    return send(tensors, is_needed, message);
}

fovea_status fovea_device_tensors_fetch(const fovea_device_tensors *tensors,
                                        fovea_message *message) {
    const fovea_sample *sample = tensors->sample;
    fovea_status status = FOVEA_OK;
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX && status == FOVEA_OK; a++)
        if (is_written(sample, a))
            status = cuda->copy_out(sample->storage[a], tensors->storage[a], sample->bytes[a],
                                    stream, message);
    return then_wait(status, message);
}

fovea_status fovea_device_problem(const fovea_device_tensors *tensors, fovea_moved_problem *moved,
                                  fovea_message *message) {
    const fovea_sample *sample = tensors->sample;
    char *data[FOVEA_ARGUMENTS_MAX] = {NULL};
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++)
        if (present(sample, a) && sample->problem.views[a].data)
            data[a] =
                tensors->storage[a] + (sample->problem.views[a].data - (char *)sample->storage[a]);
    return fovea_problem_move(&sample->problem, data, moved, message);
}
