/* The process's CUDA device, and problems on it. */
#include "device.h"

#include "cuda/load.h"

static const fovea_cuda_backend *cuda;
static void *stream;
static DLDevice device = {kDLCUDA, 0};

fovea_status fovea_tool_device_open(int number, fovea_message *message) {
    int previous;
    if (cuda) return FOVEA_OK;
    const fovea_cuda_backend *found = fovea_cuda_get();
    if (!found) return fovea_fail(message, FOVEA_UNSUPPORTED, "%s", fovea_cuda_state());
    fovea_status status = found->open(number, message);
    if (status == FOVEA_OK) status = found->enter(number, &previous, message);
    if (status == FOVEA_OK) status = found->stream_create(&stream, message);
    if (status != FOVEA_OK) return status;
    cuda = found;
    device.device_id = number;
    return FOVEA_OK;
}

const fovea_cuda_backend *fovea_tool_cuda(void) { return cuda; }
void *fovea_tool_stream(void) { return stream; }
DLDevice fovea_tool_device(void) { return device; }

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
