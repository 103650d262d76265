/* Tensors over arrays of the test, in a line. */
#ifndef FOVEA_TESTS_TENSORS_H
#define FOVEA_TESTS_TENSORS_H

#include "runtime/dtype.h"

/* TENSOR(data, FOVEA_F32, 2, 3): dense, of shape [2, 3], alive until the block ends. */
#define TENSOR(pointer, element_type, ...)                                                         \
    ((DLTensor){.data = (pointer),                                                                 \
                .device = {kDLCPU, 0},                                                             \
                .ndim = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                 \
                .dtype = fovea_dtype_to_dlpack(element_type),                                      \
                .shape = (int64_t[]){__VA_ARGS__}})

#define SCALAR(pointer, element_type)                                                              \
    ((DLTensor){                                                                                   \
        .data = (pointer), .device = {kDLCPU, 0}, .dtype = fovea_dtype_to_dlpack(element_type)})

#define STRIDES(...) ((int64_t[]){__VA_ARGS__})

#endif
