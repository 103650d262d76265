/* The parts of what a run prints of its suites. Each prints what the suite has of it, at most of
 * FOVEA_LINES_MAX cases. */
#ifndef FOVEA_TOOLS_BENCH_TABLE_H
#define FOVEA_TOOLS_BENCH_TABLE_H

#include "bench.h"
#include "bench_columns.h"

#include <string.h>

enum { FOVEA_LINES_MAX = 512 };

/* "cpu/avx512/flash": "flash". */
static inline const char *fovea_last_part(const char *arm) {
    const char *slash = strrchr(arm, '/');
    return slash ? slash + 1 : arm;
}

/* Case by case (bench_table_cases.c): a table of all arms, or a line of the library's choice. */
void fovea_print_case(const fovea_bench_run *run, const fovea_screen *screen,
                      const fovea_bench_case *c);
void fovea_print_lines(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                       fovea_place place, bool attention);
void fovea_print_group(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                       fovea_place place, const char *letter, const char *meaning);
void fovea_print_best(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                      fovea_place place);

/* As a whole (bench_table_kernels.c) */
void fovea_print_kernels(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                         fovea_place place);
void fovea_print_domains(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                         fovea_place place);
void fovea_print_optional_arms(const fovea_bench_run *run, const fovea_screen *screen,
                               const char *suite);
void fovea_print_speedups(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                          fovea_place place);

/* What some suites are for (bench_table_studies.c) */
void fovea_print_blocks(const fovea_bench_run *run, const fovea_screen *screen, const char *suite);
void fovea_print_routing(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                         fovea_place place);
void fovea_print_calls(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                       fovea_place place);
void fovea_print_enqueuing(const fovea_bench_run *run, const fovea_screen *screen,
                           const char *suite);
void fovea_print_stages(const fovea_bench_run *run, const fovea_screen *screen, const char *suite);
void fovea_print_places(const fovea_bench_run *run, const fovea_screen *screen, const char *suite);

#endif
