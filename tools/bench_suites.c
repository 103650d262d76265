/* The suites: the published tables that this tool reproduces, and the catalogue's streaming kernels.
 * A suite is one case with up to three axes, a list of cases, or the benchmark cases of the rows. */
#include "bench.h"

#include "cuda/load.h"
#include "router/registry.h"
#include "tune_points.h"

#include <ctype.h>
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AXES = 3, VALUES = 8, CASES = 8, TYPES = 8, LARGEST_ON_CPU = 10000000 };

typedef struct suite {
    const char *name, *summary;
    fovea_bench_view view;
    double seconds;
    const char *kernel;       /* NULL: every numbered kernel of the catalogue, or */
    const char *kernels;      /* these, joined by commas: at several N, or their one case */
    const char *backward;     /* its gradient: each case is measured in both phases */
    const char *fixed;        /* what all its cases share */
    bool cold;                /* calls rotate over buffers larger than the last-level cache */
    const char *types[TYPES]; /* each case in each of these; none: as they are */
    const char *cases[CASES]; /* what each adds, at */
    int sizes[VALUES];        /* each of these N; none: they do not use it; and */
    struct {
        const char *name;
        int values[VALUES];
    } axes[AXES]; /* every combination, the last axis the fastest */
    fovea_suite_arm arms[FOVEA_SUITE_ARMS_MAX];
    const char *algorithms;            /* as in fovea_bench_case */
    bool alone, sweep, steps, by_name; /* by_name: not part of «all» */
    bool device_alone; /* too much for a processor: part of «all» on a device only */
} suite;

static const suite suites[] = {
    {.name = "sdpa",
     .summary = "attention f32, one head of 64: the standard, small, medium and large cases",
     .view = FOVEA_VIEW_ARMS,
     .seconds = 45,
     .kernel = "attention",
     .fixed = "hq=1,d=64",
     .cases = {"b=32,sq=1024", "b=32,sq=1024,causal=top_left", "b=4,sq=128", "b=4,sq=512",
               "b=4,sq=512,causal=top_left", "b=4,sq=1024", "b=4,sq=1024,causal=top_left"}},
    {.name = "flash",
     .summary = "attention f32, 8 heads: batch 1 to 8, length 64 to 512, head size 32 to 128",
     .view = FOVEA_VIEW_ATTENTION,
     .seconds = 75,
     .kernel = "attention",
     .fixed = "hq=8",
     .axes = {{"b", {1, 2, 4, 8}}, {"sq", {64, 128, 256, 512}}, {"d", {32, 64, 128}}}},
    {.name = "sage",
     .summary = "attention f16, batch 2, 8 heads of 64, length 256 to 8192, exact and in int8",
     .view = FOVEA_VIEW_ACCURACY,
     .seconds = 90,
     .kernel = "attention",
     .fixed = "dtype=f16,b=2,hq=8,d=64",
     .axes = {{"sq", {256, 512, 1024, 2048, 4096, 8192}}},
     .arms = {{"pv-f32", "algorithm=sage,pv=f32"},
              {"pv-bf16", "algorithm=sage,pv=bf16"},
              {"pv-i8", "algorithm=sage,pv=i8"},
              {"pv-f32-unsmoothed", "algorithm=sage,pv=f32,smooth_k=0"},
              {"pv-i8-unsmoothed", "algorithm=sage,pv=i8,smooth_k=0"}}},
    {.name = "training",
     .summary = "attention forward and backward, causal, f32: heads of TinyLlama-1.1B and "
                "Qwen2.5-1.5B",
     .view = FOVEA_VIEW_ARMS,
     .seconds = 120,
     .kernel = "attention",
     .backward = "attention_backward",
     .fixed = "causal=top_left",
     .cases = {"b=1,hq=32,hkv=4,sq=512,d=64", "b=1,hq=32,hkv=4,sq=1024,d=64",
               "b=1,hq=32,hkv=4,sq=2048,d=64", "b=2,hq=32,hkv=4,sq=1024,d=64",
               "b=1,hq=12,hkv=2,sq=512,d=128", "b=1,hq=12,hkv=2,sq=1024,d=128",
               "b=1,hq=12,hkv=2,sq=2048,d=128", "b=2,hq=12,hkv=2,sq=1024,d=128"}},
    {.name = "decode",
     .summary =
         "attention of one query, 8 heads on one key head of 128: batch 1 to 32, 1K to 1M keys",
     .view = FOVEA_VIEW_ARMS,
     .seconds = 300,
     .kernel = "attention",
     .fixed = "hq=8,hkv=1,sq=1,d=128",
     .cold = true,
     .types = {"dtype=f32", "dtype=f16", "dtype=bf16", "dtype=bf16,k=i8,v=i8,k_scale=1,v_scale=1",
               "dtype=bf16,k=e4m3,v=e4m3,k_scale=1,v_scale=1"},
     .axes = {{"b", {1, 8, 32}}, {"sk", {1024, 8192, 32768, 131072}}},
     .cases = {"b=1,sk=1048576"}},
    {.name = "hopper",
     .summary =
         "attention bf16 and f16 of 16384 tokens in all, hidden 2048: heads of 64, 128, 256, "
         "length 512 to 16384",
     .view = FOVEA_VIEW_ATTENTION,
     .seconds = 300,
     .kernel = "attention",
     .fixed = "b=16384/N,sq=N",
     .types = {"dtype=bf16", "dtype=f16"},
     .cases = {"hq=32,d=64", "hq=32,d=64,causal=top_left", "hq=16,d=128",
               "hq=16,d=128,causal=top_left", "hq=8,d=256", "hq=8,d=256,causal=top_left"},
     .sizes = {512, 1024, 2048, 4096, 8192, 16384},
     .device_alone = true},
    {.name = "serving",
     .summary =
         "attention of one query of 32 sequences, 32 heads on 8 key heads of 128, 4K to 32K keys",
     .view = FOVEA_VIEW_ATTENTION,
     .seconds = 60,
     .kernel = "attention",
     .fixed = "b=32,hq=32,hkv=8,sq=1,d=128,sk=N",
     .types = {"dtype=bf16", "dtype=f16"},
     .cases = {""},
     .sizes = {4096, 8192, 32768},
     .device_alone = true},
    {.name = "halves",
     .summary = "attention bf16 and f16 beside f32: 8 heads of 64 and 128, causal and not",
     .view = FOVEA_VIEW_ARMS,
     .seconds = 60,
     .kernel = "attention",
     .fixed = "hq=8",
     .cases = {"b=2,sq=1024,d=64", "dtype=bf16,b=2,sq=1024,d=64", "dtype=f16,b=2,sq=1024,d=64",
               "dtype=bf16,b=1,sq=1024,d=128", "dtype=bf16,b=1,sq=2048,d=128",
               "dtype=bf16,b=1,sq=2048,d=64,causal=top_left", "dtype=bf16,b=1,sq=256,d=64",
               "dtype=f16,b=1,sq=2048,d=128,causal=top_left"}},
    {.name = "options",
     .summary = "attention f32, 4 heads of 64, length 1024: what each option costs",
     .view = FOVEA_VIEW_ARMS,
     .seconds = 40,
     .kernel = "attention",
     .fixed = "b=1,hq=4,sq=1024,d=64",
     .cases = {"scale=0.125", "causal=top_left", "window_left=128,window_right=128", "mask=bool",
               "bias=f32", "softcap=20", "slopes=1", "dropout=0.1"}},
    {.name = "blocks",
     .summary = "attention's block plan by the formula beside a sweep of block sizes",
     .view = FOVEA_VIEW_BLOCKS,
     .seconds = 60,
     .kernel = "attention",
     .fixed = "hq=4",
     .algorithms = "flash",
     .alone = true,
     .sweep = true,
     .cases = {"b=1,sq=256,d=64", "b=1,sq=1024,d=32", "b=1,sq=1024,d=64", "b=1,sq=1024,d=128",
               "b=1,sq=1024,d=64,causal=top_left", "b=1,sq=1024,d=128,dtype=bf16",
               "b=1,hq=32,hkv=4,sq=256,d=64", "b=2,hq=8,sq=1024,d=64,layout=bshd"}},
    {.name = "long",
     .summary = "attention of one head of 128 over 131072 rows, causal",
     .view = FOVEA_VIEW_ARMS,
     .seconds = 60,
     .kernel = "attention",
     .fixed = "b=1,hq=1,d=128",
     .algorithms = "flash,split",
     .alone = true,
     .by_name = true,
     .cases = {"sq=131072,causal=top_left", "sq=131072,causal=top_left,dtype=bf16"}},
    {.name = "kernels",
     .summary = "the kernels of the catalogue at 1K, 100K, 1M and 10M elements, on a device 100M "
                "too, or their one size",
     .view = FOVEA_VIEW_KERNELS,
     .seconds = 60,
     .axes = {{"n", {1000, 100000, 1000000, 10000000, 100000000}}}},
    {.name = "fused",
     .summary = "the six fused kernels beside our own and peers' separate steps",
     .view = FOVEA_VIEW_KERNELS,
     .seconds = 60,
     .steps = true,
     .kernels = "fused_layernorm_dropout_residual,fused_attention_softmax_v,fused_scan_compact,"
                "fused_rope_attention_mask,fused_adam_clip_update,fused_softmax_cross_entropy",
     .axes = {{"n", {1000, 100000, 1000000, 10000000}}}},
    {.name = "routing",
     .summary = "the library's choices at random shapes that `fovea tune` does not measure",
     .view = FOVEA_VIEW_ROUTING,
     .seconds = 180,
     .by_name = true},
    {.name = "calls",
     .summary =
         "what a call costs (with --threads 1): every kernel with all extents 1, and at N = 1",
     .view = FOVEA_VIEW_CALLS,
     .seconds = 90,
     .by_name = true}};

static const suite *find_suite(const char *name) {
    for (size_t i = 0; i < sizeof suites / sizeof *suites; i++)
        if (strcmp(suites[i].name, name) == 0) return &suites[i];
    return NULL;
}

fovea_bench_view fovea_suite_view(const char *name) {
    const suite *s = find_suite(name);
    return s ? s->view : FOVEA_VIEW_ARMS;
}

double fovea_suite_seconds(const char *name) {
    const suite *s = find_suite(name);
    return s ? s->seconds : 0;
}

int fovea_suite_arms(const char *name, const fovea_suite_arm **arms) {
    const suite *s = find_suite(name);
    int count = 0;
    while (s && count < FOVEA_SUITE_ARMS_MAX && s->arms[count].name) count++;
    *arms = s ? s->arms : NULL;
    return count;
}

void fovea_suites_print(FILE *file) {
    for (size_t i = 0; i < sizeof suites / sizeof *suites; i++)
        fprintf(file, "%-8s %s (%.0f s)\n", suites[i].name, suites[i].summary, suites[i].seconds);
}

/* ---- Names ---------------------------------------------------------------------------------- */

static size_t append_part(char *name, size_t used, const char *letter, int64_t extent) {
    used += (size_t)snprintf(name + used, FOVEA_CASE_NAME - used, "%s", used ? "-" : "");
    for (const char *c = letter; *c && used < FOVEA_CASE_NAME - 1; c++)
        name[used++] = (char)tolower((unsigned char)*c);
    used += (size_t)snprintf(name + used, FOVEA_CASE_NAME - used, "%lld", (long long)extent);
    return used;
}

static int64_t extent_of(const fovea_case *c, const char *letter) {
    int index = fovea_kernel_letter(c->index, letter);
    return index < 0 ? -1 : c->extents[index];
}

static void append_word(char *name, const char *word) {
    size_t used = strlen(name);
    snprintf(name + used, FOVEA_CASE_NAME - used, "-%s", word);
}

/* The options of a case that change what is computed. */
static void append_options(const fovea_case *c, char *name) {
    static const char *const arguments[][2] = {
        {"mask", "mask"}, {"bias", "bias"}, {"slopes", "alibi"}, {"sinks", "sinks"}};
    if (fovea_case_parameter(c, "window_left") >= 0 || fovea_case_parameter(c, "window_right") >= 0)
        append_word(name, "window");
    if (isfinite(fovea_case_parameter(c, "softcap"))) append_word(name, "softcap");
    if (fovea_case_parameter(c, "dropout") > 0) append_word(name, "dropout");
    for (size_t i = 0; i < sizeof arguments / sizeof *arguments; i++) {
        int argument = fovea_kernel_argument(fovea_catalogue_kernel(c->index), arguments[i][0]);
        if (argument >= 0 && c->optional >> argument & 1) append_word(name, arguments[i][1]);
    }
}

/* "b32-hq1-sq1024-d64-causal": extents that follow from others are left out. */
static void name_attention(const fovea_case *c, char *name) {
    static const char *const letters[][2] = {{"B", NULL},  {"Hq", NULL}, {"Hkv", "Hq"},
                                             {"Sq", NULL}, {"Sk", "Sq"}, {"D", NULL},
                                             {"Dv", "D"}};
    size_t used = 0;
    for (size_t i = 0; i < sizeof letters / sizeof *letters; i++) {
        int64_t extent = extent_of(c, letters[i][0]);
        if (letters[i][1] && extent == extent_of(c, letters[i][1])) continue;
        used = append_part(name, used, letters[i][0], extent);
    }
    int causal = (int)fovea_case_parameter(c, "causal");
    if (causal)
        snprintf(name + used, FOVEA_CASE_NAME - used, "-causal%s",
                 causal == 2 ? "-bottom-right" : "");
    append_options(c, name);
}

/* The dtype of k, and of q where that is another: "-i8", "-bf16". */
static void name_keys(const fovea_case *c, char *name) {
    uint32_t keys = c->dtypes[fovea_kernel_argument(fovea_catalogue_kernel(c->index), "k")];
    size_t used = strlen(name);
    snprintf(name + used, FOVEA_CASE_NAME - used, "-%s",
             fovea_dtype_name(keys ? (fovea_dtype)(keys - 1) : c->dtype));
}

/* ---- Expansion ------------------------------------------------------------------------------ */

static bool is_listed(const char *list, const char *name) {
    size_t length = strlen(name);
    for (const char *at = list; *at; at += strcspn(at, ","), at += *at == ',')
        if (strncmp(at, name, length) == 0 && (at[length] == ',' || !at[length])) return true;
    return false;
}

static bool chosen(const fovea_bench_run *run, const suite *s) {
    const char *list = run->options.suites;
    if (strcmp(list, "all") != 0) return is_listed(list, s->name);
    return !s->by_name && (!s->device_alone || !fovea_bench_on(run, FOVEA_ON_CPU));
}

/* Any of several patterns (with * or ?) or parts of "suite/case". */
static bool matches(const char *filter, const fovea_bench_case *c) {
    char whole[FOVEA_CASE_NAME + 24], one[FOVEA_CASE_NAME + 24];
    bool found = !filter;
    snprintf(whole, sizeof whole, "%s/%s", c->suite, c->name);
    for (const char *at = filter; at && *at && !found; at += strcspn(at, ","), at += *at == ',') {
        snprintf(one, sizeof one, "%.*s", (int)strcspn(at, ","), at);
        if (strpbrk(one, "*?["))
            found = !fnmatch(one, c->name, 0) || !fnmatch(one, whole, 0);
        else
            found = *one && strstr(whole, one);
    }
    return found;
}

static fovea_bench_case *new_case(fovea_bench_run *run) {
    size_t count = (size_t)run->case_count + 1;
    fovea_bench_case *cases = realloc(run->cases, count * sizeof *cases);
    if (!cases) return NULL;
    run->cases = cases;
    fovea_bench_case *c = &cases[run->case_count];
    *c = (fovea_bench_case){.weight = 1, .noise_ratio = NAN};
    return c;
}

/* Larger problems take longer to verify and to sample. */
static double weight_of(const fovea_case *c) {
    const char *kernel = fovea_catalogue_kernel(c->index)->name;
    bool backward = strcmp(kernel, "attention_backward") == 0;
    double work = backward ? 2.5 : 1;
    if (backward || strcmp(kernel, "attention") == 0) {
        static const char *const letters[] = {"B", "Hq", "Sq", "Sk", "D"};
        for (size_t i = 0; i < sizeof letters / sizeof *letters; i++)
            work *= (double)extent_of(c, letters[i]);
        return 1 + fmin(work / 2.5e8, 30);
    }
    for (int i = 0; i < FOVEA_LETTERS_MAX && fovea_kernel_letter_name(c->index, i); i++)
        work *= (double)c->extents[i];
    return 1 + fmin(work / 5e6, 3);
}

/* On a device alone kernels that have nothing there would be lines without a figure. Where there is no
 * device at all every case is listed. */
static bool has_arms(const fovea_bench_run *run, int kernel) {
    if (fovea_bench_on(run, FOVEA_ON_CPU) || !fovea_cuda_get()) return true;
    for (int i = 0; i < fovea_implementation_count(kernel); i++)
        if (fovea_implementation_is_cuda(fovea_implementation_at(kernel, i))) return true;
    return false;
}

/* label: what the catalogue calls it; NULL: the name follows from the options of attention. */
static bool add_case(fovea_bench_run *run, const suite *s, int kernel, const char *label,
                     const char *const texts[], int text_count, double n, fovea_message *message) {
    fovea_bench_case *c = new_case(run);
    if (!c) return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no memory for cases"), false;
    snprintf(c->suite, sizeof c->suite, "%s", s->name);
    fovea_case_begin(&c->definition, kernel);
    if (run->options.seed) c->definition.seed = run->options.seed;
    for (int i = 0; i < text_count; i++)
        if (texts[i] && fovea_case_parse(&c->definition, texts[i], n, message) != FOVEA_OK)
            return false;
    if (fovea_case_complete(&c->definition, message) != FOVEA_OK) return false;
    c->cold = run->options.cold || s->cold;
    if (!label) {
        name_attention(&c->definition, c->name);
        if (s->types[0])
            name_keys(&c->definition, c->name);
        else if (c->definition.dtype != FOVEA_F32 && !strstr(s->fixed, "dtype="))
            append_word(c->name, fovea_dtype_name(c->definition.dtype));
        if (s->backward)
            append_word(c->name,
                        kernel == fovea_catalogue_find(s->backward) ? "backward" : "forward");
    } else {
        snprintf(c->name, sizeof c->name, n > 0 ? "%s-n%.0f" : "%s", label, n);
    }
    c->kernel = label ? label : fovea_catalogue_kernel(kernel)->name;
    c->weight = weight_of(&c->definition);
    c->algorithms = s->algorithms, c->alone = s->alone, c->sweep = s->sweep, c->steps = s->steps;
    run->case_count += matches(run->options.filter, c) && has_arms(run, kernel);
    return true;
}

static bool expand_axes(fovea_bench_run *run, const suite *s, int kernel, const char *type,
                        fovea_message *message) {
    int at[AXES] = {0};
    for (;;) {
        char text[96];
        size_t used = 0;
        for (int a = 0; a < AXES && s->axes[a].name; a++)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s=%d", a ? "," : "",
                                     s->axes[a].name, s->axes[a].values[at[a]]);
        const char *const texts[] = {s->fixed, text, type};
        if (!add_case(run, s, kernel, NULL, texts, 3, 0, message)) return false;
        int a = AXES - 1;
        while (a >= 0 && (!s->axes[a].name || at[a] + 1 == VALUES || !s->axes[a].values[at[a] + 1]))
            at[a--] = 0;
        if (a < 0) return true;
        at[a]++;
    }
}

/* Whether N is used in a benchmark case; as an extent it is followed by "=". */
static bool uses_n(const char *bench) {
    while ((bench = strchr(bench, 'N')) && bench[1] == '=') bench++;
    return bench != NULL;
}

/* One numbered kernel: at each N if its case depends on it. */
static bool expand_kernel(fovea_bench_run *run, const suite *s, int kernel, const char *label,
                          const char *fixed, const char *bench, fovea_message *message) {
    const char *const texts[] = {fixed, bench};
    bool several = uses_n(bench);
    if (s->kernels && !is_listed(s->kernels, label)) return true;
    for (int v = 0; v < (several ? VALUES : 1) && s->axes[0].values[v]; v++) {
        int n = several ? s->axes[0].values[v] : 0;
        if (n > LARGEST_ON_CPU && fovea_bench_on(run, FOVEA_ON_CPU)) continue;
        if (!add_case(run, s, kernel, label, texts, 2, n, message)) return false;
    }
    return true;
}

/* What the catalogue numbers, each once, and what has several sizes without being numbered. A row may be
 * numbered by one of its presets. */
static bool is_measured(const fovea_kernel *kernel) {
    for (int p = 0; p < FOVEA_PRESETS_MAX && kernel->presets[p].name; p++)
        if (kernel->presets[p].number == kernel->number) return false;
    return kernel->bench && (kernel->number || uses_n(kernel->bench));
}

/* The benchmark cases of the rows and of their presets. */
static bool expand_catalogue(fovea_bench_run *run, const suite *s, fovea_message *message) {
    for (int k = 0; k < fovea_catalogue_count(); k++) {
        const fovea_kernel *kernel = fovea_catalogue_kernel(k);
        if (is_measured(kernel) &&
            !expand_kernel(run, s, k, kernel->name, NULL, kernel->bench, message))
            return false;
        for (int p = 0; p < FOVEA_PRESETS_MAX && kernel->presets[p].name; p++) {
            const fovea_preset *preset = &kernel->presets[p];
            if (!expand_kernel(run, s, k, preset->name, preset->fixed, preset->bench, message))
                return false;
        }
    }
    return true;
}

static bool expand_routing(fovea_bench_run *run, const suite *s, fovea_message *message) {
    enum { SHAPES = 320, SHAPES_OF_ATTENTION = 120 };
    bool device = !fovea_bench_on(run, FOVEA_ON_CPU) && fovea_cuda_get();
    int count;
    fovea_case *cases =
        fovea_unseen_cases(device ? SHAPES_OF_ATTENTION : SHAPES,
                           run->options.seed ? run->options.seed : 1, device, &count);
    if (!cases) return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no memory for cases"), false;
    for (int i = 0; i < count; i++) {
        fovea_bench_case *c = new_case(run);
        if (!c) return free(cases), fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no memory"), false;
        snprintf(c->suite, sizeof c->suite, "%s", s->name);
        c->definition = cases[i];
        snprintf(c->name, sizeof c->name, "%s-%d", fovea_catalogue_kernel(cases[i].index)->name,
                 i + 1);
        c->kernel = fovea_catalogue_kernel(cases[i].index)->name;
        c->every = true;
        run->case_count += matches(run->options.filter, c);
    }
    free(cases);
    return true;
}

/* The benchmark case of a row at N = 1, whose other extents stay as they are, or with all of them 1. */
static bool add_call(fovea_bench_run *run, const suite *s, int kernel, bool ones,
                     fovea_message *message) {
    fovea_bench_case *c = new_case(run);
    if (!c) return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no memory for cases"), false;
    c->kernel = fovea_catalogue_kernel(kernel)->name;
    snprintf(c->suite, sizeof c->suite, "%s", s->name);
    snprintf(c->name, sizeof c->name, "%s%s", c->kernel,
             ones ? FOVEA_CALL_OF_ONES : FOVEA_CALL_AT_ONE);
    fovea_case *definition = &c->definition;
    fovea_case_begin(definition, kernel);
    if (run->options.seed) definition->seed = run->options.seed;
    if (fovea_case_parse(definition, fovea_catalogue_kernel(kernel)->bench, 1, message) != FOVEA_OK)
        return false;
    for (int l = 0; ones && l < FOVEA_LETTERS_MAX && fovea_kernel_letter_name(kernel, l); l++)
        definition->extents[l] = l == fovea_kernel_derived(kernel) ? -1 : 1;
    if (fovea_case_complete(definition, message) != FOVEA_OK) return false;
    run->case_count += matches(run->options.filter, c);
    return true;
}

static bool expand_calls(fovea_bench_run *run, const suite *s, fovea_message *message) {
    for (int ones = 1; ones >= 0; ones--)
        for (int k = 0; k < fovea_catalogue_count(); k++) {
            const char *bench = fovea_catalogue_kernel(k)->bench;
            if (!bench || (!ones && !uses_n(bench))) continue;
            if (!add_call(run, s, k, ones, message)) return false;
        }
    return true;
}

static bool expand(fovea_bench_run *run, const suite *s, fovea_message *message) {
    if (s->view == FOVEA_VIEW_ROUTING) return expand_routing(run, s, message);
    if (s->view == FOVEA_VIEW_CALLS) return expand_calls(run, s, message);
    if (!s->kernel) return expand_catalogue(run, s, message);
    const char *const phases[] = {s->kernel, s->backward};
    unsigned wanted = run->options.phases;
    int kernel = fovea_catalogue_find(s->kernel);
    for (int t = 0; t == 0 || (t < TYPES && s->types[t]); t++) {
        if (s->axes[0].name && !expand_axes(run, s, kernel, s->types[t], message)) return false;
        for (int i = 0; i < 2 * CASES && s->cases[i / 2]; i++) {
            const char *const texts[] = {s->fixed, s->cases[i / 2], s->types[t]};
            if (!phases[i % 2] || (wanted && !(wanted >> i % 2 & 1))) continue;
            kernel = fovea_catalogue_find(phases[i % 2]);
            for (int v = 0; v == 0 || (v < VALUES && s->sizes[v]); v++)
                if (!add_case(run, s, kernel, NULL, texts, 3, s->sizes[v], message)) return false;
        }
    }
    return true;
}

static bool refuse_suite(const char *name, fovea_message *message) {
    char names[200] = "";
    for (size_t i = 0; i < sizeof suites / sizeof *suites; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s, ", suites[i].name);
    }
    fovea_fail(message, FOVEA_INVALID_ARGUMENT, "there is no suite «%s»; there are %sand all", name,
               names);
    return false;
}

bool fovea_suites_expand(fovea_bench_run *run, fovea_message *message) {
    char name[32];
    for (const char *at = run->options.suites; *at; at += strcspn(at, ","), at += *at == ',') {
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at, ","), at);
        if (!find_suite(name) && strcmp(name, "all") != 0) {
            return refuse_suite(name, message);
        }
    }
    for (size_t i = 0; i < sizeof suites / sizeof *suites; i++)
        if (chosen(run, &suites[i]) && !expand(run, &suites[i], message)) return false;
    if (run->case_count > 0) return true;
    fovea_fail(message, FOVEA_INVALID_ARGUMENT, "no case of %s matches «%s»", run->options.suites,
               run->options.filter ? run->options.filter : "");
    return false;
}
