/* The terminal's side of a run: what was measured, suite by suite, and what to think of it. */
#include "bench_table.h"

#include <stdio.h>
#include <string.h>

/* ---- A suite -------------------------------------------------------------------------------- */

/* What its cases say together, at one place. */
static void print_place(const fovea_bench_run *run, const fovea_screen *screen, const char *suite,
                        fovea_bench_view shown, fovea_place place) {
    fovea_bench_view view = fovea_suite_view(suite);
    if (shown == FOVEA_VIEW_ATTENTION || shown == FOVEA_VIEW_KERNELS)
        fovea_print_lines(run, screen, suite, place, shown == FOVEA_VIEW_ATTENTION);
    if (view == FOVEA_VIEW_CALLS) return fovea_print_calls(run, screen, suite, place);
    if (view == FOVEA_VIEW_BLOCKS) return fovea_print_blocks(run, screen, suite);
    if (view == FOVEA_VIEW_ROUTING) return fovea_print_routing(run, screen, suite, place);
    if (view == FOVEA_VIEW_ATTENTION) {
        fovea_print_group(run, screen, suite, place, "B", "batch");
        fovea_print_group(run, screen, suite, place, "Sq", "length");
        fovea_print_group(run, screen, suite, place, "D", "head size");
        fovea_print_best(run, screen, suite, place);
    }
    if (view == FOVEA_VIEW_KERNELS) {
        fovea_print_kernels(run, screen, suite, place);
        fovea_print_domains(run, screen, suite, place);
    }
    fovea_print_speedups(run, screen, suite, place);
    if (place == FOVEA_ON_CPU) fovea_print_optional_arms(run, screen, suite);
    if (place == FOVEA_ON_CUDA) fovea_print_enqueuing(run, screen, suite);
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
        if (strcmp(run->cases[i].suite, suite) == 0) fovea_print_case(run, &screen, &run->cases[i]);
    if (both) fovea_print_places(run, &screen, suite);
    for (int p = 0; p < FOVEA_PLACES; p++) {
        if (!fovea_bench_on(run, (fovea_place)p)) continue;
        if (both) print_title(run, &screen, suite, p == FOVEA_ON_CPU, p == FOVEA_ON_CUDA);
        print_place(run, &screen, suite, view, (fovea_place)p);
    }
    fovea_print_stages(run, &screen, suite);
    fflush(stdout);
}

/* ---- Head and foot -------------------------------------------------------------------------- */

static void print_device(const fovea_bench_run *run, const fovea_screen *screen) {
    const fovea_cuda_device *d = &run->device;
    char launch[32], programmatic[32], lone[32];
    if (!fovea_bench_on(run, FOVEA_ON_CUDA)) return;
    fovea_screen_say(screen, FOVEA_FAINT,
                     "%s, %d multiprocessors, capability %d.%d, driver for CUDA %d.%d", d->name,
                     d->multiprocessors, d->capability / 10, d->capability % 10,
                     d->driver_version / 1000, d->driver_version % 1000 / 10);
    if (run->launch_seconds > 0)
        fovea_screen_say(
            screen, FOVEA_FAINT,
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
    fovea_screen_say(&screen, FOVEA_FAINT, "%s, %d of %lld processors, %s", run->tier, run->threads,
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
        fovea_screen_say(&screen, FOVEA_FAINT, "ceiling %-22s %s", c->name,
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
            fovea_screen_say(screen, FOVEA_FAINT, "Peer %s is missing: %s",
                             fovea_peer_label(peer, label, sizeof label), peer->reason);
    }
    if (*used)
        fovea_screen_say(screen, FOVEA_FAINT,
                         "Peers: %s; each a process of its own, stopped while others are timed.",
                         used);
    if (run->options.no_peers)
        fovea_screen_say(screen, FOVEA_FAINT, "Peers were left out (--no-peers).");
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
            fovea_screen_say(screen, FOVEA_FAINT, "%s: FLOP %s, bytes %s%s", kernel->name,
                             kernel->operations ? kernel->operations : FOVEA_COUNTED_BY_STEP,
                             kernel->bytes,
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
        fovea_screen_say(
            screen, FOVEA_FAINT,
            "Cold on the device: in %d cases calls took turns over %d to %d sets of the tensors in "
            "one "
            "graph, ours and the peers' alike.",
            rotated, least, most);
    if (flushed)
        fovea_screen_say(
            screen, FOVEA_FAINT,
            "Cold on the device: in %d cases, of which so many sets cannot be had, its cache was "
            "overwritten before each call, alone between two events; that is part of their times.",
            flushed);
}

static void print_at_size(const fovea_bench_run *run, const fovea_screen *screen) {
    bool found = false;
    for (int i = 0; i < run->case_count; i++) found |= run->cases[i].at_size.rate > 0;
    if (found)
        fovea_screen_say(
            screen, FOVEA_FAINT,
            "Of peak: of the ceiling that was measured over 2 GiB; of its size: of what copying "
            "as many bytes, or reading them where next to nothing is written, reaches by the same "
            "turns and launches.");
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
        fovea_screen_say(
            &screen, FOVEA_PLAIN,
            "Noise floor %.1f %%: equal work under two names differed by no more in nine of ten of "
            "%d pairs, in the worst, %s, by %.1f %%.",
            100 * (noise.ratio - 1), noise.pairs, noise.worst->name, 100 * (noise.worst_ratio - 1));
    fovea_screen_say(
        &screen, FOVEA_FAINT,
        "Times are medians, ± is the median absolute deviation. Every arm was compared with a "
        "double-precision reference before it was timed; a wrong one is not ranked.");
    if (fovea_bench_on(run, FOVEA_ON_CUDA))
        fovea_screen_say(
            &screen, FOVEA_FAINT,
            "On the device: by events around replays of a graph, after a rest (time, rate) and in "
            "turns of 55 ms while all arms keep it at its cap of power (hot); calls too short to "
            "heat it, and arms 5 times slower than the fastest, in one state alone. Copies to and "
            "from the device are not in these times.");
    print_cold(run, &screen);
    print_at_size(run, &screen);
    print_formulas(run, &screen);
    if (run->ceilings.buffer_bytes) {
        char text[32];
        fovea_screen_say(&screen, FOVEA_FAINT,
                         "Bandwidths were measured over %s; what fits a cache may exceed them.",
                         fovea_bytes_text((double)run->ceilings.buffer_bytes, text, sizeof text));
    }
    if (has_memory(run))
        fovea_screen_say(
            &screen, FOVEA_FAINT,
            "Shares of what memory binds are of the rate at which the same threads read and wrote "
            "the same tensors and did nothing else, in turns with the arms: medians of the ratios "
            "of each round.");
    print_peers(run, &screen);
    json_array_foreach(run->warnings, i, warning)
        fovea_screen_say(&screen, FOVEA_BAD, "Warning: %s.", json_string_value(warning));
    if (fovea_wrong_rows(run))
        fovea_screen_say(&screen, FOVEA_BAD, "%d of our rows are WRONG and were not timed.",
                         fovea_wrong_rows(run));
    if (run->interrupted)
        fovea_screen_say(&screen, FOVEA_BAD, "Interrupted: these are the samples so far.");
    fflush(stdout);
}
