/* What Python gets from the rows: for each kernel and preset a function with a signature that
 * inspect.signature reads, a docstring, and a line in the stub file. */
#include "catalogue/generate.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* A kernel or a preset of it. */
typedef struct function {
    const fovea_kernel *kernel;
    int index;
    const fovea_preset *preset; /* or NULL */
    int parameter;              /* that the preset fixes, or -1 */
    int value;
} function;

/* Prints text inside a string of C. */
static void print_escaped(const char *text) {
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') putchar('\\');
        if (*text == '\n')
            printf("\\n\"\n     \"");
        else
            putchar(*text);
    }
}

/* Text that grows, for the signature and the docstring of one function. */
enum { TEXT_SIZE = 1 << 16 };
typedef struct text {
    char characters[TEXT_SIZE];
    size_t used;
} text;

__attribute__((format(printf, 2, 3))) static void add(text *t, const char *format, ...) {
    va_list values;
    va_start(values, format);
    size_t rest = TEXT_SIZE - t->used;
    int length = vsnprintf(t->characters + t->used, rest, format, values);
    va_end(values);
    if (length > 0) t->used += (size_t)length < rest ? (size_t)length : rest - 1;
}

static bool is_result(const fovea_argument *argument) { return argument->role == FOVEA_OUTPUT; }

static bool has_dtype_choice(const fovea_argument *argument) {
    return is_result(argument) && !argument->optional && argument->dtypes & (argument->dtypes - 1);
}

/* Positional arguments have names for the reader only; `out` is the keyword of results. */
static const char *positional_name(const fovea_argument *argument) {
    return strcmp(argument->name, "out") == 0 ? "output" : argument->name;
}

/* Arguments of one sort: required or optional, results or not. */
static int count_arguments(const fovea_kernel *kernel, bool optional, bool results) {
    int count = 0;
    for (int a = 0; a < fovea_kernel_arguments(kernel); a++)
        count += kernel->arguments[a].optional == optional &&
                 is_result(&kernel->arguments[a]) == results;
    return count;
}

static bool any_dtype_choice(const fovea_kernel *kernel) {
    bool any = false;
    for (int a = 0; a < fovea_kernel_arguments(kernel); a++)
        any |= has_dtype_choice(&kernel->arguments[a]);
    return any;
}

/* The default as Python writes it. */
static void add_default(text *t, const fovea_parameter *parameter) {
    double value = parameter->standard;
    char choice[64], number[32];
    if (parameter->kind == FOVEA_CHOICE &&
        fovea_generate_choice(parameter->choices, (int)value, choice)) {
        add(t, "'%s'", choice);
    } else if (parameter->kind == FOVEA_FLAG) {
        add(t, "%s", value != 0 ? "True" : "False");
    } else if (!isfinite(value) || value == FOVEA_ALL_AXES_VALUE) {
        add(t, "None");
    } else if (parameter->kind != FOVEA_REAL) {
        add(t, "%.0f", value);
    } else {
        int digits = 1; /* the fewest that give the number back */
        do snprintf(number, sizeof number, "%.*g", digits, value);
        while (strtod(number, NULL) != value && ++digits <= 17);
        add(t, "%s%s", number, strpbrk(number, ".e") ? "" : ".0");
    }
}

/* ---- Docstrings ------------------------------------------------------------------------------- */

static void add_signature(text *t, const function *f) {
    const fovea_kernel *kernel = f->kernel;
    int positional = 0;
    add(t, "%s($module, ", f->preset ? f->preset->name : kernel->name);
    for (int a = 0; a < fovea_kernel_arguments(kernel); a++)
        if (!kernel->arguments[a].optional && !is_result(&kernel->arguments[a]))
            add(t, "%s, ", positional_name(&kernel->arguments[a])), positional++;
    if (positional) add(t, "/, ");
    size_t before = t->used;
    add(t, "*, ");
    size_t star = t->used;
    if (count_arguments(kernel, false, true)) add(t, positional ? "out=None, " : "out, ");
    if (any_dtype_choice(kernel)) add(t, "dtype=None, ");
    for (int a = 0; a < fovea_kernel_arguments(kernel); a++)
        if (kernel->arguments[a].optional) add(t, "%s=None, ", kernel->arguments[a].name);
    for (int p = 0; p < fovea_kernel_parameters(kernel); p++) {
        if (p == f->parameter) continue;
        add(t, "%s=", kernel->parameters[p].name);
        add_default(t, &kernel->parameters[p]);
        add(t, ", ");
    }
    if (t->used == star) t->used = before; /* nothing by keyword */
    t->used -= 2;
    add(t, ")\n--\n\n");
}

static void add_argument(text *t, const fovea_argument *argument, const char *how) {
    char dtypes[96];
    fovea_generate_dtypes(argument->dtypes, dtypes, sizeof dtypes);
    add(t, "    %s [%s] %s%s%s%s\n", argument->name, argument->shape, dtypes[0] ? dtypes : "t", how,
        argument->meaning ? ": " : "", argument->meaning ? argument->meaning : "");
}

static void add_arguments(text *t, const fovea_kernel *kernel) {
    if (count_arguments(kernel, false, false)) add(t, "Arrays:\n");
    for (int a = 0; a < fovea_kernel_arguments(kernel); a++) {
        const fovea_argument *argument = &kernel->arguments[a];
        if (!argument->optional && !is_result(argument))
            add_argument(t, argument, argument->role == FOVEA_IN_PLACE ? ", written in place" : "");
    }
    if (count_arguments(kernel, true, false)) add(t, "Arrays by keyword, if wanted:\n");
    for (int a = 0; a < fovea_kernel_arguments(kernel); a++) {
        const fovea_argument *argument = &kernel->arguments[a];
        if (argument->optional && !is_result(argument))
            add_argument(t, argument, argument->role == FOVEA_IN_PLACE ? ", written in place" : "");
    }
}

static void add_results(text *t, const fovea_kernel *kernel) {
    bool given = count_arguments(kernel, false, false) == 0;
    int required = count_arguments(kernel, false, true);
    add(t, required + count_arguments(kernel, true, true) ? "Returns:\n" : "Returns None.\n");
    for (int a = 0; a < fovea_kernel_arguments(kernel); a++)
        if (is_result(&kernel->arguments[a]))
            add_argument(t, &kernel->arguments[a],
                         kernel->arguments[a].optional ? ", with the keyword True or an array"
                                                       : "");
    if (required && given)
        add(t, "    out must be given: nothing else says its shape\n");
    else if (required == 1)
        add(t, "    out: the array to write it into\n");
    else if (required > 1)
        add(t, "    out: a tuple of %d arrays to write them into, None for one to be made\n",
            required);
    if (any_dtype_choice(kernel)) add(t, "    dtype: that of the result, by name\n");
}

static void add_parameters(text *t, const function *f) {
    const fovea_kernel *kernel = f->kernel;
    int count = fovea_kernel_parameters(kernel) - (f->parameter >= 0);
    if (count > 0) add(t, "Options:\n");
    for (int p = 0; p < fovea_kernel_parameters(kernel); p++) {
        const fovea_parameter *parameter = &kernel->parameters[p];
        if (p == f->parameter) continue;
        add(t, "    %s (", parameter->name);
        add_default(t, parameter);
        add(t, ")%s%s%s%s\n", parameter->meaning ? ": " : "",
            parameter->meaning ? parameter->meaning : "", parameter->choices ? ": " : "",
            parameter->choices ? parameter->choices : "");
    }
}

static void add_documentation(text *t, const function *f) {
    const fovea_kernel *kernel = f->kernel;
    char dtypes[96];
    fovea_generate_dtypes(kernel->dtypes, dtypes, sizeof dtypes);
    if (f->preset) add(t, "%s.\n\n", f->preset->meaning);
    add(t, "%s\n\nt is one of %s. Letters name extents.\n\n", kernel->definition, dtypes);
    add_arguments(t, kernel);
    add_results(t, kernel);
    add_parameters(t, f);
    add(t, "\nTolerance against the definition in double precision: %s.\n", kernel->bound_text);
    add(t, "Raises InvalidValue where arrays or options do not fit, Unsupported where no "
           "implementation "
           "serves the call.\n");
    if (kernel->elementwise) add(t, "A result may be written over an input: out=x.\n");
    if (kernel->remarks) add(t, "%s\n", kernel->remarks);
    if (kernel->source) add(t, "Source: %s.\n", kernel->source);
}

/* ---- The table -------------------------------------------------------------------------------- */

static void write_entry(const function *f) {
    static text t;
    t.used = 0;
    add_signature(&t, f);
    add_documentation(&t, f);
    printf("    {\"%s\", %d, %d, %d,\n     \"", f->preset ? f->preset->name : f->kernel->name,
           f->index, f->parameter, f->value);
    print_escaped(t.characters);
    printf("\"},\n");
}

/* What a preset fixes, as numbers. */
static function preset_function(const fovea_kernel *kernel, int index, const fovea_preset *preset) {
    function f = {kernel, index, preset, -1, 0};
    char parameter[64] = "", value[64] = "", choice[64];
    if (sscanf(preset->fixed, "%63[^=]=%63s", parameter, value) != 2) return f;
    f.parameter = fovea_kernel_parameter(kernel, parameter);
    const char *choices = kernel->parameters[f.parameter].choices;
    for (int i = 0; fovea_generate_choice(choices, i, choice); i++)
        if (strcmp(choice, value) == 0) f.value = i;
    return f;
}

static void each_function(void (*write)(const function *f)) {
    for (int i = 0; i < fovea_catalogue_count(); i++) {
        const fovea_kernel *kernel = fovea_catalogue_kernel(i);
        function f = {kernel, i, NULL, -1, 0};
        write(&f);
        for (int p = 0; p < FOVEA_PRESETS_MAX && kernel->presets[p].name; p++) {
            f = preset_function(kernel, i, &kernel->presets[p]);
            write(&f);
        }
    }
}

void fovea_generate_python(void) {
    printf("/* The kernels as functions of Python. Generated from the catalogue. */\n"
           "#include \"kernels.h\"\n\nconst kernel_function kernel_functions[] = {\n");
    each_function(write_entry);
    printf("    {NULL, 0, 0, 0, NULL}};\n");
}

/* ---- Stubs ------------------------------------------------------------------------------------ */

static void print_type(const fovea_parameter *parameter) {
    char choice[64];
    static const char *const types[] = {"float | None", "int | None", "", "bool"};
    if (parameter->kind != FOVEA_CHOICE) {
        printf("%s", types[parameter->kind]);
        return;
    }
    printf("Literal[");
    for (int i = 0; fovea_generate_choice(parameter->choices, i, choice); i++)
        printf("%s\"%s\"", i ? ", " : "", choice);
    printf("]");
}

/* asked: the signature for calls that ask for optional results. */
static void write_stub_parameters(const function *f, bool asked) {
    const fovea_kernel *kernel = f->kernel;
    int required = count_arguments(kernel, false, true), positional = 0;
    for (int a = 0; a < fovea_kernel_arguments(kernel); a++)
        if (!kernel->arguments[a].optional && !is_result(&kernel->arguments[a]))
            printf("%s%s: %s", positional ? ", " : "", positional_name(&kernel->arguments[a]),
                   positional ? "Any" : "_A"),
                positional++;
    printf("%s", positional ? ", /" : "");
    int keywords = fovea_kernel_parameters(kernel) - (f->parameter >= 0) + (required > 0) +
                   count_arguments(kernel, true, false) + count_arguments(kernel, true, true);
    if (keywords) printf("%s*", positional ? ", " : "");
    if (required == 1) printf(positional ? ", out: _A | None = None" : ", out: _A");
    if (required > 1)
        printf(positional ? ", out: tuple[Any, ...] | None = None" : ", out: tuple[Any, ...]");
    if (any_dtype_choice(kernel)) printf(", dtype: str | None = None");
    for (int a = 0; a < fovea_kernel_arguments(kernel); a++) {
        const fovea_argument *argument = &kernel->arguments[a];
        if (!argument->optional) continue;
        if (!is_result(argument))
            printf(", %s: Any = None", argument->name);
        else
            printf(", %s: %s = None", argument->name, asked ? "Any" : "Literal[False] | None");
    }
    for (int p = 0; p < fovea_kernel_parameters(kernel); p++) {
        static text t;
        if (p == f->parameter) continue;
        t.used = 0;
        add_default(&t, &kernel->parameters[p]);
        printf(", %s: ", kernel->parameters[p].name);
        print_type(&kernel->parameters[p]);
        printf(" = %s", t.characters);
    }
}

static void write_stub_returned(int results, bool any) {
    if (any)
        printf("Any");
    else if (results == 0)
        printf("None");
    else if (results == 1)
        printf("_A");
    else {
        printf("tuple[");
        for (int i = 0; i < results; i++) printf("%s_A", i ? ", " : "");
        printf("]");
    }
}

static void write_stub(const function *f) {
    const fovea_kernel *kernel = f->kernel;
    const char *name = f->preset ? f->preset->name : kernel->name;
    int required = count_arguments(kernel, false, true),
        optional = count_arguments(kernel, true, true);
    for (int asked = 0; asked <= (optional > 0); asked++) {
        printf("%sdef %s(", optional ? "@overload\n" : "", name);
        write_stub_parameters(f, asked);
        printf(") -> ");
        write_stub_returned(required, asked);
        printf(": ...\n");
    }
}

static void write_stub_name(const function *f) {
    printf("    \"%s\",\n", f->preset ? f->preset->name : f->kernel->name);
}

void fovea_generate_stubs(void) {
    printf("# The kernels of Fovea as Python has them. Generated from the catalogue.\n"
           "from collections.abc import Sequence\n"
           "from typing import Any, Literal, Protocol, TypeVar, final, overload\n\n"
           "class _Array(Protocol):\n"
           "    def __dlpack__(self, *arguments: Any, **options: Any) -> Any: ...\n\n"
           "_A = TypeVar(\"_A\", bound=_Array)\n\n"
           "class Error(Exception): ...\n"
           "class InvalidValue(Error, ValueError): ...\n"
           "class InvalidType(Error, TypeError): ...\n"
           "class Unsupported(Error, NotImplementedError): ...\n"
           "class OutOfMemory(Error, MemoryError): ...\n"
           "class FileError(Error, OSError): ...\n"
           "class DeviceError(Error, RuntimeError): ...\n\n"
           "@final\nclass Memory:\n"
           "    @property\n    def shape(self) -> tuple[int, ...]: ...\n"
           "    @property\n    def dtype(self) -> str: ...\n"
           "    def __dlpack__(self, *, stream: Any = None, max_version: tuple[int, int] | None = "
           "None, "
           "dl_device: Any = None, copy: bool | None = None) -> Any: ...\n"
           "    def __dlpack_device__(self) -> tuple[int, int]: ...\n\n"
           "def kernels() -> tuple[str, ...]: ...\n"
           "def implementations(kernel: str, /) -> tuple[str, ...]: ...\n"
           "def version() -> str: ...\n"
           "def threads() -> int: ...\n"
           "def set_threads(count: int, /) -> None: ...\n"
           "def _memory(shape: tuple[int, ...], dtype: str, /) -> Memory: ...\n"
           "def _integers(values: Sequence[int], shape: tuple[int, ...], /) -> Memory: ...\n"
           "def _route(kernel: str, /, *arrays: Any, **options: Any) -> "
           "tuple[str, str, str, float, float, bool, str]: ...\n"
           "def _get_use() -> tuple[int, bytes]: ...\n"
           "def _set_use(threads: int, forced: bytes, /) -> None: ...\n"
           "def _use(kernel: str | None, implementation: str | None, /) -> None: ...\n"
           "def _last_call() -> tuple[str, str, float, int, int, str] | None: ...\n"
           "def _statistics() -> dict[str, tuple[int, int, float, float, str | None]]: ...\n\n");
    each_function(write_stub);
    printf("\n__all__ = [\n    \"Error\",\n    \"InvalidValue\",\n    \"InvalidType\",\n"
           "    \"Unsupported\",\n    \"OutOfMemory\",\n    \"FileError\",\n    \"DeviceError\",\n"
           "    \"Memory\",\n    \"kernels\",\n    \"implementations\",\n    \"version\",\n"
           "    \"threads\",\n    \"set_threads\",\n");
    each_function(write_stub_name);
    printf("]\n");
}
