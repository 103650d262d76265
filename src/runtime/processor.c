/* Detection of the processor. A feature counts only if cpuid has it, the operating system saves its
 * registers (xgetbv), and, for AMX, the kernel grants the process permission. */
#define _GNU_SOURCE
#include "runtime/processor.h"

#include <omp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__linux__)
    #include <sched.h>
    #include <sys/syscall.h>
#endif
#if defined(__x86_64__)
    #include <cpuid.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
    #include <asm/hwcap.h>
    #include <sys/auxv.h>
#endif

static const char *const tier_names[FOVEA_TIER_COUNT] = {"scalar", "avx2", "avx512", "amx", "neon"};

const char *fovea_tier_name(fovea_tier tier) { return tier_names[tier]; }

bool fovea_tier_parse(const char *name, fovea_tier *tier) {
    for (int i = 0; i < FOVEA_TIER_COUNT; i++)
        if (strcmp(name, tier_names[i]) == 0) return *tier = (fovea_tier)i, true;
    return false;
}

#if defined(__x86_64__)
typedef struct registers {
    unsigned a, b, c, d;
} registers;

static registers cpuid(unsigned leaf, unsigned subleaf) {
    registers r = {0};
    __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);
    return r;
}

static uint64_t enabled_state(void) {
    if (!(cpuid(1, 0).c >> 27 & 1)) return 0; /* OSXSAVE */
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

    #ifndef FOVEA_EMULATE_AMX
static bool amx_permitted(void) {
        #if defined(__linux__) && defined(SYS_arch_prctl)
    enum { request_permission = 0x1023, tile_data = 18 };
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
        #else
    return false;
        #endif
}
    #endif

static bool all_bits(unsigned word, unsigned mask) { return (word & mask) == mask; }

static void detect_features(fovea_processor *processor) {
    enum { avx_state = 0x6, avx512_state = 0xe6, tile_state = 0x60000 };
    enum { fma = 1 << 12, avx = 1 << 28, f16c = 1 << 29 };             /* leaf 1, ecx */
    enum { avx2 = 1 << 5, bmi2 = 1 << 8 };                             /* leaf 7, ebx */
    const unsigned avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* F DQ BW VL */
    const unsigned amx = 1u << 22 | 1u << 24 | 1u << 25;               /* leaf 7, edx */
    uint64_t state = enabled_state();
    registers one = cpuid(1, 0), seven = cpuid(7, 0), seven_one = cpuid(7, 1);
    bool wide = (state & avx_state) == avx_state && all_bits(one.c, fma | avx | f16c) &&
                all_bits(seven.b, avx2 | bmi2);
    bool wider = wide && (state & avx512_state) == avx512_state && all_bits(seven.b, avx512);
    if (wide) processor->tiers |= 1u << FOVEA_TIER_AVX2;
    if (wider) processor->tiers |= 1u << FOVEA_TIER_AVX512;
    processor->avx512_vbmi = wider && seven.c >> 1 & 1;
    processor->avx512_vnni = wider && seven.c >> 11 & 1;
    processor->avx512_fp16 = wider && seven.d >> 23 & 1;
    processor->avx512_bf16 = wider && seven_one.a >> 5 & 1;
    processor->avx_vnni = wide && seven_one.a >> 4 & 1;
    #ifdef FOVEA_EMULATE_AMX
    bool tiles = true;
    (void)tile_state, (void)amx;
    #else
    bool tiles = (state & tile_state) == tile_state && all_bits(seven.d, amx) && amx_permitted();
    #endif
    if (processor->avx512_bf16 && processor->avx512_vnni && processor->avx512_vbmi && tiles)
        processor->tiers |= 1u << FOVEA_TIER_AMX;
}

static void detect_model(fovea_processor *processor) {
    registers zero = cpuid(0, 0), one = cpuid(1, 0);
    memcpy(processor->vendor, (unsigned[]){zero.b, zero.d, zero.c}, 12);
    int family = one.a >> 8 & 15, extended = one.a >> 20 & 255;
    processor->family = family == 15 ? family + extended : family;
    processor->model_number = (int)(one.a >> 4 & 15) | (int)(one.a >> 16 & 15) << 4;
    processor->stepping = one.a & 15;
    processor->slow_dot_bf16 = strcmp(processor->vendor, "GenuineIntel") == 0;
    if (cpuid(0x80000000, 0).a < 0x80000004) return;
    unsigned text[12];
    for (unsigned i = 0; i < 3; i++) {
        registers r = cpuid(0x80000002 + i, 0);
        memcpy(text + 4 * i, &r, sizeof r);
    }
    snprintf(processor->model, sizeof processor->model, "%.48s", (const char *)text);
}
#else
static void detect_features(fovea_processor *processor) {
    #if defined(__aarch64__)
    processor->tiers |= 1u << FOVEA_TIER_NEON;
        #if defined(__linux__)
    processor->neon_dot = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
        #endif
    #endif
    (void)processor;
}

static void detect_model(fovea_processor *processor) {
    snprintf(processor->vendor, sizeof processor->vendor, "arm");
    FILE *file = fopen("/proc/device-tree/model", "r");
    if (!file || !fgets(processor->model, sizeof processor->model, file))
        snprintf(processor->model, sizeof processor->model, "aarch64");
    if (file) fclose(file);
}
#endif

static size_t cache_bytes(int name, size_t typical) {
    long bytes = sysconf(name);
    return bytes > 0 ? (size_t)bytes : typical;
}

/* What the system says of the last level that one core sees. The C library adds up those of a whole processor:
 * of an EPYC in a virtual machine, 384 MiB where each core has 32. */
static size_t last_cache_bytes(size_t typical) {
    long kibibytes = 0;
    FILE *file = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "r");
    if (file && fscanf(file, "%ldK", &kibibytes) != 1) kibibytes = 0;
    if (file) fclose(file);
    if (kibibytes > 0) return (size_t)kibibytes << 10;
    return cache_bytes(_SC_LEVEL3_CACHE_SIZE, typical);
}

/* The cgroup's CPU quota in whole processors, rounded up; 0 if there is none. */
static int cgroup_processors(void) {
    long quota = 0, period = 0;
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (file) {
        if (fscanf(file, "%ld %ld", &quota, &period) != 2) quota = 0;
        fclose(file);
    } else if ((file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r"))) {
        if (fscanf(file, "%ld", &quota) != 1) quota = 0;
        fclose(file);
        if ((file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r"))) {
            if (fscanf(file, "%ld", &period) != 1) period = 0;
            fclose(file);
        }
    }
    return quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

/* A thread that OpenMP has bound to one of its places (OMP_PROC_BIND) may not leave that, but those of a team have one each. */
static int add_places(uint64_t *set) {
    int count = 0;
    if (omp_get_proc_bind() == omp_proc_bind_false) return 0;
    for (int place = 0; place < omp_get_num_places(); place++) {
        int ids[FOVEA_PROCESSORS_MAX], number = omp_get_place_num_procs(place);
        if (number < 0 || number > FOVEA_PROCESSORS_MAX) continue;
        omp_get_place_proc_ids(place, ids);
        for (int i = 0; i < number; i++)
            if (ids[i] >= 0 && ids[i] < FOVEA_PROCESSORS_MAX)
                set[ids[i] / 64] |= UINT64_C(1) << ids[i] % 64, count++;
    }
    return count;
}

bool fovea_allowed_processors(uint64_t *set) {
    memset(set, 0, FOVEA_PROCESSORS_MAX / 8);
    if (add_places(set) > 0) return true;
#if defined(__linux__)
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask) != 0) return false;
    for (int i = 0; i < CPU_SETSIZE && i < FOVEA_PROCESSORS_MAX; i++)
        if (CPU_ISSET(i, &mask)) set[i / 64] |= UINT64_C(1) << i % 64;
    return true;
#else
    return false;
#endif
}

void fovea_processors_text(const uint64_t *set, char *text, size_t size) {
    size_t used = 0;
    text[0] = 0;
    for (int first = 0; first < FOVEA_PROCESSORS_MAX && used < size; first++) {
        int last = first;
        if (!fovea_is_in_processors(set, first)) continue;
        while (last + 1 < FOVEA_PROCESSORS_MAX && fovea_is_in_processors(set, last + 1)) last++;
        used += (size_t)snprintf(text + used, size - used, last > first ? "%s%d-%d" : "%s%d",
                                 used ? "," : "", first, last);
        first = last;
    }
}

int fovea_allowed_threads(void) {
    uint64_t set[FOVEA_PROCESSORS_MAX / 64];
    long count = 0;
    if (fovea_allowed_processors(set))
        for (int i = 0; i < FOVEA_PROCESSORS_MAX / 64; i++) count += __builtin_popcountll(set[i]);
    else
        count = sysconf(_SC_NPROCESSORS_ONLN);
    int quota = cgroup_processors();
    if (quota > 0 && quota < count) count = quota;
    return count > 0 ? (int)count : 1;
}

static void cap_tiers(fovea_processor *processor) {
    fovea_tier cap;
    const char *name = getenv("FOVEA_TIER");
    if (name && fovea_tier_parse(name, &cap)) processor->tiers &= (2u << cap) - 1;
    const char *extensions = getenv("FOVEA_EXTENSIONS");
    if (!extensions) return;
    if (strcmp(extensions, "fast-bf16") == 0) processor->slow_dot_bf16 = false;
    if (strcmp(extensions, "slow-bf16") == 0) processor->slow_dot_bf16 = true;
    if (strcmp(extensions, "none") != 0) return;
    processor->avx512_bf16 = processor->avx512_vnni = processor->avx512_fp16 = false;
    processor->avx512_vbmi = processor->avx_vnni = processor->neon_dot = false;
}

/* What the last cache is said to hold, so that loops that bypass it are checked at small sizes. */
static int64_t said_last_cache(int64_t found) {
    const char *said = getenv("FOVEA_LAST_CACHE");
    char *end;
    long long bytes = said ? strtoll(said, &end, 10) : 0;
    return bytes > 0 && !*end ? bytes : found;
}

static fovea_processor processor;
bool fovea_fetches_near = true;

static void detect(void) {
    processor.tiers = 1u << FOVEA_TIER_SCALAR;
    detect_model(&processor);
    fovea_fetches_near = strcmp(processor.vendor, "AuthenticAMD") != 0;
    detect_features(&processor);
    cap_tiers(&processor);
    processor.l1_bytes = cache_bytes(_SC_LEVEL1_DCACHE_SIZE, 32 << 10);
    processor.l2_bytes = cache_bytes(_SC_LEVEL2_CACHE_SIZE, 512 << 10);
    processor.l3_bytes = said_last_cache(last_cache_bytes(8 << 20));
    processor.threads = fovea_allowed_threads();
}

const fovea_processor *fovea_processor_get(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, detect);
    return &processor;
}
