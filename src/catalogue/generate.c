/* Writes what follows from the rows: the public header with the typed functions (`header`), their
 * bodies and options layouts (`source`), the manual of kernels (`manual`), and what Python has of them
 * (`python`, `stubs`), and pages for man (`man`, whose FILE is a directory). Run by the build as `fovea-generate header FILE`. */
#include "catalogue/generate.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>

/* The generator links the rows, which the library completes with the generated layouts. */
const fovea_options_layout fovea_options_layouts[1];

static const char *upper(const char *name, char *text) {
    int i = 0;
    for (; name[i]; i++) text[i] = (char)toupper((unsigned char)name[i]);
    text[i] = 0;
    return text;
}

void fovea_generate_dtypes(uint32_t set, char *text, size_t size) {
    const char *of_call = set & FOVEA_CALL              ? "t"
                          : set & FOVEA_PART_OF_CALL    ? "the parts of t"
                          : set & FOVEA_COMPLEX_OF_CALL ? "complex t"
                                                        : "";
    size_t used = (size_t)snprintf(text, size, "%s", of_call);
    for (int i = 0; i < FOVEA_DTYPE_COUNT; i++)
        if (set >> i & 1)
            used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "",
                                     fovea_dtype_name((fovea_dtype)i));
}

static const char *role_text(fovea_role role) {
    return role == FOVEA_INPUT ? "in" : role == FOVEA_OUTPUT ? "out" : "in place";
}

static void default_text(const fovea_parameter *parameter, char *text, size_t size) {
    double value = parameter->standard;
    if (isnan(value))
        snprintf(text, size, "NAN");
    else if (isinf(value))
        snprintf(text, size, "%sINFINITY", value < 0 ? "-" : "");
    else if (value == FOVEA_ALL_AXES_VALUE)
        snprintf(text, size, "FOVEA_ALL_AXES");
    else
        snprintf(text, size, "%.17g", value);
}

int fovea_generate_choice(const char *choices, int index, char *text) {
    for (; index > 0; index--) {
        choices = strchr(choices, ',');
        if (!choices) return 0;
        choices++;
    }
    size_t length = strcspn(choices, ",");
    memcpy(text, choices, length);
    text[length] = 0;
    return 1;
}

/* ---- Header --------------------------------------------------------------------------------- */

static void write_enums(const fovea_kernel *kernel) {
    char a[64], b[64], c[64], choice[64];
    for (int p = 0; p < fovea_kernel_parameters(kernel); p++) {
        const fovea_parameter *parameter = &kernel->parameters[p];
        if (parameter->kind != FOVEA_CHOICE) continue;
        printf("typedef enum fovea_%s_%s {", kernel->name, parameter->name);
        for (int i = 0; fovea_generate_choice(parameter->choices, i, choice); i++)
            printf("%s FOVEA_%s_%s_%s", i ? "," : "", upper(kernel->name, a),
                   upper(parameter->name, b), upper(choice, c));
        printf(" } fovea_%s_%s;\n", kernel->name, parameter->name);
    }
}

static void write_options(const fovea_kernel *kernel) {
    static const char *const types[] = {"double", "int64_t", "int", "bool"};
    write_enums(kernel);
    printf("typedef struct fovea_%s_options {\n    size_t size;\n", kernel->name);
    for (int p = 0; p < fovea_kernel_parameters(kernel); p++) {
        const fovea_parameter *parameter = &kernel->parameters[p];
        char standard[32];
        default_text(parameter, standard, sizeof standard);
        printf("    %s %s; /* %s%s%s (default %s) */\n", types[parameter->kind], parameter->name,
               parameter->meaning ? parameter->meaning : "", parameter->choices ? ": " : "",
               parameter->choices ? parameter->choices : "", standard);
    }
    for (int i = 0; i < fovea_kernel_arguments(kernel); i++) {
        const fovea_argument *argument = &kernel->arguments[i];
        char dtypes[96];
        fovea_generate_dtypes(argument->dtypes, dtypes, sizeof dtypes);
        if (argument->optional)
            printf("    %sDLTensor *%s; /* %s [%s] %s: %s */\n",
                   argument->role == FOVEA_INPUT ? "const " : "", argument->name,
                   role_text(argument->role), argument->shape, dtypes[0] ? dtypes : "t",
                   argument->meaning ? argument->meaning : "");
    }
    printf("} fovea_%s_options;\nFOVEA_API void fovea_%s_options_default(fovea_%s_options "
           "*options);\n\n",
           kernel->name, kernel->name, kernel->name);
}

static void write_signature(const fovea_kernel *kernel, const char *name) {
    printf("fovea_status fovea_%s(fovea_context *context", name);
    for (int i = 0; i < fovea_kernel_arguments(kernel); i++) {
        const fovea_argument *argument = &kernel->arguments[i];
        if (!argument->optional)
            printf(", %sDLTensor *%s", argument->role == FOVEA_INPUT ? "const " : "",
                   argument->name);
    }
    printf(", const fovea_%s_options *options)", kernel->name);
}

static void write_comment(const fovea_kernel *kernel) {
    char dtypes[96];
    fovea_generate_dtypes(kernel->dtypes, dtypes, sizeof dtypes);
    printf("/* %s: %s\n *\n * t: %s\n", kernel->name, kernel->definition, dtypes);
    for (int i = 0; i < fovea_kernel_arguments(kernel); i++) {
        const fovea_argument *argument = &kernel->arguments[i];
        if (argument->optional) continue;
        fovea_generate_dtypes(argument->dtypes, dtypes, sizeof dtypes);
        printf(" * %s [%s] %s, %s%s%s\n", argument->name, argument->shape, dtypes[0] ? dtypes : "t",
               role_text(argument->role), argument->meaning ? ": " : "",
               argument->meaning ? argument->meaning : "");
    }
    printf(" * Error: %s.\n", kernel->bound_text);
    if (kernel->elementwise) printf(" * An output may be exactly an input tensor.\n");
    if (kernel->remarks) printf(" * %s\n", kernel->remarks);
    if (kernel->source) printf(" * Source: %s.\n", kernel->source);
    printf(" */\n");
}

static void write_header(void) {
    printf("/* The kernels of Fovea as C functions. Generated from the catalogue. */\n"
           "#ifndef FOVEA_KERNELS_H\n#define FOVEA_KERNELS_H\n\n#include <fovea/fovea.h>\n\n"
           "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n"
           "/* The value of `axis` that reduces over all axes. */\n"
           "#define FOVEA_ALL_AXES INT32_MIN\n\n");
    for (int i = 0; i < fovea_catalogue_count(); i++) {
        const fovea_kernel *kernel = fovea_catalogue_kernel(i);
        write_comment(kernel);
        write_options(kernel);
        printf("FOVEA_API ");
        write_signature(kernel, kernel->name);
        printf(";\n\n");
        for (int p = 0; p < FOVEA_PRESETS_MAX && kernel->presets[p].name; p++) {
            printf("/* %s */\nFOVEA_API ", kernel->presets[p].meaning);
            write_signature(kernel, kernel->presets[p].name);
            printf(";\n\n");
        }
    }
    printf("#ifdef __cplusplus\n}\n#endif\n\n#endif\n");
}

/* ---- Source --------------------------------------------------------------------------------- */

/* Copied from a constant: compilers clear a struct of this size by an instruction that takes longer. */
static void write_defaults(const fovea_kernel *kernel) {
    printf("void fovea_%s_options_default(fovea_%s_options *options) {\n"
           "    static const fovea_%s_options defaults = {\n        .size = sizeof defaults,\n",
           kernel->name, kernel->name, kernel->name);
    for (int p = 0; p < fovea_kernel_parameters(kernel); p++) {
        char standard[32];
        default_text(&kernel->parameters[p], standard, sizeof standard);
        printf("        .%s = %s,\n", kernel->parameters[p].name, standard);
    }
    printf("    };\n    *options = defaults;\n}\n"
           "static void default_%s(void *options) { fovea_%s_options_default(options); }\n",
           kernel->name, kernel->name);
}

static int write_tensors(const fovea_kernel *kernel) {
    int count = 0;
    for (int i = 0; i < fovea_kernel_arguments(kernel); i++)
        if (!kernel->arguments[i].optional)
            printf("%s%s", count++ ? ", " : "", kernel->arguments[i].name);
    return count;
}

static void write_function(const fovea_kernel *kernel, int index) {
    write_signature(kernel, kernel->name);
    printf(" {\n    const DLTensor *const tensors[] = {");
    int count = write_tensors(kernel);
    printf("};\n    return fovea_call_kernel(context, %d, tensors, %d, options);\n}\n", index,
           count);
}

static void write_preset(const fovea_kernel *kernel, const fovea_preset *preset) {
    char parameter[64] = "", value[64] = "", a[64], b[64], c[64];
    sscanf(preset->fixed, "%63[^=]=%63s", parameter, value);
    write_signature(kernel, preset->name);
    printf(" {\n");
    if (parameter[0]) {
        printf("    fovea_%s_options fixed;\n    fovea_%s_options_default(&fixed);\n"
               "    if (options && options->size > sizeof fixed)\n"
               "        return fovea_%s(context, ",
               kernel->name, kernel->name, kernel->name);
        write_tensors(kernel);
        printf(", options);\n    if (options) memcpy(&fixed, options, options->size);\n"
               "    fixed.size = sizeof fixed;\n    fixed.%s = FOVEA_%s_%s_%s;\n",
               parameter, upper(kernel->name, a), upper(parameter, b), upper(value, c));
    }
    printf("    return fovea_%s(context, ", kernel->name);
    write_tensors(kernel);
    printf(", %s);\n}\n", parameter[0] ? "&fixed" : "options");
}

static void write_layout(const fovea_kernel *kernel) {
    const char *name = kernel->name;
    printf("    {sizeof(fovea_%s_options), default_%s, {", name, name);
    for (int p = 0; p < fovea_kernel_parameters(kernel); p++)
        printf("offsetof(fovea_%s_options, %s), ", name, kernel->parameters[p].name);
    printf("0}, {");
    for (int i = 0; i < fovea_kernel_arguments(kernel); i++) {
        if (kernel->arguments[i].optional)
            printf("offsetof(fovea_%s_options, %s), ", name, kernel->arguments[i].name);
        else
            printf("0, ");
    }
    int parameters = fovea_kernel_parameters(kernel);
    const char *last = parameters ? kernel->parameters[parameters - 1].name : "size";
    printf("0}, offsetof(fovea_%s_options, %s) + sizeof(((fovea_%s_options *)0)->%s)},\n", name,
           last, name, last);
}

static void write_source(void) {
    printf("/* The typed functions of the kernels. Generated from the catalogue. */\n"
           "#include \"api/call.h\"\n#include \"catalogue/catalogue.h\"\n\n"
           "#include <fovea/fovea.h>\n#include <math.h>\n#include <string.h>\n\n");
    for (int i = 0; i < fovea_catalogue_count(); i++) {
        const fovea_kernel *kernel = fovea_catalogue_kernel(i);
        write_defaults(kernel);
        write_function(kernel, i);
        for (int p = 0; p < FOVEA_PRESETS_MAX && kernel->presets[p].name; p++)
            write_preset(kernel, &kernel->presets[p]);
        printf("_Static_assert(sizeof(fovea_%s_options) <= FOVEA_OPTIONS_SIZE_MAX, \"options\");\n",
               kernel->name);
    }
    printf("\nconst fovea_options_layout fovea_options_layouts[] = {\n");
    for (int i = 0; i < fovea_catalogue_count(); i++) write_layout(fovea_catalogue_kernel(i));
    printf("};\n");
}

/* ---- Manual --------------------------------------------------------------------------------- */

static void write_manual_row(const fovea_kernel *kernel) {
    char dtypes[96], standard[32];
    fovea_generate_dtypes(kernel->dtypes, dtypes, sizeof dtypes);
    printf("## %s\n\n%s\n\n", kernel->name, kernel->definition);
    if (kernel->number) printf("Number %d, domain %s. ", kernel->number, kernel->domain);
    printf("t: %s. Error: %s.", dtypes, kernel->bound_text);
    if (kernel->source) printf(" Source: %s.", kernel->source);
    printf("\n\n| argument | | shape | dtype | |\n|---|---|---|---|---|\n");
    for (int i = 0; i < fovea_kernel_arguments(kernel); i++) {
        const fovea_argument *argument = &kernel->arguments[i];
        fovea_generate_dtypes(argument->dtypes, dtypes, sizeof dtypes);
        printf("| `%s` | %s%s | [%s] | %s | %s |\n", argument->name, role_text(argument->role),
               argument->optional ? ", optional" : "", argument->shape, dtypes[0] ? dtypes : "t",
               argument->meaning ? argument->meaning : "");
    }
    if (fovea_kernel_parameters(kernel) > 0) printf("\n| parameter | default | |\n|---|---|---|\n");
    for (int p = 0; p < fovea_kernel_parameters(kernel); p++) {
        const fovea_parameter *parameter = &kernel->parameters[p];
        default_text(parameter, standard, sizeof standard);
        char choice[64];
        if (parameter->kind == FOVEA_CHOICE &&
            fovea_generate_choice(parameter->choices, (int)parameter->standard, choice))
            snprintf(standard, sizeof standard, "%.30s", choice);
        printf("| `%s` | %s | %s%s%s |\n", parameter->name, standard, parameter->meaning,
               parameter->choices ? ": " : "", parameter->choices ? parameter->choices : "");
    }
    const char *quote = kernel->operations ? "`" : "";
    printf("\nOperations: %s%s%s; bytes: `%s`.\n", quote,
           kernel->operations ? kernel->operations : FOVEA_COUNTED_BY_STEP, quote, kernel->bytes);
    for (int p = 0; p < FOVEA_PRESETS_MAX && kernel->presets[p].name; p++)
        printf("\n`%s` (number %d): %s\n", kernel->presets[p].name, kernel->presets[p].number,
               kernel->presets[p].meaning);
    if (kernel->remarks) printf("\n%s\n", kernel->remarks);
    printf("\n");
}

static void write_manual(void) {
    printf("# The kernels\n\nGenerated from the catalogue by the build. `t` is the dtype of the "
           "call, `s` its size in bytes.\nLetters name extents; `N...` is any number of leading "
           "extents.\n\n");
    for (int i = 0; i < fovea_catalogue_count(); i++) write_manual_row(fovea_catalogue_kernel(i));
}

int main(int argc, char **argv) {
    void (*const write[])(void) = {write_header, write_source, write_manual, fovea_generate_python,
                                   fovea_generate_stubs};
    static const char *const names[] = {"header", "source", "manual", "python", "stubs"};
    if (argc == 3 && strcmp(argv[1], "man") == 0) return fovea_generate_man(argv[2]);
    for (int i = 0; argc == 3 && i < 5; i++) {
        if (strcmp(argv[1], names[i]) != 0) continue;
        if (!freopen(argv[2], "w", stdout)) return perror(argv[2]), 1;
        write[i]();
        return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
    }
    return fprintf(stderr, "usage: %s header|source|manual|python|stubs|man FILE\n", argv[0]), 2;
}
