/* What goes wrong with CUDA devices, without one: the backend's own source over a runtime that is none,
 * with two devices whose memory is the host's. Each mistake and each failure is a sentence, and the
 * context serves the next call. */
#include "cuda/device.h"
#include "cuda/load.h"
#include "cuda/signals.h"
#include "cuda_context.h"
#include "test.h"

#include <cuda.h>
#include <fovea/fovea.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 1000, BLOCKS = 64 };

/* ---- The runtime ---------------------------------------------------------------------------- */

static struct {
    int devices, current, capability, driver;
    cudaError_t broken;   /* every call ends with it: the device is lost */
    cudaError_t launched; /* what the next launch leaves */
    cudaError_t left;     /* what cudaGetLastError takes away */
    bool no_memory, capturing;
    int allocations, waits;
} runtime;

typedef struct handle { /* a stream or an event */
    int device;
} handle;

static struct {
    char *memory;
    size_t bytes;
    int device;
} blocks[BLOCKS];

static cudaError_t leave(cudaError_t error) {
    if (runtime.broken) error = runtime.broken;
    if (error != cudaSuccess) runtime.left = error;
    return error;
}

static int block_of(const void *pointer) {
    for (int b = 0; b < BLOCKS; b++)
        if (blocks[b].memory && (const char *)pointer >= blocks[b].memory &&
            (const char *)pointer < blocks[b].memory + blocks[b].bytes)
            return b;
    return -1;
}

cudaError_t cudaGetLastError(void) {
    cudaError_t error = runtime.broken ? runtime.broken : runtime.left;
    runtime.left = cudaSuccess;
    return error;
}
const char *cudaGetErrorName(cudaError_t error) {
    return error == cudaErrorLaunchFailure ? "cudaErrorLaunchFailure" : "another";
}
const char *cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorLaunchFailure              ? "unspecified launch failure"
           : error == cudaErrorLaunchOutOfResources     ? "too many resources requested for launch"
           : error == cudaErrorInvalidResourceHandle    ? "invalid resource handle"
           : error == cudaErrorMemoryAllocation         ? "out of memory"
           : error == cudaErrorStreamCaptureUnsupported ? "not permitted while capturing"
                                                        : "another error";
}

cudaError_t cudaGetDeviceCount(int *count) {
    *count = runtime.devices;
    if (runtime.driver < 13000) return leave(cudaErrorInsufficientDriver);
    return leave(runtime.devices ? cudaSuccess : cudaErrorNoDevice);
}
cudaError_t cudaDriverGetVersion(int *version) { return *version = runtime.driver, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    (void)device;
    *value = attribute == cudaDevAttrComputeCapabilityMajor   ? runtime.capability / 10
             : attribute == cudaDevAttrComputeCapabilityMinor ? runtime.capability % 10
                                                              : 100;
    return leave(cudaSuccess);
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device) {
    (void)device;
    memset(properties, 0, sizeof *properties);
    snprintf(properties->name, sizeof properties->name, "none");
    return leave(cudaSuccess);
}
cudaError_t cudaDeviceGetPCIBusId(char *text, int size, int device) {
    snprintf(text, (size_t)size, "%d", device);
    return leave(cudaSuccess);
}
cudaError_t cudaGetDevice(int *device) { return *device = runtime.current, leave(cudaSuccess); }
cudaError_t cudaSetDevice(int device) { return runtime.current = device, leave(cudaSuccess); }

static CUresult ask(unsigned count, CUpointer_attribute *wanted, void **answers,
                    CUdeviceptr pointer) {
    int b = block_of((const void *)(uintptr_t)pointer);
    assert_int_equal(count, 2);
    assert_int_equal(wanted[0], CU_POINTER_ATTRIBUTE_MEMORY_TYPE);
    assert_int_equal(wanted[1], CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL);
    *(unsigned *)answers[0] = b < 0 ? 0 : CU_MEMORYTYPE_DEVICE;
    *(int *)answers[1] = b < 0 ? -2 : blocks[b].device;
    return CUDA_SUCCESS;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version,
                                             unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *result) {
    (void)version, (void)flags;
    assert_string_equal(name, "cuPointerGetAttributes");
    *function = (void *)(uintptr_t)ask;
    *result = cudaDriverEntryPointSuccess;
    return leave(cudaSuccess);
}
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes,
                                     const void *pointer) {
    int b = block_of(pointer);
    memset(attributes, 0, sizeof *attributes);
    attributes->type = b < 0 ? cudaMemoryTypeUnregistered : cudaMemoryTypeDevice;
    attributes->device = b < 0 ? -2 : blocks[b].device;
    return leave(cudaSuccess);
}

cudaError_t cudaMalloc(void **memory, size_t bytes) {
    *memory = NULL;
    if (runtime.capturing) return leave(cudaErrorStreamCaptureUnsupported);
    if (runtime.no_memory || runtime.broken) return leave(cudaErrorMemoryAllocation);
    for (int b = 0; b < BLOCKS && !*memory; b++) {
        if (blocks[b].memory) continue;
        blocks[b].memory = *memory = malloc(bytes);
        blocks[b].bytes = bytes, blocks[b].device = runtime.current;
    }
    runtime.allocations++;
    return leave(*memory ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void *memory) {
    int b = block_of(memory);
    if (b >= 0) free(blocks[b].memory), blocks[b].memory = NULL;
    return leave(cudaSuccess);
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream) {
    (void)kind, (void)stream;
    memcpy(to, from, bytes);
    return leave(cudaSuccess);
}
cudaError_t cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t stream) {
    (void)stream;
    memset(to, byte, bytes);
    return leave(cudaSuccess);
}

static void *new_handle(void) {
    handle *made = malloc(sizeof *made);
    made->device = runtime.current;
    return made;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    assert_int_equal(flags, cudaStreamNonBlocking);
    return *stream = new_handle(), leave(cudaSuccess);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return free(stream), leave(cudaSuccess); }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    (void)stream;
    runtime.waits++;
    return leave(cudaSuccess);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    (void)stream;
    *status = runtime.capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return leave(cudaSuccess);
}
cudaError_t cudaEventCreate(cudaEvent_t *event) {
    return *event = new_handle(), leave(cudaSuccess);
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    (void)flags;
    return cudaEventCreate(event);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) { return free(event), leave(cudaSuccess); }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    bool one = ((handle *)event)->device == ((handle *)stream)->device;
    return leave(one ? cudaSuccess : cudaErrorInvalidResourceHandle);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    (void)event;
    runtime.waits++;
    return leave(cudaSuccess);
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
    (void)start, (void)end;
    return *milliseconds = 1, leave(cudaSuccess);
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
    (void)stream, (void)mode;
    return runtime.capturing = true, leave(cudaSuccess);
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    (void)stream;
    *graph = NULL;
    return runtime.capturing = false, leave(cudaSuccess);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *made, cudaGraph_t graph,
                                 unsigned long long flags) {
    (void)graph, (void)flags;
    return *made = NULL, leave(cudaSuccess);
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return (void)graph, leave(cudaSuccess); }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return (void)graph, leave(cudaSuccess); }
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    (void)graph, (void)stream;
    return leave(cudaSuccess);
}

/* ---- What the library has there ------------------------------------------------------------- */

static fovea_status copy(const fovea_problem *problem, fovea_run *run) {
    cudaError_t error = runtime.launched;
    assert_int_equal(problem->device.device_id, runtime.current);
    assert_int_equal(((handle *)run->stream)->device, runtime.current);
    memset(run->workspace, 0xFF, run->workspace_bytes);
    for (int i = 1; i <= FOVEA_CUDA_SIGNALS; i++)
        assert_int_equal(((const char *)run->workspace)[-i], 0);
    runtime.launched = cudaSuccess;
    leave(error);
    if (!error && !runtime.broken)
        memcpy(problem->views[1].data, problem->views[0].data,
               (size_t)fovea_view_elements(&problem->views[0]) * sizeof(float));
    return fovea_cuda_launched(run, (int)cudaGetLastError());
}

static size_t workspace(const fovea_problem *problem, int threads) {
    (void)threads;
    return (size_t)fovea_view_elements(&problem->views[0]);
}

const fovea_implementation fovea_cuda_table_elementwise[] = {{.kernel = "map_exp",
                                                              .name = "cuda/sm80/copy",
                                                              .dtypes = 1u << FOVEA_F32,
                                                              .workspace = workspace,
                                                              .run = copy,
                                                              .device = kDLCUDA},
                                                             {0}};
#define NOTHING(name) const fovea_implementation fovea_cuda_table_##name[] = {{0}};
NOTHING(reductions)
NOTHING(activations)
NOTHING(softmax)
NOTHING(normalization)
NOTHING(attention)
NOTHING(positions)
NOTHING(loss)
NOTHING(optimizers)
NOTHING(prng)
NOTHING(layout)
NOTHING(scans)
NOTHING(quantization)
NOTHING(dot_products)
NOTHING(map_reduce)
NOTHING(correlation)

int fovea_cuda_probe_launch(fovea_cuda_probe probe, void *memory, size_t bytes, cudaStream_t stream,
                            double *work) {
    (void)probe, (void)memory, (void)bytes, (void)stream;
    return *work = 1, cudaSuccess;
}

/* In the place of what would look for the second library. */
fovea_cuda_entry fovea_cuda_backend_get;
const fovea_cuda_backend *fovea_cuda_get(void) { return fovea_cuda_backend_get(); }
const char *fovea_cuda_state(void) { return "a runtime that is none is in use"; }

/* ---- Calls ---------------------------------------------------------------------------------- */

static char *here, *there; /* memory of device 0, of device 1 */
static int64_t shape[] = {COUNT};

static DLTensor tensor_of(void *data, int device) {
    return (DLTensor){.data = data,
                      .device = {kDLCUDA, device},
                      .ndim = 1,
                      .dtype = {kDLFloat, 32, 1},
                      .shape = shape};
}

static char *memory_of(int device) {
    runtime.current = device;
    return fovea_cuda_backend_get()->allocate(2 * COUNT * sizeof(float));
}

static int begin(void **unused) {
    (void)unused;
    memset(&runtime, 0, sizeof runtime);
    runtime.devices = 2, runtime.capability = 90, runtime.driver = 13000;
    here = memory_of(0), there = memory_of(1);
    memset(here, 0, 2 * COUNT * sizeof(float)), memset(there, 0, 2 * COUNT * sizeof(float));
    runtime.current = 1; /* the thread's own, whatever contexts do */
    if (create(0, NULL) != FOVEA_OK) return 1;
    return 0;
}

static int end(void **unused) {
    (void)unused;
    runtime.broken = cudaSuccess;
    fovea_context_destroy(context);
    context = NULL;
    cudaFree(here), cudaFree(there);
    for (int b = 0; b < BLOCKS; b++)
        if (blocks[b].memory) return 1; /* scratch that was not given back */
    return 0;
}

/* A call that is right, of the first numbers to the second half. */
static fovea_status call(void) {
    DLTensor x = tensor_of(here, 0), y = tensor_of(here + COUNT * sizeof(float), 0);
    return fovea_map_exp(context, &x, &y, NULL);
}

static void says(const char *words) {
    const char *message = fovea_last_message(context);
    if (!strstr(message, words)) fail_msg("«%s» lacks «%s»", message, words);
}

static void still_serves(void) {
    memset(here, 0, 2 * COUNT * sizeof(float));
    ((float *)(void *)here)[3] = 5;
    assert_int_equal(call(), FOVEA_OK);
    assert_true(((float *)(void *)here)[COUNT + 3] == 5);
    assert_int_equal(runtime.current, 1);
    assert_int_equal(runtime.left, cudaSuccess);
}

static void an_old_driver_is_named(void **unused) {
    (void)unused;
    runtime.driver = 11040;
    assert_int_equal(fovea_cuda_backend_get()->open(7, &(fovea_message){{0}}), FOVEA_UNSUPPORTED);
    fovea_context *before = context;
    context = NULL;
    assert_int_equal(create(5, NULL), FOVEA_UNSUPPORTED);
    says("the NVIDIA driver serves CUDA 11.4; this library needs 13.0 or newer");
    context = before;
    still_serves();
}

static void devices_that_are_not_there_or_too_old_are_named(void **unused) {
    (void)unused;
    fovea_context *before = context;
    context = NULL;
    assert_int_equal(create(5, NULL), FOVEA_INVALID_ARGUMENT);
    says("there is no CUDA device 5; this process sees 2");
    runtime.devices = 6, runtime.capability = 75;
    assert_int_equal(create(5, NULL), FOVEA_UNSUPPORTED);
    says("CUDA device 5 has compute capability 7.5; 8.0 and above are served");
    context = before;
    still_serves();
}

static void a_stream_of_another_device_is_refused(void **unused) {
    (void)unused;
    handle streams[] = {{0}, {1}};
    fovea_context *before = context;
    context = NULL;
    assert_int_equal(create(0, &streams[1]), FOVEA_INVALID_ARGUMENT);
    says("is no stream of CUDA device 0 (invalid resource handle)");
    assert_int_equal(create(0, &streams[0]), FOVEA_OK);
    assert_ptr_equal(fovea_context_stream(context), &streams[0]);
    still_serves();
    fovea_context_destroy(before);
}

static void tensors_elsewhere_are_refused(void **unused) {
    (void)unused;
    float host[COUNT] = {0};
    DLTensor x = tensor_of(here, 0), y = tensor_of(there, 1);
    assert_int_equal(fovea_map_exp(context, &x, &y, NULL), FOVEA_INVALID_ARGUMENT);
    says("y is on CUDA device 1, x is on CUDA device 0; all must be on one");
    x = tensor_of(there + COUNT * sizeof(float), 1);
    assert_int_equal(fovea_map_exp(context, &x, &y, NULL), FOVEA_INVALID_ARGUMENT);
    says("x is on CUDA device 1; this context serves CUDA device 0");
    x = tensor_of(here, 0), y = tensor_of(there, 0);
    assert_int_equal(fovea_map_exp(context, &x, &y, NULL), FOVEA_INVALID_ARGUMENT);
    says("y says it is on CUDA device 0, but ");
    says(" is memory of device 1");
    y = tensor_of(host, 0);
    assert_int_equal(fovea_map_exp(context, &x, &y, NULL), FOVEA_INVALID_ARGUMENT);
    says(" is memory of the host");
    assert_true(host[0] == 0 && ((float *)(void *)there)[0] == 0);
    still_serves();
}

static void no_memory_is_said_with_the_bytes(void **unused) {
    (void)unused;
    runtime.no_memory = true;
    assert_int_equal(call(), FOVEA_OUT_OF_MEMORY);
    says("cuda/sm80/copy needs 1000 bytes of scratch memory, which could not be had");
    runtime.no_memory = false, runtime.capturing = true;
    assert_int_equal(call(), FOVEA_OUT_OF_MEMORY);
    says("which cannot be had while the stream is captured: make one call like it before");
    runtime.capturing = false;
    still_serves();
}

static void a_failed_launch_is_said_and_forgotten(void **unused) {
    (void)unused;
    runtime.launched = cudaErrorLaunchOutOfResources;
    assert_int_equal(call(), FOVEA_DEVICE_ERROR);
    says("cuda/sm80/copy failed: too many resources requested for launch");
    still_serves();
}

static void a_lost_device_takes_nothing_else_with_it(void **unused) {
    (void)unused;
    float x[4] = {0}, y[4] = {9, 9, 9, 9};
    int64_t four[] = {4};
    DLTensor on_host[2] = {{.data = x, .device = {kDLCPU, 0}}, {.data = y, .device = {kDLCPU, 0}}};
    fovea_context *host;
    assert_int_equal(call(), FOVEA_OK);
    runtime.broken = cudaErrorLaunchFailure;
    assert_int_equal(call(), FOVEA_DEVICE_ERROR);
    says("unspecified launch failure");
    assert_int_equal(fovea_synchronize(context), FOVEA_DEVICE_ERROR);
    says("unspecified launch failure (cudaErrorLaunchFailure)");
    assert_int_equal(fovea_context_create(NULL, &host), FOVEA_OK);
    for (int t = 0; t < 2; t++)
        on_host[t].ndim = 1, on_host[t].shape = four, on_host[t].dtype.bits = 32,
        on_host[t].dtype.code = kDLFloat, on_host[t].dtype.lanes = 1;
    assert_int_equal(fovea_map_exp(host, &on_host[0], &on_host[1], NULL), FOVEA_OK);
    assert_true(y[0] == 1);
    fovea_context_destroy(host);
    fovea_context_destroy(context); /* nothing can be given back, and that is no crash */
    context = NULL;
    runtime.broken = cudaSuccess;
    for (int b = 0; b < BLOCKS; b++)
        if (blocks[b].memory && blocks[b].memory != here && blocks[b].memory != there)
            cudaFree(blocks[b].memory);
}

static void calls_neither_wait_nor_allocate_once_they_have_run(void **unused) {
    (void)unused;
    assert_int_equal(call(), FOVEA_OK);
    int allocations = runtime.allocations, waits = runtime.waits;
    assert_int_equal(allocations, 3); /* the two tensors, and scratch */
    for (int i = 0; i < 100; i++) assert_int_equal(call(), FOVEA_OK);
    assert_int_equal(runtime.allocations, allocations);
    assert_int_equal(runtime.waits, waits);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_old_driver_is_named, begin, end),
        cmocka_unit_test_setup_teardown(devices_that_are_not_there_or_too_old_are_named, begin,
                                        end),
        cmocka_unit_test_setup_teardown(a_stream_of_another_device_is_refused, begin, end),
        cmocka_unit_test_setup_teardown(tensors_elsewhere_are_refused, begin, end),
        cmocka_unit_test_setup_teardown(no_memory_is_said_with_the_bytes, begin, end),
        cmocka_unit_test_setup_teardown(a_failed_launch_is_said_and_forgotten, begin, end),
        cmocka_unit_test_setup_teardown(a_lost_device_takes_nothing_else_with_it, begin, end),
        cmocka_unit_test_setup_teardown(calls_neither_wait_nor_allocate_once_they_have_run, begin,
                                        end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
