/* Measuring one case: tensors in memory that all arms share, the reference, verification of each arm,
 * then rounds in which the arms take turns in random order until the medians stand or time is up. */
#define _GNU_SOURCE
#include "bench_arms.h"

#include "api/context.h"
#include "bench_columns.h"
#include "catalogue/attention.h"
#include "router/registry.h"
#include "runtime/parallel.h"
#include "runtime/processor.h"
#include "verify.h"

#include <fnmatch.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    POISON_RUN = 16,
    MUCH_TO_SEND = 1 << 24,
    ROUNDS_MIN = 3,
    SAMPLES_ENOUGH = 12,
    SAMPLES_FEW = 5,
    COUNT_MAX = FOVEA_BURST_MAX,
    DEVICE_COUNT = 20,
    DEVICE_WARM = 5,
    DEVICE_SETS_MAX = 1024,
    SLICE_COUNT = 8,
    SLICES = 3
};
static const double spread_target = 0.003, noisy_spread = 0.03, sample_seconds = 20e-6;

/* A device throttles by power. So it is measured in two states: after a rest, and while all arms keep it at
 * its cap. Calls that are too short for that are measured in the one there is. */
static const double device_rest = 0.1, brief_rest = 2e-3, brief_call = 50e-6;
/* Hot: arms take turns in slices so short that the cap, which is of an average over some tenths of a second,
 * holds back all of them alike; measured in halves of a second, whoever came first was up to 40 % ahead. The
 * slices of the first part, until the cap takes hold, are not kept; of the others the beginning is not. */
static const double hot_before = 0.75, slice_unkept = 50e-3, slice_before = 15e-3;
static const double slice_sample_seconds = 5e-3;
/* Who takes so many times as long as the fastest is no rival, and would only cool the device. */
static const double rival = 5;
/* Of a sample: the launch of a graph, some microseconds, is little of it. */
static const double device_sample_seconds = 250e-6, cold_sample_seconds = 1e-3;

typedef fovea_bench_arm arm;
typedef fovea_measurement bench;

typedef void progress_function(const fovea_bench_run *run, const fovea_bench_case *c,
                               const char *arm);

/* ---- Tensors and reference ------------------------------------------------------------------ */

static bool take_prepared(bench *b) {
    double start = fovea_seconds_now();
    fovea_prepared *p = b->prepared = fovea_bench_prepared(b->run, b->c);
    b->c->waited_seconds = fovea_seconds_now() - start;
    if (!p) return false;
    b->samples = p->samples, b->sets = p->sets;
    b->expected = p->expected, b->slices = p->slices;
    snprintf(b->c->problem, sizeof b->c->problem, "%s", p->problem);
    return !*p->problem;
}

/* How many sets of its tensors cold calls on the device take turns over, so that those of all others, which are
 * twice its cache, pass through it between two calls on one; 1: calls are warm, or the device cannot hold them
 * for everybody, or they are so many that preparing a call on each would take longer than calling. */
static int device_set_count(const bench *b) {
    const double share = 0.125;
    const fovea_cuda_device *device = &b->run->device;
    double held = (double)b->device->bytes;
    double moved = fmax(1, fmin(held, fovea_problem_bytes(&b->samples[0].problem)));
    double sets = ceil(2 * (double)device->l2_bytes / moved) + 1;
    bool had = sets <= DEVICE_SETS_MAX && sets * held <= share * (double)device->memory_bytes;
    return b->c->cold && had ? (int)sets : 1;
}

bool fovea_measurement_flushes(const fovea_measurement *m) {
    return m->c->cold && m->device_sets == 1;
}

/* The others hold what the first does before its first call. All or none. */
static void make_device_sets(bench *b) {
    int wanted = device_set_count(b);
    fovea_status status = FOVEA_OK;
    fovea_message message;
    while (b->device_sets < wanted && status == FOVEA_OK) {
        fovea_device_tensors *set = &b->device[b->device_sets++];
        status = fovea_device_tensors_create(&b->samples[0], set, &message);
        if (status == FOVEA_OK) status = fovea_device_tensors_send(set, &message);
    }
    while (status != FOVEA_OK && b->device_sets > 1)
        fovea_device_tensors_destroy(&b->device[--b->device_sets]);
}

/* On the device too, if arms there take part; and what the way there and back costs. */
static bool make_device_tensors(bench *b) {
    fovea_bench_case *c = b->c;
    fovea_message message;
    if (!fovea_bench_on(b->run, FOVEA_ON_CUDA)) return true;
    b->moved = malloc(sizeof *b->moved);
    b->device = calloc(DEVICE_SETS_MAX, sizeof *b->device);
    if (!b->moved || !b->device) return false;
    b->device_sets = 1;
    fovea_status status = fovea_device_tensors_create(&b->samples[0], b->device, &message);
    /* What takes the driver some microseconds the first time is no matter where much is sent. */
    bool twice = b->device->sent_bytes < MUCH_TO_SEND;
    if (status == FOVEA_OK && twice) status = fovea_device_tensors_send(b->device, &message);
    double start = fovea_seconds_now();
    if (status == FOVEA_OK) status = fovea_device_tensors_send(b->device, &message);
    c->sent_bytes = b->device->sent_bytes;
    c->sent_seconds = fovea_seconds_now() - start;
    c->fetched_bytes = b->device->fetched_bytes;
    if (status == FOVEA_OK) make_device_sets(b);
    if (status == FOVEA_OK) status = fovea_device_problem(b->device, b->moved, &message);
    if (status != FOVEA_OK) snprintf(c->problem, sizeof c->problem, "%s", message.text);
    return status == FOVEA_OK;
}

/* The problem as arms of that place see it. */
static const fovea_problem *problem_at(const bench *b, fovea_place place) {
    return place == FOVEA_ON_CUDA ? &b->moved->problem : &b->samples[0].problem;
}

/* ---- What the case is worth ----------------------------------------------------------------- */

static double output_bytes(const fovea_problem *problem) {
    double bytes = 0;
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        if (!fovea_given(problem, a) || problem->kernel->arguments[a].role == FOVEA_INPUT) continue;
        bytes += (double)fovea_view_elements(&problem->views[a]) *
                 (double)fovea_dtype_size(problem->views[a].dtype);
    }
    return bytes;
}

static const fovea_ceiling *higher(const fovea_ceiling *a, const fovea_ceiling *b) {
    return !a || (b && b->value > a->value) ? b : a;
}

static bool is_attention(const fovea_problem *problem) {
    return strcmp(problem->kernel->name, "attention") == 0;
}

/* Attention of bf16 is held against the unit for bf16 where the machine has one; tiles serve peers
 * too. */
static const fovea_ceiling *arithmetic_ceiling(const bench *b) {
    const fovea_problem *problem = &b->samples[0].problem;
    const fovea_ceilings *all = &b->run->ceilings;
    const char *tier = b->run->tier;
    int threads = b->run->threads;
    const fovea_ceiling *best = fovea_ceilings_find(all, "fma_f32", tier, threads);
    if (problem->dtype != FOVEA_BF16 || !is_attention(problem)) return best;
    best = higher(best, fovea_ceilings_find(all, "dot_bf16", tier, threads));
    return higher(best, fovea_ceilings_find(all, "tile_bf16", NULL, threads));
}

/* On a device halves are held against its matrix products. */
static const fovea_ceiling *device_arithmetic_ceiling(const bench *b) {
    const fovea_problem *problem = &b->samples[0].problem;
    const fovea_ceilings *all = &b->run->ceilings;
    bool products = is_attention(problem) || strcmp(problem->kernel->name, "matmul_batched") == 0;
    const char *kind = products && problem->dtype == FOVEA_BF16  ? "matmul_bf16"
                       : products && problem->dtype == FOVEA_F16 ? "matmul_f16"
                                                                 : "fma_f32";
    return fovea_ceilings_find(all, kind, "cuda", 0);
}

static const fovea_ceiling *memory_ceiling(const bench *b, bool writes) {
    const fovea_ceilings *all = &b->run->ceilings;
    int threads = b->run->threads;
    if (!writes) return fovea_ceilings_find(all, "read", NULL, threads);
    return higher(fovea_ceilings_find(all, "copy", NULL, threads),
                  fovea_ceilings_find(all, "stream_copy", NULL, threads));
}

/* The ceilings that forbid more: arithmetic or memory. */
static void find_ceilings(bench *b) {
    const fovea_problem *problem = &b->samples[0].problem;
    const fovea_ceilings *all = &b->run->ceilings;
    fovea_bench_case *c = b->c;
    c->operations = fovea_problem_operations(problem);
    c->bytes = fovea_problem_bytes(problem);
    bool writes = output_bytes(problem) > 0.01 * c->bytes;
    for (int p = 0; p < FOVEA_PLACES; p++) {
        bool device = p == FOVEA_ON_CUDA;
        const fovea_ceiling *arithmetic =
            device ? device_arithmetic_ceiling(b) : arithmetic_ceiling(b);
        const fovea_ceiling *memory =
            device ? fovea_ceilings_find(all, writes ? "copy" : "read", "cuda", 0)
                   : memory_ceiling(b, writes);
        if (!arithmetic) continue;
        c->by_bytes[p] = memory && c->bytes / memory->value > c->operations / arithmetic->value;
        const fovea_ceiling *limit = c->by_bytes[p] ? memory : arithmetic;
        snprintf(c->ceiling[p], sizeof c->ceiling[p], "%s", limit->name);
    }
}

/* ---- Arms ----------------------------------------------------------------------------------- */

static fovea_bench_row *new_row(bench *b, const char *name, bool peer, fovea_place place) {
    fovea_bench_case *c = b->c;
    if (c->row_count == FOVEA_ARMS_MAX) return NULL;
    fovea_bench_row *row = &c->rows[c->row_count++];
    *row = (fovea_bench_row){.peer = peer, .served = true, .place = place};
    snprintf(row->arm, sizeof row->arm, "%s", name);
    return row;
}

static fovea_place place_of(const fovea_implementation *implementation) {
    return fovea_implementation_is_cuda(implementation) ? FOVEA_ON_CUDA : FOVEA_ON_CPU;
}

static void add_arm_of_ours(bench *b, fovea_bench_row *row,
                            const fovea_implementation *implementation,
                            const fovea_case *definition) {
    bool device = row->place == FOVEA_ON_CUDA;
    b->arms[b->arm_count++] =
        (arm){.provider = device ? &fovea_provide_device : &fovea_provide_host,
              .place = row->place,
              .row = row,
              .timings = &row->timings,
              .hot = device ? &row->hot : NULL,
              .implementation = implementation,
              .definition = definition};
}

/* A list of patterns; a part of the name is enough. */
bool fovea_arm_chosen(const char *list, const char *name) {
    char pattern[FOVEA_ARM_NAME + 2], one[FOVEA_ARM_NAME];
    for (const char *at = list; *at; at += strcspn(at, ","), at += *at == ',') {
        snprintf(one, sizeof one, "%.*s", (int)strcspn(at, ","), at);
        snprintf(pattern, sizeof pattern, "*%s*", one);
        if (*one && fnmatch(pattern, name, 0) == 0) return true;
    }
    return false;
}

/* Without --arms: of each algorithm the best tier that serves the call. */
static bool by_default(const bench *b, const fovea_implementation *candidate) {
    if (candidate->only_by_name || b->c->every) return !candidate->only_by_name;
    if (b->c->algorithms &&
        !fovea_arm_chosen(b->c->algorithms, fovea_implementation_algorithm(candidate)))
        return false;
    for (int i = 0; i < b->arm_count; i++)
        if (b->arms[i].implementation && b->arms[i].place == place_of(candidate) &&
            strcmp(fovea_implementation_algorithm(b->arms[i].implementation),
                   fovea_implementation_algorithm(candidate)) == 0)
            return false;
    return true;
}

void fovea_measurement_set_options(bench *b, const fovea_case *definition) {
    int count = fovea_kernel_parameters(fovea_catalogue_kernel(definition->index));
    for (int s = 0; s < b->sets; s++)
        for (int p = 0; p < count; p++)
            fovea_parameter_write(definition->index, b->samples[s].options, p,
                                  definition->parameters[p]);
}

static void add_optional_arm(bench *b, const fovea_suite_arm *wanted,
                             const fovea_case *definition) {
    const fovea_problem *problem = &b->samples[0].problem;
    const char *patterns = b->run->options.arms;
    char reason[160], name[FOVEA_ARM_NAME];
    for (int i = 0; i < fovea_implementation_count(problem->index); i++) {
        const fovea_implementation *candidate = fovea_implementation_at(problem->index, i);
        snprintf(name, sizeof name, "%s-%s", candidate->name, wanted->name);
        if (candidate->only_by_name || place_of(candidate) != FOVEA_ON_CPU ||
            (patterns && !fovea_arm_chosen(patterns, name)) ||
            !fovea_implementation_serves(candidate, problem, reason, sizeof reason))
            continue;
        fovea_bench_row *row = new_row(b, name, false, FOVEA_ON_CPU);
        if (!row) return;
        add_arm_of_ours(b, row, candidate, definition);
        if (!patterns) return;
    }
}

static void list_optional_arms(bench *b) {
    const fovea_suite_arm *arms;
    fovea_message message;
    if (!fovea_bench_on(b->run, FOVEA_ON_CPU)) return;
    int count = fovea_suite_arms(b->c->suite, &arms);
    for (int i = 0; i < count && b->optional_count < FOVEA_OPTIONAL_MAX; i++) {
        fovea_case *definition = &b->optional[b->optional_count++];
        *definition = b->c->definition;
        if (fovea_case_parse(definition, arms[i].options, 0, &message) != FOVEA_OK) continue;
        fovea_measurement_set_options(b, definition);
        add_optional_arm(b, &arms[i], definition);
        fovea_measurement_set_options(b, &b->c->definition);
    }
}

/* The implementation once more for each plan of the sweep that the problem is large enough for. */
static void add_block_plans(bench *b, const fovea_implementation *implementation) {
    static const int64_t rows[] = {64, 128, 256, 512}, keys[] = {24, 48, 96, 144, 192};
    const fovea_case *d = &b->c->definition;
    int64_t sizes[4];
    static const char *const letters[] = {"Hq", "Hkv", "Sq", "Sk"};
    for (int i = 0; i < 4; i++) sizes[i] = d->extents[fovea_kernel_letter(d->index, letters[i])];
    int64_t head_rows = sizes[2] * (sizes[0] / sizes[1]), head_keys = sizes[3];
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
            char name[FOVEA_ARM_NAME];
            if (rows[r] > head_rows || keys[k] > head_keys ||
                b->optional_count == FOVEA_OPTIONAL_MAX)
                continue;
            fovea_case *definition = &b->optional[b->optional_count++];
            *definition = *d;
            fovea_case_set(definition, "block_rows", (double)rows[r]);
            fovea_case_set(definition, "block_keys", (double)keys[k]);
            snprintf(name, sizeof name, "%s@%lldx%lld", implementation->name, (long long)rows[r],
                     (long long)keys[k]);
            fovea_bench_row *row = new_row(b, name, false, FOVEA_ON_CPU);
            if (!row) return;
            add_arm_of_ours(b, row, implementation, definition);
        }
}

static void add_steps(bench *b) {
    const char *patterns = b->run->options.arms, *name = FOVEA_STEPS_ARM;
    char why[160];
    if (!b->c->steps || !fovea_bench_on(b->run, FOVEA_ON_CPU) ||
        (patterns && !fovea_arm_chosen(patterns, name)))
        return;
    b->steps = fovea_steps_create(b->c->kernel, &b->samples[0].problem, why, sizeof why);
    if (!b->steps && !*why) return;
    fovea_bench_row *row = new_row(b, name, false, FOVEA_ON_CPU);
    if (!row) return;
    row->served = b->steps != NULL;
    if (b->steps)
        b->arms[b->arm_count++] = (arm){.provider = &fovea_provide_host,
                                        .row = row,
                                        .timings = &row->timings,
                                        .steps = b->steps,
                                        .definition = &b->c->definition};
    else
        snprintf(row->reason, sizeof row->reason, "%s", why);
}

static void list_ours(bench *b) {
    const char *patterns = b->run->options.arms;
    char reason[160];
    int kernel = b->c->definition.index;
    for (int i = 0; i < fovea_implementation_count(kernel); i++) {
        const fovea_implementation *candidate = fovea_implementation_at(kernel, i);
        fovea_place place = place_of(candidate);
        if (!fovea_bench_on(b->run, place)) continue;
        bool serves =
            fovea_implementation_serves(candidate, problem_at(b, place), reason, sizeof reason);
        if (patterns ? !fovea_arm_chosen(patterns, candidate->name)
                     : !serves || !by_default(b, candidate))
            continue;
        fovea_bench_row *row = new_row(b, candidate->name, false, place);
        if (!row) return;
        row->served = serves;
        if (serves) add_arm_of_ours(b, row, candidate, &b->c->definition);
        if (serves && b->c->sweep && place == FOVEA_ON_CPU) add_block_plans(b, candidate);
        if (!serves) snprintf(row->reason, sizeof row->reason, "%s", reason);
    }
}

static void add_peer(bench *b, fovea_bench_peer *peer, const char *way) {
    const char *patterns = b->run->options.arms;
    char name[FOVEA_ARM_NAME];
    bool device = peer->place == FOVEA_ON_CUDA;
    snprintf(name, sizeof name, "peer/%s%s%s%s", device ? "cuda/" : "", peer->name, way ? "-" : "",
             way ? way : "");
    if (patterns && !fovea_arm_chosen(patterns, name)) return;
    fovea_bench_row *row = new_row(b, name, true, peer->place);
    if (!row) return;
    b->arms[b->arm_count++] = (arm){.provider = &fovea_provide_peer,
                                    .place = peer->place,
                                    .row = row,
                                    .timings = &row->timings,
                                    .hot = device ? &row->hot : NULL,
                                    .peer = peer,
                                    .way = way};
}

static void list_arms(bench *b) {
    const char *kernel = fovea_catalogue_kernel(b->c->definition.index)->name;
    list_ours(b);
    list_optional_arms(b);
    add_steps(b);
    for (int p = 0; p < b->run->peer_count && !b->c->alone && !b->c->every; p++) {
        fovea_bench_peer *peer = &b->run->peers[p];
        if (!peer->process) continue;
        const char *way = fovea_peer_way(peer, kernel, 0);
        add_peer(b, peer, way);
        for (size_t w = 1; way && (way = fovea_peer_way(peer, kernel, w)); w++)
            add_peer(b, peer, way);
    }
}

/* ---- Verification --------------------------------------------------------------------------- */

typedef struct poison_search {
    const char *data;
    atomic_bool found;
} poison_search;

static void search_words(void *task, int64_t first, int64_t end, int thread) {
    poison_search *search = task;
    bool found = false;
    (void)thread;
    for (int64_t i = first; i < end; i++) {
        uint64_t word;
        memcpy(&word, search->data + (size_t)i * sizeof word, sizeof word);
        found |= word == UINT64_C(0xA5A5A5A5A5A5A5A5);
    }
    if (found) search->found = true;
}

/* Whether any eight bytes in place hold the poison alone, as a run of POISON_RUN elements does. */
static bool has_poisoned_word(const char *data, size_t bytes) {
    poison_search search = {.data = data};
    int threads = bytes > MUCH_TO_SEND ? fovea_processor_get()->threads : 1;
    fovea_parallel((int64_t)(bytes / sizeof(uint64_t)), 1 << 17, threads, search_words, &search);
    return search.found;
}

/* The first element of a run that still holds the poison among those that are to be written, or -1: the
 * comparison of large problems is by sample, so what was never written could escape it. */
static int64_t unwritten(const fovea_view *view, int64_t count) {
    size_t size = fovea_dtype_size(view->dtype);
    bool dense = fovea_view_is_contiguous(view);
    int64_t run = 0;
    if (dense && !has_poisoned_word(view->data, (size_t)count * size)) return -1;
    for (int64_t i = 0; i < count; i++) {
        const unsigned char *bytes = (const unsigned char *)(dense ? view->data + (size_t)i * size
                                                                   : fovea_view_address(view, i));
        size_t poison = 0;
        while (poison < size && bytes[poison] == 0xA5) poison++;
        run = poison == size ? run + 1 : 0;
        if (run == POISON_RUN) return i - POISON_RUN + 1;
    }
    return -1;
}

static void judge(bench *b, arm *a) {
    fovea_bench_row *row = a->row;
    const fovea_problem *problem = &b->samples[0].problem;
    fovea_verdict verdict;
    fovea_quality quality;
    bool approximate = strcmp(problem->kernel->name, "attention") == 0 &&
                       fovea_attention_quality(problem->options, &quality);
    if (approximate)
        fovea_verify_quality(b->expected, &quality, NULL, &verdict);
    else if (b->slices)
        fovea_slices_verify(b->slices, &verdict);
    else
        fovea_verify(b->expected, NULL, &verdict);
    if (approximate) row->flags |= FOVEA_ROW_APPROXIMATE;
    row->accuracy = verdict.accuracy;
    row->verified = a->peer ? verdict.verified_as_peer : verdict.verified;
    row->peer_bound = a->peer != NULL;
    /* The error as it counts: where the exact value was only rounded, there is none. */
    row->error = a->peer ? verdict.peer_error : verdict.share == 0 ? 0 : verdict.error;
    row->bound = a->peer ? verdict.peer_bound : verdict.bound;
    if (!a->peer && row->verified && row->error > row->bound) row->error = row->bound;
    /* NaN where NaN is right, such as the covariance of one observation: nothing else would do. */
    if (row->verified && row->error == 0 && !isfinite(row->bound)) row->bound = 0;
    if (!row->verified && a->peer)
        snprintf(row->reason, sizeof row->reason, "error %.2g, beyond the %.2g that peers may have",
                 row->error, row->bound);
    else if (!row->verified)
        snprintf(row->reason, sizeof row->reason, "%s", verdict.where);
    if (!row->verified) return;
    if (!verdict.verified) row->flags |= FOVEA_ROW_LESS_ACCURATE;
    for (int o = 0; o < FOVEA_ARGUMENTS_MAX; o++) {
        if (!fovea_given(problem, o) || problem->kernel->arguments[o].role != FOVEA_OUTPUT)
            continue;
        const fovea_view *view = &problem->views[o];
        /* Slices are of kernels that write all of their outputs. */
        int64_t values =
            b->expected ? fovea_verification_written(b->expected, o) : fovea_view_values(view);
        int64_t element = unwritten(view, values / fovea_dtype_parts(view->dtype));
        if (element < 0) continue;
        row->verified = false;
        snprintf(row->reason, sizeof row->reason, "%s was not written from element %lld on",
                 problem->kernel->arguments[o].name, (long long)element);
    }
}

static void verify(bench *b, progress_function *progress) {
    int kept = 0;
    for (int i = 0; i < b->arm_count && !fovea_interrupted(); i++) {
        arm *a = &b->arms[i];
        progress(b->run, b->c, a->row->arm);
        fovea_sample_restore(&b->samples[0]);
        if (a->definition) fovea_measurement_set_options(b, a->definition);
        double start = fovea_seconds_now();
        bool good = a->provider->first(b, a);
        double called = fovea_seconds_now();
        if (good) judge(b, a);
        if (a->peer) b->c->peers_seconds += called - start;
        b->c->judged_seconds += fovea_seconds_now() - called;
        if (a->place == FOVEA_ON_CUDA) b->busy_until = fovea_seconds_now();
        fovea_measurement_set_options(b, &b->c->definition);
        if (a->row->verified) b->arms[kept++] = *a;
    }
    b->arm_count = kept;
}

/* ---- Rounds --------------------------------------------------------------------------------- */

static bool is_chosen_on_host(const bench *b, const arm *a) {
    const fovea_sample *sample = &b->samples[0];
    fovea_context *context = b->run->context;
    fovea_route route = {0};
    fovea_use(context, sample->problem.kernel->name, NULL);
    return fovea_explain(context, sample->problem.kernel->name, (DLTensor *const *)sample->required,
                         sample->count, sample->options, &route) == FOVEA_OK &&
           strcmp(a->row->arm, route.implementation) == 0;
}

static bool is_chosen_on_device(const bench *b, const arm *a) {
    const fovea_context *context = b->run->device_context;
    fovea_choice choice;
    fovea_choose(&b->moved->problem, context ? context->routes : NULL,
                 context ? context->threads : 1, &choice);
    return choice.implementation == a->implementation;
}

/* The arm that the library would choose, or else the first of ours, once more under another name. */
static void add_noise_pair(bench *b) {
    arm *twin = NULL;
    for (int i = 0; i < b->arm_count; i++) {
        arm *a = &b->arms[i];
        if (!a->implementation) continue;
        bool device = a->place == FOVEA_ON_CUDA;
        bool routed = device ? is_chosen_on_device(b, a) : is_chosen_on_host(b, a);
        if (routed) a->row->flags |= FOVEA_ROW_ROUTED;
        if (!twin || routed) twin = a;
        if (device && fovea_bench_on_both(b->run) && (routed || !b->chosen_on_device))
            b->chosen_on_device = a;
    }
    if (!twin || b->arm_count == FOVEA_ARMS_MAX) return;
    snprintf(b->c->noise_arm, sizeof b->c->noise_arm, "%s", twin->row->arm);
    arm *again = &b->arms[b->arm_count++];
    *again = *twin;
    again->again = true;
    again->timings = &b->c->noise_timings;
    again->hot = NULL;
}

static fovea_turn plan_turn_on_host(const bench *b, const arm *a) {
    fovea_turn turn = {.inner = 1, .estimate = a->estimate};
    double share = fmin(fmax(b->seconds / (b->arm_count * 8), 1e-3), 0.08);
    if (a->estimate < sample_seconds) turn.inner = (int)ceil(sample_seconds / (a->estimate + 1e-9));
    double count = share / (a->estimate * turn.inner);
    turn.count = count < 1 ? 1 : count > COUNT_MAX ? COUNT_MAX : (int)count;
    turn.warm = a->estimate < 0.02 && !b->c->cold;
    return turn;
}

/* Calls of a sample that is to take so long, the same number on each set of tensors; a graph that is nearly
 * right is kept. */
static int inner_calls(const bench *b, const arm *a, bool hot, double wanted) {
    double sample = a->inner[hot] * a->estimate;
    if (fovea_measurement_flushes(b)) return 1;
    if (sample > 0.7 * wanted && sample < 1.5 * wanted) return a->inner[hot];
    double rounds = wanted / fmax(a->estimate, 0.2e-6) / b->device_sets;
    return (rounds > 1 ? (int)ceil(rounds) : 1) * b->device_sets;
}

static fovea_turn plan_turn_on_device(const bench *b, const arm *a) {
    const double longest_burst = 60e-3; /* more would heat it */
    fovea_turn turn = {.warm = DEVICE_WARM, .estimate = a->estimate};
    if (fovea_measurement_flushes(b)) turn.flush = 4 * b->run->device.l2_bytes;
    turn.inner = inner_calls(b, a, false, b->c->cold ? cold_sample_seconds : device_sample_seconds);
    double count = longest_burst / (a->estimate * turn.inner);
    turn.count = count < 3 ? 3 : count > DEVICE_COUNT ? DEVICE_COUNT : (int)count;
    if (turn.count < DEVICE_COUNT) turn.warm = 1;
    /* While inputs were made and references computed it rested too. */
    turn.rest = b->brief ? brief_rest : device_rest;
    turn.rest = fmax(0, turn.rest - (fovea_seconds_now() - b->busy_until));
    return turn;
}

static fovea_turn plan_slice(const bench *b, const arm *a, bool kept) {
    fovea_turn turn = {.estimate = a->estimate, .heat = kept ? slice_before : slice_unkept};
    if (fovea_measurement_flushes(b)) turn.flush = 4 * b->run->device.l2_bytes;
    turn.inner = inner_calls(b, a, true, slice_sample_seconds);
    double count = SLICE_COUNT * slice_sample_seconds / (a->estimate * turn.inner);
    turn.count = !kept || count < 1 ? 1 : count > SLICE_COUNT ? SLICE_COUNT : (int)count;
    return turn;
}

/* What was seen during each sample: they follow one another without a gap. */
static void note_samples(const arm *a, const fovea_timings *samples, int inner,
                         fovea_burst *burst) {
    double at = a->began;
    for (int i = 0; i < burst->count; i++) {
        double end = at + inner * samples->values[samples->count - burst->count + i];
        fovea_nvml_between(at, end, &burst->samples[i]);
        at = end;
    }
}

static void note_burst(const bench *b, arm *a, const fovea_timings *samples, int count, bool hot) {
    fovea_bench_row *row = a->row;
    fovea_burst burst = {.hot = hot,
                         .count = count < FOVEA_BURST_MAX ? count : FOVEA_BURST_MAX,
                         .at = a->began - b->run->started};
    if (a->again || count <= 0) return;
    fovea_nvml_between(a->began, a->ended, &burst.seen);
    note_samples(a, samples, a->inner[hot], &burst);
    fovea_burst *bursts =
        realloc(row->bursts, (size_t)(row->burst_count + 1) * sizeof *row->bursts);
    if (!bursts) return;
    row->bursts = bursts;
    bursts[row->burst_count++] = burst;
}

static double median_since(const fovea_timings *samples, int before) {
    double values[COUNT_MAX];
    int count = samples->count - before;
    if (count <= 0 || count > COUNT_MAX) return 0;
    memcpy(values, samples->values + before, (size_t)count * sizeof *values);
    return fovea_median(values, count);
}

/* Adds the turn's samples to those of its state. */
static void take_turn(bench *b, arm *a, const fovea_turn *turn, bool hot) {
    fovea_timings *samples = hot ? a->hot : a->timings;
    int before = samples->count;
    double start = fovea_seconds_now();
    a->inner[hot] = turn->inner;
    bool good = a->provider->take(b, a, turn, samples);
    if (a->place == FOVEA_ON_CUDA) note_burst(b, a, samples, samples->count - before, hot);
    if (!good && !a->again && !fovea_interrupted()) a->row->verified = false;
    a->lost = !good;
    if (a->place == FOVEA_ON_CUDA) b->busy_until = fovea_seconds_now();
    for (int i = before; i < samples->count && !hot; i++)
        if (i == before || samples->values[i] < a->estimate) a->estimate = samples->values[i];
    a->used += fovea_seconds_now() - start;
    if (!a->again && !hot) a->round_median = median_since(samples, before);
}

static void take_cool_turn(bench *b, arm *a, bool after_ours) {
    bool device = a->place == FOVEA_ON_CUDA;
    fovea_turn turn = device ? plan_turn_on_device(b, a) : plan_turn_on_host(b, a);
    /* Our own threads go to sleep a moment after a call; a peer does not have to meet them awake. */
    if (!device && a->peer && after_ours) usleep(2000);
    if (device) fovea_nvml_begin();
    take_turn(b, a, &turn, false);
    if (device) fovea_nvml_end();
}

/* A slow arm gives way once it has had its share, and a few samples if they are to be had. */
static bool rests(const bench *b, const arm *a) {
    double share = b->seconds / b->arm_count;
    int enough = a->estimate > share ? 1 : 3;
    return a->lost || (a->timings->count >= enough && a->used + a->estimate > 1.5 * share);
}

static bool settled(const bench *b) {
    for (int i = 0; i < b->arm_count; i++) {
        const arm *a = &b->arms[i];
        fovea_summary s = fovea_summarise(a->timings->values, a->timings->count);
        if (rests(b, a)) continue;
        if (s.count < SAMPLES_ENOUGH || fovea_summary_spread(&s) > spread_target) return false;
    }
    return true;
}

/* The counters of the system move a hundred times a second: between closer looks they say nothing. */
static void monitor(bench *b, bool now) {
    fovea_bench_case *c = b->c;
    double since = fovea_seconds_now() - b->run->started;
    if (!now && since - c->monitors[c->monitor_count - 1].at < 0.1) return;
    size_t size = (size_t)(c->monitor_count + 1) * sizeof *c->monitors;
    fovea_monitor *monitors = realloc(c->monitors, size);
    if (!monitors) return;
    c->monitors = monitors;
    fovea_monitor_take(b->run, &monitors[c->monitor_count++]);
}

/* Whether the calls on the device are so short that they heat nothing, or wait for memory, which leaves it
 * below its cap: streams of 10^8 elements took 0.99 to 1.02 of their cool time when they were hot. Regrets
 * are of the cool state. */
static bool is_brief(const bench *b) {
    double shortest = INFINITY;
    if (b->c->by_bytes[FOVEA_ON_CUDA] || b->c->every) return true;
    for (int i = 0; i < b->arm_count; i++)
        if (b->arms[i].place == FOVEA_ON_CUDA) shortest = fmin(shortest, b->arms[i].estimate);
    return shortest < brief_call;
}

static bool all_on_device(const bench *b) {
    for (int i = 0; i < b->arm_count; i++)
        if (b->arms[i].place != FOVEA_ON_CUDA) return false;
    return true;
}

/* Every arm once, in random order, and the memory they all need. */
static void run_round(bench *b, int round, double *deadline, progress_function *progress) {
    int order[FOVEA_ARMS_MAX + 1];
    bool after_ours = false;
    for (int i = 0; i <= b->arm_count; i++) order[i] = i;
    for (int i = 0; i < b->arm_count; i++) b->arms[i].round_median = 0;
    fovea_shuffle(order, b->arm_count + 1, &b->run->random);
    for (int i = 0; i <= b->arm_count && !fovea_interrupted(); i++) {
        if (order[i] == b->arm_count) {
            if (b->memory.count) fovea_memory_turn(b), after_ours = true;
            continue;
        }
        arm *a = &b->arms[order[i]];
        bool over =
            round && (rests(b, a) || fovea_seconds_now() > *deadline); /* all are taken once */
        if (over || a->lost) continue;
        progress(b->run, b->c, a->again ? "the noise floor" : a->row->arm);
        double begun = fovea_seconds_now();
        take_cool_turn(b, a, after_ours);
        /* One call that takes most of the time is not at the others' expense. */
        if (a->estimate > 0.4 * b->seconds) *deadline += fovea_seconds_now() - begun;
        after_ours = !a->peer;
    }
    for (int i = 0; i < b->arm_count; i++)
        if (b->arms[i].place == FOVEA_ON_CPU) fovea_memory_judge(b, &b->arms[i]);
    arm *traveller = b->chosen_on_device;
    if (!traveller || traveller->lost || (round && fovea_seconds_now() > *deadline)) return;
    progress(b->run, b->c, "the way to the device and back");
    fovea_journey_turn(b, traveller);
    b->busy_until = fovea_seconds_now();
}

/* Those that are measured hot: of a device, and nearly as fast as its fastest. */
static int list_rivals(const bench *b, int rivals[]) {
    int count = 0;
    double least = INFINITY;
    for (int i = 0; i < b->arm_count; i++)
        if (b->arms[i].hot && !b->arms[i].lost) least = fmin(least, b->arms[i].estimate);
    for (int i = 0; i < b->arm_count; i++)
        if (b->arms[i].hot && !b->arms[i].lost && b->arms[i].estimate <= rival * least)
            rivals[count++] = i;
    return count;
}

static void take_slices(bench *b, int rivals[], int count, bool kept, fovea_timings *unkept) {
    fovea_shuffle(rivals, count, &b->run->random);
    for (int i = 0; i < count && !fovea_interrupted(); i++) {
        arm *a = &b->arms[rivals[i]];
        if (a->lost) continue;
        fovea_turn turn = plan_slice(b, a, kept);
        if (kept)
            take_turn(b, a, &turn, true);
        else
            a->inner[true] = turn.inner, a->lost = !a->provider->take(b, a, &turn, unkept);
    }
}

static void run_hot(bench *b, progress_function *progress) {
    int rivals[FOVEA_ARMS_MAX], count = list_rivals(b, rivals);
    fovea_timings unkept = {0};
    double begun = fovea_seconds_now();
    if (!count) return;
    progress(b->run, b->c, "all of them, hot");
    fovea_nvml_begin();
    while (fovea_seconds_now() - begun < hot_before && !fovea_interrupted())
        take_slices(b, rivals, count, false, &unkept);
    for (int s = 0; s < SLICES; s++) take_slices(b, rivals, count, true, &unkept);
    fovea_nvml_end();
    fovea_timings_release(&unkept);
}

static void run_rounds(bench *b, progress_function *progress) {
    double deadline = fovea_seconds_now() + b->seconds;
    b->brief = is_brief(b);
    fovea_memory_begin(b);
    monitor(b, true);
    for (int round = 0; b->arm_count && !fovea_interrupted(); round++) {
        run_round(b, round, &deadline, progress);
        if (!b->brief && (!round || fovea_seconds_now() < deadline)) run_hot(b, progress);
        monitor(b, b->c->monitor_count == 0);
        if (fovea_seconds_now() > deadline) break;
        if (round + 1 >= ROUNDS_MIN && (settled(b) || all_on_device(b))) break;
    }
}

/* ---- Conclusions ---------------------------------------------------------------------------- */

static unsigned size_flags(const bench *b, fovea_place place) {
    const fovea_processor *p = fovea_processor_get();
    bool device = place == FOVEA_ON_CUDA;
    size_t last = device ? b->run->device.l2_bytes : p->l3_bytes;
    double bytes = b->c->bytes * (device ? 1 : b->sets);
    /* A device's cache is passed through or flushed; here the sets must be larger than the cache. */
    if (b->c->cold && (device || bytes >= (double)last)) return FOVEA_ROW_COLD;
    unsigned flags = bytes <= (double)last ? FOVEA_ROW_FITS_L3 : 0;
    if (device) return flags;
    if (bytes <= (double)p->l2_bytes) flags |= FOVEA_ROW_FITS_L2;
    if (bytes <= (double)p->l1_bytes) flags |= FOVEA_ROW_FITS_L1;
    return flags;
}

/* Once a run: small tensors cannot be rotated out of a large cache. */
static void warn_if_warm(const bench *b) {
    static bool said;
    if (!b->c->cold || said || !fovea_bench_on(b->run, FOVEA_ON_CPU) ||
        size_flags(b, FOVEA_ON_CPU) & FOVEA_ROW_COLD)
        return;
    fovea_bench_warn(b->run,
                     "%d sets of buffers of %s do not exceed the last-level cache: rows without "
                     "the flag «cold» are warm",
                     b->sets, b->c->name);
    said = true;
}

static bool clock_fell(const fovea_bench_case *c) {
    double low = INFINITY, high = 0;
    for (int m = 0; m < c->monitor_count; m++) {
        low = fmin(low, c->monitors[m].frequency);
        high = fmax(high, c->monitors[m].frequency);
    }
    return high > 0 && low < 0.9 * high;
}

/* Any of the cool samples; of a device that is hot by intent it is no remark. */
static bool held_back(const fovea_bench_row *row) {
    for (int i = 0; i < row->burst_count; i++)
        for (int s = 0; s < row->bursts[i].count && !row->bursts[i].hot; s++)
            if (fovea_nvml_throttled(row->bursts[i].samples[s].reasons)) return true;
    return false;
}

static void conclude_row(const bench *b, fovea_bench_row *row) {
    const fovea_bench_case *c = b->c;
    row->summary = fovea_summarise(row->timings.values, row->timings.count);
    row->hot_summary = fovea_summarise(row->hot.values, row->hot.count);
    row->journey_summary = fovea_summarise(row->journey.whole.values, row->journey.whole.count);
    if (!row->summary.count) return;
    row->flags |= size_flags(b, row->place);
    if (row->summary.count < SAMPLES_FEW) row->flags |= FOVEA_ROW_FEW_SAMPLES;
    if (fovea_summary_spread(&row->summary) > noisy_spread) row->flags |= FOVEA_ROW_NOISY;
    if (row->place == FOVEA_ON_CUDA ? held_back(row) : clock_fell(c))
        row->flags |= FOVEA_ROW_THROTTLED;
}

/* The ways to the device and back, where they were measured more than once. */
static void conclude_journey(bench *b) {
    const arm *a = b->chosen_on_device;
    const fovea_device_journey *journey = a ? &a->row->journey : NULL;
    if (!journey || !journey->back.count) return;
    b->c->sent_seconds = fovea_summarise(journey->there.values, journey->there.count).median;
    b->c->fetched_seconds = fovea_summarise(journey->back.values, journey->back.count).median;
}

static void conclude(bench *b) {
    fovea_bench_case *c = b->c;
    for (int r = 0; r < c->row_count; r++) conclude_row(b, &c->rows[r]);
    conclude_journey(b);
    c->memory.median = fovea_summarise(c->memory.timings.values, c->memory.timings.count).median;
    warn_if_warm(b);
    fovea_summary again = fovea_summarise(c->noise_timings.values, c->noise_timings.count);
    for (int i = 0; i < b->arm_count; i++) {
        const fovea_bench_row *row = b->arms[i].row;
        if (b->arms[i].again && row->verified && row->summary.count && again.count)
            c->noise_ratio = again.median / row->summary.median;
        if (b->arms[i].peer && !b->arms[i].again) fovea_peer_note_pace(b, &b->arms[i]);
    }
}

static void release(bench *b) {
    fovea_steps_destroy(b->steps);
    for (int i = 0; i < FOVEA_ARMS_MAX; i++) {
        fovea_device_call *call = b->calls[i];
        if (call) fovea_device_call_destroy(call);
        free(call);
    }
    for (int s = 0; s < b->device_sets; s++) fovea_device_tensors_destroy(&b->device[s]);
    free(b->device);
    free(b->moved);
    fovea_bench_release_prepared(b->run, b->prepared);
}

void fovea_bench_measure(fovea_bench_run *run, fovea_bench_case *c, double seconds,
                         progress_function *progress) {
    bench *b = calloc(1, sizeof *b);
    double start = fovea_seconds_now();
    c->rows = calloc(FOVEA_ARMS_MAX, sizeof *c->rows);
    if (!b || !c->rows) {
        snprintf(c->problem, sizeof c->problem, "no memory to measure it");
        free(b);
        return;
    }
    b->run = run, b->c = c, b->seconds = seconds;
    progress(run, c, "the reference");
    if (take_prepared(b) && make_device_tensors(b)) {
        find_ceilings(b);
        c->sets[FOVEA_ON_CPU] = b->sets, c->sets[FOVEA_ON_CUDA] = b->device_sets;
        fovea_bench_measure_at_size(run, c);
        c->prepared_seconds = fovea_seconds_now() - start;
        list_arms(b);
        verify(b, progress);
        c->verified_seconds = fovea_seconds_now() - start - c->prepared_seconds;
        if (!c->alone || c->sweep) add_noise_pair(b);
        b->seconds = fmax(seconds - (fovea_seconds_now() - start), 0.4 * seconds);
        run_rounds(b, progress);
        conclude(b);
        c->done = true;
    } else if (!*c->problem) {
        snprintf(c->problem, sizeof c->problem, "%s",
                 fovea_interrupted() ? "the run was interrupted" : "no memory for its tensors");
    }
    release(b);
    free(b);
    c->seconds = fovea_seconds_now() - start;
}

void fovea_bench_forget(fovea_bench_case *c) {
    for (int r = 0; r < c->row_count; r++) {
        fovea_timings_release(&c->rows[r].timings);
        fovea_timings_release(&c->rows[r].hot);
        fovea_device_journey_release(&c->rows[r].journey);
        fovea_timings_release(&c->rows[r].shares);
        free(c->rows[r].bursts);
    }
    fovea_timings_release(&c->noise_timings);
    fovea_timings_release(&c->memory.timings);
    c->memory.bytes = 0;
    free(c->rows);
    free(c->monitors);
    c->rows = NULL;
    c->monitors = NULL;
    c->row_count = c->monitor_count = 0;
}
