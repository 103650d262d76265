/* The device side of a context: its stream, and scratch memory on the device. */
#ifndef FOVEA_API_DEVICE_H
#define FOVEA_API_DEVICE_H

#include "cuda/backend.h"
#include "runtime/memory.h"

/* Blocks of scratch are kept until the context goes: captured graphs may still use an old one. Each is
 * at least twice as large as the one before, so that they are few. */
enum { FOVEA_DEVICE_BLOCKS = 48 };

typedef struct fovea_device {
    const fovea_cuda_backend *cuda; /* NULL: the context serves the CPU */
    int number;
    void *stream;
    bool own_stream;
    void *blocks[FOVEA_DEVICE_BLOCKS];
    int count;
    size_t last_bytes;
} fovea_device;

/* stream NULL: one is made. */
fovea_status fovea_device_open(fovea_device *device, DLDevice where, void *stream,
                               fovea_message *message);
void fovea_device_close(fovea_device *device);
/* What its routes are filed under: "NVIDIA H200, capability 9.0, 132 multiprocessors"; "" without one. */
void fovea_device_identity(const fovea_device *device, char *text, size_t size);

/* Takes scratch from the device, which must have been entered. */
fovea_allocator fovea_device_allocator(fovea_device *device);

#endif
