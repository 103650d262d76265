/* What the rows of a case say together: the best of ours, the best peer, the noise of a run. */
#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *fovea_row_flag_name(int bit) {
    static const char *const names[FOVEA_ROW_FLAGS] = {
        "fits-l1",       "fits-l2", "cache-resident", "cold",      "above-ceiling", "routed",
        "less-accurate", "noisy",   "few-samples",    "throttled", "approximate"};
    return names[bit];
}

const char *fovea_place_name(fovea_place place) {
    static const char *const names[FOVEA_PLACES] = {"cpu", "cuda"};
    return names[place];
}

const char *fovea_peer_label(const fovea_bench_peer *peer, char *label, size_t size) {
    snprintf(label, size, "%s%s", peer->place == FOVEA_ON_CUDA ? "cuda/" : "", peer->name);
    return label;
}

static bool comparable(const fovea_bench_row *row) {
    return row->verified && row->summary.count > 0;
}

/* One kernel after another is no implementation of the fused one. */
static bool in_steps(const fovea_bench_row *row) { return strcmp(row->arm, FOVEA_STEPS_ARM) == 0; }

const fovea_bench_row *fovea_best_row(const fovea_bench_case *c, fovea_place place, bool peer) {
    const fovea_bench_row *best = NULL;
    for (int r = 0; r < c->row_count; r++) {
        const fovea_bench_row *row = &c->rows[r];
        if (row->peer != peer || row->place != place || !comparable(row) || in_steps(row) ||
            row->flags & FOVEA_ROW_APPROXIMATE)
            continue;
        if (!best || row->summary.median < best->summary.median) best = row;
    }
    return best;
}

const fovea_bench_row *fovea_best_peer(const fovea_bench_case *c, const fovea_bench_row *row,
                                       bool hot) {
    const fovea_bench_row *best = NULL;
    for (int r = 0; r < c->row_count; r++) {
        const fovea_bench_row *peer = &c->rows[r];
        const fovea_summary *s = hot ? &peer->hot_summary : &peer->summary;
        if (!peer->peer || peer->place != row->place || !peer->verified || !s->count) continue;
        if (!best || s->median < (hot ? &best->hot_summary : &best->summary)->median) best = peer;
    }
    return best;
}

const fovea_bench_row *fovea_find_row(const fovea_bench_case *c, fovea_place place,
                                      const char *part) {
    for (int r = 0; r < c->row_count; r++)
        if (*part && strstr(c->rows[r].arm, part) && c->rows[r].place == place &&
            comparable(&c->rows[r]))
            return &c->rows[r];
    return NULL;
}

static const fovea_bench_row *chosen_row(const fovea_bench_case *c, fovea_place place) {
    for (int r = 0; r < c->row_count; r++)
        if (c->rows[r].flags & FOVEA_ROW_ROUTED && c->rows[r].place == place &&
            comparable(&c->rows[r]))
            return &c->rows[r];
    return NULL;
}

const fovea_bench_row *fovea_routed_row(const fovea_bench_case *c, fovea_place place) {
    const fovea_bench_row *chosen = chosen_row(c, place);
    return chosen ? chosen : fovea_best_row(c, place, false);
}

double fovea_block_regret(const fovea_bench_case *c) {
    const fovea_bench_row *best = fovea_best_row(c, FOVEA_ON_CPU, false), *formula = &c->rows[0];
    if (!c->sweep || !c->done || !c->row_count || !comparable(formula)) return NAN;
    return formula->summary.median / best->summary.median - 1;
}

double fovea_route_regret(const fovea_bench_case *c, fovea_place place) {
    const fovea_bench_row *best = fovea_best_row(c, place, false), *chosen = chosen_row(c, place);
    return c->done && chosen ? chosen->summary.median / best->summary.median - 1 : NAN;
}

const fovea_ceiling *fovea_bench_ceiling(const fovea_bench_run *run, const fovea_bench_case *c,
                                         const fovea_bench_row *row) {
    const fovea_ceiling *tiles = NULL;
    if (!c->by_bytes[row->place] && strncmp(row->arm, "cpu/amx/", 8) == 0)
        tiles = fovea_ceilings_find(&run->ceilings, "tile_bf16", "amx", run->threads);
    for (int k = 0; !tiles && k < run->ceilings.count; k++)
        if (strcmp(run->ceilings.items[k].name, c->ceiling[row->place]) == 0)
            return &run->ceilings.items[k];
    return tiles;
}

double fovea_share_at_size(const fovea_bench_case *c, const fovea_bench_row *row) {
    bool known = c->at_size.rate > 0 && row->flags & FOVEA_ROW_COLD && row->summary.count;
    return known && row->place == FOVEA_ON_CUDA ? c->bytes / row->summary.median / c->at_size.rate
                                                : 0;
}

/* Of two loops that take turns. */
static const double noise_of_turns = 0.05;

void fovea_bench_update_shares(fovea_bench_run *run) {
    for (int i = 0; i < run->case_count; i++) {
        fovea_bench_case *c = &run->cases[i];
        for (int r = 0; r < c->row_count; r++) {
            fovea_bench_row *row = &c->rows[r];
            double work = c->by_bytes[row->place] ? c->bytes : c->operations;
            const fovea_ceiling *ceiling = fovea_bench_ceiling(run, c, row);
            row->share =
                ceiling && row->summary.count ? work / row->summary.median / ceiling->value : 0;
            double most = 1;
            if (row->shares.count) {
                row->share = fovea_summarise(row->shares.values, row->shares.count).median;
                most = 1 + noise_of_turns;
            }
            row->flags &= ~(unsigned)FOVEA_ROW_ABOVE_CEILING;
            if (row->share > most) row->flags |= FOVEA_ROW_ABOVE_CEILING;
        }
    }
}

int fovea_wrong_rows(const fovea_bench_run *run) {
    int wrong = 0;
    for (int i = 0; i < run->case_count; i++)
        for (int r = 0; r < run->cases[i].row_count && run->cases[i].done; r++) {
            const fovea_bench_row *row = &run->cases[i].rows[r];
            /* An interrupt leaves the arms that it kept from being verified without a reason. */
            wrong += !row->peer && row->served && !row->verified && *row->reason;
        }
    return wrong;
}

static double distance_from_one(double ratio) { return ratio < 1 ? 1 / ratio : ratio; }

fovea_noise fovea_bench_noise(const fovea_bench_run *run) {
    fovea_noise noise = {.ratio = NAN};
    double *ratios = malloc(((size_t)run->case_count + 1) * sizeof *ratios);
    if (!ratios) return noise;
    for (int i = 0; i < run->case_count; i++) {
        const fovea_bench_case *c = &run->cases[i];
        if (!c->done || isnan(c->noise_ratio)) continue;
        double ratio = distance_from_one(c->noise_ratio);
        if (ratio > noise.worst_ratio) noise.worst_ratio = ratio, noise.worst = c;
        ratios[noise.pairs++] = ratio;
    }
    (void)fovea_median(ratios, noise.pairs); /* sorts */
    if (noise.pairs) noise.ratio = fovea_quantile(ratios, noise.pairs, 0.9);
    free(ratios);
    return noise;
}
