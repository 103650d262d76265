/* Fovea: verified compute kernels, attention first.
 *
 * A call takes a context, tensors and options:
 *
 *     fovea_context *context;
 *     fovea_context_create(NULL, &context);
 *     if (fovea_attention(context, &q, &k, &v, &out, NULL) != FOVEA_OK)
 *         fprintf(stderr, "%s\n", fovea_last_message(context));
 *     fovea_context_destroy(context);
 *
 * Tensors are DLPack's DLTensor: any strides, 64-bit extents, never copied. The caller owns every
 * tensor. Inputs are not changed; outputs may not overlap inputs unless the kernel says so. Empty
 * tensors are valid.
 *
 * Options are structs: fill them with NAME_options_default, then change fields. NULL means all
 * defaults, and 0 is an ordinary value. Optional tensors (a mask, the log-sum-exp) are fields too.
 *
 * Every function returns a status. On an error nothing has been written, and
 * fovea_last_message gives one sentence that names the argument and the values. No call aborts or
 * prints. A call that no implementation serves fails with the reasons; nothing falls back silently.
 *
 * A context is used by one thread at a time; any number of contexts may exist. It holds scratch
 * memory, which grows to what calls need and is reused, and the routes: which implementation is
 * fastest for which call on this machine (`fovea tune` measures them, fovea_route explains them).
 *
 * A context for a CUDA device takes tensors of that device, and enqueues its calls on one stream, the
 * caller's if one is given. Calls then return before the work is done; they neither wait nor, once
 * scratch memory has grown to what they need, allocate, so they can be captured in a graph (a graph
 * uses the context's scratch memory: it is replayed while the context lives, and not beside other
 * calls of it). Lengths and tables in tensors of a device are not checked, only kept from leading out
 * of the tensors.
 *
 * The kernels' functions are in fovea/kernels.h, included below; docs/rules.md has their rules.
 */
#ifndef FOVEA_FOVEA_H
#define FOVEA_FOVEA_H

#include <dlpack/dlpack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
    #define FOVEA_API
#else
    #define FOVEA_API __attribute__((visibility("default")))
#endif

typedef enum fovea_status {
    FOVEA_OK = 0,
    FOVEA_INVALID_ARGUMENT = -1, /* a tensor, an option or a name is wrong */
    FOVEA_UNSUPPORTED = -2,      /* the call is valid, but no implementation here serves it */
    FOVEA_OUT_OF_MEMORY = -3,
    FOVEA_FILE_ERROR = -4,  /* a file could not be read or written, or its content is refused */
    FOVEA_DEVICE_ERROR = -5 /* the CUDA device or its driver reports one */
} fovea_status;

/* The status in words, such as "invalid argument". Never NULL. */
FOVEA_API const char *fovea_status_text(fovea_status status);

/* "MAJOR.MINOR.PATCH" */
FOVEA_API const char *fovea_version(void);

/* ---- Contexts ---------------------------------------------------------------------------- */

typedef struct fovea_context fovea_context;

/* Where the library takes its memory from. allocate: NULL if there is none; alignment: 2^k. */
typedef struct fovea_allocator {
    void *(*allocate)(void *user, size_t bytes, size_t alignment);
    void (*release)(void *user, void *memory, size_t bytes);
    void *user;
} fovea_allocator;

typedef struct fovea_context_options {
    size_t size;               /* sizeof(fovea_context_options), set by the defaults function */
    int threads;               /* 0: as many as affinity and the cgroup allow */
    const char *routes;        /* file; a device's: FILE.NAME; NULL: the default; "": none */
    fovea_allocator allocator; /* all NULL: aligned_alloc and free */
    DLDevice device;           /* where tensors are: {kDLCPU, 0}, or {kDLCUDA, number} */
    void *stream;              /* CUDA: a cudaStream_t of that device; NULL: one is made */
} fovea_context_options;

FOVEA_API void fovea_context_options_default(fovea_context_options *options);

/* On an error *context is NULL and fovea_last_message(NULL) tells why (for the calling thread). A
 * routes file that is named and refused is an error; one at the default place that is refused is
 * not used, and fovea_routes_state says so. */
FOVEA_API fovea_status fovea_context_create(const fovea_context_options *options,
                                            fovea_context **context);
FOVEA_API void fovea_context_destroy(fovea_context *context);

/* The stream on which a CUDA context's calls are ordered; NULL on the CPU. */
FOVEA_API void *fovea_context_stream(const fovea_context *context);
/* Waits for the calls of a CUDA context. What went wrong on the device shows here at the latest. On
 * the CPU every call has ended when it returns. */
FOVEA_API fovea_status fovea_synchronize(fovea_context *context);

/* The sentence of the last call that failed on this context; "" if none did. */
FOVEA_API const char *fovea_last_message(const fovea_context *context);

/* One sentence: which routes file is in use, or why none is. */
FOVEA_API const char *fovea_routes_state(const fovea_context *context);

/* ---- What exists, what was chosen, and why ------------------------------------------------- */

FOVEA_API size_t fovea_kernel_count(void);
FOVEA_API const char *fovea_kernel_name(size_t index); /* NULL past the end */

/* The implementations of a kernel by their full names, "cpu/avx2/flash"; NULL past the end or for
 * an unknown kernel. All that were built are listed, whether this machine can run them or not. */
FOVEA_API const char *fovea_implementation_name(const char *kernel, size_t index);

/* Makes every later call of a kernel (NULL: of all kernels) use one implementation, or fail with
 * the reason; a NULL implementation returns to automatic routing. A name that no implementation of
 * the kernel has is an error. The environment variable FOVEA_IMPLEMENTATION does the same for all
 * kernels of all contexts that do not say otherwise, and FOVEA_TIER caps the CPU tier. */
FOVEA_API fovea_status fovea_use(fovea_context *context, const char *kernel,
                                 const char *implementation);

/* How a call was or would be served. */
typedef struct fovea_route {
    char implementation[48];
    char reason[160];   /* why it was chosen: forced, measured, by the cost model, the only one */
    char runner_up[48]; /* "" if there is none */
    double seconds;     /* expected time of the choice: measured or modelled; 0 if unknown */
    double runner_up_seconds;
    bool measured;       /* the times come from the routes file */
    char declined[1024]; /* a line for each implementation that cannot serve, with the reason */
} fovea_route;

/* Calls a kernel by name. tensors holds its required arguments in the order of the typed function;
 * options is its options struct or NULL. */
FOVEA_API fovea_status fovea_call(fovea_context *context, const char *kernel,
                                  DLTensor *const *tensors, size_t count, const void *options);

/* Explains how fovea_call with the same arguments would be served, and runs nothing. */
FOVEA_API fovea_status fovea_explain(fovea_context *context, const char *kernel,
                                     DLTensor *const *tensors, size_t count, const void *options,
                                     fovea_route *route);

/* The last successful call (an error before it), and totals of a kernel since the context began. */
typedef struct fovea_call_report {
    const char *kernel;
    const char *implementation;
    double seconds;
    size_t scratch_bytes;
    int threads;
    int64_t block_rows, block_keys; /* attention's block plan; 0 where it does not apply */
    const char *arithmetic;         /* "bf16 pairs", where it is not the plain one; else "" */
} fovea_call_report;

typedef struct fovea_statistics {
    uint64_t calls, failures;
    double seconds, bytes;      /* bytes: each input read once, each output written once */
    const char *implementation; /* the last one used; NULL before the first call */
} fovea_statistics;

FOVEA_API fovea_status fovea_last_call(const fovea_context *context, fovea_call_report *report);
FOVEA_API fovea_status fovea_kernel_statistics(const fovea_context *context, const char *kernel,
                                               fovea_statistics *statistics);

#ifdef __cplusplus
}
#endif

#include <fovea/kernels.h>

#endif
