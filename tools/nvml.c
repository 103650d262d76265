/* NVML by its C interface, whose functions and numbers are those of its public manual. */
#include "nvml.h"
#include "seconds.h"

#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

typedef struct nvml_device *handle;
typedef int status; /* 0: success */

typedef struct memory_facts {
    unsigned long long total, free, used;
} memory_facts;

enum { CLOCK_SM = 1, CLOCK_MEMORY = 2, SENSOR_CHIP = 0 };

static struct {
    void *library;
    status (*init)(void);
    status (*shutdown)(void);
    status (*by_bus)(const char *bus, handle *device);
    status (*clock)(handle device, int kind, unsigned *megahertz);
    status (*power)(handle device, unsigned *milliwatts);
    status (*limit)(handle device, unsigned *milliwatts);
    status (*temperature)(handle device, int sensor, unsigned *celsius);
    status (*reasons)(handle device, unsigned long long *bits);
    status (*memory)(handle device, memory_facts *facts);
} nvml;
static handle device;

/* One look. */
typedef struct sight {
    double at, sm_clock, memory_clock, power, temperature;
    unsigned long long reasons;
} sight;

/* What the thread has seen since it began; the oldest are overwritten. */
enum { SIGHTS_MAX = 1024 };
static pthread_t watcher;
static bool watching;
static atomic_bool over;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of what follows */
static sight seen[SIGHTS_MAX];
static int seen_count;

static const struct {
    unsigned long long bit;
    const char *text;
    bool throttling;
} known[] = {{0x4, "power cap", true},        {0x8, "hardware slowdown", true},
             {0x10, "sync boost", false},     {0x20, "heat", true},
             {0x40, "heat (hardware)", true}, {0x80, "power brake", true}};

static bool find_functions(void) {
    const struct {
        const char *name, *older;
        void *place;
    } wanted[] = {
        {"nvmlInit_v2", NULL, &nvml.init},
        {"nvmlShutdown", NULL, &nvml.shutdown},
        {"nvmlDeviceGetHandleByPciBusId_v2", NULL, &nvml.by_bus},
        {"nvmlDeviceGetClockInfo", NULL, &nvml.clock},
        {"nvmlDeviceGetPowerUsage", NULL, &nvml.power},
        {"nvmlDeviceGetEnforcedPowerLimit", NULL, &nvml.limit},
        {"nvmlDeviceGetTemperature", NULL, &nvml.temperature},
        {"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons",
         &nvml.reasons},
        {"nvmlDeviceGetMemoryInfo", NULL, &nvml.memory},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        void *found = dlsym(nvml.library, wanted[i].name);
        if (!found && wanted[i].older) found = dlsym(nvml.library, wanted[i].older);
        if (!found) return false;
        memcpy(wanted[i].place, &found, sizeof found);
    }
    return true;
}

static bool refuse(char *reason, size_t size, const char *why) {
    snprintf(reason, size, "%s", why);
    if (nvml.library) dlclose(nvml.library);
    nvml.library = NULL;
    return false;
}

bool fovea_nvml_open(const char *bus, char *reason, size_t size) {
    nvml.library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!nvml.library) return refuse(reason, size, "libnvidia-ml.so.1 cannot be loaded");
    if (!find_functions()) return refuse(reason, size, "libnvidia-ml.so.1 lacks functions");
    if (nvml.init() != 0) return refuse(reason, size, "NVML does not start");
    if (nvml.by_bus(bus, &device) == 0) return true;
    nvml.shutdown();
    return refuse(reason, size, "NVML does not know the device");
}

void fovea_nvml_close(void) {
    if (!nvml.library) return;
    nvml.shutdown();
    dlclose(nvml.library);
    nvml.library = NULL;
}

double fovea_nvml_power_limit(void) {
    unsigned milliwatts;
    return nvml.library && nvml.limit(device, &milliwatts) == 0 ? 1e-3 * milliwatts : NAN;
}

double fovea_nvml_used_memory(void) {
    memory_facts facts;
    return nvml.library && nvml.memory(device, &facts) == 0 ? (double)facts.used : NAN;
}

static sight look(void) {
    unsigned value;
    sight s = {.at = fovea_seconds_now(),
               .sm_clock = NAN,
               .memory_clock = NAN,
               .power = NAN,
               .temperature = NAN};
    if (nvml.reasons(device, &s.reasons) != 0) s.reasons = 0;
    if (nvml.clock(device, CLOCK_SM, &value) == 0) s.sm_clock = 1e6 * value;
    if (nvml.clock(device, CLOCK_MEMORY, &value) == 0) s.memory_clock = 1e6 * value;
    if (nvml.power(device, &value) == 0) s.power = 1e-3 * value;
    if (nvml.temperature(device, SENSOR_CHIP, &value) == 0) s.temperature = value;
    return s;
}

static void *watch(void *unused) {
    const struct timespec pause = {.tv_nsec = 4000000};
    (void)unused;
    while (!over) {
        sight now = look();
        pthread_mutex_lock(&lock);
        seen[seen_count++ % SIGHTS_MAX] = now;
        pthread_mutex_unlock(&lock);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

void fovea_nvml_begin(void) {
    seen_count = 0;
    over = false;
    watching = nvml.library && pthread_create(&watcher, NULL, watch, NULL) == 0;
}

/* fmin and fmax pass over the NaN that a span begins with. */
static void add(const sight *s, fovea_nvml_span *span) {
    span->sm_clock = fmin(span->sm_clock, s->sm_clock);
    span->memory_clock = fmin(span->memory_clock, s->memory_clock);
    span->power = fmax(span->power, s->power);
    span->temperature = fmax(span->temperature, s->temperature);
    span->reasons |= s->reasons;
    span->looks++;
}

void fovea_nvml_end(void) {
    over = true;
    if (watching) pthread_join(watcher, NULL);
    watching = false;
}

void fovea_nvml_between(double from, double to, fovea_nvml_span *span) {
    const sight *nearest = NULL;
    *span = (fovea_nvml_span){NAN, NAN, NAN, NAN, 0, 0};
    pthread_mutex_lock(&lock);
    for (int i = 0; i < seen_count && i < SIGHTS_MAX; i++) {
        if (seen[i].at >= from && seen[i].at <= to) add(&seen[i], span);
        if (!nearest || fabs(seen[i].at - to) < fabs(nearest->at - to)) nearest = &seen[i];
    }
    if (!span->looks && nearest) add(nearest, span);
    pthread_mutex_unlock(&lock);
}

bool fovea_nvml_throttled(unsigned long long reasons) {
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].throttling && reasons & known[i].bit) return true;
    return false;
}

const char *fovea_nvml_reasons_text(unsigned long long reasons, char *text, size_t size) {
    size_t used = 0;
    text[0] = 0;
    for (size_t i = 0; i < sizeof known / sizeof *known && used < size; i++)
        if (reasons & known[i].bit)
            used +=
                (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "", known[i].text);
    return text;
}
