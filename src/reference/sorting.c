/* Domain 13, sorting: rows as keys with their places, which qsort puts in order. */
#include "catalogue/order.h"
#include "reference/reference.h"

#include <math.h>
#include <stdlib.h>

typedef struct item {
    uint64_t key; /* compares without a sign */
    int64_t place;
} item;

static int ascending(const void *a, const void *b) {
    const item *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}

/* Larger keys first, of equal ones the lower place. */
static int descending(const void *a, const void *b) {
    const item *x = a, *y = b;
    if (x->key != y->key) return x->key > y->key ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}

/* Sorts each row of x; take(row, items) has the items in their order. */
typedef struct task {
    const fovea_problem *problem;
    double *const *outputs;
    int64_t length;
} task;

static bool each_row(const fovea_problem *problem, double *const outputs[],
                     int (*order)(const void *, const void *),
                     void (*take)(const task *, int64_t, const item *)) {
    const fovea_view *x = &problem->views[0];
    int64_t length = x->shape[x->rank - 1], rows = length ? fovea_view_elements(x) / length : 0;
    task t = {problem, outputs, length};
    item *items = malloc(((size_t)length + 1) * sizeof *items);
    for (int64_t r = 0; items && r < rows; r++) {
        for (int64_t i = 0; i < length; i++)
            items[i] =
                (item){fovea_order_key(fovea_view_read_bits(x, r * length + i), x->dtype), i};
        qsort(items, (size_t)length, sizeof *items, order);
        take(&t, r, items);
    }
    free(items);
    return items != NULL;
}

/* Output `to` gets the elements of argument `from` in the order of the items. */
static void carry(const task *t, int64_t row, const item *items, int from, int to) {
    const fovea_view *view = &t->problem->views[from];
    for (int64_t i = 0; i < t->length; i++)
        fovea_bits(t->outputs[to])[row * t->length + i] =
            fovea_view_read_bits(view, row * t->length + items[i].place);
}

static void take_keys(const task *t, int64_t row, const item *items) { carry(t, row, items, 0, 1); }

static void take_pairs(const task *t, int64_t row, const item *items) {
    carry(t, row, items, 0, 2);
    carry(t, row, items, 1, 3);
}

static void take_payload(const task *t, int64_t row, const item *items) {
    carry(t, row, items, 0, 1);
    if (t->outputs[3]) carry(t, row, items, 2, 3);
}

static void take_largest(const task *t, int64_t row, const item *items) {
    int64_t k = fovea_problem_extent(t->problem, "K");
    for (int64_t i = 0; i < k; i++) {
        fovea_bits(t->outputs[1])[row * k + i] =
            fovea_view_read_bits(&t->problem->views[0], row * t->length + items[i].place);
        t->outputs[2][row * k + i] = (double)items[i].place;
    }
}

static bool sort_bitonic(const fovea_problem *problem, double *const outputs[]) {
    return each_row(problem, outputs, ascending, take_keys);
}
static bool sort_bitonic_kv(const fovea_problem *problem, double *const outputs[]) {
    return each_row(problem, outputs, ascending, take_pairs);
}
static bool sort_radix(const fovea_problem *problem, double *const outputs[]) {
    return each_row(problem, outputs, ascending, take_payload);
}
static bool topk_select(const fovea_problem *problem, double *const outputs[]) {
    return each_row(problem, outputs, descending, take_largest);
}

static long double between(const long double *sorted, fovea_quantile place) {
    long double a = sorted[place.below], b = sorted[place.above];
    return place.fraction == 0 || a == b ? a : a + (long double)place.fraction * (b - a);
}

/* Percentiles q of each slice; the median is the 50th. */
static bool quantiles(const fovea_problem *problem, const fovea_view *q, double *values) {
    int64_t several = q ? fovea_view_elements(q) : 1;
    int64_t count = fovea_view_elements(&problem->views[q ? 2 : 1]);
    for (int64_t i = 0; i < count; i += several) {
        bool nan;
        fovea_slice slice = fovea_problem_slice(problem, i / several);
        long double *sorted = fovea_sorted_slice(&problem->views[0], &slice, &nan);
        if (!sorted) return false;
        for (int64_t j = 0; j < several; j++) {
            double percentage = q ? fovea_view_read(q, j) : 50;
            values[i + j] =
                nan ? NAN : (double)between(sorted, fovea_quantile_place(slice.count, percentage));
        }
        free(sorted);
    }
    return true;
}

static bool median_select(const fovea_problem *problem, double *const outputs[]) {
    return quantiles(problem, NULL, outputs[1]);
}
static bool percentile_select(const fovea_problem *problem, double *const outputs[]) {
    return quantiles(problem, &problem->views[1], outputs[2]);
}

const fovea_reference fovea_references_sorting[] = {{"sort_bitonic", sort_bitonic},
                                                    {"sort_bitonic_kv", sort_bitonic_kv},
                                                    {"topk_select", topk_select},
                                                    {"sort_radix", sort_radix},
                                                    {"median_select", median_select},
                                                    {"percentile_select", percentile_select},
                                                    {0}};
