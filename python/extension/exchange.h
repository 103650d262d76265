/* What DLPack 1 adds to the header of version 0.6 that Debian has: managed tensors with a version and
 * flags, and the table of functions by which a framework hands over tensors without Python objects
 * between. The layouts are those of the DLPack specification, versions 1.0 and 1.3. */
#ifndef FOVEA_PYTHON_EXCHANGE_H
#define FOVEA_PYTHON_EXCHANGE_H

#include <dlpack/dlpack.h>

typedef struct exchange_version {
    uint32_t major, minor;
} exchange_version;

enum { EXCHANGE_READ_ONLY = 1, EXCHANGE_IS_COPIED = 2 };

/* In capsules called "dltensor_versioned". */
typedef struct exchange_tensor {
    exchange_version version;
    void *manager;
    void (*deleter)(struct exchange_tensor *self);
    uint64_t flags;
    DLTensor tensor;
} exchange_tensor;

/* In a capsule "dlpack_exchange_api", the attribute __dlpack_c_exchange_api__ of a type. */
typedef struct exchange_table {
    exchange_version version;
    struct exchange_table *previous;
    int (*allocate)(DLTensor *prototype, exchange_tensor **made, void *user,
                    void (*fail)(void *user, const char *kind, const char *message));
    int (*to_managed)(void *object, exchange_tensor **made);
    int (*to_object)(exchange_tensor *tensor, void **object);
    int (*borrow)(void *object, DLTensor *tensor); /* valid while the object is; may be NULL */
    int (*stream)(DLDeviceType type, int32_t device, void **stream);
} exchange_table;

#endif
