/* A CUDA device as the command uses it: opened once a process, with a stream; the tensors of a sample
 * there, and the making of a problem over tensors there from one over tensors here. */
#ifndef FOVEA_TOOLS_DEVICE_H
#define FOVEA_TOOLS_DEVICE_H

#include "catalogue/case.h"
#include "cuda/backend.h"

/* Opens device `number` for this process, once. Not to be called before a fork. */
fovea_status fovea_tool_device_open(int number, fovea_message *message);
/* The same with a backend of the caller's: tests have one that keeps its own time. NULL closes. */
fovea_status fovea_tool_device_use(const fovea_cuda_backend *backend, int number,
                                   fovea_message *message);

/* Of the device that is open; what its routes are filed under. */
void fovea_tool_device_identity(char *text, size_t size);
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

/* The storage of a sample on the device: one block. All zero: none. */
typedef struct fovea_device_tensors {
    const fovea_sample *sample;
    char *block;
    size_t bytes;                       /* of the block */
    char *storage[FOVEA_ARGUMENTS_MAX]; /* in it */
    size_t sent_bytes, fetched_bytes;   /* what goes there before a call, and comes back after it */
} fovea_device_tensors;

fovea_status fovea_device_tensors_create(const fovea_sample *sample, fovea_device_tensors *tensors,
                                         fovea_message *message);
void fovea_device_tensors_destroy(fovea_device_tensors *tensors);
/* All of them to the device; only what a call writes, as it is in the sample; and that back to it. All wait
 * for the end. */
fovea_status fovea_device_tensors_send(const fovea_device_tensors *tensors, fovea_message *message);
fovea_status fovea_device_tensors_restore(const fovea_device_tensors *tensors,
                                          fovea_message *message);
fovea_status fovea_device_tensors_fetch(const fovea_device_tensors *tensors,
                                        fovea_message *message);
/* What a call needs to the device, without waiting. */
fovea_status fovea_device_tensors_feed(const fovea_device_tensors *tensors, fovea_message *message);
/* The sample's problem, with its options as they are now, over these tensors. */
fovea_status fovea_device_problem(const fovea_device_tensors *tensors, fovea_moved_problem *moved,
                                  fovea_message *message);

#endif
