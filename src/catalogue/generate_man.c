/* A page of section 3 for each typed function: `fovea-generate man DIRECTORY`. */
#include "catalogue/generate.h"

#include <stdio.h>

/* What troff would take for its own is escaped; an ASCII hyphen is one that can be copied. */
static void put(FILE *file, const char *text) {
    bool line_start = true;
    for (; text && *text; text++) {
        if (line_start && (*text == '.' || *text == '\'')) fputs("\\&", file);
        line_start = *text == '\n';
        if (*text == '\\')
            fputs("\\e", file);
        else if (*text == '-')
            fputs("\\-", file);
        else
            fputc(*text, file);
    }
}

static void put_upper(FILE *file, const char *text) {
    for (; *text; text++) fputc(*text >= 'a' && *text <= 'z' ? *text - 'a' + 'A' : *text, file);
}

/* The sentence breaks after 70 columns or so: lines of input need not be long. */
static void put_signature(FILE *file, const fovea_kernel *kernel, const char *name) {
    fprintf(file,
            ".nf\n.B #include <fovea/fovea.h>\n.PP\n.BI \"fovea_status fovea_%s(fovea_context *\" "
            "context ,\n",
            name);
    for (int i = 0; i < fovea_kernel_arguments(kernel); i++) {
        const fovea_argument *argument = &kernel->arguments[i];
        if (!argument->optional)
            fprintf(file, ".BI \"    %sDLTensor *\" %s ,\n",
                    argument->role == FOVEA_INPUT ? "const " : "", argument->name);
    }
    fprintf(file, ".BI \"    const fovea_%s_options *\" options );\n", kernel->name);
    fprintf(file, ".BI \"void fovea_%s_options_default(fovea_%s_options *\" options );\n.fi\n",
            kernel->name, kernel->name);
}

static void put_arguments(FILE *file, const fovea_kernel *kernel) {
    static const char *const roles[] = {"in", "out", "in place"};
    char dtypes[96];
    fprintf(file, ".SH TENSORS\n");
    for (int i = 0; i < fovea_kernel_arguments(kernel); i++) {
        const fovea_argument *argument = &kernel->arguments[i];
        fovea_generate_dtypes(argument->dtypes, dtypes, sizeof dtypes);
        fprintf(file, ".TP\n.B %s\n[", argument->name);
        put(file, argument->shape);
        fprintf(file, "] %s, %s%s", dtypes[0] ? dtypes : "t", roles[argument->role],
                argument->optional ? ", optional: a field of the options" : "");
        if (argument->meaning) fprintf(file, ".\n"), put(file, argument->meaning);
        fprintf(file, "\n");
    }
}

static void put_parameters(FILE *file, const fovea_kernel *kernel) {
    static const char *const types[] = {"double", "int64_t", "int", "bool"};
    if (fovea_kernel_parameters(kernel) > 0) fprintf(file, ".SH OPTIONS\n");
    for (int p = 0; p < fovea_kernel_parameters(kernel); p++) {
        const fovea_parameter *parameter = &kernel->parameters[p];
        fprintf(file, ".TP\n.B %s\n%s. ", parameter->name, types[parameter->kind]);
        put(file, parameter->meaning);
        if (parameter->choices) fprintf(file, ": "), put(file, parameter->choices);
        if (parameter->standard == parameter->standard &&
            parameter->standard != FOVEA_ALL_AXES_VALUE) {
            char standard[64];
            snprintf(standard, sizeof standard, "%g", parameter->standard);
            if (parameter->kind == FOVEA_CHOICE)
                fovea_generate_choice(parameter->choices, (int)parameter->standard, standard);
            fprintf(file, " (default "), put(file, standard), fprintf(file, ")");
        }
        fprintf(file, ".\n");
    }
}

static void put_page(FILE *file, const fovea_kernel *kernel, const char *name,
                     const char *meaning) {
    char dtypes[96];
    fovea_generate_dtypes(kernel->dtypes, dtypes, sizeof dtypes);
    fprintf(file, ".TH FOVEA_"), put_upper(file, name);
    fprintf(file,
            " 3 \"\" \"Fovea\" \"Kernels of Fovea\"\n.SH NAME\nfovea_%s \\- kernel of the domain "
            "%s\n.SH SYNOPSIS\n",
            name, kernel->domain);
    put_signature(file, kernel, name);
    fprintf(file, ".SH DESCRIPTION\n"), put(file, kernel->definition);
    fprintf(file, ".\n.PP\n");
    if (meaning) put(file, meaning), fprintf(file, ".\n.PP\n");
    fprintf(file, "The dtype t of a call: %s.\n", dtypes);
    fprintf(file, "Letters name extents; N... is any number of leading extents.\n");
    if (kernel->elementwise) fprintf(file, "An output may be exactly an input tensor.\n");
    if (kernel->remarks) fprintf(file, ".PP\n"), put(file, kernel->remarks), fprintf(file, "\n");
    if (kernel->source)
        fprintf(file, ".PP\nSource: "), put(file, kernel->source), fprintf(file, ".\n");
    put_arguments(file, kernel);
    put_parameters(file, kernel);
    fprintf(file, ".SH ERRORS\nResults differ from the reference in double by at most: ");
    put(file, kernel->bound_text ? kernel->bound_text : "nothing");
    fprintf(file,
            ".\n.PP\nThe status is FOVEA_OK, or fovea_last_message tells in a sentence what is "
            "wrong.\n.SH SEE ALSO\n.BR fovea (1)\n");
}

static bool write_page(const char *directory, const fovea_kernel *kernel, const char *name,
                       const char *meaning) {
    char path[4096];
    snprintf(path, sizeof path, "%s/fovea_%s.3", directory, name);
    FILE *file = fopen(path, "w");
    if (!file) return perror(path), false;
    put_page(file, kernel, name, meaning);
    bool good = !ferror(file);
    return fclose(file) == 0 && good;
}

int fovea_generate_man(const char *directory) {
    bool good = true;
    for (int i = 0; i < fovea_catalogue_count() && good; i++) {
        const fovea_kernel *kernel = fovea_catalogue_kernel(i);
        good = write_page(directory, kernel, kernel->name, NULL);
        for (int p = 0; p < FOVEA_PRESETS_MAX && kernel->presets[p].name && good; p++)
            good =
                write_page(directory, kernel, kernel->presets[p].name, kernel->presets[p].meaning);
    }
    return good ? 0 : 1;
}
