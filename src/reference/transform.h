/* The discrete Fourier transform of any length in long double, for the references of domains 9 and 10. */
#ifndef FOVEA_REFERENCE_TRANSFORM_H
#define FOVEA_REFERENCE_TRANSFORM_H

#include <stdbool.h>
#include <stdint.h>

typedef struct fovea_complex {
    long double re, im;
} fovea_complex;

/* z_k becomes sum_j z_j e^(sign 2 pi i j k / n); nothing is divided. False if memory is short. */
bool fovea_reference_transform(fovea_complex *z, int64_t n, int sign);

#endif
