/* The identity lines: library, kernels and implementations, processor, and the processors that this
 * process may use. */
#include "router/identity.h"

#include "router/registry.h"

#include <stdio.h>
#include <unistd.h>

uint64_t fovea_hash(uint64_t hash, const void *bytes, size_t count) {
    const unsigned char *byte = bytes;
    for (size_t i = 0; i < count; i++) hash = (hash ^ byte[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t hash_text(uint64_t hash, const char *text) {
    return fovea_hash(hash, text, strlen(text) + 1);
}

/* Everything that gives a record its meaning: names, and the sizes and features of the keys. */
static uint64_t kernels_hash(void) {
    uint64_t hash = FOVEA_HASH_START;
    for (int k = 0; k < fovea_catalogue_count(); k++) {
        const fovea_kernel *kernel = fovea_catalogue_kernel(k);
        hash = hash_text(hash, kernel->name);
        if (kernel->trait_sizes) hash = hash_text(hash, kernel->trait_sizes);
        if (kernel->trait_features) hash = hash_text(hash, kernel->trait_features);
        for (int p = 0; p < fovea_kernel_parameters(kernel); p++)
            if (kernel->parameters[p].choices)
                hash = hash_text(hash, kernel->parameters[p].choices);
        for (int i = 0; i < fovea_implementation_count(k); i++) {
            const fovea_implementation *implementation = fovea_implementation_at(k, i);
            hash = hash_text(hash, implementation->name);
            hash = fovea_hash(hash, &implementation->only_by_name, 1);
        }
    }
    return hash;
}

void fovea_identity_get(fovea_identity *identity) {
    const fovea_processor *processor = fovea_processor_get();
    uint64_t allowed[FOVEA_PROCESSORS_MAX / 64];
    char affinity[160] = "all";
    if (fovea_allowed_processors(allowed))
        fovea_processors_text(allowed, affinity, sizeof affinity);
    snprintf(identity->lines[0], FOVEA_IDENTITY_SIZE, "library %s", fovea_version());
    snprintf(identity->lines[1], FOVEA_IDENTITY_SIZE, "kernels %016llx",
             (unsigned long long)kernels_hash());
    snprintf(identity->lines[2], FOVEA_IDENTITY_SIZE, "processor %s %d/%d/%d, tiers",
             processor->vendor, processor->family, processor->model_number, processor->stepping);
    for (int t = 0; t < FOVEA_TIER_COUNT; t++) {
        if (!(processor->tiers >> t & 1)) continue;
        size_t used = strlen(identity->lines[2]);
        snprintf(identity->lines[2] + used, FOVEA_IDENTITY_SIZE - used, " %s",
                 fovea_tier_name((fovea_tier)t));
    }
    size_t used = strlen(identity->lines[2]);
    snprintf(identity->lines[2] + used, FOVEA_IDENTITY_SIZE - used, ", %s", processor->model);
    snprintf(identity->lines[3], FOVEA_IDENTITY_SIZE, "machine %ld online, affinity %s, threads %d",
             sysconf(_SC_NPROCESSORS_ONLN), affinity, fovea_allowed_threads());
}
