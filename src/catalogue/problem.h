/* A problem: one call, validated against its row and normalised. What implementations, the
 * reference, bounds and the router look at. */
#ifndef FOVEA_CATALOGUE_PROBLEM_H
#define FOVEA_CATALOGUE_PROBLEM_H

#include "catalogue/catalogue.h"

struct fovea_problem {
    const fovea_kernel *kernel;
    int index;           /* of the kernel in the catalogue */
    fovea_dtype dtype;   /* of the call: what arguments without dtypes of their own have */
    DLDevice device;     /* where all tensors are: the CPU or a CUDA device */
    uint32_t present;    /* bit a: argument a is given */
    const void *options; /* the kernel's options struct, complete; never NULL */
    int64_t extents[FOVEA_LETTERS_MAX]; /* by letter; a group's is its product */
    fovea_view views[FOVEA_ARGUMENTS_MAX];
};

/* tensors: the required arguments in order; count: how many there are. options may be NULL, and may
 * be an older, smaller struct (then it is completed into `storage`, FOVEA_OPTIONS_SIZE_MAX bytes).
 */
fovea_status fovea_problem_create(int kernel, const DLTensor *const *tensors, size_t count,
                                  const void *options, void *storage, fovea_problem *problem,
                                  fovea_message *message);

/* Whether the contents of the tensors can be read here: lengths and tables are checked then. */
static inline bool fovea_readable(const fovea_problem *problem) {
    return problem->device.device_type == kDLCPU;
}

/* Lengths and tables that lie in memory are checked in every call, and may change what it costs. */
bool fovea_depends_on_contents(const fovea_problem *problem);

static inline bool fovea_given(const fovea_problem *problem, int argument) {
    return problem->present >> argument & 1;
}

/* Whether the reference gives an output as bits. */
bool fovea_given_as_bits(const fovea_problem *problem, int output);

/* Whether an output shares memory with another tensor that it may not share with; ranges: by argument. */
bool fovea_problem_clashes(const fovea_problem *problem, const fovea_range ranges[], int *output,
                           int *other);

/* For code that is not in a hurry: lookups by name. The argument must exist in the row. */
const fovea_view *fovea_problem_view(const fovea_problem *problem,
                                     const char *argument); /* or NULL */
int64_t fovea_problem_extent(const fovea_problem *problem, const char *letter);
double fovea_problem_parameter(const fovea_problem *problem, const char *name);

double fovea_parameter_read(int kernel, const void *options, int parameter);
void fovea_parameter_write(int kernel, void *options, int parameter, double value);

/* The letter that stands in dimension i after the group, by the options of the problem; *more is added to
 * its extent. */
int fovea_problem_letter(const fovea_problem *problem, const fovea_shape *shape, int i, int *more);

double fovea_problem_operations(const fovea_problem *problem);
double fovea_problem_bytes(const fovea_problem *problem);

/* The axis parameter of reductions, checked: the dimension, or -1 for all. Kernels without one whose
 * arguments have rows go along the last. */
int fovea_problem_axis(const fovea_problem *problem);

/* The elements of the first argument that make element `number` of a result: all of them, or those
 * along the axis. */
typedef struct fovea_slice {
    int64_t count, first, step;
} fovea_slice;
fovea_slice fovea_problem_slice(const fovea_problem *problem, int64_t number);
static inline int64_t fovea_slice_element(const fovea_slice *slice, int64_t k) {
    return slice->first + k * slice->step;
}

#endif
