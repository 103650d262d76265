/* Timing of an implementation on the CUDA device that is open: by events around replays of a graph, so
 * that what the host does between calls is not in the figures. */
#ifndef FOVEA_TOOLS_DEVICE_TIMING_H
#define FOVEA_TOOLS_DEVICE_TIMING_H

#include "bench_statistics.h"
#include "device.h"
#include "turn.h"

/* An implementation over tensors on the device, with its scratch memory. All zero: none. */
typedef struct fovea_device_call {
    const fovea_implementation *implementation;
    fovea_moved_problem *moved; /* over each set of tensors; calls take turns over them */
    int sets, next;
    void *workspace;
    size_t workspace_bytes;
    void *graph; /* of so many calls */
    int graph_calls;
    int64_t block_rows, block_keys; /* what it reported */
    const char *arithmetic;
    double began, ended; /* the samples of the last turn, by CLOCK_MONOTONIC */
} fovea_device_call;

/* Over so many sets of tensors. The options are those that the sample has now. */
fovea_status fovea_device_call_create(const fovea_implementation *implementation,
                                      const fovea_device_tensors *tensors, int sets,
                                      fovea_device_call *call, fovea_message *message);
void fovea_device_call_destroy(fovea_device_call *call);

/* One call on the first set, and waits for its end. */
fovea_status fovea_device_call_run(fovea_device_call *call, fovea_message *message);
/* Rests, heats, warms, and takes the turn's samples: seconds a call. With a flush each sample is one
 * call, which finds nothing of its tensors in the cache. */
fovea_status fovea_device_call_time(fovea_device_call *call, const fovea_turn *turn,
                                    fovea_timings *samples, fovea_message *message);

/* From the sample's memory to its memory: its inputs to the device, a call on the first set, what it wrote
 * back. One sample of each: all of it by the host's clock, and the ways there and back by themselves. */
typedef struct fovea_device_journey {
    fovea_timings whole, there, back;
} fovea_device_journey;
fovea_status fovea_device_call_travel(fovea_device_call *call, const fovea_device_tensors *tensors,
                                      fovea_device_journey *samples, fovea_message *message);
void fovea_device_journey_release(fovea_device_journey *samples);

/* Work a second of the best of several repeats of a probe over that memory. pieces: launches take turns over so many
 * of it, `bytes` each, as cold calls do over sets of tensors. */
fovea_status fovea_device_probe(fovea_cuda_probe probe, void *memory, size_t bytes, int pieces,
                                double *rate, fovea_message *message);

/* Seconds between two events with an empty kernel between them, the median of several. */
fovea_status fovea_device_lone_launch(double *seconds, fovea_message *message);

/* Seconds of the host to launch an empty kernel, the best of several batches. */
fovea_status fovea_device_enqueue(double *seconds, fovea_message *message);

/* Releases what all calls share. */
void fovea_device_timing_release(void);

#endif
