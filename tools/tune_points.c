/* From a catalogue row to the cases that tell its implementations apart: each dtype, each choice, sizes
 * from the first cache to memory, short and long rows, along and across memory. */
#include "tune_points.h"

#include <stdio.h>
#include <stdlib.h>

static const int64_t sizes[] = {1 << 11, 1 << 16, 1 << 21};
static const int64_t row_lengths[] = {64, 1024, 8192};
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Extents that follow from others are set anew. */
static void add(fovea_tune_points *points, const fovea_case *c) {
    fovea_message message;
    if (points->count == points->capacity) {
        int capacity = points->capacity ? 2 * points->capacity : 64;
        fovea_tune_point *items = realloc(points->items, (size_t)capacity * sizeof *items);
        if (!items) {
            points->enough_memory = false;
            return;
        }
        points->items = items;
        points->capacity = capacity;
    }
    fovea_tune_point *point = &points->items[points->count];
    *point = (fovea_tune_point){.c = *c};
    if (fovea_case_complete(&point->c, &message) == FOVEA_OK) points->count++;
}

void fovea_tune_points_release(fovea_tune_points *points) {
    free(points->items);
    *points = (fovea_tune_points){0};
}

/* Parses and completes; rows that are wrong show in the tests, not here. */
static bool prepare(fovea_case *c, const char *text, double n) {
    fovea_message message;
    return fovea_case_parse(c, text, n, &message) == FOVEA_OK &&
           fovea_case_complete(c, &message) == FOVEA_OK;
}

static void add_listed(fovea_tune_points *points, const fovea_case *start, const char *list) {
    char text[160];
    while (*list) {
        int length = (int)strcspn(list, ";");
        fovea_case c = *start;
        snprintf(text, sizeof text, "%.*s", length, list);
        if (prepare(&c, text, 0)) add(points, &c);
        list += length + (list[length] == ';');
    }
}

/* The same elements as [rows, row], reduced along each of the two. */
static void add_axes(fovea_tune_points *points, fovea_case c, int64_t n) {
    const int64_t row = n < 1 << 16 ? 64 : 1024;
    c.group_rank = 2;
    c.group[0] = n / row, c.group[1] = row;
    for (int axis = 1; axis >= 0; axis--) {
        fovea_case_set(&c, "axis", axis);
        add(points, &c);
    }
}

static void add_row_lengths(fovea_tune_points *points, fovea_case c, const fovea_shape *shape,
                            int64_t n) {
    for (size_t r = 0; r < COUNT(row_lengths); r++) {
        if (row_lengths[r] > n) continue;
        c.extents[shape->letters[0]] = row_lengths[r];
        c.extents[shape->group] = n / row_lengths[r];
        add(points, &c);
    }
}

static void add_sizes(fovea_tune_points *points, const fovea_case *start) {
    const fovea_kernel *kernel = fovea_catalogue_kernel(start->index);
    const fovea_shape *shape = fovea_kernel_shape(start->index, 0);
    bool rows = shape->group >= 0 && shape->count == 1;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        fovea_case c = *start, strided;
        if (!prepare(&c, kernel->bench, (double)sizes[i])) continue;
        /* The benchmark's text may fix choices; those of the start are meant. */
        memcpy(c.parameters, start->parameters, sizeof c.parameters);
        if (rows)
            add_row_lengths(points, c, shape, sizes[i]);
        else
            add(points, &c);
        if (fovea_kernel_parameter(kernel, "axis") >= 0) add_axes(points, c, sizes[i]);
        strided = c;
        strided.layout = FOVEA_STEPPED;
        if (sizes[i] == 1 << 16) add(points, &strided);
    }
}

/* Every value of the first choice that the row has. */
static void add_choices(fovea_tune_points *points, fovea_case c) {
    const fovea_kernel *kernel = fovea_catalogue_kernel(c.index);
    for (int p = 0; p < fovea_kernel_parameters(kernel); p++) {
        if (kernel->parameters[p].kind != FOVEA_CHOICE) continue;
        int count = 1;
        for (const char *at = kernel->parameters[p].choices; *at; at++) count += *at == ',';
        for (int value = 0; value < count; value++) {
            c.parameters[p] = value;
            add_sizes(points, &c);
        }
        return;
    }
    add_sizes(points, &c);
}

/* Every dtype of the first required argument that chooses its own. */
static void add_own_dtypes(fovea_tune_points *points, fovea_case c) {
    const fovea_kernel *kernel = fovea_catalogue_kernel(c.index);
    for (int a = 0; a < fovea_kernel_arguments(kernel); a++) {
        uint32_t set = fovea_argument_dtypes(&kernel->arguments[a], c.dtype);
        if (kernel->arguments[a].optional || !(set & (set - 1))) continue;
        for (; set; set &= set - 1) {
            c.dtypes[a] = 1 + (uint32_t)__builtin_ctz(set);
            add_choices(points, c);
        }
        return;
    }
    add_choices(points, c);
}

void fovea_tune_points_add(fovea_tune_points *points, int kernel) {
    const fovea_kernel *row = fovea_catalogue_kernel(kernel);
    if (!points->items) points->enough_memory = true;
    for (uint32_t rest = row->dtypes; rest; rest &= rest - 1) {
        fovea_case c;
        fovea_case_begin(&c, kernel);
        c.dtype = (fovea_dtype)__builtin_ctz(rest);
        if (row->tune)
            add_listed(points, &c, row->tune);
        else
            add_own_dtypes(points, c);
    }
}
