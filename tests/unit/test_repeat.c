/* Calls that repeat: whatever changes between two calls, the second is taken or refused as if it were the
 * first one. */
#include "api/context.h"
#include "catalogue/case.h"
#include "catalogue/repeat.h"
#include "router/registry.h"
#include "test.h"

#include <fovea/fovea.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct call {
    int kernel;
    fovea_case c;
    fovea_sample sample;
    DLTensor tensors[FOVEA_ARGUMENTS_MAX]; /* that may be changed */
    int64_t shapes[FOVEA_ARGUMENTS_MAX][FOVEA_RANK_MAX];
    int64_t strides[FOVEA_ARGUMENTS_MAX][FOVEA_RANK_MAX];
    const DLTensor *required[FOVEA_ARGUMENTS_MAX];
    size_t count;
    _Alignas(16) char options[FOVEA_OPTIONS_SIZE_MAX];
    const void *given_options;
} call;

static void **optional_field(call *c, int argument) {
    return (void **)(void *)(c->options + fovea_options_layouts[c->kernel].argument[argument]);
}

/* Everything as the sample has it. */
static void reset(call *c) {
    const fovea_argument *arguments = fovea_catalogue_kernel(c->kernel)->arguments;
    memcpy(c->options, c->sample.options, sizeof c->options);
    c->given_options = c->options;
    c->count = 0;
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX && arguments[a].name; a++) {
        bool given = c->sample.present >> a & 1;
        c->tensors[a] = c->sample.tensors[a];
        memcpy(c->shapes[a], c->sample.shapes[a], sizeof c->shapes[a]);
        memcpy(c->strides[a], c->sample.strides[a], sizeof c->strides[a]);
        c->tensors[a].shape = c->shapes[a], c->tensors[a].strides = c->strides[a];
        if (!arguments[a].optional)
            c->required[c->count++] = &c->tensors[a];
        else
            *optional_field(c, a) = given ? &c->tensors[a] : NULL;
    }
}

static void make(call *c, const char *kernel, const char *text) {
    fovea_message message;
    c->kernel = fovea_catalogue_find(kernel);
    fovea_case_begin(&c->c, c->kernel);
    assert_int_equal(fovea_case_parse(&c->c, text, 0, &message), FOVEA_OK);
    assert_int_equal(fovea_case_complete(&c->c, &message), FOVEA_OK);
    assert_int_equal(fovea_sample_create(&c->c, NULL, &c->sample, &message), FOVEA_OK);
    reset(c);
}

static void same_views(const fovea_problem *a, const fovea_problem *b) {
    assert_int_equal(a->present, b->present);
    for (uint32_t rest = a->present; rest; rest &= rest - 1) {
        const fovea_view *v = &a->views[__builtin_ctz(rest)];
        const fovea_view *w = &b->views[__builtin_ctz(rest)];
        assert_ptr_equal(v->data, w->data);
        assert_true(v->dtype == w->dtype && v->rank == w->rank);
        assert_memory_equal(v->shape, w->shape, (size_t)v->rank * sizeof *v->shape);
        assert_memory_equal(v->stride, w->stride, (size_t)v->rank * sizeof *v->stride);
    }
}

/* The call as it is now, beside one that is made for the first time. Whether it was a repeated one. */
static bool agrees(fovea_repeat *repeat, call *c, fovea_status expected) {
    _Alignas(16) char storage[FOVEA_OPTIONS_SIZE_MAX];
    fovea_problem first;
    fovea_message theirs = {""}, ours = {""};
    bool repeated;
    fovea_status status = fovea_problem_create(c->kernel, c->required, c->count, c->given_options,
                                               storage, &first, &theirs);
    assert_int_equal(fovea_problem_repeat(repeat, c->kernel, c->required, c->count,
                                          c->given_options, &repeated, &ours),
                     status);
    assert_int_equal(status, expected);
    if (status != FOVEA_OK) {
        assert_string_equal(ours.text, theirs.text);
        assert_false(repeated);
        return false;
    }
    const fovea_problem *again = &repeat->problem;
    assert_true(again->index == first.index && again->dtype == first.dtype);
    assert_memory_equal(again->extents, first.extents, sizeof first.extents);
    assert_memory_equal(again->options, first.options,
                        fovea_options_layouts[c->kernel].parameters_end);
    same_views(again, &first);
    return repeated;
}

static void begins(fovea_repeat *repeat, call *c) {
    reset(c);
    agrees(repeat, c, FOVEA_OK);
    assert_true(agrees(repeat, c, FOVEA_OK));
}

/* Each change of one tensor, after a call that was right; and the right call after it. */
static void changed_tensors_are_found(void **state) {
    (void)state;
    static fovea_repeat repeat;
    call c;
    make(&c, "map_fma", "n=24");
    for (size_t t = 0; t < c.count; t++) {
        DLTensor *x = &c.tensors[t];
        begins(&repeat, &c), x->shape[0] = 23, agrees(&repeat, &c, FOVEA_INVALID_ARGUMENT);
        begins(&repeat, &c), x->ndim = 0, agrees(&repeat, &c, FOVEA_INVALID_ARGUMENT);
        begins(&repeat, &c), x->ndim = -1, agrees(&repeat, &c, FOVEA_INVALID_ARGUMENT);
        begins(&repeat, &c), x->shape = NULL, agrees(&repeat, &c, FOVEA_INVALID_ARGUMENT);
        begins(&repeat, &c), x->dtype.bits = 16, agrees(&repeat, &c, FOVEA_INVALID_ARGUMENT);
        begins(&repeat, &c), x->dtype.lanes = 4, agrees(&repeat, &c, FOVEA_INVALID_ARGUMENT);
        begins(&repeat, &c), x->data = NULL, agrees(&repeat, &c, FOVEA_INVALID_ARGUMENT);
        begins(&repeat, &c), x->byte_offset = 2, agrees(&repeat, &c, FOVEA_INVALID_ARGUMENT);
        begins(&repeat, &c), x->byte_offset = UINT64_MAX - 63;
        agrees(&repeat, &c, FOVEA_INVALID_ARGUMENT);
        begins(&repeat, &c), x->device.device_type = kDLCUDA;
        agrees(&repeat, &c, FOVEA_INVALID_ARGUMENT);
        begins(&repeat, &c), x->device.device_type = kDLVulkan;
        agrees(&repeat, &c, FOVEA_INVALID_ARGUMENT);
        begins(&repeat, &c), c.required[t] = NULL, agrees(&repeat, &c, FOVEA_INVALID_ARGUMENT);
        begins(&repeat, &c), x->strides = NULL, assert_true(agrees(&repeat, &c, FOVEA_OK));
        begins(&repeat, &c), x->strides[0] = 0;
        agrees(&repeat, &c, t + 1 == c.count ? FOVEA_INVALID_ARGUMENT : FOVEA_OK);
    }
    begins(&repeat, &c), c.count--, agrees(&repeat, &c, FOVEA_INVALID_ARGUMENT);
    begins(&repeat, &c), c.required[c.count] = c.required[0], c.count++;
    agrees(&repeat, &c, FOVEA_INVALID_ARGUMENT);
    fovea_sample_destroy(&c.sample);
}

static void a_tensor_may_lie_elsewhere_or_otherwise(void **state) {
    (void)state;
    static fovea_repeat repeat;
    call c;
    float other[48];
    make(&c, "map_add", "n=24");
    begins(&repeat, &c), c.tensors[0].data = other, c.tensors[0].byte_offset = 8;
    assert_true(agrees(&repeat, &c, FOVEA_OK));
    begins(&repeat, &c), c.tensors[2].data = c.tensors[0].data; /* in place */
    assert_true(agrees(&repeat, &c, FOVEA_OK));
    begins(&repeat, &c), c.tensors[2].data = (char *)c.tensors[0].data + 4;
    agrees(&repeat, &c, FOVEA_INVALID_ARGUMENT);
    fovea_sample_destroy(&c.sample);
    make(&c, "map_add", "n=24,memory=stepped");
    begins(&repeat, &c), c.tensors[1].strides = NULL; /* dense now */
    assert_false(agrees(&repeat, &c, FOVEA_OK));
    fovea_sample_destroy(&c.sample);
    make(&c, "map_add", "n=1");
    begins(&repeat, &c), c.tensors[1].strides[0] = INT64_MAX; /* of one element, to nowhere */
    assert_true(agrees(&repeat, &c, FOVEA_OK));
    fovea_sample_destroy(&c.sample);
    make(&c, "reduce_sum", "n=24");
    begins(&repeat, &c), c.tensors[1].data = c.tensors[0].data;
    agrees(&repeat, &c, FOVEA_INVALID_ARGUMENT);
    fovea_sample_destroy(&c.sample);
}

static void changed_options_are_found(void **state) {
    (void)state;
    static fovea_repeat repeat;
    call c;
    make(&c, "layer_norm", "b=3,d=8,gamma=1,beta=1");
    fovea_layer_norm_options *options = (void *)c.options;
    begins(&repeat, &c), options->eps = 0.5, assert_false(agrees(&repeat, &c, FOVEA_OK));
    begins(&repeat, &c), options->eps = -1, agrees(&repeat, &c, FOVEA_INVALID_ARGUMENT);
    begins(&repeat, &c), options->gamma = NULL, assert_false(agrees(&repeat, &c, FOVEA_OK));
    assert_true(agrees(&repeat, &c, FOVEA_OK));
    begins(&repeat, &c), options->size = 3, agrees(&repeat, &c, FOVEA_INVALID_ARGUMENT);
    begins(&repeat, &c), options->size = 2 * sizeof options->size;
    assert_false(agrees(&repeat, &c, FOVEA_OK)); /* completed each time */
    assert_false(agrees(&repeat, &c, FOVEA_OK));
    begins(&repeat, &c), c.given_options = NULL, assert_false(agrees(&repeat, &c, FOVEA_OK));
    assert_true(agrees(&repeat, &c, FOVEA_OK));
    c.given_options = c.options, assert_false(agrees(&repeat, &c, FOVEA_OK));
    begins(&repeat, &c), c.tensors[1].shape[0] = 7, agrees(&repeat, &c, FOVEA_INVALID_ARGUMENT);
    fovea_sample_destroy(&c.sample);
}

/* False: such a case cannot be made, or is refused. */
static bool can_be_called(call *c, const fovea_case *wanted) {
    _Alignas(16) char storage[FOVEA_OPTIONS_SIZE_MAX];
    fovea_problem problem;
    fovea_message message;
    c->c = *wanted;
    c->kernel = wanted->index;
    if (fovea_case_complete(&c->c, &message) != FOVEA_OK ||
        fovea_sample_create(&c->c, NULL, &c->sample, &message) != FOVEA_OK)
        return false;
    reset(c);
    if (fovea_problem_create(c->kernel, c->required, c->count, c->options, storage, &problem,
                             &message) == FOVEA_OK)
        return true;
    fovea_sample_destroy(&c->sample);
    return false;
}

/* Of every kernel, with as many of its optional tensors as go together: each of them is left out once. */
static void tensors_of_the_options_are_missed(void **state) {
    (void)state;
    static fovea_repeat repeat;
    static call c;
    int missed = 0;
    for (int kernel = 0; kernel < fovea_catalogue_count(); kernel++) {
        const fovea_kernel *row = fovea_catalogue_kernel(kernel);
        fovea_case wanted;
        fovea_message message;
        fovea_case_begin(&wanted, kernel);
        if (!row->bench || fovea_case_parse(&wanted, row->bench, 1000, &message) != FOVEA_OK)
            continue;
        for (int e = 0; e < FOVEA_LETTERS_MAX;
             e++) /* nothing is computed here: what is small will do */
            if (wanted.extents[e] > 64) wanted.extents[e] = 64;
        for (int a = 0; a < fovea_kernel_arguments(row); a++) {
            if (!row->arguments[a].optional) continue;
            wanted.optional |= 1u << a;
            if (can_be_called(&c, &wanted))
                fovea_sample_destroy(&c.sample);
            else
                wanted.optional &= ~(1u << a);
        }
        if (!wanted.optional || !can_be_called(&c, &wanted)) continue;
        for (int a = 0; a < fovea_kernel_arguments(row); a++) {
            if (!(wanted.optional >> a & 1)) continue;
            bool repeated;
            begins(&repeat, &c), *optional_field(&c, a) = NULL;
            fovea_problem_repeat(&repeat, kernel, c.required, c.count, c.options, &repeated,
                                 &message);
            assert_false(repeated);
            missed++;
        }
        fovea_sample_destroy(&c.sample);
    }
    assert_true(missed > 40);
}

/* What stands in tensors is checked in every call. */
static void changed_contents_are_found(void **state) {
    (void)state;
    static fovea_repeat repeat;
    call c;
    make(&c, "percentile_select", "n=24,m=2");
    begins(&repeat, &c);
    float *q = (float *)c.tensors[1].data, before = q[1];
    q[1] = 101, agrees(&repeat, &c, FOVEA_INVALID_ARGUMENT);
    q[1] = before, agrees(&repeat, &c, FOVEA_OK);
    fovea_sample_destroy(&c.sample);
    make(&c, "attention", "b=2,hq=2,sq=1,sk=8,d=4,seqused_k=1");
    int argument = fovea_kernel_argument(fovea_catalogue_kernel(c.kernel), "seqused_k");
    begins(&repeat, &c);
    int32_t *used = (int32_t *)c.tensors[argument].data;
    used[1] = 3, assert_true(agrees(&repeat, &c, FOVEA_OK));
    used[1] = 9, agrees(&repeat, &c, FOVEA_INVALID_ARGUMENT);
    fovea_sample_destroy(&c.sample);
}

static void another_kernel_is_another_call(void **state) {
    (void)state;
    static fovea_repeat repeat;
    call add, divide, nothing;
    make(&add, "map_add", "n=24"), make(&divide, "map_div", "n=24"),
        make(&nothing, "map_add", "n=0");
    begins(&repeat, &add);
    assert_false(agrees(&repeat, &divide, FOVEA_OK));
    begins(&repeat, &nothing);
    assert_false(agrees(&repeat, &add, FOVEA_OK));
    fovea_sample_destroy(&add.sample);
    fovea_sample_destroy(&divide.sample);
    fovea_sample_destroy(&nothing.sample);
}

/* ---- What a context keeps ------------------------------------------------------------------- */

/* Calls that meet in the same place of a context, and the result of each by itself. */
typedef struct wanted {
    const char *text, *implementation;
    int threads;
} wanted;
typedef struct variant {
    const char *kernel;
    wanted wanted;
    fovea_case definition;
    fovea_sample sample;
    fovea_call_report report;
    void *results[FOVEA_ARGUMENTS_MAX];
} variant;

static fovea_context *make_context(void) {
    fovea_context *context = NULL;
    fovea_context_options options;
    fovea_context_options_default(&options);
    options.routes = "";
    assert_int_equal(fovea_context_create(&options, &context), FOVEA_OK);
    return context;
}

static bool is_result(const variant *v, int argument) {
    return v->sample.present >> argument & 1 &&
           v->sample.problem.kernel->arguments[argument].role != FOVEA_INPUT;
}

static void run_variant(fovea_context *context, variant *v, fovea_call_report *report) {
    fovea_sample_restore(&v->sample);
    fovea_context_set_threads(context, v->wanted.threads);
    assert_int_equal(fovea_use(context, v->kernel, v->wanted.implementation), FOVEA_OK);
    assert_int_equal(
        fovea_call(context, v->kernel, v->sample.required, v->sample.count, v->sample.options),
        FOVEA_OK);
    assert_int_equal(fovea_last_call(context, report), FOVEA_OK);
}

/* What it gives in a context of its own. */
static void run_alone(variant *v) {
    fovea_context *context = make_context();
    run_variant(context, v, &v->report);
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        if (!is_result(v, a)) continue;
        v->results[a] = realloc(v->results[a], v->sample.bytes[a]);
        assert_non_null(v->results[a]);
        memcpy(v->results[a], v->sample.storage[a], v->sample.bytes[a]);
    }
    fovea_context_destroy(context);
}

static void begin_variant(variant *v) {
    fovea_message message;
    fovea_case_begin(&v->definition, fovea_catalogue_find(v->kernel));
    assert_int_equal(fovea_case_parse(&v->definition, v->wanted.text, 0, &message), FOVEA_OK);
    assert_int_equal(fovea_case_complete(&v->definition, &message), FOVEA_OK);
    assert_int_equal(fovea_sample_create(&v->definition, NULL, &v->sample, &message), FOVEA_OK);
    run_alone(v);
}

static void end_variant(variant *v) {
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) free(v->results[a]);
    fovea_sample_destroy(&v->sample);
}

static void runs_as_by_itself(fovea_context *context, variant *v) {
    fovea_call_report report;
    run_variant(context, v, &report);
    assert_string_equal(report.implementation, v->report.implementation);
    assert_int_equal(report.scratch_bytes, v->report.scratch_bytes);
    assert_int_equal(report.threads, v->report.threads);
    assert_int_equal(report.block_rows, v->report.block_rows);
    assert_int_equal(report.block_keys, v->report.block_keys);
    assert_string_equal(report.arithmetic, v->report.arithmetic);
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++)
        if (is_result(v, a))
            assert_memory_equal(v->sample.storage[a], v->results[a], v->sample.bytes[a]);
}

/* Each after each other one, and once more. */
static void run_in_all_orders(const char *kernel, const wanted list[], int count) {
    fovea_context *context = make_context();
    variant *variants = calloc((size_t)count, sizeof *variants);
    assert_non_null(variants);
    for (int i = 0; i < count; i++) {
        variants[i].kernel = kernel, variants[i].wanted = list[i];
        begin_variant(&variants[i]);
    }
    for (int i = 0; i < count; i++)
        for (int j = 0; j < count; j++) {
            runs_as_by_itself(context, &variants[i]);
            runs_as_by_itself(context, &variants[j]);
            runs_as_by_itself(context, &variants[j]);
        }
    for (int i = 0; i < count; i++) end_variant(&variants[i]);
    free(variants);
    fovea_context_destroy(context);
}

#define EXTENTS "b=1,hq=4,sq=32,d=64"
static void a_plan_is_not_used_for_another_call(void **state) {
    (void)state;
    static const wanted forward[] = {
        {EXTENTS, NULL, 1},
        {EXTENTS, NULL, 2},
        {EXTENTS, "cpu/scalar/flash", 1},
        {EXTENTS, "cpu/scalar/split", 2},
        {EXTENTS ",memory=outer", NULL, 1},
        {EXTENTS ",memory=stepped", "cpu/scalar/flash", 1},
        {EXTENTS ",causal=top_left", NULL, 1},
        {EXTENTS ",algorithm=fused", NULL, 2},
        {EXTENTS ",block_rows=16,block_keys=24", "cpu/scalar/flash", 1},
        {EXTENTS ",scale=0,dtype=bf16", NULL, 1},
        {EXTENTS ",dtype=bf16", NULL, 1},
        {EXTENTS ",softcap=3,lse=1", NULL, 1},
        {EXTENTS ",seqused_k=1", NULL, 1},
        {EXTENTS ",seqused_k=1,seed=77", NULL, 1}};
    static const wanted backward[] = {{EXTENTS, NULL, 1},
                                      {EXTENTS, NULL, 2},
                                      {EXTENTS ",memory=stepped", NULL, 1},
                                      {EXTENTS ",block_rows=16,block_keys=24", NULL, 1},
                                      {EXTENTS ",softcap=3,dropout=0.25", NULL, 1},
                                      {EXTENTS, "cpu/scalar/flash", 1}};
    run_in_all_orders("attention", forward, sizeof forward / sizeof *forward);
    run_in_all_orders("attention_backward", backward, sizeof backward / sizeof *backward);
}

static void set_offsets(variant *v, const char *name, int32_t first, int32_t second) {
    int argument = fovea_kernel_argument(v->sample.problem.kernel, name);
    int32_t *offsets = v->sample.tensors[argument].data;
    assert_int_equal(v->sample.shapes[argument][0], 4);
    offsets[1] = first, offsets[2] = second;
}

/* The lengths of packed sequences change the plan and the scratch memory, and no shape. */
static void a_plan_is_not_used_for_other_contents(void **state) {
    (void)state;
    static const int32_t offsets[][2] = {{20, 40}, {0, 0}, {1, 2}, {0, 300}, {150, 300}};
    variant v = {.kernel = "attention",
                 .wanted = {"b=3,hq=2,sq=100,sk=100,d=8,cu_seqlens_q=1,cu_seqlens_k=1", NULL, 1}};
    fovea_context *context = make_context();
    begin_variant(&v);
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        for (int a = 0; a < 2; a++) { /* q and k */
            int32_t rows = (int32_t)v.sample.shapes[a][0];
            int32_t first = offsets[i][0] < rows ? offsets[i][0] : rows;
            int32_t second = offsets[i][1] < rows ? offsets[i][1] : rows;
            set_offsets(&v, a ? "cu_seqlens_k" : "cu_seqlens_q", first, second);
        }
        run_alone(&v);
        for (int times = 0; times < 2; times++) runs_as_by_itself(context, &v);
    }
    end_variant(&v);
    fovea_context_destroy(context);
}

/* Calls alike are not asked again whether an implementation serves them and what it needs. */
static void what_is_kept_does_not_hang_on_addresses(void **state) {
    (void)state;
    for (int k = 0; k < fovea_catalogue_count(); k++) {
        const fovea_kernel *kernel = fovea_catalogue_kernel(k);
        fovea_case c;
        fovea_sample sample;
        fovea_message message;
        char before[160], after[160];
        if (!kernel->bench) continue;
        fovea_case_begin(&c, k);
        assert_int_equal(fovea_case_parse(&c, kernel->bench, 1024, &message), FOVEA_OK);
        for (int l = 0; l < FOVEA_LETTERS_MAX && fovea_kernel_letter_name(k, l); l++)
            if (c.extents[l] > 64) c.extents[l] = l == fovea_kernel_derived(k) ? -1 : 64;
        assert_int_equal(fovea_case_complete(&c, &message), FOVEA_OK);
        assert_int_equal(fovea_sample_create(&c, NULL, &sample, &message), FOVEA_OK);
        fovea_problem moved = sample.problem;
        for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++)
            if (fovea_given(&moved, a)) moved.views[a].data += 8 * (a + 1);
        for (int i = 0; i < fovea_implementation_count(k); i++) {
            const fovea_implementation *one = fovea_implementation_at(k, i);
            if (fovea_implementation_is_cuda(one) || fovea_depends_on_contents(&moved)) continue;
            bool serves = fovea_implementation_serves(one, &sample.problem, before, sizeof before);
            assert_int_equal(fovea_implementation_serves(one, &moved, after, sizeof after), serves);
            if (serves && one->workspace)
                assert_int_equal(one->workspace(&moved, 2), one->workspace(&sample.problem, 2));
        }
        fovea_sample_destroy(&sample);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(changed_tensors_are_found),
                                       cmocka_unit_test(a_tensor_may_lie_elsewhere_or_otherwise),
                                       cmocka_unit_test(changed_options_are_found),
                                       cmocka_unit_test(tensors_of_the_options_are_missed),
                                       cmocka_unit_test(changed_contents_are_found),
                                       cmocka_unit_test(another_kernel_is_another_call),
                                       cmocka_unit_test(a_plan_is_not_used_for_another_call),
                                       cmocka_unit_test(a_plan_is_not_used_for_other_contents),
                                       cmocka_unit_test(what_is_kept_does_not_hang_on_addresses)};
    return cmocka_run_group_tests_name("repeat", tests, NULL, NULL);
}
