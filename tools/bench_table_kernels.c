/* A suite as a whole: by kernel, by domain, and against peers. */
#include "bench_table.h"

#include <math.h>
#include <string.h>

/* ---- The catalogue, kernel by kernel -------------------------------------------------------- */

/* The kernel that a case of the suite is the first of, or NULL. */
static const char *new_kernel(const fovea_bench_run *run, const char *suite, int at) {
    const fovea_bench_case *c = &run->cases[at];
    if (strcmp(c->suite, suite) != 0) return NULL;
    for (int i = 0; i < at; i++)
        if (strcmp(run->cases[i].suite, suite) == 0 && strcmp(run->cases[i].kernel, c->kernel) == 0)
            return NULL;
    return c->kernel;
}

/* "from n 100000" is the crossover: the smallest size from which on ours leads at every larger one. */
static void kernel_line(const fovea_bench_run *run, const char *suite, fovea_place place,
                        const char *kernel, double noise, fovea_line *line) {
    double peers[FOVEA_LINES_MAX], numpy[FOVEA_LINES_MAX];
    int p = 0, n = 0, cases = 0, ahead = 0;
    const char *from = NULL, *domain = "";
    for (int i = 0; i < run->case_count && p < FOVEA_LINES_MAX; i++) {
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
    fovea_line_cell(line, 0, "%s", kernel);
    fovea_line_cell(line, 1, "%s", domain);
    if (!cases) {
        snprintf(line->note, sizeof line->note, "nothing to compare");
        line->style = FOVEA_FAINT;
        return;
    }
    fovea_line_cell(line, 2, "%d of %d", ahead, cases);
    fovea_line_cell(line, 3, "%s%s",
                    !from   ? "nowhere"
                    : *from ? "from "
                            : "in its case",
                    from ? from : "");
    fovea_line_cell(line, 4, "%.2f×", fovea_median(peers, p));
    if (n) fovea_line_cell(line, 5, "%.2f×", fovea_median(numpy, n));
}

void fovea_print_kernels(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                         fovea_place place) {
    static const fovea_column columns[] = {{"kernel", 0, true},
                                           {"domain", 1, true},
                                           {"ahead in", 8, false},
                                           {"leads", 9, true},
                                           {"vs best peer, median", 10, false},
                                           {"vs NumPy, median", 7, false}};
    static fovea_line lines[FOVEA_LINES_MAX];
    fovea_noise noise = fovea_bench_noise(run);
    int count = 0;
    for (int i = 0; i < run->case_count && count < FOVEA_LINES_MAX; i++) {
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
    double values[FOVEA_LINES_MAX];
    int count, wins, losses; /* beyond the noise floor */
} ratios;

static void add_ratio(ratios *r, const fovea_bench_row *ours, const fovea_bench_row *other,
                      double noise) {
    if (!ours || !other || r->count == FOVEA_LINES_MAX) return;
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
    fovea_screen_say(
        screen, median > 1 ? FOVEA_GOOD : FOVEA_BAD,
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
    double shares[FOVEA_LINES_MAX];
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
        if (from_memory && memory < FOVEA_LINES_MAX) shares[memory++] = ours->share;
        add_ratio(&peer, ours, other, noise);
        add_ratio(&numpy, ours, fovea_find_row(c, place, "peer/numpy"), noise);
        if (!other) continue;
        bool behind = other->summary.median < ours->summary.median;
        for (int p = 0; p < run->peer_count; p++)
            wins[1 + p] += behind && strcmp(fovea_last_part(other->arm), names[1 + p]) == 0;
        wins[0] += !behind;
    }
    *line = (fovea_line){.style = peer.count && !peer.losses ? FOVEA_GOOD : FOVEA_PLAIN};
    fovea_line_cell(line, 0, "%s", domain);
    if (peer.count) fovea_line_cell(line, 1, "%d of %d", peer.wins, peer.count);
    if (peer.count) fovea_line_cell(line, 2, "%s", winner_of(wins, names, 1 + run->peer_count));
    if (peer.count) fovea_line_cell(line, 3, "%.2f×", fovea_median(peer.values, peer.count));
    if (numpy.count) fovea_line_cell(line, 4, "%.2f×", fovea_median(numpy.values, numpy.count));
    if (memory) fovea_line_cell(line, 5, "%.0f %%", 100 * fovea_median(shares, memory));
}

void fovea_print_domains(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                         fovea_place place) {
    static const fovea_column columns[] = {{"domain", 0, true},
                                           {"ahead in", 8, false},
                                           {"winner", 9, true},
                                           {"vs best peer, median", 10, false},
                                           {"vs NumPy, median", 7, false},
                                           {"of bandwidth, from memory", 6, false}};
    static fovea_line lines[FOVEA_LINES_MAX];
    fovea_noise noise = fovea_bench_noise(run);
    int count = 0;
    for (int i = 0; i < run->case_count && count < FOVEA_LINES_MAX; i++) {
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

/* Of each arm that the suite adds, over flash and textbook. */
void fovea_print_optional_arms(const fovea_bench_run *run, const fovea_screen *screen,
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
        fovea_screen_say(
            screen, over_flash > 1 ? FOVEA_GOOD : FOVEA_BAD,
            "%s (%s): over flash median %.2f×, from %.2f× to %.2f×; over textbook median %.2f×, "
            "from %.2f× to %.2f×; %d cases.",
            part + 1, arms[i].options, over_flash, flash.values[0], flash.values[flash.count - 1],
            over_textbook, textbook.values[0], textbook.values[textbook.count - 1], flash.count);
    }
}

void fovea_print_speedups(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                          fovea_place place) {
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
        fovea_screen_say(
            screen, FOVEA_FAINT,
            "In %d cases another of ours was faster than the one that the library chose; `fovea "
            "tune` teaches it.",
            best.losses);
}
