/* Interrupts: the first SIGINT or SIGTERM asks the tool to finish with what it has, and what takes long
 * is abandoned; another one later ends it at once. */
#ifndef FOVEA_TOOLS_BENCH_INTERRUPT_H
#define FOVEA_TOOLS_BENCH_INTERRUPT_H

#include <stdbool.h>

void fovea_interrupt_catch(void);
bool fovea_interrupted(void);

/* Runs work(task) on another thread and waits for it, but not beyond an interrupt, nor beyond `until`
 * (CLOCK_MONOTONIC, seconds; INFINITY: however long). False: it was abandoned. Then it may be running
 * still, until the process ends, and whatever it uses must stay. */
bool fovea_interruptibly(void (*work)(void *task), void *task, double until);

#endif
