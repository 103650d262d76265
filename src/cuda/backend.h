/* What the library and its second one, libfovea_cuda, know of each other: the implementations for CUDA
 * devices, and what is done with such a device. The second library is loaded only where a driver is
 * (cuda/load.h), so that one binary runs everywhere. */
#ifndef FOVEA_CUDA_BACKEND_H
#define FOVEA_CUDA_BACKEND_H

#include "catalogue/implementation.h"

/* Facts of a device. */
typedef struct fovea_cuda_device {
    char name[256];
    int capability; /* 90 is 9.0 */
    int multiprocessors;
    size_t memory_bytes, l2_bytes;
    int driver_version, runtime_version; /* 13000 is 13.0 */
    char bus[32];                        /* PCI address, by which NVML finds it */
} fovea_cuda_device;

/* Measured rates, and the cost of a launch: per launch, by replaying a graph of empty kernels. */
typedef enum fovea_cuda_probe {
    FOVEA_CUDA_PROBE_EMPTY, /* launches */
    FOVEA_CUDA_PROBE_COPY,  /* bytes read and written */
    FOVEA_CUDA_PROBE_READ,  /* bytes */
    FOVEA_CUDA_PROBE_FMA    /* FLOP of f32 multiply-adds */
} fovea_cuda_probe;

/* Handles (streams, events, graphs) are CUDA's own. Functions that return a status leave a sentence;
 * those of memory, streams and graphs work on the device that was entered last. */
typedef struct fovea_cuda_backend {
    /* Sizes of this struct and of those that go between the two; a library of others, or of another
     * version, is refused. */
    size_t size, layout;
    const char *version; /* of the library that it was built with */
    const fovea_implementation *const *tables;

    /* Makes the device ready, once: it exists, the driver is new enough, its capability is 8.0. */
    fovea_status (*open)(int device, fovea_message *message);
    int (*capability)(int device); /* of a device that is open */
    fovea_status (*describe)(int device, fovea_cuda_device *facts, fovea_message *message);
    /* Makes the device this thread's own and says which was before; leave brings that back. */
    fovea_status (*enter)(int device, int *previous, fovea_message *message);
    void (*leave)(int device, int previous);
    fovea_status (*check_stream)(int device, void *stream, fovea_message *message);
    fovea_status (*check_pointer)(int device, const void *pointer, const char *name,
                                  fovea_message *message);

    void *(*allocate)(size_t bytes); /* NULL if there is none */
    void (*release)(void *memory);
    fovea_status (*copy_in)(void *to, const void *from, size_t bytes, void *stream,
                            fovea_message *message);
    fovea_status (*copy_out)(void *to, const void *from, size_t bytes, void *stream,
                             fovea_message *message);
    fovea_status (*fill)(void *to, int byte, size_t bytes, void *stream, fovea_message *message);

    fovea_status (*stream_create)(void **stream, fovea_message *message);
    void (*stream_destroy)(void *stream);
    fovea_status (*synchronize)(void *stream, fovea_message *message);
    bool (*capturing)(void *stream);

    fovea_status (*event_create)(void **event, fovea_message *message);
    void (*event_destroy)(void *event);
    fovea_status (*event_record)(void *event, void *stream, fovea_message *message);
    /* Waits for the end. */
    fovea_status (*event_seconds)(void *start, void *end, double *seconds, fovea_message *message);

    fovea_status (*capture_begin)(void *stream, fovea_message *message);
    fovea_status (*capture_end)(void *stream, void **graph, fovea_message *message);
    fovea_status (*graph_launch)(void *graph, void *stream, fovea_message *message);
    void (*graph_destroy)(void *graph);

    /* Enqueues a probe; work: what it does, in the probe's unit. memory: of at least `bytes`. */
    fovea_status (*probe)(fovea_cuda_probe probe, void *memory, size_t bytes, void *stream,
                          double *work, fovea_message *message);
} fovea_cuda_backend;

#define FOVEA_CUDA_LAYOUT                                                                          \
    (sizeof(fovea_problem) << 32 ^ sizeof(fovea_implementation) << 16 ^ sizeof(fovea_run))

/* The one symbol of the second library. */
#define FOVEA_CUDA_ENTRY "fovea_cuda_backend_get"
typedef const fovea_cuda_backend *fovea_cuda_entry(void);

#endif
