/* Error messages: one sentence that names the argument and the values. */
#ifndef FOVEA_RUNTIME_STATUS_H
#define FOVEA_RUNTIME_STATUS_H

#include <fovea/fovea.h>

enum { FOVEA_MESSAGE_SIZE = 512 };

typedef struct fovea_message {
    char text[FOVEA_MESSAGE_SIZE];
} fovea_message;

/* Writes the sentence and returns the status, so that a check ends in one statement. */
fovea_status fovea_fail(fovea_message *message, fovea_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
