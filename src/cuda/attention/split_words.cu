/* The split kernel for f32. */
#include "cuda/attention/split_launch.cuh"

cudaError_t fovea_cuda_attention_split_words(const fovea_cuda_attention &p,
                                             const split_parts &parts, bool early,
                                             cudaStream_t stream) {
    return launch_split<float>(p, parts, early, stream);
}
