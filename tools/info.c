/* `fovea info`: the machine as the library sees it, and the kernels with their implementations. */
#include "commands.h"
#include "cuda/load.h"
#include "router/registry.h"

#include <argp.h>
#include <stdio.h>

typedef struct arguments {
    bool kernels;
    const char *kernel;
} arguments;

static error_t parse(int key, char *value, struct argp_state *state) {
    arguments *a = state->input;
    if (key == 'k')
        a->kernels = true;
    else if (key == ARGP_KEY_ARG && !a->kernel)
        a->kernel = value;
    else
        return ARGP_ERR_UNKNOWN;
    return 0;
}

static void print_machine(void) {
    const fovea_processor *processor = fovea_processor_get();
    printf("fovea %s\n%s, threads %d, caches %zu KiB, %zu KiB, %zu KiB\ntiers:", fovea_version(),
           processor->model, processor->threads, processor->l1_bytes >> 10,
           processor->l2_bytes >> 10, processor->l3_bytes >> 10);
    for (int t = 0; t < FOVEA_TIER_COUNT; t++)
        if (fovea_has_tier((fovea_tier)t)) printf(" %s", fovea_tier_name((fovea_tier)t));
    const struct {
        bool here;
        const char *name;
    } extensions[] = {{processor->avx512_bf16, "avx512-bf16"},
                      {processor->avx512_vnni, "avx512-vnni"},
                      {processor->avx512_vbmi, "avx512-vbmi"},
                      {processor->avx512_fp16, "avx512-fp16"}};
    const char *separator = "; ";
    for (size_t i = 0; i < sizeof extensions / sizeof *extensions; i++) {
        if (!extensions[i].here) continue;
        printf("%s%s", separator, extensions[i].name);
        separator = ", ";
    }
    printf("\nCUDA: %s\n", fovea_cuda_state());
}

static void print_routes(void) {
    fovea_context *context;
    bool good = fovea_context_create(NULL, &context) == FOVEA_OK;
    printf("routes: %s\n", good ? fovea_routes_state(context) : fovea_last_message(NULL));
    fovea_context_destroy(context);
}

static void print_kernel(int index) {
    const fovea_kernel *kernel = fovea_catalogue_kernel(index);
    printf("%4d  %-20s %-14s", kernel->number, kernel->name, kernel->domain);
    for (int d = 0; d < FOVEA_DTYPE_COUNT; d++)
        if (kernel->dtypes >> d & 1) printf(" %s", fovea_dtype_name((fovea_dtype)d));
    printf("\n");
    for (int i = 0; i < fovea_implementation_count(index); i++) {
        const fovea_implementation *implementation = fovea_implementation_at(index, i);
        const char *note = fovea_implementation_is_cuda(implementation) ? "tensors on a CUDA device"
                           : !fovea_has_tier(implementation->tier)      ? "not on this machine"
                           : implementation->only_by_name               ? "by name only"
                                                                        : implementation->note;
        printf("        %-*s%s%s\n", note ? 28 : 0, implementation->name, note ? " " : "",
               note ? note : "");
    }
}

int fovea_command_info(int argc, char **argv) {
    static const struct argp_option options[] = {
        {"kernels", 'k', 0, 0, "List the kernels with their implementations", 0}, {0}};
    const struct argp parser = {.options = options,
                                .parser = parse,
                                .args_doc = "[KERNEL]",
                                .doc = "Shows this machine, its routes file and the kernels."};
    arguments a = {0};
    argp_program_version = NULL;
    if (argp_parse(&parser, argc, argv, 0, NULL, &a)) return 2;
    if (a.kernel) {
        int index = fovea_catalogue_find(a.kernel);
        if (index < 0) return fprintf(stderr, "fovea info: there is no kernel «%s»\n", a.kernel), 2;
        print_kernel(index);
        printf("\n  %s\n  error: %s\n", fovea_catalogue_kernel(index)->definition,
               fovea_catalogue_kernel(index)->bound_text);
        return 0;
    }
    print_machine();
    print_routes();
    for (int i = 0; a.kernels && i < fovea_catalogue_count(); i++) print_kernel(i);
    return 0;
}
