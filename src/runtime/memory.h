/* Memory by the caller's hook, and the workspace: one block that grows and is reused. */
#ifndef FOVEA_RUNTIME_MEMORY_H
#define FOVEA_RUNTIME_MEMORY_H

#include <fovea/fovea.h>

enum { FOVEA_ALIGNMENT = 64 };

/* The allocator that a context uses if it is given none. */
fovea_allocator fovea_default_allocator(void);

typedef struct fovea_workspace {
    fovea_allocator allocator;
    void *memory;
    size_t bytes;
} fovea_workspace;

/* Memory of at least that size, aligned to 64 bytes, contents undefined; NULL if there is none (the
 * old block then stays). The next call of this function invalidates it. */
void *fovea_workspace_reserve(fovea_workspace *workspace, size_t bytes);
void fovea_workspace_release(fovea_workspace *workspace);

#endif
