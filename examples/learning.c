/* Elementwise functions and routes: the same call many times, while the context finds out which
 * implementation is the fastest for it, within a twentieth of the time. */
#include <fovea/explore.h>
#include <stdio.h>

enum { COUNT = 50000, CALLS = 2000 };
static float in[COUNT], out[COUNT];

int main(void) {
    int64_t shape[] = {COUNT};
    DLTensor x = {
        .data = in, .device = {kDLCPU, 0}, .ndim = 1, .dtype = {kDLFloat, 32, 1}, .shape = shape};
    DLTensor y = x;
    y.data = out;
    for (int i = 0; i < COUNT; i++) in[i] = (float)i / COUNT - 0.5f;
    fovea_context *context;
    if (fovea_context_create(NULL, &context) != FOVEA_OK)
        return fprintf(stderr, "%s\n", fovea_last_message(NULL)), 1;
    int status = fovea_explore(context, 0.05);
    for (int i = 0; i < CALLS && status == FOVEA_OK; i++)
        status = fovea_map_gelu(context, &x, &y, NULL);
    fovea_exploration report;
    if (status || fovea_exploration_report(context, &report))
        return fprintf(stderr, "%s\n", fovea_last_message(context)), 1;
    fovea_statistics statistics;
    fovea_kernel_statistics(context, "map_gelu", &statistics);
    printf("%llu calls, %llu trials, which cost %.1f %% of the time; now %s\n",
           (unsigned long long)report.calls, (unsigned long long)report.trials,
           100 * report.lost_seconds / report.seconds, statistics.implementation);
    fovea_context_destroy(context);
    return 0;
}
