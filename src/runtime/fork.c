/* A team of GNU's OpenMP waits for work between regions. Of its threads a forked child has only the one
 * that forked, whose record of the team is copied all the same: the child's next region waits for
 * threads that do not exist. So the team of a thread that forks is dissolved before (its threads end
 * and are joined); parent and child then start new ones when they need them, some 50 microseconds
 * each. Teams of other threads stay: those threads are not in the child. LLVM's runtime sees to forks
 * by itself. */
#include "runtime/fork.h"

#include <pthread.h>

#if defined(_OPENMP) && !defined(__clang__)
    #include <omp.h>

static void dissolve_team(void) {
    if (!omp_in_parallel()) omp_pause_resource_all(omp_pause_soft);
}

static void prepare(void) { pthread_atfork(dissolve_team, NULL, NULL); }
#else
static void prepare(void) {}
#endif

void fovea_prepare_for_forks(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, prepare);
}
