#pragma once

/* Bulk copies of bytes side by side, in multiples of 16, between global memory and shared memory: each begun by one
 * thread. Facts: PTX ISA 8.x, cp.async.bulk. */

#include "cuda/hopper/barrier.cuh"

namespace fovea::hopper {

/* To shared memory, completing on the barrier. */
__device__ __forceinline__ void bulk_load(void *to, const void *from, int bytes, uint32_t barrier) {
    barrier_expect(barrier, (unsigned)bytes);
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], "
                 "%2, [%3];" ::"r"(shared_address(to)),
                 "l"(from), "r"(bytes), "r"(barrier)
                 : "memory");
}

/* What threads wrote to shared memory is seen by copies that begin after their next barrier. */
__device__ __forceinline__ void bulk_fence() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* From shared memory; returns once that has been read. */
__device__ __forceinline__ void bulk_store(void *to, const void *from, int bytes) {
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;\n\t"
                 "cp.async.bulk.commit_group;\n\tcp.async.bulk.wait_group.read 0;" ::"l"(to),
                 "r"(shared_address(from)), "r"(bytes)
                 : "memory");
}

} /* namespace fovea::hopper */
