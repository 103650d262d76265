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

/* What is moved of a case's tensors: all of them once. Where fewer bytes are counted, as of a compaction, whose
 * output is as long as its input, what is written is that much shorter; where more, because something has to be
 * read before anything can be written, that is read first. */
typedef struct motion {
    fovea_stream streams[FOVEA_STREAMS_MAX];
    int count;
    double bytes, again; /* all in all, and of it what is read first */
} motion;

static void scale_lines(fovea_stream *stream, double factor) {
    stream->bytes = (size_t)((double)(stream->bytes / LINE) * factor) * LINE;
}

static void fit_count(motion *m, double counted) {
    double inputs = 0, outputs = 0, excess = m->bytes - counted;
    for (int s = 0; s < m->count; s++) {
        double bytes = (double)m->streams[s].bytes;
        if (m->streams[s].from)
            inputs += bytes;
        else
            outputs += bytes;
    }
    if (excess < -m->bytes / 64) m->again = fmin(-excess, inputs);
    m->bytes += m->again;
    if (excess <= 0 || excess >= outputs) return;
    for (int s = 0; s < m->count; s++)
        if (!m->streams[s].from) scale_lines(&m->streams[s], 1 - excess / outputs);
    m->bytes -= excess;
}

/* Of those that count; none if there are more than can be moved side by side. */
static motion motion_of(const fovea_problem *problem, double counted) {
    motion m = {.count = 0};
    fovea_stream all[FOVEA_ARGUMENTS_MAX];
    size_t largest = 0;
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        all[a] = fovea_given(problem, a) ? stream_of(problem, a) : (fovea_stream){0};
        if (all[a].bytes > largest) largest = all[a].bytes;
    }
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        if (all[a].bytes <= largest / 64) continue;
        if (m.count == FOVEA_STREAMS_MAX) return (motion){.count = 0};
        m.streams[m.count++] = all[a];
        m.bytes += (double)all[a].bytes * (all[a].from && all[a].to ? 2 : 1);
    }
    fit_count(&m, counted);
    return m;
}

/* A thread's part of what is read first. */
static float read_part(const fovea_ceiling_loops *loops, const motion *m, bool ahead, int thread,
                       int threads) {
    fovea_stream inputs[FOVEA_STREAMS_MAX], mine[FOVEA_STREAMS_MAX];
    double bytes = 0;
    int count = 0;
    for (int s = 0; s < m->count; s++)
        if (m->streams[s].from) {
            inputs[count] = m->streams[s], inputs[count].to = NULL;
            bytes += (double)inputs[count++].bytes;
        }
    for (int s = 0; s < count; s++) scale_lines(&inputs[s], m->again / bytes);
    share_of(inputs, count, thread, threads, mine);
    return loops->move(mine, count, false, ahead);
}

static void move_part(const fovea_ceiling_loops *loops, const fovea_memory_way *way,
                      const motion *m, int thread, int threads) {
    fovea_stream mine[FOVEA_STREAMS_MAX];
    share_of(m->streams, m->count, thread, threads, mine);
    sink = loops->move(mine, m->count, way->past, way->ahead);
}

void fovea_memory_move(const fovea_ceiling_loops *loops, const fovea_memory_way *way,
                       const fovea_problem *problem) {
    const motion m = motion_of(problem, way->counted);
    if (way->threads == 1) {
        if (m.again > 0) sink = read_part(loops, &m, way->ahead, 0, 1);
        move_part(loops, way, &m, 0, 1);
        return;
    }
    if (m.again > 0) {
#pragma omp parallel num_threads(way->threads)
        sink = read_part(loops, &m, way->ahead, omp_get_thread_num(), omp_get_num_threads());
    }
#pragma omp parallel num_threads(way->threads)
    move_part(loops, way, &m, omp_get_thread_num(), omp_get_num_threads());
}

/* Ways to move what a case has; one of them is the fastest here. */
void fovea_memory_begin(fovea_measurement *m) {
    const fovea_problem *problem = &m->samples[0].problem;
    fovea_memory *memory = &m->memory;
    motion all = motion_of(problem, m->c->bytes);
    int threads = m->run->threads;
    bool writes = false;
    *memory = (fovea_memory){.loops = fovea_ceilings_loops(), .bytes = all.bytes};
    for (int s = 0; s < all.count; s++) writes |= all.streams[s].to != NULL;
    if (!memory->loops || !m->c->by_bytes[FOVEA_ON_CPU] || memory->bytes <= 0) return;
    m->c->memory.bytes = memory->bytes;
    for (int ahead = 0; ahead < 2; ahead++)
        for (int past = 0; past <= writes; past++)
            memory->ways[memory->count++] = (fovea_memory_way){
                .threads = threads, .past = past, .ahead = ahead, .counted = m->c->bytes};
    if (threads > 1 && memory->bytes < ONE_THREAD_BYTES)
        memory->ways[memory->count++] = (fovea_memory_way){.threads = 1, .counted = m->c->bytes};
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
