/* The domains of the catalogue, in the order of their numbers: the one list of them. */
FOVEA_DOMAIN(reductions)
FOVEA_DOMAIN(elementwise)
FOVEA_DOMAIN(activations)
FOVEA_DOMAIN(softmax)
FOVEA_DOMAIN(normalization)
FOVEA_DOMAIN(attention)
FOVEA_DOMAIN(prng)
FOVEA_DOMAIN(quantization)
