/* Calls that repeat: whatever changes between two calls, the second is taken or refused as if it were the
 * first one. */
#include "catalogue/case.h"
#include "catalogue/repeat.h"
#include "test.h"

#include <fovea/fovea.h>
#include <stdio.h>

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

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(changed_tensors_are_found),
                                       cmocka_unit_test(a_tensor_may_lie_elsewhere_or_otherwise),
                                       cmocka_unit_test(changed_options_are_found),
                                       cmocka_unit_test(changed_contents_are_found),
                                       cmocka_unit_test(another_kernel_is_another_call)};
    return cmocka_run_group_tests_name("repeat", tests, NULL, NULL);
}
