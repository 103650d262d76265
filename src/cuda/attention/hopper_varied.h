/* The shapes of the Hopper kernel for batches whose sequences differ, in pages or packed, and for sinks. */
#pragma once

#include "cuda/attention/hopper_launch.cuh"

namespace fovea::hopper {

constexpr int varied_keys = 64; /* a block, in every one of these shapes */

cudaError_t launch_varied(const attention_call &call, bool half, int processors,
                          cudaStream_t stream);

} /* namespace fovea::hopper */
