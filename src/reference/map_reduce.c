/* Domain 19, fused map-reduce, in double. */
#include "reference/reference.h"

#include <math.h>

/* Sums a term of the elements x, with their masks m, of each slice. */
#define MAP_REDUCE(name, inputs, term)                                                             \
    static bool name(const fovea_problem *problem, double *const outputs[]) {                      \
        const fovea_##name##_options *options = problem->options;                                  \
        int64_t count = fovea_view_elements(&problem->views[inputs]);                              \
        for (int64_t i = 0; i < count; i++) {                                                      \
            fovea_slice slice = fovea_problem_slice(problem, i);                                   \
            double sum = 0;                                                                        \
            for (int64_t k = 0; k < slice.count; k++) {                                            \
                int64_t element = fovea_slice_element(&slice, k);                                  \
                double x = fovea_view_read(&problem->views[0], element);                           \
                double m = inputs > 1 ? fovea_view_read(&problem->views[1], element) : 1;          \
                (void)m;                                                                           \
                sum += term;                                                                       \
            }                                                                                      \
            outputs[inputs][i] = sum;                                                              \
        }                                                                                          \
        return (void)options, true;                                                                \
    }

MAP_REDUCE(map_reduce_square_sum, 1, x *x)
MAP_REDUCE(map_reduce_abs_sum, 1, fabs(x))
MAP_REDUCE(map_reduce_masked_sum, 2, m != 0 ? x : 0)
MAP_REDUCE(map_reduce_threshold_count, 1, x > fovea_round_to(FOVEA_F32, options->threshold))

const fovea_reference fovea_references_map_reduce[] = {
    {"map_reduce_square_sum", map_reduce_square_sum},
    {"map_reduce_abs_sum", map_reduce_abs_sum},
    {"map_reduce_masked_sum", map_reduce_masked_sum},
    {"map_reduce_threshold_count", map_reduce_threshold_count},
    {0}};
