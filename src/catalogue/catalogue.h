/* The catalogue: one row says everything about a kernel that is not its code. The typed C
 * functions, argument checks, check cases, benchmark sizes, counts, bounds, route keys and the
 * manual all come from here. A domain is one file of rows; CONTRIBUTING.md walks through a row. */
#ifndef FOVEA_CATALOGUE_CATALOGUE_H
#define FOVEA_CATALOGUE_CATALOGUE_H

#include "runtime/view.h"

enum { FOVEA_ARGUMENTS_MAX = 20, FOVEA_PARAMETERS_MAX = 20, FOVEA_LETTERS_MAX = 12 };

typedef struct fovea_problem fovea_problem;
typedef struct fovea_case fovea_case;

/* In the set of an argument's dtypes: that of the call; that of its parts, where it is complex; the
 * complex one of which it is the part; that of the call if it is a float, else f64. The last three stand
 * alone. */
#define FOVEA_CALL (1u << 31)
#define FOVEA_PART_OF_CALL (1u << 30)
#define FOVEA_COMPLEX_OF_CALL (1u << 29)
#define FOVEA_CALL_OR_F64 (1u << 28)

/* Functions that a row names. The generator of the public header has rows without their code. */
#ifdef FOVEA_GENERATOR
    #define FOVEA_HOOK(function) NULL
#else
    #define FOVEA_HOOK(function) function
#endif

typedef enum fovea_role { FOVEA_INPUT, FOVEA_OUTPUT, FOVEA_IN_PLACE } fovea_role;

/* What benchmark and check inputs of an argument are drawn from (docs/rules.md, 9 and 11). */
typedef enum fovea_fill {
    FOVEA_FILL_NORMAL,    /* standard normal */
    FOVEA_FILL_MAGNITUDE, /* absolute values of normals */
    FOVEA_FILL_SQUARE,    /* squares of the normals in the argument before */
    FOVEA_FILL_UNIFORM,   /* between low and high */
    FOVEA_FILL_BINARY,    /* 1 if a uniform is below 0.5, else 0 */
    FOVEA_FILL_ONES,
    FOVEA_FILL_ZEROS,
    FOVEA_FILL_SHARES, /* uniforms in [0, 1), each row of the last axis scaled to the sum 1 */
    FOVEA_FILL_BY_ROW  /* the row's fill function */
} fovea_fill;

/* How the reference gives an output, and how it is compared. As bits: the bytes of each element, with
 * zeros above them, stand in the place of its double and must be met one and all. Movements of data
 * are said so, and integers that a double does not hold. */
typedef enum fovea_given_as {
    FOVEA_AS_NUMBERS,
    FOVEA_AS_BITS,
    FOVEA_INTEGERS_AS_BITS /* where the dtype is one of 32 or 64 bits; floats as numbers */
} fovea_given_as;

typedef struct fovea_argument {
    const char *name;
    /* Letters joined by commas: "R..., C" is any number of leading extents, whose product is R,
     * then C. The group may stand anywhere: "B, C, T...". The same letter is the same extent in
     * every argument, and a group the same extents. "N...-axis" is the group without the dimension
     * that the parameter `axis` names, a scalar if it names none. "R+1" is one more than R. "M,
     * K^transpose" is [K, M] where that flag is set. "" is a scalar. In parentheses it is for the
     * manual only: the row's check and case_shape know the shape. So it is in rows with a shape
     * function. */
    const char *shape;
    uint32_t dtypes; /* what it may have, FOVEA_CALL among them; 0: FOVEA_CALL alone */
    fovea_role role;
    bool optional;    /* a field of the options struct rather than a positional argument */
    fovea_fill fill;  /* normals of an integer dtype of 32 or 64 bits are random words, */
    double low, high; /* modulo high if that is not 0 */
    fovea_given_as given_as;
    const char *meaning;
    bool varied; /* checks draw it like a normal argument, whatever its fill */
} fovea_argument;

/* The dtypes that an argument may have in a call of dtype `call`. */
static inline uint32_t fovea_argument_dtypes(const fovea_argument *argument, fovea_dtype call) {
    uint32_t set = argument->dtypes ? argument->dtypes : FOVEA_CALL;
    if (set == FOVEA_PART_OF_CALL) return 1u << fovea_dtype_of_part(call);
    if (set == FOVEA_COMPLEX_OF_CALL) return 1u << fovea_dtype_complex(call);
    if (set == FOVEA_CALL_OR_F64) return 1u << (fovea_dtype_is_float(call) ? call : FOVEA_F64);
    return set & FOVEA_CALL ? (set & ~FOVEA_CALL) | 1u << call : set;
}

typedef enum fovea_parameter_kind {
    FOVEA_REAL,    /* double */
    FOVEA_INTEGER, /* int64_t */
    FOVEA_CHOICE,  /* int, one of the listed names; generates an enum */
    FOVEA_FLAG     /* bool */
} fovea_parameter_kind;

typedef struct fovea_parameter {
    const char *name;
    fovea_parameter_kind kind;
    double standard; /* the default; NaN: derived, as `meaning` says; ALL_AXES for an axis */
    const char *choices;
    const char *meaning;
} fovea_parameter;

/* The default of `axis`: reduce over all of them. */
#define FOVEA_ALL_AXES_VALUE ((double)INT32_MIN)

/* The dtypes of most domains. */
#define FOVEA_FLOATS (1u << FOVEA_F32 | 1u << FOVEA_F16 | 1u << FOVEA_BF16)

/* What a difference from the reference may be. Bounds are total absolute errors and include the
 * rounding of the output. */
typedef void fovea_bound_function(const fovea_problem *problem, int output, const double *expected,
                                  double *bound);

/* Where the reference's values are not what a result is judged by: the error of each element, such as
 * what is left of an equation, and what it may be. */
typedef void fovea_residual_function(const fovea_problem *problem, int output,
                                     const fovea_view *actual, const double *expected,
                                     double *error, double *bound);

/* A numbered entry of the catalogue that is another kernel with some parameters fixed. It gets a C
 * function and a benchmark case of its own. */
typedef struct fovea_preset {
    int number;
    const char *name;
    const char *fixed; /* "algorithm=flash" or "" */
    const char *bench; /* as in the row; "dtype=f16" may stand in it */
    const char *meaning;
} fovea_preset;
enum { FOVEA_PRESETS_MAX = 5 };

/* What decides, besides dtype and threads, which implementation is fastest. A measurement applies
 * to problems with the same features, first of all to those of the same sizes. */
enum { FOVEA_TRAIT_SIZES = 6 };
typedef struct fovea_traits {
    uint32_t features;
    int64_t sizes[FOVEA_TRAIT_SIZES];
    uint8_t steps[FOVEA_TRAIT_SIZES]; /* quarter octaves that count as one size: 1, 2 or 4 */
} fovea_traits;

/* In check_values: of generators any 64 bits, of rotations positions before and far beyond the rows'. */
#define FOVEA_CHECK_KEYS "seed=1 1281023893995520 -1;stream=1 1281023893995520 -1"
#define FOVEA_CHECK_OFFSETS "offset=7 -3 1000000"

/* Of operations without a formula. */
#define FOVEA_COUNTED_BY_STEP "of a step of the definition, times its steps"

typedef struct fovea_kernel {
    int number; /* its place in the catalogue, and the seed of its inputs; 0 for what was added */
    const char *name;
    const char *domain;
    const char *definition; /* one line of mathematics */
    const char *source;     /* where the definition comes from */
    const char *remarks;    /* for the manual; may be NULL */
    uint32_t dtypes;
    fovea_argument arguments[FOVEA_ARGUMENTS_MAX]; /* ends at the first without a name */
    fovea_parameter parameters[FOVEA_PARAMETERS_MAX];
    /* Formulas over the letters, s, the size of the dtype of the call in bytes, and names of
     * arguments, the size of theirs (0: not given). */
    const char *operations; /* NULL: count_operations counts them, FOVEA_COUNTED_BY_STEP is said */
    const char *bytes;
    /* The letter that follows from others and from parameters: "M=floor(N/2)+1". A negative one is an
     * error. NULL: none. */
    const char *derived;
    /* What check draws for letters, where the usual extents do not suit, and for integer parameters beside
     * their defaults, which they keep otherwise: "N=1 2 4 8;K=1 3;steps=10 2". */
    const char *check_values;
    const char *bench; /* extents of the benchmark case: "R=N/1024,C=1024"; N is given */
    /* Cases that routes are measured at, split by ";", for each dtype. NULL: `bench` at several N,
     * with every choice, row length and axis. */
    const char *tune;
    fovea_preset presets[FOVEA_PRESETS_MAX];
    bool elementwise;  /* outputs may be exactly an input tensor */
    bool of_something; /* reducing no elements is an error */
    bool exact_sums;   /* of -1, 0 and 1, however they are added (docs/rules.md, 10) */
    const char *bound_text;
    fovea_bound_function *bound; /* NULL: exact */
    double bound_factor;
    fovea_residual_function
        *residual; /* in place of comparing with the reference; `bound` is set too */
    /* Transforms: besides, what norm2 of the error of each row along the last axis of an output may be,
     * from the values that are expected of it. A row in which the reference is not finite is free, but
     * may not be finite throughout either. */
    double (*norm_bound)(const fovea_problem *problem, int64_t row, const double *expected,
                         int64_t count);

    /* Where it depends on the data: how many elements of an output, in row-major order, are written;
     * the others keep what they hold. outputs: of the reference, by argument. */
    int64_t (*written)(int output, double *const outputs[]);
    /* Where several results are right: brings outputs, given as bits, into the one of them that they are
     * compared in. views, values: by argument, NULL where it is not an output or not given. */
    void (*canonical)(const fovea_view *const views[], double *const values[]);

    /* Rows whose shapes depend on options. letters: their extents, in order. */
    const char *letters;
    fovea_status (*shape)(fovea_problem *problem, fovea_message *message);
    /* Checks what shapes cannot say: parameter values, dtypes together. May be NULL. Calls that repeat are
     * checked again only where it looks at contents. */
    fovea_status (*check)(const fovea_problem *problem, fovea_message *message);
    bool checks_contents;
    /* Shapes and memory order of an argument in a case, of rows with a shape function or shapes in
     * parentheses; content of FOVEA_FILL_BY_ROW arguments. */
    void (*case_shape)(const fovea_case *c, int argument, int *rank, int64_t *shape);
    void (*case_fill)(const fovea_case *c, int argument, const fovea_view *view);
    /* Extents not given (value -1), and what must agree in a case: arguments that go together,
     * extents that divide. Also applied to the cases that checks draw. */
    void (*case_defaults)(fovea_case *c);
    /* Overrides `operations`, where a formula cannot say it (masked pairs). */
    double (*count_operations)(const fovea_problem *problem);
    double (*count_bytes)(const fovea_problem *problem);
    /* What the router keys measurements by, where bytes, row length, strides, choices and dtypes do
     * not say it; the names of the sizes, then of the feature bits from the lowest. */
    void (*traits)(const fovea_problem *problem, fovea_traits *traits);
    const char *trait_sizes, *trait_features;
} fovea_kernel;

/* All rows in a fixed order; the index is what the library counts kernels by. */
int fovea_catalogue_count(void);
const fovea_kernel *fovea_catalogue_kernel(int index);
int fovea_catalogue_find(const char *name); /* -1 if there is none */

int fovea_kernel_arguments(const fovea_kernel *kernel); /* how many */
int fovea_kernel_parameters(const fovea_kernel *kernel);
int fovea_kernel_argument(const fovea_kernel *kernel, const char *name); /* -1 if there is none */
int fovea_kernel_parameter(const fovea_kernel *kernel, const char *name);
int fovea_kernel_letter(int index, const char *letter);      /* -1 if there is none */
const char *fovea_kernel_letter_name(int index, int letter); /* NULL past the last */

int fovea_kernel_axis(int index);    /* the parameter `axis`, -1 if there is none */
int fovea_kernel_derived(int index); /* the letter, -1 if there is none */
const char *fovea_derived_formula(const fovea_kernel *kernel);

/* The shape text of an argument, taken apart once. */
typedef struct fovea_shape {
    int group; /* letter of the group, or -1 */
    bool without_axis;
    bool by_row;       /* in parentheses */
    int count, before; /* letters beside the group; those of them that stand before it */
    int letters[FOVEA_RANK_MAX];
    int more[FOVEA_RANK_MAX]; /* what is added to the letter's extent */
    int swap;                 /* the flag that swaps the last two, a parameter's index; or -1 */
} fovea_shape;
/* The dimension of a letter beside a group of so many. */
static inline int fovea_shape_dimension(const fovea_shape *shape, int letter, int group_rank) {
    return letter < shape->before ? letter : group_rank + letter;
}
const fovea_shape *fovea_kernel_shape(int index, int argument);
/* Which of `shape`'s letters stands at dimension i after the group. */
static inline int fovea_shape_letter(const fovea_shape *shape, int i, bool swapped) {
    return swapped && i >= shape->count - 2 ? 2 * shape->count - 3 - i : i;
}

/* Where the fields of a kernel's options struct are. Generated. */
typedef struct fovea_options_layout {
    size_t size;
    void (*defaults)(void *options);
    uint16_t parameter[FOVEA_PARAMETERS_MAX];
    uint16_t argument[FOVEA_ARGUMENTS_MAX]; /* of optional arguments */
    uint16_t parameters_end;                /* size and parameters stand before, tensors after */
} fovea_options_layout;
extern const fovea_options_layout fovea_options_layouts[];
enum { FOVEA_OPTIONS_SIZE_MAX = 512 };

/* Evaluates a formula: + - * / ( ) max(,) floor() log2() power2(), which is the next power of two,
 * numbers, and names through the callback, which returns NaN for unknown ones. NaN if the text is
 * malformed. */
double fovea_evaluate(const char *formula, double (*lookup)(const char *name, const void *user),
                      const void *user);

#endif
