/* What NVIDIA's management library says of a device while it works: clocks, power, temperature, memory,
 * and why the clocks are held back. Loaded where it is; nothing of it is needed to build. */
#ifndef FOVEA_TOOLS_NVML_H
#define FOVEA_TOOLS_NVML_H

#include <stdbool.h>
#include <stddef.h>

/* Of a span of time. NaN and 0: unknown. */
typedef struct fovea_nvml_span {
    double sm_clock, memory_clock; /* Hz, the lowest seen */
    double power;                  /* watts, the highest seen */
    double temperature;            /* degrees Celsius, the highest seen */
    unsigned long long reasons;    /* every reason for lower clocks that was seen, NVML's bits */
    int looks;
} fovea_nvml_span;

/* bus: the device's PCI address. False: why it is not to be had stands in `reason`. */
bool fovea_nvml_open(const char *bus, char *reason, size_t size);
void fovea_nvml_close(void);

double fovea_nvml_power_limit(void); /* watts; NaN */
double fovea_nvml_used_memory(void); /* bytes of the device, everybody's; NaN */

/* A thread looks every few milliseconds from begin to end. What it has seen between two moments of
 * CLOCK_MONOTONIC, or nearest to them, makes a span; of the last seconds, and after the end too. Without
 * NVML nothing is seen. */
void fovea_nvml_begin(void);
void fovea_nvml_end(void);
void fovea_nvml_between(double from, double to, fovea_nvml_span *span);

/* Whether clocks were held back by power or heat; idleness and settings of an application are no
 * throttling. */
bool fovea_nvml_throttled(unsigned long long reasons);
/* "power cap, heat"; "" for none. */
const char *fovea_nvml_reasons_text(unsigned long long reasons, char *text, size_t size);

#endif
