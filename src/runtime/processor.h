/* What the processor is, what the operating system lets us use of it, and how many threads pay. */
#ifndef FOVEA_RUNTIME_PROCESSOR_H
#define FOVEA_RUNTIME_PROCESSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Tiers are bundles of features, in ascending order of preference within an architecture. */
typedef enum fovea_tier {
    FOVEA_TIER_SCALAR,
    FOVEA_TIER_AVX2,   /* AVX2, FMA, F16C, BMI2 */
    FOVEA_TIER_AVX512, /* AVX-512 F, BW, DQ, VL (and all of avx2) */
    FOVEA_TIER_AMX,    /* AMX tile, bf16, int8, with the kernel's permission, and AVX-512 BF16 and
                          VNNI, which every such machine has (and all of avx512) */
    FOVEA_TIER_NEON,
    FOVEA_TIER_COUNT
} fovea_tier;

typedef struct fovea_processor {
    char model[64]; /* "Intel(R) Xeon(R) Processor", "AMD EPYC ..."; the machine name on Arm */
    char vendor[16];
    int family, stepping, model_number;
    uint32_t tiers; /* bit fovea_tier: the machine has it and the system saves its registers */
    bool avx512_bf16, avx512_vnni, avx512_vbmi, avx512_fp16, avx_vnni; /* extensions of tiers */
    bool neon_dot;      /* signed dot products of bytes */
    bool slow_dot_bf16; /* vdpbf16ps brings no more products than the multiply-add: Intel's do
                           (Sapphire Rapids 108 against 217 GFLOP/s, Zen 5 480 against 250) */
    size_t l1_bytes, l2_bytes,
        l3_bytes; /* data caches that one core sees; typical values if unknown */
    int threads;  /* how many the affinity mask and the cgroup allow, at least 1 */
} fovea_processor;

/* Detected on the first call; thread-safe. In the environment FOVEA_TIER caps the tiers, FOVEA_EXTENSIONS=none hides the flags
 * above but slow_dot_bf16, which slow-bf16 and fast-bf16 set and clear, and FOVEA_LAST_CACHE is taken for l3_bytes. */
const fovea_processor *fovea_processor_get(void);

const char *fovea_tier_name(fovea_tier tier); /* "avx512" */
bool fovea_tier_parse(const char *name, fovea_tier *tier);
/* Whether loops over memory gain by hints for the first level of cache, src/cpu/fetch.h; known with the processor. */
extern bool fovea_fetches_near __attribute__((visibility("hidden")));
static inline bool fovea_has_tier(fovea_tier tier) {
    return fovea_processor_get()->tiers >> tier & 1;
}
/* After code of a tier: says that the upper halves of its registers are no more in use. The compiler says so
 * too, but not behind calls that have vectors for arguments, and then the next instructions of the code around,
 * which has no such halves, take 70 ns on a Xeon with AMX. */
static inline void fovea_leave_tier(fovea_tier tier) {
#ifdef __x86_64__
    if (tier >= FOVEA_TIER_AVX2 && tier <= FOVEA_TIER_AMX) __asm__ volatile("vzeroupper");
#else
    (void)tier;
#endif
}

/* Sets of processors by their numbers, as bits. */
enum { FOVEA_PROCESSORS_MAX = 1024 };
static inline bool fovea_is_in_processors(const uint64_t *set, int number) {
    return set[number / 64] >> number % 64 & 1;
}
/* Those allowed at this moment: by the places of OpenMP where it binds threads (OMP_PROC_BIND), else by the affinity mask.
 * False, and none, where the system does not tell. */
bool fovea_allowed_processors(uint64_t *set);
/* "0-3,8" */
void fovea_processors_text(const uint64_t *set, char *text, size_t size);
/* How many are allowed, of which a cgroup's quota may leave fewer. */
int fovea_allowed_threads(void);

#endif
