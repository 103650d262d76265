/* Elements of a view by their row-major number, a run at a time: where they are, if they stand side by
 * side, and copies of them that do. */
#ifndef FOVEA_CPU_DENSE_H
#define FOVEA_CPU_DENSE_H

#include "cpu/kernel.h"

/* Elements of the innermost dimension from number `first` on. */
typedef struct dense_run {
    char *data;
    int64_t count,
        step; /* elements in the run, at most `count` of those asked for; bytes between them */
} dense_run;

static inline dense_run dense_run_at(const fovea_view *view, int64_t first, int64_t count) {
    int64_t size = (int64_t)fovea_dtype_size(view->dtype), inner = view->rank - 1;
    if (inner < 0) return (dense_run){view->data, 1, size};
    int64_t columns = view->shape[inner], column = first % columns, row = first / columns;
    int64_t offset = column * view->stride[inner];
    for (int64_t i = inner - 1; i >= 0; i--) {
        offset += row % view->shape[i] * view->stride[i];
        row /= view->shape[i];
    }
    return (dense_run){view->data + offset * size, smaller(columns - column, count),
                       view->stride[inner] * size};
}

/* Where elements [first, first + count) stand side by side; NULL if they do not. */
static inline void *dense_place(const fovea_view *view, int64_t first, int64_t count) {
    if (fovea_view_is_contiguous(view))
        return view->data + first * (int64_t)fovea_dtype_size(view->dtype);
    dense_run run = dense_run_at(view, first, count);
    bool whole = run.count >= count && (run.step == (int64_t)fovea_dtype_size(view->dtype));
    return whole ? run.data : NULL;
}

#define DENSE_COPY(type)                                                                           \
    typedef type __attribute__((may_alias)) dense_##type;                                          \
    static inline void dense_copy_##type(char *to, int64_t to_step, const char *from,              \
                                         int64_t from_step, int64_t count) {                       \
        for (int64_t i = 0; i < count; i++, to += to_step, from += from_step)                      \
            *(dense_##type *)(void *)to = *(const dense_##type *)(const void *)from;               \
    }
DENSE_COPY(uint64_t)
DENSE_COPY(uint32_t)
DENSE_COPY(uint16_t)
DENSE_COPY(uint8_t)

static inline void dense_copy(char *to, int64_t to_step, const char *from, int64_t from_step,
                              int64_t count, size_t size) {
    if (to_step == (int64_t)size && from_step == (int64_t)size)
        memcpy(to, from, (size_t)count * size);
    else if (size == 8)
        dense_copy_uint64_t(to, to_step, from, from_step, count);
    else if (size == 4)
        dense_copy_uint32_t(to, to_step, from, from_step, count);
    else if (size == 2)
        dense_copy_uint16_t(to, to_step, from, from_step, count);
    else
        dense_copy_uint8_t(to, to_step, from, from_step, count);
}

/* Copies elements [first, first + count) from a view to a dense block, and back. */
static inline void dense_read(const fovea_view *view, int64_t first, int64_t count, void *block) {
    size_t size = fovea_dtype_size(view->dtype);
    for (char *to = block; count > 0;) {
        dense_run run = dense_run_at(view, first, count);
        dense_copy(to, (int64_t)size, run.data, run.step, run.count, size);
        to += run.count * (int64_t)size, first += run.count, count -= run.count;
    }
}
static inline void dense_write(const fovea_view *view, int64_t first, int64_t count,
                               const void *block) {
    size_t size = fovea_dtype_size(view->dtype);
    for (const char *from = block; count > 0;) {
        dense_run run = dense_run_at(view, first, count);
        dense_copy(run.data, run.step, from, (int64_t)size, run.count, size);
        from += run.count * (int64_t)size, first += run.count, count -= run.count;
    }
}

#endif
