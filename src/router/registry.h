/* All implementations of all backends, by kernel. */
#ifndef FOVEA_ROUTER_REGISTRY_H
#define FOVEA_ROUTER_REGISTRY_H

#include "catalogue/implementation.h"

enum { FOVEA_KERNELS_MAX = 160, FOVEA_IMPLEMENTATIONS_MAX = 64 };

/* How many implementations a kernel has, and which; the fastest tiers come first. */
int fovea_implementation_count(int kernel);
const fovea_implementation *fovea_implementation_at(int kernel, int number);
const fovea_implementation *fovea_implementation_find(int kernel, const char *name); /* or NULL */

/* Adds one; for tests that need a wrong or failing implementation. False if the table is full. Not
 * thread-safe: call it before contexts exist. `implementation` must stay alive. */
bool fovea_implementation_register(const fovea_implementation *implementation);

/* Whether the implementation can serve the problem on this machine; if not, why. */
bool fovea_implementation_serves(const fovea_implementation *implementation,
                                 const fovea_problem *problem, char *reason, size_t size);

#endif
