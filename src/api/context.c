/* Contexts: creation, options, forcing of implementations, reports. */
#include "api/context.h"
#include "runtime/fork.h"
#include "runtime/threads.h"

#include <stdio.h>
#include <stdlib.h>

static _Thread_local fovea_message creation_message;

void fovea_context_options_default(fovea_context_options *options) {
    *options = (fovea_context_options){
        .size = sizeof *options, .allocator = fovea_default_allocator(), .device = {kDLCPU, 0}};
}

static fovea_status check_options(const fovea_context_options *options) {
    fovea_message *message = &creation_message;
    if (options->size != sizeof *options)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "options.size is %zu; this version's struct has %zu bytes", options->size,
                          sizeof *options);
    if (options->threads < 0 || options->threads > FOVEA_THREADS_MAX)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "options.threads is %d; it lies between 0 (automatic) and %d",
                          options->threads, FOVEA_THREADS_MAX);
    if (options->device.device_type != kDLCPU && options->device.device_type != kDLCUDA)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "options.device has type %d; the CPU (1) and CUDA (2) are served",
                          (int)options->device.device_type);
    if (options->stream && options->device.device_type == kDLCPU)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "options.stream is given, but options.device is the CPU");
    if (!options->allocator.allocate != !options->allocator.release)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "options.allocator has only one of allocate and release");
    fovea_tier tier;
    const char *cap = getenv("FOVEA_TIER");
    if (cap && !fovea_tier_parse(cap, &tier))
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "the environment variable FOVEA_TIER is «%s»; it is one of scalar, avx2, "
                          "avx512, amx, neon",
                          cap);
    return FOVEA_OK;
}

static void *take(fovea_context *context, size_t bytes) {
    void *memory = context->allocator.allocate(context->allocator.user, bytes, FOVEA_ALIGNMENT);
    if (memory) memset(memory, 0, bytes);
    return memory;
}

static void give(fovea_context *context, void *memory, size_t bytes) {
    if (memory) context->allocator.release(context->allocator.user, memory, bytes);
}

/* Finds the routes: of the file that is named, or at the default place, where a file that is
 * missing or refused is only not used. */
static fovea_status load_routes(fovea_context *context, const char *named) {
    char path[4096], device[FOVEA_ROUTES_DEVICE];
    fovea_message why;
    fovea_device_identity(&context->device, device, sizeof device);
    const char *place = fovea_routes_place_of(named, device, path, sizeof path);
    if (!place && named && *named)
        return fovea_fail(&creation_message, FOVEA_INVALID_ARGUMENT,
                          "options.routes has %zu bytes; a path has at most %zu", strlen(named),
                          sizeof path - 1);
    if (!place) {
        fovea_fail(&context->routes_state, FOVEA_OK,
                   "no routes file is named; the cost model chooses");
        return FOVEA_OK;
    }
    fovea_status status = fovea_routes_read(place, 0, &context->allocator, &context->routes, &why);
    if (status == FOVEA_OK) {
        status = fovea_routes_check_device(context->routes, place, device, &why);
        if (status != FOVEA_OK) fovea_routes_release(context->routes), context->routes = NULL;
    }
    if (status == FOVEA_OK)
        fovea_fail(&context->routes_state, FOVEA_OK, "%.300s is in use: %d measurements of %s",
                   place, context->routes->count, context->routes->written);
    else if (named || status == FOVEA_OUT_OF_MEMORY)
        return fovea_fail(&creation_message, status, "%s", why.text);
    else
        fovea_fail(&context->routes_state, FOVEA_OK, "%.440s; the cost model chooses", why.text);
    return FOVEA_OK;
}

static fovea_status open_device(fovea_context *context, const fovea_context_options *options) {
    if (options->device.device_type == kDLCPU) return FOVEA_OK;
    fovea_status status =
        fovea_device_open(&context->device, options->device, options->stream, &creation_message);
    if (status == FOVEA_OK) context->workspace.allocator = fovea_device_allocator(&context->device);
    return status;
}

fovea_status fovea_context_create(const fovea_context_options *options, fovea_context **context) {
    fovea_context_options defaults;
    creation_message.text[0] = 0;
    if (!context) return fovea_fail(&creation_message, FOVEA_INVALID_ARGUMENT, "context is NULL");
    *context = NULL;
    fovea_context_options_default(&defaults);
    if (!options) options = &defaults;
    fovea_status status = check_options(options);
    if (status != FOVEA_OK) return status;
    fovea_allocator allocator =
        options->allocator.allocate ? options->allocator : defaults.allocator;
    fovea_context *made = allocator.allocate(allocator.user, sizeof *made, FOVEA_ALIGNMENT);
    if (!made) return fovea_fail(&creation_message, FOVEA_OUT_OF_MEMORY, "no memory for a context");
    memset(made, 0, sizeof *made);
    fovea_prepare_for_forks();
    made->epoch = fovea_epoch_now();
    made->allocator = allocator;
    made->workspace.allocator = allocator;
    made->plans.allocator = allocator;
    made->threads = options->threads ? options->threads : fovea_allowed_threads();
    made->kernels = fovea_catalogue_count();
    made->forced = take(made, (size_t)made->kernels * sizeof *made->forced);
    made->statistics = take(made, (size_t)made->kernels * sizeof *made->statistics);
    made->calls = take(made, FOVEA_CALLS_KEPT * sizeof *made->calls);
    if (!made->forced || !made->statistics || !made->calls) {
        fovea_context_destroy(made);
        return fovea_fail(&creation_message, FOVEA_OUT_OF_MEMORY, "no memory for a context");
    }
    status = open_device(made, options);
    if (status == FOVEA_OK) status = load_routes(made, options->routes);
    if (status != FOVEA_OK) {
        fovea_context_destroy(made);
        return status;
    }
    const char *name = getenv("FOVEA_IMPLEMENTATION");
    if (name && *name && (status = fovea_use(made, NULL, name)) != FOVEA_OK) {
        creation_message = made->message;
        fovea_context_destroy(made);
        return status;
    }
    *context = made;
    return FOVEA_OK;
}

void fovea_context_destroy(fovea_context *context) {
    if (!context) return;
    fovea_allocator allocator = context->allocator;
    fovea_workspace_release(&context->workspace);
    fovea_plans_release(&context->plans);
    fovea_device_close(&context->device);
    fovea_routes_release(context->routes);
    fovea_online_release(context->online);
    give(context, context->forced, (size_t)context->kernels * sizeof *context->forced);
    give(context, context->statistics, (size_t)context->kernels * sizeof *context->statistics);
    give(context, context->calls, FOVEA_CALLS_KEPT * sizeof *context->calls);
    allocator.release(allocator.user, context, sizeof *context);
}

void fovea_context_set_threads(fovea_context *context, int threads) {
    int wanted = threads > 0 ? threads : fovea_allowed_threads();
    if (wanted != context->threads) {
        context->choices = (fovea_choice_cache){0};
        for (int i = 0; i < FOVEA_CALLS_KEPT; i++) context->calls[i].implementation = NULL;
    }
    context->threads = wanted;
}

const char *fovea_last_message(const fovea_context *context) {
    return context ? context->message.text : creation_message.text;
}

void *fovea_context_stream(const fovea_context *context) {
    return context ? context->device.stream : NULL;
}

fovea_status fovea_synchronize(fovea_context *context) {
    int previous;
    if (!context) return FOVEA_INVALID_ARGUMENT;
    const fovea_device *device = &context->device;
    if (!device->cuda) return FOVEA_OK;
    fovea_status status = device->cuda->enter(device->number, &previous, &context->message);
    if (status != FOVEA_OK) return status;
    status = device->cuda->synchronize(device->stream, &context->message);
    device->cuda->leave(device->number, previous);
    return status;
}

const char *fovea_routes_state(const fovea_context *context) {
    return context ? context->routes_state.text : "";
}

/* ---- What exists ---------------------------------------------------------------------------- */

size_t fovea_kernel_count(void) { return (size_t)fovea_catalogue_count(); }

const char *fovea_kernel_name(size_t index) {
    return index < fovea_kernel_count() ? fovea_catalogue_kernel((int)index)->name : NULL;
}

const char *fovea_implementation_name(const char *kernel, size_t index) {
    int number = kernel ? fovea_catalogue_find(kernel) : -1;
    if (number < 0 || index >= (size_t)fovea_implementation_count(number)) return NULL;
    return fovea_implementation_at(number, (int)index)->name;
}

static fovea_status unknown_kernel(fovea_context *context, const char *kernel) {
    return fovea_fail(&context->message, FOVEA_INVALID_ARGUMENT, "there is no kernel «%s»",
                      kernel ? kernel : "(NULL)");
}

fovea_status fovea_use(fovea_context *context, const char *kernel, const char *implementation) {
    if (!context) return FOVEA_INVALID_ARGUMENT;
    int only = kernel ? fovea_catalogue_find(kernel) : -1;
    if (kernel && only < 0) return unknown_kernel(context, kernel);
    int found = 0;
    for (int k = 0; k < context->kernels; k++)
        if ((only < 0 || k == only) && implementation)
            found += fovea_implementation_find(k, implementation) != NULL;
    if (implementation && !found)
        return fovea_fail(&context->message, FOVEA_INVALID_ARGUMENT,
                          kernel ? "%s has no implementation «%s»"
                                 : "%s has an implementation «%s»",
                          kernel ? kernel : "no kernel", implementation);
    for (int k = 0; k < context->kernels; k++)
        if (only < 0 || k == only)
            context->forced[k] =
                implementation ? fovea_implementation_find(k, implementation) : NULL;
    return FOVEA_OK;
}

fovea_status fovea_last_call(const fovea_context *context, fovea_call_report *report) {
    if (!context || !report || !context->last.kernel) return FOVEA_INVALID_ARGUMENT;
    *report = context->last;
    report->seconds *= fovea_tick_seconds(&context->epoch);
    return FOVEA_OK;
}

fovea_status fovea_kernel_statistics(const fovea_context *context, const char *kernel,
                                     fovea_statistics *statistics) {
    int index = kernel ? fovea_catalogue_find(kernel) : -1;
    if (!context || !statistics || index < 0) return FOVEA_INVALID_ARGUMENT;
    *statistics = context->statistics[index];
    if (statistics->calls > 0) statistics->seconds *= fovea_tick_seconds(&context->epoch);
    return FOVEA_OK;
}
