/* Worker processes of peers. No process is left behind: the kernel kills them when the thread that
 * started them ends (PR_SET_PDEATHSIG), stopped or not. */
#define _GNU_SOURCE
#include "bench_peer.h"

#include "bench_interrupt.h"
#include "seconds.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REPLY_MAX = 64 << 20, COMMAND_MAX = 16, FIRST_DESCRIPTOR = 3 };

struct fovea_peer {
    char name[32];
    pid_t process;
    int status; /* how it ended, once it has */
    int requests, replies, errors;
    char *text; /* bytes received and not yet used */
    size_t length, capacity;
};

int fovea_peer_process(const fovea_peer *peer) { return (int)peer->process; }

/* ---- Starting and ending -------------------------------------------------------------------- */

/* Where memory runs out, the system is to end the worker rather than the tool. */
static void volunteer(void) {
    int file = open("/proc/self/oom_score_adj", O_WRONLY);
    if (file < 0) return;
    ssize_t written = write(file, "500", 3);
    (void)written;
    close(file);
}

/* Runs in the child, between fork and exec: nothing but system calls. */
static void become_worker(pid_t parent, const int descriptors[4], char *const *arguments) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    volunteer();
    /* An interrupt at the terminal reaches the whole group; the tool decides what becomes of us. */
    signal(SIGINT, SIG_IGN);
    signal(SIGPIPE, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int null = open("/dev/null", O_RDWR);
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    dup2(descriptors[3], STDERR_FILENO);
    for (int i = 0; i < 3; i++) dup2(descriptors[i], FIRST_DESCRIPTOR + i);
    execvp(arguments[0], arguments);
    _exit(127);
}

/* The same number of threads for everybody, memory that the C library keeps between calls (results
 * that a peer allocates then cost no page faults), and no device but the one that is meant. Set in our own
 * environment, where nothing reads them any more, because a child may not allocate before exec. */
static void set_worker_environment(int threads, const char *device) {
    static const char *const counts[] = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
                                         "MKL_NUM_THREADS"};
    char number[16];
    snprintf(number, sizeof number, "%d", threads);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) setenv(counts[i], number, 1);
    setenv("MALLOC_MMAP_MAX_", "0", 1);
    setenv("MALLOC_TRIM_THRESHOLD_", "17179869184", 1);
    setenv("MALLOC_TOP_PAD_", "67108864", 1);
    setenv("CUDA_VISIBLE_DEVICES", device ? device : "", 1);
    setenv("FOVEA_PEER_PLACE", device ? "cuda" : "cpu", 1);
    setenv("JAX_PLATFORMS", device ? "cuda" : "cpu", 1);
    setenv("OPENVINO_TELEMETRY", "0", 1);
    setenv("PYTHONDONTWRITEBYTECODE", "1", 1);
    setenv("PYTHONWARNINGS", "ignore", 1);
}

static int high_descriptor(int descriptor) {
    int high = fcntl(descriptor, F_DUPFD_CLOEXEC, 64);
    close(descriptor);
    return high;
}

/* Pipes whose ends, and a file for the worker's stderr, stand above the descriptors it is given. */
static bool make_channels(int request[2], int reply[2], int *errors) {
    if (pipe2(request, O_CLOEXEC) != 0) return false;
    if (pipe2(reply, O_CLOEXEC) != 0) return close(request[0]), close(request[1]), false;
    for (int i = 0; i < 2; i++) {
        request[i] = high_descriptor(request[i]);
        reply[i] = high_descriptor(reply[i]);
    }
    *errors = high_descriptor(memfd_create("peer-errors", MFD_CLOEXEC));
    fcntl(request[1], F_SETFL, O_NONBLOCK);
    return request[0] >= 0 && request[1] >= 0 && reply[0] >= 0 && reply[1] >= 0 && *errors >= 0;
}

fovea_peer *fovea_peer_start(const char *name, const char *const *command, int threads,
                             const char *device, int memory_fd, char reason[FOVEA_PEER_REASON]) {
    int request[2] = {-1, -1}, reply[2] = {-1, -1}, errors = -1;
    char *arguments[COMMAND_MAX + 4], numbers[3][12];
    int count = 0;
    for (; command[count] && count < COMMAND_MAX; count++)
        arguments[count] = (char *)(uintptr_t)command[count];
    for (int i = 0; i < 3; i++) {
        snprintf(numbers[i], sizeof numbers[i], "%d", FIRST_DESCRIPTOR + i);
        arguments[count++] = numbers[i];
    }
    arguments[count] = NULL;
    fovea_peer *peer = calloc(1, sizeof *peer);
    if (!peer || !make_channels(request, reply, &errors)) {
        snprintf(reason, FOVEA_PEER_REASON, "cannot open pipes: %s", strerror(errno));
        return free(peer), NULL;
    }
    int memory = fcntl(memory_fd, F_DUPFD_CLOEXEC, 64);
    int given[4] = {request[0], reply[1], memory, errors};
    set_worker_environment(threads, device);
    pid_t parent = getpid();
    pid_t process = fork();
    if (process == 0) become_worker(parent, given, arguments);
    close(request[0]);
    close(reply[1]);
    close(memory);
    snprintf(peer->name, sizeof peer->name, "%s", name);
    peer->process = process;
    peer->requests = request[1];
    peer->replies = reply[0];
    peer->errors = errors;
    if (process > 0) return peer;
    snprintf(reason, FOVEA_PEER_REASON, "cannot start a process: %s", strerror(errno));
    return fovea_peer_end(peer), NULL;
}

/* Ends the process if it lives. */
static void finish(fovea_peer *peer) {
    if (peer->process <= 0) return;
    kill(peer->process, SIGKILL);
    while (waitpid(peer->process, &peer->status, 0) < 0 && errno == EINTR) {
    }
    peer->process = -1;
}

void fovea_peer_end(fovea_peer *peer) {
    if (!peer) return;
    finish(peer);
    close(peer->requests);
    close(peer->replies);
    close(peer->errors);
    free(peer->text);
    free(peer);
}

/* ---- What became of it ---------------------------------------------------------------------- */

/* The last line that it wrote to stderr, "" if none. */
static void last_words(const fovea_peer *peer, char *words, size_t size) {
    char text[1024];
    off_t end = lseek(peer->errors, 0, SEEK_END);
    off_t start = end > (off_t)sizeof text - 1 ? end - (off_t)sizeof text + 1 : 0;
    ssize_t count = end > 0 ? pread(peer->errors, text, sizeof text - 1, start) : 0;
    while (count > 0 && strchr("\n\r ", text[count - 1])) count--;
    text[count > 0 ? count : 0] = 0;
    const char *line = strrchr(text, '\n');
    snprintf(words, size, "%.*s", (int)size - 1, line ? line + 1 : text);
}

static fovea_peer_answer gone(fovea_peer *peer, const char *what, char *reason) {
    char words[160];
    if (peer->process > 0 && waitpid(peer->process, &peer->status, WNOHANG) == peer->process)
        peer->process = -1;
    bool ended = peer->process <= 0;
    int status = peer->status;
    last_words(peer, words, sizeof words);
    const char *colon = *words ? ": " : "";
    if (ended && WIFSIGNALED(status))
        snprintf(reason, FOVEA_PEER_REASON, "crashed (%s)%s%s", strsignal(WTERMSIG(status)), colon,
                 words);
    else if (ended)
        snprintf(reason, FOVEA_PEER_REASON, "ended with status %d%s%s", WEXITSTATUS(status), colon,
                 words);
    else
        snprintf(reason, FOVEA_PEER_REASON, "%s", what);
    finish(peer);
    return FOVEA_PEER_GONE;
}

/* Stops it and waits until that is so: a pool of spinning threads must not meet the next arm. */
static void stop(fovea_peer *peer) {
    if (peer->process <= 0) return;
    kill(peer->process, SIGSTOP);
    pid_t changed;
    while ((changed = waitpid(peer->process, &peer->status, WUNTRACED)) < 0 && errno == EINTR) {
    }
    if (changed == peer->process && !WIFSTOPPED(peer->status)) peer->process = -1;
}

/* ---- Messages ------------------------------------------------------------------------------- */

static bool wait_for(int descriptor, short events, double deadline) {
    for (;;) {
        double left = deadline - fovea_seconds_now();
        if (left <= 0 || fovea_interrupted()) return false;
        struct pollfd entry = {.fd = descriptor, .events = events};
        /* Short waits, so that a signal between the test and the poll is noticed. */
        int ready = poll(&entry, 1, left > 0.2 ? 200 : (int)(left * 1000) + 1);
        if (ready > 0) return true;
        if (ready < 0 && errno != EINTR) return false;
    }
}

bool fovea_peer_send(fovea_peer *peer, json_t *message, double timeout) {
    char *text = json_dumps(message, JSON_COMPACT);
    json_decref(message);
    if (!text || peer->process <= 0) return free(text), false;
    size_t length = strlen(text), sent = 0;
    text[length++] = '\n';
    double deadline = fovea_seconds_now() + timeout;
    kill(peer->process, SIGCONT);
    while (sent < length && wait_for(peer->requests, POLLOUT, deadline)) {
        ssize_t written = write(peer->requests, text + sent, length - sent);
        if (written < 0 && errno != EAGAIN && errno != EINTR) break;
        if (written > 0) sent += (size_t)written;
    }
    free(text);
    return sent == length;
}

/* 1: bytes came; 0: the end; -1: none in time, or too many. */
static int read_some(fovea_peer *peer, double deadline) {
    if (peer->length + 65536 > peer->capacity) {
        size_t capacity = peer->capacity ? 2 * peer->capacity : 1 << 17;
        char *text = capacity <= REPLY_MAX ? realloc(peer->text, capacity) : NULL;
        if (!text) return -1;
        peer->text = text;
        peer->capacity = capacity;
    }
    if (!wait_for(peer->replies, POLLIN, deadline)) return -1;
    ssize_t count = read(peer->replies, peer->text + peer->length, 65536);
    if (count < 0) return errno == EINTR ? 1 : 0;
    peer->length += (size_t)count;
    return count > 0;
}

/* The next line as JSON, NULL if it is not. Keeps what follows it. */
static json_t *take_line(fovea_peer *peer, char *end) {
    size_t used = (size_t)(end - peer->text) + 1;
    json_t *answer = json_loadb(peer->text, used, 0, NULL);
    peer->length -= used;
    memmove(peer->text, peer->text + used, peer->length);
    return answer;
}

static fovea_peer_answer judge(fovea_peer *peer, json_t *answer, json_t **reply, char *reason) {
    const json_t *ok = json_object_get(answer, "ok");
    const char *unserved = json_string_value(json_object_get(answer, "unserved"));
    const char *error = json_string_value(json_object_get(answer, "error"));
    fovea_peer_answer result = FOVEA_PEER_OK;
    if (json_is_true(ok)) {
        if (reply) *reply = json_incref(answer);
    } else if (unserved || error) {
        result = unserved ? FOVEA_PEER_UNSERVED : FOVEA_PEER_FAILED;
        snprintf(reason, FOVEA_PEER_REASON, "%s", unserved ? unserved : error);
    } else {
        result = gone(peer, "answered what is not a message of the protocol", reason);
    }
    json_decref(answer);
    return result;
}

fovea_peer_answer fovea_peer_receive(fovea_peer *peer, double timeout, json_t **reply,
                                     char reason[FOVEA_PEER_REASON]) {
    double deadline = fovea_seconds_now() + timeout;
    char *end, silence[64];
    int got = 1;
    if (reply) *reply = NULL;
    while (!(end = peer->length ? memchr(peer->text, '\n', peer->length) : NULL) && got > 0)
        got = read_some(peer, deadline);
    if (!end && fovea_interrupted()) {
        snprintf(reason, FOVEA_PEER_REASON, "interrupted");
        return finish(peer), FOVEA_PEER_INTERRUPTED;
    }
    if (!end && got == 0) {
        /* The pipe closes a moment before the process can be waited for. */
        for (int i = 0; i < 200 && kill(peer->process, 0) == 0; i++) {
            siginfo_t state = {0};
            if (waitid(P_PID, (id_t)peer->process, &state, WEXITED | WNOHANG | WNOWAIT) == 0 &&
                state.si_pid)
                break;
            usleep(5000);
        }
        return gone(peer, "closed its pipe", reason);
    }
    snprintf(silence, sizeof silence, "gave no answer within %.0f s", timeout);
    if (!end) return gone(peer, silence, reason);
    json_t *answer = take_line(peer, end);
    fovea_peer_answer result = judge(peer, answer, reply, reason);
    stop(peer);
    return result;
}

fovea_peer_answer fovea_peer_ask(fovea_peer *peer, json_t *message, double timeout, json_t **reply,
                                 char reason[FOVEA_PEER_REASON]) {
    if (reply) *reply = NULL;
    if (peer->process <= 0) {
        json_decref(message);
        return gone(peer, "is gone", reason);
    }
    /* Where sending fails, receiving finds out why: it died, or does not read. */
    (void)fovea_peer_send(peer, message, timeout);
    return fovea_peer_receive(peer, timeout, reply, reason);
}
