/* What a run of `fovea bench` consists of: cases, a row for each arm, and what surrounds them. Filled
 * by the measuring, read by the tables and the file. */
#ifndef FOVEA_TOOLS_BENCH_H
#define FOVEA_TOOLS_BENCH_H

#include "bench_ceilings.h"
#include "bench_peer.h"
#include "bench_statistics.h"
#include "catalogue/case.h"
#include "cuda/backend.h"
#include "device_timing.h"
#include "nvml.h"
#include "python.h"
#include "quality.h"
#include "seconds.h"

enum { FOVEA_ARM_NAME = 64, FOVEA_CASE_NAME = 96, FOVEA_PEERS_MAX = 12, FOVEA_ARMS_MAX = 48 };

/* Where an arm computes. */
typedef enum fovea_place { FOVEA_ON_CPU, FOVEA_ON_CUDA, FOVEA_PLACES } fovea_place;
const char *fovea_place_name(fovea_place place); /* "cpu", "cuda" */

/* The arm of ours that does a fused kernel's work by others, one after another. */
#define FOVEA_STEPS_ARM "cpu/steps"

/* What is to be known about a row beside its figures. */
typedef enum fovea_row_flag {
    FOVEA_ROW_FITS_L1 = 1 << 0, /* the tensors together fit that cache */
    FOVEA_ROW_FITS_L2 = 1 << 1,
    FOVEA_ROW_FITS_L3 = 1 << 2,
    FOVEA_ROW_COLD = 1 << 3, /* calls found nothing in the last cache */
    FOVEA_ROW_ABOVE_CEILING =
        1 << 4,                /* a cache effect, another unit than the ceiling's, or a bug */
    FOVEA_ROW_ROUTED = 1 << 5, /* what the library chooses for this call */
    FOVEA_ROW_LESS_ACCURATE = 1 << 6, /* a peer beyond the catalogue's bound, within its own */
    FOVEA_ROW_NOISY = 1 << 7,         /* the median's spread stayed above the target */
    FOVEA_ROW_FEW_SAMPLES = 1 << 8,   /* fewer than 5 */
    FOVEA_ROW_THROTTLED = 1 << 9,   /* the clock fell by a tenth, or was held back, while sampled */
    FOVEA_ROW_APPROXIMATE = 1 << 10 /* judged by its quality, and never the best of ours */
} fovea_row_flag;
enum { FOVEA_ROW_FLAGS = 11 };
const char *fovea_row_flag_name(int bit);

/* What was seen of the device while a turn's samples were taken, in all and of each. */
enum { FOVEA_BURST_MAX = 30 };
typedef struct fovea_burst {
    bool hot;  /* of the row's hot samples */
    int count; /* of samples, after those of the bursts before */
    double at; /* seconds since the run began */
    fovea_nvml_span seen, samples[FOVEA_BURST_MAX];
} fovea_burst;

typedef struct fovea_bench_row {
    char arm[FOVEA_ARM_NAME]; /* "cpu/avx2/flash", "peer/numpy", "peer/cuda/torch-cudnn" */
    fovea_place place;
    bool peer;
    bool served;   /* it takes part; otherwise `reason` says why not */
    bool verified; /* its output was right before it was timed */
    char reason[FOVEA_PEER_REASON];
    double error, bound;     /* where the error is the largest share of its bound */
    bool peer_bound;         /* the bound is the wider one for peers */
    fovea_accuracy accuracy; /* of attention; count 0: not measured */
    fovea_timings timings;   /* on a device: in its cool state */
    fovea_summary summary;
    fovea_timings hot; /* on a device that is kept at its cap of power; else empty */
    fovea_summary hot_summary;
    fovea_burst *bursts; /* on a device */
    int burst_count;
    double share; /* of the case's ceiling, by the median; of its memory, where that is measured */
    fovea_timings shares; /* of its memory, one a round */
    size_t scratch_bytes;
    int64_t block_rows, block_keys;
    char arithmetic[24];    /* what it computes in, where that is not the dtype */
    double enqueue_seconds; /* of ours on a device: what a call takes the host; 0: unknown */
    /* Of the library's choice on a device, where arms on the processor stand beside it: calls with their
     * tensors in the host's memory. */
    fovea_device_journey journey;
    fovea_summary journey_summary;
    unsigned flags;
} fovea_bench_row;

/* The state of the machine at the end of a round. */
typedef struct fovea_monitor {
    double at;             /* seconds since the run began */
    double resident_bytes; /* of this process and the peers */
    double busy, steal;    /* shares of all processors since the last one */
    double foreign;        /* share used by processes that are not ours */
    double temperature;    /* degrees Celsius, NaN if unreadable */
    double frequency;      /* Hz, NaN if unreadable */
} fovea_monitor;

typedef struct fovea_bench_case {
    char suite[16], name[FOVEA_CASE_NAME];
    const char *kernel; /* what the catalogue calls it: the row's name or that of a preset */
    fovea_case definition;
    double weight;          /* of its share in the time */
    const char *algorithms; /* only these of ours, unless --arms says otherwise; NULL: all */
    bool alone;             /* too large for peers, or for taking an arm twice */
    bool sweep;             /* attention's block plans beside the one of the formula */
    bool steps;             /* our own kernels one after another, beside the fused one */
    bool cold;              /* its calls rotate over buffers larger than the last-level cache */
    bool every;             /* all of ours that may be chosen, of all tiers, and no peers */
    /* Filled when it runs: */
    bool begun, done;
    char problem[520]; /* why it could not run; "" if it did */
    double operations, bytes;
    char ceiling[FOVEA_PLACES][40];
    bool by_bytes[FOVEA_PLACES]; /* the ceiling is a bandwidth */
    int sets[FOVEA_PLACES];      /* of its tensors, over which calls took turns */
    /* Of cold calls on a device: copying, or reading where next to nothing is written, as many bytes by the same
     * turns. */
    struct {
        bool writes;
        double bytes, rate; /* 0: not measured */
    } at_size;
    /* Of what a call needs and gives, to the device and back, from this process's memory, which is pageable. */
    size_t sent_bytes, fetched_bytes;
    double sent_seconds, fetched_seconds;
    /* Where memory binds it on the processor: its tensors moved and nothing else, in turns with the arms. */
    struct {
        double bytes;          /* 0: not measured */
        fovea_timings timings; /* the fastest way, one a round */
        double median;
    } memory;
    fovea_bench_row *rows;
    int row_count;
    double noise_ratio; /* of one arm's medians under two names; NaN if not measured */
    char noise_arm[FOVEA_ARM_NAME];
    fovea_timings noise_timings;
    fovea_monitor *monitors;
    int monitor_count;
    double seconds;
    double prepared_seconds, verified_seconds; /* of them: inputs and reference; first calls */
    double peers_seconds, judged_seconds;      /* of the latter: calls of peers; comparisons */
    double waited_seconds;                     /* of the first of these: until they were made */
} fovea_bench_case;

enum { FOVEA_FORWARD = 1, FOVEA_BACKWARD = 2 };

typedef struct fovea_bench_options {
    const char *suites, *filter, *arms, *json, *peers;
    int threads;
    double seconds; /* 0: what the suites ask for */
    bool no_peers, cold, list, full;
    unsigned places; /* bit p: arms of that place take part */
    int device;      /* number of the CUDA device */
    unsigned phases; /* of suites that have both; 0: both */
    uint64_t seed;
} fovea_bench_options;

/* A peer that was asked for, and what became of it. */
typedef struct fovea_bench_peer {
    char name[24];
    fovea_place place;
    json_t *ways; /* how it can be made to compute, by kernel: {"attention": ["cudnn", ...]} */
    fovea_peer *process; /* NULL: missing or given up */
    char reason[FOVEA_PEER_REASON];
    json_t *versions;
    int restarts;
} fovea_bench_peer;

/* "torch", "cuda/torch": a library may be two peers. */
const char *fovea_peer_label(const fovea_bench_peer *peer, char *label, size_t size);

typedef struct fovea_bench_run {
    fovea_bench_options options;
    int threads;
    double started; /* CLOCK_MONOTONIC */
    char started_text[32];
    double seconds; /* it took */
    fovea_context *context;
    fovea_python python; /* what peers run with */
    fovea_bench_peer peers[FOVEA_PEERS_MAX];
    int peer_count;
    int memory; /* the file that peers share, and its mapping */
    char *mapping;
    fovea_ceilings ceilings;
    const char *tier;              /* the best one */
    fovea_cuda_device device;      /* facts, where arms on one take part */
    fovea_context *device_context; /* for what the library would choose there */
    double launch_seconds;         /* of an empty kernel, launched plainly, in a graph of many */
    double
        programmatic_launch_seconds; /* of one brought in while the one before it ends, as ours are */
    double lone_launch_seconds;      /* of a plain one between two events, as after a flush */
    double enqueue_seconds;          /* what launching one takes the host */
    char no_nvml[FOVEA_PEER_REASON]; /* why clocks and power are unknown */
    fovea_bench_case *cases;
    int case_count;
    json_t *environment;
    json_t *warnings; /* part of it */
    uint64_t random;
    double whole_bytes; /* what moves more is verified by slices, where the kernel allows it */
    bool interrupted;
} fovea_bench_run;

/* Suites (bench_suites.c) */
typedef enum fovea_bench_view {
    FOVEA_VIEW_ARMS,      /* a table a case, a line an arm */
    FOVEA_VIEW_ACCURACY,  /* the same, and a table of differences from the reference */
    FOVEA_VIEW_ATTENTION, /* a line a case, with tokens/s and speed-ups */
    FOVEA_VIEW_KERNELS,   /* a line a case, by kernel */
    FOVEA_VIEW_ROUTING,   /* the regrets of the library's choices, as a distribution */
    FOVEA_VIEW_CALLS,     /* what calls that compute next to nothing take, as a distribution */
    FOVEA_VIEW_BLOCKS     /* a line a case: the block plan of the formula and the best one */
} fovea_bench_view;
fovea_bench_view fovea_suite_view(const char *suite);
double fovea_suite_seconds(const char *suite);
/* The cases of the suite of calls end so. */
#define FOVEA_CALL_OF_ONES "-ones"
#define FOVEA_CALL_AT_ONE "-n1"
/* Arms that a suite adds: the best implementation that serves its cases with these options. */
typedef struct fovea_suite_arm {
    const char *name, *options; /* "int8-bf16", "algorithm=sage,pv=bf16" */
} fovea_suite_arm;
enum { FOVEA_SUITE_ARMS_MAX = 6 };
int fovea_suite_arms(const char *suite, const fovea_suite_arm **arms);
void fovea_suites_print(FILE *file);
/* Appends the cases of the suites named (commas, or "all") that match the filter. */
bool fovea_suites_expand(fovea_bench_run *run, fovea_message *message);

/* The environment (bench_environment.c) */
void fovea_environment_describe(fovea_bench_run *run);
/* Keeps this thread, and all that it starts from then on, on as many processors as the run has threads: our arms, the
 * ceilings and peers on the same ones, since one processor may be slower than another for minutes. */
void fovea_environment_confine(fovea_bench_run *run);
void fovea_environment_leave_confinement(void);      /* this thread, which measures nothing */
void fovea_environment_finish(fovea_bench_run *run); /* load, steal and others' use over the run */
void fovea_monitor_take(const fovea_bench_run *run, fovea_monitor *monitor);
void fovea_bench_warn(fovea_bench_run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Whether the name of an arm has one of the comma-separated patterns in it. */
bool fovea_arm_chosen(const char *patterns, const char *name);

static inline bool fovea_bench_on(const fovea_bench_run *run, fovea_place place) {
    return run->options.places >> place & 1;
}
static inline bool fovea_bench_on_both(const fovea_bench_run *run) {
    return fovea_bench_on(run, FOVEA_ON_CPU) && fovea_bench_on(run, FOVEA_ON_CUDA);
}

/* The device of a run (bench_device.c): opens and describes it, measures its ceilings, lets it go. */
fovea_status fovea_bench_open_device(fovea_bench_run *run, fovea_message *message);
void fovea_bench_measure_device(fovea_bench_run *run);
/* What its bytes take at the least where calls are cold, for a case whose sets are made. */
void fovea_bench_measure_at_size(fovea_bench_run *run, fovea_bench_case *c);
void fovea_bench_close_device(fovea_bench_run *run);

/* Peers of a run (bench_peers.c) */
void fovea_bench_start_peers(fovea_bench_run *run);
void fovea_bench_end_peers(fovea_bench_run *run);
/* Between cases: starts those anew that keep much memory. */
void fovea_bench_relieve_peers(fovea_bench_run *run);
/* Measures a case within about so many seconds. progress is called now and then. */
void fovea_bench_measure(fovea_bench_run *run, fovea_bench_case *c, double seconds,
                         void (*progress)(const fovea_bench_run *run, const fovea_bench_case *c,
                                          const char *arm));
/* Releases what measuring gave to a case. */
void fovea_bench_forget(fovea_bench_case *c);

/* Output (bench_table*.c, bench_json.c) */
void fovea_bench_print_head(const fovea_bench_run *run);
void fovea_bench_print_suite(const fovea_bench_run *run, const char *suite);
void fovea_bench_print_foot(const fovea_bench_run *run);
/* Text of any origin, such as a path or a sentence that was cut within a character: bytes that are not UTF-8
 * become question marks. NULL: no memory. */
json_t *fovea_json_text(const char *text);
json_t *fovea_bench_to_json(const fovea_bench_run *run);
/* Writes atomically; false with a sentence. */
bool fovea_bench_write_json(const fovea_bench_run *run, const char *path, fovea_message *message);

/* What a row is measured by: the ceiling of its case, or, where that is arithmetic and the row is one
 * of tiles, their peak. NULL: not measured. */
const fovea_ceiling *fovea_bench_ceiling(const fovea_bench_run *run, const fovea_bench_case *c,
                                         const fovea_bench_row *row);
/* The share of what copying or reading as many bytes reached, cold as the row is; 0: not measured. */
double fovea_share_at_size(const fovea_bench_case *c, const fovea_bench_row *row);
/* Shares of the ceilings as they are known now; also flags what is above one. */
void fovea_bench_update_shares(fovea_bench_run *run);
/* The noise floor: a ratio of medians that equal work reaches in nine of ten cases. */
typedef struct fovea_noise {
    double ratio; /* at least 1; NaN: not measured */
    int pairs;
    const fovea_bench_case *worst;
    double worst_ratio;
} fovea_noise;
fovea_noise fovea_bench_noise(const fovea_bench_run *run);
/* Rows of a case for comparison; NULL if there is none that is verified and measured. */
const fovea_bench_row *fovea_best_row(const fovea_bench_case *c, fovea_place place, bool peer);
/* The fastest peer where the row computes; hot: by what was measured in that state. */
const fovea_bench_row *fovea_best_peer(const fovea_bench_case *c, const fovea_bench_row *row,
                                       bool hot);
const fovea_bench_row *fovea_find_row(const fovea_bench_case *c, fovea_place place,
                                      const char *part_of_name);
const fovea_bench_row *fovea_routed_row(const fovea_bench_case *c, fovea_place place);
/* By how much the plan of the formula is slower than the best of a sweep, as a share; NaN: unknown. */
double fovea_block_regret(const fovea_bench_case *c);
/* By how much the library's choice is slower than the best of ours, as a share; NaN: unknown. */
double fovea_route_regret(const fovea_bench_case *c, fovea_place place);
int fovea_wrong_rows(const fovea_bench_run *run); /* ours that failed verification */

#endif
