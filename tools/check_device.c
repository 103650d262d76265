/* Images on the device: one block, filled with a pattern, with the parts in it. */
#include "check_device.h"

#include "cuda/signals.h"

#include <stdio.h>
#include <stdlib.h>

enum { ZONE = 4096, ZONE_PATTERN = 0xC3 };

static char *memory; /* on the device */
static char *staging;
static size_t memory_bytes;

static size_t rounded(size_t bytes) { return (bytes + ZONE - 1) / ZONE * ZONE; }

void fovea_image_add(fovea_image *image, char *host, size_t bytes, const char *name) {
    if (image->count == 0) image->bytes = ZONE;
    image->parts[image->count++] = (fovea_image_part){host, bytes, image->bytes, name};
    image->bytes += rounded(bytes) + ZONE;
}

void fovea_image_add_scratch(fovea_image *image, size_t bytes) {
    image->signals = image->bytes;
    image->signal_bytes = bytes ? FOVEA_CUDA_SIGNALS : 0;
    image->scratch = image->signals + image->signal_bytes;
    image->scratch_bytes = bytes;
    image->bytes = image->scratch + rounded(bytes) + ZONE;
}

char *fovea_image_memory(const fovea_image *image) {
    const fovea_cuda_backend *cuda = fovea_tool_cuda();
    if (image->bytes <= memory_bytes) return memory;
    size_t wanted = image->bytes + image->bytes / 2 + (16 << 20);
    if (memory) cuda->release(memory);
    free(staging);
    memory = cuda->allocate(wanted);
    staging = malloc(wanted);
    memory_bytes = memory && staging ? wanted : 0;
    return memory_bytes ? memory : NULL;
}

char *fovea_image_address(const fovea_image *image, const char *host) {
    for (int i = 0; i < image->count; i++) {
        const fovea_image_part *part = &image->parts[i];
        if (host >= part->host && host < part->host + part->bytes)
            return memory + part->offset + (host - part->host);
    }
    return NULL;
}

fovea_status fovea_image_send(const fovea_image *image, int scratch_byte, fovea_message *message) {
    const fovea_cuda_backend *cuda = fovea_tool_cuda();
    memset(staging, ZONE_PATTERN, image->bytes);
    for (int i = 0; i < image->count; i++)
        memcpy(staging + image->parts[i].offset, image->parts[i].host, image->parts[i].bytes);
    memset(staging + image->signals, 0, image->signal_bytes);
    memset(staging + image->scratch, scratch_byte, image->scratch_bytes);
    fovea_status status =
        cuda->copy_in(memory, staging, image->bytes, fovea_tool_stream(), message);
    return status == FOVEA_OK ? cuda->synchronize(fovea_tool_stream(), message) : status;
}

/* The zone from the end of what is at `offset` to the next part. */
static fovea_status check_zone(size_t offset, size_t bytes, size_t end, const char *name,
                               fovea_message *message) {
    for (size_t i = offset + bytes; i < end; i++)
        if ((unsigned char)staging[i] != ZONE_PATTERN)
            return fovea_fail(message, FOVEA_DEVICE_ERROR,
                              "writes outside %s on the device: %zu bytes past the end", name,
                              i - offset - bytes + 1);
    return FOVEA_OK;
}

/* Another call would take what is left there for its own. */
static fovea_status check_signals(const fovea_image *image, fovea_message *message) {
    for (size_t i = 0; i < image->signal_bytes; i++)
        if (staging[image->signals + i])
            return fovea_fail(message, FOVEA_DEVICE_ERROR,
                              "leaves byte %zu of the signals before its scratch set", i);
    return FOVEA_OK;
}

fovea_status fovea_image_fetch(const fovea_image *image, fovea_message *message) {
    const fovea_cuda_backend *cuda = fovea_tool_cuda();
    fovea_status status =
        cuda->copy_out(staging, memory, image->bytes, fovea_tool_stream(), message);
    if (status == FOVEA_OK) status = cuda->synchronize(fovea_tool_stream(), message);
    if (status == FOVEA_OK) status = check_zone(0, 0, ZONE, "the first argument", message);
    for (int i = 0; i < image->count && status == FOVEA_OK; i++) {
        const fovea_image_part *part = &image->parts[i];
        size_t end = i + 1 < image->count ? image->parts[i + 1].offset : image->signals;
        memcpy(part->host, staging + part->offset, part->bytes);
        status = check_zone(part->offset, part->bytes, end, part->name, message);
    }
    if (status == FOVEA_OK) status = check_signals(image, message);
    if (status == FOVEA_OK)
        status =
            check_zone(image->scratch, image->scratch_bytes, image->bytes, "its scratch", message);
    return status;
}
