/* Shapes for scores that are modified: blocks of 64 keys, so that a thread's rows of a bias and the draws of
 * dropout find registers, and room for a tile of the bias behind every block of keys. */
#include "cuda/attention/hopper_modified.h"

namespace fovea::hopper {

template <class Element>
static cudaError_t launch(const attention_call &call, int processors, cudaStream_t stream) {
    /*                            head keys groups K/V Q turns trusting varied planes option */
    using d64 = attention_shape<Element, 64, 64, 3, 3, 1, true, false, false, 1, 4>;
    using d128 = attention_shape<Element, 128, 64, 3, 2, 1, true, false, false, 1, 2>;
    using d128_wide = attention_shape<Element, 128, 64, 2, 3, 1, true, false, false, 1, 4>;
    using d256 = attention_shape<Element, 256, 64, 2, 2, 1, true, false, false, 1, 2>;
    int size = std::max(call.head_size, call.value_size);
    const fovea_cuda_tensor &bias = call.problem->bias;
    auto run = size <= 64                             ? launch_attention<d64>
               : size > 128                           ? launch_attention<d256>
               : bias.data && bias.dtype == FOVEA_F32 ? launch_attention<d128_wide>
                                                      : launch_attention<d128>;
    return run(call, processors, stream);
}

cudaError_t launch_modified(const attention_call &call, bool half, int processors,
                            cudaStream_t stream) {
    return half ? launch<__half>(call, processors, stream)
                : launch<__nv_bfloat16>(call, processors, stream);
}

} /* namespace fovea::hopper */
