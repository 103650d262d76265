/* Who measured: the facts of library and machine that a routes file must agree with to be used. */
#ifndef FOVEA_ROUTER_IDENTITY_H
#define FOVEA_ROUTER_IDENTITY_H

#include <stddef.h>
#include <stdint.h>

enum { FOVEA_IDENTITY_LINES = 4, FOVEA_IDENTITY_SIZE = 256 };

/* A line of a routes file's header: "library 0.1.0". Its first word names the fact. */
typedef struct fovea_identity {
    char lines[FOVEA_IDENTITY_LINES][FOVEA_IDENTITY_SIZE];
} fovea_identity;

void fovea_identity_get(fovea_identity *identity);

/* 64-bit FNV-1a, continued from `hash`. A change of a single byte always changes the result. */
#define FOVEA_HASH_START UINT64_C(0xcbf29ce484222325)
uint64_t fovea_hash(uint64_t hash, const void *bytes, size_t count);

#endif
