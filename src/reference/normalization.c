/* Domain 5, normalization, in double, and what extends layer_norm. */
#include "catalogue/network.h"
#include "reference/reference.h"
#include "runtime/parallel.h"
#include "runtime/processor.h"

#include <math.h>

static double read_or(const fovea_view *view, int64_t i, double otherwise) {
    return view ? fovea_view_read(view, i) : otherwise;
}

typedef struct rows {
    const fovea_problem *problem;
    const fovea_view *x, *gamma, *beta;
    int64_t n;
    double eps;
    double *y;
    /* With dropout, which adds a residual: */
    bool drops;
    double keep;
    double *kept; /* NULL: not asked for */
} rows;

static void normalise_row(const rows *t, int64_t row) {
    int64_t n = t->n;
    double mean = 0, variance = 0;
    for (int64_t i = row * n; i < (row + 1) * n; i++) mean += fovea_view_read(t->x, i);
    mean /= (double)n;
    for (int64_t i = row * n; i < (row + 1) * n; i++) {
        double centred = fovea_view_read(t->x, i) - mean;
        variance += centred * centred;
    }
    double r = 1 / sqrt(variance / (double)n + t->eps);
    for (int64_t i = row * n; i < (row + 1) * n; i++) {
        double y = read_or(t->gamma, i % n, 1) * (fovea_view_read(t->x, i) - mean) * r +
                   read_or(t->beta, i % n, 0);
        bool keeps = !t->drops || fovea_dropout_keeps(t->problem, i);
        if (t->drops) y = (keeps ? y / t->keep : 0) + fovea_view_read(&t->problem->views[1], i);
        if (t->kept) t->kept[i] = keeps;
        t->y[i] = y;
    }
}

static void normalise_some_rows(void *task, int64_t first, int64_t end, int thread) {
    (void)thread;
    for (int64_t row = first; row < end; row++) normalise_row(task, row);
}

static rows rows_of(const fovea_problem *problem, double *y) {
    const fovea_view *x = &problem->views[0];
    return (rows){.problem = problem,
                  .x = x,
                  .gamma = fovea_problem_view(problem, "gamma"),
                  .beta = fovea_problem_view(problem, "beta"),
                  .n = x->shape[x->rank - 1],
                  .eps = fovea_problem_parameter(problem, "eps"),
                  .y = y};
}

static bool normalise_rows(rows *task) {
    int64_t n = task->n, count = fovea_view_elements(task->x);
    int threads = count > 1 << 20 ? fovea_processor_get()->threads : 1;
    if (n > 0) fovea_parallel(count / n, 1 + 65536 / n, threads, normalise_some_rows, task);
    return true;
}

static bool layer_norm(const fovea_problem *problem, double *const outputs[]) {
    rows task = rows_of(problem, outputs[1]);
    return normalise_rows(&task);
}

static bool fused_layernorm_dropout_residual(const fovea_problem *problem,
                                             double *const outputs[]) {
    rows task = rows_of(problem, outputs[2]);
    task.drops = true;
    task.keep = (double)(float)fovea_problem_parameter(problem, "keep");
    task.kept = outputs[fovea_kernel_argument(problem->kernel, "kept")];
    return normalise_rows(&task);
}

typedef struct sets {
    const fovea_view *x, *gamma, *beta, *mean, *var;
    fovea_norm_sets n;
    bool given; /* mean and var are inputs */
    double eps;
    double *y, *mean_out, *var_out;
} sets;

/* The elements of a channel, or of a group of channels of one sample. */
static void normalise_set(const sets *t, int64_t set) {
    const fovea_norm_sets *n = &t->n;
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < n->size; i++)
        mean += fovea_view_read(t->x, fovea_norm_element(n, set, i));
    mean /= (double)n->size;
    for (int64_t i = 0; i < n->size; i++) {
        double d = fovea_view_read(t->x, fovea_norm_element(n, set, i)) - mean;
        variance += d * d;
    }
    variance /= (double)n->size;
    if (t->given) mean = fovea_view_read(t->mean, set);
    if (t->given) variance = fovea_view_read(t->var, set);
    if (t->mean_out) t->mean_out[set] = mean;
    if (t->var_out) t->var_out[set] = variance;
    double r = 1 / sqrt(variance + t->eps);
    for (int64_t i = 0; i < n->size; i++) {
        int64_t at = fovea_norm_element(n, set, i), channel = at / n->inner % n->channels;
        t->y[at] = read_or(t->gamma, channel, 1) * (fovea_view_read(t->x, at) - mean) * r +
                   read_or(t->beta, channel, 0);
    }
}

static void normalise_some(void *task, int64_t first, int64_t end, int thread) {
    (void)thread;
    for (int64_t set = first; set < end; set++) normalise_set(task, set);
}

static bool normalise_sets(const fovea_problem *problem, double *const outputs[]) {
    sets task = {.x = &problem->views[0],
                 .gamma = fovea_problem_view(problem, "gamma"),
                 .beta = fovea_problem_view(problem, "beta"),
                 .mean = fovea_problem_view(problem, "mean"),
                 .var = fovea_problem_view(problem, "var"),
                 .n = fovea_norm_describe(problem),
                 .given = fovea_problem_parameter(problem, "statistics") > 0,
                 .eps = fovea_problem_parameter(problem, "eps"),
                 .y = outputs[1]};
    if (task.mean) task.mean_out = outputs[fovea_kernel_argument(problem->kernel, "mean")];
    if (task.var) task.var_out = outputs[fovea_kernel_argument(problem->kernel, "var")];
    bool large = fovea_view_elements(task.x) > 1 << 20;
    fovea_parallel(task.n.sets, 16, large ? fovea_processor_get()->threads : 1, normalise_some,
                   &task);
    return true;
}

static bool rms_norm(const fovea_problem *problem, double *const outputs[]) {
    const fovea_rms_norm_options *options = problem->options;
    const fovea_view *x = &problem->views[0], *gamma = fovea_problem_view(problem, "gamma");
    int64_t n = x->shape[x->rank - 1], count = fovea_view_elements(x);
    for (int64_t row = 0; n > 0 && row < count / n; row++) {
        double squares = 0;
        for (int64_t i = row * n; i < (row + 1) * n; i++)
            squares += fovea_view_read(x, i) * fovea_view_read(x, i);
        double r = 1 / sqrt(squares / (double)n + options->eps);
        for (int64_t i = row * n; i < (row + 1) * n; i++)
            outputs[1][i] = read_or(gamma, i % n, 1) * fovea_view_read(x, i) * r;
    }
    return true;
}

const fovea_reference fovea_references_normalization[] = {
    {"layer_norm", layer_norm},
    {"rms_norm", rms_norm},
    {"batch_norm", normalise_sets},
    {"group_norm", normalise_sets},
    {"fused_layernorm_dropout_residual", fused_layernorm_dropout_residual},
    {0}};
