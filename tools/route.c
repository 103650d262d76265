/* `fovea route KERNEL`: which implementation a call would get, what speaks for it, and why the others
 * are not it; with --measure, what the choice costs against the fastest. */
#include "api/context.h"
#include "arms.h"
#include "bench_interrupt.h"
#include "catalogue/case.h"
#include "commands.h"
#include "runtime/threads.h"

#include <argp.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { KEY_PARAMETER = 1000, KEY_ARGUMENT = 2000, OPTIONS_MAX = 96 };

typedef struct arguments {
    int kernel;
    const char *name; /* by which it is asked for */
    fovea_case c;
    const char *routes;
    int threads;
    bool measure;
    double seconds;
    bool cuda; /* tensors on a CUDA device */
    int device;
} arguments;

/* ---- Explaining ----------------------------------------------------------------------------- */

/* Memory that takes none until it is touched: the problem is only looked at. */
static void *reserve(void *user, size_t bytes, int argument) {
    (void)user, (void)argument;
    void *memory = mmap(NULL, bytes + 1, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static void unreserve(void *user, void *memory, size_t bytes, int argument) {
    (void)user, (void)argument;
    munmap(memory, bytes + 1);
}

static void print_candidate(const char *title, const fovea_implementation *implementation,
                            double seconds, const fovea_route_record *record) {
    char time[32], samples[64];
    printf("  %-10s %-28s", title, implementation->name);
    if (seconds > 0) printf(" %10s", fovea_seconds_text(seconds, time, sizeof time));
    if (record)
        printf("  %s", fovea_samples_text((double)record->median, (double)record->deviation,
                                          record->samples, samples, sizeof samples));
    printf("\n");
}

static void print_figures(const fovea_context *context, const fovea_choice *choice,
                          const fovea_implementation *only) {
    char key[160], flops[32], bandwidth[32];
    if (choice->record) {
        const fovea_route_record *record = choice->record;
        printf("  %-10s %s\n", "figures", context->routes_state.text);
        printf("  %-10s %s%s\n", "", fovea_route_key_text(&record->key, key, sizeof key),
               choice->source == FOVEA_CHOICE_NEIGHBOUR
                   ? " (its nearest measurement, scaled by work)"
                   : "");
        return;
    }
    if (only) return;
    if (fovea_implementation_is_cuda(choice->implementation)) {
        printf("  %-10s the cost model: rates that are assumed of any device\n", "figures");
        printf("  %-10s %s%s\n", "", context->routes ? "nothing like it was measured in " : "",
               context->routes_state.text);
        return;
    }
    fovea_rate rate = fovea_tier_rate(context->routes, choice->implementation->tier);
    printf("  %-10s the cost model: %s at %s and %s a thread (%s)\n", "figures",
           fovea_tier_name(choice->implementation->tier),
           fovea_rate_text(rate.flops, "FLOP/s", flops, sizeof flops),
           fovea_rate_text(rate.bandwidth, "B/s", bandwidth, sizeof bandwidth),
           rate.measured ? "measured" : "assumed");
    printf("  %-10s %s%s\n", "", context->routes ? "nothing like it was measured in " : "",
           context->routes_state.text);
}

static void print_choice(const fovea_context *context, const fovea_choice *choice,
                         const fovea_implementation *forced) {
    static const char *const reasons[] = {
        "", "it was measured to be the fastest",
        "by what was measured around it, it should be the fastest",
        "the cost model expects it to be the fastest"};
    print_candidate("choice", choice->implementation, choice->seconds, choice->record);
    printf("  %-10s %s\n", "because",
           forced              ? "it was asked for by name"
           : choice->runner_up ? reasons[choice->source]
                               : "it is the only one that serves this call");
    if (choice->runner_up) {
        print_candidate("runner-up", choice->runner_up, choice->runner_up_seconds,
                        choice->runner_up_record);
        printf("  %-10s %+.1f %% time for the runner-up%s\n", "margin",
               100 * (choice->runner_up_seconds / choice->seconds - 1),
               choice->record ? "" : ", expected");
    }
    print_figures(context, choice, forced);
}

static void print_declined(const char *declined) {
    if (!*declined) return;
    printf("declined\n");
    while (*declined) {
        int length = (int)strcspn(declined, "\n");
        printf("  %.*s\n", length, declined);
        declined += length + (declined[length] == '\n');
    }
}

static fovea_status open_context(const arguments *a, fovea_context **context) {
    fovea_context_options options;
    fovea_context_options_default(&options);
    options.threads = a->threads;
    options.routes = a->routes;
    if (a->cuda) options.device = fovea_tool_device();
    return fovea_context_create(&options, context);
}

/* The choice and its reasons; the implementation is NULL if none serves. */
static int explain(const arguments *a, fovea_context *context, const fovea_problem *problem,
                   DLTensor *const *tensors, size_t count, const fovea_implementation **chosen) {
    fovea_route route;
    fovea_choice choice;
    char text[256];
    *chosen = NULL;
    fovea_status status =
        fovea_explain(context, problem->kernel->name, tensors, count, problem->options, &route);
    printf("%s %s\n", problem->kernel->name, fovea_case_text(&a->c, text, sizeof text));
    if (a->cuda)
        fovea_tool_device_identity(text, sizeof text);
    else
        snprintf(text, sizeof text, "%d thread%s", context->threads,
                 context->threads == 1 ? "" : "s");
    printf("  %-10s %s, %.3g operations, %.3g bytes\n", "work", text,
           fovea_problem_operations(problem), fovea_problem_bytes(problem));
    if (status != FOVEA_OK) {
        print_declined(route.declined);
        fflush(stdout);
        fprintf(stderr, "fovea route: %s\n", fovea_last_message(context));
        return 1;
    }
    fovea_choose(problem, context->routes, context->threads, &choice);
    const fovea_implementation *forced = context->forced[problem->index];
    if (forced) choice = (fovea_choice){.implementation = forced};
    print_choice(context, &choice, forced);
    print_declined(route.declined);
    *chosen = choice.implementation;
    return 0;
}

/* ---- Measuring ------------------------------------------------------------------------------ */

static int compare_arms(const void *a, const void *b) {
    const fovea_arm *x = a, *y = b;
    bool x_timed = x->summary.count > 0, y_timed = y->summary.count > 0;
    if (x_timed != y_timed) return x_timed ? -1 : 1;
    return (x->summary.median > y->summary.median) - (x->summary.median < y->summary.median);
}

static int print_measured(fovea_arms *arms, const fovea_implementation *chosen) {
    char time[32], samples[64];
    int wrong = 0;
    double regret = NAN;
    const fovea_arm *best = fovea_arms_fastest(arms);
    double fastest = best ? best->summary.median : NAN;
    qsort(arms->items, (size_t)arms->count, sizeof *arms->items, compare_arms);
    printf("measured now\n");
    for (int i = 0; i < arms->count; i++) {
        const fovea_arm *arm = &arms->items[i];
        if (arm->summary.count == 0) {
            printf("  %-28s %s: %s\n", arm->implementation->name, arm->failed ? "fails" : "WRONG",
                   arm->why);
            wrong++;
            continue;
        }
        bool is_choice = arm->implementation == chosen;
        if (is_choice) regret = arm->summary.median / fastest - 1;
        printf("  %-28s %10s  %+.1f %%, %s%s\n", arm->implementation->name,
               fovea_seconds_text(arm->summary.median, time, sizeof time),
               100 * (arm->summary.median / fastest - 1),
               fovea_samples_text(arm->summary.median, arm->summary.mad, arm->summary.count,
                                  samples, sizeof samples),
               is_choice ? "  <- the choice" : "");
    }
    if (isfinite(regret)) printf("  regret of the choice: %.1f %%\n", 100 * regret);
    return wrong > 0;
}

static int measure(const arguments *a, int threads, const fovea_implementation *chosen) {
    fovea_sample sample;
    fovea_message message;
    fovea_arms arms;
    int code = 1;
    fflush(stdout);
    if (fovea_sample_create(&a->c, NULL, &sample, &message) != FOVEA_OK)
        return fprintf(stderr, "fovea route: %s\n", message.text), 1;
    fovea_verification *expected = fovea_verification_create(&sample.problem, 64, a->c.seed);
    fovea_device_tensors tensors = {0};
    if (a->cuda && fovea_device_tensors_create(&sample, &tensors, &message) != FOVEA_OK) {
        fprintf(stderr, "fovea route: %s\n", message.text);
    } else if (expected &&
               fovea_arms_collect(&arms, &sample.problem, a->cuda ? &tensors : NULL, threads, 0)) {
        fovea_arms_verify(&arms, &sample.problem, expected);
        fovea_arms_time(&arms, &sample.problem, a->seconds > 0 ? a->seconds : 1);
        code = print_measured(&arms, chosen);
        fovea_arms_release(&arms);
    } else {
        fprintf(stderr, "fovea route: no memory to measure this\n");
    }
    if (tensors.block) fovea_device_tensors_destroy(&tensors);
    fovea_verification_destroy(expected);
    fovea_sample_destroy(&sample);
    return code;
}

/* The same over tensors on the device, which are not filled: they are only looked at. */
static int explain_on_device(const arguments *a, fovea_context *context, const fovea_sample *sample,
                             const fovea_implementation **chosen) {
    static fovea_moved_problem moved;
    fovea_device_tensors tensors;
    fovea_message message;
    *chosen = NULL;
    fovea_status status = fovea_device_tensors_create(sample, &tensors, &message);
    if (status == FOVEA_OK) status = fovea_device_problem(&tensors, &moved, &message);
    int code = 1;
    if (status == FOVEA_OK)
        code = explain(a, context, &moved.problem, moved.required, moved.count, chosen);
    else
        fprintf(stderr, "fovea route: %s\n", message.text);
    if (tensors.block) fovea_device_tensors_destroy(&tensors);
    return code;
}

static int route(const arguments *a) {
    const fovea_case_memory untouched = {reserve, unreserve, NULL};
    fovea_sample sample;
    fovea_message message;
    fovea_context *context;
    const fovea_implementation *chosen;
    fovea_case looked_at = a->c;
    looked_at.data = FOVEA_DATA_NONE;
    if (fovea_sample_create(&looked_at, &untouched, &sample, &message) != FOVEA_OK)
        return fprintf(stderr, "fovea route: %s\n", message.text), 2;
    if (a->cuda && fovea_tool_device_open(a->device, &message) != FOVEA_OK) {
        fprintf(stderr, "fovea route: --backend=cuda: %s\n", message.text);
        fovea_sample_destroy(&sample);
        return 2;
    }
    if (open_context(a, &context) != FOVEA_OK) {
        fprintf(stderr, "fovea route: %s\n", fovea_last_message(NULL));
        fovea_sample_destroy(&sample);
        return 1;
    }
    int threads = context->threads;
    int code = a->cuda
                   ? explain_on_device(a, context, &sample, &chosen)
                   : explain(a, context, &sample.problem, sample.required, sample.count, &chosen);
    fovea_sample_destroy(&sample);
    fovea_context_destroy(context);
    if (a->measure && chosen) code |= measure(a, threads, chosen);
    return code;
}

/* ---- The command line ----------------------------------------------------------------------- */

static void set(arguments *a, const struct argp_state *state, const char *text) {
    fovea_message message;
    if (fovea_case_parse(&a->c, text, 0, &message) != FOVEA_OK)
        argp_error(state, "%s", message.text);
}

static void set_item(arguments *a, const struct argp_state *state, const char *name,
                     const char *value) {
    char item[128];
    if (strlen(name) + strlen(value) + 2 > sizeof item || strchr(value, ','))
        argp_error(state, "--%s is «%.60s», which is no single value", name, value);
    snprintf(item, sizeof item, "%s=%s", name, value);
    set(a, state, item);
}

static double number(const struct argp_state *state, const char *name, const char *value,
                     double low, double high, bool whole) {
    char *end;
    double result = strtod(value, &end);
    if (end == value || *end || !(result >= low && result <= high) ||
        (whole && result != floor(result)))
        argp_error(state, "--%s is «%s»; it is a %snumber from %g to %g", name, value,
                   whole ? "whole " : "", low, high);
    return result;
}

static error_t parse(int key, char *value, struct argp_state *state) {
    arguments *a = state->input;
    const fovea_kernel *kernel = a->kernel < 0 ? NULL : fovea_catalogue_kernel(a->kernel);
    if (key >= KEY_ARGUMENT && key < KEY_ARGUMENT + FOVEA_ARGUMENTS_MAX)
        set_item(a, state, kernel->arguments[key - KEY_ARGUMENT].name, value);
    else if (key >= KEY_PARAMETER && key < KEY_PARAMETER + FOVEA_PARAMETERS_MAX)
        set_item(a, state, kernel->parameters[key - KEY_PARAMETER].name, value);
    else if (key == 'd')
        set_item(a, state, "dtype", value);
    else if (key == 's')
        set(a, state, value);
    else if (key == 'r')
        a->routes = value;
    else if (key == 't')
        a->threads = (int)number(state, "threads", value, 1, FOVEA_THREADS_MAX, true);
    else if (key == 'b')
        a->cuda = fovea_backend_is_cuda(value, state);
    else if (key == 'D')
        a->device = fovea_device_number(value, state);
    else if (key == 'm')
        a->measure = true;
    else if (key == 'S')
        a->seconds = number(state, "seconds", value, 1e-3, 86400, false);
    else if (key == ARGP_KEY_ARG && state->arg_num == 0 && strcmp(value, a->name) == 0)
        return 0; /* not so if the value of an option is called like a kernel, too */
    else if (key == ARGP_KEY_ARG && state->arg_num == 0 && kernel)
        argp_error(state, "is «%s» the kernel, or «%s»? Name the kernel first", value, a->name);
    else if (key == ARGP_KEY_ARG && state->arg_num == 0)
        argp_error(state, "there is no kernel «%s»", value);
    else if (key == ARGP_KEY_ARG)
        argp_error(state, "«%s» is not expected; the kernel is %s", value, kernel->name);
    else if (key == ARGP_KEY_END && a->seconds > 0 && !a->measure)
        argp_error(state, "--seconds belongs to --measure");
    else if (key == ARGP_KEY_END)
        fovea_device_expect(a->cuda, a->device, state);
    else if (key == ARGP_KEY_NO_ARGS)
        argp_error(state, "no kernel is named");
    else
        return ARGP_ERR_UNKNOWN;
    return 0;
}

/* The options of the kernel that is named: its parameters and its optional tensors. */
static void add_kernel_options(struct argp_option *options, int count, const fovea_kernel *kernel) {
    options[count++] =
        (struct argp_option){.doc = "Parameters and optional tensors of the kernel:", .group = 2};
    for (int p = 0; p < fovea_kernel_parameters(kernel) && count < OPTIONS_MAX - 1; p++)
        options[count++] = (struct argp_option){.name = kernel->parameters[p].name,
                                                .key = KEY_PARAMETER + p,
                                                .arg = "VALUE",
                                                .doc = kernel->parameters[p].choices
                                                           ? kernel->parameters[p].choices
                                                           : kernel->parameters[p].meaning,
                                                .group = 2};
    for (int i = 0; i < fovea_kernel_arguments(kernel) && count < OPTIONS_MAX - 1; i++)
        if (kernel->arguments[i].optional)
            options[count++] = (struct argp_option){.name = kernel->arguments[i].name,
                                                    .key = KEY_ARGUMENT + i,
                                                    .arg = "DTYPE or 1",
                                                    .doc = kernel->arguments[i].meaning,
                                                    .group = 2};
}

/* The kernel of that name, or the one that it is a preset of, which then fixes some parameters. */
static int find_kernel(const char *name, const char **fixed) {
    *fixed = "";
    for (int k = 0; k < fovea_catalogue_count(); k++) {
        const fovea_preset *presets = fovea_catalogue_kernel(k)->presets;
        for (int p = 0; p < FOVEA_PRESETS_MAX && presets[p].name; p++)
            if (strcmp(name, presets[p].name) == 0) return *fixed = presets[p].fixed, k;
    }
    return fovea_catalogue_find(name);
}

/* Which kernel is meant must be known before its options can be parsed. */
static int named_kernel(int argc, char **argv, const char **fixed, const char **name) {
    for (int i = 1; i < argc; i++) {
        int kernel = find_kernel(*name = argv[i], fixed);
        if (kernel >= 0) return kernel;
    }
    *name = "";
    return -1;
}

int fovea_command_route(int argc, char **argv) {
    static const struct argp_option general[] = {
        {"dtype", 'd', "DTYPE", 0, "f32, f16, bf16, ... (default: the kernel's first)", 1},
        {"shape", 's', "EXTENTS", 0, "b=1,hq=8,sq=512,d=64: extents by letter", 1},
        {"threads", 't', "N", 0, "Default: all that are allowed", 1},
        {"routes", 'r', "FILE", 0, "Default: where the library looks", 1},
        {"backend", 'b', "NAME", 0, "Where the tensors are: cpu, or cuda", 1},
        {"device", 'D', "N", 0, "The CUDA device (0)", 1},
        {"measure", 'm', 0, 0, "Time all that serve the call now, and give the regret", 1},
        {"seconds", 'S', "SECONDS", 0, "For --measure (default 1)", 1}};
    struct argp_option options[OPTIONS_MAX] = {0};
    char name[] = "fovea route";
    const char *fixed;
    arguments a = {0};
    fovea_message message;
    const int count = (int)(sizeof general / sizeof *general);
    memcpy(options, general, sizeof general);
    a.kernel = named_kernel(argc, argv, &fixed, &a.name);
    if (a.kernel >= 0) {
        add_kernel_options(options, count, fovea_catalogue_kernel(a.kernel));
        fovea_case_begin(&a.c, a.kernel);
        if (fovea_case_parse(&a.c, fixed, 0, &message) != FOVEA_OK)
            return fprintf(stderr, "fovea route: %s\n", message.text), 2;
    }
    const struct argp parser = {
        .options = options,
        .parser = parse,
        .args_doc = "KERNEL",
        .doc = "Explains which implementation a call gets, what speaks for it, and why the others "
               "are declined. Runs nothing unless --measure is given."};
    argp_err_exit_status = 2;
    argv[0] = name;
    if (argp_parse(&parser, argc, argv, 0, NULL, &a)) return 2;
    if (fovea_case_complete(&a.c, &message) != FOVEA_OK)
        return fprintf(stderr, "fovea route: %s\n", message.text), 2;
    fovea_interrupt_catch();
    return route(&a);
}
