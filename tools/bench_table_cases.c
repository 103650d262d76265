/* A suite case by case: a table of arms each, or a line. */
#include "bench_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
        fovea_line_cell(line, column, "%.2f×", other->hot_summary.median / row->hot_summary.median);
}

/* "1.24×" */
static void ratio_cell(fovea_line *line, int column, const fovea_bench_row *row,
                       const fovea_bench_row *other) {
    if (row && other)
        fovea_line_cell(line, column, "%.2f×", other->summary.median / row->summary.median);
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
    fovea_line_cell(line, 1, "%s", fovea_seconds_text(s->median, text, sizeof text));
    if (s->count > 2) fovea_line_cell(line, 2, "%.1f %%", 100 * s->mad / s->median);
    fovea_line_cell(line, 3, "%s", rate_of(c, row, s, text, sizeof text));
    if (row->share > 0) fovea_line_cell(line, 4, "%.0f %%", 100 * row->share);
    if (row != best_peer) ratio_cell(line, 5, row, best_peer);
    if (strcmp(row->arm, "peer/numpy") != 0)
        ratio_cell(line, 6, row, fovea_find_row(c, row->place, "peer/numpy"));
    fovea_line_cell(line, 7, "%.1e", row->error);
    if (row->bound > 0) fovea_line_cell(line, 8, "%.2f", row->error / row->bound);
    if (!row->peer)
        fovea_line_cell(line, 9, "%s",
                        fovea_bytes_text((double)row->scratch_bytes, text, sizeof text));
    if (row->block_rows)
        fovea_line_cell(line, 10, "%lldx%lld", (long long)row->block_rows,
                        (long long)row->block_keys);
    remarks(row, line->cells[11], FOVEA_CELL);
    if (row->hot_summary.count)
        fovea_line_cell(line, 12, "%s", rate_of(c, row, &row->hot_summary, text, sizeof text));
    if (row != best_hot) hot_ratio_cell(line, 13, row, best_hot);
    if (row->journey_summary.count)
        fovea_line_cell(line, 14, "%s",
                        fovea_seconds_text(row->journey_summary.median, text, sizeof text));
    line->style = row->peer                                ? FOVEA_PLAIN
                  : row == fovea_routed_row(c, row->place) ? FOVEA_GOOD
                                                           : FOVEA_BOLD;
}

static void arm_line(const fovea_bench_case *c, const fovea_bench_row *row, fovea_line *line) {
    *line = (fovea_line){.style = FOVEA_PLAIN};
    fovea_line_cell(line, 0, "%s", row->arm);
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
    fovea_line_cell(line, 0, "%s", row->arm);
    if (row->summary.count) {
        fovea_line_cell(line, 1, "%s", fovea_seconds_text(row->summary.median, text, sizeof text));
        ratio_cell(line, 2, row, fovea_find_row(c, row->place, "/flash"));
        ratio_cell(line, 3, row, fovea_find_row(c, row->place, "/textbook"));
    }
    fovea_line_cell(line, 4, "%.1e", a->maximum);
    fovea_line_cell(line, 5, "%.1e", a->mean);
    fovea_line_cell(line, 6, "%.7f", a->cosine);
    fovea_line_cell(line, 7, "%.1e", a->relative_l1);
    fovea_line_cell(line, 8, "%.1e", a->rmse);
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
    fovea_screen_say(
        screen, FOVEA_FAINT,
        "transfers, from and to pageable memory: %s there in %s, %s back in %s; they are in no "
        "other time",
        fovea_bytes_text((double)c->sent_bytes, to, sizeof to),
        fovea_seconds_text(c->sent_seconds, to_time, sizeof to_time),
        fovea_bytes_text((double)c->fetched_bytes, back, sizeof back),
        fovea_seconds_text(c->fetched_seconds, back_time, sizeof back_time));
}

void fovea_print_case(const fovea_bench_run *run, const fovea_screen *screen,
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
        fovea_screen_say(screen, FOVEA_FAINT, "not measured%s%s", *c->problem ? ": " : "",
                         c->problem);
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
    {"case", 0, true},          {"ours", 13, true},
    {"time", 20, false},        {"launches (programmatic)", 6, false},
    {"rate", 12, false},        {"of peak", 14, false},
    {"of its size", 16, false}, {"scratch", 4, false},
    {"best peer", 11, true},    {"vs best peer", 19, false},
    {"vs NumPy", 15, false},    {"of bound", 5, false},
    {"hot", 13, false},         {"vs best, hot", 18, false}};
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

/* Why a case has no time of ours at a place. */
static const char *without_time(const fovea_bench_case *c, fovea_place place) {
    if (*c->problem) return c->problem;
    if (!c->done) return "not measured";
    for (int r = 0; r < c->row_count; r++)
        if (!c->rows[r].peer && c->rows[r].place == place && c->rows[r].served)
            return "the run ended before it was timed";
    return "none of ours serves this";
}

/* In launches of an empty kernel; in brackets those that are brought in while the one before ends. */
static void launches_cell(fovea_line *line, int column, const fovea_bench_run *run, double median) {
    if (run->programmatic_launch_seconds > 0)
        fovea_line_cell(line, column, "%.1f (%.1f)", median / run->launch_seconds,
                        median / run->programmatic_launch_seconds);
    else
        fovea_line_cell(line, column, "%.1f", median / run->launch_seconds);
}

static void case_line(const fovea_bench_run *run, const fovea_bench_case *c, fovea_place place,
                      bool attention, fovea_line *line) {
    const fovea_bench_row *row = fovea_routed_row(c, place);
    const fovea_bench_row *peer = row ? fovea_best_peer(c, row, false) : NULL;
    const fovea_bench_row *wrong = first_wrong(c, place);
    char text[64];
    *line = (fovea_line){.style = FOVEA_PLAIN};
    fovea_line_cell(line, 0, "%s", c->name);
    if (!c->done || !row) {
        snprintf(line->note, sizeof line->note, "%s", without_time(c, place));
        line->style = FOVEA_FAINT;
        if (wrong)
            snprintf(line->note, sizeof line->note, "WRONG: %s: %s", wrong->arm, wrong->reason);
        if (wrong) line->style = FOVEA_BAD;
        return;
    }
    double median = row->summary.median;
    bool bytes = c->by_bytes[row->place];
    fovea_line_cell(line, 1, "%s%s", fovea_last_part(row->arm), wrong ? " (another is WRONG)" : "");
    fovea_line_cell(line, 2, "%s", fovea_seconds_text(median, text, sizeof text));
    if (attention)
        fovea_line_cell(line, 3, "%s", fovea_rate_text(tokens(c) / median, "", text, sizeof text));
    if (!attention && row->place == FOVEA_ON_CUDA && run->launch_seconds > 0 &&
        median < 20 * run->launch_seconds)
        launches_cell(line, 3, run, median);
    fovea_line_cell(line, 4, "%s",
                    fovea_rate_text((bytes ? c->bytes : c->operations) / median,
                                    bytes       ? "B/s"
                                    : attention ? ""
                                                : "FLOP/s",
                                    text, sizeof text));
    if (row->share > 0) fovea_line_cell(line, 5, "%.0f %%", 100 * row->share);
    if (attention)
        ratio_cell(line, 6, row, fovea_find_row(c, place, "/textbook"));
    else if (fovea_share_at_size(c, row) > 0)
        fovea_line_cell(line, 6, "%.0f %%", 100 * fovea_share_at_size(c, row));
    fovea_line_cell(line, 7, "%s", fovea_bytes_text((double)row->scratch_bytes, text, sizeof text));
    if (peer) fovea_line_cell(line, 8, "%s", fovea_last_part(peer->arm));
    ratio_cell(line, 9, row, peer);
    ratio_cell(line, 10, row, fovea_find_row(c, place, "peer/numpy"));
    if (row->bound > 0) fovea_line_cell(line, 11, "%.2f", row->error / row->bound);
    if (row->bound == 0) fovea_line_cell(line, 11, "exact");
    if (row->hot_summary.count)
        fovea_line_cell(line, 12, "%s", rate_of(c, row, &row->hot_summary, text, sizeof text));
    hot_ratio_cell(line, 13, row, fovea_best_peer(c, row, true));
    if (peer) line->style = peer->summary.median > median ? FOVEA_GOOD : FOVEA_PLAIN;
    if (wrong) line->style = FOVEA_BAD;
}

void fovea_print_lines(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                       fovea_place place, bool attention) {
    static fovea_line lines[FOVEA_LINES_MAX];
    const fovea_bench_case *before = NULL;
    int count = 0;
    for (int i = 0; i < run->case_count && count < FOVEA_LINES_MAX; i++) {
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
void fovea_print_group(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
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
        double shares[FOVEA_LINES_MAX], textbook[FOVEA_LINES_MAX], peers[FOVEA_LINES_MAX];
        int n = 0, t = 0, p = 0;
        for (int j = i; j < run->case_count && n < FOVEA_LINES_MAX; j++) {
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
        fovea_line_cell(line, 0, "%s %lld", meaning, (long long)value);
        fovea_line_cell(line, 1, "%d", n);
        fovea_line_cell(line, 2, "%.0f %%", 100 * fovea_median(shares, n)); /* sorts */
        fovea_line_cell(line, 3, "%.0f %%", 100 * shares[n - 1]);
        if (t) fovea_line_cell(line, 4, "%.2f×", fovea_median(textbook, t));
        if (t) fovea_line_cell(line, 5, "%.2f×", textbook[t - 1]);
        if (p) fovea_line_cell(line, 6, "%.2f×", fovea_median(peers, p));
        if (p) fovea_line_cell(line, 7, "%.2f×", peers[0]);
    }
    if (count < 2) return;
    fputc('\n', screen->file);
    fovea_columns_print(screen, columns, 8, lines, count);
}

void fovea_print_best(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                      fovea_place place) {
    const fovea_bench_case *best = NULL;
    double shares[FOVEA_LINES_MAX];
    int count = 0;
    for (int i = 0; i < run->case_count && count < FOVEA_LINES_MAX; i++) {
        const fovea_bench_case *c = &run->cases[i];
        const fovea_bench_row *row = fovea_routed_row(c, place);
        if (strcmp(c->suite, suite) != 0 || !row) continue;
        shares[count++] = row->share;
        if (!best || row->share > fovea_routed_row(best, place)->share) best = c;
    }
    if (!best || count < 2) return;
    fputc('\n', screen->file);
    fovea_screen_say(
        screen, FOVEA_BOLD,
        "Best configuration: %s, %.0f %% of the ceiling; the median of the %d cases is %.0f %%.",
        best->name, 100 * fovea_routed_row(best, place)->share, count,
        100 * fovea_median(shares, count));
}
