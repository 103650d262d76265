/* All inputs of unary functions. The rows say which kernels these are; the inputs are bit patterns in
 * their order, in runs that stay in the second-level cache, and threads take runs in turn. Of each run
 * the expected values and the bounds are made once, for all implementations. */
#include "exhaustive.h"

#include "catalogue/case.h"
#include "exhaustive_loops.h"
#include "reference/reference.h"
#include "router/registry.h"
#include "runtime/output.h"
#include "seconds.h"
#include "verify.h"

#include <math.h>
#include <stdlib.h>

enum { RUN = 16384, LINES_MAX = 1024 };

/* What one implementation did at all inputs. */
typedef struct findings {
    double ulps, ulps_at;   /* the most, and the input */
    double share, share_at; /* of the bound */
    int64_t wrong;
    double wrong_at, expected, actual; /* the first of them */
} findings;

/* A function: a kernel with its choices made, of one dtype. */
typedef struct line {
    fovea_case c;
    char name[64];
    int count; /* implementations */
    const fovea_implementation *implementations[FOVEA_IMPLEMENTATIONS_MAX];
    findings found[FOVEA_IMPLEMENTATIONS_MAX];
    int64_t inputs; /* that were taken */
} line;

typedef struct sweep {
    const fovea_exhaustive_options *options;
    line *lines;
    int count;
    double started;
} sweep;

/* ---- Which functions ------------------------------------------------------------------------ */

/* Steps of an integrator may leave the range of floats between one number and the other. */
static bool is_unary(const fovea_kernel *kernel) {
    const fovea_argument *a = kernel->arguments;
    return !kernel->shape && fovea_kernel_parameter(kernel, "steps") < 0 && a[0].name &&
           a[1].name && !a[2].name && a[0].role == FOVEA_INPUT && a[1].role == FOVEA_OUTPUT &&
           strcmp(a[0].shape, "N...") == 0 && strcmp(a[1].shape, "N...") == 0 && a[0].dtypes == 0;
}

static bool chosen(const fovea_exhaustive_options *options, const fovea_implementation *i) {
    if (fovea_implementation_is_cuda(i) || !fovea_has_tier(i->tier)) return false;
    if (options->implementation) return strcmp(options->implementation, i->name) == 0;
    return !i->only_by_name;
}

/* Keeps the line if an implementation serves it. */
static fovea_status add_line(sweep *s, const fovea_case *c, const char *words,
                             fovea_message *message) {
    fovea_sample sample;
    char reason[160];
    if (s->count == LINES_MAX)
        return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "too many functions");
    line *l = &s->lines[s->count];
    *l = (line){.c = *c};
    snprintf(l->name, sizeof l->name, "%s%s", fovea_catalogue_kernel(c->index)->name, words);
    fovea_status status = fovea_sample_create(c, NULL, &sample, message);
    if (status != FOVEA_OK) return status;
    for (int i = 0; i < fovea_implementation_count(c->index); i++) {
        const fovea_implementation *candidate = fovea_implementation_at(c->index, i);
        if (chosen(s->options, candidate) &&
            fovea_implementation_serves(candidate, &sample.problem, reason, sizeof reason))
            l->implementations[l->count++] = candidate;
    }
    fovea_sample_destroy(&sample);
    s->count += l->count > 0;
    return FOVEA_OK;
}

/* Every value of the first choice, or the defaults. */
static fovea_status add_choices(sweep *s, fovea_case c, const char *words, fovea_message *message) {
    const fovea_kernel *kernel = fovea_catalogue_kernel(c.index);
    for (int p = 0; p < fovea_kernel_parameters(kernel); p++) {
        const char *name = kernel->parameters[p].choices;
        if (kernel->parameters[p].kind != FOVEA_CHOICE) continue;
        for (int value = 0; name && *name; value++) {
            char text[64];
            int length = (int)strcspn(name, ",");
            snprintf(text, sizeof text, "%s %s=%.*s", words, kernel->parameters[p].name, length,
                     name);
            c.parameters[p] = value;
            fovea_status status = add_line(s, &c, text, message);
            if (status != FOVEA_OK) return status;
            name += length + (name[length] == ',');
        }
        return FOVEA_OK;
    }
    return add_line(s, &c, words, message);
}

static fovea_status add_kernel(sweep *s, int k, fovea_message *message) {
    const fovea_kernel *kernel = fovea_catalogue_kernel(k);
    for (int d = 0; d < FOVEA_DTYPE_COUNT; d++) {
        bool swept = d == FOVEA_F32 || d == FOVEA_F16 || d == FOVEA_BF16;
        uint32_t to = fovea_argument_dtypes(&kernel->arguments[1], (fovea_dtype)d);
        for (int o = 0; (kernel->dtypes >> d & 1) && swept && o < FOVEA_DTYPE_COUNT; o++) {
            fovea_case c;
            char words[32] = "";
            if (!(to >> o & 1)) continue;
            fovea_case_begin(&c, k);
            fovea_case_extent(&c, "N", RUN);
            c.dtype = (fovea_dtype)d, c.data = FOVEA_DATA_NONE;
            c.dtypes[1] = kernel->arguments[1].dtypes ? 1 + (uint32_t)o : 0;
            if (o != d) snprintf(words, sizeof words, " to %s", fovea_dtype_name((fovea_dtype)o));
            fovea_status status = add_choices(s, c, words, message);
            if (status != FOVEA_OK) return status;
        }
    }
    return FOVEA_OK;
}

static fovea_status gather(sweep *s, fovea_message *message) {
    const char *name = s->options->kernel;
    fovea_status status = FOVEA_OK;
    if (name && fovea_catalogue_find(name) < 0)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "there is no kernel «%s»", name);
    for (int k = 0; k < fovea_catalogue_count() && status == FOVEA_OK; k++) {
        const fovea_kernel *kernel = fovea_catalogue_kernel(k);
        if (is_unary(kernel) && (!name || strcmp(name, kernel->name) == 0))
            status = add_kernel(s, k, message);
    }
    if (status == FOVEA_OK && s->count == 0)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s%s%s of one f32 or half%s%s",
                          name ? "«" : "no kernel is a function", name ? name : "",
                          name ? "» is no function" : "",
                          s->options->implementation ? " that is served by " : "",
                          s->options->implementation ? s->options->implementation : "");
    return status;
}

/* ---- One run of inputs ---------------------------------------------------------------------- */

/* The memory of a thread. */
typedef struct bench {
    fovea_sample sample;
    double x[RUN], expected[RUN], bound[RUN], actual[RUN];
} bench;

static void set_inputs(bench *b, int64_t first) {
    const fovea_view *view = &b->sample.problem.views[0];
    for (int64_t i = 0; i < RUN; i++) {
        uint32_t bits = (uint32_t)(first + i);
        uint16_t half = (uint16_t)bits;
        if (view->dtype == FOVEA_F32)
            memcpy(view->data + 4 * i, &bits, sizeof bits);
        else
            memcpy(view->data + 2 * i, &half, sizeof half);
    }
    fovea_exhaustive_widen(view->dtype, view->data, b->x, RUN);
}

static bool expect(bench *b) {
    const fovea_problem *problem = &b->sample.problem;
    double *outputs[FOVEA_ARGUMENTS_MAX];
    if (problem->dtype != FOVEA_F32 || !fovea_exhaustive_values(problem, b->x, b->expected, RUN)) {
        if (!fovea_reference_run(problem, outputs)) return false;
        memcpy(b->expected, outputs[1], sizeof b->expected);
        free(outputs[1]);
    }
    memset(b->bound, 0, sizeof b->bound);
    if (!problem->kernel->bound) return true;
    problem->kernel->bound(problem, 1, b->expected, b->bound);
    for (int64_t i = 0; i < RUN; i++) b->bound[i] += 0x1p-126; /* docs/rules.md, 10 */
    return true;
}

static void note_element(const bench *b, fovea_dtype dtype, int64_t i, findings *f) {
    double share = fovea_error_share(dtype, b->expected[i], b->actual[i], b->bound[i], false);
    double ulps = fovea_exhaustive_ulps(dtype, b->expected[i], b->actual[i]);
    if (ulps > f->ulps) f->ulps = ulps, f->ulps_at = b->x[i];
    /* Infinity where the exact value rounds to it is right, and uses nothing of the bound. */
    bool counts = isfinite(share) && isfinite(b->actual[i]);
    if (share > f->share && counts) f->share = share, f->share_at = b->x[i];
    if (share <= 1) return;
    if (f->wrong++ > 0) return;
    f->wrong_at = b->x[i], f->expected = b->expected[i], f->actual = b->actual[i];
}

static void judge(const bench *b, fovea_dtype dtype, findings *f) {
    fovea_block_worst worst =
        fovea_exhaustive_compare(dtype, b->expected, b->bound, b->actual, RUN);
    if (worst.odd == 0 && worst.ulps <= f->ulps && worst.share <= f->share) return;
    for (int64_t i = 0; i < RUN; i++) note_element(b, dtype, i, f);
}

static void merge(findings *all, const findings *f) {
    if (f->ulps > all->ulps) all->ulps = f->ulps, all->ulps_at = f->ulps_at;
    if (f->share > all->share) all->share = f->share, all->share_at = f->share_at;
    if (f->wrong > 0 && all->wrong == 0)
        all->wrong_at = f->wrong_at, all->expected = f->expected, all->actual = f->actual;
    all->wrong += f->wrong;
}

/* The scalar tier takes ten times as long as the others. */
static bool is_left_out(const sweep *s, const line *l, int i, int64_t turn) {
    return l->implementations[i]->tier == FOVEA_TIER_SCALAR && l->c.dtype == FOVEA_F32 &&
           turn % s->options->scalar_every != 0;
}

/* False if an implementation fails or memory is short. */
static bool take_run(const sweep *s, bench *b, line *l, int64_t first, int64_t turn,
                     findings *found) {
    const fovea_view *y = &b->sample.problem.views[1];
    set_inputs(b, first);
    if (!expect(b)) return false;
    for (int i = 0; i < l->count; i++) {
        fovea_run state = {.threads = 1};
        if (is_left_out(s, l, i, turn)) continue;
        memset(y->data, 0xA5, RUN * fovea_dtype_size(y->dtype));
        if (l->implementations[i]->run(&b->sample.problem, &state) != FOVEA_OK) return false;
        fovea_exhaustive_widen(y->dtype, y->data, b->actual, RUN);
        judge(b, y->dtype, &found[i]);
    }
    return true;
}

/* ---- One function --------------------------------------------------------------------------- */

static void show_progress(const sweep *s, const line *l, double share) {
    if (!s->options->progress) return;
    fprintf(stderr, "\r\033[K%d of %d  %s %s  %.0f %%  %.0f s", (int)(l - s->lines) + 1, s->count,
            l->name, fovea_dtype_name(l->c.dtype), 100 * share, fovea_seconds_now() - s->started);
}

static void work(const sweep *s, line *l, int64_t runs, int64_t step, bool *good) {
    findings found[FOVEA_IMPLEMENTATIONS_MAX] = {{0}};
    fovea_message message;
    bench *b = malloc(sizeof *b);
    bool ready = b && fovea_sample_create(&l->c, NULL, &b->sample, &message) == FOVEA_OK;
    bool fine = ready;
    int64_t inputs = 0;
#pragma omp for schedule(dynamic, 16)
    for (int64_t r = 0; r < runs; r += step) {
        /* The runs that are taken shift, so that they do not all begin where mantissas do. */
        int64_t chosen_run = r + (step > 1 ? r / step * 7919 % step : 0);
        if (fine && chosen_run < runs) {
            fine = take_run(s, b, l, chosen_run * RUN, r / step, found);
            inputs += RUN;
        }
        if (r / step % 1024 == 0) show_progress(s, l, (double)r / (double)runs);
    }
#pragma omp critical
    {
        for (int i = 0; i < l->count; i++) merge(&l->found[i], &found[i]);
        *good &= fine;
        l->inputs += inputs;
    }
    if (ready) fovea_sample_destroy(&b->sample);
    free(b);
}

static fovea_status measure(const sweep *s, line *l, fovea_message *message) {
    int threads = s->options->jobs ? s->options->jobs : fovea_allowed_threads();
    bool good = true, whole = l->c.dtype == FOVEA_F32;
    int64_t runs = (whole ? INT64_C(1) << 32 : 65536) / RUN, step = whole ? s->options->every : 1;
#pragma omp parallel num_threads(threads)
    work(s, l, runs, step, &good);
    if (s->options->progress) fprintf(stderr, "\r\033[K");
    return good ? FOVEA_OK
                : fovea_fail(message, FOVEA_OUT_OF_MEMORY, "%s cannot be run at all inputs",
                             l->name);
}

/* ---- Reports -------------------------------------------------------------------------------- */

static void print_line(const line *l, FILE *stream) {
    fprintf(stream, "%s %s\n", l->name, fovea_dtype_name(l->c.dtype));
    for (int i = 0; i < l->count; i++) {
        const findings *f = &l->found[i];
        fprintf(stream, "  %-28s %7.4f ULP at %-14.9g %.3f of the bound\n",
                l->implementations[i]->name, f->ulps, f->ulps_at, f->share);
        if (f->wrong)
            fprintf(stream, "      %lld WRONG: at %.9g (%a) it is %.9g, expected %.9g\n",
                    (long long)f->wrong, f->wrong_at, f->wrong_at, f->actual, f->expected);
    }
}

static bool same_tier(const line *l, int i, int tier) {
    return (int)l->implementations[i]->tier == tier;
}

static bool tier_has_lines(const sweep *s, int tier) {
    for (int n = 0; n < s->count; n++)
        for (int i = 0; i < s->lines[n].count; i++)
            if (same_tier(&s->lines[n], i, tier)) return true;
    return false;
}

static void table_cell(const line *l, int tier, FILE *file) {
    for (int i = 0; i < l->count; i++) {
        const findings *f = &l->found[i];
        if (!same_tier(l, i, tier)) continue;
        if (f->wrong)
            fprintf(file, " %lld wrong |", (long long)f->wrong);
        else if (f->ulps > 0)
            fprintf(file, " %.3f at %.9g, %.0f %% |", f->ulps, f->ulps_at, 100 * f->share);
        else
            fprintf(file, " exact |");
        return;
    }
    fprintf(file, " |");
}

static void print_table(const sweep *s, FILE *file) {
    fprintf(
        file,
        "# Accuracy of functions of one number\n\n"
        "Every f32 input, all 2^32 of them, and every f16 and bf16 input, all 65536, by every\n"
        "implementation of a machine, beside the reference in double. A cell has the largest\n"
        "error in units in the last place of the output (where that is a normal number), the\n"
        "input at which it is, and the largest share of the bound that was used, there or\n"
        "elsewhere. Halves are rounded once, so that 0.5 is the least that is possible. Units\n"
        "are many only where the bound is absolute: beside 2^-126, the smallest normal number,\n"
        "and of some activations below 2^-119. The command made this file:\n\n"
        "    fovea check --exhaustive --table docs/accuracy.md\n\n");
    if (s->options->every > 1)
        fprintf(file, "Of f32 one run of %d neighbours in %lld was taken.\n\n", RUN,
                (long long)s->options->every);
    if (s->options->scalar_every > 1)
        fprintf(file,
                "The scalar tier, which takes ten times as long, took one run of %d f32 in %lld\n"
                "(`--scalar-every`).\n\n",
                RUN, (long long)s->options->scalar_every);
    fprintf(file, "| function | dtype | bound |");
    for (int t = 0; t < FOVEA_TIER_COUNT; t++)
        if (tier_has_lines(s, t)) fprintf(file, " %s |", fovea_tier_name((fovea_tier)t));
    fprintf(file, "\n|---|---|---|");
    for (int t = 0; t < FOVEA_TIER_COUNT; t++)
        if (tier_has_lines(s, t)) fprintf(file, "---|");
    for (int n = 0; n < s->count; n++) {
        const line *l = &s->lines[n];
        fprintf(file, "\n| %s | %s | %s |", l->name, fovea_dtype_name(l->c.dtype),
                fovea_catalogue_kernel(l->c.index)->bound_text);
        for (int t = 0; t < FOVEA_TIER_COUNT; t++)
            if (tier_has_lines(s, t)) table_cell(l, t, file);
    }
    fprintf(file, "\n");
}

static void json_text(const char *text, FILE *file) {
    fputc('"', file);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') fputc('\\', file);
        if ((unsigned char)*text >= ' ') fputc(*text, file);
    }
    fputc('"', file);
}

/* JSON has no infinity and no NaN. */
static void json_number(double value, FILE *file) {
    if (isfinite(value))
        fprintf(file, "%.9g", value);
    else
        fprintf(file, "null");
}

static void json_finding(const fovea_implementation *implementation, const findings *f,
                         FILE *file) {
    fprintf(file, "{\"name\": ");
    json_text(implementation->name, file);
    fprintf(file, ", \"tier\": \"%s\", \"ulps\": ", fovea_tier_name(implementation->tier));
    json_number(f->ulps, file);
    fprintf(file, ", \"ulps_at\": ");
    json_number(f->ulps_at, file);
    fprintf(file, ", \"share\": ");
    json_number(f->share, file);
    fprintf(file, ", \"wrong\": %lld}", (long long)f->wrong);
}

static void print_json(const sweep *s, FILE *file) {
    fprintf(file, "{\"format\": 1, \"kind\": \"accuracy\", \"fovea\": {\"version\": ");
    json_text(fovea_version(), file);
    fprintf(file, "},\n\"cpu_model\": ");
    json_text(fovea_processor_get()->model, file);
    fprintf(file, ", \"every\": %lld, \"scalar_every\": %lld,\n\"functions\": [",
            (long long)s->options->every, (long long)s->options->scalar_every);
    for (int n = 0; n < s->count; n++) {
        const line *l = &s->lines[n];
        fprintf(file, "%s\n{\"function\": ", n ? "," : "");
        json_text(l->name, file);
        fprintf(file, ", \"dtype\": \"%s\", \"bound\": ", fovea_dtype_name(l->c.dtype));
        json_text(fovea_catalogue_kernel(l->c.index)->bound_text, file);
        fprintf(file, ", \"implementations\": [");
        for (int i = 0; i < l->count; i++) {
            fprintf(file, "%s\n  ", i ? "," : "");
            json_finding(l->implementations[i], &l->found[i], file);
        }
        fprintf(file, "]}");
    }
    fprintf(file, "]}\n");
}

static fovea_status write_file(const sweep *s, const char *path,
                               void (*print)(const sweep *s, FILE *file), fovea_message *message) {
    fovea_output output;
    if (!path) return FOVEA_OK;
    fovea_status status = fovea_output_open(path, &output, message);
    if (status != FOVEA_OK) return status;
    print(s, output.stream);
    return fovea_output_close(&output, 0, message);
}

fovea_status fovea_exhaustive_run(const fovea_exhaustive_options *options, int64_t *wrong,
                                  fovea_message *message) {
    sweep s = {.options = options, .started = fovea_seconds_now()};
    int64_t inputs = 0;
    *wrong = 0;
    s.lines = calloc(LINES_MAX, sizeof *s.lines);
    if (!s.lines) return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no memory for the functions");
    fovea_status status = options->table ? fovea_output_check(options->table, message) : FOVEA_OK;
    if (status == FOVEA_OK && options->json) status = fovea_output_check(options->json, message);
    if (status == FOVEA_OK) status = gather(&s, message);
    for (int n = 0; n < s.count && status == FOVEA_OK; n++) {
        status = measure(&s, &s.lines[n], message);
        if (status != FOVEA_OK) break;
        print_line(&s.lines[n], options->stream);
        fflush(options->stream);
        for (int i = 0; i < s.lines[n].count; i++) *wrong += s.lines[n].found[i].wrong;
        inputs += s.lines[n].inputs;
    }
    if (status == FOVEA_OK) {
        fprintf(options->stream, "%d functions, %lld inputs, %lld wrong, %.0f s\n", s.count,
                (long long)inputs, (long long)*wrong, fovea_seconds_now() - s.started);
        status = write_file(&s, options->table, print_table, message);
        if (status == FOVEA_OK) status = write_file(&s, options->json, print_json, message);
    }
    free(s.lines);
    return status;
}
