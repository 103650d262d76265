/* Views of tensors: validation, element access, overlap, and collapsing of dimensions. */
#include "runtime/view.h"

#include <stdio.h>

DLDevice fovea_device_of(const DLTensor *tensor) {
    if (tensor->device.device_type == kDLCUDA) return tensor->device;
    return (DLDevice){kDLCPU, 0};
}

const char *fovea_device_text(DLDevice device, char *text, size_t size) {
    if (device.device_type == kDLCUDA)
        snprintf(text, size, "CUDA device %d", (int)device.device_id);
    else
        snprintf(text, size, "the CPU");
    return text;
}

/* Of the product of the extents that are not 0. Strides of 0 and tensors without elements would reach any other
 * without memory for it; scratch takes up to some hundreds of bytes times this times FOVEA_THREADS_MAX. */
static const int64_t elements_limit = INT64_C(1) << 42;

/* The byte offsets of the lowest and one past the highest element, or false if they or what lies between
 * them overflow. */
static bool byte_range(const fovea_view *view, int64_t *low, int64_t *high) {
    int64_t size = (int64_t)fovea_dtype_size(view->dtype), span;
    *low = 0, *high = 0;
    for (int i = 0; i < view->rank; i++) {
        int64_t reach;
        if (view->shape[i] <= 1) continue;
        if (!fovea_multiply(view->stride[i], size, &reach) ||
            !fovea_multiply(view->shape[i] - 1, reach, &reach))
            return false;
        int64_t *end = reach < 0 ? low : high;
        if (__builtin_add_overflow(*end, reach, end)) return false;
    }
    return !__builtin_add_overflow(*high, size, high) &&
           !__builtin_sub_overflow(*high, *low, &span);
}

static fovea_status check_extents(const DLTensor *tensor, const char *name, fovea_view *view,
                                  fovea_message *message) {
    int64_t elements = 1;
    for (int i = 0; i < tensor->ndim; i++) {
        int64_t extent = tensor->shape[i];
        if (extent < 0)
            return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                              "%s has extent %lld in dimension %d; extents are at least 0", name,
                              (long long)extent, i);
        view->shape[i] = extent;
    }
    /* Nobody needs the strides of a tensor without elements, nor those of dimensions of one element: they may be
     * any numbers, which would overflow in products of bytes. */
    const int64_t *strides = fovea_view_elements(view) > 0 ? tensor->strides : NULL;
    for (int i = tensor->ndim - 1; i >= 0; i--) {
        view->stride[i] = strides && view->shape[i] > 1 ? strides[i] : elements;
        int64_t extent = view->shape[i] > 0 ? view->shape[i] : 1;
        if (!fovea_multiply(elements, extent, &elements) || elements > elements_limit)
            return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                              "the extents of %s, without those that are 0, multiply to more than "
                              "%lld; no more is served",
                              name, (long long)elements_limit);
    }
    return FOVEA_OK;
}

static fovea_status check_addresses(const DLTensor *tensor, const char *name, fovea_view *view,
                                    fovea_message *message) {
    if (fovea_view_elements(view) == 0) {
        view->data = NULL;
        return FOVEA_OK;
    }
    if (!tensor->data)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s has no data (NULL)", name);
    int64_t low, high;
    uintptr_t base = (uintptr_t)tensor->data, first, last;
    if (!byte_range(view, &low, &high) ||
        __builtin_add_overflow(base, tensor->byte_offset, &base) ||
        __builtin_sub_overflow(base, -(uint64_t)low, &first) ||
        __builtin_add_overflow(base, (uint64_t)high, &last))
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "%s has strides or a byte offset that leave the address space", name);
    size_t unit = fovea_dtype_size(fovea_dtype_of_part(view->dtype));
    if (base % unit != 0)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "%s is at address %p, which is not a multiple of its element size %zu",
                          name, (void *)base, unit);
    view->data = (char *)base;
    return FOVEA_OK;
}

fovea_status fovea_view_from_tensor(const DLTensor *tensor, const char *name, fovea_view *view,
                                    fovea_message *message) {
    if (!tensor) return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s is NULL", name);
    DLDeviceType device = tensor->device.device_type;
    if (device != kDLCPU && device != kDLCUDAHost && device != kDLCUDA)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "%s is on device type %d; the CPU (1) and CUDA (2) are served", name,
                          (int)device);
    if (!fovea_dtype_from_dlpack(tensor->dtype, &view->dtype))
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "%s has an unknown dtype: code %d, %d bits, %d lanes", name,
                          tensor->dtype.code, tensor->dtype.bits, tensor->dtype.lanes);
    if (tensor->ndim < 0 || tensor->ndim > FOVEA_RANK_MAX)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT,
                          "%s has %d dimensions; 0 to %d are served", name, tensor->ndim,
                          FOVEA_RANK_MAX);
    if (tensor->ndim > 0 && !tensor->shape)
        return fovea_fail(message, FOVEA_INVALID_ARGUMENT, "%s has no shape (NULL)", name);
    view->rank = tensor->ndim;
    fovea_status status = check_extents(tensor, name, view, message);
    return status != FOVEA_OK ? status : check_addresses(tensor, name, view, message);
}

int64_t fovea_view_values(const fovea_view *view) {
    return fovea_view_elements(view) * fovea_dtype_parts(view->dtype);
}

bool fovea_view_is_contiguous(const fovea_view *view) {
    int64_t expected = 1;
    if (fovea_view_elements(view) == 0) return true;
    for (int i = view->rank - 1; i >= 0; i--) {
        if (view->shape[i] != 1 && view->stride[i] != expected) return false;
        expected *= view->shape[i];
    }
    return true;
}

/* Sorts the dimensions by stride: an index is unique if each stride passes all smaller reaches.
 * Exotic layouts that interleave without overlap are taken as overlapping. */
bool fovea_view_overlaps_itself(const fovea_view *view) {
    int64_t stride[FOVEA_RANK_MAX], extent[FOVEA_RANK_MAX];
    int count = 0;
    if (fovea_view_elements(view) == 0) return false;
    for (int i = 0; i < view->rank; i++) {
        if (view->shape[i] == 1) continue;
        int64_t step = view->stride[i] < 0 ? -view->stride[i] : view->stride[i];
        int place = count++;
        for (; place > 0 && stride[place - 1] > step; place--) {
            stride[place] = stride[place - 1];
            extent[place] = extent[place - 1];
        }
        stride[place] = step;
        extent[place] = view->shape[i];
    }
    int64_t reach = 0;
    for (int i = 0; i < count; i++) {
        if (stride[i] <= reach) return true;
        reach += stride[i] * (extent[i] - 1);
    }
    return false;
}

bool fovea_view_same_elements(const fovea_view *a, const fovea_view *b) {
    if (a->data != b->data || a->dtype != b->dtype || a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++) {
        if (a->shape[i] != b->shape[i]) return false;
        if (a->shape[i] > 1 && a->stride[i] != b->stride[i]) return false;
    }
    return true;
}

fovea_range fovea_view_range(const fovea_view *view) {
    int64_t low, high;
    if (!view->data || fovea_view_elements(view) == 0) return (fovea_range){NULL, NULL};
    byte_range(view, &low, &high);
    return (fovea_range){view->data + low, view->data + high};
}

bool fovea_view_ranges_meet(const fovea_view *a, const fovea_view *b) {
    fovea_range x = fovea_view_range(a), y = fovea_view_range(b);
    return x.first < y.end && y.first < x.end;
}

char *fovea_view_address(const fovea_view *view, int64_t number) {
    int64_t offset = 0;
    for (int i = view->rank - 1; i > 0; i--) {
        offset += number % view->shape[i] * view->stride[i];
        number /= view->shape[i];
    }
    if (view->rank > 0) offset += number * view->stride[0];
    return view->data + offset * (int64_t)fovea_dtype_size(view->dtype);
}

static char *value_address(const fovea_view *view, int64_t number) {
    int parts = fovea_dtype_parts(view->dtype);
    if (parts == 1) return fovea_view_address(view, number);
    size_t size = fovea_dtype_size(view->dtype) / (size_t)parts;
    return fovea_view_address(view, number / parts) + (size_t)(number % parts) * size;
}

double fovea_view_read(const fovea_view *view, int64_t number) {
    return fovea_read_element(value_address(view, number), fovea_dtype_of_part(view->dtype));
}

void fovea_view_write(const fovea_view *view, int64_t number, double value) {
    fovea_write_element(value_address(view, number), fovea_dtype_of_part(view->dtype), value);
}

void fovea_view_read_all(const fovea_view *view, double *values) {
    int64_t count = fovea_view_values(view);
    for (int64_t i = 0; i < count; i++) values[i] = fovea_view_read(view, i);
}

void fovea_view_write_all(const fovea_view *view, const double *values) {
    int64_t count = fovea_view_values(view);
    for (int64_t i = 0; i < count; i++) fovea_view_write(view, i, values[i]);
}

static bool mergeable(fovea_view *const views[], int count, int outer, int inner) {
    int64_t span; /* overflows over half of all addresses */
    for (int v = 0; v < count; v++)
        if (!fovea_multiply(views[v]->stride[inner], views[v]->shape[inner], &span) ||
            views[v]->stride[outer] != span)
            return false;
    return true;
}

void fovea_views_collapse(fovea_view *views[], int count) {
    if (views[0]->rank == 1 && views[0]->shape[0] != 1) return;
    int kept = 0; /* dimensions [0, kept) are done */
    for (int i = 0; i < views[0]->rank; i++) {
        if (views[0]->shape[i] == 1) continue;
        bool merge = false;
        if (kept > 0) {
            for (int v = 0; v < count; v++) {
                views[v]->shape[kept] = views[v]->shape[i];
                views[v]->stride[kept] = views[v]->stride[i];
            }
            merge = mergeable(views, count, kept - 1, kept);
        }
        for (int v = 0; v < count; v++) {
            int64_t extent = views[v]->shape[i], stride = views[v]->stride[i];
            int place = merge ? kept - 1 : kept;
            views[v]->shape[place] = merge ? views[v]->shape[place] * extent : extent;
            views[v]->stride[place] = stride;
        }
        kept += !merge;
    }
    for (int v = 0; v < count; v++) {
        if (kept == 0) views[v]->shape[0] = 1, views[v]->stride[0] = 1;
        views[v]->rank = kept ? kept : 1;
    }
}

const char *fovea_shape_text(const fovea_view *view, char *text, size_t size) {
    size_t used = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < view->rank && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%lld", i ? ", " : "",
                                 (long long)view->shape[i]);
    if (used < size) snprintf(text + used, size - used, "]");
    return text;
}
