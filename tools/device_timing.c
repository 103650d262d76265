/* One turn of an implementation on a device. Everything of a turn's samples is enqueued before the
 * first is waited for: the device never waits for the host between two of them. */
#include "device_timing.h"

#include "bench_interrupt.h"
#include "cuda/signals.h"
#include "seconds.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

enum { EVENTS_MAX = 256, FLUSH_BYTE = 0x11 };
static const double heat_batch_seconds = 5e-3;

/* Shared by all calls: events, and the memory that a flush overwrites. */
static void *events[EVENTS_MAX];
static int event_count;
static void *flushed;
static size_t flushed_bytes;

static void rest(double seconds) {
    struct timespec t = {.tv_sec = (time_t)seconds,
                         .tv_nsec = (long)(1e9 * (seconds - floor(seconds)))};
    nanosleep(&t, NULL);
}

static fovea_status need_events(int count, fovea_message *message) {
    fovea_status status = FOVEA_OK;
    if (count > EVENTS_MAX)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%d events for one turn; at most %d",
                          count, EVENTS_MAX);
    for (; event_count < count && status == FOVEA_OK; event_count += status == FOVEA_OK)
        status = fovea_tool_cuda()->event_create(&events[event_count], message);
    return status;
}

static fovea_status need_flushed(size_t bytes, fovea_message *message) {
    if (bytes <= flushed_bytes) return FOVEA_OK;
    if (flushed) fovea_tool_cuda()->release(flushed);
    flushed = fovea_tool_cuda()->allocate(bytes);
    flushed_bytes = flushed ? bytes : 0;
    if (flushed) return FOVEA_OK;
    return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "the device has no %zu bytes to flush by",
                      bytes);
}

void fovea_device_timing_release(void) {
    const fovea_cuda_backend *cuda = fovea_tool_cuda();
    for (; event_count > 0; event_count--) cuda->event_destroy(events[event_count - 1]);
    if (flushed) cuda->release(flushed);
    flushed = NULL;
    flushed_bytes = 0;
}

/* ---- Calls ---------------------------------------------------------------------------------- */

fovea_status fovea_device_call_create(const fovea_implementation *implementation,
                                      const fovea_device_tensors *tensors, int sets,
                                      fovea_device_call *call, fovea_message *message) {
    fovea_status status = FOVEA_OK;
    *call = (fovea_device_call){.implementation = implementation, .sets = sets};
    call->moved = calloc((size_t)sets, sizeof *call->moved);
    if (!call->moved) return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no memory for a problem");
    for (int s = 0; s < sets && status == FOVEA_OK; s++)
        status = fovea_device_problem(&tensors[s], &call->moved[s], message);
    if (status == FOVEA_OK && implementation->workspace)
        call->workspace_bytes = implementation->workspace(&call->moved->problem, 1);
    if (status == FOVEA_OK && call->workspace_bytes) {
        call->workspace = fovea_cuda_workspace_create(fovea_tool_cuda(), call->workspace_bytes,
                                                      fovea_tool_stream());
        if (!call->workspace)
            status = fovea_fail(message, FOVEA_OUT_OF_MEMORY,
                                "the device has no %zu bytes for the scratch of %s",
                                call->workspace_bytes, implementation->name);
    }
    if (status != FOVEA_OK) fovea_device_call_destroy(call);
    return status;
}

static void drop_graph(fovea_device_call *call) {
    if (call->graph) fovea_tool_cuda()->graph_destroy(call->graph);
    call->graph = NULL;
    call->graph_calls = 0;
}

void fovea_device_call_destroy(fovea_device_call *call) {
    drop_graph(call);
    fovea_cuda_workspace_destroy(fovea_tool_cuda(), call->workspace);
    free(call->moved);
    *call = (fovea_device_call){0};
}

static fovea_status enqueue(fovea_device_call *call, int count, fovea_message *message) {
    fovea_run run = {0};
    for (int i = 0; i < count; i++) {
        const fovea_problem *problem = &call->moved[call->next].problem;
        call->next = (call->next + 1) % call->sets;
        run = (fovea_run){.threads = 1,
                          .workspace = call->workspace,
                          .workspace_bytes = call->workspace_bytes,
                          .stream = fovea_tool_stream()};
        fovea_status status = call->implementation->run(problem, &run);
        if (status != FOVEA_OK)
            return fovea_fail(message, status, "%s: %s", call->implementation->name,
                              run.reason ? run.reason : fovea_status_text(status));
    }
    call->block_rows = run.block_rows, call->block_keys = run.block_keys;
    call->arithmetic = run.arithmetic;
    return FOVEA_OK;
}

fovea_status fovea_device_call_run(fovea_device_call *call, fovea_message *message) {
    call->next = 0;
    fovea_status status = enqueue(call, 1, message);
    return status == FOVEA_OK ? fovea_tool_cuda()->synchronize(fovea_tool_stream(), message)
                              : status;
}

/* A graph of that many calls. A capture that was begun is ended whatever comes between. */
static fovea_status need_graph(fovea_device_call *call, int calls, fovea_message *message) {
    const fovea_cuda_backend *cuda = fovea_tool_cuda();
    fovea_message ignored;
    void *graph = NULL;
    if (call->graph_calls == calls) return FOVEA_OK;
    drop_graph(call);
    call->next = 0;
    fovea_status status = cuda->capture_begin(fovea_tool_stream(), message);
    if (status != FOVEA_OK) return status;
    status = enqueue(call, calls, message);
    fovea_status ended =
        cuda->capture_end(fovea_tool_stream(), &graph, status == FOVEA_OK ? message : &ignored);
    if (status == FOVEA_OK) status = ended;
    if (status != FOVEA_OK && ended == FOVEA_OK) cuda->graph_destroy(graph);
    if (status != FOVEA_OK) return status;
    call->graph = graph;
    call->graph_calls = calls;
    return FOVEA_OK;
}

/* ---- A turn --------------------------------------------------------------------------------- */

/* What a sample consists of, without its events. */
static fovea_status launch(fovea_device_call *call, const fovea_turn *turn,
                           fovea_message *message) {
    if (turn->flush) return enqueue(call, 1, message);
    return fovea_tool_cuda()->graph_launch(call->graph, fovea_tool_stream(), message);
}

static fovea_status flush(const fovea_turn *turn, fovea_message *message) {
    if (!turn->flush) return FOVEA_OK;
    return fovea_tool_cuda()->fill(flushed, FLUSH_BYTE, turn->flush, fovea_tool_stream(), message);
}

static fovea_status launch_many(fovea_device_call *call, const fovea_turn *turn, int count,
                                fovea_message *message) {
    fovea_status status = FOVEA_OK;
    for (int i = 0; i < count && status == FOVEA_OK; i++) {
        status = flush(turn, message);
        if (status == FOVEA_OK) status = launch(call, turn, message);
    }
    return status;
}

/* In batches of some milliseconds: the host neither runs far ahead nor lets the device wait long. */
static fovea_status heat(fovea_device_call *call, const fovea_turn *turn, fovea_message *message) {
    double each = fmax(turn->estimate * (turn->flush ? 1 : turn->inner), 1e-6);
    int batch = (int)fmin(fmax(heat_batch_seconds / each, 1), 4096);
    double end = fovea_seconds_now() + turn->heat;
    fovea_status status = FOVEA_OK;
    while (fovea_seconds_now() < end && status == FOVEA_OK && !fovea_interrupted()) {
        status = launch_many(call, turn, batch, message);
        if (status == FOVEA_OK)
            status = fovea_tool_cuda()->synchronize(fovea_tool_stream(), message);
    }
    return status;
}

static fovea_status take(fovea_device_call *call, const fovea_turn *turn, fovea_message *message) {
    const fovea_cuda_backend *cuda = fovea_tool_cuda();
    void *stream = fovea_tool_stream();
    fovea_status status = FOVEA_OK;
    for (int i = 0; i < turn->count && status == FOVEA_OK; i++) {
        status = flush(turn, message);
        if (status == FOVEA_OK) status = cuda->event_record(events[2 * i], stream, message);
        if (status == FOVEA_OK) status = launch(call, turn, message);
        if (status == FOVEA_OK) status = cuda->event_record(events[2 * i + 1], stream, message);
    }
    return status;
}

fovea_status fovea_device_call_time(fovea_device_call *call, const fovea_turn *turn,
                                    fovea_timings *samples, fovea_message *message) {
    const fovea_cuda_backend *cuda = fovea_tool_cuda();
    int inner = turn->flush ? 1 : turn->inner;
    fovea_status status = need_events(2 * turn->count, message);
    if (status == FOVEA_OK && turn->flush) status = need_flushed(turn->flush, message);
    if (status == FOVEA_OK && !turn->flush) status = need_graph(call, inner, message);
    if (status == FOVEA_OK) status = cuda->synchronize(fovea_tool_stream(), message);
    if (status == FOVEA_OK && turn->rest > 0) rest(turn->rest);
    if (status == FOVEA_OK && turn->heat > 0) status = heat(call, turn, message);
    if (status == FOVEA_OK) status = launch_many(call, turn, turn->warm, message);
    call->began = fovea_seconds_now();
    if (status == FOVEA_OK) status = take(call, turn, message);
    for (int i = 0; i < turn->count && status == FOVEA_OK; i++) {
        double seconds;
        status = cuda->event_seconds(events[2 * i], events[2 * i + 1], &seconds, message);
        if (status == FOVEA_OK && !fovea_timings_add(samples, seconds / inner))
            status = fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no memory for samples");
    }
    call->ended = fovea_seconds_now();
    return status;
}

/* ---- From the host and back ----------------------------------------------------------------- */

static fovea_status since(double start, fovea_timings *samples, fovea_status status,
                          fovea_message *message) {
    if (status != FOVEA_OK || fovea_timings_add(samples, fovea_seconds_now() - start))
        return status;
    return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no memory for samples");
}

fovea_status fovea_device_call_travel(fovea_device_call *call, const fovea_device_tensors *tensors,
                                      fovea_device_journey *samples, fovea_message *message) {
    fovea_status status = fovea_tool_cuda()->synchronize(fovea_tool_stream(), message);
    double start = fovea_seconds_now();
    if (status == FOVEA_OK) status = fovea_device_tensors_feed(tensors, message);
    call->next = 0;
    if (status == FOVEA_OK) status = enqueue(call, 1, message);
    if (status == FOVEA_OK) status = fovea_device_tensors_fetch(tensors, message);
    status = since(start, &samples->whole, status, message);
    start = fovea_seconds_now();
    if (status == FOVEA_OK) status = fovea_device_tensors_feed(tensors, message);
    if (status == FOVEA_OK) status = fovea_tool_cuda()->synchronize(fovea_tool_stream(), message);
    status = since(start, &samples->there, status, message);
    start = fovea_seconds_now();
    if (status == FOVEA_OK) status = fovea_device_tensors_fetch(tensors, message);
    return since(start, &samples->back, status, message);
}

void fovea_device_journey_release(fovea_device_journey *samples) {
    fovea_timings_release(&samples->whole);
    fovea_timings_release(&samples->there);
    fovea_timings_release(&samples->back);
}

/* ---- Probes --------------------------------------------------------------------------------- */

/* A graph of many launches, replayed; the best of several is what the device can do. */
fovea_status fovea_device_probe(fovea_cuda_probe probe, void *memory, size_t bytes, int pieces,
                                double *rate, fovea_message *message) {
    enum { LARGE = 20, EMPTY = 400, REPEATS = 10 };
    const int launches = probe == FOVEA_CUDA_PROBE_EMPTY ? EMPTY
                         : pieces < LARGE                ? LARGE * pieces
                                                         : pieces;
    const fovea_cuda_backend *cuda = fovea_tool_cuda();
    void *stream = fovea_tool_stream(), *graph = NULL;
    double work = 0, seconds;
    *rate = 0;
    fovea_status status = need_events(2, message);
    if (status == FOVEA_OK) status = cuda->capture_begin(stream, message);
    if (status != FOVEA_OK) return status;
    for (int i = 0; i < launches && status == FOVEA_OK; i++)
        status = cuda->probe(probe, (char *)memory + (size_t)(i % pieces) * bytes, bytes, stream,
                             &work, message);
    fovea_message ignored;
    fovea_status ended = cuda->capture_end(stream, &graph, status == FOVEA_OK ? message : &ignored);
    if (status == FOVEA_OK) status = ended;
    for (int i = 0; i < REPEATS && status == FOVEA_OK; i++) {
        status = cuda->event_record(events[0], stream, message);
        if (status == FOVEA_OK) status = cuda->graph_launch(graph, stream, message);
        if (status == FOVEA_OK) status = cuda->event_record(events[1], stream, message);
        if (status == FOVEA_OK)
            status = cuda->event_seconds(events[0], events[1], &seconds, message);
        if (status == FOVEA_OK) *rate = fmax(*rate, launches * work / seconds);
    }
    if (ended == FOVEA_OK) cuda->graph_destroy(graph);
    return status;
}

/* All enqueued before the first is waited for, as the samples of a turn are. */
fovea_status fovea_device_lone_launch(double *seconds, fovea_message *message) {
    enum { LAUNCHES = 21 };
    const fovea_cuda_backend *cuda = fovea_tool_cuda();
    void *stream = fovea_tool_stream();
    double work, all[LAUNCHES];
    fovea_status status = need_events(2 * LAUNCHES, message);
    for (int i = 0; i < LAUNCHES && status == FOVEA_OK; i++) {
        status = cuda->event_record(events[2 * i], stream, message);
        if (status == FOVEA_OK)
            status = cuda->probe(FOVEA_CUDA_PROBE_EMPTY, NULL, 0, stream, &work, message);
        if (status == FOVEA_OK) status = cuda->event_record(events[2 * i + 1], stream, message);
    }
    for (int i = 0; i < LAUNCHES && status == FOVEA_OK; i++)
        status = cuda->event_seconds(events[2 * i], events[2 * i + 1], &all[i], message);
    *seconds = status == FOVEA_OK ? fovea_median(all, LAUNCHES) : 0;
    return status;
}

fovea_status fovea_device_enqueue(double *seconds, fovea_message *message) {
    enum { LAUNCHES = 100, BATCHES = 5 };
    const fovea_cuda_backend *cuda = fovea_tool_cuda();
    void *stream = fovea_tool_stream();
    fovea_status status = FOVEA_OK;
    double work, best = INFINITY;
    for (int b = 0; b < BATCHES && status == FOVEA_OK; b++) {
        status = cuda->synchronize(stream, message);
        double start = fovea_seconds_now();
        for (int i = 0; i < LAUNCHES && status == FOVEA_OK; i++)
            status = cuda->probe(FOVEA_CUDA_PROBE_EMPTY, NULL, 0, stream, &work, message);
        best = fmin(best, (fovea_seconds_now() - start) / LAUNCHES);
    }
    if (status == FOVEA_OK) status = cuda->synchronize(stream, message);
    *seconds = status == FOVEA_OK ? best : 0;
    return status;
}
