/* The handlers of SIGINT and SIGTERM. */
#include "bench_interrupt.h"

#include <signal.h>
#include <stddef.h>
#include <time.h>

static volatile sig_atomic_t interrupted;
static struct timespec first;

/* The second one ends the process, but not when it is the same one: timeout(1) sends it to the process and to its
 * group. */
static void note(int number) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!interrupted) first = now;
    interrupted = 1;
    if (now.tv_sec - first.tv_sec < 2) return;
    signal(number, SIG_DFL);
    raise(number);
}

void fovea_interrupt_catch(void) {
    struct sigaction action = {.sa_handler = note};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

bool fovea_interrupted(void) { return interrupted != 0; }
