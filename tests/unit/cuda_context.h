/* The context of a test over CUDA, made anew on each device and stream. */
#ifndef FOVEA_TESTS_CUDA_CONTEXT_H
#define FOVEA_TESTS_CUDA_CONTEXT_H

#include <fovea/fovea.h>

static fovea_context *context;

static inline fovea_status create(int device, void *stream) {
    fovea_context_options options;
    fovea_context_options_default(&options);
    options.device = (DLDevice){kDLCUDA, device};
    options.stream = stream;
    options.routes = "";
    fovea_context_destroy(context);
    return fovea_context_create(&options, &context);
}

#endif
