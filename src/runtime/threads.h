/* How many threads a call may use at most. Scratch is counted by thread: with the elements that a tensor
 * may have (view.c) its sizes stay within 64 bits for so many. */
#ifndef FOVEA_RUNTIME_THREADS_H
#define FOVEA_RUNTIME_THREADS_H

enum { FOVEA_THREADS_MAX = 4096 };

#endif
