/* From a catalogue row to the cases that tell its implementations apart: each dtype, each choice, sizes
 * from the first cache to memory, short and long rows, along and across memory. */
#include "tune_points.h"
#include "bench_statistics.h"
#include "router/registry.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const int64_t sizes[] = {1 << 11, 1 << 16, 1 << 20};
/* Of the tensors together, at each of the sizes. Cases of the benchmark that have one size are cut to
 * these; one row's tensors of a gigabyte took a tenth of a whole run. */
static const double bytes_at_most[] = {64 << 10, 2 << 20, 32 << 20};
static const int64_t row_lengths[] = {64, 1024, 8192};
#define COUNT(array) (sizeof(array) / sizeof *(array))
enum { FRESH = 1 << 16 }; /* drawing all numbers took longer than what was measured with them */

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
    const fovea_shape *shape = fovea_kernel_shape(c.index, 0);
    c.group_rank = 2;
    c.group[0] = n / row, c.group[1] = row;
    if (shape->group >= 0) c.extents[shape->group] = c.group[0] * row;
    for (int axis = 1; axis >= 0; axis--) {
        fovea_case_set(&c, "axis", axis);
        add(points, &c);
    }
}

double fovea_tune_bytes(const fovea_problem *problem) {
    double bytes = 0;
    for (uint32_t rest = problem->present; rest; rest &= rest - 1) {
        const fovea_view *view = &problem->views[__builtin_ctz(rest)];
        bytes += (double)fovea_view_elements(view) * (double)fovea_dtype_size(view->dtype);
    }
    return bytes;
}

/* What the tensors of a case take and what is done with them; false if there are no such tensors. */
static bool weigh(const fovea_case *c, double *bytes, double *operations) {
    fovea_sample sample;
    fovea_message message;
    fovea_case empty = *c;
    empty.data = FOVEA_DATA_NONE;
    if (fovea_sample_create(&empty, NULL, &sample, &message) != FOVEA_OK) return false;
    *bytes = fovea_tune_bytes(&sample.problem);
    *operations = fovea_problem_operations(&sample.problem);
    fovea_sample_destroy(&sample);
    return true;
}

static int largest_extent(const fovea_case *c) {
    int largest = 0;
    for (int l = 1; l < FOVEA_LETTERS_MAX; l++)
        if (c->extents[l] > c->extents[largest]) largest = l;
    return largest;
}

/* Halves the largest extent until the tensors take no more; short ones are what the kernel is about. To
 * look at a case means to draw its indices, where it has some, so there are few looks; a halving may take
 * three quarters of the bytes. */
static void cut_to(fovea_case *c, double most) {
    enum { SHORT = 16 };
    double bytes, operations;
    fovea_message message;
    while (weigh(c, &bytes, &operations) && bytes > most)
        for (; bytes > most; bytes /= 4) {
            int largest = largest_extent(c);
            if (c->extents[largest] <= SHORT) return;
            c->extents[largest] /= 2;
            if (fovea_case_complete(c, &message) != FOVEA_OK) return;
        }
}

static void add_row_lengths(fovea_tune_points *points, fovea_case c, const fovea_shape *shape,
                            size_t i) {
    for (size_t r = 0; r < COUNT(row_lengths); r++) {
        fovea_case rows = c;
        if (row_lengths[r] > sizes[i]) continue;
        rows.extents[shape->letters[0]] = row_lengths[r];
        rows.extents[shape->group] = sizes[i] / row_lengths[r];
        cut_to(&rows, bytes_at_most[i]);
        add(points, &rows);
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
        cut_to(&c, bytes_at_most[i]);
        if (rows)
            add_row_lengths(points, c, shape, i);
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

int fovea_tune_candidates(int kernel, bool device) {
    int count = 0;
    for (int i = 0; i < fovea_implementation_count(kernel); i++) {
        const fovea_implementation *candidate = fovea_implementation_at(kernel, i);
        count += !candidate->only_by_name && fovea_implementation_is_cuda(candidate) == device &&
                 (device || fovea_has_tier(candidate->tier));
    }
    return count;
}

/* The points since `first` again, of a batch that gives each multiprocessor something to do. */
static void add_batches(fovea_tune_points *points, int kernel, int first) {
    enum { BATCH = 16 };
    int letter = fovea_kernel_letter(kernel, "B"), end = points->count;
    for (int p = first; p < end && letter >= 0; p++) {
        fovea_case c = points->items[p].c;
        c.extents[letter] *= BATCH;
        add(points, &c);
    }
}

void fovea_tune_points_add(fovea_tune_points *points, int kernel, bool device) {
    const fovea_kernel *row = fovea_catalogue_kernel(kernel);
    int first = points->count;
    if (!points->items) points->enough_memory = true;
    for (uint32_t rest = row->dtypes; rest; rest &= rest - 1) {
        fovea_case c;
        fovea_case_begin(&c, kernel);
        c.dtype = (fovea_dtype)__builtin_ctz(rest);
        c.fresh = FRESH;
        if (row->tune)
            add_listed(points, &c, row->tune);
        else
            add_own_dtypes(points, c);
    }
    if (device) add_batches(points, kernel, first);
}

static int64_t middle_of(int64_t a, int64_t b) {
    if (a <= 0 || b <= 0) return a;
    return (int64_t)llround(sqrt((double)a * (double)b));
}

void fovea_tune_point_between(const fovea_case *a, const fovea_case *b, fovea_case *middle) {
    const fovea_shape *shape = fovea_kernel_shape(a->index, 0);
    int64_t elements = 1;
    fovea_message message;
    *middle = *a;
    for (int l = 0; l < FOVEA_LETTERS_MAX; l++)
        middle->extents[l] = middle_of(a->extents[l], b->extents[l]);
    for (int i = 0; i < a->group_rank && a->group_rank != 1; i++) {
        middle->group[i] = middle_of(a->group[i], b->group[i]);
        elements *= middle->group[i];
    }
    if (a->group_rank != 1 && shape->group >= 0) middle->extents[shape->group] = elements;
    fovea_case_complete(middle, &message);
}

/* ---- Other cases of the same kinds ---------------------------------------------------------- */

/* A number from 0 to 1. */
static double draw(uint64_t *state) { return (double)(fovea_random_next(state) >> 11) * 0x1p-53; }

/* Up to a factor of four more or less, and not always a whole multiple of anything. */
static int64_t stray(int64_t extent, uint64_t *state) {
    double factor = exp2(4 * draw(state) - 2);
    if (extent <= 1) return extent;
    int64_t drawn = (int64_t)llround((double)extent * factor);
    return drawn > 1 ? drawn : 1;
}

/* On a device few kernels serve odd head sizes, and where one does there is nothing to choose. */
static bool stays(int kernel, int letter, bool device) {
    const char *name = fovea_kernel_letter_name(kernel, letter);
    return device && (!name || *name == 'D' || *name == 'P');
}

static void shift_extents(fovea_case *c, bool device, uint64_t *state) {
    const fovea_shape *shape = fovea_kernel_shape(c->index, 0);
    int64_t elements = 1;
    fovea_message message;
    for (int l = 0; l < FOVEA_LETTERS_MAX; l++)
        if (!stays(c->index, l, device)) c->extents[l] = stray(c->extents[l], state);
    for (int i = 0; i < c->group_rank && c->group_rank != 1; i++)
        elements *= c->group[i] = stray(c->group[i], state);
    if (c->group_rank != 1 && shape->group >= 0) c->extents[shape->group] = elements;
    fovea_case_complete(c, &message);
}

/* Whether there are such tensors, of a size that a reference takes no seconds for. What is tuned on a device
 * is attention, of which a reference computes some rows. */
static bool can_be_had(const fovea_case *c, bool device) {
    const double most = device ? 1e11 : 3e8, largest = device ? 5e8 : 32e6; /* operations, bytes */
    double bytes, operations;
    return weigh(c, &bytes, &operations) && operations < most && bytes < largest;
}

static bool is_a_point(const fovea_tune_points *points, const fovea_case *c) {
    for (int p = 0; p < points->count; p++)
        if (memcmp(points->items[p].c.extents, c->extents, sizeof c->extents) == 0 &&
            points->items[p].c.dtype == c->dtype && points->items[p].c.group_rank == c->group_rank)
            return true;
    return false;
}

/* Kernels have few extents that are tied to each other: most draws will do. */
static bool draw_unseen(const fovea_tune_points *points, uint64_t *state, bool device,
                        fovea_case *c) {
    enum { DRAWS = 60 };
    for (int i = 0; i < DRAWS && points->count > 0; i++) {
        *c = points->items[(int)(draw(state) * points->count)].c;
        shift_extents(c, device, state);
        if (!is_a_point(points, c) && can_be_had(c, device)) return true;
    }
    return false;
}

fovea_case *fovea_unseen_cases(int wanted, uint64_t seed, bool device, int *count) {
    int kernels = fovea_catalogue_count(), turns = 4 * wanted;
    fovea_case *cases = malloc((size_t)wanted * sizeof *cases);
    fovea_tune_points *points = calloc((size_t)kernels, sizeof *points);
    *count = 0;
    int drawn = 0; /* kernels of which cases are drawn; they come first */
    for (int k = 0; k < kernels && points; k++)
        if (!device || fovea_tune_candidates(k, true) > 1)
            fovea_tune_points_add(&points[drawn++], k, device);
    for (int t = 0; t < turns && *count < wanted && cases && points && drawn; t++)
        *count += draw_unseen(&points[t % drawn], &seed, device, &cases[*count]);
    for (int k = 0; k < kernels && points; k++) fovea_tune_points_release(&points[k]);
    free(points);
    return cases;
}
