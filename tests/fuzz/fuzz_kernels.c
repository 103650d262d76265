/* Every implementation of every kernel at shapes, dtypes, memory layouts, data and parameters from a
 * fuzzer, over heap memory of exactly the size that the tensors have: the sanitizers watch. With
 * default parameters and ordinary data the results are compared with the reference as well. Lengths,
 * tables and other integers that rows check are spoilt in some inputs: then they are refused, or no
 * implementation minds. With FOVEA_FUZZ_REACH in the environment the program says at its end which
 * implementations never ran. */
#include "router/registry.h"
#include "runtime/memory.h"
#include "sample.h"
#include "verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* False if the call is refused then, as it mostly is. */
static bool still_right(bytes *b, fovea_sample *sample) {
    fovea_message message = {.text = ""};
    spoil(b, sample);
    fovea_status status = fovea_problem_create(
        sample->c->index, (const DLTensor *const *)sample->required, sample->count, sample->options,
        sample->problem_options, &sample->problem, &message);
    if (status == FOVEA_OK || strlen(message.text) > 5) return status == FOVEA_OK;
    fprintf(stderr, "%s refuses without a sentence\n", sample->problem.kernel->name);
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
    drawn_call drawn = draw_call(&b);
    fovea_case *c = &drawn.c;
    const fovea_case_memory memory = {allocate, release, &drawn.shift};
    fovea_message message;
    if (fovea_case_complete(c, &message) != FOVEA_OK) return 0;
    if (fovea_sample_create(c, &memory, &sample, &message) != FOVEA_OK) return 0;
    bool right = next_choice(&b, 4) != 1 || still_right(&b, &sample);
    if (right && is_short(&sample.problem, 1)) exercise(&sample, drawn.threads, drawn.ordinary);
    fovea_sample_destroy(&sample);
    return 0;
}
