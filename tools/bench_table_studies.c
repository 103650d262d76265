/* What some suites are for: block plans, choices, the cost of calls, where time goes, two places. */
#include "bench_table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Block plans ---------------------------------------------------------------------------- */

static void block_line(const fovea_bench_case *c, fovea_line *line) {
    char text[64];
    double regret = fovea_block_regret(c);
    *line = (fovea_line){.style = FOVEA_PLAIN};
    fovea_line_cell(line, 0, "%s", c->name);
    if (isnan(regret)) {
        snprintf(line->note, sizeof line->note, "%s", *c->problem ? c->problem : "not measured");
        line->style = FOVEA_FAINT;
        return;
    }
    const fovea_bench_row *formula = &c->rows[0], *best = fovea_best_row(c, FOVEA_ON_CPU, false);
    fovea_line_cell(line, 1, "%lldx%lld", (long long)formula->block_rows,
                    (long long)formula->block_keys);
    fovea_line_cell(line, 2, "%s", fovea_seconds_text(formula->summary.median, text, sizeof text));
    fovea_line_cell(line, 3, "%lldx%lld", (long long)best->block_rows, (long long)best->block_keys);
    fovea_line_cell(line, 4, "%s", fovea_seconds_text(best->summary.median, text, sizeof text));
    fovea_line_cell(line, 5, "%.1f %%", 100 * regret);
    fovea_line_cell(line, 6, "%d", c->row_count);
}

/* The formula is one of the plans, so that a regret is never below 0; noise of the others adds to it. */
void fovea_print_blocks(const fovea_bench_run *run, const fovea_screen *screen, const char *suite) {
    static const fovea_column columns[] = {
        {"case", 0, true},      {"formula", 7, false}, {"time", 9, false}, {"best", 7, false},
        {"its time", 8, false}, {"regret", 10, false}, {"plans", 1, false}};
    static fovea_line lines[FOVEA_LINES_MAX];
    double regrets[FOVEA_LINES_MAX];
    int count = 0, known = 0;
    for (int i = 0; i < run->case_count && count < FOVEA_LINES_MAX; i++) {
        if (strcmp(run->cases[i].suite, suite) != 0) continue;
        double regret = fovea_block_regret(&run->cases[i]);
        if (!isnan(regret)) regrets[known++] = regret;
        block_line(&run->cases[i], &lines[count++]);
    }
    fovea_columns_print(screen, columns, 7, lines, count);
    if (!known) return;
    double median = fovea_median(regrets, known);
    fputc('\n', screen->file);
    fovea_screen_say(
        screen, FOVEA_BOLD,
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
    fovea_line_cell(line, 0, "%s", r->c->name);
    fovea_line_cell(line, 1, "%.1f %%", 100 * r->share);
    fovea_line_cell(line, 2, "%s", fovea_seconds_text(chosen->summary.median, text, sizeof text));
    fovea_line_cell(line, 3, "%s", chosen->arm);
    fovea_line_cell(line, 4, "%s", best->arm);
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
        fovea_screen_say(
            screen, FOVEA_FAINT,
            "The chosen one under two names differed from itself by %.1f %% in the median and %.1f "
            "%% at the 95th percentile.",
            100 * median, 100 * fovea_quantile(shares, count, 0.95));
    }
    free(shares);
}

/* What noise adds counts as regret: the best of several equal arms is always another one's turn. */
void fovea_print_routing(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
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
        fovea_screen_say(
            screen, FOVEA_BOLD,
            "Regret of the library's choice against the best of ours, %d shapes: median %.1f %%, "
            "mean %.1f %%, 90th percentile %.1f %%, 95th %.1f %%, worst %.1f %%; the fastest was "
            "chosen in %d, one within 1 %% of it in %d.",
            count, 100 * fovea_quantile(shares, count, 0.5), 100 * sum / count,
            100 * fovea_quantile(shares, count, 0.9), 100 * fovea_quantile(shares, count, 0.95),
            100 * shares[count - 1], none, first);
    print_own_noise(run, screen, suite);
    fovea_screen_say(
        screen, FOVEA_FAINT, "Routes: %s.",
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
        fovea_line_cell(line, 0, "%s, %s",
                        strcmp(ending, FOVEA_CALL_AT_ONE) == 0 ? "N = 1" : "ones",
                        peer ? peer + strlen("peer/") : "ours");
        for (int s = 0; s < 6; s++)
            fovea_line_cell(line, 1 + s, "%.0f", fovea_quantile(costs, count, shares[s]));
        fovea_line_cell(line, 7, "%d", within[0]), fovea_line_cell(line, 8, "%d", within[1]),
            fovea_line_cell(line, 9, "%d", count);
    }
    free(costs);
    return count > 0;
}

void fovea_print_calls(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
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
                fovea_screen_say(screen, FOVEA_PLAIN, "above 300 ns: %s, %.0f ns",
                                 run->cases[i].name, cost);
        }
    fovea_screen_say(
        screen, FOVEA_FAINT,
        "Each through its own door: ours by the functions of C, peers by those of Python.");
}

/* What a call takes the host: the median and the longest of a suite's rows. */
void fovea_print_enqueuing(const fovea_bench_run *run, const fovea_screen *screen,
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
        fovea_screen_say(
            screen, FOVEA_FAINT,
            "A call takes the host %s to enqueue (the median of %d rows; at most %s, %s), "
            "launching "
            "an empty kernel %s.",
            fovea_seconds_text(fovea_median(all.values, all.count), median, sizeof median),
            all.count, fovea_seconds_text(longest->enqueue_seconds, most, sizeof most),
            longest->arm, fovea_seconds_text(run->enqueue_seconds, empty, sizeof empty));
    fovea_timings_release(&all);
}

/* Where a device's time went. */
void fovea_print_stages(const fovea_bench_run *run, const fovea_screen *screen, const char *suite) {
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
    fovea_screen_say(
        screen, FOVEA_FAINT,
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
    fovea_line_cell(line, column, "%s", fovea_seconds_text(seconds, text, sizeof text));
}

static void place_line(const fovea_bench_case *c, places_count *count, fovea_line *line) {
    const fovea_bench_row *ours[FOVEA_PLACES];
    char text[32];
    *line = (fovea_line){.style = FOVEA_PLAIN};
    fovea_line_cell(line, 0, "%s", c->name);
    for (int p = 0; p < FOVEA_PLACES; p++) {
        const fovea_bench_row *peer = fovea_best_row(c, (fovea_place)p, true);
        ours[p] = fovea_routed_row(c, (fovea_place)p);
        if (ours[p]) seconds_cell(line, 1 + 3 * p, ours[p]->summary.median);
        if (peer) fovea_line_cell(line, 2 + 3 * p, "%s", fovea_last_part(peer->arm));
        if (peer) seconds_cell(line, 3 + 3 * p, peer->summary.median);
    }
    const fovea_bench_row *here = ours[FOVEA_ON_CPU], *there = ours[FOVEA_ON_CUDA];
    if (!here && !there)
        snprintf(line->note, sizeof line->note, "%s", *c->problem ? c->problem : "not measured");
    if (!there) return;
    double travelled = there->journey_summary.median;
    bool known = there->journey_summary.count > 0;
    fovea_line_cell(
        line, 8, "%s",
        fovea_bytes_text((double)(c->sent_bytes + c->fetched_bytes), text, sizeof text));
    if (known) seconds_cell(line, 7, travelled);
    if (!here) return;
    double seconds = here->summary.median;
    fovea_line_cell(line, 9, "%.2f", seconds / there->summary.median);
    if (known) fovea_line_cell(line, 10, "%.2f", seconds / travelled);
    if (known && seconds > travelled) line->style = FOVEA_GOOD;
    count->cases++;
    count->there += seconds > there->summary.median;
    count->here += known && seconds > travelled;
}

/* Of a device whose tensors are in the host's memory, which a reader may have to begin with. */
void fovea_print_places(const fovea_bench_run *run, const fovea_screen *screen, const char *suite) {
    static fovea_line lines[FOVEA_LINES_MAX];
    places_count ahead = {0};
    int count = 0;
    for (int i = 0; i < run->case_count && count < FOVEA_LINES_MAX; i++)
        if (strcmp(run->cases[i].suite, suite) == 0)
            place_line(&run->cases[i], &ahead, &lines[count++]);
    fovea_columns_print(screen, place_columns, PLACE_COLUMNS, lines, count);
    fputc('\n', screen->file);
    fovea_screen_say(
        screen, FOVEA_BOLD,
        "The device's own time is below the processor's in %d of %d cases; with its transfers, of "
        "inputs from pageable memory of the host and of outputs back to it, in %d.",
        ahead.there, ahead.cases, ahead.here);
}
