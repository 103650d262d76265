/* Shapes for batches whose sequences differ: blocks of 64 keys, which divide pages, and registers enough
 * for what a tile must know of its sequence. */
#include "cuda/attention/hopper_varied.h"

namespace fovea::hopper {

template <class Element>
static cudaError_t launch(const attention_call &call, int processors, cudaStream_t stream) {
    /*                                      head keys    groups K/V Q turns trusting varied */
    using d64 = attention_shape<Element, 64, varied_keys, 3, 4, 6, true, true, true>;
    using d128 = attention_shape<Element, 128, varied_keys, 3, 4, 6, true, true, true>;
    using d256 = attention_shape<Element, 256, varied_keys, 2, 2, 3, true, false, true>;
    int size = std::max(call.head_size, call.value_size);
    auto run = size <= 64    ? launch_attention<d64>
               : size <= 128 ? launch_attention<d128>
                             : launch_attention<d256>;
    return run(call, processors, stream);
}

cudaError_t launch_varied(const attention_call &call, bool half, int processors,
                          cudaStream_t stream) {
    return half ? launch<__half>(call, processors, stream)
                : launch<__nv_bfloat16>(call, processors, stream);
}

} /* namespace fovea::hopper */
