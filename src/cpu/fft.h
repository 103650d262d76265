/* Fast Fourier transforms for the kernels that need them: plans by length, found again in the context,
 * and the runs over them for both precisions.
 *
 * Of 2^20 c64 with 16 lanes: 1024 x 1024, each column in passes of 4, 4, 8, 8; about 46 vector
 * operations for 8 vectors and 3 levels, 0.65 ms of one core at 3.8 GHz; 8 MiB in, 16 MiB there and
 * back between the steps, and 8 MiB out take longer than that. Measured on Zen 5: 2.87 ms by one core,
 * 1.44 by two, 73 GFLOP/s; beside them PyTorch 3.76, SciPy 12.3 and NumPy 35.5 ms. 1024: 0.6 us; 10^6:
 * 1.6 ms (PyTorch 3.4); 10^7: 22 ms (PyTorch 111). A real transform of 10^6: 0.37 ms (PyTorch 5.3).
 * Twiddles between the steps are products of two tables: one table of all would be 8 MiB more. */
#ifndef FOVEA_CPU_FFT_H
#define FOVEA_CPU_FFT_H

#include "cpu/fft_plan.h"
#include "cpu/threads.h"

#define ELEMENT float
#define VECTOR vf
#define WIDTH VF_WIDTH
#include "cpu/fft_runs.h"

#define ELEMENT double
#define VECTOR vd
#define WIDTH VD_WIDTH
#include "cpu/fft_runs.h"

/* Whose plans these are: of the tier too, since vectors differ. */
enum { FFT_PLANS = 0x666674 };

/* The plan of complex transforms of n numbers, made or found; NULL if memory is short. scratch: of
 * fft_scratch(n, part, 1) numbers. */
static const fft_plan *fft_find_plan(fovea_run *run, int64_t n, int only, bool real,
                                     fovea_dtype part, void *scratch) {
    fovea_plan_key key = {{FFT_PLANS + ((uint64_t)FOVEA_TIER_HERE << 32), (uint64_t)n,
                           (uint64_t)only, (uint64_t)part << 1 | real}};
    fft_plan *plan = fovea_plan_find(run->plans, &key), counted;
    if (plan) return plan;
    fft_arena arena = {0};
    fft_take(&arena, 1, sizeof(fft_plan));
    fft_lay_out(&counted, n, only, real, part, &arena);
    plan = fovea_plan_make(run->plans, &key, arena.used);
    if (!plan) return NULL;
    arena = (fft_arena){.memory = (char *)plan};
    fft_take(&arena, 1, sizeof(fft_plan));
    fft_lay_out(plan, n, only, real, part, &arena);
    if (plan->circle && part == FOVEA_F64) fft_make_filter_double(plan, scratch);
    if (plan->circle && part == FOVEA_F32) fft_make_filter_float(plan, scratch);
    return plan;
}

/* Work of a transform in bytes of traffic, for the choice of threads: three passes over memory. */
static inline int64_t fft_work(int64_t n, fovea_dtype part) {
    return 6 * n * (int64_t)fovea_dtype_size(part);
}

#endif
