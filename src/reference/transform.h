/* The discrete Fourier transform of any length, for the references of domains 9 and 10. */
#ifndef FOVEA_REFERENCE_TRANSFORM_H
#define FOVEA_REFERENCE_TRANSFORM_H

#include <stdbool.h>
#include <stdint.h>

/* z_k becomes sum_j z_j e^(sign 2 pi i j k / n), each number a real and an imaginary part; nothing is
 * divided. wide: in long double, for data in double; else in double, for data in float, which takes a tenth
 * of the time. False if memory is short. */
bool fovea_reference_transform(double *z, int64_t n, int sign, bool wide);

#endif
