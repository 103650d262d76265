/* Opening of a context's device, and the allocator of its scratch memory there. */
#include "api/device.h"

#include "cuda/load.h"
#include "cuda/signals.h"

#include <stdio.h>

static fovea_status prepare(fovea_device *device, void *stream, fovea_message *message) {
    if (stream) {
        device->stream = stream;
        return device->cuda->check_stream(device->number, stream, message);
    }
    fovea_status status = device->cuda->stream_create(&device->stream, message);
    device->own_stream = status == FOVEA_OK;
    return status;
}

fovea_status fovea_device_open(fovea_device *device, DLDevice where, void *stream,
                               fovea_message *message) {
    int previous;
    const fovea_cuda_backend *cuda = fovea_cuda_get();
    if (!cuda)
        return fovea_fail(message, FOVEA_UNSUPPORTED, "options.device is CUDA device %d: %s",
                          (int)where.device_id, fovea_cuda_state());
    device->number = where.device_id;
    fovea_status status = cuda->open(device->number, message);
    if (status == FOVEA_OK) status = cuda->enter(device->number, &previous, message);
    if (status != FOVEA_OK) return status;
    device->cuda = cuda;
    status = prepare(device, stream, message);
    cuda->leave(device->number, previous);
    if (status != FOVEA_OK) device->cuda = NULL;
    return status;
}

void fovea_device_identity(const fovea_device *device, char *text, size_t size) {
    fovea_cuda_device facts;
    fovea_message ignored;
    text[0] = 0;
    if (!device->cuda || device->cuda->describe(device->number, &facts, &ignored) != FOVEA_OK)
        return;
    snprintf(text, size, "%s, capability %d.%d, %d multiprocessors", facts.name,
             facts.capability / 10, facts.capability % 10, facts.multiprocessors);
}

void fovea_device_close(fovea_device *device) {
    int previous;
    fovea_message ignored;
    if (!device->cuda || device->cuda->enter(device->number, &previous, &ignored) != FOVEA_OK)
        return;
    for (int i = 0; i < device->count; i++)
        fovea_cuda_workspace_destroy(device->cuda, device->blocks[i]);
    if (device->own_stream) device->cuda->stream_destroy(device->stream);
    device->cuda->leave(device->number, previous);
    *device = (fovea_device){0};
}

static void *take(void *user, size_t bytes, size_t alignment) {
    fovea_device *device = user;
    (void)alignment; /* CUDA's is 256 bytes */
    /* During a capture nothing can be allocated; the caller is told by a sentence. */
    if (device->count == FOVEA_DEVICE_BLOCKS || device->cuda->capturing(device->stream))
        return NULL;
    size_t wanted = 2 * device->last_bytes > bytes ? 2 * device->last_bytes : bytes;
    void *memory = fovea_cuda_workspace_create(device->cuda, wanted, device->stream);
    if (!memory && wanted > bytes)
        memory = fovea_cuda_workspace_create(device->cuda, wanted = bytes, device->stream);
    if (!memory) return NULL;
    device->last_bytes = wanted;
    return device->blocks[device->count++] = memory;
}

static void keep(void *user, void *memory, size_t bytes) { (void)user, (void)memory, (void)bytes; }

fovea_allocator fovea_device_allocator(fovea_device *device) {
    return (fovea_allocator){.allocate = take, .release = keep, .user = device};
}
