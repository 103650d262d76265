/* Status codes in words, and the formatting of messages. */
#include "runtime/status.h"

#include <stdarg.h>
#include <stdio.h>

const char *fovea_status_text(fovea_status status) {
    switch (status) {
    case FOVEA_OK:
        return "ok";
    case FOVEA_INVALID_ARGUMENT:
        return "invalid argument";
    case FOVEA_UNSUPPORTED:
        return "not supported";
    case FOVEA_OUT_OF_MEMORY:
        return "out of memory";
    case FOVEA_FILE_ERROR:
        return "file error";
    case FOVEA_DEVICE_ERROR:
        return "device error";
    }
    return "unknown status";
}

const char *fovea_version(void) { return FOVEA_VERSION; }

fovea_status fovea_fail(fovea_message *message, fovea_status status, const char *format, ...) {
    if (message) {
        va_list values;
        va_start(values, format);
        vsnprintf(message->text, sizeof message->text, format, values);
        va_end(values);
    }
    return status;
}
