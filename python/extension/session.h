/* Contexts: each thread has its own, made at its first call and gone with the thread. */
#ifndef FOVEA_PYTHON_SESSION_H
#define FOVEA_PYTHON_SESSION_H

#include "python.h"

#include "api/context.h"
#include <pthread.h>

typedef struct session session;

int session_prepare(PyObject *module);

/* The calling thread's context for a device and, on CUDA, a stream (NULL: one of its own). NULL with
 * an exception. */
fovea_context *session_context(DLDevice device, void *stream);

/* A call is between these, without Python's lock: reports of other threads wait for it. */
void session_enter(void);
void session_leave(void);

#endif
