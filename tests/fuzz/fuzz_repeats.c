/* What a context keeps for calls alike: a call, another one that differs from it in one thing or two,
 * that again and the first again in one context must each leave the bits, the report or the refusal that
 * they leave in a context of their own. Scratch has exactly the size that was asked for, so that the
 * sanitizers see scratch, or a plan, of another call. The last bytes of an input say what differs, those
 * before them are an input of fuzz_kernels. */
#include "api/context.h"
#include "router/registry.h"
#include "sample.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CHANGE_BYTES = 12, RUNS = 3 /* of a call */ };

typedef enum change {
    CHANGE_ADDRESSES, /* which differ always */
    CHANGE_THREADS,
    CHANGE_IMPLEMENTATION,
    CHANGE_LAYOUT,
    CHANGE_STRIDES, /* of one tensor */
    CHANGE_DTYPES,
    CHANGE_OPTIONAL, /* one tensor is given, or not */
    CHANGE_EXTENT,
    CHANGE_DATA,
    CHANGE_PARAMETER,
    CHANGE_OPTIONS, /* an older struct, or none */
    CHANGE_CONTENTS,
    CHANGES
} change;

typedef struct call {
    fovea_case c;
    int threads;
    size_t shift;
    const char *implementation; /* NULL: any */
    const void *options;
    fovea_sample sample;
    /* What it does by itself. */
    fovea_status status;
    fovea_message message;
    fovea_call_report report;
    void *results[FOVEA_ARGUMENTS_MAX];
} call;

/* ---- Contexts --------------------------------------------------------------------------------- */

static void *take_scratch(void *user, size_t count, size_t alignment) {
    void *memory;
    if (count > MEMORY_MAX || posix_memalign(&memory, alignment, count) != 0) return NULL;
    return memset(memory, *(const uint8_t *)user, count);
}

static void give_scratch(void *user, void *memory, size_t count) {
    (void)user, (void)count;
    free(memory);
}

/* content: of memory that nothing was written to, so that reading it shows. */
static fovea_context *make_context(uint8_t *content) {
    fovea_context *context;
    fovea_context_options options;
    fovea_context_options_default(&options);
    options.routes = "";
    options.allocator = (fovea_allocator){take_scratch, give_scratch, content};
    must(fovea_context_create(&options, &context) == FOVEA_OK, "there is no context");
    return context;
}

static fovea_status run(fovea_context *context, call *one) {
    const char *kernel = one->sample.problem.kernel->name;
    fovea_sample_restore(&one->sample);
    fovea_context_set_threads(context, one->threads);
    must(fovea_use(context, kernel, one->implementation) == FOVEA_OK, fovea_last_message(context));
    return fovea_call(context, kernel, one->sample.required, one->sample.count, one->options);
}

static bool is_result(const call *one, int argument) {
    return one->sample.present >> argument & 1 &&
           one->sample.problem.kernel->arguments[argument].role != FOVEA_INPUT;
}

static void run_alone(call *one) {
    static uint8_t content = 0;
    fovea_context *context = make_context(&content);
    one->status = run(context, one);
    one->message = context->message;
    if (one->status == FOVEA_OK) fovea_last_call(context, &one->report);
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        if (!is_result(one, a)) continue;
        one->results[a] = malloc(one->sample.bytes[a] + 1);
        must(one->results[a] != NULL, "there is no memory");
        memcpy(one->results[a], one->sample.storage[a], one->sample.bytes[a]);
    }
    fovea_context_destroy(context);
}

/* ---- Comparing -------------------------------------------------------------------------------- */

static bool same_results(const call *one) {
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++)
        if (is_result(one, a) &&
            memcmp(one->results[a], one->sample.storage[a], one->sample.bytes[a]) != 0)
            return false;
    return true;
}

/* What differs; NULL: nothing. */
static const char *difference(const fovea_context *context, const call *one, fovea_status status) {
    fovea_call_report report;
    if (status != one->status) return "the status";
    if (status != FOVEA_OK)
        return strcmp(fovea_last_message(context), one->message.text) ? "the sentence" : NULL;
    fovea_last_call(context, &report);
    /* Lengths in memory may change what a call costs, and not what is kept of the choice. */
    if (strcmp(report.implementation, one->report.implementation) != 0)
        return fovea_depends_on_contents(&one->sample.problem) ? NULL : "the implementation";
    if (report.scratch_bytes != one->report.scratch_bytes) return "the scratch memory";
    if (report.threads != one->report.threads) return "the threads";
    if (report.block_rows != one->report.block_rows || report.block_keys != one->report.block_keys)
        return "the block plan";
    if (strcmp(report.arithmetic, one->report.arithmetic) != 0) return "the arithmetic";
    return same_results(one) ? NULL : "the results";
}

static void describe(const char *name, const call *one) {
    char text[512];
    fprintf(stderr, "    %s: %s\n    %s, %d threads: %s\n", name,
            fovea_case_text(&one->c, text, sizeof text),
            one->implementation ? one->implementation : "any implementation", one->threads,
            one->status == FOVEA_OK ? one->report.implementation : one->message.text);
}

static void run_in_turns(call *first, call *second) {
    static const char *const names[] = {"the first", "the second", "the second again",
                                        "the first again"};
    static uint8_t content = 0xFF;
    call *const order[] = {first, second, second, first};
    fovea_context *context = make_context(&content);
    for (int i = 0; i < 4; i++) {
        const char *what = difference(context, order[i], run(context, order[i]));
        if (!what) continue;
        fprintf(stderr, "%s: %s of %s is not that of a context of its own\n",
                first->sample.problem.kernel->name, what, names[i]);
        describe("the first", first), describe("the second", second);
        fprintf(stderr, "    %s\n", fovea_last_message(context));
        abort();
    }
    fovea_context_destroy(context);
}

/* ---- Changing --------------------------------------------------------------------------------- */

static void change_case(bytes *b, change what, fovea_case *c) {
    const fovea_kernel *row = fovea_catalogue_kernel(c->index);
    int argument = next_choice(b, fovea_kernel_arguments(row)), letter;
    switch (what) {
    case CHANGE_LAYOUT:
        c->layout = (fovea_layout)next_choice(b, FOVEA_LAYOUT_COUNT);
        break;
    case CHANGE_DTYPES:
        memset(c->dtypes, 0, sizeof c->dtypes);
        set_dtypes(b, c);
        break;
    case CHANGE_OPTIONAL:
        while (argument > 0 && !row->arguments[argument].optional) argument--;
        if (row->arguments[argument].optional) c->optional ^= 1u << argument;
        break;
    case CHANGE_EXTENT:
        letter = next_choice(b, FOVEA_LETTERS_MAX);
        while (letter > 0 && !fovea_kernel_letter_name(c->index, letter)) letter--;
        if (c->extents[letter] >= 0) c->extents[letter] += next_choice(b, 3) ? 1 : -1;
        break;
    case CHANGE_DATA:
        c->data = (fovea_distribution)next_choice(b, FOVEA_DATA_COUNT);
        c->seed = next_byte(b);
        break;
    default:
        break;
    }
}

/* Within the memory that the tensor has. What lies between the elements is no index. */
static void change_strides(bytes *b, fovea_sample *sample) {
    int a = next_choice(b, fovea_kernel_arguments(sample->problem.kernel)), how = next_choice(b, 5);
    DLTensor *tensor = &sample->tensors[a];
    if (!(sample->present >> a & 1) || tensor->ndim == 0 || !tensor->strides) return;
    if (is_filled(&sample->problem, a) && !is_looked_at(&sample->problem)) return;
    int dimension = next_choice(b, tensor->ndim);
    int64_t extent = tensor->shape[dimension], *stride = &tensor->strides[dimension];
    if (how == 0) {
        tensor->data = sample->storage[a], tensor->strides = NULL;
    } else if (extent <= 1) {
        *stride = next_integer(b);
    } else if (how == 1) {
        tensor->data = (char *)tensor->data + *stride * (extent - 1) * (tensor->dtype.bits / 8);
        *stride = -*stride;
    } else {
        *stride = how == 2 ? 0 : how == 3 ? *stride / 2 : (*stride > 0) - (*stride < 0);
    }
}

static void change_parameter(bytes *b, fovea_sample *sample) {
    const fovea_kernel *row = sample->problem.kernel;
    int count = fovea_kernel_parameters(row), p = next_choice(b, count);
    if (count > 0)
        fovea_parameter_write(sample->c->index, sample->options, p,
                              next_value(b, &row->parameters[p]));
}

static void change_options(bytes *b, call *one) {
    size_t count = fovea_options_layouts[one->c.index].size - 8 * (size_t)next_choice(b, 4);
    memcpy(one->sample.options, &count, sizeof count);
    if (next_choice(b, 2)) one->options = NULL;
}

static void change_call(bytes *b, change what, call *one) {
    static const int threads[] = {1, 2, 3};
    int kernel = one->c.index;
    switch (what) {
    case CHANGE_THREADS:
        one->threads = threads[next_choice(b, 3)];
        break;
    case CHANGE_IMPLEMENTATION:
        one->implementation =
            fovea_implementation_at(kernel, next_choice(b, fovea_implementation_count(kernel)))
                ->name;
        break;
    case CHANGE_STRIDES:
        change_strides(b, &one->sample);
        break;
    case CHANGE_PARAMETER:
        change_parameter(b, &one->sample);
        break;
    case CHANGE_OPTIONS:
        change_options(b, one);
        break;
    case CHANGE_CONTENTS:
        spoil(b, &one->sample);
        break;
    default:
        break;
    }
}

/* ---- Calls ------------------------------------------------------------------------------------ */

static bool create(call *one) {
    const fovea_case_memory memory = {allocate, release, &one->shift};
    fovea_message message;
    one->sample.present = 0;
    if (fovea_case_complete(&one->c, &message) != FOVEA_OK ||
        fovea_sample_create(&one->c, &memory, &one->sample, &message) != FOVEA_OK)
        return false;
    one->options = one->sample.options;
    return true;
}

static void destroy(call *one) {
    fovea_sample_destroy(&one->sample);
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        free(one->results[a]);
        one->results[a] = NULL;
    }
}

/* Every second time any; else one that serves, the next from where the fuzzer points. */
static const char *choose_implementation(bytes *b, const fovea_problem *problem) {
    char reason[160];
    int from = next_byte(b), count = fovea_implementation_count(problem->index);
    for (int i = 0; i < count && from % 2; i++) {
        const fovea_implementation *one =
            fovea_implementation_at(problem->index, (from / 2 + i) % count);
        if (fovea_implementation_serves(one, problem, reason, sizeof reason)) return one->name;
    }
    return NULL;
}

/* False for what takes long. What is refused is short. */
static bool is_short_call(call *one) {
    _Alignas(16) char options[FOVEA_OPTIONS_SIZE_MAX];
    fovea_sample *sample = &one->sample;
    fovea_problem problem;
    fovea_message message;
    return fovea_problem_create(one->c.index, (const DLTensor *const *)sample->required,
                                sample->count, one->options, options, &problem,
                                &message) != FOVEA_OK ||
           is_short(&problem, RUNS);
}

/* The second call, from the case of the first; false if it cannot be made. */
static bool make_second(bytes *b, const fovea_case *drawn, const call *first, call *second) {
    change changes[2] = {(change)next_choice(b, CHANGES), CHANGE_ADDRESSES};
    if (next_choice(b, 4) == 1) changes[1] = (change)next_choice(b, CHANGES);
    second->c = *drawn;
    second->threads = first->threads;
    second->implementation = first->implementation;
    second->shift = 8 * (size_t)next_choice(b, 8);
    for (int i = 0; i < 2; i++) change_case(b, changes[i], &second->c);
    if (!create(second)) return false;
    for (int i = 0; i < 2; i++) change_call(b, changes[i], second);
    return is_short_call(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static call first, second;
    const uint8_t *end = data + size, *middle = size > CHANGE_BYTES ? end - CHANGE_BYTES : data;
    bytes b = {data, middle}, changes = {middle, end};
    drawn_call drawn = draw_call(&b);
    first.c = drawn.c, first.threads = drawn.threads, first.shift = drawn.shift;
    if (!create(&first)) return 0;
    first.implementation = choose_implementation(&changes, &first.sample.problem);
    if (is_short_call(&first) && make_second(&changes, &drawn.c, &first, &second)) {
        run_alone(&first), run_alone(&second);
        run_in_turns(&first, &second);
    }
    destroy(&first), destroy(&second);
    return 0;
}
