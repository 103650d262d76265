/* A peer: somebody else's implementation as a process of its own (bench/peers/worker.py), asked over
 * pipes, sharing the tensors' memory, and stopped whenever it is not asked. It can crash or hang; the
 * tool then learns so within the time it was ready to wait, and goes on. */
#ifndef FOVEA_TOOLS_BENCH_PEER_H
#define FOVEA_TOOLS_BENCH_PEER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct fovea_peer fovea_peer;

typedef enum fovea_peer_answer {
    FOVEA_PEER_OK,
    FOVEA_PEER_UNSERVED,    /* it does not do this, and says why */
    FOVEA_PEER_FAILED,      /* it raised an error, and lives */
    FOVEA_PEER_GONE,        /* it crashed, hung or spoke nonsense, and has been ended */
    FOVEA_PEER_INTERRUPTED, /* a signal to us; the peer has been ended */
} fovea_peer_answer;

enum { FOVEA_PEER_REASON = 320 };

/* command: program and arguments, to which the three descriptors' numbers are appended (requests,
 * replies, memory). device: the CUDA device that it shall use, as CUDA_VISIBLE_DEVICES has it; NULL:
 * it sees none. NULL with a reason when the process cannot be started. */
fovea_peer *fovea_peer_start(const char *name, const char *const *command, int threads,
                             const char *device, int memory_fd, char reason[FOVEA_PEER_REASON]);
/* Ends the process, waits for it, releases everything. NULL is allowed. */
void fovea_peer_end(fovea_peer *peer);

int fovea_peer_process(const fovea_peer *peer); /* -1 once it is gone */

/* Sends without waiting for the answer, so that several may think at once: used for the first
 * message only. Takes the message. */
bool fovea_peer_send(fovea_peer *peer, json_t *message, double timeout);
/* Waits for the answer, then stops the process. *reply is the caller's when FOVEA_PEER_OK; the reason
 * is filled otherwise. reply may be NULL. */
fovea_peer_answer fovea_peer_receive(fovea_peer *peer, double timeout, json_t **reply,
                                     char reason[FOVEA_PEER_REASON]);
/* Lets the process go on, sends, receives. Takes the message. */
fovea_peer_answer fovea_peer_ask(fovea_peer *peer, json_t *message, double timeout, json_t **reply,
                                 char reason[FOVEA_PEER_REASON]);

#endif
