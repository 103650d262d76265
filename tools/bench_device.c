/* Arms of ours on a CUDA device, and the device of a run: its description, its ceilings. */
#include "bench_arms.h"

#include "api/call.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Arms ----------------------------------------------------------------------------------- */

static bool fail(fovea_bench_arm *arm, const fovea_message *message) {
    snprintf(arm->row->reason, sizeof arm->row->reason, "%.300s", message->text);
    return false;
}

static fovea_status prepare(fovea_measurement *m, fovea_bench_arm *arm, fovea_message *message) {
    arm->call = calloc(1, sizeof *arm->call);
    if (!arm->call) return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no memory for a call");
    m->calls[m->call_count++] = arm->call;
    fovea_status status = fovea_device_call_create(arm->implementation, m->device, m->device_sets,
                                                   arm->call, message);
    return status == FOVEA_OK ? fovea_device_tensors_restore(m->device, message) : status;
}

/* The first launch loads the kernel, so its time says nothing; and of a short one the launch of its graph
 * would be most, unless it is one of many. */
static fovea_status estimate(fovea_bench_arm *arm, fovea_message *message) {
    fovea_turn turn = {.warm = 1, .count = 3, .inner = 1};
    fovea_status status = FOVEA_OK;
    for (; turn.inner <= FOVEA_SHORT_CALLS && status == FOVEA_OK; turn.inner *= FOVEA_SHORT_CALLS) {
        fovea_timings samples = {0};
        if (turn.inner > 1 && arm->estimate > FOVEA_SHORT_CALL) break;
        status = fovea_device_call_time(arm->call, &turn, &samples, message);
        if (status == FOVEA_OK)
            arm->estimate = fmax(fovea_median(samples.values, samples.count), 1e-7);
        fovea_timings_release(&samples);
    }
    return status;
}

/* What a call through the public door takes the host, where nobody waits: the best of some batches that the
 * queue of launches holds. Chosen by the context where it would choose this one, else forced. */
static double enqueue_seconds(const fovea_measurement *m, const fovea_bench_arm *arm) {
    enum { CALLS = 100, BATCHES = 4 };
    fovea_context *context = m->run->device_context;
    const fovea_moved_problem *moved = arm->call->moved;
    const DLTensor *const *tensors = (const DLTensor *const *)moved->required;
    int kernel = moved->problem.index;
    fovea_call_report report = {0};
    fovea_status status = FOVEA_OK;
    double best = INFINITY;
    if (!context || arm->definition != &m->c->definition) return 0;
    for (int forced = 0; forced < 2; forced++) { /* the first call may make scratch memory */
        const char *name = forced ? arm->implementation->name : NULL;
        if (fovea_use(context, arm->implementation->kernel, name) != FOVEA_OK) return 0;
        status = fovea_call_kernel(context, kernel, tensors, moved->count, moved->options);
        if (status == FOVEA_OK) fovea_last_call(context, &report);
        if (status != FOVEA_OK || strcmp(report.implementation, arm->implementation->name) == 0)
            break;
    }
    for (int b = 0; b < BATCHES && status == FOVEA_OK; b++) {
        status = fovea_synchronize(context);
        double start = fovea_seconds_now();
        for (int i = 0; i < CALLS && status == FOVEA_OK; i++)
            status = fovea_call_kernel(context, kernel, tensors, moved->count, moved->options);
        best = fmin(best, (fovea_seconds_now() - start) / CALLS);
    }
    if (fovea_synchronize(context) != FOVEA_OK || status != FOVEA_OK) best = 0;
    fovea_use(context, arm->implementation->kernel, NULL);
    return best;
}

static bool first(fovea_measurement *m, fovea_bench_arm *arm) {
    const double patience = 0.1, hidden = 10e-6; /* seconds */
    fovea_bench_row *row = arm->row;
    fovea_message message;
    fovea_status status = prepare(m, arm, &message);
    if (status == FOVEA_OK) status = fovea_device_call_run(arm->call, &message);
    double start = fovea_seconds_now();
    if (status == FOVEA_OK) status = fovea_device_tensors_fetch(m->device, &message);
    m->c->fetched_seconds = fovea_seconds_now() - start;
    if (status == FOVEA_OK) status = estimate(arm, &message);
    if (status != FOVEA_OK) return fail(arm, &message);
    /* Beside the threads that prepare cases it took 4.6 to 8.9 us instead of 0.1 to 2.7 above a launch; behind
     * longer calls it is hidden, and a pause would wait for the tensors of others of their size. */
    if (arm->estimate < hidden) {
        if (fovea_bench_prepare_pause(patience)) row->enqueue_seconds = enqueue_seconds(m, arm);
        fovea_bench_prepare_resume();
    }
    row->scratch_bytes = arm->call->workspace_bytes;
    row->block_rows = arm->call->block_rows, row->block_keys = arm->call->block_keys;
    snprintf(row->arithmetic, sizeof row->arithmetic, "%s",
             arm->call->arithmetic ? arm->call->arithmetic : "");
    return true;
}

static bool take(fovea_measurement *m, fovea_bench_arm *arm, const fovea_turn *turn,
                 fovea_timings *samples) {
    fovea_message message;
    (void)m;
    fovea_status status = fovea_device_call_time(arm->call, turn, samples, &message);
    arm->began = arm->call->began, arm->ended = arm->call->ended;
    return status == FOVEA_OK || fail(arm, &message);
}

const fovea_provider fovea_provide_device = {first, take};

void fovea_journey_turn(fovea_measurement *m, fovea_bench_arm *arm) {
    enum { JOURNEYS = 5 };
    const double most = 50e-3;
    fovea_message message;
    double start = fovea_seconds_now();
    for (int i = 0; i < JOURNEYS && (i == 0 || fovea_seconds_now() < start + most); i++)
        if (fovea_device_call_travel(arm->call, m->device, &arm->row->journey, &message) !=
            FOVEA_OK) {
            fail(arm, &message);
            arm->row->verified = false;
            return;
        }
}

/* ---- The device ----------------------------------------------------------------------------- */

fovea_status fovea_bench_open_device(fovea_bench_run *run, fovea_message *message) {
    fovea_context_options options;
    fovea_status status = fovea_tool_device_open(run->options.device, message);
    if (status == FOVEA_OK)
        status = fovea_tool_cuda()->describe(run->options.device, &run->device, message);
    if (status != FOVEA_OK) return status;
    fovea_context_options_default(&options);
    options.device = fovea_tool_device();
    options.stream = fovea_tool_stream();
    status = fovea_context_create(&options, &run->device_context);
    if (status != FOVEA_OK) return fovea_fail(message, status, "%s", fovea_last_message(NULL));
    fovea_nvml_open(run->device.bus, run->no_nvml, sizeof run->no_nvml);
    return FOVEA_OK;
}

void fovea_bench_close_device(fovea_bench_run *run) {
    if (!fovea_tool_cuda()) return;
    fovea_message ignored;
    fovea_device_timing_release();
    fovea_context_destroy(run->device_context);
    run->device_context = NULL;
    fovea_nvml_close();
    fovea_tool_device_use(NULL, 0, &ignored);
}

static json_t *number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static void describe(const fovea_bench_run *run) {
    const fovea_cuda_device *d = &run->device;
    json_t *object = json_pack("{s:s,s:i,s:i,s:i,s:I,s:I,s:i,s:i}", "name", d->name, "number",
                               run->options.device, "capability", d->capability, "multiprocessors",
                               d->multiprocessors, "memory_bytes", (json_int_t)d->memory_bytes,
                               "l2_bytes", (json_int_t)d->l2_bytes, "driver", d->driver_version,
                               "runtime", d->runtime_version);
    json_object_set_new(object, "power_limit_watts", number(fovea_nvml_power_limit()));
    json_object_set_new(object, "used_memory_bytes", number(fovea_nvml_used_memory()));
    const struct {
        const char *name;
        double seconds;
    } launches[] = {{"launch_seconds", run->launch_seconds},
                    {"programmatic_launch_seconds", run->programmatic_launch_seconds},
                    {"lone_launch_seconds", run->lone_launch_seconds},
                    {"enqueue_seconds", run->enqueue_seconds}};
    for (size_t i = 0; i < sizeof launches / sizeof *launches; i++)
        json_object_set_new(object, launches[i].name,
                            number(launches[i].seconds > 0 ? launches[i].seconds : NAN));
    json_object_set_new(object, "no_nvml",
                        *run->no_nvml ? fovea_json_text(run->no_nvml) : json_null());
    json_object_set_new(run->environment, "device", object);
}

static void measure(fovea_bench_run *run, const char *kind, const char *unit,
                    fovea_cuda_probe probe, void *memory, size_t bytes) {
    fovea_message message;
    double rate;
    if (fovea_device_probe(probe, memory, bytes, 1, &rate, &message) == FOVEA_OK)
        fovea_ceilings_add(&run->ceilings, kind, unit, rate);
    else
        fovea_bench_warn(run, "the ceiling %s of the device is unknown: %s", kind, message.text);
}

/* Of an empty kernel, one of many in a graph, plain or as ours are; 0: unknown. */
static double launch_seconds(fovea_bench_run *run, bool programmatic) {
    fovea_message message;
    double launches;
    if (fovea_device_probe(FOVEA_CUDA_PROBE_EMPTY, NULL, programmatic, 1, &launches, &message) ==
        FOVEA_OK)
        return 1 / launches;
    fovea_bench_warn(run, "what launching an empty kernel takes is unknown: %s", message.text);
    return 0;
}

/* Over memory that no cache holds a tenth of. */
void fovea_bench_measure_device(fovea_bench_run *run) {
    const size_t bytes = (size_t)2 << 30;
    fovea_message message;
    if (*run->no_nvml)
        fovea_bench_warn(run, "clocks, power and temperature of the device are unknown: %s",
                         run->no_nvml);
    void *memory = fovea_tool_cuda()->allocate(bytes);
    if (!memory) {
        fovea_bench_warn(run, "the device has no memory to measure its ceilings in");
        return;
    }
    fovea_tool_cuda()->fill(memory, 0x3D, bytes, fovea_tool_stream(), &message);
    measure(run, "copy", "B/s", FOVEA_CUDA_PROBE_COPY, memory, bytes);
    measure(run, "read", "B/s", FOVEA_CUDA_PROBE_READ, memory, bytes);
    measure(run, "fma_f32", "FLOP/s", FOVEA_CUDA_PROBE_FMA, memory, bytes);
    run->launch_seconds = launch_seconds(run, false);
    run->programmatic_launch_seconds = launch_seconds(run, true);
    fovea_device_lone_launch(&run->lone_launch_seconds, &message);
    fovea_device_enqueue(&run->enqueue_seconds, &message);
    fovea_tool_cuda()->release(memory);
    describe(run);
}

/* The same of as many bytes as a case has, met as its calls meet them: in turns over as many pieces, which no cache
 * holds between two launches. 0: unknown. */
static double rate_at_size(bool writes, size_t bytes, int pieces) {
    const size_t each = bytes / 256 * 256; /* so that all are aligned */
    fovea_message message;
    double rate = 0;
    void *memory = fovea_tool_cuda()->allocate((size_t)pieces * each);
    if (!memory) return 0;
    fovea_tool_cuda()->fill(memory, 0x3D, (size_t)pieces * each, fovea_tool_stream(), &message);
    if (fovea_device_probe(writes ? FOVEA_CUDA_PROBE_COPY : FOVEA_CUDA_PROBE_READ, memory, each,
                           pieces, &rate, &message) != FOVEA_OK)
        rate = 0;
    fovea_tool_cuda()->release(memory);
    return rate;
}

void fovea_bench_measure_at_size(fovea_bench_run *run, fovea_bench_case *c) {
    const int pieces = c->sets[FOVEA_ON_CUDA];
    if (!c->cold || pieces < 2 || !c->by_bytes[FOVEA_ON_CUDA]) return;
    c->at_size.writes = strncmp(c->ceiling[FOVEA_ON_CUDA], "copy", 4) == 0;
    c->at_size.bytes = c->bytes;
    for (const fovea_bench_case *known = run->cases; known < c; known++)
        if (known->at_size.rate > 0 && known->at_size.writes == c->at_size.writes &&
            known->at_size.bytes == c->bytes && known->sets[FOVEA_ON_CUDA] == pieces) {
            c->at_size.rate = known->at_size.rate;
            return;
        }
    c->at_size.rate = rate_at_size(c->at_size.writes, (size_t)c->bytes, pieces);
}
