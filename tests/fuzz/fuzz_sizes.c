/* Calls over more than any memory holds: with strides of 0 an input has any extents over a single element,
 * and its caller does nothing wrong. Cases of any extents, whose tensors stand at addresses that nobody
 * touches; only lengths, tables and what else is looked at before a call are really there. What is asked
 * before memory is touched must not overflow: counts, keys, costs, scratch, the shapes of results. */
#include "catalogue/outcome.h"
#include "options.h"
#include "router/choose.h"
#include "runtime/threads.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LOOKED_AT_MAX = 2048 };

static bool looked_at(const fovea_case *c, int argument) {
    return fovea_catalogue_kernel(c->index)->arguments[argument].fill == FOVEA_FILL_BY_ROW;
}

static void *allocate(void *user, size_t count, int argument) {
    if (!looked_at(user, argument)) return (void *)((uintptr_t)(argument + 1) << 57);
    return count > LOOKED_AT_MAX ? NULL : calloc(count + 1, 1);
}

static void release(void *user, void *memory, size_t count, int argument) {
    (void)count;
    if (looked_at(user, argument)) free(memory);
}

static void set_extents(bytes *b, fovea_case *c) {
    for (int l = 0; l < FOVEA_LETTERS_MAX && fovea_kernel_letter_name(c->index, l); l++) {
        int which = next_choice(b, 8), power = next_choice(b, 50);
        c->extents[l] = which < 4   ? next_choice(b, 9)
                        : which < 7 ? (INT64_C(1) << power) + next_choice(b, 3) - 1
                                    : -1; /* as the row completes it */
    }
    /* Lengths are counted sequence by sequence, and some scratch head by head. */
    for (int l = 0; l < 3 && fovea_catalogue_kernel(c->index)->shape; l++)
        c->extents[l] = next_choice(b, 65);
}

/* Of a call that is right, what is foreseen of its results is what they are. */
static void compare_outcomes(const fovea_problem *problem) {
    for (int a = 0; problem->kernel->arguments[a].name; a++) {
        const fovea_view *view = &problem->views[a];
        fovea_view outcome = {.dtype = view->dtype};
        if (!fovea_given(problem, a) || problem->kernel->arguments[a].role != FOVEA_OUTPUT)
            continue;
        fovea_problem given = *problem;
        for (int o = 0; problem->kernel->arguments[o].name; o++)
            if (problem->kernel->arguments[o].role == FOVEA_OUTPUT) given.present &= ~(1u << o);
        if (!fovea_outcome(&given, a, &outcome)) continue;
        must(outcome.rank == view->rank, "the foreseen rank is another");
        for (int i = 0; i < view->rank; i++)
            must(outcome.shape[i] == view->shape[i], "the foreseen shape is another");
    }
}

static void ask(const fovea_sample *sample, int threads) {
    char reason[160], text[512];
    const fovea_problem *problem = &sample->problem;
    fovea_choice choice;
    fovea_route_key key;
    must(fovea_problem_operations(problem) >= 0, "there are fewer than no operations");
    must(fovea_problem_bytes(problem) >= 0, "there are fewer than no bytes");
    fovea_route_key_of(problem, threads, &key);
    fovea_choose(problem, NULL, threads, &choice);
    for (int i = 0; i < fovea_implementation_count(problem->index); i++) {
        const fovea_implementation *one = fovea_implementation_at(problem->index, i);
        if (!fovea_implementation_serves(one, problem, reason, sizeof reason)) continue;
        size_t bytes = one->workspace ? one->workspace(problem, threads) : 0;
        if (bytes <= SIZE_MAX / 2 || bytes == SIZE_MAX) continue;
        fprintf(stderr, "%s of %s asks for %zu bytes: %s, %d threads\n", one->name,
                problem->kernel->name, bytes, fovea_case_text(sample->c, text, sizeof text),
                threads);
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static fovea_sample sample;
    static const int threads[] = {1, 2, 16, FOVEA_THREADS_MAX};
    bytes b = {data, data + size};
    fovea_case c;
    fovea_message message;
    fovea_case_begin(&c, (next_byte(&b) << 8 | next_byte(&b)) % fovea_catalogue_count());
    const fovea_case_memory memory = {allocate, release, &c};
    int team = threads[next_choice(&b, 4)];
    c.layout = (fovea_layout)next_choice(&b, FOVEA_LAYOUT_COUNT);
    c.data = FOVEA_DATA_NONE;
    set_dtypes(&b, &c);
    set_extents(&b, &c);
    set_parameters(&b, &c);
    if (fovea_case_complete(&c, &message) != FOVEA_OK) return 0;
    if (fovea_sample_create(&c, &memory, &sample, &message) != FOVEA_OK) return 0;
    compare_outcomes(&sample.problem);
    ask(&sample, team);
    fovea_sample_destroy(&sample);
    return 0;
}
