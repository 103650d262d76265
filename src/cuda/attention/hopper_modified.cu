/* Shapes for scores that are modified: blocks of 64 keys, so that a thread's rows of a bias find registers, and room
 * for a tile of the bias behind every block of keys; and for dropout. */
#include "cuda/attention/hopper_modified.h"

namespace fovea::hopper {

/* Dropout, for which warpgroups of their own draw: alone, which leaves scores as they are, or with other options. */
template <class Element>
static cudaError_t launch_dropout(const attention_call &call, int processors, cudaStream_t stream) {
    /*                            head keys groups K/V Q turns trusting varied planes option drawers */
    using d64 = attention_shape<Element, 64, 128, 2, 2, 4, true, true, false, 1, 0, 2>;
    using d128 = attention_shape<Element, 128, 64, 2, 4, 4, true, true, false, 1, 0, 2>;
    using d256 = attention_shape<Element, 256, 64, 2, 2, 2, true, false, false, 1, 0, 1>;
    using d64_more = attention_shape<Element, 64, 64, 3, 3, 3, true, false, false, 1, 4, 1>;
    using d128_more = attention_shape<Element, 128, 64, 2, 2, 2, true, false, false, 1, 4, 1>;
    const fovea_cuda_attention *a = call.problem;
    int size = std::max(call.head_size, call.value_size);
    bool more = a->mask.data || a->bias.data || a->slopes || a->softcap < INFINITY;
    auto run = size > 128  ? launch_attention<d256>
               : size > 64 ? more ? launch_attention<d128_more> : launch_attention<d128>
               : more ? launch_attention<d64_more>
                           : launch_attention<d64>;
    return run(call, processors, stream);
}

template <class Element>
static cudaError_t launch(const attention_call &call, int processors, cudaStream_t stream) {
    /*                            head keys groups K/V Q turns trusting varied planes option */
    using d64 = attention_shape<Element, 64, 64, 3, 3, 3, true, false, false, 1, 4>;
    using d128 = attention_shape<Element, 128, 64, 3, 2, 3, true, false, false, 1, 2>;
    using d128_wide = attention_shape<Element, 128, 64, 2, 3, 2, true, false, false, 1, 4>;
    using d256 = attention_shape<Element, 256, 64, 2, 2, 2, true, false, false, 1, 2>;
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
    if (call.problem->keep < 1)
        return half ? launch_dropout<__half>(call, processors, stream)
                    : launch_dropout<__nv_bfloat16>(call, processors, stream);
    return half ? launch<__half>(call, processors, stream)
                : launch<__nv_bfloat16>(call, processors, stream);
}

} /* namespace fovea::hopper */
