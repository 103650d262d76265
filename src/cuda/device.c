/* The device functions of the CUDA backend, over CUDA's runtime. Every call of the runtime that fails
 * becomes a status with its own words; errors are taken out of the runtime, so that the next call
 * starts clean. */
#include "cuda/device.h"

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <stdio.h>

enum { DEVICES_MAX = 64 };
static _Atomic int capabilities[DEVICES_MAX]; /* 0: not opened yet */
static _Atomic int shared_bytes[DEVICES_MAX], multiprocessors[DEVICES_MAX];

/* The driver's own function: the runtime's asks four questions more, for each tensor of each call. */
typedef CUresult pointer_question(unsigned count, CUpointer_attribute *wanted, void **answers,
                                  CUdeviceptr pointer);
static pointer_question *_Atomic ask_of_pointer; /* NULL: unknown */

static fovea_status status_of(cudaError_t error) {
    if (error == cudaSuccess) return FOVEA_OK;
    if (error == cudaErrorMemoryAllocation) return FOVEA_OUT_OF_MEMORY;
    return FOVEA_DEVICE_ERROR;
}

static fovea_status judge(cudaError_t error, const char *what, fovea_message *message) {
    if (error == cudaSuccess) return FOVEA_OK;
    cudaGetLastError();
    return fovea_fail(message, status_of(error), "%s failed: %s (%s)", what,
                      cudaGetErrorString(error), cudaGetErrorName(error));
}

fovea_status fovea_cuda_launched(fovea_run *run, int code) {
    cudaError_t error = (cudaError_t)code;
    if (error == cudaSuccess) return FOVEA_OK;
    run->reason = cudaGetErrorString(error);
    return status_of(error);
}

int fovea_cuda_capability(int device) {
    return device >= 0 && device < DEVICES_MAX ? capabilities[device] : 0;
}

int fovea_cuda_shared_bytes(int device) {
    return device >= 0 && device < DEVICES_MAX ? shared_bytes[device] : 0;
}

int fovea_cuda_multiprocessors(int device) {
    return device >= 0 && device < DEVICES_MAX ? multiprocessors[device] : 0;
}

/* ---- Devices -------------------------------------------------------------------------------- */

static fovea_status open_device(int device, fovea_message *message) {
    int count = 0, major = 0, minor = 0, shared = 0, processors = 0;
    if (fovea_cuda_capability(device)) return FOVEA_OK;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaErrorInsufficientDriver) {
        int driver = 0, runtime = 0;
        cudaGetLastError();
        cudaDriverGetVersion(&driver), cudaRuntimeGetVersion(&runtime);
        return fovea_fail(message, FOVEA_UNSUPPORTED,
                          "the NVIDIA driver serves CUDA %d.%d; this library needs %d.%d or newer",
                          driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    }
    if (error == cudaErrorNoDevice)
        count = 0, cudaGetLastError();
    else if (error != cudaSuccess)
        return judge(error, "counting CUDA devices", message);
    if (device < 0 || device >= count || device >= DEVICES_MAX)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "there is no CUDA device %d; this process sees %d", device, count);
    error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    if (error != cudaSuccess)
        return judge(error, "asking a CUDA device for its capability", message);
    if (major < 8)
        return fovea_fail(message, FOVEA_UNSUPPORTED,
                          "CUDA device %d has compute capability %d.%d; 8.0 and above are served",
                          device, major, minor);
    void *found = NULL;
    enum cudaDriverEntryPointQueryResult result;
    error = cudaGetDriverEntryPointByVersion("cuPointerGetAttributes", &found, 12000,
                                             cudaEnableDefault, &result);
    if (error == cudaSuccess) ask_of_pointer = (pointer_question *)found;
    shared_bytes[device] = shared;
    multiprocessors[device] = processors;
    capabilities[device] = 10 * major + minor;
    return FOVEA_OK;
}

static fovea_status describe(int device, fovea_cuda_device *facts, fovea_message *message) {
    struct cudaDeviceProp properties;
    cudaError_t error = cudaGetDeviceProperties(&properties, device);
    if (error != cudaSuccess) return judge(error, "describing a CUDA device", message);
    *facts = (fovea_cuda_device){.capability = 10 * properties.major + properties.minor,
                                 .multiprocessors = properties.multiProcessorCount,
                                 .memory_bytes = properties.totalGlobalMem,
                                 .l2_bytes = (size_t)properties.l2CacheSize};
    snprintf(facts->name, sizeof facts->name, "%s", properties.name);
    cudaDriverGetVersion(&facts->driver_version);
    cudaRuntimeGetVersion(&facts->runtime_version);
    return judge(cudaDeviceGetPCIBusId(facts->bus, sizeof facts->bus, device),
                 "asking a CUDA device for its address", message);
}

static fovea_status enter(int device, int *previous, fovea_message *message) {
    cudaError_t error = cudaGetDevice(previous);
    if (error == cudaSuccess && *previous != device) error = cudaSetDevice(device);
    return judge(error, "choosing the CUDA device", message);
}

static void leave(int device, int previous) {
    if (previous != device) cudaSetDevice(previous);
}

/* An event can be recorded on streams of its own device alone. */
static fovea_status check_stream(int device, void *stream, fovea_message *message) {
    cudaEvent_t event;
    fovea_status status =
        judge(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event", message);
    if (status != FOVEA_OK) return status;
    cudaError_t error = cudaEventRecord(event, stream);
    cudaEventDestroy(event);
    if (error == cudaSuccess) return FOVEA_OK;
    cudaGetLastError();
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                      "options.stream %p is no stream of CUDA device %d (%s)", stream, device,
                      cudaGetErrorString(error));
}

static bool is_plainly_here(int device, const void *pointer) {
    CUpointer_attribute wanted[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                    CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
    unsigned type = 0;
    int ordinal = -1;
    void *answers[] = {&type, &ordinal};
    return ask_of_pointer &&
           ask_of_pointer(2, wanted, answers, (CUdeviceptr)(uintptr_t)pointer) == CUDA_SUCCESS &&
           type == CU_MEMORYTYPE_DEVICE && ordinal == device;
}

static fovea_status check_pointer(int device, const void *pointer, const char *name,
                                  fovea_message *message) {
    if (is_plainly_here(device, pointer)) return FOVEA_OK;
    struct cudaPointerAttributes attributes;
    cudaError_t error = cudaPointerGetAttributes(&attributes, pointer);
    if (error != cudaSuccess) return judge(error, "asking where a tensor lies", message);
    bool here = attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
    if (here && attributes.device == device) return FOVEA_OK;
    if (here)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "%s says it is on CUDA device %d, but %p is memory of device %d", name,
                          device, pointer, attributes.device);
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                      "%s says it is on CUDA device %d, but %p is memory of the host", name, device,
                      pointer);
}

/* ---- Memory --------------------------------------------------------------------------------- */

static void *allocate(size_t bytes) {
    void *memory = NULL;
    if (cudaMalloc(&memory, bytes ? bytes : 1) == cudaSuccess) return memory;
    cudaGetLastError();
    return NULL;
}

static void release(void *memory) { cudaFree(memory); }

static fovea_status copy_in(void *to, const void *from, size_t bytes, void *stream,
                            fovea_message *message) {
    return judge(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream),
                 "copying to the device", message);
}

static fovea_status copy_out(void *to, const void *from, size_t bytes, void *stream,
                             fovea_message *message) {
    return judge(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream),
                 "copying from the device", message);
}

static fovea_status fill(void *to, int byte, size_t bytes, void *stream, fovea_message *message) {
    return judge(cudaMemsetAsync(to, byte, bytes, stream), "filling memory of the device", message);
}

/* ---- Streams, events, graphs ---------------------------------------------------------------- */

static fovea_status stream_create(void **stream, fovea_message *message) {
    return judge(cudaStreamCreateWithFlags((cudaStream_t *)stream, cudaStreamNonBlocking),
                 "making a stream", message);
}

static void stream_destroy(void *stream) { cudaStreamDestroy(stream); }

static fovea_status synchronize(void *stream, fovea_message *message) {
    return judge(cudaStreamSynchronize(stream), "work on the CUDA device", message);
}

static bool capturing(void *stream) {
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    if (cudaStreamIsCapturing(stream, &status) == cudaSuccess)
        return status != cudaStreamCaptureStatusNone;
    cudaGetLastError();
    return false;
}

static fovea_status event_create(void **event, fovea_message *message) {
    return judge(cudaEventCreate((cudaEvent_t *)event), "making an event", message);
}

static void event_destroy(void *event) { cudaEventDestroy(event); }

static fovea_status event_record(void *event, void *stream, fovea_message *message) {
    return judge(cudaEventRecord(event, stream), "recording an event", message);
}

static fovea_status event_seconds(void *start, void *end, double *seconds, fovea_message *message) {
    float milliseconds = 0;
    fovea_status status = judge(cudaEventSynchronize(end), "work on the CUDA device", message);
    if (status != FOVEA_OK) return status;
    status = judge(cudaEventElapsedTime(&milliseconds, start, end), "reading events", message);
    *seconds = 1e-3 * (double)milliseconds;
    return status;
}

static fovea_status capture_begin(void *stream, fovea_message *message) {
    return judge(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
                 "beginning a capture", message);
}

static fovea_status capture_end(void *stream, void **graph, fovea_message *message) {
    cudaGraph_t captured = NULL;
    fovea_status status =
        judge(cudaStreamEndCapture(stream, &captured), "capturing a graph", message);
    if (status != FOVEA_OK) return status;
    status = judge(cudaGraphInstantiate((cudaGraphExec_t *)graph, captured, 0),
                   "making a graph ready", message);
    cudaGraphDestroy(captured);
    return status;
}

static fovea_status graph_launch(void *graph, void *stream, fovea_message *message) {
    return judge(cudaGraphLaunch(graph, stream), "launching a graph", message);
}

static void graph_destroy(void *graph) { cudaGraphExecDestroy(graph); }

static fovea_status probe(fovea_cuda_probe kind, void *memory, size_t bytes, void *stream,
                          double *work, fovea_message *message) {
    return judge((cudaError_t)fovea_cuda_probe_launch(kind, memory, bytes, stream, work),
                 "launching a probe", message);
}

/* ---- The table ------------------------------------------------------------------------------ */

static const fovea_implementation *const tables[] = {
#define FOVEA_CUDA_DOMAIN(name) fovea_cuda_table_##name,
#include "cuda/domains.h"
#undef FOVEA_CUDA_DOMAIN
    NULL};

__attribute__((visibility("default"))) fovea_cuda_entry fovea_cuda_backend_get;

const fovea_cuda_backend *fovea_cuda_backend_get(void) {
    static const fovea_cuda_backend backend = {.size = sizeof backend,
                                               .layout = FOVEA_CUDA_LAYOUT,
                                               .version = FOVEA_VERSION,
                                               .tables = tables,
                                               .open = open_device,
                                               .capability = fovea_cuda_capability,
                                               .describe = describe,
                                               .enter = enter,
                                               .leave = leave,
                                               .check_stream = check_stream,
                                               .check_pointer = check_pointer,
                                               .allocate = allocate,
                                               .release = release,
                                               .copy_in = copy_in,
                                               .copy_out = copy_out,
                                               .fill = fill,
                                               .stream_create = stream_create,
                                               .stream_destroy = stream_destroy,
                                               .synchronize = synchronize,
                                               .capturing = capturing,
                                               .event_create = event_create,
                                               .event_destroy = event_destroy,
                                               .event_record = event_record,
                                               .event_seconds = event_seconds,
                                               .capture_begin = capture_begin,
                                               .capture_end = capture_end,
                                               .graph_launch = graph_launch,
                                               .graph_destroy = graph_destroy,
                                               .probe = probe};
    return &backend;
}
