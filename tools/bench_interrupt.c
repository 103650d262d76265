/* The handlers of SIGINT and SIGTERM, and calls that are waited for no longer than anybody wants. */
#include "bench_interrupt.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

static volatile sig_atomic_t interrupted;
static struct timespec interrupted_at;

static double seconds_of(const struct timespec *t) {
    return (double)t->tv_sec + 1e-9 * (double)t->tv_nsec;
}

static struct timespec now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t;
}

/* timeout(1) signals a program and then its group, so that one request comes twice. */
static void note(int number) {
    const double one_request = 0.5;
    struct timespec at = now();
    if (!interrupted) {
        interrupted_at = at;
        interrupted = 1;
    } else if (seconds_of(&at) - seconds_of(&interrupted_at) > one_request) {
        signal(number, SIG_DFL);
        raise(number);
    }
}

void fovea_interrupt_catch(void) {
    struct sigaction action = {.sa_handler = note};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

bool fovea_interrupted(void) { return interrupted != 0; }

/* ---- Calls that may be abandoned ------------------------------------------------------------ */

/* Freed by whoever is the last to look at it. */
typedef struct errand {
    void (*work)(void *task);
    void *task;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done, abandoned;
} errand;

static void discard(errand *e) {
    pthread_mutex_destroy(&e->lock);
    pthread_cond_destroy(&e->changed);
    free(e);
}

static void *run(void *argument) {
    errand *e = argument;
    e->work(e->task);
    pthread_mutex_lock(&e->lock);
    bool abandoned = e->abandoned;
    e->done = true;
    pthread_cond_signal(&e->changed);
    pthread_mutex_unlock(&e->lock);
    if (abandoned) discard(e);
    return NULL;
}

/* Signals are for the thread that waits; it looks for them so often. */
static bool wait_for(errand *e, double until) {
    const long look = 20000000; /* nanoseconds */
    pthread_mutex_lock(&e->lock);
    while (!e->done && !interrupted) {
        struct timespec at = now();
        if (seconds_of(&at) >= until) break;
        at.tv_nsec += look;
        if (at.tv_nsec >= 1000000000) at.tv_nsec -= 1000000000, at.tv_sec++;
        pthread_cond_timedwait(&e->changed, &e->lock, &at);
    }
    bool done = e->done;
    e->abandoned = !done;
    pthread_mutex_unlock(&e->lock);
    return done;
}

static errand *prepare(void (*work)(void *task), void *task) {
    pthread_condattr_t clock;
    errand *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    *e = (errand){.work = work, .task = task};
    pthread_mutex_init(&e->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&e->changed, &clock);
    pthread_condattr_destroy(&clock);
    return e;
}

bool fovea_interruptibly(void (*work)(void *task), void *task, double until) {
    pthread_t thread;
    if (interrupted) return false;
    errand *e = prepare(work, task);
    if (!e || pthread_create(&thread, NULL, run, e) != 0) {
        if (e) discard(e);
        work(task); /* no memory, no thread: then it has to be waited for */
        return true;
    }
    bool done = wait_for(e, until);
    if (done)
        pthread_join(thread, NULL);
    else
        pthread_detach(thread);
    if (done) discard(e);
    return done;
}
