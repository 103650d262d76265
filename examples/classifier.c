/* Softmax, reductions: from scores to probabilities and the most likely class of each row. The scores
 * lie in memory by columns: strides say so, and nothing is copied. */
#include <fovea/fovea.h>
#include <stdio.h>

enum { ROWS = 3, CLASSES = 4 };

int main(void) {
    float scores[CLASSES][ROWS] = {{1, -2, 0}, {4, 0, 0.5f}, {2, 3, 0.25f}, {0, 1, 0}};
    float probabilities[ROWS][CLASSES];
    int64_t best[ROWS], shape[] = {ROWS, CLASSES}, by_columns[] = {1, ROWS}, rows[] = {ROWS};
    DLTensor x = {.data = scores,
                  .device = {kDLCPU, 0},
                  .ndim = 2,
                  .dtype = {kDLFloat, 32, 1},
                  .shape = shape,
                  .strides = by_columns};
    DLTensor y = x, index = x;
    y.data = probabilities, y.strides = NULL;
    index.data = best, index.strides = NULL, index.shape = rows, index.ndim = 1;
    index.dtype = (DLDataType){kDLInt, 64, 1};

    fovea_context *context;
    if (fovea_context_create(NULL, &context) != FOVEA_OK)
        return fprintf(stderr, "%s\n", fovea_last_message(NULL)), 1;
    fovea_reduce_argmax_options along;
    fovea_reduce_argmax_options_default(&along);
    along.axis = 1;
    if (fovea_softmax_stable(context, &x, &y, NULL) ||
        fovea_reduce_argmax(context, &y, &index, &along))
        return fprintf(stderr, "%s\n", fovea_last_message(context)), 1;
    for (int r = 0; r < ROWS; r++)
        printf("row %d: class %d, probability %.3f\n", r, (int)best[r],
               (double)probabilities[r][best[r]]);
    fovea_context_destroy(context);
    return 0;
}
