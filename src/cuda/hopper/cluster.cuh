#pragma once

/* The blocks of a cluster: which one this is, the barrier of all, and what one writes to another's shared memory.
 * Facts: PTX ISA 8.x, barrier.cluster and mapa. */

#include "cuda/hopper/barrier.cuh"

namespace fovea::hopper {

__device__ __forceinline__ unsigned cluster_rank() {
    unsigned rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

/* What was written before the one is seen after the other. */
__device__ __forceinline__ void cluster_arrive() {
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() {
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/* Where `at` is in the block of that rank. */
__device__ __forceinline__ uint32_t cluster_address(const void *at, unsigned rank) {
    uint32_t address = shared_address(at);
    asm("mapa.shared::cluster.u32 %0, %0, %1;" : "+r"(address) : "r"(rank));
    return address;
}

/* To that place. */
__device__ __forceinline__ void cluster_store(float2 *at, unsigned rank, float2 value) {
    asm volatile("st.shared::cluster.v2.f32 [%0], {%1, %2};" ::"r"(cluster_address(at, rank)),
                 "f"(value.x), "f"(value.y)
                 : "memory");
}

__device__ __forceinline__ void cluster_store(double2 *at, unsigned rank, double2 value) {
    asm volatile("st.shared::cluster.v2.f64 [%0], {%1, %2};" ::"r"(cluster_address(at, rank)),
                 "d"(value.x), "d"(value.y)
                 : "memory");
}

} /* namespace fovea::hopper */
