#pragma once

/* Bulk tensor copies from global to shared memory, completing on an mbarrier. The tensor map
 * says the box, the swizzle and what is out of bounds, which arrives as zeros. Facts: PTX ISA
 * 8.x, cp.async.bulk.tensor and createpolicy. */

#include <cstdint>
#include <cuda.h>

namespace fovea::hopper {

/* Where a copied line stands in the L2's order of eviction. */
__device__ __forceinline__ uint64_t keep_policy() {
    uint64_t policy;
    asm volatile("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

__device__ __forceinline__ uint64_t stream_policy() {
    uint64_t policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

__device__ __forceinline__ void prefetch_map(const CUtensorMap *map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/* Starts the copy of the box at element (column, row, head, batch). */
__device__ __forceinline__ void copy_box(uint32_t shared, const CUtensorMap *map, uint32_t barrier,
                                         int column, int row, int head, int batch,
                                         uint64_t policy) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 ".L2::cache_hint [%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(shared),
                 "l"(map), "r"(barrier), "r"(column), "r"(row), "r"(head), "r"(batch), "l"(policy)
                 : "memory");
}

} /* namespace fovea::hopper */
