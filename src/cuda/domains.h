/* The domains that have kernels for CUDA: the one list of them. */
FOVEA_CUDA_DOMAIN(reductions)
FOVEA_CUDA_DOMAIN(elementwise)
FOVEA_CUDA_DOMAIN(activations)
FOVEA_CUDA_DOMAIN(softmax)
FOVEA_CUDA_DOMAIN(normalization)
FOVEA_CUDA_DOMAIN(attention)
FOVEA_CUDA_DOMAIN(quantization)
