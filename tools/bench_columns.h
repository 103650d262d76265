/* Tables for a terminal: columns that know how much they matter, so that a narrow window loses the
 * least important ones first and no line is ever wider than it. */
#ifndef FOVEA_TOOLS_BENCH_COLUMNS_H
#define FOVEA_TOOLS_BENCH_COLUMNS_H

#include <stdbool.h>
#include <stdio.h>

typedef enum fovea_style {
    FOVEA_PLAIN,
    FOVEA_BOLD,
    FOVEA_FAINT,
    FOVEA_GOOD,
    FOVEA_BAD,
    FOVEA_TITLE
} fovea_style;

/* Where text goes: how wide it may be, and whether it may be coloured. */
typedef struct fovea_screen {
    FILE *file;
    int width;
    bool colour;
    bool utf8;
} fovea_screen;

/* Standard output as it is: its width (80 to 160, 100 if it is not a terminal; COLUMNS overrides),
 * colour on a terminal only and never with NO_COLOR. */
fovea_screen fovea_screen_detect(FILE *file);

enum { FOVEA_COLUMNS_MAX = 16, FOVEA_CELL = 96 };

typedef struct fovea_column {
    const char *title;
    int priority; /* lower ones are dropped first; 0: never */
    bool left;    /* aligned to the left; numbers are not */
} fovea_column;

typedef struct fovea_line {
    char cells[FOVEA_COLUMNS_MAX][FOVEA_CELL];
    char note[640]; /* instead of the cells after the first one, if not empty */
    fovea_style style;
    bool gap; /* an empty line before it */
} fovea_line;

void fovea_line_cell(fovea_line *line, int column, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Cells in UTF-8. */
void fovea_columns_print(const fovea_screen *screen, const fovea_column *columns, int column_count,
                         const fovea_line *lines, int line_count);

/* Prints words in paragraphs no wider than the screen, the second and later lines indented. */
void fovea_screen_wrap(const fovea_screen *screen, fovea_style style, const char *text);
void fovea_screen_say(const fovea_screen *screen, fovea_style style, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void fovea_screen_title(const fovea_screen *screen, const char *text);

int fovea_text_width(const char *utf8); /* code points */

/* Figures with three digits and a unit: "41.2 ms", "128 KiB", "205 GFLOP/s". */
const char *fovea_seconds_text(double seconds, char *text, size_t size);
const char *fovea_bytes_text(double bytes, char *text, size_t size);
const char *fovea_rate_text(double rate, const char *unit, char *text, size_t size);

#endif
