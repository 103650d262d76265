/* A CUDA device as the command uses it: opened once a process, with a stream; and the making of a
 * problem over tensors there from one over tensors here. */
#ifndef FOVEA_TOOLS_DEVICE_H
#define FOVEA_TOOLS_DEVICE_H

#include "cuda/backend.h"

/* Opens device `number` for this process, once. Not to be called before a fork. */
fovea_status fovea_tool_device_open(int number, fovea_message *message);

/* Of the device that is open. */
const fovea_cuda_backend *fovea_tool_cuda(void);
void *fovea_tool_stream(void);
DLDevice fovea_tool_device(void);

/* The tensors of a problem again, with other data. options points into this struct. */
typedef struct fovea_moved_problem {
    fovea_problem problem;
    DLTensor tensors[FOVEA_ARGUMENTS_MAX];
    int64_t shapes[FOVEA_ARGUMENTS_MAX][FOVEA_RANK_MAX];
    int64_t strides[FOVEA_ARGUMENTS_MAX][FOVEA_RANK_MAX];
    DLTensor *required[FOVEA_ARGUMENTS_MAX];
    size_t count;
    _Alignas(16) char options[FOVEA_OPTIONS_SIZE_MAX];
    _Alignas(16) char storage[FOVEA_OPTIONS_SIZE_MAX];
} fovea_moved_problem;

/* The same call with tensor a at data[a], on the device that is open. It is checked anew, as a caller's
 * would be, so that lengths and tables are taken without being read. */
fovea_status fovea_problem_move(const fovea_problem *problem, char *const data[],
                                fovea_moved_problem *moved, fovea_message *message);

#endif
