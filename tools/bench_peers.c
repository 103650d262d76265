/* The peers of a run: starting them all at once, describing a case to one, running it, and carrying
 * on without those that are missing or break. */
#include "bench_arms.h"
#include "bench_columns.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RESTARTS = 2 };
static const double start_timeout = 90, prepare_timeout = 120;
/* What a worker may keep from case to case, and the share of the memory that is not to be used up. */
static const double kept_bytes = 1 << 30, reserved_share = 0.15;
/* Contexts of a device take that much of the host's. */
static const double kept_bytes_on_device = 12e9;
static const struct {
    const char *name;
    unsigned places; /* bit p: it computes at that place */
} known_peers[] = {
    {"numpy", 1 << FOVEA_ON_CPU},    {"torch", 1 << FOVEA_ON_CPU | 1 << FOVEA_ON_CUDA},
    {"openvino", 1 << FOVEA_ON_CPU}, {"onnxruntime", 1 << FOVEA_ON_CPU},
    {"mlx", 1 << FOVEA_ON_CPU},      {"jax", 1 << FOVEA_ON_CPU | 1 << FOVEA_ON_CUDA},
    {"fftw", 1 << FOVEA_ON_CPU},     {"cupy", 1 << FOVEA_ON_CUDA}};
enum { KNOWN_PEERS = sizeof known_peers / sizeof *known_peers };

/* The device of the run by the name that CUDA_VISIBLE_DEVICES had for it when we started. */
static const char *device_name(const fovea_bench_run *run) {
    static char name[64];
    if (*name) return name;
    const char *all = getenv("CUDA_VISIBLE_DEVICES");
    for (int i = 0; all && i < run->options.device; i++)
        if ((all = strchr(all, ','))) all++;
    if (all && *all)
        snprintf(name, sizeof name, "%.*s", (int)strcspn(all, ","), all);
    else
        snprintf(name, sizeof name, "%d", run->options.device);
    return name;
}

static void start(fovea_bench_run *run, fovea_bench_peer *peer) {
    char worker[sizeof run->python.parts + 32];
    snprintf(worker, sizeof worker, "%s/bench/peers/worker.py", run->python.parts);
    const char *command[] = {run->python.interpreter, worker, peer->name, NULL};
    const char *device = peer->place == FOVEA_ON_CUDA ? device_name(run) : NULL;
    peer->process =
        fovea_peer_start(peer->name, command, run->threads, device, run->memory, peer->reason);
    if (peer->process)
        fovea_peer_send(peer->process, json_pack("{s:s}", "do", "hello"), start_timeout);
}

static void give_up(fovea_bench_peer *peer) {
    fovea_peer_end(peer->process);
    peer->process = NULL;
}

static void welcome(fovea_bench_peer *peer) {
    json_t *reply = NULL;
    if (!peer->process) return;
    if (fovea_peer_receive(peer->process, start_timeout, &reply, peer->reason) != FOVEA_PEER_OK) {
        if (strstr(peer->reason, "No module named")) {
            const char *name = strchr(peer->reason, '\'');
            char module[64] = "";
            if (name)
                snprintf(module, sizeof module, "%.*s", (int)strcspn(name + 1, "'"), name + 1);
            snprintf(peer->reason, sizeof peer->reason, "not installed (no module %s)", module);
        }
        return give_up(peer);
    }
    if (!peer->versions) peer->versions = json_incref(json_object_get(reply, "versions"));
    if (!peer->ways) peer->ways = json_incref(json_object_get(reply, "ways"));
    json_decref(reply);
}

const char *fovea_peer_way(const fovea_bench_peer *peer, const char *kernel, size_t number) {
    return json_string_value(json_array_get(json_object_get(peer->ways, kernel), number));
}

/* ---- Memory --------------------------------------------------------------------------------- */

/* Bytes of a process that no other shares; 0 if unknown. */
static double private_bytes(int process) {
    char path[64];
    long long resident = 0, shared = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", process);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (fscanf(file, "%*d %lld %lld", &resident, &shared) != 2) resident = shared = 0;
    fclose(file);
    return (double)(resident - shared) * (double)sysconf(_SC_PAGESIZE);
}

static void restart(fovea_bench_run *run, fovea_bench_peer *peer) {
    give_up(peer);
    if (fovea_interrupted()) return;
    start(run, peer);
}

void fovea_bench_relieve_peers(fovea_bench_run *run) {
    bool restarted[FOVEA_PEERS_MAX] = {false};
    for (int p = 0; p < run->peer_count; p++) {
        fovea_bench_peer *peer = &run->peers[p];
        double kept = peer->place == FOVEA_ON_CUDA ? kept_bytes_on_device : kept_bytes;
        if (!peer->process || private_bytes(fovea_peer_process(peer->process)) <= kept) continue;
        restart(run, peer);
        restarted[p] = true;
    }
    for (int p = 0; p < run->peer_count; p++)
        if (restarted[p]) welcome(&run->peers[p]);
}

/* Whether the machine still has memory for the other arms. Else the peer gives its own back, and is out of this
 * case: what it needs would get some process ended by the system. */
static bool leaves_memory(fovea_bench_run *run, fovea_bench_peer *peer, fovea_bench_row *row) {
    double share = fovea_available_share();
    if (share >= reserved_share || fovea_interrupted()) return true;
    snprintf(row->reason, sizeof row->reason,
             "left out: with the %.1f GiB that it holds, %.0f %% of the memory is left",
             private_bytes(fovea_peer_process(peer->process)) / 0x1p30, 100 * share);
    row->served = false;
    restart(run, peer);
    welcome(peer);
    return false;
}

static bool wanted(const fovea_bench_options *options, const char *name) {
    size_t length = strlen(name);
    if (!options->peers) return true;
    for (const char *at = options->peers; *at; at += strcspn(at, ","), at += *at == ',')
        if (strncmp(at, name, length) == 0 && (at[length] == ',' || !at[length])) return true;
    return false;
}

static void add_peer(fovea_bench_run *run, const char *name, fovea_place place, bool python) {
    if (run->peer_count == FOVEA_PEERS_MAX) return;
    fovea_bench_peer *peer = &run->peers[run->peer_count++];
    *peer = (fovea_bench_peer){.place = place};
    snprintf(peer->name, sizeof peer->name, "%s", name);
    if (python)
        start(run, peer);
    else
        snprintf(peer->reason, sizeof peer->reason, "there is no Python to run it with");
}

/* What a library's matrix products reach on the device is a ceiling too. */
static void measure_products(fovea_bench_run *run, fovea_bench_peer *peer) {
    char reason[FOVEA_PEER_REASON];
    json_t *reply = NULL, *value;
    const char *kind;
    if (!peer->process || peer->place != FOVEA_ON_CUDA) return;
    if (fovea_peer_ask(peer->process, json_pack("{s:s}", "do", "ceilings"), start_timeout, &reply,
                       reason) == FOVEA_PEER_OK) {
        json_object_foreach(json_object_get(reply, "ceilings"), kind, value)
            fovea_ceilings_add(&run->ceilings, kind, "FLOP/s", json_number_value(value));
    } else {
        fovea_bench_warn(run, "matrix products of %s were not measured: %s", peer->name, reason);
    }
    json_decref(reply);
}

void fovea_bench_start_peers(fovea_bench_run *run) {
    if (run->options.no_peers) return;
    bool python = fovea_python_find(&run->python, "fovea bench");
    if (fovea_bench_on(run, FOVEA_ON_CUDA)) device_name(run); /* before workers' settings hide it */
    for (int i = 0; i < KNOWN_PEERS; i++)
        for (int p = 0; p < FOVEA_PLACES; p++)
            if (wanted(&run->options, known_peers[i].name) && known_peers[i].places >> p & 1 &&
                fovea_bench_on(run, (fovea_place)p))
                add_peer(run, known_peers[i].name, (fovea_place)p, python);
    for (int p = 0; p < run->peer_count; p++) welcome(&run->peers[p]);
    for (int p = 0; p < run->peer_count; p++) measure_products(run, &run->peers[p]);
}

void fovea_bench_end_peers(fovea_bench_run *run) {
    for (int p = 0; p < run->peer_count; p++) {
        give_up(&run->peers[p]);
        json_decref(run->peers[p].versions);
        json_decref(run->peers[p].ways);
        run->peers[p].versions = run->peers[p].ways = NULL;
    }
}

unsigned fovea_peer_places(const char *name) {
    for (int i = 0; i < KNOWN_PEERS; i++)
        if (strcmp(known_peers[i].name, name) == 0) return known_peers[i].places;
    return 0;
}

/* ---- A case in JSON ------------------------------------------------------------------------- */

static json_t *parameter_value(const fovea_parameter *parameter, double value) {
    if (!isfinite(value) || value == FOVEA_ALL_AXES_VALUE) return json_null();
    if (parameter->kind == FOVEA_FLAG) return json_boolean(value != 0);
    if (parameter->kind == FOVEA_INTEGER) return json_integer((json_int_t)value);
    if (parameter->kind == FOVEA_REAL) return json_real(value);
    const char *choice = parameter->choices;
    for (int i = 0; i < (int)value; i++) choice = strchr(choice, ',') + 1;
    return json_stringn(choice, strcspn(choice, ","));
}

static json_t *parameters_json(const fovea_case *c) {
    const fovea_kernel *kernel = fovea_catalogue_kernel(c->index);
    json_t *object = json_object();
    for (int p = 0; p < fovea_kernel_parameters(kernel); p++)
        json_object_set_new(object, kernel->parameters[p].name,
                            parameter_value(&kernel->parameters[p], c->parameters[p]));
    return object;
}

static json_t *arguments_json(const char *memory, const fovea_sample *sample) {
    const fovea_kernel *kernel = sample->problem.kernel;
    json_t *object = json_object();
    for (int a = 0; a < fovea_kernel_arguments(kernel); a++) {
        const fovea_view *view = &sample->problem.views[a];
        if (!(sample->present >> a & 1)) continue;
        json_t *shape = json_array();
        for (int i = 0; i < view->rank; i++)
            json_array_append_new(shape, json_integer(view->shape[i]));
        json_int_t offset = view->data ? view->data - memory : 0;
        json_object_set_new(object, kernel->arguments[a].name,
                            json_pack("{s:I,s:o,s:s,s:b,s:b}", "offset", offset, "shape", shape,
                                      "dtype", fovea_dtype_name(view->dtype), "written",
                                      kernel->arguments[a].role != FOVEA_INPUT, "poison",
                                      kernel->arguments[a].role == FOVEA_OUTPUT));
    }
    return object;
}

static json_t *prepare_message(const fovea_measurement *m, const fovea_bench_arm *arm) {
    const fovea_bench_run *run = m->run;
    const fovea_case *c = &m->c->definition;
    const char *memory = run->mapping + m->prepared->first;
    json_t *all = json_array();
    int sets = arm->place == FOVEA_ON_CUDA ? 1 : m->sets;
    for (int s = 0; s < sets; s++)
        json_array_append_new(all, arguments_json(memory, &m->samples[s]));
    return json_pack("{s:s,s:s,s:s,s:i,s:I,s:I,s:i,s:s?,s:o,s:o,s:i}", "do", "prepare", "kernel",
                     fovea_catalogue_kernel(c->index)->name, "dtype", fovea_dtype_name(c->dtype),
                     "threads", run->threads, "memory_first", (json_int_t)m->prepared->first,
                     "memory_bytes", (json_int_t)m->prepared->used, "case",
                     (int)(m->c - run->cases), "way", arm->way, "parameters", parameters_json(c),
                     "sets", all, "device_sets", m->device_sets);
}

/* ---- Preparing and running ------------------------------------------------------------------ */

static void note_loss(fovea_bench_run *run, fovea_bench_peer *peer, fovea_bench_row *row,
                      fovea_peer_answer answer, const char *reason) {
    snprintf(row->reason, sizeof row->reason, "%s", reason);
    if (answer != FOVEA_PEER_GONE) return;
    fovea_bench_warn(run, "%s %s", peer->name, reason);
    give_up(peer);
    if (peer->restarts++ < RESTARTS && !fovea_interrupted()) {
        start(run, peer);
        welcome(peer);
    } else {
        snprintf(peer->reason, sizeof peer->reason, "given up: it %.200s", reason);
    }
}

static json_t *result_message(const fovea_bench_arm *arm) {
    return json_pack("{s:s,s:s?}", "do", "result", "way", arm->way);
}

static bool prepare(fovea_measurement *m, fovea_bench_arm *arm) {
    fovea_bench_row *row = arm->row;
    char reason[FOVEA_PEER_REASON] = "";
    json_t *reply = NULL;
    fovea_peer_answer answer = fovea_peer_ask(arm->peer->process, prepare_message(m, arm),
                                              prepare_timeout, &reply, reason);
    row->served = answer != FOVEA_PEER_UNSERVED;
    if (answer == FOVEA_PEER_OK) {
        const char *arithmetic = json_string_value(json_object_get(reply, "arithmetic"));
        snprintf(row->arithmetic, sizeof row->arithmetic, "%s", arithmetic ? arithmetic : "");
        arm->estimate = json_number_value(json_object_get(reply, "first"));
        json_decref(reply);
        answer =
            fovea_peer_ask(arm->peer->process, result_message(arm), prepare_timeout, NULL, reason);
    }
    if (answer != FOVEA_PEER_OK) note_loss(m->run, arm->peer, row, answer, reason);
    return answer == FOVEA_PEER_OK && leaves_memory(m->run, arm->peer, row);
}

/* ---- The pace of peers ---------------------------------------------------------------------- */

/* Seconds that a peer needed for an operation of this kernel and dtype the last time, so that a call
 * that would take all of the time is not begun. */
typedef struct pace {
    int kernel;
    fovea_dtype dtype;
    double seconds_an_operation;
} pace;
static pace paces[FOVEA_PEERS_MAX];

static double predicted(const fovea_measurement *m, const fovea_bench_arm *arm) {
    const pace *p = &paces[arm->peer - m->run->peers];
    bool same = p->kernel == m->c->definition.index && p->dtype == m->c->definition.dtype;
    return same ? p->seconds_an_operation * m->c->operations : 0;
}

void fovea_peer_note_pace(const fovea_measurement *m, const fovea_bench_arm *arm) {
    const fovea_bench_case *c = m->c;
    if (!arm->row->summary.count || c->operations <= 0 || arm->way) return;
    paces[arm->peer - m->run->peers] =
        (pace){c->definition.index, c->definition.dtype, arm->row->summary.minimum / c->operations};
}

/* ---- An arm --------------------------------------------------------------------------------- */

static bool first(fovea_measurement *m, fovea_bench_arm *arm) {
    double expected = predicted(m, arm), limit = fmax(3 * m->seconds, 6);
    char text[32];
    if (!arm->peer->process) { /* another way of it was its end */
        snprintf(arm->row->reason, sizeof arm->row->reason, "%s", arm->peer->reason);
        return false;
    }
    if (expected <= limit) return prepare(m, arm);
    arm->row->served = false;
    snprintf(arm->row->reason, sizeof arm->row->reason, "left out: a call would take about %s",
             fovea_seconds_text(expected, text, sizeof text));
    return false;
}

static json_t *turn_message(const fovea_bench_arm *arm, const fovea_turn *turn) {
    return json_pack("{s:s,s:s?,s:i,s:i,s:i,s:f,s:f,s:I,s:f}", "do", "run", "way", arm->way, "warm",
                     turn->warm, "count", turn->count, "inner", turn->inner, "rest", turn->rest,
                     "heat", turn->heat, "flush", (json_int_t)turn->flush, "estimate",
                     turn->estimate);
}

static bool take(fovea_measurement *m, fovea_bench_arm *arm, const fovea_turn *turn,
                 fovea_timings *samples) {
    char reason[FOVEA_PEER_REASON] = "is gone";
    json_t *reply = NULL;
    double calls = turn->warm + turn->count * turn->inner;
    double timeout = 20 + turn->rest + turn->heat + 50 * turn->estimate * calls;
    if (!arm->peer->process) return false;
    fovea_peer_answer answer =
        fovea_peer_ask(arm->peer->process, turn_message(arm, turn), timeout, &reply, reason);
    const json_t *seconds = json_object_get(reply, "seconds");
    bool good = answer == FOVEA_PEER_OK && json_array_size(seconds) == (size_t)turn->count;
    for (size_t i = 0; good && i < json_array_size(seconds); i++) {
        double value = json_number_value(json_array_get(seconds, i));
        good = value > 0 && fovea_timings_add(samples, value);
    }
    arm->began = json_number_value(json_object_get(reply, "began"));
    arm->ended = json_number_value(json_object_get(reply, "ended"));
    json_decref(reply);
    if (good) return true;
    if (answer == FOVEA_PEER_OK) snprintf(reason, sizeof reason, "gave times that cannot be");
    if (answer != FOVEA_PEER_INTERRUPTED) note_loss(m->run, arm->peer, arm->row, answer, reason);
    return false;
}

const fovea_provider fovea_provide_peer = {first, take};
