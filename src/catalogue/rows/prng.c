/* Domain 14, prng: the words of a counter-based generator and what is made of them. Element i follows
 * from i, seed and stream alone. */
#include "catalogue/bounds.h"

#define COMMON(dtype_set)                                                                          \
    .domain = "prng", .dtypes = dtype_set,                                                         \
    .arguments = {{.name = "y", .shape = "N...", .role = FOVEA_OUTPUT}}, .bytes = "s*N",           \
    .bench = "N=N", .check_values = FOVEA_CHECK_KEYS,                                              \
    .source = "Salmon, Moraes, Dror and Shaw, Parallel random numbers: as easy as 1, 2, 3, 2011",  \
    .remarks =                                                                                     \
        "Elements are numbered in row-major order. w_i is word i mod 4 of the Philox4x32-10 "      \
        "block with counter (low and high word of floor(i/4), of stream) and key seed; seed "      \
        "and stream are taken as 64 bits without a sign."
#define SEED                                                                                       \
    { "seed", FOVEA_INTEGER, 0, NULL, "the key" }
#define STREAM                                                                                     \
    { "stream", FOVEA_INTEGER, 0, NULL, "another sequence of the same seed" }

const fovea_kernel fovea_rows_prng[] = {
    {84, "prng_philox", COMMON(1u << FOVEA_U32), .definition = "y_i = w_i",
     .parameters = {SEED, STREAM}, .operations = "20*N", .bound_text = "exact"},
    {85, "prng_uniform", COMMON(1u << FOVEA_F32 | 1u << FOVEA_F64),
     .definition = "y_i = floor(w_i/2^8) 2^-24; f64: floor((w_2i + 2^32 w_(2i+1))/2^11) 2^-53; in "
                   "[0, 1)",
     .parameters = {SEED, STREAM}, .operations = "(1+21*s/4)*N", .bound_text = "exact"},
    {86, "prng_normal", COMMON(1u << FOVEA_F32),
     .definition = "y_2j = r cos(2 pi v), y_(2j+1) = r sin(2 pi v), r = sqrt(-2 ln u), u = "
                   "(floor(w_2j/2^8) + 1) 2^-24, v = floor(w_(2j+1)/2^8) 2^-24",
     .parameters = {SEED, STREAM}, .operations = "27*N", .bound_text = "4 ULP",
     .bound = FOVEA_HOOK(fovea_bound_ulp), .bound_factor = 4},
    {87, "prng_dropout_mask", COMMON(1u << FOVEA_U8),
     .definition = "y_i = 1 if the f32 uniform i is below keep, else 0",
     .parameters = {{"keep", FOVEA_REAL, 0.9, NULL, "the part of ones, rounded to f32"},
                    SEED,
                    STREAM},
     .operations = "23*N", .bound_text = "exact"},
    {0}};
