/* Where a measurement was made and what disturbed it: processor, memory, operating system, build, and
 * the counters that are read while it runs. */
#define _GNU_SOURCE
#include "bench.h"

#include "runtime/processor.h"

#include <glob.h>
#include <math.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifndef FOVEA_BUILD_FLAGS
    #define FOVEA_BUILD_FLAGS "unknown"
#endif
#ifndef FOVEA_BUILD_TYPE
    #define FOVEA_BUILD_TYPE "unknown"
#endif

/* A line of /proc/meminfo, in bytes; 0: unknown. */
static double memory_of_machine(const char *name) {
    char line[256];
    double kilobytes = 0;
    size_t length = strlen(name);
    FILE *file = fopen("/proc/meminfo", "r");
    if (!file) return 0;
    while (fgets(line, sizeof line, file))
        if (strncmp(line, name, length) == 0 && line[length] == ':')
            kilobytes = strtod(line + length + 1, NULL);
    fclose(file);
    return 1024 * kilobytes;
}

double fovea_available_bytes(void) {
    double bytes = memory_of_machine("MemAvailable");
    return bytes > 0 ? bytes : (double)sysconf(_SC_AVPHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
}

double fovea_available_share(void) {
    double all = memory_of_machine("MemTotal");
    return all > 0 ? fovea_available_bytes() / all : 1;
}

void fovea_bench_warn(fovea_bench_run *run, const char *format, ...) {
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    json_array_append_new(run->warnings, fovea_json_text(text));
}

/* ---- Small files of the system -------------------------------------------------------------- */

static bool read_line(const char *path, char *text, size_t size) {
    FILE *file = fopen(path, "r");
    if (!file) return false;
    bool got = fgets(text, (int)size, file) != NULL;
    fclose(file);
    if (got) text[strcspn(text, "\n")] = 0;
    return got;
}

/* A figure from each file that matches, put together by `join`; NaN if there is none. */
static double over_files(const char *pattern, double (*join)(double, double), bool mean) {
    glob_t found;
    double value = NAN;
    int count = 0;
    if (glob(pattern, 0, NULL, &found) != 0) return NAN;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char text[64], *end;
        if (!read_line(found.gl_pathv[i], text, sizeof text)) continue;
        double one = strtod(text, &end);
        if (end == text) continue;
        value = count++ ? join(value, one) : one;
    }
    globfree(&found);
    return mean && count ? value / count : value;
}

static double sum(double a, double b) { return a + b; }

static double temperature(void) {
    double zones = over_files("/sys/class/thermal/thermal_zone*/temp", fmax, false);
    double chips = over_files("/sys/class/hwmon/hwmon*/temp*_input", fmax, false);
    return fmax(zones, chips) / 1000; /* fmax skips a NaN */
}

static double frequency(void) {
    return 1000 * over_files("/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq", sum, true);
}

/* ---- Counters ------------------------------------------------------------------------------- */

typedef struct counters {
    double all, busy, steal; /* of the machine, in ticks */
    double own;              /* of this process and the peers */
} counters;

/* Ticks that a process has used, and its resident bytes. */
static bool read_process(int process, double *ticks, double *resident) {
    char path[64], text[1024];
    unsigned long user = 0, system = 0;
    long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", process);
    if (!read_line(path, text, sizeof text) || !strrchr(text, ')')) return false;
    /* Fields 14 and 15 are the times, 24 the resident pages; field 3 follows the name. */
    if (sscanf(strrchr(text, ')') + 2,
               "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %*d %*d %*u "
               "%*u %ld",
               &user, &system, &pages) != 3)
        return false;
    *ticks += (double)user + (double)system;
    *resident += (double)pages * (double)sysconf(_SC_PAGESIZE);
    return true;
}

static void read_counters(const fovea_bench_run *run, counters *c, double *resident) {
    double t[8] = {0};
    char text[512] = "";
    *c = (counters){0};
    *resident = 0;
    read_line("/proc/stat", text, sizeof text);
    sscanf(text, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5],
           &t[6], &t[7]);
    for (int i = 0; i < 8; i++) c->all += t[i];
    c->steal = t[7];
    c->busy = c->all - t[3] - t[4] - t[7];
    read_process((int)getpid(), &c->own, resident);
    for (int p = 0; p < run->peer_count; p++)
        if (run->peers[p].process)
            read_process(fovea_peer_process(run->peers[p].process), &c->own, resident);
}

static counters first, last;
static bool have_counters;

void fovea_monitor_take(const fovea_bench_run *run, fovea_monitor *monitor) {
    counters now;
    *monitor = (fovea_monitor){.at = fovea_seconds_now() - run->started,
                               .temperature = temperature(),
                               .frequency = frequency()};
    read_counters(run, &now, &monitor->resident_bytes);
    if (!have_counters) first = last = now;
    have_counters = true;
    double ticks = now.all - last.all;
    if (ticks > 0) {
        monitor->busy = (now.busy - last.busy) / ticks;
        monitor->steal = (now.steal - last.steal) / ticks;
        /* A peer that ended took its ticks along; what that leaves below zero is no one's. */
        monitor->foreign = fmax(0, (now.busy - last.busy - (now.own - last.own)) / ticks);
    }
    last = now;
}

/* ---- Description ---------------------------------------------------------------------------- */

static uint64_t allowed[FOVEA_PROCESSORS_MAX / 64]; /* when the run began */

static void set_text(json_t *object, const char *key, const char *text) {
    json_object_set_new(object, key, fovea_json_text(text));
}

static void describe_processor(json_t *object) {
    const fovea_processor *p = fovea_processor_get();
    char text[256];
    set_text(object, "cpu_model", p->model);
    snprintf(text, sizeof text, "%s family %d model %d stepping %d", p->vendor, p->family,
             p->model_number, p->stepping);
    set_text(object, "cpu_identity", text);
    fovea_processors_text(allowed, text, sizeof text);
    set_text(object, "affinity", text);
    json_object_set_new(object, "processors_online", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    json_object_set_new(object, "threads_allowed", json_integer(fovea_allowed_threads()));
    json_object_set_new(object, "cache_bytes",
                        json_pack("[I,I,I]", (json_int_t)p->l1_bytes, (json_int_t)p->l2_bytes,
                                  (json_int_t)p->l3_bytes));
    if (read_line("/sys/fs/cgroup/cpu.max", text, sizeof text))
        set_text(object, "cgroup_cpu", text);
    if (read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", text, sizeof text))
        set_text(object, "governor", text);
    double clock = frequency(), heat = temperature();
    json_object_set_new(object, "frequency_hz", isnan(clock) ? json_null() : json_real(clock));
    json_object_set_new(object, "temperature_celsius", isnan(heat) ? json_null() : json_real(heat));
}

static void describe_system(json_t *object) {
    struct utsname name;
    char text[300];
    double pages = (double)sysconf(_SC_PHYS_PAGES), page = (double)sysconf(_SC_PAGESIZE);
    uname(&name);
    snprintf(text, sizeof text, "%s %s %s", name.sysname, name.release, name.machine);
    set_text(object, "kernel", text);
    json_object_set_new(object, "memory_bytes", json_integer((json_int_t)(pages * page)));
    if (read_line("/sys/fs/cgroup/memory.max", text, sizeof text))
        set_text(object, "cgroup_memory", text);
    if (read_line("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof text))
        set_text(object, "huge_pages", text);
    set_text(object, "compiler", __VERSION__);
    set_text(object, "flags", FOVEA_BUILD_FLAGS);
    set_text(object, "build_type", FOVEA_BUILD_TYPE);
}

void fovea_environment_describe(fovea_bench_run *run) {
    fovea_monitor unused;
    double load[3] = {0};
    const char *governor;
    fovea_allowed_processors(allowed);
    run->environment = json_object();
    run->warnings = json_array();
    json_object_set(run->environment, "warnings", run->warnings);
    describe_processor(run->environment);
    set_text(run->environment, "tier", run->tier);
    json_object_set_new(run->environment, "threads", json_integer(run->threads));
    describe_system(run->environment);
    fovea_monitor_take(run, &unused);
    if (getloadavg(load, 3) == 3) {
        json_object_set_new(run->environment, "load_average",
                            json_pack("[f,f,f]", load[0], load[1], load[2]));
        if (load[0] > 0.25 * (double)sysconf(_SC_NPROCESSORS_ONLN))
            fovea_bench_warn(run, "the load average was %.2f before the run began", load[0]);
    }
    governor = json_string_value(json_object_get(run->environment, "governor"));
    if (governor && strcmp(governor, "performance") != 0)
        fovea_bench_warn(run, "the frequency governor is %s, not performance", governor);
#ifndef __OPTIMIZE__
    fovea_bench_warn(run, "this is a build without optimisation (%s)", FOVEA_BUILD_TYPE);
#endif
}

/* The first processor of the core; its own number where that is not told. */
static int core_of(int processor) {
    char path[96], line[300];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list",
             processor);
    long first = read_line(path, line, sizeof line) ? strtol(line, NULL, 10) : processor;
    return first >= 0 && first < FOVEA_PROCESSORS_MAX ? (int)first : processor;
}

static bool run_on(const uint64_t *processors) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int i = 0; i < FOVEA_PROCESSORS_MAX; i++)
        if (fovea_is_in_processors(processors, i)) CPU_SET(i, &set);
    return sched_setaffinity(0, sizeof set, &set) == 0;
}

static void take(uint64_t *set, int processor) {
    set[processor / 64] |= UINT64_C(1) << processor % 64;
}

void fovea_environment_confine(fovea_bench_run *run) {
    uint64_t mine[FOVEA_PROCESSORS_MAX / 64] = {0}, cores[FOVEA_PROCESSORS_MAX / 64] = {0};
    char text[256];
    int left = run->threads;
    for (int again = 0; again < 2; again++) /* one of each core, then others */
        for (int i = 0; i < FOVEA_PROCESSORS_MAX && left > 0; i++) {
            if (!fovea_is_in_processors(allowed, i) || fovea_is_in_processors(mine, i)) continue;
            if (!again && fovea_is_in_processors(cores, core_of(i))) continue;
            take(mine, i), take(cores, core_of(i));
            left--;
        }
    if (memcmp(mine, allowed, sizeof mine) == 0) return;
    if (!run_on(mine)) fovea_bench_warn(run, "arms may run on other processors than one another");
    fovea_processors_text(mine, text, sizeof text);
    set_text(run->environment, "affinity", text);
}

void fovea_environment_leave_confinement(void) { run_on(allowed); }

void fovea_environment_finish(fovea_bench_run *run) {
    counters end;
    int looks = 0;
    double resident, steal = 0, foreign_sum = 0, low = INFINITY, high = 0;
    read_counters(run, &end, &resident);
    if (end.all > first.all) steal = (end.steal - first.steal) / (end.all - first.all);
    for (int i = 0; i < run->case_count; i++) {
        const fovea_bench_case *c = &run->cases[i];
        for (int m = 0; m < c->monitor_count; m++) {
            foreign_sum += c->monitors[m].foreign;
            looks++;
            low = fmin(low, c->monitors[m].frequency);
            high = fmax(high, c->monitors[m].frequency);
        }
    }
    double foreign = looks ? foreign_sum / looks : 0;
    json_object_set_new(run->environment, "steal_share", json_real(steal));
    json_object_set_new(run->environment, "foreign_share", json_real(foreign));
    if (steal > 0.01)
        fovea_bench_warn(run, "the hypervisor took %.1f %% of the processors' time", 100 * steal);
    if (foreign > 0.03)
        fovea_bench_warn(run, "other processes used %.0f %% of the processors while we measured",
                         100 * foreign);
    if (high > 0 && low < 0.9 * high)
        fovea_bench_warn(run, "the clock moved between %.2f and %.2f GHz", low / 1e9, high / 1e9);
}
