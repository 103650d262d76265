/* Images of a trial's memory on a CUDA device: what is in host memory between guard pages is copied
 * there with guard zones around it, and back after the run, so that all else looks at the host's. */
#ifndef FOVEA_TOOLS_CHECK_DEVICE_H
#define FOVEA_TOOLS_CHECK_DEVICE_H

#include "catalogue/implementation.h"
#include "device.h"

enum { FOVEA_PARTS_MAX = FOVEA_ARGUMENTS_MAX + 1 };

/* Host memory and where it is in the image. */
typedef struct fovea_image_part {
    char *host;
    size_t bytes, offset;
    const char *name; /* of the argument */
} fovea_image_part;

typedef struct fovea_image {
    fovea_image_part parts[FOVEA_PARTS_MAX];
    int count;
    size_t bytes;
    size_t signals, signal_bytes;  /* offset and size of what is before its scratch memory */
    size_t scratch, scratch_bytes; /* and of that */
} fovea_image;

/* Parts are added first, and the scratch last; then the image can be on the device. */
void fovea_image_add(fovea_image *image, char *host, size_t bytes, const char *name);
void fovea_image_add_scratch(fovea_image *image, size_t bytes);
/* The device's memory for an image that is complete; it is one block that all images of the process
 * share. NULL if there is none. */
char *fovea_image_memory(const fovea_image *image);
/* Where a host address is on the device; NULL if it is in no part. */
char *fovea_image_address(const fovea_image *image, const char *host);

/* Copies the parts there, with scratch filled with that byte. */
fovea_status fovea_image_send(const fovea_image *image, int scratch_byte, fovea_message *message);
/* Waits for the device, and copies the parts back. A message where a guard zone was written into. */
fovea_status fovea_image_fetch(const fovea_image *image, fovea_message *message);

#endif
