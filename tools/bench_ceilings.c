/* Measuring of ceilings. Each figure is the best of several repeats: a ceiling is what the machine can
 * do, and what disturbs it only makes it lower. */
#include "bench_ceilings.h"

#include "bench_interrupt.h"
#include "cpu/ceilings.h"
#include "runtime/processor.h"

#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPEATS = 7, MAXIMUM_BUFFER = 512 << 20 };

typedef struct work {
    const fovea_ceiling_loops *loops;
    double (*arithmetic)(int64_t rounds, float *sink);
    int64_t rounds; /* of arithmetic */
    float *from, *to;
    size_t count; /* floats of each */
} work;

/* A share of the work of one thread; returns operations or bytes. */
typedef double part(const work *w, size_t first, size_t count);

static volatile float sink;

static double arithmetic(const work *w, size_t first, size_t count) {
    float value;
    (void)first, (void)count;
    double operations = w->arithmetic(w->rounds, &value);
    sink = value;
    return operations;
}

static double read_buffer(const work *w, size_t first, size_t count) {
    sink = w->loops->read(w->from + first, count);
    return 4.0 * (double)count;
}

static double read_buffer_ahead(const work *w, size_t first, size_t count) {
    sink = w->loops->read_ahead(w->from + first, count);
    return 4.0 * (double)count;
}

static double copy_buffer(const work *w, size_t first, size_t count) {
    w->loops->copy(w->to + first, w->from + first, count);
    return 8.0 * (double)count;
}

static double stream_copy_buffer(const work *w, size_t first, size_t count) {
    w->loops->stream_copy(w->to + first, w->from + first, count);
    return 8.0 * (double)count;
}

/* Rate of one repeat, from the first thread's start to the last one's end. */
static double rate(const work *w, part *run, int threads) {
    double done = 0, start = 1e300, end = 0;
    size_t share = w->count / (size_t)threads / 1024 * 1024;
#pragma omp parallel num_threads(threads) reduction(+ : done) reduction(min : start) \
    reduction(max : end)
    {
#pragma omp barrier
        start = omp_get_wtime();
        done = run(w, share * (size_t)omp_get_thread_num(), share);
        end = omp_get_wtime();
    }
    return done / (end - start);
}

/* The item of that name, made if there is none; NULL if there is no room. */
static fovea_ceiling *item_of(fovea_ceilings *ceilings, const char *kind, const char *tier,
                              const char *unit, int threads) {
    fovea_ceiling wanted = {.unit = unit, .tier = tier, .threads = threads};
    if (strcmp(tier, "cuda") == 0)
        snprintf(wanted.name, sizeof wanted.name, "%s_cuda", kind);
    else if (strcmp(unit, "FLOP/s") == 0)
        snprintf(wanted.name, sizeof wanted.name, "%s_%s_t%d", kind, tier, threads);
    else
        snprintf(wanted.name, sizeof wanted.name, "%s_t%d", kind, threads);
    for (int i = 0; i < ceilings->count; i++)
        if (strcmp(ceilings->items[i].name, wanted.name) == 0) return &ceilings->items[i];
    if (ceilings->count == FOVEA_CEILINGS_MAX) return NULL;
    ceilings->items[ceilings->count] = wanted;
    return &ceilings->items[ceilings->count++];
}

static void measure(fovea_ceilings *ceilings, const char *kind, const char *tier, const char *unit,
                    const work *w, part *run, int threads) {
    fovea_ceiling *item = item_of(ceilings, kind, tier, unit, threads);
    for (int repeat = 0; item && repeat < REPEATS && !fovea_interrupted(); repeat++) {
        double value = rate(w, run, threads);
        if (value > item->value) item->value = value;
    }
}

/* 1, 2, 4, ... and the number itself. */
static int next_count(int count, int threads) {
    if (count == threads) return threads + 1;
    return 2 * count < threads ? 2 * count : threads;
}

static const fovea_ceiling_tier *best_tier(void) {
    const fovea_ceiling_tier *best = fovea_ceiling_tiers;
    fovea_tier tier;
    while (best->tier && !(fovea_tier_parse(best->tier, &tier) && fovea_has_tier(tier))) best++;
    return best;
}

const fovea_ceiling_loops *fovea_ceilings_loops(void) { return best_tier()->loops; }

static bool can_run(const char *kind) {
    return strcmp(kind, "dot_bf16") != 0 || fovea_processor_get()->avx512_bf16;
}

/* Each kind of arithmetic of a tier, so much of it that a repeat takes about so many seconds. */
static void measure_tier(fovea_ceilings *ceilings, const fovea_ceiling_tier *t, int first,
                         int threads, double seconds) {
    const int64_t trial = 20000;
    for (const fovea_arithmetic_loop *loop = t->loops->arithmetic; loop->kind; loop++) {
        work w = {.loops = t->loops, .arithmetic = loop->run, .rounds = trial};
        w.count = (size_t)threads * 1024;
        if (!can_run(loop->kind)) continue;
        double start = omp_get_wtime();
        arithmetic(&w, 0, 0);
        w.rounds = (int64_t)((double)trial * seconds / (omp_get_wtime() - start + 1e-7)) + 1;
        for (int n = first; n <= threads; n = next_count(n, threads))
            measure(ceilings, loop->kind, t->tier, "FLOP/s", &w, arithmetic, n);
    }
}

static void measure_arithmetic(fovea_ceilings *ceilings, int threads, double seconds) {
    int tiers = 0, counts = 0;
    for (const fovea_ceiling_tier *t = fovea_ceiling_tiers; t->tier; t++) tiers++;
    for (int n = 1; n <= threads; n = next_count(n, threads)) counts++;
    for (const fovea_ceiling_tier *t = fovea_ceiling_tiers; t->tier; t++) {
        fovea_tier tier;
        if (!fovea_tier_parse(t->tier, &tier) || !fovea_has_tier(tier)) continue;
        measure_tier(ceilings, t, 1, threads, seconds / (tiers * counts * REPEATS));
    }
}

/* So many times the last-level cache that what a pass finds there is little, if that is sane; at most a quarter of
 * the free memory. */
static size_t buffer_size(void) {
    size_t wanted = 16 * fovea_processor_get()->l3_bytes;
    size_t free_memory = (size_t)fovea_available_bytes();
    if (wanted < 64 << 20) wanted = 64 << 20;
    if (wanted > MAXIMUM_BUFFER) wanted = MAXIMUM_BUFFER;
    if (wanted > free_memory / 4) wanted = free_memory / 4;
    return wanted / (1 << 20) * (1 << 20);
}

static void measure_bandwidth(fovea_ceilings *ceilings, int first, int threads) {
    const fovea_ceiling_tier *best = best_tier();
    size_t bytes = buffer_size();
    float *buffer = bytes && best->tier ? aligned_alloc(4096, bytes) : NULL;
    if (!buffer) return;
    ceilings->buffer_bytes = bytes;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t page = 0; page < bytes; page += 4096) memset((char *)buffer + page, 0, 4096);
    size_t count = bytes / sizeof *buffer;
    work all = {.loops = best->loops, .from = buffer, .count = count};
    work halves = {
        .loops = best->loops, .from = buffer, .to = buffer + count / 2, .count = count / 2};
    for (int n = first; n <= threads; n = next_count(n, threads)) {
        measure(ceilings, "read", best->tier, "B/s", &all, read_buffer, n);
        measure(ceilings, "read", best->tier, "B/s", &all, read_buffer_ahead, n);
        measure(ceilings, "copy", best->tier, "B/s", &halves, copy_buffer, n);
        measure(ceilings, "stream_copy", best->tier, "B/s", &halves, stream_copy_buffer, n);
    }
    free(buffer);
}

void fovea_ceilings_measure(fovea_ceilings *ceilings, int threads, double seconds) {
    measure_arithmetic(ceilings, threads, seconds / 2);
    measure_bandwidth(ceilings, 1, threads);
}

void fovea_ceilings_refresh(fovea_ceilings *ceilings, int threads, bool memory) {
    const fovea_ceiling_tier *best = best_tier();
    for (const fovea_ceiling_tier *t = best; t->tier; t++) {
        measure_tier(ceilings, t, threads, threads, 0.002);
        if (strcmp(t->loops->arithmetic[0].kind, "fma_f32") == 0) break; /* the best vectors too */
    }
    if (memory) measure_bandwidth(ceilings, threads, threads);
}

void fovea_ceilings_add(fovea_ceilings *ceilings, const char *kind, const char *unit,
                        double value) {
    fovea_ceiling *item = item_of(ceilings, kind, "cuda", unit, 0);
    if (item) item->value = value;
}

const fovea_ceiling *fovea_ceilings_find(const fovea_ceilings *ceilings, const char *kind,
                                         const char *tier, int threads) {
    size_t length = strlen(kind);
    for (int i = 0; i < ceilings->count; i++) {
        const fovea_ceiling *item = &ceilings->items[i];
        if (item->threads == threads && strncmp(item->name, kind, length) == 0 &&
            item->name[length] == '_' && (!tier || strcmp(item->tier, tier) == 0))
            return item;
    }
    return NULL;
}
