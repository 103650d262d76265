/* What the fuzzers learn from: gcc calls a function at each block of code, and libFuzzer looks at bytes
 * in a section of this name beside its own. The linker's --wrap brings the calls here. */
#include <stdint.h>

enum { BITS = 18 };
__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t counters[1 << BITS];

void __wrap___sanitizer_cov_trace_pc(void); /* NOLINT: the linker's name */
void __sanitizer_cov_trace_cmpf(float a, float b);
void __sanitizer_cov_trace_cmpd(double a, double b);

void __wrap___sanitizer_cov_trace_pc(void) {
    uint64_t place = (uint64_t)(uintptr_t)__builtin_return_address(0);
    uint8_t *counter = &counters[place * UINT64_C(0x9e3779b97f4a7c15) >> (64 - BITS)];
    *counter += *counter < UINT8_MAX;
}

/* Comparisons of floats, which libFuzzer does not learn from. */
void __sanitizer_cov_trace_cmpf(float a, float b) { (void)a, (void)b; }
void __sanitizer_cov_trace_cmpd(double a, double b) { (void)a, (void)b; }
