/* Reductions: mean, spread, extremes of a table's columns, and of all of it. */
#include <fovea/fovea.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 1000, COLUMNS = 4 };
static float table[ROWS][COLUMNS], mean[COLUMNS], deviation[COLUMNS];

static DLTensor tensor(void *data, int rank, int64_t *shape) {
    return (DLTensor){.data = data,
                      .device = {kDLCPU, 0},
                      .ndim = rank,
                      .dtype = {kDLFloat, 32, 1},
                      .shape = shape};
}

int main(void) {
    int64_t rows_and_columns[] = {ROWS, COLUMNS}, columns[] = {COLUMNS};
    float largest;
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLUMNS; c++) table[r][c] = (float)c + (float)rand() / (float)RAND_MAX;
    DLTensor x = tensor(table, 2, rows_and_columns), all = tensor(&largest, 0, NULL);
    DLTensor means = tensor(mean, 1, columns), deviations = tensor(deviation, 1, columns);

    fovea_context *context;
    if (fovea_context_create(NULL, &context) != FOVEA_OK)
        return fprintf(stderr, "%s\n", fovea_last_message(NULL)), 1;
    fovea_reduce_mean_options mean_of;
    fovea_reduce_mean_options_default(&mean_of);
    mean_of.axis = 0; /* down the columns */
    fovea_reduce_stddev_options deviation_of;
    fovea_reduce_stddev_options_default(&deviation_of);
    deviation_of.axis = 0;
    deviation_of.correction = 1; /* divides by n - 1 */
    if (fovea_reduce_mean(context, &x, &means, &mean_of) ||
        fovea_reduce_stddev(context, &x, &deviations, &deviation_of) ||
        fovea_reduce_max(context, &x, &all, NULL))
        return fprintf(stderr, "%s\n", fovea_last_message(context)), 1;
    for (int c = 0; c < COLUMNS; c++)
        printf("column %d: mean %.3f, standard deviation %.3f\n", c, (double)mean[c],
               (double)deviation[c]);
    printf("largest of all: %.3f\n", (double)largest);
    fovea_context_destroy(context);
    return 0;
}
