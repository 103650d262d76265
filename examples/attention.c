/* Causal attention of random queries over random keys and values. */
#include <fovea/fovea.h>
#include <stdio.h>
#include <stdlib.h>

enum { HEADS = 8, LENGTH = 512, SIZE = 64, COUNT = HEADS * LENGTH * SIZE };
static float memory[4][COUNT];

int main(void) {
    int64_t shape[] = {1, HEADS, LENGTH, SIZE}; /* batch, heads, length, head size */
    DLTensor tensors[4];                        /* q, k, v, out */
    for (int t = 0; t < 4; t++) {
        for (int i = 0; i < COUNT; i++) memory[t][i] = (float)rand() / (float)RAND_MAX - 0.5f;
        tensors[t] = (DLTensor){.data = memory[t],
                                .device = {kDLCPU, 0},
                                .ndim = 4,
                                .dtype = {kDLFloat, 32, 1},
                                .shape = shape};
    }
    fovea_context *context;
    if (fovea_context_create(NULL, &context) != FOVEA_OK)
        return fprintf(stderr, "%s\n", fovea_last_message(NULL)), 1;
    fovea_attention_options options;
    fovea_attention_options_default(&options);
    options.causal = FOVEA_ATTENTION_CAUSAL_TOP_LEFT;
    fovea_call_report report;
    if (fovea_attention(context, &tensors[0], &tensors[1], &tensors[2], &tensors[3], &options))
        return fprintf(stderr, "%s\n", fovea_last_message(context)), 1;
    fovea_last_call(context, &report);
    printf("%s took %.2f ms\n", report.implementation, 1e3 * report.seconds);
    fovea_context_destroy(context);
    return 0;
}
