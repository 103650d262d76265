/* Cases of `fovea check`. What a kernel can be asked is a product of factors (extents, dtype,
 * memory layout, data, parameters, optional tensors) that is far too large to be run in full. The
 * cases are drawn so that every pair of values of two factors meets early: each new case is the one
 * of several random candidates that holds most pairs not seen yet (Cohen et al., The AETG system,
 * 1997). */
#include "check_case.h"
#include "bench_statistics.h"

#include "catalogue/append.h"
#include "catalogue/attention.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const variant_names[FOVEA_VARIANT_COUNT] = {"plain", "alias", "expand"};
static const char *const touch_names[FOVEA_TOUCH_COUNT] = {
    "none", "q", "k", "v", "bias", "mask", "beyond", "channels", "outliers"};

/* ---- Text ----------------------------------------------------------------------------------- */

const char *fovea_check_case_text(const fovea_check_case *check, char *text, size_t size) {
    const fovea_case *c = &check->c;
    fovea_case_text(c, text, size);
    size_t used = strlen(text);
    if (c->group_rank != 1) {
        used += (size_t)snprintf(text + used, size - used, ",split=");
        if (c->group_rank == 0) used += (size_t)snprintf(text + used, size - used, "scalar");
        for (int i = 0; i < c->group_rank && used < size; i++)
            used += (size_t)snprintf(text + used, size - used, "%s%lld", i ? "x" : "",
                                     (long long)c->group[i]);
    }
    if (check->variant && used < size)
        used += (size_t)snprintf(text + used, size - used, ",variant=%s",
                                 variant_names[check->variant]);
    if (check->touch && used < size)
        used += (size_t)snprintf(text + used, size - used, ",touch=%s", touch_names[check->touch]);
    if (fovea_kernel_parameter(fovea_catalogue_kernel(c->index), "seed") >= 0 && used < size)
        snprintf(text + used, size - used, ",sample=%llu", (unsigned long long)c->seed);
    return text;
}

static bool parse_split(fovea_case *c, const char *value) {
    c->group_rank = 0;
    if (strcmp(value, "scalar") == 0) return true;
    while (c->group_rank < FOVEA_RANK_MAX) {
        char *end;
        c->group[c->group_rank++] = strtoll(value, &end, 10);
        if (end == value || c->group[c->group_rank - 1] < 0) return false;
        if (*end == 0) return true;
        if (*end != 'x') return false;
        value = end + 1;
    }
    return false;
}

static bool parse_name(const char *const *names, int count, const char *value, int *index) {
    for (*index = 0; *index < count; ++*index)
        if (strcmp(names[*index], value) == 0) return true;
    return false;
}

/* Takes an item if it is one of check's own; *ours tells. */
static bool parse_own(fovea_check_case *check, const char *key, const char *value, bool *ours) {
    int index;
    char *end;
    *ours = true;
    if (strcmp(key, "split") == 0) return parse_split(&check->c, value);
    if (strcmp(key, "variant") == 0) {
        bool known = parse_name(variant_names, FOVEA_VARIANT_COUNT, value, &index);
        return check->variant = (fovea_variant)index, known;
    }
    if (strcmp(key, "touch") == 0) {
        bool known = parse_name(touch_names, FOVEA_TOUCH_COUNT, value, &index);
        return check->touch = (fovea_touch)index, known;
    }
    if (strcmp(key, "sample") == 0)
        return check->c.seed = strtoull(value, &end, 10), end != value && !*end;
    *ours = false;
    return true;
}

/* The group's extents must multiply to the extent of its letter, and an axis must lie in it. */
static bool split_fits(const fovea_case *c) {
    int letter = fovea_kernel_shape(c->index, 0)->group;
    int64_t product = 1;
    for (int i = 0; i < c->group_rank; i++) product *= c->group[i];
    return c->group_rank == 1 || (letter >= 0 && c->extents[letter] == product);
}

static fovea_status parse_items(fovea_check_case *check, char *items, fovea_message *message) {
    for (char *item = items, *next; item && *item; item = next) {
        bool ours = false;
        if ((next = strchr(item, ','))) *next++ = 0;
        char *value = strchr(item, '=');
        if (value) {
            *value = 0;
            bool right = parse_own(check, item, value + 1, &ours);
            *value = '=';
            if (!right)
                return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s: check has no such value",
                                  item);
        }
        fovea_status status = ours ? FOVEA_OK : fovea_case_parse(&check->c, item, 0, message);
        if (status != FOVEA_OK) return status;
    }
    return FOVEA_OK;
}

fovea_status fovea_check_case_parse(fovea_check_case *check, int kernel, const char *text,
                                    fovea_message *message) {
    *check = (fovea_check_case){0};
    fovea_case_begin(&check->c, kernel);
    char *items = strdup(text);
    if (!items) return fovea_fail(message, FOVEA_OUT_OF_MEMORY, "no memory for the case");
    fovea_status status = parse_items(check, items, message);
    free(items);
    if (status == FOVEA_OK) status = fovea_case_complete(&check->c, message);
    if (status == FOVEA_OK && !split_fits(&check->c))
        status = fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                            "split does not multiply to the extent of the group");
    return status;
}

/* ---- Drawing cases that cover pairs --------------------------------------------------------- */

enum { FACTORS_MAX = 40, VALUES_MAX = 32, CANDIDATES = 24 };

/* A factor of the product: value 0 is the ordinary one and is drawn in `ordinary` percent of the
 * candidates, so that one case does not ask for everything at once and is declined. */
typedef struct factor {
    int values, ordinary;
} factor;

typedef struct cover {
    factor factors[FACTORS_MAX];
    int count;
    uint64_t random;
    /* bit b of seen[f][g][a]: value a of f and b of g have met */
    uint32_t seen[FACTORS_MAX][FACTORS_MAX][VALUES_MAX];
} cover;

static int add_factor(cover *cover, int values, int ordinary) {
    cover->factors[cover->count] = (factor){values < VALUES_MAX ? values : VALUES_MAX, ordinary};
    return cover->count++;
}

static int new_pairs(const cover *cover, const int *choice) {
    int count = 0;
    for (int f = 0; f < cover->count; f++)
        for (int g = f + 1; g < cover->count; g++)
            count += !(cover->seen[f][g][choice[f]] >> choice[g] & 1);
    return count;
}

static void candidate(cover *cover, int *choice) {
    for (int f = 0; f < cover->count; f++) {
        uint64_t word = fovea_random_next(&cover->random);
        bool ordinary = (int)(word % 100) < cover->factors[f].ordinary;
        choice[f] = ordinary ? 0 : (int)((word >> 32) % (uint64_t)cover->factors[f].values);
    }
}

static void draw_covering(cover *cover, int *choice) {
    int best = -1, attempt[FACTORS_MAX];
    for (int k = 0; k < CANDIDATES; k++) {
        candidate(cover, attempt);
        int count = new_pairs(cover, attempt);
        if (count <= best) continue;
        best = count;
        memcpy(choice, attempt, sizeof attempt);
    }
    for (int f = 0; f < cover->count; f++)
        for (int g = f + 1; g < cover->count; g++) cover->seen[f][g][choice[f]] |= 1u << choice[g];
}

static bool append(fovea_check_cases *cases, const fovea_check_case *check) {
    if (cases->count == cases->capacity) {
        int capacity = cases->capacity ? 2 * cases->capacity : 256;
        fovea_check_case *list = realloc(cases->list, (size_t)capacity * sizeof *list);
        if (!list) return false;
        cases->list = list;
        cases->capacity = capacity;
    }
    cases->list[cases->count++] = *check;
    return true;
}

void fovea_check_cases_destroy(fovea_check_cases *cases) {
    free(cases->list);
    *cases = (fovea_check_cases){0};
}

static fovea_dtype dtype_number(uint32_t set, int number) {
    for (int d = 0; d < FOVEA_DTYPE_COUNT; d++)
        if (set >> d & 1 && number-- == 0) return (fovea_dtype)d;
    return (fovea_dtype)__builtin_ctz(set);
}

/* ---- Kernels whose shapes are letters ------------------------------------------------------- */

static const int64_t lengths[] = {1023, 0, 1, 2, 3, 31, 33, 1000, 4097, 16, 64, 65, 257, 100003};
static const int64_t row_counts[] = {3, 1, 2, 0, 7, 33, 6, 30};
static const int64_t small_extents[] = {2, 1, 3, 5, 8, 17, 33, 0};

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

/* Factors of a kernel; each number is an index into cover.factors. */
typedef struct general {
    int letters[FOVEA_LETTERS_MAX], letter_count;
    int split, dtype, layout, data, variant, seed;
    int parameters[FOVEA_PARAMETERS_MAX], arguments[FOVEA_ARGUMENTS_MAX];
} general;

/* What the row lists for a letter or a parameter, "N=1 2 4;K=1 3"; how many. */
static int listed_values(const fovea_kernel *row, const char *name, int64_t values[VALUES_MAX]) {
    const char *text = row->check_values;
    int count = 0;
    for (; text && *text; text += strcspn(text, ";"), text += *text == ';') {
        size_t length = strcspn(text, "=");
        if (strlen(name) != length || strncmp(text, name, length) != 0) continue;
        char *end = (char *)(uintptr_t)(text + length);
        while ((*end == '=' || *end == ' ') && count < VALUES_MAX)
            values[count++] = strtoll(end + 1, &end, 10);
    }
    return count;
}

/* Extents that a letter takes: the group of a kernel with other letters counts rows; of several
 * letters the last is long; but what the row lists goes first. */
static const int64_t *letter_values(int kernel, const general *g, int letter, int *count) {
    static int64_t listed[VALUES_MAX];
    const fovea_shape *shape = fovea_kernel_shape(kernel, 0);
    *count = listed_values(fovea_catalogue_kernel(kernel), fovea_kernel_letter_name(kernel, letter),
                           listed);
    if (*count > 0) return listed;
    if (shape->group < 0 && g->letter_count > 1)
        return *count = COUNT(small_extents), small_extents;
    if (letter == shape->group && shape->count > 0) return *count = COUNT(row_counts), row_counts;
    for (int i = 0; i + 1 < shape->count; i++)
        if (letter == shape->letters[i]) return *count = COUNT(small_extents), small_extents;
    return *count = COUNT(lengths), lengths;
}

enum { SPLITS = 7, REAL_VALUES = 4, AXIS_VALUES = 6 };

static bool is_axis(const fovea_parameter *parameter) {
    return strcmp(parameter->name, "axis") == 0;
}

static int parameter_values(const fovea_kernel *row, const fovea_parameter *parameter) {
    int64_t listed[VALUES_MAX];
    int count = 1;
    if (is_axis(parameter)) return AXIS_VALUES;
    if (parameter->kind == FOVEA_FLAG) return 2;
    if (parameter->kind == FOVEA_REAL) return REAL_VALUES;
    if (parameter->kind == FOVEA_INTEGER) return 1 + listed_values(row, parameter->name, listed);
    for (const char *c = parameter->choices; c && *c; c++) count += *c == ',';
    return count;
}

static void general_factors(int kernel, cover *cover, general *g) {
    const fovea_kernel *row = fovea_catalogue_kernel(kernel);
    while (fovea_kernel_letter_name(kernel, g->letter_count)) g->letter_count++;
    for (int l = 0; l < g->letter_count; l++) {
        int count;
        letter_values(kernel, g, l, &count);
        bool derived = l == fovea_kernel_derived(kernel);
        g->letters[l] = add_factor(cover, derived ? 1 : count, 0);
    }
    g->split = add_factor(cover, fovea_kernel_shape(kernel, 0)->group < 0 ? 1 : SPLITS, 40);
    g->dtype = add_factor(cover, __builtin_popcount(row->dtypes), 0);
    g->layout = add_factor(cover, FOVEA_LAYOUT_COUNT, 20);
    g->data = add_factor(cover, FOVEA_DATA_COUNT, 20);
    g->variant = add_factor(cover, FOVEA_VARIANT_COUNT, 50);
    g->seed = add_factor(cover, 9, 0); /* nine places of an impulse */
    for (int p = 0; p < fovea_kernel_parameters(row); p++)
        g->parameters[p] = add_factor(cover, parameter_values(row, &row->parameters[p]), 30);
    for (int a = 0; a < fovea_kernel_arguments(row); a++) {
        const fovea_argument *argument = &row->arguments[a];
        int dtypes = argument->dtypes ? __builtin_popcount(argument->dtypes) : 1;
        g->arguments[a] = add_factor(cover, dtypes + argument->optional, 0);
    }
}

/* Splits the group's extent into dimensions in one of several ways. */
static void split_group(fovea_case *c, int letter, int way) {
    int64_t extent = letter >= 0 ? c->extents[letter] : 0;
    if (way == 0 || letter < 0) return;
    if (way == 5 && extent == 1) {
        c->group_rank = 0;
        return;
    }
    int64_t factors[4], rest = extent;
    for (int i = 0; i < COUNT(factors); i++) {
        factors[i] = 1;
        for (int64_t f = 2; f <= 31 && factors[i] == 1; f++)
            if (rest > 0 && rest % f == 0) factors[i] = f;
        rest /= factors[i];
    }
    const int64_t first = factors[0], second = factors[1], all = extent / first;
    const int64_t ways[][5] = {{first, all},
                               {all, first},
                               {first, 1, all},
                               {first, second, all / second},
                               {1, all / second, second, first},
                               {second, first, factors[2], factors[3], rest}};
    static const int ranks[] = {2, 2, 3, 3, 4, 5};
    c->group_rank = ranks[way - 1];
    memcpy(c->group, ways[way - 1], sizeof ways[0]);
}

static double parameter_value(const fovea_parameter *parameter, const fovea_case *c, int choice) {
    static const double reals[REAL_VALUES] = {0, 0.1, 0.75, 0};
    int64_t listed[VALUES_MAX];
    if (is_axis(parameter)) {
        const int axes[AXIS_VALUES] = {INT32_MIN, -1, 0, 1, 2, -2};
        bool exists = axes[choice] >= -c->group_rank && axes[choice] < c->group_rank;
        return exists ? axes[choice] : parameter->standard;
    }
    if (choice == 0) return parameter->standard;
    if (parameter->kind == FOVEA_REAL) return reals[choice];
    if (parameter->kind != FOVEA_INTEGER) /* the first of the names takes the standard's place */
        return choice == (int)parameter->standard ? 0 : choice;
    listed_values(fovea_catalogue_kernel(c->index), parameter->name, listed);
    return (double)listed[choice - 1];
}

static bool lists_extents(int kernel) {
    int64_t listed[VALUES_MAX];
    int count = 0;
    for (int l = 0; fovea_kernel_letter_name(kernel, l); l++)
        count += listed_values(fovea_catalogue_kernel(kernel), fovea_kernel_letter_name(kernel, l),
                               listed);
    return count > 0;
}

/* Whether the row takes these extents and parameters together. */
static bool is_accepted(const fovea_case *c) {
    fovea_case dry = *c;
    fovea_sample sample;
    fovea_message message;
    int derived = fovea_kernel_derived(c->index);
    if (!lists_extents(c->index) && derived < 0) return true;
    if (derived >= 0 && c->extents[derived] < 0) return false;
    dry.data = FOVEA_DATA_NONE;
    if (fovea_sample_create(&dry, NULL, &sample, &message) != FOVEA_OK) return false;
    fovea_sample_destroy(&sample);
    return true;
}

/* A variance of 0 with no eps divides by 0, where rounding alone decides the outcome; squares and
 * sums of the extremes leave the range of f32, where any outcome is accepted, single terms do not. */
static bool is_meaningful(const fovea_check_case *check) {
    const fovea_kernel *row = fovea_catalogue_kernel(check->c.index);
    if (row->of_something && check->c.extents[0] == 0) return false;
    fovea_distribution data = check->c.data;
    bool steps = fovea_kernel_parameter(row, "steps") >= 0; /* which add before they scale */
    bool pointwise = (row->elementwise && !steps) || !row->bound ||
                     strcmp(row->domain, "softmax") == 0 ||
                     fovea_case_parameter(&check->c, "reduction") == 0;
    if (data == FOVEA_DATA_EXTREMES && !pointwise) return false;
    if (fovea_case_parameter(&check->c, "eps") != 0) return true;
    int letter = fovea_kernel_letter(check->c.index, "D");
    if (letter < 0) return true;
    int64_t columns = check->c.extents[letter];
    return columns > 1 && (data == FOVEA_DATA_ROW || data == FOVEA_DATA_INTEGERS);
}

static void general_case(int kernel, const general *g, const int *choice, fovea_check_case *check) {
    const fovea_kernel *row = fovea_catalogue_kernel(kernel);
    fovea_case *c = &check->c;
    *check = (fovea_check_case){0};
    fovea_case_begin(c, kernel);
    for (int l = 0; l < g->letter_count; l++) {
        int count;
        c->extents[l] = letter_values(kernel, g, l, &count)[choice[g->letters[l]]];
    }
    split_group(c, fovea_kernel_shape(kernel, 0)->group, choice[g->split]);
    c->dtype = dtype_number(row->dtypes, choice[g->dtype]);
    c->layout = (fovea_layout)choice[g->layout];
    c->data = (fovea_distribution)choice[g->data];
    c->seed = (uint64_t)(choice[g->seed] + 9 * row->number);
    check->variant = (fovea_variant)choice[g->variant];
    if (check->variant == FOVEA_VARIANT_ALIAS && !row->elementwise)
        check->variant = FOVEA_VARIANT_PLAIN;
    for (int p = 0; p < fovea_kernel_parameters(row); p++)
        c->parameters[p] = parameter_value(&row->parameters[p], c, choice[g->parameters[p]]);
    for (int a = 0; a < fovea_kernel_arguments(row); a++) {
        const fovea_argument *argument = &row->arguments[a];
        int number = choice[g->arguments[a]] - argument->optional;
        if (number < 0) continue;
        if (argument->optional) c->optional |= 1u << a;
        uint32_t dtypes = fovea_argument_dtypes(argument, c->dtype);
        if (argument->dtypes) c->dtypes[a] = 1 + (uint32_t)dtype_number(dtypes, number);
    }
    fovea_message message;
    fovea_case_complete(c, &message);
}

static bool general_cases(int kernel, int count, cover *cover, fovea_check_cases *cases) {
    general g = {0};
    general_factors(kernel, cover, &g);
    for (int i = 0; i < count;) {
        int choice[FACTORS_MAX];
        fovea_check_case check;
        draw_covering(cover, choice);
        general_case(kernel, &g, choice, &check);
        if (!is_meaningful(&check) || fovea_check_case_work(&check) > 3e6 || !is_accepted(&check.c))
            continue;
        if (!append(cases, &check)) return false;
        i++;
    }
    return true;
}

/* ---- Attention ------------------------------------------------------------------------------ */

static const int64_t sequence_lengths[] = {65, 1,  3,  31,  33,   63,   113,  127, 129, 257,
                                           2,  16, 64, 128, 1000, 1023, 4097, 0,   5,   100};
static const int64_t head_sizes[][2] = {
    {64, 64},   {32, 32},  {40, 40}, {72, 72}, {80, 80},   {96, 96},   {112, 112},
    {128, 128}, {7, 7},    {33, 33}, {1, 1},   {192, 128}, {256, 256}, {192, 192},
    {64, 128},  {128, 64}, {64, 40}, {16, 1},  {0, 8},     {8, 0},     {0, 0}};
static const int64_t head_counts[][2] = {{2, 2}, {1, 1}, {3, 3}, {7, 7}, {8, 8}, {2, 1},
                                         {3, 1}, {7, 1}, {8, 1}, {8, 2}, {6, 3}, {8, 4}};
static const int64_t batches[] = {1, 2, 3, 5, 0};
static const double windows[][2] = {{-1, -1}, {0, 0},    {16, 0}, {7, 9},
                                    {-1, 5},  {100, -1}, {64, 64}};
static const double offsets[] = {0, 5, -7, 200};
static const double softcaps[] = {INFINITY, 20, 0.5};
static const double scales[] = {NAN, 1, 0, -0.5, 16};
static const double dropouts[] = {0, 0.25};
static const int64_t blocks[][2] = {{0, 0}, {16, 16}, {13, 40}, {64, 128}, {1, 1}};
/* What a cache holds. */
static const struct {
    fovea_dtype k, v;
    bool quantised, scaled;
} caches[] = {{0},
              {FOVEA_I8, FOVEA_I8, true, true},
              {FOVEA_E4M3, FOVEA_E4M3, true, true},
              {FOVEA_I8, FOVEA_E4M3, true, true},
              {FOVEA_E4M3, FOVEA_E4M3, true, false}};
static const fovea_distribution attention_data[] = {FOVEA_DATA_ROW,      FOVEA_DATA_SMALL,
                                                    FOVEA_DATA_CONSTANT, FOVEA_DATA_ZEROS,
                                                    FOVEA_DATA_IMPULSE,  FOVEA_DATA_INTEGERS};
/* How sequences are given: all alike, packed, used lengths, packed queries over all keys, packed
 * with used lengths, pages of several sizes, pages with packed queries. */
static const struct {
    bool packed_q, packed_k, used, table;
    int64_t page;
} sequences[] = {{0, 0, 0, 0, 16}, {1, 1, 0, 0, 16}, {0, 0, 1, 0, 16},
                 {1, 1, 1, 0, 16}, {0, 0, 1, 1, 16}, {0, 0, 1, 1, 1},
                 {0, 0, 1, 1, 5},  {1, 0, 1, 1, 16}, {1, 0, 0, 0, 16}};

enum attention_factor {
    QUERIES,
    KEYS,
    SIZES,
    HEADS,
    BATCH,
    DTYPE,
    CAUSAL,
    WINDOW,
    OFFSET,
    MASK,
    BIAS,
    SOFTCAP,
    SLOPES,
    SINKS,
    LSE,
    SEQUENCES,
    CACHE,
    DROPOUT,
    AXES,
    MEMORY,
    SCALE,
    BLOCKS,
    DATA,
    TOUCH,
    VARIANT,
    SEED,
    ATTENTION_FACTORS,
    /* Of approximate attention: */
    GRANULARITY = ATTENTION_FACTORS,
    PRODUCT,
    SMOOTHING,
    SAGE_FACTORS
};

static const factor attention_factors[SAGE_FACTORS] = {[QUERIES] = {COUNT(sequence_lengths), 0},
                                                       [KEYS] = {COUNT(sequence_lengths), 0},
                                                       [SIZES] = {COUNT(head_sizes), 0},
                                                       [HEADS] = {COUNT(head_counts), 0},
                                                       [BATCH] = {COUNT(batches), 20},
                                                       [DTYPE] = {3, 20},
                                                       [CAUSAL] = {3, 20},
                                                       [WINDOW] = {COUNT(windows), 50},
                                                       [OFFSET] = {COUNT(offsets), 60},
                                                       [MASK] = {3, 60},
                                                       [BIAS] = {3, 60},
                                                       [SOFTCAP] = {COUNT(softcaps), 70},
                                                       [SLOPES] = {2, 60},
                                                       [SINKS] = {2, 60},
                                                       [LSE] = {2, 0},
                                                       [SEQUENCES] = {COUNT(sequences), 60},
                                                       [CACHE] = {COUNT(caches), 60},
                                                       [DROPOUT] = {COUNT(dropouts), 80},
                                                       [AXES] = {2, 0},
                                                       [MEMORY] = {FOVEA_LAYOUT_COUNT, 30},
                                                       [SCALE] = {COUNT(scales), 50},
                                                       [BLOCKS] = {COUNT(blocks), 50},
                                                       [DATA] = {COUNT(attention_data), 60},
                                                       [TOUCH] = {FOVEA_TOUCH_OUTLIERS, 60},
                                                       [VARIANT] = {FOVEA_VARIANT_COUNT, 85},
                                                       [SEED] = {12, 0},
                                                       [GRANULARITY] = {3, 0},
                                                       [PRODUCT] = {3, 0},
                                                       [SMOOTHING] = {2, 70}};

static void give(fovea_case *c, int argument, fovea_dtype dtype) {
    c->optional |= 1u << argument;
    c->dtypes[argument] = 1 + (uint32_t)dtype;
}

static bool is_backward(const fovea_case *c) {
    return fovea_is_backward(fovea_catalogue_kernel(c->index));
}

/* Of rows with a shape function: attention and its gradient have queries, appending to a cache has none. */
static bool is_attention(int kernel) { return fovea_kernel_letter(kernel, "Sq") >= 0; }

static void attention_tensors(const int *choice, fovea_check_case *check) {
    fovea_case *c = &check->c;
    int number = choice[SEQUENCES];
    if (choice[MASK] || check->touch == FOVEA_TOUCH_MASK)
        give(c, FOVEA_ATTENTION_MASK, choice[MASK] == 2 ? FOVEA_U8 : FOVEA_BOOL);
    if (choice[BIAS] || check->touch == FOVEA_TOUCH_BIAS)
        give(c, FOVEA_ATTENTION_BIAS, choice[BIAS] == 2 ? FOVEA_F32 : c->dtype);
    if (caches[choice[CACHE]].quantised && !is_backward(c)) {
        c->dtypes[FOVEA_ATTENTION_K] = 1 + (uint32_t)caches[choice[CACHE]].k;
        c->dtypes[FOVEA_ATTENTION_V] = 1 + (uint32_t)caches[choice[CACHE]].v;
    }
    if (caches[choice[CACHE]].scaled) fovea_case_give(c, "k_scale");
    if (caches[choice[CACHE]].scaled) fovea_case_give(c, "v_scale");
    if (choice[SLOPES]) fovea_case_give(c, "slopes");
    if (choice[SINKS]) fovea_case_give(c, "sinks");
    if (choice[LSE]) fovea_case_give(c, "lse");
    if (c->optional >> FOVEA_ATTENTION_BIAS & 1 && choice[SEED] % 3 && fovea_case_give(c, "dbias"))
        c->dtypes[FOVEA_BACKWARD_DBIAS] = c->dtypes[FOVEA_ATTENTION_BIAS];
    if (choice[SINKS]) fovea_case_give(c, "dsinks");
    /* Something must lie beyond a length for it not to be read. */
    if (check->touch == FOVEA_TOUCH_BEYOND && !sequences[number].used)
        number = 2 + 2 * (number % 2);
    if (sequences[number].table && is_backward(c)) number = 2 + number % 2;
    if (sequences[number].packed_q) fovea_case_give(c, "cu_seqlens_q");
    if (sequences[number].packed_k) fovea_case_give(c, "cu_seqlens_k");
    if (sequences[number].used) fovea_case_give(c, "seqused_k");
    if (sequences[number].table) fovea_case_give(c, "block_table");
    fovea_case_extent(c, "Page", sequences[number].page);
}

/* Makes a case that is too much work smaller, and keeps what it is about. */
static void shrink(fovea_check_case *check, double limit, bool queries_first) {
    fovea_case *c = &check->c;
    enum { B, HQ, HKV, SQ, SK };
    int64_t *e = c->extents;
    if (fovea_check_case_work(check) > limit && e[HKV] > 1) e[HQ] /= e[HKV], e[HKV] = 1;
    if (fovea_check_case_work(check) > limit && e[B] > 2) e[B] = 2;
    if (fovea_check_case_work(check) > limit) e[queries_first ? SQ : SK] = 33;
    if (fovea_check_case_work(check) > limit && e[HQ] > 1) e[HQ] = e[HKV];
    if (fovea_check_case_work(check) > limit && e[B] > 1) e[B] = 1;
    if (fovea_check_case_work(check) > limit) e[queries_first ? SQ : SK] = 3;
}

static void attention_case(int kernel, const int *choice, double limit, fovea_check_case *check) {
    fovea_case *c = &check->c;
    *check = (fovea_check_case){.touch = (fovea_touch)choice[TOUCH]};
    fovea_case_begin(c, kernel);
    fovea_case_extent(c, "B", batches[choice[BATCH]]);
    fovea_case_extent(c, "Hq", head_counts[choice[HEADS]][0]);
    fovea_case_extent(c, "Hkv", head_counts[choice[HEADS]][1]);
    fovea_case_extent(c, "Sq", sequence_lengths[choice[QUERIES]]);
    fovea_case_extent(c, "Sk", sequence_lengths[choice[KEYS]]);
    fovea_case_extent(c, "D", head_sizes[choice[SIZES]][0]);
    fovea_case_extent(c, "Dv", head_sizes[choice[SIZES]][1]);
    c->dtype = dtype_number(fovea_catalogue_kernel(kernel)->dtypes, choice[DTYPE]);
    fovea_case_set(c, "causal", choice[CAUSAL]);
    fovea_case_set(c, "window_left", windows[choice[WINDOW]][0]);
    fovea_case_set(c, "window_right", windows[choice[WINDOW]][1]);
    fovea_case_set(c, "query_offset", offsets[choice[OFFSET]]);
    fovea_case_set(c, "softcap", softcaps[choice[SOFTCAP]]);
    fovea_case_set(c, "scale", scales[choice[SCALE]]);
    fovea_case_set(c, "dropout", dropouts[choice[DROPOUT]]);
    if (choice[DROPOUT]) fovea_case_set(c, "seed", 7 + choice[SEED]);
    if (choice[DROPOUT]) fovea_case_set(c, "dropout_offset", choice[SEED] / 2);
    fovea_case_set(c, "layout", choice[AXES]);
    fovea_case_set(c, "block_rows", (double)blocks[choice[BLOCKS]][0]);
    fovea_case_set(c, "block_keys", (double)blocks[choice[BLOCKS]][1]);
    c->layout = (fovea_layout)choice[MEMORY];
    /* Blocks of one key make one chain of the whole sum, where errors of equal values add up. */
    bool chain = blocks[choice[BLOCKS]][1] == 1;
    c->data = chain ? FOVEA_DATA_ROW : attention_data[choice[DATA]];
    c->seed = (uint64_t)choice[SEED];
    if (choice[VARIANT] == FOVEA_VARIANT_EXPAND && !choice[SEQUENCES])
        check->variant = FOVEA_VARIANT_EXPAND;
    attention_tensors(choice, check);
    shrink(check, limit, choice[SEED] & 1);
}

/* Equal values over as many keys as there are: errors of a long sum do not cancel. */
static bool attention_long_sums(int kernel, double limit, fovea_check_cases *cases) {
    enum { LONGEST = 16, CONSTANT = 2 }; /* in sequence_lengths and attention_data */
    for (int dtype = 0; dtype < 3; dtype++) {
        int choice[FACTORS_MAX] = {
            [LSE] = 1, [KEYS] = LONGEST, [DATA] = CONSTANT, [DTYPE] = dtype, [SEED] = 1};
        fovea_check_case check;
        attention_case(kernel, choice, limit, &check);
        if (!append(cases, &check)) return false;
    }
    return true;
}

/* f32 with one element of the keys far beyond the others, whose bits a scale for all of them would lose, over
 * several tiles of rows and blocks of keys. */
static bool attention_outliers(int kernel, fovea_check_cases *cases) {
    for (int causal = 0; causal < 2; causal++) {
        int choice[FACTORS_MAX] = {
            [LSE] = 1, [CAUSAL] = causal, [SEED] = 1, [TOUCH] = FOVEA_TOUCH_OUTLIERS};
        fovea_check_case check;
        attention_case(kernel, choice, INFINITY, &check);
        if (is_backward(&check.c)) return true; /* whose gradients of q would be as far apart */
        fovea_case_extent(&check.c, "Sq", 321);
        fovea_case_extent(&check.c, "Sk", 257);
        if (!append(cases, &check)) return false;
    }
    return true;
}

/* Halves with options, and of lengths in use, over several tiles and blocks, in rows that are whole 16 bytes, which some
 * kernels take by a way of their own. */
static bool attention_with_options(int kernel, fovea_check_cases *cases) {
    static const struct {
        int size, mask, bias, softcap, slopes, dropout, causal, sequences;
    } calls[] = {{.size = 64, .mask = 1},
                 {.size = 64, .bias = 1, .dropout = 1},
                 {.size = 64, .bias = 2, .causal = 1},
                 {.size = 64, .softcap = 1, .slopes = 1, .causal = 2},
                 {.size = 128, .mask = 2, .dropout = 1, .causal = 1},
                 {.size = 128, .bias = 1},
                 {.size = 128, .bias = 2, .softcap = 2},
                 {.size = 128, .slopes = 1, .dropout = 1},
                 {.size = 256, .bias = 1, .slopes = 1},
                 {.size = 256, .mask = 1, .causal = 2},
                 {.size = 256, .dropout = 1, .causal = 1},
                 {.size = 256, .sequences = 2}};
    for (int i = 0; i < COUNT(calls); i++) {
        int choice[FACTORS_MAX] = {[LSE] = 1,
                                   [BATCH] = 1,
                                   [DTYPE] = 1 + i % 2,
                                   [MASK] = calls[i].mask,
                                   [BIAS] = calls[i].bias,
                                   [SOFTCAP] = calls[i].softcap,
                                   [SLOPES] = calls[i].slopes,
                                   [DROPOUT] = calls[i].dropout,
                                   [CAUSAL] = calls[i].causal,
                                   [SEQUENCES] = calls[i].sequences,
                                   [SEED] = 1};
        fovea_check_case check;
        attention_case(kernel, choice, INFINITY, &check);
        if (is_backward(&check.c)) return true;
        fovea_case_extent(&check.c, "Sq", 209);
        fovea_case_extent(&check.c, "Sk", 272);
        fovea_case_extent(&check.c, "D", calls[i].size);
        fovea_case_extent(&check.c, "Dv", calls[i].size);
        if (!append(cases, &check)) return false;
    }
    return true;
}

/* Two heads more than an H200 has multiprocessors, each a tile: the last ones share their keys with the idle. */
static bool attention_rounds(int kernel, fovea_check_cases *cases) {
    for (int dtype = 1; dtype < 3; dtype++) {
        int choice[FACTORS_MAX] = {[LSE] = 1, [DTYPE] = dtype, [SEED] = 1};
        fovea_check_case check;
        attention_case(kernel, choice, INFINITY, &check);
        if (is_backward(&check.c)) return true;
        fovea_case_extent(&check.c, "B", 1);
        fovea_case_extent(&check.c, "Hq", 134);
        fovea_case_extent(&check.c, "Hkv", 2);
        fovea_case_extent(&check.c, "Sq", 3);
        fovea_case_extent(&check.c, "Sk", 1834);
        fovea_case_extent(&check.c, "D", 64 * dtype * dtype);
        fovea_case_extent(&check.c, "Dv", 64 * dtype * dtype);
        if (!append(cases, &check)) return false;
    }
    return true;
}

/* The calls that users make most, over several tiles and blocks, at every effort; the last two with pages of
 * 64 keys, which some kernels take a page at a time. */
static bool attention_plain(int kernel, fovea_check_cases *cases) {
    enum { KINDS = 6, PAGED = 4, TABLE = 4 }; /* the first with pages; in sequences */
    for (int dtype = 0; dtype < 3; dtype++)
        for (int kind = 0; kind < KINDS; kind++) {
            int choice[FACTORS_MAX] = {
                [LSE] = kind / 2 % 2, [DTYPE] = dtype, [CAUSAL] = kind % 2, [SEED] = 1};
            if (kind >= PAGED) choice[SEQUENCES] = TABLE;
            fovea_check_case check;
            attention_case(kernel, choice, INFINITY, &check);
            fovea_case_extent(&check.c, "Sq", 129);
            fovea_case_extent(&check.c, "Sk", 257);
            if (kind >= PAGED) fovea_case_extent(&check.c, "Page", 64);
            if (!append(cases, &check)) return false;
        }
    int empty[FACTORS_MAX] = {
        [LSE] = 1, [SIZES] = COUNT(head_sizes) - 1, [BATCH] = 1, [KEYS] = 1, [SEED] = 1};
    fovea_check_case
        check; /* heads of no size, of two sequences: what they are in has no address */
    attention_case(kernel, empty, INFINITY, &check);
    return append(cases, &check) && attention_outliers(kernel, cases) &&
           attention_with_options(kernel, cases);
}

/* Every length, head size and option by itself first: what fails here says what is wrong. */
static bool attention_singles(int kernel, double limit, fovea_check_cases *cases) {
    for (int f = 0; f < ATTENTION_FACTORS; f++)
        for (int value = f ? 1 : 0; value < attention_factors[f].values; value++) {
            int choice[FACTORS_MAX] = {[LSE] = 1, [KEYS] = 8, [SEED] = 1};
            fovea_check_case check;
            choice[f] = value;
            if (f == QUERIES) choice[KEYS] = value; /* self-attention */
            attention_case(kernel, choice, limit, &check);
            if (!append(cases, &check)) return false;
        }
    return attention_long_sums(kernel, limit, cases) && attention_rounds(kernel, cases);
}

/* The same case for the approximate algorithm. Keys far off 0 are not rounded well without smoothing,
 * and neither are those of few dimensions, whose offset is not small beside what is left of them. */
static void make_sage(const int *choice, fovea_check_case *check) {
    static const char *const names[] = {"granularity", "pv"};
    for (int f = GRANULARITY; f <= PRODUCT; f++)
        fovea_case_set(&check->c, names[f - GRANULARITY], choice[f]);
    fovea_case_set(&check->c, "algorithm", FOVEA_ATTENTION_ALGORITHM_SAGE);
    bool wide = check->c.extents[fovea_kernel_letter(check->c.index, "D")] >= 16;
    if (choice[SMOOTHING] && wide && check->touch != FOVEA_TOUCH_CHANNELS)
        fovea_case_set(&check->c, "smooth_k", 0);
}

/* At every effort, over several tiles and chunks: each product, masked and not, with the log-sum-exp and without (scores
 * that nothing else wants go another way), and keys that only smoothing rounds well. */
static bool sage_plain(int kernel, fovea_check_cases *cases) {
    for (int i = 0; i < 12; i++) {
        int choice[FACTORS_MAX] = {[LSE] = i % 2,
                                   [DTYPE] = i % 3,
                                   [CAUSAL] = i / 3 % 2,
                                   [SEED] = 1,
                                   [PRODUCT] = i / 2 % 3};
        choice[TOUCH] = i % 2 ? FOVEA_TOUCH_CHANNELS : FOVEA_TOUCH_NONE;
        choice[WINDOW] = i % 4 == 3 ? 3 : 0; /* whose blocks begin amid a word of weights */
        choice[GRANULARITY] = i / 4;
        fovea_check_case check;
        attention_case(kernel, choice, INFINITY, &check);
        make_sage(choice, &check);
        fovea_case_extent(&check.c, "Sq", 129);
        fovea_case_extent(&check.c, "Sk", 257);
        if (!append(cases, &check)) return false;
    }
    return true;
}

static bool attention_draws(int kernel, int count, bool sage, double limit, cover *cover,
                            fovea_check_cases *cases) {
    for (int i = 0; i < count; i++) {
        int choice[FACTORS_MAX];
        fovea_check_case check;
        draw_covering(cover, choice);
        attention_case(kernel, choice, limit, &check);
        if (sage) make_sage(choice, &check);
        if (!append(cases, &check)) return false;
    }
    return true;
}

static bool attention_cases(int kernel, fovea_effort effort, cover *cover,
                            fovea_check_cases *cases) {
    static const int counts[] = {40, 400, 5000};
    static const double limits[] = {2e6, 2e7, 4e8};
    for (int f = 0; f < ATTENTION_FACTORS; f++)
        add_factor(cover, attention_factors[f].values, attention_factors[f].ordinary);
    if (!attention_plain(kernel, cases)) return false;
    if (effort != FOVEA_QUICK && !attention_singles(kernel, limits[effort], cases)) return false;
    if (!attention_draws(kernel, counts[effort], false, limits[effort], cover, cases)) return false;
    /* Pairs are to meet again, this time in approximate attention. */
    memset(cover->seen, 0, sizeof cover->seen);
    for (int f = ATTENTION_FACTORS; f < SAGE_FACTORS; f++)
        add_factor(cover, attention_factors[f].values, attention_factors[f].ordinary);
    return sage_plain(kernel, cases) &&
           attention_draws(kernel, counts[effort], true, limits[effort], cover, cases);
}

/* Lengths at which calls go by pieces that threads share, and at which a device has more rows of 9765 elements than
 * it holds at once. */
enum { LENGTH_OF_PIECES = 100003, LENGTH_OF_WAVES = 450 * 9765 };

/* The benchmark's case of a length, if it has one; by the dtype of a number among those of the kernel, or by its own. */
static bool general_long(int kernel, int length, int dtype, fovea_check_cases *cases) {
    const fovea_kernel *row = fovea_catalogue_kernel(kernel);
    fovea_check_case check = {0}, longer = {0};
    fovea_message message;
    fovea_case_begin(&check.c, kernel);
    fovea_case_begin(&longer.c, kernel);
    if (!row->bench || fovea_case_parse(&check.c, row->bench, length, &message) != FOVEA_OK ||
        fovea_case_parse(&longer.c, row->bench, 2 * length, &message) != FOVEA_OK)
        return true;
    if (dtype >= 0) check.c.dtype = dtype_number(row->dtypes, dtype);
    if (fovea_case_complete(&check.c, &message) != FOVEA_OK) return true;
    bool grows = false;
    for (int l = 0; fovea_kernel_letter_name(kernel, l); l++)
        grows = grows || check.c.extents[l] != longer.c.extents[l];
    return !grows || append(cases, &check);
}

/* Rows and columns of a kernel of rows: with all optional tensors by each dtype, and without any. */
typedef struct table_size {
    int64_t rows, columns;
} table_size;
static bool general_tables(int kernel, const table_size *sizes, int count,
                           fovea_check_cases *cases) {
    const fovea_kernel *row = fovea_catalogue_kernel(kernel);
    const fovea_shape *shape = fovea_kernel_shape(kernel, 0);
    if (row->elementwise || shape->group < 0 || shape->count != 1 ||
        fovea_kernel_letter_name(kernel, 2))
        return true;
    const int dtypes = __builtin_popcount(row->dtypes);
    for (int i = 0; i < count * (dtypes + 1); i++) {
        fovea_check_case check = {0};
        fovea_message message;
        fovea_case_begin(&check.c, kernel);
        check.c.extents[shape->group] = sizes[i % count].rows;
        check.c.extents[shape->letters[0]] = sizes[i % count].columns;
        if (i / count < dtypes) {
            check.c.dtype = dtype_number(row->dtypes, i / count);
            for (int a = 0; a < fovea_kernel_arguments(row); a++)
                if (row->arguments[a].optional) check.c.optional |= 1u << a;
        }
        fovea_case_complete(&check.c, &message);
        if (is_accepted(&check.c) && !append(cases, &check)) return false;
    }
    return true;
}

/* Dense rows of whole lines, which some forms alone take, at every effort. */
static bool general_plain(int kernel, fovea_check_cases *cases) {
    static const table_size sizes[] = {{1, 4096}, {5, 2048}};
    return general_tables(kernel, sizes, COUNT(sizes), cases);
}

/* More rows than a device holds at once, so that blocks of them follow one another: rows of some lanes, of a warp, of
 * a block in registers, and in shared memory. */
static bool general_rows(int kernel, fovea_check_cases *cases) {
    static const table_size sizes[] = {
        {70000, 33}, {46000, 100}, {9000, 305}, {1100, 4096}, {450, 9765}};
    const fovea_kernel *row = fovea_catalogue_kernel(kernel);
    const int dtypes = __builtin_popcount(row->dtypes);
    for (int d = 0; strcmp(row->domain, "normalization") == 0 && d < dtypes; d++)
        if (!general_long(kernel, LENGTH_OF_WAVES, d, cases)) return false;
    return general_tables(kernel, sizes, COUNT(sizes), cases);
}

/* ---- In words ------------------------------------------------------------------------------- */

/* Calls that no draw makes: each reaches a form that only some shapes take, at every effort. */
static const struct {
    const char *kernel, *text;
} written[] = {
    /* Far from what their first elements tell; rows side by side in more than one chain. */
    {"layer_norm", "b=1,d=100003,data=step"},
    {"reduce_var", "n=100003,data=step"},
    {"batch_norm", "b=60000,c=2,t=1,mean=1,var=1,data=step"},
    {"batch_norm", "b=300,c=70,t=1,gamma=1,mean=1,var=1"},
    /* Short rows, and sets, whose first element is far from their mean; longer ones with weights. */
    {"layer_norm", "b=40,d=33"},
    {"layer_norm", "b=5,d=128,gamma=1,beta=1"},
    {"group_norm", "b=30,c=12,t=1,groups=3,gamma=1,beta=1"},
    /* Rows without a finite element for long, and to their end. */
    {"softmax_stable", "r=3,c=4096,data=masked"},
    {"softmax_online", "r=3,c=4096,data=masked"},
    {"log_softmax", "r=3,c=4096,data=masked"},
    /* Dense rows whose mask is not. */
    {"fused_layernorm_dropout_residual", "b=40,d=256,mask=1,memory=mixed,sample=1"},
    /* Along the first axis: rows that fill no fold or no eight, several tiles of columns, chunks of rows. */
    {"reduce_sum", "n=4097,split=241x17,axis=0"},
    {"reduce_sum", "n=1050,split=15x70,axis=0"},
    {"reduce_sum", "n=630000,split=2100x300,axis=0"},
    {"reduce_sum", "dtype=f64,n=330000,split=300x1100,axis=0"},
    {"reduce_mean", "n=330000,split=300x1100,axis=0"},
    /* Elements that stand apart: chunks of unlike numbers of pieces. */
    {"reduce_sum", "n=100003,memory=stepped,data=integers"},
    /* Sums of integers a piece ahead, of what roundings leave out, and of an infinity. */
    {"scan_inclusive", "dtype=i32,r=2,n=100003"},
    {"scan_exclusive", "dtype=i64,r=1,n=40003"},
    {"scan_inclusive", "dtype=f64,r=1,n=100003,data=constant"},
    {"scan_inclusive", "dtype=f64,r=1,n=1000,data=masked"},
    /* Keys that threads deal to buckets; that one does; buckets beyond the caches, of equal keys. */
    {"sort_radix", "r=1,n=40003"},
    {"sort_radix", "dtype=f64,r=1,n=300007"},
    {"sort_radix", "r=1,n=600011,data=integers"},
    /* More equal elements than 16 bits count; edges as close as elements. */
    {"reduce_histogram", "n=700000,bins=10,data=zeros"},
    {"reduce_histogram", "n=1000,bins=2000,data=far_offset"},
    /* A row in parts, by threads: more equal elements among the largest than one part has. */
    {"topk_select", "dtype=i32,r=1,n=300000,k=5300,data=far_offset"},
    /* Products that threads share, and past the caches, in blocks. */
    {"matmul_batched", "b=1,m=150,n=200,k=170"},
    {"matmul_batched", "dtype=f64,b=1,m=200,n=150,k=170"},
    {"matmul_batched", "b=2,m=24,n=64,k=300"},
    /* Products of several blocks and panels, packed and copied; fewer terms than a panel is copied by. */
    {"matmul_batched", "b=1,m=70,n=300,k=600"},
    {"matmul_batched", "b=1,m=41,n=300,k=530,transpose_a=1,transpose_b=1,alpha=0.75,beta=0.1,c=1"},
    {"matmul_batched", "dtype=f64,b=1,m=41,n=200,k=530"},
    {"matmul_batched", "b=1,m=40,n=300,k=7"},
    /* More rows than a block of sums; rows of many entries. */
    {"matvec", "b=2,r=2100,c=30,transpose=1"},
    {"spmv_csr", "z=6000,r=90,c=500"},
    {"spmv_csr", "dtype=f64,z=6000,r=90,c=500"},
    /* Rows that threads share; lengths with large prime factors, back; bins to the end of a block. */
    {"fft", "r=200,n=1000"},
    {"fft", "r=1,n=27720"},
    {"fft", "r=2,n=31,direction=inverse"},
    {"fft_real", "r=3,n=94"},
    {"fft_real", "dtype=f64,r=3,n=94"},
    /* Bands of rows past the caches, whole lines or not; planes in blocks of rows. */
    {"transpose_2d", "b=1,r=150,c=70"},
    {"transpose_2d", "b=1,r=192,c=64"},
    {"transpose_2d", "dtype=f16,b=1,r=1100,c=40"},
    {"sim_stencil_3d", "b=1,d=2,h=3000,w=3"},
    /* NaN alone in a tail or a vector; in a piece and a chunk before finite ones; pieces of a row. */
    {"quantize_f16_to_i8", "r=300,c=83,granularity=row,data=nonfinite"},
    {"quantize_f16_to_i8", "r=9,c=2060,granularity=row,data=nonfinite"},
    {"quantize_f16_to_i8", "r=1,c=100003,data=nonfinite,seed=1"},
    {"quantize_f16_to_i8", "r=3,c=5000,granularity=row"},
    {"quantize_f16_to_i8", "r=300,c=1,granularity=row,data=extremes"},
    /* Uniforms beside the limit, which lies between two of them. */
    {"prng_dropout_mask", "n=100003,keep=0.4119,seed=4"},
    /* Rows of zeros where no norm is too small; blocks and tiles of columns, and chunks of rows. */
    {"cosine_similarity", "r=30,d=3,eps=0,data=integers"},
    {"reduce_covariance_matrix", "b=1,n=7000,p=20"},
    {"reduce_pearson_pairwise", "b=1,n=5000,p=20"},
    {"reduce_pearson_pairwise", "b=2,n=60,p=300"},
    /* Rows without keys beside a sink that counts nothing; gradients along broadcast keys and rows. */
    {"attention", "b=1,hq=2,hkv=1,sq=20,sk=40,d=16,mask=bool,sinks=1,lse=1,touch=mask,sample=1"},
    {"attention_backward", "b=2,hq=4,hkv=2,sq=33,sk=65,d=16,bias=f32,sinks=1,dbias=f32,sample=5"},
    {"attention_backward", "b=3,hq=4,hkv=2,sq=37,sk=260,d=16,bias=f32,dbias=f32,sample=10"},
    {"attention_backward",
     "dtype=f16,b=2,hq=4,hkv=2,sq=37,sk=260,d=16,softcap=2,bias=f16,dbias=f16,sample=9"},
    /* Gradients of few rows: over blocks of keys within a window, of heads in groups, of lengths, of no rows. */
    {"attention_backward",
     "dtype=bf16,b=2,hq=4,hkv=2,sq=5,sk=70,d=24,dv=40,causal=bottom_right,window_left=50,sample=3"},
    {"attention_backward", "b=2,hq=6,hkv=2,sq=1,sk=9,d=32,scale=-0.5,sample=1"},
    {"attention_backward", "b=2,hq=2,hkv=2,sq=4,sk=40,d=16,causal=top_left,sample=2"},
    {"attention_backward", "b=3,hq=2,hkv=2,sq=3,sk=20,d=16,seqused_k=1,sample=4"},
    {"attention_backward", "b=3,hq=2,hkv=1,sq=6,sk=20,d=16,cu_seqlens_q=1,cu_seqlens_k=1,sample=2"},
    {"attention_backward", "b=2,hq=2,hkv=1,sq=0,sk=6,d=16,sample=1"},
    /* Over several superblocks of rows and blocks of keys of tiles: in groups, causal with edges within steps, in a window, with
     * options, of lengths, of head sizes that are no whole steps. */
    {"attention_backward",
     "dtype=bf16,b=1,hq=4,hkv=2,sq=330,sk=300,d=64,causal=bottom_right,sample=2"},
    {"attention_backward",
     "dtype=bf16,b=1,hq=2,hkv=1,sq=150,sk=290,d=40,dv=72,window_left=90,window_right=20,sample=3"},
    {"attention_backward",
     "dtype=bf16,b=2,hq=2,hkv=2,sq=70,sk=200,d=32,dropout=0.3,softcap=3,bias=bf16,mask=bool,"
     "dbias=bf16,seqused_k=1,sample=4"},
    /* Blocks that begin within a window; one to the right alone; log-sum-exps, which integers would spoil. */
    {"attention", "dtype=f16,b=1,hq=1,hkv=1,sq=257,sk=257,d=80,window_left=16,sample=1"},
    {"attention", "b=1,hq=1,hkv=1,sq=70,sk=77,d=32,window_right=5,sample=1"},
    {"attention", "dtype=f16,b=1,hq=2,hkv=2,sq=130,sk=300,d=64,lse=1,sample=1"},
    /* Packed rows under a bias and a mask of their own; few rows over pieces of keys, of two sequences. */
    {"attention",
     "b=3,hq=2,hkv=1,sq=12,sk=40,d=16,bias=f32,mask=bool,cu_seqlens_q=1,sinks=1,slopes=1,lse=1,"
     "causal=bottom_right,sample=2"},
    {"attention", "dtype=f16,b=2,hq=4,hkv=1,sq=3,sk=1100,d=40,slopes=1,mask=u8,data=small,"
                  "causal=bottom_right,sample=8"},
    /* Heads of several waves and rows without keys; keys about a mean; caches in pages. */
    {"attention",
     "algorithm=sage,dtype=f16,b=3,hq=8,hkv=8,sq=40,sk=300,d=64,causal=bottom_right,pv=i8,"
     "softcap=20,lse=1,mask=bool,touch=mask,sample=1"},
    {"attention",
     "algorithm=sage,dtype=f16,b=1,hq=2,hkv=2,sq=40,sk=300,d=64,pv=i8,touch=channels,sample=1"},
    {"attention", "algorithm=sage,dtype=f16,b=2,hq=2,hkv=2,sq=40,sk=300,d=64,k=i8,v=i8,k_scale=1,"
                  "v_scale=1,seqused_k=1,block_table=1,sample=1"},
    /* Its mean by tiles and the rest of the keys; a key that is not finite. */
    {"attention",
     "algorithm=sage,dtype=bf16,b=1,hq=2,hkv=2,sq=65,sk=150,d=64,pv=bf16,touch=channels,sample=1"},
    {"attention",
     "algorithm=sage,dtype=bf16,b=1,hq=2,hkv=2,sq=65,sk=129,d=64,pv=bf16,touch=k,sample=1"},
    /* Values that are not finite, in chunks whose end lies within a block. */
    {"attention",
     "algorithm=sage,dtype=f16,b=1,hq=1,hkv=1,sq=20,sk=150,d=64,dv=24,pv=i8,block_keys=40,"
     "touch=v,sample=3"},
    /* Pairs of bf16: odd heads, and tiles that begin with odd keys; rows without keys under no scale; large scores. */
    {"attention",
     "dtype=bf16,b=1,hq=1,hkv=1,sq=130,sk=150,d=33,dv=7,window_left=7,window_right=9,sample=1"},
    {"attention",
     "dtype=bf16,b=1,hq=1,hkv=1,sq=40,sk=33,d=16,scale=0,causal=bottom_right,lse=1,sample=1"},
    {"attention", "dtype=bf16,b=1,hq=1,hkv=1,sq=33,sk=65,d=64,scale=16,sample=1"},
    /* Caches of bytes under queries of bf16: rows of every kernel, keys that fill no group, pages. */
    {"attention",
     "dtype=bf16,b=2,hq=8,hkv=1,sq=1,sk=297,d=72,dv=40,k=i8,v=i8,k_scale=1,v_scale=1,sample=1"},
    {"attention",
     "dtype=bf16,b=2,hq=6,hkv=3,sq=5,sk=129,d=128,dv=128,page=16,k=i8,v=e4m3,lse=1,seqused_k=1,"
     "block_table=1,sample=3"},
    {"attention",
     "dtype=bf16,b=1,hq=4,hkv=1,sq=1,sk=70,d=64,dv=72,page=5,k=e4m3,v=i8,k_scale=1,v_scale=1,"
     "seqused_k=1,block_table=1,sample=1"},
    /* Queries with a stride beside dense keys; odd heads, after whose last key nothing may be read. */
    {"attention", "dtype=bf16,b=1,hq=2,hkv=1,sq=2,sk=40,d=24,memory=mixed,sample=2"},
    {"attention", "dtype=bf16,b=2,hq=1,hkv=1,sq=40,sk=33,d=7,seqused_k=1,touch=beyond,sample=1"},
    /* Caches of i8 under queries that are not finite, under ones of all bits, and the log-sum-exp of their scores. */
    {"attention", "dtype=bf16,b=1,hq=2,hkv=1,sq=2,sk=40,d=24,k=i8,v=i8,touch=q,sample=1"},
    {"attention",
     "dtype=bf16,b=2,hq=8,hkv=1,sq=8,sk=64,d=16,k=i8,v=i8,k_scale=1,v_scale=1,sample=2"},
    {"attention", "dtype=bf16,b=1,hq=2,hkv=1,sq=1,sk=2,d=128,k=i8,v=i8,lse=1,scale=0.01,sample=1"},
    /* Few rows whose scores grow by a bias or by slopes beyond what exponentials hold; scales of parts of a row, of pages. */
    {"attention", "b=1,hq=2,hkv=1,sq=1,sk=32,d=16,bias=f32,scale=0,data=offset,sample=1"},
    {"attention",
     "b=1,hq=8,hkv=1,sq=1,sk=300,d=16,k=i8,v=e4m3,k_scale=1,v_scale=1,slopes=1,sample=8"},
    {"attention", "b=2,hq=2,hkv=1,sq=1,sk=40,d=16,k=i8,v=i8,k_scale=1,v_scale=1,seqused_k=1,"
                  "block_table=1,sample=5"},
    /* Scores of f16 in integers: elements as large as their row. Parts that hold nothing of a row, in all of them. */
    {"attention", "dtype=f16,b=1,hq=1,hkv=1,sq=65,sk=33,d=2,data=integers,sample=1"},
    {"attention_merge", "p=1,b=2,hq=2,sq=9,dv=8,lse=1,data=masked"},
    /* Groups with NaN, with an infinity and of zeros; positions that no float holds. */
    {"kv_append",
     "b=1,hkv=2,t=5,s=33,d=16,k_cache=e4m3,v_cache=i8,k_scale=1,v_scale=1,data=nonfinite"},
    {"kv_append",
     "b=1,hkv=2,t=5,s=33,d=16,k_cache=e4m3,v_cache=e4m3,k_scale=1,v_scale=1,data=zeros"},
    {"rope_apply", "b=1,s=40,d=16,offset=16777217"},
    /* Sines that lie otherwise than cosines. */
    {"kv_append", "b=1,hkv=1,t=3,s=33,d=16,rope=half,cos=1,sin=1,memory=mixed,seed=4"},
    /* Rows far from 0, and far below the maximum of those that they are summed with; groups that threads share. */
    {"loss_cross_entropy", "b=101,c=100,reduction=none,data=far_offset"},
    {"loss_cross_entropy", "b=3001,c=100,reduction=none,data=step"},
    {"loss_cross_entropy", "b=20,c=100,reduction=mean,data=offset,seed=20"}, /* two are ignored */
    /* A row that runs downwards; NaN in one vector of a row; rows that fill no eight and no fold. */
    {"dot_batched", "r=1,d=33,split=scalar,memory=reversed"},
    {"reduce_max", "n=30000,split=300x100,axis=1,data=nonfinite"},
    {"reduce_sum", "n=4500,split=15x300,axis=0"},
    /* Channels side by side in more than one segment, and sets whose samples run downwards. */
    {"group_norm", "b=2,c=5000,t=1,groups=1,gamma=1,beta=1"},
    {"group_norm", "b=6,c=64,t=1,groups=2,gamma=1,beta=1,memory=reversed"},
};

static bool written_cases(int kernel, fovea_check_cases *cases) {
    for (int i = 0; i < COUNT(written); i++) {
        fovea_check_case check;
        fovea_message message;
        if (strcmp(written[i].kernel, fovea_catalogue_kernel(kernel)->name) != 0) continue;
        if (fovea_check_case_parse(&check, kernel, written[i].text, &message) != FOVEA_OK)
            return false;
        if (!append(cases, &check)) return false;
    }
    return true;
}

/* ---- Appending to a cache -------------------------------------------------------------------- */

static const int64_t new_tokens[] = {1, 2, 3, 5, 17, 0};
static const int64_t cache_lengths[] = {33, 64, 1, 5, 128, 0};
static const int64_t row_sizes[] = {64, 8, 16, 2, 40, 128, 34, 0, 7};
static const int64_t page_sizes[] = {0, 16, 1, 5};

enum append_factor {
    NEW_BATCH,
    NEW_HEADS,
    NEW_TOKENS,
    NEW_ROOM,
    NEW_SIZE,
    NEW_VALUE_SIZE,
    NEW_DTYPE,
    NEW_CACHE,
    NEW_SCALING,
    NEW_ROPE,
    NEW_TABLES,
    NEW_OFFSET,
    NEW_PAGES,
    NEW_AXES,
    NEW_MEMORY,
    NEW_DATA,
    NEW_SEED,
    APPEND_FACTORS
};

static const factor append_factors[APPEND_FACTORS] = {[NEW_BATCH] = {4, 0},
                                                      [NEW_HEADS] = {4, 0},
                                                      [NEW_TOKENS] = {COUNT(new_tokens), 0},
                                                      [NEW_ROOM] = {COUNT(cache_lengths), 0},
                                                      [NEW_SIZE] = {COUNT(row_sizes), 0},
                                                      [NEW_VALUE_SIZE] = {COUNT(row_sizes), 0},
                                                      [NEW_DTYPE] = {3, 0},
                                                      [NEW_CACHE] = {COUNT(caches), 0},
                                                      [NEW_SCALING] = {2, 60},
                                                      [NEW_ROPE] = {3, 30},
                                                      [NEW_TABLES] = {2, 50},
                                                      [NEW_OFFSET] = {0, 30}, /* as the row lists */
                                                      [NEW_PAGES] = {COUNT(page_sizes), 40},
                                                      [NEW_AXES] = {2, 0},
                                                      [NEW_MEMORY] = {FOVEA_LAYOUT_COUNT, 30},
                                                      [NEW_DATA] = {FOVEA_DATA_COUNT, 30},
                                                      [NEW_SEED] = {12, 0}};

static const fovea_parameter *offset_of(int kernel) {
    const fovea_kernel *row = fovea_catalogue_kernel(kernel);
    return &row->parameters[fovea_kernel_parameter(row, "offset")];
}

static void append_case(int kernel, const int *choice, fovea_check_case *check) {
    fovea_case *c = &check->c;
    *check = (fovea_check_case){0};
    fovea_case_begin(c, kernel);
    int64_t size = row_sizes[choice[NEW_SIZE]];
    fovea_case_extent(c, "B", (choice[NEW_BATCH] + 1) % 4);
    fovea_case_extent(c, "Hkv", (choice[NEW_HEADS] + 1) % 4);
    fovea_case_extent(c, "T", new_tokens[choice[NEW_TOKENS]]);
    fovea_case_extent(c, "S", cache_lengths[choice[NEW_ROOM]]);
    fovea_case_extent(c, "D", size);
    fovea_case_extent(c, "Dv", row_sizes[choice[NEW_VALUE_SIZE]]);
    fovea_case_extent(c, "Page", page_sizes[choice[NEW_PAGES]]);
    if (choice[NEW_PAGES]) fovea_case_give(c, "block_table");
    c->dtype = dtype_number(fovea_catalogue_kernel(kernel)->dtypes, choice[NEW_DTYPE]);
    bool quantised = caches[choice[NEW_CACHE]].quantised;
    if (quantised) {
        c->dtypes[FOVEA_APPEND_K_CACHE] = 1 + (uint32_t)caches[choice[NEW_CACHE]].k;
        c->dtypes[FOVEA_APPEND_V_CACHE] = 1 + (uint32_t)caches[choice[NEW_CACHE]].v;
        bool given = choice[NEW_SCALING] || !caches[choice[NEW_CACHE]].scaled;
        if (caches[choice[NEW_CACHE]].scaled) fovea_case_give(c, "k_scale");
        if (caches[choice[NEW_CACHE]].scaled) fovea_case_give(c, "v_scale");
        fovea_case_set(c, "scaling", given);
    }
    int rope = size % 2 == 0 ? choice[NEW_ROPE] : 0;
    fovea_case_set(c, "rope", rope);
    fovea_case_set(c, "offset", parameter_value(offset_of(kernel), c, choice[NEW_OFFSET]));
    fovea_case_set(c, "layout", choice[NEW_AXES]);
    if (rope && choice[NEW_TABLES]) fovea_case_give(c, "cos");
    if (rope && choice[NEW_TABLES]) fovea_case_give(c, "sin");
    c->layout = (fovea_layout)choice[NEW_MEMORY];
    /* Rotated, the extremes and infinities leave the range where a bound says anything. */
    c->data = rope && choice[NEW_DATA] >= FOVEA_DATA_EXTREMES
                  ? FOVEA_DATA_ROW
                  : (fovea_distribution)choice[NEW_DATA];
    c->seed = (uint64_t)choice[NEW_SEED];
}

static bool append_cases(int kernel, int count, cover *cover, fovea_check_cases *cases) {
    int offsets_listed = parameter_values(fovea_catalogue_kernel(kernel), offset_of(kernel));
    for (int f = 0; f < APPEND_FACTORS; f++)
        add_factor(cover, f == NEW_OFFSET ? offsets_listed : append_factors[f].values,
                   append_factors[f].ordinary);
    for (int i = 0; i < count; i++) {
        int choice[FACTORS_MAX];
        fovea_check_case check;
        draw_covering(cover, choice);
        append_case(kernel, choice, &check);
        if (!append(cases, &check)) return false;
    }
    return true;
}

/* ---- All ------------------------------------------------------------------------------------ */

/* What a tensor takes in memory: an extent of 0 counts as 1. */
static double elements_of(const fovea_case *c, int argument) {
    const fovea_shape *shape = fovea_kernel_shape(c->index, argument);
    double elements = shape->group >= 0 ? fmax((double)c->extents[shape->group], 1) : 1;
    for (int i = 0; i < shape->count; i++)
        elements *= fmax((double)c->extents[shape->letters[i]], 1);
    return elements;
}

static double extent_named(const char *name, const void *user) {
    const fovea_case *c = user;
    int letter = fovea_kernel_letter(c->index, name);
    return letter < 0 ? 1 : (double)c->extents[letter];
}

/* 0 where the row counts them by a function. */
static double operations_of(const fovea_case *c) {
    const char *formula = fovea_catalogue_kernel(c->index)->operations;
    return formula ? fovea_evaluate(formula, extent_named, c) : 0;
}

double fovea_check_case_work(const fovea_check_case *check) {
    const fovea_case *c = &check->c;
    if (!fovea_catalogue_kernel(c->index)->shape) {
        const fovea_kernel *row = fovea_catalogue_kernel(c->index);
        double work = 1, steps = fovea_case_parameter(c, "steps");
        for (int l = 0; fovea_kernel_letter_name(c->index, l); l++)
            if (l != fovea_kernel_derived(c->index)) work *= fmax((double)c->extents[l], 1);
        for (int a = 0; row->arguments[a].name; a++) work = fmax(work, elements_of(c, a));
        work = fmax(work * (steps > 1 ? steps : 1), operations_of(c) / 10);
        /* References of transforms of doubles are in long double, which some machines emulate. */
        return (row->norm_bound ? 100 : 10) * work;
    }
    enum { B, HQ, HKV, SQ, SK, D, DV };
    const int64_t *e = c->extents;
    if (!is_attention(c->index)) return 100 * (double)(e[0] * e[1] * (e[2] + e[3]) * (e[4] + e[5]));
    /* Without batches there are still masks and biases that all of them would share. */
    double batches = fmax((double)e[B], 1);
    double rows = batches * (double)(e[HQ] * e[SQ]), keys = (double)e[SK];
    bool full = c->optional >> FOVEA_ATTENTION_MASK & 1 || c->optional >> FOVEA_ATTENTION_BIAS & 1;
    double work = rows * keys * (2.0 * (double)(e[D] + e[DV]) + (full ? 100 : 10)) +
                  20 * (rows + batches * (double)e[HKV] * keys) * (double)(e[D] + e[DV]);
    return is_backward(c) ? 3 * work : work;
}

bool fovea_check_cases_create(int kernel, fovea_effort effort, uint64_t seed, bool device,
                              fovea_check_cases *cases) {
    static const int counts[] = {40, 300, 3000};
    cover *c = calloc(1, sizeof *c);
    *cases = (fovea_check_cases){0};
    if (!c) return false;
    c->random = seed ^ (uint64_t)kernel << 32;
    const fovea_kernel *row = fovea_catalogue_kernel(kernel);
    bool enough =
        !row->shape
            ? general_plain(kernel, cases) && general_cases(kernel, counts[effort], c, cases) &&
                  (effort == FOVEA_QUICK || (general_long(kernel, LENGTH_OF_PIECES, -1, cases) &&
                                             (!device || general_rows(kernel, cases))))
        : is_attention(kernel) ? attention_cases(kernel, effort, c, cases)
                               : append_cases(kernel, counts[effort], c, cases);
    free(c);
    return enough && written_cases(kernel, cases);
}
