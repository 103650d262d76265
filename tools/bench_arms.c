/* Measuring one case: tensors in memory that all arms share, the reference, verification of each arm,
 * then rounds in which the arms take turns in random order until the medians stand or time is up. */
#define _GNU_SOURCE
#include "bench_arms.h"

#include "api/call.h"
#include "bench_columns.h"
#include "bench_steps.h"
#include "catalogue/attention.h"
#include "router/registry.h"
#include "verify.h"

#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    SETS_MAX = 64,
    SAMPLED_ROWS = 64,
    POISON_RUN = 16,
    ROUNDS_MIN = 3,
    SAMPLES_ENOUGH = 12,
    SAMPLES_FEW = 5,
    COUNT_MAX = 30,
    OPTIONAL_MAX = 24
};
static const double spread_target = 0.003, noisy_spread = 0.03, sample_seconds = 20e-6;
static const size_t mapping_bytes = (size_t)1 << 37; /* of address space */

typedef struct arm {
    fovea_bench_row *row; /* NULL for the second name of the noise pair */
    fovea_timings *timings;
    const fovea_implementation *implementation; /* or */
    const fovea_steps *steps;                   /* of ours as well, or */
    fovea_bench_peer *peer;
    const fovea_case *definition; /* of ours: the case's, or with the options of a suite's arm */
    double estimate, used;        /* seconds: a call; all its turns */
    bool lost;
} arm;

typedef struct bench {
    fovea_bench_run *run;
    fovea_bench_case *c;
    fovea_sample *samples;
    int sets, turn_of_set;
    fovea_verification *expected;
    fovea_steps *steps;                /* NULL: none wanted, or the kernel is not fused */
    fovea_case optional[OPTIONAL_MAX]; /* the case with the options of the suite's arms or plans */
    int optional_count;
    arm arms[FOVEA_ARMS_MAX];
    int arm_count;
    double seconds; /* for its rounds */
} bench;

typedef void progress_function(const fovea_bench_run *run, const fovea_bench_case *c,
                               const char *arm);

/* ---- Shared memory -------------------------------------------------------------------------- */

static void *share(void *user, size_t bytes, int argument) {
    fovea_bench_run *run = user;
    /* Pages of their own, and off one another's place in the cache's sets. */
    size_t offset = (run->used + 4095) / 4096 * 4096 + 256 * (size_t)(argument % 8);
    size_t end = offset + bytes + 64;
    if (!run->mapping) {
        void *mapping = mmap(NULL, mapping_bytes, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_NORESERVE, run->memory, 0);
        if (mapping == MAP_FAILED) return NULL;
        run->mapping = mapping;
    }
    double free_pages = (double)sysconf(_SC_AVPHYS_PAGES);
    if (end > mapping_bytes || (double)bytes > free_pages * (double)sysconf(_SC_PAGESIZE))
        return NULL;
    if (ftruncate(run->memory, (off_t)end) != 0) return NULL;
    run->used = end;
    return run->mapping + offset;
}

static void unshare(void *user, void *memory, size_t bytes, int argument) {
    (void)user, (void)memory, (void)bytes, (void)argument;
}

/* Enough sets of tensors to be larger than the last-level cache, where the calls are to be cold. */
static int set_count(const bench *b, double bytes) {
    double cache = (double)fovea_processor_get()->l3_bytes;
    double wanted = b->c->cold ? ceil(2 * cache / fmax(bytes, 1)) : 1;
    return wanted > SETS_MAX ? SETS_MAX : wanted < 1 ? 1 : (int)wanted;
}

/* A gradient's out and lse are what attention gives for its other inputs. */
static bool give_forward_results(const bench *b, fovea_sample *sample) {
    fovea_backward_call backward;
    if (strcmp(sample->problem.kernel->name, "attention_backward") != 0) return true;
    fovea_backward_describe(&sample->problem, &backward);
    fovea_attention_options *options = &backward.options;
    struct {
        int argument;
        const DLTensor **field;
    } tensors[] = {{FOVEA_ATTENTION_MASK, &options->mask},
                   {FOVEA_ATTENTION_BIAS, &options->bias},
                   {FOVEA_ATTENTION_SLOPES, &options->slopes},
                   {FOVEA_ATTENTION_SINKS, &options->sinks},
                   {FOVEA_ATTENTION_CU_SEQLENS_Q, &options->cu_seqlens_q},
                   {FOVEA_ATTENTION_CU_SEQLENS_K, &options->cu_seqlens_k},
                   {FOVEA_ATTENTION_SEQUSED_K, &options->seqused_k}};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        if (sample->present >> tensors[i].argument & 1)
            *tensors[i].field = &sample->tensors[tensors[i].argument];
    options->lse = &sample->tensors[FOVEA_ATTENTION_LSE];
    fovea_use(b->run->context, "attention", NULL);
    return fovea_attention(b->run->context, &sample->tensors[FOVEA_ATTENTION_Q],
                           &sample->tensors[FOVEA_ATTENTION_K], &sample->tensors[FOVEA_ATTENTION_V],
                           &sample->tensors[FOVEA_ATTENTION_OUT], options) == FOVEA_OK;
}

static bool make_samples(bench *b) {
    fovea_case_memory memory = {share, unshare, b->run};
    fovea_message message;
    b->run->used = 0;
    if (ftruncate(b->run->memory, 0) != 0) return false;
    b->samples = calloc(SETS_MAX, sizeof *b->samples);
    int wanted = b->samples ? 1 : 0;
    for (; b->sets < wanted; b->sets++) {
        fovea_status status =
            fovea_sample_create(&b->c->definition, &memory, &b->samples[b->sets], &message);
        if (status != FOVEA_OK) {
            snprintf(b->c->problem, sizeof b->c->problem, "%s", message.text);
            return false;
        }
        if (!give_forward_results(b, &b->samples[b->sets])) {
            snprintf(b->c->problem, sizeof b->c->problem, "%s",
                     fovea_last_message(b->run->context));
            return false;
        }
        if (b->sets == 0) wanted = set_count(b, fovea_problem_bytes(&b->samples[0].problem));
    }
    return b->sets > 0;
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

/* Attention of bf16 is held against the unit for bf16 where the machine has one; tiles serve peers
 * too. */
static const fovea_ceiling *arithmetic_ceiling(const bench *b) {
    const fovea_problem *problem = &b->samples[0].problem;
    const fovea_ceilings *all = &b->run->ceilings;
    const char *tier = b->run->tier;
    int threads = b->run->threads;
    const fovea_ceiling *best = fovea_ceilings_find(all, "fma_f32", tier, threads);
    if (problem->dtype != FOVEA_BF16 || strcmp(problem->kernel->name, "attention") != 0)
        return best;
    best = higher(best, fovea_ceilings_find(all, "dot_bf16", tier, threads));
    return higher(best, fovea_ceilings_find(all, "tile_bf16", NULL, threads));
}

/* The ceiling that forbids more: arithmetic or memory. */
static void find_ceiling(bench *b) {
    const fovea_problem *problem = &b->samples[0].problem;
    const fovea_ceilings *all = &b->run->ceilings;
    fovea_bench_case *c = b->c;
    int threads = b->run->threads;
    c->operations = fovea_problem_operations(problem);
    c->bytes = fovea_problem_bytes(problem);
    bool writes = output_bytes(problem) > 0.01 * c->bytes;
    const fovea_ceiling *arithmetic = arithmetic_ceiling(b);
    const fovea_ceiling *memory =
        writes ? higher(fovea_ceilings_find(all, "copy", NULL, threads),
                        fovea_ceilings_find(all, "stream_copy", NULL, threads))
               : fovea_ceilings_find(all, "read", NULL, threads);
    if (!arithmetic) return;
    c->by_bytes = memory && c->bytes / memory->value > c->operations / arithmetic->value;
    const fovea_ceiling *limit = c->by_bytes ? memory : arithmetic;
    snprintf(c->ceiling, sizeof c->ceiling, "%s", limit->name);
}

/* ---- Arms ----------------------------------------------------------------------------------- */

static fovea_bench_row *new_row(bench *b, const char *name, bool peer) {
    fovea_bench_case *c = b->c;
    if (c->row_count == FOVEA_ARMS_MAX) return NULL;
    fovea_bench_row *row = &c->rows[c->row_count++];
    *row = (fovea_bench_row){.peer = peer, .served = true};
    snprintf(row->arm, sizeof row->arm, "%s", name);
    return row;
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
        if (b->arms[i].implementation &&
            strcmp(fovea_implementation_algorithm(b->arms[i].implementation),
                   fovea_implementation_algorithm(candidate)) == 0)
            return false;
    return true;
}

/* The parameters that the arms of this case are called with, until they are set again. */
static void set_options(bench *b, const fovea_case *definition) {
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
        if (candidate->only_by_name || (patterns && !fovea_arm_chosen(patterns, name)) ||
            !fovea_implementation_serves(candidate, problem, reason, sizeof reason))
            continue;
        fovea_bench_row *row = new_row(b, name, false);
        if (!row) return;
        b->arms[b->arm_count++] = (arm){.row = row,
                                        .timings = &row->timings,
                                        .implementation = candidate,
                                        .definition = definition};
        if (!patterns) return;
    }
}

static void list_optional_arms(bench *b) {
    const fovea_suite_arm *arms;
    fovea_message message;
    int count = fovea_suite_arms(b->c->suite, &arms);
    for (int i = 0; i < count && b->optional_count < OPTIONAL_MAX; i++) {
        fovea_case *definition = &b->optional[b->optional_count++];
        *definition = b->c->definition;
        if (fovea_case_parse(definition, arms[i].options, 0, &message) != FOVEA_OK) continue;
        set_options(b, definition);
        add_optional_arm(b, &arms[i], definition);
        set_options(b, &b->c->definition);
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
            if (rows[r] > head_rows || keys[k] > head_keys || b->optional_count == OPTIONAL_MAX)
                continue;
            fovea_case *definition = &b->optional[b->optional_count++];
            *definition = *d;
            fovea_case_set(definition, "block_rows", (double)rows[r]);
            fovea_case_set(definition, "block_keys", (double)keys[k]);
            snprintf(name, sizeof name, "%s@%lldx%lld", implementation->name, (long long)rows[r],
                     (long long)keys[k]);
            fovea_bench_row *row = new_row(b, name, false);
            if (!row) return;
            b->arms[b->arm_count++] = (arm){.row = row,
                                            .timings = &row->timings,
                                            .implementation = implementation,
                                            .definition = definition};
        }
}

static void add_steps(bench *b) {
    const char *patterns = b->run->options.arms, *name = FOVEA_STEPS_ARM;
    char why[160];
    if (!b->c->steps || (patterns && !fovea_arm_chosen(patterns, name))) return;
    b->steps = fovea_steps_create(b->c->kernel, &b->samples[0].problem, why, sizeof why);
    if (!b->steps && !*why) return;
    fovea_bench_row *row = new_row(b, name, false);
    if (!row) return;
    row->served = b->steps != NULL;
    if (b->steps)
        b->arms[b->arm_count++] = (arm){.row = row,
                                        .timings = &row->timings,
                                        .steps = b->steps,
                                        .definition = &b->c->definition};
    else
        snprintf(row->reason, sizeof row->reason, "%s", why);
}

static void list_arms(bench *b) {
    const fovea_problem *problem = &b->samples[0].problem;
    const char *patterns = b->run->options.arms;
    char reason[160], name[FOVEA_ARM_NAME];
    for (int i = 0; i < fovea_implementation_count(problem->index); i++) {
        const fovea_implementation *candidate = fovea_implementation_at(problem->index, i);
        bool serves = fovea_implementation_serves(candidate, problem, reason, sizeof reason);
        if (patterns ? !fovea_arm_chosen(patterns, candidate->name)
                     : !serves || !by_default(b, candidate))
            continue;
        fovea_bench_row *row = new_row(b, candidate->name, false);
        if (!row) return;
        row->served = serves;
        if (serves)
            b->arms[b->arm_count++] = (arm){.row = row,
                                            .timings = &row->timings,
                                            .implementation = candidate,
                                            .definition = &b->c->definition};
        if (serves && b->c->sweep) add_block_plans(b, candidate);
        if (!serves) snprintf(row->reason, sizeof row->reason, "%s", reason);
    }
    list_optional_arms(b);
    add_steps(b);
    for (int p = 0; p < b->run->peer_count && !b->c->alone && !b->c->every; p++) {
        snprintf(name, sizeof name, "peer/%s", b->run->peers[p].name);
        if (!b->run->peers[p].process || (patterns && !fovea_arm_chosen(patterns, name))) continue;
        fovea_bench_row *row = new_row(b, name, true);
        if (!row) return;
        b->arms[b->arm_count++] =
            (arm){.row = row, .timings = &row->timings, .peer = &b->run->peers[p]};
    }
}

/* ---- Calls ---------------------------------------------------------------------------------- */

static bool call(bench *b, const arm *a, const fovea_sample *sample) {
    if (a->steps) return fovea_steps_run(a->steps, b->run->context, sample);
    return fovea_call_kernel(b->run->context, sample->problem.index,
                             (const DLTensor *const *)sample->required, sample->count,
                             sample->options) == FOVEA_OK;
}

static bool use(bench *b, const arm *a) {
    return a->steps || fovea_use(b->run->context, b->samples[0].problem.kernel->name,
                                 a->implementation->name) == FOVEA_OK;
}

static bool run_ours(bench *b, const arm *a, const fovea_turn *turn) {
    bool good = use(b, a);
    set_options(b, a->definition);
    for (int i = 0; i < turn->warm; i++) good = good && call(b, a, &b->samples[0]);
    for (int s = 0; good && s < turn->count; s++) {
        double start = fovea_bench_now();
        for (int i = 0; i < turn->inner; i++)
            good = call(b, a, &b->samples[b->turn_of_set++ % b->sets]) && good;
        double seconds = (fovea_bench_now() - start) / turn->inner;
        good = good && fovea_timings_add(a->timings, seconds);
    }
    set_options(b, &b->c->definition);
    return good;
}

/* ---- Verification --------------------------------------------------------------------------- */

/* The first element of a run that still holds the poison among those that are to be written, or -1: the
 * comparison of large problems is by sample, so what was never written could escape it. */
static int64_t unwritten(const fovea_view *view, int64_t count) {
    size_t size = fovea_dtype_size(view->dtype);
    bool dense = fovea_view_is_contiguous(view);
    int64_t run = 0;
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
        int64_t values = fovea_verification_written(b->expected, o);
        int64_t element = unwritten(view, values / fovea_dtype_parts(view->dtype));
        if (element < 0) continue;
        row->verified = false;
        snprintf(row->reason, sizeof row->reason, "%s was not written from element %lld on",
                 problem->kernel->arguments[o].name, (long long)element);
    }
}

static void verify_with_options(bench *b, arm *a) {
    fovea_call_report report;
    fovea_sample_restore(&b->samples[0]);
    double start = fovea_bench_now();
    if (!use(b, a) || !call(b, a, &b->samples[0])) {
        snprintf(a->row->reason, sizeof a->row->reason, "%s", fovea_last_message(b->run->context));
        return;
    }
    a->estimate = fovea_bench_now() - start;
    judge(b, a);
    if (!a->steps && fovea_last_call(b->run->context, &report) == FOVEA_OK) {
        a->row->scratch_bytes = report.scratch_bytes;
        a->row->block_rows = report.block_rows;
        a->row->block_keys = report.block_keys;
        snprintf(a->row->arithmetic, sizeof a->row->arithmetic, "%s", report.arithmetic);
    }
}

static void verify_ours(bench *b, arm *a) {
    set_options(b, a->definition);
    verify_with_options(b, a);
    set_options(b, &b->c->definition);
}

/* Seconds that a peer needed for an operation of this kernel and dtype the last time, so that a call
 * that would take all of the time is not begun. */
typedef struct pace {
    int kernel;
    fovea_dtype dtype;
    double seconds_an_operation;
} pace;
static pace paces[FOVEA_PEERS_MAX];

static double predicted(const bench *b, const arm *a) {
    const pace *p = &paces[a->peer - b->run->peers];
    bool same = p->kernel == b->c->definition.index && p->dtype == b->c->definition.dtype;
    return same ? p->seconds_an_operation * b->c->operations : 0;
}

static void verify_peer(bench *b, arm *a) {
    double first = 0, expected = predicted(b, a), limit = fmax(3 * b->seconds, 6);
    char text[32];
    if (expected > limit) {
        a->row->served = false;
        snprintf(a->row->reason, sizeof a->row->reason, "left out: a call would take about %s",
                 fovea_seconds_text(expected, text, sizeof text));
        return;
    }
    fovea_sample_restore(&b->samples[0]);
    if (!fovea_peer_prepare(b->run, a->peer, b->samples, b->sets, a->row, &first)) return;
    a->estimate = first;
    judge(b, a);
}

static void verify(bench *b, progress_function *progress) {
    int kept = 0;
    for (int i = 0; i < b->arm_count && !fovea_interrupted(); i++) {
        arm *a = &b->arms[i];
        progress(b->run, b->c, a->row->arm);
        if (a->peer)
            verify_peer(b, a);
        else
            verify_ours(b, a);
        if (a->row->verified) b->arms[kept++] = *a;
    }
    b->arm_count = kept;
}

/* ---- Rounds --------------------------------------------------------------------------------- */

/* The arm that the library would choose, or else the first of ours, once more under another name. */
static void add_noise_pair(bench *b) {
    const fovea_sample *sample = &b->samples[0];
    fovea_context *context = b->run->context;
    fovea_route route = {0};
    arm *twin = NULL;
    fovea_use(context, sample->problem.kernel->name, NULL);
    fovea_status status =
        fovea_explain(context, sample->problem.kernel->name, (DLTensor *const *)sample->required,
                      sample->count, sample->options, &route);
    for (int i = 0; i < b->arm_count; i++) {
        arm *a = &b->arms[i];
        if (!a->implementation) continue;
        bool routed = status == FOVEA_OK && strcmp(a->row->arm, route.implementation) == 0;
        if (routed) a->row->flags |= FOVEA_ROW_ROUTED;
        if (!twin || routed) twin = a;
    }
    if (!twin || b->arm_count == FOVEA_ARMS_MAX) return;
    snprintf(b->c->noise_arm, sizeof b->c->noise_arm, "%s", twin->row->arm);
    b->arms[b->arm_count] = *twin;
    b->arms[b->arm_count].row = NULL;
    b->arms[b->arm_count++].timings = &b->c->noise_timings;
}

static fovea_turn plan_turn(const bench *b, const arm *a) {
    fovea_turn turn = {.inner = 1, .estimate = a->estimate};
    double share = fmin(fmax(b->seconds / (b->arm_count * 8), 1e-3), 0.08);
    if (a->estimate < sample_seconds) turn.inner = (int)ceil(sample_seconds / (a->estimate + 1e-9));
    double count = share / (a->estimate * turn.inner);
    turn.count = count < 1 ? 1 : count > COUNT_MAX ? COUNT_MAX : (int)count;
    turn.warm = a->estimate < 0.02 && !b->c->cold;
    return turn;
}

static void take_turn(bench *b, arm *a, bool after_ours) {
    fovea_turn turn = plan_turn(b, a);
    double start = fovea_bench_now();
    int before = a->timings->count;
    /* Our own threads go to sleep a moment after a call; a peer does not have to meet them awake. */
    if (a->peer && after_ours) usleep(2000);
    bool good;
    if (a->peer) {
        good = fovea_peer_run(b->run, a->peer, a->row, &turn);
    } else {
        good = run_ours(b, a, &turn);
        if (!good && a->row) {
            a->row->verified = false;
            snprintf(a->row->reason, sizeof a->row->reason, "%s",
                     fovea_last_message(b->run->context));
        }
    }
    a->lost = !good;
    for (int i = before; i < a->timings->count; i++)
        if (i == before || a->timings->values[i] < a->estimate) a->estimate = a->timings->values[i];
    a->used += fovea_bench_now() - start;
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
    double since = fovea_bench_now() - b->run->started;
    if (!now && since - c->monitors[c->monitor_count - 1].at < 0.1) return;
    size_t size = (size_t)(c->monitor_count + 1) * sizeof *c->monitors;
    fovea_monitor *monitors = realloc(c->monitors, size);
    if (!monitors) return;
    c->monitors = monitors;
    fovea_monitor_take(b->run, &monitors[c->monitor_count++]);
}

static void run_rounds(bench *b, progress_function *progress) {
    int order[FOVEA_ARMS_MAX];
    double deadline = fovea_bench_now() + b->seconds;
    bool after_ours = false;
    monitor(b, true);
    for (int round = 0; b->arm_count && !fovea_interrupted(); round++) {
        for (int i = 0; i < b->arm_count; i++) order[i] = i;
        fovea_shuffle(order, b->arm_count, &b->run->random);
        for (int i = 0; i < b->arm_count && !fovea_interrupted(); i++) {
            arm *a = &b->arms[order[i]];
            if (rests(b, a) || (round && fovea_bench_now() > deadline)) continue;
            progress(b->run, b->c, a->row ? a->row->arm : "the noise floor");
            double begun = fovea_bench_now();
            take_turn(b, a, after_ours);
            /* One call that takes most of the time is not at the others' expense. */
            if (a->estimate > 0.4 * b->seconds) deadline += fovea_bench_now() - begun;
            after_ours = !a->peer;
        }
        monitor(b, b->c->monitor_count == 0);
        if (fovea_bench_now() > deadline || (round + 1 >= ROUNDS_MIN && settled(b))) break;
    }
}

/* ---- Conclusions ---------------------------------------------------------------------------- */

static unsigned size_flags(const bench *b) {
    const fovea_processor *p = fovea_processor_get();
    double bytes = b->c->bytes * b->sets;
    unsigned flags = b->c->cold && bytes >= (double)p->l3_bytes ? FOVEA_ROW_COLD : 0;
    if (bytes <= (double)p->l3_bytes) flags |= FOVEA_ROW_FITS_L3;
    if (bytes <= (double)p->l2_bytes) flags |= FOVEA_ROW_FITS_L2;
    if (bytes <= (double)p->l1_bytes) flags |= FOVEA_ROW_FITS_L1;
    return flags;
}

/* Once a run: small tensors cannot be rotated out of a large cache. */
static void warn_if_warm(const bench *b) {
    static bool said;
    if (!b->c->cold || said || size_flags(b) & FOVEA_ROW_COLD) return;
    fovea_bench_warn(b->run,
                     "%d sets of buffers of %s do not exceed the last-level cache: rows without "
                     "the flag «cold» are warm",
                     b->sets, b->c->name);
    said = true;
}

static bool throttled(const fovea_bench_case *c) {
    double low = INFINITY, high = 0;
    for (int m = 0; m < c->monitor_count; m++) {
        low = fmin(low, c->monitors[m].frequency);
        high = fmax(high, c->monitors[m].frequency);
    }
    return high > 0 && low < 0.9 * high;
}

static void conclude_row(const bench *b, fovea_bench_row *row) {
    const fovea_bench_case *c = b->c;
    row->summary = fovea_summarise(row->timings.values, row->timings.count);
    if (!row->summary.count) return;
    row->flags |= size_flags(b);
    if (row->summary.count < SAMPLES_FEW) row->flags |= FOVEA_ROW_FEW_SAMPLES;
    if (fovea_summary_spread(&row->summary) > noisy_spread) row->flags |= FOVEA_ROW_NOISY;
    if (throttled(c)) row->flags |= FOVEA_ROW_THROTTLED;
}

static void conclude(bench *b) {
    fovea_bench_case *c = b->c;
    for (int r = 0; r < c->row_count; r++) conclude_row(b, &c->rows[r]);
    warn_if_warm(b);
    const fovea_bench_row *twin = fovea_find_row(c, c->noise_arm);
    fovea_summary again = fovea_summarise(c->noise_timings.values, c->noise_timings.count);
    if (twin && twin->summary.count && again.count)
        c->noise_ratio = again.median / twin->summary.median;
    for (int i = 0; i < b->arm_count; i++) {
        const arm *a = &b->arms[i];
        if (a->peer && a->row->summary.count && c->operations > 0)
            paces[a->peer - b->run->peers] = (pace){c->definition.index, c->definition.dtype,
                                                    a->row->summary.minimum / c->operations};
    }
}

/* Fewer rows of attention over very many keys, whose reference would take minutes. */
static int64_t sampled_rows(const fovea_problem *problem) {
    if (strcmp(problem->kernel->name, "attention") != 0) return SAMPLED_ROWS;
    double row = (double)fovea_problem_extent(problem, "Sk") *
                 (double)(fovea_problem_extent(problem, "D") + fovea_problem_extent(problem, "Dv"));
    return (int64_t)fmin(SAMPLED_ROWS, fmax(8, 2e8 / fmax(row, 1)));
}

void fovea_bench_measure(fovea_bench_run *run, fovea_bench_case *c, double seconds,
                         progress_function *progress) {
    bench b = {.run = run, .c = c, .seconds = seconds};
    double start = fovea_bench_now();
    c->rows = calloc(FOVEA_ARMS_MAX, sizeof *c->rows);
    progress(run, c, "the reference");
    if (c->rows && make_samples(&b)) {
        find_ceiling(&b);
        b.expected = fovea_verification_create(
            &b.samples[0].problem, sampled_rows(&b.samples[0].problem), c->definition.seed + 1);
        if (b.expected) {
            list_arms(&b);
            verify(&b, progress);
            if (!c->alone || c->sweep) add_noise_pair(&b);
            b.seconds = fmax(seconds - (fovea_bench_now() - start), 0.4 * seconds);
            run_rounds(&b, progress);
            conclude(&b);
            c->done = true;
        } else {
            snprintf(c->problem, sizeof c->problem, "no memory for the reference");
        }
    } else if (!*c->problem) {
        snprintf(c->problem, sizeof c->problem, "no memory for its tensors");
    }
    fovea_verification_destroy(b.expected);
    fovea_steps_destroy(b.steps);
    for (int s = 0; s < b.sets; s++) fovea_sample_destroy(&b.samples[s]);
    free(b.samples);
    c->seconds = fovea_bench_now() - start;
}
