/* Access to the rows, and the parsing of what they say in text. */
#include "catalogue/catalogue.h"

#include <assert.h>
#include <ctype.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#define FOVEA_DOMAIN(name) extern const fovea_kernel fovea_rows_##name[];
#include "catalogue/domains.h"
#undef FOVEA_DOMAIN

#define FOVEA_DOMAIN(name) fovea_rows_##name,
static const fovea_kernel *const domains[] = {
#include "catalogue/domains.h"
};
#undef FOVEA_DOMAIN

enum { KERNELS_MAX = 160, /* below 255: places */ NAME_MAX_LETTERS = 8 };

typedef struct parsed_row {
    const fovea_kernel *kernel;
    int letter_count, axis, derived; /* axis: the parameter; derived: the letter; -1: none */
    char letters[FOVEA_LETTERS_MAX][NAME_MAX_LETTERS];
    fovea_shape shapes[FOVEA_ARGUMENTS_MAX];
} parsed_row;

static parsed_row rows[KERNELS_MAX];
static int row_count;

/* Rows by the hash of their names, one after the other where two meet; 1 + row, 0: none. Calls by name
 * come here, and comparing with each name in turn took up to 200 ns of a call of 490. */
enum { PLACES = 4 * 256 };
static uint8_t places[PLACES];

static uint32_t first_place(const char *name) {
    uint64_t hash = 0; /* a rotation a letter: a product would be twice as long */
    for (; *name; name++) hash = (hash << 5 | hash >> 59) + (unsigned char)*name;
    return (uint32_t)(hash * UINT64_C(0x9e3779b97f4a7c15) >> 32) % PLACES;
}

static void note_place(int row) {
    uint32_t place = first_place(rows[row].kernel->name);
    while (places[place]) place = (place + 1) % PLACES;
    places[place] = (uint8_t)(1 + row);
}

static int letter_of(parsed_row *row, const char *name, size_t length) {
    assert(length > 0 && length < NAME_MAX_LETTERS);
    for (int i = 0; i < row->letter_count; i++)
        if (strlen(row->letters[i]) == length && memcmp(row->letters[i], name, length) == 0)
            return i;
    assert(row->letter_count < FOVEA_LETTERS_MAX);
    memcpy(row->letters[row->letter_count], name, length);
    return row->letter_count++;
}

static void parse_shape(parsed_row *row, const char *text, fovea_shape *shape) {
    shape->group = shape->swap = -1;
    shape->by_row = *text == '(';
    while (*text && !shape->by_row) {
        size_t length = 0;
        while (isalnum((unsigned char)text[length])) length++;
        int letter = letter_of(row, text, length);
        text += length;
        if (strncmp(text, "...", 3) == 0) {
            shape->group = letter;
            shape->before = shape->count;
            text += 3;
        } else {
            shape->letters[shape->count++] = letter;
        }
        if (strncmp(text, "-axis", 5) == 0) {
            shape->without_axis = true;
            text += 5;
        }
        if (strncmp(text, "+1", 2) == 0) {
            shape->more[shape->count - 1] = 1;
            text += 2;
        }
        if (*text == '^') {
            shape->swap = fovea_kernel_parameter(row->kernel, text + 1);
            assert(shape->swap >= 0 && shape->count >= 2);
            text += strlen(text);
        }
        while (*text == ',' || *text == ' ') text++;
    }
}

static void parse_letters(parsed_row *row, const char *text) {
    while (*text) {
        size_t length = strcspn(text, ",");
        letter_of(row, text, length);
        text += length + (text[length] == ',');
    }
}

static int derived_letter(parsed_row *row) {
    const char *text = row->kernel->derived;
    return text ? letter_of(row, text, strcspn(text, "=")) : -1;
}

static void parse_catalogue(void) {
    for (size_t d = 0; d < sizeof domains / sizeof *domains; d++) {
        for (const fovea_kernel *kernel = domains[d]; kernel->name; kernel++) {
            assert(row_count < KERNELS_MAX);
            parsed_row *row = &rows[row_count++];
            row->kernel = kernel;
            note_place(row_count - 1);
            if (kernel->letters) parse_letters(row, kernel->letters);
            for (int a = 0; !kernel->letters && a < fovea_kernel_arguments(kernel); a++)
                parse_shape(row, kernel->arguments[a].shape, &row->shapes[a]);
            row->axis = fovea_kernel_parameter(kernel, "axis");
            row->derived = derived_letter(row);
        }
    }
}

static void prepare(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, parse_catalogue);
}

int fovea_catalogue_count(void) { return prepare(), row_count; }

const fovea_kernel *fovea_catalogue_kernel(int index) {
    prepare();
    return index >= 0 && index < row_count ? rows[index].kernel : NULL;
}

int fovea_catalogue_find(const char *name) {
    prepare();
    for (uint32_t place = first_place(name); places[place]; place = (place + 1) % PLACES)
        if (strcmp(rows[places[place] - 1].kernel->name, name) == 0) return places[place] - 1;
    return -1;
}

int fovea_kernel_arguments(const fovea_kernel *kernel) {
    int count = 0;
    while (count < FOVEA_ARGUMENTS_MAX && kernel->arguments[count].name) count++;
    return count;
}

int fovea_kernel_parameters(const fovea_kernel *kernel) {
    int count = 0;
    while (count < FOVEA_PARAMETERS_MAX && kernel->parameters[count].name) count++;
    return count;
}

/* Most names differ in their first letter, and checks look some up in every call. */
static inline bool same(const char *a, const char *b) { return *a == *b && strcmp(a, b) == 0; }

int fovea_kernel_argument(const fovea_kernel *kernel, const char *name) {
    for (int i = 0; i < FOVEA_ARGUMENTS_MAX && kernel->arguments[i].name; i++)
        if (same(kernel->arguments[i].name, name)) return i;
    return -1;
}

int fovea_kernel_parameter(const fovea_kernel *kernel, const char *name) {
    for (int i = 0; i < FOVEA_PARAMETERS_MAX && kernel->parameters[i].name; i++)
        if (same(kernel->parameters[i].name, name)) return i;
    return -1;
}

int fovea_kernel_letter(int index, const char *letter) {
    prepare();
    for (int i = 0; i < rows[index].letter_count; i++)
        if (same(rows[index].letters[i], letter)) return i;
    return -1;
}

const char *fovea_kernel_letter_name(int index, int letter) {
    prepare();
    return letter < rows[index].letter_count ? rows[index].letters[letter] : NULL;
}

int fovea_kernel_axis(int index) { return prepare(), rows[index].axis; }

int fovea_kernel_derived(int index) { return prepare(), rows[index].derived; }

const char *fovea_derived_formula(const fovea_kernel *kernel) {
    return strchr(kernel->derived, '=') + 1;
}

const fovea_shape *fovea_kernel_shape(int index, int argument) {
    prepare();
    return &rows[index].shapes[argument];
}

/* ---- Formulas: recursive descent over sums, products and factors --------------------------- */

typedef struct parser {
    const char *text;
    double (*lookup)(const char *name, const void *user);
    const void *user;
    int depth;
} parser;

static double parse_sum(parser *p);

static bool accept(parser *p, char c) {
    while (*p->text == ' ') p->text++;
    if (*p->text != c) return false;
    return p->text++, true;
}

static double next_power_of_two(double x) { return exp2(ceil(log2(x))); }

static double parse_name(parser *p) {
    char name[32];
    size_t length = 0;
    while (isalnum((unsigned char)p->text[length]) || p->text[length] == '_') length++;
    if (length == 0 || length >= sizeof name) return NAN;
    memcpy(name, p->text, length);
    name[length] = 0;
    p->text += length;
    if (strcmp(name, "max") == 0 && accept(p, '(')) {
        double a = parse_sum(p);
        if (!accept(p, ',')) return NAN;
        double b = parse_sum(p);
        return accept(p, ')') ? (a > b ? a : b) : NAN;
    }
    static const struct {
        const char *name;
        double (*function)(double);
    } functions[] = {{"floor", floor}, {"log2", log2}, {"power2", next_power_of_two}};
    for (size_t f = 0; f < sizeof functions / sizeof *functions; f++) {
        if (strcmp(name, functions[f].name) != 0 || !accept(p, '(')) continue;
        double a = parse_sum(p);
        return accept(p, ')') ? functions[f].function(a) : NAN;
    }
    return p->lookup(name, p->user);
}

static double parse_factor(parser *p) {
    if (++p->depth > 64) return NAN;
    double value;
    if (accept(p, '(')) {
        value = parse_sum(p);
        if (!accept(p, ')')) value = NAN;
    } else if (isdigit((unsigned char)*p->text)) {
        char *end;
        value = strtod(p->text, &end);
        p->text = end;
    } else {
        value = parse_name(p);
    }
    p->depth--;
    return value;
}

static double parse_product(parser *p) {
    double value = parse_factor(p);
    for (;;) {
        if (accept(p, '*'))
            value *= parse_factor(p);
        else if (accept(p, '/'))
            value /= parse_factor(p);
        else
            return value;
    }
}

static double parse_sum(parser *p) {
    double value = parse_product(p);
    for (;;) {
        if (accept(p, '+'))
            value += parse_product(p);
        else if (accept(p, '-'))
            value -= parse_product(p);
        else
            return value;
    }
}

double fovea_evaluate(const char *formula, double (*lookup)(const char *name, const void *user),
                      const void *user) {
    parser p = {.text = formula, .lookup = lookup, .user = user};
    double value = parse_sum(&p);
    while (*p.text == ' ') p.text++;
    return *p.text ? NAN : value;
}
