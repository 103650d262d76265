/* Grids of one stream that overlap: the second may be put on the device before the first is done, and
 * waits there. */
#ifndef FOVEA_CUDA_ATTENTION_GRIDS_CUH
#define FOVEA_CUDA_ATTENTION_GRIDS_CUH

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

/* Launches a kernel whose first statement is that wait; early: the device knows such grids. */
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
