/* The split kernel for f32. */
#include "cuda/attention/split_launch.cuh"

#include <algorithm>

cudaError_t fovea_cuda_attention_split_words(const fovea_cuda_attention &p,
                                             const split_parts &parts, bool early,
                                             cudaStream_t stream) {
    /* As many columns of the values as a launch takes; all of them give the same lse. */
    constexpr int most = split_form<float, 256, 4, 16, true>::values;
    fovea_cuda_attention part = p;
    cudaError_t error;
    int first = 0;
    do {
        part.value_size = std::min(p.value_size - first, most);
        part.v.data = p.v.data + 4 * first * p.v.stride[3];
        part.out.data = p.out.data + 4 * first * p.out.stride[3];
        error = launch_split<float>(part, parts, early, stream);
        first += most;
    } while (error == cudaSuccess && first < p.value_size);
    return error;
}
