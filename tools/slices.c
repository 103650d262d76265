/* Slices of a sample along its first dimension, each a problem of its own over the same memory. */
#include "slices.h"
#include "bench_statistics.h"

#include <stdio.h>
#include <stdlib.h>

enum { SLICES = 16, SLICE_ELEMENTS = 4096 };

typedef struct slice {
    int64_t first; /* index in the first dimension */
    fovea_problem problem;
    DLTensor tensors[FOVEA_ARGUMENTS_MAX];
    int64_t shapes[FOVEA_ARGUMENTS_MAX][FOVEA_RANK_MAX];
    DLTensor *required[FOVEA_ARGUMENTS_MAX];
    size_t count;
    _Alignas(16) char options[FOVEA_OPTIONS_SIZE_MAX];
    _Alignas(16) char storage[FOVEA_OPTIONS_SIZE_MAX];
    fovea_verification *expected;
} slice;

struct fovea_slices {
    int count;
    slice *items[SLICES];
};

static bool present(const fovea_sample *sample, int a) { return sample->present >> a & 1; }

/* The argument's first dimension is the group, whole. */
static bool has_group(const fovea_sample *sample, int a) {
    const fovea_shape *shape = fovea_kernel_shape(sample->c->index, a);
    return shape->group >= 0 && !shape->without_axis && !shape->by_row && shape->before == 0 &&
           sample->tensors[a].ndim > 0;
}

static int64_t group_extent(const fovea_sample *sample) {
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++)
        if (present(sample, a) && has_group(sample, a)) return sample->tensors[a].shape[0];
    return 0;
}

/* Elements that one index of the group stands for, in the widest argument. */
static int64_t row_elements(const fovea_sample *sample) {
    int64_t most = 1;
    for (int a = 0; a < FOVEA_ARGUMENTS_MAX; a++) {
        int64_t elements = 1;
        if (!present(sample, a) || !has_group(sample, a)) continue;
        for (int i = 1; i < sample->tensors[a].ndim; i++) elements *= sample->tensors[a].shape[i];
        if (elements > most) most = elements;
    }
    return most;
}

/* A scan of one row of 10^8 would be sixteen times the whole. */
static bool slices_are_smaller(const fovea_sample *sample) {
    return row_elements(sample) <= SLICE_ELEMENTS || group_extent(sample) > SLICES;
}

/* Draws depend on the place of an element, so what takes a seed does not qualify; nor does what writes
 * as much of an output as its data ask for. */
bool fovea_slices_apply(const fovea_sample *sample) {
    const fovea_kernel *kernel = fovea_catalogue_kernel(sample->c->index);
    bool outputs = true, inputs = false;
    if (sample->c->group_rank != 1 || fovea_kernel_parameter(kernel, "seed") >= 0) return false;
    if (kernel->written) return false;
    for (int a = 0; a < fovea_kernel_arguments(kernel); a++) {
        if (!present(sample, a)) continue;
        if (kernel->arguments[a].role != FOVEA_INPUT) outputs = outputs && has_group(sample, a);
        if (kernel->arguments[a].role != FOVEA_OUTPUT) inputs = inputs || has_group(sample, a);
    }
    return outputs && inputs && slices_are_smaller(sample);
}

static void cut(const fovea_sample *sample, int a, int64_t rows, slice *s) {
    DLTensor *tensor = &s->tensors[a];
    *tensor = sample->tensors[a];
    memcpy(s->shapes[a], sample->shapes[a], sizeof s->shapes[a]);
    tensor->shape = s->shapes[a];
    if (!has_group(sample, a)) return;
    s->shapes[a][0] = rows;
    int64_t size = (int64_t)fovea_dtype_size(sample->problem.views[a].dtype);
    tensor->data = (char *)tensor->data + s->first * tensor->strides[0] * size;
}

static bool make(const fovea_sample *sample, int64_t first, int64_t rows, slice *s) {
    const fovea_kernel *kernel = fovea_catalogue_kernel(sample->c->index);
    const fovea_options_layout *layout = &fovea_options_layouts[sample->c->index];
    fovea_message message;
    s->first = first;
    memcpy(s->options, sample->options, layout->size);
    for (int a = 0; a < fovea_kernel_arguments(kernel); a++) {
        DLTensor *tensor = &s->tensors[a];
        if (!present(sample, a)) continue;
        cut(sample, a, rows, s);
        if (kernel->arguments[a].optional)
            memcpy(s->options + layout->argument[a], &tensor, sizeof tensor);
        else
            s->required[s->count++] = tensor;
    }
    return fovea_problem_create(sample->c->index, (const DLTensor *const *)s->required, s->count,
                                s->options, s->storage, &s->problem, &message) == FOVEA_OK &&
           (s->expected = fovea_verification_create(&s->problem, 0, sample->c->seed));
}

fovea_slices *fovea_slices_create(const fovea_sample *sample, uint64_t seed) {
    fovea_slices *slices = calloc(1, sizeof *slices);
    int64_t extent = group_extent(sample), rows = SLICE_ELEMENTS / row_elements(sample);
    if (rows < 1) rows = 1;
    if (rows > extent) rows = extent;
    for (int i = 0; slices && i < SLICES; i++) {
        uint64_t room = (uint64_t)(extent - rows);
        int64_t first = i == 0   ? 0
                        : i == 1 ? (int64_t)room
                                 : (int64_t)(fovea_random_next(&seed) % (room + 1));
        slice *s = slices->items[i] = calloc(1, sizeof *s);
        slices->count = i + 1;
        if (s && make(sample, first, rows, s)) continue;
        fovea_slices_destroy(slices);
        return NULL;
    }
    return slices;
}

void fovea_slices_destroy(fovea_slices *slices) {
    for (int i = 0; slices && i < slices->count; i++) {
        if (slices->items[i]) fovea_verification_destroy(slices->items[i]->expected);
        free(slices->items[i]);
    }
    free(slices);
}

void fovea_slices_verify(const fovea_slices *slices, fovea_verdict *verdict) {
    int64_t compared = 0, wrong = 0;
    bool verified = true, as_peer = true;
    for (int i = 0; i < slices->count; i++) {
        const slice *s = slices->items[i];
        fovea_verdict one;
        fovea_verify(s->expected, NULL, &one);
        compared += one.compared, wrong += one.wrong;
        verified = verified && one.verified, as_peer = as_peer && one.verified_as_peer;
        double peer_share = i ? verdict->peer_share : -1;
        double peer_error = i ? verdict->peer_error : 0, peer_bound = i ? verdict->peer_bound : 0;
        if (i == 0 || one.share > verdict->share) {
            *verdict = one;
            if (s->first)
                snprintf(verdict->where, sizeof verdict->where, "from index %lld on: %.150s",
                         (long long)s->first, one.where);
        }
        if (peer_share > one.peer_share) {
            verdict->peer_share = peer_share;
            verdict->peer_error = peer_error, verdict->peer_bound = peer_bound;
        } else {
            verdict->peer_share = one.peer_share;
            verdict->peer_error = one.peer_error, verdict->peer_bound = one.peer_bound;
        }
    }
    verdict->verified = verified, verdict->verified_as_peer = as_peer;
    verdict->compared = compared, verdict->wrong = wrong;
}
