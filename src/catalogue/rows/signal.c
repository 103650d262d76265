/* Domain 10, signal: convolutions and correlations along the last axis, directly and by transforms. */
#include "catalogue/bounds.h"

#define COMMON .domain = "signal", .dtypes = 1u << FOVEA_F32
#define X                                                                                          \
    { .name = "x", .shape = "R..., N" }
#define OUTPUT(letter, extent)                                                                     \
    { .name = letter, .shape = "R..., " extent, .role = FOVEA_OUTPUT }
#define DIRECT                                                                                     \
    .exact_sums = true,                                                                            \
    .bound_text = "M(K) = (8 + sqrt K) eps S, S the sum of the absolute terms",                    \
    .bound = FOVEA_HOOK(fovea_bound_convolution), .check = FOVEA_HOOK(fovea_check_signal)
#define BY_TRANSFORM                                                                               \
    .bound_text = "norm2 of the error 2 eps sqrt(log2(2L)) norm2 of the row; an element 4 eps "    \
                  "log2(2L) norm2 of the one input times norm2 of the other, L the next power of " \
                  "two; of -1, 0 and 1 less than a half",                                          \
    .bound = FOVEA_HOOK(fovea_bound_transformed),                                                  \
    .norm_bound = FOVEA_HOOK(fovea_norm_bound_transformed),                                        \
    .check = FOVEA_HOOK(fovea_check_signal)
#define LENGTHS "N=1023 1 2 3 31 33 64 65 256 1000 4097 12007"
#define TAPS "K=32 1 2 3 4 5 17 33 65 100 256"

const fovea_kernel fovea_rows_signal[] = {
    {60, "conv1d", COMMON,
     .definition = "y_i = sum_k h_k x_(i-P+k), x = 0 outside; P = 0 for valid, "
                   "floor(K/2) for same, K-1 for full",
     .remarks =
         "As in neural networks h is not reversed. For even K, same pads K/2 on the left and "
         "K/2 - 1 on the right; PyTorch puts the odd element on the right.",
     .arguments = {X, {.name = "h", .shape = "K"}, OUTPUT("y", "M")},
     .parameters = {{"mode", FOVEA_CHOICE, 1, "valid,same,full",
                     "N-K+1 outputs without padding, N, or N+K-1"}},
     .derived = "M=N+(K-1)*(mode-1)", .operations = "2*R*N*K", .bytes = "s*R*(N+M)",
     .bench = "R=1,N=N,K=32", .check_values = LENGTHS ";" TAPS, DIRECT},
    {61, "window_apply", COMMON,
     .definition =
         "y_i = x_i w_i, a = 2 pi i/(N-1); hann: w = 0.5 - 0.5 cos a; hamming: 0.54 - 0.46 "
         "cos a; blackman: 0.42 - 0.5 cos a + 0.08 cos 2a; 1 where N = 1",
     .remarks = "These windows are symmetric; PyTorch's and scipy.signal.get_window's are periodic "
                "by default.",
     .arguments = {X, OUTPUT("y", "N")},
     .parameters = {{"window", FOVEA_CHOICE, 0, "hann,hamming,blackman", "which"}},
     .operations = "5*R*N", .bytes = "2*s*R*N", .bench = "R=1,N=N", .bound_text = "4 eps |x|",
     .bound = FOVEA_HOOK(fovea_bound_window), .elementwise = true},
    {62, "fir_filter", COMMON, .definition = "y_i = sum_k b_k x_(i-k), x = 0 before the start",
     .arguments = {X, {.name = "b", .shape = "K"}, OUTPUT("y", "N")}, .operations = "2*R*N*K",
     .bytes = "2*s*R*N", .bench = "R=1,N=N,K=32", .check_values = LENGTHS ";" TAPS, DIRECT},
    {63, "fft_conv1d", COMMON, .definition = "y_i = sum_k h_k x_(i-k), i < N, by fast transforms",
     .arguments = {X, {.name = "h", .shape = "K"}, OUTPUT("y", "N")},
     .operations = "R*(7.5*power2(N+K-1)*log2(power2(N+K-1))+3*power2(N+K-1))", .bytes = "2*s*R*N",
     .bench = "R=1,N=N,K=256", .check_values = LENGTHS ";" TAPS, BY_TRANSFORM},
    {64, "autocorrelation", COMMON, .definition = "r_l = sum_i x_i x_(i+l), l = 0 ... N-1",
     .arguments = {X, OUTPUT("r", "N")},
     .operations = "R*(5*power2(2*N)*log2(power2(2*N))+1.5*power2(2*N))", .bytes = "2*s*R*N",
     .bench = "R=1,N=N", .check_values = LENGTHS, BY_TRANSFORM},
    {65, "cross_correlation", COMMON,
     .definition = "r_j = sum_i x_(i+l) y_i, l = j - (M-1), j = 0 ... N+M-2",
     .arguments = {X, {.name = "y", .shape = "R..., M"}, OUTPUT("r", "L")}, .derived = "L=N+M-1",
     .operations = "R*(7.5*power2(L)*log2(power2(L))+3*power2(L))", .bytes = "s*R*(N+M+L)",
     .bench = "R=1,N=max(1,floor(N/1000)),M=max(1,floor(N/1000))",
     .check_values = LENGTHS ";M=1 2 3 31 64 65 257", BY_TRANSFORM},
    {0}};
