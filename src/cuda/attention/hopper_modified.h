#pragma once

#include "cuda/attention/hopper_launch.cuh"

namespace fovea::hopper {

/* Softcap, ALiBi, a bias or a mask, dropout; biases of f32 with heads of up to 128. */
cudaError_t launch_modified(const attention_call &call, bool half, int processors,
                            cudaStream_t stream);

} /* namespace fovea::hopper */
