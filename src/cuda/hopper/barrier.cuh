#pragma once

/* Waiting and taking turns inside a block: mbarriers in shared memory, which also count the
 * bytes of bulk copies, named barriers, and the registers a warpgroup gives or takes. Facts: PTX
 * ISA 8.x, sections on mbarrier, barrier and setmaxnreg. */

#include <cstdint>

namespace fovea::hopper {

__device__ __forceinline__ uint32_t shared_address(const void *pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ void barrier_init(uint32_t barrier, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals)
                 : "memory");
}

/* Makes initialised barriers visible to the copy engine. */
__device__ __forceinline__ void barrier_init_fence() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async;" ::: "memory");
}

/* One arrival, and the promise of `bytes` that copies will add. */
__device__ __forceinline__ void barrier_expect(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void barrier_arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/* Returns once the phase of the given parity is complete. */
__device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity) {
    asm volatile("{\n"
                 ".reg .pred complete;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 complete, [%0], %1;\n"
                 "@complete bra done;\n"
                 "bra again;\n"
                 "done:\n"
                 "}" ::"r"(barrier),
                 "r"(parity)
                 : "memory");
}

/* A word of global memory, and what was written before it was. */
__device__ __forceinline__ uint32_t load_acquired(const uint32_t *at) {
    uint32_t word;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(word) : "l"(at) : "memory");
    return word;
}

__device__ __forceinline__ void named_sync(uint32_t name, uint32_t threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(name), "r"(threads) : "memory");
}

__device__ __forceinline__ void named_arrive(uint32_t name, uint32_t threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(name), "r"(threads) : "memory");
}

/* named_sync that also tells each thread whether `flag` holds in any. */
__device__ __forceinline__ bool named_any(uint32_t name, uint32_t threads, bool flag) {
    int any;
    asm volatile("{\n"
                 ".reg .pred mine, some;\n"
                 "setp.ne.s32 mine, %3, 0;\n"
                 "bar.red.or.pred some, %1, %2, mine;\n"
                 "selp.s32 %0, 1, 0, some;\n"
                 "}"
                 : "=r"(any)
                 : "r"(name), "r"(threads), "r"(static_cast<int>(flag))
                 : "memory");
    return any;
}

template <int registers>
__device__ __forceinline__ void registers_give() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}

template <int registers>
__device__ __forceinline__ void registers_take() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}

} /* namespace fovea::hopper */
