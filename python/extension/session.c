#include "session.h"
#include "errors.h"
#include "runtime/threads.h"

#include <stdlib.h>
#include <string.h>

typedef struct open_context {
    struct open_context *next;
    fovea_context *context;
    DLDevice device;
    void *stream;
} open_context;

struct session {
    struct session *next;
    pthread_mutex_t busy; /* held during calls, so that reports read what is at rest */
    open_context *contexts;
    int threads;    /* forced by use(threads=); 0: as all */
    int generation; /* of `all_threads`, when it was looked at */
};

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER; /* of what follows */
static session *sessions;
static fovea_statistics *gone; /* by kernel: totals of threads that have ended */

static pthread_key_t key; /* ends a session with its thread */
static _Thread_local session *own;
static int all_threads; /* set_threads; 0: what affinity and the cgroup allow */
static int generation = 1;

/* ---- Beginning and end ------------------------------------------------------------------------ */

static void add_statistics(fovea_statistics *total, const fovea_context *context) {
    for (int k = 0; k < context->kernels; k++) {
        fovea_statistics more;
        fovea_kernel_statistics(context, fovea_kernel_name((size_t)k), &more);
        total[k].calls += more.calls, total[k].failures += more.failures;
        total[k].seconds += more.seconds, total[k].bytes += more.bytes;
        if (more.implementation) total[k].implementation = more.implementation;
    }
}

static void end_session(void *ended) {
    session *s = ended;
    own = NULL; /* what else ends with the thread may still call */
    pthread_mutex_lock(&list_lock);
    for (session **place = &sessions; *place; place = &(*place)->next) {
        if (*place != s) continue;
        *place = s->next;
        break;
    }
    for (open_context *c = s->contexts, *next; c; c = next) {
        next = c->next;
        add_statistics(gone, c->context);
        fovea_context_destroy(c->context);
        free(c);
    }
    pthread_mutex_unlock(&list_lock);
    pthread_mutex_destroy(&s->busy);
    free(s);
}

/* A forked child has one thread, and no lock is held that belongs to it. */
static void before_fork(void) { pthread_mutex_lock(&list_lock); }
static void after_fork(void) { pthread_mutex_unlock(&list_lock); }
static void after_fork_in_child(void) {
    sessions = own;
    if (own) own->next = NULL;
    pthread_mutex_unlock(&list_lock);
}

static session *own_session(void) {
    if (own) return own;
    session *made = calloc(1, sizeof *made);
    if (!made || pthread_setspecific(key, made) != 0) {
        free(made);
        return NULL;
    }
    pthread_mutex_init(&made->busy, NULL);
    pthread_mutex_lock(&list_lock);
    made->next = sessions;
    sessions = made;
    pthread_mutex_unlock(&list_lock);
    return own = made;
}

/* ---- Contexts --------------------------------------------------------------------------------- */

static open_context *open_for(session *s, DLDevice device, void *stream) {
    fovea_context_options options;
    fovea_context_options_default(&options);
    options.device = device;
    options.stream = stream;
    open_context *made = calloc(1, sizeof *made);
    if (!made) return raise_status(FOVEA_OUT_OF_MEMORY, "no memory for a context");
    fovea_status status = fovea_context_create(&options, &made->context);
    if (status != FOVEA_OK) {
        free(made);
        return raise_status(status, fovea_last_message(NULL));
    }
    made->device = device, made->stream = stream;
    if (s->contexts) /* what is forced holds for all of a thread's calls */
        memcpy(made->context->forced, s->contexts->context->forced,
               (size_t)made->context->kernels * sizeof *made->context->forced);
    fovea_context_set_threads(made->context, s->threads ? s->threads : all_threads);
    made->next = s->contexts;
    pthread_mutex_lock(&s->busy); /* reports of other threads go through the list */
    s->contexts = made;
    pthread_mutex_unlock(&s->busy);
    return made;
}

static void apply_threads(session *s) {
    for (open_context *c = s->contexts; c; c = c->next)
        fovea_context_set_threads(c->context, s->threads ? s->threads : all_threads);
    s->generation = generation;
}

fovea_context *session_context(DLDevice device, void *stream) {
    session *s = own_session();
    if (!s) return raise_status(FOVEA_OUT_OF_MEMORY, "no memory for a thread's state");
    if (s->generation != generation) apply_threads(s);
    if (device.device_type != kDLCUDA) device = (DLDevice){kDLCPU, 0};
    for (open_context *c = s->contexts; c; c = c->next)
        if (fovea_same_device(c->device, device) && c->stream == stream) return c->context;
    open_context *made = open_for(s, device, stream);
    return made ? made->context : NULL;
}

static fovea_context *host_context(void) { return session_context((DLDevice){kDLCPU, 0}, NULL); }

void session_enter(void) { pthread_mutex_lock(&own->busy); }
void session_leave(void) { pthread_mutex_unlock(&own->busy); }

/* ---- What Python asks of them ----------------------------------------------------------------- */

/* Everything that use() changes, to be put back at its end. */
static PyObject *get_use(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    const fovea_context *context = host_context();
    if (!context) return NULL;
    return Py_BuildValue("(iy#)", own->threads, (const char *)context->forced,
                         (Py_ssize_t)((size_t)context->kernels * sizeof *context->forced));
}

static int read_threads(PyObject *count, int *threads) {
    int beyond;
    long long wanted = PyLong_AsLongLongAndOverflow(count, &beyond);
    if (wanted == -1 && PyErr_Occurred()) return -1;
    if (!beyond && wanted >= 0 && wanted <= FOVEA_THREADS_MAX) return *threads = (int)wanted, 0;
    PyErr_Format(invalid_value, "threads is %R; it is at least 0 and at most %d", count,
                 FOVEA_THREADS_MAX);
    return -1;
}

static PyObject *set_use(PyObject *self, PyObject *arguments) {
    (void)self;
    int threads;
    PyObject *count;
    const char *forced;
    Py_ssize_t size;
    const fovea_context *context = host_context();
    if (!context || !PyArg_ParseTuple(arguments, "Oy#", &count, &forced, &size) ||
        read_threads(count, &threads) < 0)
        return NULL;
    if (size != (Py_ssize_t)((size_t)context->kernels * sizeof *context->forced))
        return raise_status(FOVEA_INVALID_ARGUMENT, "this is no state of use()");
    for (open_context *c = own->contexts; c; c = c->next)
        memcpy(c->context->forced, forced, (size_t)size);
    own->threads = threads;
    apply_threads(own);
    Py_RETURN_NONE;
}

static PyObject *use(PyObject *self, PyObject *arguments) {
    (void)self;
    const char *kernel, *implementation;
    fovea_context *context = host_context();
    if (!context || !PyArg_ParseTuple(arguments, "zz", &kernel, &implementation)) return NULL;
    fovea_status status = fovea_use(context, kernel, implementation);
    if (status != FOVEA_OK) return raise_status(status, fovea_last_message(context));
    for (open_context *c = own->contexts; c; c = c->next)
        if (c->context != context)
            memcpy(c->context->forced, context->forced,
                   (size_t)context->kernels * sizeof *context->forced);
    Py_RETURN_NONE;
}

static PyObject *threads(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    const fovea_context *context = host_context();
    return context ? PyLong_FromLong(context->threads) : NULL;
}

static PyObject *set_threads(PyObject *self, PyObject *count) {
    (void)self;
    if (read_threads(count, &all_threads) < 0) return NULL;
    generation++;
    Py_RETURN_NONE;
}

static PyObject *last_call(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    fovea_call_report report = {0}, other;
    for (open_context *c = own ? own->contexts : NULL; c; c = c->next)
        if (fovea_last_call(c->context, &other) == FOVEA_OK) report = other;
    if (!report.kernel) Py_RETURN_NONE;
    return Py_BuildValue("(ssdnis)", report.kernel, report.implementation, report.seconds,
                         (Py_ssize_t)report.scratch_bytes, report.threads, report.arithmetic);
}

static PyObject *statistics_item(const fovea_statistics *s) {
    return Py_BuildValue("(KKdds)", (unsigned long long)s->calls, (unsigned long long)s->failures,
                         s->seconds, s->bytes, s->implementation);
}

static PyObject *statistics(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    size_t kernels = fovea_kernel_count();
    fovea_statistics *total = calloc(kernels, sizeof *total);
    if (!total) return raise_status(FOVEA_OUT_OF_MEMORY, "no memory for a report");
    Py_BEGIN_ALLOW_THREADS pthread_mutex_lock(&list_lock);
    memcpy(total, gone, kernels * sizeof *total);
    for (session *s = sessions; s; s = s->next) {
        pthread_mutex_lock(&s->busy);
        for (open_context *c = s->contexts; c; c = c->next) add_statistics(total, c->context);
        pthread_mutex_unlock(&s->busy);
    }
    pthread_mutex_unlock(&list_lock);
    Py_END_ALLOW_THREADS PyObject *report = PyDict_New();
    for (size_t k = 0; report && k < kernels; k++) {
        if (total[k].calls + total[k].failures == 0) continue;
        PyObject *item = statistics_item(&total[k]);
        if (!item || PyDict_SetItemString(report, fovea_kernel_name(k), item) < 0) Py_CLEAR(report);
        Py_XDECREF(item);
    }
    free(total);
    return report;
}

static PyMethodDef functions[] = {
    {"_get_use", get_use, METH_NOARGS, "_get_use($module)\n--\n\nWhat use() changes."},
    {"_set_use", set_use, METH_VARARGS,
     "_set_use($module, threads, forced, /)\n--\n\nPuts it back."},
    {"_use", use, METH_VARARGS, "_use($module, kernel, implementation, /)\n--\n\nforces one."},
    {"_last_call", last_call, METH_NOARGS, "_last_call($module)\n--\n\nThis thread's last call."},
    {"_statistics", statistics, METH_NOARGS, "_statistics($module)\n--\n\nTotals by kernel."},
    {"threads", threads, METH_NOARGS,
     "threads($module)\n--\n\nHow many threads a call of this thread may use."},
    {"set_threads", set_threads, METH_O,
     "set_threads($module, count, /)\n--\n\n"
     "How many threads later calls may use, of all of Python's threads; 0: what the process may."},
    {0}};

int session_prepare(PyObject *module) {
    gone = calloc(fovea_kernel_count(), sizeof *gone);
    if (!gone || pthread_key_create(&key, end_session) != 0 ||
        pthread_atfork(before_fork, after_fork, after_fork_in_child) != 0) {
        PyErr_NoMemory();
        return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
