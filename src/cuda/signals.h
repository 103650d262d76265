/* By what blocks of one launch tell each other that they are done: memory that is 0 whenever no call is under
 * way. It stands before the workspace of every call on a device; who reads what another block has left there
 * clears it, so that a graph can be replayed and the next call finds it as it was. */
#ifndef FOVEA_CUDA_SIGNALS_H
#define FOVEA_CUDA_SIGNALS_H

#include "cuda/backend.h"

enum { FOVEA_CUDA_SIGNALS = 128 << 10 };

/* Of the device that was entered last; ready for what follows on the stream. NULL: there is none. */
static inline void *fovea_cuda_workspace_create(const fovea_cuda_backend *cuda, size_t bytes,
                                                void *stream) {
    fovea_message ignored;
    if (bytes > SIZE_MAX - FOVEA_CUDA_SIGNALS) return NULL;
    char *memory = (char *)cuda->allocate(FOVEA_CUDA_SIGNALS + bytes);
    if (!memory) return NULL;
    if (cuda->fill(memory, 0, FOVEA_CUDA_SIGNALS, stream, &ignored) == FOVEA_OK)
        return memory + FOVEA_CUDA_SIGNALS;
    cuda->release(memory);
    return NULL;
}

static inline void fovea_cuda_workspace_destroy(const fovea_cuda_backend *cuda, void *workspace) {
    if (workspace) cuda->release((char *)workspace - FOVEA_CUDA_SIGNALS);
}

#endif
