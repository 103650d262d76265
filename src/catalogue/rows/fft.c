/* Domain 9, fft: discrete Fourier transforms along the last axis, in natural order, and power. */
#include "catalogue/bounds.h"

#define COMPLEX (1u << FOVEA_C64 | 1u << FOVEA_C128)
#define REAL (1u << FOVEA_F32 | 1u << FOVEA_F64)
#define LENGTHS                                                                                    \
    "N=1 2 3 4 5 7 8 9 12 16 27 31 32 49 64 100 128 243 256 1000 1023 1024 1331 2048 4096 4099 "   \
    "5040 10007 16384 27720"
#define BOUND                                                                                      \
    .bound_text =                                                                                  \
        "norm2 of the error eps sqrt(log2(2N)) norm2 of the row; a bin 2 eps log2(2N) "            \
        "max(norm2 of the input, largest bin), the inverse over N; 4 times that where N "          \
        "has prime factors above 7",                                                               \
    .bound = FOVEA_HOOK(fovea_bound_fft), .norm_bound = FOVEA_HOOK(fovea_norm_bound_fft),          \
    .check = FOVEA_HOOK(fovea_check_fft), .check_values = LENGTHS

const fovea_kernel fovea_rows_fft[] = {
    {0, "fft", .domain = "fft", .dtypes = COMPLEX,
     .definition =
         "forward: Z_k = sum_j z_j e^(-2 pi i j k/N); inverse: z_j = 1/N sum_k Z_k e^(2 pi "
         "i j k/N)",
     .remarks = "Any N from 1 on: factors 2, 3, 5 and 7 directly, others by Bluestein's transform. "
                "Input that is not finite gives output that is not.",
     .arguments = {{.name = "z", .shape = "R..., N"},
                   {.name = "Z", .shape = "R..., N", .role = FOVEA_OUTPUT}},
     .parameters = {{"direction", FOVEA_CHOICE, 0, "forward,inverse", "the inverse divides by N"},
                    {"radix", FOVEA_CHOICE, 0, "mixed,two,four",
                     "of all stages; two and four refuse lengths that are not their powers"}},
     .operations = "5*R*N*log2(N)", .bytes = "2*s*R*N", .bench = "R=1,N=N",
     .presets = {{55, "fft_radix2", "radix=two", "R=1,N=1048576",
                  "The transform by radix-2 stages; N is a power of 2."},
                 {56, "fft_radix4", "radix=four", "R=1,N=1048576",
                  "The transform by radix-4 stages; N is a power of 4."},
                 {57, "ifft", "direction=inverse", "R=1,N=1048576", "The inverse transform."}},
     BOUND},
    {58, "spectral_power", .domain = "fft", .dtypes = COMPLEX,
     .definition = "P = re(Z)^2 + im(Z)^2",
     .arguments =
         {{.name = "Z", .shape = "N..."},
          {.name = "P", .shape = "N...", .role = FOVEA_OUTPUT, .dtypes = FOVEA_PART_OF_CALL}},
     .operations = "3*N", .bytes = "s*N+P*N", .bench = "N=floor(N/2)+1", .bound_text = "3 ULP",
     .bound = FOVEA_HOOK(fovea_bound_ulp), .bound_factor = 3},
    {59, "fft_real", .domain = "fft", .dtypes = REAL,
     .definition = "X_k = sum_j x_j e^(-2 pi i j k/N), k = 0 ... floor(N/2)",
     .arguments =
         {{.name = "x", .shape = "R..., N"},
          {.name = "X", .shape = "R..., M", .role = FOVEA_OUTPUT, .dtypes = FOVEA_COMPLEX_OF_CALL}},
     .derived = "M=floor(N/2)+1", .operations = "2.5*R*N*log2(N)", .bytes = "s*R*N+X*R*M",
     .bench = "R=1,N=N", BOUND},
    {0}};
