/* Statistics of timings. Timing noise is one-sided and heavy-tailed, so everything here is by order. */
#include "bench_statistics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool fovea_timings_add(fovea_timings *samples, double value) {
    if (samples->count == samples->capacity) {
        int capacity = samples->capacity ? 2 * samples->capacity : 32;
        double *values = realloc(samples->values, (size_t)capacity * sizeof *values);
        if (!values) return false;
        samples->values = values;
        samples->capacity = capacity;
    }
    samples->values[samples->count++] = value;
    return true;
}

void fovea_timings_release(fovea_timings *samples) {
    free(samples->values);
    *samples = (fovea_timings){0};
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double fovea_quantile(const double *sorted, int count, double share) {
    double position = share * (count - 1);
    int below = (int)position;
    int above = below + 1 < count ? below + 1 : below;
    return sorted[below] + (position - below) * (sorted[above] - sorted[below]);
}

double fovea_median(double *values, int count) {
    if (count == 0) return NAN;
    qsort(values, (size_t)count, sizeof *values, ascending);
    return fovea_quantile(values, count, 0.5);
}

fovea_summary fovea_summarise(const double *values, int count) {
    fovea_summary summary = {.count = count};
    double *sorted = count ? malloc((size_t)count * sizeof *sorted) : NULL;
    if (!sorted) return (fovea_summary){0};
    memcpy(sorted, values, (size_t)count * sizeof *sorted);
    summary.median = fovea_median(sorted, count);
    summary.p10 = fovea_quantile(sorted, count, 0.1);
    summary.p90 = fovea_quantile(sorted, count, 0.9);
    summary.minimum = sorted[0];
    summary.maximum = sorted[count - 1];
    double low = fovea_quantile(sorted, count, 0.25), high = fovea_quantile(sorted, count, 0.75);
    double fence = 1.5 * (high - low);
    for (int i = 0; i < count; i++)
        summary.outliers += sorted[i] < low - fence || sorted[i] > high + fence;
    for (int i = 0; i < count; i++) sorted[i] = fabs(sorted[i] - summary.median);
    summary.mad = fovea_median(sorted, count);
    free(sorted);
    return summary;
}

double fovea_summary_spread(const fovea_summary *summary) {
    if (summary->count < 2 || summary->median <= 0) return INFINITY;
    /* 1.4826 MAD estimates sigma; the median's standard error is 1.2533 sigma / sqrt(n). */
    return 1.2533 * 1.4826 * summary->mad / sqrt(summary->count) / summary->median;
}

double fovea_geometric_mean(const double *values, int count) {
    double sum = 0;
    for (int i = 0; i < count; i++) sum += log(values[i]);
    return count ? exp(sum / count) : NAN;
}

/* splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014. */
uint64_t fovea_random_next(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void fovea_shuffle(int *items, int count, uint64_t *state) {
    for (int i = count - 1; i > 0; i--) {
        int j = (int)(fovea_random_next(state) % (uint64_t)(i + 1));
        int swapped = items[i];
        items[i] = items[j];
        items[j] = swapped;
    }
}
