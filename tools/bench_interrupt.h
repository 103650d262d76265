/* Interrupts: the first SIGINT or SIGTERM asks the tool to finish with what it has, a second one ends
 * it at once. */
#ifndef FOVEA_TOOLS_BENCH_INTERRUPT_H
#define FOVEA_TOOLS_BENCH_INTERRUPT_H

#include <stdbool.h>

void fovea_interrupt_catch(void);
bool fovea_interrupted(void);

#endif
