/* Trials of `fovea check`: tensors and scratch between guard pages, outputs and scratch poisoned,
 * the call in a child process, and everything it left behind looked at. After checkasm of dav1d. */
#include "check_trial.h"

#include "catalogue/attention.h"
#include "check_device.h"
#include "reference/reference.h"
#include "router/registry.h"
#include "runtime/memory.h"

#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATTERN = 0xC3, RUNS = 3 };

/* ---- Guarded memory ------------------------------------------------------------------------- */

static size_t page_bytes(void) { return (size_t)sysconf(_SC_PAGESIZE); }

static bool guarded_create(fovea_guarded *memory, size_t bytes, size_t alignment, int side) {
    size_t page = page_bytes(), room = (bytes + alignment - 1) / alignment * alignment;
    size_t inner = (room / page + (room % page != 0 || room == 0)) * page;
    char *map = mmap(NULL, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *memory = (fovea_guarded){0};
    if (map == MAP_FAILED) return false;
    if (mprotect(map + page, inner, PROT_READ | PROT_WRITE) != 0)
        return munmap(map, inner + 2 * page), false;
    memset(map + page, PATTERN, inner);
    char *data = side == FOVEA_AT_START ? map + page : map + page + inner - room;
    *memory = (fovea_guarded){map, inner + 2 * page, data, bytes};
    return true;
}

static void guarded_destroy(fovea_guarded *memory) {
    if (memory->map) munmap(memory->map, memory->map_bytes);
    *memory = (fovea_guarded){0};
}

/* Whether the bytes around the memory still hold the pattern; else which one does not. */
static bool guarded_intact(const fovea_guarded *memory, const char **side, size_t *distance) {
    size_t page = page_bytes();
    const char *first = memory->map + page, *last = memory->map + memory->map_bytes - page;
    for (const char *c = memory->data; c > first; c--)
        if ((unsigned char)c[-1] != PATTERN)
            return *side = "before the start", *distance = (size_t)(memory->data - c + 1), false;
    for (const char *c = memory->data + memory->bytes; c < last; c++)
        if ((unsigned char)*c != PATTERN) {
            *side = "past the end";
            *distance = (size_t)(c - memory->data) - memory->bytes + 1;
            return false;
        }
    return true;
}

static void *allocate(void *user, size_t bytes, int argument) {
    fovea_trial *trial = user;
    fovea_guarded *memory = &trial->memory[FOVEA_AT_END][argument];
    return guarded_create(memory, bytes, 1, FOVEA_AT_END) ? memory->data : NULL;
}

static void release(void *user, void *memory, size_t bytes, int argument) {
    fovea_trial *trial = user;
    (void)memory, (void)bytes;
    guarded_destroy(&trial->memory[FOVEA_AT_END][argument]);
}

/* ---- Content of attention's inputs ---------------------------------------------------------- */

static uint64_t mix(uint64_t z) {
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* NaN into one row of the innermost dimension, an infinity into another. */
static void touch_rows(const fovea_view *view, uint64_t seed) {
    int64_t size = view->shape[view->rank - 1], elements = fovea_view_elements(view);
    if (elements == 0) return;
    uint64_t rows = (uint64_t)(elements / size);
    int64_t first = (int64_t)(mix(seed + 1) % rows), second = (int64_t)(mix(seed + 2) % rows);
    fovea_view_write(view, first * size + size / 2, NAN);
    fovea_view_write(view, second * size, seed & 1 ? INFINITY : -INFINITY);
}

static void touch_bias(const fovea_view *view, uint64_t seed) {
    int64_t keys = view->shape[view->rank - 1], elements = fovea_view_elements(view);
    for (int64_t i = 0; i < elements; i++)
        if (mix(seed + (uint64_t)i) % 3 == 0 || i / keys % 5 == 2)
            fovea_view_write(view, i, -INFINITY);
}

static void touch_mask(const fovea_view *view) {
    int64_t keys = view->shape[view->rank - 1], elements = fovea_view_elements(view);
    for (int64_t i = 0; i < elements; i++)
        if (i / keys % 3 == 1) fovea_view_write(view, i, 0);
}

/* As if there were none, for every other head. */
static void touch_sinks(const fovea_view *view) {
    for (int64_t h = 0; h < fovea_view_elements(view); h += 2) fovea_view_write(view, h, -INFINITY);
}

static bool is_backward(const fovea_problem *problem) { return fovea_is_backward(problem->kernel); }

/* Some channels of real keys, even and odd ones, lie far off 0; rounded to 8 bits with the others they take all steps. */
static void touch_channels(const fovea_view *view) {
    int64_t size = view->shape[view->rank - 1], elements = fovea_view_elements(view);
    for (int64_t i = 0; i < elements; i++)
        if (i % size % 5 == 0)
            fovea_view_write(view, i, fovea_view_read(view, i) + (i % size % 10 == 0 ? 24 : -24));
}

/* Scores stay what scores of such numbers are. */
static void touch_outliers(const fovea_view *q, const fovea_view *k) {
    const fovea_view *views[] = {q, k};
    for (int v = 0; v < 2; v++) {
        int64_t size = views[v]->shape[views[v]->rank - 1];
        for (int64_t i = 0; i < fovea_view_elements(views[v]); i += size)
            if (v == 0 || i / size % 8 == 0)
                fovea_view_write(views[v], i,
                                 fovea_view_read(views[v], i) * (v ? 0x1p24 : 0x1p-24));
    }
}

/* NaN into every row of k, v or a scale of theirs that belongs to no sequence. */
static bool touch_beyond(const fovea_problem *problem, int argument, char *data, size_t bytes) {
    fovea_attention_options options;
    fovea_problem forward;
    fovea_attention_call call;
    if (is_backward(problem)) fovea_backward_forward(problem, &forward, &options);
    fovea_attention_describe(is_backward(problem) ? &forward : problem, &call);
    const fovea_view *view = argument == FOVEA_ATTENTION_K         ? &call.k
                             : argument == FOVEA_ATTENTION_V       ? &call.v
                             : argument == FOVEA_ATTENTION_K_SCALE ? &call.k_scale
                                                                   : &call.v_scale;
    size_t size = fovea_dtype_size(view->dtype);
    char *copy = malloc(bytes + 1);
    if (!copy) return false;
    memcpy(copy, data, bytes);
    memset(data, 0xFF, bytes);
    for (int64_t b = 0; b < call.batch; b++) {
        fovea_sequence sequence = fovea_attention_sequence(&call, b);
        for (int64_t h = 0; h < call.key_heads; h++)
            for (int64_t j = 0; j < sequence.key_count; j++) {
                char *row = fovea_key_row(&call, view, &sequence, h, j);
                for (int64_t d = 0; d < view->shape[3]; d++) {
                    char *element = row + d * view->stride[3] * (int64_t)size;
                    memcpy(element, copy + (element - data), size);
                }
            }
    }
    free(copy);
    return true;
}

static bool present(const fovea_trial *trial, int argument) {
    return trial->sample.present >> argument & 1;
}

static bool touch(fovea_trial *trial) {
    fovea_sample *sample = &trial->sample;
    const fovea_view *views = sample->problem.views;
    uint64_t seed = trial->check->c.seed;
    switch (trial->check->touch) {
    case FOVEA_TOUCH_Q:
        touch_rows(&views[FOVEA_ATTENTION_Q], seed);
        break;
    case FOVEA_TOUCH_K:
        touch_rows(&views[FOVEA_ATTENTION_K], seed);
        break;
    case FOVEA_TOUCH_CHANNELS:
        touch_channels(&views[FOVEA_ATTENTION_K]);
        break;
    case FOVEA_TOUCH_OUTLIERS:
        touch_outliers(&views[FOVEA_ATTENTION_Q], &views[FOVEA_ATTENTION_K]);
        break;
    case FOVEA_TOUCH_V:
        touch_rows(&views[FOVEA_ATTENTION_V], seed);
        break;
    case FOVEA_TOUCH_BIAS:
        if (fovea_given(&sample->problem, FOVEA_ATTENTION_BIAS))
            touch_bias(&views[FOVEA_ATTENTION_BIAS], seed);
        break;
    case FOVEA_TOUCH_MASK:
        if (fovea_given(&sample->problem, FOVEA_ATTENTION_MASK))
            touch_mask(&views[FOVEA_ATTENTION_MASK]);
        if (fovea_given(&sample->problem, FOVEA_ATTENTION_SINKS))
            touch_sinks(&views[FOVEA_ATTENTION_SINKS]);
        break;
    case FOVEA_TOUCH_BEYOND:
        for (int a = FOVEA_ATTENTION_K; a <= FOVEA_ATTENTION_V_SCALE; a++)
            if ((a <= FOVEA_ATTENTION_V ||
                 (a >= FOVEA_ATTENTION_K_SCALE && !is_backward(&sample->problem))) &&
                present(trial, a) &&
                !touch_beyond(&sample->problem, a, sample->storage[a], sample->bytes[a]))
                return false;
        break;
    default:
        break;
    }
    return true;
}

/* A gradient's out and lse are those of its other inputs. */
static bool give_forward_results(const fovea_problem *problem) {
    fovea_attention_options options;
    fovea_problem forward;
    double *outputs[FOVEA_ARGUMENTS_MAX];
    fovea_backward_forward(problem, &forward, &options);
    if (!fovea_reference_run(&forward, outputs)) return false;
    for (int a = FOVEA_ATTENTION_OUT; a <= FOVEA_ATTENTION_LSE; a++)
        fovea_view_write_all(&problem->views[a], outputs[a]);
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) free(outputs[a]);
    return true;
}

/* ---- Building a trial ----------------------------------------------------------------------- */

static const fovea_argument *argument_of(const fovea_trial *trial, int argument) {
    return &trial->sample.problem.kernel->arguments[argument];
}

/* Copies the elements of a view, in row-major order, to a dense block; or, where `marks` is given,
 * sets the byte of every element byte there, counted from `data`. Returns the bytes copied. */
static size_t visit_elements(const fovea_view *view, char *block, const char *data,
                             uint8_t *marks) {
    int64_t inner = view->rank ? view->shape[view->rank - 1] : 1;
    int64_t elements = fovea_view_elements(view);
    size_t size = fovea_dtype_size(view->dtype), used = 0;
    int64_t step = view->rank ? view->stride[view->rank - 1] * (int64_t)size : 0;
    for (int64_t first = 0; first < elements; first += inner) {
        const char *element = fovea_view_address(view, first);
        for (int64_t i = 0; i < inner; i++, element += step, used += size) {
            if (marks)
                memset(marks + (element - data), 1, size);
            else
                memcpy(block + used, element, size);
        }
    }
    return used;
}

/* Marks the bytes of elements; gaps of inputs become NaN, which no result may show. */
static bool map_elements(fovea_trial *trial, int argument) {
    const fovea_view *view = &trial->sample.problem.views[argument];
    char *data = trial->sample.storage[argument];
    size_t bytes = trial->sample.bytes[argument];
    uint8_t *map = trial->element[argument] = calloc(bytes + 1, 1);
    if (!map) return false;
    visit_elements(view, NULL, data, map);
    for (size_t i = 0; i < bytes; i++)
        if (!map[i]) data[i] = (char)0xFF;
    return true;
}

static bool keep_original(fovea_trial *trial, int argument) {
    size_t bytes = trial->sample.bytes[argument];
    trial->original[argument] = malloc(bytes + 1);
    if (!trial->original[argument]) return false;
    memcpy(trial->original[argument], trial->sample.storage[argument], bytes);
    return true;
}

static void expand(fovea_trial *trial, fovea_problem *problem) {
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++)
        if (present(trial, a) && argument_of(trial, a)->role == FOVEA_INPUT &&
            argument_of(trial, a)->fill != FOVEA_FILL_BY_ROW && problem->views[a].rank > 0)
            problem->views[a].stride[0] = 0;
}

/* The first input and the first output become one tensor, if their dtypes allow it. */
static void alias(fovea_trial *trial, fovea_problem *problem) {
    int output = 0;
    while (argument_of(trial, output)->role != FOVEA_OUTPUT) output++;
    if (problem->views[output].dtype != problem->views[0].dtype) return;
    problem->views[output] = problem->views[0];
    trial->written |= 1u;
    trial->written &= ~(1u << output);
}

/* The argument in whose memory an address lies: an output may stand in an input's. */
static int memory_owner(const fovea_trial *trial, const char *data) {
    int owner = 0;
    while (!present(trial, owner) || data < trial->memory[FOVEA_AT_END][owner].data ||
           data >= trial->memory[FOVEA_AT_END][owner].data + trial->sample.bytes[owner])
        owner++;
    return owner;
}

static bool place_at_start(fovea_trial *trial) {
    fovea_problem *moved = &trial->problems[FOVEA_AT_START];
    *moved = trial->problems[FOVEA_AT_END];
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        fovea_guarded *memory = &trial->memory[FOVEA_AT_START][a];
        if (!present(trial, a)) continue;
        if (!guarded_create(memory, trial->sample.bytes[a], 1, FOVEA_AT_START)) return false;
        memcpy(memory->data, trial->original[a], trial->sample.bytes[a]);
    }
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        char *data = moved->views[a].data;
        if (!present(trial, a) || !data) continue;
        int owner = memory_owner(trial, data);
        moved->views[a].data = trial->memory[FOVEA_AT_START][owner].data +
                               (data - trial->memory[FOVEA_AT_END][owner].data);
    }
    return true;
}

/* Rows of attention that are compared: what the reference manages in some hundredths of a second. */
static int64_t compared_rows(const fovea_problem *problem) {
    double keys = (double)fovea_problem_extent(problem, "Sk");
    double sizes =
        (double)(fovea_problem_extent(problem, "D") + fovea_problem_extent(problem, "Dv"));
    double rows = (is_backward(problem) ? 5e5 : 2e6) / (keys * sizes + 1);
    return rows < 16 ? 16 : rows > 1e6 ? 0 : (int64_t)rows;
}

/* Elements that are not to be written are no elements of the output. */
static void protect_rest(fovea_trial *trial) {
    const fovea_problem *problem = &trial->problems[FOVEA_AT_END];
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX && problem->kernel->written; a++) {
        const fovea_view *view = &problem->views[a];
        if (!present(trial, a) || argument_of(trial, a)->role != FOVEA_OUTPUT) continue;
        int64_t elements = fovea_view_elements(view);
        for (int64_t i = fovea_verification_written(trial->expected, a); i < elements; i++)
            memset(trial->element[a] +
                       (fovea_view_address(view, i) - (char *)trial->sample.storage[a]),
                   0, fovea_dtype_size(view->dtype));
    }
}

static bool prepare(fovea_trial *trial) {
    fovea_problem *problem = &trial->problems[FOVEA_AT_END];
    if (!touch(trial)) return false;
    if (is_backward(&trial->sample.problem) && !give_forward_results(&trial->sample.problem))
        return false;
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        if (!present(trial, a)) continue;
        if (!map_elements(trial, a) || !keep_original(trial, a)) return false;
        if (argument_of(trial, a)->role != FOVEA_INPUT) trial->written |= 1u << a;
    }
    *problem = trial->sample.problem;
    if (trial->check->variant == FOVEA_VARIANT_EXPAND) expand(trial, problem);
    if (trial->check->variant == FOVEA_VARIANT_ALIAS) alias(trial, problem);
    if (!place_at_start(trial)) return false;
    trial->expected =
        fovea_verification_create(problem, compared_rows(problem), trial->check->c.seed);
    if (trial->expected) protect_rest(trial);
    return trial->expected != NULL;
}

fovea_status fovea_trial_create(const fovea_check_case *check, fovea_trial *trial,
                                fovea_message *message) {
    memset(trial, 0, sizeof *trial);
    trial->check = check;
    const fovea_case_memory memory = {allocate, release, trial};
    fovea_status status = fovea_sample_create(&check->c, &memory, &trial->sample, message);
    if (status != FOVEA_OK) return status;
    if (prepare(trial)) return FOVEA_OK;
    fovea_trial_destroy(trial);
    return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no memory for the expected values");
}

void fovea_trial_destroy(fovea_trial *trial) {
    fovea_sample_destroy(&trial->sample);
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        guarded_destroy(&trial->memory[FOVEA_AT_START][a]);
        free(trial->original[a]), free(trial->element[a]);
    }
    fovea_verification_destroy(trial->expected);
}

/* ---- In the child --------------------------------------------------------------------------- */

/* What the child leaves for its parent, also when it dies. */
typedef struct shared {
    fovea_trial_result result;
    int run; /* the one under way */
    bool done;
    char *volatile fault; /* address of a bad access */
    fovea_guarded scratch;
} shared;

static shared *page; /* of the child; for the signal handler */

static void on_fault(int number, siginfo_t *information, void *context) {
    (void)context;
    page->fault = information->si_addr;
    signal(number, SIG_DFL);
}

static int run_side(int run) { return run == 1 ? FOVEA_AT_START : FOVEA_AT_END; }

static int run_threads(const fovea_trial *trial, int run) {
    return 1 + (int)((trial->check->c.seed + (uint64_t)run) % RUNS);
}

static int run_poison(int run) { return run == 0 ? 0xA5 : 0x5A; }

static bool fails(fovea_trial_result *result, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static bool fails(fovea_trial_result *result, const char *format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(result->text, sizeof result->text, format, values);
    va_end(values);
    result->outcome = FOVEA_FAILED;
    return false;
}

static void load(fovea_trial *trial, int run) {
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        fovea_guarded *memory = &trial->memory[run_side(run)][a];
        if (!present(trial, a)) continue;
        if (argument_of(trial, a)->role == FOVEA_OUTPUT)
            memset(memory->data, run_poison(run), memory->bytes);
        else if (trial->written >> a & 1)
            memcpy(memory->data, trial->original[a], memory->bytes);
    }
}

static bool surroundings_intact(const fovea_guarded *memory, const char *name,
                                fovea_trial_result *result) {
    const char *side;
    size_t distance;
    if (guarded_intact(memory, &side, &distance)) return true;
    return fails(result, "writes outside %s: %zu bytes %s", name, distance, side);
}

/* Inputs as they were; of outputs the gaps between elements. */
static bool memory_intact(fovea_trial *trial, int run, fovea_trial_result *result) {
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        const fovea_guarded *memory = &trial->memory[run_side(run)][a];
        if (!present(trial, a)) continue;
        const char *name = argument_of(trial, a)->name;
        bool poisoned = argument_of(trial, a)->role == FOVEA_OUTPUT;
        bool written = trial->written >> a & 1;
        if (!surroundings_intact(memory, name, result)) return false;
        if (!poisoned && memcmp(memory->data, trial->original[a], memory->bytes) == 0) continue;
        for (size_t i = 0; i < memory->bytes; i++) {
            char before = poisoned ? (char)run_poison(run) : trial->original[a][i];
            if (memory->data[i] == before || (written && trial->element[a][i])) continue;
            if (!poisoned && !written)
                return fails(result, "changes its input %s, byte %zu of %zu", name, i,
                             memory->bytes);
            return fails(result, "writes outside the elements of %s, byte %zu of %zu", name, i,
                         memory->bytes);
        }
    }
    return true;
}

/* The trial's memory as it is for that run, and the problem over its image on the device. */
static fovea_status image_of(fovea_trial *trial, int run,
                             const fovea_implementation *implementation, fovea_image *image,
                             fovea_moved_problem *moved, fovea_message *message) {
    const fovea_problem *problem = &trial->problems[run_side(run)];
    char *data[FOVEA_ARGUMENTS_MAX] = {0};
    *image = (fovea_image){0};
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        const fovea_guarded *memory = &trial->memory[run_side(run)][a];
        if (present(trial, a))
            fovea_image_add(image, memory->map + page_bytes(), memory->map_bytes - 2 * page_bytes(),
                            argument_of(trial, a)->name);
    }
    if (!fovea_image_memory(image))
        return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "the check has no memory on the device");
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++)
        if (present(trial, a)) data[a] = fovea_image_address(image, problem->views[a].data);
    fovea_status status = fovea_problem_move(problem, data, moved, message);
    if (status != FOVEA_OK) return status;
    size_t scratch = implementation->workspace ? implementation->workspace(&moved->problem, 1) : 0;
    fovea_image_add_scratch(image, scratch);
    if (!fovea_image_memory(image))
        return fovea_fail(message, FOVEA_OUT_OF_MEMORY,
                          "asks for %zu bytes of scratch, which could not be had", scratch);
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) /* the block may be another one now */
        if (present(trial, a)) data[a] = fovea_image_address(image, problem->views[a].data);
    return fovea_problem_move(problem, data, moved, message);
}

/* Captures the call and replays it. A capture refuses whatever waits for the device, allocates there, or
 * uses the default stream: none of that is in a call. */
static fovea_status run_captured(const fovea_implementation *implementation,
                                 const fovea_problem *problem, fovea_run *state,
                                 fovea_message *message) {
    const fovea_cuda_backend *cuda = fovea_tool_cuda();
    void *graph = NULL;
    fovea_message other;
    fovea_status status = cuda->capture_begin(state->stream, message);
    if (status != FOVEA_OK) return status;
    status = implementation->run(problem, state);
    if (status != FOVEA_OK)
        fovea_fail(message, status, "returns «%s» while captured",
                   state->reason ? state->reason : fovea_status_text(status));
    fovea_status ended =
        cuda->capture_end(state->stream, &graph, status == FOVEA_OK ? message : &other);
    if (status == FOVEA_OK) status = ended;
    if (status == FOVEA_OK) status = cuda->graph_launch(graph, state->stream, message);
    if (status == FOVEA_OK) status = cuda->synchronize(state->stream, message);
    if (ended == FOVEA_OK) cuda->graph_destroy(graph);
    return status;
}

static bool run_on_device(fovea_trial *trial, const fovea_implementation *implementation, int run) {
    fovea_trial_result *result = &page->result;
    fovea_moved_problem moved;
    fovea_image image;
    fovea_message message = {{0}};
    fovea_run state = {.threads = 1, .stream = fovea_tool_stream()};
    page->run = run;
    load(trial, run);
    fovea_status status = image_of(trial, run, implementation, &image, &moved, &message);
    if (status == FOVEA_OK) status = fovea_image_send(&image, run == 1 ? 0x3C : 0xFF, &message);
    if (status != FOVEA_OK) return fails(result, "cannot be set up: %.280s", message.text);
    state.workspace_bytes = image.scratch_bytes;
    if (image.scratch_bytes) state.workspace = fovea_image_memory(&image) + image.scratch;
    if (run + 1 == RUNS) {
        status = run_captured(implementation, &moved.problem, &state, &message);
    } else {
        status = implementation->run(&moved.problem, &state);
        if (status != FOVEA_OK)
            return fails(result, "returns «%s»",
                         state.reason ? state.reason : fovea_status_text(status));
    }
    if (status == FOVEA_OK) status = fovea_image_fetch(&image, &message);
    if (status != FOVEA_OK) return fails(result, "%.300s", message.text);
    return memory_intact(trial, run, result);
}

static bool serves(fovea_trial *trial, const fovea_implementation *implementation) {
    fovea_trial_result *result = &page->result;
    fovea_moved_problem moved;
    fovea_image image;
    fovea_message message;
    const fovea_problem *problem = &trial->problems[FOVEA_AT_END];
    if (fovea_implementation_is_cuda(implementation)) {
        if (image_of(trial, 0, implementation, &image, &moved, &message) != FOVEA_OK)
            return fails(result, "cannot be set up: %.280s", message.text);
        problem = &moved.problem;
    }
    if (fovea_implementation_serves(implementation, problem, result->text, sizeof result->text))
        return true;
    result->outcome = FOVEA_DECLINED;
    return false;
}

static bool run_on_cpu(fovea_trial *trial, const fovea_implementation *implementation, int run) {
    fovea_problem *problem = &trial->problems[run_side(run)];
    fovea_trial_result *result = &page->result;
    fovea_plans plans = {.allocator = fovea_default_allocator()};
    fovea_run state = {.threads = run_threads(trial, run), .plans = &plans};
    page->run = run;
    load(trial, run);
    if (implementation->workspace)
        state.workspace_bytes = implementation->workspace(problem, state.threads);
    if (state.workspace_bytes) {
        if (!guarded_create(&page->scratch, state.workspace_bytes, 64, run_side(run)))
            return fails(result, "asks for %zu bytes of scratch, which could not be had",
                         state.workspace_bytes);
        /* NaN in every float type, then small numbers: what is read before it is written shows. */
        memset(page->scratch.data, run == 1 ? 0x3C : 0xFF, state.workspace_bytes);
        state.workspace = page->scratch.data;
    }
    fovea_status status = implementation->run(problem, &state);
    fovea_plans_release(&plans);
    if (status != FOVEA_OK)
        return fails(result, "returns «%s» with %d threads", fovea_status_text(status),
                     run_threads(trial, run));
    if (page->scratch.map && !surroundings_intact(&page->scratch, "its scratch", result))
        return false;
    guarded_destroy(&page->scratch);
    return memory_intact(trial, run, result);
}

/* The elements of all outputs in one dense block. */
static char *gather(fovea_trial *trial, int run, size_t *gathered) {
    const fovea_problem *problem = &trial->problems[run_side(run)];
    size_t bytes = 1, used = 0;
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++)
        if (present(trial, a)) bytes += trial->sample.bytes[a];
    char *block = malloc(bytes);
    for (int a = 0; block && a < FOVEA_ARGUMENTS_MAX; a++) {
        if (!present(trial, a) || argument_of(trial, a)->role == FOVEA_INPUT) continue;
        used += visit_elements(&problem->views[a], block + used, NULL, NULL);
    }
    *gathered = used;
    return block;
}

static bool is_poison(const char *element, size_t size, int poison) {
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)element[i] != poison) return false;
    return true;
}

static bool same_element(const char *a, const char *b, fovea_dtype dtype) {
    if (memcmp(a, b, fovea_dtype_size(dtype)) == 0) return true;
    return isnan(fovea_read_element(a, dtype)) && isnan(fovea_read_element(b, dtype));
}

typedef struct difference {
    int argument;
    int64_t number;
    bool unwritten;
    double first, second;
} difference;

/* The first element that differs between run 0 and another; an unwritten one before any other. */
static bool find_difference(fovea_trial *trial, const char *first, const char *second, int run,
                            difference *found) {
    bool any = false;
    size_t used = 0;
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        if (!present(trial, a) || argument_of(trial, a)->role == FOVEA_INPUT) continue;
        const fovea_view *view = &trial->problems[FOVEA_AT_END].views[a];
        fovea_dtype dtype = fovea_dtype_of_part(view->dtype);
        size_t size = fovea_dtype_size(dtype);
        int64_t values = fovea_view_values(view);
        int64_t written = fovea_verification_written(trial->expected, a);
        for (int64_t i = 0; i < values; i++, used += size) {
            if (i >= written) continue;
            const char *x = first + used, *y = second + used;
            if (same_element(x, y, dtype)) continue;
            bool unwritten =
                is_poison(x, size, run_poison(0)) && is_poison(y, size, run_poison(run));
            if (!any || unwritten)
                *found = (difference){a, i, unwritten, fovea_read_element(x, dtype),
                                      fovea_read_element(y, dtype)};
            any = true;
            if (unwritten) return true;
        }
    }
    return any;
}

static const char *element_name(const fovea_trial *trial, const difference *d, char *text,
                                size_t size) {
    const fovea_view *view = &trial->problems[FOVEA_AT_END].views[d->argument];
    fovea_view index = {.rank = view->rank};
    int64_t rest = d->number / fovea_dtype_parts(view->dtype);
    for (int i = view->rank - 1; i >= 0; i--) {
        index.shape[i] = rest % view->shape[i];
        rest /= view->shape[i];
    }
    char place[96];
    snprintf(text, size, "%s%s", argument_of(trial, d->argument)->name,
             fovea_shape_text(&index, place, sizeof place));
    return text;
}

static bool must_be_exact(const fovea_trial *trial) {
    return trial->check->c.data == FOVEA_DATA_INTEGERS && trial->sample.problem.kernel->exact_sums;
}

static bool compare_runs(fovea_trial *trial, const fovea_verdict *verdict, char *const blocks[],
                         size_t bytes, fovea_trial_result *result) {
    difference found = {0};
    int other = 0;
    char name[128];
    for (int run = 1; run < RUNS && !other; run++)
        if (memcmp(blocks[0], blocks[run], bytes) != 0 &&
            find_difference(trial, blocks[0], blocks[run], run, &found))
            other = run;
    if (other && found.unwritten)
        return fails(result, "leaves %s unwritten", element_name(trial, &found, name, sizeof name));
    if (!verdict->verified)
        return fails(result, "%lld of %lld elements are wrong; %s", (long long)verdict->wrong,
                     (long long)verdict->compared, verdict->where);
    if (must_be_exact(trial) && verdict->share > 0)
        return fails(result, "a sum of integers is not exact; %s", verdict->where);
    if (!other) return true;
    return fails(result, "%s differs from run to run: %.9g with %d threads, %.9g with %d",
                 element_name(trial, &found, name, sizeof name), found.first, run_threads(trial, 0),
                 found.second, run_threads(trial, other));
}

static void try_implementation(fovea_trial *trial, const fovea_implementation *implementation) {
    fovea_trial_result *result = &page->result;
    fovea_verdict verdict = {0};
    char *blocks[RUNS];
    size_t bytes = 0;
    bool cuda = fovea_implementation_is_cuda(implementation);
    if (!serves(trial, implementation)) return;
    for (int run = 0; run < RUNS; run++) {
        if (!(cuda ? run_on_device : run_on_cpu)(trial, implementation, run)) return;
        if (run == 0) fovea_verify(trial->expected, trial->problems[FOVEA_AT_END].views, &verdict);
        if (!(blocks[run] = gather(trial, run, &bytes))) {
            fails(result, "the check has no memory to compare runs");
            return;
        }
    }
    if (!compare_runs(trial, &verdict, blocks, bytes, result)) return;
    result->outcome = FOVEA_PASSED;
    result->share = verdict.share;
    snprintf(result->text, sizeof result->text, "%s", verdict.where);
}

static void child(fovea_trial *trial, const fovea_implementation *implementation,
                  unsigned seconds) {
    const struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    const struct rlimit no_core = {0, 0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setrlimit(RLIMIT_CORE, &no_core);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    /* Whatever the calling program made of them, here they end the process. */
    static const int deadly[] = {SIGALRM, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS, SIGTERM};
    for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++) signal(deadly[i], SIG_DFL);
    alarm(seconds);
    try_implementation(trial, implementation);
    page->done = true;
    _exit(0);
}

/* ---- Around the child ----------------------------------------------------------------------- */

static bool fault_lies_in(const fovea_guarded *memory, const char *fault) {
    return memory->map && fault >= memory->map && fault < memory->map + memory->map_bytes;
}

static void blame_fault(const fovea_guarded *memory, const char *name, const char *fault,
                        fovea_trial_result *result) {
    bool before = fault < memory->data;
    size_t distance = before ? (size_t)(memory->data - fault)
                             : (size_t)(fault - memory->data) - memory->bytes + 1;
    fails(result, "reads or writes outside %s: %zu bytes %s", name, distance,
          before ? "before the start" : "past the end");
}

static void blame_signal(fovea_trial *trial, const shared *left, int number,
                         fovea_trial_result *result) {
    const char *fault = left->fault;
    fails(result, "crashes (%s) with %d threads", strsignal(number), run_threads(trial, left->run));
    if (number != SIGSEGV && number != SIGBUS) return;
    for (int side = 0; side < FOVEA_SIDES; side++)
        for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++)
            if (fault_lies_in(&trial->memory[side][a], fault))
                blame_fault(&trial->memory[side][a], argument_of(trial, a)->name, fault, result);
    if (fault_lies_in(&left->scratch, fault))
        blame_fault(&left->scratch, "its scratch", fault, result);
}

static void judge(fovea_trial *trial, const shared *left, int status, unsigned seconds,
                  fovea_trial_result *result) {
    *result = left->result;
    result->ended = !left->done;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        fails(result, "does not finish within %u s with %d threads", seconds,
              run_threads(trial, left->run));
    else if (WIFSIGNALED(status))
        blame_signal(trial, left, WTERMSIG(status), result);
    else if (!left->done || WEXITSTATUS(status) != 0)
        fails(result, "ends the process with exit code %d", WEXITSTATUS(status));
}

void fovea_trial_run(fovea_trial *trial, const fovea_implementation *implementation,
                     unsigned seconds, fovea_trial_result *result) {
    int status;
    memset(result, 0, sizeof *result);
    page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        fails(result, "the check has no memory for a trial");
        return;
    }
    pid_t process = fork();
    if (process == 0) child(trial, implementation, seconds);
    if (process < 0) {
        fails(result, "the check could not start a process");
    } else {
        while (waitpid(process, &status, 0) < 0) continue;
        judge(trial, page, status, seconds, result);
    }
    munmap(page, sizeof *page);
}

void fovea_trial_run_here(fovea_trial *trial, const fovea_implementation *implementation,
                          unsigned seconds, fovea_trial_result *result) {
    static shared own;
    memset(&own, 0, sizeof own);
    page = &own;
    alarm(seconds);
    try_implementation(trial, implementation);
    alarm(0);
    *result = own.result;
}
