/* The cases of `fovea check`: those of the catalogue, and what only check does to them. */
#ifndef FOVEA_TOOLS_CHECK_CASE_H
#define FOVEA_TOOLS_CHECK_CASE_H

#include "catalogue/case.h"

typedef enum fovea_variant {
    FOVEA_VARIANT_PLAIN,
    FOVEA_VARIANT_ALIAS,  /* the output of an elementwise kernel is its first input */
    FOVEA_VARIANT_EXPAND, /* inputs have stride 0 in their first dimension */
    FOVEA_VARIANT_COUNT
} fovea_variant;

/* What is put into the inputs of attention. */
typedef enum fovea_touch {
    FOVEA_TOUCH_NONE,
    FOVEA_TOUCH_Q,        /* NaN in one query row, an infinity in another */
    FOVEA_TOUCH_K,        /* the same in key rows */
    FOVEA_TOUCH_V,        /* in value rows */
    FOVEA_TOUCH_BIAS,     /* -inf in many places, and in whole rows */
    FOVEA_TOUCH_MASK,     /* whole rows that may attend nothing */
    FOVEA_TOUCH_BEYOND,   /* NaN in every key and value row that no sequence has */
    FOVEA_TOUCH_CHANNELS, /* every fourth element of a key lies far off 0, the same way in all keys */
    FOVEA_TOUCH_OUTLIERS, /* in every eighth key one element is 2^24 times greater, and smaller in q */
    FOVEA_TOUCH_COUNT
} fovea_touch;

typedef struct fovea_check_case {
    fovea_case c;
    fovea_variant variant;
    fovea_touch touch;
} fovea_check_case;

typedef enum fovea_effort { FOVEA_QUICK, FOVEA_NORMAL, FOVEA_THOROUGH } fovea_effort;

typedef struct fovea_check_cases {
    fovea_check_case *list;
    int count, capacity;
} fovea_check_cases;

/* The cases of a kernel, the same for the same seed; more of them for a device. False if memory is short. */
bool fovea_check_cases_create(int kernel, fovea_effort effort, uint64_t seed, bool device,
                              fovea_check_cases *cases);
void fovea_check_cases_destroy(fovea_check_cases *cases);

/* The case in words that fovea_check_case_parse takes: what fovea_case_parse takes, and
 * "split=3x11" (the extents of the group), "variant=", "touch=" and "sample=" (the seed of the data
 * where `seed` is a parameter of the kernel). */
const char *fovea_check_case_text(const fovea_check_case *check, char *text, size_t size);
fovea_status fovea_check_case_parse(fovea_check_case *check, int kernel, const char *text,
                                    fovea_message *message);

/* Floating-point operations of the case, roughly. */
double fovea_check_case_work(const fovea_check_case *check);

#endif
