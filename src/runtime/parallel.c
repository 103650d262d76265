/* Threads that come and go with a call, on one atomic counter. */
#include "runtime/parallel.h"

#include <pthread.h>
#include <stdatomic.h>

enum { THREADS_MAX = 64 };

typedef struct team {
    _Atomic int64_t next;
    int64_t count, step;
    fovea_parallel_function *run;
    void *task;
} team;

typedef struct member {
    team *team;
    int number;
} member;

static void *work(void *argument) {
    const member *m = argument;
    team *t = m->team;
    for (int64_t first; (first = atomic_fetch_add(&t->next, t->step)) < t->count;)
        t->run(t->task, first, t->count - first < t->step ? t->count : first + t->step, m->number);
    return NULL;
}

void fovea_parallel(int64_t count, int64_t step, int threads, fovea_parallel_function *run,
                    void *task) {
    team t = {.count = count, .step = step, .run = run, .task = task};
    member members[THREADS_MAX];
    pthread_t handles[THREADS_MAX];
    int begun = 1;
    if (threads > THREADS_MAX) threads = THREADS_MAX;
    for (int i = 0; i < threads || i == 0; i++) members[i] = (member){&t, i};
    while (begun < threads && begun < count &&
           pthread_create(&handles[begun], NULL, work, &members[begun]) == 0)
        begun++; /* fewer where the system gives no more */
    work(&members[0]);
    for (int i = 1; i < begun; i++) pthread_join(handles[i], NULL);
}
