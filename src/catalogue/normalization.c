/* Normalization by channels and groups, and layer_norm with dropout: what stands together, cases,
 * counts and bounds. */
#include "catalogue/network.h"
#include "runtime/parallel.h"
#include "runtime/processor.h"

#include <math.h>

fovea_norm_sets fovea_norm_describe(const fovea_problem *problem) {
    const fovea_view *x = &problem->views[0];
    fovea_norm_sets n = {.outer = x->shape[0], .channels = x->shape[1], .inner = 1};
    double groups = fovea_problem_parameter(problem, "groups");
    for (int i = 2; i < x->rank; i++) n.inner *= x->shape[i];
    if (isnan(groups)) {
        n.sets = n.channels, n.size = n.outer * n.inner;
    } else {
        n.group = n.channels / (int64_t)groups;
        n.sets = n.channels > 0 ? n.outer * (int64_t)groups : 0, n.size = n.group * n.inner;
    }
    return n;
}

fovea_status fovea_batch_norm_check(const fovea_problem *problem, fovea_message *message) {
    bool given = fovea_problem_parameter(problem, "statistics") != 0;
    if (given && !(fovea_problem_view(problem, "mean") && fovea_problem_view(problem, "var")))
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "options.statistics is given; mean and var are not both given");
    return fovea_check_epsilon(problem, message);
}

fovea_status fovea_group_norm_check(const fovea_problem *problem, fovea_message *message) {
    double groups = fovea_problem_parameter(problem, "groups");
    int64_t channels = fovea_problem_extent(problem, "C");
    if (groups < 1 || groups > 0x1p48)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "options.groups is %.0f; it is at least 1 and at most 2^48", groups);
    if (channels % (int64_t)groups != 0)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "x has %lld channels, which options.groups, %.0f, does not divide",
                          (long long)channels, groups);
    return fovea_check_epsilon(problem, message);
}

double fovea_batch_norm_operations(const fovea_problem *problem) {
    bool given = fovea_problem_parameter(problem, "statistics") != 0;
    return (given ? 2 : 7) * (double)fovea_view_elements(&problem->views[0]);
}

/* Without eps a variance near 0 makes anything of rounding. */
void fovea_norm_case_defaults(fovea_case *c) {
    int64_t channels = c->extents[fovea_kernel_letter(c->index, "C")];
    if (fovea_case_parameter(c, "statistics") > 0)
        fovea_case_give(c, "mean"), fovea_case_give(c, "var");
    if (fovea_case_parameter(c, "eps") == 0) fovea_case_set(c, "eps", 0.01);
    double most =
        fmin((double)(channels > 0 ? channels : 1), 0x1p20); /* they are tried one by one */
    double groups = fmin(fovea_case_parameter(c, "groups"), most);
    while (groups > 1 && channels % (int64_t)groups != 0) groups--;
    fovea_case_set(c, "groups", groups);
}

/* ---- Bounds --------------------------------------------------------------------------------- */

static double tree_error(int64_t n) {
    return (8 + ceil(log2(n > 2 ? (double)n : 2))) * fovea_epsilon(FOVEA_F32);
}

static double read_or(const fovea_problem *problem, const char *name, int64_t i, double otherwise) {
    const fovea_view *view = fovea_problem_view(problem, name);
    return view ? fovea_view_read(view, i) : otherwise;
}

typedef struct moments {
    double mean, magnitude, variance;
} moments;

static moments moments_of(const fovea_view *x, const fovea_norm_sets *n, int64_t set) {
    moments m = {0};
    double size = (double)n->size;
    for (int64_t i = 0; i < n->size; i++) {
        double element = fovea_view_read(x, fovea_norm_element(n, set, i));
        m.mean += element / size, m.magnitude += fabs(element) / size;
    }
    for (int64_t i = 0; i < n->size; i++) {
        double d = fovea_view_read(x, fovea_norm_element(n, set, i)) - m.mean;
        m.variance += d * d / size;
    }
    return m;
}

static double centred_error(const moments *m, int64_t n) {
    double c = tree_error(n);
    return c * m->variance + c * c * m->magnitude * m->magnitude;
}

typedef struct set_bounds {
    const fovea_problem *problem;
    const fovea_view *x, *y, *gamma, *beta;
    fovea_norm_sets n;
    bool of_mean, given; /* the output is the mean; mean and var are inputs */
    double eps, error;   /* of a sum over a set */
    const double *expected;
    double *bound;
} set_bounds;

/* The mean or var of a channel. */
static void bound_moment(const set_bounds *t, int64_t set) {
    moments m = moments_of(t->x, &t->n, set);
    t->bound[set] = t->given     ? 0
                    : t->of_mean ? t->error * m.magnitude
                                 : centred_error(&m, t->n.size);
}

static void bound_set(const set_bounds *t, int64_t set) {
    const fovea_norm_sets *n = &t->n;
    moments m = moments_of(t->x, n, set);
    double centre = t->given ? read_or(t->problem, "mean", set, 0) : m.mean;
    double variance = t->given ? read_or(t->problem, "var", set, 0) : m.variance;
    double r = 1 / sqrt(variance + t->eps);
    for (int64_t i = 0; i < n->size; i++) {
        int64_t at = fovea_norm_element(n, set, i), channel = at / n->inner % n->channels;
        double element = fovea_view_read(t->x, at);
        double size = (fabs(element) + (t->given ? fabs(centre) : m.magnitude)) * r;
        double gamma = t->gamma ? fovea_view_read(t->gamma, channel) : 1;
        double beta = t->beta ? fovea_view_read(t->beta, channel) : 0;
        double terms = fabs(gamma) * (size + fabs(element - centre) * r) + fabs(beta);
        t->bound[at] = t->error * terms;
        if (t->y->dtype != FOVEA_F32) t->bound[at] += 0.5 * fovea_ulp(t->y->dtype, t->expected[at]);
    }
}

static void bound_sets(void *task, int64_t first, int64_t end, int thread) {
    const set_bounds *t = task;
    (void)thread;
    for (int64_t set = first; set < end; set++)
        t->y->rank == 1 ? bound_moment(t, set) : bound_set(t, set);
}

void fovea_bound_norm_sets(const fovea_problem *problem, int output, const double *expected,
                           double *bound) {
    set_bounds task = {.problem = problem,
                       .x = &problem->views[0],
                       .y = &problem->views[output],
                       .gamma = fovea_problem_view(problem, "gamma"),
                       .beta = fovea_problem_view(problem, "beta"),
                       .n = fovea_norm_describe(problem),
                       .of_mean = problem->kernel->arguments[output].name[0] == 'm',
                       .given = fovea_problem_parameter(problem, "statistics") > 0,
                       .eps = fovea_problem_parameter(problem, "eps"),
                       .expected = expected,
                       .bound = bound};
    task.error = tree_error(task.n.size);
    bool large = fovea_view_elements(task.x) > 1 << 20;
    fovea_parallel(task.n.sets, 16, large ? fovea_processor_get()->threads : 1, bound_sets, &task);
}

/* ---- Dropout -------------------------------------------------------------------------------- */

bool fovea_dropout_keeps(const fovea_problem *problem, int64_t i) {
    const fovea_fused_layernorm_dropout_residual_options *options = problem->options;
    const fovea_view *mask = fovea_problem_view(problem, "mask");
    if (mask) return fovea_view_read(mask, i) != 0;
    uint64_t block = (uint64_t)i / 4, stream = (uint64_t)options->stream;
    uint64_t seed = (uint64_t)options->seed;
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)stream,
                                 (uint32_t)(stream >> 32)};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t words[4];
    fovea_philox(counter, key, words);
    return (float)(words[i % 4] >> 8) * 0x1p-24f < (float)options->keep;
}

fovea_status fovea_dropout_check(const fovea_problem *problem, fovea_message *message) {
    double keep = fovea_problem_parameter(problem, "keep");
    if (!(keep >= 0 && keep <= 1))
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "options.keep is %g; it is between 0 and 1", keep);
    return fovea_check_epsilon(problem, message);
}

/* Divided by a keep of 0, what rounding makes of 0 is anything. */
void fovea_dropout_case_defaults(fovea_case *c) {
    bool mask = c->optional >> fovea_kernel_argument(fovea_catalogue_kernel(c->index), "mask") & 1;
    if (mask && fovea_case_parameter(c, "keep") == 0) fovea_case_set(c, "keep", 0.5);
    if (fovea_case_parameter(c, "eps") == 0) fovea_case_set(c, "eps", 0.01);
}

double fovea_dropout_operations(const fovea_problem *problem) {
    bool mask = fovea_problem_view(problem, "mask") != NULL;
    return (mask ? 9 : 32) * (double)fovea_view_elements(&problem->views[0]);
}

typedef struct dropout_bounds {
    const fovea_problem *problem;
    fovea_dtype dtype;
    double keep;
    const double *expected;
    double *bound; /* of layer_norm; becomes that of the whole */
} dropout_bounds;

static void bound_kept(void *task, int64_t first, int64_t end, int thread) {
    const dropout_bounds *t = task;
    bool half = t->dtype != FOVEA_F32;
    (void)thread;
    for (int64_t i = first; i < end; i++) {
        double expected = t->expected[i];
        double rounding = half ? 0.5 * fovea_ulp(t->dtype, expected) : 0;
        double error =
            (t->bound[i] - rounding) / t->keep + fovea_epsilon(FOVEA_F32) * fabs(expected);
        t->bound[i] = fovea_dropout_keeps(t->problem, i) ? error + rounding : 0;
    }
}

void fovea_bound_dropout_residual(const fovea_problem *problem, int output, const double *expected,
                                  double *bound) {
    const fovea_view *y = &problem->views[output];
    int64_t count = fovea_view_elements(y);
    double keep = (double)(float)fovea_problem_parameter(problem, "keep");
    dropout_bounds task = {problem, y->dtype, keep, expected, bound};
    if (y->dtype == FOVEA_U8) { /* which elements were kept */
        for (int64_t i = 0; i < count; i++) bound[i] = 0;
        return;
    }
    fovea_bound_layer_norm(problem, output, expected, bound);
    int threads = count > 1 << 20 ? fovea_processor_get()->threads : 1;
    fovea_parallel(count, 1 << 16, threads, bound_kept, &task);
}
