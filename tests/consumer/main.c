/* Adds two vectors with an installed Fovea and checks the sum. */
#include <fovea/fovea.h>
#include <stdio.h>

int main(void) {
    float a[5] = {1, 2, 3, 4, 5}, b[5] = {10, 20, 30, 40, 50}, y[5] = {0};
    float *data[] = {a, b, y};
    int64_t shape[] = {5};
    DLTensor tensors[3];
    for (int t = 0; t < 3; t++)
        tensors[t] = (DLTensor){.data = data[t],
                                .device = {kDLCPU, 0},
                                .ndim = 1,
                                .dtype = {kDLFloat, 32, 1},
                                .shape = shape};
    fovea_context *context;
    if (fovea_context_create(NULL, &context) != FOVEA_OK)
        return fprintf(stderr, "%s\n", fovea_last_message(NULL)), 1;
    fovea_status status = fovea_map_add(context, &tensors[0], &tensors[1], &tensors[2], NULL);
    if (status != FOVEA_OK) fprintf(stderr, "%s\n", fovea_last_message(context));
    for (int i = 0; i < 5; i++)
        if (y[i] != a[i] + b[i]) status = FOVEA_DEVICE_ERROR;
    fovea_context_destroy(context);
    return status == FOVEA_OK ? 0 : 1;
}
