/* Domain 7, losses. Terms of two tensors are folded where they are reduced and mapped where they are
 * not; their gradient is a second pass. Cross entropy goes row by row and reads each logit from
 * memory once: maximum, exponentials and gradient find the row in the first-level cache. Logarithms
 * of the sums are taken of as many rows at a time as a vector has lanes. */
#include "catalogue/network.h"
#include "cpu/fold.h"
#include "cpu/map.h"
#include "cpu/softmax.h"

#include <stdatomic.h>

/* ---- Terms of two tensors ------------------------------------------------------------------- */

/* A term of a and b, or its slope; d is a constant of the loss. */
typedef vf loss_function(vf a, vf b, vf d);

/* What `count` elements need later. */
FOVEA_INLINE void fetch_terms(bool near, fovea_dtype dtype, const void *x, const void *w, int64_t i,
                              int64_t count) {
    const int64_t size = dtype == FOVEA_F32 ? 4 : 2;
    fetch_ahead(near, x, i * size, count * size), fetch_ahead(near, w, i * size, count * size);
}

/* One vector at a time: terms with logarithms are long, and the others wait for memory. */
FOVEA_INLINE void run_terms(loss_function *function, fovea_dtype in, fovea_dtype out,
                            const float *constants, char *const at[], int64_t n) {
    enum { W = VF_WIDTH };
    const bool near = fovea_fetches_near;
    const vf d = vf_set1(constants[0]), scale = vf_set1(constants[1]);
    int64_t i = 0;
    for (; i + W <= n; i += W) {
        fetch_terms(near, in, at[1], at[2], i, W);
        vf y = function(vf_load_as(in, at[1], i), vf_load_as(in, at[2], i), d);
        vf_store_as(out, at[0], i, vf_mul(y, scale));
    }
    if (i == n) return;
    vf y = function(vf_load_n_as(in, at[1], i, n - i), vf_load_n_as(in, at[2], i, n - i), d);
    vf_store_n_as(out, at[0], i, vf_mul(y, scale), n - i);
}

/* How many of the first elements it took, in fours of vectors: a vector of sums for each four vectors of terms. */
typedef int64_t fours_function(float constant, const void *x, const void *w, int64_t n,
                               float *sums);

FOVEA_INLINE int64_t sum_fours(loss_function *term, fovea_dtype dtype, float constant,
                               const void *x, const void *w, int64_t n, float *sums) {
    enum { W = VF_WIDTH };
    const vf d = vf_set1(constant);
    const bool near = fovea_fetches_near;
    int64_t i = 0;
    for (; i + 4 * W <= n; i += 4 * W) {
        fetch_terms(near, dtype, x, w, i, 4 * W);
        vf t[4];
        VF_UNROLLED for (int k = 0; k < 4; k++) {
            int64_t at = i + k * W;
            t[k] = term(vf_load_as(dtype, x, at), vf_load_as(dtype, w, at), d);
        }
        vf_store(sums + i / 4, vf_add(vf_add(t[0], t[1]), vf_add(t[2], t[3])));
    }
    return i;
}

/* Sums, and terms that are left, go through a block in the first-level cache, so that each is compiled once a
 * dtype: folded where they arise, they took the compiler minutes. */
static void sum_terms(fours_function *fours, map_function *terms, int64_t size, double constant,
                      const void *x, const void *w, int64_t n, fold *f) {
    enum { BLOCK = 4096 };
    _Alignas(64) float block[BLOCK / 4];
    const float constants[2] = {(float)constant, 1};
    f->count = n, f->value[0] = 0;
#define ADD(count)                                                                                 \
    f->value[0] += sum_float(add_element_float, FOVEA_F32, FOVEA_F32, block, NULL, 0, 0, count)
    for (int64_t i = 0, count; i < n; i += count) {
        count = smaller(BLOCK, n - i);
        char *a = (char *)(uintptr_t)x + i * size, *b = (char *)(uintptr_t)w + i * size;
        int64_t taken = fours(constants[0], a, b, count, block),
                rest = smaller(count - taken, BLOCK / 4);
        if (taken > 0) ADD(taken / 4);
        char *const at[] = {(char *)block, a + taken * size, b + taken * size};
        terms(constants, at, rest, false);
        if (rest > 0) ADD(rest);
        count = taken + rest;
    }
#undef ADD
}

typedef struct loss_functions {
    fold_run *sum[3]; /* by dtype */
    map_function *terms[3], *gradient[3];
} loss_functions;

static double finish_mean(double p, const fold *f) {
    return (void)p, f->value[0] / (double)f->count;
}

static fovea_status reduce_terms(const fovea_problem *problem, fovea_run *run,
                                 const loss_functions *functions, float constant) {
    bool mean = fovea_loss_reduction(problem) == FOVEA_MEAN;
    fold_plan plan = {
        .method = {functions->sum[problem->dtype], fold_add, mean ? finish_mean : fold_sum, {0}},
        .constant = (double)constant,
        .inputs = 2};
    if (!fovea_given(problem, FOVEA_LOSS_GRADIENT)) return fold_call(problem, run, -1, &plan);
    fovea_problem forward = *problem; /* whose only output is the loss */
    forward.present &= ~(1u << FOVEA_LOSS_GRADIENT);
    return fold_call(&forward, run, -1, &plan);
}

static fovea_status map_terms(const fovea_problem *problem, fovea_run *run, map_function *function,
                              int output, const float constants[2], int64_t cost) {
    map_plan plan = {.function = function,
                     .constants = constants,
                     .operands = 3,
                     .read = ~1u,
                     .written = 1u,
                     .views = {problem->views[output], problem->views[FOVEA_LOSS_FIRST],
                               problem->views[FOVEA_LOSS_SECOND]}};
    return map_start(&plan, run, cost);
}

/* cost: of a term, in bytes of memory traffic. */
static fovea_status run_loss(const fovea_problem *problem, fovea_run *run,
                             const loss_functions *functions, float constant, int64_t cost) {
    fovea_reduction reduction = fovea_loss_reduction(problem);
    double divisor = 1;
    if (reduction == FOVEA_MEAN)
        divisor = (double)fovea_view_elements(&problem->views[FOVEA_LOSS_FIRST]);
    const float one[2] = {constant, 1}, shared[2] = {constant, (float)(1 / divisor)};
    int allowed = run->threads;
    fovea_status status =
        reduction == FOVEA_NO_REDUCTION
            ? map_terms(problem, run, functions->terms[problem->dtype], FOVEA_LOSS_LOSS, one, cost)
            : reduce_terms(problem, run, functions, constant);
    if (status != FOVEA_OK || !fovea_given(problem, FOVEA_LOSS_GRADIENT)) return status;
    run->threads = allowed;
    return map_terms(problem, run, functions->gradient[problem->dtype], FOVEA_LOSS_GRADIENT, shared,
                     cost);
}

/* The functions of a loss whose terms are name_term and name_slope. */
#define TERMS_OF(name, dtype, type)                                                                \
    static void name##_terms_##type(const float *c, char *const at[], int64_t n, bool stream) {    \
        (void)stream;                                                                              \
        run_terms(name##_term, dtype, FOVEA_F32, c, at, n);                                        \
    }                                                                                              \
    static void name##_gradient_##type(const float *c, char *const at[], int64_t n, bool stream) { \
        (void)stream;                                                                              \
        run_terms(name##_slope, dtype, dtype, c, at, n);                                           \
    }
/* And that of its sum, by name_fours, which takes a dtype. */
#define SUM_OF(name, dtype, type, size)                                                            \
    static int64_t name##_fours_##type(float constant, const void *x, const void *w, int64_t n,    \
                                       float *sums) {                                              \
        return name##_fours(dtype, constant, x, w, n, sums);                                       \
    }                                                                                              \
    static void name##_sum_##type(double constant, const void *x, const void *w, int64_t at,       \
                                  int64_t n, fold *f) {                                            \
        (void)at;                                                                                  \
        sum_terms(name##_fours_##type, name##_terms_##type, size, constant, x, w, n, f);           \
    }
#define TERMS(name)                                                                                \
    TERMS_OF(name, FOVEA_F32, f32)                                                                 \
    TERMS_OF(name, FOVEA_F16, f16)                                                                 \
    TERMS_OF(name, FOVEA_BF16, bf16)
#define FUNCTIONS(name)                                                                            \
    SUM_OF(name, FOVEA_F32, f32, 4)                                                                \
    SUM_OF(name, FOVEA_F16, f16, 2)                                                                \
    SUM_OF(name, FOVEA_BF16, bf16, 2)                                                              \
    static const loss_functions name##_functions = {                                               \
        {name##_sum_f32, name##_sum_f16, name##_sum_bf16},                                         \
        {name##_terms_f32, name##_terms_f16, name##_terms_bf16},                                   \
        {name##_gradient_f32, name##_gradient_f16, name##_gradient_bf16}};
#define LOSS(name)                                                                                 \
    TERMS(name)                                                                                    \
    FOVEA_INLINE int64_t name##_fours(fovea_dtype dtype, float constant, const void *x,            \
                                      const void *w, int64_t n, float *sums) {                     \
        return sum_fours(name##_term, dtype, constant, x, w, n, sums);                             \
    }                                                                                              \
    FUNCTIONS(name)
/* A function of two tensors and a constant, of which not all look at it. */
#define OF_TWO(name, expression)                                                                   \
    FOVEA_INLINE vf name(vf a, vf b, vf d) {                                                       \
        (void)d;                                                                                   \
        return expression;                                                                         \
    }

OF_TWO(mse_term, vf_mul(vf_sub(a, b), vf_sub(a, b)))
OF_TWO(mse_slope, vf_mul(vf_set1(2), vf_sub(a, b)))
LOSS(mse)

/* 1, -1, or x where it is 0 or NaN. */
FOVEA_INLINE vf sign(vf x) {
    vf below = vf_select(vf_lt(x, vf_set1(0)), vf_set1(-1), x);
    return vf_select(vf_gt(x, vf_set1(0)), vf_set1(1), below);
}
OF_TWO(mae_term, vf_abs(vf_sub(a, b)))
OF_TWO(mae_slope, sign(vf_sub(a, b)))
LOSS(mae)

FOVEA_INLINE vf huber_term(vf a, vf b, vf d) {
    vf distance = vf_abs(vf_sub(a, b)), half = vf_set1(0.5f);
    vf square = vf_mul(half, vf_mul(distance, distance));
    vf line = vf_mul(d, vf_fnma(half, d, distance));
    return vf_select(vf_le(distance, d), square, line);
}
/* The limits come first, so that NaN passes. */
OF_TWO(huber_slope, vf_min(d, vf_max(vf_neg(d), vf_sub(a, b))))
LOSS(huber)

/* Where p is 0 and q a number. */
FOVEA_INLINE vm no_share(vf p, vf q) {
    return vm_and(vf_eq(p, vf_set1(0)), vm_not(vf_unordered(q, q)));
}
/* By two logarithms where the quotient is no normal number, as is p = 1 beside a subnormal q. */
FOVEA_INLINE vf kl_div_term(vf a, vf b, vf d) {
    (void)d;
    vf quotient = vf_div(a, b), log = vf_log(quotient);
    vm zero = no_share(a, b);
    vm normal = vm_and(vf_ge(quotient, vf_set1(0x1p-126f)), vf_lt(quotient, vf_set1(INFINITY)));
    if (!vm_all(vm_or(normal, zero))) {
        vi negative = vi_sar(vf_as_vi(quotient), 31); /* all ones, which make a NaN */
        vf log_b = vf_log(vf_abs(b)), apart = vf_sub(vf_log(vf_abs(a)), log_b);
        vf no_number = vi_as_vf(vi_or(negative, vf_as_vi(apart)));
        log = vf_select(normal, log, vf_select(vf_lt(log_b, vf_set1(INFINITY)), no_number, apart));
    }
    return vf_select(zero, vf_set1(0), vf_mul(a, log));
}
OF_TWO(kl_div_slope, vf_select(no_share(a, b), vf_set1(0), vf_neg(vf_div(a, b))))
TERMS(kl_div)

/* On AVX-512 without a division, up to terms of which this makes no numbers, or quotients that may not be normal: those of
 * four vectors 7.1 and 5.4 ns a vector from a cache. */
FOVEA_INLINE int64_t kl_div_fours(fovea_dtype dtype, float constant, const void *x, const void *w,
                                  int64_t n, float *sums) {
#ifdef FOVEA_TIER_AVX512
    enum { W = VF_WIDTH };
    const bool near = fovea_fetches_near;
    const vf most = vf_set1(INFINITY), tame = vf_set1(0x1p-100f);
    int64_t i = 0;
    (void)constant;
    for (; i + 4 * W <= n; i += 4 * W) {
        fetch_terms(near, dtype, x, w, i, 4 * W);
        vf sum = vf_set1(0), least = most;
        VF_UNROLLED for (int k = 0; k < 4; k++) {
            int64_t at = i + k * W;
            vf p = vf_load_as(dtype, x, at), q = vf_load_as(dtype, w, at), quotient;
            sum = vf_fma(p, vf_log_quotient(p, q, &quotient), sum);
            least = vf_min(least, quotient);
        }
        if (!vm_all(vm_and(vf_lt(vf_abs(sum), most), vf_ge(least, tame)))) break;
        vf_store(sums + i / 4, sum);
    }
    return i;
#else
    return sum_fours(kl_div_term, dtype, constant, x, w, n, sums);
#endif
}
FUNCTIONS(kl_div)

/* The limits come first, so that NaN passes. */
FOVEA_INLINE vf probability(vf p) {
    return vf_min(vf_set1((float)FOVEA_BCE_MOST), vf_max(vf_set1((float)FOVEA_BCE_LEAST), p));
}
/* What the target finds likely; `plain` where all targets are 0 or 1, as a rule. */
FOVEA_INLINE vf likelihood(vf a, vf b, vm *plain) {
    vf p = probability(a);
    vm one = vf_eq(b, vf_set1(1)), zero = vf_eq(b, vf_set1(0));
    *plain = vm_and(*plain, vm_or(one, zero));
    return vf_select(one, p, vf_sub(vf_set1(1), p));
}
FOVEA_INLINE vf bce_term(vf a, vf b, vf d) {
    vf p = probability(a), rest = vf_sub(vf_set1(1), p);
    vm plain = vf_eq(vf_set1(0), vf_set1(0));
    vf likely = likelihood(a, b, &plain);
    (void)d;
    if (vm_all(plain)) return vf_neg(vf_log(likely));
    vf negative = vf_mul(vf_sub(vf_set1(1), b), vf_log(rest));
    return vf_neg(vf_fma(b, vf_log(p), negative));
}
FOVEA_INLINE vf bce_slope(vf a, vf b, vf d) {
    vf p = probability(a);
    (void)d;
    return vf_div(vf_sub(p, b), vf_mul(p, vf_sub(vf_set1(1), p)));
}
TERMS(bce)

/* Of four terms one logarithm, of the product of their likelihoods, each at least 1e-7, up to targets that are
 * neither 0 nor 1. */
FOVEA_INLINE int64_t bce_fours(fovea_dtype dtype, float constant, const void *x, const void *w,
                               int64_t n, float *sums) {
    enum { W = VF_WIDTH };
    const bool near = fovea_fetches_near;
    int64_t i = 0;
    (void)constant;
    for (; i + 4 * W <= n; i += 4 * W) {
        fetch_terms(near, dtype, x, w, i, 4 * W);
        vm plain = vf_eq(vf_set1(0), vf_set1(0));
        vf product[4];
        VF_UNROLLED for (int k = 0; k < 4; k++) {
            int64_t at = i + k * W;
            product[k] = likelihood(vf_load_as(dtype, x, at), vf_load_as(dtype, w, at), &plain);
        }
        if (!vm_all(plain)) break;
        vf all = vf_mul(vf_mul(product[0], product[1]), vf_mul(product[2], product[3]));
        vf_store(sums + i / 4, vf_neg(vf_log(all)));
    }
    return i;
}
FUNCTIONS(bce)

OF_TWO(bce_logits_term, vf_add(vf_fnma(a, b, vf_max(vf_set1(0), a)), vf_log1p_exp(a)))
OF_TWO(bce_logits_slope, vf_sub(vf_sigmoid(a), b))
LOSS(bce_logits)

static fovea_status loss_mse(const fovea_problem *problem, fovea_run *run) {
    return run_loss(problem, run, &mse_functions, 0, 8);
}
static fovea_status loss_mae(const fovea_problem *problem, fovea_run *run) {
    return run_loss(problem, run, &mae_functions, 0, 8);
}
static fovea_status loss_huber(const fovea_problem *problem, fovea_run *run) {
    const fovea_loss_huber_options *options = problem->options;
    return run_loss(problem, run, &huber_functions, (float)options->delta, 12);
}
static fovea_status loss_kl_div(const fovea_problem *problem, fovea_run *run) {
    return run_loss(problem, run, &kl_div_functions, 0, 24);
}
static fovea_status loss_bce(const fovea_problem *problem, fovea_run *run) {
    const fovea_loss_bce_options *options = problem->options;
    const loss_functions *functions = options->from_logits ? &bce_logits_functions : &bce_functions;
    return run_loss(problem, run, functions, 0, 32);
}

/* ---- Cross entropy -------------------------------------------------------------------------- */

typedef struct entropy_plan {
    fovea_view target, loss; /* loss: of each row, as it is or in the workspace */
    int64_t ignored;
    double on, off, scale; /* weights of the target and of all; what gradients are multiplied by */
    bool gradient;
    float *sums;              /* NULL: losses are written; else that of each group of rows is */
    _Atomic int64_t *counted; /* of groups: rows that are not ignored */
} entropy_plan;

/* What the losses of some rows follow from; lanes are rows. more: what the logarithms of the sums leave out. */
typedef struct entropy_rows {
    float maximum[VF_WIDTH], sum[VF_WIDTH], more[VF_WIDTH], target[VF_WIDTH], all[VF_WIDTH];
} entropy_rows;

static int64_t read_target(const fovea_view *view, int64_t row) {
    const char *at = rows_address(view, row);
    if (view->dtype == FOVEA_I64) return *(const int64_t *)(const void *)at;
    return *(const int32_t *)(const void *)at;
}
/* Of `count` rows from `row` on. */
static void read_targets(const fovea_view *view, int64_t row, int64_t count, int64_t *targets) {
    const int64_t *dense = (const int64_t *)(const void *)view->data;
    bool follow = view->dtype == FOVEA_I64 && view->rank == 1 && view->stride[0] == 1;
    for (int64_t l = 0; l < count && follow; l++) targets[l] = dense[row + l];
    for (int64_t l = 0; l < count && !follow; l++) targets[l] = read_target(view, row + l);
}

FOVEA_INLINE vf distance(const float *x, void *state, int64_t i, int64_t n) {
    vf d = vf_sub(rows_take(x, i, n), vf_set1(*(const float *)state));
    return n == VF_WIDTH ? d : vf_select(vm_first((size_t)n), d, vf_set1(0));
}

typedef struct gradient_state {
    float factor, off;
} gradient_state;

FOVEA_INLINE vf gradient_item(const float *x, void *state, int64_t i, int64_t n) {
    const gradient_state *g = state;
    return vf_fms(rows_take(x, i, n), vf_set1(g->factor), vf_set1(g->off));
}
FOVEA_INLINE vf constant_item(const float *x, void *state, int64_t i, int64_t n) {
    (void)x, (void)i, (void)n;
    return vf_set1(*(const float *)state);
}

/* One row into lane l; its gradient to memory. */
static void entropy_row(const rows_plan *plan, int64_t row, int64_t end, float *scratch,
                        entropy_rows *block, int l) {
    const entropy_plan *entropy = plan->constants;
    int64_t n = plan->columns, target = read_target(&entropy->target, row);
    bool ignored = target == entropy->ignored, known = target >= 0 && target < n;
    char *y = rows_address(&plan->y, row);
    block->maximum[l] = 0, block->sum[l] = 1, block->all[l] = 0;
    block->target[l] = ignored ? 0 : NAN;
    if (ignored || !known) {
        float nothing = block->target[l];
        if (entropy->gradient) rows_store(plan, y, constant_item, NULL, &nothing, scratch);
        return;
    }
    const float *x = rows_load(plan->dtype, rows_address(&plan->x, row), plan->x_step, n, scratch);
    exponentials state = {row_maximum(x, n), scratch, rows_next(plan, row, end),
                          (int64_t)fovea_dtype_size(plan->dtype)};
    block->maximum[l] = state.maximum, block->target[l] = x[target];
    if (entropy->off > 0) block->all[l] = rows_sum(distance, x, &state.maximum, n);
    if (!entropy->gradient) {
        block->sum[l] = rows_sum(passing, x, &state, n);
        return;
    }
    float sum = block->sum[l] = rows_sum(exponential, x, &state, n);
    gradient_state g = {(float)(entropy->scale / sum), (float)(entropy->scale * entropy->off)};
    /* That of the target is all but a constant, of which four roundings in f32 would be too many. */
    double of_target =
        (scratch[target] / (double)sum - entropy->on - entropy->off) * entropy->scale;
    scratch[target] = (float)((of_target + g.off) / g.factor);
    rows_store(plan, y, gradient_item, scratch, &g, scratch);
}

/* Rows of a hundred classes are as long as the way from their maximum to their sum: those of a group, as many as a
 * vector has lanes, are summed about one maximum, which the pass over the group before has found, and their sums
 * and logarithms are brought together by transposing. With gradients, whose results wait for memory, rows of a lane
 * each gained nothing. */
enum { ENTROPY_BLOCK_BYTES = 24 << 10 }; /* two blocks fit the first-level cache */

static bool entropy_in_blocks(const fovea_problem *problem) {
    const fovea_view *z = &problem->views[FOVEA_LOSS_FIRST];
    int64_t columns = z->shape[z->rank - 1];
    return VF_WIDTH > 1 && problem->dtype == FOVEA_F32 && z->stride[z->rank - 1] == 1 &&
           columns >= VF_WIDTH && columns * VF_BYTES <= ENTROPY_BLOCK_BYTES &&
           fovea_cross_entropy_read(problem).off == 0 && !fovea_given(problem, FOVEA_LOSS_GRADIENT);
}

/* 2^(x log2 e - shift). Powers of two, half the operations: the terms are off by 3 ULP and, where they are small beside
 * the sum, by some more. */
FOVEA_INLINE vf lane_term(vf x, float shift) {
    return vf_exp2_softmax(vf_fms(x, vf_set1(VF_LOG2E), vf_set1(shift)));
}
/* Of a whole vector; the largest of `following`, which has its place in the next group, to `most`. */
FOVEA_INLINE vf lane_term_at(const float *x, int64_t i, float shift, const float *following,
                             vf *most) {
    fetch_ahead(fovea_fetches_near, following + i, 0, VF_BYTES);
    *most = vf_max(vf_load(following + i), *most);
    return lane_term(vf_load(x + i), shift);
}
/* The sums in each lane of a row. */
FOVEA_INLINE vf lane_sums(const float *x, float shift, int64_t n, const float *following,
                          vf most[2]) {
    enum { W = VF_WIDTH };
    vf s[2] = {vf_set1(0), vf_set1(0)};
    int64_t i = 0;
    for (; i + 2 * W <= n; i += 2 * W) {
        VF_UNROLLED for (int k = 0; k < 2; k++) s[k] =
            vf_add(s[k], lane_term_at(x, i + k * W, shift, following, &most[k]));
    }
    for (; i < n; i += W) {
        size_t count = (size_t)smaller(W, n - i);
        vm first = vm_first(count);
        vf later = vf_select(first, vf_load_n(following + i, count), vf_set1(-INFINITY));
        vf term = lane_term(vf_load_n(x + i, count), shift);
        fetch_ahead(fovea_fetches_near, following + i, 0, VF_BYTES);
        most[0] = vf_max(later, most[0]);
        s[0] = vf_add(s[0], vf_select(first, term, vf_set1(0)));
    }
    return vf_add(s[0], s[1]);
}

/* As many rows as a vector has lanes, after one another: as many vectors as a row has elements. One in which a row
 * ends and the next begins is computed once and counts for both, and where rows begin does not matter to loads. Rows
 * of 100 in L2, ns a vector: 4.5 row by row, 3.4 so; 10^7 floats from memory on two cores 1.95 and 1.86 ms, of 1.33
 * that reading takes. */
static void lane_sums_dense(const float *x, float shift, int64_t n, const float *following,
                            vf lanes[VF_WIDTH], vf most[2]) {
    enum { W = VF_WIDTH };
    const vf zero = vf_set1(0);
    vf edge = zero;
    int64_t i = 0;
    for (int64_t l = 0; l < W; l++) {
        int64_t end = (l + 1) * n, before = l * n % W, rest = end % W;
        vf s[2] = {before ? vf_select(vm_first((size_t)before), zero, edge) : zero, zero};
        for (; i + 2 * W <= end; i += 2 * W) {
            VF_UNROLLED for (int k = 0; k < 2; k++) s[k] =
                vf_add(s[k], lane_term_at(x, i + k * W, shift, following, &most[k]));
        }
        if (i + W <= end) {
            s[0] = vf_add(s[0], lane_term_at(x, i, shift, following, &most[0]));
            i += W;
        }
        if (rest) {
            edge = lane_term_at(x, i, shift, following, &most[1]);
            s[1] = vf_add(s[1], vf_select(vm_first((size_t)rest), edge, zero));
            i += W;
        }
        lanes[l] = vf_add(s[0], s[1]);
    }
}

/* Whether rows follow one another in memory. */
static bool entropy_rows_follow(const rows_plan *plan) {
    return plan->x.rank == 1 && plan->x.stride[0] == plan->columns;
}

static const float *entropy_logits(const rows_plan *plan, int64_t row) {
    return (const float *)(const void *)rows_address(&plan->x, smaller(row, plan->rows - 1));
}

/* Of a group, whichever threads have its rows. */
static float group_maximum(const rows_plan *plan, int64_t first) {
    float most = -INFINITY;
    for (int64_t row = first; row < smaller(first + VF_WIDTH, plan->rows); row++) {
        float maximum = row_maximum(entropy_logits(plan, row), plan->columns);
        if (maximum > most) most = maximum;
    }
    return most;
}

/* Rows of a group that do not count, or whose sum about the group's maximum is small or no number: these are summed
 * again, each about its own. */
static __attribute__((noinline)) void entropy_settle(const entropy_plan *entropy,
                                                     const float *const x[], int64_t n,
                                                     int64_t count, const int64_t *targets,
                                                     float least, entropy_rows *block) {
    for (int l = 0; l < count; l++) {
        bool ignored = targets[l] == entropy->ignored, known = targets[l] >= 0 && targets[l] < n;
        if (ignored || !known) {
            block->target[l] = ignored ? 0 : NAN;
            block->maximum[l] = 0, block->sum[l] = 1, block->more[l] = 0;
        } else if (!(block->sum[l] >= least && block->sum[l] < INFINITY)) {
            exponentials own = {row_maximum(x[l], n), NULL, (const char *)x[l], sizeof(float)};
            block->maximum[l] = own.maximum, block->more[l] = 0;
            block->sum[l] = rows_sum(passing, x[l], &own, n);
        }
    }
}

/* A group, one row a lane, about the maximum of the group; returns that of the next, if it begins before
 * row `end`. Terms are one multiply-add and a power: the shift is the maximum times log2 e, rounded, and what that
 * leaves out is known in double. What concerns each row takes no branch, as it would weigh as much as its
 * exponentials: rows of 100 in L2, 3.3 and
 * 2.7 ns a vector. */
static float entropy_rows_together(const rows_plan *plan, int64_t row, int64_t end, float maximum,
                                   const int64_t *targets, entropy_rows *block) {
    enum { W = VF_WIDTH };
    const float least = 1.0f / 16, shift = maximum * VF_LOG2E;
    const double rest = (double)shift - (double)maximum * (double)VF_LOG2E;
    const entropy_plan *entropy = plan->constants;
    int64_t n = plan->columns, count = smaller(W, plan->rows - row), next = row + W;
    const float *x[W];
    vf lanes[W], most[2] = {vf_set1(-INFINITY), vf_set1(-INFINITY)};
    bool dense = count == W && entropy_rows_follow(plan), whole = next + W <= end, odd = false;
    x[0] = entropy_logits(plan, row);
    for (int l = 1; l < W; l++)
        x[l] = dense ? x[0] + l * n : entropy_logits(plan, row + smaller(l, count - 1));
    if (dense) lane_sums_dense(x[0], shift, n, whole ? x[0] + W * n : x[0], lanes, most);
    for (int l = 0; l < W && !dense; l++)
        lanes[l] = l < count ? lane_sums(x[l], shift, n,
                                         next < end ? entropy_logits(plan, next + l) : x[l], most)
                             : vf_set1(1);
    vf sums = vf_reduce_each(lanes);
    vf_store(block->maximum, vf_set1(maximum));
    vf_store(block->more, vf_set1((float)(rest * log(2))));
    vf_store(block->sum, sums);
    for (int l = 0; l < count; l++) {
        bool counts = (uint64_t)targets[l] < (uint64_t)n && targets[l] != entropy->ignored;
        block->target[l] = x[l][counts ? targets[l] : 0];
        odd |= !counts;
    }
    vm good = vm_and(vf_ge(sums, vf_set1(least)), vf_lt(sums, vf_set1(INFINITY)));
    if (odd || !vm_all(good)) entropy_settle(entropy, x, n, count, targets, least, block);
    if (dense && !whole) return next < end ? group_maximum(plan, next) : 0;
    return vf_reduce_max(vf_max(most[0], most[1]));
}

/* In lanes. */
static vf losses_of(const entropy_plan *entropy, const entropy_rows *block) {
    vf maximum = vf_load(block->maximum);
    vf loss = vf_add(vf_log(vf_load(block->sum)), vf_load(block->more));
    /* A weight of 0 counts nothing, whatever it weighs. */
    if (entropy->on > 0)
        loss = vf_fnma(vf_set1((float)entropy->on), vf_sub(vf_load(block->target), maximum), loss);
    if (entropy->off > 0) loss = vf_fnma(vf_set1((float)entropy->off), vf_load(block->all), loss);
    return loss;
}
/* Of `count` rows from lane `lane` on. */
static void write_losses(const entropy_plan *entropy, const entropy_rows *block, int64_t lane,
                         int64_t row, int64_t count) {
    float lanes[VF_WIDTH];
    vf_store(lanes, losses_of(entropy, block));
    for (int64_t l = 0; l < count; l++)
        *(float *)(void *)rows_address(&entropy->loss, row + l) = lanes[lane + l];
}

/* A row whose exponentials stand in `kept`: what multiplies them, and what makes them gradients. */
static float entropy_overlapped_row(const entropy_plan *entropy, int64_t row, int64_t n,
                                    const float *x, float maximum, float sum, float *kept,
                                    entropy_rows *block) {
    int64_t target = read_target(&entropy->target, row), l = row % VF_WIDTH;
    bool ignored = target == entropy->ignored;
    float factor = (float)(entropy->scale / (double)sum);
    if (ignored || target < 0 || target >= n) {
        block->maximum[l] = 0, block->sum[l] = 1, block->target[l] = ignored ? 0 : NAN;
        for (int64_t i = 0; i < n; i++) kept[i] = 1;
        return block->target[l];
    }
    block->maximum[l] = maximum, block->sum[l] = sum, block->target[l] = x[target];
    kept[target] = (float)((double)kept[target] - (double)sum * entropy->on);
    return factor;
}

static void entropy_overlapping(const rows_plan *plan, int64_t begin, int64_t end, float *scratch) {
    const entropy_plan *entropy = plan->constants;
    int64_t first = begin;
    overlapped o = {0};
    entropy_rows block = {0};
    overlap_start(plan, begin, end, &o);
    for (int64_t row = begin; row < end; row++) {
        float sum = overlap_exponentials(plan, row, begin, end, scratch, &o);
        float factor = entropy_overlapped_row(entropy, row, plan->columns, overlap_row(plan, row),
                                              o.now.maximum, sum, o.now.to, &block);
        overlap_end(plan, row, o.now.to, factor, &o);
        if (row % VF_WIDTH != VF_WIDTH - 1 && row + 1 < end) continue;
        write_losses(entropy, &block, first % VF_WIDTH, first, row + 1 - first);
        first = row + 1;
    }
    overlap_finish(plan, begin, end, overlap_scaled, &o);
}

static void entropy_pieces(const void *task, int64_t begin, int64_t end, int thread) {
    const rows_plan *plan = task;
    const entropy_plan *entropy = plan->constants;
    float *scratch = overlap_scratch(plan, thread);
    bool overlap = entropy->gradient && entropy->off == 0 && rows_overlap(plan);
    if (overlap) entropy_overlapping(plan, begin, end, scratch);
    for (int64_t row = overlap ? end : begin, count; row < end; row += count) {
        count = smaller(VF_WIDTH - row % VF_WIDTH, end - row);
        entropy_rows block = {0};
        for (int64_t l = 0; l < count; l++)
            entropy_row(plan, row + l, end, scratch, &block, (int)l);
        write_losses(entropy, &block, 0, row, count);
    }
    if (plan->stream) vf_stream_fence();
}

static void entropy_groups(const void *task, int64_t begin, int64_t end, int thread) {
    enum { W = VF_WIDTH };
    const rows_plan *plan = task;
    const entropy_plan *entropy = plan->constants;
    int64_t stop = smaller(end * W, plan->rows), row = begin * W, counted = 0;
    float maximum = row < stop ? group_maximum(plan, row) : 0;
    (void)thread;
    for (; row < stop; row += W) {
        entropy_rows block;
        int64_t targets[W], count = smaller(W, stop - row);
        read_targets(&entropy->target, row, count, targets);
        for (int l = 0; l < count; l++) counted += targets[l] != entropy->ignored;
        maximum = entropy_rows_together(plan, row, stop, maximum, targets, &block);
        if (entropy->sums)
            entropy->sums[row / W] = vf_reduce_add(
                vf_select(vm_first((size_t)count), losses_of(entropy, &block), vf_set1(0)));
        else
            write_losses(entropy, &block, 0, row, count);
    }
    atomic_fetch_add_explicit(entropy->counted, counted, memory_order_relaxed);
}
static void cross_entropy_together(const rows_plan *plan, fovea_run *run) {
    int64_t groups = divide_up(plan->rows, VF_WIDTH);
    run->threads = fovea_useful_threads(groups, plan->rows * plan->columns * 16, run->threads);
    fovea_share(groups, run->threads, entropy_groups, plan);
}

static size_t losses_bytes(const fovea_problem *problem) {
    int64_t rows = fovea_view_elements(&problem->views[FOVEA_LOSS_SECOND]);
    bool kept = fovea_loss_reduction(problem) == FOVEA_NO_REDUCTION;
    return kept ? 0 : (size_t)rows_scratch_bytes(rows);
}
static size_t entropy_workspace(const fovea_problem *problem, int threads) {
    const fovea_view *z = &problem->views[FOVEA_LOSS_FIRST];
    return (size_t)(overlap_scratch_bytes(z->shape[z->rank - 1]) * threads) + losses_bytes(problem);
}

static int64_t count_rows(const fovea_view *target, int64_t ignored) {
    int64_t rows = fovea_view_elements(target), count = 0;
    const int64_t *dense = (const int64_t *)(const void *)target->data;
    if (target->dtype != FOVEA_I64 || target->rank != 1 || target->stride[0] != 1) {
        for (int64_t row = 0; row < rows; row++) count += read_target(target, row) != ignored;
        return count;
    }
    for (int64_t row = 0; row < rows; row++) count += dense[row] != ignored;
    return count;
}

/* Rows without classes: no target is one of them. */
static void entropy_of_nothing(const entropy_plan *entropy) {
    int64_t rows = fovea_view_elements(&entropy->target);
    for (int64_t row = 0; row < rows; row++)
        *(float *)(void *)rows_address(&entropy->loss, row) =
            read_target(&entropy->target, row) == entropy->ignored ? 0 : NAN;
}

static fovea_view collapsed(fovea_view view) {
    if (fovea_view_elements(&view) > 0) fovea_views_collapse((fovea_view *[]){&view}, 1);
    return view;
}

static fovea_status cross_entropy(const fovea_problem *problem, fovea_run *run) {
    fovea_cross_entropy_rule rule = fovea_cross_entropy_read(problem);
    bool gradient = fovea_given(problem, FOVEA_LOSS_GRADIENT), mean = rule.reduction == FOVEA_MEAN;
    const fovea_view *z = &problem->views[FOVEA_LOSS_FIRST];
    const fovea_view *loss = &problem->views[FOVEA_LOSS_LOSS];
    rows_plan plan = rows_make_plan(z, gradient ? &problem->views[FOVEA_LOSS_GRADIENT] : z);
    entropy_plan entropy = {.target = collapsed(problem->views[FOVEA_LOSS_SECOND]),
                            .loss = collapsed(*loss),
                            .ignored = rule.ignored,
                            .on = rule.on,
                            .off = rule.off,
                            .gradient = gradient};
    int64_t rows = fovea_view_elements(&entropy.target);
    bool together = entropy_in_blocks(problem), reduced = rule.reduction != FOVEA_NO_REDUCTION;
    int64_t counted = mean && !together ? count_rows(&entropy.target, rule.ignored) : rows;
    _Atomic int64_t found = 0;
    entropy.scale = mean ? 1 / (double)counted : 1, entropy.counted = &found;
    if (reduced && together) entropy.sums = run->workspace;
    if (reduced)
        entropy.loss = (fovea_view){
            .data = run->workspace, .dtype = FOVEA_F32, .rank = 1, .shape = {rows}, .stride = {1}};
    plan.constants = &entropy;
    plan.scratch = (char *)run->workspace + losses_bytes(problem);
    if (together)
        cross_entropy_together(&plan, run);
    else
        rows_call(&plan, run, entropy_pieces, gradient ? 24 : 16);
    if (plan.columns == 0) entropy_of_nothing(&entropy);
    if (!reduced) return FOVEA_OK;
    int64_t summed = together ? divide_up(rows, VF_WIDTH) : rows;
    if (together) counted = found;
    double sum =
        sum_float(add_element_float, FOVEA_F32, FOVEA_F32, run->workspace, NULL, 0, 0, summed);
    *(float *)(void *)loss->data = (float)(mean ? sum / (double)counted : sum);
    return FOVEA_OK;
}

#define ENTRY(name)                                                                                \
    { #name, FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE, .run = name }
#define ENTROPY_ENTRY(name)                                                                        \
    {                                                                                              \
        name, FOVEA_CPU_NAME("direct"), FOVEA_FLOATS, FOVEA_TIER_HERE,                             \
            .workspace = entropy_workspace, .run = cross_entropy                                   \
    }

const fovea_implementation FOVEA_TIERED(fovea_cpu_loss)[] = {
    ENTROPY_ENTRY("loss_cross_entropy"),
    ENTRY(loss_mse),
    ENTRY(loss_mae),
    ENTRY(loss_huber),
    ENTRY(loss_kl_div),
    ENTRY(loss_bce),
    ENTROPY_ENTRY("fused_softmax_cross_entropy"),
    {0}};
