/* The time stamp counter where the processor says that it never changes its rate, the generic timer
 * on Arm, else the system's monotonic clock in nanoseconds. */
#include "runtime/clock.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#if defined(__x86_64__)
    #include <cpuid.h>
    #include <x86intrin.h>
#endif

static uint64_t system_nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#if defined(__x86_64__)
static bool counter_is_even(void) {
    enum { invariant = 1 << 8 };
    unsigned a, b, c, d;
    return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & invariant);
}

uint64_t fovea_ticks(void) {
    /* Both values are the same whoever writes them, so a race changes nothing. */
    static atomic_int even; /* 0: not known, 1: yes, 2: no */
    int known = atomic_load_explicit(&even, memory_order_relaxed);
    if (known == 0) {
        known = counter_is_even() ? 1 : 2;
        atomic_store_explicit(&even, known, memory_order_relaxed);
    }
    return known == 1 ? __rdtsc() : system_nanoseconds();
}
#elif defined(__aarch64__)
uint64_t fovea_ticks(void) {
    uint64_t count;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(count));
    return count;
}
#else
uint64_t fovea_ticks(void) { return system_nanoseconds(); }
#endif

fovea_epoch fovea_epoch_now(void) {
    return (fovea_epoch){fovea_ticks(), 1e-9 * (double)system_nanoseconds()};
}

double fovea_tick_seconds(const fovea_epoch *epoch) {
    fovea_epoch now;
    do now = fovea_epoch_now();
    while (now.seconds - epoch->seconds < 1e-4 || now.ticks <= epoch->ticks);
    return (now.seconds - epoch->seconds) / (double)(now.ticks - epoch->ticks);
}
