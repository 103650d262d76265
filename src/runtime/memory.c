/* The default allocator and the growing workspace. */
#include "runtime/memory.h"

#include <stdlib.h>

static void *default_allocate(void *user, size_t bytes, size_t alignment) {
    (void)user;
    if (bytes > SIZE_MAX - alignment) return NULL;
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void default_release(void *user, void *memory, size_t bytes) {
    (void)user, (void)bytes;
    free(memory);
}

fovea_allocator fovea_default_allocator(void) {
    return (fovea_allocator){.allocate = default_allocate, .release = default_release};
}

void *fovea_workspace_reserve(fovea_workspace *workspace, size_t bytes) {
    if (bytes <= workspace->bytes) return workspace->memory;
    fovea_allocator *allocator = &workspace->allocator;
    void *memory = allocator->allocate(allocator->user, bytes, FOVEA_ALIGNMENT);
    if (!memory) return NULL;
    fovea_workspace_release(workspace);
    workspace->memory = memory;
    workspace->bytes = bytes;
    return memory;
}

void fovea_workspace_release(fovea_workspace *workspace) {
    fovea_allocator *allocator = &workspace->allocator;
    if (workspace->memory) allocator->release(allocator->user, workspace->memory, workspace->bytes);
    workspace->memory = NULL;
    workspace->bytes = 0;
}
