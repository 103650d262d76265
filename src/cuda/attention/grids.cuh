/* Launching: grids of one stream that overlap, of which the second may be put on the device before the first is
 * done, and waits there; shared memory beyond 48 KiB. */
#ifndef FOVEA_CUDA_ATTENTION_GRIDS_CUH
#define FOVEA_CUDA_ATTENTION_GRIDS_CUH

#include <atomic>
#include <cstdint>
#include <cuda_runtime_api.h>

static __device__ __forceinline__ void let_the_next_grid_start(void) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/* What that grid has written is there afterwards. */
static __device__ __forceinline__ void wait_for_the_grid_before(void) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* Lets a kernel's blocks on this thread's device have so many bytes of shared memory. Asked for once a device:
 * the runtime takes 0.2 us to be asked. */
template <auto kernel>
static cudaError_t allow_shared_bytes(int bytes) {
    static std::atomic<uint64_t> allowed; /* a bit a device */
    int device;
    cudaError_t error = cudaGetDevice(&device);
    if (error != cudaSuccess) return error;
    uint64_t bit = device < 64 ? uint64_t{1} << device : 0;
    if (allowed.load(std::memory_order_relaxed) & bit) return cudaSuccess;
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (error == cudaSuccess) allowed.fetch_or(bit, std::memory_order_relaxed);
    return error;
}

/* Launches a kernel that writes nothing, and reads nothing that others write, before that wait; early: the device
 * knows such grids. */
template <class... Parameters, class... Arguments>
static cudaError_t launch_after(void (*kernel)(Parameters...), dim3 grid, int threads,
                                size_t shared_bytes, bool early, cudaStream_t stream,
                                const Arguments &...arguments) {
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid, config.blockDim = (unsigned)threads;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream, config.attrs = &attribute, config.numAttrs = early ? 1 : 0;
    return cudaLaunchKernelEx(&config, kernel, arguments...);
}

#endif
