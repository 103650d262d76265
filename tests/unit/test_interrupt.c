/* Interrupts: one request that comes twice ends nothing by force, and what takes long is not waited for
 * beyond a request or a time. The order of the tests matters: a request stays. */
#include "bench_interrupt.h"
#include "test.h"

#include <math.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

static sem_t go_on, left;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void add_one(void *task) { ++*(int *)task; }

static void wait_long(void *task) {
    (void)task;
    sem_wait(&go_on);
    sem_post(&left);
}

static void let_it_end(void) {
    sem_post(&go_on);
    sem_wait(&left);
}

static void it_is_waited_for(void **state) {
    (void)state;
    int runs = 0;
    for (int i = 0; i < 100; i++) assert_true(fovea_interruptibly(add_one, &runs, INFINITY));
    assert_int_equal(runs, 100);
}

static void it_is_abandoned_when_the_time_is_up(void **state) {
    (void)state;
    assert_false(fovea_interruptibly(wait_long, NULL, now() + 0.05));
    assert_false(fovea_interrupted());
    let_it_end();
}

static void *interrupt_soon(void *unused) {
    (void)unused;
    usleep(50000);
    kill(getpid(), SIGINT);
    kill(getpid(), SIGINT);
    return NULL;
}

static void it_is_abandoned_after_an_interrupt(void **state) {
    (void)state;
    pthread_t other;
    assert_int_equal(pthread_create(&other, NULL, interrupt_soon, NULL), 0);
    assert_false(fovea_interruptibly(wait_long, NULL, INFINITY));
    pthread_join(other, NULL);
    assert_true(fovea_interrupted());
    let_it_end();
}

static void nothing_is_begun_after_it(void **state) {
    (void)state;
    int runs = 0;
    assert_false(fovea_interruptibly(add_one, &runs, INFINITY));
    assert_int_equal(runs, 0);
}

int main(void) {
    sem_init(&go_on, 0, 0);
    sem_init(&left, 0, 0);
    fovea_interrupt_catch();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_waited_for),
        cmocka_unit_test(it_is_abandoned_when_the_time_is_up),
        cmocka_unit_test(it_is_abandoned_after_an_interrupt),
        cmocka_unit_test(nothing_is_begun_after_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
