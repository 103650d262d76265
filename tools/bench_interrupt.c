/* The handlers of SIGINT and SIGTERM. */
#include "bench_interrupt.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t interrupted;

static void note(int number) {
    interrupted = 1;
    signal(number, SIG_DFL);
}

void fovea_interrupt_catch(void) {
    struct sigaction action = {.sa_handler = note};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

bool fovea_interrupted(void) { return interrupted != 0; }
