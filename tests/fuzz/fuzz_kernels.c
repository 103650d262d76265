/* Every implementation of every kernel at shapes, dtypes, memory layouts, data and parameters from a
 * fuzzer, over heap memory of exactly the size that the tensors have: the sanitizers watch. With
 * default parameters and ordinary data the results are compared with the reference as well. Lengths,
 * tables and other integers that rows check are spoilt in some inputs: then they are refused, or no
 * implementation minds. With FOVEA_FUZZ_REACH in the environment the program says at its end which
 * implementations never ran. */
#include "options.h"
#include "router/registry.h"
#include "runtime/memory.h"
#include "verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MEMORY_MAX = 4 << 20, ELEMENTS_MAX = 1 << 14, ELEMENTS_MOSTLY = 1 << 11, STEPS_MAX = 100 };
static const double OPERATIONS_MAX = 1e7;

/* Off the alignment that malloc gives, by what `user` points to. */
static void *allocate(void *user, size_t count, int argument) {
    size_t shift = *(const size_t *)user;
    (void)argument;
    if (count > MEMORY_MAX) return NULL;
    char *memory = malloc(count + shift + 1);
    return memory ? memory + shift : NULL;
}

static void release(void *user, void *memory, size_t count, int argument) {
    (void)count, (void)argument;
    if (memory) free((char *)memory - *(const size_t *)user);
}

static void set_extents(bytes *b, fovea_case *c) {
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
static void group_heads(bytes *b, fovea_case *c) {
    int queries = fovea_kernel_letter(c->index, "Hq"), keys = fovea_kernel_letter(c->index, "Hkv");
    if (queries < 0 || keys < 0 || next_choice(b, 8) == 1) return;
    c->extents[keys] = 1 + next_choice(b, 3);
    c->extents[queries] = c->extents[keys] * (1 + next_choice(b, 4));
}

static void split_group(bytes *b, fovea_case *c) {
    const fovea_shape *shape = fovea_kernel_shape(c->index, 0);
    int rank = next_choice(b, 6);
    int64_t product = 1;
    if (rank < 2 || fovea_catalogue_kernel(c->index)->shape || shape->group < 0) return;
    c->group_rank = rank;
    for (int i = 0; i < rank; i++) product *= c->group[i] = next_choice(b, 9);
    c->extents[shape->group] = product;
}

static void write_integer(const fovea_view *view, int64_t at, int64_t value) {
    int32_t narrow = (int32_t)value;
    if (fovea_dtype_size(view->dtype) == 8)
        memcpy(fovea_view_address(view, at), &value, sizeof value);
    else
        memcpy(fovea_view_address(view, at), &narrow, sizeof narrow);
}

/* Writes what the fuzzer likes into lengths, tables, classes: what the row fills, and looks at when it
 * is called. False if that is refused, as it mostly is. */
static bool spoil(bytes *b, fovea_sample *sample) {
    const fovea_kernel *row = sample->problem.kernel;
    fovea_message message = {.text = ""};
    for (int a = 0; a < fovea_kernel_arguments(row); a++) {
        const fovea_view *view = &sample->problem.views[a];
        if (!fovea_given(&sample->problem, a) || row->arguments[a].fill != FOVEA_FILL_BY_ROW ||
            (view->dtype != FOVEA_I32 && view->dtype != FOVEA_I64))
            continue;
        int64_t count = fovea_view_elements(view);
        for (int words = next_choice(b, 4); words > 0 && count > 0; words--)
            write_integer(view, next_byte(b) % count, next_integer(b));
    }
    fovea_status status = fovea_problem_create(
        sample->c->index, (const DLTensor *const *)sample->required, sample->count, sample->options,
        sample->problem_options, &sample->problem, &message);
    if (status == FOVEA_OK || strlen(message.text) > 5) return status == FOVEA_OK;
    fprintf(stderr, "%s refuses without a sentence\n", row->name);
    abort();
}

/* ---- Running ---------------------------------------------------------------------------------- */

static uint64_t reached[FOVEA_KERNELS_MAX]; /* bit i: implementation i ran */

static void report_reach(void) {
    for (int k = 0; k < fovea_catalogue_count(); k++)
        for (int i = 0; i < fovea_implementation_count(k); i++) {
            const fovea_implementation *one = fovea_implementation_at(k, i);
            if (!(reached[k] >> i & 1) && !fovea_implementation_is_cuda(one) &&
                fovea_has_tier(one->tier))
                fprintf(stderr, "not reached: %s of %s\n", one->name,
                        fovea_catalogue_kernel(k)->name);
        }
}

static void note_reach(int kernel, int number) {
    static bool registered;
    if (!registered && getenv("FOVEA_FUZZ_REACH")) atexit(report_reach);
    registered = true;
    reached[kernel] |= UINT64_C(1) << number;
}

static void fail(const fovea_sample *sample, const fovea_implementation *implementation,
                 const char *what) {
    char text[512];
    fprintf(stderr, "%s of %s: %s\n    %s\n", implementation->name, sample->problem.kernel->name,
            what, fovea_case_text(sample->c, text, sizeof text));
    abort();
}

static void run(fovea_sample *sample, const fovea_implementation *implementation, int threads,
                const fovea_verification *expected) {
    const fovea_problem *problem = &sample->problem;
    fovea_plans plans = {.allocator = fovea_default_allocator()};
    fovea_run state = {.threads = threads, .plans = &plans};
    fovea_verdict verdict;
    if (implementation->workspace)
        state.workspace_bytes = implementation->workspace(problem, threads);
    if (state.workspace_bytes > MEMORY_MAX) return;
    if (state.workspace_bytes &&
        posix_memalign(&state.workspace, FOVEA_ALIGNMENT, state.workspace_bytes) != 0)
        return;
    fovea_sample_restore(sample);
    fovea_status status = implementation->run(problem, &state);
    free(state.workspace);
    fovea_plans_release(&plans);
    if (status != FOVEA_OK && status != FOVEA_OUT_OF_MEMORY)
        fail(sample, implementation, fovea_status_text(status));
    if (!expected || status != FOVEA_OK) return;
    fovea_verify(expected, NULL, &verdict);
    if (!verdict.verified) fail(sample, implementation, verdict.where);
}

static void exercise(fovea_sample *sample, int threads, bool compare) {
    char reason[160];
    const fovea_problem *problem = &sample->problem;
    fovea_verification *expected =
        compare ? fovea_verification_create(problem, 0, sample->c->seed) : NULL;
    for (int i = 0; i < fovea_implementation_count(problem->index); i++) {
        const fovea_implementation *one = fovea_implementation_at(problem->index, i);
        if (!fovea_implementation_is_cuda(one) &&
            fovea_implementation_serves(one, problem, reason, sizeof reason)) {
            note_reach(problem->index, i);
            run(sample, one, threads, expected);
        }
    }
    fovea_verification_destroy(expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static fovea_sample sample;
    bytes b = {data, data + size};
    fovea_case c;
    fovea_message message;
    fovea_case_begin(&c, (next_byte(&b) << 8 | next_byte(&b)) % fovea_catalogue_count());
    int threads = next_choice(&b, 4) == 1 ? 3 : 1; /* a team of another size is made anew */
    size_t shift = 8 * (size_t)next_choice(&b, 8);
    const fovea_case_memory memory = {allocate, release, &shift};
    c.layout = (fovea_layout)next_choice(&b, FOVEA_LAYOUT_COUNT);
    c.data = (fovea_distribution)next_choice(&b, FOVEA_DATA_COUNT);
    c.seed = next_byte(&b);
    set_dtypes(&b, &c);
    set_extents(&b, &c);
    group_heads(&b, &c);
    split_group(&b, &c);
    bool ordinary = !set_parameters(&b, &c) && c.data == FOVEA_DATA_ROW;
    if (fovea_case_complete(&c, &message) != FOVEA_OK) return 0;
    if (fovea_sample_create(&c, &memory, &sample, &message) != FOVEA_OK) return 0;
    bool checked = fovea_catalogue_kernel(c.index)->shape || fovea_catalogue_kernel(c.index)->check;
    bool right = !checked || next_choice(&b, 4) != 1 || spoil(&b, &sample);
    /* Steps without end are no error, and take their time. */
    if (right && !(fovea_problem_operations(&sample.problem) > OPERATIONS_MAX) &&
        !(fovea_case_parameter(&c, "steps") > STEPS_MAX))
        exercise(&sample, threads, ordinary);
    fovea_sample_destroy(&sample);
    return 0;
}
