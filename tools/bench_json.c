/* The file of a run, format 1: every sample, and what is needed to judge it. */
#define _GNU_SOURCE
#include "bench.h"
#include "commit.h"
#include "runtime/output.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef FOVEA_BUILD_TYPE
    #define FOVEA_BUILD_TYPE "unknown"
#endif

enum { FORMAT = 1 };

/* Bytes of the character there; 0: none. The JSON library judges it. */
static size_t character_at(const char *at, size_t left) {
    for (size_t length = 1; length <= 4 && length <= left; length++) {
        json_t *one = json_stringn(at, length);
        json_decref(one);
        if (one) return length;
    }
    return 0;
}

json_t *fovea_json_text(const char *text) {
    size_t size = strlen(text);
    json_t *string = json_stringn(text, size);
    char *repaired = string ? NULL : strdup(text);
    for (size_t i = 0; repaired && i < size;) {
        size_t length = character_at(repaired + i, size - i);
        if (!length) repaired[i] = '?';
        i += length ? length : 1;
    }
    if (repaired) string = json_stringn(repaired, size);
    free(repaired);
    return string;
}

/* JSON has no infinity and no NaN. */
static json_t *real(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static json_t *count(int64_t value) { return json_integer((json_int_t)value); }

static json_t *timings(const fovea_timings *t) {
    json_t *array = json_array();
    for (int i = 0; i < t->count; i++) json_array_append_new(array, json_real(t->values[i]));
    return array;
}

/* Extents by letter in lower case. The size of pages is one only where there is a block table. */
static json_t *shape(const fovea_case *c) {
    json_t *object = json_object();
    const char *letter;
    int table = fovea_kernel_argument(fovea_catalogue_kernel(c->index), "block_table");
    bool paged = table >= 0 && c->optional >> table & 1;
    for (int i = 0; i < FOVEA_LETTERS_MAX && (letter = fovea_kernel_letter_name(c->index, i));
         i++) {
        char name[16];
        size_t k = 0;
        for (; letter[k] && k < sizeof name - 1; k++)
            name[k] = (char)tolower((unsigned char)letter[k]);
        name[k] = 0;
        if (paged || strcmp(name, "page") != 0)
            json_object_set_new(object, name, count(c->extents[i]));
    }
    return object;
}

static json_t *flags(unsigned bits) {
    json_t *array = json_array();
    for (int b = 0; b < FOVEA_ROW_FLAGS; b++)
        if (bits >> b & 1) json_array_append_new(array, json_string(fovea_row_flag_name(b)));
    return array;
}

static void add_summary(json_t *object, const fovea_bench_run *run, const fovea_bench_case *c,
                        const fovea_bench_row *row) {
    const fovea_summary *s = &row->summary;
    const struct {
        const char *name;
        double value;
    } figures[] = {{"median", s->median}, {"mad", s->mad},         {"p10", s->p10},
                   {"p90", s->p90},       {"minimum", s->minimum}, {"share", row->share}};
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        json_object_set_new(object, figures[i].name,
                            s->count ? real(figures[i].value) : json_null());
    json_object_set_new(object, "outliers", s->count ? count(s->outliers) : json_null());
    const fovea_ceiling *ceiling = fovea_bench_ceiling(run, c, row);
    json_object_set_new(object, "ceiling", ceiling ? json_string(ceiling->name) : json_null());
}

/* Calls with both ways in their time; null where they were not measured. */
static json_t *with_transfers(const fovea_bench_row *row) {
    const fovea_summary *s = &row->journey_summary;
    if (!s->count) return json_null();
    return json_pack("{s:o,s:f,s:f,s:f,s:f,s:f}", "samples", timings(&row->journey.whole), "median",
                     s->median, "mad", s->mad, "p10", s->p10, "p90", s->p90, "minimum", s->minimum);
}

/* What as many bytes take that are copied or read alone, cold as the calls are; null where it was not measured. */
static json_t *at_size_json(const fovea_bench_case *c) {
    if (!(c->at_size.rate > 0)) return json_null();
    return json_pack("{s:s,s:f,s:f}", "kind", c->at_size.writes ? "copy" : "read", "bytes",
                     c->at_size.bytes, "value", c->at_size.rate);
}

/* Rows of a device have samples of another state too, and what was seen of it: each burst is of the
 * next so many samples of its state. */
static void add_device(json_t *object, const fovea_bench_run *run, const fovea_bench_case *c,
                       const fovea_bench_row *row) {
    const fovea_summary *s = &row->hot_summary;
    if (row->place != FOVEA_ON_CUDA) return;
    json_t *bursts = json_array(), *hot = json_null();
    if (s->count) {
        hot = json_pack("{s:o,s:f,s:f,s:f,s:f,s:f,s:i}", "samples", timings(&row->hot), "median",
                        s->median, "mad", s->mad, "p10", s->p10, "p90", s->p90, "minimum",
                        s->minimum, "outliers", s->outliers);
    }
    json_object_set_new(object, "hot", hot);
    for (int i = 0; i < row->burst_count; i++) {
        const fovea_burst *b = &row->bursts[i];
        char reasons[128];
        fovea_nvml_reasons_text(b->seen.reasons, reasons, sizeof reasons);
        json_t *burst = json_pack("{s:s,s:i,s:f,s:b,s:s}", "state", b->hot ? "hot" : "cool",
                                  "count", b->count, "at", b->at, "throttled",
                                  fovea_nvml_throttled(b->seen.reasons), "held_back_by", reasons);
        json_object_set_new(burst, "sm_clock_hz", real(b->seen.sm_clock));
        json_object_set_new(burst, "memory_clock_hz", real(b->seen.memory_clock));
        json_object_set_new(burst, "power_watts", real(b->seen.power));
        json_object_set_new(burst, "temperature_celsius", real(b->seen.temperature));
        json_t *clocks = json_array(), *held = json_array();
        for (int sample = 0; sample < b->count; sample++) {
            const fovea_nvml_span *seen = &b->samples[sample];
            json_array_append_new(clocks, real(seen->sm_clock));
            json_array_append_new(held, json_boolean(fovea_nvml_throttled(seen->reasons)));
        }
        json_object_set_new(burst, "sample_clocks_hz", clocks);
        json_object_set_new(burst, "samples_throttled", held);
        json_array_append_new(bursts, burst);
    }
    json_object_set_new(object, "share_at_size",
                        fovea_share_at_size(c, row) > 0 ? real(fovea_share_at_size(c, row))
                                                        : json_null());
    json_object_set_new(object, "ceiling_at_size", at_size_json(c));
    json_object_set_new(object, "bursts", bursts);
    json_object_set_new(object, "with_transfers", with_transfers(row));
    json_object_set_new(object, "enqueue_seconds",
                        row->enqueue_seconds > 0 ? real(row->enqueue_seconds) : json_null());
    double median = row->summary.count ? row->summary.median : NAN;
    json_object_set_new(object, "launches", real(median / run->launch_seconds));
    json_object_set_new(object, "programmatic_launches",
                        real(median / run->programmatic_launch_seconds));
}

/* How calls came to find nothing in the last cache: they took turns over several sets of the tensors, or, with
 * one, it was overwritten before each; null where they were warm. */
static json_t *cold_by(const fovea_bench_case *c, const fovea_bench_row *row) {
    if (!(row->flags & FOVEA_ROW_COLD)) return json_null();
    return json_string(c->sets[row->place] > 1 ? "rotation" : "flush");
}

/* To the device and back, from this process's memory; null where no arm was on one. */
static json_t *transfers(const fovea_bench_case *c) {
    if (c->sent_seconds <= 0) return json_null();
    return json_pack("{s:s,s:I,s:f,s:I,s:f}", "memory", "pageable", "sent_bytes",
                     (json_int_t)c->sent_bytes, "sent_seconds", c->sent_seconds, "fetched_bytes",
                     (json_int_t)c->fetched_bytes, "fetched_seconds", c->fetched_seconds);
}

/* Null where the arm was not compared. */
static json_t *accuracy_json(const fovea_accuracy *a) {
    if (!a->count) return json_null();
    json_t *object = json_object();
    json_object_set_new(object, "elements", count(a->count));
    json_object_set_new(object, "maximum", real(a->maximum));
    json_object_set_new(object, "mean", real(a->mean));
    json_object_set_new(object, "cosine", real(a->cosine));
    json_object_set_new(object, "relative_l1", real(a->relative_l1));
    json_object_set_new(object, "rmse", real(a->rmse));
    return object;
}

/* What its share is of, where that was measured in turns with it: the tensors moved and nothing else. */
static json_t *memory_json(const fovea_bench_case *c, const fovea_bench_row *row) {
    if (!row->shares.count) return json_null();
    return json_pack("{s:f,s:f,s:o,s:o}", "bytes", c->memory.bytes, "median", c->memory.median,
                     "samples", timings(&c->memory.timings), "shares", timings(&row->shares));
}

static json_t *row_json(const fovea_bench_run *run, const fovea_bench_case *c,
                        const fovea_bench_row *row) {
    const fovea_case *d = &c->definition;
    json_t *object = json_object(), *block = json_object();
    json_object_set_new(object, "suite", json_string(c->suite));
    json_object_set_new(object, "case", json_string(c->name));
    json_object_set_new(object, "kernel", json_string(c->kernel));
    json_object_set_new(object, "domain", json_string(fovea_catalogue_kernel(d->index)->domain));
    json_object_set_new(object, "dtype", json_string(fovea_dtype_name(d->dtype)));
    json_object_set_new(object, "shape", shape(d));
    json_object_set_new(object, "threads", count(run->threads));
    json_object_set_new(object, "arm", json_string(row->arm));
    json_object_set_new(object, "backend", json_string(fovea_place_name(row->place)));
    json_object_set_new(object, "peer", json_boolean(row->peer));
    json_object_set_new(object, "verified", json_boolean(row->verified));
    json_object_set_new(object, "reason",
                        *row->reason ? fovea_json_text(row->reason) : json_null());
    bool compared = row->verified || row->bound > 0 || row->error > 0;
    json_object_set_new(object, "error", compared ? real(row->error) : json_null());
    json_object_set_new(object, "bound", compared ? real(row->bound) : json_null());
    bool quality = row->flags & FOVEA_ROW_APPROXIMATE;
    json_object_set_new(object, "bound_kind",
                        json_string(row->peer_bound ? "peer"
                                    : quality       ? "quality"
                                                    : "catalogue"));
    json_object_set_new(object, "accuracy", accuracy_json(&row->accuracy));
    json_object_set_new(object, "samples", timings(&row->timings));
    add_summary(object, run, c, row);
    json_object_set_new(object, "flops", real(c->operations));
    json_object_set_new(object, "bytes", real(c->bytes));
    json_object_set_new(object, "scratch_bytes",
                        row->peer ? json_null() : count((int64_t)row->scratch_bytes));
    if (row->block_rows) json_object_set_new(block, "rows", count(row->block_rows));
    if (row->block_keys) json_object_set_new(block, "keys", count(row->block_keys));
    json_object_set_new(object, "block", block);
    json_object_set_new(
        object, "arithmetic",
        fovea_json_text(*row->arithmetic ? row->arithmetic : fovea_dtype_name(d->dtype)));
    json_object_set_new(object, "flags", flags(row->flags));
    json_object_set_new(object, "cold_by", cold_by(c, row));
    json_object_set_new(object, "sets", count(c->sets[row->place]));
    if (row->place == FOVEA_ON_CUDA) json_object_set_new(object, "transfers", transfers(c));
    add_device(object, run, c, row);
    json_object_set_new(object, "memory", memory_json(c, row));
    return object;
}

static json_t *ceilings_json(const fovea_bench_run *run) {
    json_t *object = json_object();
    for (int i = 0; i < run->ceilings.count; i++) {
        const fovea_ceiling *c = &run->ceilings.items[i];
        if (!(c->value > 0)) continue;
        json_t *item = json_pack("{s:f,s:s,s:i,s:s,s:s}", "value", c->value, "unit", c->unit,
                                 "threads", c->threads, "backend",
                                 strcmp(c->tier, "cuda") == 0 ? "cuda" : "cpu", "tier", c->tier);
        if (strcmp(c->unit, "B/s") == 0 && strcmp(c->tier, "cuda") != 0)
            json_object_set_new(item, "buffer_bytes", count((int64_t)run->ceilings.buffer_bytes));
        json_object_set_new(object, c->name, item);
    }
    return object;
}

static json_t *noise_json(const fovea_bench_run *run) {
    fovea_noise noise = fovea_bench_noise(run);
    json_t *pairs = json_array(), *object = json_object();
    for (int i = 0; i < run->case_count; i++) {
        const fovea_bench_case *c = &run->cases[i];
        if (!c->done || isnan(c->noise_ratio)) continue;
        json_t *pair = json_pack("{s:s,s:s,s:s,s:f}", "suite", c->suite, "case", c->name, "arm",
                                 c->noise_arm, "ratio", c->noise_ratio);
        json_object_set_new(pair, "samples", timings(&c->noise_timings));
        json_array_append_new(pairs, pair);
    }
    /* Without a pair nothing is known, and `pairs` is empty. */
    json_object_set_new(object, "ratio", json_real(noise.pairs ? noise.ratio : 1));
    json_object_set_new(object, "arm",
                        noise.worst ? json_string(noise.worst->noise_arm) : json_null());
    json_object_set_new(object, "case", noise.worst ? json_string(noise.worst->name) : json_null());
    json_object_set_new(object, "pairs", pairs);
    return object;
}

/* What the formula of attention's block plan loses against the best of the sweeps. */
static json_t *regret_json(const fovea_bench_run *run) {
    json_t *cases = json_array(), *object = json_object();
    double *regrets = malloc(((size_t)run->case_count + 1) * sizeof *regrets);
    int n = 0;
    for (int i = 0; regrets && i < run->case_count; i++) {
        const fovea_bench_case *c = &run->cases[i];
        double regret = fovea_block_regret(c);
        if (isnan(regret)) continue;
        regrets[n++] = regret;
        json_array_append_new(cases, json_pack("{s:s,s:s,s:s,s:s,s:f}", "suite", c->suite, "case",
                                               c->name, "formula", c->rows[0].arm, "best",
                                               fovea_best_row(c, FOVEA_ON_CPU, false)->arm,
                                               "regret", regret));
    }
    json_object_set_new(object, "median", n ? real(fovea_median(regrets, n)) : json_null());
    json_object_set_new(object, "worst", n ? real(regrets[n - 1]) : json_null());
    json_object_set_new(object, "cases", cases);
    free(regrets);
    return object;
}

static json_t *formulas_json(const fovea_bench_run *run) {
    json_t *object = json_object();
    for (int i = 0; i < run->case_count; i++) {
        const fovea_kernel *kernel = fovea_catalogue_kernel(run->cases[i].definition.index);
        const char *operations = kernel->operations ? kernel->operations : FOVEA_COUNTED_BY_STEP;
        json_object_set_new(object, run->cases[i].kernel,
                            json_pack("{s:s,s:s}", "flops", operations, "bytes", kernel->bytes));
    }
    return object;
}

/* Where the time of a run went. */
static json_t *stages_json(const fovea_bench_run *run) {
    json_t *array = json_array();
    for (int i = 0; i < run->case_count; i++) {
        const fovea_bench_case *c = &run->cases[i];
        if (!c->done) continue;
        json_array_append_new(array,
                              json_pack("{s:s,s:s,s:f,s:f,s:f,s:f,s:f,s:f}", "suite", c->suite,
                                        "case", c->name, "seconds", c->seconds, "waited_seconds",
                                        c->waited_seconds, "prepared_seconds", c->prepared_seconds,
                                        "verified_seconds", c->verified_seconds, "peers_seconds",
                                        c->peers_seconds, "judged_seconds", c->judged_seconds));
    }
    return array;
}

static json_t *monitor_json(const fovea_bench_run *run) {
    json_t *array = json_array();
    for (int i = 0; i < run->case_count; i++) {
        const fovea_bench_case *c = &run->cases[i];
        for (int m = 0; m < c->monitor_count; m++) {
            const fovea_monitor *s = &c->monitors[m];
            json_t *item = json_pack("{s:s,s:s,s:f,s:f,s:f,s:f,s:f}", "suite", c->suite, "case",
                                     c->name, "at", s->at, "resident_bytes", s->resident_bytes,
                                     "busy", s->busy, "steal", s->steal, "foreign", s->foreign);
            json_object_set_new(item, "temperature_celsius", real(s->temperature));
            json_object_set_new(item, "frequency_hz", real(s->frequency));
            json_array_append_new(array, item);
        }
    }
    return array;
}

static json_t *problems_json(const fovea_bench_run *run) {
    json_t *object = json_object();
    for (int i = 0; i < run->case_count; i++)
        if (*run->cases[i].problem)
            json_object_set_new(object, run->cases[i].name, fovea_json_text(run->cases[i].problem));
    return object;
}

json_t *fovea_bench_to_json(const fovea_bench_run *run) {
    json_t *document = json_object(), *rows = json_array();
    json_object_set_new(document, "format", count(FORMAT));
    json_object_set_new(document, "fovea",
                        json_pack("{s:s,s:s,s:s}", "version", fovea_version(), "commit",
                                  FOVEA_BUILD_COMMIT, "build", FOVEA_BUILD_TYPE));
    json_object_set_new(document, "suite", json_string(run->options.suites));
    json_object_set_new(document, "started", json_string(run->started_text));
    json_object_set_new(document, "seconds", real(run->seconds));
    json_object_set_new(document, "interrupted", json_boolean(run->interrupted));
    json_object_set(document, "environment", run->environment);
    json_object_set_new(document, "ceilings", ceilings_json(run));
    json_object_set_new(document, "noise_floor", noise_json(run));
    json_object_set_new(document, "formulas", formulas_json(run));
    json_object_set_new(document, "block_regret", regret_json(run));
    for (int i = 0; i < run->case_count; i++)
        for (int r = 0; run->cases[i].done && r < run->cases[i].row_count; r++)
            json_array_append_new(rows, row_json(run, &run->cases[i], &run->cases[i].rows[r]));
    json_object_set_new(document, "rows", rows);
    json_object_set_new(document, "monitor", monitor_json(run));
    json_object_set_new(document, "stages", stages_json(run));
    json_object_set_new(document, "problems", problems_json(run));
    return document;
}

/* ---- Writing -------------------------------------------------------------------------------- */

static bool memory_was_short;

static void *allocate(size_t bytes) {
    void *memory = malloc(bytes);
    memory_was_short |= !memory;
    return memory;
}

bool fovea_bench_write_json(const fovea_bench_run *run, const char *path, fovea_message *message) {
    fovea_output output;
    if (fovea_output_open(path, &output, message) != FOVEA_OK) return false;
    /* A member for which there is no memory would only be missing. */
    memory_was_short = false;
    json_set_alloc_funcs(allocate, free);
    json_t *document = fovea_bench_to_json(run);
    bool good = json_dumpf(document, output.stream, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) == 0;
    json_decref(document);
    json_set_alloc_funcs(malloc, free);
    good = good && !memory_was_short;
    return fovea_output_close(&output, good ? 0 : ENOMEM, message) == FOVEA_OK;
}
