/* Samples of a measurement and what is said of them: medians and quantiles, never means. */
#ifndef FOVEA_TOOLS_BENCH_STATISTICS_H
#define FOVEA_TOOLS_BENCH_STATISTICS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct fovea_timings {
    double *values;
    int count, capacity;
} fovea_timings;

typedef struct fovea_summary {
    int count;
    double median, mad, p10, p90, minimum, maximum;
    int outliers; /* outside Tukey's fences: a quartile and 1.5 interquartile ranges */
} fovea_summary;

bool fovea_timings_add(fovea_timings *samples, double value); /* false: no memory */
void fovea_timings_release(fovea_timings *samples);

/* All zero for no samples; NaN never belongs in them. */
fovea_summary fovea_summarise(const double *values, int count);
/* The value below which a share of them lies, interpolated; the values are ascending. */
double fovea_quantile(const double *ascending, int count, double share);
/* Standard error of the median relative to it, from the MAD as if the noise were normal. */
double fovea_summary_spread(const fovea_summary *summary);

double fovea_median(double *values, int count);               /* sorts them; NaN for none */
double fovea_geometric_mean(const double *values, int count); /* NaN for none */

/* A small generator for the order of arms: the same seed gives the same order. */
uint64_t fovea_random_next(uint64_t *state);
void fovea_shuffle(int *items, int count, uint64_t *state);

#endif
