/* Differential equations of which every element is one: all steps run on an element in registers. */
#ifndef FOVEA_CPU_MOTION_H
#define FOVEA_CPU_MOTION_H

#include "cpu/kernel.h"
#include "cpu/rows.h"
#include "cpu/threads.h"

typedef enum motion_method { RUNGE_KUTTA, VERLET } motion_method;

typedef struct motion_plan {
    motion_method method;
    double k, dt; /* rounded to the dtype */
    int64_t steps;
    fovea_view views[2]; /* y and the result, or x and v */
    int64_t rows, columns, chunks, operations;
} motion_plan;

#define ELEMENT float
#define VECTOR vf
#define WIDTH VF_WIDTH
#include "cpu/motion_runs.h"

#define ELEMENT double
#define VECTOR vd
#define WIDTH VD_WIDTH
#include "cpu/motion_runs.h"

enum { MOTION_CHUNK = 4096, MOTION_BLOCK = 512 };

static inline motion_plan motion_make_plan(const fovea_problem *problem, motion_method method,
                                           double k, double dt, int64_t steps) {
    motion_plan p = {.method = method,
                     .k = fovea_round_to(problem->dtype, k),
                     .dt = fovea_round_to(problem->dtype, dt),
                     .steps = steps,
                     .views = {problem->views[0], problem->views[1]}};
    int64_t count = fovea_view_elements(&p.views[0]);
    if (count == 0) return p;
    fovea_views_collapse((fovea_view *[]){&p.views[0], &p.views[1]}, 2);
    int last = p.views[0].rank - 1;
    p.columns = p.views[0].shape[last];
    p.rows = count / p.columns;
    p.chunks = divide_up(p.columns, MOTION_CHUNK);
    return p;
}

/* n elements from number `first` of a row on; those that are not side by side through a block. */
static void motion_of_row(const motion_plan *p, int64_t row, int64_t first, int64_t n) {
    bool wide = p->views[0].dtype == FOVEA_F64;
    int last = p->views[0].rank - 1;
    int64_t size = wide ? 8 : 4, steps[2];
    char *data[2];
    for (int v = 0; v < 2; v++) {
        fovea_view outer = p->views[v];
        outer.rank = last;
        steps[v] = p->columns == 1 ? 1 : p->views[v].stride[last];
        data[v] = (last ? rows_address(&outer, row) : outer.data) + first * steps[v] * size;
    }
    if (steps[0] == 1 && steps[1] == 1) {
        void *to = p->method == VERLET ? data[0] : data[1];
        (wide ? move_double : move_float)(p, data[0], to, data[1], n);
        return;
    }
    double blocks[2][MOTION_BLOCK];
    for (int64_t i = 0; i < n; i += MOTION_BLOCK) {
        int64_t count = smaller(MOTION_BLOCK, n - i);
        for (int v = 0; v < 2; v++)
            if (v == 0 || p->method == VERLET)
                (wide ? gather_double : gather_float)(data[v] + i * steps[v] * size, steps[v],
                                                      blocks[v], count);
        (wide ? move_double : move_float)(p, blocks[0], blocks[p->method == VERLET ? 0 : 1],
                                          blocks[1], count);
        for (int v = 0; v < 2; v++)
            if (v == 1 || p->method == VERLET)
                (wide ? scatter_double : scatter_float)(blocks[v], data[v] + i * steps[v] * size,
                                                        steps[v], count);
    }
}

static void motion_pieces(const void *task, int64_t begin, int64_t end, int thread) {
    const motion_plan *p = task;
    (void)thread;
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t first = piece % p->chunks * MOTION_CHUNK;
        motion_of_row(p, piece / p->chunks, first, smaller(MOTION_CHUNK, p->columns - first));
    }
}

/* A step of a vector takes about as long as 16 bytes an element from memory would. */
static inline fovea_status motion_run(const motion_plan *p, fovea_run *run) {
    int64_t pieces = p->rows * p->chunks;
    double work = (double)(p->rows * p->columns) * (8.0 + 4.0 * (double)p->steps);
    int allowed = run->threads;
    run->threads = fovea_useful_threads(pieces, work < 0x1p60 ? (int64_t)work : INT64_MAX, allowed);
    if (pieces > 0) fovea_share(pieces, run->threads, motion_pieces, p);
    return FOVEA_OK;
}

#endif
