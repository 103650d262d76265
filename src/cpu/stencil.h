/* Fields on a plane whose cells follow from themselves and their four neighbours, step by step.
 *
 * Several steps run on a band of rows that stays in the second-level cache: a band of `rows` rows that
 * are wanted after `depth` steps is computed from 2 depth more, one fewer on each side with each step.
 * Every cell comes from the same operations whatever the bands, so results do not depend on them.
 *
 * Counted for heat of 1024 x 1024 floats: a step reads and writes 8 MiB, and takes 5 loads, a store and
 * 6 operations a vector, 2.5 cycles of a core that loads two vectors a cycle: 40 microseconds on two
 * cores at 4 GHz, where 8 MiB at the 60 to 100 GB/s of a third-level cache take 80 to 140. Bands of 52
 * rows and 6 steps compute 10 % twice and move a sixth. */
#ifndef FOVEA_CPU_STENCIL_H
#define FOVEA_CPU_STENCIL_H

#include "cpu/kernel.h"
#include "cpu/rows.h"
#include "cpu/threads.h"

typedef enum stencil_kind {
    HEAT, /* u + factor (others - 4 u) */
    WAVE, /* 2 u - previous + factor (others - 4 u) */
    MEAN  /* factor others */
} stencil_kind;
typedef enum stencil_boundary { PERIODIC, DIRICHLET, COPY } stencil_boundary;

/* Operands of a row of cells: rows before and after it in one or two further dimensions. */
typedef struct stencil_row {
    const void *u, *before[2], *after[2], *previous;
    void *to;
    double factor;
    bool held;   /* the cells at its ends keep their values */
    bool stream; /* `to` bypasses the caches */
} stencil_row;

#define ELEMENT float
#define VECTOR vf
#define WIDTH VF_WIDTH
#include "cpu/stencil_runs.h"

#define ELEMENT double
#define VECTOR vd
#define WIDTH VD_WIDTH
#include "cpu/stencil_runs.h"

typedef struct stencil_functions {
    void (*rows[3])(const stencil_row *row, int64_t n); /* by kind */
    void (*rows_of_space)(const stencil_row *row, int64_t n);
    void (*move)(const void *from, int64_t from_step, void *to, int64_t to_step, int64_t n);
} stencil_functions;
static const stencil_functions stencil_floats = {
    {heat_row_float, wave_row_float, mean_row_float}, mean_row_of_space_float, move_row_float};
static const stencil_functions stencil_doubles = {
    {heat_row_double, wave_row_double, mean_row_double}, mean_row_of_space_double, move_row_double};

/* A field in memory: a tensor's, or dense scratch. Strides in bytes. */
typedef struct stencil_field {
    char *data; /* NULL: there is none */
    int64_t row, step;
} stencil_field;

/* What a pass of `depth` steps reads and writes. */
typedef struct stencil_pass {
    stencil_field u, previous, to, before;
    bool raw; /* u and previous are the caller's: edges may have to count as 0 */
} stencil_pass;

typedef struct stencil_plan {
    const stencil_functions *functions;
    stencil_kind kind;
    stencil_boundary boundary;
    double factor;
    int64_t height, width, size, steps;
    int64_t depth, rows, pitch; /* steps of a pass, rows of a band, bytes of a row of scratch */
    bool stream;
    int64_t batches;
    fovea_view views[4]; /* u, previous, to, before: leading axes; data NULL: none */
    stencil_field fields[4];
    bool copied[2]; /* whether u and previous are copied in some pass */
    char *scratch;  /* of each thread */
    int64_t scratch_bytes;
    char *states[2][2]; /* between passes: u and previous of all batches */
    stencil_pass pass;  /* that runs */
    int64_t done;       /* steps before it */
    bool first, last;
} stencil_plan;

static inline int64_t stencil_wrap(const stencil_plan *p, int64_t i) {
    int64_t wrapped = i % p->height;
    return wrapped < 0 ? wrapped + p->height : wrapped;
}

static inline bool stencil_held(const stencil_plan *p, int64_t i) {
    return p->boundary != PERIODIC && (i == 0 || i == p->height - 1);
}

/* Bytes of the rows of a band. */
static inline int64_t stencil_area(const stencil_plan *p) {
    return (p->rows + 2 * p->depth) * p->pitch;
}

/* ---- A band ------------------------------------------------------------------------------------- */

/* Two levels of a band in scratch, and rows that had to be made dense. */
typedef struct stencil_band {
    const stencil_plan *plan;
    stencil_pass pass;
    int64_t low;      /* the first row in scratch */
    char *levels[2];  /* odd and even steps */
    char *sources[2]; /* dense copies of u and previous, where they are needed */
    char *line;       /* a row on its way to a tensor that is not dense */
} stencil_band;

static bool needs_copy(const stencil_plan *p, const stencil_field *field, bool raw) {
    return field->data && (field->step != p->size || (raw && p->boundary == DIRICHLET));
}

static void copy_source(const stencil_band *band, const stencil_field *field, char *to, int64_t low,
                        int64_t high) {
    const stencil_plan *p = band->plan;
    if (!needs_copy(p, field, band->pass.raw)) return;
    bool zero = band->pass.raw && p->boundary == DIRICHLET;
    for (int64_t i = low; i < high; i++, to += p->pitch) {
        p->functions->move(field->data + stencil_wrap(p, i) * field->row, field->step / p->size, to,
                           1, p->width);
        if (zero && stencil_held(p, i)) memset(to, 0, (size_t)(p->width * p->size));
        if (zero) memset(to, 0, (size_t)p->size);
        if (zero) memset(to + (p->width - 1) * p->size, 0, (size_t)p->size);
    }
}

/* Row i of level 0 of u (which = 0) or of previous (1). */
static const char *source_row(const stencil_band *band, int which, int64_t i) {
    const stencil_field *field = which ? &band->pass.previous : &band->pass.u;
    if (needs_copy(band->plan, field, band->pass.raw))
        return band->sources[which] + (i - band->low) * band->plan->pitch;
    return field->data + stencil_wrap(band->plan, i) * field->row;
}

/* Row i of u after `level` steps of the pass; level -1: what was before it. */
static const char *level_row(const stencil_band *band, int64_t level, int64_t i) {
    if (level <= 0) return source_row(band, level < 0, i);
    return band->levels[level & 1] + (i - band->low) * band->plan->pitch;
}

static void run_row(const stencil_band *band, int64_t level, int64_t i, char *to, bool stream) {
    const stencil_plan *p = band->plan;
    const char *u = level_row(band, level - 1, i);
    if (stencil_held(p, i)) {
        if (to != u) memmove(to, u, (size_t)(p->width * p->size));
        return;
    }
    stencil_row row = {.u = u,
                       .before = {level_row(band, level - 1, i - 1)},
                       .after = {level_row(band, level - 1, i + 1)},
                       .previous = p->kind == WAVE ? level_row(band, level - 2, i) : NULL,
                       .to = to,
                       .factor = p->factor,
                       .held = p->boundary != PERIODIC,
                       .stream = stream};
    p->functions->rows[p->kind](&row, p->width);
}

/* The last level of rows [first, end), to where it is wanted. */
static void finish_band(const stencil_band *band, int64_t depth, int64_t first, int64_t end) {
    const stencil_plan *p = band->plan;
    const stencil_field *to = &band->pass.to, *before = &band->pass.before;
    for (int64_t i = first; i < end; i++) {
        bool dense = to->step == p->size;
        char *target = to->data + i * to->row;
        run_row(band, depth, i, dense ? target : band->line, dense && p->stream);
        if (!dense) p->functions->move(band->line, 1, target, to->step / p->size, p->width);
        if (before->data)
            p->functions->move(level_row(band, depth - 1, i), 1, before->data + i * before->row,
                               before->step / p->size, p->width);
    }
}

/* Rows [first, end) after `depth` steps. */
static void run_band(stencil_band *band, int64_t depth, int64_t first, int64_t end) {
    const stencil_plan *p = band->plan;
    int64_t low = first - depth, high = end + depth;
    if (p->boundary != PERIODIC) low = larger(low, 0), high = smaller(high, p->height);
    band->low = low;
    copy_source(band, &band->pass.u, band->sources[0], low, high);
    if (p->kind == WAVE) copy_source(band, &band->pass.previous, band->sources[1], low, high);
    for (int64_t level = 1; level < depth; level++) {
        int64_t begin = first - depth + level, stop = end + depth - level;
        if (p->boundary != PERIODIC) begin = larger(begin, 0), stop = smaller(stop, p->height);
        for (int64_t i = begin; i < stop; i++)
            run_row(band, level, i, band->levels[level & 1] + (i - low) * p->pitch, false);
    }
    finish_band(band, depth, first, end);
}

/* ---- Passes --------------------------------------------------------------------------------------- */

static stencil_field field_of_batch(const stencil_plan *p, int number, int64_t batch) {
    stencil_field field = p->fields[number];
    if (field.data) field.data = rows_address(&p->views[number], batch);
    return field;
}

static stencil_field state_of_batch(const stencil_plan *p, int set, int number, int64_t batch) {
    char *data = p->states[set][number];
    int64_t row = p->width * p->size;
    return (stencil_field){data ? data + batch * p->height * row : NULL, row, p->size};
}

static stencil_pass pass_of_batch(const stencil_plan *p, int64_t batch) {
    int from = (int)(p->done / p->depth & 1), to = !from;
    stencil_pass pass = {.raw = p->first};
    pass.u = p->first ? field_of_batch(p, 0, batch) : state_of_batch(p, from, 0, batch);
    pass.previous = p->first ? field_of_batch(p, 1, batch) : state_of_batch(p, from, 1, batch);
    pass.to = p->last ? field_of_batch(p, 2, batch) : state_of_batch(p, to, 0, batch);
    pass.before = p->last ? field_of_batch(p, 3, batch) : state_of_batch(p, to, 1, batch);
    return pass;
}

static void run_bands(const void *task, int64_t begin, int64_t end, int thread) {
    const stencil_plan *p = task;
    int64_t bands = divide_up(p->height, p->rows), area = stencil_area(p);
    char *memory = p->scratch + thread * p->scratch_bytes, *levels = memory + p->pitch;
    char *sources = levels + (p->depth > 1 ? 2 * area : 0);
    stencil_band band = {.plan = p,
                         .line = memory,
                         .levels = {levels, levels + area},
                         .sources = {sources, sources + (p->copied[0] ? area : 0)}};
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t first = piece % bands * p->rows;
        band.pass = pass_of_batch(p, piece / bands);
        run_band(&band, smaller(p->depth, p->steps - p->done), first,
                 smaller(first + p->rows, p->height));
    }
    if (p->stream) vf_stream_fence();
}

/* arguments: u, previous, to, before; -1: none. */
static void stencil_take_fields(stencil_plan *p, const fovea_problem *problem,
                                const int arguments[4]) {
    for (int f = 0; f < 4; f++) {
        if (arguments[f] < 0 || !fovea_given(problem, arguments[f])) continue;
        const fovea_view *view = &problem->views[arguments[f]];
        int rank = view->rank;
        p->views[f] = *view;
        p->views[f].rank = rank - 2;
        p->fields[f] = (stencil_field){view->data, view->stride[rank - 2] * p->size,
                                       (p->width == 1 ? 1 : view->stride[rank - 1]) * p->size};
        if (p->batches > 0) fovea_views_collapse((fovea_view *[]){&p->views[f]}, 1);
    }
}

/* Bands of two levels in half the second-level cache, an eighth of the rows computed twice at most. Where
 * not even 24 rows fit there, every step is a pass. */
static stencil_plan stencil_make_plan(const fovea_problem *problem, stencil_kind kind,
                                      const int arguments[4], stencil_boundary boundary,
                                      double factor, int64_t steps) {
    const fovea_view *u = &problem->views[0];
    stencil_plan p = {.functions = u->dtype == FOVEA_F64 ? &stencil_doubles : &stencil_floats,
                      .kind = kind,
                      .boundary = boundary,
                      .factor = fovea_round_to(u->dtype, factor),
                      .height = u->shape[u->rank - 2],
                      .width = u->shape[u->rank - 1],
                      .size = (int64_t)fovea_dtype_size(u->dtype),
                      .steps = steps,
                      .depth = 1,
                      .batches = 1};
    for (int i = 0; i < u->rank - 2; i++) p.batches *= u->shape[i];
    p.pitch = divide_up(p.width * p.size, 64) * 64 + 64;
    p.rows = smaller(32, larger((1 << 18) / p.pitch, 4));
    int64_t fit = (int64_t)fovea_processor_get()->l2_bytes / 4 / p.pitch;
    if (steps > 1 && fit >= 24) {
        fit = smaller(fit, larger(p.height / 8, 24)); /* bands enough for threads */
        p.depth = smaller(steps, smaller(fit / 10, 16));
        p.rows = fit - 2 * p.depth;
    }
    p.rows = smaller(p.rows, larger(p.height, 1));
    stencil_take_fields(&p, problem, arguments);
    for (int f = 0; f < 2; f++) p.copied[f] = needs_copy(&p, &p.fields[f], true);
    int areas = (p.depth > 1 ? 2 : 0) + p.copied[0] + p.copied[1];
    p.scratch_bytes = areas * stencil_area(&p) + p.pitch;
    return p;
}

static int64_t stencil_state_bytes(const stencil_plan *p) {
    return divide_up(p->batches * p->height * p->width * p->size, 64) * 64;
}

/* How many states there are between passes. */
static int64_t stencil_states(const stencil_plan *p) {
    int64_t passes = divide_up(p->steps, p->depth);
    return smaller(passes - 1, 2) * (p->kind == WAVE ? 2 : 1);
}

static size_t stencil_workspace(const stencil_plan *p, int threads) {
    return (size_t)(threads * p->scratch_bytes + stencil_states(p) * stencil_state_bytes(p));
}

static void stencil_take_memory(stencil_plan *p, fovea_run *run, int threads) {
    int64_t bytes = stencil_state_bytes(p), states = stencil_states(p);
    int per_set = p->kind == WAVE ? 2 : 1;
    char *memory = (char *)run->workspace + threads * p->scratch_bytes;
    p->scratch = run->workspace;
    /* The first pass writes set 1. */
    for (int64_t i = 0; i < states; i++)
        p->states[1 - i / per_set][i % per_set] = memory + i * bytes;
}

static fovea_status stencil_run(stencil_plan *p, fovea_run *run) {
    int allowed = run->threads;
    run->threads = 1;
    if (p->batches * p->height * p->width == 0) return FOVEA_OK;
    int64_t pieces = p->batches * divide_up(p->height, p->rows);
    int64_t bytes = p->batches * p->height * p->width * p->size * (p->kind == WAVE ? 3 : 2);
    stencil_take_memory(p, run, allowed);
    run->threads = fovea_useful_threads(pieces, bytes * p->depth, allowed);
    p->stream = fovea_worth_streaming(bytes, run->threads);
    for (p->done = 0; p->done < p->steps; p->done += p->depth) {
        p->first = p->done == 0, p->last = p->done + p->depth >= p->steps;
        fovea_share(pieces, run->threads, run_bands, p);
    }
    return FOVEA_OK;
}

#endif
