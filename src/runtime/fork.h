/* Processes that are forked after the library was used. */
#ifndef FOVEA_RUNTIME_FORK_H
#define FOVEA_RUNTIME_FORK_H

/* From the first call on, a forked child may use the library as its parent did. */
void fovea_prepare_for_forks(void);

#endif
