/* Cases: a kernel at given extents, parameters, dtype, memory layout and data, and the building of
 * real tensors for one. `fovea check`, `bench`, `tune`, `route` and the fuzzers share them. */
#ifndef FOVEA_CATALOGUE_CASE_H
#define FOVEA_CATALOGUE_CASE_H

#include "catalogue/problem.h"

typedef enum fovea_layout {
    FOVEA_CONTIGUOUS,
    FOVEA_PADDED,     /* a gap after each innermost row */
    FOVEA_STEPPED,    /* every second element of the innermost dimension */
    FOVEA_TRANSPOSED, /* the last two dimensions swapped in memory */
    FOVEA_REVERSED,   /* a negative stride in the first dimension */
    FOVEA_OUTER,      /* the first two dimensions swapped in memory (bshd data in a bhsd view) */
    FOVEA_TURNED,     /* all dimensions in the opposite order in memory */
    FOVEA_MIXED,      /* another one of these for each tensor, by its number and the seed */
    FOVEA_LAYOUT_COUNT
} fovea_layout;

/* Distributions of docs/rules.md, 11; ROW keeps what the row says of each argument. */
typedef enum fovea_distribution {
    FOVEA_DATA_ROW,
    FOVEA_DATA_OFFSET,     /* normal + 100 */
    FOVEA_DATA_FAR_OFFSET, /* 1e4 + normal */
    FOVEA_DATA_SMALL,      /* 1e-3 normal */
    FOVEA_DATA_STEP,       /* the first 64 1000 + normal, the rest normal: no sample of the whole */
    FOVEA_DATA_MASKED,     /* the first half -inf, the rest normal */
    FOVEA_DATA_CONSTANT,   /* 0.1 */
    FOVEA_DATA_ZEROS,      /* of both signs */
    FOVEA_DATA_IMPULSE,    /* one element 1, the rest 0; the seed places it */
    FOVEA_DATA_INTEGERS,   /* -1, 0, 1 */
    FOVEA_DATA_EXTREMES,   /* among normals: largest, smallest, subnormal values, zeros */
    FOVEA_DATA_NONFINITE,  /* among normals: NaN and infinities */
    FOVEA_DATA_COUNT,
    FOVEA_DATA_NONE /* memory as it was allocated, for a problem that is only looked at */
} fovea_distribution;

struct fovea_case {
    int index; /* of the kernel */
    fovea_dtype dtype;
    int64_t extents[FOVEA_LETTERS_MAX]; /* by letter; -1: not given */
    int group_rank;                     /* how the group splits: 1 is one dimension of its extent */
    int64_t group[FOVEA_RANK_MAX];      /* its extents if group_rank is not 1 */
    double parameters[FOVEA_PARAMETERS_MAX];
    uint32_t optional;                    /* bit a: optional argument a is given */
    uint32_t dtypes[FOVEA_ARGUMENTS_MAX]; /* 1 + dtype of arguments with a choice; 0: the first */
    fovea_layout layout;
    fovea_distribution data;
    uint64_t seed;
    int64_t fresh; /* numbers of a dense tensor that are drawn before they repeat; 0: 2^24 */
};

const char *fovea_layout_name(fovea_layout layout);
const char *fovea_distribution_name(fovea_distribution data);

/* Defaults everywhere, extents not given, dtype the first of the row, seed the kernel's number. */
void fovea_case_begin(fovea_case *c, int kernel);
/* Takes "b=1,hq=8,causal=top_left,dtype=f16,..." : letters in any case, parameters (choices by name
 * or number), dtype, optional arguments as "mask=1", layout of memory as "memory=padded", "data=",
 * "seed=". Formulas are allowed for letters where N is given. */
fovea_status fovea_case_parse(fovea_case *c, const char *text, double n, fovea_message *message);
/* Completes extents by the row's rules; an error names the letters that are missing. */
fovea_status fovea_case_complete(fovea_case *c, fovea_message *message);
double fovea_case_parameter(const fovea_case *c, const char *name);
void fovea_case_set(fovea_case *c, const char *parameter, double value);
void fovea_case_extent(fovea_case *c, const char *letter, int64_t extent);
bool fovea_case_give(fovea_case *c, const char *argument); /* an optional argument, by name */
/* The case in words that fovea_case_parse takes; only what is not default. */
const char *fovea_case_text(const fovea_case *c, char *text, size_t size);

/* Where the memory of a sample comes from; NULL: the heap. Check puts guard pages around it. */
typedef struct fovea_case_memory {
    void *(*allocate)(void *user, size_t bytes, int argument);
    void (*release)(void *user, void *memory, size_t bytes, int argument);
    void *user;
} fovea_case_memory;

/* The tensors of a case, filled; outputs are poisoned with 0xA5 bytes. */
typedef struct fovea_sample {
    const fovea_case *c;
    fovea_case_memory memory;
    DLTensor tensors[FOVEA_ARGUMENTS_MAX];
    int64_t shapes[FOVEA_ARGUMENTS_MAX][FOVEA_RANK_MAX];
    int64_t strides[FOVEA_ARGUMENTS_MAX][FOVEA_RANK_MAX];
    void *storage[FOVEA_ARGUMENTS_MAX];
    void *first[FOVEA_ARGUMENTS_MAX]; /* content of in-place tensors before the first call */
    size_t bytes[FOVEA_ARGUMENTS_MAX];
    uint32_t present;
    DLTensor *required[FOVEA_ARGUMENTS_MAX]; /* the positional arguments, for fovea_call */
    size_t count;
    _Alignas(16) char options[FOVEA_OPTIONS_SIZE_MAX];
    _Alignas(16) char problem_options[FOVEA_OPTIONS_SIZE_MAX];
    fovea_problem problem; /* the checked problem over these tensors */
} fovea_sample;

fovea_status fovea_sample_create(const fovea_case *c, const fovea_case_memory *memory,
                                 fovea_sample *sample, fovea_message *message);
/* The same numbers in memory of its own, without drawing them again. */
fovea_status fovea_sample_copy(const fovea_sample *from, const fovea_case_memory *memory,
                               fovea_sample *sample, fovea_message *message);
/* Poisons the outputs again and gives in-place tensors their first content. */
void fovea_sample_restore(fovea_sample *sample);
void fovea_sample_destroy(fovea_sample *sample);

/* Elements 4 group to 4 group + 3 of what an argument is drawn from: normals, or the words beneath. */
void fovea_case_draw(const fovea_case *c, int argument, int64_t group, double normals[4]);
void fovea_case_words(const fovea_case *c, int argument, int64_t group, uint32_t words[4]);

/* Philox4x32-10: one block of four words. */
void fovea_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t words[4]);

#endif
