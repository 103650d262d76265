/* Cases: parsing, data (docs/rules.md, 9 and 11), memory layouts, and real tensors. */
#include "catalogue/case.h"

#include "runtime/parallel.h"
#include "runtime/processor.h"

#include <ctype.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const layout_names[FOVEA_LAYOUT_COUNT] = {
    "contiguous", "padded", "stepped", "transposed", "reversed", "outer", "turned", "mixed"};
static const char *const data_names[FOVEA_DATA_COUNT] = {
    "row",      "offset", "far_offset", "small",    "step",     "masked",
    "constant", "zeros",  "impulse",    "integers", "extremes", "nonfinite"};

const char *fovea_layout_name(fovea_layout layout) { return layout_names[layout]; }
const char *fovea_distribution_name(fovea_distribution data) { return data_names[data]; }

static int find_name(const char *const *names, int count, const char *name) {
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0) return i;
    return -1;
}

/* ---- Describing ----------------------------------------------------------------------------- */

static const fovea_kernel *case_kernel(const fovea_case *c) {
    return fovea_catalogue_kernel(c->index);
}

void fovea_case_begin(fovea_case *c, int kernel) {
    *c = (fovea_case){.index = kernel, .group_rank = 1};
    const fovea_kernel *row = fovea_catalogue_kernel(kernel);
    c->seed = (uint64_t)row->number;
    while (!(row->dtypes >> c->dtype & 1)) c->dtype++;
    for (int i = 0; i < FOVEA_LETTERS_MAX; i++) c->extents[i] = -1;
    for (int p = 0; p < fovea_kernel_parameters(row); p++)
        c->parameters[p] = row->parameters[p].standard;
}

double fovea_case_parameter(const fovea_case *c, const char *name) {
    int parameter = fovea_kernel_parameter(case_kernel(c), name);
    return parameter < 0 ? NAN : c->parameters[parameter];
}

void fovea_case_set(fovea_case *c, const char *parameter, double value) {
    int index = fovea_kernel_parameter(case_kernel(c), parameter);
    if (index >= 0) c->parameters[index] = value;
}

void fovea_case_extent(fovea_case *c, const char *letter, int64_t extent) {
    int index = fovea_kernel_letter(c->index, letter);
    if (index >= 0) c->extents[index] = extent;
}

bool fovea_case_give(fovea_case *c, const char *argument) {
    int index = fovea_kernel_argument(case_kernel(c), argument);
    if (index < 0 || !case_kernel(c)->arguments[index].optional) return false;
    c->optional |= 1u << index;
    return true;
}

static int letter_ignoring_case(int kernel, const char *name) {
    const char *letter;
    for (int i = 0; i < FOVEA_LETTERS_MAX && (letter = fovea_kernel_letter_name(kernel, i)); i++) {
        size_t k = 0;
        while (letter[k] && tolower((unsigned char)letter[k]) == tolower((unsigned char)name[k]))
            k++;
        if (!letter[k] && !name[k]) return i;
    }
    return -1;
}

static double lookup_n(const char *name, const void *user) {
    return strcmp(name, "N") == 0 ? *(const double *)user : NAN;
}

static int choices_of(const fovea_parameter *parameter) {
    int count = 1;
    for (const char *at = parameter->choices; *at; at++) count += *at == ',';
    return count;
}

static fovea_status set_parameter(fovea_case *c, int index, const char *value,
                                  fovea_message *message) {
    const fovea_parameter *parameter = &case_kernel(c)->parameters[index];
    if (parameter->kind == FOVEA_CHOICE) {
        const char *choice = parameter->choices;
        size_t length = strlen(value);
        for (int i = 0; choice; i++) {
            if (strncmp(choice, value, length) == 0 && (!choice[length] || choice[length] == ','))
                return c->parameters[index] = i, FOVEA_OK;
            if ((choice = strchr(choice, ','))) choice++;
        }
    }
    char *end;
    double number = strtod(value, &end);
    bool whole =
        parameter->kind == FOVEA_REAL || (number == floor(number) && fabs(number) < 0x1p63);
    if (parameter->kind == FOVEA_CHOICE) whole &= number >= 0 && number < choices_of(parameter);
    if (end == value || *end || !whole)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s=%s: %s%s", parameter->name, value,
                          parameter->choices              ? "it is one of "
                          : parameter->kind == FOVEA_REAL ? "not a number"
                                                          : "not a whole number",
                          parameter->choices ? parameter->choices : "");
    c->parameters[index] = number;
    return FOVEA_OK;
}

static fovea_status set_item(fovea_case *c, const char *key, const char *value, double n,
                             fovea_message *message) {
    int index, kernel = c->index;
    if (strcmp(key, "dtype") == 0) {
        if (fovea_dtype_parse(value, &c->dtype) && case_kernel(c)->dtypes >> c->dtype & 1)
            return FOVEA_OK;
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "dtype=%s: %s does not take it", value,
                          case_kernel(c)->name);
    }
    if (strcmp(key, "memory") == 0 &&
        (index = find_name(layout_names, FOVEA_LAYOUT_COUNT, value)) >= 0)
        return c->layout = (fovea_layout)index, FOVEA_OK;
    if (strcmp(key, "data") == 0 && (index = find_name(data_names, FOVEA_DATA_COUNT, value)) >= 0)
        return c->data = (fovea_distribution)index, FOVEA_OK;
    if (strcmp(key, "seed") == 0 && fovea_kernel_parameter(case_kernel(c), "seed") < 0) {
        char *end;
        c->seed = strtoull(value, &end, 10);
        if (end != value && !*end) return FOVEA_OK;
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "seed=%s: not a whole number", value);
    }
    if ((index = letter_ignoring_case(kernel, key)) >= 0) {
        double extent = fovea_evaluate(value, lookup_n, &n);
        if (!(extent >= 0 && extent <= 0x1p52) || extent != floor(extent))
            return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                              "%s=%s: an extent is a whole number, at least 0", key, value);
        return c->extents[index] = (int64_t)extent, FOVEA_OK;
    }
    if ((index = fovea_kernel_parameter(case_kernel(c), key)) >= 0)
        return set_parameter(c, index, value, message);
    index = fovea_kernel_argument(case_kernel(c), key);
    if (index >= 0) {
        fovea_dtype dtype;
        if (fovea_dtype_parse(value, &dtype)) c->dtypes[index] = 1 + (uint32_t)dtype;
        if (!case_kernel(c)->arguments[index].optional) return FOVEA_OK;
        return fovea_case_give(c, key), FOVEA_OK;
    }
    return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                      "%s=%s: %s has no extent, parameter or optional tensor of that name", key,
                      value, case_kernel(c)->name);
}

fovea_status fovea_case_parse(fovea_case *c, const char *text, double n, fovea_message *message) {
    char item[128];
    while (*text) {
        size_t length = 0;
        for (int depth = 0; text[length] && (depth > 0 || text[length] != ','); length++)
            depth += (text[length] == '(') - (text[length] == ')');
        if (length >= sizeof item)
            return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "«%.40s...» is too long", text);
        memcpy(item, text, length);
        item[length] = 0;
        char *value = strchr(item, '=');
        if (!value)
            return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "«%s» is not of the form name=value",
                              item);
        *value++ = 0;
        fovea_status status = set_item(c, item, value, n, message);
        if (status != FOVEA_OK) return status;
        text += length + (text[length] == ',');
    }
    return FOVEA_OK;
}

static double lookup_in_case(const char *name, const void *user) {
    const fovea_case *c = user;
    int letter = fovea_kernel_letter(c->index, name);
    return letter >= 0 ? (double)c->extents[letter] : fovea_case_parameter(c, name);
}

fovea_status fovea_case_complete(fovea_case *c, fovea_message *message) {
    const char *letter;
    if (case_kernel(c)->case_defaults) case_kernel(c)->case_defaults(c);
    int derived = fovea_kernel_derived(c->index);
    if (derived >= 0)
        c->extents[derived] =
            (int64_t)fovea_evaluate(fovea_derived_formula(case_kernel(c)), lookup_in_case, c);
    for (int i = 0; i < FOVEA_LETTERS_MAX && (letter = fovea_kernel_letter_name(c->index, i));
         i++) {
        if (c->extents[i] < 0)
            return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s: the extent %s is missing",
                              case_kernel(c)->name, letter);
    }
    return FOVEA_OK;
}

static bool same_value(double a, double b) { return a == b || (isnan(a) && isnan(b)); }

static size_t append(char *text, size_t size, size_t used, const char *key, const char *value) {
    if (used >= size) return used;
    return used +
           (size_t)snprintf(text + used, size - used, "%s%s=%s", used ? "," : "", key, value);
}

static void value_text(const fovea_parameter *parameter, double value, char *text, size_t size) {
    snprintf(text, size, "%g", value);
    if (parameter->kind != FOVEA_CHOICE) return;
    const char *choice = parameter->choices;
    for (int i = 0; choice && i < (int)value; i++)
        if ((choice = strchr(choice, ','))) choice++;
    if (choice) snprintf(text, size, "%.*s", (int)strcspn(choice, ","), choice);
}

const char *fovea_case_text(const fovea_case *c, char *text, size_t size) {
    const fovea_kernel *kernel = case_kernel(c);
    char value[64];
    size_t used = append(text, size, 0, "dtype", fovea_dtype_name(c->dtype));
    const char *letter;
    for (int i = 0; i < FOVEA_LETTERS_MAX && (letter = fovea_kernel_letter_name(c->index, i));
         i++) {
        char lower[16];
        size_t k = 0;
        for (; letter[k] && k < sizeof lower - 1; k++)
            lower[k] = (char)tolower((unsigned char)letter[k]);
        lower[k] = 0;
        snprintf(value, sizeof value, "%lld", (long long)c->extents[i]);
        if (c->extents[i] >= 0) used = append(text, size, used, lower, value);
    }
    for (int p = 0; p < fovea_kernel_parameters(kernel); p++) {
        if (same_value(c->parameters[p], kernel->parameters[p].standard)) continue;
        value_text(&kernel->parameters[p], c->parameters[p], value, sizeof value);
        used = append(text, size, used, kernel->parameters[p].name, value);
    }
    for (int a = 0; a < fovea_kernel_arguments(kernel); a++) {
        if (!(c->optional >> a & 1) && !c->dtypes[a]) continue;
        used = append(text, size, used, kernel->arguments[a].name,
                      c->dtypes[a] ? fovea_dtype_name((fovea_dtype)(c->dtypes[a] - 1)) : "1");
    }
    if (c->layout) used = append(text, size, used, "memory", layout_names[c->layout]);
    if (c->data && c->data < FOVEA_DATA_COUNT)
        used = append(text, size, used, "data", data_names[c->data]);
    snprintf(value, sizeof value, "%llu", (unsigned long long)c->seed);
    if (c->seed != (uint64_t)kernel->number && fovea_kernel_parameter(kernel, "seed") < 0)
        append(text, size, used, "seed", value);
    return text;
}

/* ---- Data ----------------------------------------------------------------------------------- */

void fovea_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t words[4]) {
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]}, k[2] = {key[0], key[1]};
    for (int round = 0; round < 10; round++) {
        uint64_t a = UINT64_C(0xD2511F53) * c[0], b = UINT64_C(0xCD9E8D57) * c[2];
        uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k[0], (uint32_t)b,
                            (uint32_t)(a >> 32) ^ c[3] ^ k[1], (uint32_t)a};
        memcpy(c, next, sizeof c);
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
    memcpy(words, c, sizeof c);
}

typedef struct stream {
    uint64_t seed, number;
} stream;

/* Four words of block `block` of the stream. */
static void stream_words(const stream *s, uint64_t block, uint32_t words[4]) {
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)s->number,
                                 (uint32_t)(s->number >> 32)};
    const uint32_t key[2] = {(uint32_t)s->seed, (uint32_t)(s->seed >> 32)};
    fovea_philox(counter, key, words);
}

/* Four draws: normals by Box-Muller, or uniforms in [0, 1). */
static void draw(const stream *s, uint64_t block, bool normal, double values[4]) {
    uint32_t words[4];
    stream_words(s, block, words);
    for (int i = 0; i < 4; i += 2) {
        double first = (words[i] >> 8) * 0x1p-24, second = (words[i + 1] >> 8) * 0x1p-24;
        if (!normal) {
            values[i] = first, values[i + 1] = second;
            continue;
        }
        double radius = sqrt(-2 * log(first + 0x1p-24)),
               angle = 2 * 3.14159265358979323846 * second;
        values[i] = radius * cos(angle), values[i + 1] = radius * sin(angle);
    }
}

void fovea_case_draw(const fovea_case *c, int argument, int64_t group, double normals[4]) {
    draw(&(stream){c->seed, (uint64_t)argument}, (uint64_t)group, true, normals);
}

void fovea_case_words(const fovea_case *c, int argument, int64_t group, uint32_t words[4]) {
    stream_words(&(stream){c->seed, (uint64_t)argument}, (uint64_t)group, words);
}

/* A NaN with other bits, of those that it keeps in f32: what moves elements keeps them. */
static double nan_of_bits(double nan, uint32_t word) {
    uint64_t bits;
    memcpy(&bits, &nan, sizeof bits);
    bits |= (uint64_t)(word & 255) << 29;
    memcpy(&nan, &bits, sizeof nan);
    return nan;
}

/* Drawn apart for each argument: two tensors have theirs in different places. */
static double special_value(const fovea_case *c, fovea_dtype dtype, uint64_t argument, int64_t i,
                            double normal) {
    static const double extremes[] = {FLT_MAX, -FLT_MAX, FLT_MIN, 0x1p-149, -0x1p-140, 0.0,
                                      -0.0,    88.8,     -87.5,   -103.9,   1e-20,     -1e20};
    static const double nonfinite[] = {NAN, INFINITY, -INFINITY, -NAN};
    uint32_t words[4];
    stream_words(&(stream){c->seed, 1000 + 100 * argument + (uint64_t)dtype}, (uint64_t)i, words);
    if (c->data == FOVEA_DATA_NONFINITE) {
        bool rest =
            c->seed % 2 && i >= 4096; /* is finite: what joins parts of a tensor must keep NaN */
        if (words[0] % 37 != 0 || rest) return normal;
        double value = nonfinite[words[1] % 4];
        return isnan(value) ? nan_of_bits(value, words[2]) : value;
    }
    if (words[0] % 5 != 0) return normal;
    double value = extremes[words[1] % (sizeof extremes / sizeof *extremes)];
    if (dtype == FOVEA_F16 && fabs(value) > 65504) return copysign(65504, value);
    return value;
}

static double check_value(const fovea_case *c, fovea_dtype dtype, uint64_t argument, int64_t i,
                          int64_t count, double normal) {
    switch (c->data) {
    case FOVEA_DATA_OFFSET:
        return 100 + normal;
    case FOVEA_DATA_FAR_OFFSET:
        return 1e4 + normal;
    case FOVEA_DATA_SMALL:
        return 1e-3 * normal;
    case FOVEA_DATA_STEP:
        return i < 64 ? 1000 + normal : normal;
    case FOVEA_DATA_MASKED:
        return i < count / 2 ? -INFINITY : normal;
    case FOVEA_DATA_CONSTANT:
        return 0.1;
    case FOVEA_DATA_ZEROS:
        return i % 3 ? 0.0 : -0.0;
    case FOVEA_DATA_IMPULSE: {
        const int64_t places[] = {0, count - 1, 15, 16, 31, 32, 63, 64, count / 2};
        return i == places[c->seed % 9] % (count ? count : 1) ? 1.0 : 0.0;
    }
    case FOVEA_DATA_INTEGERS:
        return normal < -0.6 ? -1 : normal > 0.6 ? 1 : 0;
    case FOVEA_DATA_EXTREMES:
    case FOVEA_DATA_NONFINITE:
        return special_value(c, dtype, argument, i, normal);
    default:
        return normal;
    }
}

/* Words of 64 bits, which narrower integers take the low half of, and what becomes of them in check:
 * few values, equal ones, one element that stands out, limits. */
static uint64_t check_word(const fovea_case *c, uint64_t word, int64_t i, int64_t count) {
    static const uint64_t limits[] = {0,         1,          INT32_MAX,         UINT64_C(1) << 31,
                                      INT64_MAX, UINT32_MAX, UINT64_C(1) << 63, UINT64_MAX};
    switch (c->data) {
    case FOVEA_DATA_OFFSET:
        return 100 + word % 8;
    case FOVEA_DATA_FAR_OFFSET:
        return 10000 + word % 1000;
    case FOVEA_DATA_SMALL:
        return word % 3;
    case FOVEA_DATA_CONSTANT:
        return 12345;
    case FOVEA_DATA_ZEROS:
        return 0;
    case FOVEA_DATA_IMPULSE:
        return (uint64_t)check_value(c, FOVEA_F64, 0, i, count, 0);
    case FOVEA_DATA_INTEGERS:
        return word % 3 - 1;
    case FOVEA_DATA_EXTREMES:
        return word % 5 ? word : limits[word >> 32 & 7];
    default:
        return word;
    }
}

/* Numbers of a dense tensor repeat after so many: a cache of 10^9 would be minutes in the making. */
enum { PERIOD = 1 << 24, RESTORED_AT_ONCE = 1 << 20 };

typedef struct filling {
    const fovea_case *c;
    const fovea_argument *argument;
    const fovea_view *view;
    stream stream;
    int64_t count, fresh; /* values: all, and those that are drawn */
} filling;

/* Groups of four elements of an integer dtype. */
static void fill_words(void *task, int64_t first, int64_t end, int thread) {
    const filling *f = task;
    const fovea_view *view = f->view;
    bool wide = fovea_dtype_size(view->dtype) == 8;
    (void)thread;
    for (int64_t group = first; group < end; group++) {
        uint32_t words[8];
        for (uint64_t w = 0; w <= wide; w++)
            stream_words(&f->stream, ((uint64_t)group << wide) + w, words + 4 * w);
        const uint32_t *word = words;
        for (int64_t j = 4 * group; j < 4 * group + 4 && j < f->fresh; j++) {
            uint64_t value = *word++;
            if (wide) value |= (uint64_t)*word++ << 32;
            if (f->argument->high > 0) value %= (uint64_t)f->argument->high;
            if (f->c->data) value = check_word(f->c, value, j, f->count);
            fovea_write_bits(fovea_view_address(view, j), view->dtype, value);
        }
    }
}

/* 0 or 1; in check a byte that is not 0 is true, and a third of floats lie between. */
static double check_truth(const filling *f, int64_t i, double uniform) {
    fovea_dtype dtype = f->view->dtype;
    if (f->c->data && fovea_dtype_is_float(dtype) && i % 3 == 0) return uniform;
    return uniform < 0.5 ? (f->c->data && dtype == FOVEA_U8 ? 1 << i % 8 : 1) : 0;
}

/* Groups of four elements. */
static void fill_groups(void *task, int64_t first, int64_t end, int thread) {
    const filling *f = task;
    const fovea_argument *argument = f->argument;
    const fovea_view *view = f->view;
    bool varied = argument->fill <= FOVEA_FILL_SQUARE || argument->varied;
    bool normal = argument->fill <= FOVEA_FILL_SQUARE || (varied && f->c->data);
    bool coarse = view->dtype == FOVEA_I8 || view->dtype == FOVEA_E4M3;
    bool dense = fovea_view_is_contiguous(view) && fovea_dtype_of_part(view->dtype) == FOVEA_F32;
    (void)thread;
    for (int64_t group = first; group < end; group++) {
        double values[4];
        draw(&f->stream, (uint64_t)group, normal, values);
        for (int64_t j = 4 * group; j < 4 * group + 4 && j < f->fresh; j++) {
            double value = values[j - 4 * group];
            if (argument->fill == FOVEA_FILL_UNIFORM && !normal)
                value = argument->low + (argument->high - argument->low) * value;
            if (argument->fill == FOVEA_FILL_BINARY) value = check_truth(f, j, value);
            if (argument->fill == FOVEA_FILL_ONES) value = 1;
            if (argument->fill == FOVEA_FILL_ZEROS) value = 0;
            if (varied && f->c->data)
                value = check_value(f->c, fovea_dtype_of_part(view->dtype), f->stream.number, j,
                                    f->count, value);
            if (normal && coarse) value *= 32; /* as a quantised tensor fills its range */
            if (argument->fill == FOVEA_FILL_MAGNITUDE) value = fabs(value);
            if (argument->fill == FOVEA_FILL_SQUARE) value *= value;
            if (dense)
                ((float *)(void *)view->data)[j] = (float)value;
            else
                fovea_view_write(view, j, value);
        }
    }
}

/* Scales rows of the last axis to the sum 1. */
static void scale_rows(void *task, int64_t row, int64_t end, int thread) {
    const fovea_view *view = task;
    int64_t columns = view->rank ? view->shape[view->rank - 1] : 1;
    (void)thread;
    for (; row < end; row++) {
        double sum = 0;
        int64_t first = row * columns;
        for (int64_t i = first; i < first + columns; i++) sum += fovea_view_read(view, i);
        for (int64_t i = first; i < first + columns && sum > 0; i++)
            fovea_view_write(view, i, fovea_view_read(view, i) / sum);
    }
}

static void make_shares(const fovea_view *view) {
    int64_t columns = view->rank ? view->shape[view->rank - 1] : 1;
    int64_t count = fovea_view_elements(view);
    fovea_view rows = *view;
    int threads = count > PERIOD / 4 ? fovea_processor_get()->threads : 1;
    if (count > 0)
        fovea_parallel(count / columns, (1 << 16) / columns + 1, threads, scale_rows, &rows);
}

static void fill_numbers(const fovea_case *c, int position, const fovea_argument *argument,
                         const fovea_view *view) {
    bool square = argument->fill == FOVEA_FILL_SQUARE;
    int64_t count = fovea_view_values(view);
    int64_t period = c->fresh > 0 ? c->fresh : PERIOD;
    int64_t fresh = fovea_view_is_contiguous(view) && count > period ? period : count;
    filling f = {c, argument, view, {c->seed, (uint64_t)(position - square)}, count, fresh};
    int threads = fresh > PERIOD / 4 ? fovea_processor_get()->threads : 1;
    bool words = fovea_dtype_is_word(view->dtype) && argument->fill == FOVEA_FILL_NORMAL;
    fovea_parallel((fresh + 3) / 4, 1 << 14, threads, words ? fill_words : fill_groups, &f);
    size_t size = fovea_dtype_size(fovea_dtype_of_part(view->dtype));
    for (int64_t i = fresh; i < count; i += fresh)
        memcpy(view->data + (size_t)i * size, view->data,
               (size_t)(count - i < fresh ? count - i : fresh) * size);
    if (argument->fill == FOVEA_FILL_SHARES && !c->data) make_shares(view);
}

/* ---- Tensors -------------------------------------------------------------------------------- */

static void *heap_allocate(void *user, size_t bytes, int argument) {
    (void)user, (void)argument;
    return aligned_alloc(64, (bytes / 64 + 1) * 64);
}

static void heap_release(void *user, void *memory, size_t bytes, int argument) {
    (void)user, (void)bytes, (void)argument;
    free(memory);
}

static void case_shape(const fovea_case *c, int argument, int *rank, int64_t *shape) {
    const fovea_kernel *kernel = case_kernel(c);
    const fovea_shape *text = fovea_kernel_shape(c->index, argument);
    if (kernel->shape || text->by_row) {
        kernel->case_shape(c, argument, rank, shape);
        return;
    }
    double axis = fovea_case_parameter(c, "axis");
    *rank = 0;
    for (int i = 0; i < text->before; i++) shape[(*rank)++] = c->extents[text->letters[i]];
    if (text->group >= 0) {
        bool scalar = text->without_axis && axis == FOVEA_ALL_AXES_VALUE;
        double dimension = axis < 0 ? axis + c->group_rank : axis;
        bool drops = text->without_axis && dimension >= 0 && dimension < c->group_rank;
        int drop = drops ? (int)dimension : -1;
        for (int i = 0; i < c->group_rank && !scalar; i++)
            if (i != drop)
                shape[(*rank)++] = c->group_rank == 1 ? c->extents[text->group] : c->group[i];
    }
    bool swapped = text->swap >= 0 && c->parameters[text->swap] != 0;
    for (int i = text->before; i < text->count; i++) {
        int place = fovea_shape_letter(text, i, swapped);
        shape[(*rank)++] = c->extents[text->letters[place]] + text->more[place];
    }
}

/* Order of the dimensions in memory, outermost first. */
static void memory_order(fovea_layout layout, int rank, int order[]) {
    for (int i = 0; i < rank; i++) order[i] = layout == FOVEA_TURNED ? rank - 1 - i : i;
    int a = layout == FOVEA_TRANSPOSED && rank >= 2 ? rank - 2 : -1;
    if (layout == FOVEA_OUTER && rank >= 3) a = 1;
    if (a >= 0 && a + 1 < rank) {
        order[a] = a + 1;
        order[a + 1] = a;
    }
}

/* Strides of a shape under a layout; the elements to allocate and where element 0 stands. */
static bool lay_out(fovea_layout layout, int rank, const int64_t *shape, int64_t *strides,
                    int64_t *elements, int64_t *origin) {
    int order[FOVEA_RANK_MAX];
    memory_order(layout, rank, order);
    int64_t step = layout == FOVEA_STEPPED ? 2 : 1;
    for (int i = rank - 1; i >= 0; i--) {
        strides[order[i]] = step;
        int64_t extent = shape[order[i]] > 0 ? shape[order[i]] : 1;
        if (layout == FOVEA_PADDED && i == rank - 1) extent += 3;
        if (!fovea_multiply(step, extent, &step)) return false;
    }
    *elements = step;
    *origin = 0;
    if (layout == FOVEA_REVERSED && rank > 0 && shape[0] > 1) {
        *origin = strides[0] * (shape[0] - 1);
        strides[0] = -strides[0];
    }
    return true;
}

static fovea_dtype argument_dtype(const fovea_case *c, int argument) {
    uint32_t set = fovea_argument_dtypes(&case_kernel(c)->arguments[argument], c->dtype);
    if (c->dtypes[argument]) return (fovea_dtype)(c->dtypes[argument] - 1);
    if (set >> c->dtype & 1) return c->dtype;
    return (fovea_dtype)__builtin_ctz(set);
}

static fovea_status make_tensor(fovea_sample *sample, int a, fovea_message *message) {
    const fovea_case *c = sample->c;
    const fovea_argument *argument = &case_kernel(c)->arguments[a];
    int rank;
    int64_t elements, origin;
    fovea_dtype dtype = argument_dtype(c, a);
    size_t size = fovea_dtype_size(dtype);
    case_shape(c, a, &rank, sample->shapes[a]);
    /* Metadata of one dimension stays plain: layouts are for the operands. */
    bool metadata = argument->fill == FOVEA_FILL_BY_ROW && case_kernel(c)->shape;
    fovea_layout layout = metadata ? FOVEA_CONTIGUOUS : c->layout;
    if (layout == FOVEA_MIXED) layout = (fovea_layout)((3 * (uint64_t)a + c->seed) % FOVEA_MIXED);
    if (!lay_out(layout, rank, sample->shapes[a], sample->strides[a], &elements, &origin) ||
        elements > INT64_MAX / 16)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s: too many elements", argument->name);
    sample->bytes[a] = (size_t)elements * size;
    sample->storage[a] = sample->memory.allocate(sample->memory.user, sample->bytes[a], a);
    if (!sample->storage[a])
        return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no memory for %s (%zu bytes)",
                          argument->name, sample->bytes[a]);
    sample->present |= 1u << a;
    if (c->data != FOVEA_DATA_NONE) memset(sample->storage[a], 0xA5, sample->bytes[a]);
    sample->tensors[a] = (DLTensor){.data = (char *)sample->storage[a] + (size_t)origin * size,
                                    .device = {kDLCPU, 0},
                                    .ndim = rank,
                                    .dtype = fovea_dtype_to_dlpack(dtype),
                                    .shape = sample->shapes[a],
                                    .strides = sample->strides[a]};
    return FOVEA_OK;
}

/* A copy of what an in-place tensor holds before the first call. */
static fovea_status keep_first(fovea_sample *sample, int a, fovea_message *message) {
    const fovea_argument *argument = &case_kernel(sample->c)->arguments[a];
    if (argument->role != FOVEA_IN_PLACE) return FOVEA_OK;
    sample->first[a] = malloc(sample->bytes[a]);
    if (!sample->first[a])
        return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no memory for a copy of %s",
                          argument->name);
    memcpy(sample->first[a], sample->storage[a], sample->bytes[a]);
    return FOVEA_OK;
}

static fovea_status fill_tensor(fovea_sample *sample, int a, fovea_message *message) {
    const fovea_argument *argument = &case_kernel(sample->c)->arguments[a];
    fovea_view view;
    if (argument->role == FOVEA_OUTPUT) return FOVEA_OK;
    fovea_status status =
        fovea_view_from_tensor(&sample->tensors[a], argument->name, &view, message);
    if (status != FOVEA_OK || fovea_view_elements(&view) == 0) return status;
    /* A problem that is only looked at needs its lengths, tables and ranks, which are checked; drawing
     * all else took `fovea tune` ten seconds before it began. */
    enum { FEW = 4096 };
    bool checked = argument->fill == FOVEA_FILL_BY_ROW &&
                   (!fovea_dtype_is_float(view.dtype) || fovea_view_elements(&view) <= FEW);
    if (sample->c->data == FOVEA_DATA_NONE && !checked) return FOVEA_OK;
    if (argument->fill == FOVEA_FILL_BY_ROW)
        case_kernel(sample->c)->case_fill(sample->c, a, &view);
    else
        fill_numbers(sample->c, a, argument, &view);
    return keep_first(sample, a, message);
}

/* What another sample of the case has there. */
static fovea_status copy_tensor(const fovea_sample *from, fovea_sample *sample, int a,
                                fovea_message *message) {
    if (case_kernel(sample->c)->arguments[a].role == FOVEA_OUTPUT) return FOVEA_OK;
    const void *content = from->first[a] ? from->first[a] : from->storage[a];
    memcpy(sample->storage[a], content, sample->bytes[a]);
    return keep_first(sample, a, message);
}

static void make_options(fovea_sample *sample) {
    const fovea_case *c = sample->c;
    const fovea_kernel *kernel = case_kernel(c);
    const fovea_options_layout *layout = &fovea_options_layouts[c->index];
    layout->defaults(sample->options);
    for (int p = 0; p < fovea_kernel_parameters(kernel); p++)
        fovea_parameter_write(c->index, sample->options, p, c->parameters[p]);
    for (int a = 0; a < fovea_kernel_arguments(kernel); a++) {
        DLTensor *tensor = &sample->tensors[a];
        if (!(sample->present >> a & 1)) continue;
        if (kernel->arguments[a].optional)
            memcpy(sample->options + layout->argument[a], &tensor, sizeof tensor);
        else
            sample->required[sample->count++] = tensor;
    }
}

/* from: a sample of the same case, of which this one becomes a copy; NULL: numbers are drawn. */
static fovea_status create(const fovea_case *c, const fovea_case_memory *memory,
                           const fovea_sample *from, fovea_sample *sample, fovea_message *message) {
    const fovea_kernel *kernel = case_kernel(c);
    memset(sample, 0, sizeof *sample);
    sample->c = c;
    sample->memory =
        memory ? *memory : (fovea_case_memory){.allocate = heap_allocate, .release = heap_release};
    fovea_status status = FOVEA_OK;
    for (int a = 0; a < fovea_kernel_arguments(kernel) && status == FOVEA_OK; a++) {
        if (kernel->arguments[a].optional && !(c->optional >> a & 1)) continue;
        status = make_tensor(sample, a, message);
        if (status != FOVEA_OK) break;
        status = from ? copy_tensor(from, sample, a, message) : fill_tensor(sample, a, message);
    }
    if (status == FOVEA_OK) {
        make_options(sample);
        status = fovea_problem_create(c->index, (const DLTensor *const *)sample->required,
                                      sample->count, sample->options, sample->problem_options,
                                      &sample->problem, message);
    }
    if (status != FOVEA_OK) fovea_sample_destroy(sample);
    return status;
}

fovea_status fovea_sample_create(const fovea_case *c, const fovea_case_memory *memory,
                                 fovea_sample *sample, fovea_message *message) {
    return create(c, memory, NULL, sample, message);
}

fovea_status fovea_sample_copy(const fovea_sample *from, const fovea_case_memory *memory,
                               fovea_sample *sample, fovea_message *message) {
    return create(from->c, memory, from, sample, message);
}

typedef struct restoring {
    char *to;
    const char *from; /* NULL: the poison */
    size_t bytes;
} restoring;

static void restore_pieces(void *task, int64_t piece, int64_t end, int thread) {
    const restoring *r = task;
    size_t first = (size_t)piece * RESTORED_AT_ONCE, limit = (size_t)end * RESTORED_AT_ONCE;
    size_t bytes = (limit < r->bytes ? limit : r->bytes) - first;
    (void)thread;
    if (r->from)
        memcpy(r->to + first, r->from + first, bytes);
    else
        memset(r->to + first, 0xA5, bytes);
}

void fovea_sample_restore(fovea_sample *sample) {
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        restoring r = {sample->storage[a], sample->first[a], sample->bytes[a]};
        if (!(sample->present >> a & 1)) continue;
        if (case_kernel(sample->c)->arguments[a].role != FOVEA_OUTPUT && !r.from) continue;
        int64_t pieces = (int64_t)((r.bytes + RESTORED_AT_ONCE - 1) / RESTORED_AT_ONCE);
        int threads = pieces > 16 ? fovea_processor_get()->threads : 1;
        fovea_parallel(pieces, 1, threads, restore_pieces, &r);
    }
}

void fovea_sample_destroy(fovea_sample *sample) {
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        if (sample->storage[a])
            sample->memory.release(sample->memory.user, sample->storage[a], sample->bytes[a], a);
        free(sample->first[a]);
    }
    memset(sample->storage, 0, sizeof sample->storage);
    memset(sample->first, 0, sizeof sample->first);
    sample->present = 0;
}
