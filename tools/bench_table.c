/* The terminal's side of a run: what was measured, suite by suite, and what to think of it. */
#include "bench.h"
#include "bench_columns.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINES_MAX = 512 };

static void cell(fovea_line *line, int column, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void cell(fovea_line *line, int column, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line->cells[column], FOVEA_CELL, format, arguments);
    va_end(arguments);
}

static void say(const fovea_screen *screen, fovea_style style, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void say(const fovea_screen *screen, fovea_style style, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fovea_screen_wrap(screen, style, text);
}

/* Its rate in the state that it was in after much of the same. */
static const char *rate_of(const fovea_bench_case *c, const fovea_bench_row *row,
                           const fovea_summary *summary, char *text, size_t size) {
    bool bytes = c->by_bytes[row->place];
    return fovea_rate_text((bytes ? c->bytes : c->operations) / summary->median,
                           bytes ? "B/s" : "FLOP/s", text, size);
}

static void hot_ratio_cell(fovea_line *line, int column, const fovea_bench_row *row,
                           const fovea_bench_row *other) {
    if (row && other && row->hot_summary.count && other->hot_summary.count)
        cell(line, column, "%.2f×", other->hot_summary.median / row->hot_summary.median);
}

/* "1.24×" */
static void ratio_cell(fovea_line *line, int column, const fovea_bench_row *row,
                       const fovea_bench_row *other) {
    if (row && other) cell(line, column, "%.2f×", other->summary.median / row->summary.median);
}

/* The arm whose name ends so. */
static const fovea_bench_row *find_arm(const fovea_bench_case *c, const char *end) {
    for (int r = 0; r < c->row_count; r++) {
        const fovea_bench_row *row = &c->rows[r];
        size_t length = strlen(row->arm), part = strlen(end);
        if (row->verified && row->summary.count && length >= part &&
            strcmp(row->arm + length - part, end) == 0)
            return row;
    }
    return NULL;
}

static const char *last_part(const char *arm) {
    const char *slash = strrchr(arm, '/');
    return slash ? slash + 1 : arm;
}

/* ---- A table a case ------------------------------------------------------------------------- */

static const fovea_column arm_columns[] = {
    {"arm", 0, true},        {"time", 20, false},         {"±", 9, false},
    {"rate", 12, false},     {"of peak", 14, false},      {"vs best peer", 18, false},
    {"vs NumPy", 10, false}, {"error", 7, false},         {"of bound", 11, false},
    {"scratch", 6, false},   {"block", 3, false},         {"", 5, true},
    {"hot", 13, false},      {"vs best, hot", 17, false}, {"with transfers", 19, false}};
enum { ARM_COLUMNS = sizeof arm_columns / sizeof *arm_columns };

/* Fastest first, then those without a time. */
static int by_median(const void *a, const void *b) {
    const fovea_bench_row *x = *(const fovea_bench_row *const *)a;
    const fovea_bench_row *y = *(const fovea_bench_row *const *)b;
    bool timed_x = x->verified && x->summary.count, timed_y = y->verified && y->summary.count;
    if (timed_x != timed_y) return timed_x ? -1 : 1;
    if (timed_x && x->summary.median != y->summary.median)
        return x->summary.median < y->summary.median ? -1 : 1;
    return strcmp(x->arm, y->arm);
}

static void remarks(const fovea_bench_row *row, char *text, size_t size) {
    static const struct {
        unsigned flag;
        const char *text;
    } known[] = {{FOVEA_ROW_ROUTED, "chosen"},
                 {FOVEA_ROW_LESS_ACCURATE, "less accurate"},
                 {FOVEA_ROW_ABOVE_CEILING, "above the ceiling"},
                 {FOVEA_ROW_NOISY, "noisy"},
                 {FOVEA_ROW_APPROXIMATE, "approximate"},
                 {FOVEA_ROW_FEW_SAMPLES, "few samples"},
                 {FOVEA_ROW_COLD, "cold"},
                 {FOVEA_ROW_THROTTLED, "throttled"}};
    size_t used = 0;
    text[0] = 0;
    if (*row->arithmetic) used = (size_t)snprintf(text, size, "in %s", row->arithmetic);
    for (size_t i = 0; i < sizeof known / sizeof *known && used < size; i++)
        if (row->flags & known[i].flag)
            used +=
                (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "", known[i].text);
}

static void timed_line(const fovea_bench_case *c, const fovea_bench_row *row, fovea_line *line) {
    char text[64];
    const fovea_summary *s = &row->summary;
    const fovea_bench_row *best_peer = fovea_best_peer(c, row, false);
    const fovea_bench_row *best_hot = fovea_best_peer(c, row, true);
    cell(line, 1, "%s", fovea_seconds_text(s->median, text, sizeof text));
    if (s->count > 2) cell(line, 2, "%.1f %%", 100 * s->mad / s->median);
    cell(line, 3, "%s", rate_of(c, row, s, text, sizeof text));
    if (row->share > 0) cell(line, 4, "%.0f %%", 100 * row->share);
    if (row != best_peer) ratio_cell(line, 5, row, best_peer);
    if (strcmp(row->arm, "peer/numpy") != 0)
        ratio_cell(line, 6, row, fovea_find_row(c, row->place, "peer/numpy"));
    cell(line, 7, "%.1e", row->error);
    if (row->bound > 0) cell(line, 8, "%.2f", row->error / row->bound);
    if (!row->peer)
        cell(line, 9, "%s", fovea_bytes_text((double)row->scratch_bytes, text, sizeof text));
    if (row->block_rows)
        cell(line, 10, "%lldx%lld", (long long)row->block_rows, (long long)row->block_keys);
    remarks(row, line->cells[11], FOVEA_CELL);
    if (row->hot_summary.count)
        cell(line, 12, "%s", rate_of(c, row, &row->hot_summary, text, sizeof text));
    if (row != best_hot) hot_ratio_cell(line, 13, row, best_hot);
    if (row->journey_summary.count)
        cell(line, 14, "%s", fovea_seconds_text(row->journey_summary.median, text, sizeof text));
    line->style = row->peer                                ? FOVEA_PLAIN
                  : row == fovea_routed_row(c, row->place) ? FOVEA_GOOD
                                                           : FOVEA_BOLD;
}

static void arm_line(const fovea_bench_case *c, const fovea_bench_row *row, fovea_line *line) {
    *line = (fovea_line){.style = FOVEA_PLAIN};
    cell(line, 0, "%s", row->arm);
    if (row->verified && row->summary.count) {
        timed_line(c, row, line);
    } else if (!row->served) {
        snprintf(line->note, sizeof line->note, "does not serve this: %s", row->reason);
        line->style = FOVEA_FAINT;
    } else {
        snprintf(line->note, sizeof line->note, "%s%s",
                 row->verified                 ? "was not timed"
                 : !(row->error <= row->bound) ? "WRONG: "
                                               : "failed: ",
                 row->verified  ? ""
                 : *row->reason ? row->reason
                                : "was not verified");
        line->style = row->verified ? FOVEA_FAINT : FOVEA_BAD;
    }
}

/* Differences from the reference over the elements that were compared, and speed-ups. */
static const fovea_column accuracy_columns[] = {
    {"arm", 0, true},           {"time", 20, false},           {"vs flash", 18, false},
    {"vs textbook", 17, false}, {"max difference", 10, false}, {"mean", 9, false},
    {"cosine", 15, false},      {"relative L1", 16, false},    {"RMSE", 12, false}};
enum { ACCURACY_COLUMNS = sizeof accuracy_columns / sizeof *accuracy_columns };

static void accuracy_line(const fovea_bench_case *c, const fovea_bench_row *row, fovea_line *line) {
    char text[64];
    const fovea_accuracy *a = &row->accuracy;
    *line = (fovea_line){.style = FOVEA_PLAIN};
    cell(line, 0, "%s", row->arm);
    if (row->summary.count) {
        cell(line, 1, "%s", fovea_seconds_text(row->summary.median, text, sizeof text));
        ratio_cell(line, 2, row, fovea_find_row(c, row->place, "/flash"));
        ratio_cell(line, 3, row, fovea_find_row(c, row->place, "/textbook"));
    }
    cell(line, 4, "%.1e", a->maximum);
    cell(line, 5, "%.1e", a->mean);
    cell(line, 6, "%.7f", a->cosine);
    cell(line, 7, "%.1e", a->relative_l1);
    cell(line, 8, "%.1e", a->rmse);
    if (!row->verified) line->style = FOVEA_BAD;
}

static void print_accuracy(const fovea_screen *screen, const fovea_bench_case *c,
                           const fovea_bench_row *const *order) {
    static fovea_line lines[FOVEA_ARMS_MAX];
    int count = 0;
    for (int r = 0; r < c->row_count; r++)
        if (order[r]->accuracy.count) accuracy_line(c, order[r], &lines[count++]);
    if (!count) return;
    fputc('\n', screen->file);
    fovea_columns_print(screen, accuracy_columns, ACCURACY_COLUMNS, lines, count);
}

/* Where arms of both places stand in one table: what the way to the device and back costs. */
static void print_transfers(const fovea_bench_run *run, const fovea_screen *screen,
                            const fovea_bench_case *c) {
    char to[32], to_time[32], back[32], back_time[32];
    if (!fovea_bench_on_both(run)) return;
    say(screen, FOVEA_FAINT,
        "transfers, from and to pageable memory: %s there in %s, %s back in %s; they are in no "
        "other time",
        fovea_bytes_text((double)c->sent_bytes, to, sizeof to),
        fovea_seconds_text(c->sent_seconds, to_time, sizeof to_time),
        fovea_bytes_text((double)c->fetched_bytes, back, sizeof back),
        fovea_seconds_text(c->fetched_seconds, back_time, sizeof back_time));
}

static void print_case(const fovea_bench_run *run, const fovea_screen *screen,
                       const fovea_bench_case *c) {
    static fovea_line lines[FOVEA_ARMS_MAX];
    const fovea_bench_row *order[FOVEA_ARMS_MAX];
    char work[64], bytes[64], title[256];
    fovea_rate_text(c->operations, "FLOP", work, sizeof work);
    fovea_bytes_text(c->bytes, bytes, sizeof bytes);
    snprintf(title, sizeof title, "%s  %s  %s, %s", c->name, fovea_dtype_name(c->definition.dtype),
             work, bytes);
    fovea_screen_title(screen, title);
    if (!c->done) {
        say(screen, FOVEA_FAINT, "not measured%s%s", *c->problem ? ": " : "", c->problem);
        return;
    }
    for (int r = 0; r < c->row_count; r++) order[r] = &c->rows[r];
    qsort(order, (size_t)c->row_count, sizeof *order, by_median);
    for (int r = 0; r < c->row_count; r++) arm_line(c, order[r], &lines[r]);
    fovea_columns_print(screen, arm_columns, ARM_COLUMNS, lines, c->row_count);
    print_transfers(run, screen, c);
    if (fovea_suite_view(c->suite) == FOVEA_VIEW_ACCURACY) print_accuracy(screen, c, order);
}

/* ---- A line a case -------------------------------------------------------------------------- */

static const fovea_column attention_columns[] = {
    {"case", 0, true},           {"ours", 13, true},         {"time", 20, false},
    {"tokens/s", 12, false},     {"FLOP/s", 8, false},       {"of peak", 14, false},
    {"vs textbook", 10, false},  {"scratch", 6, false},      {"best peer", 11, true},
    {"vs best peer", 19, false}, {"vs NumPy", 15, false},    {"of bound", 5, false},
    {"hot", 13, false},          {"vs best, hot", 18, false}};
static const fovea_column kernel_columns[] = {
    {"case", 0, true},       {"ours", 13, true},
    {"time", 20, false},     {"launches (programmatic)", 6, false},
    {"rate", 12, false},     {"of peak", 14, false},
    {"", 1, false},          {"scratch", 4, false},
    {"best peer", 11, true}, {"vs best peer", 19, false},
    {"vs NumPy", 15, false}, {"of bound", 5, false},
    {"hot", 13, false},      {"vs best, hot", 18, false}};
enum { LINE_COLUMNS = sizeof attention_columns / sizeof *attention_columns };

static int64_t extent(const fovea_bench_case *c, const char *letter) {
    int index = fovea_kernel_letter(c->definition.index, letter);
    return index < 0 ? 0 : c->definition.extents[index];
}

static double tokens(const fovea_bench_case *c) {
    return (double)extent(c, "B") * (double)extent(c, "Sq");
}

static const fovea_bench_row *first_wrong(const fovea_bench_case *c, fovea_place place) {
    for (int r = 0; r < c->row_count; r++)
        if (!c->rows[r].peer && c->rows[r].place == place && c->rows[r].served &&
            !c->rows[r].verified && *c->rows[r].reason)
            return &c->rows[r];
    return NULL;
}

/* In launches of an empty kernel; in brackets those that are brought in while the one before ends. */
static void launches_cell(fovea_line *line, int column, const fovea_bench_run *run, double median) {
    if (run->programmatic_launch_seconds > 0)
        cell(line, column, "%.1f (%.1f)", median / run->launch_seconds,
             median / run->programmatic_launch_seconds);
    else
        cell(line, column, "%.1f", median / run->launch_seconds);
}

static void case_line(const fovea_bench_run *run, const fovea_bench_case *c, fovea_place place,
                      bool attention, fovea_line *line) {
    const fovea_bench_row *row = fovea_routed_row(c, place);
    const fovea_bench_row *peer = row ? fovea_best_peer(c, row, false) : NULL;
    const fovea_bench_row *wrong = first_wrong(c, place);
    char text[64];
    *line = (fovea_line){.style = FOVEA_PLAIN};
    cell(line, 0, "%s", c->name);
    if (!c->done || !row) {
        snprintf(line->note, sizeof line->note, "%s",
                 *c->problem ? c->problem
                 : c->done   ? "none of ours serves this"
                             : "not measured");
        line->style = FOVEA_FAINT;
        if (wrong)
            snprintf(line->note, sizeof line->note, "WRONG: %s: %s", wrong->arm, wrong->reason);
        if (wrong) line->style = FOVEA_BAD;
        return;
    }
    double median = row->summary.median;
    bool bytes = c->by_bytes[row->place];
    cell(line, 1, "%s%s", last_part(row->arm), wrong ? " (another is WRONG)" : "");
    cell(line, 2, "%s", fovea_seconds_text(median, text, sizeof text));
    if (attention) cell(line, 3, "%s", fovea_rate_text(tokens(c) / median, "", text, sizeof text));
    if (!attention && row->place == FOVEA_ON_CUDA && run->launch_seconds > 0 &&
        median < 20 * run->launch_seconds)
        launches_cell(line, 3, run, median);
    cell(line, 4, "%s",
         fovea_rate_text((bytes ? c->bytes : c->operations) / median,
                         bytes       ? "B/s"
                         : attention ? ""
                                     : "FLOP/s",
                         text, sizeof text));
    if (row->share > 0) cell(line, 5, "%.0f %%", 100 * row->share);
    if (attention) ratio_cell(line, 6, row, fovea_find_row(c, place, "/textbook"));
    cell(line, 7, "%s", fovea_bytes_text((double)row->scratch_bytes, text, sizeof text));
    if (peer) cell(line, 8, "%s", last_part(peer->arm));
    ratio_cell(line, 9, row, peer);
    ratio_cell(line, 10, row, fovea_find_row(c, place, "peer/numpy"));
    if (row->bound > 0) cell(line, 11, "%.2f", row->error / row->bound);
    if (row->bound == 0) cell(line, 11, "exact");
    if (row->hot_summary.count)
        cell(line, 12, "%s", rate_of(c, row, &row->hot_summary, text, sizeof text));
    hot_ratio_cell(line, 13, row, fovea_best_peer(c, row, true));
    if (peer) line->style = peer->summary.median > median ? FOVEA_GOOD : FOVEA_PLAIN;
    if (wrong) line->style = FOVEA_BAD;
}

static void print_lines(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                        fovea_place place, bool attention) {
    static fovea_line lines[LINES_MAX];
    const fovea_bench_case *before = NULL;
    int count = 0;
    for (int i = 0; i < run->case_count && count < LINES_MAX; i++) {
        const fovea_bench_case *c = &run->cases[i];
        if (strcmp(c->suite, suite) != 0) continue;
        case_line(run, c, place, attention, &lines[count]);
        lines[count].gap = before && (attention ? extent(before, "B") != extent(c, "B")
                                                : before->definition.index != c->definition.index);
        before = c;
        count++;
    }
    fovea_columns_print(screen, attention ? attention_columns : kernel_columns, LINE_COLUMNS, lines,
                        count);
}

/* ---- Groups of a suite ---------------------------------------------------------------------- */

/* Medians of the share of the ceiling and of the speed-up over textbook and over the best peer, over
 * the cases with one value of an extent. */
static void print_group(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                        fovea_place place, const char *letter, const char *meaning) {
    fovea_line lines[16];
    int count = 0;
    int64_t done[16];
    static const fovea_column columns[] = {{"", 0, true},
                                           {"cases", 5, false},
                                           {"of peak, median", 20, false},
                                           {"maximum", 8, false},
                                           {"vs textbook, median", 15, false},
                                           {"maximum ", 7, false},
                                           {"vs best peer, median", 19, false},
                                           {"minimum", 9, false}};
    for (int i = 0; i < run->case_count && count < 16; i++) {
        if (strcmp(run->cases[i].suite, suite) != 0) continue;
        int64_t value = extent(&run->cases[i], letter);
        bool seen = false;
        for (int k = 0; k < count; k++) seen |= done[k] == value;
        if (seen) continue;
        double shares[LINES_MAX], textbook[LINES_MAX], peers[LINES_MAX];
        int n = 0, t = 0, p = 0;
        for (int j = i; j < run->case_count && n < LINES_MAX; j++) {
            const fovea_bench_case *c = &run->cases[j];
            const fovea_bench_row *row = fovea_routed_row(c, place), *slow, *peer;
            if (strcmp(c->suite, suite) != 0 || extent(c, letter) != value || !row) continue;
            shares[n++] = row->share;
            if ((slow = fovea_find_row(c, place, "/textbook")))
                textbook[t++] = slow->summary.median / row->summary.median;
            if ((peer = fovea_best_row(c, place, true)))
                peers[p++] = peer->summary.median / row->summary.median;
        }
        if (!n) continue;
        done[count] = value;
        fovea_line *line = &lines[count++];
        *line = (fovea_line){0};
        cell(line, 0, "%s %lld", meaning, (long long)value);
        cell(line, 1, "%d", n);
        cell(line, 2, "%.0f %%", 100 * fovea_median(shares, n)); /* sorts */
        cell(line, 3, "%.0f %%", 100 * shares[n - 1]);
        if (t) cell(line, 4, "%.2f×", fovea_median(textbook, t));
        if (t) cell(line, 5, "%.2f×", textbook[t - 1]);
        if (p) cell(line, 6, "%.2f×", fovea_median(peers, p));
        if (p) cell(line, 7, "%.2f×", peers[0]);
    }
    if (count < 2) return;
    fputc('\n', screen->file);
    fovea_columns_print(screen, columns, 8, lines, count);
}

static void print_best(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                       fovea_place place) {
    const fovea_bench_case *best = NULL;
    double shares[LINES_MAX];
    int count = 0;
    for (int i = 0; i < run->case_count && count < LINES_MAX; i++) {
        const fovea_bench_case *c = &run->cases[i];
        const fovea_bench_row *row = fovea_routed_row(c, place);
        if (strcmp(c->suite, suite) != 0 || !row) continue;
        shares[count++] = row->share;
        if (!best || row->share > fovea_routed_row(best, place)->share) best = c;
    }
    if (!best || count < 2) return;
    fputc('\n', screen->file);
    say(screen, FOVEA_BOLD,
        "Best configuration: %s, %.0f %% of the ceiling; the median of the %d cases is %.0f %%.",
        best->name, 100 * fovea_routed_row(best, place)->share, count,
        100 * fovea_median(shares, count));
}

/* ---- The catalogue, kernel by kernel -------------------------------------------------------- */

/* "from n 100000" is the crossover: the smallest size from which on ours leads at every larger one. */
/* The kernel that a case of the suite is the first of, or NULL. */
static const char *new_kernel(const fovea_bench_run *run, const char *suite, int at) {
    const fovea_bench_case *c = &run->cases[at];
    if (strcmp(c->suite, suite) != 0) return NULL;
    for (int i = 0; i < at; i++)
        if (strcmp(run->cases[i].suite, suite) == 0 && strcmp(run->cases[i].kernel, c->kernel) == 0)
            return NULL;
    return c->kernel;
}

static void kernel_line(const fovea_bench_run *run, const char *suite, fovea_place place,
                        const char *kernel, double noise, fovea_line *line) {
    double peers[LINES_MAX], numpy[LINES_MAX];
    int p = 0, n = 0, cases = 0, ahead = 0;
    const char *from = NULL, *domain = "";
    for (int i = 0; i < run->case_count && p < LINES_MAX; i++) {
        const fovea_bench_case *c = &run->cases[i];
        const fovea_bench_row *ours = fovea_routed_row(c, place),
                              *peer = fovea_best_row(c, place, true), *slow;
        if (strcmp(c->suite, suite) != 0 || strcmp(c->kernel, kernel) != 0) continue;
        domain = fovea_catalogue_kernel(c->definition.index)->domain;
        if (!ours || !peer) continue;
        peers[p] = peer->summary.median / ours->summary.median;
        bool leads = peers[p++] > noise;
        const char *size = strrchr(c->name, '-'); /* NULL: the kernel has one case */
        if (leads && !from) from = size ? size + 2 : "";
        if (!leads) from = NULL;
        ahead += leads;
        cases++;
        if ((slow = fovea_find_row(c, place, "peer/numpy")))
            numpy[n++] = slow->summary.median / ours->summary.median;
    }
    *line = (fovea_line){.style = ahead == cases ? FOVEA_GOOD : FOVEA_PLAIN};
    cell(line, 0, "%s", kernel);
    cell(line, 1, "%s", domain);
    if (!cases) {
        snprintf(line->note, sizeof line->note, "nothing to compare");
        line->style = FOVEA_FAINT;
        return;
    }
    cell(line, 2, "%d of %d", ahead, cases);
    cell(line, 3, "%s%s", !from ? "nowhere" : *from ? "from " : "in its case", from ? from : "");
    cell(line, 4, "%.2f×", fovea_median(peers, p));
    if (n) cell(line, 5, "%.2f×", fovea_median(numpy, n));
}

static void print_kernels(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                          fovea_place place) {
    static const fovea_column columns[] = {{"kernel", 0, true},
                                           {"domain", 1, true},
                                           {"ahead in", 8, false},
                                           {"leads", 9, true},
                                           {"vs best peer, median", 10, false},
                                           {"vs NumPy, median", 7, false}};
    static fovea_line lines[LINES_MAX];
    fovea_noise noise = fovea_bench_noise(run);
    int count = 0;
    for (int i = 0; i < run->case_count && count < LINES_MAX; i++) {
        const char *kernel = new_kernel(run, suite, i);
        if (kernel)
            kernel_line(run, suite, place, kernel, isnan(noise.ratio) ? 1 : noise.ratio,
                        &lines[count++]);
    }
    fputc('\n', screen->file);
    fovea_columns_print(screen, columns, 6, lines, count);
}

/* ---- Speed-ups of a suite ------------------------------------------------------------------- */

typedef struct ratios {
    double values[LINES_MAX];
    int count, wins, losses; /* beyond the noise floor */
} ratios;

static void add_ratio(ratios *r, const fovea_bench_row *ours, const fovea_bench_row *other,
                      double noise) {
    if (!ours || !other || r->count == LINES_MAX) return;
    double ratio = other->summary.median / ours->summary.median;
    r->values[r->count++] = ratio;
    r->wins += ratio > noise;
    r->losses += ratio < 1 / noise;
}

static double mean_of(const ratios *r) {
    double sum = 0;
    for (int i = 0; i < r->count; i++) sum += r->values[i];
    return sum / r->count;
}

static void print_ratios(const fovea_screen *screen, const char *against, ratios *r) {
    if (!r->count) return;
    double median = fovea_median(r->values, r->count);
    say(screen, median > 1 ? FOVEA_GOOD : FOVEA_BAD,
        "The library's choice against %s: median %.2f×, mean %.2f×, geometric mean %.2f×, from "
        "%.2f× to %.2f× over %d cases; ahead in %d (%.0f %%), behind in %d, the rest within the "
        "noise.",
        against, median, mean_of(r), fovea_geometric_mean(r->values, r->count), r->values[0],
        r->values[r->count - 1], r->count, r->wins, 100.0 * r->wins / r->count, r->losses);
}

/* ---- Domains -------------------------------------------------------------------------------- */

/* The one that is the fastest in most cases of the domain: ours, or a peer by its name. */
static const char *winner_of(const int wins[], const char *const names[], int count) {
    int best = 0;
    for (int i = 1; i < count; i++)
        if (wins[i] > wins[best]) best = i;
    return names[best];
}

static void domain_line(const fovea_bench_run *run, const char *suite, fovea_place place,
                        const char *domain, double noise, fovea_line *line) {
    static ratios peer, numpy;
    double shares[LINES_MAX];
    const char *names[1 + FOVEA_PEERS_MAX] = {"ours"};
    int wins[1 + FOVEA_PEERS_MAX] = {0}, memory = 0;
    peer = numpy = (ratios){0};
    for (int p = 0; p < run->peer_count; p++) names[1 + p] = run->peers[p].name;
    for (int i = 0; i < run->case_count; i++) {
        const fovea_bench_case *c = &run->cases[i];
        const fovea_bench_row *ours = fovea_routed_row(c, place),
                              *other = fovea_best_row(c, place, true);
        if (strcmp(c->suite, suite) != 0 || !ours ||
            strcmp(fovea_catalogue_kernel(c->definition.index)->domain, domain) != 0)
            continue;
        bool from_memory = c->by_bytes[ours->place] && !(ours->flags & FOVEA_ROW_FITS_L3);
        if (from_memory && memory < LINES_MAX) shares[memory++] = ours->share;
        add_ratio(&peer, ours, other, noise);
        add_ratio(&numpy, ours, fovea_find_row(c, place, "peer/numpy"), noise);
        if (!other) continue;
        bool behind = other->summary.median < ours->summary.median;
        for (int p = 0; p < run->peer_count; p++)
            wins[1 + p] += behind && strcmp(last_part(other->arm), names[1 + p]) == 0;
        wins[0] += !behind;
    }
    *line = (fovea_line){.style = peer.count && !peer.losses ? FOVEA_GOOD : FOVEA_PLAIN};
    cell(line, 0, "%s", domain);
    if (peer.count) cell(line, 1, "%d of %d", peer.wins, peer.count);
    if (peer.count) cell(line, 2, "%s", winner_of(wins, names, 1 + run->peer_count));
    if (peer.count) cell(line, 3, "%.2f×", fovea_median(peer.values, peer.count));
    if (numpy.count) cell(line, 4, "%.2f×", fovea_median(numpy.values, numpy.count));
    if (memory) cell(line, 5, "%.0f %%", 100 * fovea_median(shares, memory));
}

static void print_domains(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                          fovea_place place) {
    static const fovea_column columns[] = {{"domain", 0, true},
                                           {"ahead in", 8, false},
                                           {"winner", 9, true},
                                           {"vs best peer, median", 10, false},
                                           {"vs NumPy, median", 7, false},
                                           {"of bandwidth, from memory", 6, false}};
    static fovea_line lines[LINES_MAX];
    fovea_noise noise = fovea_bench_noise(run);
    int count = 0;
    for (int i = 0; i < run->case_count && count < LINES_MAX; i++) {
        const char *domain = fovea_catalogue_kernel(run->cases[i].definition.index)->domain;
        bool seen = strcmp(run->cases[i].suite, suite) != 0;
        for (int j = 0; j < i && !seen; j++)
            seen =
                strcmp(run->cases[j].suite, suite) == 0 &&
                strcmp(fovea_catalogue_kernel(run->cases[j].definition.index)->domain, domain) == 0;
        if (!seen)
            domain_line(run, suite, place, domain, isnan(noise.ratio) ? 1 : noise.ratio,
                        &lines[count++]);
    }
    if (count < 2) return;
    fputc('\n', screen->file);
    fovea_columns_print(screen, columns, 6, lines, count);
}

/* Of each arm that the suite adds, over flash and textbook. */
static void print_optional_arms(const fovea_bench_run *run, const fovea_screen *screen,
                                const char *suite) {
    static ratios flash, textbook;
    const fovea_suite_arm *arms;
    int count = fovea_suite_arms(suite, &arms);
    for (int i = 0; i < count; i++) {
        char part[64];
        snprintf(part, sizeof part, "/sage-%s", arms[i].name);
        flash = textbook = (ratios){0};
        for (int k = 0; k < run->case_count; k++) {
            const fovea_bench_case *c = &run->cases[k];
            if (strcmp(c->suite, suite) != 0 || !c->done) continue;
            const fovea_bench_row *ours = find_arm(c, part);
            add_ratio(&flash, ours, fovea_find_row(c, FOVEA_ON_CPU, "/flash"), 1);
            add_ratio(&textbook, ours, fovea_find_row(c, FOVEA_ON_CPU, "/textbook"), 1);
        }
        if (!flash.count || !textbook.count) continue;
        double over_flash = fovea_median(flash.values, flash.count);
        double over_textbook = fovea_median(textbook.values, textbook.count);
        say(screen, over_flash > 1 ? FOVEA_GOOD : FOVEA_BAD,
            "%s (%s): over flash median %.2f×, from %.2f× to %.2f×; over textbook median %.2f×, "
            "from %.2f× to %.2f×; %d cases.",
            part + 1, arms[i].options, over_flash, flash.values[0], flash.values[flash.count - 1],
            over_textbook, textbook.values[0], textbook.values[textbook.count - 1], flash.count);
    }
}

static void print_speedups(const fovea_bench_run *run, const fovea_screen *screen,
                           const char *suite, fovea_place place) {
    static ratios peer, numpy, best, steps;
    fovea_noise noise = fovea_bench_noise(run);
    double floor = isnan(noise.ratio) ? 1 : noise.ratio;
    peer = numpy = best = steps = (ratios){0};
    for (int i = 0; i < run->case_count; i++) {
        const fovea_bench_case *c = &run->cases[i];
        if (strcmp(c->suite, suite) != 0 || !c->done) continue;
        const fovea_bench_row *ours = fovea_routed_row(c, place);
        add_ratio(&steps, ours, fovea_find_row(c, place, FOVEA_STEPS_ARM), floor);
        add_ratio(&peer, ours, fovea_best_row(c, place, true), floor);
        add_ratio(&numpy, ours, fovea_find_row(c, place, "peer/numpy"), floor);
        add_ratio(&best, fovea_best_row(c, place, false), ours, floor);
    }
    fputc('\n', screen->file);
    print_ratios(screen, "the best peer of each case", &peer);
    print_ratios(screen, "NumPy", &numpy);
    print_ratios(screen, "our own kernels one after another", &steps);
    if (best.count && best.losses)
        say(screen, FOVEA_FAINT,
            "In %d cases another of ours was faster than the one that the library chose; `fovea "
            "tune` teaches it.",
            best.losses);
}

/* ---- Block plans ---------------------------------------------------------------------------- */

static void block_line(const fovea_bench_case *c, fovea_line *line) {
    char text[64];
    double regret = fovea_block_regret(c);
    *line = (fovea_line){.style = FOVEA_PLAIN};
    cell(line, 0, "%s", c->name);
    if (isnan(regret)) {
        snprintf(line->note, sizeof line->note, "%s", *c->problem ? c->problem : "not measured");
        line->style = FOVEA_FAINT;
        return;
    }
    const fovea_bench_row *formula = &c->rows[0], *best = fovea_best_row(c, FOVEA_ON_CPU, false);
    cell(line, 1, "%lldx%lld", (long long)formula->block_rows, (long long)formula->block_keys);
    cell(line, 2, "%s", fovea_seconds_text(formula->summary.median, text, sizeof text));
    cell(line, 3, "%lldx%lld", (long long)best->block_rows, (long long)best->block_keys);
    cell(line, 4, "%s", fovea_seconds_text(best->summary.median, text, sizeof text));
    cell(line, 5, "%.1f %%", 100 * regret);
    cell(line, 6, "%d", c->row_count);
}

/* The formula is one of the plans, so that a regret is never below 0; noise of the others adds to it. */
static void print_blocks(const fovea_bench_run *run, const fovea_screen *screen,
                         const char *suite) {
    static const fovea_column columns[] = {
        {"case", 0, true},      {"formula", 7, false}, {"time", 9, false}, {"best", 7, false},
        {"its time", 8, false}, {"regret", 10, false}, {"plans", 1, false}};
    static fovea_line lines[LINES_MAX];
    double regrets[LINES_MAX];
    int count = 0, known = 0;
    for (int i = 0; i < run->case_count && count < LINES_MAX; i++) {
        if (strcmp(run->cases[i].suite, suite) != 0) continue;
        double regret = fovea_block_regret(&run->cases[i]);
        if (!isnan(regret)) regrets[known++] = regret;
        block_line(&run->cases[i], &lines[count++]);
    }
    fovea_columns_print(screen, columns, 7, lines, count);
    if (!known) return;
    double median = fovea_median(regrets, known);
    fputc('\n', screen->file);
    say(screen, FOVEA_BOLD,
        "Regret of the formula against the best plan of each sweep: median %.1f %%, worst %.1f %%.",
        100 * median, 100 * regrets[known - 1]);
}

/* ---- Routing -------------------------------------------------------------------------------- */

typedef struct regret {
    const fovea_bench_case *c;
    fovea_place place;
    double share;
} regret;

static int compare_regrets(const void *a, const void *b) {
    const regret *x = a, *y = b;
    return (x->share > y->share) - (x->share < y->share);
}

static void regret_line(const regret *r, fovea_line *line) {
    char text[160];
    const fovea_bench_row *best = fovea_best_row(r->c, r->place, false);
    const fovea_bench_row *chosen = fovea_routed_row(r->c, r->place);
    *line = (fovea_line){.style = FOVEA_PLAIN};
    cell(line, 0, "%s", r->c->name);
    cell(line, 1, "%.1f %%", 100 * r->share);
    cell(line, 2, "%s", fovea_seconds_text(chosen->summary.median, text, sizeof text));
    cell(line, 3, "%s", chosen->arm);
    cell(line, 4, "%s", best->arm);
    snprintf(line->note, sizeof line->note, "%s",
             fovea_case_text(&r->c->definition, text, sizeof text));
}

/* How far one arm's medians under two names lie apart, by which the regrets are to be read. */
static void print_own_noise(const fovea_bench_run *run, const fovea_screen *screen,
                            const char *suite) {
    double *shares = calloc((size_t)run->case_count + 1, sizeof *shares);
    int count = 0;
    for (int i = 0; shares && i < run->case_count; i++) {
        const fovea_bench_case *c = &run->cases[i];
        if (strcmp(c->suite, suite) == 0 && c->done && !isnan(c->noise_ratio))
            shares[count++] = fabs(c->noise_ratio - 1);
    }
    if (count > 0) {
        double median = fovea_median(shares, count);
        say(screen, FOVEA_FAINT,
            "The chosen one under two names differed from itself by %.1f %% in the median and %.1f "
            "%% at the 95th percentile.",
            100 * median, 100 * fovea_quantile(shares, count, 0.95));
    }
    free(shares);
}

/* What noise adds counts as regret: the best of several equal arms is always another one's turn. */
static void print_routing(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                          fovea_place place) {
    static const fovea_column columns[] = {{"the worst", 0, true},
                                           {"regret", 7, false},
                                           {"time", 9, false},
                                           {"chosen", 20, true},
                                           {"fastest", 20, true}};
    enum { WORST = 8 };
    static fovea_line lines[WORST];
    regret *regrets = calloc((size_t)run->case_count + 1, sizeof *regrets);
    double *shares = calloc((size_t)run->case_count + 1, sizeof *shares), sum = 0;
    int count = 0, none = 0, shown = 0, first = 0;
    for (int i = 0; regrets && shares && i < run->case_count; i++) {
        double share = fovea_route_regret(&run->cases[i], place);
        if (strcmp(run->cases[i].suite, suite) != 0 || isnan(share)) continue;
        regrets[count++] = (regret){&run->cases[i], place, share};
        none += share == 0, sum += share;
    }
    if (count > 0) qsort(regrets, (size_t)count, sizeof *regrets, compare_regrets);
    for (int i = 0; i < count; i++) shares[i] = regrets[i].share;
    for (int i = count - 1; i >= 0 && shown < WORST; i--) regret_line(&regrets[i], &lines[shown++]);
    fovea_columns_print(screen, columns, 5, lines, shown);
    for (int i = 0; i < count; i++) first += shares[i] <= 0.01;
    fputc('\n', screen->file);
    if (count > 0)
        say(screen, FOVEA_BOLD,
            "Regret of the library's choice against the best of ours, %d shapes: median %.1f %%, "
            "mean %.1f %%, 90th percentile %.1f %%, 95th %.1f %%, worst %.1f %%; the fastest was "
            "chosen in %d, one within 1 %% of it in %d.",
            count, 100 * fovea_quantile(shares, count, 0.5), 100 * sum / count,
            100 * fovea_quantile(shares, count, 0.9), 100 * fovea_quantile(shares, count, 0.95),
            100 * shares[count - 1], none, first);
    print_own_noise(run, screen, suite);
    say(screen, FOVEA_FAINT, "Routes: %s.",
        fovea_routes_state(place == FOVEA_ON_CUDA ? run->device_context : run->context));
    free(regrets);
    free(shares);
}

/* ---- Calls ---------------------------------------------------------------------------------- */

static bool is_call_of(const fovea_bench_case *c, const char *suite, const char *ending) {
    size_t length = strlen(c->name), part = strlen(ending);
    return strcmp(c->suite, suite) == 0 && c->done && length > part &&
           strcmp(c->name + length - part, ending) == 0;
}

/* Nanoseconds of the library's own choice, or of a peer; NaN: it has none there. */
static double call_cost(const fovea_bench_case *c, fovea_place place, const char *peer) {
    const fovea_bench_row *row = peer ? fovea_find_row(c, place, peer) : fovea_routed_row(c, place);
    return row && row->verified && row->summary.count ? 1e9 * row->summary.median : NAN;
}

static bool call_line(const fovea_bench_run *run, const char *suite, fovea_place place,
                      const char *ending, const char *peer, fovea_line *line) {
    static const double shares[] = {0, 0.25, 0.5, 0.75, 0.9, 1};
    double *costs = calloc((size_t)run->case_count + 1, sizeof *costs);
    int count = 0, within[2] = {0, 0};
    for (int i = 0; costs && i < run->case_count; i++) {
        double cost = call_cost(&run->cases[i], place, peer);
        if (!is_call_of(&run->cases[i], suite, ending) || isnan(cost)) continue;
        costs[count++] = cost, within[0] += cost <= 100, within[1] += cost <= 300;
    }
    if (count > 0) {
        fovea_median(costs, count); /* sorts them */
        *line = (fovea_line){.style = peer ? FOVEA_PLAIN : FOVEA_BOLD};
        cell(line, 0, "%s, %s", strcmp(ending, FOVEA_CALL_AT_ONE) == 0 ? "N = 1" : "ones",
             peer ? peer + strlen("peer/") : "ours");
        for (int s = 0; s < 6; s++)
            cell(line, 1 + s, "%.0f", fovea_quantile(costs, count, shares[s]));
        cell(line, 7, "%d", within[0]), cell(line, 8, "%d", within[1]), cell(line, 9, "%d", count);
    }
    free(costs);
    return count > 0;
}

static void print_calls(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                        fovea_place place) {
    static const fovea_column columns[] = {{"calls, ns", 0, true},   {"least", 6, false},
                                           {"quarter", 5, false},    {"median", 7, false},
                                           {"3 quarters", 5, false}, {"9 tenths", 4, false},
                                           {"most", 3, false},       {"<= 100", 6, false},
                                           {"<= 300", 6, false},     {"of", 6, false}};
    static const char *const endings[] = {FOVEA_CALL_OF_ONES, FOVEA_CALL_AT_ONE};
    static const char *const peers[] = {NULL, "peer/numpy", "peer/torch"};
    fovea_line lines[6];
    int count = 0;
    for (int e = 0; e < 2; e++)
        for (int p = 0; p < 3; p++)
            count += call_line(run, suite, place, endings[e], peers[p], &lines[count]);
    fovea_columns_print(screen, columns, 10, lines, count);
    for (int e = 0; e < 2; e++)
        for (int i = 0; i < run->case_count; i++) {
            double cost = call_cost(&run->cases[i], place, NULL);
            if (is_call_of(&run->cases[i], suite, endings[e]) && cost > 300)
                say(screen, FOVEA_PLAIN, "above 300 ns: %s, %.0f ns", run->cases[i].name, cost);
        }
    say(screen, FOVEA_FAINT,
        "Each through its own door: ours by the functions of C, peers by those of Python.");
}

/* What a call takes the host: the median and the longest of a suite's rows. */
static void print_enqueuing(const fovea_bench_run *run, const fovea_screen *screen,
                            const char *suite) {
    const fovea_bench_row *longest = NULL;
    fovea_timings all = {0};
    char median[32], most[32], empty[32];
    for (int i = 0; i < run->case_count; i++) {
        const fovea_bench_case *c = &run->cases[i];
        for (int r = 0; r < c->row_count && strcmp(c->suite, suite) == 0; r++) {
            const fovea_bench_row *row = &c->rows[r];
            if (!(row->enqueue_seconds > 0) || !fovea_timings_add(&all, row->enqueue_seconds))
                continue;
            if (!longest || row->enqueue_seconds > longest->enqueue_seconds) longest = row;
        }
    }
    if (longest)
        say(screen, FOVEA_FAINT,
            "A call takes the host %s to enqueue (the median of %d rows; at most %s, %s), "
            "launching "
            "an empty kernel %s.",
            fovea_seconds_text(fovea_median(all.values, all.count), median, sizeof median),
            all.count, fovea_seconds_text(longest->enqueue_seconds, most, sizeof most),
            longest->arm, fovea_seconds_text(run->enqueue_seconds, empty, sizeof empty));
    fovea_timings_release(&all);
}

/* Where a device's time went. */
static void print_stages(const fovea_bench_run *run, const fovea_screen *screen,
                         const char *suite) {
    double all = 0, prepared = 0, verified = 0, peers = 0, judged = 0;
    int cases = 0;
    if (!fovea_bench_on(run, FOVEA_ON_CUDA)) return;
    for (int i = 0; i < run->case_count; i++) {
        const fovea_bench_case *c = &run->cases[i];
        if (strcmp(c->suite, suite) != 0 || !c->done) continue;
        cases++;
        all += c->seconds, prepared += c->prepared_seconds, verified += c->verified_seconds;
        peers += c->peers_seconds, judged += c->judged_seconds;
    }
    say(screen, FOVEA_FAINT,
        "%d cases in %.0f s: inputs and references %.1f, first calls %.1f, of which peers' %.1f, "
        "comparisons %.1f, samples %.1f.",
        cases, all, prepared, verified - judged, peers, judged, all - prepared - verified);
}

/* ---- The processor and a device beside one another ------------------------------------------- */

static const fovea_column place_columns[] = {{"case", 0, true},
                                             {"cpu", 20, false},
                                             {"best peer", 9, true},
                                             {"its time", 11, false},
                                             {"cuda", 19, false},
                                             {"best peer ", 8, true},
                                             {"its time ", 10, false},
                                             {"with transfers", 18, false},
                                             {"bytes moved", 7, false},
                                             {"cpu/cuda", 16, false},
                                             {"cpu/with transfers", 17, false}};
enum { PLACE_COLUMNS = sizeof place_columns / sizeof *place_columns };

/* Cases and, of them, those in which the device is ahead, with the tensors there and with them here. */
typedef struct places_count {
    int cases, there, here;
} places_count;

static void seconds_cell(fovea_line *line, int column, double seconds) {
    char text[32];
    cell(line, column, "%s", fovea_seconds_text(seconds, text, sizeof text));
}

static void place_line(const fovea_bench_case *c, places_count *count, fovea_line *line) {
    const fovea_bench_row *ours[FOVEA_PLACES];
    char text[32];
    *line = (fovea_line){.style = FOVEA_PLAIN};
    cell(line, 0, "%s", c->name);
    for (int p = 0; p < FOVEA_PLACES; p++) {
        const fovea_bench_row *peer = fovea_best_row(c, (fovea_place)p, true);
        ours[p] = fovea_routed_row(c, (fovea_place)p);
        if (ours[p]) seconds_cell(line, 1 + 3 * p, ours[p]->summary.median);
        if (peer) cell(line, 2 + 3 * p, "%s", last_part(peer->arm));
        if (peer) seconds_cell(line, 3 + 3 * p, peer->summary.median);
    }
    const fovea_bench_row *here = ours[FOVEA_ON_CPU], *there = ours[FOVEA_ON_CUDA];
    if (!here && !there)
        snprintf(line->note, sizeof line->note, "%s", *c->problem ? c->problem : "not measured");
    if (!there) return;
    double travelled = there->journey_summary.median;
    bool known = there->journey_summary.count > 0;
    cell(line, 8, "%s",
         fovea_bytes_text((double)(c->sent_bytes + c->fetched_bytes), text, sizeof text));
    if (known) seconds_cell(line, 7, travelled);
    if (!here) return;
    double seconds = here->summary.median;
    cell(line, 9, "%.2f", seconds / there->summary.median);
    if (known) cell(line, 10, "%.2f", seconds / travelled);
    if (known && seconds > travelled) line->style = FOVEA_GOOD;
    count->cases++;
    count->there += seconds > there->summary.median;
    count->here += known && seconds > travelled;
}

/* Of a device whose tensors are in the host's memory, which a reader may have to begin with. */
static void print_places(const fovea_bench_run *run, const fovea_screen *screen,
                         const char *suite) {
    static fovea_line lines[LINES_MAX];
    places_count ahead = {0};
    int count = 0;
    for (int i = 0; i < run->case_count && count < LINES_MAX; i++)
        if (strcmp(run->cases[i].suite, suite) == 0)
            place_line(&run->cases[i], &ahead, &lines[count++]);
    fovea_columns_print(screen, place_columns, PLACE_COLUMNS, lines, count);
    fputc('\n', screen->file);
    say(screen, FOVEA_BOLD,
        "The device's own time is below the processor's in %d of %d cases; with its transfers, of "
        "inputs from pageable memory of the host and of outputs back to it, in %d.",
        ahead.there, ahead.cases, ahead.here);
}

/* ---- A suite -------------------------------------------------------------------------------- */

/* What its cases say together, at one place. */
static void print_place(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                        fovea_bench_view shown, fovea_place place) {
    fovea_bench_view view = fovea_suite_view(suite);
    if (shown == FOVEA_VIEW_ATTENTION || shown == FOVEA_VIEW_KERNELS)
        print_lines(run, screen, suite, place, shown == FOVEA_VIEW_ATTENTION);
    if (view == FOVEA_VIEW_CALLS) return print_calls(run, screen, suite, place);
    if (view == FOVEA_VIEW_BLOCKS) return print_blocks(run, screen, suite);
    if (view == FOVEA_VIEW_ROUTING) return print_routing(run, screen, suite, place);
    if (view == FOVEA_VIEW_ATTENTION) {
        print_group(run, screen, suite, place, "B", "batch");
        print_group(run, screen, suite, place, "Sq", "length");
        print_group(run, screen, suite, place, "D", "head size");
        print_best(run, screen, suite, place);
    }
    if (view == FOVEA_VIEW_KERNELS) {
        print_kernels(run, screen, suite, place);
        print_domains(run, screen, suite, place);
    }
    print_speedups(run, screen, suite, place);
    if (place == FOVEA_ON_CPU) print_optional_arms(run, screen, suite);
    if (place == FOVEA_ON_CUDA) print_enqueuing(run, screen, suite);
}

/* Of everything that was measured, or of one place. */
static void print_title(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                        bool here, bool there) {
    char title[400], threads[32];
    snprintf(threads, sizeof threads, "%d thread%s", run->threads, run->threads == 1 ? "" : "s");
    snprintf(title, sizeof title, "%s%s%s%s%s", suite, here ? ", " : "", here ? threads : "",
             there ? here ? " and " : " on " : "", there ? run->device.name : "");
    fovea_screen_title(screen, title);
}

void fovea_bench_print_suite(const fovea_bench_run *run, const char *suite) {
    fovea_screen screen = fovea_screen_detect(stdout);
    fovea_bench_view view = run->options.full ? FOVEA_VIEW_ARMS : fovea_suite_view(suite);
    bool arms = view == FOVEA_VIEW_ARMS || view == FOVEA_VIEW_ACCURACY;
    bool both = fovea_bench_on_both(run);
    print_title(run, &screen, suite, fovea_bench_on(run, FOVEA_ON_CPU),
                fovea_bench_on(run, FOVEA_ON_CUDA));
    for (int i = 0; i < run->case_count && arms; i++)
        if (strcmp(run->cases[i].suite, suite) == 0) print_case(run, &screen, &run->cases[i]);
    if (both) print_places(run, &screen, suite);
    for (int p = 0; p < FOVEA_PLACES; p++) {
        if (!fovea_bench_on(run, (fovea_place)p)) continue;
        if (both) print_title(run, &screen, suite, p == FOVEA_ON_CPU, p == FOVEA_ON_CUDA);
        print_place(run, &screen, suite, view, (fovea_place)p);
    }
    print_stages(run, &screen, suite);
    fflush(stdout);
}

/* ---- Head and foot -------------------------------------------------------------------------- */

static void print_device(const fovea_bench_run *run, const fovea_screen *screen) {
    const fovea_cuda_device *d = &run->device;
    char launch[32], programmatic[32], lone[32];
    if (!fovea_bench_on(run, FOVEA_ON_CUDA)) return;
    say(screen, FOVEA_FAINT, "%s, %d multiprocessors, capability %d.%d, driver for CUDA %d.%d",
        d->name, d->multiprocessors, d->capability / 10, d->capability % 10,
        d->driver_version / 1000, d->driver_version % 1000 / 10);
    if (run->launch_seconds > 0)
        say(screen, FOVEA_FAINT,
            "an empty kernel takes %s a launch in a graph of many (programmatic dependent "
            "launches: "
            "%s), %s alone between two events",
            fovea_seconds_text(run->launch_seconds, launch, sizeof launch),
            fovea_seconds_text(run->programmatic_launch_seconds, programmatic, sizeof programmatic),
            fovea_seconds_text(run->lone_launch_seconds, lone, sizeof lone));
}

void fovea_bench_print_head(const fovea_bench_run *run) {
    fovea_screen screen = fovea_screen_detect(stdout);
    char text[256];
    const json_t *e = run->environment;
    snprintf(text, sizeof text, "fovea %s on %s", fovea_version(),
             json_string_value(json_object_get(e, "cpu_model")));
    fovea_screen_title(&screen, text);
    say(&screen, FOVEA_FAINT, "%s, %d of %lld processors, %s", run->tier, run->threads,
        (long long)json_integer_value(json_object_get(e, "processors_online")),
        json_string_value(json_object_get(e, "kernel")));
    print_device(run, &screen);
    for (int i = 0; i < run->ceilings.count; i++) {
        const fovea_ceiling *c = &run->ceilings.items[i];
        char rate[64];
        if (c->threads != run->threads && strcmp(c->tier, "cuda") != 0) continue;
        if (!strncmp(c->name, "fma", 3) && strcmp(c->tier, run->tier) != 0 &&
            strcmp(c->tier, "cuda") != 0)
            continue;
        say(&screen, FOVEA_FAINT, "ceiling %-22s %s", c->name,
            fovea_rate_text(c->value, c->unit, rate, sizeof rate));
    }
    fflush(stdout);
}

static void print_peers(const fovea_bench_run *run, const fovea_screen *screen) {
    char used[512] = "", label[40];
    size_t length = 0;
    for (int p = 0; p < run->peer_count; p++) {
        const fovea_bench_peer *peer = &run->peers[p];
        const char *version = json_string_value(json_object_get(peer->versions, peer->name));
        if (version && length < sizeof used)
            length +=
                (size_t)snprintf(used + length, sizeof used - length, "%s%s %s", length ? ", " : "",
                                 fovea_peer_label(peer, label, sizeof label), version);
        if (!peer->process && *peer->reason)
            say(screen, FOVEA_FAINT, "Peer %s is missing: %s",
                fovea_peer_label(peer, label, sizeof label), peer->reason);
    }
    if (*used)
        say(screen, FOVEA_FAINT,
            "Peers: %s; each a process of its own, stopped while others are timed.", used);
    if (run->options.no_peers) say(screen, FOVEA_FAINT, "Peers were left out (--no-peers).");
}

static void print_formulas(const fovea_bench_run *run, const fovea_screen *screen) {
    const fovea_kernel *last = NULL;
    for (int i = 0; i < run->case_count; i++) {
        const fovea_kernel *kernel = fovea_catalogue_kernel(run->cases[i].definition.index);
        if (kernel == last) continue;
        bool seen = false;
        for (int j = 0; j < i && !seen; j++)
            seen = run->cases[j].definition.index == run->cases[i].definition.index;
        if (!seen)
            say(screen, FOVEA_FAINT, "%s: FLOP %s, bytes %s%s", kernel->name,
                kernel->operations ? kernel->operations : FOVEA_COUNTED_BY_STEP, kernel->bytes,
                fovea_kernel_parameter(kernel, "causal") >= 0
                    ? "; masked pairs are not counted (causal: half)"
                    : "");
        last = kernel;
    }
}

/* How calls on the device came to find nothing in its cache. */
static void print_cold(const fovea_bench_run *run, const fovea_screen *screen) {
    int least = 0, most = 0, rotated = 0, flushed = 0;
    for (int i = 0; i < run->case_count; i++) {
        const fovea_bench_case *c = &run->cases[i];
        int sets = c->sets[FOVEA_ON_CUDA];
        if (!c->cold || !c->done || !fovea_bench_on(run, FOVEA_ON_CUDA)) continue;
        if (sets <= 1) flushed++;
        if (sets <= 1) continue;
        if (!rotated || sets < least) least = sets;
        if (sets > most) most = sets;
        rotated++;
    }
    if (rotated)
        say(screen, FOVEA_FAINT,
            "Cold on the device: in %d cases calls took turns over %d to %d sets of the tensors in "
            "one "
            "graph, ours and the peers' alike.",
            rotated, least, most);
    if (flushed)
        say(screen, FOVEA_FAINT,
            "Cold on the device: in %d cases, of which so many sets cannot be had, its cache was "
            "overwritten before each call, alone between two events; that is part of their times.",
            flushed);
}

static bool has_memory(const fovea_bench_run *run) {
    bool found = false;
    for (int i = 0; i < run->case_count; i++) found |= run->cases[i].memory.timings.count > 0;
    return found;
}

void fovea_bench_print_foot(const fovea_bench_run *run) {
    fovea_screen screen = fovea_screen_detect(stdout);
    fovea_noise noise = fovea_bench_noise(run);
    size_t i;
    json_t *warning;
    fputc('\n', stdout);
    if (noise.pairs)
        say(&screen, FOVEA_PLAIN,
            "Noise floor %.1f %%: equal work under two names differed by no more in nine of ten of "
            "%d pairs, in the worst, %s, by %.1f %%.",
            100 * (noise.ratio - 1), noise.pairs, noise.worst->name, 100 * (noise.worst_ratio - 1));
    say(&screen, FOVEA_FAINT,
        "Times are medians, ± is the median absolute deviation. Every arm was compared with a "
        "double-precision reference before it was timed; a wrong one is not ranked.");
    if (fovea_bench_on(run, FOVEA_ON_CUDA))
        say(&screen, FOVEA_FAINT,
            "On the device: by events around replays of a graph, after a rest (time, rate) and in "
            "turns of 55 ms while all arms keep it at its cap of power (hot); calls too short to "
            "heat it, and arms 5 times slower than the fastest, in one state alone. Copies to and "
            "from the device are not in these times.");
    print_cold(run, &screen);
    print_formulas(run, &screen);
    if (run->ceilings.buffer_bytes) {
        char text[32];
        say(&screen, FOVEA_FAINT,
            "Bandwidths were measured over %s; what fits a cache may exceed them.",
            fovea_bytes_text((double)run->ceilings.buffer_bytes, text, sizeof text));
    }
    if (has_memory(run))
        say(&screen, FOVEA_FAINT,
            "Shares of what memory binds are of the rate at which the same threads read and wrote "
            "the same tensors and did nothing else, in turns with the arms: medians of the ratios "
            "of each round.");
    print_peers(run, &screen);
    json_array_foreach(run->warnings, i, warning)
        say(&screen, FOVEA_BAD, "Warning: %s.", json_string_value(warning));
    if (fovea_wrong_rows(run))
        say(&screen, FOVEA_BAD, "%d of our rows are WRONG and were not timed.",
            fovea_wrong_rows(run));
    if (run->interrupted) say(&screen, FOVEA_BAD, "Interrupted: these are the samples so far.");
    fflush(stdout);
}
