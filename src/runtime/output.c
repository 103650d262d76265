/* Written beside its place, synchronised, renamed. */
#define _GNU_SOURCE
#include "runtime/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static fovea_status cannot_write(const char *path, int error, fovea_message *message) {
    return fovea_fail(message, FOVEA_FILE_ERROR, "%.300s cannot be written: %s", path,
                      strerror(error));
}

static ssize_t put(void *user, const char *bytes, size_t count) {
    fovea_output *output = user;
    for (size_t done = 0; done < count;) {
        ssize_t written = write(output->file, bytes + done, count - done);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) {
            if (!output->error) output->error = errno;
            return 0;
        }
        done += (size_t)written;
    }
    return (ssize_t)count;
}

fovea_status fovea_output_open(const char *path, fovea_output *output, fovea_message *message) {
    static atomic_uint outputs; /* threads of a process may write to one path at once */
    struct stat facts;
    if (!*path) return fovea_fail(message, FOVEA_FILE_ERROR, "the name of a file is empty");
    output->path = path;
    int length = snprintf(output->temporary, sizeof output->temporary, "%s.%ld.%u.new", path,
                          (long)getpid(), atomic_fetch_add(&outputs, 1));
    if (length < 0 || (size_t)length >= sizeof output->temporary)
        return cannot_write(path, ENAMETOOLONG, message);
    if (stat(path, &facts) == 0 && !S_ISREG(facts.st_mode))
        return fovea_fail(message, FOVEA_FILE_ERROR, "%.300s is not a regular file", path);
    unlink(output->temporary); /* of a process of that number that was stopped */
    output->error = 0;
    output->file = open(output->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (output->file < 0) return cannot_write(path, errno, message);
    output->stream = fopencookie(output, "w", (cookie_io_functions_t){.write = put});
    if (output->stream) return FOVEA_OK;
    close(output->file);
    unlink(output->temporary);
    return cannot_write(path, ENOMEM, message);
}

/* So that the new name survives a power cut; file systems that cannot do it are as they are. */
static void sync_directory(char *path) {
    char *slash = strrchr(path, '/');
    if (slash) slash[slash == path] = 0;
    int file = open(slash ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0) return;
    fsync(file);
    close(file);
}

fovea_status fovea_output_close(fovea_output *output, int error, fovea_message *message) {
    bool whole = fflush(output->stream) == 0 && !ferror(output->stream);
    if (!whole && !error) error = EIO;
    if (output->error) error = output->error;
    if (!error && fsync(output->file) != 0) error = errno;
    fclose(output->stream);
    if (close(output->file) != 0 && !error) error = errno;
    if (!error && rename(output->temporary, output->path) != 0) error = errno;
    if (!error) return sync_directory(output->temporary), FOVEA_OK;
    unlink(output->temporary);
    return cannot_write(output->path, error, message);
}

fovea_status fovea_output_check(const char *path, fovea_message *message) {
    fovea_output output;
    fovea_status status = fovea_output_open(path, &output, message);
    if (status != FOVEA_OK) return status;
    fclose(output.stream);
    close(output.file);
    unlink(output.temporary);
    return FOVEA_OK;
}
