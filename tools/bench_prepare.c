/* Tensors and references of cases, made by threads of their own. A slot is a part of the shared memory and
 * what stands in it; threads fill free slots with the cases in their order. */
#define _GNU_SOURCE
#include "bench_prepare.h"

#include "bench_interrupt.h"
#include "catalogue/attention.h"
#include "runtime/processor.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { SETS_MAX = 64, SAMPLED_ROWS = 64, MAKERS_MAX = 14, SLOTS_MAX = 16 };
static const size_t mapping_bytes = (size_t)1 << 37; /* of address space */
/* Nothing is prepared ahead of its turn while less of the machine's memory is free. */
static const double free_share = 0.3;

/* ---- Tensors -------------------------------------------------------------------------------- */

static void *give_out(void *user, size_t bytes, int argument) {
    fovea_prepared *p = user;
    /* Pages of their own, and off one another's place in the cache's sets. */
    size_t offset = (p->used + 4095) / 4096 * 4096 + 256 * (size_t)(argument % 8);
    size_t end = offset + bytes + 64;
    if (end > p->room || (double)bytes > fovea_available_bytes()) return NULL;
    p->used = end;
    return p->run->mapping + p->first + offset;
}

static void take_back(void *user, void *memory, size_t bytes, int argument) {
    (void)user, (void)memory, (void)bytes, (void)argument;
}

/* All of the address space at once; pages come with their first use. */
static bool need_mapping(fovea_bench_run *run) {
    if (run->mapping) return true;
    if (ftruncate(run->memory, (off_t)mapping_bytes) != 0) return false;
    void *mapping = mmap(NULL, mapping_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                         run->memory, 0);
    if (mapping != MAP_FAILED) run->mapping = mapping;
    return mapping != MAP_FAILED;
}

/* Enough sets of tensors that the last-level cache holds little of what a call meets, where calls are to be
 * cold: outputs past the caches and tensors in place take less of it than their bytes. */
static int set_count(const fovea_prepared *p) {
    double cache = (double)fovea_processor_get()->l3_bytes;
    bool rotates = p->c->cold && fovea_bench_on(p->run, FOVEA_ON_CPU);
    double bytes = fovea_problem_bytes(&p->samples[0].problem);
    double wanted = rotates ? ceil(8 * cache / fmax(bytes, 1)) : 1;
    return wanted > SETS_MAX ? SETS_MAX : wanted < 1 ? 1 : (int)wanted;
}

static bool fail(fovea_prepared *p, const char *why) {
    snprintf(p->problem, sizeof p->problem, "%s", why);
    return false;
}

/* A gradient's out and lse are what attention gives for its other inputs. */
static bool give_forward_results(fovea_prepared *p, fovea_sample *sample) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the context */
    fovea_context *context = p->run->context;
    fovea_attention_options forward_options, *options = &forward_options;
    fovea_problem forward;
    if (!fovea_is_backward(sample->problem.kernel)) return true;
    fovea_backward_forward(&sample->problem, &forward, options);
    struct {
        int argument;
        const DLTensor **field;
    } tensors[] = {{FOVEA_ATTENTION_MASK, &options->mask},
                   {FOVEA_ATTENTION_BIAS, &options->bias},
                   {FOVEA_ATTENTION_SLOPES, &options->slopes},
                   {FOVEA_ATTENTION_SINKS, &options->sinks},
                   {FOVEA_ATTENTION_CU_SEQLENS_Q, &options->cu_seqlens_q},
                   {FOVEA_ATTENTION_CU_SEQLENS_K, &options->cu_seqlens_k},
                   {FOVEA_ATTENTION_SEQUSED_K, &options->seqused_k}};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        if (sample->present >> tensors[i].argument & 1)
            *tensors[i].field = &sample->tensors[tensors[i].argument];
    options->lse = &sample->tensors[FOVEA_ATTENTION_LSE];
    pthread_mutex_lock(&lock);
    fovea_use(context, "attention", NULL);
    bool good =
        fovea_attention(context, &sample->tensors[FOVEA_ATTENTION_Q],
                        &sample->tensors[FOVEA_ATTENTION_K], &sample->tensors[FOVEA_ATTENTION_V],
                        &sample->tensors[FOVEA_ATTENTION_OUT], options) == FOVEA_OK;
    if (!good) fail(p, fovea_last_message(context));
    pthread_mutex_unlock(&lock);
    return good;
}

static bool make_samples(fovea_prepared *p) {
    fovea_case_memory memory = {give_out, take_back, p};
    fovea_message message;
    p->samples = calloc(SETS_MAX, sizeof *p->samples);
    int wanted = 1;
    if (!p->samples) return fail(p, "no memory for its tensors");
    for (; p->sets < wanted; p->sets++) {
        fovea_sample *sample = &p->samples[p->sets];
        fovea_status status =
            p->sets ? fovea_sample_copy(&p->samples[0], &memory, sample, &message)
                    : fovea_sample_create(&p->c->definition, &memory, sample, &message);
        if (status != FOVEA_OK) return fail(p, message.text);
        if (p->sets == 0 && !give_forward_results(p, sample)) return p->sets++, false;
        if (p->sets == 0) wanted = set_count(p);
    }
    return true;
}

/* ---- What is to come out -------------------------------------------------------------------- */

/* Fewer rows of attention over very many keys, so that the reference takes tenths of a second: at 16384
 * keys of 64 it took 0.7 s for 64 rows. The first ones are beside tile edges. */
static int64_t sampled_rows(const fovea_problem *problem) {
    if (strcmp(problem->kernel->name, "attention") != 0) return SAMPLED_ROWS;
    double row = (double)fovea_problem_extent(problem, "Sk") *
                 (double)(fovea_problem_extent(problem, "D") + fovea_problem_extent(problem, "Dv"));
    return (int64_t)fmin(SAMPLED_ROWS, fmax(8, 4e7 / fmax(row, 1)));
}

/* Of all of it, of some rows of attention, or of slices of what is very large. */
static bool make_expected(fovea_prepared *p) {
    const fovea_sample *sample = &p->samples[0];
    const fovea_problem *problem = &sample->problem;
    uint64_t seed = p->c->definition.seed + 1;
    if (fovea_problem_bytes(problem) > p->run->whole_bytes && fovea_slices_apply(sample))
        p->slices = fovea_slices_create(sample, seed);
    else
        p->expected = fovea_verification_create(problem, sampled_rows(problem), seed);
    return p->expected || p->slices || fail(p, "no memory for the reference");
}

/* ---- Slots ---------------------------------------------------------------------------------- */

typedef enum slot_state { FREE, IN_THE_MAKING, READY, TAKEN, SPENT } slot_state;

typedef struct slot {
    fovea_prepared prepared; /* the first member: what is given out is a slot */
    slot_state state;
} slot;

/* Of the one run that there is. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t makers[MAKERS_MAX];
    int maker_count, slot_count, working;
    slot slots[SLOTS_MAX];
    fovea_bench_run *run;
    int next, wanted; /* cases: the one to prepare next, the one that is waited for */
    bool ahead, ended, paused;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void make(slot *s, const fovea_bench_run *run, const fovea_bench_case *c) {
    fovea_prepared *p = &s->prepared;
    *p = (fovea_prepared){.run = run, .c = c, .first = p->first, .room = p->room};
    if (make_samples(p)) make_expected(p);
}

/* Pages of the shared memory are kept for the next case of the slot, where all slots together take little of the
 * machine: at 10^8 elements getting new ones took as long as drawing the numbers, and where calls are cold on a processor
 * with a large last cache half of the time. Else they go back. */
static bool keeps_pages(const fovea_prepared *p) {
    const double kept_share = 0.3;
    double all = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    return (double)p->used * pool.slot_count < kept_share * all;
}

static void clear(slot *s) {
    fovea_prepared *p = &s->prepared;
    fovea_verification_destroy(p->expected);
    fovea_slices_destroy(p->slices);
    for (int i = 0; i < p->sets; i++) fovea_sample_destroy(&p->samples[i]);
    free(p->samples);
    if (p->used && !keeps_pages(p) &&
        fallocate(p->run->memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)p->first,
                  (off_t)p->used) != 0)
        memset(p->run->mapping + p->first, 0, p->used);
    p->samples = NULL;
}

static slot *find_slot(slot_state state) {
    for (int i = 0; i < pool.slot_count; i++)
        if (pool.slots[i].state == state) return &pool.slots[i];
    return NULL;
}

static bool may_begin(void) {
    if (pool.next >= pool.run->case_count) return false;
    if (pool.next <= pool.wanted) return true;
    return pool.ahead && fovea_available_share() > free_share;
}

static void wait_for_a_change(void) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 20000000; /* memory and interrupts are looked at then */
    until.tv_sec += until.tv_nsec / 1000000000, until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&pool.changed, &pool.lock, &until);
}

/* With the lock: one piece of work, if there is any. */
static bool work_once(void) {
    slot *s = find_slot(SPENT);
    bool spent = s != NULL;
    if (!s && may_begin()) s = find_slot(FREE);
    if (!s) return false;
    int number = spent ? 0 : pool.next++;
    s->state = IN_THE_MAKING;
    pool.working++;
    pthread_mutex_unlock(&pool.lock);
    if (spent)
        clear(s);
    else
        make(s, pool.run, &pool.run->cases[number]);
    pthread_mutex_lock(&pool.lock);
    pool.working--;
    s->state = spent ? FREE : READY;
    pthread_cond_broadcast(&pool.changed);
    return true;
}

static void *work(void *unused) {
    (void)unused;
    fovea_environment_leave_confinement();
    pthread_mutex_lock(&pool.lock);
    while (!pool.ended && !fovea_interrupted()) {
        if (!pool.paused && work_once()) continue;
        bool for_memory =
            pool.ahead && !pool.paused && pool.next < pool.run->case_count && find_slot(FREE);
        if (for_memory)
            wait_for_a_change();
        else
            pthread_cond_wait(&pool.changed, &pool.lock);
    }
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

static void lay_out_slots(int count) {
    pool.slot_count = count;
    for (int i = 0; i < count; i++) {
        size_t room = mapping_bytes / (size_t)count / 4096 * 4096;
        pool.slots[i] = (slot){.prepared = {.first = (size_t)i * room, .room = room}};
    }
}

bool fovea_bench_prepare_ahead(fovea_bench_run *run) {
    int makers = 1;
    if (!need_mapping(run)) return false;
    pool.run = run;
    pool.next = pool.maker_count = 0;
    pool.wanted = -1;
    pool.ended = false;
    pool.ahead = !fovea_bench_on(run, FOVEA_ON_CPU);
    if (pool.ahead) makers = (int)fmin(fmax(run->threads - 2, 1), MAKERS_MAX);
    lay_out_slots(pool.ahead ? makers + 2 : 1);
    while (pool.maker_count < makers &&
           pthread_create(&pool.makers[pool.maker_count], NULL, work, NULL) == 0)
        pool.maker_count++;
    return pool.maker_count > 0;
}

bool fovea_bench_prepare_end(fovea_bench_run *run) {
    pthread_mutex_lock(&pool.lock);
    bool ended = pool.run != run || !fovea_interrupted() || pool.working == 0;
    pool.ended = true;
    pthread_cond_broadcast(&pool.changed);
    pthread_mutex_unlock(&pool.lock);
    if (!ended) return false;
    for (; pool.maker_count > 0; pool.maker_count--)
        pthread_join(pool.makers[pool.maker_count - 1], NULL);
    for (int i = 0; i < pool.slot_count; i++)
        if (pool.slots[i].state == READY || pool.slots[i].state == SPENT) clear(&pool.slots[i]);
    pool.slot_count = 0;
    return true;
}

bool fovea_bench_prepare_pause(double seconds) {
    double until = fovea_seconds_now() + seconds;
    pthread_mutex_lock(&pool.lock);
    pool.paused = true;
    while (pool.working > 0 && fovea_seconds_now() < until && !fovea_interrupted())
        wait_for_a_change();
    bool quiet = pool.working == 0;
    pthread_mutex_unlock(&pool.lock);
    return quiet;
}

void fovea_bench_prepare_resume(void) {
    pthread_mutex_lock(&pool.lock);
    pool.paused = false;
    pthread_cond_broadcast(&pool.changed);
    pthread_mutex_unlock(&pool.lock);
}

/* ---- Giving them out ------------------------------------------------------------------------ */

static fovea_prepared *prepare_now(fovea_bench_run *run, fovea_bench_case *c) {
    if (!need_mapping(run)) return NULL;
    lay_out_slots(1);
    pool.slots[0].state = TAKEN;
    make(&pool.slots[0], run, c);
    return &pool.slots[0].prepared;
}

/* With the lock: the least of those that are ready, or the number of cases. */
static int find_ready(const fovea_bench_run *run, const char *suite) {
    int found = run->case_count;
    for (int i = 0; i < pool.slot_count; i++) {
        const fovea_bench_case *c = pool.slots[i].prepared.c;
        if (pool.slots[i].state == READY && !c->begun && strcmp(c->suite, suite) == 0 &&
            c - run->cases < found)
            found = (int)(c - run->cases);
    }
    return found;
}

int fovea_bench_next(const fovea_bench_run *run, int first) {
    int found = run->case_count;
    if (pool.maker_count == 0 || !pool.ahead) return first;
    pthread_mutex_lock(&pool.lock);
    pool.wanted = first;
    pthread_cond_broadcast(&pool.changed);
    while (!fovea_interrupted()) {
        found = find_ready(run, run->cases[first].suite);
        if (found < run->case_count) break;
        wait_for_a_change();
    }
    pthread_mutex_unlock(&pool.lock);
    return found < run->case_count ? found : first;
}

fovea_prepared *fovea_bench_prepared(fovea_bench_run *run, fovea_bench_case *c) {
    fovea_prepared *found = NULL;
    if (pool.maker_count == 0) return prepare_now(run, c);
    pthread_mutex_lock(&pool.lock);
    pool.wanted = (int)(c - run->cases);
    pthread_cond_broadcast(&pool.changed);
    while (!found && !fovea_interrupted()) {
        for (int i = 0; i < pool.slot_count && !found; i++)
            if (pool.slots[i].state == READY && pool.slots[i].prepared.c == c) {
                pool.slots[i].state = TAKEN;
                found = &pool.slots[i].prepared;
            }
        if (!found) wait_for_a_change();
    }
    pthread_mutex_unlock(&pool.lock);
    return found;
}

void fovea_bench_release_prepared(fovea_bench_run *run, fovea_prepared *prepared) {
    slot *s = (slot *)(void *)prepared;
    (void)run;
    if (!s) return;
    bool by_makers = pool.maker_count > 0 && pool.ahead; /* else it would be during a measurement */
    if (!by_makers) clear(s);
    pthread_mutex_lock(&pool.lock);
    s->state = by_makers ? SPENT : FREE;
    pthread_cond_broadcast(&pool.changed);
    pthread_mutex_unlock(&pool.lock);
}
