/* Calls of any kernel from the fuzzer's bytes, and their tensors: heap memory of exactly the size that they
 * have, for the sanitizers to watch. */
#ifndef FOVEA_TESTS_FUZZ_SAMPLE_H
#define FOVEA_TESTS_FUZZ_SAMPLE_H

#include "options.h"

enum { MEMORY_MAX = 4 << 20, ELEMENTS_MAX = 1 << 14, ELEMENTS_MOSTLY = 1 << 11, STEPS_MAX = 100 };
static const double OPERATIONS_MAX = 1e7;

/* Off the alignment that malloc gives, by what `user` points to. */
static inline void *allocate(void *user, size_t count, int argument) {
    size_t shift = *(const size_t *)user;
    (void)argument;
    if (count > MEMORY_MAX) return NULL;
    char *memory = malloc(count + shift + 1);
    return memory ? memory + shift : NULL;
}

static inline void release(void *user, void *memory, size_t count, int argument) {
    (void)count, (void)argument;
    if (memory) free((char *)memory - *(const size_t *)user);
}

static inline void set_extents(bytes *b, fovea_case *c) {
    static const int64_t edges[] = {0,  1,  2,  3,  4,  7,  8,  9,  15,
                                    16, 17, 31, 32, 33, 63, 64, 65, 129};
    int letters = 0, largest = 0, most = next_choice(b, 8) == 1 ? ELEMENTS_MAX : ELEMENTS_MOSTLY;
    for (; letters < FOVEA_LETTERS_MAX && fovea_kernel_letter_name(c->index, letters); letters++) {
        int which = next_choice(b, 22);
        c->extents[letters] = which < 18   ? edges[which]
                              : which < 20 ? next_byte(b)
                              : which < 21 ? next_byte(b) << 4
                                           : -1; /* as the row completes it */
    }
    for (double product = INFINITY; product > most;) {
        product = 1;
        for (int l = 0; l < letters; l++) {
            if (c->extents[l] > 1) product *= (double)c->extents[l];
            if (c->extents[l] > c->extents[largest]) largest = l;
        }
        if (product > most) c->extents[largest] /= 2;
    }
}

/* Query heads are mostly a multiple of the heads of keys, or every call would be refused. */
static inline void group_heads(bytes *b, fovea_case *c) {
    int queries = fovea_kernel_letter(c->index, "Hq"), keys = fovea_kernel_letter(c->index, "Hkv");
    if (queries < 0 || keys < 0 || next_choice(b, 8) == 1) return;
    c->extents[keys] = 1 + next_choice(b, 3);
    c->extents[queries] = c->extents[keys] * (1 + next_choice(b, 4));
}

static inline void split_group(bytes *b, fovea_case *c) {
    const fovea_shape *shape = fovea_kernel_shape(c->index, 0);
    int rank = next_choice(b, 6);
    int64_t product = 1;
    if (rank < 2 || fovea_catalogue_kernel(c->index)->shape || shape->group < 0) return;
    c->group_rank = rank;
    for (int i = 0; i < rank; i++) product *= c->group[i] = next_choice(b, 9);
    c->extents[shape->group] = product;
}

static inline void write_integer(const fovea_view *view, int64_t at, int64_t value) {
    int32_t narrow = (int32_t)value;
    if (fovea_dtype_size(view->dtype) == 8)
        memcpy(fovea_view_address(view, at), &value, sizeof value);
    else
        memcpy(fovea_view_address(view, at), &narrow, sizeof narrow);
}

/* Whether an argument is lengths, tables, classes, or other whole numbers that the row fills. */
static inline bool is_filled(const fovea_problem *problem, int argument) {
    const fovea_view *view = &problem->views[argument];
    return fovea_given(problem, argument) &&
           problem->kernel->arguments[argument].fill == FOVEA_FILL_BY_ROW &&
           (view->dtype == FOVEA_I32 || view->dtype == FOVEA_I64);
}

/* Whether the row looks at such numbers when it is called; else they are for the caller to see to. */
static inline bool is_looked_at(const fovea_problem *problem) {
    return problem->kernel->shape || problem->kernel->check;
}

/* Writes what the fuzzer likes into the numbers that are looked at. */
static inline void spoil(bytes *b, fovea_sample *sample) {
    const fovea_problem *problem = &sample->problem;
    if (!is_looked_at(problem)) return;
    for (int a = 0; a < fovea_kernel_arguments(problem->kernel); a++) {
        const fovea_view *view = &problem->views[a];
        if (!is_filled(problem, a)) continue;
        int64_t count = fovea_view_elements(view);
        for (int words = next_choice(b, 4); words > 0 && count > 0; words--)
            write_integer(view, next_byte(b) % count, next_integer(b));
    }
}

/* A call before its extents are completed. */
typedef struct drawn_call {
    fovea_case c;
    int threads;
    size_t shift;  /* of all memory, for `allocate` */
    bool ordinary; /* parameters and data are those of the row */
} drawn_call;

static inline drawn_call draw_call(bytes *b) {
    drawn_call drawn;
    fovea_case *c = &drawn.c;
    fovea_case_begin(c, (next_byte(b) << 8 | next_byte(b)) % fovea_catalogue_count());
    drawn.threads = next_choice(b, 4) == 1 ? 3 : 1; /* a team of another size is made anew */
    drawn.shift = 8 * (size_t)next_choice(b, 8);
    c->layout = (fovea_layout)next_choice(b, FOVEA_LAYOUT_COUNT);
    c->data = (fovea_distribution)next_choice(b, FOVEA_DATA_COUNT);
    c->seed = next_byte(b);
    set_dtypes(b, c);
    set_extents(b, c);
    group_heads(b, c);
    split_group(b, c);
    drawn.ordinary = !set_parameters(b, c) && c->data == FOVEA_DATA_ROW;
    return drawn;
}

/* So many times. Steps without end are no error, and take their time. */
static inline bool is_short(const fovea_problem *problem, int times) {
    return !(fovea_problem_operations(problem) * times > OPERATIONS_MAX) &&
           !(fovea_problem_parameter(problem, "steps") > STEPS_MAX);
}

#endif
