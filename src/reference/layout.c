/* Domain 15, layout: the bits of elements in another order. */
#include "reference/reference.h"

/* y_ji = x_ij over the last two dimensions. */
static bool transpose(const fovea_problem *problem, double *const outputs[]) {
    const fovea_view *x = &problem->views[0];
    int64_t rows = x->shape[x->rank - 2], columns = x->shape[x->rank - 1];
    int64_t count = fovea_view_elements(x);
    for (int64_t i = 0; i < count; i++) {
        int64_t square = i / (rows * columns), row = i / columns % rows, column = i % columns;
        fovea_bits(outputs[1])[(square * columns + column) * rows + row] =
            fovea_view_read_bits(x, i);
    }
    return true;
}

const fovea_reference fovea_references_layout[] = {{"transpose_2d", transpose},
                                                   {"repack_aos_to_soa", transpose},
                                                   {"repack_soa_to_aos", transpose},
                                                   {0}};
