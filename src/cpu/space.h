/* Means of the six neighbours in space, periodic. Planes that follow each other share rows: three of them
 * are kept in the second-level cache by going through blocks of rows. */
#ifndef FOVEA_CPU_SPACE_H
#define FOVEA_CPU_SPACE_H

#include "cpu/stencil.h"

typedef struct space_plan {
    const stencil_functions *functions;
    fovea_view u, y; /* the leading axes */
    int64_t size, extents[3], u_strides[3], y_strides[3];
    int64_t batches, rows, blocks, pitch; /* rows of a block */
    bool dense, stream;                   /* rows of u and y are dense */
    char *scratch;                        /* six rows for each thread */
} space_plan;

static space_plan space_make_plan(const fovea_problem *problem) {
    const fovea_view *u = &problem->views[0], *y = &problem->views[1];
    space_plan p = {.functions = u->dtype == FOVEA_F64 ? &stencil_doubles : &stencil_floats,
                    .u = *u,
                    .y = *y,
                    .size = (int64_t)fovea_dtype_size(u->dtype),
                    .batches = 1};
    p.u.rank = p.y.rank = u->rank - 3;
    for (int i = 0; i < p.u.rank; i++) p.batches *= u->shape[i];
    for (int i = 0; i < 3; i++) {
        p.extents[i] = u->shape[p.u.rank + i];
        p.u_strides[i] = u->stride[p.u.rank + i] * p.size;
        p.y_strides[i] = y->stride[p.u.rank + i] * p.size;
    }
    p.pitch = divide_up(p.extents[2] * p.size, 64) * 64 + 64;
    p.dense = p.extents[2] == 1 || (p.u_strides[2] == p.size && p.y_strides[2] == p.size);
    int64_t fit = (int64_t)fovea_processor_get()->l2_bytes / 8 / p.pitch;
    p.rows = larger(smaller(fit, p.extents[1]), smaller(8, larger(p.extents[1], 1)));
    p.blocks = divide_up(p.extents[1], p.rows);
    return p;
}

static size_t space_workspace(const fovea_problem *problem, int threads) {
    space_plan p = space_make_plan(problem);
    return p.dense ? 0 : (size_t)(threads * 6 * p.pitch);
}

/* Row (d, h) of u, wrapped around; made dense in place `number` of the scratch if it is not. */
static const char *space_row(const space_plan *p, const char *u, int64_t d, int64_t h,
                             char *scratch, int number) {
    int64_t depth = p->extents[0], height = p->extents[1];
    const char *row =
        u + (d + depth) % depth * p->u_strides[0] + (h + height) % height * p->u_strides[1];
    if (p->dense) return row;
    char *copy = scratch + number * p->pitch;
    p->functions->move(row, p->u_strides[2] / p->size, copy, 1, p->extents[2]);
    return copy;
}

static void space_cells(const space_plan *p, const char *u, char *y, int64_t d, int64_t h,
                        char *scratch) {
    char *to = y + d * p->y_strides[0] + h * p->y_strides[1];
    stencil_row row = {
        .u = space_row(p, u, d, h, scratch, 0),
        .before = {space_row(p, u, d, h - 1, scratch, 1), space_row(p, u, d - 1, h, scratch, 2)},
        .after = {space_row(p, u, d, h + 1, scratch, 3), space_row(p, u, d + 1, h, scratch, 4)},
        .to = p->dense ? to : scratch + 5 * p->pitch,
        .factor = 1.0 / 6,
        .stream = p->stream};
    p->functions->rows_of_space(&row, p->extents[2]);
    if (!p->dense) p->functions->move(row.to, 1, to, p->y_strides[2] / p->size, p->extents[2]);
}

static void space_pieces(const void *task, int64_t begin, int64_t end, int thread) {
    const space_plan *p = task;
    char *scratch = p->dense ? NULL : p->scratch + thread * 6 * p->pitch;
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t d = piece % p->extents[0], block = piece / p->extents[0];
        const char *u = rows_address(&p->u, block / p->blocks);
        char *y = rows_address(&p->y, block / p->blocks);
        int64_t first = block % p->blocks * p->rows;
        for (int64_t h = first; h < smaller(first + p->rows, p->extents[1]); h++)
            space_cells(p, u, y, d, h, scratch);
    }
    if (p->stream) vf_stream_fence();
}

static fovea_status sim_stencil_3d(const fovea_problem *problem, fovea_run *run) {
    space_plan p = space_make_plan(problem);
    int64_t pieces = p.batches * p.extents[0] * p.blocks;
    int64_t bytes = 2 * p.batches * p.extents[0] * p.extents[1] * p.extents[2] * p.size;
    int allowed = run->threads;
    run->threads = 1;
    if (bytes == 0) return FOVEA_OK;
    fovea_views_collapse((fovea_view *[]){&p.u, &p.y}, 2);
    p.scratch = run->workspace;
    run->threads = fovea_useful_threads(pieces, bytes, allowed);
    p.stream = p.dense && fovea_worth_streaming(bytes, run->threads);
    fovea_share(pieces, run->threads, space_pieces, &p);
    return FOVEA_OK;
}

#endif
