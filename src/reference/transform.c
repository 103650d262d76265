/* The transform by its definition, taken apart at the smallest factor of the length; prime lengths
 * beyond a few dozen by Bluestein's convolution (A linear filtering approach to the computation of
 * discrete Fourier transform, 1970). */
#include "reference/transform.h"

#include <math.h>
#include <stdlib.h>

enum { DIRECT_PRIME = 64 };

static int64_t smallest_factor(int64_t n) {
    for (int64_t f = 2; f * f <= n; f++)
        if (n % f == 0) return f;
    return n;
}

#define REAL double
#define COSINE cos
#define SINE sin
#define OF_REAL(name) name##_double
#include "reference/transform_runs.h"

#define REAL long double
#define COSINE cosl
#define SINE sinl
#define OF_REAL(name) name##_wide
#include "reference/transform_runs.h"

_Static_assert(sizeof(number_double) == 2 * sizeof(double), "two doubles are a number");

bool fovea_reference_transform(double *z, int64_t n, int sign, bool wide) {
    if (!wide) return transform_all_double((number_double *)(void *)z, n, sign);
    number_wide *numbers = malloc((size_t)n * sizeof *numbers);
    bool enough = numbers != NULL;
    for (int64_t j = 0; enough && j < n; j++)
        numbers[j] = (number_wide){(long double)z[2 * j], (long double)z[2 * j + 1]};
    enough = enough && transform_all_wide(numbers, n, sign);
    for (int64_t j = 0; enough && j < n; j++)
        z[2 * j] = (double)numbers[j].re, z[2 * j + 1] = (double)numbers[j].im;
    free(numbers);
    return enough;
}
