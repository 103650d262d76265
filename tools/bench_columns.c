/* Printing of tables and figures on a terminal. */
#include "bench_columns.h"

#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const char *const codes[] = {
    [FOVEA_PLAIN] = "",        [FOVEA_BOLD] = "\033[1m", [FOVEA_FAINT] = "\033[2m",
    [FOVEA_GOOD] = "\033[32m", [FOVEA_BAD] = "\033[31m", [FOVEA_TITLE] = "\033[1;36m"};

fovea_screen fovea_screen_detect(FILE *file) {
    struct winsize size = {0};
    const char *columns = getenv("COLUMNS"), *no_colour = getenv("NO_COLOR");
    const char *kind = getenv("TERM");
    bool terminal = isatty(fileno(file));
    fovea_screen screen = {.file = file, .width = 100};
    if (terminal && ioctl(fileno(file), TIOCGWINSZ, &size) == 0 && size.ws_col)
        screen.width = size.ws_col;
    if (columns && atoi(columns) > 0) screen.width = atoi(columns);
    if (screen.width < 40) screen.width = 40;
    if (screen.width > 160) screen.width = 160;
    screen.colour = terminal && !(no_colour && *no_colour) && !(kind && !strcmp(kind, "dumb"));
    setlocale(LC_CTYPE, "");
    /* What is not a terminal is read by something modern. */
    screen.utf8 = !terminal || strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    return screen;
}

int fovea_text_width(const char *utf8) {
    int width = 0;
    for (; *utf8; utf8++) width += (*utf8 & 0xC0) != 0x80;
    return width;
}

/* The few signs beyond ASCII that the tables use. */
static const char *ascii_of(const char *sign, size_t length) {
    static const char *const pairs[][2] = {{"×", "x"}, {"±", "+-"}, {"µ", "u"},  {"→", ">"},
                                           {"─", "-"}, {"·", "."},  {"≤", "<="}, {"…", "~"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (strlen(pairs[i][0]) == length && memcmp(pairs[i][0], sign, length) == 0)
            return pairs[i][1];
    return "?";
}

/* At most `width` code points of the text; the last is an ellipsis where it is longer. */
static int put(const fovea_screen *screen, const char *text, int width) {
    bool cut = fovea_text_width(text) > width;
    int printed = 0;
    while (*text && printed < width) {
        size_t length = 1;
        while ((text[length] & 0xC0) == 0x80) length++;
        if (cut && printed == width - 1) text = "…", length = strlen("…");
        if (length == 1 || screen->utf8)
            fwrite(text, 1, length, screen->file), printed++;
        else
            printed += fprintf(screen->file, "%s", ascii_of(text, length));
        text += length;
        if (cut && printed == width) break;
    }
    return printed;
}

static void start(const fovea_screen *screen, fovea_style style) {
    if (screen->colour) fputs(codes[style], screen->file);
}

static void end_line(const fovea_screen *screen, fovea_style style) {
    if (screen->colour && *codes[style]) fputs("\033[0m", screen->file);
    fputc('\n', screen->file);
}

static void spaces(const fovea_screen *screen, int count) {
    for (int i = 0; i < count; i++) fputc(' ', screen->file);
}

/* Which columns fit: all, less the least important ones. The first column shrinks at last. */
static void choose_columns(const fovea_screen *screen, const fovea_column *columns, int count,
                           int *widths) {
    for (;;) {
        int total = 2, least = -1;
        for (int c = 0; c < count; c++) {
            if (!widths[c]) continue;
            total += widths[c] + (c ? 2 : 0);
            if (columns[c].priority && (least < 0 || columns[c].priority < columns[least].priority))
                least = c;
        }
        if (total <= screen->width) return;
        if (least < 0) {
            int left = screen->width - (total - widths[0]);
            widths[0] = left > 4 ? left : 4;
            return;
        }
        widths[least] = 0;
    }
}

static void print_cells(const fovea_screen *screen, const fovea_column *columns, int count,
                        const int *widths, const fovea_line *line) {
    if (line->gap) fputc('\n', screen->file);
    spaces(screen, 2);
    start(screen, line->style);
    int at = 2;
    for (int c = 0; c < count; c++) {
        if (c && *line->note) {
            if (screen->width - at <= 2) break;
            spaces(screen, 2);
            put(screen, line->note, screen->width - at - 2);
            break;
        }
        if (!widths[c]) continue;
        int padding = widths[c] - fovea_text_width(line->cells[c]);
        if (padding < 0) padding = 0;
        if (c) spaces(screen, 2), at += 2;
        if (!columns[c].left) spaces(screen, padding);
        put(screen, line->cells[c], widths[c]);
        if (columns[c].left) spaces(screen, padding);
        at += widths[c];
    }
    end_line(screen, line->style);
}

void fovea_columns_print(const fovea_screen *screen, const fovea_column *columns, int column_count,
                         const fovea_line *lines, int line_count) {
    int widths[FOVEA_COLUMNS_MAX] = {0};
    fovea_line head = {.style = FOVEA_FAINT};
    for (int c = 0; c < column_count; c++) {
        bool used = c == 0;
        snprintf(head.cells[c], FOVEA_CELL, "%s", columns[c].title);
        widths[c] = fovea_text_width(columns[c].title);
        for (int i = 0; i < line_count; i++) {
            if (c && *lines[i].note) continue;
            int width = fovea_text_width(lines[i].cells[c]);
            if (width > widths[c]) widths[c] = width;
            used |= width > 0;
        }
        if (!used) widths[c] = 0; /* nothing to say in any line */
    }
    choose_columns(screen, columns, column_count, widths);
    print_cells(screen, columns, column_count, widths, &head);
    for (int i = 0; i < line_count; i++)
        print_cells(screen, columns, column_count, widths, &lines[i]);
}

void fovea_screen_wrap(const fovea_screen *screen, fovea_style style, const char *text) {
    bool first = true;
    while (*text) {
        int indent = first ? 2 : 4, room = screen->width - indent, used = 0;
        const char *end = text, *space = NULL;
        for (; *end && used <= room; end++) {
            if ((*end & 0xC0) != 0x80) used++;
            if (*end == ' ' && used <= room + 1) space = end;
        }
        if (*end || used > room) end = space ? space : end;
        spaces(screen, indent);
        start(screen, style);
        char line[512];
        snprintf(line, sizeof line, "%.*s", (int)(end - text), text);
        put(screen, line, room);
        end_line(screen, style);
        for (text = end; *text == ' ';) text++;
        first = false;
    }
}

void fovea_screen_title(const fovea_screen *screen, const char *text) {
    fputc('\n', screen->file);
    start(screen, FOVEA_TITLE);
    put(screen, text, screen->width);
    end_line(screen, FOVEA_TITLE);
}

/* ---- Figures -------------------------------------------------------------------------------- */

/* Three significant digits without an exponent. */
static void three_digits(double value, const char *unit, char *text, size_t size) {
    int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    snprintf(text, size, "%.*f %s", decimals, value, unit);
}

const char *fovea_seconds_text(double seconds, char *text, size_t size) {
    if (!(seconds >= 0)) return snprintf(text, size, "-"), text;
    if (seconds < 0.9995e-6) return three_digits(seconds * 1e9, "ns", text, size), text;
    if (seconds < 0.9995e-3) return three_digits(seconds * 1e6, "µs", text, size), text;
    if (seconds < 0.9995) return three_digits(seconds * 1e3, "ms", text, size), text;
    return three_digits(seconds, "s", text, size), text;
}

const char *fovea_bytes_text(double bytes, char *text, size_t size) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int unit = 0;
    while (bytes >= 1024 && unit < 4) bytes /= 1024, unit++;
    if (unit == 0)
        snprintf(text, size, "%.0f B", bytes);
    else
        three_digits(bytes, units[unit], text, size);
    return text;
}

const char *fovea_rate_text(double rate, const char *unit, char *text, size_t size) {
    static const char *const prefixes[] = {"", "k", "M", "G", "T", "P"};
    int prefix = 0;
    char whole[32];
    if (!(rate >= 0) || isinf(rate)) return snprintf(text, size, "-"), text;
    while (rate >= 999.5 && prefix < 5) rate /= 1000, prefix++;
    snprintf(whole, sizeof whole, "%s%s", prefixes[prefix], unit);
    three_digits(rate, whole, text, size);
    return text;
}

void fovea_line_cell(fovea_line *line, int column, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line->cells[column], FOVEA_CELL, format, arguments);
    va_end(arguments);
}

void fovea_screen_say(const fovea_screen *screen, fovea_style style, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fovea_screen_wrap(screen, style, text);
}
