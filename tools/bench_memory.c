/* The ceiling of a case that memory binds: its own tensors read and written once, as a kernel would have to,
 * by as many threads, of the same sets, in turns with the arms. A virtual machine's memory gives 40 GB/s
 * in one minute and 75 in the next, so that no bandwidth measured before or after says what share of it
 * a kernel reaches; and two reads and a write are no copy. */
#include "bench_arms.h"
#include "cpu/ceilings.h"

#include <math.h>
#include <omp.h>

static const double sample_seconds = 20e-6, turn_seconds = 20e-3, far_behind = 1.1;
enum { SAMPLES_MAX = 6, ONE_THREAD_BYTES = 8 << 20, LINE = 64 };

static volatile float sink;

/* The whole lines of a tensor; none where it is not contiguous. */
static fovea_stream stream_of(const fovea_problem *problem, int argument) {
    const fovea_view *view = &problem->views[argument];
    fovea_role role = problem->kernel->arguments[argument].role;
    fovea_stream stream = {0};
    uintptr_t begin = ((uintptr_t)view->data + LINE - 1) / LINE * LINE;
    uintptr_t end = ((uintptr_t)view->data +
                     (size_t)fovea_view_elements(view) * fovea_dtype_size(view->dtype)) /
                    LINE * LINE;
    if (end <= begin || !fovea_view_is_contiguous(view)) return stream;
    char *data = view->data + (begin - (uintptr_t)view->data);
    if (role != FOVEA_OUTPUT) stream.from = data;
    if (role != FOVEA_INPUT) stream.to = data;
    stream.bytes = end - begin;
    return stream;
}

/* A thread's part of the streams. */
static int share_of(const fovea_stream *all, int count, int thread, int threads,
                    fovea_stream *mine) {
    for (int s = 0; s < count; s++) {
        size_t lines = all[s].bytes / LINE, first = lines * (size_t)thread / (size_t)threads;
        size_t last = lines * (size_t)(thread + 1) / (size_t)threads;
        mine[s] = (fovea_stream){.bytes = (last - first) * LINE};
        if (all[s].from) mine[s].from = all[s].from + first * LINE;
        if (all[s].to) mine[s].to = all[s].to + first * LINE;
    }
    return count;
}

/* Those that count; none if there are more than can be moved side by side. */
static int streams_of(const fovea_problem *problem, fovea_stream *streams) {
    fovea_stream all[FOVEA_ARGUMENTS_MAX];
    int count = 0;
    size_t largest = 0;
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        all[a] = fovea_given(problem, a) ? stream_of(problem, a) : (fovea_stream){0};
        if (all[a].bytes > largest) largest = all[a].bytes;
    }
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        if (all[a].bytes <= largest / 64) continue;
        if (count == FOVEA_STREAMS_MAX) return 0;
        streams[count++] = all[a];
    }
    return count;
}

void fovea_memory_move(const fovea_ceiling_loops *loops, const fovea_memory_way *way,
                       const fovea_problem *problem) {
    fovea_stream all[FOVEA_STREAMS_MAX];
    int count = streams_of(problem, all);
    if (way->threads == 1) {
        sink = loops->move(all, count, way->past, way->ahead);
        return;
    }
#pragma omp parallel num_threads(way->threads)
    {
        fovea_stream mine[FOVEA_STREAMS_MAX];
        share_of(all, count, omp_get_thread_num(), omp_get_num_threads(), mine);
        sink = loops->move(mine, count, way->past, way->ahead);
    }
}

/* Ways to move what a case has; one of them is the fastest here. */
void fovea_memory_begin(fovea_measurement *m) {
    const fovea_problem *problem = &m->samples[0].problem;
    fovea_memory *memory = &m->memory;
    fovea_stream streams[FOVEA_STREAMS_MAX];
    int count = streams_of(problem, streams), threads = m->run->threads;
    bool writes = false;
    *memory = (fovea_memory){.loops = fovea_ceilings_loops()};
    for (int s = 0; s < count; s++) {
        bool both = streams[s].from && streams[s].to;
        memory->bytes += (double)streams[s].bytes * (both ? 2 : 1);
        writes |= streams[s].to != NULL;
    }
    if (!memory->loops || !m->c->by_bytes[FOVEA_ON_CPU] || memory->bytes <= 0) return;
    m->c->memory.bytes = memory->bytes;
    for (int ahead = 0; ahead < 2; ahead++)
        for (int past = 0; past <= writes; past++)
            memory->ways[memory->count++] =
                (fovea_memory_way){.threads = threads, .past = past, .ahead = ahead};
    if (threads > 1 && memory->bytes < ONE_THREAD_BYTES)
        memory->ways[memory->count++] = (fovea_memory_way){.threads = 1};
}

/* The median of some samples of one way. */
static double take(fovea_measurement *m, fovea_memory_way *way, double seconds) {
    double samples[SAMPLES_MAX];
    int inner = 1, count = 1;
    if (way->best > 0) {
        inner = (int)fmin(1e6, ceil(sample_seconds / way->best));
        count = (int)fmin(SAMPLES_MAX, fmax(1, seconds / (way->best * inner)));
    }
    for (int s = 0; s < count; s++) {
        double start = fovea_seconds_now();
        for (int i = 0; i < inner; i++)
            fovea_memory_move(m->memory.loops, way,
                              &m->samples[m->turn_of_set++ % m->sets].problem);
        samples[s] = (fovea_seconds_now() - start) / inner;
        if (way->best <= 0 || samples[s] < way->best) way->best = samples[s];
    }
    return fovea_median(samples, count);
}

void fovea_memory_turn(fovea_measurement *m) {
    fovea_memory *memory = &m->memory;
    double best = INFINITY;
    int kept = 0;
    memory->now = INFINITY;
    /* What a first pass takes says nothing. */
    for (int w = 0; w < memory->count && memory->ways[w].best <= 0; w++)
        take(m, &memory->ways[w], 0);
    for (int w = 0; w < memory->count; w++) {
        double median = take(m, &memory->ways[w], turn_seconds / memory->count);
        memory->now = fmin(memory->now, median);
        best = fmin(best, memory->ways[w].best);
    }
    for (int w = 0; w < memory->count; w++)
        if (memory->ways[w].best < far_behind * best) memory->ways[kept++] = memory->ways[w];
    memory->count = kept;
    fovea_timings_add(&m->c->memory.timings, memory->now);
}

/* What the turn of an arm began at `first` reached of the ceiling of this round; bytes that the kernel leaves
 * alone are not counted against it. */
void fovea_memory_judge(fovea_measurement *m, fovea_bench_arm *arm) {
    double now = m->memory.now, counted = m->c->bytes / m->memory.bytes;
    if (m->memory.count && isfinite(now) && arm->round_median > 0)
        fovea_timings_add(&arm->row->shares, counted * now / arm->round_median);
}
