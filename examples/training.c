/* Optimizers: AdamW fits a line to points, with the gradient computed by hand. The tensors of the
 * parameters and of the optimizer's state are updated in place. */
#include <fovea/fovea.h>
#include <math.h>
#include <stdio.h>

enum { POINTS = 64, STEPS = 2000 };
static float parameter[2], gradient[2], momentum[2], second[2];

static DLTensor pair(float *data) {
    static int64_t shape[] = {2};
    return (DLTensor){
        .data = data, .device = {kDLCPU, 0}, .ndim = 1, .dtype = {kDLFloat, 32, 1}, .shape = shape};
}

/* Of the mean squared distance of a x + b from 3 x - 1. */
static void find_gradient(void) {
    gradient[0] = gradient[1] = 0;
    for (int i = 0; i < POINTS; i++) {
        float x = (float)i / POINTS, error = parameter[0] * x + parameter[1] - (3 * x - 1);
        gradient[0] += 2 * error * x / POINTS;
        gradient[1] += 2 * error / POINTS;
    }
}

int main(void) {
    DLTensor p = pair(parameter), g = pair(gradient), m = pair(momentum), v = pair(second);
    fovea_context *context;
    if (fovea_context_create(NULL, &context) != FOVEA_OK)
        return fprintf(stderr, "%s\n", fovea_last_message(NULL)), 1;
    fovea_opt_adamw_options options;
    fovea_opt_adamw_options_default(&options);
    options.lr = 0.02;
    options.weight_decay = 0;
    for (int step = 1; step <= STEPS; step++) {
        find_gradient();
        options.step = step;
        if (fovea_opt_adamw(context, &p, &g, &m, &v, &options))
            return fprintf(stderr, "%s\n", fovea_last_message(context)), 1;
    }
    printf("the line is %.3f x %+.3f\n", (double)parameter[0], (double)parameter[1]);
    fovea_context_destroy(context);
    return fabsf(parameter[0] - 3) > 0.05f || fabsf(parameter[1] + 1) > 0.05f;
}
