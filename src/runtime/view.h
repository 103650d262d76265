/* A view: what a kernel needs to know of a tensor, checked once and free of DLPack's details. */
#ifndef FOVEA_RUNTIME_VIEW_H
#define FOVEA_RUNTIME_VIEW_H

#include "runtime/dtype.h"
#include "runtime/status.h"

enum { FOVEA_RANK_MAX = 8 };

typedef struct fovea_view {
    char *data; /* the element at index 0, 0, ...; NULL only if there are no elements */
    fovea_dtype dtype;
    int rank;
    int64_t shape[FOVEA_RANK_MAX];
    int64_t stride[FOVEA_RANK_MAX]; /* in elements, may be 0 or negative */
} fovea_view;

/* Where the tensor's memory is: pinned memory of the host is the CPU's. */
DLDevice fovea_device_of(const DLTensor *tensor);
static inline bool fovea_same_device(DLDevice a, DLDevice b) {
    return a.device_type == b.device_type &&
           (a.device_type == kDLCPU || a.device_id == b.device_id);
}
/* "the CPU", "CUDA device 1" */
const char *fovea_device_text(DLDevice device, char *text, size_t size);

/* Checks a tensor (device, dtype, rank, extents, that every address fits) and describes it. */
fovea_status fovea_view_from_tensor(const DLTensor *tensor, const char *name, fovea_view *view,
                                    fovea_message *message);

/* 0 where an extent is 0, though the product of the others may be more than 64 bits count. */
static inline int64_t fovea_view_elements(const fovea_view *view) {
    uint64_t elements = 1;
    for (int i = 0; i < view->rank; i++) elements *= (uint64_t)view->shape[i];
    return (int64_t)elements;
}
/* Numbers that it holds: the elements, or their parts, which follow one another, of complex ones. */
int64_t fovea_view_values(const fovea_view *view);
bool fovea_view_is_contiguous(const fovea_view *view);
/* True if two different indices share an element (a zero stride, say). */
bool fovea_view_overlaps_itself(const fovea_view *view);
bool fovea_view_same_elements(const fovea_view *a, const fovea_view *b);
/* The addresses that a view spans, [first, end); both NULL if it has no elements. */
typedef struct fovea_range {
    const char *first, *end;
} fovea_range;
fovea_range fovea_view_range(const fovea_view *view);
/* True if the address ranges of two views meet. */
bool fovea_view_ranges_meet(const fovea_view *a, const fovea_view *b);

/* Addresses of elements and values by row-major number: for the reference, data and checks. */
char *fovea_view_address(const fovea_view *view, int64_t number);
double fovea_view_read(const fovea_view *view, int64_t number);
void fovea_view_write(const fovea_view *view, int64_t number, double value);
/* Copies a whole view to and from a dense array of doubles, in row-major order. */
void fovea_view_read_all(const fovea_view *view, double *values);
void fovea_view_write_all(const fovea_view *view, const double *values);

/* Merges neighbouring dimensions wherever all the views allow it and drops extents of 1, so that
 * loops are as few and as long as can be. The views have one shape; rank 0 becomes rank 1. */
void fovea_views_collapse(fovea_view *views[], int count);

/* Products that report overflow. */
static inline bool fovea_multiply(int64_t a, int64_t b, int64_t *product) {
    return !__builtin_mul_overflow(a, b, product);
}

/* "[2, 3, 64]" */
const char *fovea_shape_text(const fovea_view *view, char *text, size_t size);

#endif
